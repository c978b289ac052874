"""GaussianBlur: against torchvision's v2, the reference, and what its options say."""

import shutil
import subprocess

import numpy as np
import pytest
import reference
import torch
from conftest import (
    SIGMAS,
    assert_pixels,
    draw_rows,
    extreme_clips,
    fits_distribution,
    noise_clips,
    patterned_clip,
)

import dali_vidaug as dv
from dali_vidaug import kernels
from dali_vidaug.ops.blur import FRAME_BYTES, RADIUS_MAX, blur, blur_args
from dali_vidaug.ops.ramp import RAMPS

SHAPES = [(1, 1, 1), (3, 17, 23), (2, 8, 32), (2, 32, 8), (2, 1, 40), (2, 40, 1), (1, 2, 3)]
# In single precision a sum in another order may round to the other side of the middle between two levels.
ROUNDED = dict(max_diff=1, max_fraction=0.001)


def blur_rows(radii, sigmas, frames):
    """Rows with a radius each, and with a sigma each or one for each frame."""
    rows = np.zeros(len(radii), blur_args(frames))
    rows["radius"], rows["num_values"] = radii, frames
    for row, sigma in zip(rows, sigmas, strict=True):
        row["sigma"][0] = sigma
    return rows


def run(clips, rows, device="cpu", **options):
    if device == "cpu":
        return blur(clips, rows, **options)
    import cupy

    return [cupy.asnumpy(out) for out in blur([cupy.asarray(clip) for clip in clips], rows)]


@pytest.mark.parametrize("size", [1, 3, 5, 9, 23, 65])
def test_it_equals_torchvision(size, v2):
    """On sizes that it accepts: it refuses windows whose half is not smaller than the picture."""
    shapes = [(2, 37, 41), (1, 33, 130), (1, 34, 600)]
    for i, shape in enumerate(shapes):
        for sigma in (0.1, 1.234, 7.5):
            for clip in (patterned_clip(shape, i), extreme_clips(shape, 2, i)[1]):
                video = torch.from_numpy(np.ascontiguousarray(np.moveaxis(clip, -1, 1)))
                expected = np.moveaxis(v2.functional.gaussian_blur(video, size, sigma).numpy(), 1, -1)
                (out,) = run([clip], blur_rows([size // 2], [sigma], len(clip)))
                assert_pixels(out, np.ascontiguousarray(expected), **ROUNDED)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_matches_the_reference(shape, device):
    """Windows larger than the picture, too, and sigmas that differ from frame to frame, 0 among them."""
    rng = np.random.default_rng(0)
    radii = [0, 1, 2, 3, 7, 16, 31, RADIUS_MAX]
    clips = [patterned_clip(shape, i) for i in range(len(radii))]
    rows = blur_rows(radii, [rng.choice([0, 0.05, 0.3, 1.0, 4.0, 50.0], shape[0]) for _ in radii], shape[0])
    for out, clip, row in zip(run(clips, rows, device), clips, rows, strict=True):
        assert_pixels(out, reference.blur(clip, row), max_diff=1, max_fraction=0.001 if out.size > 1000 else 0.05)


def test_wide_pictures_are_blurred_in_pieces_without_seams(device):
    (clip,) = noise_clips((1, 3, 1100))
    rows = blur_rows([RADIUS_MAX], [9.0], 1)
    (out,) = run([clip], rows, device)
    assert_pixels(out, reference.blur(clip, rows[0]), **ROUNDED)
    for left in (100, 411, 500, 513):  # what is farther from the border than the window does not depend on the piece
        part = np.ascontiguousarray(clip[:, :, left : left + 520])
        inner = slice(left + RADIUS_MAX, left + 520 - RADIUS_MAX)
        (piece,) = run([part], rows, device)
        assert_pixels(piece[:, :, RADIUS_MAX:-RADIUS_MAX], out[:, :, inner])


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_plain_pictures_stay_as_they_are(value):
    clip = np.full((1, 9, 70, 3), value, np.uint8)
    for radius in range(1, RADIUS_MAX + 1):
        for sigma in (0.1, 0.7, 3.3, 1000.0):
            assert_pixels(run([clip], blur_rows([radius], [sigma], 1))[0], clip)


def test_a_point_spreads_as_a_bell():
    """Mean and variance of where a white pixel's light goes: nothing moves, and sigma is what was asked for."""
    clip = np.zeros((1, 65, 65, 3), np.uint8)
    clip[0, 30:35, 30:35] = 255  # large enough for whole levels; its own variance is 2
    (out,) = run([clip], blur_rows([12], [3.0], 1))
    light = out[0, :, :, 0].astype(float)
    at = np.arange(65) - 32
    for axis in (0, 1):
        share = light.sum(axis) / light.sum()
        assert abs((share * at).sum()) < 1e-9
        assert abs((share * at**2).sum() - (2 + 9)) < 0.4


def test_rows_that_change_nothing_are_not_copied():
    (clip,) = noise_clips((2, 5, 7))
    for radius, sigma in ((0, 1.0), (3, 0.0)):
        assert run([clip], blur_rows([radius], [sigma], 2))[0] is clip
    (out,) = run([clip], blur_rows([3], [[0, 1.0]], 2))
    assert_pixels(out[0], clip[0])
    assert not np.array_equal(out[1], clip[1])


def test_impossible_windows_write_nothing_else(device):
    """Where rows cannot be checked, as on a GPU, they count as the nearest window that is possible."""
    (clip,) = noise_clips((2, 9, 70))
    for asked, given in ((40, RADIUS_MAX), (2**31 - 1, RADIUS_MAX), (-1, 0), (-(2**31), 0)):
        (out,) = run([clip], blur_rows([asked], [15.0], 2), device)
        assert_pixels(out, run([clip], blur_rows([given], [15.0], 2), device)[0])


def test_both_libraries_and_any_threads_give_the_same(libraries, monkeypatch):
    rng = np.random.default_rng(3)
    clips = [patterned_clip((4, 19, 43), i) for i in range(20)]
    before = [clip.copy() for clip in clips]
    rows = blur_rows(rng.integers(0, RADIUS_MAX + 1, 20), rng.uniform(0.1, 5, (20, 4)), 4)
    results = []
    for library in libraries:
        monkeypatch.setattr(kernels, "library", lambda library=library: library)
        results += [run(clips, rows, num_threads=threads) for threads in (1, 3)]
    for one, *others in zip(*results, strict=True):
        assert all(np.array_equal(one, other) for other in others)
    assert all(np.array_equal(a, b) for a, b in zip(clips, before, strict=True))


# ---- What is drawn


def test_sigma_is_uniform_and_the_window_follows():
    rows = draw_rows(dv.GaussianBlur(sigma=(0.5, 2.5)), 5000, (3, 9, 9))
    sigma = rows["sigma"][:, 0]
    assert (sigma == sigma[:, :1]).all()
    assert fits_distribution(sigma[:, 0], lambda x: (x - 0.5) / 2, 0.5, 2.5)
    assert (rows["radius"] == np.ceil(3 * sigma[:, 0].astype(np.float64) - 1e-5)).all()
    assert (draw_rows(dv.GaussianBlur(9, 1.0), 5, (3, 9, 9))["radius"] == 4).all()
    share = (draw_rows(dv.GaussianBlur(probability=0.3), 5000, (3, 9, 9))["radius"] > 0).mean()
    assert abs(share - 0.3) < SIGMAS * (0.21 / 5000) ** 0.5


@pytest.mark.parametrize("ramp", RAMPS)
def test_ramps_stay_in_the_range(ramp):
    rows = draw_rows(dv.GaussianBlur(sigma=(0.5, 3.0), ramp=ramp), 2000, (8, 9, 9))
    sigma = rows["sigma"][:, 0]
    assert sigma.min() >= 0 and sigma.max() <= 3.0
    assert (sigma == sigma[:, :1]).all() == (ramp == "constant")
    assert (rows["radius"] >= 3 * sigma.max(1) - 1e-4).all()


def test_in_the_graph_clip_i_gets_row_i(device):
    clips = noise_clips(*[(4, 20, 30)] * 12)
    batch = dv.augment(clips, (dv.GaussianBlur(probability=0.5, ramp="temporal+"),), layout="FHWC", device=device)
    rows = batch.plan.args["GaussianBlur"]
    for out, expected in zip(batch.clips.cpu(), blur(clips, rows), strict=True):
        assert_pixels(out.numpy(), expected)
    texts = [batch.plan.describe(i) for i in range(12)]
    assert any("GaussianBlur\n    sigma " in text and " pixels, window of " in text for text in texts)
    assert any("GaussianBlur\n    unchanged" in text for text in texts)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(kernel_size=4), r"GaussianBlur: kernel_size must be None or odd and in \[1, 65\], got 4"),
        (dict(kernel_size=67), "kernel_size must be"),
        (dict(kernel_size=(3, 3)), "kernel_size must be"),
        (dict(sigma=0), "sigma must be a number or 0 < low <= high, at most 10; with kernel_size, 1000, got 0"),
        (dict(sigma=(2, 1)), "sigma must be"),
        (dict(sigma=(0.1, 11)), "sigma must be"),
        (dict(kernel_size=9, sigma=1001), "sigma must be a number or 0 < low <= high, at most 1000, got 1001"),
        (dict(sigma=float("nan")), "sigma must be"),
        (dict(probability=2), "probability must be"),
        (dict(ramp="up"), "ramp must be one of"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dv.GaussianBlur(**options)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("radius", 33, r"radius of row 1 must be in \[0, 32\], got 33"),
        ("radius", -1, "radius of row 1"),
        ("sigma", np.nan, "sigma of row 1 must be in .* got nan"),
        ("sigma", -0.5, r"sigma of row 1 must be in \[0, 1000\] in every frame, got -0.5"),
        ("num_values", 9, "num_values of row 1 must be 2, got 9"),
    ],
)
def test_edited_plans_are_checked(field, value, message):
    op, sizes = dv.GaussianBlur(), np.array([[2, 8, 8]] * 3).T
    rows = draw_rows(op, 3, (2, 8, 8))
    op.check(rows, *sizes)
    with pytest.raises(ValueError, match="GaussianBlur: arguments must have a sigma for each of 3 frames"):
        op.check(rows, sizes[0] + 1, *sizes[1:])
    rows[field][1] = value
    with pytest.raises(ValueError, match=f"GaussianBlur: {message}"):
        op.check(rows, *sizes)
    with pytest.raises(ValueError, match="the plan has values for 2 frames, but a clip has 3"):
        blur(noise_clips((3, 8, 8)), rows[:1])


def test_scratch_memory_holds_the_frames():
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    text = kernels.source("blur", blur_args(3)) + f'static_assert(sizeof(BlurFrame) == {FRAME_BYTES}, "");'
    command = ["g++", "-std=c++17", "-fsyntax-only", "-x", "c++", "-"]
    assert subprocess.run(command, input=text, text=True, capture_output=True, check=False).returncode == 0
    wrong = text.replace(f"== {FRAME_BYTES}", f"== {FRAME_BYTES + 8}")
    assert subprocess.run(command, input=wrong, text=True, capture_output=True, check=False).returncode != 0
