"""The command ``pack``: videos into tar shards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import dali_vidaug as dv
from dali_vidaug.commands.options import (
    IN_SHARD,
    MEGABYTES,
    SEED,
    THREADS,
    VIDEOS,
    Help,
    open_videos,
    remarks_not_logged,
)
from dali_vidaug.commands.summary import summary
from dali_vidaug.data.engine import ENGINES
from dali_vidaug.data.entry import plural
from dali_vidaug.data.pack import check_pack
from dali_vidaug.data.shard_journal import journal_path, prefix_of


def add_pack(commands: Any) -> None:
    """Add the command and its options to the parser's ``commands``."""
    pack = commands.add_parser(
        "pack",
        help="write videos into tar shards, as WebDataset has them",
        description="Writes the videos of a manifest into tar shards: KEY.mp4, KEY.json (label, class, where the video "
        "was, your own columns) and KEY.cls, uncompressed, which WebDataset and dali-vidaug scan read. Writes the "
        "manifest of the shards too, without measuring again, so that clips are read from the shards by place. Each "
        "video is compared with the one that was scanned, and each member with what was read. An interrupted pack goes "
        "on where it stopped.",
        formatter_class=Help,
        usage=f"%(prog)s [-h] {VIDEOS} -o DIR/NAME-%%06d.tar [options]",
    )
    pack.add_argument("videos", metavar=VIDEOS, help="a manifest; or a folder or list, which is scanned first")
    pack.add_argument(
        "-o", "--output", metavar="DIR/NAME-%06d.tar", required=True,
        help="the shards to write, with %%06d for their number",
    )  # fmt: skip
    pack.add_argument("--manifest", metavar="PARQUET", help="their manifest (default: NAME.parquet beside them)")
    pack.add_argument(
        "--shard-size", type=MEGABYTES, default=1000, metavar="MB", help="million bytes of videos in a shard, at most"
    )
    pack.add_argument(
        "--shard-count", type=IN_SHARD, metavar="N", help="videos in a shard, at most (default: any number)"
    )
    pack.add_argument(
        "--keep-order", action="store_true", help="do not shuffle: by default each shard has videos of all classes"
    )
    pack.add_argument("--seed", type=SEED, default=0, help="of the shuffled order")
    pack.add_argument(
        "--check-files", choices=("size_and_time", "size"), default="size_and_time",
        help="what of a file must be as it was scanned, besides bytes at eight places: size for copied files",
    )  # fmt: skip
    pack.add_argument("--engine", choices=ENGINES, default="threads", help="what writes the shards")
    pack.add_argument("--num-workers", type=THREADS, help="shards written at the same time (default: all cores)")
    pack.set_defaults(run=run_pack, check=_check)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    out = Path(args.output)
    return {
        "output": args.manifest or out.parent / f"{prefix_of(out.name)}.parquet",
        "shard_size": int(args.shard_size) * 10**6,
        "shard_count": args.shard_count,
        "check_files": args.check_files,
    }


def _check(args: argparse.Namespace) -> None:
    check_pack(args.output, **_options(args))


def run_pack(args: argparse.Namespace) -> int:
    """dali-vidaug pack."""
    options = _options(args)
    with remarks_not_logged():
        manifest = open_videos(args.videos)
    try:
        packed = dv.pack(
            manifest, args.output, **options, shuffle=not args.keep_order, seed=args.seed, engine=args.engine,
            num_workers=args.num_workers,
        )  # fmt: skip
    except KeyboardInterrupt:
        kept = journal_path(Path(args.output).resolve().parent, Path(args.output).name)
        if not kept.is_file():
            raise
        print(f"dali-vidaug pack: interrupted; the same command goes on from here, with {kept}", file=sys.stderr)
        return 130
    shards = packed.table["shard"].unique()
    print(summary(packed))
    print(f"wrote {plural(len(shards), 'shard')} into {packed.root}, and {options['output']}")
    return 0
