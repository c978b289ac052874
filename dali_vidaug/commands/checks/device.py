"""What a check or a benchmark does differently on the CPU and the GPU, in as few lines as possible."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

WARM_UP = 2  # calls that are not counted, in which compilers run and memory pools fill


def current_gpu() -> int:
    """The number of the GPU that torch uses; 0 where it can use none."""
    return torch.cuda.current_device() if torch.cuda.is_available() else 0


def upload(array: np.ndarray, device: str) -> Any:
    """A NumPy array as the kernels take it on a device: itself, or a CuPy copy."""
    return array if device == "cpu" else import_module("cupy").asarray(array)


def to_host(array: Any) -> np.ndarray:
    """A NumPy, CuPy or torch array as NumPy's, when the work queued on the current stream is done."""
    if isinstance(array, torch.Tensor):
        return array.cpu().numpy()
    return array if isinstance(array, np.ndarray) else array.get()


def wait(device: str) -> None:
    """Wait for everything queued on the GPU, so that an error there comes out here."""
    if device == "gpu":
        torch.cuda.synchronize()


def side_stream(device: str) -> AbstractContextManager:
    """A context: on the GPU, torch works on a new stream inside it."""
    return torch.cuda.stream(torch.cuda.Stream()) if device == "gpu" else nullcontext()


@cache
def _matrices():
    return [torch.zeros(2048, 2048, device="cuda") for _ in range(2)]


def keep_busy(device: str) -> None:
    """Queue some milliseconds of work on torch's current stream and return at once; on the CPU nothing."""
    if device == "gpu":
        a, b = _matrices()
        for _ in range(16):
            torch.mm(a, a, out=b)


class Queued:
    """An event after the work that is queued on torch's current stream; without a GPU there is none."""

    def __init__(self, device: str):
        self._event = torch.cuda.Event() if device == "gpu" else None
        if self._event:
            self._event.record()

    def done(self) -> bool:
        """Whether the GPU has reached the event."""
        return self._event is None or self._event.query()


def milliseconds(function: Callable[[], Any], repeat: int, device: str) -> tuple[float, float]:
    """Call a function ``repeat`` times: median time and the spread of the middle half, in ms.

    On the GPU, events time what the function queues on CuPy's current stream, which must be the default one. Other work
    is queued before, so that the GPU does not wait for Python: the result is the GPU's time.
    """
    times = []
    for i in range(repeat + WARM_UP):
        if device == "cpu":
            started = time.perf_counter()
            function()
            taken = 1000 * (time.perf_counter() - started)
        else:
            cuda = import_module("cupy").cuda
            start, stop = cuda.Event(), cuda.Event()
            keep_busy(device)  # torch's default stream and CuPy's are the same one
            start.record()
            function()
            stop.record()
            stop.synchronize()
            taken = cuda.get_elapsed_time(start, stop)
        if i >= WARM_UP:
            times.append(taken)
    low, high = np.percentile(times, [25, 75])
    return statistics.median(times), float(high - low)


def peak_bandwidth() -> float | None:
    """Bytes per second that the GPU's memory can move at most (two transfers per clock); None if CUDA does not say."""
    runtime = import_module("cupy").cuda.runtime
    device = runtime.getDevice()
    clock_khz = runtime.deviceGetAttribute(runtime.cudaDevAttrMemoryClockRate, device)
    width_bits = runtime.deviceGetAttribute(runtime.cudaDevAttrGlobalMemoryBusWidth, device)
    return 2 * 1000 * clock_khz * width_bits / 8 or None


def used_memory(device: str) -> dict[str, int]:
    """Bytes of memory in use: {"host": by this process, "GPU": by all processes}."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    used = {"host": pages * os.sysconf("SC_PAGE_SIZE")}
    if device == "gpu":
        free, total = torch.cuda.mem_get_info()
        used["GPU"] = total - free
    return used


def gpu_version() -> str:
    """The GPU that this process uses: name, capability, memory, multiprocessors."""
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    return (
        f"{gpu.name}, compute capability {gpu.major}.{gpu.minor}, {gpu.total_memory / 2**30:.0f} GiB, "
        f"{gpu.multi_processor_count} multiprocessors; 1 of {torch.cuda.device_count()}"
    )


def driver_version() -> str:
    """The driver's version, where /proc/driver shows it, and the newest CUDA that it runs."""
    try:
        found = re.search(r"\d{3}\.[\d.]+", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        found = None
    cuda = import_module("cupy").cuda.runtime.driverGetVersion()
    return f"{found[0] if found else 'of unknown version'}, for CUDA {_cuda(cuda)}"


def cupy_version() -> str:
    """CuPy, and the CUDA runtime and compiler that it has."""
    cupy = import_module("cupy")
    nvrtc = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    return f"{cupy.__version__}, CUDA {_cuda(cupy.cuda.runtime.runtimeGetVersion())}, NVRTC {nvrtc}"


def _cuda(number):
    return f"{number // 1000}.{number % 1000 // 10}"


def dali_version() -> str:
    """DALI, and the CUDA that it was built for."""
    dali = import_module("nvidia.dali")
    return f"{dali.__version__}, CUDA {dali.__cuda_version__ // 1000}.{dali.__cuda_version__ // 100 % 10}"


def torch_version() -> str:
    """torch, and the CUDA that it was built for."""
    return f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}"


def pyav_version() -> str:
    """PyAV and its decoder library."""
    av = import_module("av")
    return f"{av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


def system_version() -> str:
    """Kernel, processor, and the cores that this process may use."""
    system = os.uname()
    return f"{system.sysname} {system.release} {system.machine}, {len(os.sched_getaffinity(0))} cores"


GPU_VERSIONS = {"GPU": gpu_version, "driver": driver_version, "CuPy": cupy_version}
VERSIONS = {"DALI": dali_version, "torch": torch_version, "PyAV": pyav_version, "system": system_version}
