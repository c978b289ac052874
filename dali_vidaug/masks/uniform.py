"""Masks of single tokens, each as likely as any other: the same in all frames (tubes), or in each frame others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dali_vidaug.masks.choose import random_subset
from dali_vidaug.masks.grid import Grid, check_ratio, check_some, check_token

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws


@dataclass(frozen=True)
class TubeMask:
    """Tubes: the same random tokens in every frame, as VideoMAE pre-trains with.

    Of the tokens of one frame ``int(ratio * tokens)`` are masked: 176 of 196 with the defaults and frames of 224 x 224.

    Attributes:
        ratio: share of masked tokens, (0, 1).
        patch: pixels of a token: a side, or (height, width).
        tubelet: frames of a token.

    Raises:
        ValueError: an option is out of range.
    """

    ratio: float = 0.9
    patch: int | tuple[int, int] = 16
    tubelet: int = 2

    def __post_init__(self):
        check_ratio(self, "ratio")
        check_token(self)

    def draw(self, draws: Draws, grid: Grid) -> np.ndarray:
        """(B, *grid) bool.

        Raises:
            ValueError: the grid has so few tokens that none or all would be masked.
        """
        count = int(self.ratio * grid.per_frame)
        check_some(self, f"ratio {self.ratio}", count, grid.per_frame, "a frame")
        one = random_subset(draws, "tokens", count, grid.per_frame).reshape(-1, 1, grid.height, grid.width)
        return np.repeat(one, grid.frames, axis=1)


@dataclass(frozen=True)
class RandomMask:
    """Random tokens of all frames, as MAE for video has them.

    Of all tokens ``int(ratio * tokens)`` are masked (VideoMAE, InternVideo2: 1411 of 1568), or with ``keep`` instead of
    ``ratio``, ``int(keep * tokens)`` are left (SlowFast's MAE: 156 of 1568).

    Attributes:
        ratio: share of masked tokens, (0, 1); None with ``keep``. Default: 0.9.
        keep: share of tokens that are left, (0, 1), or None.
        patch: pixels of a token: a side, or (height, width).
        tubelet: frames of a token.

    Raises:
        ValueError: an option is out of range, or both ratio and keep are given.
    """

    ratio: float | None = None
    keep: float | None = None
    patch: int | tuple[int, int] = 16
    tubelet: int = 2

    def __post_init__(self):
        if self.ratio is not None and self.keep is not None:
            raise ValueError(
                f"RandomMask: either ratio or keep can be given, got ratio {self.ratio!r} and keep {self.keep!r}"
            )
        if self.ratio is None and self.keep is None:
            object.__setattr__(self, "ratio", 0.9)
        check_ratio(self, "ratio" if self.keep is None else "keep")
        check_token(self)

    def draw(self, draws: Draws, grid: Grid) -> np.ndarray:
        """(B, *grid) bool.

        Raises:
            ValueError: the grid has so few tokens that none or all would be masked.
        """
        total = grid.size
        count = int(self.ratio * total) if self.ratio is not None else total - int((self.keep or 0) * total)
        share = f"ratio {self.ratio}" if self.keep is None else f"keep {self.keep}"
        check_some(self, share, count, total, "a clip")
        return random_subset(draws, "tokens", count, total).reshape(-1, *grid)
