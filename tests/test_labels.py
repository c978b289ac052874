"""Labels: which number a class gets, from every way to write it; several labels; classes that are given."""

import json
import os
import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import RECIPE, _real, write_numbered

import dali_vidaug as dv
from dali_vidaug.media.encode import write_video


def scan(path, **options):
    return dv.scan(path, progress=False, **options)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """A folder with N.mp4 for N in 0 to 12, whose grey level is 20 N."""
    folder = tmp_path_factory.mktemp("grey")
    for n in range(13):
        frames = [np.full((32, 32, 3), 20 * n, np.uint8)] * 3
        write_video(folder / f"{n}.mp4", iter(frames))
    return folder


def write_list(folder, rows, header="path,label", name="list.csv"):
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


def scan_labels(grey, tmp_path, labels, **options):
    """The manifest of a list that gives these labels to the grey videos."""
    rows = [f'{i % 13}.mp4,"{label}"' for i, label in enumerate(labels)]
    return scan(write_list(tmp_path, rows), root=grey, **options)


def loaded(manifest):
    """What the loader gives for every sample: {grey level / 20: target}."""
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((16, 16)),))
    found = {}
    with dv.VideoLoader(manifest, recipe, 4, drop_last=False, device="cpu") as loader:
        for clips, targets in loader:
            for clip, target in zip(clips, targets, strict=True):
                found[round(float(clip.float().mean()) / 20)] = target.numpy()
    return found


@pytest.mark.parametrize("name", ["train", "val_without_2"])
def test_real_lists(name):
    manifest = scan(_real("faults") / "labels" / f"{name}.csv")
    targets = loaded(manifest)
    assert set(targets) == set(range(12)) - ({2} if name == "val_without_2" else set())
    assert all(target.argmax() == level and target.sum() == 1 for level, target in targets.items())
    assert len(manifest.classes) == 12


@pytest.mark.parametrize("form", ["{}", "{}.0", " {} ", "{:03d}", "+{}"])
def test_whole_numbers_keep_their_number(form, grey, tmp_path):
    """In every way to write them, in any order, whichever are missing: target and grey level of the video agree."""
    numbers = [12, 3, 0, 11, 2, 10, 1]
    rows = [f"{n}.mp4,{form.format(n)}" for n in numbers]
    manifest = scan(write_list(tmp_path, rows), root=grey)
    targets = loaded(manifest)
    assert sorted(targets) == sorted(numbers)
    assert all(target.argmax() == level and target.sum() == 1 for level, target in targets.items())
    assert manifest.classes == tuple(map(str, range(13)))


@pytest.mark.parametrize("seed", range(12))
def test_any_mixture_of_whole_numbers(seed, grey, tmp_path):
    """Property: 1, 1.0 and 01 are class 1; -1, nan, null and nothing are no label; an oracle of a dict says so."""
    rng = random.Random(seed)
    spelled = [(n, form.format(n)) for n in rng.choices(range(13), k=9) for form in [rng.choice(["{}", "{}.0", "0{}"])]]
    spelled += [(-1, rng.choice(["", "-1", "nan", "NaN", "null", "-1.0"])) for _ in range(3)]
    rng.shuffle(spelled)
    manifest = scan_labels(grey, tmp_path, [text for _, text in spelled])
    assert manifest.labels.tolist() == [n for n, _ in spelled]
    targets = manifest.targets(range(len(spelled)))
    assert all(row.sum() == (n >= 0) and (n < 0 or row[n] == 1) for row, (n, _) in zip(targets, spelled, strict=True))


@pytest.mark.parametrize("kind", ["words", "mixed"])
@pytest.mark.parametrize("seed", range(6))
def test_any_words_are_sorted_as_text(seed, kind, grey, tmp_path):
    """Property: the index of a word is its position among those that occur, for a validation list made like it too."""
    rng = random.Random(seed)
    words = ["run", "Run", "jump, high", "a b", "\u00e9t\u00e9", "10a", "none", "v1.5"] + ["7", "10", "2"] * (
        kind == "mixed"
    )
    labels = ["run", *(["7"] if kind == "mixed" else []), *rng.choices(words, k=12)]
    expected = sorted(set(labels))
    manifest = scan_labels(grey, tmp_path, labels)
    assert manifest.classes == tuple(expected)
    assert manifest.labels.tolist() == [expected.index(label) for label in labels]
    some = rng.sample(labels, 4)
    assert scan_labels(grey, tmp_path, some, like=manifest).labels.tolist() == [expected.index(label) for label in some]


@pytest.mark.parametrize("kind", [pa.int64(), pa.int8(), pa.float32(), pa.float64(), pa.string()], ids=str)
def test_parquet_columns(kind, grey, tmp_path):
    numbers = [10, 9, None, 2]
    values = pa.array([None if n is None else (str(n) if kind == pa.string() else n) for n in numbers], kind)
    pq.write_table(pa.table({"path": [f"{i}.mp4" for i in range(4)], "label": values}), tmp_path / "l.parquet")
    assert scan(tmp_path / "l.parquet", root=grey).labels.tolist() == [10, 9, -1, 2]


def test_words_are_sorted_and_mixtures_are_told(grey, tmp_path, caplog):
    manifest = scan_labels(grey, tmp_path, ["run", "10", "9"])
    assert manifest.classes == ("10", "9", "run") and manifest.labels.tolist() == [2, 0, 1]
    assert "labels are numbers (10, 9) and words (run)" in caplog.text
    assert any("numbers (10, 9) and words (run)" in remark for remark in manifest.remarks)


@pytest.mark.parametrize(
    "labels, message",
    [
        (["1", "2.5"], "line 3: labels that are numbers must be whole, got 2.5"),
        (["0.1", "1e-3"], "line 2: labels that are numbers must be whole, got 0.1"),
        (["1", "-2"], "line 3: labels that are numbers must be >= 0, or -1 for no label, got -2"),
        (["1", "20230101"], "line 3: labels that are numbers must be at most 100000, got 20230101.*classes="),
    ],
)
def test_numbers_that_are_no_classes(labels, message, grey, tmp_path):
    with pytest.raises(ValueError, match=message):
        scan_labels(grey, tmp_path, labels)


def test_folders_with_numbers(grey, tmp_path, caplog):
    for n in (0, 2, 10):
        (tmp_path / "v" / str(n)).mkdir(parents=True)
        shutil.copy(grey / f"{n}.mp4", tmp_path / "v" / str(n))
    manifest = scan(tmp_path / "v")
    assert {level: int(target.argmax()) for level, target in loaded(manifest).items()} == {0: 0, 2: 2, 10: 10}
    (tmp_path / "v" / "2").rename(tmp_path / "v" / "0.5")
    assert scan(tmp_path / "v").classes == ("0", "0.5", "10") and "are taken as words" in caplog.text


@pytest.mark.parametrize("missing", ["NA", "N/A", "None", "none", "n/a"])
def test_what_stands_for_a_missing_number(missing, grey, tmp_path):
    manifest = scan_labels(grey, tmp_path, ["2", missing, "0", missing])
    assert manifest.labels.tolist() == [2, -1, 0, -1] and manifest.classes == ("0", "1", "2")
    told = f"labels that stand for none among numbers, such as {missing}, are taken as no label: 2"
    assert told in manifest.remarks
    words = scan_labels(grey, tmp_path, ["run", missing])  # it may be a word among words
    assert set(words.classes) == {"run", missing} and not any("stand for none" in remark for remark in words.remarks)
    (tmp_path / "t.txt").write_text(f"0.mp4 3\n1.mp4 {missing}\n")
    assert scan(tmp_path / "t.txt", root=grey).labels.tolist() == [3, -1]


def test_folders_of_one_number(grey, tmp_path):
    for name in ("1", "01", "2"):
        (tmp_path / "v" / name).mkdir(parents=True)
        shutil.copy(grey / "1.mp4", tmp_path / "v" / name)
    manifest = scan(tmp_path / "v")
    assert sorted(manifest.labels.tolist()) == [1, 1, 2]
    assert "folders whose names are the same number are one class: 01, 1" in manifest.remarks


@pytest.mark.parametrize(
    "labels, told",
    [
        (["Run", "run", "RUN"], "'RUN' and 'Run' and 'run'"),
        (["riding_bike", "riding bike", "x"], "'riding bike' and 'riding_bike'"),
        (["caf\u00e9", "cafe\u0301"], r"'cafe\u0301' and 'caf\xe9'"),
        (["run", "runs", "run-1"], None),
    ],
)
def test_names_of_classes_that_are_alike(labels, told, grey, tmp_path):
    remarks = scan_labels(grey, tmp_path, labels).remarks
    said = [remark.split(": ", 1)[1] for remark in remarks if remark.startswith("classes whose names differ by capi")]
    assert said == ([] if told is None else [told])


def test_given_classes(grey, tmp_path):
    manifest = scan_labels(grey, tmp_path, ["run", "walk"], classes=["walk", "sit", "run"])
    assert manifest.classes == ("walk", "sit", "run") and manifest.labels.tolist() == [2, 0]
    # numbers are indices into names, unless the names are numbers
    assert scan_labels(grey, tmp_path, ["2", "0"], classes=["walk", "sit", "run"]).labels.tolist() == [2, 0]
    assert scan_labels(grey, tmp_path, ["20", "5.0"], classes=[5, 20]).labels.tolist() == [1, 0]
    for label in ("rum", "3"):
        with pytest.raises(ValueError, match=rf"line 3: label '{label}' is not among the 3 classes.*walk, sit, run"):
            scan_labels(grey, tmp_path, ["2" if label == "3" else "run", label], classes=["walk", "sit", "run"])
    for wrong, got in ((["a", "a"], "'a' twice"), ([], "none"), (["a", ""], "an empty name")):
        with pytest.raises(ValueError, match=f"classes must be names that differ, got {got}"):
            scan_labels(grey, tmp_path, ["a"], classes=wrong)


@pytest.mark.parametrize(
    "name, text, first",
    [
        ("c.txt", "walk\nsit down\nrun\n", 0),
        ("c.txt", "0 walk\n1 sit down\n2 run\n", 0),
        ("c.txt", "1 walk\n3 run\n2 sit down\n", 1),  # UCF101's classInd.txt
        ("c.csv", "id,name\n0,walk\n1,sit down\n2,run\n", 0),  # a label map of Kinetics
        ("c.csv", 'id,name\n0,walk\n1,"sit down"\n2,run\n', 0),
        ("c.csv", "id,name,parent\n0,walk,a\n1,sit down,b\n2,run,a\n", 0),
        ("c.csv", "id,key,instances\n0,walk,\"['a', 'b']\"\n2,run,c\n1,sit down,c\n", 0),  # EPIC-KITCHENS
        ("c.csv", "parent,label,name\nx,1,walk\nx,2,sit down\ny,3,run\n", 1),
        ("c.tsv", "Name\tcount\nwalk\t7\nsit down\t9\nrun\t8\n", 0),  # a count is no number of a class
        ("c.txt", "walk,0\nsit down,1\nrun,2\n", 0),  # Moments in Time
        ("c.json", '{"walk": "0", "sit down": "1", "run": "2"}', 0),  # Something-Something
        ("c.json", '{"\\"sit down\\"": 1, "walk": 0, "run": 2}', 0),  # Kinetics, as SlowFast has it
        ("c.json", '{"0": "walk", "1": "sit down", "2": "run"}', 0),  # id2label
        ("c.json", '["walk", "sit down", "run"]', 0),
    ],
)
def test_files_of_classes(name, text, first, grey, tmp_path):
    (tmp_path / name).write_text(text)
    manifest = scan_labels(grey, tmp_path, ["run", "sit down"], classes=tmp_path / name)
    assert manifest.classes == ("walk", "sit down", "run") and manifest.labels.tolist() == [2, 1]
    numbered = scan_labels(grey, tmp_path, [first + 2, first], classes=str(tmp_path / name))
    assert numbered.labels.tolist() == [2, 0]


def test_files_of_classes_with_gaps(grey, tmp_path):
    (tmp_path / "c.txt").write_text("0 walk\n2 run\n")
    with pytest.raises(ValueError, match="c.txt: the classes must be numbered without gaps from 0 or 1, got 2"):
        scan_labels(grey, tmp_path, ["run"], classes=tmp_path / "c.txt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        scan_labels(grey, tmp_path, ["run"], classes=tmp_path / "gone.txt")
    (tmp_path / "c.json").write_text('{"run": [0], "walk": 1}')
    with pytest.raises(ValueError, match="c.json cannot be read as a list of classes"):
        scan_labels(grey, tmp_path, ["run"], classes=tmp_path / "c.json")


@pytest.mark.parametrize(
    "text, message",
    [
        ("0,walk,a\n1,run,b\n", r"each name has ',' in it \('walk,a'\): put a header"),
        ("walk;a\nrun;b\n", r"each name has ';' in it \('walk;a'\)"),
        ("id,name,parent\n0,walk,a\n1,run\n", r"2 fields in \['1', 'run'\], but the header has 3"),
    ],
)
def test_files_of_classes_with_several_columns(text, message, grey, tmp_path):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"c.csv cannot be read as a list of classes: {message}"):
        scan_labels(grey, tmp_path, ["run"], classes=tmp_path / "c.csv")


def test_names_of_classes_with_commas(grey, tmp_path):
    (tmp_path / "c.csv").write_text('"jump, high"\n"run, fast"\n')
    assert scan_labels(grey, tmp_path, ["run, fast"], classes=tmp_path / "c.csv").labels.tolist() == [1]
    (tmp_path / "c.csv").write_text("id,name\n0,jump, high\n1,run\n")
    assert scan_labels(grey, tmp_path, ["run"], classes=tmp_path / "c.csv").classes == ("jump, high", "run")


def test_errors_name_the_first_row(grey, tmp_path):
    with pytest.raises(ValueError, match="list.csv, line 3: labels that are numbers must be whole, got 0.5"):
        scan_labels(grey, tmp_path, [1, 0.5, 2, 0.5, 0.5])


def test_rows_that_repeat_the_frames_of_others(grey, tmp_path, caplog):
    rows = ["0.mp4,a,0,2", "0.mp4,a,1,3", "0.mp4,b,0,2", "0.mp4,a,0,2", "1.mp4,,0,2", "1.mp4,,0,2"]
    scan(write_list(tmp_path, rows, "path,label,start_frame,end_frame"), root=grey)
    place = tmp_path / "list.csv"
    assert f"rows with the frames of an earlier row, but another label: 1 ({place}, line 4)" in caplog.text
    assert f"the frames and label of an earlier row, which count again: 2 ({place}, line 5, {place}, l" in caplog.text


def test_one_file_by_several_names_repeats_its_frames(grey, tmp_path, caplog):
    """Its path written in two ways, absolute, through a link to it and to its folder; a copy is another file."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.mp4").write_bytes((grey / "0.mp4").read_bytes())
    (tmp_path / "copy.mp4").write_bytes((grey / "0.mp4").read_bytes())
    os.utime(tmp_path / "copy.mp4", ns=(0, (tmp_path / "v" / "a.mp4").stat().st_mtime_ns))
    (tmp_path / "link.mp4").symlink_to("v/a.mp4")
    (tmp_path / "w").symlink_to("v")
    names = ["v/a.mp4", "./v//a.mp4", "v/../v/a.mp4", tmp_path / "v" / "a.mp4", "link.mp4", "w/a.mp4", "copy.mp4"]
    for i, name in enumerate(names):
        caplog.clear()
        scan(write_list(tmp_path, ["v/a.mp4,walk", f"{name},run"], "path,label"))
        told = "the frames of an earlier row, but another label: 1" in caplog.text
        assert told == (i < 6), name


@pytest.mark.parametrize(
    "text, warned, noted",
    [
        (
            "path,label\n0.mp4,null\n1.mp4,run\n2.mp4,-1\n3.mp4,null\n",
            "values of label that are read as no label: 'null' (2), '-1' (1)",
            "",
        ),
        (
            "classname,path,subset,start,end,label\nrun,0.mp4,a,0,1,1\nrun,1.mp4,a,0,1,-1\n",
            "label has 1 and -1 alone, which may mean that a row shows its class or does not",
            "columns that look like labels are not used: classname; labels are those of label. label_columns= chooses",
        ),
        ("path,label\n0.mp4,\n1.mp4,run\n", "samples without a label: 1 of 2 (LIST, line 2)", ""),
        ("0.mp4 3\n1.mp4 -1\n2.mp4 -1\n", "samples without a label: 2 of 3 (LIST, line 2, LIST, line 3)", ""),
        (
            "label,youtube_id,time_start,time_end\nrun,0,0,1\n,1,0,1\n",
            "samples without a label: 1 of 2 (LIST, line 3)",
            "",
        ),
        (
            "video;classe;debut;fin\n0.mp4;run;0;1\n",
            "no column is read as a label, of classe, debut, fin; label_columns= chooses",
            "no sample has a label",
        ),
        ("path\n0.mp4\n", "", "no sample has a label"),
        ("0.mp4 3 5\n1.mp4\n", "", "samples without a label: 1 of 2 (LIST, line 2)"),
        ("path,label\n0.mp4,run\n1.mp4,walk\n", "", ""),
    ],
)
def test_samples_without_a_label_are_told(text, warned, noted, grey, tmp_path, caplog):
    (tmp_path / "list.csv").write_text(text)
    manifest = scan(tmp_path / "list.csv", root=grey)
    warned, noted = (told.replace("LIST", str(tmp_path / "list.csv")) for told in (warned, noted))
    assert warned in caplog.text and (not noted or noted in manifest.remarks)
    if not warned:
        assert "label" not in caplog.text
    if not warned and not noted:
        assert not any("without a label" in remark or "no sample" in remark for remark in manifest.remarks)


def test_no_labels_although_classes_are_given(grey, tmp_path, caplog):
    train = scan_labels(grey, tmp_path, ["walk", "run"])
    assert "no sample has a label" not in caplog.text
    assert scan(write_list(tmp_path, ["0.mp4"], "path"), root=grey, like=train).classes == train.classes
    assert "no sample has a label, although classes are given" in caplog.text


@pytest.mark.parametrize(
    "separator, header, labels, told",
    [
        ("|", "path,label", ["a;b", "a"], "multi_label='|' is in no label"),
        (";", "path,labels", ["a;b", "a"], "multi_label=';' has nothing to part: there is no column label"),
        (",", "path,label", ["['a', 'b']", "['a']"], "labels such as \"['a', 'b']\" are lists written as text"),
        (";", "path,label", ["a;b", "a"], None),
    ],
)
def test_separators_that_part_nothing(separator, header, labels, told, grey, tmp_path, caplog):
    rows = [f'{i}.mp4,"{label}"' for i, label in enumerate(labels)]
    scan(write_list(tmp_path, rows, header), root=grey, multi_label=separator)
    assert told in caplog.text if told else not caplog.text


def test_like_another_manifest(grey, tmp_path):
    train = scan_labels(grey, tmp_path, ["walk", "sit", "run"], output=tmp_path / "train.parquet")
    for like in (train, tmp_path / "train.parquet", str(tmp_path / "train.parquet")):
        manifest = scan_labels(grey, tmp_path, ["walk"], like=like)
        assert manifest.classes == ("run", "sit", "walk") and manifest.labels.tolist() == [2]
        assert scan_labels(grey, tmp_path, ["walk"], classes=like).classes == manifest.classes
        for label in ("jump", "1"):  # a number is no name of a class of another list, whose order it may not follow
            with pytest.raises(ValueError, match=f"label '{label}' is not among the 3 classes"):
                scan_labels(grey, tmp_path, [label], like=like)
    with pytest.raises(ValueError, match="like= has one label a sample, so multi_label= .* must not be given"):
        scan_labels(grey, tmp_path, ["walk;run"], like=train, multi_label=";")
    several = scan_labels(grey, tmp_path, ["walk;run"], multi_label=";")
    with pytest.raises(ValueError, match="like= has several labels a sample, so multi_label= .* must be given"):
        scan_labels(grey, tmp_path, ["walk"], like=several)
    with pytest.raises(ValueError, match="give one of them"):
        scan_labels(grey, tmp_path, ["walk"], like=train, classes=["walk"])


def test_a_neighbour_with_other_classes_is_named(grey, tmp_path, caplog):
    scan_labels(grey, tmp_path, ["walk", "sit", "run"], output=tmp_path / "train.parquet")
    scan_labels(grey, tmp_path, ["walk", "sit", "run"], output=tmp_path / "train_2.parquet")
    assert "first that differs" not in caplog.text
    manifest = scan_labels(grey, tmp_path, ["walk", "run"], output=tmp_path / "val.parquet")
    assert "val.parquet has 2 classes and train.parquet, which is beside it, has 3" in caplog.text
    assert "the first that differs is 1: 'walk' and 'sit'" in caplog.text
    assert dv.Manifest.read(tmp_path / "val.parquet").remarks == manifest.remarks != ()
    caplog.clear()  # one sentence, however many there are
    scan_labels(grey, tmp_path, ["sit"], output=tmp_path / "third.parquet")
    assert [record.getMessage().count("third.parquet") for record in caplog.records] == [1]
    assert "and train.parquet, which is beside it, has 3;" in caplog.text
    assert "Others that differ: 2 (train_2.parquet, val.parquet)" in caplog.text
    caplog.clear()  # the one that is written over comes first
    scan_labels(grey, tmp_path, ["run", "sit"], output=tmp_path / "val.parquet")
    assert "and val.parquet, before this scan, has 2;" in caplog.text


# ---- Several labels


def multi_hot(indices, size):
    target = np.zeros(size, np.float32)
    target[list(indices)] = 1
    return target.tolist()


@pytest.mark.parametrize("separator", [";", "|", ",", " "])
def test_several_labels(separator, grey, tmp_path):
    texts = [separator.join(parts) for parts in (["c2", "c0"], ["c1"], [], ["c0", "c2", "c0"])]
    manifest = scan_labels(grey, tmp_path, texts, multi_label=separator, output=tmp_path / "m.parquet")
    assert manifest.multi_label and manifest.classes == ("c0", "c1", "c2")
    expected = [multi_hot(indices, 3) for indices in ([0, 2], [1], [], [0, 2])]
    for some in (manifest, dv.Manifest.read(tmp_path / "m.parquet")):
        assert some.targets([0, 1, 2, 3]).tolist() == expected and some.class_counts().tolist() == [2, 1, 2]
        assert {level: target.tolist() for level, target in loaded(some).items()} == dict(enumerate(expected))
        with pytest.raises(ValueError, match=r"several labels; targets\(samples\)"):
            _ = some.labels


def test_several_whole_numbers_keep_theirs(grey, tmp_path):
    manifest = scan_labels(grey, tmp_path, ["10;2", "9", "-1", "2.0;0"], multi_label=";")
    assert manifest.classes == tuple(map(str, range(11)))
    assert [np.flatnonzero(row).tolist() for row in manifest.targets(range(4))] == [[2, 10], [9], [], [0, 2]]


def test_several_columns(grey, tmp_path):
    rows = ["0.mp4,open,door,1", "1.mp4,close,door,2", "2.mp4,open,,3"]
    path = write_list(tmp_path, rows, "path,verb,noun,score")
    manifest = scan(path, root=grey, label_columns=("verb", "noun"))
    assert manifest.classes == ("verb=close", "verb=open", "noun=door") and manifest.columns == ("score",)
    assert manifest.targets(range(3)).tolist() == [[0, 1, 1], [1, 0, 1], [0, 1, 0]]
    rows = ["0.mp4,3,0", "1.mp4,1,2", "2.mp4,0,1"]  # class 1 of the verbs is not class 1 of the nouns
    manifest = scan(write_list(tmp_path, rows, "path,verb,noun"), root=grey, label_columns=("verb", "noun"))
    assert [np.flatnonzero(row).tolist() for row in manifest.targets(range(3))] == [[3, 4], [1, 6], [0, 5]]
    assert scan(write_list(tmp_path, ["0.mp4,2,1"], "path,verb,noun"), root=grey, label_columns=("verb", "noun"),
                like=manifest).targets([0])[0].nonzero()[0].tolist() == [2, 5]  # fmt: skip
    rows = ["0.mp4,run,jump", "1.mp4,jump,", "2.mp4,,"]  # columns that differ by a number share their classes
    manifest = scan(write_list(tmp_path, rows, "path,label,label_2"), root=grey, label_columns=("label", "label_2"))
    assert manifest.classes == ("jump", "run") and manifest.targets(range(3)).tolist() == [[1, 1], [1, 0], [0, 0]]


def test_lists_in_parquet(grey, tmp_path):
    table = pa.table({"path": ["0.mp4", "1.mp4", "2.mp4"], "label": [["a", "b"], ["b"], None]})
    pq.write_table(table, tmp_path / "l.parquet")
    with pytest.raises(ValueError, match="column label holds lists of labels; multi_label="):
        scan(tmp_path / "l.parquet", root=grey)
    manifest = scan(tmp_path / "l.parquet", root=grey, multi_label=",")
    assert manifest.targets(range(3)).tolist() == [[1, 1], [0, 1], [0, 0]]


def test_one_other_column(grey, tmp_path):
    path = write_list(tmp_path, ["0.mp4,a,x", "1.mp4,b,y"], "path,category,label")
    manifest = scan(path, root=grey, label_columns=("category",))
    assert manifest.classes == ("a", "b") and not manifest.multi_label and manifest.columns == ("list_label",)


@pytest.mark.parametrize("label_columns", ["label", (), ("label", "label"), ("gone",)])
def test_wrong_label_columns(label_columns, grey, tmp_path):
    with pytest.raises(ValueError, match="label_columns must be"):
        scan_labels(grey, tmp_path, ["a"], label_columns=label_columns)
    with pytest.raises(ValueError, match="multi_label must be what separates"):
        scan_labels(grey, tmp_path, ["a"], multi_label="")
    with pytest.raises(ValueError, match="multi_label=';' means nothing for"):
        scan(grey, multi_label=";")


@pytest.mark.parametrize(
    "labels, told",
    [
        (["c001;c003", "c003", "c002"], True),
        (["c001;c003", "c002;c004"], True),
        (["run,jump", "jump", "run"], True),
        (["1 5", "5 7"], True),
        (["jump, high", "run"], False),  # a comma alone says nothing
        (["ice skating", "figure skating"], False),
    ],
)
def test_several_labels_that_nobody_told_of(labels, told, grey, tmp_path, caplog):
    manifest = scan_labels(grey, tmp_path, labels)
    assert ("look like several in one" in caplog.text) == told
    assert any("look like several in one" in remark for remark in manifest.remarks) == told


@pytest.mark.parametrize("column", "label2 label_2 labels category class verb noun Action".split())
def test_a_second_column_that_looks_like_a_label(column, grey, tmp_path, caplog):
    scan(write_list(tmp_path, ["0.mp4,a,x", "1.mp4,b,y"], f"path,label,{column}"), root=grey)
    assert f"columns that look like labels are not used: {column}" in caplog.text
    caplog.clear()
    manifest = scan(write_list(tmp_path, ["0.mp4,x", "1.mp4,y"], f"path,{column}"), root=grey)
    assert manifest.classes == () and "no sample has a label" in caplog.text


def test_mixed_labels_of_several(grey, tmp_path):
    """Ops that mix clips mix multi-hot targets."""
    manifest = scan_labels(grey, tmp_path, ["0;1", "2", "0", "1;2"], multi_label=";")
    recipe = dv.Recipe(RECIPE.sampling, (dv.Resize((16, 16)), dv.MixUp(), dv.Normalize()))
    with dv.VideoLoader(manifest, recipe, 4, device="cpu") as loader:
        batch = next(iter(loader))
    before = manifest.targets(batch.samples.numpy())
    partner, own = batch.mix.partner.numpy(), batch.mix.own.numpy()[:, None]
    np.testing.assert_allclose(batch.targets, own * before + (1 - own) * before[partner], atol=1e-6)


def test_labels_out_of_range_are_refused(numbered_manifest):
    table = numbered_manifest.table
    column = pa.array([[0, 2]] * len(table), pa.list_(pa.int32()))
    table = table.set_column(table.column_names.index("labels"), "labels", column)
    with pytest.raises(ValueError, match="labels go from 0 to 2, not within 2 classes"):
        dv.Manifest(table, ("a", "b"))


def test_classes_survive_in_the_file(tmp_path):
    write_numbered(tmp_path / "a" / "v.mp4", 3)
    scan(tmp_path, output=tmp_path / "m.parquet", classes=["b", "a", "caf\u00e9"])
    assert dv.Manifest.read(tmp_path / "m.parquet").classes == ("b", "a", "caf\u00e9")
    assert json.loads(pq.read_schema(tmp_path / "m.parquet").metadata[b"dali_vidaug"])["classes"][1] == "a"
