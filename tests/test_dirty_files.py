"""Files whose containers do not say the truth: each frame is that of a decode of the whole file, or is reported."""

import itertools
from dataclasses import replace

import av
import numpy as np
import pytest
from check_faults import COLUMNS, RIGHT, Loader, as_video, check, is_right, wrong_frames
from conftest import _real, by_container
from dirty import (
    ENCODINGS,
    Encoding,
    edit_avi,
    edit_boxes,
    encode,
    join,
    not_coded_vop,
    read_coded,
    set_edits,
    write_coded,
    x264_options,
    x265_options,
)
from flip_bits import flip, judge, load_clips, run
from full_decode import full_decode
from fuzz_containers import outcome_of
from fuzz_containers import run as fuzz
from mutate_containers import MUTATIONS, edit_list, no_stss, ts_joined
from mutate_packets import (
    begin_late,
    drop_packets,
    jump_in_time,
    key_flags,
    not_coded,
    repeat_packets,
    two_tracks,
    zero_packets,
)  # fmt: skip

from dali_vidaug.media import cut
from dali_vidaug.media.convert import Converter
from dali_vidaug.media.cut import open_video, read_cuts
from dali_vidaug.media.decode import decode, decode_cut, decoder_of
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.measure import measure

SETTINGS = {
    "h264": [
        {}, {"cabac": 0}, {"chroma_qp_offset": 8}, {"open_gop": 1, "bframes": 3, "ref": 4}, {"8x8dct": 0, "weightp": 0},
    ],
    "hevc": [{}, {"cbqpoffs": 6}, {"sao": 0, "ctu": 16}, {"open_gop": 1, "bframes": 3}, {"signhide": 0, "ref": 1}],
}  # fmt: skip
CONTAINER_OF_FLAGS = [(name, next(c for c in ("mp4", "avi", "mkv", "asf", "flv") if c in ENCODINGS[name].containers))
                      for name in ENCODINGS if name != "ffv1"]  # fmt: skip


def slow_but(cases, *fast):
    """Cases of which all but some are marked as slow; a case is named by its first value."""
    cases = [(case,) if isinstance(case, str) else case for case in cases]
    return [pytest.param(*case, marks=() if case[0] in fast else pytest.mark.slow) for case in cases]


def assert_right(path, loads=True, deep=(False, True)):
    """No frame is wrong and, if ``loads``, every clip can be had: of ``remux`` that is not asked."""
    for depth in deep:
        counts, found = check(path, depth, brief=True)
        assert not any(counts[name] for name in COLUMNS if name.endswith("wrong")), (depth, found)
        if loads:
            assert not counts["refused"] and counts["counted"] == counts["expected"], (depth, counts, found)
            assert not counts["decode reported"] and not counts["crop reported"], (depth, found)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A function that gives the path of a good file: base(name of an encoding or an Encoding, container, seed)."""
    folder = tmp_path_factory.mktemp("dirty")

    def get(encoding, container, seed=0):
        name = encoding if isinstance(encoding, str) else f"{abs(hash(encoding))}"
        path = folder / f"{name}-{seed}" / f"v.{container}"
        encoding = ENCODINGS[encoding] if isinstance(encoding, str) else encoding
        return path if path.exists() else encode(path, encoding, seed)

    return get


def other_of(base, name, container):
    """What the mutations take as another file: with other settings where there are some."""
    return lambda kind: base({"h264": "h264_no_b", "mpeg4": "mpeg4_b"}.get(name, name), container, 1)


def mutated(mutate, base, name, container, folder, seed=0):
    """A file made by one of the mutations."""
    target = folder / f"v.{container}"
    mutate(np.random.default_rng(seed), base(name, container), target, other_of(base, name, container))
    return target


# ---- What decoding begins at


@pytest.mark.parametrize(
    "name, container",
    slow_but(CONTAINER_OF_FLAGS, "h264_open", "hevc", "mpeg4_b", "mpeg2", "h263", "wmv2", "vp9"),
    ids=lambda value: value,
)
def test_key_flags_that_lie(name, container, base, tmp_path):
    """The stream is good, so that every frame can be had."""
    for seed in range(3):
        assert_right(mutated(key_flags, base, name, container, tmp_path, seed), deep=[seed == 2])


@pytest.mark.parametrize(
    "name", slow_but([n for n, e in ENCODINGS.items() if "mp4" in e.containers], "h264", "hevc_open", "mpeg4")
)
def test_no_list_of_key_frames(name, base, tmp_path):
    path = base(name, "mp4")
    if b"stss" not in path.read_bytes():
        pytest.skip("every frame is a key frame")
    assert_right(edit_boxes(path, lambda boxes: no_stss.__wrapped__(None, boxes), tmp_path / "v.mp4"))


@pytest.mark.parametrize(
    "name", slow_but([n for n, e in ENCODINGS.items() if "avi" in e.containers], "mpeg4", "h263", "msmpeg4", "flv1")
)
def test_an_index_in_which_all_are_key_frames(name, base, tmp_path):
    path = edit_avi(base(name, "avi"), lambda chunks: [(n, c, 16) for n, c, _ in chunks], tmp_path / "v.avi")
    assert_right(path)


BEGIN_LATE = [(n, c) for n in ("h264", "h264_open", "hevc", "hevc_open", "mpeg2", "mpeg4", "vp9", "h264_refresh")
              for c in ("ts", "mkv", "mp4") if c in ENCODINGS[n].containers]  # fmt: skip


@pytest.mark.parametrize("name, container", slow_but(BEGIN_LATE, "h264", "hevc"))
def test_a_file_may_begin_in_the_middle_of_a_gop(name, container, base, tmp_path):
    for seed in range(3):
        path = mutated(begin_late, base, name, container, tmp_path, seed)
        full = full_decode(path, pixels=False)
        assert_right(path, loads=name in ("h264", "hevc") and not full.flags and full.num_frames > 0)


@pytest.mark.parametrize("name", ["h264", "hevc", "mpeg2", "h264_open"])
def test_a_file_that_begins_in_the_middle_of_a_gop_is_not_refused(name, base, tmp_path):
    packets, _ = read_coded(base(name, "ts"))
    path = write_coded(tmp_path / "v.ts", base(name, "ts"), packets[13:])
    full = full_decode(path, pixels=False)
    assert full.num_frames >= 10
    counts, found = check(path, False, brief=True)
    assert not counts["refused"], found
    assert counts["counted"] == full.num_frames


# ---- Joined files


def parts_of(base, codec, container, settings):
    """Encodings of one codec with some of SETTINGS."""
    options, encoder = (x264_options, "libx264") if codec == "h264" else (x265_options, "libx265")
    encodings = [Encoding(encoder, (container,), options(**SETTINGS[codec][i]), frames=24) for i in settings]
    return [base(encoding, container, seed) for seed, encoding in enumerate(encodings)]


def joined(base, codec, container, first, second, folder):
    """Two encodings with other settings, joined as ``ffmpeg -f concat -c copy`` joins them, or cat."""
    a, b = parts_of(base, codec, container, (first, second))
    if container == "ts":
        (folder / "v.ts").write_bytes(a.read_bytes() + b.read_bytes())
        return folder / "v.ts"
    return join(folder / f"v.{container}", a, b, codec)


PAIRS = list(itertools.permutations(range(5), 2))


@pytest.mark.parametrize("first, second", PAIRS)
def test_any_two_encoder_settings_joined(first, second, base, tmp_path):
    assert_right(joined(base, "h264", "mp4", first, second, tmp_path), deep=[False])


@pytest.mark.slow
@pytest.mark.parametrize("first, second", PAIRS)
@pytest.mark.parametrize("codec, container", [("h264", "mp4"), ("h264", "mkv"), ("h264", "ts"), ("hevc", "mp4"),
                                              ("hevc", "mkv"), ("hevc", "ts")])  # fmt: skip
def test_any_two_encoder_settings_joined_in_any_container(codec, container, first, second, base, tmp_path):
    assert_right(joined(base, codec, container, first, second, tmp_path))


@pytest.mark.parametrize(
    "name, order",
    slow_but([(n, o) for n in ("h264", "mpeg2", "hevc") for o in itertools.permutations(range(3))], "mpeg2"),
    ids=str,
)
def test_transport_streams_joined_in_any_order(name, order, base, tmp_path):
    """Three recordings, two with stamps of their own: frames stay in the order of the file."""
    packets, _ = read_coded(base(name, "ts", 1))
    later = write_coded(tmp_path / "later.ts", base(name, "ts", 1), jump(packets, 20))
    parts = [base(name, "ts"), later, base(name, "ts", 2)]
    path = tmp_path / "v.ts"
    path.write_bytes(b"".join(parts[i].read_bytes() for i in order))
    assert_right(path)


def jump(packets, seconds):
    """Packets shown some seconds later."""
    ticks = round(seconds / packets[0].time_base)
    return [replace(p, pts=p.pts + ticks, dts=p.dts + ticks) for p in packets]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_oracle_shows_joined_files_one_after_the_other(codec, base, tmp_path):
    """As each part alone, where the second begins afresh: so what is right does not hang on one decode."""
    full = full_decode(joined(base, codec, "mp4", 0, 2, tmp_path))
    expected = [frame for part in parts_of(base, codec, "mp4", (0, 2)) for frame in full_decode(part).frames]
    assert not full.flags and len(full.frames) == len(expected) == 48
    assert all((a == b).all() for a, b in zip(full.frames, expected, strict=True))


@pytest.mark.parametrize("first, second", [("h264", "h264_444"), ("h264_444", "h264")])
def test_the_pixel_format_may_change(first, second, base, tmp_path):
    path = tmp_path / "v.ts"
    path.write_bytes(base(first, "ts").read_bytes() + base(second, "ts", 1).read_bytes())
    assert_right(path)


# ---- Fields, edit lists, tracks, pictures that are none


FIELDS = [(n, c) for n in ("h264_tff", "h264_bff", "h264_fake") for c in ("mp4", "mkv", "mov", "ts")]


@pytest.mark.parametrize("name, container", slow_but(FIELDS, "h264_tff"))
def test_field_order(name, container, base):
    with av.open(str(base(name, container))) as file:
        interlaced = [frame.interlaced_frame for frame in file.decode(video=0)]
    assert any(interlaced) == (name != "h264_fake")
    assert_right(base(name, container))


@pytest.mark.parametrize(
    "name",
    slow_but(["h264", "h264_open", "hevc", "hevc_open", "mpeg4", "mpeg4_b"], "h264", "mpeg4_b"),
)
def test_edit_lists_of_several_parts(name, base, tmp_path):
    for seed in range(6):
        path = mutated(edit_list, base, name, "mp4", tmp_path, seed)
        full = full_decode(path, pixels=False)
        assert_right(path, loads=not full.flags and full.num_frames > 0, deep=[seed % 2 == 1])


def test_edit_list_that_goes_back(base, tmp_path):
    timescale = 12800
    parts = [(800, timescale * 15 // 25, 1), (800, 0, 1)]
    path = edit_boxes(base("h264", "mp4"), lambda boxes: set_edits(boxes, parts), tmp_path / "v.mp4")
    assert full_decode(path, pixels=False).num_frames > 30
    assert_right(path)


@pytest.mark.parametrize("container", ["mkv", "mp4", "mov"])
def test_the_default_track_is_taken(container, base, tmp_path):
    for seed in range(3):
        assert_right(mutated(two_tracks, base, "h264", container, tmp_path, seed), deep=[False])


@pytest.mark.parametrize("name", ["mpeg4", "mpeg4_b"])
@pytest.mark.parametrize("container", ["avi", "mp4", "mkv"])
@pytest.mark.parametrize("places", [(5,), (11, 12, 25), (1, 38), (20, 30)], ids=str)
def test_pictures_that_are_not_coded(name, container, places, base, tmp_path):
    packets, _ = read_coded(base(name, container))
    spoilt = [replace(p, data=not_coded_vop(i)) if i in places else p for i, p in enumerate(packets)]
    assert_right(write_coded(tmp_path / f"v.{container}", base(name, container), spoilt), loads=False)


@pytest.mark.parametrize("name", ["mpeg4", "mpeg4_b", "h263", "mjpeg", "h264", "msmpeg4"])
def test_empty_chunks_in_avi(name, base, tmp_path):
    def change(chunks):
        return [*chunks[:7], (chunks[0][0], b"", 0), *chunks[7:22], (chunks[0][0], b"", 0), *chunks[23:]]

    assert_right(edit_avi(base(name, "avi"), change, tmp_path / "v.avi"), loads=False)


@pytest.mark.parametrize("mutate", [zero_packets, drop_packets, repeat_packets, jump_in_time], ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    "name, container",
    slow_but(
        [("h264", "mp4"), ("mpeg4", "avi"), ("hevc", "mkv"), ("mpeg2", "ts"), ("mjpeg", "mkv"), ("vp8", "webm")],
        "h264",
        "mpeg4",
        "mjpeg",
    ),
)
def test_holes(name, container, mutate, base, tmp_path):
    for seed in range(2):
        assert_right(mutated(mutate, base, name, container, tmp_path, seed), loads=False, deep=[seed == 1])


# ---- The judges can find a fault


def change_units(path, target, number, change):
    """Change the NAL units of key packet ``number`` of an MP4: ``change(unit)`` gives the unit's new bytes, or more."""
    packets, _ = read_coded(path)
    at = [i for i, packet in enumerate(packets) if packet.key][number]
    data, units = packets[at].data, b""
    while data:
        size = int.from_bytes(data[:4], "big")
        units, data = units + change(data[4 : 4 + size]), data[4 + size :]
    packets[at] = replace(packets[at], data=units)
    return write_coded(target, path, packets)


def with_length(unit):
    return len(unit).to_bytes(4, "big") + unit


def spliced(unit):
    """Clean random access becomes broken link access: its leading pictures are dropped."""
    return with_length(bytes([16 << 1 | unit[0] & 1]) + unit[1:] if unit[0] >> 1 & 63 == 21 else unit)


def ended(unit):
    """An end of sequence before clean random access does the same."""
    return (with_length(bytes([36 << 1, 1])) if unit[0] >> 1 & 63 == 21 else b"") + with_length(unit)


def dropping(unit):
    """no_output_of_prior_pics_flag: what was not shown yet is dropped."""
    return with_length(unit[:2] + bytes([unit[2] | 0x40]) + unit[3:] if 16 <= unit[0] >> 1 & 63 < 24 else unit)


@pytest.mark.parametrize("name, change", [("hevc_open", spliced), ("hevc_open", ended), ("hevc", dropping)])
@pytest.mark.parametrize("number", [1, 2, -1])
def test_frames_that_h265_decoders_drop(name, change, number, base, tmp_path):
    """As many packets as before, and fewer frames: those that follow the dropped ones have other indices."""
    path = change_units(base(name, "mp4"), tmp_path / "v.mp4", number, change)
    if number == 2:
        assert full_decode(path, pixels=False).num_frames < len(read_coded(path)[0])
    assert_right(path, loads=False)


@pytest.mark.parametrize("codec, name", [("mjpeg", "v.avi"), ("prores", "v.mov"), ("mpeg2video", "v.ts")])
def test_pictures_of_one_colour_that_do_not_move_are_frames(codec, name, tmp_path):
    """Their packets are full of zeros, or all the same."""
    formats = {"mjpeg": "yuvj420p", "prores": "yuv422p10le"}
    options = {"g": "12", "minrate": "4M", "maxrate": "4M", "bufsize": "2M", "b": "4M"} if codec == "mpeg2video" else {}
    frames = [np.zeros((96, 128, 3), np.uint8)] * 30
    write_video(tmp_path / name, frames, codec=codec, options=options, pixel_format=formats.get(codec, "yuv420p"))
    assert_right(tmp_path / name)
    for deep in (False, True):
        assert measure(tmp_path / name, deep)["regular"]


def test_vp9_with_transparency(tmp_path):
    """FFmpeg's decoder gives its pictures without, libvpx with the fourth plane."""
    with av.open(str(tmp_path / "v.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, width=64, height=48)
        stream.pix_fmt, stream.options = "yuva420p", {"g": "10", "auto-alt-ref": "0", "cpu-used": "8"}
        for i in range(30):
            pixels = np.full((48, 64, 4), 7 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="yuva420p")))
        container.mux(stream.encode(None))
    assert_right(tmp_path / "v.webm")


def damaged(path, target, number, seed):
    """A copy of a file with three bits of packet ``number`` flipped."""
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    body = read_coded(path)[0][number].data
    at = data.find(body)
    for place in at + 12 + rng.integers(0, len(body) - 12, 3):
        data[place] ^= 1 << int(rng.integers(8))
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("name", slow_but(["h264_open", "h264_pyramid", "h264_444"], "h264_open"))
def test_flipped_bits_in_headers(name, base, tmp_path):
    """A decoder gives no frame of a packet whose header it cannot read, also where a plain scan does not decode."""
    good, lost = base(name, "mkv"), 0
    packets, _ = read_coded(good)
    for bit in range(8, 40):
        data = bytearray(packets[15].data)
        data[4 + bit // 8] ^= 128 >> bit % 8  # after the length of the NAL unit
        coded = [*packets[:15], replace(packets[15], data=bytes(data)), *packets[16:]]
        counts, found = check(write_coded(tmp_path / "v.mkv", good, coded), False, brief=True)
        assert not counts["decode wrong"] and not counts["crop wrong"], (bit, found)
        assert counts["refused"] or counts["counted"] == counts["expected"], (bit, counts)
        lost += counts["expected"] < len(packets)
    assert lost


def test_flipped_bits_in_headers_of_jpeg(base, tmp_path):
    good, lost = base("mjpeg", "mkv"), 0
    packets, _ = read_coded(good)
    last = packets[15].data.index(b"\xff\xda")
    for seed in range(60):
        data = bytearray(packets[15].data)
        rng = np.random.default_rng(seed)
        data[int(rng.integers(2, last + 2))] ^= 1 << int(rng.integers(8))
        path = write_coded(
            tmp_path / "v.mkv", good, [*packets[:15], replace(packets[15], data=bytes(data)), *packets[16:]]
        )
        full, row = full_decode(path, pixels=False), measure(path)
        assert "error" in row or row["num_frames"] == full.num_frames, (seed, row)
        lost += full.num_frames < len(packets)
    assert lost


@pytest.mark.parametrize("name", ["mpeg4", "mpeg4_b"])
def test_long_packets_of_pictures_that_are_not_coded(name, base, tmp_path):
    """The bit that says so (vop_coded) comes after a time whose length is in the sequence's header."""
    good, lost = base(name, "mkv"), 0
    packets, _ = read_coded(good)
    for bit in range(34, 48):
        data = bytearray(packets[15].data)
        data[bit // 8] ^= 128 >> bit % 8
        path = write_coded(
            tmp_path / "v.mkv", good, [*packets[:15], replace(packets[15], data=bytes(data)), *packets[16:]]
        )
        full = full_decode(path)
        if full.num_frames == len(packets) - 1 and not full.flags:  # FFmpeg has nothing against it
            counts, _ = check(path, False, brief=True)
            lost += counts["counted"] == full.num_frames and not counts["decode wrong"]
    assert lost


def test_damage_behind_a_key_frame_that_does_not_begin_afresh(base):
    """H.264 in open GOPs: where a strict decoder fails at once, one that is not strict marks damaged frames."""
    good, marked = base("h264_open", "mkv"), 0
    video = by_container(as_video(good, measure(good)))
    truth, key = full_decode(good).frames, int(video.keyframes[2])
    for seed in range(24):
        path = damaged(good, good.with_name("w.mkv"), key + seed % 3, seed)
        for frame in range(key, key + 4):
            try:
                picture = decode(video._replace(path=str(path), bytes=None), np.array([frame])).pixels[0]
            except ValueError as error:
                marked += str(error).endswith("is damaged")  # by its mark, not by an error of the decoder
                continue
            like = [
                np.abs(picture.astype(int) - truth[i].astype(int)).mean() <= 3 for i in (frame, frame - 1, frame + 1)
            ]
            assert any(like) or not full_decode(path).flags, (seed, frame)
    assert marked


def test_checksums_of_ffv1(base, tmp_path):
    """FFmpeg says only in its log that one does not hold, and what it decodes then is not the same each time."""
    good = base("ffv1", "mkv")
    video = by_container(as_video(good, measure(good)))
    assert not full_decode(good).flags
    for seed in range(6):
        path = damaged(good, tmp_path / "v.mkv", 12, seed)
        with pytest.raises(ValueError, match="frame 12 is damaged: a checksum"):
            decode(video._replace(path=str(path), bytes=None), np.array([14]))
        assert decode(video._replace(path=str(path), bytes=None), np.array([25])).pixels.shape == (1, 48, 64, 3)
        assert measure(path)["damaged"] == [12, 20]


def test_jpeg_without_a_scan(base, tmp_path):
    """FFmpeg gives what an earlier picture has left in its memory, without an error."""
    good = base("mjpeg", "mkv")
    packets, _ = read_coded(good)
    data = packets[15].data.replace(b"\xff\xda", b"\xff\xdb")
    path = write_coded(tmp_path / "v.mkv", good, [*packets[:15], replace(packets[15], data=data), *packets[16:]])
    with pytest.raises(ValueError, match="frame 15 is damaged"):
        decode(by_container(as_video(good, measure(good)))._replace(path=str(path), bytes=None), np.array([15]))
    counts, _ = check(path, False, brief=True)
    assert not counts["decode wrong"] and measure(path)["damaged"] in ([15, 16], [])


@pytest.mark.parametrize("first", [14, 15, 16, 26])
def test_stamps_of_mpeg4_exchanged(first, base, tmp_path):
    """A B-picture is shown at once, any other when the next of them comes: stamps must rise in that order."""
    good = base("mpeg4_b", "mkv")
    assert measure(good)["notes"] is None
    packets, _ = read_coded(good)
    order = sorted(range(len(packets)), key=lambda i: packets[i].pts)
    a, b = order[first : first + 2]
    packets[a], packets[b] = replace(packets[a], pts=packets[b].pts), replace(packets[b], pts=packets[a].pts)
    try:
        path = write_coded(tmp_path / "v.mkv", good, packets)
    except av.error.ArgumentError:
        pytest.skip("shown before it is decoded: no muxer takes that")
    assert_right(path, deep=[False])
    assert measure(path)["notes"]


def test_a_deep_scan_decodes_what_is_packed_for_dali(base, tmp_path):
    """Bits after the last macroblock of a damaged slice are others when it is packed: here, zeros that are left out."""
    good = base("h264_no_b", "ts")
    row = measure(good, deep=True)
    assert row["regular"] and row["notes"] is None
    noticed = 0
    packets, _ = read_coded(good)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = bytearray(packets[15].data)
        data[int(rng.integers(20, len(data)))] ^= 1 << int(rng.integers(8))
        path = write_coded(
            tmp_path / "v.ts", good, [*packets[:15], replace(packets[15], data=bytes(data)), *packets[16:]]
        )
        if full_decode(path, pixels=False).flags:
            continue
        row = measure(path, deep=True)
        if "error" not in row and "packed for it" in (row["notes"] or ""):
            noticed += not row["regular"]
    assert noticed


def said_by_default(path):
    """Whether PyAV alone fails at a packet of a file, or marks a frame as damaged."""
    return any("decoding" in what or "corrupt" in what for _, what in full_decode(path, pixels=False).flags)


@pytest.mark.parametrize("name, container, by_default", [("h264", "mp4", True), ("mjpeg", "avi", False)])
def test_damage_is_reported(name, container, by_default, base, tmp_path):
    """H.264: in frames that FFmpeg marks. JPEG: in frames that it does not mark, unless it is told to be strict.

    The damage is found when a clip is loaded, also in a frame that is not wanted, and by a deep scan.
    """
    path, found = base(name, container), 0
    video = by_container(as_video(path, measure(path)))
    for seed in range(40):
        number = 11 + (0 if by_default else seed % 7)  # in the H.264 file, a frame that others refer to
        target = damaged(path, tmp_path / f"v.{container}", number, seed)
        if said_by_default(target) != by_default:
            continue
        try:
            decode(video._replace(path=str(target), bytes=None), np.array([19] if by_default else [number]))
        except ValueError as error:
            found += 1
            assert "is damaged" in str(error)
            limits = measure(target, deep=True)["damaged"]
            at = number if by_default is False else 19
            assert any(first <= at < last for first, last in zip(limits[::2], limits[1::2], strict=True)), limits
    assert found >= 2


ORDERED = [name for name in ENCODINGS if name.startswith(("h264", "hevc")) and name not in ("h264_no_b", "h264_bff")]


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("name", slow_but(ORDERED, "h264", "h264_tff", "hevc_open"))
def test_stamps_of_neighbours_exchanged(name, container, base, tmp_path):
    """H.264 and H.265 say themselves in which order their frames are shown."""
    if container not in ENCODINGS[name].containers:
        pytest.skip("not in this container")
    good = base(name, container)
    assert measure(good)["notes"] in (None, "its frames may be pairs of fields")
    packets, _ = read_coded(good)
    order, tried = sorted(range(len(packets)), key=lambda i: packets[i].pts), 0
    for first in (14, 15, 22, 26):
        changed, (a, b) = list(packets), order[first : first + 2]
        changed[a], changed[b] = replace(packets[a], pts=packets[b].pts), replace(packets[b], pts=packets[a].pts)
        try:
            path = write_coded(tmp_path / f"v.{container}", good, changed)
        except av.error.ArgumentError:  # shown before it is decoded: no muxer takes that
            continue
        tried += 1
        assert_right(path, deep=[False])
        assert measure(path)["notes"]
    assert tried


class Unseekable:
    """An open file that cannot be sought, as some containers cannot."""

    def __init__(self, container):
        self.demux = container.demux

    def seek(self, *arguments, **options):
        raise av.error.PermissionError(1, "Operation not permitted")


def test_files_that_cannot_be_sought_are_read_from_the_start(base, monkeypatch):
    monkeypatch.setattr(cut, "SEEK_DISTANCE", 0)
    path = base("h264", "mkv")
    video, full = as_video(path, measure(path)), full_decode(path)
    with open_video(path) as (container, stream):
        for part in read_cuts(Unseekable(container), stream, video, np.array([35])):
            found = {index: frame for frame, index in decode_cut(decoder_of(stream), part, video)}
    got = np.empty((video.height, video.width, 3), np.uint8)
    Converter(video, ())(found[35], got)
    assert np.abs(got.astype(int) - full.shown(35)).max() <= 1


def test_a_palette_that_comes_with_the_first_packet(tmp_path):
    """Clips that begin later do not have it."""
    with av.open(str(tmp_path / "v.mov"), "w") as container:
        stream = container.add_stream("smc", rate=25, width=64, height=48)
        stream.pix_fmt, stream.options = "pal8", {"g": "10"}
        palette = np.random.default_rng(0).integers(0, 256, (256, 4), dtype=np.uint8)
        palette[:, 0] = 255  # opaque
        for i in range(30):
            numbers = (np.arange(48 * 64).reshape(48, 64) // 8 + 5 * i).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray((numbers, palette), format="pal8")))
        container.mux(stream.encode(None))
    assert_right(tmp_path / "v.mov")


def test_an_error_after_the_last_frame_is_not_its_fault(tmp_path):
    """Two raw videos one after the other: where the second begins, the first has ended."""
    write_video(tmp_path / "one.y4m", (np.full((48, 64, 3), 9 * i, np.uint8) for i in range(20)), codec="rawvideo")
    whole = (tmp_path / "one.y4m").read_bytes()
    (tmp_path / "v.y4m").write_bytes(whole * 2)
    assert full_decode(tmp_path / "v.y4m", pixels=False).num_frames == 20
    assert_right(tmp_path / "v.y4m")
    assert measure(tmp_path / "v.y4m", deep=True)["damaged"] == []


def test_a_frame_in_place_of_another_is_found(base):
    path = base("h264", "mp4")
    full, video = full_decode(path), as_video(path, measure(path))
    frames = np.array([0, 9, 10, 30])

    class Late(Loader):
        def __call__(self, frames):
            return super().__call__(frames + 4)

    for way in ("decode", "remux"):
        assert wrong_frames(Loader(video, way), full, frames) == ([], None)
        assert wrong_frames(Late(video, way), full, frames) == (frames.tolist(), None)
        assert "not all in" in wrong_frames(Late(video, way), full, np.array([39]))[1]
    assert judge(decode(video, frames).pixels, full, frames) == (0, 0)
    assert judge(decode(video, frames + 1).pixels, full, frames) == (0, 0)  # a neighbour
    assert judge(decode(video, frames + 4).pixels, full, frames) == (4, 4)
    assert judge(255 - decode(video, frames).pixels, full, frames) == (4, 0)


def test_what_the_decoder_notices_is_known(base, tmp_path):
    assert not full_decode(base("h264", "mp4")).flags
    flip(base("h264", "mp4"), tmp_path / "v.mp4", 100, False, 0)
    assert full_decode(tmp_path / "v.mp4").flags


# ---- Small versions of the programs


@pytest.mark.parametrize("name", RIGHT)
def test_files_with_known_faults(name):
    path = _real("faults") / name
    for deep in (False, True):
        counts, found = check(path, deep, brief=True)
        reported = counts["remux reported"]
        counts["remux reported"] = 0  # DALI's way may refuse a file; it may not be wrong
        assert counts["expected"] == RIGHT[name][0] and is_right(counts), (deep, reported, found)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_mutated_containers(part):
    cases = list(fuzz(range(part * 40, part * 40 + 40), jobs=1))
    wrong = [f"case {c.number}: {c.name}: {c.what}: {c.details[:2]}" for c in cases if "WRONG" in outcome_of(c)]
    assert not wrong, "\n".join(wrong)
    assert any(outcome_of(case) == "right" for case in cases)


def test_every_mutation_changes_what_it_should(base, tmp_path):
    """None of the mutations fails on every file that it is meant for."""
    for container, name in (("mp4", "mpeg4_b"), ("mkv", "h264"), ("avi", "mpeg4"), ("ts", "h264")):
        good = base(name, container).read_bytes()
        for mutate in set(MUTATIONS[container]) - ({not_coded} if name == "h264" else set()):
            changed = [mutated(mutate, base, name, container, tmp_path, seed).read_bytes() != good for seed in range(4)]
            assert any(changed) != (mutate.__name__ == "unharmed"), (mutate.__name__, container)
    assert mutated(ts_joined, base, "h264", "ts", tmp_path).stat().st_size > base("h264", "ts").stat().st_size


FLIPPED = {"h264": "mp4", "hevc": "mkv", "mpeg4": "avi", "vp8": "webm", "vp9": "webm", "av1": "mkv", "mjpeg": "avi",
           "mpeg2": "ts"}  # fmt: skip


def test_nothing_is_wrong_where_no_bit_is_flipped(base):
    path = base("h264", "mp4")
    counts = load_clips(path, full_decode(path), 8, deep=False)
    assert counts["right"] == 8 and counts["frames"] == 8 * 16


@pytest.mark.slow
@pytest.mark.parametrize("name, container", list(FLIPPED.items()))
def test_flipped_bits_are_reported_where_the_decoder_notices_them(name, container, base):
    for seed in range(2):
        for key, counts in run([base(name, container)], 12, (3, 10, 100), seed).items():
            assert counts["wrong, noticed"] == 0, (key, counts)
            assert counts["wrong, explode"] == 0, (key, counts)
