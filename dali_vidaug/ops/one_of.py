"""A choice between ops that mix or erase."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.ops.blend import BLEND, build_blend, describe_blend, mix_targets, mixed_with
from dali_vidaug.ops.mix import CubeCutMix, FadeMixUp


def op_names(ops):
    """A name for each op: its ``name`` or its class's, then _2, _3, ... Draws are addressed by it."""
    seen: dict[str, int] = {}
    names = []
    for op in ops:
        word = getattr(op, "name", type(op).__name__)
        seen[word] = seen.get(word, 0) + 1
        names.append(word if seen[word] == 1 else f"{word}_{seen[word]}")
    return names


@dataclass(frozen=True)
class OneOf:
    """Apply one of several ops that mix or erase. Whether it does anything is for the op's probability to say.

    Attributes:
        ops: ``Mix`` in all its families, ``RandomErasing``, ``Cutout`` and their relatives.
        weights: how likely each is, in relation to the others; None: all the same.
        granularity: the choice is made for each "clip", or for the "batch".

    Raises:
        ValueError: an option is out of range, or an op is none of these.
    """

    ops: tuple[Any, ...] = (CubeCutMix(), FadeMixUp())
    weights: tuple[float, ...] | None = None
    granularity: str = "clip"

    ARGS = BLEND

    def __post_init__(self):
        object.__setattr__(self, "ops", tuple(self.ops))
        strange = [op for op in self.ops if getattr(op, "ARGS", None) is not BLEND or isinstance(op, type)]
        if strange or not self.ops:
            raise ValueError(f"OneOf: ops must be ops that mix or erase, got {strange or self.ops}")
        if self.weights is not None:
            object.__setattr__(self, "weights", tuple(self.weights))
            good = len(self.weights) == len(self.ops) and all(0 <= w < float("inf") for w in self.weights)
            if not (good and sum(self.weights) > 0):
                raise ValueError(f"OneOf: weights must be {len(self.ops)} numbers >= 0, not all 0, got {self.weights}")
        if self.granularity not in ("clip", "batch"):
            raise ValueError(f"OneOf: granularity must be 'clip' or 'batch', got {self.granularity!r}")

    def draw(self, draws, frames, height, width):
        """(B,) BLEND: each row is that of the op that was chosen. All ops draw."""
        common = draws if self.granularity == "clip" else draws.of_batch()
        weights = np.cumsum(self.weights or [1.0] * len(self.ops))
        choice = np.searchsorted(weights, common.uniform("choice", 0, weights[-1]), side="right")
        choice = np.broadcast_to(choice, len(draws))
        rows = np.empty(len(draws), BLEND)
        for i, (name, op) in enumerate(zip(op_names(self.ops), self.ops, strict=True)):
            drawn = op.draw(draws.named(f"{draws.prefix}.{name}"), frames, height, width)
            rows[choice == i] = drawn[choice == i]
        return rows

    def build(self, fn, clips, args):
        return build_blend(fn, clips, args)

    def mix_targets(self, args, targets):
        """(B, K) float32: the labels of the mixed clips, from theirs before."""
        return mix_targets(args, targets)

    def mixed_with(self, args):
        """Partner (B,) int64 and own share (B,) of each clip."""
        return mixed_with(args)

    def describe(self, row):
        """A row as lines of text."""
        return describe_blend(row)
