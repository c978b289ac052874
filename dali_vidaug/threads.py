"""A pool of threads, or of processes, that loads clips."""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import numpy as np

_LOOK = 1.0  # seconds after which to look again how long jobs have been running


def keep_freed_memory() -> None:
    """Have malloc keep more of the memory that is freed: up to 62 MiB at the end of each of its heaps.

    Decoders take megabytes for each clip and free them after it. By default glibc gives them back each time, and fresh
    pages, which the kernel must clear, cost a tenth of a clip's processor time. It learns how much to keep from the
    largest block, of 32 MiB at most, that a program frees (mallopt(3), M_MMAP_THRESHOLD), so one is freed here. Without
    effect where the environment sets these limits, and on another malloc.
    """
    np.empty(31 << 20, np.uint8)


class _Job(Future):
    """A future of a pool.

    Attributes:
        began: when its function was called.
        ran: seconds that were seen to pass since then.
        given_up: nobody waits for it any more.
    """

    began = 0.0
    ran = 0.0
    given_up = False


class ThreadPool:
    """Threads that work through jobs in the order in which they were submitted.

    The threads are daemons, unlike those of ``concurrent.futures``: when the program ends, it waits for the clips that
    are being decoded at that moment, not for all that are queued.

    Args:
        num_threads: how many.
        timeout: seconds that a job may take; None: no limit. No thread can be stopped that waits for a disk or a server
            that does not answer, so another one takes its place, and it ends when its job does.
    """

    def __init__(self, num_threads: int, timeout: float | None = None):
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._timeout, self._looked = timeout, time.monotonic()
        self._running: dict[threading.Thread, _Job] = {}
        self._threads: list[threading.Thread] = []
        for _ in range(num_threads):
            self._add_thread()

    def _add_thread(self):
        name = f"dali_vidaug-decode-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
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
            TimeoutError: it has taken too long.
            CancelledError: the pool was shut down before it began.
        """
        over = threading.Event()  # ``concurrent.futures.wait`` does not see that a future is cancelled
        future.add_done_callback(lambda _: over.set())
        while True:
            left = self._give_up()
            if future.given_up and not over.is_set():
                raise TimeoutError(f"it was not read and decoded within {self._timeout:g} s (timeout)")
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
            for thread, job in list(self._running.items()):
                job.ran += min(passed, now - job.began)
                if job.ran >= self._timeout and not job.done():
                    job.given_up = True
                    self._threads.remove(thread)
                    del self._running[thread]
                    if not self._closed:
                        self._add_thread()
            return min([_LOOK, *(max(self._timeout - job.ran, 0.001) for job in self._running.values())])

    def _work(self):
        me = threading.current_thread()
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                with self._lock:
                    future.began, self._running[me] = time.monotonic(), future
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)
                with self._lock:
                    if future.given_up:  # another thread has taken this one's place
                        return
                    del self._running[me]
            del job, future, arguments  # do not hold the result until the next job arrives

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, as ``concurrent.futures.Executor.shutdown``; waits no longer than the timeout."""
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
        end = None if self._timeout is None else time.monotonic() + self._timeout
        for thread in list(self._threads) if wait else ():
            thread.join(None if end is None else max(0.0, end - time.monotonic()))


class ProcessPool(ProcessPoolExecutor):
    """Processes that load clips; ``timeout`` as of ``ThreadPool``, which each of them has for its jobs."""

    def __init__(self, workers: int, timeout: float | None):
        super().__init__(workers, multiprocessing.get_context("forkserver"), _begin_worker, (timeout,))

    def submit(self, function: Callable, /, *arguments: Any) -> Future:  # type: ignore[override]
        """As of ``ThreadPool``."""
        return super().submit(_in_worker, function, *arguments)

    def result(self, future: Future) -> Any:
        """As of ``ThreadPool``."""
        return future.result()


_of_worker: list[ThreadPool] = []  # in a process of a ``ProcessPool``: the pool, of one thread, that does its jobs


def _begin_worker(timeout):
    keep_freed_memory()
    _of_worker.append(ThreadPool(1, timeout))


def _in_worker(function, *arguments):
    (pool,) = _of_worker
    return pool.result(pool.submit(function, *arguments))


@contextmanager
def name_pool_errors() -> Iterator[None]:
    """Turn the errors of a pool that has gone into a ``RuntimeError`` that says what happened."""
    try:
        yield
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a decoding process died. If that was at once: programs that use workers > 0 must start under "
            "if __name__ == '__main__':"
        ) from error
    except CancelledError as error:
        raise RuntimeError("the loader was closed while clips were being loaded") from error


def open_pool(num_threads: int, workers: int, timeout: float | None) -> ThreadPool | ProcessPool:
    """Start a pool: ``num_threads`` threads, or, when ``workers`` is not 0, so many processes instead."""
    if workers:
        return ProcessPool(workers, timeout)
    keep_freed_memory()
    return ThreadPool(num_threads, timeout)
