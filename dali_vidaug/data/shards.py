"""Tar shards in WebDataset's form: the videos in them, and what the members beside each say of it."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dali_vidaug.data.entry import Entry, Listing, name_some, plural
from dali_vidaug.data.folder import is_video_name
from dali_vidaug.data.list_source import Options
from dali_vidaug.data.names import complete
from dali_vidaug.data.shard_fields import Fields, read_fields
from dali_vidaug.data.tar_members import Contents, Member, read_members
from dali_vidaug.errors import one_line
from dali_vidaug.media.fetch_loop import wait_for
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.objects import client_of
from dali_vidaug.media.storage import Place, open_bytes
from dali_vidaug.urls import is_url

SEGMENTS = "segments"  # of KEY.json: parts of the video, each an object with FRAMES and what else differs
FRAMES = ("first_frame", "last_frame")
LABEL_OPTIONS = ("multi_label", "label_columns")  # of ``scan``, that mean something for shards
ASIDE = ("json", "cls", "txt")  # extensions of the members that say something of a video
_THREADS = 16  # tar files whose headers are read at the same time
_NEAR = 1 << 22  # bytes that a bucket sends in the time that it takes to answer
_DEEPEST = 100  # brackets in a KEY.json that are within what JSON can be written with
_TWICE = "is more than once in its tar file, and which one is meant is not known"

log = logging.getLogger("dali_vidaug")


@dataclass
class _Sample:
    """The members of a key."""

    videos: list[Member] = field(default_factory=list)
    aside: dict[str, Member] = field(default_factory=dict)  # by extension
    problem: str | None = None


@dataclass
class _Found:
    """What is found in all tar files.

    Attributes:
        entries: of videos and, with an error, of tar files that cannot be read.
        fields: of each entry.
        several: keys with several videos.
        lone: keys without a video.
        hidden: hidden videos.
        passed: other members, by extension.
        problems: what is wrong with tar files, by what it is.
        num_shards: tar files that have videos.
    """

    entries: list[Entry] = field(default_factory=list)
    fields: list[Fields] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    lone: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    passed: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)
    num_shards: int = 0


def split_key(name: str) -> tuple[str, str]:
    """The key of a member and its extension in small letters, as WebDataset has them: the first dot is between them.

    >>> split_key("run/0001.left.MP4")
    ('run/0001', 'left.mp4')
    """
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def list_shards(
    what: str, tars: Sequence[str], root: Path | str, options: Options, storage: Storage | None = None
) -> Listing:
    """The videos of tar files. Arguments and errors as of ``scan``.

    Args:
        what: the folder, pattern or list that names them, for messages.
        tars: their names, complete or relative to ``root``.
        root: of the listing.
        options: ``multi_label`` and ``label_columns`` count.
        storage: how objects are read.

    Raises:
        ValueError: there are no videos, or labels that cannot be read.
    """
    found = _Found()
    with ThreadPoolExecutor(_THREADS, "headers") as pool:
        every = pool.map(lambda tar: _read(complete(str(root), tar), storage or Storage()), tars)
        for tar, contents in zip(tars, every, strict=True):
            _add(found, tar, contents)
    if not any(entry.shard for entry in found.entries):
        problem = next((f"; {entry.path}: {entry.error}" for entry in found.entries), "")
        said = "; ".join(_warnings(found))
        raise ValueError(
            f"scan: no videos in {plural(len(tars), 'tar file')} of {what}{problem}{f' ({said})' if said else ''}"
        )
    told = f"tar shards: {found.num_shards} with {plural(sum(bool(e.shard) for e in found.entries), 'sample')}"
    listing = read_fields(what, root, found.entries, found.fields, options)
    hidden = [f"hidden videos passed over: {len(found.hidden)} ({name_some(found.hidden)})"] if found.hidden else []
    return listing._replace(warnings=(*_warnings(found), *listing.warnings), notes=(told, *listing.notes, *hidden))


def _read(path: str, storage: Storage) -> Contents | str:
    """The members of a tar file, or why it cannot be read."""
    remote = is_url(path)
    try:
        stat = wait_for(client_of(storage).stat(path)) if remote else None
        with open_bytes(Place(path), storage, stat, by_blocks=False) as source:
            return read_members(source, _is_aside, _NEAR if remote else 0)
    except FileNotFoundError:
        return "the file does not exist"
    except (OSError, EOFError, ValueError) as error:
        return one_line(error)


def _is_aside(name: str) -> bool:
    return split_key(name)[1] in ASIDE and not _is_hidden(name)


def _warnings(found: _Found) -> Iterator[str]:
    if found.problems:
        yield f"tar files that are not as they should be: {len(found.problems)} ({name_some(found.problems)})"
    if found.several:
        yield (
            f"keys with several videos, each of which is a sample with the labels of the key: {len(found.several)} "
            f"({name_some(found.several)})"
        )
    if found.lone:
        yield f"keys without a video, left out: {len(found.lone)} ({name_some(found.lone)})"
    if found.passed:
        kinds = sorted(found.passed.items(), key=lambda item: -len(item[1]))
        shown = name_some([f".{kind} {len(names)} ({names[0]})" for kind, names in kinds], 10)
        yield f"members passed over, which are neither videos nor .json, .cls or .txt: {shown}"


def _is_hidden(name: str) -> bool:
    """Whether a member is hidden, as the files that macOS adds, or metadata of WebDataset: ``__name__``."""
    return any(p.startswith(".") or (len(p) > 4 and p[:2] == p[-2:] == "__") for p in name.split("/"))


def _add(found: _Found, tar: str, contents: Contents | str) -> None:
    """Put the videos of a tar file to what is found."""
    if isinstance(contents, str):
        found.problems.append(f"{tar}: {contents}")
        found.entries.append(Entry(tar, tar, error=contents))
        found.fields.append(Fields())
        return
    if contents.problem is not None:
        found.problems.append(f"{tar}: {contents.problem}")
    counts = Counter(member.name for member in contents.members)
    samples: dict[str, _Sample] = {}
    for member in contents.members:
        name = f"{tar}/{member.name}"
        key, extension = split_key(member.name)
        if _is_hidden(member.name):
            found.hidden += [name] if is_video_name(member.name) else []
        elif is_video_name(member.name):
            samples.setdefault(key, _Sample()).videos.append(member)
        elif extension in ASIDE:
            sample = samples.setdefault(key, _Sample())
            other = sample.aside.setdefault(extension, member)
            if counts[member.name] > 1 or member.error:
                sample.problem = f"{name} {_TWICE if counts[member.name] > 1 else f'cannot be used: {member.error}'}"
            elif other.name != member.name:
                sample.problem = (
                    f"{tar}/{other.name} and {member.name} are both there, and which one is meant is not known"
                )
        else:
            found.passed[extension or "no extension"].append(name)
    found.num_shards += any(sample.videos for sample in samples.values())
    for key, sample in samples.items():
        if not sample.videos:
            found.lone.append(f"{tar}/{key}")
            continue
        names = dict.fromkeys(member.name for member in sample.videos)
        if len(names) > 1:
            found.several.append(f"{tar}/{' and '.join(names)}")
        for member in sample.videos:
            if counts[member.name] > 1:
                member = member._replace(error=f"it {_TWICE}")
            _add_video(found, tar, member, sample)


def _add_video(found: _Found, tar: str, member: Member, sample: _Sample) -> None:
    """An entry for a video, or for each of its segments."""
    name, error = f"{tar}/{member.name}", member.error or sample.problem
    objects: list[tuple[dict[str, Any], int | None, int | None]] = [({}, None, None)]
    texts: dict[str, str] = {}
    if error is None:
        try:
            texts = {kind: _text(one) for kind, one in sample.aside.items()}
            objects = _objects(texts)
        except ValueError as problem:
            error = f"{tar}/{split_key(member.name)[0]}{problem}"
    for value, start, end in objects:
        entry = Entry(
            name, name, start, end, in_frames=start is not None, error=error, shard=tar, first=member.first,
            size=member.size,
        )  # fmt: skip
        found.entries.append(entry)
        folder = os.path.dirname(member.name)  # noqa: PTH120 (called for every member)
        found.fields.append(Fields(value, texts.get("cls"), texts.get("txt"), folder))


def _text(member: Member) -> str:
    """The text of a member.

    Raises:
        ValueError: it is not UTF-8; what is said follows the name of its key.
    """
    try:
        return (member.data or b"").decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f".{split_key(member.name)[1]} is not UTF-8 ({error})") from error


def _objects(texts: dict[str, str]) -> list[tuple[dict[str, Any], int | None, int | None]]:
    """What KEY.json says: an object, or one for each segment; with its frames [first, last), None: all.

    Raises:
        ValueError: it is no JSON, or has what no column can have; what is said follows the name of its key.
    """
    if "json" not in texts:
        return [({}, None, None)]
    try:
        value = json.loads(texts["json"])
        if "\\ud" in texts["json"].lower():  # halves of characters, of which one may stand alone
            json.dumps(value, ensure_ascii=False).encode()
        if texts["json"].count("[") + texts["json"].count("{") > _DEEPEST:
            json.dumps(value)  # what cannot be written again is no column
    except UnicodeEncodeError as error:
        raise ValueError(f".json has half of a character, \\u{ord(error.object[error.start]):x}, alone") from error
    except RecursionError as error:
        raise ValueError(".json has objects or lists in one another that are too deep") from error
    except ValueError as error:
        raise ValueError(f".json cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        return [({"json": value}, None, None)]
    segments = value.get(SEGMENTS)
    if not (isinstance(segments, list) and segments and all(map(_is_segment, segments))):
        return [(value, None, None)]
    del value[SEGMENTS]
    parts = [{**value, **{name: one for name, one in part.items() if name not in FRAMES}} for part in segments]
    return [(own, *(part[name] for name in FRAMES)) for own, part in zip(parts, segments, strict=True)]


def _is_segment(value: Any) -> bool:
    return isinstance(value, dict) and all(type(value.get(name)) is int for name in FRAMES)
