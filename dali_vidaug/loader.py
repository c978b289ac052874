"""The torch iterator: batches of augmented clips, epoch after epoch."""

from __future__ import annotations

import copy
import logging
import os
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dali_vidaug.background import Background
from dali_vidaug.batch import Batch, as_tensor, make_batch, no_clips
from dali_vidaug.boxes import BoxRules
from dali_vidaug.clip_motion import needs_motion
from dali_vidaug.counting import RunningReport
from dali_vidaug.course import Course
from dali_vidaug.data.given import open_manifest
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.fingerprint import fingerprint
from dali_vidaug.media.object_options import Storage
from dali_vidaug.plan import Plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.report import Report
from dali_vidaug.schedule import Schedule
from dali_vidaug.settings import make_settings
from dali_vidaug.stages import Stage, Stages
from dali_vidaug.suitability import check_recipe, choose_file_check, choose_order, warn_of_short_videos
from dali_vidaug.targets import check_index_targets, targets_of

log = logging.getLogger("dali_vidaug")


class VideoLoader:
    """Streams augmented clips of a manifest's videos as torch tensors.

    Iterating gives the batches of one epoch; the next ``for`` continues with the next epoch, also when the one before
    was left early, but not after its first batch, which counts as a peek. An older iterator raises. Batches are made
    ahead in the background, and are the same, bit for bit, for any number of threads. A copy goes on where it is.

    Args:
        manifest: the videos, or the file of a manifest.
        recipe: how clips are sampled and augmented; ``dv.Stages``: by several recipes in the course of training.
        batch_size: samples in a batch of this shard, each of ``recipe.num_clips * repeats`` clips, which are next to
            each other. Stages may have batches of other sizes, which are stated as factors of this one.
        seed: of everything random, [0, 2**64).
        device: "cpu"; "gpu" or "cuda": torch's current GPU; "cuda:1": that one; or "auto": the GPU if there is one.
        decoder: "dali" (NVDEC on a GPU; VP8, VP9 and MJPEG without), "pyav" (all that FFmpeg decodes, on the CPU),
            "hybrid": dali for each clip that it decodes correctly, else pyav; or "auto": hybrid on a GPU, else pyav.
        shuffle, shards_at_a_time: a new order in each epoch, or the manifest's; within so many tar shards at a time.
        drop_last: skip the last batches of an epoch that are not full.
        num_shards, shard_index: share the epoch with other ranks. Default: those of torch.distributed if initialised,
            else of the program that started the process (torchrun, srun, mpirun, ...), else one shard.
        even: with ``drop_last=False``, all ranks have as many batches, of the same sizes, by repeating up to
            ``num_shards - 1`` samples of the beginning of the epoch (``batch.repeated``). Default: with several shards.
        num_threads: of decoding, DALI and the kernels on the CPU; default: the cores of this process: docs/tuning.md.
        workers: processes over which the threads that decode are spread, one in each at least; 0: they are of this one.
        prefetch: batches made ahead, >= 1.
        dtype: of normalised clips: ``torch.float32``, ``torch.float16`` or ``torch.bfloat16``, or "float32" and so on.
        on_error: a clip that cannot be decoded is replaced by another ("replace"), left out of its batch, which may
            become empty ("skip", for validation), or raises ``ClipError`` ("raise"); logged, and named in ``report()``.
        timeout: seconds after which clips of a video, which are read and decoded together, count as such; None: never.
        check_files: what of a file is compared with the scanned one, besides its bytes at some places: "size_and_time"
            (of change), "size", nothing ("off"), or "auto": size_and_time, but size where nearly all files were copied.
            A changed file is handled as ``on_error`` says.
        resize_in_decoder: with pyav, do leading crops and scalings with the conversion to RGB, faster than DALI does.
        color: "bt601": YUV becomes RGB by BT.601 whatever a file says, as in DALI; "file": by the matrix that it says.
        repeats: clips of the same frames, decoded once, which the ops augment differently: ``batch.repeat_index``.
        mix_group: ops mix clips within groups of so many samples, a divisor of ``batch_size``, so that any number of
            ranks makes the same clips; default: all of a batch.
        box_rules: which boxes stay where only a part is in the frame; default: ``dv.BoxRules()``.
        targets: "soft", (B, K) floats, mixed as the clips are; or "index", (B,) labels and in ``batch.mix`` whom each
            clip is mixed with, for any number of classes: docs/mixing.md has the loss.
        storage: how objects in buckets are read, ``dv.Storage(...)``: docs/storage.md.
        motion: ``batch.motion`` says what moves in the clips, by the motion vectors of their videos. PyAV decodes them
            all then, also with a GPU; so it does for a ``MotionMask`` in the recipe. See docs/motion.md.
        decode_batch: clips that DALI decodes at once, at most; None: as many as fit into memory: docs/gpu.md.
        verify: of each format how many of DALI's clips are compared with PyAV's at first, and one in how many later;
            DALI decodes no more of a format that differs; None: no comparison. See docs/decoding.md.
        cpu_share: of the clips that DALI could decode, the share, [0, 1], that PyAV decodes on the CPU meanwhile;
            "auto": measured in the first seconds, logged, kept in states: docs/decoding.md.

    Attributes:
        manifest, recipe: as given.
        settings: the other options, checked; may be replaced before the first batch, or after ``close()``.

    Raises:
        ValueError: an option is out of range, or the recipe does not suit the videos.
    """

    def __init__(
        self, manifest: Manifest | str | os.PathLike[str], recipe: Recipe | Stages, batch_size: int, *, seed: int = 0,
        device: torch.device | str = "auto", decoder: str = "auto", shuffle: bool = True, drop_last: bool = True,
        num_shards: int | None = None, shard_index: int | None = None, even: bool | None = None,
        num_threads: int | None = None, workers: int = 0, prefetch: int = 2, dtype: torch.dtype | str = "float32",
        on_error: str = "replace", check_files: str = "auto", resize_in_decoder: bool = True, color: str = "bt601",
        repeats: int = 1, mix_group: int | None = None, box_rules: BoxRules | None = None, timeout: float | None = 300,
        targets: str = "soft", storage: Storage | None = None, shards_at_a_time: int | None = None,
        motion: bool = False, verify: tuple[int, int] | None = (4, 50), decode_batch: int | None = None,
        cpu_share: float | str = 0.0,
    ):  # fmt: skip
        if not isinstance(recipe, Recipe | Stages):
            raise ValueError(f"VideoLoader: recipe must be a Recipe or Stages, got {recipe!r}")
        self._stages = recipe if isinstance(recipe, Stages) else Stages((Stage(0, recipe),))
        manifest = open_manifest(manifest, "VideoLoader")
        if not len(manifest):
            raise ValueError("VideoLoader: the manifest has no videos")
        options: Any = dict(
            device=device, decoder=decoder, num_threads=num_threads, workers=workers, prefetch=prefetch, dtype=dtype,
            on_error=on_error, check_files=choose_file_check(manifest, check_files, storage), verify=verify,
            resize_in_decoder=resize_in_decoder, color=color, box_rules=box_rules, timeout=timeout, targets=targets,
            motion=motion, storage=storage, decode_batch=decode_batch, cpu_share=cpu_share,
        )  # fmt: skip
        order: Any = dict(batch_size=batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last, repeats=repeats)
        order["mix_group"] = mix_group
        shard: Any = dict(num_shards=num_shards, shard_index=shard_index, even=even)
        self.manifest, self.recipe = manifest, recipe
        self._arguments = {**options, **order, **shard, "shards_at_a_time": shards_at_a_time}
        order |= dict(num_clips=recipe.num_clips, shards=choose_order(manifest, shards_at_a_time, shuffle))
        order |= self._stages.order()
        self._course = Course(Schedule(len(manifest), **order), **shard)
        self._recipes = list({id(recipe): recipe for recipe in self._stages.recipes}.values())
        checked = [check_recipe(manifest, one, self._course.order, options["motion"]) for one in self._recipes]
        self._shapes, self._shared = [shape for shape, _ in checked], any(shared for _, shared in checked)
        options |= dict(motion_masks=any(map(needs_motion, self._stages.recipes)), formats=manifest.formats())
        self.settings = self._made_settings = make_settings(**options)  # last: for NVDEC
        for one in self._recipes:
            if targets == "index":
                check_index_targets("VideoLoader", one, manifest.multi_label)
            warn_of_short_videos(manifest, one, seed)
        self._fingerprint: dict[str, str] | None = None
        self._report = RunningReport()
        self._background = Background(self._report)
        weakref.finalize(self, self._background.close)

    @property
    def device(self) -> str:
        """ "cpu" or "gpu"."""
        return self.settings.device

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """Frames, height and width of the clips after all ops, of the first recipe: what a network must be made for."""
        return self._shapes[0]

    @property
    def schedule(self) -> Schedule:
        """Which samples make up which batch; finds the shard, if it was not given or found before."""
        return self._course.schedule

    @property
    def epoch(self) -> int:
        """The epoch of the next batch; after a loop over all of an epoch, the one after it."""
        return self._course.epoch

    def __len__(self) -> int:
        """Batches per epoch of this shard, all of them, also after resuming; finds the shard (see ``num_shards``).

        With ``Stages`` those of epoch ``epoch``.
        """
        return self.schedule.batches_in(self.epoch, whole=True)

    def steps_before(self, epoch: int) -> int:
        """How many steps all epochs before ``epoch`` have: the length of a learning rate schedule over so many epochs.

        An epoch that is left early counts as whole.
        """
        return self.schedule.steps.before(epoch)

    def __repr__(self) -> str:
        s = self.settings
        per_epoch = f"of {self.schedule.batch_size} per epoch"
        if isinstance(self.recipe, Stages):
            per_epoch = f"in epoch {self.epoch}, {len(self.recipe.stages)} stages"
        return (
            f"<VideoLoader: {len(self.manifest)} videos, {len(self)} batches {per_epoch}, "
            f"shard {self.schedule.shard_index} of {self.schedule.num_shards}, device {s.device}, decoder {s.decoder}>"
        )

    def __iter__(self) -> Iterator[Batch]:
        course, position = self._course, self._course.position
        loop = course.begin()
        epoch, missing = course.epoch, 0
        more = course.enter()
        while more:
            batch = self._next()
            more = course.epoch == epoch
            missing += len(batch.skipped)
            with self._report.timed("loop"):
                yield batch
            if more and position.loop != loop:
                raise RuntimeError(
                    f"VideoLoader: this loop over epoch {epoch} was overtaken, by another loop, set_epoch or "
                    "load_state_dict. A loader has one loop at a time; copy.deepcopy(loader) makes another loader"
                )
        if position.loop == loop:
            position.finish()
        if missing:
            log.warning("epoch %d: %d clips were left out; report().bad names their videos", epoch, missing)

    def _next(self):
        order = self.schedule, self._course.position.next
        made = self._background.next(self.manifest, self._stages, self.settings, *order)
        at, self._course.wrong = (made.epoch, made.batch_index), made.wrong
        self._course.position.take(self.schedule.following(*at))
        batch = self._batch(made)
        batch.lr_scale = self._stages.stages[self.schedule.steps.at(*at).stage].scales[-1]
        return batch

    def _batch(self, made):
        dtype = self.settings.dtype
        clips = self._no_clips(made.plan.recipe) if made.clips is None else as_tensor(made.clips, dtype)
        targets = targets_of(self.manifest, made.plan.samples, self.settings.targets)
        return make_batch(clips, targets, made.plan, made.batch_index, self.manifest, *made[4:8])  # repeated and so on

    def _no_clips(self, recipe):
        shape = next(shape for one, shape in zip(self._recipes, self._shapes, strict=True) if one is recipe)
        return no_clips(recipe, shape, self.settings.dtype, self.settings.device_id)

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop give epoch ``epoch``, from its start.

        Directly after ``load_state_dict`` of a state in the middle of this epoch it has no effect: so a training loop
        may call it before every epoch, also after resuming.

        Raises:
            ValueError: epoch is not a whole number in [0, 2**24).
        """
        self._course.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: what ``load_state_dict`` needs to continue with the next batch, exactly.

        The state is the same for all shards, except for what DALI was found to decode wrongly (``verify``) and the
        share that was chosen (``cpu_share``). It has a fingerprint of the manifest's paths, labels and ranges.
        """
        return self._course.state(self.recipe, self._find_fingerprint(), self._background.share.choice)

    def _find_fingerprint(self):
        self._fingerprint = self._fingerprint or fingerprint(self.manifest)
        return self._fingerprint

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken: the next loop gives the rest of its epoch.

        Batches of all ranks together are the same if ``batch_size`` times the number of ranks is. Else the samples that
        are left are cut into batches anew: each still comes once.

        Raises:
            ValueError: the state is of a loader with other options or another manifest, which would give other batches.
        """
        self._course.go_on(state, self.recipe, self._find_fingerprint(), self._shared)
        self._background.trust.know(self._course.wrong)
        self._background.share.go_on(state)

    def report(self) -> Report:
        """What was done so far: counts, time by stage, and every clip that was replaced."""
        return self._report.snapshot()

    def apply(self, plan: Plan) -> Batch:
        """Make the batch of a plan, as it is: for replaying a saved or edited one.

        Returns:
            A batch whose index is -1.

        Raises:
            ClipError: a clip cannot be decoded.
            RuntimeError: a decoding process cannot be started, or the loader was closed meanwhile.
            TypeError, ValueError: the plan does not suit the manifest, or contradicts itself.
        """
        return self._batch(self._background.make(self.manifest, self.settings, plan))

    def close(self) -> None:
        """Stop the background threads; waits for no file. The loader can be used again: it continues where it is."""
        self._background.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> VideoLoader:
        return _copy(*self.__reduce__()[1])

    def __reduce__(self) -> tuple[Any, ...]:
        replaced = None if self.settings is self._made_settings else self.settings
        at = copy.copy(self._course), self._background.share.choice
        return _copy, (self.manifest, self.recipe, self._arguments, replaced, *at)

    def __enter__(self) -> VideoLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _copy(manifest, recipe, arguments, settings, course, choice):
    """A loader as another one was made, at the same place."""
    loader = VideoLoader(manifest, recipe, **arguments)
    loader.settings, loader._course = settings or loader.settings, course
    loader._background.trust.know(course.wrong)
    loader._background.share.know(choice)
    return loader
