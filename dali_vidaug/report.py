"""What a loader has done so far."""

import logging
import threading
import time
from dataclasses import dataclass, field, replace

_MOST_REASONS = 8  # in the text

log = logging.getLogger("dali_vidaug")


@dataclass
class Report:
    """What a loader has done so far. ``print`` it.

    Attributes:
        batches, clips, frames_decoded: made so far, those waiting to be taken included.
        seconds: "read" (open, demux, cut), "decode", "convert" (crop, scale, RGB): processor time summed over the
            decoding threads; "graph": time in DALI; "wait": time that the training loop waited for batches.
        bad: for each bad sample (path, reason, how often it was replaced).
        fallbacks: for each reason why PyAV decoded clips where DALI was to: (one of the files, how many clips).
        elapsed_seconds: since the loader first made a batch.
    """

    batches: int = 0
    clips: int = 0
    frames_decoded: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    bad: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    fallbacks: dict[str, tuple[str, int]] = field(default_factory=dict)
    elapsed_seconds: float = 0.0

    @property
    def replaced(self):
        """How many clips were replaced."""
        return sum(count for _, _, count in self.bad.values())

    def __str__(self):
        rate = self.clips / self.elapsed_seconds if self.elapsed_seconds else 0.0
        frames = self.frames_decoded / self.elapsed_seconds if self.elapsed_seconds else 0.0
        work = {name: s for name, s in self.seconds.items() if name != "wait"}
        total = sum(work.values()) or 1.0
        lines = [
            f"{self.batches} batches, {self.clips} clips ({rate:.1f} a second), "
            f"{self.frames_decoded} frames decoded ({frames:.0f} a second), {self.elapsed_seconds:.1f} s",
            "work: " + ", ".join(f"{name} {s / total:.0%}" for name, s in work.items())
            + f"; the loop waited {self.seconds.get('wait', 0.0):.1f} s",
            f"replaced clips: {self.replaced}",
        ]  # fmt: skip
        lines += [f"  sample {i}, {n}x: {path}: {why}" for i, (path, why, n) in sorted(self.bad.items())]
        lines += [
            f"decoded by PyAV: {n} clips, such as of {path}: {why}"
            for why, (path, n) in sorted(self.fallbacks.items(), key=lambda item: -item[1][1])[:_MOST_REASONS]
        ]
        if len(self.fallbacks) > _MOST_REASONS:
            lines.append(f"and for {len(self.fallbacks) - _MOST_REASONS} more reasons, all in report().fallbacks")
        return "\n".join(lines)


class Tally:
    """The running count behind a report; written by several threads."""

    def __init__(self):
        self._lock, self._report, self._started = threading.Lock(), Report(), None

    def add_seconds(self, stage, seconds):
        with self._lock:
            self._report.seconds[stage] = self._report.seconds.get(stage, 0.0) + seconds

    def add_clip(self, num_decoded, seconds):
        for stage, value in seconds.items():
            self.add_seconds(stage, value)
        with self._lock:
            self._report.frames_decoded += num_decoded

    def add_batch(self, num_clips):
        with self._lock:
            self._report.batches += 1
            self._report.clips += num_clips

    def add_bad(self, sample, path, epoch, why):
        with self._lock:
            count = self._report.bad.get(sample, (path, why, 0))[2]
            self._report.bad[sample] = (path, why, count + 1)
        if count == 0:
            log.warning("replaced a bad clip: %s (sample %d, epoch %d): %s", path, sample, epoch, why)

    def add_fallback(self, path, why):
        with self._lock:
            first, count = self._report.fallbacks.get(why, (path, 0))
            self._report.fallbacks[why] = (first, count + 1)
        if count == 0:
            log.info("decoded by PyAV: %s: %s", path, why)

    def start(self):
        self._started = self._started or time.perf_counter()

    def report(self):
        with self._lock:
            elapsed = time.perf_counter() - self._started if self._started else 0.0
            report = self._report
            return replace(
                report,
                seconds=dict(report.seconds),
                bad=dict(report.bad),
                fallbacks=dict(report.fallbacks),
                elapsed_seconds=elapsed,
            )
