"""Rows of one file that do not agree: what is read from one of them would be wrong for the others."""

import re

import av
import numpy as np
import pyarrow as pa
import pytest
from conftest import RECIPE, numbered_frame, shown_numbers, write_numbered

import dali_vidaug as dv
from dali_vidaug.data.schema import SCHEMA
from dali_vidaug.media.decode import decode


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
    manifest = with_facts(manifest, 1, damaged=None)
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


def write_two_streams(path):
    """12 frames from 0 on in stream 0, and 12 from 100 on in stream 1."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25, width=160, height=96) for _ in range(2)]
        for i in range(12):
            for stream, first in zip(streams, (0, 100), strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(first + i), format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """The manifests of two streams of a file, the one that a scan takes first."""
    path = tmp_path_factory.mktemp("streams") / "two.mkv"
    write_two_streams(path)
    taken = int(dv.scan(path, progress=False).rows("stream")[0])
    return [dv.scan([path], stream=stream, labels=["x"], progress=False) for stream in (taken, 1 - taken)]


def test_streams_that_a_scan_does_not_take_are_not_packed(streams, tmp_path):
    taken, other = streams
    packed = dv.pack(taken, tmp_path / "s" / "%d.tar", progress=False)
    scanned = dv.scan(tmp_path / "s", progress=False)
    assert packed.rows("stream").tolist() == scanned.rows("stream").tolist() == taken.rows("stream").tolist()
    own, first = int(other.rows("stream")[0]), int(taken.rows("stream")[0])
    for manifest, said in (
        (other, f"rows of its stream {own}, but a scan of the shards takes stream {first}"),
        (taken + other, f"rows of its streams {first} and {own}"),
        (other + taken, f"rows of its streams {own} and {first}"),
    ):
        with pytest.raises(ValueError, match=rf"^pack: .*two\.mkv has {said}.*; dv.transcode writes each stream to"):
            dv.pack(manifest, tmp_path / "t" / "%d.tar", progress=False)
    assert not (tmp_path / "t").exists()


def test_streams_are_packed_once_they_are_files(streams, tmp_path):
    """What the message says to do: frames and labels of the shards, scanned, are those of the streams."""
    small = dv.transcode(streams[1] + streams[0], tmp_path / "small", progress=False)
    dv.pack(small, tmp_path / "s" / "%d.tar", shuffle=False, progress=False)
    scanned = dv.scan(tmp_path / "s", progress=False)
    shown = [shown_numbers(decode(scanned.video(row), np.arange(2)).pixels) for row in range(2)]
    firsts = [100 * int(one.rows("stream")[0]) for one in (streams[1], streams[0])]
    assert shown == [[first, first + 1] for first in firsts]


def test_a_state_of_another_stream_is_refused(streams, numbered_manifest):
    """States that were saved before streams counted go on."""
    taken, other = (dv.VideoLoader(manifest, RECIPE, 1, device="cpu") for manifest in streams)
    with taken, other:
        state = taken.state_dict()
        taken.load_state_dict(state)
        with pytest.raises(ValueError, match="the manifest has other streams$"):
            other.load_state_dict(state)
        del state["manifest"]["streams"]
        other.load_state_dict(state)
    moved = with_facts(numbered_manifest, 0, stream=3)  # the only video of a file, behind its sound
    with dv.VideoLoader(numbered_manifest, RECIPE, 1, device="cpu") as loader:
        state = loader.state_dict()
    with dv.VideoLoader(moved, RECIPE, 1, device="cpu") as loader:
        loader.load_state_dict(state)
