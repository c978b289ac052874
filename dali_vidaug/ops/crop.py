"""Crop and resize: RandomResizedCrop (Szegedy et al. 2015, as in torchvision), Resize, CenterCrop; one box a clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dali_vidaug import geometry
from dali_vidaug.ops.check import check_choice, check_range, check_size
from dali_vidaug.ops.shift import check_shift, describe_shift, shift_rows
from dali_vidaug.ops.warp import matrices as warp_matrices
from dali_vidaug.ops.warp import warp
from dali_vidaug.rng import Draws

CROP = np.dtype(
    [  # the box [top, bottom) x [left, right) of the frame, in pixels, is scaled to out_height x out_width
        ("top", "i4"),
        ("left", "i4"),
        ("bottom", "i4"),
        ("right", "i4"),
        ("out_height", "i4"),
        ("out_width", "i4"),
    ]
)
_TRIES = 10


def crop_rows(
    top: np.ndarray, left: np.ndarray, height: Any, width: Any, out_height: Any, out_width: Any
) -> np.ndarray:
    """(B,) CROP: boxes of height x width, scaled to out_height x out_width."""
    args = np.zeros(len(top), CROP)
    args["top"], args["left"] = top, left
    args["bottom"], args["right"] = top + height, left + width
    args["out_height"], args["out_width"] = out_height, out_width
    return args


def check_crops(name: str, args: np.ndarray, sizes: np.ndarray) -> None:
    """Refuse boxes (B,) CROP of an op that are not inside frames of ``sizes``, (B, 3): frames, height, width."""
    top, left, bottom, right = (args[field].astype(np.int64) for field in ("top", "left", "bottom", "right"))
    inside = (
        (0 <= top) & (top < bottom) & (bottom <= sizes[:, 1]) & (0 <= left) & (left < right) & (right <= sizes[:, 2])
    )
    if not inside.all():
        i = int(inside.argmin())
        raise ValueError(
            f"{name}: the box of clip {i}, rows [{top[i]}, {bottom[i]}) and columns [{left[i]}, {right[i]}), is not in "
            f"its {sizes[i, 1]}x{sizes[i, 2]} frames (height x width)"
        )


def crop_matrices(
    self: object, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """(B, F, 3, 3) float64, of rows (B,) CROP: the method ``matrices`` of all ops that draw these."""
    names = ("top", "left", "bottom", "right", "out_height", "out_width")
    matrices = geometry.crop(*(args[name] for name in names))
    return np.repeat(matrices[:, None], int(np.max(frames, initial=1)), 1)


def both_sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a size that is an int for a square."""
    return size if isinstance(size, tuple) else (size, size)


def check_fits(name: str, draws: Draws, height: np.ndarray, width: np.ndarray, out_height: int, out_width: int) -> None:
    """Refuse a crop of an op that is larger than a frame of (B,) sizes."""
    short = (height < out_height) | (width < out_width)
    if short.any():
        i = int(short.argmax())
        raise ValueError(
            f"{name}: size {out_height}x{out_width} is larger than the {height[i]}x{width[i]} frames "
            f"(height x width) of sample {draws.samples[i]}; put Resize before it"
        )


def build_slice(self: Any, fn: Any, clips: Any, args: Any) -> Any:
    """DALI's slice of the box."""
    return fn.slice(
        clips,
        args["top", "left"],
        args["out_height", "out_width"],
        axis_names="HW",
        normalized_anchor=False,
        normalized_shape=False,
    )


def build_resize(self, fn: Any, clips: Any, args: Any) -> Any:
    """DALI's resize of the box, bilinear and antialiased.

    DALI 2.4 reads outside of frames that are smaller than the box, which may end the process. So the box is cut off
    where an op before may have left smaller frames than it said; the graph refuses such clips when the batch is done.
    """
    start, end = args["top", "left"], args["bottom", "right"]
    if args.sizes_unsure:
        from nvidia.dali import math  # plans are drawn without DALI

        size = fn.cast_like(clips.shape()[1:3], end)
        start, end = math.min(start, size - 1), math.min(end, size)
    return fn.resize(
        clips,
        roi_start=start,
        roi_end=end,
        size=args["out_height", "out_width"],
        antialias=True,
    )


class _UnlessItMoves:
    """An attribute that a crop with ``shift`` does not have: the dtype of its rows depends on the number of frames."""

    def __init__(self, value):
        self._value = value

    def __get__(self, op, owner=None):
        if getattr(op, "shift", False):
            raise AttributeError("a crop that moves has no such attribute")
        return self._value.__get__(op, owner) if callable(self._value) else self._value


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a random box, the same in every frame, and scale it to ``size`` (bilinear, antialiased).

    Ten boxes are drawn and the first that fits is used; when none fits, the largest centred box whose aspect ratio is
    in range. All ten are always drawn. Definition: torchvision's RandomResizedCrop.

    With ``shift`` (SlowFast's ``random_resized_crop_with_shift``) a second box is drawn in the same way, and the crop
    moves and grows evenly from the first box, in the clip's first frame, to the second, in its last. SlowFast rounds
    the box of each frame to pixels; here it is not rounded, so that it does not tremble. Such crops are bilinear
    without antialiasing, as SlowFast's, and are done after decoding.

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).
        scale: area of the box as a fraction of the frame's, uniform in [low, high).
        ratio: width / height of the box, log-uniform in [low, high).
        shift: the box moves.

    Raises:
        ValueError: an option is out of range.
    """

    size: int | tuple[int, int] = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    shift: bool = False

    ARGS = _UnlessItMoves(CROP)
    in_decoder = _UnlessItMoves(True)
    build = _UnlessItMoves(build_resize)

    def __post_init__(self):
        check_size("RandomResizedCrop", self.size, "an int or (height, width)")
        check_range("RandomResizedCrop", "scale", self.scale, highest=1)
        check_range("RandomResizedCrop", "ratio", self.ratio)
        check_choice("RandomResizedCrop", "shift", self.shift, (True, False))

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: a box for each clip of (B,) sizes; or if it moves, (B,) of dtype ``shift.shift_dtype``."""
        boxes = self._draw_boxes(draws, height, width)
        if not self.shift:
            return boxes
        last = self._draw_boxes(draws.named(f"{draws.prefix}.last"), height, width)
        return shift_rows(boxes, last, frames, both_sides(self.size))

    def _draw_boxes(self, draws, height, width):
        frame_height, frame_width = (np.asarray(x, np.int64)[:, None] for x in (height, width))
        area = draws.uniform("area", *self.scale, n=_TRIES) * frame_height * frame_width
        low, high = np.log(self.ratio)
        ratio = np.exp(draws.uniform("ratio", low, high, n=_TRIES))
        tries = np.stack([np.sqrt(area / ratio).round(), np.sqrt(area * ratio).round()], -1).astype(np.int64)
        fits: np.ndarray = (tries >= 1).all(-1) & (tries[..., 0] <= frame_height) & (tries[..., 1] <= frame_width)
        first = fits.argmax(1)
        centred = np.asarray(~fits.any(axis=1))
        box = np.where(centred[:, None], self._fallback(height, width), tries[np.arange(len(draws)), first])
        top = draws.integers("top", height - box[:, 0] + 1)
        left = draws.integers("left", width - box[:, 1] + 1)
        top = np.where(centred, (height - box[:, 0]) // 2, top)
        left = np.where(centred, (width - box[:, 1]) // 2, left)
        return crop_rows(top, left, box[:, 0], box[:, 1], *both_sides(self.size))

    def _fallback(self, height, width):
        """(B, 2): the largest box of each frame with a ratio in range."""
        low, high = self.ratio
        box_height = np.where(width / height < low, np.round(width / low), height)
        box_width = np.where(width / height > high, np.round(height * high), width)
        return np.stack([np.clip(box_height, 1, height), np.clip(box_width, 1, width)], -1).astype(np.int64)

    @property
    def run(self) -> Any:
        """The kernel of a box that moves."""
        if not self.shift:
            raise AttributeError("run")
        return partial(warp, size=both_sides(self.size))

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse boxes that move out of the frame; those that stay are checked as all crops are."""
        if self.shift:
            check_shift(args, both_sides(self.size), frames, height, width)

    def matrices(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B, F, 3, 3) float64."""
        return (warp_matrices if self.shift else crop_matrices)(self, args, frames, height, width)

    @property
    def describe(self) -> Any:
        """What says in words where a box moves; one that stays has fields that say it."""
        if not self.shift:
            raise AttributeError("describe")
        return describe_shift


@dataclass(frozen=True)
class Resize:
    """Scale every frame (bilinear, antialiased).

    Attributes:
        size: an int scales the short side to it and keeps the aspect ratio (the long side is rounded half to even);
            (height, width) is exact.

    Raises:
        ValueError: size is out of range.
    """

    size: int | tuple[int, int] = 256

    ARGS = CROP
    in_decoder = True
    matrices = crop_matrices

    def __post_init__(self):
        check_size("Resize", self.size, "an int (short side) or (height, width)")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: the whole of each frame."""
        if isinstance(self.size, tuple):
            out_height, out_width = self.size
        else:
            short = np.minimum(height, width)
            out_height = np.round(height * self.size / short)
            out_width = np.round(width * self.size / short)
        zero = np.zeros(len(draws), np.int64)
        return crop_rows(zero, zero, height, width, out_height, out_width)

    build = build_resize


@dataclass(frozen=True)
class CenterCrop:
    """Crop the middle of every frame.

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).

    Raises:
        ValueError: size is out of range, or (when it is drawn) larger than a frame.
    """

    size: int | tuple[int, int] = 224

    ARGS = CROP
    in_decoder = True
    matrices = crop_matrices

    def __post_init__(self):
        check_size("CenterCrop", self.size, "an int or (height, width)")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: the middle of each frame, not scaled. For odd margins the left or top one is the smaller."""
        out_height, out_width = both_sides(self.size)
        check_fits("CenterCrop", draws, height, width, out_height, out_width)
        return crop_rows(
            (height - out_height) // 2, (width - out_width) // 2, out_height, out_width, out_height, out_width
        )

    build = build_slice
