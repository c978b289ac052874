"""Masks in batches: after resuming, for any number of ranks, of saved plans; and models that take them."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from conftest import same_batch, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug.recipes.program import as_python

MASKS = (
    dv.TubeMask(0.5), dv.RandomMask(0.4, patch=(8, 16)), dv.RunningCellMask(patch=8), dv.CubeMask(patch=8),
    dv.MultiBlockMask(2, (0.2, 0.5), 0.5, patch=8),
)  # fmt: skip
RECIPE = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(32), dv.Normalize()), masks=MASKS)


def make_loader(manifest, batch_size=4, recipe=RECIPE, **options):
    return dv.VideoLoader(manifest, recipe, batch_size, seed=3, device="cpu", **{"num_threads": 1, **options})


def masks_of(batches):
    """For each batch, the masks as NumPy arrays."""
    return [[mask.numpy() for mask in batch.masks] for batch in batches]


def same(one, other):
    """Whether masks of two rows of batches are equal, bit for bit."""
    return len(one) == len(other) and all(
        a.shape == b.shape and a.dtype == b.dtype == bool and (a == b).all()
        for batch, batch_2 in zip(one, other, strict=True)
        for a, b in zip(batch, batch_2, strict=True)
    )


def of_ranks(manifest, number, steps, state=None, **options):
    """Masks of steps of four samples that so many ranks share, put together."""
    ranks = [make_loader(manifest, 4 // number, num_shards=number, shard_index=k, **options) for k in range(number)]
    for rank in ranks if state else ():
        rank.load_state_dict(state)
    taken = [take_batches(rank, steps) for rank in ranks]
    return [
        [np.concatenate([batch.masks[k].numpy() for batch in step]) for k in range(len(MASKS))]
        for step in zip(*taken, strict=True)
    ], ranks[0].state_dict()


def test_a_batch_has_a_mask_for_each_of_the_recipe(numbered_manifest):
    (batch,) = take_batches(make_loader(numbered_manifest, repeats=2), 1)
    assert [tuple(m.shape) for m in batch.masks] == [(8, 2, 2, 2), (8, 2, 4, 2), *[(8, 2, 4, 4)] * 3]
    assert all(mask.dtype == torch.bool and mask.device == batch.clips.device for mask in batch.masks)
    assert [int(mask[0].sum()) for mask in batch.masks[:3]] == [4, 6, 16]
    assert len(np.unique(batch.masks[1].numpy(), axis=0)) > 6  # one for each clip of the same frames, too
    assert "TubeMask 4 of 8 tokens (2 x 2 x 2)" in batch.describe(5) and "masks: TubeMask 4 of 8 tokens" in repr(batch)
    (plain,) = take_batches(make_loader(numbered_manifest, recipe=dv.Recipe(RECIPE.sampling, RECIPE.ops), repeats=2), 1)
    assert torch.equal(plain.clips, batch.clips) and plain.masks == ()  # masks change nothing else


def test_masks_after_resuming_in_an_epoch(numbered_manifest):
    """Of three steps an epoch; the state goes through JSON, the loader is a new one."""
    expected = masks_of(take_batches(make_loader(numbered_manifest, repeats=2), 7))
    first = make_loader(numbered_manifest, repeats=2)
    begin = masks_of(take_batches(first, 2))
    state = json.loads(json.dumps(first.state_dict()))
    other = make_loader(numbered_manifest, repeats=2, num_threads=3)
    other.load_state_dict(state)
    assert same(begin + masks_of(take_batches(other, 5)), expected)
    assert same(masks_of(take_batches(copy.deepcopy(first), 5)), expected[2:])
    with pytest.raises(ValueError, match="the state is of another loader: recipe has RandomMask"):
        changed = dv.Recipe(RECIPE.sampling, RECIPE.ops, masks=(dv.TubeMask(0.5), dv.RandomMask(0.5), *MASKS[2:]))
        make_loader(numbered_manifest, repeats=2, recipe=changed).load_state_dict(state)


def test_masks_are_the_same_for_any_number_of_ranks(numbered_manifest):
    """One, two and four, with repeats, by positions of the global batch; and on with other ranks in an epoch."""
    expected, _ = of_ranks(numbered_manifest, 1, 7, repeats=2)
    got, state = of_ranks(numbered_manifest, 2, 2, repeats=2)
    assert same(got, expected[:2])
    got, state = of_ranks(numbered_manifest, 4, 2, json.loads(json.dumps(state)), repeats=2)
    assert same(got, expected[2:4])
    got, _ = of_ranks(numbered_manifest, 1, 3, state, repeats=2)
    assert same(got, expected[4:])


def test_masks_of_a_step_that_is_not_full_are_the_same_for_two_ranks(numbered_manifest):
    """Twelve videos in steps of five and five; the last has two."""
    one = make_loader(numbered_manifest, 10, drop_last=False)
    two = [make_loader(numbered_manifest, 5, drop_last=False, num_shards=2, shard_index=k) for k in range(2)]
    whole, parts = take_batches(one, 2), [take_batches(rank, 2) for rank in two]
    for step in range(2):
        samples = torch.cat([part[step].samples for part in parts])
        assert torch.equal(samples, whole[step].samples)
        for k, mask in enumerate(whole[step].masks):
            assert torch.equal(torch.cat([part[step].masks[k] for part in parts]), mask)


def test_views_have_masks_of_their_own(numbered_manifest):
    recipe = dv.Recipe(dv.MultiClip(dv.ClipSampling(4), num_clips=2), RECIPE.ops, masks=(dv.RandomMask(0.5, patch=4),))
    (batch,) = take_batches(make_loader(numbered_manifest, recipe=recipe, repeats=2), 1)
    assert len(batch) == 16 and len(np.unique(batch.masks[0].numpy(), axis=0)) == 16


def test_masks_are_of_all_frames_whatever_the_pathways(numbered_manifest):
    """And such a recipe is printed as Python that makes it again."""
    recipe = dv.Recipe(RECIPE.sampling, RECIPE.ops, masks=MASKS, pathways=(4, 1))
    (batch,), (plain,) = (take_batches(make_loader(numbered_manifest, recipe=r), 1) for r in (recipe, RECIPE))
    assert [tuple(clips.shape) for clips in batch.clips] == [(4, 3, 1, 32, 32), (4, 3, 4, 32, 32)]
    assert same(masks_of([batch]), masks_of([plain])) and torch.equal(batch.clips[1], plain.clips)
    assert eval(as_python(recipe), {"dv": dv}) == recipe == dv.Recipe.parse(repr(recipe))


def test_apply_gives_the_masks_of_the_plan(numbered_manifest, tmp_path):
    loader = make_loader(numbered_manifest)
    (batch,) = take_batches(loader, 1)
    batch.plan.save(tmp_path / "plan.json")
    with loader:
        again = loader.apply(dv.Plan.load(tmp_path / "plan.json"))
        assert same(masks_of([again]), masks_of([batch])) and torch.equal(again.clips, batch.clips)
        document = json.loads((tmp_path / "plan.json").read_text())
        document["masks"][0][1] = [["#.", ".."], ["..", ".#"]]
        (tmp_path / "plan.json").write_text(json.dumps(document))
        edited = loader.apply(dv.Plan.load(tmp_path / "plan.json"))
    assert edited.masks[0][1].nonzero().tolist() == [[0, 0, 0], [1, 1, 1]]
    assert torch.equal(edited.masks[0][0], batch.masks[0][0])
    document["masks"][0] = [[["#.#", "..."], ["...", ".#."]]] * 4
    (tmp_path / "plan.json").write_text(json.dumps(document))
    with (
        loader,
        pytest.raises(ValueError, match=r"TubeMask must be \(4, 2, 2, 2\) for these clips, got \(4, 2, 2, 3\)"),
    ):
        loader.apply(dv.Plan.load(tmp_path / "plan.json"))


def test_masks_are_moved_pinned_and_copied(numbered_manifest, monkeypatch):
    (batch,) = take_batches(make_loader(numbered_manifest), 1)
    moved = batch.to("meta", non_blocking=True)
    assert {mask.device.type for mask in moved.masks} == {"meta"} and batch.masks[0].device.type == "cpu"
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: asked.append(tensor) or tensor)
    batch.pin_memory()
    assert all(any(mask is tensor for tensor in asked) for mask in batch.masks)
    for other in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch)):
        assert same(masks_of([other]), masks_of([batch]))
        assert all(torch.equal(x, y) for x, y in zip(other.tokens(4), batch.tokens(4), strict=True))


@pytest.mark.parametrize("on_error", ["replace", "skip"])
def test_a_bad_file_changes_no_other_clips_masks(on_error, tmp_path):
    """In the second step. A clip in place of a bad one has its own mask, and blocks of the size that the step has."""
    for i in range(8):
        write_numbered(tmp_path / "v" / "class" / f"{i}.mp4", 12)
    manifest = dv.scan(tmp_path / "v", progress=False)
    options = {"shuffle": False, "check_files": "off", "on_error": on_error}
    good = take_batches(make_loader(manifest, 4, **options), 2)[1]
    (tmp_path / "v" / "class" / "6.mp4").write_bytes(b"nothing")
    bad = take_batches(make_loader(manifest, 4, **options), 2)[1]
    left = [0, 1, 3]
    for k, mask in enumerate(bad.masks):
        assert torch.equal(mask[left if on_error == "replace" else slice(None)], good.masks[k][left]), k
    assert bad.plan.step == good.plan.step == 4 and len(bad) == 3 + (on_error == "replace")
    if on_error == "replace":
        columns = bad.plan.views[2:3], bad.plan.batch[2:3], bad.plan.repeat_index[2:3]
        alone = dv.draw_plan(manifest, RECIPE, bad.plan.samples[2:3], 3, 0, *columns, step=4)
        assert all((a[0] == b[2]).all() for a, b in zip(alone.masks, bad.plan.masks, strict=True))


def test_all_clips_of_a_batch_may_be_left_out(tmp_path):
    for i in range(2):
        write_numbered(tmp_path / "v" / "class" / f"{i}.mp4", 12)
    manifest = dv.scan(tmp_path / "v", progress=False)
    (tmp_path / "v" / "class" / "0.mp4").write_bytes(b"nothing")
    batches = take_batches(make_loader(manifest, 1, shuffle=False, check_files="off", on_error="skip"), 2)
    assert [tuple(mask.shape) for mask in batches[0].masks[:2]] == [(0, 2, 2, 2), (0, 2, 4, 2)]
    assert [tuple(column.shape) for column in batches[0].tokens(0)] == [(0, 0), (0, 0)]
    assert len(batches[1].masks[0]) == 1


def test_a_grid_that_does_not_divide_is_refused_at_once(numbered_manifest):
    recipe = dv.Recipe(RECIPE.sampling, RECIPE.ops, masks=(dv.TubeMask(patch=14),))
    message = r"^TubeMask: tokens of 2 x 14 x 14 \(frames x height x width\) do not divide clips of 4 x 32 x 32$"
    with pytest.raises(ValueError, match=message):
        make_loader(numbered_manifest, recipe=recipe)


# ---- Models


@pytest.fixture(scope="session")
def transformers(torchvision):
    """The library, which reaches for torchvision."""
    return pytest.importorskip("transformers", reason="the models of these tests are in the extra [test]")


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_videomae_pretrains_with_tubes(transformers, numbered_manifest):
    """Its loss is that of the masked patches alone, as computed by hand; and its weights get a gradient."""
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=8, num_frames=4, tubelet_size=2, hidden_size=24, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, decoder_num_attention_heads=2, decoder_hidden_size=16,
        decoder_num_hidden_layers=1, decoder_intermediate_size=16, norm_pix_loss=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.VideoMAEForPreTraining(config)
    recipe = dv.Recipe(
        RECIPE.sampling,
        (dv.RandomResizedCrop(32), dv.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        masks=(dv.TubeMask(0.75, patch=8),),
    )
    (batch,) = take_batches(make_loader(numbered_manifest, recipe=recipe, repeats=2), 1)
    output = model(batch.clips.transpose(1, 2), bool_masked_pos=batch.masks[0].flatten(1))
    output.loss.backward()
    assert output.logits.shape == (8, 24, 2 * 8 * 8 * 3) and len(gradients(model)) > 20
    assert all(grad.isfinite().all() for grad in gradients(model).values())
    mean, std = (torch.tensor(v).view(1, 3, 1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = (batch.clips * std + mean).reshape(8, 3, 2, 2, 4, 8, 4, 8)  # channels, then pairs of time, rows, columns
    patches = pixels.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(8, 32, -1)
    wanted = torch.stack([patches[i, tokens] for i, tokens in enumerate(batch.tokens(0).masked)])
    assert torch.allclose(output.loss, ((output.logits - wanted) ** 2).mean(), rtol=1e-4)


def test_v_jepa_2_predicts_the_blocks_from_their_context(transformers, numbered_manifest):
    """Lists of tokens of both masks: what is encoded is predicted at the masked places."""
    config = transformers.VJEPA2Config(
        patch_size=8, crop_size=32, frames_per_clip=4, tubelet_size=2, hidden_size=24, num_attention_heads=2,
        num_hidden_layers=1, mlp_ratio=2, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
        pred_num_mask_tokens=2, pred_mlp_ratio=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.VJEPA2Model(config)
    masks = (dv.MultiBlockMask(4, 0.15, patch=8), dv.MultiBlockMask(2, 0.5, patch=8))
    recipe = dv.Recipe(RECIPE.sampling, RECIPE.ops, masks=masks)
    (batch,) = take_batches(make_loader(numbered_manifest, recipe=recipe), 1)
    loss = torch.zeros(())
    for k in range(len(masks)):
        context, target = batch.tokens(k)
        output = model(batch.clips.transpose(1, 2), context_mask=[context], target_mask=[target])
        predicted, wanted = output.predictor_output.last_hidden_state, output.predictor_output.target_hidden_state
        assert predicted.shape == wanted.shape == (4, target.shape[1], 24)
        loss = loss + (predicted - wanted.detach()).abs().mean()
    loss.backward()
    assert len(gradients(model)) > 20 and all(grad.isfinite().all() for grad in gradients(model).values())


def test_encoder_and_decoder_masks_of_videomae_v2(numbered_manifest):
    """What the decoder makes and what counts: as many tokens of each clip, so that they can be stacked."""
    recipe = dv.Recipe(
        RECIPE.sampling, RECIPE.ops, masks=(dv.TubeMask(0.75, patch=8), dv.RunningCellMask(0.5, patch=8))
    )
    (batch,) = take_batches(make_loader(numbered_manifest, recipe=recipe), 1)
    (seen, _), (decoded, dropped) = batch.tokens(0), batch.tokens(1)
    assert seen.shape == (4, 8) and decoded.shape == dropped.shape == (4, 16)
    counts = batch.masks[0].flatten(1).gather(1, decoded)
    assert torch.equal(counts.sum(1), (batch.masks[0] & ~batch.masks[1]).sum((1, 2, 3)))


def test_workers_make_the_same_masks(numbered_manifest):
    expected = take_batches(make_loader(numbered_manifest), 2)
    got = take_batches(make_loader(numbered_manifest, workers=1), 2)
    assert same(masks_of(got), masks_of(expected)) and all(map(same_batch, got, expected))
