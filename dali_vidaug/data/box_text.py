"""Boxes in text files without a header: AVA's CSV and MOT's."""

from __future__ import annotations

import configparser
import csv
import math
from collections.abc import Iterator
from pathlib import Path

from dali_vidaug.data.box_file import BoxFile, KeyList, from_width, number, whole

AVA_FIELDS = "video_id, seconds, x1, y1, x2, y2, action_id, person_id"
MOT_FIELDS = "frame, id, left, top, width, height[, flag[, class, visibility]]"
# Names of the classes of MOT16, MOT17 and MOT20 by number; https://motchallenge.net
_MOT_CLASSES = (
    "pedestrian,person on vehicle,car,bicycle,motorbike,non motorized vehicle,static person,distractor,occluder,"
    "occluder on the ground,occluder full,reflection,crowd"
).split(",")


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, each with the number of its line.

    Raises:
        ValueError: it is not CSV, or not UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for row in reader:
                if any(value.strip() for value in row):
                    yield reader.line_num, [value.strip() for value in row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error


def read_ava(path: Path) -> BoxFile:
    """Read a CSV file of AVA: boxes of persons, once a second, a row for each action.

    Raises:
        ValueError: it is something else; the line is named.
    """
    found, empty, scored = KeyList(), 0, 0
    for line, row in read_rows(path):
        place = f"{path}, line {line}"
        if len(row) not in (6, 7, 8):
            raise ValueError(f"{place}: a row of AVA has {AVA_FIELDS}, got {len(row)} values")
        name, seconds, *corners = row[:6]
        seconds_at = number(place, "seconds", seconds)
        video = found.video(name)
        if not any(corners):
            empty += 1
            found.add(line, video, seconds_at, (math.nan,) * 4, -1, outside=True)
            continue
        xyxy = [number(place, side, value) for side, value in zip(("x1", "y1", "x2", "y2"), corners, strict=True)]
        action, person = (row[6] if len(row) > 6 else ""), (row[7] if len(row) > 7 else "")
        action = action and str(whole(place, "action_id", action))
        if action in ("", "-1"):  # detected: what follows is a score
            scored += bool(person)
            person = ""
        track = whole(place, "person_id", person) if person else -1
        found.add(line, video, seconds_at, xyxy, found.label(action or None), track)
    notes = {
        "rows without a box": empty,
        "rows without an action, whose last value is taken for a score: no track": scored,
    }
    return found.file(path, "ava", "line", in_seconds=True, in_shares=True, between="none", notes=notes)


def read_mot(path: Path) -> BoxFile:
    """Read a text file of MOT: frames and coordinates begin at 1.

    A labels.txt beside it names its classes. Such files are of CVAT, whose coordinates begin at 0.

    Raises:
        ValueError: it is something else; the line is named.
    """
    found, ignored, world = KeyList(), 0, 0
    video, found.named = found.video(_name_of_sequence(path.resolve())), False
    labels = path.parent / "labels.txt"
    declared = labels.is_file()
    classes = [name.strip() for name in labels.read_text(encoding="utf-8").split("\n")] if declared else _MOT_CLASSES
    for name in classes if declared else ():
        if name:
            found.label(name)
    first = 0 if declared else 1
    for line, row in read_rows(path):
        place = f"{path}, line {line}"
        if not 6 <= len(row) <= 10:
            raise ValueError(f"{place}: a row of MOT has {MOT_FIELDS}, got {len(row)} values")
        frame, track = whole(place, "frame", row[0]), whole(place, "id", row[1])
        found.frames[video].add(frame)
        x1, y1, x2, y2 = (side - first for side in from_width(place, row[2:6]))
        if len(row) > 6 and number(place, "flag", row[6]) == 0:
            ignored += 1
            continue
        kind = -1
        if len(row) in (8, 9) or (len(row) == 10 and declared):
            kind = whole(place, "class", row[7])
            if kind != -1 and not (0 < kind <= len(classes) and classes[kind - 1]):
                raise ValueError(f"{place}: class must be 1 to {len(classes)}, or -1, got {kind}")
        elif len(row) == 10:
            world += any(number(place, "x, y and z", value) != -1 for value in row[7:])
        label = found.label(None if kind == -1 else classes[kind - 1])
        found.add(line, video, frame, (x1, y1, x2, y2), label, track)
    notes = {
        "rows whose flag is 0, left out": ignored,
        "rows whose values 8 to 10 are taken for a place in the world, not for a class": world,
        "files with a labels.txt beside them, whose coordinates are taken to begin at 0, as CVAT writes them": declared,
    }
    if sequence := _sequence(path):
        found.set_size(str(path), video, sequence["imWidth"], sequence["imHeight"])
        if "seqLength" in sequence:
            found.lengths[video] = whole(str(path), "seqLength of seqinfo.ini", sequence["seqLength"])
    return found.file(path, "mot", "line", declared=declared, first_frame=1, between="step", notes=notes)


def _name_of_sequence(path: Path) -> str:
    """MOT17-02/gt/gt.txt and MOT17-02/gt.txt are of MOT17-02, and so is MOT17-02.txt."""
    folders = (path.parent.name, path.parent.parent.name)
    if path.stem not in ("gt", "det"):
        return path.stem
    return folders[1] if folders[0] in ("gt", "det") else folders[0]


def _sequence(path: Path) -> configparser.SectionProxy | None:
    """What a seqinfo.ini above the file says: imWidth and imHeight among others."""
    for folder in (path.parent, path.parent.parent):
        file = folder / "seqinfo.ini"
        if file.is_file():
            parser = configparser.ConfigParser(interpolation=None)
            try:
                parser.read(file, encoding="utf-8")
                parser.getfloat("Sequence", "imWidth"), parser.getfloat("Sequence", "imHeight")
            except (configparser.Error, ValueError) as error:
                raise ValueError(f"{file}: imWidth and imHeight must be numbers in [Sequence]: {error}") from error
            return parser["Sequence"]
    return None
