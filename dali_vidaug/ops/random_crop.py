"""Random crops and scalings beside RandomResizedCrop: RandomCrop, ShortSideScale, MultiScaleCrop; one box a clip."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from dali_vidaug.ops.check import are_numbers, check_choice, check_size, is_side, repr_without
from dali_vidaug.ops.crop import CROP, both_sides, build_resize, build_slice, check_fits, crop_matrices, crop_rows
from dali_vidaug.rng import Draws

_CORNERS = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))  # (down, right) in quarters of the room; the last is the centre
_OFFSETS = {5: _CORNERS, 13: (*_CORNERS, (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3))}
_SNAP = 3  # pixels; a side closer than this to the size of the result becomes it


@dataclass(frozen=True, repr=False)
class RandomCrop:
    """Crop a box of ``size`` at a random place, the same in every frame, without scaling; or a square, scaled to it.

    Every place where the box fits is as likely as another. (SlowFast, VideoMAE and MMAction2 never draw the last row
    and column of places.)

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).
        side: None: a box of ``size``. (low, high): a square whose side is one of low, ..., high, each as likely as
            another, and at most the short side of the frame; it is scaled to ``size`` (Kim et al. 2020).

    Raises:
        ValueError: an option is out of range, or (when it is drawn) size is larger than a frame.
    """

    size: int | tuple[int, int] = 224
    side: tuple[int, int] | None = None

    ARGS = CROP
    in_decoder = True

    def __post_init__(self):
        check_size("RandomCrop", self.size, "an int or (height, width)")
        side = self.side
        if side is not None and not (
            isinstance(side, tuple) and len(side) == 2 and all(map(is_side, side)) and side[0] <= side[1]
        ):
            raise ValueError(f"RandomCrop: side must be None or ints 1 <= low <= high <= 16384, got {side!r}")

    def __repr__(self) -> str:
        return repr_without(self, "side")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: a box of each frame."""
        out_height, out_width = both_sides(self.size)
        if self.side is None:
            check_fits("RandomCrop", draws, height, width, out_height, out_width)
            box_height, box_width = out_height, out_width
        else:
            low, high = self.side
            box_height = box_width = np.minimum(low + draws.integers("side", high - low + 1), np.minimum(height, width))
        top = draws.integers("top", height - box_height + 1)
        left = draws.integers("left", width - box_width + 1)
        return crop_rows(top, left, box_height, box_width, out_height, out_width)

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """DALI's slice of the box, or its resize."""
        return (build_slice if self.side is None else build_resize)(self, fn, clips, args)

    matrices = crop_matrices


@dataclass(frozen=True)
class ShortSideScale:
    """Scale every frame to a random short side, and keep the aspect ratio (bilinear, antialiased).

    Known as short-side jitter in SlowFast and as ``RandomShortSideScale`` in PyTorchVideo. The long side is rounded
    down, as there and in torchvision. (``Resize`` rounds it to the nearest.)

    Attributes:
        low, high: of the short side, in pixels, both included.
        distribution: "uniform": every length as likely as another. "inverse": 1 / length is uniform in [1/high, 1/low],
            rounded to a whole length, so that short sides are more frequent (SlowFast's INV_UNIFORM_SAMPLE).

    Raises:
        ValueError: an option is out of range.
    """

    low: int = 256
    high: int = 320
    distribution: str = "uniform"

    ARGS = CROP
    in_decoder = True

    def __post_init__(self):
        for field in ("low", "high"):
            value = getattr(self, field)
            if not is_side(value):
                raise ValueError(f"ShortSideScale: {field} must be an int in [1, 16384], got {value!r}")
        if self.low > self.high:
            raise ValueError(f"ShortSideScale: low must be <= high={self.high}, got {self.low}")
        check_choice("ShortSideScale", "distribution", self.distribution, ("uniform", "inverse"))

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: the whole of each frame."""
        side = self.low + draws.integers("short", self.high - self.low + 1)
        if self.distribution == "inverse":
            side = np.rint(1 / draws.uniform("inverse", 1 / self.high, 1 / self.low)).astype(np.int64)
        short = np.minimum(height, width)
        zero = np.zeros(len(draws), np.int64)
        return crop_rows(zero, zero, height, width, height * side // short, width * side // short)

    build, matrices = build_resize, crop_matrices


@dataclass(frozen=True)
class MultiScaleCrop:
    """Crop a box whose sides are drawn from a few lengths at one of a few places, and scale it to ``size``.

    Known from TSN, TSM and MMAction2 (there with other defaults). Lengths are the short side of the frame times
    ``scales``, rounded down; one that is less than 3 pixels from the result's becomes it, where the frame is large
    enough. (TSN's code does that also where it is not, and leaves the frame.) Scaling is bilinear and antialiased, as
    Pillow's is there; MMAction2's is not antialiased.

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).
        scales: each in (0, 1].
        max_distortion: how far apart in ``scales`` the height and the width of a box may be.
        offsets: 5: the corners and the centre; 13: also the middles of the sides and the centres of the quarters;
            None: anywhere. Steps are a quarter of the room left, rounded down to pixels.

    Raises:
        ValueError: an option is out of range.
    """

    size: int | tuple[int, int] = 224
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    max_distortion: int = 1
    offsets: int | None = 13

    ARGS = CROP
    in_decoder = True

    def __post_init__(self):
        check_size("MultiScaleCrop", self.size, "an int or (height, width)")
        count = len(self.scales) if isinstance(self.scales, (tuple, list)) else 0
        if not (count and are_numbers(self.scales, count, 0, 1) and min(self.scales) > 0):
            raise ValueError(f"MultiScaleCrop: scales must be numbers in (0, 1], got {self.scales!r}")
        object.__setattr__(self, "scales", tuple(self.scales))
        if isinstance(self.max_distortion, bool) or not (
            isinstance(self.max_distortion, int) and self.max_distortion >= 0
        ):
            raise ValueError(f"MultiScaleCrop: max_distortion must be an int >= 0, got {self.max_distortion!r}")
        check_choice("MultiScaleCrop", "offsets", self.offsets, (5, 13, None))

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: a box for each clip of (B,) sizes."""
        count, (out_height, out_width) = len(self.scales), both_sides(self.size)
        pairs = [(i, j) for i, j in product(range(count), repeat=2) if abs(i - j) <= self.max_distortion]
        down, across = np.array(pairs)[draws.integers("pair", len(pairs))].T
        lengths = np.maximum((np.minimum(height, width)[:, None] * np.array(self.scales)).astype(np.int64), 1)
        clips = np.arange(len(draws))
        box_height = _snapped(lengths[clips, down], out_height, height)
        box_width = _snapped(lengths[clips, across], out_width, width)
        top = draws.integers("top", height - box_height + 1)
        left = draws.integers("left", width - box_width + 1)
        if self.offsets is not None:
            places = np.array(_OFFSETS[self.offsets])[draws.integers("place", self.offsets)]
            top, left = (height - box_height) // 4 * places[:, 0], (width - box_width) // 4 * places[:, 1]
        return crop_rows(top, left, box_height, box_width, out_height, out_width)

    build, matrices = build_resize, crop_matrices


def _snapped(length: np.ndarray, target: int, room: Any) -> np.ndarray:
    return np.where((abs(length - target) < _SNAP) & (target <= room), target, length)
