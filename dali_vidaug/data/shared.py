"""A large manifest's rows in a file that is mapped to memory, so that the processes of a machine share them.

The file is a copy of the manifest's Parquet file, beside it: two Arrow streams. One has the columns of numbers that
plans are drawn from, each in one piece, the other all other columns, in pieces of rows. It is written with the manifest
or, where it is missing or of another file, when that is read. It has the key of its Parquet file: with another key it
is not used.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import logging
import mmap
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SHARED_LEAST = 1 << 18  # rows; a smaller manifest is read into memory
WHOLE = ("label", "first_frame", "last_frame", "width", "height", "orientation", "fps")  # columns in one piece
_RELEASED_EACH = 128  # rows: Linux maps some 150 KB around the values of each
_ABANDONED_SECONDS = 3600  # since a file that another machine was writing grew: whoever wrote it is gone

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


def key_of(file: Any) -> str:
    """What tells a Parquet file from what was there before: size, time of change, and its footer.

    The footer has the places, sizes and statistics of all columns, and, if it is of a manifest, the id of the writing.

    Args:
        file: open for reading, in binary.
    """
    stat = os.fstat(file.fileno())
    tail = os.pread(file.fileno(), 8, max(0, stat.st_size - 8))
    length = int.from_bytes(tail[:4], "little") if tail[4:] == b"PAR1" else 0
    footer = os.pread(file.fileno(), length + 8, max(0, stat.st_size - 8 - length))
    return hashlib.blake2b(b"%d %d " % (stat.st_size, stat.st_mtime_ns) + footer, digest_size=16).hexdigest()


def map_copy(path: str, key: str, copy: str | os.PathLike[str] | None = None) -> Shared | None:
    """The copy of a Parquet file, mapped to memory; None if it is not there, damaged, or the copy of another one.

    Args:
        path: the Parquet file.
        key: from ``key_of``.
        copy: its copy, if it does not have its name yet.
    """
    with suppress(OSError, ValueError, pa.ArrowException), open(copy or copy_path(path), "rb") as file:  # noqa: PTH123
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
        if len(whole) == len(rest) == rows:
            table = pa.Table.from_arrays(
                [(whole if name in WHOLE else rest)[name] for name in names],
                schema=pa.schema([(whole if name in WHOLE else rest).schema.field(name) for name in names]),
            )
            return Shared(table, os.path.abspath(path), key, mapped)  # noqa: PTH100
    return None


def share(file: Any, parquet: pq.ParquetFile, key: str) -> Shared | None:
    """The mapped copy of a manifest's Parquet file; it is written first if need be, by one process for all.

    Args:
        file: the Parquet file, open for reading, in binary, by its name.
        parquet: of ``file``.
        key: from ``key_of``, before ``parquet`` was made.

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
    found = map_copy(path, key)
    if found is not None:
        return found
    with _locked(path):
        found = map_copy(path, key)  # whoever has waited finds the copy of another process
        return _write_copy(path, file, parquet, key) if found is None else found


def check_unchanged(file: Any, key: str) -> None:
    """Refuse a Parquet file that was written to since it was opened.

    Args:
        file: as for ``key_of``.
        key: what ``key_of`` returned then.

    Raises:
        ChangedError: it is another.
    """
    if key_of(file) != key:
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
    copy = Path(copy_path(path))
    _remove_abandoned(copy)
    log.info("manifest: writing %s, which the processes of a machine share", copy)
    partial = Path(f"{copy}.{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}.partial")
    try:
        with open(partial, "xb") as to:  # noqa: PTH123
            with suppress(OSError):
                fcntl.flock(to, fcntl.LOCK_EX | fcntl.LOCK_NB)  # shows that it is not abandoned
            _write_streams(to, parquet, key)
            to.flush()
            os.fsync(to.fileno())
        check_unchanged(file, key)
        found = map_copy(path, key, partial)
        partial.replace(copy)
        return found
    except OSError as error:
        log.warning(
            "manifest: %d rows in the memory of each process, since no copy that processes share can be written: "
            "%s: %s", parquet.metadata.num_rows, copy, error,
        )  # fmt: skip
        return None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _remove_abandoned(copy: Path) -> None:
    """Remove what writers left that were killed."""
    for left in copy.parent.glob(f"{glob.escape(copy.name)}.*.partial"):
        with suppress(OSError):
            age = time.time() - left.stat().st_mtime
            if f".{socket.gethostname()}-" in left.name or age > _ABANDONED_SECONDS:
                with left.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while it is being written
                    left.unlink()


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
