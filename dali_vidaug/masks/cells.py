"""Cells of 2 x 2 tokens in which the masked ones move on from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dali_vidaug.masks.grid import Grid, check_ratio, check_token

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws

_SIDE = 2


@dataclass(frozen=True)
class RunningCellMask:
    """Running cells: every cell of 2 x 2 tokens is masked alike, and one token further in the next frame.

    VideoMAE V2 drops the masked tokens from its decoder. ``int(4 * ratio)`` tokens of each cell are masked, in a row
    (row by row, and from the last token to the first); where they begin in the first frame is random, for each clip.

    Attributes:
        ratio: share of masked tokens, [0.25, 1).
        patch: pixels of a token: a side, or (height, width).
        tubelet: frames of a token.

    Raises:
        ValueError: an option is out of range.
    """

    ratio: float = 0.5
    patch: int | tuple[int, int] = 16
    tubelet: int = 2

    def __post_init__(self):
        check_ratio(self, "ratio")
        if self.ratio < 1 / _SIDE**2:
            raise ValueError(f"RunningCellMask: ratio must be in [0.25, 1): 1, 2 or 3 of 4 tokens, got {self.ratio!r}")
        check_token(self)

    def draw(self, draws: Draws, grid: Grid) -> np.ndarray:
        """(B, *grid) bool.

        Raises:
            ValueError: the grid has an odd side, so that cells do not divide it.
        """
        if grid.height % _SIDE or grid.width % _SIDE:
            raise ValueError(
                f"RunningCellMask: cells of 2 x 2 tokens do not divide a grid of {grid.height} x {grid.width} tokens"
            )
        size = _SIDE**2
        place = np.arange(size)
        cells = ((place + place[:, None]) % size < int(size * self.ratio)).reshape(size, _SIDE, _SIDE)  # of each phase
        phases = (draws.integers("phase", size)[:, None] + np.arange(grid.frames)) % size
        return np.tile(cells[phases], (1, 1, grid.height // _SIDE, grid.width // _SIDE))
