"""Flips where left and right are labels: classes trade places in the labels of mirrored clips."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import noise_clips, write_numbered

import dali_vidaug as dv
from dali_vidaug.ops.label_map import trade

NAMES = ("down", "move left", "move right", "roll left", "roll right", "up")
PAIRS = (("move left", "move right"), ("roll right", "roll left"))
OTHER = {0: 0, 1: 2, 2: 1, 3: 4, 4: 3, 5: 5, -1: -1}  # of PAIRS, written by hand
SIZE = (4, 10, 12)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Thirteen videos of six classes, one without a label."""
    folder = tmp_path_factory.mktemp("mirrored")
    lines = ["path,label"]
    for i in range(13):
        write_numbered(folder / f"{i:02d}.mp4", 8)
        lines.append(f"{i:02d}.mp4,{NAMES[i % 6] if i < 12 else ''}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    manifest = dv.scan(folder / "list.csv", progress=False)
    assert manifest.classes == NAMES
    return manifest


def loader_of(manifest, *ops, **options):
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.CenterCrop(64), *ops, dv.Normalize()))
    return dv.VideoLoader(manifest, recipe, len(manifest), seed=5, device="cpu", num_threads=1, prefetch=1, **options)


@pytest.mark.parametrize("label_map", [PAIRS, dict(PAIRS), ((1, 2), (4, 3)), {3: 4, 2: 1}], ids=str)
@pytest.mark.parametrize("targets", ["soft", "index"])
def test_labels_of_mirrored_clips_are_those_of_the_mirror(label_map, targets, videos):
    """And those of the others stay; what is mirrored is read from the pixels."""
    mirrored = 0
    with (
        loader_of(videos, dv.RandomHorizontalFlip(0.5, label_map), targets=targets) as loader,
        loader_of(videos, dv.RandomHorizontalFlip(0.0)) as plain,
    ):
        for epoch in range(2):
            batch, other = next(iter(loader)), next(iter(plain))
            for loop in (loader, plain):
                loop.set_epoch(epoch + 1)
            for i, sample in enumerate(batch.samples.tolist()):
                flipped = not batch.clips[i].equal(other.clips[i])
                assert batch.clips[i].equal(other.clips[i].flip(-1) if flipped else other.clips[i])
                label = int(videos.labels[sample])
                expected = OTHER[label] if flipped else label
                if targets == "index":
                    assert batch.targets[i] == expected
                else:
                    assert batch.targets[i].tolist() == [float(k == expected) for k in range(6)]
                mirrored += flipped
    assert 4 <= mirrored <= 22


def dense(batch):
    """The soft targets that indices mean."""
    rows = np.eye(7, 6)[batch.targets.numpy()]  # -1: the last, zeros
    own, partner = batch.mix.own.numpy().astype(np.float64)[:, None], batch.mix.partner.numpy()
    return own * rows + (1 - own) * rows[partner]


@pytest.mark.parametrize("mix", [dv.CutMix(), dv.MixUp()], ids=lambda op: op.name)
def test_labels_are_mixed_after_they_have_changed(mix, videos):
    """A clip and its partner are mirrored, or not, each by itself; indices mean the same as soft labels."""
    flip = dv.RandomHorizontalFlip(0.5, PAIRS)
    with loader_of(videos, flip, mix) as soft, loader_of(videos, flip, mix, targets="index") as index:
        for one, other in zip(soft, index, strict=True):
            np.testing.assert_allclose(dense(other), one.targets.numpy(), atol=1e-6)
            mirrored = one.plan.args["RandomHorizontalFlip"]["mirrored"] != 0
            labels = np.array([OTHER[k] if m else k for k, m in zip(videos.labels[one.samples], mirrored, strict=True)])
            assert other.targets.tolist() == labels.tolist() and 0 < mirrored.sum() < 13


def test_a_flip_after_mixing_changes_both_labels():
    """Of the mixed clip: the share of left becomes that of right, whichever of the two clips had it."""
    clips, labels = noise_clips(*[SIZE] * 6), np.eye(6)
    ops = (dv.MixUp(), dv.RandomHorizontalFlip(0.5, {1: 2, 3: 4}))
    batch, plain = dv.augment(clips, ops, labels, seed=2), dv.augment(clips, (dv.MixUp(),), labels, seed=2)
    mirrored = batch.plan.args["RandomHorizontalFlip"]["mirrored"] != 0
    assert 0 < mirrored.sum() < 6
    order = [OTHER[k] for k in range(6)]
    expected = np.where(mirrored[:, None], plain.targets.numpy()[:, order], plain.targets.numpy())
    np.testing.assert_array_equal(batch.targets.numpy(), expected)
    with pytest.raises(
        ValueError, match="'index' cannot express that RandomHorizontalFlip changes the labels of clips "
    ):
        dv.augment(clips, ops, [0, 1, 2, 3, 4, 5])


def test_several_labels_a_clip_trade_places_too():
    labels = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    flip = dv.RandomHorizontalFlip(1.0, ((1, 2),))
    assert dv.augment(noise_clips(*[SIZE] * 4), (flip,), labels).targets.tolist() == labels[:, [0, 2, 1, 3]].tolist()


def test_trading_places_twice_changes_nothing_and_once_is_the_map():
    rng = np.random.default_rng(0)
    pairs = np.array([(1, 2), (4, 3)])
    for _ in range(50):
        index, soft, applied = rng.integers(-1, 6, 8), rng.random((8, 6)), rng.random(8) < 0.5
        expected = [OTHER[k] if a else k for k, a in zip(index.tolist(), applied, strict=True)]
        assert trade(index, applied, pairs).tolist() == expected
        traded = trade(soft, applied, pairs)
        for i, k in np.ndindex(8, 6):
            assert traded[i, k] == soft[i, OTHER[k] if applied[i] else k]
        for labels in (index, soft):
            np.testing.assert_array_equal(trade(trade(labels, applied, pairs), applied, pairs), labels)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_an_op_that_is_applied_to_some_changes_the_labels_of_those(probability):
    flip = dv.RandomHorizontalFlip(1.0, ((0, 1),))
    clips = noise_clips(*[SIZE] * 12)
    batch = dv.augment(clips, (dv.RandomApply(flip, probability),), np.eye(2)[[0, 1] * 6])
    for i, clip in enumerate(clips):
        mirrored = np.array_equal(batch.clips[i].numpy(), clip[:, :, ::-1])
        assert mirrored != np.array_equal(batch.clips[i].numpy(), clip)
        assert batch.targets[i].argmax() == i % 2 ^ mirrored
        assert probability == 0.5 or mirrored == bool(probability)


@dataclass(frozen=True)
class Turned:
    """An op of a user's own that turns clips upside down, and with them two classes."""

    label_map: tuple = (("down", "up"),)

    moves_pixels = True

    def draw(self, draws, frames, height, width):
        args = np.zeros(len(draws), [("turned", "i4")])
        args["turned"] = draws.integers("turned", 2)
        return args

    def run(self, clips, rows, num_threads=None):
        return [
            np.ascontiguousarray(clip[:, ::-1]) if row["turned"] else clip
            for clip, row in zip(clips, rows, strict=True)
        ]

    def applied(self, args):
        return args["turned"] != 0


def test_an_op_of_ones_own_may_have_a_map(videos):
    with loader_of(videos, Turned()) as loader:
        batch = next(iter(loader))
    turned = batch.plan.args["Turned"]["turned"] != 0
    for i, label in enumerate(videos.labels[batch.samples]):
        expected = {0: 5, 5: 0}.get(int(label), label) if turned[i] else label
        assert batch.targets[i].tolist() == [float(k == expected) for k in range(6)]
    assert {0, 5} & set(videos.labels[batch.samples][turned].tolist())


def test_a_plan_is_replayed_with_its_labels(videos, tmp_path):
    with loader_of(videos, dv.RandomHorizontalFlip(0.5, PAIRS)) as loader:
        batch = next(iter(loader))
        batch.plan.save(tmp_path / "plan.json")
        again = loader.apply(dv.Plan.load(tmp_path / "plan.json"))
        assert again.targets.equal(batch.targets) and again.clips.equal(batch.clips)
        plan = dv.Plan.load(tmp_path / "plan.json")
        plan.args["RandomHorizontalFlip"]["mirrored"] = 1  # edited
        expected = [OTHER[k] for k in videos.labels[plan.samples].tolist()]
        assert loader.apply(plan).targets.max(1).values.tolist() == [float(k >= 0) for k in expected]
        labelled = np.array(expected) >= 0
        assert loader.apply(plan).targets.argmax(1)[labelled].tolist() == [k for k in expected if k >= 0]


def test_it_is_read_again_and_a_flip_without_a_map_is_written_as_before():
    flip = dv.RandomHorizontalFlip(0.5, {"a": "b", "b": "a", "c": "d"})
    assert flip.label_map == (("a", "b"), ("c", "d"))
    assert repr(flip) == "RandomHorizontalFlip(probability=0.5, label_map=(('a', 'b'), ('c', 'd')))"
    recipe = dv.Recipe(ops=(flip, dv.RandomApply(flip)))
    assert dv.Recipe.parse(repr(recipe)) == recipe and hash(flip) == hash(dv.RandomHorizontalFlip(0.5, flip.label_map))
    assert repr(dv.RandomHorizontalFlip()) == "RandomHorizontalFlip(probability=0.5)"
    assert dv.RandomHorizontalFlip(label_map=np.array([[1, 2]]).tolist()).label_map == ((1, 2),)
    assert dv.RandomHorizontalFlip(label_map=[(np.int64(1), 2)]).label_map == ((1, 2),)


@pytest.mark.parametrize(
    "label_map", [{}, (), "left", ("left", "right"), 3, {"a": "a"}, {"a": 1}, ((1, 2), (2, 3)), ((1, 2, 3),), {1: True},
                  {-1: 2}, {1.0: 2.0}, ((1, 2), ("a", "b")), [[[1], [2]]]], ids=str,
)  # fmt: skip
def test_what_is_no_map_is_refused(label_map):
    message = (
        "RandomHorizontalFlip: label_map must be None or pairs of classes, such as {'left': 'right'} or ((86, 87),)"
    )
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        dv.RandomHorizontalFlip(label_map=label_map)
    assert repr(label_map) in str(error.value)


@pytest.mark.parametrize(
    "label_map, message",
    [
        ({"move left": "move right", "spin left": "spin right"},
         "label_map of RandomHorizontalFlip has classes that are not among the 6 there are: 'spin left', 'spin right'"),
        ({0: 6}, "label_map of RandomHorizontalFlip has classes that are not among the 6 there are: 6"),
        ({i: i + 1 for i in range(6, 26, 2)}, "not among the 6 there are: 6, 7, 8, 9, 10, 11 and 14 more"),
    ],
)  # fmt: skip
def test_classes_that_there_are_not_are_named_when_the_loader_is_made(label_map, message, videos):
    with pytest.raises(ValueError, match=re.escape(message)):
        loader_of(videos, dv.RandomHorizontalFlip(0.5, label_map))


def test_where_there_are_no_labels(videos, tmp_path, caplog):
    write_numbered(tmp_path / "v.mp4", 8)
    manifest = dv.scan([tmp_path / "v.mp4"] * 2, progress=False)
    with pytest.raises(
        ValueError, match="label_map of RandomHorizontalFlip has classes, but no video of the manifest "
    ):
        loader_of(manifest, dv.RandomHorizontalFlip(0.5, {0: 1}))
    loader_of(manifest, dv.CutMix(), dv.LabelSmoothing())
    assert "no video of the manifest has a label, so CutMix and LabelSmoothing change none" in caplog.text
    caplog.clear()
    loader_of(videos, dv.CutMix())
    loader_of(manifest, dv.RandomHorizontalFlip())
    assert not caplog.text


def test_clips_in_memory_have_no_names_of_classes():
    clips = noise_clips(*[SIZE] * 2)
    named, numbered = dv.RandomHorizontalFlip(1.0, {"a": "b"}), dv.RandomHorizontalFlip(1.0, {0: 3})
    with pytest.raises(
        ValueError, match="label_map of RandomHorizontalFlip has names, 'a', 'b', but there are no names"
    ):
        dv.augment(clips, (named,), np.eye(2))
    with pytest.raises(ValueError, match="not among the 2 there are: 3"):
        dv.augment(clips, (numbered,), np.eye(2))
    assert dv.augment(clips, (numbered,), [0, 3]).targets.tolist() == [3, 0]
    assert dv.augment(clips, (named,)).targets.shape == (2, 0)
    assert torch.equal(dv.augment(clips, (named,)).clips, dv.augment(clips, (numbered,)).clips)
