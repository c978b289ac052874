"""Which of a manifest's videos a file of boxes means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from dali_vidaug.data.box_file import BoxFile
from dali_vidaug.data.entry import name_some


class VideoNames:
    """Finds videos by names. A name may lack the extension, and folders at its beginning, or have more of them.

    Args:
        paths: of the videos, relative to the manifest's root.
    """

    def __init__(self, paths: Sequence[str]):
        self.paths = paths
        self.by_file_name: list[str] = []  # names that fit by their last part alone, with what they were taken for
        self._of_stem: defaultdict[str, list[int]] = defaultdict(list)
        for i, path in enumerate(paths):
            self._of_stem[PurePosixPath(path).stem].append(i)
            if "." in PurePosixPath(path).stem:
                self._of_stem[PurePosixPath(path).name].append(i)

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
            exact = [i for i in found if PurePosixPath(self.paths[i]).name == parts[-1]]
            if not (exact or found):
                found = self._candidates(parts[-1])
                exact = [i for i in found if PurePosixPath(self.paths[i]).name == parts[-1]]
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
        """Videos whose file is called so, with an extension or without."""
        return self._of_stem.get(name) or self._of_stem.get(PurePosixPath(name).stem) or []

    def _fits(self, i, parts):
        """Whether the folders of a name and of a path are the same, as far as both have them."""
        folders = PurePosixPath(self.paths[i]).parts[:-1]
        most = min(len(folders), len(parts) - 1)
        return most == 0 or folders[-most:] == parts[-1 - most : -1]
