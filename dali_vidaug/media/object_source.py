"""The bytes of an object as a ``Source``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from dali_vidaug.media.block_cache import BLOCK
from dali_vidaug.media.fetch_loop import wait_for
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.object_reader import reader_of
from dali_vidaug.media.objects import Stat
from dali_vidaug.media.place import Place, SourceFile

WHOLE_MAX = 1 << 26  # bytes of an object without a packet index that is read whole; of a larger one, blocks
_AHEAD_MAX = 8  # blocks that are read at once, where block after block is wanted
_BLOCKS_KEPT = 64  # of each object
_SIZE_MAX = 1 << 62  # of an object whose size nobody asked for: the server says where it ends


class ObjectSource:
    """The bytes of an object, or of a part of one: see ``Source``.

    Args:
        place: of the bytes.
        storage: how they are read.
        stat: what the object must be; None: what it is when it is opened.
        spans: bytes of it that are there already: (first, bytes) each, counted from the first byte of the place.
        by_blocks: read blocks, which are kept; else exactly the ranges that are asked for.
        block: bytes of a block; with fewer than ``BLOCK``, the object is not read whole when it is opened.

    Raises:
        OSError, EOFError: it cannot be read.
    """

    mtime_ns: int | None = None

    def __init__(
        self, place: Place, storage: Storage, stat: Stat | None = None, spans: Sequence[tuple[int, Any]] = (),
        by_blocks: bool = True, block: int = BLOCK,
    ):  # fmt: skip
        self.path, self._first, self._storage, self._by_blocks = place.path, place.first, storage, by_blocks
        self._block_size = block
        self.name = place.name or place.path
        self._spans = [(first, memoryview(data)) for first, data in spans]
        self._blocks: OrderedDict[int, Any] = OrderedDict()
        if stat is None:
            stat = self._open(place)
        self._stat, self.etag = stat, stat.etag
        known = stat.size - place.first if stat.size >= 0 else _SIZE_MAX
        self.size = known if place.size is None else place.size

    def __reduce__(self) -> tuple[Any, ...]:
        place = Place(self.path, self._first, self.size, self.name)
        spans = [(first, bytes(data)) for first, data in self._spans]
        return ObjectSource, (place, self._storage, self._stat, spans, self._by_blocks, self._block_size)

    def _open(self, place):
        """Read the beginning, or all of it if that is not long; one request tells what the object is, too."""
        whole_max = WHOLE_MAX if self._block_size == BLOCK else self._block_size
        last = place.first + (self._block_size if place.size is None or place.size > whole_max else place.size)
        reader = reader_of(self._storage)
        try:
            data, stat = wait_for(reader.first(self.path, (place.first, last)))
        except EOFError:  # it has no bytes there; some servers refuse a range that is longer than the object
            data, stat = wait_for(reader.first(self.path, None))
            data = memoryview(data)[place.first :]
        self._spans.append((0, memoryview(data)))
        rest = stat.size - place.first - len(data)
        if place.size is None and 0 < rest and stat.size <= whole_max:
            (more,) = wait_for(reader.read(self.path, [(place.first + len(data), stat.size)], stat))
            self._spans.append((len(data), memoryview(more)))
            self._spans = [(0, memoryview(b"".join(part for _, part in self._spans)))]
        return stat

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[Any]:
        """As of ``Source``. Also ValueError: the object was replaced."""
        for _, last in ranges:
            if last > self.size:
                raise EOFError(f"changed since it was scanned: it ends before byte {last}; scan again")
        found = [self._find(first, last) for first, last in ranges]
        missing = [span for span, data in zip(ranges, found, strict=True) if data is None]
        if missing and self._by_blocks:
            return [self._find(*span) or self._join(*span) for span in ranges]
        if missing:
            more = iter(self._fetch(missing))
            found = [next(more) if data is None else data for data in found]
        return found

    def _fetch(self, ranges):
        moved = [(self._first + first, self._first + last) for first, last in ranges]
        return wait_for(reader_of(self._storage).read(self.path, moved, self._stat))

    def _find(self, first, last):
        """A range that is there, or None."""
        if first == last:
            return b""
        for start, data in self._spans:
            if start <= first and last <= start + len(data):
                return data[first - start : last - start]
        return None

    def _join(self, first, last):
        """A range, from blocks."""
        numbers = range(first // self._block_size, -(-last // self._block_size))
        parts = [self._block(n) for n in numbers]
        at = first - numbers.start * self._block_size
        whole = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
        return whole[at : at + last - first]

    def _block(self, number):
        """A block; where the one before was wanted too, those that follow are read along, more and more of them."""
        if number not in self._blocks:
            end = number
            while end > number - _AHEAD_MAX and end - 1 in self._blocks:
                end -= 1
            count = max(1, min(_AHEAD_MAX, number - end))
            size = self._block_size
            run = [n for n in range(number, number + count) if n * size < self.size and n not in self._blocks]
            ends = (run[0] * size, min((run[-1] + 1) * size, self.size))
            (data,) = self._fetch([ends])
            for n in run:
                at = (n - run[0]) * size
                self._blocks[n] = memoryview(data)[at : at + size]
        self._blocks.move_to_end(number)
        while len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return self._blocks[number]

    def identity(self) -> tuple[Any, ...]:
        """As of ``Source``."""
        return tuple(self._stat)

    def is_still(self, identity: tuple[Any, ...]) -> bool:
        """As of ``Source``: each answer was compared with the ETag and size when it came."""
        return self.identity() == identity

    def as_file(self) -> Any:
        """As of ``Source``."""
        return SourceFile(self)
