"""Masks that follow what moves in a clip, by the motion vectors of its video."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from dali_vidaug.kernels import library
from dali_vidaug.masks.grid import Grid, check_ratio, check_some, check_token, patch_sides

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws

_ASPECT_MAX = 2.0  # of a box


class ClipMotion(NamedTuple):
    """What moves in the clips that masks are drawn for, in the first frame of each of the T tubelets.

    Attributes:
        vectors: (B, 2, T, h, w) float32, of each cell of ``cell`` x ``cell`` pixels: how many pixels of the clip it
            moves to the right and down per frame of the video; NaN where that is not known.
        frames: (B, T), positions of these frames in their videos.
        cell: pixels.
    """

    vectors: np.ndarray
    frames: np.ndarray
    cell: int


@dataclass(frozen=True)
class MotionMask:
    """In each frame a box, which follows what moves, after MGM (Fan et al., ICCV 2023, arXiv 2308.12962).

    A box begins where much moves, drawn at random, and goes with it: by the motion vectors of the video, and to the
    middle of what moves in it. In each frame of the grid ``int(ratio * tokens)`` are masked, neither more nor fewer.
    What moves in a token is what moves in the first frame of its tubelet.
    Motion is that against most of the frame, so that a camera which pans does not count. Where nothing is known to
    move, the box is anywhere, and rests. docs/motion.md has the definition. A loader reads the motion by itself.

    Attributes:
        ratio: share of masked tokens, (0, 1).
        patch: pixels of a token: a side, or (height, width).
        tubelet: frames of a token.

    Raises:
        ValueError: an option is out of range.
    """

    ratio: float = 0.75
    patch: int | tuple[int, int] = 16
    tubelet: int = 2

    after_decoding: ClassVar[bool] = True  # drawn when what moves is known

    def __post_init__(self):
        check_ratio(self, "ratio")
        check_token(self)

    def draw(self, draws: Draws, grid: Grid, motion: ClipMotion) -> np.ndarray:
        """(B, *grid) bool.

        Args:
            draws: random numbers of B clips.
            grid: of the tokens of a clip.
            motion: of the clips.

        Raises:
            ValueError: the grid has so few tokens that none or all would be masked.
        """
        count = int(self.ratio * grid.per_frame)
        check_some(self, f"ratio {self.ratio}", count, grid.per_frame, "a frame")
        moved, times = self._of_tokens(grid, motion)
        aspect, upright, start = draws.uniforms("aspect", "upright", "start")
        boxes = _box_sizes(aspect, upright, count, grid)
        masked = np.empty((len(draws), *grid), bool)
        arrays = [np.ascontiguousarray(each, np.float64) for each in (moved, times, boxes, start)]
        places = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, masked)]
        library().follow_motion(*places[:4], *map(ctypes.c_int64, (*moved.shape[:1], *grid, count)), places[4])
        return masked

    def _of_tokens(self, grid, motion):
        """By how many tokens each moves down and to the right per frame, (B, 2, T, H, W); times, (B, T)."""
        sides, moved = patch_sides(self), motion.vectors[:, ::-1].astype(np.float64)
        if sides == (motion.cell, motion.cell):  # each token is a cell
            moved = moved[..., : grid.height, : grid.width]
        else:
            known = ~np.isnan(moved)
            down, across = map(_overlaps, grid[1:], sides, (motion.cell,) * 2, moved.shape[3:])
            total, number = (down @ each @ across.T for each in (np.where(known, moved, 0), known.astype(np.float64)))
            with np.errstate(invalid="ignore"):  # 0 / 0: not known
                moved = total / number
        return moved / np.array(sides).reshape(2, 1, 1, 1), motion.frames.astype(np.float64)


def _overlaps(number: int, side: int, cell: int, cells: int) -> np.ndarray:
    """How many pixels ``number`` tokens of ``side`` pixels have in common with cells of ``cell``: (number, cells)."""
    tokens, others = np.arange(number)[:, None] * side, np.arange(cells) * cell
    return np.maximum(np.minimum(tokens + side, others + cell) - np.maximum(tokens, others), 0).astype(np.float64)


def _box_sizes(aspect: np.ndarray, upright: np.ndarray, count: int, grid: Grid) -> np.ndarray:
    """How high and wide each box is, (B, 2) tokens: as many tokens as are masked, of a random shape that fits.

    Args:
        aspect, upright: (B,) random numbers in [0, 1).
        count: of masked tokens of a frame.
        grid: of a clip.
    """
    aspect = 1 + (_ASPECT_MAX - 1) * aspect
    aspect = np.where(upright >= 0.5, aspect, 1 / aspect)
    height = np.clip(np.sqrt(count * aspect), count / grid.width, grid.height)
    return np.stack([height, count / height], 1)
