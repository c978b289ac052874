"""A server of files as objects, with a delay before each answer, that takes little of a processor.

It speaks as much of HTTP, and of S3's protocol, as reading objects takes: GET, HEAD, one range, If-Match. Whoever asks
may read. Answers are delayed side by side, as those of a server far away are, with no proxy that would copy them.

    python benchmarks/range_server.py FOLDER

prints its port, and ends with its standard input. An object /BUCKET/KEY is the file KEY of the folder, whatever the
bucket is called. There it takes lines: ``latency SECONDS``, and ``costs``, which it
answers with a line of JSON on what it did since the line before: "requests", "bytes" of their bodies, "seconds" of
processor time, and "most_under_way", the requests that were waiting for their answer at the same time.
"""

import asyncio
import contextlib
import json
import mmap
import os
import re
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

_HEAD_MAX = 1 << 16  # bytes of a request
_RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d+)\r", re.IGNORECASE)
_MATCH = re.compile(rb"\r\nif-match: *(\S+)\r", re.IGNORECASE)


class RangeServer:
    """The server as seen by the program that started it, from ``serve``.

    Attributes:
        port: of 127.0.0.1.
    """

    def __init__(self, process):
        self._process, self.port = process, int(process.stdout.readline())

    def delay(self, seconds):
        """Wait so long before each answer."""
        self._say(f"latency {seconds}")
        self.costs()  # it is done when this is answered

    def costs(self):
        """What it did since it was asked last: a dict, see the top of this file."""
        self._say("costs")
        return json.loads(self._process.stdout.readline())

    def _say(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


@contextlib.contextmanager
def serve(folder):
    """Start a server of the files below a folder, as a process: gives a ``RangeServer``. It ends with the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, __file__, str(folder)], **pipes) as process:
        try:
            yield RangeServer(process)
        finally:
            process.stdin.close()
            process.wait()


class _State:
    """What connections have in common: open files, and what was counted."""

    def __init__(self, folder):
        self.folder, self.latency, self.under_way, self._files = Path(folder).resolve(), 0.0, 0, {}
        self.forget()

    def forget(self):
        self.requests, self.bytes, self.most_under_way, self._began = 0, 0, self.under_way, time.process_time()

    def costs(self):
        seconds = time.process_time() - self._began
        counted = {name: getattr(self, name) for name in ("requests", "bytes", "most_under_way")}
        self.forget()
        return {**counted, "seconds": seconds}

    def file(self, name):
        """Bytes of a file, its ETag and its date; None if there is none."""
        if name not in self._files:
            path = (self.folder / name.lstrip("/").partition("/")[2]).resolve()
            if not (path.is_file() and path.is_relative_to(self.folder)):
                return None
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if stat.st_size else b""
            self._files[name] = data, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"', formatdate(stat.st_mtime, usegmt=True)
        return self._files[name]


class _Connection(asyncio.Protocol):
    def __init__(self, state):
        self._state, self._asked, self._is_waiting, self._transport = state, b"", False, None

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._asked += data
        if len(self._asked) > _HEAD_MAX:
            self._transport.abort()
        elif not self._is_waiting:
            self._begin()

    def _begin(self):
        head, end, rest = self._asked.partition(b"\r\n\r\n")
        if end:
            state, self._asked, self._is_waiting = self._state, rest, True
            state.requests, state.under_way = state.requests + 1, state.under_way + 1
            state.most_under_way = max(state.most_under_way, state.under_way)
            asyncio.get_running_loop().call_later(state.latency, self._answer, head + b"\r\n")

    def _answer(self, head):
        state, self._is_waiting = self._state, False
        state.under_way -= 1
        answer, body = _answer_to(head, state)
        state.bytes += len(body)
        if not self._transport.is_closing():
            self._transport.write(answer)
            self._transport.write(body)
            self._begin()


def _answer_to(head, state):
    """The head of the answer to a request, and its body."""
    method, path = head.split(b" ", 2)[:2]
    found = state.file(unquote(path.partition(b"?")[0].decode())) if method in (b"GET", b"HEAD") else None
    if found is None:
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b""
    data, etag, date = found
    wanted, match = _RANGE.search(head), _MATCH.search(head)
    if match and match[1].decode() != etag:
        return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n", b""
    first, last = (int(wanted[1]), min(int(wanted[2]) + 1, len(data))) if wanted else (0, len(data))
    if wanted and not first < last:
        return b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n", b""
    status = f"206 Partial Content\r\nContent-Range: bytes {first}-{last - 1}/{len(data)}" if wanted else "200 OK"
    told = f"Content-Length: {last - first}\r\nETag: {etag}\r\nLast-Modified: {date}\r\nAccept-Ranges: bytes"
    return f"HTTP/1.1 {status}\r\n{told}\r\n\r\n".encode(), b"" if method == b"HEAD" else data[first:last]


async def _run(folder):
    state, loop, ended = _State(folder), asyncio.get_running_loop(), asyncio.Event()

    def obey():
        lines = os.read(sys.stdin.fileno(), 1 << 12).decode().splitlines()
        for line in lines:
            if line.startswith("latency "):
                state.latency = float(line.split()[1])
            else:
                print(json.dumps(state.costs()), flush=True)
        if not lines:
            ended.set()

    loop.add_reader(sys.stdin.fileno(), obey)
    server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))
