"""The torch iterator: batches of augmented clips, epoch after epoch."""

import logging
import weakref
from typing import Any

import av
import numpy as np
import torch

from dali_vidaug.batch import make_batch
from dali_vidaug.clip import ClipError, fault, load_clip, make_graph, num_folded
from dali_vidaug.cut import reason
from dali_vidaug.plan import PLAN_VERSION, Plan, draw_ops
from dali_vidaug.producer import Produced, Producer
from dali_vidaug.recipe import Recipe
from dali_vidaug.report import Tally
from dali_vidaug.rng import Draws
from dali_vidaug.schedule import Schedule
from dali_vidaug.settings import find_shard, make_settings

log = logging.getLogger("dali_vidaug")


class VideoLoader:
    """Streams augmented clips of a manifest's videos as torch tensors.

    Iterating gives the batches of one epoch; the next ``for`` goes on with the next epoch. Batches are made ahead in
    the background, through the end of an epoch too, and are the same, bit for bit, for any number of threads.

    Args:
        manifest: the videos.
        recipe: how clips are sampled and augmented.
        batch_size: clips in a batch of this shard.
        seed: of everything random, [0, 2**64).
        device: "cpu", "gpu", or "auto": the GPU if there is one.
        decoder: "dali" (NVDEC on a GPU; VP8, VP9 and MJPEG without), "pyav" (everything FFmpeg decodes, on the CPU),
            "hybrid": dali for each clip that it decodes rightly, pyav for the others; or "auto": hybrid on a GPU, else
            pyav.
        shuffle: a new order each epoch, or the manifest's.
        drop_last: leave out the last batches of an epoch that are not full.
        num_shards, shard_index: share the epoch with other ranks. Default: those of torch.distributed when it is
            initialised, else the environment's WORLD_SIZE and RANK, else one shard.
        num_threads: decoding threads, and DALI's; default: the cores this process may use.
        workers: processes that read and decode; 0: the threads of this one.
        prefetch: batches made ahead, >= 1.
        dtype: of normalised clips: "float32" or "float16".
        on_error: "replace": a clip that cannot be decoded is replaced by another, logged, and named in ``report()``;
            "raise": raises ``ClipError``.
        resize_in_decoder: with pyav, do the recipe's leading crops and scalings with the conversion to RGB, which is
            faster than in DALI; False: decode whole frames and leave all to DALI's operators.

    Raises:
        ValueError: an option is out of range, or the recipe does not suit the videos.
    """

    def __init__(
        self, manifest, recipe, batch_size, *, seed=0, device="auto", decoder="auto", shuffle=True, drop_last=True,
        num_shards=None, shard_index=None, num_threads=None, workers=0, prefetch=2, dtype="float32",
        on_error="replace", resize_in_decoder=True,
    ):  # fmt: skip
        if not isinstance(recipe, Recipe):
            raise ValueError(f"VideoLoader: recipe must be a Recipe, got {recipe!r}")
        if not len(manifest):
            raise ValueError("VideoLoader: the manifest has no videos")
        num_shards, shard_index = find_shard(num_shards, shard_index)
        self.manifest, self.recipe = manifest, recipe
        self.schedule = Schedule(len(manifest), batch_size, seed, shuffle, drop_last, num_shards, shard_index)
        _check_sizes(manifest, recipe)
        self._settings = make_settings(  # last, as it keeps in mind what is sent to NVDEC
            device, decoder, num_threads, workers, prefetch, dtype, on_error, resize_in_decoder, manifest.formats()
        )
        self._tally = Tally()
        self._producer: Producer | None = None
        self._closer: Any = None
        self._position = (0, 0)  # of the next batch
        self._resumed = True  # whether the next loop begins at _position, or at the epoch after it

    @property
    def device(self):
        """ "cpu" or "gpu"."""
        return self._settings.device

    @property
    def decoder(self):
        """ "dali", "pyav" or "hybrid"."""
        return self._settings.decoder

    @property
    def num_threads(self):
        """Decoding threads."""
        return self._settings.num_threads

    def __len__(self):
        """Batches of an epoch of this shard."""
        return self.schedule.num_batches

    def __repr__(self):
        s = self._settings
        return (
            f"<VideoLoader: {len(self.manifest)} videos, {len(self)} batches of {self.schedule.batch_size} an epoch, "
            f"shard {self.schedule.shard_index} of {self.schedule.num_shards}, device {s.device}, decoder {s.decoder}>"
        )

    def __iter__(self):
        epoch, index = self._position
        if index and not self._resumed:  # the loop before this one was left early
            self._position = epoch, index = epoch + 1, 0
        self._resumed = False
        while self._position[0] == epoch:
            yield self._next()

    def _next(self):
        self._tally.start()
        if self._producer is None or self._producer.next_position != self._position:
            self.close()
            self._producer = Producer(
                self.manifest, self.recipe, self.schedule, self._settings, self._tally, *self._position
            )
            self._closer = weakref.finalize(self, self._producer.close)
        try:
            made = self._producer.next()
        except BaseException:
            self.close()
            raise
        self._position = self._producer.next_position
        return self._batch(made)

    def _batch(self, made):
        clips = torch.from_dlpack(made.clips.as_tensor())
        labels = self.manifest.labels[made.plan.samples]
        targets = np.zeros((len(labels), len(self.manifest.classes)), np.float32)
        known = np.flatnonzero(labels >= 0)
        targets[known, labels[known]] = 1.0
        return make_batch(clips, targets, made.plan, made.index)

    def set_epoch(self, epoch):
        """Let the next loop give epoch ``epoch``, from its start."""
        if not 0 <= epoch < 2**24:
            raise ValueError(f"VideoLoader: epoch must be in [0, 2**24), got {epoch}")
        self._position, self._resumed = (int(epoch), 0), True

    def state_dict(self):
        """Where the loader is: what ``load_state_dict`` needs to go on with the next batch, exactly.

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
        }

    def load_state_dict(self, state):
        """Go on where ``state`` was taken: the next loop gives the rest of its epoch.

        Raises:
            ValueError: the state is of a loader with other settings, which would give other batches.
        """
        mine = self._identity()
        missing = [k for k in ("epoch", "batch", *mine) if k not in state]
        if missing:
            raise ValueError(f"VideoLoader: the state lacks {', '.join(missing)}")
        other = [f"{k} is {mine[k]!r}, the state's {state[k]!r}" for k in mine if state[k] != mine[k]]
        if other:
            raise ValueError(f"VideoLoader: the state is of another loader: {'; '.join(other)}")
        self._position, self._resumed = (state["epoch"], state["batch"]), True

    def report(self):
        """What was done so far: counts, time by stage, and every clip that was replaced: a ``Report``."""
        return self._tally.report()

    def apply(self, plan):
        """Make the batch of a plan, as it stands: for replaying a saved or edited one.

        Returns:
            A ``Batch`` whose index is -1.

        Raises:
            ClipError: a clip cannot be decoded.
        """
        s = self._settings
        media = [self._load(plan, i, *s.decoder_of(self._video(plan, i))) for i in range(len(plan))]
        folded, rotated = num_folded(plan.recipe, s), self.manifest.any_rotated()
        graph = make_graph(plan.recipe, plan, s, len(plan), rotated=rotated, folded=folded)
        try:
            clips = graph.run(plan, media, s.stream())
        except RuntimeError:
            faults = {i: why for i in range(len(plan)) if (why := fault(graph, plan.row(i), media[i]))}
            if not faults:
                raise
            for i, why in faults.items():
                if s.decoder == "dali":
                    raise ClipError(self._video(plan, i).path, plan.row(i), why) from None
                media[i] = self._load(plan, i, "pyav", why)
            clips = graph.run(plan, media, s.stream())
        return self._batch(Produced(plan.epoch, -1, plan, clips))

    def _video(self, plan, i):
        return self.manifest.video(int(plan.samples[i]))

    def _load(self, plan, i, decoder, why):
        """Clip ``i`` of a plan, as the graph takes it."""
        video = self._video(plan, i)
        steps = [plan.args[name][i] for name in plan.recipe.names[: num_folded(plan.recipe, self._settings)]]
        try:
            loaded = load_clip(decoder, self._settings.device, video, plan.frames[i], steps, why)
        except (OSError, ValueError, EOFError, av.error.FFmpegError) as error:
            raise ClipError(video.path, plan.row(i), reason(error)) from error
        if loaded.fallback:
            self._tally.add_fallback(video.path, loaded.fallback)
        return loaded.media

    def close(self):
        """Stop the background threads. The loader can be used again: it goes on where it is."""
        if self._producer is not None:
            self._closer.detach()
            self._producer.close()
            self._producer = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def _check_sizes(manifest, recipe):
    """Draw once for every frame size that occurs, so that a recipe that does not suit the videos fails here."""
    samples = manifest.unique_sizes()
    height, width = manifest.frame_sizes(samples)
    frames = np.full(len(samples), recipe.sampling.num_frames)
    _, out_height, out_width = draw_ops(recipe, Draws(0, 0, samples), frames, height, width)
    if len({*zip(out_height.tolist(), out_width.tolist(), strict=True)}) > 1:
        other = int(np.argmax((out_height != out_height[0]) | (out_width != out_width[0])))
        raise ValueError(
            f"VideoLoader: the recipe leaves clips of different sizes, which cannot be stacked: "
            f"{out_height[0]}x{out_width[0]} for {manifest.path(int(samples[0]))} but "
            f"{out_height[other]}x{out_width[other]} for {manifest.path(int(samples[other]))}; add RandomResizedCrop, "
            "CenterCrop or Resize((height, width))"
        )


def augment(clips, ops, targets=None, *, samples=None, seed=0, epoch=0, batch=0, device="auto", dtype="float32"):
    """Apply ops to clips that are in memory: the same draws and the same graph as in a ``VideoLoader``.

    Args:
        clips: B arrays or tensors (F, H, W, 3) uint8, or one (B, F, H, W, 3); heights and widths may differ.
        ops: the ops of a recipe, in order.
        targets: (B, K) float, soft labels, or None.
        samples: (B,) int, which samples the clips are: clip i draws what sample ``samples[i]`` draws in a loader.
            Default: 0, ..., B - 1.
        seed, epoch, batch: of the draws; ``batch`` counts for ops that mix clips.
        device: "cpu", "gpu" or "auto".
        dtype: of normalised clips: "float32" or "float16".

    Returns:
        A ``Batch``; ``targets`` is (B, 0) when none were given.

    Raises:
        ValueError: a clip is not (F, H, W, 3) uint8, or the results differ in size.
    """
    settings = make_settings(device, "pyav", None, 0, 1, dtype, "raise", False, caller="augment")
    media = [np.ascontiguousarray(c.cpu().numpy() if isinstance(c, torch.Tensor) else c) for c in clips]
    if not media:
        raise ValueError("augment: no clips")
    for i, clip in enumerate(media):
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or 0 in clip.shape:
            raise ValueError(f"augment: clip {i} must be (F, H, W, 3) uint8, got {clip.shape} {clip.dtype}")
    sizes = np.array([clip.shape[:3] for clip in media])
    samples = np.arange(len(media)) if samples is None else np.asarray(samples, np.int64)
    if samples.shape != (len(media),):
        raise ValueError(f"augment: samples must be ({len(media)},), one for each clip, got {samples.shape}")
    recipe = Recipe(ops=tuple(ops))
    args, height, width = draw_ops(recipe, Draws(seed, epoch, samples, batch=batch), *sizes.T)
    shapes = {*zip(sizes[:, 0].tolist(), height.tolist(), width.tolist(), strict=True)}
    if len(shapes) > 1:
        raise ValueError(f"augment: results of different sizes (F, H, W) cannot be stacked: {sorted(shapes)}")
    frames = np.tile(np.arange(sizes[0, 0], dtype=np.int32), (len(media), 1))
    plan = Plan(recipe, seed, epoch, 0, batch, samples, frames, args)
    graph = make_graph(recipe, plan, settings, len(media))
    out = torch.from_dlpack(graph.run(plan, media, settings.stream()).as_tensor())
    if targets is None:
        soft = np.zeros((len(media), 0), np.float32)
    else:
        soft = torch.as_tensor(targets, dtype=torch.float32).cpu().numpy()
        if soft.ndim != 2 or len(soft) != len(media):
            raise ValueError(f"augment: targets must be ({len(media)}, K), got {soft.shape}")
    return make_batch(out, soft.copy(), plan, 0)
