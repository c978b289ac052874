"""Makes batches ahead of the training loop: threads that decode, and one that feeds the DALI graph."""

import logging
import multiprocessing
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import av
import torch

from dali_vidaug.clip import ClipError, fault, load_clip, make_graph, num_folded
from dali_vidaug.cut import reason
from dali_vidaug.graph import Encoded
from dali_vidaug.plan import Plan, draw_plan
from dali_vidaug.rng import Draws

REPLACEMENTS_MAX = 20  # attempts for one place of a batch; then something is wrong with the data set, not with a clip

log = logging.getLogger("dali_vidaug")


@dataclass
class Produced:
    """A batch as it leaves the graph: ``clips`` is DALI's tensor list."""

    epoch: int
    index: int
    plan: Plan
    clips: Any


class _Threads:
    """Threads that work through jobs, in order.

    Unlike concurrent.futures' they are daemons: at its end a program waits for the clips in the making, not for all
    that are queued.
    """

    def __init__(self, count):
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._threads = [
            threading.Thread(target=self._work, name=f"dali_vidaug-decode-{i}", daemon=True) for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function, *arguments) -> Future:
        future: Future = Future()
        with self._lock:
            if self._closed:
                future.cancel()
            else:
                self._jobs.put((future, function, arguments))
        return future

    def _work(self):
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)
            del job, future, arguments  # the result is not held until the next job comes

    def shutdown(self, wait=True, cancel_futures=False):
        with self._lock:
            if not self._closed:
                self._closed = True
                while cancel_futures and not self._jobs.empty():
                    try:
                        self._jobs.get_nowait()[0].cancel()
                    except queue.Empty:
                        break
                for _ in self._threads:
                    self._jobs.put(None)
        for thread in self._threads if wait else ():
            thread.join()


class Producer:
    """Batches of a schedule from (epoch, index) on, without end.

    Threads: ``num_threads`` (or ``workers`` processes) load clips; one runs the graph. They work up to ``prefetch``
    batches ahead of the last one taken, and through the end of an epoch into the next.
    """

    def __init__(self, manifest, recipe, schedule, settings, report, epoch, index):
        self._manifest, self._recipe, self._schedule, self._settings = manifest, recipe, schedule, settings
        self._report = report
        self.next_position = (epoch, index)  # of the batch that next() gives
        self._folded = num_folded(recipe, settings)
        self._graph: Any = None
        self._retry_graph: Any = None
        # One for each batch that may be under way: whoever takes a batch waits for its stream, and so for it alone.
        count = settings.prefetch + 2
        on_gpu = settings.device == "gpu"
        self._streams = deque(torch.cuda.Stream(settings.device_id) if on_gpu else None for _ in range(count))
        self._room = threading.Semaphore(settings.prefetch)
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._stop = threading.Event()
        if settings.workers:
            context = multiprocessing.get_context("forkserver")
            self._pool: Any = ProcessPoolExecutor(settings.workers, context)
        else:
            self._pool = _Threads(settings.num_threads)
        self._thread = threading.Thread(target=self._run, name="dali_vidaug-graph", daemon=True)
        self._thread.start()

    def next(self):
        """The next batch.

        Raises:
            ClipError: a clip is bad and ``on_error`` is "raise", or too many replacements are bad too.
        """
        started = time.perf_counter()
        item = self._ready.get()
        self._report.add_seconds("wait", time.perf_counter() - started)
        if isinstance(item, BaseException):
            self._ready.put(item)  # for whoever asks again
            raise item
        self._room.release()
        self.next_position = _following(item.epoch, item.index, self._schedule)
        return item

    def close(self):
        """Stop the threads and wait for them. Clips that are being decoded are finished and dropped."""
        self._stop.set()
        self._room.release()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._pool.shutdown(wait=True)

    def _run(self):
        try:
            self._produce()
        except BrokenProcessPool as error:
            died = RuntimeError(
                "a decoding process died. If that was at once: programs that use workers > 0 must start under "
                "if __name__ == '__main__':"
            )
            died.__cause__ = error
            self._ready.put(died)
        except BaseException as error:  # goes to the thread that asks for the batch
            self._ready.put(error)
        finally:
            self._graph = self._retry_graph = None

    def _produce(self):
        position = self.next_position
        started: deque = deque()
        while not self._stop.is_set():
            while len(started) <= self._settings.prefetch:
                started.append(self._start(*position))
                position = _following(*position, self._schedule)
            self._room.acquire()
            if self._stop.is_set():
                break
            self._ready.put(self._finish(*started.popleft()))
        for _, _, _, jobs in started:
            for job in jobs:
                job.cancel()

    def _start(self, epoch, index):
        samples = self._schedule.batch(epoch, index)
        number = index * self._schedule.num_shards + self._schedule.shard_index
        plan = draw_plan(self._manifest, self._recipe, samples, self._schedule.seed, epoch, batch=number)
        return epoch, index, plan, [self._submit(plan, i) for i in range(len(plan))]

    def _submit(self, plan, i, decoder=None) -> Future:
        video = self._manifest.video(int(plan.samples[i]))
        steps = [plan.args[name][i] for name in self._recipe.names[: self._folded]]
        decoder, why = (decoder, None) if decoder else self._settings.decoder_of(video)
        return self._pool.submit(load_clip, decoder, self._settings.device, video, plan.frames[i], steps, why)

    def _finish(self, epoch, index, plan, jobs):
        """Wait for the clips of a batch, replace the bad ones, run the graph."""
        media: list = [None] * len(jobs)
        for i, job in enumerate(jobs):
            plan, _ = self._collect(plan, i, job, media, plan.row(i), 0)
        before = time.perf_counter()
        try:
            if self._graph is None:
                self._graph = self._make_graph(plan)
            clips = self._run_graph(self._graph, plan, media)
            self._retry_graph = None  # its memory is of use to others
        except RuntimeError as error:
            plan, clips = self._run_again(plan, media, error)
        self._report.add_seconds("graph", time.perf_counter() - before)
        self._report.add_batch(len(plan))
        return Produced(epoch, index, plan, clips)

    def _run_graph(self, graph, plan, media):
        """Run a batch; on a GPU without waiting for it: its result is ready on a stream that no other batch is on."""
        self._streams.rotate()
        return graph.run(plan, media, self._streams[0])

    def _make_graph(self, plan):
        rotated, size = self._manifest.any_rotated(), self._schedule.batch_size
        return make_graph(self._recipe, plan, self._settings, size, rotated=rotated, folded=self._folded)

    def _collect(self, plan, i, job, media, origin, attempt):
        """Put clip ``i`` into ``media``, or another one in its place.

        Args:
            plan, i, job, media: of the batch, the place in it, the clip in the making, where it goes.
            origin: the plan of the clip that was wanted first.
            attempt: how many replacements for it there were.

        Returns:
            The batch's plan with what was taken, and how many replacements there are now.
        """
        while True:
            try:
                loaded = job.result()
                media[i] = loaded.media
                self._report.add_clip(loaded.num_decoded, loaded.seconds)
                if loaded.fallback:
                    self._report.add_fallback(self._manifest.path(int(plan.samples[i])), loaded.fallback)
                return plan, attempt
            except (OSError, ValueError, EOFError, av.error.FFmpegError) as error:
                plan, job = self._replace(plan, i, origin, attempt, reason(error), error)
                attempt += 1

    def _replace(self, plan, i, origin, attempt, why, error):
        """Another sample in place of a bad clip, drawn at the bad clip's address: the plan with it, and its job."""
        bad = plan.row(i)
        path = self._manifest.path(int(bad.samples[0]))
        if self._settings.on_error == "raise" or attempt == REPLACEMENTS_MAX:
            if attempt:
                why = f"{why} (the last of {attempt} replacements for sample {origin.samples[0]}, all bad)"
            raise ClipError(path, bad, why) from error
        self._report.add_bad(int(bad.samples[0]), path, bad.epoch, why)
        draws = Draws(origin.seed, origin.epoch, origin.samples, origin.view, "replacement")
        samples = plan.samples.copy()
        samples[i] = draws.integers(f"sample.{attempt}", len(self._manifest))[0]
        # the other clips' plans do not depend on this one's
        plan = draw_plan(self._manifest, self._recipe, samples, plan.seed, plan.epoch, plan.view, plan.batch)
        return plan, self._submit(plan, i)

    def _run_again(self, plan, media, error):
        """DALI fails a whole batch for one clip: find the bad ones, each alone, and run once more without them.

        What DALI cannot decode is given to PyAV where the settings allow it, and else replaced.
        """
        if not any(isinstance(m, Encoded) for m in media):
            raise error
        if self._retry_graph is None:
            self._retry_graph = self._make_graph(plan)
        for i in range(len(plan)):
            origin, attempt = plan.row(i), 0
            while why := fault(self._retry_graph, plan.row(i), media[i]):
                if self._settings.decoder == "hybrid":
                    self._report.add_fallback(self._manifest.path(int(plan.samples[i])), why)
                    job = self._submit(plan, i, "pyav")
                else:
                    plan, job = self._replace(plan, i, origin, attempt, why, error)
                    attempt += 1
                # faults of reading and of PyAV are handled there; it ends, as attempts are counted on
                plan, attempt = self._collect(plan, i, job, media, origin, attempt)
        return plan, self._run_graph(self._retry_graph, plan, media)


def _following(epoch, index, schedule):
    return (epoch, index + 1) if index + 1 < schedule.num_batches else (epoch + 1, 0)
