"""Folders of videos: what is in them, through symbolic links too, and what was passed over."""

from __future__ import annotations

import errno
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from dali_vidaug.data.entry import Entry, Listing, name_some, no_columns
from dali_vidaug.media.image_names import counts, is_image_name
from dali_vidaug.media.objects import Stat

EXTENSIONS = frozenset(  # of what FFmpeg's demuxers take for video, in small letters; stills and sound are left out
    ".264 .265 .266 .3g2 .3gp .3gpp .amv .apng .asf .avc .avi .avs2 .avs3 .bik .dav .divx .dv .dvr-ms .evo .f4v .flc "
    ".fli .flv .gif .gxf .h261 .h263 .h264 .h265 .h266 .h26l .hevc .insv .ismv .ivf .ivr .kux .lrv .m1v .m2p .m2t "
    ".m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mod .mov .mp4 .mp4v .mpe .mpeg .mpeg4 .mpg .mpg4 .mpv .mqv .mts "
    ".mxf .nsv .nut .obu .ogm .ogv .ogx .pva .qt .rm .rmvb .roq .rv .smk .swf .tod .trp .ts .ty .vc1 .viv .vob .vro "
    ".vvc .webm .wm .wmv .wtv .xmv .y4m "
    ".video".split()  # what ``pack`` calls one of another name
)
_SPLITS = frozenset("train training val valid validation test testing dev eval".split())
_NO_CLASSES = frozenset("videos video clips clip data dataset all".split()) | _SPLITS
_EXTENSIONS_NAMED = 10


def is_video_name(name: str) -> bool:
    """Whether a file's extension is that of a video, in small letters or capitals."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 (called for every line of a list)


def list_folder(folder: Path) -> Listing:
    """The videos below a folder, sorted. Each sub-folder is a class; a folder without sub-folders gives no labels.

    Where there are no video files, folders of numbered images are the videos.

    Symbolic links are followed. Within a class each real folder is read once, so that links in a circle end.

    Raises:
        ValueError: there are no videos.
    """
    walk = _Walk(folder)
    walk.visit("", set())
    if walk.image_folders == [""] and not walk.files:
        name, root = folder.resolve().name, folder.resolve().parent
        return Listing(
            root, [Entry(name, name)], {"": [()]}, no_columns(1), notes=(*walk.passed_over(), *walk.left_out())
        )
    walk.take_image_folders()
    return _listing(walk, folder)._replace(root=folder.resolve())


def list_objects(url: str, objects: Mapping[str, Stat]) -> Listing:
    """As ``list_folder``, of the objects in a bucket whose keys begin with a URL, by the names that follow it."""
    walk = _Walk(Path())
    for name in objects:
        walk.add(name)
    return _listing(walk, url)._replace(objects=objects)


def _listing(walk: _Walk, folder: Path | str) -> Listing:
    if not walk.files:
        problem = next((f"; {entry.path}: {entry.error}" for entry in walk.unusable), "")
        passed = "; ".join([*walk.passed_over(), *walk.left_out()])
        raise ValueError(f"scan: no videos in {folder}{problem}{f' ({passed})' if passed else ''}")
    files = sorted(walk.files, key=lambda name: name.split("/"))
    entries: list[Entry] = []
    labels: list[tuple[str, ...]] = []
    in_classes = any("/" in name for name in files)
    for name in files:
        outside = in_classes and "/" not in name
        entries.append(Entry(name, name, error="is not in one of the class folders" if outside else None))
        labels.append((name.split("/")[0],) if "/" in name else ())
    entries += walk.unusable
    labels += [()] * len(walk.unusable)
    warnings = (*_suspect_classes(folder, files), *walk.warnings, *walk.without_videos(), *walk.passed_over())
    own, notes = no_columns(len(entries)), tuple(walk.left_out())
    return Listing(folder, entries, {"": labels}, own, from_folders=True, warnings=warnings, notes=notes)


class _Walk:
    """Reads a folder and all below it."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.files: list[str] = []  # paths are relative to the folder
        self.image_folders: list[str] = []  # that are videos, if there are no others
        self._num_images: Counter[str] = Counter()  # files in them
        self._beside: list[str] = []
        self.unusable: list[Entry] = []
        self.warnings: list[str] = []
        self._passed: dict[str, list[str]] = defaultdict(list)  # by extension
        self._hidden: list[str] = []
        self._links: list[str] = []
        self._again: list[str] = []
        self._labels: set[str] = set()
        self._class_of: dict[tuple[int, int], str] = {}

    def visit(self, relative, seen):
        """Read a folder; ``seen`` are the real folders of its class."""
        try:
            with os.scandir(self._folder / relative) as found:
                items = sorted(found, key=lambda item: (item.is_symlink(), item.name))
        except OSError as error:
            self.unusable.append(Entry(relative, relative, error=f"the folder cannot be read: {error.strerror}"))
            return
        is_video = counts(item.name for item in items)
        if is_video:
            self.image_folders.append(relative)
        for item in items:
            name = f"{relative}/{item.name}" if relative else item.name
            if item.name.startswith("."):
                if is_video_name(item.name):
                    self._hidden.append(name)
            elif problem := _problem(item):
                self.unusable.append(Entry(name, name, error=problem))
            elif item.is_dir():
                self._enter(item, name, seen if relative else {self._identity(self._folder)})
            elif is_video_name(item.name):
                self.files.append(name)
            elif is_video and is_image_name(item.name):
                self._num_images[relative] += 1
            else:
                self._passed[Path(item.name).suffix.lower() or "no extension"].append(name)

    def add(self, name):
        """Take note of a file by its name."""
        parts = name.split("/")
        if any(part.startswith(".") for part in parts):
            if is_video_name(name):
                self._hidden.append(name)
        elif is_video_name(name):
            self.files.append(name)
        else:
            self._passed[Path(name).suffix.lower() or "no extension"].append(name)

    def _identity(self, path):
        stat = Path(path).stat()
        return stat.st_dev, stat.st_ino

    def _enter(self, item, name, seen):
        real = self._identity(item.path)
        if real in seen:
            self._again.append(name)
            return
        seen.add(real)
        if item.is_symlink():
            self._links.append(name)
        label = name.split("/")[0]
        self._labels.add(label)
        other = self._class_of.setdefault(real, label)
        if other != label:
            self.warnings.append(f"{name} is the same folder as one of class {other}: its videos are in both classes")
        self.visit(name, seen)

    def take_image_folders(self):
        """Take folders of numbered images for videos, where no file is one: beside videos they may be anything."""
        if self.files:
            self._beside = self.image_folders
        else:
            self.files = [name for name in self.image_folders if name]
            if "" in self.image_folders:
                self.unusable.append(Entry(".", ".", error="images that are in no folder of their own, beside others"))

    def without_videos(self):
        """A sentence on class folders that have no videos, if there are any."""
        names = sorted(self._labels - {name.split("/")[0] for name in self.files})
        if names:
            yield f"folders without videos, which are no classes: {len(names)} ({name_some(names)})"

    def passed_over(self):
        """A sentence on files that are no videos by their extension, if there are any."""
        if self._beside:
            count = sum(self._num_images.values())
            yield (
                f"folders of images beside videos, left out: {len(self._beside)}, with {count} images "
                f"({name_some([name or 'the folder itself' for name in self._beside])}); a list can name them"
            )
        if not self._passed:
            return
        kinds = sorted(self._passed.items(), key=lambda item: -len(item[1]))
        shown = [f"{kind} {len(names)} ({name_some(names, 1)})" for kind, names in kinds[:_EXTENSIONS_NAMED]]
        more = f" and {len(kinds) - len(shown)} more extensions" if len(kinds) > len(shown) else ""
        count = sum(map(len, self._passed.values()))
        yield f"files passed over, whose extension is no video's: {count}: {', '.join(shown)}{more}"

    def left_out(self):
        """Sentences on links and hidden files."""
        if self._links:
            yield f"symbolic links to folders followed: {len(self._links)} ({name_some(self._links)})"
        if self._again:
            yield f"folders that their class has already, not read again: {len(self._again)} ({name_some(self._again)})"
        if self._hidden:
            yield f"hidden videos passed over: {len(self._hidden)} ({name_some(self._hidden)})"


def _problem(item):
    """Why an item of a folder cannot be used, or None."""
    try:
        item.stat()
    except OSError as error:
        if not item.is_symlink():
            return f"it cannot be read: {error.strerror}"
        why = "does not exist" if error.errno in (errno.ENOENT, errno.ELOOP) else f"cannot be read: {error.strerror}"
        return f"a symbolic link to {os.readlink(item.path)}, which {why}"  # noqa: PTH115
    return None


def _suspect_classes(folder, files):
    """Warnings of class folders that are splits, or that stand above the classes."""
    parts = [name.split("/") for name in files]
    classes = sorted({part[0] for part in parts if len(part) > 1})
    splits = [name for name in classes if name.lower() in _SPLITS]
    if len(splits) > 1 or (splits and len(splits) == len(classes)):
        yield (
            f"the class folders {', '.join(splits)} are named like splits of a data set: scan each by itself, such as "
            f"{folder}/{splits[0]}"
        )
    elif len(classes) == 1:
        below = sorted({part[1] for part in parts if len(part) > 2})
        if below:
            yield (
                f"the only class is {classes[0]}, which has folders of its own ({name_some(below)}): if those are the "
                f"classes, scan {folder}/{classes[0]}"
            )
        elif classes[0].lower() in _NO_CLASSES:
            yield f"the only class is {classes[0]}: if that is no class, scan {folder}/{classes[0]}"
