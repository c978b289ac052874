"""Messages between two processes over a socket: a length and so many bytes; open files."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack

_LENGTH = struct.Struct("<Q")
_FILES_MAX = 200  # in a message; Linux takes 253


def send(sock: socket.socket, data: bytes) -> None:
    """Send a message."""
    sock.sendall(_LENGTH.pack(len(data)) + data)


def receive(sock: socket.socket) -> bytearray:
    """The next message.

    Raises:
        EOFError: the other end is closed.
    """
    return _exactly(sock, _LENGTH.unpack(_exactly(sock, _LENGTH.size))[0])


def _exactly(sock, size):
    data = bytearray(size)
    view = memoryview(data)
    while len(view):
        count = sock.recv_into(view)
        if not count:
            raise EOFError("the other end is closed")
        view = view[count:]
    return data


def send_files(sock: socket.socket, files: Sequence[int]) -> None:
    """Send open files."""
    for first in range(0, len(files), _FILES_MAX):
        socket.send_fds(sock, [b"f"], list(files[first : first + _FILES_MAX]))


def receive_files(sock: socket.socket, count: int) -> list[int]:
    """As many files as the other end sends next.

    Raises:
        EOFError: the other end is closed.
        OSError: this process may not open so many files.
    """
    found: list[int] = []
    with ExitStack() as undone:
        while len(found) < count:
            wanted = min(count - len(found), _FILES_MAX)
            data, files, *_ = socket.recv_fds(sock, 1, wanted)
            found += files
            for file in files:
                undone.callback(os.close, file)
            if not data:
                raise EOFError("the other end is closed")
            if len(files) < wanted:
                raise OSError("too many open files: raise the limit (ulimit -n)")
        undone.pop_all()
    return found
