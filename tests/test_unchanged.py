"""A file that was replaced since the scan is an error that says so, never pixels of something else.

Each attack makes another file of one that was scanned. What is decoded afterwards is compared with what was decoded
before it: the same frames, or an error. What a setting of ``check_files`` does not find is here too, as the docs say.
"""

import errno
import os
import signal
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import (
    HEIGHT,
    NUM_FRAMES,
    RECIPE,
    VIDEO_CASES,
    WIDTH,
    by_container,
    frame_lists,
    measured_video,
    numbered_frame,
    remuxed_frames,
    shown_numbers,
    write_numbered,
)

import dali_vidaug as dv
from dali_vidaug.media import cut, measure
from dali_vidaug.media.cut import READ_ERRORS, open_source, read_cuts
from dali_vidaug.media.decode import decode
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.index import FULL, KEY
from dali_vidaug.media.storage import Place, open_bytes
from dali_vidaug.media.unchanged import NUM_PLACES, PLACE_BYTES, content_digest
from dali_vidaug.settings import make_settings

CHANGED = "changed since it was scanned"
# A container of each kind; "ts" and "avi" have no packet index, "mjpeg" has packets that are frames by themselves.
CASES = {
    "mp4": "h264_bframes",
    "webm": "vp8",
    "mkv": "hevc_mkv",
    "mjpeg": "mjpeg",
    "ts": "h264_transport_stream",
    "avi": "h264_avi",
}
KINDS = [*CASES, "mp4 without its index", "mjpeg without its index"]


def noisy_frame(index):
    """A numbered frame that takes many bytes."""
    noise = np.random.default_rng(index).integers(-20, 21, (HEIGHT, WIDTH, 1))
    return (numbered_frame(index) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A function that gives the bytes of two videos of a case, of the same size: frames 0, 1, ... and ..., 1, 0."""
    made = {}

    def get(case):
        if case not in made:
            folder = tmp_path_factory.mktemp(case)
            name, options = VIDEO_CASES[case]
            write_video(folder / f"one_{name}", map(noisy_frame, range(NUM_FRAMES)), **options)
            write_video(folder / f"other_{name}", map(noisy_frame, reversed(range(NUM_FRAMES))), **options)
            one, other = (folder / f"one_{name}").read_bytes(), (folder / f"other_{name}").read_bytes()
            size = (max(len(one), len(other)) // 188 + 1) * 188
            assert size > NUM_PLACES * PLACE_BYTES, "larger than what is compared of it"
            made[case] = name, one.ljust(size, b"\0"), other.ljust(size, b"\0")
        return made[case]

    return get


@pytest.fixture
def scanned(pair, tmp_path):
    """A function that writes the first video of a kind: its row of the manifest, and the bytes of the second one."""

    def get(kind):
        name, one, other = pair(CASES[kind.split()[0]])
        (tmp_path / name).write_bytes(one)
        video = measured_video(tmp_path / name)
        assert (video.packet_index is None) == (kind in ("ts", "avi"))
        return (by_container(video) if "without" in kind else video), other

    return get


def with_time(path, video):
    os.utime(path, ns=(video.mtime_ns, video.mtime_ns))


def trusted(video, check_files):
    """The video as ``check_files`` has it compared."""
    return make_settings(device="cpu", check_files=check_files).trusted(video)


def outcome(video, frames, decoder):
    """The frames, or the error."""
    try:
        if decoder == "pyav":
            return decode(video, frames).pixels
        return np.array(remuxed_frames(video, frames))
    except READ_ERRORS as error:
        return str(error)


# ---- attacks: each gets a file, the other file's bytes, and its row


def replace_contents(path, other, video):
    path.write_bytes(other)


def rename_over(path, other, video):
    (path.parent / "new").write_bytes(other)
    (path.parent / "new").replace(path)


def swap_names(path, other, video):
    second = path.with_name(f"second{path.suffix}")
    second.write_bytes(other)
    path.rename(path.with_name("third"))
    second.rename(path)
    path.with_name("third").rename(second)


def repoint_link(path, other, video):
    path.rename(path.with_name("first"))
    path.with_name("second").write_bytes(other)
    path.symlink_to("second")


def cut_and_pad(path, other, video):
    size = path.stat().st_size
    os.truncate(path, size // 3)
    os.truncate(path, size)


def other_head(path, other, video):
    path.write_bytes(other[:4096] + path.read_bytes()[4096:])


def other_middle(path, other, video):
    whole = path.read_bytes()
    third = len(whole) // 3
    path.write_bytes(whole[:third] + other[third : 2 * third] + whole[2 * third :])


def other_tail(path, other, video):
    whole = path.read_bytes()
    path.write_bytes(whole[:-4096] + os.urandom(4096))


ATTACKS = [replace_contents, rename_over, swap_names, repoint_link, cut_and_pad, other_head, other_middle, other_tail]


def the_same_or_an_error(video, decoder, frames, truth):
    """Whether the file's frames are as before; else it must be an error that says so."""
    found = outcome(video, frames, decoder)
    if isinstance(found, str):
        assert CHANGED in found, found
        return False
    np.testing.assert_array_equal(found, truth)
    return True


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_never_the_frames_of_another_file(kind, attack, scanned):
    """Of the same size; and with the same time of change, or where only sizes are compared."""
    video, other = scanned(kind)
    decoders = ["pyav"] + ["dali"] * video.regular
    lists = [np.array([NUM_FRAMES // 2]), *frame_lists(NUM_FRAMES)[:2]]
    truth = {decoder: [outcome(video, frames, decoder) for frames in lists] for decoder in decoders}
    assert not any(isinstance(found, str) for some in truth.values() for found in some)
    path = Path(video.path)
    attack(path, other, video)
    assert path.stat().st_size == video.bytes
    for decoder in decoders:
        for frames, right in zip(lists, truth[decoder], strict=True):
            assert not the_same_or_an_error(video, decoder, frames, right), "another time of change is an error"
    with_time(path, video)
    kept = dict.fromkeys(decoders, 0)
    for decoder in decoders:
        for frames, right in zip(lists, truth[decoder], strict=True):
            for check_files in ("size_and_time", "size"):
                kept[decoder] += the_same_or_an_error(trusted(video, check_files), decoder, frames, right)
    if video.packet_index is None or attack in (replace_contents, rename_over, swap_names, repoint_link):
        assert not any(kept.values()), "an error for each clip"
    if video.packet_index is not None:  # also where no file is to be compared: what is read is
        for decoder in decoders:
            for frames, right in zip(lists, truth[decoder], strict=True):
                the_same_or_an_error(trusted(video, "off"), decoder, frames, right)


@pytest.mark.parametrize("kind", ["ts", "avi", "mp4 without its index"])
def test_what_is_not_compared_is_not_found(kind, scanned):
    """Without an index, with check_files="off": the frames are the other file's. So say the docs."""
    video, other = scanned(kind)
    rename_over(Path(video.path), other, video)
    found = outcome(trusted(video, "off"), np.array([3]), "pyav")
    assert isinstance(found, str) or shown_numbers(found) != [3]


@pytest.mark.parametrize("seed", range(12))
def test_any_change_of_a_file_with_an_index(seed, scanned):
    """Bytes anywhere, with the same size and time: the frames are as before, or an error."""
    rng = np.random.default_rng(seed)
    video, other = scanned(["mp4", "webm", "mkv", "mjpeg"][seed % 4])
    path = Path(video.path)
    whole, frames = path.read_bytes(), np.sort(rng.integers(0, NUM_FRAMES, 4))
    truth = outcome(video, frames, "pyav")
    for _ in range(6):
        first, length = int(rng.integers(len(whole))), int(rng.choice([1, 100, 5000]))
        path.write_bytes(whole[:first] + other[first : first + length] + whole[first + length :])
        with_time(path, video)
        the_same_or_an_error(video, "pyav", frames, truth)


# ---- while it is read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", [rename_over, repoint_link, replace_contents], ids=lambda attack: attack.__name__)
def test_a_file_that_is_replaced_when_it_is_open(kind, attack, scanned):
    """After it was compared, before its packets are read: they are those of the scan, or there is an error."""
    video, other = scanned(kind)
    frames = np.arange(20, 28)

    def packets(before_reading):
        with open_source(video) as (source, stream):
            before_reading(Path(video.path), other, video)
            return [bytes(packet) for part in read_cuts(source, stream, video, frames) for packet in part.packets]

    expected = packets(lambda *_: None)
    try:
        found = packets(attack)
    except READ_ERRORS as error:
        assert attack is replace_contents or video.packet_index is None, "the open file is the one that was scanned"
        assert CHANGED in str(error) or attack is replace_contents, error
        return
    assert video.packet_index is not None and attack is not replace_contents
    assert found == expected


@pytest.mark.parametrize("kind", ["ts", "avi", "mp4 without its index"])
def test_a_file_that_is_replaced_between_the_comparison_and_opening(kind, scanned, monkeypatch):
    """By its name the container of another file is opened than the one that was compared."""
    video, other = scanned(kind)
    opened = cut.open_video

    def late(path, *options):
        rename_over(Path(path), other, video)
        with_time(path, video)
        return opened(path, *options)

    monkeypatch.setattr(cut, "open_video", late)
    assert CHANGED in outcome(video, np.arange(8), "pyav")
    if kind == "ts":  # also where the other file cannot be read so far
        scanned(kind)
        with_time(Path(video.path), video)
        other = other[:1880].ljust(len(other), b"\0")
        assert CHANGED in outcome(video, np.arange(60, 68), "pyav")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("check_files", ["auto", "size_and_time", "size"])
def test_files_that_are_replaced_in_the_middle_of_an_epoch(check_files, workers, tmp_path):
    """All clips that come are of the scanned files; the others are named."""
    for i in range(8):
        write_numbered(tmp_path / "v" / f"{i}.ts", 20, options={"g": "5"})
    manifest = dv.scan(tmp_path / "v", progress=False)
    assert manifest.packets is None
    recipe = dv.Recipe(dv.ClipSampling(4, 1), ())
    reversed_path = tmp_path / "other.ts"
    write_video(reversed_path, map(numbered_frame, reversed(range(20))), options={"g": "5"})
    options = {"on_error": "skip", "check_files": check_files, "workers": workers, "prefetch": 1, "shuffle": False}
    with dv.VideoLoader(manifest, recipe, 1, device="cpu", **options) as loader:
        for i, batch in enumerate(loader):
            for clip in batch.clips:
                numbers = shown_numbers(clip.permute(1, 2, 3, 0).numpy())
                assert numbers == sorted(numbers) and numbers[0] < numbers[-1]
            if i == 0:
                for path in sorted((tmp_path / "v").iterdir()):
                    data = reversed_path.read_bytes()
                    stat = path.stat()
                    (tmp_path / "new").write_bytes(data[: stat.st_size].ljust(stat.st_size, b"\0"))
                    os.utime(tmp_path / "new", ns=(stat.st_atime_ns, stat.st_mtime_ns))
                    (tmp_path / "new").replace(path)
        report = loader.report()
    assert report.skipped >= 3 and CHANGED in str(report)


def test_a_named_pipe_in_the_place_of_a_file(scanned):
    """To open it must not wait for ever."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(20)
    for kind in ("mp4", "ts"):
        video, _ = scanned(kind)
        Path(video.path).unlink()
        os.mkfifo(video.path)
        assert "it has 0 bytes, and had" in outcome(video, np.arange(4), "pyav")
        Path(video.path).unlink()
    signal.alarm(0)


# ---- checksums


def digest_of(path):
    with open_bytes(Place(str(path))) as source:
        return content_digest(source)


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 32768, 32769, 50_000, 10**6 + 7])
def test_the_digest_is_of_eight_places(size, tmp_path):
    """A byte there counts, and no other does; in a small file all count. The size counts too."""
    rng = np.random.default_rng(size)
    data = bytearray(rng.bytes(size))
    places = range(size)
    if size > 32768:
        places = {at for i in range(8) for at in range(i * (size - 4096) // 7, i * (size - 4096) // 7 + 4096)}
        assert min(places) == 0 and max(places) == size - 1
    path = tmp_path / "x"
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.write(file, data)
        before = digest_of(path)
        assert before == digest_of(path) and -(2**63) <= before < 2**63
        for at in {0, size - 1, *rng.integers(0, max(size, 1), 300).tolist()} & set(range(size)):
            os.pwrite(file, bytes([data[at] ^ 1]), at)
            assert (digest_of(path) != before) == (at in places), at
            os.pwrite(file, bytes([data[at]]), at)
        os.ftruncate(file, size + 1)
        assert digest_of(path) != before
    finally:
        os.close(file)


def test_a_packet_with_the_same_last_bits_of_its_checksum(scanned):
    """One in 65,536 others has the same 16 bits: a clip of one packet needs all 32."""
    video, _ = scanned("mjpeg")
    with open_source(video) as (file, _):
        packets = file.block(0)
    assert (packets.flags & FULL != 0).all() and (packets.checks >> 16).any()
    path = Path(video.path)
    whole = path.read_bytes()
    place, size = int(packets.places[7]), int(packets.sizes[7])
    packet, at = bytearray(whole[place : place + size]), size // 2
    right, changed = zlib.crc32(packet), None
    head, tail = zlib.crc32(packet[:at]), bytes(packet[at + 3 :])
    for number in range(1 << 20):
        three = number.to_bytes(3, "little")
        if (zlib.crc32(tail, zlib.crc32(three, head)) ^ right) & 0xFFFF == 0 and three != packet[at : at + 3]:
            changed = three
            break
    path.write_bytes(whole[: place + at] + changed + whole[place + at + 3 :])
    with_time(path, video)
    assert CHANGED in outcome(video, np.array([7]), "pyav") and CHANGED in outcome(video, np.array([7]), "dali")


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv", "mjpeg"])
def test_each_cut_has_a_whole_checksum(kind, scanned):
    """It begins with a key frame, or with the first packet."""
    video, _ = scanned(kind)
    with open_source(video) as (file, _):
        for number, block in enumerate(file.packets_from(None)):
            whole = block.flags & FULL != 0
            assert whole[block.flags & KEY != 0].all() and (number or whole[0])
            data = Path(video.path).read_bytes()
            for place, size, check, full in zip(block.places, block.sizes, block.checks, whole, strict=True):
                assert check == zlib.crc32(data[place : place + size]) & (0xFFFFFFFF if full else 0xFFFF)


# ---- scans


def test_a_file_that_changes_while_it_is_scanned(tmp_path, monkeypatch):
    """As one that is still being copied."""
    path = write_numbered(tmp_path / "a.mp4", 20)
    inner = measure._measure

    def late(*args):
        row = inner(*args)
        with path.open("ab") as file:
            file.write(b"x")
        return row

    monkeypatch.setattr(measure, "_measure", late)
    assert measure.measure(path) == {"error": "it was changed while it was scanned; scan again"}


@pytest.mark.parametrize("index", [True, False])
def test_a_scan_measures_again_what_has_the_same_size_and_time(index, scanned, tmp_path):
    """Otherwise a loader would say for ever: scan again."""
    video, other = scanned("mp4")
    path, output = Path(video.path), tmp_path / "m.parquet"
    before = dv.scan(path, output=output, progress=False, index=index)
    replace_contents(path, other, video)
    with_time(path, video)
    with (
        dv.VideoLoader(before, RECIPE, 1, device="cpu", on_error="raise") as loader,
        pytest.raises(dv.ClipError) as error,
    ):
        list(loader)
    assert "scan again" in str(error.value)
    again = dv.scan(path, output=output, progress=False, index=index)
    assert again.video(0).content_digest != before.video(0).content_digest
    numbers = shown_numbers(decode(again.video(0), np.array([3])).pixels)
    assert numbers == [NUM_FRAMES - 1 - 3]


def test_manifests_without_digests(scanned, tmp_path):
    """An earlier one works as it did, and a scan measures its files again."""
    video, _ = scanned("ts")
    output = tmp_path / "m.parquet"
    dv.scan(video.path, output=output, progress=False)
    pq.write_table(pq.read_table(output).drop_columns(["content_digest"]), output)
    manifest = dv.Manifest.read(output)
    assert manifest.video(0).content_digest is None
    assert shown_numbers(decode(manifest.video(0), np.array([5])).pixels) == [5]
    assert dv.scan(video.path, output=output, progress=False).video(0).content_digest == video.content_digest


def test_a_file_that_cannot_be_read_any_more(scanned, monkeypatch):
    """Not taken for another one: the system's error."""
    video, _ = scanned("ts")

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", refuse)
    assert "Input/output error" in outcome(video, np.arange(4), "pyav")
