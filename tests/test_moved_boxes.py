"""Boxes of a batch: where the pixels are, after every op and chain; weights of mixed clips; bad input."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import SIGMAS, import_torchvision, noise_clips

import dali_vidaug as dv
from dali_vidaug import geometry
from dali_vidaug.boxes import at_positions, check_boxes, no_boxes
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


def test_a_square_is_recovered_after_chains_of_three():
    """Of ops one after the other: what one has moved out of the frame does not come back."""
    rng, total = np.random.default_rng(0), 0
    for seed in range(40):
        names = rng.choice([name for name in MOVING if name not in ("RandomCrop", "CenterCrop")], 3).tolist()
        clips, boxes = moving_squares(4, seed)
        if "ShortSideScale" in names:  # the crops before it leave other sizes
            names.append("Resize")
        ops = tuple(MOVING[name] for name in names)
        worst, compared = farthest(augment(clips, ops, boxes=boxes, seed=seed))
        assert worst <= 1, f"{names}, seed {seed}: {worst}"
        total += compared
    assert total > 400


@pytest.mark.parametrize("op", [dv.ThreeCrop(70), dv.FiveCrop(70), dv.TenCrop((70, 90))], ids=lambda op: type(op).__name__)
def test_a_square_is_recovered_in_each_view(op):
    clips, boxes = moving_squares(1, 4)
    views = np.arange(op.num_crops)
    same = [np.repeat(column, len(views), 0) if column is boxes.clip else np.concatenate([column] * len(views)) for column in boxes[1:5]]
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
    shown = [sorted(zip(found.xyxy[found.frame == t, 0].tolist(), found.track[found.frame == t].tolist())) for t in range(4)]
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
        keys = [key for key in keys for _ in range(1 + (key[2] < 0 and number % 2))]  # without a track there are several
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
                same = [b for q, b in there if boxes.track[q] == boxes.track[r] >= 0 and boxes.label[q] == boxes.label[r]]
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
    polygons = np.stack([np.cos(angles), np.sin(angles)], -1) * rng.uniform(5, 30, (60, 1, 1)) + rng.uniform(-9, 9, (60, 1, 2))
    grid = np.stack(np.meshgrid(np.arange(-40, 40, 0.25), np.arange(-40, 40, 0.25)), -1) + 0.125
    left, inside = polygons, np.ones((60, *grid.shape[:2]), bool)
    ahead = np.roll(polygons, -1, 1) - polygons
    for k in range(5):
        from_corner = grid - polygons[:, None, None, k]
        inside &= ahead[:, k, 0, None, None] * from_corner[..., 1] >= ahead[:, k, 1, None, None] * from_corner[..., 0]
    np.testing.assert_allclose(geometry.polygon_areas(left), inside.sum((1, 2)) / 16, rtol=0.05, atol=2)
    for _ in range(4):
        lines = np.concatenate([rng.normal(size=(60, 2)), rng.uniform(-3, 25, (60, 1))], 1)
        left = geometry.cut_polygons(left, lines)
        inside &= (grid @ lines[:, :2].T).transpose(2, 0, 1) + lines[:, 2, None, None] >= 0
        areas = geometry.polygon_areas(left)
        np.testing.assert_allclose(areas, inside.sum((1, 2)) / 16, rtol=0.05, atol=2)
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
        from dali_vidaug.moved_boxes import move_boxes
        moved = move_boxes("test", check_boxes("test", boxes, np.array([clips.shape[1:4]])), plan, HEIGHT, WIDTH, dv.BoxRules())
        batches.append(moved)
    part, none = batches
    right = np.clip(boxes.xyxy[:, 2], None, WIDTH - 60)  # of what the first translation leaves in the frame
    kept = right > boxes.xyxy[:, 0]
    assert np.array_equal(part.boxes.xyxy[:, 2], right[kept]) and np.array_equal(part.boxes.xyxy[:, 0], boxes.xyxy[kept, 0])
    assert part.dropped == FRAMES - kept.sum() and none.dropped == FRAMES and not len(none.boxes.clip)


@pytest.fixture(scope="module")
def torchvision():
    try:
        return import_torchvision()
    except ImportError:
        pytest.skip("no torchvision")


@pytest.mark.parametrize("rules", [dv.BoxRules(), dv.BoxRules(min_size=9.0), dv.BoxRules(min_size=0.0, min_area=200.0)], ids=str)
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
    top, left, bottom, right = (int(batch.plan.args["RandomResizedCrop"][name][0]) for name in ("top", "left", "bottom", "right"))
    theirs = tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(HEIGHT, WIDTH))
    theirs = v2.functional.resized_crop(theirs, top, left, bottom - top, right - left, [60, 50])
    theirs = v2.functional.clamp_bounding_boxes(v2.functional.horizontal_flip(theirs))
    sanitize = v2.SanitizeBoundingBoxes(max(rules.min_size, 1e-9), max(rules.min_area, 1e-9))
    kept = sanitize({"boxes": theirs, "labels": torch.arange(400)})
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
    (dict(min_size=True), "BoxRules: min_size must be a number >= 0, got True"),
    (dict(min_visible="1"), r"BoxRules: min_visible must be a number in \[0, 1\], got '1'"),
])  # fmt: skip
def test_rules_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        dv.BoxRules(**options)
