"""What a loader gains when the CPU decodes some of the clips that DALI could, at the same time: cpu_share.

    python benchmarks/cpu_share.py [VIDEOS] [--device cpu] [--batches N] [--rounds N] [--json FILE]

VIDEOS is a folder of files that DALI decodes: with NVDEC on a GPU; without one VP8, VP9 and MJPEG. Without VIDEOS,
eight of VP9 are made. On a CPU, DALI's decoder takes NVDEC's place: it gets one thread, and PyAV another.

Checks first that plans are the same for every share, and that each clip is, bit for bit, that of decoder="pyav" or that
of cpu_share=0. Then times, in turn for several rounds, a loader with cpu_share 0, 1 and "auto", which has chosen
before. The table has clips per second and how many times those of the faster one of 0 and 1 in the same round that is:
median, smallest and largest. Two decoders at once gain nothing where other programs use the cores. So three columns say
what to expect where they do not: how many cores this program got, and how many its threads could have used at the same
time, those that waited for one included; and the processor time, for a clip, of the thread that worked most.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from usage import endless, machine

import dali_vidaug as dv
from dali_vidaug.media.encode import write_video

SHARES = (0.0, 1.0, "auto")


def make_videos(folder, count=8, frames=120, height=256, width=340):
    """Videos of VP9: a coloured picture that moves, with noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(20, 236, (height // 8 + 1, (width + 2 * frames) // 8 + 1, 3)).astype(np.uint8)
        picture = coarse.repeat(8, 0).repeat(8, 1)
        shown = (
            picture[:height, 2 * i : 2 * i + width] // 8 * 7 + rng.integers(0, 32, (height, width, 1), np.uint8)
            for i in range(frames)
        )
        options = {"g": "32", "b": "600k", "deadline": "realtime", "cpu-used": "8"}
        write_video(folder / f"{number}.webm", shown, codec="libvpx-vp9", options=options)


def make_loader(manifest, options, **chosen):
    """A loader of clips that are decoded, scaled and flipped."""
    recipe = dv.Recipe(
        dv.ClipSampling(options.frames, stride=(1, 2)),
        (dv.RandomResizedCrop(options.size), dv.RandomHorizontalFlip(), dv.Normalize()),
    )
    chosen = {"decoder": "hybrid", "verify": None, **chosen}
    return dv.VideoLoader(
        manifest, recipe, options.batch_size, device=options.device, num_threads=options.num_threads, drop_last=False,
        prefetch=options.prefetch, **chosen,
    )  # fmt: skip


def check(manifest, options):
    """Plans do not depend on the share, nor do the clips of either decoder."""
    loaders = {
        name: make_loader(manifest, options, **chosen)
        for name, chosen in (
            ("pyav", {"decoder": "pyav"}), ("dali", {}), ("both", {"cpu_share": 0.4}), ("auto", {"cpu_share": "auto"}),
        )
    }  # fmt: skip
    taken = {name: list(islice(endless(loader), 6)) for name, loader in loaders.items()}
    for pyav, dali, *others in zip(*taken.values(), strict=True):
        for batch in others:
            assert (batch.plan.frames == dali.plan.frames).all() and torch.equal(batch.targets, dali.targets)
            assert all((batch.plan.args[n] == rows).all() for n, rows in dali.plan.args.items() if rows is not None)
            for clip, by_pyav, by_dali in zip(batch.clips, pyav.clips, dali.clips, strict=True):
                assert not torch.equal(by_pyav, by_dali), "clips of both decoders are the same: nothing is shown"
                assert torch.equal(clip, by_pyav) or torch.equal(clip, by_dali)
    for name in ("both", "auto"):
        report, seen = loaders[name].report(), taken[name]
        own = [torch.equal(a, b) for x, y in zip(seen, taken["pyav"], strict=True)
               for a, b in zip(x.clips, y.clips, strict=True)]  # fmt: skip
        assert 0 < sum(own) < len(own) and sum(own) <= report.by_share, name
    for loader in loaders.values():
        loader.close()


def thread_seconds():
    """For each thread of this process, by its number: seconds on a core, and with those of waiting for one."""
    seconds = {}
    for task in Path("/proc/self/task").iterdir():
        worked, waited = map(int, (task / "schedstat").read_text().split()[:2])
        seconds[task.name] = np.array([worked, worked + waited]) / 1e9
    return seconds


def settle():
    """Wait until the loaders have made all the batches that they make ahead."""
    before = -1.0
    while time.process_time() - before > 0.01:
        before = time.process_time()
        time.sleep(0.5)


def measure(batches, options):
    """The next batches of a loader that has made some ahead; the others must have come to rest.

    Returns:
        Clips per second; cores that worked; cores that were wanted; seconds of the thread that worked most, for a clip.
    """
    for _ in islice(batches, 2 * options.prefetch + 1):
        pass
    before, clips, threads = time.perf_counter(), 0, thread_seconds()
    for batch in islice(batches, options.batches):
        clips += len(batch)
    seconds = time.perf_counter() - before
    spent = np.array([value - threads.get(thread, 0.0) for thread, value in thread_seconds().items()])
    settle()
    return clips / seconds, *(spent.sum(0) / seconds).tolist(), spent[:, 0].max() / clips


def run(manifest, options):
    """The figures of all rounds, by share, and the share that "auto" chose."""
    check(manifest, options)
    loaders = {share: make_loader(manifest, options, cpu_share=share) for share in SHARES}
    batches = {share: endless(loader) for share, loader in loaders.items()}
    while loaders["auto"].report().cpu_share is None:
        next(batches["auto"])
    settle()
    rounds = [{share: measure(those, options) for share, those in batches.items()} for _ in range(options.rounds)]
    chosen = loaders["auto"].report().cpu_share
    for loader in loaders.values():
        loader.close()
    return {share: [measured[share] for measured in rounds] for share in SHARES}, chosen


def table(rounds, chosen):
    """Lines of the table."""
    faster = [max(zero[0], one[0]) for zero, one in zip(rounds[0.0], rounds[1.0], strict=True)]
    yield "| cpu_share | clips/s | compared with the faster of 0 and 1 | cores got | cores wanted | busiest thread |"
    yield "|---|---|---|---|---|---|"
    for share, measured in rounds.items():
        rates, got, wanted, busiest = zip(*measured, strict=True)
        ratios = sorted(rate / most for rate, most in zip(rates, faster, strict=True))
        yield (
            f"| {f'auto: {chosen:g}' if share == 'auto' else f'{share:g}'} | {statistics.median(rates):.1f} | "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {statistics.median(got):.2f} | "
            f"{statistics.median(wanted):.2f} | {1000 * statistics.median(busiest):.1f} ms a clip |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("videos", type=Path, nargs="?", help="a folder; default: eight of VP9 are made")
    parser.add_argument("--batches", type=int, default=10, help="timed in each round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--prefetch", type=int, default=2)
    parser.add_argument("--num-threads", type=int, default=1, help="of PyAV; and of DALI on the CPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.videos is None:
            make_videos(Path(folder))
        manifest = dv.scan(options.videos or folder, progress=False)
        rounds, chosen = run(manifest, options)
    for line in table(rounds, chosen) if options.rounds else ():
        print(line)
    if options.json:
        result = {**machine(), "chosen": chosen, "rounds": {str(share): r for share, r in rounds.items()}}
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
