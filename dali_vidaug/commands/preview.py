"""``dali-vidaug preview``: draws samples of a manifest, saved plans, and what the ops do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import dali_vidaug as dv
from dali_vidaug.commands.demo import example_clip
from dali_vidaug.commands.mask_picture import mask_picture, named_masks
from dali_vidaug.commands.ops_picture import GROUPS, named_ops, ops_picture
from dali_vidaug.commands.options import (
    CLIPS,
    EPOCH,
    MAGNITUDE,
    SAMPLE,
    VIDEOS,
    Help,
    OptionError,
    add_common,
    check_picture,
    open_videos,
    with_names,
)
from dali_vidaug.commands.pictures import contact_sheet, mix_picture, mixing_ops, ramp_picture
from dali_vidaug.commands.timeline import time_ops, time_picture, timeline_picture
from dali_vidaug.media.decode import decode
from dali_vidaug.ops.ramp import RAMPS
from dali_vidaug.ops.suites import SUITES
from dali_vidaug.sampling import SAMPLERS

RECIPES = ("validation", "crop", "randaugment", "mix")
_CLIPS = 8  # drawn, unless the user says otherwise
_VIEWS = 30  # the same, of --sampling, for each video
_OF_MANIFESTS = ("samples", "num_clips", "recipe", "plan", "epoch", "sampling")
_OF_OPS = ("video", "ops", "mix", "time", "masks")


def add_preview(commands: Any) -> None:
    """Add the command and its options to the parser's ``commands``."""
    preview = commands.add_parser(
        "preview",
        help="draw samples of a manifest, or what the ops do",
        description="With a manifest (or a folder, or a list) draws samples of it as a recipe makes them, with file, "
        "class, frames, boxes, masks and what was drawn; with --plan the clips of a plan that Plan.save wrote; with "
        "--sampling time lines that show which frames a sampler takes. Without one draws a strip of frames for each op "
        "of RandAugment-T, with the value that each frame gets; with --mix, two clips and the result of an op that "
        "mixes or erases, with weights and label; with --ops a strip for each of any ops; with --time, a clip and what "
        "an op on time makes of it, with the position of each frame in the video; with --masks, what masks leave of "
        "a clip.",
        formatter_class=Help,
        usage=f"%(prog)s [-h] [{VIDEOS}] [-o PNG] [options]",
    )
    preview.add_argument("videos", nargs="?", metavar=VIDEOS, help="whose samples to draw (default: none, but ops)")
    preview.add_argument(
        "--samples", type=SAMPLE, nargs="+", metavar="ROW", help="rows of the manifest (default: spread over it)"
    )
    preview.add_argument("--num-clips", type=CLIPS, help="clips drawn at most (default: 8; of --sampling 30 a video)")
    preview.add_argument(
        "--recipe", metavar="NAME|FILE",
        help="how samples are made: validation (the middle of the video and of its frames), crop (random crop and "
        "flip), randaugment (and RandAugment-T), mix (and a cube or a fade of another clip); or a text file with the "
        "repr of a recipe of yours (default: validation)",
    )  # fmt: skip
    preview.add_argument("--plan", metavar="JSON", help="draw the clips of a saved plan, from the manifest's videos")
    preview.add_argument(
        "--sampling", metavar="SAMPLER",
        help="draw on a time line which frames each view takes, of a manifest, folder, list or video, for a sampler as "
        "it is written in Python: 'MultiClip(ClipSampling(16, stride=4), num_clips=10)'",
    )  # fmt: skip
    preview.add_argument("--epoch", type=EPOCH, help="whose draws to show (default: 0)")
    preview.add_argument(
        "--video", metavar="FILE", nargs="+", help="for ops: your video, two with --mix (default: painted)"
    )
    preview.add_argument(
        "--magnitude", type=MAGNITUDE, default=6.0, help="strength, 0 to 10 (kim2020, torchvision: to 30)"
    )
    preview.add_argument("--ramp", choices=RAMPS, default="temporal+")
    preview.add_argument("--suite", choices=tuple(SUITES), default="monotonic")
    preview.add_argument(
        "--ops", metavar="OP", nargs="+",
        help=f"ops by name, or as they are written in Python: 'RandomRotation(30.0)'; {', '.join(GROUPS)}; or all",
    )  # fmt: skip
    preview.add_argument("--mix", metavar="OP", help="an op that mixes or erases, such as CubeCutMix or Cutout; or all")
    preview.add_argument("--time", metavar="OP", help="an op on time, such as SpeedRamp or Reverse; or all")
    preview.add_argument(
        "--masks", metavar="MASK", nargs="+",
        help="masks for self-supervision by name, or as they are written in Python: 'TubeMask(0.75)'; or all",
    )  # fmt: skip
    add_common(preview, "preview.png")
    preview.set_defaults(run=run_preview, check=check_preview)


def check_preview(args: argparse.Namespace) -> None:
    """Refuse options that are out of range or contradict each other, and make the ops that they name.

    Raises:
        ValueError: with what is wrong.
    """
    check_picture(args.output)
    strange = [name for name in (_OF_OPS if args.videos else _OF_MANIFESTS) if getattr(args, name) is not None]
    if strange:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise ValueError(f"{names}: {'not with' if args.videos else 'only with'} a manifest, folder or list")
    drawn = [f"--{name}" for name in ("recipe", "samples", "epoch") if getattr(args, name) is not None]
    if args.sampling and (args.plan or args.recipe):
        raise ValueError(f"--sampling: {'--plan' if args.plan else '--recipe'} cannot be given, it has its own sampler")
    args.sampler = named_sampler(args.sampling) if args.sampling else None
    if args.plan and drawn:
        raise ValueError(f"--plan: {', '.join(drawn)} cannot be given, the plan has its own")
    args.op = dv.RandAugmentT(magnitude=args.magnitude, ramp=args.ramp, suite=args.suite)
    pictures = [f"--{name}" for name in ("ops", "time", "mix", "masks") if getattr(args, name)]
    if len(pictures) > 1:
        raise ValueError(f"{pictures[0]}: {pictures[1]} cannot be given, too: one picture at a time")
    args.found = named_ops(args.ops) if args.ops else time_ops(args.time) if args.time else []
    args.found = mixing_ops(args.mix) if args.mix else args.found
    args.found = named_masks(args.masks) if args.masks else args.found
    if args.video and len(args.video) != (2 if args.mix else 1):
        raise ValueError(f"--video: expected {'two files' if args.mix else 'one file'}, got {len(args.video)}")
    args.made = None if args.plan else named_recipe(args.recipe or RECIPES[0], args.num_frames, args.op)
    if args.plan and not Path(args.plan).is_file():
        raise ValueError(f"--plan: there is no file {args.plan}; plan.save(path) writes one")
    args.saved = dv.Plan.load(args.plan) if args.plan else None


def named_recipe(name: str, num_frames: int, randaugment: dv.RandAugmentT) -> dv.Recipe:
    """A recipe by its name, or from a text file.

    Args:
        name: one of ``RECIPES``, or a file with the ``repr`` of a recipe.
        num_frames: of a clip, for the named ones.
        randaugment: the op that "randaugment" and "mix" have.

    Raises:
        ValueError: neither.
    """
    if name == "validation":
        sampling = dv.ClipSampling(num_frames, stride=2, start="center", short="shrink")
        return dv.Recipe(sampling, (dv.Resize(256), dv.CenterCrop(224)))
    if name in RECIPES:
        ops = (dv.RandomResizedCrop(224), dv.RandomHorizontalFlip(), randaugment, dv.OneOf())
        return dv.Recipe(dv.ClipSampling(num_frames, stride=2, short="shrink"), ops[: RECIPES.index(name) + 1])
    if not Path(name).is_file():
        raise ValueError(
            f"--recipe: must be one of {', '.join(RECIPES)} or a file with the repr of a recipe, got {name}"
        )
    try:
        return dv.Recipe.parse(Path(name).read_text().strip())
    except ValueError as error:
        raise ValueError(f"--recipe: {name}: {error}") from error


def named_sampler(text: str) -> Any:
    """The sampler that a user wrote: as in Python, with or without ``dv.`` and the names of arguments.

    Raises:
        ValueError: it is none.
    """
    known = {sampler.__name__: sampler for sampler in SAMPLERS}
    try:
        return dv.Recipe.parse(f"Recipe(sampling={with_names(text, known)}, ops=())").sampling
    except (SyntaxError, ValueError) as error:
        why = f"cannot read {text!r}" if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"--sampling: {why}; samplers are {', '.join(known)}") from error


def run_preview(args: argparse.Namespace) -> int:
    """dali-vidaug preview."""
    if args.sampler is not None:
        manifest = open_videos(args.videos)
        rows = args.samples or [0]
        _check_rows(args, manifest, rows, "--samples")
        picture = timeline_picture(
            manifest, args.sampler, rows, seed=args.seed, epoch=args.epoch or 0, num_views=args.num_clips or _VIEWS
        )
    elif args.videos:
        picture = contact_sheet(_draw_samples(args, open_videos(args.videos)), args.num_clips or _CLIPS)
    else:
        clips, labels = _read_clips(args)
        if args.ops:
            clips = clips if len(clips) > 1 else [*clips, 255 - clips[0][:, :, ::-1]]  # for ops that mix
            picture = ops_picture(args.found, clips, seed=args.seed)
        elif args.time:
            picture = time_picture(args.found, clips[0], seed=args.seed)
        elif args.masks:
            picture = mask_picture(args.found, clips[0], seed=args.seed)
        elif args.mix:
            picture = mix_picture(args.found, clips, labels, seed=args.seed)
        else:
            picture = ramp_picture(clips[0], args.op, seed=args.seed)
    picture.save(args.output)
    print(f"drew {args.output}")
    return 0


def _check_rows(args, manifest, rows, option):
    if max(rows, default=0) >= len(manifest):
        raise OptionError(f"{option}: there is no row {max(rows)}; {args.videos} has rows 0 to {len(manifest) - 1}")


def _draw_samples(args, manifest):
    """The batch of the rows that were asked for, or of the plan."""
    most = args.num_clips or _CLIPS
    if args.saved:
        rows = args.saved.samples.tolist()
    else:
        rows = args.samples or np.unique(np.linspace(0, len(manifest) - 1, most).round().astype(int)).tolist()
    _check_rows(args, manifest, rows, f"--plan {args.plan}" if args.saved else "--samples")
    plan = args.saved or dv.draw_plan(manifest, args.made, rows, args.seed, args.epoch or 0)
    for i in range(min(len(plan), most)):
        print(plan.describe(i, manifest))
    with dv.VideoLoader(manifest, plan.recipe, 1, device="cpu", drop_last=False) as loader:
        return loader.apply(plan)


def _read_clips(args):
    """The clips that ops are shown with, and what they are called."""
    day = example_clip(args.num_frames)
    if not args.video:
        return [day, 255 - day[:, :, ::-1]], ["day", "night"]
    sampling = dv.ClipSampling(args.num_frames, stride=2, start="center", short="shrink")
    clips = []
    for video in args.video:
        manifest = dv.scan(video, progress=False)
        recipe = dv.Recipe(sampling, (dv.Resize((240, 320) if args.mix else 256),))
        plan = dv.draw_plan(manifest, recipe, [0])
        clips.append(decode(manifest.video(0), plan.frames[0], plan.args["Resize"]).pixels)
    return clips, [Path(video).name for video in args.video]
