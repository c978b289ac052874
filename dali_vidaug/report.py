"""What a loader has done so far, and what it says of that: times, and clips that were replaced, left out or padded."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache
from html import escape

_REASONS_SHOWN = 8  # in the text
_LOADING = {"read": "reading", "decode": "decoding", "convert": "scaling and conversion to RGB"}  # in the pool
_STAGES = ("wait", "first", "loop", "ahead", "dali", "graph", *_LOADING)
_WAIT_MAX = 0.05  # share of its time that a loop may wait before the loader is called the limit
_GRAPH_BUSY = 0.8  # from this share of the time on, the ops, or DALI's decoder, are the limit
_THREADS_IDLE = 0.4  # below this share of the time, something else than computing holds the threads up
_GOP_WASTE = 1.3  # from this ratio on, decoded frames to those with such GOPs, shorter GOPs are worth the while

log = logging.getLogger("dali_vidaug")


@cache
def warn_once(message: str) -> None:
    """Log a warning, once in this process."""
    log.warning(message)


@dataclass
class Report:
    """What a loader has done so far. ``print`` it.

    Attributes:
        batches, clips, frames_decoded: made so far, including batches that wait to be taken.
        seconds: "read" (open, demux, cut), "decode", "convert" (crop, scale, RGB): processor time, summed over the
            decoding threads; "load": time that passed for these three, summed alike, with waiting for storage and for
            cores; "dali": time in which DALI's decoder was waited for; "graph": time in the ops that are not done while
            decoding; "wait": time that the training loop waited for batches; "first": the part of it before a first
            batch, when none is made ahead yet; "loop": time of the training loop between a batch and the next;
            "ahead": time that the loader waited for the loop, with ``prefetch`` batches ready.
        frames: of all clips.
        padded: clips that have a frame more than once, because their video is too short for the sampling, or an op
            repeats frames.
        frames_repeated: frames of these clips that are another one again.
        untimed: videos without usable time stamps, of which frames were chosen by time: by their average frame rate.
        repeated: clips that came twice in an epoch, to make the ranks even.
        skipped: clips that were left out, because they could not be decoded (``on_error="skip"``).
        boxes: in all clips.
        boxes_dropped: those of which too little was in the frame (``BoxRules``).
        boxes_covered: those that mixing has covered with another clip.
        motion_frames: frames of clips whose motion was asked for.
        motion_unknown: those of which nothing is known, such as key frames.
        bad: for each bad sample (path, reason, how many of its clips were replaced or left out).
        fallbacks: for each reason why PyAV decoded clips that DALI was asked for: (one of the files, how many clips).
        by_dali: clips that DALI decoded.
        by_share: clips that DALI could have decoded, as far as is known, but PyAV did on the CPU (``cpu_share``).
        cpu_share: the share that "auto" chose, or a loaded state says; None before, and with a share that was given.
        compared: clips of DALI that were compared with PyAV's, and were right (``verify``).
        compared_still: those in which too little moves to show that no frame is in another's place.
        wrong: codings that DALI was found to decode wrongly, and so decodes no longer, with what was wrong.
        decode_batch: how many clips DALI decodes at once since memory ran out; None: it did not.
        requests, bytes_fetched, bytes_cached: reads of objects, their bytes, and bytes that were in the cache.
        frames_with_short_gops: about how many would have been decoded if every 16th were a key frame.
        loads: how often clips of a video were loaded; those that are decoded together count once.
        slowest: the files that took longest to be loaded, five at most: seconds that passed, by path, slowest first. Of
            a file that does not answer: the timeout.
        workers_died: processes that loaded clips, died and were replaced.
        num_threads: threads that load clips.
        elapsed_seconds: since the loader began its first batch.
    """

    batches: int = 0
    clips: int = 0
    frames_decoded: int = 0
    frames: int = 0
    padded: int = 0
    frames_repeated: int = 0
    untimed: int = 0
    repeated: int = 0
    skipped: int = 0
    boxes: int = 0
    boxes_dropped: int = 0
    boxes_covered: int = 0
    motion_frames: int = 0
    motion_unknown: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    bad: dict[int, tuple[str, str, int]] = field(default_factory=dict)
    fallbacks: dict[str, tuple[str, int]] = field(default_factory=dict)
    by_dali: int = 0
    by_share: int = 0
    cpu_share: float | None = None
    compared: int = 0
    compared_still: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    decode_batch: int | None = None
    requests: int = 0
    bytes_fetched: int = 0
    bytes_cached: int = 0
    frames_with_short_gops: float = 0.0
    loads: int = 0
    slowest: dict[str, float] = field(default_factory=dict)
    workers_died: int = 0
    num_threads: int = 1
    elapsed_seconds: float = 0.0

    @property
    def replaced(self) -> int:
        """How many clips were replaced."""
        return sum(count for _, _, count in self.bad.values()) - self.skipped

    @property
    def verdict(self) -> str:
        """Who waits for whom, the loop or the loader, and what would help: a sentence or two; "" before a second batch.

        The time before a first batch does not count, nor what is done between two loops.
        """
        seconds = {name: self.seconds.get(name, 0.0) for name in _STAGES}
        waited = max(0.0, seconds["wait"] - seconds["first"])
        total = waited + seconds["loop"]
        if not (seconds["loop"] and total):
            return ""
        text = f"the loop waited {waited:.1f} of {total:.1f} s for batches"
        if waited <= _WAIT_MAX * total:
            return (
                f"{text}: the loop is the limit. The loader waited {seconds['ahead']:.1f} s for it; a faster one would "
                "change nothing"
            )
        loading, total = sum(seconds[name] for name in _LOADING), total + seconds["first"]
        graph, dali = (min(1.0, seconds[name] / total) for name in ("graph", "dali"))
        busy = loading / self.num_threads / total
        text += ": the loader is the limit. "
        if graph >= _GRAPH_BUSY:
            return f"{text}the ops ran {graph:.0%} of the time: fewer or cheaper ops, smaller clips (docs/tuning.md)"
        if dali >= _GRAPH_BUSY:
            text += f"DALI's decoder was waited for {dali:.0%} of the time"
            return f"{text}: smaller videos, shorter GOPs, cpu_share='auto' (docs/tuning.md)"
        most = max(_LOADING, key=lambda name: seconds[name])
        text += f"{seconds[most] / (loading or 1.0):.0%} of the work of its threads is {_LOADING[most]}"
        if most == "decode" and self.frames_decoded >= _GOP_WASTE * self.frames_with_short_gops:
            ratio = self.frames_decoded / max(self.frames, 1)
            text += f", {ratio:.1f} frames for each that is used: shorter GOPs, smaller videos, more cores"
        else:
            text += ": smaller videos, more cores"
        if busy < _THREADS_IDLE:
            text += (
                f". But these {self.num_threads} threads computed for {busy:.0%} of the time only: they waited for "
                "storage, or for cores that others use"
            )
        return f"{text} (docs/tuning.md)"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __str__(self) -> str:
        rate = self.clips / self.elapsed_seconds if self.elapsed_seconds else 0.0
        frames = self.frames_decoded / self.elapsed_seconds if self.elapsed_seconds else 0.0
        work = {name: s for name, s in self.seconds.items() if name in (*_LOADING, "dali", "graph")}
        total = sum(work.values()) or 1.0
        lines = [
            f"{self.batches} batch{'es' * (self.batches != 1)}, {self.clips} clips ({rate:.1f} per second), "
            f"{self.frames_decoded} frames decoded ({frames:.0f} per second), {self.elapsed_seconds:.1f} s",
            *(["work: " + ", ".join(f"{name} {s / total:.0%}" for name, s in work.items())] if work else []),
            *([self.verdict] if self.verdict else []),
            f"replaced clips: {self.replaced}",
        ]  # fmt: skip
        if self.skipped:
            lines.append(f"clips left out: {self.skipped}, of {len(self.bad)} videos")
        if self.padded:
            lines.append(
                f"padded clips: {self.padded} ({self.padded / self.clips:.0%}); "
                f"{self.frames_repeated / self.frames:.0%} "
                "of all frames are another one again, because videos are too short for the sampling, or ops repeat "
                "frames"
            )
        if self.untimed:
            lines.append(f"videos without usable time stamps, sampled by their average frame rate: {self.untimed}")
        if self.workers_died:
            lines.append(f"decoding processes that died and were replaced: {self.workers_died}")
        if self.repeated:
            lines.append(f"clips that came again to make the ranks even: {self.repeated}")
        if self.boxes or self.boxes_dropped or self.boxes_covered:
            lines.append(
                f"boxes: {self.boxes}; {self.boxes_dropped} more were dropped, too little of them is in the frame, and "
                f"{self.boxes_covered} are covered by clips that are mixed in"
            )
        if self.motion_frames:
            share = self.motion_unknown / self.motion_frames
            lines.append(f"motion: {self.motion_frames} frames; of {share:.0%} nothing is known (docs/motion.md)")
        lines += self._decoders()
        if self.decode_batch is not None:
            lines.append(f"memory ran out while DALI decoded: since then it decodes {self.decode_batch} clips at once")
        if self.requests or self.bytes_cached:
            lines.append(
                f"objects: {self.requests} requests, {self.bytes_fetched / 1e6:.1f} MB, {self.bytes_cached / 1e6:.1f} "
                f"MB more from the cache; batches waited {self.seconds.get('fetch', 0.0):.1f} s (docs/storage.md)"
            )
        lines += [f"  sample {i}, {n}x: {path}: {why}" for i, (path, why, n) in sorted(self.bad.items())]
        lines += [
            f"decoded by PyAV: {n} clips, for example of {path}: {why}"
            for why, (path, n) in sorted(self.fallbacks.items(), key=lambda item: -item[1][1])[:_REASONS_SHOWN]
        ]
        if len(self.fallbacks) > _REASONS_SHOWN:
            lines.append(f"and for {len(self.fallbacks) - _REASONS_SHOWN} more reasons, all in report().fallbacks")
        if self.slowest:
            mean = self.seconds.get("load", 0.0) / max(self.loads, 1)
            lines.append(f"slowest files ({mean:.3f} s on average, waiting included):")
            lines += [f"  {seconds:.3f} s: {path}" for path, seconds in self.slowest.items()]
        return "\n".join(lines)

    def _decoders(self):
        """Lines on what DALI has decoded, and PyAV in its place."""
        lines = []
        if self.by_share or self.cpu_share is not None:
            chosen = "" if self.cpu_share is None else f"; 'auto' chose {self.cpu_share:g}"
            of = self.by_dali + self.by_share
            lines.append(f"clips that PyAV decoded because of cpu_share: {self.by_share} of {of}{chosen}")
        if self.compared or self.wrong:
            lines.append(
                f"clips of DALI that were compared with PyAV's and are right: {self.compared}; of these, "
                f"{self.compared_still} are too still to show the order of their frames"
            )
            lines += [f"  not decoded by DALI: {coding}: {why}" for coding, why in self.wrong.items()]
        return lines
