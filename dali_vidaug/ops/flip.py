"""Mirror a clip left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.ops.check import check_probability
from dali_vidaug.rng import Draws

FLIP = np.dtype([("mirrored", "i4")])  # 1: left and right are swapped in every frame; 0: not


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Mirror all frames of a clip with probability ``probability``.

    Raises:
        ValueError: probability is not in [0, 1].
    """

    probability: float = 0.5

    ARGS = FLIP
    mirrors = True

    def __post_init__(self):
        check_probability("RandomHorizontalFlip", self.probability)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) FLIP."""
        args = np.zeros(len(draws), FLIP)
        args["mirrored"] = draws.uniform("apply") < self.probability
        return args

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """A flip in DALI's graph."""
        return fn.flip(clips, horizontal=args["mirrored"], vertical=0)

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the clip is mirrored."""
        return args["mirrored"] != 0
