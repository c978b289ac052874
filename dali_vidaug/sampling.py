"""Which frames of a video make a clip."""

from dataclasses import dataclass
from typing import Literal

import numpy as np


def clip_frames(first, last, num_frames, stride, start, past_end="repeat"):
    """Choose the frames of clips.

    Args:
        first, last: (B,) int, each clip may use frames [first, last) of its video; last > first.
        num_frames: frames of a clip, >= 1.
        stride: (B,) int, distance between chosen frames, >= 1.
        start: (B,) int, first frame of the clip, in [first, last).
        past_end: what stands in for frames from ``last`` on: the last frame of the clip before it ("repeat"), or the
            clip again from its start ("loop").

    Returns:
        (B, num_frames) int32, frame indices in the video.

    >>> clip_frames([0], [5], num_frames=4, stride=[2], start=[1])
    array([[1, 3, 3, 3]], dtype=int32)
    >>> clip_frames([0], [5], num_frames=4, stride=[2], start=[1], past_end="loop")
    array([[1, 3, 1, 3]], dtype=int32)
    """
    last, stride, start = (np.asarray(x, np.int64)[:, None] for x in (last, stride, start))
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
        short: what a clip does that is longer than its video: "shrink" takes the largest smaller stride that fits
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
            raise ValueError(f"ClipSampling: num_frames must be an int in [1, 65536], got {self.num_frames}")
        stride = self.stride if isinstance(self.stride, tuple) else (self.stride, self.stride)
        if not (len(stride) == 2 and all(isinstance(s, int) for s in stride) and 1 <= stride[0] <= stride[1]):
            raise ValueError(
                f"ClipSampling: stride must be an int >= 1 or a pair 1 <= low <= high, got {self.stride!r}"
            )
        if self.start not in ("random", "first", "center"):
            raise ValueError(f"ClipSampling: start must be random, first or center, got {self.start!r}")
        if self.short not in ("shrink", "repeat", "loop", "raise"):
            raise ValueError(f"ClipSampling: short must be shrink, repeat, loop or raise, got {self.short!r}")

    def draw(self, draws, first, last):
        """Choose the frames of each clip of a batch.

        Args:
            draws: the batch's random numbers.
            first, last: (B,) int, the frames [first, last) of each video that may be used.

        Returns:
            (B, num_frames) int32.

        Raises:
            ValueError: a clip does not fit and ``short`` is "raise".
        """
        first, last = np.asarray(first, np.int64), np.asarray(last, np.int64)
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
        policy = "loop" if self.short == "loop" else "repeat"
        return clip_frames(first, last, self.num_frames, stride, first + offset, policy)
