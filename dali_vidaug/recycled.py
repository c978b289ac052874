"""Memory of results that is used again when nobody has the result any more.

Fresh memory costs as much as filling it: the kernel hands out pages one by one, and clears each.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np

_ALIGNMENT = 64  # bytes


def keep_freed_memory() -> None:
    """Have malloc keep more of the memory that is freed: up to 62 MiB at the end of each of its heaps.

    Decoders take megabytes for each clip and free them after it. By default glibc gives them back each time, and fresh
    pages, which the kernel must clear, cost a tenth of a clip's processor time. It learns how much to keep from the
    largest block, of 32 MiB at most, that a program frees (mallopt(3), M_MMAP_THRESHOLD), so one is freed here. Without
    effect where the environment sets these limits, and on another malloc.
    """
    np.empty(31 << 20, np.uint8)


class Recycled:
    """Arrays in memory that is used again when they, and all that is made of them without a copy, are gone.

    Args:
        kept: how many free pieces are kept at most.
        largest: bytes; larger arrays are not kept.
    """

    def __init__(self, kept: int = 3, largest: float = float("inf")):
        self._largest = largest
        self._free: deque[np.ndarray] = deque(maxlen=kept)  # its methods are atomic: arrays may go in any thread

    def take(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array, C-contiguous and aligned to 64 bytes, with any values."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > self._largest:
            return np.empty(shape, dtype)
        memory = self._find(size + _ALIGNMENT)
        start = -memory.ctypes.data % _ALIGNMENT
        # NumPy's views of views refer to the array whose memory it is. By way of a memoryview that is this one, not
        # ``memory``: it lives as long as any part of it.
        array = np.frombuffer(memoryview(memory)[start : start + size], dtype)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(shape)

    def _find(self, size):
        while self._free:
            try:
                memory = self._free.pop()
            except IndexError:  # another thread was faster
                break
            if memory.size == size:
                return memory
        return np.empty(size, np.uint8)
