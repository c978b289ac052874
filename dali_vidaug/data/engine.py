"""Calls a function for many items: in threads, in processes, as tasks of Ray, or by an executor of your own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Sized
from typing import Any

from tqdm import tqdm

from dali_vidaug.data.processes import Processes
from dali_vidaug.data.workers import Died, Executor, Failed, Raised, Ray, call, call_far, import_ray
from dali_vidaug.device.cores import own_cores
from dali_vidaug.threads import ThreadPool, keep_freed_memory

ENGINES = ("threads", "processes", "ray")
TRIES = 3  # of an item whose worker dies
_END = object()


class WorkerTracebackError(Exception):
    """The traceback of a worker as text: the cause of an exception that is raised again here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def check_engine(engine: Any, num_workers: Any = None, option: str = "num_workers") -> None:
    """Refuse what is no engine, and no number of workers.

    Args:
        engine, num_workers: as of ``run``.
        option: what ``num_workers`` is called, for messages.

    Raises:
        ValueError: it is neither the name of one nor an object with ``submit``; or the number is below 1, or no int.
        ModuleNotFoundError: it needs a package that is not installed.
    """
    if num_workers is not None and (type(num_workers) is not int or num_workers < 1):
        raise ValueError(f"{option} must be a whole number, 1 or more, or None, got {num_workers!r}")
    if isinstance(engine, str) and engine in ENGINES:
        if engine == "ray":
            import_ray()
    elif isinstance(engine, type) or not callable(getattr(engine, "submit", None)):
        raise ValueError(
            f"engine must be {', '.join(map(repr, ENGINES))}, or an executor with submit(function, *arguments), got "
            f"{engine!r}"
        )


def run(
    function: Callable[[Any], Any], items: Iterable[Any], *, engine: Any = "threads", num_workers: int | None = None,
    timeout: float | None = None, total: int | None = None, what: str = "scan", unit: str = "videos",
    progress: bool = True,
) -> Generator[tuple[Any, Any], None, None]:  # fmt: skip
    """Call a function for each item. A bounded number of items is in flight: there may be any number of them.

    Args:
        function: of one item. For other engines than threads: of a module, so that it can be pickled, as items and
            results are, which should be small.
        items: they are taken when a worker is free.
        engine: "threads"; "processes"; "ray": tasks of a core each, in the cluster that Ray is connected to or that
            RAY_ADDRESS names, else in one that is started on this machine; or an executor whose ``submit`` returns
            futures, as of ``concurrent.futures`` or a client of Dask.
        num_workers: items at the same time; default: the cores of this process, all of Ray's, and of an executor as
            many as it likes.
        timeout: seconds that an item may take; None: no limit.
        total: number of items, for the progress bar; default: their ``len``, if they have one.
        what, unit, progress: what the bar says; whether there is one.

    Yields:
        Each item with its result, as they come. ``Failed`` stands in the place of the result of an item that took too
        long, or whose worker died three times; after the first and second time another worker has it.

    Raises:
        ValueError, ModuleNotFoundError: as of ``check_engine``.
        RuntimeError: the engine itself fails.
        Exception: whatever the function raises; what is in flight then is given up.
    """
    check_engine(engine, num_workers)
    if total is None and isinstance(items, Sized):
        total = len(items)
    often = 0.1 if sys.stderr.isatty() else 60.0  # a log wants a line a minute
    workers = _open(engine, function, num_workers, timeout)
    try:
        with tqdm(None, what, total, unit=f" {unit}", disable=not progress or total == 0, mininterval=often) as shown:
            for item, result in _results(workers, iter(items)):
                shown.update()
                yield item, result
    finally:
        workers.close()


def _open(engine, function, num_workers, timeout):
    if engine == "processes":
        return Processes(function, timeout, num_workers or own_cores())
    if engine == "ray":
        return Ray(function, timeout, num_workers)
    if engine == "threads":
        keep_freed_memory()
        num_threads = num_workers or own_cores()
        return Executor(ThreadPool(num_threads), call, function, timeout, num_threads + 2, True)
    return Executor(engine, call_far, function, timeout, num_workers, False)


def _results(workers, items):
    """Keep workers busy; yields items with their results. An item whose worker died is given to another one."""
    jobs: dict[int, tuple[Any, int]] = {}  # by number: what is in flight, and how often a worker died of it
    lost: list[tuple[Any, int]] = []
    number, more = 0, True
    while True:
        while len(jobs) < workers.capacity() and (lost or more):
            item, deaths = lost.pop() if lost else (next(items, _END), 0)
            if item is _END:
                more = False
                continue
            workers.start(number, item)
            jobs[number] = item, deaths
            number += 1
        if not jobs:
            return
        for done, outcome in workers.finished():
            item, deaths = jobs.pop(done)
            if isinstance(outcome, Raised):
                raise outcome.error from (WorkerTracebackError(outcome.trace) if outcome.trace else None)
            if isinstance(outcome, Died):
                if deaths + outcome.began < TRIES:
                    lost.append((item, deaths + outcome.began))
                    continue
                outcome = Failed(f"its worker died {TRIES} times, at last: {outcome.how}")
            yield item, outcome
