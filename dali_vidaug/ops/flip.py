"""Mirror a clip left to right."""

from dataclasses import dataclass

import numpy as np

FLIP = np.dtype([("mirrored", "i4")])  # 1: left and right change places in every frame; 0: not


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Mirror all frames of a clip with probability ``probability``.

    Raises:
        ValueError: probability is not in [0, 1].
    """

    probability: float = 0.5

    ARGS = FLIP

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"RandomHorizontalFlip: probability must be in [0, 1], got {self.probability}")

    def draw(self, draws, frames, height, width):
        """(B,) FLIP."""
        args = np.zeros(len(draws), FLIP)
        args["mirrored"] = draws.uniform("apply") < self.probability
        return args

    def build(self, fn, clips, args):
        return fn.flip(clips, horizontal=args["mirrored"], vertical=0)
