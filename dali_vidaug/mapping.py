"""Where the pixels of a plan's clips come from: the matrices of all its ops, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dali_vidaug.errors import naming
from dali_vidaug.ops.sizes import sizes_after, sizes_text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.plan import Plan
    from dali_vidaug.recipe import Recipe


class Step(NamedTuple):
    """An op on pixels of a recipe, and what it does to the places of pixels.

    Attributes:
        name, op: the op, and what it is called in the recipe.
        args: its arguments.
        matrices: each (B, F, 3, 3), one after the other: what one moves out of the frame, the next does not see. Empty
            where every pixel stays where it is.
        sizes: (B, 3) int64, frames, height and width of the clips after the op.
    """

    name: str
    op: Any
    args: Any
    matrices: list[np.ndarray]
    sizes: np.ndarray


def check_declared(caller: str, recipe: Recipe, what: str) -> None:
    """Refuse a recipe with an op that does not say where it moves pixels, or how much of a clip is another one.

    Args:
        caller: named in errors.
        recipe: whose ops are asked.
        what: what is to follow the pixels, named in errors.

    Raises:
        ValueError: an op has neither ``matrices`` nor ``moves_pixels = False``, or mixes clips without
            ``partner_share``.
    """
    for name, op in recipe.pixel_ops:
        if not hasattr(op, "matrices") and getattr(op, "moves_pixels", True):
            raise ValueError(
                f"{caller}: {name} does not say where it moves pixels, so that {what} cannot follow: an op has "
                "matrices, or moves_pixels = False where every pixel stays in its place (docs/adding-an-op.md)"
            )
        if hasattr(op, "mixed_with") and not hasattr(op, "partner_share"):
            raise ValueError(
                f"{caller}: {name} mixes clips and has no partner_share, so that the weights of {what} are not known "
                "(docs/adding-an-op.md)"
            )


def sizes_before(
    caller: str, plan: Plan, height: ArrayLike | None = None, width: ArrayLike | None = None
) -> np.ndarray:
    """Frames, height and width of each clip before the first op on pixels: (B, 3) int64.

    Args:
        caller: named in errors.
        plan: of the clips.
        height, width: (B,) int or numbers; default: those of the plan's manifest.

    Raises:
        ValueError: the sizes are not given, and the plan has no manifest.
    """
    if height is None or width is None:
        if plan.manifest is None:
            raise ValueError(f"{caller}: the plan has no manifest; give the height and width of its frames")
        height, width = plan.manifest.frame_sizes(plan.samples)
    count = np.full(len(plan), plan.frames.shape[1])
    return np.stack(np.broadcast_arrays(count, height, width), 1).astype(np.int64)


def op_steps(caller: str, recipe: Recipe, args: dict[str, Any], sizes: np.ndarray) -> Iterator[Step]:
    """The ops on pixels of a recipe, in order.

    Args:
        caller: named in errors.
        recipe: of the plan.
        args: what its ops drew, by name.
        sizes: (B, 3) int64, frames, height and width of the clips before the first op. All have as many frames.

    Raises:
        ValueError: an op changes the number of frames, or the size of clips without ``matrices``; or these are of
            another shape than they must be.
    """
    count = int(sizes[:, 0].max(initial=1))
    for name, op in recipe.pixel_ops:
        after = sizes_after(name, op, args[name], sizes)
        if (after[:, 0] != count).any():
            raise ValueError(f"{caller}: {name} changes the number of frames, {count} to {after[0, 0]}")
        found: list[np.ndarray] = []
        if hasattr(op, "matrices"):
            method = "matrix_steps" if hasattr(op, "matrix_steps") else "matrices"
            with naming(name, op, method, partial(sizes_text, sizes)):
                made = getattr(op, method)(args[name], *sizes.T)
            found = [made] if method == "matrices" else list(made)
        elif (after != sizes).any():
            raise ValueError(f"{caller}: {name} changes the size of clips, and has no matrices to say how")
        shape = len(sizes), count, 3, 3
        for one in found:
            if np.shape(one) != shape:
                raise ValueError(f"{caller}: {name}.{method} must return {shape}, got {np.shape(one)}")
        yield Step(name, op, args[name], found, after)
        sizes = after


def pixel_matrices(plan: Plan, height: ArrayLike | None = None, width: ArrayLike | None = None) -> np.ndarray:
    """For each frame of each clip the matrix from coordinates in the clip to those in the frame of its video.

    ``geometry.map_points`` applies them: what is at (x, y) of frame t of clip i comes from the point ``matrices[i, t]``
    gives of frame ``plan.frames[i, t]``. ``geometry.map_boxes`` says where boxes of the video are in the clip. Of clips
    that are mixed with others, the matrices are for the clip's own pixels.

    Args:
        plan: of the batch: ``batch.plan``, ``draw_plan``.
        height, width: (B,) int or numbers, the sizes of the frames before the first op, as shown. Default: those of the
            plan's manifest.

    Returns:
        (B, F, 3, 3) float64, in pixels: pixel (x, y) covers [x, x+1) x [y, y+1).

    Raises:
        ValueError: the sizes are not known; or an op changes the number of frames, so that frames of the clip are not
            those of the plan; or an op changes the size of clips without ``matrices``.
    """
    return clip_geometry("pixel_matrices", plan, height, width)[0]


def clip_geometry(
    caller: str, plan: Plan, height: ArrayLike | None, width: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """As ``pixel_matrices``, and how large clips are after the last op: (B, 3) int64, frames, height and width."""
    sizes = sizes_before(caller, plan, height, width)
    product = np.broadcast_to(np.eye(3), (*plan.frames.shape, 3, 3))
    for step in op_steps(caller, plan.recipe, plan.args, sizes):
        if step.matrices:
            product = product @ reduce(np.matmul, step.matrices)
        sizes = step.sizes
    return product, sizes
