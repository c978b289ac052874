"""Trust, but verify: which of DALI's clips are compared with PyAV's, and what DALI was found to decode wrongly."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dali_vidaug.counting import RunningReport
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.device.nvdec import Format
from dali_vidaug.differences import Finding, find_difference
from dali_vidaug.errors import printable
from dali_vidaug.media.load import Encoded
from dali_vidaug.ops.interpolate import decoded_frames
from dali_vidaug.plan import Plan
from dali_vidaug.rng import Draws

_WHOLE = 0.4  # share of the clips that are compared by chance of which all frames are compared
_PART = 0.25  # of the frames of the others, the first ones
_STILL_MAX = 8  # times as many clips as are asked for are compared at first, where nothing moves in them

log = logging.getLogger("dali_vidaug")


@dataclass
class _Record:
    """Clips of a coding that DALI has decoded: all, those that were compared, and those that showed the order."""

    made: int = 0
    compared: int = 0
    showed_order: int = 0


class Trust:
    """What a loader knows of DALI's decoder, by the coding of clips (``media.expected.coding_of``).

    Which clips are compared depends on their addresses, and on what was found in the batches before, in their order:
    not on threads or time.

    Args:
        report: what is found is counted there.

    Attributes:
        wrong: codings that DALI decodes wrongly, and what is wrong. It is replaced when it changes.
    """

    def __init__(self, report: RunningReport):
        self.wrong: Mapping[str, str] = {}
        self._report, self._records = report, dict[str, _Record]()
        self._expected: Counter[Format] = Counter()

    def know(self, wrong: Mapping[str, str]) -> None:
        """Let codings be wrong that were found before, by this process or another."""
        for coding in sorted(wrong.keys() - self.wrong.keys()):
            self._report.add_wrong(coding, wrong[coding])
            what = coding, wrong[coding]
            log.warning("by the loaded state, DALI decodes %s wrongly: %s. It decodes no such clips", *what)
        self.wrong = {**wrong, **self.wrong}

    def part_to_check(
        self, verify: tuple[int, int] | None, plan: Plan, clips: Sequence[int], asked: Format
    ) -> float:  # fmt: skip
        """The part of clips of the same frames that will be compared: of it, PyAV's frames are made ahead of time.

        It is the first part of many clips that are compared by chance, because to decode all of each would cost more;
        all of the others. Where 0.0 is returned for a clip that is compared after all, the frames are made later.
        """
        if verify is None:
            return 0.0
        is_first = self._expected[asked] < verify[0]
        self._expected[asked] += is_first
        if is_first or not _are_drawn(verify[1], plan, clips).any():
            return float(is_first)
        return _PART if (_draws(plan, clips).uniform("whole") >= _WHOLE).all() else 1.0

    def choose(self, verify: tuple[int, int] | None, plan: Plan, inputs: Sequence[Any]) -> list[int]:
        """Which clips of a batch to compare: the first ones of each coding, and one in so many."""
        if verify is None:
            return []
        drawn, chosen, looked_at, first = _are_drawn(verify[1], plan), [], set(), Counter[str]()
        for i, clip in enumerate(inputs):
            if not isinstance(clip, Encoded) or id(clip) in looked_at:  # clips of the same frames have one
                continue
            looked_at.add(id(clip))
            if drawn[i] or (first[clip.coding] < verify[0] and self._is_new(clip.coding, verify)):
                first[clip.coding] += 1
                chosen.append(i)
        return chosen

    def has_seen(self, verify: tuple[int, int] | None, inputs: Sequence[Any]) -> bool:
        """Whether ``choose`` will choose the same of these clips, whatever is found in the batches before them."""
        codings = {clip.coding for clip in inputs if isinstance(clip, Encoded)}
        return verify is None or not any(self._is_new(coding, verify) for coding in codings)

    def _is_new(self, coding, verify):
        """Whether clips of a coding are compared because they are the first ones."""
        record = self._records.get(coding, _Record())
        return record.showed_order < verify[0] and record.compared < _STILL_MAX * verify[0]

    def find_wrong(self, inputs: Sequence[Any]) -> list[int]:
        """Which clips of a batch are coded as what DALI decodes wrongly."""
        return [i for i, clip in enumerate(inputs) if isinstance(clip, Encoded) and clip.coding in self.wrong]

    def accept(
        self, manifest: Manifest, plan: Plan, inputs: Sequence[Any], decoded: Mapping[int, np.ndarray]
    ) -> bool:  # fmt: skip
        """Compare clips of a batch that DALI has made with what PyAV makes of them; count the batch if all are right.

        Args:
            manifest: of the clips.
            plan: of the batch.
            inputs: of the graph. Those to be compared have their ``expected``.
            decoded: these, as DALI decoded them, (F, H, W, 3) each, by position.

        Returns:
            Whether they are right; otherwise DALI must decode no clips of their codings any more.
        """
        findings = {i: _compare(pixels, plan.frames[i], inputs[i].expected) for i, pixels in decoded.items()}
        for i, finding in findings.items():
            coding = inputs[i].coding
            if finding.problem and coding not in self.wrong:
                sample = int(plan.samples[i])
                where = f"{printable(manifest.path(sample))} (sample {sample}, epoch {plan.epoch})"
                self._distrust(coding, finding.problem, where)
        if any(finding.problem for finding in findings.values()):
            return False
        for clip in inputs:
            if isinstance(clip, Encoded):
                self._records.setdefault(clip.coding, _Record()).made += 1
        for i, finding in findings.items():
            record = self._records[inputs[i].coding]
            record.compared += 1
            record.showed_order += finding.shows_order
        if findings:
            self._report.add_compared(len(findings), sum(not finding.shows_order for finding in findings.values()))
        return True

    def _distrust(self, coding, problem, where):
        self.wrong = {**self.wrong, coding: problem}
        self._report.add_wrong(coding, problem)
        record, before = self._records.get(coding, _Record()), "none was delivered before"
        if record.made:
            before = (
                f"{record.made} were delivered before, of which {record.compared} were compared and right: the others "
                "may be wrong"
            )
        log.warning(
            "DALI decodes %s wrongly: %s, in %s. It decodes no such clips any more; %s", coding, problem, where, before
        )


def _draws(plan, at=slice(None)):
    return Draws(plan.seed, plan.epoch, plan.samples[at], plan.views[at], "verify")


def _are_drawn(one_in, plan, at=slice(None)):
    """Which clips, at some positions, are compared whatever was found before: (N,) bool, by their addresses."""
    return _draws(plan, at).integers("clip", one_in) == 0


def _compare(pixels, frames, expected):
    """Whole frames, (F, H, W, 3), as DALI decoded them, with those expected."""
    frames = decoded_frames(frames)
    size, number = (*expected.size, 3), len(frames)
    if pixels.shape != (number, *size):
        return Finding(f"{number} frames of {size[1]}x{size[0]} were asked for, the array is {pixels.shape}")
    known = np.flatnonzero(np.isin(frames, expected.indices))
    seen = pixels[known][:, expected.rows] if len(known) < number else pixels[:, expected.rows]
    return find_difference(seen, frames[known], expected.pixels, expected.indices, expected.rows)
