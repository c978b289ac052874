"""Folders and file names: links, extensions, names that are not UTF-8, what is passed over, what is said of it."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import RECIPE, write_numbered

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.commands.summary import summary
from dali_vidaug.data.names import is_utf8, restore_name, store_name
from dali_vidaug.errors import printable


def scan(path, **options):
    return dv.scan(path, progress=False, **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_numbered(tmp_path_factory.mktemp("source") / "v.mp4", 8)


def place(source, *paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)


def names(manifest):
    return [manifest.path(i).removeprefix(f"{manifest.root}/") for i in range(len(manifest))]


# ---- Links


def test_class_folders_that_are_links(source, tmp_path):
    place(source, tmp_path / "v/a/1.mp4", tmp_path / "elsewhere/2.mp4", tmp_path / "elsewhere/deep/3.mp4")
    (tmp_path / "v/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "v/a/4.mp4").symlink_to(source)
    manifest = scan(tmp_path / "v")
    assert names(manifest) == ["a/1.mp4", "a/4.mp4", "b/2.mp4", "b/deep/3.mp4"]
    assert manifest.labels.tolist() == [0, 0, 1, 1] and manifest.classes == ("a", "b")
    assert any("symbolic links to folders followed: 1 (b)" in remark for remark in manifest.remarks)


def test_links_in_a_circle_end(source, tmp_path):
    place(source, tmp_path / "a/1.mp4", tmp_path / "b/2.mp4", tmp_path / "b/deep/3.mp4")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(tmp_path / "a")
    (tmp_path / "b/deep/again").symlink_to(tmp_path / "b")
    (tmp_path / "b/loop.mp4").symlink_to(tmp_path / "b/loop.mp4")
    manifest = scan(tmp_path)
    assert names(manifest) == ["a/1.mp4", "b/2.mp4", "b/deep/3.mp4"]
    assert any("folders that their class has already" in r and "a/self" in r for r in manifest.remarks)
    assert [b.path for b in manifest.broken] == [f"{tmp_path}/b/loop.mp4"]


@pytest.mark.parametrize("seed", range(8))
def test_any_links_between_folders(seed, source, tmp_path):
    """Property: whatever links there are, each class has each real video that can be reached in it, once."""
    rng = random.Random(seed)
    folders = [tmp_path / part for part in ("a", "a/x", "b", "b/y", "c")]
    for i, folder in enumerate(folders):
        place(source, folder / f"{i}.mp4")
    for i in range(6):
        (rng.choice(folders) / f"link{i}").symlink_to(rng.choice(folders))
    manifest = scan(tmp_path)

    def reached(folder):  # by the program find, which follows links and reports circles
        found = subprocess.run(["find", "-L", folder, "-name", "*.mp4"], capture_output=True, text=True, check=False)
        return {Path(line).resolve() for line in found.stdout.splitlines()}

    for label in manifest.classes:
        mine = [
            Path(manifest.path(i)).resolve()
            for i in np.flatnonzero(manifest.targets(range(len(manifest)))[:, manifest.classes.index(label)])
        ]
        assert sorted(mine) == sorted(reached(tmp_path / label))


def test_a_folder_in_two_classes_is_told(source, tmp_path, caplog):
    place(source, tmp_path / "a/1.mp4")
    (tmp_path / "b").symlink_to("a")
    assert names(scan(tmp_path)) == ["a/1.mp4", "b/1.mp4"]
    assert "b is the same folder as one of class a: its videos are in both classes" in caplog.text


def test_links_that_lead_nowhere_are_broken(source, tmp_path):
    place(source, tmp_path / "a/1.mp4")
    (tmp_path / "a/2.mp4").symlink_to("/gone.mp4")
    (tmp_path / "b").symlink_to("/gone")
    broken = {b.path: b.reason for b in scan(tmp_path).broken}
    assert broken == {
        f"{tmp_path}/a/2.mp4": "a symbolic link to /gone.mp4, which does not exist",
        f"{tmp_path}/b": "a symbolic link to /gone, which does not exist",
    }


# ---- Extensions


@pytest.mark.parametrize("extension", ".gif .rmvb .rm .f4v .MP4 .Mp4 .MKV .m2v .wtv .nut .3G2 .h264 .mk3d .dv".split())
def test_extensions(extension, source, tmp_path):
    place(source, tmp_path / f"a/v{extension}")
    assert names(scan(tmp_path)) == [f"a/v{extension}"]
    assert len(scan(tmp_path / f"a/v{extension}")) == 1


def test_files_passed_over_are_counted_and_named(source, tmp_path, caplog, capsys):
    place(source, tmp_path / "a/1.mp4", tmp_path / "a/2.mp4.part", tmp_path / "a/no_extension", tmp_path / "a/.3.mp4")
    for i in range(3):
        (tmp_path / f"a/{i}.TXT").write_text("x")
    (tmp_path / ".hidden").mkdir()
    assert main(["scan", str(tmp_path / "a"), "-o", str(tmp_path / "m.parquet")]) == 0
    text = "files passed over, whose extension is no video's: 5: .txt 3 (0.TXT and 2 more), .part 1 (2.mp4.part), no"
    assert text in capsys.readouterr().out  # once, not in the log too
    assert any("hidden videos passed over: 1 (.3.mp4)" in r for r in dv.Manifest.read(tmp_path / "m.parquet").remarks)


def test_a_folder_without_videos_says_what_is_there(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ValueError, match=r"no videos in .* \(files passed over, .*: 1: \.txt 1 \(x.txt\)\)"):
        scan(tmp_path)


# ---- Class folders that are none


@pytest.mark.parametrize(
    "folders, words",
    [
        (["train/a", "train/b", "val/a"], "train, val are named like splits of a data set"),
        (["Train", "test", "c"], "Train, test are named like splits"),
        (["videos"], "the only class is videos: if that is no class, scan"),
        (["stuff/a", "stuff/b"], "the only class is stuff, which has folders of its own (a, b)"),
        (["train", "car"], None),  # a train may be a class beside a car
        (["a/videos", "b/videos"], None),
        (["a"], None),
    ],
)
def test_folders_that_are_no_classes(folders, words, source, tmp_path, caplog):
    place(source, *(tmp_path / folder / "v.mp4" for folder in folders))
    manifest = scan(tmp_path)
    assert (words in caplog.text) if words else not caplog.records
    assert any(words in remark for remark in manifest.remarks) if words else not manifest.remarks


# ---- Names


def test_names_are_stored_without_loss():
    """Property: any bytes that a file name may have come back, and names in UTF-8 are stored as they are."""
    rng = random.Random(1)
    for _ in range(2000):
        raw = bytes(
            rng.choice([*range(1, 47), *range(48, 256), 0xC3, 0xA9, 0xED, 0xB3]) for _ in range(rng.randint(1, 9))
        )
        name = os.fsdecode(raw)
        stored = store_name(name)
        stored.encode()  # is UTF-8
        assert os.fsencode(restore_name(stored)) == raw
        printable(name).encode()
        try:
            assert stored == raw.decode() and is_utf8(name)
        except UnicodeDecodeError:
            assert not is_utf8(name) and "\0" in stored


def test_names_that_are_not_utf8(source, tmp_path, capsys):
    """Through scan, the manifest's file, an interrupted scan's, the loader and messages; classes too."""
    names = [b"\xe9t\xe9/caf\xe9.mp4", b"ok/\xff\xfe.mp4", b"ok/plain.mp4", "ok/\u65e5\u672c.mp4".encode()]
    wanted = [tmp_path / "v" / os.fsdecode(name) for name in names]
    place(source, *wanted)
    (tmp_path / "v/ok" / os.fsdecode(b"\x80bad.mp4")).write_bytes(b"no video")
    output = tmp_path / "m.parquet"
    manifest = scan(tmp_path / "v", output=output)
    for some in (manifest, dv.Manifest.read(output), scan(tmp_path / "v", output=output)):
        paths = [Path(some.path(i)) for i in range(len(some))]
        assert sorted(map(os.fsencode, paths)) == sorted(map(os.fsencode, wanted))
        assert some.classes == ("ok", os.fsdecode(b"\xe9t\xe9"))
        assert all(path.exists() for path in paths) and os.fsencode(some.broken[0].path).endswith(b"\x80bad.mp4")
        assert {some.root / Path(name) for name in some.rows("path", range(4))} == set(paths)
    with dv.VideoLoader(manifest, RECIPE, 4, device="cpu", on_error="raise") as loader:
        assert loader.manifest.formats()
        assert len(next(iter(loader)).clips) == 4
    os.truncate(wanted[0], 100)
    with dv.VideoLoader(manifest, RECIPE, 4, device="cpu", shuffle=False) as loader:
        list(loader)
        print(loader.report())
        print(summary(manifest))
    printed = capsys.readouterr().out
    assert r"\xe9t\xe9/caf\xe9.mp4" in printed and r"\x80bad.mp4" in printed and r"\xe9t\xe9 (1)" in printed
    with dv.VideoLoader(manifest, RECIPE, 4, device="cpu", on_error="raise") as loader:
        with pytest.raises(dv.ClipError, match=r"\\xe9t\\xe9/caf\\xe9.mp4") as caught:
            next(iter(loader))
    assert Path(caught.value.path) == wanted[0]


def test_an_interrupted_scan_keeps_such_names(source, tmp_path):
    path = tmp_path / "v" / os.fsdecode(b"\xe9.mp4")
    place(source, path)
    code = (  # what measures is replaced: the scan ends after the first video
        "import dali_vidaug as dv, dali_vidaug.data.scan as s\n"
        "def stop(*a): raise KeyboardInterrupt\n"
        "s.find = stop\n"
        f"try: dv.scan({str(tmp_path / 'v')!r}, output={str(tmp_path / 'm.parquet')!r}, progress=False)\n"
        "except KeyboardInterrupt: print('stopped')\n"
    )
    assert "stopped" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (tmp_path / "m.parquet.partial").stat().st_size > 10
    manifest = scan(tmp_path / "v", output=tmp_path / "m.parquet")
    assert Path(manifest.path(0)) == path


def test_lists_with_names_that_are_not_utf8(source, tmp_path):
    place(source, tmp_path / os.fsdecode(b"\xe9.mp4"))
    (tmp_path / "l.csv").write_bytes(b"path,label,caption\n\xe9.mp4,a,caf\xc3\xa9\n")
    manifest = scan(tmp_path / "l.csv")
    assert Path(manifest.path(0)).exists() and manifest.rows("caption", [0])[0] == "caf\u00e9"
    assert manifest.rows("caption").tolist() == manifest.rows("caption", range(len(manifest))).tolist()
    (tmp_path / "l.csv").write_bytes(b"path,label\n\xe9.mp4,caf\xe9\n")
    with pytest.raises(ValueError, match="line 2: label is not UTF-8 text"):
        scan(tmp_path / "l.csv")


# ---- What is said


def test_scan_prints_classes_and_columns(source, tmp_path, capsys):
    place(source, tmp_path / "v.mp4")
    rows = [f"v.mp4,{label},a,b,0" for label in ["run"] * 3 + ["walk"] * 2 + [""]]
    (tmp_path / "l.csv").write_text("\n".join(["path,label,caption,subject,start", *rows]))
    assert main(["scan", str(tmp_path / "l.csv"), "-o", str(tmp_path / "m.parquet")]) == 0
    text = capsys.readouterr().out
    assert "classes: run (3), walk (2); from 2 to 3 samples in each\nsamples without a label: 1\n" in text
    assert "columns used: path, label, start\ncolumns kept with their rows, not used: caption, subject\n" in text
    arguments = ["--classes", str(tmp_path / "c.txt"), "--multi-label", ";", "--label-columns", "caption", "subject"]
    (tmp_path / "c.txt").write_text("".join(f"{name}\n" for name in ("caption=a", "subject=c", "subject=b")))
    assert main(["scan", str(tmp_path / "l.csv"), "-o", str(tmp_path / "n.parquet"), *arguments]) == 0
    assert "classes: caption=a (6), subject=c (0), subject=b (6)" in capsys.readouterr().out
    assert np.array_equal(dv.Manifest.read(tmp_path / "n.parquet").targets([5]), [[1, 0, 1]])
    arguments = ["--like", str(tmp_path / "m.parquet")]
    assert main(["scan", str(tmp_path / "l.csv"), "-o", str(tmp_path / "o.parquet"), *arguments]) == 0


def test_many_classes_are_shortened(source, tmp_path):
    place(source, tmp_path / "v.mp4")
    (tmp_path / "l.csv").write_text("\n".join(["path,label", *(f"v.mp4,class{i:03d}" for i in range(200))]))
    text = summary(scan(tmp_path / "l.csv"))
    assert "200 classes" in text and "class000 (1)" in text and "class199 (1)" in text and len(text) < 1000


def test_a_class_folder_without_videos_is_told(source, tmp_path, caplog):
    place(source, tmp_path / "a/1.mp4")
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "notes.txt").touch()
    (tmp_path / "again").symlink_to(tmp_path)
    assert scan(tmp_path).classes == ("a",)
    assert "folders without videos, which are no classes: 2 (b, c)" in caplog.text
