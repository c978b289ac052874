"""Opens the bytes of a video, wherever they are: see place.py for files, object_source.py for buckets and servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dali_vidaug.media.block_cache import BLOCK
from dali_vidaug.media.fetch_loop import running_loop
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.object_source import ObjectSource
from dali_vidaug.media.objects import Stat
from dali_vidaug.media.place import LocalSource, Place, Source, SourceFile
from dali_vidaug.urls import is_url

__all__ = ["Place", "Source", "SourceFile", "open_bytes"]


@contextmanager
def open_bytes(
    place: Place, storage: Storage | None = None, stat: Stat | None = None, by_blocks: bool = True, block: int = BLOCK
) -> Iterator[Source]:
    """Open the bytes at a place: a context manager that gives their ``Source``.

    Args:
        place: of a local file, or of an object.
        storage: how objects are read; default: ``Storage()``.
        stat, by_blocks, block: of an object, as of ``ObjectSource``.

    Raises:
        OSError, EOFError: they cannot be opened.
    """
    if is_url(place.path):
        with running_loop():  # once, rather than for each read
            yield ObjectSource(place, storage or Storage(), stat, by_blocks=by_blocks, block=block)
        return
    source = LocalSource(place)
    try:
        yield source
    finally:
        source.close()
