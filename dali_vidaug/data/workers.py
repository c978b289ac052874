"""What calls a function for one item after the other: threads, an executor, Ray.

Each of these classes, and ``Processes``, has

- ``capacity()``: how many items may be in flight;
- ``start(number, item)``: gives it one;
- ``finished()``: waits for some; numbers and outcomes: a result, ``Failed``, ``Died`` or ``Raised``;
- ``close()``: gives up what is in flight.
"""

from __future__ import annotations

import pickle
import queue
import time
import traceback
from concurrent.futures import BrokenExecutor, CancelledError, wait
from importlib import import_module
from typing import Any, NamedTuple

from dali_vidaug.errors import one_line
from dali_vidaug.threads import ThreadPool

_QUEUED_BY_EXECUTOR = 1024  # items in flight
_QUEUED_BY_RAY = 4  # for each core
_LEAST_QUEUED = 16
_LOOK = 1.0  # seconds after which to look again at clocks
_LOOK_AT_CLUSTER = 10.0
_PATIENCE = 5.0  # seconds for what is being done when the rest is given up


class Failed(NamedTuple):
    """Stands in the place of a result: the item took too long, or its workers died."""

    reason: str


class Died(NamedTuple):
    """A worker ended while it had an item; ``began``: it may have been at work on it, which it may have died of."""

    how: str
    began: bool = True


class Raised(NamedTuple):
    """What a function raised, and the text of its traceback if that was elsewhere."""

    error: BaseException
    trace: str = ""


def call(function: Any, item: Any, timeout: float | None) -> Any:
    """The outcome of a function: its result, ``Raised``, or ``Failed`` after ``timeout`` seconds.

    No thread can be stopped that waits for a disk which does not answer: it is left behind.
    """
    if timeout is None:
        return _outcome(function, item)
    pool = ThreadPool(1, timeout)
    try:
        return pool.result(pool.submit(_outcome, function, item))
    except TimeoutError:
        return Failed(too_long(timeout))
    finally:
        pool.shutdown(wait=False)


def call_far(function: Any, item: Any, timeout: float | None) -> Any:
    """As ``call``; the outcome can be pickled."""
    return _portable(call(function, item, timeout))


def _outcome(function, item):
    try:
        return function(item)
    except BaseException as error:
        return Raised(error)


def _portable(outcome):
    if isinstance(outcome, Raised):
        outcome = Raised(outcome.error, "".join(traceback.format_exception(outcome.error)))
    try:
        pickle.loads(pickle.dumps(outcome))
    except Exception as problem:
        if isinstance(outcome, Raised):
            return Raised(RuntimeError(f"{type(outcome.error).__name__}: {outcome.error}"), outcome.trace)
        return Raised(RuntimeError(f"a result cannot be pickled: {one_line(problem)}"))
    return outcome


def too_long(timeout: float) -> str:
    """Why an item failed that took longer than ``timeout`` seconds."""
    return f"it was not done within {timeout:g} s (timeout)"


class Executor:
    """Anything with ``submit`` that returns futures.

    Args:
        executor: of ``concurrent.futures``, a client of Dask, or ``ThreadPool``.
        how: ``call`` or ``call_far``.
        function, timeout: of the items.
        most: items in flight; None: many.
        own: it is shut down with this.
    """

    def __init__(self, executor: Any, how: Any, function: Any, timeout: float | None, most: int | None, own: bool):
        self._executor, self._how, self._function, self._timeout = executor, how, function, timeout
        self._most, self._own = most or _QUEUED_BY_EXECUTOR, own
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        self._futures: dict[int, Any] = {}

    def capacity(self) -> int:
        """See above, as of the other methods."""
        return self._most

    def start(self, number: int, item: Any) -> None:
        """See above."""
        try:
            future = self._executor.submit(self._how, self._function, item, self._timeout)
        except RuntimeError as error:  # it was shut down, or is broken
            raise RuntimeError(f"the executor that engine= is has ended: {one_line(error)}") from error
        self._futures[number] = future
        future.add_done_callback(lambda _: self._done.put(number))

    def finished(self) -> list[tuple[int, Any]]:
        """See above."""
        number = self._done.get()
        try:
            return [(number, self._futures.pop(number).result())]
        except (BrokenExecutor, CancelledError) as error:
            raise RuntimeError(f"the executor that engine= is has ended: {one_line(error)}") from error
        except Exception as error:
            if type(error).__name__ == "KilledWorker":  # Dask's, which has tried the item on several
                return [(number, Failed(f"its workers died: {one_line(error)}"))]
            raise

    def close(self) -> None:
        """See above."""
        if self._own:  # what is being done is let end
            self._executor.shutdown(wait=False, cancel_futures=True)
            wait([future for future in self._futures.values() if not future.cancelled()], _PATIENCE)
        else:
            for future in self._futures.values():
                future.cancel()


def import_ray() -> Any:
    """The package ray.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ModuleNotFoundError("engine='ray' needs Ray: pip install 'dali_vidaug[ray]'", name="ray") from None


class Ray:
    """Tasks of Ray, of a core each, in the cluster that the program is connected to, or Ray finds, or starts.

    Args:
        function, timeout: of the items.
        most: items in flight; None: some for each core.
    """

    def __init__(self, function: Any, timeout: float | None, most: int | None):
        self._ray = import_ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            self._ray.init(logging_level="WARNING")
        errors = self._ray.exceptions
        self._deaths = (
            errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError
        )  # fmt: skip
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(call_far)  # retries are counted in one place
        self._function, self._timeout, self._most = function, timeout, most
        self._numbers: dict[Any, int] = {}
        self._looked, self._cores = -1e9, 0

    def capacity(self) -> int:
        """See above, as of the other methods."""
        if self._most is not None:
            return self._most
        if time.monotonic() - self._looked > _LOOK_AT_CLUSTER:  # nodes come and go
            self._looked, self._cores = time.monotonic(), int(self._ray.cluster_resources().get("CPU", 0))
        return max(_LEAST_QUEUED, _QUEUED_BY_RAY * self._cores)

    def start(self, number: int, item: Any) -> None:
        """See above."""
        self._numbers[self._task.remote(self._function, item, self._timeout)] = number

    def finished(self) -> list[tuple[int, Any]]:
        """See above."""
        ready: list[Any] = []
        while not ready:
            ready, _ = self._ray.wait(list(self._numbers), num_returns=1, timeout=_LOOK)
        ready, _ = self._ray.wait(list(self._numbers), num_returns=len(self._numbers), timeout=0)
        return [(self._numbers.pop(task), self._outcome(task)) for task in ready]

    def _outcome(self, task):
        try:
            return self._ray.get(task)
        except self._deaths as error:
            return Died(one_line(error))
        except self._ray.exceptions.RayTaskError as error:  # what the function raises is no exception by here
            last = str(error).strip().splitlines()[-1]
            raise RuntimeError(f"engine='ray': a node cannot run the task, is the package there? {last}") from error

    def close(self) -> None:
        """See above."""
        for task in self._numbers:
            self._ray.cancel(task, force=True)
        if self._own:
            self._ray.shutdown()
