"""Which frames come out, told by the frames themselves: every video shows its frames' numbers."""

import hashlib
import io
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pytest
from conftest import HEIGHT, WIDTH, assert_pixels, numbered_frame, read_number, write_numbered

from dali_vidaug import cut
from dali_vidaug.cut import is_counted, open_video, read_cuts, remux
from dali_vidaug.decode import Converter, decode, decode_cut
from dali_vidaug.manifest import SCHEMA, Manifest
from dali_vidaug.measure import measure
from dali_vidaug.ops import CROP

CASES = {  # name: file name, write_video's options
    "h264_bframes": ("v.mp4", dict(options={"g": "24", "bf": "3", "x264-params": "b-pyramid=normal"})),
    "h264_one_key": ("v.mp4", dict(options={"g": "1000", "bf": "2"})),
    "h264_open_gop": ("v.mkv", dict(options={"g": "20", "bf": "3", "x264-params": "open-gop=1:scenecut=0"})),
    "h264_intra_refresh": ("v.mkv", dict(options={"g": "20", "x264-params": "intra-refresh=1:scenecut=0"})),
    "h264_transport_stream": ("v.ts", dict(options={"g": "20", "bf": "3", "x264-params": "open-gop=1:scenecut=0"})),
    "h264_avi": ("v.avi", dict(options={"g": "20", "bf": "2"})),
    "h264_444": ("v.mp4", dict(options={"g": "20", "bf": "2"}, pixel_format="yuv444p")),
    "h264_444_ts": ("v.ts", dict(options={"g": "20", "bf": "2"}, pixel_format="yuv444p")),
    "h264_10_bit": ("v.mp4", dict(options={"g": "20", "bf": "2"}, pixel_format="yuv420p10le")),
    "hevc_open_gop": (
        "v.mp4",
        dict(codec="libx265", options={"x265-params": "keyint=20:open-gop=1:bframes=3:log-level=none"}),
    ),
    "hevc_layers": (
        "v.mp4",
        dict(codec="libx265", options={"x265-params": "keyint=20:temporal-layers=2:bframes=4:log-level=none"}),
    ),
    "hevc_mkv": ("v.mkv", dict(codec="libx265", options={"x265-params": "keyint=20:open-gop=0:log-level=none"})),
    "mpeg4_avi": ("v.avi", dict(codec="mpeg4", options={"g": "12", "b": "2M"})),
    "mpeg4_avi_bframes": ("v.avi", dict(codec="mpeg4", options={"g": "12", "bf": "2", "b": "2M"})),
    "mpeg4_mp4_bframes": ("v.mp4", dict(codec="mpeg4", options={"g": "12", "bf": "2", "b": "2M"})),
    "vp8": ("v.webm", dict(codec="libvpx", options={"g": "20", "b": "1M", "deadline": "realtime", "cpu-used": "8"})),
    "vp9": (
        "v.webm",
        dict(codec="libvpx-vp9", options={"g": "20", "b": "1M", "deadline": "realtime", "cpu-used": "8"}),
    ),
    "av1": ("v.mkv", dict(codec="libsvtav1", options={"g": "20", "preset": "12", "svtav1-params": "lp=1"})),
    "mjpeg": ("v.avi", dict(codec="mjpeg", options={"q:v": "3"}, pixel_format="yuvj420p")),
}
NUM_FRAMES = 70


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Each case's file, written once."""
    folder = tmp_path_factory.mktemp("cases")
    made = {}

    def get(case):
        if case not in made:
            name, options = CASES[case]
            made[case] = video_of(write_numbered(folder / case / name, NUM_FRAMES, **options))
        return made[case]

    return get


def video_of(path):
    """The manifest row of one file."""
    row = measure(path)
    assert "error" not in row, row
    row |= {"path": path.name, "label": -1, "first_frame": 0, "last_frame": row["num_frames"]}
    return Manifest(pa.Table.from_pylist([row], SCHEMA), root=path.parent).video(0)


def full_decode(path):
    """Every frame of a file as PyAV alone decodes it: digests."""
    with av.open(str(path), metadata_errors="ignore") as container:
        return [raw(frame) for frame in container.decode(video=0)]


def raw(frame):
    """A digest of a decoded frame's planes, without the padding of their rows."""
    size = -(-frame.format.components[0].bits // 8)
    digest = hashlib.sha256()
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        digest.update(rows[:, : plane.width * size].tobytes())
    return digest.digest()


def frame_lists(num_frames):
    rng = np.random.default_rng(5)
    start = int(rng.integers(0, max(1, num_frames - 30)))
    return [
        np.arange(start, start + 16).clip(max=num_frames - 1),
        np.arange(0, num_frames, 9),
        rng.integers(0, num_frames, 6),
        np.array([num_frames - 1]),
        np.array([num_frames - 1, 0, num_frames - 1]),
    ]


def cut_frames(video, frames):
    """Frames through the cutting decoder: digests."""
    got = {}
    with open_video(video.path) as (container, stream):
        for cut in read_cuts(container, stream, video, frames):
            for frame, index in decode_cut(stream.codec_context, cut, video):
                got[index] = raw(frame)
    return [got[i] for i in frames.tolist()]


def remuxed_frames(video, frames):
    data, places, _ = remux(video, frames)
    assert len(places) == len(frames) and places.dtype == np.int32
    with av.open(io.BytesIO(data.tobytes())) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        assert min(p.pts for p in packets) == 0 and not any(p.is_discard for p in packets)
    with av.open(io.BytesIO(data.tobytes())) as container:
        shown = [raw(frame) for frame in container.decode(video=0)]
    assert len(shown) == len(packets), "a packet of the cut gives no frame"
    return [shown[i] for i in places]


@pytest.mark.parametrize("case", CASES)
def test_frame_i_is_the_ith_of_a_full_decode(case, videos):
    video = videos(case)
    full = full_decode(video.path)
    assert video.num_frames == len(full) == NUM_FRAMES
    for frames in frame_lists(NUM_FRAMES):
        expected = [full[i] for i in frames]
        assert cut_frames(video, frames) == expected, (case, frames)
        assert remuxed_frames(video, frames) == expected, (case, frames)
        clip = decode(video, frames)
        assert [read_number(picture) for picture in clip.pixels] == frames.tolist()


@pytest.mark.parametrize(
    "case", ["h264_open_gop", "hevc_open_gop", "hevc_layers", "mpeg4_avi_bframes", "mpeg4_mp4_bframes"]
)
def test_a_clip_may_end_at_a_key_frame(case, videos):
    """Pictures shown before a key frame may refer to it: it then is in the cut before its own, too."""
    video = videos(case)
    for key in video.keyframes[1:].tolist():
        for frames in (np.array([key - 1, key]), np.arange(key - 9, key + 1), np.array([key - 2, key, key + 1])):
            assert [read_number(picture) for picture in decode(video, frames).pixels] == frames.tolist()


@pytest.mark.parametrize("case", CASES)
def test_seeking_finds_every_key_frame(case, videos, monkeypatch):
    """These videos are short enough to be read through; here every group of pictures is sought."""
    monkeypatch.setattr(cut, "SEEK_DISTANCE", 0)
    video = videos(case)
    frames = np.array([3, 15, 31, 44, 66, 69])
    assert [read_number(picture) for picture in decode(video, frames).pixels] == frames.tolist()
    for frame in frames[1:]:
        assert [read_number(picture) for picture in decode(video, frame[None]).pixels] == [frame]


@pytest.mark.parametrize(
    "case, keys",
    [
        ("h264_bframes", {0, 24, 48}),
        ("h264_open_gop", {0, 20, 40, 60}),
        ("h264_intra_refresh", {0}),  # the container marks more, but from them the picture is only slowly whole
        ("mpeg4_avi_bframes", {0, 12, 24, 36, 48, 60}),
        ("mjpeg", set(range(NUM_FRAMES))),
    ],
)
def test_key_frames(case, keys, videos):
    assert set(videos(case).keyframes.tolist()) == keys and not is_counted(videos(case))


def test_only_what_is_needed_is_decoded(videos):
    video = videos("h264_bframes")
    clip = decode(video, np.arange(50, 54))
    assert clip.num_decoded <= 6, clip.num_decoded  # from key frame 48 on
    sparse = decode(video, np.arange(0, 24, 6))
    assert sparse.num_decoded < 19, "no non-reference frame was left out"
    assert decode(video, np.array([1, 49])).num_decoded <= 8  # two groups, not what is between them
    assert decode(videos("mjpeg"), np.array([3, 33, 63])).num_decoded == 3


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
    video = video_of(edited)
    assert video.num_frames == 53 and video.keyframes.tolist() == [0, 23]
    frames = np.array([0, 5, 22, 23, 40, 52])
    assert [read_number(p) for p in decode(video, frames).pixels] == (frames + 7).tolist()
    full = full_decode(edited)
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
    video = video_of(path)
    assert video.num_frames == 40 and len(video.pts) == 40 and len(video.keyframes) == 4
    frames = np.array([3, 17, 18, 39, 0])
    assert [read_number(p) for p in decode(video, frames).pixels] == frames.tolist()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_and_crop(rotation, videos):
    """The crop is of the frame as shown: decode whole, turn, crop and compare."""
    video = videos("h264_444")  # with halved chroma the edges of a crop would differ
    whole = decode(video, np.array([5])).pixels[0]
    turned = np.rot90(whole, -rotation // 90)
    box = np.array([(10, 22, 50, 70, 40, 48)], CROP)
    clip = decode(video._replace(rotation=rotation), np.array([5]), box)
    assert_pixels(clip.pixels[0], turned[10:50, 22:70], max_diff=0)


def test_scaling_averages(videos):
    """Halving is near the mean of the pixels it covers (a triangle filter), not a pick of one."""
    video = videos("h264_444")
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
    video = video_of(path)
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


def test_a_picture_that_changes_size_is_refused(videos):
    video = videos("h264_bframes")
    with open_video(video.path) as (container, stream):
        frame = next(container.decode(stream))
        with pytest.raises(ValueError, match=f"changes size, from 99x{HEIGHT} to {WIDTH}x{HEIGHT}"):
            Converter(video._replace(width=99), ())(frame)


def test_frames_that_are_not_there(videos, tmp_path):
    video = videos("h264_bframes")
    with pytest.raises(ValueError, match=r"frames 3 to 70 are not all in \[0, 70\)"):
        decode(video, np.array([3, 70]))
    short = video_of(write_numbered(tmp_path / "short.mp4", 30))
    with pytest.raises(EOFError, match="the file ends before frame 40; the manifest says 70"):
        decode(video._replace(path=short.path, keyframes=np.array([0, 24], np.int32)), np.array([25, 40]))


def test_damaged_frames_are_errors_not_grey(tmp_path):
    """FFmpeg fills what it cannot decode from the frame before and says so only in a flag."""
    path = write_numbered(tmp_path / "d.mp4", 50, options={"g": "50", "bf": "0"})
    video = video_of(path)
    with av.open(str(path)) as container:
        at, size = next((p.pos, p.size) for i, p in enumerate(container.demux(video=0)) if i == 20)
    data = bytearray(path.read_bytes())
    for place in range(at + size // 2, at + size, 3):
        data[place] ^= 0x5A
    path.write_bytes(data)
    assert len(full_decode(path)) == 50  # no error there
    with pytest.raises(ValueError, match="frame 20 is damaged"):
        decode(video, np.arange(15, 25))
    assert [read_number(p) for p in decode(video, np.arange(19)).pixels] == list(range(19))


def test_recovery_points_that_are_not_exact_are_not_trusted():
    from dali_vidaug.bitstream import _is_exact_recovery

    assert _is_exact_recovery(bytes([6, 1, 0xC0]))  # recovery_frame_cnt 0, exact_match_flag 1
    assert not _is_exact_recovery(bytes([6, 1, 0x80]))  # not exact
    assert not _is_exact_recovery(bytes([6, 1, 0x40]))  # counts more than 0
    assert _is_exact_recovery(bytes([5, 2, 9, 9, 6, 1, 0xC4]))  # after another message
    assert not _is_exact_recovery(bytes([255, 255]))


@pytest.mark.parametrize("how", ["pyav", "dali"])
def test_the_end_of_a_long_video_costs_little_more_than_its_start(how, tmp_path):
    """16 frames of 300, a key frame every 30: counted in frames decoded, which no load on the machine changes."""
    video = video_of(
        write_numbered(
            tmp_path / "long.mp4", 300, options={"g": "30", "bf": "2", "x264-params": "b-adapt=0:b-pyramid=none"}
        )
    )

    def cost(frames):
        if how == "pyav":
            return decode(video, frames).num_decoded
        with av.open(io.BytesIO(remux(video, frames)[0].tobytes())) as container:
            return sum(1 for _ in container.decode(video=0))

    start, group, end = (cost(np.arange(first, first + 16)) for first in (0, 270, 284))
    assert group <= start + 1
    assert end <= 1.5 * start, (end, start)
