"""The command dali-vidaug."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import dali_vidaug as dv
from dali_vidaug.commands.merge import add_merge
from dali_vidaug.commands.options import (
    CLIPS,
    EPOCHS,
    SIZE,
    STRIDE,
    THREADS,
    VIDEOS,
    Help,
    OptionError,
    add_common,
    check_picture,
    open_videos,
    remarks_not_logged,
)
from dali_vidaug.commands.pack import add_pack
from dali_vidaug.commands.preview import add_preview
from dali_vidaug.commands.recipes import add_recipes
from dali_vidaug.commands.scan import add_scan
from dali_vidaug.commands.summary import summary
from dali_vidaug.commands.transcode import add_transcode

EPILOG = """examples:
  dali-vidaug demo                               make a small data set, stream it, draw the clips
  dali-vidaug demo --videos my_videos            the same with your own (a folder for each class)
  dali-vidaug scan my_videos -o train.parquet    measure videos once, for VideoLoader
  dali-vidaug merge train.part-* -o train.parquet  put the parts of a scan together
  dali-vidaug pack train.parquet -o shards/train-%06d.tar
                                                 into tar shards, as WebDataset has them
  dali-vidaug transcode train.parquet small/     make smaller videos that are faster to decode
  dali-vidaug preview train.parquet              draw samples, with file, class and frames
  dali-vidaug preview --video clip.mp4           draw what RandAugment-T's ops do to it
  dali-vidaug preview --mix all                  draw what the ops that mix and erase do
  dali-vidaug recipes                            the published recipes, by the name of the model
  dali-vidaug recipes slowfast 8x8 --stage test  one of them, as Python to copy
  dali-vidaug doctor                             what works on this machine
  dali-vidaug doctor --gpu                       check and time everything on its GPU

exit codes: 0 done, 1 it failed (the reason is printed), 2 wrong options, 130 interrupted"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command. What it returns has ``run`` and, where there is more to refuse, ``check``."""
    parser = argparse.ArgumentParser(
        prog="dali-vidaug",
        description="Video training batches at the speed of the decoder.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dali-vidaug {dv.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    add_scan(commands)
    add_merge(commands)
    add_pack(commands)
    add_transcode(commands)
    add_preview(commands)
    add_recipes(commands)
    doctor = commands.add_parser(
        "doctor",
        help="what works on this machine",
        description="Reports which of Python, torch, DALI, PyAV, CuPy, the CUDA driver, its GPUs and NVDEC work here, "
        "for which CUDA they are built, how many cores may be used, what device='auto' uses, and what to do "
        "where something is missing (--) or broken (BAD). Exit code 1: the loader cannot run here.",
    )
    doctor.add_argument(
        "--gpu",
        action="store_true",
        help="then check everything on the GPU, compared with the CPU, and time it: decoding, kernels, ops, order, "
        "streams, memory. Takes a few minutes; exit code 1: a check failed. Skipped without a GPU, unless "
        "DALI_VIDAUG_REQUIRE_GPU=1",
    )
    doctor.set_defaults(run=run_doctor, check=lambda args: None)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        args.check(args)
    except (ValueError, OSError) as error:
        print(f"dali-vidaug {args.command}: {error}", file=sys.stderr)
        return 2
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("dali-vidaug: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        print(f"dali-vidaug: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="stream a data set and draw the clips",
        description="Makes a small labelled data set of moving shapes (or uses yours), streams one epoch of augmented "
        "clips from it, prints how fast that was and where the time went, and draws a contact sheet.",
        formatter_class=Help,
    )
    demo.add_argument(
        "--videos",
        metavar=VIDEOS,
        help="your videos: a folder with a sub-folder for each class, a CSV or Parquet list, or a manifest that "
        "dali-vidaug scan wrote",
    )
    demo.add_argument("--batch-size", type=CLIPS, default=8, help="clips in a batch")
    demo.add_argument("--stride", type=STRIDE, default=2, help="distance between the frames of a clip")
    demo.add_argument("--size", type=SIZE, default=224, help="height and width of the clips")
    demo.add_argument("--epochs", type=EPOCHS, default=1, help="how often to stream the data set")
    demo.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    demo.add_argument("--decoder", choices=("auto", "dali", "pyav", "hybrid"), default="auto")
    demo.add_argument("--num-threads", type=THREADS, help="decoding threads (default: all cores)")
    add_common(demo, "demo.png")
    demo.set_defaults(run=run_demo, check=check_demo)


def check_demo(args: argparse.Namespace) -> None:
    """Refuse an output that could not be written."""
    check_picture(args.output)


def run_demo(args: argparse.Namespace) -> int:
    """dali-vidaug demo."""
    from tqdm import tqdm

    from dali_vidaug.commands.demo import make_videos
    from dali_vidaug.commands.pictures import contact_sheet

    recipe = dv.Recipe(
        sampling=dv.ClipSampling(num_frames=args.num_frames, stride=args.stride),
        ops=(dv.RandomResizedCrop(args.size), dv.RandomHorizontalFlip(), dv.Normalize()),
    )
    with tempfile.TemporaryDirectory(prefix="dali_vidaug-demo-") as folder:
        if args.videos is None:
            make_videos(folder)
        with remarks_not_logged():
            manifest = open_videos(args.videos or folder)
        print(summary(manifest))
        with dv.VideoLoader(
            manifest, recipe, args.batch_size, seed=args.seed, device=args.device, decoder=args.decoder,
            num_threads=args.num_threads, drop_last=False,
        ) as loader:  # fmt: skip
            print(loader)
            clips, seconds = 0, 0.0
            batches: list[dv.Batch] = []
            for epoch in range(args.epochs):
                started = time.perf_counter()
                for batch in tqdm(loader, desc=f"epoch {epoch}", unit=" batches", leave=False):
                    clips += len(batch)
                    batches = batches or [batch]
                seconds += time.perf_counter() - started
            report = loader.report()
        contact_sheet(batches[0]).save(args.output)
    print(f"device {loader.device}, decoder {loader.settings.decoder}, {loader.settings.num_threads} threads")
    print(f"{clips} clips in {seconds:.1f} s: {clips / seconds:.1f} clips/s, start included")
    print(report)
    print("first clip:", batch_line(batches[0]))
    print(f"contact sheet: {args.output}")
    return 0


def batch_line(batch: Any) -> str:
    """Shape and plan of a batch's first clip."""
    return f"{tuple(batch.clips.shape[1:])} {batch.clips.dtype}, plan:\n{batch.plan.describe(0)}"


def run_doctor(args: argparse.Namespace) -> int:
    """dali-vidaug doctor."""
    from dali_vidaug.commands.doctor import BAD, examine

    rows = examine()
    for state, subject, finding in rows:
        print(f"{state:3}  {subject:12} {finding}")
    bad = [subject for state, subject, _ in rows if state == BAD]
    print(f"the loader cannot run: {', '.join(bad)}" if bad else "the loader runs on this machine")
    return 1 if bad or (args.gpu and run_gpu_checks()) else 0


def run_gpu_checks() -> int:
    """What ``dali-vidaug doctor --gpu`` adds: prints a table of checks, returns the exit code."""
    from dali_vidaug.commands.checks import run
    from dali_vidaug.device import gpu

    reason, required = gpu.problem(), os.environ.get("DALI_VIDAUG_REQUIRE_GPU") == "1"
    if reason:
        print(f"the GPU is not checked: {reason}{'; DALI_VIDAUG_REQUIRE_GPU=1 requires one' if required else ''}")
        return 1 if required else 0
    # Row by row: if a library of the driver ends the process, it is clear where.
    rows = run.run_checks("gpu", show=lambda row: print(run.line(row), flush=True))
    print(run.summary(rows))
    late = required and any(row.finding == run.SKIPPED for row in rows)
    return 1 if late or any(row.state == run.BAD for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
