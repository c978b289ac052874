"""What files of boxes say, in one form, before it is known which videos there are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TURNED = "rotated boxes, whose hulls are used"


class Keys(NamedTuple):
    """Boxes as a file has them: (N,) each.

    Attributes:
        video: which of the file's videos.
        time: frame, as the file counts, or seconds.
        xyxy: (N, 4) float64, x1, y1, x2, y2, half open, pixels or shares of the frame.
        label: which of the file's labels, -1 for none.
        track: -1 for none.
        outside: the track is not in the frame from here on; NaN for the box if it does not say where it would be.
            Without a track: there is no box at this time.
        place: which line of the file, row, or annotation.
    """

    video: np.ndarray
    time: np.ndarray
    xyxy: np.ndarray
    label: np.ndarray
    track: np.ndarray
    outside: np.ndarray
    place: np.ndarray

    def rows(self, chosen: np.ndarray | slice) -> Keys:
        """Some of them."""
        return Keys(*(column[chosen] for column in self))


class BoxFile(NamedTuple):
    """A file of boxes.

    Attributes:
        path: the file, for messages.
        format: one of ``box_sources.FORMATS``.
        unit: what ``Keys.place`` counts: "line", "row" or "annotation".
        videos: what each video may be called, the best name first.
        keys: the boxes.
        labels: names; numbers as text.
        declared: the file lists all its labels, in this order; else they are sorted.
        first_frame: the number of a video's first frame. None: what ``frames`` tell.
        in_seconds: times are seconds.
        in_shares: coordinates are shares of width and height.
        named: the file names its videos; else the names come from its own.
        between: what is between two boxes of a track. "all": it moves from one to the other. "listed": only if no frame
            of ``frames`` is between. "step": only if they are as near as any two of ``frames``. "none": nothing.
        sizes: (width, height) of videos when they were annotated.
        frames: the frames of each video that were annotated, rising.
        lengths: the number of frames of videos when they were annotated.
        doubtful: videos whose images have numbers that may not be those of frames, and why.
        notes: what was left out, or taken for something, and how often.
    """

    path: str
    format: str
    unit: str
    videos: Sequence[tuple[str, ...]]
    keys: Keys
    labels: tuple[str, ...] = ()
    declared: bool = False
    first_frame: int | None = 0
    in_seconds: bool = False
    in_shares: bool = False
    named: bool = True
    between: str = "all"
    sizes: Mapping[int, tuple[float, float]] = {}
    frames: Mapping[int, np.ndarray] = {}
    lengths: Mapping[int, int] = {}
    doubtful: Mapping[int, str] = {}
    notes: Mapping[str, int] = {}

    def at(self, i: int) -> str:
        """The place of box ``i``, for messages."""
        return f"{self.path}, {self.unit} {self.keys.place[i]}"


class Sayings:
    """What is to be said, with how often and where first."""

    def __init__(self):
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, text: str, count: int, place: str) -> None:
        """Count something of which the first was at a place."""
        self._counts[text] = self._counts.get(text, 0) + count
        self._first.setdefault(text, place)

    def where(self, text: str, mask: np.ndarray, file: BoxFile, keys: Keys) -> None:
        """Count boxes: ``mask`` (N,) bool, of ``keys``."""
        if mask.any():
            self.add(text, int(mask.sum()), f"{file.path}, {file.unit} {keys.place[mask.argmax()]}")

    def sentences(self) -> list[str]:
        """One for each."""
        return [f"{text}: {count} (the first: {self._first[text]})" for text, count in self._counts.items()]


class KeyList:
    """Boxes that are read one after the other.

    Attributes:
        sizes, lengths, doubtful, named: as in ``BoxFile``.
        frames: the same, as sets.
    """

    def __init__(self):
        self.sizes: dict[int, tuple[float, float]] = {}
        self.lengths: dict[int, int] = {}
        self.doubtful: dict[int, str] = {}
        self.frames: defaultdict[int, set[int]] = defaultdict(set)
        self.named = True
        self._forms: dict[int, str | None] = {}
        self._xyxy: list[float] = []
        self._columns: tuple[list[float], ...] = ([], [], [], [], [], [])  # of scalars: fast, whatever their number
        self._videos: dict[tuple[str, ...], int] = {}
        self._labels: dict[str, int] = {}

    def video(self, *names: str) -> int:
        """The index of a video."""
        return self._videos.setdefault(names, len(self._videos))

    def unnamed_video(self, path: Path, *more: str) -> int:
        """The index of a video that a file does not name; ``more`` tells it from others of the file."""
        self.named = False
        return self.video(path.stem, path.resolve().parent.name, *more)

    def set_size(self, place: str, video: int, width: object, height: object) -> None:
        """A video, or an image of it, had a size.

        Raises:
            ValueError: others had another one.
        """
        size = number(place, "width", width), number(place, "height", height)
        if self.sizes.setdefault(video, size) != size:
            raise ValueError(f"{place}: images of one video must have one size, got {size[0]:g}x{size[1]:g}")

    def add_image(self, place: str, video: int, frame: int, form: str | None = None) -> None:
        """An image is a frame of a video; ``form``, if its name tells which: that without the number.

        Raises:
            ValueError: another one is the same frame, or has a name of another form, and may be of another video.
        """
        other = self._forms.setdefault(video, form)
        if other != form:
            what = [f"names as {one!r}" if one is not None else "numbers of frames" for one in (other, form)]
            raise ValueError(
                f"{place}: images of one video must all have the number of the frame, or names that differ in their "
                f"number alone, got {' and '.join(what)}; if there are several videos, each has a folder"
            )
        if frame in self.frames[video]:
            name = " or ".join(self.videos[video])
            raise ValueError(
                f"{place}: frame {frame} of video {name} is there twice; if there are several videos, each has a folder"
            )
        self.frames[video].add(frame)

    def label(self, name: str | None) -> int:
        """The index of a label; -1 for None."""
        return -1 if name is None else self._labels.setdefault(name, len(self._labels))

    def add(
        self,
        place: int,
        video: int,
        time: float,
        xyxy: Sequence[float],
        label: int,
        track: int = -1,
        outside: bool = False,
    ) -> None:
        """A box, as in ``Keys``."""
        self._xyxy.extend(xyxy)
        for column, value in zip(self._columns, (video, time, label, track, outside, place), strict=True):
            column.append(value)

    @property
    def videos(self) -> list[tuple[str, ...]]:
        """Their names."""
        return list(self._videos)

    def file(self, path: Path, form: str, unit: str, **more: Any) -> BoxFile:
        """All of them; ``more`` as in ``BoxFile``."""
        kinds = (np.int64, np.float64, np.int64, np.int64, bool, np.int64)
        video, time, *rest = (np.array(column, kind) for column, kind in zip(self._columns, kinds, strict=True))
        keys = Keys(video, time, np.array(self._xyxy, np.float64).reshape(-1, 4), *rest)
        frames = {video: np.array(sorted(some), np.int64) for video, some in self.frames.items()}
        return BoxFile(
            str(path), form, unit, self.videos, keys, tuple(self._labels),
            named=self.named, sizes=self.sizes, frames=frames, lengths=self.lengths, doubtful=self.doubtful, **more,
        )  # fmt: skip


def number(place: str, name: str, text: object) -> float:
    """A finite number of a file.

    Raises:
        ValueError: it is something else; named are the place and what the number is.
    """
    try:
        value = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if isinstance(text, bool) or not math.isfinite(value):
        raise ValueError(f"{place}: {name} must be a number, got {text!r}")
    return value


def whole(place: str, name: str, text: object) -> int:
    """A whole number of a file.

    Raises:
        ValueError: it is something else.
    """
    value = number(place, name, text)
    if not value.is_integer() or abs(value) >= 2**53:
        raise ValueError(f"{place}: {name} must be a whole number, got {text!r}")
    return int(value)


def from_width(place: str, values: Sequence[object]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of left, top, width and height.

    Raises:
        ValueError: they are no numbers, or a side is negative.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 4:
        raise ValueError(f"{place}: a box must be left, top, width and height, got {values!r}")
    left, top, width, height = (
        number(place, name, value) for name, value in zip(("left", "top", "width", "height"), values, strict=True)
    )
    if width < 0 or height < 0:
        raise ValueError(f"{place}: width and height must not be negative, got {width:g} and {height:g}")
    return left, top, left + width, top + height


def hull_of(xyxy: Sequence[float], degrees: float) -> tuple[float, float, float, float]:
    """The box around one that is turned about its middle.

    >>> [round(side) for side in hull_of((10, 40, 50, 44), 90)]
    [28, 22, 32, 62]
    """
    x1, y1, x2, y2 = xyxy
    across, along = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    dx = ((x2 - x1) * across + (y2 - y1) * along - (x2 - x1)) / 2
    dy = ((x2 - x1) * along + (y2 - y1) * across - (y2 - y1)) / 2
    return x1 - dx, y1 - dy, x2 + dx, y2 + dy


def check_keys(file: BoxFile) -> None:
    """Refuse boxes that cannot be what was meant.

    Raises:
        ValueError: a side or a track is negative, a frame is not a whole number or negative, or shares are pixels.
    """
    keys = file.keys
    for wrong, what in (
        (
            ~np.isfinite(keys.xyxy).all(1) & ~(keys.outside & np.isnan(keys.xyxy).all(1)),
            "coordinates must be numbers, got {box}",
        ),
        ((keys.xyxy[:, 2:] < keys.xyxy[:, :2]).any(1), "x1, y1 must not be right of or below x2, y2, got {box}"),
        ((np.abs(keys.xyxy) > 2).any(1) & file.in_shares, "coordinates must be shares of the frame, 0 to 1, got {box}"),
        ((np.abs(keys.xyxy) > 1e7).any(1), "coordinates must be pixels, got {box}"),
        (~(np.isfinite(keys.time) & (np.abs(keys.time) < 2**30)), "{what} must be a number, got {time}"),
        ((keys.time % 1 != 0) & (not file.in_seconds), "frames must be whole numbers, got {time}"),
        (keys.time < 0, "{what} must not be negative, got {time}"),
        (keys.track < -1, "track must not be negative, except -1 for none, got {track}"),
    ):
        for i in np.flatnonzero(wrong)[:1].tolist():
            box = ", ".join(f"{value:g}" for value in keys.xyxy[i])
            unit = "seconds" if file.in_seconds else "frame"
            values = {"box": box, "time": f"{keys.time[i]:g}", "what": unit, "track": keys.track[i]}
            raise ValueError(f"{file.at(i)}: {what.format(**values)}")
