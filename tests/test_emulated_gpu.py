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
from dali_vidaug.ops.blur import blur, blur_args
from dali_vidaug.ops.color import CODES, color, color_args
from dali_vidaug.ops.interpolate import decoded_frames, interpolate, interpolate_rows
from dali_vidaug.ops.motion import background, background_args, motion, motion_args
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


@pytest.mark.parametrize("options", [{}, {"bilinear": 1}, {"bilinear": 2}, {"per_clip": True}], ids=str)
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


@pytest.mark.parametrize("per_clip", [False, True])
def test_colors_are_changed(tmp_path, monkeypatch, per_clip):
    rng = np.random.default_rng(0)
    clips = [patterned_clip(shape, i) for i, shape in enumerate([(4, 17, 23), (3, 5, 70), (1, 1, 1)] * 8)]
    rows = np.zeros(len(clips), color_args(4, 4))
    rows["op"] = [rng.permutation(np.arange(1, len(CODES)))[:4] for _ in clips]
    rows["value"], rows["num_values"], rows["per_clip"] = rng.uniform(0.2, 1.8, (len(clips), 4, 4)), 4, per_clip
    rows["value"][rows["op"] == CODES.index("hue")] -= 1
    library = build("color", rows.dtype, tmp_path)
    outputs = on_gpu(lambda clips, rows: color(clips, rows, 4), clips, rows, library, monkeypatch)
    for out, one in zip(outputs, color(clips, rows, 4), strict=True):
        assert_pixels(out, one)


def test_frames_are_blurred(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    clips = [patterned_clip(shape, i) for i, shape in enumerate([(4, 17, 23), (3, 5, 170), (1, 1, 1), (2, 3, 64)] * 4)]
    rows = np.zeros(len(clips), blur_args(4))
    rows["radius"], rows["num_values"] = rng.integers(0, 33, len(clips)), 4
    rows["sigma"][:, 0] = rng.choice([0, 0.1, 1.0, 3.0, 20.0], (len(clips), 4))
    outputs = on_gpu(blur, clips, rows, build("blur", rows.dtype, tmp_path), monkeypatch)
    for out, one in zip(outputs, blur(clips, rows), strict=True):
        assert_pixels(out, one)


def test_frames_are_blended_with_each_other(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    clips = [patterned_clip(shape, i) for i, shape in enumerate([(4, 17, 23), (9, 5, 70), (1, 1, 1)] * 5)]
    rows = np.zeros(len(clips), motion_args(9))
    rows["window"], rows["num_values"] = rng.integers(0, 16, (len(clips), 1, 9)), 9
    outputs = on_gpu(motion, clips, rows, build("motion", rows.dtype, tmp_path), monkeypatch)
    for out, one in zip(outputs, motion(clips, rows), strict=True):
        assert_pixels(out, one)
    rows = np.zeros(len(clips), background_args(9))
    rows["frame"], rows["num_values"] = [rng.integers(len(clip)) for clip in clips], 9
    rows["weight"][:, 0] = rng.choice([0, 1, 0.3, 0.99999], (len(clips), 9))
    outputs = on_gpu(background, clips, rows, build("background", rows.dtype, tmp_path), monkeypatch)
    for out, one in zip(outputs, background(clips, rows), strict=True):
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
