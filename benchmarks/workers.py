"""Threads or processes for decoding? Times the loader with each, in turn, on your videos.

    python benchmarks/workers.py VIDEOS [--counts 1 2 4 8] [--rounds 9] [--batches N]

VIDEOS is a folder with a sub-folder for each class, a list, or a manifest. Checks first that processes and threads give
the same batches, bit for bit. Then, for each count N, times some batches with N threads and as many with N processes
(``workers=N``), in turn, both warm; ``num_threads`` stays N, because DALI's ops use it too. Prints the median of the
ratios of a round: above 1, processes are faster.
"""

import argparse
import os
import statistics
import time

import torch

import dali_vidaug as dv
from dali_vidaug.data.schema import is_manifest


def make_loader(manifest, args, count, workers):
    """Crop, flip and normalise; ``count`` threads, or processes."""
    recipe = dv.Recipe(
        dv.ClipSampling(args.num_frames, args.stride),
        (dv.RandomResizedCrop(224), dv.RandomHorizontalFlip(), dv.Normalize()),
    )
    return dv.VideoLoader(manifest, recipe, args.batch_size, num_threads=count, workers=count if workers else 0)


def endless(loader):
    """All batches, epoch after epoch."""
    while True:
        yield from loader


def check(manifest, args):
    """Both give the same batches."""
    with make_loader(manifest, args, 2, False) as threads, make_loader(manifest, args, 2, True) as processes:
        for a, b, _ in zip(endless(threads), endless(processes), range(3), strict=False):
            assert torch.equal(a.samples, b.samples) and torch.equal(a.clips, b.clips) and len(a.clips)


def clips_per_second(batches, num_ahead, count):
    """Of ``count`` batches, after those that were made while nobody timed."""
    for _ in range(num_ahead):
        next(batches)
    started = time.perf_counter()
    clips = sum(len(next(batches)) for _ in range(count))
    return clips / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos")
    parser.add_argument("--counts", type=int, nargs="+", help="default: powers of two up to the cores, and the cores")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--stride", type=int, default=2)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    counts = args.counts or sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})
    manifest = dv.Manifest.read(args.videos) if is_manifest(args.videos) else dv.scan(args.videos)
    check(manifest, args)
    print(f"checked: the same batches. {cores} cores, load {os.getloadavg()[0]:.1f}")
    for count in counts:
        ratios, rates = [], []
        with (
            make_loader(manifest, args, count, False) as threads,
            make_loader(manifest, args, count, True) as processes,
        ):
            both = endless(threads), endless(processes)
            for _ in range(args.rounds):
                rates.append(
                    [clips_per_second(batches, threads.settings.prefetch + 2, args.batches) for batches in both]
                )
                ratios.append(rates[-1][1] / rates[-1][0])
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{count} processes compared with {count} threads: {middle:.2f} (middle half of {args.rounds} rounds: "
            f"{low:.2f} to {high:.2f}); threads {statistics.median(r[0] for r in rates):.1f} clips/s; "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
