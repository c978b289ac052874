"""The order of an epoch, and how shards divide it."""

from collections import Counter

import numpy as np
import pytest

from dali_vidaug.schedule import Schedule, permute


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100, 1000, 65_537])
def test_permute_is_a_permutation(size):
    keys = np.arange(6, dtype=np.uint32) * 77 + size
    assert sorted(permute(np.arange(size), size, keys)) == list(range(size))


def test_permute_of_a_part_agrees_with_the_whole_and_stays_in_range():
    keys = np.arange(6, dtype=np.uint32)
    assert (permute(np.array([7, 3]), 1000, keys) == permute(np.arange(1000), 1000, keys)[[7, 3]]).all()
    assert permute(np.array([2**32 - 1, 0]), 2**32, keys).max() < 2**32


def samples_of(schedule, epoch, index):
    """The samples of a batch, when there is one clip of each."""
    samples, views, repeat_index, _ = schedule.batch(epoch, index)
    assert len(views) == len(repeat_index) == len(samples) and not views.any() and not repeat_index.any()
    return samples.tolist()


def test_every_sample_comes_to_every_position():
    """Over many epochs each of 20 samples is at each of 20 positions equally often, and pairs are independent."""
    size, epochs = 20, 6000
    orders = np.array([samples_of(Schedule(size, size, seed=3), e, 0) for e in range(epochs)])
    counts = np.stack([np.bincount(orders[:, position], minlength=size) for position in range(size)])
    chi2 = ((counts - epochs / size) ** 2 / (epochs / size)).sum()
    assert chi2 < 480, chi2  # 361 degrees of freedom: 1 in 30,000
    assert abs((orders[:, 0] < orders[:, 1]).mean() - 0.5) < 5 * 0.5 / np.sqrt(epochs)
    # neighbours in the manifest do not stay neighbours
    assert (np.abs(np.diff(orders, axis=1)) == 1).mean() < 2 * 2 / size


def epoch_of(shards, epoch=0):
    return [[samples_of(shard, epoch, i) for i in range(shard.num_batches)] for shard in shards]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("num_shards", [1, 2, 3, 7])
@pytest.mark.parametrize("num_samples", [21, 64, 101, 113])
def test_shards_together_give_every_sample_once(num_samples, num_shards, shuffle):
    options = dict(num_samples=num_samples, batch_size=4, seed=5, shuffle=shuffle, drop_last=False)
    shards = [Schedule(**options, num_shards=num_shards, shard_index=i) for i in range(num_shards)]
    batches = epoch_of(shards)
    counts = Counter(sample for shard in batches for batch in shard for sample in batch)
    assert sorted(counts) == list(range(num_samples)) and set(counts.values()) == {1}
    assert all(1 <= len(batch) <= 4 for shard in batches for batch in shard)
    lengths = [len(shard) for shard in batches]
    assert max(lengths) - min(lengths) <= (0 < num_samples % (4 * num_shards) < num_shards)


def test_steps_hold_the_same_samples_for_any_number_of_shards():
    def step(num_shards, index):
        shards = [Schedule(100, 12 // num_shards, 1, num_shards=num_shards, shard_index=i) for i in range(num_shards)]
        return [s for shard in shards for s in samples_of(shard, 2, index)]

    assert step(1, 3) == step(3, 3) == step(4, 3)


def test_drop_last_gives_full_batches_only():
    shards = [Schedule(103, 8, 0, num_shards=3, shard_index=i) for i in range(3)]
    batches = epoch_of(shards)
    assert [len(shard) for shard in batches] == [4, 4, 4]
    samples = [s for shard in batches for batch in shard for s in batch]
    assert len(samples) == len(set(samples)) == 96 and all(len(b) == 8 for shard in batches for b in shard)


def test_epochs_and_seeds_differ():
    orders = {tuple(samples_of(Schedule(50, 50, seed), epoch, 0)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert samples_of(Schedule(5, 5, shuffle=False), 9, 0) == [0, 1, 2, 3, 4]


def test_the_order_is_pinned():
    assert samples_of(Schedule(10, 10, seed=42), 1, 0) == [0, 3, 8, 9, 7, 6, 5, 1, 2, 4]


@pytest.mark.parametrize(
    "bad",
    [
        dict(num_samples=0),
        dict(batch_size=0),
        dict(num_shards=0),
        dict(shard_index=1),
        dict(seed=-1),
        dict(batch_size=11),
        dict(num_clips=0),
        dict(num_clips=257),
    ],
    ids=str,
)
def test_bad_options_are_refused(bad):
    with pytest.raises(ValueError, match=f"VideoLoader: .*{next(iter(bad))}"):
        Schedule(**{"num_samples": 10, "batch_size": 2, **bad})


@pytest.mark.parametrize("cut", [(0, 0), (2, 7)])
def test_all_shards_number_their_steps_alike(cut):
    """By the place of a step's first sample: whatever the number of shards, and also of an epoch that was cut."""
    order = [s for i in range(3) for s in samples_of(Schedule(30, 12, 5, drop_last=False), 2, i)]
    for shards in (1, 2, 4):
        every = [
            Schedule(30, 12 // shards, 5, drop_last=False, num_shards=shards, shard_index=k, cut=cut)
            for k in range(shards)
        ]
        for epoch, first in ((2, cut[1] if cut[0] == 2 else 0), (3, 0)):
            assert {tuple(s.step_number(epoch, i) for i in range(2)) for s in every} == {(first, first + 12)}
        assert samples_of(every[0], 2, 1)[0] == order[every[0].step_number(2, 1)]
