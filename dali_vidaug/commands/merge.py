"""`merge`: the parts of a scan, put together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import dali_vidaug as dv
from dali_vidaug.commands.options import Help, add_boxes, remarks_not_logged
from dali_vidaug.commands.summary import summary
from dali_vidaug.data.schema import check_file_name


def add_merge(commands: Any) -> None:
    """The parser of `merge`."""
    merge = commands.add_parser(
        "merge",
        help="put the parts of a scan together",
        description="Makes one manifest of the files that scan --part wrote: the one that a single scan would have "
        "written. Refuses parts that are missing, come twice or are of different scans. Boxes are given here, not to "
        "scan --part.",
        formatter_class=Help,
        usage="%(prog)s [-h] PART [PART ...] -o PARQUET [options]",
    )
    merge.add_argument("parts", metavar="PART", nargs="+", help="files that scan --part wrote, in any order")
    merge.add_argument("-o", "--output", metavar="PARQUET", required=True, help="the manifest to write")
    add_boxes(merge)
    merge.set_defaults(run=run_merge, check=check_merge)


def check_merge(args: argparse.Namespace) -> None:
    """Refuse an output that could not be written, and parts that are not there."""
    check_file_name(args.output, "--output")
    for part in args.parts:
        if not Path(part).is_file():
            raise ValueError(f"there is no file {part}")


def run_merge(args: argparse.Namespace) -> int:
    """dali-vidaug merge."""
    with remarks_not_logged():
        manifest = dv.merge(
            args.parts, args.output, boxes=args.boxes, boxes_format=args.boxes_format,
            boxes_first_frame=args.boxes_first_frame, boxes_hold=args.boxes_hold, box_classes=args.box_classes,
        )  # fmt: skip
    print(summary(manifest))
    print(f"wrote {args.output}")
    return 0
