"""Columns of several pieces, compared with Arrow and NumPy on the whole."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from dali_vidaug.data import column
from dali_vidaug.data.column import elements, first_of_sizes, group, shown_sizes, take, values


def pieces_of(array, rng):
    """The array in a random number of pieces, some of them empty."""
    cuts = [0, *np.sort(rng.integers(0, len(array) + 1, rng.integers(0, 6))).tolist(), len(array)]
    parts = [array.slice(first, last - first) for first, last in itertools.pairwise(cuts)]
    if pa.types.is_dictionary(array.type):
        parts = [part.dictionary_decode().dictionary_encode() for part in parts]
    return pa.chunked_array(parts, array.type)


def random_columns(rng):
    count = int(rng.integers(1, 60))
    numbers = rng.integers(0, 4, count)
    return {
        "number": pa.array(numbers, mask=rng.random(count) < 0.3),
        "text": pa.array([None if n == 3 else "é" * n for n in numbers.tolist()]),
        "list": pa.array([None if n == 3 else list(range(n)) for n in numbers.tolist()], pa.list_(pa.int32())),
        "kind": pa.array([None if n == 3 else f"k{n}" for n in numbers.tolist()]).dictionary_encode(),
        "truth": pa.array(numbers > 1),
    }


@pytest.mark.parametrize("step", [1 << 20, 5])
@pytest.mark.parametrize("seed", range(20))
def test_pieces_are_as_the_whole(seed, step, monkeypatch):
    """However many rows are looked at together, and for more rows than that."""
    monkeypatch.setattr(column, "_STEP", step)
    rng = np.random.default_rng(seed)
    whole = random_columns(rng)
    table = pa.table({name: pieces_of(array, rng) for name, array in whole.items()})
    rows = rng.integers(0, len(table), rng.integers(0, 40))
    for name, array in whole.items():
        expected = [array[row].as_py() for row in rows.tolist()]
        assert take(table[name], rows).to_pylist() == expected
        assert repr(values(take(table[name], rows)).tolist()) == repr(expected) or name == "number"
    flat = [number for part in whole["list"].to_pylist() for number in part or []]
    assert [number for part in elements(table["list"]) for number in part.tolist()] == flat

    keys = list(zip(whole["kind"].to_pylist(), whole["truth"].to_pylist(), strict=True))
    expected = {key: [keys.count(key), keys.index(key)] for key in dict.fromkeys(keys)}
    found = group(pa.Table.from_arrays([table["kind"], table["truth"]], ["kind", "truth"]), ["kind", "truth"])
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize("step", [1 << 20, 7])
@pytest.mark.parametrize("seed", range(5))
def test_the_first_row_of_each_size(seed, step, monkeypatch):
    monkeypatch.setattr(column, "_STEP", step)
    rng = np.random.default_rng(seed)
    orientation, height, width = rng.integers(1, 9, 100), rng.integers(1, 4, 100), rng.integers(1, 4, 100)
    shown = [(w, h) if o >= 5 else (h, w) for o, h, w in zip(orientation, height, width, strict=True)]
    assert first_of_sizes(orientation, height, width).tolist() == [shown.index(size) for size in sorted(set(shown))]
    assert list(zip(*(side.tolist() for side in shown_sizes(orientation, height, width)), strict=True)) == shown
