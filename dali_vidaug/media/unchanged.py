"""Whether a file is the one that was scanned: its size, its time of change, and its bytes at some places.

With a packet index, the bytes of a clip are compared with checksums in any case (indexed_file.py). Where a container is
opened instead, nothing tells its packets from those of another file: so the bytes at eight places are compared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dali_vidaug.media.video import Video

NUM_PLACES = 8
PLACE_BYTES = 4096
# To open a named pipe that took the place of a file does not wait for a writer.
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def content_digest(file: int, size: int) -> int:
    """A digest of 64 bits of a file's size and its bytes at eight places, from head to tail, as an int64.

    Of a file of less than 32 KiB, all bytes count.

    Args:
        file: its descriptor.
        size: bytes.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=8)
    if size <= NUM_PLACES * PLACE_BYTES:
        digest.update(os.pread(file, size, 0))
    else:
        for place in range(NUM_PLACES):
            digest.update(os.pread(file, PLACE_BYTES, place * (size - PLACE_BYTES) // (NUM_PLACES - 1)))
    return int.from_bytes(digest.digest(), "little", signed=True)


def same_time(now: int, then: int) -> bool:
    """Whether two times of change are the same, in nanoseconds; some programs that copy keep whole seconds only."""
    whole = 10**9
    return now == then or (now // whole == then // whole and (now % whole == 0 or then % whole == 0))


def check_stamp(file: int, video: Video) -> None:
    """Refuse an open file that has another size or time of change than the one that was scanned.

    Args:
        file: its descriptor.
        video: its row of the manifest; what is None there is not compared.

    Raises:
        ValueError: it is another one.
    """
    if video.bytes is None:
        return
    stat = os.fstat(file)
    if stat.st_size != video.bytes:
        raise ValueError(
            f"changed since it was scanned: it has {stat.st_size} bytes, and had {video.bytes}; scan again"
        )
    if video.mtime_ns is not None and not same_time(stat.st_mtime_ns, video.mtime_ns):
        raise ValueError(
            "changed since it was scanned: it has the same size, but another time of change; scan again, or use "
            "check_files='size' if it is the same file"
        )


def check_content(file: int, video: Video) -> None:
    """Refuse an open file that has other bytes at some places than the one that was scanned.

    Args:
        file: its descriptor.
        video: its row of the manifest; without ``bytes`` and ``content_digest`` nothing is compared.

    Raises:
        OSError: it cannot be read.
        ValueError: it is another one.
    """
    if video.bytes is None or video.content_digest is None:
        return
    if content_digest(file, video.bytes) != video.content_digest:
        raise ValueError("changed since it was scanned: it has as many bytes, but others; scan again")


def identity(stat: os.stat_result) -> tuple[int, ...]:
    """What differs between two files, and before and after a file is written to."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


@contextmanager
def kept_open(video: Video) -> Iterator[Callable[[], None]]:
    """Open a file that others open by its name: a context manager that gives a check to call before and after.

    The file is that of the scan when it is opened. The check raises ValueError if meanwhile it was written to, or its
    name became that of another file.

    Args:
        video: its row of the manifest; without ``bytes`` nothing is compared.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not the file that was scanned.
    """
    if video.bytes is None:
        yield lambda: None
        return
    file = os.open(video.path, OPEN_FLAGS)
    try:
        check_stamp(file, video)
        check_content(file, video)
        before = identity(os.fstat(file))
        yield lambda: check_same(file, video.path, before)
    finally:
        os.close(file)


def check_same(file: int, path: str | os.PathLike[str], before: tuple[Any, ...]) -> None:
    """Refuse a file that was replaced or written to while it was read.

    Args:
        file: its descriptor.
        path: the name that it was opened by.
        before: its ``identity`` then.

    Raises:
        OSError: the name is gone.
        ValueError: it was changed.
    """
    if identity(os.fstat(file)) != before or identity(os.stat(path)) != before:  # noqa: PTH116 (called for every clip)
        raise ValueError("changed since it was scanned, while it was read; scan again")
