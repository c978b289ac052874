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

SIDE = 64  # pixels, of what is trained on
RECIPE = dv.Recipe(
    dv.ClipSampling(num_frames=3, stride=1),
    (dv.ShortSideScale(224, 288), dv.RandomCrop(112), dv.RandomHorizontalFlip(), dv.RandomVerticalFlip(0.5)),
)


def triplets(loader):
    """Batches (N, 3, 3, H, W) in [0, 1], without end: three frames each, of which the middle lies between the others.

    Videos that were brought to another frame rate repeat frames: there the middle is like one of its neighbours, which
    is nothing to learn from.
    """
    while True:
        for batch in loader:
            clips = batch.clips.float() / 255
            first, middle, last = clips.unbind(2)
            near = torch.stack([(other - middle).square().mean((1, 2, 3)) for other in (first, last)])
            good = (near.amin(0) > 1e-6) & (near.amin(0) > near.amax(0) / 4)
            if good.any():
                yield torch.stack([busiest(clip) for clip in clips[good]])


def busiest(clip, side=SIDE):
    """Of a clip (3, 3, H, W) the square in which the first and the last frame differ most: little moves elsewhere."""
    change = (clip[:, 0] - clip[:, 2]).abs().mean(0)[None, None]
    means = F.avg_pool2d(change, side, side // 4)[0, 0]
    top, left = (int(n) * (side // 4) for n in divmod(int(means.argmax()), means.shape[1]))
    return clip[..., top : top + side, left : left + side]


def train(network, loader, minutes, rate=2e-3):
    """Until the time is over; returns the loss of each step, and what it would be for the blend: (steps, 2)."""
    optimiser, losses, end = torch.optim.Adam(network.parameters(), rate), [], time.monotonic() + 60 * minutes
    network.train()
    with tqdm(desc="train", unit=" steps", disable=None) as bar:
        for clips in triplets(loader):
            left = (end - time.monotonic()) / (60 * minutes)
            if left <= 0:
                break
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, 2 * left + 0.02)
            first, middle, last = clips.unbind(2)
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
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--batch-size", type=int, default=12)
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
    with dv.VideoLoader(manifest.select(np.array(rows)), RECIPE, options.batch_size, seed=options.seed) as loader:
        losses = train(network, loader, options.minutes)
    networks.save(options.output, options.kind, network)
    mine, blend = losses[-max(len(losses) // 5, 1) :].mean(0)
    print(f"{len(losses)} steps; in the last fifth the loss was {mine:.5f}, that of the blend {blend:.5f}")
    print(f"wrote {options.output}; {len(left_out)} of {len(files)} files were left out")


if __name__ == "__main__":
    main()
