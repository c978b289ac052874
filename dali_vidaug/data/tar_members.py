"""What lies where in a tar file, by its headers alone: nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from dali_vidaug.media.storage import Source, SourceFile

BLOCK = tarfile.BLOCKSIZE
LARGEST_READ = 1 << 24  # bytes of a member that is read as text or JSON
_WINDOW = 1 << 14  # bytes that are read at once: a header, small members behind it, and the next header
_TAIL = 1 << 20  # bytes after the end that are looked at
_COMPRESSED = {  # the first bytes of what tar files are compressed with
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress",
}  # fmt: skip


class Member(NamedTuple):
    """A member of a tar file.

    Attributes:
        name: without ``./`` and ``/`` before it.
        first, size: where its bytes are in the tar file.
        error: why it cannot be used by place, or None.
        data: its bytes, where they were asked for.
    """

    name: str
    first: int
    size: int
    error: str | None = None
    data: bytes | None = None


class Contents(NamedTuple):
    """What a tar file has.

    Attributes:
        members: files, links and whatever else has a name, but no folders; in the order of the file.
        problem: why it was not read to its end, or what is suspect about the end; None: nothing.
    """

    members: list[Member]
    problem: str | None


class _Window(SourceFile):
    """A source as a file that is read a window at a time; a large one where the last ended at most ``near`` before."""

    def __init__(self, source: Source, near: int):
        super().__init__(source)
        self._begin, self._data, self._near = 0, memoryview(b""), near

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        rest = max(0, self._source.size - self._at)
        count = rest if size < 0 else min(size, rest)
        data = self.at(self._at, count)
        self._at += count
        return data

    def at(self, first: int, size: int) -> bytes:
        """Bytes at a place, which must be in the source."""
        if not self._begin <= first <= first + size <= self._begin + len(self._data):
            is_near = 0 <= first - self._begin - len(self._data) < self._near
            last = max(first + size, min(first + (self._near if is_near else _WINDOW), self._source.size))
            (data,) = self._source.read([(first, last)])
            self._begin, self._data = first, memoryview(data)
        return bytes(self._data[first - self._begin : first - self._begin + size])


def read_members(source: Source, wanted: Callable[[str], bool], near: int = 0) -> Contents:
    """List the members of a tar file: ustar, pax, GNU or old.

    Args:
        source: of the tar file.
        wanted: whether the bytes of a member of this name are to be read.
        near: bytes that take no longer to read than another request does: where headers are nearer to each other, what
            is between them is read along.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no tar file, or it is compressed.
    """
    window = _Window(source, near)
    head = window.at(0, min(BLOCK, source.size))
    packed = next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)
    if packed is not None:
        raise ValueError(
            f"it is compressed with {packed}, so its members cannot be read by place; decompress it, which takes "
            "hardly more space: videos are compressed already"
        )
    members: list[Member] = []
    try:
        tar = tarfile.open(fileobj=window, mode="r:", encoding="utf-8", errors="surrogateescape")
    except tarfile.TarError as error:
        raise ValueError("it is empty" if not source.size else f"it is no tar file ({error})") from error
    with tar:
        problem = _read_all(tar, window, source.size, wanted, members)
    return Contents(members, problem)


def _read_all(tar, window, size, wanted, members):
    """Put all members to ``members``; returns the problem, or None."""
    while True:
        before, tar.members = tar.offset, []  # tarfile would keep all
        try:
            info = tar.next()
        except (tarfile.TarError, EOFError, ValueError) as error:
            return _end(window, before, size) if before >= size else f"it is damaged at byte {before} ({error})"
        if info is None:
            return _end(window, tar.offset, size)
        if {"path", "size", "linkpath"} & set(tar.pax_headers):
            return "a global header sets names or sizes of members, which is not read"
        if tar.offset <= info.offset or info.size < 0:
            return f"it is damaged at byte {info.offset} (a size that cannot be)"
        if not info.isdir():
            members.append(_member(info, window, size, wanted))


def _end(window, at, size):
    """What is suspect about the end of a tar file, at this byte; None: nothing."""
    if at > size + BLOCK:
        return f"it is cut off at byte {size}, within a member"
    if at >= size:
        return f"it ends at byte {size} without the mark of an end, so it may be cut off"
    block = window.at(at, min(BLOCK, size - at))
    if block.strip(b"\0"):
        return f"it is damaged: at byte {at} is no header; what follows is not read"
    rest = window.at(at, min(_TAIL, size - at))
    if rest.strip(b"\0"):
        return f"after its end at byte {at} there is more, which is not read, as of tar files that were joined by cat"
    return None


def _member(info, window, size, wanted):
    name = "/".join(part for part in info.name.split("/") if part not in ("", "."))
    error = _problem(info, window, size)
    data = None
    if error is None and wanted(name):
        if info.size > LARGEST_READ:
            error = f"it has {info.size} bytes, too many to be read as text"
        else:
            data = window.at(info.offset_data, info.size)
    return Member(name, info.offset_data, info.size, error, data)


def _problem(info, window, size):
    """Why a member cannot be read by place, or None."""
    if info.issym() or info.islnk():
        kind = "symbolic" if info.issym() else "hard"
        option = "--dereference" if info.issym() else "--hard-dereference"
        return f"it is a {kind} link to {info.linkname}, which the tar file has no bytes of; tar {option} stores files"
    if info.issparse():
        return "it is stored as a sparse file, so its bytes are not in one piece; tar without --sparse stores files"
    if not info.isreg():
        return "it is no file"
    if info.offset_data + info.size > size:
        return f"it is cut off: the tar file ends at byte {size}, and it would at byte {info.offset_data + info.size}"
    if not _is_header(window.at(info.offset_data - BLOCK, BLOCK), info):
        return "what is before its bytes is not its header"
    return None


def _is_header(block, info):
    """Whether a block is the header of this file, by its own sum, kind, size and name."""
    with suppress(ValueError):
        total = int(block[148:156].strip(b" \0") or b"0", 8)
        field = block[124:136]
        size = int.from_bytes(field[1:], "big") if field[0] & 0x80 else int(field.strip(b" \0") or b"0", 8)
        if total != sum(block) - sum(block[148:156]) + 8 * 32 or block[156:157] not in b"\x0007":
            return False
        if size != info.size and "size" not in info.pax_headers:
            return False
        name, whole = block[:100].split(b"\0")[0], info.name.encode("utf-8", "surrogateescape")
        is_short = len(name) >= 99 and whole.startswith(name)  # of GNU: the long name is in a header before
        return "path" in info.pax_headers or is_short or whole.endswith(name)
    return False
