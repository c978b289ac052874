"""The GPU's form of the kernels, its loops shared out among threads that meet, run by threads of the CPU.

It shows that the sharing and meeting are right, not what a GPU's compiler and memory make of them.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_pixels
from test_blend import make_clips, random_rows
from test_kernels import make_clip, make_rows, random_chains

from dali_vidaug import kernels
from dali_vidaug.ops.blend import BLEND, blend
from dali_vidaug.ops.randaugment import randaugment

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
FLAGS = "-x c++ - -shared -fPIC -std=c++17 -O1 -ffp-contract=off -pthread".split()
HEADER = Path(__file__).parent / "emulated_gpu.h"


def build(name, args, folder):
    text = f'#include "{HEADER}"\nnamespace gpu {{\n{kernels.source(name, args)}\n}}\n'
    path = folder / f"{name}.so"
    built = subprocess.run(["g++", *FLAGS, "-o", path], input=text, text=True, capture_output=True, check=False)
    assert built.returncode == 0, built.stderr
    return ctypes.CDLL(str(path))


@pytest.mark.parametrize("options", [{}, {"bilinear": True}, {"per_clip": True}], ids=str)
def test_threads_share_and_meet(tmp_path, monkeypatch, options):
    clips = [make_clip(shape, i) for i, shape in enumerate([(4, 17, 23), (3, 5, 70), (1, 1, 1)] * 8)]
    rows = make_rows(random_chains(len(clips), 3, 11), 4, **options)
    expected = randaugment(clips, rows, 3)
    emulate(build("randaugment", rows.dtype, tmp_path), monkeypatch)
    for out, one in zip(randaugment(clips, rows, 3), expected, strict=True):
        assert_pixels(out, one)


@pytest.mark.parametrize("erased", [False, True])
def test_clips_of_a_batch_are_blended(tmp_path, monkeypatch, erased):
    clips, rows = make_clips((4, 17, 43), 20), random_rows((4, 17, 43), 20, 1, erased)
    rows["outside"] = np.maximum(rows["outside"], 1 / 32768)  # none is skipped
    expected = blend(clips, rows)
    emulate(build("blend", BLEND, tmp_path), monkeypatch)
    for out, one in zip(blend(clips, rows), expected, strict=True):
        assert_pixels(out, one)


def emulate(library, monkeypatch):
    """Let launches go to a library made by ``build``."""

    def run(name, args, table, sizes, calls):
        work = [np.empty(size, np.uint8) for size in sizes]
        table["work"] = [memory.ctypes.data for memory in work]
        for entry, index in calls:
            library.emulate(
                getattr(library, entry), ctypes.c_void_p(table.ctypes.data), index, 2, len(table), 64
            )  # fewer blocks than there is work: each must go on to the next frame or row

    monkeypatch.setattr(kernels, "_run_cpu", run)
