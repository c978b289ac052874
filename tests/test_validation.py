"""Clips that are not what they seem: left out in validation, or filled up with repeated frames; and what is said."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REALTIME_VP9, read_number, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug import clip_loading, gathering
from dali_vidaug.counting import num_distinct
from dali_vidaug.media import load
from dali_vidaug.report import warn_once
from dali_vidaug.suitability import padded_share, warn_of_short_videos

SIZE = (96, 160)
PLAIN = dv.Recipe(dv.ClipSampling(4, start="center"), (dv.Resize(SIZE),))  # the numbers in the frames stay readable
CHAIN = dv.Recipe(PLAIN.sampling, (dv.Resize((32, 48)), dv.CutMix(), dv.RandAugmentT(), dv.Normalize()))


@pytest.fixture
def spoilt(numbered, tmp_path, request):
    """A scanned folder of twelve videos, of which some are then spoilt: (manifest, rows of the bad)."""
    for i in range(12):
        # more than one GOP: clips of one are loaded together, and fail together in any case
        write_numbered(tmp_path / "v" / "ab"[i % 2] / f"{i:02d}.mp4", 20 + i, options={"g": "12"})
    manifest = dv.scan(tmp_path / "v", progress=False)
    bad = getattr(request, "param", (1, 4, 5, 6, 7))
    for i in bad:
        Path(manifest.path(i)).write_bytes(b"no video")
    return manifest, list(bad)


def make_loader(manifest, recipe=PLAIN, batch_size=4, **options):
    options = dict(shuffle=False, drop_last=False, on_error="skip", device="cpu") | options
    return dv.VideoLoader(manifest, recipe, batch_size, **options)


def check_numbers(batch):
    for clip, frames in zip(batch.clips, batch.plan.frames, strict=True):
        assert [read_number(frame) for frame in clip.permute(1, 2, 3, 0).numpy()] == frames.tolist()


def test_bad_clips_are_left_out_and_counted(spoilt, caplog):
    """The whole of batch 1 is bad: it is there, and empty."""
    manifest, bad = spoilt
    with caplog.at_level(logging.WARNING, "dali_vidaug"), make_loader(manifest) as loader:
        batches = list(loader)
        assert [b.samples.tolist() for b in batches] == [[0, 2, 3], [], [8, 9, 10, 11]]
        assert [b.skipped.tolist() for b in batches] == [[1], [4, 5, 6, 7], []]
        for batch in batches:
            check_numbers(batch)
            assert batch.clips.shape == (len(batch), 3, 4, *SIZE) and batch.clips.dtype == torch.uint8
            assert batch.targets.shape == (len(batch), 2) and batch.repeated.shape == (len(batch),)
            assert batch.targets.argmax(1).tolist() == manifest.labels[batch.samples].tolist()
            assert batch.rows("path").tolist() == [manifest.table["path"][i].as_py() for i in batch.samples.tolist()]
        assert "epoch 0: 5 clips were left out; report().bad names their videos" in caplog.text
        assert sum("left out a bad clip" in record.message for record in caplog.records) == 5
        report = loader.report()
    assert set(report.bad) == set(bad) and report.replaced == 0 and report.skipped >= 5
    assert f"clips left out: {report.skipped}, of 5 videos" in str(report) and "replaced clips: 0" in str(report)


@pytest.mark.parametrize("seed", range(6))
def test_accuracy_over_what_can_be_decoded_is_right(seed, tmp_path):
    """Any bad videos, batch sizes, ranks and orders: counted over all ranks, every good video counts once."""
    rng = np.random.default_rng(seed)
    for i in range(12):
        write_numbered(tmp_path / "v" / "abc"[i % 3] / f"{i:02d}.mp4", 6)
    manifest = dv.scan(tmp_path / "v", progress=False)
    bad = sorted(rng.choice(12, int(rng.integers(1, 9)), replace=False).tolist())
    for i in bad:
        Path(manifest.path(i)).unlink()
    answers = rng.integers(0, 3, 12)  # a model that knows each video
    num_shards, batch_size, shuffle = int(rng.integers(1, 5)), int(rng.integers(1, 6)), bool(rng.integers(2))
    right = seen = missing = 0
    lengths = set()
    for rank in range(num_shards):
        loader = make_loader(
            manifest, dv.Recipe(dv.ClipSampling(2), (dv.Resize((8, 8)),)), batch_size, shuffle=shuffle, seed=seed,
            num_shards=num_shards, shard_index=rank,
        )  # fmt: skip
        with loader:
            batches = list(loader)
        lengths.add(len(batches))
        for batch in batches:
            counts = ~batch.repeated
            right += int((torch.from_numpy(answers)[batch.samples] == batch.targets.argmax(1))[counts].sum())
            seen += int(counts.sum())
            missing += len(batch.skipped)
    good = [i for i in range(12) if i not in bad]
    assert (right, seen) == (int((answers == manifest.labels)[good].sum()), len(good))
    assert len(lengths) == 1 and missing >= len(bad)


@pytest.mark.parametrize("spoilt", [(7,)], indirect=True)
def test_repeated_clips_are_marked_where_clips_before_them_are_left_out(spoilt):
    """Eleven videos for two ranks: the second has 6 to 10 and, again, 0."""
    manifest, _ = spoilt
    eleven = dv.Manifest(manifest.table.slice(0, 11), manifest.classes, manifest.root)
    with make_loader(eleven, batch_size=12, num_shards=2, shard_index=1, prefetch=1) as loader:
        batch = next(iter(loader))
        assert batch.samples.tolist() == [6, 8, 9, 10, 0] and batch.skipped.tolist() == [7]
        assert batch.repeated.tolist() == [False] * 4 + [True]


def test_left_out_clips_change_no_other(spoilt):
    """The plan is what is drawn for the clips that are left; mixing finds partners among them."""
    manifest, bad = spoilt
    with make_loader(manifest, CHAIN, 12, seed=5) as loader:
        (batch,) = list(loader)
        good = [i for i in range(12) if i not in bad]
        assert batch.samples.tolist() == good and batch.clips.dtype == torch.float32
        expected = dv.draw_plan(manifest, CHAIN, good, seed=5)
        assert all((batch.plan.args[name] == expected.args[name]).all() for name in ("CutMix", "RandAugmentT"))
        assert torch.equal(loader.apply(expected).clips, batch.clips)
        assert torch.equal(loader.apply(expected).targets, batch.targets)


@dataclass(frozen=True)
class Ends:
    """The first and the last frames of each video, as two clips."""

    num_clips: int = 2

    def draw(self, draws, videos):
        return np.where(draws.views == 0, videos.first, videos.last - 4)[:, None] + np.arange(4)


def test_all_clips_of_a_video_are_left_out_together(spoilt, monkeypatch):
    manifest, _ = spoilt
    real = clip_loading.load_clips

    def fail(decoder, on_gpu, color, video, frames, crops, why, **options):
        if video.path == manifest.path(9) and any(f[0] for f in frames):
            raise ValueError("damaged at its end")
        return real(decoder, on_gpu, color, video, frames, crops, why, **options)

    monkeypatch.setattr(clip_loading, "load_clips", fail)
    with make_loader(manifest, dv.Recipe(Ends(), PLAIN.ops)) as loader:
        first, empty, last = loader
    assert first.samples.tolist() == [0, 0, 2, 2, 3, 3] and first.views.tolist() == [0, 1] * 3
    assert last.samples.tolist() == [8, 8, 10, 10, 11, 11] and last.skipped.tolist() == [9, 9] and not len(empty)
    check_numbers(first)
    check_numbers(last)


def test_clips_that_dali_cannot_decode_are_left_out(tmp_path, monkeypatch):
    for i in range(6):
        write_numbered(tmp_path / "a" / f"{i}.webm", 30, **REALTIME_VP9)
    manifest = dv.scan(tmp_path, progress=False)
    real = load.remux

    def spoil(video, frames, **options):
        made = real(video, frames, **options)
        if video.path.endswith(("2.webm", "4.webm", "5.webm")):
            made = made._replace(data=made.data[: len(made.data) // 8].copy())
        return made

    monkeypatch.setattr(load, "remux", spoil)
    with make_loader(manifest, batch_size=2, decoder="dali") as loader:
        batches = list(loader)
        assert [b.samples.tolist() for b in batches] == [[0, 1], [3], []]
        for batch in batches:
            check_numbers(batch)


@pytest.mark.parametrize("spoilt", [range(12)], indirect=True)
def test_where_nothing_can_be_decoded_there_is_an_error(spoilt, monkeypatch):
    manifest, _ = spoilt
    monkeypatch.setattr(gathering, "REPLACEMENTS_MAX", 10)
    with (
        pytest.raises(dv.ClipError, match="the last of 11 samples, all bad"),
        make_loader(manifest, check_files="off") as loader,
    ):
        list(loader)


# ---- Clips with repeated frames


def test_padded_clips_are_counted(tmp_path):
    """Videos of 10, 16 and 40 frames; 16 frames, stride 1: of the first 6 are repeated."""
    for i, count in enumerate((10, 16, 40)):
        write_numbered(tmp_path / f"{i}.mp4", count)
    manifest = dv.scan(tmp_path, progress=False)
    with make_loader(manifest, dv.Recipe(dv.ClipSampling(16), PLAIN.ops), 3, prefetch=1) as loader:
        list(loader)
        report = loader.report()
    assert report.padded == report.batches and report.clips == 3 * report.batches
    assert report.frames_repeated == 6 * report.batches and report.frames == 48 * report.batches
    assert f"padded clips: {report.padded} (33%); 12% of all frames" in str(report)


@pytest.mark.parametrize("seed", range(20))
def test_distinct_frames_are_those_of_a_set(seed):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 12, (int(rng.integers(0, 9)), int(rng.integers(1, 20))))
    assert num_distinct(frames).tolist() == [len(set(row)) for row in frames.tolist()]


def manifest_of_lengths(manifest, lengths):
    rows = [dict(manifest.table.slice(0, 1).to_pylist()[0], last_frame=n, num_frames=n) for n in lengths]
    return dv.Manifest(manifest.table.from_pylist(rows, manifest.table.schema), manifest.classes, manifest.root)


@pytest.mark.parametrize("short", ["repeat", "loop", "shrink"])
def test_the_share_of_short_videos_is_estimated(short, numbered_manifest):
    """Lengths 1 to 5000: 16 frames with stride 4 need 61 (1.2 %); a stride that shrinks needs 16."""
    manifest = manifest_of_lengths(numbered_manifest, range(1, 5001))
    clips, frames = padded_share(manifest, dv.Recipe(dv.ClipSampling(16, 4, short=short), ()))
    needed = 16 if short == "shrink" else 61
    assert abs(clips - (needed - 1) / 5000) <= 0.001 and 0 < frames < clips
    half = manifest_of_lengths(numbered_manifest, [10, 100] * 6)
    assert padded_share(half, dv.Recipe(dv.ClipSampling(16), ())) == (0.5, 0.5 * 6 / 16)


def test_short_videos_are_named_when_the_loader_is_made(numbered_manifest, caplog):
    warn_once.cache_clear()
    recipe = dv.Recipe(dv.ClipSampling(16, 4), (dv.Resize((8, 8)),))
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        for _ in range(2):
            dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu", num_shards=1, shard_index=0)
    messages = [record.message for record in caplog.records if "frames more than once" in record.message]
    assert len(messages) == 1  # 11 of the 12 videos have fewer than 61 frames
    assert "about 92% of the clips" in messages[0] and "ClipSampling(num_frames=16, stride=4" in messages[0]
    caplog.clear()
    dv.VideoLoader(numbered_manifest, PLAIN, 2, device="cpu")
    assert not caplog.records


@pytest.mark.parametrize(
    "sampling, cure",
    [
        (dv.ClipSampling(64), "Fewer frames, a smaller stride or short='shrink' avoid it"),
        (dv.MultiClip(dv.ClipSampling(64), 2), "Fewer frames, a smaller stride or short='shrink' avoid it"),
        (dv.ClipSampling(64, short="shrink"), "Fewer frames avoid it"),
        (dv.MultiClip(dv.ClipSampling(64, short="shrink"), 2), "Fewer frames avoid it"),
        (dv.SegmentSampling(64), "Fewer frames avoid it"),
        (dv.SlowFastSampling(64, 1), "Fewer frames or a smaller stride avoid it"),
        (
            dv.MultiClip(dv.DMVRSampling(64, 1, 2, training=False), 2, "own"),
            "Fewer frames or a smaller stride avoid it",
        ),
        (dv.VJEPA2Sampling(64, 4), "Fewer frames or a higher fps avoid it"),
        (dv.Snippets(4, None, 16, 2), "Snippets that only fill up are not valid"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_the_cure_of_short_videos_is_one_that_the_sampler_has(sampling, cure, numbered_manifest, caplog):
    warn_once.cache_clear()
    few = numbered_manifest.select([i for i, n in enumerate(numbered_manifest.videos(range(12)).lengths) if n < 60])
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        warn_of_short_videos(few, dv.Recipe(sampling, ()), 0)
    (message,) = [record.message for record in caplog.records]
    assert f". {cure}; report()" in message or f". {cure}, " in message
    for word, name in (("stride", "stride"), ("fps", "fps"), ("short=", "short")):
        assert word not in cure or hasattr(getattr(sampling, "clip", sampling), name)


def test_replaced_clips_are_not_counted_as_left_out(spoilt):
    manifest, bad = spoilt
    loader = make_loader(manifest, on_error="replace")
    batches = take_batches(loader, 3)
    assert [len(b) for b in batches] == [4, 4, 4] and not any(len(b.skipped) for b in batches)
    report = loader.report()
    assert report.skipped == 0 and report.replaced >= len(bad) and "left out" not in str(report)
