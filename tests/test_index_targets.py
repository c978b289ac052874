"""Targets as indices: with partners and shares they are the soft ones, whatever happens to clips."""

import random
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import import_torchvision, noise_clips, read_number, take_batches, write_numbered
from torch.nn.functional import cross_entropy, nll_loss

import dali_vidaug as dv
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.ops.mix import FAMILIES
from dali_vidaug.targets import mix_targets

SIZE = (5, 12, 14)
CROP = dv.RandomResizedCrop(16)


def dense(batch, num_classes):
    """The soft targets that indices mean: a sum over two clips, in float64."""
    labels = batch.targets.numpy()
    rows = np.concatenate([np.eye(num_classes), np.zeros((1, num_classes))])[labels]  # -1: the last, zeros
    if batch.mix is None:
        return rows
    own, partner = batch.mix.own.numpy().astype(np.float64)[:, None], batch.mix.partner.numpy()
    return own * rows + (1 - own) * rows[partner]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family):
    clips, labels = noise_clips(*[SIZE] * 7), np.array([3, 0, -1, 3, 2, 1, 0])
    soft = np.concatenate([np.eye(4), np.zeros((1, 4))])[labels]
    for seed in range(4):
        for granularity in ("clip", "batch"):
            ops = (dv.Mix(family, probability=0.7, granularity=granularity),)
            one = dv.augment(clips, ops, labels, seed=seed)
            other = dv.augment(clips, ops, soft, seed=seed)
            assert torch.equal(one.clips, other.clips) and one.targets.tolist() == labels.tolist()
            np.testing.assert_allclose(dense(one, 4), other.targets, atol=1e-7, rtol=0)


def random_recipe(rng):
    """One op that mixes, or none, among others that leave labels alone, in any order that is allowed."""
    mixing = [dv.Mix(rng.choice(FAMILIES), probability=rng.choice([0.5, 1.0])) for _ in range(2)]
    one = rng.choice([
        (), (mixing[0],), (dv.OneOf((*mixing, dv.RandomErasing(1.0))),),
        (dv.OneOf(tuple(mixing), granularity="batch"),),
    ])  # fmt: skip
    others = rng.sample([
        dv.RandomErasing(0.5), dv.RandomApply(dv.ColorJitter(0.4), 0.5), dv.RandomHorizontalFlip(), dv.RandAugmentT(),
    ], 2)  # fmt: skip
    ops = [*one, *others]
    rng.shuffle(ops)
    views = rng.choice([dv.ClipSampling(2), dv.MultiClip(dv.ClipSampling(2), 2)])
    return dv.Recipe(views, (CROP, *ops, dv.Normalize()))


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """Three classes, two rows without a label, two files that cannot be decoded."""
    folder = tmp_path_factory.mktemp("index")
    lines = []
    for i in range(14):
        write_numbered(folder / f"{i:02d}.mp4", 12)
        lines.append(f"{i:02d}.mp4,{'' if i in (3, 8) else 'abc'[i % 3]}")
    (folder / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    manifest = dv.scan(folder / "list.csv", progress=False)
    for i in (5, 9):
        Path(manifest.path(i)).write_bytes(b"no video")
    return manifest


@pytest.mark.parametrize("seed", range(8))
def test_in_a_loader_they_are_the_soft_ones(spoilt, seed):
    """With clips that are replaced, left out, repeated, of several views and repeats, in groups, without a label."""
    rng = random.Random(seed)
    recipe = random_recipe(rng)
    options = dict(
        seed=seed, device="cpu", drop_last=False, on_error=rng.choice(["replace", "skip"]), repeats=rng.choice([1, 2]),
        mix_group=rng.choice([None, 2, 4]), num_shards=2, shard_index=rng.choice([0, 1]),
        shuffle=rng.choice([True, False]),
    )  # fmt: skip
    with (
        dv.VideoLoader(spoilt, recipe, 4, targets="index", **options) as one,
        dv.VideoLoader(spoilt, recipe, 4, **options) as other,
    ):
        pairs = list(zip(one, other, strict=True))
        assert one.state_dict() == other.state_dict()
    assert pairs
    for a, b in pairs:
        assert torch.equal(a.clips, b.clips) and torch.equal(a.samples, b.samples)
        assert torch.equal(a.repeated, b.repeated) and torch.equal(a.skipped, b.skipped)
        assert a.targets.dtype == torch.int64 and a.targets.tolist() == spoilt.labels[a.samples].tolist()
        np.testing.assert_allclose(dense(a, 3), b.targets, atol=1e-7, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_and_its_gradient_are_those_of_soft_targets(smoothing):
    """As docs/mixing.md has it; a clip without a label included."""
    clips, labels = noise_clips(*[SIZE] * 6), np.array([4, 0, -1, 2, 1, 0])
    soft = np.concatenate([np.eye(5), np.zeros((1, 5))])[labels]
    mixing = (dv.OneOf((dv.CutMix(), dv.FadeMixUp())),)
    one = dv.augment(clips, mixing, labels, seed=5)
    other = dv.augment(clips, (*mixing, *[dv.LabelSmoothing(smoothing)] * bool(smoothing)), soft, seed=5)
    losses, gradients = [], []
    for batch in (one, other):
        logits = torch.linspace(-2, 3, 30, dtype=torch.float64).reshape(6, 5).sin().requires_grad_()
        if batch is one:
            labels, (partner, own) = batch.targets, batch.mix
            options = dict(ignore_index=-1, reduction="none")
            if smoothing:
                of_own, of_partner = (
                    cross_entropy(logits, y, label_smoothing=smoothing, **options) for y in (labels, labels[partner])
                )
            else:
                of_own, of_partner = (nll_loss(logits.log_softmax(1), y, **options) for y in (labels, labels[partner]))
            loss = (own * of_own + (1 - own) * of_partner).mean()
        else:
            loss = cross_entropy(logits, batch.targets.double())
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(logits.grad)
    assert abs(losses[0] - losses[1]) < 1e-6 and torch.allclose(*gradients, atol=1e-7)


@dataclass(frozen=True)
class Renames:
    """Changes labels by itself."""

    def draw(self, draws, frames, height, width):
        return np.zeros(len(draws), [("x", "f4")])

    def build(self, fn, clips, args):
        return clips

    def targets(self, args, targets):
        return targets[:, ::-1]


@dataclass(frozen=True)
class Unsaid(Renames):
    """Mixes clips, but not their labels."""

    targets = property()

    def mixed_with(self, args):
        return np.arange(len(args)), np.ones(len(args))


@pytest.mark.parametrize(
    "ops, words",
    [
        ((dv.CutMix(), dv.LabelSmoothing(0.1)), r"take it out .*cross_entropy\(..., label_smoothing=0.1\)"),
        (
            (dv.CutMix(), dv.MixUp()),
            "one partner for each clip, but CutMix and MixUp mix it with several; OneOf",
        ),
        ((Renames(),), "cannot express that Renames changes labels, and not by mixing"),
        ((dv.RandomApply(Renames()),), "cannot express that RandomApply changes labels, and not by mixing"),
        ((dv.RandomApply(dv.LabelSmoothing(0.1)),), "cannot express that RandomApply changes labels"),
        ((Unsaid(),), "cannot express that Unsaid mixes clips, but has no targets"),
    ],
    ids=lambda x: "" if isinstance(x, str) else "-".join(type(op).__name__ for op in x),
)
def test_what_indices_cannot_say_is_refused(ops, words, numbered_manifest):
    recipe = dv.Recipe(dv.ClipSampling(2), (CROP, *ops))
    with pytest.raises(ValueError, match=f"VideoLoader: targets='index'.*{words}"):
        dv.VideoLoader(numbered_manifest, recipe, 4, targets="index")
    with pytest.raises(ValueError, match=f"augment: targets='index'.*{words}"):
        dv.augment(noise_clips(*[SIZE] * 3), ops, [0, 1, 0])
    plain = dv.Recipe(dv.ClipSampling(2), (CROP,))
    with dv.VideoLoader(numbered_manifest, plain, 4, targets="index", device="cpu") as loader:
        with pytest.raises(ValueError, match=words):
            loader.apply(dv.draw_plan(numbered_manifest, recipe, [0, 1, 2]))
    dv.VideoLoader(numbered_manifest, recipe, 4)


def test_other_values(numbered, numbered_manifest):
    with pytest.raises(ValueError, match="VideoLoader: targets must be soft or index, got 'hard'"):
        dv.VideoLoader(numbered_manifest, dv.Recipe(), 4, targets="hard")
    tagged = dv.scan([*sorted(numbered.rglob("*.mp4"))[:2]], labels=[["a", "b"], ["a"]], progress=False)
    with pytest.raises(ValueError, match="is one label a clip, but samples of the manifest have several"):
        dv.VideoLoader(tagged, dv.Recipe(), 1, targets="index")


def test_an_empty_batch_has_partners_too(spoilt):
    """The loss of the docs runs on it."""
    bad = spoilt.select([5, 9, 0, 1])
    recipe = dv.Recipe(dv.ClipSampling(2), (CROP, dv.CutMix()))
    with dv.VideoLoader(bad, recipe, 2, targets="index", on_error="skip", shuffle=False, device="cpu") as loader:
        first, second = loader
    assert len(first) == 0 and first.targets.shape == (0,) and first.targets.dtype == torch.int64
    assert first.mix.partner.shape == (0,) and first.targets[first.mix.partner].shape == (0,)
    assert second.targets.tolist() == spoilt.labels[:2].tolist()


def test_moved_and_described(numbered_manifest):
    recipe = dv.Recipe(dv.ClipSampling(2), (CROP, dv.CutMix()))
    with dv.VideoLoader(numbered_manifest, recipe, 4, targets="index", device="cpu") as loader:
        batch = next(iter(loader))
        clips, targets = batch.to("cpu")
    assert torch.equal(targets, batch.targets) and torch.equal(clips, batch.clips)
    assert ("targets: (4,) int64" in repr(batch) and "classes: even" in repr(batch)) or "classes: odd" in repr(batch)


def test_scores_do_not_need_soft_targets(spoilt):
    import_torchvision()
    good = spoilt.select([i for i in range(14) if i not in (5, 9)])
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((16, 16)),))
    scores = dv.VideoScores(good)
    with dv.VideoLoader(good, recipe, 4, targets="index", shuffle=False, device="cpu") as loader:
        for batch in loader:
            scores.update(torch.nn.functional.one_hot(batch.targets.clamp(0), 3).float(), batch)
    result = scores.compute()
    assert result.top1 == 1 and (result.num_videos, result.unlabelled) == (10, 2)


def test_a_hundred_thousand_classes_cost_nothing(numbered_manifest):
    """What is made for a batch is (B,); soft targets of the same are 10 MB here."""
    table = numbered_manifest.table
    labels = np.linspace(0, 99_999, len(table)).astype(np.int32)
    table = table.set_column(table.column_names.index("label"), "label", [labels])
    manifest = Manifest(table, tuple(map(str, range(100_000))), numbered_manifest.root)
    recipe = dv.Recipe(dv.ClipSampling(2), (CROP, dv.CutMix()))
    with dv.VideoLoader(manifest, recipe, 12, targets="index", device="cpu") as loader:
        (batch,) = take_batches(loader, 1)
        tracemalloc.start()
        for _ in range(3):
            mix_targets(batch.plan, manifest.labels[batch.plan.samples].astype(np.int64))
        text = repr(batch)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert batch.targets.tolist() == labels[batch.samples].tolist() and "classes: " in text
    assert peak < 500_000, peak


def test_frames_are_of_the_clip_that_the_label_is_of(numbered_manifest):
    """By the numbers in the pixels: what a clip shows is a frame of the row whose label it has."""
    recipe = dv.Recipe(dv.ClipSampling(2), ())
    with dv.VideoLoader(numbered_manifest, recipe, 4, targets="index", device="cpu") as loader:
        for batch in take_batches(loader, 3):
            for i, clip in enumerate(batch.clips):
                shown = [read_number(frame) for frame in clip.permute(1, 2, 3, 0).numpy()]
                assert shown == batch.plan.frames[i].tolist()
                folder = Path(numbered_manifest.path(int(batch.samples[i]))).parent.name
                assert numbered_manifest.classes[batch.targets[i]] == folder


@dataclass(frozen=True)
class Halves:
    """The mean of two clips, whose labels it gives the share that it says, or another."""

    told: float = 0.5

    def draw(self, draws, frames, height, width):
        rows = np.zeros(len(draws), [("partner", "i4")])
        rows["partner"] = np.roll(np.arange(len(draws)), 1)
        return rows

    def run(self, clips, rows, num_threads=None):
        others = [clips[k] for k in rows["partner"]]
        return [((a.astype(int) + b) // 2).astype(np.uint8) for a, b in zip(clips, others, strict=True)]

    def targets(self, args, targets):
        return (0.5 * targets + 0.5 * targets[args["partner"]]).astype(np.float32)

    def mixed_with(self, args):
        return args["partner"], np.full(len(args), self.told)


def test_ops_of_ones_own_that_contradict_themselves_are_found():
    dv.check_op(Halves(), device="cpu")
    with pytest.raises(ValueError, match="targets must mix labels as mixed_with says"):
        dv.check_op(Halves(0.75), device="cpu")
