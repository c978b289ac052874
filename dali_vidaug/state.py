"""Where a loader is in its epochs, and the fingerprint of its manifest: what a saved state is compared with."""

from __future__ import annotations

import hashlib
import logging
import operator
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dali_vidaug.plan import PLAN_VERSION
from dali_vidaug.rng import MAX_EPOCH

if TYPE_CHECKING:
    from dali_vidaug.data.manifest import Manifest
    from dali_vidaug.recipe import Recipe
    from dali_vidaug.schedule import Schedule

log = logging.getLogger("dali_vidaug")


class Position:
    """Where the next loop begins, and which batch comes next: pairs of epoch and batch.

    Attributes:
        next: the batch that comes next.
        loop: counts the loops; a loop that is not the last was overtaken.
    """

    def __init__(self) -> None:
        self.loop = 0
        self._resumed: int | None = None  # the epoch of a loaded state, until a loop takes more of it than a peek
        self.move(0, 0)

    def move(self, epoch: int, index: int) -> None:
        """Let the next loop begin at a batch, even in the middle of an epoch."""
        self._start = self.next = (epoch, index)
        self._taken = 0  # batches, by the last loop
        self._finished = False  # whether the last loop came to its end
        self.loop += 1

    def resume(self, epoch: int, index: int) -> None:
        """As ``move``, to the position of a loaded state."""
        self.move(epoch, index)
        self._resumed = epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop begin an epoch; but where a loaded state is in the middle of this epoch, keep its place."""
        try:
            number = operator.index(epoch)  # also NumPy's integers
        except TypeError:
            number = -1
        if not 0 <= number < MAX_EPOCH:
            raise ValueError(f"VideoLoader: epoch must be a whole number in [0, 2**24), got {epoch!r}")
        if number == self._resumed:
            return
        if self._resumed is not None and self.next[1]:
            log.warning(
                "set_epoch(%d) drops the position of the loaded state, batch %d of epoch %d", number, self.next[1],
                self._resumed,
            )  # fmt: skip
        self.move(number, 0)
        self._resumed = None

    def begin(self, num_batches: int) -> int:
        """Begin a loop, where the last one says; returns its number."""
        (epoch, _), (next_epoch, index) = self._start, self.next
        if self._finished or next_epoch != epoch:
            self.move(*self.next)
            self._resumed = None
        elif self._taken > 1:
            log.info(
                "a loop over epoch %d was left after batch %d of %d: the next begins epoch %d. set_epoch(%d) begins "
                "the same one again", epoch, index, num_batches, epoch + 1, epoch,
            )  # fmt: skip
            self.move(epoch + 1, 0)
            self._resumed = None
        else:  # nothing was taken, or a first batch to look at
            self.move(*self._start)
        return self.loop

    def take(self, following: tuple[int, int]) -> None:
        """The next batch was given to the loop; ``following`` comes after it."""
        self._taken += 1
        if self._taken > 1 or following[0] != self.next[0]:
            self._resumed = None
        self.next = following

    def finish(self) -> None:
        """The loop came to its end."""
        self._finished = True


def fingerprint(manifest: Manifest) -> dict[str, str]:
    """What must be the same for a state to mean the same clips: digests of paths, labels, classes and ranges.

    Paths are those in the manifest, relative to its root, so a data set may move. "rows" is the same for any order of
    the rows: it tells a manifest in another order from one of other videos. Takes about 0.3 s for a million rows.
    """
    table = manifest.table
    labels = [name for name in ("label", "labels") if name in table.column_names]
    parts = {"paths": ["path"], "labels": labels, "ranges": ["first_frame", "last_frame", "num_frames"]}
    digests = {name: _digest(table, columns) for name, columns in parts.items()}
    digests["classes"] = hashlib.blake2b(repr(tuple(manifest.classes)).encode(), digest_size=16).hexdigest()
    digests["rows"] = _unordered_digest(table, [name for columns in parts.values() for name in columns])
    return digests


def identity(schedule: Schedule, recipe: Recipe, manifest: Mapping[str, str]) -> dict[str, Any]:
    """What a state has besides the position: all that must be the same for the same batches to come.

    Args:
        schedule: of the loader.
        recipe: of the loader.
        manifest: its ``fingerprint``.
    """
    modules = recipe.fingerprints()
    return {
        "plan_version": PLAN_VERSION,
        "seed": schedule.seed,
        "num_samples": schedule.num_samples,
        "batch_size": schedule.batch_size,
        "num_shards": schedule.num_shards,
        "shuffle": schedule.shuffle,
        "drop_last": schedule.drop_last,
        "even": schedule.even,
        "recipe": repr(recipe),
        "num_clips": recipe.num_clips,
        "repeats": schedule.repeats,
        "manifest": dict(manifest),
        **({"modules": modules} if modules else {}),
    }


def check_state(state: Mapping[str, Any], mine: Mapping[str, Any], num_batches: int) -> None:
    """Compare a state with what ``identity`` says of this loader.

    Raises:
        ValueError: it lacks something, is of another loader, or its position is outside an epoch.
    """
    keys = ("epoch", "batch", *mine)
    if not isinstance(state, Mapping) or not any(key in state for key in keys):
        raise ValueError(f"VideoLoader: the state must be what state_dict() gave, got {_outline(state)}")
    missing = [key for key in keys if key not in state]
    if missing:
        raise ValueError(f"VideoLoader: the state lacks {', '.join(missing)}")
    options = [key for key in mine if key not in ("manifest", "recipe") and state[key] != mine[key]]
    other = [f"{key} is {mine[key]!r}, the state's {state[key]!r}" for key in options]
    if state["recipe"] != mine["recipe"]:
        other.append("recipe has {}, the state's {}".format(*_first_difference(mine["recipe"], state["recipe"])))
    if differs := difference(mine["manifest"], state["manifest"]):
        other.append(f"the manifest has {differs}")
    if other:
        raise ValueError(f"VideoLoader: the state is of another loader: {'; '.join(other)}")
    for name, limit in (("epoch", MAX_EPOCH), ("batch", num_batches)):
        if not (isinstance(state[name], int) and 0 <= state[name] < limit):
            raise ValueError(f"VideoLoader: {name} of the state must be in [0, {limit}), got {state[name]!r}")


def _outline(state):
    return f"a mapping with {', '.join(map(str, state)) or 'nothing'}" if isinstance(state, Mapping) else repr(state)


def _num_equal(one, other):
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _first_difference(mine, theirs):
    """Two recipes from the first op on that differs, without what is the same behind it."""
    same = _num_equal(mine, theirs)
    first = max((match.start() for match in re.finditer(r"\w+\(", mine[:same])), default=0)
    end = mine[same:][::-1]
    tail = end[: _num_equal(end, theirs[same:][::-1])][::-1]
    kept = len(tail) - min((tail.index(mark) for mark in ",)" if mark in tail), default=len(tail))
    return [f"{text[first : len(text) - kept]}..." for text in (mine, theirs)]


def difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """In what two fingerprints differ, in words; None if in nothing."""
    kinds = [kind for kind in ("paths", "labels", "classes", "ranges") if mine[kind] != theirs.get(kind)]
    if not kinds:
        return None
    if mine["rows"] == theirs.get("rows") and "paths" in kinds and "classes" not in kinds:
        return "the same rows in another order"
    return f"other {', '.join(kinds)}"


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
