"""What a transcode has finished, in a file beside its outputs: a line for each."""

from __future__ import annotations

import fcntl
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from dali_vidaug.data.index_table import index_from_text, index_to_text
from dali_vidaug.data.known import MEASURED
from dali_vidaug.data.listed_files import is_as_measured
from dali_vidaug.data.names import restore_name, store_name
from dali_vidaug.media.encoding import Encoding
from dali_vidaug.media.quality import Quality
from dali_vidaug.media.storage import Place

JOURNAL = "transcode.jsonl"
_VERSION = 1  # of what an encoding means
_NOT_OF_FILES = {"shard", "shard_offset", "etag"}  # of videos in tar files and buckets; an output is a file


class Finished(NamedTuple):
    """An output that was proven.

    Attributes:
        key: of what it was made from, and how; see ``key_of``.
        output: its name.
        row: what was measured of it.
        quality: how like its source it is.
    """

    key: str
    output: str
    row: dict[str, Any]
    quality: Quality


def key_of(row: dict[str, Any], encoding: Encoding) -> str:
    """What tells one output from another: a digest of the source as it was measured, and of how it is encoded.

    Args:
        row: of the source, with what is measured of it.
        encoding: how.
    """
    names: tuple[str, ...] = (
        "bytes", "mtime_ns", "content_digest", "stream", "num_frames", "width", "height", "orientation", "fps",
        "time_base", "damaged",
    )  # fmt: skip
    if row.get("etag") is not None:  # an object, which has no time of change
        names = (*names, "etag")
    said = {"version": _VERSION, **asdict(encoding), "options": encoding.options()}
    text = json.dumps([said, [row[name] for name in names]], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Journal:
    """The file of what is finished in a folder. One process at a time has it.

    Args:
        folder: of the outputs; it is made if need be.

    Raises:
        ValueError: the folder has other files, or another process transcodes into it.
    """

    def __init__(self, folder: Path):
        path = folder / JOURNAL
        if not path.is_file() and folder.is_dir() and any(folder.iterdir()):
            raise ValueError(
                f"transcode: the folder {folder} is not empty, and has no {JOURNAL} of an earlier transcode; choose "
                "another one"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._file = folder, path.open("ab+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ValueError(f"transcode: another process transcodes into {folder}; wait for it") from None
        except OSError:  # a file system without locks
            pass
        self._finished: dict[str, Finished] = {}
        self._file.seek(0)
        whole = b"\n"
        for whole in self._file:
            try:
                key, output, row, quality = json.loads(whole)
                output, row, quality = restore_name(output), index_from_text(row), Quality(*quality)
            except (
                ValueError,
                TypeError,
                AttributeError,
            ):  # the line that was being written when a transcode was killed
                continue
            self._finished[output] = Finished(key, output, row, quality)
        if not whole.endswith(b"\n"):
            self._file.write(b"\n")

    def names(self) -> set[str]:
        """All outputs that were ever finished here."""
        return set(self._finished)

    def get(self, output: str, key: str) -> Finished | None:
        """What was finished under a name, if it is of this key and the file is as it was then; else None."""
        found = self._finished.get(output)
        if found is None or found.key != key or not found.row.keys() >= set(MEASURED) - _NOT_OF_FILES:
            return None
        return found if is_as_measured(Place(str(self._folder / output)), found.row) else None

    def add(self, finished: Finished) -> None:
        """Keep what is finished; its file is in its place."""
        line = [finished.key, store_name(finished.output), index_to_text(finished.row), [*finished.quality]]
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Let other processes have the folder."""
        self._file.close()
