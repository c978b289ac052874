"""Masks that follow what moves in a clip, by the motion vectors of its video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from dali_vidaug.masks.grid import Grid, check_ratio, check_some, check_token, patch_sides

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws

_ASPECT_MAX = 2.0  # of a box
_ROUNDS = 2  # of moving a box to the middle of what moves in it


class ClipMotion(NamedTuple):
    """What moves in the clips that masks are drawn for.

    Attributes:
        vectors: (B, 2, F, h, w) float32, of each cell of ``cell`` x ``cell`` pixels: how many pixels of the clip it
            moves to the right and down per frame of the video; NaN where that is not known.
        frames: (B, F), positions of the clips' frames in their videos.
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
        vectors, times = self._of_tokens(grid, motion)
        boxes = _box_sizes(draws, count, grid)
        centres = _follow(draws, grid, boxes, vectors, times)
        return _nearest(grid, boxes, centres, count)

    def _of_tokens(self, grid, motion):
        """By how many tokens each moves down and to the right per frame, (B, T, 2, H, W); times, (B, T)."""
        sides, shape = patch_sides(self), (len(motion.vectors), 2, grid.frames, self.tubelet)
        vectors = motion.vectors.reshape(*shape, *motion.vectors.shape[3:])[:, ::-1]
        known = ~np.isnan(vectors)
        total = np.where(known, vectors, np.float64(0)).sum(3)
        number = known.sum(3, dtype=np.float64)
        if sides == (motion.cell, motion.cell):  # each token is a cell
            total, number = (each[..., : grid.height, : grid.width] for each in (total, number))
        else:
            down, across = map(_overlaps, grid[1:], sides, (motion.cell,) * 2, vectors.shape[4:])
            total, number = (down @ each @ across.T for each in (total, number))
        with np.errstate(invalid="ignore"):  # 0 / 0: not known
            mean = total / number / np.array(sides).reshape(2, 1, 1, 1)
        return mean.swapaxes(1, 2), motion.frames.reshape(len(mean), grid.frames, self.tubelet).mean(2)


def _overlaps(number: int, side: int, cell: int, cells: int) -> np.ndarray:
    """How many pixels ``number`` tokens of ``side`` pixels have in common with cells of ``cell``: (number, cells)."""
    tokens, others = np.arange(number)[:, None] * side, np.arange(cells) * cell
    return np.maximum(np.minimum(tokens + side, others + cell) - np.maximum(tokens, others), 0).astype(np.float64)


def _box_sizes(draws: Draws, count: int, grid: Grid) -> np.ndarray:
    """How high and wide each box is, (B, 2) tokens: as many tokens as are masked, of a random shape that fits."""
    aspect = draws.uniform("aspect", 1, _ASPECT_MAX)
    aspect = np.where(draws.integers("upright", 2) > 0, aspect, 1 / aspect)
    height = np.clip(np.sqrt(count * aspect), count / grid.width, grid.height)
    return np.stack([height, count / height], 1)


def _follow(draws, grid, boxes, vectors, times):
    """The centre of each box in each frame of the grid, (B, T, 2)."""
    places = np.stack(np.meshgrid(np.arange(grid.height) + 0.5, np.arange(grid.width) + 0.5, indexing="ij"))
    usual, known = _usual(vectors), ~np.isnan(vectors)
    apart = np.where(known, vectors - usual[..., None, None], 0)
    vectors = np.where(known, vectors, 0)
    weights = np.sqrt((apart**2).sum(2))  # (B, T, H, W)
    moves = weights.any((2, 3))
    first = moves.argmax(1)
    at = np.arange(len(weights))
    centre = _start(draws, boxes, places, weights[at, first])
    centres, speed = np.empty((*times.shape, 2)), np.zeros((len(at), 2))
    for t in range(grid.frames):
        begun = (t >= first)[:, None]  # before anything moves, the box is where it will begin
        for _ in range(_ROUNDS):
            middle, total = _mean_inside(boxes, centre, weights[:, t], places)
            centre = np.where(begun & (total > 0), middle, centre)
        centre = np.minimum(np.maximum(centre, boxes / 2), np.array(grid[1:]) - boxes / 2)
        centres[:, t] = centre
        mean, total = _mean_inside(boxes, centre, weights[:, t], vectors[:, t])
        usually = np.where(np.isnan(usual[:, t]), speed, usual[:, t])  # of a key frame: as before
        speed = np.where(total > 0, mean, usually)
        if t + 1 < grid.frames:
            centre = np.where(begun, centre + speed * (times[:, t + 1] - times[:, t])[:, None], centre)
    return centres


def _usual(vectors):
    """How most of a frame moves: the median of each component, (B, T, 2); NaN where nothing is known."""
    flat = np.sort(vectors.reshape(*vectors.shape[:3], -1), -1)  # NaN last
    middle = np.maximum((~np.isnan(flat)).sum(-1) - 1, 0) // 2
    return np.take_along_axis(flat, middle[..., None], -1)[..., 0]


def _start(draws, boxes, places, weights):
    """Where each box begins: a token, as likely as it moves much; any, where nothing moves."""
    flat = weights.reshape(len(weights), -1)
    flat = np.where(flat.any(1)[:, None], flat, 1.0)
    until = np.cumsum(flat, 1)
    sought = draws.uniform("start") * until[:, -1]
    chosen = np.minimum((until <= sought[:, None]).sum(1), flat.shape[1] - 1)
    return places.reshape(2, -1)[:, chosen].T


def _mean_inside(boxes, centre, weights, values):
    """The weighted mean of values (B, 2, H, W), or (2, H, W), within the boxes, (B, 2); the weights' sum, (B, 1)."""
    height, width = weights.shape[1:]
    places = np.arange(max(height, width)) + 0.5
    near = np.abs(places - centre[..., None]) <= boxes[..., None] / 2  # (B, 2, rows or columns)
    inside = weights * (near[:, 0, :height, None] & near[:, 1, None, :width])
    total = inside.sum((1, 2))[:, None]
    return (inside[:, None] * values).sum((2, 3)) / np.maximum(total, 1e-12), total


def _nearest(grid, boxes, centres, count):
    """The ``count`` tokens of each frame that are nearest to the centre of the box, in its own measure."""
    rows, columns = np.arange(grid.height) + 0.5, np.arange(grid.width) + 0.5
    down = np.abs(rows - centres[..., :1]) / boxes[:, None, :1]
    across = np.abs(columns - centres[..., 1:]) / boxes[:, None, 1:]
    far = np.maximum(down[..., :, None], across[..., None, :]).reshape(*centres.shape[:2], -1)
    least = np.partition(far, count - 1, -1)[..., count - 1 : count]  # how far the last one is that is masked
    nearer, alike = far < least, far == least
    wanted = count - nearer.sum(-1, keepdims=True)  # of those as far as the last one: the first
    return (nearer | (alike & (alike.cumsum(-1) <= wanted))).reshape(-1, *grid)
