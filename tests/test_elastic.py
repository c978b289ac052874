"""Going on with another number of ranks, or with other batches: each sample still once, and the same clips."""

import copy
import json
import logging
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import take_batches

import dali_vidaug as dv
from dali_vidaug.repeats import clip_column
from dali_vidaug.schedule import Schedule
from dali_vidaug.state import go_on, identity

MIXED = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(16), dv.CubeCutMix(), dv.MixUp(granularity="batch")))
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]
MANIFEST = dict.fromkeys(("paths", "labels", "classes", "ranges", "rows"), "x")


def state_of(schedule, epoch, index):
    state = {"epoch": epoch, "batch": index, "offset": schedule.given_before(epoch)}
    return json.loads(json.dumps({**state, **identity(schedule, MIXED, MANIFEST)}))


def of_all_ranks(schedules, epoch, index):
    """Samples, and groups, of a step."""
    batches = [schedule.batch(epoch, index) for schedule in schedules if index < schedule.batches_in(epoch)]
    again = [s.repeated(epoch, index) for s in schedules if index < s.batches_in(epoch)]
    return [np.concatenate([getattr(b, name) for b in batches]) for name in ("samples", "groups")] + [
        np.concatenate(again)
    ]


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_numbers_of_ranks(seed, drop_last):
    """A hundred runs for each seed and ``drop_last``: the steps are those of one rank, groups too."""
    rng = np.random.default_rng(seed)
    for _ in range(100):
        group = int(rng.integers(1, 4))
        ranks = int(rng.choice([4, 6, 12])) * int(rng.integers(1, 3))
        step = group * ranks * int(rng.integers(1, 3))
        size = int(rng.integers(step, 6 * step))
        common = dict(num_samples=size, seed=int(rng.integers(9)), drop_last=drop_last, mix_group=group)
        alone = Schedule(batch_size=step, **common)
        expected = [(epoch, *alone.batch(epoch, i)[::3]) for epoch in range(3) for i in range(alone.num_batches)]
        divisors = [n for n in range(1, ranks + 1) if ranks % n == 0]
        got, position = [], (0, 0)
        schedules = None
        while position[0] < 3:
            if schedules is None or rng.random() < 0.4:
                number = int(rng.choice(divisors))
                state = state_of(schedules[0], *position) if schedules else None
                schedules = [
                    Schedule(batch_size=step // number, num_shards=number, shard_index=k, even=False,
                             **{**common, "mix_group": None if state else group})
                    for k in range(number)
                ]  # fmt: skip
                if state:
                    moved = [go_on(state, identity(s, MIXED, MANIFEST), s, None, True) for s in schedules]
                    assert {m[1:] for m in moved} == {position}
                    schedules = [m[0] for m in moved]
            samples, groups, _ = of_all_ranks(schedules, *position)
            got.append((position[0], samples, groups))
            longest = max(schedules, key=lambda s: s.num_batches)
            position = longest.following(*position)
        for (epoch, samples, groups), (wanted_epoch, wanted, numbers) in zip(got, expected, strict=True):
            assert epoch == wanted_epoch
            np.testing.assert_array_equal(samples, wanted)
            if len(samples) == step:
                np.testing.assert_array_equal(groups, numbers)


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_batches_of_other_sizes(seed, even):
    """A hundred runs that change the size of a step: each sample of an epoch comes once, in its order."""
    rng = np.random.default_rng(seed)
    for _ in range(100):
        size, changes = int(rng.integers(8, 200)), 0
        order = Schedule(size, size, seed=7, drop_last=False)
        position, schedules, seen = (0, 0), None, {}
        while position[0] < 2:
            if schedules is None or rng.random() < 0.3:
                number, batch_size = int(rng.integers(1, 5)), int(rng.integers(1, 9))
                state = state_of(schedules[0], *position) if schedules else None
                schedules = [
                    Schedule(size, batch_size, 7, drop_last=False, num_shards=number, shard_index=k, even=even)
                    for k in range(number)
                ]
                if state:
                    state["mix_group"] = 1
                    moved = [go_on(state, identity(s, MIXED, MANIFEST), s, None, True) for s in schedules]
                    ((position),) = {m[1:] for m in moved}
                    schedules = [m[0] for m in moved]
                    changes += 1
            samples, _, again = of_all_ranks(schedules, *position)
            seen.setdefault(position[0], []).append(samples[~again])
            longest = max(schedules, key=lambda s: s.batches_in(position[0]))
            position = longest.following(*position)
        for epoch in range(2):
            np.testing.assert_array_equal(np.concatenate(seen[epoch]), order.batch(epoch, 0).samples)


def test_a_rank_may_have_no_part_in_what_is_left():
    """Of 12 samples two are left for five ranks; a state of one rank that had a part."""
    alone = Schedule(12, 5, 7, drop_last=False)
    for rank in range(5):
        mine = Schedule(12, 1, 7, drop_last=False, num_shards=5, shard_index=rank)
        schedule, *position = go_on(state_of(alone, 0, 2), identity(mine, MIXED, MANIFEST), mine, None, False)
        assert position == [0, 2] and schedule.batches_in(0) == (3 if rank in (2, 4) else 2)


def test_what_is_left_may_not_fill_a_batch(caplog):
    small, large = (Schedule(10, size, 7) for size in (4, 8))
    schedule, *position = go_on(state_of(small, 3, 1), identity(large, MIXED, MANIFEST), large, None, False)
    assert position == [3, 0] and schedule.batches_in(3) == 0 and schedule.batches_in(4) == 1
    assert "what is left of epoch 3 (samples: 6) fills none, and is left out" in caplog.text


def test_a_loop_over_what_is_left_may_be_empty(numbered_manifest):
    """As trainers run it: the epoch of the state is over at once, and is not given again."""
    (first,) = loaders(numbered_manifest, 1, 4)
    together([first], 2)
    state = first.state_dict()
    assert (state["epoch"], state["batch"]) == (0, 2)
    second = loaders(numbered_manifest, 1, 6)[0]  # 4 samples are left, too few for a batch
    twin = loaders(numbered_manifest, 1, 6)[0]
    second.load_state_dict(state)
    twin.load_state_dict(copy.deepcopy(second).state_dict())
    for loader in (second, copy.deepcopy(second), twin):
        assert loader.epoch == 0
        counts = []
        for epoch in range(loader.epoch, 3):
            loader.set_epoch(epoch)
            counts.append([batch.epoch for batch in loader])
        assert counts == [[], [1, 1], [2, 2]]
    third = loaders(numbered_manifest, 1, 6)[0]
    third.load_state_dict(state)
    assert [[batch.epoch for batch in third] for _ in range(2)] == [[], [1, 1]]


def test_a_rank_without_a_part_goes_through_the_same_epochs(numbered_manifest):
    """Of 11 samples one is left for two ranks, and even=False: it comes once, whichever rank's state is loaded."""
    part, options = numbered_manifest.select(range(11)), {"drop_last": False, "even": False}
    first, loops, seen = loaders(part, 2, 10, **options), [], {}
    for rank in first:  # in the middle of their loops
        loops.append(iter(rank))
        assert len(next(loops[-1])) == 5
    states = [rank.state_dict() for rank in first]
    assert states[0] == states[1] and (states[0]["epoch"], states[0]["batch"]) == (0, 1)
    for rank, loop in zip(first, loops, strict=True):
        assert len(list(loop)) == (rank is first[1])
        assert (rank.state_dict()["epoch"], rank.state_dict()["batch"]) == (1, 0)
    for rank, loader in enumerate(loaders(part, 2, 10, **options)):
        loader.load_state_dict(states[rank])
        for epoch in range(loader.epoch, 2):
            loader.set_epoch(epoch)
            seen.setdefault(epoch, []).append([batch.samples.tolist() for batch in loader])
    assert sorted(map(len, seen[0])) == [0, 1] and sum(len(b) for rank in seen[0] for b in rank) == 1
    assert sorted(sample for rank in seen[1] for batch in rank for sample in batch) == list(range(11))


def loaders(manifest, number, step=4, **options):
    return [
        dv.VideoLoader(
            manifest, MIXED, step // number, seed=3, device="cpu", num_shards=number, shard_index=k, num_threads=1,
            **options,
        )
        for k in range(number)
    ]  # fmt: skip


def together(ranks, count):
    """The next steps of all ranks: samples and clips."""
    steps = [take_batches(rank, count) for rank in ranks]
    return [
        (torch.cat([b.samples for b in step]), torch.cat([b.clips for b in step]), torch.cat([b.targets for b in step]))
        for step in zip(*steps, strict=True)
    ]


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True)
    )


def test_pixels_are_the_same_for_any_number_of_ranks(numbered_manifest):
    """2 ranks, then 1, then 2 again, in the middle of epochs of three steps; mixed in pairs."""
    expected = together(loaders(numbered_manifest, 1, mix_group=2), 7)
    assert not torch.equal(expected[0][1], together(loaders(numbered_manifest, 1), 1)[0][1])  # the group matters
    first = loaders(numbered_manifest, 2, mix_group=2)
    got = together(first, 2)
    states = [json.loads(json.dumps(rank.state_dict())) for rank in first]
    assert states[0] == states[1]
    (second,) = loaders(numbered_manifest, 1)
    second.load_state_dict(states[0])
    got += together([second], 3)
    third = loaders(numbered_manifest, 2)
    for rank in third:
        rank.load_state_dict(second.state_dict())
    got += together(third, 2)
    assert same(got, expected)


def test_another_global_batch(numbered_manifest, caplog):
    (first,) = loaders(numbered_manifest, 1, 4, mix_group=2)
    before = together([first], 1)
    state = first.state_dict()
    (second,) = loaders(numbered_manifest, 1, 3, drop_last=False)
    state["drop_last"] = False
    with caplog.at_level(logging.WARNING):
        second.load_state_dict(state)
    text = "a step had 4 samples, here it has 3: what is left of epoch 0 (samples: 8) is cut into batches anew"
    assert text in caplog.text
    second.set_epoch(0)  # as trainers do: nothing changes
    twin = copy.deepcopy(second)
    after = together([second], 3)
    assert [len(step[0]) for step in after] == [3, 3, 2]
    samples = torch.cat([step[0] for step in (*before, *after)])
    assert sorted(samples.tolist()) == list(range(12))
    assert same(together([twin], 3), after)
    assert [len(step[0]) for step in together([second], 4)] == [3] * 4  # the next epoch is whole
    again = loaders(numbered_manifest, 1, 3, drop_last=False)[0]
    again.load_state_dict(state)
    together([again], 1)
    middle = again.state_dict()
    assert (middle["batch"], middle["offset"]) == (1, 4)
    third = loaders(numbered_manifest, 1, 3, drop_last=False)[0]
    third.load_state_dict(middle)
    assert same(together([third], 2), after[1:])
    third.load_state_dict(middle)
    second.load_state_dict(state)
    with caplog.at_level(logging.WARNING):
        second.set_epoch(5)  # the rest of epoch 0 does not come any more
    assert "set_epoch(5) drops the position of the loaded state, batch 0 of epoch 0" in caplog.text
    third.set_epoch(1)
    third.set_epoch(0)  # from its start
    assert sorted(torch.cat([step[0] for step in together([third], 4)]).tolist()) == list(range(12))


def test_what_cannot_be(numbered_manifest):
    with pytest.raises(ValueError, match="mix_group must be an int that divides batch_size 4, got 3"):
        loaders(numbered_manifest, 1, mix_group=3)
    for wrong in (0, True, 2.0):
        with pytest.raises(ValueError, match="mix_group must be an int that divides"):
            Schedule(12, 4, mix_group=wrong)
    (loader,) = loaders(numbered_manifest, 1)
    state = loader.state_dict()
    message = (
        "mixes clips in groups of 4 samples, which batch_size 2 is no multiple of. .* start with a smaller mix_group"
    )
    with pytest.raises(ValueError, match=message):
        loaders(numbered_manifest, 2)[0].load_state_dict(state)
    with pytest.raises(ValueError, match="of another loader: mix_group is 2, the state's 4"):
        loaders(numbered_manifest, 1, mix_group=2)[0].load_state_dict(state)
    taken = loaders(numbered_manifest, 1)[0]
    for group in (2, 4, 1):  # what an earlier state said does not bind
        taken.load_state_dict(state | {"mix_group": group})
        assert taken.state_dict()["mix_group"] == group
    plain = dv.VideoLoader(numbered_manifest, dv.Recipe(MIXED.sampling, MIXED.ops[:1]), 2, seed=3, device="cpu")
    plain.load_state_dict(state | {"recipe": repr(plain.recipe)})  # nothing is mixed
    for wrong in ({"step": 0}, {"offset": -1}, {"mix_group": 2.0}, {"batch": 4}, {"offset": 13}):
        with pytest.raises(ValueError, match="of the state (must be in|is 4, which)|batch of the state is 0"):
            loader.load_state_dict(state | wrong)
    for wrong in ([0, 1], -1, [[0]], "x", 2**32):
        with pytest.raises(ValueError, match="batch must be"):
            clip_column("batch", wrong, 3, 2**32)
    with pytest.raises(ValueError, match="mix_group is 1, but CubeCutMix needs other clips to mix with"):
        loaders(numbered_manifest, 1, mix_group=1)


@pytest.mark.parametrize("given", [True, False])
def test_a_copy_keeps_the_groups_of_a_state(given, numbered_manifest):
    """At the beginning of an epoch, too, where it finds its own shard if none was given."""
    (first,) = loaders(numbered_manifest, 1, mix_group=2)
    (second,) = loaders(numbered_manifest, 1)
    if not given:
        second = dv.VideoLoader(numbered_manifest, MIXED, 4, seed=3, device="cpu", num_threads=1)
    second.load_state_dict(first.state_dict())
    expected = together([first], 1)
    for copied in (copy.deepcopy(second), pickle.loads(pickle.dumps(second))):
        assert same(together([copied], 1), expected)
    assert same(together([second], 1), expected)


@dataclass(frozen=True)
class Together:
    """An op of a user's own that draws a number for all clips of a group."""

    def draw(self, draws, frames, height, width):
        args = np.zeros(len(draws), [("level", "i4")])
        args["level"] = draws.of_batch().integers("level", 200)
        return args

    def run(self, clips, rows, num_threads):
        return [np.full_like(clip, row["level"]) for clip, row in zip(clips, rows, strict=True)]


@pytest.mark.parametrize("op", [Together(), dv.RandomApply(Together(), 1.0)], ids=["alone", "RandomApply"])
def test_an_op_that_draws_for_all_clips_keeps_the_groups(op, numbered_manifest):
    recipe = dv.Recipe(MIXED.sampling, (MIXED.ops[0], op))
    first = dv.VideoLoader(numbered_manifest, recipe, 4, mix_group=2, seed=3, device="cpu")
    second = dv.VideoLoader(numbered_manifest, recipe, 4, seed=3, device="cpu")
    second.load_state_dict(first.state_dict())
    expected = together([first], 1)
    assert len(expected[0][1].flatten(1).float().mean(1).unique()) == 2
    assert same(together([second], 1), expected)


def test_a_network_that_sees_other_clips_keeps_the_groups(numbered_manifest):
    dv.register_module("half", lambda clips, partners: (clips + partners) / 2)
    recipe = dv.Recipe(MIXED.sampling, (MIXED.ops[0], dv.TorchModule("half", partner=True)))
    options = dict(seed=3, device="cpu", shuffle=False)
    first = dv.VideoLoader(numbered_manifest, recipe, 4, mix_group=2, **options)
    second = dv.VideoLoader(numbered_manifest, recipe, 4, **options)
    second.load_state_dict(first.state_dict())
    assert same(together([second], 2), together([first], 2))
