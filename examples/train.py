"""Train, validate, stop at any time and go on: a complete program, for one process or several.

    python examples/train.py [TRAIN VALIDATION] [--epochs 20]
    torchrun --nproc-per-node 4 examples/train.py train.parquet validation.parquet

TRAIN and VALIDATION are manifests that dali-vidaug scan wrote. Without them a small data set of moving shapes is made.
Started again, the program goes on from its checkpoint, in the middle of an epoch too.
"""

import argparse
import math
import os
import tempfile
from pathlib import Path

import torch
from torch import distributed, nn

import dali_vidaug as dv
from dali_vidaug.commands.demo import make_videos


def network(num_classes):
    """Three 3D convolutions: (B, 3, F, H, W) to (B, K). Frames are kept, so that it sees which way things go."""
    layers: list[nn.Module] = []
    for channels, following in ((3, 16), (16, 32), (32, 64)):
        layers += [
            nn.Conv3d(channels, following, (3, 5, 5), (1, 2, 2), (1, 2, 2)),
            nn.BatchNorm3d(following),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(64, num_classes))


def open_manifests(args):
    """Both lists of videos; classes have the same numbers in both."""
    if args.train:
        train, validation = dv.Manifest.read(args.train), dv.Manifest.read(args.validation)
        if train.classes != validation.classes:
            raise SystemExit(f"{args.validation} has other classes than {args.train}: scan it with --like {args.train}")
        return train, validation
    folder = Path(tempfile.gettempdir()) / "dali_vidaug-shapes"
    for seed, (name, per_class) in enumerate((("train", 16), ("validation", 4))):
        if not (folder / name).is_dir():
            make_videos(folder / name, per_class, seed)
    train = dv.scan(folder / "train")
    return train, dv.scan(folder / "validation", like=train)


def make_loaders(train, validation, batch_size):
    """Random clips, augmented, for training; the middle of each video, all of them, for validation."""
    augmentations = dv.RandomHorizontalFlip(), dv.RandAugmentT(num_ops=1, magnitude=3.0, probability=0.5)
    random = dv.Recipe(
        sampling=dv.ClipSampling(num_frames=8, stride=(2, 3)),
        ops=(dv.RandomResizedCrop(64, scale=(0.6, 1.0)), *augmentations, dv.Normalize()),
    )
    centre = dv.Recipe(
        sampling=dv.ClipSampling(num_frames=8, stride=2, start="center"),
        ops=(dv.Resize(72), dv.CenterCrop(64), dv.Normalize()),
    )
    return (
        dv.VideoLoader(train, random, batch_size, seed=0),
        dv.VideoLoader(validation, centre, batch_size, shuffle=False, drop_last=False, on_error="skip"),
    )


@torch.no_grad()
def evaluate(model, loader):
    """Over all ranks: top-1 and top-5 accuracy, and the number of videos that they are of. Each counts once.

    Takes the network itself: the wrapper of DDP waits for the other ranks in each call, also for those that have none.
    """
    labels = torch.tensor(loader.manifest.labels)
    totals = torch.zeros(3, dtype=torch.int64)
    if distributed.is_initialized():
        for buffer in model.buffers():  # batch normalisation has other statistics on each rank
            distributed.broadcast(buffer, 0)
    model.eval()
    for batch in loader:
        known = ~batch.repeated & (labels[batch.samples] >= 0)
        if known.any():  # else its videos came before, or could not be decoded
            scores = model(batch.clips).cpu()[known]
            best = scores.topk(min(5, scores.shape[1])).indices
            right = best == labels[batch.samples][known, None]
            totals += torch.tensor([right[:, 0].sum(), right.sum(), len(right)])
    model.train()
    if distributed.is_initialized():
        totals = totals.to(next(model.parameters()).device)
        distributed.all_reduce(totals)
    top1, top5, seen = totals.tolist()
    return top1 / max(seen, 1), top5 / max(seen, 1), seen


def save(parts, path):
    """Write a checkpoint whole or not at all."""
    torch.save({name: part.state_dict() for name, part in parts.items()}, f"{path}.new")
    Path(f"{path}.new").replace(path)


def parse_arguments():
    """The command line, and whether several processes train together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="?", help="manifest (default: the demo's videos)")
    parser.add_argument("validation", nargs="?", help="manifest, scanned with --like TRAIN")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8, help="of each process")
    parser.add_argument("--checkpoint", default="checkpoint.pt")
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS", help="besides the end of each epoch")
    args = parser.parse_args()
    parallel = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if bool(args.train) != bool(args.validation) or (parallel and not args.train):
        parser.error("give two manifests: TRAIN VALIDATION")
    if args.epochs < 1:
        parser.error(f"--epochs must be at least 1, got {args.epochs}")
    return args, parallel


def main():
    args, parallel = parse_arguments()
    if parallel:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group()
    is_first = not parallel or distributed.get_rank() == 0

    train, validation = open_manifests(args)
    loader, validation_loader = make_loaders(train, validation, args.batch_size)
    device = "cuda" if loader.device == "gpu" else "cpu"
    torch.manual_seed(0)
    model = network(len(train.classes)).to(device)
    wrapped = nn.parallel.DistributedDataParallel(model) if parallel else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    steps = args.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.05 * steps + 1), 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "loader": loader}
    if Path(args.checkpoint).is_file():
        for name, state in torch.load(args.checkpoint, map_location=device).items():
            parts[name].load_state_dict(state)
        if is_first:
            print(f"{args.checkpoint}: goes on with epoch {loader.epoch} of {args.epochs}", flush=True)

    with loader, validation_loader:
        for epoch in range(loader.epoch, args.epochs):
            loader.set_epoch(epoch)  # keeps the place of a checkpoint in this epoch
            for batch in loader:
                with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                    loss = nn.functional.cross_entropy(wrapped(batch.clips), batch.targets)  # soft labels
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                if is_first and schedule.last_epoch % args.save_every == 0:
                    save(parts, args.checkpoint)
                if is_first:
                    print(f"epoch {epoch}, step {batch.index + 1} of {len(loader)}: loss {loss.item():.6f}", flush=True)
            top1, top5, seen = evaluate(model, validation_loader)
            if is_first:
                save(parts, args.checkpoint)
                print(f"epoch {epoch}: top-1 {top1:.1%}, top-5 {top5:.1%} of {seen} videos, "
                      f"{len(validation) - seen} left out", flush=True)  # fmt: skip
        if is_first:
            print(loader.report())
    if parallel:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
