"""What the training loop gets: clips and their labels, mixed as the clips are."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from dali_vidaug.plan import Plan


class BatchMix(NamedTuple):
    """Who is mixed with whom, for a loss of two terms: ``own * loss(clip's label) + (1 - own) * loss(partner's)``.

    Attributes:
        partner: (B,) int64, position in the batch of the clip that each is mixed with, or its own.
        own: (B,) float32, weight of the clip's own label, [0, 1].
    """

    partner: torch.Tensor
    own: torch.Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips and what belongs to them. Unpacks into ``clips, targets``.

    Attributes:
        clips: (B, 3, F, H, W) float32 or float16 after ``Normalize``, else uint8.
        targets: (B, K) float32, soft labels, mixed as the clips are; a sample without a label has zeros.
        samples: (B,) int64, manifest rows of the clips.
        epoch, index: the batch's number.
        plan: what was drawn for the clips.
        mix: who is mixed with whom, when the recipe has one op that mixes; None when it has none, or several.
    """

    clips: torch.Tensor
    targets: torch.Tensor
    samples: torch.Tensor
    epoch: int
    index: int
    plan: Plan
    mix: BatchMix | None = None

    def __iter__(self):
        return iter((self.clips, self.targets))

    def __len__(self):
        return len(self.clips)


def make_batch(clips, targets, plan, index):
    """Put a batch together; its labels are mixed as the ops of the plan have mixed the clips.

    Args:
        clips: of the batch, as they leave the graph.
        targets: (B, K) float32, NumPy: the labels before any op.
        plan, index: of the batch.

    Returns:
        A ``Batch`` on the device of the clips.
    """
    mixes = []
    for name, op in zip(plan.recipe.names, plan.recipe.ops, strict=True):
        if hasattr(op, "mix_targets"):
            targets = op.mix_targets(plan.args[name], targets)
        if hasattr(op, "mixed_with"):
            mixes.append(op.mixed_with(plan.args[name]))
    mix = None
    if len(mixes) == 1:
        partner, own = mixes[0]
        mix = BatchMix(_to(clips.device, partner.astype(np.int64)), _to(clips.device, own.astype(np.float32)))
    samples = torch.from_numpy(plan.samples.copy())
    return Batch(clips, _to(clips.device, targets), samples, plan.epoch, index, plan, mix)


def _to(device, array):
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    # From pinned memory, which torch keeps until the copy is done: from other memory the copy may wait for the stream.
    return tensor.pin_memory().to(device, non_blocking=True)
