"""DALI's decoder at work: clips of one batch after another, in parts that fit into memory, some side by side."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import nvidia.dali.backend

from dali_vidaug.counting import RunningReport
from dali_vidaug.data.entry import plural
from dali_vidaug.decode_graph import DecodeGraph
from dali_vidaug.device.decode_memory import bytes_while_decoding, is_out_of_memory
from dali_vidaug.media.load import Encoded
from dali_vidaug.plan import Plan

log = logging.getLogger("dali_vidaug")
backend: Any = nvidia.dali.backend  # its stubs lack functions


@dataclass
class Job:
    """Clips of a batch that DALI decodes.

    Attributes:
        plan: of the batch.
        inputs: of all its clips; those that are ``Encoded`` are decoded.
        checked: positions of those whose decoded frames are looked at.
        decoded: the clips, by position, as far as they are done.
        frames: those of ``checked`` as they were decoded, (F, H, W, 3) uint8, by position.
        seconds: that its parts were waited for.
        left: parts that are not done.
        error: what went wrong; then the rest is not decoded.
    """

    plan: Plan
    inputs: Sequence[Any]
    checked: Sequence[int]
    decoded: dict[int, Any] = field(default_factory=dict)
    frames: dict[int, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    left: int = 0
    error: RuntimeError | None = None


@dataclass
class _Part:
    """Files that are decoded at once: clips by position, those of one file together; whether others ran beside."""

    job: Job
    files: list[list[int]]
    beside: bool = False


class Decoding:
    """DALI's decoder. All its methods are called in one thread.

    Several graphs decode side by side, so that the first clips of a part are decoded while the last ones of the part
    before are: otherwise engines would wait for the longest clip of each part, and for Python.

    Args:
        make_graph: makes one.
        num_graphs: how many parts are decoded side by side.
        files_max: in a part, whatever memory that takes; None: as memory allows.
        memory: bytes that all parts together should take while they are decoded.
        num_copies, on_gpu: as of ``bytes_while_decoding``.
        shares: the graphs do no ops: clips of the same file are the same, and decoded once.
        report: what happens is counted there.
    """

    def __init__(
        self, make_graph: Callable[[], DecodeGraph], num_graphs: int, files_max: int | None, memory: int,
        num_copies: int, on_gpu: bool, shares: bool, report: RunningReport,
    ):  # fmt: skip
        self._make_graph, self._num_graphs, self._report = make_graph, num_graphs, report
        self._files_max, self._memory, self._size = files_max, memory // num_graphs, (num_copies, on_gpu)
        self._shares, self._warned = shares, False
        self._fitted: int | None = None  # files in a part, after memory ran out
        self._free: list[DecodeGraph] = []
        self._waiting: deque[_Part] = deque()
        self._running: deque[tuple[DecodeGraph, _Part]] = deque()

    def submit(self, plan: Plan, inputs: Sequence[Any], checked: Sequence[int], first: bool = False) -> Job:
        """Have the encoded clips of a batch decoded; begins if a graph is free.

        Args:
            plan, inputs, checked: as of ``Job``.
            first: before all that waits.
        """
        job = Job(plan, inputs, checked)
        parts = [_Part(job, files) for files in self._cut(inputs)]
        job.left = len(parts)
        if first:
            self._waiting.extendleft(reversed(parts))
        else:
            self._waiting.extend(parts)
        self._start()
        return job

    def result(self, job: Job, when_free: Callable[[], object] = lambda: None) -> None:
        """Wait until a job is done.

        Args:
            job: of ``submit``.
            when_free: called while a graph has nothing to do; may submit the next job.

        Raises:
            RuntimeError: DALI could not decode a clip, or there was no memory even for one.
        """
        while job.left:
            self._start()
            if not self._waiting and len(self._running) < self._num_graphs:
                when_free()
            self._take()
        if job.error is not None:
            raise job.error

    def finish(self) -> None:
        """Wait for all jobs. What goes wrong is told by ``result``."""
        while self._running or self._waiting:
            self._start()
            self._take()

    def _start(self):
        while self._waiting and len(self._running) < self._num_graphs:
            part = self._waiting.popleft()
            clips = [file[0] for file in part.files]
            checked = [i for i in clips if i in part.job.checked]
            try:
                graph = self._free.pop() if self._free else self._make_graph()
                graph.start(part.job.plan, clips, [part.job.inputs[i] for i in clips], checked)
            except (RuntimeError, MemoryError) as error:
                part.beside = bool(self._running)
                self._failed(part, error)
                continue
            self._running.append((graph, part))
            for _, other in self._running:
                other.beside = len(self._running) > 1 or other.beside

    def _take(self):
        """Wait for the part that was begun first, if there is one."""
        if not self._running:
            return
        graph, part = self._running.popleft()
        job, before = part.job, time.perf_counter()
        try:
            clips, frames = graph.take()
        except (RuntimeError, MemoryError) as error:
            self._failed(part, error)
        else:
            job.decoded |= {i: clip for clip, same in zip(clips, part.files, strict=True) for i in same}
            job.frames |= frames
            job.left = max(job.left - 1, 0)  # others of its parts may still run when it has failed
        self._free.append(graph)
        job.seconds += time.perf_counter() - before
        self._report.add_seconds("dali", time.perf_counter() - before)

    def _failed(self, part, error):
        """A part is decoded again with less memory, if that is what it lacked; else its job ends."""
        job = part.job
        if job.error is not None:
            return
        if not (is_out_of_memory(error) and self._use_less(part)):
            self._waiting = deque(other for other in self._waiting if other.job is not job)
            job.left = 0
            job.error = error if isinstance(error, RuntimeError) else RuntimeError(f"out of memory: {error}")

    def _use_less(self, part):
        """After memory ran out: decode a part again, with none beside it, or else in two; False if it is one clip."""
        if part.beside:
            self._num_graphs, part.beside = 1, False
        elif len(part.files) == 1:
            return False
        else:
            self._fitted = min(-(-len(part.files) // 2), self._fitted or len(part.files))
        self._waiting.appendleft(part)
        if self._fitted is not None:
            self._waiting = deque(piece for other in self._waiting for piece in _pieces(other, self._fitted))
        backend.ReleaseUnusedMemory()
        self._report.add_smaller_part(self._fitted or len(part.files))
        return True

    def _cut(self, inputs) -> Iterator[list[list[int]]]:
        """Parts of a batch: in each, for each file the positions of its clips."""
        by_file: dict[int, list[int]] = {}
        for i, clip in enumerate(inputs):
            if isinstance(clip, Encoded):
                by_file.setdefault(id(clip) if self._shares else i, []).append(i)
        part, used = list[list[int]](), 0
        for clips in by_file.values():
            needs = self._bytes(inputs[clips[0]])
            is_full = used + needs > self._memory if self._files_max is None else len(part) >= self._files_max
            if part and (is_full or len(part) == self._fitted):
                yield self._told(part, used, inputs)
                part, used = [], 0
            part.append(clips)
            used += needs
        if part:
            yield self._told(part, used, inputs)

    def _bytes(self, clip):
        """What a clip takes while it is decoded."""
        width, height = clip.size or (clip.video.width, clip.video.height)
        return bytes_while_decoding(width, height, len(np.unique(clip.positions)), *self._size)

    def _told(self, part, needs, inputs):
        """A part, told of if it may be too large: before memory runs out, not only after."""
        if needs > self._memory and not self._warned:
            self._warned, video = True, inputs[part[0][0]].video
            what = plural(len(part), "clip"), f"{video.width}x{video.height}", needs / 2**30, self._memory / 2**30
            log.warning(
                "%s of sizes such as %s may take %.1f GiB while DALI decodes them at once, more than the %.1f GiB "
                "meant for that: memory may run out. A smaller decode_batch, fewer frames, or smaller videos "
                "(dali-vidaug transcode) need less", *what,
            )  # fmt: skip
        return part


def _pieces(part, size):
    """A part as smaller ones."""
    pieces = [_Part(part.job, part.files[i : i + size]) for i in range(0, len(part.files), size)]
    part.job.left += len(pieces) - 1
    return pieces
