"""The list of videos, measured once: where each is, how long, how large, its key frames, its label."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dali_vidaug.data.entry import plural
from dali_vidaug.data.index_table import IndexTable, fit, index_path, join_indices, read_table, write_used
from dali_vidaug.data.join import Part, join
from dali_vidaug.data.names import restore_name
from dali_vidaug.data.sampled import videos_of
from dali_vidaug.data.schema import SCHEMA, Broken, check_file_name, read_file, write_file
from dali_vidaug.data.split import chosen_rows, lost_classes, split_rows, take_rows
from dali_vidaug.device.nvdec import Files, Format
from dali_vidaug.errors import printable
from dali_vidaug.media.video import Video
from dali_vidaug.rng import whole_numbers
from dali_vidaug.sampling import Videos

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

log = logging.getLogger("dali_vidaug")


class Manifest:
    """Videos and what is known about them; rows are samples.

    Args:
        packets: the packet indices that the column ``packet_index`` counts; without them that column is all null.

    Attributes:
        table: a pyarrow table with the columns of ``SCHEMA``, and after them your own.
        classes: names of the classes; ``label`` is an index into them.
        root: folder that the paths are relative to.
        broken: files that were found but cannot be used.
        remarks: what the scan left out, assumed, or found suspect, sentences.
        multi_label: whether samples may have several labels; then ``targets`` are multi-hot.

    Raises:
        ValueError: a column is missing, or a row contradicts itself.
    """

    def __init__(
        self, table: pa.Table, classes: Iterable[str] = (), root: str | os.PathLike[str] = ".",
        broken: Iterable[Broken] = (), remarks: Iterable[str] = (), packets: IndexTable | None = None,
    ):  # fmt: skip
        table, self.packets = fit(table, packets), packets
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if missing:
            raise ValueError(f"not a manifest: the columns {', '.join(missing)} are missing")
        own = [name for name in table.column_names if name not in SCHEMA.names]
        self.table = table.select(SCHEMA.names).cast(SCHEMA)
        for name in own:
            self.table = self.table.append_column(table.schema.field(name), table[name])
        self.classes: tuple[str, ...] = tuple(classes)
        self.root = str(root)
        self.broken = tuple(broken)
        self.remarks = tuple(remarks)
        self._labels = self._numbers("label")
        self.multi_label = self.table["labels"].null_count < len(self)
        self._first, self._last = self._numbers("first_frame"), self._numbers("last_frame")
        sideways = self._numbers("orientation") >= 5
        width, height = self._numbers("width"), self._numbers("height")
        self._height, self._width = np.where(sideways, width, height), np.where(sideways, height, width)
        used = np.concatenate([self._labels, *(part.flatten().to_numpy() for part in self.table["labels"].chunks)])
        if len(used) and not (used.min() >= -1 and used.max() < max(1, len(self.classes))):
            raise ValueError(f"manifest: labels go from {used.min()} to {used.max()}, "
                             f"not within {plural(len(self.classes), 'class', 'classes')}")  # fmt: skip
        bad = np.flatnonzero(~((self._first >= 0) & (self._last > self._first)))
        if len(bad):
            raise ValueError(f"manifest: row {bad[0]} ({self.path(int(bad[0]))}) has no frames")

    def _numbers(self, name):
        return self.table[name].to_numpy()

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        sizes = plural(len(self), "video"), plural(len(self.classes), "class", "classes")
        return f"<Manifest: {', '.join(sizes)}, {len(self.broken)} broken, {self.root}>"

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32: the index of each sample's class, -1 for none.

        Raises:
            ValueError: samples may have several labels.
        """
        if self.multi_label:
            raise ValueError("manifest: samples have several labels; targets(samples) has them, (B, K) multi-hot")
        return self._labels

    def targets(self, samples: ArrayLike) -> np.ndarray:
        """(B, K) float32: 1 for each class of a sample, else 0; zeros for a sample without a label."""
        samples = np.asarray(samples, np.int64)
        targets = np.zeros((len(samples), len(self.classes)), np.float32)
        if self.multi_label:
            for row, labels in zip(targets, self.table["labels"].take(pa.array(samples)).to_pylist(), strict=True):
                row[labels or []] = 1.0
            return targets
        labels = self._labels[samples]
        known = np.flatnonzero(labels >= 0)
        targets[known, labels[known]] = 1.0
        return targets

    def class_counts(self) -> np.ndarray:
        """(K,) int64: how many samples each class has."""
        several = [part.flatten().to_numpy() for part in self.table["labels"].chunks]
        labels = np.concatenate([self._labels[self._labels >= 0], *several])
        return np.bincount(labels, minlength=len(self.classes))

    def path(self, sample: int) -> str:
        """The complete path of a sample's file."""
        name = restore_name(self.table["path"][sample].as_py())
        return os.path.join(self.root, name)  # noqa: PTH118 (called for every clip)

    def video(self, sample: int) -> Video:
        """What the decoder needs to know of a sample."""
        row = {name: self.table[name][sample].as_py() for name in Video._fields if name != "path"}
        if self.packets is not None and row["packet_index"] is not None:
            row["packet_index"] = self.packets[row["packet_index"]]
        row["keyframes"] = np.array(row["keyframes"], np.int32)
        row["pts"] = None if row["pts"] is None else np.array(row["pts"], np.int64)
        return Video(path=self.path(sample), **row)

    def videos(self, samples: ArrayLike) -> Videos:
        """What a sampler may know of some samples."""
        return videos_of(self, samples)

    def frame_sizes(self, samples: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Heights and widths as shown, orientation applied: two (B,) int32 arrays."""
        return self._height[samples], self._width[samples]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of your own columns: what the list had besides path and labels."""
        return tuple(self.table.column_names[len(SCHEMA) :])

    def rows(self, name: str, samples: ArrayLike | None = None) -> np.ndarray:
        """A column, your own or a measured one, for some samples, or for all.

        Returns:
            (B,): numbers and truth values as they are, times as datetime64 and timedelta64; else, and where a value is
            missing, objects: str, list, None.

        Raises:
            ValueError: there is no such column, or ``samples`` are not rows of the manifest.
        """
        if name not in self.table.column_names:
            raise ValueError(f"manifest: no column {name!r}; there are {', '.join(self.table.column_names)}")
        samples = np.arange(len(self)) if samples is None else whole_numbers("samples", samples)
        if not ((samples >= 0) & (samples < len(self))).all():
            raise ValueError(f"manifest: samples must be in [0, {len(self)}), got {samples.min()} to {samples.max()}")
        column = self.table[name].take(pa.array(samples))
        kind = column.type
        if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
            return column.to_numpy()
        if not column.null_count and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            return column.to_numpy()
        if not column.null_count and pa.types.is_boolean(kind):
            return np.array(column.to_pylist(), bool)
        values = np.empty(len(column), object)
        values[:] = [restore_name(v) for v in column.to_pylist()] if name == "path" else column.to_pylist()
        return values

    def select(self, rows: ArrayLike | slice) -> Manifest:
        """The manifest of some rows; classes, columns, remarks and broken files stay.

        Args:
            rows: (R,) integers, in any order, a row as often as wanted; (N,) bool; or a slice.

        Raises:
            ValueError: they are something else, outside the manifest, or none.
        """
        index = chosen_rows(rows, len(self))
        return self._part(index, f"{len(index)} of {plural(len(self), 'row')} selected; other remarks are of all rows")

    def split(
        self, fraction: float, *, seed: int = 0, by: str | Sequence[str] | None = None
    ) -> tuple[Manifest, Manifest]:
        """Two parts that share no file; both have all classes. Rows keep their order.

        Where a file goes is drawn from its path: not from its place in the manifest, the root, or the other files.

        Args:
            fraction: share of the rows in the first part, (0, 1).
            seed: another one splits otherwise.
            by: "class": each class is divided by ``fraction``. A column, such as "subject": rows of one value are in
                one part. Several names: both.

        Raises:
            ValueError: an argument is not one of these, a value of a column is missing, or a part would be empty.
        """
        mask = split_rows(self.table, fraction, seed, by)
        parts = []
        for name, part in (("first", mask), ("second", ~mask)):
            said = f"{part.sum()} of {len(self)} rows, the {name} part of split({fraction}, seed={seed}, by={by!r})"
            parts.append(self._part(np.flatnonzero(part), f"{said}; other remarks are of all rows"))
        for text in lost_classes(self.classes, *(part.class_counts() for part in parts)):
            log.warning("split: %s", text)
        return parts[0], parts[1]

    def _part(self, index, remark):
        table = take_rows(self.table, index)
        return Manifest(table, self.classes, self.root, self.broken, (*self.remarks, remark), self.packets)

    def __add__(self, other: Manifest) -> Manifest:
        """The rows of both. Paths stay relative to the root, or to the deepest folder that holds both roots.

        A column that one of them lacks has missing values there.

        Raises:
            ValueError: classes or columns contradict each other, or both have the same frames of a file.
        """
        if not isinstance(other, Manifest):
            return NotImplemented
        moved, packets = join_indices(other.table, self.packets, other.packets)
        parts = (self, self.table), (other, moved)
        table, classes, root, _ = join(*(Part(table, m.classes, m.root, m.multi_label) for m, table in parts))
        broken = dict.fromkeys((*self.broken, *other.broken))
        return Manifest(table, classes, root, broken, dict.fromkeys((*self.remarks, *other.remarks)), packets)

    def any_oriented(self) -> bool:
        """Whether any video is shown otherwise than as it is stored: turned, or mirrored."""
        return bool((self._numbers("orientation") != 1).any())

    def formats(self) -> dict[Format, Files]:
        """For each format that occurs, how many files have it, and the path of one."""
        names = list(Format._fields)
        groups = self.table.select([*names, "path"]).group_by(names, use_threads=False)
        rows = groups.aggregate([("path", "count"), ("path", "first")]).to_pylist()
        return {
            Format(*(row[name] for name in names)): Files(row["path_count"], printable(restore_name(row["path_first"])))
            for row in rows
        }

    def unique_sizes(self) -> np.ndarray:
        """A sample for each frame size that occurs: (N,) int64."""
        keys = self._height.astype(np.int64) << 32 | self._width
        return np.unique(keys, return_index=True)[1]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as one Parquet file, with its packet indices in a file beside it, whole or not at all.

        Raises:
            ValueError: the name does not end in .parquet or .pq.
        """
        check_file_name(path, "Manifest.write")
        table, name = write_used(self.table, self.packets, index_path(path))
        header = {
            "classes": self.classes,
            "root": self.root,
            "broken": [[b.path, b.reason] for b in self.broken],
            "remarks": self.remarks,
            "packet_index": name,
        }
        write_file(path, table, header)

    @classmethod
    def read(cls, path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Manifest:
        """Read a manifest that ``write`` or ``dali-vidaug scan`` wrote.

        Args:
            path: the Parquet file.
            root: folder that holds the videos now, if they were moved.

        Raises:
            FileNotFoundError: there is no such file or folder.
            ValueError: the file is not a manifest.
        """
        if root is not None and not Path(root).is_dir():
            raise FileNotFoundError(f"manifest: root must be a folder, there is no folder {root}")
        table, header = read_file(path)
        broken = [Broken(*b) for b in header["broken"]]
        root = header["root"] if root is None else root
        name = header.get("packet_index")
        packets = None if name is None else read_table(index_path(path), name)
        manifest = cls(table, header["classes"], root, broken, header["remarks"], packets)
        pa.default_memory_pool().release_unused()
        return manifest
