"""Processes that do the jobs of a pool's threads: one that dies is replaced, and its jobs are done again.

Each thread has a lane: a socket to a thread of a process. Processes are started afresh, not forked, with nothing of the
program that starts them but its path for imports. They end with it, however it ends.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, closing
from multiprocessing.spawn import get_executable
from typing import Any

from dali_vidaug.blocks import Mapped, Place
from dali_vidaug.report import warn_once
from dali_vidaug.wire import receive, receive_files, send, send_files

_PROGRAM = (
    "import sys; number, sys.path[:] = int(sys.argv[1]), sys.argv[2:]; "
    "from dali_vidaug.media.serve import serve; serve(number)"
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of libraries that nothing is asked of
_END_SECONDS = 5  # for a process to end by itself
_STARTS = 10  # processes that are killed one after the other before they are ready

log = logging.getLogger("dali_vidaug")


Timed = Callable[[], AbstractContextManager[None]]


class DiedError(Exception):
    """A process is gone; the message says how."""


class StillbornError(Exception):
    """A process was killed before it was ready, so not by a clip; the message says how."""


class _Worker:
    """A process."""

    def __init__(self):
        self._control, theirs = socket.socketpair()
        self._lock, self._is_ready = threading.Lock(), False
        with theirs, ExitStack() as undone:
            undone.callback(self._control.close)
            command = [os.fsdecode(get_executable() or sys.executable), "-c", _PROGRAM, str(theirs.fileno())]
            self._process = subprocess.Popen(
                [*command, *sys.path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
            )
            undone.pop_all()

    @property
    def pid(self):
        return self._process.pid

    def open(self) -> tuple[socket.socket, Mapped]:
        """A socket to a new thread of the process, and its memory; waits until the process has started."""
        with self._lock:
            try:
                if not self._is_ready and not self._control.recv(1):
                    raise EOFError
                self._is_ready = True
                mine, theirs = socket.socketpair()
                with theirs, ExitStack() as undone:
                    undone.callback(mine.close)
                    send_files(self._control, [theirs.fileno()])
                    undone.pop_all()
                return mine, Mapped()
            except (EOFError, OSError) as error:
                how = self.death()
                if self._is_ready:
                    raise DiedError(how) from error
                if (self._process.returncode or 0) >= 0:  # it could not be imported, which the next one cannot either
                    raise RuntimeError(
                        f"a decoding process {how} when it was started; what it printed says why"
                    ) from error
                raise StillbornError(f"{how} when it was started") from error

    def death(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its sockets"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def kill(self) -> None:
        """Have the process end, at once."""
        self._control.close()
        self._process.kill()

    def close(self, until: float | None = None) -> None:
        """Have it end and wait for that: some seconds, or until a time of ``time.monotonic``."""
        self.kill()
        seconds = _END_SECONDS if until is None else max(0.0, until - time.monotonic())
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:  # it waits in the kernel, for a disk that does not answer
            log.warning("a decoding process does not end: it waits for storage that does not answer")


class Workers:
    """Some processes, which are started at once.

    Args:
        count: how many.
        died: called when one has died.
    """

    def __init__(self, count: int, died: Callable[[], None]):
        self._lock, self._closed, self._died = threading.Lock(), False, died
        self._workers: list[_Worker] = []
        self._alone: set[_Worker] = set()
        with ExitStack() as undone:
            undone.callback(self.close)
            for _ in range(count):
                self._workers.append(_Worker())
            undone.pop_all()

    def lane(self, number: int) -> Lane:
        """A way to have jobs done, one after the other, for one thread; lanes are shared evenly by the processes."""
        return Lane(self, number % len(self._workers))

    def pids(self) -> list[int]:
        """The processes."""
        return [worker.pid for worker in self._workers]

    def worker(self, number: int) -> _Worker:
        """The process of a number, at present."""
        self.check_open()
        return self._workers[number]

    def replace(self, number: int, dead: _Worker, how: str) -> None:
        """Start another process in the place of one that died, unless that was done already."""
        with self._lock:
            self.check_open()
            if self._workers[number] is dead:
                log.warning("a decoding process %s; another takes its place, and its clips are decoded again", how)
                dead.close()
                self._died()
                self._workers[number] = _Worker()

    def do_alone(self, timed: Timed, function: Callable, arguments: tuple[Any, ...]) -> Any:
        """Do a job in a process that does nothing else: if this one dies too, it is because of the job.

        Args:
            timed, function, arguments: as of a lane.

        Raises:
            ChildProcessError: it died.
            RuntimeError: no process can be started.
        """
        for _ in range(_STARTS):
            with self._lock:
                self.check_open()
                worker = _Worker()
                self._alone.add(worker)
            try:
                sock, memory = worker.open()
                with sock, closing(memory), timed():
                    return _call(worker, sock, memory, function, arguments)
            except StillbornError as error:
                how = str(error)
            except DiedError as error:
                self.check_open()
                raise ChildProcessError(f"reading and decoding it ends the process: the second one {error}") from error
            finally:
                with self._lock:
                    self._alone.discard(worker)
                worker.close()
        raise RuntimeError(f"{_STARTS} decoding processes one after the other died; the last one {how}")

    def check_open(self) -> None:
        """Refuse to go on where the processes were stopped."""
        if self._closed:
            raise CancelledError("the processes were stopped")

    def close(self) -> None:
        """Stop the processes; waits some seconds at most, for all of them together."""
        with self._lock:
            self._closed = True
            every = [*self._workers, *self._alone]
        for worker in every:
            worker.kill()
        until = time.monotonic() + _END_SECONDS
        for worker in every:
            worker.close(until)


class Lane:
    """See ``Workers.lane``."""

    def __init__(self, workers: Workers, number: int):
        self._workers, self._number = workers, number
        self._worker: _Worker | None = None
        self._way: tuple[socket.socket, Mapped] | None = None

    def __call__(self, timed: Timed, function: Callable, *arguments: Any) -> Any:
        """What a function returns, which can be pickled as its arguments can; or raises.

        Args:
            timed: makes contexts in which the function is called; a process is started before.
            function, arguments: what to do.

        Raises:
            CancelledError: the processes were stopped meanwhile.
            ChildProcessError: the process died, and another one that did nothing else too.
            RuntimeError: a process cannot be started.
        """
        for _ in range(_STARTS):
            worker = self._workers.worker(self._number)
            try:
                if self._way is None or self._worker is not worker:
                    self.close()
                    self._worker, self._way = worker, worker.open()
                with timed():
                    return _call(worker, *self._way, function, arguments)
            except (StillbornError, DiedError) as error:
                self.close()
                self._workers.replace(self._number, worker, str(error))
                if isinstance(error, DiedError):
                    break
        return self._workers.do_alone(timed, function, arguments)

    def close(self) -> None:
        """End it."""
        way, self._way, self._worker = self._way, None, None
        if way is not None:
            for end in way:
                end.close()


def _call(worker, sock, memory, function, arguments):
    """Have a thread of a process do a job."""
    message = pickle.dumps((function, arguments, memory.returned()), 5)
    try:
        send(sock, message)
        failed, data, places, new, dropped, problem = pickle.loads(receive(sock))
        memory.add(new, receive_files(sock, len(new)))
    except (EOFError, ConnectionError) as error:
        raise DiedError(worker.death()) from error
    except OSError as error:  # not the clip's fault
        raise RuntimeError(f"memory of a decoding process cannot be mapped: {error}") from error
    if problem:
        warn_once(f"decoding processes send clips in pieces, which takes longer: {problem}")
    buffers = [memory.array(place) if isinstance(place, Place) else place for place in places]
    memory.drop(dropped)
    result = pickle.loads(data, buffers=buffers)
    if failed:
        raise result
    return result
