"""MotionBlur and BackgroundMix: against the reference, and what is drawn."""

import numpy as np
import pytest
import reference
from conftest import SIGMAS, assert_pixels, draw_rows, extreme_clips, fits_distribution, noise_clips, patterned_clip

import dali_vidaug as dv
from dali_vidaug.ops.motion import WINDOW_MAX, background, background_args, motion, motion_args
from dali_vidaug.ops.ramp import RAMPS

SHAPES = [(1, 1, 1), (2, 3, 5), (5, 17, 23), (70, 2, 3), (3, 1, 40), (4, 40, 1)]


def on(device, function, clips, rows):
    if device == "cpu":
        return function(clips, rows)
    import cupy

    return [cupy.asnumpy(out) for out in function([cupy.asarray(clip) for clip in clips], rows)]


def window_rows(windows, frames):
    """(B,) rows, of a window for each clip, or for each of its frames."""
    rows = np.zeros(len(windows), motion_args(frames))
    rows["num_values"] = frames
    for row, window in zip(rows, windows, strict=True):
        row["window"] = window
    return rows


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_windows_match_the_reference(shape, device):
    rng, frames = np.random.default_rng(0), shape[0] + 1
    windows = [0, 1, 2, 3, 6, 10, 63, 64, *(rng.integers(0, 65, frames) for _ in range(6)), rng.integers(0, 4, frames)]
    clips = [patterned_clip(shape, i) for i in range(len(windows))]
    before = [clip.copy() for clip in clips]
    rows = window_rows(windows, frames)
    for out, clip, row in zip(on(device, motion, clips, rows), clips, rows, strict=True):
        assert_pixels(out, reference.motion(clip, row))
    assert all(np.array_equal(a, b) for a, b in zip(clips, before, strict=True))


def test_means_are_rounded_exactly_for_every_sum_and_length():
    """White frames in a window of n: the sum takes each multiple of 255, and with one frame of any level every sum."""
    for count in range(1, WINDOW_MAX + 1):
        clip = np.zeros((count, 1, 256 * 3, 3), np.uint8)
        clip[0, 0, :, 0] = np.arange(256 * 3) % 256
        clip[1:, 0, :, 0] = np.where(np.arange(count - 1)[:, None] < np.arange(256 * 3) // 4 % count, 255, 0)
        clip[..., 1], clip[..., 2] = 255, 1
        row = window_rows([count], count)  # the frame in the middle sees all of them
        assert_pixels(motion([clip], row)[0], reference.motion(clip, row[0]))


def test_impossible_windows_read_nothing_else(device):
    """Where rows cannot be checked, as on a GPU, they count as the nearest window that is possible."""
    (clip,) = noise_clips((80, 2, 3))
    for asked, given in ((-5, 1), (-(2**31), 1), (65, 64), (2**31 - 1, 64)):
        rows, good = (window_rows([np.where(np.arange(80) == 40, window, 3)], 80) for window in (asked, given))
        assert_pixels(on(device, motion, [clip], rows)[0], reference.motion(clip, good[0]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backgrounds_match_the_reference(shape, device):
    rng = np.random.default_rng(0)
    clips = [*extreme_clips(shape, 3), *(patterned_clip(shape, i) for i in range(6))]
    rows = np.zeros(len(clips), background_args(shape[0] + 1))
    rows["frame"], rows["num_values"] = rng.integers(0, shape[0], len(clips)), shape[0] + 1
    rows["weight"][:, 0] = rng.choice([0, 1, 0.3, 0.5, 0.7, 1 / 32768, 0.99998], (len(clips), shape[0] + 1))
    for out, clip, row in zip(on(device, background, clips, rows), clips, rows, strict=True):
        assert_pixels(out, reference.background(clip, row))


def test_impossible_frames_and_weights_read_nothing_else(device):
    (clip,) = noise_clips((5, 2, 3))
    for frame, weight, shown, used in ((-1, 0.5, 0, 0.5), (99, 0.5, 4, 0.5), (2, 7.0, 2, 1.0), (2, -1.0, 2, 0.0)):
        row, good = np.zeros(1, background_args(5)), np.zeros(1, background_args(5))
        row["frame"], row["weight"], good["frame"], good["weight"] = frame, weight, shown, used
        assert_pixels(on(device, background, [clip], row)[0], reference.background(clip, good[0]))


def test_what_does_not_change_is_not_copied():
    many, (one,) = noise_clips((4, 3, 3), (4, 3, 3)), noise_clips((1, 3, 3))
    rows = window_rows([1, (1, 1, 2, 1)], 4)
    outputs = motion(many, rows)
    assert outputs[0] is many[0] and outputs[1] is not many[1]
    assert motion([one], rows[1:])[0] is one
    rows = np.zeros(2, background_args(4))
    rows["weight"][1, 0, 3] = 0.5
    outputs = background(many, rows)
    assert (
        outputs[0] is many[0] and (outputs[1][:3] == many[1][:3]).all() and (outputs[1][3] == many[1][3]).mean() < 0.9
    )


# ---- What is drawn


def test_windows_are_uniform():
    rows = draw_rows(dv.MotionBlur((2, 5)), 8000, (16, 8, 8))
    assert (rows["window"] == rows["window"][..., :1]).all() and (rows["num_values"] == 16).all()
    window = rows["window"][:, 0, 0]
    counts = np.bincount(window, minlength=6)[2:6]
    assert counts.sum() == 8000 and (abs(counts - 2000) < SIGMAS * 1500**0.5).all()
    assert (draw_rows(dv.MotionBlur(3), 9, (16, 8, 8))["window"] == 3).all()
    still = dv.MotionBlur(3, 0.4)
    share = still.applied(draw_rows(still, 5000, (16, 8, 8))).mean()
    assert abs(share - 0.4) < SIGMAS * (0.24 / 5000) ** 0.5


@pytest.mark.parametrize("ramp", RAMPS)
def test_ramps_of_windows(ramp):
    """In [1, high], the window that was drawn at its end ("temporal"), or around it, and no more random numbers."""
    ops = [dv.MotionBlur((4, 9), ramp=kind) for kind in ("constant", ramp)]
    plain, rows = (draw_rows(op, 2000, (16, 8, 8))["window"][:, 0] for op in ops)
    assert rows.min() >= 1 and rows.max() <= 9
    changes = (rows != rows[:, :1]).any(1).mean()
    if ramp == "constant":
        assert (rows == plain).all() and changes == 0
    if ramp == "temporal":
        assert (rows[:, -1] == plain[:, 0]).all() and (np.diff(rows, axis=1) >= 0).all() and changes > 0.8
    if ramp == "temporal+":
        middle = (rows[:, 0] + rows[:, -1]) / 2
        kept = rows.max(1) < 9  # where it was not clipped
        assert (abs(middle - plain[:, 0])[kept] <= 1).all() and changes > 0.7
        assert 0.3 < (rows[:, 0] < rows[:, -1])[changes > 0].mean() < 0.7
    if ramp == "mix":
        assert 0.3 < changes < 0.55
    if ramp == "fourier":
        assert changes > 0.9
    alone = draw_rows(dv.MotionBlur(1, ramp=ramp), 5, (16, 8, 8))
    assert (alone["window"] == 1).all() and not dv.MotionBlur(1).applied(alone).any()


def test_a_ramp_ends_with_its_clip():
    counts = np.array([4, 16])
    rows = draw_rows(dv.MotionBlur((9, 9), ramp="temporal"), 2, (counts, [8, 8], [8, 8]))["window"][:, 0]
    assert (rows[0, 3:] == 9).all() and rows[1, -1] == 9 and rows[1, 8] < 9


def test_frames_and_weights_are_uniform():
    counts = np.tile([4, 9], 3000)
    rows = draw_rows(dv.BackgroundMix((0.1, 0.5)), 6000, (counts, 0 * counts + 8, 0 * counts + 8))
    for count in (4, 9):
        found = np.bincount(rows["frame"][counts == count], minlength=count)
        assert len(found) == count and (abs(found - 3000 / count) < SIGMAS * (3000 / count) ** 0.5).all()
    assert fits_distribution(rows["weight"][:, 0, 0], lambda x: (x - 0.1) / 0.4, 0.1, 0.5)
    share = (draw_rows(dv.BackgroundMix(probability=0.4), 5000, (3, 8, 8))["weight"] > 0).any((1, 2)).mean()
    assert abs(share - 0.4) < SIGMAS * (0.24 / 5000) ** 0.5


@pytest.mark.parametrize("ramp", RAMPS)
def test_weights_ramp_within_their_range(ramp):
    weight = draw_rows(dv.BackgroundMix((0.0, 0.3), ramp=ramp), 2000, (8, 8, 8))["weight"][:, 0]
    assert weight.min() >= 0 and weight.max() <= 0.3 + 1e-6
    assert (weight == weight[:, :1]).all() == (ramp == "constant")


def test_in_the_graph_clip_i_gets_row_i_and_labels_stay(device):
    clips, labels = noise_clips(*[(5, 20, 30)] * 6), np.eye(6, dtype=np.float32)
    ops = (dv.MotionBlur(probability=0.7), dv.BackgroundMix(probability=0.7))
    batch = dv.augment(clips, ops, labels, layout="FHWC", device=device)
    step = background(motion(clips, batch.plan.args["MotionBlur"]), batch.plan.args["BackgroundMix"])
    for out, expected in zip(batch.clips.cpu(), step, strict=True):
        assert_pixels(out.numpy(), expected)
    assert (batch.targets.cpu().numpy() == labels).all() and batch.mix is None
    text = "\n".join(batch.plan.describe(i) for i in range(6))
    assert "MotionBlur\n    mean of " in text and "MotionBlur\n    unchanged" in text
    assert "BackgroundMix\n    frame " in text and "BackgroundMix\n    unchanged" in text


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dv.MotionBlur(0), r"MotionBlur: window must be an int in \[1, 64\] or 1 <= low <= high <= 64, got 0"),
        (lambda: dv.MotionBlur((5, 2)), r"window must be .* got \(5, 2\)"),
        (lambda: dv.MotionBlur(65), "window must be"),
        (lambda: dv.MotionBlur(2.5), "window must be"),
        (lambda: dv.MotionBlur(probability=2), "MotionBlur: probability must be"),
        (lambda: dv.MotionBlur(ramp="up"), "MotionBlur: ramp must be one of"),
        (lambda: dv.BackgroundMix(1.5), r"BackgroundMix: weight must be a number in \[0, 1\], or .* got 1.5"),
        (lambda: dv.BackgroundMix((0.3, 0.1)), "weight must be"),
        (lambda: dv.BackgroundMix(probability="1"), "BackgroundMix: probability must be"),
        (lambda: dv.BackgroundMix(ramp="up"), "BackgroundMix: ramp must be one of"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "op, field, value, message",
    [
        (dv.MotionBlur(), "window", -1, r"MotionBlur: window of row 1 must be in \[0, 64\] in every frame, got -1"),
        (dv.MotionBlur(), "window", (1, 65), r"MotionBlur: window of row 1 must be .* got 65"),
        (dv.MotionBlur(), "num_values", 1, "MotionBlur: num_values of row 1 must be 2, got 1"),
        (dv.BackgroundMix(), "frame", 2, r"BackgroundMix: frame of row 1 must be in \[0, 2\), got 2"),
        (dv.BackgroundMix(), "weight", 1.5, r"BackgroundMix: weight of row 1 must be in \[0, 1\], got 1.5"),
        (dv.BackgroundMix(), "weight", np.nan, "weight of row 1 must be .* got nan"),
        (dv.BackgroundMix(), "num_values", 1, "num_values of row 1 must be 2, got 1"),
    ],
)
def test_edited_plans_are_checked(op, field, value, message):
    sizes = np.array([[2, 8, 8]] * 3).T
    rows = draw_rows(op, 3, (2, 8, 8))
    op.check(rows, *sizes)
    rows[field][1] = value
    with pytest.raises(ValueError, match=message):
        op.check(rows, *sizes)


def test_rows_for_fewer_frames_are_refused():
    op, rows = dv.MotionBlur(), draw_rows(dv.MotionBlur(), 1, (2, 8, 8))
    with pytest.raises(ValueError, match="MotionBlur: arguments must have a window for each of 3 frames"):
        op.check(rows, *np.array([[3], [8], [8]]))
    with pytest.raises(ValueError, match="the plan has values for 2 frames, but a clip has 3"):
        motion(noise_clips((3, 8, 8)), rows)
    op, rows = dv.BackgroundMix(), draw_rows(dv.BackgroundMix(), 1, (2, 8, 8))
    with pytest.raises(ValueError, match="BackgroundMix: arguments must have a weight for each of 3 frames"):
        op.check(rows, *np.array([[3], [8], [8]]))
    with pytest.raises(ValueError, match="the plan has values for 2 frames, but a clip has 3"):
        background(noise_clips((3, 8, 8)), rows)
