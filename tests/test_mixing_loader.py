"""Mixing through DALI's graph and the loader: pixels, labels, resuming, bad clips."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from conftest import assert_pixels, noise_clips, numbered_frame, same_batch, same_content, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug.media.encode import write_video
from dali_vidaug.ops.mix import FAMILIES

OPS = (
    dv.RandomResizedCrop(32),
    dv.RandAugmentT(),
    dv.OneOf((dv.CubeCutMix(), dv.FadeMixUp(), dv.RandomErasing(1.0))),
    dv.Normalize(),
)
MIXING = dv.Recipe(dv.ClipSampling(num_frames=4), OPS)
SHAPE = (5, 20, 30)


def channels_last(batch):
    return [clip.permute(1, 2, 3, 0).contiguous().numpy() for clip in batch.clips]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_graph_mixes_as_planned(family):
    clips, targets = noise_clips(*[SHAPE] * 6), np.eye(6, dtype=np.float32)
    for seed in range(3):
        batch = dv.augment(clips, (dv.Mix(family, probability=0.7),), targets, seed=seed)
        rows = batch.plan.args[family]
        for out, expected in zip(batch.clips.numpy(), reference.blend(clips, rows), strict=True):
            assert_pixels(out, expected)
        expected = np.zeros((6, 6))
        expected[np.arange(6), batch.mix.partner] = 1 - batch.mix.own
        expected[np.arange(6), np.arange(6)] += batch.mix.own.numpy()
        np.testing.assert_allclose(batch.targets, expected, atol=1e-6)
        assert batch.mix.partner.dtype == torch.int64 and batch.mix.own.dtype == torch.float32
        assert (np.sort(batch.mix.partner) == np.arange(6)).all()


def test_a_batch_of_one_clip_is_not_mixed():
    (clip,) = noise_clips(SHAPE)
    for family in FAMILIES:
        batch = dv.augment([clip], (dv.Mix(family),), [[0.0, 1.0]])
        assert_pixels(batch.clips[0].numpy(), clip)
        assert (
            batch.targets.tolist() == [[0, 1]] and batch.mix.own.tolist() == [1] and batch.mix.partner.tolist() == [0]
        )


def test_two_mixing_ops_in_a_row():
    clips, targets = noise_clips(*[SHAPE] * 5), np.eye(5, dtype=np.float32)
    batch = dv.augment(clips, (dv.CutMix(), dv.MixUp(), dv.LabelSmoothing(0.1)), targets)
    first, second = batch.plan.args["CutMix"], batch.plan.args["MixUp"]
    expected = reference.blend(reference.blend(clips, first), second)
    for out, one in zip(batch.clips.numpy(), expected, strict=True):
        assert_pixels(out, one)
    ones = [dv.augment(clips, ops, targets, samples=range(5)) for ops in ((dv.CutMix(),), (dv.MixUp(),))]
    matrices = [one.targets.numpy() for one in ones]  # the label of a clip is its row
    np.testing.assert_allclose(batch.targets, 0.9 * matrices[1] @ matrices[0] + 0.1 / 5, atol=1e-6)
    assert batch.mix is None and torch.allclose(batch.targets.sum(1), torch.ones(5))
    assert dv.augment(clips, (), targets).mix is None


@pytest.fixture(scope="module")
def expected(numbered_manifest):
    return take_batches(dv.VideoLoader(numbered_manifest, MIXING, 5, seed=3), 5)


def test_batches_are_mixed(expected, numbered_manifest):
    assert len({tuple(batch.mix.own.tolist()) for batch in expected}) == 5
    for batch in expected:
        hard = torch.eye(2)[numbered_manifest.labels[batch.samples.numpy()]]
        own = batch.mix.own[:, None]
        assert torch.allclose(batch.targets, own * hard + (1 - own) * hard[batch.mix.partner], atol=1e-6)
        erased = torch.from_numpy(batch.plan.args["OneOf"]["partner"] == -1)
        assert (batch.mix.own[erased] == 1).all()


@pytest.mark.parametrize("options", [dict(num_threads=1), dict(prefetch=3, num_threads=3)], ids=str)
def test_threads_do_not_matter(options, numbered_manifest, expected):
    got = take_batches(dv.VideoLoader(numbered_manifest, MIXING, 5, seed=3, **options), 5)
    assert all(same_batch(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_resuming_is_exact(taken, numbered_manifest, expected):
    first = dv.VideoLoader(numbered_manifest, MIXING, 5, seed=3)
    take_batches(first, taken)
    second = dv.VideoLoader(numbered_manifest, MIXING, 5, seed=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert all(same_batch(a, b) for a, b in zip(take_batches(second, 2), expected[taken : taken + 2], strict=True))


def test_a_saved_plan_is_replayed(numbered_manifest, expected, tmp_path):
    expected[1].plan.save(tmp_path / "plan.json")
    with dv.VideoLoader(numbered_manifest, MIXING, 5, seed=0) as loader:
        assert same_content(loader.apply(dv.Plan.load(tmp_path / "plan.json")), expected[1])


def test_the_batch_size_changes_partners_only(numbered_manifest):
    """The same samples in batches of 4 and 6: frames, boxes and shares are the same."""
    plans = []
    for size in (4, 6):
        loader = dv.VideoLoader(numbered_manifest, MIXING, size, seed=3, shuffle=False)
        plans.append([batch.plan for batch in take_batches(loader, 12 // size)])
    fields = [name for name in plans[0][0].args["OneOf"].dtype.names if name != "partner"]
    (frames, others), (frames2, others2) = (
        (np.concatenate([p.frames for p in group]), np.concatenate([p.args["OneOf"][fields] for p in group]))
        for group in plans
    )
    assert (frames == frames2).all() and (others == others2).all()


def test_the_label_of_a_replaced_partner_is_its_own(tmp_path):
    """Where a bad clip was replaced, pixels and label of those mixed with it are the new one's."""
    for i in range(6):
        write_numbered(tmp_path / "abcdef"[i] / "v.mp4", 30)
    manifest = dv.scan(tmp_path, progress=False)
    bad = tmp_path / "c" / "v.mp4"
    bad.write_bytes(bad.read_bytes()[:400])
    recipe = dv.Recipe(dv.ClipSampling(num_frames=4), (dv.Resize((96, 160)), dv.CubeCutMix()))
    (batch,) = take_batches(dv.VideoLoader(manifest, recipe, 6, seed=1, shuffle=False), 1)
    assert 2 not in batch.samples.tolist()
    rows = batch.plan.args["CubeCutMix"]
    with dv.VideoLoader(manifest, recipe, 6) as loader:
        still = replace(batch.plan, args=batch.plan.args | {"CubeCutMix": np.zeros_like(rows)})
        clips = channels_last(loader.apply(still))
    for out, expected in zip(channels_last(batch), reference.blend(clips, rows), strict=True):
        assert_pixels(out, expected)
    hard = np.eye(6)[manifest.labels[batch.samples]]
    own = batch.mix.own.numpy()[:, None]
    np.testing.assert_allclose(batch.targets, own * hard + (1 - own) * hard[batch.mix.partner], atol=1e-6)


def test_one_row_of_a_plan_can_be_run(numbered_manifest, expected):
    """As the loader does with DALI's decoder, to find the clip that failed."""
    plan = expected[0].plan
    mixed = int(plan.args["OneOf"]["partner"].argmax())
    assert plan.args["OneOf"]["partner"][mixed] > 0
    with dv.VideoLoader(numbered_manifest, MIXING, 5) as loader:
        assert len(loader.apply(plan.row(mixed))) == 1
        alone = plan.row(mixed)
        alone.args["OneOf"]["partner"] = 3
        with pytest.raises(ValueError, match="clip 0 has partner 3, but there are 1 clips"):
            loader.apply(alone)


def test_sizes_that_differ_are_refused_at_construction(tmp_path):
    (tmp_path / "a").mkdir()
    for height in (96, 112):
        write_video(tmp_path / "a" / f"{height}.mp4", (numbered_frame(i, height) for i in range(20)))
    manifest = dv.scan(tmp_path, progress=False)
    recipe = dv.Recipe(dv.ClipSampling(num_frames=4), (dv.MixUp(), dv.CenterCrop(32)))
    with pytest.raises(ValueError, match="MixUp: the clips of a batch must be of one size, got 4x96x160 and 4x112x160"):
        dv.VideoLoader(manifest, recipe, 2)
    dv.VideoLoader(manifest, replace(recipe, ops=recipe.ops[::-1]), 2)
    clips = [np.zeros((2, 8, 9, 3), np.uint8), np.zeros((2, 9, 8, 3), np.uint8)]
    with pytest.raises(ValueError, match="MixUp: the clips of a batch must be of one size, got 2x8x9 and 2x9x8"):
        dv.augment(clips, (dv.MixUp(), dv.CenterCrop(4)))


def test_the_programs_of_the_docs_run(numbered_manifest):
    blocks = (Path(dv.__file__).parent.parent / "docs" / "mixing.md").read_text().split("```python\n")[1:]
    recipe, losses, _ = (block.split("```")[0] for block in blocks)
    scope: dict = {"manifest": numbered_manifest, "model": lambda clips: clips.mean((2, 3, 4))[:, :2]}
    exec(recipe, scope)
    recipe = replace(scope["recipe"], ops=(dv.RandomResizedCrop(32), *scope["recipe"].ops[1:]))
    with dv.VideoLoader(numbered_manifest, recipe, 4) as loader:
        batch = next(iter(loader))
    of_indices = scope | {"dv": dv}
    exec(losses, of_indices)
    with dv.VideoLoader(numbered_manifest, of_indices["recipe"], 4) as loader:
        *_, last = loader
    soft = torch.nn.functional.cross_entropy(scope["model"](last.clips), last.targets)
    assert torch.equal(last.samples, of_indices["batch"].samples) and abs(of_indices["loss"] - soft) < 1e-5
    unsmoothed = (batch.targets - 0.1 / 2) / 0.9
    hard = torch.eye(2)[numbered_manifest.labels[batch.samples]]
    own = batch.mix.own[:, None]
    assert torch.allclose(unsmoothed, own * hard + (1 - own) * hard[batch.mix.partner], atol=1e-6)
