"""Videos that a list names without their folder or extension: where they are."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dali_vidaug.data.entry import name_some
from dali_vidaug.data.folder import is_video_name
from dali_vidaug.media.image_names import counts

DEPTH = 4  # folders in folders that are looked into
SEVERAL = "there are several files of this name"
_DEPTH_BESIDE = 2  # of the folders beside the root
_NUM_TRIED = 20


class Found(NamedTuple):
    """A path relative to the root, and why it cannot be used, or None."""

    path: str
    error: str | None = None


class VideoFinder:
    """Finds videos below a folder by their names. The folder is read once.

    Args:
        root: the folder. It is read through symbolic links; each real folder once.
        depth: how many folders in folders are read.
    """

    def __init__(self, root: Path, depth: int = DEPTH):
        self.root = root
        self._of_stem: defaultdict[str, list[str]] = defaultdict(list)
        self._folders: defaultdict[str, list[str]] = defaultdict(list)  # by name
        self._anywhere: set[str] = set()  # videos that were found, whatever folder they are in
        self._alike: defaultdict[str, set[str]] = defaultdict(set)  # names by their letters and digits
        level, seen = [""], {os.path.realpath(root)}
        for _ in range(depth + 1):
            below: list[str] = []
            for folder in level:
                with suppress(OSError):
                    below += self._read(folder, seen)
            level = sorted(below)

    def _read(self, folder, seen):
        """Take note of the files of a folder; returns the folders in it that were not seen yet."""
        with os.scandir(self.root / folder) as items:
            for item in sorted(items, key=lambda item: item.name):
                name = f"{folder}/{item.name}" if folder else item.name
                if item.name.startswith("."):
                    continue
                if is_video_name(item.name) and not item.is_dir():
                    self._of_stem[_stem(item.name)].append(name)
                elif item.is_dir():
                    real = os.path.realpath(item.path)
                    if real not in seen:
                        seen.add(real)
                        self._folders[item.name].append(name)
                        self._alike[_letters(item.name)].add(item.name)
                        yield name

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder of this name, but for signs, spaces and capitals."""
        return bool(self._alike.get(_letters(name)))

    def tell_folders(self) -> Iterator[str]:
        """A sentence on videos that may be in any folder and are in several: 1.mp4 may be of another data set."""
        folders = Counter(path.rpartition("/")[0] or "the root" for path in sorted(self._anywhere))
        if len(folders) > 1:
            told = name_some([f"{folder} ({count})" for folder, count in folders.most_common()], 5)
            yield f"videos were found in {len(folders)} folders: {told}; root= takes those of one"

    def find(self, names: Sequence[str], folder: str | None = None, only_there: bool = False) -> Found:
        """The one video with a name.

        Args:
            names: what it may be called, with folders and an extension or without; the first that there is.
            folder: name of the folder that it is in, but for signs, spaces and capitals, if there is such a folder.
            only_there: in no other folder, where there is one of that name, but in the root.
        """
        for name in names:
            stem = _stem(name)
            found = self._of_stem.get(stem, [])
            there = [path for path in found if folder is not None and self._is_in(path, folder)]
            if there:
                found = there
            elif only_there and folder is not None and self.has_folder(folder):
                found = [path for path in found if "/" not in path]
            exact = [path for path in found if path.endswith(f"/{name}") or path == name]
            found = exact or found
            if len(found) == 1:
                if folder is None:
                    self._anywhere.add(found[0])
                return Found(found[0])
            if found:
                return Found(found[0], f"{SEVERAL} in {self.root}: {name_some(found)}")
        stems = [_stem(name) for name in names]
        first = names[0] if is_video_name(names[0]) else f"{names[0]}.mp4"
        for stem in stems:
            folders = [path for path in self._folders.get(stem, ()) if _has_images(self.root / path)]
            there = [path for path in folders if folder is not None and self._is_in(path, folder)]
            if len(there or folders) == 1:
                return Found((there or folders)[0])
            if folders:
                return Found(folders[0], f"{SEVERAL} in {self.root}: {name_some(folders)}")
            for path in self._folders.get(stem, ()):
                return Found(first, f"{path} is a folder without numbered images, which would be the frames of a video")
        return Found(first, f"not found as {' or '.join(f'{stem}.*' for stem in stems)} in {self.root}")

    def _is_in(self, path, folder):
        parts = path.split("/")
        alike = self._alike.get(_letters(folder), set())
        name = parts[-2] if len(parts) > 1 else ""
        return name == folder if folder in alike else name in alike


def folder_beside(root: Path, names: Sequence[str]) -> tuple[str, Path] | None:
    """The first of some videos that is beside a root in which none is, and the folder there that it is in."""
    finder = VideoFinder(root.parent, _DEPTH_BESIDE)
    for name in names[:_NUM_TRIED]:
        found = finder.find([name])
        if found.error is None:
            folder, _, rest = found.path.partition("/")
            return found.path, root.parent / folder if rest else root.parent
    return None


def _has_images(folder: Path) -> bool:
    """Whether there are numbered images in a folder, which are the frames of a video."""
    try:
        return counts(os.listdir(folder))  # noqa: PTH208 (names alone, of many files)
    except OSError:
        return False


def _stem(name: str) -> str:
    """The name of a video without folders and extension. An id may have a dot."""
    name = name.rsplit("/", 1)[-1]
    return os.path.splitext(name)[0] if is_video_name(name) else name  # noqa: PTH122


def _letters(name: str) -> str:
    """A name without signs and spaces, in small letters: Kinetics' folders are named by labels in several ways."""
    return re.sub(r"[\W_]+", "", name).lower()
