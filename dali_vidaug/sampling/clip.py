"""One clip of each video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dali_vidaug.sampling.grid import TINY, Grid
from dali_vidaug.sampling.options import check_bool, check_choice, check_grid, is_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.rng import Draws
    from dali_vidaug.sampling.videos import Videos


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
        stride: distance between chosen frames, in frames, or in steps of 1 / ``fps`` seconds; a pair (low, high) draws
            one of low, ..., high for each clip.
        start: "random": uniform over all starts for which the clip fits (Kim et al. 2020, SlowFast); "first";
            "center": the clip in the middle of the video; "keyframe": a random one of the key frames from which on the
            clip fits, and where there is none, as "random".
        short: what happens when the clip is longer than its video: "shrink" takes the largest smaller stride that fits
            and repeats the last frame when even stride 1 does not; "repeat" keeps the stride and repeats the last
            frame; "loop" keeps the stride and begins again at the start; "raise" refuses it.
        fps: frames are chosen by time, so many per second at stride 1; None: by index. A video with fewer frames per
            second gives frames more than once.
        grid: which frame is chosen for a time: "played", the one that is shown then; "near", the one that ffmpeg's
            filter ``fps`` puts there; "rate", by the average frame rate alone. See docs/sampling.md.
        speed: (low, high), a factor of the stride, log-uniform: 2 shows the video twice as fast.
        spacing: "exact": ``stride`` between frames; "spread": ``num_frames`` positions from the first to the last of
            stride * num_frames frames, rounded down, as SlowFast and VideoMAE choose them.
        fractional: whether positions between two frames stay so, for interpolation; else the frame before is taken.

    Raises:
        ValueError: an option is out of range.
    """

    num_frames: int = 16
    stride: int | tuple[int, int] = 1
    start: Literal["random", "first", "center", "keyframe"] = "random"
    short: Literal["shrink", "repeat", "loop", "stretch", "raise"] = "repeat"
    fps: float | None = None
    grid: Literal["played", "near", "rate"] = "played"
    speed: tuple[float, float] | None = None
    spacing: Literal["exact", "spread"] = "exact"
    fractional: bool = False

    def __post_init__(self):
        if not (isinstance(self.num_frames, int) and 1 <= self.num_frames <= 65536):
            raise ValueError(f"ClipSampling: num_frames must be an int in [1, 65536], got {self.num_frames!r}")
        stride = self.stride if isinstance(self.stride, tuple) else (self.stride, self.stride)
        if not (len(stride) == 2 and all(isinstance(s, int) for s in stride) and 1 <= stride[0] <= stride[1]):
            raise ValueError(
                f"ClipSampling: stride must be an int >= 1 or a pair 1 <= low <= high, got {self.stride!r}"
            )
        check_choice(self, "start", ("random", "first", "center", "keyframe"))
        check_choice(self, "short", ("shrink", "repeat", "loop", "stretch", "raise"))
        check_grid(self)
        check_choice(self, "spacing", ("exact", "spread"))
        check_bool(self, "fractional")
        speed = self.speed
        if speed is not None and not (
            isinstance(speed, tuple) and len(speed) == 2 and all(map(is_number, speed)) and 0 < speed[0] <= speed[1]
        ):
            raise ValueError(f"ClipSampling: speed must be None or a pair 0 < low <= high, got {speed!r}")
        if self.fractional and self.grid == "near":
            raise ValueError("ClipSampling: fractional must be False with grid='near', which has no time in between")

    @property
    def uses_times(self) -> bool:
        """Whether the frames depend on time stamps."""
        return self.fps is not None and self.grid != "rate"

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames of each clip of a batch.

        Args:
            draws: the batch's random numbers.
            videos: what is known of each clip's video.

        Returns:
            (B, num_frames) int32; float64 with ``fractional``.

        Raises:
            ValueError: a clip does not fit and ``short`` is "raise", or the times of a video are not known.
        """
        return self.draw_at(draws, videos, lambda room, grid: self._starts(draws, videos, room, grid))

    def draw_at(
        self, draws: Draws, videos: Videos, starts: Callable[[np.ndarray, Grid], np.ndarray], caller: object = None
    ) -> np.ndarray:
        """As ``draw``, for clips that begin where the caller says.

        Args:
            draws, videos: as in ``draw``.
            starts: from the room of each clip, (B,) float64, and the time lines to the starts, (B,) positions. A clip
                that begins in [0, room) fits; where the room is not positive, no start does.
            caller: named in errors; default: this sampler.

        Returns, raises: as ``draw``.
        """
        grid = Grid(caller or self, draws, videos, self.fps, self.grid)
        distance = self._distance(draws, grid)
        if self.short == "stretch":
            fits = [grid.length * times - (self.num_frames - 1) * distance >= TINY for times in (1, 2)]
            grid = grid.stretched(np.select(fits, [1, 2], 4))
        room = grid.length - (self.num_frames - 1) * distance
        if self.short == "raise" and (room < TINY).any():
            i = int(np.argmax(room < TINY))
            at = "" if self.fps is None else f" at fps {self.fps:g}"
            raise ValueError(
                f"{type(caller or self).__name__}: {videos.place(draws, i)} has {grid.length_text(i, self.fps)}, too "
                f"few for {self.num_frames} with stride {distance[i]:g}{at}"
            )
        start = starts(room, grid)
        available = np.maximum(np.ceil((grid.length - start) / distance - TINY), 1)[:, None]  # before the end
        steps = np.arange(self.num_frames)[None]
        steps = steps % available if self.short == "loop" else np.minimum(steps, available - 1)
        return grid.frames(start[:, None] + steps * distance[:, None], self.fractional)

    def _distance(self, draws: Draws, grid: Grid) -> np.ndarray:
        """The distance of neighbouring frames of each clip, in steps: (B,) float64."""
        low, high = self.stride if isinstance(self.stride, tuple) else (self.stride, self.stride)
        distance = (low + draws.integers("stride", high - low + 1)).astype(np.float64)
        if self.speed is not None:
            distance *= np.exp(draws.uniform("speed", *np.log(self.speed)))
        gaps = max(1, self.num_frames - 1)
        if self.spacing == "spread" and self.num_frames > 1:
            distance = np.maximum(distance * self.num_frames - grid.step, 0.0) / gaps
            distance = np.maximum(distance, TINY)
        if self.short == "shrink":
            fitting = (grid.length - grid.step) / gaps
            if grid.whole and self.speed is None and self.spacing == "exact":
                fitting = np.floor(fitting)
            distance = np.clip(fitting, np.minimum(grid.step, distance), distance)
        return distance

    def _starts(self, draws: Draws, videos: Videos, room: np.ndarray, grid: Grid) -> np.ndarray:
        """Where each clip begins: (B,) float64."""
        if self.start == "first":
            return np.zeros(len(room))
        if self.start == "center":
            return np.floor(last_start(room, grid) / 2) if grid.whole else last_start(room, grid) / 2
        if grid.whole:
            start = draws.integers("start", last_start(room, grid) + 1).astype(np.float64)
        else:
            start = draws.uniform("start", 0.0, np.maximum(room, 0.0))
        if self.start == "keyframe":
            choice = draws.uniform("keyframe")
            for i in range(len(room)):
                keys = grid.positions_of(i, videos.keyframes(i))
                keys = keys[keys <= max(last_start(room, grid)[i], 0.0) + TINY]
                start[i] = keys[int(choice[i] * len(keys))] if len(keys) else start[i]
        return start


def last_start(room: np.ndarray, grid: Grid) -> np.ndarray:
    """The last position at which a clip fits, 0 where none does.

    On a continuous time line it is the last one at which the clip's last frame has just begun.

    Args:
        room: (B,), as in ``ClipSampling.draw_at``.
        grid: the time lines.

    Returns:
        (B,) float64.
    """
    return np.maximum(np.ceil(room - TINY) - 1 if grid.whole else room - grid.step, 0.0)
