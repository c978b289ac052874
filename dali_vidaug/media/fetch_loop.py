"""The thread that waits for object stores: one asyncio loop for the whole process, while somebody needs it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_T = TypeVar("_T")
_LAST_ANSWERS = 0.05  # seconds; obstore's threads come back to Python once for each read that was given up


class _Loop:
    """The loop, and how many need it."""

    def __init__(self):
        self._lock, self._users = threading.Lock(), 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def enter(self) -> asyncio.AbstractEventLoop:
        """Start it, unless it runs."""
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                named: dict[str, Any] = {"name": "dali_vidaug-fetch", "daemon": True}
                self._thread = threading.Thread(target=self._run, args=[self._loop], **named)
                self._thread.start()
            return self._loop

    def leave(self) -> None:
        """End it, if nobody else needs it."""
        with self._lock:
            self._users -= 1
            ended = self._take() if not self._users else None
        self._join(ended)

    def end(self) -> None:
        """End it, at the end of the program."""
        with self._lock:
            ended = self._take()
        self._join(ended)

    def _take(self):
        """The loop and its thread; whoever comes next starts others."""
        taken, self._loop, self._thread = (self._loop, self._thread), None, None
        return taken if taken[0] is not None else None

    def _join(self, ended):
        """Wait for a thread, without the lock: what it waits for may need a loop."""
        if ended is not None:
            loop, thread = ended
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _run(self, loop):
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
                loop.run_until_complete(asyncio.sleep(_LAST_ANSWERS))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


_loop = _Loop()
weakref.finalize(_Loop, _loop.end)  # as the program ends: after those of loaders, because it was made before them


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop, in a thread of its own: a context manager. It ends with the last one that is left."""
    loop = _loop.enter()
    try:
        yield loop
    finally:
        _loop.leave()


def wait_for(work: Coroutine[Any, Any, _T]) -> _T:
    """Have the loop do something, and wait for it."""
    with running_loop() as loop:
        return asyncio.run_coroutine_threadsafe(work, loop).result()
