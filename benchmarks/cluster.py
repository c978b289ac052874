"""How fast the loaders of a cluster are together: who waits for whom, and what a rank loses by not being alone.

    torchrun --nproc-per-node 8 benchmarks/cluster.py MANIFEST [--batches 100] [--step-ms 150]
    sbatch --nodes 4 benchmarks/cluster.sbatch MANIFEST

MANIFEST is a file that dali-vidaug scan wrote, where all nodes can read it. Checks first that all ranks together have
each sample of an epoch once, in the order that a single rank has. Then, in rounds: rank 0 works alone, while the others
wait; then all work. A rank that works takes a batch, sleeps as long as a training step would take (--step-ms), and
meets the other ranks in an all_reduce, as in training. All begin each time with nothing made ahead, and the first
batches do not count. In the end it checks that each batch had the samples that belong there.

Prints tables, and writes FILE.json and FILE.png (--output FILE). Scaling efficiency is clips per second of all ranks,
divided by their number and by what rank 0 does alone. It is 1 where ranks take nothing from each other: cores, memory,
storage, network.
"""

import argparse
import hashlib
import json
import os
import socket
import sys
import time
from datetime import timedelta
from itertools import count
from pathlib import Path

import numpy as np
import torch
from cluster_figures import summarise, tables
from cluster_picture import draw
from torch import distributed
from usage import Gpu, endless, wait_for_gpu

import dali_vidaug as dv
from dali_vidaug.data.schema import is_manifest

WORK = ("read", "decode", "convert", "load", "dali", "graph")


def recipe_of(args):
    """Crop, flip, normalise; "full" has RandAugmentT and mixing too."""
    ops = [dv.RandomResizedCrop(args.size), dv.RandomHorizontalFlip()]
    if args.recipe == "full":
        ops += [dv.RandAugmentT(), dv.OneOf(ops=(dv.CubeCutMix(), dv.FadeMixUp()))]
    return dv.Recipe(dv.ClipSampling(args.num_frames, args.stride), (*ops, dv.Normalize()))


def begin_together():
    """Join the ranks that torchrun has started, or be the only one. Figures go by gloo, steps on GPUs by NCCL."""
    if "RANK" in os.environ:
        distributed.init_process_group("gloo", timeout=timedelta(hours=4))  # rank 0 works alone for a while
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        raise SystemExit("start it with torchrun, one for each node, as benchmarks/cluster.sbatch does")
    else:
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    if not torch.cuda.is_available():
        return None
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return distributed.new_group(backend="nccl")


def order_of(orders, single):
    """Check the samples of each step; returns them, one step after the other.

    Args:
        orders: for each rank, for each step, its samples.
        single: for each step the samples of a single rank.
    """
    for step, (together, alone) in enumerate(zip(zip(*orders, strict=True), single, strict=True)):
        if np.concatenate(together).tolist() != alone.tolist():
            raise SystemExit(f"step {step}: the ranks together have other samples than a single rank, or another order")
    order = np.concatenate(single)
    if len(np.unique(order)) != len(order):
        raise SystemExit("a sample comes twice in an epoch")
    return order


def check_order(loader, args):
    """Check the order of an epoch, or of its beginning; rank 0 gets what it says of it."""
    world, size = distributed.get_world_size(), loader.schedule.step
    steps = min(len(loader), max(1, args.check_samples // size))
    mine = [loader.schedule.batch(0, i).samples for i in range(steps)]
    orders = gather(mine)
    if not orders:
        return None
    alone = dv.VideoLoader(loader.manifest, loader.recipe, size, num_shards=1, shard_index=0, seed=args.seed)
    order = order_of(orders, [alone.schedule.batch(0, i).samples for i in range(steps)])
    digest = hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16]
    part = "the epoch" if steps == len(loader) else f"the first {steps} of {len(loader)} steps of the epoch"
    print(f"checked: {world} ranks together get {len(order)} samples, each once, in the order of a single rank, in "
          f"{part} (digest {digest})", flush=True)  # fmt: skip
    return {"samples": len(order), "steps": steps, "digest": digest}


def gather(item):
    """What all ranks have, at rank 0; an empty list elsewhere."""
    items = [None] * distributed.get_world_size() if distributed.get_rank() == 0 else None
    distributed.gather_object(item, items)
    return items or []


def file_bytes():
    """Bytes that this process and its workers have read from files, and from disks; None where Linux does not say."""
    try:
        children = [c for task in Path("/proc/self/task").iterdir() for c in (task / "children").read_text().split()]
        texts = [Path(f"/proc/{pid}/io").read_text() for pid in ("self", *children)]
    except OSError:
        return None
    rows = [dict(line.split(": ") for line in text.splitlines()) for text in texts]
    return np.array([sum(int(row[name]) for row in rows) for name in ("rchar", "read_bytes")])


def network_bytes():
    """Bytes that the node has received, by all interfaces but the loopback one; None where the system does not say."""
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    except OSError:
        return None
    return sum(int(line.split(":")[1].split()[0]) for line in lines if line.split(":")[0].strip() != "lo")


def meet(over, group):
    """Wait for the other ranks, as a step of training does; whether any of them says that it is over."""
    agreed = torch.tensor([float(over)], device="cuda" if torch.cuda.is_available() else "cpu")
    distributed.all_reduce(agreed, distributed.ReduceOp.MAX, group=group)
    return bool(agreed.item())


def work(loader, epoch, args, group, gpu, together):
    """Take batches of an epoch on and pretend to train, from nothing, so that all ranks have the same start.

    Returns:
        Figures, without those of the first batches (--warm-up); epoch, index and samples of each batch.
    """
    loader.set_epoch(epoch)
    batches, taken = endless(loader), []
    for number in count(-args.warm_up):
        if number == 0:
            waits, meets, clips, stepping = [], [], 0, 0.0
            before, read, started = loader.report(), file_bytes(), time.perf_counter()
            gpu.forget()
        asked = time.perf_counter()
        batch = next(batches)
        wait_for_gpu()  # a batch is there when its last kernel has run
        waited = time.perf_counter() - asked
        taken.append((batch.epoch, batch.index, batch.samples.cpu().numpy()))
        asked = time.perf_counter()
        time.sleep(args.step_ms / 1000)
        slept = time.perf_counter() - asked  # more than asked for where cores are busy
        gpu.look(bus=False)
        over = number >= 0 and (
            time.perf_counter() - started >= args.seconds if args.seconds else number + 1 >= args.batches
        )
        asked = time.perf_counter()
        over = meet(over, group) if together else over
        if number >= 0:
            waits.append(waited)
            meets.append(time.perf_counter() - asked)
            clips += len(batch)
            stepping += slept
        if over:
            break
    seconds, after, now = time.perf_counter() - started, loader.report(), file_bytes()
    spent = {name: after.seconds.get(name, 0) - before.seconds.get(name, 0) for name in WORK}
    read = None if read is None or now is None else (now - read).tolist()
    figures = {"clips": clips, "seconds": seconds, "waits": waits, "meets": meets, "bytes": read, "work": spent}
    figures["stepping"] = stepping
    return figures, taken


def run_rounds(loader, args, group):
    """All rounds; returns this rank's figures, which ``summarise`` expects."""
    rank, gpu = distributed.get_rank(), Gpu(loader.device)
    alone, rounds, taken, received = [], [], [], 0
    for number in range(args.rounds):
        if rank == 0:
            figures, some = work(loader, 2 * number, args, group, gpu, False)
            alone.append(figures["clips"] / figures["seconds"])
            taken += some
        distributed.barrier()
        network = network_bytes()
        figures, some = work(loader, 2 * number + 1, args, group, gpu, True)
        received = None if network is None or received is None else received + network_bytes() - network
        rounds.append(figures)
        taken += some
        if rank == 0:
            print(f"round {number + 1} of {args.rounds}: rank 0 alone {alone[-1]:.1f} clips/s", flush=True)
    report = loader.report()
    check_taken(loader, taken, report)
    return {
        "rank": rank, "node": int(os.environ.get("GROUP_RANK", "0")), "host": socket.gethostname(),
        "threads": report.num_threads, "alone": alone, "rounds": rounds, "received": received,
        "slowest": report.slowest, "replaced": report.replaced, "gpu": gpu.figures(), "verdict": report.verdict,
    }  # fmt: skip


def check_taken(loader, taken, report):
    """Each batch had its samples, but for those that were replaced."""
    others = sum(int((loader.schedule.batch(epoch, i).samples != samples).sum()) for epoch, i, samples in taken)
    if others > report.replaced:
        raise SystemExit(f"rank {distributed.get_rank()}: {others} samples in batches where they do not belong, and "
                         f"only {report.replaced} were replaced")  # fmt: skip


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--recipe", choices=("basic", "full"), default="basic")
    parser.add_argument("--batch-size", type=int, default=8, help="of each rank")
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--size", type=int, default=224, help="of clips, pixels")
    parser.add_argument("--num-threads", type=int, help="of each rank; default: its share of the node's cores")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--prefetch", type=int, default=2)
    parser.add_argument("--step-ms", type=float, default=0, help="that a step of training would take")
    parser.add_argument("--batches", type=int, default=50, help="of each rank, each time it works")
    parser.add_argument("--seconds", type=float, default=0, help="instead of --batches")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=5, metavar="BATCHES")
    parser.add_argument("--check-samples", type=int, default=1_000_000, help="whose order is checked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="cluster", help="FILE.json and FILE.png are written (default: cluster)")
    args = parser.parse_args(arguments)
    if not is_manifest(args.manifest):
        parser.error(f"{args.manifest} is no manifest: dali-vidaug scan VIDEOS -o manifest.parquet")
    if min(args.batches, args.rounds, args.warm_up) < 1:
        parser.error("--batches, --rounds and --warm-up must be at least 1")
    return args


def main():
    args = parse()
    group = begin_together()
    options = {"seed": args.seed, "num_threads": args.num_threads, "workers": args.workers, "prefetch": args.prefetch}
    manifest = dv.Manifest.read(args.manifest)
    with dv.VideoLoader(manifest, recipe_of(args), args.batch_size, **options) as loader:
        if not len(loader):
            raise SystemExit(f"{len(manifest)} videos are fewer than a step of all ranks, {loader.schedule.step}")
        order = check_order(loader, args)
        ranks = gather(run_rounds(loader, args, group))
    if ranks:
        command = f"{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}"
        summary = {"command": command, "options": vars(args), "order": order, **summarise(ranks)}
        print(tables(summary))
        Path(f"{args.output}.json").write_text(json.dumps(summary, indent=1))
        draw(summary).save(f"{args.output}.png")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
