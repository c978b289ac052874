"""What decoders and samplers are told of rows of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dali_vidaug.data.column import take
from dali_vidaug.data.names import complete, restore_name
from dali_vidaug.media.video import Video, frame_times
from dali_vidaug.sampling import Videos

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.data.manifest import Manifest


def video_columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns of a manifest's table that a ``Video`` has, without those that say nothing of any row."""
    columns = {name: table[name] for name in Video._fields if name not in ("path", "source")}
    optional = Video._field_defaults
    return {n: column for n, column in columns.items() if n not in optional or column.null_count < len(column)}


def video_of(manifest: Manifest, columns: Mapping[str, pa.ChunkedArray], sample: int) -> Video:
    """What the decoder needs to know of a row.

    Args:
        manifest: has the row.
        columns: those of ``video_columns``; getting them from the table takes longer than the row does.
        sample: the row.
    """
    row = {name: column[sample] for name, column in columns.items()}
    lists = {name: row.pop(name).values for name in ("keyframes", "pts")}
    row = {name: value.as_py() for name, value in row.items()}
    if manifest.packets is not None and row.get("packet_index") is not None:
        row["packet_index"] = manifest.packets[row["packet_index"]]
    if row.get("shard") is not None:
        row["shard"] = complete(manifest.root, restore_name(row["shard"]))
    keyframes, pts = lists["keyframes"], lists["pts"]
    row["keyframes"] = np.array([] if keyframes is None else keyframes, np.int32)
    row["pts"] = None if pts is None else np.array(pts, np.int64)
    return Video(path=manifest.path(sample), **row)


def videos_of(manifest: Manifest, samples: np.ndarray, first: np.ndarray, last: np.ndarray, fps: np.ndarray) -> Videos:
    """What samplers are told of some rows. Times and key frames are read when they are asked for, once for each video.

    Args:
        manifest: has the rows.
        samples: (B,) int64, may have a row more than once.
        first, last, fps: (B,), of these rows.
    """
    table = manifest.table

    def once(read: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray]:
        found: dict[int, np.ndarray] = {}

        def of(i: int) -> np.ndarray:
            sample = int(samples[i])
            if sample not in found:
                found[sample] = read(sample)
            return found[sample]

        return of

    def times(sample: int) -> np.ndarray:
        row = {name: table[name][sample].as_py() for name in ("num_frames", "fps", "time_base", "pts_step")}
        pts = table["pts"][sample]
        return frame_times({**row, "pts": pts.values.to_numpy() if pts.is_valid else None})

    def keyframes(sample: int) -> np.ndarray:
        return table["keyframes"][sample].values.to_numpy()

    def column(name: str) -> np.ndarray:
        return manifest.rows(name, samples)

    return Videos(
        first.astype(np.int64), last.astype(np.int64), fps, once(times), once(keyframes), column,
        lambda i: manifest.path(int(samples[i])),
    )  # fmt: skip


def without_times(manifest: Manifest, samples: ArrayLike) -> list[int]:
    """Those of some rows whose time stamps cannot be used, so that their frames have the times of the average rate."""
    rows = np.unique(np.asarray(samples, np.int64))
    known = [take(manifest.table[name], rows).is_valid().to_numpy() for name in ("pts", "pts_step")]
    return rows[~(known[0] | known[1])].tolist()
