"""Whether DALI decodes while the ops of the batch before run, and what memory it takes while it decodes.

    python benchmarks/decoding.py [VIDEOS] [--batches N] [--rounds N] [--memory] [--json FILE]

VIDEOS is a folder of files that DALI decodes: without a GPU VP8, VP9 and MJPEG; default: VP9 that is made. An op stands
in for slow ones: it waits for as long as a batch takes to be decoded. Checks first that the batches are the same with
it. Then times in turn, for several rounds, a loader without the op and one with it: if nothing waited, both would take
equally long; if decoding and ops took turns, the second would take twice as long.

With --memory, 32 clips of 1920x1080 are decoded in a new process for each row: all at once, and as many at once as the
loader decides. The table has the largest number of them at once, what the estimate allows, and how far the memory of
the process, and on a GPU the memory in use there, rises above what it was after a batch of one small clip.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from usage import endless, machine

import dali_vidaug as dv
from dali_vidaug.commands.checks.device import used_memory
from dali_vidaug.decode_graph import DecodeGraph
from dali_vidaug.device.decode_memory import memory_for_decoding
from dali_vidaug.media.encode import write_video

VP9 = dict(codec="libvpx-vp9", options={"g": "16", "deadline": "realtime", "cpu-used": "8"})


@dataclass(frozen=True)
class Wait:
    """An op that takes its time and leaves clips as they are."""

    seconds: float

    def draw(self, draws, frames, height, width):
        return None

    def run(self, clips, rows, num_threads):
        time.sleep(self.seconds)
        return clips


def write_videos(folder, count, height, width):
    """Videos in which a pattern moves."""
    rng = np.random.default_rng(0)
    for i in range(count):
        picture = rng.integers(0, 256, (height // 8, width // 8 + 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        write_video(folder / f"{i}.webm", [picture[:, 2 * t : 2 * t + width] for t in range(32)], **VP9)


def make_loader(manifest, options, wait=None, **more):
    ops = (dv.RandomResizedCrop(options.size), *((Wait(wait),) if wait is not None else ()))
    recipe = dv.Recipe(dv.ClipSampling(options.frames), (*ops, dv.RandomHorizontalFlip(), dv.Normalize()))
    more = {"batch_size": options.batch_size, "verify": None, **more}
    return dv.VideoLoader(
        manifest, recipe, decoder="hybrid", device=options.device, num_threads=options.num_threads, drop_last=False,
        **more,
    )  # fmt: skip


def check(manifest, options):
    """The op changes nothing."""
    with make_loader(manifest, options) as plain, make_loader(manifest, options, 0.0) as waiting:
        for one, other in zip(islice(endless(plain), 4), islice(endless(waiting), 4), strict=True):
            assert torch.equal(one.clips, other.clips) and (one.samples == other.samples).all()
        assert not plain.report().fallbacks, plain.report().fallbacks


def seconds_a_batch(manifest, options, wait=None):
    """After two first batches."""
    with make_loader(manifest, options, wait, prefetch=1) as loader:
        batches = islice(endless(loader), options.batches + 2)
        next(batches), next(batches)
        started = time.perf_counter()
        for _ in batches:
            pass
        if options.device != "cpu" and torch.cuda.is_available():
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / options.batches


def measure_overlap(manifest, options):
    """For each round how much longer batches take with an op that takes as long as their decoding: 1.0 to 2.0."""
    check(manifest, options)
    ratios = []
    for _ in range(options.rounds):
        alone = seconds_a_batch(manifest, options)
        ratios.append(seconds_a_batch(manifest, options, alone) / alone)
    print(
        f"with ops that take as long as decoding, batches take {statistics.median(ratios):.2f} times as long "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds); in turns it would be 2"
    )
    return ratios


def run_memory(options):
    """In a process of its own: (clips at once at most, rise of the memory in bytes)."""
    sizes, start, rise = [], DecodeGraph.start, 0
    large, small = (dv.scan(options.videos / name, progress=False) for name in ("large", "small"))
    with make_loader(small, options, batch_size=1) as loader:
        next(iter(loader))
    key = "GPU" if "GPU" in used_memory(options.device) else "host"
    before, stop = used_memory(options.device)[key], threading.Event()

    def watch():
        nonlocal rise
        while not stop.wait(0.01):
            rise = max(rise, used_memory(options.device)[key] - before)

    def count(graph, plan, clips, files, checked):
        sizes.append(len(files))
        start(graph, plan, clips, files, checked)

    DecodeGraph.start = count
    watching = threading.Thread(target=watch)
    watching.start()
    with make_loader(large, options, batch_size=32, decode_batch=options.decode_batch, prefetch=1) as loader:
        next(iter(loader))
        allowed = memory_for_decoding(loader.settings.device_id, loader.settings.num_threads)
    stop.set()
    watching.join()
    print(json.dumps([max(sizes), rise, allowed]))


def measure_memory(options):
    """Rows of the table: what was asked for, clips at once, estimate, rise."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, count, size in (("large", 32, (1080, 1920)), ("small", 1, (48, 64))):
            (Path(folder) / name).mkdir()
            write_videos(Path(folder) / name, min(count, 4), *size)
            for i in range(4, count):
                (Path(folder) / name / f"{i}.webm").symlink_to(f"{i % 4}.webm")
        print("| decode_batch | clips at once | meant for decoding, MiB | memory rises by, MiB |\n|---|---|---|---|")
        for decode_batch in (32, None):
            command = [sys.executable, __file__, folder, "--run-memory", "--device", options.device]
            command += ["--num-threads", str(options.num_threads)] if options.num_threads else []
            command += ["--decode-batch", str(decode_batch)] if decode_batch else []
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            at_once, rise, allowed = json.loads(done.stdout.splitlines()[-1])
            rows.append({"decode_batch": decode_batch, "at_once": at_once, "allowed": allowed, "rise": rise})
            meant = "-" if decode_batch else f"{allowed / 2**20:.0f}"
            print(f"| {decode_batch} | {at_once} | {meant} | {rise / 2**20:.0f} |")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("videos", type=Path, nargs="?")
    parser.add_argument("--batches", type=int, default=12, help="timed in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--num-threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run-memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--decode-batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run_memory:
        return run_memory(options)
    results = machine()
    if options.memory:
        results["memory"] = measure_memory(options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            if options.videos is None:
                write_videos(Path(folder), 8, 256, 344)
            results["overlap"] = measure_overlap(dv.scan(options.videos or folder, progress=False), options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
