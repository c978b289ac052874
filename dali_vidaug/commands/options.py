"""Options of the command line: numbers with their ranges, what is refused before any work is done, and their help."""

from __future__ import annotations

import argparse
import ast
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

import dali_vidaug as dv
from dali_vidaug.data.box_sources import FORMATS
from dali_vidaug.data.engine import ENGINES
from dali_vidaug.data.list_formats import FORMATS as LISTS
from dali_vidaug.data.measuring import TIMEOUT
from dali_vidaug.data.parts import Part, as_part
from dali_vidaug.data.rates import FPS_LEAST, FPS_MOST
from dali_vidaug.data.schema import is_manifest
from dali_vidaug.rng import MAX_EPOCH, MAX_SEED


class OptionError(ValueError):
    """An option is wrong, which only the data could tell: the command ends with 2."""


@dataclass(frozen=True)
class Number:
    """The ``type`` of an option: a number in [low, high]. Anything else ends the command with 2, before it begins."""

    low: float
    high: float
    kind: Callable[[str], float] = int

    def __call__(self, text: str) -> float:
        """The number that a text is.

        Raises:
            argparse.ArgumentTypeError: it is none, or out of range; argparse puts the option's name before it.
        """
        try:
            value = self.kind(text)
        except ValueError:
            value = float("nan")
        if not self.low <= value <= self.high:
            what = "a whole number" if self.kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {what} in [{self.low}, {self.high}], got {text!r}")
        return value


CLIPS = Number(1, 4096)  # in a batch
FRAMES = Number(1, 1024)  # of a clip
STRIDE = Number(1, 10**6)
SIZE = Number(1, 16384)  # pixels
EPOCHS = Number(1, MAX_EPOCH)
EPOCH = Number(0, MAX_EPOCH - 1)
SEED = Number(0, MAX_SEED - 1)
SAMPLE = Number(0, 2**32 - 1)
STREAM = Number(0, 2**31 - 1)
THREADS = Number(1, 1024)
MEGABYTES = Number(1, 10**9)  # of a shard
IN_SHARD = Number(1, 2**32)  # videos of a shard
MAGNITUDE = Number(0, 30, float)
FIRST_FRAME = Number(0, 2**31 - 1)
HOLD = Number(0, 3600, float)  # seconds
TIMEOUT_SECONDS = Number(0, 10**6, float)
FPS = Number(FPS_LEAST, FPS_MOST, float)

VIDEOS = "DIR|LIST|MANIFEST"


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to the help of an option, unless there is none or the help says it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.default in (None, False) or "default" in (action.help or "")
        return action.help if said else super()._get_help_string(action)


def check_picture(path: str) -> None:
    """Refuse the name of a picture that could not be written in the end.

    Raises:
        ValueError: no such folder, or not the suffix of a picture.
    """
    known = Image.registered_extensions()
    if known.get(Path(path).suffix.lower()) not in Image.SAVE:
        raise ValueError(f"--output: a picture's name must end in .png, .jpg or the like, got {path}")
    if not Path(path).resolve().parent.is_dir():
        raise ValueError(f"--output: there is no folder {Path(path).resolve().parent}")


@contextmanager
def remarks_not_logged() -> Iterator[None]:
    """While it lasts a scan does not log its remarks, for a command that prints them in the summary."""
    log = logging.getLogger("dali_vidaug")

    def is_other(record: logging.LogRecord) -> bool:
        return record.msg != "scan: %s"

    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)


def with_names(text: str, known: Mapping[str, type]) -> str:
    """An object that a user wrote in Python, as ``repr`` writes it: with the names of arguments, without ``dv.``.

    Args:
        text: calls of dataclasses, as "dv.ClipSampling(16, stride=4)".
        known: the dataclasses by name; others are left for ``Recipe.parse`` to refuse.

    Raises:
        SyntaxError: it is not Python.
        ValueError: an argument is given twice.
    """
    tree = ast.parse(text.strip(), mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).removeprefix("dv.")
            node.func = ast.Name(name)
            arguments = [field.name for field in fields(known[name])] if name in known else []
            if len(node.args) <= len(arguments):
                given = [ast.keyword(field, value) for field, value in zip(arguments, node.args, strict=False)]
                node.args, node.keywords = [], [*given, *node.keywords]
            if len({word.arg for word in node.keywords}) < len(node.keywords):
                raise ValueError(f"an argument of {name} is given twice")
    return ast.unparse(tree)


def open_videos(path: str) -> dv.Manifest:
    """The manifest of what a user names: one that was written, or a folder or list, which are measured."""
    return dv.Manifest.read(path) if is_manifest(path) else dv.scan(path)


def add_boxes(parser: Any) -> None:
    """The options of ``scan`` for boxes."""
    parser.add_argument(
        "--boxes",
        metavar="FILE",
        nargs="+",
        help="boxes in the frames: AVA CSV, CVAT XML, MOT text, COCO JSON, a Parquet or CSV table with path, frame, "
        "x1, y1, x2, y2, or a folder of such files (docs/boxes.md)",
    )
    parser.add_argument("--boxes-format", choices=tuple(FORMATS), help="default: what each file is found to be")
    parser.add_argument(
        "--boxes-first-frame", type=FIRST_FRAME, metavar="NUMBER",
        help="the number of a video's first frame in the files; default: 1 in MOT, of images what they tell, else 0",
    )  # fmt: skip
    parser.add_argument(
        "--boxes-hold", type=HOLD, metavar="SECONDS", default=0.0,
        help="show a box without a track, or of AVA, so long before and after its frame too",
    )  # fmt: skip
    parser.add_argument(
        "--box-classes", metavar="FILE", help="the classes of boxes, as --classes, or a label map (.pbtxt)"
    )


def add_lists(parser: Any) -> None:
    """The options of ``scan`` for lists."""
    parser.add_argument(
        "--format", choices=tuple(LISTS), metavar="NAME",
        help=f"the format of the list, default: what it is found to be; one of {', '.join(LISTS)}",
    )  # fmt: skip
    parser.add_argument(
        "--split", metavar="NAME", help="the rows to take of a list with several splits: train; in HMDB51 train1"
    )
    parser.add_argument(
        "--encoding", metavar="NAME", help="what the list is written in, such as latin-1; default: UTF-8 or UTF-16"
    )


def _part(text: str) -> Part:
    """The ``type`` of --part."""
    try:
        return as_part(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("scan: ")) from error


def add_engine(parser: Any) -> None:
    """The options of ``scan`` for large lists."""
    parser.add_argument(
        "--engine", choices=ENGINES, default="threads",
        help="what measures the videos: threads or processes of this machine, or Ray, on the cluster that RAY_ADDRESS "
        "names (docs/scanning.md)",
    )  # fmt: skip
    parser.add_argument(
        "--part", type=_part, metavar="I/N",
        help="measure part I, counted from 0, of N, such as $SLURM_ARRAY_TASK_ID/16, and write it to a file of its own "
        "beside --output; dali-vidaug merge puts the parts together",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=TIMEOUT_SECONDS, metavar="SECONDS", default=TIMEOUT,
        help="give up a file that takes longer; 0: no limit",
    )  # fmt: skip


def add_common(parser: Any, output: str) -> None:
    """The options that all commands that draw have."""
    parser.add_argument("-o", "--output", default=output, metavar="PNG", help="where to draw")
    parser.add_argument("--num-frames", type=FRAMES, default=16, help="frames in a clip")
    parser.add_argument("--seed", type=SEED, default=0, help="of everything random")
