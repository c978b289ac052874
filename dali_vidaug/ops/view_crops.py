"""Crops of the same frames at several places, for testing: each view of a video is one of them.

The sampler says that so many views after each other have the same frames, which are decoded once:
``MultiClip(num_clips=10 * 3, num_crops=3)`` with ``ThreeCrop`` makes ten clips of a video with three crops each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug import geometry
from dali_vidaug.ops.check import check_choice, check_size
from dali_vidaug.ops.crop import CROP, both_sides, build_slice, check_crops, check_fits, crop_matrices, crop_rows
from dali_vidaug.rng import Draws

MIRRORED_CROP = np.dtype([*CROP.descr, ("mirrored", "i4")])  # 1: left and right are swapped in what was cut out


@dataclass(frozen=True)
class ThreeCrop:
    """Three crops that cover the long side of the frame, one for each view: its beginning, middle and end.

    In the order of SlowFast: left, centre, right of a wide frame; top, centre, bottom of a high one. Along the short
    side they are in the middle. (MMAction2's order is left, right, centre.)

    Attributes:
        size: height and width of the result: an int for a square, or (height, width). The short side of the frames
            usually has this length: put ``Resize(size)`` before it.
        rounding: how an odd margin is divided at the centre: "up", the larger part comes before the crop, as in
            SlowFast and Scenic; or "down", as in VideoMAE, InternVideo2 and MMAction2.

    Raises:
        ValueError: an option is out of range, or (when it is drawn) the crop larger than a frame.
    """

    size: int | tuple[int, int] = 256
    rounding: str = "up"

    ARGS = CROP
    in_decoder = True
    num_crops = 3

    def __post_init__(self):
        check_size("ThreeCrop", self.size, "an int or (height, width)")
        check_choice("ThreeCrop", "rounding", self.rounding, ("up", "down"))

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: crop ``views % 3`` of each clip."""
        out_height, out_width = both_sides(self.size)
        check_fits("ThreeCrop", draws, height, width, out_height, out_width)
        place, high = draws.views % 3, height > width
        top, left = height - out_height, width - out_width
        odd = self.rounding == "up"
        top = np.where(high & (place != 1), top * (place == 2), (top + odd) // 2)
        left = np.where(~high & (place != 1), left * (place == 2), (left + odd) // 2)
        return crop_rows(top, left, out_height, out_width, out_height, out_width)

    build, matrices = build_slice, crop_matrices


@dataclass(frozen=True)
class FiveCrop:
    """The four corners and the centre of every frame, one for each view, in the order and at the places of torchvision.

    Top left, top right, bottom left, bottom right, centre (an odd margin is divided half to even).

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).

    Raises:
        ValueError: size is out of range, or (when it is drawn) larger than a frame.
    """

    size: int | tuple[int, int] = 224

    ARGS = CROP
    in_decoder = True
    num_crops = 5

    def __post_init__(self):
        check_size("FiveCrop", self.size, "an int or (height, width)")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) CROP: crop ``views % 5`` of each clip."""
        return _five_crops("FiveCrop", self.size, draws, height, width)

    build, matrices = build_slice, crop_matrices


@dataclass(frozen=True)
class TenCrop:
    """The five crops of ``FiveCrop``, then the same five of the mirrored frame, one for each view (torchvision).

    Attributes:
        size: height and width of the result: an int for a square, or (height, width).

    Raises:
        ValueError: size is out of range, or (when it is drawn) larger than a frame.
    """

    size: int | tuple[int, int] = 224

    ARGS = MIRRORED_CROP
    num_crops = 10

    def __post_init__(self):
        check_size("TenCrop", self.size, "an int or (height, width)")

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) MIRRORED_CROP: crop ``views % 10`` of each clip."""
        args, rows = np.zeros(len(draws), MIRRORED_CROP), _five_crops("TenCrop", self.size, draws, height, width)
        for name in CROP.names or ():
            args[name] = rows[name]
        args["mirrored"] = mirrored = draws.views % 10 >= 5
        args["left"] = np.where(mirrored, width - rows["right"], rows["left"])  # boxes of the mirrored frame
        args["right"] = np.where(mirrored, width - rows["left"], rows["right"])
        return args

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse boxes that are not inside the frames."""
        check_crops("TenCrop", args, np.stack([frames, height, width], 1))

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """DALI's slice of the box, and its flip."""
        return fn.flip(build_slice(self, fn, clips, args), horizontal=args["mirrored"], vertical=0)

    def matrices(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B, F, 3, 3) float64: x from out_width - x, and that from the box."""
        mirrored = args["mirrored"] != 0
        flip = geometry.matrix_of(np.where(mirrored, -1, 1), 0, np.where(mirrored, args["out_width"], 0), 0, 1, 0)
        return crop_matrices(self, args, frames, height, width) @ flip[:, None]


def _five_crops(name, size, draws, height, width):
    """(B,) CROP: crop ``views % 5`` of each clip, the four corners and the centre."""
    out_height, out_width = both_sides(size)
    check_fits(name, draws, height, width, out_height, out_width)
    place, down, across = draws.views % 5, height - out_height, width - out_width
    centre = place == 4
    top = np.where(centre, np.rint(down / 2), down * (place // 2))
    left = np.where(centre, np.rint(across / 2), across * (place % 2))
    return crop_rows(top, left, out_height, out_width, out_height, out_width)
