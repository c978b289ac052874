"""Files that are named one by one, with labels and columns; files that are not where a list says."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import _real, write_numbered

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.commands.summary import summary
from dali_vidaug.data.manifest import Manifest


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos in folders of folders; video i has 5 + i frames."""
    folder = tmp_path_factory.mktemp("files")
    return [write_numbered(folder / f"{i % 2}" / f"{i}.mp4", 5 + i) for i in range(6)]


def scan(*arguments, **options):
    return dv.scan(*arguments, progress=False, **options)


def num_frames(manifest):
    return manifest.rows("num_frames", range(len(manifest))).tolist()


def test_paths_alone(videos):
    """In their order; the root is the deepest folder that holds them, and a part of the manifest can move."""
    for paths in (videos, map(str, videos), tuple(videos), np.array([str(path) for path in videos])):
        manifest = scan(paths)
        assert num_frames(manifest) == [5, 6, 7, 8, 9, 10] and manifest.labels.tolist() == [-1] * 6
        assert manifest.root == str(videos[0].parents[1]) and manifest.path(3) == str(videos[3])
        assert manifest.classes == () and manifest.targets([0, 1]).shape == (2, 0)
    assert scan([videos[2]]).root == str(videos[2].parent)
    assert num_frames(scan([videos[4], videos[0], videos[4]])) == [9, 5, 9]


def test_paths_are_relative_to_the_working_folder_or_the_root(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(videos[0].parent)
    assert scan(["0.mp4", "../1/1.mp4"]).path(1) == str(videos[1])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v" / "v").mkdir(parents=True)
    (tmp_path / "v" / "v" / "x.mp4").symlink_to(videos[5])
    (tmp_path / "v" / "x.mp4").symlink_to(videos[4])
    manifest = scan(["v/x.mp4", tmp_path / "v" / "x.mp4"], root="v")
    assert num_frames(manifest) == [10, 9] and manifest.table["path"].to_pylist() == ["v/x.mp4", "x.mp4"]
    manifest = scan(["0/0.mp4", "1/1.mp4", videos[2]], root=videos[0].parents[1])
    assert manifest.table["path"].to_pylist() == ["0/0.mp4", "1/1.mp4", "0/2.mp4"]  # so that it can move
    assert manifest.root == str(videos[0].parents[1]) and num_frames(manifest) == [5, 6, 7]


@pytest.mark.parametrize(
    "labels, classes, targets",
    [
        (["b", "a", None, "b", "a", ""], ("a", "b"), [1, 0, None, 1, 0, None]),
        ([2, 0, -1, 2, 0, None], ("0", "1", "2"), [2, 0, None, 2, 0, None]),
        (np.array([2, 0, -1, 2, 0, 1]), ("0", "1", "2"), [2, 0, None, 2, 0, 1]),
        (torch.tensor([2, 0, -1, 2, 0, 1]), ("0", "1", "2"), [2, 0, None, 2, 0, 1]),
        ([np.int64(1), torch.tensor(0), 1.0, 0, 1, float("nan")], ("0", "1"), [1, 0, 1, 0, 1, None]),
        (range(6), tuple("012345"), [0, 1, 2, 3, 4, 5]),
        ([None] * 6, (), [None] * 6),
    ],
)
def test_one_label_a_file(labels, classes, targets, videos):
    manifest = scan(videos, labels=labels)
    assert manifest.classes == classes and not manifest.multi_label
    expected = np.array([np.arange(len(classes)) == target for target in targets], np.float32)
    assert np.array_equal(manifest.targets(range(6)), expected.reshape(6, len(classes)))


def test_several_labels_a_file(videos):
    expected = [[1, 0], [0, 1], [1, 1], [0, 0], [0, 0], [1, 1]]
    for labels in (
        [["a"], ("b",), ["b", "a"], [], None, ["a", "b"]],
        [[0], [1], [1, 0], [], None, np.array([0, 1])],
    ):
        manifest = scan(videos, labels=labels)
        assert manifest.multi_label and manifest.targets(range(6)).tolist() == expected
    manifest = scan(videos, labels=["a", "b", "b;a", None, "", "a; b"], multi_label=";")
    assert manifest.multi_label and manifest.targets(range(6)).tolist() == expected


def test_labels_and_columns_stay_with_their_files(videos, tmp_path):
    """Where a file cannot be used, the rows after it move up, and what belongs to them moves with them."""
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    files = [videos[0], tmp_path / "bad.mp4", videos[1], tmp_path / "none.mp4", videos[2]]
    scores = np.array([0.5, 9.0, 1.5, 9.0, 2.5], np.float32)
    manifest = scan(files, labels=["x", "y", "y", "y", "x"], columns={"score": scores, "id": [10, 11, 12, 13, 14]})
    assert num_frames(manifest) == [5, 6, 7] and manifest.columns == ("score", "id")
    assert manifest.rows("score", range(3)).tolist() == [0.5, 1.5, 2.5]
    assert manifest.rows("score", [0]).dtype == np.float32 and manifest.rows("id", [0, 1, 2]).tolist() == [10, 12, 14]
    assert [manifest.classes[label] for label in manifest.labels] == ["x", "y", "x"] and len(manifest.broken) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(labels=["a"]), "labels must be one for each of 6 files, got 1"),
        (dict(labels="abcdef"), "labels must be one for each file, got 'abcdef'"),
        (dict(labels={"a": 1}), "labels must be one for each file, got {'a': 1}"),
        (
            dict(labels=[["a"], "b", *"cdef"]),
            r"labels must be one a file or a list a file, got \['a'\] at 0 and 'b' at 1",
        ),
        (dict(labels=[0, 1, 0, 1.5, 0, 1]), r"file 3 \(.*3.mp4\): labels that are numbers must be whole, got 1.5"),
        (dict(labels=[0, 1, 0, True, 0, 1]), "a label must be text or a whole number, got True at 3"),
        (dict(labels=np.eye(6, 3, dtype=int)), r"labels look multi-hot, got \[1, 0, 0\] at 0; expected the classes"),
        (dict(labels=[[0, 1], [1, 0]] * 3), r"look multi-hot, .*numpy.flatnonzero.*numpy.argmax"),
        (dict(labels=["a", {}, *"cdef"]), "a label must be text or a whole number, got {} at 1"),
        (dict(labels=list("abcdef"), classes=["a", "b"]), r"file 2 \(.*\): label 'c' is not among the 2 classes"),
        (dict(columns={"x": [1]}), "column x must have a value for each of 6 files, got 1"),
        (dict(columns={"x": [1, "a", 1, 1, 1, 1]}), "column x must have values of one kind"),
        (dict(columns={"path": range(6)}), "columns must have names of their own, got 'path'"),
        (dict(columns={"label": range(6)}, labels=range(6)), "columns must have names of their own, got 'label'"),
        (dict(label_columns=("a",)), "label_columns is for list files; a list of paths has labels="),
        (dict(root="/no such folder"), "root must be a folder, there is no folder /no such folder"),
    ],
)
def test_what_is_refused(options, message, videos):
    with pytest.raises((ValueError, FileNotFoundError), match=f"{message}"):
        scan(videos, **options)


@pytest.mark.parametrize(
    "paths, message",
    [
        ([], "the list of files is empty"),
        ([3], "a list of files must have paths, got 3 at 0"),
        (["a.mp4", None], "a list of files must have paths, got None at 1"),
        ([""], "a list of files must have paths, got '' at 0"),
        (3, "path must be a folder, a list, a video, or a list of paths, got 3"),
        (None, "path must be a folder, a list, a video, or a list of paths, got None"),
    ],
)
def test_what_is_no_list_of_paths(paths, message):
    with pytest.raises(ValueError, match=f"scan: {message}"):
        scan(paths)


def test_labels_are_for_lists_of_paths(videos):
    for path in (videos[0].parent, videos[0]):
        with pytest.raises(ValueError, match="labels and columns are for a list of paths, but .* is one path"):
            scan(path, labels=["a"])


def test_a_list_of_paths_is_scanned_again(videos, tmp_path, monkeypatch):
    output = tmp_path / "m.parquet"
    first = scan(videos, output=output, labels=range(6))
    monkeypatch.setattr("dali_vidaug.data.measuring.measure", lambda *a: pytest.fail("measured again"))
    again = scan(videos, output=output, labels=range(6))
    assert again.table.equals(first.table) and Manifest.read(output).table.equals(first.table)


@pytest.mark.parametrize("seed", range(5))
def test_any_list_of_paths(seed, videos):
    """Any files in any order, as a list of paths and as a CSV file: the same manifest."""
    rng = np.random.default_rng(seed)
    chosen = [videos[i] for i in rng.integers(0, 6, int(rng.integers(1, 12)))]
    labels = [["walk", "run", "007", "1e3", "", "a b"][i] for i in rng.integers(0, 6, len(chosen))]
    labels[0] = "walk"
    folder = videos[0].parents[1]
    lines = [f"{path.relative_to(folder)},{label}" for path, label in zip(chosen, labels, strict=True)]
    (folder / f"{seed}.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    from_csv, from_list = scan(folder / f"{seed}.csv"), scan(chosen, root=folder, labels=labels)
    assert from_list.table.equals(from_csv.table)
    assert (from_list.classes, from_list.root) == (from_csv.classes, from_csv.root)


# ---- files that do not exist


@pytest.mark.parametrize(
    "names, root, found",
    [
        (["0/0.mp4", "1/1.mp4"], "1", ""),  # the list's folder holds them, the root does not
        (["0.mp4", "2.mp4"], "", "0"),
        (["files/0/0.mp4"], "", ".."),
    ],
)
def test_a_wrong_root_says_where_it_looked(names, root, found, videos, tmp_path, capsys):
    folder = videos[0].parents[1]
    (tmp_path / "files").symlink_to(folder)
    base = tmp_path if found == ".." else folder
    wrong = (tmp_path / "empty") if found == ".." else folder / root
    wrong.mkdir(exist_ok=True)
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(names) + "\n")
    right = base if found in ("", "..") else base / found
    message = (
        f"files that do not exist in the root {wrong}: {len(names)} ({', '.join(names)}); "
        f"{names[0]} is in {right}: root={str(right)!r}"
    )
    assert main(["scan", str(tmp_path / "list.csv"), "--root", str(wrong), "-o", str(tmp_path / "m.parquet")]) == 1
    error = capsys.readouterr().err
    assert f"the first: {wrong}/{names[0]}: the file does not exist" in error and message in error
    assert len(scan(tmp_path / "list.csv", root=right)) == len(names)


def test_files_that_are_found_nowhere(videos, tmp_path, caplog):
    (tmp_path / "s" / "x1").mkdir(parents=True)
    (tmp_path / "s" / "x1" / "z.mp4").touch()  # which x[1]/*.mp4 does not name
    (tmp_path / "some.csv").write_text(f"path\n{videos[0]}\nx[1]/*.mp4\ny.mp4\n")
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        manifest = scan(tmp_path / "some.csv")
    said = f"files that do not exist in the root {tmp_path}: 2 (x[1]/*.mp4, y.mp4)"
    assert said in manifest.remarks and said in caplog.text and len(manifest.broken) == 2
    assert not any("do not exist" in remark for remark in scan(videos[0].parent).remarks)


@pytest.mark.parametrize("root", ["none", "list.csv"])
def test_a_root_that_is_no_folder(root, videos, tmp_path):
    (tmp_path / "list.csv").write_text(f"path\n{videos[0]}\n")
    with pytest.raises(FileNotFoundError, match=f"scan: root must be a folder, there is no folder .*{root}"):
        scan(tmp_path / "list.csv", root=tmp_path / root)


# ---- the summary


def test_a_summary_in_the_singular(videos):
    lines = summary(scan(videos[:1], labels=["walk"])).splitlines()
    assert lines[0] == "1 video, 1 class, 0.2 seconds, 5 frames (5 each)"
    assert "classes: walk (1)" in lines
    assert repr(scan(videos[:1], labels=["walk"])) == f"<Manifest: 1 video, 1 class, 0 broken, {videos[0].parent}>"
    assert repr(scan(videos[:2])) == f"<Manifest: 2 videos, 0 classes, 0 broken, {videos[0].parents[1]}>"


def test_a_summary_counts_each_file_once(videos):
    """Segments of a file are samples, and neither hours nor frames of their own."""
    folder = videos[0].parents[1]
    rows = ["0/0.mp4,a,0,2", "0/0.mp4,b,2,4", "1/1.mp4,a,0,3"]
    (folder / "parts.csv").write_text("path,label,start_frame,end_frame\n" + "\n".join(rows) + "\n")
    lines = summary(scan(folder / "parts.csv")).splitlines()
    assert lines[0] == "3 samples of 2 videos, 2 classes, 0.4 seconds, 11 frames (5 to 6 each)"
    assert lines[1] == "codecs: h264 2; sizes: 160x96 (2)" and lines[2].endswith(
        "a (2), b (1); from 1 to 2 samples in each"
    )


def test_a_summary_without_labels(videos):
    assert "no classes: no sample has a label" in summary(scan(videos)).splitlines()
    assert "classes: a (3), b (3); 3 samples in each" in summary(scan(videos, labels=["a", "b"] * 3)).splitlines()


def test_the_command_takes_several_videos(videos, tmp_path, capsys):
    assert main(["scan", *map(str, videos[:3]), "-o", str(tmp_path / "m.parquet")]) == 0
    assert "3 videos, 0 classes" in capsys.readouterr().out and len(Manifest.read(tmp_path / "m.parquet")) == 3


def test_real_files_named_one_by_one():
    files = sorted(Path(_real("fight")).glob("*/*.mp4"))[::30]
    manifest = scan(files, labels=[path.parent.name for path in files])
    assert len(manifest) == len(files) and manifest.classes == ("fight", "noFight")
    train, val = manifest.split(0.7, by="class")
    assert {path.split("/")[0] for path in train.table["path"].to_pylist()} == set(manifest.classes)
    assert len(train + val) == len(files)
