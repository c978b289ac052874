"""Many items by threads, processes, Ray and executors: every result once, whatever dies or hangs."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import dali_vidaug as dv
from dali_vidaug.data.engine import check_engine, run
from dali_vidaug.data.workers import Failed

ROOT = Path(__file__).parent.parent


def square(number):
    return number * number


def dies(folder, number):
    """The square of a number, but the process dies: of 5 each time, of 7 the first two times."""
    if number in (5, 7):
        times = len(list(folder.glob(f"{number}-*")))
        if number == 5 or times < 2:
            (folder / f"{number}-{times}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return square(number)


class DiesAtStart:
    """``square``, of which the first five processes die before they have an item."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return _after_deaths, (self.folder,)


def _after_deaths(folder):
    times = len(list(folder.iterdir()))
    if times < 5:
        (folder / f"{times}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square


def hangs(number):
    if number in (2, 3):
        time.sleep(600)
    return square(number)


def fails(number):
    raise KeyError(f"number {number}")


def gives_a_lock(number):
    return threading.Lock()


def test_an_item_is_not_blamed_for_processes_that_die_before_they_have_it(tmp_path):
    """Five die when they start, all with the same item waiting for them: it is done all the same."""
    found = list(run(DiesAtStart(tmp_path), range(4), engine="processes", num_workers=1, progress=False))
    assert sorted(found) == [(n, n * n) for n in range(4)] and len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("kind", ["threads", "processes", "thread pool"])
def test_each_item_comes_once(kind):
    """Of a sequence, and of an iterator without a length."""
    pool = ThreadPoolExecutor(3) if kind == "thread pool" else None
    for items in (range(500), iter(range(500)), []):
        found = list(run(square, items, engine=pool or kind, num_workers=3, progress=False))
        assert sorted(found) == [(n, n * n) for n in (range(500) if not isinstance(items, list) else [])]
    if pool is not None:
        pool.shutdown()


def test_few_items_are_taken_ahead():
    """A million items are not in memory: one is taken when a worker is free."""
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    for seen, _ in enumerate(run(square, items(), num_workers=4, progress=False)):
        assert len(taken) <= seen + 1 + 6
    assert len(taken) == 100


def test_an_item_that_kills_its_process_three_times_fails_alone(tmp_path):
    found = dict(run(partial(dies, tmp_path), range(20), engine="processes", num_workers=2, progress=False))
    assert found.pop(5) == Failed("its worker died 3 times, at last: signal 9 (Killed)")
    assert found == {n: n * n for n in range(20) if n != 5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5-0", "5-1", "5-2", "7-0", "7-1"]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_what_hangs_costs_one_timeout(kind):
    """Two items hang, with one worker: both are given up, and all others are done."""
    list(run(square, [1], engine=kind, progress=False))  # imports
    started = time.monotonic()
    found = dict(run(hangs, range(8), engine=kind, num_workers=1, timeout=0.5, progress=False))
    assert 1.0 <= time.monotonic() - started < 30
    assert found.pop(2) == found.pop(3) == Failed("it was not done within 0.5 s (timeout)")
    assert found == {n: n * n for n in (0, 1, 4, 5, 6, 7)}


def test_a_thread_that_hangs_does_not_hold_those_that_wait():
    """Two hang in two threads: the six others need no time of theirs."""
    found = [n for n, _ in run(hangs, range(8), num_workers=2, timeout=0.5, progress=False)]
    assert sorted(found) == list(range(8)) and found.index(7) > found.index(2)


@pytest.mark.parametrize("kind", ["threads", "processes", "process pool"])
def test_what_a_function_raises_is_raised(kind):
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) if kind == "process pool" else None
    with pytest.raises(KeyError, match="number 0") as caught:
        list(run(fails, [0], engine=pool or kind, num_workers=1, progress=False))
    if kind != "threads":
        assert "in fails" in str(caught.value.__cause__)
    if pool is not None:
        pool.shutdown()


def test_a_result_that_cannot_be_pickled_is_said():
    with pytest.raises(RuntimeError, match="a result cannot be pickled: cannot pickle '_thread.lock' object"):
        list(run(gives_a_lock, [0], engine="processes", num_workers=1, progress=False))


def test_an_executor_that_breaks_is_said(tmp_path):
    """It is the user's: nobody else can start it again."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        with pytest.raises(
            RuntimeError, match="^the executor that engine= is has ended: A process in the process pool"
        ):
            list(run(partial(dies, tmp_path), range(20), engine=pool, progress=False))


def test_an_executor_that_was_shut_down_is_said():
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(RuntimeError, match="^the executor that engine= is has ended: cannot schedule new futures"):
        next(run(square, [1], engine=pool, progress=False))


@pytest.mark.parametrize("bad", [0, -1, -5, 1.5, "2", True])
def test_what_is_no_number_of_workers_is_refused(bad, numbered, tmp_path):
    with pytest.raises(ValueError, match="^num_workers must be a whole number, 1 or more, or None, got "):
        next(run(square, [1], num_workers=bad, progress=False))
    with pytest.raises(ValueError, match="^scan: num_threads must be a whole number, 1 or more, or None, got "):
        dv.scan(numbered, num_threads=bad, progress=False)
    manifest = dv.scan(numbered / "even" / "00.mp4", progress=False)
    with pytest.raises(ValueError, match="^transcode: num_workers must be "):
        dv.transcode(manifest, tmp_path / "small", num_workers=bad, progress=False)
    with pytest.raises(ValueError, match="^pack: num_workers must be "):
        dv.pack(manifest, tmp_path / "s-%06d.tar", num_workers=bad, progress=False)


@pytest.mark.parametrize("bad", ["dask", 3, None, "Threads", ThreadPoolExecutor])
def test_what_is_no_engine_is_refused(bad):
    with pytest.raises(ValueError, match="engine must be 'threads', 'processes', 'ray', or an executor with submit"):
        check_engine(bad)


def test_ray_that_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"engine='ray' needs Ray: pip install 'dali_vidaug\[ray\]'"):
        list(run(square, [1], engine="ray", progress=False))


def test_a_program_without_a_main_guard_is_told(tmp_path):
    (tmp_path / "program.py").write_text(
        "from math import sqrt\nfrom dali_vidaug.data.engine import run\n"
        "print(list(run(sqrt, [4.0], engine='processes', num_workers=1, progress=False)))\n"
    )
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "must start under if __name__ == '__main__':" in done.stderr.splitlines()[-1]


def test_processes_end_with_the_program(tmp_path):
    """Killed with -9, with processes that hang: none of them stays."""
    (tmp_path / "program.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom dali_vidaug.data.engine import run\n\n"
        "def stays(number):\n    Path(f'{os.getpid()}.pid').touch()\n    time.sleep(600)\n\n"
        "if __name__ == '__main__':\n"
        "    list(run(stays, range(2), engine='processes', num_workers=2, progress=False))\n"
    )
    program = subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path)
    try:
        wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    finally:
        program.kill()
        program.wait()
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def is_running(pid):
    """Whether a process is there and not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def test_no_thread_or_process_is_left(tmp_path):
    before = threading.active_count()
    for kind in ("threads", "processes"):
        found = run(square, range(100), engine=kind, num_workers=2, progress=False)
        next(found)
        found.close()  # in the middle, as Ctrl-C does
        wait_until(lambda: threading.active_count() <= before)
        assert not multiprocessing.active_children()


def test_the_bar_counts(capsys):
    list(run(square, range(7), what="scan", unit="videos"))
    assert "scan: 100%" in (said := capsys.readouterr().err) and "7/7" in said and "videos" in said
