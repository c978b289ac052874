"""The one way for a clip: a plan in, clips out.

Clips are loaded in a pool of threads or processes, by PyAV or as a small file for DALI; those of a video that have the
same frames, or for PyAV share GOPs, are loaded together. The DALI graph makes the batch. A clip that cannot be loaded,
or that DALI does not decode right, goes to the other decoder, is replaced, or ends with a ``ClipError``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

import numpy as np

from dali_vidaug.boxes import Boxes
from dali_vidaug.clip_loading import Loading
from dali_vidaug.clip_motion import with_motion_masks
from dali_vidaug.counting import RunningReport
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.sampled import without_times
from dali_vidaug.errors import ClipError, one_line
from dali_vidaug.graph import Graph, dali_problem
from dali_vidaug.mapping import clip_geometry
from dali_vidaug.media.claims import keep_measured
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.load import Encoded
from dali_vidaug.media.vectors import CELL
from dali_vidaug.moved_boxes import boxes_of
from dali_vidaug.ops.interpolate import between_frames
from dali_vidaug.pending import Pending
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws
from dali_vidaug.settings import Settings
from dali_vidaug.share import Share
from dali_vidaug.trust import Trust

REPLACEMENTS_MAX = 20  # for one sample of a batch; after that something is wrong with the data set, not with one file


class Maker:
    """Makes batches of clips from plans.

    Args:
        manifest: where the videos are.
        recipe: of the plans.
        settings: how.
        batch_size: the largest number of clips in a batch.
        report: what was done is counted there.
        pool: where clips are loaded.
        trust: what is known of DALI's decoder; which of its clips are compared.
        share: which of its clips PyAV decodes.
    """

    def __init__(
        self, manifest: Manifest, recipe: Recipe, settings: Settings, batch_size: int, report: RunningReport, pool: Any,
        trust: Trust, share: Share,
    ):  # fmt: skip
        self.manifest, self.recipe, self.report, self.trust = manifest, recipe, report, trust
        self._settings, self._batch_size, self._pool, self._share = settings, batch_size, pool, share
        self._loading = Loading(manifest, recipe, settings, pool, trust, share)
        self._graphs: dict[tuple, Graph] = {}  # by what differs between plans of a recipe
        self._retry_graphs: dict[tuple, Graph] = {}
        self._num_skipped, self._any_good = 0, False
        self._boxed = False  # whether a clip came of which DALI must show a part only; those graphs do it for all

    def start(self, plan: Plan) -> Pending:
        """Begin to load the clips of a plan.

        Raises:
            TypeError, ValueError: a sample is not in the manifest, or the arguments of an op contradict each other or
                the video's size.
        """
        if not len(plan):
            raise ValueError("the plan has no clips")
        for i, sample in enumerate(plan.samples.tolist()):
            if not 0 <= sample < len(self.manifest):
                raise ValueError(f"clip {i} is of sample {sample}, but the manifest has {len(self.manifest)} rows")
        plan.check(*self.manifest.frame_sizes(plan.samples))
        self._share.begin(self._settings.cpu_share, plan, self._pool.num_threads)
        pending = Pending(plan)
        for group in pending.groups():
            pending.jobs |= self._loading.load(plan, group)
        return pending

    def finish(self, pending: Pending, stream: Any = None) -> tuple[Plan, Any]:
        """Wait for the clips of a batch, replace bad ones or leave them out, run the graph.

        Args:
            pending: from ``start``.
            stream: as in ``Graph.run``.

        Returns:
            The plan of the clips that are in the batch, and a DALI tensor list; None if none is left.

        Raises:
            ClipError: a clip is bad and must not be replaced, or too many replacements are bad too.
        """
        try:
            self._collect(pending, range(len(pending.plan)))
            before = time.perf_counter()
            clips = self._run(pending, stream)
        except BaseException:
            pending.cancel()
            raise
        self.report.add_seconds("graph", time.perf_counter() - before)
        self.report.add_fetched(*self._pool.take_costs())
        self.report.add_batch(pending.plan.frames, pending.decoded_together())
        if getattr(self.recipe.sampling, "uses_times", False):
            self.report.add_untimed(without_times(self.manifest, pending.plan.samples))
        return pending.plan, clips

    def boxes(self, plan: Plan) -> Boxes | None:
        """The boxes of the batch that ``finish`` made, as ``moved_boxes.boxes_of`` finds them; counts them."""
        return boxes_of(self.manifest, plan, self._settings.box_rules, self.report)

    def motion(self, pending: Pending) -> tuple[Plan, np.ndarray | None]:
        """What moves in the clips of the batch that ``finish`` made, (B, 2, F, h, w) float32; counts it.

        Returns:
            Their plan, with the masks that are drawn by it; and it, None where nobody needs it.
        """
        plan = pending.plan
        if not self._loading.motion:
            return plan, None
        one = pending.drawn.part(slice(1))  # all are of one size
        _, sizes = clip_geometry("VideoLoader", one, *self.manifest.frame_sizes(one.samples))
        frames, height, width = sizes[0].tolist()
        found = np.empty((len(plan), 2, frames, -(-height // CELL), -(-width // CELL)), np.float32)
        for clip, place in zip(pending.motion, found, strict=True):
            place[...] = clip
        self.report.add_motion(len(found) * frames, int(np.isnan(found[:, 0]).all((-2, -1)).sum()))
        return with_motion_masks(plan, found, (frames, height, width)), found

    def close(self) -> None:
        """Free the graphs."""
        self._graphs, self._retry_graphs = {}, {}

    def _run(self, pending, stream):
        """The clips of a batch; None if none is left. Where DALI fails, or gets some wrong, it is made again."""
        retried = False
        while (checked := self._to_check(pending)) is not None:
            graph, before = self._graph(self._graphs, pending.plan), time.perf_counter()
            try:
                clips = graph.run(pending.plan, pending.inputs, stream, checked)
            except RuntimeError as error:
                if retried:
                    raise
                retried = True
                self._replace_failed(pending, error)
                continue
            seconds = time.perf_counter() - before
            if self.trust.accept(self.manifest, pending.plan, pending.inputs, graph.decoded):
                self._share.saw_batch(pending.inputs, pending.jobs.values(), seconds)
                self._retry_graphs = self._retry_graphs if retried else {}  # frees their memory
                return clips
        return None

    def _to_check(self, pending):
        """Which clips are compared with PyAV's; None where no clip is left. Those known to be wrong are loaded anew."""
        while True:
            pending.leave_out(self.manifest)
            if not len(pending.plan):
                return None
            chosen = self.trust.choose(self._settings.verify, pending.plan, pending.inputs)
            wrong = self.trust.find_wrong(pending.inputs)
            again = wrong or [i for i in chosen if pending.inputs[i].expected is None]
            if again:
                for group in {tuple(pending.together(i)) for i in again}:
                    pending.jobs |= self._loading.load(pending.plan, group, check=not wrong)
                self._collect(pending, again)
                continue
            bad = next((i for i in chosen if pending.inputs[i].expected.problem), None)
            if bad is None:
                return chosen
            why = pending.inputs[bad].expected.problem
            self._collect(pending, self._replace(pending, bad, why, ValueError(why)))

    def _graph(self, graphs, plan):
        frames = plan.frames
        key = self._boxed, frames.shape[1] if between_frames(frames) else None
        if key not in graphs:
            for other in [k for k in graphs if k[0] != self._boxed]:
                graphs.pop(other).wait()  # before its memory is freed
            several = bool((np.diff(plan.samples) == 0).any())
            oriented = self.manifest.any_oriented()
            graphs[key] = Graph(plan, self._settings, self._batch_size, oriented, several, self._boxed)
        return graphs[key]

    def _collect(self, pending: Pending, clips: Sequence[int]) -> None:
        """Put clips into ``pending.inputs``, or others in place of bad ones."""
        waiting = list(clips)
        while waiting:
            if pending.cancelled:
                raise CancelledError  # else jobs that were begun since then would be waited for
            i = waiting.pop(0)
            try:
                loaded = self._pool.result(pending.jobs[i].future)
            except READ_ERRORS as error:
                if isinstance(error, TimeoutError) and error.errno is None and self._settings.timeout:  # the pool's
                    self.report.add_slow(self.manifest.path(int(pending.plan.samples[i])), self._settings.timeout)
                group = self._replace(pending, i, one_line(error), error)
                waiting = [*group, *(k for k in waiting if k not in group and k not in pending.dropped)]
                continue
            clip = loaded.clips[pending.jobs[i].place]
            why = self._settings.confused(clip.video.codec, clip.size) if isinstance(clip, Encoded) else None
            if why:
                moved = self._avoid_dali(pending, i, why)
                waiting = [*moved, *(k for k in waiting if k not in moved and k not in pending.dropped)]
                continue
            self._any_good = True
            if loaded.measured is not None:
                claim = self._settings.trusted(self.manifest.video(int(pending.plan.samples[i])))
                keep_measured(claim, loaded.measured)
            self._boxed |= isinstance(clip, Encoded) and clip.box is not None
            pending.inputs[i] = clip
            pending.motion[i] = None if loaded.motion is None else loaded.motion[pending.jobs[i].place]
            if pending.jobs[i].place == 0:
                path = partial(self.manifest.path, int(pending.plan.samples[i]))
                self.report.add_loaded(loaded.num_decoded, loaded.seconds, loaded.elapsed, path)
                self._share.saw_loaded(loaded, pending.jobs[i])
            if loaded.fallback:
                self.report.add_fallback(self.manifest.path(int(pending.plan.samples[i])), loaded.fallback)

    def _replace(self, pending: Pending, i: int, why: str, error: BaseException) -> range:
        """Take another sample in place of a bad one, drawn at the address of the sample that was there at first.

        All clips that are made of a sample are replaced, or left out, together.

        Returns:
            The positions of the new clips, which are being loaded; none where they are left out.
        """
        group, attempt, bad = pending.group(i), pending.attempts[i], pending.plan.row(i)
        sample, first = int(bad.samples[0]), int(pending.drawn.samples[i])
        path = self.manifest.path(sample)
        if self._settings.on_error == "raise" or attempt == REPLACEMENTS_MAX:
            if attempt:
                why = f"{why} (the last of {attempt} replacements for sample {first}, all bad)"
            raise ClipError(path, bad, why) from error
        skip = self._settings.on_error == "skip"
        self.report.add_bad(sample, path, bad.epoch, why, len(group), skip)
        if skip:
            self._num_skipped += 1
            if self._num_skipped > REPLACEMENTS_MAX and not self._any_good:
                raise ClipError(path, bad, f"{why} (the last of {self._num_skipped} samples, all bad)") from error
            pending.drop(group)
            return range(0)
        drawn = pending.drawn
        draws = Draws(drawn.seed, drawn.epoch, [first], drawn.views[group[0]], "replacement")
        samples = pending.plan.samples.copy()
        samples[list(group)] = draws.integers(f"sample.{attempt}", len(self.manifest))[0]
        # The plans of the other clips do not depend on this one's.
        pending.draw(self.manifest, samples)
        for k in group:
            pending.attempts[k] += 1
            pending.jobs[k].future.cancel()
        pending.jobs |= self._loading.load(pending.plan, group)
        return group

    def _avoid_dali(self, pending: Pending, i: int, why: str, error: BaseException | None = None) -> Sequence[int]:
        """Have PyAV decode a clip, and those that are loaded with it, if the settings allow it; else replace it.

        Returns:
            The positions of the clips that are being loaded.
        """
        if self._settings.decoder == "hybrid":
            group = pending.together(i)
            for _ in group:
                self.report.add_fallback(self.manifest.path(int(pending.plan.samples[i])), why)
            pending.jobs |= self._loading.load(pending.plan, group, "pyav")
            return group
        return self._replace(pending, i, why, error or ValueError(why))

    def _replace_failed(self, pending: Pending, error: RuntimeError) -> None:
        """DALI fails a whole batch for one clip: find the bad ones, each alone, and put others in their places.

        Clips that DALI cannot decode go to PyAV if the settings allow it; otherwise they are replaced.
        """
        if not any(isinstance(clip, Encoded) for clip in pending.inputs):
            raise error
        waiting = list(range(len(pending.plan)))
        while waiting:
            i = waiting.pop(0)
            why = dali_problem(self._graph(self._retry_graphs, pending.plan), pending.plan.row(i), pending.inputs[i])
            if why is None:
                continue
            group = self._avoid_dali(pending, i, why, error)
            # A new clip may be bad for PyAV, too, or for DALI. This ends: PyAV's clips are not DALI's to decode, and
            # attempts to replace a clip are counted on.
            self._collect(pending, group)
            others = [k for k in waiting if k not in pending.group(i) and k not in pending.dropped]
            waiting = [*(() if i in pending.dropped else pending.group(i)), *others]
