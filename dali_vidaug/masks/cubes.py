"""Cuboids of random sizes and places, added until enough is masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dali_vidaug.masks.grid import Grid, check_ratio, check_token
from dali_vidaug.ops.check import check_range, make_plain

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws

_MISSES_MAX = 100  # in a row, before the masking of a clip ends
_TRIES = 64  # drawn at a time
_LEAST_SHARE = 5  # a block has at least a fifth of a frame's tokens


@dataclass(frozen=True)
class CubeMask:
    """Cuboids of random sizes, one after the other, until the wanted share is masked. As MaskFeat pre-trains with.

    A cuboid has a random area, height / width and number of frames; it is added if it is lower and narrower than the
    grid, masks a token more, and not too many. After 100 in a row that do not, the rest is left out: so at most
    ``round(ratio * tokens)`` are masked, 157 of 392 with the defaults and clips of 16 x 224 x 224, and a few less in
    some clips.

    Attributes:
        ratio: share of masked tokens, (0, 1).
        area: tokens of a cuboid in a frame, (low, high), uniform; None: from a fifth, rounded down, to all of a frame:
            9 to 49 of 7 x 7.
        aspect: height / width of a cuboid, (low, high), uniform on a logarithmic scale.
        patch: pixels of a token: a side, or (height, width).
        tubelet: frames of a token.

    Raises:
        ValueError: an option is out of range.
    """

    ratio: float = 0.4
    area: tuple[float, float] | None = None
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    patch: int | tuple[int, int] = 32
    tubelet: int = 2

    def __post_init__(self):
        check_ratio(self, "ratio")
        if self.area is not None:
            check_range("CubeMask", "area", self.area)
        check_range("CubeMask", "aspect", self.aspect)
        make_plain(self, "area", "aspect")
        check_token(self)

    def draw(self, draws: Draws, grid: Grid) -> np.ndarray:
        """(B, *grid) bool.

        Raises:
            ValueError: the grid has so few tokens that no cuboid would be masked.
        """
        wanted = self._check_sizes(grid)
        clips = [_Masking() for _ in range(len(draws))]
        at, first = np.arange(len(draws)), 0
        while len(at):
            cuboids = self._cuboids(draws.part(at), f"cuboids.{first}", grid)
            for i, tries in zip(at.tolist(), cuboids, strict=True):
                clips[i].add(tries, wanted)
            at, first = at[[not clips[i].ended for i in at.tolist()]], first + _TRIES
        size = -(-grid.size // 8)
        masked = np.array([np.frombuffer(clip.tokens.to_bytes(size, "little"), np.uint8) for clip in clips], np.uint8)
        bits = np.unpackbits(masked.reshape(len(clips), size), axis=1, count=grid.size, bitorder="little")
        return bits.astype(bool).reshape(-1, *grid)

    def _check_sizes(self, grid: Grid) -> int:
        """How many tokens are masked at most; refuse a grid on which there may be no cuboid."""
        wanted, (low, _), (wide, tall) = round(self.ratio * grid.size), self._area(grid), self.aspect
        # Up to one aspect the smallest are lower than the grid, and from another on narrower.
        lower, narrower = (grid.height - 0.5) ** 2 / max(low, 1), max(low, 1) / (grid.width - 0.5) ** 2
        if wanted < max(low, 1) or max(wide, narrower) >= min(tall, lower):
            raise ValueError(
                f"CubeMask: {wanted} of {grid.size} tokens are to be masked, but no cuboid of {low:g} in a frame and "
                f"aspect {wide:.3g} to {tall:.3g} is that small, and lower and narrower than a grid of {grid.height} x "
                f"{grid.width}"
            )
        return wanted

    def _area(self, grid: Grid) -> tuple[float, float]:
        return self.area or (grid.per_frame // _LEAST_SHARE, grid.per_frame)

    def _cuboids(self, draws: Draws, purpose: str, grid: Grid) -> list[list[int]]:
        """Random cuboids for each clip, as numbers of which bit n is set if token n is in it; 0 for one too large."""
        area, aspect, frames, start, top, left = np.moveaxis(
            draws.uniform(purpose, n=_TRIES * 6).reshape(len(draws), _TRIES, 6), 2, 0
        )
        low, high = self._area(grid)
        tokens, (wide, tall) = low + (high - low) * area, np.log(self.aspect)
        aspect = np.exp(wide + (tall - wide) * aspect)
        height, width = (np.rint(np.sqrt(side)).astype(np.int64) for side in (tokens * aspect, tokens / aspect))
        fits = (height < grid.height) & (width < grid.width)
        height, width = height * fits, width * fits
        frames = 1 + (frames * grid.frames).astype(np.int64)
        first = (start * (grid.frames - frames + 1)).astype(np.int64) * grid.height
        first = (first + (top * (grid.height - height + 1)).astype(np.int64)) * grid.width
        first += (left * (grid.width - width + 1)).astype(np.int64)
        columns = [_repeated(grid.width, count) for count in range(grid.height)]
        copies = [_repeated(grid.per_frame, count) for count in range(grid.frames + 1)]
        parts = (array.tolist() for array in (frames, height, width, first))
        return [
            [(((1 << w) - 1) * columns[h] * copies[f]) << place for f, h, w, place in zip(*tries, strict=True)]
            for tries in zip(*parts, strict=True)
        ]


def _repeated(distance: int, count: int) -> int:
    """A number of which ``count`` bits are set, each ``distance`` above the one before."""
    return sum(1 << distance * k for k in range(count))


class _Masking:
    """The tokens of a clip that are masked so far.

    Attributes:
        tokens: bit n is set if token n is.
        ended: whether nothing more is added.
    """

    def __init__(self) -> None:
        self.tokens, self.ended = 0, False
        self._misses = 0

    def add(self, cuboids: Any, wanted: int) -> None:
        """Add those cuboids that suit, in order, until ``wanted`` tokens are masked or too many did not suit."""
        left = wanted - self.tokens.bit_count()
        for cuboid in cuboids:
            new = (cuboid & ~self.tokens).bit_count()
            self._misses += 1
            if 0 < new <= left:
                self.tokens |= cuboid
                left, self._misses = left - new, 0
            if not left or self._misses == _MISSES_MAX:
                self.ended = True
                return
