"""The packet indices of a manifest's files: a table, in one file beside the manifest that is mapped to memory."""

from __future__ import annotations

import base64
import logging
import mmap
import os
import tempfile
import time
import weakref
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dali_vidaug.data.atomic import written_whole
from dali_vidaug.data.column import take
from dali_vidaug.media.index import Index

SCHEMA = pa.schema([("codec", pa.dictionary(pa.int32(), pa.binary())), ("packets", pa.large_binary())])

_STEP = 1 << 14  # indices written together

log = logging.getLogger("dali_vidaug")


def index_path(manifest: str | os.PathLike[str]) -> str:
    """Where the packet indices of a manifest's file are."""
    return f"{os.fspath(manifest)}.packets"


class IndexTable:
    """Packet indices by number, which is what the column ``packet_index`` of a manifest has.

    If there is a file, it is mapped to memory and a pickle has only its name. The packets of a video are then read from
    the file: in a mapping, Linux would count much around each of them as the process's memory.

    Args:
        table: of ``SCHEMA``.
        source: the file that is mapped, and its id; None if it has no name, or the table is in memory.
        starts: for each chunk of the packets where its bytes begin in the file, if there is one.
        file: descriptor of the file, if there is one; it is closed with the table.
    """

    def __init__(
        self, table: pa.Table, source: tuple[str, str] | None = None, starts: Sequence[int] = (),
        file: int | None = None,
    ):  # fmt: skip
        self.table = table
        self._source = source
        self._codec, self._packets = table["codec"], table["packets"]
        self._firsts = np.cumsum([0, *(len(chunk) for chunk in self._packets.chunks)])
        self._offsets = [np.frombuffer(chunk.buffers()[1], np.int64) for chunk in self._packets.chunks if starts]
        self._starts = starts
        self._file = file
        if file is not None:
            weakref.finalize(self, os.close, file).atexit = False  # threads may read while the program ends

    @classmethod
    def of(cls, indices: Sequence[Index]) -> IndexTable | None:
        """A table in memory; None if there is no index."""
        if not indices:
            return None
        codecs = pa.array([index.codec for index in indices], pa.binary()).dictionary_encode()
        packets = pa.array([bytes(index.packets) for index in indices], pa.large_binary())
        return cls(pa.Table.from_arrays([codecs, packets], schema=SCHEMA))

    def __len__(self) -> int:
        return self.table.num_rows

    def __reduce__(self) -> tuple[Any, ...]:
        return (read_table, self._source) if self._source else (IndexTable, (self.table,))

    def __getitem__(self, number: int) -> Index:
        codec = self._codec[number].as_py()
        if self._file is None:
            return Index(codec, self._packets[number].as_buffer())
        return Index(codec, self._read(self._file, number))

    def _read(self, file, number):
        """The packets of a table that has a file."""
        chunk = int(np.searchsorted(self._firsts, number, "right")) - 1
        first, last = self._offsets[chunk][number - self._firsts[chunk] :][:2].tolist()
        return os.pread(file, last - first, self._starts[chunk] + first)

    def __add__(self, other: IndexTable) -> IndexTable:
        """Both; the numbers of ``other`` are then larger by ``len(self)``."""
        return IndexTable(pa.concat_tables([self.table, other.table]).unify_dictionaries())

    def write(self, path: str, numbers: np.ndarray) -> str:
        """Write some of the indices to a file, whole or not at all.

        Args:
            path: the file.
            numbers: which, rising; in the file they are 0, 1, 2, ...

        Returns:
            What tells the file from others of that name.
        """
        name = f"{time.time_ns():x}-{os.getpid():x}"
        codec = take(self.table.select(["codec"]).unify_dictionaries()["codec"], numbers).combine_chunks()
        schema = SCHEMA.with_metadata({"dali_vidaug": name})
        with written_whole(path) as file, pa.ipc.new_file(file, schema) as writer:
            for first in range(0, len(numbers), _STEP):
                some = numbers[first : first + _STEP]
                if self._file is None:
                    packets = take(self._packets, some).combine_chunks()
                else:
                    read = (self._read(self._file, number) for number in some.tolist())
                    packets = pa.array(read, pa.large_binary(), size=len(some))
                writer.write_batch(pa.RecordBatch.from_arrays([codec.slice(first, _STEP), packets], schema=schema))
        return name


class IndexWriter:
    """Packet indices to a file without a name, which goes when nobody uses it any more: they need not fit in memory.

    Args:
        folder: where the file is; default: that of temporary files.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self._file = tempfile.TemporaryFile(dir=folder)
        self._code_of: dict[bytes, int] = {}
        self._codes, self._ends = array("i"), array("q", [0])

    def add(self, index: Index) -> int:
        """Write one; returns its number."""
        self._codes.append(self._code_of.setdefault(bytes(index.codec), len(self._code_of)))
        self._ends.append(self._ends[-1] + self._file.write(index.packets))
        return len(self._codes) - 1

    def close(self) -> IndexTable | None:
        """What was written; None if it is nothing."""
        with self._file:
            if not self._codes:
                return None
            self._file.flush()
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            file = os.dup(self._file.fileno())
        buffers = [None, pa.py_buffer(self._ends), pa.py_buffer(mapped)]
        packets = pa.Array.from_buffers(pa.large_binary(), len(self._codes), buffers)
        codecs = pa.array(list(self._code_of), pa.binary())
        codec = pa.DictionaryArray.from_arrays(np.array(self._codes, np.int32), codecs)
        return IndexTable(pa.Table.from_arrays([codec, packets], schema=SCHEMA), None, [0], file)


def read_table(path: str, name: str) -> IndexTable | None:
    """Map the file of a manifest's packet indices.

    Args:
        path: the file.
        name: what ``IndexTable.write`` returned.

    Returns:
        The indices; None, with a warning, if the file is not there or not the one that was written.
    """
    try:
        mapped = pa.memory_map(path)
        begin = mapped.read_buffer(1).address
        table = pa.ipc.open_file(mapped).read_all()
    except (OSError, pa.ArrowException) as error:
        reason = "it is not there" if isinstance(error, FileNotFoundError) else f"it cannot be read ({error})"
    else:
        if (table.schema.metadata or {}).get(b"dali_vidaug") == name.encode() and table.schema.equals(SCHEMA):
            starts = [c.buffers()[2].address - begin for c in table["packets"].chunks]
            return IndexTable(table, (path, name), starts, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        reason = "it is that of another scan"
    log.warning("manifest: no packet index, files are opened as containers: %s: %s", path, reason)
    return None


def fit(table: pa.Table, packets: IndexTable | None) -> pa.Table:
    """A manifest's table whose column ``packet_index`` fits its packet indices. Older manifests lack some columns.

    Raises:
        ValueError: a number is not of an index.
    """
    for name, kind in (
        ("packet_index", pa.int32()), ("no_packet_index", pa.string()), ("content_digest", pa.int64()),
        ("colorspace", pa.int32()), ("shard", pa.dictionary(pa.int32(), pa.string())), ("shard_offset", pa.int64()),
        ("etag", pa.string()),
    ):  # fmt: skip
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), kind))
    numbers = table["packet_index"]
    if packets is None and numbers.null_count < len(numbers):
        return _with_numbers(table, pa.nulls(len(table), pa.int32()))
    if packets is not None and numbers.null_count < len(numbers):
        low, high = pc.min_max(numbers).as_py().values()
        if not 0 <= low <= high < len(packets):
            raise ValueError(f"manifest: packet_index goes from {low} to {high}, but there are {len(packets)}")
    return table


def join_indices(
    table: pa.Table, first: IndexTable | None, second: IndexTable | None
) -> tuple[pa.Table, IndexTable | None]:
    """The packet indices of two manifests together, and the table of the second with its numbers among them."""
    if first is None or second is None:
        return table, first or second
    return _with_numbers(table, pc.add(table["packet_index"], len(first))), first + second


def write_used(table: pa.Table, packets: IndexTable | None, path: str) -> tuple[pa.Table, str | None]:
    """Write the packet indices that rows of a manifest's table have; where none has, the file is removed.

    Returns:
        The table with their numbers in the file, and what ``IndexTable.write`` returns, or None.
    """
    numbers = table["packet_index"]
    if packets is None or numbers.null_count == len(numbers):
        Path(path).unlink(missing_ok=True)
        return table, None
    used = np.unique(numbers.drop_null().to_numpy())
    return _with_numbers(table, pc.index_in(numbers, pa.array(used))), packets.write(path, used)


def _with_numbers(table, numbers):
    return table.set_column(table.column_names.index("packet_index"), "packet_index", numbers)


def index_to_text(row: dict[str, Any]) -> dict[str, Any]:
    """A measured row whose index is text, for JSON."""
    index = row.get("index")
    return {**row, "index": index and [base64.b64encode(part).decode() for part in index]}


def index_from_text(row: dict[str, Any]) -> dict[str, Any]:
    """The row that ``index_to_text`` was given."""
    index = row.get("index")
    return {**row, "index": index and Index(*(base64.b64decode(part) for part in index))}


def count_missing(reasons: Iterable[str | None]) -> str | None:
    """A sentence on the files without a packet index, of the reasons (None: it has one); None if all have one."""
    counts = Counter(reason for reason in reasons if reason is not None)
    if not counts:
        return None
    said = "; ".join(f"{count}: {reason}" for reason, count in counts.most_common())
    return f"files without a packet index, which are opened as containers: {counts.total()} ({said})"
