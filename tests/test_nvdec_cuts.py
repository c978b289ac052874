"""Small files for DALI's decoder on a GPU: which of them it would get wrong, known without a GPU."""

import io

import av
import numpy as np
import pytest
from conftest import (
    NUM_FRAMES,
    VIDEO_CASES,
    frame_digest,
    frame_lists,
    measured_video,
    remuxed_frames,
    write_numbered,
)

from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media import remux as remux_module
from dali_vidaug.media.bitstream import is_one_shown_picture, presentation_order
from dali_vidaug.media.remux import remux

LOW_DELAY = {  # the same codecs without hidden pictures
    "vp9": ("v.webm", dict(codec="libvpx-vp9", options={"g": "20", "lag-in-frames": "0", "cpu-used": "8"})),
    "av1": ("v.mkv", dict(codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1:pred-struct=1"})),
}
REFUSED = {
    "h264_open_gop": "IDR", "h264_transport_stream": "IDR", "h264_avi": "time stamps", "vp9": "hidden", "av1": "hidden",
}  # fmt: skip


def packets_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        yield from ((packet, stream) for packet in container.demux(stream) if packet.size)


def dalis_frames(made):
    """Frames as DALI 2.4's frames_decoder_gpu.cc orders them: a frame for each packet, at its time, among eight."""
    with av.open(io.BytesIO(made.data.tobytes())) as container:
        pictures = {frame.pts: frame_digest(frame, made.box) for frame in container.decode(video=0)}
    with av.open(io.BytesIO(made.data.tobytes())) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    slots, shown = [], []
    for time in times:
        if len(slots) == 8:
            shown.append(slots.pop(slots.index(min(slots))))
        slots.append(time)
    shown += sorted(slots)
    return [pictures[shown[i]] for i in made.positions]


@pytest.mark.parametrize("case", VIDEO_CASES)
def test_small_files_for_a_gpu_give_the_right_frames_or_are_refused(case, case_video):
    video, refused = case_video(case), 0
    for frames in frame_lists(video.num_frames):
        try:
            made = remux(video, frames, on_gpu=True)
        except NotForDaliError as error:
            assert REFUSED[case] in str(error)
            refused += 1
            continue
        assert dalis_frames(made) == remuxed_frames(video, frames)
    assert bool(refused) == (case in REFUSED)


@pytest.mark.parametrize("codec", LOW_DELAY)
def test_streams_without_hidden_pictures_are_not_refused(codec, tmp_path):
    name, options = LOW_DELAY[codec]
    video = measured_video(write_numbered(tmp_path / name, NUM_FRAMES, **options))
    for frames in frame_lists(video.num_frames):
        made = remux(video, frames, on_gpu=True)
        assert dalis_frames(made) == remuxed_frames(video, frames)


@pytest.mark.parametrize("case, splitter", [("vp9", "vp9_superframe_split"), ("av1", "av1_frame_split")])
def test_hidden_pictures_are_found_where_ffmpeg_splits_them_off(case, splitter, case_video):
    found, split, sizes, filtered = [], [], [], None
    for packet, stream in packets_of(case_video(case).path):
        filtered = filtered or av.bitstream.BitStreamFilterContext(splitter, stream)
        found.append(not is_one_shown_picture(packet, stream, case))
        sizes.append(packet.size)
        split.append(len([part for part in filtered.filter(packet) if part.size]) > 1)
    assert any(split) and not all(found)
    for packet_found, packet_split, size in zip(found, split, sizes, strict=True):
        # What is found and not split is a picture shown again: a few bytes.
        assert packet_found == packet_split or (packet_found and size < 10), (packet_found, packet_split, size)


class Packet(bytes):
    is_keyframe = False


class Stream:
    class codec_context:
        name, extradata = "h264", b""


@pytest.mark.parametrize(
    "codec, data, expected",
    [
        ("h264", b"\0\0\1\x65\x88\0\0\1\x65\x42", True),  # two slices of one picture
        ("h264", b"\0\0\1\x65\x88\0\0\1\x61\x9a", False),  # two fields
        ("h264", b"\0\0\1\x67\x42", False),  # no picture
        ("vp8", b"\x10\x02\x00", True),
        ("vp8", b"\x00\x02\x00", False),  # hidden
        ("vp9", b"\x86\x00\x40", True),  # marker 2, inter, shown
        ("vp9", b"\x84\x00\x40", False),  # hidden
        ("vp9", b"\x88", False),  # shows one again
        ("vp9", b"\x84\x00\x86\x00\xc1\x02\x02\xc1", False),  # a superframe of two
        ("av1", b"\x12\x00\x32\x02\x10\x00", True),  # delimiter, frame
        ("av1", b"\x12\x00\x32\x02\x00\x00\x32\x02\x10\x00", False),  # a hidden frame and one that is shown
        ("av1", b"\x12\x00\x1a\x01\xb0", False),  # header that shows one again
        ("av1", b"\x12\x00\x36\x08\x81\x00\x10\x00", True),  # with extension, and a size of two bytes
        ("mpeg4", b"\0\0\1\xb6\x10", True),
        ("mpeg4", b"\0\0\1\xb6\x10\0\0\1\xb6\x80", False),
        ("mjpeg", b"\xff\xd8", True),
    ],
)
def test_one_shown_picture(codec, data, expected):
    stream = Stream()
    assert is_one_shown_picture(Packet(data), stream, codec) is expected


def test_presentation_order():
    """I P B B P B P P B, and what is left when the last is shown."""
    kinds = [Packet(b"\0\0\1\xb6" + bytes(["IPBS".index(kind) << 6])) for kind in "IPBBPBPPB"]
    assert presentation_order(kinds, "mpeg4") == [0, 3, 1, 2, 5, 4, 6, 8, 7]
    assert presentation_order(kinds, "vp8") == list(range(9))


def test_frames_that_are_shown_too_late_are_refused(case_video, monkeypatch):
    video = case_video("h264_bframes")
    monkeypatch.setattr(remux_module, "NVDEC_DELAY_MAX", 1)  # this stream's pyramid has 2
    with pytest.raises(NotForDaliError, match="a frame is shown 2 frames late"):
        remux(video, np.arange(40), on_gpu=True)
    remux(video, np.arange(40))  # on the CPU there is no such limit
