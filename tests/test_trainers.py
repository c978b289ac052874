"""What trainers do with batches and loaders: moved, pinned, mapped over, pickled, copied, peeked at, left early."""

import copy
import dataclasses
import multiprocessing
import pickle
import threading
from collections import namedtuple

import numpy as np
import pytest
import torch
from conftest import RECIPE, same_batch, take_batches

import dali_vidaug as dv

MIXED = dv.Recipe(RECIPE.sampling, (dv.RandomResizedCrop(32), dv.CutMix(), dv.Normalize()))


def make_loader(manifest, recipe=RECIPE, batch_size=4, **options):
    return dv.VideoLoader(manifest, recipe, batch_size, seed=3, device="cpu", **options)


def places(batches):
    return [(batch.epoch, batch.index) for batch in batches]


# ---- Batches


def apply_to_collection(data, function):
    """What lightning_utilities' function of that name does to tensors: the fields of a dataclass are set on a copy."""
    if isinstance(data, torch.Tensor):
        return function(data)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        memo = {id(getattr(data, field.name)): getattr(data, field.name) for field in dataclasses.fields(data)}
        result = copy.deepcopy(data, memo)
        for field in dataclasses.fields(data):
            value = getattr(data, field.name)
            setattr(result, field.name, apply_to_collection(value, function) if field.init else value)
        return result
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(apply_to_collection(value, function) for value in data))
    if isinstance(data, (list, tuple)):
        return type(data)(apply_to_collection(value, function) for value in data)
    return data


def test_trainers_map_over_a_batch(numbered_manifest):
    (batch,) = take_batches(make_loader(numbered_manifest, MIXED), 1)
    half = apply_to_collection(batch, lambda t: t.half() if t.is_floating_point() else t)
    assert half.clips.dtype == half.targets.dtype == half.mix.own.dtype == torch.float16
    assert batch.clips.dtype == batch.mix.own.dtype == torch.float32
    assert half.plan is batch.plan and half.manifest is batch.manifest and half.epoch == batch.epoch
    assert torch.equal(half.samples, batch.samples) and half.rows("path").tolist() == batch.rows("path").tolist()
    clips, targets = half
    assert clips is half.clips and targets is half.targets


def test_trainers_that_make_halves_of_floats_leave_boxes():
    """As bfloat16, x = 221 would be 221 or 222."""
    boxes = dv.Boxes([0], [1], [[3.0, 5.0, 221.25, 90.5]])
    batch = dv.augment(np.zeros((1, 2, 120, 230, 3), np.uint8), (dv.Normalize(),), layout="FHWC", boxes=boxes)
    half = apply_to_collection(batch, lambda t: t.bfloat16() if t.is_floating_point() else t)
    assert half.clips.dtype == torch.bfloat16 and half.boxes.xyxy.tolist() == [[3.0, 5.0, 221.25, 90.5]]


def test_lightnings_own_function(numbered_manifest):
    """The real one, where it is installed."""
    core = pytest.importorskip("lightning_utilities.core.apply_func")
    (batch,) = take_batches(make_loader(numbered_manifest, MIXED), 1)
    half = core.apply_to_collection(batch, torch.Tensor, lambda t: t.half() if t.is_floating_point() else t)
    assert half.clips.dtype == half.mix.own.dtype == torch.float16 and half.plan is batch.plan
    assert half.rows("path").tolist() == batch.rows("path").tolist()


def test_a_batch_is_moved(numbered_manifest):
    """To the one other device that is always there, which holds no values; and it is a new batch."""
    (batch,) = take_batches(make_loader(numbered_manifest, MIXED), 1)
    moved = batch.to("meta", non_blocking=True)
    assert {t.device.type for t in (moved.clips, moved.targets, *moved.mix)} == {"meta"}
    assert {t.device.type for t in (batch.clips, *batch.mix, moved.samples, moved.repeated)} == {"cpu"}
    assert moved.plan is batch.plan and moved.rows("path").tolist() == batch.rows("path").tolist()
    assert same_batch(batch.to("cpu"), batch) and batch.to(torch.device("cpu")).index == batch.index


def test_a_batch_is_pinned_by_torchs_own_function(numbered_manifest, monkeypatch):
    from torch.utils.data._utils.pin_memory import pin_memory

    (batch,) = take_batches(make_loader(numbered_manifest, MIXED), 1)
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: asked.append(tuple(tensor.shape)) or tensor.clone())
    pinned = pin_memory(batch)  # without a GPU torch pins nothing: which tensors it is asked for is what can be seen
    assert isinstance(pinned, dv.Batch) and same_batch(pinned, batch)
    assert asked == [tuple(t.shape) for t in (batch.clips, batch.targets, *batch.mix)]


def test_a_batch_is_pickled_and_copied(numbered_manifest):
    (batch,) = take_batches(make_loader(numbered_manifest, MIXED), 1)
    for other in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch)):
        assert same_batch(other, batch) and other.plan.describe(0, numbered_manifest) == batch.describe(0)


# ---- Loaders


COPIES = {"pickle": lambda loader: pickle.loads(pickle.dumps(loader)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_goes_on_where_the_loader_is(way, taken, numbered_manifest):
    loader = make_loader(numbered_manifest, num_threads=1)
    expected = take_batches(make_loader(numbered_manifest), 7)
    take_batches(loader, taken)
    before = set(threading.enumerate())
    other = COPIES[way](loader)
    assert set(threading.enumerate()) <= before  # threads start with the first batch
    assert other.state_dict() == loader.state_dict() and repr(other) == repr(loader)
    assert other.settings.num_threads == 1 and other.report().batches == 0
    assert all(same_batch(a, b) for a, b in zip(take_batches(other, 3), expected[taken:], strict=False))
    assert loader.state_dict()["batch"] == taken % 3  # which the copy has not moved


def test_a_deep_copy_shares_the_manifest_and_keeps_options(numbered_manifest):
    loader = make_loader(
        numbered_manifest, on_error="skip", num_shards=3, shard_index=1, even=False, drop_last=False, shuffle=False
    )
    loader.settings = dataclasses.replace(loader.settings, dtype="float16")
    other = copy.deepcopy(loader)
    assert other.manifest is loader.manifest and other.settings == loader.settings
    assert other.schedule == loader.schedule
    assert next(iter(other)).clips.dtype == torch.float16
    other.close()


def take_in_child(loader, results):
    with loader:
        batch = next(iter(loader))
    results.put((batch.epoch, batch.index, batch.samples.tolist(), batch.clips.double().sum().item()))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_loader_goes_to_another_process(method, numbered_manifest):
    loader = make_loader(numbered_manifest, num_threads=1)
    take_batches(loader, 4)
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    child = context.Process(target=take_in_child, args=(loader, results))
    child.start()
    got = results.get()
    child.join()
    batch = take_batches(make_loader(numbered_manifest), 5)[-1]
    assert got == (1, 1, batch.samples.tolist(), batch.clips.double().sum().item())


def test_in_an_epoch_a_copy_keeps_its_shard_and_between_epochs_it_finds_its_own(numbered_manifest, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: World.size)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    World = namedtuple("World", "size")(1)
    loader = make_loader(numbered_manifest)
    take_batches(loader, 1)
    World = World._replace(size=2)
    with pytest.raises(RuntimeError, match="rank 0 of 2, but this loader is shard 0 of 1"):
        next(iter(copy.deepcopy(loader)))
    loader.set_epoch(4)
    other = copy.deepcopy(loader)
    assert (len(loader), len(other)) == (3, 1)
    assert next(iter(other)).epoch == 4
    other.close()


# ---- Peeking, leaving early, overtaking


def test_a_peek_loses_nothing(numbered_manifest):
    """Any number of peeks before an epoch: the epoch is whole, and the same."""
    expected = take_batches(make_loader(numbered_manifest), 6)
    with make_loader(numbered_manifest) as loader:
        for first in (0, 3):
            for _ in range(2):
                assert same_batch(next(iter(loader)), expected[first])
            assert all(same_batch(a, b) for a, b in zip(loader, expected[first : first + 3], strict=True))


def test_iter_alone_changes_nothing(numbered_manifest):
    with make_loader(numbered_manifest) as loader:
        for _ in range(3):
            iter(loader)
        assert places(loader) == [(0, 0), (0, 1), (0, 2)]


def test_a_loop_that_is_left_later_is_followed_by_the_next_epoch(numbered_manifest, caplog):
    with caplog.at_level("INFO", "dali_vidaug"), make_loader(numbered_manifest) as loader:
        for batch in loader:
            if batch.index == 1:
                break
        assert loader.state_dict()["batch"] == 2
        assert places(loader) == [(1, 0), (1, 1), (1, 2)]
        assert "left after batch 2 of 3: the next begins epoch 1. set_epoch(0) begins the same one again" in caplog.text
        loader.set_epoch(0)
        assert places(loader) == [(0, 0), (0, 1), (0, 2)]


def test_an_epoch_of_which_the_last_batch_was_taken_is_over(numbered_manifest):
    """Trainers that count batches do not ask for one more."""
    with make_loader(numbered_manifest) as loader, make_loader(numbered_manifest, batch_size=12) as one_batch:
        for epoch in range(3):
            iterator = iter(loader)
            assert places(next(iterator) for _ in range(len(loader))) == [(epoch, 0), (epoch, 1), (epoch, 2)]
            assert places([next(iter(one_batch))]) == [(epoch, 0)]


def test_a_peek_after_resuming_keeps_the_position(numbered_manifest):
    state = {**make_loader(numbered_manifest).state_dict(), "epoch": 2, "batch": 1}
    with make_loader(numbered_manifest) as loader:
        loader.load_state_dict(state)
        assert places([next(iter(loader))]) == [(2, 1)]
        loader.set_epoch(2)  # as training loops do
        assert places(loader) == [(2, 1), (2, 2)]
        assert places(loader) == [(3, 0), (3, 1), (3, 2)]


@pytest.mark.parametrize(
    "overtake",
    [
        lambda loader: next(iter(loader)),
        lambda loader: list(loader),
        lambda loader: loader.set_epoch(5),
        lambda loader: loader.load_state_dict(loader.state_dict()),
    ],
    ids=["peek", "loop", "set_epoch", "load_state_dict"],
)
def test_an_iterator_that_is_overtaken_raises(overtake, numbered_manifest):
    with make_loader(numbered_manifest) as loader:
        seen = []
        with pytest.raises(RuntimeError, match=r"loop over epoch 0 was overtaken.*copy.deepcopy\(loader\)"):
            for batch in loader:
                seen.append(batch.index)
                overtake(loader)
        assert seen == [0]


def test_after_the_last_batch_a_loop_may_be_moved(numbered_manifest):
    with make_loader(numbered_manifest) as loader:
        for batch in loader:
            if batch.index == 2:
                loader.set_epoch(7)
        assert places(loader)[0] == (7, 0)


def test_two_copies_loop_side_by_side(numbered_manifest):
    with make_loader(numbered_manifest) as loader, copy.deepcopy(loader) as other:
        assert all(same_batch(a, b) for a, b in zip(loader, other, strict=True))


def test_random_walks_never_repeat_or_skip_without_a_reason(numbered_manifest):
    """Loops of any length, peeks and resumes: the epochs follow each other by the stated rules."""
    rng = np.random.default_rng(0)
    small = dv.Recipe(dv.ClipSampling(1), (dv.Resize((8, 8)),))
    with make_loader(numbered_manifest, small, batch_size=4) as loader:
        epoch, index = 0, 0  # where the next loop begins
        for _ in range(40):
            count = int(rng.integers(0, 4 - index))
            iterator = iter(loader)
            got = places(next(iterator) for _ in range(count))
            assert got == [(epoch, index + i) for i in range(count)]
            after = (epoch, index + count) if index + count < 3 else (epoch + 1, 0)
            if count:
                assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == after
            if rng.random() < 0.3 and count:
                loader.load_state_dict(loader.state_dict())
                epoch, index = after
            elif after[0] > epoch or count > 1:
                epoch, index = epoch + 1, 0
