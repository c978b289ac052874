"""Several clips of each video."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dali_vidaug.rng import MAX_VIEW, Draws
from dali_vidaug.sampling.clip import ClipSampling, last_start
from dali_vidaug.sampling.grid import TINY, Grid
from dali_vidaug.sampling.options import check_choice, check_int, is_number
from dali_vidaug.sampling.videos import num_clips

if TYPE_CHECKING:
    from dali_vidaug.sampling.videos import Videos


@dataclass(frozen=True)
class MultiClip:
    """``num_clips`` clips of each video, for testing or for training on several views.

    Attributes:
        clip: a sampler of one clip, or of several for "own"; a ``ClipSampling`` for "even" and "dense", whose ``start``
            is then not used.
        num_clips: how many, [1, 256].
        placement: "even": from the first start to the last for which a clip fits, evenly; one clip is the middle one.
            "dense": one after the other from the first frame on; those for which the video is too short begin at the
            last start that fits. "random": each is drawn by itself. "same": all are the same frames, which the ops
            augment differently (repeated augmentation). "own": those that ``clip`` chooses by itself, which has
            ``num_clips / num_crops`` of them, such as ``SlowFastSampling(num_clips=10, training=False)``.
        step: for "dense", from start to start, in frames or in steps of 1/fps seconds; None: a clip's own length.
        rounding: for "even", of starts between two frames: "nearest" (halves to even, as MMAction2) or "down" (as
            torchcodec). On a time line of seconds nothing is rounded.
        num_crops: so many clips after each other have the same frames, for an op that crops by ``draws.views``;
            ``num_clips`` counts all of them.

    Raises:
        ValueError: an option is out of range.
    """

    clip: Any = field(default_factory=ClipSampling)
    num_clips: int = 10
    placement: Literal["even", "random", "dense", "same", "own"] = "even"
    step: float | None = None
    rounding: Literal["nearest", "down"] = "nearest"
    num_crops: int = 1

    def __post_init__(self):
        check_int(self, "num_clips", 1, MAX_VIEW)
        check_choice(self, "placement", ("even", "random", "dense", "same", "own"))
        is_op = hasattr(self.clip, "build") or hasattr(self.clip, "run")
        if isinstance(self.clip, type) or not hasattr(self.clip, "draw") or is_op:
            raise ValueError(f"MultiClip: clip must be a sampler, such as ClipSampling(), got {self.clip!r}")
        if self.placement in ("even", "dense") and not isinstance(self.clip, ClipSampling):
            raise ValueError(
                f"MultiClip: clip must be a ClipSampling for placement={self.placement!r}, got {self.clip!r}"
            )
        if self.placement != "own" and num_clips(self.clip) != 1:
            raise ValueError(
                f"MultiClip: clip must be a sampler of one clip, unless placement='own', got {self.clip!r}"
            )
        if self.step is not None and not (is_number(self.step) and self.step > 0 and self.placement == "dense"):
            raise ValueError(f"MultiClip: step must be None, or with placement='dense' a number > 0, got {self.step!r}")
        check_choice(self, "rounding", ("nearest", "down"))
        check_int(self, "num_crops", 1, MAX_VIEW)
        if self.num_clips % self.num_crops:
            raise ValueError(
                f"MultiClip: num_clips must be a multiple of num_crops={self.num_crops}, got {self.num_clips}"
            )
        if self.placement == "own" and num_clips(self.clip) * self.num_crops != self.num_clips:
            raise ValueError(
                f"MultiClip: num_clips must be {num_clips(self.clip) * self.num_crops}, the clips of the sampler times "
                f"num_crops={self.num_crops}, with placement='own', got {self.num_clips}"
            )

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.clip.num_frames

    @property
    def short(self) -> str | None:
        """What the clip's sampler does when a video is too short."""
        return getattr(self.clip, "short", None)

    @property
    def uses_times(self) -> bool:
        """Whether the frames depend on time stamps."""
        return getattr(self.clip, "uses_times", False)

    def draw(self, draws: Draws, videos: Videos) -> np.ndarray:
        """Choose the frames of each clip of a batch.

        Args:
            draws: the batch's random numbers.
            videos: what is known of each clip's video.

        Returns:
            (B, num_frames) int32, or float64.

        Raises:
            ValueError: a video of one frame should give clips at several places, or what the clip's sampler raises.
        """
        number = draws.views % self.num_clips // self.num_crops
        views = np.zeros_like(number) if self.placement == "same" else number
        draws = Draws(draws.seed, draws.epoch, draws.samples, views, draws.prefix, draws.batch)
        if self.placement in ("same", "random", "own"):
            return self.clip.draw(draws, videos)
        alone = videos.lengths == 1
        if alone.any() and self.num_clips > self.num_crops:
            place = videos.place(draws, int(np.argmax(alone)))
            raise ValueError(
                f"MultiClip: {place} has one frame, which has no {self.num_clips // self.num_crops} places for clips; "
                "leave it out, or use placement='same'"
            )
        return self.clip.draw_at(draws, videos, lambda room, grid: self._starts(number, room, grid), self)

    def _starts(self, number: np.ndarray, room: np.ndarray, grid: Grid) -> np.ndarray:
        """Where clip ``number`` of its video begins: (B,) float64."""
        last, count = last_start(room, grid), self.num_clips // self.num_crops
        if self.placement == "even":
            start = last * number / (count - 1) if count > 1 else last / 2
            if not grid.whole:
                return start
            return np.rint(start) if self.rounding == "nearest" and count > 1 else np.floor(start + TINY)
        if self.step is None:
            gaps = max(1, self.num_frames - 1)
            span = (grid.length - room) / gaps * self.num_frames if self.num_frames > 1 else self._stride()
        else:
            span = self.step
        start = number * span
        start = np.floor(start + TINY) if grid.whole else start
        return np.where(start < room - TINY, start, last)

    def _stride(self) -> float:
        """The largest stride of the clip, in frames or in steps of 1/fps seconds."""
        stride = self.clip.stride
        return float(stride[1] if isinstance(stride, tuple) else stride)
