"""Run the kernels of ``kernels/``: on NumPy arrays with the library that setup.py compiled, on CuPy arrays with NVRTC.

One source text serves both (``kernels/common.h`` says how). Floating-point contraction is off on both, so that a kernel
gives the same bytes on the CPU and the GPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dali_vidaug.recycled import Recycled

_HERE = Path(__file__).parent
SOURCES = next(d for d in (_HERE / "kernel_sources", _HERE.parent / "kernels") if d.is_dir())  # wheel, checkout
CLIP = np.dtype(
    [  # the same as struct Clip in kernels/common.h
        ("src", "u8"),
        ("dst", "u8"),
        ("args", "u8"),
        ("work", "u8"),
        ("frames", "i4"),
        ("height", "i4"),
        ("width", "i4"),
        ("index", "i4"),
        ("count", "i4"),
        ("src_height", "i4"),
        ("src_width", "i4"),
        ("reserved", "i4"),
    ]
)
NVRTC_OPTIONS = ("--std=c++17", "--fmad=false")
THREADS = 256  # per block: all of them work on one frame, or each 32 on a row of pixels
_ROWS_PER_BLOCK = 32
_GATHERS = ("randaugment", "warp")
_MAX_GRID_Y = 65535  # CUDA's limit along y, where each clip has its place; along x it is 2**31 - 1
_SCRATCH_KEPT_MAX = 64 << 20  # bytes, for each thread
_scratch = threading.local()
clip_memory = Recycled(kept=32, largest=8 << 20)  # clips that kernels make on the CPU


def digest(folder: Path = SOURCES) -> str:
    """Sixteen hexadecimal digits that change with any of the kernels' sources."""
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in (".cu", ".h", ".cpp"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


@cache
def source(name: str, args: np.dtype) -> str:
    """The source text of a kernel in one piece, for a compiler.

    Args:
        name: kernels/{name}.cu.
        args: the dtype of a row, struct {Name}Args in the text. The compiler refuses the text when the offset or size
            of a field differs. A field with two dimensions comes last and may have any size: only its offset is
            checked.
    """
    text = (SOURCES / f"{name}.cu").read_text()
    while include := re.search(r'^#include "(.+)"$', text, re.MULTILINE):
        text = text[: include.start()] + (SOURCES / include[1]).read_text() + text[include.end() :]
    for struct, dtype in (("Clip", CLIP), (f"{name.capitalize()}Args", args)):
        fixed = True
        for field, (kind, at, *_) in (dtype.fields or {}).items():
            checks = {f"OFFSET({struct}, {field})": at}
            if kind.ndim < 2:
                checks[f"sizeof({struct}::{field})"] = kind.itemsize
            fixed = fixed and kind.ndim < 2
            for code, value in checks.items():
                text += f'static_assert({code} == {value}, "{struct}.{field} differs from its dtype");\n'
        if fixed:
            text += f'static_assert(sizeof({struct}) == {dtype.itemsize}, "{struct} differs from its dtype");\n'
    return text


@cache
def library() -> Any:
    """The kernels for this CPU: a ctypes library."""
    baseline = _load("baseline")
    return _load("avx2") if baseline.has_avx2() and (_HERE / "_kernels_avx2.so").exists() else baseline


def _load(variant):
    path = _HERE / f"_kernels_{variant}.so"
    if not path.exists():
        raise RuntimeError(f"{path} is missing: the kernels are not compiled for the CPU; install the package again")
    library = ctypes.CDLL(str(path))  # its calls let other Python threads run
    library.sources_digest.restype = ctypes.c_char_p
    address, count = ctypes.c_void_p, ctypes.c_int64
    library.mirror.argtypes = (address, count, count, address)
    library.interleave.argtypes = (address, address, address, count, address, count, count)
    for size in (1, 2, 4):
        getattr(library, f"take_apart_{size}").argtypes = (address, count, count, address, ctypes.c_int32, address)
    if library.sources_digest().decode() != digest():
        raise RuntimeError(f"{path} was built from other sources than {SOURCES}; install the package again")
    return library


@cache
def _pool(process, threads):
    """Threads for launches that use this many. The process is a key because a forked child has none of the threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="dali_vidaug-kernel")


@cache
def _function(name, args, entry):
    """An entry point for the GPU.

    It serves all GPUs of the process: CuPy 14.2 keeps machine code for each GPU, compiled once for all entry points of
    the text, and on disk for each architecture.
    """
    cupy = sys.modules["cupy"]
    return cupy.RawModule(code=source(name, args), options=NVRTC_OPTIONS).get_function(entry)


def launch(
    name: str,
    clips: Sequence[Any],
    rows: Any,
    args: np.dtype,
    *,
    entries: Sequence[str] | None = None,
    passes: int = 1,
    work_bytes: Callable[[int, int, int], int] | None = None,
    skip: Collection[int] = (),
    out_frames: Sequence[int] | None = None,
    out_size: tuple[int, int] | None = None,
    num_threads: int | None = None,
) -> list[Any]:
    """Apply a kernel to each clip of a batch.

    On the CPU, threads share the clips. On the GPU there is one launch for each entry point and pass, on CuPy's current
    stream, and nothing waits.

    Args:
        name: kernels/{name}.cu.
        clips: B arrays (F, H, W, 3) uint8, C-contiguous, all NumPy's or all CuPy's; sizes may differ. Not changed.
        rows: the clips' rows of the plan: (B,) of dtype ``args``, or B arrays of bytes on the device of the clips.
        args: the dtype of a row.
        entries: the kernel's entry points, in order; by default the one called ``name``.
        passes: how often they are called, with pass = 0, 1, ...
        work_bytes: function of frames, height and width: how much scratch memory the kernel needs for a clip.
        skip: positions of clips that the kernel would not change. On the CPU they are not touched; on the GPU the
            kernel copies them, because the rows are not readable there.
        out_frames: how many frames each output has, where that is not as many as its clip; nothing is skipped then.
        out_size: height and width of each output, where they are not those of its clip; nothing is skipped then.
        num_threads: of the CPU, >= 1; None: as many as this process may use. Without effect on the GPU.

    Returns:
        B new arrays, shaped like ``clips`` except for ``out_frames`` and ``out_size``; for skipped clips the clips
        themselves.

    Raises:
        ValueError: a clip is not as above or too large to count in it, or its row is missing or has another size.
    """
    counts = [clip.shape[0] for clip in clips] if out_frames is None else out_frames
    _check(name, clips, rows, args, counts, out_size)
    if not len(clips):
        return []
    xp = np if isinstance(clips[0], np.ndarray) else sys.modules["cupy"]
    if isinstance(rows, np.ndarray) and rows.dtype.names:
        rows = xp.asarray(np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), args.itemsize))
    skip, empty = (set(skip), clip_memory.take) if xp is np else (set(), xp.empty)
    shapes = [(count, *(out_size or clip.shape[1:3]), 3) for count, clip in zip(counts, clips, strict=True)]
    outputs = [clip if i in skip else empty(shapes[i], np.uint8) for i, clip in enumerate(clips)]
    sizes = [work_bytes(*clip.shape[:3]) if work_bytes else 0 for clip in clips]
    table = _table(clips, outputs, rows)
    calls = [(entry, i) for i in range(passes) for entry in entries or (name,)]
    if xp is np:
        _run_cpu(table, sizes, calls, num_threads or len(os.sched_getaffinity(0)))
    else:
        _run_gpu(name, args, table, sizes, calls)
    return outputs


def _table(clips, outputs, rows):
    """(B,) CLIP, without scratch memory."""
    addresses = ([_address(array) for array in arrays] for arrays in (clips, outputs, rows))
    places = zip(clips, outputs, *addresses, strict=True)
    return np.array(
        [
            (src, dst, row, 0, *out.shape[:3], i, len(clips), *clip.shape[1:3], 0)
            for i, (clip, out, src, dst, row) in enumerate(places)
        ],
        CLIP,
    )


def _check(name, clips, rows, args, counts, out_size):
    if len(clips) != len(rows):
        raise ValueError(f"{name}: {len(clips)} clips but {len(rows)} rows of arguments")
    for i, (clip, row) in enumerate(zip(clips, rows, strict=True)):
        if type(clip) is not type(clips[0]):
            raise ValueError(f"{name}: clip {i} is a {type(clip).__name__}, clip 0 a {type(clips[0]).__name__}")
        good = clip.dtype == np.uint8 and clip.ndim == 4 and clip.shape[3:] == (3,) and clip.size
        if not good or not clip.flags.c_contiguous:
            raise ValueError(
                f"{name}: clip {i} must be (F, H, W, 3) uint8, contiguous and not empty, got {clip.shape} {clip.dtype}"
            )
        frames = max(clip.shape[0], counts[i])
        # Kernels count rows of pixels and the bytes of a frame in int32, with room for a loop's step beyond the end,
        # and the pixels of a clip in uint32. Those with gather.h count 1/2048 of a pixel in int32.
        for height, width in (clip.shape[1:3], out_size or clip.shape[1:3]):
            large = max(frames * height, height * width * 3) > 2**30 or frames * height * width >= 2**32
            if large or (name in _GATHERS and max(height, width) > 2**18):
                raise ValueError(
                    f"{name}: clip {i} is too large, {(frames, height, width, 3)}: 2**30 rows of pixels, 2**30 bytes a "
                    f"frame, 2**32 - 1 pixels and (of {', '.join(_GATHERS)}) sides of 2**18 are the limits; cut it "
                    "into shorter clips or scale it down first"
                )
        if row.nbytes != args.itemsize:
            raise ValueError(f"{name}: row {i} must have {args.itemsize} bytes, got {row.nbytes}")


def share(function: Callable[[int], None], positions: Sequence[int], num_threads: int) -> None:
    """Call a function for each position, in as many threads; returns when all is done."""
    if min(num_threads, len(positions)) <= 1:
        for i in positions:
            function(i)
    else:
        list(_pool(os.getpid(), num_threads).map(function, positions))


def _address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def _scratch_memory(size):
    """This thread's scratch memory, kept between calls: fresh pages would cost as much as a pass over the clip."""
    kept = getattr(_scratch, "memory", None)
    if kept is None or kept.size < size:
        kept = np.empty(size, np.uint8)
        _scratch.memory = kept if size <= _SCRATCH_KEPT_MAX else None
    return kept


def _run_cpu(table, sizes, calls, num_threads):
    functions, address = library(), table.ctypes.data
    places = zip(table["src"].tolist(), table["dst"].tolist(), strict=True)
    positions = [i for i, (src, dst) in enumerate(places) if src != dst]  # the other clips are skipped

    def run(i):
        """Make all calls for one clip, while it is in the cache."""
        memory = _scratch_memory(sizes[i])
        table["work"][i] = _address(memory)
        for entry, index in calls:
            getattr(functions, entry)(
                ctypes.c_void_p(address), ctypes.c_int32(index), ctypes.c_int64(i), ctypes.c_int64(i + 1)
            )

    share(run, positions, num_threads)


def grids(frames: ArrayLike, heights: ArrayLike) -> Iterator[tuple[int, tuple[int, int]]]:
    """Divide a batch among launches. The grid of a launch has a row of blocks for each of its clips.

    There are enough blocks for the clip with the most rows of pixels, four rows for each warp; kernels loop until all
    rows are done (``kernels/common.h``).

    Args:
        frames, heights: (B,) int, of the clips.

    Yields:
        The first clip of a launch and its grid: blocks (x, y), for y clips.
    """
    rows = np.multiply(frames, heights, dtype=np.int64)
    for first in range(0, len(rows), _MAX_GRID_Y):
        part = rows[first : first + _MAX_GRID_Y]
        yield first, (-(-int(part.max()) // _ROWS_PER_BLOCK), len(part))


def _run_gpu(name, args, table, sizes, calls):
    cupy = sys.modules["cupy"]
    # Nothing here waits for the GPU, and memory that the kernels use may be released before they run (CuPy 14.2):
    # - asarray copies the table to pinned memory, which CuPy keeps until an event after the copy to the GPU.
    #   (With CUPY_ENABLE_UMP=1 the kernels would read the table itself, which is why gpu.cupy_problem refuses that.)
    # - The table on the GPU, the scratch memory, and rows that came from NumPy return to CuPy's pool when this function
    #   returns. The pool has a list of free blocks for each stream, and reuses these only for later work on this
    #   stream.
    # - Clips and rows belong to DALI, and so do the outputs once they are returned: it keeps the outputs until the
    #   operator runs again, and copies them on the stream that the kernels run on (DALI 2.4).
    work = [cupy.empty(size, np.uint8) for size in sizes]
    table["work"] = [_address(memory) for memory in work]
    clips = cupy.asarray(table.view(np.uint8))
    for first, grid in grids(table["frames"], table["height"]):
        # A part of the table, not a copy: a kernel finds clips of other parts by their offset (kernels/common.h).
        part = clips[first * CLIP.itemsize :]
        for entry, index in calls:
            _function(name, args, entry)(grid, (THREADS,), (part, np.int32(index)))
