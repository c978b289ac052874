"""Large manifests are mapped from a copy of their file: it says what the file says, whatever happens to either."""

import errno
import fcntl
import json
import logging
import os
import pickle
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import RECIPE
from test_manifest import make_manifest, names

import dali_vidaug as dv
from dali_vidaug.data import shared
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.schema import MANIFEST_VERSION
from dali_vidaug.data.shared import check_unchanged, copy_path, stamp_of
from dali_vidaug.fingerprint import fingerprint

# Runs in a process of its own, with the manifest's file, and maps it however small it is.
PROGRAM = """
import json, os, signal, sys
import dali_vidaug as dv
from dali_vidaug.data import shared
from dali_vidaug.fingerprint import fingerprint
shared.SHARED_LEAST = 1
path = sys.argv[1]
"""


def python(program, *args, **options):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + program, *map(str, args)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def result(process):
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(out)


@pytest.fixture
def mapping(monkeypatch):
    """Manifests of any size are mapped."""
    monkeypatch.setattr(shared, "SHARED_LEAST", 1)


def in_memory(path, **options):
    """The same manifest, not mapped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "SHARED_LEAST", 1 << 40)
        return Manifest.read(path, **options)


def files_in(folder):
    return sorted(file.name for file in folder.iterdir())


def is_mapped(manifest):
    return manifest._shared is not None


def random_manifest(rng, several=False, rows=None, **options):
    count = rows or rng.randint(2, 40)
    labels = [rng.randrange(5) for _ in range(count)]
    if several:
        labels = [[*{rng.randrange(5) for _ in range(rng.randint(0, 3))}] for _ in range(count)]
    fields = {
        "codec": [rng.choice(["h264", "hevc", "av1", "vp9"]) for _ in range(count)],
        "pixel_format": [rng.choice(["yuv420p", "yuv444p10le"]) for _ in range(count)],
        "width": [rng.choice([64, 160, 320]) for _ in range(count)],
        "height": [rng.choice([64, 96]) for _ in range(count)],
        "orientation": [rng.choice([1, 1, 6, 8, 3]) for _ in range(count)],
        "keyframes": [sorted(rng.sample(range(50), rng.randint(0, 5))) for _ in range(count)],
        "pts": [rng.choice([None, list(range(50))]) for _ in range(count)],
        "notes": [rng.choice([None, "odd", ""]) for _ in range(count)],
        "last_frame": [rng.randint(1, 50) for _ in range(count)],
    }
    columns = {
        "subject": [f"s{rng.randrange(7)}" for _ in range(count)],
        "age": [rng.choice([None, 3, 4]) for _ in range(count)],
        "tags": [rng.choice([None, [], ["a", "é"]]) for _ in range(count)],
        "good": [rng.random() < 0.5 for _ in range(count)],
        "taken": np.array([rng.randrange(10**9) for _ in range(count)], "datetime64[s]"),
        "site": pa.array([rng.choice(["x", "y", None]) for _ in range(count)]).dictionary_encode(),
    }
    return make_manifest(names(count), labels, 5, columns=columns, **fields, **options)


def regroup(path, rows):
    """Write a manifest's file with so many rows in each group, so that each has dictionaries of its own."""
    table = pq.read_table(path)
    with pq.ParquetWriter(path, table.schema) as writer:
        for first in range(0, len(table), rows):
            part = table.slice(first, rows).combine_chunks()
            for name in ("codec", "pixel_format"):
                at = part.column_names.index(name)
                own = part[name].cast(pa.string()).combine_chunks().dictionary_encode()
                part = part.set_column(at, table.schema.field(name), own)
            writer.write_table(part)


def same(mine, other):
    """Whether two manifests say the same of everything."""
    assert mine.table.to_pylist() == other.table.to_pylist() and fingerprint(mine) == fingerprint(other)
    assert mine.table.column_names == other.table.column_names and mine.table.schema == other.table.schema
    assert (mine.classes, mine.root, mine.columns) == (other.classes, other.root, other.columns)
    rows = np.arange(len(mine))
    assert repr([mine.video(i) for i in rows]) == repr([other.video(i) for i in rows])
    np.testing.assert_array_equal(mine.targets(rows[::-1]), other.targets(rows[::-1]))
    np.testing.assert_array_equal(mine.class_counts(), other.class_counts())
    np.testing.assert_array_equal(mine.frame_sizes(rows), other.frame_sizes(rows))
    assert mine.formats() == other.formats() and mine.any_oriented() == other.any_oriented()
    np.testing.assert_array_equal(mine.unique_sizes(), other.unique_sizes())
    some = np.random.default_rng(0).integers(0, len(mine), 2 * len(mine))
    for name in mine.table.column_names:
        assert repr(mine.rows(name, some).tolist()) == repr(other.rows(name, some).tolist()), name
    return True


@pytest.mark.parametrize("seed", range(8))
def test_a_mapped_manifest_says_what_its_file_says(seed, tmp_path, mapping):
    """Of any rows, in groups of any size, with dictionaries that differ, and for any part of it."""
    rng, path = random.Random(seed), tmp_path / "m.parquet"
    random_manifest(rng, several=seed % 2).write(path)
    regroup(path, rng.randint(1, 9))
    expected, first, second = in_memory(path), Manifest.read(path), Manifest.read(path)
    assert is_mapped(first) and is_mapped(second) and not is_mapped(expected)
    assert same(first, expected) and same(second, expected)
    assert second._labels.label.base is not None and not second._labels.label.flags.writeable  # a view of the file

    chosen = np.array([rng.randrange(len(expected)) for _ in range(rng.randint(1, 50))])
    assert same(second.select(chosen), expected.select(chosen)) and not is_mapped(second.select(chosen))
    mask = np.arange(len(expected)) % 2 == 0
    assert same(second.select(mask), expected.select(mask))
    for mine, other in zip(second.split(0.5, by="class"), expected.split(0.5, by="class"), strict=True):
        assert same(mine, other)
    assert same(second.select(mask) + second.select(~mask), expected.select(mask) + expected.select(~mask))
    second.write(tmp_path / "again.parquet")
    assert same(Manifest.read(tmp_path / "again.parquet"), expected)


def test_only_large_manifests_have_a_copy(tmp_path, monkeypatch):
    """One row fewer than the limit, and the copy of the manifest that was there before goes."""
    monkeypatch.setattr(shared, "SHARED_LEAST", 10)
    path = tmp_path / "m.parquet"
    make_manifest(names(10)).write(path)
    assert Path(copy_path(path)).exists() and is_mapped(Manifest.read(path))
    make_manifest(names(9)).write(path)
    assert not Path(copy_path(path)).exists() and not is_mapped(Manifest.read(path))
    assert files_in(tmp_path) == ["m.parquet"]


def test_clips_of_a_mapped_manifest(numbered_manifest, tmp_path, mapping):
    """A loader, one that was pickled, and one of the manifest in memory give the same batches."""
    numbered_manifest.write(tmp_path / "m.parquet")
    mapped = Manifest.read(tmp_path / "m.parquet")
    loaders = [dv.VideoLoader(m, RECIPE, 2, seed=3, device="cpu") for m in (mapped, numbered_manifest)]
    loaders.append(pickle.loads(pickle.dumps(loaders[0])))
    assert is_mapped(loaders[2].manifest)
    for batches in zip(*loaders, strict=True):
        for batch in batches[1:]:
            assert (batch.clips == batches[0].clips).all() and (batch.samples == batches[0].samples).all()
    for loader in loaders:
        loader.close()


# ---- pickling


def test_a_mapped_manifest_is_pickled_as_the_name_of_its_file(tmp_path, mapping, monkeypatch):
    """Wherever the process is; what was changed in memory, such as the root, goes along."""
    manifest = random_manifest(random.Random(1), rows=2000)
    manifest.write(tmp_path / "m.parquet")
    monkeypatch.chdir(tmp_path)
    mapped = Manifest.read("m.parquet", root="/")
    text = pickle.dumps(mapped)
    assert len(text) < 2000
    monkeypatch.chdir("/")
    again = pickle.loads(text)
    assert is_mapped(again) and again.root == "/" and same(again, in_memory(tmp_path / "m.parquet", root="/"))
    Path(copy_path(tmp_path / "m.parquet")).unlink()
    assert is_mapped(pickle.loads(text)), "the copy is written again"


def test_a_pickle_of_a_manifest_in_memory_has_its_rows(tmp_path):
    manifest = random_manifest(random.Random(2))
    assert same(pickle.loads(pickle.dumps(manifest)), manifest)
    assert pickle.loads(pickle.dumps(manifest)).remarks == manifest.remarks


def test_a_pickle_is_never_of_another_file(tmp_path, mapping):
    """A pickled manifest whose file was replaced, or is gone, is an error."""
    path = tmp_path / "m.parquet"
    make_manifest(names(20), [0] * 20, 2).write(path)
    text = pickle.dumps(Manifest.read(path))
    make_manifest(names(20), [1] * 20, 2).write(path)
    with pytest.raises(ValueError, match=r"m\.parquet is no longer the file that it was when it was pickled"):
        pickle.loads(text)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*m\.parquet"):
        pickle.loads(text)


# ---- copies that are not of the file


def test_a_file_that_was_replaced_with_the_same_size_and_time(tmp_path, mapping):
    path = tmp_path / "m.parquet"
    first, second = ([i % 2 for i in range(40)], [1 - i % 2 for i in range(40)])
    make_manifest(names(40), first, 2).write(path)
    before = path.stat()
    assert Manifest.read(path).labels.tolist() == first
    old_copy = Path(copy_path(path)).read_bytes()
    make_manifest(names(40), second, 2).write(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    Path(copy_path(path)).write_bytes(old_copy)
    assert Manifest.read(path).labels.tolist() == second
    assert Path(copy_path(path)).read_bytes() != old_copy


def test_a_file_that_another_program_wrote_over(tmp_path, mapping):
    """In place: the footer is the same but for one statistic, and so are the size and, to the second, the time."""
    path = tmp_path / "m.parquet"
    make_manifest(names(40), [0] * 40, 2).write(path)
    assert Manifest.read(path).labels.tolist() == [0] * 40
    table = pq.read_table(path)
    table = table.set_column(1, "label", pa.array([1] * 40, pa.int32()))
    pq.write_table(table, path)
    assert Manifest.read(path).labels.tolist() == [1] * 40


def footer_of(path):
    data = path.read_bytes()
    return data[-8 - int.from_bytes(data[-8:-4], "little") :]


def test_a_file_whose_labels_were_exchanged(tmp_path, mapping):
    """Size, time and footer with all its statistics are the same: only the bytes of the labels tell."""
    path = tmp_path / "m.parquet"
    make_manifest(names(40), [0] * 20 + [1] * 20, 2).write(path)
    table = pq.read_table(path)
    for labels in ([0, 1] * 20, [1, 0] * 20):
        pq.write_table(table.set_column(1, "label", pa.array(labels, pa.int32())), path)
        os.utime(path, ns=(10**18, 10**18))
        size, footer = path.stat().st_size, footer_of(path)
        assert Manifest.read(path).labels.tolist() == labels and is_mapped(Manifest.read(path))
    pq.write_table(table.set_column(1, "label", pa.array([0, 1] * 20, pa.int32())), path)
    os.utime(path, ns=(10**18, 10**18))
    assert (path.stat().st_size, footer_of(path)) == (size, footer)
    assert Manifest.read(path).labels.tolist() == [0, 1] * 20


def test_times_and_clocks_do_not_matter(tmp_path, mapping):
    """A file that is touched, or copied by a machine of another time, keeps its copy."""
    path = tmp_path / "m.parquet"
    make_manifest(names(40)).write(path)
    before = Path(copy_path(path)).stat().st_ino
    for seconds in (0, 1, 2**33):
        os.utime(path, (seconds, seconds))
        os.utime(copy_path(path), (2**32 - seconds, 0))
        assert is_mapped(Manifest.read(path)) and Path(copy_path(path)).stat().st_ino == before


def test_the_copy_of_another_manifest(tmp_path, mapping):
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    make_manifest(names(40), [0] * 40, 2).write(one)
    make_manifest(names(40), [1] * 40, 2).write(other)
    shutil.copy(copy_path(one), copy_path(other))
    assert Manifest.read(other).labels.tolist() == [1] * 40
    shutil.copy2(one, tmp_path / "third.parquet")  # moved together, it is used
    shutil.copy2(copy_path(one), tmp_path / "third.parquet.arrow")
    before = (tmp_path / "third.parquet.arrow").stat().st_ino
    assert is_mapped(Manifest.read(tmp_path / "third.parquet"))
    assert (tmp_path / "third.parquet.arrow").stat().st_ino == before


@pytest.mark.parametrize("share", [0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_copy_that_was_cut_off(share, tmp_path, mapping):
    """It is written again."""
    path = tmp_path / "m.parquet"
    random_manifest(random.Random(3), rows=30).write(path)
    regroup(path, 7)
    expected, copy = in_memory(path), Path(copy_path(path))
    Manifest.read(path)
    whole = copy.read_bytes()
    copy.write_bytes(whole[: int(share * len(whole))])
    assert same(Manifest.read(path), expected)
    assert len(copy.read_bytes()) == len(whole)


def test_a_copy_that_was_cut_off_between_two_pieces(tmp_path, mapping):
    """Arrow takes what is there for a whole stream."""
    path = tmp_path / "m.parquet"
    random_manifest(random.Random(3), rows=30).write(path)
    regroup(path, 7)
    copy, expected = Path(copy_path(path)), in_memory(path).table.to_pylist()
    Manifest.read(path)
    whole = copy.read_bytes()
    cuts = [at for at in range(0, len(whole), 8) if whole[at : at + 4] == b"\xff" * 4]
    assert len(cuts) > 10
    for cut in cuts:
        copy.write_bytes(whole[:cut])
        assert Manifest.read(path).table.to_pylist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_that_is_damaged_anywhere(seed, tmp_path, mapping):
    """By one bit, or zeros in place of some bytes, as after a loss of power: it is written again."""
    rng, path = random.Random(seed), tmp_path / "m.parquet"
    random_manifest(rng, several=seed % 2, rows=30).write(path)
    regroup(path, 7)
    copy, expected = Path(copy_path(path)), in_memory(path)
    Manifest.read(path)
    whole = copy.read_bytes()
    for _ in range(25):
        at, damaged = rng.randrange(len(whole)), bytearray(whole)
        if rng.random() < 0.5:
            damaged[at] ^= 1 << rng.randrange(8)
        else:
            damaged[at : at + 512] = bytes(len(damaged[at : at + 512]))
        copy.write_bytes(damaged)
        mapped = Manifest.read(path)
        assert mapped.table.to_pylist() == expected.table.to_pylist() and mapped.classes == expected.classes
        assert is_mapped(mapped) and copy.read_bytes() == whole


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1000])
def test_checksums_of_blocks(size, tmp_path, monkeypatch):
    """Of each block of a file, whatever the number of threads and of reads."""
    monkeypatch.setattr(shared, "_BLOCK", 100)
    monkeypatch.setattr(shared, "_STEP", 7)
    data = random.Random(size).randbytes(1000)
    (tmp_path / "x").write_bytes(data)
    with (tmp_path / "x").open("rb") as file:
        expected = [zlib.crc32(data[at : min(at + 100, size)]).to_bytes(4, "little") for at in range(0, size, 100)]
        assert shared.checksums(file, size) == b"".join(expected)


@pytest.mark.parametrize("content", [b"", b"x", b"ARROW1\0\0" * 9, b"\xff" * 4096, b"\0" * 4096])
def test_something_else_in_the_place_of_the_copy(content, tmp_path, mapping):
    path = tmp_path / "m.parquet"
    make_manifest(names(40), [0] * 40, 2).write(path)
    Path(copy_path(path)).write_bytes(content)
    assert is_mapped(Manifest.read(path)) and len(Manifest.read(path)) == 40


def test_a_manifest_that_is_written_to_while_it_is_read(tmp_path):
    path = tmp_path / "m.parquet"
    make_manifest(names(4)).write(path)
    with path.open("rb") as file:
        stamp = stamp_of(file)
        check_unchanged(file, stamp)
        with path.open("ab") as other:
            other.write(b"x")
        with pytest.raises(ValueError, match=r"m\.parquet: was written to while it was read; read it again"):
            check_unchanged(file, stamp)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"x" * 7, b"\xff\xff\xff\xffPAR1", b"x" * 100 + b"\xff\xff\xff\x7fPAR1"]
)
def test_a_file_that_is_not_parquet(content, tmp_path, mapping):
    path = tmp_path / "m.parquet"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.parquet is not a manifest"):
        Manifest.read(path)
    assert files_in(tmp_path) == ["m.parquet"]


def test_no_copy_is_made_of_another_parquet_file(tmp_path, mapping):
    """Nor of a manifest of another version."""
    pq.write_table(pa.table({"x": range(10)}), tmp_path / "x.parquet")
    header = json.dumps({"version": MANIFEST_VERSION + 1})
    pq.write_table(pa.table({"x": range(10)}).replace_schema_metadata({"dali_vidaug": header}), tmp_path / "y.parquet")
    for name, message in (("x", "is not a manifest"), ("y", "this release reads")):
        with pytest.raises(ValueError, match=message):
            Manifest.read(tmp_path / f"{name}.parquet")
    assert files_in(tmp_path) == ["x.parquet", "y.parquet"]


# ---- several processes


READ = """
import logging
logging.basicConfig(level=logging.INFO)
manifest = dv.Manifest.read(path)
print(json.dumps([manifest._shared is not None, fingerprint(manifest)]))
"""


def test_processes_that_read_at_the_same_time_write_one_copy(tmp_path):
    path = tmp_path / "m.parquet"
    manifest = random_manifest(random.Random(4), rows=3000)
    manifest.write(path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ranks = [python(READ, path) for _ in range(4)]
        waiting = f":{path.stat().st_ino} "
        while sum("->" in line and waiting in line for line in Path("/proc/locks").read_text().splitlines()) < 4:
            assert all(rank.poll() is None for rank in ranks)
            time.sleep(0.01)
    done = [(rank.communicate(timeout=120), rank.returncode) for rank in ranks]
    assert [code for _, code in done] == [0] * 4, done
    assert [json.loads(out) for (out, _), _ in done] == [[True, fingerprint(manifest)]] * 4
    assert sum(errors.count("manifest: writing") for (_, errors), _ in done) == 1, "the others wait for it"
    assert files_in(tmp_path) == ["m.parquet", "m.parquet.arrow"]


REPLACED = """
for _ in range(int(sys.argv[2])):
    manifest = dv.Manifest.read(path)
    names = {name[:1] for name in manifest.rows("path")}
    assert names == {manifest.classes[0]}, (names, manifest.classes)
print(json.dumps("done"))
"""


def test_a_manifest_that_is_replaced_while_others_read_it(tmp_path, mapping):
    """What is read is one of the two, never the classes of one and the rows of the other."""
    path = tmp_path / "m.parquet"
    kinds = [make_manifest([f"{kind}{name}" for name in names(500)], [0] * 500, 1) for kind in "ab"]
    for manifest, kind in zip(kinds, "ab", strict=True):
        manifest.classes = (kind,)
    kinds[0].write(path)
    readers = [python(REPLACED, path, 150) for _ in range(2)]
    turns = 0
    while any(reader.poll() is None for reader in readers):
        turns += 1
        kinds[turns % 2].write(path)
    assert [result(reader) for reader in readers] == ["done", "done"]
    assert turns > 20
    assert files_in(tmp_path) == ["m.parquet", "m.parquet.arrow"]


WRITTEN = """
kind = sys.argv[2]
for turn in range(int(sys.argv[3])):
    manifest = dv.Manifest.read(sys.argv[4])
    manifest.classes = (kind,)
    manifest.write(path)
print(json.dumps("done"))
"""


def test_manifests_that_two_processes_write_at_the_same_time(tmp_path, mapping):
    """The file and its copy are always those of one of them, whole, and nothing else is left."""
    path = tmp_path / "m.parquet"
    for kind in "ab":
        make_manifest([f"{kind}{name}" for name in names(500)], [0] * 500, 1).write(tmp_path / f"{kind}.parquet")
    manifest = Manifest.read(tmp_path / "a.parquet")
    manifest.classes = ("a",)
    manifest.write(path)
    writers = [python(WRITTEN, path, kind, 40, tmp_path / f"{kind}.parquet") for kind in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        manifest = Manifest.read(path)
        found = {name[0] for name in manifest.rows("path")}
        assert manifest.classes == tuple(found)
        seen |= found
    assert [result(writer) for writer in writers] == ["done", "done"] and seen == {"a", "b"}
    assert is_mapped(Manifest.read(path))
    assert files_in(tmp_path) == sorted(f"{name}.parquet{end}" for name in "abm" for end in ("", ".arrow"))


KILLED = """
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
dv.Manifest.read(path)
"""


def test_a_writer_that_was_killed(tmp_path, mapping):
    """The next one writes the copy, and removes what the other left; not what one that lives is writing."""
    path = tmp_path / "m.parquet"
    expected = random_manifest(random.Random(5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "SHARED_LEAST", 1 << 40)
        expected.write(path)
        expected = Manifest.read(path)
    killed = python(KILLED, path)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert [name for name in files_in(tmp_path) if ".partial-" in name] and not Path(copy_path(path)).exists()
    assert is_mapped(Manifest.read(path)) and same(Manifest.read(path), expected)
    assert files_in(tmp_path) == ["m.parquet", "m.parquet.arrow"]


READ_ONLY = """
if os.geteuid() == 0:
    os.seteuid(65534)
import logging
logging.basicConfig(level=logging.INFO)
manifest = dv.Manifest.read(path)
print(json.dumps([manifest._shared is not None, fingerprint(manifest)]))
"""


@pytest.mark.parametrize("with_copy", [False, True])
def test_a_folder_that_cannot_be_written_to(with_copy):
    """A copy that is there is used; else the rows are in memory, and one line of the log says so."""
    folder = Path(tempfile.mkdtemp())
    try:
        manifest, path = random_manifest(random.Random(6)), folder / "m.parquet"
        manifest.write(path)
        if with_copy:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(shared, "SHARED_LEAST", 1)
                Manifest.read(path)
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o555)
        process = python(READ_ONLY, path)
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert json.loads(out) == [with_copy, fingerprint(manifest)]
        lines = [line for line in errors.splitlines() if "in the memory of each process" in line]
        assert len(lines) == (0 if with_copy else 1)
        assert all("m.parquet.arrow" in line and "denied" in line for line in lines)
    finally:
        folder.chmod(stat.S_IRWXU)
        shutil.rmtree(folder)


def test_a_folder_that_cannot_be_mapped(tmp_path, mapping, monkeypatch, caplog):
    """Some network file systems: the rows are in memory, a line of the log says so, and nothing large is written."""

    def refuse(*_, **__):
        raise OSError(errno.ENODEV, "No such device")

    path = tmp_path / "m.parquet"
    random_manifest(random.Random(8)).write(path)
    expected = in_memory(path)
    monkeypatch.setattr(shared.mmap, "mmap", refuse)
    written, write = [], shared._write_streams
    monkeypatch.setattr(shared, "_write_streams", lambda *args: written.append(args) or write(*args))
    for there in (True, False):
        caplog.clear()
        mapped = Manifest.read(path)
        assert not is_mapped(mapped) and same(mapped, expected)
        assert "no copy that processes share can be written" in caplog.text and "No such device" in caplog.text
        assert Path(copy_path(path)).exists() == there and not written
        Path(copy_path(path)).unlink(missing_ok=True)
    assert files_in(tmp_path) == ["m.parquet"]


FULL = """
import logging, resource
logging.basicConfig(level=logging.INFO)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
manifest = dv.Manifest.read(path)
print(json.dumps([manifest._shared is not None, fingerprint(manifest)]))
"""


def test_a_disk_that_is_full(tmp_path):
    """Nothing is left of the copy that did not fit."""
    manifest, path = random_manifest(random.Random(7)), tmp_path / "m.parquet"
    manifest.write(path)
    process = python(FULL, path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(out) == [False, fingerprint(manifest)] and "File too large" in errors
    assert files_in(tmp_path) == ["m.parquet"]


def test_a_folder_in_the_place_of_the_copy(tmp_path, mapping, caplog):
    path = tmp_path / "m.parquet"
    Path(copy_path(path)).mkdir()
    (Path(copy_path(path)) / "x").touch()
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(shared, "SHARED_LEAST", 1 << 40)
        with pytest.raises(OSError):
            make_manifest(names(5)).write(path)
        patch.undo()
        assert not is_mapped(Manifest.read(path)) and len(Manifest.read(path)) == 5
    assert "no copy that processes share can be written" in caplog.text
