"""Names of the files that a transcode writes: as in the source, so far as no two are the same."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_SUFFIX = ".mp4"
_LONGEST = 255  # bytes of a name


def source_path(root: str, path: str) -> str:
    """The complete path of a file, in the one form that all spellings of it have.

    A path with ".." stays as it is: after a symbolic link, that is another folder than its text says.
    """
    whole = os.path.join(root, path)  # noqa: PTH118 (called for every row)
    return whole if ".." in Path(whole).parts else os.path.abspath(whole)  # noqa: PTH100


def output_names(root: str, sources: Sequence[tuple[str, int]]) -> list[str]:
    """The names of outputs, relative to their folder, all different whatever the case of letters.

    ``a/b.avi`` becomes ``a/b.mp4``. Where several files would get one name, the extension stays: ``a/b.avi.mp4``. A
    file outside of the root keeps its folders from the top on.

    Args:
        root: of the sources.
        sources: their paths, from ``source_path``, and streams; no two are the same.
    """
    top = source_path(root, "")
    inside = [_below(top, os.path.abspath(path)) for path, _ in sources]  # noqa: PTH100
    short = [os.path.splitext(name)[0] + _SUFFIX for name in inside]  # noqa: PTH122
    taken = Counter(name.lower() for name in short)
    names = [
        name if taken[name.lower()] == 1 or long.lower().endswith(_SUFFIX) else long + _SUFFIX
        for name, long in zip(short, inside, strict=True)
    ]
    taken = Counter(name.lower() for name in names)
    return [
        _shortened(name if taken[name.lower()] == 1 else _with_digest(name, source), source)
        for name, source in zip(names, sources, strict=True)
    ]


def _below(top, path):
    """A path relative to a folder or, outside of it, to the top of the file system."""
    folder = top.rstrip(os.sep) + os.sep
    return path[len(folder) :] if path.startswith(folder) else path.lstrip(os.sep)


def _with_digest(name, source):
    """A name that is this source's alone."""
    digest = hashlib.blake2b(repr(source).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return f"{os.path.splitext(name)[0]}-{digest}{_SUFFIX}"  # noqa: PTH122


def _shortened(name, source):
    """A name that a file system takes."""
    folder, last = os.path.split(name)
    if len(os.fsencode(last)) <= _LONGEST:
        return name
    whole = os.fsencode(last)[: _LONGEST - 32].decode("utf-8", "ignore")
    return os.path.join(folder, _with_digest(whole + _SUFFIX, source))  # noqa: PTH118
