"""Whether a file is the one that was scanned: its size, its time of change, and its bytes at some places.

With a packet index, the bytes of a clip are compared with checksums in any case (indexed_file.py). Where a container is
opened instead, nothing tells its packets from those of another file: so the bytes at eight places are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dali_vidaug.media.storage import Source
from dali_vidaug.media.video import Video, bytes_of

NUM_PLACES = 8
PLACE_BYTES = 4096


def content_digest(source: Source) -> int:
    """A digest of 64 bits of a video's size and its bytes at eight places, from head to tail, as an int64.

    Of less than 32 KiB, all bytes count.

    Args:
        source: the bytes.

    Raises:
        OSError, EOFError: they cannot be read.
    """
    size = source.size
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=8)
    if size <= NUM_PLACES * PLACE_BYTES:
        places = [(0, size)]
    else:
        firsts = (place * (size - PLACE_BYTES) // (NUM_PLACES - 1) for place in range(NUM_PLACES))
        places = [(first, first + PLACE_BYTES) for first in firsts]
    for data in source.read(places):
        digest.update(data)
    return int.from_bytes(digest.digest(), "little", signed=True)


def same_time(now: int, then: int) -> bool:
    """Whether two times of change are the same, in nanoseconds; some programs that copy keep whole seconds only."""
    whole = 10**9
    return now == then or (now // whole == then // whole and (now % whole == 0 or then % whole == 0))


def check_stamp(source: Source, video: Video) -> None:
    """Refuse a file that has another size or time of change, or an object of another ETag, than the scanned one.

    Args:
        source: its bytes.
        video: its row of the manifest; what is None there is not compared.

    Raises:
        ValueError: it is another one.
    """
    if video.bytes is None:
        return
    if source.size != video.bytes:
        raise ValueError(f"changed since it was scanned: it has {source.size} bytes, and had {video.bytes}; scan again")
    then, now = video.mtime_ns, source.mtime_ns
    if then is not None and now is not None and not same_time(now, then):
        raise ValueError(
            "changed since it was scanned: it has the same size, but another time of change; scan again, or use "
            "check_files='size' if it is the same file"
        )
    if video.etag is not None and source.etag is not None and source.etag != video.etag:
        raise ValueError(
            f"changed since it was scanned: it has the same size, but the ETag {source.etag}, and had {video.etag}; "
            "scan again"
        )


def check_content(source: Source, video: Video) -> None:
    """Refuse a file that has other bytes at some places than the one that was scanned.

    Args:
        source: its bytes.
        video: its row of the manifest; without ``bytes`` and ``content_digest`` nothing is compared.

    Raises:
        OSError, EOFError: it cannot be read.
        ValueError: it is another one.
    """
    if video.bytes is None or video.content_digest is None:
        return
    if content_digest(source) != video.content_digest:
        raise ValueError("changed since it was scanned: it has as many bytes, but others; scan again")


@contextmanager
def kept_open(video: Video) -> Iterator[tuple[Source, Callable[[], None]]]:
    """Open a file that others open by its name: a context manager that gives its bytes, and a check to call before and
    after.

    The file is that of the scan when it is opened. The check raises ValueError if meanwhile it was written to, or its
    name became that of another file.

    Args:
        video: its row of the manifest; without ``bytes`` nothing is compared.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not the file that was scanned.
    """
    with bytes_of(video) as source:
        if video.bytes is None:
            yield source, lambda: None
            return
        check_stamp(source, video)
        check_content(source, video)
        before = source.identity()
        yield source, lambda: check_same(source, before)


def check_same(source: Source, before: tuple[Any, ...]) -> None:
    """Refuse a file that was replaced or written to while it was read.

    Args:
        source: its bytes.
        before: its ``identity`` when it was opened.

    Raises:
        OSError: the name is gone.
        ValueError: it was changed.
    """
    if not source.is_still(before):
        raise ValueError("changed since it was scanned, while it was read; scan again")
