"""Masks by their definitions: exact counts, distributions, addresses, options and grids that are refused."""

import dataclasses
import itertools
import json
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import SIGMAS, noise_clips, same_distribution
from test_plan import EqualVideos

import dali_vidaug as dv
from dali_vidaug.masks import MASKS, Grid
from dali_vidaug.rng import MAX_EPOCH, Draws
from dali_vidaug.tokens import token_lists

DRAWS = 100_000
MASKS_16 = (dv.TubeMask(), dv.RandomMask(), dv.RunningCellMask(), dv.MultiBlockMask(), dv.CubeMask())
IDS = [type(mask).__name__ for mask in MASKS_16]


def drawn(mask, grid, count, *, seed=0, epoch=0, step=0):
    """Masks of so many clips: (count, *grid)."""
    return mask.draw(Draws(seed, epoch, np.arange(count), step=step), Grid(*grid))


def drawn_in_parts(mask, grid, count, size=5000):
    """As ``drawn``, in batches, so that it takes little memory."""
    return np.concatenate([drawn(mask, grid, size, epoch=e, step=e) for e in range(count // size)])


def codes(masks):
    """A number for each of small masks, (N, ...) bool: bit n is token n."""
    flat = masks.reshape(len(masks), -1)
    return flat @ (1 << np.arange(flat.shape[1]))


def assert_probabilities(values, probabilities):
    """Integers come as often as their probabilities, {value: share}, say, by a chi-square test."""
    found, counts = np.unique(values, return_counts=True)
    assert set(found.tolist()) <= set(probabilities), "something that cannot come"
    seen = dict(zip(found.tolist(), counts.tolist(), strict=True))
    expected = np.array(list(probabilities.values())) * len(values)
    assert expected.min() > 20
    statistic = ((np.array([seen.get(value, 0) for value in probabilities]) - expected) ** 2 / expected).sum()
    assert statistic < len(expected) + SIGMAS * (2 * len(expected)) ** 0.5, statistic


# ---- Counts


@pytest.mark.parametrize(
    "mask, clip, masked, total",
    [
        (dv.TubeMask(0.9), (16, 224, 224), 1408, 1568),  # VideoMAE: 160 are visible
        (dv.TubeMask(0.75), (16, 224, 224), 1176, 1568),
        (dv.TubeMask(0.9, patch=14), (16, 224, 224), 1840, 2048),  # VideoMAE V2 g/14: 230 of 256 in a frame
        (dv.RandomMask(0.9), (16, 224, 224), 1411, 1568),  # 157 are visible
        (dv.RandomMask(keep=0.1), (16, 224, 224), 1412, 1568),  # MAE for video: 156 are visible
        (dv.RandomMask(keep=1 - 0.9), (16, 224, 224), 1412, 1568),
        (dv.RunningCellMask(0.5), (16, 224, 224), 784, 1568),
        (dv.RunningCellMask(0.75), (16, 224, 224), 1176, 1568),
        (dv.TubeMask(0.5, patch=(16, 32), tubelet=1), (4, 64, 96), 24, 48),
    ],
)
def test_counts_of_published_models(mask, clip, masked, total):
    masks = dv.draw_plan(Videos(clip), recipe_of(mask, clip), np.arange(8)).masks[0]
    assert masks[0].size == total and masks.sum((1, 2, 3)).tolist() == [masked] * 8


@pytest.mark.parametrize("grid", [(8, 14, 14), (1, 7, 5), (3, 2, 11), (8, 16, 16)])
def test_counts_are_exact_for_every_ratio(grid):
    frame, total = grid[1] * grid[2], grid[0] * grid[1] * grid[2]
    for ratio in np.linspace(0.03, 0.99, 33).tolist():
        if int(ratio * frame):
            tubes = drawn(dv.TubeMask(ratio), grid, 3)
            assert (tubes[:, 0].sum((1, 2)) == int(ratio * frame)).all() and (tubes == tubes[:, :1]).all()
        random, kept = drawn(dv.RandomMask(ratio), grid, 3), drawn(dv.RandomMask(keep=ratio), grid, 3)
        assert (random.sum((1, 2, 3)) == int(ratio * total)).all()
        assert ((~kept).sum((1, 2, 3)) == int(ratio * total)).all()
        if ratio >= 0.25 and not grid[1] % 2 and not grid[2] % 2:
            assert (drawn(dv.RunningCellMask(ratio), grid, 3).sum((2, 3)) == int(4 * ratio) * frame // 4).all()
        if round(ratio * total) >= frame // 5 and min(grid[1:]) > 4:
            assert (drawn(dv.CubeMask(ratio), grid, 3).sum((1, 2, 3)) <= round(ratio * total)).all()


def test_cubes_mask_nearly_all_that_they_should():
    """At most 157 of 392, as MaskFeat, and a few less where a hundred cuboids in a row did not suit."""
    counts = drawn(dv.CubeMask(), (8, 7, 7), 2000).sum((1, 2, 3))
    assert counts.max() == 157 and 140 < counts.min() < 157 and (counts == 157).mean() > 0.3


# ---- Distributions


def test_every_set_of_tubes_is_as_likely_as_any_other():
    masks = drawn(dv.TubeMask(0.5), (3, 2, 3), DRAWS)
    sets = [sum(1 << n for n in chosen) for chosen in itertools.combinations(range(6), 3)]
    assert_probabilities(codes(masks[:, 1]), dict.fromkeys(sets, 1 / 20))


def test_every_set_of_random_tokens_is_as_likely_as_any_other():
    masks = drawn(dv.RandomMask(0.4), (2, 2, 2), DRAWS)
    sets = [sum(1 << n for n in chosen) for chosen in itertools.combinations(range(8), 3)]
    assert_probabilities(codes(masks), dict.fromkeys(sets, 1 / 56))


@pytest.mark.parametrize("ratio, queue", [(0.25, "1000"), (0.5, "1100"), (0.75, "1110")])
def test_running_cells(ratio, queue):
    """The queue of a cell, read from the phase on, row by row; each frame begins one further."""
    found = drawn(dv.RunningCellMask(ratio), (5, 4, 6), DRAWS)
    expected = []
    for phase in range(4):
        mask = np.zeros((5, 4, 6), bool)
        for frame, row, column in np.ndindex(5, 4, 6):
            mask[frame, row, column] = queue[(2 * (row % 2) + column % 2 + phase + frame) % 4] == "1"
        expected.append(mask)
    which = (found[:, None] == np.array(expected)).all((2, 3, 4))
    assert (which.sum(1) == 1).all()
    assert_probabilities(which.argmax(1), dict.fromkeys(range(4), 0.25))


def block_sizes(generator, count, grid, scale, temporal, aspect):
    """The definition again: sizes of blocks, (count, 3)."""
    share, shape = generator.uniform(*scale, count), generator.uniform(*aspect, count)
    frames = np.maximum(1, np.floor(grid[0] * generator.uniform(*temporal, count)))
    tokens = np.floor(grid[1] * grid[2] * share)
    height, width = np.round((tokens * shape) ** 0.5), np.round((tokens / shape) ** 0.5)
    return np.stack([frames, np.minimum(height, grid[1]), np.minimum(width, grid[2])], 1).astype(int)


@pytest.mark.parametrize("count", [10_000, pytest.param(DRAWS, marks=pytest.mark.slow)])
def test_sizes_of_blocks(count):
    options = {"scale": (0.1, 0.6), "temporal_scale": (0.2, 0.9), "aspect": (0.5, 2.0)}
    mask, grid = dv.MultiBlockMask(3, **options), Grid(8, 12, 10)
    sizes = np.array([mask.block_size(Draws(0, step % 7, [0], step=step), grid) for step in range(count)])
    expected = block_sizes(np.random.default_rng(0), count, grid, *options.values())
    for axis in range(3):
        assert same_distribution(sizes[:, axis], expected[:, axis]), axis
    assert same_distribution(sizes @ [10_000, 100, 1], expected @ [10_000, 100, 1])  # and all together


def test_places_of_blocks():
    """One block of 2 x 2 x 3 in a grid of 3 x 4 x 5: every one of its 2 * 3 * 3 places, as often."""
    mask = dv.MultiBlockMask(1, scale=0.3, temporal_scale=0.7, aspect=(2 / 3, 2 / 3))
    masks = drawn(mask, (3, 4, 5), DRAWS)
    sets = []
    for start, top, left in np.ndindex(2, 3, 3):
        block = np.zeros((1, 3, 4, 5), bool)
        block[0, start : start + 2, top : top + 2, left : left + 3] = True
        sets.append(int(codes(block)[0]))
    assert_probabilities(codes(masks), dict.fromkeys(sets, 1 / 18))


def test_blocks_that_leave_no_context_are_drawn_anew():
    """Six blocks of a token in a grid of 2 x 2: all 4**6 cases counted, but for those that cover everything."""
    masks = drawn(dv.MultiBlockMask(6, scale=0.25, aspect=(1, 1)), (1, 2, 2), DRAWS)
    cases = [sum({1 << place for place in places}) for places in itertools.product(range(4), repeat=6)]
    left = [case for case in cases if case != 15]
    assert len(left) < 0.7 * len(cases)
    assert_probabilities(codes(masks), {code: left.count(code) / len(left) for code in set(left)})


def test_blocks_of_whole_frames_leave_the_others():
    """A block may be as large as a frame if it is shorter than the clip; and as long if it is smaller."""
    for scale in (0.1, 0.5):
        masks = drawn(dv.MultiBlockMask(1, 1.0, scale, aspect=(1, 1)), (8, 6, 6), 50)
        assert (masks.all((2, 3)).sum(1) == max(1, int(8 * scale))).all() and (
            masks.any((2, 3)) == masks.all((2, 3))
        ).all()
    largest = dv.MultiBlockMask(1, (0.1, 0.8), aspect=(1, 1))  # 28 tokens: 5 x 5, of 6 x 6
    assert max(drawn(largest, (2, 6, 6), 1, step=step).mean() for step in range(200)) == 25 / 36


@pytest.mark.parametrize("mask", [dv.MultiBlockMask(8, 0.15), dv.MultiBlockMask(2, 0.7)], ids=["8 blocks", "2 blocks"])
@pytest.mark.parametrize("count", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_unions_of_blocks(mask, count):
    """How many tokens V-JEPA 2's masks cover, and which rows, compared with blocks that are put down one by one."""
    generator, grid = np.random.default_rng(1), (8, 16, 16)
    found = np.concatenate([drawn(mask, grid, 1, epoch=i, step=i)[:, 0] for i in range(count)])
    expected = np.ones((count, 16, 16), bool)
    sizes = block_sizes(generator, count, grid, (mask.scale,) * 2, (1, 1), mask.aspect)
    for union, (_, height, width) in zip(expected, sizes.tolist(), strict=True):
        while union.all():
            union[:] = False
            for _ in range(mask.num_blocks):
                top, left = generator.integers(17 - height), generator.integers(17 - width)
                union[top : top + height, left : left + width] = True
    assert same_distribution(found.sum((1, 2)) // 6, expected.sum((1, 2)) // 6)
    for place in (0, 3, 8, 15):
        assert same_distribution(found[:, place].sum(1), expected[:, place].sum(1))
        assert same_distribution(found[:, :, place].sum(1), expected[:, :, place].sum(1))


def cube_masks(generator, grid, wanted, count):
    """The definition of MaskFeat's cuboids again, for so many clips side by side."""
    masks, misses, active = np.zeros((count, *grid), bool), np.zeros(count, int), np.arange(count)
    while len(active):
        size = len(active)
        area = generator.uniform(grid[1] * grid[2] // 5, grid[1] * grid[2], size)
        shape = np.exp(generator.uniform(np.log(0.3), np.log(1 / 0.3), size))
        height, width = np.round((area * shape) ** 0.5).astype(int), np.round((area / shape) ** 0.5).astype(int)
        suits, inside = (height < grid[1]) & (width < grid[2]), True
        for axis, length in enumerate((generator.integers(1, grid[0] + 1, size), height, width)):
            length = np.minimum(length, grid[axis])[:, None, None, None]
            first = generator.integers(0, grid[axis] - length + 1)
            places = np.arange(grid[axis]).reshape([-1 if k == axis else 1 for k in range(3)])
            inside = inside & (places >= first) & (places < first + length)
        new = (inside & ~masks[active]).sum((1, 2, 3))
        left = wanted - masks[active].sum((1, 2, 3))
        suits &= (0 < new) & (new <= left)
        masks[active[suits]] |= inside[suits]
        misses[active] = np.where(suits, 0, misses[active] + 1)
        active = active[(left - new * suits > 0) & (misses[active] < 100)]
    return masks


@pytest.mark.parametrize("count", [6000, pytest.param(DRAWS, marks=pytest.mark.slow)])
def test_cubes(count):
    """How many tokens are masked, in all, in each frame, row and column, compared with the definition."""
    generator, grid = np.random.default_rng(2), (8, 7, 7)
    found = drawn_in_parts(dv.CubeMask(), grid, count, 2000)
    expected = np.concatenate([cube_masks(generator, grid, 157, 2000) for _ in range(count // 2000)])
    assert same_distribution(found.sum((1, 2, 3)), expected.sum((1, 2, 3)))
    for place in (0, 1, 3, 6):
        assert same_distribution(found[:, place].sum((1, 2)), expected[:, place].sum((1, 2)))
        assert same_distribution(found[:, :, place].sum((1, 2)), expected[:, :, place].sum((1, 2)))
        assert same_distribution(found[:, :, :, place].sum((1, 2)), expected[:, :, :, place].sum((1, 2)))
    shares, deviation = found.mean(0) - expected.mean(0), (0.24 * 2 / count) ** 0.5
    assert np.abs(shares).max() < 5 * deviation and np.std(shares) < 1.2 * deviation


# ---- Addresses


class Videos(EqualVideos):
    """A million equal videos of frames of one size."""

    def __init__(self, clip=(16, 224, 224)):
        self.size = clip[1:]

    def frame_sizes(self, samples):
        return tuple(np.full(len(samples), side) for side in self.size)


def recipe_of(masks, clip=(16, 224, 224)):
    masks = masks if isinstance(masks, tuple) else (masks,)
    return dv.Recipe(dv.ClipSampling(num_frames=clip[0]), (dv.CenterCrop(clip[1:]), dv.Normalize()), masks=masks)


@pytest.mark.parametrize("mask", MASKS_16, ids=IDS)
def test_a_mask_depends_on_its_address_alone(mask):
    """On seed, epoch, sample, view and repeat; not on other clips, their order, their group, or other masks."""
    recipe = recipe_of(mask)
    everything = dv.draw_plan(Videos(), recipe, [5, 5, 7, 9], 3, 2, [0, 1, 0, 0], [0, 0, 1, 1], step=40).masks[0]
    alone = dv.draw_plan(Videos(), recipe, [7], 3, 2, batch=4, step=40).masks[0]
    assert (alone[0] == everything[2]).all()
    beside = dv.draw_plan(Videos(), recipe_of((mask, Checkerboard())), [9, 5], 3, 2, [0, 1], step=40)
    assert (beside.masks[0] == everything[[3, 1]]).all()
    first, *others = (
        dv.draw_plan(Videos(), recipe, np.arange(6), **{"seed": 3, "epoch": 2, **other}).masks[0]
        for other in ({}, {"seed": 4}, {"epoch": 3}, {"views": 1}, {"repeat_index": 1})
    )
    assert all((first != other).any() for other in others) and len(np.unique(first, axis=0)) > 1


def test_blocks_of_a_step_have_one_size_and_places_of_their_own():
    recipe = recipe_of(dv.MultiBlockMask(1, (0.1, 0.5)))

    def sizes(step, **options):
        masks = dv.draw_plan(Videos(), recipe, np.arange(12), step=step, **options).masks[0][:, 0]
        return {(int(m.any(1).sum()), int(m.any(0).sum())) for m in masks}, masks

    several = {"views": np.arange(12) % 2, "repeat_index": np.arange(12) // 6, "batch": np.arange(12) // 3}
    found = [sizes(step, **several)[0] for step in range(0, 160, 4)]
    assert all(len(size) == 1 for size in found) and len(set.union(*found)) > 10
    assert len(np.unique(sizes(0, **several)[1], axis=0)) > 8
    other = [dv.draw_plan(Videos(), recipe, [0], epoch=epoch, step=4).masks[0].sum() for epoch in range(8)]
    assert len(set(other)) > 4


def test_masks_of_one_kind_in_a_recipe_are_drawn_apart():
    one, other = dv.draw_plan(Videos(), recipe_of((dv.TubeMask(), dv.TubeMask())), np.arange(4)).masks
    assert (one != other).any((1, 2, 3)).all()


PINNED = ["#######", "####.##", "#######", "..#####", "#####.#", "#######", "####.##"]  # of sample 3, seed 42, epoch 1


def test_a_mask_is_pinned():
    """A change of this is a change of everybody's training: raise PLAN_VERSION and say so in the changelog."""
    plan = dv.draw_plan(Videos((16, 112, 112)), recipe_of(dv.TubeMask(), (16, 112, 112)), [3], 42, 1)
    assert ["".join(".#"[masked] for masked in row) for row in plan.masks[0][0, 0].tolist()] == PINNED


# ---- Options, grids, recipes


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dv.TubeMask(1.0), r"TubeMask: ratio must be in \(0, 1\), got 1.0"),
        (lambda: dv.TubeMask(0), r"TubeMask: ratio must be in \(0, 1\), got 0"),
        (lambda: dv.TubeMask("a lot"), "TubeMask: ratio must be .* got 'a lot'"),
        (lambda: dv.TubeMask(float("nan")), "TubeMask: ratio must be .* got nan"),
        (lambda: dv.TubeMask(patch=0), r"TubeMask: patch must be an int or \(height, width\) in .* got 0"),
        (lambda: dv.TubeMask(patch=(16, 16, 2)), r"TubeMask: patch must be .* got \(16, 16, 2\)"),
        (lambda: dv.TubeMask(patch=16.0), "TubeMask: patch must be .* got 16.0"),
        (lambda: dv.TubeMask(tubelet=True), "TubeMask: tubelet must be an int in .* got True"),
        (lambda: dv.RandomMask(0.5, keep=0.5), "RandomMask: either ratio or keep"),
        (lambda: dv.RandomMask(keep=1), r"RandomMask: keep must be in \(0, 1\), got 1"),
        (lambda: dv.RunningCellMask(0.2), r"RunningCellMask: ratio must be in \[0.25, 1\): .* got 0.2"),
        (lambda: dv.MultiBlockMask(0), "MultiBlockMask: num_blocks must be an int in .* got 0"),
        (lambda: dv.MultiBlockMask(scale=0), "MultiBlockMask: scale must be above 0, got 0"),
        (lambda: dv.MultiBlockMask(scale=(0.5, 0.2)), r"MultiBlockMask: scale must be .* got \(0.5, 0.2\)"),
        (lambda: dv.MultiBlockMask(temporal_scale=1.5), "MultiBlockMask: temporal_scale must be .* got 1.5"),
        (lambda: dv.MultiBlockMask(aspect=(2, 1)), r"MultiBlockMask: aspect must be .* got \(2, 1\)"),
        (lambda: dv.CubeMask(area=(9,)), r"CubeMask: area must be .* got \(9,\)"),
        (lambda: dv.CubeMask(aspect=1), "CubeMask: aspect must be .* got 1"),
        (lambda: dv.Recipe(masks=dv.TubeMask()), "Recipe: masks must be several"),
        (lambda: dv.Recipe(masks=(dv.TubeMask,)), r"Recipe: a mask needs .* write TubeMask\(...\)"),
        (lambda: dv.Recipe(masks=(dv.Normalize(),)), "Recipe: a mask needs draw, patch and tubelet, got Normalize"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    "mask, clip, message",
    [
        (dv.TubeMask(), (16, 224, 220), "TubeMask: tokens of 2 x 16 x 16 (frames x height x width) do not divide clips "
         "of 16 x 224 x 220"),
        (dv.TubeMask(), (16, 216, 224), "TubeMask: tokens of 2 x 16 x 16 (frames x height x width) do not divide clips "
         "of 16 x 216 x 224"),
        (dv.CubeMask(), (15, 224, 224), "CubeMask: tokens of 2 x 32 x 32 (frames x height x width) do not divide clips "
         "of 15 x 224 x 224"),
        (dv.TubeMask(0.1), (16, 32, 32), "TubeMask: ratio 0.1 masks 0 of the 4 tokens of a frame"),
        (dv.RandomMask(keep=0.01), (2, 64, 64), "RandomMask: keep 0.01 masks 16 of the 16 tokens of a clip"),
        (dv.RunningCellMask(), (16, 112, 112), "RunningCellMask: cells of 2 x 2 tokens do not divide a grid of 7 x 7"),
        (dv.MultiBlockMask(1, 1.0), (16, 224, 224), "MultiBlockMask: a block of scale 1 and temporal_scale 1 may cover "
         "all of a grid of 8 x 14 x 14 tokens"),
        (dv.MultiBlockMask(1, (0.1, 0.99)), (16, 224, 224), "MultiBlockMask: a block of scale 0.99 and temporal_scale 1"
         " may cover all"),
        (dv.MultiBlockMask(1, 0.001), (16, 224, 224), "MultiBlockMask: a block of scale 0.001 and aspect 0.75 to 1.5 "
         "may be less than a token of 14 x 14"),
        (dv.MultiBlockMask(60, 0.56, patch=56), (2, 224, 224), "MultiBlockMask: 60 blocks of 1 x 3 x 3 tokens cover "
         "all of a grid of 1 x 4 x 4 in 1000 tries; take fewer or smaller ones"),
        (dv.CubeMask(area=(200, 300)), (16, 224, 224), "CubeMask: 157 of 392 tokens are to be masked, but no cuboid of "
         "200 in a frame and aspect 0.3 to 3.33 is that small, and lower and narrower than a grid of 7 x 7"),
        (dv.CubeMask(0.02), (16, 224, 224), "CubeMask: 8 of 392 tokens are to be masked, but no cuboid of 9 in a "),
    ],
)  # fmt: skip
def test_clips_that_a_mask_does_not_suit_are_refused(mask, clip, message):
    with pytest.raises(ValueError) as error:
        dv.draw_plan(Videos(clip), recipe_of(mask, clip), np.arange(4))
    assert str(error.value).startswith(message)


def test_clips_of_several_sizes_have_no_mask():
    class Sizes(EqualVideos):
        def frame_sizes(self, samples):
            return np.where(samples % 2, 64, 32), np.full(len(samples), 64)

    with pytest.raises(
        ValueError, match=r"^TubeMask: masks need clips of one size \(F x H x W\), got 16x32x64 and 16x"
    ):
        dv.draw_plan(Sizes(), dv.Recipe(ops=(), masks=(dv.TubeMask(),)), [0, 1, 2])


def test_a_recipe_reads_back_its_masks_and_shows_none_that_it_has_not():
    recipe = dv.Recipe(masks=[*MASKS_16, dv.RandomMask(keep=np.float64(0.1), patch=(np.int64(8), 16))])
    assert dv.Recipe.parse(repr(recipe)) == recipe and "np." not in repr(recipe)
    assert dv.MultiBlockMask(scale=[0.1, 0.5], aspect=[1, 2]) == dv.MultiBlockMask(scale=(0.1, 0.5), aspect=(1, 2))
    assert dv.TubeMask(patch=[16, 8]) == dv.TubeMask(patch=(16, 8)) and hash(dv.CubeMask(area=[9, 20]))
    assert "masks" not in repr(dv.Recipe()) and dv.Recipe.parse(repr(dv.Recipe())) == dv.Recipe()
    assert {type(mask) for mask in MASKS_16} == {mask for mask in MASKS if not hasattr(mask, "after_decoding")}


@dataclass(frozen=True)
class Checkerboard:
    """A mask of a user's own."""

    patch: int = 16
    tubelet: int = 2
    result: str = ""

    def draw(self, draws, grid):
        places = np.indices(grid).sum(0) % 2 == 0
        if self.result:
            return {"few": places[None], "float": np.zeros((len(draws), *grid)), "none": None}[self.result]
        return places ^ (draws.integers("colour", 2) == 1)[:, None, None, None]


def test_a_mask_of_ones_own():
    recipe = recipe_of(Checkerboard())
    (masks,) = dv.draw_plan(Videos(), recipe, np.arange(40)).masks
    assert len(np.unique(masks, axis=0)) == 2 and (masks.sum((1, 2, 3)) == 784).all()
    assert dv.Recipe.parse(repr(recipe), [Checkerboard]) == recipe
    for result, got in (("few", r"\(1, 8, 14, 14\) bool"), ("float", r"\(4, 8, 14, 14\) float64"), ("none", "None")):
        with pytest.raises(TypeError, match=rf"^Checkerboard.draw must return \(4, 8, 14, 14\) bool, got {got}$"):
            dv.draw_plan(Videos(), recipe_of(Checkerboard(result=result)), np.arange(4))
    with pytest.raises(dv.OpError, match="^Checkerboard.draw: KeyError: 'wrong'"):
        dv.draw_plan(Videos(), recipe_of(Checkerboard(result="wrong")), np.arange(4))


# ---- Plans


def test_a_plan_keeps_its_masks(tmp_path):
    recipe = recipe_of((dv.TubeMask(), dv.MultiBlockMask(patch=(16, 32))))
    plan = dv.draw_plan(Videos(), recipe, np.arange(5), 3, step=12)
    plan.save(tmp_path / "plan.json")
    plan, again = dataclasses.replace(plan, manifest=None), dv.Plan.load(tmp_path / "plan.json")
    assert again.step == 12 and all((a == b).all() for a, b in zip(plan.masks, again.masks, strict=True))
    assert "TubeMask 1408 of 1568 tokens (8 x 14 x 14)" in plan.describe(0)
    assert f"MultiBlockMask {plan.masks[1][2].sum()} of 784 tokens (8 x 14 x 7)" in again.describe(2)
    assert "masks: TubeMask 1408 of 1568 tokens (8 x 14 x 14); MultiBlockMask " in repr(plan)
    assert (plan.row(3).masks[1] == plan.masks[1][3:4]).all() and plan.part(slice(0)).masks[0].shape == (0, 8, 14, 14)


def test_a_plan_without_masks_is_saved_as_before(tmp_path):
    dv.draw_plan(Videos(), dv.Recipe(), [1]).save(tmp_path / "plan.json")
    assert "masks" not in json.loads((tmp_path / "plan.json").read_text())


def test_a_saved_mask_can_be_edited(tmp_path):
    """Its rows are text, "#" for a masked token."""
    path = tmp_path / "plan.json"
    dv.draw_plan(Videos(), recipe_of(dv.TubeMask(patch=112, ratio=0.5)), [1]).save(path)
    document = json.loads(path.read_text())
    document["masks"][0][0][3] = ["#.", ".."]
    path.write_text(json.dumps(document))
    assert dv.Plan.load(path).masks[0][0, 3].tolist() == [[True, False], [False, False]]
    for wrong, message in (
        (["#.", ".x"], "masks must be of '#' and '.', got"),
        (["#.", "."], "ValueError"),
        ("none", "is not a plan"),
    ):
        document["masks"][0][0][3] = wrong
        path.write_text(json.dumps(document))
        with pytest.raises(ValueError, match=message):
            dv.Plan.load(path)
    document["masks"] = []
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="0 masks, but the recipe's are TubeMask"):
        dv.Plan.load(path)


# ---- Lists of tokens


def test_lists_of_tokens_are_those_of_the_mask():
    plan = dv.draw_plan(Videos(), recipe_of((dv.TubeMask(), dv.CubeMask())), np.arange(6))
    visible, masked = token_lists(plan, 0)
    assert visible.shape == (6, 160) and masked.shape == (6, 1408) and visible.dtype == np.int64
    for i in range(6):
        flat = plan.masks[0][i].reshape(-1).tolist()
        assert visible[i].tolist() == [n for n, yes in enumerate(flat) if not yes]
        assert masked[i].tolist() == [n for n, yes in enumerate(flat) if yes]
    with pytest.raises(IndexError, match="^tokens: there is no mask 2; the recipe's are TubeMask, CubeMask$"):
        token_lists(plan, 2)


def test_longer_lists_lose_tokens_anywhere():
    """Equal lengths, of each clip's own tokens, rising; each token as likely to stay. A cut at the end is not."""
    recipe, shares, cut_shares = recipe_of(dv.MultiBlockMask(), (16, 256, 256)), [], []
    for step in range(400):
        plan = dv.draw_plan(Videos((16, 256, 256)), recipe, np.arange(8) + 8 * step, step=step)
        for tokens, chosen in zip(token_lists(plan, 0), (~plan.masks[0], plan.masks[0]), strict=True):
            flat = chosen.reshape(8, -1)
            assert tokens.shape == (8, flat.sum(1).min()) and (np.diff(tokens) > 0).all()
            assert all(flat[i, tokens[i]].all() for i in range(8))
            kept = np.zeros_like(flat)
            np.put_along_axis(kept, tokens, True, axis=1)
            cut = flat & (flat.cumsum(1) <= tokens.shape[1])
            for found, into in ((kept, shares), (cut, cut_shares)):
                into.append(found.reshape(8, 8, -1).sum((0, 2)))
    kept, cut = np.sum(shares, 0), np.sum(cut_shares, 0)
    assert np.ptp(kept) < 0.01 * kept.mean() and cut[-1] < 0.7 * cut[0]
    again = token_lists(dv.draw_plan(Videos((16, 256, 256)), recipe, plan.samples, step=step), 0)
    assert (again[1] == tokens).all()


def test_each_token_of_a_longer_list_stays_as_often():
    """A clip with one masked token beside clips with four of six: by a chi-square test."""
    masked = np.zeros((2, 1, 2, 3), bool)
    masked[0, 0, 0, 0] = masked[1, 0, 0, 1:] = masked[1, 0, 1, 1:] = True
    recipe, stays = recipe_of(dv.TubeMask(0.5, patch=(16, 16)), (2, 32, 48)), []
    for epoch in range(4000):
        plan = dv.Plan(
            recipe,
            5,
            epoch,
            0,
            [3, 4],
            [0, 0],
            np.zeros((2, 2), int),
            dict.fromkeys(recipe.names),
            masks=(masked,),
        )
        visible, one = token_lists(plan, 0)
        assert visible[1].tolist() == [0, 3] and one[0].tolist() == [0]
        stays.append(int(one[1, 0]))
    assert_probabilities(np.array(stays), dict.fromkeys([1, 2, 4, 5], 0.25))


# ---- Clips in memory


def test_clips_in_memory_get_masks():
    clips = noise_clips((4, 32, 32), (4, 32, 32))
    batch = dv.augment(clips, (dv.Resize((64, 64)),), masks=(dv.TubeMask(0.5), dv.RandomMask(0.5)), device="cpu")
    assert [tuple(mask.shape) for mask in batch.masks] == [(2, 2, 4, 4)] * 2
    assert batch.tokens(1).visible.shape == (2, 16)
    with pytest.raises(ValueError, match="do not divide clips of 4 x 32 x 32"):
        dv.augment(clips, (), masks=(dv.TubeMask(patch=20),), device="cpu")
    with pytest.raises(ValueError, match="^augment: Later is drawn while videos are decoded, and these clips are in"):
        dv.augment(clips, (), masks=(Later(),), device="cpu")


class Later(Checkerboard):
    """A mask that needs what is known when clips are decoded."""

    after_decoding = True


def test_a_mask_may_be_drawn_later(tmp_path):
    recipe = recipe_of((dv.TubeMask(), Later()))
    plan = dv.draw_plan(Videos(), recipe, np.arange(3))
    plan.save(tmp_path / "plan.json")
    for one in (plan, dv.Plan.load(tmp_path / "plan.json", [Later]), plan.part(slice(1, 3)), plan.row(1)):
        assert one.masks[0] is not None and one.masks[1] is None
    assert "Later after decoding" in repr(plan)
    with pytest.raises(ValueError, match="^tokens: Later is drawn when the clips are decoded"):
        token_lists(plan, 1)
    with pytest.raises(ValueError, match="^Plan: Later must be \\(3, T, H, W\\) bool, got \\(2, 8, 14, 14\\)$"):
        dataclasses.replace(plan, masks=(plan.masks[0], plan.masks[0][:2]))


def test_the_last_addresses():
    """The largest seed, epoch and samples: nothing overflows, each token is masked as often as it should be."""
    draws = Draws(2**64 - 1, MAX_EPOCH - 1, np.arange(2**32 - 20_000, 2**32))
    shares = dv.RandomMask(0.3).draw(draws, Grid(2, 3, 5)).mean(0)
    assert np.abs(shares - 0.3).max() < SIGMAS * (0.21 / 20_000) ** 0.5
