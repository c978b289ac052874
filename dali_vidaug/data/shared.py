"""A large manifest's rows in a file that is mapped to memory, so that the processes of a machine share them.

The file is a copy of the manifest's Parquet file, beside it: two Arrow streams. One has the columns of numbers that
plans are drawn from, each in one piece, the other all other columns, in pieces of rows. Checksums of both follow.
It is written with the manifest or, where it is missing, damaged or of another file, when that is read. It has the key
of its Parquet file, which is made of all bytes of that: with another key it is not used.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dali_vidaug.data.atomic import written_whole

SHARED_LEAST = 1 << 18  # rows; a smaller manifest is read into memory
WHOLE = ("label", "first_frame", "last_frame", "width", "height", "orientation", "fps")  # columns in one piece
_RELEASED_EACH = 128  # rows: Linux maps some 150 KB around the values of each
_BLOCK = 1 << 24  # bytes of a file that have a checksum together
_STEP = 1 << 16  # bytes of it that are read at once; malloc keeps what larger buffers took
_THREADS = 4  # that read
_LENGTH = 8  # bytes at the end of a copy: how many come before its checksums

log = logging.getLogger("dali_vidaug")


class ChangedError(ValueError):
    """A file was written to while it was read."""


@dataclass
class Shared:
    """A table in a mapped file.

    Attributes:
        table: its columns are views of the file.
        path: the manifest's Parquet file.
        key: from ``key_of``, of the Parquet file of which this is the copy.
        mapped: the mapping.
        num_read: rows that were looked up since pages were given back.
    """

    table: pa.Table
    path: str
    key: str
    mapped: mmap.mmap
    num_read: int = 0

    def count(self, rows: int) -> None:
        """Rows were looked up: give their pages back now and then."""
        self.num_read += rows
        if self.num_read >= _RELEASED_EACH:
            self.release()

    def release(self) -> None:
        """Give the pages that were touched back to the system's cache. Views stay valid: they are mapped again."""
        self.num_read = 0
        self.mapped.madvise(mmap.MADV_DONTNEED)


def copy_path(path: str | os.PathLike[str]) -> str:
    """Where the copy of a manifest's Parquet file is."""
    return f"{os.fspath(path)}.arrow"


def stamp_of(file: Any) -> tuple[int, int]:
    """Size and time of change of an open file."""
    stat = os.fstat(file.fileno())
    return stat.st_size, stat.st_mtime_ns


def key_of(file: Any) -> str:
    """What tells a Parquet file from any other: a digest of checksums of all its bytes, and of its footer.

    Times do not matter, nor do clocks.

    Args:
        file: open for reading, in binary.
    """
    size = os.fstat(file.fileno()).st_size
    tail = os.pread(file.fileno(), 8, max(0, size - 8))
    length = int.from_bytes(tail[:4], "little") if tail[4:] == b"PAR1" else 0
    footer = os.pread(file.fileno(), length + 8, max(0, size - 8 - length))
    return hashlib.blake2b(b"%d " % size + checksums(file, size) + footer, digest_size=16).hexdigest()


def checksums(file: Any, size: int) -> bytes:
    """The CRC-32 of each 16 MiB of the first ``size`` bytes of a file, one after the other, 4 bytes each."""

    def check(first):
        last, value = min(first + _BLOCK, size), 0
        for at in range(first, last, _STEP):
            value = zlib.crc32(os.pread(file.fileno(), min(_STEP, last - at), at), value)
        return value.to_bytes(4, "little")

    with ThreadPoolExecutor(min(_THREADS, len(os.sched_getaffinity(0))), "checksum") as pool:
        return b"".join(pool.map(check, range(0, size, _BLOCK)))


def map_copy(path: str, key: str) -> Shared | None:
    """The copy of a Parquet file, mapped to memory; None if it is not there, damaged, or the copy of another one.

    Args:
        path: the Parquet file.
        key: from ``key_of``.
    """
    with suppress(OSError, ValueError, pa.ArrowException), open(copy_path(path), "rb") as file:  # noqa: PTH123
        return _map(file, path, key) if _is_whole(file) else None  # first: Arrow trusts what it reads
    return None


def _is_whole(file):
    """Whether the checksums at the end of a copy are those of what comes before."""
    total = os.fstat(file.fileno()).st_size
    size = int.from_bytes(os.pread(file.fileno(), _LENGTH, max(0, total - _LENGTH)), "little")
    length = -(-size // _BLOCK) * 4
    return size + length + _LENGTH == total and os.pread(file.fileno(), length, size) == checksums(file, size)


def _map(file, path, key):
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = pa.BufferReader(pa.py_buffer(mapped))
    with pa.ipc.open_stream(reader) as stream:
        metadata = stream.schema.metadata or {}
        if metadata.get(b"dali_vidaug") != key.encode():
            return None
        names, rows = metadata[b"columns"].decode().split("\n"), int(metadata[b"rows"])
        whole = stream.read_all()
    with pa.ipc.open_stream(reader) as stream:
        rest = stream.read_all()
    if not len(whole) == len(rest) == rows:
        return None
    table = pa.Table.from_arrays(
        [(whole if name in WHOLE else rest)[name] for name in names],
        schema=pa.schema([(whole if name in WHOLE else rest).schema.field(name) for name in names]),
    )
    return Shared(table, os.path.abspath(path), key, mapped)  # noqa: PTH100


def share(file: Any, parquet: pq.ParquetFile) -> Shared | None:
    """The mapped copy of a manifest's Parquet file; it is written first if need be, by one process for all.

    Args:
        file: the Parquet file, open for reading, in binary, by its name.
        parquet: of ``file``.

    Returns:
        The copy; None where the file has fewer than ``SHARED_LEAST`` rows, or, with a line in the log, where no copy
        can be written.

    Raises:
        OSError, pa.ArrowException: the file cannot be read.
        ChangedError: it was written to meanwhile.
    """
    path = os.fspath(file.name)
    if parquet.metadata.num_rows < SHARED_LEAST:
        return None
    key = key_of(file)
    while True:
        before = _identity(copy_path(path))
        found = map_copy(path, key)
        if found is not None:
            return found
        with _locked(path):
            if _identity(copy_path(path)) == before:  # else another process wrote it: look at it, without the lock
                return _write_copy(path, file, parquet, key)


def _identity(path):
    """What differs between a file and another that replaces it; None without a file."""
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def check_unchanged(file: Any, stamp: tuple[int, int]) -> None:
    """Refuse a Parquet file that was written to since it was opened.

    Args:
        file: open for reading.
        stamp: what ``stamp_of`` returned then.

    Raises:
        ChangedError: it has another one.
    """
    if stamp_of(file) != stamp:
        raise ChangedError(f"{file.name}: was written to while it was read; read it again")


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Let the processes of a machine write one after the other. The system frees the lock of one that is killed."""
    lock = None
    try:
        writable = os.access(path, os.W_OK)  # NFS locks only what may be written to
        lock = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:  # a file system without locks: each writes, none disturbs another
        log.debug("manifest: no lock on %s: %s", path, error)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _write_copy(path: str, file: Any, parquet: pq.ParquetFile, key: str) -> Shared | None:
    """Write the copy whole, or not at all; returns it, mapped, or None, with a line in the log."""
    copy, rows = copy_path(path), parquet.metadata.num_rows
    log.info("manifest: writing %s, which the processes of a machine share", copy)
    try:
        with written_whole(copy) as to:
            os.ftruncate(to.fileno(), 1)
            mmap.mmap(to.fileno(), 1, access=mmap.ACCESS_READ).close()  # now, rather than after gigabytes
            os.ftruncate(to.fileno(), 0)
            _write_streams(to, parquet, key)
            to.flush()
            size = to.tell()
            to.write(checksums(to, size) + size.to_bytes(_LENGTH, "little"))
            to.flush()
            if key_of(file) != key:
                raise ChangedError(f"{path}: was written to while it was read; read it again")
            return _map(to, path, key)
    except OSError as error:
        log.warning(
            "manifest: %d rows in the memory of each process, since no copy that processes share can be written: "
            "%s: %s", rows, copy, error,
        )  # fmt: skip
        return None


def _write_streams(file: Any, parquet: pq.ParquetFile, key: str) -> None:
    """Write the rows of a Parquet file as two Arrow streams, a group of rows after the other."""
    schema = parquet.schema_arrow
    facts = {"dali_vidaug": key, "columns": "\n".join(schema.names), "rows": str(parquet.metadata.num_rows)}
    names = [name for name in schema.names if name in WHOLE]
    whole = parquet.read(names, use_threads=False).combine_chunks()
    with pa.ipc.new_stream(file, whole.schema.with_metadata(facts)) as stream:
        stream.write_table(whole.replace_schema_metadata(facts))
    del whole
    names = [name for name in schema.names if name not in WHOLE]
    stream = None
    for number in range(parquet.num_row_groups):
        table = parquet.read_row_group(number, names, use_threads=False).replace_schema_metadata(None)
        stream = stream or pa.ipc.new_stream(file, table.schema)
        stream.write_table(table)
    if stream is not None:
        stream.close()
