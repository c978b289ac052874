"""What only shows after many clips, or at the end of a program: memory, threads, messages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_numbered

import dali_vidaug as dv

pytest.importorskip("obstore", reason="buckets need obstore: the extra [cloud]")
servers = pytest.importorskip("servers")
pytest.importorskip("moto.server", reason="the servers of these tests are in the extra [test]")

pytestmark = pytest.mark.slow
BUCKET = "many-videos"
ENDS = """
import sys
import dali_vidaug as dv
loader = dv.VideoLoader(sys.argv[1], dv.Recipe(dv.ClipSampling(4, 2), (dv.Resize((32, 32)),)), 2, device="cpu")
next(iter(loader))
print("one batch", flush=True)
if sys.argv[2] == "exception":
    raise KeyboardInterrupt
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    with servers.server("localbucket", tmp_path_factory.mktemp("localbucket")) as port:
        files = {f"v/{i}.mp4": write_numbered(folder / f"{i}.mp4", 12) for i in range(40)}
        servers.put(port, BUCKET, files)
        yield port


def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_memory_stays_flat(port):
    """Over clips of objects: count=20000 in the environment is for a long run by hand."""
    count = int(os.environ.get("DALI_VIDAUG_BUCKET_CLIPS", "2000"))
    storage = dv.Storage(options=servers.options(port), whole_below=0)
    manifest = dv.scan(f"s3://{BUCKET}/v", progress=False, storage=storage)
    recipe = dv.Recipe(dv.ClipSampling(2, 1), (dv.Resize((16, 16)),))
    seen = []
    with dv.VideoLoader(manifest, recipe, 20, device="cpu", storage=storage) as loader:
        done = 0
        while done < count:
            for batch in loader:
                done += len(batch.samples)
            seen.append(memory())
        report = loader.report()
    assert not report.bad and count <= report.requests <= 1.05 * report.clips + 60
    late = seen[len(seen) // 4 :]
    assert max(late[len(late) // 2 :]) <= 1.05 * max(late[: len(late) // 2]) + (8 << 20), seen


@pytest.mark.parametrize("how", ["exception", "end"])
def test_a_program_ends_at_once_and_quietly(how, port, tmp_path):
    """While objects are being read that never come."""
    with servers.proxy(port) as proxy:
        options = servers.options(proxy.port)
        dv.scan(f"s3://{BUCKET}/v", output=tmp_path / "m.parquet", progress=False, storage=dv.Storage(options=options))
        names = {"endpoint": "AWS_ENDPOINT_URL", "region": "AWS_REGION"}
        env = {**os.environ, **{names.get(k, f"AWS_{k.upper()}"): v for k, v in options.items()}}
        command = [sys.executable, "-c", ENDS, str(tmp_path / "m.parquet"), how]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
            proxy.latency = 0.3
            assert program.stdout.readline() == "one batch\n"
            proxy.hang = "/v/"
            _, said = program.communicate(timeout=20)
    assert "panicked" not in said and "never retrieved" not in said and "Task was destroyed" not in said, said
    assert program.returncode in ((0,) if how == "end" else (1, 130, -2))
