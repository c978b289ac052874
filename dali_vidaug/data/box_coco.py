"""Boxes in JSON files in the manner of COCO: images, annotations, categories; also YouTube-VIS, without images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dali_vidaug.data.box_file import TURNED, BoxFile, KeyList, from_width, hull_of, number, whole
from dali_vidaug.data.box_names import image_of_video

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
        self._ids: dict[int, object] = {}  # of the videos that were found, in the file
        self._videos: dict[object, int] = {}  # the same, the other way
        self._shifts: dict[int, int] = {}  # from numbers of images to those in their names, by video
        self._crowds = self._without = self._turned = 0

    def read(self) -> BoxFile:
        """All of it."""
        categories = sorted(self._by_id("categories").items(), key=lambda item: (isinstance(item[0], str), item[0]))
        labels = {key: self._found.label(str(self._value("categories", item, "name"))) for key, item in categories}
        videos = self._by_id("videos") if "videos" in self._data else {}
        if self._data.get("images"):
            images = {key: self._image(image, videos) for key, image in self._by_id("images").items()}
            self._read_annotations(labels, images)
        else:
            self._read_lists(labels, {key: self._listed(video) for key, video in videos.items()})
        notes = {
            "annotations of crowds (iscrowd), left out": self._crowds,
            "annotations without a box, left out": self._without,
            TURNED: self._turned,
        }
        return self._found.file(
            self._path, "coco", "annotation", declared=True, first_frame=None, between="listed", notes=notes
        )

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
        place, key = f"{self._path}, image {image['id']}", image.get("video_id")
        folders, in_name, form = image_of_video(str(image.get("file_name", "")))
        names, sized = (str(image["video"]),) if image.get("video") else folders, image
        if key is not None:
            if key not in videos:
                raise ValueError(f"{place}: video_id {key} is not among the videos of the file")
            names = self._names(videos[key]) or folders
            sized = image if image.get("width") else videos[key]
        field = next((name for name in _FRAMES if image.get(name) is not None), None)
        frame = in_name if field is None else whole(place, "frame", image[field])
        if frame is None:
            raise ValueError(
                f"{place}: it must have {' or '.join(_FRAMES)}, or a number in file_name, got {_short(image)}"
            )
        video = self._video(key, names, sized, place)
        self._found.add_image(place, video, frame, form if field is None else None)
        if field is not None and in_name is not None:
            shift = in_name - frame
            if self._shifts.setdefault(video, shift) != shift or abs(shift) > 1:
                why = f"image {image['id']} has {field} {frame} and the name {image['file_name']}"
                self._found.doubtful.setdefault(video, why)
        return video, frame

    def _names(self, video):
        """What a video of the file may be called: its name; else the folder of its images."""
        name = video.get("name") or video.get("file_name")
        images = video.get("file_names") or [""]
        return (str(name),) if name else image_of_video(str(images[0]))[0]

    def _video(self, key, names, sized, place):
        """The index of the video with an id, or None, of the file; ``sized`` has its width and height."""
        video = self._found.video(*names) if names else self._found.unnamed_video(self._path)
        other = self._ids.setdefault(video, key)
        if other != key:
            called = names[0] if names else "nothing"
            raise ValueError(f"{place}: videos must have names that differ, got {called} for {other} and {key}")
        if key is not None and self._videos.setdefault(key, video) != video:
            raise ValueError(
                f"{place}: video {key} has no name, and images in several folders, of which one is {names[0]}"
            )
        if sized.get("width") and sized.get("height"):
            self._found.set_size(place, video, sized["width"], sized["height"])
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
            turn, xyxy = attributes.get("rotation"), from_width(place, item.get("bbox"))
            if isinstance(turn, (int, float)) and number(place, "rotation", turn) % 360:  # of CVAT: the box is unturned
                self._turned += 1
                xyxy = hull_of(xyxy, turn)
            self._found.add(i, images[image][0], images[image][1], xyxy, label, track)

    def _listed(self, video):
        """(index, frames) of a video of YouTube-VIS."""
        place, files = f"{self._path}, video {video['id']}", video.get("file_names")
        images = [image_of_video(str(name))[1:] for name in files or ()]
        if not files:
            images = [(i, None) for i in range(whole(place, "length", self._value("videos", video, "length")))]
        index = self._video(video["id"], self._names(video), video, place)
        for frame, form in images:
            if frame is None:
                raise ValueError(f"{place}: each of file_names must have a number, got {_short(files)}")
            self._found.add_image(place, index, frame, form)
        if not files:
            self._found.lengths[index] = len(images)
        return index, [frame for frame, _ in images]

    def _read_lists(self, labels, videos):
        """Each annotation is a track: a box or null for each frame of its video."""
        for i, place, item, label in self._annotations(labels):
            key = self._value("annotations", item, "video_id")
            if key not in videos:
                raise ValueError(f"{place}: video_id {key} is not among the videos of the file")
            video, frames = videos[key]
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
