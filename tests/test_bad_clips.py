"""Files that go bad after they were scanned: the epoch goes on, and everything is named."""

import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REALTIME_VP9, RECIPE, take_batches, write_broken_files, write_numbered

import dali_vidaug as dv
from dali_vidaug.loader import VideoLoader
from dali_vidaug.media import load

DALI = dv.Recipe(RECIPE.sampling, (dv.Resize((48, 80)), dv.Normalize()))


@pytest.fixture
def damaged(numbered, tmp_path):
    """A scanned folder in which eight of twelve files are then spoilt: (manifest, names of the bad)."""
    folder = tmp_path / "v"
    shutil.copytree(numbered, folder)
    manifest = dv.scan(folder, progress=False)
    write_broken_files(tmp_path / "broken", folder / "even" / "00.mp4")
    shutil.copy(tmp_path / "broken" / "empty.mp4", folder / "even" / "00.mp4")
    shutil.copy(tmp_path / "broken" / "text.mp4", folder / "odd" / "01.mp4")
    shutil.copy(tmp_path / "broken" / "no_index.mp4", folder / "even" / "02.mp4")
    shutil.copy(tmp_path / "broken" / "audio.mp4", folder / "odd" / "03.mp4")
    (folder / "even" / "04.mp4").unlink()
    flipped = bytearray((folder / "odd" / "05.mp4").read_bytes())
    for at in range(flipped.index(b"mdat") + 800, len(flipped) - 2500, 40):
        flipped[at] ^= 0x5A
    (folder / "odd" / "05.mp4").write_bytes(flipped)
    shutil.copy(folder / "odd" / "11.mp4", folder / "even" / "06.mp4")  # another video in its place: longer, whole
    return manifest, {"00.mp4", "01.mp4", "02.mp4", "03.mp4", "04.mp4", "05.mp4"}


def test_the_epoch_continues_and_the_report_names_each_bad_file(damaged, caplog):
    manifest, bad = damaged
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        loader = VideoLoader(manifest, RECIPE, 5, drop_last=False)
        batches = take_batches(loader, 3)
    assert [len(b) for b in batches] == [5, 5, 2]
    report = loader.report()
    named = {path.rsplit("/", 1)[1] for path, _, _ in report.bad.values()}
    assert named == bad | {"06.mp4"}  # which decodes, but is not the file that was scanned
    assert report.replaced >= 5
    for name in bad - {"05.mp4"}:
        assert name in str(report) and any(name in record.message for record in caplog.records)
    for batch in batches:
        assert bool(batch.clips.isfinite().all())
        used = {manifest.path(s).rsplit("/", 1)[1] for s in batch.samples.tolist()}
        assert not used & named
        for sample, target in zip(batch.samples.tolist(), batch.targets.tolist(), strict=True):
            assert target[manifest.labels[sample]] == 1  # the label is that of the clip that is there
    again = take_batches(VideoLoader(manifest, RECIPE, 5, drop_last=False, num_threads=1), 3)
    assert [b.samples.tolist() for b in again] == [b.samples.tolist() for b in batches]


def test_bit_flips_are_noticed(damaged):
    manifest, _ = damaged
    recipe = dv.Recipe(dv.ClipSampling(40, 1), (dv.Resize((48, 80)),))
    loader = VideoLoader(manifest, recipe, 12, check_files="off")
    with loader:
        next(iter(loader))
    assert "05.mp4" in str(loader.report())


def test_raise_names_path_and_sample(damaged):
    manifest, _ = damaged
    sample = next(i for i in range(12) if manifest.path(i).endswith("01.mp4"))
    loader = VideoLoader(manifest, RECIPE, 12, on_error="raise", shuffle=False)
    with pytest.raises(dv.ClipError) as caught, loader:
        list(loader)
    error = caught.value
    assert error.sample == 0 and error.path == manifest.path(0) and error.epoch == 0  # the first of them
    assert manifest.path(0) in str(error) and "sample 0" in str(error)
    assert error.plan.samples.tolist() == [0] and error.plan.frames.shape == (1, 4)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    plan = dv.draw_plan(manifest, RECIPE, [sample])
    with pytest.raises(dv.ClipError, match=rf"01.mp4 \(sample {sample}, epoch 0\): changed since it was scanned"):
        VideoLoader(manifest, RECIPE, 1, check_files="off").apply(plan)


def test_when_all_files_are_bad_the_error_says_so(damaged):
    manifest, _ = damaged
    for i in range(12):
        Path(manifest.path(i)).write_bytes(b"")
    with pytest.raises(dv.ClipError, match="the last of 20 replacements for sample .*, all bad"):
        take_batches(VideoLoader(manifest, RECIPE, 4, check_files="off"), 1)


@pytest.mark.parametrize("mixing", [(), (dv.CubeCutMix(),)], ids=["alone", "mixed"])
def test_clips_that_dali_cannot_decode_are_found_and_replaced(mixing, tmp_path, monkeypatch):
    """DALI fails a whole batch; the clip that did it is found. The small files are spoilt after PyAV has made them."""
    recipe = replace(DALI, ops=(*DALI.ops[:-1], *mixing, DALI.ops[-1]))
    for i in range(6):
        write_numbered(tmp_path / "a" / f"{i}.webm", 30, **REALTIME_VP9)
    manifest = dv.scan(tmp_path, progress=False)
    real = load.remux

    def spoil(video, frames, **options):
        made = real(video, frames, **options)
        if video.path.endswith(("2.webm", "4.webm")):
            made = made._replace(data=made.data[: len(made.data) // 8].copy())
        return made

    monkeypatch.setattr(load, "remux", spoil)
    loader = VideoLoader(manifest, recipe, 6, decoder="dali", shuffle=False)
    first, second = take_batches(loader, 2)
    assert {path.rsplit("/", 1)[1] for path, _, _ in loader.report().bad.values()} == {"2.webm", "4.webm"}
    for batch in (first, second):
        assert not {2, 4} & set(batch.samples.tolist()) and {0, 1, 3, 5} <= set(batch.samples.tolist())
    monkeypatch.undo()
    clean = VideoLoader(manifest, recipe, 6, decoder="dali")
    for batch in (first, second):
        assert (clean.apply(batch.plan).clips == batch.clips).all()
    monkeypatch.setattr(load, "remux", spoil)
    loader = VideoLoader(manifest, recipe, 6, decoder="dali", shuffle=False, on_error="raise")
    with pytest.raises(dv.ClipError, match=r"2.webm \(sample 2, epoch 0\): DALI could not decode it"):
        take_batches(loader, 1)
