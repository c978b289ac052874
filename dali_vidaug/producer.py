"""Makes batches ahead of the training loop, in order, in threads of its own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from dali_vidaug.boxes import Boxes
from dali_vidaug.counting import RunningReport
from dali_vidaug.drawing import draw_plan
from dali_vidaug.makers import Makers
from dali_vidaug.pending import Pending
from dali_vidaug.plan import Plan
from dali_vidaug.schedule import Schedule
from dali_vidaug.settings import Settings
from dali_vidaug.threads import name_pool_errors

log = logging.getLogger("dali_vidaug")


class Produced(NamedTuple):
    """A batch as it leaves the graph.

    Attributes:
        epoch, batch_index: its number.
        plan: of its clips.
        clips: DALI's tensor list; None where all clips were left out.
        repeated, skipped, boxes, motion: as for ``make_batch``.
        wrong: codings that DALI decodes wrongly, as was known when it was made: ``Trust.wrong``.
    """

    epoch: int
    batch_index: int
    plan: Plan
    clips: Any
    repeated: np.ndarray | None = None
    skipped: np.ndarray | None = None
    boxes: Boxes | None = None
    motion: np.ndarray | None = None
    wrong: Mapping[str, str] = MappingProxyType({})


class _Started(NamedTuple):
    """A batch whose clips are being loaded, or decoded."""

    epoch: int
    batch_index: int
    pending: Pending


class Producer:
    """The batches of a schedule from (epoch, index) on, without end.

    One thread draws plans and has the pool of the makers load their clips; a second waits for the clips of each batch,
    in order, and has DALI decode its part of them; a third runs the ops. All go through the end of an epoch, or of a
    stage, into the next. Up to ``prefetch`` batches are ready, and 2 * prefetch + 1 under way, the ready ones included;
    where DALI decodes, one more. So a clip that takes long holds up its own batch; the pool loads those of the
    2 * prefetch batches behind it meanwhile.
    """

    def __init__(
        self, makers: Makers, schedule: Schedule, settings: Settings, report: RunningReport, epoch: int, index: int
    ):  # fmt: skip
        self._makers, self._schedule, self._report = makers, schedule, report
        self.next_position = (epoch, index)  # of the batch that next() returns
        self._is_first = True  # the next batch; nothing is made ahead of it
        # One for each batch that may be unfinished: whoever takes a batch waits for its stream, and so for no other.
        count, on_gpu = settings.prefetch + 2, settings.device == "gpu"
        self._streams = deque(torch.cuda.Stream(settings.device_id) if on_gpu else None for _ in range(count))
        more = settings.decoder != "pyav"  # a batch is decoded while another one waits for the ops
        self._room = threading.Semaphore(2 * settings.prefetch + 1 + more)
        self._hatch, self._shelf = threading.Semaphore(1), threading.Semaphore(settings.prefetch)
        self._begun: queue.SimpleQueue = queue.SimpleQueue()
        self._decoded: queue.SimpleQueue = queue.SimpleQueue()
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._following: Any = None  # was taken from ``_begun`` ahead of its turn
        self._unfinished: deque[Pending] = deque()  # the first may be in the making
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [
            threading.Thread(target=self._begin, name="dali_vidaug-plan", daemon=True),
            threading.Thread(target=self._decode, name="dali_vidaug-decode", daemon=True),
            threading.Thread(target=self._run, name="dali_vidaug-graph", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def is_at(self, schedule: Schedule, position: tuple[int, int]) -> bool:
        """Whether ``next`` returns the batch at a position of a schedule."""
        return self._schedule is schedule and self.next_position == position

    def next(self) -> Produced:
        """The next batch.

        Raises:
            ClipError: a clip is bad and ``on_error`` is "raise", or too many replacements are bad too.
            RuntimeError: a decoding process cannot be started.
        """
        before = time.perf_counter()
        item = self._ready.get()
        for stage in ("wait", "first")[: 1 + self._is_first]:
            self._report.add_seconds(stage, time.perf_counter() - before)
        self._is_first = False
        if isinstance(item, BaseException):
            self._ready.put(item)  # for the next call
            if self._schedule.num_shards > 1:  # others may wait for this rank, and nobody can see which one it is
                log.error("shard %d of %d ends: %s", self._schedule.shard_index, self._schedule.num_shards, item)
            raise item
        self._shelf.release()
        self._room.release()
        self.next_position = self._schedule.following(item.epoch, item.batch_index)
        return item

    def close(self) -> None:
        """Stop the threads. Clips that are being loaded are not waited for: the pool finishes and drops them."""
        with self._lock:
            self._stop.set()
            for pending in self._unfinished:
                pending.cancel()
        for semaphore in (self._room, self._hatch, self._shelf):
            semaphore.release()
        self._begun.put(None)
        self._decoded.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _begin(self):
        try:
            position = self.next_position
            while True:
                self._room.acquire()
                if self._stop.is_set():
                    return
                started = self._start(*position)
                with self._lock:
                    self._unfinished.append(started.pending)
                    if self._stop.is_set():
                        started.pending.cancel()
                self._begun.put(started)
                position = self._schedule.following(*position)
        except BaseException as error:  # is raised in the place of this batch
            self._begun.put(error)

    def _decode(self):
        try:
            with name_pool_errors():
                while True:
                    self._hatch.acquire()  # one decoded batch waits for its ops, no more
                    if self._stop.is_set():  # what tells so in the queue may have been taken while looking ahead
                        return
                    started, self._following = self._following or self._begun.get(), None
                    if self._stop.is_set():
                        return
                    if isinstance(started, BaseException):
                        raise started
                    self._makers.free_other_decoders(started.epoch, started.batch_index)
                    maker = self._makers.of(started.epoch, started.batch_index)
                    maker.decode(started.pending, partial(self._look_ahead, maker))
                    self._decoded.put(started)
        except BaseException as error:  # is raised in the place of this batch
            self._decoded.put(self._to_raise(error))
        finally:
            self._makers.free_decoders()

    def _look_ahead(self, maker):
        """The batch after the one that is being decoded, if it is begun and the same maker's."""
        if self._following is None:
            with suppress(queue.Empty):
                self._following = self._begun.get_nowait()
        following = self._following
        if not isinstance(following, _Started) or self._makers.of(following.epoch, following.batch_index) is not maker:
            return None
        return following.pending

    def _run(self):
        try:
            with name_pool_errors():
                self._produce()
        except BaseException as error:  # goes to the thread that asks for the batch
            self._ready.put(self._to_raise(error))
        finally:
            self._makers.free_graphs()

    def _to_raise(self, error):
        """An error for another thread; after ``close`` a new one, which does not keep clips alive by its traceback."""
        return RuntimeError(str(error)) if self._stop.is_set() else error

    def _produce(self):
        while True:
            decoded = self._decoded.get()
            self._hatch.release()
            if isinstance(decoded, BaseException):
                raise decoded
            before = time.perf_counter()
            self._shelf.acquire()
            if self._stop.is_set():
                raise CancelledError  # for whoever waits for a batch
            self._report.add_seconds("ahead", time.perf_counter() - before)
            produced = self._finish(*decoded)
            with self._lock:
                self._unfinished.popleft()
            self._ready.put(produced)

    def _start(self, epoch, index):
        samples, views, repeat_index, groups = self._schedule.batch(epoch, index)
        maker, seed = self._makers.of(epoch, index), self._schedule.seed
        step = self._schedule.step_number(epoch, index)
        plan = draw_plan(maker.manifest, maker.recipe, samples, seed, epoch, views, groups, repeat_index, step)
        return _Started(epoch, index, maker.start(plan))

    def _finish(self, epoch, index, pending):
        """Make a batch; on a GPU without waiting for it: it will be ready on a stream that no other batch uses."""
        self._streams.rotate()
        self._makers.free_other_graphs(epoch, index)
        maker = self._makers.of(epoch, index)
        plan, clips = maker.finish(pending, self._streams[0])
        repeated = self._schedule.repeated(epoch, index)[pending.kept]
        self._report.add_repeated(int(repeated.sum()))
        plan, motion = maker.motion(pending)
        boxes = maker.boxes(plan)
        return Produced(epoch, index, plan, clips, repeated, pending.skipped, boxes, motion, pending.wrong)
