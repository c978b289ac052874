"""Kernels as operators of DALI's graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any


def as_operator(fn: Any, function: Callable, clips: Any, args: Any) -> Any:
    """Make a kernel an operator of DALI's graph.

    Args:
        fn: nvidia.dali.fn.
        function: takes B clips, B rows as bytes, and ``num_threads``; the arrays are on the device of ``clips``.
            Returns B clips.
        clips: a node of the graph, (F, H, W, 3) uint8.
        args: the op's arguments, as its ``build`` gets them.

    Returns:
        A node of the graph, on the device of ``clips``.
    """
    rows, on_gpu = args.rows(), clips.device == "gpu"
    function = partial(function, num_threads=args.num_threads)
    return fn.python_function(
        clips, rows.gpu() if on_gpu else rows, function=_on_dali_stream(function) if on_gpu else function,
        batch_processing=True, device=clips.device, output_layouts="FHWC",
    )  # fmt: skip


def _on_dali_stream(function):
    """Call ``function`` on the GPU and the stream of DALI's operator; the stream survives an exception.

    DALI 2.4 wraps the address of its stream in a CuPy stream, which it makes current on the GPU that CuPy takes for
    this thread's. Two things are left to do here. CuPy has a CUDA runtime of its own, so it must be told which GPU the
    clips are on. And DALI takes the address out of the CuPy stream only when the function returns: a CuPy 14.2 stream
    destroys the stream whose address it holds when it is itself deleted, which after an exception happens with the
    traceback.
    """

    def call(*inputs):
        cuda = sys.modules["cupy"].cuda
        stream = cuda.get_current_stream()
        try:
            cuda.runtime.setDevice(inputs[0][0].data.device_id)
            with stream:
                return function(*inputs)
        except BaseException:
            stream.ptr = 0
            raise

    return call
