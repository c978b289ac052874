"""Clips around an annotated time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dali_vidaug.sampling.grid import TINY, Grid
from dali_vidaug.sampling.options import check_grid, check_int, is_number

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws
    from dali_vidaug.sampling.videos import Videos


@dataclass(frozen=True)
class KeyframeClip:
    """The clip around an annotated time of each sample (AVA's key frames, spotting, start of an action).

    Half of the ``num_frames * stride`` frames lie before that time. Positions before the first frame that may
    be used, or after the last, are that frame, as in SlowFast.

    Attributes:
        num_frames: frames of a clip.
        stride: distance between them, in frames, or in steps of 1 / ``fps`` seconds.
        column: the manifest's column that has the time, in seconds.
        offset: what the column says of the video's first frame, in seconds: 900 for AVA's videos cut from 15:00.
        fps, grid: as in ``ClipSampling``.

    Raises:
        ValueError: an option is out of range.
    """

    num_frames: int = 32
    stride: int = 2
    column: str = "time"
    offset: float = 0.0
    fps: float | None = None
    grid: Literal["played", "near", "rate"] = "played"

    def __post_init__(self):
        check_int(self, "num_frames", 1, 65536)
        check_int(self, "stride", 1, 2**31 - 1)
        if not (isinstance(self.column, str) and self.column):
            raise ValueError(f"KeyframeClip: column must be the name of a column, got {self.column!r}")
        if not is_number(self.offset):
            raise ValueError(f"KeyframeClip: offset must be a number of seconds, got {self.offset!r}")
        check_grid(self)

    @property
    def uses_times(self) -> bool:
        """Whether the frames depend on time stamps: always, to find the annotated time."""
        return True

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames of each clip of a batch.

        Args:
            draws: names the samples in errors; nothing is drawn.
            videos: what is known of each clip's video.

        Returns:
            (B, num_frames) int32.

        Raises:
            ValueError: an annotation is no number, or not within the frames that may be used; the times of a video are
                not known.
        """
        grid = Grid(self, draws, videos, self.fps, self.grid)
        column, center = videos.column(self.column), np.empty(len(draws))
        for i, value in enumerate(column.tolist()):
            try:
                time = float(value)
            except (TypeError, ValueError):
                time = np.nan
            center[i] = self._center(videos, grid, i, time, f"{self.column}={value!r} of {videos.place(draws, i)}")
        half = self.num_frames * self.stride / 2
        steps = self.stride * np.arange(self.num_frames) - (np.floor(half) if grid.whole else half)
        positions = np.clip(center[:, None] + steps, 0.0, np.maximum(grid.length - grid.step, 0.0)[:, None])
        return grid.frames(positions)

    def _center(self, videos: Videos, grid: Grid, i: int, time: float, what: str) -> float:
        """The position of an annotated time on the time line of video ``i``."""
        times, first, last = videos.times(i), int(videos.first[i]), int(videos.last[i])
        if not np.isfinite(times).all():
            raise ValueError(
                f"KeyframeClip: {what} cannot be found: neither its time stamps nor its frame rate are known"
            )
        shown = 1 / videos.fps[i] if videos.fps[i] > 0 else 0.0
        end = times[last] if last < len(times) else times[last - 1] + shown
        seconds = time - self.offset
        if not times[first] - TINY <= seconds < end + TINY:
            raise ValueError(
                f"KeyframeClip: {what} must be within its frames, which are shown from {times[first] + self.offset:g} "
                f"to {end + self.offset:g} s"
            )
        if self.fps is not None and self.grid == "played":
            return float((seconds - times[first]) * self.fps)
        index = int(np.searchsorted(times, seconds + TINY, side="right")) - 1
        return float(grid.positions_of(i, np.array([np.clip(index, first, last - 1)]))[0])
