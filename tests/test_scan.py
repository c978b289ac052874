"""Scanning: what a manifest says of videos, good and broken ones; what is measured again; manifest files."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import HEIGHT, WIDTH, numbered_frame, write_broken_files, write_numbered

import dali_vidaug as dv
from dali_vidaug.data import measuring
from dali_vidaug.data.known import Known
from dali_vidaug.media.measure import measure


def scan(path, **options):
    return dv.scan(path, progress=False, **options)


def test_folder_per_class(numbered, numbered_manifest):
    manifest = numbered_manifest
    assert len(manifest) == 12 and manifest.classes == ("even", "odd") and not manifest.broken
    for i in range(12):
        name = manifest.path(i).rsplit("/", 1)[1]
        video = manifest.video(i)
        assert video.num_frames == 40 + 2 * int(name[:2])
        assert video.keyframes.tolist() == [0, 24, 48][: 2 + (video.num_frames > 48)]
        assert (video.width, video.height, video.orientation, video.codec) == (160, 96, 1, "h264")
        assert manifest.labels[i] == int(name[:2]) % 2
    row = manifest.table.to_pylist()[0]
    assert row["fps"] == 25 and row["duration_seconds"] == row["num_frames"] / 25
    assert row["pixel_format"] == "yuv420p" and row["bytes"] > 0 and row["last_frame"] == row["num_frames"]


def test_write_read_and_move(numbered_manifest, tmp_path):
    numbered_manifest.write(tmp_path / "m.parquet")
    again = dv.Manifest.read(tmp_path / "m.parquet")
    assert again.table.equals(numbered_manifest.table) and again.classes == numbered_manifest.classes
    assert again.path(3) == numbered_manifest.path(3)
    moved = dv.Manifest.read(tmp_path / "m.parquet", root=tmp_path)
    assert moved.path(3) == f"{tmp_path}/" + numbered_manifest.table["path"][3].as_py()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.parquet", "m.parquet.packets"]


def test_broken_files_are_listed_with_a_reason(numbered, tmp_path):
    source = next((numbered / "even").glob("*.mp4"))
    shutil.copytree(numbered / "even", tmp_path / "good")
    reasons = write_broken_files(tmp_path / "bad", source)
    shutil.copy(source, tmp_path / "bad" / "really_mp4.avi")
    shutil.copy(source, tmp_path / "beside.mp4")
    (tmp_path / "notes.txt").write_text("no video, and no video's name")
    manifest = scan(tmp_path, output=tmp_path / "m.parquet")
    assert len(manifest) == 7  # the extension does not matter, the content does
    broken = {b.path.rsplit("/", 1)[1].split(".")[0]: b.reason for b in manifest.broken}
    assert set(broken) == {*reasons, "beside"}
    for name, word in reasons.items():
        assert word in broken[name], (name, broken[name])
    assert broken["beside"] == "is not in one of the class folders"
    assert dv.Manifest.read(tmp_path / "m.parquet").broken == manifest.broken


def test_the_frames_of_a_truncated_file_that_decode_are_counted(numbered, tmp_path):
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


def named(place):
    return Path(place.path).name


def test_unchanged_files_are_not_measured_again(numbered, tmp_path, monkeypatch):
    shutil.copytree(numbered, tmp_path / "v")
    first = scan(tmp_path / "v", output=tmp_path / "m.parquet")
    measured = []
    real = measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda place, *how: measured.append(named(place)) or real(place, *how))
    assert scan(tmp_path / "v", output=tmp_path / "m.parquet").table.equals(first.table) and not measured
    write_numbered(tmp_path / "v" / "even" / "02.mp4", 31)  # changed
    write_numbered(tmp_path / "v" / "even" / "new.mp4", 33)
    (tmp_path / "v" / "odd" / "03.mp4").unlink()
    again = scan(tmp_path / "v", output=tmp_path / "m.parquet")
    assert sorted(measured) == ["02.mp4", "new.mp4"] and len(again) == 12
    lengths = {again.path(i).rsplit("/", 1)[1]: again.video(i).num_frames for i in range(12)}
    assert lengths["02.mp4"] == 31 and lengths["new.mp4"] == 33 and "03.mp4" not in lengths


def test_an_interrupted_scan_continues(numbered, tmp_path, monkeypatch):
    """Also after a second interruption: what follows a line that was cut off is not lost with it."""
    real, measured, kept = measuring.measure, [], []

    def stops(place, *how):
        measured.append(named(place))
        if len(measured) == 8:
            raise KeyboardInterrupt
        return real(place, *how)

    monkeypatch.setattr(measuring, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        scan(numbered, output=tmp_path / "m.parquet", num_threads=1)
    assert not (tmp_path / "m.parquet").exists()
    done = [json.loads(line)[0] for line in (tmp_path / "m.parquet.partial").read_text().splitlines()]
    assert 5 <= len(done) <= 7
    with (tmp_path / "m.parquet.partial").open("a") as file:
        file.write('["even/08.mp4", {"num_fr')  # killed while writing

    def keeps_two(known, name, row, add=Known.add):
        add(known, name, row)
        kept.append(name)
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "measure", real)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Known, "add", keeps_two)
        scan(numbered, output=tmp_path / "m.parquet")
    measured.clear()
    monkeypatch.setattr(measuring, "measure", lambda place, *how: measured.append(named(place)) or real(place, *how))
    manifest = scan(numbered, output=tmp_path / "m.parquet")
    assert len(manifest) == len({*done, *kept, *measured}) == len(done) + len(kept) + len(measured) == 12
    assert not (tmp_path / "m.parquet.partial").exists()


def test_deep_finds_damage_in_the_middle(tmp_path):
    """Frames from the damaged one up to the next key frame cannot be used."""
    path = write_numbered(tmp_path / "a" / "v.mp4", 75, options={"g": "15", "bf": "0"})
    with av.open(str(path)) as container:
        parts = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    at, size = parts[33]
    for place in range(at + size // 2, at + size, 3):
        data[place] ^= 0x5A
    path.write_bytes(data)
    assert measure(path)["damaged"] == []  # the ends are whole
    row = measure(path, deep=True)
    assert row["num_frames"] == 75 and row["damaged"] == [33, 45] and "[33, 45)" in row["notes"]
    manifest = scan(path.parent, deep=True)
    assert manifest.rows("first_frame", [0]) == 0 and manifest.rows("last_frame", [0]) == 33  # the longer part


def test_a_manifest_of_an_older_version_is_written_anew(tmp_path):
    write_numbered(tmp_path / "a" / "v.mp4", 5)
    scan(tmp_path, output=tmp_path / "m.parquet")
    table = pq.read_table(tmp_path / "m.parquet").drop_columns(["orientation", "stream"])
    header = json.loads(table.schema.metadata[b"dali_vidaug"]) | {"version": 1}
    pq.write_table(table.replace_schema_metadata({"dali_vidaug": json.dumps(header)}), tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="manifest version 1, this release reads 3; scan again"):
        dv.Manifest.read(tmp_path / "m.parquet")
    assert len(scan(tmp_path, output=tmp_path / "m.parquet")) == len(dv.Manifest.read(tmp_path / "m.parquet")) == 1


def test_header_counts_are_not_believed(tmp_path):
    """A stream whose last packet does not decode: header and packets say 41, a full decode gives 40."""
    path = write_numbered(tmp_path / "a" / "v.mp4", 41, options={"g": "100", "bf": "0"})
    with av.open(str(path)) as container:
        parts = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
        assert container.streams.video[0].frames == len(parts) == 41
    data = bytearray(path.read_bytes())
    at, size = parts[-1]
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    assert scan(path.parent).video(0).num_frames == 40


@pytest.mark.parametrize("with_video", [True, False])
def test_cover_pictures_are_not_videos(with_video, tmp_path):
    """A picture beside a video is not counted, and a song with a cover is no video of one frame."""
    path = tmp_path / "a" / "v.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1, width=WIDTH, height=HEIGHT)
        cover.pix_fmt, cover.disposition = "yuvj420p", av.stream.Disposition.attached_pic
        pictures = [av.VideoFrame.from_ndarray(numbered_frame(i), format="rgb24") for i in range(6)]
        if with_video:
            stream, frames = container.add_stream("libx264", rate=25, width=WIDTH, height=HEIGHT), pictures[:5]
            stream.pix_fmt = "yuv420p"
        else:
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate = 8000
            stream, frames = container.add_stream("aac", rate=8000), [sound]
        for encoder, inputs in ((cover, pictures[5:]), (stream, frames)):
            for frame in (*inputs, None):
                container.mux(encoder.encode(frame))
    with av.open(str(path)) as container:
        assert any(s.disposition & av.stream.Disposition.attached_pic for s in container.streams.video)
    if with_video:
        assert scan(path.parent).video(0).num_frames == 5
    else:
        with pytest.raises(ValueError, match="none of 1 video can be used; the first: .*v.mp4: no video stream, only"):
            scan(path.parent)


def test_files_that_are_no_manifests_are_refused(tmp_path, numbered_manifest):
    with pytest.raises(FileNotFoundError, match="no file"):
        dv.Manifest.read(tmp_path / "gone.parquet")
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(ValueError, match="is not a manifest"):
        dv.Manifest.read(tmp_path / "x.parquet")
    pq.write_table(numbered_manifest.table, tmp_path / "y.parquet")
    with pytest.raises(ValueError, match="is not a manifest"):
        dv.Manifest.read(tmp_path / "y.parquet")
    with pytest.raises(ValueError, match=r"is not a manifest .*; dv\.scan makes one of a folder or a list$"):
        dv.Manifest.read(tmp_path)
    with pytest.raises(ValueError, match="the columns codec are missing"):
        dv.Manifest(numbered_manifest.table.drop(["codec"]))
    with pytest.raises(ValueError, match="labels go from 0 to 1, not within 1 class"):
        dv.Manifest(numbered_manifest.table, ("one",))
