"""Measures the files of a list, several at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.data.engine import Failed, run
from dali_vidaug.data.known import Known
from dali_vidaug.data.listed_files import ListedFiles, MeasureOptions
from dali_vidaug.data.workers import too_long
from dali_vidaug.device.cores import own_cores
from dali_vidaug.media.claims import read_header
from dali_vidaug.media.measure import measure
from dali_vidaug.threads import ThreadPool

TIMEOUT = 600.0  # seconds that a file may take
_STEP = 256  # files whose rows are read together
_AHEAD = 1 << 13  # files that wait while one of them does not answer


class How(NamedTuple):
    """How files are measured: ``engine``, ``num_threads``, ``timeout`` and ``progress`` of ``scan``."""

    engine: Any = "threads"
    num_threads: int | None = None
    timeout: float | None = TIMEOUT
    progress: bool = True


def measure_files(files: ListedFiles, names: Sequence[str], known: Known, options: MeasureOptions, how: How) -> None:
    """Measure what is not known yet of some files."""
    is_known = np.zeros(len(names), bool)
    for number, same in _compare(known, len(names), how):
        is_known[number] = same is not False
        if same is None:
            known.add(names[number], {"error": too_long(how.timeout or 0.0)})
    missing = [names[number] for number in np.flatnonzero(~is_known).tolist()]
    found = run(
        partial(_measure, options), ((name, files.place(name)) for name in missing), engine=how.engine,
        total=len(missing), num_workers=how.num_threads, timeout=how.timeout, progress=how.progress,
    )  # fmt: skip
    with closing(found):  # an interruption ends workers and bar before anything is said of it
        for (name, _), row in found:
            known.add(name, {"error": row.reason} if isinstance(row, Failed) else row)


def _compare(known: Known, count: int, how: How) -> Iterator[tuple[int, bool | None]]:
    """The files that may be known, and whether they are as they were; None: that took too long."""
    pool = ThreadPool((how.num_threads if how.engine == "threads" else None) or own_cores(), how.timeout)
    waiting: deque[tuple[int, Future]] = deque()
    try:
        for first in range(0, count, _STEP):
            for number, row in known.rows_as_asked(range(first, min(first + _STEP, count))):
                row["index"] = row["index"] is not None  # which may be large
                waiting.append((number, pool.submit(known.is_unchanged, number, row)))
            while len(waiting) > _AHEAD:
                yield _take(pool, *waiting.popleft())
        while waiting:
            yield _take(pool, *waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _take(pool, number, future):
    try:
        return number, future.result() if future.done() else pool.result(future)
    except TimeoutError:
        return number, None


def _measure(options, item):
    *how, headers = options
    claims = read_header(item[1], options.stream, options.storage) if headers else None
    return measure(item[1], *how) if claims is None else claims
