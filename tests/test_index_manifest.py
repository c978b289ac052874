"""Packet indices in manifests: written beside them, kept by rows that move, lost without harm."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import OWN_SIZE, RECIPE, same_batch, shown_numbers, take_batches, write_numbered

import dali_vidaug as dv
from dali_vidaug.commands import cli
from dali_vidaug.data.index_table import IndexTable
from dali_vidaug.media.decode import decode

WARNING = "no packet index, files are opened as containers"


def has_right_indices(manifest):
    """Whether every row has an index, and each is of the row's own file: another's bytes are not there."""
    for sample in range(len(manifest)):
        video = manifest.video(sample)
        if video.packet_index is None:
            return False
        frames = np.array([0, video.num_frames // 2, video.num_frames - 1])
        assert shown_numbers(decode(video, frames).pixels) == frames.tolist()
    return True


@pytest.fixture
def videos(numbered, tmp_path):
    """A copy of four of the numbered videos, and a transport stream."""
    for path in [path for name in ("even", "odd") for path in sorted((numbered / name).iterdir())[:2]]:
        (tmp_path / "videos" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, tmp_path / "videos" / path.parent.name)
    write_numbered(tmp_path / "videos" / "even" / "stream.ts", 40)
    return tmp_path / "videos"


def test_written_and_read(videos, tmp_path, caplog):
    manifest = dv.scan(videos, output=tmp_path / "m.parquet", progress=False)
    again = dv.Manifest.read(tmp_path / "m.parquet")
    for one in (manifest, again):
        reasons = one.table["no_packet_index"].to_pylist()
        assert [r is not None for r in reasons] == [name.endswith(".ts") for name in one.table["path"].to_pylist()]
        for sample in range(len(one)):
            video = one.video(sample)
            assert (video.packet_index is None) == video.path.endswith(".ts")
            assert shown_numbers(decode(video, np.array([7])).pixels) == [7]
    said = (
        "files without a packet index, which are opened as containers: 1 "
        "(1: its packets are not in one piece in the file)"
    )
    assert said in manifest.remarks and said in again.remarks
    assert not caplog.records
    assert list(map(bytes, again.video(0).packet_index)) == list(map(bytes, manifest.video(0).packet_index))
    assert not any(path.name.split(".")[-1].isdigit() for path in tmp_path.iterdir())


def test_without(videos, tmp_path, capsys):
    manifest = dv.scan(videos, output=tmp_path / "m.parquet", index=False, progress=False)
    assert not (tmp_path / "m.parquet.packets").exists() and manifest.packets is None
    assert manifest.video(0).packet_index is None and not any("packet index" in text for text in manifest.remarks)
    assert dv.Manifest.read(tmp_path / "m.parquet").video(0).packet_index is None
    assert cli.main(["scan", str(videos), "-o", str(tmp_path / "m.parquet")]) == 0  # measured again, for the index
    assert "files without a packet index" in capsys.readouterr().out
    assert dv.Manifest.read(tmp_path / "m.parquet").video(0).packet_index is not None
    assert cli.main(["scan", str(videos), "-o", str(tmp_path / "m.parquet"), "--no-index"]) == 0
    assert not (tmp_path / "m.parquet.packets").exists()
    assert dv.Manifest.read(tmp_path / "m.parquet").video(0).packet_index is None


def test_older_manifests_work(numbered_manifest, tmp_path):
    table = numbered_manifest.table.drop_columns(["packet_index", "no_packet_index"])
    old = dv.Manifest(table, numbered_manifest.classes, numbered_manifest.root)
    assert old.video(3).packet_index is None and old.table["packet_index"].null_count == len(old)
    with dv.VideoLoader(old, RECIPE, 4, num_threads=2) as loader, dv.VideoLoader(numbered_manifest, RECIPE, 4) as new:
        assert all(same_batch(a, b) for a, b in zip(loader, new, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("decoder", ["pyav", "hybrid"])
def test_batches_are_the_same(decoder, workers, numbered_manifest, tmp_path):
    """With and without an index, in threads and in processes."""
    numbered_manifest.write(tmp_path / "m.parquet")
    mapped = dv.Manifest.read(tmp_path / "m.parquet")
    bare = dv.Manifest(numbered_manifest.table, numbered_manifest.classes, numbered_manifest.root)
    batches = [
        take_batches(dv.VideoLoader(m, RECIPE, 4, decoder=decoder, workers=workers), 4)
        for m in (mapped, numbered_manifest, bare)
    ]
    assert bare.video(0).packet_index is None and mapped.video(0).packet_index is not None
    for one, two, three in zip(*batches, strict=True):
        assert same_batch(one, two) and same_batch(one, three)


def test_an_index_that_is_missing_or_of_another_scan(videos, tmp_path, caplog):
    dv.scan(videos, output=tmp_path / "a.parquet", progress=False)
    shutil.rmtree(videos / "odd")
    dv.scan(videos, output=tmp_path / "b.parquet", progress=False)
    shutil.copy2(tmp_path / "b.parquet.packets", tmp_path / "a.parquet.packets")
    (tmp_path / "b.parquet.packets").unlink()
    for name, why in (("a", "it is that of another scan"), ("b", "it is not there")):
        caplog.clear()
        manifest = dv.Manifest.read(tmp_path / f"{name}.parquet")
        assert manifest.video(0).packet_index is None
        assert shown_numbers(decode(manifest.video(0), np.array([9])).pixels) == [9]
        assert [why in r.message and WARNING in r.message for r in caplog.records] == [True]
    (tmp_path / "a.parquet.packets").write_bytes(b"ARROW1\0\0 cut off")
    caplog.clear()
    assert dv.Manifest.read(tmp_path / "a.parquet").packets is None
    assert "it cannot be read" in caplog.text
    found = dv.scan(videos, output=tmp_path / "a.parquet", progress=False)  # a scan makes it again
    assert found.video(0).packet_index is not None and dv.Manifest.read(tmp_path / "a.parquet").packets is not None


def test_rows_keep_their_index(numbered_manifest, tmp_path):
    """Selected, repeated, in another order, split, added; written and read, in memory and mapped."""
    numbered_manifest.write(tmp_path / "m.parquet")
    mapped = dv.Manifest.read(tmp_path / "m.parquet")
    for manifest in (numbered_manifest, mapped):
        rows = np.array([7, 3, 3, 11, 0])
        first, second = manifest.split(0.5, seed=3)
        parts = [manifest.select(rows), first, second, second + first, manifest.select([4]) + manifest.select([9, 2])]
        for i, part in enumerate(parts):
            assert has_right_indices(part)
            part.write(tmp_path / f"{i}.parquet")
            again = dv.Manifest.read(tmp_path / f"{i}.parquet")
            assert has_right_indices(again)
            assert len(again.packets) == len(set(again.table["path"].to_pylist()))  # no more than its rows have


def test_added_to_a_manifest_without(videos, tmp_path):
    """Either way round; and indices of two scans whose codecs differ."""
    (tmp_path / "more").mkdir()
    write_numbered(tmp_path / "more" / "x.webm", 40, codec="libvpx", options={"g": "10", "deadline": "realtime"})
    write_numbered(tmp_path / "more" / "y.mp4", 40, options={"g": "9"})
    more = dv.scan(tmp_path / "more", progress=False)
    indexed, bare = (dv.scan(videos, index=index, progress=False) for index in (True, False))
    for one, two in ((indexed, more), (more, indexed), (bare, more), (more, bare)):
        both = one + two
        for part, offset in ((one, 0), (two, len(one))):
            for sample in range(len(part)):
                index, video = part.video(sample).packet_index, both.video(sample + offset)
                assert (index is None) == (video.packet_index is None)
                if index is not None:
                    assert bytes(video.packet_index.packets) == bytes(index.packets)
                    assert video.packet_index.codec == index.codec
                assert shown_numbers(decode(video, np.array([8, 30])).pixels) == [8, 30]
        both.write(tmp_path / "both.parquet")
        assert len(dv.Manifest.read(tmp_path / "both.parquet")) == len(both)


def test_a_manifest_may_be_written_over_its_own_file(numbered_manifest, tmp_path):
    numbered_manifest.write(tmp_path / "m.parquet")
    mapped = dv.Manifest.read(tmp_path / "m.parquet")
    part = mapped.select([5, 1])
    part.write(tmp_path / "m.parquet")
    assert has_right_indices(mapped) and has_right_indices(part)
    assert has_right_indices(dv.Manifest.read(tmp_path / "m.parquet"))


def test_pickles(numbered_manifest, tmp_path):
    """Of a file, a pickle has the name only; in memory, the indices."""
    numbered_manifest.write(tmp_path / "m.parquet")
    mapped = dv.Manifest.read(tmp_path / "m.parquet")
    assert len(pickle.dumps(mapped.packets)) < 300
    for manifest in (mapped, numbered_manifest):
        assert has_right_indices(pickle.loads(pickle.dumps(manifest)))
    video = pickle.loads(pickle.dumps(mapped.video(2)))
    assert shown_numbers(decode(video, np.array([4])).pixels) == [4]


def test_files_that_did_not_change_keep_their_index(videos, tmp_path, monkeypatch):
    """Neither a second scan nor one that was interrupted measures them again."""
    output = tmp_path / "m.parquet"
    first = dv.scan(videos, output=output, progress=False)
    rows = {name: row for name, row in logged_rows(first).items() if not name.endswith(".ts")}
    log = [json.dumps([name, {**row, "deep": False}]) for name, row in rows.items()]
    output.unlink()
    (tmp_path / "m.parquet.packets").unlink()
    (tmp_path / "m.parquet.partial").write_text("\n".join([*log, '["even/cut off']) + "\n")
    measured = []
    from dali_vidaug.data import measuring

    real = measuring.measure
    monkeypatch.setattr(
        measuring, "measure", lambda place, *a: measured.append(Path(place.path).name) or real(place, *a)
    )
    resumed = dv.scan(videos, output=output, progress=False)
    assert measured == ["stream.ts"]
    assert resumed.table.equals(first.table)
    again = dv.scan(videos, output=output, progress=False)
    assert measured == ["stream.ts"]
    for manifest in (resumed, again, dv.Manifest.read(output)):
        for sample in range(len(manifest)):
            index, expected = manifest.video(sample).packet_index, first.video(sample).packet_index
            assert (index is None) == (expected is None)
            assert index is None or list(map(bytes, index)) == list(map(bytes, expected))


def logged_rows(manifest):
    """What an interrupted scan has written of each file."""
    from dali_vidaug.data.index_table import index_to_text
    from dali_vidaug.data.known import MEASURED

    rows = {}
    for sample, row in enumerate(manifest.table.to_pylist()):
        index = manifest.video(sample).packet_index
        measured = {name: row[name] for name in MEASURED} | {"packet_index": None, "index": index}
        rows[row["path"]] = index_to_text(measured)
    return rows


def test_numbers_beyond_the_indices_are_refused(numbered_manifest):
    table = numbered_manifest.table
    at = table.column_names.index("packet_index")
    wrong = table.set_column(at, "packet_index", pa.array(np.arange(len(table)) + 1, pa.int64()))
    with pytest.raises(ValueError, match="packet_index goes from 1 to 12, but there are 12"):
        dv.Manifest(wrong, numbered_manifest.classes, numbered_manifest.root, packets=numbered_manifest.packets)


def test_indices_of_another_manifest_are_found(numbered_manifest):
    """Rows with the numbers of others: clips fail, or the files have the same bytes there; none has other pixels."""
    table = numbered_manifest.table
    at = table.column_names.index("packet_index")
    wrong = table.set_column(at, "packet_index", pa.array(np.roll(np.arange(len(table)), 1), pa.int64()))
    manifest = dv.Manifest(wrong, numbered_manifest.classes, numbered_manifest.root, packets=numbered_manifest.packets)
    failed = 0
    for sample in range(len(manifest)):
        video = manifest.video(sample)
        for frame in range(video.num_frames):
            try:
                assert shown_numbers(decode(video, np.array([frame])).pixels) == [frame]
            except (ValueError, EOFError) as error:
                assert "scan again" in str(error)
                failed += 1
    assert failed >= 100


def test_a_file_that_was_replaced_costs_its_clips(videos):
    """As long as before, and nobody compares size and time: the bytes tell."""
    manifest = dv.scan(videos / "odd", progress=False)
    path = sorted((videos / "odd").iterdir())[0]
    size = path.stat().st_size
    write_numbered(path, 42, options={"qp": "45"})
    path.write_bytes(path.read_bytes()[:size].ljust(size, b"\0"))

    with dv.VideoLoader(manifest, OWN_SIZE, 1, check_files="off") as loader:
        samples = [batch.samples.tolist() for batch in loader]
        report = loader.report()
    assert samples == [[1], [1]] and "changed since it was scanned" in str(report)


def test_a_table_of_no_indices_is_none():
    assert IndexTable.of([]) is None
