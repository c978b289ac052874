"""Makes batches ahead of the training loop, in order, in threads of its own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from dali_vidaug.boxes import Boxes
from dali_vidaug.counting import RunningReport
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.drawing import draw_plan
from dali_vidaug.errors import printable
from dali_vidaug.fetching import FetchingPool
from dali_vidaug.make import Maker
from dali_vidaug.makers import Makers
from dali_vidaug.media.video import Video
from dali_vidaug.pending import Pending
from dali_vidaug.plan import Plan
from dali_vidaug.schedule import Schedule
from dali_vidaug.settings import Settings
from dali_vidaug.share import Share
from dali_vidaug.stages import Stages
from dali_vidaug.threads import name_pool_errors, open_pool
from dali_vidaug.trust import Trust

_NAMED_MAX = 5  # videos in a warning

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
    """A batch whose clips are being loaded."""

    epoch: int
    batch_index: int
    pending: Pending


class Producer:
    """The batches of a schedule from (epoch, index) on, without end.

    One thread draws plans and has the pool of the makers load their clips; another waits for the clips of each batch,
    in order, and runs the graph. Both go through the end of an epoch, or of a stage, into the next. Up to ``prefetch``
    batches are ready, and 2 * prefetch + 1 under way, the ready ones included. So a clip that takes long holds up its
    own batch; the pool loads those of the 2 * prefetch batches behind it meanwhile.
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
        self._room, self._shelf = threading.Semaphore(2 * settings.prefetch + 1), threading.Semaphore(settings.prefetch)
        self._begun: queue.SimpleQueue = queue.SimpleQueue()
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._unfinished: deque[Pending] = deque()  # the first may be in the making
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [
            threading.Thread(target=self._begin, name="dali_vidaug-plan", daemon=True),
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
        self._room.release()
        self._shelf.release()
        self._begun.put(None)
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

    def _run(self):
        try:
            with name_pool_errors():
                self._produce()
        except BaseException as error:  # goes to the thread that asks for the batch
            self._ready.put(error)
        finally:
            self._makers.close()

    def _produce(self):
        while True:
            started = self._begun.get()
            if isinstance(started, BaseException):
                raise started
            before = time.perf_counter()
            self._shelf.acquire()
            if self._stop.is_set():
                return
            self._report.add_seconds("ahead", time.perf_counter() - before)
            produced = self._finish(*started)
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
        self._makers.free_others(epoch, index)
        maker = self._makers.of(epoch, index)
        plan, clips = maker.finish(pending, self._streams[0])
        repeated = self._schedule.repeated(epoch, index)[pending.kept]
        self._report.add_repeated(int(repeated.sum()))
        plan, motion = maker.motion(pending)
        boxes, wrong = maker.boxes(plan), maker.trust.wrong
        return Produced(epoch, index, plan, clips, repeated, pending.skipped, boxes, motion, wrong)


class Background:
    """What works for a loader in the background: the pool that loads clips, and the producer.

    Args:
        report: what is done is counted there.

    Attributes:
        trust: what is known of DALI's decoder.
        share: which of its clips PyAV decodes.
    """

    def __init__(self, report: RunningReport):
        self._report, self._lock, self.trust, self.share = report, threading.Lock(), Trust(report), Share(report)
        self._pool: FetchingPool | None = None
        self._producer: Producer | None = None

    def next(
        self, manifest: Manifest, stages: Stages, settings: Settings, schedule: Schedule, position: tuple[int, int]
    ) -> Produced:
        """The batch at a position, epoch and index, of a schedule; those after it are made ahead.

        Raises:
            ClipError, RuntimeError: as ``Producer.next``.
        """
        producer = self._producer
        if producer is None or not producer.is_at(schedule, position):
            self._stop_producer()
            makers = Makers(partial(self._maker, manifest, settings), stages, schedule)
            makers.of(*position)  # a pool that cannot be opened raises here
            self._producer = producer = Producer(makers, schedule, settings, self._report, *position)
        try:
            return producer.next()
        except BaseException:
            self.close()
            raise

    def make(self, manifest: Manifest, settings: Settings, plan: Plan) -> Produced:
        """The batch of a plan, now.

        Raises:
            ClipError, RuntimeError, TypeError, ValueError: as ``VideoLoader.apply``.
        """
        settings = replace(settings, on_error="raise", cpu_share=self.share.at(settings.cpu_share, plan))
        maker = self._maker(manifest, settings, plan.recipe, len(plan))
        with name_pool_errors():
            pending = maker.start(plan)
            plan, clips = maker.finish(pending, settings.stream())
            boxes = maker.boxes(plan)
            plan, motion = maker.motion(pending)
        return Produced(plan.epoch, -1, plan, clips, boxes=boxes, motion=motion)

    def _maker(self, manifest, settings, recipe, size):
        with self._lock:
            if self._pool is None:
                pool = open_pool(settings.num_threads, settings.workers, settings.timeout, self._report.add_died)
                self._pool = FetchingPool(pool, settings.storage)
            self._report.start(self._pool.num_threads)
            return Maker(manifest, recipe, settings, size, self._report, self._pool, self.trust, self.share)

    def _stop_producer(self):
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def close(self) -> None:
        """Stop everything. Videos that are being loaded are waited for, but a second at most."""
        self._stop_producer()
        with self._lock:
            pool, self._pool = self._pool, None
        left = pool.shutdown(cancel_futures=True) if pool is not None else ()
        if left:
            paths = sorted({printable(x.path) for arguments in left for x in arguments if isinstance(x, Video)})
            more = f" and {len(paths) - _NAMED_MAX} more" if len(paths) > _NAMED_MAX else ""
            named = ", ".join(paths[:_NAMED_MAX])
            log.warning("closed; threads are left that wait for files since seconds: %s%s", named, more)
