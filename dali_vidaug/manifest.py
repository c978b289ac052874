"""The list of videos, measured once: where each is, how long, how large, where its key frames stand, its label."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST_VERSION = 1

SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # relative to the manifest's root
        ("label", pa.int32()),  # index into the manifest's classes, -1: none
        ("first_frame", pa.int32()),  # clips are drawn from frames [first_frame, last_frame)
        ("last_frame", pa.int32()),
        ("num_frames", pa.int32()),  # frames that a full decode gives
        ("width", pa.int32()),  # as stored, before rotation
        ("height", pa.int32()),
        ("rotation", pa.int32()),  # degrees clockwise that the stored picture is turned by to show it: 0, 90, 180, 270
        ("fps", pa.float64()),  # average over the video
        ("duration_seconds", pa.float64()),
        ("codec", pa.dictionary(pa.int32(), pa.string())),
        ("pixel_format", pa.dictionary(pa.int32(), pa.string())),
        ("keyframes", pa.list_(pa.int32())),  # frames where decoding can begin; 0 stands for the start of the stream
        # Frame i is shown at pts_first + i * pts_step (to a quarter of a step) or, when that is null, at pts[i],
        # in ticks of time_base seconds; when both are null, time stamps say nothing and frames are counted.
        ("time_base", pa.float64()),
        ("pts_first", pa.int64()),
        ("pts_step", pa.float64()),
        ("pts", pa.list_(pa.int64())),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)


class Video(NamedTuple):
    """One row of a manifest, as the decoder needs it. Fields as in ``SCHEMA``; ``path`` is complete."""

    path: str
    num_frames: int
    width: int
    height: int
    rotation: int
    codec: str
    pixel_format: str
    keyframes: np.ndarray
    pts_first: int | None
    pts_step: float | None
    pts: np.ndarray | None


@dataclass(frozen=True)
class Broken:
    """A file that is not in the manifest, and why."""

    path: str
    reason: str


class Manifest:
    """Videos and what is known about them; rows are samples.

    Attributes:
        table: a pyarrow table with the columns of ``SCHEMA``.
        classes: tuple of class names; ``label`` is an index into it.
        root: folder that the paths are relative to.
        broken: tuple of ``Broken``: files that were found but cannot be used.
    """

    def __init__(self, table, classes=(), root=".", broken=()):
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if missing:
            raise ValueError(f"not a manifest: the columns {', '.join(missing)} are missing")
        self.table = table.select(SCHEMA.names).cast(SCHEMA)
        self.classes = tuple(classes)
        self.root = str(root)
        self.broken = tuple(broken)
        self.labels = self._numbers("label")
        self._first, self._last = self._numbers("first_frame"), self._numbers("last_frame")
        turned = self._numbers("rotation") % 180 == 90
        width, height = self._numbers("width"), self._numbers("height")
        self._height, self._width = np.where(turned, width, height), np.where(turned, height, width)
        if len(self) and not (self.labels.min() >= -1 and self.labels.max() < max(1, len(self.classes))):
            raise ValueError(f"manifest: labels go from {self.labels.min()} to {self.labels.max()}, "
                             f"but there are {len(self.classes)} classes")  # fmt: skip
        bad = np.flatnonzero(~((self._first >= 0) & (self._last > self._first)))
        if len(bad):
            raise ValueError(f"manifest: row {bad[0]} ({self.path(int(bad[0]))}) has no frames")

    def _numbers(self, name):
        return self.table[name].to_numpy()

    def __len__(self):
        return self.table.num_rows

    def __repr__(self):
        return f"<Manifest: {len(self)} videos, {len(self.classes)} classes, {len(self.broken)} broken, {self.root}>"

    def path(self, sample):
        """The complete path of a sample's file."""
        return os.path.join(self.root, self.table["path"][sample].as_py())  # noqa: PTH118 (called for every clip)

    def video(self, sample):
        """What the decoder needs to know of a sample: a ``Video``."""
        row = {name: self.table[name][sample].as_py() for name in Video._fields if name != "path"}
        row["keyframes"] = np.array(row["keyframes"], np.int32)
        row["pts"] = None if row["pts"] is None else np.array(row["pts"], np.int64)
        return Video(path=self.path(sample), **row)

    def frame_ranges(self, samples):
        """The frames [first, last) that clips are drawn from: two (B,) int arrays."""
        return self._first[samples], self._last[samples]

    def frame_sizes(self, samples):
        """Heights and widths as shown, rotation applied: two (B,) int arrays."""
        return self._height[samples], self._width[samples]

    def any_rotated(self):
        """Whether any video is stored turned."""
        return bool((self._numbers("rotation") != 0).any())

    def formats(self):
        """What a decoder has to cope with.

        Returns:
            For each (codec, pixel format, width, height) that occurs: how many videos have it, and the path of one.
        """
        names = ["codec", "pixel_format", "width", "height"]
        groups = self.table.select([*names, "path"]).group_by(names, use_threads=False)
        rows = groups.aggregate([("path", "count"), ("path", "first")]).to_pylist()
        return {tuple(row[name] for name in names): (row["path_count"], row["path_first"]) for row in rows}

    def unique_sizes(self):
        """A sample for each frame size that occurs: (N,) int."""
        keys = self._height.astype(np.int64) << 32 | self._width
        return np.unique(keys, return_index=True)[1]

    def write(self, path):
        """Write the manifest as one Parquet file, whole or not at all."""
        header = {
            "version": MANIFEST_VERSION,
            "classes": self.classes,
            "root": self.root,
            "broken": [[b.path, b.reason] for b in self.broken],
        }
        table = self.table.replace_schema_metadata({"dali_vidaug": json.dumps(header)})
        partial = Path(f"{path}.{os.getpid()}")
        pq.write_table(table, partial, row_group_size=65536)  # reading takes memory for one group at a time
        partial.replace(path)

    @classmethod
    def read(cls, path, root=None):
        """Read a manifest that ``write`` or ``dali-vidaug scan`` wrote.

        Args:
            path: the Parquet file.
            root: folder that holds the videos now, when they have moved.

        Raises:
            ValueError: the file is not a manifest.
        """
        try:
            # not pq.read_table, which loads another 45 MB of libraries; one thread: several hold more memory at once
            table = pq.ParquetFile(path).read(use_threads=False)
            header = json.loads((table.schema.metadata or {})[b"dali_vidaug"])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"manifest: no file {path}") from error
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ValueError(f"{path} is not a manifest written by dali-vidaug scan ({error})") from error
        if header["version"] != MANIFEST_VERSION:
            raise ValueError(
                f"{path}: manifest version {header['version']}, this release reads {MANIFEST_VERSION}; scan again"
            )
        broken = [Broken(*b) for b in header["broken"]]
        manifest = cls(table, header["classes"], header["root"] if root is None else root, broken)
        pa.default_memory_pool().release_unused()
        return manifest

    @classmethod
    def from_csv(cls, path, root=None, **options):
        """Measure the videos of a CSV list: ``dv.scan`` for a file. See there."""
        from dali_vidaug.scan import scan  # scan builds manifests, so it imports this module

        return scan(path, root=root, **options)
