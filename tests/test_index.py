"""The packet index: packed and read back, the same frames as the container's, and lies in it that are found."""

import os
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import (
    HEIGHT,
    NUM_FRAMES,
    VIDEO_CASES,
    WIDTH,
    by_container,
    decode_fully,
    frame_digest,
    frame_lists,
    measured_video,
    numbered_frame,
    remuxed_frames,
    shown_numbers,
    write_numbered,
)

from dali_vidaug.media import index as index_module
from dali_vidaug.media import indexed_file
from dali_vidaug.media.container import open_video
from dali_vidaug.media.cut import READ_ERRORS, frame_index, open_source
from dali_vidaug.media.decode import decode, decode_frames
from dali_vidaug.media.index import (
    BLOCK,
    DISCARD,
    KEY,
    NO_DTS,
    NON_REFERENCE,
    DamagedIndexError,
    Index,
    Packets,
    checksum,
    pack_packets,
    read_block,
)
from dali_vidaug.media.indexed_file import IndexedFile
from dali_vidaug.media.measure import measure
from dali_vidaug.media.packets import Packets as Demuxed
from dali_vidaug.media.places import Places, prove_index
from dali_vidaug.media.remux import remux
from dali_vidaug.media.storage import Place, open_bytes
from dali_vidaug.media.video import frame_indices

NOT_IN_ONE_PIECE = "its packets are not in one piece in the file"
NOT_REGULAR = "its packets are not one frame each, with time stamps of their own and the settings of the first"
WITHOUT = {
    "h264_transport_stream": NOT_IN_ONE_PIECE,
    "h264_444_ts": NOT_IN_ONE_PIECE,
    "h264_avi": NOT_REGULAR,  # its time stamps contradict the order of frames
}


def packets_of(video):
    """All packets of a video's index."""
    with open_source(video) as (file, _):
        assert isinstance(file, IndexedFile)
        return Packets(*(np.concatenate(columns) for columns in zip(*file.packets_from(None), strict=True)))


def with_packets(video, packets):
    """The video with other packets in its index."""
    return video._replace(packet_index=Index(video.packet_index.codec, pack_packets(packets)))


def looks(video, frames):
    """Everything of decoded frames that clips depend on, by index."""
    wanted = set(frames.tolist())
    return {
        index: (frame.pts, frame.width, frame.height, frame.format.name, frame.color_range, frame_digest(frame))
        for frame, index in decode_frames(video, frames, {"read": 0.0})
        if index in wanted
    }


def random_packets(count, rng, jumps=1 << 20):
    """Packets as no file has them: in any order, far apart, with all flags."""
    pts = np.sort(rng.choice(np.arange(-5, count * 40), count, replace=False))
    for start in range(0, count, 7):  # decoding order
        pts[start : start + 7] = rng.permutation(pts[start : start + 7])
    flags = rng.choice([0, KEY, NON_REFERENCE, DISCARD, NO_DTS, KEY + DISCARD], count)
    sizes = rng.integers(1, 1 << int(rng.integers(2, 30)), count)
    return Packets(
        pts.astype(np.int64), pts - rng.integers(0, 9, count), rng.integers(0, jumps, count), sizes, flags,
        rng.integers(0, 1 << 16, count), rng.integers(-1, 1 << int(rng.integers(1, 63)), count),
    )  # fmt: skip


# ---- The format


@pytest.mark.parametrize("count", [1, 2, 3, 70, 1023, 1024, 1025, 5000])
def test_packets_are_read_as_they_were_packed(count, tmp_path, case_video):
    rng = np.random.default_rng(count)
    for jumps in (1, 1 << 20, 1 << 45):
        packets = random_packets(count, rng, jumps)
        with open_bytes(Place(os.devnull)) as source:
            index = Index(case_video("h264_bframes").packet_index.codec, pack_packets(packets))
            blocks = list(IndexedFile(source, index).packets_from(None))
        assert len(blocks) <= 1 + count // index_module.BLOCK_MIN
        for column, found in zip(packets, zip(*blocks, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(found), column)


def test_a_block_that_is_too_short_is_damaged():
    """Its end is cut off, or it is of a release that kept less of each packet."""
    whole = pack_packets(random_packets(50, np.random.default_rng(0)))
    block = whole[4 + BLOCK.size :]
    assert len(read_block(block).pts) == 50
    data = zlib.decompress(block)
    for length in (len(data) - 1, len(data) - 60, len(data) // 2, 9, 4):
        with pytest.raises(DamagedIndexError, match="its packet index is damaged"):
            read_block(zlib.compress(data[:length]))


def test_a_long_file_is_read_block_by_block(case_video):
    """4000 packets, a key frame every 50: the block of a key frame is found by its time stamp, no other is read."""
    count, rng = 4000, np.random.default_rng(0)
    pts = np.arange(count) * 10
    flags = np.where(np.arange(count) % 50 == 0, KEY, 0)
    packets = Packets(pts, pts, pts * 9, np.full(count, 90), flags, rng.integers(0, 1 << 16, count), np.full(count, -1))
    index = Index(case_video("h264_bframes").packet_index.codec, pack_packets(packets))
    with open_bytes(Place(os.devnull)) as source:
        file, first = IndexedFile(source, index), IndexedFile(source, index)
    for key in range(0, count, 50):
        block = next(file.packets_from(key * 10))
        assert key * 10 in block.pts.tolist()
        assert len(block.pts) < 1100 and block.flags[0] == KEY
    next(first.packets_from(39500))
    assert len(first._known) == 1


def test_frames_are_found_alike_one_by_one_and_together(case_video):
    rng = np.random.default_rng(3)
    for case in ("h264_bframes", "h264_open_gop", "vp8"):
        video = by_container(case_video(case))
        grid = video._replace(pts=None, pts_first=7, pts_step=33.4)
        listed = video._replace(pts=np.sort(rng.choice(5000, video.num_frames, replace=False)), pts_step=None)
        for one in (grid, listed):
            pts = np.concatenate([rng.integers(-200, 5200, 3000), listed.pts])
            assert frame_indices(one, pts).tolist() == [frame_index(one, int(p)) for p in pts]


@pytest.mark.parametrize("case", VIDEO_CASES)
def test_an_index_is_small(case, case_video):
    video = case_video(case)
    if case not in WITHOUT:
        assert len(video.packet_index.packets) <= (7 if case == "mjpeg" else 6) * NUM_FRAMES


# ---- The same frames


@pytest.mark.parametrize("case", VIDEO_CASES)
def test_frames_by_the_index_are_those_by_the_container(case, case_video):
    """Pixels, time stamps, formats and ranges, of clips in all forms; and the files without an index say why."""
    video = case_video(case)
    assert measure_of(video.path)["no_packet_index"] == WITHOUT.get(case)
    assert (video.packet_index is None) == (case in WITHOUT)
    for frames in frame_lists(NUM_FRAMES):
        assert looks(video, frames) == looks(by_container(video), frames)


def measure_of(path, deep=False):
    """A file's row."""
    return measure(Path(path), deep)


def test_no_container_is_opened(case_video, monkeypatch):
    """Neither for PyAV nor for DALI; ``remux`` opens only what it writes."""
    video = case_video("h264_bframes")
    frames = np.array([3, 30, 50])
    full = decode_fully(video.path)
    remux(video, frames)  # makes its template
    real = av.open

    def watched(file, *args, **kwargs):
        assert not isinstance(file, (str, os.PathLike)), f"opened {file}"
        return real(file, *args, **kwargs)

    monkeypatch.setattr(av, "open", watched)
    assert shown_numbers(decode(video, frames).pixels) == frames.tolist()
    assert remuxed_frames(video, frames) == [full[i] for i in frames]
    with pytest.raises(AssertionError, match="opened"):
        decode(by_container(video), frames)


def write_with_sound(path, num_frames=60, gop=12, seconds_of_sound=4.0, **options):
    """A video of numbered frames with sound between its packets."""
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("libx264", rate=25, options={"g": str(gop), "bf": "2"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        codec = {".mkv": "pcm_s16le", ".mov": "pcm_s16le", ".mpg": "mp2"}.get(path.suffix, "aac")
        sound = container.add_stream(codec, rate=32000)
        for i in range(num_frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(numbered_frame(i), format="rgb24")))
            if i / 25 < seconds_of_sound:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1280), np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 32000, i * 1280, Fraction(1, 32000)
                container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


CONTAINERS = {  # name: muxer's options, whether such a file has an index
    "plain.mp4": ({}, True),
    "faststart.mp4": ({"movflags": "faststart"}, True),
    "fragments.mp4": ({"movflags": "frag_keyframe+empty_moov"}, True),
    "every_frame.mp4": ({"movflags": "frag_every_frame+empty_moov+default_base_moof"}, None),
    "plain.mov": ({}, True),
    "plain.mkv": ({}, True),
    "clusters.mkv": ({"cluster_size_limit": "2000"}, True),
    "live.mkv": ({"live": "1"}, True),
    "plain.flv": ({}, True),
    "plain.nut": ({}, None),
    "plain.ts": ({}, False),
    "plain.mpg": ({}, None),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers(name, tmp_path):
    """Whatever a container puts around packets: the frames are those of a full decode by PyAV alone, by an index where
    there is one, and where there is none the row says why."""
    options, expected = CONTAINERS[name]
    path = write_with_sound(tmp_path / name, **options)
    row, full = measure_of(path), decode_fully(path)
    assert "error" not in row, row
    assert (row["index"] is None) == (row["no_packet_index"] is not None)
    if expected is not None:
        assert (row["index"] is not None) == expected, row["no_packet_index"]
    video = measured_video(path)
    for frames in frame_lists(video.num_frames):
        clip = looks(video, frames)
        assert [clip[i][-1] for i in frames.tolist()] == [full[i] for i in frames]
        assert clip == looks(by_container(video), frames)


def test_a_stripped_header_has_no_index(tmp_path, case_video):
    """Matroska may leave out bytes that all packets begin with: the file does not have the packets' bytes."""
    path = tmp_path / "stripped.mkv"
    data = write_numbered(tmp_path / "v.mkv", 30, codec="mpeg4", options={"g": "12"}).read_bytes()
    path.write_bytes(strip_first_byte(data))
    assert len(decode_fully(path)) == 30
    row = measure_of(path)
    assert row["index"] is None and row["no_packet_index"] == NOT_IN_ONE_PIECE


def element(name, content):
    """An EBML element with a length of eight bytes."""
    return name + (0x01 << 56 | len(content)).to_bytes(8, "big") + content


def elements(data):
    """The EBML elements in some bytes: (id, content)."""
    at = 0
    while at < len(data):
        size = 8 - data[at].bit_length() + 1
        name, at = data[at : at + size], at + size
        size = 8 - data[at].bit_length() + 1
        length = int.from_bytes(data[at : at + size], "big") & ((1 << 7 * size) - 1)
        at += size
        if length == (1 << 7 * size) - 1:
            length = len(data) - at
        yield name, data[at : at + length]
        at += length


SEGMENT, CLUSTER, TRACKS, TRACK = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\x16\x54\xae\x6b", b"\xae"
STRIPPED = element(b"\x42\x54", b"\x03") + element(b"\x42\x55", b"\0")  # algorithm 3: put back these bytes
ENCODINGS = element(b"\x6d\x80", element(b"\x62\x40", element(b"\x50\x34", STRIPPED)))


def strip_first_byte(data):
    """A Matroska file whose blocks lack their first byte, 0, with the track's note that it is to be put back."""

    def rewritten(name, content):
        if name in (SEGMENT, CLUSTER, TRACKS, b"\xa0"):
            kept = [e for e in elements(content) if e[0] not in (b"\x11\x4d\x9b\x74", b"\x1c\x53\xbb\x6b", b"\xec")]
            return element(name, b"".join(rewritten(*e) for e in kept))
        if name == TRACK:
            return element(name, content + ENCODINGS)
        if name in (b"\xa3", b"\xa1"):
            assert content[4] == 0
            return element(name, content[:4] + content[5:])
        return element(name, content)

    return b"".join(rewritten(*e) for e in elements(data))


def test_cuts_are_read_at_once(tmp_path, monkeypatch):
    """One read a clip, with sound between its packets, and for a clip of two GOPs that are near; else one each."""
    near, far = measured_video(write_with_sound(tmp_path / "v.mp4")), tmp_path / "far.mp4"
    write_numbered(far, 90, options={"g": "30", "bf": "0", "qp": "1"}, codec="libx264")
    reads, real = [], os.pread

    def counted(file, size, place):
        reads.append(size)
        return real(file, size, place)

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(indexed_file, "GAP_MAX", 1 << 17)
    for frames in (np.arange(16), np.arange(20, 50, 2), np.array([1, 58])):
        reads.clear()
        decode(near, frames)
        assert len(reads) == 1
    monkeypatch.setattr(indexed_file, "GAP_MAX", 0)
    far_video = measured_video(far)
    reads.clear()
    decode(far_video, np.array([1, 61]))
    assert len(reads) == 2 and sum(reads) < far.stat().st_size / 2


# ---- Lies


def decode_all(video):
    """For each frame alone what it looks like, or the error."""
    found = []
    for i in range(video.num_frames):
        try:
            found.append(looks(video, np.array([i]))[i])
        except READ_ERRORS as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("case", ["h264_bframes", "vp8", "mjpeg", "hevc_open_gop", "mpeg4_avi"])
def test_lies_in_an_index_are_found(case, case_video):
    """One byte off, a byte more or less, two packets swapped: an error, or the frame if it does not need the packet."""
    video, rng = case_video(case), np.random.default_rng(1)
    packets, truth = packets_of(video), decode_all(video)

    def check(found):
        wrong = [one for one, right in zip(found, truth, strict=True) if one != right]
        assert wrong and all(isinstance(one, str) and "scan again" in one for one in wrong), wrong[:1]

    for at in rng.integers(0, NUM_FRAMES, 4).tolist():
        for column, difference in (("places", 1), ("places", -1), ("sizes", 1), ("sizes", -1), ("checks", 1)):
            values = getattr(packets, column).copy()
            values[at] += difference
            check(decode_all(with_packets(video, packets._replace(**{column: values}))))
        order = np.arange(NUM_FRAMES)
        other = (at + int(rng.integers(1, NUM_FRAMES))) % NUM_FRAMES
        order[[at, other]] = order[[other, at]]
        swapped = packets._replace(places=packets.places[order], sizes=packets.sizes[order])
        check(decode_all(with_packets(video, swapped)))


@pytest.mark.parametrize("case", ["h264_bframes", "vp9", "mpeg4_mp4_bframes"])
def test_flipped_bits_of_an_index_are_found(case, case_video):
    video, rng = case_video(case), np.random.default_rng(2)
    frames, truth = np.array([5, 33, 64]), looks(case_video(case), np.array([5, 33, 64]))
    noticed = 0
    for _ in range(150):
        parts = [bytearray(part) for part in video.packet_index]
        part = parts[int(rng.integers(2))]
        part[int(rng.integers(len(part)))] ^= 1 << int(rng.integers(8))
        try:
            assert looks(video._replace(packet_index=Index(*map(bytes, parts))), frames) == truth
        except READ_ERRORS as error:
            noticed += 1
            assert "scan again" in str(error), error
    assert noticed > 100


def test_an_index_of_another_file_is_found(tmp_path):
    """The same encoder, size and number of frames: only the bytes tell."""
    one = measured_video(write_numbered(tmp_path / "a.mp4", 40, options={"g": "10"}))
    two = measured_video(write_numbered(tmp_path / "b.mp4", 40, options={"g": "10", "qp": "30"}))
    for frames in frame_lists(40):
        with pytest.raises(READ_ERRORS, match="scan again"):
            decode(one._replace(packet_index=two.packet_index), frames)


def test_a_file_that_was_replaced_is_never_decoded(tmp_path):
    """Neither one as long, nor a shorter one, nor one of which a single byte of a packet is another."""
    path = write_numbered(tmp_path / "a.mp4", 40, options={"g": "10"})
    video, whole = measured_video(path)._replace(bytes=None, mtime_ns=None), path.read_bytes()
    other = write_numbered(tmp_path / "b.mp4", 40, options={"g": "10", "qp": "40"}).read_bytes()
    path.write_bytes(other.ljust(len(whole), b"\0")[: len(whole)])
    with pytest.raises(READ_ERRORS, match="changed since it was scanned: .*; scan again"):
        decode(video, np.arange(8))
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(EOFError, match="changed since it was scanned: it ends before byte .*; scan again"):
        decode(video, np.arange(30, 38))
    packets, rng, truth = packets_of(video), np.random.default_rng(0), None
    path.write_bytes(whole)
    truth = decode_all(video)
    for _ in range(20):
        at = int(rng.integers(40))
        place = int(packets.places[at] + rng.integers(packets.sizes[at]))
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        found = decode_all(video)
        wrong = [one for one, right in zip(found, truth, strict=True) if one != right]
        assert wrong and all("scan again" in one for one in wrong)


def test_damage_that_no_decoder_sees_is_found(tmp_path):
    """VP8 has nothing by which its decoder could tell: of a file with an index, the bytes tell."""
    name, options = VIDEO_CASES["vp8"]
    path = write_numbered(tmp_path / name, NUM_FRAMES, **options)
    video = measured_video(path)
    packets, data = packets_of(video), bytearray(path.read_bytes())
    data[int(packets.places[10] + packets.sizes[10] // 2)] ^= 0x10
    path.write_bytes(data)
    frames, video = np.arange(8, 14), video._replace(bytes=None)  # its size and time are not compared
    decode(by_container(video), frames)  # no error
    with pytest.raises(ValueError, match="changed since it was scanned"):
        decode(video, frames)


# ---- Proofs of a scan


def demuxed_places(path):
    """(places, the video by its container)."""
    video = by_container(measured_video(Path(path)))
    with open_bytes(video.place) as source, open_video(path) as (container, stream):
        places = Places(source, stream)
        Demuxed(container, stream, places)
        return places, video


@pytest.mark.parametrize("case", ["h264_bframes", "hevc_open_gop", "vp9", "mjpeg"])
def test_a_scan_proves_an_index_by_decoding(case, case_video):
    """Places of packets that are swapped, with their checksums: the bytes agree, the frames do not."""
    places, video = demuxed_places(case_video(case).path)
    assert prove_index(video, places)[0] == case_video(case).packet_index
    rows, data = list(places._rows), Path(video.path).read_bytes()
    for one, other in ((0, 1), (1, 2), (2, 3)):
        places._rows = list(rows)
        for a, b in ((one, other), (other, one)):
            place, size, flags = *rows[b][2:4], rows[a][4]
            check = checksum(data[place : place + size], flags)
            places._rows[a] = (*rows[a][:2], place, size, flags, check, rows[a][6])
        index, problem = prove_index(video, places)
        assert index is None and problem.startswith("decoding from it ")
    places._rows = rows[:-1]
    assert prove_index(video, places) == (None, "its time stamps do not tell each packet")
    places._rows = [*rows[:-1], (rows[-1][0] + 1 << 20, *rows[-1][1:])]
    assert prove_index(video, places)[0] is None


def test_a_place_has_the_bytes_of_the_packet(case_video):
    """Wherever the container says that a packet lies, its place is where its bytes are, or there is none."""
    path, rng = case_video("h264_open_gop").path, np.random.default_rng(0)
    whole = Path(path).read_bytes()
    with open_bytes(Place(path)) as source, open_video(path) as (container, stream):
        places = Places(source, stream)
        for packet in container.demux(stream):
            if packet.size:
                data = bytes(packet)
                for told in (packet.pos, packet.pos + 1, packet.pos - 100, int(rng.integers(len(whole))), -1, None):
                    place = places._find(told, data)
                    assert place is None or whole[place : place + len(data)] == data
                assert places._find(packet.pos, data) is not None
                assert places._find(packet.pos - 2000, data) is None
                assert places._find(packet.pos, data + b"never") is None


@pytest.mark.parametrize("case", ["h264_bframes", "mpeg4_avi_bframes", "av1"])
def test_a_deep_scan_has_the_same_index(case, case_video):
    assert measure_of(case_video(case).path, deep=True)["index"] == case_video(case).packet_index


def test_a_damaged_block_says_so():
    with pytest.raises(DamagedIndexError, match="its packet index is damaged .*; scan again"):
        read_block(b"\x78\x9c")
