"""The server of benchmarks/storage.py answers as object stores do, and the benchmark runs."""

import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import write_numbered

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import range_server

PROGRAM = Path(range_server.__file__).parent / "storage.py"


@pytest.fixture
def data(tmp_path):
    found = np.random.default_rng(0).bytes(3_000_001)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a b.mp4").write_bytes(found)
    (tmp_path / "empty.mp4").write_bytes(b"")
    return found


@pytest.fixture
def server(tmp_path, data):
    with range_server.serve(tmp_path) as started:
        yield started


def ask(server, path, method="GET", **headers):
    """The status, headers and body of an answer, as Python's own client reads them."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_ranges_are_those_bytes(server, data):
    status, headers, body = ask(server, "/bucket/below/a%20b.mp4")
    assert (status, body) == (200, data)
    server.costs()
    for first, last in ((0, 0), (1, 5000), (2_999_990, 3_000_000), (17, 2_900_000), (2_999_000, 9_999_999)):
        status, told, body = ask(server, "/bucket/below/a%20b.mp4", Range=f"bytes={first}-{last}")
        end = min(last, 3_000_000)
        assert status == 206 and body == data[first : last + 1] and told["ETag"] == headers["ETag"]
        assert told["Content-Range"] == f"bytes {first}-{end}/3000001"
    costs = server.costs()
    assert costs["requests"] == 5 and costs["bytes"] == 1 + 5000 + 11 + 2_899_984 + 1001 and 0 < costs["seconds"] < 2
    assert server.costs()["requests"] == 0
    assert ask(server, "/bucket/empty.mp4")[::2] == (200, b"")


def test_what_is_refused(server, data, tmp_path):
    path = "/bucket/below/a%20b.mp4"
    status, headers, body = ask(server, path, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "3000001", b"")
    assert ask(server, path, If_Match=headers["ETag"])[0] == 200
    assert ask(server, path, If_Match='"other"', Range="bytes=0-9")[0] == 412
    assert ask(server, path, Range="bytes=3000001-3000009")[0] == 416
    (tmp_path.parent / "outside.mp4").write_bytes(b"outside")
    for other in ("/bucket/none.mp4", "/bucket/../../outside.mp4", "/bucket/%2e%2e/outside.mp4", "/bucket/below"):
        assert ask(server, other)[0] == 404
    assert ask(server, path, "PUT")[0] == 404


def test_answers_are_delayed_side_by_side(server):
    server.delay(0.5)
    found = []
    ranges = [f"bytes={i}-{i}" for i in range(12)]
    threads = [
        threading.Thread(target=lambda r=r: found.append(ask(server, "/b/below/a%20b.mp4", Range=r)[0])) for r in ranges
    ]
    before = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.5 <= time.monotonic() - before < 12 * 0.5 and found == [206] * 12
    assert server.costs()["most_under_way"] > 1


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path):
    pytest.importorskip("obstore", reason="buckets need obstore: the extra [cloud]")
    for i in range(4):
        write_numbered(tmp_path / "ab"[i % 2] / f"{i}.mp4", 60, options={"g": "12"})
    command = f"--latency 0 20 --rounds 1 --batches 2 --batch-size 2 {tmp_path}".split()
    done = subprocess.run([sys.executable, PROGRAM, *command], capture_output=True, text=True, timeout=300, check=True)
    assert "16 clips, all equal: " in done.stdout
    assert len(re.findall(r"clips/s by the clock +\d\.\d\d  \(\d\.\d\d to", done.stdout)) == 2
    assert len(re.findall(r"ms of a file, .* ms of an object, and .* ms of the server's", done.stdout)) == 2
