"""Random numbers addressed by what they are for, not by when they are drawn.

Philox4x32-10 (Salmon et al., SC 2011) maps the address (seed, epoch, view, sample, repeat, purpose, block) to four
32-bit words. The map is one-to-one for a seed, so two addresses never share a stream, and no draw depends on another
draw.
"""

from __future__ import annotations

import copy
import functools
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

MAX_SEED = 2**64
MAX_EPOCH = 2**24
MAX_VIEW = 2**8
MAX_SAMPLE = 2**32
MAX_REPEAT = 2**8
_MAX_BLOCK = 2**24


@functools.lru_cache(maxsize=64)
def _round_keys(low: int, high: int) -> np.ndarray:
    """(10, 2, 1) uint64, of a key of two ints in [0, 2**32)."""
    steps = np.arange(10, dtype=np.uint64)[:, None] * _KEY_STEPS
    return ((steps + np.array([low, high], np.uint64)) & _MASK)[..., None]


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds of Philox4x32.

    Args:
        counter: (..., 4) uint32.
        key: two ints in [0, 2**32).

    Returns:
        (..., 4) uint32.
    """
    words = counter.reshape(-1, 4).T.astype(np.uint64)
    even, odd = words[::2], words[1::2]
    for round_key in _round_keys(*key):
        products = even * _MULTIPLIERS
        even, odd = (products >> _HALF)[::-1] ^ odd ^ round_key, (products & _MASK)[::-1]
    words[::2], words[1::2] = even, odd
    return words.T.astype(np.uint32).reshape(counter.shape)


def whole_numbers(name: str, values: ArrayLike, ndim: int = 1) -> np.ndarray:
    """Values as int64.

    Raises:
        ValueError: they are not whole numbers, or their array has another number of dimensions; named ``name``.
    """
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != ndim:
        raise ValueError(f"{name} must be {ndim}-dimensional integers, got {array.dtype} {array.shape}")
    return array.astype(np.int64)


class Draws:
    """The random numbers of the clips of a batch; ``len(draws)`` is their number, B.

    A number depends on its address alone: (seed, epoch, sample, view, repeat, op, purpose). The same purpose gives the
    same numbers again, so each decision of an op has a purpose of its own.

    Attributes:
        samples, views: (B,) int64, as below.
        seed, epoch, batch, repeat, step, prefix: as below.

    Args:
        seed: [0, 2**64).
        epoch: [0, 2**24).
        samples: (B,) int, manifest rows, [0, 2**32).
        views: (B,) int, or one number for all, [0, 256): which of several clips of its sample each clip is.
        prefix: put before every purpose, so that two ops of one kind draw different numbers.
        batch: number of the batch that the samples are in, [0, 2**32); only ``of_batch`` depends on it.
        repeat: which of several clips of the same frames each clip is, [0, 256); 0 for what they have in common.
        step: number of the training step that the samples are in, on all ranks the same, [0, 2**32); only ``of_step``
            depends on it.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, seed: int, epoch: int, samples: ArrayLike, views: ArrayLike = 0, prefix: str = "", batch: int = 0,
        repeat: int = 0, step: int = 0,
    ):  # fmt: skip
        for name, value, limit in (
            ("seed", seed, MAX_SEED), ("epoch", epoch, MAX_EPOCH), ("batch", batch, MAX_SAMPLE),
            ("repeat", repeat, MAX_REPEAT), ("step", step, MAX_SAMPLE),
        ):  # fmt: skip
            if not 0 <= value < limit:
                raise ValueError(f"{name} must be in [0, {limit}), got {value}")
        samples, views = whole_numbers("samples", samples), whole_numbers("views", views, np.ndim(views))
        if views.shape not in ((), samples.shape):
            raise ValueError(f"views must be one number, or one for each of {len(samples)} samples, got {views.shape}")
        for name, column, limit in (("samples", samples, MAX_SAMPLE), ("views", views, MAX_VIEW)):
            if column.size and not (column.min() >= 0 and column.max() < limit):
                raise ValueError(f"{name} must be in [0, {limit}), got {column.min()} to {column.max()}")
        self.seed, self.epoch, self.prefix, self.batch, self.repeat = seed, epoch, prefix, batch, repeat
        self.step = step
        self.samples, self.views = samples, np.broadcast_to(views, samples.shape)
        self._shared = [False]  # of all that were made of these

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        first = ", ".join(map(str, self.samples[:8].tolist()))
        plural = "" if len(self) == 1 else "s"
        return (
            f"{len(self)} clip{plural} of sample{plural} {first}{', ...' if len(self) > 8 else ''}, epoch {self.epoch}"
        )

    def named(self, prefix: str) -> Draws:
        """The same addresses with another prefix."""
        other = copy.copy(self)
        other.prefix = prefix
        return other

    def part(self, at: np.ndarray) -> Draws:
        """The same addresses of some of the clips, of which ``at`` (N,) are the positions."""
        other = copy.copy(self)
        other.samples, other.views = self.samples[at], self.views[at]
        return other

    def of_batch(self) -> Draws:
        """The random numbers that a batch has in common, such as who is mixed with whom: a ``Draws`` of length 1."""
        self._shared[0] = True
        return Draws(self.seed, self.epoch, [self.batch], 0, f"{self.prefix}.batch", repeat=self.repeat)

    def of_step(self) -> Draws:
        """The random numbers that all clips of a training step have in common: a ``Draws`` of length 1.

        They are the same on all ranks, and for all views and repeats.
        """
        return Draws(self.seed, self.epoch, [self.step], 0, f"{self.prefix}.step")

    @property
    def are_shared(self) -> bool:
        """Whether numbers were drawn that the clips of a batch have in common, of these draws or under another name."""
        return self._shared[0]

    def words(self, purpose: str, n: int = 1) -> np.ndarray:
        """(B, n) uint32, uniform over [0, 2**32).

        Raises:
            ValueError: n is not an int >= 1, or purpose no text.
        """
        if not isinstance(purpose, str):
            raise ValueError(
                f"{self.prefix}: the purpose of draws must be a word, as in draws.uniform('factor', 0.6, 1.4), got "
                f"{purpose!r}"
            )
        if not (isinstance(n, (int, np.integer)) and n >= 1):
            raise ValueError(f"{self.prefix}: n of draws for {purpose!r} must be an int >= 1, got {n!r}")
        blocks = -(-n // 4)
        if blocks > _MAX_BLOCK:
            raise ValueError(f"{self.prefix}: n of draws for {purpose!r} must be at most {4 * _MAX_BLOCK}, got {n}")
        return self._words((purpose,), blocks)[0, :, :n]

    def _words(self, purposes, blocks):
        """(P, B, 4 * blocks) uint32."""
        hashes = [zlib.crc32(f"{self.prefix}.{purpose}".encode()) for purpose in purposes]
        counter = np.empty((len(purposes), len(self), blocks, 4), np.uint32)
        counter[..., 0] = self.repeat << 24 | np.arange(blocks)
        counter[..., 1] = np.array(hashes)[:, None, None]
        counter[..., 2] = self.samples[:, None]
        counter[..., 3] = self.epoch << 8 | self.views[:, None]
        words = philox4x32(counter, (self.seed & 0xFFFFFFFF, self.seed >> 32))
        return words.reshape(len(purposes), len(self), 4 * blocks)

    def uniform(self, purpose: str, low: ArrayLike = 0.0, high: ArrayLike = 1.0, n: int | None = None) -> np.ndarray:
        """Uniform numbers in [low, high), each a number or (B,): (B,) float64, or (B, n) when n is given.

        Raises:
            ValueError: a limit is not finite, or neither a number nor (B,).
        """
        first, last = self._limit(purpose, "low", low), self._limit(purpose, "high", high)
        values = first + (last - first) * (self.words(purpose, 1 if n is None else n) * 2.0**-32)
        return values[:, 0] if n is None else values

    def uniforms(self, *purposes: str) -> np.ndarray:
        """A number in [0, 1) for each clip and purpose, (P, B) float64: those of ``uniform``, in less time."""
        return self._words(purposes, 1)[..., 0] * 2.0**-32

    def integers(self, purpose: str, high: ArrayLike, n: int | None = None) -> np.ndarray:
        """Uniform integers in [0, high), high an int in [1, 2**32] or (B,) of them: (B,) int64, or (B, n) with n.

        Raises:
            ValueError: high is out of range, not whole, or neither a number nor (B,).
        """
        limit = self._limit(purpose, "high", high)
        good = (1 <= limit) & (limit <= 2**32) & (limit == np.floor(limit))
        if not good.all():
            bad = limit[~good].ravel()[0]
            raise ValueError(
                f"{self.prefix}: high of draws.integers({purpose!r}) must be whole and in [1, 2**32], got {bad:g}"
            )
        words = self.words(purpose, 1 if n is None else n).astype(np.uint64)
        values = (words * limit.astype(np.uint64) >> _HALF).astype(np.int64)
        return values[:, 0] if n is None else values

    def _limit(self, purpose: str, name: str, limit: ArrayLike) -> np.ndarray:
        """A limit of draws as (1, 1) or (B, 1) float64."""
        array = np.asarray(limit, np.float64)
        if array.shape not in ((), (len(self),)) or not np.isfinite(array).all():
            what = f"of shape {array.shape}" if array.ndim else array
            raise ValueError(
                f"{self.prefix}: {name} of draws for {purpose!r} must be a finite number or one for each of "
                f"{len(self)} clips, got {what}"
            )
        return array.reshape(-1, 1)
