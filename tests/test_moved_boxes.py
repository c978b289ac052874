"""Boxes of a batch: where the pixels are, after every op and chain; weights of mixed clips; bad input."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import noise_clips

import dali_vidaug as dv
from dali_vidaug import geometry
from dali_vidaug.boxes import at_positions, check_boxes, no_boxes
from dali_vidaug.mapping import op_steps
from dali_vidaug.moved_boxes import move_boxes
from dali_vidaug.ops.mix import FAMILIES

FRAMES, HEIGHT, WIDTH, SIDE = 6, 110, 140, 44
MOVES = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def augment(clips, ops, **options):
    return dv.augment(list(clips), ops, layout="FHWC", device="cpu", **options)


def arrays(boxes):
    """Boxes of tensors as arrays."""
    return dv.Boxes(*(column.numpy() for column in boxes))


def moving_squares(count, seed, frames=FRAMES, step=None, height=HEIGHT, width=WIDTH):
    """Clips with a white square that moves, (B, F, H, W, 3), and its boxes: class 3, track 5."""
    rng = np.random.default_rng(seed)
    clips = np.zeros((count, frames, height, width, 3), np.uint8)
    corners = []
    for i in range(count):
        ends = [rng.uniform(0.1, 0.7, 2) * length for length in (width, height)]
        if step is not None:
            ends = [(low, low + step * (frames - 1)) for low, _ in ends]
        x, y = (np.linspace(*pair, frames).round().astype(int) for pair in ends)
        for t in range(frames):
            clips[i, t, y[t] : y[t] + SIDE, x[t] : x[t] + SIDE] = 255
        corners.append(np.stack([x, y, np.minimum(x + SIDE, width), np.minimum(y + SIDE, height)], -1))
    clip, frame = np.divmod(np.arange(count * frames), frames)
    size = count * frames
    return clips, dv.Boxes(clip, frame, np.concatenate(corners), np.full(size, 3), np.full(size, 5))


def hull(mask):
    """x1, y1, x2, y2 of the pixels of a mask (H, W); None if it has none."""
    columns, lines = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], lines[0], columns[-1] + 1, lines[-1] + 1], float) if len(columns) else None


def farthest(batch, least_size=4):
    """By how many pixels boxes and bright pixels differ at most, and how many frames were compared.

    A frame that shows a square only in a strip of a few pixels is not compared: interpolation leaves it grey.
    """
    boxes, clips, worst, compared = arrays(batch.boxes), batch.clips.numpy(), 0.0, 0
    for i in range(len(clips)):
        for t in range(clips.shape[1]):
            shown = hull(clips[i, t].max(-1) > BRIGHT)
            rows = boxes.of_clip(i).rows(boxes.of_clip(i).frame == t)
            assert len(rows.clip) <= 1 and (rows.label == 3).all() and (rows.track == 5).all()
            if shown is None:
                assert not len(rows.clip) or (rows.xyxy[0, 2:] - rows.xyxy[0, :2]).min() < least_size
            elif not len(rows.clip):
                assert (shown[2:] - shown[:2]).min() < least_size, f"clip {i}, frame {t}: no box, but {shown}"
            elif (rows.xyxy[0, 2:] - rows.xyxy[0, :2]).min() >= least_size:
                worst = max(worst, np.abs(shown - rows.xyxy[0]).max())
                compared += 1
    return worst, compared


BRIGHT = 100  # a corner that points to a side is grey
MOVING = {
    "RandomResizedCrop": dv.RandomResizedCrop((90, 120), scale=(0.3, 1.0)),
    "RandomResizedCrop, shifted": dv.RandomResizedCrop((90, 120), scale=(0.3, 1.0), shift=True),
    "RandomCrop": dv.RandomCrop((80, 96)),
    "CenterCrop": dv.CenterCrop((80, 96)),
    "MultiScaleCrop": dv.MultiScaleCrop((90, 120)),
    "Resize": dv.Resize((100, 130)),
    "ShortSideScale": dv.ShortSideScale(90, 90),
    "ScaleJitter": dv.ScaleJitter((0.7, 0.7)),
    "RandomResizedCrop, not antialiased": dv.RandomResizedCrop((90, 120), antialias=False),
    "RandomHorizontalFlip": dv.RandomHorizontalFlip(),
    "RandomVerticalFlip": dv.RandomVerticalFlip(),
    "RandomRotation": dv.RandomRotation(40.0),
    "RandomRotation, nearest": dv.RandomRotation(40.0, interpolation="nearest"),
    "RandomAffine": dv.RandomAffine(20.0, (0.3, 0.3), (0.8, 1.25), 10.0),
    "RandomAffine, ramped": dv.RandomAffine(20.0, (0.3, 0.3), (0.8, 1.25), 10.0, ramp="temporal"),
    "RandomPerspective": dv.RandomPerspective(0.3, 1.0, ramp="temporal"),
    "CameraMotion": dv.CameraMotion(0.2, cover=False),
    "RandAugmentT": dv.RandAugmentT(3, ops=MOVES, fill=(0, 0, 0), magnitude=7.0),
    "RandAugmentT, fourier": dv.RandAugmentT(2, ops=MOVES, fill=(0, 0, 0), magnitude=7.0, ramp="fourier"),
    "TrivialAugment": dv.TrivialAugment("temporal+", ops=(*MOVES, "Identity"), fill=(0, 0, 0)),
    "RandomApply": dv.RandomApply(dv.RandAugmentT(2, ops=MOVES, fill=(0, 0, 0)), 0.5),
}


@pytest.mark.parametrize("name", MOVING)
def test_a_square_is_recovered_from_the_pixels(name):
    clips, boxes = moving_squares(12, 1)
    worst, compared = farthest(augment(clips, (MOVING[name],), boxes=boxes, seed=1))
    assert worst <= 1 and compared >= 40, (worst, compared)


# Crops that need large frames; and what moves pixels by half of one, beside what others do to edges.
NOT_CHAINED = ("RandomCrop", "CenterCrop", "RandomRotation, nearest")


def visible_points(plan, xyxy, i, t):
    """Points all over a box of the video, where the clip shows them: those that are in the frame after every op."""
    x, y = (np.linspace(low, high, 121) for low, high in (xyxy[::2], xyxy[1::2]))
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    sizes = np.tile(np.array([FRAMES, HEIGHT, WIDTH]), (len(plan), 1))
    for step in op_steps("test", plan.recipe, plan.args, sizes):
        for k, matrices in enumerate(step.matrices):
            _, height, width = (step.sizes if k == len(step.matrices) - 1 else sizes)[i]
            points = geometry.map_points(np.linalg.inv(matrices[i, t]), points)
            points = points[((points > -1e-9) & (points < [width + 1e-9, height + 1e-9])).all(1)]
        sizes = step.sizes
    return points


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 50), marks=pytest.mark.slow)], ids=["few", "many"])
def test_a_square_is_recovered_after_chains_of_three(seeds):
    """Of ops one after the other: what one has moved out of the frame does not come back.

    Where a corner has become so sharp that it is narrower than a pixel, no pixel is as bright as the square: there the
    box may be larger than what is bright, by a part of the square of less than two pixels.
    """
    compared, sharp, worst = 0, 0, 0.0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        names = rng.choice([name for name in MOVING if name not in NOT_CHAINED], 3).tolist()
        clips, given = moving_squares(2, seed)
        if "ShortSideScale" in names:  # the crops before it leave other sizes
            names.append("Resize")
        batch = augment(clips, tuple(MOVING[name] for name in names), boxes=given, seed=seed)
        boxes, outputs = arrays(batch.boxes), batch.clips.numpy()
        for row in range(len(boxes.clip)):
            i, t, box = boxes.clip[row], boxes.frame[row], boxes.xyxy[row]
            points = visible_points(batch.plan, given.xyxy[i * FRAMES + t], i, t)
            what = f"{names}, seed {seed}, clip {i}, frame {t}: {box}, of points {points.min(0)} to {points.max(0)}"
            assert np.abs(box - [*points.min(0), *points.max(0)]).max() <= 1.5, what  # they are not everywhere
            bright = outputs[i, t].max(-1) > 127
            if (box[2:] - box[:2]).min() < 8 or not bright.any():
                continue
            shown = hull(bright)
            larger = np.array([1, 1, -1, -1]) * (shown - box)
            assert larger.min() >= -1, f"{what}, but pixels {shown}"
            lost = ((points < shown[:2] - 1) | (points > shown[2:] + 1)).any(1).mean() * bright.sum()
            assert larger.max() <= 1 or lost < 2, f"{what}, but pixels {shown}, of which {lost} are lost"
            compared, sharp, worst = compared + 1, sharp + (larger.max() > 1), max(worst, larger.max())
    assert compared > 5 * len(seeds) and sharp < 0.1 * compared, (compared, sharp, worst)


@pytest.mark.parametrize(
    "op", [dv.ThreeCrop(70), dv.FiveCrop(70), dv.TenCrop((70, 90))], ids=lambda op: type(op).__name__
)
def test_a_square_is_recovered_in_each_view(op):
    clips, boxes = moving_squares(1, 4)
    views = np.arange(op.num_crops)
    same = [
        np.repeat(column, len(views), 0) if column is boxes.clip else np.concatenate([column] * len(views))
        for column in boxes[1:5]
    ]
    given = dv.Boxes(np.repeat(views, FRAMES), *same)
    batch = augment(clips.repeat(len(views), 0), (op,), boxes=given, views=views, samples=0 * views)
    worst, compared = farthest(batch)
    assert worst <= 1 and compared >= len(views), (worst, compared)
    assert len({batch.boxes.of_clip(i).xyxy.numpy().tobytes() for i in views.tolist()}) > 2, "all views are the same"


TIMED = {
    "Reverse": dv.Reverse(1.0),
    "HalfCopy": dv.HalfCopy(1.0),
    "TemporalJitter": dv.TemporalJitter(0.3, 0.3),
    "FrameJitter": dv.FrameJitter(1.0),
    "FrameDrop": dv.FrameDrop(0.5),
    "SpeedRamp": dv.SpeedRamp((0.2, 5.0)),
    "SpeedRamp, nearest": (dv.SpeedRamp((0.2, 5.0)), dv.FrameInterpolation("nearest")),
    "all": (dv.TemporalJitter(), dv.SpeedRamp(), dv.Reverse(0.5), dv.FrameDrop(0.2)),
}


@pytest.mark.parametrize("name", TIMED)
def test_a_square_is_recovered_after_ops_on_time(name):
    """Blended from two frames, it is between its places there; they are a pixel apart."""
    ops = TIMED[name] if isinstance(TIMED[name], tuple) else (TIMED[name],)
    clips, boxes = moving_squares(6, 2, frames=16, step=1)
    worst, compared = farthest(augment(clips, (*ops, dv.RandomHorizontalFlip()), boxes=boxes))
    assert worst <= 1 and compared == 6 * 16


def test_blended_frames_have_boxes_between_those_of_both():
    """A box that only one of the two frames has is that of the nearer one; so are boxes without tracks."""

    def row(frame, x, track, label=0):
        return (0, frame, (x, 0, x + 10, 10), label, track)

    rows = [row(0, 0, 1), row(1, 8, 1), row(0, 40, 2), row(1, 60, 3), row(0, 20, -1), row(1, 30, -1), row(1, 90, 1, 4)]
    boxes = dv.Boxes(*(np.array(column) for column in zip(*rows, strict=True)))
    found = at_positions(check_boxes("test", boxes, np.array([[2, 20, 100]])), np.array([[0.25, 0.5, 1.0, 0.0]]))
    shown = [
        sorted(zip(found.xyxy[found.frame == t, 0].tolist(), found.track[found.frame == t].tolist(), strict=True))
        for t in range(4)
    ]
    assert shown == [
        [(2, 1), (20, -1), (40, 2)],
        [(4, 1), (30, -1), (60, 3), (90, 1)],
        [(8, 1), (30, -1), (60, 3), (90, 1)],
        [(0, 1), (20, -1), (40, 2)],
    ]


def test_boxes_of_any_positions_are_those_that_are_looked_up_one_by_one():
    rng = np.random.default_rng(0)
    for number in range(30):
        size = int(rng.integers(0, 30))
        keys = sorted({tuple(rng.integers(0, (3, 5, 3, 3)) - (0, 0, 1, 1)) for _ in range(size)})
        keys = [
            key for key in keys for _ in range(1 + (key[2] < 0 and number % 2))
        ]  # without a track there are several
        clip, frame, track, label = np.array(keys, np.int64).reshape(-1, 4).T
        corner = rng.uniform(0, 50, (len(keys), 2))
        boxes = dv.Boxes(clip, frame, np.concatenate([corner, corner + 9], 1), label, track)
        boxes = check_boxes("test", boxes, np.tile([5, 60, 60], (3, 1)))
        frames = rng.integers(0, 17, (3, 7)) / 4 if number % 3 else rng.integers(0, 5, (3, 7))
        expected = []
        for i, t in np.ndindex(frames.shape):
            low, share = int(frames[i, t] // 1), frames[i, t] % 1
            here, there = (
                [(r, boxes.xyxy[r]) for r in range(len(keys)) if (boxes.clip[r], boxes.frame[r]) == (i, f)]
                for f in (low, low + 1)
            )
            for r, xyxy in here:
                same = [
                    b for q, b in there if boxes.track[q] == boxes.track[r] >= 0 and boxes.label[q] == boxes.label[r]
                ]
                if same and share:
                    expected.append((i, t, r, xyxy + share * (same[0] - xyxy)))
                elif share < 0.5:
                    expected.append((i, t, r, xyxy))
            for q, xyxy in there if share >= 0.5 else ():
                if not any(boxes.track[q] == boxes.track[r] >= 0 and boxes.label[q] == boxes.label[r] for r, _ in here):
                    expected.append((i, t, q, xyxy))
        found = at_positions(boxes, frames)
        assert found.clip.tolist() == [e[0] for e in expected] and found.frame.tolist() == [e[1] for e in expected]
        assert found.track.tolist() == [boxes.track[e[2]] for e in expected]
        np.testing.assert_allclose(found.xyxy, np.array([e[3] for e in expected]).reshape(-1, 4), atol=1e-4)


# ---- what is left of a box


def test_what_is_left_of_polygons_is_counted_on_a_grid():
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (60, 5)), 1)
    polygons = np.stack([np.cos(angles), np.sin(angles)], -1) * rng.uniform(5, 30, (60, 1, 1)) + rng.uniform(
        -9, 9, (60, 1, 2)
    )
    grid = np.stack(np.meshgrid(np.arange(-40, 40, 0.5), np.arange(-40, 40, 0.5)), -1) + 0.25
    left, inside = polygons, np.ones((60, *grid.shape[:2]), bool)
    ahead = np.roll(polygons, -1, 1) - polygons
    for k in range(5):
        from_corner = grid - polygons[:, None, None, k]
        inside &= ahead[:, k, 0, None, None] * from_corner[..., 1] >= ahead[:, k, 1, None, None] * from_corner[..., 0]
    np.testing.assert_allclose(geometry.polygon_areas(left), inside.sum((1, 2)) / 4, rtol=0.05, atol=4)
    for _ in range(4):
        lines = np.concatenate([rng.normal(size=(60, 2)), rng.uniform(-3, 25, (60, 1))], 1)
        left = geometry.cut_polygons(left, lines)
        inside &= (grid @ lines[:, :2].T).transpose(2, 0, 1) + lines[:, 2, None, None] >= 0
        areas = geometry.polygon_areas(left)
        np.testing.assert_allclose(areas, inside.sum((1, 2)) / 4, rtol=0.05, atol=4)
    assert (areas == 0).any() and (areas > 50).any()
    assert geometry.polygon_areas(polygons[:1] + 1e6) == pytest.approx(geometry.polygon_areas(polygons[:1]))


def test_what_is_moved_out_of_the_frame_does_not_come_back():
    """Out to the right and back again: where the square was, there is only the fill colour."""
    clips, boxes = moving_squares(1, 0)
    op = dv.RandAugmentT(2, ops=("TranslateX",), fill=(0, 0, 0), interpolation="nearest")
    plan = augment(clips, (op,), boxes=boxes).plan
    batches = []
    for way in ((-60.0, 60.0), (WIDTH, -WIDTH)):
        plan.args["RandAugmentT"]["value"] = np.array(way)[:, None]
        moved = move_boxes(
            "test", check_boxes("test", boxes, np.array([clips.shape[1:4]])), plan, HEIGHT, WIDTH, dv.BoxRules()
        )
        batches.append(moved)
    part, none = batches
    right = np.clip(boxes.xyxy[:, 2], None, WIDTH - 60)  # of what the first translation leaves in the frame
    kept = right > boxes.xyxy[:, 0]
    assert np.array_equal(part.boxes.xyxy[:, 2], right[kept]) and np.array_equal(
        part.boxes.xyxy[:, 0], boxes.xyxy[kept, 0]
    )
    assert part.dropped == FRAMES - kept.sum() and none.dropped == FRAMES and not len(none.boxes.clip)


@pytest.mark.parametrize("rules", [dv.BoxRules(), dv.BoxRules(min_size=9.0), dv.BoxRules(min_area=200.0)], ids=str)
def test_boxes_are_kept_and_dropped_as_by_torchvision(torchvision, rules):
    """Crops, resizes and flips, then clamping and SanitizeBoundingBoxes."""
    _, v2, tensors = torchvision
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1, (400, 2)) * (WIDTH, HEIGHT)
    far = corner + rng.uniform(0, 1, (400, 2)) * ((WIDTH, HEIGHT) - corner) * rng.choice([0.02, 0.3, 1.0], (400, 1))
    boxes = np.concatenate([corner, far], 1).astype(np.float32)
    frame = np.sort(rng.integers(0, 2, 400))
    clips = noise_clips((2, HEIGHT, WIDTH))
    ops = (dv.RandomResizedCrop((60, 50)), dv.RandomHorizontalFlip(1.0))
    given = dv.Boxes(np.zeros(400, int), frame, boxes, np.arange(400))
    batch = augment(clips, ops, boxes=given, box_rules=rules, seed=3)
    top, left, bottom, right = (
        int(batch.plan.args["RandomResizedCrop"][name][0]) for name in ("top", "left", "bottom", "right")
    )
    theirs = tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(HEIGHT, WIDTH))
    theirs = v2.functional.resized_crop(theirs, top, left, bottom - top, right - left, [60, 50])
    theirs = v2.functional.clamp_bounding_boxes(v2.functional.horizontal_flip(theirs))
    kept = v2.SanitizeBoundingBoxes(rules.min_size, rules.min_area)({"boxes": theirs, "labels": torch.arange(400)})
    assert batch.boxes.label.tolist() == kept["labels"].tolist() and 20 < len(kept["labels"]) < 380
    np.testing.assert_allclose(batch.boxes.xyxy.numpy(), kept["boxes"].as_subclass(torch.Tensor).numpy(), atol=1e-3)
    assert batch.boxes.frame.tolist() == frame[batch.boxes.label.numpy()].tolist()


def test_the_visible_share_is_of_the_box_as_annotated():
    """Also after two crops that each cut off a part, and whatever they are scaled to."""
    clips = noise_clips((1, 100, 100))
    boxes = dv.Boxes([0], [0], [[0.0, 0.0, 100.0, 50.0]])
    ops = (dv.CenterCrop((100, 60)), dv.Resize((200, 30)), dv.CenterCrop((150, 30)))  # 60 of 100, 37.5 of 50
    for least, count in ((0.44, 1), (0.449, 1), (0.451, 0)):
        batch = augment(clips, ops, boxes=boxes, box_rules=dv.BoxRules(min_visible=least))
        assert len(batch.boxes.clip) == count
    whole = augment(clips, (dv.RandomRotation((90.0, 90.0)),), boxes=boxes, box_rules=dv.BoxRules(min_visible=1.0))
    assert whole.boxes.xyxy.tolist() == [pytest.approx([0, 0, 50, 100], abs=1e-4)]


@pytest.mark.parametrize("options, words", [
    (dict(min_visible=1.5), r"BoxRules: min_visible must be a number in \[0, 1\], got 1.5"),
    (dict(min_size=-1), "BoxRules: min_size must be a number >= 0, got -1"),
    (dict(min_area=float("nan")), "BoxRules: min_area must be a number >= 0, got nan"),
    (dict(min_weight=2), r"BoxRules: min_weight must be a number in \[0, 1\], got 2"),
    (dict(min_size=True), "BoxRules: min_size must be a number >= 0, got True"),
    (dict(min_visible="1"), r"BoxRules: min_visible must be a number in \[0, 1\], got '1'"),
])  # fmt: skip
def test_rules_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        dv.BoxRules(**options)


# ---- clips that are mixed: how much of each box shows which clip


def share_in_box(frame, xyxy):
    """The mean of a frame (H, W) of one colour each side of edges, over a box whose sides may lie within pixels."""
    (x1, y1, x2, y2), (height, width) = xyxy, frame.shape
    across = np.clip(np.minimum(np.arange(width) + 1, x2) - np.maximum(np.arange(width), x1), 0, None)
    down = np.clip(np.minimum(np.arange(height) + 1, y2) - np.maximum(np.arange(height), y1), 0, None)
    return (down[:, None] * across * frame).sum() / ((x2 - x1) * (y2 - y1))


def random_boxes(count, clips, frames, height, width, seed):
    """Boxes all over clips, with sides within pixels; the label says the clip that they are of."""
    rng = np.random.default_rng(seed)
    clip, frame = np.sort(rng.integers(0, clips, count)), rng.integers(0, frames, count)
    corner = rng.uniform(0, 0.8, (count, 2)) * (width, height)
    size = np.maximum(rng.uniform(0, 1, (count, 2)) * ((width, height) - corner), 1.5)
    return dv.Boxes(clip, frame, np.concatenate([corner, corner + size], 1), clip)


MIXED = [*(dv.Mix(family) for family in FAMILIES), dv.VideoMix("ST"), dv.Mix("CubeCutMixUp", granularity="batch"),
         dv.OneOf((dv.MovingCutMix(), dv.FadeMixUp(), dv.CubeCutMixUp())), dv.CutMix(probability=0.5)]  # fmt: skip


@pytest.mark.parametrize("op", MIXED, ids=lambda op: repr(op)[:45])
def test_weights_are_what_the_boxes_show(op):
    """Of two clips, one black and one white, the means of the boxes in the mixed clips are the weights."""
    clips = np.stack([np.zeros((7, 40, 60, 3), np.uint8), np.full((7, 40, 60, 3), 255, np.uint8)])
    compared, low = 0, 0
    for seed in range(6):
        given = random_boxes(60, 2, 7, 40, 60, seed)
        batch = augment(clips, (op,), boxes=given, seed=seed)
        boxes, pixels = arrays(batch.boxes), batch.clips.numpy()[..., 0] / 255
        keys = np.stack([boxes.clip, boxes.label, boxes.frame], 1).tolist()
        for own in (0, 1):
            for other in (0, 1):
                for frame, xyxy in zip(given.frame[given.clip == own], given.xyxy[given.clip == own], strict=True):
                    white = share_in_box(pixels[other, frame], xyxy)
                    expected = white if own == 1 else 1 - white
                    same = [k for k, key in enumerate(keys) if key == [other, own, frame]]
                    found = [boxes.weight[k] for k in same if np.abs(boxes.xyxy[k] - xyxy).max() < 1e-3]
                    assert len(found) <= 1
                    assert abs((found or [0.0])[0] - expected) <= 0.6 / 255, (own, other, frame, xyxy, found, expected)
                    compared, low = compared + 1, low + (expected < 0.45)
        assert (np.diff(boxes.clip) >= 0).all() and (np.diff(boxes.frame)[np.diff(boxes.clip) == 0] >= 0).all()
        assert (boxes.weight > 0).all() and (boxes.weight <= 1).all()
    assert compared == 6 * 120 and 50 < low < 650


def test_boxes_of_partners_are_moved_as_their_pixels():
    """Each clip is cropped and turned by itself, mixed, and what is mixed is mirrored and moved as one."""
    clips, boxes = moving_squares(4, 6)
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], np.uint8)
    ops = (dv.RandomResizedCrop((96, 128), scale=(0.6, 1.0)), dv.RandomRotation(20.0), dv.MixUp(50.0),
           dv.RandomHorizontalFlip(), dv.RandomAffine(10.0, (0.1, 0.1)))  # fmt: skip
    given = boxes._replace(label=boxes.clip)
    compared = 0
    for seed in range(2):
        batch = augment(np.where(clips, colors[:, None, None, None], 0), ops, boxes=given, seed=seed)
        moved, partner = arrays(batch.boxes), batch.mix.partner.tolist()
        alone = {}
        for i in range(4):  # the same batch, with a square in one clip only
            only = np.zeros_like(clips)
            only[i] = clips[i]
            alone[i] = augment(only, ops, seed=seed).clips.numpy().max(-1)
        for i, t, xyxy, label, weight in zip(
            moved.clip, moved.frame, moved.xyxy, moved.label, moved.weight, strict=True
        ):
            assert label in (i, partner[i])
            shown = hull(alone[label][i, t] > 100 * weight)
            if (xyxy[2:] - xyxy[:2]).min() >= 15:
                assert np.abs(shown - xyxy).max() <= 1.3, (i, t, label, shown, xyxy)
                compared += 1
    assert compared > 60


def test_what_is_erased_keeps_its_boxes():
    clips, boxes = moving_squares(4, 6)
    for op in (dv.RandomErasing(1.0), dv.CubeCutout(), dv.OneOf((dv.RandomErasing(1.0), dv.Cutout()))):
        found = augment(clips, (op,), boxes=boxes).boxes
        assert np.array_equal(found.xyxy.numpy(), boxes.xyxy) and (found.weight == 1).all()


def test_a_clip_that_is_mixed_with_itself_keeps_its_boxes():
    clips, boxes = moving_squares(2, 6)
    both = augment(clips, (dv.MixUp(),), boxes=boxes)
    sizes = np.array([clip.shape[:3] for clip in clips])
    one = check_boxes("test", boxes.rows(boxes.clip == 0), sizes)
    found = move_boxes("test", one, both.plan.row(0), HEIGHT, WIDTH, dv.BoxRules()).boxes
    assert np.array_equal(found.xyxy, one.xyxy) and (found.weight == 1).all()
    edited = both.plan.row(0)
    assert (edited.args["MixUp"]["partner"] == 0).all() and edited.args["MixUp"]["inside"].any()


def test_covered_boxes_are_counted():
    boxes = random_boxes(200, 2, 4, 30, 40, 0)
    clips = np.zeros((2, 4, 30, 40, 3), np.uint8)
    plan = augment(clips, (dv.FrameCutMix(),), boxes=boxes).plan
    rows = plan.args["FrameCutMix"]
    rows["first"], rows["last"] = 1, 3
    found = move_boxes("test", check_boxes("test", boxes, np.array([[4, 30, 40]] * 2)), plan, 30, 40, dv.BoxRules())
    inside = (boxes.frame == 1) | (boxes.frame == 2)
    assert found.dropped == 0 and found.covered == 200  # in each frame those of the one clip or of the other
    assert (found.boxes.weight == 1).all()
    swapped = found.boxes.label != found.boxes.clip
    assert swapped.sum() == inside.sum() and set(found.boxes.frame[swapped]) == {1, 2}


def test_boxes_of_little_weight_can_be_dropped():
    boxes = random_boxes(300, 2, 4, 30, 40, 0)
    clips = np.zeros((2, 4, 30, 40, 3), np.uint8)
    every = augment(clips, (dv.CutMixUp(), dv.CutMix()), boxes=boxes, seed=2).boxes
    rules = dv.BoxRules(min_weight=0.3)
    some = augment(clips, (dv.CutMixUp(), dv.CutMix()), boxes=boxes, box_rules=rules, seed=2).boxes
    kept = every.rows(every.weight >= 0.3)
    assert 50 < len(kept.clip) < len(every.clip) - 50
    assert all(torch.equal(a, b) for a, b in zip(some, kept, strict=True))


def test_boxes_that_are_given_with_little_weight_can_be_dropped():
    """Whether the recipe mixes or not; what mixing leaves of a weight counts."""
    clips = np.zeros((2, 4, 30, 40, 3), np.uint8)
    boxes = dv.Boxes([0, 0, 1], [0, 1, 2], [[1, 2, 9, 8]] * 3, track=[5, 6, 7], weight=[0.2, 0.6, 0.5])
    rules = dv.BoxRules(min_weight=0.5)
    for ops in ((dv.RandomHorizontalFlip(1.0),), (dv.RandomHorizontalFlip(1.0), dv.MixUp(probability=0.0))):
        assert augment(clips, ops, boxes=boxes, box_rules=rules).boxes.track.tolist() == [6, 7]
        assert augment(clips, ops, boxes=boxes).boxes.track.tolist() == [5, 6, 7]
    plan = augment(clips, (dv.RandomHorizontalFlip(1.0),), boxes=boxes).plan
    found = move_boxes("test", check_boxes("test", boxes, np.array([[4, 30, 40]] * 2)), plan, 30, 40, rules)
    assert (len(found.boxes.clip), found.dropped, found.covered) == (2, 0, 1)
    many = random_boxes(200, 2, 4, 30, 40, 0)
    many = many._replace(weight=np.linspace(0.1, 1, 200))
    mixed = augment(clips, (dv.MixUp(),), boxes=many, seed=3).boxes
    some = augment(clips, (dv.MixUp(),), boxes=many, seed=3, box_rules=dv.BoxRules(min_weight=0.3)).boxes
    kept = mixed.rows(mixed.weight >= 0.3)
    assert 20 < len(kept.clip) < len(mixed.clip) - 20
    assert all(torch.equal(a, b) for a, b in zip(some, kept, strict=True))


# ---- bad input, edges


def one_box(**columns):
    return dv.Boxes(**{"clip": [0], "frame": [0], "xyxy": [[1.0, 2.0, 9.0, 8.0]], **columns})


@pytest.mark.parametrize("boxes, words", [
    ((0, 0, [[1, 2, 3, 4]]), r"augment: boxes must be dv.Boxes\(clip, frame, xyxy, ...\), got tuple"),
    (one_box(xyxy=[[np.nan, 2, 9, 8]]), "augment: boxes: row 0 must be finite, got .nan, 2.0, 9.0, 8.0"),
    (one_box(xyxy=[[np.inf, 2, 9, 8]]), "augment: boxes: row 0 must be finite"),
    (one_box(xyxy=[[-1, 2, 9, 8]]), "augment: boxes: row 0 leaves the 20x30 frames .height x width. of clip 0"),
    (one_box(xyxy=[[1, 2, 31, 8]]), "augment: boxes: row 0 leaves the 20x30 frames"),
    (one_box(xyxy=[[9, 2, 1, 8]]), "augment: boxes: row 0 must be x1, y1, x2, y2 with x1 <= x2 and y1 <= y2, got .9.0"),
    (one_box(xyxy=[1, 2, 9, 8]), r"augment: boxes.xyxy must be \(1, 4\) numbers, got \(4,\) int64"),
    (one_box(xyxy=[["a", 2, 9, 8]]), r"augment: boxes.xyxy must be \(1, 4\) numbers, got \(1, 4\) <U"),
    (one_box(xyxy=[[1, 2, 9], [1]]), r"augment: boxes.xyxy must be \(1, 4\) numbers: "),
    (one_box(clip=[2]), "augment: boxes: row 0 has clip 2; there are 2, counted from 0"),
    (one_box(clip=[-1]), "augment: boxes: row 0 has clip -1; there are 2"),
    (one_box(frame=[3]), "augment: boxes: row 0 has frame 3; clip 0 has 3, counted from 0"),
    (one_box(clip=[0.0]), r"augment: boxes.clip must be \(1,\) integers, got \(1,\) float64"),
    (one_box(clip=0), r"augment: boxes.clip must be \(N,\) integers, got \(\) int64"),
    (one_box(frame=[0, 1]), r"augment: boxes.frame must be \(1,\) integers, got \(2,\) int64"),
    (one_box(label=[True]), r"augment: boxes.label must be \(1,\) integers, got \(1,\) bool"),
    (one_box(label=[-2]), "augment: boxes: row 0 must have a label and a track >= -1, got -2 and -1"),
    (one_box(weight=[0.0]), r"augment: boxes: row 0 must have a weight in \(0, 1\], got 0.0"),
    (one_box(weight=[np.nan]), r"augment: boxes: row 0 must have a weight in \(0, 1\], got nan"),
    (one_box(clip=[], frame=[]), r"augment: boxes.xyxy must be \(0, 4\) numbers, got \(1, 4\)"),
    (dv.Boxes([0, 0], [1, 1], [[1, 2, 9, 8]] * 2, track=[4, 4]),
     r"augment: boxes: track 4 \(label -1\) has 2 boxes in frame 1 of clip 0; different things have different tracks"),
])  # fmt: skip
def test_bad_boxes_are_refused(boxes, words):
    with pytest.raises(ValueError, match=words):
        augment(np.zeros((2, 3, 20, 30, 3), np.uint8), (dv.RandomHorizontalFlip(),), boxes=boxes)


def test_rules_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"augment: box_rules must be dv.BoxRules\(...\), got 0.5"):
        augment(np.zeros((1, 2, 8, 8, 3), np.uint8), (), boxes=no_boxes(), box_rules=0.5)


def test_no_boxes_and_boxes_of_the_smallest_clips():
    clips = np.zeros((2, 1, 1, 1, 3), np.uint8)
    ops = (dv.RandomHorizontalFlip(), dv.RandomRotation(0.0), dv.Resize((3, 3)), dv.MixUp())
    assert augment(clips, ops).boxes is None
    for none in (no_boxes(), dv.Boxes([], [], [])):
        empty = augment(clips, ops, boxes=none).boxes
        assert [(column.dtype, column.shape) for column in empty] == [
            (torch.int64, (0,)), (torch.int64, (0,)), (torch.float32, (0, 4)), (torch.int64, (0,)), (torch.int64, (0,)),
            (torch.float32, (0,)),
        ]  # fmt: skip
    whole = augment(clips, ops, boxes=one_box(xyxy=[[0, 0, 1, 1]])).boxes
    assert whole.clip.tolist() == [0, 1] and whole.xyxy.tolist() == [[0, 0, 3, 3]] * 2 and (whole.weight < 1).all()
    assert not len(augment(clips, (), boxes=one_box(xyxy=[[1, 0, 1, 1]])).boxes.clip), "a box without an area"
    same = augment(clips, (), boxes=one_box(xyxy=[[0, 0, 1, 1]])).boxes
    assert same.xyxy.tolist() == [[0, 0, 1, 1]] and same.label.tolist() == same.track.tolist() == [-1]


def test_boxes_may_be_tensors_and_lists_in_any_order_and_do_not_change():
    clips, boxes = moving_squares(3, 1)
    order = np.random.default_rng(0).permutation(len(boxes.clip))
    shuffled = boxes.rows(order)._replace(weight=None)
    copies = [column.copy() for column in shuffled if column is not None]
    ops = (dv.RandomResizedCrop(50), dv.RandAugmentT())
    expected = augment(clips, ops, boxes=boxes).boxes
    for given in (shuffled, dv.Boxes(*(c if c is None else torch.from_numpy(np.asarray(c)) for c in shuffled)),
                  dv.Boxes(*(c if c is None else c.tolist() for c in shuffled))):  # fmt: skip
        found = augment(clips, ops, boxes=given).boxes
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(copies, shuffled[:5], strict=True))


def test_boxes_move_with_their_batch():
    clips, boxes = moving_squares(2, 1)
    batch = augment(clips, (dv.CutMix(), dv.Normalize()), boxes=boxes)
    moved = batch.to("meta")
    assert {column.device.type for column in moved.boxes} == {"meta"} and {c.device.type for c in batch.boxes} == {
        "cpu"
    }
    assert batch.to("cpu").boxes.xyxy.equal(batch.boxes.xyxy) and f"boxes: {len(batch.boxes.clip)} boxes" in repr(batch)
    assert batch.boxes.of_clip(1).clip.unique().tolist() == [1]
    assert augment(clips, ()).to("meta").boxes is None


# ---- ops of one's own


@dataclass(frozen=True)
class Own:
    """Says nothing of where pixels go."""

    def draw(self, draws, frames, height, width):
        return None

    def build(self, fn, clips, args):
        return clips


@dataclass(frozen=True)
class Still(Own):
    moves_pixels = False


@dataclass(frozen=True)
class Everyone(Still):
    """Mixes clips, and does not say how much of a box is seen."""

    def draw(self, draws, frames, height, width):
        return np.zeros(len(draws), [("partner", "i4")])

    def mixed_with(self, args):
        return args["partner"], np.full(len(args), 0.5)


@dataclass(frozen=True)
class TooMuch(Everyone):
    def partner_share(self, args, clip, frame, boxes):
        return np.full(len(clip), 1.5)


@dataclass(frozen=True)
class Flat(Own):
    """Its matrices have no inverse."""

    def matrices(self, args, frames, height, width):
        return np.tile(np.diag([1.0, 0.0, 1.0]), (len(frames), int(frames.max()), 1, 1))


@dataclass(frozen=True)
class Negative(Own):
    """Mirrors; its matrices are multiplied by -3, which says the same."""

    def build(self, fn, clips, args):
        return fn.flip(clips, horizontal=1, vertical=0)

    def matrices(self, args, frames, height, width):
        one = -3 * geometry.matrix_of(-1, 0, width, 0, 1, 0)
        return np.repeat(one[:, None], int(frames.max()), 1)


@dataclass(frozen=True)
class EverySecond(Still):
    def draw(self, draws, frames, height, width):
        args = np.zeros(len(draws), [("out_frames", "i4")])
        args["out_frames"] = (frames + 1) // 2
        return args

    def build(self, fn, clips, args):
        return clips[::2]


@pytest.mark.parametrize("op, words", [
    (Own(), r"augment: Own does not say where it moves pixels, so that boxes cannot follow: .* moves_pixels = False"),
    (dv.RandomApply(Own()), "augment: RandomApply does not say where it moves pixels"),
    (Everyone(), "augment: Everyone mixes clips and has no partner_share"),
    (TooMuch(), r"augment: TooMuch.partner_share must return \(\d+,\) numbers in \[0, 1\], got 1.5 to 1.5"),
    (Flat(), r"augment: Flat: boxes cannot follow in frame 0 of clip 0: its matrix has no inverse, \[\[1.0"),
    (EverySecond(), "augment: EverySecond changes the number of frames, 6 to 3"),
])  # fmt: skip
def test_ops_that_boxes_cannot_follow_are_refused(op, words):
    clips, boxes = moving_squares(2, 0)
    with pytest.raises(ValueError, match=words):
        augment(clips, (op,), boxes=boxes)
    if not isinstance(op, EverySecond):
        augment(clips, (op,))


def test_boxes_stay_where_a_network_says_so():
    clips, boxes = moving_squares(2, 0)
    dv.register_module("brighter", lambda clips: clips * 0.5 + 0.5)
    with pytest.raises(ValueError, match="augment: brighter does not say where it moves pixels"):
        augment(clips, (dv.TorchModule("brighter"),), boxes=boxes)
    batch = augment(clips, (dv.TorchModule("brighter", moves_pixels=False),), boxes=boxes)
    np.testing.assert_array_equal(batch.boxes.xyxy, boxes.xyxy)


def test_boxes_follow_ops_of_ones_own():
    clips, boxes = moving_squares(4, 3)
    worst, compared = farthest(augment(clips, (Still(), Negative(), dv.RandomApply(Negative(), 0.5)), boxes=boxes))
    assert worst <= 1 and compared > 15


@pytest.mark.parametrize("name", [n for n in dv.ops.__all__ if isinstance(getattr(dv.ops, n), type)])
def test_every_op_on_pixels_says_whether_it_moves_them(name):
    op = dv.TorchModule("x", moves_pixels=False) if name == "TorchModule" else getattr(dv.ops, name)()
    if not dv.ops.is_on_time(op):
        assert hasattr(op, "matrices") or op.moves_pixels is False
        assert not hasattr(op, "mixed_with") or hasattr(op, "partner_share")
