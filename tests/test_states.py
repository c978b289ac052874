"""States are of one manifest, and clips of the files that were scanned."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import RECIPE, same_batch, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug.fingerprint import difference, fingerprint
from dali_vidaug.media.unchanged import same_time
from dali_vidaug.report import warn_once


def make_loader(manifest, **options):
    return dv.VideoLoader(manifest, RECIPE, 4, seed=3, device="cpu", **options)


def changed(manifest, **columns):
    """The manifest with other columns, or with rows in another order."""
    table = manifest.table
    for name, values in columns.items():
        i = table.column_names.index(name)
        table = table.set_column(i, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return dv.Manifest(table, manifest.classes, manifest.root)


def variants(manifest):
    """Manifests of as many rows whose batches would be others: {what differs: manifest}."""
    paths = manifest.table["path"].to_pylist()
    last = manifest.table["last_frame"].to_numpy()
    reversed_rows = manifest.table.take(pa.array(np.arange(len(manifest))[::-1]))
    swapped = np.arange(len(manifest))
    swapped[[2, 4]] = swapped[[4, 2]]
    return {
        "the same rows in another order": dv.Manifest(reversed_rows, manifest.classes, manifest.root),
        "the same rows in another order ": dv.Manifest(
            manifest.table.take(pa.array(swapped)), manifest.classes, manifest.root
        ),
        "other paths": changed(manifest, path=["x" + paths[0], *paths[1:]]),
        "other labels": changed(manifest, label=1 - manifest.labels),
        "other ranges": changed(manifest, last_frame=[*last[:-1], last[-1] - 1]),
        "other ranges ": changed(manifest, first_frame=np.arange(len(manifest)) % 2),
        "other classes": dv.Manifest(manifest.table, manifest.classes[::-1], manifest.root),
    }


def test_a_state_of_another_manifest_is_refused_and_says_what_differs(numbered_manifest):
    state = json.loads(json.dumps(make_loader(numbered_manifest).state_dict()))
    for what, manifest in variants(numbered_manifest).items():
        with pytest.raises(ValueError, match=f"of another loader: the manifest has {what.strip()}$"):
            make_loader(manifest).load_state_dict(state)


def test_a_state_goes_with_a_data_set_that_was_moved_or_written_anew(numbered_manifest, numbered, tmp_path):
    expected = take_batches(make_loader(numbered_manifest), 3)
    first = make_loader(numbered_manifest)
    take_batches(first, 2)
    shutil.copytree(numbered, tmp_path / "moved")
    numbered_manifest.write(tmp_path / "m.parquet")
    second = make_loader(dv.Manifest.read(tmp_path / "m.parquet", root=tmp_path / "moved"))
    second.load_state_dict(first.state_dict())
    assert same_batch(take_batches(second, 1)[0], expected[2])


@pytest.mark.parametrize("seed", range(8))
def test_a_fingerprint_depends_on_the_rows_alone(seed):
    """Not on how Arrow holds them; and any one change of any row changes it. Against the rows themselves."""
    rng = np.random.default_rng(seed)
    rows = [
        ("é" * int(rng.integers(0, 3)) + f"{i}.mp4", int(rng.integers(-1, 3)), 0, int(rng.integers(1, 9)), 9)
        for i in range(int(rng.integers(2, 40)))
    ]

    class Rows:
        classes = ("a", "b", "c")

        def __init__(self, rows):
            columns = zip(*rows, strict=True)
            names = ("path", "label", "first_frame", "last_frame", "num_frames")
            arrays = [pa.array(c, None if n == "path" else pa.int32()) for n, c in zip(names, columns, strict=True)]
            unsaid = {"stream": pa.nulls(len(rows), pa.int32()), "notes": pa.nulls(len(rows), pa.string())}
            self.table = pa.table(dict(zip(names, arrays, strict=True)) | unsaid)

    whole = Rows(rows)
    mine = fingerprint(whole)
    cut = int(rng.integers(0, len(rows)))
    parts = Rows(rows)
    parts.table = pa.concat_tables([whole.table.slice(0, cut), Rows([("x", 0, 0, 1, 9), *rows]).table.slice(1 + cut)])
    assert fingerprint(parts) == mine and difference(mine, fingerprint(parts)) is None
    order = rng.permutation(len(rows))
    other = [rows[i] for i in order]
    assert difference(mine, fingerprint(Rows(other))) == (None if other == rows else "the same rows in another order")
    i, field = int(rng.integers(len(rows))), int(rng.integers(5))
    row = list(rows[i])
    row[field] = row[field] + "x" if field == 0 else row[field] + 1
    edited = [*rows[:i], tuple(row), *rows[i + 1 :]]
    what = ("paths", "labels", "ranges", "ranges", "ranges")[field]
    assert difference(mine, fingerprint(Rows(edited))) == f"other {what}"
    # characters that move from one row to the next
    assert fingerprint(Rows([("ab", 0, 0, 1, 9), ("c", 0, 0, 1, 9)])) != fingerprint(
        Rows([("a", 0, 0, 1, 9), ("bc", 0, 0, 1, 9)])
    )


def test_missing_and_several_labels_are_part_of_a_fingerprint():
    class Rows:
        classes = ()

        def __init__(self, labels, kind):
            columns = {"path": pa.array(["a", None, "c"]), "label": pa.array(labels, kind)}
            ones = {name: pa.array([1, 1, 1]) for name in ("first_frame", "last_frame", "num_frames", "stream")}
            self.table = pa.table(columns | ones | {"notes": pa.nulls(3, pa.string())})

    lists = pa.list_(pa.int32())
    several = [fingerprint(Rows(x, lists)) for x in ([[1], [2, 3], None], [[1, 2], [3], None], [[1], [2, 3], []])]
    single = [fingerprint(Rows(x, pa.int32())) for x in ([1, 0, 2], [1, None, 2])]
    names = [fingerprint(Rows(x, pa.dictionary(pa.int32(), pa.string()))) for x in (["b", "a", "b"], ["b", "b", "a"])]
    assert len({f["labels"] for f in (*several, *single, *names)}) == 7


def test_of_two_recipes_the_message_shows_what_differs(numbered_manifest):
    def loader(*ops):
        return dv.VideoLoader(numbered_manifest, dv.Recipe(dv.ClipSampling(4), ops), 4)

    size, ramp = dv.RandomResizedCrop(16), dv.RandAugmentT()
    flips = dv.RandomHorizontalFlip(0.25), dv.RandomHorizontalFlip(0.5)
    for mine, theirs, message in (
        ((dv.RandomResizedCrop(116),), (size,),
         "RandomResizedCrop(size=116..., the state's RandomResizedCrop(size=16..."),
        ((size, flips[0]), (size, flips[1]),
         "RandomHorizontalFlip(probability=0.25..., the state's RandomHorizontalFlip(probability=0.5..."),
        ((size, flips[0], ramp), (size, flips[0]),
         f"RandomHorizontalFlip(probability=0.25), {ramp}..., the state's RandomHorizontalFlip(probability=0.25)..."),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(f"recipe has {message}") + "$"):
            loader(*mine).load_state_dict(loader(*theirs).state_dict())


def test_positions_of_a_state_are_checked(numbered_manifest):
    loader = make_loader(numbered_manifest)
    for wrong in (dict(batch=3), dict(batch=-1), dict(epoch=2**24), dict(epoch=1.5), dict(batch="1")):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} of the state (must be in|is 3, which is outside)"):
            loader.load_state_dict({**loader.state_dict(), **wrong})
    state = loader.state_dict()
    for other, got in (
        (None, "None"),
        ({"model": {}, "loader": state}, "a mapping with model, loader"),
        ({}, "a mapping with nothing"),
    ):
        with pytest.raises(ValueError, match=rf"the state must be what state_dict\(\) gave, got {got}$"):
            loader.load_state_dict(other)
    del state["manifest"]
    with pytest.raises(ValueError, match="the state lacks manifest"):
        loader.load_state_dict(state)


# ---- Files that are not those that were scanned


@pytest.fixture
def twelve(tmp_path):
    """Twelve small videos of one size in bytes, scanned: (folder, manifest)."""
    for i in range(12):
        write_numbered(tmp_path / "v" / "ab"[i % 2] / f"{i:02d}.mp4", 20)
    return tmp_path / "v", dv.scan(tmp_path / "v", progress=False)


def pad(path, size):
    """Make a file larger by an MP4 box that means nothing."""
    data = path.read_bytes()
    path.write_bytes(data + (size - len(data)).to_bytes(4, "big") + b"free" + bytes(size - len(data) - 8))


def bad_names(loader):
    with loader:
        list(loader)
    return {Path(path).name: why for path, why, _ in loader.report().bad.values()}


def test_a_file_replaced_by_another_of_the_same_size_is_noticed(twelve):
    folder, manifest = twelve
    target = folder / "a" / "04.mp4"
    size = target.stat().st_size
    write_numbered(folder / "b" / "04.mp4", 8)
    shutil.move(folder / "b" / "04.mp4", target)
    pad(target, size)
    assert target.stat().st_size == size
    (reason,) = bad_names(make_loader(manifest)).items()
    assert reason[0] == "04.mp4" and "changed since it was scanned: it has the same size, but another time" in reason[1]
    with (
        pytest.raises(dv.ClipError, match="04.mp4.*changed since it was scanned"),
        make_loader(manifest, on_error="raise") as loader,
    ):
        list(loader)
    again = dv.scan(folder, progress=False)
    assert bad_names(make_loader(again)) == {}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_of_another_size_is_noticed(workers, twelve):
    folder, manifest = twelve
    with (folder / "b" / "05.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")  # which decodes as before
    size = (folder / "b" / "05.mp4").stat().st_size
    found = bad_names(make_loader(manifest, workers=workers))
    assert found == {"05.mp4": f"changed since it was scanned: it has {size} bytes, and had {size - 8}; scan again"}
    assert set(bad_names(make_loader(manifest, check_files="size"))) == {"05.mp4"}
    assert bad_names(make_loader(manifest, check_files="off")) == {}


@pytest.mark.parametrize("seed", range(10))
def test_times_are_the_same_to_the_nanosecond_or_where_one_was_cut_to_seconds(seed):
    rng = np.random.default_rng(seed)
    then = int(rng.integers(10**18, 2 * 10**18)) | 1  # not a whole second
    whole = then - then % 10**9
    assert same_time(then, then) and same_time(whole, then) and same_time(then, whole)
    for other in (1, 10**6, 10**9, 10**12):
        for now, before in ((then + other, then), (then - other, then), (whole - 10**9, then), (whole + 10**9, then)):
            assert same_time(now, before) == (now == whole) and same_time(before, now) == (now == whole)


def test_a_data_set_that_was_copied_works_and_says_so(twelve, tmp_path, caplog):
    """Without times all of them differ; with times, also those in whole seconds, none does."""
    folder, manifest = twelve
    warn_once.cache_clear()
    for how, times in (("with", lambda ns: ns), ("seconds", lambda ns: ns // 10**9 * 10**9), ("without", None)):
        moved = dv.Manifest(manifest.table, manifest.classes, shutil.copytree(folder, tmp_path / how))
        for i in range(12):
            then = manifest.table["mtime_ns"][i].as_py()
            now = times(then) if times else then + 10**9 * 7200
            os.utime(moved.path(i), ns=(now, now))
        caplog.clear()
        with (Path(moved.path(7))).open("ab") as file:
            file.write(b"\0\0\0\x08free")
        os.utime(moved.path(7), ns=(now, now))
        loader = make_loader(moved)
        assert loader.settings.check_files == ("size_and_time" if times else "size")
        assert set(bad_names(loader)) == {Path(moved.path(7)).name}
        assert ("11 of 11 files under" in caplog.text and "Scan again" in caplog.text) == (not times)
    # a few files with another time are not a copy
    moved = dv.Manifest(manifest.table, manifest.classes, tmp_path / "with")
    for i in range(5):
        os.utime(moved.path(i))
    assert len(bad_names(make_loader(moved))) == 6
    assert len(bad_names(make_loader(moved, check_files="size"))) == 1
    with pytest.raises(ValueError, match="check_files must be auto, size_and_time, size or off, got 'mtime'"):
        make_loader(moved, check_files="mtime")


def test_apply_looks_at_files_too(twelve):
    folder, manifest = twelve
    os.utime(folder / "a" / "00.mp4", ns=(1, 1))
    sample = next(i for i in range(12) if manifest.path(i).endswith("00.mp4"))
    plan = dv.draw_plan(manifest, RECIPE, [sample])
    with make_loader(manifest) as loader:
        with pytest.raises(dv.ClipError, match="changed since it was scanned"):
            loader.apply(plan)
        loader.settings = replace(loader.settings, check_files="size")
        assert len(loader.apply(plan)) == 1


def test_a_data_set_that_is_not_there_is_said_before_the_first_clip(twelve, tmp_path, monkeypatch):
    folder, manifest = twelve
    manifest.write(tmp_path / "m.parquet")
    folder.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    read = dv.Manifest.read
    message = f"of 12 files looked at, none exists in {folder}, such as a/00.mp4. If they were moved, .*root="
    with pytest.raises(FileNotFoundError, match=f"{message}their new folder"):
        make_loader(read("m.parquet"))
    make_loader(read("m.parquet"), check_files="off")
    with pytest.raises(FileNotFoundError, match=f"root='{tmp_path}/elsewhere'"):
        make_loader(read("m.parquet", root=tmp_path))
    assert bad_names(make_loader(read("m.parquet", root="elsewhere"))) == {}
    with pytest.raises(FileNotFoundError, match="manifest: root must be a folder, there is no folder gone"):
        read("m.parquet", root="gone")


def test_other_files_than_those_scanned_are_said_before_the_first_clip(twelve):
    _, manifest = twelve
    sizes = [Path(manifest.path(i)).stat().st_size for i in range(12)]
    for i in range(1, 12):
        with Path(manifest.path(i)).open("ab") as file:
            file.write(b"\0\0\0\x08free")
    make_loader(manifest)  # one that is right is enough
    Path(manifest.path(0)).unlink()
    name = Path(manifest.path(1)).name
    message = f"11 of another size, 1 missing. .*{name} has {sizes[1] + 8} bytes, and had {sizes[1]}. Scan again"
    for check in ("auto", "size", "size_and_time"):
        with pytest.raises(ValueError, match=message):
            make_loader(manifest, check_files=check)
