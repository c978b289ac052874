"""Whether a recipe suits the videos of a manifest, and whether their files are those that were scanned."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy as np

from dali_vidaug.clip_motion import check_motion_follows, needs_motion
from dali_vidaug.counting import num_distinct
from dali_vidaug.data.entry import plural
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import find_root
from dali_vidaug.drawing import draw_frames, draw_ops
from dali_vidaug.drawn_masks import draw_masks
from dali_vidaug.errors import printable
from dali_vidaug.media.fetch_loop import wait_for
from dali_vidaug.media.object_options import Storage, given_storage
from dali_vidaug.media.objects import client_of
from dali_vidaug.media.unchanged import same_time
from dali_vidaug.moved_boxes import check_boxes_follow
from dali_vidaug.order import ShardOrder
from dali_vidaug.recipe import Recipe
from dali_vidaug.report import warn_once
from dali_vidaug.rng import Draws
from dali_vidaug.sampling import ClipSampling, Snippets
from dali_vidaug.schedule import Schedule
from dali_vidaug.targets import check_labels
from dali_vidaug.timing import draw_time
from dali_vidaug.urls import is_url

_VIDEOS_DRAWN = 1000  # to estimate how many are too short
_VIDEOS_MORE = 16
_FILES_LOOKED_AT = 64  # to tell a data set that was copied
_FILES_LEAST = 8  # fewer do not tell
_COPIED = 0.9  # share of files with another time of change from which on the whole data set counts as copied


def check_recipe(
    manifest: Manifest, recipe: Recipe, order: Schedule, motion: bool = False
) -> tuple[tuple[int, int, int], bool]:
    """Refuse a recipe that does not suit the videos: draw it for every frame size that occurs, and some videos more.

    Args:
        manifest: the videos.
        recipe: of the loader.
        order: its schedule.
        motion: whether what moves in the clips is asked for.

    Returns:
        The sizes (F, H, W) of the clips after the last op; and whether clips of a group depend on each other.

    Raises:
        ValueError: it leaves clips of different sizes; an op lacks its module, or clips to mix with; or the manifest
            has boxes, and an op does not say where they go; or motion does not follow the recipe; or a mask's tokens
            do not divide the clips.
    """
    recipe.fingerprints()
    check_labels(manifest, recipe)
    for name, op in zip(recipe.names, recipe.ops, strict=True):
        if order.mix_group == 1 and recipe.num_clips == 1 and hasattr(op, "mixed_with"):
            raise ValueError(f"VideoLoader: mix_group is 1, but {name} needs other clips to mix with: 2 or more")
    more = np.arange(min(len(manifest), _VIDEOS_MORE))  # ops may leave random sizes of frames that are equal
    samples = np.union1d(manifest.unique_sizes(), more)
    (height, width), videos = manifest.frame_sizes(samples), manifest.videos(samples)
    draws = Draws(order.seed, 0, samples)
    drawn, _ = draw_time(recipe, draws, draw_frames(recipe, draws, videos), videos)
    sizes = np.stack(np.broadcast_arrays(drawn.shape[1], height, width), 1).astype(np.int64)
    args, frames, height, width = draw_ops(recipe, draws, *sizes.T)
    if motion or needs_motion(recipe):
        check_motion_follows("VideoLoader", recipe, drawn)
    if manifest.has_boxes:
        check_boxes_follow("VideoLoader", recipe, args, sizes)
    shapes = np.stack(np.broadcast_arrays(height, width, frames), 1)
    differs = (shapes != shapes[0]).any(1)
    if differs.any():
        (one, other), i = shapes[[0, differs.argmax()]].tolist(), int(differs.argmax())
        raise ValueError(
            f"VideoLoader: the recipe leaves clips of different sizes (height x width x frames), which cannot be "
            f"stacked: {'x'.join(map(str, one))} for {manifest.path(int(samples[0]))} but "
            f"{'x'.join(map(str, other))} for {manifest.path(int(samples[i]))}; add RandomResizedCrop, RandomCrop, "
            "CenterCrop or Resize((height, width))"
        )
    height, width, frames = shapes[0].tolist()
    recipe.pathway_frames(frames)
    draw_masks(recipe, draws, np.zeros(len(samples), np.int64), np.roll(shapes, 1, 1))
    return (frames, height, width), draws.are_shared


def choose_order(manifest: Manifest, shards_at_a_time: int | None, shuffle: bool) -> ShardOrder | None:
    """The order that stays within a few tar shards; None if none is asked for. Arguments as of ``VideoLoader``.

    Raises:
        ValueError: there are no shards, or nothing is shuffled.
    """
    number = shards_at_a_time
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise ValueError(f"VideoLoader: shards_at_a_time must be an int >= 1 or None, got {number!r}")
    if not shuffle:
        raise ValueError("VideoLoader: shards_at_a_time is how to shuffle, but shuffle is False")
    shards = manifest.table["shard"].unify_dictionaries()
    if shards.null_count:
        raise ValueError(
            f"VideoLoader: shards_at_a_time is for videos in tar shards, but {plural(shards.null_count, 'row')} of "
            f"{len(manifest)} are files of their own; dv.pack writes shards"
        )
    return ShardOrder(np.concatenate([chunk.indices.to_numpy() for chunk in shards.chunks]), int(number))


def padded_share(manifest: Manifest, recipe: Recipe, seed: int = 0) -> tuple[float, float]:
    """Estimate how many clips have a frame more than once, because their video is too short for the sampling.

    Args:
        manifest: up to 1000 of its videos, evenly spread, are drawn.
        recipe: its sampler draws.
        seed: of the draws.

    Returns:
        The share of the clips, and the share of all frames that are another one again.
    """
    samples = np.unique(np.linspace(0, len(manifest) - 1, _VIDEOS_DRAWN).round().astype(np.int64))
    views = np.arange(recipe.num_clips)
    draws = Draws(seed, 0, samples.repeat(len(views)), np.tile(views, len(samples)))
    frames = draw_frames(recipe, draws, manifest.videos(draws.samples))
    again = frames.shape[1] - num_distinct(frames)
    return float((again > 0).mean()), float(again.sum() / frames.size)


def warn_of_short_videos(manifest: Manifest, recipe: Recipe, seed: int) -> None:
    """Say once how many videos are too short for the sampling, and what to do."""
    clips, frames = padded_share(manifest, recipe, seed)
    if clips:
        cure = _cure_of_short_videos(recipe.sampling)
        warn_once(
            f"about {max(clips, 0.01):.0%} of the clips have frames more than once ({max(frames, 0.01):.0%} of all "
            f"frames), because their videos are too short for {recipe.sampling!r}. {cure}; report() counts "
            "them"
        )


def _cure_of_short_videos(sampling: Any) -> str:
    """What avoids frames that come more than once, with a sampler, or with that in a ``MultiClip``."""
    clip = getattr(sampling, "clip", sampling)
    if isinstance(clip, Snippets):
        return "Snippets that only fill up are not valid, which its spans() say"
    if not hasattr(clip, "stride") or getattr(clip, "short", None) == "shrink":
        return "Fewer frames avoid it"
    if clip.stride is None:
        return "Fewer frames or a higher fps avoid it"
    if isinstance(clip, ClipSampling):
        return "Fewer frames, a smaller stride or short='shrink' avoid it"
    return "Fewer frames or a smaller stride avoid it"


def choose_file_check(manifest: Manifest, check_files: str, storage: Storage | None) -> str:
    """What "auto" means: "size_and_time", or "size" where the whole data set was copied, which changes every time.

    Looks at up to 64 files, and of those that are objects at three, unless ``check_files`` is "off".

    Raises:
        FileNotFoundError: none of them is there.
        OSError: objects cannot be read, or none is there as it was scanned, nor is any file.
        ValueError: all of them are others than those that were scanned, so that no clip could be loaded.
    """
    if check_files == "off":
        return check_files
    found: dict[str, list[int]] = {"same": [], "time": [], "size": [], "missing": []}
    samples = np.unique(np.linspace(0, len(manifest) - 1, _FILES_LOOKED_AT).round().astype(np.int64)).tolist()
    objects = [sample for sample in samples if is_url(manifest.path(sample))]
    errors = _check_objects(manifest, objects, given_storage(storage, "VideoLoader")) if objects else []
    for sample in sorted({*samples} - {*objects}):
        found[_compare_file(manifest, sample)].append(sample)
    if not found["same"] and not found["time"] and (errors or not objects):
        if errors:
            raise errors[0]
        _refuse(manifest, found)
    other_time, looked_at = len(found["time"]), len(found["same"]) + len(found["time"])
    if check_files != "auto":
        return check_files
    if looked_at < _FILES_LEAST or other_time < _COPIED * looked_at:
        return "size_and_time"
    warn_once(
        f"{other_time} of {looked_at} files under {manifest.root} have another time of change than when they were "
        "scanned, as after copying without times: they are told from replaced files by their size only. Scan again, or "
        "copy with times (cp -p, rsync -t); check_files='size' avoids this message"
    )
    return "size"


def _check_objects(manifest: Manifest, objects: list[int], storage: Storage) -> list[OSError]:
    """Ask for three of some samples that are objects, so that wrong credentials are told of at once.

    Returns:
        What is wrong with the three, if none of them is there as it was scanned.
    """
    errors: list[OSError] = []
    samples = sorted({objects[0], objects[len(objects) // 2], objects[-1]})
    for sample in samples:
        video = manifest.video(sample)
        try:
            _, stat = wait_for(client_of(storage).get(video.place.path, (0, 1)))
        except (FileNotFoundError, TimeoutError) as error:
            errors.append(type(error)(f"VideoLoader: {printable(video.path)}: {error}"))
        except OSError as error:
            raise type(error)(f"VideoLoader: {error}") from None
        else:
            if video.shard is None and video.bytes is not None and stat.size != video.bytes:
                told = f"{printable(video.path)} has {stat.size} bytes, and had {video.bytes}; scan again"
                errors.append(OSError(f"VideoLoader: {told}"))
    return errors if len(errors) == len(samples) else []


def _compare_file(manifest: Manifest, sample: int) -> str:
    """In what a file differs from the one that was scanned: "same", "time" (of change), "size" or "missing"."""
    size, time = (manifest.table[name][sample].as_py() for name in ("bytes", "mtime_ns"))
    place = manifest.video(sample).place
    try:
        stat = os.stat(place.path)  # noqa: PTH116
    except OSError:
        return "missing"
    if S_ISDIR(stat.st_mode):  # of images: each is compared with its checksum when it is read
        return "same"
    if size is not None and (stat.st_size != size if place.size is None else stat.st_size < place.first + size):
        return "size"
    return "same" if time is None or same_time(stat.st_mtime_ns, time) else "time"


def _refuse(manifest: Manifest, found: dict[str, list[int]]) -> None:
    """Say that no clip could be loaded, because no file is there as it was scanned, and what to do."""
    missing, changed = found["missing"], found["size"]
    number = plural(len(missing) + len(changed), "file")
    if not changed:
        first = manifest.rows("shard", missing[:1])[0] or manifest.rows("path", missing[:1])[0]
        folder = find_root(Path(manifest.root), first)
        raise FileNotFoundError(
            f"VideoLoader: of {number} looked at, none exists in {printable(str(manifest.root))}, such as "
            f"{printable(first)}. If they were moved, dv.Manifest.read(path, root="
            f"{repr(str(folder)) if folder else 'their new folder'}) says where they are"
        )
    place = manifest.video(changed[0]).place
    had = manifest.table["bytes"][changed[0]].as_py() + place.first
    raise ValueError(
        f"VideoLoader: of {number} looked at in {printable(str(manifest.root))}, none is the one that was scanned: "
        f"{len(changed)} of another size, {len(missing)} missing. {printable(place.path)} has "
        f"{Path(place.path).stat().st_size} bytes, and had {'' if place.size is None else 'at least '}{had}. Scan "
        "again; or, if the files are elsewhere, dv.Manifest.read(path, root=their folder)"
    )
