"""A batch whose clips are being loaded."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dali_vidaug.data.manifest import Manifest
from dali_vidaug.plan import Plan, draw_plan


@dataclass
class Pending:
    """A batch whose clips are being loaded.

    Attributes:
        plan: of the clips as they are now, replacements included.
        drawn: the plan at the start.
        jobs: for each clip, the future of its ``Loaded``.
        inputs: for each clip, its input of the graph; None until it is there.
        attempts: for each clip, how often it has been replaced.
        dropped: the positions of clips that are to be left out.
        kept: the positions in ``drawn`` of the clips that are in the batch.
    """

    plan: Plan
    drawn: Plan
    jobs: list[Future]
    inputs: list[Any]
    attempts: list[int]
    dropped: set[int] = field(default_factory=set)
    kept: np.ndarray = field(init=False)

    def __post_init__(self):
        self.kept = np.arange(len(self.drawn))

    @property
    def skipped(self) -> np.ndarray:
        """The samples of the clips that were left out: (S,) int64."""
        return np.delete(self.drawn.samples, self.kept)

    def group(self, i: int) -> range:
        """The clips that are made of the same sample as clip ``i``, which are next to each other."""
        size = self.drawn.recipe.num_clips
        return range(i - i % size, min(i - i % size + size, len(self.plan)))

    def drop(self, clips: range) -> None:
        """Have clips left out by ``leave_out``; positions do not change before."""
        self.dropped.update(clips)
        for i in clips:
            self.jobs[i].cancel()

    def leave_out(self, manifest: Manifest) -> None:
        """Make the batch smaller by the clips that were dropped. Ops that mix clips are drawn again for the others."""
        if not self.dropped:
            return
        keep = [i for i in range(len(self.plan)) if i not in self.dropped]
        self.jobs, self.inputs = [self.jobs[i] for i in keep], [self.inputs[i] for i in keep]
        self.attempts = [self.attempts[i] for i in keep]
        self.kept, self.dropped, plan = self.kept[keep], set(), self.plan
        if keep:
            samples, views = plan.samples[keep], plan.views[keep]
            self.plan = draw_plan(manifest, plan.recipe, samples, plan.seed, plan.epoch, views, plan.batch)
        else:
            args = {name: rows if rows is None else rows[:0] for name, rows in plan.args.items()}
            self.plan = replace(plan, samples=plan.samples[:0], views=plan.views[:0], frames=plan.frames[:0], args=args)

    def cancel(self) -> None:
        """Drop the clips that are not being loaded yet."""
        for job in self.jobs:
            job.cancel()
