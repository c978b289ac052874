"""What the columns of a list mean: paths, labels, segments, by the names that public lists use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

KINETICS = ("youtube_id", "time_start", "time_end")  # and label, which files for testing may lack
_PATHS = "path video_path file_path filepath clip_path file file_name filename video video_file clip".split()
_STARTS = (
    "start start_time time_start start_seconds start_second start_secs start_sec start_s t_start tstart starttime "
    "start_timestamp segment_start clip_start seg_start begin begin_time time_begin begin_seconds begin_sec t_begin "
    "begin_s"
).split()
_ENDS = (
    "end end_time time_end end_seconds end_second end_secs end_sec end_s t_end tend endtime end_timestamp segment_end "
    "clip_end seg_end stop stop_time time_stop stop_seconds stop_sec t_stop stop_timestamp stop_s"
).split()
_FIRST_FRAMES = (
    "start_frame frame_start first_frame begin_frame frame_begin startframe start_frame_index start_index".split()
)
_LAST_FRAMES = (
    "end_frame frame_end last_frame stop_frame frame_stop endframe end_frame_index stop_index end_index".split()
)
_TIME_PARTS = ("start", "begin", "stop", "time", "frame", "second", "duration", "onset", "offset", "segment", "moment")
_TIME_WORDS = frozenset("end ends sec secs ms msec from to t0 t1 ts interval span tend first last".split())
_LABEL_WORDS = frozenset(
    (
        "label labels class classes category categories action actions activity verb noun tag tags target targets "
        "labelname classname categoryname actionname"
    ).split()
)


class Header(NamedTuple):
    """Which columns of a list are used, and for what.

    Attributes:
        path: the files; None for Kinetics' annotations, which give ids.
        labels: the labels.
        start, end: of the part that clips are drawn from, or None.
        in_frames: start and end are frame numbers; else seconds.
        kinetics: start and end are spelled as Kinetics does, so that files may hold their part alone.
    """

    path: str | None
    labels: tuple[str, ...]
    start: str | None
    end: str | None
    in_frames: bool
    kinetics: bool

    @property
    def used(self) -> tuple[str, ...]:
        """All of these columns."""
        path = self.path or KINETICS[0]
        return tuple(name for name in (path, *self.labels, self.start, self.end) if name)


def read_header(
    place: str, columns: Sequence[str], label_columns: Sequence[str] | None = None, needs_path: bool = True
) -> Header:
    """Find out which columns are which. Capitals, spaces and signs do not matter: ``Start (s)`` is ``start_s``.

    Args:
        place: the list, for messages.
        columns: its columns.
        label_columns: those with labels; None: ``label``.
        needs_path: refuse columns none of which has paths or Kinetics' ids.

    Raises:
        ValueError: a column is there twice, there is none with paths, or ``label_columns`` are not there.
    """
    twice = sorted({name for name in columns if columns.count(name) > 1})
    path = path_column(columns)
    if twice:
        hint = "" if path else _header_hint(columns)
        raise ValueError(f"{place}: the header has {', '.join(twice)} more than once{hint}")
    if path is None and needs_path and not set(KINETICS) <= set(columns):
        raise ValueError(
            f"{place}: the header must have path[, label, start, end] or label, {', '.join(KINETICS)}; it has "
            f"{', '.join(columns) or 'nothing'}{_header_hint(columns)}"
        )
    missing = [name for name in label_columns or () if name not in columns]
    if missing:
        raise ValueError(f"{place}: label_columns must be columns of the list, got {missing[0]}: {', '.join(columns)}")
    label = _find(columns, ["label"])
    labels = tuple(label_columns) if label_columns else ((label,) if label else ())
    free = [name for name in columns if name not in labels and name != path]
    start, end, in_frames = _find(free, _STARTS), _find(free, _ENDS), False
    if start is None and end is None:
        start, end, in_frames = _find(free, _FIRST_FRAMES), _find(free, _LAST_FRAMES), True
    spelled = {plain(name) for name in (start, end) if name}
    return Header(path, labels, start, end, in_frames and bool(spelled), spelled == {"time_start", "time_end"})


def path_column(columns: Iterable[str]) -> str | None:
    """The column with paths, or None."""
    return _find(list(columns), _PATHS)


def _header_hint(columns: Sequence[str]) -> str:
    """What to do about a header without paths: a line of data, other separators than commas, other names."""
    words = [word for name in columns for word in re.split(r"[\s;|]+", name)]
    if any(re.search(r"[^/\\]\.\w{2,4}$", word) or "/" in word for word in words):
        split = ", and commas between values" if len(words) > len(columns) else ""
        return (
            f". This looks like a row: put a line path,label above it{split}, or say which list it is, such as "
            "format='path_label'"
        )
    if len(columns) == 1 and len(words) > 1:
        return ". Values must be separated by commas"
    ids = [name for name in columns if plain(name).split("_")[-1] == "id"]
    if ids:
        return f". {', '.join(ids)} may be ids, which are no paths: docs/lists.md, 'A list of paths', makes them paths"
    return ". Name the column with the paths path" if columns else ""


def plain(name: str) -> str:
    """A column's name in small letters, its words joined with underscores.

    >>> plain("Start (s)"), plain("startTime")
    ('start_s', 'start_time')
    """
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\W_]+", "_", parted).strip("_").lower()


def _find(columns, spellings):
    """The column with the first of these spellings, one that is spelled exactly so before others."""
    for spelling in spellings:
        found = [name for name in columns if plain(name) == spelling]
        if found:
            return spelling if spelling in found else found[0]
    return None


def looks_like_time(name: str) -> bool:
    """Whether a column's name is that of a time, a frame or a duration."""
    text = plain(name)
    return any(part in text for part in _TIME_PARTS) or bool(_TIME_WORDS & set(text.split("_")))


def looks_like_label(name: str) -> bool:
    """Whether a column's name is that of a label."""
    return bool(_LABEL_WORDS & {re.sub(r"\d+$", "", word) for word in plain(name).split("_")})


def label_groups(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The columns that share their classes, by the name that their classes are prefixed with.

    Columns that differ by a number at most (``label``, ``label_2``) share their classes, without a prefix. Others, such
    as ``verb`` and ``noun``, have classes of their own: ``verb=open``.

    >>> label_groups(("label", "label_2")), label_groups(("verb", "noun"))
    ({'': ('label', 'label_2')}, {'verb': ('verb',), 'noun': ('noun',)})
    """
    if len({re.sub(r"_?\d*$", "", plain(name)) for name in columns}) <= 1:
        return {"": tuple(columns)}
    return {name: (name,) for name in columns}
