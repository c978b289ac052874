"""A file that does not answer costs one timeout: a named pipe that nobody writes to, in place of a video."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
import torch
from conftest import take_batches

import dali_vidaug as dv
from dali_vidaug.threads import ThreadPool

RECIPE = dv.Recipe(dv.ClipSampling(2), (dv.Resize((16, 16)),))
WHY = "it was not read and decoded within 0.5 s (timeout)"


@pytest.fixture
def stalled(numbered_manifest, tmp_path):
    """A manifest of twelve videos, of which 3 and 4 stall; in the end they answer, with nothing."""
    root = shutil.copytree(numbered_manifest.root, tmp_path / "videos")
    manifest = dv.Manifest(numbered_manifest.table, numbered_manifest.classes, root)
    pipes = [manifest.path(row) for row in (3, 4)]
    for path in pipes:
        Path(path).unlink()
        os.mkfifo(path)
    yield manifest
    for path in pipes:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # whoever waits for a writer goes on
        except OSError:  # nobody does
            continue


def loader(manifest, **options):
    options = {"shuffle": False, "device": "cpu", "num_threads": 1, "check_files": "off", "timeout": 0.5} | options
    return dv.VideoLoader(manifest, RECIPE, 4, **options)


def decoding_threads():
    return sum(thread.name.startswith("dali_vidaug-decode") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stalled_file_costs_one_timeout(stalled, numbered_manifest, workers):
    expected = take_batches(loader(numbered_manifest), 3)
    with loader(stalled, on_error="skip", workers=workers) as slow:
        batches = take_batches(slow, 3)
        report = slow.report()
    assert [batch.samples.tolist() for batch in batches] == [[0, 1, 2], [5, 6, 7], [8, 9, 10, 11]]
    assert [batch.skipped.tolist() for batch in batches] == [[3], [4], []]
    for batch, whole in zip(batches, expected, strict=True):
        assert torch.equal(batch.clips, whole.clips[torch.isin(whole.samples, batch.samples)])
    assert {sample: bad[1] for sample, bad in report.bad.items()} == {3: WHY, 4: WHY}


def test_other_ways_to_handle_it(stalled):
    with loader(stalled) as replacing:
        first = take_batches(replacing, 1)[0]
        assert len(first) == 4 and 3 not in first.samples and replacing.report().bad[3][1] == WHY
    with loader(stalled, on_error="raise") as raising, pytest.raises(dv.ClipError, match="within 0.5 s"):
        take_batches(raising, 2)


def test_closing_does_not_wait_for_ever(stalled):
    begun = time.monotonic()
    with loader(stalled, prefetch=3) as closed:
        take_batches(closed, 0)
        next(iter(closed))
    assert time.monotonic() - begun < 20


def test_a_thread_that_comes_back_ends():
    """Its place was taken: there are as many threads as before, and they do what was queued behind it."""
    before, answer = decoding_threads(), threading.Event()
    pool = ThreadPool(2, 0.2)
    jobs = [pool.submit(answer.wait), pool.submit(answer.wait), *(pool.submit(abs, -i) for i in range(5))]
    assert pool.result(jobs[-1]) == 4  # behind two that do not end
    assert decoding_threads() == before + 4
    for job in jobs[:2]:
        with pytest.raises(TimeoutError, match="within 0.2 s"):
            pool.result(job)
    answer.set()
    assert [pool.result(job) for job in jobs[2:]] == list(range(5))
    deadline = time.monotonic() + 10
    while decoding_threads() != before + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decoding_threads() == before + 2
    assert pool.result(pool.submit(abs, -7)) == 7
    pool.shutdown()
    assert decoding_threads() == before


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_job_that_is_cancelled_is_not_waited_for(timeout):
    pool, answer = ThreadPool(1, timeout), threading.Event()
    running, queued = pool.submit(answer.wait), pool.submit(abs, -1)
    threading.Timer(0.2, lambda: (pool.shutdown(False, cancel_futures=True), answer.set())).start()
    with pytest.raises(CancelledError):
        pool.result(queued)
    with pytest.raises(CancelledError):
        pool.result(pool.submit(abs, -1))
    assert pool.result(running)


def test_all_stalled_threads_are_waited_for_together():
    pool, answer = ThreadPool(4, 0.5), threading.Event()
    for _ in range(4):
        pool.submit(answer.wait)
    begun = time.monotonic()
    pool.shutdown()
    assert 0.4 < time.monotonic() - begun < 1.9
    answer.set()


STOPPED = """
import os, signal, subprocess, sys, time
from dali_vidaug.threads import ThreadPool
pool = ThreadPool(1, 3.5)
job = pool.submit(time.sleep, 1.0)
subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(5); os.kill({os.getpid()}, 18)"])
os.kill(os.getpid(), signal.SIGSTOP)
print(pool.result(job), pool.result(pool.submit(abs, -1)))
"""


@pytest.mark.skipif(signal.SIGCONT != 18, reason="another system")
def test_time_for_which_the_program_was_stopped_does_not_count():
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["None", "1"]


def test_a_job_that_takes_its_time_is_waited_for():
    pool = ThreadPool(1, 5.0)
    jobs = [pool.submit(time.sleep, 0.1), pool.submit(int, "x"), pool.submit(abs, -1)]
    assert pool.result(jobs[0]) is None
    with pytest.raises(ValueError, match="invalid literal"):
        pool.result(jobs[1])
    assert pool.result(jobs[2]) == 1
    pool.shutdown()


@pytest.mark.parametrize("timeout", [0, -1, "3", float("nan"), float("inf")])
def test_what_is_no_timeout(numbered_manifest, timeout):
    with pytest.raises(ValueError, match=r"VideoLoader: timeout must be None or seconds in \[0.001, 1e6\], got"):
        loader(numbered_manifest, timeout=timeout)
