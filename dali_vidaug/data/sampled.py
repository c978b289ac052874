"""What a sampler may know of rows of a manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dali_vidaug.media.video import frame_times
from dali_vidaug.sampling import Videos

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dali_vidaug.data.manifest import Manifest


def videos_of(manifest: Manifest, samples: ArrayLike) -> Videos:
    """What samplers are told of some rows. Times and key frames are read when they are asked for, once for each video.

    Args:
        manifest: has the rows.
        samples: (B,) int, may have a row more than once.
    """
    table, samples = manifest.table, np.asarray(samples, np.int64)

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

    first, last = (table[name].take(pa.array(samples)).to_numpy() for name in ("first_frame", "last_frame"))
    fps = table["fps"].take(pa.array(samples)).to_numpy()
    return Videos(
        first.astype(np.int64), last.astype(np.int64), fps, once(times), once(keyframes), column,
        lambda i: manifest.path(int(samples[i])),
    )  # fmt: skip


def without_times(manifest: Manifest, samples: ArrayLike) -> list[int]:
    """Those of some rows whose time stamps cannot be used, so that their frames have the times of the average rate."""
    table, rows = manifest.table, pa.array(np.unique(np.asarray(samples, np.int64)))
    known = [table[name].take(rows).is_valid().to_numpy() for name in ("pts", "pts_step")]
    return rows.to_numpy()[~(known[0] | known[1])].tolist()
