"""`scan`: videos to a manifest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import dali_vidaug as dv
from dali_vidaug.commands.options import (
    FPS,
    STREAM,
    THREADS,
    Help,
    add_boxes,
    add_engine,
    add_lists,
    remarks_not_logged,
)
from dali_vidaug.commands.summary import summary
from dali_vidaug.data.engine import check_engine
from dali_vidaug.data.entry import name_some
from dali_vidaug.data.parts import part_path
from dali_vidaug.data.schema import check_file_name

_LISTS = (".csv", ".tsv", ".txt", ".list", ".json", ".jsonl", ".parquet", ".pq")


def add_scan(commands: Any) -> None:
    """The parser of `scan`."""
    scan = commands.add_parser(
        "scan",
        help="measure videos and write a manifest",
        description="Measures each video once: true number of frames, key frames, size, rotation, frame rate, codec. "
        "Files that cannot be used are listed with the reason. Unchanged files are not measured again, and an "
        "interrupted scan continues where it stopped.",
        formatter_class=Help,
        usage="%(prog)s [-h] DIR|LIST|VIDEO [VIDEO ...] -o PARQUET [options]",
    )
    scan.add_argument(
        "videos",
        metavar="DIR|LIST|VIDEO",
        nargs="+",
        help="a folder with a sub-folder for each class, of videos or of folders of images; or a list: CSV or Parquet "
        "with path[, label, start, end], or one of a public data set (--format has their names, docs/lists.md what "
        "each looks like); or videos; or tar shards: their folder, files, or 'train-{000000..000123}.tar'; URLs too, "
        "such as s3://bucket/folder (docs/storage.md)",
    )
    scan.add_argument("-o", "--output", metavar="PARQUET", required=True, help="the manifest to write")
    add_lists(scan)
    scan.add_argument(
        "--root", metavar="DIR", help="folder or URL that the list's paths or videos are in (default: the list's)"
    )
    scan.add_argument(
        "--like", metavar="MANIFEST", help="take the classes of this manifest: --like train.parquet for validation"
    )
    scan.add_argument("--classes", metavar="FILE", help="the classes: a name, or a number and a name, in each line")
    scan.add_argument(
        "--multi-label", metavar="SEPARATOR", help='what separates several labels of a sample, such as ";"'
    )
    scan.add_argument(
        "--label-columns", metavar="NAME", nargs="+", help="columns of a list with labels; after the list"
    )
    add_boxes(scan)
    scan.add_argument("--deep", action="store_true", help="decode every frame, not only both ends of each video")
    scan.add_argument(
        "--no-index", action="store_true", help="do not keep where packets lie: clips open the containers of files"
    )
    scan.add_argument(
        "--headers",
        action="store_true",
        help="read only headers and first frames, where these say enough: proven when a clip is first loaded",
    )
    scan.add_argument(
        "--stream", type=STREAM, metavar="INDEX", help="stream of each file; default: the video that FFmpeg would play"
    )
    scan.add_argument("--fps", type=FPS, help="frames per second of folders of images; default: a column fps, or none")
    scan.add_argument(
        "--frame-names", metavar="PATTERN", help="which images of a folder are frames, such as 'img_*.jpg'"
    )
    scan.add_argument("--num-threads", type=THREADS, help="videos measured at the same time (default: all cores)")
    add_engine(scan)
    scan.set_defaults(run=run_scan, check=check_scan)


def check_scan(args: argparse.Namespace) -> None:
    """Refuse an output that could not be written, and several arguments that are not all videos."""
    check_engine(args.engine)
    check_file_name(args.output, "--output")
    folder = Path(args.output).resolve().parent
    if not folder.is_dir():
        raise ValueError(f"--output: there is no folder {folder}; mkdir -p makes it")
    others = [name for name in args.videos if Path(name).suffix.lower() in _LISTS or Path(name).is_dir()]
    if others and len(args.videos) > 1:
        raise ValueError(
            f"several arguments must be videos, but there is {name_some(others)}; scan folders and lists one by one, "
            "and join the manifests in Python: train = first + second"
        )


def run_scan(args: argparse.Namespace) -> int:
    """dali-vidaug scan."""
    output = args.output if args.part is None else part_path(args.output, args.part)
    try:
        with remarks_not_logged():
            manifest = dv.scan(
                args.videos if len(args.videos) > 1 else args.videos[0], format=args.format, split=args.split,
                encoding=args.encoding, root=args.root, output=args.output,
                classes=args.classes, like=args.like, multi_label=args.multi_label, label_columns=args.label_columns,
                stream=args.stream, deep=args.deep, index=not args.no_index,
                num_threads=args.num_threads, boxes=args.boxes, boxes_format=args.boxes_format,
                boxes_first_frame=args.boxes_first_frame, boxes_hold=args.boxes_hold, box_classes=args.box_classes,
                engine=args.engine, part=args.part, timeout=args.timeout or None,
                fps=args.fps, frame_names=args.frame_names, headers=args.headers,
            )  # fmt: skip
    except KeyboardInterrupt:
        kept = Path(f"{output}.partial")
        if not kept.is_file():
            raise
        print(f"dali-vidaug scan: interrupted; the same command goes on from here, with {kept}", file=sys.stderr)
        return 130
    print(summary(manifest))
    print(f"wrote {output}")
    return 0
