"""The columns of a manifest, what it says of files without rows, and the file that holds it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dali_vidaug.data.atomic import written_whole
from dali_vidaug.data.shared import (
    ChangedError,
    Shared,
    check_unchanged,
    copy_path,
    key_of,
    share,
    stamp_of,
)

MANIFEST_VERSION = 3
WITHOUT_SHARDS = 2  # this version had no columns shard, shard_offset and etag: those are a user's own

SCHEMA = pa.schema(
    [
        # A folder of images has codec "images"; what is of files below is then of them: docs/frame-folders.md.
        ("path", pa.string()),  # relative to the manifest's root, as data.names.store_name writes it
        ("label", pa.int32()),  # index into the manifest's classes; -1: none, or several
        ("labels", pa.list_(pa.int32())),  # where samples may have several labels: their indices; else null
        ("first_frame", pa.int32()),  # clips are drawn from frames [first_frame, last_frame)
        ("last_frame", pa.int32()),
        ("num_frames", pa.int32()),  # frames that a full decode gives
        ("stream", pa.int32()),  # which stream of the file
        ("width", pa.int32()),  # as stored, before it is turned
        ("height", pa.int32()),
        ("orientation", pa.int32()),  # how the stored frame is shown: 1 to 8, as in EXIF; see media/orientation.py
        ("fps", pa.float64()),  # average over the video
        ("duration_seconds", pa.float64()),
        ("codec", pa.dictionary(pa.int32(), pa.string())),
        ("pixel_format", pa.dictionary(pa.int32(), pa.string())),
        ("colorspace", pa.int32()),  # matrix coefficients of its frames (ITU-T H.273); null: not known, or they change
        ("keyframes", pa.list_(pa.int32())),  # frames where decoding can begin; those before, from the first packet on
        # Frame i is shown at pts_first + i * pts_step (to a quarter of a step) or, when that is null, at pts[i],
        # in ticks of time_base seconds; when both are null, time stamps are useless and frames are counted.
        ("time_base", pa.float64()),
        ("pts_first", pa.int64()),
        ("pts_step", pa.float64()),
        ("pts", pa.list_(pa.int64())),
        (
            "regular",
            pa.bool_(),
        ),  # each packet is a frame, with the settings of the first; other files do not go to DALI. null: only the
        # header was read: num_frames, size, orientation, rate and codec are what it says, and there are no keyframes
        ("damaged", pa.list_(pa.int32())),  # frames that cannot be used: first, last, first, last, ...
        ("notes", pa.string()),  # what is odd about the file, for people; null: nothing
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("content_digest", pa.int64()),  # of its bytes at eight places; see media/unchanged.py
        ("packet_index", pa.int32()),  # number of its packet index, in the file beside the manifest; null: none
        ("no_packet_index", pa.string()),  # why it has none, for people
        # A video in a tar file: ``path`` is SHARD/MEMBER, ``bytes`` its size; null: it is a file itself.
        ("shard", pa.dictionary(pa.int32(), pa.string())),  # the tar file, relative to the root, as ``path`` is written
        ("shard_offset", pa.int64()),  # byte of the tar file where it begins
        ("etag", pa.string()),  # what the server called the object when it was scanned; null: a local file
    ]
)
BOXES = pa.field(  # a column after these, of manifests with boxes: those of each row, as data/boxes.py says
    "boxes",
    pa.list_(
        pa.struct(
            [
                ("frame", pa.int32()),  # of the file; the box is in the frames [frame, end)
                ("end", pa.int32()),
                ("x1", pa.float32()),  # pixels of the frame as shown, half open
                ("y1", pa.float32()),
                ("x2", pa.float32()),
                ("y2", pa.float32()),
                ("label", pa.int32()),  # index into the manifest's box_classes; -1: none
                ("track", pa.int64()),  # the same for the same thing in all frames of a file; -1: none
                (
                    "moves",
                    pa.int8(),
                ),  # 1: to the box that is next in the list, which begins at ``end``; 0: stands still
            ]
        )
    ),
)
SEGMENTS = pa.field(  # what lists of untrimmed videos have annotated in each; a column of your own to all else
    "segments",
    pa.list_(
        pa.struct(
            [
                ("start", pa.float64()),  # seconds after the file's first frame, [start, end)
                ("end", pa.float64()),
                ("label", pa.string()),  # name of a class; null: ambiguous
            ]
        )
    ),
)
NEW_NAMES = ("shard", "shard_offset", "etag")  # columns since WITHOUT_SHARDS
EXTENSIONS = (".parquet", ".pq")  # of files that are Parquet


@dataclass(frozen=True)
class Broken:
    """A file that is not in the manifest, and why."""

    path: str
    reason: str


class OtherVersionError(ValueError):
    """A manifest is of a version that this release does not read."""


def is_manifest(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a manifest, of any version."""
    try:
        return b"dali_vidaug" in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def check_file_name(path: str | os.PathLike[str], caller: str) -> None:
    """Refuse a name that says that the file is something else than Parquet, which a manifest is.

    Raises:
        ValueError: it does not end in one of ``EXTENSIONS``.
    """
    if Path(path).suffix.lower() not in EXTENSIONS:
        raise ValueError(
            f"{caller}: a manifest is a Parquet file, its name must end in .parquet or .pq, such as "
            f"{Path(path).with_suffix('.parquet')}, got {path}"
        )


def check_output(output: str | os.PathLike[str] | None, caller: str) -> None:
    """See to it that nothing that is not a manifest is overwritten, and no time is spent on what cannot be written.

    Raises:
        ValueError: there is a file of that name that is none, no such folder, or the name is not that of a manifest.
    """
    if output is None:
        return
    output = Path(output)
    if output.exists() and not is_manifest(output):
        raise ValueError(f"{caller}: the output {output} is there already, and is not a manifest; choose another name")
    check_file_name(output, f"{caller}: output")
    if not output.resolve().parent.is_dir():
        raise ValueError(f"{caller}: there is no folder {output.resolve().parent} for the output")


def write_file(path: str | os.PathLike[str], table: pa.Table, header: dict[str, Any]) -> None:
    """Write a manifest's file, whole or not at all, and of a large one the copy that is mapped."""
    header = {"version": MANIFEST_VERSION, **header}
    table = table.replace_schema_metadata({"dali_vidaug": json.dumps(header)})
    with written_whole(path) as file:
        pq.write_table(table, file, row_group_size=65536)  # reading takes memory for one group at a time
    with open(path, "rb") as file:  # noqa: PTH123
        if share(file, pq.ParquetFile(file)) is None:
            Path(copy_path(path)).unlink(missing_ok=True)


def read_file(
    path: str | os.PathLike[str], key: str | None = None, parts: bool = False
) -> tuple[pa.Table, dict[str, Any], Shared | None]:
    """Read a manifest's file: the table, what ``write_file`` was given as header, and the mapped copy of a large one.

    Args:
        path: the file.
        key: from ``key_of``: what the file must be, if given.
        parts: the file may be a part of a scan too.

    Raises:
        FileNotFoundError: there is no such file.
        OtherVersionError: another release wrote it.
        ValueError: the file is not a manifest, or not that of ``key``, or was written to meanwhile.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            stamp = stamp_of(file)  # first: what is read later may be another file's
            if key is not None and key_of(file) != key:
                raise ChangedError(f"manifest: {path} is no longer the file that it was when it was pickled")
            # not pq.read_table, which loads another 45 MB of libraries; one thread: several hold more memory at once
            parquet = pq.ParquetFile(file)
            header = json.loads((parquet.schema_arrow.metadata or {})[b"dali_vidaug"])
            if header["version"] not in (MANIFEST_VERSION, WITHOUT_SHARDS):
                raise OtherVersionError(
                    f"{path}: manifest version {header['version']}, this release reads {MANIFEST_VERSION}; scan again"
                )
            if "part" in header and not parts:
                index, count = header["part"]
                raise ValueError(
                    f"{path} is part {index} of a scan in {count} parts: dali-vidaug merge, or dv.merge, makes a "
                    "manifest of all of them"
                )
            shared = None if "part" in header else share(file, parquet)
            table = parquet.read(use_threads=False) if shared is None else shared.table
            check_unchanged(file, stamp)
            if header["version"] == WITHOUT_SHARDS:
                names = [f"list_{name}" if name in NEW_NAMES else name for name in table.column_names]
                table = table.rename_columns(names)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"manifest: no file {path}") from error
    except (pa.ArrowException, OSError, KeyError) as error:
        why = "another Parquet file" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is not a manifest ({why}); dv.scan makes one of a folder or a list") from error
    return table, header, shared
