"""A pool of threads, or of processes, that loads clips."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import numpy as np


def keep_freed_memory() -> None:
    """Have malloc keep more of the memory that is freed: up to 62 MiB at the end of each of its heaps.

    Decoders take megabytes for each clip and free them after it. By default glibc gives them back each time, and fresh
    pages, which the kernel must clear, cost a tenth of a clip's processor time. It learns how much to keep from the
    largest block, of 32 MiB at most, that a program frees (mallopt(3), M_MMAP_THRESHOLD), so one is freed here. Without
    effect where the environment sets these limits, and on another malloc.
    """
    np.empty(31 << 20, np.uint8)


class ThreadPool:
    """Threads that work through jobs in the order in which they were submitted.

    The threads are daemons, unlike those of ``concurrent.futures``: when the program ends, it waits for the clips that
    are being decoded at that moment, not for all that are queued.
    """

    def __init__(self, num_threads: int):
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._threads = [
            threading.Thread(target=self._work, name=f"dali_vidaug-decode-{i}", daemon=True) for i in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable, *arguments: Any) -> Future:
        """Queue ``function(*arguments)``. The future of a job that comes after ``shutdown`` is cancelled."""
        future: Future = Future()
        with self._lock:
            if self._closed:
                future.cancel()
            else:
                self._jobs.put((future, function, arguments))
        return future

    def _work(self):
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)
            del job, future, arguments  # do not hold the result until the next job arrives

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, as ``concurrent.futures.Executor.shutdown``."""
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
        for thread in self._threads if wait else ():
            thread.join()


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


def open_pool(num_threads: int, workers: int) -> ThreadPool | ProcessPoolExecutor:
    """Start a pool: ``num_threads`` threads, or, when ``workers`` is not 0, so many processes instead."""
    if workers:
        return ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"), keep_freed_memory)
    keep_freed_memory()
    return ThreadPool(num_threads)
