"""What is given where a manifest is expected: one, or the file of one."""

from __future__ import annotations

import os
from pathlib import Path

from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.schema import is_manifest


def open_manifest(given: Manifest | str | os.PathLike[str], caller: str) -> Manifest:
    """The manifest, or the one that a file holds.

    Args:
        given: a manifest, or the path of its file.
        caller: named in errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else.
    """
    if isinstance(given, Manifest):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise ValueError(
            f"{caller}: manifest must be a Manifest, or the file of one, got {type(given).__name__}; dv.scan makes one"
        )
    if not Path(given).exists():
        raise FileNotFoundError(f"{caller}: no manifest {given}")
    if Path(given).is_file() and is_manifest(given):
        return Manifest.read(given)
    what = "a folder" if Path(given).is_dir() else "no manifest"
    raise ValueError(
        f"{caller}: {given} is {what}; dv.scan({os.fspath(given)!r}) makes a manifest of a folder or a list"
    )
