"""Replaying plans while a loader does other things: iterating, closing, losing its processes."""

import pickle
import threading

import numpy as np
import pyarrow as pa
import pytest
import torch

import dali_vidaug as dv

RECIPE = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(32), dv.RandomHorizontalFlip(), dv.Normalize()))


def test_threads_replay_while_the_loader_iterates_and_begins_again(numbered_manifest):
    plan = dv.draw_plan(numbered_manifest, RECIPE, [3, 4, 5])
    with dv.VideoLoader(numbered_manifest, RECIPE, 3, device="cpu") as loader:
        expected = loader.apply(plan).clips
        wrong: list = []

        def replay():
            try:
                for _ in range(10):
                    if not torch.equal(loader.apply(plan).clips, expected):
                        wrong.append("other pixels")
            except BaseException as error:
                wrong.append(repr(error))

        threads = [threading.Thread(target=replay) for _ in range(3)]
        for thread in threads:
            thread.start()
        for epoch in range(4):  # each begins at another place, with a new producer
            loader.set_epoch(epoch + 5)
            next(iter(loader))
        for thread in threads:
            thread.join()
    assert wrong == []


def test_closing_meanwhile_is_said(numbered_manifest, monkeypatch):
    from dali_vidaug import clip_loading

    begun, go_on = threading.Event(), threading.Event()
    real = clip_loading.load_clips

    def slow(*arguments, **options):
        begun.set()
        go_on.wait(10)
        return real(*arguments, **options)

    monkeypatch.setattr(clip_loading, "load_clips", slow)
    loader = dv.VideoLoader(numbered_manifest, RECIPE, 3, device="cpu", num_threads=1)
    errors: list = []

    def replay():
        try:
            loader.apply(dv.draw_plan(numbered_manifest, RECIPE, [3, 4, 5]))
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=replay)
    thread.start()
    assert begun.wait(10)
    closing = threading.Thread(target=loader.close)
    closing.start()
    while loader._background._pool is not None:
        pass
    go_on.set()
    closing.join()
    thread.join()
    assert errors == ["the loader was closed while clips were being loaded"]


def test_a_report_counts_what_was_replayed(numbered_manifest):
    with dv.VideoLoader(numbered_manifest, RECIPE, 3, device="cpu") as loader:
        loader.apply(dv.draw_plan(numbered_manifest, RECIPE, [3, 4, 5]))
        report = loader.report()
    assert (report.batches, report.clips) == (1, 3) and report.frames_decoded >= 12 and report.elapsed_seconds > 0


def test_a_pickled_batch_does_not_carry_the_manifest(numbered_manifest):
    table = pa.concat_tables([numbered_manifest.table] * 5000)
    manifest = dv.Manifest(table, numbered_manifest.classes, numbered_manifest.root)
    with dv.VideoLoader(manifest, dv.Recipe(dv.ClipSampling(1), (dv.Resize((8, 8)),)), 2, device="cpu") as loader:
        batch = next(iter(loader))
    data = pickle.dumps(batch)
    assert len(data) < 20_000
    again = pickle.loads(data)
    assert torch.equal(again.clips, batch.clips) and torch.equal(again.samples, batch.samples)
    assert batch.rows("path").tolist() == [manifest.table["path"][i].as_py() for i in batch.samples.tolist()]
    with pytest.raises(ValueError, match="no column 'path': .* batches that were pickled have none"):
        again.rows("path")


@pytest.mark.parametrize("samples", [np.array([False, True]), [1.7], 3, [-1], [12], [[0, 1]]], ids=str)
def test_rows_of_a_manifest_are_asked_for_by_their_numbers(samples, numbered_manifest):
    with pytest.raises(ValueError, match="samples must be"):
        numbered_manifest.rows("path", samples)


@pytest.mark.parametrize("views, message", [
    ([0, 1, 2], "views must be one number, or one for each of 2 samples"), ([0.5, 1], "views must be 1-dimensional"),
])  # fmt: skip
def test_views_of_a_plan_are_numbers_of_its_clips(views, message, numbered_manifest):
    with pytest.raises(ValueError, match=message):
        dv.draw_plan(numbered_manifest, RECIPE, [0, 1], views=views)


@pytest.mark.parametrize("deep", [False, True])
def test_a_scan_overwrites_nothing_but_manifests(deep, numbered, tmp_path):
    (tmp_path / "list.csv").write_text("path\neven/00.mp4\n")
    with pytest.raises(ValueError, match=r"list.csv is there already, and is not a manifest; choose another name"):
        dv.scan(tmp_path / "list.csv", root=numbered, output=tmp_path / "list.csv", deep=deep, progress=False)
    assert (tmp_path / "list.csv").read_text().startswith("path")
    with pytest.raises(ValueError, match="is there already, and is not a manifest"):
        dv.scan(numbered, output=tmp_path, deep=deep, progress=False)
    with pytest.raises(ValueError, match="there is no folder .*gone for the output"):
        dv.scan(numbered, output=tmp_path / "gone" / "m.parquet", deep=deep, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["list.csv"]
