"""Small files whose cropping is taken out: PyAV gives whole frames of them, and their shown part is the frame."""

import io
from dataclasses import replace
from itertools import islice

import av
import av.bitstream
import numpy as np
import pytest
from conftest import (
    by_container,
    decode_fully,
    frame_digest,
    frame_lists,
    measured_video,
    numbered_frame,
    shown_numbers,
)
from dirty import parameter_sets, read_coded, write_coded

from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media import uncrop as uncrop_module
from dali_vidaug.media.bitstream import hevc_sets_in, sets_in
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.load import load_clips
from dali_vidaug.media.remux import remux
from dali_vidaug.media.uncrop import Box

LENGTH = 40
X264, X265 = "x264-params", "x265-params"
CASES = {  # name: (codec, container, (height, width) to encode, encoder's parameters, crops for the filter, box, coded)
    "h264": ("h264", "mp4", (90, 154), "", "", (0, 0, 154, 90), (160, 96)),
    "h264, Matroska": ("h264", "mkv", (90, 154), "", "", (0, 0, 154, 90), (160, 96)),
    "h264, SPS in the packets": ("h264", "ts", (90, 154), "", "", (0, 0, 154, 90), (160, 96)),
    "h264, whole blocks": ("h264", "mp4", (96, 160), "", "", None, (160, 96)),
    "h264, top and left by 64": ("h264", "mp4", (96, 160), "", "64:4:6:10", (64, 6, 92, 80), (160, 96)),
    # FFmpeg keeps rows aligned: frames of PyAV begin at a column that is a multiple of 64
    "h264, left by 2": ("h264", "mp4", (96, 160), "", "2:4:0:0", (0, 0, 156, 96), (160, 96)),
    "h264, frames of two fields": ("h264", "mp4", (72, 160), "fake-interlaced=1", "", (0, 0, 160, 72), (160, 96)),
    "h264, full range, BT.709": (
        "h264", "mp4", (90, 154), "fullrange=1:colorprim=bt709:transfer=bt709:colormatrix=bt709", "",
        (0, 0, 154, 90), (160, 96),
    ),
    "hevc": ("hevc", "mp4", (90, 154), "", "", (0, 0, 154, 90), (160, 96)),
    "hevc, SPS in the packets": ("hevc", "ts", (90, 154), "", "", (0, 0, 154, 90), (160, 96)),
    "hevc, top and left by 64": ("hevc", "mkv", (96, 160), "", "64:4:6:10", (64, 6, 92, 80), (160, 96)),
    "hevc, larger blocks": ("hevc", "mp4", (90, 154), "min-cu-size=32", "", (0, 0, 154, 90), (160, 96)),
    "hevc, a multiple of 8": ("hevc", "mp4", (88, 152), "min-cu-size=8", "", None, (152, 88)),
    "hevc, full range, BT.709": (
        "hevc", "mp4", (90, 154), "range=full:colorprim=bt709:transfer=bt709:colormatrix=bt709", "",
        (0, 0, 154, 90), (160, 96),
    ),
}  # fmt: skip


def filtered(path, target, name):
    """A file whose packets went through one of FFmpeg's bitstream filters."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        stream = source.streams.video[0]
        track = output.add_stream_from_template(stream)
        context = av.bitstream.BitStreamFilterContext(name, stream, track)
        for packet in (*(p for p in source.demux(stream) if p.size), None):
            for made in context.filter(packet):
                made.stream = track
                output.mux(made)
    return target


def crop_filter(codec, crops):
    names = ("crop_left", "crop_right", "crop_top", "crop_bottom")
    name = {"h264": "h264_metadata", "hevc": "hevc_metadata"}[codec]
    return f"{name}=" + ":".join(f"{n}={value}" for n, value in zip(names, crops.split(":"), strict=True))


def write_case(folder, codec, container, size, params, crops):
    frames = [numbered_frame(i)[: size[0], : size[1]] for i in range(LENGTH)]
    key, encoder = (X264, "libx264") if codec == "h264" else (X265, "libx265")
    common = "keyint=16:bframes=2" + (":log-level=none:pools=none:frame-threads=1" if codec == "hevc" else "")
    options = {key: f"{common}:{params}".rstrip(":"), "preset": "ultrafast"}
    path = folder / f"v.{container}"
    write_video(path, frames, codec=encoder, options=options)
    return filtered(path, folder / f"cropped.{container}", crop_filter(codec, crops)) if crops else path


@pytest.fixture(scope="module")
def case_file(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = write_case(tmp_path_factory.mktemp("case"), *CASES[name][:5])
        return made[name]

    return get


def assert_whole(video, frames, expected):
    """The small file has frames of its coded size whose shown part is the frame of a full decode; returns it."""
    made = remux(video, frames, on_gpu=True)
    with av.open(io.BytesIO(made.data.tobytes())) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == made.size, "the container says another size"
        shown = list(container.decode(stream))
        assert {(frame.width, frame.height) for frame in shown} == {made.size}
        assert (stream.codec_context.coded_width, stream.codec_context.coded_height) == made.size
    assert [frame_digest(shown[i], made.box) for i in made.positions] == [expected[i] for i in frames]
    assert made.box is None or (made.box.width, made.box.height) == (video.width, video.height)
    return made


@pytest.mark.parametrize("name", CASES)
def test_the_shown_part_of_whole_frames_is_the_frame(name, case_file):
    *_, box, coded = CASES[name]
    path = case_file(name)
    video, expected = measured_video(path), decode_fully(path)
    for found in [video, *([] if video.packet_index is None else [by_container(video)])]:
        for frames in frame_lists(video.num_frames):
            made = assert_whole(found, frames, expected)
            assert (made.box, made.size) == (None if box is None else Box(*box), coded)
    on_cpu = remux(video, frames)  # as it was: DALI shows what the file says
    assert (on_cpu.size, on_cpu.box) == (None, None)
    with av.open(io.BytesIO(on_cpu.data.tobytes())) as container:
        assert next(container.decode(video=0)).width == video.width


def with_sets(path, target, sets):
    """A file whose container has other sequence parameter sets of H.264."""
    packets, extradata = read_coded(path)
    at = 6
    for _ in range(extradata[5] & 31):
        at += 2 + int.from_bytes(extradata[at : at + 2], "big")
    units = b"".join(len(unit).to_bytes(2, "big") + unit for unit in sets)
    return edited(path, target, packets, extradata[:5] + bytes([0xE0 | len(sets)]) + units + extradata[at:])


def edited(path, target, packets, extradata=None, size=None):
    """A file with other packets, another extradata or another size in its container."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        track = output.add_stream_from_template(source.streams.video[0])
        track.time_base = source.streams.video[0].time_base
        context = track.codec_context
        context.extradata = context.extradata if extradata is None else extradata
        context.width, context.height = size or (context.width, context.height)
        for coded in packets:
            packet = av.Packet(coded.data)
            packet.pts, packet.dts, packet.time_base = coded.pts, coded.dts, coded.time_base
            packet.is_keyframe, packet.stream = coded.key, track
            output.mux(packet)
    return target


def set_of(path, *filters):
    """The sequence parameter set of an H.264 file, after filters."""
    for i, name in enumerate(filters):
        path = filtered(path, path.with_name(f"filtered{i}.mp4"), name)
    return sets_in(read_coded(path)[1])[0]


def test_several_parameter_sets_that_crop_alike(case_file, tmp_path):
    path = case_file("h264")
    other = set_of(path, "h264_metadata=sample_aspect_ratio=4/3")
    assert other != set_of(path) and b"\0\0\3" in other  # an inserted byte, which moves with the bits
    two = with_sets(path, tmp_path / "two.mp4", [other, set_of(path)])
    assert len(sets_in(read_coded(two)[1])) == 2
    made = assert_whole(measured_video(two), np.arange(20), decode_fully(path))
    with av.open(io.BytesIO(made.data.tobytes())) as container:
        found = sets_in(bytes(container.streams.video[0].codec_context.extradata))
    assert len(set(found)) == 2 and not set(found) & {other, set_of(path)}


def test_parameter_sets_outside_and_in_the_packets(case_file, tmp_path):
    """With lengths in front, as in MP4; those in the packets are what a decoder uses in the end."""
    for name in ("h264", "hevc"):
        path = case_file(name)
        packets, extradata = read_coded(path)
        repeated = [
            replace(p, data=parameter_sets(extradata, name) + p.data) if p.key else p for p in packets
        ]  # fmt: skip
        both = write_coded(tmp_path / f"{name}.mp4", path, repeated)
        assert parameter_sets(extradata, name) in read_coded(both)[0][0].data
        for frames in (np.arange(10), np.array([38, 20])):
            made = assert_whole(measured_video(both), frames, decode_fully(path))
            assert parameter_sets(extradata, name) not in made.data.tobytes()


def test_parameter_sets_that_crop_in_several_ways_are_refused(case_file, tmp_path):
    path = case_file("h264")
    other = set_of(path, "h264_metadata=crop_bottom=8")
    two = with_sets(path, tmp_path / "two.mp4", [other, set_of(path)])
    with pytest.raises(NotForDaliError, match="several sizes, or crop in several ways"):
        remux(measured_video(two), np.arange(10), on_gpu=True)


def test_a_container_that_crops(case_file, tmp_path):
    """FFmpeg believes a container that is smaller by less than a block; NVDEC does not read it."""
    path = case_file("h264, whole blocks")
    smaller = edited(path, tmp_path / "v.mp4", read_coded(path)[0], size=(150, 90))
    video, expected = measured_video(smaller), decode_fully(smaller)
    assert (video.width, video.height) == (150, 90) and expected != decode_fully(path)
    made = assert_whole(video, np.arange(10), expected)
    assert (made.size, made.box) == ((160, 96), Box(0, 0, 150, 90))


def test_a_default_display_window_is_refused(tmp_path):
    """It is not known whether NVDEC's driver crops by it. FFmpeg does not."""
    video = measured_video(write_case(tmp_path, "hevc", "mp4", (96, 160), "display-window=0,0,8,8", ""))
    with pytest.raises(NotForDaliError, match="default display window"):
        remux(video, np.arange(10), on_gpu=True)
    loaded = load_clips("hybrid", True, "bt601", video, [np.arange(10)], [()], None)
    assert "default display window" in loaded.fallback and shown_numbers(loaded.clips[0]) == list(range(10))


def test_parameter_sets_that_change_otherwise_are_refused(case_file, monkeypatch):
    """Putting the cropping back must give the bytes from before: here, the level has changed as well."""
    real = uncrop_module._filtered

    def spoil(codec, above, parameter_set, crop):
        made = real(codec, above, parameter_set, crop)
        return made if any(crop) else made[:3] + bytes([made[3] + 1]) + made[4:]

    monkeypatch.setattr(uncrop_module, "_filtered", spoil)
    uncrop_module._rewritten.cache_clear()
    with pytest.raises(NotForDaliError, match="more than the cropping changes"):
        remux(measured_video(case_file("h264")), np.arange(4), on_gpu=True)


def test_frames_that_differ_are_refused(case_file, monkeypatch):
    """The manifest says a size that the frames do not have; the headers say another place than the frames have."""
    video = measured_video(case_file("h264"))
    uncrop_module._proven.clear()
    with pytest.raises(NotForDaliError, match="in size where the headers say otherwise"):
        remux(video._replace(height=80), np.arange(4), on_gpu=True)
    real = uncrop_module._window_of
    monkeypatch.setattr(uncrop_module, "_common_window", lambda codec, sets: real(codec, sets[0])._replace(top=2))
    with pytest.raises(NotForDaliError, match="not the part of the coded frames"):
        remux(video, np.arange(4), on_gpu=True)
    monkeypatch.undo()
    uncrop_module._proven.clear()
    remux(video, np.arange(4), on_gpu=True)


def test_each_kind_of_parameter_sets_is_proven_once(case_file, monkeypatch):
    video, decoded = measured_video(case_file("h264")), []
    real = uncrop_module._find_shown
    monkeypatch.setattr(uncrop_module, "_find_shown", lambda *all: decoded.append(1) or real(*all))
    uncrop_module._proven.clear()
    for first in (0, 5, 20):
        remux(video, np.arange(first, first + 4), on_gpu=True)
    assert len(decoded) == 1


def first_frames(path, wanted):
    """Some frames of a decode from the start, by their index: digests."""
    with av.open(str(path)) as container:
        shown = enumerate(container.decode(container.streams.best("video")))
        return {i: frame_digest(frame) for i, frame in islice(shown, max(wanted) + 1) if i in wanted}


@pytest.mark.slow
def test_real_files(real_videos):
    """Every H.264 and H.265 file that can go to NVDEC at all: 8-bit 4:2:0 or not, whole or cropped."""
    kinds, refused = {}, {}
    for path in sorted(real_videos.iterdir()):
        if path.suffix == ".json":
            continue
        video = measured_video(path)
        if video.codec not in ("h264", "hevc"):
            continue
        lists = frame_lists(min(video.num_frames, 90))[:3]
        expected = first_frames(path, set(np.concatenate(lists).tolist()))
        for frames in lists:
            try:
                made = assert_whole(video, frames, expected)
            except NotForDaliError as error:
                refused.setdefault(path.name, str(error))
            else:
                kinds[path.name] = made.box is not None
    assert sum(kinds.values()) >= 12 and sum(not boxed for boxed in kinds.values()) >= 8, kinds
    assert all("IDR" in why or "frames late" in why or "one frame" in why for why in refused.values()), refused


def test_sets_of_the_bitstream_agree_with_ffmpeg(case_file):
    """Size and cropping as this package reads them, against FFmpeg's decoder."""
    for name, (codec, *_) in CASES.items():
        path = case_file(name)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            next(container.decode(stream))
            context, extradata = stream.codec_context, bytes(stream.codec_context.extradata or b"")
            units = (sets_in if codec == "h264" else hevc_sets_in)(extradata)
            (window,) = {
                uncrop_module._window_of(codec, unit)
                for unit in uncrop_module._of_kind(codec, units, uncrop_module._SPS[codec])
            }
            assert window[:2] == (context.coded_width, context.coded_height)
            shown = window.width - window.left - window.right, window.height - window.top - window.bottom
            assert shown == (context.width, context.height)


@pytest.mark.parametrize("codec, encoder", [("h264", "libx264"), ("hevc", "libx265")])
def test_even_pictures_prove_nothing(codec, encoder, tmp_path):
    """A black picture looks the same wherever it begins: its clip is refused, and other clips are still right."""
    picture = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    frames = [np.zeros_like(picture)] * 8 + [np.roll(picture, i, 1) for i in range(16)]
    parameters = {"libx264": "x264-params", "libx265": "x265-params"}[encoder]
    options = {parameters: "keyint=8:min-keyint=8:bframes=0:scenecut=0:log-level=none", "preset": "ultrafast"}
    write_video(tmp_path / "whole.mp4", frames, codec=encoder, options=options)
    video = measured_video(filtered(tmp_path / "whole.mp4", tmp_path / "v.mp4", crop_filter(codec, "2:4:0:0")))
    uncrop_module._proven.clear()
    with pytest.raises(NotForDaliError, match="its first frame is so even"):
        remux(video, np.arange(6), on_gpu=True)
    with av.open(str(tmp_path / "v.mp4")) as container:
        truth = [frame.to_ndarray() for frame in container.decode(video=0)]
    for wanted in (np.arange(16, 20), np.arange(4, 12)):
        try:
            made = remux(video, wanted, on_gpu=True)
        except NotForDaliError:
            assert wanted[0] == 4, "its first frame is even, and may be refused"
            continue
        with av.open(io.BytesIO(made.data.tobytes())) as container:
            whole = [frame.to_ndarray() for frame in container.decode(video=0)]
        box = made.box
        for index, at in zip(wanted, made.positions, strict=True):
            shown = whole[at][box.top : box.top + box.height, box.left : box.left + box.width]
            assert np.array_equal(shown, truth[index][: video.height]), index
