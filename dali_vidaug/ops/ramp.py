"""Magnitudes that change through a clip."""

from __future__ import annotations

import numpy as np

from dali_vidaug.rng import Draws

RAMPS = ("constant", "temporal", "temporal+", "mix", "fourier")
RAMPED_MAX = 10.0  # of magnitudes that are made for ramps, as those of RandAugment-T
_BASES = 3  # of "fourier"


def draw_ramps(
    draws: Draws, kind: str, magnitude: np.ndarray, highest: float, frames: np.ndarray, num_frames: int
) -> np.ndarray:
    """Draw the magnitudes of each op in each frame.

    Args:
        draws: the batch's random numbers.
        kind: of ``RAMPS``. With m an op's magnitude, and "to" meaning evenly from the first frame to the last:
            "constant": m.
            "temporal": U[0.1, m) to m.
            "temporal+": m - d to m + d or back, each with probability 1/2, d ~ U[0, m/2).
            "mix": "constant" or "temporal+", each with probability 1/2, the same for all ops of a clip.
            "fourier" (DynaAugment): the weighted mean of three sine waves with weights uniform on the simplex. The
            frequency of each is U[0.2, 1.5) per clip length, its phase that of a random frame, and it is scaled to
            [m - a m, m + a m], a ~ U[0, 1).
        magnitude: (B, S) float, of S ops.
        highest: magnitudes are clipped to [0, highest].
        frames: (B,) int, the clips' lengths.
        num_frames: of the result; beyond a clip's length its last frame's magnitude is repeated.

    Returns:
        (B, S, num_frames) float64.
    """
    num_ops = magnitude.shape[1]
    ends = np.stack([magnitude, magnitude])  # (2, B, S)
    if kind == "temporal":
        low = np.minimum(0.1, magnitude)
        ends[0] = low + (magnitude - low) * draws.uniform("ramp.start", n=num_ops)
    if kind in ("temporal+", "mix"):
        half = 0.5 * magnitude * draws.uniform("ramp.half", n=num_ops)
        half = np.where(draws.integers("ramp.order", 2, n=num_ops) == 1, half, -half)
        if kind == "mix":
            half *= draws.integers("ramp.mix", 2)[:, None]
        ends += np.stack([-half, half])
    if kind == "fourier":
        ramps = _fourier(draws, magnitude, frames, num_frames)
    else:
        # The ends are clipped, not the ramp: it has no kink.
        first, last = np.clip(ends, 0, highest)[..., None]
        ramps = first + (last - first) * position(frames, num_frames)[:, None]
    return np.clip(ramps, 0, highest)


def draw_strengths(
    draws: Draws, purpose: str, value: float | tuple[float, float], kind: str, frames: np.ndarray
) -> np.ndarray:
    """Draw a strength for each clip, and ramp it.

    Args:
        draws: the batch's random numbers.
        purpose: of the strength.
        value: the strength, or (low, high) to draw it uniformly. It is ramped within [0, high].
        kind: of ``RAMPS``.
        frames: (B,) int, the clips' lengths.

    Returns:
        (B, F) float64, F the longest clip's.
    """
    low, high = value if isinstance(value, tuple) else (value, value)
    frames, unit = np.broadcast_to(np.asarray(frames, np.int64), len(draws)), (high or 1) / RAMPED_MAX
    magnitude = draws.uniform(purpose, low, high)[:, None] / unit
    return unit * draw_ramps(draws, kind, magnitude, RAMPED_MAX, frames, int(frames.max(initial=1)))[:, 0]


def position(frames: np.ndarray, num_frames: int) -> np.ndarray:
    """(B, num_frames): 0 at a clip's first frame, 1 at its last and beyond; 0 in a clip of one frame."""
    return np.minimum(np.arange(num_frames) / np.maximum(frames - 1, 1)[:, None], np.minimum(frames - 1, 1)[:, None])


def _fourier(draws, magnitude, frames, num_frames):
    num_ops, n = magnitude.shape[1], magnitude.shape[1] * _BASES
    shape = (len(draws), num_ops, _BASES, 1)
    frequency = draws.uniform("fourier.frequency", 0.2, 1.5, n=n).reshape(shape)
    amplitude = draws.uniform("fourier.amplitude", n=n).reshape(shape)
    offset = draws.integers("fourier.offset", frames, n=n).reshape(shape)
    # The gaps between sorted uniform numbers are uniform on the simplex, which is Dirichlet(1).
    cuts = np.sort(draws.uniform("fourier.weight", n=num_ops * (_BASES - 1)).reshape(len(draws), num_ops, -1))
    weights = np.diff(cuts, prepend=0.0, append=1.0)[..., None]

    frames = np.asarray(frames)[:, None, None, None]
    t = np.minimum(np.arange(num_frames), frames - 1)
    waves = np.sin(2 * np.pi * frequency * (t + offset) / np.maximum(frames - 1, 1))
    low, high = waves.min(-1, keepdims=True), waves.max(-1, keepdims=True)
    # A flat wave (a clip of one frame) is at the middle, m.
    flat = high - low < 1e-12
    unit = np.where(flat, 0.5, (waves - low) / np.where(flat, 1.0, high - low))
    return (weights * (magnitude[:, :, None, None] * (1 + amplitude * (2 * unit - 1)))).sum(2)
