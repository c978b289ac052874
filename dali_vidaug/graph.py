"""The DALI pipeline of a recipe: plan columns and frames (or small encoded files) in, a batch of clips out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import nvidia.dali.fn
import nvidia.dali.types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from dali_vidaug.columns import Columns, EncodedColumns, split
from dali_vidaug.direct import BLENDING, Direct, num_direct
from dali_vidaug.errors import naming
from dali_vidaug.leading import frame_module, num_in_decoder, num_leading
from dali_vidaug.media.load import Encoded
from dali_vidaug.media.orientation import to_stored
from dali_vidaug.ops.interpolate import Interpolation, between_frames, interpolate_rows
from dali_vidaug.ops.operator import extend_graph
from dali_vidaug.ops.sizes import SIZE_FIELDS
from dali_vidaug.plan import Plan
from dali_vidaug.planes import planes_of
from dali_vidaug.results import check_sizes, op_failures
from dali_vidaug.settings import Settings

types: Any = nvidia.dali.types  # its enumerations come from a compiled module without stubs
fn: Any = nvidia.dali.fn  # the stubs do not have the conditional operators


# Placeholders, in a batch with clips of both decoders, for the clips of the other decoder; nothing reads them.
_NO_FILE = (np.zeros(1, np.uint8), np.zeros(1, np.int32), None, np.eye(3, dtype=np.float32))
_NO_CLIP = np.zeros((1, 1, 1, 3), np.uint8)


def _built(name, op, clips, args):
    with naming(name, op, "build", f"for the arguments {args.names}"):
        built = extend_graph(fn, op, clips, args)
    if not isinstance(built, DataNode):
        raise TypeError(f"{name}.build must return one node of DALI's graph, got {built!r}")
    return built


class Graph:
    """The pipeline of a recipe on one device.

    It is fed frames where PyAV decodes, with the ops done that ``num_in_decoder`` counts; and small encoded files where
    DALI decodes, for which it does all ops. Where the positions of a plan may lie between two frames, it is fed each
    clip's ``decoded_frames`` and blends them. On the CPU, ``Direct`` does the last steps; DALI has no part in a batch
    that needs nothing else.

    Args:
        plan: of any batch: the graph is for its recipe and for frames and arguments with its dtypes.
        settings: device, decoder, dtype, number of threads.
        batch_size: the largest number of clips in a batch.
        oriented: whether some of the encoded files are shown otherwise than as stored.
        several: whether clips of the same frames may have an encoded file in common, which is then decoded once.

    Attributes:
        decoded: of the latest batch, by position: clips as DALI decoded them, (F, H, W, 3) uint8, before any op; those
            for which ``run`` was asked for that.
    """

    def __init__(
        self, plan: Plan, settings: Settings, batch_size: int, oriented: bool = False, several: bool = False
    ):  # fmt: skip
        self._recipe, self._settings, self._oriented = plan.recipe, settings, oriented and settings.decoder != "pyav"
        self._several, self._blends = several, between_frames(plan.frames)
        self._num_in_decoder = num_in_decoder(plan.recipe, settings)
        self._done: Any = None  # an event after the latest batch, on a GPU
        self._measured: dict[str | None, Any] = {}  # after an op: the sizes of the clips, which a later op would hide
        self._checked: list[Any] = []  # the node of decoded frames that are to be looked at
        self.decoded: dict[int, np.ndarray] = {}
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
            if settings.decoder == "pyav":
                clips = self._frames()
            elif settings.decoder == "dali":
                clips = self._decoded()
            else:
                clips = self._merged()
            built = self._build(clips, steps)
            self._idle = settings.decoder == "pyav" and built is clips and self._direct is not None
            self._idle &= not any(columns.is_read for columns in self._columns.values())
            self.pipeline.set_outputs(built, *self._measured.values(), *self._checked)

    def _steps(self, plan):
        """What is left to do to the clips, by name: ops, and the blending of frames before those that come after."""
        ops = self._recipe.pixel_ops
        steps = ops[self._num_in_decoder :]
        if self._blends:
            blending = BLENDING, Interpolation(plan.frames.shape[1], frame_module(self._recipe))
            steps.insert(max(num_leading(self._recipe) - self._num_in_decoder, 0), blending)
        return steps

    def _merged(self):
        """All clips in their order. Those that DALI decodes first get the ops that PyAV has done for the others."""
        encoded = fn.external_source(name="encoded?", dtype=types.BOOL, ndim=0)
        clips = self._decoded(encoded)
        for name, op in self._recipe.pixel_ops[: self._num_in_decoder]:
            clips = _built(name, op, clips, EncodedColumns(self._columns[name], encoded))
        return fn._conditional.merge(clips, self._frames(encoded), predicate=encoded)

    def _frames(self, encoded=None):
        clips = fn.external_source(name="clips", dtype=types.UINT8, ndim=4, layout="FHWC", no_copy=True)
        if encoded is not None:
            clips = split(clips, encoded)[1]
        return clips.gpu() if self._settings.device == "gpu" else clips

    def _decoded(self, encoded=None):
        def source(name, dtype, ndim, **options):
            node = fn.external_source(name=name, dtype=dtype, ndim=ndim, **options)
            return node if encoded is None else split(node, encoded)[0]

        data = source("encoded", types.UINT8, 1, no_copy=True)
        # Each index once, rising: otherwise DALI starts to read the file again. No padding: an index past the end is an
        # error, not a black frame.
        where = "mixed" if self._settings.device == "gpu" else "cpu"
        frames = source("frames", types.INT32, 1)
        if self._several:
            is_first, indices = source("first?", types.BOOL, 0), source("index", types.INT32, 0)
            data, frames = split(data, is_first)[0], split(frames, is_first)[0]
        clips = fn.decoders.video(data, device=where, frames=frames, pad_mode="none", affine=False)
        if self._several:  # each file is decoded for the first of its clips, and handed to the others
            others = split(source("no clip", types.UINT8, 4, layout="FHWC"), is_first)[1]
            others = others.gpu() if self._settings.device == "gpu" else others
            clips = fn.permute_batch(fn._conditional.merge(clips, others, predicate=is_first), indices=indices)
        clips = fn.sequence_rearrange(clips, new_order=source("order", types.INT32, 1))
        if self._settings.color == "file":
            clips = fn.coord_transform(clips, M=source("colors", types.FLOAT, 2), dtype=types.UINT8)
            clips = fn.reshape(clips, layout="FHWC")
        if self._oriented:
            clips = fn.warp_affine(
                clips,
                matrix=source("orientation", types.FLOAT, 2),
                size=source("shown_size", types.FLOAT, 1),
                interp_type=types.INTERP_NN,
                inverse_map=True,  # the matrix maps output to input
            )
        if self._settings.verify:
            self._checked = [split(clips, source("checked?", types.BOOL, 0))[0].cpu()]
        return clips

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
                clips, flip = _built(name, op, clips, flip or self._columns[name]), None
        done = bool(steps) and getattr(steps[-1][1], "channels_first", False)
        return clips if done or self._direct else fn.transpose(clips, perm=[3, 0, 1, 2])

    def run(self, plan: Plan, inputs: Sequence[Any], stream: Any = None, checked: Sequence[int] = ()) -> Any:
        """Run one batch.

        Args:
            plan: of the batch.
            inputs: for each clip its frames (or ``decoded_frames``), (F, H, W, 3) uint8, or an ``Encoded`` where DALI
                decodes.
            stream: on a GPU, the torch stream on which the result will be ready; None: wait for it.
            checked: positions of encoded clips that ``decoded`` shall have. They are waited for, also on a GPU.

        Returns:
            A DALI tensor list with one dense (3, F, H, W) tensor for each clip, or on the CPU a tensor (B, 3, F, H, W).
            It owns its memory.

        Raises:
            RuntimeError: DALI could not decode or process a clip; later batches are not affected.
            TypeError: the arguments of an op are of another dtype than before.
            ValueError: an op has changed the size of a clip without saying so in its arguments; an ``OpError`` when the
                function of an op failed.
        """
        if between_frames(plan.frames) != self._blends:
            raise TypeError(f"frames are {plan.frames.dtype}, but those of the graph's first plan were not")
        args = _rows(plan)
        for name, columns in self._columns.items():
            columns.check(args[name])
        made: Any = list(inputs) if self._idle else self._run(plan, inputs, args, stream, checked)
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
        given = [
            (len(clip.positions), *clip.video.shown_size) if isinstance(clip, Encoded) else clip.shape[:3]
            for clip in inputs
        ]
        check_sizes(shapes, given, plan.frames.shape[1] if self._blends else None, plan.args,
                    names[: names.index(last) + 1] if last else names)  # fmt: skip

    def _run(self, plan, inputs, args, stream, checked):
        """What DALI does: a tensor list."""
        if self._settings.decoder != "pyav":
            self._feed_encoded(inputs)
        if self._checked:
            self.pipeline.feed_input("checked?", np.isin(np.arange(len(inputs)), checked))
        if self._settings.decoder != "dali":
            self.pipeline.feed_input("clips", [_NO_CLIP if isinstance(clip, Encoded) else clip for clip in inputs])
        for name, columns in self._columns.items():
            columns.feed(self.pipeline, args[name])
        # One batch at a time: decoding runs ahead in other threads, and the ops take a small part of its time. The
        # inputs are not copied (no_copy): DALI holds a reference to each array until it has read it. On a GPU the batch
        # before must be finished, not only started: DALI 2.4 sends small inputs, such as rows, from one pinned buffer
        # that the next batch overwrites (MakeContiguousMixed). Whoever takes batches does not wait for this.
        self._wait()
        with op_failures(plan, self._columns.values()):
            self.pipeline.schedule_run()
            clips, *measured = self.pipeline.share_outputs(stream)
        self._taken = taken = measured.pop() if self._checked else ()  # it owns the memory of ``decoded``
        measured = [np.array(sizes.as_array()) for sizes in measured]
        self.pipeline.release_outputs()
        self._done = None if stream is None else stream.record_event()
        if checked:
            self._wait()
        self.decoded = {i: np.asarray(frames) for i, frames in zip(sorted(checked), taken, strict=True)}
        for name, sizes in zip(self._measured, measured, strict=True):
            self._check([(size[3], *size[:3]) for size in sizes.tolist()], plan, inputs, name)
        return clips

    def _wait(self):
        """On a GPU: until the latest batch is done."""
        if self._done is not None:
            self._done.synchronize()

    def _feed_encoded(self, inputs):
        files = [clip if isinstance(clip, Encoded) else _NO_FILE for clip in inputs]
        encoded = np.array([file is not _NO_FILE for file in files])
        if self._settings.decoder == "hybrid":
            self.pipeline.feed_input("encoded?", encoded)
        unique = [np.unique(file[1], return_inverse=True) for file in files]
        self.pipeline.feed_input("encoded", [file[0] for file in files])
        self.pipeline.feed_input("frames", [frames.astype(np.int32) for frames, _ in unique])
        self.pipeline.feed_input("order", [order.astype(np.int32) for _, order in unique])
        if self._several:
            firsts: dict[int, int] = {}  # of each file, by its data: its first clip among those that DALI decodes
            index = np.zeros(len(files), np.int32)
            index[encoded] = [firsts.setdefault(id(files[i][0]), n) for n, i in enumerate(np.flatnonzero(encoded))]
            self.pipeline.feed_input("index", index)
            self.pipeline.feed_input("first?", index == np.maximum(np.cumsum(encoded) - 1, 0))
            self.pipeline.feed_input("no clip", [_NO_CLIP] * len(files))
        if self._settings.color == "file":
            self.pipeline.feed_input("colors", [file[3] for file in files])
        if self._oriented:
            shown = [file[2] for file in files]
            videos = [(video.orientation, video.width, video.height) if video else (1, 1, 1) for video in shown]
            sizes = [np.array(video.shown_size if video else (1, 1), np.float32) for video in shown]
            self.pipeline.feed_input("orientation", [to_stored(*video) for video in videos])
            self.pipeline.feed_input("shown_size", sizes)


def _rows(plan):
    """The arguments of each step of a graph, by its name."""
    rows = {name: plan.args[name] for name, _ in plan.recipe.pixel_ops}
    return rows | {BLENDING: interpolate_rows(plan.frames)} if between_frames(plan.frames) else rows


def dali_problem(graph: Graph, plan: Plan, clip: Any) -> str | None:
    """Why DALI cannot decode the clip of a plan of one row, whose input of the graph is given; None if it can."""
    if not isinstance(clip, Encoded):
        return None
    try:
        graph.run(plan, [clip])
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        words = ("error", "failed", "assert", "supported")
        telling = [line for line in lines if any(word in line.lower() for word in words)]
        return f"DALI could not decode it: {(telling or lines or ['no message'])[-1]}"
    return None
