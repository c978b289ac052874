"""GaussianBlur: the frames of a clip out of focus, all alike or more and more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.kernels import launch
from dali_vidaug.ops.check import are_numbers, check_choice, check_probability, is_number, make_plain
from dali_vidaug.ops.operator import check_frame_values, frames_of, structured
from dali_vidaug.ops.ramp import RAMPS, draw_ramps
from dali_vidaug.rng import Draws

RADIUS_MAX = 32
FRAME_BYTES = 136  # of struct BlurFrame
_SIGMA_MAX = 1000.0


def blur_args(frames: int) -> np.dtype:
    """The dtype of a row, for clips of up to ``frames`` frames. Zeros do not change the clip."""
    return np.dtype(  # the same as struct BlurArgs
        [
            ("radius", "i4"),  # the window is 2 radius + 1 pixels wide and high
            ("num_values", "i4"),
            ("sigma", "f4", (1, frames)),  # standard deviation of each frame, in pixels
        ]
    )


def blur(clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
    """Blur each clip as its row says.

    Args:
        clips: B arrays (F, H, W, 3) uint8, NumPy's or CuPy's.
        rows: (B,) of dtype ``blur_args(frames)``, or B arrays of their bytes, on the device of the clips. ``frames``
            is at least the longest clip's F.
        num_threads: as in ``kernels.launch``.

    Returns:
        B arrays. On the CPU, clips that do not change are not copied: they are returned themselves.

    Raises:
        ValueError: a clip has more frames than its row has values.
    """
    if not len(clips):
        return []
    dtype = blur_args(frames_of("GaussianBlur", rows, blur_args, clips))
    rows = structured(rows, dtype)
    skip = np.flatnonzero(_is_neutral(rows)).tolist() if isinstance(rows, np.ndarray) else []
    return launch(
        "blur", clips, rows, dtype, entries=("blur_prepare", "blur_pixels"), skip=skip,
        work_bytes=lambda frames, height, width: frames * FRAME_BYTES, num_threads=num_threads,
    )  # fmt: skip


def _is_neutral(rows):
    return (rows["radius"] == 0) | ~rows["sigma"].any((1, 2))


@dataclass(frozen=True)
class GaussianBlur:
    """Blur the frames of a clip, all with one standard deviation, as torchvision's GaussianBlur.

    Beyond its border a picture is mirrored about its outer pixels, as often as it takes: a window may be larger than
    the picture, which torchvision refuses.

    Attributes:
        kernel_size: width and height of the window in pixels, odd, in [1, 65]. None: as many as hold three standard
            deviations on both sides, 2 ceil(3 sigma) + 1.
        sigma: standard deviation in pixels, or the range (low, high) in which it is uniform; at most 10 where
            ``kernel_size`` is None, otherwise 1000.
        probability: that a clip is blurred.
        ramp: how sigma changes during the clip: "constant" or another of ``ramp.draw_ramps``, within [0, high].

    Raises:
        ValueError: an option is out of range.
    """

    kernel_size: int | None = None
    sigma: float | tuple[float, float] = (0.1, 2.0)
    probability: float = 1.0
    ramp: str = "constant"

    moves_pixels = False

    def __post_init__(self):
        make_plain(self, "kernel_size", "sigma", "probability")
        size = self.kernel_size
        sigma: Any = self.sigma
        low, high = sigma if are_numbers(sigma, 2, 0, _SIGMA_MAX) else (sigma, sigma)
        window = 2 * RADIUS_MAX + 1
        if size is not None and not (isinstance(size, int) and 1 <= size <= window and size % 2):
            raise ValueError(f"GaussianBlur: kernel_size must be None or odd and in [1, {window}], got {size!r}")
        highest = 10.0 if size is None else _SIGMA_MAX
        if not (is_number(low, 0, highest) and is_number(high, 0, highest) and 0 < low <= high):
            unless = "; with kernel_size, 1000" if size is None else ""
            raise ValueError(
                f"GaussianBlur: sigma must be a number or 0 < low <= high, at most {highest:g}{unless}, got {sigma!r}"
            )
        check_probability("GaussianBlur", self.probability)
        check_choice("GaussianBlur", "ramp", self.ramp, RAMPS)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``blur_args(F)``, F the longest clip's. A clip's ramps end at its own last frame."""
        frames = np.broadcast_to(np.asarray(frames, np.int64), len(draws))
        num_frames = int(frames.max(initial=1))
        low, high = self.sigma if isinstance(self.sigma, (tuple, list)) else (self.sigma, self.sigma)
        sigma = draws.uniform("sigma", low, high)[:, None]
        sigma = draw_ramps(draws, self.ramp, sigma, high, frames, num_frames)
        blurred = draws.uniform("apply") < self.probability

        rows = np.zeros(len(draws), blur_args(num_frames))
        radius = np.ceil(3 * sigma.max((1, 2))) if self.kernel_size is None else self.kernel_size // 2
        rows["radius"] = np.where(blurred, radius, 0)
        rows["sigma"] = np.where(blurred[:, None, None], sigma, 0)
        rows["num_values"] = num_frames
        return rows

    def run(self, clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
        """``blur``."""
        return blur(clips, rows, num_threads)

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse arguments, such as those of an edited plan, that the kernel cannot apply."""
        check_frame_values("GaussianBlur", "sigma", "a sigma for each of", args, frames, blur_args)
        for i, row in enumerate(args):
            if not 0 <= row["radius"] <= RADIUS_MAX:
                raise ValueError(f"GaussianBlur: radius of row {i} must be in [0, {RADIUS_MAX}], got {row['radius']}")
            good = (row["sigma"] >= 0) & (row["sigma"] <= _SIGMA_MAX)
            if not good.all():
                wrong = row["sigma"][~good][0]
                raise ValueError(
                    f"GaussianBlur: sigma of row {i} must be in [0, {_SIGMA_MAX:g}] in every frame, got {wrong:g}"
                )

    def describe(self, row: Any) -> list[str]:
        """A row as a line of text."""
        if _is_neutral(row[None])[0]:
            return ["unchanged"]
        values = row["sigma"][0]
        text = " ".join(f"{v:.4g}" for v in (values[:1] if (values == values[0]).all() else values))
        return [f"sigma {text} pixels, window of {2 * row['radius'] + 1}"]

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the clip is blurred."""
        return ~_is_neutral(args)
