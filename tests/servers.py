"""Object stores on this machine, each a process with a port of its own, and a proxy that delays, fails and counts."""

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

KEY, SECRET = "testaccesskey", "testsecretkey-0123456789"
_COMMANDS = {
    "moto": "moto_server -H 127.0.0.1 -p {port}",
    "localbucket": "localbucket {folder} --port {port}",
    "nanio": "nanio serve --host 127.0.0.1 --port {port} --data-dir {folder} --no-access-log",
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(name, folder):
    """Start a server that keeps buckets in a folder: gives its port. It ends with the block."""
    port = free_port()
    program, *options = _COMMANDS[name].format(port=port, folder=folder).split()
    program = shutil.which(program, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    env = {**os.environ, "NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([program, *options], env=env, **quiet) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None, f"{name} ended"
                time.sleep(0.05)
            yield port
        finally:
            process.kill()


def put(port, bucket, files):
    """Make a bucket with these objects: paths of files, or bytes, by key."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )  # fmt: skip
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        client.create_bucket(Bucket=bucket)
    for key, data in files.items():
        client.put_object(Bucket=bucket, Key=key, Body=data if isinstance(data, bytes) else Path(data).read_bytes())


def options(port, secret=SECRET):
    """Of ``dv.Storage``, for a server or proxy at a port."""
    where = {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1"}
    return {**where, "access_key_id": KEY, "secret_access_key": secret}


@dataclass
class Proxy:
    """A proxy in front of a server. What it does may be changed at any time.

    Attributes:
        latency: seconds before each answer.
        fail_every, cut_every: each n-th GET is answered with 503, or its answer is cut off in the middle; 0: none.
        hang: GETs of paths with this text are never answered.
        gets: (path, range or None) of each.
        heads: how many.
        body_bytes: of all answers to GETs.
        under_way, most_under_way: GETs that are not answered yet, now and at most.
    """

    upstream: int
    latency: float = 0.0
    fail_every: int = 0
    cut_every: int = 0
    hang: str = ""
    gets: list = field(default_factory=list)
    heads: int = 0
    body_bytes: int = 0
    under_way: int = 0
    most_under_way: int = 0
    port: int = 0

    def forget(self):
        """Begin to count again."""
        self.gets, self.heads, self.body_bytes, self.most_under_way = [], 0, 0, 0

    async def serve(self, reader, writer):
        """Answer the requests of a connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                up = await asyncio.open_connection("127.0.0.1", self.upstream)
                try:
                    await self._exchange(head, reader, *up, writer)
                finally:
                    up[1].close()
        writer.close()

    async def _exchange(self, head, reader, up_reader, up_writer, down):
        method, path = head.split(b" ", 2)[:2]
        path, is_get = path.decode(), method == b"GET" and b"list-type" not in path
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        up_writer.write(head + (await reader.readexactly(int(length[1])) if length else b""))
        asked = re.search(rb"\r\nrange: *bytes=(\S+)", head, re.I)
        if is_get:
            self.gets.append((path, asked and asked[1].decode()))
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        self.heads += method == b"HEAD"
        number = len(self.gets)
        try:
            answer = await up_reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *(\d+)", answer, re.I)
            body = await up_reader.readexactly(int(length[1])) if length and method != b"HEAD" else b""
            await asyncio.sleep(self.latency)
            if is_get and self.hang and self.hang in path:
                await asyncio.sleep(3600)
            if is_get and self.fail_every and number % self.fail_every == 0:
                answer, body = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", b""
            cut = is_get and self.cut_every and number % self.cut_every == 0
            self.body_bytes += len(body) if is_get else 0  # before whoever waits for the last byte goes on, and forgets
            down.write(answer + (body[: len(body) // 2] if cut else body))
            await down.drain()
        finally:
            self.under_way -= is_get
        if cut:
            raise ConnectionError


@contextlib.contextmanager
def proxy(upstream):
    """Start a proxy in a thread: gives the ``Proxy``. It ends with the block."""
    made, ready, loop, connections = Proxy(upstream), threading.Event(), [], []

    def connected(reader, writer):
        connections.append((writer, asyncio.ensure_future(made.serve(reader, writer))))

    async def main():
        stop = asyncio.Event()
        async with await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20) as serving:
            made.port = serving.sockets[0].getsockname()[1]
            loop.extend((asyncio.get_running_loop(), stop.set))
            ready.set()
            await stop.wait()
        await asyncio.sleep(0.05)  # connections that were just made
        for _, task in connections:
            task.cancel()
        await asyncio.gather(*(task for _, task in connections), return_exceptions=True)
        for writer, _ in connections:  # also of a task that had not begun
            writer.close()
        await asyncio.sleep(0.05)  # what was closed just now leaves the loop

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield made
    finally:
        loop[0].call_soon_threadsafe(loop[1])
        thread.join()
