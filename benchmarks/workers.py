"""Threads or processes for decoding? Times the loader with each, in turn, on your videos.

    python benchmarks/workers.py VIDEOS [--counts 1 2 4 8] [--threads-each 4] [--rounds 9] [--batches N]

VIDEOS is a folder with a sub-folder for each class, a list, or a manifest. Checks first that processes and threads give
the same batches, bit for bit. Then, for each count N, times some batches with N threads of this process and as many
with N threads in processes, ``--threads-each`` in each, in turn, both warm. Prints the median of the ratios of a
round (above 1, processes are faster), and the processor time of this process for each clip, to which that of the
decoding processes does not belong. Also what it costs to hand over a clip, in shared memory and through a pipe.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from usage import endless

import dali_vidaug as dv
from dali_vidaug.data.schema import is_manifest
from dali_vidaug.threads import ThreadPool
from dali_vidaug.workers import Workers


def make_loader(manifest, args, count, processes):
    """Crop, flip and normalise; ``count`` threads, of this process or of others."""
    recipe = dv.Recipe(
        dv.ClipSampling(args.num_frames, args.stride),
        (dv.RandomResizedCrop(224), dv.RandomHorizontalFlip(), dv.Normalize()),
    )
    workers = -(-count // args.threads_each) if processes else 0
    return dv.VideoLoader(manifest, recipe, args.batch_size, num_threads=count, workers=workers, device="cpu")


def check(manifest, args):
    """Both give the same batches."""
    with make_loader(manifest, args, 2, False) as threads, make_loader(manifest, args, 2, True) as processes:
        for a, b, _ in zip(endless(threads), endless(processes), range(3), strict=False):
            assert torch.equal(a.samples, b.samples) and torch.equal(a.clips, b.clips) and len(a.clips)


def measure(batches, num_ahead, count):
    """Clips per second and milliseconds of this process a clip, of ``count`` batches after those made ahead."""
    for _ in range(num_ahead):
        next(batches)
    started, before = time.perf_counter(), time.process_time()
    clips = sum(len(next(batches)) for _ in range(count))
    return clips / (time.perf_counter() - started), 1000 * (time.process_time() - before) / clips


def hand_over(pool, rounds=100, depth=8):
    """Milliseconds of this process for a clip of 2.4 MB that a process of a pool has made."""
    job = np.zeros, (16, 224, 224, 3), np.uint8
    jobs = [pool.submit(*job) for _ in range(depth)]
    before = time.process_time()
    for _ in range(rounds):
        jobs.pop(0).result()
        jobs.append(pool.submit(*job))
    spent = 1000 * (time.process_time() - before) / rounds
    for job in jobs:
        job.result()
    return spent


def compare_hand_over():
    """With the processes of ``concurrent.futures``, which send clips through a pipe."""
    pipe, shared = ProcessPoolExecutor(2, get_context("forkserver")), ThreadPool(2, None, Workers(2, lambda: None))
    costs = [[hand_over(pool) for pool in (pipe, shared)] for _ in range(8)][1:]
    (low, high), (low_2, high_2) = ((min(column), max(column)) for column in zip(*costs, strict=True))
    pipe.shutdown()
    shared.shutdown()
    print(f"handing over 2.4 MB, ms of this process: pipe {low:.2f} to {high:.2f}, shared {low_2:.3f} to {high_2:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos")
    parser.add_argument("--counts", type=int, nargs="+", help="default: powers of two up to the cores, and the cores")
    parser.add_argument("--threads-each", type=int, default=1, help="threads in a process")
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
    compare_hand_over()
    print(f"checked: the same batches. {cores} cores, load {os.getloadavg()[0]:.1f}")
    for count in counts:
        ratios, costs, rates = [], [], []
        with (
            make_loader(manifest, args, count, False) as threads,
            make_loader(manifest, args, count, True) as processes,
        ):
            both = endless(threads), endless(processes)
            for _ in range(args.rounds):
                ahead = threads.settings.prefetch + 2
                (rate, cost), (rate_2, cost_2) = (measure(batches, ahead, args.batches) for batches in both)
                rates.append(rate)
                ratios.append(rate_2 / rate)
                costs.append((cost, cost_2))
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{count} threads in {processes.settings.workers} processes compared with {count} in this one: "
            f"{middle:.2f} (middle half of {args.rounds} rounds: {low:.2f} to {high:.2f}); threads "
            f"{statistics.median(rates):.1f} clips/s; ms of this process a clip: threads "
            f"{statistics.median(c[0] for c in costs):.1f}, processes {statistics.median(c[1] for c in costs):.1f}; "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
