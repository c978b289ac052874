"""Where the bytes of a video are, and how those of local files are read: all of a file, or a part of one."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

# To open a named pipe that took the place of a file does not wait for a writer.
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class Place(NamedTuple):
    """Where the bytes of a video are.

    Attributes:
        path: a file, complete: a path or a URL.
        first: byte of the file where they begin, >= 0.
        size: how many; None: all up to the end of the file.
        name: what a file of these bytes is called, by which FFmpeg guesses what it is; None: as ``path``.
    """

    path: str
    first: int = 0
    size: int | None = None
    name: str | None = None


class Source(Protocol):
    """Bytes that can be read at any place, from ``open_bytes``. Places are counted from the first of them.

    Attributes:
        path: of the file, for messages.
        name: what a file of these bytes is called.
        size: bytes.
        mtime_ns: when the file was changed, nanoseconds; None: nothing tells.
        etag: what a server calls this version of an object; None: a file.
    """

    path: str
    name: str
    size: int
    mtime_ns: int | None
    etag: str | None

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[Any]:
        """The bytes of ranges [first, last), each as something that ``memoryview`` takes.

        Raises:
            OSError: they cannot be read.
            EOFError: it ends before one of them.
        """

    def identity(self) -> tuple[Any, ...]:
        """What differs between two files, and before and after a file is written to."""

    def is_still(self, identity: tuple[Any, ...]) -> bool:
        """Whether it has this ``identity``, and its path is still that of it.

        Raises:
            OSError: there is no such file any more.
        """

    def as_file(self) -> Any:
        """What ``av.open`` takes: the path of a whole file, else a binary file object, at its beginning."""


class LocalSource:
    """A file on a disk, or a part of one: see ``Source``.

    Args:
        place: of the bytes.

    Raises:
        OSError: the file cannot be opened.
    """

    etag: str | None = None

    def __init__(self, place: Place):
        self.path, self.name = place.path, place.name or place.path
        self._first, self._is_whole = place.first, not place.first and place.size is None
        self._file = os.open(place.path, OPEN_FLAGS)
        stat = os.fstat(self._file)
        self.size = stat.st_size - place.first if place.size is None else place.size
        self.mtime_ns: int | None = stat.st_mtime_ns

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[Any]:
        """As of ``Source``."""
        return [self._read(first, last) for first, last in ranges]

    def _read(self, first, last):
        data = os.pread(self._file, last - first, self._first + first) if last <= self.size else b""
        if len(data) < last - first:
            raise EOFError(f"changed since it was scanned: it ends before byte {last}; scan again")
        return data

    def identity(self) -> tuple[Any, ...]:
        """As of ``Source``."""
        return _identity(os.fstat(self._file))

    def is_still(self, identity: tuple[Any, ...]) -> bool:
        """As of ``Source``."""
        return self.identity() == identity == _identity(os.stat(self.path))  # noqa: PTH116 (called for every clip)

    def as_file(self) -> Any:
        """As of ``Source``."""
        return self.path if self._is_whole else SourceFile(self)


def _identity(stat):
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


class SourceFile(io.RawIOBase):
    """A ``Source`` as a binary file object that is read only. To close it leaves the source open."""

    def __init__(self, source: Source):
        self.name = os.path.basename(source.name)  # noqa: PTH119 (FFmpeg looks at the extension)
        self._source, self._at = source, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Read on from another place."""
        self._at = max(0, {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read on."""
        with memoryview(buffer).cast("B") as view:
            last = min(self._at + len(view), self._source.size)
            if last <= self._at:
                return 0
            (data,) = self._source.read([(self._at, last)])
            view[: last - self._at] = data
        count, self._at = last - self._at, last
        return count
