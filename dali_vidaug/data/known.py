"""What earlier scans measured."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from dali_vidaug.data.index_table import index_from_text, index_to_text
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import restore_name
from dali_vidaug.data.schema import SCHEMA, OtherVersionError
from dali_vidaug.media.measure import SEVERAL
from dali_vidaug.media.unchanged import OPEN_FLAGS, content_digest

MEASURED = [name for name in SCHEMA.names if name not in ("path", "label", "labels", "first_frame", "last_frame")]


class Known:
    """Measurements of earlier scans: the rows of the output, and those of an interrupted scan next to it.

    Args:
        output: the manifest's file, or None.
        root: folder of the files.
        deep, stream, index: of ``measure``; what was measured otherwise is not known.
    """

    def __init__(self, output: str | os.PathLike[str] | None, root: Path, deep: bool, stream: int | None, index: bool):
        self._root: Path = root
        self._log: Any = None
        self._rows: dict[str, dict[str, Any]] = {}
        self._deep, self._stream, self._index = deep, stream, index
        if output is None:
            return
        self._file = Path(f"{output}.partial")
        if Path(output).is_file() and not deep:
            with suppress(OtherVersionError):  # then nothing is known
                manifest = Manifest.read(output)
                for row in manifest.table.select(["path", *MEASURED]).to_pylist():
                    number = row["packet_index"]
                    row["index"] = None if number is None or manifest.packets is None else manifest.packets[number]
                    self._rows[restore_name(row.pop("path"))] = row
        if self._file.is_file():
            for line in self._file.read_text().splitlines():
                try:
                    name, row = json.loads(line)
                    row = index_from_text(row)
                except ValueError:  # the line that was being written when the scan was interrupted
                    continue
                if row.pop("deep", False) >= deep:
                    self._rows[name] = row
        self._log = self._file.open("a")

    def get(self, name: str) -> dict[str, Any] | None:
        """What ``measure`` returned for a file that did not change since then, or None."""
        row = self._rows.get(name)
        if row is None or not row.keys() >= set(MEASURED) or not self._is_of_stream(row):
            return None
        if not self._index:
            row |= {"index": None, "packet_index": None, "no_packet_index": None}
        elif row["index"] is None and row["no_packet_index"] is None:  # a scan without
            return None
        if row["colorspace"] is None:  # a scan of an older release
            return None
        return row if is_as_measured(self._root / name, row) else None

    def _is_of_stream(self, row):
        """Whether a row is of the stream that is asked for. Of which stream a scan asked is not in the manifest."""
        return row["stream"] == self._stream if self._stream is not None else SEVERAL not in (row["notes"] or "")

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep what ``measure`` returned, in case that the scan is interrupted."""
        if self._log is not None:
            self._log.write(json.dumps([name, {**index_to_text(row), "deep": self._deep}]) + "\n")
            self._log.flush()

    def close(self) -> None:
        """Close the file of the scan that goes on."""
        if self._log is not None:
            self._log.close()

    def forget(self) -> None:
        """Remove that file."""
        self._file.unlink(missing_ok=True)


def is_as_measured(path: Path, row: dict[str, Any]) -> bool:
    """Whether a file has the size, time of change and bytes at some places that its row has."""
    try:
        file = os.open(path, OPEN_FLAGS)
    except OSError:
        return False
    try:
        stat = os.fstat(file)
        if (row["bytes"], row["mtime_ns"]) != (stat.st_size, stat.st_mtime_ns):
            return False
        return row["content_digest"] == content_digest(file, stat.st_size)
    except OSError:
        return False
    finally:
        os.close(file)
