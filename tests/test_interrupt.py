"""Ctrl-C: what the command says, and that what it says is true."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_numbered

import dali_vidaug as dv
from dali_vidaug.commands import cli
from dali_vidaug.data.known import Known

SCAN = [sys.executable, "-m", "dali_vidaug.commands.cli", "scan", "videos", "-o", "m.parquet", "--num-threads", "1"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of videos that takes seconds to scan."""
    folder = tmp_path_factory.mktemp("many")
    write_numbered(folder / "one.mp4", 60)
    for i in range(120):
        path = folder / "videos" / "ab"[i % 2] / f"{i:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "one.mp4", path)
    return folder


@pytest.mark.parametrize("deep", [[], pytest.param(["--deep"], marks=pytest.mark.slow)], ids=["both ends", "deep"])
def test_an_interrupted_scan_goes_on_with_the_same_command(many, deep, tmp_path):
    (tmp_path / "videos").symlink_to(many / "videos")
    kept = tmp_path / "m.parquet.partial"
    scan = subprocess.Popen(
        [*SCAN, *deep], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    while not (kept.is_file() and kept.read_text().count("\n") >= 20):
        assert scan.poll() is None, scan.stderr.read()
        time.sleep(0.01)
    scan.send_signal(signal.SIGINT)
    _, said = scan.communicate(timeout=60)
    assert scan.returncode == 130 and not (tmp_path / "m.parquet").exists()
    last = said.strip().splitlines()[-1]
    assert last == "dali-vidaug scan: interrupted; the same command goes on from here, with m.parquet.partial"
    assert "Traceback" not in said
    measured = [json.loads(line)[0] for line in kept.read_text().splitlines()]
    assert 20 <= len(measured) < 120 and len(set(measured)) == len(measured)
    again = subprocess.run([*SCAN, *deep], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(rf"\b{120 - len(measured)}/{120 - len(measured)} ", again.stderr)  # the bar counts what is left
    assert not kept.exists()
    assert (
        dv.Manifest.read(tmp_path / "m.parquet").table
        == dv.scan(many / "videos", progress=False, deep=bool(deep)).table
    )


def test_what_is_said_of_an_interruption_comes_last(many, tmp_path, monkeypatch, capsys):
    """Also of one that comes while a result is written down, not while one is waited for."""
    added = []

    def add(known, name, row):
        added.append(name)
        if len(added) == 5:
            raise KeyboardInterrupt
        return written_down(known, name, row)

    written_down = Known.add
    monkeypatch.setattr(Known, "add", add)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["scan", str(many / "videos"), "-o", "m.parquet"]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("dali-vidaug scan: interrupted; the same command")
    assert len(Path("m.parquet.partial").read_text().splitlines()) == 4


def test_before_anything_is_measured_nothing_is_promised(tmp_path):
    code = (
        "import dali_vidaug as dv, sys; from dali_vidaug.commands import cli\n"
        "def scan(*a, **k): raise KeyboardInterrupt\n"
        "dv.scan = scan; sys.exit(cli.main(['scan', 'videos', '-o', 'm.parquet']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "dali-vidaug: interrupted\n")
