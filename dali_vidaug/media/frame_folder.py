"""Folders of images as videos: measured by a scan, and read frame by frame.

Frame i is the image whose number is the first one's plus i (times the distance of numbers, where that is not 1). So a
missing number is a missing frame, and no frame after it moves: clips keep away from it, as from damaged frames.

A folder has an index: the names of its images, the size of each file and the CRC-32 of its bytes. An image that is read
is compared with them: what is not the image of the scan is an error.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.errors import one_line, printable
from dali_vidaug.media.image_names import Names, Numbered, names_of, numbered
from dali_vidaug.media.images import Encoded, Look, decode_image, look_at
from dali_vidaug.media.index import DamagedIndexError, Index
from dali_vidaug.media.place import OPEN_FLAGS
from dali_vidaug.media.video import IMAGES, Video

_DAMAGED_MAX = 0.9  # of the frames, as of those of a video
_NAMED = 3  # images in a note
_LARGEST = 1 << 30  # bytes of an image
_NUMBER_MAX = 2**62  # of an image; manifests have 64 bits for it
_HEAD = struct.Struct("<III")  # of an index


class State(NamedTuple):
    """What tells whether the images of a folder changed: bytes of all, the latest time of change, a digest."""

    bytes: int
    mtime_ns: int
    content_digest: int


def list_images(folder: str | os.PathLike[str], pattern: str | None = None) -> Numbered:
    """The frames in a folder; ``pattern`` as of ``numbered``.

    Raises:
        OSError: the folder cannot be read.
        ValueError: as ``numbered``.
    """
    return numbered(os.listdir(folder), pattern)  # noqa: PTH208 (names alone, of many files)


def state_of(folder: str | os.PathLike[str], names: Sequence[str]) -> State:
    """The state of some images of a folder, by their names, sizes and times of change.

    Raises:
        OSError: one cannot be looked at.
    """
    stats = [os.stat(os.path.join(folder, name)) for name in names]  # noqa: PTH116, PTH118 (of each image)
    digest = blake2b(digest_size=8)
    for name, stat in zip(names, stats, strict=True):
        digest.update(f"{name}/{stat.st_size}/{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    number = int.from_bytes(digest.digest(), "little", signed=True)
    return State(sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats), number)


def measure_folder(folder: Path, deep: bool = False, pattern: str | None = None) -> dict[str, Any]:
    """Measure a folder of images.

    Args:
        folder: where they are.
        deep: decode every image; otherwise headers and ends of files tell what they are.
        pattern: which of them are frames, such as ``img_*.jpg``.

    Returns:
        The measured columns of a manifest by name, without a frame rate, and "index".

    Raises:
        OSError, ValueError: it cannot be read, has no frames, or most of them cannot be used.
    """
    found = list_images(folder, pattern)
    if found.numbers[-1] > _NUMBER_MAX:
        raise ValueError(f"its images have numbers that are too large, up to {found.numbers[-1]}")
    before = state_of(folder, found.names)
    looks, problems, sizes, checks = _look_at_all(folder, found, deep)
    if not looks:
        raise ValueError(f"none of its images can be used; the first: {problems[0]}")
    size = Counter((look.width, look.height, look.orientation) for look in looks.values()).most_common(1)[0][0]
    same = {name: look for name, look in looks.items() if (look.width, look.height, look.orientation) == size}
    others = [name for name in looks if name not in same]
    if others:
        kinds = _described(looks[others[0]]), _described(next(iter(same.values())))
        problems.append(f"{_some(others)}: {kinds[0]}, others {kinds[1]}")
    notes = [*_missing(found), *problems[:_NAMED], *_notes(found, same.values())]
    notes += [f"{len(problems) - _NAMED} more images that cannot be used"] if len(problems) > _NAMED else []
    if len(same) < (1 - _DAMAGED_MAX) * found.num_frames:
        raise ValueError(f"most frames cannot be used ({'; '.join(notes)})")
    if state_of(folder, list_images(folder, pattern).names) != before:
        raise ValueError("it was changed while it was scanned; scan again")
    sizes[[index for index, name in _by_index(found) if name not in same]] = 0
    usable = np.concatenate([[True], sizes > 0, [True]])
    damaged = np.flatnonzero(usable[1:] != usable[:-1]).tolist()
    return {
        "width": size[0], "height": size[1], "orientation": size[2], "codec": IMAGES, "pixel_format": "rgb24",
        "colorspace": 0, "stream": 0, "num_frames": found.num_frames, "keyframes": [], "regular": True,
        "pts_first": found.numbers[0], "pts_step": float(found.step), "pts": None, "damaged": damaged,
        "notes": printable("; ".join(notes)) or None, "index": _pack(names_of(found), sizes, checks),
        "packet_index": None, "no_packet_index": None, "fps": None, "time_base": None, "duration_seconds": None,
        "etag": None, **before._asdict(),
    }  # fmt: skip


def with_rate(row: dict[str, Any], fps: float | None) -> dict[str, Any]:
    """The row of a folder of images that are ``fps`` frames a second, or whose times are not known."""
    if fps is None:
        return {**row, "fps": None, "time_base": None, "duration_seconds": None}
    return {**row, "fps": fps, "time_base": 1 / (fps * row["pts_step"]), "duration_seconds": row["num_frames"] / fps}


def _look_at_all(folder, found, deep):
    """What the images that can be used look like, by name; what is wrong with others; sizes and checksums by frame."""
    looks: dict[str, Look] = {}
    problems: list[str] = []
    sizes, checks = np.zeros(found.num_frames, "<u4"), np.zeros(found.num_frames, "<u4")
    for index, name in _by_index(found):
        try:
            data = _read_file(folder / name, _LARGEST)
            if len(data) > _LARGEST:
                raise ValueError("it is larger than 1 GiB")
            look = look_at(data)
            if deep:
                decode_image(data)
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {one_line(error)}")
        else:
            looks[name], sizes[index], checks[index] = look, len(data), zlib.crc32(data)
    return looks, problems, sizes, checks


def _by_index(found: Numbered) -> Iterator[tuple[int, str]]:
    """The index in the video, and the name, of each image that is there."""
    for number, name in zip(found.numbers, found.names, strict=True):
        yield (number - found.numbers[0]) // found.step, name


def _described(look: Look) -> str:
    turned = f", EXIF orientation {look.orientation}" if look.orientation != 1 else ""
    return f"{look.width}x{look.height}{turned}"


def _some(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(map(str, names[:_NAMED]))}{more}"


def _missing(found: Numbered) -> Iterator[str]:
    """A sentence on numbers between the first and the last one that are missing."""
    count = found.num_frames - len(found.numbers)
    if count:
        there, step = set(found.numbers), found.step
        every = range(found.numbers[0], found.numbers[-1] + 1, step)
        some = ", ".join(map(str, islice((n for n in every if n not in there), _NAMED)))
        yield f"image numbers that are missing: {some}{f' and {count - _NAMED} more' if count > _NAMED else ''}"


def _notes(found: Numbered, looks: Iterable[Look]) -> Iterator[str]:
    """Sentences on what is odd about images that are used."""
    if found.numbers[0] > 1:
        yield f"its first image has the number {found.numbers[0]}, which is frame 0"
    if found.step > 1:
        yield f"its images are numbered in steps of {found.step}: each is the frame after the one before"
    yield from (f"left out: {what}" for what in found.left_out)
    if any(look.has_alpha for look in looks):
        yield "images with transparency, which is left out"


def _pack(names: Names, sizes: np.ndarray, checks: np.ndarray) -> Index:
    """The index of a folder: of names a checksum, their length, and them; then sizes and checksums of all frames."""
    text = zlib.compress(json.dumps(names).encode())
    data = _HEAD.pack(zlib.crc32(text), len(text), len(sizes)) + text + sizes.tobytes() + checks.tobytes()
    return Index(b"images", data)


class Files(NamedTuple):
    """What an index says of the files of frames.

    Attributes:
        names: of them.
        sizes: (num_frames,) bytes; 0: the frame cannot be used.
        checks: (num_frames,) CRC-32.
    """

    names: Names
    sizes: np.ndarray
    checks: np.ndarray


def files_of(index: Index) -> Files:
    """What the index of a folder says.

    Raises:
        DamagedIndexError: it contradicts itself.
    """
    data = memoryview(index.packets)
    try:
        check, length, count = _HEAD.unpack_from(data)
        text = data[_HEAD.size : _HEAD.size + length]
        sizes, checks = np.frombuffer(data, "<u4", 2 * count, _HEAD.size + length).reshape(2, count)
    except (struct.error, ValueError) as error:
        raise DamagedIndexError("it is cut off") from error
    if zlib.crc32(text) != check:
        raise DamagedIndexError("names of images")
    return Files(Names(*json.loads(zlib.decompress(text))), sizes, checks)


def read_images(video: Video, frames: Sequence[int], seconds: MutableMapping[str, float]) -> Iterator[tuple[Any, int]]:
    """Read some frames of a folder of images, and no other file: yields (``Encoded``, index of the frame).

    Args:
        video: its row of the manifest.
        frames: their indices.
        seconds: processor time for reading is added to "read".

    Raises:
        ValueError: an image cannot be read, or is not the one that was scanned.
    """
    if video.packet_index is None:
        raise ValueError(
            "the names of its images are in the packet index, which is not beside the manifest; scan again"
        )
    files = files_of(video.packet_index)
    for index in frames:
        if not 0 <= index < min(video.num_frames, len(files.sizes)):
            raise ValueError(f"frame {index} is not in [0, {video.num_frames})")
        name = files.names.of(int(video.pts_first) + index * int(video.pts_step), index)  # type: ignore[arg-type]
        if not files.sizes[index]:
            raise ValueError(f"frame {index} ({name}) was missing or damaged when the folder was scanned")
        before = time.thread_time()
        try:
            data = _read_file(os.path.join(video.path, name), int(files.sizes[index]))  # noqa: PTH118 (of each frame)
        except (OSError, ValueError) as error:
            raise ValueError(f"frame {index} ({name}): {one_line(error)}") from error
        changed = zlib.crc32(data) != files.checks[index]
        seconds["read"] += time.thread_time() - before
        if changed:
            raise ValueError(f"frame {index} ({name}) was changed since it was scanned; scan again")
        yield Encoded(data, f"frame {index} ({name})"), index


def _read_file(path, size):
    """The bytes of a file: not more than there may be, and one more, which tells that there are.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file.
    """
    with os.fdopen(os.open(path, OPEN_FLAGS), "rb") as file:  # a named pipe in its place is not waited for
        stat = os.fstat(file.fileno())
        if not S_ISREG(stat.st_mode):
            raise ValueError("it is not a regular file")
        return file.read(min(size, stat.st_size) + 1)  # memory is taken for so many at once
