"""Boxes in JSON files in the manner of COCO: images, annotations, categories; also YouTube-VIS, without images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dali_vidaug.data.box_cvat import image_of_video
from dali_vidaug.data.box_file import BoxFile, KeyList, from_width, whole

_FRAMES = ("frame_index", "frame_id", "frame")  # of an image
_TRACKS = ("track_id", "instance_id")  # of an annotation


def read_coco(path: Path) -> BoxFile:
    """Read a JSON file of COCO's kind: that of images with a frame and a video, or YouTube-VIS.

    Raises:
        ValueError: it is something else, or a value cannot be used; the line, image or annotation is named.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not of COCO: lists in lists, too deep to be read") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from error
    if (
        not isinstance(data, dict)
        or not {"annotations", "categories"} <= set(data)
        or not {"images", "videos"} & set(data)
    ):
        has = ", ".join(data) if isinstance(data, dict) else f"a {type(data).__name__}"
        raise ValueError(
            f"{path}: not of COCO: it must have annotations, categories, and images or videos; it has {has}"
        )
    try:
        return _Reader(path, data).read()
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not of COCO: a value is of another kind: {error}") from error


class _Reader:
    """A file that is read."""

    def __init__(self, path: Path, data: dict[str, Any]):
        self._path, self._data = path, data
        self._found = KeyList()
        self._sizes: dict[int, tuple[float, float]] = {}
        self._frames: dict[int, set[int]] = {}
        self._unnamed = False
        self._named = [False, False]  # whether frames are numbered by values, and whether by names of images
        self._crowds = self._without = 0

    def read(self) -> BoxFile:
        """All of it."""
        categories = sorted(self._by_id("categories").items(), key=lambda item: (isinstance(item[0], str), item[0]))
        labels = {key: self._found.label(str(self._value("categories", item, "name"))) for key, item in categories}
        videos = self._by_id("videos") if "videos" in self._data else {}
        if self._data.get("images"):
            images = {key: self._image(image, videos) for key, image in self._by_id("images").items()}
            self._read_annotations(labels, images)
        else:
            self._read_lists(labels, {key: (self._listed(video), video) for key, video in videos.items()})
        notes = {
            "annotations of crowds (iscrowd), left out": self._crowds,
            "annotations without a box, left out": self._without,
        }
        return BoxFile(
            str(self._path), "coco", "annotation", self._found.videos, self._found.keys(), self._found.labels, True,
            named=not self._unnamed, between="listed", sizes=self._sizes,
            frames={video: np.array(sorted(some)) for video, some in self._frames.items()}, by_name=self._named[True],
            notes=notes,
        )  # fmt: skip

    def _value(self, what, item, *names):
        """The first of some values that an item has."""
        found = next((item[name] for name in names if isinstance(item, dict) and item.get(name) is not None), None)
        if found is None:
            raise ValueError(f"{self._path}: each of {what} must have {' or '.join(names)}, got {_short(item)}")
        if names[0].endswith("id") and not isinstance(found, (int, str)):
            raise ValueError(f"{self._path}: {names[0]} must be a number or text, got {_short(item)}")
        return found

    def _by_id(self, what):
        items = self._data[what]
        if not isinstance(items, list):
            raise ValueError(f"{self._path}: {what} must be a list, got {_short(items)}")
        found = {}
        for item in items:
            key = self._value(what, item, "id")
            if key in found:
                raise ValueError(f"{self._path}: {what} has id {key} twice")
            found[key] = item
        return found

    def _image(self, image, videos):
        """(video, frame) of an image."""
        file, place = str(image.get("file_name", "")), f"{self._path}, image {image['id']}"
        names, frame = image_of_video(file)
        if image.get("video_id") is not None:
            if image["video_id"] not in videos:
                raise ValueError(f"{place}: video_id {image['video_id']} is not among the videos of the file")
            names = self._names(videos[image["video_id"]])
        elif image.get("video"):
            names = (str(image["video"]),)
        numbered = next((image[name] for name in _FRAMES if image.get(name) is not None), None)
        if numbered is not None:
            frame = whole(place, "frame", numbered)
        elif frame is None:
            raise ValueError(
                f"{place}: it must have {' or '.join(_FRAMES)}, or a number in file_name, got {_short(image)}"
            )
        self._named[numbered is None] = True
        if all(self._named):
            raise ValueError(f"{place}: either all images must have {' or '.join(_FRAMES)}, or none")
        video = self._video(names, image, place)
        self._frames.setdefault(video, set()).add(frame)
        return video, frame

    def _names(self, video):
        """What a video of the file may be called: its name; else the folder of its images."""
        name = video.get("name") or video.get("file_name")
        images = video.get("file_names") or [""]
        return (str(name),) if name else image_of_video(str(images[0]))[0]

    def _video(self, names, sized, place):
        """The index of a video; ``sized`` has its width and height."""
        if not names:
            self._unnamed = True
            names = (self._path.stem, self._path.resolve().parent.name)
        video = self._found.video(*names)
        if sized.get("width") and sized.get("height"):
            size = (whole(place, "width", sized["width"]), whole(place, "height", sized["height"]))
            if self._sizes.setdefault(video, size) != size:
                raise ValueError(f"{place}: images of one video must have one size, got {size[0]}x{size[1]}")
        return video

    def _annotations(self, labels):
        """(number, place, annotation, label) of each annotation that is used."""
        items = self._data["annotations"]
        if not isinstance(items, list):
            raise ValueError(f"{self._path}: annotations must be a list, got {_short(items)}")
        for i, item in enumerate(items):
            place = f"{self._path}, annotation {i}"
            category = self._value("annotations", item, "category_id")
            if category not in labels:
                raise ValueError(f"{place}: category_id {category} is not among the categories of the file")
            if item.get("iscrowd"):
                self._crowds += 1
            elif not item.get("bbox") and not item.get("bboxes"):
                self._without += 1
            else:
                yield i, place, item, labels[category]

    def _read_annotations(self, labels, images):
        """Each annotation is in one image."""
        for i, place, item, label in self._annotations(labels):
            image = self._value("annotations", item, "image_id")
            if image not in images:
                raise ValueError(f"{place}: image_id {image} is not among the images of the file")
            attributes = item.get("attributes") if isinstance(item.get("attributes"), dict) else {}
            tracks = [*(item.get(name) for name in _TRACKS), attributes.get("track_id")]
            track = next((whole(place, "track_id", value) for value in tracks if value is not None), -1)
            self._found.add(i, images[image][0], images[image][1], from_width(place, item.get("bbox")), label, track)

    def _listed(self, video):
        """(index, frames) of a video of YouTube-VIS."""
        place = f"{self._path}, video {video['id']}"
        files = video.get("file_names")
        numbers = [image_of_video(str(name))[1] for name in files or ()]
        frames = [number for number in numbers if number is not None]
        if not files:
            frames = list(range(whole(place, "length", self._value("videos", video, "length"))))
        elif len(set(frames)) < len(numbers):
            raise ValueError(f"{place}: file_names must have numbers that differ, got {_short(files)}")
        self._named[bool(files)] = True
        index = self._video(self._names(video), video, place)
        self._frames[index] = set(frames)
        return index, frames

    def _read_lists(self, labels, videos):
        """Each annotation is a track: a box or null for each frame of its video."""
        listed = {key: value for key, (value, _) in videos.items()}
        for i, place, item, label in self._annotations(labels):
            key = self._value("annotations", item, "video_id")
            if key not in listed:
                raise ValueError(f"{place}: video_id {key} is not among the videos of the file")
            video, frames = listed[key]
            boxes = item.get("bboxes")
            if not isinstance(boxes, list) or len(boxes) != len(frames):
                raise ValueError(
                    f"{place}: bboxes must have a box or null for each of {len(frames)} frames, got {_short(boxes)}"
                )
            for frame, box in zip(frames, boxes, strict=True):
                if box is not None:
                    self._found.add(i, video, frame, from_width(place, box), label, i)


def _short(value):
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else f"{text[:97]}..."
