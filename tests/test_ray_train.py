"""examples/train_ray.py: a real Ray with two workers, of which one is killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def descendants(pid):
    """The processes that one has started, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:  # it has ended
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def is_worker(pid):
    try:
        return b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_goes_on(numbered_manifest, tmp_path):
    pytest.importorskip("ray.train", exc_type=ImportError, reason="needs ray[train]")
    numbered_manifest.select(np.arange(800) % 12).write(tmp_path / "m.parquet")
    command = [sys.executable, ROOT / "examples" / "train_ray.py", tmp_path / "m.parquet"]
    command += ["--batch-size", "2", "--save-every", "10", "--storage", tmp_path / "runs"]
    # "local": else it would join a Ray that runs on this machine
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0", "RAY_ADDRESS": "local"}
    trainer = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + 200
        while len(list((tmp_path / "runs").rglob("parts.pt"))) < 2:  # the first of them is known to Ray by then
            assert trainer.poll() is None and time.monotonic() < deadline, trainer.communicate()[0][-3000:]
            time.sleep(0.02)
        workers = [pid for pid in descendants(trainer.pid) if is_worker(pid)]
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        out, _ = trainer.communicate(timeout=300)
    finally:
        trainer.send_signal(signal.SIGINT)  # Ray ends its own processes
        trainer.wait(60)
    assert trainer.returncode == 0, out[-3000:]
    found = set(re.findall(r"goes on: epoch (\d), batch (\d+)", out))
    assert len(found) == 1, out[-3000:]
    epoch, batch = map(int, found.pop())
    assert 10 <= 200 * epoch + batch and batch % 10 == 0 and "'epoch': 1" in out.split("the last figures:")[1]
