"""The NVIDIA driver and the machine, read through ctypes and /proc. Nothing here needs torch or CuPy."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

LIBCUDA, ROOT = "libcuda.so.1", Path("/")  # replaced in tests


class Gpu(NamedTuple):
    """A GPU as CUDA shows it to this process; memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int


class Driver(NamedTuple):
    """What libcuda.so.1 says.

    Attributes:
        error: what cuInit returned; None if there is no such library.
        cuda: the newest version of CUDA that it supports, 12040 for 12.4.
        gpus: those that this process sees.
    """

    error: int | None
    cuda: int
    gpus: tuple[Gpu, ...]


class Host(NamedTuple):
    """What can be seen of the machine without the driver's libraries.

    Attributes:
        kernel_driver: version of the kernel's driver, or None.
        devices: whether there is a device file of a GPU.
        container: whether this process is in a container.
    """

    kernel_driver: str | None
    devices: bool
    container: bool


def read_driver() -> Driver:
    """Ask libcuda.so.1."""
    cuda = load(LIBCUDA)
    if cuda is None:
        return Driver(None, 0, ())
    error, version = cuda.cuInit(0), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))  # when this fails, cuInit has returned the reason
    return Driver(error, version.value, () if error else tuple(_read_gpus(cuda)))


def _read_gpus(cuda: Any) -> Iterator[Gpu]:
    count, device, value = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    for index in range(count.value):
        call(cuda, "cuDeviceGet", ctypes.byref(device), index)
        call(cuda, "cuDeviceGetName", name, len(name), device)
        call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        capability = []
        for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
            call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
            capability.append(value.value)
        yield Gpu(name.value.decode(), (capability[0], capability[1]), memory.value)


def read_host() -> Host:
    """Look at /proc, /dev and the files that tell a container."""
    version = ROOT / "proc/driver/nvidia/version"
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", version.read_text()) if version.is_file() else None
    return Host(
        kernel_driver=found and found[0],
        devices=any((ROOT / "dev").glob("nvidia[0-9]*")),
        container=any(
            (ROOT / mark).exists()
            for mark in (".dockerenv", "run/.containerenv", ".singularity.d", "var/run/secrets/kubernetes.io")
        ),
    )


def load(library: str) -> Any:
    """A shared library, or None if it does not load."""
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None


def call(cuda: Any, function: str, *args: Any) -> None:
    """Call a function of libcuda.so.1.

    Raises:
        RuntimeError: it returns an error.
    """
    error = getattr(cuda, function)(*args)
    if error:
        raise RuntimeError(f"{function} fails with CUDA error {error}")
