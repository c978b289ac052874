"""Blocks of one size at several random places of a clip, whose union is masked."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from dali_vidaug.masks.grid import Grid, check_token, is_whole
from dali_vidaug.ops.check import check_range, check_share, make_plain

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws

_BLOCKS_MAX = 1000
_TRIES_MAX = 1000  # for a clip whose blocks cover all tokens


@dataclass(frozen=True)
class MultiBlockMask:
    """Blocks at random places: their union is masked (the target), the rest is visible (the context). As in V-JEPA 2.

    All blocks of a training step have one size, on all ranks; where they are is drawn for each clip. A clip that is
    covered wholly is drawn anew. V-JEPA 2 has two such masks, of 8 blocks of 0.15 and 2 of 0.7.

    How many tokens are masked differs from clip to clip; ``batch.tokens`` makes lists of one length.

    Attributes:
        num_blocks: how many, [1, 1000]; they may overlap.
        scale: share of a frame's tokens in a block, (0, 1]: a number, or (low, high) to draw from.
        temporal_scale: share of the frames in a block, likewise.
        aspect: height / width of a block, (low, high).
        patch: pixels of a token: a side, or (height, width).
        tubelet: frames of a token.

    Raises:
        ValueError: an option is out of range.
    """

    num_blocks: int = 8
    scale: float | tuple[float, float] = 0.15
    temporal_scale: float | tuple[float, float] = 1.0
    aspect: tuple[float, float] = (0.75, 1.5)
    patch: int | tuple[int, int] = 16
    tubelet: int = 2

    def __post_init__(self):
        if not is_whole(self.num_blocks, 1, _BLOCKS_MAX):
            raise ValueError(
                f"MultiBlockMask: num_blocks must be an int in [1, {_BLOCKS_MAX}], got {self.num_blocks!r}"
            )
        make_plain(self, "num_blocks", "scale", "temporal_scale", "aspect")
        for field in ("scale", "temporal_scale"):
            check_share("MultiBlockMask", field, getattr(self, field))
            if not _pair(getattr(self, field))[0] > 0:
                raise ValueError(f"MultiBlockMask: {field} must be above 0, got {getattr(self, field)!r}")
        check_range("MultiBlockMask", "aspect", self.aspect)
        check_token(self)

    def draw(self, draws: Draws, grid: Grid) -> np.ndarray:
        """(B, *grid) bool.

        Raises:
            ValueError: a block may be as large as the whole grid, or smaller than a token; or so many large blocks
                leave no token.
        """
        self._check_sizes(grid)
        size = self.block_size(draws, grid)
        masked = np.empty((len(draws), *grid), bool)
        at = np.arange(len(draws))
        for attempt in range(_TRIES_MAX):
            masked[at] = self._union(draws.part(at), f"{attempt}." if attempt else "", grid, size)
            at = at[masked[at].all((1, 2, 3))]
            if not len(at):
                return masked
        raise ValueError(
            f"MultiBlockMask: {self.num_blocks} blocks of {_text(size)} tokens cover all of a grid of {_text(grid)} in "
            f"{_TRIES_MAX} tries; take fewer or smaller ones"
        )

    def block_size(self, draws: Draws, grid: Grid) -> Grid:
        """The size in tokens of the blocks of a step.

        Args:
            draws: of any of its clips.
            grid: of the tokens of a clip.
        """
        temporal, spatial, shape = draws.of_step().uniform("size", n=3)[0].tolist()
        scale = _between(self.scale, spatial)
        height, width = _sides(int(grid.per_frame * scale), _between(self.aspect, shape))
        frames = max(1, int(grid.frames * _between(self.temporal_scale, temporal)))
        return Grid(frames, min(height, grid.height), min(width, grid.width))

    def _union(self, draws: Draws, attempt: str, grid: Grid, size: Grid) -> np.ndarray:
        """The tokens in any block of each clip: (B, *grid) bool."""
        covered = []  # by each block, along each axis: (B, blocks, side)
        for name, side, length in zip(("start", "top", "left"), grid, size, strict=True):
            first = draws.integers(f"{attempt}{name}", side - length + 1, n=self.num_blocks)[..., None]
            covered.append((first <= np.arange(side)) & (np.arange(side) < first + length))
        masked = np.zeros((len(draws), *grid), bool)
        for k in range(self.num_blocks):
            start, top, left = (axis[:, k] for axis in covered)
            masked |= start[:, :, None, None] & (top[:, :, None] & left[:, None, :])[:, None]
        return masked

    def _check_sizes(self, grid: Grid) -> None:
        """Refuse options by which a block may have no token, or all."""
        (low, high), (wide, tall) = _pair(self.scale), self.aspect
        fewest, most = int(grid.per_frame * low), int(grid.per_frame * high)
        if not fewest or not min(_sides(fewest, wide)[0], _sides(fewest, tall)[1]):
            raise ValueError(
                f"MultiBlockMask: a block of scale {low:g} and aspect {wide:g} to {tall:g} may be less than a token of "
                f"{grid.height} x {grid.width}"
            )
        # It covers all rows from one aspect on, and all columns up to another.
        rows, columns = (grid.height - 0.5) ** 2 / most, most / (grid.width - 0.5) ** 2
        covers = max(rows, wide) <= min(columns, tall)
        if covers and max(1, int(grid.frames * _pair(self.temporal_scale)[1])) == grid.frames:
            raise ValueError(
                f"MultiBlockMask: a block of scale {high:g} and temporal_scale {_pair(self.temporal_scale)[1]:g} may "
                f"cover all of a grid of {_text(grid)} tokens, which leaves no context"
            )


def _pair(value: Any) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)


def _between(value, share):
    low, high = _pair(value)
    return low + share * (high - low)


def _sides(tokens, aspect):
    """Height and width of a block of about so many tokens; halves are rounded to even."""
    return round(sqrt(tokens * aspect)), round(sqrt(tokens / aspect))


def _text(size):
    return " x ".join(map(str, size))
