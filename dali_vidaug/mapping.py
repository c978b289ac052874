"""Where the pixels of a plan's clips come from: the matrices of all its ops, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dali_vidaug.ops.sizes import sizes_after

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.plan import Plan


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
    if height is None or width is None:
        if plan.manifest is None:
            raise ValueError("pixel_matrices: the plan has no manifest; give the height and width of its frames")
        height, width = plan.manifest.frame_sizes(plan.samples)
    count = plan.frames.shape[1]
    sizes = np.stack(np.broadcast_arrays(np.full(len(plan), count), height, width), 1).astype(np.int64)
    product = np.broadcast_to(np.eye(3), (len(plan), count, 3, 3))
    for name, op in plan.recipe.pixel_ops:
        args = plan.args[name]
        after = sizes_after(name, op, args, sizes)
        if (after[:, 0] != count).any():
            raise ValueError(f"pixel_matrices: {name} changes the number of frames, {count} to {after[0, 0]}")
        if hasattr(op, "matrices"):
            one = op.matrices(args, *sizes.T)
            if one.shape != product.shape:
                raise ValueError(f"pixel_matrices: {name}.matrices must return {product.shape}, got {one.shape}")
            product = product @ one
        elif (after != sizes).any():
            raise ValueError(f"pixel_matrices: {name} changes the size of clips, and has no matrices to say how")
        sizes = after
    return product
