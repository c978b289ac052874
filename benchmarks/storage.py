"""Clips of objects in a bucket, compared with the same clips of local files.

The bucket is on this machine, behind a proxy that answers each request after a while, as one far away does. Clips of
both are compared, bit for bit, before anything is timed, and requests and bytes are counted. Then loops over the one
and the other take turns, and the ratios of their clips per second are printed.

    python benchmarks/storage.py videos/ --latency 50 --rounds 7
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch

import dali_vidaug as dv

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
BUCKET = "benchmark-videos"
EPOCHS = 4  # that are compared; what is read ahead at the end of the last one belongs to none of their clips


def rate(loader, count):
    """Clips per second of the next ``count`` batches; the pipeline is full before."""
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    next(batches)
    before = time.perf_counter()
    clips = sum(len(batch.samples) for batch in itertools.islice(batches, count))
    return clips / (time.perf_counter() - before)


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


def compare(local, remote, options, storage, proxy):
    """Whether epochs of both are the same; prints what they asked for, as the proxy counts it."""
    proxy.forget()
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
    print(
        f"{clips} clips, all equal: {len(proxy.gets) / clips:.3f} requests and {proxy.body_bytes / clips / 1e3:.0f} KB "
        f"a clip through the proxy, {proxy.body_bytes / planned:.3f} times the bytes of the packets that they need",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="a folder with a sub-folder for each class")
    parser.add_argument("--latency", type=float, default=50, help="milliseconds before each answer (default: 50)")
    parser.add_argument("--rounds", type=int, default=7, help="how often both take their turn (default: 7)")
    parser.add_argument("--batches", type=int, default=10, help="of each turn (default: 10)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[32], help="reads under way (default: 32)")
    args = parser.parse_args()
    import servers

    recipe = dv.Recipe(dv.ClipSampling(16, 2), (dv.RandomResizedCrop(112), dv.Normalize()))
    local = dv.scan(args.videos, progress=False)
    with tempfile.TemporaryDirectory() as folder, servers.server("localbucket", folder) as port:
        names = [str(name) for name in local.rows("path")]
        servers.put(port, BUCKET, {name: Path(local.root, name) for name in names})
        with servers.proxy(port) as proxy:
            options = servers.options(proxy.port)
            remote = dv.scan(f"s3://{BUCKET}", progress=False, storage=dv.Storage(options=options), like=local)
            for in_flight in args.in_flight:
                storage = dv.Storage(in_flight=in_flight, options=options)
                loading = {"recipe": recipe, "batch_size": args.batch_size, "device": "cpu", "prefetch": 1}
                compare(local, remote, loading, storage, proxy)
                proxy.latency = args.latency / 1000
                turns(local, remote, recipe, storage, proxy, args)
                proxy.latency = 0.0


def turns(local, remote, recipe, storage, proxy, args):
    """Loops over files and objects in turn; prints the ratios."""
    prefetch = max(2, -(-storage.in_flight // args.batch_size))
    common = {"device": "cpu", "prefetch": prefetch}
    ratios = []
    with (
        dv.VideoLoader(local, recipe, args.batch_size, **common) as files,
        dv.VideoLoader(remote, recipe, args.batch_size, storage=storage, **common) as objects,
    ):
        for _ in range(args.rounds):
            with_files = rate(files, args.batches)
            files.close()
            proxy.forget()
            ratios.append(rate(objects, args.batches) / with_files)
            objects.close()
        report = objects.report()
    print(
        f"in_flight={storage.in_flight}, {args.latency:g} ms: {statistics.median(ratios):.2f} of the clips/s of local "
        f"files, {min(ratios):.2f} to {max(ratios):.2f} in {args.rounds} rounds; "
        f"batches waited {report.seconds.get('fetch', 0.0):.2f} s of {report.elapsed_seconds:.1f} s; "
        f"{proxy.most_under_way} reads were under way",
        flush=True,
    )


if __name__ == "__main__":
    main()
