"""Time lines: positions in a video, counted in frames or in steps of 1/fps seconds, and the frames that are there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws
    from dali_vidaug.sampling.videos import Videos

TINY = 1e-7  # of a step: what rounding may cost; positions closer than this are the same


class Grid:
    """The time lines of the videos of a batch. Position 0 is the first frame that may be used.

    Args:
        sampler: named in errors.
        draws: of the batch, named in errors.
        videos: whose time lines.
        fps: steps per second; None: a step is a frame, whatever its time.
        rule: the frame at a position: "played": the last one whose time is not after it. "near": ffmpeg's filter
            ``fps``: each frame goes to the nearest step, halves up, and a step has the last frame that went to it or
            to one before. "rate": frames are counted as if each were shown for 1 / (average frames per second).

    Attributes:
        length: (B,) float64, steps; positions are in [0, length).
        step: (B,) float64, steps that a frame is shown, on average.
        whole: whether clips begin at whole positions.

    Raises:
        ValueError: neither time stamps nor the frame rate of a video are known.
    """

    def __init__(self, sampler: object, draws: Draws, videos: Videos, fps: float | None, rule: str):
        self.first, self.last = (np.asarray(x, np.int64) for x in (videos.first, videos.last))
        self.whole = fps is None or rule == "near"
        self._draws, self._videos, self._rule, self._edges = draws, videos, rule, None
        count = (self.last - self.first).astype(np.float64)
        if fps is None:
            self.length, self.step = count, np.ones(len(count))
            return
        known = np.asarray(videos.fps, np.float64)
        if rule == "rate":
            if not (known > 0).all():
                self._refuse(sampler, int(np.argmin(known > 0)))
            self.step = fps / known
            self.length = count * self.step
            return
        lines: dict[tuple[int, int, int], tuple[np.ndarray, float, float]] = {}  # clips of one video share one
        kept = []  # times, so that no two have one id
        self._edges, self.length, self.step = [], np.empty(len(count)), np.empty(len(count))
        for i, (first, last) in enumerate(zip(self.first.tolist(), self.last.tolist(), strict=True)):
            times = videos.times(i)
            key = id(times), first, last
            if key not in lines:
                if not np.isfinite(times[first:last]).all():
                    self._refuse(sampler, i)
                kept.append(times)
                lines[key] = _line(times[first:last], float(known[i]), fps, rule)
            edges, self.length[i], self.step[i] = lines[key]
            self._edges.append(edges)

    def _refuse(self, sampler, i):
        raise ValueError(
            f"{type(sampler).__name__}: fps cannot be used for {self._videos.place(self._draws, i)}: neither its time "
            "stamps nor its frame rate are known"
        )

    def stretched(self, factor: np.ndarray) -> Grid:
        """The same time lines on which each frame is shown (B,) ``factor`` times as long."""
        other = copy.copy(self)
        other.length, other.step = self.length * factor, self.step * factor
        if self._edges is not None:
            other._edges = [edges * times for edges, times in zip(self._edges, factor.tolist(), strict=True)]
        return other

    def frames(self, positions: np.ndarray, fractional: bool = False) -> np.ndarray:
        """The frames at some positions.

        Args:
            positions: (B, F) float64; those outside [0, length) count as its ends.
            fractional: whether positions between two frames stay so, by time.

        Returns:
            (B, F) int32; float64 with ``fractional``.
        """
        count = (self.last - self.first)[:, None]
        positions = np.maximum(positions, 0.0)
        if self._edges is None:
            exact = positions / self.step[:, None]
            index = np.minimum(np.floor(exact + TINY).astype(np.int64), count - 1)
            share = exact - index
        else:
            if self._rule == "near":
                positions = np.minimum(np.floor(positions + TINY), self.length[:, None] - 1)
            index, share = np.empty(positions.shape, np.int64), np.zeros(positions.shape)
            for i, edges in enumerate(self._edges):
                at = np.searchsorted(edges, positions[i] + TINY, side="right") - 1
                index[i] = at
                if fractional:
                    until = np.append(edges[1:], np.inf)[at]
                    share[i] = (positions[i] - edges[at]) / np.maximum(until - edges[at], TINY)
        if not fractional:
            return (self.first[:, None] + index).astype(np.int32)
        share = np.where((share < TINY) | (index == count - 1), 0.0, np.minimum(share, 1 - TINY))
        return self.first[:, None] + index + share

    def positions_of(self, i: int, frames: np.ndarray) -> np.ndarray:
        """Where frames of video ``i`` begin: (K,) float64."""
        index = np.asarray(frames, np.int64) - self.first[i]
        return index * self.step[i] if self._edges is None else self._edges[i][index]

    def length_text(self, i: int, fps: float | None) -> str:
        """How long video ``i`` is, for errors."""
        frames = f"{self.last[i] - self.first[i]} frames"
        return frames if fps is None else f"{frames} in {self.length[i] / fps:.2f} s"


def _line(times: np.ndarray, known: float, fps: float, rule: str) -> tuple[np.ndarray, float, float]:
    """Where each frame begins, (N,) steps; where the last one ends; for how many steps one is shown on average.

    The last frame is shown as long as an average one.

    Args:
        times: (N,) seconds.
        known: frames per second; not positive: not known.
        fps, rule: as in ``Grid``.
    """
    gaps = np.diff(times)
    shown = fps * (1 / known if known > 0 else float(np.median(gaps)) if len(gaps) else 1 / fps)
    edges = (times - times[0]) * fps
    if rule == "near":
        steps = np.floor(edges + (0.5 + TINY))
        return steps, max(float(np.floor(edges[-1] + shown + (0.5 + TINY))), 1.0), 1.0
    return edges, float(edges[-1]) + shown, shown
