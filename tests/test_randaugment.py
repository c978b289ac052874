"""What RandAugment-T draws, and that each clip of a DALI graph gets its own row."""

from pathlib import Path

import numpy as np
import pytest
from conftest import ENHANCE, SIGMAS, assert_pixels, make_plan, patterned_clip
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from dali_vidaug.graph import Graph
from dali_vidaug.ops import RandAugment, RandAugmentT, TrivialAugment
from dali_vidaug.ops.operator import extend_graph
from dali_vidaug.ops.ramp import RAMPS
from dali_vidaug.ops.randaugment import CODES, NAMES, RANGES, SUITES, args_dtype, randaugment
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws
from dali_vidaug.settings import make_settings

MANY = 20_000


def draw_randaugment(op, samples=MANY, frames=8, height=120, width=160, seed=0):
    samples = np.arange(samples) if np.ndim(samples) == 0 else np.asarray(samples)
    return op.draw(Draws(seed, 0, samples, prefix="RandAugmentT"), frames, height, width)


def chi_square_holds(counts, shares):
    expected = counts.sum() * np.asarray(shares)
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    return statistic < freedom + SIGMAS * np.sqrt(2 * freedom)


def is_uniform(values, low=0.0, high=1.0):
    counts = np.histogram(values, 20, (low, high))[0]
    return counts.sum() == np.size(values) and chi_square_holds(counts, np.full(20, 0.05))


def magnitudes(ramp, frames=8, samples=MANY, magnitude=8.0, **options):
    """(B, F) magnitudes, read back from rotations, and their signs."""
    op = RandAugmentT(1, magnitude, 0.0, ramp=ramp, ops=("Rotate",), **options)
    degrees = draw_randaugment(op, samples, frames)["value"][:, 0].astype(float)
    return np.abs(degrees) / 3, np.sign(degrees)


@pytest.mark.parametrize("suite", SUITES)
def test_ops_are_drawn_evenly_with_replacement(suite):
    pool = SUITES[suite].ops
    rows = draw_randaugment(RandAugmentT(suite=suite))
    first, second = rows["op"][:, :2].T.astype(int)
    codes = sorted({CODES.index(name.removesuffix("Abs")) for name in pool})
    assert len(codes) == len(pool) and set(first) == set(codes) and not rows["op"][:, 2:].any()
    pairs = np.bincount(first * 16 + second, minlength=256)
    pairs = pairs[[a * 16 + b for a in codes for b in codes]]
    assert chi_square_holds(pairs, np.full(len(pairs), 1 / len(pairs)))


def test_pools_of_the_suites():
    sizes = {name: len(suite.ops) for name, suite in SUITES.items()}
    assert sizes == {"monotonic": 16, "kim2020": 15, "wide": 14, "torchvision": 14, "timm": 15, "scenic": 11}
    assert set(NAMES) == set().union(*(suite.ops for suite in SUITES.values()))


def test_probability_and_noise():
    rows = draw_randaugment(RandAugmentT(1, 5.0, 0.5, probability=0.3, ramp="constant", ops=("Rotate",)))
    applied = rows["op"][:, 0] != 0
    assert abs(applied.mean() - 0.3) < SIGMAS * np.sqrt(0.3 * 0.7 / MANY)
    magnitude = np.abs(rows["value"][applied, 0, 0]) / 3
    assert abs(magnitude.mean() - 5) < SIGMAS * 0.5 / np.sqrt(len(magnitude))
    assert abs(magnitude.std() - 0.5) < 0.02
    assert not rows["value"][~applied].any()
    assert magnitudes("constant", magnitude=10.0, samples=500)[0].max() <= 10
    noisy = draw_randaugment(RandAugmentT(1, 10.0, 3.0, ops=("Rotate",)))["value"]
    assert np.abs(noisy).max() <= 30 and (np.abs(noisy) == 30).any()


def test_signs_are_fair_and_the_same_through_a_clip():
    for ramp in RAMPS:
        _, sign = magnitudes(ramp)
        assert (sign.min(1) >= 0).sum() + (sign.max(1) <= 0).sum() >= MANY  # never both + and -
        assert abs((sign.sum(1) > 0).mean() - 0.5) < SIGMAS * 0.5 / np.sqrt(MANY)
    both = np.sign(draw_randaugment(RandAugmentT(2, ops=("ShearX",)))["value"][..., 0])
    assert abs((both[:, 0] == both[:, 1]).mean() - 0.5) < SIGMAS * 0.5 / np.sqrt(MANY)  # each op its own


def test_constant_and_temporal():
    assert np.allclose(magnitudes("constant")[0], 8, atol=1e-5)
    m, _ = magnitudes("temporal")
    assert np.allclose(m[:, -1], 8, atol=1e-5) and is_uniform(m[:, 0], 0.1 - 1e-6, 8)
    assert np.allclose(m, np.linspace(m[:, 0], m[:, -1], 8, axis=1), atol=1e-5)


def test_temporal_plus_and_mix():
    m, _ = magnitudes("temporal+", magnitude=6.0)
    half = (m[:, -1] - m[:, 0]) / 2
    assert np.allclose(m[:, 0] + m[:, -1], 12, atol=1e-4) and is_uniform(half, -3, 3)
    assert np.allclose(m, np.linspace(m[:, 0], m[:, -1], 8, axis=1), atol=1e-5)
    m, _ = magnitudes("mix", magnitude=6.0)
    flat = (m == m[:, :1]).all(1)
    assert abs(flat.mean() - 0.5) < SIGMAS * 0.5 / np.sqrt(MANY)
    assert is_uniform((m[~flat, -1] - m[~flat, 0]) / 2, -3, 3)
    rows = draw_randaugment(RandAugmentT(3, 5.0, ramp="mix", ops=("Rotate",)))["value"]
    assert np.isin((rows == rows[..., :1]).all(2).sum(1), (0, 3)).all()  # all ops of a clip or none


def test_ends_are_clipped_before_they_are_joined():
    m, _ = magnitudes("temporal+", magnitude=10.0)
    assert m.max() <= 10 + 1e-5
    assert np.allclose(m, np.linspace(m[:, 0], m[:, -1], 8, axis=1), atol=1e-5)


def test_fourier_is_a_mean_of_stretched_waves():
    m, _ = magnitudes("fourier", magnitude=5.0)
    assert m.min() >= 0 and m.max() <= 10 and m.std(1).min() > 0
    # By its definition, one clip after the other.
    draws = Draws(0, 0, np.arange(50), prefix="RandAugmentT")
    cuts = np.sort(draws.uniform("fourier.weight", n=2), 1)
    for i in range(50):
        waves = []
        for b in range(3):
            f = draws.uniform("fourier.frequency", 0.2, 1.5, n=3)[i, b]
            a = draws.uniform("fourier.amplitude", n=3)[i, b]
            o = draws.integers("fourier.offset", 8, n=3)[i, b]
            wave = np.sin(2 * np.pi * f * np.arange(16) / 7)[o : o + 8]
            wave = (wave - wave.min()) / (wave.max() - wave.min())
            waves.append(5 - a * 5 + 2 * a * 5 * wave)
        weights = [cuts[i, 0], cuts[i, 1] - cuts[i, 0], 1 - cuts[i, 1]]
        assert np.allclose(m[i], np.dot(weights, waves), atol=1e-5)


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("suite", SUITES)
def test_values_are_in_range_for_any_number_of_frames(suite, ramp):
    for frames in (1, 2, 7):
        rows = draw_randaugment(
            RandAugmentT(8, float(SUITES[suite].highest), ramp=ramp, suite=suite, ops=NAMES), 2000, frames
        )
        assert rows["value"].shape == (2000, 8, frames) and np.isfinite(rows["value"]).all()
        for name in ("Rotate", "Posterize", "Solarize", "Color"):
            values = rows["value"][rows["op"] == CODES.index(name)]
            low, high, signed = RANGES[suite][name]
            low, high = (2 * low - high, high) if signed else sorted((low, high))
            assert values.min() >= low - 1e-4 and values.max() <= high + 1e-4


def test_clips_of_different_lengths():
    op = RandAugmentT(1, ramp="temporal+", ops=("Rotate",))
    draws = Draws(0, 0, np.arange(3))
    together = op.draw(draws, np.array([1, 5, 9]), 120, 160)["value"][:, 0]
    for i, frames in enumerate((1, 5, 9)):
        alone = op.draw(Draws(0, 0, [i]), frames, 120, 160)["value"][0, 0]
        assert np.array_equal(together[i, :frames], alone) and (together[i, frames:] == alone[-1]).all()


def test_monotonic_values():
    def value(name, magnitude):
        op = RandAugmentT(1, magnitude, 0.0, ramp="constant", ops=(name,))
        return sorted({float(f"{v:.4g}") for v in draw_randaugment(op, 64)["value"][:, 0, 0]})

    assert value("Rotate", 10.0) == [-30, 30] and value("ShearY", 5.0) == [-0.15, 0.15]
    assert value("TranslateX", 10.0) == [-72, 72] and value("TranslateY", 10.0) == [-54, 54]  # of 160 x 120 pixels
    assert value("TranslateYAbs", 1.0) == [-10, 10]
    assert value("Posterize", 0.0) == [8] and value("Posterize", 9.0) == [4] and value("Posterize", 4.0) == [6]
    assert value("Solarize", 2.5) == [192] and value("SolarizeAdd", 9.0) == [99]
    assert value("Brightness", 10.0) == [0.1, 1.9] and value("Sharpness", 0.0) == [1]


def test_kim2020_values():
    def values(name, magnitude, **options):
        op = RandAugmentT(1, magnitude, 0.0, ops=(name,), suite="kim2020", **options)
        return draw_randaugment(op, 200)["value"][:, 0]

    assert np.allclose(values("Color", 15.0, ramp="constant"), 1) and np.allclose(
        values("Contrast", 5.0, ramp="constant"), 0.4
    )
    assert np.allclose(values("Solarize", 5.0, ramp="constant"), 256 / 6)
    assert (values("Posterize", 5.0, ramp="constant") == 1).all()  # 2/3 of a bit
    assert set(np.abs(values("TranslateXAbs", 30.0, ramp="constant")).ravel()) == {100}
    bits = values("Posterize", 22.0)
    rotation = np.abs(values("Rotate", 22.0))  # degrees and magnitudes are the same number; the same draws
    ends = np.maximum(rotation[:, [0, -1]] * 4 // 30, 1)
    assert np.array_equal(bits, np.floor(np.linspace(ends[:, 0], ends[:, 1], 8, axis=1) + 1e-9))
    assert set(bits.ravel()) == {1, 2, 3, 4} and (bits[:, 0] != bits[:, -1]).any()


def timm_arguments(name, level):
    """What level_to_arg of timm's increasing ops says, before a sign: written from its definition."""
    level /= 10.0
    return {
        "Rotate": level * 30, "ShearX": level * 0.3, "ShearY": level * 0.3, "TranslateX": level * 0.45 * 160,
        "TranslateY": level * 0.45 * 120, "Posterize": 4 - int(level * 4), "Solarize": 256 - int(level * 256),
        "SolarizeAdd": int(level * 110), **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), level * 0.9),
    }[name]  # fmt: skip


@pytest.mark.parametrize("magnitude", [0.0, 0.3, 5.0, 6.66, 7.0, 7.4, 9.9, 10.0])
def test_timm_values(magnitude):
    pool = [name for name in SUITES["timm"].ops if name in RANGES["timm"]]
    assert len(pool) == 12
    for name in pool:
        op = RandAugmentT(1, magnitude, 0.0, 1.0, "constant", (name,), "timm")
        values = draw_randaugment(op, 64)["value"][:, 0, 0]
        wanted = timm_arguments(name, magnitude)
        if name in ENHANCE:
            assert np.allclose(np.unique(np.abs(values - 1)), wanted, atol=1e-6) and (
                len(set(values)) == 2 or not wanted
            )
        else:
            assert np.allclose(np.abs(values), wanted, atol=1e-4), name
            signed = name[:5] in ("Rotat", "Shear", "Trans")
            assert set(np.sign(values)) == ({-1, 1} if signed and wanted else {np.sign(wanted)})


def test_timm_is_applied_half_of_the_time_with_noise_on_the_magnitude():
    op = RandAugment(4, 7.0, 0.5, 0.5, suite="timm")
    rows = draw_randaugment(op)
    assert (rows["bilinear"] == 2).all() and not rows["per_clip"].any() and (rows["fill"] == 128).all()
    counts = np.bincount(rows["op"][:, :4].ravel(), minlength=16)  # Identity stands for those that are not applied
    assert chi_square_holds(counts, [0.5] + [0.5 / 15] * 15)
    degrees = np.abs(rows["value"][:, :4, 0][rows["op"][:, :4] == CODES.index("Rotate")])
    assert abs(degrees.mean() - 21) < 0.1 and abs(degrees.std() - 1.5) < 0.1
    assert (rows["value"][..., :1] == rows["value"]).all()


def test_scenic_values():
    """Magnitudes 20 and 15 of ranges that were made for 10: x / 10 * 1.8 + 0.1, int(x / 10 * n)."""
    expected = {
        20.0: {"Posterize": 8, "Solarize": 512, "SolarizeAdd": 220, **dict.fromkeys(ENHANCE, 3.7)},
        15.0: {"Posterize": 6, "Solarize": 384, "SolarizeAdd": 165, **dict.fromkeys(ENHANCE, 2.8)},
        29.0: {"Posterize": 8, "Solarize": 742, "SolarizeAdd": 319, **dict.fromkeys(ENHANCE, 5.32)},
    }
    for magnitude, values in expected.items():
        for name, value in values.items():
            op = RandAugmentT(1, magnitude, None, 1.0, "constant", (name,), "scenic")
            assert np.allclose(draw_randaugment(op, 8)["value"][:, 0], value), (name, magnitude)
    clip = patterned_clip((2, 17, 23))
    for name in ("Posterize", "Solarize"):  # they change nothing at 20
        row = draw_randaugment(RandAugmentT(1, 20.0, ops=(name,), suite="scenic", ramp="constant"), 1, 2, 17, 23)
        assert np.array_equal(randaugment([clip], row, 1)[0], clip)


def test_kim2020_alone_is_the_setting_of_the_papers_code():
    """Two of 15 ops, always applied, magnitude 5, which ramps by up to half of it either way, and no noise."""
    given = RandAugmentT(2, 5.0, 0.0, 1.0, "temporal+", suite="kim2020")
    rows = draw_randaugment(RandAugmentT(suite="kim2020"), 2000)
    assert (rows == draw_randaugment(given, 2000)).all()
    degrees = np.abs(rows["value"][:, 0][rows["op"][:, 0] == CODES.index("Rotate")]).astype(float)
    assert (
        np.allclose((degrees[:, 0] + degrees[:, -1]) / 2, 5, atol=1e-4) and 2.5 <= degrees.min() <= degrees.max() <= 7.5
    )
    assert (draw_randaugment(RandAugmentT(), 50) == draw_randaugment(RandAugmentT(2, 9.0, 0.5), 50)).all()
    assert Recipe.parse(repr(Recipe(ops=(RandAugmentT(suite="kim2020"),)))).ops[0] == RandAugmentT(suite="kim2020")


@pytest.mark.parametrize("suite, most", [("kim2020", 20.0), ("monotonic", 20 / 3)])
def test_ramps_are_clipped_where_one_and_a_half_times_the_magnitude_is_too_much(suite, most):
    """Above magnitude 20 of 30: where the paper's code stops with an assertion. And above 6.67 of 10."""
    highest = SUITES[suite].highest

    def ends(magnitude):
        op = RandAugmentT(1, magnitude, 0.0, ops=("Rotate",), suite=suite)
        return np.abs(draw_randaugment(op)["value"][:, 0][:, [0, -1]].astype(float)) * highest / 30

    assert np.allclose(ends(most - 1e-4).mean(1), most, atol=1e-3)  # none is clipped: the mean is the magnitude
    above = ends(1.2 * most)
    clipped = above.max(1) > highest - 1e-4
    assert abs(clipped.mean() - 1 / 2) < SIGMAS * 0.5 / np.sqrt(MANY)  # 1.2 + d > 1.5, d ~ U[0, 0.6)
    assert (above[~clipped].mean(1) > 1.2 * most - 1e-3).all() and (above[clipped].mean(1) < 1.2 * most).all()


def test_the_default_magnitude_is_clipped_in_most_ramps():
    """As docs/randaugment.md says: without noise 78 %, and the mean magnitude is 8.3, not 9."""
    m, _ = magnitudes("temporal+", magnitude=9.0)
    assert abs((m.max(1) > 10 - 1e-4).mean() - 3.5 / 4.5) < 0.02 and abs(m.mean() - 8.32) < 0.03
    page = (Path(__file__).parent.parent / "docs" / "randaugment.md").read_text()
    assert "78 % of the ramps" in page and "8.3" in page


def test_a_clip_of_one_frame_has_the_magnitude_of_the_ramps_begin():
    """The paper's code divides by zero there."""
    one, two = (magnitudes("temporal+", frames, 500, suite="kim2020", magnitude=5.0)[0] for frames in (1, 2))
    assert np.allclose(one[:, 0], two[:, 0])


def test_a_draw_depends_on_its_address_alone():
    op = RandAugmentT(ramp="mix")
    many, one = draw_randaugment(op, [5, 9, 2]), draw_randaugment(op, [9])
    assert many[1] == one[0]
    assert (draw_randaugment(op, 50) != draw_randaugment(op, 50, seed=1)).any()
    longer = draw_randaugment(RandAugmentT(5, ramp="mix"), 50)  # more ops: the first ones stay
    assert np.array_equal(longer["op"][:, :2], draw_randaugment(op, 50)["op"][:, :2])
    assert np.array_equal(longer["value"][:, :2], draw_randaugment(op, 50)["value"])


PINNED = """
TranslateY 54 48.03 42.07 px, Rotate 15.58 22.79 30 degrees
TranslateY -54 -38.93 -23.86 px, ShearY -0.1955 -0.2478 -0.3 px per px
Rotate 21.83 25.92 30 degrees, Contrast 0.5567 0.3283 0.1 times
Color 0.5014 0.3007 0.1 times, ShearX -0.3 -0.2533 -0.2067 px per px
ShearY -0.3 -0.2542 -0.2084 px per px, Solarize 17.1 20.86 24.62 threshold
Solarize 0 36.26 72.53 threshold, Identity
Color 0.2122 0.1874 0.1626 times, Equalize
AutoContrast, Equalize
ShearX -0.246 -0.2672 -0.2884 px per px, AutoContrast
TranslateX 67.4 68.1 68.81 px, Color 1.9 1.786 1.671 times
"""


def test_ten_pinned_clips():
    rows = draw_randaugment(RandAugmentT(), 10, frames=3, seed=7)
    lines = [", ".join(RandAugmentT().describe(row)) for row in rows]
    assert lines == PINNED.strip().splitlines()


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(magnitude=11), r"magnitude must be in \[0, 10\], got 11"),
        (dict(magnitude=float("nan")), "magnitude must be"),
        (dict(magnitude=31, suite="kim2020"), r"magnitude must be in \[0, 30\], got 31"),
        (dict(magnitude=31, suite="torchvision"), r"magnitude must be in \[0, 30\], got 31"),
        (dict(magnitude=(5.0, 4.0)), "magnitude must be 0 <= low <= high <= 10"),
        (dict(magnitude_std=-1), "magnitude_std must be"),
        (dict(num_ops=0), r"num_ops must be in \[1, 8\], got 0"),
        (dict(num_ops=9), "num_ops"),
        (dict(probability=1.5), r"probability must be in \[0, 1\], got 1.5"),
        (dict(ramp="linear"), "ramp must be one of 'constant', 'temporal', .*'fourier', got 'linear'"),
        (dict(ops=("Rotate", "Blur")), r"ops must be some of Identity, .*TranslateYAbs.*, got \['Blur'\]"),
        (dict(ops=()), "ops must be some of"),
        (dict(suite="mine"), "suite must be one of"),
        (dict(statistics="batch"), "statistics must be one of"),
        (dict(interpolation="cubic"), "interpolation must be one of"),
        (dict(fill=(0, 0, 256)), r"fill must be three numbers in \[0, 255\], got \(0, 0, 256\)"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(bad, message):
    with pytest.raises(ValueError, match=f"RandAugmentT: {message}"):
        RandAugmentT(**bad)


def test_randaugment_and_trivialaugment():
    assert RandAugment(3, 7.0) == RandAugmentT(3, 7.0, ramp="constant")
    op = TrivialAugment("temporal")
    assert (op.num_ops, op.ramp, op.suite) == (1, "temporal", "wide")
    rows = draw_randaugment(TrivialAugment(ops=("Rotate",)))
    assert is_uniform(np.abs(rows["value"][:, 0, 0]), 0, 135)
    assert (rows["value"] == rows["value"][..., :1]).all()


def test_defaults_of_the_suites():
    rows = draw_randaugment(RandAugmentT(), 2), draw_randaugment(RandAugmentT(suite="kim2020"), 2)
    assert [[r[f].tolist() for r in rows[0][:1]] for f in ("fill", "bilinear", "per_clip")] == [[[128] * 3], [1], [1]]
    assert [[r[f].tolist() for r in rows[1][:1]] for f in ("fill", "bilinear", "per_clip")] == [[[0] * 3], [0], [0]]
    other = draw_randaugment(RandAugmentT(fill=(1, 2, 3), interpolation="nearest", statistics="frame"), 1)[0]
    assert other["fill"].tolist() == [1, 2, 3] and not other["bilinear"] and not other["per_clip"]


def test_plans_are_described_and_saved(tmp_path):
    recipe = Recipe(ops=(RandAugmentT(1, ramp="temporal+", ops=("Rotate",)), RandAugmentT(1, ops=("Invert",))))
    assert Recipe.parse(repr(recipe)) == recipe
    plan = make_plan(recipe, [(3, 17, 23)])
    values = " ".join(f"{v:.4g}" for v in plan.args["RandAugmentT"]["value"][0, 0])
    text = plan.describe(0)
    assert f"RandAugmentT\n    Rotate {values} degrees\n" in text and text.endswith("RandAugmentT_2\n    Invert")
    assert len(set(values.split())) == 3
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert all((again.args[name] == plan.args[name]).all() for name in plan.args) and again.recipe == recipe


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_each_clip_of_a_graph_gets_its_row(interpolation):
    recipe = Recipe(ops=(RandAugmentT(2, ramp="temporal+", interpolation=interpolation),))
    shapes = [(4, 17, 23)] * 6
    clips = list(map(patterned_clip, shapes))  # all alike: they differ by their rows only
    graph = Graph(make_plan(recipe, shapes), make_settings(device="cpu", num_threads=2), batch_size=6)
    for seed in range(3):
        plan = make_plan(recipe, shapes, seed)
        outputs = [np.asarray(out) for out in graph.run(plan, clips)]
        expected = randaugment(clips, plan.args["RandAugmentT"], 2)
        assert len({e.tobytes() for e in expected}) == 6
        for out, one in zip(outputs, expected, strict=True):
            assert_pixels(out, one.transpose(3, 0, 1, 2))


def test_the_graph_of_a_gpu_can_be_built():
    pytest.importorskip("cupy")

    class Args:
        num_threads, fields = 1, args_dtype(2, 4)

        def rows(self):
            return fn.external_source(name="rows", dtype=types.UINT8, ndim=1)

    with Pipeline(2, 1, 0):
        clips = fn.external_source(name="clips", dtype=types.UINT8, ndim=4, layout="FHWC").gpu()
        assert extend_graph(fn, RandAugmentT(), clips, Args()).device == "gpu"
