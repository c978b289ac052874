"""A file that does not answer costs one timeout: a named pipe that nobody writes to, in place of a video."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import take_batches

import dali_vidaug as dv
from dali_vidaug import clip_loading, threads
from dali_vidaug.media import load
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


def decoding_threads(others=()):
    """Those that are there, without some."""
    return {t for t in threading.enumerate() if t.name.startswith("dali_vidaug-decode")} - set(others)


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


def within(seconds, function):
    """What a function returns; in a thread of its own, because it must not take for ever."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, f"it has not returned within {seconds} s, or failed"
    return results[0]


@contextmanager
def stuck(manifest, row):
    """Wait until somebody reads a pipe, who waits for more as long as this lasts."""

    def writer():
        while True:
            try:
                return os.open(manifest.path(row), os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads it yet
                time.sleep(0.01)

    writer = within(30, writer)
    yield
    os.close(writer)


def in_threes(manifest, **options):
    """Batches of rows 0 to 2, and of 3 to 5, which do not come."""
    options = {"shuffle": False, "device": "cpu", "num_threads": 1, "check_files": "off", "timeout": None} | options
    return dv.VideoLoader(manifest, RECIPE, 3, **options)


@pytest.mark.parametrize("workers", [0, 1])
def test_closing_waits_for_no_file(stalled, workers, caplog, monkeypatch):
    """Though nothing limits how long it may take; what is left behind is said, once. Processes are killed."""
    monkeypatch.setattr(threads, "_LONG", 0.5)
    closed = in_threes(stalled, workers=workers)
    assert next(iter(closed)).samples.tolist() == [0, 1, 2]
    with stuck(stalled, 3):
        within(15, lambda: [closed.close(), closed.close()])
        said = [message for message in caplog.messages if message.startswith("closed")]
        left = f"closed; threads are left that wait for files since seconds: {stalled.path(3)}"
        assert said == ([] if workers else [left])
    assert next(iter(closed)).samples.tolist() == [0, 1, 2]  # it goes on: that was a peek
    closed.close()


def test_going_on_elsewhere_waits_for_no_file(stalled):
    """Batches that are made ahead are dropped at once; whoever waits for the file for too long is replaced, too."""
    with in_threes(stalled, num_threads=2) as patient:
        next(iter(patient))
        with stuck(stalled, 3):
            within(15, lambda: patient.set_epoch(1))
    with in_threes(stalled, timeout=1.0) as loader:
        next(iter(loader))
        with stuck(stalled, 3):  # by the only thread
            loader.set_epoch(0)
            assert within(30, lambda: next(iter(loader))).samples.tolist() == [0, 1, 2]


def test_clips_behind_a_slow_one_are_loaded_meanwhile(stalled, numbered_manifest, monkeypatch):
    """Those of twice as many batches as are made ahead, and no more."""
    loaded, real = [], clip_loading.load_clips

    def spy(decoder, on_gpu, color, video, *rest, **options):
        result = real(decoder, on_gpu, color, video, *rest, **options)
        loaded.append(video.path)
        return result

    monkeypatch.setattr(clip_loading, "load_clips", spy)
    rows = stalled.select([0, 3, *range(5, 12)])  # without the second pipe
    options = {"shuffle": False, "device": "cpu", "num_threads": 2, "check_files": "off"}
    for prefetch, most in ((1, 2), (2, 4)):
        loaded.clear()
        with dv.VideoLoader(rows, RECIPE, 1, prefetch=prefetch, **options) as slow:
            assert next(iter(slow)).samples.tolist() == [0]
            with stuck(stalled, 3):
                deadline = time.monotonic() + 20
                while len(loaded) < 1 + most and time.monotonic() < deadline:
                    time.sleep(0.01)
                time.sleep(0.3)  # for more than there should be
                assert sorted(loaded) == sorted(rows.path(i) for i in (0, *range(2, 2 + most)))


def test_slowest_files_are_named(stalled, numbered_manifest, monkeypatch):
    """By the time that passes, not by processor time; a file that does not answer took the timeout."""
    real, naps = load.decode_clips, {stalled.path(1): 0.9, stalled.path(7): 0.6}

    def slow(video, *rest):
        time.sleep(naps.get(video.path, 0))
        return real(video, *rest)

    monkeypatch.setattr(load, "decode_clips", slow)
    with loader(stalled, on_error="skip", timeout=3.0) as slow_loader:
        take_batches(slow_loader, 3)
        report = slow_loader.report()
    slowest = list(report.slowest.items())
    assert len(slowest) == 5 and slowest == sorted(slowest, key=lambda item: -item[1])
    assert {slowest[0], slowest[1]} == {(stalled.path(3), 3.0), (stalled.path(4), 3.0)}
    assert [path for path, _ in slowest[2:4]] == [stalled.path(1), stalled.path(7)]
    assert 0.9 <= slowest[2][1] < 3 and 0.6 <= slowest[3][1] < 3
    assert report.loads >= 10 and report.seconds["load"] >= 1.5
    lines = str(report).splitlines()
    at = lines.index(f"slowest files ({report.seconds['load'] / report.loads:.3f} s on average, waiting included):")
    assert lines[at + 1 : at + 6] == [f"  {seconds:.3f} s: {path}" for path, seconds in slowest]


def test_a_thread_that_comes_back_ends():
    """Its place was taken: there are as many threads as before, and they do what was queued behind it."""
    others, answer = decoding_threads(), threading.Event()  # the others may still end
    pool = ThreadPool(2, 0.2)
    jobs = [pool.submit(answer.wait), pool.submit(answer.wait), *(pool.submit(abs, -i) for i in range(5))]
    assert pool.result(jobs[-1]) == 4  # behind two that do not end
    assert len(decoding_threads(others)) == 4
    for job in jobs[:2]:
        with pytest.raises(TimeoutError, match="within 0.2 s"):
            pool.result(job)
    answer.set()
    assert [pool.result(job) for job in jobs[2:]] == list(range(5))
    deadline = time.monotonic() + 10
    while len(decoding_threads(others)) != 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(decoding_threads(others)) == 2
    assert pool.result(pool.submit(abs, -7)) == 7
    assert pool.shutdown() == []
    assert not decoding_threads(others)


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


def test_a_pool_waits_a_second_for_all_that_stall_together(monkeypatch):
    monkeypatch.setattr(threads, "_LONG", 0.9)
    pool, answer = ThreadPool(4, None), threading.Event()
    for seconds in (60, 61, 62, 63):
        pool.submit(answer.wait, seconds)
    begun = time.monotonic()
    assert sorted(pool.shutdown()) == [(60,), (61,), (62,), (63,)]
    assert 0.9 < time.monotonic() - begun < 5
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
