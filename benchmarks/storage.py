"""Clips of objects in a bucket, compared with the same clips of local files.

The bucket is a server on this machine that answers each request after a while, as one far away does, and takes little
of the processor. Clips of both are compared, bit for bit, before anything is timed, and requests and bytes are counted.
Then loops over the one and the other take turns, and the ratios of their clips per second are printed: by the clock,
and by processor time of the loader's process alone, which the server's is no part of.

    python benchmarks/storage.py videos/ --latency 0 50 --rounds 7
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import range_server
import torch

import dali_vidaug as dv

BUCKET = "benchmark-videos"
EPOCHS = 4  # that are compared; what is read ahead at the end of the last one belongs to none of their clips


class Turn(NamedTuple):
    """What a turn took of each clip: seconds by the clock, and of processor time of this process."""

    clock: float
    processor: float


def take_turn(loader, prefetch, server, num_batches):
    """Loop over a loader for some batches; those that are made ahead are full before. Also the server's costs."""
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for _ in range(2 * prefetch + 1):
        next(batches)
    server.costs()
    clock, processor = time.perf_counter(), time.process_time()
    clips = sum(len(batch.samples) for batch in itertools.islice(batches, num_batches))
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    costs = server.costs()
    loader.close()
    return Turn(clock / clips, processor / clips), {**costs, "clips": clips}


def packets(path):
    """Of a file's packets in the order they are decoded: size, whether it is a key frame; and which frame i is."""
    with av.open(path) as container:
        found = [(p.pts, p.size, p.is_keyframe) for p in container.demux(video=0) if p.size]
    stamps, sizes, keys = map(np.array, zip(*found, strict=True))
    return sizes, np.flatnonzero(keys), np.argsort(stamps, kind="stable")


def planned_bytes(known, manifest, batch):
    """Sizes of all packets from each clip's key frame to the last one that it needs."""
    total = 0
    for row, frames in zip(batch.plan.samples.tolist(), batch.plan.frames, strict=True):
        path = manifest.video(row).path
        sizes, keys, place = known[path] = known.get(path) or packets(path)
        wanted = place[frames]
        total += sizes[keys[keys <= wanted.min()].max() : wanted.max() + 1].sum()
    return int(total)


def compare(local, remote, options, storage, server):
    """Whether epochs of both are the same; prints what they asked for, as the server counts it."""
    server.costs()
    clips, planned, known = 0, 0, {}
    with (
        dv.VideoLoader(local, **options) as one,
        dv.VideoLoader(remote, storage=storage, **options) as other,
    ):
        for a, b in itertools.chain.from_iterable(zip(one, other, strict=True) for _ in range(EPOCHS)):
            if not torch.equal(a.clips, b.clips):
                raise SystemExit("clips of the bucket are not those of the files")
            clips += len(b.samples)
            planned += planned_bytes(known, local, a)
    costs = server.costs()
    print(
        f"{clips} clips, all equal: {costs['requests'] / clips:.3f} requests and {costs['bytes'] / clips / 1e3:.0f} KB "
        f"a clip, {costs['bytes'] / planned:.3f} times the bytes of the packets that they need",
        flush=True,
    )


def turns(local, remote, recipe, storage, server, latency, args):
    """Loops over files and objects in turn; prints the ratios."""
    prefetch = max(2, -(-storage.in_flight // args.batch_size))
    common, found = {"device": "cpu", "prefetch": prefetch}, []
    with (
        dv.VideoLoader(local, recipe, args.batch_size, **common) as files,
        dv.VideoLoader(remote, recipe, args.batch_size, storage=storage, **common) as objects,
    ):
        server.delay(latency / 1000)
        for _ in range(args.rounds):
            turn, _ = take_turn(files, prefetch, server, args.batches)
            found.append((turn, *take_turn(objects, prefetch, server, args.batches)))
        server.delay(0.0)
        report = objects.report()
    costs = [cost for _, _, cost in found]
    served = 1000 * sum(cost["seconds"] for cost in costs) / sum(cost["clips"] for cost in costs)
    print(f"in_flight={storage.in_flight}, {latency:g} ms, {args.rounds} rounds, objects : files")
    print(f"  clips/s by the clock            {_ratios([a.clock / b.clock for a, b, _ in found])}")
    print(f"  clips per second of processor   {_ratios([a.processor / b.processor for a, b, _ in found])}")
    file, other = (1000 * statistics.median(turn[i].processor for turn in found) for i in (0, 1))
    print(
        f"  processor time of a clip: {file:.2f} ms of a file, {other:.2f} ms of an object, and {served:.2f} ms of the "
        f"server's; batches waited {report.seconds.get('fetch', 0.0):.2f} s of {report.elapsed_seconds:.1f} s; "
        f"{max(cost['most_under_way'] for cost in costs)} reads were under way",
        flush=True,
    )


def _ratios(values):
    return f"{statistics.median(values):.2f}  ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="a folder with a sub-folder for each class")
    parser.add_argument(
        "--latency", type=float, nargs="+", default=[50], help="milliseconds before each answer (default: 50)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often both take their turn (default: 7)")
    parser.add_argument("--batches", type=int, default=20, help="of each turn (default: 20)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[32], help="reads under way (default: 32)")
    args = parser.parse_args()
    recipe = dv.Recipe(dv.ClipSampling(16, 2), (dv.RandomResizedCrop(112), dv.Normalize()))
    local = dv.scan(args.videos, progress=False)
    names = [str(name) for name in local.rows("path")]
    labels = [local.classes[label] if label >= 0 else None for label in local.labels.tolist()]
    with range_server.serve(Path(local.root)) as server:
        where = {"endpoint": f"http://127.0.0.1:{server.port}", "region": "us-east-1"}
        options = {**where, "access_key_id": "any", "secret_access_key": "any"}  # requests are signed, as elsewhere
        remote = dv.scan(
            [f"s3://{BUCKET}/{name}" for name in names], labels=labels, like=local, progress=False,
            storage=dv.Storage(options=options),
        )  # fmt: skip
        for in_flight in args.in_flight:
            storage = dv.Storage(in_flight=in_flight, options=options)
            loading = {"recipe": recipe, "batch_size": args.batch_size, "device": "cpu", "prefetch": 1}
            compare(local, remote, loading, storage, server)
            for latency in args.latency:
                turns(local, remote, recipe, storage, server, latency, args)


if __name__ == "__main__":
    main()
