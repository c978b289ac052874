"""How like a picture is to another: PSNR and SSIM of luma; and whether frames are in their places."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

PSNR_MAX = 100.0  # dB, said of pictures that are equal
_EACH = 4  # SSIM is of every so many frames
# A frame is called another if the squared error to a neighbour is less by this factor, and by so many levels squared.
# Where nothing but noise moves, a B-frame may be the mean of its neighbours: its error is then three times that.
_FACTOR, _LEVELS = 4.0, 1.0


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """The mean squared difference of two (H, W) uint8 planes."""
    difference = a.astype(np.int16) - b
    flat = difference.ravel().astype(np.float32)
    return float(np.dot(flat, flat)) / flat.size


def psnr(error: float) -> float:
    """The peak signal-to-noise ratio of 8-bit values with a mean squared error, dB.

    >>> round(psnr(1.0), 2), psnr(0.0)
    (48.13, 100.0)
    """
    return PSNR_MAX if error <= 0 else min(PSNR_MAX, 10 * math.log10(255**2 / error))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """The structural similarity of two (H, W) uint8 planes of at least 8 x 8.

    The mean over windows of 8 x 8 pixels, 4 apart, without weights, with the constants of Wang et al. 2004.
    """
    x, y = (plane[: plane.shape[0] // 4 * 4, : plane.shape[1] // 4 * 4].astype(np.float32) for plane in (a, b))
    sums = [_windows(values) for values in (x, y, x * x, y * y, x * y)]
    mean_x, mean_y, xx, yy, xy = (part / 64 for part in sums)
    var_x, var_y, both = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(
        np.mean((2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))
    )


def _windows(values):
    height, width = values.shape
    blocks = values.reshape(height // 4, 4, width // 4, 4).sum((1, 3))
    return blocks[:-1, :-1] + blocks[1:, :-1] + blocks[:-1, 1:] + blocks[1:, 1:]


class Quality(NamedTuple):
    """How like the frames of a video are to those of its source, scaled alike.

    Attributes:
        psnr: of luma, dB, of the mean squared error of all frames.
        ssim: of luma, the mean of every fourth frame; None where frames are smaller than 8 x 8.
        nearest: frames that are nearer to their own frame of the source than to the one before and the one after it.
        alike: the other frames: one of these two is as near, because almost nothing moves there.
    """

    psnr: float
    ssim: float | None
    nearest: int
    alike: int


class Comparison:
    """Compares the frames of a video, one after the other, with those of its source."""

    def __init__(self) -> None:
        self._errors: list[float] = []
        self._ssims: list[float] = []
        self._nearest = 0

    def add(self, index: int, made: np.ndarray, own: np.ndarray, neighbours: list[np.ndarray]) -> None:
        """Compare a frame.

        Args:
            index: of the frame, for messages.
            made: its luma, (H, W) uint8.
            own: that of the frame of the source.
            neighbours: those of the frames before and after.

        Raises:
            ValueError: it is another frame.
        """
        error = squared_error(made, own)
        others = [squared_error(made, other) for other in neighbours]
        if any(error > _FACTOR * other + _LEVELS for other in others):
            raise ValueError(f"frame {index} is another than in the source: it is like the one before or after it")
        self._nearest += all(error < other for other in others)
        self._errors.append(error)
        if index % _EACH == 0 and min(own.shape) >= 8:
            self._ssims.append(ssim(made, own))

    def result(self) -> Quality:
        """What was found; frames must have been compared."""
        mean = sum(self._errors) / len(self._errors)
        found = sum(self._ssims) / len(self._ssims) if self._ssims else None
        return Quality(psnr(mean), found, self._nearest, len(self._errors) - self._nearest)
