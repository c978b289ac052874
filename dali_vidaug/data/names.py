"""File names: how those that are not UTF-8 are stored, and where files are that are missing.

Parquet's text is UTF-8. Python reads other names with a lone surrogate for each byte that is not UTF-8. In a manifest
that byte is written as NUL and two hex digits. No file name has a NUL, so all other names are stored as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import escape
from pathlib import Path

from dali_vidaug.urls import check_url, is_url

_ESCAPED = re.compile("\0([0-9a-f]{2})")
_SURROGATE = re.compile("[\udc80-\udcff]")


def store_name(name: str) -> str:
    """A file name, as Python has it, as the text that a manifest stores.

    >>> store_name("a/caf\\udce9.mp4")
    'a/caf\\x00e9.mp4'
    """
    return _SURROGATE.sub(lambda found: f"\0{ord(found[0]) & 0xFF:02x}", name)


def restore_name(text: str) -> str:
    """The file name that ``store_name`` stored."""
    return _ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text) if "\0" in text else text


def complete(root: str, name: str) -> str:
    """The complete path of a file.

    Args:
        root: folder, or URL, that its name is relative to.
        name: as ``restore_name`` returns it; a path or URL that is complete stays as it is.
    """
    if is_url(name):
        return name
    if is_url(root):
        return f"{root.rstrip('/')}/{name}"
    return os.path.join(root, name)  # noqa: PTH118 (called for every clip)


def below_root(names: Sequence[str], root: Path | None) -> tuple[list[str], Path]:
    """Paths relative to a root, where they are below it, and the root: by default the deepest folder that has all."""
    if root is None:
        names = [os.path.abspath(name) for name in names]  # noqa: PTH100 (links keep their names)
        root = Path(os.path.commonpath([str(Path(name).parent) for name in names]))
    folder = root.absolute()
    paths = map(Path, names)
    return [str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path) for path in paths], folder


def check_root(root: str | os.PathLike[str] | None) -> None:
    """Refuse a root of a manifest that is neither a folder nor a URL that can be read.

    Raises:
        FileNotFoundError, ValueError: it is such.
    """
    if is_url(root):
        check_url(str(root))
    elif root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"manifest: root must be a folder, there is no folder {root}")


def is_utf8(text: str) -> bool:
    """Whether text that Python read with ``surrogateescape`` is UTF-8."""
    return _SURROGATE.search(text) is None


def find_root(root: Path, name: str) -> Path | None:
    """The folder that a file is in which is missing in ``root``, or None.

    It is looked for in the working folder and in its folder of the same name, above the root, and in the folders of it.
    """
    if Path(name).is_absolute():
        return None
    known = (Path.cwd(), Path.cwd() / root.name, *root.parents)
    found = next((folder for folder in known if (folder / name).is_file()), None)
    return found or next((path.parents[len(Path(name).parts) - 1] for path in root.glob(f"*/{escape(name)}")), None)
