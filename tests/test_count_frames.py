"""The benchmark that counts decoded frames: its oracle, where the answer is known, and what it prints."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import measured_video

PROGRAM = Path(__file__).parent.parent / "benchmarks" / "frames.py"


@pytest.fixture(scope="module")
def program():
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_frames", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KNOWN = {  # form: codec, options, which frames are otherwise when that of packet i is spoiled, of n
    "chain": ("libx264", {"g": "99", "bf": "0", "preset": "ultrafast"}, lambda i, n: range(i, n)),
    "chain_265": ("libx265", {"x265-params": "bframes=0:keyint=99:log-level=none"}, lambda i, n: range(i, n)),
    "chain_mpeg4": ("mpeg4", {"g": "99"}, lambda i, n: range(i, n)),
    "pairs": (
        "libx264",  # packets in decoding order: I, then P and the B before it
        {"g": "99", "x264-params": "bframes=1:b-adapt=0:scenecut=0:weightp=0"},
        lambda i, n: range(n) if i == 0 else (i,) if i % 2 == 0 and i < n - 1 else range(i, n),
    ),
}


@pytest.mark.parametrize("form", KNOWN)
def test_dependence_is_found(form, program, tmp_path):
    codec, options, known = KNOWN[form]
    count = 15
    program.write_video(tmp_path / "v.mp4", program.moving_frames(count), codec=codec, options=options)
    gop, digests = program.read_gop(tmp_path / "v.mp4", 0)
    assert len(digests) == len(set(digests)) == count == len(gop.frames)
    for i in range(count):
        assert set(np.flatnonzero(gop.depends[i]).tolist()) == set(known(i, count)), i


def test_counts(program, tmp_path):
    """Of a chain every frame up to the last is needed; and the counts are those of the clips."""
    options = {"g": "99", "bf": "0", "preset": "ultrafast"}
    path = tmp_path / "v.mp4"
    program.write_video(path, program.moving_frames(30), options=options)
    gop, digests = program.read_gop(path, 0)
    clips = [np.arange(3, 11), np.arange(0, 29, 4)]
    assert program.count_frames(measured_video(path), gop, digests, clips) == (16, 11 + 29, 11 + 29, 11 + 29)
    with pytest.raises(AssertionError, match="a frame is another"):
        program.count_frames(measured_video(path), gop, digests[1:] + digests[:1], clips)
    drawn = program.draw_clips(gop, 20, np.random.default_rng(0))
    assert len(drawn) == 20 and {int(clip[1] - clip[0]) for clip in drawn} <= {1, 2, 4}
    assert all(clip[0] >= 0 and clip[-1] < 30 for clip in drawn)


@pytest.mark.slow
def test_it_runs(program, tmp_path):
    options = {"x265-params": "temporal-layers=3:keyint=99:log-level=none"}
    program.write_video(tmp_path / "v.mp4", program.moving_frames(40), codec="libx265", options=options)
    command = [sys.executable, str(PROGRAM), str(tmp_path), "--clips", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:2] == "| "]
    names = [row[0] for row in rows[1:]]
    assert names[-1].endswith("hevc, 1 files") and len(names) > 10
    for name, *cells in rows[1:]:
        seek, ours, least = map(float, cells)
        assert 1 <= ours <= seek and least <= ours, name
    layers = next(row for row in rows if "3 temporal layers" in row[0])
    assert float(layers[2]) == float(layers[3]) < 0.7 * float(layers[1])
