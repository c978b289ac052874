"""Which frames come out: every frame of these videos shows its own number."""

import io
import os
from fractions import Fraction

import av
import numpy as np
import pytest
from conftest import (
    HEIGHT,
    NUM_FRAMES,
    VIDEO_CASES,
    WIDTH,
    assert_pixels,
    by_container,
    cut_frames,
    decode_fully,
    frame_lists,
    measured_video,
    numbered_frame,
    remuxed_frames,
    shown_numbers,
    write_numbered,
)

from dali_vidaug.media import cut
from dali_vidaug.media import decode as decode_module
from dali_vidaug.media.bitstream import _is_exact_recovery
from dali_vidaug.media.convert import Converter
from dali_vidaug.media.cut import is_counted, open_video
from dali_vidaug.media.decode import decode
from dali_vidaug.media.remux import remux
from dali_vidaug.ops import CROP


@pytest.mark.parametrize("case", VIDEO_CASES)
def test_frame_i_is_the_ith_of_a_full_decode(case, case_video):
    indexed = case_video(case)
    full = decode_fully(indexed.path)
    assert indexed.num_frames == len(full) == NUM_FRAMES
    for frames in frame_lists(NUM_FRAMES):
        expected = [full[i] for i in frames]
        for video in (indexed, by_container(indexed)):
            assert cut_frames(video, frames) == expected, (case, frames)
            assert remuxed_frames(video, frames) == expected, (case, frames)
            assert shown_numbers(decode(video, frames).pixels) == frames.tolist()


@pytest.mark.parametrize(
    "case", ["h264_open_gop", "hevc_open_gop", "hevc_layers", "mpeg4_avi_bframes", "mpeg4_mp4_bframes"]
)
def test_a_clip_may_end_at_a_key_frame(case, case_video):
    """Frames shown before a key frame may refer to it: it then is in the cut before its own, too."""
    video = case_video(case)
    for key in video.keyframes[1:].tolist():
        for frames in (np.array([key - 1, key]), np.arange(key - 9, key + 1), np.array([key - 2, key, key + 1])):
            assert shown_numbers(decode(video, frames).pixels) == frames.tolist()


@pytest.mark.parametrize("case", VIDEO_CASES)
def test_seeking_finds_every_key_frame(case, case_video, monkeypatch):
    """These videos are short enough to be read through; here every GOP is sought."""
    monkeypatch.setattr(cut, "SEEK_DISTANCE", 0)
    video = by_container(case_video(case))
    frames = np.array([3, 15, 31, 44, 66, 69])
    assert shown_numbers(decode(video, frames).pixels) == frames.tolist()
    for frame in frames[1:]:
        assert shown_numbers(decode(video, frame[None]).pixels) == [frame]


@pytest.mark.parametrize(
    "case, keys",
    [
        ("h264_bframes", {0, 24, 48}),
        ("h264_open_gop", {0, 20, 40, 60}),
        ("h264_intra_refresh", {0}),  # the container marks more, from which the picture is only gradually refreshed
        ("mpeg4_avi_bframes", {0, 12, 24, 36, 48, 60}),
        ("mjpeg", set(range(NUM_FRAMES))),
    ],
)
def test_key_frames(case, keys, case_video):
    assert set(case_video(case).keyframes.tolist()) == keys and not is_counted(case_video(case))


@pytest.mark.parametrize("way", [by_container, lambda video: video], ids=["container", "index"])
def test_only_what_is_needed_is_decoded(way, case_video):
    video = way(case_video("h264_bframes"))
    clip = decode(video, np.arange(50, 54))
    assert clip.num_decoded <= 7, clip.num_decoded  # from key frame 48 on; 53 refers to 54
    sparse = decode(video, np.arange(0, 24, 6))
    assert sparse.num_decoded < 19, "no non-reference frame was left out"
    assert decode(video, np.array([1, 49])).num_decoded <= 8  # two GOPs, not what is between them
    assert decode(way(case_video("mjpeg")), np.array([3, 33, 63])).num_decoded == 3


def test_edit_list(tmp_path):
    """Packets before the start are decoded but not shown: frame 0 is the first that is shown."""
    source = write_numbered(tmp_path / "whole.mp4", 60, options={"g": "30", "bf": "2"})
    edited = tmp_path / "edited.mp4"
    with av.open(str(source)) as old, av.open(str(edited), "w") as new:
        track = new.add_stream_from_template(old.streams.video[0])
        step = None
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                step = step or packet.duration
                packet.pts, packet.dts, packet.stream = packet.pts - 7 * step, packet.dts - 7 * step, track
                new.mux(packet)
    video = measured_video(edited)
    assert video.num_frames == 53 and video.keyframes.tolist() == [23]  # 0 is reached from a hidden one
    frames = np.array([0, 5, 22, 23, 40, 52])
    assert shown_numbers(decode(video, frames).pixels) == (frames + 7).tolist()
    full = decode_fully(edited)
    assert remuxed_frames(video, frames) == [full[i] for i in frames]


def test_variable_frame_rate(tmp_path):
    path = tmp_path / "vfr.mp4"
    times = np.cumsum([1 + (i * 7 % 5) for i in range(40)]) * 100
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, width=WIDTH, height=HEIGHT, options={"g": "10", "bf": "2"})
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i), format="rgb24")
            frame.pts, frame.time_base = int(time), stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    video = measured_video(path)
    assert video.num_frames == 40 and len(video.pts) == 40 and len(video.keyframes) == 4
    frames = np.array([3, 17, 18, 39, 0])
    assert shown_numbers(decode(video, frames).pixels) == frames.tolist()


@pytest.mark.parametrize("orientation, rotation", [(1, 0), (6, 90), (3, 180), (8, 270)])
def test_rotation_and_crop(orientation, rotation, case_video):
    """The crop is of the frame as shown: decode whole, rotate, crop and compare."""
    video = case_video("h264_444")  # with halved chroma the edges of a crop would differ
    whole = decode(video, np.array([5])).pixels[0]
    rotated = np.rot90(whole, -rotation // 90)
    box = np.array([(10, 22, 50, 70, 40, 48)], CROP)
    clip = decode(video._replace(orientation=orientation), np.array([5]), box)
    assert_pixels(clip.pixels[0], rotated[10:50, 22:70], max_diff=0)


def test_scaling_averages(case_video):
    """Halving is near the mean of the pixels it covers (a triangle filter), not a pick of one."""
    video = case_video("h264_444")
    whole = decode(video, np.array([3])).pixels[0]
    half = decode(video, np.array([3]), np.array([(0, 0, HEIGHT, WIDTH, HEIGHT // 2, WIDTH // 2)], CROP)).pixels[0]
    mean = whole.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((1, 3))
    inner = (slice(12, -2), slice(2, -2))  # below the number, whose edges a triangle spreads
    assert np.abs(half[inner] - mean[inner]).mean() < 4
    picked = whole[::2, ::2].astype(float)
    assert np.abs(half[inner] - mean[inner]).mean() < np.abs(picked[inner] - mean[inner]).mean()


def test_colour_is_bt601_whatever_the_file_says(tmp_path):
    """A file tagged BT.709 is converted like any other, as DALI does."""
    path = tmp_path / "c.mp4"
    write_numbered(
        path,
        3,
        options={"crf": "1", "x264-params": "colormatrix=bt709:colorprim=bt709:transfer=bt709"},
        pixel_format="yuv444p",
    )
    video = measured_video(path)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert frame.colorspace == 1  # BT.709
        y, u, v = (
            np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].astype(float) for p in frame.planes
        )
    y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    rgb = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], -1)
    got = decode(video, np.array([0])).pixels[0]
    assert np.abs(got - rgb.clip(0, 255)).max() <= 2.5
    wrong = np.stack([y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u], -1)
    assert np.abs(got - wrong.clip(0, 255)).max() > 5


def test_frames_that_change_size_are_refused(case_video):
    video = case_video("h264_bframes")
    with open_video(video.path) as (container, stream):
        frame = next(container.decode(stream))
        with pytest.raises(ValueError, match=f"the frames change size, from 99x{HEIGHT} to {WIDTH}x{HEIGHT}"):
            Converter(video._replace(width=99), ())(frame, np.empty((HEIGHT, 99, 3), np.uint8))


def test_missing_frames_are_errors(case_video, tmp_path):
    video = by_container(case_video("h264_bframes"))
    with pytest.raises(ValueError, match=r"frames 3 to 70 are not all in \[0, 70\)"):
        decode(video, np.array([3, 70]))
    short = measured_video(write_numbered(tmp_path / "short.mp4", 30))
    with pytest.raises(EOFError, match="the file ends before frame 40; the manifest says 70"):
        decode(video._replace(path=short.path, bytes=None, keyframes=np.array([0, 24], np.int32)), np.array([25, 40]))


def test_damaged_frames_are_errors_not_grey(tmp_path):
    """FFmpeg fills what it cannot decode from the frame before and says so only in a flag."""
    path = write_numbered(tmp_path / "d.mp4", 50, options={"g": "50", "bf": "0"})
    video = by_container(measured_video(path))._replace(bytes=None)  # a changed file
    with av.open(str(path)) as container:
        at, size = next((p.pos, p.size) for i, p in enumerate(container.demux(video=0)) if i == 20)
    data = bytearray(path.read_bytes())
    for place in range(at + size // 2, at + size, 3):
        data[place] ^= 0x5A
    path.write_bytes(data)
    assert len(decode_fully(path)) == 50  # no error there
    for wanted in (np.arange(15, 25), np.array([21]), np.array([40])):  # those that follow refer to it
        with pytest.raises(ValueError, match="frame 20 is damaged"):
            decode(video, wanted)
    assert shown_numbers(decode(video, np.arange(19)).pixels) == list(range(19))


def test_recovery_points_that_are_not_exact_are_not_trusted():
    assert _is_exact_recovery(bytes([6, 1, 0xC0]))  # recovery_frame_cnt 0, exact_match_flag 1
    assert not _is_exact_recovery(bytes([6, 1, 0x80]))  # not exact
    assert not _is_exact_recovery(bytes([6, 1, 0x40]))  # counts more than 0
    assert _is_exact_recovery(bytes([5, 2, 9, 9, 6, 1, 0xC4]))  # after another message
    assert not _is_exact_recovery(bytes([255, 255]))


@pytest.mark.parametrize("how", ["pyav", "dali"])
def test_the_end_of_a_long_video_costs_little_more_than_its_start(how, tmp_path):
    """16 frames of 300, a key frame every 30, counted in frames decoded: not in time, which other work changes."""
    video = measured_video(
        write_numbered(
            tmp_path / "long.mp4", 300, options={"g": "30", "bf": "2", "x264-params": "b-adapt=0:b-pyramid=none"}
        )
    )

    def cost(frames):
        if how == "pyav":
            return decode(video, frames).num_decoded
        with av.open(io.BytesIO(remux(video, frames).data.tobytes())) as container:
            return sum(1 for _ in container.decode(video=0))

    start, group, end = (cost(np.arange(first, first + 16)) for first in (0, 270, 284))
    assert group <= start + 1
    assert end <= 1.5 * start, (end, start)


def test_encoding_leaves_the_process_as_it_was(tmp_path):
    """SVT-AV1 makes its caller a real-time thread if it runs as root; everything else would then wait for it."""
    before = os.sched_getscheduler(0)
    write_numbered(tmp_path / "v.mkv", 5, codec="libsvtav1", options={"preset": "12"})
    assert os.sched_getscheduler(0) == before


def test_damage_after_an_idr_picture_is_never_decoded_again_leniently(tmp_path, monkeypatch):
    """Leniency is for packets that ask to forget frames from before a cut; after an IDR picture there are none."""
    path = write_numbered(tmp_path / "d.mp4", 30, options={"g": "30", "bf": "0"})
    video, strictness, real = by_container(measured_video(path))._replace(bytes=None), [], decode_module.decoder_of
    with av.open(str(path)) as container:
        at, size = next((p.pos, p.size) for i, p in enumerate(container.demux(video=0)) if i == 5)
    data = bytearray(path.read_bytes())
    for place in range(at + size // 2, at + size, 3):
        data[place] ^= 0x5A
    path.write_bytes(data)

    def record(stream, strict=True, vectors=False):
        strictness.append(strict)
        return real(stream, strict, vectors)

    monkeypatch.setattr(decode_module, "decoder_of", record)
    with pytest.raises(ValueError, match="frame 5 is damaged"):
        decode(video, np.array([8]))
    assert strictness == [True]
