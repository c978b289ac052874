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
        for array in _flat(table[name]):
            digest.update(array)
    return digest.hexdigest()


def _unordered_digest(table, columns):
    """Of how often each byte and each number occurs, in all rows together."""
    digest = hashlib.blake2b(digest_size=16)
    for name in columns:
        for array in _flat(table[name]):
            if array.dtype == np.uint8:
                parts = np.array_split(array, len(array) // 2**22 + 1)
                digest.update(np.sum([np.bincount(part, minlength=256) for part in parts], axis=0).tobytes())
            else:
                digest.update(np.sort(array).tobytes())
    return digest.hexdigest()


def _flat(column):
    """A column as arrays that do not depend on how Arrow holds it: numbers; lengths and bytes; lengths and elements."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # strings of more than 2 GB stay in several chunks
        array = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in array.chunks])
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _flat(array.dictionary_decode())
    valid = np.asarray(array.is_valid())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_lengths(array, valid), *_flat(array.flatten())]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        array = array.cast(pa.large_string()).fill_null("")
        offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
        data = array.buffers()[2]
        text = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None and len(array) else b""
        return [np.where(valid, np.diff(offsets), -1), np.frombuffer(text, np.uint8)]
    return [valid, array.fill_null(0).to_numpy(zero_copy_only=False)]


def _lengths(array, valid):
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.where(valid, lengths, -1).astype(np.int64)
