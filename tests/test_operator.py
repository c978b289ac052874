"""Kernels as operators of DALI's graph: the stream and the GPU that they run on."""

import gc
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import stand_in
from nvidia.dali.ops._operators import python_function

from dali_vidaug.ops.operator import as_operator

FAILURES = []
FIELDS = np.dtype([("x", "i4")])


def function_of_operator(function, device, num_threads):
    """The function that DALI's Python operator is given."""
    taken = []
    fn = SimpleNamespace(python_function=lambda *nodes, **options: taken.append((nodes, options)))
    rows = SimpleNamespace(device="cpu", gpu=lambda: SimpleNamespace(device="gpu"))
    args = SimpleNamespace(rows=lambda: rows, num_threads=num_threads, fields=FIELDS, fail=FAILURES.append)
    as_operator(fn, function, SimpleNamespace(device=device), args)
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

    def function(clips, rows=None, num_threads=None):
        streams.append(cupy.cuda.get_current_stream().ptr)
        threads.append(num_threads)
        if fails:
            raise fails[0]("x")
        return clips

    guarded = function_of_operator(function, "gpu", 3)
    for gpu in (0, 1):  # CuPy takes GPU 0 for this thread's at first
        given = clips_on(gpu)
        assert run_as_dali_does(guarded, cupy, monkeypatch, given) == given
        assert cupy._gpu == gpu
        cupy._gpu = 0
    FAILURES.clear()
    for error in (ValueError, KeyboardInterrupt):
        fails[:] = [error]
        assert run_as_dali_does(guarded, cupy, monkeypatch, clips_on(1)) == f"{error.__name__}('x')"
        cupy._gpu = 0
    assert [repr(error) for error in FAILURES] == ["ValueError('x')"]  # what the graph is told
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
