"""The cache of blocks on a local disk: what comes out is what was put in, whoever is killed, and it keeps its limit."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from conftest import same_batch, write_numbered

import dali_vidaug as dv
from dali_vidaug.media.block_cache import BLOCK, BlockCache
from dali_vidaug.media.objects import Stat

pytest.importorskip("obstore", reason="buckets need obstore: the extra [cloud]")
servers = pytest.importorskip("servers")
pytest.importorskip("moto.server", reason="the servers of these tests are in the extra [test]")

BUCKET = "cached-videos"
RECIPE = dv.Recipe(dv.ClipSampling(4, 2), (dv.Resize((48, 64)),))
READ = """
import asyncio, hashlib, sys
import dali_vidaug as dv
from dali_vidaug.media.object_reader import Reader
from dali_vidaug.media.objects import Stat

port, cache, count, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
options = {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1", "skip_signature": True}
reader = Reader(dv.Storage(cache=cache, options=options))
print("ready", flush=True)
async def main():
    for i in range(count):
        url = f"s3://cached-videos/{i}.bin"
        _, stat = await reader.first(url, (0, 1))
        (data,) = await reader.read(url, [(0, size)], stat)
        print(i, hashlib.md5(data).hexdigest(), flush=True)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def localbucket(tmp_path_factory):
    with servers.server("localbucket", tmp_path_factory.mktemp("localbucket")) as port:
        yield port


def reader(port, cache, count, size):
    command = [sys.executable, "-c", READ, str(port), str(cache), str(count), str(size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_blocks_come_out_as_they_were_put_in(tmp_path):
    cache = BlockCache(str(tmp_path / "a" / "b"), None, 1.0)
    stat, rng = Stat(10 << 20, '"e1"'), np.random.default_rng(0)
    data = [rng.bytes(int(rng.integers(0, 5000))) for _ in range(20)]
    keys = [cache.key("s3://b/x", stat, n) for n in range(20)]
    assert cache.get(keys[0], len(data[0])) is None
    for key, block in zip(keys, data, strict=True):
        cache.put(key, block)
    assert [
        BlockCache(str(tmp_path / "a" / "b"), None, 1.0).get(key, len(block))
        for key, block in zip(keys, data, strict=True)
    ] == data
    others = [("s3://b/y", stat, 0), ("s3://b/x", Stat(10 << 20, '"e2"'), 0), ("s3://b/x", Stat(11 << 20, '"e1"'), 0)]
    assert len({keys[0], *(cache.key(*other) for other in others)}) == 4
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):  # one that was damaged, or cut off, is none
        whole = path.read_bytes()
        for broken in (whole[:-1], whole[: len(whole) // 2], b"", bytes(4), bytes([whole[0] ^ 1]) + whole[1:]):
            path.write_bytes(broken)
            assert cache.get(path.name, len(whole) - 4) is None and not path.exists()
            path.write_bytes(whole)


def test_the_limit_is_kept_and_the_oldest_goes(tmp_path):
    limit = 16 << 20
    cache, block = BlockCache(str(tmp_path), limit, 1.0), os.urandom(BLOCK - 4)
    keys = [cache.key("s3://b/x", Stat(1 << 30, '"e"'), n) for n in range(60)]
    left = tmp_path / "ab"
    left.mkdir()
    (left / f"{'0' * 40}.1-2.part").write_bytes(block)  # of a process that was killed long ago
    os.utime(left / f"{'0' * 40}.1-2.part", (0, 0))
    for n, key in enumerate(keys):
        cache.put(key, block)
        assert cache.get(keys[0], len(block)) == block, "it is used all the time"
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= limit + BLOCK * (n < 1)
        time.sleep(0.002)
    there = [n for n, key in enumerate(keys) if cache.get(key, len(block)) is not None]
    assert there[0] == 0 and there[1:] == list(range(60 - len(there) + 1, 60)) and 12 <= len(there) <= 16
    assert not list(tmp_path.rglob("*.part"))


def test_a_disk_that_is_full_costs_the_cache_alone(tmp_path, caplog, monkeypatch):
    cache = BlockCache(str(tmp_path), None, 1.0)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for n in range(3):
        cache.put(cache.key("s3://b/x", Stat(1, '"e"'), n), b"x")
    assert [record.message for record in caplog.records] == [
        f"the cache {tmp_path} is not written any more by this process: [Errno 28] No space left on device"
    ]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_one_process_fetches_a_block(tmp_path):
    first, other = (BlockCache(str(tmp_path), None, 0.2) for _ in range(2))
    key = first.key("s3://b/x", Stat(1, '"e"'), 0)
    assert first.claim(key) and not other.claim(key)
    first.release(key)
    assert other.claim(key) and not first.claim(key)
    time.sleep(0.3)
    assert first.claim(key), "the other one takes too long: it may have been killed"


@pytest.fixture(scope="module")
def files(localbucket):
    """Objects of three blocks: their number, size and MD5 sums."""
    size, rng = 2 * BLOCK + 12345, np.random.default_rng(7)
    data = [rng.bytes(size) for _ in range(6)]
    servers.put(localbucket, BUCKET, {f"{i}.bin": one for i, one in enumerate(data)})
    return len(data), size, [f"{i} {hashlib.md5(one).hexdigest()}" for i, one in enumerate(data)]


def test_a_claim_of_a_process_that_was_killed_is_nobodys(tmp_path):
    """It is not waited for, however long the timeout is; that of a process which lives is."""
    cache = BlockCache(str(tmp_path), None, 1000.0)
    code = "import sys; from dali_vidaug.media.block_cache import BlockCache; "
    code += "print(BlockCache(sys.argv[1], None, 1000.0).claim('aa1'), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        assert not cache.claim("aa1")
        other.kill()
        other.wait()
        assert cache.claim("aa1") and not cache.claim("aa1")
    cache.release("aa1")
    (tmp_path / "aa" / "aa1.fetching").touch()  # its number is not written yet
    assert not cache.claim("aa1")


@pytest.mark.slow
def test_three_processes_with_one_cache(localbucket, files, tmp_path):
    """All bytes are right, and each block is fetched once."""
    count, size, expected = files
    with servers.proxy(localbucket) as proxy:
        proxy.latency = 0.02
        readers = [reader(proxy.port, tmp_path, count, size) for _ in range(3)]
        for one in readers:
            assert one.communicate(timeout=60)[0].splitlines()[1:] == expected and one.returncode == 0
        asked = Counter(path for path, span in proxy.gets if span != "0-0")
        # each object has three blocks; processes that begin at the same moment may share them, a request for each
        assert len(asked) == count and sum(asked.values()) <= 3 * count
        assert proxy.body_bytes <= count * size + 3 * count


@pytest.mark.slow
def test_a_writer_that_is_killed(localbucket, files, tmp_path):
    """At any moment: what it leaves is whole or not used, and others go on at once or after the timeout."""
    count, size, expected = files
    chance = random.Random(3)
    for _ in range(4):
        one = reader(localbucket, tmp_path, count, size)
        assert one.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.15))
        os.kill(one.pid, signal.SIGKILL)
        one.communicate()
    for path in tmp_path.rglob("*.fetching"):
        os.utime(path, (0, 0))  # time passes
    assert reader(localbucket, tmp_path, count, size).communicate(timeout=60)[0].splitlines()[1:] == expected


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_second_epoch_is_on_the_disk(workers, localbucket, tmp_path):
    for i in range(4):
        write_numbered(tmp_path / "v" / f"{i}.{('mp4', 'ts')[i % 2]}", 30, options={"g": "12"})
    files = {f"epochs/{path.name}": path for path in (tmp_path / "v").iterdir()}
    servers.put(localbucket, BUCKET, files)
    local = dv.scan(tmp_path / "v", progress=False)
    with servers.proxy(localbucket) as proxy:
        storage = dv.Storage(cache=str(tmp_path / "cache"), options=servers.options(proxy.port))
        manifest = dv.scan(f"s3://{BUCKET}/epochs", progress=False, storage=storage)
        options = {"device": "cpu", "workers": workers}
        with (
            dv.VideoLoader(manifest, RECIPE, 2, storage=storage, **options) as loader,
            dv.VideoLoader(local, RECIPE, 2, **options) as other,
        ):
            for epoch in range(3):
                assert all(map(same_batch, loader, other))
                if epoch == 0:
                    proxy.forget()
            report = loader.report()
    assert not proxy.gets and report.bytes_cached > report.bytes_fetched > 0
    assert "MB more from the cache" in str(report)
    blocks = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(blocks) == 4 and all("." not in path.name for path in blocks)
