"""ColorJitter and RandomGrayscale: against torchvision's v2, the reference, and what their options say."""

import shutil
import subprocess
from itertools import permutations

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
from dali_vidaug.ops.color import CODES, FRAME_BYTES, color, color_args, is_neutral
from dali_vidaug.ops.ramp import RAMPS

NAMES = ("brightness", "contrast", "saturation", "hue")
SHAPES = [(1, 1, 1), (3, 17, 23), (2, 8, 32), (2, 32, 8), (2, 3, 2), (1, 31, 65), (4, 1, 5)]
# The kernel repeats what torch computes with vectors that fuse multiplications and additions, bit for bit.
FUSED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
EXACT = dict(max_diff=0) if FUSED else dict(max_diff=4, max_fraction=0.01)


@pytest.fixture(scope="module")
def functional(v2):
    return v2.functional


def color_rows(ops, frames, per_clip=False, seed=0):
    """One row for each clip. ``ops``: for each clip pairs of a name and a value, or an array of a value a frame."""
    rows = np.zeros(len(ops), color_args(max(map(len, ops)), frames))
    rows["num_values"], rows["per_clip"] = frames, per_clip
    rows["key"] = np.random.default_rng(seed).integers(0, 2**32, (len(ops), 2))
    for row, pairs in zip(rows, ops, strict=True):
        for i, (name, value) in enumerate(pairs):
            row["op"][i], row["value"][i] = CODES.index(name), value
    return rows


def random_pairs(rng, names=NAMES):
    """Values of ops: anywhere in their ranges, or at an end, or where they change nothing."""
    ends = {"hue": (-0.5, 0.5, 0.25, 0), "grey": (0, 1), "noise": (0, 1, 255)}
    values = {"hue": rng.uniform(-0.5, 0.5), "grey": 1, "noise": rng.uniform(0, 90)}
    return [
        (n, rng.choice(ends.get(n, (0, 0.5, 1, 2, 30))) if rng.random() < 0.2 else values.get(n, rng.uniform(0, 2)))
        for n in names
    ]


def run(clips, rows, device="cpu", **options):
    num_ops = rows.dtype["value"].shape[0]
    if device == "cpu":
        return color(clips, rows, num_ops, **options)
    import cupy

    return [cupy.asnumpy(out) for out in color([cupy.asarray(clip) for clip in clips], rows, num_ops)]


def by_torchvision(functional, clip, pairs, per_clip=False):
    """The ops on a video tensor, one after the other; with ``per_clip`` on its frames one below the other."""
    frames = torch.from_numpy(np.ascontiguousarray(np.moveaxis(clip, -1, 1)))
    if per_clip:
        frames = frames.transpose(0, 1).reshape(3, -1, clip.shape[2])
    for name, value in pairs:
        if name == "grey":
            frames = functional.rgb_to_grayscale(frames, 3)
        else:
            frames = getattr(functional, f"adjust_{name}")(frames, float(np.float32(value)))
    if per_clip:
        frames = frames.reshape(3, *clip.shape[:3]).transpose(0, 1)
    return np.ascontiguousarray(np.moveaxis(frames.numpy(), 1, -1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_orders_equal_torchvision(shape, functional):
    rng = np.random.default_rng(0)
    for i, names in enumerate(permutations(NAMES)):
        pairs, per_clip = random_pairs(rng, names), bool(i % 2)
        for clip in (extreme_clips(shape, 3, i)[i % 3], patterned_clip(shape, i)):
            (out,) = run([clip], color_rows([pairs], len(clip), per_clip))
            assert_pixels(out, by_torchvision(functional, clip, pairs, per_clip), **EXACT)


@pytest.mark.parametrize("name", [*NAMES, "grey"])
def test_each_op_equals_torchvision_for_many_colors(name, functional):
    """A 32nd of all colours, in a frame each for its red."""
    red = np.arange(1, 256, 32)
    clip = np.stack(np.meshgrid(red, *[np.arange(256)] * 2, indexing="ij"), -1).astype(np.uint8)
    for value in {"grey": (1,), "hue": (0.3217, -0.0713, 0.5, -1e-9)}.get(name, (0.3217, 1.71, 1.3)):
        pairs = [(name, value)]
        assert_pixels(run([clip], color_rows([pairs], len(clip)))[0], by_torchvision(functional, clip, pairs), **EXACT)


def test_grey_equals_torchvision_for_all_colors(monkeypatch, functional):
    """In both libraries. A few of the greys are on the border between two levels."""
    every = np.arange(2**24, dtype="<u4").view(np.uint8).reshape(16, 1024, 1024, 4)
    clip = np.ascontiguousarray(every[..., :3])
    expected = functional.rgb_to_grayscale(torch.from_numpy(clip).permute(0, 3, 1, 2))[:, 0].numpy()
    for name in ("baseline", "avx2") if kernels._load("baseline").has_avx2() else ("baseline",):
        monkeypatch.setattr(kernels, "library", lambda name=name: kernels._load(name))
        (out,) = run([clip], color_rows([[("grey", 1)]], 16))
        for c in range(3):
            differing = out[..., c] != expected
            assert differing.sum() <= (0 if FUSED else 10_000), clip[differing][:5]


@pytest.mark.parametrize("per_clip", [False, True], ids=["frame", "clip"])
@pytest.mark.parametrize("name", CODES)
def test_each_op_matches_the_reference(name, per_clip, device):
    """Values differ from frame to frame. The reference is in float64: it may be on the other side of a whole level."""
    rng = np.random.default_rng(1)
    clips = [patterned_clip(shape, i) for i, shape in enumerate(SHAPES * 3)]
    pairs = [[(name, [random_pairs(rng, [name])[0][1] for _ in range(4)])] for _ in clips]
    rows = color_rows(pairs, 4, per_clip)
    differing = []
    for out, clip, row in zip(run(clips, rows, device), clips, rows, strict=True):
        expected = reference.color(clip, row)
        assert_pixels(out, expected, max_diff=1)
        differing += (out != expected).ravel().tolist()
    assert np.mean(differing) < 0.002


def test_chains_match_the_reference(device):
    rng = np.random.default_rng(2)
    clips = [patterned_clip(SHAPES[i % len(SHAPES)], i) for i in range(60)]
    pairs = [random_pairs(rng, rng.permutation([*NAMES, "grey", "noise"])[:4]) for _ in clips]
    rows = color_rows(pairs, 4, per_clip=True)
    for out, clip, row in zip(run(clips, rows, device), clips, rows, strict=True):
        far = np.abs(out.astype(int) - reference.color(clip, row)) > 1
        assert far.mean() < 0.01  # a level more or less in one op becomes many where the next ones stretch it


def test_the_result_does_not_depend_on_the_width(device):
    """A row of pixels is processed in pieces; the last one may be shorter."""
    (wide,) = noise_clips((2, 1, 130))
    pairs = [("saturation", 1.4), ("hue", 0.2), ("brightness", 0.9)]
    whole = run([wide], color_rows([pairs], 2), device)[0]
    for width in (1, 2, 31, 32, 33, 63, 64, 65, 129):
        part = np.ascontiguousarray(wide[:, :, :width])
        assert_pixels(run([part], color_rows([pairs], 2), device)[0], whole[:, :, :width])


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 16, 23, 31, 64, 70])
def test_grey_of_any_width_is_that_of_torchvision(width, functional, device):
    """By itself, which has its own way, and with values that differ from frame to frame."""
    (clip,) = noise_clips((3, 2, width), seed=width)
    grey = by_torchvision(functional, clip, [("grey", 1)])
    (out,) = run([clip], color_rows([[("grey", [1, 0, 1])]], 3), device)
    assert_pixels(out, np.stack([grey[0], clip[1], grey[2]]), **EXACT)


def test_the_mean_of_a_clip_is_that_of_all_frames():
    clip = np.zeros((2, 4, 4, 3), np.uint8)
    clip[1] = 200
    pairs = [[("contrast", 0.0)]]
    of_frame, of_clip = (run([clip], color_rows(pairs, 2, per_clip))[0] for per_clip in (False, True))
    assert (of_frame[0] == 0).all() and (of_frame[1] == 199).all()  # the weights of grey add up to 0.9999
    assert (of_clip == 99).all()


def test_rows_that_change_nothing(functional):
    (clip,) = noise_clips((3, 5, 7))
    for pairs in ([], [("brightness", 1), ("hue", 0)], [("contrast", 1)], [("grey", 0)], [("noise", 0)]):
        rows = color_rows([pairs or [("identity", 5)]], 3)
        assert is_neutral(rows).all() and run([clip], rows)[0] is clip  # not copied
    rows = color_rows([[("brightness", 1.1)], [("brightness", [1, 1, 0.9])], [("identity", 0)]], 3)
    assert is_neutral(rows).tolist() == [False, False, True]
    outputs = run([clip, clip, clip], rows)
    assert outputs[2] is clip and not np.array_equal(outputs[0], clip)
    assert (outputs[1][:2] == clip[:2]).all()


def test_both_libraries_and_any_threads_give_the_same(libraries, monkeypatch):
    rng = np.random.default_rng(3)
    clips = [patterned_clip((4, 19, 43), i) for i in range(40)]
    rows = color_rows([random_pairs(rng, rng.permutation([*NAMES, "noise"])[:4]) for _ in clips], 4, per_clip=True)
    results = []
    for library in libraries:
        monkeypatch.setattr(kernels, "library", lambda library=library: library)
        results += [run(clips, rows, num_threads=threads) for threads in (1, 3)]
    for one, *others in zip(*results, strict=True):
        assert all(np.array_equal(one, other) for other in others)


def test_input_is_not_modified_and_clips_do_not_depend_on_each_other():
    rng = np.random.default_rng(4)
    clips = [patterned_clip(shape, i) for i, shape in enumerate(SHAPES)]
    before = [clip.copy() for clip in clips]
    rows = color_rows([random_pairs(rng, rng.permutation(NAMES)) for _ in clips], 4, per_clip=True)
    together = run(clips, rows)
    assert all(np.array_equal(a, b) for a, b in zip(clips, before, strict=True))
    for i, clip in enumerate(clips):
        assert_pixels(run([clip], rows[i : i + 1])[0], together[i])


# ---- What is drawn


def values_of(rows, name):
    """(B, F): the values of an op, whose place differs from row to row."""
    at = rows["op"] == CODES.index(name)
    assert (at.sum(1) == 1).all()
    return rows["value"][at]


@pytest.mark.parametrize("name", NAMES)
def test_factors_are_uniform_in_their_range(name):
    center = 0 if name == "hue" else 1
    for given, (low, high) in ((0.4, (center - 0.4, center + 0.4)), ((0.1, 0.3), (0.1, 0.3))):
        values = values_of(draw_rows(dv.ColorJitter(**{name: given}), 5000, (3, 8, 8)), name)
        assert (values == values[:, :1]).all()  # in all frames
        assert fits_distribution(values[:, 0], lambda x, low=low, high=high: (x - low) / (high - low), low, high)
    if name != "hue":
        assert draw_rows(dv.ColorJitter(**{name: 1.5}), 500, (3, 8, 8))["value"].min() >= 0


def test_what_is_not_given_is_not_done():
    rows = draw_rows(dv.ColorJitter(contrast=0.2), 50, (3, 8, 8))
    assert set(rows["op"].ravel().tolist()) == {0, CODES.index("contrast")}
    assert is_neutral(draw_rows(dv.ColorJitter(), 50, (3, 8, 8))).all()


def test_orders_and_probabilities():
    rows = draw_rows(dv.ColorJitter(0.4, 0.4, 0.4, 0.1, probability=0.8), 24_000, (2, 8, 8))
    done = rows["op"].any(1)
    assert abs(done.mean() - 0.8) < SIGMAS * (0.16 / len(rows)) ** 0.5
    orders, counts = np.unique(rows["op"][done], axis=0, return_counts=True)
    assert len(orders) == 24 and (abs(counts - done.sum() / 24) < SIGMAS * (done.sum() / 24) ** 0.5).all()
    rows = draw_rows(dv.RandomGrayscale(0.3), 5000, (2, 8, 8))
    assert abs((rows["value"][:, 0] == 1).all(1).mean() - 0.3) < SIGMAS * (0.21 / 5000) ** 0.5


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("given", [0.5, (0.2, 0.9), (1.2, 1.5)], ids=str)
def test_ramps_keep_their_side_and_do_not_leave_the_range(ramp, given):
    values = values_of(draw_rows(dv.ColorJitter(saturation=given, ramp=ramp), 2000, (8, 9, 9)), "saturation")
    low, high = given if isinstance(given, tuple) else (1 - given, 1 + given)
    away = values - 1
    assert (np.sign(away.min(1)) * np.sign(away.max(1)) >= 0).all()
    assert values.min() >= min(low, 1) - 1e-6 and values.max() <= max(high, 1) + 1e-6
    constant = (values == values[:, :1]).all(1)
    assert constant.all() if ramp == "constant" else not constant.all()
    if ramp in ("constant", "temporal", "temporal+"):  # even steps
        assert np.allclose(np.diff(values, 2, axis=1), 0, atol=1e-6)


def test_a_clip_ramps_to_its_own_last_frame():
    op, counts = dv.ColorJitter(0.4, ramp="temporal+"), np.array([4, 9])
    rows = draw_rows(op, 2, (counts, np.array([8, 8]), np.array([8, 8])))
    values = values_of(rows, "brightness")
    assert values.shape == (2, 9) and (values[0, 3:] == values[0, 3]).all() and values[0, 2] != values[0, 3]
    alone = draw_rows(op, 1, (counts[:1], np.array([8]), np.array([8])))
    assert (values_of(alone, "brightness") == values[:1, :4]).all()


# ---- In a recipe


def test_in_the_graph_clip_i_gets_row_i(device):
    clips = noise_clips(*[(4, 20, 30)] * 6)
    ops = (dv.ColorJitter(0.4, 0.4, 0.4, 0.1, ramp="temporal+"), dv.RandomGrayscale(0.5))
    batch = dv.augment(clips, ops, layout="FHWC", device=device)
    step = clips
    for name, num_ops in (("ColorJitter", 4), ("RandomGrayscale", 1)):
        step = color(step, batch.plan.args[name], num_ops)
    for out, expected in zip(batch.clips.cpu(), step, strict=True):
        assert_pixels(out.numpy(), expected)
    assert "RandomGrayscale" in repr(batch)


def test_a_plan_says_what_was_drawn(tmp_path):
    clips = noise_clips(*[(2, 8, 8)] * 6)
    ops = (dv.ColorJitter(0.4, 0.4, 0.0, 0.1, ramp="temporal+"), dv.RandomGrayscale(0.5))
    plan = dv.augment(clips, ops, layout="FHWC", device="cpu").plan
    texts = [plan.describe(i) for i in range(6)]
    assert all(" times about the mean of the clip" in text and "turns" in text for text in texts)
    assert any("RandomGrayscale\n    grey" in text for text in texts)
    assert any("RandomGrayscale\n    unchanged" in text for text in texts)
    plan.save(tmp_path / "plan.json")
    again = dv.Plan.load(tmp_path / "plan.json")
    assert again.recipe == plan.recipe and (again.args["ColorJitter"] == plan.args["ColorJitter"]).all()


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("brightness", -0.1, r"ColorJitter: brightness must be a number in \[0, 1000\], or \(low, high\)"),
        ("contrast", float("nan"), "contrast must be a number"),
        ("saturation", (1.2, 0.8), "saturation must be .* with 0 <= low <= high"),
        ("saturation", (0.5, 1, 2), "saturation must be"),
        ("brightness", "0.4", "brightness must be"),
        ("brightness", None, "brightness must be .*, got None"),
        ("hue", 0.6, r"hue must be a number in \[0, 0.5\], or \(low, high\) with -0.5 <= low <= high <= 0.5, got 0.6"),
        ("hue", (-0.6, 0), "hue must be"),
        ("probability", 1.5, r"probability must be in \[0, 1\], got 1.5"),
        ("statistics", "batch", "statistics must be one of 'clip', 'frame', got 'batch'"),
        ("ramp", "linear", "ramp must be one of 'constant', .* got 'linear'"),
    ],
)
def test_bad_options_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        dv.ColorJitter(**{field: value})


def test_bad_probability_of_grey_is_refused():
    with pytest.raises(ValueError, match=r"RandomGrayscale: probability must be in \[0, 1\], got -1"):
        dv.RandomGrayscale(-1)


@pytest.mark.parametrize(
    "field, value, message",
    [
        (("op", 0), 99, r"op of row 1 must be 4 of \[0, 7\), .* got \[99, "),
        (("op", slice(0, 2)), CODES.index("contrast"), r"op of row 1 must be .* contrast \(2\) once at most"),
        (("num_values",), 3, "num_values of row 1 must be 2, got 3"),
        (("value", 0, 1), np.nan, "brightness of row 1 must be in .* got nan"),
        (("value", 0, 0), -1.5, "brightness of row 1 must be in .* in every frame, got -1.5"),
    ],
)
def test_edited_plans_are_checked(field, value, message):
    clips = noise_clips(*[(2, 8, 8)] * 3)
    op = dv.ColorJitter(0.4, 0.4, 0.4, 0.1)
    rows = draw_rows(op, 3, (2, 8, 8))
    rows["op"][1] = 1, 2, 3, 4
    rows["value"][1] = 0.25
    op.check(rows, *np.array([clip.shape[:3] for clip in clips]).T)
    name, *at = field
    rows[name][(1, *at)] = value
    with pytest.raises(ValueError, match=f"ColorJitter: {message}"):
        op.check(rows, *np.array([clip.shape[:3] for clip in clips]).T)


def test_rows_for_fewer_frames_are_refused():
    op, rows = dv.ColorJitter(0.4), draw_rows(dv.ColorJitter(0.4), 1, (2, 8, 8))
    with pytest.raises(ValueError, match="ColorJitter: arguments must have 4 ops with values for 3 frames"):
        op.check(rows, *np.array([[3], [8], [8]]))
    with pytest.raises(ValueError, match="the plan has values for 2 frames, but a clip has 3"):
        color(noise_clips((3, 8, 8)), rows, 4)


def test_scratch_memory_holds_the_frames():
    """64-bit sums stay aligned from frame to frame, too."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    text = kernels.source("color", color_args(4, 3)) + f'static_assert(sizeof(ColorFrame) == {FRAME_BYTES}, "");'
    command = ["g++", "-std=c++17", "-fsyntax-only", "-x", "c++", "-"]
    assert subprocess.run(command, input=text, text=True, capture_output=True, check=False).returncode == 0
    wrong = text.replace(f"== {FRAME_BYTES}", f"== {FRAME_BYTES + 8}")
    assert subprocess.run(command, input=wrong, text=True, capture_output=True, check=False).returncode != 0
    assert FRAME_BYTES % 8 == 0
