"""What the erasing ops draw and do."""

import numpy as np
import pytest
import reference
from conftest import SIGMAS, assert_pixels, draw_rows, fits_distribution, noise_clips, same_distribution

import dali_vidaug as dv
from dali_vidaug.ops import CubeCutout, Cutout, FrameCutout, RandomErasing
from dali_vidaug.ops.blend import blend, is_neutral, own_share
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws

MANY = 100_000
SIZE = (16, 45, 60)  # frames, height, width
OPS = (
    RandomErasing(probability=1.0), RandomErasing(1.0, fill="channel"), RandomErasing(1.0, fill="constant"),
    Cutout(), FrameCutout(), CubeCutout(),
)  # fmt: skip


def draw(op, samples=MANY, size=SIZE):
    """Rows for clips of one size; see ``conftest.draw_rows``."""
    return draw_rows(op, samples, size)


@pytest.mark.parametrize("low, high", [(0.3, 1 / 0.3), (1.5, 3.0)])
def test_random_erasing_matches_timm(low, high):
    """The distribution of timm's and SlowFast's loop: try up to ten times, else leave the clip alone."""
    rng = np.random.default_rng(1)
    _, height, width = SIZE
    area = rng.uniform(0.02, 1 / 3, (MANY, 10)) * height * width
    ratio = np.exp(rng.uniform(np.log(low), np.log(high), (MANY, 10)))
    h, w = (np.round(np.sqrt(x)).astype(int) for x in (area * ratio, area / ratio))
    tried = np.arange(MANY), ((h < height) & (w < width)).argmax(1)
    h, w = h[tried], w[tried]
    top, left = (np.floor(rng.random(MANY) * (n + 1)).astype(int) for n in (height - h, width - w))
    rows = draw(RandomErasing(probability=1.0, ratio=(low, high)))
    for name, expected in (("top", top), ("bottom", top + h), ("left", left), ("right", left + w)):
        assert (rows[name][:, 0] == rows[name][:, 1]).all() and same_distribution(rows[name][:, 0], expected)
    assert same_distribution(rows["bottom"][:, 0] - rows["top"][:, 0], h)
    assert (rows["first"] == 0).all() and (rows["last"] == SIZE[0]).all()  # the same box in every frame
    assert rows["bottom"].max() <= height and rows["right"].max() <= width and rows["top"].min() >= 0


def test_fills_of_random_erasing():
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.08, 0.05)
    rows = {fill: draw(RandomErasing(1.0, fill=fill, mean=mean, std=std)) for fill in ("pixel", "channel", "constant")}
    for fill in ("pixel", "constant"):
        np.testing.assert_allclose(rows[fill]["color"], np.broadcast_to(255 * np.array(mean), (MANY, 3)), rtol=1e-6)
    np.testing.assert_allclose(rows["pixel"]["spread"], np.broadcast_to(255 * np.array(std), (MANY, 3)), rtol=1e-6)
    assert not rows["constant"]["spread"].any() and not rows["channel"]["spread"].any()
    color = rows["channel"]["color"] / 255
    assert np.abs(color.mean(0) - mean).max() < 0.002 and np.abs(color.std(0) - std).max() < 0.002
    assert np.abs(np.corrcoef(color.T)[np.triu_indices(3, 1)]).max() < SIGMAS / MANY**0.5
    keys = rows["pixel"]["key"].astype(np.uint64)
    assert len(np.unique(keys[:, 0] << np.uint64(32) | keys[:, 1])) == MANY
    assert fits_distribution(keys[:, 0] / 2**32, lambda x: x)


@pytest.mark.parametrize("op", [RandomErasing(), Cutout(probability=0.25), CubeCutout(probability=0.25)], ids=str)
def test_probability(op):
    assert abs(1 - is_neutral(draw(op)).mean() - 0.25) < SIGMAS * (0.25 * 0.75 / MANY) ** 0.5


@pytest.mark.parametrize("side, span", [(0.5, 1.0), (1.0, 0.5), (0.5, 0.5), (0.3, 0.2)])
def test_cutouts_are_uniform_over_the_boxes_inside_the_clip(side, span):
    rows = draw(Cutout(side, span))
    for length, share, low, high in zip(
        SIZE, (span, side, side), ("first", "top", "left"), ("last", "bottom", "right"), strict=True
    ):
        begin, end = (rows[name].reshape(MANY, -1)[:, -1] for name in (low, high))
        assert (end - begin == int(length * share)).all() and begin.min() == 0 and end.max() == length
        starts = length - int(length * share) + 1
        assert fits_distribution(begin, lambda x, n=starts: x / n, 0, starts, bins=starts)


@pytest.mark.parametrize("op", OPS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 17, 23), (6, 17, 23)], ids=str)
def test_only_the_box_is_erased(op, shape):
    clips = noise_clips(*[shape] * 8)
    rows = draw(op, 8, shape)
    outputs = blend(clips, rows)
    for out, expected in zip(outputs, reference.blend(clips, rows), strict=True):
        assert_pixels(out, expected, max_diff=1, max_fraction=1e-3 if rows["spread"].any() else 0)
    for out, clip, row in zip(outputs, clips, rows, strict=True):
        box = np.zeros(shape, bool)
        if row["inside"].any():
            box[
                row["first"] : row["last"], row["top"][0] : row["bottom"][0], row["left"][0] : row["right"][0]
            ] = True  # fmt: skip
        assert (out[~box] == clip[~box]).all()
        if not row["spread"].any() and box.any():
            assert (out[box] == np.floor(row["color"] + 0.5)).all()
    assert (own_share(rows) == 1).all()


def test_clips_of_several_sizes():
    """Erasing needs no equal sizes."""
    frames, height, width = np.array([3, 8]), np.array([20, 40]), np.array([50, 30])
    for op in OPS:
        both = op.draw(Draws(0, 0, [4, 9]), frames, height, width)
        alone = op.draw(Draws(0, 0, [9]), 8, 40, 30)
        assert both[1] == alone[0] and (both["bottom"].max(1) <= height).all()


def test_names_and_labels():
    recipe = Recipe(ops=(*OPS[2:], RandomErasing(area=(0.1, 0.2))))
    assert recipe.names == ["RandomErasing", "Cutout", "FrameCutout", "CubeCutout", "RandomErasing_2"]
    assert Recipe.parse(repr(recipe)) == recipe
    clips = np.full((3, 4, 12, 14, 3), 200, np.uint8)
    batch = dv.augment(clips, (CubeCutout(), RandomErasing(1.0)), np.eye(3))
    assert batch.mix is None and (batch.targets.numpy() == np.eye(3)).all()
    text = batch.plan.describe(1)
    assert "CubeCutout\n    colour 114.8, 114.8, 114.8\n    weight 1 in frames [" in text
    assert "RandomErasing\n    colour 114.8, 114.8, 114.8, noise +- 57.38, 57.38, 57.38\n    weight 1 in rows [" in text
    (expected,) = reference.blend(
        reference.blend(list(clips[1:2]), batch.plan.args["CubeCutout"][1:2]), batch.plan.args["RandomErasing"][1:2]
    )
    assert_pixels(batch.clips[1].numpy(), expected, max_diff=1, max_fraction=0.001)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RandomErasing(1.5), r"RandomErasing: probability must be in \[0, 1\], got 1.5"),
        (lambda: RandomErasing(area=(0, 0.3)), "RandomErasing: area must be 0 < low <= high <= 1"),
        (lambda: RandomErasing(ratio=(2, 1)), "RandomErasing: ratio must be"),
        (lambda: RandomErasing(fill="noise"), "RandomErasing: fill must be one of 'pixel', .* got 'noise'"),
        (lambda: RandomErasing(std=(0.1, 0.1)), "RandomErasing: std must be three"),
        (lambda: Cutout(side=0), r"Cutout: side must be in \(0, 1\], got 0"),
        (lambda: FrameCutout(span=0), r"FrameCutout: span must be in \(0, 1\], got 0"),
        (lambda: CubeCutout(color=(0, 0, 1.1)), "CubeCutout: color must be three"),
        (lambda: Cutout(probability=float("nan")), "Cutout: probability"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
