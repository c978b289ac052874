"""Decoding processes: what they hand over, and what is left of them however they and the loader end."""

import gc
import logging
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import deadly
import numpy as np
import pytest
from conftest import same_batch, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug import clip_loading
from dali_vidaug.media.load import load_clips
from dali_vidaug.threads import ThreadPool
from dali_vidaug.wire import receive_files, send_files
from dali_vidaug.workers import Workers

RECIPE = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(64), dv.CutMix()))


def open_pool(num_threads, workers, timeout=60.0, died=lambda: None):
    return ThreadPool(num_threads, timeout, Workers(workers, died))


@pytest.fixture(scope="module")
def pool():
    pool = open_pool(2, 1)
    yield pool
    pool.shutdown()


def shared_memory(pid="self"):
    """The address ranges of a process that are files of ours in memory."""
    lines = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "memfd:dali_vidaug" in line]
    return [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in lines]


def is_shared(array):
    at = array.__array_interface__["data"][0]
    return any(first <= at < last for first, last in shared_memory())


def in_worker(pool, code):
    """What an expression is in a decoding process."""
    return pool.result(pool.submit(eval, code))


def test_clips_are_decoded_into_memory_that_is_shared(pool, numbered_manifest):
    videos = [numbered_manifest.video(i) for i in range(3)]
    frames = [np.array([1, 2, 3, 7]), np.array([1, 2, 3, 7]), np.array([4, 5, 6, 9])]
    for video in videos:
        arguments = "pyav", False, "bt601", video, frames, [(), (), ()], None
        made, expected = pool.result(pool.submit(load_clips, *arguments)), load_clips(*arguments)
        assert made.num_decoded == expected.num_decoded and made.clips[0] is made.clips[1]
        for one, other in zip(made.clips, expected.clips, strict=True):
            assert (one == other).all() and is_shared(one) and not is_shared(other)
            assert one.flags.writeable and one.flags.c_contiguous


def test_clips_are_decoded_where_they_are_handed_over(pool):
    """Not copied there: what decoding takes its arrays from is shared memory."""
    module = "__import__('dali_vidaug.media.decode').media.decode"
    (pid,) = pool.workers.pids()
    at = in_worker(pool, f"{module}._clips.take((40000,), 'u1').__array_interface__['data'][0]")
    assert any(first <= at < last for first, last in shared_memory(pid))


def test_blocks_are_used_again_when_nothing_of_an_array_is_left(pool):
    """Random sizes and values, of which random ones are kept, as views of views: none is ever overwritten."""
    rng, kept = random.Random(0), []
    for i in range(150):
        shape = rng.choice([(40_000,), (300, 400), (3, 200, 100), (0, 5), (9,), (1500, 1000)])
        array = pool.result(pool.submit(np.full, shape, i % 251, np.uint8))
        assert array.shape == shape and (array == i % 251).all()
        assert is_shared(array) == (array.nbytes >= 32768)
        if rng.random() < 0.3:
            kept.append((i % 251, array[1:][:, ::2] if array.ndim > 1 else array[3:]))
        if len(kept) > 12:
            value, view = kept.pop(rng.randrange(len(kept)))
            assert (view == value).all()
        del array
    assert all((view == value).all() for value, view in kept)
    first = len(shared_memory())
    kept.clear()
    for _ in range(40):
        pool.result(pool.submit(np.zeros, (1500, 1000), np.uint8))
    assert len(shared_memory()) <= first <= 24


def test_memory_that_is_kept_is_bounded(pool):
    """Sizes of 12 to 35 MB come and go, 564 MB in all: each of two threads keeps 64 MB, and the one that is in use."""
    for k in range(24):
        array = pool.result(pool.submit(np.ones, (12 + k, 1 << 20), np.uint8))
        assert is_shared(array) and array.all()
        del array
    (pid,) = pool.workers.pids()
    for owner in ("self", pid):
        assert sum(last - first for first, last in shared_memory(owner)) < 2 * ((64 + 2 * 35) << 20)


def test_processes_have_what_they_need_and_no_more(pool):
    modules = in_worker(pool, "sorted({'torch', 'nvidia', 'cupy'} & set(__import__('sys').modules))")
    assert modules == []
    assert in_worker(pool, "__import__('gc').get_freeze_count()") > 1000
    assert in_worker(pool, "__import__('os').environ['OMP_NUM_THREADS']") == "1"
    (pid,) = pool.workers.pids()
    os.kill(pid, signal.SIGINT)  # Ctrl-C in a terminal is for all its processes
    assert in_worker(pool, "1 + 1") == 2 and pool.workers.pids() == [pid]


def test_errors_come_as_they_are(pool, numbered_manifest):
    with pytest.raises(ZeroDivisionError) as caught:
        in_worker(pool, "1 / 0")
    assert "in <module>" in str(caught.value.__cause__)  # where it was
    video = numbered_manifest.video(0)._replace(path="/nowhere.mp4")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pool.result(pool.submit(load_clips, "pyav", False, "bt601", video, [np.arange(3)], [()], None))
    with pytest.raises(RuntimeError, match="a result cannot be pickled: <function <lambda>"):
        in_worker(pool, "lambda: 0")


SUICIDE = "__import__('os').kill(__import__('os').getpid(), 9)"


def test_a_job_that_ends_its_process_twice_is_an_error_and_others_are_done_again(caplog):
    died = []
    pool = open_pool(3, 1, died=lambda: died.append(1))
    (first,) = pool.workers.pids()
    slow = [pool.submit(eval, f"(__import__('time').sleep(0.5), {i})[1]") for i in range(2)]
    time.sleep(0.1)
    deadly_one = pool.submit(eval, SUICIDE)
    with pytest.raises(ChildProcessError, match="ends the process: the second one was killed by SIGKILL"):
        pool.result(deadly_one)
    assert [pool.result(job) for job in slow] == [0, 1]
    assert len(died) == 1 and pool.workers.pids() != [first]
    assert "a decoding process was killed by SIGKILL; another takes its place" in caplog.text
    assert in_worker(pool, "3 + 4") == 7
    pool.shutdown()


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    for i in range(8):
        write_numbered(folder / "ab"[i % 2] / f"{i:02d}.mp4", 20)
    return dv.scan(folder, progress=False)


def make_loader(manifest, recipe=RECIPE, **options):
    return dv.VideoLoader(manifest, recipe, 4, **{"device": "cpu", "seed": 3, "timeout": 60, **options})


@pytest.mark.parametrize("on_error", ["skip", pytest.param("replace", marks=pytest.mark.slow)])
def test_a_clip_that_ends_processes_is_a_bad_clip(eight, on_error, monkeypatch):
    """Another, of which only one process ended, is decoded."""
    for path in Path(eight.root).rglob("*.seen"):
        path.unlink()
    monkeypatch.setattr(clip_loading, "load_clips", deadly.load)
    with make_loader(eight, on_error=on_error, shuffle=False, workers=2, num_threads=2, prefetch=1) as loader:
        first, second = take_batches(loader, 2)
        report = loader.report()
    rows = {Path(eight.path(i)).name: i for i in range(8)}
    bad = rows[deadly.ALWAYS]
    assert list(report.bad) == [bad] and "ends the process: the second one was killed by SIGKILL" in report.bad[bad][1]
    taken = [*first.samples.tolist(), *second.samples.tolist()]
    assert bad not in taken and rows[deadly.ONCE] in taken and len(taken) == (7 if on_error == "skip" else 8)
    assert report.workers_died >= 2 and f"died and were replaced: {report.workers_died}" in str(report)


@pytest.mark.slow
def test_processes_that_are_killed_change_nothing(eight, caplog):
    """At random moments of four epochs: the same bits in the same order."""
    caplog.set_level(logging.WARNING)
    expected = take_batches(make_loader(eight), 8)
    rng = random.Random(1)
    with make_loader(eight, workers=2, num_threads=3) as loader:
        batches = []
        for _ in range(4):
            for batch in loader:
                batches.append(batch)
                with suppress(ProcessLookupError):  # it is gone, and its place is not taken yet
                    os.kill(rng.choice(loader._background._pool._pool.workers.pids()), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while not loader.report().workers_died and time.monotonic() < deadline:  # that is seen with the next job
            time.sleep(0.05)
        assert loader.report().workers_died >= 1 and loader.report().num_threads == 3
    assert all(same_batch(a, b) for a, b in zip(batches, expected, strict=True))
    assert not list(Path("/dev/shm").glob("*dali_vidaug*"))


def open_files():
    """What this process has open together with others: how often of each kind."""
    names = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return Counter(re.sub(r"\d+", "", name) for name in names if name.startswith(("socket:", "/memfd:dali_vidaug")))


def test_nothing_is_left_after_closing(eight, request):
    """Descriptors, processes and mappings; twice, because the first loader opens what stays. Nothing waits for gc."""
    gc.collect()
    gc.disable()
    request.addfinalizer(gc.enable)
    for _ in range(2):
        before = open_files()
        with make_loader(eight, workers=2) as loader:
            next(iter(loader))
            pids = loader._background._pool._pool.workers.pids()
    assert open_files() - before == Counter()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_errors_after_closing_keep_nothing(eight):
    """What fails because a loader is closed, in a thread of it, has no traceback, which would keep its clips alive."""
    with make_loader(eight) as loader:
        next(iter(loader))
        producer, error = loader._background._producer, OSError("a pipe is closed")
        assert producer._to_raise(error) is error
    after = producer._to_raise(error)
    assert type(after) is RuntimeError and str(after) == "a pipe is closed" and after.__traceback__ is None


PROGRAM = """
import sys, time, resource
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
import dali_vidaug as dv, torch
manifest = dv.Manifest.read(sys.argv[1])
recipe = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(64), dv.CutMix()))
options = dict(device="cpu", seed=3)
with dv.VideoLoader(manifest, recipe, 4, **options) as loader:
    expected = next(iter(loader))
loader = dv.VideoLoader(manifest, recipe, 4, workers=2, **options)
batch = next(iter(loader))
assert torch.equal(batch.clips, expected.clips) and torch.equal(batch.targets, expected.targets)
print(*loader._background._pool._pool.workers.pids(), flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def program(eight, tmp_path_factory):
    """A program without ``if __name__ == "__main__":``, and its manifest."""
    folder = tmp_path_factory.mktemp("program")
    eight.write(folder / "m.parquet")
    (folder / "program.py").write_text(PROGRAM)
    return [sys.executable, str(folder / "program.py"), str(folder / "m.parquet")]


def wait_for_end(pids):
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
def test_when_the_program_is_killed_its_processes_end(program):
    with subprocess.Popen([*program, "60"], stdout=subprocess.PIPE, text=True) as running:
        pids = [int(word) for word in running.stdout.readline().split()]
        assert len(pids) == 2 and all(shared_memory(pid) for pid in pids)
        running.kill()
    assert wait_for_end(pids)
    assert not list(Path("/dev/shm").glob("*dali_vidaug*"))


@pytest.mark.slow
def test_a_program_needs_no_guard_and_says_nothing(program):
    done = subprocess.run([*program, "0"], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert wait_for_end(done.stdout.split())


@pytest.mark.slow
def test_without_shared_memory_clips_are_sent(program):
    """Files of more than 20 KB are forbidden, those in memory too. The same bits, and one line in the log."""
    done = subprocess.run([*program, "0", "x"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0
    assert re.findall(r"decoding processes send clips in pieces, which takes longer: .* File too large", done.stderr)
    assert done.stderr.count("send clips in pieces") == 1


def test_processes_that_are_killed_before_they_are_ready_are_replaced():
    """No job is blamed for that: another process does it, not one alone."""
    died, killed = [], []
    workers = Workers(1, lambda: died.append(1))

    def kill():
        while len(killed) < 3:
            pid = workers.pids()[0]
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.001)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with closing(workers.lane(0)) as lane:
            assert lane(nullcontext, int, "9") == 9
            assert lane(nullcontext, os.getpid) == workers.pids()[0] not in killed
    finally:
        killer.join()
        workers.close()
    assert len(died) == 3


def test_a_process_that_dies_while_a_thread_turns_to_it_leaves_nothing_open():
    """It was ready, and is gone when a second thread wants a way to it: another one does the job."""
    died = []
    workers = Workers(1, lambda: died.append(1))
    with closing(workers), closing(workers.lane(0)) as first, closing(workers.lane(0)) as second:
        pid = first(nullcontext, os.getpid)
        before = open_files()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it is dead, and nobody has seen it
        assert pid not in (second(nullcontext, os.getpid), *workers.pids())
        assert open_files() == before  # pytest fails, too, for a socket that is not closed
    assert len(died) == 1


@pytest.mark.parametrize("unread, error", [(b"", EOFError), (b"x", ConnectionResetError)])
def test_files_that_are_sent_in_part_are_closed(unread, error):
    """The other end is gone after the first message of two, with something that it has not read, or nothing."""
    mine, theirs = socket.socketpair()
    with mine, Path(os.devnull).open("rb") as file:
        before = len(list(Path("/proc/self/fd").iterdir()))
        mine.sendall(unread)
        with theirs:
            send_files(theirs, [file.fileno()] * 200)
        with pytest.raises(error):
            receive_files(mine, 201)
        assert len(list(Path("/proc/self/fd").iterdir())) == before - 1


@pytest.mark.parametrize("working", [0, 1])
def test_a_program_that_is_not_there_leaves_nothing_open(working, monkeypatch):
    """Nor a process that was started before."""
    programs = iter([sys.executable] * working + ["/no/python"])
    monkeypatch.setattr("dali_vidaug.workers.get_executable", lambda: os.fsencode(next(programs)))
    before = open_files()
    with pytest.raises(FileNotFoundError, match="/no/python"):
        Workers(2, lambda: None)
    assert open_files() == before


def test_a_process_that_cannot_start_says_so(eight):
    multiprocessing.set_executable("/bin/false")
    try:
        with pytest.raises(RuntimeError, match="a decoding process ended with exit code 1 when it was started"):
            take_batches(make_loader(eight, workers=1), 1)
    finally:
        multiprocessing.set_executable(sys.executable)


def test_threads_are_spread_over_processes():
    pool = open_pool(5, 2)
    code = "(__import__('time').sleep(0.7), __import__('os').getpid(), __import__('threading').get_ident())[1:]"
    for _ in range(2):  # the second time all processes are there
        threads = [pool.result(job) for job in [pool.submit(eval, code) for _ in range(5)]]
    pids = [pid for pid, _ in threads]
    assert len(set(threads)) == 5 and sorted(map(pids.count, pool.workers.pids())) == [2, 3]
    pool.shutdown()
