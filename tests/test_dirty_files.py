"""Files whose containers do not say the truth: each frame is that of a decode of the whole file, or is reported."""

import itertools

import av
import numpy as np
import pytest
from check_faults import COLUMNS, RIGHT, check, is_right
from conftest import _real
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
)
from flip_bits import load_clips, run
from full_decode import full_decode
from fuzz_containers import outcome_of
from fuzz_containers import run as fuzz
from mutate_containers import MUTATIONS, edit_list, no_stss, ts_joined
from mutate_packets import begin_late, drop_packets, jump_in_time, key_flags, repeat_packets, two_tracks, zero_packets

SETTINGS = {
    "h264": [
        {}, {"cabac": 0}, {"chroma_qp_offset": 8}, {"open_gop": 1, "bframes": 3, "ref": 4}, {"8x8dct": 0, "weightp": 0},
    ],
    "hevc": [{}, {"cbqpoffs": 6}, {"sao": 0, "ctu": 16}, {"open_gop": 1, "bframes": 3}, {"signhide": 0, "ref": 1}],
}  # fmt: skip
SHOWN_AT_ALL = ("h264", "hevc")  # codecs whose decoders drop what comes before the first key frame
CONTAINER_OF_FLAGS = [(name, next(c for c in ("mp4", "avi", "mkv", "asf", "flv") if c in ENCODINGS[name].containers))
                      for name in ENCODINGS if name != "ffv1"]  # fmt: skip


def assert_right(path, loads=True, deep=(False, True)):
    """No frame is wrong and, if ``loads``, every clip can be had: of ``remux`` that is not asked."""
    for depth in deep:
        counts, found = check(path, depth, singles=False)
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


@pytest.mark.parametrize("name, container", CONTAINER_OF_FLAGS, ids=lambda value: value)
def test_key_flags_that_lie(name, container, base, tmp_path):
    """The stream is good, so that every frame can be had."""
    for seed in range(3):
        assert_right(mutated(key_flags, base, name, container, tmp_path, seed), deep=[seed == 2])


@pytest.mark.parametrize("name", [n for n, e in ENCODINGS.items() if "mp4" in e.containers])
def test_no_list_of_key_frames(name, base, tmp_path):
    path = base(name, "mp4")
    if b"stss" not in path.read_bytes():
        pytest.skip("every frame is a key frame")
    assert_right(edit_boxes(path, lambda boxes: no_stss.__wrapped__(None, boxes), tmp_path / "v.mp4"))


@pytest.mark.parametrize("name", [n for n, e in ENCODINGS.items() if "avi" in e.containers])
def test_an_index_in_which_all_are_key_frames(name, base, tmp_path):
    path = edit_avi(base(name, "avi"), lambda chunks: [(n, c, 16) for n, c, _ in chunks], tmp_path / "v.avi")
    assert_right(path)


@pytest.mark.parametrize(
    "name, container",
    [(n, c) for n in ("h264", "h264_open", "hevc", "hevc_open", "mpeg2", "mpeg4", "vp9", "h264_refresh")
     for c in ("ts", "mkv", "mp4") if c in ENCODINGS[n].containers],
)  # fmt: skip
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
    counts, found = check(path, False, singles=False)
    assert not counts["refused"], found
    assert counts["counted"] == full.num_frames


# ---- Joined files


def joined(base, codec, container, first, second, folder):
    """Two encodings of one codec with other settings, joined as ``ffmpeg -f concat -c copy`` joins them, or cat."""
    from dirty import _x264, _x265

    options = _x264 if codec == "h264" else _x265
    codec_name = "libx264" if codec == "h264" else "libx265"
    a, b = (
        base(Encoding(codec_name, (container,), options(**SETTINGS[codec][i]), frames=24), container, seed)
        for seed, i in enumerate((first, second))
    )
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


@pytest.mark.parametrize("order", itertools.permutations(range(3)), ids=str)
@pytest.mark.parametrize("name", ["h264", "mpeg2", "hevc"])
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
    from dataclasses import replace

    ticks = round(seconds / packets[0].time_base)
    return [replace(p, pts=p.pts + ticks, dts=p.dts + ticks) for p in packets]


@pytest.mark.parametrize("first, second", [("h264", "h264_444"), ("h264_444", "h264")])
def test_the_pixel_format_may_change(first, second, base, tmp_path):
    path = tmp_path / "v.ts"
    path.write_bytes(base(first, "ts").read_bytes() + base(second, "ts", 1).read_bytes())
    assert_right(path)


# ---- Fields, edit lists, tracks, pictures that are none


@pytest.mark.parametrize("name", ["h264_tff", "h264_bff", "h264_fake"])
@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "ts"])
def test_field_order(name, container, base):
    with av.open(str(base(name, container))) as file:
        interlaced = [frame.interlaced_frame for frame in file.decode(video=0)]
    assert any(interlaced) == (name != "h264_fake")
    assert_right(base(name, container))


@pytest.mark.parametrize("name", ["h264", "h264_open", "hevc", "hevc_open", "mpeg4", "mpeg4_b"])
def test_edit_lists_of_several_parts(name, base, tmp_path):
    for seed in range(6):
        path = mutated(edit_list, base, name, "mp4", tmp_path, seed)
        full = full_decode(path, pixels=False)
        assert_right(path, loads=not full.flags and full.num_frames > 0, deep=[seed % 2 == 1])


def test_edit_list_that_goes_back(base, tmp_path):
    timescale = 12800
    parts = [(800, timescale * 15 // 25, 1), (800, 0, 1)]
    path = edit_boxes(base("h264", "mp4"), lambda boxes: set_edits(boxes, parts), tmp_path / "v.mp4")
    assert full_decode(path, pixels=False).num_frames >= 39
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
    from dataclasses import replace

    spoilt = [replace(p, data=not_coded_vop(i)) if i in places else p for i, p in enumerate(packets)]
    assert_right(write_coded(tmp_path / f"v.{container}", base(name, container), spoilt), loads=False)


@pytest.mark.parametrize("name", ["mpeg4", "mpeg4_b", "h263", "mjpeg", "h264", "msmpeg4"])
def test_empty_chunks_in_avi(name, base, tmp_path):
    def change(chunks):
        return [*chunks[:7], (chunks[0][0], b"", 0), *chunks[7:22], (chunks[0][0], b"", 0), *chunks[23:]]

    assert_right(edit_avi(base(name, "avi"), change, tmp_path / "v.avi"), loads=False)


@pytest.mark.parametrize("mutate", [zero_packets, drop_packets, repeat_packets, jump_in_time], ids=lambda m: m.__name__)
@pytest.mark.parametrize("name, container", [("h264", "mp4"), ("mpeg4", "avi"), ("hevc", "mkv"), ("mpeg2", "ts"),
                                             ("mjpeg", "mkv"), ("vp9", "webm")])  # fmt: skip
def test_holes(name, container, mutate, base, tmp_path):
    for seed in range(2):
        assert_right(mutated(mutate, base, name, container, tmp_path, seed), loads=False, deep=[seed == 1])


# ---- Small versions of the programs


@pytest.mark.parametrize("name", RIGHT)
def test_files_with_known_faults(name):
    path = _real("faults") / name
    for deep in (False, True):
        counts, found = check(path, deep, singles=False)
        reported = counts["remux reported"]
        counts["remux reported"] = 0  # DALI's way may refuse a file; it may not be wrong
        assert counts["expected"] == RIGHT[name][0] and is_right(counts), (deep, reported, found)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_mutated_containers(part):
    cases = list(fuzz(range(part * 40, part * 40 + 40), jobs=1))
    wrong = [f"case {c.number}: {c.name}: {c.what}: {c.details[:2]}" for c in cases if "WRONG" in outcome_of(c)]
    assert not wrong, "\n".join(wrong)
    assert any(outcome_of(case) == "right" for case in cases)


def test_every_mutation_changes_what_it_should(base, tmp_path):
    """None of the mutations fails on every file that it is meant for."""
    for container, name in (("mp4", "mpeg4_b"), ("mkv", "h264"), ("avi", "mpeg4"), ("ts", "h264")):
        for mutate in set(MUTATIONS[container]):
            if name == "h264" and mutate.__name__ == "not_coded":
                continue
            path = mutated(mutate, base, name, container, tmp_path, 3)
            same = path.read_bytes() == base(name, container).read_bytes()
            assert same == (mutate.__name__ == "unharmed") or mutate.__name__ in ("key_flags", "jump_in_time"), mutate
    assert mutated(ts_joined, base, "h264", "ts", tmp_path).stat().st_size > base("h264", "ts").stat().st_size


FLIPPED = {"h264": "mp4", "hevc": "mkv", "mpeg4": "avi", "vp8": "webm", "vp9": "webm", "av1": "mkv", "mjpeg": "avi",
           "mpeg2": "ts"}  # fmt: skip


def test_nothing_is_wrong_where_no_bit_is_flipped(base):
    path = base("h264", "mp4")
    counts = load_clips(path, full_decode(path), 8, deep=False)
    assert counts["right"] == 8 and counts["frames"] == 8 * 16


@pytest.mark.slow
@pytest.mark.parametrize("name, container", FLIPPED.items())
def test_flipped_bits_are_reported_where_the_decoder_notices_them(name, container, base):
    for seed in range(3):
        for key, counts in run([base(name, container)], 12, (3, 10, 100), seed).items():
            assert counts["wrong, noticed"] == 0, (key, counts)
            assert counts["wrong, explode"] == 0, (key, counts)
