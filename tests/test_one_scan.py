"""Rows of one file that do not agree: what is read from one of them would be wrong for the others."""

import re

import pyarrow as pa
import pytest
from conftest import write_numbered

import dali_vidaug as dv
from dali_vidaug.data.schema import SCHEMA


def with_facts(manifest, row, **facts):
    """A manifest in which some facts of a row are others."""
    table = manifest.table
    for name, value in facts.items():
        values = table[name].to_pylist()
        values[row] = value
        table = table.set_column(
            table.column_names.index(name), SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type)
        )
    return dv.Manifest(table, manifest.classes, manifest.root, packets=manifest.packets)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two videos, the second with two rows."""
    folder = tmp_path_factory.mktemp("parts")
    for name in "ab":
        write_numbered(folder / f"{name}.mp4", 12)
    (folder / "list.csv").write_text("path,label,start_frame,end_frame\na.mp4,x,0,12\nb.mp4,x,0,6\nb.mp4,y,6,12\n")
    return dv.scan(folder / "list.csv", progress=False)


def both(manifest, folder):
    """Calls of what makes files of a manifest."""
    return {
        "pack": lambda: dv.pack(manifest, folder / "s" / "%d.tar", progress=False),
        "transcode": lambda: dv.transcode(manifest, folder / "t", progress=False),
    }


@pytest.mark.parametrize("row", [1, 2])
@pytest.mark.parametrize(
    "name, value",
    [("bytes", 7), ("mtime_ns", 10**18 + 1), ("content_digest", 7), ("num_frames", 13), ("damaged", [3, 5])],
)
def test_rows_of_two_scans_are_refused(name, value, row, parts, tmp_path):
    """Whichever comes first, before anything is written, and with what they say."""
    manifest = with_facts(parts, row, **{name: value})
    values = [manifest.table[name][i].as_py() for i in (1, 2)]
    for caller, call in both(manifest, tmp_path).items():
        said = (
            f"{caller}: {parts.path(1)} has rows of two scans that say {name} {values[0]} and {name} {values[1]}; scan"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(said)} it again"):
            call()
    assert not list(tmp_path.iterdir())


def test_what_differs_between_files_or_is_not_known_is_not_refused(parts, tmp_path):
    """Facts of another file, facts that a scan did not take, and times of which one was cut to seconds."""
    time = parts.table["mtime_ns"][1].as_py()
    manifest = with_facts(parts, 0, damaged=[3, 5])
    manifest = with_facts(manifest, 2, content_digest=None, damaged=[], mtime_ns=time // 10**9 * 10**9)
    for call in both(manifest, tmp_path).values():
        assert call().rows("first_frame").tolist() == [0, 0, 6]


def test_a_file_that_was_replaced_between_two_scans(tmp_path):
    found = []
    for frames, (first, last) in ((30, (20, 30)), (40, (0, 20))):
        write_numbered(tmp_path / "v.mp4", frames)
        rows = dict(labels=["a"], columns={"start_frame": [first], "end_frame": [last]})
        found.append(dv.scan([tmp_path / "v.mp4"], **rows, progress=False))
    for manifest in (found[0] + found[1], found[1] + found[0]):
        for call in both(manifest, tmp_path).values():
            with pytest.raises(
                ValueError, match=r"v\.mp4 has rows of two scans that say bytes .*num_frames \d+ and num"
            ):
                call()
