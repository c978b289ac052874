"""Targets of a batch: labels, mixed as its plan mixes the clips. Dense, or as one label and one partner each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dali_vidaug.data.manifest import Manifest
from dali_vidaug.errors import naming
from dali_vidaug.ops.label_map import class_pairs, trade
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.report import warn_once

KINDS = ("soft", "index")


def check_index_targets(caller: str, recipe: Recipe, multi_label: bool = False) -> None:
    """Refuse what indices cannot express: for each clip they have one label, one partner, and the share of its own.

    Args:
        caller: named in the error.
        recipe: of the clips.
        multi_label: whether a sample may have several labels.

    Raises:
        ValueError: samples have several labels; several ops mix clips; or an op changes labels in another way.
    """
    soft = "targets='soft' has what it does" if caller == "VideoLoader" else "(B, K) targets have what it does"
    if multi_label:
        raise ValueError(f"{caller}: targets='index' is one label a clip, but samples of the manifest have several")
    mixing: list[str] = []
    for name, op in zip(recipe.names, recipe.ops, strict=True):
        changes, mixes = hasattr(op, "targets"), hasattr(op, "mixed_with")
        if hasattr(op, "loss_option"):
            raise ValueError(
                f"{caller}: targets='index' leaves {name} to the loss: take it out of the recipe, and call "
                f"torch.nn.functional.cross_entropy(..., {op.loss_option})"
            )
        if changes != mixes:
            what = "changes labels, and not by mixing" if changes else "mixes clips, but has no targets: not labels"
            raise ValueError(f"{caller}: targets='index' cannot express that {name} {what}; {soft}")
        if mixing and getattr(op, "label_map", None):
            raise ValueError(
                f"{caller}: targets='index' cannot express that {name} changes the labels of clips that {mixing[0]} "
                f"has mixed; put it before {mixing[0]}, or {soft}"
            )
        mixing += [name] * mixes
    if len(mixing) > 1:
        raise ValueError(
            f"{caller}: targets='index' has one partner for each clip, but {' and '.join(mixing)} mix it with several; "
            f"OneOf applies one of them to each clip, {soft.replace('it does', 'they do')}"
        )


def check_labels(manifest: Manifest, recipe: Recipe) -> None:
    """Refuse label maps of ops with classes that a manifest does not have; warn of labels to change where none are.

    Raises:
        ValueError: there are such classes.
    """
    changing = [name for name, op in zip(recipe.names, recipe.ops, strict=True) if hasattr(op, "targets")]
    if changing and not len(manifest.classes):
        warn_once(f"no video of the manifest has a label, so {' and '.join(changing)} change none: targets are empty")
    for name, op in zip(recipe.names, recipe.ops, strict=True):
        if getattr(op, "label_map", None):
            where = f"VideoLoader: label_map of {name}"
            if not len(manifest.classes):
                raise ValueError(f"{where} has classes, but no video of the manifest has a label")
            class_pairs(where, op.label_map, manifest.classes, len(manifest.classes))


def targets_of(manifest: Manifest, samples: np.ndarray, kind: str) -> np.ndarray:
    """The labels of samples before any op.

    Args:
        manifest: has them.
        samples: (B,) int64.
        kind: "soft": (B, K) float32; "index": (B,) int64, -1 for none.
    """
    return manifest.targets(samples) if kind == "soft" else manifest.labels[samples].astype(np.int64)


def mix_targets(
    plan: Plan, targets: np.ndarray, classes: Sequence[str] = ()
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """The labels after the ops of a plan, and which clips are mixed.

    Args:
        plan: of the clips.
        targets: (B, K) float32; or (B,) int64, which no mixing changes.
        classes: their names, for label maps that have names.

    Returns:
        The labels; and, where one op can mix clips, the partner of each, (B,) int64, and its own share, (B,) float32.

    Raises:
        TypeError, ValueError: an op returns something else than labels or partners, or does what indices cannot say.
    """
    is_index = targets.ndim == 1
    if is_index:
        check_index_targets("VideoLoader", plan.recipe)
    mixes = []
    for name, op in zip(plan.recipe.names, plan.recipe.ops, strict=True):
        if hasattr(op, "targets") and not is_index and len(plan):
            with naming(name, op, "targets", f"for labels {targets.shape}"):
                mixed = op.targets(plan.args[name], targets)
            targets = _checked_targets(name, mixed, targets.shape)
        if getattr(op, "label_map", None) and targets.size:
            number = None if is_index else targets.shape[1]
            pairs = class_pairs(f"label_map of {name}", op.label_map, classes, number)
            targets = trade(targets, op.applied(plan.args[name]), pairs)
        if hasattr(op, "mixed_with"):
            mixes.append(_mix_of(name, op, plan.args[name], len(plan)))
    return targets, mixes[0] if len(mixes) == 1 else None


def _checked_targets(name, targets, shape):
    """What an op returned as labels: (B, K) float32."""
    targets = np.asarray(targets)
    if targets.shape != shape or targets.dtype.kind != "f" or not np.isfinite(targets).all():
        raise TypeError(f"{name}.targets must return {shape} finite floats, got {targets.dtype} {targets.shape}")
    return targets.astype(np.float32)


def _mix_of(name: str, op: Any, args: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What an op says of partners: (B,) int64 and (B,) float32."""
    if not size:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    with naming(name, op, "mixed_with", "for the partners of the clips"):
        mix = op.mixed_with(args)
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
