"""One run of benchmarks/ablation.py: a small network, trained and tested, on one core."""

import math
import time

import torch
from torch import nn

import dali_vidaug as dv

BATCH, RATE = 8, 2e-3
CHANNELS = ((3, 16, 1), (16, 32, 1), (32, 64, 2))  # in, out, stride in time; each halves height and width


class MeanAndMaximum(nn.Module):
    """(B, C, F, H, W) to (B, 2C)."""

    def forward(self, features):
        """Of all of space and time."""
        return torch.cat((features.mean((2, 3, 4)), features.amax((2, 3, 4))), 1)


def network(num_classes):
    """Three 3D convolutions, mean and maximum over all of space and time: (B, 3, F, H, W) to (B, K)."""
    layers = []
    for before, after, stride in CHANNELS:
        layers += [nn.Conv3d(before, after, 3, (stride, 2, 2), 1, bias=False), nn.BatchNorm3d(after), nn.ReLU()]
    return nn.Sequential(*layers, MeanAndMaximum(), nn.Linear(2 * CHANNELS[-1][1], num_classes))


def one_run(job, train, test):
    """Train and test.

    Args:
        job: with "recipe", "seed" and "epochs".
        train, test: manifests.

    Returns:
        The job with "top1", "loss" (of the last epoch), "seconds" and "right": whether each test video is.
    """
    torch.set_num_threads(1)
    torch.manual_seed(job["seed"])
    began = time.time()
    recipe = dv.Recipe.parse(job["recipe"])
    model = network(len(train.classes))
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.05)
    options = {"device": "cpu", "num_threads": 1, "num_shards": 1, "shard_index": 0, "seed": job["seed"]}
    with dv.VideoLoader(train, recipe, min(BATCH, len(train)), **options) as loader:
        steps = job["epochs"] * len(loader)
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for _ in range(job["epochs"]):
            losses = [step(model, optimizer, rates, *batch) for batch in loader]
    right = evaluate(model, test, recipe, options)
    found = {"top1": sum(right) / len(right), "loss": sum(losses) / len(losses), "seconds": time.time() - began}
    return {**job, **found, "right": right}


def step(model, optimizer, rates, clips, targets):
    """Train on a batch; gives the loss."""
    loss = nn.functional.cross_entropy(model(clips), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    rates.step()
    return loss.item()


@torch.no_grad()
def evaluate(model, test, recipe, options):
    """Whether each video is told, by the mean over three clips: a list of 0 and 1."""
    size = recipe.ops[[hasattr(op, "scale") for op in recipe.ops].index(True)].size
    sampling = dv.MultiClip(dv.ClipSampling(recipe.sampling.num_frames, stride=2), num_clips=3)
    plain = dv.Recipe(sampling, (dv.Resize(size), dv.CenterCrop(size), dv.Normalize()))
    scores = torch.zeros(len(test), len(test.classes))
    model.eval()
    with dv.VideoLoader(test, plain, BATCH, shuffle=False, drop_last=False, on_error="raise", **options) as loader:
        for batch in loader:
            scores.index_add_(0, batch.samples, model(batch.clips).softmax(1))
    return (scores.argmax(1) == torch.tensor(test.labels)).int().tolist()
