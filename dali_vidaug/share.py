"""DALI and the CPU at once: which clips PyAV decodes although DALI could, and how "auto" chooses how many."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.counting import RunningReport
from dali_vidaug.media.load import Encoded, Loaded
from dali_vidaug.pending import Job
from dali_vidaug.plan import Plan
from dali_vidaug.rng import MAX_EPOCH, MAX_SAMPLE, Draws

WHILE_MEASURING = 0.5  # the share until "auto" has chosen
WARM_UP = 16  # clips of each decoder that do not count
MEASURED = 64  # clips of each decoder, after these
TRIED_MAX = 1024  # clips; if one of the decoders had too few of them by then, it is not waited for
_PARTS = 5  # of what is measured, at least as many times; the median of their means is not moved by a single stall

log = logging.getLogger("dali_vidaug")


class Choice(NamedTuple):
    """The share that "auto" chose.

    Attributes:
        epoch, place: of the first batch that it is for: its epoch, and the place of its step's first sample in the
            order of that epoch, ``Plan.step``. Batches before it have ``WHILE_MEASURING``.
        share: of the clips that DALI could decode, [0, 1].
    """

    epoch: int
    place: int
    share: float

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Choice | None:
        """That of a loader's state, if it has one.

        Raises:
            ValueError: it is no such choice.
        """
        given = state.get("cpu_share")
        if given is None:
            return None
        whole = isinstance(given, Mapping) and given.keys() == set(cls._fields)
        for name, limit in (("epoch", MAX_EPOCH), ("place", MAX_SAMPLE)):
            whole = whole and type(given[name]) is int and 0 <= given[name] < limit
        if not (whole and type(given["share"]) in (int, float) and 0 <= given["share"] <= 1):
            raise ValueError(
                "VideoLoader: cpu_share of the state must have an epoch, the place of a sample and a share in [0, 1], "
                f"got {given!r}"
            )
        return cls(**given)


class Share:
    """Which clips PyAV decodes although DALI could, so that both work at the same time.

    They are drawn by address: all clips of a sample together, by seed, epoch and sample. With a share of None ("auto")
    both decoders are measured, a share is chosen, and it holds from the next batch on that is begun.

    Args:
        report: what is chosen, and how many clips there are, is counted there.

    Attributes:
        choice: what "auto" chose; None before.
    """

    def __init__(self, report: RunningReport):
        self.choice: Choice | None = None
        self._report, self._lock = report, threading.Lock()
        self._measured: _Measured | None = None  # while "auto" measures

    def know(self, choice: Choice | None) -> None:
        """Let a share be chosen that was chosen before, by this process or another; nothing is measured any more."""
        if choice is not None:
            with self._lock:
                self.choice, self._measured = choice, None

    def go_on(self, state: Mapping[str, Any]) -> None:
        """As ``know``, by what the state of a loader says, if it does.

        Raises:
            ValueError: as ``Choice.of``.
        """
        self.know(Choice.of(state))

    def at(self, share: float | None, plan: Plan) -> float:
        """The share for a batch: that of the settings, or what was chosen for it."""
        if share is not None:
            return share
        choice = self.choice
        return choice.share if choice and (plan.epoch, plan.step) >= choice[:2] else WHILE_MEASURING

    def takes(self, share: float | None, plan: Plan, i: int) -> bool:
        """Whether PyAV decodes the clips of a sample, of which clip ``i`` of a plan is one; DALI could."""
        part = self.at(share, plan)
        return part > 0 and float(_draws(plan, i).uniform("sample")[0]) < part

    def begin(self, share: float | None, plan: Plan, num_threads: int) -> None:
        """Before the clips of a batch are loaded, batch by batch: choose, if ``share`` is None and enough was measured.

        Args:
            share: of the settings.
            plan: of the batch; the share holds from it on.
            num_threads: of the pool that loads clips.
        """
        if share is not None:
            return
        self._choose(plan, num_threads)
        if self.choice is not None:
            self._report.add_share(self.choice.share)

    def is_measuring(self, share: float | None) -> bool:
        """Whether, with the share of the settings, DALI is measured: then it must be given one batch after another."""
        return share is None and self.choice is None

    def _choose(self, plan, num_threads):
        with self._lock:
            if self.choice is not None:
                return
            self._measured = measured = self._measured or _Measured()
            chosen, what = measured.choose(num_threads), measured.text(num_threads)
            if chosen is not None:
                self.choice, self._measured = Choice(int(plan.epoch), int(plan.step), chosen), None
        if chosen is not None:
            log.warning(
                "cpu_share 'auto' is %.2f from sample %d of epoch %d on: %s. cpu_share=%.2f takes this share without "
                "measuring", chosen, plan.step, plan.epoch, what, chosen,
            )  # fmt: skip

    def saw_loaded(self, share: float | None, loaded: Loaded, job: Job) -> None:
        """Measure clips that were loaded together, if the share of the settings is None."""
        measured = self._measured
        if share is None and measured:
            with self._lock:
                measured.add_loaded(loaded, job.drawn)

    def saw_decoded(self, share: float | None, by_dali: int, clips: int, seconds: float) -> None:
        """Measure a batch that is decoded, if the share of the settings is None.

        Args:
            share: of the settings.
            by_dali: clips that DALI decoded.
            clips: of the batch.
            seconds: that DALI was waited for, from its beginning on.
        """
        measured = self._measured
        if share is None and measured:
            with self._lock:
                measured.add_batch(by_dali, clips, seconds)


def _draws(plan, i):
    """One decision for all clips of a sample: those of the same frames, or of the same GOPs, are decoded once."""
    return Draws(plan.seed, plan.epoch, plan.samples[i : i + 1], 0, "cpu share")


class _Measured:
    """Clips and the seconds that they took: of waiting for "dali"; else of a thread of the pool.

    Those of the pool are by what became of them: "cut" out for DALI, decoded by PyAV because of the "share", or because
    DALI "refused" them.
    """

    def __init__(self):
        self._entries: dict[str, list[tuple[int, float]]] = {}
        self._warm: Counter[str] = Counter()
        self._drawn: Counter[bool | None] = Counter()  # clips, by ``Job.drawn``
        self._batches, self._clips = 0, 0  # that are decoded
        self._refused_later = 0  # clips that were found not to be for DALI when they were loaded

    def add(self, kind, clips, seconds):
        if not clips:
            return
        if self._warm[kind] < WARM_UP:
            self._warm[kind] += clips
        else:
            self._entries.setdefault(kind, []).append((clips, seconds))

    def add_batch(self, by_dali, clips, seconds):
        self.add("dali", by_dali, seconds)
        self._batches, self._clips = self._batches + 1, self._clips + clips

    def add_loaded(self, loaded, drawn):
        clips = len(loaded.clips)
        self._drawn[drawn] += clips
        self._refused_later += clips * (drawn is False and loaded.fallback is not None)
        encoded = isinstance(loaded.clips[0], Encoded)
        self.add("cut" if encoded else "share" if drawn else "refused", clips, loaded.elapsed)

    def _count(self, kind):
        return sum(clips for clips, _ in self._entries.get(kind, ()))

    def _each(self, kind):
        """Seconds for a clip."""
        entries = np.array(self._entries.get(kind, [(1, 0.0)]))
        parts = np.array_split(entries, min(_PARTS, len(entries)))
        return float(np.median([part[:, 1].sum() / part[:, 0].sum() for part in parts]))

    def choose(self, num_threads):
        """The share with which the pool and DALI take the same time; None if it is too early to say."""
        if self._is_enough():
            return round(self._balance(num_threads), 2)
        return 0.0 if self._clips >= TRIED_MAX and self._batches > 3 * _PARTS else None

    def _is_enough(self):
        both = "share", "dali"
        times = min(len(self._entries.get(kind, ())) for kind in both)
        return times >= _PARTS and min(map(self._count, both)) >= MEASURED

    def _balance(self, num_threads):
        # For each clip that DALI decodes, the threads have so many seconds for other clips.
        left = num_threads * self._each("dali") - self._each("cut")
        first = self._drawn[None] / self._drawn.total()
        refused = first + (1 - first) * self._refused_later / self._drawn[False]
        left -= refused / (1 - refused) * self._each("refused")  # clips that PyAV must decode in any case
        # Of the others PyAV decodes a share s: s * seconds of a clip = (1 - s) * what is left for each of DALI's.
        whole = num_threads * self._each("dali") - self._each("cut") + self._each("share")
        return left / whole if left > 0 else 0.0

    def text(self, num_threads):
        """What was measured, in words."""
        if not self._is_enough():
            return (
                f"after {self._clips} clips there were only {self._count('share')} of PyAV's and "
                f"{self._count('dali')} of DALI's to compare, without the first ones and those that DALI cannot "
                f"decode; at least {MEASURED} of each, {_PARTS} times, would be enough"
            )
        rates = num_threads / self._each("share"), 1 / self._each("dali")
        threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
        return (
            f"PyAV decodes {rates[0]:.1f} clips/s in {threads}, DALI {rates[1]:.1f} (measured with "
            f"{self._count('share')} and {self._count('dali')} clips)"
        )
