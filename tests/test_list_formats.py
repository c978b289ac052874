"""Formats of lists: each as it is found in public data sets, with its traps."""

import pytest
from list_examples import EXAMPLES

from dali_vidaug.data.labels import index_labels
from dali_vidaug.data.list_formats import FORMATS, list_videos
from dali_vidaug.data.list_source import Options


def write(folder, files):
    """Write the files of an example, or others."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(path, root=None, **options):
    """What a list says: path or reason, start, end, indices of labels of each entry; and the classes."""
    listing = list_videos(path, root, Options(**options))
    labels = index_labels(listing, listing.classes)
    rows = [
        (entry.path if entry.error is None else entry.error, entry.start, entry.end, indices)
        for entry, indices in zip(listing.entries, labels.indices, strict=True)
    ]
    assert all(len(row[3]) < 2 for row in rows) or listing.several
    return rows, labels.classes, listing


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_list_says(name, tmp_path):
    form, example = EXAMPLES[name]
    write(tmp_path, example.files)
    rows, classes, listing = read(tmp_path / example.list, **example.options)
    assert len(rows) == len(example.rows)
    for row, (path, *expected) in zip(rows, example.rows, strict=True):
        assert row[0] == path or (" " in path and row[0].startswith(path)), row
        assert list(row[1:]) == expected
    assert classes == example.classes
    assert listing.notes[0].startswith(f"the list is read as {form}: ")


@pytest.mark.parametrize("name", EXAMPLES)
def test_other_formats_refuse_it_or_say_the_same(name, tmp_path):
    form, example = EXAMPLES[name]
    write(tmp_path, example.files)
    path = tmp_path / example.list
    options = {key: value for key, value in example.options.items() if key != "format"}
    expected = read(path, **options, format=form)[:2]
    refused = 0
    for other in FORMATS:
        try:
            said = read(path, **options, format=other)[:2]
        except ValueError as error:
            assert str(path) in str(error) or str(tmp_path) in str(error), error
            refused += 1
            continue
        assert said == expected or {form, other} in ({"charades", "charades_segments"}, {"slowfast", "multi_label"}), other
    assert refused >= len(FORMATS) - 3
