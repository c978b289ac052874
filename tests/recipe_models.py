"""A tiny network of each family of recipes, with random weights, and its loss for a batch.

``MODELS[family]`` makes a network of a number of classes: torchvision's where it has one, else a few lines.
"""

import pytest
import torch
from conftest import import_torchvision
from torch import nn
from torch.nn.functional import cross_entropy


def _block(channels_in, channels_out, kernel, stride=1, groups=1):
    padding = tuple(k // 2 for k in kernel)
    return nn.Sequential(
        nn.Conv3d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm3d(channels_out),
        nn.ReLU(),
    )


class Slowfast(nn.Module):
    """Two pathways; the fast one, with fewer channels, is added to the slow one by a lateral connection."""

    def __init__(self, num_classes):
        super().__init__()
        self.slow = nn.Sequential(_block(3, 16, (1, 5, 5), (1, 2, 2)), _block(16, 16, (1, 3, 3), (1, 2, 2)))
        self.fast = nn.Sequential(_block(3, 4, (5, 5, 5), (1, 2, 2)), _block(4, 4, (3, 3, 3), (1, 2, 2)))
        self.head = nn.Linear(16 + 2 * 4, num_classes)

    def forward(self, clips):
        slow, fast = clips
        slow, fast = self.slow(slow), self.fast(fast)
        lateral = nn.functional.adaptive_avg_pool3d(fast, slow.shape[2:])
        return self.head(
            torch.cat([slow, lateral, 0 * lateral + fast.mean((2, 3, 4), keepdim=True)], 1).mean((2, 3, 4))
        )


class X3d(nn.Module):
    """A stem in space, then in time, and a depthwise block."""

    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            _block(3, 16, (1, 3, 3), (1, 2, 2)), _block(16, 16, (5, 1, 1), groups=16),
            _block(16, 36, (1, 1, 1)), _block(36, 36, (3, 3, 3), (1, 2, 2), groups=36), _block(36, 16, (1, 1, 1)),
        )  # fmt: skip
        self.head = nn.Linear(16, num_classes)

    def forward(self, clips):
        return self.head(self.features(clips).mean((2, 3, 4)))


class Images(nn.Module):
    """A network of images for each frame, (B * F, 3, H, W), and the mean; with ``shift``, TSM's shifts in time."""

    def __init__(self, num_classes, shift):
        super().__init__()
        self.shift = shift
        self.first = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, num_classes)

    def forward(self, clips):
        batch, frames = clips.shape[0], clips.shape[2]
        found = self.first(clips.transpose(1, 2).flatten(0, 1))
        if self.shift:
            given = found.unflatten(0, (batch, frames))
            moved = given.clone()
            moved[:, :-1, :2], moved[:, 1:, 2:4] = given[:, 1:, :2], given[:, :-1, 2:4]
            found = moved.flatten(0, 1)
        return self.head(self.second(found).mean((2, 3)).unflatten(0, (batch, frames)).mean(1))


class R3d(nn.Module):
    """A stem, and torchvision's residual block of 3D convolutions: r3d_18 has eight of them, with more channels."""

    def __init__(self, num_classes):
        super().__init__()
        try:
            import_torchvision()
        except ImportError:
            pytest.skip("torchvision is not installed")
        from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

        self.features = nn.Sequential(_block(3, 16, (3, 7, 7), (1, 2, 2)), BasicBlock(16, 16, Conv3DSimple))
        self.head = nn.Linear(16, num_classes)

    def forward(self, clips):
        return self.head(self.features(clips).mean((2, 3, 4)))


MODELS = {
    "slowfast": Slowfast,
    "videomix": Slowfast,
    "x3d": X3d,
    "tsm": lambda num_classes: Images(num_classes, shift=True),
    "tsn": lambda num_classes: Images(num_classes, shift=False),
    "r3d": R3d,
    "kim2020": X3d,
    "guide": X3d,
    "simclr": lambda num_classes: X3d(32),  # the projection
}


def loss_of(family, model, batch, recipe):
    """The loss of a batch: cross-entropy; or of views of the same videos against those of others."""
    outputs = model(batch.clips)
    if family != "simclr":
        return cross_entropy(outputs, batch.targets)
    views = nn.functional.normalize(outputs, dim=1)
    scores = views @ views.T / 0.1
    scores.fill_diagonal_(float("-inf"))
    same = batch.samples[:, None] == batch.samples
    same.fill_diagonal_(False)
    return -(scores.log_softmax(1).masked_fill(~same, 0).sum(1) / same.sum(1)).mean()
