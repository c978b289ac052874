"""Files that are written whole or not at all, whatever happens to whoever writes them."""

from __future__ import annotations

import fcntl
import glob
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_ABANDONED_SECONDS = 3600  # since a file that another machine was writing grew: whoever wrote it is gone


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Give a new file to write to, open in binary for writing and reading; afterwards it takes the place of ``path``.

    If anything fails, it is removed, and ``path`` is as before. Its name is that of this writer alone, also where
    several machines, or containers with the same process numbers, write to one folder. What others left that were
    killed is removed.

    Raises:
        OSError: it cannot be written.
    """
    target = Path(path)
    _remove_abandoned(target)
    file = _new_file(target)
    partial = Path(file.name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(target)  # while it is locked: nobody takes it for abandoned
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _new_file(target: Path) -> Any:
    """A new file beside ``target``, locked, which shows that it is not abandoned."""
    while True:
        name = f"{target}.partial-{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"
        file = open(name, "x+b")  # noqa: PTH123
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another writer removed it, before it was locked


def _remove_abandoned(target: Path) -> None:
    """Remove what writers left that were killed."""
    for left in target.parent.glob(f"{glob.escape(target.name)}.partial-*"):
        with suppress(OSError):
            age = time.time() - left.stat().st_mtime
            if left.name.startswith(f"{target.name}.partial-{socket.gethostname()}-") or age > _ABANDONED_SECONDS:
                with left.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while it is being written
                    left.unlink()
