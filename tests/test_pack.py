"""Packing into tar shards: what is in them, that it is proven, what an interruption costs, the manifest of them."""

import fcntl
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import RECIPE, same_content, shown_numbers, take_batches

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.data import shard_file
from dali_vidaug.data.shard_journal import journal_path
from dali_vidaug.media.decode import decode

PLACE = ("path", "shard", "shard_offset", "mtime_ns")  # what differs between a file and a member


@pytest.fixture(scope="module")
def manifest(numbered, tmp_path_factory):
    """Twelve numbered videos in two classes, with columns of their own."""
    files = sorted(numbered.glob("*/*.mp4"), key=lambda path: path.stem)
    return dv.scan(
        files, labels=[path.parent.name for path in files], progress=False,
        columns={"score": [None, *np.arange(11) / 7], "caption": ["Ä dog" for _ in files]},
    )  # fmt: skip


def pack(manifest, out, **options):
    return dv.pack(manifest, out, progress=False, **options)


def members_of(path):
    """Names and bytes of a tar file's members, as tarfile unpacks them."""
    with tarfile.open(path, "r:") as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in tar} <= {(0, 0, 0, "", "")}
        assert {info.mode for info in tar} <= {0o644} and all(info.isreg() for info in tar)
        return [(info.name, tar.extractfile(info).read()) for info in tar]


def samples_of(path):
    """The samples of a shard, as WebDataset groups its members: those of a key stand one after the other."""
    samples = []
    for name, data in members_of(path):
        key, extension = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", name).groups()
        if not samples or samples[-1]["__key__"] != key:
            samples.append({"__key__": key})
        assert extension not in samples[-1]
        samples[-1][extension] = data
    assert len({sample["__key__"] for sample in samples}) == len(samples)
    return samples


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.tar"))}


def test_shards_have_webdatasets_form(manifest, tmp_path):
    packed = pack(manifest, tmp_path / "s" / "t-%06d.tar", shard_count=5)
    shards = sorted((tmp_path / "s").iterdir())
    assert [path.name for path in shards] == ["t-000000.tar", "t-000001.tar", "t-000002.tar"]
    samples = [sample for path in shards for sample in samples_of(path)]
    assert [len(samples_of(path)) for path in shards] == [5, 5, 2]
    assert sorted(sample["__key__"] for sample in samples) == [f"{i:09d}" for i in range(12)]
    for sample in samples:
        row = int(sample["__key__"])
        assert sample["mp4"] == Path(manifest.path(row)).read_bytes()
        label = int(manifest.labels[row])
        score = manifest.rows("score")[row]
        assert json.loads(sample["json"]) == {
            "label": label, "class": manifest.classes[label], "source": manifest.rows("path")[row],
            "score": None if score is None or np.isnan(score) else score, "caption": "Ä dog",
        }  # fmt: skip
        assert sample["cls"] == str(label).encode() and sample.keys() == {"__key__", "mp4", "json", "cls"}
        assert packed.path(row) == f"{packed.root}/{packed.rows('shard', [row])[0]}/{sample['__key__']}.mp4"
    assert not list((tmp_path / "s").glob("*packing*"))


def test_the_manifest_is_that_of_the_files_in_other_places(manifest, tmp_path):
    packed = pack(manifest, tmp_path / "s" / "%d.tar", shard_count=5, output=tmp_path / "s" / "m.parquet")
    assert packed.classes == manifest.classes and packed.columns == manifest.columns
    for name in manifest.table.column_names:
        assert (name in PLACE) == (packed.table[name].to_pylist() != manifest.table[name].to_pylist()), name
    read = dv.Manifest.read(tmp_path / "s" / "m.parquet")
    assert read.table.equals(packed.table) and "packed into 3 tar shards" in read.remarks[-1]
    scanned = dv.scan(tmp_path / "s" / "{0..2}.tar", progress=False)
    of = {path: i for i, path in enumerate(packed.rows("path"))}
    rows = [of[path] for path in scanned.rows("path")]
    assert scanned.classes == manifest.classes and scanned.columns == ("source", *manifest.columns)
    for name in (*manifest.table.column_names, "packet_index"):
        if name != "packet_index":
            assert scanned.table[name].to_pylist() == packed.select(rows).table[name].to_pylist(), name
    for i, row in enumerate(rows):
        assert bytes(scanned.video(i).packet_index.packets) == bytes(packed.video(row).packet_index.packets)
        assert shown_numbers(decode(packed.video(row), np.arange(5, 9)).pixels) == [5, 6, 7, 8]
    options = dict(batch_size=4, seed=7, device="cpu", num_shards=1, shard_index=0)
    batches = [take_batches(dv.VideoLoader(m, RECIPE, **options), 3) for m in (manifest, packed)]
    assert all(same_content(one, other) for one, other in zip(*batches, strict=True))


def test_the_same_videos_make_the_same_bytes(manifest, tmp_path):
    for name, options in (("a", {}), ("b", {"num_workers": 1}), ("c", {"seed": 1}), ("d", {"shuffle": False})):
        pack(manifest, tmp_path / name / "%d.tar", shard_count=5, **options)
    found = {name: hashes(tmp_path / name) for name in "abcd"}
    assert found["a"] == found["b"] and not set(found["a"].values()) & set(found["c"].values())
    keys = [sample["__key__"] for i in range(3) for sample in samples_of(tmp_path / "d" / f"{i}.tar")]
    assert keys == sorted(keys)
    keys = [sample["__key__"] for i in range(3) for sample in samples_of(tmp_path / "a" / f"{i}.tar")]
    assert keys != sorted(keys)


def test_the_size_of_shards(manifest, tmp_path):
    sizes = manifest.rows("bytes")
    limit = int(sizes.sum() // 3)
    packed = pack(manifest, tmp_path / "%d.tar", shard_size=limit)
    loads = [sizes[packed.rows("shard") == name].sum() for name in sorted(set(packed.rows("shard")))]
    assert all(load <= limit for load in loads) and 3 <= len(loads) <= 5
    assert len(hashes(tmp_path)) == len(loads)
    pack(manifest, tmp_path / "x" / "%d.tar", shard_size=1)  # each video alone
    assert len(hashes(tmp_path / "x")) == 12


def test_a_video_with_several_rows_is_packed_once(manifest, tmp_path):
    """Segments with labels, columns and boxes of their own; a scan of the shards finds them again."""
    path = manifest.path(3)
    (tmp_path / "list.csv").write_text(
        f"path,label,start_frame,end_frame,who\n{path},run,0,10,ann\n{path},fall,10,40,bob\n"
        f"{manifest.path(4)},run,,,cy\n"
    )
    table = pa.table({"path": [path], "frame": [12], "x1": [1.0], "y1": [2.0], "x2": [30.0], "y2": [40.0]})
    rows = dv.scan(tmp_path / "list.csv", progress=False, boxes=table)
    packed = pack(rows, tmp_path / "s" / "%d.tar", shuffle=False)
    first, second = samples_of(tmp_path / "s" / "0.tar")
    assert json.loads(first["json"]) == {
        "source": rows.rows("path")[0],
        "segments": [
            {
                "first_frame": 0,
                "last_frame": 10,
                "label": 1,
                "class": "run",
                "start_frame": 0,
                "end_frame": 10,
                "who": "ann",
            },
            {
                "first_frame": 10,
                "last_frame": 40,
                "label": 0,
                "class": "fall",
                "start_frame": 10,
                "end_frame": 40,
                "who": "bob",
            },
        ],
    }
    assert "cls" not in first and second["cls"] == b"1"
    assert packed.rows("path").tolist() == ["0.tar/000000000.mp4"] * 2 + ["0.tar/000000002.mp4"]
    assert shown_numbers(decode(packed.video(1), np.arange(10, 12)).pixels) == [10, 11]
    assert packed.table["boxes"].to_pylist() == rows.table["boxes"].to_pylist() and any(
        packed.table["boxes"].to_pylist()
    )
    scanned = dv.scan(tmp_path / "s", progress=False)
    for name in ("first_frame", "last_frame", "label", "who"):
        assert scanned.table[name].to_pylist() == rows.table[name].to_pylist(), name
    assert scanned.classes == rows.classes


def test_a_part_of_a_video_keeps_its_frames(manifest, tmp_path):
    (tmp_path / "list.csv").write_text(f"path,label,start_frame,end_frame\n{manifest.path(0)},a,5,20\n")
    rows = dv.scan(tmp_path / "list.csv", progress=False)
    pack(rows, tmp_path / "s" / "%d.tar")
    scanned = dv.scan(tmp_path / "s", progress=False)
    assert [scanned.rows(name)[0] for name in ("first_frame", "last_frame", "label")] == [5, 20, 0]


def test_segments_without_a_label(manifest, tmp_path):
    """Only KEY.json says which segments have the label, also beside a KEY.cls, as shards may have it."""
    a, b = manifest.path(0), manifest.path(1)
    (tmp_path / "list.csv").write_text(
        f"path,label,start_frame,end_frame\n{a},run,0,10\n{a},fall,10,20\n{b},run,0,10\n{b},,10,20\n{b},,20,30\n"
    )
    rows = dv.scan(tmp_path / "list.csv", progress=False)
    assert rows.labels.tolist() == [1, 0, 1, -1, -1]
    pack(rows, tmp_path / "s" / "%d.tar", shuffle=False)
    assert all("cls" not in sample for sample in samples_of(tmp_path / "s" / "0.tar"))
    with tarfile.open(tmp_path / "s" / "0.tar", "a") as tar:
        info = tarfile.TarInfo("000000002.cls")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"1"))
    for like in (None, rows):
        scanned = dv.scan(tmp_path / "s", progress=False, like=like)
        assert scanned.labels.tolist() == rows.labels.tolist() and scanned.classes == rows.classes
        assert "KEY.cls is not used where segments in KEY.json have labels that differ" in "; ".join(scanned.remarks)


@pytest.mark.parametrize("several", [False, True])
def test_classes_named_by_digits(several, manifest, tmp_path):
    """Class "1" has index 0, and so on: names count, and not the number that they are."""
    files = [manifest.path(0), manifest.path(1)]
    labels = [["3", "2"], ["3"]] if several else ["3", "2"]
    rows = dv.scan(files, labels=labels, classes=["1", "2", "3"], progress=False)
    pack(rows, tmp_path / "s" / "%d.tar", shuffle=False)
    for like, first in ((rows, "1"), (None, "0")):
        scanned = dv.scan(tmp_path / "s", progress=False, like=like)
        assert scanned.classes == (first, "2", "3") and (scanned.targets(range(2)) == rows.targets(range(2))).all()
    rows = dv.scan(files[:1], labels=["0"], classes=["1", "0"], progress=False)
    pack(rows, tmp_path / "t" / "%d.tar")
    assert dv.scan(tmp_path / "t", progress=False).classes == ("class 0", "0")


def test_several_labels_and_none(manifest, tmp_path):
    files = [manifest.path(i) for i in range(3)]
    rows = dv.scan(files, labels=[["b", "a"], [], ["b"]], progress=False)
    pack(rows, tmp_path / "s" / "%d.tar", shuffle=False)
    assert [json.loads(s["json"]).get("class") for s in samples_of(tmp_path / "s" / "0.tar")] == [["b", "a"], [], ["b"]]
    scanned = dv.scan(tmp_path / "s", progress=False)
    assert (scanned.targets(range(3)) == rows.targets(range(3))).all() and scanned.classes == rows.classes
    pack(dv.scan(files, progress=False), tmp_path / "u" / "%d.tar")
    assert all(s.keys() == {"__key__", "mp4", "json"} for s in samples_of(tmp_path / "u" / "0.tar"))
    assert len(dv.scan(tmp_path / "u", progress=False).classes) == 0


def test_shards_are_packed_anew(manifest, tmp_path):
    """From members of other shards; where the videos were at first stays known."""
    packed = pack(manifest, tmp_path / "a" / "%d.tar", shard_count=5)
    scanned = dv.scan(tmp_path / "a", progress=False)
    again = pack(scanned, tmp_path / "b" / "%d.tar")
    for sample in samples_of(tmp_path / "b" / "0.tar"):
        row = int(sample["__key__"])
        source = scanned.rows("source")[row]
        assert sample["mp4"] == (Path(manifest.root) / source).read_bytes()
        assert json.loads(sample["json"])["source"] == source
    assert len(again) == len(packed) == 12


def test_names_that_are_odd(manifest, tmp_path):
    data = Path(manifest.path(0)).read_bytes()
    for name in (b"a\xe9.MP4", b"b", "ü.x.Mp4".encode()):
        (tmp_path / os.fsdecode(name)).write_bytes(data)
    rows = dv.scan([tmp_path / os.fsdecode(name) for name in (b"a\xe9.MP4", b"b", "ü.x.Mp4".encode())], progress=False)
    packed = pack(rows, tmp_path / "s" / "%d.tar", shuffle=False)
    assert [name for name, _ in members_of(tmp_path / "s" / "0.tar")][::2] == [
        "000000000.mp4", "000000001.video", "000000002.mp4",
    ]  # fmt: skip
    assert [shown_numbers(decode(packed.video(i), np.arange(2)).pixels) for i in range(3)] == [[0, 1]] * 3


def test_columns_called_as_fields_of_the_sample(manifest, tmp_path):
    files = [manifest.path(i) for i in range(2)]
    columns = {
        "class": ["x", "y"],
        "source": ["web", "tv"],
        "segments": [1, 2],
        "Cls": ["7", "8"],
        "list_class": [3, 4],
    }
    rows = dv.scan(files, labels=["run", "fall"], columns=columns, progress=False)
    packed = pack(rows, tmp_path / "s" / "%d.tar", shuffle=False)
    first = json.loads(samples_of(tmp_path / "s" / "0.tar")[0]["json"])
    assert first == {
        "label": 1, "class": "run", "source": rows.rows("path")[0], "list_list_class": "x", "list_source": "web",
        "list_segments": 1, "list_Cls": "7", "list_class": 3,
    }  # fmt: skip
    assert "class is list_list_class, source is list_source" in "; ".join(packed.remarks)
    scanned = dv.scan(tmp_path / "s", progress=False)
    assert [scanned.classes[i] for i in scanned.labels] == ["run", "fall"]
    assert list(scanned.rows("list_source")) == ["web", "tv"] and list(packed.rows("source")) == ["web", "tv"]


def test_videos_called_as_the_members_beside_them(manifest, tmp_path):
    data = Path(manifest.path(0)).read_bytes()
    files = [tmp_path / name for name in ("a.json", "b.cls", "c.TXT")]
    for path in files:
        path.write_bytes(data)
    packed = pack(dv.scan(files, labels=["x", "y", "x"], progress=False), tmp_path / "s" / "%d.tar", shuffle=False)
    members = members_of(tmp_path / "s" / "0.tar")
    assert [name for name, _ in members if not name.endswith((".json", ".cls"))] == [f"{i:09d}.video" for i in range(3)]
    assert [shown_numbers(decode(packed.video(i), np.arange(2)).pixels) for i in range(3)] == [[0, 1]] * 3
    video = shard_file.Packed(manifest.video(0), "1.json", [("1.json", b"{}")])
    said = shard_file.write_shard(shard_file.Task(0, str(tmp_path / "t.tar"), [video], dv.Storage()))
    assert "its member 1.json would be in the shard twice" in said and not (tmp_path / "t.tar").exists()


def test_folders_of_images_are_refused_before_anything_is_written(tmp_path):
    from PIL import Image

    for clip in ("a", "b"):
        (tmp_path / "v" / "run" / clip).mkdir(parents=True)
        for i in range(1, 5):
            Image.new("RGB", (64, 48), (i, 0, 0)).save(tmp_path / "v" / "run" / clip / f"{i:05d}.png")
    rows = dv.scan(tmp_path / "v", fps=25, progress=False)
    with pytest.raises(ValueError, match=r"pack: run/[ab] is a folder of images; only videos are packed"):
        pack(rows, tmp_path / "s" / "%d.tar")
    assert not (tmp_path / "s").exists()


# ---- What is proven


def test_a_video_that_changed_stops_its_shard_alone(numbered, tmp_path):
    for path in numbered.glob("*/*.mp4"):
        (tmp_path / "v" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / path.parent.name / path.name).write_bytes(path.read_bytes())
    manifest = dv.scan(tmp_path / "v", progress=False)
    changed = Path(manifest.path(5))
    data, stat = changed.read_bytes(), changed.stat()
    out, options = tmp_path / "s" / "%d.tar", dict(shard_count=2, shuffle=False)
    for other, message in ((data + b"x", "it has .* bytes, and had"), (data[::-1], "as many bytes, but others")):
        changed.write_bytes(other)
        os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(RuntimeError, match=f"1 shard of 6 could not be written; the first: {changed}: .*{message}"):
            pack(manifest, out, **options)
        assert sorted(hashes(tmp_path / "s")) == ["0.tar", "1.tar", "3.tar", "4.tar", "5.tar"]
        assert not list((tmp_path / "s").glob("*partial*"))
    changed.unlink()
    with pytest.raises(RuntimeError, match="No such file"):
        pack(manifest, out, **options)
    before = {path.name: path.stat().st_ino for path in (tmp_path / "s").glob("*.tar")}
    changed.write_bytes(data)
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**10))
    with pytest.raises(RuntimeError, match="another time of change"):
        pack(manifest, out, **options)
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    packed = pack(manifest, out, **options)
    after = {path.name: path.stat().st_ino for path in (tmp_path / "s").glob("*.tar")}
    assert after.items() > before.items() and len(after) == 6  # those that were done are kept
    pack(manifest, tmp_path / "t" / "%d.tar", **options)
    assert hashes(tmp_path / "s") == hashes(tmp_path / "t") and len(packed) == 12


def test_copies_are_packed_when_only_their_time_differs(numbered, tmp_path):
    copy = tmp_path / "v.mp4"
    copy.write_bytes((numbered / "even" / "00.mp4").read_bytes())
    manifest = dv.scan(copy, progress=False)
    os.utime(copy, ns=(0, 0))
    with pytest.raises(RuntimeError, match="check_files='size'"):
        pack(manifest, tmp_path / "a" / "%d.tar")
    packed = pack(manifest, tmp_path / "b" / "%d.tar", check_files="size")
    assert packed.table["mtime_ns"].to_pylist() == [(tmp_path / "b" / "0.tar").stat().st_mtime_ns]


@pytest.mark.parametrize("at", [600, 0, -2000])
def test_what_is_written_is_compared(manifest, tmp_path, monkeypatch, at):
    """A byte that is another one on the disk: in a video, a header, at the end."""
    write = shard_file._write

    def damage(file, *arguments):
        found = write(file, *arguments)
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
        return found

    monkeypatch.setattr(shard_file, "_write", damage)
    with pytest.raises(RuntimeError, match="what was written is not what was read"):
        pack(manifest, tmp_path / "%d.tar")
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob("*partial*"))


# ---- Interruptions


def test_what_is_there_is_not_overwritten(manifest, tmp_path):
    out = tmp_path / "%d.tar"
    (tmp_path / "0.tar").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"0.tar is there already"):
        pack(manifest, out)
    assert (tmp_path / "0.tar").read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "0.tar").unlink()
    pack(manifest, out)
    with pytest.raises(FileExistsError, match=r"0.tar is there already"):
        pack(manifest, out)


def test_a_pack_is_not_mixed_with_another(manifest, tmp_path, monkeypatch):
    out, journal = tmp_path / "t-%d.tar", journal_path(tmp_path, "t-%d.tar")
    monkeypatch.setattr(dv.data.pack, "_manifest", None)  # fails when all shards are done
    with pytest.raises(TypeError):
        pack(manifest, out, shard_count=5)
    monkeypatch.undo()
    assert journal == tmp_path / "t.packing" and journal.is_file()
    for other, options in ((manifest, {"shard_count": 4}), (manifest.select(range(11)), {"shard_count": 5})):
        with pytest.raises(FileExistsError, match=f"{journal} is of a pack of other videos, or with other options"):
            pack(other, out, **options)
    with journal.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match="another process packs here"):
            pack(manifest, out, shard_count=5)
    with tarfile.open(tmp_path / "t-1.tar", "r:") as tar:
        places = {1: tar.next().offset_data, 2: -1}  # a byte of a video; one behind the members, where zeros must be
    for number, place in places.items():  # these shards are written again
        data = bytearray((tmp_path / f"t-{number}.tar").read_bytes())
        data[place] ^= 0xFF
        (tmp_path / f"t-{number}.tar").write_bytes(data)
    kept = (tmp_path / "t-0.tar").stat().st_ino
    pack(manifest, out, shard_count=5)
    pack(manifest, tmp_path / "other" / "t-%d.tar", shard_count=5)
    assert hashes(tmp_path) == hashes(tmp_path / "other") and (tmp_path / "t-0.tar").stat().st_ino == kept
    assert not journal.exists()


def test_labels_that_changed_meanwhile_are_written(manifest, tmp_path, monkeypatch):
    """The plan is the same, but what is said of the videos is not: shards of the first half are written anew."""
    monkeypatch.setattr(dv.data.pack, "_manifest", None)
    with pytest.raises(TypeError):
        pack(manifest, tmp_path / "%d.tar", shard_count=5)
    monkeypatch.undo()
    labels = pa.array(1 - manifest.labels, pa.int32())
    other = dv.Manifest(manifest.table.set_column(1, "label", labels), manifest.classes, manifest.root)
    pack(other, tmp_path / "%d.tar", shard_count=5)
    for path in tmp_path.glob("*.tar"):
        assert all(int(s["cls"]) == 1 - manifest.labels[int(s["__key__"])] for s in samples_of(path))


def kill_in_the_middle(source, out, count):
    """Pack in another process, and kill it when ``count`` shards are done, or a moment after."""
    code = f"import dali_vidaug as dv; dv.pack({str(source)!r}, {str(out)!r}, shard_count=1, num_workers=1)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and len(list(Path(out).parent.glob("*.tar"))) < count:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(4,), (1, 3, 3, 6, 9, 11, 12)], ids=len)
def test_kill_9_loses_nothing(manifest, tmp_path, counts):
    manifest.write(tmp_path / "m.parquet")
    out = tmp_path / "s" / "t-%06d.tar"
    done = {}
    for count in counts:
        kill_in_the_middle(tmp_path / "m.parquet", out, count)
        now = hashes(tmp_path / "s")
        assert done.items() <= now.items()
        done = now
    journal = journal_path(tmp_path / "s", out.name)
    written = (
        [json.loads(line) for line in journal.read_bytes().split(b"\n")[1:] if line.strip()][1:]
        if journal.exists()
        else []
    )
    kept = {f"t-{one['number']:06d}.tar" for one in written}
    before = {name: (tmp_path / "s" / name).stat().st_ino for name in kept}
    if journal.exists():
        pack(manifest, out, shard_count=1)
    assert {name: (tmp_path / "s" / name).stat().st_ino for name in kept} == before
    pack(manifest, tmp_path / "whole" / out.name, shard_count=1)
    assert hashes(tmp_path / "s") == hashes(tmp_path / "whole") and len(done) >= counts[-1] - 1
    assert {path.suffix for path in (tmp_path / "s").iterdir()} == {".tar"}


@pytest.mark.slow
def test_processes_write_the_same_shards(manifest, tmp_path):
    pack(manifest, tmp_path / "a" / "%d.tar", shard_count=3)
    pack(manifest, tmp_path / "b" / "%d.tar", shard_count=3, engine="processes", num_workers=2)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


# ---- Options and the command


@pytest.mark.parametrize(
    "options, message",
    [
        ({"out": "x.tar"}, "out must end in .tar and have one %06d"),
        ({"out": "x-%06d.zip"}, "out must end in .tar and have one %06d"),
        ({"out": "x-%06d-%d.tar"}, "out must end in .tar and have one %06d"),
        ({"out": "s3://bucket/x-%06d.tar"}, "shards are written into a folder"),
        ({"shard_size": 0}, "shard_size must be an int >= 1, got 0"),
        ({"shard_count": 1.5}, "shard_count must be an int >= 1, got 1.5"),
        ({"check_files": "off"}, "check_files must be"),
        ({"output": "m.csv"}, "must end in .parquet"),
        ({"output": "gone/m.parquet"}, "there is no folder"),
        ({"engine": "spark"}, "engine must be"),
    ],
)
def test_options_are_checked_at_once(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        dv.pack("/gone", **{"out": "x-%06d.tar", **options})
    assert not list(tmp_path.iterdir())


def test_the_command(numbered, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["scan", str(numbered), "-o", "m.parquet"]) == 0
    assert main(["pack", "m.parquet", "-o", "s/train-%06d.tar", "--shard-count", "5"]) == 0
    text = capsys.readouterr().out
    assert "packed into 3 tar shards" in text and f"wrote 3 shards into {tmp_path}/s, and s/train.parquet" in text
    assert len(dv.Manifest.read("s/train.parquet")) == 12 and len(hashes(tmp_path / "s")) == 3
    assert main(["pack", str(numbered), "-o", "s/train-%06d.tar"]) == 1
    assert "train-000000.tar is there already" in capsys.readouterr().err
    assert main(["pack", "m.parquet", "-o", "s/train.tar"]) == 2
    assert main(["scan", *(str(path) for path in sorted((tmp_path / "s").glob("*.tar"))), "-o", "n.parquet"]) == 0
    assert "tar shards: 3 with 12 samples" in capsys.readouterr().out


def test_a_scan_reads_members_whatever_the_files_are_called(numbered, tmp_path):
    one = next(numbered.rglob("*.mp4"))
    names = ["a", "b.json", "c.cls", "d.txt", "e.dat", "f.MP4", "g.h", "i.video"]
    (tmp_path / "v").mkdir()
    for name in names:
        (tmp_path / "v" / name).symlink_to(one)
    manifest = dv.scan([tmp_path / "v" / name for name in names], labels=names, progress=False)
    dv.pack(manifest, tmp_path / "s" / "t-%d.tar", progress=False)
    again = dv.scan(tmp_path / "s", progress=False)
    assert not again.broken and sorted(again.classes[i] for i in again.labels) == names
