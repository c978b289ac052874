"""Other recipes in the course of training: which batch has which, and that nothing else changes."""

import copy
import gc
import json
import pickle
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RECIPE, same_batch, take_batches

import dali_vidaug as dv
from dali_vidaug.graph import Graph
from dali_vidaug.schedule import Schedule
from dali_vidaug.state import go_on, identity

SMALL, LARGE = (
    dv.Recipe(dv.ClipSampling(frames), (dv.RandomResizedCrop(size), dv.Normalize()))
    for frames, size in ((2, 16), (4, 24))
)
MANIFEST = dict.fromkeys(("paths", "labels", "classes", "ranges", "rows"), "x")


def make_loader(manifest, recipe, batch_size=4, **options):
    return dv.VideoLoader(manifest, recipe, batch_size, **{"seed": 3, "device": "cpu", "num_threads": 1, **options})


# ---- Without pixels


def counted(size, base, drop_last, stages, unit, epochs):
    """The steps of a training as a program would count them that takes sample after sample.

    Returns:
        For each step (epoch, index, place of its first sample, samples, stage, turn).
    """
    steps, taken = [], 0
    for epoch in range(epochs):
        place, index, last, turn = 0, 0, None, 0
        while place < size:
            reached = epoch if unit == "epoch" else taken
            stage = max(k for k, (start, _) in enumerate(stages) if start <= reached)
            turn = 0 if stage != last else turn + 1
            scales = stages[stage][1]
            full = base * scales[turn % len(scales)]
            assert full == int(full)
            if place + full > size and drop_last:
                break
            count = min(int(full), size - place)
            steps.append((epoch, index, place, count, stage, turn % len(scales)))
            place, index, last, taken = place + count, index + 1, stage, taken + 1
    return steps


def drawn_stages(rng, base, size, unit):
    """Random stages whose steps are whole multiples of 12 samples, and can be filled."""
    scales = [Fraction(k, base // 12) for k in range(1, size // 12 + 1)]
    starts = [
        0,
        *sorted(rng.choice(np.arange(1, 6 if unit == "epoch" else 25), int(rng.integers(0, 4)), False).tolist()),
    ]
    return [(start, tuple(rng.choice(scales, int(rng.integers(1, 4))).tolist())) for start in starts]


def schedule_of(stages, unit, **options):
    starts, scales = zip(*((start, tuple(map(float, scales))) for start, scales in stages), strict=True)
    return Schedule(starts=starts, scales=scales, by_step=unit == "step", **options)


@pytest.mark.parametrize("trainings", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_stages_against_a_program_that_counts(trainings):
    """Many random trainings: the steps, the order of samples, and the same for any number of ranks."""
    rng = np.random.default_rng(trainings)
    for _ in range(trainings):
        base, size = 12 * int(rng.integers(1, 4)), int(rng.integers(12, 120))
        unit, drop_last = str(rng.choice(["epoch", "step"])), bool(rng.integers(2))
        stages, epochs = drawn_stages(rng, base, size, unit), 4
        common = dict(num_samples=size, seed=int(rng.integers(9)), drop_last=drop_last)
        expected = counted(size, base, drop_last, stages, unit, epochs)
        ranks = int(rng.choice([1, 2, 3, 4, 6]))
        mine = [
            schedule_of(stages, unit, batch_size=base // ranks, num_shards=ranks, shard_index=k, **common)
            for k in range(ranks)
        ]
        orders = [
            Schedule(size, size, common["seed"], drop_last=False).batch(epoch, 0).samples for epoch in range(epochs)
        ]
        seen, groups = {epoch: [] for epoch in range(epochs)}, {}
        for epoch, index, place, count, stage, turn in expected:
            step = mine[0].steps.at(epoch, index)
            assert (step.first, step.stage, step.turn) == (place, stage, turn)
            parts = [one.batch(epoch, index) for one in mine if index < one.batches_in(epoch)]
            samples = np.concatenate([part.samples for part in parts])
            np.testing.assert_array_equal(samples, orders[epoch][place : place + count])
            seen[epoch].extend(samples.tolist())
            for part in parts:  # by default all of a batch is a group, of a number that no other has
                assert len(set(part.groups.tolist())) == 1
                groups[epoch, int(part.groups[0])] = groups.get((epoch, int(part.groups[0])), 0) + 1
        assert set(groups.values()) == {1}
        for epoch in range(epochs):
            assert len(set(seen[epoch])) == len(seen[epoch]) and (drop_last or len(seen[epoch]) == size)
            number = sum(step[0] == epoch for step in expected)
            assert {one.steps_in(epoch) for one in mine} == {number}
            assert max(one.batches_in(epoch) for one in mine) == number
            assert mine[0].steps.before(epoch) == sum(step[0] < epoch for step in expected)
        at = 0, 0
        for epoch, index, *_ in expected:
            assert at == (epoch, index)
            at = max((one.following(*at) for one in mine), key=lambda after: (-after[0], after[1]))


def of_all_ranks(schedules, epoch, index):
    batches = [one.batch(epoch, index) for one in schedules if index < one.batches_in(epoch)]
    again = [one.repeated(epoch, index) for one in schedules if index < one.batches_in(epoch)]
    columns = [np.concatenate([getattr(batch, name) for batch in batches]) for name in ("samples", "groups")]
    return [column[~np.concatenate(again)] for column in columns]


def state_of(schedule, recipe, epoch, index):
    steps = schedule.steps.before(epoch)
    state = {"epoch": epoch, "batch": index, "offset": schedule.given_before(epoch), "steps": steps}
    return json.loads(json.dumps({**state, **identity(schedule, recipe, MANIFEST)}))


@pytest.mark.parametrize("trainings", [25, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("same", [True, False])
def test_another_number_of_ranks_in_the_middle(same, trainings):
    """Trainings that go on with other ranks: the same steps; and with other batches each sample once, in its order."""
    rng, recipe = np.random.default_rng(7), dv.Stages((dv.Stage(0, SMALL),))
    for _ in range(trainings):
        base, size, even = 24, int(rng.integers(24, 150)), bool(rng.integers(2))
        unit, epochs = str(rng.choice(["epoch", "step"])), 4
        stages = drawn_stages(rng, base, size, unit)
        common = dict(num_samples=size, seed=5, drop_last=False)
        alone = schedule_of(stages, unit, batch_size=base, **common)
        seen, position, schedules, taken = {}, (0, 0), None, 0
        while position[0] < epochs:
            if schedules is None or rng.random() < 0.3:
                number = int(rng.choice([1, 2, 3, 4, 6]))
                size_of_batch = base // number if same else base // number * int(rng.integers(1, 3))
                state = state_of(schedules[0], recipe, *position) if schedules else None
                schedules = [
                    schedule_of(
                        stages, unit, batch_size=size_of_batch, num_shards=number, shard_index=k, even=even, **common
                    )
                    for k in range(number)
                ]
                if state:
                    assert state["steps"] + position[1] == taken  # as they were counted
                    moved = [go_on(state, identity(one, recipe, MANIFEST), one, None, False) for one in schedules]
                    ((*position,),) = {m[1:] for m in moved}
                    schedules = [m[0] for m in moved]
            if position[1] < max(one.batches_in(position[0]) for one in schedules):
                samples, _ = of_all_ranks(schedules, *position)
                seen.setdefault(position[0], []).append(samples)
                stage = schedules[0].steps.at(*position).stage
                reached = position[0] if unit == "epoch" else taken
                assert stage == max(k for k, (start, _) in enumerate(stages) if start <= reached)
                taken += 1
            longest = max(schedules, key=lambda one: one.batches_in(position[0]))
            position = longest.following(*position)
        for epoch in range(epochs):
            order = Schedule(size, size, 5, drop_last=False).batch(epoch, 0).samples
            np.testing.assert_array_equal(np.concatenate(seen[epoch]), order)
            if same:
                assert [len(s) for s in seen[epoch]] == [
                    len(alone.batch(epoch, index).samples) for index in range(alone.batches_in(epoch))
                ]


def test_groups_grow_with_batches_or_are_as_given():
    """Of 48 samples, steps of 12, 6, 24 and 6; by default a batch is a group, and a state takes that along."""
    stages, recipe = ((0, (1, 0.5, 2)),), dv.Stages((dv.Stage(0, SMALL),))
    options = dict(num_samples=48, seed=5, drop_last=False)
    first = [schedule_of(stages, "epoch", batch_size=4, num_shards=3, shard_index=k, **options) for k in range(3)]
    given = [schedule_of(stages, "epoch", batch_size=12, mix_group=2, **options)]
    expected = [of_all_ranks(first, 0, index) for index in range(4)]
    assert [np.unique(groups, return_counts=True)[1].tolist() for _, groups in expected] == [
        [4, 4, 4], [2, 2, 2], [8, 8, 8], [2, 2, 2]
    ]  # fmt: skip
    numbers = np.concatenate([groups for _, groups in expected])
    assert len(set(numbers.tolist())) == 12
    alone = schedule_of(stages, "epoch", batch_size=12, **options)
    moved, *at = go_on(state_of(first[0], recipe, 0, 0), identity(alone, recipe, MANIFEST), alone, None, True)
    assert at == [0, 0]
    for index in range(3):  # the last step is not full
        for column, wanted in zip(of_all_ranks([moved], 0, index), expected[index], strict=True):
            np.testing.assert_array_equal(column, wanted)
    pairs = np.concatenate([of_all_ranks(given, 0, index)[1] for index in range(4)])
    np.testing.assert_array_equal(pairs, np.arange(48) // 2)
    with pytest.raises(ValueError, match="mix_group is 4 in all stages, but the state's groups are larger in larger"):
        one = schedule_of(((0, (1, 2)),), "epoch", batch_size=4, **options)
        other = replace(one, mix_group=4)
        go_on(state_of(one, recipe, 0, 0), identity(other, recipe, MANIFEST), other, 4, True)
    with pytest.raises(
        ValueError, match=r"mix_group .* divides batch_size 2, got 4 in stage 0 \(from epoch 0 on, batch"
    ):
        schedule_of(stages, "epoch", batch_size=4, mix_group=4, **options)


def test_after_other_batches_steps_are_counted_on():
    """3 steps of 4 were taken of 12; a stage begins after 5: with steps of 6, after two of them."""
    stages = ((0, (1,)), (5, (0.5,)))
    before = schedule_of(stages, "step", num_samples=12, batch_size=4)
    assert before.steps.before(1) == 3
    recipe = dv.Stages((dv.Stage(0, SMALL),))
    after = schedule_of(stages, "step", num_samples=12, batch_size=6)
    after, epoch, index = go_on(state_of(before, recipe, 1, 0), identity(after, recipe, MANIFEST), after, None, True)
    assert (epoch, index) == (1, 0) and after.steps.before(1) == 3
    assert [after.steps.at(1, i).stage for i in range(2)] == [0, 0] and after.steps.at(2, 0).stage == 1
    later = after.from_start(2)
    assert later.steps.before(2) == 5 and later.batches_in(2) == 4  # a new loop over epoch 2 does not forget it
    assert after.from_start(1).steps.before(1) == 3 and after.from_start(0).steps.before(0) == 0
    again = schedule_of(stages, "step", num_samples=12, batch_size=6)
    again, epoch, index = go_on(state_of(before, recipe, 1, 1), identity(again, recipe, MANIFEST), again, None, True)
    assert (epoch, index, again.cut, again.cut_step) == (1, 0, (1, 4), 4) and again.batches_in(1) == 1
    assert again.from_start(2).steps.before(2) == 5 and again.from_start(1).steps.before(2) == 4


def test_the_next_stage_may_begin_in_what_is_left_of_an_epoch():
    """Of 12 samples a step of 8 leaves 4, which fill one of the stage that begins there."""
    schedule = schedule_of(((0, (1,)), (2, (0.5,))), "step", num_samples=12, batch_size=8)
    assert [schedule.batches_in(epoch) for epoch in range(4)] == [1, 2, 3, 3]
    assert [schedule.steps.before(epoch) for epoch in range(5)] == [0, 1, 3, 6, 9]
    assert [len(schedule.batch(1, index).samples) for index in range(2)] == [8, 4]


# ---- Multigrid and progressive resizing

KINETICS = dv.Recipe(
    dv.ClipSampling(32, stride=2),
    (dv.ShortSideScale(256, 320), dv.RandomCrop(224), dv.RandomHorizontalFlip(), dv.Normalize()),
)


def test_multigrid_is_that_of_slowfast():
    """SlowFast 8x8 on Kinetics: learning rate falls at 94, 154, 196 of 239 epochs; the figures worked out by hand.

    Batch factors are 32 * 224^2 / (T * S^2), rounded: of a cycle's three sizes 112, 158, and 158 or 224. The mean
    factors are 32/3, 16/3, 14/3 and 7/3, together 23; so a long cycle of n epochs is n times 32/69, 16/69, 14/69 and
    7/69 of them, and the end is 43 * 4 * 7/69 epochs; all are stretched to 1.5 * 239 = 358.5 epochs.
    """
    stages = dv.multigrid(KINETICS, 239, (94, 154, 196)).stages
    lengths = [Fraction(n * part, 69) for n in (94, 60, 42) for part in (32, 16, 14, 7)] + [Fraction(43 * 28, 69)]
    stretch = Fraction(717, 2) / sum(lengths)
    expected = [round(stretch * sum(lengths[:i])) for i in range(13)]
    assert [stage.start for stage in stages] == expected
    assert expected[:5] == [0, 73, 110, 142, 158] and expected[-1] == 329
    table = []
    for stage in stages:
        clips = [
            (r.sampling.num_frames, r.sampling.stride, r.ops[0].low, r.ops[0].high, r.ops[1].size)
            for r in stage.recipes
        ]
        table.append((clips, stage.scales))
    small, middle, full = ((128, 320, 112), (181, 320, 158), (256, 320, 224))
    cycle = [
        ([(8, (2, 8), *small), (8, (2, 8), *middle), (8, (2, 8), *middle)], (16, 8, 8)),
        ([(16, (2, 4), *small), (16, (2, 4), *middle), (16, (2, 4), *middle)], (8, 4, 4)),
        ([(16, (2, 4), *small), (16, (2, 4), *middle), (16, (2, 4), *full)], (8, 4, 2)),
        ([(32, 2, *small), (32, 2, *middle), (32, 2, *full)], (4, 2, 1)),
    ]
    assert table == cycle * 3 + cycle[-1:]
    assert stages[3].recipes[2] == KINETICS
    alone = dv.multigrid(KINETICS, 239, (94, 154, 196), short_cycle=()).stages
    assert [stage.scales for stage in alone[:4]] == [(8,), (4,), (2,), (1,)]
    short = dv.multigrid(KINETICS, 100, long_cycle=(), epoch_factor=1).stages
    assert [(stage.start, stage.scales) for stage in short] == [(0, (4, 2, 1))]


@pytest.mark.parametrize(
    "sampling, expected",
    [
        (dv.ClipSampling(8, stride=(1, 3)), dv.ClipSampling(2, stride=(1, 12))),
        (dv.SlowFastSampling(32, 2), dv.SlowFastSampling(8, 8)),
        (dv.MMAction2Sampling(32, 2), dv.MMAction2Sampling(8, 8)),
        (dv.VJEPA2Sampling(16, 4), dv.VJEPA2Sampling(4, 1)),
        (dv.VJEPA2Sampling(16, None, stride=4), dv.VJEPA2Sampling(4, None, stride=16)),
        (dv.SegmentSampling(8), dv.SegmentSampling(2)),
        (dv.KeyframeClip(32, 2), dv.KeyframeClip(8, 8)),
        (dv.MultiClip(dv.ClipSampling(8), 2), dv.MultiClip(dv.ClipSampling(2, stride=(1, 4)), 2)),
    ],
    ids=lambda s: type(s).__name__,
)
def test_fewer_frames_span_as_much_time(sampling, expected):
    recipe = replace(KINETICS, sampling=sampling)
    assert dv.multigrid(recipe, 40).stages[0].recipes[0].sampling == expected


def test_published_recipes_in_stages(numbered_manifest):
    """SlowFast's multigrid has both pathways; V-JEPA 2's cool-down has longer and larger clips."""
    grid = dv.multigrid(dv.recipes.slowfast("8x8", size=32), 8, long_cycle=((0.25, 0.5**0.5), (1, 1)), short_cycle=())
    with make_loader(numbered_manifest, grid, 1) as loader:
        first = next(iter(loader))
        loader.set_epoch(grid.stages[1].start)
        last = next(iter(loader))
    assert [tuple(clips.shape) for clips in first.clips] == [(8, 3, 2, 23, 23), (8, 3, 8, 23, 23)]
    assert [tuple(clips.shape) for clips in last.clips] == [(1, 3, 8, 32, 32), (1, 3, 32, 32, 32)]
    main, cool_down = (dv.recipes.vjepa2_pretrain(*args) for args in (("main",), ("cooldown",)))
    stages = dv.Stages((dv.Stage(0, main), dv.Stage(1, cool_down, 0.25)), unit="step")
    with make_loader(numbered_manifest, stages, 4) as loader:
        assert [tuple(b.clips.shape) for b in take_batches(loader, 2)] == [(4, 3, 16, 256, 256), (1, 3, 64, 256, 256)]


def test_progressive_resizing():
    recipe = replace(KINETICS, ops=(*KINETICS.ops[:1], dv.RandomCrop((224, 448)), dv.RandAugmentT(), dv.Normalize()))
    stages = dv.progressive_resize(recipe, ((0, 112), (500, 168), (900, 224), (1500, 320)), unit="step")
    assert stages.unit == "step" and [stage.start for stage in stages.stages] == [0, 500, 900, 1500]
    assert [stage.batch_scale for stage in stages.stages] == [4, 2, 1, 0.5]  # 4, 1.78, 1, 0.49
    sizes = [(s.recipe.ops[0].low, s.recipe.ops[0].high, s.recipe.ops[1].size) for s in stages.stages]
    assert sizes == [(128, 160, (112, 224)), (192, 240, (168, 336)), (256, 320, (224, 448)), (366, 457, (320, 640))]
    assert (
        all(stage.recipe.sampling == recipe.sampling for stage in stages.stages) and stages.stages[2].recipe == recipe
    )
    same = dv.progressive_resize(recipe, ((0, 112), (5, 224)), scale_batch=False)
    assert [stage.batch_scale for stage in same.stages] == [1, 1]


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: dv.multigrid(KINETICS, 10, (4, 4)),
            r"lr_epochs must be whole numbers that rise between 0 and epochs=10",
        ),
        (lambda: dv.multigrid(KINETICS, 10, (12,)), r"lr_epochs must be whole .* got \(12,\)"),
        (lambda: dv.multigrid(KINETICS, 2.5), "epochs=2.5"),
        (lambda: dv.multigrid(KINETICS, 3), "3 epochs are too few for 4 stages"),
        (lambda: dv.multigrid(KINETICS, 30, epoch_factor=0), "epoch_factor must be a number > 0, got 0"),
        (
            lambda: dv.multigrid(KINETICS, 30, short_cycle=(2,)),
            r"short_cycle must be parts of the full clip in \(0, 1\]",
        ),
        (lambda: dv.multigrid(KINETICS, 30, long_cycle=((0.5, -1),)), "long_cycle must be parts"),
        (lambda: dv.multigrid(dv.Recipe(dv.Snippets(8), KINETICS.ops), 30), "sampling must have num_frames"),
        (lambda: dv.multigrid(dv.Recipe(dv.ClipSampling(1), KINETICS.ops), 30), "0.25 of 1 frames are none"),
        (
            lambda: dv.multigrid(dv.Recipe(dv.VJEPA2Sampling(16, 5), KINETICS.ops), 30),
            "fps 5 .* cannot be divided by 4",
        ),
        (lambda: dv.multigrid(dv.Recipe(ops=(dv.Normalize(),)), 30), "multigrid: the recipe has no op with a size"),
        (lambda: dv.multigrid(KINETICS.ops, 30), "multigrid: recipe must be a Recipe"),
        (lambda: dv.progressive_resize(KINETICS, (112, 224)), r"sizes must be \(start, size in pixels\), got 112"),
        (lambda: dv.progressive_resize(KINETICS, ((0, 112), (0, 224))), "Stages: starts must rise .* got 0, 0"),
        (lambda: dv.Stage(-1, SMALL), "Stage: start must be an int >= 0, got -1"),
        (lambda: dv.Stage(1.5, SMALL), "Stage: start must be an int >= 0, got 1.5"),
        (lambda: dv.Stage(0, ()), "Stage: recipe must be a Recipe or a tuple of Recipes"),
        (lambda: dv.Stage(0, (SMALL, 3)), "Stage: recipe must be a Recipe"),
        (lambda: dv.Stage(0, SMALL, float("nan")), "Stage: batch_scale must be a number > 0, or one a recipe, got nan"),
        (lambda: dv.Stage(0, SMALL, 0), "Stage: batch_scale must be a number > 0"),
        (lambda: dv.Stage(0, (SMALL, LARGE), (1, 2, 3)), r"as many numbers as recipes, 2, got \(1, 2, 3\)"),
        (lambda: dv.Stages(()), "Stages: the first stage must start at 0, got no stage"),
        (lambda: dv.Stages(SMALL), "Stages: stages must be several"),
        (lambda: dv.Stages(((0, SMALL),)), r"Stages: stages must be of dv.Stage\(start, recipe\), got \(0,"),
        (lambda: dv.Stages((dv.Stage(2, SMALL),)), "Stages: the first stage must start at 0, got 2"),
        (lambda: dv.Stages((dv.Stage(0, SMALL), dv.Stage(0, LARGE))), "Stages: starts must rise"),
        (lambda: dv.Stages((dv.Stage(0, SMALL),), unit="batch"), "Stages: unit must be epoch or step, got 'batch'"),
        (
            lambda: dv.Stages((dv.Stage(0, SMALL), dv.Stage(1, dv.Recipe(dv.MultiClip(num_clips=2))))),
            r"Stages: all recipes must make as many clips of each sample \(num_clips\), got 1, 2",
        ),
        (
            lambda: dv.Stages((dv.Stage(0, SMALL), dv.Stage(1, dv.Recipe(ops=(dv.Resize((8, 8)),))))),
            "Stages: all recipes must end with Normalize, or none, got True, False",
        ),
        (
            lambda: dv.Stages((dv.Stage(0, replace(LARGE, pathways=(4, 1))), dv.Stage(1, LARGE))),
            "Stages: all recipes must have as many pathways, got 2, 0",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_stages_are_read_back_from_their_text():
    stages = dv.multigrid(KINETICS, 40, (20, 30), epoch_factor=np.float64(2))
    assert eval(repr(stages), vars(dv)) == stages
    mixed = dv.Stages([dv.Stage(0, [SMALL, LARGE], [np.int64(2), 0.5]), dv.Stage(np.int64(7), SMALL)], unit="step")
    assert eval(repr(mixed), vars(dv)) == mixed and "int64" not in repr(mixed)
    assert mixed.stages[0].scales == (2, 0.5) and mixed.stages[1].scales == (1,)


# ---- With pixels

TINY = dv.Recipe(dv.ClipSampling(8), (dv.RandomResizedCrop(32), dv.RandomHorizontalFlip(), dv.Normalize()))
# In the epochs 0 and 1 a cycle of 4 frames of 16 and 23 pixels, then of 8 of 16 and 32. Factors of batches: 8 * 32^2
# over 4 * 16^2, 4 * 23^2, 8 * 16^2, 8 * 32^2: 8, 3.87, 4, 1.
GRID = dv.multigrid(TINY, 2, long_cycle=((0.5, 0.5**0.5), (1, 1)), short_cycle=(0.5,), epoch_factor=1.5)
TABLE = [  # epoch, batch, samples, frames, pixels, factor of the learning rate
    (0, 0, 8, 4, 16, 4), (0, 1, 4, 4, 23, 4), (1, 0, 8, 4, 16, 4), (1, 1, 4, 4, 23, 4),
    (2, 0, 4, 8, 16, 1), (2, 1, 1, 8, 32, 1), (2, 2, 4, 8, 16, 1), (2, 3, 1, 8, 32, 1), (2, 4, 2, 8, 16, 1),
]  # fmt: skip
LAST = dict(drop_last=False)


def row_of(batch):
    _, _, frames, height, width = batch.clips.shape
    assert height == width
    return batch.epoch, batch.index, len(batch), frames, height, batch.lr_scale


@pytest.fixture(scope="module")
def uninterrupted(numbered_manifest):
    """The batches of three epochs."""
    return take_batches(make_loader(numbered_manifest, GRID, 1, **LAST), len(TABLE))


def test_each_step_is_as_a_table_by_hand_says(uninterrupted, numbered_manifest):
    assert [stage.start for stage in GRID.stages] == [0, 2]
    assert [row_of(batch) for batch in uninterrupted] == TABLE
    for epoch in range(3):
        samples = [s for batch in uninterrupted if batch.epoch == epoch for s in batch.samples.tolist()]
        assert sorted(samples) == list(range(12))
    with make_loader(numbered_manifest, GRID, 1, **LAST) as loader:
        for epoch, count in ((0, 2), (1, 2), (2, 5)):
            assert len(loader) == count
            assert [row_of(batch) for batch in loader] == [row for row in TABLE if row[0] == epoch]
        assert [loader.steps_before(epoch) for epoch in range(5)] == [0, 2, 4, 9, 14]
        assert loader.report().batches >= 9 and loader.report().clips >= 36  # batches are made ahead
        loader.set_epoch(1)
        assert len(loader) == 2 and "2 batches in epoch 1, 2 stages" in repr(loader)
        loader.set_epoch(7)
        assert len(loader) == 5


def test_plans_and_pixels_are_those_of_the_recipe_alone(uninterrupted, numbered_manifest):
    """A clip depends on its recipe, seed, epoch and sample, and not on stages."""
    for batch, (epoch, index, *_) in zip(uninterrupted, TABLE, strict=True):
        recipe = GRID.stages[epoch // 2].recipes[index % 2]
        plan = dv.draw_plan(numbered_manifest, recipe, batch.samples.numpy(), seed=3, epoch=epoch)
        assert plan.recipe == batch.plan.recipe and np.array_equal(plan.frames, batch.plan.frames)
        with make_loader(numbered_manifest, recipe, 1) as alone:
            assert torch.equal(alone.apply(plan).clips, batch.clips)


@pytest.mark.parametrize("taken", range(len(TABLE) + 1))
def test_resuming_at_every_batch(taken, uninterrupted, numbered_manifest):
    first = make_loader(numbered_manifest, GRID, 1, **LAST)
    take_batches(first, taken)
    state = json.loads(json.dumps(first.state_dict()))
    copies = [copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    second = make_loader(numbered_manifest, GRID, 1, **LAST)
    second.load_state_dict(state)
    assert second.state_dict() == state
    for loader in (second, *copies[: taken % 3]):
        rest = take_batches(loader, len(TABLE) - taken)
        assert all(same_batch(a, b) for a, b in zip(rest, uninterrupted[taken:], strict=True))
        assert [row_of(batch) for batch in rest] == TABLE[taken:]


def test_two_ranks_are_one(numbered_manifest):
    """Batches of 2 and of 4, mixed in pairs; a state of both goes on as one rank, in the middle of a cycle."""
    small, large = (replace(r, ops=(r.ops[0], dv.CutMix(), dv.Normalize())) for r in (SMALL, LARGE))
    stages = dv.Stages((dv.Stage(0, (small, large), (2, 1)), dv.Stage(5, large)), unit="step")
    one = make_loader(numbered_manifest, stages, 4, mix_group=2)
    two = [make_loader(numbered_manifest, stages, 2, mix_group=2, num_shards=2, shard_index=k) for k in range(2)]
    expected = take_batches(one, 9)
    assert [row_of(b)[:5] for b in expected] == [
        (0, 0, 8, 2, 16), (0, 1, 4, 4, 24), (1, 0, 8, 2, 16), (1, 1, 4, 4, 24),
        (2, 0, 8, 2, 16), (2, 1, 4, 4, 24), *((3, i, 4, 4, 24) for i in range(3)),
    ]  # fmt: skip
    parts = [take_batches(rank, 9) for rank in two]
    for batch, *of_ranks in zip(expected, *parts, strict=True):
        for name in ("samples", "clips", "targets"):
            assert torch.equal(torch.cat([getattr(part, name) for part in of_ranks]), getattr(batch, name))
    two = [make_loader(numbered_manifest, stages, 2, mix_group=2, num_shards=2, shard_index=k) for k in range(2)]
    for rank in two:
        take_batches(rank, 3)
    assert two[0].state_dict() == two[1].state_dict()
    alone = make_loader(numbered_manifest, stages, 4)  # takes the groups of the state
    alone.load_state_dict(two[0].state_dict())
    assert all(same_batch(a, b) for a, b in zip(take_batches(alone, 6), expected[3:], strict=True))


def test_a_stage_from_a_step_in_the_middle_of_an_epoch(numbered_manifest):
    """From step 5 on, which is the third of epoch 1, 4 frames of 24 pixels in batches of half the size."""
    stages = dv.Stages((dv.Stage(0, SMALL), dv.Stage(5, LARGE, 0.5)), unit="step")
    with make_loader(numbered_manifest, stages, 4) as loader:
        batches = take_batches(loader, 3 + 4 + 6)
        expected = [(0, i, 4, 2, 16, 1) for i in range(3)] + [(1, i, 4, 2, 16, 1) for i in range(2)]
        expected += [(1, i, 2, 4, 24, 0.5) for i in (2, 3)] + [(2, i, 2, 4, 24, 0.5) for i in range(6)]
        assert [row_of(batch) for batch in batches] == expected
        assert len(loader) == 6 and loader.steps_before(1) == 3 and loader.steps_before(2) == 7
    assert sorted(torch.cat([batch.samples for batch in batches[3:7]]).tolist()) == list(range(12))
    for taken in (4, 5, 6):
        first, second = (make_loader(numbered_manifest, stages, 4) for _ in range(2))
        take_batches(first, taken)
        second.load_state_dict(first.state_dict())
        second.set_epoch(1)  # as trainers do: nothing changes
        rest = take_batches(second, 13 - taken)
        assert all(same_batch(a, b) for a, b in zip(rest, batches[taken:], strict=True))


def test_repeats_and_views_in_stages(numbered_manifest):
    """2 clips of each sample, each augmented 3 times."""
    stages = dv.Stages(
        [
            dv.Stage(i, replace(one, sampling=dv.MultiClip(one.sampling, 2)), 1 + i)
            for i, one in enumerate((SMALL, LARGE))
        ]
    )
    batches = take_batches(make_loader(numbered_manifest, stages, 2, repeats=3), 6 + 3)
    assert [row_of(b) for b in batches] == [(0, i, 12, 2, 16, 1) for i in range(6)] + [
        (1, i, 24, 4, 24, 2) for i in range(3)
    ]
    assert batches[-1].repeat_index.tolist() == [0, 1, 2] * 8
    assert batches[-1].views.tolist() == [0, 0, 0, 1, 1, 1] * 4


def test_ranks_are_even_in_every_stage(numbered_manifest):
    """11 samples, 2 ranks, steps of 8 and 4: each epoch ends with a sample that comes again."""
    part = numbered_manifest.select(range(11))
    stages = dv.Stages((dv.Stage(0, (SMALL, LARGE), (2, 1)),))
    ranks = [make_loader(part, stages, 2, num_shards=2, shard_index=k, **LAST) for k in range(2)]
    loops = [list(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [2, 2] and [[len(b) for b in loop] for loop in loops] == [[4, 2], [4, 2]]
    again = torch.cat([batch.repeated for loop in loops for batch in loop])
    samples = torch.cat([batch.samples for loop in loops for batch in loop])
    assert sorted(samples[~again].tolist()) == list(range(11)) and again.sum() == 1
    for rank in ranks:
        rank.close()


def test_a_batch_of_bad_videos_has_the_shape_of_its_stage(numbered, tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.mp4").write_bytes((numbered / "even" / "00.mp4").read_bytes())
    manifest = dv.scan(tmp_path, progress=False)
    for path in tmp_path.glob("*.mp4"):
        path.write_bytes(path.read_bytes()[:3000])
    stages = dv.Stages((dv.Stage(0, SMALL), dv.Stage(1, LARGE, 0.5)))
    with make_loader(manifest, stages, 2, on_error="skip", check_files="off") as loader:
        assert [tuple(batch.clips.shape) for _ in range(2) for batch in loader] == [
            (0, 3, 2, 16, 16),
            *[(0, 3, 4, 24, 24)] * 2,
        ]
        assert loader.report().skipped >= 4  # batches are made ahead


def num_graphs():
    gc.collect()
    return sum(type(one) is Graph for one in gc.get_objects())


def num_threads():
    return len(list(Path("/proc/self/task").iterdir())), threading.active_count()


def test_graphs_of_a_stage_that_is_over_are_freed(numbered_manifest):
    """Two recipes in turn, then one: two graphs, then one, then none. DALI makes each of these batches."""
    small, large = (replace(r, ops=(r.ops[0], dv.GaussianBlur(), dv.Normalize())) for r in (SMALL, LARGE))
    stages = dv.Stages((dv.Stage(0, (small, large)), dv.Stage(1, small)))
    take_batches(make_loader(numbered_manifest, stages, 4), 1)  # threads that stay for good
    graphs, threads = num_graphs(), num_threads()
    loader = make_loader(numbered_manifest, stages, 4, prefetch=1)
    loop = iter(loader)
    next(loop), next(loop), next(loop)
    assert num_graphs() - graphs <= 2
    next(iter(loader))
    assert num_graphs() - graphs == 1
    loader.close()
    assert num_graphs() == graphs and num_threads() == threads


def test_batches_of_the_next_stage_are_made_ahead(numbered_manifest):
    """After the last batch of a stage, two of the next one are made although nobody asks for them."""
    stages = dv.Stages((dv.Stage(0, SMALL), dv.Stage(1, LARGE)))
    with make_loader(numbered_manifest, stages, 4, prefetch=2) as loader:
        loop = iter(loader)
        assert [next(loop).clips.shape[-1] for _ in range(3)] == [16] * 3
        until = time.monotonic() + 60
        while loader.report().batches < 5 and time.monotonic() < until:
            time.sleep(0.01)
        assert loader.report().batches == 5 and loader.report().frames == 4 * (3 * 2 + 2 * 4)


@pytest.mark.parametrize("taken", range(6))
def test_closing_at_any_time_leaves_nothing(taken, numbered_manifest):
    stages = dv.Stages((dv.Stage(0, (SMALL, LARGE)), dv.Stage(2, LARGE, 2), dv.Stage(3, SMALL)), unit="step")
    take_batches(make_loader(numbered_manifest, stages, 4, num_threads=2), 1)  # starts threads that stay for good
    graphs, threads = num_graphs(), num_threads()
    loader = make_loader(numbered_manifest, stages, 4, num_threads=2)
    before = take_batches(loader, taken)
    assert num_graphs() == graphs and num_threads() == threads
    loader.load_state_dict(loader.state_dict())
    after = take_batches(loader, 8 - taken)  # it goes on where it was
    rows = [
        (0, 0, 4, 16),
        (0, 1, 4, 24),
        (1, 0, 8, 24),
        (1, 1, 4, 16),
        *((2, i, 4, 16) for i in range(3)),
        (3, 0, 4, 16),
    ]
    assert [(b.epoch, b.index, len(b), b.clips.shape[-1]) for b in (*before, *after)] == rows
    assert num_graphs() == graphs and num_threads() == threads


# ---- States


def test_states_of_other_stages_are_refused(numbered_manifest):
    def loader(recipe, **options):
        return make_loader(numbered_manifest, recipe, 4, **options)

    stages = dv.Stages((dv.Stage(0, SMALL), dv.Stage(2, LARGE)))
    state = loader(stages).state_dict()
    for other, message in (
        (SMALL, r"^VideoLoader: the state is of another loader: this one has one recipe, the state's dv.Stages$"),
        (
            dv.Stages((dv.Stage(0, SMALL), dv.Stage(3, LARGE))),
            r"recipe has Stage\(start=3.*, the state's Stage\(start=2",
        ),
        (
            dv.Stages((dv.Stage(0, SMALL), dv.Stage(2, LARGE, 2))),
            "recipe has .*batch_scale=2.* state's .*batch_scale=1",
        ),
        (dv.Stages(stages.stages, unit="step"), "recipe has .*unit='step'.*, the state's .*unit='epoch'"),
        (dv.Stages((dv.Stage(0, SMALL), dv.Stage(2, SMALL))), "the state is of another loader: recipe has"),
    ):
        with pytest.raises(ValueError, match=message):
            loader(other).load_state_dict(state)
    with pytest.raises(ValueError, match="this one has dv.Stages, the state's one recipe$"):
        loader(stages).load_state_dict(loader(SMALL).state_dict())
    for name in ("steps", "mix_group_scales"):
        lacking = {key: value for key, value in state.items() if key != name}
        with pytest.raises(ValueError, match=f"the state lacks {name}|the state's one recipe"):
            loader(stages).load_state_dict(lacking)
    for wrong in ({"steps": -1}, {"steps": 1.5}, {"batch": 99}):
        with pytest.raises(ValueError, match=r"steps of the state must be in|batch of the state is 99"):
            loader(stages).load_state_dict(state | wrong)


def test_a_state_of_one_recipe_is_what_it_was(numbered_manifest):
    """Its keys, so that those of earlier releases are read, and earlier releases read these."""
    loader = make_loader(numbered_manifest, SMALL, 4)
    take_batches(loader, 4)
    state = loader.state_dict()
    assert state.pop("manifest") and state == {
        "epoch": 1, "batch": 1, "offset": 0, "plan_version": state["plan_version"], "seed": 3, "num_samples": 12,
        "step": 4, "mix_group": 4, "shuffle": True, "shards_at_a_time": None, "drop_last": True, "recipe": repr(SMALL),
        "num_clips": 1, "repeats": 1,
    }  # fmt: skip


def test_stages_of_one_recipe_give_its_batches(numbered_manifest):
    alone = take_batches(make_loader(numbered_manifest, RECIPE), 4)
    staged = take_batches(make_loader(numbered_manifest, dv.Stages((dv.Stage(0, RECIPE),))), 4)
    assert all(same_batch(a, b) and b.lr_scale == 1 for a, b in zip(alone, staged, strict=True))
    doubled = take_batches(make_loader(numbered_manifest, dv.Stages((dv.Stage(0, RECIPE, 2),)), 2), 4)
    assert all(torch.equal(a.clips, b.clips) and b.lr_scale == 2 for a, b in zip(alone, doubled, strict=True))


def test_what_a_loader_refuses(numbered_manifest):
    def make(stages, batch_size=4, **options):
        return make_loader(numbered_manifest, dv.Stages(stages), batch_size, **options)

    with pytest.raises(ValueError, match=r"batch_size 3 x batch_scale 0.5 must be a whole number, got 1.5 in stage 1"):
        make((dv.Stage(0, SMALL), dv.Stage(4, LARGE, 0.5)), 3)
    with pytest.raises(
        ValueError, match=r"12 samples do not fill one step of batch_size 16 x num_shards 1 in stage 1 "
    ):
        make((dv.Stage(0, SMALL), dv.Stage(4, LARGE, 4)))
    with pytest.raises(ValueError, match=r"num_shards 2 in stage 0 \(from epoch 0 on, batch_scale 2\)"):
        len(make((dv.Stage(0, (SMALL, LARGE), (2, 1)),), num_shards=2, shard_index=0))
    with pytest.raises(ValueError, match="the recipe leaves clips of different sizes"):
        manifest = numbered_manifest
        strange = dv.Recipe(dv.ClipSampling(2), (dv.ShortSideScale(8, 16), dv.Normalize()))
        make_loader(manifest, dv.Stages((dv.Stage(0, SMALL), dv.Stage(4, strange))))
    with pytest.raises(ValueError, match="recipe must be a Recipe or Stages, got"):
        make_loader(numbered_manifest, [SMALL])
