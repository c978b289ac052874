"""Which frames of a video make a clip.

A sampler is a frozen dataclass with ``draw(draws, videos)``, where ``videos`` is a ``Videos``. It returns the frames of
each clip: (B, F) integers, or float64 where a position may lie between two frames. The draws are addressed by the
sampler's ``name``, or by the name of its class. A sampler that makes several clips of each video says how many in
``num_clips``; ``draws.views`` then says which of them each clip is. docs/sampling.md has examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.rng import Draws


@dataclass(frozen=True, eq=False)
class Videos:
    """What a sampler may know of the videos of a batch, one for each clip.

    Attributes:
        first, last: (B,) int64, clips are drawn from the frames [first, last); last > first.
        fps: (B,) float64, average frames per second of the whole video; NaN where it is not known.
        times_of: what ``times`` calls.
    """

    first: np.ndarray
    last: np.ndarray
    fps: np.ndarray
    times_of: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.first)

    def times(self, i: int) -> np.ndarray:
        """When each frame of video ``i`` of the batch is shown, the frames outside [first, last) included.

        Returns:
            (num_frames,) float64, seconds after the video's first frame, rising. NaN where neither time stamps nor the
            frame rate are known.
        """
        return self.times_of(i)


def num_clips(sampler: object) -> int:
    """How many clips a sampler makes of each video; 1 unless it says otherwise."""
    return getattr(sampler, "num_clips", 1)


def clip_frames(
    first: ArrayLike, last: ArrayLike, num_frames: int, stride: ArrayLike, start: ArrayLike, past_end: str = "repeat"
) -> np.ndarray:
    """Choose the frames of clips.

    Args:
        first, last: (B,) int, each clip may use the frames [first, last) of its video; last > first.
        num_frames: frames of a clip, >= 1.
        stride: int or (B,) int, distance between chosen frames, >= 1.
        start: (B,) int, first frame of the clip, in [first, last).
        past_end: what replaces frames from ``last`` on: the last frame of the clip before it ("repeat"), or the clip
            again from its start ("loop").

    Returns:
        (B, num_frames) int32, frame indices in the video.

    >>> clip_frames([0], [5], num_frames=4, stride=[2], start=[1])
    array([[1, 3, 3, 3]], dtype=int32)
    >>> clip_frames([0], [5], num_frames=4, stride=[2], start=[1], past_end="loop")
    array([[1, 3, 1, 3]], dtype=int32)
    """
    last, stride, start = (np.atleast_1d(np.asarray(x, np.int64))[:, None] for x in (last, stride, start))
    available = -(-(last - start) // stride)  # chosen frames before the end
    steps = np.arange(num_frames)
    steps = steps % available if past_end == "loop" else np.minimum(steps, available - 1)
    return (start + steps * stride).astype(np.int32)


@dataclass(frozen=True)
class ClipSampling:
    """One clip of ``num_frames`` frames from each video.

    Attributes:
        num_frames: frames of a clip, >= 1.
        stride: distance between chosen frames; a pair (low, high) draws one of low, ..., high for each clip.
        start: "random": uniform over all starts for which the clip fits (Kim et al. 2020, SlowFast); "first";
            "center": the clip in the middle of the video.
        short: what happens when the clip is longer than its video: "shrink" takes the largest smaller stride that fits
            and repeats the last frame when even stride 1 does not; "repeat" keeps the stride and repeats the last
            frame; "loop" keeps the stride and begins again at the start; "raise" refuses it.

    Raises:
        ValueError: an option is out of range.
    """

    num_frames: int = 16
    stride: int | tuple[int, int] = 1
    start: Literal["random", "first", "center"] = "random"
    short: Literal["shrink", "repeat", "loop", "raise"] = "repeat"

    def __post_init__(self):
        if not (isinstance(self.num_frames, int) and 1 <= self.num_frames <= 65536):
            raise ValueError(f"ClipSampling: num_frames must be an int in [1, 65536], got {self.num_frames!r}")
        stride = self.stride if isinstance(self.stride, tuple) else (self.stride, self.stride)
        if not (len(stride) == 2 and all(isinstance(s, int) for s in stride) and 1 <= stride[0] <= stride[1]):
            raise ValueError(
                f"ClipSampling: stride must be an int >= 1 or a pair 1 <= low <= high, got {self.stride!r}"
            )
        if not isinstance(self.start, str) or self.start not in ("random", "first", "center"):
            raise ValueError(f"ClipSampling: start must be random, first or center, got {self.start!r}")
        if not isinstance(self.short, str) or self.short not in ("shrink", "repeat", "loop", "raise"):
            raise ValueError(f"ClipSampling: short must be shrink, repeat, loop or raise, got {self.short!r}")

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames of each clip of a batch.

        Args:
            draws: the batch's random numbers.
            videos: what is known of each clip's video.

        Returns:
            (B, num_frames) int32.

        Raises:
            ValueError: a clip does not fit and ``short`` is "raise".
        """
        first, last = np.asarray(videos.first, np.int64), np.asarray(videos.last, np.int64)
        low, high = self.stride if isinstance(self.stride, tuple) else (self.stride, self.stride)
        stride = low + draws.integers("stride", high - low + 1)
        length = last - first
        if self.short == "shrink":
            fitting = (length - 1) // max(1, self.num_frames - 1)
            stride = np.clip(fitting, 1, stride)
        room = length - (self.num_frames - 1) * stride  # starts for which the clip fits
        if self.short == "raise" and (room < 1).any():
            i = int(np.argmax(room < 1))
            raise ValueError(
                f"ClipSampling: sample {draws.samples[i]} has {length[i]} frames, too few for {self.num_frames} "
                f"with stride {stride[i]}"
            )
        room = np.maximum(room, 1)
        offset = {
            "random": lambda: draws.integers("start", room),
            "first": lambda: np.zeros(len(first), np.int64),
            "center": lambda: (room - 1) // 2,
        }[self.start]()
        past_end = "loop" if self.short == "loop" else "repeat"
        return clip_frames(first, last, self.num_frames, stride, first + offset, past_end)


SAMPLERS = (ClipSampling,)  # the samplers of the package
