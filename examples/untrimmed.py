"""Make untrimmed videos with known segments: pieces of actions, joined with background.

    python examples/untrimmed.py FOLDER [--num-train 24 --num-test 12] [--format thumos14 | activitynet]
    python examples/untrimmed.py FOLDER --videos CLIPS --background noFight

The actions are the moving shapes of dali-vidaug demo; in the background there are none, or they move sideways. With
--videos they are also pieces of your clips, a folder for each class, of which one may be the background; --no-shapes
leaves the shapes out. FOLDER gets the videos and their annotations, as THUMOS14 or ActivityNet has them:

    dali-vidaug scan FOLDER/annotation --format thumos14_videos --split validation --root FOLDER -o train.parquet
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from tqdm import tqdm

from dali_vidaug.commands.demo import CLASSES, moving_shape
from dali_vidaug.data.folder import is_video_name
from dali_vidaug.media.encode import write_video
from dali_vidaug.rng import Draws

FPS = 25
HEIGHT, WIDTH, SCALE = 48, 64, 0.3  # of the videos; SCALE: of the shapes, compared with the demo's
NAMES = {"validation": "video_validation_{:07d}", "test": "video_test_{:07d}"}  # THUMOS14 trains on validation
_SIDEWAYS = {"circle_left": ("ellipse", -3, 0), "square_right": ("rectangle", 3, 0)}  # in the background


class Made(NamedTuple):
    """A video that was made: its name, subset, frames, and (class, first frame, last frame) of each segment."""

    name: str
    subset: str
    num_frames: int
    segments: list


def read_clips(folder):
    """The clips in a folder of class folders, by class: paths.

    Raises:
        ValueError: there are none.
    """
    found = {path.name: sorted(file for file in path.rglob("*") if is_video_name(file.name))
             for path in sorted(Path(folder).iterdir()) if path.is_dir()}  # fmt: skip
    found = {name: files for name, files in found.items() if files}
    if not found:
        raise ValueError(f"{folder}: expected a folder for each class, with videos in it")
    return found


def shape_frames(kind, draws):
    """Frames of a shape on a background, without an end; kind: its shape, pixels to the right and down, or None."""
    shape, dx, dy = kind or ("ellipse", 0, 0)
    return moving_shape(shape, dx, dy, WIDTH, HEIGHT, draws, scale=SCALE, hidden=kind is None)


def clip_frames(paths, draws):
    """Frames of clips in a random order, one after the other, without an end: those shown at 25 times a second."""
    for i in itertools.count():
        path = paths[int(draws.integers(f"clip {i}", len(paths))[0])]
        with av.open(str(path)) as container:
            stream, first, end, steps = container.streams.video[0], None, 0, 0
            for frame, following in itertools.pairwise(itertools.chain(container.decode(stream), [None])):
                first = frame.pts if first is None else first
                if following is None:
                    end += FPS / stream.average_rate  # the last one is shown as long as any
                else:
                    end = (following.pts - first) * stream.time_base * FPS
                while steps < end:
                    steps += 1
                    yield frame.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT)
        if not steps:
            raise ValueError(f"{path}: no frame can be decoded")


def plan_video(number, seed, actions, seconds, per_video):
    """What a video is made of: a list of (class or None, number of frames), background and actions in turn."""
    draws = Draws(seed, 0, [number], prefix="untrimmed")
    total = int(FPS * draws.uniform("seconds", *seconds)[0])
    first = number % len(actions)  # so that each class is as frequent
    other = (first + 1 + int(draws.integers("other class", max(1, len(actions) - 1))[0])) % len(actions)
    chosen = [actions[i] for i in (first, other)][: 1 + int(draws.integers("two classes", 2)[0])]
    count = per_video[0] + int(draws.integers("how many segments", per_video[1] - per_video[0] + 1)[0])
    shares = 0.5 + draws.uniform("lengths", n=2 * count + 1)[0]
    shares[::2] *= 1.3  # background
    frames = np.maximum(FPS * 3 // 2, total * shares / shares.sum()).astype(int)
    return [(None if i % 2 == 0 else chosen[i // 2 % len(chosen)], int(n)) for i, n in enumerate(frames)]


def make_untrimmed(
    folder, num_train=24, num_test=12, *, seed=0, seconds=(20, 60), per_video=(2, 5), clips=None, background=None,
    shapes=True, form="thumos14",
):  # fmt: skip
    """Write untrimmed videos with annotated segments.

    Args:
        folder: created if necessary.
        num_train, num_test: videos of the subsets "validation" and "test".
        seed: another one makes others.
        seconds: least and most of a video, about; a segment, and what is between two, is at least 1.5 s.
        per_video: least and most segments in a video.
        clips: by class the paths of videos to take pieces of, or None.
        background: which class of these is the background; None: no shape, or one that moves sideways.
        shapes: whether moving shapes are actions too.
        form: "thumos14" or "activitynet".

    Returns:
        The annotations, a folder or a file, and what was made.

    Raises:
        ValueError: the background is not a class, or there is no other.
    """
    if background is not None and background not in (clips or {}):
        raise ValueError(f"background must be one of {', '.join(clips or ['no clips'])}, got {background!r}")
    actions = [*(CLASSES if shapes else ()), *(name for name in clips or () if name != background)]
    if not actions:
        raise ValueError(f"no class is left besides the background {background!r}")
    folder, made = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    todo = [("validation", i) for i in range(num_train)] + [("test", i) for i in range(num_test)]
    for number, (subset, i) in enumerate(tqdm(todo, desc="make untrimmed videos", unit=" videos")):
        name, parts = NAMES[subset].format(i + 1), plan_video(number, seed, actions, seconds, per_video)
        write_video(folder / f"{name}.mp4", _frames(parts, number, seed, clips, background), FPS)
        ends = np.cumsum([count for _, count in parts]).tolist()
        found = [(label, end - count, end) for (label, count), end in zip(parts, ends, strict=True) if label]
        made.append(Made(name, subset, ends[-1], found))
    return write_annotations(folder, made, actions, form), made


def _frames(parts, number, seed, clips, background):
    for i, (label, count) in enumerate(parts):
        draws = Draws(seed, i, [number], prefix="untrimmed")
        if (label or background) in (clips or {}):
            frames = clip_frames(clips[label or background], draws)
        else:
            sideways = [*_SIDEWAYS.values()][int(draws.integers("sideways", 2)[0])]
            still = draws.uniform("nothing moves")[0] < 0.5
            frames = shape_frames(CLASSES[label] if label else None if still else sideways, draws)
        yield from itertools.islice(frames, count)


def write_annotations(folder, made, actions, form):
    """Write what is in the videos, in seconds; returns the folder or the file."""
    if form == "activitynet":
        database = {
            video.name: {
                "subset": video.subset, "duration": video.num_frames / FPS, "fps": float(FPS),
                "annotations": [{"label": label, "segment": [first / FPS, last / FPS]}
                                for label, first, last in video.segments],
            } for video in made
        }  # fmt: skip
        path = folder / "annotations.json"
        path.write_text(json.dumps({"version": "made by examples/untrimmed.py", "database": database}, indent=1))
        return path
    path = folder / "annotation"
    path.mkdir(exist_ok=True)
    for label, (subset, mark) in itertools.product(actions, (("validation", "val"), ("test", "test"))):
        lines = [f"{video.name}  {first / FPS:.2f} {last / FPS:.2f}\n" for video in made if video.subset == subset
                 for name, first, last in video.segments if name == label]  # fmt: skip
        (path / f"{label}_{mark}.txt").write_text("".join(lines))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the videos go")
    parser.add_argument("--num-train", type=int, default=24, help="videos for training")
    parser.add_argument("--num-test", type=int, default=12, help="videos for testing")
    parser.add_argument("--seconds", type=float, nargs=2, default=(20, 60), metavar=("LEAST", "MOST"))
    parser.add_argument("--videos", metavar="CLIPS", help="a folder with clips of each class, to take pieces of")
    parser.add_argument("--background", metavar="CLASS", help="which of these classes is the background")
    parser.add_argument("--no-shapes", action="store_true", help="with --videos: these alone")
    parser.add_argument("--format", choices=("thumos14", "activitynet"), default="thumos14")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        path, made = make_untrimmed(
            args.folder, args.num_train, args.num_test, seed=args.seed, seconds=args.seconds,
            clips=args.videos and read_clips(args.videos), background=args.background, shapes=not args.no_shapes,
            form=args.format,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        parser.error(str(error))
    minutes = sum(video.num_frames for video in made) / FPS / 60
    print(f"{len(made)} videos, {minutes:.1f} minutes, {sum(len(v.segments) for v in made)} segments: {path}")


if __name__ == "__main__":
    main()
