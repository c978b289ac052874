"""A choice between ops that mix or erase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.ops import blend
from dali_vidaug.ops.blend import BLEND
from dali_vidaug.ops.check import are_numbers, check_choice
from dali_vidaug.ops.mix import CubeCutMix, FadeMixUp
from dali_vidaug.ops.names import op_names
from dali_vidaug.rng import Draws


@dataclass(frozen=True)
class OneOf:
    """Apply one of several ops that mix or erase. The probability of the chosen op still holds.

    Attributes:
        ops: ``Mix`` in all its families, ``RandomErasing``, ``Cutout`` and their relatives.
        weights: how likely each is, relative to the others; None: all the same.
        granularity: whether the choice is made for each "clip" or once for the "batch".

    Raises:
        ValueError: an option is out of range, or an op is none of these.
    """

    ops: tuple[Any, ...] = (CubeCutMix(), FadeMixUp())
    weights: tuple[float, ...] | None = None
    granularity: str = "clip"

    ARGS = BLEND
    blends = True
    run, check, describe, applied = blend.run, blend.check, blend.describe, blend.applied
    targets, mixed_with, partner_share = blend.targets, blend.mixed_with, blend.partner_share
    moves_pixels = False

    def __post_init__(self):
        if not isinstance(self.ops, (tuple, list)):
            raise ValueError(f"OneOf: ops must be a tuple of ops that mix or erase, got {self.ops!r}")
        object.__setattr__(self, "ops", tuple(self.ops))
        strange = [op for op in self.ops if isinstance(op, type) or not getattr(op, "blends", False)]
        if strange or not self.ops:
            raise ValueError(f"OneOf: ops must be ops that mix or erase, got {strange or self.ops}")
        if self.weights is not None:
            if not (are_numbers(self.weights, len(self.ops), 0, 1e9) and sum(self.weights) > 0):
                raise ValueError(
                    f"OneOf: weights must be {len(self.ops)} numbers in [0, 1e9], not all 0, got {self.weights!r}"
                )
            object.__setattr__(self, "weights", tuple(self.weights))
        check_choice("OneOf", "granularity", self.granularity, ("clip", "batch"))

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) BLEND: each row is that of the op that was chosen. All ops draw."""
        rows = np.empty(len(draws), BLEND)
        choice = self._choice(draws)
        for i, drawn in enumerate(self._drawn(draws, frames, height, width)):
            rows[choice == i] = drawn[choice == i]
        return rows

    def chosen(self, draws: Draws, args: np.ndarray) -> list[str | None]:
        """For each clip the name of the op that was chosen; None where a row is not as it was drawn."""
        names, choice = op_names(self.ops), self._choice(draws)
        others = [field for field in BLEND.names or () if field != "partner"]  # which depends on the whole batch
        result: list[str | None] = [None] * len(args)
        try:
            candidates = list(self._drawn(draws, *(args[field] for field in ("frames", "height", "width"))))
        except ValueError:  # rows that were edited
            return result
        for i in range(len(args)):
            drawn = candidates[choice[i]][i]
            if all((drawn[field] == args[i][field]).all() for field in others):
                result[i] = names[choice[i]]
        return result

    def _choice(self, draws):
        """(B,) which of the ops."""
        common = draws if self.granularity == "clip" else draws.of_batch()
        weights = np.cumsum(self.weights or [1.0] * len(self.ops))
        choice = np.searchsorted(weights, common.uniform("choice", 0, weights[-1]), side="right")
        return np.broadcast_to(choice, len(draws))

    def _drawn(self, draws, frames, height, width):
        """What each of the ops draws."""
        for name, op in zip(op_names(self.ops), self.ops, strict=True):
            yield op.draw(draws.named(f"{draws.prefix}.{name}"), frames, height, width)
