"""The fingerprint of a manifest: what must be the same for a saved state to mean the same clips."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dali_vidaug.media.measure import SEVERAL

if TYPE_CHECKING:
    from dali_vidaug.data.manifest import Manifest


def fingerprint(manifest: Manifest) -> dict[str, str]:
    """What must be the same for a state to mean the same clips: digests of paths, labels, classes, ranges, and
    streams of files that have several.

    Paths are those in the manifest, relative to its root, so a data set may move. "rows" is the same for any order of
    the rows: it tells a manifest in another order from one of other videos. Takes about 0.3 s for a million rows.
    """
    table = manifest.table
    labels = [name for name in ("label", "labels") if name in table.column_names]
    parts = {"paths": ["path"], "labels": labels, "ranges": ["first_frame", "last_frame", "num_frames"]}
    digests = {name: _digest(table, columns) for name, columns in parts.items()}
    digests["classes"] = hashlib.blake2b(repr(tuple(manifest.classes)).encode(), digest_size=16).hexdigest()
    digests["streams"] = _digest(pa.table({"stream": _chosen_streams(table)}), ["stream"])
    digests["rows"] = _unordered_digest(table, [name for columns in parts.values() for name in columns])
    return digests


def difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """In what two fingerprints differ, in words; None if in nothing. Those of earlier states say nothing of streams."""
    kinds = [kind for kind in ("paths", "labels", "classes", "ranges") if mine[kind] != theirs.get(kind)]
    streams = {one["streams"] for one in (mine, theirs) if "streams" in one}
    if len(streams) == 2:
        kinds.append("streams")
    if not kinds:
        return None
    if mine["rows"] == theirs.get("rows") and "paths" in kinds and "classes" not in kinds:
        return "the same rows in another order"
    return f"other {', '.join(kinds)}"


def _chosen_streams(table):
    """Streams, -1 of files with one video stream: where it stands there changes no clip."""
    return pc.if_else(pc.fill_null(pc.match_substring(table["notes"], SEVERAL), False), table["stream"], -1)


def _digest(table, columns):
    digest = hashlib.blake2b(digest_size=16)
    for name in columns:
        for arrays in _flat(table[name]):
            for array in arrays:
                digest.update(array)
    return digest.hexdigest()


def _unordered_digest(table, columns):
    """Of how often each byte and each number occurs, in all rows together."""
    digest = hashlib.blake2b(digest_size=16)
    for name in columns:
        for arrays in _flat(table[name]):
            array = next(arrays)
            if array.dtype == np.uint8:
                counts = np.zeros(256, np.int64)
                for one in (array, *arrays):
                    for first in range(0, len(one), 2**22):
                        counts += np.bincount(one[first : first + 2**22], minlength=256)
                digest.update(counts.tobytes())
            else:
                digest.update(np.sort(np.concatenate([array, *arrays])).data)
    return digest.hexdigest()


def _flat(column):
    """A column as arrays that do not depend on how Arrow holds it: numbers; lengths and bytes; lengths and elements.

    Each array comes in pieces, at least one: an iterator of arrays (N,) of one dtype.
    """
    pieces = column.chunks or [pa.array([], column.type)]
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _flat(pa.chunked_array([piece.dictionary_decode() for piece in pieces]))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        elements = pa.chunked_array([piece.flatten() for piece in pieces], kind.value_type)
        return [map(_lengths, pieces), *_flat(elements)]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [map(_lengths, pieces), map(_bytes, pieces)]
    return [map(_valid, pieces), (piece.fill_null(0).to_numpy(zero_copy_only=False) for piece in pieces)]


def _valid(array):
    return np.asarray(array.is_valid())


def _lengths(array):
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    else:
        lengths = np.diff(_text(array)[0])
    return np.where(_valid(array), lengths, -1).astype(np.int64)


def _text(array):
    """Texts without those that are missing: (N + 1,) int64 where each begins and ends in the bytes, and the bytes."""
    array = array.cast(pa.large_string()).fill_null("")
    if not len(array):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    data = array.buffers()[2]
    text = np.frombuffer(b"" if data is None else data, np.uint8)
    return offsets, text[offsets[0] : offsets[-1]]


def _bytes(array):
    return _text(array)[1]
