"""Ops on time that change the course of a clip: backwards, one half twice, faster and slower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dali_vidaug.ops.check import check_probability, check_range, repr_without
from dali_vidaug.ops.label_map import LabelMap, make_label_map
from dali_vidaug.rng import Draws
from dali_vidaug.sampling.videos import Videos

REVERSE = np.dtype([("reversed", "i4")])  # 1: the frames come in the opposite order
HALF_COPY = np.dtype([("half", "i4")])  # that is copied over the other: 1 the first, 2 the second; 0: none
SPEED_RAMP = np.dtype([("ratio", "f8")])  # speed at the end / speed at the start; 1: none


@dataclass(frozen=True, repr=False)
class Reverse:
    """Play a clip backwards, with probability ``probability``.

    Attributes:
        probability: that a clip is played backwards.
        label_map: classes that this makes of each other, such as ``{"opening": "closing"}``, as of
            ``RandomHorizontalFlip``. None: labels stay, which is wrong where the direction of time makes the class, as
            in Something-Something and Jester ("swiping left", "swiping right").

    Raises:
        ValueError: probability is not in [0, 1], or the map has no pairs of classes.
    """

    probability: float = 0.5
    label_map: Mapping[str, str] | Mapping[int, int] | LabelMap | None = None

    def __post_init__(self):
        check_probability("Reverse", self.probability)
        make_label_map(self)

    def __repr__(self) -> str:
        return repr_without(self, "label_map")

    def retime(self, draws: Draws, frames: np.ndarray, videos: Videos) -> tuple[np.ndarray, np.ndarray]:
        """The frames, and (B,) REVERSE."""
        rows = np.zeros(len(draws), REVERSE)
        rows["reversed"] = draws.uniform("apply") < self.probability
        return np.where(rows["reversed"][:, None] == 1, frames[:, ::-1], frames), rows

    def applied(self, rows: np.ndarray) -> np.ndarray:
        """(B,) bool: the clip is played backwards."""
        return rows["reversed"] != 0


@dataclass(frozen=True)
class HalfCopy:
    """Copy one half of a clip over the other, with probability ``probability``; a fair coin says which.

    Of an odd number of frames the one in the middle stays. Definition: video-data-aug's ``TemporalAugment``.

    Raises:
        ValueError: probability is not in [0, 1].
    """

    probability: float = 0.5

    def __post_init__(self):
        check_probability("HalfCopy", self.probability)

    def retime(self, draws: Draws, frames: np.ndarray, videos: Videos) -> tuple[np.ndarray, np.ndarray]:
        """The frames, and (B,) HALF_COPY."""
        size, half = frames.shape[1], frames.shape[1] // 2
        rows = np.zeros(len(draws), HALF_COPY)
        rows["half"] = 1 + draws.integers("half", 2)
        rows["half"][draws.uniform("apply") >= self.probability] = 0
        rows["half"] *= half > 0
        place = np.arange(size)
        first = np.where(place >= size - half, place - (size - half), place)
        second = np.where(place < half, place + (size - half), place)
        return np.take_along_axis(frames, np.stack([place, first, second])[rows["half"]], 1), rows

    def applied(self, rows: np.ndarray) -> np.ndarray:
        """(B,) bool: a half is copied."""
        return rows["half"] != 0

    def describe(self, row: np.void) -> list[str]:
        """Which half."""
        return [("no half is copied", "the first half is copied", "the second half is copied")[row["half"]]]


@dataclass(frozen=True)
class SpeedRamp:
    """Let the speed of a clip rise or fall smoothly; its first and its last frame stay what they are.

    With r the speed at the end over that at the start, the frame shown at the time s, in [0, 1] of the clip, is that of
    x(s) = (r^s - 1) / (r - 1) of the clip before: the speed changes by the same factor in equal times. Positions lie
    between two frames; they are blended, unless ``FrameInterpolation("nearest")`` follows. Where a looped clip jumps
    back, the nearer of the two frames is shown.

    Attributes:
        ratio: r, log-uniform in [low, high).
        probability: for each clip.

    Raises:
        ValueError: an option is out of range.
    """

    ratio: tuple[float, float] = (0.25, 4.0)
    probability: float = 1.0

    def __post_init__(self):
        check_range("SpeedRamp", "ratio", self.ratio, highest=1e6)
        check_probability("SpeedRamp", self.probability)

    def retime(self, draws: Draws, frames: np.ndarray, videos: Videos) -> tuple[np.ndarray, np.ndarray]:
        """The frames, (B, F) float64, and (B,) SPEED_RAMP."""
        rows = np.zeros(len(draws), SPEED_RAMP)
        low, high = np.log(self.ratio)
        rows["ratio"] = np.exp(draws.uniform("ratio", low, high))
        rows["ratio"][draws.uniform("apply") >= self.probability] = 1
        return _at(frames.astype(np.float64), _course(rows["ratio"], frames.shape[1])), rows

    def applied(self, rows: np.ndarray) -> np.ndarray:
        """(B,) bool: the speed changes."""
        return rows["ratio"] != 1


def _course(ratio: np.ndarray, count: int) -> np.ndarray:
    """(B, F) in [0, F - 1]: which place of the clip is shown at each."""
    time = np.arange(count) / max(count - 1, 1)
    rise = np.log(ratio)[:, None]
    even = np.abs(rise) < 1e-6  # there both ends of the fraction are too small
    course = np.where(even, time, np.expm1(time * rise) / np.where(even, 1, np.expm1(rise)))
    return (count - 1) * course


def _at(frames: np.ndarray, course: np.ndarray) -> np.ndarray:
    """(B, F): the positions in the video of places (B, F) of clips, between whose frames (B, F) time is even."""
    before = np.floor(course).astype(np.int64)
    after = np.minimum(before + 1, frames.shape[1] - 1)
    a, b = np.take_along_axis(frames, before, 1), np.take_along_axis(frames, after, 1)
    gaps = np.sign(np.diff(frames, axis=1))
    forward = np.where(gaps.sum(1) < 0, -1, 1)[:, None]
    share = course - before
    share = np.where((b - a) * forward < 0, np.floor(share + 0.5), share)
    return np.clip(a + share * (b - a), np.minimum(a, b), np.maximum(a, b))
