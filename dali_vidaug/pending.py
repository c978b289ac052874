"""A batch whose clips are being loaded."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.data.manifest import Manifest
from dali_vidaug.drawing import draw_plan
from dali_vidaug.plan import Plan


class Job(NamedTuple):
    """Where a clip comes from.

    Attributes:
        future: of the ``Loaded`` of all clips that are loaded together.
        place: of the clip among them.
        drawn: whether PyAV decodes it although DALI could (``share.py``); None where that was no question.
    """

    future: Future
    place: int
    drawn: bool | None = None


@dataclass
class Pending:
    """A batch whose clips are being loaded.

    Attributes:
        drawn: the plan at the start. Clips of one sample that stand next to each other are of one group.
        plan: of the clips as they are now, replacements included.
        jobs: for each clip, by its position, what loads it.
        inputs: for each clip, its input of the graph; None until it is there.
        motion: for each clip what moves in it, (2, F, h, w); None where it is not asked for.
        attempts: for each clip, how often it has been replaced.
        dropped: the positions of clips that are to be left out.
        kept: the positions in ``drawn`` of the clips that are in the batch.
        cancelled: nobody waits for the batch any more.
        gathered: all clips have come.
        job: what DALI decodes of it.
        error: went wrong when it was begun ahead of its turn.
        wrong: codings that DALI decodes wrongly, as was known when it was decoded: ``Trust.wrong``.
    """

    drawn: Plan
    plan: Plan = field(init=False)
    jobs: dict[int, Job] = field(default_factory=dict)
    inputs: list[Any] = field(init=False)
    motion: list[Any] = field(init=False)
    attempts: list[int] = field(init=False)
    dropped: set[int] = field(default_factory=set)
    kept: np.ndarray = field(init=False)
    cancelled: bool = False
    gathered: bool = False
    job: Any = None
    error: Exception | None = None
    wrong: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.plan, size = self.drawn, len(self.drawn)
        self.inputs, self.attempts, self.kept = [None] * size, [0] * size, np.arange(size)
        self.motion = [None] * size
        self._group_of = np.cumsum(np.diff(self.drawn.samples, prepend=self.drawn.samples[:1]) != 0)

    @property
    def skipped(self) -> np.ndarray:
        """The samples of the clips that were left out: (S,) int64."""
        return np.delete(self.drawn.samples, self.kept)

    def group(self, i: int) -> range:
        """The clips that are made of the same sample as clip ``i``, which are next to each other."""
        groups = self._group_of[self.kept]
        return range(*np.searchsorted(groups, [groups[i], groups[i] + 1]).tolist())

    def groups(self) -> list[range]:
        """The clips of each sample."""
        starts = np.flatnonzero(np.diff(self._group_of[self.kept], prepend=-1)).tolist()
        return [range(*ends) for ends in pairwise([*starts, len(self.kept)])]

    def together(self, i: int) -> list[int]:
        """The clips that are loaded together with clip ``i``, itself included, rising."""
        return [k for k in self.group(i) if self.jobs[k].future is self.jobs[i].future]

    def decoded_together(self) -> list[np.ndarray]:
        """The frames of the clips that were loaded together, (number of clips, F) for each such part of the batch."""
        parts: dict[Future, list[int]] = {}
        for i in range(len(self.plan)):
            parts.setdefault(self.jobs[i].future, []).append(i)
        return [self.plan.frames[clips] for clips in parts.values()]

    def draw(self, manifest: Manifest, samples: np.ndarray) -> None:
        """Draw the plan again, for other samples, (B,). What clips of other groups get by themselves stays the same."""
        drawn, views, repeat_index = self.drawn, self.drawn.views[self.kept], self.drawn.repeat_index[self.kept]
        at = drawn.seed, drawn.epoch, views, drawn.batch[self.kept], repeat_index
        self.plan = draw_plan(manifest, drawn.recipe, samples, *at, drawn.step)

    def drop(self, clips: range) -> None:
        """Have clips left out by ``leave_out``; positions do not change before."""
        self.dropped.update(clips)
        for i in clips:
            self.jobs[i].future.cancel()

    def leave_out(self, manifest: Manifest) -> None:
        """Make the batch smaller by the clips that were dropped. Ops that mix clips are drawn again for the others."""
        if not self.dropped:
            return
        keep = [i for i in range(len(self.plan)) if i not in self.dropped]
        self.jobs = {place: self.jobs[i] for place, i in enumerate(keep)}
        self.inputs, self.attempts = [self.inputs[i] for i in keep], [self.attempts[i] for i in keep]
        self.motion = [self.motion[i] for i in keep]
        self.kept, self.dropped = self.kept[keep], set()
        if keep:
            self.draw(manifest, self.plan.samples[keep])
        else:
            self.plan = self.plan.part(slice(0))

    def cancel(self) -> None:
        """Have the clips dropped. Whoever waits for them, in another thread, gets a ``CancelledError`` at once."""
        self.cancelled = True
        for job in list(self.jobs.values()):
            job.future.cancel()
