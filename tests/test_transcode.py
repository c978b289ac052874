"""Videos that are encoded anew: the same frames at the same times, whatever the source, and whoever is killed."""

import fcntl
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import HEIGHT, WIDTH, numbered_frame, read_number, shown_numbers, write_numbered
from dirty import edit_boxes, set_edits, set_matrix
from full_decode import full_decode
from PIL import Image

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.data.transcode_journal import key_of
from dali_vidaug.data.transcode_names import output_names, source_path
from dali_vidaug.device.nvdec import Decoder, Format, refusal
from dali_vidaug.media import transcode as one_video
from dali_vidaug.media.decode import decode
from dali_vidaug.media.encoding import PRESETS, Encoding
from dali_vidaug.media.proven_encoder import ProvenEncoder
from dali_vidaug.media.quality import Comparison, psnr, ssim
from dali_vidaug.ops.crop import crop_rows

HALF = dict(short_side=HEIGHT // 2, progress=False)  # of numbered frames: they can be read, each pixel twice
FAST = dict(speed="ultrafast", **HALF)


def numbers_of(frames):
    """What frames of half the size show."""
    return shown_numbers([np.asarray(frame).repeat(2, 0).repeat(2, 1) for frame in frames])


def times_of(path):
    """When PyAV says that each frame is shown: exact seconds after the first."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stamps = sorted(packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard)
        return [(pts - stamps[0]) * stream.time_base for pts in stamps]


def assert_frames(manifest, made):
    """Each row has the numbers of its source, at the same times, in small closed GOPs."""
    assert len(made) == len(manifest)
    for row in range(len(made)):
        path, count = Path(made.path(row)), manifest.table["num_frames"][row].as_py()
        full = full_decode(path)
        assert numbers_of(full.frames) == list(range(count)) and not full.flags
        assert times_of(path) == times_of(manifest.path(row))
        assert full.keys == list(range(0, count, 16))
        assert made.table["num_frames"][row].as_py() == count


def write_frames(path, frames, codec="libx264", pixel_format="yuv420p", options=None, stamps=None, color=None):
    """Write frames, with time stamps in milliseconds and (matrix, range) if they are given; returns the path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {"crf": "5", "bf": "2"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        if stamps:
            stream.codec_context.time_base = Fraction(1, 1000)
        if color:
            stream.codec_context.colorspace, stream.codec_context.color_range = color
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if color:
                frame = frame.reformat(format=pixel_format, dst_colorspace=color[0], dst_color_range=color[1])
            if stamps:
                frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# ---- Frames, times, labels


@pytest.mark.parametrize("preset", PRESETS)
def test_frame_i_is_frame_i_of_the_source(preset, numbered_manifest, tmp_path):
    manifest = numbered_manifest.select([0, 7])
    made = dv.transcode(manifest, tmp_path / "small", preset=preset, **HALF)
    assert_frames(manifest, made)
    assert made.classes == manifest.classes and (made.labels == manifest.labels).all() and not made.broken
    assert made.table["fps"].to_pylist() == manifest.table["fps"].to_pylist()
    assert set(made.table["codec"].to_pylist()) == {PRESETS[preset].codec}
    assert made.table["no_packet_index"].null_count == 2 and made.packets is not None
    read = dv.Manifest.read(tmp_path / "small" / "manifest.parquet")
    assert read.table == made.table and read.remarks == made.remarks and read.root == made.root
    for row in (0, 1):
        clip = decode(read.video(row), np.array([31, 3, 17])).pixels
        assert numbers_of(clip) == [31, 3, 17]
    h264 = Decoder(7, 48, 16, 4096, 4096, 65536)
    assert preset != "nvdec" or refusal(read.video(0).format, {"h264": h264}) is None


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_time_stamps_of_a_variable_frame_rate(name, tmp_path):
    steps = np.array([33, 34, 40, 500, 7, 33, 1, 250] * 5)
    stamps = [2000, *(2000 + steps.cumsum()).tolist()]
    path = write_frames(tmp_path / name, [numbered_frame(i) for i in range(41)], stamps=stamps)
    manifest = dv.scan(path, progress=False)
    made = dv.transcode(manifest, tmp_path / "small", **FAST)
    assert times_of(made.path(0)) == [Fraction(stamp - 2000, 1000) for stamp in stamps]
    assert numbers_of(full_decode(made.path(0)).frames) == list(range(41))
    assert math.isclose(made.table["fps"][0].as_py(), manifest.table["fps"][0].as_py(), rel_tol=1e-12)
    pts, base = made.table["pts"][0].as_py(), made.table["time_base"][0].as_py()
    np.testing.assert_allclose(np.subtract(pts, pts[0]) * base, np.subtract(stamps, 2000) / 1000, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("preset", ["h264", "hevc"])
def test_few_frames(count, preset, tmp_path):
    """Fewer than an encoder delays, too; a frame alone keeps how long it is shown."""
    write_numbered(tmp_path / "v.mp4", count, fps=10)
    manifest = dv.scan(tmp_path / "v.mp4", progress=False)
    made = dv.transcode(manifest, tmp_path / "small", preset=preset, **FAST)
    assert_frames(manifest, made)
    assert made.table["fps"].to_pylist() == manifest.table["fps"].to_pylist() == [pytest.approx(10)]


def test_hidden_frames_are_left_out_and_useless_times_are_counted(tmp_path):
    """An edit list that hides the beginning; one of two parts, of which frames are counted."""
    write_numbered(tmp_path / "v.mp4", 50, options={"g": "10", "bf": "0"})
    for name, edits in {"hidden": [(1200, 10240, 1.0)], "parts": [(400, 0, 1.0), (800, 10240, 1.0)]}.items():
        path = edit_boxes(
            tmp_path / "v.mp4", lambda boxes, edits=edits: set_edits(boxes, edits), tmp_path / f"{name}.mp4"
        )
        manifest = dv.scan(path, progress=False)
        made = dv.transcode(manifest, tmp_path / name, **FAST)
        with av.open(str(path)) as container:
            truth = [read_number(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        assert 0 < len(truth) < 50 or name == "parts"
        assert numbers_of(full_decode(made.path(0)).frames) == truth
        assert len(truth) == made.table["num_frames"][0].as_py() == manifest.table["num_frames"][0].as_py()


def test_frames_are_turned_as_they_are_shown(tmp_path):
    """Four corners of other colours: after a full decode they are where the standard's matrix puts them."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:], picture[32:, :48] = (220, 0, 0), (0, 220, 0), (0, 0, 220)
    write_frames(tmp_path / "v.mp4", [picture] * 5)
    folder = tmp_path / "videos"
    folder.mkdir()
    matrices = {"turned": (0, 1, -1, 0), "mirrored": (-1, 0, 0, 1), "transposed": (0, 1, 1, 0)}
    for name, matrix in matrices.items():
        edit_boxes(tmp_path / "v.mp4", lambda boxes, m=matrix: set_matrix(boxes, *m), folder / f"{name}.mp4")
    manifest = dv.scan(folder, progress=False)
    made = dv.transcode(manifest, tmp_path / "small", short_side=32, progress=False)
    for row in range(3):
        shown, full = full_decode(manifest.path(row)), full_decode(made.path(row))
        wanted = shown.shown(0)[1::2, 1::2].astype(int)
        assert full.matrix == (1, 0, 0, 1) and full.frames[0].shape == wanted.shape
        assert np.abs(full.frames[0].astype(int) - wanted).mean() < 8
        assert made.table["orientation"][row].as_py() == 1 != manifest.table["orientation"][row].as_py()


@pytest.mark.parametrize("preset", ["h264", "av1"])
def test_colours_are_those_of_the_source(preset, tmp_path):
    """What the loader makes of both: by BT.601, and by what the file says. Far from blocks, so PSNR is high."""
    y, x = np.mgrid[:96, :128]
    waves = [np.stack([np.sin((x + 2 * i) / 40), np.cos((y + i) / 30), np.sin((x + y) / 50)], -1) for i in range(4)]
    frames = [(128 + 100 * wave).astype(np.uint8) for wave in waves]
    folder = tmp_path / "videos"
    folder.mkdir()
    write_frames(folder / "bt601.mp4", frames)
    write_frames(folder / "bt709.mp4", frames, color=(1, 1))
    write_frames(folder / "bt709_full.mp4", frames, color=(1, 2))
    write_frames(folder / "jpeg.avi", frames, "mjpeg", "yuvj422p", {"q:v": "2"})
    write_frames(folder / "ten_bit.mp4", frames, pixel_format="yuv420p10le")
    write_frames(folder / "rgb.mkv", frames, "ffv1", "bgr0", {})
    write_frames(folder / "grey.mkv", frames, "ffv1", "gray", {})
    write_frames(folder / "transparent.mkv", frames, "ffv1", "yuva420p", {})
    manifest = dv.scan(folder, progress=False)
    made = dv.transcode(manifest, tmp_path / "small", preset=preset, crf=5, short_side=48, progress=False)
    assert not made.broken
    box = crop_rows(np.array([0]), np.array([0]), 96, 128, 48, 64)
    for row in range(len(made)):
        for color in ("bt601", "file"):
            before = decode(manifest.video(row), np.arange(4), box, color).pixels.astype(float)
            after = decode(made.video(row), np.arange(4), (), color).pixels
            assert psnr(float(((before - after) ** 2).mean())) > 37, (manifest.path(row), color)
            assert np.abs((after - before).mean((0, 1, 2))).max() < 1.2, (manifest.path(row), color)
    notes = {Path(made.path(row)).stem: made.table["notes"][row].as_py() for row in range(len(made))}
    assert "transparent" in notes.pop("transparent") and set(notes.values()) == {None}
    spaces = dict(zip(map(Path, made.rows("path")), made.table["colorspace"].to_pylist(), strict=True))
    assert spaces[Path("bt709.mp4")] == spaces[Path("bt709_full.mp4")] == 1 and spaces[Path("rgb.mp4")] == 6


def test_sizes_by_hand():
    sizes = {
        (1080, 1920): (256, 456), (1920, 1080): (456, 256), (240, 320): (240, 320), (121, 161): (120, 160),
        (257, 257): (256, 256), (16, 1000): (16, 1000), (1, 9): (2, 8), (256, 341): (256, 340), (720, 576): (320, 256),
    }  # fmt: skip
    for before, after in sizes.items():
        assert Encoding().size(*before) == after, before
    assert Encoding("nvdec").size(1080, 1920) == (256, 448) and Encoding("nvdec").size(180, 320) == (176, 320)
    assert Encoding("nvdec").size(10, 40) == (10, 32) and Encoding(short_side=224).size(256, 340) == (224, 298)


def test_nvdec_takes_all_sizes_of_its_preset():
    h264 = {"h264": Decoder(7, 48, 16, 4096, 4096, 65536)}
    for height, width in ((1080, 1920), (240, 320), (121, 161), (1440, 1080), (320, 2560)):
        made = Encoding("nvdec").size(height, width)
        assert refusal(Format("h264", "yuv420p", *made[::-1]), h264) is None and not any(n % 16 for n in made)


# ---- Rows


def test_segments_boxes_and_columns(numbered, tmp_path):
    """Rows of one file are one output; boxes shrink as frames do, to other scales in width and height."""
    lines = ["path,label,start,end,caption", "even/00.mp4,a,0,0.4,first", "odd/01.mp4,b,,,whole",
             "even/00.mp4,b,0.8,1.2,second"]  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(lines))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(
        "path,frame,x1,y1,x2,y2,label,track\neven/00.mp4,2,10,8,50,40,car,1\neven/00.mp4,24,20,9,60,44,car,1\n"
    )
    manifest = dv.scan(tmp_path / "list.csv", root=numbered, boxes=boxes, progress=False)
    made = dv.transcode(manifest, tmp_path / "small", short_side=34, progress=False)
    height, width = 34, 56  # from 96 x 160
    assert made.table["path"].to_pylist() == ["even/00.mp4", "odd/01.mp4", "even/00.mp4"]
    assert made.table["height"].to_pylist() == [height] * 3 and made.table["width"].to_pylist() == [width] * 3
    for name in ("label", "first_frame", "last_frame", "caption", "num_frames"):
        assert made.table[name] == manifest.table[name], name
    assert made.box_classes == manifest.box_classes == ("car",)
    for before, after in zip(manifest.table["boxes"].to_pylist(), made.table["boxes"].to_pylist(), strict=True):
        assert (before is None) == (after is None)
        for old, new in zip(before or [], after or [], strict=True):
            for name, factor in (
                ("x1", width / WIDTH),
                ("x2", width / WIDTH),
                ("y1", height / HEIGHT),
                ("y2", height / HEIGHT),
            ):
                assert math.isclose(new.pop(name), old.pop(name) * factor, rel_tol=1e-6)
            assert new == old
    assert any(boxes for boxes in made.table["boxes"].to_pylist())
    files = sorted(p.relative_to(tmp_path / "small").as_posix() for p in (tmp_path / "small").rglob("*.mp4"))
    assert files == ["even/00.mp4", "odd/01.mp4"]


def test_names_are_kept_apart(tmp_path):
    root = str(tmp_path)
    names = ["a/x.mp4", "a/x.avi", "a/x.mkv", "b/x.avi", "A/X.mp4", "/other/y.mov", "c.avi.mp4", "c.avi", "c.mkv",
             "e/../f.mp4", f"{'long' * 60}.webm"]  # fmt: skip
    sources = [*((source_path(root, name), 0) for name in names), (source_path(root, "b/x.avi"), 1)]
    made = output_names(root, sources)
    assert len({name.lower() for name in made}) == len(made) and all(name.endswith(".mp4") for name in made)
    assert made[1:4] == ["a/x.avi.mp4", "a/x.mkv.mp4", made[3]] and made[5] == "other/y.mp4"
    assert made[8] == "c.mkv.mp4" and made[9] == "f.mp4" and made[3] != made[11]
    assert all(len(Path(name).name) <= 255 and ".." not in Path(name).parts for name in made)
    assert output_names(root, [(source_path(root, "b/x.avi"), 0)]) == ["b/x.mp4"]


def test_sources_with_one_name(tmp_path):
    """a.mp4 and a.avi show other numbers of frames, and each keeps its own."""
    write_numbered(tmp_path / "videos" / "a.mp4", 20)
    write_numbered(tmp_path / "videos" / "a.avi", 24, options={"g": "12", "bf": "0"})
    manifest = dv.scan(tmp_path / "videos", progress=False)
    made = dv.transcode(manifest, tmp_path / "small", **FAST)
    assert made.table["path"].to_pylist() == ["a.avi.mp4", "a.mp4"] and made.table["num_frames"].to_pylist() == [24, 20]
    assert [len(full_decode(made.path(row)).frames) for row in (0, 1)] == [24, 20]


# ---- What is damaged


@pytest.fixture(scope="module")
def damaged_file(tmp_path_factory):
    """100 frames, a key frame every 20; the second halves of the coded pictures of frames 45 to 49 are overwritten."""
    path, rng = tmp_path_factory.mktemp("damaged") / "v.mp4", np.random.default_rng(0)
    write_numbered(path, 100, options={"g": "20", "bf": "0"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for packet in packets[45:50]:
            half = packet.size // 2
            data[packet.pos + half : packet.pos + packet.size] = rng.bytes(packet.size - half)
    path.write_bytes(data)
    return path


def test_damaged_frames_keep_their_numbers(damaged_file, tmp_path):
    manifest = dv.scan(damaged_file, deep=True, progress=False)
    first, last = manifest.table["damaged"][0].as_py()
    assert 40 <= first <= 45 < 50 <= last <= 60
    made = dv.transcode(manifest, tmp_path / "small", **FAST)
    full = full_decode(made.path(0))
    assert len(full.frames) == 100
    good = [i for i in range(100) if not first <= i < last]
    assert numbers_of([full.frames[i] for i in good]) == good
    assert all(np.abs(full.frames[i].astype(int) - 128).max() < 6 for i in range(first, last))
    assert made.table["damaged"][0].as_py() == [first, last] and "grey" in made.table["notes"][0].as_py()
    for name in ("first_frame", "last_frame"):
        assert made.table[name] == manifest.table[name]


def test_damage_that_the_scan_did_not_see(damaged_file, numbered, tmp_path):
    """The file is broken, with what to do; others are made."""
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(damaged_file, folder / "bad.mp4")
    shutil.copy(numbered / "odd" / "01.mp4", folder / "good.mp4")
    manifest = dv.scan(folder, progress=False)
    assert len(manifest) == 2 and not manifest.table["damaged"][0].as_py()
    made = dv.transcode(manifest, tmp_path / "small", **FAST)
    assert made.table["path"].to_pylist() == ["good.mp4"]
    (broken,) = made.broken
    assert broken.path == str(folder / "bad.mp4") and "scan --deep" in broken.reason
    assert sorted(path.name for path in (tmp_path / "small").iterdir() if path.suffix == ".mp4") == ["good.mp4"]
    assert not (tmp_path / "small" / ".partial").exists()


def test_sources_that_changed_or_are_gone(numbered, tmp_path):
    folder = tmp_path / "videos"
    shutil.copytree(numbered, folder)
    manifest = dv.scan(folder, progress=False).select([0, 1, 2])
    Path(manifest.path(0)).write_bytes(b"something else")
    Path(manifest.path(1)).unlink()
    made = dv.transcode(manifest, tmp_path / "small", **FAST)
    reasons = {Path(one.path).name: one.reason for one in made.broken}
    assert "changed since it was scanned" in reasons["00.mp4"] and "No such file" in reasons["02.mp4"]
    assert made.table["path"].to_pylist() == ["even/04.mp4"]
    with pytest.raises(ValueError, match=r"none of 2 videos could be made; the first: .*00.mp4: changed since"):
        dv.transcode(manifest.select([0, 1]), tmp_path / "none", **FAST)


def test_a_frame_that_is_another_is_noticed():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (32, 48), dtype=np.uint8) for _ in range(3)]
    noisy = (frames[1].astype(int) + rng.integers(-9, 10, (32, 48))).clip(0, 255).astype(np.uint8)
    good = Comparison()
    good.add(1, noisy, frames[1], [frames[0], frames[2]])
    good.add(2, noisy, frames[1], [frames[1]])
    assert good.result().nearest == 1 and good.result().alike == 1
    for other in (0, 2):
        with pytest.raises(ValueError, match="frame 7 is another"):
            Comparison().add(7, noisy, frames[other], [frames[1]])


def test_an_encoder_that_mistakes_frames_is_noticed(numbered_manifest, tmp_path, monkeypatch):
    """From frame 20 on it shows the picture after the right one; or the file is that of another video."""
    manifest, encode = numbered_manifest.select([0, 1]), ProvenEncoder._encode

    def late(self, container, index, small):
        encode(self, container, index, small)
        shown = self.__dict__.setdefault("shown", [])
        shown.append(self._held[index])
        if index >= 20:
            self._held[index] = shown[index - 1]

    monkeypatch.setattr(ProvenEncoder, "_encode", late)
    with pytest.raises(ValueError, match=r"frame [23]\d is another than in the source"):
        dv.transcode(manifest, tmp_path / "swapped", **FAST)
    monkeypatch.setattr(ProvenEncoder, "_encode", encode)
    check = ProvenEncoder.check_file
    monkeypatch.setattr(ProvenEncoder, "check_file", lambda self, path: check(self, manifest.path(0)))
    with pytest.raises(ValueError, match="what was written has other frames"):
        dv.transcode(manifest, tmp_path / "other", **FAST)


def test_quality_by_its_formulas():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, (24, 33), dtype=np.uint8)
    b = (a.astype(int) + rng.integers(-20, 21, a.shape)).clip(0, 255).astype(np.uint8)
    c1, c2, values = 6.5025, 58.5225, []
    for top in range(0, 17, 4):
        for left in range(0, 25, 4):
            x, y = (p[top : top + 8, left : left + 8].astype(float) for p in (a, b))
            both = ((x - x.mean()) * (y - y.mean())).mean()
            values.append((2 * x.mean() * y.mean() + c1) * (2 * both + c2)
                          / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2)))  # fmt: skip
    assert math.isclose(ssim(a, b), np.mean(values), abs_tol=2e-4) and ssim(a, a) == pytest.approx(1, abs=1e-5)
    error = ((a.astype(float) - b) ** 2).mean()
    comparison = Comparison()
    comparison.add(0, b, a, [])
    assert math.isclose(comparison.result().psnr, 10 * math.log10(65025 / error), rel_tol=1e-5)


# ---- Going on


def stamps_of(folder):
    """Which file is where: its inode and time of change."""
    return {path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in Path(folder).rglob("*.mp4")}  # fmt: skip


def test_what_is_finished_is_kept_and_what_differs_is_made_again(numbered, tmp_path):
    videos, small = tmp_path / "videos", tmp_path / "small"
    shutil.copytree(numbered / "even", videos)
    manifest = dv.scan(videos, progress=False).select([0, 1, 2])
    table = dv.transcode(manifest, small, **FAST).table
    before = stamps_of(small)
    assert dv.transcode(manifest, small, **FAST).table == table and stamps_of(small) == before

    (small / "02.mp4").write_bytes(bytes(100))  # an output is damaged
    made = dv.transcode(manifest, small, **FAST)
    after = stamps_of(small)
    assert [name for name in before if before[name] != after[name]] == ["02.mp4"]
    assert numbers_of(full_decode(made.path(1)).frames) == list(range(44))

    write_numbered(videos / "00.mp4", 33)  # a source is another one
    assert "changed since it was scanned" in dv.transcode(manifest, small, **FAST).broken[0].reason
    rescanned = dv.scan(videos, progress=False).select([0, 1, 2])
    made = dv.transcode(rescanned, small, **FAST)
    changed = stamps_of(small)
    assert [name for name in after if after[name] != changed[name]] == ["00.mp4"]
    assert numbers_of(full_decode(made.path(0)).frames) == list(range(33))

    made = dv.transcode(rescanned, small, **FAST, gop=8)  # the settings are others
    again = stamps_of(small)
    assert all(changed[name] != again[name] for name in changed)
    assert made.table["keyframes"][0].as_py() == list(range(0, 33, 8))

    shutil.rmtree(videos)  # the sources are not needed any more
    assert dv.transcode(rescanned, small, **FAST, gop=8).table == made.table and stamps_of(small) == again
    fewer = dv.transcode(rescanned.select([0]), small, **FAST, gop=8)
    assert "files of earlier calls that are not in the manifest: 2 (02.mp4, 04.mp4)" in fewer.remarks


def test_killed_at_any_moment(numbered, tmp_path):
    """SIGKILL while files are written, again and again: what is there is whole, what is finished is kept."""
    videos, small = tmp_path / "videos", tmp_path / "small"
    for i, path in enumerate(sorted(numbered.rglob("*.mp4"))):
        (videos / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, videos / "ab"[i % 2] / f"{i}.mp4")
    manifest = dv.scan(videos, output=tmp_path / "m.parquet", progress=False)
    journal = small / "transcode.jsonl"
    code = (
        "import dali_vidaug as dv; "
        f"dv.transcode('m.parquet', 'small', speed='veryslow', progress=False, num_workers=2, short_side={HEIGHT // 2})"
    )
    kept: dict = {}
    for finished in (2, 5):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
        while not (journal.is_file() and journal.read_bytes().count(b"\n") >= finished):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (small / "manifest.parquet").exists()
        outputs = {path for path in stamps_of(small) if not path.startswith(".partial")}
        for name in outputs:
            full = full_decode(small / name)
            assert numbers_of(full.frames) == list(range(full.num_frames)) and full.num_frames >= 40
        assert kept.items() <= stamps_of(small).items(), "a finished file was made again"
        lines = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("]")]
        kept = {name: stamp for name, stamp in stamps_of(small).items() if name in {line[1] for line in lines}}
        assert finished <= len(kept) < 12
    with journal.open("a") as file:
        file.write('["a line that was being wri')
    made = dv.transcode(manifest, small, speed="veryslow", **HALF)
    assert kept.items() <= stamps_of(small).items() and not (small / ".partial").exists()
    assert_frames(manifest, made)
    whole = dv.transcode(manifest, tmp_path / "whole", speed="veryslow", **HALF)
    # x264 may give a file that is a few bytes longer, of the same frames, also alone and with one thread
    others = ("bytes", "mtime_ns", "content_digest", "packet_index")
    columns = [name for name in whole.table.column_names if name not in others]
    assert [name for name in columns if made.table[name] != whole.table[name]] == []
    names = [json.loads(line)[1] for line in journal.read_text().splitlines() if line.endswith("]")]
    assert sorted(names) == sorted(set(names)) == sorted(whole.rows("path").tolist())


@pytest.mark.slow
def test_processes(numbered_manifest, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, dali_vidaug as dv\n"
        "if __name__ == '__main__':\n"
        "    manifest = dv.Manifest.read(sys.argv[1])\n"
        "    dv.transcode(manifest, sys.argv[2], engine='processes', num_workers=2, progress=False, short_side=48)\n"
    )
    manifest = numbered_manifest.select(range(4))
    manifest.write(tmp_path / "m.parquet")
    subprocess.run([sys.executable, program, tmp_path / "m.parquet", tmp_path / "small"], check=True, cwd=tmp_path)
    assert_frames(manifest, dv.Manifest.read(tmp_path / "small" / "manifest.parquet"))


# ---- What is refused


def test_what_is_refused(numbered_manifest, tmp_path):
    for options, message in (
        (dict(preset="x264"), "preset must be one of h264, hevc, av1, nvdec, got 'x264'"),
        (dict(short_side=255), "short_side must be a multiple of 2 in"),
        (dict(short_side=240, preset="nvdec", gop=0), "gop must be a whole number in"),
        (dict(short_side=250, preset="nvdec"), "short_side must be a multiple of 16 in"),
        (dict(crf=0), r"crf of preset 'h264' must be a number in \[1, 51\], got 0"),
        (dict(crf=float("nan")), "crf of preset"),
        (dict(speed="8"), "speed of preset 'h264' must be one of ultrafast"),
        (dict(speed=8, preset="av1"), "as text, got 8"),
        (dict(fast_decode="no"), "fast_decode must be True or False"),
        (dict(engine="spark"), "engine must be"),
    ):
        with pytest.raises(ValueError, match=message):
            dv.transcode(numbered_manifest, tmp_path / "small", **options)
    assert not (tmp_path / "small").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"full is not empty, and has no transcode.jsonl"):
        dv.transcode(numbered_manifest, tmp_path / "full", **FAST)
    made = dv.transcode(numbered_manifest.select([0]), tmp_path / "small", **FAST)
    with pytest.raises(ValueError, match="has sources in it"):
        dv.transcode(made, tmp_path / "small", **FAST)
    with pytest.raises(FileNotFoundError, match="no manifest"):
        dv.transcode(tmp_path / "none.parquet", tmp_path / "small")


def test_one_process_at_a_time(numbered_manifest, tmp_path):
    (tmp_path / "small").mkdir()
    with (tmp_path / "small" / "transcode.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process has it: a lock belongs to what was opened
        with pytest.raises(ValueError, match=r"another process transcodes into .*small; wait for it"):
            dv.transcode(numbered_manifest, tmp_path / "small", **FAST)
    dv.transcode(numbered_manifest.select([0]), tmp_path / "small", **FAST)


def test_a_disk_that_cannot_be_written_to_ends_all(numbered_manifest, tmp_path):
    row = numbered_manifest.table.slice(0, 1).to_pylist()[0]
    output = str(tmp_path / "gone" / "v.mp4")
    job = one_video.Job(0, numbered_manifest.video(0), row["fps"], row["time_base"], (), Encoding(), output)
    with pytest.raises(OSError, match=r"transcode: .*gone/v.mp4 cannot be written: No such file or directory"):
        one_video.transcode_video(job)


# ---- The command


def test_the_command(numbered, tmp_path, capsys):
    small = tmp_path / "small"
    assert main(["transcode", str(numbered / "odd"), str(small), "--short-side", "48", "--speed", "ultrafast"]) == 0
    said = capsys.readouterr().out
    before = sum(path.stat().st_size for path in (numbered / "odd").iterdir())
    after = sum(path.stat().st_size for path in small.rglob("*.mp4"))
    assert f"bytes: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after, ratio {after / before:.2f}" in said
    assert "transcoded: 6 videos, PSNR of luma" in said and "times as fast as before" in said
    assert f"wrote {small / 'manifest.parquet'}" in said
    assert main(["transcode", str(numbered / "odd"), str(small), "--short-side", "47"]) == 2
    assert "short_side must be a multiple of 2" in capsys.readouterr().err
    assert main(["transcode", str(numbered / "odd"), str(numbered)]) == 1
    assert "has sources in it" in capsys.readouterr().err


# ---- Real files


@pytest.mark.slow
@pytest.mark.parametrize("name", ["videos", "faults"])
def test_real_files(name, request, tmp_path):
    """Every frame of 20 odd files, and of those with planted faults, is nearest to its own in a plain full decode."""
    root = request.getfixturevalue("real_videos").parent / name
    manifest = dv.scan(root, progress=False).select(slice(None, None, 2 if name == "videos" else 1))
    made = dv.transcode(manifest, tmp_path / "small", short_side=64, speed="veryfast", progress=False)
    reasons = [one.reason for one in made.broken]
    assert all("which MP4 cannot say" in reason for reason in reasons) and len(reasons) <= 1
    assert len(made) + len(reasons) == len(manifest)
    told = 0
    for row in range(len(made)):
        source = root / next(
            path for path in manifest.rows("path") if output_of(path, manifest) == made.rows("path", [row])[0]
        )
        before, after = tiles(source), tiles(made.path(row))
        assert len(before) == len(after) == made.table["num_frames"][row].as_py(), source
        for i in range(len(after)):
            near = [np.abs(after[i] - before[j]).mean() for j in range(max(0, i - 2), min(len(before), i + 3))]
            own = np.abs(after[i] - before[i]).mean()
            assert own <= min(near) + 1.5, (source, i)
            told += sum(error <= own for error in near) == 1
    assert told > 1000


def output_of(path, manifest):
    sources = [(source_path(manifest.root, name), 0) for name in manifest.rows("path")]
    return dict(zip(manifest.rows("path"), output_names(manifest.root, sources), strict=True))[path]


def tiles(path):
    """Means of 8 x 8 parts of each frame of a full decode, as shown."""
    full = full_decode(path)
    frames = []
    for i in range(full.num_frames):
        grey = full.shown(i).astype(np.float32).mean(2)
        rows = np.add.reduceat(grey, np.arange(8) * grey.shape[0] // 8, 0) / (grey.shape[0] / 8)
        frames.append(np.add.reduceat(rows, np.arange(8) * grey.shape[1] // 8, 1) / (grey.shape[1] / 8))
    return frames


def test_another_version_of_an_object_is_another_source(numbered_manifest):
    """Objects have no time of change, and the bytes at eight places may be the same."""
    row = {**numbered_manifest.table.slice(0, 1).to_pylist()[0], "mtime_ns": None}
    keys = {key_of({**row, "etag": etag}, Encoding()) for etag in (None, '"a"', '"b"')}
    assert len(keys) == 3


def test_folders_of_images_are_refused(tmp_path):
    for i in range(3):
        (tmp_path / "v" / "one").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (i, 0, 0)).save(tmp_path / "v" / "one" / f"{i:03d}.png")
    images = dv.scan(tmp_path / "v", progress=False)
    with pytest.raises(ValueError, match="it is a folder of images, which transcode does not encode"):
        dv.transcode(images, tmp_path / "out", progress=False)
