"""RandomCrop, ShortSideScale, MultiScaleCrop; and ThreeCrop, FiveCrop, TenCrop, which crop by the view."""

import math
import re

import numpy as np
import pytest
import torch
from conftest import assert_pixels, same_distribution
from PIL import Image

import dali_vidaug as dv
from dali_vidaug.ops import CROP
from dali_vidaug.rng import Draws

VIEWS = {"ThreeCrop": 3, "FiveCrop": 5, "TenCrop": 10}


def draw(op, height, width, n=1, views=0):
    sizes = (np.full(n, size) for size in (4, height, width))
    return op.draw(Draws(5, 0, np.arange(n), views), *sizes)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def is_uniform(values, possible):
    """Whether all values in [0, possible) are as frequent, by a chi-square test."""
    counts = np.bincount(values, minlength=possible)
    mean = len(values) / possible
    return len(counts) == possible and ((counts - mean) ** 2 / mean).sum() < possible + 5 * (2 * possible) ** 0.5


# Random crops and scalings


def test_every_place_of_a_random_crop_is_as_likely():
    rows = draw(dv.RandomCrop((90, 101)), 96, 110, 20_000)
    assert is_uniform(rows["top"] * 10 + rows["left"], 7 * 10)  # the last row and column of places too
    assert (rows["bottom"] - rows["top"] == 90).all() and (rows["right"] - rows["left"] == 101).all()
    assert set(rows["out_height"].tolist()) == {90} and set(rows["out_width"].tolist()) == {101}
    assert draw(dv.RandomCrop((96, 110)), 96, 110)[0].tolist() == (0, 0, 96, 110, 96, 110)


def test_random_crop_leaves_the_pixels_as_they_are():
    clips = noise(6, 3, 50, 60, 3)
    batch = dv.augment(clips, (dv.RandomCrop((20, 31)),), layout="FHWC", device="cpu")
    for clip, row, got in zip(clips, batch.plan.args["RandomCrop"], batch.clips, strict=True):
        np.testing.assert_array_equal(got, clip[:, row["top"] : row["bottom"], row["left"] : row["right"]])


def test_both_sides_are_jittered_by_themselves():
    rows = draw(dv.ScaleJitter((0.9, 1.33)), 9000, 12_000, 20_000)
    assert (rows["bottom"] == 9000).all() and (rows["right"] == 12_000).all() and not rows["top"].any()
    for name, side in (("out_height", 9000), ("out_width", 12_000)):
        share = rows[name] / side
        assert 0.9 - 1 / side < share.min() < 0.9005 and 1.3295 < share.max() < 1.33
        assert is_uniform(((share + 0.5 / side - 0.9) / 0.43 * 20).astype(int), 20)
    assert abs(np.corrcoef(rows["out_height"], rows["out_width"])[0, 1]) < 0.03
    assert draw(dv.ScaleJitter((0.5, 0.5)), 101, 33)[0].tolist() == (0, 0, 101, 33, 50, 16)  # rounded down


def test_a_resized_crop_without_antialiasing_is_torchs():
    """What SlowFast and VideoMAE do: the box, cut out, through interpolate; edges too."""
    rng = np.random.default_rng(1)
    clips = rng.integers(0, 256, (4, 2, 90, 120, 3), np.uint8)
    ops = (dv.RandomResizedCrop(48, antialias=False),)
    batch = dv.augment(clips, ops, seed=2, layout="FHWC", device="cpu")
    sharp = dv.augment(clips, (dv.RandomResizedCrop(48),), seed=2, layout="FHWC", device="cpu")
    boxes = batch.plan.args["RandomResizedCrop"]
    assert (boxes == sharp.plan.args["RandomResizedCrop"]).all()
    for clip, row, got, averaged in zip(clips, boxes, batch.clips.numpy(), sharp.clips.numpy(), strict=True):
        part = clip[:, row["top"] : row["bottom"], row["left"] : row["right"]]
        source = torch.from_numpy(part.copy()).permute(0, 3, 1, 2).float()
        wanted = torch.nn.functional.interpolate(source, (48, 48), mode="bilinear").permute(0, 2, 3, 1).numpy()
        assert np.abs(got - wanted).max() <= 1
        assert np.abs(averaged - wanted).max() > 10 or row["bottom"] - row["top"] < 60


def test_a_crop_that_is_not_antialiased_is_not_done_in_the_decoder():
    assert dv.RandomResizedCrop().in_decoder and not dv.RandomResizedCrop(antialias=False).in_decoder
    with pytest.raises(ValueError, match="RandomResizedCrop: antialias must be one of True, False, got 'no'"):
        dv.RandomResizedCrop(antialias="no")


def test_an_odd_margin_of_three_crops():
    for rounding, middle in (("up", 38), ("down", 37)):
        op = dv.ThreeCrop(224, rounding)
        assert draw(op, 224, 299, 3, [0, 1, 2])["left"].tolist() == [0, middle, 75]
        assert draw(op, 299, 224, 3, [0, 1, 2])["top"].tolist() == [0, middle, 75]
    with pytest.raises(ValueError, match="ThreeCrop: rounding must be one of 'up', 'down', got 'even'"):
        dv.ThreeCrop(224, "even")


def test_a_square_of_a_random_side_is_scaled():
    """Kim et al.'s crop: a side of 160 to 200, clamped to the frame, then a place that fits; each as likely."""
    rows = draw(dv.RandomCrop(160, side=(160, 165)), 164, 170, 60_000)
    height, width = (rows[last].astype(int) - rows[first] for first, last in (("top", "bottom"), ("left", "right")))
    assert (height == width).all() and (rows["out_height"] == 160).all() and (rows["out_width"] == 160).all()
    counts = np.bincount(height - 160, minlength=6) / len(rows)  # 165 does not fit: it becomes 164
    np.testing.assert_allclose(counts, [1 / 6, 1 / 6, 1 / 6, 1 / 6, 2 / 6, 0], atol=0.01)
    for side in range(160, 165):
        some = rows[height == side]
        places = some["top"] * (170 - side + 1) + some["left"]
        assert is_uniform(places, (164 - side + 1) * (170 - side + 1))
    low, high = np.unique(draw(dv.RandomCrop(8, side=(50, 50)), 40, 30)["bottom"]), 30
    assert low.max() <= 40 and (draw(dv.RandomCrop(8, side=(50, 50)), 40, 30)["right"] == high).all()


def test_a_square_in_the_middle_is_scaled():
    """Of the side, or of the short side where that is less; the smaller part of an odd margin is before it."""
    for height, width, side, box in (
        (240, 320, 160, (40, 80, 200, 240)), (241, 321, 160, (40, 80, 200, 240)), (120, 161, 160, (0, 20, 120, 140)),
        (161, 120, 160, (20, 0, 140, 120)), (30, 30, 30, (0, 0, 30, 30)),
    ):  # fmt: skip
        row = draw(dv.CenterCrop(80, side=side), height, width)[0]
        assert tuple(row[name].item() for name in ("top", "left", "bottom", "right")) == box
        assert (row["out_height"], row["out_width"]) == (80, 80)
    assert repr(dv.CenterCrop(80)) == "CenterCrop(size=80)" and "side=9" in repr(dv.CenterCrop(80, side=9))


@pytest.mark.parametrize("op", [dv.RandomCrop(24, side=(30, 44)), dv.CenterCrop(24, side=37)])
def test_a_square_of_some_side_in_pixels_and_in_the_decoder(op, numbered_manifest):
    """Pillow's bilinear resize of the box, within a level; and the same crop done while decoding."""
    clips = noise(5, 2, 50, 60, 3)
    batch = dv.augment(clips, (op,), layout="FHWC", device="cpu")
    sides = set()
    for clip, row, got in zip(clips, batch.plan.args[type(op).__name__], batch.clips, strict=True):
        box = row["left"], row["top"], row["right"], row["bottom"]
        sides.add(int(row["bottom"] - row["top"]))
        for frame, made in zip(clip, got, strict=True):
            expected = Image.fromarray(frame).resize((24, 24), Image.Resampling.BILINEAR, box=tuple(map(float, box)))
            inner = np.s_[2:-2, 2:-2]  # at the border of the box, Pillow and DALI differ in what they read around it
            assert_pixels(made.numpy()[inner], np.asarray(expected)[inner], max_diff=1)
    assert sides == {37} if isinstance(op, dv.CenterCrop) else len(sides) > 1 and sides <= set(range(30, 45))
    recipe, options = dv.Recipe(dv.ClipSampling(2), (op,)), dict(seed=1, device="cpu", num_threads=1)
    with (
        dv.VideoLoader(numbered_manifest, recipe, 4, **options) as one,
        dv.VideoLoader(numbered_manifest, recipe, 4, resize_in_decoder=False, **options) as other,
    ):
        first, second = next(iter(one)).clips.float(), next(iter(other)).clips.float()
    assert (first - second).abs().mean() < 2 and first.shape == (4, 3, 2, 24, 24)


def test_short_sides_and_long_sides(v2):
    for height, width in ((240, 427), (360, 201), (33, 41), (100, 100)):
        rows = draw(dv.ShortSideScale(30, 47), height, width, 4000)
        short, long = (f(rows["out_height"], rows["out_width"]) for f in (np.minimum, np.maximum))
        assert is_uniform(short - 30, 18)
        for side in range(30, 48):
            theirs = v2.Resize(side, antialias=True)(torch.zeros(3, height, width)).shape[1:]
            floor = math.floor(max(height, width) / min(height, width) * side)  # as it stands in SlowFast
            assert set(long[short == side].tolist()) == {max(theirs)} and max(theirs) - floor in (0, 1)
        assert (rows["bottom"] == height).all() and (rows["right"] == width).all() and not rows["left"].any()


def test_inverse_short_sides_are_distributed_as_slowfasts():
    rows = draw(dv.ShortSideScale(256, 320, "inverse"), 480, 640, 30_000)
    generator = np.random.default_rng(1)
    theirs = np.array([round(1.0 / generator.uniform(1.0 / 320, 1.0 / 256)) for _ in range(30_000)])
    assert same_distribution(rows["out_height"].astype(int), theirs)
    uniform = draw(dv.ShortSideScale(256, 320), 480, 640, 30_000)["out_height"].astype(int)
    assert not same_distribution(uniform, theirs)


def multi_scale_boxes(size, scales, distortion, offsets, height, width):
    """Every (top, left, height, width) with its number of ways, from the definition."""
    base, found = min(height, width), {}
    lengths = [int(base * scale) for scale in scales]
    tall = [size if abs(x - size) < 3 and size <= height else x for x in lengths]
    broad = [size if abs(x - size) < 3 and size <= width else x for x in lengths]
    for i, h in enumerate(tall):
        for j, w in enumerate(broad):
            if abs(i - j) > distortion:
                continue
            y, x = (height - h) // 4, (width - w) // 4
            places = [(0, 0), (0, 4 * x), (4 * y, 0), (4 * y, 4 * x), (2 * y, 2 * x)]
            if offsets == 13:
                places += [(2 * y, 0), (2 * y, 4 * x), (4 * y, 2 * x), (0, 2 * x)]
                places += [(y, x), (y, 3 * x), (3 * y, x), (3 * y, 3 * x)]
            for top, left in places:
                found[top, left, h, w] = found.get((top, left, h, w), 0) + 1
    return found


@pytest.mark.parametrize(
    "size, scales, distortion, offsets, height, width",
    [
        (224, (1, 0.875, 0.75, 0.66), 1, 13, 256, 340),
        (224, (1, 0.875, 0.75, 0.66), 1, 5, 340, 256),  # 0.875 * 256 is 224; in the other, 0.66 * 340 is too
        (112, (1.0, 0.8), 0, 13, 113, 111),  # 113 becomes 112, 111 does not: the frame is not large enough
        (64, (0.5,), 3, 5, 1, 9),
    ],
)
def test_boxes_of_multi_scale_crop(size, scales, distortion, offsets, height, width):
    ways = multi_scale_boxes(size, scales, distortion, offsets, height, width)
    op = dv.MultiScaleCrop(size, scales, distortion, offsets)
    rows = draw(op, height, width, 40_000)
    boxes = np.stack([rows["top"], rows["left"], rows["bottom"] - rows["top"], rows["right"] - rows["left"]], 1)
    drawn, counts = np.unique(boxes, axis=0, return_counts=True)
    if min(height, width) == 1:
        ways = {(*at, max(h, 1), max(w, 1)): n for (*at, h, w), n in ways.items()}
    assert set(map(tuple, drawn.tolist())) <= set(ways)
    expected = np.array([ways[tuple(box)] for box in drawn.tolist()]) * len(rows) / sum(ways.values())
    assert ((counts - expected) ** 2 / expected).sum() < len(ways) + 5 * (2 * len(ways)) ** 0.5
    assert len(drawn) == len(ways)
    assert (rows["out_height"] == size).all() and (rows["out_width"] == size).all()


def test_multi_scale_crop_anywhere():
    rows = draw(dv.MultiScaleCrop(112, (0.5,), 0, None), 100, 130, 20_000)
    assert is_uniform(rows["top"].astype(int), 51) and is_uniform(rows["left"].astype(int), 81)


# Crops by the view


def slowfast_crop(height, width, size, index):
    """Top and left of SlowFast's crop ``index``, from its definition: ceil of half the margin in the middle."""
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if height > width:
        top = {0: 0, 1: top, 2: height - size}[index]
    else:
        left = {0: 0, 1: left, 2: width - size}[index]
    return top, left


@pytest.mark.parametrize("height, width", [(64, 97), (97, 64), (65, 80), (64, 64), (71, 70)])
def test_three_crops_are_slowfasts(height, width):
    rows = draw(dv.ThreeCrop(64), height, width, 6, np.arange(6))
    expected = [slowfast_crop(height, width, 64, view % 3) for view in range(6)]
    assert list(zip(rows["top"].tolist(), rows["left"].tolist(), strict=True)) == expected
    assert (rows["bottom"] - rows["top"] == 64).all() and (rows["right"] - rows["left"] == 64).all()


@pytest.mark.parametrize("height, width", [(40, 61), (43, 50), (32, 32), (33, 35)])
def test_five_and_ten_crops_are_torchvisions(height, width, v2):
    clip = noise(2, height, width, 3)
    for name in ("FiveCrop", "TenCrop"):
        op, count = getattr(dv, name)((32, 31)), VIEWS[name]
        theirs = getattr(v2, name)((32, 31))(torch.from_numpy(clip).permute(0, 3, 1, 2))
        batch = dv.augment([clip] * count, (op,), samples=[7] * count, views=range(count), device="cpu", layout="FHWC")
        assert len(theirs) == count
        for got, expected in zip(batch.clips, theirs, strict=True):
            np.testing.assert_array_equal(got.permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize("name", VIEWS)
def test_a_loader_gives_each_view_its_crop(name, numbered_manifest):
    """The same pixels in the decoder, in the graph, and cut out by hand.

    Where the decoder crops, colours at the edge of the box are not blended with those beyond it.
    """
    count = VIEWS[name]
    sampling = dv.MultiClip(dv.ClipSampling(4, stride=2), num_clips=2 * count, num_crops=count)
    crop = (getattr(dv, name)((60, 72)),)
    batches = []
    for ops, in_decoder in ((crop, True), (crop, False), ((), True)):
        options = dict(shuffle=False, num_threads=2, resize_in_decoder=in_decoder, device="cpu", decoder="pyav")
        with dv.VideoLoader(numbered_manifest, dv.Recipe(sampling, ops), 1, **options) as loader:
            batches.append(next(iter(loader)))
    ours, graph, full = batches
    assert torch.equal(ours.clips[..., 2:-2, 2:-2], graph.clips[..., 2:-2, 2:-2]) and len(ours) == 2 * count
    assert ours.views.tolist() == list(range(2 * count))
    rows = ours.plan.args[name]
    assert len(np.unique(rows[:count])) == count and (rows[:count] == rows[count:]).all()
    assert (ours.plan.frames[:count] == ours.plan.frames[0]).all()
    assert (ours.plan.frames[count] != ours.plan.frames[0]).any()
    for got, clip, row in zip(graph.clips, full.clips, rows, strict=True):
        expected = clip[..., row["top"] : row["bottom"], row["left"] : row["right"]]
        assert torch.equal(got, expected.flip(-1) if "mirrored" in rows.dtype.names and row["mirrored"] else expected)


@pytest.mark.parametrize("name", VIEWS)
def test_crops_by_the_view_need_such_views(name):
    op, count = getattr(dv, name)(32), VIEWS[name]
    hint = re.escape(f"{name} makes {count} crops of the same frames") + f".*num_clips={count}, num_crops={count}.*got "
    for sampling in (dv.ClipSampling(), dv.MultiClip(num_clips=2 * count), dv.MultiClip(num_clips=14, num_crops=7)):
        with pytest.raises(ValueError, match=hint + re.escape(repr(sampling))):
            dv.Recipe(sampling, (op,))
    with pytest.raises(ValueError, match="ThreeCrop and .* both choose their crop by the view"):
        dv.Recipe(dv.MultiClip(num_clips=3, num_crops=3), (dv.ThreeCrop(), dv.ThreeCrop(8) if count == 3 else op))


def test_random_sizes_are_refused_when_a_loader_is_made(numbered_manifest):
    """Though all videos are of one size, and each clip by itself would do."""
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.ShortSideScale(30, 60), dv.Normalize()))
    with pytest.raises(ValueError, match="the recipe leaves clips of different sizes .* add Random"):
        dv.VideoLoader(numbered_manifest, recipe, 1, device="cpu")
    dv.VideoLoader(numbered_manifest, dv.Recipe(recipe.sampling, (recipe.ops[0], dv.RandomCrop(30))), 1, device="cpu")


# Bad options


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dv.RandomCrop(0), "RandomCrop: size must be an int or .* got 0"),
        (lambda: dv.CenterCrop(8, side=0), "CenterCrop: side must be None or an int in .1, 16384., got 0"),
        (lambda: dv.CenterCrop(8, side=(8, 9)), r"CenterCrop: side must be None or an int in .1, 16384., got \(8, 9\)"),
        (lambda: dv.RandomCrop(8, side=9), "RandomCrop: side must be None or ints 1 <= low <= high <= 16384, got 9"),
        (lambda: dv.RandomCrop(8, side=(9, 8)), r"RandomCrop: side must be None .* got \(9, 8\)"),
        (lambda: dv.RandomCrop(8, side=(0, 8)), r"RandomCrop: side must be None .* got \(0, 8\)"),
        (lambda: dv.ThreeCrop("a"), "ThreeCrop: size must be"),
        (lambda: dv.FiveCrop((3, 4, 5)), "FiveCrop: size must be"),
        (lambda: dv.TenCrop(-1), "TenCrop: size must be"),
        (lambda: dv.ShortSideScale(320, 256), "ShortSideScale: low must be <= high=256, got 320"),
        (lambda: dv.ShortSideScale(2.5), r"ShortSideScale: low must be an int in \[1, 16384\], got 2.5"),
        (lambda: dv.ShortSideScale(high=True), "ShortSideScale: high must be an int"),
        (lambda: dv.ShortSideScale(distribution="log"), "ShortSideScale: distribution must be one of 'uniform', "),
        (lambda: dv.MultiScaleCrop(scales=()), r"MultiScaleCrop: scales must be numbers in \(0, 1\], got \(\)"),
        (lambda: dv.MultiScaleCrop(scales=(1, 0.0)), "MultiScaleCrop: scales must be"),
        (lambda: dv.MultiScaleCrop(scales=(1.5,)), "MultiScaleCrop: scales must be"),
        (lambda: dv.MultiScaleCrop(max_distortion=-1), "MultiScaleCrop: max_distortion must be an int >= 0, got -1"),
        (lambda: dv.MultiScaleCrop(offsets=4), "MultiScaleCrop: offsets must be one of 5, 13, None, got 4"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["RandomCrop", *VIEWS])
def test_frames_that_are_too_small(name):
    with pytest.raises(
        ValueError, match=f"{name}: size 40x30 is larger than the 39x100 frames .* of sample 0; put Res"
    ):
        draw(getattr(dv, name)((40, 30)), 39, 100)


@pytest.mark.parametrize("name", ["RandomCrop", "ShortSideScale", "MultiScaleCrop", *VIEWS])
def test_edited_boxes_outside_the_frame_are_refused(name, tmp_path):
    clip, op = noise(2, 40, 50, 3), getattr(dv, name)(32)
    batch = dv.augment([clip], (op,), device="cpu", layout="FHWC")
    recipe = batch.plan.recipe
    assert dv.Recipe.parse(repr(recipe)) == recipe
    batch.plan.save(tmp_path / "plan.json")
    plan = dv.Plan.load(tmp_path / "plan.json")
    plan.check(40, 50)
    assert plan.args[name][0]["right"] <= 50 and set(CROP.names) <= set(plan.args[name].dtype.names)
    plan.args[name]["right"] = 51
    with pytest.raises(ValueError, match=rf"{name}: the box of clip 0, rows .* and columns \[\d+, 51\), is not in "):
        plan.check(40, 50)
