"""The DALI pipeline of a recipe: plan columns and frames (or small encoded files) in, a batch of clips out."""

from typing import Any, NamedTuple

import numpy as np
import nvidia.dali.fn
import nvidia.dali.types
from nvidia.dali.pipeline import Pipeline

from dali_vidaug.ops import Normalize, RandomHorizontalFlip

types: Any = nvidia.dali.types  # its enumerations come from a compiled module without stubs
fn: Any = nvidia.dali.fn  # the stubs leave out the conditional operators

_DALI_TYPES = {
    np.dtype(kind): getattr(types, name)
    for kind, name in (
        ("u1", "UINT8"), ("i1", "INT8"), ("u2", "UINT16"), ("i2", "INT16"), ("u4", "UINT32"), ("i4", "INT32"),
        ("u8", "UINT64"), ("i8", "INT64"), ("f2", "FLOAT16"), ("f4", "FLOAT"), ("f8", "FLOAT64"),
    )
}  # fmt: skip
DTYPES = {"float32": types.FLOAT, "float16": types.FLOAT16}
_TURNS = {  # degrees clockwise: matrix from output to input, for a stored picture of width w and height h
    0: lambda w, h: ((1, 0, 0), (0, 1, 0)),
    90: lambda w, h: ((0, 1, 0), (-1, 0, h)),
    180: lambda w, h: ((-1, 0, w), (0, -1, h)),
    270: lambda w, h: ((0, -1, w), (1, 0, 0)),
}


class Encoded(NamedTuple):
    """A clip that DALI is to decode.

    Attributes:
        data: (N,) uint8, a small video file.
        places: (F,) int32, where the clip's frames are in it.
        video: its row of the manifest.
    """

    data: np.ndarray
    places: np.ndarray
    video: Any


# What stands in a batch of the one kind for a clip of the other; nothing looks at it.
_NO_FILE = Encoded(np.zeros(1, np.uint8), np.zeros(1, np.int32), None)
_NO_CLIP = np.zeros((1, 1, 1, 3), np.uint8)


class Columns:
    """An op's arguments as nodes of the graph, one value a clip: what ``build`` gets as ``args``.

    ``args["top"]`` is a field of the op's arguments; ``args["top", "left"]`` several as one float vector (for
    DALI's arguments that take one); ``args.rows()`` the whole rows as bytes, for kernels. All are on the CPU.
    """

    def __init__(self, name, dtype):
        self._name, self._dtype = name, dtype
        self._nodes, self._takers, self._checks = {}, {}, []

    def _node(self, key, kind, ndim, take):
        if key not in self._nodes:
            name = f"{self._name}.{key}"
            self._nodes[key] = fn.external_source(name=name, dtype=_DALI_TYPES[kind], ndim=ndim, device="cpu")
            self._takers[name] = take
        return self._nodes[key]

    def __getitem__(self, fields):
        names = fields if isinstance(fields, tuple) else (fields,)
        for field in names:
            if field not in self._dtype.names:
                raise KeyError(f"{self._name}: no argument {field!r}; there are {', '.join(self._dtype.names)}")
        if isinstance(fields, tuple):
            return self._node(
                "+".join(names), np.dtype("f4"), 1, lambda rows: np.stack([rows[n] for n in names], 1).astype("f4")
            )
        field = self._dtype[fields]
        return self._node(fields, field.base, len(field.shape), lambda rows: np.ascontiguousarray(rows[fields]))

    def rows(self, check=None):
        """The rows as they are, (itemsize,) uint8 each. ``check(rows)`` raises for those that a kernel must not get."""
        size = self._dtype.itemsize
        if check is not None:
            self._checks.append(check)
        return self._node(
            "rows", np.dtype("u1"), 1, lambda rows: np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), size)
        )

    def check(self, rows):
        """Refuse the rows of a batch, such as those of an edited plan, while nothing is fed yet."""
        for check in self._checks:
            check(rows)

    def feed(self, pipeline, rows):
        """Hand the rows of a batch to the pipeline."""
        for name, take in self._takers.items():
            pipeline.feed_input(name, take(rows))


class _Part:
    """The arguments of those clips of a batch that DALI decodes; as ``Columns``."""

    def __init__(self, args, predicate):
        self._args, self._predicate = args, predicate

    def __getitem__(self, fields):
        return _split(self._args[fields], self._predicate)[0]


def _split(node, predicate):
    """The clips for which ``predicate`` holds, and the others: a smaller batch each, which may be empty.

    DALI's own conditional statements are made of this and of merge.
    """
    return fn._conditional.split(node, predicate=predicate)


class Graph:
    """The pipeline of a recipe on one device.

    Args:
        recipe: its ops are built, but for the first ``num_folded`` where the decoder has done them already.
        dtypes: for each op by name the dtype of its arguments, or None.
        batch_size: clips in a batch at most.
        device: "cpu" or "gpu".
        device_id: which GPU; None without one.
        num_threads: DALI's threads.
        dtype: "float32" or "float16", of the result of ``Normalize``.
        decoder: "pyav": it is fed frames, with the first ``num_folded`` ops done; "dali": small encoded files, and
            does all ops; "hybrid": some clips so, some so.
        rotated: whether some of these files are stored turned.
        num_folded: see there.
    """

    def __init__(
        self, recipe, dtypes, *, batch_size, device, device_id, num_threads, dtype, decoder="pyav", rotated=False,
        num_folded=0,
    ):  # fmt: skip
        self._decoder, self._rotated = decoder, rotated
        self._done: Any = None  # a mark behind the batch that was run last, on a GPU
        self._columns = {name: Columns(name, kind) for name, kind in dtypes.items() if kind is not None}
        self.pipeline = Pipeline(batch_size, num_threads, device_id, prefetch_queue_depth=1)
        with self.pipeline:
            if decoder == "pyav":
                clips = self._frames(device)
            elif decoder == "dali":
                clips, num_folded = self._decoded(device), 0
            else:
                clips = self._merged(recipe, device, num_folded)
            self.pipeline.set_outputs(self._build(recipe, clips, num_folded, dtype))

    def _merged(self, recipe, device, num_folded):
        """All clips in their order: those that DALI decodes catch up on the ops that the others have had."""
        encoded = fn.external_source(name="encoded?", dtype=types.BOOL, ndim=0)
        clips = self._decoded(device, encoded)
        for name, op in zip(recipe.names[:num_folded], recipe.ops, strict=False):
            clips = op.build(fn, clips, _Part(self._columns[name], encoded))
        return fn._conditional.merge(clips, self._frames(device, encoded), predicate=encoded)

    def _frames(self, device, encoded=None):
        clips = fn.external_source(name="clips", dtype=types.UINT8, ndim=4, layout="FHWC", no_copy=True)
        if encoded is not None:
            clips = _split(clips, encoded)[1]
        return clips.gpu() if device == "gpu" else clips

    def _decoded(self, device, encoded=None):
        def source(name, dtype, ndim, **options):
            node = fn.external_source(name=name, dtype=dtype, ndim=ndim, **options)
            return node if encoded is None else _split(node, encoded)[0]

        data = source("encoded", types.UINT8, 1, no_copy=True)
        # Each index once and rising: DALI reads a file again from its start for every index that is not. No padding:
        # an index past the end is an error, not a black frame.
        where = "mixed" if device == "gpu" else "cpu"
        frames = source("frames", types.INT32, 1)
        clips = fn.decoders.video(data, device=where, frames=frames, pad_mode="none", affine=False)
        clips = fn.sequence_rearrange(clips, new_order=source("order", types.INT32, 1))
        if self._rotated:
            clips = fn.warp_affine(
                clips,
                matrix=source("turn", types.FLOAT, 2),
                size=source("turned_size", types.FLOAT, 1),
                interp_type=types.INTERP_NN,
                inverse_map=True,  # the matrix maps output to input
            )
        return clips

    def _build(self, recipe, clips, num_folded, dtype):
        names, ops = recipe.names, recipe.ops
        mirrored: Any = None
        for i in range(num_folded, len(ops)):
            args: Any = self._columns.get(names[i])
            following = ops[i + 1] if i + 1 < len(ops) else None
            if isinstance(ops[i], Normalize):
                return ops[i].build(fn, clips, args, DTYPES[dtype], mirrored)
            if isinstance(ops[i], RandomHorizontalFlip) and isinstance(following, Normalize):
                mirrored = args["mirrored"]  # one pass over the pixels instead of two
            else:
                clips = ops[i].build(fn, clips, args)
        return fn.transpose(clips, perm=[3, 0, 1, 2])

    def run(self, plan, media, stream=None):
        """Run one batch.

        Args:
            plan: of the batch.
            media: for each clip its frames, (F, H, W, 3) uint8, or, where DALI decodes, an ``Encoded``.
            stream: on a GPU, the torch stream that the result is ready on; None: it is waited for.

        Returns:
            A DALI tensor list with one dense (3, F, H, W) tensor a clip. It owns its memory.

        Raises:
            RuntimeError: DALI could not decode or process a clip; later batches are not affected.
            ValueError: the plan's arguments of an op contradict each other; nor are they.
        """
        for name, columns in self._columns.items():
            columns.check(plan.args[name])
        if self._decoder != "pyav":
            self._feed_encoded(media)
        if self._decoder != "dali":
            self.pipeline.feed_input("clips", [_NO_CLIP if isinstance(m, Encoded) else m for m in media])
        for name, columns in self._columns.items():
            columns.feed(self.pipeline, plan.args[name])
        # One batch at a time: decoding runs ahead in other threads, and the ops take a small part of its time. The
        # inputs are not copied (no_copy): DALI holds a reference to each array until it has read it. On a GPU the batch
        # before must be done, not only under way: DALI 2.4 sends small inputs, such as rows, from one pinned buffer
        # that the next batch writes over (MakeContiguousMixed). Whoever takes batches does not wait for this.
        if self._done is not None:
            self._done.synchronize()
        self.pipeline.schedule_run()
        (clips,) = self.pipeline.share_outputs(stream)
        self.pipeline.release_outputs()
        self._done = None if stream is None else stream.record_event()
        return clips

    def _feed_encoded(self, media):
        files = [m if isinstance(m, Encoded) else _NO_FILE for m in media]
        if self._decoder == "hybrid":
            self.pipeline.feed_input("encoded?", np.array([file is not _NO_FILE for file in files]))
        unique = [np.unique(file.places, return_inverse=True) for file in files]
        self.pipeline.feed_input("encoded", [file.data for file in files])
        self.pipeline.feed_input("frames", [frames.astype(np.int32) for frames, _ in unique])
        self.pipeline.feed_input("order", [order.astype(np.int32) for _, order in unique])
        if self._rotated:
            shapes = [(v.rotation, v.width, v.height) if (v := file.video) else (0, 1, 1) for file in files]
            turns = [np.array(_TURNS[rotation](width, height), np.float32) for rotation, width, height in shapes]
            sizes = [(width, height) if rotation % 180 else (height, width) for rotation, width, height in shapes]
            self.pipeline.feed_input("turn", turns)
            self.pipeline.feed_input("turned_size", [np.array(size, np.float32) for size in sizes])
