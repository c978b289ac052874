"""The sizes of clips from op to op; and whether the arguments of an op, drawn or edited, make sense."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dali_vidaug.errors import naming
from dali_vidaug.ops.crop import check_crops

SIZE_FIELDS = ("out_frames", "out_height", "out_width")  # of arguments: the sizes of the clips after the op
_SIDE_MAX = 2**15


def sizes_after(name: str, op: Any, args: Any, sizes: np.ndarray) -> np.ndarray:
    """Check the arguments of an op, and find the sizes of the clips after it.

    Args:
        name: of the op in its recipe.
        op: the op.
        args: what it drew, or what an edited plan has in its place.
        sizes: (B, 3) int64, frames, height and width of the clips before it.

    Returns:
        (B, 3) int64.

    Raises:
        TypeError: these are not arguments of the op.
        ValueError: they contradict each other or the sizes.
    """
    rows = isinstance(args, np.ndarray) and args.dtype.names and args.shape == (len(sizes),)
    if args is not None and not rows:
        what = f"{args.dtype} {args.shape}" if isinstance(args, np.ndarray) else repr(args)[:80]
        raise TypeError(f"{name}.draw must return None or a structured array of {len(sizes)} rows, got {what}")
    _check_declared(name, op, args)
    if args is None:
        return sizes
    if getattr(op, "in_decoder", False):
        check_crops(name, args, sizes)
    if hasattr(op, "check"):
        with naming(name, op, "check", partial(sizes_text, sizes)):
            op.check(args, *sizes.T)
    fields = [field for field in SIZE_FIELDS if field in args.dtype.names]
    if ("out_height" in fields) != ("out_width" in fields):
        raise TypeError(f"{name}: arguments have out_height and out_width both, or neither; got {args.dtype.names}")
    after = sizes.copy()
    for field in fields:
        sides = args[field]
        if sides.dtype.kind not in "iu" or sides.ndim != 1:
            raise TypeError(f"{name}: {field} must be one integer for each clip, got {args.dtype[field]}")
        if not (sides.min(initial=1) >= 1 and sides.max(initial=1) <= _SIDE_MAX):
            raise ValueError(f"{name}: {field} must be in [1, {_SIDE_MAX}], got {sides.min()} to {sides.max()}")
        after[:, SIZE_FIELDS.index(field)] = sides
    return after


def sizes_text(sizes: np.ndarray) -> str:
    """Sizes of clips, (B, 3), for an error message."""
    shapes = ["x".join(map(str, size)) for size in np.unique(sizes, axis=0).tolist()]
    return f"frames x height x width {', '.join(shapes[:4])}{', ...' if shapes[4:] else ''}"


def _check_declared(name, op, args):
    """The arguments have the fields that the declarations of the op promise."""
    names = () if args is None else args.dtype.names
    if hasattr(op, "ARGS") and (args is None or args.dtype != op.ARGS):
        raise TypeError(f"{name}: arguments must be of dtype {op.ARGS}, got {None if args is None else args.dtype}")
    if getattr(op, "mirrors", False) and "mirrored" not in names:
        raise TypeError(f"{name}: an op with mirrors = True draws the field mirrored, got {names or None}")
    if getattr(op, "in_decoder", False) and not {"top", "left", "bottom", "right", "out_height"} <= set(names):
        raise TypeError(f"{name}: an op with in_decoder = True draws ops.CROP, got {names or None}")
