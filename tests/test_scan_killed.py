"""Kill -9 of what scans: a process that measures, the whole scan, a worker and a node of Ray. Nothing is lost, nothing
comes twice, and the manifest is that of a scan that nobody disturbed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from test_engine import wait_until

import dali_vidaug as dv
from dali_vidaug.data import listed_files, measuring

ROOT = Path(__file__).parent.parent


@pytest.fixture
def many(numbered, tmp_path):
    """48 videos in two classes, which are links to twelve."""
    for path in numbered.rglob("*.mp4"):
        for copy in range(4):
            link = tmp_path / "videos" / path.parent.name / f"{path.stem}-{copy}.mp4"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
    return tmp_path / "videos"


def expected_of(many, tmp_path):
    return dv.scan(many, output=tmp_path / "undisturbed.parquet", progress=False)


def lines(path):
    """The names in the file of a scan that goes on, of whole lines."""
    if not path.is_file():
        return []
    return [json.loads(line)[0] for line in path.read_bytes().split(b"\n")[:-1]]


class Killer(threading.Thread):
    """Kills something each time that some videos more are done."""

    def __init__(self, partial, kill, times):
        super().__init__()
        self._partial, self._kill, self._times = partial, kill, times
        self.killed, self.stopped = 0, threading.Event()

    def run(self):
        done = 0
        while self.killed < self._times and not self.stopped.wait(0.002):
            if len(lines(self._partial)) >= done + 8:
                self.killed += self._kill()
                done = len(lines(self._partial))


def kill_a_process(rng):
    """Kill one of the processes that measure, at random; returns how many."""
    servers = [one for one in psutil.Process().children() if any("forkserver" in word for word in cmdline(one))]
    workers = [child for server in servers for child in server.children()]
    if not workers:
        return 0
    os.kill(workers[rng.integers(len(workers))].pid, signal.SIGKILL)
    return 1


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_processes_that_are_killed_lose_nothing(many, tmp_path):
    expected = expected_of(many, tmp_path)
    output, rng = tmp_path / "m.parquet", np.random.default_rng(0)
    killer = Killer(Path(f"{output}.partial"), lambda: kill_a_process(rng), 5)
    killer.start()
    try:
        manifest = dv.scan(many, output=output, engine="processes", num_threads=2, progress=False)
    finally:
        killer.stopped.set()
        killer.join()
    assert killer.killed >= 3
    assert manifest.table.equals(expected.table) and not manifest.broken and len(manifest) == 48


PROGRAM = """
import sys, time
import dali_vidaug as dv
from dali_vidaug.data import listed_files, measuring

real = measuring.measure

def measure(path, *how):
    time.sleep(0.03)
    row = real(path, *how)
    with open(sys.argv[3], "a") as log:
        log.write(path.path.rsplit("/", 1)[1] + "\\n")
    return row

measuring.measure = measure
dv.scan(sys.argv[1], output=sys.argv[2], num_threads=2, progress=False)
"""


@pytest.mark.slow
def test_a_scan_that_is_killed_at_random_moments_goes_on(many, tmp_path):
    """What was written before it was killed is not measured again, and all is there in the end."""
    expected = expected_of(many, tmp_path)
    output, log = tmp_path / "m.parquet", tmp_path / "log"
    partial, rng, kept, kills = Path(f"{output}.partial"), np.random.default_rng(1), set(), 0
    while not output.exists():
        assert kills < 10
        log.unlink(missing_ok=True)
        program = subprocess.Popen([sys.executable, "-c", PROGRAM, many, output, log])
        try:
            wait_until(lambda: len(lines(partial)) > len(kept) or program.poll() is not None)  # noqa: B023
            if kills < 4:
                time.sleep(rng.uniform(0, 0.2))
                program.kill()
                kills += 1
            program.wait(60)
        finally:
            program.kill()
            program.wait()
        measured = log.read_text().split() if log.exists() else []
        assert len(set(measured)) == len(measured) and not set(measured) & {name.split("/")[1] for name in kept}
        names = lines(partial)
        assert len(set(names)) == len(names) and kept <= {*names} | ({*kept} if output.exists() else set())
        kept |= set(names)
    assert kills == 4 and 4 <= len(kept) < 48 and not partial.exists()
    manifest = dv.Manifest.read(output)
    assert manifest.table.equals(expected.table) and not manifest.broken


def test_a_file_that_hangs_costs_one_timeout(many, tmp_path, monkeypatch):
    """It is broken, with the reason, and measured again by the next scan."""
    expected, real, ends = expected_of(many, tmp_path), measuring.measure, threading.Event()

    def hangs(place, *how):
        if Path(place.path).name == "04-2.mp4":
            ends.wait(60)  # as a server that does not answer
        return real(place, *how)

    monkeypatch.setattr(measuring, "measure", hangs)
    try:
        manifest = dv.scan(many, output=tmp_path / "m.parquet", timeout=2.0, num_threads=1, progress=False)
    finally:
        ends.set()
    (broken,) = manifest.broken
    assert broken.path.endswith("even/04-2.mp4") and broken.reason == "it was not done within 2 s (timeout)"
    assert len(manifest) == 47
    again = dv.scan(many, output=tmp_path / "m.parquet", progress=False)
    assert again.table.equals(expected.table) and not again.broken


def test_a_known_file_that_hangs_costs_one_timeout(many, tmp_path, monkeypatch):
    """When a second scan compares it with what is known of it; it is not waited for again, others are compared."""
    expected, real, ends = expected_of(many, tmp_path), listed_files.is_as_measured, threading.Event()
    output, measured = tmp_path / "undisturbed.parquet", []

    def hangs(place, row):
        if Path(place.path).name == "04-2.mp4":
            ends.wait(60)
        return real(place, row)

    monkeypatch.setattr(listed_files, "is_as_measured", hangs)
    monkeypatch.setattr(measuring, "measure", lambda place, *how: measured.append(place.path))
    began = time.monotonic()
    try:
        manifest = dv.scan(many, output=output, timeout=0.5, num_threads=1, progress=False)
        took = time.monotonic() - began
    finally:
        ends.set()
    assert took < 30 and not measured
    (broken,) = manifest.broken
    assert broken.path.endswith("even/04-2.mp4") and broken.reason == "it was not done within 0.5 s (timeout)"
    assert len(manifest) == 47
    monkeypatch.undo()
    assert dv.scan(many, output=output, progress=False).table.equals(expected.table)


@pytest.mark.slow
def test_a_million_rows_are_scanned_within_2_gb(tmp_path):
    """By what 100,000 and 200,000 take: the rest grows no faster than rows do."""
    figures = [
        json.loads(subprocess.run(
            [sys.executable, ROOT / "benchmarks" / "scan_memory.py", "--rows", str(rows), "--folder", tmp_path],
            capture_output=True, check=True, timeout=300,
        ).stdout)
        for rows in (100_000, 200_000)
    ]  # fmt: skip
    peaks = [one["peak_bytes"] for one in figures]
    assert peaks[1] + (peaks[1] - peaks[0]) * 8 < 2e9, figures
