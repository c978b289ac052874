"""Tar shards: what is listed of them, labels and columns, and that their clips are those of files."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    OWN_SIZE,
    RECIPE,
    VIDEO_CASES,
    by_container,
    cut_frames,
    decode_fully,
    frame_lists,
    remuxed_frames,
    same_content,
    take_batches,
    write_numbered,
)

import dali_vidaug as dv
from dali_vidaug.data import measuring
from dali_vidaug.data.labels import index_labels
from dali_vidaug.data.list_formats import list_videos
from dali_vidaug.data.list_source import Options
from dali_vidaug.data.shard_names import expand
from dali_vidaug.data.shards import split_key
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.decode import decode

LOCAL = (
    "path",
    "shard",
    "shard_offset",
    "mtime_ns",
    "packet_index",
    "label",
)  # what may differ between file and member


def put(path, members):
    """Write a tar file of members: {name: bytes, text, or what becomes JSON}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            data = data if isinstance(data, (bytes, str)) else json.dumps(data)
            data = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def listed(path, **options):
    """What a folder, pattern or tar file is listed as: the listing, and the label names of each entry."""
    listing = list_videos(Path(path), None, Options(**options))
    labels = index_labels(listing, listing.classes)
    return listing, [tuple(labels.classes[i] for i in row) for row in labels.indices]


def said(listing):
    return "\n".join((*listing.warnings, *listing.notes))


# ---- Names


def test_names_are_expanded_as_webdataset_has_them():
    assert expand("s/{000..003}.tar") == ["s/000.tar", "s/001.tar", "s/002.tar", "s/003.tar"]
    assert expand("{8..11}.tar") == ["8.tar", "9.tar", "10.tar", "11.tar"]
    assert expand("{train,val}-{0..1}.tar::x.tar") == [
        "train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar", "x.tar",
    ]  # fmt: skip
    assert len(expand("{000000..000123}.tar")) == 124
    for name, message in (
        ("{3..1}.tar", "must count up"),
        ("{a}.tar", "must be a range"),
        ("{0..9999999}.tar", "1000"),
    ):
        with pytest.raises(ValueError, match=message):
            expand(name)


def test_a_key_ends_at_the_first_dot_of_the_base_name():
    assert split_key("a.b/c.left.MP4") == ("a.b/c", "left.mp4")
    assert split_key("c") == ("c", "")


# ---- What is found


def test_a_folder_a_pattern_a_list_and_a_file(tmp_path):
    for i in range(3):
        put(tmp_path / "s" / f"t-{i:02d}.tar", {f"{i}a.mp4": b"x", f"{i}b.mp4": b"y"})
    expected = [f"t-{i:02d}.tar/{i}{letter}.mp4" for i in range(3) for letter in "ab"]
    assert [entry.path for entry in listed(tmp_path / "s")[0].entries] == expected
    pattern, _ = listed(tmp_path / "s" / "t-{00..02}.tar")
    assert [entry.path for entry in pattern.entries] == expected and pattern.root == tmp_path / "s"
    one, _ = listed(tmp_path / "s" / "t-01.tar")
    assert [entry.path for entry in one.entries] == expected[2:4]
    above, _ = listed(tmp_path)
    assert [entry.path for entry in above.entries] == [f"s/{path}" for path in expected]
    with tarfile.open(tmp_path / "s" / "t-01.tar") as tar:
        info = tar.getmember("1b.mp4")
    assert [(e.shard, e.first, e.size) for e in one.entries[1:]] == [("t-01.tar", info.offset_data, 1)]


def test_a_folder_with_videos_is_a_folder_of_videos(tmp_path):
    put(tmp_path / "t.tar", {"a.mp4": b"x"})
    (tmp_path / "v.mp4").write_bytes(b"x")
    listing, _ = listed(tmp_path)
    assert [entry.path for entry in listing.entries] == ["v.mp4"] and ".tar 1 (t.tar)" in said(listing)


def test_what_is_no_sample_is_told(tmp_path):
    members = {
        "a.mp4": b"1", "a.json": {"label": 0}, "a.jpg": b"cover", "b.json": {"label": 1}, "c.left.mp4": b"2",
        "c.right.mp4": b"3", "c.cls": "1", "._a.mp4": b"4", "__MACOSX__/d.mp4": b"5", ".e.mp4": b"6",
        "__meta__": b"x", "README": b"x",
    }  # fmt: skip
    listing, labels = listed(put(tmp_path / "t.tar", members))
    assert [entry.path[6:] for entry in listing.entries] == ["a.mp4", "c.left.mp4", "c.right.mp4"]
    assert labels[1:] == [("1",), ("1",)]
    text = said(listing)
    assert "keys with several videos" in text and "t.tar/c.left.mp4 and c.right.mp4" in text
    assert "keys without a video, left out: 1 (t.tar/b)" in text
    assert ".jpg 1 (t.tar/a.jpg), .no extension 1 (t.tar/README)" in text
    assert "hidden videos passed over: 3" in text and "tar shards: 1 with 3 samples" in text


def test_members_that_cannot_be_used(tmp_path):
    """Names that are there twice, links, members that are cut off; the others are kept."""
    path = put(tmp_path / "s" / "t.tar", [
        ("a.mp4", b"1"), ("a.mp4", b"2"), ("b.mp4", b"3"), ("b.cls", "0"), ("b.cls", "1"), ("c.mp4", b"4"),
        ("c.json", "{"), ("d.mp4", b"5"), ("d.cls", b"\xff"), ("e.mp4", b"6"),
    ])  # fmt: skip
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("f.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/data/f.mp4"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("folder.mp4"))
        last = tarfile.TarInfo("g.mp4")
        last.size = 5000
        tar.addfile(last, io.BytesIO(bytes(5000)))
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"g.mp4") + 3000])
    (tmp_path / "s" / "u.tar.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    listing, _ = listed(tmp_path / "s")
    errors = {entry.path: entry.error for entry in listing.entries}
    assert errors.pop("t.tar/e.mp4") is None and errors.pop("t.tar/folder.mp4") is None
    for name, message in {
        "t.tar/a.mp4": "more than once", "t.tar/b.mp4": "t.tar/b.cls is more than once", "t.tar/f.mp4": "symbolic link",
        "t.tar/c.mp4": "t.tar/c.json cannot be read as JSON", "t.tar/d.mp4": "t.tar/d.cls is not UTF-8",
        "t.tar/g.mp4": "it is cut off", "u.tar.gz": "compressed with gzip",
    }.items():  # fmt: skip
        assert message in errors.pop(name), name
    assert not errors and "t.tar: it is cut off" in said(listing)


def test_members_that_differ_by_capitals_alone(tmp_path):
    members = {"a.mp4": b"1", "a.json": {"label": "x"}, "a.JSON": {"label": "y"}}
    members |= {"b.mp4": b"2", "b.CLS": "x", "b.cls": "x", "c.mp4": b"3", "c.JSON": {"label": "z"}}
    listing, labels = listed(put(tmp_path / "t.tar", members))
    assert [entry.error for entry in listing.entries] == [
        "t.tar/a.json and a.JSON are both there, and which one is meant is not known",
        "t.tar/b.CLS and b.cls are both there, and which one is meant is not known", None,
    ]  # fmt: skip
    assert labels[2] == ("z",)


def test_an_odd_json_breaks_its_sample_alone(tmp_path):
    odd = {"b": '{"note": "\\uD83D"}', "c": '{"a\\ude00": 1}', "d": '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"}
    odd |= {f"e{n}": '{"a": ' * n + "1" + "}" * n for n in (900, 980, 995, 2000)}
    members = {"a.mp4": b"1", "a.json": '{"label": "x", "note": "\\ud83d\\ude00"}'}
    members |= {name: data for key, text in odd.items() for name, data in ((f"{key}.mp4", b"2"), (f"{key}.json", text))}
    listing, labels = listed(put(tmp_path / "t.tar", members))
    errors = {entry.path: entry.error for entry in listing.entries}
    assert (
        errors["t.tar/a.mp4"] is None
        and labels[0] == ("x",)
        and listing.own.to_pylist()[0]["note"] == "\N{GRINNING FACE}"
    )
    assert errors["t.tar/b.mp4"] == "t.tar/b.json has half of a character, \\ud83d, alone"
    assert errors["t.tar/c.mp4"] == "t.tar/c.json has half of a character, \\ude00, alone"
    assert errors["t.tar/d.mp4"] == "t.tar/d.json has objects or lists in one another that are too deep"


def test_refusals(tmp_path):
    put(tmp_path / "t.tar", {"a.txt": "no video"})
    for path, options, message in (
        (tmp_path / "t.tar", {}, r"no videos in 1 tar file of .*t.tar \(keys without a video, left out: 1"),
        (tmp_path / "x.tar", {}, "no videos in 1 tar file of .*x.tar; x.tar: the file does not exist"),
        (tmp_path / "t.tar", {"split": "train"}, "split='train' means nothing for .*, which is tar shards"),
        (tmp_path / "t.tar", {"format": "kinetics"}, "format='kinetics' means nothing for"),
        (tmp_path, {"encoding": "latin-1"}, "encoding='latin-1' means nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            listed(path, **options)
    tars = [tmp_path / "t.tar", tmp_path / "v.mp4"]
    with pytest.raises(ValueError, match=r"videos or tar shards, not both, got .*v.mp4"):
        dv.scan(tars)
    with pytest.raises(ValueError, match="labels and columns are for a list of videos"):
        dv.scan(tars[:1], labels=[1])
    put(tmp_path / "t.tar", {"a.mp4": b"x", "a.json": {"label": 1}})
    with pytest.raises(ValueError, match="label_columns must be columns of the list, got verb"):
        listed(tmp_path / "t.tar", label_columns=("verb",))


# ---- Labels and columns


@pytest.mark.parametrize(
    "members, expected, told",
    [
        ({"a.cls": "1", "b.cls": "0\n"}, [("1",), ("0",)], "labels: KEY.cls"),
        ({"a.cls": "run", "b.cls": "fall"}, [("run",), ("fall",)], "labels: KEY.cls"),
        ({"a.json": {"label": 1}, "b.json": {"label": 0}}, [("1",), ("0",)], "labels: label of KEY.json"),
        ({"a.cls": "1", "a.json": {"label": 1}, "b.json": {"label": 0}}, [("1",), ("0",)], "labels: label of KEY.json"),
        ({"a.json": {"cls": "x"}, "b.json": {"cls": "y"}}, [("x",), ("y",)], "labels: cls of KEY.json"),
        ({"a.json": {"class": "x"}, "b.json": {"class": "y"}}, [("x",), ("y",)], "labels: class of KEY.json"),
        ({"a.json": {"Label": "x"}, "b.json": {}}, [("x",), ()], "labels: Label of KEY.json"),
        ({"a.json": {"label": 2, "class_name": "run"}, "b.json": {"label": 0, "class_name": "fall"}},
         [("run",), ("fall",)], "labels: label of KEY.json, named by class_name of KEY.json"),
        ({"a.cls": "1", "a.json": {"label": "run"}, "b.cls": "0", "b.json": {"label": "fall"}},
         [("run",), ("fall",)], "labels: KEY.cls, named by label of KEY.json"),
        ({"a.json": {"label": 1, "class": "x"}, "b.json": {"label": 0, "class": "x"}}, [("1",), ("0",)],
         "fields that look like labels are not used: class; labels are those of label of KEY.json"),
        ({"a.cls": "1", "a.json": {"label": 0}, "b.cls": "0", "b.json": {"label": 0}}, [("1",), ("0",)],
         "samples whose KEY.cls and label of KEY.json differ, of which KEY.cls counts: 1 of 2"),
        ({"a.cls": "1", "b.json": {"label": 0}}, [("1",), ()],
         "samples with label of KEY.json alone, which have no label, as KEY.cls counts: 1 of 2"),
        ({"a.json": {"label": ["x", "a, b"]}, "b.json": {"label": []}}, [("x", "a, b"), ()], "label of KEY.json"),
        ({"a.json": {"label": [0, 1], "class": ["x", "y"]}, "b.json": {"label": [1], "class": ["y"]}},
         [("x", "y"), ("y",)], "named by class"),
        ({"a.json": {"label": "run, fast"}, "b.json": {"label": ["run, fast", "jump"]}},
         [("run, fast",), ("run, fast", "jump")], "label of KEY.json"),
        ({"a.json": {"label": 1, "class": "y"}, "b.json": {"label": [0, 1], "class": ["x", "y"]}},
         [("y",), ("x", "y")], "named by class"),
        ({"a.json": {"label": -1}, "b.json": {"label": [2]}}, [(), ("2",)], "label of KEY.json"),
        ({"a.txt": "a dog runs", "b.txt": "a cat"}, [(), ()], "KEY.txt is the column caption"),
        ({"a.json": {"verb": "run"}, "b.json": {"verb": "fall"}}, [(), ()],
         "fields that look like labels are not used: verb; no sample has a label. label_columns= chooses"),
        ({"a.json": {"start": 1.5, "label": "x"}, "b.json": {"start": 2, "label": "x"}}, [("x",), ("x",)],
         "fields that look like times are not used: start; a member is taken for the part itself"),
        ({"a.json": {"label": -1}, "b.json": {"label": None}}, [(), ()], "label of KEY.json"),
    ],
)  # fmt: skip
def test_labels(members, expected, told, tmp_path):
    listing, labels = listed(put(tmp_path / "t.tar", {"a.mp4": b"1", "b.mp4": b"2", **members}))
    assert labels == expected and told in said(listing)


def test_numbers_with_names_keep_their_indices(tmp_path):
    members = {}
    for key, number, name in (("a", 4, "run"), ("b", 1, "fall"), ("c", 4, "run")):
        members |= {f"{key}.mp4": b"x", f"{key}.json": {"label": number, "class": name}}
    listing, _ = listed(put(tmp_path / "t.tar", members))
    labels = index_labels(listing, listing.classes)
    assert labels.classes == ("0", "fall", "2", "3", "run") and labels.indices == [(4,), (1,), (4,)]


def test_shards_of_two_packs_with_other_classes(tmp_path):
    """Names count where all have one; else a number with two names is an error."""

    def sample(key, number, name):
        return {
            f"{key}.mp4": b"x",
            f"{key}.json": {"label": number, "class": name, "source": key},
            f"{key}.cls": str(number),
        }

    put(tmp_path / "s" / "a.tar", {**sample("0", 0, "run"), **sample("1", 1, "walk")})
    put(tmp_path / "s" / "b.tar", {**sample("0", 0, "jump"), **sample("1", 1, "run")})
    listing, labels = listed(tmp_path / "s")
    assert labels == [("run",), ("walk",), ("jump",), ("run",)] and listing.classes.names == ("jump", "run", "walk")
    two = "label 0 is 'run' in a.tar/0.mp4 and 'jump' in b.tar/0.mp4"
    assert f"names count, and have new indices: {two}" in said(listing)
    put(tmp_path / "s" / "c.tar", {"0.mp4": b"x", "0.cls": "1"})
    with pytest.raises(ValueError, match=f"{two}, and c.tar/0.mp4 has a number without a name"):
        listed(tmp_path / "s")
    put(tmp_path / "t" / "a.tar", {**sample("0", 0, "2"), **sample("1", 1, "3")})
    put(tmp_path / "t" / "b.tar", {**sample("0", 2, "3")})
    listing, labels = listed(tmp_path / "t")
    assert labels == [("2",), ("3",), ("3",)] and listing.classes.names == ("2", "3")
    assert "'3' is label 1 in a.tar/1.mp4 and 2 in b.tar/0.mp4" in said(listing)


def test_folders_are_labels_where_there_is_nothing_else(tmp_path):
    names = ["data/run/1.mp4", "data/run/deep/2.mp4", "data/fall/3.mp4"]
    listing, labels = listed(put(tmp_path / "t.tar", dict.fromkeys(names, b"x")))
    assert labels == [("run",), ("run",), ("fall",)]
    assert "labels: the folders of members, such as t.tar/data/run/1.mp4" in said(listing)
    listing, labels = listed(put(tmp_path / "u.tar", {**dict.fromkeys(names, b"x"), "data/run/1.cls": "other"}))
    assert labels == [("other",), (), ()]
    _, labels = listed(put(tmp_path / "v.tar", dict.fromkeys(["data/1.mp4", "data/2.mp4"], b"x")))
    assert labels == [(), ()]  # a folder that all have in common is no class


def test_fields_are_columns_of_your_own(tmp_path):
    first = {"label": 0, "fps": 25, "text": "x", "deep": {"a": 1}, "tags": ["p", "q"], "score": 0.5, "ok": True}
    members = {"a.mp4": b"1", "a.json": first, "a.txt": " a dog\n", "b.mp4": b"2", "b.json": {"label": 1}, "b.txt": "c"}
    listing, _ = listed(put(tmp_path / "t.tar", members))
    assert listing.own.to_pylist() == [
        {"list_fps": 25, "text": "x", "deep": '{"a": 1}', "tags": ["p", "q"], "score": 0.5, "ok": True,
         "caption": "a dog"},
        {"list_fps": None, "text": None, "deep": None, "tags": None, "score": None, "ok": None, "caption": "c"},
    ]  # fmt: skip
    assert "column fps is kept as list_fps" in said(listing)
    members = {"a.mp4": b"1", "a.json": {"caption": "other"}, "a.txt": "dog"}
    assert listed(put(tmp_path / "u.tar", members))[0].own.to_pylist() == [{"caption": "other", "txt": "dog"}]
    members = {"a.mp4": b"1", "a.json": {"caption": "dog"}, "a.txt": "dog"}
    assert listed(put(tmp_path / "v.tar", members))[0].own.to_pylist() == [{"caption": "dog"}]
    assert listed(put(tmp_path / "w.tar", {"a.mp4": b"1", "a.json": "[1, 2]"}))[0].own.to_pylist() == [
        {"json": ["1", "2"]}
    ]


def test_chosen_label_columns(tmp_path):
    members = {"a.mp4": b"1", "a.json": {"verb": "open", "noun": "door"}, "b.mp4": b"2", "b.json": {"verb": "cut"}}
    _, labels = listed(put(tmp_path / "t.tar", members), label_columns=("verb", "noun"))
    assert labels == [("verb=open", "noun=door"), ("verb=cut",)]
    members = {"a.mp4": b"1", "a.cls": "x;y", "b.mp4": b"2", "b.cls": "y"}
    assert listed(put(tmp_path / "u.tar", members), multi_label=";")[1] == [("x", "y"), ("y",)]
    members = {"a.mp4": b"1", "a.json": {"tags": ["x", "y"]}, "b.mp4": b"2", "b.json": {"tags": "y"}}
    assert listed(put(tmp_path / "v.tar", members), label_columns=("tags",))[1] == [("x", "y"), ("y",)]


# ---- Clips


SOME = ("h264_bframes", "h264_open_gop", "h264_transport_stream", "mpeg4_avi_bframes", "vp8", "mjpeg")


@pytest.fixture(scope="module", params=[SOME, pytest.param(tuple(VIDEO_CASES), marks=pytest.mark.slow)], ids=len)
def both(request, case_video, tmp_path_factory):
    """Manifests of all kinds of files as files and as members of a tar file, with the same rows."""
    folder = tmp_path_factory.mktemp("shards")
    files = {case: Path(case_video(case).path) for case in request.param}
    files["mpeg_ps"] = write_numbered(folder / "ps" / "v.mpg", 40, codec="mpeg2video", options={"g": "12", "b": "2M"})
    shard = folder / "s" / "t.tar"
    put(shard, [(f"{case}{path.suffix}", path.read_bytes()) for case, path in files.items()])
    whole = dv.scan(list(files.values()), progress=False)
    members = dv.scan(shard, progress=False)
    return whole, members, list(files)


def test_members_are_measured_as_files_are(both):
    whole, members, cases = both
    assert len(whole) == len(members) == len(cases) and not members.broken
    for name in whole.table.column_names:
        if name not in LOCAL:
            assert whole.table[name].to_pylist() == members.table[name].to_pylist(), name
    for i in range(len(cases)):
        one, other = whole.video(i).packet_index, members.video(i).packet_index
        assert (one is None) == (other is None) and (one is None or bytes(one.packets) == bytes(other.packets))
        assert members.video(i).path.startswith(f"{members.root}/t.tar/{cases[i]}.")


@pytest.mark.parametrize("indexed", [True, False])
def test_clips_of_members_are_those_of_a_full_decode(both, indexed):
    whole, members, cases = both
    for i, case in enumerate(cases):
        video = members.video(i) if indexed else by_container(members.video(i))
        truth = decode_fully(whole.path(i))
        for frames in frame_lists(len(truth)):
            assert cut_frames(video, frames) == [truth[at] for at in frames], case
        if video.regular:
            frames = frame_lists(len(truth))[0]
            assert remuxed_frames(video, frames) == remuxed_frames(whole.video(i), frames), case


@pytest.mark.parametrize("decoder", ["pyav", "hybrid"])
def test_batches_of_shards_are_those_of_files(both, decoder):
    whole, members, _ = both
    options = dict(batch_size=5, seed=3, device="cpu", decoder=decoder, num_shards=1, shard_index=0, on_error="raise")
    pairs = zip(*(take_batches(dv.VideoLoader(m, RECIPE, **options), 4) for m in (whole, members)), strict=True)
    assert all(same_content(one, other) for one, other in pairs)


@pytest.mark.parametrize("check_files", ["size_and_time", "size", "off"])
@pytest.mark.parametrize(
    "name, codec", [("v.ts", "libx264"), ("v.ts", "mpeg2video"), ("v.mpg", "mpeg2video"), ("v.mkv", "vp8")]
)
def test_a_member_ends_where_the_next_begins(name, codec, check_files, tmp_path):
    """Also where nothing is compared, and no packet index says which bytes are the video's."""
    options = {"g": "12"} if codec == "libx264" else {"g": "12", "b": "2M"}
    codec = "libvpx" if codec == "vp8" else codec
    files = [write_numbered(tmp_path / str(i) / name, 20 + 7 * i, codec=codec, options=options) for i in range(4)]
    put(tmp_path / "s" / "t.tar", [(f"{i}-{name}", path.read_bytes()) for i, path in enumerate(files)])
    options = dict(batch_size=4, device="cpu", num_shards=1, shard_index=0, on_error="raise", shuffle=False)
    whole, members = (dv.scan(what, progress=False, index=False) for what in (files, tmp_path / "s"))
    loader = dv.VideoLoader(members, RECIPE, check_files=check_files, **options)
    made = take_batches(dv.VideoLoader(whole, RECIPE, **options), 3), take_batches(loader, 3)
    assert all(same_content(one, other) for one, other in zip(*made, strict=True))
    for i, path in enumerate(files):
        place = loader.settings.trusted(members.video(i)).place
        assert place == members.video(i).place and place.size == path.stat().st_size


# ---- The manifest


@pytest.fixture
def packed(numbered, tmp_path):
    """Six numbered videos in two tar files, in folders of classes."""
    for i in range(2):
        names = sorted(numbered.glob("*/*.mp4"), key=lambda p: p.stem)[3 * i : 3 * i + 3]
        put(tmp_path / "s" / f"{i}.tar", {f"{p.parent.name}/{p.stem}.mp4": p.read_bytes() for p in names})
    return tmp_path / "s"


def test_a_shard_by_two_names_repeats_its_samples(numbered, tmp_path):
    folder = tmp_path / "linked"
    folder.mkdir()
    data = next(numbered.glob("*/*.mp4")).read_bytes()
    put(folder / "a.tar", {"0.mp4": data, "1.mp4": data})  # two samples, of the same bytes but not the same place
    manifest = dv.scan(folder, progress=False)
    assert not any("earlier row" in text for text in manifest.remarks)
    (folder / "b.tar").symlink_to("a.tar")
    manifest = dv.scan(folder, progress=False)
    assert len(manifest) == 4
    assert "rows with the frames and label of an earlier row, which count again: 2 (" in "; ".join(manifest.remarks)


def test_a_scan_knows_what_did_not_change(packed, tmp_path, monkeypatch):
    output = tmp_path / "m.parquet"
    before = dv.scan(packed, output=output, progress=False)
    measured = []
    measure = measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda place, *a: measured.append(place) or measure(place, *a))
    assert dv.scan(packed, output=output, progress=False).table.equals(before.table) and not measured
    os.utime(packed / "1.tar")
    after = dv.scan(packed, output=output, progress=False)
    assert {Path(place.path).name for place in measured} == {"1.tar"} and len(measured) == 3
    assert after.rows("num_frames").tolist() == before.rows("num_frames").tolist()


@pytest.mark.parametrize("indexed", [True, False])
def test_a_shard_that_changed_is_noticed(packed, indexed):
    manifest = dv.scan(packed, progress=False, index=indexed)
    video, shard = manifest.video(0), packed / "0.tar"
    data, stat = shard.read_bytes(), shard.stat()
    first, size = video.place.first, video.place.size
    with shard.open("ab") as file:  # a member more
        file.write(bytes(512))
    with pytest.raises(READ_ERRORS, match="another time of change"):
        decode(video, np.arange(4))
    other = bytearray(data)
    other[first : first + size] = data[first : first + size][::-1]
    shard.write_bytes(other)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(READ_ERRORS, match="changed since it was scanned"):
        decode(video, np.arange(4))
    shard.write_bytes(data[: first + size // 3])
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(READ_ERRORS, match="changed since it was scanned"):
        decode(video, np.arange(36, 40))


def test_reports_and_errors_name_the_member(packed):
    manifest = dv.scan(packed, progress=False)
    name = manifest.path(0)
    data = bytearray((packed / "0.tar").read_bytes())
    place = manifest.video(0).place
    data[place.first : place.first + place.size] = bytes(place.size)
    stat = (packed / "0.tar").stat()
    (packed / "0.tar").write_bytes(data)
    os.utime(packed / "0.tar", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    options = dict(batch_size=6, shuffle=False, device="cpu", num_shards=1, shard_index=0)
    with dv.VideoLoader(manifest, OWN_SIZE, **options) as loader:
        next(iter(loader))
        assert name in str(loader.report()) and name == f"{packed}/0.tar/even/00.mp4"
    with dv.VideoLoader(manifest, OWN_SIZE, **options, on_error="raise") as loader:
        with pytest.raises(dv.ClipError, match="0.tar/even/00.mp4"):
            next(iter(loader))


def test_a_loader_looks_for_the_shards(packed, tmp_path):
    manifest = dv.scan(packed, output=tmp_path / "m.parquet", progress=False)
    (packed / "0.tar").rename(tmp_path / "0.tar")
    (packed / "1.tar").rename(tmp_path / "1.tar")
    with pytest.raises(FileNotFoundError, match="none exists in .*, such as 0.tar"):
        dv.VideoLoader(manifest, RECIPE, 2, device="cpu")
    moved = dv.Manifest.read(tmp_path / "m.parquet", root=tmp_path)
    dv.VideoLoader(moved, RECIPE, 2, device="cpu", num_shards=1, shard_index=0).close()
    for name in ("0.tar", "1.tar"):
        (tmp_path / name).write_bytes(b"short")
    with pytest.raises(ValueError, match="0.tar has 5 bytes, and had at least"):
        dv.VideoLoader(moved, RECIPE, 2, device="cpu")


def test_parts_and_sums_of_manifests(packed, numbered, tmp_path):
    manifest = dv.scan(packed, progress=False)
    train, val = manifest.split(0.5)
    assert len(train) == 3 and not set(train.rows("path")) & set(val.rows("path"))
    with pytest.raises(ValueError, match="both have the same frames"):
        manifest + manifest.select([0])
    files = dv.scan(numbered, like=manifest, progress=False)
    together = files + manifest
    for i in range(len(files), len(together)):
        assert together.video(i).place == manifest.video(i - len(files)).place
    assert decode(together.video(len(files)), np.arange(3)).pixels.shape[0] == 3
    with pytest.raises(
        ValueError, match=f"{len(files)} rows of {len(together)} are files of their own; dv.pack writes"
    ):
        dv.VideoLoader(together, RECIPE, 2, device="cpu", shards_at_a_time=1)


def test_shuffling_within_shards(packed):
    manifest = dv.scan(packed, progress=False)
    options = dict(batch_size=1, seed=1, device="cpu", num_shards=1, shard_index=0, shards_at_a_time=1)
    with dv.VideoLoader(manifest, RECIPE, **options) as loader:
        for _ in range(2):
            samples = [int(batch.samples[0]) for batch in loader]
            shards = manifest.rows("shard", samples).tolist()
            assert sorted(samples) == list(range(6)) and shards in (
                ["0.tar"] * 3 + ["1.tar"] * 3,
                ["1.tar"] * 3 + ["0.tar"] * 3,
            )
        next(iter(loader))
        iterator = iter(loader)
        next(iterator), next(iterator)
        state = loader.state_dict()
        rest = [int(batch.samples[0]) for batch in iterator]
    with dv.VideoLoader(manifest, RECIPE, **options) as loader:
        loader.load_state_dict(state)
        assert [int(batch.samples[0]) for batch in loader] == rest
    with dv.VideoLoader(manifest, RECIPE, **{**options, "shards_at_a_time": 2}) as loader:
        with pytest.raises(ValueError, match="shards_at_a_time is 2, the state's 1"):
            loader.load_state_dict(state)
    for wrong in (0, -1, True, 1.5, "2"):
        with pytest.raises(ValueError, match="shards_at_a_time must be an int >= 1 or None"):
            dv.VideoLoader(manifest, RECIPE, **{**options, "shards_at_a_time": wrong})
    with pytest.raises(ValueError, match="how to shuffle, but shuffle is False"):
        dv.VideoLoader(manifest, RECIPE, **options, shuffle=False)
