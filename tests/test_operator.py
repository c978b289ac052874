"""Kernels as operators of DALI's graph: rows that they refuse, and the stream and GPU that they run on."""

import gc
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import stand_in
from conftest import make_plan, noise_clips
from nvidia.dali.ops._operators import python_function

import dali_vidaug as dv
from dali_vidaug.graph import Graph
from dali_vidaug.ops.operator import as_operator
from dali_vidaug.settings import make_settings


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
def test_a_plan_for_which_kernels_would_read_other_memory_is_refused(op, field, value, message):
    clips = noise_clips((4, 17, 23), (4, 17, 23))
    plan = make_plan(dv.Recipe(ops=(dv.MixUp(), dv.RandAugmentT())), [clip.shape[:3] for clip in clips])
    edited = {name: rows.copy() for name, rows in plan.args.items()}
    edited[op][field] = value
    graph = Graph(plan, make_settings(device="cpu", num_threads=1), batch_size=2)
    first = np.stack([np.asarray(clip) for clip in graph.run(plan, clips)])
    with pytest.raises(ValueError, match=message):
        graph.run(replace(plan, args=edited), [255 - clip for clip in clips])
    # The batch after it gets its own clips.
    assert np.array_equal(np.stack([np.asarray(clip) for clip in graph.run(plan, clips)]), first)


def function_of_operator(function, device, num_threads):
    """The function that DALI's Python operator is given."""
    taken = []
    fn = SimpleNamespace(python_function=lambda *nodes, **options: taken.append((nodes, options)))
    rows = SimpleNamespace(device="cpu", gpu=lambda: SimpleNamespace(device="gpu"))
    args = SimpleNamespace(rows=lambda check: rows if check is len else None, num_threads=num_threads)
    as_operator(fn, function, SimpleNamespace(device=device), args, len)
    ((nodes, options),) = taken
    assert [node.device for node in nodes] == [device] * 2 and options["device"] == device
    assert options["batch_processing"] and options["output_layouts"] == "FHWC"
    return options["function"]


def run_as_dali_does(function, cupy, monkeypatch, *inputs):
    """Call a function as DALI's operator on the GPU calls it, on stream 0x5000; what it gives or raises, as text."""
    monkeypatch.setattr(python_function, "cupy", cupy)
    dali = python_function.PythonFunction
    monkeypatch.setattr(dali, "current_stream", lambda: SimpleNamespace(ptr=0x5000))
    try:
        result = dali._cupy_stream_wrapper(function, *inputs)
    except (ValueError, KeyboardInterrupt) as error:
        result = repr(error)
    gc.collect()
    return result


def clips_on(gpu):
    """A clip on a GPU, as the stand-in has it."""
    clip = stand_in.Array((2, 4, 5, 3), 0x1000)
    clip.data.device_id = gpu
    return [clip]


def test_operators_run_on_dalis_stream_and_leave_it_alone(fake_cupy, monkeypatch):
    cupy, streams, fails, threads = fake_cupy, [], [], []

    def function(clips, num_threads=None):
        streams.append(cupy.cuda.get_current_stream().ptr)
        threads.append(num_threads)
        if fails:
            raise fails[0]("x")
        return "clips"

    plain = function_of_operator(function, "cpu", 3)
    assert plain.func is function and plain.keywords == {"num_threads": 3} and not plain.args
    guarded = function_of_operator(function, "gpu", 3)
    for gpu in (0, 1):  # CuPy takes GPU 0 for this thread's at first
        assert run_as_dali_does(guarded, cupy, monkeypatch, clips_on(gpu)) == "clips"
        assert cupy._gpu == gpu
        cupy._gpu = 0
    for error in (ValueError, KeyboardInterrupt):
        fails[:] = [error]
        assert run_as_dali_does(guarded, cupy, monkeypatch, clips_on(1)) == f"{error.__name__}('x')"
        cupy._gpu = 0
    assert streams == [0x5000] * 4 and cupy._destroyed == [] and cupy._current == {0: [], 1: []}
    assert threads == [3] * 4
    # Without the guard it is destroyed: the test can fail.
    assert run_as_dali_does(function, cupy, monkeypatch, clips_on(0)) == "KeyboardInterrupt('x')"
    assert cupy._destroyed == [0x5000]


def test_cupy_streams_keep_the_address_they_are_given():
    cupy = pytest.importorskip("cupy")
    stream = cupy.cuda.Stream(null=True)
    assert stream.ptr == 0
    stream.ptr = 0x5000
    assert stream.ptr == 0x5000
    stream.ptr = 0


def test_cupy_streams_destroy_the_stream_whose_address_they_have(monkeypatch):
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
