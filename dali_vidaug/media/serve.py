"""What a decoding process does: jobs that come over sockets, a thread for each. It needs neither torch nor DALI."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import threading
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from typing import Any

from dali_vidaug.blocks import Blocks
from dali_vidaug.media.decode import decode_into
from dali_vidaug.recycled import keep_freed_memory
from dali_vidaug.wire import receive, send, send_files

_SMALL = 1 << 15  # bytes; smaller arrays go with the message
_LOOK = 5.0  # seconds after which to look whether the loader is still there


def serve(control: int) -> None:
    """Do jobs until the loader is gone.

    Args:
        control: a socket, over which the loader sends one for each thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the loader, which then closes the sockets
    parent, sock, memory = os.getppid(), socket.socket(fileno=control), _Memory()
    keep_freed_memory()
    decode_into(memory)
    gc.collect()
    gc.freeze()  # what was imported stays: collecting it again and again takes Python's lock from all threads
    sock.sendall(b"r")
    sock.settimeout(_LOOK)
    while True:
        try:
            data, files, *_ = socket.recv_fds(sock, 1, 1)
        except TimeoutError:
            if os.getppid() != parent:  # where a fork of the loader keeps its end of the socket open
                break
            continue
        except OSError:
            break
        if not data:
            break
        threading.Thread(target=_answer, args=(socket.socket(fileno=files[0]), memory), daemon=True).start()
    os._exit(0)  # not waiting for clips that are being decoded


class _Memory(threading.local):
    """Where the clips that a thread decodes are."""

    def __init__(self):
        self.blocks = Blocks()  # of each thread

    def take(self, shape, dtype):
        return self.blocks.take(shape, dtype)


def _answer(sock: socket.socket, memory: _Memory) -> None:
    blocks = memory.blocks
    with sock:
        while True:
            try:
                function, arguments, returned = pickle.loads(receive(sock))
                blocks.give_back(returned)
                _send_result(sock, blocks, *_do(function, arguments))
            except (EOFError, ConnectionError):
                return


def _do(function, arguments) -> tuple[bool, Any]:
    """Whether a job failed, and what it returned or raised."""
    try:
        return False, function(*arguments)
    except BaseException as error:
        return True, ExceptionWithTraceback(error, error.__traceback__)


def _send_result(sock, blocks, failed, result):
    buffers: list[pickle.PickleBuffer] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:  # of an array; then it is pickled with the rest
        if buffer.raw().nbytes < _SMALL:
            return True
        buffers.append(buffer)
        return False

    try:
        data = pickle.dumps(result, 5, buffer_callback=is_small)
        if failed:
            pickle.loads(data)  # not every exception can be read again
    except Exception as error:
        buffers.clear()
        failed, data = True, pickle.dumps(RuntimeError(f"a result cannot be pickled: {result!r} ({error})"), 5)
    places = [blocks.lend(buffer.raw()) for buffer in buffers]
    new, files, dropped = blocks.announce(place for place in places if place)
    where = [place or bytes(buffer.raw()) for place, buffer in zip(places, buffers, strict=True)]
    problem, blocks.problem = blocks.problem, None
    send(sock, pickle.dumps((failed, data, where, new, dropped, problem), 5))
    send_files(sock, [file.fileno() for file in files])
    for file in files:
        file.close()
