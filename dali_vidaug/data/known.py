"""What earlier scans measured."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from dali_vidaug.data.entry import Listing
from dali_vidaug.data.index_table import index_from_text, index_to_text
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import restore_name
from dali_vidaug.data.schema import SCHEMA, OtherVersionError
from dali_vidaug.media.fetch_loop import wait_for
from dali_vidaug.media.measure import SEVERAL
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.objects import Stat, client_of
from dali_vidaug.media.storage import Place, open_bytes
from dali_vidaug.media.unchanged import content_digest
from dali_vidaug.urls import is_url

_LISTED = ("path", "label", "labels", "first_frame", "last_frame", "shard", "shard_offset")
MEASURED = [name for name in SCHEMA.names if name not in _LISTED]


class Known:
    """Measurements of earlier scans: the rows of the output, and those of an interrupted scan next to it.

    Args:
        output: the manifest's file, or None.
        listing: the files.
        deep, stream, index, storage: of ``measure``; what was measured otherwise is not known.
    """

    def __init__(
        self, output: str | os.PathLike[str] | None, listing: Listing, deep: bool, stream: int | None, index: bool,
        storage: Storage | None = None,
    ):  # fmt: skip
        self._objects, self._storage = listing.objects or {}, storage or Storage()
        self._stats: dict[str, Stat | None] = {}  # of tar files
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

    def get(self, name: str, place: Place) -> dict[str, Any] | None:
        """What ``measure`` returned for a file that did not change since then, or None; ``place`` is where it is."""
        row = self._rows.get(name)
        if row is None or not row.keys() >= set(MEASURED) or not self._is_of_stream(row):
            return None
        if not self._index:
            row |= {"index": None, "packet_index": None, "no_packet_index": None}
        elif row["index"] is None and row["no_packet_index"] is None:  # a scan without
            return None
        if row["colorspace"] is None:  # a scan of an older release
            return None
        return row if self._is_as_measured(name, place, row) else None

    def _is_as_measured(self, name, place, row):
        if not is_url(place.path):
            return _is_as_measured(place, row)
        if place.size is None:
            return self._is_same_object(place.path, name, row)
        if place.path not in self._stats:
            self._stats[place.path] = self._stat(place.path)
        stat = self._stats[place.path]  # of the tar file: its ETag is that of all members
        return stat is not None and stat.etag is not None and (stat.etag, place.size) == (row["etag"], row["bytes"])

    def _is_same_object(self, url, name, row):
        """Whether an object has the size and ETag that its row has."""
        stat = self._objects.get(name)
        if stat is None and row["etag"] is not None:
            stat = self._stat(url)
        return stat is not None and stat.etag is not None and (stat.size, stat.etag) == (row["bytes"], row["etag"])

    def _stat(self, url):
        with suppress(OSError):
            return wait_for(client_of(self._storage).stat(url))
        return None

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


def _is_as_measured(place: Place, row: dict[str, Any]) -> bool:
    """Whether a file has the size, time of change and bytes at some places that its row has."""
    try:
        with open_bytes(place) as source:
            if (row["bytes"], row["mtime_ns"]) != (source.size, source.mtime_ns):
                return False
            return row["content_digest"] == content_digest(source)
    except (OSError, EOFError):
        return False
