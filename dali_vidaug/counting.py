"""Counts what a loader does, in several threads, for its report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import numpy as np

from dali_vidaug.errors import printable
from dali_vidaug.report import Report

_SLOWEST = 5  # files that are named
_GOP = 16  # frames from key frame to key frame that docs/tuning.md advises

log = logging.getLogger("dali_vidaug")


def num_distinct(frames: np.ndarray) -> np.ndarray:
    """How many frames of each clip are different ones: (B, F) to (B,) int64."""
    return 1 + (np.diff(np.sort(frames, axis=1), axis=1) != 0).sum(1)


def frames_with_gops(frames: np.ndarray, gop: int) -> float:
    """How many frames must be decoded for some clips, if a key frame comes every ``gop`` frames: on average.

    For the first frame of a clip that is (gop + 1) / 2. For each other it is the gap before it, unless a key frame lies
    in the gap.

    Args:
        frames: (B, F) positions.
        gop: >= 1.
    """
    gaps = np.minimum(np.diff(np.sort(frames)), gop)
    following = gaps * (gop - gaps) / gop + gaps * (gaps + 1) / (2 * gop)
    return float(len(frames) * (gop + 1) / 2 + following.sum())


class RunningReport:
    """A report that several threads add to."""

    def __init__(self) -> None:
        self._lock, self._report = threading.Lock(), Report()
        self._started: float | None = None
        self._untimed: set[int] = set()
        self._slow_from = 0.0  # seconds; a file that took less is not among the slowest

    def start(self, num_threads: int) -> None:
        """Start the clock, if it is not running. ``num_threads`` load clips."""
        self._started = self._started or time.perf_counter()
        self._report.num_threads = num_threads

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of a block as a stage's, unless it is left by an exception."""
        before = time.perf_counter()
        yield
        self.add_seconds(stage, time.perf_counter() - before)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Count time of one of the stages in ``Report.seconds``."""
        with self._lock:
            self._report.seconds[stage] = self._report.seconds.get(stage, 0.0) + seconds

    def add_loaded(self, num_decoded: int, seconds: dict[str, float], elapsed: float, path: Callable) -> None:
        """Count clips that were loaded together: frames decoded for them, time by stage and that passed, their file."""
        for stage, value in (*seconds.items(), ("load", elapsed)):
            self.add_seconds(stage, value)
        with self._lock:
            self._report.frames_decoded += num_decoded
            self._report.loads += 1
        if elapsed > self._slow_from:
            self.add_slow(path(), elapsed)

    def add_slow(self, path: str, elapsed: float) -> None:
        """Name a file, if it is among the slowest: ``elapsed`` seconds passed until its clips were loaded."""
        path = printable(path)
        with self._lock:
            slowest = {**self._report.slowest, path: max(elapsed, self._report.slowest.get(path, 0.0))}
            kept = sorted(slowest.items(), key=lambda item: -item[1])[:_SLOWEST]
            self._report.slowest = dict(kept)
            self._slow_from = kept[-1][1] if len(kept) == _SLOWEST else 0.0

    def add_batch(self, frames: np.ndarray, decoded: Sequence[np.ndarray]) -> None:
        """Count a batch, by the frames of its clips, (B, F), and of those that were decoded together, (..., F) each."""
        again = frames.shape[1] - num_distinct(frames)
        with self._lock:
            self._report.batches += 1
            self._report.clips += len(frames)
            self._report.frames += frames.size
            self._report.padded += int((again > 0).sum())
            self._report.frames_repeated += int(again.sum())
            self._report.frames_with_short_gops += sum(frames_with_gops(some.reshape(1, -1), _GOP) for some in decoded)

    def add_fetched(self, costs: Sequence[int], waited: float) -> None:
        """Count requests, their bytes and those from the cache, and seconds that a batch waited for them."""
        if any(costs):
            self.add_seconds("fetch", waited)
        with self._lock:
            self._report.requests += costs[0]
            self._report.bytes_fetched += costs[1]
            self._report.bytes_cached += costs[2]

    def add_untimed(self, samples: Iterable[int]) -> None:
        """Count videos without usable time stamps of which frames were chosen by time, each once."""
        with self._lock:
            self._untimed.update(samples)
            self._report.untimed = len(self._untimed)

    def add_died(self) -> None:
        """Count a process that died."""
        with self._lock:
            self._report.workers_died += 1

    def add_repeated(self, num_clips: int) -> None:
        """Count clips that come again to make the ranks even."""
        with self._lock:
            self._report.repeated += num_clips

    def add_boxes(self, kept: int, dropped: int, covered: int) -> None:
        """Count the boxes of a batch, and those that are not in it."""
        with self._lock:
            self._report.boxes += kept
            self._report.boxes_dropped += dropped
            self._report.boxes_covered += covered

    def add_motion(self, frames: int, unknown: int) -> None:
        """Count frames whose motion is asked for, and those of which nothing is known."""
        with self._lock:
            self._report.motion_frames += frames
            self._report.motion_unknown += unknown

    def add_bad(
        self, sample: int, path: str, epoch: int, why: str, num_clips: int = 1, skipped: bool = False
    ) -> None:  # fmt: skip
        """Count clips of a bad sample that are replaced or left out; log the first of each sample."""
        path = printable(path)
        with self._lock:
            self._report.skipped += num_clips if skipped else 0
            count = self._report.bad.get(sample, (path, why, 0))[2]
            self._report.bad[sample] = (path, why, count + num_clips)
        if count == 0:
            done = "left out" if skipped else "replaced"
            log.warning("%s a bad clip: %s (sample %d, epoch %d): %s", done, path, sample, epoch, why)

    def add_fallback(self, path: str, why: str) -> None:
        """Count a clip that PyAV decodes in place of DALI; log the first for each reason."""
        path = printable(path)
        with self._lock:
            first, count = self._report.fallbacks.get(why, (path, 0))
            self._report.fallbacks[why] = (first, count + 1)
        if count == 0:
            log.info("decoded by PyAV: %s: %s", path, why)

    def add_compared(self, clips: int, still: int) -> None:
        """Count clips of DALI that were compared with PyAV's, and those in which too little moves to show the order."""
        with self._lock:
            self._report.compared += clips
            self._report.compared_still += still

    def add_decoders(self, by_dali: int, by_share: int) -> None:
        """Count clips of a batch that DALI has decoded, and those that PyAV has because of ``cpu_share``."""
        with self._lock:
            self._report.by_dali += by_dali
            self._report.by_share += by_share

    def add_share(self, share: float) -> None:
        """Note the share that "auto" chose."""
        with self._lock:
            self._report.cpu_share = share

    def add_wrong(self, coding: str, problem: str) -> None:
        """Count a coding that DALI decodes wrongly, and what is wrong."""
        with self._lock:
            self._report.wrong[coding] = problem

    def add_smaller_part(self, num_clips: int) -> None:
        """Count that memory ran out, and DALI decodes so many clips at once now, and nothing beside them."""
        with self._lock:
            self._report.decode_batch = num_clips
        log.warning(
            "memory ran out while DALI decoded: from now on it decodes %d clips at once, and nothing beside them; a "
            "smaller decode_batch avoids the attempt", num_clips,
        )  # fmt: skip

    def snapshot(self) -> Report:
        """A copy of what has been counted so far."""
        with self._lock:
            elapsed = time.perf_counter() - self._started if self._started else 0.0
            return replace(deepcopy(self._report), elapsed_seconds=elapsed)
