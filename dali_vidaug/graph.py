"""The DALI pipeline of a recipe: plan columns and decoded clips in, a batch of augmented clips out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import nvidia.dali.fn
import nvidia.dali.types
from nvidia.dali.pipeline import Pipeline

from dali_vidaug.columns import Columns, EncodedColumns, build_op, split
from dali_vidaug.decode_graph import Decoded
from dali_vidaug.direct import BLENDING, Direct, num_direct
from dali_vidaug.leading import frame_module, num_in_decoder, num_leading
from dali_vidaug.ops.interpolate import Interpolation, between_frames, interpolate_rows
from dali_vidaug.ops.sizes import SIZE_FIELDS
from dali_vidaug.plan import Plan
from dali_vidaug.planes import planes_of
from dali_vidaug.results import check_sizes, op_failures
from dali_vidaug.settings import Settings

types: Any = nvidia.dali.types  # its enumerations come from a compiled module without stubs
fn: Any = nvidia.dali.fn  # the stubs do not have the conditional operators

_NO_CLIP = np.zeros((1, 1, 1, 3), np.uint8)
_INTERNAL_STREAM = -1  # feed_input returns when the clips are copied


class Graph:
    """The pipeline of a recipe on one device.

    It is fed decoded clips, with the ops done that ``num_in_decoder`` counts: frames where PyAV decodes, ``Decoded``
    where DALI does. Where the positions of a plan may lie between two frames, it is fed each clip's ``decoded_frames``
    and blends them. On the CPU, ``Direct`` does the last steps; DALI has no part in a batch that needs nothing else.

    Args:
        plan: of any batch: the graph is for its recipe and for frames and arguments with its dtypes.
        settings: device, decoder, dtype, number of threads.
        batch_size: the largest number of clips in a batch.
        whole: DALI's decoder did no ops: several clips may be made of a file.
    """

    def __init__(self, plan: Plan, settings: Settings, batch_size: int, whole: bool = False):
        self._recipe, self._settings, self._blends = plan.recipe, settings, between_frames(plan.frames)
        self._num_in_decoder = num_in_decoder(plan.recipe, settings)
        self._done: Any = None  # an event after the latest batch, on a GPU
        self._measured: dict[str | None, Any] = {}  # after an op: the sizes of the clips, which a later op would hide
        self._columns = {
            name: Columns(name, None if rows is None else rows.dtype, settings) for name, rows in _rows(plan).items()
        }
        steps, planes = self._steps(plan), planes_of(plan.recipe, settings)
        self._direct: Any = None
        if planes:
            steps = steps[:-1] if steps and hasattr(steps[-1][1], "lookup") else steps
            first = len(steps) - num_direct(steps)
            self._direct = Direct(steps[first:], planes, settings.num_threads)
            steps = steps[:first]
        known = not self._blends or BLENDING in dict(steps)  # the number of frames that DALI leaves
        self._last = steps[-1][0] if steps and known and steps[-1][0] != BLENDING else None
        self.pipeline = Pipeline(batch_size, settings.num_threads, settings.device_id, prefetch_queue_depth=1)
        with self.pipeline:
            clips = self._frames() if settings.decoder == "pyav" else self._decoded(whole)
            built = self._build(clips, steps)
            self._idle = settings.decoder == "pyav" and built is clips and self._direct is not None
            self._idle &= not any(columns.is_read for columns in self._columns.values())
            self.pipeline.set_outputs(built, *self._measured.values())

    def _steps(self, plan):
        """What is left to do to the clips, by name: ops, and the blending of frames before those that come after."""
        ops = self._recipe.pixel_ops
        steps = ops[self._num_in_decoder :]
        if self._blends:
            blending = BLENDING, Interpolation(plan.frames.shape[1], frame_module(self._recipe))
            steps.insert(max(num_leading(self._recipe) - self._num_in_decoder, 0), blending)
        return steps

    def _decoded(self, whole):
        """All clips in their order; if DALI has decoded whole frames, then with the ops done as for the others."""
        hybrid, where = self._settings.decoder == "hybrid", self._settings.device
        by_dali = fn.external_source(name="by DALI?", dtype=types.BOOL, ndim=0) if hybrid else None
        clips = fn.external_source(name="decoded", device=where, dtype=types.UINT8, ndim=4, layout="FHWC")
        clips = clips if by_dali is None else split(clips, by_dali)[0]
        for name, op in self._recipe.pixel_ops[: self._num_in_decoder if whole else 0]:
            columns = self._columns[name]
            clips = build_op(name, op, clips, columns if by_dali is None else EncodedColumns(columns, by_dali))
        return clips if by_dali is None else fn._conditional.merge(clips, self._frames(by_dali), predicate=by_dali)

    def _frames(self, by_dali=None):
        clips = fn.external_source(name="clips", dtype=types.UINT8, ndim=4, layout="FHWC", no_copy=True)
        if by_dali is not None:
            clips = split(clips, by_dali)[1]
        return clips.gpu() if self._settings.device == "gpu" else clips

    def _build(self, clips, steps):
        """The first steps, and channels first, unless ``Direct`` does the rest."""
        flip: Any = None  # the arguments of a flip that the next op does in its own pass over the pixels
        for i, (name, op) in enumerate(steps):
            following = steps[i + 1][1] if i + 1 < len(steps) else None
            sets_size = any(field in self._columns[name] for field in SIZE_FIELDS)
            if sets_size and not all(getattr(before, "in_decoder", False) for _, before in steps[:i]):
                self._measured[steps[i - 1][0]] = clips.shape()
                self._columns[name].sizes_unsure = True
            if getattr(op, "mirrors", False) and getattr(following, "mirrors_first", False):
                flip = self._columns[name]
            else:
                clips, flip = build_op(name, op, clips, flip or self._columns[name]), None
        done = bool(steps) and getattr(steps[-1][1], "channels_first", False)
        return clips if done or self._direct else fn.transpose(clips, perm=[3, 0, 1, 2])

    def run(self, plan: Plan, inputs: Sequence[Any], stream: Any = None) -> Any:
        """Run one batch.

        Args:
            plan: of the batch.
            inputs: for each clip its frames (or ``decoded_frames``), (F, H, W, 3) uint8, or a ``Decoded``.
            stream: on a GPU, the torch stream on which the result will be ready; None: wait for it.

        Returns:
            A DALI tensor list with one dense (3, F, H, W) tensor for each clip, or on the CPU a tensor (B, 3, F, H, W).
            It owns its memory.

        Raises:
            RuntimeError: DALI could not process a clip; later batches are not affected.
            TypeError: the arguments of an op are of another dtype than before.
            ValueError: an op has changed the size of a clip without saying so in its arguments; an ``OpError`` when the
                function of an op failed.
        """
        if between_frames(plan.frames) != self._blends:
            raise TypeError(f"frames are {plan.frames.dtype}, but those of the graph's first plan were not")
        args = _rows(plan)
        for name, columns in self._columns.items():
            columns.check(args[name])
        made: Any = list(inputs) if self._idle else self._run(plan, inputs, args, stream)
        if not self._direct:
            self._check(made.shape(), plan, inputs)
            return made
        clips = [np.asarray(clip) for clip in made]  # the memory is that of ``made``, which lives until they are read

        def check(clips, last):
            self._check([(clip.shape[3], *clip.shape[:3]) for clip in clips], plan, inputs, last)

        if self._last:
            check(clips, self._last)
        return self._direct(clips, plan, args, check)

    def _check(self, shapes, plan, inputs, last=None):
        """The clips that leave an op, or all, are as large as their arguments say. Labels are mixed by that."""
        names = self._recipe.names[len(self._recipe.time_ops) :]
        blended = plan.frames.shape[1] if self._blends else None
        names = names[: names.index(last) + 1] if last else names
        check_sizes(shapes, [clip.shape[:3] for clip in inputs], blended, plan.args, names)

    def _run(self, plan, inputs, args, stream):
        """What DALI does: a tensor list."""
        by_dali = [isinstance(clip, Decoded) for clip in inputs]
        if self._settings.decoder != "pyav":
            # Nothing reads what stands in the place of clips that PyAV has decoded.
            decoded = [clip for clip in inputs if isinstance(clip, Decoded)]
            other = min(decoded, key=lambda clip: np.prod(clip.shape)).tensor if decoded else _NO_CLIP
            tensors = [clip.tensor if isinstance(clip, Decoded) else other for clip in inputs]
            self.pipeline.feed_input("decoded", tensors, cuda_stream=_INTERNAL_STREAM)
        if self._settings.decoder == "hybrid":
            self.pipeline.feed_input("by DALI?", np.array(by_dali))
        if self._settings.decoder != "dali":
            self.pipeline.feed_input("clips", [_NO_CLIP if isinstance(clip, Decoded) else clip for clip in inputs])
        for name, columns in self._columns.items():
            columns.feed(self.pipeline, args[name])
        # One batch at a time: decoding runs ahead in other threads, and the ops take a small part of its time. The
        # inputs are not copied (no_copy): DALI holds a reference to each array until it has read it. DALI 2.4 sends
        # small inputs, such as rows, from one pinned buffer that the next batch overwrites (MakeContiguousMixed).
        self.wait()
        with op_failures(plan, self._columns.values()):
            self.pipeline.schedule_run()
            clips, *measured = self.pipeline.share_outputs(stream)
        measured = [np.array(sizes.as_array()) for sizes in measured]
        self.pipeline.release_outputs()
        self._done = None if stream is None else stream.record_event()
        for name, sizes in zip(self._measured, measured, strict=True):
            self._check([(size[3], *size[:3]) for size in sizes.tolist()], plan, inputs, name)
        return clips

    def wait(self) -> None:
        """Wait until the batch before is finished on a GPU, not only started. Whoever takes batches does not wait."""
        if self._done is not None:
            self._done.synchronize()


def _rows(plan):
    """The arguments of each step of a graph, by its name."""
    rows = {name: plan.args[name] for name, _ in plan.recipe.pixel_ops}
    return rows | {BLENDING: interpolate_rows(plan.frames)} if between_frames(plan.frames) else rows
