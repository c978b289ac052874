"""Crop and resize: Resize, CenterCrop; what all crops of one box a clip have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug import geometry
from dali_vidaug.ops.check import check_size, is_side, repr_without
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
    start, end = box_corners(fn, clips, args)
    return fn.resize(
        clips,
        roi_start=start,
        roi_end=end,
        size=args["out_height", "out_width"],
        antialias=True,
    )


def build_plain_resize(fn: Any, clips: Any, args: Any) -> Any:
    """DALI's resize of the box, bilinear and not antialiased. As in torch, it sees nothing around the box."""
    start, end = box_corners(fn, clips, args)
    box = fn.slice(clips, start, end - start, axis_names="HW", normalized_anchor=False, normalized_shape=False)
    return fn.resize(box, size=args["out_height", "out_width"], antialias=False)


def box_corners(fn: Any, clips: Any, args: Any) -> tuple[Any, Any]:
    """Nodes: the top left and the bottom right corner."""
    start, end = args["top", "left"], args["bottom", "right"]
    if args.sizes_unsure:
        from nvidia.dali import math  # plans are drawn without DALI

        size = fn.cast_like(clips.shape()[1:3], end)
        start, end = math.min(start, size - 1), math.min(end, size)
    return start, end


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


@dataclass(frozen=True, repr=False)
class CenterCrop:
    """Crop the middle of every frame, without scaling; or a square in the middle, scaled to ``size``.

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).
        side: None: a box of ``size``. An int: a square of that side, and at most the short side of the frame; it is
            scaled to ``size``.

    Raises:
        ValueError: an option is out of range, or (when it is drawn) size is larger than a frame.
    """

    size: int | tuple[int, int] = 224
    side: int | None = None

    ARGS = CROP
    in_decoder = True
    matrices = crop_matrices

    def __post_init__(self):
        check_size("CenterCrop", self.size, "an int or (height, width)")
        if self.side is not None and not is_side(self.side):
            raise ValueError(f"CenterCrop: side must be None or an int in [1, 16384], got {self.side!r}")

    def __repr__(self) -> str:
        return repr_without(self, "side")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: the middle of each frame. For odd margins the left or top one is the smaller."""
        out_height, out_width = both_sides(self.size)
        box_height: Any = out_height
        box_width: Any = out_width
        if self.side is None:
            check_fits("CenterCrop", draws, height, width, out_height, out_width)
        else:
            box_height = box_width = np.minimum(self.side, np.minimum(height, width))
        top, left = (height - box_height) // 2, (width - box_width) // 2
        return crop_rows(top, left, box_height, box_width, out_height, out_width)

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """DALI's slice of the box, or its resize."""
        return (build_slice if self.side is None else build_resize)(self, fn, clips, args)
