"""What a list of videos says: a row, and all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from dali_vidaug.data.names import complete
from dali_vidaug.media.objects import Stat
from dali_vidaug.media.storage import Place


class Entry(NamedTuple):
    """A video, or a part of one, of a list.

    Attributes:
        path: relative to the root of the list, or absolute; of a member of a tar shard SHARD/MEMBER.
        place: where the list says so, for messages.
        start, end: clips are drawn from this part, [start, end). None: from its beginning, to its end.
        in_frames: start and end are frame numbers, counted from 0; else seconds after the first frame.
        may_be_cut: the file may hold this part alone; its duration tells.
        error: why it cannot be used, or None.
        at: seconds that it is about, where several rows of a video differ in that alone.
        fps: frames per second, if it is a folder of images; what a column of the list has, or None.
        numbers: of the images of a folder, as the list has them: the number of the first (None: not said), how many.
        shard: the tar file that it is in, relative to the root of the list, or absolute; None: it is a file itself.
        first, size: where its bytes are in the tar file.
    """

    path: str
    place: str = ""
    start: float | None = None
    end: float | None = None
    in_frames: bool = False
    may_be_cut: bool = False
    error: str | None = None
    at: float | None = None
    fps: Any = None
    numbers: tuple[int | None, int] | None = None
    shard: str | None = None
    first: int = 0
    size: int | None = None

    def bytes_below(self, root: str) -> Place:
        """Where its bytes are, below the root of the list."""
        if self.shard is None:
            return Place(complete(root, self.path))
        return Place(complete(root, self.shard), self.first, self.size, complete(root, self.path))


class Classes(NamedTuple):
    """Names of classes by index.

    Attributes:
        names: in the order of their indices.
        numbers: which class a label means that is a whole number; empty: labels are names only.
        source: where they are from, for messages.
        numbered: whether ``numbers`` were given, rather than counted from 0.
    """

    names: tuple[str, ...]
    numbers: dict[int, int]
    source: str
    numbered: bool = False


class Listing(NamedTuple):
    """What a list has.

    Attributes:
        root: folder, or URL, that the paths are relative to.
        entries: in the order of the list.
        labels: the labels of each entry by group of classes. Most lists have one group, named "".
        own: the other columns of the list, a row for each entry.
        several: whether an entry may have several labels.
        from_folders: labels are names of folders.
        warnings: what may be wrong, sentences.
        notes: what was read and left out, sentences.
        classes: those of the format of the list, in their official order, if it has any.
        objects: what a server said of the files that it listed, by path.
    """

    root: Path | str
    entries: list[Entry]
    labels: dict[str, list[tuple[str, ...]]]
    own: pa.Table
    several: bool = False
    from_folders: bool = False
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    classes: Classes | None = None
    objects: Mapping[str, Stat] | None = None


def name_some(names: list[str], most: int = 3) -> str:
    """The first names of a list, and how many there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def first_difference(classes: Sequence[str], others: Sequence[str]) -> tuple[int, str, str]:
    """The first index at which two lists of classes differ, and what each has there, for messages."""
    pairs = zip(classes, others, strict=False)
    i = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(classes), len(others)))
    mine, theirs = (repr(names[i]) if i < len(names) else "missing" for names in (classes, others))
    return i, mine, theirs


def plural(count: int, one: str, many: str | None = None) -> str:
    """A number and its noun: 1 class, 2 classes.

    >>> plural(1, "class", "classes"), plural(2, "video")
    ('1 class', '2 videos')
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def no_columns(num_rows: int) -> pa.Table:
    """The columns of a list that has none of its own."""
    return pa.table({"path": pa.nulls(num_rows)}).select([])
