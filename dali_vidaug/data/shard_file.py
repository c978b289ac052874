"""Writes one tar shard: whole or not at all, and compared with what it was made of."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from dali_vidaug.data.atomic import written_whole
from dali_vidaug.data.tar_members import Member, read_members
from dali_vidaug.errors import one_line
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.storage import Place, Source, open_bytes
from dali_vidaug.media.unchanged import kept_open
from dali_vidaug.media.video import Video

_STEP = 1 << 20  # bytes that are read at once


class Packed(NamedTuple):
    """A video that goes into a shard.

    Attributes:
        video: its row; what is None there is not compared with the file.
        name: of its member.
        aside: the members behind it, (name, bytes) each.
    """

    video: Video
    name: str
    aside: list[tuple[str, bytes]]


class Task(NamedTuple):
    """A shard that is to be written.

    Attributes:
        number: of the shard.
        path: of its file.
        videos: what goes into it, in order.
        storage: how objects are read.
        sha256: of the file, if it was written before: then it is compared, and kept; None: it is written.
    """

    number: int
    path: str
    videos: list[Packed]
    storage: Storage
    sha256: str | None = None

    def digest(self) -> str:
        """Of all that it is made of, and of how that was told from other files."""
        digest = hashlib.blake2b(self.path.encode("utf-8", "surrogateescape"), digest_size=16)
        for video, name, aside in self.videos:
            facts = (video.path, video.bytes, video.mtime_ns, video.content_digest, name, aside)
            digest.update(repr(facts).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


class Written(NamedTuple):
    """A shard that is there.

    Attributes:
        number: of the shard.
        firsts: where the bytes of each video begin.
        size: bytes of the file.
        mtime_ns: its time of change.
        sha256: of the file, in hexadecimal.
        digest: of ``Task``.
    """

    number: int
    firsts: list[int]
    size: int
    mtime_ns: int
    sha256: str
    digest: str


def write_shard(task: Task) -> Written | str:
    """Write a shard, or compare one that was written before.

    Returns:
        The shard; or why it cannot be written, beginning with the file that is the reason.
    """
    path = Path(task.path)
    if task.sha256 is not None:
        with suppress(OSError, EOFError, ValueError), open_bytes(Place(task.path)) as source:
            sha256, members = _examine(source)
            if sha256 == task.sha256:
                return _written(task, members, path.stat(), sha256)
    try:
        with written_whole(path) as file:
            hashes = _write(file, task.videos, task.storage)
            file.flush()
            os.fsync(file.fileno())
            with suppress(OSError):  # what is compared is read from the disk, where the system can
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            sha256, members = _compare(file.name, hashes)
        return _written(task, members, path.stat(), sha256)
    except _SourceError as error:
        return str(error)
    except (OSError, _OtherBytesError) as error:
        return f"{path}: {one_line(error)}"


class _SourceError(Exception):
    """A video cannot be read, or is not the one that was scanned."""


class _OtherBytesError(Exception):
    """What is in a file is not what was written to it."""


def _compare(path: str, hashes: list[tuple[str, str]]) -> tuple[str, list[tuple[Member, str]]]:
    """What ``_examine`` finds of a shard, if its members have these names and SHA-256.

    Raises:
        _OtherBytesError: they have not.
    """
    why = ""
    with suppress(EOFError), open_bytes(Place(path)) as source:
        try:
            found = _examine(source)
            if [(member.name, sha256) for member, sha256 in found[1]] == hashes:
                return found
        except ValueError as error:
            why = f" ({one_line(error)})"
    raise _OtherBytesError(f"what was written is not what was read; is the disk all right?{why}")


def _write(file: Any, videos: list[Packed], storage: Storage) -> list[tuple[str, str]]:
    """Write the members; returns the name and SHA-256 of each.

    Raises:
        _SourceError: a video cannot be read, is not the one that was scanned, or has the name of another member.
        OSError: the shard cannot be written.
    """
    hashes: list[tuple[str, str]] = []
    names = [(video.path, name) for video, own, aside in videos for name in (own, *(other for other, _ in aside))]
    for name, count in Counter(name for _, name in names).items():
        if count > 1:
            path = next(path for path, other in names if other == name)
            raise _SourceError(f"{path}: its member {name} would be in the shard twice")
    with tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, copybufsize=_STEP) as tar:
        for video, name, aside in videos:
            with ExitStack() as opened:
                with _reading(video):
                    whole = opened.enter_context(open_bytes(video.place, storage))
                    source, check = opened.enter_context(kept_open(video._replace(source=whole)))
                    check()
                stream = _Stream(video, source)
                info = tarfile.TarInfo(name)  # of user 0, of 1970: the same videos make the same bytes
                info.size = source.size
                tar.addfile(info, stream)
                with _reading(video):
                    check()
            hashes.append((name, stream.sha256.hexdigest()))
            for other, data in aside:
                info = tarfile.TarInfo(other)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                hashes.append((other, hashlib.sha256(data).hexdigest()))
    return hashes


@contextmanager
def _reading(video: Video) -> Iterator[None]:
    """Give errors the name of the video that is read.

    Raises:
        _SourceError: in place of them.
    """
    try:
        yield
    except READ_ERRORS as error:
        raise _SourceError(f"{video.path}: {one_line(error)}") from error


class _Stream:
    """The bytes of a video from its beginning to its end, with their SHA-256."""

    def __init__(self, video: Video, source: Source):
        self._video, self._source, self._at, self.sha256 = video, source, 0, hashlib.sha256()

    def read(self, size: int = _STEP, /) -> bytes:
        with _reading(self._video):
            (data,) = self._source.read([(self._at, min(self._at + size, self._source.size))])
        self._at += len(data)
        self.sha256.update(data)
        return bytes(data)


def _examine(source: Source) -> tuple[str, list[tuple[Member, str]]]:
    """The SHA-256 of a shard and of each of its members, in one pass over it.

    Raises:
        OSError, ValueError: it cannot be read, or is no shard.
    """
    contents = read_members(source, lambda name: False)
    problem = contents.problem or next((member.error for member in contents.members if member.error), None)
    if problem is not None:
        raise ValueError(problem)
    whole, at, found = hashlib.sha256(), 0, []
    for member in contents.members:
        of_member = hashlib.sha256()
        for first, last in _steps(at, member.first):
            whole.update(*source.read([(first, last)]))
        for first, last in _steps(member.first, member.first + member.size):
            (data,) = source.read([(first, last)])
            whole.update(data)
            of_member.update(data)
        at = member.first + member.size
        found.append((member, of_member.hexdigest()))
    for first, last in _steps(at, source.size):
        whole.update(*source.read([(first, last)]))
    return whole.hexdigest(), found


def _steps(first: int, last: int) -> Iterator[tuple[int, int]]:
    for at in range(first, last, _STEP):
        yield at, min(at + _STEP, last)


def _written(task, members, stat, sha256):
    first_of = {member.name: member.first for member, _ in members}
    firsts = [first_of[packed.name] for packed in task.videos]
    return Written(task.number, firsts, stat.st_size, stat.st_mtime_ns, sha256, task.digest())
