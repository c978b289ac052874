"""What is measured of the files of a scan, on disk: by this one so far, and by earlier ones."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dali_vidaug.data.column import take
from dali_vidaug.data.index_table import IndexTable, fit, index_from_text, index_path, index_to_text, read_table
from dali_vidaug.data.listed_files import ListedFiles, MeasureOptions
from dali_vidaug.data.names import restore_name
from dali_vidaug.data.schema import SCHEMA, OtherVersionError, read_file
from dali_vidaug.media.measure import SEVERAL
from dali_vidaug.media.video import IMAGES

_LISTED = ("path", "label", "labels", "first_frame", "last_frame", "shard", "shard_offset")
MEASURED = [name for name in SCHEMA.names if name not in _LISTED]
_STEP = 1 << 16  # rows of a manifest looked at together
_NOWHERE = -1


class Known:
    """What is measured of each file. It is kept in files: a million rows do not fit in memory as Python objects.

    Args:
        output: the file that is to be written, or None. What is measured goes to a file beside it, OUTPUT.partial, from
            which an interrupted scan goes on.
        names: of the files, rising.
        files: where they are.
        options: how they are measured; what was measured otherwise is not known.
        earlier: manifests and parts, if they are there, which may have some of the files.

    Raises:
        ValueError: another scan is writing the same output.
    """

    def __init__(
        self, output: str | os.PathLike[str] | None, names: Sequence[str], files: ListedFiles,
        options: MeasureOptions, earlier: Iterable[str | os.PathLike[str]] = (),
    ):  # fmt: skip
        self._names, self._files = names, files
        self._deep, self._stream, self._index = options.deep, options.stream, options.with_index
        self._headers = options.headers
        self._place = np.full(len(names), _NOWHERE)  # in the file; or the row of an earlier manifest, all counted
        self._size = np.zeros(len(names), np.int32)  # bytes of the line in the file; 0: it is not there
        self._earlier: list[tuple[int, Any, IndexTable | None]] = []
        self._file = None if output is None else Path(f"{output}.partial")
        for path in () if self._deep else earlier:
            if Path(path).is_file():
                self._find_earlier(path)
        self._log: Any = tempfile.TemporaryFile() if self._file is None else self._open(self._file)

    def _find_earlier(self, path):
        with suppress(OtherVersionError):  # then nothing is known
            table, header, _ = read_file(path, parts=True)
            name = header.get("packet_index")
            packets = None if name is None else read_table(index_path(path), name)
            table = fit(table, packets)
            begin = self._earlier[-1][0] + len(self._earlier[-1][1]) if self._earlier else 0
            row = begin
            for piece in table["path"].chunks:
                for first in range(0, len(piece), _STEP):
                    for stored in piece.slice(first, _STEP).to_pylist():
                        number = self._files.find(restore_name(stored))
                        if number is not None:
                            self._place[number] = row
                        row += 1
            self._earlier.append((begin, table.select(MEASURED), packets))

    def _open(self, path):
        """The file of a scan that was interrupted, read; or a new one."""
        log = path.open("a+b")
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.close()
                raise ValueError(f"scan: another scan is writing {path}; give each an output of its own") from None
        place, line = 0, b""
        log.seek(0)
        for line in log:
            with suppress(ValueError):  # the line that was being written when the scan was interrupted
                name, row = json.loads(line)
                number = self._files.find(name)
                if number is not None and row.get("deep", False) >= self._deep:
                    self._place[number], self._size[number] = place, len(line)
            place += len(line)
        if line and not line.endswith(b"\n"):
            log.write(b"\n")
        return log

    def number(self, name: str) -> int:
        """The number of a file among the names."""
        number = self._files.find(name)
        if number is None:
            raise KeyError(name)
        return number

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep what ``measure`` returned.

        Raises:
            OSError: the file cannot be written to, such as where the disk is full; it is named.
        """
        line = json.dumps([name, {**index_to_text(row), "deep": self._deep}]).encode() + b"\n"
        self._log.seek(0, os.SEEK_END)
        number = self.number(name)
        self._place[number], self._size[number] = self._log.tell(), len(line)
        try:
            self._log.write(line)
            self._log.flush()
        except OSError as error:
            if self._file is None:
                raise
            what = f"{error.strerror}; what was measured is kept, and the scan goes on from there when it is run again"
            raise OSError(error.errno, what, str(self._file)) from error

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any] | None]:
        """What is measured of some files, by their numbers: as ``measure`` returns it, or None."""
        found: list[dict[str, Any] | None] = [None] * len(numbers)
        earlier: list[tuple[int, int]] = []
        for at, number in enumerate(numbers):
            place, size = int(self._place[number]), int(self._size[number])
            if size:
                _, row = json.loads(os.pread(self._log.fileno(), size, place))
                row.pop("deep", None)
                found[at] = self._without_index(index_from_text(row))
            elif place != _NOWHERE:
                earlier.append((place, at))
        for begin, table, packets in self._earlier:
            mine = [(place - begin, at) for place, at in earlier if begin <= place < begin + len(table)]
            wanted = np.array([place for place, _ in mine], np.int64)
            columns = [take(table[name], wanted).to_pylist() for name in MEASURED] if mine else []
            for (_, at), values in zip(mine, zip(*columns, strict=True), strict=True):
                row = dict(zip(MEASURED, values, strict=True))
                number = row["packet_index"]
                row["index"] = None if number is None or packets is None else packets[number]
                found[at] = self._without_index(row)
        return found

    def _without_index(self, row):
        """The row; without a packet index if none is asked for."""
        nothing = {"index": None, "packet_index": None, "no_packet_index": None}
        kept = self._index or "error" in row or row.get("codec") == IMAGES  # images are read by their index
        return row if kept else {**row, **nothing}

    def rows_as_asked(self, numbers: Sequence[int]) -> list[tuple[int, dict[str, Any]]]:
        """Those of some files of which all was measured that is asked for, and what; no file is looked at."""
        pairs = zip(numbers, self.rows(numbers), strict=True)
        return [(number, row) for number, row in pairs if row is not None and self._is_as_asked(row)]

    def is_unchanged(self, number: int, row: Mapping[str, Any]) -> bool:
        """Whether a file did not change since this was measured of it."""
        return self._files.is_as_measured(self._names[number], row)

    def _is_as_asked(self, row):
        """Whether all was measured that is asked for."""
        if not row.keys() >= set(MEASURED) or not self._is_of_stream(row):
            return False
        if row["codec"] == IMAGES:
            return row["index"] is not None
        if row["regular"] is None and not self._headers:
            return False
        if self._index and row["index"] is None and row["no_packet_index"] is None:  # a scan without
            return False
        return row["colorspace"] is not None  # else a scan of an older release

    def _is_of_stream(self, row):
        """Whether a row is of the stream that is asked for. Of which stream a scan asked is not in the manifest."""
        return row["stream"] == self._stream if self._stream is not None else SEVERAL not in (row["notes"] or "")

    def close(self) -> None:
        """Close the files. What was measured stays in that of the scan."""
        with suppress(OSError):  # what could not be written was told
            self._log.close()
        self._earlier.clear()

    def forget(self) -> None:
        """Remove the file of the scan."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
