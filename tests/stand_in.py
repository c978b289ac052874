"""Stands in for CuPy where there is no GPU: keeps what the launcher passes, or runs it (test_emulated_gpu.py).

It has what the package uses and no more; test_stand_in.py compares it with CuPy's own signatures.
"""

import sys
from types import SimpleNamespace

import numpy as np

from dali_vidaug import kernels

ALIGNMENT = 512  # of memory from CuPy's pool


def in_place_of_cupy(monkeypatch):
    """For a fixture: what the launcher takes for CuPy, with no function kept from before or for after."""
    cupy = Cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    kernels._function.cache_clear()
    yield cupy
    kernels._function.cache_clear()


class Array:
    """What the package uses of a uint8 ``cupy.ndarray``. Without values it has an address, but nothing lies there."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape, address, values=None):
        self.shape, self.ndim, self.size = tuple(shape), len(shape), int(np.prod(shape, dtype=np.int64))
        self.nbytes, self._values = self.size, values
        self.flags, self.data = SimpleNamespace(c_contiguous=True), SimpleNamespace(ptr=address, device_id=0)

    def __getitem__(self, part):
        """A row of two dimensions, or of one dimension all from an element on."""
        if self.ndim == 2:
            if part >= self.shape[0]:
                raise IndexError(part)
            first, size = part * self.shape[1], self.shape[1]
        else:
            assert part.stop is part.step is None
            first, size = part.start, self.size - part.start
        values = None if self._values is None else self._values[first : first + size]
        return Array((size,), self.data.ptr + first, values)


class Function:
    """In place of ``cupy.RawKernel``."""

    def __init__(self, cupy, name):
        self._cupy, self._name = cupy, name

    def __call__(self, grid, block, args):
        assert type(grid) is type(block) is tuple and all(type(n) is int for n in (*grid, *block))
        self._cupy._launch(self._name, grid, block, args)


class Module:
    """In place of ``cupy.RawModule``."""

    def __init__(self, cupy):
        self._cupy = cupy

    def get_function(self, name):
        self._cupy._functions.append(name)
        return Function(self._cupy, name)


class Cupy:
    """In place of the module.

    Args:
        launch: called for each launch with entry point, grid, block and arguments. The arrays then have memory. By
            default launches go to the list ``_launches``, and only arrays that came from NumPy have memory.
    """

    def __init__(self, launch=None):
        self._launches, self._texts, self._functions = [], [], []
        self._launch = launch or (lambda *launch: self._launches.append(launch))
        self._backed, self._next = launch is not None, ALIGNMENT
        self._gpu, self._current, self._destroyed = 0, {0: [], 1: []}, []
        self.cuda = SimpleNamespace(
            Stream=lambda null: Stream(self, null),
            get_current_stream=lambda: self._current[self._gpu][-1],
            runtime=SimpleNamespace(setDevice=self._set_device),
        )

    def _set_device(self, device):
        self._gpu = device

    def asarray(self, a):
        return self._array(a.shape, a)

    def empty(self, shape, dtype):
        assert dtype is np.uint8
        return self._array(np.atleast_1d(shape))

    def empty_like(self, prototype):
        return self._array(prototype.shape)

    def RawModule(self, *, code, options):
        assert type(code) is str and type(options) is tuple
        self._texts.append(code)
        return Module(self)

    def _array(self, shape, values=None):
        size = int(np.prod(shape, dtype=np.int64))
        if values is None and not self._backed:
            address, self._next = self._next, self._next + -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
            return Array(shape, address)
        memory = np.full(size + ALIGNMENT, 0xA5, np.uint8)  # fresh memory is not zero
        memory = memory[-memory.ctypes.data % ALIGNMENT :][:size]
        if values is not None:
            memory[:] = values.reshape(-1)
        return Array(shape, memory.ctypes.data, memory)


class Stream:
    """Like CuPy's, is current for one GPU, and destroys the stream that it has the address of when it goes itself."""

    def __init__(self, cupy, null):
        assert null
        self._cupy, self.ptr, self._gpus = cupy, 0, []

    def __enter__(self):
        self._gpus.append(self._cupy._gpu)
        self._cupy._current[self._cupy._gpu].append(self)
        return self

    def __exit__(self, *exception):
        self._cupy._current[self._gpus.pop()].pop()

    def __del__(self):
        if self.ptr:
            self._cupy._destroyed.append(self.ptr)
