"""ExposureRamp, Flicker and GaussianNoise: what is drawn, and what it makes of pixels."""

import numpy as np
import pytest
import reference
from conftest import SIGMAS, assert_pixels, draw_rows, fits_distribution, noise_clips

import dali_vidaug as dv
from dali_vidaug.ops.color import CODES
from dali_vidaug.ops.ramp import RAMPS

OPS = [dv.ExposureRamp(0.6), dv.ExposureRamp((0.2, 0.9), "smooth"), dv.Flicker(0.3), dv.GaussianNoise(0.1)]


def brightness(op, count, size=(9, 8, 8)):
    rows = draw_rows(op, count, size)
    assert (rows["op"][:, 0] == CODES.index("brightness")).all() and not rows["op"][:, 1:].any()
    return rows["value"][:, 0]


def test_an_exposure_ramp_goes_from_one_factor_to_another():
    values = brightness(dv.ExposureRamp(0.4), 5000)
    for end in (values[:, 0], values[:, -1]):
        assert fits_distribution(end, lambda x: (x - 0.6) / 0.8, 0.6, 1.4)
    assert abs(np.corrcoef(values[:, 0], values[:, -1])[0, 1]) < SIGMAS / 5000**0.5
    assert np.allclose(np.diff(values, 2, axis=1), 0, atol=1e-6)  # evenly
    smooth = brightness(dv.ExposureRamp(0.4, "smooth"), 50)
    assert (smooth[:, [0, -1]] == values[:50, [0, -1]]).all()
    share = (smooth - smooth[:, :1]) / (smooth[:, -1:] - smooth[:, :1])
    x = np.arange(9) / 8
    assert np.allclose(share, x * x * (3 - 2 * x), atol=2e-4)


def test_a_clip_ramps_to_its_own_last_frame():
    counts = np.array([4, 9])
    rows = draw_rows(dv.ExposureRamp(0.4), 2, (counts, np.array([8, 8]), np.array([8, 8])))
    values = rows["value"][:, 0]
    assert (values[0, 3:] == values[0, 3]).all() and values[0, 2] != values[0, 3]
    alone = draw_rows(dv.ExposureRamp(0.4), 1, (counts[:1], np.array([8]), np.array([8])))
    assert (alone["value"][0, 0] == values[0, :4]).all()


def test_each_frame_flickers_by_itself():
    values = brightness(dv.Flicker(0.2), 2000)
    assert fits_distribution(values.ravel(), lambda x: (x - 0.8) / 0.4, 0.8, 1.2)
    neighbours = np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < SIGMAS / values[:, 1:].size ** 0.5
    spread = np.abs(brightness(dv.Flicker((0.0, 0.2)), 2000, (64, 8, 8)) - 1).max(1)  # its strength, nearly
    assert abs(spread.mean() - 0.1 * 64 / 65) < 0.01 and spread.max() <= 0.2


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("kind", [dv.Flicker, dv.GaussianNoise])
def test_strengths_ramp_within_their_range(kind, ramp):
    rows = draw_rows(kind((0.02, 0.1), ramp=ramp), 3000, (8, 9, 9))
    values = rows["value"][:, 0]
    if kind is dv.Flicker:
        assert np.abs(values - 1).max() <= 0.1 + 1e-6
        late = np.abs(values - 1)[:, -1].mean() / np.abs(values - 1)[:, 0].mean()
        assert (late > 1.2) == (ramp == "temporal")  # the only one that always rises
    else:
        assert values.min() >= 0 and values.max() <= 25.5 + 1e-4
        assert (values == values[:, :1]).all() == (ramp == "constant")


@pytest.mark.parametrize("op", OPS, ids=str)
def test_pixels_are_those_of_the_reference(op, device):
    clips = noise_clips(*[(5, 20, 31)] * 6)
    batch = dv.augment(clips, (op,), layout="FHWC", device=device)
    (rows,) = batch.plan.args.values()
    for out, clip, row in zip(batch.clips.cpu(), clips, rows, strict=True):
        assert_pixels(out.numpy(), reference.color(clip, row), max_diff=1, max_fraction=0.002)
        assert not np.array_equal(out.numpy(), clip)


def test_noise_has_the_deviation_that_was_asked_for_and_no_pattern():
    clips = np.full((4, 6, 64, 64, 3), 128, np.uint8)
    batch = dv.augment(list(clips), (dv.GaussianNoise(0.1),), layout="FHWC", device="cpu")
    noise = batch.clips.numpy().astype(float) - 128
    assert abs(noise.mean()) < SIGMAS * 25.5 / noise.size**0.5
    assert abs(noise.std() - (25.5**2 + 1 / 12) ** 0.5) < 0.1  # rounding adds 1/12
    for a, b in (
        (noise[0], noise[1]), (noise[:, 0], noise[:, 1]), (noise[..., 0], noise[..., 1]),
        (noise[:, :, 1:], noise[:, :, :-1]), (noise[..., 1:, :], noise[..., :-1, :]),
    ):  # fmt: skip
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < SIGMAS / a.size**0.5
    again = dv.augment(list(clips), (dv.GaussianNoise(0.1),), layout="FHWC", device="cpu")
    assert (again.clips == batch.clips).all()
    other = dv.augment(list(clips), (dv.GaussianNoise(0.1),), layout="FHWC", device="cpu", epoch=1)
    assert (other.clips != batch.clips).any(-1).float().mean() > 0.9


@pytest.mark.parametrize("kind", [dv.ExposureRamp, dv.Flicker, dv.GaussianNoise])
def test_probabilities(kind):
    share = (draw_rows(kind(0.1, probability=0.3), 5000, (2, 8, 8))["op"][:, 0] != 0).mean()
    assert abs(share - 0.3) < SIGMAS * (0.21 / 5000) ** 0.5


def test_a_plan_says_what_was_drawn():
    clips = noise_clips(*[(3, 8, 8)])
    plan = dv.augment(clips, (dv.Flicker(0.2), dv.GaussianNoise(0.1)), layout="FHWC", device="cpu").plan
    text = plan.describe(0)
    assert "Flicker\n    brightness " in text and "GaussianNoise\n    noise 25.5 levels" in text


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dv.ExposureRamp(-1), r"ExposureRamp: brightness must be a number in \[0, 1000\], or .* got -1"),
        (lambda: dv.ExposureRamp(0.4, "sine"), "ExposureRamp: curve must be one of 'linear', 'smooth', got 'sine'"),
        (lambda: dv.ExposureRamp(probability=2), "ExposureRamp: probability must be"),
        (lambda: dv.Flicker(1.5), r"Flicker: strength must be a number in \[0, 1\], or 0 <= low <= high <= 1, got 1.5"),
        (lambda: dv.Flicker((0.2, 0.1)), "Flicker: strength must be"),
        (lambda: dv.Flicker(ramp="up"), "Flicker: ramp must be one of"),
        (lambda: dv.GaussianNoise(25), "GaussianNoise: std must be a number in .* got 25"),
        (lambda: dv.GaussianNoise(None), "GaussianNoise: std must be"),
        (lambda: dv.GaussianNoise(probability=-1), "GaussianNoise: probability must be"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "op, same",
    [
        (dv.ColorJitter([0.6, 1.4], np.float64(0.5)), dv.ColorJitter((0.6, 1.4), 0.5)),
        (dv.RandomGrayscale(np.float64(0.5)), dv.RandomGrayscale(0.5)),
        (dv.ExposureRamp([0.5, np.float64(1.5)]), dv.ExposureRamp((0.5, 1.5))),
        (dv.Flicker([0, 0.5]), dv.Flicker((0, 0.5))),
        (dv.GaussianNoise(np.float64(0.5)), dv.GaussianNoise(0.5)),
        (dv.GaussianBlur(np.int64(3), [0.5, 1]), dv.GaussianBlur(3, (0.5, 1))),
        (dv.MotionBlur([2, np.int64(5)]), dv.MotionBlur((2, 5))),
        (dv.BackgroundMix([0, 0.5], np.float64(1)), dv.BackgroundMix((0, 0.5), 1.0)),
        (dv.RandomApply(dv.GaussianBlur(), np.float64(0.5)), dv.RandomApply(dv.GaussianBlur(), 0.5)),
    ],
    ids=str,
)
def test_lists_and_numbers_of_numpy_are_as_good(op, same):
    """They are written as Python's: a recipe is read back, and can be a key."""
    assert op == same and hash(op) == hash(same) and repr(op) == repr(same)
    recipe = dv.Recipe(ops=(op,))
    assert dv.Recipe.parse(repr(recipe)) == recipe
