"""The list of videos, measured once: where each is, how long, how large, its key frames, its label."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dali_vidaug.data.boxes import BoxColumn
from dali_vidaug.data.column import first_of_sizes, group, rows_of, shown_sizes
from dali_vidaug.data.conform import check_labels, conform, own_columns, rows_without_frames
from dali_vidaug.data.entry import plural
from dali_vidaug.data.index_table import IndexTable, fit, join_indices
from dali_vidaug.data.join import Part, join
from dali_vidaug.data.label_column import LabelColumn
from dali_vidaug.data.names import complete, restore_name
from dali_vidaug.data.sampled import video_columns, video_of, videos_of
from dali_vidaug.data.schema import BOXES, Broken
from dali_vidaug.data.shared import Shared
from dali_vidaug.data.split import chosen_rows, lost_classes, split_rows, take_rows
from dali_vidaug.data.stored import Contents, from_pickle, read_contents, to_pickle, write_contents
from dali_vidaug.device.nvdec import Files, Format
from dali_vidaug.errors import printable
from dali_vidaug.media.video import Video
from dali_vidaug.sampling import Videos

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

log = logging.getLogger("dali_vidaug")


class Manifest:
    """Videos and what is known about them; rows are samples.

    Args:
        packets: the packet indices that the column ``packet_index`` counts; without them that column is all null.

    Attributes:
        table: a pyarrow table with the columns of ``SCHEMA``, and after them your own, and ``BOXES`` if there are any.
        classes: names of the classes; ``label`` is an index into them.
        box_classes: names of the classes of boxes.
        boxes: the boxes of each row, for ``data.boxes.boxes_at``; None without any.
        root: folder, or URL, that the paths are relative to.
        broken: files that were found but cannot be used.
        remarks: what the scan left out, assumed, or found suspect, sentences.
        multi_label: whether samples may have several labels; then ``targets`` are multi-hot.

    Raises:
        ValueError: a column is missing, or a row contradicts itself.
    """

    def __init__(
        self, table: pa.Table, classes: Iterable[str] = (), root: str | os.PathLike[str] = ".",
        broken: Iterable[Broken] = (), remarks: Iterable[str] = (), packets: IndexTable | None = None,
        box_classes: Iterable[str] = (),
    ):  # fmt: skip
        self.table, self.packets = conform(fit(table, packets)), packets
        self.classes: tuple[str, ...] = tuple(classes)
        self.box_classes: tuple[str, ...] = tuple(box_classes)
        self.root = str(root)
        self.broken = tuple(broken)
        self.remarks = tuple(remarks)
        names = ("first_frame", "last_frame", "fps", "orientation", "height", "width")
        self._first, self._last, self._fps, *self._stored = (self.table[name].to_numpy() for name in names)
        self._labels = LabelColumn(self.table, len(self.classes))
        self.multi_label = self._labels.several
        self._shared: Shared | None = None
        self._of_video = video_columns(self.table)
        self.boxes = BoxColumn(self.table[BOXES.name]) if BOXES.name in self.table.column_names else None
        check_labels(self.table, self.classes, self.box_classes)
        bad = rows_without_frames(self._first, self._last)
        if len(bad):
            raise ValueError(f"manifest: row {bad[0]} ({self.path(int(bad[0]))}) has no frames")

    def __len__(self) -> int:
        return self.table.num_rows

    def __reduce__(self) -> tuple[Any, ...]:
        """A mapped manifest is pickled as the name of its file, any other as its rows."""
        return _restored, (to_pickle(self._contents()),)

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
        return self._labels.label

    @property
    def has_boxes(self) -> bool:
        """Whether rows have boxes."""
        return self.boxes is not None

    def targets(self, samples: ArrayLike) -> np.ndarray:
        """(B, K) float32: 1 for each class of a sample, else 0; zeros for a sample without a label."""
        return self._labels.of(np.asarray(samples, np.int64))

    def class_counts(self) -> np.ndarray:
        """(K,) int64: how many samples each class has."""
        return self._labels.counts()

    def path(self, sample: int) -> str:
        """The complete path of a sample's file."""
        return complete(self.root, restore_name(self.table["path"][sample].as_py()))

    def video(self, sample: int) -> Video:
        """What the decoder needs to know of a sample."""
        if self._shared is not None:
            self._shared.count(1)
        return video_of(self, self._of_video, sample)

    def videos(self, samples: ArrayLike) -> Videos:
        """What a sampler may know of some samples."""
        if self._shared is not None:
            self._shared.count(np.size(samples))
        rows = np.asarray(samples, np.int64)
        return videos_of(self, rows, self._first[rows], self._last[rows], self._fps[rows])

    def frame_sizes(self, samples: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Heights and widths as shown, orientation applied: two (B,) int32 arrays."""
        return shown_sizes(*(column[samples] for column in self._stored))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of your own columns: what the list had besides path and labels."""
        return own_columns(self.table)

    def rows(self, name: str, samples: ArrayLike | None = None) -> np.ndarray:
        """A column, your own or a measured one, for some samples, or for all.

        Returns:
            (B,): numbers and truth values as they are, times as datetime64 and timedelta64; else, and where a value is
            missing, objects: str, list, None.

        Raises:
            ValueError: there is no such column, or ``samples`` are not rows of the manifest.
        """
        return rows_of(self.table, name, samples)

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
        Where rows name one file in several ways, all go where one of its paths does; links are followed.

        Args:
            fraction: share of the rows in the first part, (0, 1).
            seed: another one splits otherwise.
            by: "class": each class is divided by ``fraction``. A column, such as "subject": rows of one value are in
                one part. Several names: both.

        Raises:
            ValueError: an argument is not one of these, a value of a column is missing, or a part would be empty.
        """
        mask = split_rows(self.table, self.root, fraction, seed, by)
        parts = []
        for name, part in (("first", mask), ("second", ~mask)):
            said = f"{part.sum()} of {len(self)} rows, the {name} part of split({fraction}, seed={seed}, by={by!r})"
            parts.append(self._part(np.flatnonzero(part), f"{said}; other remarks are of all rows"))
        for text in lost_classes(self.classes, *(part.class_counts() for part in parts)):
            log.warning("split: %s", text)
        return parts[0], parts[1]

    def _part(self, index, remark):
        table = take_rows(self.table, index)
        remarks = (*self.remarks, remark)
        return Manifest(table, self.classes, self.root, self.broken, remarks, self.packets, self.box_classes)

    def __add__(self, other: Manifest) -> Manifest:
        """The rows of both. Paths are relative to the root, or to the deepest folder that holds both roots.

        A column that one of them lacks has missing values there.

        Raises:
            ValueError: classes or columns contradict each other, or both have the same frames of a file.
        """
        if not isinstance(other, Manifest):
            return NotImplemented
        moved, packets = join_indices(other.table, self.packets, other.packets)
        parts = (self, self.table), (other, moved)
        joined = join(*(Part(table, m.classes, m.root, m.multi_label, m.box_classes) for m, table in parts))
        broken, remarks = dict.fromkeys((*self.broken, *other.broken)), dict.fromkeys((*self.remarks, *other.remarks))
        return Manifest(joined.table, joined.classes, joined.root, broken, remarks, packets, joined.box_classes)

    def any_oriented(self) -> bool:
        """Whether any video is shown otherwise than as it is stored: turned, or mirrored."""
        return bool((self._stored[0] != 1).any())

    def formats(self) -> dict[Format, Files]:
        """For each format that occurs, how many files have it, and the path of one."""
        names = self.table["path"]
        return {
            Format(*values): Files(number, printable(restore_name(names[row].as_py())))
            for values, (number, row) in group(self.table, Format._fields).items()
        }

    def unique_sizes(self) -> np.ndarray:
        """A sample for each frame size that occurs: (N,) int64."""
        return first_of_sizes(*self._stored)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as one Parquet file, with its packet indices in a file beside it, whole or not at all.

        Raises:
            ValueError: the name does not end in .parquet or .pq.
        """
        write_contents(path, self._contents())

    @classmethod
    def read(cls, path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Manifest:
        """Read a manifest that ``write`` or ``dali-vidaug scan`` wrote.

        Args:
            path: the Parquet file.
            root: folder or URL that holds the videos now, if they were moved; complete paths and URLs stay, with a
                warning.

        Raises:
            FileNotFoundError: there is no such file or folder.
            ValueError: the file is not a manifest; or names would be of other files in the root, because names are
                quoted in URLs of web servers alone; or complete paths cannot be below a URL.
        """
        return cls._of(read_contents(path, root))

    @classmethod
    def _of(cls, contents):
        *parts, shared = contents
        manifest = cls(*parts)
        manifest._shared = shared
        if shared is not None:
            shared.release()
        pa.default_memory_pool().release_unused()
        return manifest

    def _contents(self):
        return Contents(
            self.table, self.classes, self.root, self.broken, self.remarks, self.packets, self.box_classes, self._shared
        )


def _restored(pickled):
    """The manifest that was pickled."""
    return Manifest._of(from_pickle(pickled))
