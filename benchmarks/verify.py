"""What it costs to compare DALI's clips with PyAV's, and whether right clips are ever called wrong.

    python benchmarks/verify.py VIDEOS [--batches N] [--rounds N] [--clean N] [--one-in N] [--json FILE]

VIDEOS is a folder of files that DALI decodes: without a GPU VP8, VP9 and MJPEG. Checks first that the batches are the
same with comparisons and without, bit for bit. Then times in turn, for several rounds, a loader that compares no clip
and one that compares them all. The difference, for a clip, is what a comparison costs; the table says what that is when
one clip in N is compared, as a share of what clips cost: seconds that pass and processor time, medians, smallest and
largest of the rounds. At last as many clips as --clean says are made as in training, with one in N compared:
the program fails if any is called wrong.
"""

import argparse
import json
import statistics
import time
from itertools import islice
from pathlib import Path

import torch
from usage import endless, machine

import dali_vidaug as dv


def make_loader(manifest, options, verify):
    """A loader whose clips DALI decodes, without the comparison of first clips unless ``verify`` asks for it."""
    recipe = dv.Recipe(
        dv.ClipSampling(options.frames, stride=(1, 3)),
        (dv.RandomResizedCrop(options.size), dv.RandomHorizontalFlip(), dv.Normalize()),
    )
    return dv.VideoLoader(
        manifest, recipe, options.batch_size, decoder="hybrid", device=options.device, num_threads=options.num_threads,
        drop_last=False, verify=verify,
    )  # fmt: skip


def check(manifest, options):
    """Comparisons do not change the batches."""
    with make_loader(manifest, options, None) as plain, make_loader(manifest, options, (0, 1)) as compared:
        for one, other in zip(islice(endless(plain), 3), islice(endless(compared), 3), strict=True):
            assert torch.equal(one.clips, other.clips) and torch.equal(one.targets, other.targets)
        found = compared.report()
    assert found.compared and not found.wrong, f"nothing was compared, or {found.wrong}"


def measure(manifest, options, verify):
    """(seconds that pass, processor time) for a clip, after a first batch."""
    with make_loader(manifest, options, verify) as loader:
        batches = islice(endless(loader), options.batches + 1)
        next(batches)
        before, clips = (time.perf_counter(), time.process_time()), 0
        for batch in batches:
            clips += len(batch)
        return [
            (after - b) / clips for after, b in zip((time.perf_counter(), time.process_time()), before, strict=True)
        ]


def run_clean(manifest, options):
    """Clips made, clips compared, of these too still to show the order; fails if one is called wrong."""
    with make_loader(manifest, options, (4, options.one_in)) as loader:
        clips = sum(len(batch) for batch in islice(endless(loader), -(-options.clean // options.batch_size)))
        report = loader.report()
    if report.wrong:
        raise SystemExit(f"called wrong: {report.wrong}")
    return clips, report.compared, report.compared_still


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--batches", type=int, default=12, help="timed in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one-in", type=int, default=50, metavar="N", help="a clip in N is compared")
    parser.add_argument("--clean", type=int, default=0, metavar="N", help="clips that must all be right")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--num-threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    manifest = dv.scan(options.videos, progress=False)
    check(manifest, options)
    results = {**machine(), "videos": len(manifest), "one_in": options.one_in}
    rounds = [[measure(manifest, options, verify) for verify in (None, (0, 1))] for _ in range(options.rounds)]
    for i, name in enumerate(("seconds", "processor time") if options.rounds else ()):
        shares = sorted((all_of[i] / none[i] - 1) / options.one_in for none, all_of in rounds)
        results[name] = shares
        print(
            f"{name}: one clip in {options.one_in} compared costs {statistics.median(shares):.2%} "
            f"({shares[0]:.2%} to {shares[-1]:.2%}, {len(shares)} rounds)"
        )
    if options.clean:
        clips, compared, still = results["clean"] = run_clean(manifest, options)
        print(f"{clips} clips, {compared} compared, all right; {still} of these too still to show their order")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
