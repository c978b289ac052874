"""Threads or processes for decoding? Times the loader with each, in turn, on your videos.

    python benchmarks/workers.py VIDEOS [--counts 1 2 4 8] [--rounds 3] [--batches N]

VIDEOS is a folder with a sub-folder for each class, a list, or a manifest. Checks first that processes and threads give
the same batches, bit for bit. Then, in each round and for each count N, times the loader with N threads and with N
processes (``workers=N``), both warm; ``num_threads`` stays N, because DALI's ops use it too. Prints the median of the
ratios of a round: above 1, processes are faster.
"""

import argparse
import os
import statistics
import time

import torch

import dali_vidaug as dv
from dali_vidaug.data.manifest import is_manifest


def make_loader(manifest, args, count, workers):
    """Crop, flip and normalise; ``count`` threads, or processes."""
    recipe = dv.Recipe(
        dv.ClipSampling(args.num_frames, args.stride),
        (dv.RandomResizedCrop(224), dv.RandomHorizontalFlip(), dv.Normalize()),
    )
    return dv.VideoLoader(manifest, recipe, args.batch_size, num_threads=count, workers=count if workers else 0)


def take(loader, count):
    """The next batches, through the ends of epochs."""
    batches = []
    while len(batches) < count:
        for batch in loader:
            batches.append(batch)
            if len(batches) == count:
                break
    return batches


def check(manifest, args):
    """Both give the same batches."""
    with make_loader(manifest, args, 2, False) as threads, make_loader(manifest, args, 2, True) as processes:
        for a, b in zip(take(threads, 3), take(processes, 3), strict=True):
            assert torch.equal(a.samples, b.samples) and torch.equal(a.clips, b.clips) and len(a.clips)


def clips_per_second(loader, count):
    """Of ``count`` batches, after those that were made while the loader started."""
    batches = iter(())
    clips, started, taken = 0, 0.0, 0
    while taken < count + loader.settings.prefetch + 2:
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            continue
        if taken == loader.settings.prefetch + 1:
            started, clips = time.perf_counter(), 0
        else:
            clips += len(batch)
        taken += 1
    return clips / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos")
    parser.add_argument("--counts", type=int, nargs="+", help="default: powers of two up to the cores, and the cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--stride", type=int, default=2)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    counts = args.counts or sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})
    manifest = dv.Manifest.read(args.videos) if is_manifest(args.videos) else dv.scan(args.videos)
    check(manifest, args)
    print(f"checked: the same batches. {cores} cores, load {os.getloadavg()[0]:.1f}")
    ratios: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(args.rounds):
        for count in counts:
            rates = []
            for workers in (False, True):
                with make_loader(manifest, args, count, workers) as loader:
                    rates.append(clips_per_second(loader, args.batches))
            ratios[count].append(rates[1] / rates[0])
            print(f"round {number + 1}, {count}: threads {rates[0]:.1f}, processes {rates[1]:.1f} clips/s", flush=True)
    for count, values in ratios.items():
        shown = ", ".join(f"{value:.2f}" for value in values)
        print(f"{count} processes compared with {count} threads: {statistics.median(values):.2f} ({shown})")


if __name__ == "__main__":
    main()
