"""The clips of a batch: waited for, and others put in the places of bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from dali_vidaug.clip_loading import Loading
from dali_vidaug.counting import RunningReport
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.errors import ClipError, one_line
from dali_vidaug.media.claims import keep_measured
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.load import Encoded
from dali_vidaug.pending import Pending
from dali_vidaug.plan import Plan
from dali_vidaug.rng import Draws
from dali_vidaug.settings import Settings
from dali_vidaug.share import Share
from dali_vidaug.threads import TooLongError

REPLACEMENTS_MAX = 20  # for one sample of a batch; after that something is wrong with the data set, not with one file


class Gathering:
    """Clips as they come from the pool.

    Args:
        manifest, settings, report, pool, share: as of ``Maker``.
        loading: gives clips to the pool.

    Attributes:
        boxed: whether a clip came of which DALI must show a part only.
    """

    def __init__(
        self, manifest: Manifest, settings: Settings, report: RunningReport, pool: Any, loading: Loading, share: Share,
    ):  # fmt: skip
        self._manifest, self._settings, self._report, self._pool = manifest, settings, report, pool
        self._loading, self._share = loading, share
        self._num_skipped, self._any_good, self.boxed = 0, False, False

    def start(self, plan: Plan) -> Pending:
        """Begin to load the clips of a plan."""
        pending = Pending(plan)
        for group in pending.groups():
            pending.jobs |= self._loading.load(plan, group)
        return pending

    def is_loaded(self, pending: Pending) -> bool:
        """Whether all clips of a batch have come, and none is bad."""
        return all(map(self._pool.has, {job.future for job in list(pending.jobs.values())}))

    def reload(self, pending: Pending, clips: Sequence[int], check: bool) -> None:
        """Load clips again, and those that were loaded with them; ``check`` as of ``Loading.load``."""
        for group in {tuple(pending.together(i)) for i in clips}:
            pending.jobs |= self._loading.load(pending.plan, group, check=check)
        self.collect(pending, clips)

    def collect(self, pending: Pending, clips: Sequence[int]) -> None:
        """Put clips into ``pending.inputs``, or others in place of bad ones."""
        waiting = list(clips)
        while waiting:
            if pending.cancelled:
                raise CancelledError  # else jobs that were begun since then would be waited for
            i = waiting.pop(0)
            try:
                loaded = self._pool.result(pending.jobs[i].future)
            except READ_ERRORS as error:
                if isinstance(error, TooLongError) and self._settings.timeout:
                    self._report.add_slow(self._manifest.path(int(pending.plan.samples[i])), self._settings.timeout)
                group = self.replace(pending, i, one_line(error), error)
                waiting = [*group, *(k for k in waiting if k not in group and k not in pending.dropped)]
                continue
            clip = loaded.clips[pending.jobs[i].place]
            why = self._settings.confused(clip.video.codec, clip.size) if isinstance(clip, Encoded) else None
            if why:
                moved = self.avoid_dali(pending, i, why)
                waiting = [*moved, *(k for k in waiting if k not in moved and k not in pending.dropped)]
                continue
            self._any_good = True
            if loaded.measured is not None:
                claim = self._settings.trusted(self._manifest.video(int(pending.plan.samples[i])))
                keep_measured(claim, loaded.measured)
            self.boxed |= isinstance(clip, Encoded) and clip.box is not None
            pending.inputs[i] = clip
            pending.motion[i] = None if loaded.motion is None else loaded.motion[pending.jobs[i].place]
            if pending.jobs[i].place == 0:
                path = partial(self._manifest.path, int(pending.plan.samples[i]))
                self._report.add_loaded(loaded.num_decoded, loaded.seconds, loaded.elapsed, path)
                self._share.saw_loaded(self._settings.cpu_share, loaded, pending.jobs[i])
            if loaded.fallback:
                self._report.add_fallback(self._manifest.path(int(pending.plan.samples[i])), loaded.fallback)

    def replace(self, pending: Pending, i: int, why: str, error: BaseException) -> range:
        """Take another sample in place of a bad one, drawn at the address of the sample that was there at first.

        All clips that are made of a sample are replaced, or left out, together.

        Returns:
            The positions of the new clips, which are being loaded; none where they are left out.
        """
        group, attempt, bad = pending.group(i), pending.attempts[i], pending.plan.row(i)
        sample, first = int(bad.samples[0]), int(pending.drawn.samples[i])
        path = self._manifest.path(sample)
        if self._settings.on_error == "raise" or attempt == REPLACEMENTS_MAX:
            if attempt:
                why = f"{why} (the last of {attempt} replacements for sample {first}, all bad)"
            raise ClipError(path, bad, why) from error
        skip = self._settings.on_error == "skip"
        self._report.add_bad(sample, path, bad.epoch, why, len(group), skip)
        if skip:
            self._num_skipped += 1
            if self._num_skipped > REPLACEMENTS_MAX and not self._any_good:
                raise ClipError(path, bad, f"{why} (the last of {self._num_skipped} samples, all bad)") from error
            pending.drop(group)
            return range(0)
        drawn = pending.drawn
        draws = Draws(drawn.seed, drawn.epoch, [first], drawn.views[group[0]], "replacement")
        samples = pending.plan.samples.copy()
        samples[list(group)] = draws.integers(f"sample.{attempt}", len(self._manifest))[0]
        # The plans of the other clips do not depend on this one's.
        pending.draw(self._manifest, samples)
        for k in group:
            pending.attempts[k] += 1
            pending.jobs[k].future.cancel()
        pending.jobs |= self._loading.load(pending.plan, group)
        return group

    def avoid_dali(self, pending: Pending, i: int, why: str, error: BaseException | None = None) -> Sequence[int]:
        """Have PyAV decode a clip, and those that are loaded with it, if the settings allow it; else replace it.

        Returns:
            The positions of the clips that are being loaded.
        """
        if self._settings.decoder == "hybrid":
            group = pending.together(i)
            for _ in group:
                self._report.add_fallback(self._manifest.path(int(pending.plan.samples[i])), why)
            pending.jobs |= self._loading.load(pending.plan, group, "pyav")
            return group
        return self.replace(pending, i, why, error or ValueError(why))
