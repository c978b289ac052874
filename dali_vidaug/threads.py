"""A pool of threads, or of processes, that loads clips."""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

_LOOK = 1.0  # seconds after which to look again how long jobs have been running
_GRACE = 1.0  # seconds that a pool which is shut down waits for jobs that run
_LONG = 5.0  # seconds after which a job that still runs then is told


def keep_freed_memory() -> None:
    """Have malloc keep more of the memory that is freed: up to 62 MiB at the end of each of its heaps.

    Decoders take megabytes for each clip and free them after it. By default glibc gives them back each time, and fresh
    pages, which the kernel must clear, cost a tenth of a clip's processor time. It learns how much to keep from the
    largest block, of 32 MiB at most, that a program frees (mallopt(3), M_MMAP_THRESHOLD), so one is freed here. Without
    effect where the environment sets these limits, and on another malloc.
    """
    np.empty(31 << 20, np.uint8)


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


class _Relayed(_Job):
    """The future of a job in another process: that of the executor cannot be cancelled while the job runs."""

    inner: Future | None = None

    def cancel(self) -> bool:
        """Have the job dropped, now or when it is done."""
        if self.inner is not None:
            self.inner.cancel()
        return super().cancel()

    def relay(self, inner: Future) -> None:
        """Take over what became of the executor's future."""
        self.inner = None  # else both would hold each other, and the clips
        if inner.cancelled():
            self.cancel()
        else:
            _run_into(self, inner.result, ())


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
        self._running: dict[threading.Thread, tuple[_Job, tuple]] = {}  # with the arguments
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
            CancelledError: it was cancelled, or the pool was shut down before it began.
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
            for thread, (job, _) in list(self._running.items()):
                job.ran += min(passed, now - job.began)
                if job.ran >= self._timeout and (job.cancelled() or not job.done()):
                    job.given_up = True
                    self._threads.remove(thread)
                    del self._running[thread]
                    if not self._closed:
                        self._add_thread()
            return min([_LOOK, *(max(self._timeout - job.ran, 0.001) for job, _ in self._running.values())])

    def _work(self):
        me = threading.current_thread()
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            if not future.cancelled():
                with self._lock:
                    future.began, self._running[me] = time.monotonic(), (future, arguments)
                _run_into(future, function, arguments)
                with self._lock:
                    if future.given_up:  # another thread has taken this one's place
                        return
                    del self._running[me]
            del job, future, arguments  # do not hold the result until the next job arrives

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> list[tuple]:
        """Take no more jobs, as ``concurrent.futures.Executor.shutdown``; waits a second at most.

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
        end = time.monotonic() + _GRACE
        for thread in list(self._threads) if wait else ():
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            since = time.monotonic() - _LONG
            return [arguments for job, arguments in self._running.values() if job.began <= since]


class ProcessPool(ProcessPoolExecutor):
    """Processes that load clips; ``timeout`` as of ``ThreadPool``, which each of them has for its jobs."""

    def __init__(self, workers: int, timeout: float | None):
        super().__init__(workers, multiprocessing.get_context("forkserver"), _begin_worker, (timeout,))

    def submit(self, function: Callable, /, *arguments: Any) -> Future:  # type: ignore[override]
        """As of ``ThreadPool``."""
        future = _Relayed()
        future.inner = super().submit(_in_worker, function, *arguments)
        future.inner.add_done_callback(future.relay)
        return future

    def result(self, future: Future) -> Any:
        """As of ``ThreadPool``."""
        return future.result()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> list[tuple]:  # type: ignore[override]
        """As of ``ThreadPool``; processes whose jobs still run are killed, so that nothing is left."""
        processes = list((self._processes or {}).values())
        super().shutdown(False, cancel_futures=cancel_futures)
        end = time.monotonic() + _GRACE
        for process in processes if wait else ():
            process.join(max(0.0, end - time.monotonic()))
        for process in processes if wait else ():
            if process.is_alive():
                process.kill()
        return []


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
