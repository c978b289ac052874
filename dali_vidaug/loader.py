"""The torch iterator: batches of augmented clips, epoch after epoch."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import torch

from dali_vidaug.batch import Batch, as_tensor, make_batch, no_clips
from dali_vidaug.boxes import BoxRules
from dali_vidaug.data.given import open_manifest
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.fingerprint import fingerprint
from dali_vidaug.make import Maker
from dali_vidaug.media.object_options import Storage
from dali_vidaug.plan import Plan
from dali_vidaug.producer import Background, Produced, Producer
from dali_vidaug.ranks import check_shard, find_shard
from dali_vidaug.recipe import Recipe
from dali_vidaug.report import Report, RunningReport
from dali_vidaug.schedule import Schedule
from dali_vidaug.settings import make_settings
from dali_vidaug.state import Position, go_on, identity
from dali_vidaug.suitability import check_recipe, choose_file_check, choose_order, warn_of_short_videos
from dali_vidaug.threads import name_pool_errors

log = logging.getLogger("dali_vidaug")


class VideoLoader:
    """Streams augmented clips of a manifest's videos as torch tensors.

    Iterating gives the batches of one epoch; the next ``for`` continues with the next epoch, also when the one before
    was left early, but not after its first batch, which counts as a peek. An older iterator raises. Batches are made
    ahead in the background, through the end of an epoch too, and are the same, bit for bit, for any number of threads.
    A copy (also by pickle) goes on where the loader is.

    Args:
        manifest: the videos, or the file of a manifest.
        recipe: how clips are sampled and augmented.
        batch_size: samples in a batch of this shard, each of ``recipe.num_clips * repeats`` clips, which are next to
            each other.
        seed: of everything random, [0, 2**64).
        device: "cpu"; "gpu" or "cuda": torch's current GPU; "cuda:1": that one; or "auto": the GPU if there is one.
        decoder: "dali" (NVDEC on a GPU; VP8, VP9 and MJPEG without), "pyav" (all that FFmpeg decodes, on the CPU),
            "hybrid": dali for each clip that it decodes correctly, else pyav; or "auto": hybrid on a GPU, else pyav.
        shuffle, shards_at_a_time: a new order in each epoch, or the manifest's; within so many tar shards at a time.
        drop_last: skip the last batches of an epoch that are not full.
        num_shards, shard_index: share the epoch with other ranks. Default: those of torch.distributed if initialised,
            else of the program that started the process (torchrun, srun, mpirun, ...), else one shard. Found when the
            first batch, the length or the state is asked for.
        even: with ``drop_last=False``, all ranks have as many batches, of the same sizes, by repeating up to
            ``num_shards - 1`` samples of the beginning of the epoch (``batch.repeated``). Default: with several shards.
        num_threads: of decoding, DALI and the kernels on the CPU; default: the cores of this process: docs/tuning.md.
        workers: processes that read and decode; 0: the threads of this one.
        prefetch: batches made ahead, >= 1.
        dtype: of normalised clips: ``torch.float32``, ``torch.float16`` or ``torch.bfloat16``, or "float32" and so on.
        on_error: a clip that cannot be decoded is replaced by another ("replace"), left out of its batch, which may
            become empty ("skip", for validation), or raises ``ClipError`` ("raise"); logged, and named in ``report()``.
        timeout: seconds after which clips of a video, which are read and decoded together, count as such; None: never.
        check_files: what of a file is compared with the scanned one, besides its bytes at some places: "size_and_time"
            (of change), "size", nothing ("off"), or "auto": size_and_time, but size where nearly all files have another
            time, as after copying. A changed file is handled as ``on_error`` says.
        resize_in_decoder: with pyav, do leading crops and scalings with the conversion to RGB, faster than DALI does.
        color: "bt601": YUV becomes RGB by BT.601 whatever a file says, as in DALI; "file": by the matrix that it says.
        repeats: clips of the same frames, decoded once, which the ops augment differently: ``batch.repeat_index``.
        mix_group: ops mix clips within groups of so many samples, a divisor of ``batch_size``; default: all of a batch.
            With the same groups, any number of ranks makes the same clips.
        box_rules: which boxes stay where only a part is in the frame; default: ``dv.BoxRules()``.
        storage: how objects in buckets are read, ``dv.Storage(...)``: docs/storage.md.

    Attributes:
        manifest, recipe: as given.
        settings: the other options, checked; may be replaced before the first batch, or after ``close()``.

    Raises:
        ValueError: an option is out of range, or the recipe does not suit the videos.
    """

    def __init__(
        self, manifest: Manifest | str | os.PathLike[str], recipe: Recipe, batch_size: int, *, seed: int = 0,
        device: torch.device | str = "auto", decoder: str = "auto", shuffle: bool = True, drop_last: bool = True,
        num_shards: int | None = None, shard_index: int | None = None, even: bool | None = None,
        num_threads: int | None = None, workers: int = 0, prefetch: int = 2, dtype: torch.dtype | str = "float32",
        on_error: str = "replace", check_files: str = "auto", resize_in_decoder: bool = True, color: str = "bt601",
        repeats: int = 1, mix_group: int | None = None, box_rules: BoxRules | None = None, timeout: float | None = 300,
        storage: Storage | None = None, shards_at_a_time: int | None = None,
    ):  # fmt: skip
        if not isinstance(recipe, Recipe):
            raise ValueError(f"VideoLoader: recipe must be a Recipe, got {recipe!r}")
        manifest = open_manifest(manifest, "VideoLoader")
        if not len(manifest):
            raise ValueError("VideoLoader: the manifest has no videos")
        if even not in (None, True, False):
            raise ValueError(f"VideoLoader: even must be True, False or None, got {even!r}")
        options: Any = dict(
            device=device, decoder=decoder, num_threads=num_threads, workers=workers, prefetch=prefetch, dtype=dtype,
            on_error=on_error, check_files=choose_file_check(manifest, check_files, storage),
            resize_in_decoder=resize_in_decoder, color=color, box_rules=box_rules, timeout=timeout, storage=storage,
        )  # fmt: skip
        order: Any = dict(batch_size=batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last, repeats=repeats)
        order["mix_group"] = mix_group
        self.manifest, self.recipe = manifest, recipe
        given = dict(num_shards=num_shards, shard_index=shard_index, even=even, shards_at_a_time=shards_at_a_time)
        self._arguments = {**options, **order, **given}
        self._schedule: Schedule | None = None
        self._shard: Any = None  # once it is found
        order |= dict(num_clips=recipe.num_clips, shards=choose_order(manifest, shards_at_a_time, shuffle))
        self._order = Schedule(len(manifest), **order)  # of a single shard
        self._given = num_shards is not None or shard_index is not None  # else it finds its own shard
        _ = self.schedule if self._given else None
        self._shape, self._shared = check_recipe(manifest, recipe, self._order)
        self.settings = self._made_settings = make_settings(**options, formats=manifest.formats())  # last: for NVDEC
        warn_of_short_videos(manifest, recipe, seed)
        self._fingerprint: dict[str, str] | None = None
        self._report, self._background, self._position = RunningReport(), Background(), Position()
        weakref.finalize(self, self._background.close)

    @property
    def device(self) -> str:
        """ "cpu" or "gpu"."""
        return self.settings.device

    @property
    def schedule(self) -> Schedule:
        """Which samples make up which batch; finds the shard, if it was not given or found before."""
        return self._schedule or self._find_schedule()

    def _find_schedule(self) -> Schedule:
        number, mine, _ = self._shard = find_shard(self._arguments["num_shards"], self._arguments["shard_index"])
        even = number > 1 if self._arguments["even"] is None else self._arguments["even"]
        self._schedule = replace(self._order, num_shards=number, shard_index=mine, even=even)
        return self._schedule

    @property
    def epoch(self) -> int:
        """The epoch of the next batch; after a loop over all of an epoch, the one after it."""
        return self._position.next[0]

    def __len__(self) -> int:
        """Batches per epoch of this shard, all of them, also after resuming; finds the shard (see ``num_shards``)."""
        return self.schedule.num_batches

    def __repr__(self) -> str:
        s = self.settings
        return (
            f"<VideoLoader: {len(self.manifest)} videos, {len(self)} batches of {self.schedule.batch_size} per epoch, "
            f"shard {self.schedule.shard_index} of {self.schedule.num_shards}, device {s.device}, decoder {s.decoder}>"
        )

    def __iter__(self) -> Iterator[Batch]:
        num_batches = len(self)
        check_shard(self._shard)
        loop = self._position.begin(num_batches)
        epoch, missing = self._position.next[0], 0
        more = self._position.enter(self.schedule.batches_in(epoch))
        while more:
            batch = self._next()
            more = self._position.next[0] == epoch
            missing += len(batch.skipped)
            with self._report.timed("loop"):
                yield batch
            if more and self._position.loop != loop:
                raise RuntimeError(
                    f"VideoLoader: this loop over epoch {epoch} was overtaken, by another loop, set_epoch or "
                    "load_state_dict. A loader has one loop at a time; copy.deepcopy(loader) makes another loader"
                )
        if self._position.loop == loop:
            self._position.finish()
        if missing:
            log.warning("epoch %d: %d clips were left out; report().bad names their videos", epoch, missing)

    def _next(self):
        self._report.start(self.settings.workers or self.settings.num_threads)
        producer = self._background.producer
        if producer is None or producer.next_position != self._position.next:
            self._background.stop_producer()
            size = self.schedule.batch_size * self.schedule.clips_per_sample
            pool = self._background.open_pool(self.settings)
            maker = Maker(self.manifest, self.recipe, self.settings, size, self._report, pool)
            producer = self._background.producer = Producer(maker, self.schedule, self.settings, *self._position.next)
        try:
            made = producer.next()
        except BaseException:
            self.close()
            raise
        self._position.take(producer.next_position)
        return self._batch(made)

    def _batch(self, made):
        dtype, gpu = self.settings.dtype, self.settings.device_id
        clips = no_clips(self.recipe, self._shape, dtype, gpu) if made.clips is None else as_tensor(made.clips, dtype)
        targets = self.manifest.targets(made.plan.samples)
        return make_batch(clips, targets, made.plan, made.batch_index, self.manifest, *made[4:])  # repeated and so on

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop give epoch ``epoch``, from its start.

        Directly after ``load_state_dict`` of a state in the middle of this epoch it has no effect: so a training loop
        may call it before every epoch, also after resuming.

        Raises:
            ValueError: epoch is not a whole number in [0, 2**24).
        """
        if self._position.set_epoch(epoch) and self._schedule and self._schedule.cut[1]:
            self._change_schedule(replace(self._schedule, cut=(0, 0)))

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: what ``load_state_dict`` needs to continue with the next batch, exactly.

        The state is the same for all shards. It contains a fingerprint of the manifest's paths, labels and ranges.
        """
        epoch, batch = self._position.reached(self.schedule)
        return {"epoch": epoch, "batch": batch, "offset": self.schedule.given_before(epoch), **self._identity()}

    def _change_schedule(self, schedule):
        self._background.stop_producer()
        self._schedule, self._order = schedule, replace(self._order, mix_group=schedule.mix_group)

    def _identity(self):
        self._fingerprint = self._fingerprint or fingerprint(self.manifest)
        return identity(self.schedule, self.recipe, self._fingerprint)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken: the next loop gives the rest of its epoch.

        Batches of all ranks together are the same if ``batch_size`` times the number of ranks is. Else the samples that
        are left are cut into batches anew: each still comes once.

        Raises:
            ValueError: the state is of a loader with other options or another manifest, which would give other batches.
        """
        given = self._arguments["mix_group"], self._shared
        schedule, epoch, index = go_on(state, self._identity(), self.schedule, *given)
        self._change_schedule(schedule)
        self._position.resume(epoch, index, index > 0 or schedule.given_before(epoch) > 0)

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
        self._report.start(self.settings.workers or self.settings.num_threads)
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
        return self._batch(Produced(plan.epoch, -1, plan, clips, boxes=maker.boxes(plan)))

    def close(self) -> None:
        """Stop the background threads; waits for no file. The loader can be used again: it continues where it is."""
        self._background.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> VideoLoader:
        return _copy(*self.__reduce__()[1])

    def __reduce__(self) -> tuple[Any, ...]:
        replaced = None if self.settings is self._made_settings else self.settings
        middle = bool(self._position.next[1] or (self._schedule and self._schedule.given_before(self.epoch)))
        shard = (self._shard, self._schedule) if middle or self._given else None  # between epochs, a copy finds its own
        position = *self._position.next, middle
        return _copy, (self.manifest, self.recipe, self._arguments, replaced, position, shard, self._order)

    def __enter__(self) -> VideoLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _copy(manifest, recipe, arguments, settings, position, shard, order):
    """A loader as another one was made, at the same position."""
    loader = VideoLoader(manifest, recipe, **arguments)
    loader.settings, loader._order = settings or loader.settings, order
    if shard is not None:
        loader._shard, loader._schedule = shard
    loader._position.resume(*position)
    return loader
