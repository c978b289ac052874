"""A frame of each of several equal segments of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dali_vidaug.sampling.grid import Grid
from dali_vidaug.sampling.options import check_choice, check_grid, check_int, is_number

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws
    from dali_vidaug.sampling.videos import Videos


@dataclass(frozen=True)
class SegmentSampling:
    """One frame of each of ``num_frames`` equal segments of a video (TSN, TSM; SlowFast on Something-Something).

    Attributes:
        num_frames: segments, and frames of a clip.
        place: where in each segment: "random"; "middle"; or a tuple of shares in [0, 1), one for each of several clips,
            as (0.5, 0.0) for TSM's two. "ends": no segments, but positions evenly spread from the first frame to the
            last (PyTorchVideo's UniformTemporalSubsample).
        bounds: "equal": of N frames, segment i of T has the frames from i * N // T on, up to the next; all frames
            occur. "slowfast": (N - 1) / T frames, bounds rounded half to even, the frame of a bound in both segments,
            as SlowFast's SSv2 and MMAction2's UniformSample. "tsn": N // T frames in training, so that the last ones
            never occur, as TSN, TSM and MMAction2's SampleFrames.
        short: videos with fewer frames than segments: "repeat" gives some frames more than once (with "tsn" the first
            one only, as TSM's code in training and validation); "even" is for "tsn": in training i * N / T, rounded
            half to even and modulo N, as MMAction2's SampleFrames, else as "equal"; "raise" refuses them.
        fps, grid: as in ``ClipSampling``: segments are equal in seconds.

    Raises:
        ValueError: an option is out of range.
    """

    num_frames: int = 8
    place: Literal["random", "middle", "ends"] | tuple[float, ...] = "random"
    bounds: Literal["equal", "slowfast", "tsn"] = "equal"
    short: Literal["repeat", "even", "raise"] = "repeat"
    fps: float | None = None
    grid: Literal["played", "near", "rate"] = "played"

    def __post_init__(self):
        check_int(self, "num_frames", 1, 65536)
        place = self.place
        shares = isinstance(place, tuple) and 1 <= len(place) <= 256 and all(is_number(p) and 0 <= p < 1 for p in place)
        if not shares and not (isinstance(place, str) and place in ("random", "middle", "ends")):
            raise ValueError(
                f"SegmentSampling: place must be random, middle, ends or a tuple of shares in [0, 1), got {place!r}"
            )
        check_choice(self, "bounds", ("equal", "slowfast", "tsn"))
        check_choice(self, "short", ("repeat", "even", "raise"))
        if self.short == "even" and self.bounds != "tsn":
            raise ValueError(
                f"SegmentSampling: short must be 'repeat' or 'raise' with bounds={self.bounds!r}, got 'even': those "
                "frames are evenly spread anyway"
            )
        check_grid(self)
        if self.bounds != "equal" and (self.fps is not None or place == "ends"):
            what = "fps" if self.fps is not None else "place='ends'"
            raise ValueError(f"SegmentSampling: bounds must be 'equal' with {what}, got {self.bounds!r}")

    @property
    def num_clips(self) -> int:
        """Clips of each video: one for each share in ``place``."""
        return len(self.place) if isinstance(self.place, tuple) else 1

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
            (B, num_frames) int32.

        Raises:
            ValueError: a video has fewer frames than segments and ``short`` is "raise", or its times are not known.
        """
        grid = Grid(self, draws, videos, self.fps, self.grid)
        if self.short == "raise" and (grid.length < self.num_frames).any():
            i = int(np.argmax(grid.length < self.num_frames))
            raise ValueError(
                f"SegmentSampling: {videos.place(draws, i)} has {grid.length_text(i, self.fps)}, too few for "
                f"{self.num_frames} segments: some would be empty"
            )
        length = grid.length[:, None]
        if self.place == "ends":
            return grid.frames(np.linspace(0.0, np.maximum(grid.length - grid.step, 0.0), self.num_frames, axis=1))
        random = draws.uniform("frame", n=self.num_frames) if self.place == "random" else None
        share = np.full((len(draws), 1), 0.5)
        if isinstance(self.place, tuple):
            share = np.array(self.place)[draws.views % len(self.place)][:, None]
        return grid.frames(self._positions(length, random, share))

    def _positions(self, length: np.ndarray, random: np.ndarray | None, share: np.ndarray) -> np.ndarray:
        """(B, F) positions: random ones if numbers in [0, 1) are given, (B, F), else at shares of the segments."""
        i, count = np.arange(self.num_frames), self.num_frames
        if self.bounds == "slowfast":
            segment = (length - 1) / count
            low, high = np.rint(segment * i), np.rint(segment * (i + 1))
            if random is not None:
                return low + np.floor(random * (high - low + 1))
            return np.floor((low + high) / 2) if self.place == "middle" else low + np.floor(segment * share)
        first_only = self.bounds == "tsn" and self.short != "even"
        if self.bounds == "tsn" and random is not None:
            segment = np.floor(length / count)
            few = 0.0 if first_only else np.rint(i * (length / count)) % length
            return np.where(length < count, few, i * segment + np.floor(random * segment))
        if random is None:
            return np.where(first_only & (length < count), 0.0, (i + share) * length / count)
        if self.fps is not None:
            return (i + random) * length / count
        low, high = i * length // count, (i + 1) * length // count
        return low + np.floor(random * (high - low))
