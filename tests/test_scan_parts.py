"""A scan in parts, put together, is one scan, row by row; what is not all parts of one scan is refused."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_numbered

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.data import measuring
from dali_vidaug.data.known import Known
from dali_vidaug.data.parts import Part, as_part, part_path
from dali_vidaug.fingerprint import fingerprint

BOXES = (
    "path,frame,x1,y1,x2,y2,label\neven/00.mp4,0,1,2,30,40,cat\nodd/01.mp4,3,5,6,70,80,dog\ngone.mp4,0,1,1,2,2,cat\n"
)


def assert_same(one, other):
    """Manifests agree in all that they have."""
    assert one.table.schema.equals(other.table.schema, check_metadata=True)
    for name in one.table.column_names:
        assert one.table[name].equals(other.table[name]), name
    for name in ("classes", "box_classes", "root", "broken", "remarks", "multi_label", "columns"):
        assert getattr(one, name) == getattr(other, name), name
    assert fingerprint(one) == fingerprint(other)
    assert (one.packets is None) == (other.packets is None)
    if one.packets is not None:
        assert len(one.packets) == len(other.packets)
        for number in range(len(one.packets)):
            assert list(map(bytes, one.packets[number])) == list(map(bytes, other.packets[number]))


@pytest.fixture
def listed(numbered, tmp_path):
    """A list with everything that makes remarks: segments, rows that come twice, files that are damaged, missing, odd,
    linked, named in Latin-1; columns; a class that one part lacks."""
    videos = tmp_path / "videos"
    shutil.copytree(numbered, videos)
    os.link(videos / "even" / "00.mp4", videos / "even" / "again.mp4")
    (videos / "odd" / "empty.mp4").touch()
    (videos / "odd" / "page.mp4").write_text("<!DOCTYPE html><html>not found</html>")
    shutil.copy(videos / "even" / "02.mp4", videos / os.fsdecode(b"caf\xe9.mp4"))
    path = write_numbered(videos / "odd" / "stamps.ts", 30)
    path.write_bytes(path.read_bytes() + (videos / "odd" / "stamps.ts").read_bytes())  # time stamps that repeat
    rows = ["path,label,start,end,caption,score"]
    for number in range(12):
        kind = ("even", "odd")[number % 2]
        rows.append(f"{kind}/{number:02d}.mp4,{kind},0,{0.5 + number / 10},no {number},{number / 3}")
        rows.append(f"{kind}/{number:02d}.mp4,{kind},0.4,99,again,{number}")
    rows += ["even/00.mp4,even,0,0.5,twice,0", "even/00.mp4,odd,0,0.5,other,0", "even/again.mp4,even,0,0.5,link,1"]
    rows += ["gone/a.mp4,odd,,,x,", "gone/b.mp4,odd,,,,", "odd/empty.mp4,odd,,,,", "odd/page.mp4,odd,,,,"]
    rows += ["odd/stamps.ts,rare,,,odd one,7", "even/04.mp4,even,50,60,too late,8", "even/06.mp4,,0,1,unlabelled,9"]
    text = "\n".join(rows).encode() + b"\ncaf\xe9.mp4,even,,,latin,1\n"
    (videos / "list.csv").write_bytes(text)
    (tmp_path / "boxes.csv").write_text(BOXES)
    return videos / "list.csv"


def scan(path, **options):
    return dv.scan(path, progress=False, **options)


def scan_parts(path, total, output, **options):
    for number in np.random.default_rng(0).permutation(total).tolist():
        scan(path, output=output, part=(number, total), **options)
    return [part_path(output, Part(number, total)) for number in reversed(range(total))]


def test_merged_parts_are_one_scan(listed, tmp_path):
    """With boxes, columns and all remarks; in three parts, in one, and in more parts than there are files."""
    boxes = {"boxes": tmp_path / "boxes.csv"}
    output = tmp_path / "m.parquet"
    one = scan(listed, output=output, **boxes)
    assert len(one) == 30 and len(one.broken) == 5 and one.columns == ("start", "end", "caption", "score")
    for word in ("do not exist", "something odd", "another label", "label of an earlier", "end after", "boxes: videos"):
        assert any(word in remark for remark in one.remarks), (word, one.remarks)
    whole = dv.Manifest.read(output)
    for total in (3, 1, 40):
        folder = tmp_path / str(total)
        folder.mkdir()
        parts = scan_parts(listed, total, folder / "m.parquet")
        merged = dv.merge(parts, folder / "m.parquet", **boxes)
        assert_same(merged, one)
        assert_same(dv.Manifest.read(folder / "m.parquet"), whole)


def test_boxes_that_are_merged_have_the_classes_of_like(numbered, tmp_path):
    """As those of a scan; parts whose like= had others are refused."""
    (tmp_path / "boxes.csv").write_text(BOXES.replace("gone.mp4", "even/02.mp4"))
    boxes = {"boxes": tmp_path / "boxes.csv"}
    like = scan(numbered, box_classes=["bird", "dog", "cat"], **boxes)
    one = scan(numbered, like=like, **boxes)
    parts = scan_parts(numbered, 2, tmp_path / "m.parquet", like=like)
    merged = dv.merge(parts, **boxes)
    assert merged.box_classes == ("bird", "dog", "cat")
    assert_same(merged, one)
    assert dv.merge(parts, **boxes, box_classes=["cat", "dog"]).box_classes == ("cat", "dog")
    scan(numbered, output=tmp_path / "m.parquet", part=(0, 2), like=scan(numbered, **boxes))
    with pytest.raises(ValueError, match="differ: box classes of like=.*cat"):
        dv.merge(parts, **boxes)


def test_merged_folders_are_one_scan(numbered, tmp_path):
    """With each engine; classes are those of the folder, also where a part has one of them alone."""
    one = scan(numbered)
    parts = []
    for number, engine in enumerate(("threads",) * 5 + ("processes",)):
        part = scan(numbered, output=tmp_path / "m.parquet", part=(number, 6), engine=engine)
        assert len(part) == 2 and part.classes == one.classes and f"part {number} of a scan in 6 parts" in part.remarks
        parts.append(part_path(tmp_path / "m.parquet", Part(number, 6)))
    merged = dv.merge(parts, tmp_path / "m.parquet")
    assert_same(merged, one)


def test_multi_label_with_given_classes(numbered, tmp_path):
    files = sorted(numbered.rglob("*.mp4"))
    options = dict(labels=[["a", "b"] if i % 3 else [] for i in range(12)], classes=["b", "a", "c"], index=False)
    one = scan(files, **options)
    assert one.packets is None and one.multi_label
    merged = dv.merge(scan_parts(files, 4, tmp_path / "m.parquet", **options))
    assert_same(merged, one)


def test_a_part_goes_on_and_measures_nothing_twice(numbered, tmp_path, monkeypatch):
    """Interrupted; complete; and where the whole manifest has the files already."""
    real, measured = measuring.measure, []

    def stops(path, *how):
        measured.append(path.path)
        if len(measured) == 4:
            raise KeyboardInterrupt
        return real(path, *how)

    monkeypatch.setattr(measuring, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        scan(numbered, output=tmp_path / "m.parquet", part=(0, 2), num_threads=1)
    path = part_path(tmp_path / "m.parquet", Part(0, 2))
    kept = Path(f"{path}.partial").read_text().count("\n")
    assert 1 <= kept <= 4 and not path.exists()
    measured.clear()
    monkeypatch.setattr(measuring, "measure", lambda path, *how: measured.append(path.path) or real(path, *how))
    scan(numbered, output=tmp_path / "m.parquet", part=(0, 2))
    assert len(measured) == 6 - kept
    scan(numbered, output=tmp_path / "m.parquet", part=(0, 2))
    assert len(measured) == 6 - kept and not Path(f"{path}.partial").exists()
    scan(numbered, output=tmp_path / "m.parquet", part="1/2")
    merged = dv.merge([path, part_path(tmp_path / "m.parquet", Part(1, 2))], tmp_path / "m.parquet")
    measured.clear()
    for number in range(5):
        scan(numbered, output=tmp_path / "m.parquet", part=(number, 5))
    assert not measured
    again = dv.merge([part_path(tmp_path / "m.parquet", Part(number, 5)) for number in range(5)])
    assert again.table.equals(merged.table)


@pytest.mark.parametrize(
    "part, reason",
    [
        ((16, 16), "from 0 to n - 1, got 16/16; a Slurm array of 16 is --array=0-15"),
        ("17/16", "from 0 to n - 1, got 17/16$"),
        ((-1, 16), "from 0 to n - 1, got -1/16"),
        ((0, 0), "from 0 to n - 1, got 0/0$"),
        ("3", "must be i/n, two whole numbers such as 3/16, got '3'"),
        ("/16", "must be i/n"),
        ("1.0/2", "must be i/n"),
        ((True, 2), "must be i/n"),
        ((1.0, 2), "must be i/n"),
        (3, "must be i/n"),
    ],
)
def test_what_is_no_part_is_refused(part, reason, numbered, tmp_path):
    with pytest.raises(ValueError, match=f"scan: part .*{reason}"):
        scan(numbered, output=tmp_path / "m.parquet", part=part)


def test_parts_are_counted_from_0():
    assert as_part("0/1") == Part(0, 1) and as_part([15, 16]) == as_part("15/16") == Part(15, 16)
    assert part_path("a/b.pq", Part(7, 100)) == Path("a/b.part-07-of-100.pq")


def test_what_a_part_needs(numbered, tmp_path):
    with pytest.raises(ValueError, match="part=.* needs output="):
        scan(numbered, part=(0, 2))
    with pytest.raises(ValueError, match="boxes are given when the parts are put together, to merge"):
        scan(numbered, part=(0, 2), output=tmp_path / "m.parquet", boxes=tmp_path)
    for bad in (0, -1, float("nan"), True, "600"):
        with pytest.raises(ValueError, match=f"timeout must be seconds, more than 0, or None, got {bad!r}"):
            scan(numbered, timeout=bad)
    with pytest.raises(ValueError, match="engine must be 'threads', 'processes', 'ray', or an executor"):
        scan(numbered, engine="slurm")


def test_parts_that_are_not_of_one_scan_are_refused(numbered, tmp_path):
    """Missing, twice, of another number, list, root, or options; a part is no manifest, a manifest no part, nor is it
    overwritten."""
    parts = scan_parts(numbered, 3, tmp_path / "m.parquet")
    (tmp_path / "link").symlink_to(tmp_path)
    before = parts[1].read_bytes()
    with pytest.raises(ValueError, match="merge: the output .*link/m.part-1-of-3.parquet is the part .*would be lost"):
        dv.merge(parts, tmp_path / "link" / parts[1].name)
    assert parts[1].read_bytes() == before

    def refused(reason, *paths):
        with pytest.raises((ValueError, FileNotFoundError), match=reason):
            dv.merge(paths, tmp_path / "out.parquet")
        assert not (tmp_path / "out.parquet").exists()

    refused("2 of 3 parts are missing: 0/3, 2/3; scan them", parts[1])
    copy = shutil.copy(parts[1], tmp_path / "copy.parquet")
    shutil.copy(f"{parts[1]}.packets", f"{copy}.packets")
    refused("part 1/3 is given twice: .*m.part-1-of-3.parquet and .*copy.parquet", *parts, copy)
    refused("there are no parts")
    refused("there is no file .*gone", tmp_path / "gone.parquet")
    other = tmp_path / "other.parquet"
    scan(numbered, output=other, part=(0, 2))
    refused(
        "m.part-1-of-3.parquet is one of 3 parts, .*other.part-0-of-2.parquet of 2", parts[1], *tmp_path.glob("o*t")
    )
    scan(numbered, output=other, part=(0, 3), index=False)
    path = part_path(other, Part(0, 3))
    refused("parts of scans that differ: index: True and False", parts[0], parts[1], path)
    moved = tmp_path / "moved"
    shutil.copytree(numbered, moved)
    scan(moved, output=other, part=(0, 3))
    refused(f"differ: root: {numbered} and {moved}", parts[0], parts[1], path)
    files = sorted(numbered.rglob("*.mp4"))
    lists = [
        (dict(labels=["x"] * 12), dict(labels=["y"] * 12), "classes"),
        (dict(labels=["x", "y"] * 6), dict(labels=["y", "x"] * 6), "rows of the list"),
        (dict(columns={"a": [1] * 12}), dict(columns={"a": [1] * 11 + [2]}), "rows of the list"),
        (dict(columns={"a": [1] * 12}), dict(columns={"b": [1] * 12}), "columns: "),
    ]
    for mine, theirs, what in lists:
        one, two = (tmp_path / name for name in ("one.parquet", "two.parquet"))
        scan(files, output=one, part=(0, 2), **mine)
        scan(files, output=two, part=(1, 2), **theirs)
        refused(f"differ: {what}", part_path(one, Part(0, 2)), part_path(two, Part(1, 2)))
    scan(numbered, output=tmp_path / "whole.parquet")
    refused("whole.parquet is a whole manifest, not a part", tmp_path / "whole.parquet")
    with pytest.raises(ValueError, match="is part 1 of a scan in 3 parts: dali-vidaug merge, or dv.merge, makes"):
        dv.Manifest.read(parts[1])
    Path(f"{parts[0]}.packets").unlink()
    refused("m.part-2-of-3.parquet.packets belongs to", *parts)


def test_no_video_in_all_parts_is_an_error(tmp_path):
    """In one part it is none: the others may have some."""
    (tmp_path / "a").mkdir()
    for name in ("x.mp4", "y.mp4"):
        (tmp_path / "a" / name).write_text("no video")
    parts = scan_parts(tmp_path, 2, tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="none of 2 videos can be used; the first: .*x.mp4: "):
        dv.merge(parts)


def test_two_scans_do_not_write_the_same_file(numbered, tmp_path, monkeypatch):
    real = measuring.measure

    def scans_too(path, *how):
        with pytest.raises(ValueError, match="another scan is writing .*m.parquet.partial"):
            scan(numbered, output=tmp_path / "m.parquet")
        return real(path, *how)

    monkeypatch.setattr(measuring, "measure", scans_too)
    assert len(scan(numbered, output=tmp_path / "m.parquet")) == 12


def test_a_full_disk_is_told_and_the_scan_goes_on(numbered, tmp_path, monkeypatch):
    """A limit on the size of files stands for the disk."""
    real, limits, measured = Known.add, resource.getrlimit(resource.RLIMIT_FSIZE), []
    partial = tmp_path / "m.parquet.partial"

    def add(known, name, row):
        measured.append(name)
        if len(measured) == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (partial.stat().st_size + 100, limits[1]))
        real(known, name, row)

    monkeypatch.setattr(Known, "add", add)
    try:
        with pytest.raises(
            OSError, match=r"File too large; what was measured is kept, .*'.*m.parquet.partial'"
        ) as told:
            scan(numbered, output=tmp_path / "m.parquet", num_threads=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.value.errno == errno.EFBIG and len(measured) == 4
    again = scan(numbered, output=tmp_path / "m.parquet")
    assert len(measured) == 4 + 9 and len(again) == 12
    assert_same(again, scan(numbered))


def test_parts_are_no_neighbours(numbered, tmp_path):
    """Parts of another scan in the same folder are not compared with a manifest; a manifest is."""
    scan_parts(numbered, 2, tmp_path / "other.parquet")
    files = sorted(numbered.rglob("*.mp4"))
    options = dict(labels=["x"] * len(files), output=tmp_path / "m.parquet")
    assert not any("which is beside it" in remark for remark in scan(files, **options).remarks)
    scan(numbered, output=tmp_path / "other.parquet")
    assert any("other.parquet, which is beside it" in remark for remark in scan(files, **options).remarks)


def test_the_commands(numbered, tmp_path, capsys):
    """As a Slurm array has them; files beside the parts, which the shell's * finds too, are passed over."""
    output = str(tmp_path / "m.parquet")
    for number in range(3):
        assert main(["scan", str(numbered), "-o", output, "--part", f"{number}/3"]) == 0
    said = capsys.readouterr().out
    assert f"part 2 of a scan in 3 parts\nbroken: 0\nwrote {tmp_path}/m.part-2-of-3.parquet\n" in said
    found = [str(path) for path in tmp_path.glob("m.part-*")]
    assert len(found) == 6
    assert main(["merge", *found, "-o", output]) == 0
    assert f"wrote {output}" in capsys.readouterr().out
    assert_same(dv.Manifest.read(output), scan(numbered))
    assert main(["merge", found[0].removesuffix(".packets"), "-o", output]) == 1
    assert "2 of 3 parts are missing" in capsys.readouterr().err
    assert main(["merge", "gone", "-o", output]) == 2 and "there is no file gone" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["scan", str(numbered), "-o", output, "--part", "3/3"])
    assert "argument --part: part i/n must have i from 0 to n - 1, got 3/3; a Slurm array" in capsys.readouterr().err


@pytest.mark.slow
def test_parts_by_processes_at_the_same_time(listed, tmp_path):
    """The command, once for each part; each task of an array has its number in the environment."""
    output = tmp_path / "m.parquet"
    command = (
        f'exec {sys.executable} -m dali_vidaug.commands.cli scan {listed} -o {output} --part "$SLURM_ARRAY_TASK_ID/4"'
    )
    tasks = [
        subprocess.Popen(command, shell=True, env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number)},
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number in range(4)
    ]  # fmt: skip
    assert [task.wait(120) for task in tasks] == [0] * 4
    subprocess.run(
        f"{sys.executable} -m dali_vidaug.commands.cli merge {tmp_path}/m.part-* -o {output}",
        shell=True, check=True, stdout=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert_same(dv.Manifest.read(output), scan(listed))
