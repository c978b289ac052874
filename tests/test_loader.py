"""The loader: its batches, the position that it keeps, what it leaves behind, what it refuses."""

import gc
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import OWN_SIZE, REALTIME_VP9, RECIPE, same_batch, shown_numbers, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug.device import gpu
from dali_vidaug.loader import VideoLoader
from dali_vidaug.report import warn_once


@pytest.fixture(scope="module")
def expected(numbered_manifest):
    """Seven batches of 5, two epochs and more."""
    return take_batches(VideoLoader(numbered_manifest, RECIPE, 5, seed=3), 7)


def test_batches_have_the_planned_frames_and_labels(numbered_manifest):
    with VideoLoader(numbered_manifest, OWN_SIZE, batch_size=5, drop_last=False) as loader:
        assert len(loader) == 3 and loader.clip_shape == (4, 96, 160)
        batches = list(loader)
    assert [(b.epoch, b.index, len(b)) for b in batches] == [(0, 0, 5), (0, 1, 5), (0, 2, 2)]
    assert sorted(s for b in batches for s in b.samples.tolist()) == list(range(12))
    for batch in batches:
        clips, targets = batch
        assert clips.shape == (len(batch), 3, 4, 96, 160) and clips.dtype == torch.uint8
        for i, sample in enumerate(batch.samples.tolist()):
            assert shown_numbers(clips[i].permute(1, 2, 3, 0).numpy()) == batch.plan.frames[i].tolist()
            folder = Path(numbered_manifest.path(sample)).parent.name
            assert targets[i].tolist() == [float(folder == "even"), float(folder == "odd")]


@pytest.mark.parametrize(
    "options", [dict(num_threads=1), dict(num_threads=5, prefetch=1), dict(prefetch=4), dict(workers=2)], ids=str
)
def test_the_same_batches_for_any_threads_and_prefetch(options, numbered_manifest, expected):
    got = take_batches(VideoLoader(numbered_manifest, RECIPE, 5, seed=3, **options), 7)
    assert [(b.epoch, b.index) for b in got] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert all(same_batch(a, b) for a, b in zip(got, expected, strict=True))


def test_another_seed_gives_another_order_and_other_clips(numbered_manifest, expected):
    ordered, (other,) = (
        take_batches(VideoLoader(numbered_manifest, RECIPE, 12, seed=seed, drop_last=False), 1) for seed in (3, 4)
    )
    assert ordered[0].samples.tolist() != other.samples.tolist()
    place = [ordered[0].samples.tolist().index(sample) for sample in other.samples.tolist()]
    differ = [not torch.equal(clip, ordered[0].clips[i]) for clip, i in zip(other.clips, place, strict=True)]
    assert all(differ)  # even those of the same sample


@pytest.mark.parametrize("taken", range(6))
def test_resume_at_any_batch(taken, numbered_manifest, expected):
    first = VideoLoader(numbered_manifest, RECIPE, 5, seed=3)
    take_batches(first, taken)
    state = json.loads(json.dumps(first.state_dict()))
    second = VideoLoader(numbered_manifest, RECIPE, 5, seed=3)
    second.load_state_dict(state)
    assert all(same_batch(a, b) for a, b in zip(take_batches(second, 2), expected[taken : taken + 2], strict=True))


def test_resume_in_a_new_process(numbered_manifest, expected, tmp_path):
    numbered_manifest.write(tmp_path / "m.parquet")
    code = f"""
import json, sys, torch, dali_vidaug as dv
recipe = dv.Recipe.parse({repr(RECIPE)!r})
loader = dv.VideoLoader(dv.Manifest.read({str(tmp_path / "m.parquet")!r}), recipe, 5, seed=3)
loader.load_state_dict({{**loader.state_dict(), "epoch": 1, "batch": 1}})
torch.save(next(iter(loader)).clips, {str(tmp_path / "clips.pt")!r})
loader.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert torch.equal(torch.load(tmp_path / "clips.pt"), expected[3].clips)


def test_a_state_of_another_loader_is_refused(numbered_manifest):
    state = VideoLoader(numbered_manifest, RECIPE, 5, seed=3).state_dict()
    with pytest.raises(ValueError, match="seed is 4, the state's 3"):
        VideoLoader(numbered_manifest, RECIPE, 5, seed=4).load_state_dict(state)
    with pytest.raises(ValueError, match="recipe has"):
        VideoLoader(numbered_manifest, replace(RECIPE, ops=RECIPE.ops[:1]), 5, seed=3).load_state_dict(state)
    with pytest.raises(ValueError, match=r"must be what state_dict\(\) gave, got a mapping with nothing"):
        VideoLoader(numbered_manifest, RECIPE, 5, seed=3).load_state_dict({})


def test_leaving_a_loop_early_and_set_epoch(numbered_manifest, expected):
    with VideoLoader(numbered_manifest, RECIPE, 5, seed=3) as loader:
        batch = next(iter(loader))
        assert loader.state_dict()["batch"] == 1  # a checkpoint here continues with batch 1
        assert [(b.epoch, b.index) for b in loader] == [(0, 0), (0, 1)]  # that was a peek
        assert [(b.epoch, b.index) for b in loader] == [(1, 0), (1, 1)]
        loader.set_epoch(0)
        assert same_batch(next(iter(loader)), expected[0])
        assert batch.epoch == 0


def test_shards_together_are_the_whole(numbered_manifest):
    (batch,) = take_batches(VideoLoader(numbered_manifest, RECIPE, 12, seed=3), 1)
    whole = {s: batch.clips[i] for i, s in enumerate(batch.samples.tolist())}
    for num_shards in (2, 3, 7):
        seen = {}
        for shard_index in range(num_shards):
            loader = VideoLoader(
                numbered_manifest,
                RECIPE,
                1,
                seed=3,
                num_shards=num_shards,
                shard_index=shard_index,
                drop_last=False,
                even=False,
            )
            for batch in take_batches(loader, len(loader)):
                assert not set(seen) & set(batch.samples.tolist())
                seen |= {s: batch.clips[i] for i, s in enumerate(batch.samples.tolist())}
        assert set(seen) == set(range(12))
        assert all(torch.equal(seen[s], whole[s]) for s in seen)  # a clip does not depend on its batch or shard


def test_rank_and_world_size_come_from_the_environment(numbered_manifest, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    schedule = VideoLoader(numbered_manifest, RECIPE, 2).schedule
    assert (schedule.num_shards, schedule.shard_index) == (3, 2)
    monkeypatch.setenv("RANK", "x")
    with pytest.raises(ValueError, match="RANK must be an integer, got 'x'"):
        len(VideoLoader(numbered_manifest, RECIPE, 2))


def test_tensors_own_their_memory(numbered_manifest):
    """A batch that is kept is not overwritten by later ones."""
    loader = VideoLoader(numbered_manifest, RECIPE, 4)
    kept = take_batches(loader, 6)
    copies = [b.clips.clone() for b in kept]
    with loader:
        for _ in range(3):
            list(loader)
    assert all(torch.equal(b.clips, c) for b, c in zip(kept, copies, strict=True))
    assert len({b.clips.data_ptr() for b in kept}) == 6
    first = kept[0].clips
    first += 1  # and may be written to


def test_apply_replays_a_plan(numbered_manifest, expected, tmp_path):
    plan = expected[2].plan
    plan.save(tmp_path / "plan.json")
    loader = VideoLoader(numbered_manifest, RECIPE, 5)
    assert torch.equal(loader.apply(dv.Plan.load(tmp_path / "plan.json")).clips, expected[2].clips)


def test_resize_in_decoder_is_close_to_dalis(numbered_manifest, expected):
    """Crop and scale in the decoder's conversion, against DALI's resize of whole RGB frames."""
    plan = expected[0].plan
    recipe = replace(RECIPE, ops=(dv.RandomResizedCrop(32, scale=(0.5, 1.0)),))
    plan = dv.draw_plan(numbered_manifest, recipe, plan.samples)
    clips = [
        VideoLoader(numbered_manifest, recipe, 5, resize_in_decoder=inside).apply(plan).clips.int()
        for inside in (True, False)
    ]
    diff = (clips[0] - clips[1]).abs().float()
    # black and white blocks made three to five times smaller are the worst case; real videos: see the README
    assert diff.mean() < 2.5 and (diff > 16).float().mean() < 0.02, (diff.mean(), diff.max())


def threads():
    names = ("dali_vidaug-decode", "dali_vidaug-graph", "dali_vidaug-plan")
    return {t.name for t in threading.enumerate() if t.name.startswith(names)}


def no_threads():
    """Closing waits a second for them; on a busy machine they may need more."""
    deadline = time.monotonic() + 20
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not threads()


def test_closing_and_garbage_collection_leave_no_thread(numbered_manifest):
    loader = VideoLoader(numbered_manifest, RECIPE, 4)
    next(iter(loader))
    assert threads()
    loader.close()
    assert no_threads()
    next(iter(loader))  # it can be used again
    assert threads()
    del loader
    gc.collect()
    assert no_threads()


# A program that is started in the background may be told to ignore interrupts.
_INTERRUPT = "import os, signal; signal.signal(2, signal.default_int_handler); os.kill(os.getpid(), 2)"


@pytest.mark.parametrize("ending", ["", _INTERRUPT, "raise ValueError('mine')"])
def test_the_program_ends_without_hanging_or_noise(ending, numbered_manifest, tmp_path):
    numbered_manifest.write(tmp_path / "m.parquet")
    code = f"""
import dali_vidaug as dv
loader = dv.VideoLoader(dv.Manifest.read({str(tmp_path / "m.parquet")!r}), dv.Recipe(), 4, device="cpu")
for batch in loader:
    {ending or "break"}
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1:]
    assert last == {"": [], "r": ["ValueError: mine"], "i": ["KeyboardInterrupt"]}[ending[:1]], done.stderr
    assert "dali" not in done.stderr.replace("dali_vidaug", "").lower()


def test_report_counts(numbered_manifest):
    with VideoLoader(numbered_manifest, RECIPE, 4) as loader:
        list(loader)
        report = loader.report()
    assert report.batches >= 3 and report.clips == 4 * report.batches and report.frames_decoded >= 4 * 12
    assert set(report.seconds) == {"read", "decode", "convert", "load", "graph", "wait", "first", "loop", "ahead"}
    assert f"{report.batches} batches, {report.clips} clips (" in str(report)
    assert f"{report.frames_decoded} frames decoded (" in str(report)
    assert report.replaced == 0 and "replaced clips: 0" in str(report)


def test_float16(numbered_manifest):
    full, half = (
        take_batches(VideoLoader(numbered_manifest, RECIPE, 4, dtype=d), 1)[0] for d in ("float32", "float16")
    )
    assert half.clips.dtype == torch.float16
    assert torch.equal(full.clips.half(), half.clips)


def test_samples_without_labels(numbered, tmp_path):
    manifest = dv.scan(numbered / "even", progress=False)
    (batch,) = take_batches(VideoLoader(manifest, RECIPE, 4), 1)
    assert manifest.classes == () and batch.targets.shape == (4, 0)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(batch_size=0), "batch_size must be an int >= 1, got 0"),
        (dict(batch_size="8"), "batch_size must be an int >= 1, got '8'"),
        (dict(batch_size=2.5), "batch_size must be an int >= 1, got 2.5"),
        (dict(batch_size=13), "12 samples do not fill one step of batch_size 13"),
        (
            dict(batch_size=2, device="cuda:x"),
            "device must be auto, cpu, gpu, cuda, cuda:N or a torch.device, got 'cuda:x'",
        ),
        (dict(batch_size=2, decoder="nvdec"), "decoder must be auto, dali, pyav or hybrid, got 'nvdec'"),
        (dict(batch_size=2, dtype="bf16"), "dtype must be"),
        (dict(batch_size=2, on_error="ignore"), "on_error must be replace, skip or raise, got 'ignore'"),
        (dict(batch_size=2, num_threads=0), "num_threads must be an int >= 1, got 0"),
        (dict(batch_size=2, prefetch=0), "prefetch must be an int >= 1, got 0"),
        (dict(batch_size=2, workers=-1), "workers must be an int >= 0, got -1"),
        (dict(batch_size=2, num_shards=2), "give num_shards and shard_index both"),
        (dict(batch_size=2, num_shards=2, shard_index=2), r"shard_index must be in \[0, 2\), got 2"),
        (dict(batch_size=2, seed=-1), "seed must be"),
        (dict(batch_size=2, seed=None), r"seed must be an int in \[0, 2\*\*64\), got None"),
        (
            dict(batch_size=2, decoder="dali", device="cpu"),
            r"'dali' does not suit the manifest: DALI does not decode h264 on the CPU \(12 files, for example .*mp4\); "
            "use decoder='auto'",
        ),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, message, numbered_manifest):
    with pytest.raises(ValueError, match=message):
        VideoLoader(numbered_manifest, RECIPE, **options)


def test_a_recipe_that_does_not_suit_the_videos_is_refused(numbered_manifest):
    with pytest.raises(ValueError, match="CenterCrop: size 200x200 is larger than the 96x160 frames"):
        VideoLoader(numbered_manifest, dv.Recipe(ops=(dv.CenterCrop(200),)), 2)
    rows = numbered_manifest.table.to_pylist()
    rows[5] |= {"height": 50}
    mixed = dv.Manifest(
        pa.Table.from_pylist(rows, numbered_manifest.table.schema), ("even", "odd"), numbered_manifest.root
    )
    with pytest.raises(
        ValueError,
        match=r"clips of different sizes .* 96x160x16 for .*mp4 but 50x160x16 for .*mp4; add RandomResizedCrop",
    ):
        VideoLoader(mixed, dv.Recipe(ops=()), 2)
    with pytest.raises(ValueError, match="recipe must be a Recipe"):
        VideoLoader(numbered_manifest, RECIPE.ops, 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_warns_once_and_uses_the_cpu(numbered_manifest, caplog):
    with pytest.raises(ValueError, match=f"device is 'gpu', but {re.escape(gpu.problem())}; see dali-vidaug doctor"):
        VideoLoader(numbered_manifest, RECIPE, 2, device="gpu")
    warn_once.cache_clear()
    assert [VideoLoader(numbered_manifest, RECIPE, 2).device for _ in range(3)] == ["cpu"] * 3
    (record,) = caplog.records
    assert gpu.problem() in record.message and "device 'auto' is the CPU" in record.message
    caplog.clear()
    warn_once.cache_clear()
    VideoLoader(numbered_manifest, RECIPE, 2, device="cpu")
    assert not caplog.records


def test_dali_decoder_on_the_cpu(tmp_path):
    """VP9 through DALI's own decoder: the same clips as through PyAV."""
    for i in range(4):
        write_numbered(tmp_path / "a" / f"{i}.webm", 30, **REALTIME_VP9)
    manifest = dv.scan(tmp_path, progress=False)
    recipe = replace(RECIPE, ops=(dv.Resize((48, 80)), dv.RandomHorizontalFlip(), dv.Normalize()))
    loaders = [
        VideoLoader(manifest, recipe, 3, decoder="dali", drop_last=False),
        VideoLoader(manifest, recipe, 3, decoder="pyav", drop_last=False, resize_in_decoder=False),
    ]
    for a, b in zip(*(take_batches(loader, 3) for loader in loaders), strict=True):
        assert same_batch(a, b)


def test_labels_are_indices_of_the_classes(numbered_manifest):
    assert numbered_manifest.classes == ("even", "odd")
    assert set(np.unique(numbered_manifest.labels)) == {0, 1}
