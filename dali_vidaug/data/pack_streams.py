"""Whether a scan of packed videos takes the streams that their rows are of."""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from dali_vidaug.data.engine import run
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.errors import printable
from dali_vidaug.media.container import open_video
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.measure import SEVERAL
from dali_vidaug.media.object_options import Storage
from dali_vidaug.media.storage import Place, open_bytes

_CURE = "dv.transcode writes each stream to a file of its own, which can be packed"


class _Opened(NamedTuple):
    """A file with several video streams: its first row, where it is, and the stream that the row is of."""

    row: int
    place: Place
    stream: int
    storage: Storage


def check_streams(manifest: Manifest, firsts: np.ndarray, storage: Storage) -> None:
    """Refuse rows of another stream than a scan of the shards takes, which finds other frames under their labels.

    Only files that have several video streams, as their scan has noted, are opened.

    Args:
        manifest: of videos.
        firsts: (N,) int64, for each row the first row of its file.
        storage: how objects are read.

    Raises:
        ValueError: a row is of another stream.
    """
    streams = manifest.table["stream"].to_numpy()
    two = np.flatnonzero(streams != streams[firsts])
    if len(two):
        row = int(two[0])
        raise ValueError(
            f"pack: {printable(manifest.path(row))} has rows of its streams {streams[firsts[row]]} and {streams[row]}, "
            f"but a scan of the shards takes one of a file; {_CURE}"
        )
    noted = pc.fill_null(pc.match_substring(manifest.table["notes"], SEVERAL), False).to_numpy().astype(bool)
    rows = np.flatnonzero(noted & (firsts == np.arange(len(firsts)))).tolist()
    files = (_Opened(row, manifest.video(row).place, int(streams[row]), storage) for row in rows)
    wrong = []
    with closing(run(_scanned_stream, files, total=len(rows), what="pack", progress=False)) as found:
        wrong += [(file.row, file.stream, stream) for file, stream in found if stream != file.stream]
    if wrong:
        row, own, stream = min(wrong)
        raise ValueError(
            f"pack: {printable(manifest.path(row))} has rows of its stream {own}, but a scan of the shards takes "
            f"stream {stream}; {_CURE}"
        )


def _scanned_stream(file: _Opened) -> int:
    """The stream that a scan takes by itself."""
    try:
        with open_bytes(file.place, file.storage) as source, open_video(source.as_file()) as (_, stream):
            return stream.index
    except READ_ERRORS:  # packing says what is wrong
        return file.stream
