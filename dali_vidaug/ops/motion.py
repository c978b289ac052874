"""Frames of a clip blended with each other: MotionBlur, and BackgroundMix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.kernels import launch
from dali_vidaug.ops.check import check_choice, check_probability, check_share, make_plain
from dali_vidaug.ops.operator import check_frame_values, frames_of, structured
from dali_vidaug.ops.ramp import RAMPED_MAX, RAMPS, draw_ramps, draw_strengths
from dali_vidaug.rng import Draws

WINDOW_MAX = 64


def motion_args(frames: int) -> np.dtype:
    """The dtype of a row of MotionBlur, for clips of up to ``frames`` frames. Zeros do not change the clip."""
    return np.dtype(  # the same as struct MotionArgs
        [
            ("num_values", "i4"),
            ("window", "i4", (1, frames)),  # frames that are averaged, for each frame
        ]
    )


def background_args(frames: int) -> np.dtype:
    """The dtype of a row of BackgroundMix, for clips of up to ``frames`` frames. Zeros do not change the clip."""
    return np.dtype(  # the same as struct BackgroundArgs
        [
            ("frame", "i4"),  # that is blended over the others
            ("num_values", "i4"),
            ("weight", "f4", (1, frames)),  # of it, in each frame
        ]
    )


def motion(clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
    """Average frames of each clip with those around them.

    Args:
        clips: B arrays (F, H, W, 3) uint8, NumPy's or CuPy's.
        rows: (B,) of dtype ``motion_args(frames)``, or B arrays of their bytes, on the device of the clips; ``frames``
            is at least the longest clip's F.
        num_threads: as in ``kernels.launch``.

    Returns:
        B arrays. On the CPU, clips that do not change are not copied: they are returned themselves.

    Raises:
        ValueError: a clip has more frames than its row has values.
    """
    if not len(clips):
        return []
    dtype = motion_args(frames_of("MotionBlur", rows, motion_args, clips))
    rows, skip = structured(rows, dtype), []
    if isinstance(rows, np.ndarray):
        skip = [i for i, row in enumerate(rows) if (row["window"] <= 1).all() or len(clips[i]) == 1]
    return launch("motion", clips, rows, dtype, skip=skip, num_threads=num_threads)


def background(clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
    """Blend a frame of each clip over all of its frames.

    Args:
        clips, num_threads: as in ``motion``.
        rows: (B,) of dtype ``background_args(frames)``, or B arrays of their bytes; ``frames`` is at least the longest
            clip's F.

    Returns:
        As ``motion``.

    Raises:
        ValueError: a clip has more frames than its row has values.
    """
    if not len(clips):
        return []
    dtype = background_args(frames_of("BackgroundMix", rows, background_args, clips))
    rows = structured(rows, dtype)
    skip = np.flatnonzero(~rows["weight"].any((1, 2))).tolist() if isinstance(rows, np.ndarray) else []
    return launch("background", clips, rows, dtype, skip=skip, num_threads=num_threads)


@dataclass(frozen=True)
class MotionBlur:
    """Average each frame with the frames around it, as a longer exposure does.

    The window of w frames is, for frame t, [t - (w - 1) // 2, t + w // 2], without what lies outside the clip: at its
    ends fewer frames are averaged. A clip of one frame does not change.

    Attributes:
        window: frames that are averaged, or a pair of ints: uniform in low, ..., high for each clip; [1, 64].
        probability: that a clip is changed.
        ramp: how the window changes during the clip: "constant" or another of ``ramp.draw_ramps``. What ramps is the
            number of frames besides the frame itself, up to that of the longest window; it is rounded.

    Raises:
        ValueError: an option is out of range.
    """

    window: int | tuple[int, int] = (2, 5)
    probability: float = 1.0
    ramp: str = "constant"

    moves_pixels = False

    def __post_init__(self):
        make_plain(self, "window", "probability")
        pair = self.window if isinstance(self.window, tuple) else (self.window, self.window)
        whole = len(pair) == 2 and all(isinstance(n, int) and 1 <= n <= WINDOW_MAX for n in pair)
        if not (whole and pair[0] <= pair[1]):
            raise ValueError(
                f"MotionBlur: window must be an int in [1, {WINDOW_MAX}] or 1 <= low <= high <= {WINDOW_MAX}, got "
                f"{self.window!r}"
            )
        check_probability("MotionBlur", self.probability)
        check_choice("MotionBlur", "ramp", self.ramp, RAMPS)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``motion_args(F)``, F the longest clip's. A clip's ramps end at its own last frame."""
        low, high = self.window if isinstance(self.window, tuple) else (self.window, self.window)
        frames = np.broadcast_to(np.asarray(frames, np.int64), len(draws))
        num_frames, unit = int(frames.max(initial=1)), max(high - 1, 1) / RAMPED_MAX
        others = low - 1 + draws.integers("window", high - low + 1)
        ramped = unit * draw_ramps(draws, self.ramp, others[:, None] / unit, RAMPED_MAX, frames, num_frames)
        blurred = draws.uniform("apply") < self.probability
        rows = np.zeros(len(draws), motion_args(num_frames))
        rows["window"] = np.where(blurred[:, None, None], np.floor(ramped + 0.5) + 1, 1)
        rows["num_values"] = num_frames
        return rows

    def run(self, clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
        """``motion``."""
        return motion(clips, rows, num_threads)

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse windows, such as those of an edited plan, that the kernel does not have."""
        check_frame_values("MotionBlur", "window", "a window for each of", args, frames, motion_args)
        for i, row in enumerate(args):
            good = (row["window"] >= 0) & (row["window"] <= WINDOW_MAX)
            if not good.all():
                wrong = row["window"][~good][0]
                raise ValueError(
                    f"MotionBlur: window of row {i} must be in [0, {WINDOW_MAX}] in every frame, got {wrong}"
                )

    def describe(self, row: Any) -> list[str]:
        """A row as a line of text."""
        window = row["window"][0]
        if (window <= 1).all():
            return ["unchanged"]
        if (window == window[0]).all():
            return [f"mean of {window[0]} frames: {(window[0] - 1) // 2} before, {window[0] // 2} after"]
        return [f"mean of {' '.join(map(str, window.tolist()))} frames"]

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the clip has a window of more than a frame."""
        return args["window"].max((1, 2), initial=0) > 1


@dataclass(frozen=True)
class BackgroundMix:
    """Blend one frame of a clip, drawn at random, over all of its frames; the label stays.

    What stands still becomes stronger and says less: a network on video must look at what moves (Wang et al., "Removing
    the Background by Adding the Background", CVPR 2021).

    Attributes:
        weight: of the frame, uniform in [low, high) for each clip, or a number; [0, 1].
        probability: that a clip is changed.
        ramp: how the weight changes during the clip: "constant" or another of ``ramp.draw_ramps``.

    Raises:
        ValueError: an option is out of range.
    """

    weight: float | tuple[float, float] = (0.0, 0.3)
    probability: float = 1.0
    ramp: str = "constant"

    moves_pixels = False

    def __post_init__(self):
        make_plain(self, "weight", "probability")
        check_share("BackgroundMix", "weight", self.weight)
        check_probability("BackgroundMix", self.probability)
        check_choice("BackgroundMix", "ramp", self.ramp, RAMPS)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,) of dtype ``background_args(F)``, F the longest clip's."""
        frames = np.broadcast_to(np.asarray(frames, np.int64), len(draws))
        weight = draw_strengths(draws, "weight", self.weight, self.ramp, frames)[:, None]
        num_frames = weight.shape[-1]
        mixed = draws.uniform("apply") < self.probability
        rows = np.zeros(len(draws), background_args(num_frames))
        rows["frame"] = draws.integers("frame", np.maximum(frames, 1))
        rows["weight"] = np.where(mixed[:, None, None], weight, 0)
        rows["num_values"] = num_frames
        return rows

    def run(self, clips: Sequence[Any], rows: Any, num_threads: int | None = None) -> list[Any]:
        """``background``."""
        return background(clips, rows, num_threads)

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """Refuse arguments, such as those of an edited plan, that the kernel cannot apply."""
        check_frame_values("BackgroundMix", "weight", "a weight for each of", args, frames, background_args)
        for i, (row, count) in enumerate(zip(args, frames, strict=True)):
            if not 0 <= row["frame"] < count:
                raise ValueError(f"BackgroundMix: frame of row {i} must be in [0, {count}), got {row['frame']}")
            good = (row["weight"] >= 0) & (row["weight"] <= 1)
            if not good.all():
                raise ValueError(f"BackgroundMix: weight of row {i} must be in [0, 1], got {row['weight'][~good][0]:g}")

    def describe(self, row: Any) -> list[str]:
        """A row as a line of text."""
        values = row["weight"][0]
        if not values.any():
            return ["unchanged"]
        text = " ".join(f"{v:.4g}" for v in (values[:1] if (values == values[0]).all() else values))
        return [f"frame {row['frame']} over all, weight {text}"]

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the frame is visible."""
        return (args["weight"] != 0).any((1, 2))
