"""Objects in buckets and on web servers, read by obstore; every answer is compared with what is expected."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from os import environ
from typing import Any, NamedTuple

from dali_vidaug.media.object_errors import changed, explain
from dali_vidaug.media.object_options import ENVIRONMENT, Storage, make_store
from dali_vidaug.urls import check_url, split_url

_NO_RANGES = ("NotPartial", "Range request not supported", "non-partial response")
_WHOLE_MAX = 1 << 28  # bytes of an object that are read, where a server gives nothing less than all


class Stat(NamedTuple):
    """What a server says of an object.

    Attributes:
        size: bytes; -1: not known.
        etag: what it calls this version of the object, or None.
    """

    size: int
    etag: str | None


class Client:
    """Reads objects.

    Args:
        storage: how.

    Raises:
        ImportError: obstore is not installed.
    """

    def __init__(self, storage: Storage):
        if find_spec("obstore") is None:
            raise ImportError('buckets and URLs are read by obstore: pip install "dali-vidaug[cloud]"')
        self.storage = storage
        self._lock = threading.Lock()
        self._stores: dict[tuple[str | None, ...], Any] = {}  # by URL, and what the environment says
        self._without_ranges: set[str] = set()

    def _find(self, url: str) -> tuple[Any, str]:
        """The store of a URL, and the key in it."""
        base, key = split_url(check_url(url))
        known = (base, *map(environ.get, ENVIRONMENT))
        with self._lock:
            if known not in self._stores:
                self._stores[known] = make_store(base, self.storage)
            return self._stores[known], key

    def _explained(self, error, url, etag=None):
        found = explain(error, url, self.storage, etag)
        if isinstance(found, PermissionError):  # whoever tries again may have set others
            with self._lock:
                self._stores.clear()
        return found

    async def get(self, url: str, span: tuple[int, int] | None, then: Stat | None = None) -> tuple[Any, Stat]:
        """Read bytes of an object in one request, within ``storage.timeout``.

        Args:
            url: the object.
            span: [first, last) bytes; None: all.
            then: what the object must be, as far as that is known.

        Returns:
            The bytes, fewer where the object ends before ``last``, and what the server says of the object.

        Raises:
            OSError, EOFError: they cannot be read.
            ValueError: it is another object than ``then``.
        """
        return await self._within(url, self._get(url, span, then))

    async def _within(self, url, work):
        try:
            return await asyncio.wait_for(work, self.storage.timeout)
        except asyncio.TimeoutError as error:
            raise explain(error, url, self.storage) from None

    async def _get(self, url, span, then):
        import obstore

        store, key = self._find(url)
        base, etag = split_url(url)[0], then.etag if then else None
        options: Any = {}
        if span is not None and base not in self._without_ranges:
            options["range"] = span
        if etag is not None and not etag.startswith("W/"):  # a weak ETag never matches
            options["if_match"] = etag
        try:
            result = await obstore.get_async(store, key, options=options or None)
            now, (first, last) = Stat(result.meta["size"], result.meta["e_tag"]), result.range
        except Exception as error:
            if "range" in options and any(words in str(error) for words in _NO_RANGES):
                self._without_ranges.add(base)
                return await self._get(url, span, then)
            raise self._explained(error, url, etag) from None
        _check_same(now, then)
        if span is not None and "range" not in options and now.size > _WHOLE_MAX:
            raise OSError(f"{base} gives no parts of objects, and this one is large: {now.size} bytes")
        try:
            data = await result.bytes_async()
        except Exception as error:
            raise self._explained(error, url, etag) from None
        if len(data) != last - first:
            raise EOFError(f"the answer was cut off: {len(data)} bytes of {last - first}")
        if span is None or (first, last) == span:
            return data, now
        if first > span[0]:
            raise OSError(f"{base} answers with other bytes than those that were asked for")
        return memoryview(data)[span[0] - first : span[1] - first], now

    def gives_ranges(self, url: str) -> bool:
        """Whether the server of an object was not found to answer with all of it whatever is asked for."""
        return split_url(url)[0] not in self._without_ranges

    async def stat(self, url: str) -> Stat:
        """What the server says of an object, without reading it.

        Raises:
            OSError: it cannot be found.
        """
        return await self._within(url, self._stat(url))

    async def _stat(self, url):
        import obstore

        store, key = self._find(url)
        try:
            meta = await obstore.head_async(store, key)
        except Exception as error:
            raise self._explained(error, url) from None
        return Stat(meta["size"], meta["e_tag"])

    def list(self, url: str) -> Iterator[tuple[str, Stat]]:
        """The objects in a folder of a bucket, and in those below it: their names from there on.

        Raises:
            OSError: they cannot be listed.
            ValueError: it is a web server, which has no list.
        """
        import obstore

        if url.lower().startswith("http"):
            raise ValueError(f"{url}: a web server has no list of its files: give their URLs, or a list with root=")
        store, prefix = self._find(url)
        skipped = len(prefix) + 1 if prefix else 0
        try:
            for some in obstore.list(store, prefix or None):
                for meta in some:
                    yield meta["path"][skipped:], Stat(meta["size"], meta["e_tag"])
        except Exception as error:
            raise self._explained(error, url) from None


def _check_same(now: Stat, then: Stat | None) -> None:
    if then is None:
        return
    if then.size >= 0 and now.size != then.size:
        raise ValueError(changed(f"{now.size} bytes", then.size))
    if then.etag is not None and now.etag is not None and now.etag != then.etag:
        raise ValueError(changed(f"the ETag {now.etag}", then.etag))


@lru_cache(maxsize=8)
def client_of(storage: Storage) -> Client:
    """The client of this process for some options; it keeps its connections."""
    return Client(storage)
