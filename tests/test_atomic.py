"""Files are written whole or not at all, whoever else writes to them, and whenever a writer is killed."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from dali_vidaug.data.atomic import written_whole


def files_in(folder):
    return sorted(file.name for file in folder.iterdir())


def test_it_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "x"
    path.write_text("before")
    with written_whole(path) as file:
        file.write(b"after")
        file.flush()
        assert path.read_text() == "before" and len(files_in(tmp_path)) == 2
    assert path.read_text() == "after" and files_in(tmp_path) == ["x"]


def test_nothing_changes_where_it_fails(tmp_path):
    path = tmp_path / "x"
    for content in (None, "before"):
        with pytest.raises(ZeroDivisionError), written_whole(path) as file:
            file.write(b"after")
            raise ZeroDivisionError
        assert files_in(tmp_path) == ([] if content is None else ["x"])
        path.write_text("before")
    assert path.read_text() == "before"


def test_two_writers_in_one_process(tmp_path):
    """As of two containers, whose processes have the same number: neither writes into the other's file."""
    path = tmp_path / "x"
    with written_whole(path) as one:
        one.write(b"a" * 10)
        with written_whole(path) as other:
            other.write(b"b" * 20)
        assert path.read_bytes() == b"b" * 20
        one.write(b"a" * 10)
    assert path.read_bytes() == b"a" * 20 and files_in(tmp_path) == ["x"]


WRITER = """
import os, sys
from dali_vidaug.data.atomic import written_whole
print("ready", flush=True)
while True:
    with written_whole(sys.argv[1]) as file:
        for _ in range(50):
            file.write(sys.argv[2].encode() * 1000)
"""


def test_writers_that_are_killed_at_any_moment(tmp_path):
    """What is there is always whole; what is left of the killed goes with the next writer, not that of the living."""
    rng, path = random.Random(0), tmp_path / "x"
    command = [sys.executable, "-c", WRITER, str(path)]
    living = subprocess.Popen([*command, "L"], stdout=subprocess.PIPE)
    try:
        for letter in "abcdef":
            writer = subprocess.Popen([*command, letter], stdout=subprocess.PIPE)
            assert writer.stdout.readline() == b"ready\n"
            until = time.monotonic() + rng.uniform(0, 0.05)
            while time.monotonic() < until:
                found = path.read_bytes() if path.exists() else b""
                assert len(found) in (0, 50_000) and len(set(found)) <= 1
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        assert living.poll() is None, "nobody removed its file"
    finally:
        living.kill()
        living.communicate()
    with written_whole(path) as file:
        file.write(b"z")
    assert path.read_bytes() == b"z" and files_in(tmp_path) == ["x"]


def test_files_of_other_names_are_left_alone(tmp_path):
    """Also those of a machine that may still be writing; after an hour without a change it is not."""
    old = time.time() - 7200
    for name in ("x.partial", "xx.partial-other-1-1", "x.arrow.partial-other-1-1", "x.partial-other-1-1"):
        (tmp_path / name).touch()
    (tmp_path / "x.partial-other-2-2").touch()
    for name in ("x.partial", "xx.partial-other-1-1", "x.arrow.partial-other-1-1", "x.partial-other-2-2"):
        os.utime(tmp_path / name, (old, old))
    with written_whole(tmp_path / "x"):
        pass
    kept = ["x", "x.arrow.partial-other-1-1", "x.partial", "x.partial-other-1-1", "xx.partial-other-1-1"]
    assert files_in(tmp_path) == kept
