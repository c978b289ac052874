"""Boxes in the XML files of CVAT: of its form for videos, which has tracks, and of that for images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from xml.parsers import expat

from dali_vidaug.data.box_file import TURNED, BoxFile, KeyList, hull_of, number, whole
from dali_vidaug.data.box_names import image_of_video
from dali_vidaug.data.entry import name_some

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
        self._by_name = False  # frames are known by names of images
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
        return next(iter(self._tasks.values()), {}) if task is None else self._tasks.get(task, {})

    def _video(self, attributes, names=()):
        """The index of the video that a track or an image is of."""
        facts = self._facts(attributes)
        names = (facts["source"],) if facts.get("source") else names
        task = [f"task {attributes['task_id']}"] if "task_id" in attributes else []
        video = self._found.video(*names) if names else self._found.unnamed_video(self._path, *task)
        if facts.get("width") and facts.get("height"):
            self._found.set_size(self._place(), video, facts["width"], facts["height"])
        return video

    def _begin_image(self, attributes):
        """An image is a frame of its task's video or, without one, of that which its name says."""
        name = self._value("image", attributes, "name")
        names, frame, form = image_of_video(name)
        if self._facts(attributes).get("source"):
            frame, form = whole(self._place(), "id", self._value("image", attributes, "id")), None
        else:
            self._by_name = True
        if frame is None:
            raise ValueError(f"{self._place()}: the name of an image must have the number of its frame, got {name}")
        video = self._video(attributes, names)
        if "width" in attributes and "height" in attributes:
            self._found.set_size(self._place(), video, attributes["width"], attributes["height"])
        self._found.add_image(self._place(), video, frame, form)
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
        xyxy = [number(place, side, self._value("box", attributes, side)) for side in _CORNERS]
        turn = number(place, "rotation", attributes.get("rotation", 0))
        self._turned += turn != 0
        outside = attributes.get("outside", "0")
        if outside not in ("0", "1"):
            raise ValueError(f"{place}: outside must be 0 or 1, got {outside!r}")
        line = self._parser.CurrentLineNumber
        self._found.add(line, video, frame, hull_of(xyxy, turn), self._found.label(label), track, outside == "1")

    def finish(self) -> BoxFile:
        """What was found."""
        sources = Counter(facts["source"] for facts in self._tasks.values() if facts.get("source"))
        for source in sources:
            self._found.video(source)  # without boxes, too
        notes = {f"shapes that are no boxes ({name}), left out": count for name, count in sorted(self._skipped.items())}
        notes[TURNED] = self._turned
        shared = [source for source, count in sources.items() if count > 1]
        notes[f"videos that several tasks have by name, taken for one each ({name_some(shared)})"] = len(shared)
        first_frame = None if self._by_name else 0
        return self._found.file(
            self._path, "cvat", "line", declared=bool(self._labels), first_frame=first_frame, notes=notes
        )
