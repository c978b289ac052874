"""What a graph gives: clips as large as their arguments say; and what went wrong in it, by the name of the op."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dali_vidaug.columns import Columns
from dali_vidaug.errors import OpError, one_line
from dali_vidaug.ops.sizes import SIZE_FIELDS
from dali_vidaug.plan import Plan


def check_sizes(
    shapes: Sequence[Sequence[int]], given: Sequence[Sequence[int]], blended: int | None, args: dict[str, Any],
    names: Sequence[str],
) -> None:  # fmt: skip
    """Refuse clips that some ops leave with other sizes than their arguments say.

    Args:
        shapes: of the B clips, (C, F, H, W).
        given: before the ops, (F, H, W).
        blended: the number of frames after positions between frames were blended, if they were.
        args: the arguments of each op, (B,), by its name.
        names: of the ops.

    Raises:
        ValueError: a size differs.
    """
    sizes = [list(size) if blended is None else [blended, *size[1:]] for size in given]
    for rows in (args[name] for name in names):
        for side, field in enumerate(SIZE_FIELDS):
            if rows is not None and field in rows.dtype.names:
                for size, value in zip(sizes, rows[field].tolist(), strict=True):
                    size[side] = value
    for i, (size, shape) in enumerate(zip(sizes, shapes, strict=True)):
        if tuple(shape) != (3, *size):
            raise ValueError(
                f"clip {i} leaves the ops {', '.join(names)} as {tuple(shape)} (channels, frames, height, "
                f"width), but their arguments say {(3, *size)}: an op that changes the size says so in out_frames, or "
                "out_height and out_width"
            )


@contextmanager
def op_failures(plan: Plan, columns: Iterable[Columns]) -> Iterator[None]:
    """Run a graph: where the function of an op raises, raise that in place of DALI's text.

    DALI's error would be a ``RuntimeError``, which also stands for clips that it cannot decode.

    Args:
        plan: of the batch.
        columns: the arguments of all ops.

    Raises:
        OpError: with the exception as its cause.
    """
    try:
        yield
    except RuntimeError:
        for one in columns:
            error, one.failure = one.failure, None
            if error is not None:
                raise op_error(one.name, error, plan) from error
        raise


def op_error(name: str, error: Exception, plan: Plan) -> OpError:
    """What the function of an op raised, with the name of the op and which batch it was for."""
    text = one_line(error) if isinstance(error, OpError) else f"{type(error).__name__}: {one_line(error)}"
    return OpError(f"{name}: {text} ({batch_text(plan)})")


def batch_text(plan: Plan) -> str:
    """Which batch a plan is of, for messages."""
    samples = ", ".join(map(str, plan.samples[:8].tolist())) + ", ..." * (len(plan) > 8)
    return f"a batch of samples {samples} of epoch {plan.epoch}"
