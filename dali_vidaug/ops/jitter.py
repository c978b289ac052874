"""Ops on time that disturb a clip frame by frame: frames dropped, doubled, held, or moved by a little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dali_vidaug.ops.check import check_probability, is_number
from dali_vidaug.rng import Draws
from dali_vidaug.sampling.videos import Videos


def _check_share(op: str, field: str, value: object, highest: float = 1.0) -> None:
    if not is_number(value, 0, highest):
        raise ValueError(f"{op}: {field} must be in [0, {highest:g}], got {value!r}")


def _per_frame(field: str, kind: str, values: np.ndarray) -> np.ndarray:
    """(B,) rows with one field that has a value for each frame, of (B, F)."""
    rows = np.zeros(len(values), [(field, kind, (values.shape[1],))])
    rows[field] = values
    return rows


def _places(where: np.ndarray) -> str:
    return " ".join(map(str, np.flatnonzero(where).tolist())) or "none"


@dataclass(frozen=True)
class TemporalJitter:
    """Drop some frames of a clip and show some twice, as a camera or a recording does.

    Dropped frames close up, doubled ones push the rest back. The clip keeps its length: it is cut, or its last frame
    fills the end. If all frames are dropped, the first stays.

    Attributes:
        drop: probability for each frame of being dropped.
        duplicate: probability for each frame of being shown twice; drop + duplicate <= 1.
        probability: for each clip, of any of this.

    Raises:
        ValueError: an option is out of range.
    """

    drop: float = 0.1
    duplicate: float = 0.1
    probability: float = 1.0

    def __post_init__(self):
        _check_share("TemporalJitter", "drop", self.drop)
        _check_share("TemporalJitter", "duplicate", self.duplicate)
        check_probability("TemporalJitter", self.probability)
        if not self.drop + self.duplicate <= 1:
            raise ValueError(
                f"TemporalJitter: drop + duplicate must be at most 1, got {self.drop!r} + {self.duplicate!r}"
            )

    def retime(self, draws: Draws, frames: np.ndarray, videos: Videos) -> tuple[np.ndarray, np.ndarray]:
        """The frames, and (B,) rows with ``count``: how often each frame of the clip is shown, 0, 1 or 2."""
        count = frames.shape[1]
        word = draws.uniform("frame", n=count)
        times = np.where(word < self.drop, 0, np.where(word < self.drop + self.duplicate, 2, 1))
        times[draws.uniform("apply") >= self.probability] = 1
        times[~times.any(1), 0] = 1
        ends = np.cumsum(times, 1)  # (B, F): the place after that of each frame
        # Place k shows the first frame that ends after it; beyond the last place, the last frame that is shown.
        shown = (ends[:, None, :] <= np.arange(count)[None, :, None]).sum(2)
        last = count - 1 - (times[:, ::-1] > 0).argmax(1)
        shown = np.minimum(shown, last[:, None])
        return np.take_along_axis(frames, shown, 1), _per_frame("count", "u1", times)

    def applied(self, rows: np.ndarray) -> np.ndarray:
        """(B,) bool: a frame is dropped or doubled."""
        return (rows["count"] != 1).any(1)

    def describe(self, row: np.void) -> list[str]:
        """Which frames of the clip, counted from 0."""
        return [f"dropped {_places(row['count'] == 0)}", f"doubled {_places(row['count'] == 2)}"]


@dataclass(frozen=True)
class FrameJitter:
    """Move each frame of a clip onward by itself, by less than the distance to the next one.

    The distance is the smallest that is not 0 between two frames of the clip that follow one another; a frame moves by
    0, ..., distance - 1 frames, with equal probability, and never past the last frame that clips of the video may have.
    A clip of consecutive frames stays as it is. Definition: MMAction2's ``SampleFrames(temporal_jitter=True)``, which
    moves frames before it treats those beyond the end.

    Attributes:
        probability: for each clip.

    Raises:
        ValueError: probability is not in [0, 1].
    """

    probability: float = 1.0

    def __post_init__(self):
        check_probability("FrameJitter", self.probability)

    def retime(self, draws: Draws, frames: np.ndarray, videos: Videos) -> tuple[np.ndarray, np.ndarray]:
        """The frames, and (B,) rows with ``offset``: by how many frames each one moves before the end stops it."""
        gaps = np.diff(frames, axis=1).astype(np.float64)
        # Where a looped clip jumps back the gap says nothing, unless all go back, as in a reversed clip.
        gaps = np.where((gaps > 0).any(1, keepdims=True), gaps, -gaps)
        reach = np.ceil(np.where(gaps > 0, gaps, np.inf).min(1, initial=np.inf))
        reach = np.where(np.isfinite(reach), reach, 1)
        offset = np.floor(draws.uniform("frame", n=frames.shape[1]) * reach[:, None]).astype(np.int64)
        offset[draws.uniform("apply") >= self.probability] = 0
        moved = np.minimum(frames + offset, videos.last[:, None] - 1)
        return moved.astype(frames.dtype), _per_frame("offset", "i4", offset)

    def applied(self, rows: np.ndarray) -> np.ndarray:
        """(B,) bool: a frame moves."""
        return np.asarray(rows["offset"].any(1))


@dataclass(frozen=True)
class FrameDrop:
    """Hold frames: each one that is dropped shows the last one before it that is not.

    The first frame is never dropped. Definition: the frame drop of video-data-aug's ``TemporalAugment``.

    Attributes:
        drop: probability for each frame but the first.
        probability: for each clip, of any of this.

    Raises:
        ValueError: an option is not in [0, 1].
    """

    drop: float = 0.5
    probability: float = 1.0

    def __post_init__(self):
        _check_share("FrameDrop", "drop", self.drop)
        check_probability("FrameDrop", self.probability)

    def retime(self, draws: Draws, frames: np.ndarray, videos: Videos) -> tuple[np.ndarray, np.ndarray]:
        """The frames, and (B,) rows with ``dropped``: 1 for each frame of the clip that is."""
        dropped = draws.uniform("frame", n=frames.shape[1]) < self.drop
        dropped[:, 0] = False
        dropped[draws.uniform("apply") >= self.probability] = False
        held = np.maximum.accumulate(np.where(dropped, 0, np.arange(frames.shape[1])), 1)
        return np.take_along_axis(frames, held, 1), _per_frame("dropped", "u1", dropped)

    def applied(self, rows: np.ndarray) -> np.ndarray:
        """(B,) bool: a frame is dropped."""
        return np.asarray(rows["dropped"].any(1))

    def describe(self, row: np.void) -> list[str]:
        """Which frames of the clip, counted from 0."""
        return [f"dropped {_places(row['dropped'])}"]
