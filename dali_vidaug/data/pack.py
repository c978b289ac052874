"""Packs videos into tar shards in WebDataset's form, and makes the manifest of them without measuring again."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dali_vidaug.data.engine import Failed, check_engine, run
from dali_vidaug.data.entry import plural
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import store_name
from dali_vidaug.data.one_scan import check_one_scan
from dali_vidaug.data.pack_fields import field_names, json_of, member_name, renamed
from dali_vidaug.data.pack_streams import check_streams
from dali_vidaug.data.scan import scan
from dali_vidaug.data.schema import SCHEMA, check_file_name, is_manifest
from dali_vidaug.data.shard_file import Packed, Task, Written, write_shard
from dali_vidaug.data.shard_journal import Journal
from dali_vidaug.data.shards import FRAMES
from dali_vidaug.errors import printable
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.video import IMAGES
from dali_vidaug.order import ROUNDS, permute
from dali_vidaug.rng import Draws

_NUMBER = re.compile(r"%0?\d*d")
_KEY_DIGITS = 9

log = logging.getLogger("dali_vidaug")


class _Layout(NamedTuple):
    """What goes where.

    Attributes:
        files: (F,) int64, in the order of the shards: the files, by their first row.
        first: (S + 1,) int64, which of them each shard begins with, and F.
        rows: (N,) int64, rows, those of a file next to each other.
        begins: (N + 1,) int64, by first row: where the rows of its file begin in ``rows``.
        counts: (N,) int64, by first row: how many rows its file has.
    """

    files: np.ndarray
    first: np.ndarray
    rows: np.ndarray
    begins: np.ndarray
    counts: np.ndarray


def pack(
    videos: Manifest | str | os.PathLike[str] | Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], *,
    output: str | os.PathLike[str] | None = None, shard_size: int = 10**9, shard_count: int | None = None,
    shuffle: bool = True, seed: int = 0, check_files: str = "size_and_time", engine: Any = "threads",
    num_workers: int | None = None, storage: Storage | None = None, progress: bool = True,
) -> Manifest:  # fmt: skip
    """Write videos into tar shards in WebDataset's form: KEY.mp4, KEY.json and KEY.cls, one sample after the other.

    KEY is the number of the first row of its file, so it is the same however the videos are shuffled. KEY.json has
    ``label`` (the index of the class), ``class`` (its name), ``source`` (where the video was), your own columns and,
    where rows are parts of a video, ``segments``; KEY.cls has the index alone, if all rows of the video have it. The
    same videos give the same bytes. A video is packed once, however many rows it has.

    Each video is compared with the one that was scanned, and each member with what was read, by SHA-256. A shard is
    written whole or not at all. An interrupted pack goes on where it stopped: shards that are done are compared with
    their SHA-256, and kept.

    Args:
        videos: a manifest, its file, or what ``scan`` takes, which is scanned first.
        out: how shards are called, such as "shards/train-%06d.tar". The folder is made.
        output: Parquet file for the manifest of the shards.
        shard_size: bytes of videos that a shard has at most, unless a single one is larger.
        shard_count: videos that a shard has at most; None: as many as ``shard_size`` holds.
        shuffle: mix the videos, so that each shard has some of each class; otherwise they keep their order.
        seed: of that order, [0, 2**64).
        check_files: what of a file is compared with the scanned one, besides bytes at some places: "size_and_time" (of
            change), or "size", as after copying.
        engine, num_workers: what writes shards, and how many at the same time: as of ``scan``.
        storage: how videos in buckets are read: ``dv.Storage(...)``.
        progress: show a progress bar.

    Returns:
        The manifest of the shards: the same rows, labels, segments, boxes, columns and packet indices, in other places.

    Raises:
        FileExistsError: a shard is there already.
        RuntimeError: a video is not the one that was scanned, or a shard cannot be written. What is done is kept.
        ValueError: an option is out of range; rows of a video are of scans that differ, or of another stream than a
            scan of the shards takes.
    """
    folder, name = check_pack(out, output, shard_size, shard_count, check_files)
    check_engine(engine, num_workers, "pack: num_workers")
    manifest = _open(videos, storage, progress)
    _check_kinds(manifest)
    layout = _lay_out(manifest, shard_size, shard_count, shuffle, seed)
    firsts = _first_rows(layout)
    check_streams(manifest, firsts, storage or Storage())
    check_one_scan(manifest, firsts, "pack")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / (name % number)) for number in range(len(layout.first) - 1)]
    facts = (name, shard_size, shard_count, shuffle, seed, len(manifest), manifest.classes, layout.files.tobytes())
    with Journal(folder, name, hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest(), paths) as journal:
        tasks = _tasks(manifest, layout, paths, journal, check_files, storage or Storage())
        results = run(
            write_shard, tasks, engine=engine, num_workers=num_workers, total=len(paths), what="pack", unit="shards",
            progress=progress,
        )  # fmt: skip
        with closing(results):
            written = _collect(results, journal, len(paths))
        packed = _manifest(manifest, layout, written, folder, name)
        if output is not None:
            packed.write(output)
        journal.forget()
    return packed


def check_pack(
    out: str | os.PathLike[str], output: str | os.PathLike[str] | None, shard_size: int, shard_count: int | None,
    check_files: str,
) -> tuple[Path, str]:  # fmt: skip
    """The folder of the shards, and how they are called. Arguments as of ``pack``.

    Raises:
        ValueError: an option is out of range.
    """
    text = os.fspath(out)
    if "://" in text:
        raise ValueError(f"pack: shards are written into a folder, which can be copied then, got {text}")
    folder, name = Path(text).resolve().parent, Path(text).name
    if not (name.endswith(".tar") and len(_NUMBER.findall(name)) == 1 and name.count("%") == 1):
        raise ValueError(f"pack: out must end in .tar and have one %06d for the number of a shard, got {text}")
    for option, value in (("shard_size", shard_size), ("shard_count", 1 if shard_count is None else shard_count)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"pack: {option} must be an int >= 1, got {value!r}")
    if check_files not in ("size_and_time", "size"):
        raise ValueError(f"pack: check_files must be 'size_and_time' or 'size', got {check_files!r}")
    if output is not None:
        check_file_name(output, "pack: output")
        output = Path(output).resolve()
        if output.exists() and not is_manifest(output):
            raise ValueError(f"pack: the output {output} is there already, and is not a manifest; choose another name")
        if not output.parent.is_dir() and output.parent != folder:
            raise ValueError(f"pack: there is no folder {output.parent} for the output")
    return folder, name


def _open(videos, storage, progress) -> Manifest:
    if isinstance(videos, Manifest):
        return videos
    if isinstance(videos, (str, os.PathLike)) and is_manifest(videos):
        return Manifest.read(videos)
    return scan(videos, storage=storage, progress=progress)


def _check_kinds(manifest: Manifest) -> None:
    images = [fmt for fmt in manifest.formats() if fmt.codec == IMAGES]
    if images:
        files = manifest.formats()[images[0]]
        raise ValueError(f"pack: {files.example} is a folder of images; only videos are packed into tar shards")


def _lay_out(manifest: Manifest, shard_size: int, shard_count: int | None, shuffle: bool, seed: int) -> _Layout:
    """Which file goes into which shard."""
    if not len(manifest):
        raise ValueError("pack: the manifest has no videos")
    paths = manifest.table["path"].dictionary_encode().unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in paths.chunks])
    _, files, of_file, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    rows = np.argsort(files[of_file], kind="stable")
    by_first = np.argsort(files)
    begins, sizes = np.zeros(len(codes) + 1, np.int64), np.zeros(len(codes), np.int64)
    sizes[files] = counts
    begins[files[by_first]] = np.append(0, np.cumsum(counts[by_first])[:-1])
    files = files[by_first].astype(np.int64)
    if shuffle:
        keys = Draws(seed, 0, [0], prefix="pack").words("order", ROUNDS)[0]
        files = files[permute(np.arange(len(files)), len(files), keys)]
    lengths = pc.take(manifest.table["bytes"], pa.array(files))
    if lengths.null_count:
        raise ValueError("pack: the manifest does not say how many bytes its files have; scan them again")
    first, size = [0], 0
    for i, length in enumerate(lengths.to_pylist()):
        full = size + length > shard_size or (shard_count is not None and i - first[-1] >= shard_count)
        if full and i > first[-1]:
            first.append(i)
            size = 0
        size += length
    return _Layout(files, np.array([*first, len(files)]), rows, begins, sizes)


def _first_rows(layout: _Layout) -> np.ndarray:
    """(N,) int64, for each row the first row of its file."""
    found = np.empty(len(layout.rows), np.int64)
    files = np.sort(layout.files)
    found[layout.rows] = files.repeat(layout.counts[files])
    return found


def _tasks(
    manifest: Manifest, layout: _Layout, paths: list[str], journal: Journal, check_files: str, storage: Storage
) -> Iterator[Task]:
    """The shards, one after the other: what goes into each is made when it is asked for."""
    names = field_names(manifest)
    said = manifest.table.select(["path", "label", "labels", *FRAMES, "num_frames", *names])
    lacking: dict[str, Any] = {"packet_index": None, "keyframes": np.zeros(0, np.int32), "pts": None}
    if check_files == "size":
        lacking["mtime_ns"] = None
    for number, path in enumerate(paths):
        videos = []
        for file in layout.files[layout.first[number] : layout.first[number + 1]].tolist():
            begin = layout.begins[file]
            rows = said.take(pa.array(layout.rows[begin : begin + layout.counts[file]])).to_pylist()
            key = f"{file:0{_KEY_DIGITS}d}"
            aside = [(f"{key}.json", json_of(rows, names, manifest.classes))]
            if not manifest.multi_label and len({row["label"] for row in rows}) == 1 and rows[0]["label"] >= 0:
                aside.append((f"{key}.cls", str(rows[0]["label"]).encode()))
            videos.append(Packed(manifest.video(file)._replace(**lacking), member_name(key, rows[0]["path"]), aside))
        task = Task(number, path, videos, storage)
        yield task._replace(sha256=journal.sha256(task))


def _collect(results: Iterable[tuple[Task, Any]], journal: Journal, count: int) -> list[Written]:
    """The shards, by number. All are tried before what failed is told.

    Raises:
        RuntimeError: some could not be written.
    """
    written: dict[int, Written] = {}
    problems = []
    for task, result in results:
        if isinstance(result, Written):
            journal.add(result)
            written[result.number] = result
        else:
            problems.append(f"{task.path}: {result.reason}" if isinstance(result, Failed) else result)
    if problems:
        raise RuntimeError(
            f"pack: {plural(len(problems), 'shard')} of {count} could not be written; the first: "
            f"{printable(problems[0])}. The same call goes on from here"
        )
    return [written[number] for number in range(count)]


def _manifest(manifest: Manifest, layout: _Layout, written: list[Written], folder: Path, name: str) -> Manifest:
    """The manifest of the shards: the rows of another one, in other places."""
    size = len(manifest)
    number = np.zeros(size, np.int32)  # by first row of a file, as what follows
    place, times = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for shard in written:
        files = layout.files[layout.first[shard.number] : layout.first[shard.number + 1]]
        number[files], place[files], times[files] = shard.number, shard.firsts, shard.mtime_ns
    first_row = _first_rows(layout)
    shards = [store_name(name % shard.number) for shard in written]
    old = manifest.table["path"].to_pylist()
    paths = [
        f"{shards[number[file]]}/{member_name(f'{file:0{_KEY_DIGITS}d}', old[file])}" for file in first_row.tolist()
    ]
    columns = {
        "path": pa.array(paths, pa.string()),
        "shard": pa.DictionaryArray.from_arrays(pa.array(number[first_row]), pa.array(shards)),
        "shard_offset": pa.array(place[first_row]),
        "mtime_ns": pa.array(times[first_row]),
        "etag": pa.nulls(size, pa.string()),
    }
    table = manifest.table
    for column, values in columns.items():
        at = table.column_names.index(column)
        table = table.set_column(at, SCHEMA.field(column), values)
    said = f"packed into {plural(len(written), 'tar shard')}, from {printable(manifest.root)}"
    remarks = (*manifest.remarks, *renamed(manifest), said)
    return Manifest(table, manifest.classes, folder, manifest.broken, remarks, manifest.packets, manifest.box_classes)
