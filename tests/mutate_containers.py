"""Ways to spoil a small video, for ``fuzz_containers.py``: each takes random numbers and writes another file.

A mutation is ``mutate(rng, base, target, other)``: ``base`` is the path of a good file, ``other`` a function that gives
the path of another good file with the same codec and container. It returns what it did, or raises where it cannot.
"""

from __future__ import annotations

import shutil
import struct

import dirty
from dirty import STBL, edit_boxes, find_box, read_table, write_table
from mutate_packets import JUNK, ORIENTATIONS, PACKETS, display_matrix, some

# ---- Bytes


def truncated(rng, base, target, other):
    data = base.read_bytes()
    size = int(rng.integers(len(data) // 3, len(data)))
    target.write_bytes(data[:size])
    return f"cut off after {size} of {len(data)} bytes"


def flipped_bits(rng, base, target, other):
    data = bytearray(base.read_bytes())
    at = [int(i) for i in some(rng, len(data), 4)]
    for i in at:
        data[i] ^= 1 << int(rng.integers(8))
    target.write_bytes(data)
    return f"bits flipped in bytes {at} of {len(data)}"


def hole_of_zeros(rng, base, target, other):
    data = bytearray(base.read_bytes())
    first, size = int(rng.integers(len(data) // 4, len(data) * 3 // 4)), int(rng.integers(8, 600))
    data[first : first + size] = bytes(len(data[first : first + size]))
    target.write_bytes(data)
    return f"zeros in bytes {first} to {first + size - 1}"


# ---- MP4 and MOV


def _boxes(change):
    def mutate(rng, base, target, other):
        said = []
        edit_boxes(base, lambda boxes: said.append(change(rng, boxes)), target)
        return said[0]

    mutate.__name__, mutate.__wrapped__ = change.__name__, change
    return mutate


def _table(boxes, name):
    return find_box(boxes, *STBL, name)


@_boxes
def no_stss(rng, boxes):
    stbl = find_box(boxes, *STBL)[1]
    stbl[:] = [box for box in stbl if box[0] != b"stss"]
    return "no stss"


@_boxes
def random_stss(rng, boxes):
    box, count = _table(boxes, b"stss"), struct.unpack_from(">I", _table(boxes, b"stsz")[1], 8)[0]
    rows = sorted({int(i) for i in rng.integers(1, count + 1, rng.integers(1, 9))})
    box[1] = write_table([(i,) for i in rows])
    return f"stss {rows}"


@_boxes
def random_ctts(rng, boxes):
    box = _table(boxes, b"ctts")
    rows = read_table(box[1], 2)
    at = some(rng, len(rows), 4)
    rows = [(n, int(rng.integers(-2, 6)) * 512 if i in at else offset) for i, (n, offset) in enumerate(rows)]
    box[1] = write_table(rows, version=1)
    return f"ctts rows {at} changed"


@_boxes
def no_ctts(rng, boxes):
    stbl = find_box(boxes, *STBL)[1]
    if not any(box[0] == b"ctts" for box in stbl):
        raise ValueError("no ctts")
    stbl[:] = [box for box in stbl if box[0] != b"ctts"]
    return "no ctts"


@_boxes
def random_stts(rng, boxes):
    box = _table(boxes, b"stts")
    count, step = sum(n for n, _ in read_table(box[1], 2)), read_table(box[1], 2)[0][1]
    deltas = [
        step if rng.random() < 0.8 else int(rng.choice([0, 1, step // 3, 2 * step, 40 * step])) for _ in range(count)
    ]
    box[1] = write_table([(1, d) for d in deltas])
    return "stts with other steps"


@_boxes
def edit_list(rng, boxes):
    timescale = struct.unpack_from(">I", find_box(boxes, b"moov", b"trak", b"mdia", b"mdhd")[1], 12)[0]
    frames = sum(n for n, _ in read_table(_table(boxes, b"stts")[1], 2))
    edits = []
    for _ in range(int(rng.integers(1, 4))):
        start, length = int(rng.integers(frames)), int(rng.integers(1, frames))
        gap = rng.random() < 0.15
        rate = float(rng.choice([1, 1, 1, 1, 0, 2, 0.5]))
        edits.append((length * 1000 // dirty.FPS, -1 if gap else start * timescale // dirty.FPS, rate))
    dirty.set_edits(boxes, edits)
    return f"edits (ms, media start, rate) {edits}"


@_boxes
def track_matrix(rng, boxes):
    matrix = (ORIENTATIONS + JUNK)[rng.integers(len(ORIENTATIONS + JUNK))]
    dirty.set_matrix(boxes, *matrix)
    return f"tkhd matrix {matrix}"


@_boxes
def decoder_settings(rng, boxes):
    box = _table(boxes, b"stsd")
    names = (b"avcC", b"hvcC", b"esds", b"vpcC", b"av1C")
    found = [box[1].index(name) for name in names if name in box[1]]
    first = found[0] + 4 if found else 40
    body = bytearray(box[1])
    at = [first + i for i in some(rng, len(body) - first, 3)]
    for i in at:
        body[i] ^= 1 << int(rng.integers(8))
    box[1] = bytes(body)
    return f"bits of the decoder's settings flipped in bytes {[i - first for i in at]}"


@_boxes
def sample_sizes(rng, boxes):
    box = _table(boxes, b"stsz")
    sizes = [row[0] for row in [struct.unpack_from(">I", box[1], 12 + 4 * i) for i in range((len(box[1]) - 12) // 4)]]
    at = some(rng, len(sizes), 3)
    sizes = [max(0, n + int(rng.integers(-60, 60))) if i in at else n for i, n in enumerate(sizes)]
    box[1] = box[1][:12] + struct.pack(f">{len(sizes)}I", *sizes)
    return f"sizes of samples {at} changed"


# ---- AVI


def avi_flags(rng, base, target, other):
    share = rng.choice([0.3, 1.0])
    dirty.edit_avi(base, lambda chunks: [(n, c, 16 * bool(rng.random() < share)) for n, c, _ in chunks], target)
    return f"key flags in {share:.0%} of the index"


def avi_empty_chunks(rng, base, target, other):
    places = []

    def change(chunks):
        places.extend(some(rng, len(chunks)))
        replaced = rng.random() < 0.5
        out = []
        for i, chunk in enumerate(chunks):
            out += [(chunk[0], b"", 0)] if i in places else []
            out += [] if replaced and i in places else [chunk]
        return out

    dirty.edit_avi(base, change, target)
    return f"empty chunks before {places}"


# ---- Transport streams


def ts_joined(rng, base, target, other):
    parts = [base, other("settings") if rng.random() < 0.6 else base, *([other("seed")] if rng.random() < 0.3 else [])]
    order = rng.permutation(len(parts))
    target.write_bytes(b"".join(parts[i].read_bytes() for i in order))
    return f"joined with cat: {[parts[i].parent.name for i in order]}"


def ts_lost_packets(rng, base, target, other):
    data = base.read_bytes()
    pieces = [data[i : i + 188] for i in range(0, len(data), 188)]
    gone = some(rng, len(pieces))
    target.write_bytes(b"".join(piece for i, piece in enumerate(pieces) if i not in gone))
    return f"TS packets {gone} of {len(pieces)} lost"


def ts_begins_late(rng, base, target, other):
    data = base.read_bytes()
    first = int(rng.integers(len(data) // 188 * 2 // 3)) * 188
    target.write_bytes(data[: 188 * 3] + data[first:])
    return f"begins at byte {first}"


def unharmed(rng, base, target, other):
    shutil.copy(base, target)
    return "nothing"


BYTES = (truncated, flipped_bits, hole_of_zeros, unharmed)
MP4 = (no_stss, random_stss, random_ctts, no_ctts, random_stts, edit_list, edit_list, track_matrix, decoder_settings,
       sample_sizes)  # fmt: skip
MUTATIONS = {
    "mp4": (*PACKETS, *MP4, *BYTES), "mov": (*PACKETS, *MP4, *BYTES), "mkv": (*PACKETS, display_matrix, *BYTES),
    "webm": (*PACKETS, display_matrix, *BYTES), "avi": (*PACKETS, avi_flags, avi_empty_chunks, *BYTES),
    "ts": (*PACKETS, ts_joined, ts_joined, ts_lost_packets, ts_begins_late, *BYTES),
}  # fmt: skip


def mutations_for(container: str):
    """The mutations that a container allows."""
    return MUTATIONS.get(container, (*PACKETS[:3], *BYTES))
