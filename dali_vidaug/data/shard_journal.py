"""Which shards of a pack are done: a file beside them, for when it is interrupted."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from dali_vidaug.data.shard_file import Task, Written

SUFFIX = ".packing"


def prefix_of(name: str) -> str:
    """What is before the number in the names of shards.

    >>> prefix_of("train-%06d.tar"), prefix_of("%06d.tar")
    ('train', 'shards')
    """
    return name.partition("%")[0].rstrip("-_.") or "shards"


def journal_path(folder: Path, name: str) -> Path:
    """The file of the journal of shards that are called so."""
    return folder / f"{prefix_of(name)}{SUFFIX}"


class Journal:
    """What is done of a pack. While it goes on, no other may write these shards.

    Args:
        folder: of the shards.
        name: how they are called, with a place for a number.
        digest: of what the pack was asked for.
        paths: of all shards.

    Raises:
        FileExistsError: a shard is there that is not of this pack, or another pack was interrupted here.
        RuntimeError: a pack goes on here.
    """

    def __init__(self, folder: Path, name: str, digest: str, paths: list[str]):
        self.path = journal_path(folder, name)
        self._done: dict[int, dict[str, Any]] = {}
        if not self.path.exists():
            there = next((path for path in paths if os.path.lexists(path)), None)
            if there is not None:
                raise FileExistsError(f"pack: {there} is there already; delete it, or choose another name")
        self._file = self.path.open("a+b")
        try:
            self._lock()
            self._read(digest)
        except BaseException:
            self._file.close()
            raise

    def _lock(self):
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"pack: another process packs here: it has {self.path}") from error
        except OSError:  # a file system without locks
            return

    def _read(self, digest):
        self._file.seek(0)
        lines = []
        for line in self._file.read().splitlines():
            with suppress(ValueError):  # the line that was being written when the pack was interrupted
                lines.append(json.loads(line))
        if not lines:
            self._write({"pack": digest})
        elif lines[0] != {"pack": digest}:
            raise FileExistsError(
                f"pack: {self.path} is of a pack of other videos, or with other options, that was interrupted; delete "
                "it and its shards, or choose another name"
            )
        self._done = {line["number"]: line for line in lines[1:] if "number" in line}

    def _write(self, line):
        self._file.write(b"\n" + json.dumps(line).encode() + b"\n")  # a line that was cut off ends before it
        self._file.flush()
        os.fsync(self._file.fileno())

    def sha256(self, task: Task) -> str | None:
        """Of a shard's file, if it was written of the same videos with the same labels; else None."""
        done = self._done.get(task.number)
        return done["sha256"] if done is not None and done["digest"] == task.digest() else None

    def add(self, shard: Written) -> None:
        """A shard is done."""
        self._write({"number": shard.number, "sha256": shard.sha256, "digest": shard.digest})

    def forget(self) -> None:
        """All is done."""
        self.path.unlink()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
