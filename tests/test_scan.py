import json
import shutil
import sys

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import numbered_frame, write_numbered

import dali_vidaug as dv

scan_module = sys.modules["dali_vidaug.scan"]  # the name in the package is the function


def scan(path, **options):
    return dv.scan(path, progress=False, **options)


def make_broken(folder, source):
    """Files that cannot be used, and a word of the reason for each."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = source.read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "no_index.mp4").write_bytes(whole[: len(whole) // 3])  # the index is at the end
    with av.open(str(folder / "audio.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return {
        "empty": "empty",
        "text": "Invalid data",
        "no_index": "Invalid data",
        "audio": "no video stream, only audio",
    }


def test_folder_per_class(numbered, numbered_manifest):
    manifest = numbered_manifest
    assert len(manifest) == 12 and manifest.classes == ("even", "odd") and not manifest.broken
    for i in range(12):
        name = manifest.path(i).rsplit("/", 1)[1]
        video = manifest.video(i)
        assert video.num_frames == 40 + 2 * int(name[:2])
        assert video.keyframes.tolist() == [0, 24, 48][: 2 + (video.num_frames > 48)]
        assert (video.width, video.height, video.rotation, video.codec) == (160, 96, 0, "h264")
        assert manifest.labels[i] == int(name[:2]) % 2
    row = manifest.table.to_pylist()[0]
    assert row["fps"] == 25 and row["duration_seconds"] == row["num_frames"] / 25
    assert row["pixel_format"] == "yuv420p" and row["bytes"] > 0 and row["last_frame"] == row["num_frames"]


def test_write_read_and_move(numbered_manifest, tmp_path):
    numbered_manifest.write(tmp_path / "m.parquet")
    again = dv.Manifest.read(tmp_path / "m.parquet")
    assert again.table.equals(numbered_manifest.table) and again.classes == numbered_manifest.classes
    assert again.path(3) == numbered_manifest.path(3)
    moved = dv.Manifest.read(tmp_path / "m.parquet", root="/elsewhere")
    assert moved.path(3) == "/elsewhere/" + numbered_manifest.table["path"][3].as_py()
    assert [p.name for p in tmp_path.iterdir()] == ["m.parquet"]


def test_broken_files_are_listed_with_a_reason(numbered, tmp_path):
    source = next((numbered / "even").glob("*.mp4"))
    shutil.copytree(numbered / "even", tmp_path / "good")
    reasons = make_broken(tmp_path / "bad", source)
    shutil.copy(source, tmp_path / "bad" / "really_mp4.avi")
    shutil.copy(source, tmp_path / "beside.mp4")
    (tmp_path / "notes.txt").write_text("no video, and no video's name")
    manifest = scan(tmp_path, output=tmp_path / "m.parquet")
    assert len(manifest) == 7  # the extension does not matter, the content does
    broken = {b.path.rsplit("/", 1)[1].split(".")[0]: b.reason for b in manifest.broken}
    assert set(broken) == {*reasons, "beside"}
    for name, word in reasons.items():
        assert word in broken[name], (name, broken[name])
    assert "beside the class folders" in broken["beside"]
    assert dv.Manifest.read(tmp_path / "m.parquet").broken == manifest.broken


def test_a_file_cut_off_counts_what_decodes(numbered, tmp_path):
    source = next((numbered / "even").glob("*.mp4"))
    path = tmp_path / "a" / "cut.ts"
    path.parent.mkdir()
    with av.open(str(source)) as old, av.open(str(tmp_path / "whole.ts"), "w") as new:
        track = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = track
                new.mux(packet)
    data = (tmp_path / "whole.ts").read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    video = scan(tmp_path / "a").video(0)
    with av.open(str(path)) as container:
        decoded = 0
        for packet in container.demux(video=0):
            try:
                decoded += len(packet.decode())
            except av.error.FFmpegError:
                continue
    assert video.num_frames == decoded < 40


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
    assert [x.tolist() for x in manifest.frame_ranges([0, 1])] == [[0, 10], [40, 30]]  # 25 frames a second
    assert {b.path.rsplit("/", 1)[1]: b.reason for b in manifest.broken} == {
        "03.mp4": "no frame between 9.0 and 10.0 s (it lasts 1.84 s)",
        "99.mp4": "the file does not exist",
    }
    plan = dv.draw_plan(manifest, dv.Recipe(dv.ClipSampling(8, 2), ()), [1] * 3, epoch=3)
    assert plan.frames.min() >= 10 and plan.frames.max() < 30
    assert dv.Manifest.from_csv(tmp_path / "list.csv", root=numbered, progress=False).table.equals(manifest.table)


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
    assert [b.reason for b in manifest.broken] == ["not found as gone_000001_000011.* or gone.*"]


def test_unchanged_files_are_not_measured_again(numbered, tmp_path, monkeypatch):
    shutil.copytree(numbered, tmp_path / "v")
    first = scan(tmp_path / "v", output=tmp_path / "m.parquet")
    measured = []
    real = scan_module.measure
    monkeypatch.setattr(scan_module, "measure", lambda path, deep: measured.append(path.name) or real(path, deep))
    assert scan(tmp_path / "v", output=tmp_path / "m.parquet").table.equals(first.table) and not measured
    write_numbered(tmp_path / "v" / "even" / "02.mp4", 31)  # changed
    write_numbered(tmp_path / "v" / "even" / "new.mp4", 33)
    (tmp_path / "v" / "odd" / "03.mp4").unlink()
    again = scan(tmp_path / "v", output=tmp_path / "m.parquet")
    assert sorted(measured) == ["02.mp4", "new.mp4"] and len(again) == 12
    lengths = {again.path(i).rsplit("/", 1)[1]: again.video(i).num_frames for i in range(12)}
    assert lengths["02.mp4"] == 31 and lengths["new.mp4"] == 33 and "03.mp4" not in lengths


def test_an_interrupted_scan_goes_on(numbered, tmp_path, monkeypatch):
    real, measured = scan_module.measure, []

    def stops(path, deep):
        measured.append(path.name)
        if len(measured) == 8:
            raise KeyboardInterrupt
        return real(path, deep)

    monkeypatch.setattr(scan_module, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        scan(numbered, output=tmp_path / "m.parquet", num_threads=1)
    assert not (tmp_path / "m.parquet").exists()
    done = [json.loads(line)[0] for line in (tmp_path / "m.parquet.partial").read_text().splitlines()]
    assert 5 <= len(done) <= 7
    with (tmp_path / "m.parquet.partial").open("a") as file:
        file.write('["even/08.mp4", {"num_fr')  # killed while writing
    measured.clear()
    monkeypatch.setattr(scan_module, "measure", lambda path, deep: measured.append(path.name) or real(path, deep))
    manifest = scan(numbered, output=tmp_path / "m.parquet")
    assert len(manifest) == 12 and len(measured) == 12 - len(done)
    assert not (tmp_path / "m.parquet.partial").exists()


def test_deep_finds_damage_in_the_middle(tmp_path):
    path = write_numbered(tmp_path / "a" / "v.mp4", 75, options={"g": "15", "bf": "0"})
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    at, size = places[33]
    data[at + 4 : at + size] = bytes(size - 4)
    path.write_bytes(data)
    assert scan(path.parent).video(0).num_frames == 75  # the ends are whole
    assert scan(path.parent, deep=True).video(0).num_frames < 75


def test_header_counts_are_not_believed(tmp_path):
    """A stream whose last packet does not decode: header and packets say 41, a full decode gives 40."""
    path = write_numbered(tmp_path / "a" / "v.mp4", 41, options={"g": "100", "bf": "0"})
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
        assert container.streams.video[0].frames == len(places) == 41
    data = bytearray(path.read_bytes())
    at, size = places[-1]
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    assert scan(path.parent).video(0).num_frames == 40


def test_cover_pictures_are_not_videos(tmp_path):
    path = tmp_path / "a" / "v.mkv"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        streams = [
            container.add_stream("libx264", rate=25, width=64, height=48, options={"bf": "0"}),
        ]
        streams[0].pix_fmt = "yuv420p"
        for i in range(5):
            container.mux(streams[0].encode(av.VideoFrame.from_ndarray(numbered_frame(i)[:48, :64], format="rgb24")))
        container.mux(streams[0].encode(None))
    assert scan(path.parent).video(0).num_frames == 5


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the header must have path"),
        ("file,label\na,b\n", "the header must have path.*it has file, label"),
        ("path,label\n", "has a header, but no rows"),
        ("path,label\na.mp4\n", "line 2: the number of fields"),
        ("path,label\na.mp4,b,c\n", "line 2: the number of fields"),
        ("path,start,end\na.mp4,one,2\n", "line 2: start and end must be seconds"),
        ("path,label\n,x\n", "line 2: path is empty"),
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
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        scan(tmp_path / "binary.csv")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 1 videos can be used; the first: .*x.mp4: the file is empty"):
        scan(tmp_path)


def test_what_is_no_manifest_is_refused(tmp_path, numbered_manifest):
    with pytest.raises(FileNotFoundError, match="no file"):
        dv.Manifest.read(tmp_path / "gone.parquet")
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(ValueError, match="is not a manifest"):
        dv.Manifest.read(tmp_path / "x.parquet")
    pq.write_table(numbered_manifest.table, tmp_path / "y.parquet")
    with pytest.raises(ValueError, match="is not a manifest"):
        dv.Manifest.read(tmp_path / "y.parquet")
    with pytest.raises(ValueError, match="the columns codec are missing"):
        dv.Manifest(numbered_manifest.table.drop(["codec"]))
    with pytest.raises(ValueError, match="labels go from 0 to 1, but there are 1 classes"):
        dv.Manifest(numbered_manifest.table, ("one",))
