"""The arguments of an op as nodes of the DALI graph, fed batch by batch from the rows of a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import nvidia.dali.fn
import nvidia.dali.types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from dali_vidaug.errors import naming
from dali_vidaug.ops.operator import extend_graph
from dali_vidaug.settings import Settings

types: Any = nvidia.dali.types  # its enumerations come from a compiled module without stubs
fn: Any = nvidia.dali.fn  # the stubs do not have the conditional operators

_DALI_TYPES = {
    np.dtype(kind): getattr(types, name)
    for kind, name in (
        ("u1", "UINT8"), ("i1", "INT8"), ("u2", "UINT16"), ("i2", "INT16"), ("u4", "UINT32"), ("i4", "INT32"),
        ("u8", "UINT64"), ("i8", "INT64"), ("f2", "FLOAT16"), ("f4", "FLOAT"), ("f8", "FLOAT64"),
    )
}  # fmt: skip
# DALI has no bfloat16: batch.as_tensor rounds its float32.
_CLIP_TYPES = {"float32": types.FLOAT, "float16": types.FLOAT16, "bfloat16": types.FLOAT}


class Columns:
    """An op's arguments as nodes of the graph, one value for each clip: what ``build`` gets as ``args``.

    ``args["top"]`` is a field of the op's arguments; ``args["top", "left"]`` several as one float vector (for
    DALI's arguments that need one); ``args.rows()`` the whole rows as bytes, for kernels. All are on the CPU.

    Attributes:
        name: of the op.
        fields: the dtype of the op's arguments.
        dtype: DALI's type of normalised clips.
        num_threads: of the graph.
        failure: what the op's function raised in the batch that is being made.
        sizes_unsure: the clips may have other sizes than the arguments were drawn for; ``Graph`` then measures them.
    """

    def __init__(self, name: str, dtype: np.dtype | None, settings: Settings):
        self.name, self.fields = name, dtype if dtype is not None else np.dtype([])
        self.dtype, self.num_threads = _CLIP_TYPES[settings.dtype], settings.num_threads
        self.sizes_unsure = False
        self.failure: Exception | None = None
        self._nodes: dict[str, Any] = {}
        self._extract: dict[str, Callable] = {}  # by input of the pipeline: what it is fed, from the rows of a batch

    def _node(self, key, kind, ndim, extract):
        if key not in self._nodes:
            if kind not in _DALI_TYPES:
                raise TypeError(
                    f"{self.name}: argument {key} is {kind}, which DALI does not have; use an integer or a float"
                )
            name = f"{self.name}.{key}"
            self._nodes[key] = fn.external_source(name=name, dtype=_DALI_TYPES[kind], ndim=ndim, device="cpu")
            self._extract[name] = extract
        return self._nodes[key]

    @property
    def names(self) -> str:
        """The fields and their dtypes, as text."""
        return ", ".join(f"{n} {self.fields[n]}" for n in self.fields.names or ()) or "none"

    def __contains__(self, field: str) -> bool:
        return field in (self.fields.names or ())

    def __getitem__(self, fields: str | tuple[str, ...]) -> Any:
        names = fields if isinstance(fields, tuple) else (fields,)
        for name in names:
            if name not in self:
                known = ", ".join(self.fields.names or ()) or "none"
                raise KeyError(f"{self.name}: no argument {name!r}; there are {known}")
        if isinstance(fields, tuple):
            return self._node(
                "+".join(names), np.dtype("f4"), 1, lambda rows: np.stack([rows[n] for n in names], 1).astype("f4")
            )
        field = self.fields[fields]
        return self._node(fields, field.base, len(field.shape), lambda rows: np.ascontiguousarray(rows[fields]))

    @property
    def is_read(self) -> bool:
        """Whether a ``build`` has asked for an argument."""
        return bool(self._extract)

    def rows(self) -> Any:
        """The whole rows, (itemsize,) uint8 each."""
        return self._node(
            "rows", np.dtype("u1"), 1, lambda rows: np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
        )

    def fail(self, error: Exception) -> None:
        """Keep what the op's function has raised: DALI keeps only its text."""
        self.failure = error

    def check(self, rows: np.ndarray | None) -> None:
        """Refuse rows of another dtype than that for which the graph is built."""
        dtype = np.dtype([]) if rows is None else rows.dtype
        if dtype != self.fields:
            raise TypeError(f"{self.name}: arguments are {dtype}, but those of an earlier batch were {self.fields}")

    def feed(self, pipeline: Pipeline, rows: Any) -> None:
        """Give the rows of a batch to the pipeline."""
        for name, extract in self._extract.items():
            try:
                pipeline.feed_input(name, extract(rows))
            except (KeyError, RuntimeError) as error:  # DALI leaves out of a graph what does not lead to its result
                raise TypeError(f"{name}: build reads this argument, but its result does not depend on it") from error


class EncodedColumns:
    """As ``Columns``, with the arguments of only those clips of a batch that DALI decodes."""

    sizes_unsure = False  # only ops with in_decoder come before

    def __init__(self, args, encoded):
        self._args, self._encoded = args, encoded
        self.dtype, self.fields, self.num_threads, self.names = args.dtype, args.fields, args.num_threads, args.names
        self.fail = args.fail

    def __contains__(self, field):
        return field in self._args

    def __getitem__(self, fields):
        return split(self._args[fields], self._encoded)[0]

    def rows(self):
        return split(self._args.rows(), self._encoded)[0]


def split(node, predicate):
    """The clips for which ``predicate`` holds, and the others: two smaller batches, either of which may be empty.

    DALI's own conditional statements are made of this and of merge.
    """
    return fn._conditional.split(node, predicate=predicate)


def build_op(name: str, op: Any, clips: Any, args: Columns | EncodedColumns) -> Any:
    """The node of an op's result, for the node of clips.

    Raises:
        OpError: the op's ``build`` failed.
        TypeError: it returned something else than a node.
    """
    with naming(name, op, "build", f"for the arguments {args.names}"):
        built = extend_graph(fn, op, clips, args)
    if not isinstance(built, DataNode):
        raise TypeError(f"{name}.build must return one node of DALI's graph, got {built!r}")
    return built
