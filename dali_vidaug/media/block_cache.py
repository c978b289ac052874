"""A folder on a local disk that keeps blocks of objects, for all processes of a machine.

A block is a file, named by what it holds: a digest of the object's URL, ETag and size, and of the block's number. It is
written under another name, flushed to the disk, and renamed: whoever is killed leaves no block that is not whole. A
checksum at its end is compared whenever it is read.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
import zlib
from contextlib import suppress
from pathlib import Path

from dali_vidaug.media.objects import Stat

BLOCK = 1 << 20  # bytes
_CHECKS = 32  # the cache is measured after a part of its limit was written
_LEFT = 7 / 8  # of its limit, when blocks were removed
_OLD = 3600.0  # seconds after which a file that was not finished is removed

log = logging.getLogger("dali_vidaug")


class BlockCache:
    """Blocks of objects in a folder.

    Args:
        folder: made if it is not there.
        limit: bytes that it may have; None: no limit.
        patience: seconds that another process may take to fetch a block, before it is fetched twice.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str, limit: int | None, patience: float):
        self._folder, self._limit, self._patience = Path(folder), limit, patience
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"Storage(cache={folder!r}): the folder cannot be made: {error.strerror}") from error
        self._written = limit or 0  # measured when the first block is written
        self._works = True

    def key(self, url: str, stat: Stat, number: int) -> str:
        """The name of a block of an object that has an ETag, which tells its versions apart."""
        return hashlib.blake2b(f"{url}\n{stat.etag}\n{stat.size}\n{number}".encode(), digest_size=20).hexdigest()

    def _path(self, key):
        return self._folder / key[:2] / key

    def get(self, key: str, size: int) -> bytes | None:
        """A block of so many bytes; None if it is not there, or not whole."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if len(data) != size + 4 or zlib.crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "little"):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # when it was used last: many disks do not keep that
        return data[:-4]

    def put(self, key: str, data: bytes) -> None:
        """Keep a block. Where that fails, as on a disk that is full, a warning says so once, and nothing is kept."""
        if not self._works:
            return
        path = self._path(key)
        part = path.with_name(f"{key}.{os.getpid():x}-{time.monotonic_ns():x}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            try:
                with part.open("wb") as file:
                    file.write(data)
                    file.write(zlib.crc32(data).to_bytes(4, "little"))
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            self._keep_limit(len(data))
        except OSError as error:
            self._works = False
            log.warning("the cache %s is not written any more by this process: %s", self._folder, error)

    def claim(self, key: str) -> bool:
        """Whether this process is the one that fetches a block; another one is doing it otherwise."""
        path = self._path(key).with_suffix(".fetching")
        try:
            path.parent.mkdir(exist_ok=True)
            if time.time() - path.stat().st_mtime > self._patience or _is_of_the_dead(path):
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except OSError:
            return True
        try:
            with path.open("xb", buffering=0) as file:
                file.write(str(os.getpid()).encode())
        except FileExistsError:
            return False
        except OSError:
            return True
        return True

    def release(self, key: str) -> None:
        """The block is fetched, or could not be."""
        with suppress(OSError):
            self._path(key).with_suffix(".fetching").unlink(missing_ok=True)

    def _keep_limit(self, written):
        """Remove what was not used for longest, if more than the limit is there."""
        self._written += written
        if self._limit is None or self._written < max(BLOCK, self._limit // _CHECKS):
            return
        self._written = 0
        with (self._folder / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # another process does it
                return
            self._remove_oldest(self._limit)

    def _remove_oldest(self, limit):
        found, total = [], 0
        for folder in os.scandir(self._folder):
            for item in os.scandir(folder) if folder.is_dir() else ():
                with suppress(OSError):
                    stat = item.stat()
                    if "." not in item.name:
                        found.append((stat.st_mtime_ns, stat.st_size, item.path))
                        total += stat.st_size
                    elif time.time() - stat.st_mtime > _OLD:  # of a process that was killed
                        Path(item.path).unlink(missing_ok=True)
        if total + limit // _CHECKS <= limit:
            return
        for _, size, path in sorted(found):
            if total <= limit * _LEFT:
                break
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)
            total -= size


def _is_of_the_dead(path):
    """Whether the process that wrote its number into a file was killed. One that cannot be seen counts as such."""
    try:
        os.kill(int(path.read_bytes()), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):  # it is another user's, or the number is not written yet
        return False
    return False
