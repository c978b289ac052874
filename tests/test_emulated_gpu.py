"""The GPU's form of the kernels, in which threads share loops and synchronise, run by threads of the CPU.

It shows that the sharing and synchronising are right, not what a GPU's compiler and memory make of them.
"""

import ctypes
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import stand_in
from conftest import (
    assert_pixels,
    blend_rows,
    extreme_clips,
    patterned_clip,
    randaugment_rows,
    random_chains,
    random_matrices,
)

from dali_vidaug import kernels
from dali_vidaug.ops.blend import BLEND, blend
from dali_vidaug.ops.interpolate import decoded_frames, interpolate, interpolate_rows
from dali_vidaug.ops.randaugment import randaugment
from dali_vidaug.ops.warp import warp, warp_rows

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
FLAGS = "-x c++ - -shared -fPIC -std=c++17 -O1 -ffp-contract=off -pthread".split()
HEADER = Path(__file__).parent / "emulated_gpu.h"


def build(name, args, folder):
    text = f'#include "{HEADER}"\nnamespace gpu {{\n{kernels.source(name, args)}\n}}\n'
    path = folder / f"{name}.so"
    built = subprocess.run(["g++", *FLAGS, "-o", path], input=text, text=True, capture_output=True, check=False)
    assert built.returncode == 0, built.stderr
    return ctypes.CDLL(str(path))


def on_gpu(function, clips, rows, library, monkeypatch):
    """Let the launcher's half for the GPU run ``function`` on clips and rows that are CuPy's, as far as it can see."""

    def launch(entry, grid, block, args):
        (x, y), (threads,), (table, index) = grid, block, args
        library.emulate(getattr(library, entry), ctypes.c_void_p(table.data.ptr), int(index), x, y, threads)

    cupy = stand_in.Cupy(launch)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(kernels, "THREADS", 64)  # two warps: few enough for the CPU, too few for a row each
    kernels._function.cache_clear()
    rows = [cupy.asarray(row) for row in rows.view(np.uint8).reshape(len(rows), -1)]
    clips = [cupy.asarray(clip) for clip in clips]
    before = [array._values.copy() for array in (*clips, *rows)]
    outputs = function(clips, rows)
    kernels._function.cache_clear()
    assert all(np.array_equal(a._values, b) for a, b in zip((*clips, *rows), before, strict=True))
    return [out._values.reshape(out.shape) for out in outputs]


@pytest.mark.parametrize("options", [{}, {"bilinear": True}, {"per_clip": True}], ids=str)
def test_threads_share_and_synchronise(tmp_path, monkeypatch, options):
    clips = [patterned_clip(shape, i) for i, shape in enumerate([(4, 17, 23), (3, 5, 70), (1, 1, 1)] * 8)]
    rows = randaugment_rows(random_chains(len(clips), 3, 11), 4, **options)
    expected = randaugment(clips, rows, 3)
    library = build("randaugment", rows.dtype, tmp_path)
    outputs = on_gpu(lambda clips, rows: randaugment(clips, rows, 3), clips, rows, library, monkeypatch)
    for out, one in zip(outputs, expected, strict=True):
        assert_pixels(out, one)


@pytest.mark.parametrize("most", [65535, 7], ids=["one launch", "parts of 7"])
@pytest.mark.parametrize("erased", [False, True])
def test_clips_of_a_batch_are_blended(tmp_path, monkeypatch, erased, most):
    clips, rows = extreme_clips((4, 17, 43), 20), blend_rows((4, 17, 43), 20, 1, erased)
    monkeypatch.setattr(kernels, "_MAX_GRID_Y", most)
    outputs = on_gpu(blend, clips, rows, build("blend", BLEND, tmp_path), monkeypatch)
    for out, one in zip(outputs, blend(clips, rows), strict=True):
        assert_pixels(out, one)


@pytest.mark.parametrize("size", [3, 11], ids=["fewer frames than there are", "more"])
def test_frames_are_interpolated(tmp_path, monkeypatch, size):
    frames = np.random.default_rng(0).uniform(0, 3, (20, size))
    clips = [clip[decoded_frames(p)] for clip, p in zip(extreme_clips((4, 17, 43), 20), frames, strict=True)]
    rows, call = interpolate_rows(frames), partial(interpolate, num_frames=size)
    outputs = on_gpu(call, clips, rows, build("interpolate", rows.dtype, tmp_path), monkeypatch)
    for out, one in zip(outputs, call(clips, rows), strict=True):
        assert_pixels(out, one)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_frames_are_warped(tmp_path, monkeypatch, interpolation):
    kinds, shape = ("affine", "perspective", "moved", "whole pixels"), (2, 17, 70)
    clips = [patterned_clip(shape, i) for i in range(24)]
    matrices = np.stack([random_matrices(shape, kinds[i % 4], i) for i in range(24)])
    matrices[20] = np.nan
    rows = warp_rows(matrices, *shape[1:], (200, 100, 7), interpolation)
    outputs = on_gpu(warp, clips, rows, build("warp", rows.dtype, tmp_path), monkeypatch)
    for out, one in zip(outputs, warp(clips, rows), strict=True):
        assert_pixels(out, one)
