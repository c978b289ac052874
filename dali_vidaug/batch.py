"""What the training loop gets: clips and their labels, mixed in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from dali_vidaug.data.manifest import Manifest
from dali_vidaug.plan import Plan


class BatchMix(NamedTuple):
    """Which clips are mixed, for a loss of two terms: ``own * loss(clip's label) + (1 - own) * loss(partner's)``.

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
        clips: (B, 3, F, H, W) float32 or float16 after ``Normalize``, otherwise uint8.
        targets: (B, K) float32, soft labels, mixed as the clips are; a sample without a label has zeros.
        samples: (B,) int64, manifest rows of the clips.
        epoch, index: the batch's number.
        plan: what was drawn for the clips.
        mix: which clips are mixed, when the recipe has one op that can mix; None when it has none, or several.
        manifest: of the samples; None for clips in memory, and in a batch that was pickled.
    """

    clips: torch.Tensor
    targets: torch.Tensor
    samples: torch.Tensor
    epoch: int
    index: int
    plan: Plan
    mix: BatchMix | None = None
    manifest: Manifest | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "manifest": None}  # it may be large, and is the same for all batches

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.clips, self.targets))

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def views(self) -> torch.Tensor:
        """(B,) int64, which of the clips of its sample each clip is."""
        return torch.from_numpy(self.plan.views.copy())

    def rows(self, name: str) -> np.ndarray:
        """A column of the manifest, for the clips: one of your own, such as a caption, or a measured one.

        Returns:
            (B,): numbers and truth values as they are, times as datetime64 and timedelta64; else, and where a value is
            missing, objects: str, list, None.

        Raises:
            ValueError: there is no such column, or no manifest.
        """
        if self.manifest is None:
            raise ValueError(f"Batch: no column {name!r}: clips in memory and batches that were pickled have none")
        return self.manifest.rows(name, self.plan.samples)


def make_batch(
    clips: torch.Tensor, targets: np.ndarray, plan: Plan, index: int, manifest: Manifest | None = None
) -> Batch:
    """Put a batch together; its labels are mixed as the ops of the plan have mixed the clips.

    Args:
        clips: of the batch, as they leave the graph.
        targets: (B, K) float32: the labels before any op.
        plan, index: of the batch.
        manifest: of the samples.

    Returns:
        The batch, on the device of the clips.

    Raises:
        TypeError, ValueError: an op returns something else than labels or partners.
    """
    mixes = []
    for name, op in zip(plan.recipe.names, plan.recipe.ops, strict=True):
        if hasattr(op, "targets"):
            targets = _checked_targets(name, op.targets(plan.args[name], targets), targets.shape)
        if hasattr(op, "mixed_with"):
            mixes.append(_checked_mix(name, op.mixed_with(plan.args[name]), len(plan)))
    mix = BatchMix(*(_to(clips.device, column) for column in mixes[0])) if len(mixes) == 1 else None
    samples = torch.from_numpy(plan.samples.copy())
    return Batch(clips, _to(clips.device, targets), samples, plan.epoch, index, plan, mix, manifest)


def _checked_targets(name, targets, shape):
    """What an op returned as labels: (B, K) float32."""
    targets = np.asarray(targets)
    if targets.shape != shape or targets.dtype.kind != "f" or not np.isfinite(targets).all():
        raise TypeError(f"{name}.targets must return {shape} finite floats, got {targets.dtype} {targets.shape}")
    return targets.astype(np.float32)


def _checked_mix(name, mix, size):
    """What an op returned as partners: (B,) int64 and (B,) float32."""
    partner, own = (np.asarray(column) for column in mix)
    if partner.shape != (size,) or own.shape != (size,) or partner.dtype.kind not in "iu":
        raise TypeError(
            f"{name}.mixed_with must return ({size},) integers and ({size},) floats, got {partner.dtype} "
            f"{partner.shape} and {own.dtype} {own.shape}"
        )
    if not ((partner >= 0) & (partner < size) & (own >= 0) & (own <= 1)).all():
        raise ValueError(
            f"{name}.mixed_with: partners must be in [0, {size}) and shares in [0, 1], got {partner.min()} to "
            f"{partner.max()} and {own.min()} to {own.max()}"
        )
    return partner.astype(np.int64), own.astype(np.float32)


def _to(device, array):
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    # From pinned memory, which torch keeps until the copy is done; from other memory the copy may wait for the stream.
    return tensor.pin_memory().to(device, non_blocking=True)
