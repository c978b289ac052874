"""Whether all rows of a file are of one scan of it: what is measured of a file is read from one of its rows."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from dali_vidaug.data.column import take
from dali_vidaug.data.entry import name_some
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.errors import printable
from dali_vidaug.media.unchanged import same_time

_FACTS = ("bytes", "mtime_ns", "content_digest", "etag", "shard_offset", "num_frames")


def check_one_scan(manifest: Manifest, firsts: np.ndarray, caller: str) -> None:
    """Refuse rows of a file that measure it differently: it was replaced between two scans, or only one was deep.

    Args:
        manifest: facts that a row lacks are not compared.
        firsts: (N,) int64, for each row the first row of its file.
        caller: which function asks.

    Raises:
        ValueError: rows of a file differ.
    """
    rows = np.flatnonzero(firsts != np.arange(len(firsts)))
    differ = {name: found for name in (*_FACTS, "damaged") if len(found := _differing(manifest, name, rows, firsts))}
    if not differ:
        return
    row = min(int(found[0]) for found in differ.values())
    told = [
        " and ".join(f"{name} {manifest.table[name][one].as_py()}" for one in (int(firsts[row]), row))
        for name, found in differ.items()
        if row in found
    ]
    raise ValueError(
        f"{caller}: {printable(manifest.path(row))} has rows of two scans that say {name_some(told, len(told))}; scan "
        "it again, all of its rows the same way"
    )


def _differing(manifest: Manifest, name: str, rows: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Those of some rows, rising, which say something else than the first row of their file."""
    own, first = (take(manifest.table[name], some) for some in (rows, firsts[rows]))
    if name == "damaged":  # a list; null is none
        pairs = zip(own.to_pylist(), first.to_pylist(), strict=True)
        return rows[np.array([(one or []) != (other or []) for one, other in pairs], bool)]
    differs = pc.fill_null(pc.not_equal(own, first), False).to_numpy().astype(bool)
    if name == "mtime_ns":
        for at in np.flatnonzero(differs):
            differs[at] = not same_time(own[at].as_py(), first[at].as_py())
    return rows[differs]
