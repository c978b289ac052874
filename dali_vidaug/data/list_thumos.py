"""Lists of THUMOS14 as it has them: a file for each class, with the segments of all videos."""

from __future__ import annotations

import re
from pathlib import Path

from dali_vidaug.data.entry import Classes, Listing
from dali_vidaug.data.list_source import Source
from dali_vidaug.data.list_text import read_text
from dali_vidaug.data.list_untrimmed import Part, Untrimmed, is_ambiguous, list_segments, list_videos

_FILE = re.compile(r"(.+)_(val|test)\.txt")
_LINE = re.compile(r"(\S+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)")
_VIDEO = re.compile(r"video_(validation|test)_\d{7}")
_SUBSETS = {"val": "validation", "test": "test"}


def fits_thumos14(source: Source) -> bool:
    """Whether it is a file of THUMOS14's segments, or a folder of them."""
    if source.path.is_dir():
        return any(_is_of_thumos(path) for path in sorted(source.path.glob("*_*.txt")))
    return _is_of_thumos(source.path)


def _is_of_thumos(path: Path) -> bool:
    """Whether a file is named CLASS_val.txt or CLASS_test.txt, and all its lines have a video of THUMOS14."""
    if not _FILE.fullmatch(path.name):
        return False
    try:
        found = [_LINE.fullmatch(line.strip()) for _, line in read_text(path).lines]
    except (OSError, ValueError):
        return False
    return bool(found) and all(match and _VIDEO.fullmatch(match[1]) for match in found)


def read_thumos14(source: Source) -> Listing:
    """Read CLASS_val.txt or CLASS_test.txt of THUMOS14, or a folder of them: a sample for each segment.

    Segments of Ambiguous_val.txt have no label. The classes are the names of the files, sorted.

    Raises:
        ValueError: there are no such files, or a line has something else.
    """
    return list_segments(source, *_thumos14(source))


def read_thumos14_videos(source: Source) -> Listing:
    """Read a folder of the same files: a sample for each video, with the classes of all its segments.

    Raises:
        ValueError: it is one file, which has not all classes of a video, or as ``read_thumos14``.
    """
    if not source.path.is_dir():
        raise ValueError(
            f"{source.path} has the segments of one class: name its folder, so that a video gets all its classes"
        )
    return list_videos(source, *_thumos14(source))


def _thumos14(source: Source) -> tuple[list[Untrimmed], Classes, str]:
    """The videos of the files, by name; the classes of all files in the folder, and how these were found."""
    folder = source.path if source.path.is_dir() else source.path.resolve().parent
    files = {path: match for path in sorted(folder.iterdir()) if (match := _FILE.fullmatch(path.name))}
    if not source.path.is_dir():
        own = [path for path in files if path.name == source.path.name]
        if not own:
            raise ValueError(f"{source.path}: expected a file named CLASS_val.txt or CLASS_test.txt")
        classes_in, files = files, {path: files[path] for path in own}
    else:
        classes_in = files
    if not files:
        raise ValueError(f"{folder} has no files CLASS_val.txt or CLASS_test.txt")
    videos: dict[tuple[str, str], Untrimmed] = {}
    for path, match in files.items():
        label, subset = match[1], _SUBSETS[match[2]]
        for number, line in read_text(path).lines:
            place = f"{path}, line {number}"
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise ValueError(f"{place}: expected VIDEO START END, in seconds, got {line!r:.100}")
            told = _VIDEO.fullmatch(found[1])
            if told and told[1] != subset:
                raise ValueError(f"{place}: expected a video of {subset}, as the file is named, got {found[1]}")
            of_video = f"{source.path}, video {found[1]}"
            video = videos.setdefault((subset, found[1]), Untrimmed(found[1], of_video, subset, []))
            video.parts.append(Part(None if is_ambiguous(label) else label, float(found[2]), float(found[3]), place))
    names = tuple(sorted({match[1] for match in classes_in.values() if not is_ambiguous(match[1])}))
    ordered = [videos[key] for key in sorted(videos)]
    return ordered, Classes(names, {}, str(folder)), f"the names of {len(names)} files, sorted"
