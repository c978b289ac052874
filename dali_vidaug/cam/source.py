"""Heat maps of clips, on the frames of the videos that the clips are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from dali_vidaug.cam.activation import Maps, check_clip
from dali_vidaug.errors import naming
from dali_vidaug.geometry import inverse, map_points
from dali_vidaug.mapping import check_declared, op_steps, sizes_before
from dali_vidaug.media.decode import decode

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.batch import Batch

_CALLER = "cam.on_source"


class SourceMaps(NamedTuple):
    """Heat maps on frames of one of the videos that a clip shows.

    Attributes:
        clip: position in the batch of the clip whose video this is: the clip itself, or one that is mixed with it.
        sample: its row of the manifest.
        frames: (F,), positions in the video: the map of frame t is that of position ``frames[t]``, which is a float
            where it may lie between two frames.
        heat: (N, F, H, W) float32 in [0, 1], on whole frames as shown; 0 where the clip does not show them.
        weight: (F, H, W) float32 in [0, 1], how much of what the clip shows of the place is of this video; 0 where the
            clip does not show it.
    """

    clip: int
    sample: int
    frames: np.ndarray
    heat: np.ndarray
    weight: np.ndarray


def on_source(
    batch: Batch, maps: Maps, i: int, height: ArrayLike | None = None, width: ArrayLike | None = None
) -> list[SourceMaps]:
    """Put the maps of a clip onto the frames of its video, and of those that are mixed with it.

    Each pixel of a video's frame goes the way of the recipe's ops, to the place of the clip where it is shown, and gets
    the heat of that place. What an op moves out of the frame stays away. What is erased counts as shown.

    Args:
        batch: of the clips; its plan says what was done to them.
        maps: of ``batch.clips``, by ``activation``.
        i: position of the clip in the batch.
        height, width: (B,) int or numbers, the sizes of the videos' frames as shown. Default: those of the manifest.

    Returns:
        The clip's own video first, then that of its partner where it is mixed; more of them where several ops mix.

    Raises:
        ValueError: the maps are of another batch, an op does not say where it moves pixels, or the sizes are not known.
    """
    plan = batch.plan
    check_clip(_CALLER, maps, i, len(plan))
    check_declared(_CALLER, plan.recipe, "heat maps")
    before = sizes_before(_CALLER, plan, height, width)
    steps = list(op_steps(_CALLER, plan.recipe, plan.args, before))
    count, *size = (steps[-1].sizes if steps else before)[i].tolist()
    heat = maps.on_clip(i, (count, *size)).float().cpu()
    found = []
    partners = [_partners(step) for step in steps]
    for route in _routes(partners, i):
        clip = route[0]
        full, weight = _follow(steps, partners, route, before[clip], heat)
        found.append(SourceMaps(clip, int(plan.samples[clip]), plan.frames[clip], full, weight))
    return found


def _partners(step):
    """(B,) int64, the clip that each is mixed with by an op, or itself; None: the op does not mix."""
    if not hasattr(step.op, "mixed_with"):
        return None
    partner, own = (np.asarray(column) for column in step.op.mixed_with(step.args))
    return np.where(own < 1, partner, np.arange(len(partner)))


def _routes(partners, i):
    """The clips that pixels of clip ``i`` have been in: before the first op, after it, ..., after the last.

    Where an op mixes a clip, there are two ways in: from the clip itself, and from its partner.
    """
    routes = [[i]]
    for partner in reversed(partners):
        others = [] if partner is None else [r for r in routes if partner[r[0]] != r[0]]
        routes = [[r[0], *r] for r in routes] + [[int(partner[r[0]]), *r] for r in others]
    return routes


def _follow(steps, partners, route, size, heat):
    """Heat (N, F, H, W) and weight (F, H, W) on the frames of the first clip of a route, of a ``size`` (F, H, W)."""
    count, height, width = size.tolist()
    full = np.zeros((len(heat), count, height, width), np.float32)
    weights = np.zeros((count, height, width), np.float32)
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([columns.ravel(), rows.ravel()], -1)
    for t in range(count):
        points, weight = pixels, np.ones(len(pixels))
        before = size
        for step, partner, clip, after in zip(steps, partners, route, route[1:], strict=False):
            points, weight = _moved(step, clip, t, points, weight, before)
            if partner is not None and partner[after] != after:
                weight = weight * _share(step, clip, after, t, points, weight > 0)
            before = step.sizes[after]
        places = np.where((weight > 0)[:, None], points, 0) * 2 / before[[2, 1]] - 1
        grid = torch.from_numpy(places).float().view(1, height, width, 2)
        at = functional.grid_sample(heat[None, :, t], grid, "bilinear", "border", align_corners=False)[0].numpy()
        weights[t] = weight.reshape(height, width)
        full[:, t] = np.where(weights[t] > 0, at, 0)
    return full, weights


def _moved(step, clip, t, points, weight, before):
    """Points (P, 2) after an op, and their weights, which are 0 from where they leave the frame."""
    for k, matrices in enumerate(step.matrices):
        one = matrices[clip, t]
        if (one == np.eye(3)).all() and (before == step.sizes[clip]).all():
            continue
        _, high, wide = step.sizes[clip] if k == len(step.matrices) - 1 else before
        points = map_points(inverse(one), points)
        middle = one[2, 0] * wide / 2 + one[2, 1] * high / 2 + one[2, 2]
        with np.errstate(invalid="ignore"):  # of points that are infinitely far, which are not inside
            ahead = points @ one[2, :2] + one[2, 2]  # points that are seen are on the side of the frame's middle
            inside = (points >= 0).all(1) & (points[:, 0] < wide) & (points[:, 1] < high) & (ahead * middle > 0)
        weight = np.where(inside, weight, 0)
    return points, weight


def _share(step, clip, after, t, points, seen):
    """Of clip ``after``, which is mixed, how much is of clip ``clip`` at points (P, 2) of frame ``t``; 0 for others."""
    _, high, wide = step.sizes[after]
    rows, columns = (axis.ravel() for axis in np.mgrid[:high, :wide])
    clips, frames = np.full(len(rows), after), np.full(len(rows), t)
    with naming(step.name, step.op, "partner_share", f"for {len(rows)} pixels"):
        boxes = np.stack([columns, rows, columns + 1, rows + 1], 1).astype(np.float64)
        of_partner = np.asarray(step.op.partner_share(step.args, clips, frames, boxes)).reshape(high, wide)
    share, (x, y) = np.zeros(len(points)), points[seen].astype(np.int64).T  # the pixel that a point is in
    share[seen] = of_partner[y, x] if clip != after else 1 - of_partner[y, x]
    return share


def original_frames(batch: Batch, found: SourceMaps, originals: Any = None) -> np.ndarray:
    """The frames of a video that heat maps are on: (F, H, W, 3) uint8. Between two frames: the nearer one.

    Args:
        batch: of the clips.
        found: of one of its clips.
        originals: (F, H, W, 3) uint8 for each clip of a batch that ``augment`` made; else the videos are decoded.
    """
    frames = np.rint(found.frames).astype(np.int64)
    if originals is not None:
        return np.asarray(originals[found.clip])[frames]
    manifest: Any = batch.manifest  # without one nothing comes here
    return decode(manifest.video(found.sample), frames).pixels
