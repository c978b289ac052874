"""Boxes in the XML files of CVAT: of its form for videos, which has tracks, and of that for images."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from dali_vidaug.data.box_file import BoxFile, KeyList, number, whole

_SHAPES = ("polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")  # which are no boxes
_CORNERS = ("xtl", "ytl", "xbr", "ybr")


def read_cvat(path: Path) -> BoxFile:
    """Read an XML file of CVAT.

    Raises:
        ValueError: it is something else, or a value cannot be used; the line is named.
    """
    parser = expat.ParserCreate()
    reader = _Reader(path, parser)
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.text
    parser.buffer_text = True
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid XML: {expat.ErrorString(error.code)}") from error
    return reader.finish()


def image_of_video(name: str) -> tuple[tuple[str, ...], int | None]:
    """The video that an image is a frame of, by its folder, and the number in the image's name; without: (), None.

    >>> image_of_video("train/v1/frame_000012.png"), image_of_video("v2/img1/000001.jpg"), image_of_video("12.jpg")
    ((('train/v1',), 12), (('v2',), 1), ((), 12))
    """
    *folders, file = name.replace("\\", "/").split("/")
    if folders and re.fullmatch(r"img1?|images?|frames?", folders[-1], re.IGNORECASE):
        folders.pop()
    found = re.search(r"(\d+)(?=\D*$)", file.rpartition(".")[0] or file)
    return ("/".join(folders),) if folders else (), int(found[1]) if found else None


class _Reader:
    """What expat calls."""

    def __init__(self, path: Path, parser: Any):
        self._path, self._parser = path, parser
        self._open: list[tuple[str, dict[str, str]]] = []  # elements, from the outermost
        self._text = ""
        self._found = KeyList()
        self._task = ""
        self._tasks: dict[str, dict[str, str]] = {}  # source, width, height of each task that says so
        self._labels: set[str] = set()
        self._tracks = self._turned = 0
        self._skipped: Counter[str] = Counter()
        self._sizes: dict[int, tuple[float, float]] = {}
        self._images: dict[int, set[int]] = {}  # the frames of each video that images are of
        self._unnamed = self._by_name = False
        self._where = (-1, -1, -1)  # video, frame or -1, track or -1 of the boxes that come

    def _place(self):
        return f"{self._path}, line {self._parser.CurrentLineNumber}"

    def _value(self, element, attributes, name):
        if name not in attributes:
            has = ", ".join(attributes) or "nothing"
            raise ValueError(f"{self._place()}: <{element}> must have {name}, it has {has}")
        return attributes[name]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if not self._open and name != "annotations":
            raise ValueError(f"{self._path}: not of CVAT: it begins with <{name}>, not <annotations>")
        inside = self._open[-1][0] if self._open else ""
        self._open.append((name, attributes))
        self._text = ""
        if inside == "annotations" and name == "track":
            self._where = (self._video(attributes), -1, self._tracks)
            self._tracks += 1
        elif inside == "annotations" and name == "image":
            self._begin_image(attributes)
        elif inside in ("track", "image") and name == "box":
            self._add_box(attributes, self._open[-2][1])
        elif inside in ("track", "image") and name in _SHAPES:
            self._skipped[name] += 1

    def text(self, text: str) -> None:
        """Text in an element."""
        self._text += text

    def end(self, name: str) -> None:
        """An element ends."""
        self._open.pop()
        inside, text = [element for element, _ in self._open], self._text.strip()
        self._text = ""
        if "meta" not in inside:
            return
        if name == "name" and inside[-2:] == ["labels", "label"]:
            self._labels.add(text)
            self._found.label(text)
        elif name == "id" and inside[-1] == "task":
            self._task = text
        elif name == "source" or (name in ("width", "height") and inside[-1] == "original_size"):
            self._tasks.setdefault(self._task, {})[name] = text

    def _facts(self, attributes):
        """What is known of the task of a track or an image."""
        task = attributes.get("task_id")
        if task is None and len(self._tasks) > 1:
            raise ValueError(f"{self._place()}: task_id must say of which of {len(self._tasks)} tasks it is")
        return next(iter(self._tasks.values()), {}) if task is None else self._tasks.get(task, {"task": task})

    def _video(self, attributes, names=()):
        """The index of the video that a track or an image is of."""
        facts = self._facts(attributes)
        names = (facts["source"],) if facts.get("source") else names
        if not names:
            self._unnamed = True
            names = (self._path.stem, self._path.resolve().parent.name, *facts.get("task", ()))
        video = self._found.video(*names)
        if facts.get("width") and facts.get("height"):
            place = self._place()
            self._sizes[video] = (number(place, "width", facts["width"]), number(place, "height", facts["height"]))
        return video

    def _begin_image(self, attributes):
        """An image is a frame of its task's video or, without one, of that which its name says."""
        name = self._value("image", attributes, "name")
        names, frame = image_of_video(name)
        if self._facts(attributes).get("source"):
            frame = whole(self._place(), "id", self._value("image", attributes, "id"))
        else:
            self._by_name = True
        if frame is None:
            raise ValueError(f"{self._place()}: the name of an image must have the number of its frame, got {name}")
        video = self._video(attributes, names)
        if "width" in attributes and "height" in attributes:
            place = self._place()
            size = (number(place, "width", attributes["width"]), number(place, "height", attributes["height"]))
            if self._sizes.setdefault(video, size) != size:
                raise ValueError(f"{self._place()}: images of one video must have one size, got {size}")
        self._images.setdefault(video, set()).add(frame)
        self._where = (video, frame, -1)

    def _add_box(self, attributes, parent):
        place, (video, frame, track) = self._place(), self._where
        if track >= 0:
            frame = whole(place, "frame", self._value("box", attributes, "frame"))
        label = self._value("track", parent, "label") if track >= 0 else self._value("box", attributes, "label")
        if self._labels and label not in self._labels:
            raise ValueError(
                f"{place}: label {label!r} is not among those of the file: {', '.join(sorted(self._labels))}"
            )
        x1, y1, x2, y2 = (number(place, side, self._value("box", attributes, side)) for side in _CORNERS)
        turn = math.radians(number(place, "rotation", attributes.get("rotation", 0)))
        if turn:
            self._turned += 1
            width, height = x2 - x1, y2 - y1
            dx = (width * abs(math.cos(turn)) + height * abs(math.sin(turn)) - width) / 2
            dy = (width * abs(math.sin(turn)) + height * abs(math.cos(turn)) - height) / 2
            x1, y1, x2, y2 = x1 - dx, y1 - dy, x2 + dx, y2 + dy
        outside = attributes.get("outside", "0")
        if outside not in ("0", "1"):
            raise ValueError(f"{place}: outside must be 0 or 1, got {outside!r}")
        line = self._parser.CurrentLineNumber
        self._found.add(line, video, frame, (x1, y1, x2, y2), self._found.label(label), track, outside == "1")

    def finish(self) -> BoxFile:
        """What was found."""
        for facts in self._tasks.values():
            if facts.get("source"):
                self._found.video(facts["source"])  # without boxes, too
        notes = {f"shapes that are no boxes ({name}), left out": count for name, count in sorted(self._skipped.items())}
        notes["rotated boxes, whose hulls are used"] = self._turned
        frames = {video: np.array(sorted(some)) for video, some in self._images.items()}
        return BoxFile(
            str(self._path), "cvat", "line", self._found.videos, self._found.keys(), self._found.labels,
            declared=bool(self._labels), named=not self._unnamed, sizes=self._sizes, frames=frames,
            by_name=self._by_name, notes=notes,
        )  # fmt: skip
