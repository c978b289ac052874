"""What the mixing ops draw, and that it is what the papers and torchvision define."""

import numpy as np
import pytest
from conftest import SIGMAS, draw_rows, fits_distribution, same_distribution

from dali_vidaug.ops import (
    CubeCutMix,
    CutMix,
    FadeMixUp,
    FrameCutMix,
    LabelSmoothing,
    Mix,
    MixUp,
    MovingCutMix,
    OneOf,
    RandomErasing,
    VideoMix,
)
from dali_vidaug.ops.blend import blend, exact, is_neutral, new_rows, own_share
from dali_vidaug.ops.mix import FAMILIES, beta, cut, mix_up, partners
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws

MANY = 100_000
SIZE = (16, 45, 60)  # frames, height, width
CUTS = ("CutMix", "FrameCutMix", "CubeCutMix")


def draw(op, samples=MANY, size=SIZE, **options):
    """Rows for clips of one size; see ``conftest.draw_rows``."""
    return draw_rows(op, samples, size, **options)


@pytest.mark.parametrize(
    "alpha, distribution",
    [
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
        (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))),
        (3.0, lambda x: 10 * x**3 - 15 * x**4 + 6 * x**5),
    ],
)
def test_shares_are_beta_distributed(alpha, distribution):
    uniform = np.linspace(0, 1, 1001)
    assert np.abs(distribution(beta(uniform, alpha)) - uniform).max() < 1e-5  # the inverse of the distribution
    share = own_share(draw(MixUp(alpha), size=(2, 1, 1)))
    assert fits_distribution(share, distribution)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 8.0, 300.0, 1000.0])
def test_other_alphas_have_the_right_variance(alpha):
    values = beta(Draws(0, 0, np.arange(MANY)).uniform("x"), alpha)
    variance = 0.25 / (2 * alpha + 1)
    assert 0 <= values.min() and values.max() <= 1 and abs(values.mean() - 0.5) < SIGMAS * (variance / MANY) ** 0.5
    assert abs(values.var() / variance - 1) < 0.02


@pytest.mark.parametrize("alpha", [1.0, 8.0])
@pytest.mark.parametrize("family", [*CUTS, "MovingCutMix"])
def test_boxes_are_distributed_as_kim_et_al_draw_them(family, alpha):
    rng = np.random.default_rng(1)
    own = rng.beta(alpha, alpha, MANY)
    powers = {"CutMix": (None, 1 / 2), "FrameCutMix": (1, None), "CubeCutMix": (1 / 3, 1 / 3)}
    in_time, in_space = powers.get(family, powers["CutMix"])
    rows, volume = draw(Mix(family, alpha)), 1
    for length, power, low, high in zip(
        SIZE, (in_time, in_space, in_space), ("first", "top", "left"), ("last", "bottom", "right"), strict=True
    ):
        begin, end = (rows[name].reshape(MANY, -1)[:, 0] for name in (low, high))
        assert begin.min() >= 0 and (begin <= end).all() and rows[high].max() <= length
        if power is None:
            assert (begin == 0).all() and (end == length).all()
            volume = volume * length
            continue
        side = (length * (1 - own) ** power).astype(int)
        centre = rng.integers(0, length, MANY)
        expected = np.clip(centre - side // 2, 0, length), np.clip(centre + side // 2, 0, length)
        assert (
            same_distribution(begin, expected[0])
            and same_distribution(end, expected[1])
            and same_distribution(end - begin, expected[1] - expected[0])
        )
        volume = volume * (expected[1] - expected[0])
    if family != "MovingCutMix":
        ours = np.round(own_share(rows) * 50).astype(int)
        assert same_distribution(ours, np.round((1 - volume / np.prod(SIZE)) * 50).astype(int))


def test_moving_boxes_keep_their_sides_except_at_the_border():
    rows = draw(MovingCutMix(), 2000)
    centre = (rows["top"] + rows["bottom"]) / 2
    within = (rows["top"] > 0).all(1) & (rows["bottom"] < SIZE[1]).all(1)
    assert within.sum() > 300
    height = rows["bottom"] - rows["top"]
    assert (height[within, 0] == height[within, 1]).all() and (centre[within, 0] != centre[within, 1]).mean() > 0.8


def test_fade_mix_up():
    rows = draw(FadeMixUp())
    own = 1 - rows["outside"].astype(float)
    mean, change = own.mean(1), (own[:, 1] - own[:, 0]) / 2
    assert own.min() >= 0 and own.max() <= 1 and (rows["inside"] == rows["outside"]).all()
    assert fits_distribution(mean, lambda x: x)
    most = np.minimum(mean, 1 - mean)
    wide = most > 0.01  # weights are rounded to 1/32768
    assert fits_distribution(np.clip(change[wide] / most[wide], -1, 1), lambda x: (x + 1) / 2, -1, 1)
    assert np.abs(own_share(rows) - mean).max() < 1 / 32768  # the label's weight is the ramp's mean
    (row,) = draw(FadeMixUp(), 2)[:1]
    clips = [np.zeros((16, 1, 1, 3), np.uint8), np.full((16, 1, 1, 3), 255, np.uint8)]
    rows = np.stack([row, row])
    rows["partner"], rows["height"], rows["width"] = [1, 0], 1, 1
    own = 1 - row["outside"].astype(float)
    expected = 255 * (1 - np.linspace(own[0], own[1], 16))
    assert np.abs(blend(clips, rows)[0][:, 0, 0, 0] - expected).max() < 0.51


@pytest.mark.parametrize("family", ["CutMixUp", "FrameCutMixUp", "CubeCutMixUp"])
def test_cut_mix_up(family):
    """As in the paper's code: the label's weight is that of one of three cases."""
    rows = draw(Mix(family))
    own = 1 - rows["outside"][:, 0].astype(float)
    rows, own = rows[own != 0.5], own[own != 0.5]  # rounded: see the test below
    assert fits_distribution(own, lambda x: 3 * x**2 - 2 * x**3)
    inside = 1 - rows["inside"][:, 0].astype(float)
    plain = inside == own
    assert len(rows) > MANY - 20 and abs(plain.mean() - 0.5) < SIGMAS * 0.5 / MANY**0.5
    assert (inside[~plain] == (own[~plain] < 0.5)).all()
    boxes = rows.copy()
    boxes["inside"], boxes["outside"] = 1, 0
    kept = own_share(boxes)  # share of the voxels outside the box
    expected = np.select([plain, own >= 0.5], [own, own * kept], own * kept + 1 - kept)
    assert np.abs(own_share(rows) - expected).max() < 1e-6
    alone = draw(Mix(family.removesuffix("Up")))
    for low in ("first", "top", "right"):
        assert same_distribution(rows[low].reshape(len(rows), -1)[:, 0], alone[low].reshape(MANY, -1)[:, 0])


def test_a_weight_is_compared_with_one_half_before_it_is_rounded():
    """Of a million clips, those whose weight rounds to one half: the paper's code knows on which side they are."""
    samples = np.arange(1_000_000)
    drawn = beta(Draws(0, 0, samples, prefix="CutMixUp").uniform("mixup"), 2.0)
    near = samples[np.abs(drawn - 0.5) < 0.5 / 32768]
    rows, drawn = draw(Mix("CutMixUp"), near), drawn[near]
    assert (rows["outside"] == 0.5).all() and 20 < len(near) < 80
    boxed = rows["inside"][:, 0] != 0.5
    assert (rows["inside"][boxed, 0] == (drawn[boxed] > 0.5)).all()
    assert (drawn[boxed] < 0.5).sum() > 5 and (drawn[boxed] > 0.5).sum() > 5


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_probability(probability):
    rows = draw(MixUp(probability=probability))
    sigma = (probability * (1 - probability) / MANY) ** 0.5
    assert abs((~is_neutral(rows)).mean() - probability) <= SIGMAS * sigma + 1e-4  # and shares that round to nothing
    others = draw(MixUp(), 100)
    same = ~is_neutral(rows[:100])
    assert (rows["outside"][:100][same] == others["outside"][same]).all()  # what is applied does not depend on it


def test_partners_are_others_and_everyone_equally_often():
    for size in range(2, 9):
        counts = np.zeros((size, size), int)
        for batch in range(2000):
            partner = partners(Draws(0, 0, np.arange(size), batch=batch))
            assert sorted(partner) == list(range(size))
            counts[np.arange(size), partner] += 1
        assert (np.diag(counts) == 0).all()
        others, mean = counts[~np.eye(size, dtype=bool)], 2000 / (size - 1)
        assert np.abs(others - mean).max() < SIGMAS * mean**0.5 + 1
    assert partners(Draws(0, 0, [7])).tolist() == [0]


@pytest.mark.parametrize("family", FAMILIES)
def test_extreme_cases(family):
    assert is_neutral(draw(Mix(family), 1)).all()  # a clip alone
    for size in ((1, 1, 1), (1, 224, 224), (2, 3, 1), (7, 17, 23)):
        rows = draw(Mix(family), 500, size)
        own = own_share(rows)
        assert np.isfinite(own).all() and own.min() >= 0 and own.max() <= 1
        clips = [np.full((*size, 3), i % 256, np.uint8) for i in range(500)] if np.prod(size) < 1000 else []
        blend(clips, rows[: len(clips)])
    draws = Draws(0, 0, np.arange(2000))
    for own in (0.0, 1.0):
        rows = new_rows(2000, *SIZE)
        rows["partner"] = np.roll(np.arange(2000), 1)
        if "Cut" in family:
            cut(rows, family, np.full(2000, own), draws)
        if family.endswith("MixUp"):
            mix_up(rows, family, np.full(2000, own), draws)
        share = own_share(rows)
        if family in ("MixUp", "FadeMixUp"):
            assert (share == own).all()
        elif family in (*CUTS, "MovingCutMix") and own == 1:
            assert (share == 1).all() and is_neutral(rows).all()
        else:
            assert share.min() >= 0 and share.max() <= 1


def test_only_partners_depend_on_the_batch():
    for op in (CubeCutMix(), Mix("cutmixup", probability=0.5), OneOf()):
        small, large = draw(op, 4, batch=3), draw(op, 16, batch=3)[:4]
        own = [name for name in small.dtype.names if name != "partner"]
        assert (small[own] == large[own]).all()  # everything but the partner
        assert (draw(op, [2], batch=3)[own][0] != small[own][2]) == (not is_neutral(small)[2])  # alone: not mixed
        assert (draw(op, 4, batch=9)[own] == small[own]).all()
    assert any((draw(MixUp(), 16, batch=b)["partner"] != draw(MixUp(), 16)["partner"]).any() for b in range(1, 4))


@pytest.mark.parametrize("family", FAMILIES)
def test_granularity_of_the_batch(family):
    op = Mix(family, probability=0.5, granularity="batch")
    applied = 0
    for batch in range(200):
        rows = draw(op, 8, batch=batch)
        own = [name for name in rows.dtype.names if name != "partner"]
        assert (rows[own] == rows[own][0]).all() and len(set(rows["partner"])) == 8
        applied += rows["inside"][0].any() or rows["outside"][0].any()
    assert 60 < applied < 140
    assert (draw(op, 4, batch=1)[own] == draw(op, 8, batch=1)[own][:4]).all()


def test_one_of_chooses_each_as_often_as_it_should():
    ops = (CutMix(), FadeMixUp(), RandomErasing(probability=1.0))
    rows = draw(OneOf(ops, weights=(2, 1, 1)), MANY)
    erased = rows["partner"] == -1
    faded = rows["outside"].any(1)
    for share, expected in ((erased.mean(), 0.25), (faded.mean(), 0.25)):
        assert abs(share - expected) < SIGMAS * 0.5 / MANY**0.5 + 1e-4
    kinds = []
    for batch in range(400):
        rows = draw(OneOf(ops, granularity="batch"), 4, batch=batch)
        kind = np.where(rows["partner"] == -1, 2, rows["outside"].any(1))
        assert (kind == kind[0]).all()
        kinds.append(kind[0])
    assert np.abs(np.bincount(kinds) - 400 / 3).max() < SIGMAS * 400**0.5 / 2
    never = draw(OneOf(ops, weights=(0, 1, 0)), 1000)
    assert (never["partner"] >= 0).all() and never["outside"].any()
    twice = draw(OneOf((MixUp(), MixUp())), 1000)
    assert len(np.unique(twice["outside"][:, 0])) > 950


def test_names_and_spellings():
    assert Mix("framemix") == Mix("FRAMECUTMIX") == FrameCutMix() and Mix("cubemixup") == Mix("CubeCutMixUp")
    assert [VideoMix(mode) for mode in ("S", "T", "ST")] == [CutMix(), FrameCutMix(), CubeCutMix()]
    recipe = Recipe(ops=(CubeCutMix(), OneOf((MixUp(0.8), CutMix()), (1.0, 2.0)), CubeCutMix(), LabelSmoothing()))
    assert recipe.names == ["CubeCutMix", "OneOf", "CubeCutMix_2", "LabelSmoothing"]
    assert Recipe.parse(repr(recipe)) == recipe


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CutMix(probability=1.5), r"CutMix: probability must be in \[0, 1\], got 1.5"),
        (lambda: Mix("cubemix", probability=float("nan")), "CubeCutMix: probability"),
        (lambda: MixUp(alpha=0), r"MixUp: alpha must be in \(0, 1000\], got 0"),
        (lambda: Mix("cutmux"), "Mix: family must be one of CutMix, .*MixUp, FadeMixUp, got 'cutmux'"),
        (lambda: FadeMixUp(granularity="frame"), "FadeMixUp: granularity must be one of 'clip', 'batch', got 'frame'"),
        (lambda: VideoMix("TS"), "VideoMix: mode must be 'S', 'T' or 'ST', got 'TS'"),
        (lambda: OneOf(()), "OneOf: ops must be"),
        (lambda: OneOf((CutMix,)), "OneOf: ops must be"),
        (lambda: OneOf((LabelSmoothing(),)), "OneOf: ops must be ops that mix or erase"),
        (lambda: OneOf(weights=(1, 2, 3)), "OneOf: weights must be 2 numbers"),
        (lambda: OneOf(weights=(0, 0)), "OneOf: weights must be 2 numbers"),
        (lambda: OneOf(granularity="epoch"), "OneOf: granularity must be one of 'clip', 'batch', got 'epoch'"),
        (lambda: LabelSmoothing(1.0), r"LabelSmoothing: amount must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_clips_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"FrameCutMix: .* one size, got 4x10x20 and 4x20x10 .* put RandomResizedCrop"):
        FrameCutMix().draw(Draws(0, 0, [0, 1]), 4, np.array([10, 20]), np.array([20, 10]))


def test_weights_are_exact():
    rows = draw(MixUp(), 1000)
    assert (rows["outside"] * 32768 % 1 == 0).all()
    assert exact(0.0) == 0 and exact(1.0) == 1 and exact(1 / 65536) * 32768 == 1


PINNED = """
CutMix: clip 1, own share 0.3878, weight 1 in rows [0, 29), columns [3, 60)
CutMix: clip 0, own share 0.7304, weight 1 in rows [0, 26), columns [32, 60)
FrameCutMix: clip 1, own share 0.6875, weight 1 in frames [0, 5)
FrameCutMix: unchanged
CubeCutMix: clip 1, own share 0.8211, weight 1 in frames [0, 12), rows [22, 45), columns [32, 60)
CubeCutMix: clip 0, own share 0.8658, weight 1 in frames [9, 16), rows [0, 23), columns [6, 42)
MovingCutMix: clip 1, own share 0.6568, weight 1 in rows [3 to 25, 35 to 45), columns [0, 37 to 34)
MovingCutMix: clip 0, own share 0.5398, weight 1 in rows [0 to 4, 27 to 38), columns [25 to 12, 60 to 58)
CutMixUp: clip 1, own share 0.2602, weight 0.7398
CutMixUp: clip 0, own share 0.7012, weight 1 in rows [0, 15), columns [32, 60), 0.1696 around it
FrameCutMixUp: clip 1, own share 0.29, weight 1 in frames [6, 16), 0.2266 around it
FrameCutMixUp: clip 0, own share 0.4103, weight 0 in frames [0, 4), 0.7862 around it
CubeCutMixUp: clip 1, own share 0.5251, weight 0.4749
CubeCutMixUp: clip 0, own share 0.5443, weight 0 in frames [8, 16), rows [0, 24), columns [0, 55), 0.6031 around it
MixUp: clip 1, own share 0.6347, weight 0.3653
MixUp: clip 0, own share 0.9936, weight 0.006439
FadeMixUp: clip 1, own share 0.744, weight 0.2567 to 0.2553
FadeMixUp: clip 0, own share 0.3865, weight 0.9014 to 0.3257
"""


def test_pinned_rows():
    lines = []
    for family in FAMILIES:
        op = Mix(family)
        lines += [
            f"{family}: " + ", ".join(op.describe(row)).replace(" of the batch", "") for row in draw(op, 2, seed=7)
        ]
    assert lines == PINNED.strip().splitlines()
