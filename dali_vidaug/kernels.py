"""Run the kernels of ``kernels/``: on NumPy arrays with the library that setup.py compiled, on CuPy arrays with NVRTC.

One text serves both (``kernels/common.h`` says how). Floating-point contraction is off on both, so that a kernel gives
the same bytes on the CPU and the GPU.
"""

import ctypes
import hashlib
import os
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

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
        ("reserved", "i4"),
    ]
)
NVRTC_OPTIONS = ("--std=c++17", "--fmad=false")
THREADS = 256  # in a block: the whole of it works on a frame, or each 32 on a row of pixels
_ROWS_PER_BLOCK = 32
_MOST_BLOCKS_DOWN = 65535  # CUDA's limit along y, where each clip has its place; along x it is 2**31 - 1
_MOST_SCRATCH_KEPT = 64 << 20  # bytes, by each thread
_settings = {"num_threads": None}
_scratch = threading.local()


def set_num_threads(n):
    """Let kernels on the CPU use ``n`` threads, 1 or more; None, as at the start: as many as the process may use."""
    if n is not None and not n >= 1:
        raise ValueError(f"set_num_threads: n must be None or at least 1, got {n}")
    _settings["num_threads"] = n


def num_threads():
    """How many threads kernels on the CPU use."""
    if _settings["num_threads"]:
        return _settings["num_threads"]
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digest(folder=SOURCES):
    """Sixteen hexadecimal digits that change with any of the kernels' sources."""
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in (".cu", ".h", ".cpp"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


@cache
def source(name, args):
    """The text of a kernel in one piece, for a compiler.

    Args:
        name: kernels/{name}.cu.
        args: the dtype of a row, struct {Name}Args in the text. The compiler refuses the text where a field's place or
            size differs. A field of two dimensions (it comes last) may have any: of it only the place is looked at.
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
def _library():
    """The kernels for this CPU."""
    library = _load("baseline")
    return _load("avx2") if library.has_avx2() and (_HERE / "_kernels_avx2.so").exists() else library


def _load(variant):
    path = _HERE / f"_kernels_{variant}.so"
    if not path.exists():
        raise RuntimeError(f"{path} is missing: the kernels are not compiled for the CPU; install the package again")
    library = ctypes.CDLL(str(path))  # its calls let other Python threads run
    library.sources_digest.restype = ctypes.c_char_p
    if library.sources_digest().decode() != digest():
        raise RuntimeError(f"{path} was built from other sources than {SOURCES}; install the package again")
    return library


@cache
def _pool(process, threads):
    return ThreadPoolExecutor(threads, thread_name_prefix="dali_vidaug-kernel")  # a child process needs its own


@cache
def _function(name, args, entry):
    """An entry point for the GPU.

    One serves all GPUs of the process: CuPy 14.2 keeps its machine code for each of them, compiled once for all entry
    points of the text, and on disk for each architecture.
    """
    cupy = sys.modules["cupy"]
    return cupy.RawModule(code=source(name, args), options=NVRTC_OPTIONS).get_function(entry)


def as_operator(fn, function, clips, rows):
    """A function of a batch's clips and rows as an operator of DALI's graph.

    Args:
        fn: nvidia.dali.fn.
        function: takes B clips and B rows as bytes, arrays on the device of ``clips``, and returns B clips.
        clips: a node of the graph, (F, H, W, 3) uint8.
        rows: ``args.rows()``, on the CPU: it goes where the clips are.
    """
    on_gpu = clips.device == "gpu"
    return fn.python_function(
        clips, rows.gpu() if on_gpu else rows, function=_on_dalis_stream(function) if on_gpu else function,
        batch_processing=True, device=clips.device, output_layouts="FHWC",
    )  # fmt: skip


def _on_dalis_stream(function):
    """``function``, called on the GPU and the stream of DALI's operator, such that the stream outlives an error of it.

    DALI 2.4 makes a CuPy stream, current for the GPU that CuPy takes for this thread's, of its stream's address. Two
    things are left to us. CuPy has a CUDA runtime of its own, so it is told which GPU it is, that of the clips. And
    DALI takes the address out again only when the function returns: a CuPy 14.2 stream destroys what it has the address
    of when it goes, here with the error's traceback.
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


def launch(name, clips, rows, args, *, entries=None, passes=1, work_bytes=None, skip=()):
    """Apply a kernel to each clip of a batch.

    On the CPU the clips are shared out among threads. On the GPU there is one launch an entry and pass, on CuPy's
    current stream, and no waiting.

    Args:
        name: kernels/{name}.cu.
        clips: B arrays (F, H, W, 3) uint8, C-contiguous, all NumPy's or all CuPy's; sizes may differ. Not changed.
        rows: the clips' rows of the plan: (B,) of dtype ``args``, or B arrays of bytes that lie where the clips do.
        args: the dtype of a row.
        entries: the kernel's entry points, in order; by default the one called ``name``.
        passes: how often they are called, with pass = 0, 1, ...
        work_bytes: function of frames, height and width: how much scratch memory the kernel needs for a clip.
        skip: positions of clips that the kernel would leave as they are. On the CPU they are not touched; on the GPU
            the kernel copies them, as the rows, which know, are not at hand.

    Returns:
        B new arrays, shaped like ``clips``; in place of skipped ones the clips themselves.

    Raises:
        ValueError: a clip is not as above or too large to count in it, or its row is missing or has another size.
    """
    _check(name, clips, rows, args)
    if not len(clips):
        return []
    xp = np if isinstance(clips[0], np.ndarray) else sys.modules["cupy"]
    if isinstance(rows, np.ndarray) and rows.dtype.names:
        rows = xp.asarray(np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), args.itemsize))
    skip = set(skip) if xp is np else set()
    outputs = [clip if i in skip else xp.empty_like(clip) for i, clip in enumerate(clips)]
    sizes = [work_bytes(*clip.shape[:3]) if work_bytes else 0 for clip in clips]
    table = np.zeros(len(clips), CLIP)
    for field, arrays in (("src", clips), ("dst", outputs), ("args", rows)):
        table[field] = [_address(array) for array in arrays]
    for field, axis in (("frames", 0), ("height", 1), ("width", 2)):
        table[field] = [clip.shape[axis] for clip in clips]
    table["index"], table["count"] = np.arange(len(clips)), len(clips)
    calls = [(entry, i) for i in range(passes) for entry in entries or (name,)]
    run = _run_cpu if xp is np else _run_gpu
    run(name, args, table, sizes, calls)
    return outputs


def _check(name, clips, rows, args):
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
        frames, height, width = clip.shape[:3]
        # Kernels count rows of pixels and a frame's bytes in int32, which loops leave room for a step beyond the end,
        # and a clip's pixels in uint32.
        if max(frames * height, height * width * 3) > 2**30 or frames * height * width >= 2**32:
            raise ValueError(
                f"{name}: clip {i} is too large, {clip.shape}: 2**30 rows of pixels, 2**30 bytes a frame and "
                "2**32 - 1 pixels are the most; cut it into shorter clips or scale it down first"
            )
        if row.nbytes != args.itemsize:
            raise ValueError(f"{name}: row {i} must have {args.itemsize} bytes, got {row.nbytes}")


def _address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def _scratch_memory(size):
    """This thread's scratch memory, kept from call to call: fresh pages would cost as much as a pass over the clip."""
    kept = getattr(_scratch, "memory", None)
    if kept is None or kept.size < size:
        kept = np.empty(size, np.uint8)
        _scratch.memory = kept if size <= _MOST_SCRATCH_KEPT else None
    return kept


def _run_cpu(name, args, table, sizes, calls):
    library, address = _library(), table.ctypes.data
    places = np.flatnonzero(table["src"] != table["dst"]).tolist()  # the others are skipped

    def run(i):
        """All calls for one clip, while it is in the cache."""
        memory = _scratch_memory(sizes[i])
        table["work"][i] = _address(memory)
        for entry, index in calls:
            getattr(library, entry)(
                ctypes.c_void_p(address), ctypes.c_int32(index), ctypes.c_int64(i), ctypes.c_int64(i + 1)
            )

    if min(num_threads(), len(places)) <= 1:
        for i in places:
            run(i)
    else:
        list(_pool(os.getpid(), num_threads()).map(run, places))


def grids(frames, heights):
    """Share out a batch among launches: in each a row of blocks for each of its clips, one below the other.

    The blocks are enough for the clip with the most rows of pixels, each warp taking four; kernels go on to whatever is
    left (``kernels/common.h``).

    Args:
        frames, heights: (B,) int, of the clips.

    Yields:
        The first clip of a launch and its grid: blocks (x, y), for y clips.
    """
    rows = np.multiply(frames, heights, dtype=np.int64)
    for first in range(0, len(rows), _MOST_BLOCKS_DOWN):
        part = rows[first : first + _MOST_BLOCKS_DOWN]
        yield first, (-(-int(part.max()) // _ROWS_PER_BLOCK), len(part))


def _run_gpu(name, args, table, sizes, calls):
    cupy = sys.modules["cupy"]
    # Nothing here waits for the GPU, and what the kernels use may be given up before they run (CuPy 14.2):
    # - asarray copies the table to pinned memory, which CuPy keeps until an event behind the copy to the GPU.
    #   (Not so with CUPY_ENABLE_UMP=1, where it would be the table itself that the kernels read.)
    # - The table on the GPU, the scratch memory, and rows that came from NumPy go back to CuPy's pool when we return.
    #   It has a list of free blocks for each stream, and this one's are handed out to what comes later on it.
    # - Clips and rows that DALI lends us, and the outputs, are DALI's to keep: it holds the outputs until the operator
    #   runs again, and copies them on the stream that the kernels run on (DALI 2.4).
    work = [cupy.empty(size, np.uint8) for size in sizes]
    table["work"] = [_address(memory) for memory in work]
    clips = cupy.asarray(table.view(np.uint8))
    for first, grid in grids(table["frames"], table["height"]):
        # A part of the table, not a copy: a kernel finds clips of other parts by their distance (kernels/common.h).
        part = clips[first * CLIP.itemsize :]
        for entry, index in calls:
            _function(name, args, entry)(grid, (THREADS,), (part, np.int32(index)))
