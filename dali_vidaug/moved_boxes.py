"""Where boxes of videos are in the clips of a batch: moved, mixed and cut off as the pixels are.

The part of a box that is visible is a polygon. It stays in the coordinates of the frame that was annotated, where what
each op moves out of its frame is cut off, so that nothing comes back that the pixels have lost. The box in the clip is
the hull of what is left after the last op.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.boxes import Boxes, BoxRules, at_positions, equal_rows, no_boxes
from dali_vidaug.counting import RunningReport
from dali_vidaug.data.boxes import boxes_at
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.errors import naming
from dali_vidaug.geometry import cut_polygons, inverse, map_points, polygon_areas
from dali_vidaug.mapping import check_declared, op_steps
from dali_vidaug.ops.interpolate import between_frames
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe

_NOTHING = 1e-9  # a share of a box
_NO_WEIGHT = 1e-6
_ROUNDING = 1e-6  # of sizes in pixels, and of shares


class MovedBoxes(NamedTuple):
    """What ``move_boxes`` returns.

    Attributes:
        boxes: of the clips, NumPy arrays, ordered.
        dropped: how many are not among them because too little of them is in the frame.
        covered: the same, because another clip covers them.
    """

    boxes: Boxes
    dropped: int
    covered: int


@dataclass(frozen=True)
class _Moving:
    """Boxes on their way.

    Attributes:
        boxes: as annotated, but for the clips in which they are shown, and for the weights.
        corners: (N, K, 2), what is visible, as annotated.
        maps: (N, 3, 3), from there to the clips as the ops so far leave them.
        full: (N,), the areas of the boxes, as annotated.
    """

    boxes: Boxes
    corners: np.ndarray
    maps: np.ndarray
    full: np.ndarray

    def rows(self, chosen):
        """Some of them."""
        return _Moving(self.boxes.rows(chosen), self.corners[chosen], self.maps[chosen], self.full[chosen])

    def hulls(self):
        """(N, 4) float64: where they are in the clips."""
        places = map_points(self.maps, self.corners)
        return np.concatenate([places.min(1), places.max(1)], 1)


def check_boxes_follow(caller: str, recipe: Recipe, args: dict[str, Any], sizes: np.ndarray) -> None:
    """Refuse a recipe whose ops do not say where boxes go.

    Args:
        caller, recipe, args, sizes: as in ``mapping.op_steps``.

    Raises:
        ValueError: an op moves pixels, changes the size or the number of frames, or mixes clips, and does not say how.
    """
    check_declared(caller, recipe, "boxes")
    for _ in op_steps(caller, recipe, args, sizes):
        pass


def move_boxes(caller: str, boxes: Boxes, plan: Plan, height: Any, width: Any, rules: BoxRules) -> MovedBoxes:
    """Find where boxes are after all ops of a plan.

    Args:
        caller: named in errors.
        boxes: in the frames ``plan.frames`` of the clips before the first op on pixels; NumPy arrays, ordered.
        plan: of the batch.
        height, width: (B,) int, the sizes of these frames.
        rules: which boxes stay.

    Raises:
        ValueError: as ``check_boxes_follow``; or a matrix has no inverse.
    """
    sizes = np.stack(np.broadcast_arrays(np.full(len(plan), plan.frames.shape[1]), height, width), 1).astype(np.int64)
    check_declared(caller, plan.recipe, "boxes")
    x1, y1, x2, y2 = boxes.xyxy.astype(np.float64).T
    corners = np.stack([np.stack([x1, x2, x2, x1], 1), np.stack([y1, y1, y2, y2], 1)], -1)
    areas = polygon_areas(corners)
    moving = _Moving(boxes, corners, np.tile(np.eye(3), (len(x1), 1, 1)), areas).rows(areas > 0)
    total, least = len(x1), max(_NO_WEIGHT, rules.min_weight - _ROUNDING)
    hidden = int((moving.boxes.weight <= least).sum())
    moving = _cut(moving.rows(moving.boxes.weight > least), sizes)
    for step in op_steps(caller, plan.recipe, plan.args, sizes):
        moving = _moved(caller, moving, step, sizes)
        if hasattr(step.op, "mixed_with"):
            before = len(moving.full)
            both = _mixed(caller, moving, step)
            moving = both.rows(both.boxes.weight > least)
            total += len(both.full) - before
            hidden += len(both.full) - len(moving.full)
        sizes = step.sizes
    found = _as_boxes(moving, sizes, rules)
    return MovedBoxes(found, total - hidden - len(found.clip), hidden)


def _cut(moving, sizes):
    """Boxes without what is outside of frames of clips of ``sizes``, (B, 3); those that are outside are left out."""
    height, width = sizes[moving.boxes.clip, 1:].T.astype(np.float64)
    edges = np.zeros((len(height), 4, 3))  # points with a x + b y + c >= 0 are on the right side of each
    edges[:, 0, 0] = edges[:, 1, 1] = 1
    edges[:, 2, 0] = edges[:, 3, 1] = -1
    edges[:, 2, 2], edges[:, 3, 2] = width, height
    lines = edges @ moving.maps  # points go to the clip by a matrix, and lines come back from it by the same
    values = lines[..., :2] @ moving.corners.swapaxes(1, 2) + lines[..., 2:]
    crossing = np.flatnonzero((values < 0).any((1, 2)))
    if not len(crossing):
        return moving
    cut = moving.corners[crossing]
    for k in range(4):
        cut = cut_polygons(cut, lines[crossing, k])
    count = max(cut.shape[1], moving.corners.shape[1])
    corners = np.pad(moving.corners, ((0, 0), (0, count - moving.corners.shape[1]), (0, 0)), mode="edge")
    corners[crossing] = np.pad(cut, ((0, 0), (0, count - cut.shape[1]), (0, 0)), mode="edge")
    stays = np.ones(len(height), bool)
    stays[crossing] = polygon_areas(cut) > _NOTHING * moving.full[crossing]
    return replace(moving, corners=corners).rows(stays)


def _moved(caller, moving, step, sizes):
    """Boxes after an op, without what it moves out of the frame; ``sizes`` are those of the clips before it."""
    for k, matrices in enumerate(step.matrices):
        if (matrices == np.eye(3)).all():
            continue
        at, after = (moving.boxes.clip, moving.boxes.frame), step.sizes if k == len(step.matrices) - 1 else sizes
        one, back = matrices[at], inverse(matrices)[at]
        singular = ~np.isfinite(back).all((1, 2))
        if singular.any():
            i, t = (int(column[singular][0]) for column in at)
            raise ValueError(
                f"{caller}: {step.name}: boxes cannot follow in frame {t} of clip {i}: its matrix has no inverse, "
                f"{matrices[i, t].tolist()}"
            )
        # What is visible has a positive third coordinate: a matrix says the same as its negative.
        middle = np.stack([after[at[0], 2] / 2, after[at[0], 1] / 2, np.ones(len(one))], 1)
        back = np.where(((one[:, 2] * middle).sum(1) < 0)[:, None, None], -back, back)
        moving = _cut(replace(moving, maps=back @ moving.maps), after)
    return moving


def _mixed(caller, moving, step):
    """Boxes of clips and of their partners, with weights, after an op that mixes clips."""
    partner, own = (np.asarray(column) for column in step.op.mixed_with(step.args))
    takes = (partner != np.arange(len(partner))) & (own < 1)
    takers = np.flatnonzero(takes)
    place, row = equal_rows(moving.boxes.clip, partner[takers])
    theirs = moving.rows(row)
    theirs = replace(theirs, boxes=theirs.boxes._replace(clip=takers[place]))
    weight = np.where(takes[moving.boxes.clip], 1 - _partner_share(caller, moving, step), 1.0)
    parts = (
        (moving, moving.boxes.weight * weight),
        (theirs, theirs.boxes.weight * _partner_share(caller, theirs, step)),
    )
    columns = zip(*(part.boxes._replace(weight=weight) for part, weight in parts), strict=True)
    joined = _Moving(
        Boxes(*(np.concatenate(column) for column in columns)),
        *(np.concatenate([getattr(part, name) for part, _ in parts]) for name in ("corners", "maps", "full")),
    )
    return joined.rows(np.lexsort([joined.boxes.frame, joined.boxes.clip]))


def _partner_share(caller, moving, step):
    """(N,): which share of each box shows the partner of its clip."""
    where = moving.boxes.clip, moving.boxes.frame, moving.hulls()
    with naming(step.name, step.op, "partner_share", f"for {len(moving.full)} boxes"):
        share = np.asarray(step.op.partner_share(step.args, *where))
    right = share.shape == moving.full.shape and share.dtype.kind in "iuf"
    if not (right and ((share >= 0) & (share <= 1)).all()):
        got = f"{share.min():g} to {share.max():g}" if right else f"{share.dtype} {share.shape}"
        raise ValueError(
            f"{caller}: {step.name}.partner_share must return {moving.full.shape} numbers in [0, 1], got {got}"
        )
    return share


def _as_boxes(moving, sizes, rules):
    """The boxes that stay, in the clips as they are after the last op."""
    hulls, (height, width) = moving.hulls(), sizes[moving.boxes.clip, 1:].T
    hulls = np.clip(hulls, 0, np.stack([width, height, width, height], 1))
    across, down = hulls[:, 2] - hulls[:, 0], hulls[:, 3] - hulls[:, 1]
    stays = np.minimum(across, down) >= rules.min_size - _ROUNDING
    stays &= across * down >= rules.min_area - _ROUNDING
    stays &= polygon_areas(moving.corners) >= (rules.min_visible - _ROUNDING) * moving.full
    boxes = moving.boxes._replace(xyxy=hulls.astype(np.float32), weight=moving.boxes.weight.astype(np.float32))
    return boxes.rows(stays)


def boxes_of(manifest: Manifest, plan: Plan, rules: BoxRules, report: RunningReport) -> Boxes | None:
    """The boxes of the batch of a plan, of NumPy arrays; None where the manifest has none.

    Args:
        manifest: of the samples.
        plan: of the clips that are in the batch.
        rules: which boxes stay.
        report: how many do is counted there.

    Raises:
        ValueError: boxes cannot follow an op of the plan.
    """
    if not manifest.has_boxes:
        return None
    if not len(plan):
        return no_boxes()
    frames = plan.frames
    if between_frames(frames):  # the boxes of both frames, one after the other, and what lies between them
        before = np.floor(frames)
        both = np.stack([before, np.ceil(frames)], -1).reshape(len(plan), -1).astype(np.int64)
        place = 2 * np.arange(frames.shape[1]) + (frames - before)
        annotated = at_positions(boxes_at(manifest, plan.samples, both), place)
    else:
        annotated = boxes_at(manifest, plan.samples, frames)
    moved = move_boxes("VideoLoader", annotated, plan, *manifest.frame_sizes(plan.samples), rules)
    report.add_boxes(len(moved.boxes.clip), moved.dropped, moved.covered)
    return moved.boxes
