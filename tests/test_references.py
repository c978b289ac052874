"""Which packets a clip of H.265 needs: those that its frames refer to, and the same frames bit for bit."""

from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import by_container, decode_fully, frame_digest, measured_video, write_numbered

from dali_vidaug.media import places, references
from dali_vidaug.media.bitstream import is_reference
from dali_vidaug.media.container import open_video, read_packets
from dali_vidaug.media.cut import open_source, read_cuts
from dali_vidaug.media.decode import decode, decode_frames
from dali_vidaug.media.headers import Bits, av1_is_reference
from dali_vidaug.media.hevc import _read_reference_set, read_hevc_sequence
from dali_vidaug.media.index import ANCHOR, KEY, NON_REFERENCE, Packets, pack_packets
from dali_vidaug.media.references import UNKNOWN, References, reference_closure, spared

NUM_FRAMES = 58
FORMS = {  # of x265, and whether frames can do without some reference pictures
    "default": ("", False),
    "no_b": ("bframes=0", False),
    "one_reference": ("ref=1:bframes=3:b-adapt=0", False),
    "layers": ("temporal-layers=3", True),
    "layers_closed": ("temporal-layers=3:open-gop=0:keyint=30", True),
    "layers_slices": ("temporal-layers=3:slices=2:bframes=7:b-adapt=0", True),
    "intra_refresh": ("intra-refresh=1", False),
    "all_intra": ("keyint=1", False),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function that gives the ``Video`` of a form, whose file is written once."""
    folder = tmp_path_factory.mktemp("references")

    @cache
    def get(form):
        params = ":".join(filter(None, ["log-level=none", FORMS[form][0]]))
        path = folder / f"{form}.mp4"
        video = measured_video(write_numbered(path, NUM_FRAMES, codec="libx265", options={"x265-params": params}))
        assert video.packet_index is not None
        return video

    return get


def clips(count, seed=0):
    """Clips of 1 to 8 frames with a stride of 1 to 8."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        length, stride = int(rng.choice([1, 2, 8])), int(rng.choice([1, 2, 4, 8]))
        yield int(rng.integers(0, NUM_FRAMES - (length - 1) * stride)) + stride * np.arange(length)


class Oracle:
    """What a decoder that reports damage needs of a file's packets, found by leaving out one after the other."""

    def __init__(self, path):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            self.extradata = stream.codec_context.extradata
            self.packets = [packet for packet in container.demux(stream) if packet.size]
        self.order = np.argsort(np.argsort([packet.pts for packet in self.packets])).tolist()
        self.keys = [i for i, packet in enumerate(self.packets) if packet.is_keyframe]

    def decode(self, which):
        """Frames that PyAV alone decodes of some packets: digests by time stamp; None if it reports an error."""
        codec = av.CodecContext.create("hevc", "r")
        codec.extradata, codec.options, codec.thread_count = self.extradata, {"err_detect": "explode"}, 1
        try:
            frames = [frame for i in [*which, None] for frame in codec.decode(None if i is None else self.packets[i])]
        except av.error.InvalidDataError:
            return None
        return {frame.pts: frame_digest(frame) for frame in frames}

    def least(self, frames, full):
        """The frames that must be decoded for some of one GOP, besides its key frame."""
        wanted = [self.order.index(i) for i in frames]
        before = [k for k in self.keys if k <= min(wanted) and self.order[k] <= min(frames)]
        needed = list(range(before[-1], max(wanted) + 1))
        for i in reversed(needed[1:]):
            some = self.decode([k for k in needed if k != i]) if i not in wanted else None
            if some is not None and all(some.get(self.packets[w].pts) == full[self.order[w]] for w in wanted):
                needed.remove(i)
        return {self.order[i] for i in needed}


@pytest.mark.parametrize("form", FORMS)
def test_no_fewer_can_be_decoded(form, made):
    video, full = made(form), decode_fully(made(form).path)
    oracle, fewer = Oracle(video.path), 0
    for n, frames in enumerate(clips(40)):
        decoded = [(frame_digest(f), i) for f, i in decode_frames(video, frames, {"read": 0.0}, least=True)]
        assert {i: d for d, i in decoded if i in frames} == {i: full[i] for i in frames.tolist()}
        if n < 6 and sum(frames[0] < oracle.order[k] <= frames[-1] for k in oracle.keys) == 0:
            assert {i for _, i in decoded} == oracle.least(frames.tolist(), full), frames
        fewer += decode(by_container(video), frames).num_decoded - len(decoded)
    assert fewer >= 0 and (fewer > 0) == FORMS[form][1], fewer


def random_gop(rng, count=40):
    """Packets that refer to reference packets before them, two key frames among them."""
    flags = rng.choice([0, 0, 0, NON_REFERENCE, NON_REFERENCE, ANCHOR], count)
    flags[0] = flags[count // 2] = KEY
    refers = [int(rng.integers(0, 1 << min(i, 5))) if i else 0 for i in range(count)]
    leaves = [sum(1 << d for d in range(i) if flags[i - d - 1] & NON_REFERENCE) for i in range(count)]
    refers = [one & ~leaf for one, leaf in zip(refers, leaves, strict=True)]
    refers = [UNKNOWN if rng.random() < 0.02 else one for one in refers]
    zeros = np.zeros(count, np.int64)
    return Packets(zeros, zeros, zeros, zeros, flags, zeros, np.array(refers))


def walk(packets, at, first, needed):
    """What a packet needs, by going from reference to reference."""
    if at in needed or at < first:
        return
    needed.add(at)
    if packets.references[at] == UNKNOWN:
        for i in range(first, at):
            if not packets.flags[i] & NON_REFERENCE:
                walk(packets, i, first, needed)
        return
    for d in range(at - first):
        if packets.references[at] >> d & 1:
            walk(packets, at - d - 1, first, needed)


def test_a_closure_is_what_can_be_reached():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        packets = random_gop(rng)
        last = int(rng.integers(1, len(packets.flags) + 1))
        wanted = rng.random(last) < 0.1
        wanted[-1] = True
        needed = set()
        for at in [0, *np.flatnonzero(wanted), *np.flatnonzero(packets.flags[:last] & ANCHOR)]:
            walk(packets, int(at), 0, needed)
        some = packets.part(slice(last))
        assert set(np.flatnonzero(reference_closure(some, wanted)).tolist()) == needed


def test_spared_packets_are_not_in_the_closure():
    for seed in range(50):
        packets = random_gop(np.random.default_rng(seed))
        is_reference = packets.flags & NON_REFERENCE == 0
        for at, lacks in enumerate(spared(packets)):
            first = 0 if at < 20 else 20
            needed = set()
            for i in [first, at, *(i for i in range(first, at) if packets.flags[i] & ANCHOR)]:
                walk(packets, i, first, needed)
            expected = {i for i in range(first, at + 1) if is_reference[i] and i not in needed}
            assert {first + i for i in range(at + 1) if lacks >> i & 1} == expected


@pytest.mark.parametrize("form", ["default", "layers", "one_reference"])
def test_lies_about_references_give_no_other_frames(form, made):
    """What was left out and is needed makes the decoder complain; the clip then is decoded with all references."""
    video, full, rng = made(form), decode_fully(made(form).path), np.random.default_rng(0)
    with open_source(video) as (file, _):
        packets = Packets(*map(np.concatenate, zip(*file.packets_from(None), strict=True)))
    complaints = 0
    for frames in clips(25, seed=1):
        lies = np.array([int(rng.integers(0, 1 << min(i, 6))) if rng.random() < 0.3 else 0 for i in range(NUM_FRAMES)])
        liar = video.packet_index._replace(packets=pack_packets(packets._replace(references=lies)))
        lying = video._replace(packet_index=liar)
        found = {i: frame_digest(f) for f, i in decode_frames(lying, frames, {"read": 0.0})}
        assert [found[i] for i in frames.tolist()] == [full[i] for i in frames]
        try:
            list(decode_frames(lying, frames, {"read": 0.0}, least=True))
        except ValueError:
            complaints += 1
    assert complaints > 10


def test_a_scan_finds_wrong_references(made, monkeypatch):
    """They are not in the index then: each picture may refer to all before it."""
    true = made("layers")
    assert told(true)
    monkeypatch.setattr(places.References, "add", lambda *_: (0, False))
    assert not told(measured_video(Path(made("layers").path)))
    monkeypatch.undo()
    add = References.add
    wrong = lambda self, *packet: (lambda bits, anchor: (bits & ~1, anchor))(*add(self, *packet))  # noqa: E731
    monkeypatch.setattr(places.References, "add", wrong)
    assert not told(measured_video(Path(made("layers").path)))


def told(video):
    """Whether the index says which packets refer to which."""
    with open_source(video) as (file, _):
        return any((block.references != UNKNOWN).any() for block in file.packets_from(None))


def test_only_what_is_useful_is_kept(made):
    """Where frames can do without nothing, and in other codecs, an index is no larger than without references."""
    assert {form for form in FORMS if told(made(form))} == {form for form, (_, useful) in FORMS.items() if useful}


def test_dali_gets_all_references(made):
    video, frames = made("layers"), np.array([37])
    with open_source(video) as (source, stream):
        (least,) = read_cuts(source, stream, video, frames)
    with open_source(video) as (source, stream):
        (every,) = read_cuts(source, stream, video, frames, all_references=True)
    with open_source(by_container(video)) as (source, stream):
        (container,) = read_cuts(source, stream, by_container(video), frames)
    assert every.frames == container.frames and set(least.frames) < set(every.frames)
    assert least.lacks_references and not every.lacks_references and not container.lacks_references


def told_by(path, extradata=None):
    """What ``References`` says of each packet of a file."""
    with open_video(path) as (container, stream):
        if extradata is not None:
            stream.codec_context.extradata = extradata(stream.codec_context.extradata)
        follow = References(stream)
        return [follow.add(packet, stream)[0] for packet in read_packets(container, stream)]


def test_two_parameter_sets_are_too_many(made):
    """Which of them is in force is not followed. The second one is as the first, with another picture size."""
    path = made("layers").path
    assert set(told_by(path)) != {UNKNOWN}

    def with_another(extradata):
        at = extradata.index(b"\xa1\0\1") if b"\xa1\0\1" in extradata else extradata.index(b"\x21\0\1")
        length = int.from_bytes(extradata[at + 3 : at + 5], "big")
        unit = extradata[at + 5 : at + 5 + length]
        other = unit[:-2] + bytes([unit[-2] ^ 1]) + unit[-1:]
        array = extradata[at : at + 3] + len(other).to_bytes(2, "big") + other
        return extradata[:22] + bytes([extradata[22] + 1]) + extradata[23:] + array

    assert set(told_by(path, with_another)) == {UNKNOWN}


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_places_are_right_without_the_packets_that_are_left_out(bits):
    """A decoder counts places from the latest picture of temporal layer 0 that it has (ITU-T H.265, 8.3.1)."""
    size, safe, unsafe = 1 << bits, 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        follow = References.__new__(References)
        follow._counted = []
        rows, place = [], 0
        for _ in range(60):
            step = int(rng.integers(1, size // 2))
            counts = bool(rng.random() < 0.5)
            place += step if counts else 0
            at = place if counts else place - int(rng.integers(0, min(step, place + 1)))
            rows.append((at, counts, *follow._count(at, counts, size)))
        has = [anchor or i == 0 or rng.random() < 0.4 for i, (_, _, _, anchor) in enumerate(rows)]
        latest = rows[0][0]
        for (at, counts, is_safe, _), decoded in zip(rows, has, strict=True):
            if decoded:
                derived = latest - ((latest - at % size + size // 2) % size - size // 2)
                assert derived == at or not is_safe
                safe, unsafe = safe + is_safe, unsafe + (not is_safe)
                if derived != at:
                    break
                latest = at if counts else latest
    assert safe > 100


def code(number):
    """ue(v): an exponential-Golomb code."""
    return f"{number + 1:b}".zfill(2 * (number + 1).bit_length() - 1)


def derive(before, step, used, use):
    """A set that is told by another, as ITU-T H.265 has it: (7-61) and (7-62)."""
    negative, positive = [d for d, _ in before if d < 0], [d for d, _ in before if d > 0]
    count, found = len(negative), []
    for sign, firsts, start in ((-1, positive, count), (1, negative, 0)):
        others, other = (negative, 0) if sign < 0 else (positive, count)
        tried = [(firsts[j] + step, start + j) for j in reversed(range(len(firsts)))]
        tried += [(step, len(before))] + [(others[j] + step, other + j) for j in range(len(others))]
        found += [(d, used[j]) for d, j in tried if d * sign > 0 and use[j]]
    return tuple(found)


def test_sets_that_are_told_by_another():
    """x265 does not write such ones, phones do."""
    for seed in range(300):
        rng = np.random.default_rng(seed)
        flags = {int(d): bool(rng.random() < 0.5) for d in rng.choice([*range(-9, 0), *range(1, 9)], 5, replace=False)}
        before = tuple(sorted(flags.items(), key=lambda one: (one[0] > 0, abs(one[0]))))
        negative = [(d, u) for d, u in before if d < 0]
        positive = [(d, u) for d, u in before if d > 0]
        bits = code(len(negative)) + code(len(positive))
        for part in (negative, positive):
            steps = np.abs(np.diff([0, *(d for d, _ in part)]))
            bits += "".join(code(int(step) - 1) + str(int(u)) for step, (_, u) in zip(steps, part, strict=True))
        step = int(rng.choice([-3, -2, -1, 1, 2, 3]))
        used = rng.random(6) < 0.5
        use = used | (rng.random(6) < 0.5)
        bits += "1" + str(int(step < 0)) + code(abs(step) - 1)
        bits += "".join("1" if u else f"0{int(k)}" for u, k in zip(used, use, strict=True)) + "1"
        reader = Bits(int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big"), False)
        first = _read_reference_set(reader, [], False)
        assert first == before
        assert _read_reference_set(reader, [first], False) == derive(before, step, used, use)
        assert reader.read(1) == 1


def test_a_profile_with_other_headers_is_not_read(made):
    with open_video(made("layers").path) as (_, stream):
        units = references.hevc_sets_in(stream.codec_context.extradata)
    unit = next(unit for unit in units if unit[0] >> 1 & 63 == 33)
    assert read_hevc_sequence(unit).reference_sets is not None
    later = unit[:3] + bytes([unit[3] & 0xE0 | 9]) + unit[4:]  # screen content coding
    assert read_hevc_sequence(later).reference_sets is None


@pytest.mark.slow
def test_real_files_of_h265(real_videos):
    """A phone's H.265 refers to few pictures; x265's to nearly all that are kept."""
    for name, share in (("rotated_hdr_video.mov", 0.7), ("foreman-hevc-384.mp4", 1), ("test_hevc10.mkv", 1)):
        video, full = measured_video(real_videos / name), decode_fully(real_videos / name)
        rng, counts = np.random.default_rng(0), np.zeros(2, int)
        for _ in range(12):
            frames = int(rng.integers(0, video.num_frames - 7)) + np.arange(0, 8, int(rng.choice([1, 3, 7])))
            found = {i: frame_digest(f) for f, i in decode_frames(video, frames, {"read": 0.0}, least=True)}
            assert [found[i] for i in frames.tolist()] == [full[i] for i in frames]
            counts += decode(video, frames).num_decoded, decode(by_container(video), frames).num_decoded
        assert counts[0] <= share * counts[1], name
        with open_video(video.path) as (container, stream):
            assert all(isinstance(is_reference(packet, stream), bool) for packet in read_packets(container, stream))


AV1_FORMS = {  # options of SVT-AV1
    "random_access": {"preset": "12", "svtav1-params": "lp=1"},
    "low_delay": {"preset": "11", "svtav1-params": "lp=1:pred-struct=1"},
    "screen": {"preset": "9", "svtav1-params": "lp=1:scm=1"},
}


@pytest.mark.parametrize("form", AV1_FORMS)
def test_av1_pictures_that_refresh_nothing_can_be_left_out(form, tmp_path):
    path = write_numbered(tmp_path / "v.mkv", 50, codec="libsvtav1", options={"g": "200", **AV1_FORMS[form]})
    with open_video(path) as (container, stream):
        packets = list(read_packets(container, stream))
        configuration = stream.codec_context.extradata
        leaves = [i for i, packet in enumerate(packets) if not is_reference(packet, stream)]
    assert 5 < len(leaves) < len(packets)

    def decode_some(which):
        codec = av.CodecContext.create("libdav1d", "r")
        codec.extradata = configuration
        frames = [frame for i in [*which, None] for frame in codec.decode(None if i is None else packets[i])]
        return {frame.pts: frame_digest(frame) for frame in frames}

    full = decode_some(range(len(packets)))
    rng = np.random.default_rng(0)
    for some in [leaves, *(rng.choice(leaves, len(leaves) // 2, replace=False).tolist() for _ in range(3))]:
        found = decode_some([i for i in range(len(packets)) if i not in some])
        assert found == {pts: d for pts, d in full.items() if pts not in {packets[i].pts for i in some}}
    data, later = bytes(packets[leaves[0]]), bytes(packets[leaves[-1]])
    assert not av1_is_reference(data, configuration) and not av1_is_reference(later, configuration)
    assert (
        av1_is_reference(data, b"")
        and av1_is_reference(b"", configuration)
        and av1_is_reference(data[:2], configuration)
    )
    with_times = bytearray(configuration)
    with_times[6] |= 4  # timing_info_present_flag: the header then has parts that are not read
    assert av1_is_reference(data, bytes(with_times))
    video = measured_video(path)
    frames = np.array([20, 29])
    assert decode(video, frames).num_decoded == decode(by_container(video), frames).num_decoded < 29
