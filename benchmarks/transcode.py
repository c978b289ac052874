"""The loader on transcoded videos, compared with torchcodec in a torch DataLoader on the originals.

    python benchmarks/transcode.py VIDEOS --environments FOLDER --output FOLDER [--recipe basic|full] [--json FILE]

VIDEOS has a sub-folder for each class. --output gets the transcoded videos (kept, and gone on with, as by
``dali-vidaug transcode``), --environments a virtual environment with torchcodec, by benchmarks/peers.txt.

Checks before it times: every file's labels, and every frame. Original and transcoded file are both decoded from their
first packet to their last by PyAV alone, without a seek; of each frame a grey picture of 64 x 64 is compared with those
of the original up to three frames before and after. The frame is in its place if the one with its number is the
nearest, or within half a level of the nearest (frames that cannot be told apart).

Then in turn in each round, each loader in a process or pool of its own, the same clips in the same order: crop, flip,
normalise ("full": also RandAugment, and CutMix or its like). Clips per second from the first batch on, and for each
second of processor time, which programs that share the cores disturb less.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np

import dali_vidaug as dv

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from peer_worker import rates  # noqa: E402
from peers import environment, our_speed, peer_speed, recipe_of, write_jobs  # noqa: E402

OURS = "dali_vidaug, transcoded"
PEERS = ("torchcodec exact", "torchcodec approximate", "torchcodec approximate, transforms")
SIDE, NEAR, SAME = 64, 3, 0.5


def grey_pictures(path):
    """(N, SIDE, SIDE) float32: every frame of a file, by a plain decode."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.thread_count, stream.thread_type = 1, "NONE"
        return np.stack([
            frame.reformat(SIDE, SIDE, "gray", interpolation="AREA").to_ndarray().astype(np.float32)
            for frame in container.decode(stream)
        ])  # fmt: skip


def check_file(paths):
    """(frames, those that are nearest to another and can be told from it, those nearest to their own alone)."""
    before, after = map(grey_pictures, paths)
    assert len(before) == len(after), f"{paths[1]} has {len(after)} frames, {paths[0]} has {len(before)}"
    wrong = told = 0
    for i, picture in enumerate(after):
        first = max(0, i - NEAR)
        errors = np.abs(before[first : i + NEAR + 1] - picture).mean((1, 2))
        own, others = errors[i - first], np.delete(errors, i - first)
        wrong += len(others) > 0 and bool(own > others.min() + SAME)
        told += len(others) == 0 or bool(own < others.min())
    return len(after), wrong, told


def check(before, after, workers):
    """Every row has the label, the frames and the segment of its source."""
    assert not after.broken and len(before) == len(after), f"{len(after.broken)} broken"
    for name in ("label", "first_frame", "last_frame", "num_frames", "fps"):
        assert before.table[name] == after.table[name], name
    files = sorted({(before.path(row), after.path(row)) for row in range(len(before))})
    with ThreadPoolExecutor(workers) as pool:
        counts = np.array(list(pool.map(check_file, files))).sum(0)
    print(f"checked: {len(before)} rows, {len(files)} files, {counts[0]} frames; {counts[1]} are another than that of "
          f"the original, {counts[2]} are nearest to their own alone, the others cannot be told from one beside it",
          flush=True)  # fmt: skip
    assert counts[1] == 0


def print_table(rates, what, recipe):
    """Medians with the range of the rounds, and ours on transcoded videos compared with each in the same round."""
    print(f"\n| {recipe} | {what}, median | rounds | transcoded is so many times as fast |\n|---|---|---|---|")
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(rates[OURS], values, strict=True)]
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} | "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")  # fmt: skip
    peers = [values for name, values in rates.items() if not name.startswith("dali_vidaug")]
    ratios = [a / max(others) for a, *others in zip(rates[OURS], *peers, strict=True)]
    print(f"\nCompared with the fastest torchcodec of each round: median {statistics.median(ratios):.2f}, "
          f"{min(ratios):.2f} to {max(ratios):.2f}")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder with a sub-folder for each class")
    parser.add_argument("--environments", type=Path, required=True, help="where the environment of torchcodec is kept")
    parser.add_argument("--output", type=Path, required=True, help="where the transcoded videos are kept")
    parser.add_argument("--preset", default="h264", help="of dv.transcode (h264)")
    parser.add_argument("--short-side", type=int, default=256, help="of dv.transcode (256)")
    parser.add_argument("--recipe", choices=("basic", "full"), default="full")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="for each loader in each round (5)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pip", default="", help="more arguments for pip, as one word")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    python = environment(options.environments.absolute(), "torchcodec", options.pip.split())
    originals = dv.scan(options.videos)
    small = dv.transcode(originals, options.output, preset=options.preset, short_side=options.short_side)
    sizes = [sum(manifest.table["bytes"].to_pylist()) for manifest in (originals, small)]
    print(f"{sizes[0] / 1e6:.1f} MB, transcoded {sizes[1] / 1e6:.1f} MB, ratio {sizes[1] / sizes[0]:.2f}")
    print(next(text for text in small.remarks if text.startswith("transcoded")))
    check(originals, small, options.workers)
    recipe = recipe_of(options.recipe)
    found: dict[str, list] = {}  # (clips per second, clips per second of processor time) of each round
    for number in range(options.rounds):
        for name, manifest in ((OURS, small), ("dali_vidaug, originals", originals)):
            both = our_speed(manifest, recipe, options.batch_size, options.workers, options.seconds, number, rates)
            found.setdefault(name, []).append(both)
        with tempfile.TemporaryDirectory() as scratch:
            spec = write_jobs(Path(scratch) / "jobs.json", originals, recipe, number, options)
            for peer in PEERS:
                both = peer_speed(python, peer, spec, options, "rates")
                assert both is not None, f"{peer} failed"
                found.setdefault(f"{peer}, originals", []).append(both)
        said = ", ".join(f"{name} {values[-1][0]:.1f} ({values[-1][1]:.1f})" for name, values in found.items())
        print(f"round {number + 1}: {said}", flush=True)
    for at, what in enumerate(("clips/s", "clips per second of processor time")):
        print_table({name: [both[at] for both in values] for name, values in found.items()}, what, options.recipe)
    if options.json:
        options.json.write_text(json.dumps({"bytes": sizes, "rates": found, "options": {**vars(options)}}, default=str))


if __name__ == "__main__":
    main()
