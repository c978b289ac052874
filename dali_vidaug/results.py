"""What a graph gives: clips as large as their arguments say; and what went wrong in it, by the name of the op."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dali_vidaug.columns import Columns
from dali_vidaug.errors import OpError, one_line
from dali_vidaug.ops.interpolate import between_frames
from dali_vidaug.plan import Plan

SIZE_FIELDS = ("out_frames", "out_height", "out_width")


def check_shapes(
    shapes: Iterable[Sequence[int]], plan: Plan, inputs: Sequence[Any], num_ops: int | None = None
) -> None:
    """Refuse clips that are not as large as their arguments say. Labels are mixed by that.

    Args:
        shapes: (3, F, H, W) of each clip that leaves the first ``num_ops`` ops, or all.
        plan: of the clips.
        inputs: of the graph; their ``shape`` is (F, H, W, 3).
        num_ops: of the ops on pixels.

    Raises:
        ValueError: an op changes the size without saying so.
    """
    names = [name for name, _ in plan.recipe.pixel_ops][:num_ops]
    for i, (clip, shape) in enumerate(zip(inputs, shapes, strict=True)):
        size = list(clip.shape[:3])
        if between_frames(plan.frames):
            size[0] = plan.frames.shape[1]
        for rows in (plan.args[name] for name in names):
            for side, field in enumerate(SIZE_FIELDS):
                if rows is not None and field in rows.dtype.names:
                    size[side] = int(rows[field][i])
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
                text = one_line(error) if isinstance(error, OpError) else f"{type(error).__name__}: {one_line(error)}"
                samples = ", ".join(map(str, plan.samples[:8].tolist())) + ", ..." * (len(plan) > 8)
                where = f"samples {samples} of epoch {plan.epoch}"
                raise OpError(f"{one.name}: {text} (a batch of {where})") from error
        raise
