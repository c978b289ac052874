"""Manifests as values: parts of them, two joined, and the file of one where a manifest is expected."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import RECIPE, take_batches

import dali_vidaug as dv
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.schema import SCHEMA, Broken
from dali_vidaug.fingerprint import fingerprint

ROW = {
    "first_frame": 0, "last_frame": 50, "num_frames": 50, "stream": 0, "width": 160, "height": 96, "orientation": 1,
    "fps": 25.0, "duration_seconds": 2.0, "codec": "h264", "pixel_format": "yuv420p", "keyframes": [0, 24],
    "time_base": 0.04, "pts_first": 0, "pts_step": 1.0, "pts": None, "regular": True, "damaged": [], "notes": None,
    "bytes": 1000, "mtime_ns": 1, "colorspace": 2,
}  # fmt: skip


def make_manifest(paths, labels=None, num_classes=0, root="/data", columns=None, **fields):
    """A manifest without files. Labels: an index each, or a list of them; other fields: a value for each row."""
    labels = [-1] * len(paths) if labels is None else labels
    several = any(isinstance(label, list) for label in labels)
    rows = [
        {**ROW, "path": path, "label": -1 if several else label, "labels": label if several else None}
        | {name: values[i] for name, values in fields.items()}
        for i, (path, label) in enumerate(zip(paths, labels, strict=True))
    ]
    table = pa.Table.from_pylist(rows, SCHEMA)
    for name, values in (columns or {}).items():
        table = table.append_column(name, pa.array(values))
    return Manifest(table, [f"class {i}" for i in range(num_classes)], root)


def paths_of(manifest):
    return manifest.table["path"].to_pylist()


def names(count):
    return [f"{i:04d}.mp4" for i in range(count)]


# ---- select


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([3, 0], [3, 0]),
        ([2, 2, 2], [2, 2, 2]),
        (np.array([4, 5], np.uint8), [4, 5]),
        (torch.tensor([1, 3]), [1, 3]),
        (range(2, 4), [2, 3]),
        (slice(-2, None), [4, 5]),
        (slice(None, None, -2), [5, 3, 1]),
        ([True, False, False, True, False, False], [0, 3]),
        (np.arange(6) % 2 == 1, [1, 3, 5]),
        (torch.arange(6) > 4, [5]),
    ],
)
def test_selected_rows(rows, expected):
    labels = [0, 1, 2, 0, 1, 2]
    manifest = make_manifest(names(6), labels, 3, columns={"caption": list("abcdef")}, notes=[*"uvwxyz"])
    part = manifest.select(rows)
    assert paths_of(part) == [f"{i:04d}.mp4" for i in expected]
    assert part.labels.tolist() == [labels[i] for i in expected] and part.classes == manifest.classes
    assert part.rows("caption", range(len(part))).tolist() == ["abcdef"[i] for i in expected]
    assert part.table["notes"].to_pylist() == ["uvwxyz"[i] for i in expected] and part.root == manifest.root
    assert part.path(0) == f"/data/{expected[0]:04d}.mp4" and part.video(0).path == part.path(0)
    assert f"{len(expected)} of 6 rows selected" in part.remarks[-1]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([0, -1], r"rows must be in \[0, 6\), got -1 to 0"),
        ([6], r"rows must be in \[0, 6\), got 6 to 6"),
        ([0.0, 1.0], "rows must be 1-dimensional integers, got float64"),
        (3, r"rows must be 1-dimensional integers, got int64 \(\)"),
        ("abc", "rows must be 1-dimensional integers"),
        ([True] * 5, r"a mask must have one value for each of 6 rows, got \(5,\)"),
        (True, r"a mask must have one value for each of 6 rows, got \(\)"),
        ([], "none of 6 rows are chosen"),
        ([False] * 6, "none of 6 rows are chosen"),
        (slice(3, 3), "none of 6 rows are chosen"),
    ],
)
def test_rows_that_cannot_be_selected(rows, message):
    with pytest.raises(ValueError, match=f"Manifest.select: {message}"):
        make_manifest(names(6)).select(rows)


def test_a_part_is_a_manifest(tmp_path):
    """It is written and read, and a state of a loader knows it, whether or not Arrow holds it in several pieces."""
    labels = [[0], [], [1, 2], [0, 2], [1], [2]]
    manifest = make_manifest(names(6), labels, 3, pts=[None, [0, 3], None, [5, 6, 7], [], None])
    whole = manifest.select(slice(None))
    assert fingerprint(whole) == fingerprint(manifest)
    part = manifest.select([1, 3, 5])
    assert part.multi_label and part.targets(range(3)).tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 1]]
    part.write(tmp_path / "part.parquet")
    again = Manifest.read(tmp_path / "part.parquet")
    assert fingerprint(again) == fingerprint(part) != fingerprint(manifest) and again.remarks == part.remarks
    joined = manifest.select(slice(3)) + manifest.select(slice(3, 6))
    assert fingerprint(joined) == fingerprint(manifest)
    assert {**fingerprint(manifest.select([5, 4, 3, 2, 1, 0]))}["rows"] == fingerprint(manifest)["rows"]


# ---- split


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [3, 5, 10, 333])
@pytest.mark.parametrize("fraction", [0.5, 0.8, 0.31])
def test_a_split_has_every_row_once(size, fraction, seed):
    manifest = make_manifest(names(size))
    first, second = manifest.split(fraction, seed=seed)
    assert sorted(paths_of(first) + paths_of(second)) == paths_of(manifest)
    assert paths_of(first) == sorted(paths_of(first))  # in the order of the manifest
    assert abs(len(first) - fraction * size) <= 0.5
    assert (
        f"{len(first)} of {size} rows, the first part of split({fraction}, seed={seed}, by=None)" in first.remarks[-1]
    )


def test_a_split_depends_on_the_files_alone():
    """Not on their order, nor on the root; and where a file is added, one other at most changes sides."""
    manifest = make_manifest(names(200))
    first, second = (set(paths_of(part)) for part in manifest.split(0.7, seed=4))
    order = np.random.default_rng(0).permutation(200)
    shuffled = make_manifest([names(200)[i] for i in order], root="/elsewhere").split(0.7, seed=4)
    assert (set(paths_of(shuffled[0])), set(paths_of(shuffled[1]))) == (first, second)
    assert set(paths_of(manifest.split(0.7, seed=5)[0])) != first
    more = set(paths_of(make_manifest([*names(200), "new.mp4"]).split(0.7, seed=4)[0])) - {"new.mp4"}
    assert len(more ^ first) <= 1
    labels = {name: i % 5 for i, name in enumerate([*names(200), "new.mp4"])}
    many = [names(200), [*names(200), "new.mp4"]]
    before, after = (make_manifest(some, [labels[name] for name in some], 5).split(0.7, by="class")[0] for some in many)
    moved = (set(paths_of(before)) ^ set(paths_of(after))) - {"new.mp4"}
    assert max(Counter(labels[name] for name in moved).values(), default=0) <= 1


def test_a_split_that_was_made_before_stays():
    """Literally: a data set that is split again is split in the same way in every release."""
    assert paths_of(make_manifest(names(10)).split(0.7)[1]) == ["0001.mp4", "0003.mp4", "0006.mp4"]


def test_complete_paths_are_not_moved_by_a_new_root(numbered, tmp_path, caplog):
    names = sorted(map(str, numbered.rglob("*.mp4")))[:2]
    (tmp_path / "new").mkdir()
    dv.scan(names, root=tmp_path, output=tmp_path / "m.parquet", progress=False)
    caplog.clear()
    moved = Manifest.read(tmp_path / "m.parquet", root=tmp_path / "new")
    assert [moved.path(i) for i in range(2)] == names
    assert "root= moves relative names alone: 2 rows of 2 have complete paths, and stay where they are" in caplog.text
    with pytest.raises(ValueError, match="2 rows of 2 have complete paths, which cannot be below s3://bucket/videos"):
        Manifest.read(tmp_path / "m.parquet", root="s3://bucket/videos")
    caplog.clear()
    assert Manifest.read(tmp_path / "m.parquet").path(1) == names[1] and not caplog.text


def test_splits_are_random():
    """Over many seeds each file is as often in the first part as its share says, and pairs meet as often."""
    manifest, count = make_manifest(names(20)), 600
    inside = np.array([np.isin(names(20), paths_of(manifest.split(0.5, seed=seed)[0])) for seed in range(count)])
    sigma = (0.25 / count) ** 0.5
    assert np.abs(inside.mean(0) - 0.5).max() < 4 * sigma
    together = (inside[:, :, None] == inside[:, None]).mean(0)[np.triu_indices(20, 1)]
    assert np.abs(together - 9 / 19).max() < 5 * sigma


def test_a_file_is_on_one_side():
    """Segments of a file, also where it is written in two ways."""
    paths = [f"{i // 4}.mp4" if i % 2 else f"./x/../{i // 4}.mp4" for i in range(80)]
    for by in (None, "class", "subject"):
        manifest = make_manifest(paths, [i % 3 for i in range(80)], 3, columns={"subject": [i // 5 for i in range(80)]})
        first, second = ({path.split("/")[-1] for path in paths_of(part)} for part in manifest.split(0.6, by=by))
        assert not first & second and len(first | second) == 20


@pytest.mark.parametrize("seed", range(4))
def test_the_share_of_each_class(seed):
    """Files of one class: within one sample of its share in each class, within a half of it in all."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(12, 400, p=np.arange(1, 13) / 78).tolist() + [-1] * 7 + [12]
    fraction = [0.8, 0.5, 0.9, 0.23][seed]
    manifest = make_manifest(names(len(labels)), labels, 13)
    first, second = manifest.split(fraction, seed=seed, by="class")
    assert abs(len(first) - fraction * len(labels)) <= 0.5
    assert np.abs(first.class_counts() - fraction * manifest.class_counts()).max() < 1 + 1e-9
    assert abs((first.labels == -1).sum() - fraction * 7) < 1 + 1e-9
    plain = manifest.split(fraction, seed=seed)[0]
    assert np.abs(plain.class_counts() - fraction * manifest.class_counts()).max() > 1  # so the above says something
    assert sorted(paths_of(first) + paths_of(second)) == paths_of(manifest)


def test_classes_of_two_samples_keep_their_share_together():
    first, second = make_manifest(names(200), [i // 2 for i in range(200)], 100).split(0.8, by="class")
    assert (len(first), len(second)) == (160, 40) and second.class_counts().max() == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_share_of_several_labels(seed):
    rng = np.random.default_rng(seed)
    labels = [sorted(set(rng.choice(9, rng.integers(0, 4), p=np.arange(1, 10) / 45).tolist())) for _ in range(500)]
    manifest = make_manifest(names(500), labels, 9)
    first, second = manifest.split(0.8, seed=seed, by="class")
    off = np.abs(first.class_counts() - 0.8 * manifest.class_counts())
    assert off.max() <= 2 and abs(len(first) - 400) <= 3
    assert np.abs(manifest.split(0.8, seed=seed)[0].class_counts() - 0.8 * manifest.class_counts()).max() > 3
    assert sorted(paths_of(first) + paths_of(second)) == paths_of(manifest)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("by", ["subject", ("class", "subject"), ("subject", "camera")])
def test_a_group_is_on_one_side(by, seed):
    rng = np.random.default_rng(seed)
    subjects, cameras = rng.integers(0, 30, 300), rng.integers(0, 2000, 300)
    labels = ((subjects + rng.integers(0, 2, 300)) % 4).tolist()
    manifest = make_manifest(names(300), labels, 4, columns={"subject": subjects, "camera": [f"c{c}" for c in cameras]})
    first, second = manifest.split(0.7, seed=seed, by=by)
    for column in {"subject", *([by] if isinstance(by, str) else by)} - {"class"}:
        one, other = (set(part.rows(column, range(len(part))).tolist()) for part in (first, second))
        assert not one & other
    assert sorted(paths_of(first) + paths_of(second)) == paths_of(manifest)
    if by != ("subject", "camera"):  # where chains of cameras link many subjects
        assert abs(len(first) - 210) <= np.bincount(subjects).max()
    if by == ("class", "subject"):
        assert np.abs(first.class_counts() - 0.7 * manifest.class_counts()).max() <= 12
    if by == "subject":
        assert abs(len(first) - 210) <= np.bincount(subjects).max() / 2


def sides(manifest, **options):
    """Over several seeds, which rows are in the first part: by ids, that each row has."""
    parts = [manifest.split(0.5, seed=seed, **options) for seed in range(12)]
    return [set(first.rows("id").tolist()) for first, _ in parts]


def in_halves(paths, root, **fields):
    """Files that have two rows each, half a video, under two names."""
    ranges = {"first_frame": [0, 25] * (len(paths) // 2), "last_frame": [25, 50] * (len(paths) // 2)}
    return make_manifest(paths, root=root, columns={"id": range(len(paths))}, **ranges, **fields)


@pytest.mark.parametrize("other", ["/data/{}", "./{}", "/data/x/../{}", "x/../{}", "//data/{}"])
def test_a_file_that_is_written_in_two_ways_is_one(other):
    """It goes where it goes when all rows have the path that is relative to the root."""
    files = [f"{i}.mp4" for i in range(8)]
    mixed = in_halves([path for file in files for path in (other.format(file), file)], "/data")
    plain = in_halves([path for file in files for path in (file, file)], "/data")
    assert sides(mixed) == sides(plain)


def test_complete_paths_are_drawn_from_as_they_are():
    """Below the root or not: no split that was made before changes, unless a file was on both of its sides."""
    paths = [f"/data/{name}" for name in names(10)]
    below, elsewhere = (make_manifest(paths, root=root).split(0.7)[1] for root in ("/data", "/elsewhere"))
    assert paths_of(below) == paths_of(elsewhere) == ["/data/0000.mp4", "/data/0002.mp4", "/data/0009.mp4"]


def test_a_url_below_the_root_is_the_file_that_it_names():
    """By its text: no file system is asked of a bucket."""
    files = [f"{i}.mp4" for i in range(8)]
    mixed = in_halves([path for file in files for path in (f"s3://b/c/{file}", file)], "s3://b/c")
    assert sides(mixed) == sides(in_halves([path for file in files for path in (file, file)], "s3://b/c"))


@pytest.mark.parametrize("root", ["data", "alias"])
def test_links_to_a_file_are_that_file(root, tmp_path):
    """Links to files and to folders, names that are not UTF-8 too; copies are files of their own."""
    (tmp_path / "data" / "caf\udce9").mkdir(parents=True)
    (tmp_path / "alias").symlink_to("data")
    paths = []
    for i in range(8):
        (tmp_path / f"data/caf\udce9/{i}").write_bytes(b"")
        (tmp_path / f"data/link{i}").symlink_to(f"caf\udce9/{i}")
        paths += [f"caf\0e9/{i}", (f"link{i}", f"{tmp_path}/data/caf\0e9/{i}")[i % 2]]
    digests = [digest for i in range(8) for digest in (i // 3, i // 3)]
    for first in sides(in_halves(paths, tmp_path / root, content_digest=digests)):
        assert first and all((2 * i in first) == (2 * i + 1 in first) for i in range(8))
    split = {len(first & {0, 4}) for first in sides(in_halves(paths, tmp_path / root, content_digest=[1] * 16))}
    assert split == {0, 1, 2}


def test_only_files_of_the_same_content_are_looked_at(monkeypatch):
    """Asking the file system of a million paths takes long, and buckets have none."""
    asked = []
    monkeypatch.setattr("os.path.realpath", lambda path: asked.append(path) or path)
    make_manifest(names(6), content_digest=range(6)).split(0.5)
    make_manifest(names(6), content_digest=[1] * 6, bytes=range(6)).split(0.5)
    make_manifest(["a", "a", "b", "/data/b"], content_digest=[1, 1, 2, 2]).split(0.5)
    make_manifest(names(6), root="s3://b").split(0.5)
    make_manifest([f"s3://b/{name}" for name in names(6)]).split(0.5)
    assert asked == []
    make_manifest(["a", "b", "c"], content_digest=[1, 1, 2]).split(0.5)
    assert sorted(asked) == ["/data/a", "/data/b"]


def test_groups_that_share_a_file_are_one():
    manifest = make_manifest(["a", "a", "b", "c", "d"], columns={"subject": ["1", "2", "2", "3", "3"]})
    parts = {frozenset(paths_of(part)) for seed in range(9) for part in manifest.split(0.5, seed=seed, by="subject")}
    assert parts == {frozenset("ab"), frozenset("cd")}


@pytest.mark.parametrize("fraction", [0, 1, 80, -0.1, float("nan"), "0.8", None, True])
def test_fractions_that_are_none(fraction):
    with pytest.raises(ValueError, match=r"Manifest.split: fraction must be in \(0, 1\), got"):
        make_manifest(names(9)).split(fraction)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(fraction=0.99), r"fraction 0.99 leaves nothing for the second part: there are 6 files, with 1 to 1 of 6"),
        (dict(fraction=0.01), r"fraction 0.01 leaves nothing for the first part"),
        (
            dict(by="all"),
            "fraction 0.7 leaves nothing for the second part: there are 1 groups of all, with 6 to 6 of 6 rows",
        ),
        (dict(by="subject"), r"subject is missing in 2 rows, the first is 1 \(0001.mp4\): its group is not known"),
        (dict(by="sex"), "by must be 'class' or a column, got 'sex'; columns of your own: subject, all"),
        (dict(by="label"), "by='label' would part the classes; by='class' keeps their shares"),
        (dict(by="keyframes"), "by must be a column of single values, but keyframes has list"),
        (dict(by="class"), "by='class' needs labels, but no row has one"),
        (dict(seed=1.5), "seed must be an int, got 1.5"),
        (dict(seed=None), "seed must be an int, got None"),
    ],
)
def test_splits_that_cannot_be(options, message):
    columns = {"subject": ["a", "", "b", None, "c", "d"], "all": ["x"] * 6}
    with pytest.raises(ValueError, match=f"Manifest.split: {message}"):
        make_manifest(names(6), columns=columns).split(**{"fraction": 0.7, **options})


def test_a_column_named_class_is_not_taken_for_the_labels():
    with pytest.raises(ValueError, match="by='class' means the labels, but there is a column class too"):
        make_manifest(names(6), [0] * 6, 1, columns={"class": [0] * 6}).split(0.5, by="class")


def test_a_class_that_a_part_lacks_is_named(caplog):
    manifest = make_manifest(names(9), [0] * 8 + [1], 3)
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        manifest.split(0.5, by="class")
    assert "part has no sample of 1 class: class 1" in caplog.text and "class 2" not in caplog.text


# ---- +


def test_manifests_of_two_roots_are_joined(tmp_path):
    one = make_manifest(["x.mp4", "/abs/y.mp4"], [0, 1], 2, tmp_path / "a", {"caption": ["p", "q"]})
    other = make_manifest(["../b/x.mp4", "caf\0e9.mp4"], [1, -1], 2, tmp_path / "b" / "c", {"subject": [7, 8]})
    joined = one + other
    assert [joined.path(i) for i in range(4)] == [
        f"{tmp_path}/a/x.mp4", "/abs/y.mp4", f"{tmp_path}/b/c/../b/x.mp4", f"{tmp_path}/b/c/caf\udce9.mp4",
    ]  # fmt: skip
    assert joined.root == str(tmp_path) and joined.labels.tolist() == [0, 1, 1, -1]
    assert joined.rows("caption", range(4)).tolist() == ["p", "q", None, None]
    assert joined.rows("subject", range(4)).tolist() == [None, None, 7, 8]
    joined.write(tmp_path / "m.parquet")
    assert fingerprint(Manifest.read(tmp_path / "m.parquet")) == fingerprint(joined)


def test_a_root_that_holds_the_other_stays(tmp_path):
    joined = make_manifest(["x.mp4"], root=tmp_path) + make_manifest(["x.mp4"], root=tmp_path / "sub")
    assert paths_of(joined) == ["x.mp4", "sub/x.mp4"] and joined.root == str(tmp_path)
    assert (make_manifest(["x"], root="a") + make_manifest(["y"], root="a")).root == "a"


def test_complete_paths_below_the_root_of_both_become_relative(tmp_path):
    """One name for one file, and still that file; not where the root depends on the working folder."""
    one = in_halves([f"{tmp_path}/d/x.mp4", "s3://b/x.mp4"], tmp_path / "lists")
    other = make_manifest(["x.mp4", f"{tmp_path}//d/../d/x.mp4"], root=tmp_path / "d", last_frame=[9, 8])
    joined = one + other
    assert paths_of(joined) == ["d/x.mp4", "s3://b/x.mp4", "d/x.mp4", "d/../d/x.mp4"]
    assert joined.path(0) == f"{tmp_path}/d/x.mp4" and joined.root == str(tmp_path)
    complete = [f"{Path.cwd()}/x", f"{Path.cwd()}/y"]
    assert paths_of(make_manifest(complete[:1], root=".") + make_manifest(complete[1:], root=".")) == complete


def test_formats_of_both_are_counted():
    """Their columns of codecs have other dictionaries."""
    one = make_manifest(names(2), codec=["h264", "vp9"])
    other = make_manifest(["a", "b", "c"], codec=["av1", "vp9", "vp9"])
    files = {kind.codec: files[0] for kind, files in (one + other).formats().items()}
    assert files == Counter(["h264", "vp9", "av1", "vp9", "vp9"])


def test_remarks_and_broken_files_of_both():
    one, other = make_manifest(["a"]), make_manifest(["b"])
    one.remarks, other.remarks = ("same", "mine"), ("same", "theirs")
    one.broken, other.broken = (Broken("x", "empty"),), (Broken("y", "empty"), Broken("x", "empty"))
    joined = one + other
    assert joined.remarks == ("same", "mine", "theirs") and [b.path for b in joined.broken] == ["x", "y"]


def test_one_without_classes_is_joined_with_any():
    plain = make_manifest(["u", "v"])
    joined = plain + make_manifest(["a"], [1], 2)
    assert joined.classes == ("class 0", "class 1") and joined.labels.tolist() == [-1, -1, 1]
    several = make_manifest(["a", "b"], [[0, 1], []], 2) + plain
    assert several.multi_label and several.targets(range(4)).tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]


def test_one_without_labels_that_may_have_several_is_joined_with_any():
    """Each single label becomes a list of one; none is lost, whichever comes first."""
    single, unlabelled = make_manifest(["a", "b", "c"], [1, -1, 0], 2), make_manifest(["u", "v"], [[], []])
    targets = [[0, 1], [0, 0], [1, 0]], [[0, 0], [0, 0]]
    for joined, expected in ((single + unlabelled, targets), (unlabelled + single, targets[::-1])):
        assert joined.multi_label and joined.targets(range(5)).tolist() == [*expected[0], *expected[1]]
        assert joined.class_counts().tolist() == [1, 1] and joined.classes == single.classes
        assert set(joined.table["label"].to_pylist()) == {-1} and joined.table["labels"].null_count == 0
    plain = make_manifest(["p"])
    assert (plain + unlabelled).multi_label and (unlabelled + plain).table["labels"].to_pylist() == [[]] * 3


def test_single_labels_among_several_are_refused():
    """Which targets would be right cannot be known."""
    table = make_manifest(["a", "b"], [[0], []], 2).table
    index = table.column_names.index("label")
    table = table.set_column(index, "label", pa.array([-1, 1], pa.int32()))
    with pytest.raises(ValueError, match=r"manifest: 1 row of 2 with a single label.*; the first is 1 \(b\). Give "):
        Manifest(table, ["x", "y"])


def with_classes(manifest, classes):
    return Manifest(manifest.table, classes, manifest.root)


@pytest.mark.parametrize(
    "classes, message",
    [
        (("run", "sit", "walk"), "got 2 and 3; the first that differs is 1: 'walk' and 'sit'; only in the second: sit"),
        (("walk", "run"), "got 2 and 2; the first that differs is 0: 'run' and 'walk'. Scan the second with like="),
        (("run",), "got 2 and 1; the first that differs is 1: 'walk' and missing; only in the first: walk"),
    ],
)
def test_other_classes_are_refused(classes, message):
    one, other = with_classes(make_manifest(["a"]), ("run", "walk")), with_classes(make_manifest(["b"]), classes)
    with pytest.raises(ValueError, match=rf"manifest \+ manifest: the classes must be the same, {message}"):
        one + other


def test_one_label_and_several_are_refused():
    with pytest.raises(ValueError, match="the first has one label a sample and the second several labels"):
        make_manifest(["a"], [0], 1) + make_manifest(["b"], [[0]], 1)


def test_the_same_frames_twice_are_refused(tmp_path):
    one = make_manifest(["s/x.mp4", "y.mp4"], root=tmp_path)
    same = make_manifest(["x.mp4", "z.mp4"], root=tmp_path / "s")
    with pytest.raises(ValueError, match=rf"both have the same frames of 1 files, .*: {tmp_path}/s/x.mp4 \[0, 50\)"):
        one + same
    assert len(one + same.select([1])) == 3
    assert len(one + make_manifest(["x.mp4"], root=tmp_path / "s", last_frame=[49])) == 3  # another part of the file
    with pytest.raises(ValueError, match="both have the same frames of 2 files"):
        one + one


@pytest.mark.parametrize("values", [["1"], [1.5], [[1]]])
def test_columns_of_other_kinds_are_refused(values):
    """Numbers too: an id of 2**60 + 1 is none of float64's."""
    with pytest.raises(ValueError, match="column id is int64 in the first and .* in the second"):
        make_manifest(["a"], columns={"id": [2**60 + 1]}) + make_manifest(["b"], columns={"id": values})


def test_columns_that_widen_keep_their_values():
    small = make_manifest(["b"], columns={"id": pa.array([3], pa.int8())})
    joined = make_manifest(["a"], columns={"id": [2**60 + 1]}) + small + make_manifest(["c"], columns={"id": [None]})
    assert joined.rows("id", range(3)).tolist() == [2**60 + 1, 3, None]


def test_what_is_no_manifest_is_not_joined():
    for other in ("b.parquet", 1, None):
        with pytest.raises(TypeError, match="unsupported operand"):
            make_manifest(["a"]) + other


@pytest.mark.parametrize("seed", range(6))
def test_parts_and_sums(seed):
    """Whatever is split and joined again has each row once, with its columns."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(4, 60))
    manifest = make_manifest(names(size), rng.integers(-1, 3, size).tolist(), 3, columns={"id": rng.permutation(size)})
    first, second = manifest.split(0.5, seed=seed, by=["class", None, "id"][seed % 3])
    joined = (second + first).select(rng.permutation(size))
    ids = dict(zip(paths_of(manifest), manifest.rows("id", range(size)).tolist(), strict=True))
    labels = dict(zip(paths_of(manifest), manifest.labels.tolist(), strict=True))
    assert sorted(paths_of(joined)) == paths_of(manifest)
    assert [ids[path] for path in paths_of(joined)] == joined.rows("id", range(size)).tolist()
    assert [labels[path] for path in paths_of(joined)] == joined.labels.tolist()


# ---- files


def test_a_loader_takes_the_file_of_a_manifest(numbered_manifest, tmp_path):
    numbered_manifest.write(tmp_path / "m.parquet")
    expected = take_batches(dv.VideoLoader(numbered_manifest, RECIPE, 4, device="cpu"), 1)[0]
    for path in (tmp_path / "m.parquet", str(tmp_path / "m.parquet")):
        loader = dv.VideoLoader(path, RECIPE, 4, device="cpu")
        assert isinstance(loader.manifest, Manifest)
        assert torch.equal(take_batches(loader, 1)[0].clips, expected.clips)


def test_parts_are_loaded(numbered_manifest):
    train, val = numbered_manifest.split(0.5, by="class")
    assert train.class_counts().tolist() == val.class_counts().tolist() == [3, 3]
    both = val + train
    with dv.VideoLoader(both, RECIPE, 12, device="cpu", shuffle=False) as loader:
        batch = next(iter(loader))
    assert batch.targets.argmax(1).tolist() == both.labels.tolist()
    shown = [path.split("/")[-2] for path in batch.rows("path")]
    assert shown == [both.classes[label] for label in both.labels]


@pytest.mark.parametrize(
    "given, error, message",
    [
        ("none.parquet", FileNotFoundError, "VideoLoader: no manifest .*none.parquet"),
        (".", ValueError, r"is a folder; dv.scan\('.*'\) makes a manifest of a folder or a list"),
        ("list.csv", ValueError, r"list.csv is no manifest; dv.scan\('.*list.csv'\) makes a manifest"),
        ("list.parquet", ValueError, "list.parquet is no manifest; dv.scan"),
        ("old.parquet", ValueError, "manifest version 1, this release reads 3; scan again"),
    ],
)
def test_what_a_loader_says_of_other_paths(given, error, message, tmp_path):
    (tmp_path / "list.csv").write_text("path,label\na.mp4,x\n")
    pa.parquet.write_table(pa.table({"path": ["a.mp4"]}), tmp_path / "list.parquet")
    header = {"dali_vidaug": '{"version": 1}'}
    pa.parquet.write_table(pa.table({"path": ["a.mp4"]}).replace_schema_metadata(header), tmp_path / "old.parquet")
    with pytest.raises(error, match=message):
        dv.VideoLoader(tmp_path / given, RECIPE, 4)


@pytest.mark.parametrize("given", [None, ["a.mp4"], 3])
def test_what_a_loader_says_of_other_things(given):
    with pytest.raises(ValueError, match="VideoLoader: manifest must be a Manifest, or the file of one, got "):
        dv.VideoLoader(given, RECIPE, 4)
    with pytest.raises(ValueError, match=r"draw_plan: manifest must be a Manifest \(dv.Manifest.read, dv.scan\), got "):
        dv.draw_plan(given, RECIPE, [0])


@pytest.mark.parametrize("name", ["train.parquet", "train", "train.csv", "train.mp4"])
def test_a_scan_of_a_manifest_says_how_to_read_it(name, numbered_manifest, tmp_path):
    """By what it is, not by what it is called; a video's name alone says video."""
    numbered_manifest.write(tmp_path / "train.parquet")
    (tmp_path / "train.parquet").rename(tmp_path / name)
    message = r"is a manifest already: dv.Manifest.read\('.*'\) reads it"
    if name.endswith(".mp4"):
        message = "a Parquet file"
    with pytest.raises(ValueError, match=message):
        dv.scan(tmp_path / name, progress=False)
    with pytest.raises(ValueError, match="scan: got a Manifest, which is scanned already"):
        dv.scan(numbered_manifest)


@pytest.mark.parametrize("name", ["x.csv", "x", "x.txt", "x.parquet.gz", "x.mp4"])
def test_a_manifest_is_not_written_under_the_name_of_something_else(
    name, numbered, numbered_manifest, tmp_path, capsys
):
    from dali_vidaug.commands.cli import main

    with pytest.raises(ValueError, match=f"Manifest.write: a manifest is a Parquet file, .*got .*{name}"):
        numbered_manifest.write(tmp_path / name)
    with pytest.raises(ValueError, match=f"scan: output: a manifest is a Parquet file, .*got .*{name}"):
        dv.scan(numbered, output=tmp_path / name, progress=False)
    assert main(["scan", str(tmp_path / "no folder"), "-o", str(tmp_path / name)]) == 2
    assert "must end in .parquet or .pq" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
