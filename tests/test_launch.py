"""The launcher of the GPU's kernels, with a stand-in for CuPy that is itself held against CuPy."""

import gc
import inspect
import re
import sys
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import stand_in

from dali_vidaug import kernels
from dali_vidaug.ops.blend import BLEND, blend
from dali_vidaug.ops.randaugment import FRAME_BYTES, args_dtype, randaugment
from dali_vidaug.plan import Plan, draw_ops
from dali_vidaug.rng import Draws

TEAM = 32  # threads of a warp, which share a row of pixels


@pytest.fixture
def device(monkeypatch):
    yield from stand_in.in_place_of_cupy(monkeypatch)


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
    """``launches``: first clip, (x, y)."""
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
    assert (taken == 1).all(), f"clips left out or done twice: {np.flatnonzero(taken != 1)[:5]}"


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


def test_no_clips_no_launches(device):
    assert list(kernels.grids(np.zeros(0, int), np.zeros(0, int))) == []
    assert blend([], []) == randaugment([], [], 2) == [] and device._launches == []


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


def test_clips_too_large_to_count_in_are_refused(device):
    def run(*shape):
        clips = [device._array((2, 3, 4, 3)), device._array((*shape, 3))]
        return blend(clips, [device._array([BLEND.itemsize]) for _ in clips])

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
    assert len(device._launches) == 3


# ---- what is launched


def test_a_large_batch_is_launched_in_parts(device):
    shapes = [(1 + i % 3, 2, 2, 3) for i in range(65_540)]
    clips = [device._array(shape) for shape in shapes]
    row = device._array([BLEND.itemsize])
    blend(clips, [row] * len(clips))
    tables, launches = [], []
    for entry, grid, block, (table, index) in device._launches:
        assert (entry, block, int(index)) == ("blend", (kernels.THREADS,), 0)
        tables.append(table._values.view(kernels.CLIP))
        launches.append((int(tables[-1]["index"][0]), grid))
    assert_done_once(launches, np.array([s[0] for s in shapes]), np.array([s[1] for s in shapes]))
    whole = tables[0]
    assert whole["src"].tolist() == [clip.data.ptr for clip in clips] and (whole["count"] == len(clips)).all()
    assert len(tables) == 2 and np.shares_memory(whole, tables[1])  # clip n of all is still where the kernels look
    assert tables[1].ctypes.data - whole.ctypes.data == 65535 * kernels.CLIP.itemsize
    assert device._launches[1][3][0].data.ptr - device._launches[0][3][0].data.ptr == 65535 * kernels.CLIP.itemsize


def test_functions_are_made_once(device):
    for frames in (4, 4, 5):
        args = args_dtype(3, frames)
        randaugment([device._array((4, 3, 2, 3))], [device._array([args.itemsize])], 3)
    entries = ["randaugment_count", "randaugment_prepare", "randaugment_pixels"]
    assert device._functions == entries * 2  # the row's length is in the text: another text for 5 frames
    assert [launch[0] for launch in device._launches] == entries * 9


def test_rows_from_numpy_are_taken_to_the_gpu(device):
    rows = np.arange(3 * BLEND.itemsize, dtype=np.uint8).view(BLEND)
    rows["partner"] = -1
    blend([device._array((2, 3, 4, 3)) for _ in rows], rows)
    table = device._launches[0][3][0]._values.view(kernels.CLIP)
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


def test_scratch_memory_is_aligned(device):
    args = args_dtype(2, 16)
    shapes = [(1, 1, 1, 3), (16, 17, 23, 3), (3, 5, 7, 3)]
    randaugment([device._array(shape) for shape in shapes], [device._array([args.itemsize]) for _ in shapes], 2)
    table = device._launches[0][3][0]
    assert table.data.ptr % 8 == 0
    assert not (table._values.view(kernels.CLIP)["work"] % 16).any()
    assert FRAME_BYTES % 8 == 0  # the 64-bit fields of the next frame stay aligned
    for size in (1, 5000, 5001, 1 << 20):  # on the CPU
        assert kernels._scratch_memory(size).ctypes.data % 16 == 0


# ---- the stand-in and CuPy


def signature(function):
    """A function's signature; of compiled ones, from the first line of the docstring, where Cython writes it."""
    try:
        return inspect.signature(function)
    except ValueError:
        line = (function.__doc__ or "").partition("\n")[0]
        found = re.fullmatch(r"[\w.]+\((.*)\)", line)
        assert found, f"no signature in the docstring of {function}: {line!r}"
        parameters = re.sub(r"\b(str|tuple|bool|int|float|size_t) (?=\w)", "", found[1])
        return inspect.signature(eval(f"lambda {parameters}: None"))


def assert_offers_no_more(ours, real):
    """What ``ours`` takes, ``real`` takes, and means by it an argument of the same name."""
    parameters = inspect.signature(ours).parameters.values()
    by_place = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    by_name = {p.name: p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    try:
        taken = signature(real).bind(*by_place, **by_name).arguments
    except TypeError as error:
        raise AssertionError(f"CuPy's {ours.__qualname__} is not called so: {error}") from error
    assert all(name == value for name, value in taken.items()), f"{ours.__qualname__}: {taken}"


def assert_is_like_cupy(ours, real):
    """All that a class of the stand-in has, the real one has."""
    for name, member in vars(ours).items():
        if name.startswith("_") and name not in ("__call__", "__getitem__"):
            continue
        assert hasattr(real, name), f"CuPy's {real} has no {name}"
        if inspect.isfunction(member) and name != "__getitem__":
            if inspect.ismodule(real):
                member = member.__get__(object())  # a module's functions have no self
            assert_offers_no_more(member, getattr(real, name))


def test_the_stand_in_offers_what_cupy_offers():
    cupy = pytest.importorskip("cupy")
    for ours, real in (
        (stand_in.Cupy, cupy),
        (stand_in.Module, cupy.RawModule),
        (stand_in.Function, cupy.RawKernel),
        (stand_in.Array, cupy.ndarray),
    ):
        assert_is_like_cupy(ours, real)
    array = stand_in.Cupy()._array([4])
    for ours, real in (
        (array, cupy.ndarray),
        (array.flags, cupy._core.flags.Flags),
        (array.data, cupy.cuda.MemoryPointer),
    ):
        assert [name for name in vars(ours) if not name.startswith("_") and not hasattr(real, name)] == []
    assert cupy.cuda.memory._round_size(1) == stand_in.ALIGNMENT  # the pool's, which DALI leaves in place
    signature(cupy.cuda.get_current_stream).bind()
    signature(cupy.cuda.runtime.setDevice).bind(0)
    assert signature(cupy.cuda.Stream).bind(null=True).arguments == {"null": True}
    cupy.RawModule(code="", options=kernels.NVRTC_OPTIONS)


def test_the_check_of_the_stand_in_can_fail():
    cupy = pytest.importorskip("cupy")

    class Module:
        def get_function(self, name, device):
            pass

    class Named:
        def get_function(self, entry):
            pass

    class Other:
        def get_kernel(self, name):
            pass

    class Top:
        def asarray(self, a, pinned):
            pass

        def RawModule(self, *, text, options):
            pass

    class Kernel:
        def __call__(self, block, grid, args):
            pass

    for ours, real, message in (
        (Module, cupy.RawModule, "too many positional"),
        (Named, cupy.RawModule, "entry"),
        (Other, cupy.RawModule, "has no get_kernel"),
        (Top, cupy, "pinned"),
        (Kernel, cupy.RawKernel, "grid"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_is_like_cupy(ours, real)
    del Top.asarray
    with pytest.raises(AssertionError, match="text"):
        assert_is_like_cupy(Top, cupy)
    with pytest.raises(AssertionError, match=r"no signature in the docstring of .*'iter\(iterable\) -> iterator'"):
        signature(iter)  # compiled, and its docstring is written otherwise


# ---- operators


@pytest.mark.parametrize(
    "op, field, value, message",
    [
        ("MixUp", "partner", [1, 2], "clip 1 has partner 2, but there are 2 clips"),
        ("MixUp", "height", [17, 18], r"clip 0 is \(4, 17, 23\), its partner \(4, 18, 23\)"),
        ("RandAugmentT", "num_values", [4, 5], r"num_values of row 1 must be in \[0, 4\], got 5"),
        ("RandAugmentT", "op", [[1] * 8, [1] * 3 + [0] * 5], "row 0 must have 2 ops"),
        ("RandAugmentT", "op", [[16, 0, 0, 0, 0, 0, 0, 0], [0] * 8], r"\[0, 16\), then 0, got \[16,"),
    ],
)
def test_a_plan_by_which_kernels_would_read_elsewhere_is_refused(op, field, value, message):
    dv, graph = pytest.importorskip("dali_vidaug"), pytest.importorskip("dali_vidaug.graph")
    recipe = dv.Recipe(ops=(dv.MixUp(), dv.RandAugmentT()))
    args, _, _ = draw_ops(recipe, Draws(0, 0, [0, 1]), [4, 4], [17, 17], [23, 23])
    plan = Plan(recipe, 0, 0, 0, 0, np.arange(2), np.zeros((2, 4), np.int32), args)
    edited = {name: rows.copy() for name, rows in args.items()}
    edited[op][field] = value
    dtypes = {name: rows.dtype for name, rows in args.items()}
    graph = graph.Graph(
        recipe, dtypes, batch_size=2, device="cpu", device_id=None, num_threads=1, dtype="float32"
    )  # fmt: skip
    media = list(np.random.default_rng(0).integers(0, 256, (2, 4, 17, 23, 3), dtype=np.uint8))
    first = np.stack([np.asarray(clip) for clip in graph.run(plan, media)])
    with pytest.raises(ValueError, match=message):
        graph.run(replace(plan, args=edited), [255 - clip for clip in media])
    # The batch after it gets its own clips.
    assert np.array_equal(np.stack([np.asarray(clip) for clip in graph.run(plan, media)]), first)


def operator_options(function, device):
    """What DALI's Python operator is given."""
    taken = []
    fn = SimpleNamespace(python_function=lambda *nodes, **options: taken.append((nodes, options)))
    rows = SimpleNamespace(device="cpu", gpu=lambda: SimpleNamespace(device="gpu"))
    kernels.as_operator(fn, function, SimpleNamespace(device=device), rows)
    ((nodes, options),) = taken
    assert [node.device for node in nodes] == [device] * 2 and options["device"] == device
    assert options["batch_processing"] and options["output_layouts"] == "FHWC"
    return options["function"]


def run_as_dali_does(function, device, monkeypatch, *inputs):
    """Call a function as DALI's operator on the GPU calls it, on stream 0x5000; what it gives or raises, as text."""
    python_function = pytest.importorskip("nvidia.dali.ops._operators.python_function")
    monkeypatch.setattr(python_function, "cupy", device)
    dali = python_function.PythonFunction
    monkeypatch.setattr(dali, "current_stream", lambda: SimpleNamespace(ptr=0x5000))
    try:
        result = dali._cupy_stream_wrapper(function, *inputs)
    except (ValueError, KeyboardInterrupt) as error:
        result = repr(error)
    gc.collect()
    return result


def clips_on(gpu):
    clip = stand_in.Array((2, 4, 5, 3), 0x1000)
    clip.data.device_id = gpu
    return [clip]


def test_operators_run_on_dalis_stream_and_leave_it_alone(device, monkeypatch):
    streams, fails = [], []

    def function(clips):
        streams.append(device.cuda.get_current_stream().ptr)
        if fails:
            raise fails[0]("x")
        return "clips"

    assert operator_options(function, "cpu") is function
    guarded = operator_options(function, "gpu")
    for gpu in (0, 1):  # CuPy takes GPU 0 for this thread's at first
        assert run_as_dali_does(guarded, device, monkeypatch, clips_on(gpu)) == "clips"
        assert device._gpu == gpu
        device._gpu = 0
    for error in (ValueError, KeyboardInterrupt):
        fails[:] = [error]
        assert run_as_dali_does(guarded, device, monkeypatch, clips_on(1)) == f"{error.__name__}('x')"
        device._gpu = 0
    assert streams == [0x5000] * 4 and device._destroyed == [] and device._current == {0: [], 1: []}
    # Without the guard it is destroyed: the test can fail.
    assert run_as_dali_does(function, device, monkeypatch, clips_on(0)) == "KeyboardInterrupt('x')"
    assert device._destroyed == [0x5000]


def test_cupys_streams_keep_the_address_they_are_given():
    cupy = pytest.importorskip("cupy")
    stream = cupy.cuda.Stream(null=True)
    assert stream.ptr == 0
    stream.ptr = 0x5000
    assert stream.ptr == 0x5000
    stream.ptr = 0


def test_cupys_streams_destroy_what_they_have_the_address_of(monkeypatch):
    """Why there is a guard: without a driver the attempt is an error, in a place that only this hook sees."""
    cupy = pytest.importorskip("cupy")
    if cupy.is_available():
        pytest.skip("a driver would look for the stream")
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: seen.append(type(what.exc_value).__name__))
    for address in (0, 0x5000):
        stream = cupy.cuda.Stream(null=True)
        stream.ptr = address
        del stream
    assert seen == ["CUDARuntimeError"]
