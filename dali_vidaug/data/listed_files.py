"""The files of a list: where they are, and whether they are as they were measured."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.data.entry import Listing
from dali_vidaug.media.fetch_loop import wait_for
from dali_vidaug.media.frame_folder import list_images, state_of
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.objects import Stat, client_of
from dali_vidaug.media.storage import Place, open_bytes
from dali_vidaug.media.unchanged import content_digest
from dali_vidaug.media.video import IMAGES
from dali_vidaug.urls import is_url


class MeasureOptions(NamedTuple):
    """Arguments of ``measure``; and whether headers are believed, where they say enough."""

    deep: bool = False
    stream: int | None = None
    with_index: bool = True
    frame_names: str | None = None
    storage: Storage = Storage()
    headers: bool = False


class ListedFiles:
    """The files of a list.

    Args:
        listing: the list.
        names: of files of it, rising.
        options: how they are measured.
    """

    def __init__(self, listing: Listing, names: Sequence[str], options: MeasureOptions):
        self._root, self._objects = str(listing.root), listing.objects or {}
        self._storage, self._frame_names = options.storage, options.frame_names
        self._names, self._entries = names, listing.entries
        self._entry_of = np.zeros(len(names), np.int32)  # no dictionary: a million names would take 100 MB
        for i, entry in enumerate(listing.entries):
            number = self.find(entry.path) if entry.error is None else None
            if number is not None:
                self._entry_of[number] = i
        self._stats: dict[str, Stat | None] = {}  # of tar files

    def find(self, name: str) -> int | None:
        """The number of a file among the names, or None."""
        number = bisect_left(self._names, name)
        return number if number < len(self._names) and self._names[number] == name else None

    def place(self, name: str) -> Place:
        """Where the bytes of a file are."""
        number = self.find(name)
        if number is None:
            raise KeyError(name)
        return self._entries[self._entry_of[number]].bytes_below(self._root)

    def is_as_measured(self, name: str, row: Mapping[str, Any]) -> bool:
        """Whether a file has the size, and the time of change and bytes at some places, or ETag, that its row has."""
        place = self.place(name)
        if row["codec"] == IMAGES:
            return _has_images(Path(place.path), row, self._frame_names)
        if not is_url(place.path):
            return is_as_measured(place, row)
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


def _has_images(folder: Path, row: Mapping[str, Any], frame_names: str | None) -> bool:
    """Whether a folder has the images that its row is of, of the same sizes and times of change."""
    try:
        state = state_of(folder, list_images(folder, frame_names).names)
    except (OSError, ValueError):
        return False
    return all(row[name] == value for name, value in state._asdict().items())


def is_as_measured(place: Place, row: Mapping[str, Any]) -> bool:
    """Whether a file has the size, time of change and bytes at some places that its row has."""
    try:
        with open_bytes(place) as source:
            if (row["bytes"], row["mtime_ns"]) != (source.size, source.mtime_ns):
                return False
            return row["content_digest"] == content_digest(source)
    except (OSError, EOFError):
        return False
