"""Formats of lists: each as it is found in public data sets, with its traps."""

import importlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from list_examples import EXAMPLES

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.data.labels import index_labels, tell_unlabelled
from dali_vidaug.data.list_formats import FORMATS, list_videos
from dali_vidaug.data.list_frames import frame_folders
from dali_vidaug.data.list_source import Options, Source
from dali_vidaug.data.list_text import read_text


def write(folder, files):
    """Write the files of an example, or others."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(path, root=None, **options):
    """What a list says: path or reason, start, end, indices of labels of each entry; and the classes."""
    listing = list_videos(path, root, Options(**options))
    labels = index_labels(listing, listing.classes)
    rows = [
        (entry.path if entry.error is None else entry.error, entry.start, entry.end, indices)
        for entry, indices in zip(listing.entries, labels.indices, strict=True)
    ]
    assert all(len(row[3]) < 2 for row in rows) or listing.several
    return rows, labels.classes, listing


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_list_says(name, tmp_path):
    form, example = EXAMPLES[name]
    write(tmp_path, example.files)
    rows, classes, listing = read(tmp_path / example.list, **example.options)
    assert len(rows) == len(example.rows)
    for row, (path, *expected) in zip(rows, example.rows, strict=True):
        assert row[0] == path or (" " in path and row[0].startswith(path)), row
        assert list(row[1:]) == expected
    assert classes == example.classes
    assert listing.notes[0].startswith(f"the list is read as {form}: ")


@pytest.mark.parametrize("name", EXAMPLES)
def test_other_formats_refuse_it_or_say_the_same(name, tmp_path):
    form, example = EXAMPLES[name]
    write(tmp_path, example.files)
    path = tmp_path / example.list
    options = {key: value for key, value in example.options.items() if key != "format"}
    expected = read(path, **options, format=form)[:2]
    refused = 0
    for other in FORMATS:
        try:
            said = read(path, **options, format=other)[:2]
        except ValueError as error:
            assert str(path) in str(error) or str(tmp_path) in str(error), error
            refused += 1
            continue
        assert said == expected or {form, other} in (
            {"charades", "charades_segments"},
            {"activitynet", "activitynet_videos"},
            {"thumos14", "thumos14_videos"},
            {"folder", "videofolder"},
            {"slowfast", "multi_label"},
            {"path_label", "multi_moments"},
        ), other
    assert refused >= len(FORMATS) - 3


PATH_LABEL = "expected PATH LABEL"
SLOWFAST = "original_vido_id video_id frame_id path labels\n"
UCF = "Apply/v_Apply_g08_c01.avi 1\n"
EPIC = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"


@pytest.mark.parametrize(
    "files, options, message",
    [
        ({"x.txt": "a.mp4 1 2\nb.mp4 3 4\n"}, {}, r"may be multi_label \(.*\) or slowfast \(.*\), which say different"),
        (
            {"x.txt": "a.mp4 1\n" * 40 + "b.mp4 3 4\n"},
            {},
            r"may be path_label .* or multi_label .*; as path_label: .*x.txt, line 41: expected PATH LABEL, one label",
        ),
        (
            {"x.txt": "a.mp4 5 10 3\nb.mp4 0 12 1\n"},
            {},
            "line 1: .* may be labels, or start, end .*2 of 2 lines have 3.*'a.mp4 5 10 3'",
        ),
        ({"x.txt": "a.mp4,5,10,3\nb.mp4,0,12,1\n"}, {}, "line 1: .* may be labels, or start, end and label"),
        ({"x.txt": "a.mp4 1\nb.mp4 1 2 1\n"}, {}, r"line 2: .* may be labels, .*\(one is there twice\)"),
        ({"x.txt": "a.mp4 1\nb.mp4 7 3 7\n"}, {"format": "multi_label"}, "line 2: .*7 is there twice"),
        ({"x.txt": "a.mp4 0 1 0\nb.mp4 1 0 0\n"}, {}, "zeros and ones"),
        ({"x.txt": "a.mp4 0 1 0\nb.mp4 1 0 0\n"}, {"format": "multi_label"}, r"line 1: .*look one-hot.*flatnonzero"),
        ({"x.txt": "a.mp4 5 10 3\n" * 30 + "b.mp4 0 12\n"}, {}, "line 1: .*start, end .*30 of 31 lines have 3"),
        ({"x.txt": "a b 2\nc 1\n3 total\n"}, {"format": "path_label"}, "line 3: .*number as label.*delete it"),
        ({"x.txt": "a.mp4 [1, 3]\nb.mp4 [2]\n"}, {}, r"line 1: expected a label, not a list .*got '\[1, 3\]'"),
        ({"x.txt": "a.mp4 run\nb.mp4 ['b']\n"}, {}, "line 2: expected a label, not a list .*labels="),
        ({"x.csv": "a.mp4,3,3\n"}, {}, "may be multi_label .* or slowfast .*3 is there twice"),
        ({"x.txt": "a.mp4 2\nb.mp4 run\nc.mp4 3\n"}, {}, r"line 2: expected a number as label, as in line 1 \(2\)"),
        ({"x.txt": "a.mp4 run\nb.mp4 3\nc.mp4 a b\n"}, {}, r"line 2: expected a word as label, as in line 1 \(run\)"),
        ({"x.txt": "path label\na 2\n"}, {"format": "path_label"}, "line 1: .*delete this line, or write it"),
        ({"x.csv": "sep=;\npath;label\na.mp4;b;c\n"}, {}, "line 3: 3 fields, but the header has 2"),
        ({"x.csv": "path;start;end\na.mp4;1,5;2\n"}, {}, r"line 2: .*must be seconds .*got 1,5; write 1.5\)"),
        (
            {"x.txt": "run,a.mp4\nsit,b.mp4\n", "a.mp4": "", "b.mp4": ""},
            {},
            "line 1: .*file a.mp4, .*is the label first",
        ),
        ({"x.txt": "3 a.mp4\n4 b.mp4\n", "a.mp4": "", "b.mp4": ""}, {}, "line 1: expected the path first; .*'3 a.mp4'"),
        ({"x.txt": "d41d8  a b.mp4\n", "a b.mp4": ""}, {}, "line 1: expected the path first; there is a file a b.mp4"),
        ({"x.txt": "12\tc/a.mp4\n", "c/a.mp4": ""}, {}, "line 1: expected the path first; there is a file c/a.mp4"),
        (
            {"x.txt": "a.mp4  Abuse  165  240  -1  -1\n"},
            {},
            r"line 1: .*several values, some of them numbers, got 'a.mp4 ",
        ),
        ({"x.txt": "b.mp4 run\na.mp4 1.5 3.5 2\n"}, {}, "line 2: .*several values, some of them numbers"),
        ({"x.txt": "a.mp4 walk 0\nb.mp4 run 1\n"}, {}, "line 1: .*several values.*format='path_label' reads"),
        (
            {"x.txt": "a.mp4 1\nb.mp4\n"},
            {},
            rf"line 2: {PATH_LABEL} in each line or in none; line 1 has a label, got 'b.mp4'",
        ),
        ({"x.txt": "b.mp4\na.mp4 1\n"}, {}, rf"line 2: {PATH_LABEL} in each line or in none; line 1 has no label"),
        ({"x.txt": "a.mp4 1\n" * 60 + "what\n"}, {}, rf"line 61: {PATH_LABEL}, separated by ' ' as above, got 'what'"),
        ({"x.txt": "a.mp4 1\n" * 9 + "b.dat 1\n"}, {}, "line 10: expected a path that ends like a video, as in other"),
        (
            {"x.txt": "a.mp4 1 2\nb.mp4 1 2 3\n"},
            {},
            r"line 1: .* start, end and label, .*\(some lines have two, the others three\)",
        ),
        (
            {"x.json": '{"path": ["a.mp4", "b.mp4"], "label": [1, 0]}'},
            {},
            r"got \['a.mp4', 'b.mp4'\]; columns are lists in a program: dv.scan\(data\['path'\], labels=...\)",
        ),
        ({"x.txt": "a/b 5 120 3\nc 0 7 1\n"}, {}, "line 1: expected FOLDER TOTAL LABEL ... or FOLDER START TOTAL"),
        ({"x.txt": "a/b 0 120 3\n"}, {"format": "frames"}, "line 1: .* with at least one frame, got 'a/b 0 120 3'"),
        ({"x.txt": "a/b 9 2 2\n"}, {"format": "frames"}, "line 1: .* each label once"),
        ({"x.txt": "a/b 9 2\n" * 60 + "c 1\n"}, {}, "line 61: expected FOLDER TOTAL LABEL"),
        ({"x.txt": SLOWFAST + 'A 0 1 A/A-1.jpg "1"\n'}, {}, "line 2: expected frame_id 0, the next one of A"),
        ({"x.txt": SLOWFAST + 'A 0 0 A/A-1.jpg "x"\n'}, {}, "line 2: expected labels that are whole numbers"),
        ({"x.txt": SLOWFAST + "A 0 0\n"}, {}, "line 2: expected original_vido_id video_id frame_id path labels"),
        (
            {"x.txt": "a.mp4 0 -1\nb.mp4 0 7\n"},
            {"format": "videomae"},
            "line 2: expected a total below 0, which means a video",
        ),
        ({"x.txt": "a.mp4 3 -1\n"}, {}, "line 1: expected a start of 0 for a whole video, got 3"),
        ({"x.txt": UCF}, {}, "may be path_label .* or ucf101 .*numbers begin at 1: expected classInd.txt beside it"),
        (
            {"x.txt": UCF + "Walk/v_Walk_g01_c01.avi 1\n", "classInd.txt": "1 Apply\n2 Walk\n"},
            {},
            "line 2: expected 2, the number of Walk in classInd.txt, got 1",
        ),
        (
            {"x.txt": UCF, "classInd.txt": "1 Apply\n3 Walk\n"},
            {},
            r"classInd.txt: .* from 1 without gaps, got \[1, 3\]",
        ),
        (
            {"x.txt": UCF, "classInd.txt": "1 Walk\n"},
            {},
            "line 1: expected a class of classInd.txt as the video's folder, got 'Apply'",
        ),
        (
            {"x.txt": "a.avi,1.0\nb.avi,3\nc.avi,-1\n", "classInd.txt": "1 Apply\n2 Walk\n3 Yo\n"},
            {},
            r"x.txt: label 1 may be number 1 of classInd.txt .*begins at 1 \('Apply'\), or index 1: .*says which",
        ),
        ({"wave_test_split1.txt": "a.avi 1\n"}, {}, r"need split='train1', 'test1', .*\(1\); got None"),
        ({"wave_test_split1.txt": "a.avi 1\n"}, {"split": "train"}, "got 'train'"),
        (
            {"wave_test_split1.txt": "a.avi 1\n", "run_test_split2.txt": "b.avi 1\n"},
            {"split": "train1"},
            "no file CLASS_test_split1.txt of run",
        ),
        ({"t.json": '[{"id": "1", "template": "[a] b"}]'}, {}, r"not beside it \(labels.json or .*classes= gives it"),
        (
            {"t.json": '[{"id": "1", "template": "a"}, {"id": "2"}]', "labels.json": '{"a": "0"}'},
            {},
            "item 1: expected a template in each item",
        ),
        (
            {"t.json": '[{"id": "1", "template": "a"}]', "a-labels.json": "{}", "b-labels.json": "{}"},
            {},
            "has several files",
        ),
        (
            {"t.json": '{"a": 1}'},
            {},
            "this JSON is of no list that is known; its keys are a. It may be a list of objects, .*(jsonl)",
        ),
        ({"t.json": '{"database": '}, {}, "cannot be read as JSON: Expecting value: line 1 column 14"),
        ({"t.csv": "1;a\n2\n"}, {}, "line 2: expected ID;LABEL in each line, or ID in each, got '2'"),
        (
            {"t.csv": "c/a.mp4,c,1,2\nc/b.mp4,c,1\n", "moments_categories.txt": "c,0\n"},
            {},
            "line 2: expected CLASS/FILE,CLASS,AGREE,DISAGREE",
        ),
        ({"t.csv": "c/a.mp4,c,1,2\n"}, {}, "numbered in moments_categories.txt, which is not beside it"),
        ({"t.csv": EPIC + "P01_01_0,P01,P01_01,0:00,0:01,97,0\n"}, {}, "line 2: verb_class must be 0 to 96, got '97'"),
        (
            {"t.csv": EPIC + "P01_01_0,P01,P01_01,0:00,soon,9,0\n"},
            {},
            r"line 2: stop_timestamp must be seconds \(got soon\)",
        ),
        (
            {"t.csv": EPIC + "P01_01_0,P01,P01_01,0,1,9,0\n"},
            {"label_columns": ("verb",)},
            "label_columns must be of verb_class, noun_class",
        ),
        (
            {"t.csv": "id,script,actions\nA,s,c157 1 2\n"},
            {},
            "line 2: actions must be CLASS START END;..., as c092 11.90 21.20, got 'c157 1 2'",
        ),
        ({"t.csv": "id,script,actions\nA,s,c001 1\n"}, {}, "got 'c001 1'"),
        (
            {"t.json": '{"database": {"v": {"annotations": [{"segment": [1], "label": "x"}]}}}'},
            {},
            "video v, annotation 0: expected annotations",
        ),
        (
            {
                "t.json": '{"database": {"v": {"annotations": [{"segment": [1, 2], "label": "x", "label_id": 0}, '
                '{"segment": [1, 2], "label": "y", "label_id": 0}]}}}'
            },
            {},
            "two labels have the label_id 0",
        ),
        (
            {
                "t.json": '{"database": {"v": {"annotations": [{"segment": [1, 2], "label": "x", "label_id": 0}, '
                '{"segment": [1, 2], "label": "y"}]}}}'
            },
            {},
            "some labels have a label_id, but 'y' has none",
        ),
        (
            {"t.json": '{"database": {"v": {"subset": "training", "annotations": []}}}'},
            {"split": "train"},
            "split must be one of training, got 'train'; is it 'training'[?]",
        ),
        (
            {"t.json": '{"database": {"v": {"class": "Make", "annotation": [{"id": 3, "segment": [1, 2]}]}}}'},
            {},
            "expected videos with \"annotations\", got 'class, annotation'",
        ),
        (
            {"t.json": '{"database": {"u": {"annotations": []}, "v": {"Annotations": [{"segment": [1, 2]}]}}}'},
            {},
            "video v: expected .*got segments in 'Annotations'",
        ),
        (
            {"t.json": '{"database": {"v": {"annotations": [{"segment": [1, 2], "label": 200000}]}}}'},
            {},
            "t.json: labels that are numbers must be 0 to 100000, got 200000",
        ),
        ({"t.json": '[{"vid_name": "a", "label": 48}]'}, {}, "item 0: expected a vid_name, and a label of 0 to 47"),
        (
            {"t.json": '[{"vid_name": "a", "label": 4, "start_frame": 9}]'},
            {},
            "item 0: start_frame must be 0, .* got 9",
        ),
        (
            {"t.csv": "v,0902,0.1,0.2,0.3,0.4,81,1\n"},
            {},
            r"line 1: expected VIDEO,SECONDS,X1,Y1,X2,Y2,ACTION \(1 to 80\)",
        ),
        (
            {"metadata.csv": "a_file_name,b_file_name\nx.mp4,y.mp4\n"},
            {},
            "expected one column file_name or .*got a_file_name, b_file_name",
        ),
        ({"t.jsonl": '{"path": "a.mp4"}\n[1]\n'}, {}, r"line 2: expected a JSON object in each line, got \[1\]"),
        (
            {"t.json": '{"path": {"0": "a.mp4"}, "label": {"0": "run"}}'},
            {},
            r"line 1: path must be a path, got {'0': 'a.mp4'}; of pandas, to_json\(orient='records'\) is read",
        ),
        ({"t.json": '[{"path": "a.mp4"}, {"path": ["b.mp4"]}]'}, {}, r"item 1: path must be a path, got \['b.mp4'\]$"),
        (
            {"t.csv": "path,label\na.mp4,b\n"},
            {"format": "kinetics"},
            r"is not kinetics \(Kinetics' annotations\), but fits table",
        ),
        ({"t.csv": "path,label\na.mp4,b\n"}, {"format": "csv"}, "format must be one of table, jsonl, .*got 'csv'"),
        ({"t.csv": "path,label\na.mp4,b\n"}, {"split": "train"}, "split='train' means nothing for .*, which is table"),
        ({"a.mp4": ""}, {"format": "table"}, "format='table' means nothing for .*, which is a video"),
    ],
)
def test_refusals_name_the_line_and_what_is_expected(files, options, message, tmp_path):
    path = write(tmp_path, files) / next(iter(files))
    with pytest.raises(ValueError, match=message) as caught:
        read(path, **options)
    assert str(tmp_path) in str(caught.value) or message.startswith("format must")


LATIN = "é b.mp4 café\n"


@pytest.mark.parametrize(
    "data, encoding",
    [
        (LATIN.encode("utf-8"), None),
        (LATIN.encode("utf-8-sig"), None),
        (LATIN.encode("utf-16"), None),
        (b"\xfe\xff" + LATIN.encode("utf-16-be"), None),
        (LATIN.encode("utf-32"), None),
        (LATIN.encode("latin-1"), "latin-1"),
        (LATIN.encode("utf-16-be"), "utf-16-be"),
        (b"\xfe\xff" + LATIN.encode("utf-16-be"), "utf-16"),
        (LATIN.encode("utf-8-sig"), "utf-8"),
    ],
)
def test_encodings(data, encoding, tmp_path):
    (tmp_path / "x.txt").write_bytes(data)
    assert read(tmp_path / "x.txt", encoding=encoding)[:2] == ([("é b.mp4", None, None, (0,))], ("café",))


@pytest.mark.parametrize(
    "data, encoding, message",
    [
        (b"a.mp4 caf\xe9\n", None, "line 1: a label is not UTF-8 text; save it as UTF-8, or .*encoding='latin-1'"),
        (b"path,label\na.mp4,caf\xe9\n", None, "line 2: label is not UTF-8 text"),
        (b'[{"path": "a.mp4", "label": "caf\xe9"}]', None, "is JSON, but not UTF-8 text"),
        (
            LATIN.encode("utf-16-le"),
            None,
            "has zero bytes; if it is UTF-16 without a byte order mark, encoding='utf-16-le'",
        ),
        (LATIN.encode("utf-16-le"), "utf-16", "no byte order mark: encoding must be utf-16-le or utf-16-be"),
        (LATIN.encode("utf-16"), "utf-16-be", "byte order mark of utf-16-le, but encoding is 'utf-16-be'"),
        (LATIN.encode("utf-8-sig"), "latin-1", "byte order mark of utf-8, but encoding is 'latin-1'"),
        (b"a.mp4 caf\xe9\n", "utf-8", "byte 9 is not utf-8"),
        (b"a.mp4 1\n", "klingon", "encoding must be one of text that Python knows, got 'klingon'"),
        (b"a.mp4 1\n", "base64", "encoding must be one of text that Python knows, got 'base64'"),
    ],
)
def test_encodings_are_never_guessed(data, encoding, message, tmp_path):
    (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "x.txt", encoding=encoding)


def test_text_in_parquet_that_is_not_utf8(tmp_path):
    column = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 4], "<i4")), pa.py_buffer(b"caf\xe9")]
    )
    pq.write_table(pa.table({"path": ["a.mp4"], "label": column}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="x.parquet cannot be read as Parquet: .*UTF8"):
        read(tmp_path / "x.parquet")


def test_videos_of_hugging_face_in_parquet(tmp_path):
    """A video is a path, or the bytes of a file, which are refused."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for data, message in ((None, None), (b"x", "x.parquet: 1 videos are in the list itself, in column video; write")):
        values = pa.array([{"bytes": None, "path": "a.mp4"}, {"bytes": data, "path": "b.mp4"}], kind)
        pq.write_table(pa.table({"video": values, "label": [1, 0]}), tmp_path / "x.parquet")
        if message:
            with pytest.raises(ValueError, match=message):
                read(tmp_path / "x.parquet")
            continue
        assert [(row[0], row[3]) for row in read(tmp_path / "x.parquet")[0]] == [("a.mp4", (1,)), ("b.mp4", (0,))]
    pq.write_table(pa.table({"video": [["a.mp4"]]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="x.parquet: column video must have paths, got values of list<"):
        read(tmp_path / "x.parquet")


def test_bytes_of_a_path_stay_what_they_are(tmp_path):
    """They are the file's name, in whatever it is written."""
    (tmp_path / "x.txt").write_bytes(b"caf\xe9 a.mp4 3\n")
    rows, _, _ = read(tmp_path / "x.txt")
    assert os.fsencode(rows[0][0]) == b"caf\xe9 a.mp4" and rows[0][3] == (3,)


def random_name(rng):
    """A path with spaces, separators and brackets in it; two that ends like a video are none."""
    letters = "abZ09 _-,;()[]'&é日.:"
    folders = [
        "".join(rng.choice(list(letters), rng.integers(1, 9))).strip(" .") + "x" for _ in range(rng.integers(1, 4))
    ]
    return "/".join(folders).replace("::", ":") + str(rng.choice([".mp4", ".AVI", ".webm"]))


@pytest.mark.parametrize("separator", [" ", "  ", "\t", ",", ", ", ";", "|", "::"])
@pytest.mark.parametrize("seed", range(5))
def test_any_list_of_paths(seed, separator, tmp_path):
    rng = np.random.default_rng((seed, len(separator), ord(separator[0])))
    names = [random_name(rng) for _ in range(30)]
    counts = [1] * 30 if seed % 2 else rng.integers(1, 4, 30).tolist()
    labels = [rng.choice(50, count, replace=False).tolist() for count in counts]
    text = "".join(separator.join((name, *map(str, row))) + "\n" for name, row in zip(names, labels, strict=True))
    (tmp_path / "x.txt").write_text(text, encoding=["utf-8", "utf-8-sig", "utf-16"][seed % 3])
    rows, classes, listing = read(tmp_path / "x.txt")
    assert [row[0] for row in rows] == names
    assert [row[3] for row in rows] == [tuple(row) for row in labels]
    assert len(classes) == max(map(max, labels)) + 1 and listing.several == (max(counts) > 1)


@pytest.mark.parametrize("seed", range(4))
def test_any_list_of_ids(seed, tmp_path):
    """Random ids, classes and times, written in each format that names videos by ids."""
    rng = np.random.default_rng(seed)
    alphabet = list("abcXYZ019-_")
    ids = list(dict.fromkeys("".join(rng.choice(alphabet, 11)) for _ in range(12)))
    names = [f"cl {letter} ({i})" for i, letter in enumerate(rng.permutation(list("abcdef")))]
    chosen = [names[i] for i in rng.integers(0, len(names), len(ids))]
    starts = rng.integers(0, 99, len(ids)).tolist()
    order = {name: str(i) for i, name in enumerate(names)}
    kinetics = "".join(f"{c},{v},{s},{s + 10},train\n" for v, c, s in zip(ids, chosen, starts, strict=True))
    items = [{"id": v, "template": c.replace("cl", "[cl]")} for v, c in zip(ids, chosen, strict=True)]
    database = {
        v: {"subset": "t", "annotations": [{"label": c, "segment": [s, s + 10.5]}]}
        for v, c, s in zip(ids, chosen, starts, strict=True)
    }
    dives = [{"vid_name": v, "label": s % 48} for v, s in zip(ids, starts, strict=True)]
    write(
        tmp_path,
        {
            "k.csv": "label,youtube_id,time_start,time_end,split\n" + kinetics,
            "labels.json": json.dumps(order),
            "s.json": json.dumps(items),
            "a.json": json.dumps({"database": database}),
            "d.json": json.dumps(dives),
            **{f"videos/{v}.mp4": "" for v in ids},
            **{
                f"cut/{c.replace(' ', '_')}/{v}_{s:06d}_{s + 10:06d}.mp4": ""
                for v, c, s in zip(ids, chosen, starts, strict=True)
            },
        },
    )
    occurring = tuple(sorted(set(chosen)))
    for name, expected, every in (
        (
            "k.csv",
            [
                (f"cut/{c.replace(' ', '_')}/{v}_{s:06d}_{s + 10:06d}.mp4", None, None, c)
                for v, c, s in zip(ids, chosen, starts, strict=True)
            ],
            occurring,
        ),
        ("s.json", [(f"videos/{v}.mp4", None, None, c) for v, c in zip(ids, chosen, strict=True)], tuple(names)),
        (
            "a.json",
            [(f"videos/{v}.mp4", float(s), s + 10.5, c) for v, c, s in zip(ids, chosen, starts, strict=True)],
            occurring,
        ),
        (
            "d.json",
            [(f"videos/{v}.mp4", None, None, str(s % 48)) for v, s in zip(ids, starts, strict=True)],
            tuple(map(str, range(48))),
        ),
    ):
        rows, classes, _ = read(tmp_path / name)
        assert [(*row[:3], classes[row[3][0]]) for row in rows] == expected and classes == every, name


def test_videos_that_are_there_twice_or_in_the_wrong_class(tmp_path):
    labels = json.dumps({"a": "0"})
    write(tmp_path, {"t.json": '[{"id": "1", "template": "a"}]', "labels.json": labels, "x/1.mp4": "", "y/1.webm": ""})
    rows, _, listing = read(tmp_path / "t.json")
    assert listing.warnings == (f"rows whose video is found more than once in {tmp_path}: 1 of 1 row",)
    assert rows[0][0] == f"there are several files of this name in {tmp_path}: x/1.mp4, y/1.webm"
    # ID.* of another class may be another part of the video
    write(
        tmp_path,
        {
            "k.csv": "label,youtube_id,time_start,time_end\nyoga,vvv,1,11\nrun,www,1,11\n",
            "yoga/www.mp4": "",
            "run/.keep": "",
        },
    )
    rows, _, _ = read(tmp_path / "k.csv")
    assert [row[0].split(" in ")[0] for row in rows] == [
        "not found as vvv_000001_000011.* or vvv.*",
        "not found as www_000001_000011.* or www.*",
    ]


@pytest.mark.parametrize(
    "name, text",
    [
        ("t.json", '[{"id": "1", "template": "x"}, {"id": "2", "template": "x"}]'),
        ("t.csv", "1;x\n2;x\n"),
        ("t.json", '[{"vid_name": "1", "label": 0}, {"vid_name": "2", "label": 1}]'),
        ("t.csv", "id,script,actions\n1,s,c001 0 1\n2,s,c001 0 1\n"),
        ("t.json", '{"database": {"1": {"annotations": []}, "2": {"annotations": []}}}'),
        ("t.csv", "1,0902,0.1,0.2,0.3,0.4,12,0\n2,0902,0.1,0.2,0.3,0.4,12,0\n"),
    ],
)
def test_a_number_may_be_a_video_of_another_data_set(name, text, tmp_path):
    write(tmp_path, {name: text, "labels.json": '{"x": "0"}', "labels.csv": "x\n", "one/2.webm": "", "two/1.mp4": ""})
    told = "videos were found in 2 folders: one (1), two (1); root= takes those of one"
    assert told in read(tmp_path / name)[2].warnings
    (tmp_path / "one" / "2.webm").rename(tmp_path / "two" / "2.webm")
    assert "folders" not in "".join(read(tmp_path / name)[2].warnings)


def test_videos_beside_the_folder_of_the_list_are_told(tmp_path):
    """Where none is found: UCF101's lists lie beside the folder of its videos, Charades' too."""
    video = "UCF-101/Apply/v_Apply_g08_c01.avi"
    write(tmp_path, {"lists/t.txt": UCF, "lists/classInd.txt": "1 Apply\n", video: ""})
    told = f"rows whose video is not found in {tmp_path}/lists: 1 of 1 row; "
    assert read(tmp_path / "lists/t.txt")[2].warnings == (f"{told}{video} is beside it: root='{tmp_path}/UCF-101'",)
    write(tmp_path, {"a/t.csv": "id,script,actions\nA,s,c001 0 1\n", "A.mp4": ""})
    told = f"rows whose video is not found in {tmp_path}/a: 1 of 1 row; A.mp4 is beside it: root='{tmp_path}'"
    assert told in read(tmp_path / "a/t.csv")[2].warnings
    with pytest.raises(ValueError, match=f"none of 1 video can be used; .*A.mp4 is beside it: root='{tmp_path}'"):
        dv.scan(tmp_path / "a/t.csv", progress=False)
    (tmp_path / "A.mp4").unlink()
    assert read(tmp_path / "a/t.csv")[2].warnings[0].endswith("; root= is the folder of the videos")


def test_links_in_a_circle_and_depth(tmp_path):
    files = {
        "t.csv": "1;x\n2;x\n3;x\n",
        "labels.csv": "x\n",
        "a/b/c/d/1.mp4": "",
        "a/b/c/d/e/2.mp4": "",
        "a/f/3.mp4": "",
    }
    write(tmp_path, files)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a" / "f")  # a second way to the same folder
    rows, _, _ = read(tmp_path / "t.csv")
    assert rows[0][0] == "a/b/c/d/1.mp4" and rows[1][0].startswith("not found as 2.*") and rows[2][0] == "a/again/3.mp4"


def test_columns_of_kinetics_in_other_spellings(tmp_path):
    """With the classes of the other split, which spells them in its own way; label_columns takes another column."""
    write(
        tmp_path,
        {
            "train.csv": "Label, YouTube_ID, Time_Start, TimeEnd, Split, class\nrun,vvv,1,11,a,x\nsit,www,2,12,b,y\n",
            "val.csv": "label,youtube_id,time_start,time_end,class\nadd,uuu,1,11,z\n",
            "vvv_000001_000011.mp4": "",
            "www_000002_000012.mp4": "",
        },
    )
    rows, classes, listing = read(tmp_path / "train.csv", split="b")
    assert rows == [("www_000002_000012.mp4", None, None, (2,))] and classes == ("add", "run", "sit")
    assert listing.own.column_names == ["YouTube_ID", "Time_Start", "TimeEnd", "Split", "class"]
    assert "columns used: Label, YouTube_ID, Time_Start, TimeEnd, Split" in listing.notes
    assert "columns kept with their rows, not used: class" in listing.notes
    rows, classes, _ = read(tmp_path / "train.csv", label_columns=("class",))
    assert [row[3] for row in rows] == [(0,), (1,)] and classes == ("x", "y", "z")
    for wrong in (("name",), ("class", "Label")):
        with pytest.raises(ValueError, match="label_columns must be one of Label, YouTube_ID"):
            read(tmp_path / "train.csv", label_columns=wrong)


def test_a_scan_of_segments_measures_each_video_once(numbered, tmp_path, monkeypatch):
    """EPIC's: two segments of a video and one of another; labels of both kinds; each file is measured once."""
    text = (
        EPIC
        + "a,P01,00,0:00:00,0:00:01,3,7\nb,P01,00,0:00:01,0:00:01.6,96,299\n"
        + "c,P02,01,0:00:00.2,0:00:00.4,3,0\nd,P9,gone,0,1,1,1\n"
    )
    write(tmp_path, {"epic.csv": text})
    measured = []
    scan = importlib.import_module("dali_vidaug.data.measuring")
    real = scan.measure
    monkeypatch.setattr(
        scan, "measure", lambda place, *options: (measured.append(Path(place.path).name), real(place, *options))[1]
    )
    manifest = dv.scan(tmp_path / "epic.csv", root=numbered, progress=False)
    assert sorted(measured) == ["00.mp4", "01.mp4"]
    videos = manifest.videos([0, 1, 2])
    assert videos.first.tolist() == [0, 25, 5] and videos.last.tolist() == [25, 40, 10]  # 25 frames a second
    assert [np.flatnonzero(row).tolist() for row in manifest.targets([0, 1, 2])] == [
        [3, 97 + 7],
        [96, 97 + 299],
        [3, 97],
    ]
    assert len(manifest.classes) == 397 and manifest.classes[97] == "noun=0"
    assert [broken.reason for broken in manifest.broken] == [f"not found as gone.* in {numbered}"]
    assert manifest.rows("video_id", [0]).tolist() == ["00"]
    assert any(remark.startswith("the list is read as epic: ") for remark in manifest.remarks)


def test_the_command(numbered, tmp_path, capsys):
    (tmp_path / "list.txt").write_bytes("even/00.mp4 café\nodd/01.mp4 thé\n".encode("latin-1"))
    arguments = ["scan", str(tmp_path / "list.txt"), "--root", str(numbered), "-o", str(tmp_path / "m.parquet")]
    assert main(arguments) == 1 and "is not UTF-8 text" in capsys.readouterr().err
    assert main([*arguments, "--encoding", "latin-1", "--format", "path_label"]) == 0
    assert "the list is read as path_label: lines PATH LABEL, in latin-1" in capsys.readouterr().out
    assert dv.Manifest.read(tmp_path / "m.parquet").classes == ("café", "thé")
    assert main([*arguments, "--format", "ucf101", "--encoding", "latin-1"]) == 1
    assert "is not ucf101 (UCF101's splits), but fits path_label" in capsys.readouterr().err
    assert main([*arguments, "--split", "train", "--encoding", "latin-1"]) == 1
    assert "split='train' means nothing for" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["scan", "--help"])
    said = capsys.readouterr().out.replace("\n", "")
    page = (Path(__file__).parent.parent / "docs" / "lists.md").read_text()
    assert all(name in said and f"\n| `{name}` |" in page for name in FORMATS)


def test_classes_of_training(numbered, tmp_path):
    """Of a list with fewer classes, by the format and by like=; and a list without labels has none."""
    write(
        tmp_path,
        {"train.txt": "even/00.mp4 walk\nodd/01.mp4 run\n", "test.txt": "odd/03.mp4\n", "val.txt": "odd/03.mp4 walk\n"},
    )
    train = dv.scan(tmp_path / "train.txt", root=numbered, progress=False)
    val = dv.scan(tmp_path / "val.txt", root=numbered, like=train, progress=False)
    test = dv.scan(tmp_path / "test.txt", root=numbered, like=train, progress=False)
    assert val.classes == test.classes == ("run", "walk")
    assert val.labels.tolist() == [1] and test.labels.tolist() == [-1] and test.targets([0]).sum() == 0
    assert "no sample has a label" in test.remarks


def test_numbers_beside_classind_that_are_told(numbered, tmp_path):
    """Numbers that may begin at 0 or at 1: indices with format=, numbers of the file with classes=."""
    write(tmp_path, {"t.txt": "even/00.mp4 1\nodd/01.mp4 2\n", "classInd.txt": "1 Apply\n2 Walk\n3 Yo\n"})
    rows, classes, _ = read(tmp_path / "t.txt", format="path_label")
    assert [row[3] for row in rows] == [(1,), (2,)] and classes == ("0", "1", "2")
    given = {"classes": tmp_path / "classInd.txt", "root": numbered, "progress": False}
    manifest = dv.scan(tmp_path / "t.txt", **given)
    assert manifest.labels.tolist() == [0, 1] and manifest.classes == ("Apply", "Walk", "Yo")
    assert f"numbers of {tmp_path}/classInd.txt begin at 1: label 1 is class 'Apply'" in manifest.remarks
    write(tmp_path, {"t.txt": "even/00.mp4 0\nodd/01.mp4 2\n"})
    rows, _, _ = read(tmp_path / "t.txt")  # 0 tells
    assert [row[3] for row in rows] == [(0,), (2,)]
    with pytest.raises(ValueError, match="line 1: label '0' is not among the 3 classes"):
        dv.scan(tmp_path / "t.txt", **given)


def test_a_separator_of_labels_that_is_in_none(tmp_path):
    write(tmp_path, {"t.txt": "a.mp4 run\nb.mp4 sit\n", "u.txt": "a.mp4 run;sit\nb.mp4 sit\n"})
    told = "multi_label=';' is in no label: no sample has several from one line"
    assert told in read(tmp_path / "t.txt", multi_label=";")[2].warnings
    rows, _, listing = read(tmp_path / "u.txt", multi_label=";")
    assert [row[3] for row in rows] == [(0, 1), (1,)] and told not in listing.warnings


def test_absolute_paths_in_ucf101(tmp_path):
    """Outside of the root, and one of two files of this name in it."""
    name = "v_Apply_g08_c01.avi"
    write(tmp_path, {"lists/classInd.txt": "1 Apply\n", f"x/Apply/{name}": "", f"lists/1/Apply/{name}": ""})
    write(tmp_path / "lists", {f"2/Apply/{name}": "", "t.txt": f"{tmp_path}/x/Apply/{name} 1\n2/Apply/{name} 1\n"})
    rows, classes, _ = read(tmp_path / "lists" / "t.txt")
    assert [row[0] for row in rows] == [f"{tmp_path}/x/Apply/{name}", f"2/Apply/{name}"] and classes == ("Apply",)


def test_numbers_and_words_in_a_format_that_is_named(tmp_path):
    write(tmp_path, {"t.txt": "a.mp4 2\nb.mp4 run\n"})
    rows, classes, _ = read(tmp_path / "t.txt", format="path_label")
    assert [row[3] for row in rows] == [(0,), (1,)] and classes == ("2", "run")


def test_lines_of_separators_are_counted(tmp_path):
    write(tmp_path, {"t.csv": "path;label\na.mp4;run\n;\n; \n\n", "u.csv": "path;label\na.mp4;run\n\n"})
    assert "lines that are separators alone, left out: 2" in read(tmp_path / "t.csv")[2].warnings
    assert not read(tmp_path / "u.csv")[2].warnings


def test_paths_that_end_as_other_files(tmp_path):
    """Files that are there are taken, though what is after their first space is one too."""
    write(tmp_path, {"t.txt": "a b.mp4\nc b.mp4\n", "a b.mp4": "", "b.mp4": ""})
    assert [row[0] for row in read(tmp_path / "t.txt")[0]] == ["a b.mp4", "c b.mp4"]
    write(tmp_path, {"t.txt": f"{'x' * 300} b.mp4\nd{'x' * 300}.mp4\n"})  # longer than names can be
    assert len(read(tmp_path / "t.txt")[0]) == 2


@pytest.mark.parametrize("name", ["path_label", "ucf101", "table"])
def test_formats_of_files_for_a_folder(name, tmp_path):
    write(tmp_path, {"a/b.mp4": ""})
    with pytest.raises(ValueError, match=rf"is a folder, but format='{name}' \(.*\) is of a file: name the file$"):
        read(tmp_path, format=name)


@pytest.mark.parametrize(
    "path, told",
    [
        ("sub\\a.mp4", "paths with backslashes, which are part of names here"),
        ("~/a.mp4", "paths that begin with ~, which is no home folder here"),
        ("x%20y.mp4", "paths with % and two digits, as URLs have them"),
    ],
)
def test_paths_that_are_not_there_as_they_are_written(path, told, tmp_path):
    write(tmp_path, {"t.csv": f"path,label\n{path},x\n", "a.txt": f"{path} 3\n"})
    for name in ("t.csv", "a.txt"):
        said = [text for text in read(tmp_path / name)[2].warnings if text.startswith(told)]
        assert len(said) == 1 and said[0].endswith(f", such as {path}")
    write(tmp_path, {path: ""})
    assert not read(tmp_path / "t.csv")[2].warnings  # a name may be so


def test_one_label_in_each_line_read_as_several(tmp_path):
    """As of validation, where training has several."""
    write(tmp_path, {"t.txt": "a.mp4 1\nb.mp4 0\n"})
    rows, classes, listing = read(tmp_path / "t.txt", format="multi_label")
    assert [row[3] for row in rows] == [(1,), (0,)] and classes == ("0", "1") and listing.several


def test_videos_that_metadata_does_not_name_are_told(tmp_path):
    write(tmp_path, {"metadata.csv": "file_name\n./a.mp4\n", "a.mp4": "", "b/c.mp4": ""})
    _, _, listing = read(tmp_path)
    told = ("videos that the metadata does not name, left out: 1 (b/c.mp4)",)
    assert listing.warnings == told


def test_folders_of_frames_are_understood(tmp_path):
    write(tmp_path, {"t.txt": "a/b 120 3 5\nc 7 -1\n", "v.txt": "a/b 0 120\n"})
    sources = [Source(path, tmp_path, text=read_text(path)) for path in (tmp_path / "t.txt", tmp_path / "v.txt")]
    places = [f"{tmp_path}/t.txt, line 1", f"{tmp_path}/t.txt, line 2", f"{tmp_path}/v.txt, line 1"]
    assert frame_folders(sources[0]) == [("a/b", 0, 120, ("3", "5"), places[0], None), ("c", 0, 7, (), places[1], None)]
    assert frame_folders(sources[1], with_start=True) == [("a/b", 0, 120, (), places[2], None)]


def test_key_frames_of_ava(numbered, tmp_path):
    """Seconds of a video are samples of their own, with boxes of the same file; they repeat nothing."""
    rows = ["00,0000,0.1,0.2,0.3,0.4,12,0", "00,0001,0.1,0.2,0.3,0.4,9,0", "00,0001,0.1,0.2,0.3,0.4,10,1"]
    write(tmp_path, {"ava.csv": "\n".join(rows)})
    manifest = dv.scan(tmp_path / "ava.csv", root=numbered, boxes=tmp_path / "ava.csv", progress=False)
    assert manifest.rows("time").tolist() == [0.0, 1.0] and manifest.has_boxes
    assert [np.flatnonzero(row).tolist() for row in manifest.targets([0, 1])] == [[12], [9, 10]]
    assert not any("frames" in remark and "earlier row" in remark for remark in manifest.remarks)
    assert not any("after the end" in remark for remark in manifest.remarks)
    cut = tmp_path / "cut.csv"  # the seconds of the film, of which the video is a part
    write(tmp_path, {"cut.csv": "\n".join(["00,0901,0.1,0.2,0.3,0.4,12,0", "00,0001,0.1,0.2,0.3,0.4,12,0"])})
    told = f"times that are after the end of their video: 1 of 2 ({cut}, line 1); KeyframeClip(offset=900) is for"
    assert any(remark.startswith(told) for remark in dv.scan(cut, root=numbered, progress=False).remarks)
    plan = dv.draw_plan(manifest, dv.Recipe(dv.KeyframeClip(num_frames=2, stride=1), ()), [0, 1])
    assert plan.frames.tolist() == [[0, 0], [24, 25]]  # 25 frames a second


def test_two_formats_that_say_the_same(tmp_path, monkeypatch):
    write(tmp_path, {"t.txt": "a.mp4 1\n"})
    monkeypatch.setitem(FORMATS, "twin", FORMATS["path_label"]._replace(name="twin"))
    rows, _, listing = read(tmp_path / "t.txt")
    assert rows == [("a.mp4", None, None, (1,))] and listing.notes[0].startswith("the list is read as path_label: ")
    other = FORMATS["path_label"]._replace(name="twin", read=FORMATS["slowfast"].read)
    monkeypatch.setitem(FORMATS, "twin", other)
    with pytest.raises(ValueError, match=r"may be path_label \(.*\) or twin .*; as twin: .*expected PATH NUMBER LABEL"):
        read(tmp_path / "t.txt")


@pytest.mark.parametrize("name", ["k.csv", "a.json"])
def test_splits_in_one_file(name, tmp_path):
    """A class that the split lacks keeps its place; without split= all are taken, which is said."""
    parts = [("vvvvvvvvvvv", "yoga", "train"), ("wwwwwwwwwww", "run", "val"), ("uuuuuuuuuuu", "sit", "train")]
    rows = "".join(f"{label},{video},1,2,{split}\n" for video, label, split in parts)
    database = {v: {"subset": s, "annotations": [{"segment": [1, 2], "label": c}]} for v, c, s in parts}
    files = {
        "k.csv": "label,youtube_id,time_start,time_end,split\n" + rows,
        "a.json": json.dumps({"database": database}),
    }
    write(
        tmp_path,
        files | {f"{video}_000001_000002.mp4" if name == "k.csv" else f"{video}.mp4": "" for video, *_ in parts},
    )
    said, classes, listing = read(tmp_path / name)
    assert [row[3] for row in said] == [(2,), (0,), (1,)] and classes == ("run", "sit", "yoga")
    assert "several splits, of which all rows are taken: train 2, val 1; split= takes one" in listing.warnings
    said, classes, listing = read(tmp_path / name, split="train")
    assert [row[3] for row in said] == [(2,), (1,)] and classes == ("run", "sit", "yoga") and not listing.warnings
    assert [row[0][0] for row in said] == ["v", "u"] and len(listing.own) == 2
    with pytest.raises(ValueError, match="split must be one of train, val, got 'test'"):
        read(tmp_path / name, split="test")


@pytest.mark.parametrize("as_text", [False, True])
def test_labels_of_activitynet_that_are_numbers(as_text, tmp_path):
    """They are the indices, whichever subset has them; with a word among them all are words."""
    labels = {"a": 3, "b": 11, "c": 2, "d": "2.0"}
    database = {
        v: {"subset": "x" if v == "c" else "y", "annotations": [{"segment": [0, 1], "label": str(n) if as_text else n}]}
        for v, n in labels.items()
    }
    write(tmp_path, {"t.json": json.dumps({"database": database})})
    rows, classes, _ = read(tmp_path / "t.json")
    assert [row[3] for row in rows] == [(3,), (11,), (2,), (2,)] and classes == tuple(map(str, range(12)))
    rows, classes, _ = read(tmp_path / "t.json", split="x")
    assert [row[3] for row in rows] == [(2,)] and len(classes) == 12
    database["a"]["annotations"][0]["label"] = "jump"
    write(tmp_path, {"t.json": json.dumps({"database": database})})
    assert read(tmp_path / "t.json")[1] == ("11", "2", "2.0", "jump")


SPLITS = [("train/a.mp4", "yoga", "train"), ("val/b.mp4", "run", "val"), ("train/c.mp4", "sit", "train")]


@pytest.mark.parametrize("column", ["split", "Subset", "set", "partition", None])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "metadata.csv", "metadata.parquet", ""])
def test_splits_of_tables(name, column, tmp_path):
    """A column, or the folder in the root, says the split; a class that a split lacks keeps its place."""
    path, column = "file_name" if "metadata" in name or not name else "path", column or "split"
    rows = [{path: p, "label": c, column: s} for p, c, s in SPLITS]
    lines = [",".join(row.values()) for row in rows]
    text = "\n".join([",".join(rows[0]), *lines])
    if name == "t.jsonl":
        text = "\n".join(map(json.dumps, rows))
    if name == "metadata.parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    else:
        write(tmp_path, {name or "metadata.csv": text})
    said, classes, listing = read(tmp_path / name)
    assert [row[3] for row in said] == [(2,), (0,), (1,)] and classes == ("run", "sit", "yoga")
    assert "several splits, of which all rows are taken: train 2, val 1; split= takes one" in listing.warnings
    assert not any("not used" in note for note in listing.notes)
    said, classes, listing = read(tmp_path / name, split="train")
    assert [(row[0], row[3]) for row in said] == [("train/a.mp4", (2,)), ("train/c.mp4", (1,))]
    assert classes == ("run", "sit", "yoga") and not any("splits" in warning for warning in listing.warnings)
    assert listing.own.column(column).to_pylist() == ["train", "train"]
    with pytest.raises(ValueError, match="split must be one of train, val, got 'valid'; is it 'val'[?]"):
        read(tmp_path / name, split="valid")


def test_splits_of_tables_are_told_by_folders(tmp_path):
    """Without a column: Hugging Face's names of splits too. Rows of no split, and numbers of classes, are told."""
    write(tmp_path, {"metadata.csv": "file_name,label\n./train/a.mp4,0\nval/b.mp4,3\nother/c.mp4,1\n"})
    told = "several splits, of which all rows are taken: train 1, val 1; split= takes one"
    assert told in read(tmp_path)[2].warnings
    for split in ("val", "validation"):
        said, classes, listing = read(tmp_path, split=split)
        assert said == [("val/b.mp4", None, None, (3,))] and classes == ("0", "1", "2", "3")
        assert "rows that are of no split, left out: 1 of 3" in listing.warnings
    assert read(tmp_path, split="train")[1] == ("0", "1", "2", "3")
    write(tmp_path, {"t.csv": "path,verb,noun,split\na.mp4,cut,egg,a\nb.mp4,add,salt,b\n"})
    rows, classes, _ = read(tmp_path / "t.csv", split="a", label_columns=("verb", "noun"))
    assert rows[0][3] == (1, 2) and classes == ("verb=add", "verb=cut", "noun=egg", "noun=salt")
    write(tmp_path, {"n.csv": "path,split\na.mp4,\n"})
    with pytest.raises(ValueError, match="n.csv: split must be one of none, since no row has one, got 'a'"):
        read(tmp_path / "n.csv", split="a")


PIECES = (b",", b";", b" ", b"\t", b'"', b"\n", b"\0", b"\xe9", b"-1", b"nan", b"9" * 30, b"[", b"}", b"::", b".mp4")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_lists_are_refused_with_their_name(seed, tmp_path):
    """Bytes of a list, or of a file beside it, are removed, added and changed: what is not read is a ValueError."""
    rng = np.random.default_rng(seed)
    names = [name for name, (_, example) in EXAMPLES.items() if any(example.files.values())]
    for i in range(60):
        form, example = EXAMPLES[str(rng.choice(names))]
        files = {name: data if isinstance(data, bytes) else data.encode() for name, data in example.files.items()}
        damaged = str(rng.choice([name for name, data in files.items() if data]))
        data = bytearray(files[damaged])
        for at in rng.integers(0, len(data), rng.integers(1, 4)).tolist():
            piece = PIECES[rng.integers(len(PIECES))]
            data[at : at + int(rng.integers(0, 9))] = piece if rng.random() < 0.7 else b""
        folder = write(tmp_path / str(i), files | {damaged: bytes(data)})
        options = dict(example.options) | ({"format": form} if rng.random() < 0.3 else {})
        try:
            read(folder / example.list, **options)
        except ValueError as error:
            assert str(folder) in str(error) or str(error).startswith("scan: "), error


def test_leftovers_that_are_told(tmp_path):
    """What a list is not read as is told; nothing is told twice, and nothing of what is not there."""
    write(tmp_path, {"v.txt": "a.mp4 0 -1\n", "a.mp4": ""})
    assert [text for text in tell_unlabelled(read(tmp_path / "v.txt")[2]).notes if "label" in text] == [
        "no sample has a label"
    ]
    write(tmp_path, {"k/kinetics_train.csv": "label,youtube_id,time_start,time_end,split\nyoga,x,1,2,train\n"})
    assert any("the 1 label of this file" in note for note in read(tmp_path / "k" / "kinetics_train.csv")[2].notes)
    write(tmp_path, {"f/run/a.mp4": "", "f/notes_test_split1.txt": "my own notes\n"})
    assert read(tmp_path / "f")[0][0][0] == "run/a.mp4"
    write(tmp_path, {"f/notes_test_split1.txt": "a.avi 1\n"})
    with pytest.raises(ValueError, match="need split=.*format='folder' reads the folders beside these files"):
        read(tmp_path / "f")
    with pytest.raises(ValueError, match="split='train', but it has no folders of splits: train, validation, test"):
        read(write(tmp_path / "g", {"run/a.mp4": ""}), format="videofolder", split="train")


def test_a_refusal_of_a_format_stays_where_another_reads_the_list(tmp_path, monkeypatch):
    write(tmp_path, {"x.csv": "path,label\na.mp4,1\n", "a.mp4": ""})

    def refuse(source):
        raise ValueError(f"{source.path}: the separator cannot be told")

    monkeypatch.setitem(FORMATS, "jsonl", FORMATS["jsonl"]._replace(fits=refuse))
    assert "read as table, although the separator cannot be told" in read(tmp_path / "x.csv")[2].warnings
