"""A probability for any op."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dali_vidaug.ops.check import check_probability, make_plain
from dali_vidaug.ops.color_jitter import ColorJitter
from dali_vidaug.ops.names import is_on_pixels, is_on_time, name_of
from dali_vidaug.ops.operator import extend_graph
from dali_vidaug.ops.sizes import SIZE_FIELDS
from dali_vidaug.rng import Draws

_FLAG = np.dtype("i4")
_SIZES = "it changes the size of clips, and those of a batch must be equal"


@dataclass(frozen=True)
class RandomApply:
    """Apply an op to each clip with a probability; the other clips stay as they are, and so do their labels.

    The batch is divided, the op gets its clips, and the batch is put together again in its order: the op may be one of
    DALI's, a kernel, or your own. All clips draw their arguments, applied or not.

    Attributes:
        op: an op on pixels. Refused are those for which leaving a clip out means something else: ops on time, which
            decide what is decoded; ops that mix the clips of a batch, and ``TorchModule``, which have a probability of
            their own; ops that change the size of clips, which must be equal in a batch; and ``Normalize``.
        probability: that the op is applied to a clip.

    Raises:
        ValueError: an option is out of range, or the op is refused.
    """

    op: Any = field(default_factory=lambda: ColorJitter(0.4, 0.4, 0.4, 0.1))
    probability: float = 0.5

    def __post_init__(self):
        if isinstance(self.op, type):
            raise ValueError(f"RandomApply: op must be an op, got {self.op!r}: write {self.op.__name__}(...)")
        if not (is_on_time(self.op) or is_on_pixels(self.op)):
            raise ValueError(f"RandomApply: op must be an op, with draw and build or run, got {self.op!r}")
        for refused, why in (
            (is_on_time(self.op), "it decides which frames are decoded, and works on no pixels"),
            (hasattr(self.op, "mixed_with"), "it mixes the clips of a batch; give it a probability of its own"),
            (getattr(self.op, "of_batch", False), "it speaks of clips of the batch; give it a probability of its own"),
            (getattr(self.op, "channels_first", False), "its clips are no uint8, and a batch has one dtype"),
            (getattr(self.op, "in_decoder", False), _SIZES),
        ):
            if refused:
                raise ValueError(f"RandomApply: op must be one that some clips can do without, got {self.op!r}: {why}")
        make_plain(self, "probability")
        check_probability("RandomApply", self.probability)

    def draw(self, draws: Draws, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
        """(B,): the fields of the op's arguments, and whether it is applied."""
        drawn = self.op.draw(draws.named(f"{draws.prefix}.{name_of(self.op)}"), frames, height, width)
        kind = np.dtype([]) if drawn is None else drawn.dtype
        names = kind.names or ()
        if any(name in names for name in SIZE_FIELDS):
            raise ValueError(f"RandomApply: op must be one that some clips can do without, got {self.op!r}: {_SIZES}")
        flag = "applied"
        while flag in names:  # of a RandomApply in this one
            flag += "_2"
        rows = np.zeros(
            len(draws),
            np.dtype(
                {
                    "names": [*names, flag],
                    "formats": [*(kind[name] for name in names), _FLAG],
                    "offsets": [*((kind.fields or {})[name][1] for name in names), kind.itemsize],
                    "itemsize": kind.itemsize + _FLAG.itemsize,
                }
            ),
        )
        for name in names:
            rows[name] = drawn[name]
        rows[flag] = draws.uniform("apply") < self.probability
        return rows

    def build(self, fn: Any, clips: Any, args: Any) -> Any:
        """The op on a part of the batch, and the other part, in DALI's graph."""
        part = _Part(fn, args)
        changed, others = fn._conditional.split(clips, predicate=part.predicate)
        return fn._conditional.merge(extend_graph(fn, self.op, changed, part), others, predicate=part.predicate)

    @property
    def fingerprint(self) -> Any:
        """The method of the op, if it has it."""
        return self.op.fingerprint

    @property
    def run(self) -> Any:
        """The method of the op, if it has it, for the clips to which it is applied; the others are returned."""
        of_op = self.op.run

        def run(clips: Sequence[Any], rows: np.ndarray, num_threads: int | None = None) -> list[Any]:
            flags, inner = _divide(rows)
            chosen, result = np.flatnonzero(flags).tolist(), list(clips)
            if chosen:
                part = None if inner is None else inner[flags]
                for i, clip in zip(chosen, of_op([clips[i] for i in chosen], part, num_threads), strict=True):
                    result[i] = clip
            return result

        return run

    def check(self, args: np.ndarray, frames: np.ndarray, height: np.ndarray, width: np.ndarray) -> None:
        """What the op checks, of the clips to which it is applied."""
        flags, inner = _divide(args)
        if hasattr(self.op, "check") and flags.any():
            self.op.check(inner[flags], frames[flags], height[flags], width[flags])

    @property
    def targets(self) -> Any:
        """The method of the op, if it has it, for the clips to which it is applied; the others keep their labels."""
        of_op = self.op.targets

        def targets(args: np.ndarray, targets: np.ndarray) -> np.ndarray:
            flags, inner = _divide(args)
            return np.where(flags[:, None], of_op(inner, targets), targets).astype(np.float32)

        return targets

    @property
    def label_map(self) -> Any:
        """That of the op, if it has one; ``applied`` says for which clips."""
        return getattr(self.op, "label_map", None)

    @property
    def matrices(self) -> Any:
        """The method of the op, if it has it, which keeps the pixels of clips to which the op is not applied."""
        of_op = self.op.matrices
        return lambda args, *sizes: _kept(of_op(_divide(args)[1], *sizes), _divide(args)[0])

    @property
    def matrix_steps(self) -> Any:
        """The same."""
        of_op = self.op.matrix_steps
        return lambda args, *sizes: [_kept(one, _divide(args)[0]) for one in of_op(_divide(args)[1], *sizes)]

    @property
    def moves_pixels(self) -> bool:
        """Whether the op moves pixels, or does not say."""
        return getattr(self.op, "moves_pixels", True)

    def describe(self, row: Any) -> list[str]:
        """What the op says of its arguments."""
        flags, inner = _divide(row[None])
        if not flags[0]:
            return ["not applied"]
        lines = self.op.describe(inner[0]) if hasattr(self.op, "describe") else ["applied"]
        return [f"{name_of(self.op)}: {line}" for line in lines]

    def applied(self, args: np.ndarray) -> np.ndarray:
        """(B,) bool: the op is applied, and changes the clip."""
        flags, inner = _divide(args)
        return flags & self.op.applied(inner) if hasattr(self.op, "applied") else flags


def _kept(matrices, flags):
    """Matrices of which those of clips without a flag keep pixels where they are."""
    found = np.array(matrices, np.float64)
    found[~flags] = np.eye(3)
    return found


def _inner_dtype(dtype):
    """That of the op's own arguments: without the last field, which says whether it is applied."""
    *names, flag = dtype.names
    fields, size = dtype.fields, dtype.fields[flag][1]
    return np.dtype(
        {
            "names": names,
            "formats": [fields[name][0] for name in names],
            "offsets": [fields[name][1] for name in names],
            "itemsize": size,
        }
    )


def _divide(args):
    """Whether the op is applied, (B,) bool, and its own arguments, (B,), or None where it draws none."""
    flags, kind = args[args.dtype.names[-1]] != 0, _inner_dtype(args.dtype)
    if not kind.names:
        return flags, None
    rows = np.ascontiguousarray(args).view(np.uint8).reshape(len(args), args.dtype.itemsize)
    return flags, np.ascontiguousarray(rows[:, : kind.itemsize]).view(kind)[:, 0]


class _Part:
    """The arguments of the clips to which the op is applied, as its ``build`` gets them."""

    def __init__(self, fn, args):
        self._fn, self._args, self._flag = fn, args, "applied"
        while f"{self._flag}_2" in args:
            self._flag += "_2"
        self.predicate = args[self._flag] != 0
        self.dtype, self.num_threads, self.names = args.dtype, args.num_threads, args.names
        self.fields = _inner_dtype(args.fields)
        self.fail = args.fail

    def _taken(self, node):
        return self._fn._conditional.split(node, predicate=self.predicate)[0]

    def __contains__(self, field):
        return field != self._flag and field in self._args

    def __getitem__(self, fields):
        return self._taken(self._args[fields])

    def rows(self):
        return self._taken(self._args.rows()[: -_FLAG.itemsize])
