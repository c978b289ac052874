"""The launcher of the GPU's kernels: how it divides a batch, and what it launches on a stand-in for CuPy."""

from functools import cache

import numpy as np
import pytest

from dali_vidaug import kernels
from dali_vidaug.ops.blend import BLEND, blend, new_rows
from dali_vidaug.ops.randaugment import FRAME_BYTES, args_dtype, randaugment

TEAM = 32  # threads of a warp, which share a row of pixels


# ---- grids: what the kernels' index arithmetic (common.h) makes of them


@cache
def times_done(total, blocks, teams_per_block):
    """How often each of ``total`` rows (or frames, one team a block) of a clip is done, and the most by one team."""
    teams = blocks * teams_per_block
    done = np.zeros(total, np.int64)
    for first in range(min(teams, total)):
        done[first::teams] += 1
    return done, -(-total // teams)


def assert_done_once(launches, frames, heights):
    """Each row and frame of each clip is done once. ``launches``: first clip and grid (x, y) of each."""
    taken = np.zeros(len(frames), np.int64)
    for first, (x, y) in launches:
        assert type(x) is type(y) is int and 1 <= x <= 2**31 - 1 and 1 <= y <= 65535
        assert first + y <= len(frames), "a block would look past the table of clips"
        taken[first : first + y] += 1
        most = 0
        for f, h in {*zip(frames[first : first + y].tolist(), heights[first : first + y].tolist(), strict=True)}:
            for total, teams in ((f * h, kernels.THREADS // TEAM), (f, 1)):
                done, by_one = times_done(total, x, teams)
                assert (done == 1).all()
                most = max(most, by_one) if teams > 1 else most
        assert most <= 4, f"{x} blocks are too few: a warp has {most} rows of pixels to do"
    assert (taken == 1).all(), f"clips skipped or done twice: {np.flatnonzero(taken != 1)[:5]}"


CASES = {
    "one pixel": ([1], [1]),
    "one frame": ([1], [33]),
    "4K": ([16], [2160]),
    "32 and 33 rows": ([32, 33], [1, 1]),
    "batch of 1024": ([16] * 1024, [224] * 1024),
    "ragged": (np.arange(1, 301) % 17 + 1, np.arange(1, 301) * 7 % 250 + 1),
    "65535": ([2] * 65535, [3] * 65535),
    "65536": ([2] * 65536, [3] * 65536),
    "200000, ragged": (np.arange(200_000) % 5 + 1, np.arange(200_000) % 7 + 30),
    "the largest last": ([1] * 65535 + [16], [1] * 65535 + [720]),
}


@pytest.mark.parametrize("name", CASES)
def test_every_row_and_frame_is_done_once(name):
    frames, heights = map(np.asarray, CASES[name])
    launches = list(kernels.grids(frames, heights))
    assert_done_once(launches, frames, heights)
    assert len(launches) == -(-len(frames) // 65535)


def test_no_clips_no_launches(fake_cupy):
    assert list(kernels.grids(np.zeros(0, int), np.zeros(0, int))) == []
    assert blend([], []) == randaugment([], [], 2) == [] and fake_cupy._launches == []


@pytest.mark.parametrize("name", ["32 and 33 rows", "4K", "ragged", "65535", "65536", "200000, ragged"])
def test_the_check_of_grids_can_fail(name):
    frames, heights = map(np.asarray, CASES[name])
    *others, (first, (x, y)) = kernels.grids(frames, heights)
    wrong = [
        (first, (x - 1, y)),
        (first, (x, y - 1)),
        (first, (x, y + 1)),
        (first + 1, (x, y)),
        (first + 1, (x, y - 1)),
    ]
    wrong += [(first - 1, (x, y))] if others else []
    for launch in wrong:
        with pytest.raises(AssertionError):
            assert_done_once([*others, launch], frames, heights)


def test_large_grids_are_within_int32():
    """`row` in common.h: its greatest value is that of the last row but one step, and a step."""
    rows = 2**30  # kernels._check
    ((_, (x, _)),) = kernels.grids([2**15], [2**15])
    assert rows - 1 + x * (kernels.THREADS // TEAM) < 2**31 and x < 2**31


def test_clips_that_are_too_large_are_refused(fake_cupy):
    def run(*shape):
        clips = [fake_cupy._array((2, 3, 4, 3)), fake_cupy._array((*shape, 3))]
        return blend(clips, [fake_cupy._array([BLEND.itemsize]) for _ in clips])

    for shape in (
        (32768, 4320, 7680),
        (2**30 + 1, 1, 1),
        (1, 2**30 // 3 + 1, 1),
        (1, 1, 2**30 // 3 + 1),
        (4, 2**15, 2**15),
    ):
        with pytest.raises(ValueError, match=rf"blend: clip 1 is too large, \({shape[0]}, .*cut it into shorter"):
            run(*shape)
    for shape in (2**15, 2**15, 1), (128, 4320, 7680), (1, 2**30 // 3, 1):
        assert len(run(*shape)) == 2
    assert len(fake_cupy._launches) == 3


# ---- what is launched


def test_a_large_batch_is_launched_in_parts(fake_cupy):
    shapes = [(1 + i % 3, 2, 2, 3) for i in range(65_540)]
    clips = [fake_cupy._array(shape) for shape in shapes]
    row = fake_cupy._array([BLEND.itemsize])
    blend(clips, [row] * len(clips))
    tables, launches = [], []
    for entry, grid, block, (table, index) in fake_cupy._launches:
        assert (entry, block, int(index)) == ("blend", (kernels.THREADS,), 0)
        tables.append(table._values.view(kernels.CLIP))
        launches.append((int(tables[-1]["index"][0]), grid))
    assert_done_once(launches, np.array([s[0] for s in shapes]), np.array([s[1] for s in shapes]))
    whole = tables[0]
    assert whole["src"].tolist() == [clip.data.ptr for clip in clips] and (whole["count"] == len(clips)).all()
    assert len(tables) == 2 and np.shares_memory(whole, tables[1])  # clip n of all is still where the kernels look
    assert tables[1].ctypes.data - whole.ctypes.data == 65535 * kernels.CLIP.itemsize
    addresses = [parameters[0].data.ptr for _, _, _, parameters in fake_cupy._launches]
    assert np.diff(addresses).tolist() == [65535 * kernels.CLIP.itemsize]


def test_functions_are_made_once(fake_cupy):
    for frames in (4, 4, 5):
        args = args_dtype(3, frames)
        randaugment([fake_cupy._array((4, 3, 2, 3))], [fake_cupy._array([args.itemsize])], 3)
    entries = ["randaugment_count", "randaugment_prepare", "randaugment_pixels"]
    assert fake_cupy._functions == entries * 2  # the row's length is in the text: another text for 5 frames
    assert [launch[0] for launch in fake_cupy._launches] == entries * 9


def test_rows_from_numpy_are_copied_to_the_gpu(fake_cupy):
    rows = new_rows(3, 2, 3, 4)
    rows["partner"] = -1
    blend([fake_cupy._array((2, 3, 4, 3)) for _ in rows], rows)
    table = fake_cupy._launches[0][3][0]._values.view(kernels.CLIP)
    assert np.diff(table["args"].astype(np.int64)).tolist() == [BLEND.itemsize] * 2


# ---- alignment


def misaligned(dtype):
    """Fields that are not aligned to their size in each of many rows that lie packed, the first of them aligned."""
    return [n for n, (k, at, *_) in dtype.fields.items() if at % k.base.itemsize or dtype.itemsize % k.base.itemsize]


@pytest.mark.parametrize("dtype", [kernels.CLIP, BLEND, *(args_dtype(n, f) for n in (1, 2, 3, 8) for f in (1, 7, 16))])
def test_packed_rows_are_aligned(dtype):
    assert misaligned(dtype) == []


def test_the_check_of_alignment_can_fail():
    assert misaligned(np.dtype([("a", "i4"), ("b", "u8"), ("c", "i4")])) == ["b"]
    assert misaligned(np.dtype([("a", "u8"), ("b", "i4")])) == ["a"]
    assert misaligned(np.dtype([("a", "u1", 3), ("b", "f4", (2, 3)), ("c", "u1")])) == ["b"]


def test_scratch_memory_is_aligned(fake_cupy):
    args = args_dtype(2, 16)
    shapes = [(1, 1, 1, 3), (16, 17, 23, 3), (3, 5, 7, 3)]
    randaugment([fake_cupy._array(shape) for shape in shapes], [fake_cupy._array([args.itemsize]) for _ in shapes], 2)
    table = fake_cupy._launches[0][3][0]
    assert table.data.ptr % 8 == 0
    assert not (table._values.view(kernels.CLIP)["work"] % 16).any()
    assert FRAME_BYTES % 8 == 0  # the 64-bit fields of the next frame stay aligned
    for size in (1, 5000, 5001, 1 << 20):  # on the CPU
        assert kernels._scratch_memory(size).ctypes.data % 16 == 0
