"""Memory that a worker process and the loader have in common: clips are decoded into it, and not copied again.

A thread of the worker makes the memory and lends it, in blocks, to the thread of the loader that it answers. It is of
files that have no names, so that nothing is left of it when both processes are gone, however they end, and the size of
/dev/shm does not matter. When no part of an array is left in the loader, its block is given back, and used again.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

_FILE = 16 << 20  # bytes of a file, if a block is not larger
_BLOCKS_MAX = 16  # of a file
_KEPT = 64 << 20  # bytes that a thread keeps in files that nobody uses


class Place(NamedTuple):
    """Where an array is: ``size`` bytes from ``start`` on in file ``file``, in block ``block`` of it."""

    file: int
    block: int
    start: int
    size: int


class _File:
    """Memory, mapped, as blocks of one size.

    Attributes:
        descriptor: its file, until the other process has it.
    """

    def __init__(self, number: int, size: int):
        self.number = number
        count = min(max(_FILE // size, 1), _BLOCKS_MAX)
        self.size = count * size
        self.descriptor: Any = open(os.memfd_create("dali_vidaug", os.MFD_CLOEXEC), "w+b", 0)  # noqa: PTH123
        # here, where memory is short, an error comes now, rather than a signal when it is written to
        os.posix_fallocate(self.descriptor.fileno(), 0, self.size)
        memory = np.frombuffer(mmap.mmap(self.descriptor.fileno(), self.size), np.uint8)
        self.blocks = [_Block(i, memory[i * size : (i + 1) * size]) for i in range(count)]

    @property
    def is_free(self) -> bool:
        return all(block.state == "free" for block in self.blocks)


class _Block:
    """A part of a file. It is "free"; "taken", by an array; or "lent". ``uses`` counts how often it was taken."""

    def __init__(self, number: int, memory: Any):
        self.number, self.memory = number, memory
        self.state, self.uses = "free", 0
        self.first = memory.ctypes.data


class Blocks:
    """The memory of a thread of a worker process.

    Attributes:
        problem: why memory could not be shared, when it could not.
    """

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._gone: deque[tuple[_Block, int]] = deque()  # arrays that are gone; perhaps noticed by another thread
        self._dropped: list[int] = []
        self._number = 0
        self.problem: str | None = None

    def take(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array, C-contiguous, with any values, in a block of its own; or in other memory, where none can be had."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        block = self._find(size) if size else None
        if block is None:
            return np.empty(shape, dtype)
        # views of views refer to ``whole``, not to the block's memory: see ``recycled.Recycled.take``
        whole = np.frombuffer(memoryview(block.memory)[:size], dtype)
        weakref.finalize(whole, self._gone.append, (block, block.uses)).atexit = False
        return whole.reshape(shape)

    def _find(self, size):
        step = max(mmap.PAGESIZE, 1 << max(size.bit_length() - 3, 0))
        wanted = -(-size // step) * step  # few sizes, so that clips which differ a little use the same blocks
        while self._gone:
            gone, uses = self._gone.popleft()
            if gone.uses == uses and gone.state == "taken":
                gone.state = "free"
        alike = (block for file in self._files.values() for block in file.blocks if len(block.memory) == wanted)
        block = next((block for block in alike if block.state == "free"), None)
        if block is None:
            self._drop_files()
            try:
                file = self._files[self._number] = _File(self._number, wanted)
            except OSError as error:
                self.problem = f"{wanted} bytes cannot be had in shared memory: {error}"
                return None
            self._number += 1
            block = file.blocks[0]
        block.state, block.uses = "taken", block.uses + 1
        return block

    def _drop_files(self):
        """Give up files that nobody uses, the oldest first, as long as there are many."""
        free = [file for file in self._files.values() if file.is_free]
        left = sum(file.size for file in free)
        for file in free:
            if left <= _KEPT:
                return
            left -= file.size
            del self._files[file.number]
            if file.descriptor is None:  # the other process has it
                self._dropped.append(file.number)

    def lend(self, data: memoryview) -> Place | None:
        """Lend the block that an array is in, or one with a copy of it; None where none can be had.

        Args:
            data: the bytes of the array.
        """
        first = np.frombuffer(data, np.uint8).ctypes.data
        for file in self._files.values():
            for block in file.blocks:
                if block.first <= first < block.first + len(block.memory) and block.state == "taken":
                    block.state = "lent"
                    return Place(file.number, block.number, first - file.blocks[0].first, data.nbytes)
        copy: Any = self.take((data.nbytes,), np.uint8)
        if copy.base is None:  # of no block
            return None
        copy[...] = np.frombuffer(data, np.uint8)
        return self.lend(memoryview(copy))

    def announce(self, places: Iterable[Place]) -> tuple[list[tuple[int, int]], list[Any], list[int]]:
        """What the other process must be told of files of blocks that are lent.

        Returns:
            Numbers and sizes of those that it does not have yet; their files, to be closed when they are sent; and the
            numbers of files that are gone.
        """
        new, descriptors = [], []
        for number in dict.fromkeys(place.file for place in places):
            file = self._files[number]
            if file.descriptor is not None:
                new.append((number, file.size))
                descriptors.append(file.descriptor)
                file.descriptor = None
        dropped, self._dropped = self._dropped, []
        return new, descriptors, dropped

    def give_back(self, blocks: Iterable[tuple[int, int]]) -> None:
        """The other process does not use these blocks any more: (file, block) each."""
        for file, block in blocks:
            self._files[file].blocks[block].state = "free"


class Mapped:
    """The memory of a thread of a worker process, in the loader."""

    def __init__(self) -> None:
        self._maps: dict[int, mmap.mmap] = {}
        self._returned: deque[tuple[int, int]] = deque()

    def add(self, files: Sequence[tuple[int, int]], descriptors: Sequence[int]) -> None:
        """Map new files, by number and size; the descriptors are closed."""
        try:
            for (number, size), descriptor in zip(files, descriptors, strict=True):
                self._maps[number] = mmap.mmap(descriptor, size)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget files that are gone."""
        for number in numbers:
            del self._maps[number]

    def close(self) -> None:
        """Forget all files; arrays stay."""
        self._maps.clear()

    def array(self, place: Place) -> np.ndarray:
        """The bytes of a block that was lent: (size,) uint8. It is given back when nothing of the array is left."""
        file, block, start, size = place
        whole = np.frombuffer(memoryview(self._maps[file])[start : start + size], np.uint8)
        weakref.finalize(whole, self._returned.append, (file, block)).atexit = False
        return whole

    def returned(self) -> list[tuple[int, int]]:
        """The blocks of which nothing is left, since this was last asked: (file, block) each."""
        blocks = []
        while self._returned:
            try:
                blocks.append(self._returned.popleft())
            except IndexError:  # another thread was faster
                break
        return blocks
