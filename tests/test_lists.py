"""Lists of videos: CSV files, Kinetics' annotations, and what is wrong with them."""

import shutil

import pytest

import dali_vidaug as dv


def scan(path, **options):
    return dv.scan(path, progress=False, **options)


def test_csv(numbered, tmp_path):
    (tmp_path / "list.csv").write_text(
        "path, label, start, end\n"
        "even/00.mp4, run, ,\n"
        'odd/01.mp4, "jump, high", 0.4, 1.2\n'
        "odd/03.mp4, run, 9, 10\n"
        "odd/99.mp4, run, ,\n"
    )
    manifest = scan(tmp_path / "list.csv", root=numbered)
    assert manifest.classes == ("jump, high", "run") and manifest.labels.tolist() == [1, 0]
    videos = manifest.videos([0, 1])
    assert videos.first.tolist() == [0, 10] and videos.last.tolist() == [40, 30]  # 25 frames per second
    assert {b.path.rsplit("/", 1)[1]: b.reason for b in manifest.broken} == {
        "03.mp4": "no frame between 9.0 and 10.0 s (it lasts 1.84 s)",
        "99.mp4": "the file does not exist",
    }
    plan = dv.draw_plan(manifest, dv.Recipe(dv.ClipSampling(8, 2), ()), [1] * 3, epoch=3)
    assert plan.frames.min() >= 10 and plan.frames.max() < 30
    assert manifest.columns == ("start", "end")  # besides path and label
    assert manifest.rows("start", [0, 1]).tolist() == [None, 0.4] and manifest.rows("end", [1]).tolist() == [1.2]


def test_kinetics_csv(numbered, tmp_path):
    (tmp_path / "riding a bike").mkdir()
    shutil.copy(numbered / "even" / "00.mp4", tmp_path / "riding a bike" / "abc-_123xyz_000010_000020.mp4")
    shutil.copy(numbered / "odd" / "01.mp4", tmp_path / "whole_video.mp4")
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "riding a bike,abc-_123xyz,10,20,train,0\nyoga,whole_video,3,13,train,0\nyoga,gone,1,11,train,0\n"
    )
    manifest = scan(tmp_path / "train.csv")
    assert manifest.classes == ("riding a bike", "yoga") and manifest.labels.tolist() == [0, 1]
    assert [b.reason for b in manifest.broken] == [f"not found as gone_000001_000011.* or gone.* in {manifest.root}"]
    assert manifest.columns == ("youtube_id", "time_start", "time_end", "split", "is_cc")
    assert manifest.rows("youtube_id", [0, 1]).tolist() == ["abc-_123xyz", "whole_video"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the header must have path"),
        ("name,label\na,b\n", "the header must have path.*it has name, label. Name the column with the paths path$"),
        (
            "classname,youtube_id,subset,start,end,label\na,b,c,1,2,1\n",
            "youtube_id may be ids, which are no paths: docs/lists.md, 'A list of paths', makes them paths$",
        ),
        ("a/b,0\n", "it has a/b, 0. This looks like a row: put a line path,label above it, or say which list it is"),
        ("a/b 0\nb/c 1\n", "looks like a row: put a line path,label above it, and commas between values, or say which"),
        ("path label\na.mp4 0\n", "it has path label. Values must be separated by commas$"),
        ("path,label\n", "has a header, but no rows"),
        ("path,label\na.mp4\n", "line 2: 1 fields, but the header has 2"),
        ("path,label\na.mp4,b,c\n", "line 2: 3 fields, but the header has 2"),
        ("path,start,end\na.mp4,one,2\n", "line 2: start and end must be seconds"),
        ("path,label\n,x\n", "line 2: path is empty"),
        ('path,label\na.mp4,"x\ny"\n,z\n', "line 4: path is empty"),
        ("label,youtube_id,time_start,time_end\na,,1,2\n", "line 2: youtube_id is empty"),
        ("label,youtube_id,time_start,time_end\na,b,c,d\n", "line 2: time_start and time_end must be seconds"),
    ],
)
def test_csv_errors_name_file_and_line(text, message, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        scan(tmp_path / "x.csv")
    assert str(tmp_path / "x.csv") in str(caught.value)


def test_nothing_to_scan(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder or file .*/gone"):
        scan(tmp_path / "gone")
    with pytest.raises(ValueError, match=f"no videos in {tmp_path}"):
        scan(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(ValueError, match="cannot be read as a list: byte 4 is not UTF-16"):
        scan(tmp_path / "binary.csv")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 1 video can be used; the first: .*x.mp4: the file is empty"):
        scan(tmp_path)
