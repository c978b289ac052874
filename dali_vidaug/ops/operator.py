"""Ops that run on arrays as operators of DALI's graph, and the rows that kernels get."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def structured(rows: Any, dtype: np.dtype) -> Any:
    """The rows of a kernel as one array (B,) of their dtype, also of B arrays of their bytes; on a GPU as they are."""
    on_cpu = not isinstance(rows, np.ndarray) and len(rows) and isinstance(rows[0], np.ndarray)
    return np.stack(rows).view(dtype)[:, 0] if on_cpu else rows


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written to: a clip may be in several places of a batch, and rows belong to the plan."""
    view = array.view()
    view.flags.writeable = False
    return view


def checked_clips(made: Any, given: Sequence[Any]) -> list[Any]:
    """What the ``run`` of an op returned for some clips, as a list.

    Raises:
        TypeError: it is not as many arrays (F, H, W, 3) uint8 of the same kind.
    """
    found = list(made) if isinstance(made, Sequence) else [made]
    if len(found) == len(given) and all(isinstance(clip, type(given[0])) for clip in found):
        wrong = [clip for clip in found if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3]
        if not wrong:
            return found
        what = f"{wrong[0].shape} {wrong[0].dtype}"
    else:
        what = f"{len(found)} {', '.join(sorted({type(clip).__name__ for clip in found}))}"
    raise TypeError(f"it must return {len(given)} arrays (F, H, W, 3) uint8, got {what}")


def frames_of(name: str, rows: Any, dtype_of: Callable[[int], np.dtype], clips: Sequence[Any]) -> int:
    """For how many frames the rows of a kernel have values, ``dtype_of`` that number being their dtype.

    Raises:
        ValueError: a clip has more frames.
    """
    empty = dtype_of(0).itemsize
    frames = int(rows[0].nbytes - empty) // (dtype_of(1).itemsize - empty)
    longest = max(clip.shape[0] for clip in clips)
    if longest > frames:
        raise ValueError(f"{name}: the plan has values for {frames} frames, but a clip has {longest}")
    return frames


def check_frame_values(
    name: str, field: str, what: str, args: np.ndarray, frames: np.ndarray, dtype_of: Callable[[int], np.dtype]
) -> None:
    """Refuse arguments, such as those of an edited plan, that do not have a value for each frame.

    Args:
        name: of the op.
        field: with the values, its last axis the frames; ``num_values`` says how many there are.
        what: they must have, in words before the number of frames.
        args: (B,), which must be of dtype ``dtype_of(number of values)``.
        frames: (B,), of the clips.

    Raises:
        ValueError: they do not.
    """
    most = int(frames.max(initial=0))
    num_values = args[field].shape[-1] if field in (args.dtype.names or ()) else 0
    if args.dtype != dtype_of(num_values) or num_values < most:
        raise ValueError(f"{name}: arguments must have {what} {most} frames")
    if (wrong := args["num_values"] != num_values).any():
        i = int(wrong.argmax())
        raise ValueError(f"{name}: num_values of row {i} must be {num_values}, got {args['num_values'][i]}")


def extend_graph(fn: Any, op: Any, clips: Any, args: Any) -> Any:
    """Extend DALI's graph by an op: by its ``build``, or if it has none, by its ``run``."""
    return op.build(fn, clips, args) if hasattr(op, "build") else as_operator(fn, op.run, clips, args)


def as_operator(fn: Any, function: Callable, clips: Any, args: Any) -> Any:
    """Make the ``run`` of an op an operator of DALI's graph.

    Args:
        fn: nvidia.dali.fn.
        function: takes B clips, their rows, and ``num_threads``; the arrays are on the device of ``clips``, where
            rows on the GPU are B arrays of their bytes. Returns B clips.
        clips: a node of the graph, (F, H, W, 3) uint8.
        args: the op's arguments, as its ``build`` gets them.

    Returns:
        A node of the graph, on the device of ``clips``.
    """
    on_gpu = clips.device == "gpu"
    rows = [args.rows()] if args.fields.names else []  # without names, nothing is drawn

    def call(clips, rows=None):
        if not on_gpu:
            clips = [read_only(clip) for clip in clips]
            rows = None if rows is None else read_only(structured(rows, args.fields))
        try:
            return checked_clips(function(clips, rows, num_threads=args.num_threads), clips)
        except Exception as error:
            args.fail(error)  # the graph tells it in place of DALI's text
            raise

    return fn.python_function(
        clips, *(node.gpu() if on_gpu else node for node in rows), function=_on_dali_stream(call) if on_gpu else call,
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
