"""Where bytes are: whole files, and parts of files, which are read as the files that they are."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import by_container, numbered_frame, shown_numbers, write_numbered, write_video

import dali_vidaug as dv
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.decode import decode
from dali_vidaug.media.measure import measure
from dali_vidaug.media.remux import remux
from dali_vidaug.media.storage import Place, SourceFile, open_bytes
from dali_vidaug.media.unchanged import content_digest

KINDS = {"mp4": {"g": "12"}, "mkv": {"g": "12"}, "avi": {"g": "12", "bf": "0"}, "ts": {"g": "12"}}
OTHER_FILE = ("bytes", "mtime_ns", "content_digest", "index", "packet_index")  # what differs in a part of a file


@pytest.fixture(scope="module", params=KINDS)
def part(request, tmp_path_factory):
    """A video, and where it is in the middle of another file, whose other bytes are another video's."""
    folder = tmp_path_factory.mktemp("part")
    video = write_numbered(folder / f"v.{request.param}", 40, options=KINDS[request.param])
    other = folder / f"other.{request.param}"
    write_video(other, map(numbered_frame, reversed(range(40))), options=KINDS[request.param])
    data, around = video.read_bytes(), other.read_bytes()
    shard = folder / "shard"
    shard.write_bytes(around + data + around)
    return video, Place(str(shard), len(around), len(data))


def test_a_part_is_read_as_the_file_that_it_is(part):
    video, place = part
    data, rng = video.read_bytes(), np.random.default_rng(0)
    with open_bytes(place) as source:
        assert source.size == len(data)
        ranges = [sorted(rng.integers(0, len(data) + 1, 2).tolist()) for _ in range(50)]
        assert [bytes(one) for one in source.read(ranges)] == [data[a:b] for a, b in ranges]
        with SourceFile(source) as file:
            assert file.read() == data and not file.read(1)
            assert file.seek(-5, os.SEEK_END) == len(data) - 5 and file.read(9) == data[-5:]
            assert file.seek(7) == 7 and file.seek(3, os.SEEK_CUR) == 10 == file.tell() and file.read(2) == data[10:12]
        for first, last in ((0, len(data) + 1), (len(data), len(data) + 10)):
            with pytest.raises(EOFError, match="ends before byte"):
                source.read([(first, last)])
        digest = content_digest(source)
    with open_bytes(Place(str(video))) as source:
        assert content_digest(source) == digest and source.as_file() == str(video)


@pytest.mark.parametrize("deep", [False, True])
def test_a_part_is_measured_as_the_file_that_it_is(part, deep):
    video, place = part
    whole, found = measure(video, deep), measure(place, deep)
    assert "error" not in whole and found["bytes"] == whole["bytes"] == video.stat().st_size
    for name in whole.keys() - set(OTHER_FILE):
        assert found[name] == whole[name], name
    assert found["index"] == whole["index"] and found["content_digest"] == whole["content_digest"]
    assert found["mtime_ns"] == Path(place.path).stat().st_mtime_ns


@pytest.fixture
def rows(part, tmp_path):
    """A manifest of the video as a file, and one of it as a part."""
    video, place = part
    manifest = dv.scan(video, output=tmp_path / "m.parquet", progress=False)
    table, shard = manifest.table, Path(place.path)
    row = {**table.to_pylist()[0], "path": f"shard/{video.name}", "shard": "shard", "shard_offset": place.first}
    row["mtime_ns"] = shard.stat().st_mtime_ns
    return manifest, dv.Manifest(pa.Table.from_pylist([row], table.schema), (), shard.parent, packets=manifest.packets)


@pytest.mark.parametrize("open_container", [False, True])
def test_clips_of_a_part_are_those_of_the_file(rows, part, open_container):
    whole, found = (manifest.video(0) for manifest in rows)
    assert found.place[:3] == part[1][:3] and found.path == f"{part[1].path}/{part[0].name}"
    if open_container:
        whole, found = by_container(whole), by_container(found)
    for frames in (np.arange(8), np.array([39, 13, 13]), np.arange(0, 40, 5)):
        assert shown_numbers(decode(found, frames).pixels) == frames.tolist()
        np.testing.assert_array_equal(decode(found, frames).pixels, decode(whole, frames).pixels)
        np.testing.assert_array_equal(remux(found, frames).data, remux(whole, frames).data)


@pytest.mark.parametrize("open_container", [False, True])
def test_a_shard_that_was_written_again_is_noticed(rows, part, open_container):
    video = rows[1].video(0)
    video = by_container(video) if open_container else video
    shard, frames = Path(part[1].path), np.arange(8)
    data, stat = shard.read_bytes(), shard.stat()
    try:
        shard.write_bytes(data[1:] + b"x")
        with pytest.raises(READ_ERRORS, match="changed since it was scanned"):
            decode(video, frames)
        os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(READ_ERRORS, match="changed since it was scanned"):
            decode(video, frames)
        shard.write_bytes(data[: part[1].first + part[1].size // 2])
        os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(READ_ERRORS, match="changed since it was scanned"):
            decode(video, np.arange(30, 40))
    finally:
        shard.write_bytes(data)
        os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert shown_numbers(decode(video, frames).pixels) == frames.tolist()


def test_manifests_of_the_version_before_shards_are_read(tmp_path):
    """A column of one's own that has the name of a later one keeps its values, under the name that lists give it."""
    write_numbered(tmp_path / "v" / "a" / "x.mp4", 5)
    output = tmp_path / "m.parquet"
    before = dv.scan(tmp_path / "v", output=output, progress=False)
    table = pq.read_table(output)
    header = {**json.loads(table.schema.metadata[b"dali_vidaug"]), "version": 2}
    old = table.drop_columns(["shard", "shard_offset", "etag"]).append_column("shard", pa.array(["mine"]))
    pq.write_table(old.replace_schema_metadata({"dali_vidaug": json.dumps(header)}), output)
    manifest = dv.Manifest.read(output)
    assert manifest.columns == ("list_shard",) and manifest.rows("list_shard").tolist() == ["mine"]
    assert manifest.video(0)._replace(keyframes=0, packet_index=0) == before.video(0)._replace(
        keyframes=0, packet_index=0
    )
    assert manifest.video(0).place == Place(str(tmp_path / "v" / "a" / "x.mp4"))
