"""Lists of folders of frames: ``folder total label ...``, and SlowFast's list of each frame."""

from __future__ import annotations

import re
from typing import NamedTuple

from dali_vidaug.data.entry import Listing
from dali_vidaug.data.folder import is_video_name
from dali_vidaug.data.labels import is_missing, whole_number
from dali_vidaug.data.list_lines import are_numbers
from dali_vidaug.data.list_source import Source

_FRAMES_HEADER = ["original_vido_id", "video_id", "frame_id", "path", "labels"]  # spelled so in SlowFast's files
_LOOKED_AT = 50  # lines


class FrameFolder(NamedTuple):
    """A folder of frames in a list: how many there are, the number of the first, and the labels."""

    path: str
    first: int
    total: int
    labels: tuple[str, ...]
    place: str


def fits_frames(source: Source) -> bool:
    """Whether lines have a folder, the number of its frames, and labels; or are SlowFast's list of frames."""
    words = [re.split(r"[\s,]+", line) for _, line in source.lines[:_LOOKED_AT]]
    if not words or words[0] == _FRAMES_HEADER:
        return bool(words)
    return all(len(row) >= 3 and are_numbers(row[1:]) and not is_video_name(row[0]) for row in words)


def frame_folders(source: Source, with_start: bool = False) -> list[FrameFolder]:
    """The folders of frames of a list: ``folder total label ...``, or ``folder start total`` if told so.

    Raises:
        ValueError: a line has something else.
    """
    expected = "FOLDER START TOTAL" if with_start else "FOLDER TOTAL LABEL ..."
    folders = []
    for number, line in source.lines:
        path, *numbers = re.split(r"[\s,]+", line)
        if len(numbers) < 2 or not are_numbers(numbers) or (with_start and len(numbers) > 2):
            source.refuse(number, expected, line)
        values = [whole_number(value) or 0 for value in numbers]
        first, total = values[:2] if with_start else (0, values[0])
        labels = () if with_start else tuple(value for value in numbers[1:] if not is_missing(value))
        if total < 1:
            source.refuse(number, f"{expected}, with at least one frame", line)
        folders.append(FrameFolder(path, first, total, labels, source.place(number)))
    return folders


def read_frames(source: Source) -> Listing:
    """Refuse a list of folders of frames, with what it says.

    Raises:
        ValueError: always.
    """
    number, line = source.lines[0] if source.lines else (1, "")
    if line.split() == _FRAMES_HEADER:
        raise ValueError(
            f"{source.place(number)}: this is SlowFast's list of frames ({' '.join(_FRAMES_HEADER)}); frames in files "
            "of their own cannot be read yet, only videos"
        )
    with_start = all(re.split(r"[\s,]+", line)[1:2] == ["0"] for _, line in source.lines)
    folders = frame_folders(source, with_start)
    if not folders:
        source.refuse(number, "FOLDER TOTAL LABEL ...", line)
    first = folders[0]
    raise ValueError(
        f"{first.place}: this lists folders of frames ({first.path}, {first.total} frames, label "
        f"{' '.join(first.labels) or 'none'}); frames in files of their own cannot be read yet, only videos. If they "
        "are paths of videos, format= says which list it is"
    )
