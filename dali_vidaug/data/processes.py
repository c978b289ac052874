"""Processes that call a function for one item after the other. One that dies, or takes too long, is replaced."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from dali_vidaug.data.workers import Died, Failed, call_far, too_long

_LOOK = 1.0  # seconds after which to look again at clocks
_STARTS = 10  # processes that die one after the other before they are ready
_READY = "ready"  # what a process says first


class _Process:
    """A process that has one item at a time, so that it is known which one it died of."""

    def __init__(self, context, function):
        self.connection, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, function), daemon=True)
        self._process.start()
        far.close()
        self.is_ready, self.number, self.began = False, -1, 0.0

    def exit_code(self):
        self._process.join(_LOOK)
        return self._process.exitcode

    def end(self):
        self._process.kill()
        self.connection.close()
        self._process.join(_LOOK)
        with suppress(ValueError):  # it waits for a disk that does not answer
            self._process.close()


def _serve(connection, function):
    """What a process does until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the parent ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        connection.send(_READY)
        while True:
            connection.send(call_far(function, connection.recv(), None))


def _end_with_parent():
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Processes:
    """Processes of this machine; methods as workers.py says.

    Args:
        function, timeout: of the items.
        most: processes.
    """

    def __init__(self, function: Any, timeout: float | None, most: int):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])  # imports take seconds: once, not in each process
        self._function, self._timeout, self._most = function, timeout, most
        self._idle: list[_Process] = []
        self._busy: dict[Any, _Process] = {}  # by connection
        self._stillborn = 0

    def capacity(self) -> int:
        """As of ``workers.Executor``."""
        return self._most

    def start(self, number: int, item: Any) -> None:
        """As of ``workers.Executor``."""
        while True:
            worker = self._idle.pop() if self._idle else _Process(self._context, self._function)
            try:
                worker.connection.send(item)
                break
            except OSError:  # it died meanwhile
                worker.end()
        worker.number, worker.began = number, time.monotonic()
        self._busy[worker.connection] = worker

    def finished(self) -> list[tuple[int, Any]]:
        """As of ``workers.Executor``."""
        found: list[tuple[int, Any]] = []
        while not found:
            for connection in wait(list(self._busy), _LOOK):
                worker = self._busy[connection]
                try:
                    outcome = worker.connection.recv()
                except (EOFError, OSError):
                    found.append((worker.number, self._bury(worker)))
                    continue
                if worker.is_ready:
                    self._idle.append(self._busy.pop(connection))
                    found.append((worker.number, outcome))
                else:
                    worker.is_ready, worker.began, self._stillborn = True, time.monotonic(), 0
            found += self._end_overdue()
        return found

    def _end_overdue(self):
        now = time.monotonic()
        for worker in list(self._busy.values()):
            if self._timeout is not None and worker.is_ready and now - worker.began >= self._timeout:
                del self._busy[worker.connection]
                worker.end()
                yield worker.number, Failed(too_long(self._timeout))

    def _bury(self, worker):
        """How a process died."""
        del self._busy[worker.connection]
        code = worker.exit_code()
        worker.end()
        how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        self._stillborn += not worker.is_ready
        if not worker.is_ready and ((code or 0) > 0 or self._stillborn >= _STARTS):
            raise RuntimeError(
                f"a process of engine='processes' died when it started ({how}). Programs that use it must start under "
                "if __name__ == '__main__':"
            )
        return Died(how, worker.is_ready)

    def close(self) -> None:
        """As of ``workers.Executor``."""
        for worker in (*self._idle, *self._busy.values()):
            worker.end()
