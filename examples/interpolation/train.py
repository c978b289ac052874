"""Train a network that makes frames between two frames, on videos of your own: leave the middle of three frames out.

    python examples/interpolation/train.py videos/ --kind flow --minutes 5 --output flow.pt
    python benchmarks/interpolation.py videos/ --every 12 --networks flow.pt

No labels are needed. Each twelfth file is left out, so that the second command compares on videos that the network has
not seen. In a recipe:

    dv.register_module("flow", networks.load("flow.pt"))
    dv.Recipe(sampling, (dv.SpeedRamp(), dv.FrameInterpolation("module", module="flow"), ...))
"""

import argparse
import time
from pathlib import Path

import networks
import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

import dali_vidaug as dv

SIDE = 64  # pixels, of the squares that are trained on
RECIPE = dv.Recipe(dv.ClipSampling(16, stride=1, short="shrink"), (dv.ShortSideScale(224, 288), dv.RandomCrop(160)))


def triplets(clip):
    """The threes of neighbouring frames of a clip (3, F, H, W) in [0, 1] that teach something: (N, 3, 3, SIDE, SIDE).

    Of each the square in which most changes. The middle frame must lie between the others: videos that were brought to
    another frame rate repeat frames, and there it is like one of its neighbours.
    """
    found = []
    for three in clip.unfold(1, 3, 1).permute(1, 0, 4, 2, 3):  # (F - 2, 3 channels, 3 frames, H, W)
        change = (three[:, 0] - three[:, 2]).abs().mean(0)[None, None]
        means = F.avg_pool2d(change, SIDE, SIDE // 4)[0, 0]
        top, left = (int(n) * (SIDE // 4) for n in divmod(int(means.argmax()), means.shape[1]))
        square = three[..., top : top + SIDE, left : left + SIDE]
        near = [(square[:, k] - square[:, 1]).square().mean() for k in (0, 2)]
        if min(near) > max(*near, 1e-5) / 4:
            found.append(square)
    return torch.stack(found) if found else torch.zeros(0, 3, 3, SIDE, SIDE)


def collect(loader, count):
    """(N, 3, 3, SIDE, SIDE) uint8: ``count`` triplets, or as many as three epochs have."""
    found, size = [], 0
    with tqdm(desc="collect", unit=" triplets", total=count, disable=None) as bar:
        for batch in (batch for _ in range(3) for batch in loader):
            for clip in batch.clips:
                found.append((255 * triplets(clip / 255)).round().byte())
                size += len(found[-1])
                bar.update(len(found[-1]))
            if size >= count:
                break
    return torch.cat(found)[:count]


def train(network, data, minutes, batch_size=12, rate=2e-3, seed=0):
    """Until the time is over; returns the loss of each step, and what it would be for the blend: (steps, 2)."""
    chance = torch.Generator().manual_seed(seed)
    optimiser, losses, end = torch.optim.Adam(network.parameters(), rate), [], time.monotonic() + 60 * minutes
    network.train()
    with tqdm(desc="train", unit=" steps", disable=None) as bar:
        while (left := (end - time.monotonic()) / (60 * minutes)) > 0:
            clips = data[torch.randint(len(data), (batch_size,), generator=chance)] / 255
            turns = [axis for axis in (-1, -2, 2) if torch.rand((), generator=chance) < 0.5]  # sides, and time
            first, middle, last = clips.flip(turns).unbind(2)
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, 2 * left + 0.02)
            loss = distance(network.middle(first, last), middle)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append((loss.item(), distance((first + last) / 2, middle).item()))
            bar.update()
    return np.array(losses)


def distance(made, true):
    """Squares where it is nearly right, so that noise does not count; magnitudes where it is not."""
    return ((made - true).square() + 1e-4).sqrt().mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder")
    parser.add_argument("--kind", choices=sorted(networks.KINDS), default="flow")
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="of training, after the videos are read (default: 5)"
    )
    parser.add_argument("--triplets", type=int, default=3000, help="that are collected (default: 3000)")
    parser.add_argument("--leave-out", type=int, default=12, help="each n-th file, not trained on (default: 12)")
    parser.add_argument("--output", default="network.pt")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    manifest = dv.scan(options.videos)
    files = sorted(set(map(Path, map(manifest.path, range(len(manifest))))))
    left_out = set(files[:: options.leave_out])
    rows = [i for i in range(len(manifest)) if Path(manifest.path(i)) not in left_out]
    network = networks.KINDS[options.kind]()
    with dv.VideoLoader(manifest.select(np.array(rows)), RECIPE, 4, seed=options.seed, drop_last=False) as loader:
        data = collect(loader, options.triplets)
    if not len(data):
        raise SystemExit(f"{options.videos}: nothing moves evenly in these videos")
    losses = train(network, data, options.minutes, seed=options.seed)
    networks.save(options.output, options.kind, network)
    mine, blend = losses[-max(len(losses) // 5, 1) :].mean(0)
    print(f"{len(data)} triplets; {len(losses)} steps; {len(left_out)} of {len(files)} files were left out")
    print(f"in the last fifth the loss was {mine:.5f}, that of the blend {blend:.5f}; wrote {options.output}")


if __name__ == "__main__":
    main()
