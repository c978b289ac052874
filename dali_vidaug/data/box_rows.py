"""Boxes of files to those of a manifest's rows: the frames they are in, pixels, tracks."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dali_vidaug.data.box_file import BoxFile, Sayings, check_keys
from dali_vidaug.data.box_names import VideoNames
from dali_vidaug.data.box_sources import merge_labels, read_boxes
from dali_vidaug.data.box_video import BoxOptions, boxes_of_video
from dali_vidaug.data.boxes import KeyBoxes, pack
from dali_vidaug.data.classes import read_given_classes
from dali_vidaug.data.entry import Classes, name_some, plural
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import restore_name
from dali_vidaug.data.schema import BOXES
from dali_vidaug.errors import printable

log = logging.getLogger("dali_vidaug")

FACTS = ("num_frames", "width", "height", "orientation", "fps", "time_base", "pts_step", "pts")  # of a row


class GivenBoxes(NamedTuple):
    """The boxes that ``scan`` was given, read; how they are to be understood; sentences on what was passed over."""

    files: list[BoxFile]
    options: BoxOptions
    notes: list[str]


def given_boxes(
    boxes: Any, form: str | None, first_frame: int | None, hold: float, classes: Any, like: Sequence[str]
) -> GivenBoxes | None:
    """Read the boxes that ``scan`` was given; None without any. Arguments and errors as of ``scan``; ``like``: the box
    classes of that manifest."""
    if boxes is None:
        if (form, first_frame, classes) != (None, None, None) or hold:
            raise ValueError(
                "scan: boxes_format, boxes_first_frame, boxes_hold and box_classes are for boxes=, which is missing"
            )
        return None
    if first_frame is not None and (
        isinstance(first_frame, bool) or not isinstance(first_frame, int) or first_frame < 0
    ):
        raise ValueError(f"scan: boxes_first_frame must be the number of the first frame, 0 or 1, got {first_frame!r}")
    if isinstance(hold, bool) or not isinstance(hold, (int, float)) or not 0 <= hold < math.inf:
        raise ValueError(f"scan: boxes_hold must be seconds, at least 0, got {hold!r}")
    names = None if classes is None else read_given_classes(classes, "box_classes")
    if names is None and like:
        names = Classes(tuple(like), {}, "like=")
    files, notes = read_boxes(boxes, form)
    return GivenBoxes(files, BoxOptions(first_frame, float(hold), names), notes)


def loses_boxes(output: str | os.PathLike[str]) -> bool:
    """Whether a manifest's file, of which there may be none, has boxes."""
    return Path(output).is_file() and BOXES.name in pq.read_schema(output).names


def add_boxes(manifest: Manifest, given: GivenBoxes | None, output: str | os.PathLike[str] | None = None) -> Manifest:
    """The manifest with the boxes of each row; itself if none are given, and then it is told if its file had some.

    Args:
        manifest: what was scanned.
        given: from ``given_boxes``.
        output: the file that the manifest is for, which there may be.

    Raises:
        ValueError: boxes contradict each other or the videos, or no video has any.
    """
    if given is None:
        if output is not None and loses_boxes(output):
            log.warning("scan: %s", text := f"the boxes that {output} had are not kept; boxes= gives them again")
            manifest.remarks = (text, *manifest.remarks)
        return manifest
    paths = [restore_name(path) for path in manifest.table["path"].to_pylist()]
    row_of = {path: row for row, path in reversed(list(enumerate(paths)))}
    names, said = VideoNames(list(dict.fromkeys(paths))), Sayings()
    classes = merge_labels(given.files) if given.options.classes is None else given.options.classes.names
    found, unknown = _find_videos(manifest.table, row_of, names, classes, given, said)
    if not found:
        had = f"none of the videos that have boxes ({name_some(list(unknown))})" if unknown else "no video"
        where = f"is among those that are scanned ({name_some(list(names.paths))})"
        raise ValueError(f"boxes: {had} {where}: {name_some([file.path for file in given.files])}")
    first, last = (manifest.table[name].to_pylist() for name in ("first_frame", "last_frame"))
    rows = [
        found[path][1].between(*part) if path in found else None for path, *part in zip(paths, first, last, strict=True)
    ]
    warnings = [f"boxes: {text}" for text in (*said.sentences(), *_left_over(unknown, names))]
    for text in warnings:
        log.warning("scan: %s", printable(text))
    notes = [*given.notes, *_what_was_read(given.files, found)]
    without = [path for path in names.paths if path not in found]
    if without:
        notes.append(f"videos without boxes: {len(without)} ({name_some(without)})")
    remarks = (*warnings, *manifest.remarks, *(f"boxes: {text}" for text in notes))
    return Manifest(
        manifest.table.append_column(BOXES, pack(rows)), manifest.classes, manifest.root, manifest.broken,
        map(printable, remarks), manifest.packets, classes,
    )  # fmt: skip


def _find_videos(
    table: pa.Table, row_of: dict[str, int], names: VideoNames, classes: Sequence[str], given: GivenBoxes, said: Sayings
) -> tuple[dict[str, tuple[str, KeyBoxes]], Counter[str]]:
    """For each video that has boxes the file and the boxes; how many there are of videos that are not scanned."""
    found: dict[str, tuple[str, KeyBoxes]] = {}
    unknown: Counter[str] = Counter()
    for file in given.files:
        check_keys(file)
        labelled = _with_classes(file, classes, given.options.classes)
        order = np.argsort(file.keys.video, kind="stable")
        bounds = np.searchsorted(file.keys.video[order], np.arange(len(file.videos) + 1)).tolist()
        for number, called in enumerate(file.videos):
            rows, video = order[bounds[number] : bounds[number + 1]], names.find(file, called)
            if video is None:
                unknown[called[0]] += int((~file.keys.outside[rows]).sum())
                continue
            path = names.paths[video]
            if path in found:
                raise ValueError(f"boxes: {path} is in {found[path][0]} and again in {file.path}, as {called[0]}")
            (facts,) = table.select(FACTS).slice(row_of[path], 1).to_pylist()
            found[path] = file.path, boxes_of_video(labelled, number, rows, path, facts, given.options, said)
    return found, unknown


def _left_over(unknown: Counter[str], names: VideoNames) -> Iterator[str]:
    """Sentences on boxes of other videos, and on videos that were found by half of their name."""
    if unknown:
        boxes = plural(unknown.total(), "box", "boxes")
        yield f"videos that are not scanned: {len(unknown)}, with {boxes} ({name_some(list(unknown))})"
    if names.by_file_name:
        yield (
            f"videos found by the name of their file, in other folders than the boxes say: {len(names.by_file_name)} "
            f"({name_some(names.by_file_name)})"
        )


def _with_classes(file: BoxFile, classes: Sequence[str], given: Classes | None) -> BoxFile:
    """The file with indices of classes for its own labels.

    Raises:
        ValueError: a label is not among the classes.
    """
    index = {name: i for i, name in enumerate(classes)}
    numbers = {i: i for i in range(len(classes))} if given is None else given.numbers
    if file.format == "ava" and given is not None and not given.numbered:
        numbers = {i + 1: i for i in numbers}  # AVA counts its actions from 1
    codes = [index.get(name, numbers.get(int(name), -1) if name.isdecimal() else -1) for name in file.labels]
    keys = file.keys
    for code in np.unique(keys.label[keys.label >= 0]).tolist():
        if codes[code] < 0:
            place = file.at(int(np.argmax(keys.label == code)))
            source = "" if given is None else f" ({given.source})"
            raise ValueError(
                f"{place}: label {file.labels[code]!r} is not among {plural(len(classes), 'box class', 'box classes')}"
                f"{source}: {name_some(list(classes), 10)}"
            )
    return file._replace(keys=keys._replace(label=np.array([*codes, -1], np.int64)[keys.label]))


def _what_was_read(files: Sequence[BoxFile], found: dict[str, tuple[str, KeyBoxes]]) -> Iterator[str]:
    """Sentences on what the files of each format had of the videos, and on what they had that was not used as it is."""
    for form in dict.fromkeys(file.format for file in files):
        paths = dict.fromkeys(file.path for file in files if file.format == form)
        videos = [boxes for path, boxes in found.values() if path in paths]
        boxes = sum(int((video.end > video.frame).sum()) for video in videos)
        tracks = sum(len(np.unique(video.track[video.track >= 0])) for video in videos)
        counts = plural(boxes, "box", "boxes"), plural(len(videos), "video"), plural(tracks, "track")
        yield f"{name_some(list(paths))}: read as {form}: {counts[0]} of {counts[1]}, {counts[2]}"
    for text in dict.fromkeys(text for file in files for text, count in file.notes.items() if count):
        having = [file for file in files if file.notes.get(text)]
        yield f"{text}: {sum(file.notes[text] for file in having)} ({name_some([file.path for file in having])})"
