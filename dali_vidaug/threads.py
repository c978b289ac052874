"""A pool of threads that load clips, or have processes do it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from dali_vidaug.recycled import keep_freed_memory
from dali_vidaug.workers import Workers

_LOOK = 1.0  # seconds after which to look again how long jobs have been running
_GRACE = 1.0  # seconds that a pool which is shut down waits for jobs that run
_LONG = 5.0  # seconds after which a job that still runs then is told


class TooLongError(TimeoutError):
    """A job has taken longer than its pool's timeout."""


class _Job(Future):
    """A future of a pool; cancelled while its function runs, it is over at once, and what the function returns is lost.

    Attributes:
        began: when its function was called.
        ran: seconds that were seen to pass since then.
        given_up: nobody waits for it any more.
    """

    began = 0.0
    ran = 0.0
    given_up = False


def _run_into(future: Future, function: Callable, arguments: tuple) -> None:
    """Call a function; what it returns or raises goes to a future, unless that is cancelled meanwhile."""
    try:
        result = function(*arguments)
    except BaseException as error:
        with suppress(InvalidStateError):
            future.set_exception(error)
        del future, arguments  # which the error's traceback would hold
        return
    with suppress(InvalidStateError):
        future.set_result(result)


class ThreadPool:
    """Threads that work through jobs in the order in which they were submitted.

    The threads are daemons, unlike those of ``concurrent.futures``: when the program ends, it waits for the clips that
    are being decoded at that moment, not for all that are queued.

    Args:
        num_threads: how many.
        timeout: seconds that a job may take; None: no limit. No thread can be stopped that waits for a disk or a server
            that does not answer, so another one takes its place, and it ends when its job does.
        workers: processes that do the jobs, which the pool stops when it is shut down; None: the threads do them.

    Attributes:
        num_threads: as given.
        workers: as given.
    """

    def __init__(self, num_threads: int, timeout: float | None = None, workers: Workers | None = None):
        self.num_threads, self.workers, self._num_begun = num_threads, workers, 0
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._timeout, self._looked = timeout, time.monotonic()
        self._running: dict[threading.Thread, tuple[_Job, tuple]] = {}  # with the arguments
        self._threads: list[threading.Thread] = []
        for _ in range(num_threads):
            self._add_thread()

    def _add_thread(self):
        name, number = f"dali_vidaug-decode-{len(self._threads)}", self._num_begun
        self._num_begun += 1
        lane = None if self.workers is None else self.workers.lane(number)
        thread = threading.Thread(target=self._work, args=(lane,), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def submit(self, function: Callable, *arguments: Any) -> Future:
        """Queue ``function(*arguments)``. The future of a job that comes after ``shutdown`` is cancelled."""
        future = _Job()
        with self._lock:
            if self._closed:
                future.cancel()
            else:
                self._jobs.put((future, function, arguments))
        return future

    def result(self, future: Any) -> Any:
        """What a function returned that was submitted; waits for it.

        Raises:
            TooLongError: it has taken too long.
            CancelledError: it was cancelled, or the pool was shut down before it began.
        """
        over = threading.Event()  # ``concurrent.futures.wait`` does not see that a future is cancelled
        future.add_done_callback(lambda _: over.set())
        while True:
            left = self._give_up()
            if future.given_up and not over.is_set():
                raise TooLongError(f"it was not read and decoded within {self._timeout:g} s (timeout)")
            if over.wait(left):
                return future.result()

    def _give_up(self):
        """Replace the threads whose jobs take too long. Returns after how many seconds to look again; None: never."""
        if self._timeout is None:
            return None
        with self._lock:
            now = time.monotonic()
            passed = min(now - self._looked, 2 * _LOOK)  # more where nobody looked, or the program was stopped
            self._looked = now
            for thread, (job, _) in list(self._running.items()):
                job.ran += min(passed, now - job.began)
                if job.ran >= self._timeout and (job.cancelled() or not job.done()):
                    job.given_up = True
                    if self.workers is None:  # else it ends when these are stopped
                        self._threads.remove(thread)
                    del self._running[thread]
                    if not self._closed:
                        self._add_thread()
            return min([_LOOK, *(max(self._timeout - job.ran, 0.001) for job, _ in self._running.values())])

    def _work(self, lane):
        try:
            self._work_through(lane or _call)
        finally:
            if lane is not None:
                lane.close()

    def _work_through(self, call):
        me = threading.current_thread()
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            if not future.cancelled():
                _run_into(future, partial(call, partial(self._timed, me, future, arguments), function), arguments)
                if future.given_up:  # another thread has taken this one's place
                    return
            del job, future, arguments  # do not hold the result until the next job arrives

    @contextmanager
    def _timed(self, thread, future, arguments):
        """In this the time of a job passes; not while a process is started for it."""
        with self._lock:
            if future.given_up or future.cancelled():
                raise CancelledError
            future.began, future.ran, self._running[thread] = time.monotonic(), 0.0, (future, arguments)
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(thread, None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> list[tuple]:
        """Take no more jobs, as ``concurrent.futures.Executor.shutdown``; waits a second at most.

        Jobs that processes are doing are given up.

        Returns:
            Arguments of the jobs that have run for seconds, and still do. Their threads end when the jobs do.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                while cancel_futures and not self._jobs.empty():
                    try:
                        self._jobs.get_nowait()[0].cancel()
                    except queue.Empty:
                        break
                for _ in self._threads:
                    self._jobs.put(None)
        if self.workers is not None:
            self.workers.close()
        end = time.monotonic() + _GRACE
        for thread in list(self._threads) if wait else ():
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            since = time.monotonic() - _LONG
            return [arguments for job, arguments in self._running.values() if job.began <= since]


def _call(timed, function, *arguments):
    with timed():
        return function(*arguments)


@contextmanager
def name_pool_errors() -> Iterator[None]:
    """Turn the errors of a pool that has gone into a ``RuntimeError`` that says what happened."""
    try:
        yield
    except CancelledError as error:
        raise RuntimeError("the loader was closed while clips were being loaded") from error


def open_pool(num_threads: int, workers: int, timeout: float | None, died: Callable[[], None]) -> ThreadPool:
    """Start a pool of threads that load clips.

    Args:
        num_threads: how many.
        workers: processes over which they are spread, at least one in each; 0: they are of this one.
        timeout: as of ``ThreadPool``.
        died: called when a process has died.
    """
    if workers:
        return ThreadPool(max(num_threads, workers), timeout, Workers(workers, died))
    keep_freed_memory()
    return ThreadPool(num_threads, timeout)
