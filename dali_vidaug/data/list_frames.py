"""Lists of folders of images that are videos: ``folder total label ...``, and SlowFast's list of each frame."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from dali_vidaug.data.entry import Entry, Listing
from dali_vidaug.data.folder import is_video_name
from dali_vidaug.data.labels import is_missing, is_number, whole_number
from dali_vidaug.data.list_lines import are_numbers
from dali_vidaug.data.list_source import LabelRows, Source, make_listing
from dali_vidaug.data.names import restore_name
from dali_vidaug.media.image_names import is_image_name

_SLOWFAST_HEADER = ["original_vido_id", "video_id", "frame_id", "path", "labels"]  # spelled so in SlowFast's files
_LOOKED_AT = 50  # lines
_START = "FOLDER START TOTAL LABEL ..."
_TOTAL = "FOLDER TOTAL LABEL ..."


class FrameFolder(NamedTuple):
    """A folder of frames in a list: the first frame, how many there are, and the labels.

    Attributes:
        number: what the list says that the image of frame 0 is called; None: nothing.
    """

    path: str
    first: int
    total: int
    labels: tuple[str, ...]
    place: str
    number: int | None = None


def _part(line: str) -> tuple[str, list[str]]:
    """The path and the whole numbers after it; no numbers if something else is there.

    Words that are no numbers are of the path, if spaces alone separate them.
    """
    if "," in line:
        path, *rest = re.split(r"[\s,]+", line)
        return path, rest if are_numbers(rest) else []
    words = line.split()
    last = max((i for i, word in enumerate(words) if i == 0 or not are_numbers([word])), default=0)
    alone = any(is_number(word) or _is_file(word) for word in words[1 : last + 1])
    path = line.rsplit(None, len(words) - last - 1)[0] if words else ""
    return path, [] if alone else words[last + 1 :]


def fits_frames(source: Source) -> bool:
    """Whether lines have a folder, the number of its frames, and labels."""
    if fits_slowfast_frames(source) or source.json is not None:
        return False
    parts = [_part(line) for _, line in source.lines[:_LOOKED_AT]]
    return bool(parts) and all(len(numbers) >= 2 and not any(map(_is_file, path.split())) for path, numbers in parts)


def _is_file(path: str) -> bool:
    return is_video_name(path) or is_image_name(path)


def frame_folders(source: Source, with_start: bool = False) -> list[FrameFolder]:
    """The folders of frames of a list: ``folder total label ...``, or ``folder start total label ...`` if told so.

    Raises:
        ValueError: a line has something else.
    """
    expected, least = (_START, 2) if with_start else (_TOTAL, 2 - (source.options.format is not None))
    folders = []
    for number, line in source.lines:
        path, numbers = _part(line)
        if len(numbers) < least or _is_file(path):
            source.refuse(number, expected, line)
        values = [whole_number(value) or 0 for value in numbers]
        first, total, *_ = values if with_start else (0, *values)
        labels = tuple(value for value in numbers[1 + with_start :] if not is_missing(value))
        if total < 1 or first < 0:
            source.refuse(number, f"{expected}, with at least one frame", line)
        if len(set(labels)) < len(labels):
            source.refuse(number, f"{expected}, each label once", line)
        folders.append(FrameFolder(path, first, total, labels, source.place(number)))
    return folders


def read_frames(source: Source) -> Listing:
    """Read ``folder total label ...`` of TSN and MMAction2, or ``folder start total`` of VideoMAE V2.

    The images of a folder are counted from the first one. In VideoMAE V2's lists, START is its number, 0 or 1.

    Raises:
        ValueError: a line has something else, or each line has three numbers, which may mean two things.
    """
    numbers = [_part(line)[1] for _, line in source.lines]
    if all(len(row) == 2 and row[0] in ("0", "1") for row in numbers) and any(row[1] > "1" for row in numbers):
        folders = [folder._replace(first=0, number=folder.first) for folder in frame_folders(source, with_start=True)]
        return _listing(source, folders, ["the numbers are read as START TOTAL: the number of the first image, and how "
                                          "many there are; no sample has a label"])  # fmt: skip
    if all(len(row) == 3 for row in numbers) and source.options.format is None:
        source.refuse(
            source.lines[0][0], f"{_TOTAL} or {_START}: three numbers may be either; format='frames' or 'frames_start' "
            "says which", source.lines[0][1],
        )  # fmt: skip
    return _listing(source, frame_folders(source), [])


def read_frames_start(source: Source) -> Listing:
    """Read ``folder start total label ...`` of MMAction2's ``with_offset``: frames [start, start + total), from 0.

    Raises:
        ValueError: a line has something else.
    """
    return _listing(source, frame_folders(source, with_start=True), ["START is counted from 0, the first image"])


def _listing(source: Source, folders: list[FrameFolder], notes: list[str]) -> Listing:
    several = any(len(folder.labels) > 1 for folder in folders)
    if several:
        notes = [*notes, "the largest label tells how many classes there are; classes=range(n) says it"]
    entries = [
        Entry(restore_name(f.path), f.place, float(f.first), float(f.first + f.total), in_frames=True,
              numbers=(f.number, f.first + f.total))
        for f in folders
    ]  # fmt: skip
    return make_listing(source, entries, [folder.labels for folder in folders], several=several, notes=notes)


def fits_slowfast_frames(source: Source) -> bool:
    """Whether the list is SlowFast's of each frame, by its header."""
    return bool(source.lines) and source.lines[0][1].split() == _SLOWFAST_HEADER


def read_slowfast_frames(source: Source) -> Listing:
    """Read SlowFast's list of frames, as for Charades: a video of the images that have one ``original_vido_id``.

    Raises:
        ValueError: a line has something else.
    """
    expected = " ".join(_SLOWFAST_HEADER)
    if not fits_slowfast_frames(source):
        source.refuse(1, expected, source.lines[0][1] if source.lines else "")
    videos: dict[str, tuple[list[str], dict[str, None], str]] = {}  # paths, labels, place
    alike = True
    for number, line in source.lines[1:]:
        fields = shlex.split(line)
        if len(fields) not in (4, 5) or not are_numbers(fields[1:3]):
            source.refuse(number, expected, line)
        name, frame, path = fields[0], whole_number(fields[2]), fields[3]
        labels = [part.strip() for part in "".join(fields[4:]).split(",") if not is_missing(part.strip())]
        if not are_numbers(labels):
            source.refuse(number, 'labels that are whole numbers, such as "1,5"', fields[4])
        paths, known, _ = videos.setdefault(name, ([], dict.fromkeys(labels), source.place(number)))
        alike &= known.keys() == set(labels)
        known |= dict.fromkeys(labels)
        if frame != len(paths):
            source.refuse(number, f"frame_id {len(paths)}, the next one of {name}", line)
        paths.append(path)
    entries = [_frames_entry(paths, place) for paths, _, place in videos.values()]
    rows: LabelRows = [tuple(labels) for _, labels, _ in videos.values()]
    told = "labels differ between the frames of a video: each sample has those of all its frames"
    return make_listing(source, entries, rows, several=True, warnings=() if alike else [told])


def _frames_entry(paths: list[str], place: str) -> Entry:
    """The entry of a video whose images are listed one by one."""
    names = [Path(path) for path in paths]
    folder = str(names[0].parent)
    numbers = [re.findall(r"\d+", name.stem)[-1:] for name in names]
    first = int(numbers[0][0]) if numbers[0] else None
    error = None
    if any(str(name.parent) != folder for name in names):
        error = f"its images are in several folders, such as {folder}"
    elif first is None or any(not n or int(n[0]) != first + i for i, n in enumerate(numbers)):
        error = f"its images are not listed in the order of their numbers, without gaps, from {names[0].name} on"
    return Entry(restore_name(folder), place, 0.0, float(len(paths)), True, False, error, numbers=(first, len(paths)))
