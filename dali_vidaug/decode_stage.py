"""The clips of batches that DALI decodes: given to it ahead, compared, and decoded otherwise where it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dali_vidaug.counting import RunningReport
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.decode_graph import DecodeGraph
from dali_vidaug.decoding import Decoding
from dali_vidaug.device.decode_memory import is_out_of_memory, memory_for_decoding
from dali_vidaug.errors import one_line, printable
from dali_vidaug.gathering import Gathering
from dali_vidaug.media.load import Encoded
from dali_vidaug.pending import Pending
from dali_vidaug.plan import Plan
from dali_vidaug.settings import Settings
from dali_vidaug.share import Share
from dali_vidaug.trust import Trust

NUM_GRAPHS = {"cpu": 1, "gpu": 2}  # that decode side by side; each has threads of its own, which on a GPU only wait


class DecodeStage:
    """Makes decoded clips of the batches of a recipe, in order. ``decode`` and ``free`` are called in one thread.

    Args:
        manifest, settings, report, trust, share: as of ``Maker``.
        gathering: where clips come from.
        files_max: clips of a batch that are decoded at once, at most.
        whole: no ops are done: clips of the same frames are decoded once, and differ in their ops.
    """

    def __init__(
        self, manifest: Manifest, settings: Settings, report: RunningReport, trust: Trust, share: Share,
        gathering: Gathering, files_max: int, whole: bool,
    ):  # fmt: skip
        self._manifest, self._settings, self._report = manifest, settings, report
        self._trust, self._share = trust, share
        self._gathering, self._files_max, self._whole = gathering, files_max, whole
        self._decoding: Any = None  # of all clips
        self._retrying: Any = None  # decodes clips one by one
        self._boxed = False  # what the graphs of both are made for

    def decode(self, pending: Pending, following: Callable[[], Pending | None] = lambda: None) -> None:
        """Wait for the clips of a batch, replace bad ones or leave them out, decode: ``pending.inputs``.

        Args:
            pending: the batch.
            following: gives the batch after it, if it is begun. Where DALI has nothing to do and its clips are there,
                it is given to DALI before this one is done.

        Raises:
            ClipError: a clip is bad and must not be replaced, or too many replacements are bad too.
            RuntimeError: DALI fails, but on no clip alone; or there is no memory even for one.
        """
        if pending.error is not None:
            raise pending.error
        self._gather(pending)
        failed, alone = False, 0  # how often DALI failed on a batch, but on no clip of it
        while pending.job is not None or self._submit(pending, first=True):
            try:
                self._decoding.result(pending.job, partial(self._begin, following))
            except RuntimeError as error:
                failed, pending.job = True, None
                if not self._replace_failed(pending, error):
                    alone += 1
                    if alone > 1:
                        raise
                continue
            # The batch before may have shown that some of these are wrong.
            if not self._trust.find_wrong(pending.inputs) and self._trust.accept(
                self._manifest, pending.plan, pending.inputs, pending.job.frames
            ):
                by_dali, clips = len(pending.job.decoded), len(pending.plan)
                self._share.saw_decoded(self._settings.cpu_share, by_dali, clips, pending.job.seconds)
                for i, clip in pending.job.decoded.items():
                    pending.inputs[i] = clip
                break
            pending.job = None
        if failed:
            self._retrying = None  # frees its memory
        pending.wrong = self._trust.wrong

    def free(self) -> None:
        """Free the graphs."""
        self._decoding = self._retrying = None

    def _gather(self, pending):
        if not pending.gathered:
            self._gathering.collect(pending, range(len(pending.plan)))
            pending.gathered = True

    def _begin(self, following):
        """Give a batch to DALI ahead of its turn, if nothing has to be waited for, and nothing depends on others."""
        pending = following()
        if pending is None or pending.gathered or pending.error is not None:
            return
        if self._share.is_measuring(self._settings.cpu_share) or not self._gathering.is_loaded(pending):
            return
        try:
            self._gather(pending)
            seen = self._trust.has_seen(self._settings.verify, pending.inputs)
            # If graphs must be made anew, those that still decode are done and freed first: both would take memory.
            if seen and self._boxed == self._gathering.boxed and not self._trust.find_wrong(pending.inputs):
                self._submit(pending, first=False)
        except Exception as error:
            pending.error = error  # for its own turn

    def _submit(self, pending, first) -> bool:
        """Give the clips of a batch to DALI, before or after all that waits; False if none is left in the batch."""
        checked = self._to_check(pending)
        if checked is None:
            return False
        self._know_boxed()
        self._decoding = self._decoding or self._new(pending.plan, NUM_GRAPHS[self._settings.device])
        pending.job = self._decoding.submit(pending.plan, pending.inputs, checked, first)
        return True

    def _know_boxed(self):
        """Let graphs that show whole frames go when the first clip has come of which they must show a part."""
        if self._boxed != self._gathering.boxed:
            if self._decoding is not None:
                self._decoding.finish()
            self._boxed, self._decoding, self._retrying = self._gathering.boxed, None, None

    def _new(self, plan: Plan, num_graphs: int) -> Decoding:
        """A decoding for the recipe of a plan."""
        settings, oriented = self._settings, self._manifest.any_oriented()
        make = partial(DecodeGraph, plan, settings, self._files_max, oriented, self._boxed, self._whole)
        num_copies = 2 + self._boxed + oriented + (settings.color == "file")
        memory = memory_for_decoding(settings.device_id, settings.num_threads)
        return Decoding(
            make, num_graphs, settings.decode_batch, memory, num_copies, settings.device == "gpu", self._whole,
            self._report,
        )  # fmt: skip

    def _to_check(self, pending) -> Sequence[int] | None:
        """Which clips are compared with PyAV's; None where no clip is left. Those known to be wrong are loaded anew."""
        while True:
            pending.leave_out(self._manifest)
            if not len(pending.plan):
                return None
            chosen = self._trust.choose(self._settings.verify, pending.plan, pending.inputs)
            wrong = self._trust.find_wrong(pending.inputs)
            again = wrong or [i for i in chosen if pending.inputs[i].expected is None]
            if again:
                self._gathering.reload(pending, again, check=not wrong)
                continue
            bad = next((i for i in chosen if pending.inputs[i].expected.problem), None)
            if bad is None:
                return chosen
            why = pending.inputs[bad].expected.problem
            self._gathering.collect(pending, self._gathering.replace(pending, bad, why, ValueError(why)))

    def _replace_failed(self, pending: Pending, error: RuntimeError) -> bool:
        """DALI fails a whole batch for one clip: find the bad ones, each alone, and put others in their places.

        Clips that DALI cannot decode go to PyAV if the settings allow it; otherwise they are replaced.

        Returns:
            Whether there are such clips.
        """
        if not any(isinstance(clip, Encoded) for clip in pending.inputs):
            raise error
        waiting, found = list(range(len(pending.plan))), False
        while waiting:
            i = waiting.pop(0)
            why = self._problem(pending.plan.row(i), pending.inputs[i])
            if why is None:
                continue
            found = True
            group = self._gathering.avoid_dali(pending, i, why, error)
            # A new clip may be bad for PyAV, too, or for DALI. This ends: PyAV's clips are not DALI's to decode, and
            # attempts to replace a clip are counted on.
            self._gathering.collect(pending, group)
            others = [k for k in waiting if k not in pending.group(i) and k not in pending.dropped]
            waiting = [*(() if i in pending.dropped else pending.group(i)), *others]
        return found

    def _problem(self, plan: Plan, clip: object) -> str | None:
        """Why DALI cannot decode the clip of a plan of one row; None if it can."""
        if not isinstance(clip, Encoded):
            return None
        self._know_boxed()
        self._retrying = self._retrying or self._new(plan, 1)
        try:
            self._retrying.result(self._retrying.submit(plan, [clip], ()))
        except RuntimeError as error:
            if is_out_of_memory(error) and self._settings.decoder == "dali":  # it need not be the clip's fault
                path, sample = self._manifest.path(int(plan.samples[0])), int(plan.samples[0])
                raise RuntimeError(
                    f"there is no memory for DALI to decode a single clip, of {printable(path)} (sample {sample}): "
                    f"{one_line(error)}"
                ) from error
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            words = ("error", "failed", "assert", "supported", "memory", "bad_alloc")
            telling = [line for line in lines if any(word in line.lower() for word in words)]
            return f"DALI could not decode it: {(telling or lines or ['no message'])[-1]}"
        return None
