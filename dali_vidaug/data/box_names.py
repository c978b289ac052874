"""Which videos a file of boxes means: by names, and by names of images."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from dali_vidaug.data.box_file import BoxFile
from dali_vidaug.data.entry import name_some
from dali_vidaug.data.folder import is_video_name

_OF_IMAGES = re.compile(r"img1?|images?|frames?", re.IGNORECASE)  # folders below that of a video


def image_of_video(name: str) -> tuple[tuple[str, ...], int | None, str | None]:
    """The video that an image is a frame of, by its folder; the number in the image's name; the name without it.

    >>> image_of_video("train/v1/frame_000012.png"), image_of_video("v2/img1/000001.jpg"), image_of_video("a.jpg")
    ((('train/v1',), 12, 'frame_*'), (('v2',), 1, '*'), ((), None, 'a'))
    """
    *folders, file = name.replace("\\", "/").split("/")
    if folders and _OF_IMAGES.fullmatch(folders[-1]):
        folders.pop()
    stem = file.rpartition(".")[0] or file
    found = re.search(r"(\d+)(?=\D*$)", stem)
    number, form = (int(found[1]), f"{stem[: found.start()]}*{stem[found.end() :]}") if found else (None, stem)
    return ("/".join(folders),) if folders else (), number, form


class VideoNames:
    """Finds videos by names. A name may lack the extension, and folders at its beginning, or have more of them.

    Args:
        paths: of the videos, relative to the manifest's root.
    """

    def __init__(self, paths: Sequence[str]):
        self.paths = paths
        self.by_file_name: list[str] = []  # names that fit by their last part alone, with what they were taken for
        self._called: defaultdict[str, list[int]] = defaultdict(list)
        self._parts = [_parts_of(path) for path in paths]
        for i, parts in enumerate(self._parts):
            for name in _names_of(parts[-1]):
                self._called[name].append(i)

    def find(self, file: BoxFile, names: Sequence[str]) -> int | None:
        """The video that a file calls by one of some names, or None.

        Raises:
            ValueError: there are several.
        """
        for name in names:
            parts = PurePosixPath(name.replace("\\", "/")).parts
            if not parts:
                continue
            found = [i for i in self._candidates(parts[-1]) if self._fits(i, parts)]
            exact = [i for i in found if self._parts[i][-1] == parts[-1]]
            if not (exact or found):
                found = self._candidates(parts[-1])
                exact = [i for i in found if self._parts[i][-1] == parts[-1]]
                if len(exact or found) == 1:
                    self.by_file_name.append(f"{name} is {self.paths[(exact or found)[0]]}")
            found = exact or found
            if len(found) > 1:
                which = name_some([self.paths[i] for i in found])
                raise ValueError(f"{file.path}: {name!r} may be any of {len(found)} videos: {which}; name its folders")
            if found:
                return found[0]
        return 0 if not file.named and len(self.paths) == len(file.videos) == 1 else None

    def _candidates(self, name):
        """Videos whose file is called so, with the extension of a video, or with another or none."""
        return sorted({i for called in _names_of(name) for i in self._called.get(called, ())})

    def _fits(self, i, parts):
        """Whether the folders of a name and of a path are the same, as far as both have them."""
        folders = self._parts[i][:-1]
        most = min(len(folders), len(parts) - 1)
        return most == 0 or folders[-most:] == parts[-1 - most : -1]


def _parts_of(path):
    """The parts of a path; of a folder of images, such as MOT17-02/img1, those of the folder that is named."""
    parts = PurePosixPath(path).parts
    return parts[:-1] if len(parts) > 1 and _OF_IMAGES.fullmatch(parts[-1]) else parts


def _names_of(name):
    """The name of a file, and that without the extension, if it is that of a video: of clip.0002 nothing is cut off."""
    return {name, PurePosixPath(name).stem} if is_video_name(name) else {name}
