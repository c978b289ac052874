"""Names of tar shards: several in one, as WebDataset writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dali_vidaug.data.folder import is_video_name

TAR = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)", re.ASCII)
_MOST = 1_000_000  # shards that a name may stand for
_TARS = re.compile(rf"(?:{'|'.join(map(re.escape, (TAR, *COMPRESSED)))})$", re.IGNORECASE)


def is_shard_name(name: str) -> bool:
    """Whether a name is that of a tar file, compressed or not."""
    return _TARS.search(name) is not None


def tars_below(folder: Path) -> list[str]:
    """The tar files below a folder that has no videos, relative to it, sorted; else none. Hidden ones do not count."""
    found, seen = [], set()
    for at, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        if real in seen:  # links in a circle
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = [name for name in sorted(files) if not name.startswith(".")]
        if any(map(is_video_name, names)):
            return []
        found += [os.path.relpath(os.path.join(at, name), folder) for name in names if is_shard_name(name)]  # noqa: PTH118
    return sorted(found)


def is_pattern(name: str) -> bool:
    """Whether a name has braces, so that it may stand for several tar files; a file of that very name is one."""
    return bool(is_shard_name(name) and _BRACES.search(name)) and not os.path.exists(name)  # noqa: PTH110


def expand(pattern: str) -> list[str]:
    """The names that a pattern stands for, in order.

    ``{000..123}`` counts from one number to another, with zeros before if one of them has any; ``{train,val}`` has
    each; ``::`` stands between patterns.

    Raises:
        ValueError: there is nothing to expand between two braces, or it is too much.

    >>> expand("{a,b}-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    names: list[str] = []
    for part in pattern.split("::"):
        names += _expand(part, pattern)
    return names


def _expand(text: str, pattern: str) -> list[str]:
    found = _BRACES.search(text)
    if found is None:
        return [text]
    limits = _RANGE.fullmatch(found[1])
    if limits:
        first, last = map(int, limits.groups())
        width = max(map(len, limits.groups())) if re.search(r"\b0\d", found[1]) else 0
        if not first <= last < first + _MOST:
            raise ValueError(f"scan: {{{found[1]}}} of {pattern} must count up, and at most {_MOST} shards")
        choices = [f"{number:0{width}d}" for number in range(first, last + 1)]
    elif "," in found[1]:
        choices = found[1].split(",")
    else:
        raise ValueError(
            f"scan: {{{found[1]}}} of {pattern} must be a range, such as {{000000..000123}}, or a list, such as "
            "{train,val}"
        )
    rest = _expand(text[found.end() :], pattern)
    if len(choices) * len(rest) > _MOST:
        raise ValueError(f"scan: {pattern} stands for more than {_MOST} shards")
    return [f"{text[: found.start()]}{choice}{end}" for choice in choices for end in rest]
