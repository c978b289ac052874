"""A long video as consecutive snippets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from dali_vidaug.rng import MAX_VIEW, Draws
from dali_vidaug.sampling.grid import TINY, Grid
from dali_vidaug.sampling.options import check_bool, check_choice, check_grid, check_int

if TYPE_CHECKING:
    from dali_vidaug.sampling.videos import Videos


class Spans(NamedTuple):
    """Where the snippets of clips are. P is ``per_clip``.

    Attributes:
        number: (B, P) int64, which snippet of its video each is, from 0; -1: none.
        start, end: (B, P) float64, seconds after the first frame that may be used, [start, end); NaN: none.
        valid: (B, P) bool, False for those that only fill up: they have the last snippet's frames.
    """

    number: np.ndarray
    start: np.ndarray
    end: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Snippets:
    """The consecutive snippets of an untrimmed video, for temporal localisation.

    Snippet i of a video is the seconds from i * length / fps on. A clip has ``per_clip`` snippets, one after the other:
    ``clips.unflatten(2, (per_clip, length))``. A video has ``count`` of them in ``count / per_clip`` clips; those that
    it does not have repeat its last one, and are not valid. ``spans(batch.plan)`` says which are valid, and when each
    is shown.

    Attributes:
        length: frames of a snippet.
        fps: frames per second; None: a snippet is ``length`` frames, whatever their times.
        count: snippets of each video, a multiple of ``per_clip``.
        per_clip: snippets of a clip; count / per_clip must be in [1, 256].
        placement: "all": from the first on; a video that has more than ``count`` is refused. If a video has more:
            "even" takes number floor(i * N / count), "random" one from there up to the next such number, "window"
            consecutive ones from a random one on.
        partial: whether the rest of a video that is shorter than a snippet is one too; its last frame is repeated.
        grid: as in ``ClipSampling``.

    Raises:
        ValueError: an option is out of range.
    """

    length: int = 16
    fps: float | None = 25.0
    count: int = 64
    per_clip: int = 1
    placement: Literal["all", "even", "random", "window"] = "all"
    partial: bool = False
    grid: Literal["played", "near", "rate"] = "played"

    def __post_init__(self):
        check_int(self, "length", 1, 65536)
        check_grid(self)
        check_int(self, "count", 1, 2**20)
        check_int(self, "per_clip", 1, 65536)
        check_choice(self, "placement", ("all", "even", "random", "window"))
        check_bool(self, "partial")
        if self.count % self.per_clip or not 1 <= self.count // self.per_clip <= MAX_VIEW:
            raise ValueError(
                f"Snippets: count must be 1 to {MAX_VIEW} times per_clip={self.per_clip}, got {self.count}; a larger "
                "per_clip puts more of them into a clip"
            )

    @property
    def num_clips(self) -> int:
        """Clips of each video."""
        return self.count // self.per_clip

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.length * self.per_clip

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
            (B, per_clip * length) int32.

        Raises:
            ValueError: a video has no snippet, more than ``count`` with placement "all", or no known times.
        """
        grid, number, _ = self._choose(draws, videos)
        positions = (number[:, :, None] * self.length + np.arange(self.length)).reshape(len(number), -1)
        return grid.frames(np.minimum(positions, np.maximum(grid.length - grid.step, 0.0)[:, None] + TINY))

    def spans(self, plan: Any) -> Spans:
        """Where the snippets of a plan's clips are.

        Args:
            plan: one that was drawn with this sampler, with its manifest: ``batch.plan``.

        Raises:
            ValueError: the plan has no manifest, because it was saved or pickled, or is of another sampler; or its
                recipe has ops on time, which move frames from one of several snippets of a clip to another.
        """
        if plan.manifest is None:
            raise ValueError(
                "Snippets: the plan has no manifest; dataclasses.replace(plan, manifest=manifest) gives it one"
            )
        if plan.recipe.sampling != self:
            raise ValueError(f"Snippets: the plan must be of {self!r}, got {plan.recipe.sampling!r}")
        if self.per_clip > 1 and plan.recipe.time_ops:
            names = ", ".join(name for name, _ in plan.recipe.time_ops)
            raise ValueError(
                f"Snippets: {names} moves frames from one snippet of a clip to another, which spans do not tell: use "
                f"per_clip=1, got {self.per_clip}"
            )
        draws = Draws(plan.seed, plan.epoch, plan.samples, plan.views, type(self).__name__)
        videos = plan.manifest.videos(plan.samples)
        _, number, valid = self._choose(draws, videos)
        sides = np.stack([number, number + 1]).astype(np.float64) * self.length  # in steps
        if self.fps is not None:
            sides /= self.fps
        else:
            for i, (first, last) in enumerate(zip(videos.first.tolist(), videos.last.tolist(), strict=True)):
                times = videos.times(i)
                end = times[last] if last < len(times) else times[last - 1] + 1 / videos.fps[i]
                seconds = np.append(times[first:last], end) - times[first]
                sides[:, i] = seconds[np.minimum(sides[:, i].astype(np.int64), last - first)]
        start, end = (np.where(valid, side, np.nan) for side in sides)
        return Spans(np.where(valid, number, -1), start, end, valid)

    def _choose(self, draws: Draws, videos: Videos) -> tuple[Grid, np.ndarray, np.ndarray]:
        """The time lines, the number of each snippet, (B, per_clip) int64, and whether it is one."""
        grid = Grid(self, draws, videos, self.fps, self.grid)
        exact = grid.length / self.length
        total = (np.ceil(exact - TINY) if self.partial else np.floor(exact + TINY)).astype(np.int64)
        most = self.count if self.placement == "all" else np.inf
        wrong = (total < 1) | (total > most)
        if wrong.any():
            i = int(np.argmax(wrong))
            have = f"{videos.place(draws, i)} has {grid.length_text(i, self.fps)}, {total[i]} snippets of {self.length}"
            more = f"more than count={self.count}; another placement chooses among them" if total[i] else "too few"
            raise ValueError(f"Snippets: {have}: {more}")
        slot = (draws.views % self.num_clips)[:, None] * self.per_clip + np.arange(self.per_clip)
        has_more, every = (total > self.count)[:, None], total[:, None]
        number = slot
        if self.placement in ("even", "random"):
            low, high = slot * every // self.count, (slot + 1) * every // self.count
            if self.placement == "random":
                low = low + np.floor(draws.uniform("snippet", n=self.per_clip) * (high - low)).astype(np.int64)
            number = np.where(has_more, low, slot)
        elif self.placement == "window":
            together = Draws(draws.seed, draws.epoch, draws.samples, 0, draws.prefix, draws.batch)  # for all clips
            number = slot + together.integers("window", np.maximum(total - self.count, 0) + 1)[:, None]
        return grid, np.minimum(number, every - 1), number < every
