"""The fetch stage: the bytes of objects are read before their clips are decoded, so that no decoding thread waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import numpy as np

from dali_vidaug.media.cut import read_by_index
from dali_vidaug.media.fetch_loop import running_loop
from dali_vidaug.media.needed import byte_ranges
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.object_reader import Costs, Reader
from dali_vidaug.media.object_source import WHOLE_MAX, ObjectSource
from dali_vidaug.media.objects import Stat
from dali_vidaug.media.video import Video
from dali_vidaug.urls import is_url


class _Fetch(Future):
    """What loads clips of an object: its result is the future of the pool, when the bytes are there.

    Attributes:
        job: that future; None before.
    """

    job: Any = None
    task: Any = None

    def cancel(self) -> bool:
        """Also where the clips wait to be decoded."""
        if self.job is not None:
            self.job.cancel()
        return super().cancel()


class FetchingPool:
    """A pool that loads clips, and before it what reads objects: up to ``storage.in_flight`` at the same time.

    Args:
        pool: as ``open_pool`` returns it.
        storage: how objects are read.

    Attributes:
        num_threads: of the pool.
    """

    def __init__(self, pool: Any, storage: Storage):
        self.num_threads, self._pool, self._storage = pool.num_threads, pool, storage
        self._reader: Any = None  # made with the first object
        self._lock, self._waited = threading.Lock(), 0.0
        self._stack: ExitStack | None = None  # open while the loop runs
        self._loop: Any = None
        self._gate: Any = None
        self._fetches: set[_Fetch] = set()
        self._closed = False

    def load(
        self, function: Callable, video: Video, frames: Sequence[np.ndarray], all_references: bool, *arguments: Any
    ) -> Future:  # fmt: skip
        """Queue ``function(video, frames, *arguments)``; of an object, when its bytes are there.

        Args:
            function: that loads clips of a video.
            video: its row of the manifest.
            frames: of each clip, (F,).
            all_references: as for ``read_cuts``.
            arguments: others.
        """
        if not is_url(video.place.path):
            return self._pool.submit(function, video, frames, *arguments)
        fetch = _Fetch()
        with self._lock:
            if self._closed:
                fetch.cancel()
                return fetch
            if self._stack is None:
                self._stack = ExitStack()
                self._loop = self._stack.enter_context(running_loop())
                self._gate, self._reader = asyncio.Semaphore(self._storage.in_flight), Reader(self._storage)
            self._fetches.add(fetch)
        work = self._load(fetch, function, video, frames, all_references, *arguments)
        self._loop.call_soon_threadsafe(self._loop.create_task, work)
        return fetch

    async def _load(self, fetch, function, video, frames, all_references, *arguments):
        fetch.task = asyncio.current_task()
        try:
            if fetch.cancelled():
                return
            source = await self._fetch(video, np.concatenate(frames), all_references)
            if fetch.set_running_or_notify_cancel():
                fetch.job = self._pool.submit(function, video._replace(source=source), frames, *arguments)
                fetch.set_result(fetch.job)
        except asyncio.CancelledError:
            fetch.cancel()
            raise
        except BaseException as error:
            if fetch.set_running_or_notify_cancel():
                fetch.set_exception(error)
        finally:
            with self._lock:
                self._fetches.discard(fetch)

    async def _fetch(self, video, frames, all_references):
        """The bytes that clips need of an object, or what reads them when they are asked for, where it is too large."""
        place, size = video.place, video.bytes
        index = video.packet_index if read_by_index(video) else None
        if size is None and index is None:  # nothing is compared, and all is needed
            stat = await self._reader.stat(place.path, self._gate)
            size = stat.size
        else:
            stat = Stat(-1 if video.shard is not None or size is None else size, video.etag)
        if index is not None and (size is None or size >= self._storage.whole_below):
            ranges = byte_ranges(video, index, frames, all_references)
        elif size > WHOLE_MAX:  # too large to be held in memory
            return ObjectSource(place, self._storage, stat)
        else:
            ranges = [(0, size)]
        moved = [(place.first + first, place.first + last) for first, last in ranges]
        found = await self._reader.read(place.path, moved, stat, self._gate)
        spans = [(first, data) for (first, _), data in zip(ranges, found, strict=True)]
        place = place._replace(size=size if place.size is None else place.size)
        return ObjectSource(place, self._storage, stat, spans, by_blocks=index is None)

    def result(self, future: Any) -> Any:
        """As of the pool. Also what reading an object raises."""
        if isinstance(future, _Fetch):
            before = time.perf_counter()
            future = future.result()
            with self._lock:
                self._waited += time.perf_counter() - before
        return self._pool.result(future)

    def has(self, future: Any) -> bool:
        """Whether ``result`` returns clips at once."""
        if isinstance(future, _Fetch):
            return _is_good(future) and _is_good(future.result())
        return _is_good(future)

    def take_costs(self) -> tuple[Costs, float]:
        """What reading objects has cost since the last call, and seconds that ``result`` waited for them."""
        if self._reader is None:
            return Costs(0, 0, 0), 0.0
        with self._lock:
            waited, self._waited = self._waited, 0.0
        return self._reader.take_costs(), waited

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> list[tuple]:
        """Take no more, as of the pool. What is being read is given up."""
        with self._lock:
            self._closed, fetches, stack = True, list(self._fetches), self._stack
        for fetch in fetches:
            fetch.cancel()
        if stack is not None:
            self._loop.call_soon_threadsafe(lambda: [f.task.cancel() for f in fetches if f.task is not None])
            stack.close()
        return self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _is_good(future):
    return future.done() and not future.cancelled() and future.exception() is None
