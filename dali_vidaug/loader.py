"""The torch iterator: batches of augmented clips, epoch after epoch."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dali_vidaug.batch import Batch, make_batch
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.make import Maker
from dali_vidaug.plan import PLAN_VERSION, Plan, draw_frames, draw_ops
from dali_vidaug.producer import Produced, Producer
from dali_vidaug.recipe import Recipe
from dali_vidaug.report import Report, RunningReport
from dali_vidaug.rng import MAX_EPOCH, Draws
from dali_vidaug.schedule import Schedule
from dali_vidaug.settings import find_shard, make_settings
from dali_vidaug.threads import name_pool_errors, open_pool

log = logging.getLogger("dali_vidaug")


class VideoLoader:
    """Streams augmented clips of a manifest's videos as torch tensors.

    Iterating gives the batches of one epoch; the next ``for`` continues with the next epoch. Batches are made ahead in
    the background, through the end of an epoch too, and are the same, bit for bit, for any number of threads.

    Args:
        manifest: the videos.
        recipe: how clips are sampled and augmented.
        batch_size: samples in a batch of this shard; with a sampler that makes several clips of each, a batch has
            ``batch_size * recipe.num_clips`` clips, those of one sample next to each other.
        seed: of everything random, [0, 2**64).
        device: "cpu", "gpu", or "auto": the GPU if there is one.
        decoder: "dali" (NVDEC on a GPU; VP8, VP9 and MJPEG without), "pyav" (everything that FFmpeg decodes, on the
            CPU), "hybrid": dali for each clip that it decodes correctly, pyav for the others; or "auto": hybrid on a
            GPU, otherwise pyav.
        shuffle: a new order in each epoch, or the manifest's.
        drop_last: skip the last batches of an epoch that are not full.
        num_shards, shard_index: share the epoch with other ranks. Default: those of torch.distributed when it is
            initialised, otherwise the environment's WORLD_SIZE and RANK, otherwise one shard.
        num_threads: decoding threads, DALI's threads, and those of the kernels on the CPU; default: the cores that this
            process may use.
        workers: processes that read and decode; 0: the threads of this one.
        prefetch: batches made ahead, >= 1.
        dtype: of normalised clips: "float32" or "float16".
        on_error: "replace": a clip that cannot be decoded is replaced by another, logged, and named in ``report()``;
            "raise": it raises ``ClipError``.
        resize_in_decoder: with pyav, do the recipe's leading crops and scalings together with the conversion to RGB,
            which is faster than DALI; False: decode whole frames and leave all ops to DALI.

    Attributes:
        manifest, recipe: as given.
        schedule: which samples make up which batch.
        settings: the other options, checked; may be replaced before the first batch, or after ``close()``.

    Raises:
        ValueError: an option is out of range, or the recipe does not suit the videos.
    """

    def __init__(
        self, manifest: Manifest, recipe: Recipe, batch_size: int, *, seed: int = 0, device: str = "auto",
        decoder: str = "auto", shuffle: bool = True, drop_last: bool = True, num_shards: int | None = None,
        shard_index: int | None = None, num_threads: int | None = None, workers: int = 0, prefetch: int = 2,
        dtype: str = "float32", on_error: str = "replace", resize_in_decoder: bool = True,
    ):  # fmt: skip
        if not isinstance(recipe, Recipe):
            raise ValueError(f"VideoLoader: recipe must be a Recipe, got {recipe!r}")
        if not len(manifest):
            raise ValueError("VideoLoader: the manifest has no videos")
        self.manifest, self.recipe = manifest, recipe
        shard = find_shard(num_shards, shard_index)
        self.schedule = Schedule(len(manifest), batch_size, seed, shuffle, drop_last, *shard, recipe.num_clips)
        _check_sizes(manifest, recipe, seed)
        self.settings = make_settings(  # last, because it registers the sizes that go to NVDEC
            device=device, decoder=decoder, num_threads=num_threads, workers=workers, prefetch=prefetch, dtype=dtype,
            on_error=on_error, resize_in_decoder=resize_in_decoder, formats=manifest.formats(),
        )  # fmt: skip
        self._report = RunningReport()
        self._background = _Background()
        weakref.finalize(self, self._background.close)
        self._position = (0, 0)  # of the next batch
        self._begins_here = True  # the next loop begins at _position, even in the middle of an epoch
        self._resumed_epoch: int | None = None  # the epoch of a loaded state, until a loop continues it

    @property
    def device(self) -> str:
        """ "cpu" or "gpu"."""
        return self.settings.device

    @property
    def decoder(self) -> str:
        """ "dali", "pyav" or "hybrid"."""
        return self.settings.decoder

    @property
    def num_threads(self) -> int:
        """Decoding threads."""
        return self.settings.num_threads

    def __len__(self) -> int:
        """Batches per epoch of this shard."""
        return self.schedule.num_batches

    def __repr__(self) -> str:
        s = self.settings
        return (
            f"<VideoLoader: {len(self.manifest)} videos, {len(self)} batches of {self.schedule.batch_size} per epoch, "
            f"shard {self.schedule.shard_index} of {self.schedule.num_shards}, device {s.device}, decoder {s.decoder}>"
        )

    def __iter__(self) -> Iterator[Batch]:
        epoch, index = self._position
        if index and not self._begins_here:  # the loop before this one was left early
            self._position = epoch, index = epoch + 1, 0
        self._begins_here, self._resumed_epoch = False, None
        while self._position[0] == epoch:
            yield self._next()

    def _next(self):
        self._report.start()
        producer = self._background.producer
        if producer is None or producer.next_position != self._position:
            self._background.stop_producer()
            size = self.schedule.batch_size * self.recipe.num_clips
            pool = self._background.open_pool(self.settings)
            maker = Maker(self.manifest, self.recipe, self.settings, size, self._report, pool)
            producer = Producer(maker, self.schedule, self.settings, *self._position)
            self._background.producer = producer
        try:
            made = producer.next()
        except BaseException:
            self.close()
            raise
        self._position = producer.next_position
        return self._batch(made)

    def _batch(self, made):
        clips = torch.from_dlpack(made.clips.as_tensor())
        targets = self.manifest.targets(made.plan.samples)
        return make_batch(clips, targets, made.plan, made.batch_index, self.manifest)

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop give epoch ``epoch``, from its start.

        Directly after ``load_state_dict`` of a state in the middle of this epoch it has no effect: the next loop gives
        the rest of the epoch. So a training loop may call it before every epoch, also after resuming.

        Raises:
            ValueError: epoch is not in [0, 2**24).
        """
        if not 0 <= epoch < MAX_EPOCH:
            raise ValueError(f"VideoLoader: epoch must be in [0, 2**24), got {epoch}")
        if epoch == self._resumed_epoch:
            return
        if self._resumed_epoch is not None and self._position[1]:
            log.warning(
                "set_epoch(%d) drops the position of the loaded state, batch %d of epoch %d", epoch,
                self._position[1], self._resumed_epoch,
            )  # fmt: skip
        self._position, self._begins_here, self._resumed_epoch = (int(epoch), 0), True, None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: what ``load_state_dict`` needs to continue with the next batch, exactly.

        The state is the same for all shards.
        """
        return {"epoch": self._position[0], "batch": self._position[1], **self._identity()}

    def _identity(self):
        s = self.schedule
        return {
            "plan_version": PLAN_VERSION,
            "seed": s.seed,
            "num_samples": s.num_samples,
            "batch_size": s.batch_size,
            "num_shards": s.num_shards,
            "shuffle": s.shuffle,
            "drop_last": s.drop_last,
            "recipe": repr(self.recipe),
            "num_clips": self.recipe.num_clips,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken: the next loop gives the rest of its epoch.

        Raises:
            ValueError: the state is of a loader with other options, which would give other batches.
        """
        mine = self._identity()
        missing = [k for k in ("epoch", "batch", *mine) if k not in state]
        if missing:
            raise ValueError(f"VideoLoader: the state lacks {', '.join(missing)}")
        other = [f"{k} is {mine[k]!r}, the state's {state[k]!r}" for k in mine if state[k] != mine[k]]
        if other:
            raise ValueError(f"VideoLoader: the state is of another loader: {'; '.join(other)}")
        self._position, self._begins_here = (state["epoch"], state["batch"]), True
        self._resumed_epoch = state["epoch"]

    def report(self) -> Report:
        """What was done so far: counts, time by stage, and every clip that was replaced."""
        return self._report.snapshot()

    def apply(self, plan: Plan) -> Batch:
        """Make the batch of a plan, as it is: for replaying a saved or edited one.

        Returns:
            A batch whose index is -1.

        Raises:
            ClipError: a clip cannot be decoded.
            RuntimeError: a decoding process died, or the loader was closed meanwhile.
            TypeError, ValueError: the plan does not suit the manifest, or contradicts itself.
        """
        self._report.start()
        settings = replace(self.settings, on_error="raise")
        pool = self._background.open_pool(self.settings)
        maker = Maker(self.manifest, plan.recipe, settings, len(plan), self._report, pool)
        try:
            with name_pool_errors():
                plan, clips = maker.finish(maker.start(plan), settings.stream())
        except RuntimeError as error:
            if isinstance(error.__cause__, BrokenProcessPool):
                self.close()  # the next batch starts new processes
            raise
        return self._batch(Produced(plan.epoch, -1, plan, clips))

    def close(self) -> None:
        """Stop the background threads. The loader can be used again: it continues where it is."""
        self._background.close()

    def __enter__(self) -> VideoLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Background:
    """What a loader has started: the pool that loads clips, the producer of the current position."""

    def __init__(self):
        self._lock, self._pool = threading.Lock(), None
        self.producer: Producer | None = None

    def open_pool(self, settings):
        with self._lock:
            self._pool = self._pool or open_pool(settings.num_threads, settings.workers)
            return self._pool

    def stop_producer(self):
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.close()

    def close(self):
        self.stop_producer()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _check_sizes(manifest, recipe, seed):
    """Draw once for every frame size that occurs, so that a recipe that does not suit the videos fails here."""
    samples = manifest.unique_sizes()
    height, width = manifest.frame_sizes(samples)
    draws = Draws(seed, 0, samples)
    drawn = draw_frames(manifest, recipe, draws)
    if (drawn != np.floor(drawn)).any():
        raise ValueError(
            f"VideoLoader: {recipe.sampling!r} draws positions between two frames, such as "
            f"{drawn[drawn != np.floor(drawn)][0]:g}, which cannot be decoded yet"
        )
    _, frames, height, width = draw_ops(recipe, draws, drawn.shape[1], height, width)
    shapes = np.stack(np.broadcast_arrays(height, width, frames), 1)
    differs = (shapes != shapes[0]).any(1)
    if differs.any():
        (one, other), i = shapes[[0, differs.argmax()]].tolist(), int(differs.argmax())
        raise ValueError(
            f"VideoLoader: the recipe leaves clips of different sizes (height x width x frames), which cannot be "
            f"stacked: {'x'.join(map(str, one))} for {manifest.path(int(samples[0]))} but "
            f"{'x'.join(map(str, other))} for {manifest.path(int(samples[i]))}; add RandomResizedCrop, CenterCrop or "
            "Resize((height, width))"
        )
