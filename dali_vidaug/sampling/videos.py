"""What samplers have in common: what they are asked, and what they may know of the videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws


@dataclass(frozen=True, eq=False)
class Videos:
    """What a sampler may know of the videos of a batch, one for each clip.

    Attributes:
        first, last: (B,) int64, clips are drawn from the frames [first, last); last > first.
        fps: (B,) float64, average frames per second of the whole video; NaN where it is not known.
        times_of: what ``times`` calls.
        keyframes_of, column_of, path_of: what ``keyframes``, ``column`` and ``place`` call; None: not known.
    """

    first: np.ndarray
    last: np.ndarray
    fps: np.ndarray
    times_of: Callable[[int], np.ndarray]
    keyframes_of: Callable[[int], np.ndarray] | None = None
    column_of: Callable[[str], np.ndarray] | None = None
    path_of: Callable[[int], str] | None = None

    def __len__(self) -> int:
        return len(self.first)

    @property
    def lengths(self) -> np.ndarray:
        """How many frames clips are drawn from, (B,) int64."""
        return self.last - self.first

    def times(self, i: int) -> np.ndarray:
        """When each frame of video ``i`` of the batch is shown, the frames outside [first, last) included.

        Returns:
            (num_frames,) float64, seconds after the video's first frame, rising. NaN where neither time stamps nor the
            frame rate are known.
        """
        return self.times_of(i)

    def keyframes(self, i: int) -> np.ndarray:
        """The frames in [first, last) of video ``i`` where decoding can begin: (K,) int64, rising."""
        found = np.asarray(self.keyframes_of(i) if self.keyframes_of else [], np.int64)
        return found[(self.first[i] <= found) & (found < self.last[i])]

    def column(self, name: str) -> np.ndarray:
        """A column of the manifest, (B,).

        Raises:
            ValueError: there is no such column.
        """
        if self.column_of is None:
            raise ValueError(f"there is no manifest that could have a column {name!r}")
        return self.column_of(name)

    def place(self, draws: Draws, i: int) -> str:
        """Which sample video ``i`` is, and its file: for errors."""
        return f"sample {draws.samples[i]}" + (f" ({self.path_of(i)})" if self.path_of else "")


class Sampler(Protocol):
    """What a recipe needs of a sampler; a frozen dataclass, so that its ``repr`` can be read again.

    It may have an attribute ``num_clips``: how many clips it makes of each video, [1, 256]; ``draws.views`` then says
    which of them each clip is. The draws are addressed by its ``name``, or by the name of its class.
    """

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames of each clip of a batch.

        Args:
            draws: the batch's random numbers.
            videos: what is known of each clip's video.

        Returns:
            (B, F) integers in [first, last), or float64 where a position may lie between two frames.
        """


def num_clips(sampler: object) -> int:
    """How many clips a sampler makes of each video; 1 unless it says otherwise."""
    return getattr(sampler, "num_clips", 1)
