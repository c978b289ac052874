"""Frames under matrices: the kernel against the reference, the ops against torchvision, and what they draw."""

import numpy as np
import pytest
import reference
import torch
from conftest import (
    assert_pixels,
    import_torchvision,
    noise_clips,
    patterned_clip,
    random_matrices,
    same_distribution,
)

import dali_vidaug as dv
from dali_vidaug import geometry, kernels
from dali_vidaug.ops.crop import CROP
from dali_vidaug.ops.ramp import RAMPS
from dali_vidaug.ops.warp import AT_THE_EDGE, warp, warp_dtype, warp_rows

SHAPES = [(1, 1, 1), (3, 17, 23), (2, 3, 2), (2, 1, 70), (2, 40, 160), (2, 131, 33), (1, 64, 64)]
KINDS = ["affine", "perspective", "tilted", "moved", "whole pixels"]
OPS = (
    dv.RandomRotation(180.0), dv.RandomAffine(30.0, (0.2, 0.3), (0.5, 2.0), (-20, 20, -10, 10)),
    dv.RandomPerspective(0.5, 1.0), dv.CameraMotion(0.2, 0.5, 20.0), dv.CameraMotion(cover=False, speed=3.0),
    *(dv.RandomAffine(40.0, ramp=ramp) for ramp in RAMPS), dv.RandomPerspective(0.9, 1.0, ramp="temporal+"),
)  # fmt: skip


@pytest.fixture(scope="module")
def functional(v2):
    return v2.functional


def video(clip):
    """(F, H, W, 3) as torchvision has it: (F, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2)


def run(clips, rows, device="cpu", **options):
    if device == "cpu":
        return warp(clips, rows, **options)
    import cupy

    return [cupy.asnumpy(out) for out in warp([cupy.asarray(clip) for clip in clips], rows)]


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_matches_the_reference(shape, kind, interpolation, device):
    clip = patterned_clip(shape)
    for seed in range(6):
        matrices = random_matrices(shape, kind, seed)
        (row,) = rows = warp_rows(matrices[None], *shape[1:], (200, 100, 7), interpolation)
        (out,), (expected, unsure) = run([clip], rows, device), reference.warp(clip, row)
        if interpolation == "nearest":
            assert unsure.mean() < 0.1 or kind == "whole pixels"
            expected[unsure] = out[unsure]
            assert_pixels(out, expected)
        else:  # the kernel's weights have 11 bits: a value near the middle between two levels may round to the other
            share = 0.06 if shape[1] > 10 else 1.0
            assert_pixels(out, expected, max_diff=1, max_fraction=0.0 if kind == "whole pixels" else share)


def test_impossible_matrices_touch_no_other_memory(device):
    """Whatever bytes a row has: what comes from nowhere is the colour ``fill``."""
    clip = patterned_clip((1, 33, 70))
    huge = [0, np.inf, -np.inf, np.nan, 1e300, -1e300, 1e19, 1e-300, 2.0**31]
    rng = np.random.default_rng(0)
    for interpolation in ("nearest", "bilinear"):
        matrices = rng.choice(huge, (300, 1, 3, 3))
        matrices[::2, :, 2] = 0, 0, 1
        rows = warp_rows(matrices, 33, 70, (200, 100, 7), interpolation)
        outputs = run([clip] * 300, rows, device)
        filled = sum((out == (200, 100, 7)).all(-1).all() for out in outputs)
        assert filled > 200
    for far in (4e8, -4e8, 1e9, -1e9, 2.0**21, -(2.0**28)):  # some are the frame's own place in fewer bits
        away = warp_rows(geometry.translation(far, 0)[None, None], 33, 70, (200, 100, 7), "bilinear")
        assert (run([clip], away, device)[0] == (200, 100, 7)).all()
    (clip,) = noise_clips((1, 1, 1100))
    away = warp_rows(geometry.matrix_of(2047, 0, -1023, 0, 1, 0)[None, None], 1, 1100, (200, 100, 7), "bilinear")
    out = run([clip], away, device)[0][0, 0]
    assert (out[0] != (200, 100, 7)).any() and (out[1:] == (200, 100, 7)).all()


@pytest.mark.parametrize("device", [pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True)
def test_the_gpu_gives_the_bytes_of_the_cpu(device):
    for kind in ("affine", "perspective", "moved"):
        for shape in SHAPES:
            for interpolation in ("nearest", "bilinear"):
                rows = warp_rows(random_matrices(shape, kind, 1)[None], *shape[1:], (200, 100, 7), interpolation)
                clip = patterned_clip(shape)
                assert_pixels(run([clip], rows, device)[0], run([clip], rows)[0])


def test_both_libraries_and_any_threads_give_the_same(libraries, monkeypatch):
    shapes = [(2, 37, 43), (2, 70, 150)] * 20
    clips, results = [patterned_clip(shape, i) for i, shape in enumerate(shapes)], []
    every = [
        warp_rows(random_matrices(shape, kind, i)[None], *shape[1:], (9, 8, 7), interpolation)
        for i, (shape, kind, interpolation) in enumerate(
            zip(shapes, KINDS * 8, ["bilinear"] * 30 + ["nearest"] * 10, strict=True)
        )
    ]
    for library in libraries:
        monkeypatch.setattr(kernels, "library", lambda library=library: library)
        results += [warp(clips, np.concatenate(every), num_threads=n) for n in (1, 3)]
    for others in results[1:]:
        for a, b in zip(results[0], others, strict=True):
            assert_pixels(a, b)


def test_pixels_in_groups_are_those_one_by_one(libraries, monkeypatch):
    """Frames of all widths around those of groups of pixels, and each way to treat the edge, in both libraries."""
    rng = np.random.default_rng(0)
    for i, width in enumerate([*range(1, 35), 63, 64, 65, 71, 72, 73, 127, 129, 200]):
        shape = (3, int(rng.integers(1, 30)), width)
        clips, rows = [patterned_clip(shape, i)] * 15, []
        for kind in KINDS:
            for code in (0, 1, AT_THE_EDGE):
                rows.append(warp_rows(random_matrices(shape, kind, i)[None], *shape[1:], (9, 8, 7), "bilinear"))
                rows[-1]["bilinear"] = code
        results = []
        for library in libraries:
            monkeypatch.setattr(kernels, "library", lambda library=library: library)
            results.append(warp(clips, np.concatenate(rows)))
        for a, b in zip(*results, strict=True):
            assert_pixels(a, b)


@pytest.mark.parametrize("kind", ["moved", "enlarged", "perspective"])
def test_nothing_beyond_a_clip_is_written_or_shown(kind):
    """The fast way reads and writes more than a pixel: not beyond the row's last one, nor the frame's."""
    shape = (2, 9, 70)
    matrices = geometry.translation(0.5, 0.25) @ geometry.rotation([[1e-9], [2.0]], *shape[1:])[:, 0]
    if kind != "moved":  # the last pixel comes from the middle of the frame
        matrices = geometry.affine([[1.0], [0.0]], 0, 0, 2.0, 0, 0, *shape[1:])[:, 0]
    if kind == "perspective":
        matrices[:, 2, 0] = 1e-6
    rows = warp_rows(matrices[None], *shape[1:], (1, 2, 3), "bilinear")
    ring = np.full((3, *shape, 3), 77, np.uint8)
    clip = ring[1]
    clip[:] = patterned_clip(shape)
    (a,), (b,) = warp([clip], rows), warp([clip.copy()], rows)
    ring[0], ring[2] = 0, 255
    (c,) = warp([clip], rows)
    assert_pixels(a, b)
    assert_pixels(a, c)
    table, out = np.zeros(1, kernels.CLIP), np.full((3, *shape, 3), 55, np.uint8)
    table["src"], table["dst"], table["args"] = (x.ctypes.data for x in (clip, out[1], rows))
    for field, axis in (("frames", 0), ("height", 1), ("width", 2), ("src_height", 1), ("src_width", 2)):
        table[field] = shape[axis]
    kernels._run_cpu(table, [0], [("warp", 0)], 1)
    assert (out[0] == 55).all() and (out[2] == 55).all()
    assert_pixels(out[1], a)


def test_clips_without_a_change_are_passed_on():
    clips = noise_clips((2, 5, 6), (2, 5, 6))
    matrices = np.stack([geometry.translation([0.0, 0.0], 0), geometry.translation([0.0, 1.0], 0)])
    first, second = warp(clips, warp_rows(matrices, 5, 6, (0, 0, 0), "nearest"))
    assert first is clips[0] and second is not clips[1] and np.array_equal(second[0], clips[1][0])


# ---- the ops, with torchvision's functions and our numbers


def drawn(op, shape, count=6, seed=1):
    draws = dv.Draws(seed, 0, np.arange(count), prefix="x")
    sizes = [np.full(count, n) for n in shape]
    return draws, op.draw(draws, *sizes)


def assert_like(out, theirs, interpolation):
    """Bilinear: torch counts in single precision. Nearest: a position on the border between two pixels is either's."""
    expected = theirs.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8).numpy()
    if interpolation == "bilinear":
        assert_pixels(out, expected, max_diff=1)
    else:
        assert (out != expected).any(-1).mean() <= 0.003


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 41, 57), (2, 30, 120), (2, 224, 224)], ids=str)
def test_rotations_affine_and_perspective_maps_are_torchvisions(functional, shape, interpolation):
    _, height, width = shape
    fill = torch.tensor([20.0, 130.0, 250.0])[:, None, None]
    (clip,) = noise_clips(shape)
    # torchvision blends a colour at the edge with the square of the weight; with black outside it does not. A
    # difference from the colour has black outside.
    given = video(clip).float() - fill
    options = dict(interpolation=interpolation, fill=(20, 130, 250))
    ops = (
        dv.RandomRotation((-180, 180), **options),
        dv.RandomAffine((-90, 120), (0.3, 0.2), (0.6, 1.7), (-30, 20, -10, 15), **options),
        dv.RandomPerspective(0.6, 1.0, **options),
    )
    for op in ops:
        draws, rows = drawn(op, shape, 4)
        outputs = warp([clip] * 4, rows)
        if isinstance(op, dv.RandomRotation):
            theirs = [functional.rotate(given, a, interpolation) for a in draws.uniform("angle", -180, 180)]
        elif isinstance(op, dv.RandomAffine):
            numbers = zip(
                draws.uniform("angle", -90, 120), np.round(draws.uniform("x", -0.3 * width, 0.3 * width)),
                np.round(draws.uniform("y", -0.2 * height, 0.2 * height)), draws.uniform("scale", 0.6, 1.7),
                draws.uniform("shear x", -30, 20), draws.uniform("shear y", -10, 15), strict=True,
            )  # fmt: skip
            theirs = [functional.affine(given, a, [x, y], s, [sx, sy], interpolation) for a, x, y, s, sx, sy in numbers]
        elif min(shape[1:]) > 1:
            across = draws.integers("x", int(width // 2 * 0.6) + 1, n=4)
            down = draws.integers("y", int(height // 2 * 0.6) + 1, n=4)
            start = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
            signs = [[1, 1], [-1, 1], [-1, -1], [1, -1]]
            ends = [(np.stack(xy, -1) * signs + start).tolist() for xy in zip(across, down, strict=True)]
            theirs = [functional.perspective(given, start, end, interpolation) for end in ends]
        else:  # four corners on a line: torchvision's solver has no answer
            theirs = [given] * 4
        for out, one in zip(outputs, theirs, strict=True):
            assert_like(out, one + fill, interpolation)


def test_what_is_drawn_is_distributed_as_torchvisions(functional):
    v2, size = import_torchvision()[1], torch.zeros(3, 90, 120)
    theirs = v2.RandomAffine((-20, 50), (0.1, 0.3), (0.5, 1.5), (-30, 10, -5, 25))
    torch.manual_seed(0)
    params = [theirs.make_params([size]) for _ in range(4000)]
    ours = dv.RandomAffine((-20, 50), (0.1, 0.3), (0.5, 1.5), (-30, 10, -5, 25))
    draws, rows = drawn(ours, (1, 90, 120), 4000)
    matrices = rows["matrix"][:, 0]
    expected = [
        functional._geometry._get_inverse_affine_matrix([60, 45], p["angle"], p["translate"], p["scale"], p["shear"])
        for p in params
    ]
    expected = np.array(expected).reshape(-1, 2, 3)
    for i in range(2):
        for j in range(3):
            assert alike(matrices[:, i, j], expected[:, i, j]), (i, j)
    moved = np.round(draws.uniform("x", -12, 12))
    assert same_distribution(moved.astype(int), np.array([p["translate"][0] for p in params]))
    theirs = v2.RandomPerspective(0.4, 1.0)
    coefficients = np.array([[*theirs.make_params([size])["coefficients"], 1] for _ in range(4000)]).reshape(-1, 3, 3)
    _, rows = drawn(dv.RandomPerspective(0.4, 1.0), (1, 90, 120), 4000)
    corners = np.array([[0, 0], [119, 0], [119, 89], [0, 89]])
    ours, theirs = (geometry.map_points(np.linalg.inv(m), corners) for m in (rows["matrix"][:, 0], coefficients))
    for name, places in (("ours", ours), ("theirs", theirs)):
        assert np.abs(places - places.round()).max() < 0.01, name
    for i in np.ndindex(4, 2):
        assert same_distribution(
            ours[(slice(None), *i)].round().astype(int), theirs[(slice(None), *i)].round().astype(int)
        ), i
    angles = [v2.RandomRotation((-20, 50)).make_params([size])["angle"] for _ in range(4000)]
    draws, _ = drawn(dv.RandomRotation((-20, 50)), (1, 90, 120), 4000)
    assert alike(draws.uniform("angle", -20, 50), np.array(angles))
    assert not alike(draws.uniform("angle", -20, 45), np.array(angles)), "the test can fail"


def alike(a, b):
    """Two columns of numbers have one distribution, as far as thirty bins show."""
    edges = np.quantile(np.concatenate([a, b]), np.linspace(0, 1, 31)[1:-1])
    return same_distribution(np.searchsorted(edges, a), np.searchsorted(edges, b))


@pytest.mark.parametrize("op", OPS, ids=str)
def test_each_clip_gets_its_own_row_and_frames_change_only_on_a_ramp(op):
    clips = [patterned_clip((5, 24, 32), i) for i in range(4)]
    batch = dv.augment([np.moveaxis(c, 3, 0) for c in clips], (op,), layout="CFHW", device="cpu")
    rows = batch.plan.args[dv.ops.name_of(op)]
    for clip, row, out in zip(clips, rows, batch.clips, strict=True):
        assert_pixels(out.permute(1, 2, 3, 0).numpy(), warp([clip], row[None])[0])
        assert op.describe(row)
    assert len({row.tobytes() for row in rows}) == 4
    assert rows["matrix"].shape[1] == (1 if getattr(op, "ramp", "") == "constant" else 5)
    dv.check_op(op, frames=4, sizes=((24, 32), (31, 17)), device="cpu")


@pytest.mark.parametrize("ramp", RAMPS)
def test_ramps_go_from_weak_to_strong(ramp):
    """Angles of a rotation that is always 10 degrees when it is not ramped."""
    _, rows = drawn(dv.RandomRotation((10, 10), ramp=ramp), (6, 90, 120), 500)
    angles = np.degrees(np.arctan2(rows["matrix"][..., 1, 0], rows["matrix"][..., 0, 0]))
    if ramp == "constant":
        assert angles == pytest.approx(10)
    elif ramp == "fourier":
        assert 0 <= angles.min() < 3 and 17 < angles.max() <= 20
    else:
        assert np.abs(np.diff(angles, 2)).max() < 1e-9, "a straight line"
        first, last = angles[:, 0], angles[:, -1]
        low, high = {"temporal": (1, 10), "temporal+": (5, 15), "mix": (5, 15)}[ramp]
        assert low <= first.min() < low + 0.2 and (last.max() <= high + 1e-9) and last.max() > high - 0.2
        if ramp == "temporal":
            assert last == pytest.approx(10)
        else:
            assert first + last == pytest.approx(20)
        assert ((first == last).mean() > 0.4) == (ramp == "mix")


# ---- camera motion


def test_a_covered_camera_shows_nothing_from_outside_and_no_more_than_it_must():
    op = dv.CameraMotion((0.3, 0.1), 0.6, 25.0, fill=(0, 0, 0))
    free = dv.CameraMotion((0.3, 0.1), 0.6, 25.0, cover=False)
    zoomed = 0
    for shape in ((5, 40, 64), (3, 64, 17), (1, 5, 5)):
        rows, unzoomed = drawn(op, shape, 30)[1], drawn(free, shape, 30)[1]
        outputs = warp([np.full((*shape, 3), 255, np.uint8)] * 30, rows)
        size = np.array([shape[2], shape[1]])
        corners = size * [[0, 0], [1, 0], [1, 1], [0, 1]]
        for out, row, other in zip(outputs, rows, unzoomed, strict=True):
            assert (out[:, 1:-1, 1:-1] == 255).all()  # the outermost pixels' neighbours are outside
            seen = geometry.map_points(row["matrix"], corners)
            margin = np.minimum(seen, size - seen).min()
            factor = np.sqrt(np.linalg.det(other["matrix"] @ np.linalg.inv(row["matrix"])))
            assert np.ptp(factor) < 1e-9 and factor[0] > 1 - 1e-9 and margin > -1e-9
            assert margin < 1e-9 or factor[0] < 1 + 1e-9, "no more than it must"
            zoomed += factor[0] > 1 + 1e-9
    assert 60 < zoomed < 90
    _, rows = drawn(free, (5, 40, 64), 30)
    assert any((out == 0).any() for out in warp([np.full((5, 40, 64, 3), 255, np.uint8)] * 30, rows))


def test_the_path_of_a_camera_is_smooth_and_within_its_limits():
    frames = 64
    op = dv.CameraMotion((0.2, 0.1), 0.3, 12.0, cover=False)
    _, rows = drawn(op, (frames, 100, 200), 300)
    forward = geometry.inverse(rows["matrix"])
    moved = geometry.map_points(forward, np.array([[100.0, 50.0]]))[..., 0, :] - [100, 50]
    scale = np.sqrt(np.linalg.det(forward[..., :2, :2]))
    angle = np.degrees(np.arctan2(-forward[..., 1, 0], forward[..., 0, 0]))
    for values, limit in ((moved[..., 0], 40), (moved[..., 1], 10), (np.log2(scale), 0.3), (angle, 12)):
        assert np.abs(values).max() <= limit and np.abs(values).max() > limit / 2
        assert abs(values.mean()) < limit / 8
        # Of a sine with f waves per clip, the second difference is at most (2 pi f / (frames - 1)) ** 2.
        assert np.abs(np.diff(values, 2)).max() <= limit * (2 * np.pi * 2 / (frames - 1)) ** 2
        assert np.ptp(values, 1).max() > limit / 2
    _, never = drawn(dv.CameraMotion(probability=0.0), (4, 10, 10))
    assert (never["matrix"] == np.eye(3)).all() and not dv.CameraMotion().applied(never).any()


def test_probability_is_that_of_a_clip():
    _, rows = drawn(dv.RandomPerspective(0.5, 0.3), (2, 60, 60), 4000)
    share = dv.RandomPerspective().applied(rows).mean()
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / 4000) ** 0.5


def test_tiny_frames_have_a_perspective_or_none():
    for height in range(1, 7):
        for width in range(1, 7):
            _, rows = drawn(dv.RandomPerspective(1.0, 1.0, ramp="temporal+"), (2, height, width), 200)
            assert np.isfinite(rows["matrix"]).all()
            places = geometry.map_points(geometry.inverse(rows["matrix"]), [[0, 0], [width - 1, height - 1]])
            assert places.min() > -1e-6 and (places.max((0, 1, 2)) < np.array([width, height])).all()
            assert min(height, width) > 1 or (rows["matrix"] == np.eye(3)).all()


# ---- what is refused


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dv.RandomRotation(-1), r"RandomRotation: degrees must be a number in \[0, 180\] or .*, got -1"),
        (lambda: dv.RandomRotation((20, 10)), "RandomRotation: degrees must be"),
        (lambda: dv.RandomRotation(float("nan")), "RandomRotation: degrees must be"),
        (lambda: dv.RandomRotation(interpolation="cubic"), "RandomRotation: interpolation must be one of 'nearest'"),
        (lambda: dv.RandomRotation(fill=0), "RandomRotation: fill must be three numbers"),
        (lambda: dv.RandomRotation(fill=(0.5, 0, 0)), "RandomRotation: fill must be three whole numbers"),
        (lambda: dv.RandomRotation(ramp="linear"), "RandomRotation: ramp must be one of 'constant', .* got 'linear'"),
        (lambda: dv.RandomAffine(translate=0.1), r"RandomAffine: translate must be \(x, y\)"),
        (lambda: dv.RandomAffine(translate=(0.1, 2)), "RandomAffine: translate must be"),
        (lambda: dv.RandomAffine(scale=(0, 1)), "RandomAffine: scale must be 0 < low <= high <= 1000"),
        (lambda: dv.RandomAffine(shear=90), r"RandomAffine: shear must be a number in \[0, 89\]"),
        (lambda: dv.RandomAffine(shear=(1, 2, 3)), "RandomAffine: shear must be"),
        (lambda: dv.RandomAffine(shear=(1, 2, 3, -4)), r"RandomAffine: shear must be \(low x, high x, low y, high y\)"),
        (lambda: dv.RandomPerspective(1.5), r"RandomPerspective: distortion_scale must be in \[0, 1\], got 1.5"),
        (lambda: dv.RandomPerspective(probability=2), "RandomPerspective: probability must be"),
        (lambda: dv.CameraMotion(0.5), r"CameraMotion: pan must be a number or \(x, y\) in \[0, 0.45\], got 0.5"),
        (lambda: dv.CameraMotion(zoom=-1), r"CameraMotion: zoom must be in \[0, 2\], got -1"),
        (lambda: dv.CameraMotion(speed=0), r"CameraMotion: speed must be in \(0, 100\], got 0"),
        (lambda: dv.CameraMotion(cover="yes"), "CameraMotion: cover must be one of True, False"),
        (lambda: dv.RandomVerticalFlip(2), r"RandomVerticalFlip: probability must be in \[0, 1\], got 2"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lists_are_taken_as_tuples():
    given = dv.RandomAffine([-5, 10], [0.1, 0.2], [0.5, 2.0], [-3, 3], fill=[1, 2, 3])
    same = dv.RandomAffine((-5, 10), (0.1, 0.2), (0.5, 2.0), (-3, 3), fill=(1, 2, 3))
    assert given == same and hash(given) == hash(same) and repr(given) == repr(same)


def test_edited_rows_that_do_not_fit_are_refused():
    op = dv.RandomRotation(ramp="temporal")
    _, rows = drawn(op, (4, 10, 20), 3)
    sizes = [np.full(3, n) for n in (4, 10, 20)]
    op.check(rows, *sizes)

    def edited(**fields):
        other = rows.copy()
        for name, value in fields.items():
            other[name] = value
        return other

    for bad, message in (
        (edited(num_matrices=3), "row 0 must have num_matrices 4, 1 or at least the clip's 4 frames, got 3"),
        (edited(height=11), "frames of clip 0 are 10x20, but its arguments are for 11x20"),
        (edited(matrix=np.nan), "matrices must be finite"),
        (np.zeros(3, [("angle", "f4")]), "arguments must be of dtype"),
    ):
        with pytest.raises(ValueError, match=message):
            op.check(bad, *sizes)
    with pytest.raises(ValueError, match="at least the clip's 5 frames"):
        op.check(rows, np.full(3, 5), *sizes[1:])
    clip = patterned_clip((4, 10, 21))
    with pytest.raises(ValueError, match="frames of clip 0 are 10x21"):
        warp([clip], rows[:1])
    long = np.zeros((1, 1, 2**18 + 1, 3), np.uint8)
    with pytest.raises(ValueError, match=r"warp: clip 0 is too large, \(1, 1, 262145, 3\): .* sides of 2\*\*18"):
        warp([long], warp_rows(np.ones((1, 1, 3, 3)), 1, 2**18 + 1, (0, 0, 0), "nearest"))
    assert warp([], rows[:0]) == [] and warp_dtype(3).itemsize == 16 + 3 * 72


# ---- crops that move


def test_the_box_of_a_moving_crop_goes_evenly_from_one_to_another():
    """Both boxes are those that crops which stay draw."""
    op, stays = dv.RandomResizedCrop((30, 40), shift=True), dv.RandomResizedCrop((30, 40))
    draws, rows = drawn(op, (5, 90, 120), 50)
    first = stays.draw(draws, *(np.full(50, n) for n in (5, 90, 120)))
    last = stays.draw(draws.named("x.last"), *(np.full(50, n) for n in (5, 90, 120)))
    sides = np.array([[box[name] for name in ("left", "top", "right", "bottom")] for box in (first, last)])
    corners = geometry.map_points(rows["matrix"], [[0, 0], [40, 30]]).reshape(50, 5, 4)
    for t in range(5):
        np.testing.assert_allclose(corners[:, t].T, sides[0] * (1 - t / 4) + sides[1] * t / 4, atol=1e-9)
    assert (sides[0] != sides[1]).any(0).mean() > 0.9
    _, single = drawn(op, (1, 90, 120), 50)
    assert np.array_equal(single["matrix"][:, 0], rows["matrix"][:, 0])


@pytest.mark.parametrize("shape, size", [((3, 60, 80), (33, 47)), ((2, 31, 17), 40), ((1, 1, 1), 5), ((2, 4, 90), 16)])
def test_a_moving_crop_is_slowfasts_of_each_frame(shape, size):
    """Of boxes of whole pixels: torch's interpolation of the crop; beyond its edge ours sees the frame."""
    op, both = dv.RandomResizedCrop(size, shift=True), size if isinstance(size, tuple) else (size, size)
    clips = [patterned_clip(shape, i) for i in range(5)]
    batch = dv.augment(clips, (op,), layout="FHWC", device="cpu", seed=3)
    for clip, row, out in zip(clips, batch.plan.args["RandomResizedCrop"], batch.clips.numpy(), strict=True):
        assert out.shape == (shape[0], *both, 3) and op.describe(row)
        for t in range(0, shape[0], max(shape[0] - 1, 1)):  # the first and last box are of whole pixels
            left, top, right, bottom = (
                geometry.map_points(row["matrix"][t], [[0, 0], both[::-1]]).ravel().round().astype(int)
            )
            part = video(clip[t : t + 1, top:bottom, left:right]).float()
            theirs = torch.nn.functional.interpolate(part, both, mode="bilinear", align_corners=False)[0]
            theirs = theirs.permute(1, 2, 0).round().to(torch.uint8).numpy()
            across, down = -(-both[1] // (2 * (right - left))), -(-both[0] // (2 * (bottom - top)))
            inner = (slice(down, both[0] - down), slice(across, both[1] - across))
            whole = (left, top, right, bottom) == (0, 0, shape[2], shape[1])
            assert_pixels(*((x if whole else x[inner]) for x in (out[t], theirs)), max_diff=1)


def test_moving_crops_keep_the_contract():
    op = dv.RandomResizedCrop((20, 24), shift=True)
    dv.check_op(op, frames=4, sizes=((24, 32), (31, 17)), device="cpu")
    assert not hasattr(op, "ARGS") and not hasattr(op, "in_decoder") and dv.RandomResizedCrop().ARGS is CROP
    assert not hasattr(dv.RandomResizedCrop(), "describe") and dv.RandomResizedCrop().in_decoder
    _, rows = drawn(op, (4, 30, 40), 3)
    sizes = [np.full(3, n) for n in (4, 30, 40)]
    op.check(rows, *sizes)
    for field, value, message in (
        ("num_matrices", 3, "num_matrices must be 4, at least 4 frames"),
        ("out_height", 21, "out_height and out_width must be 20 and 24"),
        ("matrix", np.nan, "the box of clip 0 leaves its 30x40 frames"),
        ("matrix", geometry.translation(30.0, 0.0), "the box of clip 0 leaves its 30x40 frames"),
    ):
        other = rows.copy()
        other[field] = value
        with pytest.raises(ValueError, match=message):
            op.check(other, *sizes)
    with pytest.raises(ValueError, match="arguments must be of dtype shift_dtype"):
        op.check(warp_rows(rows["matrix"], 30, 40, (0, 0, 0), "bilinear"), *sizes)


def test_vertical_flips(device):
    clips = [patterned_clip((2, 5, 7), i) for i in range(12)]
    batch = dv.augment(clips, (dv.RandomVerticalFlip(),), layout="FHWC", device=device)
    flipped = batch.plan.args["RandomVerticalFlip"]["flipped"]
    assert 0 < flipped.sum() < 12
    for clip, one, out in zip(clips, flipped, batch.clips.cpu().numpy(), strict=True):
        assert_pixels(out, clip[:, ::-1] if one else clip)
    dv.check_op(dv.RandomVerticalFlip(), frames=2, sizes=((24, 32), (31, 17)), device="cpu")
