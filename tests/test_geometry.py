"""Matrices, points and boxes: against the kernel's own numbers, the pixels, and torchvision's boxes."""

import ctypes
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from conftest import default_op, patterned_clip, randaugment_rows, random_chains

import dali_vidaug as dv
from dali_vidaug import geometry, kernels
from dali_vidaug.ops.crop import CROP, crop_matrices
from dali_vidaug.ops.randaugment import CODES, FRAME_BYTES, op_matrices
from dali_vidaug.ops.suites import SUITES

GATHERS = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
FRAMES = 6


def stages(ops, plan, height, width):
    """After each gather of a chain of ops: the matrices (B, F, 3, 3) to the chain's input, heights, widths (B,)."""
    recipe = dv.Recipe(ops=ops)
    frames = np.full(len(plan), plan.frames.shape[1])
    height, width = np.full(len(plan), height), np.full(len(plan), width)
    product, found = np.broadcast_to(np.eye(3), (len(plan), frames[0], 3, 3)), []
    for name, op in recipe.pixel_ops:
        args = plan.args[name]
        one = op.matrices(args, frames, height, width)
        assert one.shape == product.shape and one.dtype == np.float64
        if isinstance(op, dv.RandAugmentT):  # what one of its ops moves out of the frame, the next does not see
            inner = product
            for i in range(op.num_ops):
                inner = inner @ op_matrices(args["op"][:, i], args["value"][:, i], height, width)
                found.append((inner, height, width))
        product = product @ one
        if "out_height" in args.dtype.names:
            height, width = args["out_height"].astype(int), args["out_width"].astype(int)
        found.append((product, height, width))
    return found


# ---- the kernel's numbers


def matrices_of_the_kernel(rows, frames, height, width, index):
    """(F, 6) int64: what the CPU's kernel has prepared in its scratch memory for pass ``index``."""
    clip = np.zeros((frames, height, width, 3), np.uint8)
    out, work = np.empty_like(clip), np.zeros(frames * FRAME_BYTES + clip.nbytes, np.uint8)
    table = np.zeros(1, kernels.CLIP)
    for field, array in (("src", clip), ("dst", out), ("args", rows), ("work", work)):
        table[field] = array.ctypes.data
    table["frames"], table["height"], table["width"], table["count"] = frames, height, width, 1
    address = ctypes.c_void_p(table.ctypes.data)
    for entry in ("randaugment_count", "randaugment_prepare"):
        getattr(kernels.library(), entry)(address, ctypes.c_int32(index), ctypes.c_int64(0), ctypes.c_int64(1))
    states = work[: frames * FRAME_BYTES].reshape(frames, FRAME_BYTES)
    return states[:, 16:64].copy().view(np.int64)


@pytest.mark.parametrize("name", GATHERS)
def test_pythons_matrices_are_the_kernels_to_the_last_bit(name):
    rng = np.random.default_rng(0)
    limit = {"Rotate": 180, "ShearX": 3, "ShearY": 3}.get(name, 200)
    for height, width in ((1, 1), (17, 23), (224, 224), (1080, 1920)):
        rows = randaugment_rows([[name]], 200)
        rows["value"] = rng.uniform(-limit, limit, 200)
        rows["value"][0, 0, :6] = 0, -0.0, limit, -limit, 0.1, 1e-7
        mine = op_matrices(rows["op"][:, 0], rows["value"][:, 0], height, width)
        theirs = matrices_of_the_kernel(rows, 200, height, width, 0)
        assert np.array_equal(geometry.fixed(mine[0]), theirs)
        assert len(np.unique(theirs, axis=0)) > 190


def test_chains_have_the_matrices_of_their_passes():
    """Each gather is a pass of the kernel; the op's matrices are the product of all, in the order of the ops."""
    for seed, names in enumerate(random_chains(60, 4, 0)):
        rows = randaugment_rows([names], 5, seed=seed)
        op = dv.RandAugmentT(4)
        total = op.matrices(rows, np.array([5]), np.array([30]), np.array([40]))
        expected, index = np.broadcast_to(np.eye(3), (1, 5, 3, 3)), 0
        for i, name in enumerate(names):
            if name in GATHERS:
                one = op_matrices(rows["op"][:, i], rows["value"][:, i], 30, 40)
                expected = expected @ one
                while not np.array_equal(matrices_of_the_kernel(rows, 5, 30, 40, index), geometry.fixed(one[0])):
                    index += 1
                    assert index < 8, f"no pass of {names} has the matrix of {name}"
        assert np.array_equal(total, expected)


def test_cosine_and_sine_are_the_librarys():
    angles = np.linspace(-np.pi, np.pi, 2001)
    cosine, sine = geometry.cos_sin(angles)
    assert np.abs(cosine - np.cos(angles)).max() < 4e-15 and np.abs(sine - np.sin(angles)).max() < 4e-15


# ---- the pixels: a square is where its box says


CHAINED = {
    "RandomResizedCrop": dv.RandomResizedCrop((90, 120), scale=(0.4, 1.0)),
    "RandomResizedCrop, shifted": dv.RandomResizedCrop((90, 120), scale=(0.4, 1.0), shift=True),
    "Resize": dv.Resize((100, 130)),
    "CenterCrop": dv.CenterCrop((80, 96)),
    "RandomHorizontalFlip": dv.RandomHorizontalFlip(),
    "RandomVerticalFlip": dv.RandomVerticalFlip(),
    "RandomRotation": dv.RandomRotation(40.0),
    "RandomAffine": dv.RandomAffine(20.0, (0.1, 0.1), (0.8, 1.25), 10.0),
    "RandomAffine, ramped": dv.RandomAffine(20.0, (0.1, 0.1), (0.8, 1.25), 10.0, ramp="temporal"),
    "RandomPerspective": dv.RandomPerspective(0.3, 1.0, ramp="temporal"),
    "CameraMotion": dv.CameraMotion(),
    "RandAugmentT": dv.RandAugmentT(3, ops=GATHERS, fill=(0, 0, 0), magnitude=4.0),
    "RandAugmentT, fourier": dv.RandAugmentT(2, ops=GATHERS, fill=(0, 0, 0), magnitude=4.0, ramp="fourier"),
    "TrivialAugment": dv.TrivialAugment("temporal+", ops=(*GATHERS, "Identity"), fill=(0, 0, 0)),
}


def moving_square(number, side=20):
    """A clip (FRAMES, 110, 140, 3) with a white square that moves, and its boxes (FRAMES, 4)."""
    rng = np.random.default_rng(number)
    x, y = (np.linspace(*rng.uniform(0.25, 0.6, 2) * length, FRAMES).round().astype(int) for length in (140, 110))
    clip = np.zeros((FRAMES, 110, 140, 3), np.uint8)
    for frame, left, top in zip(clip, x, y, strict=True):
        frame[top : top + side, left : left + side] = 255
    return clip, np.stack([x, y, x + side, y + side], -1).astype(float)


def hull(mask):
    """x1, y1, x2, y2 of the pixels of a mask (H, W)."""
    columns, lines = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], lines[0], columns[-1] + 1, lines[-1] + 1], float)


def check_chain(names, seed, device="cpu", num_clips=4):
    """Compare squares with their boxes in all frames where they are wholly visible; how many there were."""
    ops = tuple(CHAINED[name] for name in names)
    clips, boxes = zip(*(moving_square(10 * seed + i) for i in range(num_clips)), strict=True)
    batch = dv.augment(list(clips), ops, layout="FHWC", seed=seed, device=device)
    chain, outputs, compared = stages(ops, batch.plan, 110, 140), batch.clips.cpu().numpy(), 0
    for i, t in product(range(num_clips), range(FRAMES)):
        box = boxes[i][t]
        for matrices, height, width in chain:
            place = geometry.map_boxes(matrices[i, t], box[None])[0]
            visible = (place[:2] >= 1).all() and (place[2:] <= [width[i] - 1, height[i] - 1]).all()
            if not visible:
                break
        if not visible:
            continue
        bright = outputs[i, t].max(-1) > 127
        y, x = np.mgrid[: height[i], : width[i]] + 0.5
        from_x, from_y = np.moveaxis(geometry.map_points(matrices[i, t], np.stack([x, y], -1).reshape(-1, 2)), -1, 0)
        inside = (box[0] <= from_x) & (from_x < box[2]) & (box[1] <= from_y) & (from_y < box[3])
        inside = inside.reshape(height[i], width[i])
        what = f"{names}, clip {i}, frame {t}: {hull(bright)}, expected {hull(inside)} in {place}"
        assert np.abs(hull(bright) - hull(inside)).max() <= 1, what
        assert (bright != inside).sum() <= 2.5 * np.sqrt(inside.sum()), what  # of the four sides
        near = hull(inside) - place  # a corner that is acute has no pixel's centre at its tip
        assert (near[:2] >= -0.5).all() and (near[2:] <= 0.5).all() and np.abs(near).max() < 3, what
        compared += 1
    return compared


@pytest.mark.parametrize("name", CHAINED)
def test_a_square_is_where_its_box_is(name, device):
    assert sum(check_chain([name], seed, device) for seed in range(3)) >= 10


@pytest.mark.parametrize("seed", range(12))
def test_a_square_is_where_its_box_is_after_three_ops(seed, device):
    rng = np.random.default_rng(seed)
    names = rng.choice([name for name in CHAINED if name != "CenterCrop"], 3, replace=False).tolist()
    check_chain(names, seed, device)


def test_chains_of_three_compare_enough():
    rng = np.random.default_rng(0)
    compared = sum(
        check_chain(rng.choice([n for n in CHAINED if n != "CenterCrop"], 3, replace=False).tolist(), seed)
        for seed in range(6)
    )
    assert compared > 30


def test_a_wrong_matrix_is_noticed(monkeypatch):
    monkeypatch.setattr(type(CHAINED["RandomRotation"]), "matrices", lambda self, args, *sizes: np.linalg.inv(
        np.repeat(args["matrix"], FRAMES, 1)))  # fmt: skip
    with pytest.raises(AssertionError, match="RandomRotation"):
        check_chain(["RandomRotation"], 0)


# ---- boxes, as torchvision has them


def test_boxes_are_torchvisions(torchvision):
    _, v2, tensors = torchvision
    rng = np.random.default_rng(0)
    functional, height, width = v2.functional, 60, 90
    corner = rng.uniform(0, 40, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 30, (20, 2))], 1)
    given = tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(height, width),
                                  clamping_mode=None)  # fmt: skip
    one, size = np.ones(1, int), (np.array([height]), np.array([width]))

    def flip(op, name):
        rows = np.ones(1, [(name, "i4")])
        return op.matrices(rows, one, *size)[0, 0]

    crop = np.array([(5, 7, 45, 77, 80, 35)], CROP)
    end = [[10, 5], [80, 0], [75, 50], [3, 59]]
    start = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    cases = [
        (flip(dv.RandomHorizontalFlip(), "mirrored"), functional.horizontal_flip(given)),
        (flip(dv.RandomVerticalFlip(), "flipped"), functional.vertical_flip(given)),
        (geometry.crop(0, 0, height, width, 33, 41), functional.resize(given, [33, 41])),
        (crop_matrices(None, crop, one, *size)[0, 0], functional.resized_crop(given, 5, 7, 40, 70, [80, 35])),
        (geometry.rotation(33.0, height, width), functional.rotate(given, 33.0)),
        (
            geometry.affine(20.0, 5, -3, 1.3, 10.0, -4.0, height, width),
            functional.affine(given, 20.0, [5, -3], 1.3, [10.0, -4.0]),
        ),
        (geometry.from_quad(np.array(end, float), width - 1, height - 1), functional.perspective(given, start, end)),
    ]
    for matrix, theirs in cases:
        ours = geometry.map_boxes(matrix, boxes)
        np.testing.assert_allclose(ours, theirs.as_subclass(torch.Tensor).numpy(), atol=2e-3)


def test_clipped_boxes_are_torchvisions(torchvision):
    _, v2, tensors = torchvision
    rng = np.random.default_rng(1)
    corner = rng.uniform(-60, 90, (300, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 80, (300, 2))], 1)
    clipped, share = geometry.clip_boxes(boxes, 60, 90)
    given = tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(60, 90), clamping_mode=None)
    theirs = v2.functional.clamp_bounding_boxes(given, clamping_mode="soft").as_subclass(torch.Tensor).numpy()
    np.testing.assert_allclose(clipped, theirs)
    # Counted on a grid of 400 x 400 points of each box.
    for box, expected in zip(boxes[:40], share[:40], strict=True):
        x, y = (np.linspace(low, high, 401)[:-1] + (high - low) / 802 for low, high in (box[::2], box[1::2]))
        counted = ((x > 0) & (x < 90)).mean() * ((y > 0) & (y < 60)).mean()
        assert abs(counted - expected) < 0.01
    assert 0.1 < (share == 0).mean() < 0.6 and (share == 1).any() and ((0 < share) & (share < 1)).any()
    strange = np.array([[5, 5, 5, 9], [9, 9, 3, 3], [np.nan, 0, 4, 4], [-5, -5, 200, 200]])
    assert geometry.clip_boxes(strange, 60, 90)[1].tolist() == [0, 0, 0, 60 * 90 / 205**2]


def test_inverses_and_products():
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(50, 2, 3, 3))
    np.testing.assert_allclose(geometry.inverse(matrices), np.linalg.inv(matrices), rtol=1e-8)
    assert not np.isfinite(geometry.inverse(np.zeros((3, 3)))).any()
    points = rng.normal(size=(50, 2, 7, 2))
    back = geometry.map_points(geometry.inverse(matrices), geometry.map_points(matrices, points))
    np.testing.assert_allclose(back, points, rtol=1e-6, atol=1e-6)
    a, b = matrices[0], matrices[1]
    two = geometry.map_points(a, geometry.map_points(b, points[0]))
    np.testing.assert_allclose(geometry.map_points(a @ b, points[0]), two, rtol=1e-8)
    assert geometry.wrapped([0, 180, 190, -190, 720]).tolist() == [0, -180, -170, 170, 0]
    assert geometry.is_convex([[0, 0], [1, 0], [1, 1], [0, 1]]) and not geometry.is_convex(np.zeros((4, 2)))
    assert not geometry.is_convex([[0, 0], [0, 1], [1, 1], [1, 0]]), "the other way round"


def test_the_matrices_of_a_plan_are_those_of_its_ops(numbered_manifest):
    ops = (dv.RandomResizedCrop((32, 48)), dv.RandomHorizontalFlip(), dv.RandAugmentT(), dv.MixUp(), dv.Normalize())
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(dv.ClipSampling(4), ops), [0, 1, 2])
    matrices = dv.pixel_matrices(plan)
    assert matrices.shape == (3, 4, 3, 3)
    crop, flip, chain = (plan.args[name] for name in ("RandomResizedCrop", "RandomHorizontalFlip", "RandAugmentT"))
    four, (height, width) = np.full(3, 4), numbered_manifest.frame_sizes([0, 1, 2])
    expected = (
        crop_matrices(None, crop, four, height, width)
        @ ops[1].matrices(flip, four, np.full(3, 32), np.full(3, 48))
        @ ops[2].matrices(chain, four, np.full(3, 32), np.full(3, 48))
    )
    assert np.array_equal(matrices, expected)
    assert np.array_equal(dv.pixel_matrices(plan, height, width), matrices)
    with pytest.raises(ValueError, match="the box of clip"):
        dv.pixel_matrices(plan, height // 4, width // 4)


@dataclass(frozen=True)
class EverySecondFrame:
    def draw(self, draws, frames, height, width):
        order = np.arange(0, frames.max(), 2)
        args = np.zeros(len(draws), [("out_frames", "i4"), ("order", "i4", len(order))])
        args["out_frames"], args["order"] = len(order), order
        return args

    def build(self, fn, clips, args):
        return fn.sequence_rearrange(clips, new_order=args["order"])


def test_plans_whose_pixels_cannot_be_traced_are_refused():
    clips = [np.zeros((4, 32, 32, 3), np.uint8)] * 2
    plan = dv.augment(clips, (dv.RandomHorizontalFlip(),), layout="FHWC", device="cpu").plan
    with pytest.raises(ValueError, match="the plan has no manifest; give the height and width"):
        dv.pixel_matrices(plan)
    plan = dv.augment(clips, (EverySecondFrame(),), layout="FHWC", device="cpu").plan
    with pytest.raises(ValueError, match="EverySecondFrame changes the number of frames, 4 to 2"):
        dv.pixel_matrices(plan, 32, 32)


@pytest.mark.parametrize("name", [n for n in dv.ops.__all__ if isinstance(getattr(dv.ops, n), type)])
def test_crops_and_flips_say_where_their_pixels_come_from(name):
    op = default_op(name)
    crops, flips = getattr(op, "in_decoder", False), getattr(op, "mirrors", False)
    assert hasattr(op, "matrices") or not (crops or flips)


def test_every_op_of_randaugment_that_moves_pixels_has_a_matrix():
    """In any suite, at the highest magnitude: the corner of a frame moves, or the op is one of colour."""
    for suite in SUITES:
        for name in CODES:
            op = dv.RandAugmentT(1, ops=(name,), suite=suite, magnitude=float(SUITES[suite].highest), ramp="constant")
            draws = dv.Draws(0, 0, np.arange(4))
            clip = patterned_clip((1, 32, 48))
            args = op.draw(draws, *(np.full(4, n) for n in (1, 32, 48)))
            moved = (op.matrices(args, np.ones(4), np.full(4, 32), np.full(4, 48)) != np.eye(3)).any()
            assert moved == (name in GATHERS) and clip.shape == (1, 32, 48, 3)


def test_an_op_that_changes_the_size_without_matrices_is_refused():
    """Points and boxes would stay where they are, though the pixels do not."""

    class Own(dv.Resize):
        matrices = property()

    batch = dv.augment([np.zeros((2, 20, 30, 3), np.uint8)], (Own((10, 15)),), device="cpu", layout="FHWC")
    with pytest.raises(ValueError, match="pixel_matrices: Own changes the size of clips, and has no matr"):
        dv.pixel_matrices(batch.plan, 20, 30)
