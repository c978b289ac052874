"""Clips for networks with several inputs, such as SlowFast: which frames each gets, and that batches stay batches."""

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import read_number

import dali_vidaug as dv
from dali_vidaug.batch import pathways_of
from dali_vidaug.commands.pictures import contact_sheet

SAMPLING = dv.ClipSampling(num_frames=16, stride=1)
OPS = (dv.CenterCrop((96, 160)), dv.Normalize())


def loader_of(manifest, pathways=(4, 1), ops=OPS, batch_size=4, sampling=SAMPLING, **options):
    options = dict(seed=3, device="cpu", num_threads=1, prefetch=1) | options
    return dv.VideoLoader(manifest, dv.Recipe(sampling, ops, pathways), batch_size, **options)


def first(loader):
    with loader:
        return next(iter(loader))


# SlowFast's trunc(linspace(0, T - 1, T // alpha)), as numbers: 4x16, 8x8, and others worked out by hand.
@pytest.mark.parametrize(
    "num_frames, alpha, expected",
    [
        (32, 4, [0, 4, 8, 13, 17, 22, 26, 31]),
        (32, 8, [0, 10, 20, 31]),
        (64, 8, [0, 9, 18, 27, 36, 45, 54, 63]),
        (16, 4, [0, 5, 10, 15]),
        (16, 16, [0]),
        (10, 3, [0, 4, 9]),
        (7, 2, [0, 3, 6]),
        (5, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_which_frames_the_slow_pathway_has(num_frames, alpha, expected):
    recipe = dv.Recipe(pathways=(alpha, 1))
    assert [frames.tolist() for frames in recipe.pathway_frames(num_frames)] == [expected, list(range(num_frames))]
    clips = torch.arange(num_frames).expand(2, 3, 5, 5, -1).permute(0, 1, 4, 2, 3)
    slow, fast = pathways_of(clips, recipe)
    assert slow[1, 2, :, 4, 0].tolist() == expected and fast is clips


def test_frames_of_a_loader_are_those_of_the_plan(numbered_manifest):
    """The numbers that are painted on the frames."""
    batch = first(loader_of(numbered_manifest, ops=OPS[:1]))
    slow, fast = batch.clips
    assert slow.dtype == fast.dtype == torch.uint8 and len(batch) == 4
    for i in range(4):
        shown = [read_number(frame) for frame in fast[i].permute(1, 2, 3, 0).numpy()]
        assert shown == batch.plan.frames[i].tolist()
        assert [read_number(frame) for frame in slow[i].permute(1, 2, 3, 0).numpy()] == [
            shown[j] for j in (0, 5, 10, 15)
        ]


def test_the_fast_pathway_is_the_batch_without_pathways_and_is_not_copied(numbered_manifest):
    with loader_of(numbered_manifest) as loader, loader_of(numbered_manifest, ()) as plain:
        for batch, other in zip(loader, plain, strict=True):
            (slow, fast), targets = batch
            assert fast.equal(other.clips) and targets.equal(other.targets) and slow.equal(fast[:, :, [0, 5, 10, 15]])
            assert slow.untyped_storage().nbytes() == fast.untyped_storage().nbytes() // 4 and slow.is_contiguous()
            assert fast.stride() == other.clips.stride()
    three = first(loader_of(numbered_manifest, (8, 2, 1))).clips
    assert [clip.shape[2] for clip in three] == [2, 8, 16]


def test_a_batch_of_pathways_is_moved_described_and_pickled(numbered_manifest):
    batch = first(loader_of(numbered_manifest))
    moved = batch.to("meta")
    assert [clip.device.type for clip in moved.clips] == ["meta"] * 2 and moved.targets.device.type == "meta"
    assert isinstance(moved.clips, tuple) and [clip.device.type for clip in batch.clips] == ["cpu"] * 2
    if torch.cuda.is_available():
        assert all(clip.is_pinned() for clip in batch.pin_memory().clips)
    text = "clips: (4, 3, 4, 96, 160) float32 on cpu and (4, 3, 16, 96, 160) float32 on cpu"
    assert text in repr(batch) and text.removeprefix("clips: ") in batch._repr_html_() and "4 clips" in repr(batch)
    again = pickle.loads(pickle.dumps(batch))
    assert all(map(torch.equal, again.clips, batch.clips)) and again.plan.recipe == batch.plan.recipe
    assert batch.describe(1) == batch.plan.describe(1)
    assert contact_sheet(batch).size == contact_sheet(first(loader_of(numbered_manifest, ()))).size


def test_a_plan_is_replayed_with_its_pathways(numbered_manifest, tmp_path):
    with loader_of(numbered_manifest) as loader, loader_of(numbered_manifest, ()) as plain:
        batch = next(iter(loader))
        batch.plan.save(tmp_path / "plan.json")
        plan = dv.Plan.load(tmp_path / "plan.json")
        for other in (loader, plain):  # what a plan's own recipe says counts
            again = other.apply(plan)
            assert all(map(torch.equal, again.clips, batch.clips))
        assert torch.is_tensor(loader.apply(next(iter(plain)).plan).clips)


def test_a_state_goes_on_and_is_refused_by_other_pathways(numbered_manifest):
    with loader_of(numbered_manifest) as loader:
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        expected = [batch.clips[0] for batch in batches]
    with loader_of(numbered_manifest) as loader:
        loader.load_state_dict(state)
        assert len(expected) == 2
        for batch, slow in zip(loader, expected, strict=True):
            assert batch.clips[0].equal(slow)
    with (
        loader_of(numbered_manifest, (2, 1)) as other,
        pytest.raises(ValueError, match=r"recipe has pathways=\(2\.\.\., the state's p"),
    ):
        other.load_state_dict(state)
    with loader_of(numbered_manifest, ()) as other, pytest.raises(ValueError, match=r"pathways=\(4"):
        other.load_state_dict(state)
    assert "pathways" not in dv.Recipe().__repr__() and dv.Recipe.parse(repr(dv.Recipe())).pathways == ()


def test_scores_are_added_up_by_video(numbered_manifest, torchvision):
    pytest.importorskip("torchmetrics")
    views = dv.MultiClip(SAMPLING, num_clips=3)
    scores = dv.VideoScores(numbered_manifest)
    with loader_of(numbered_manifest, sampling=views, shuffle=False) as loader:
        for batch in loader:
            slow, fast = batch.clips
            mean = slow.mean((1, 2, 3, 4)) + fast.mean((1, 2, 3, 4))
            scores.update(torch.stack([mean, -mean], 1), batch)
    result = scores.compute()
    assert result.num_videos == 12 and (result.num_clips == 3).all() and not result.missing


def test_a_batch_without_clips_has_its_pathways(numbered_manifest, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/0.mp4", "a/1.mp4"):
        (tmp_path / name).write_bytes(Path(numbered_manifest.path(0)).read_bytes())
    manifest = dv.scan(tmp_path, progress=False)
    for name in ("a/0.mp4", "a/1.mp4"):
        (tmp_path / name).write_bytes(bytes((tmp_path / name).stat().st_size))
    batch = first(loader_of(manifest, batch_size=2, on_error="skip", check_files="off"))
    assert [tuple(clip.shape) for clip in batch.clips] == [(0, 3, 4, 96, 160), (0, 3, 16, 96, 160)] and len(batch) == 0


def test_a_copy_has_its_pathways(numbered_manifest):
    with loader_of(numbered_manifest) as loader, copy.deepcopy(loader) as other:
        assert all(map(torch.equal, next(iter(loader)).clips, next(iter(other)).clips))


@pytest.mark.parametrize("pathways", [0, (0, 1), (1.0,), (True, 1), "81", (-1,), None, ((4, 1),)])
def test_what_is_no_pathway_is_refused(pathways):
    with pytest.raises(ValueError, match=re.escape(f"pathways must be ints >= 1, such as (8, 1), got {pathways!r}")):
        dv.Recipe(pathways=pathways)


def test_clips_that_are_too_short_for_a_pathway_are_refused(numbered_manifest):
    message = re.escape("Recipe: pathways=(32, 1) need clips of 32 frames or more, got 16")
    with pytest.raises(ValueError, match=message):
        loader_of(numbered_manifest, (32, 1))
    assert dv.Recipe(pathways=[8, 1]).pathways == (8, 1)
    assert hash(dv.Recipe(pathways=[8, 1])) == hash(dv.Recipe(pathways=(8, 1))) != hash(dv.Recipe())
    assert np.array_equal(dv.Recipe(pathways=(16,)).pathway_frames(16)[0], [0])
