"""``dali-vidaug transcode``: smaller videos that are faster to decode; and how much faster."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dali_vidaug as dv
from dali_vidaug.commands.options import VIDEOS, Help, Number, open_videos, remarks_not_logged
from dali_vidaug.commands.summary import summary
from dali_vidaug.data.engine import ENGINES
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.decode import decode
from dali_vidaug.media.encoding import PRESETS, Encoding
from dali_vidaug.ops.crop import crop_rows

_CLIPS, _ROUNDS, _FRAMES, _STRIDE, _SIDE = 24, 3, 16, 2, 224  # of the comparison of speed
_SECONDS = 60.0  # that it may take, about


def add_transcode(commands: Any) -> None:
    """Add the command and its options to the parser's ``commands``."""
    command = commands.add_parser(
        "transcode",
        help="make smaller videos that are faster to decode",
        description="Encodes the videos of a manifest anew, smaller and with a key frame every few frames, and writes "
        "a manifest of them: the same frames at the same times (each is decoded again and compared), labels, segments "
        "and columns; boxes are scaled. Sound is left out. The same command goes on where it was interrupted. Prints "
        "sizes, PSNR and SSIM, and how fast clips are decoded before and after. docs/transcoding.md says when it pays.",
        formatter_class=Help,
    )
    command.add_argument("videos", metavar=VIDEOS, help="whose videos to encode; a manifest that scan wrote is best")
    command.add_argument("output", metavar="OUT", help="a new folder, or one of an earlier call")
    command.add_argument(
        "--preset", choices=tuple(PRESETS), default="h264",
        help="hevc and av1 are smaller and slower to decode; nvdec: H.264 in sizes that are multiples of 16",
    )  # fmt: skip
    command.add_argument(
        "--short-side", type=Number(16, 16384), default=256, metavar="PIXELS",
        help="the shorter side of a frame, at most; no video grows. 224 makes small sources, such as Kinetics at "
        "340x256, smaller and faster too",
    )  # fmt: skip
    command.add_argument("--gop", type=Number(1, 1000), default=16, metavar="FRAMES", help="between two key frames")
    command.add_argument(
        "--crf", type=Number(1, 51, float), help="quality, less is better (default: 23; hevc: 25; av1: 35)"
    )
    command.add_argument(
        "--speed", metavar="NAME", help="the encoder's preset, such as veryfast; a number for av1 (default: medium; 8)"
    )
    command.add_argument(
        "--fast-decode", action=argparse.BooleanOptionalAction, default=None,
        help="leave out what is slow to decode, for more bytes (default: yes, but for nvdec)",
    )  # fmt: skip
    command.add_argument("--engine", choices=ENGINES, default="threads", help="who does the work; ray: a cluster")
    command.add_argument(
        "--num-workers", type=Number(1, 65536), metavar="N", help="videos at the same time (default: all cores)"
    )
    command.set_defaults(run=run_transcode, check=check_transcode)


def check_transcode(args: argparse.Namespace) -> None:
    """Refuse what cannot be encoded so."""
    Encoding(args.preset, args.short_side, args.gop, args.crf, args.speed, args.fast_decode)


def run_transcode(args: argparse.Namespace) -> int:
    """dali-vidaug transcode."""
    started = time.monotonic()
    with remarks_not_logged():
        before = open_videos(args.videos)
    try:
        after = dv.transcode(
            before, args.output, preset=args.preset, short_side=args.short_side, gop=args.gop, crf=args.crf,
            speed=args.speed, fast_decode=args.fast_decode, engine=args.engine, num_workers=args.num_workers,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("dali-vidaug transcode: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(summary(after))
    print(f"wrote {Path(after.root) / 'manifest.parquet'} in {time.monotonic() - started:.0f} s")
    rows = rows_made(before, after)
    sizes = [_bytes(manifest) for manifest in (before.select(rows), after)]
    print(f"bytes: {sizes[0] / 1e6:.1f} MB before, {sizes[1] / 1e6:.1f} MB after, ratio {sizes[1] / sizes[0]:.2f}")
    print(speed_line(before, after, rows))
    return 0


def rows_made(before: dv.Manifest, after: dv.Manifest) -> np.ndarray:
    """(N,) the rows of a manifest that those of its transcode were made of."""
    broken = {one.path for one in after.broken[len(before.broken) :]}
    return np.array([row for row in range(len(before)) if before.path(row) not in broken])


def _bytes(manifest):
    """Of all files, each once."""
    names, sizes = (manifest.table[name].to_pylist() for name in ("path", "bytes"))
    return sum(dict(zip(names, sizes, strict=True)).values())


def speed_line(before: dv.Manifest, after: dv.Manifest, rows: np.ndarray) -> str:
    """How many times as fast clips are decoded: a sentence."""
    try:
        ratios = list(speed_ratios(before, after, rows))
    except READ_ERRORS as error:
        return f"speed: not compared, since a source cannot be read: {error}"
    low, high = min(ratios), max(ratios)
    return (
        f"speed: reading, decoding and scaling a clip of {_FRAMES} frames to {_SIDE}x{_SIDE} is "
        f"{statistics.median(ratios):.1f} times as fast as before ({low:.1f} to {high:.1f} in {len(ratios)} rounds of "
        f"{min(_CLIPS, len(rows))} clips, one thread)"
    )


def speed_ratios(before: dv.Manifest, after: dv.Manifest, rows: np.ndarray) -> Iterator[float]:
    """For each round the processor time of some clips before, compared with that after, in turn clip by clip."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, _CLIPS).astype(int))
    started = time.monotonic()
    for number in range(_ROUNDS):
        if number and time.monotonic() - started > _SECONDS:
            return
        spent = np.zeros(2)
        for place in chosen.tolist():
            row = int(rows[place])
            first, last = (before.table[name][row].as_py() for name in ("first_frame", "last_frame"))
            middle = max(first, (first + last - _FRAMES * _STRIDE) // 2)
            frames = np.minimum(middle + np.arange(_FRAMES) * _STRIDE, last - 1)
            for side, (manifest, sample) in enumerate(((before, row), (after, place))):
                video = manifest.video(sample)
                height, width = video.shown_size
                crop = min(height, width)
                box = crop_rows(
                    np.array([(height - crop) // 2]), np.array([(width - crop) // 2]), crop, crop, _SIDE, _SIDE
                )[0]
                spent[side] += sum(decode(video, frames, [box]).seconds.values())
        yield spent[0] / spent[1]
