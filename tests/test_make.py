"""The one way for a clip: the loader and ``apply`` make the same bits of the same plan, with good and bad clips."""

import ast
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import read_number, write_numbered

import dali_vidaug as dv
from dali_vidaug import clip_loading, kernels, make
from dali_vidaug.rng import Draws

SIZE = (96, 160)
CHAIN = (
    dv.RandomResizedCrop((48, 64)), dv.RandAugmentT(), dv.OneOf((dv.CubeCutMix(), dv.RandomErasing(1.0))),
    dv.RandomHorizontalFlip(), dv.Normalize(),
)  # fmt: skip
RECIPE = dv.Recipe(dv.ClipSampling(num_frames=4, stride=2), CHAIN)
PLAIN = dv.Recipe(dv.ClipSampling(num_frames=4), (dv.Resize(SIZE),))  # the numbers in the frames stay readable


@pytest.fixture(scope="module")
def vp9(tmp_path_factory):
    """Eight VP9 videos, which DALI decodes on the CPU too."""
    folder = tmp_path_factory.mktemp("vp9")
    options = {"g": "10", "b": "1M", "deadline": "realtime", "cpu-used": "8"}
    for i in range(8):
        write_numbered(folder / "ab"[i % 2] / f"{i}.webm", 30 + i, codec="libvpx-vp9", options=options)
    return folder


@pytest.fixture(params=["pyav", "hybrid", "dali"])
def decoder(request):
    return request.param


def load(manifest, decoder, recipe=RECIPE, **options):
    options = {"check_files": "off"} | options  # files are spoilt here, and their decoding is what is tested
    return dv.VideoLoader(manifest, recipe, 4, seed=7, device="cpu", decoder=decoder, **options)


def numbers(clip):
    return [read_number(frame) for frame in clip.permute(1, 2, 3, 0).numpy()]


def test_loader_and_apply_make_the_same_bits(vp9, decoder, tmp_path):
    manifest = dv.scan(vp9, progress=False)
    with load(manifest, decoder) as loader:
        for i, batch in enumerate(loader):
            batch.plan.save(tmp_path / f"{i}.json")
            again = loader.apply(dv.Plan.load(tmp_path / f"{i}.json"))
            assert torch.equal(again.clips, batch.clips) and torch.equal(again.targets, batch.targets)
            assert all(torch.equal(a, b) for a, b in zip(again.mix, batch.mix, strict=True))


def test_loader_and_apply_make_the_same_bits_of_replaced_clips(vp9, decoder, tmp_path):
    """What was put in place of bad clips is in the batch's plan; and ``apply`` refuses the bad ones."""
    shutil.copytree(vp9, tmp_path / "v")
    manifest = dv.scan(tmp_path / "v", progress=False)
    bad = [i for i in range(8) if manifest.path(i).endswith(("2.webm", "5.webm"))]
    for i in bad:
        Path(manifest.path(i)).write_bytes(b"no video")
    with load(manifest, decoder) as loader:
        batches = list(loader)
        assert set(loader.report().bad) == set(bad)
        for batch in batches:
            assert not set(batch.samples.tolist()) & set(bad)
            assert torch.equal(loader.apply(batch.plan).clips, batch.clips)
        plan = dv.draw_plan(manifest, RECIPE, [0, bad[0], 1])
        with pytest.raises(dv.ClipError, match="changed since it was scanned: it ends before byte") as caught:
            loader.apply(plan)
        assert caught.value.sample == bad[0] and caught.value.plan.samples.tolist() == [bad[0]]


def test_loader_and_apply_fall_back_alike(vp9, tmp_path):
    """A format that DALI cannot decode is sent to it: both find the clip, have PyAV decode it, and count it."""
    shutil.copytree(vp9, tmp_path / "v")
    write_numbered(tmp_path / "v" / "a" / "8.mp4", 40)
    manifest = dv.scan(tmp_path / "v", progress=False)
    mp4 = next(i for i in range(9) if manifest.path(i).endswith("8.mp4"))
    with load(manifest, "hybrid", PLAIN, drop_last=False) as loader, load(manifest, "hybrid", PLAIN) as other:
        for one in (loader, other):
            one.settings = replace(one.settings, refused={})
        batches = list(loader)
        for batch in batches:
            for clip, frames in zip(batch.clips, batch.plan.frames, strict=True):
                assert numbers(clip) == frames.tolist()
            assert torch.equal(other.apply(batch.plan).clips, batch.clips)
        assert sum(batch.samples.tolist().count(mp4) for batch in batches) == 1
        ((reason, (path, count)),) = other.report().fallbacks.items()
        assert reason.startswith("DALI could not decode it") and (path, count) == (manifest.path(mp4), 1)
        assert loader.report().fallbacks.keys() == {reason} and loader.report().replaced == 0


def test_a_clip_is_loaded_in_one_place():
    """One function reads and decodes clips, and one line calls it."""
    calls = []
    for path in Path(make.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name) and node.id in ("load_clips", "remux") and isinstance(node.ctx, ast.Load):
                calls.append((path.name, node.id))
    assert sorted(calls) == [
        ("clip_loading.py", "load_clips"),
        ("load.py", "remux"),
        ("prove.py", "remux"),
    ]  # a deep scan's


def test_apply_loads_clips_in_the_threads_of_the_loader(numbered_manifest, monkeypatch):
    names, load_clips = set(), clip_loading.load_clips

    def record(*arguments, **options):
        import threading

        names.add(threading.current_thread().name)
        return load_clips(*arguments, **options)

    monkeypatch.setattr(clip_loading, "load_clips", record)
    with dv.VideoLoader(numbered_manifest, PLAIN, 4, device="cpu", num_threads=3) as loader:
        next(iter(loader))
        before = set(names)
        loader.apply(dv.draw_plan(numbered_manifest, PLAIN, range(12)))
        assert before <= names <= {f"dali_vidaug-decode-{i}" for i in range(3)}


def test_apply_checks_the_plan(numbered_manifest):
    plan = dv.draw_plan(numbered_manifest, PLAIN, [0, 1])
    with dv.VideoLoader(numbered_manifest, PLAIN, 4, device="cpu") as loader:
        with pytest.raises(ValueError, match="clip 1 is of sample 99, but the manifest has 12 rows"):
            loader.apply(replace(plan, samples=np.array([0, 99])))
        whole = loader.apply(replace(plan, frames=plan.frames.astype(float)))
        assert torch.equal(whole.clips, loader.apply(plan).clips)


# Several clips of a video


@dataclass(frozen=True)
class Pair:
    """Two clips of each video, independent of each other."""

    num_frames: int = 4
    num_clips: int = 2

    def draw(self, draws, videos):
        start = videos.first + draws.integers("start", videos.last - videos.first - self.num_frames + 1)
        return start[:, None] + np.arange(self.num_frames)


PAIRS = dv.Recipe(Pair(), (dv.Resize(SIZE),))


def test_several_clips_of_a_video_stand_next_to_each_other(numbered_manifest):
    with dv.VideoLoader(numbered_manifest, PAIRS, 3, seed=1, device="cpu", decoder="pyav") as loader:
        assert len(loader) == 4
        batches = list(loader)
        samples = [s for batch in batches for s in batch.samples[::2].tolist()]
        assert sorted(samples) == list(range(12))
        for batch in batches:
            assert len(batch) == 6 and batch.views.tolist() == [0, 1] * 3
            assert (batch.samples[::2] == batch.samples[1::2]).all()
            assert (batch.plan.frames[::2] != batch.plan.frames[1::2]).any()
            for clip, frames in zip(batch.clips, batch.plan.frames, strict=True):
                assert numbers(clip) == frames.tolist()
            assert torch.equal(loader.apply(batch.plan).clips, batch.clips)
            alone = dv.draw_plan(numbered_manifest, PAIRS, batch.samples[1:2], seed=1, views=1)
            assert (alone.frames[0] == batch.plan.frames[1]).all()  # a clip depends on its address alone


@pytest.mark.parametrize("decoder", ["pyav", "hybrid"])
def test_clips_of_a_bad_video_are_replaced_together(vp9, decoder, tmp_path, monkeypatch):
    """Only the second clip of a video is bad: both are replaced, by clips of one other video."""
    manifest = dv.scan(vp9, progress=False)
    real = clip_loading.load_clips

    def fail(decoder, on_gpu, color, video, frames, crops, why, **options):
        if video.path == manifest.path(3) and any((f == bad).all() for f in frames):
            raise ValueError("damaged")
        return real(decoder, on_gpu, color, video, frames, crops, why, **options)

    bad = dv.draw_plan(manifest, PAIRS, [3], seed=7, views=1).frames[0]
    monkeypatch.setattr(clip_loading, "load_clips", fail)
    with load(manifest, decoder, PAIRS, shuffle=False) as loader:
        first, second = loader
        assert loader.report().bad[3][2] == loader.report().replaced == 2
    new = int(Draws(7, 0, [3], 0, "replacement").integers("sample.0", 8)[0])
    assert first.samples.tolist() == [0, 0, 1, 1, 2, 2, new, new] and second.samples.tolist()[:2] == [4, 4]
    for clip, frames in zip(first.clips, first.plan.frames, strict=True):
        assert numbers(clip) == frames.tolist()
    expected = dv.draw_plan(manifest, PAIRS, [new, new], seed=7, views=[0, 1])
    assert (first.plan.frames[6:] == expected.frames).all()


# Threads


def test_each_loader_keeps_its_number_of_threads(numbered_manifest, monkeypatch):
    """Two loaders by turns: the kernels of each run with its own number, not with that of the loader made last."""
    used, run = [], kernels._run_cpu

    def record(table, sizes, calls, num_threads):
        used.append((calls[0][0], num_threads))
        run(table, sizes, calls, num_threads)

    monkeypatch.setattr(kernels, "_run_cpu", record)
    resize = dv.Resize((32, 32))
    recipes = [dv.Recipe(RECIPE.sampling, (resize, op)) for op in (dv.RandAugmentT(), dv.Cutout())]
    loaders = [
        dv.VideoLoader(numbered_manifest, recipe, 3, device="cpu", num_threads=threads)
        for recipe, threads in zip(recipes, (1, 5), strict=True)
    ]
    with loaders[0], loaders[1]:
        for _ in zip(*loaders, strict=True):
            pass
        loaders[0].apply(dv.draw_plan(numbered_manifest, recipes[0], range(3)))
        loaders[1].apply(dv.draw_plan(numbered_manifest, recipes[1], range(3)))
    assert {(entry, n) for entry, n in used} == {("randaugment_count", 1), ("blend", 5)} and len(used) >= 10


def test_launches_use_the_threads_that_they_are_given(monkeypatch):
    from dali_vidaug.ops.blend import blend, new_rows

    asked, pool = [], kernels._pool
    monkeypatch.setattr(kernels, "_pool", lambda process, threads: asked.append(threads) or pool(process, threads))
    clips, rows = [np.zeros((2, 3, 4, 3), np.uint8)] * 6, new_rows(6, 2, 3, 4)
    rows["partner"], rows["inside"] = -1, 1
    for threads in (1, 2, 5):
        blend(clips, rows, num_threads=threads)
    assert asked == [2, 5]  # one thread needs no pool


# Resuming


def test_set_epoch_of_the_resumed_epoch_keeps_the_position(numbered_manifest):
    """As training loops do that call it before every epoch: nothing is repeated, nothing left out."""

    def make_loader():
        return dv.VideoLoader(numbered_manifest, PLAIN, 4, seed=3, device="cpu")

    def places(loader, epochs):
        found = []
        with loader:
            for epoch in epochs:
                loader.set_epoch(epoch)
                found += [(batch.epoch, batch.index) for batch in loader]
        return found

    whole = places(make_loader(), range(3))
    assert whole == [(epoch, index) for epoch in range(3) for index in range(3)]
    first = make_loader()
    with first:
        for epoch in range(2):
            first.set_epoch(epoch)
            for batch in first:
                if (batch.epoch, batch.index) == (1, 0):
                    break
        state = first.state_dict()
    resumed = make_loader()
    resumed.load_state_dict(state)
    assert places(resumed, range(state["epoch"], 3)) == whole[4:]


@pytest.mark.parametrize("epoch", [1.5, 2.0, "1", None, -1, 2**24, np.float32(1), torch.tensor(1.5), [1]])
def test_an_epoch_is_a_whole_number(epoch, numbered_manifest):
    loader = dv.VideoLoader(numbered_manifest, PLAIN, 5, device="cpu")
    with pytest.raises(ValueError, match=r"VideoLoader: epoch must be a whole number in \[0, 2\*\*24\), got "):
        loader.set_epoch(epoch)
    assert loader.epoch == 0


@pytest.mark.parametrize("epoch", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_any_kind_of_whole_number_is_an_epoch(epoch, numbered_manifest):
    loader = dv.VideoLoader(numbered_manifest, PLAIN, 5, device="cpu")
    loader.set_epoch(epoch)
    assert loader.epoch == 3 and type(loader.epoch) is int and loader.state_dict()["epoch"] == 3
    copy = dv.VideoLoader(numbered_manifest, PLAIN, 5, device="cpu")
    copy.load_state_dict(loader.state_dict())
    assert copy.epoch == 3


def test_set_epoch_after_resuming_otherwise_begins_the_epoch(numbered_manifest, caplog):
    loader = dv.VideoLoader(numbered_manifest, PLAIN, 4, seed=3, device="cpu")
    state = {**loader.state_dict(), "epoch": 1, "batch": 2}
    with loader:
        loader.load_state_dict(state)
        with caplog.at_level(logging.WARNING, "dali_vidaug"):
            loader.set_epoch(2)
        assert "drops the position of the loaded state, batch 2 of epoch 1" in caplog.text
        assert [(b.epoch, b.index) for b in loader] == [(2, 0), (2, 1), (2, 2)]
        loader.load_state_dict(state)
        loader.set_epoch(1)
        loader.set_epoch(1)  # twice is once
        assert [(b.epoch, b.index) for b in loader] == [(1, 2)]
        loader.set_epoch(1)  # the state is used up
        assert [(b.epoch, b.index) for b in loader] == [(1, 0), (1, 1), (1, 2)]
