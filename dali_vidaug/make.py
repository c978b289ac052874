"""The one way for a clip: a plan in, clips out.

Clips are loaded in a pool of threads or processes, by PyAV or as a small file for DALI; those of a video that have the
same frames, or for PyAV share GOPs, are loaded together. DALI decodes the small files, and a graph makes the batch. A
clip that cannot be loaded, or that DALI does not decode right, goes to the other decoder, is replaced, or ends with a
``ClipError``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dali_vidaug.boxes import Boxes
from dali_vidaug.clip_loading import Loading
from dali_vidaug.clip_motion import with_motion_masks
from dali_vidaug.counting import RunningReport
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.sampled import without_times
from dali_vidaug.decode_graph import Decoded
from dali_vidaug.decode_stage import DecodeStage
from dali_vidaug.gathering import Gathering
from dali_vidaug.graph import Graph
from dali_vidaug.mapping import clip_geometry
from dali_vidaug.media.vectors import CELL
from dali_vidaug.moved_boxes import boxes_of
from dali_vidaug.ops.interpolate import between_frames
from dali_vidaug.pending import Pending
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.settings import Settings
from dali_vidaug.share import Share
from dali_vidaug.trust import Trust


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
        self._gathering = Gathering(manifest, settings, report, pool, self._loading, share)
        self._decoder: Any = None  # made for the first plan
        self._graphs: dict[Any, Graph] = {}  # by what differs between plans of a recipe

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
        if self._decoder is None:
            self._whole = bool((np.diff(plan.samples) == 0).any())
            self._decoder = DecodeStage(
                self.manifest, self._settings, self.report, self.trust, self._share, self._gathering, self._batch_size,
                self._whole,
            )  # fmt: skip
        self._share.begin(self._settings.cpu_share, plan, self._pool.num_threads)
        return self._gathering.start(plan)

    def decode(self, pending: Pending, following: Callable[[], Pending | None] = lambda: None) -> None:
        """Wait for the clips of a batch, replace bad ones or leave them out, decode; as ``DecodeStage.decode``."""
        try:
            self._decoder.decode(pending, following)
        except BaseException:
            pending.cancel()
            raise

    def finish(self, pending: Pending, stream: Any = None) -> tuple[Plan, Any]:
        """Do the ops of a batch that is decoded.

        Args:
            pending: after ``decode``.
            stream: as in ``Graph.run``.

        Returns:
            The plan of the clips that are in the batch, and a DALI tensor list; None if none is left.
        """
        before = time.perf_counter()
        plan = pending.plan
        clips = self._graph(plan).run(plan, pending.inputs, stream) if len(plan) else None
        self.report.add_seconds("graph", time.perf_counter() - before)
        self.report.add_fetched(*self._pool.take_costs())
        self.report.add_batch(plan.frames, pending.decoded_together())
        by_share = sum(bool(job.drawn) for job in pending.jobs.values())
        self.report.add_decoders(sum(isinstance(clip, Decoded) for clip in pending.inputs), by_share)
        if getattr(self.recipe.sampling, "uses_times", False):
            self.report.add_untimed(without_times(self.manifest, plan.samples))
        return plan, clips

    def boxes(self, plan: Plan) -> Boxes | None:
        """The boxes of the batch that ``finish`` made, as ``moved_boxes.boxes_of`` finds them; counts them."""
        return boxes_of(self.manifest, plan, self._settings.box_rules, self.report)

    def motion(self, pending: Pending) -> tuple[Plan, np.ndarray | None]:
        """What moves in the clips of the batch that ``finish`` made, (B, 2, F, h, w) float32; counts it.

        Returns:
            Their plan, with the masks that are drawn by it; and it, None where only masks need it, or nobody.
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
        unknown = np.isnan(found[:, 0, :: self._loading.motion_every]).all((-2, -1))
        self.report.add_motion(unknown.size, int(unknown.sum()))
        plan = with_motion_masks(plan, found, (frames, height, width))
        return plan, found if self._settings.motion else None

    def free_graphs(self) -> None:
        """Free the graphs of the ops, in the thread that runs them."""
        self._graphs = {}

    def free_decoder(self) -> None:
        """Free the graphs that decode, in the thread that does."""
        if self._decoder is not None:
            self._decoder.free()

    def _graph(self, plan):
        frames = plan.frames
        key = frames.shape[1] if between_frames(frames) else None
        if key not in self._graphs:
            self._graphs[key] = Graph(plan, self._settings, self._batch_size, self._whole)
        return self._graphs[key]
