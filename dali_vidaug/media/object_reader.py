"""Reads ranges of objects, through a cache where there is one."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

from dali_vidaug.media.block_cache import BLOCK, BlockCache
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.objects import Stat, client_of
from dali_vidaug.urls import hide_secrets

_SIZES_KEPT = 1 << 16  # of objects
_POLL = 0.02  # seconds between looks for a block that another process fetches

log = logging.getLogger("dali_vidaug")


class Costs(NamedTuple):
    """What reading has cost: requests, the bytes of their answers, and bytes that were in the cache."""

    requests: int
    bytes: int
    cached: int


class Reader:
    """Reads ranges of objects.

    Args:
        storage: how.
    """

    def __init__(self, storage: Storage):
        self.storage = storage
        limits = storage.cache_limit, storage.timeout
        self._cache = None if storage.cache is None else BlockCache(os.fspath(storage.cache), *limits)
        self._sizes: dict[
            tuple[str, str], int
        ] = {}  # of objects, by URL and ETag; used in the thread of the loop alone
        self._lock, self._costs = threading.Lock(), Costs(0, 0, 0)
        self._has_told = False

    def take_costs(self) -> Costs:
        """What it has cost since the last call."""
        with self._lock:
            costs, self._costs = self._costs, Costs(0, 0, 0)
        return costs

    def _add(self, requests, num_bytes, cached):
        with self._lock:
            self._costs = Costs(*(a + b for a, b in zip(self._costs, (requests, num_bytes, cached), strict=True)))

    async def read(
        self, url: str, ranges: Sequence[tuple[int, int]], stat: Stat,
        gate: AbstractAsyncContextManager[Any] | None = None,
    ) -> list[Any]:  # fmt: skip
        """The bytes of ranges [first, last) of an object: a request for each, or for each run of blocks.

        Args:
            url: the object.
            ranges: of it.
            stat: what it must be, as far as that is known.
            gate: entered for each request.

        Raises:
            OSError, EOFError: they cannot be read.
            ValueError: it is another object.
        """
        gate, cache = gate or nullcontext(), None if stat.etag is None else self._cache
        if cache is not None:
            if stat.size < 0:  # of a tar file, the manifest has no size
                stat = await self._stat(url, stat, gate)
            return list(await asyncio.gather(*(self._from_blocks(cache, url, span, stat, gate) for span in ranges)))
        if self._cache is not None and not self._has_told:
            self._has_told = True
            log.warning("%s is not kept in Storage(cache=): its ETag is not known, or not asked for", hide_secrets(url))
        if len(ranges) == 1:  # as nearly always: without a task of its own
            return [await self.get(url, ranges[0], stat, gate)]
        return list(await asyncio.gather(*(self.get(url, span, stat, gate) for span in ranges)))

    async def get(
        self, url: str, span: tuple[int, int], stat: Stat | None, gate: AbstractAsyncContextManager[Any]
    ) -> Any:
        """The bytes of one range, in one request, without the cache. Errors as of ``read``."""
        data, _ = await self.first(url, span, stat, gate)
        if len(data) < span[1] - span[0]:
            raise EOFError(f"changed since it was scanned: it ends before byte {span[1]}; scan again")
        return data

    async def first(
        self, url: str, span: tuple[int, int] | None, stat: Stat | None = None,
        gate: AbstractAsyncContextManager[Any] | None = None,
    ) -> tuple[Any, Stat]:  # fmt: skip
        """As ``Client.get``."""
        async with gate or nullcontext():
            answer = await client_of(self.storage).get(url, span, stat)
        self._add(1, len(answer[0]), 0)
        return answer

    async def stat(self, url: str, gate: AbstractAsyncContextManager[Any]) -> Stat:
        """As ``Client.stat``."""
        async with gate:
            now = await client_of(self.storage).stat(url)
        self._add(1, 0, 0)
        return now

    async def _stat(self, url, stat, gate):
        """What an object of this ETag is, with its size: asked for once in a process."""
        size = self._sizes.get((url, stat.etag))
        if size is not None:
            return Stat(size, stat.etag)
        now = await self.stat(url, gate)
        if now.etag == stat.etag:
            while len(self._sizes) >= _SIZES_KEPT:
                self._sizes.pop(next(iter(self._sizes)))
            self._sizes[url, stat.etag] = now.size
        return Stat(now.size, stat.etag)

    async def _from_blocks(self, cache: BlockCache, url, span, stat, gate):
        if span[1] > stat.size:
            raise EOFError(f"changed since it was scanned: it ends before byte {span[1]}; scan again")
        numbers = range(span[0] // BLOCK, -(-span[1] // BLOCK))
        blocks = await self._blocks(cache, url, numbers, stat, gate)
        at = span[0] - numbers.start * BLOCK
        return memoryview(b"".join(blocks[n] for n in numbers))[at : at + span[1] - span[0]]

    async def _blocks(self, cache: BlockCache, url, numbers, stat, gate):
        """Blocks by number, from the cache, or read and put there."""
        found: dict[int, bytes] = {}
        keys, missing = {n: cache.key(url, stat, n) for n in numbers}, list(numbers)
        claimed: list[int] = []
        while missing:
            found |= await self._kept(cache, keys, missing, stat)
            claimed = [n for n in missing if n not in found and cache.claim(keys[n])]
            try:
                found |= await self._kept(cache, keys, claimed, stat)  # put there by another process before the claim
                for run in _runs([n for n in claimed if n not in found]):
                    last = min(run.stop * BLOCK, stat.size)
                    data = await self.get(url, (run.start * BLOCK, last), stat, gate)
                    for n in run:
                        at = (n - run.start) * BLOCK
                        found[n] = bytes(memoryview(data)[at : at + BLOCK])
                        await asyncio.to_thread(cache.put, keys[n], found[n])
            finally:
                for n in claimed:
                    cache.release(keys[n])
            missing = [n for n in missing if n not in found]
            if missing:
                await asyncio.sleep(_POLL)
        return found

    async def _kept(self, cache: BlockCache, keys, numbers, stat):
        """Those of some blocks that the cache has, by number."""
        found: dict[int, bytes] = {}
        for n in numbers:
            data = await asyncio.to_thread(cache.get, keys[n], min(BLOCK, stat.size - n * BLOCK))
            if data is not None:
                found[n] = data
                self._add(0, 0, len(data))
        return found


def _runs(numbers: Sequence[int]) -> list[range]:
    """Rising numbers as runs of consecutive ones."""
    runs: list[range] = []
    for n in numbers:
        if runs and n == runs[-1].stop:
            runs[-1] = range(runs[-1].start, n + 1)
        else:
            runs.append(range(n, n + 1))
    return runs


@lru_cache(maxsize=8)
def reader_of(storage: Storage) -> Reader:
    """The reader of this process for some options."""
    return Reader(storage)
