"""The order of epochs that stay within a few tar shards at a time."""

from collections import Counter

import numpy as np
import pytest

from dali_vidaug.order import ShardOrder
from dali_vidaug.schedule import Schedule


def shards_of(sizes, seed=None):
    """Which shard each sample is in: one shard after the other or, with a seed, in any order."""
    shards = np.repeat(np.arange(len(sizes)), sizes)
    return shards if seed is None else np.random.default_rng(seed).permutation(shards)


def order_of(shards, at_a_time, seed=3, epoch=0):
    order = ShardOrder(shards, at_a_time)
    return order.samples(seed, epoch, np.arange(len(shards)))


def rounds(shards, order):
    """The sets of shards that are read: a set ends where a shard comes that is not among them and all of them are
    through."""
    left, found = Counter(shards.tolist()), [set()]
    for shard in shards[order].tolist():
        if found[-1] and not any(left[one] for one in found[-1]):
            found.append(set())
        found[-1].add(shard)
        left[shard] -= 1
    return found


SIZES = [[1], [5, 1, 7], [40] * 13, [3, 90, 1, 1, 44, 17, 250, 8], [1] * 30]


@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("at_a_time", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}")
def test_each_sample_comes_once_and_only_so_many_shards_are_open(sizes, at_a_time, seed):
    shards = shards_of(sizes, seed)
    for epoch in range(2):
        order = order_of(shards, at_a_time, epoch=epoch)
        assert order.dtype == np.int64 and sorted(order) == list(range(len(shards)))
        read = rounds(shards, order)
        assert max(map(len, read)) <= at_a_time
        assert sorted(shard for some in read for shard in some) == list(range(len(sizes)))  # each shard in one round


def test_blocks_have_as_equal_numbers_of_shards_as_can_be():
    """17 shards, 8 at a time: not 8, 8 and one that is alone."""
    shards = shards_of([30] * 17)
    assert sorted(map(len, rounds(shards, order_of(shards, 8)))) == [5, 6, 6]


@pytest.mark.parametrize("seed", [None, 9])
def test_any_position_can_be_asked_for(seed):
    shards = shards_of([3, 90, 1, 1, 44, 17, 250, 8], seed)
    order, whole = ShardOrder(shards, 3), order_of(shards, 3, epoch=5)
    chosen = np.random.default_rng(0).permutation(len(shards))[:100]
    order.samples(3, 4, chosen)  # of another epoch
    assert (order.samples(3, 5, chosen) == whole[chosen]).all()
    assert len(order.samples(3, 5, chosen[:0])) == 0


def test_shards_and_samples_are_shuffled():
    """Over many epochs each shard comes first equally often, and a sample is equally often at each place of a block."""
    sizes, epochs = [4] * 6, 600
    shards = shards_of(sizes)
    order = ShardOrder(shards, 2)
    orders = np.stack([order.samples(3, epoch, np.arange(24)) for epoch in range(epochs)])
    counts = np.bincount(shards[orders[:, 0]], minlength=6)
    assert ((counts - epochs / 6) ** 2 / (epochs / 6)).sum() < 25  # 5 degrees of freedom: 1 in 7,000
    place = (orders == 0).argmax(1)  # where sample 0 comes: any of 24
    counts = np.bincount(place, minlength=24)
    assert ((counts - epochs / 24) ** 2 / (epochs / 24)).sum() < 56  # 23 degrees of freedom: 1 in 7,000
    neighbours = (np.diff(orders, axis=1) == 1).mean()
    assert neighbours < 2 * 7 / 8 / 8  # two in a row as they are stored: as in a shuffle of 8, not of a shard
    partners = shards[orders[:, :8]]
    assert (np.sort(partners, 1)[:, ::4] == [0, 5]).all(1).any()  # shards that are far apart are mixed
    within = [np.unique(row, return_index=True)[1] for row in partners[:500]]
    assert sum(max(first) < 4 for first in within) > 400  # from the first samples on, not one shard after the other


def test_seeds_and_epochs_differ():
    shards = shards_of([20] * 6)
    orders = [tuple(order_of(shards, 2, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_what_shards_are_called_and_where_their_rows_are_does_not_matter():
    """The order is that of the places in the manifest: names may have gaps."""
    shards = shards_of([20] * 6)
    assert (order_of(shards, 2) == order_of(shards * 7 + 100, 2)).all()


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("num_shards", [1, 2, 4])
def test_the_order_is_the_same_for_any_number_of_ranks(num_shards, drop_last):
    order = ShardOrder(shards_of([13, 4, 30, 22, 11, 9, 40], seed=1), 3)
    options = dict(num_samples=129, seed=5, drop_last=drop_last, shards=order)
    alone = Schedule(**options, batch_size=8)
    ranks = [
        Schedule(**options, batch_size=8 // num_shards, num_shards=num_shards, shard_index=i) for i in range(num_shards)
    ]
    for epoch in (0, 1):
        parts = [[r.batch(epoch, i).samples for i in range(r.num_batches)] for r in ranks]
        steps = [np.concatenate([part[i] for part in parts if i < len(part)]) for i in range(max(map(len, parts)))]
        expected = [alone.batch(epoch, i).samples for i in range(alone.num_batches)]
        assert [step.tolist() for step in steps] == [batch.tolist() for batch in expected]
        assert len(set(np.concatenate(steps))) == (128 if drop_last else 129)


def test_a_cut_goes_on_in_the_same_order():
    """After 24 samples, with batches of 5 instead of 8, each other sample still comes once."""
    order = ShardOrder(shards_of([13, 4, 30, 22]), 2)
    before = Schedule(69, 8, shards=order)
    after = Schedule(69, 5, shards=order, drop_last=False, cut=(0, 24))
    first = np.concatenate([before.batch(0, i).samples for i in range(3)])
    rest = np.concatenate([after.batch(0, i).samples for i in range(after.batches_in(0))])
    assert (np.append(first, rest) == order.samples(0, 0, np.arange(69))).all()
