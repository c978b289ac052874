"""What works for a loader in the background: the pool that loads clips, and the producer of batches."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import partial

from dali_vidaug.counting import RunningReport
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.errors import printable
from dali_vidaug.fetching import FetchingPool
from dali_vidaug.make import Maker
from dali_vidaug.makers import Makers
from dali_vidaug.media.video import Video
from dali_vidaug.plan import Plan
from dali_vidaug.producer import Produced, Producer
from dali_vidaug.schedule import Schedule
from dali_vidaug.settings import Settings
from dali_vidaug.share import Share
from dali_vidaug.stages import Stages
from dali_vidaug.threads import name_pool_errors, open_pool
from dali_vidaug.trust import Trust

_NAMED_MAX = 5  # videos in a warning

log = logging.getLogger("dali_vidaug")


class Background:
    """The pool and the producer of a loader, made when they are needed.

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
            maker.decode(pending)
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
