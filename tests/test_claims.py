"""Scans that read headers only: what they cost, what they say, and that no clip is made of what is not so."""

import os
import re
import threading
from contextlib import suppress
from itertools import islice

import av
import numpy as np
import pyarrow as pa
import pytest
from conftest import same_batch, write_numbered, write_video

import dali_vidaug as dv
from dali_vidaug.data import measuring
from dali_vidaug.media import claims
from dali_vidaug.media.claims import read_header
from dali_vidaug.media.decode import decode
from dali_vidaug.media.measure import measure
from dali_vidaug.media.storage import Place

servers = pytest.importorskip("servers")
BUCKET = "headers"
RECIPE = dv.Recipe(dv.ClipSampling(4, 2), (dv.Resize((48, 64)),))
SAME = (
    "num_frames width height orientation codec pixel_format colorspace stream time_base notes pts_step fps "
    "duration_seconds bytes label first_frame last_frame"
).split()


@pytest.fixture(autouse=True)
def nothing_measured():
    """What other tests measured is not known here."""
    claims._measured.clear()


def noise(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(count)]


def count_frames(path):
    """What PyAV decodes."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(av.error.InvalidDataError):
                count += len(packet.decode())
    return count


def copy(source, path, change=None, more=(), **container_options):
    """The packets of a file, in another one; ``change(number, packet)`` may move them, ``more`` come after them."""
    with av.open(str(source)) as given, av.open(str(path), "w", container_options=container_options) as out:
        stream, last = out.add_stream_from_template(given.streams.video[0]), (0, 0, 0)
        for i, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            last = max(last[0], packet.pts), packet.dts, packet.duration
            packet.stream = stream
            if change is not None:
                change(i, packet)
            out.mux(packet)
        for data in more:
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.duration = stream, given.streams.video[0].time_base, last[2]
            packet.pts, packet.dts = last[0] + last[2], last[1] + last[2]
            out.mux(packet)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Large files with their header at the end and at the front, in two classes."""
    root, parts = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("parts")
    for i in range(4):
        write_video(parts / f"{i}.mp4", noise(150 + i, i), options={"g": "12", "crf": "4"})
        path = root / ("even", "odd")[i % 2] / f"{i}.{'mov' if i == 3 else 'mp4'}"
        path.parent.mkdir(exist_ok=True)
        copy(parts / f"{i}.mp4", path, **({"movflags": "faststart"} if i in (1, 2) else {}))
    return root


@pytest.fixture(scope="module")
def bucket(folder, tmp_path_factory):
    pytest.importorskip("obstore", reason="buckets need obstore: the extra [cloud]")
    pytest.importorskip("moto.server", reason="the servers of these tests are in the extra [test]")
    with servers.server("moto", tmp_path_factory.mktemp("moto")) as port:
        servers.put(port, BUCKET, {f"v/{path.relative_to(folder)}": path for path in folder.rglob("*.*")})
        with servers.proxy(port) as made:
            yield made


@pytest.fixture
def storage(bucket):
    bucket.forget()
    return dv.Storage(whole_below=0, options=servers.options(bucket.port))


@pytest.fixture(scope="module")
def local(folder):
    return dv.scan(folder, progress=False)


def batches(manifest, count=None, **options):
    options = {"device": "cpu", "seed": 3, "on_error": "raise", "shuffle": False, **options}
    with dv.VideoLoader(manifest, RECIPE, 2, **options) as loader:
        return list(islice(loader, count)), loader.report()


def test_a_bucket_is_scanned_by_headers(folder, bucket, storage, local):
    """A small part of its bytes, in few requests; what they say is what a scan of all bytes finds."""
    total = sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert total > 6e6
    found = dv.scan(f"s3://{BUCKET}/v", progress=False, storage=storage, headers=True)
    assert bucket.body_bytes < 0.15 * total and len(bucket.gets) <= 5 * len(found) and not found.broken
    assert len(found) == 4 and found.classes == local.classes
    for one, other in zip(found.table.to_pylist(), local.table.to_pylist(), strict=True):
        assert one["etag"] and one["regular"] is None and one["keyframes"] == [] and one["packet_index"] is None
        assert {name: one[name] for name in SAME if name != "etag"} == {
            name: other[name] for name in SAME if name != "etag"
        }
        assert one["num_frames"] == count_frames(folder / other["path"])
    assert any("4: only the header was read" in text for text in found.remarks)


@pytest.mark.parametrize("options", [{}, {"workers": 1}, {"decoder": "hybrid"}], ids=str)
def test_a_video_is_proven_once_and_then_read_by_ranges(options, bucket, storage, local):
    found = dv.scan(f"s3://{BUCKET}/v", progress=False, storage=storage, headers=True)
    expected, _ = batches(local, **{**options, "workers": 0})
    with dv.VideoLoader(found, RECIPE, 2, device="cpu", seed=3, on_error="raise", shuffle=False, storage=storage,
                        prefetch=1, **options) as loader:  # fmt: skip
        made = list(loader)
    assert len(made) == 2 and all(map(same_batch, made, expected))
    bucket.forget()
    again, report = batches(found, storage=storage, **options)
    assert all(map(same_batch, again, expected)) and not report.bad
    whole = sum(row["bytes"] for row in found.table.to_pylist())
    spans = [tuple(map(int, span.split("-"))) for _, span in bucket.gets]
    assert spans and max(last - first for first, last in spans) < 0.5 * whole / 4, "by its packet index"


def test_local_files_are_proven_too(folder, local, tmp_path):
    found = dv.scan(folder, progress=False, headers=True)
    assert found.table["regular"].null_count == 4
    assert all(map(same_batch, batches(found)[0], batches(local)[0]))
    with pytest.raises(ValueError, match="only its header was scanned; scan it without headers=True"):
        decode(found.video(0), np.array([0]))
    with pytest.raises(ValueError, match="only its header was scanned"):
        dv.transcode(found, tmp_path / "small", progress=False)
    claims._measured.clear()
    packed = dv.pack(found, tmp_path / "t-%d.tar", progress=False, shuffle=False)
    assert packed.table["regular"].null_count == 4
    assert all(map(same_batch, batches(packed)[0], batches(local)[0]))


@pytest.mark.parametrize("kind", ["fragments", "hidden frames", "mkv", "ts", "avi"])
def test_what_a_header_does_not_say_is_measured(kind, tmp_path):
    path = tmp_path / f"a.{kind if len(kind) == 3 or kind == 'ts' else 'mp4'}"
    if path.suffix != ".mp4":
        write_numbered(path, 30, codec="mpeg4" if kind == "avi" else "libx264")
    else:
        source = write_numbered(tmp_path / "b.mp4", 30)

        def earlier(_, packet):
            packet.pts, packet.dts = packet.pts - 6 * packet.duration, packet.dts - 6 * packet.duration

        options = {"movflags": "frag_keyframe+empty_moov"} if kind == "fragments" else {}
        copy(source, path, earlier if kind == "hidden frames" else None, **options)
        assert count_frames(path) == (24 if kind == "hidden frames" else 30)
    assert read_header(Place(str(path))) is None
    found, expected = (dv.scan([path], progress=False, headers=headers) for headers in (True, False))
    assert found.table.equals(expected.table) and found.table["regular"][0].as_py() is not None


def test_headers_that_lie_are_errors_that_name_both(tmp_path):
    """A frame too many, and a frame that cannot be decoded: both are in the header."""
    good = write_numbered(tmp_path / "good.mp4", 30)
    path = copy(good, tmp_path / "a.mp4", more=[b"\0\0\0\2\x09\xf0"])  # an access unit delimiter
    found = dv.scan([path], progress=False, headers=True)
    assert found.table["num_frames"].to_pylist() == [31] and count_frames(path) == 30
    with pytest.raises(dv.ClipError, match="its header says its frames are 31, and it has 30; scan it without headers"):
        batches(found, drop_last=False)
    made, _ = batches(dv.scan([path], progress=False), drop_last=False)
    assert len(made) == 1
    write_video(good, noise(30), options={"g": "12"})
    data = bytearray(good.read_bytes())
    with av.open(str(good)) as container:
        at, size = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][-1]
    data[at + size // 2 : at + size] = bytes(size - size // 2)
    good.write_bytes(data)
    damaged = dv.scan([good], progress=False, headers=True)
    assert damaged.table["num_frames"].to_pylist() == [30]
    said = r"its header says that it is whole: 30 frames, and it has some that cannot be used \(.*\[\d+, 30\)"
    with pytest.raises(dv.ClipError, match=said):
        batches(damaged, drop_last=False)


def edit(manifest, **values):
    """The manifest with other values in its first row, as another header would say them."""
    table = manifest.table
    for name, value in values.items():
        field, (_, *rest) = table.schema.field(name), table[name].to_pylist()
        column = pa.array([value, *rest], field.type)
        table = table.set_column(table.column_names.index(name), field, column)
    return dv.Manifest(table, manifest.classes, manifest.root)


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("width", 130, "its size is 130 x 96, and it has 128 x 96"),
        ("orientation", 6, "it is turned as EXIF's 6, and it has 1"),
        ("pixel_format", "yuv422p", "its pixels are h264, yuv422p, and it has h264, yuv420p"),
        ("pts_step", 600.0, "that frames come at a constant rate: one every 600 ticks, and it has one every 512 ticks"),
    ],
)
def test_all_that_a_plan_depends_on_is_compared(name, value, said, folder):
    found = edit(dv.scan(folder / "even", progress=False, headers=True), **{name: value})
    with pytest.raises(dv.ClipError, match=re.escape(said)):
        batches(found)


def test_times_that_are_on_no_grid(tmp_path):
    """Decoded at a constant rate, and shown at another: the header's index has only the first."""
    source = write_numbered(tmp_path / "b.mp4", 40, options={"bf": "0", "g": "8"})

    def late(number, packet):
        packet.pts += packet.duration * (number > 20)

    path = copy(source, tmp_path / "a.mp4", late)
    found = dv.scan([path], progress=False, headers=True)
    assert found.table["regular"].null_count == 1, "the header was not believed: nothing is tried"
    with pytest.raises(dv.ClipError, match="that frames come at a constant rate: one every"):
        batches(found, drop_last=False)


def test_an_object_that_was_replaced_since(folder, bucket, storage):
    files = sorted(folder.rglob("*.mp4"))
    servers.put(bucket.upstream, BUCKET, {"replaced/a.mp4": files[0]})
    found = dv.scan(f"s3://{BUCKET}/replaced", progress=False, storage=storage, headers=True)
    servers.put(bucket.upstream, BUCKET, {"replaced/a.mp4": files[1].read_bytes()[: files[0].stat().st_size]})
    with pytest.raises((dv.ClipError, OSError), match="scan again"):
        batches(found, storage=storage, drop_last=False)


def test_a_file_that_was_replaced_since(folder, tmp_path):
    """By another one whose header says the same, of the same size and time."""
    path, other = tmp_path / "a.mp4", sorted((folder / "even").iterdir())[0].read_bytes()
    path.write_bytes(other)
    before = path.stat()
    found = dv.scan([path], progress=False, headers=True)
    write_video(tmp_path / "b.mp4", noise(150, 9), options={"g": "12", "crf": "9"})
    data = (tmp_path / "b.mp4").read_bytes()
    assert len(data) < len(other)
    path.write_bytes(data.ljust(len(other), b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_header(Place(str(path)))["num_frames"] == 150
    with pytest.raises(dv.ClipError, match="changed since it was scanned: it has as many bytes, but others"):
        batches(found, drop_last=False)


def test_scans_that_follow(folder, tmp_path, monkeypatch):
    """Headers are not read again, a full scan measures what is not measured, and its rows stay."""
    asked, output = [], tmp_path / "m.parquet"
    real, full = measuring.read_header, measuring.measure
    monkeypatch.setattr(measuring, "read_header", lambda place, *how: asked.append("header") or real(place, *how))
    monkeypatch.setattr(measuring, "measure", lambda place, *how: asked.append("all") or full(place, *how))
    first = dv.scan(folder, output=output, progress=False, headers=True)
    assert asked == ["header"] * 4
    asked.clear()
    assert dv.scan(folder, output=output, progress=False, headers=True).table.equals(first.table) and not asked
    assert dv.scan(folder, output=output, progress=False).table["regular"].to_pylist() == [True] * 4
    assert asked == ["all"] * 4
    asked.clear()
    assert dv.scan(folder, output=output, progress=False, headers=True).table["regular"].to_pylist() == [True] * 4
    assert not asked
    parts = [
        dv.scan(folder, output=tmp_path / "p.parquet", progress=False, headers=n == 0, part=(n, 2)) for n in (0, 1)
    ]
    assert len(parts) == 2
    with pytest.raises(ValueError, match="headers"):
        dv.merge(sorted(tmp_path.glob("p.part*.parquet")), tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="scan: deep reads every frame, and headers=True only headers"):
        dv.scan(folder, progress=False, headers=True, deep=True)


def test_a_server_without_ranges_is_read_whole_once(folder):
    import functools
    import http.server

    pytest.importorskip("obstore", reason="web servers need obstore: the extra [cloud]")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Be quiet."""

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{httpd.server_port}/even/0.mp4"
            found = dv.scan([url], progress=False, headers=True)
        finally:
            httpd.shutdown()
            thread.join()
    assert found.table["regular"].to_pylist() == [True] and len(asked) <= 4
    assert measure(folder / "even" / "0.mp4")["num_frames"] == found.table["num_frames"][0].as_py()
