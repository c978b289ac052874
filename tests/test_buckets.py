"""Videos in buckets: scans and clips are those of local files, whatever the network does, and cost what they must."""

import copy
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import by_container, numbered_frame, same_batch, shown_numbers, write_numbered, write_video

import dali_vidaug as dv
from dali_vidaug import fetching
from dali_vidaug.commands import cli
from dali_vidaug.data import measuring
from dali_vidaug.media.decode import decode
from dali_vidaug.media.fetch_loop import wait_for
from dali_vidaug.media.measure import measure
from dali_vidaug.media.needed import byte_ranges
from dali_vidaug.media.object_reader import Reader
from dali_vidaug.media.objects import client_of
from dali_vidaug.media.storage import Place
from dali_vidaug.urls import check_url, hide_secrets, split_url

pytest.importorskip("obstore", reason="buckets need obstore: the extra [cloud]")
servers = pytest.importorskip("servers")
pytest.importorskip("moto.server", reason="the servers of these tests are in the extra [test]")

BUCKET = "train-videos"
RECIPE = dv.Recipe(dv.ClipSampling(4, 2), (dv.Resize((48, 64)),))


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with servers.server("moto", tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture(scope="module")
def localbucket(tmp_path_factory):
    with servers.server("localbucket", tmp_path_factory.mktemp("localbucket")) as port:
        yield port


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight videos of numbered frames in two classes; of each kind, with a packet index and without."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(8):
        kind = ("mp4", "mp4", "mkv", "ts")[i % 4]
        write_numbered(root / ("even", "odd")[i % 2] / f"v {i}#100%+é.{kind}", 30 + 2 * i, options={"g": "12"})
    return root


@pytest.fixture(scope="module")
def uploaded(moto, folder):
    """The same in a bucket, beside objects that are no videos."""
    files = {f"data/{path.relative_to(folder)}": path for path in folder.rglob("*.*")}
    servers.put(
        moto, BUCKET, {**files, "data/notes.txt": b"no video", "data/odd/.hidden.mp4": b"", "elsewhere/x.mp4": b""}
    )
    return f"s3://{BUCKET}/data"


@pytest.fixture
def proxy(moto, uploaded):
    with servers.proxy(moto) as made:
        yield made


@pytest.fixture
def storage(proxy):
    return dv.Storage(whole_below=0, timeout=20, options=servers.options(proxy.port))


@pytest.fixture(scope="module")
def local(folder):
    return dv.scan(folder, progress=False)


@pytest.fixture(scope="module")
def scanned(moto, uploaded):
    return dv.scan(uploaded, progress=False, storage=dv.Storage(options=servers.options(moto)))


def batches(manifest, count=None, **options):
    options = {"device": "cpu", "seed": 3, "on_error": "raise", **options}
    with dv.VideoLoader(manifest, RECIPE, 2, **options) as loader:
        return list(islice(loader, count)), loader.report()


# ---- scans


@pytest.mark.parametrize("deep", [False, True])
def test_a_scan_says_of_objects_what_it_says_of_files(deep, uploaded, folder, storage, proxy):
    found = dv.scan(uploaded + "/", progress=False, storage=storage, deep=deep)
    expected = dv.scan(folder, progress=False, deep=deep)
    assert found.root == uploaded and found.classes == expected.classes and not found.broken
    assert found.path(0) == f"{uploaded}/{expected.rows('path')[0]}"
    ours, theirs = found.table.to_pylist(), expected.table.to_pylist()
    for one, other in zip(ours, theirs, strict=True):
        assert one.pop("etag") and one.pop("mtime_ns") is None and other.pop("mtime_ns") and not other.pop("etag")
        assert one == other
    for i in range(len(found)):
        one, other = found.video(i).packet_index, expected.video(i).packet_index
        assert (one and list(map(bytes, one))) == (other and list(map(bytes, other)))
    assert any("txt" in text for text in found.remarks) and any("hidden" in text for text in found.remarks)
    assert len(proxy.gets) == len(found), "an object that is not large is one request"


def test_a_large_object_is_scanned_by_blocks(moto, storage, proxy, tmp_path, monkeypatch):
    """It is not held whole; each of its blocks comes about once, the end of an MP4 file first."""
    from dali_vidaug.media import object_source

    path = tmp_path / "long.mp4"
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(280)]
    write_video(path, noise, options={"g": "12", "crf": "5"})
    assert path.stat().st_size > 3 << 20
    servers.put(moto, BUCKET, {"large/long.mp4": path})
    monkeypatch.setattr(object_source, "WHOLE_MAX", 1 << 20)
    row, other = measure(Place(f"s3://{BUCKET}/large/long.mp4"), storage=storage), measure(path)
    assert other["no_packet_index"] is None
    for name in other.keys() - {"etag", "mtime_ns"}:
        assert row[name] == other[name], name
    assert proxy.body_bytes < 1.6 * path.stat().st_size and len(proxy.gets) < 2 + 2 * path.stat().st_size / (1 << 20)
    assert max(int(b) - int(a) for a, b in (span.split("-") for _, span in proxy.gets)) < 8 << 20


def test_objects_that_did_not_change_are_not_measured_again(moto, storage, proxy, folder, tmp_path, monkeypatch):
    files = {f"again/{name}.mp4": next(folder.rglob("v 0*")) for name in "abc"}
    servers.put(moto, BUCKET, files)
    output, url = tmp_path / "m.parquet", f"s3://{BUCKET}/again"
    first = dv.scan(url, output=output, progress=False, storage=storage)
    measured, real = [], measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda place, *how: measured.append(place.path) or real(place, *how))
    proxy.forget()
    assert dv.scan(url, output=output, progress=False, storage=storage).table.equals(first.table)
    assert not measured and not proxy.gets
    servers.put(moto, BUCKET, {"again/b.mp4": next(folder.rglob("v 4*"))})
    again = dv.scan(url, output=output, progress=False, storage=storage)
    assert measured == [f"{url}/b.mp4"] and again.video(1).num_frames == 38
    listed = [f"{url}/{name}.mp4" for name in "abc"]  # of a list, each object is asked for
    output.with_suffix(".parquet").unlink()
    dv.scan(listed, output=output, progress=False, storage=storage)
    measured.clear()
    dv.scan(listed, output=output, progress=False, storage=storage)
    assert not measured


def test_lists_of_urls(uploaded, folder, local, storage, tmp_path):
    """URLs in a list, paths below a URL, and URLs in a program are the same videos."""
    names = [str(name) for name in local.rows("path")]
    labels = [local.classes[label] for label in local.labels]
    quoted = [f'"{name}",{label}' for name, label in zip(names, labels, strict=True)]
    (tmp_path / "relative.csv").write_text("\n".join(["path,label", *quoted]))
    complete = [f'"{uploaded}/{name}",{label}' for name, label in zip(names, labels, strict=True)]
    (tmp_path / "complete.csv").write_text("\n".join(["path,label", *complete]))
    options = {"progress": False, "storage": storage}
    found = [
        dv.scan(tmp_path / "relative.csv", root=uploaded, **options),
        dv.scan(tmp_path / "complete.csv", **options),
        dv.scan([f"{uploaded}/{name}" for name in names], labels=labels, **options),
        dv.scan(names, root=uploaded, labels=labels, **options),
    ]
    for manifest in found:
        assert [manifest.path(i) for i in range(8)] == [f"{uploaded}/{name}" for name in names]
        assert manifest.labels.tolist() == local.labels.tolist() and not manifest.broken
        assert not [text for text in manifest.remarks if "URL" in text or "%" in text]
    assert found[2].root == uploaded == found[3].root and found[1].root == str(tmp_path)
    one = dv.scan(f"{uploaded}/{names[0]}", **options)
    assert len(one) == 1 and one.path(0) == f"{uploaded}/{names[0]}"
    both = one + dv.scan(folder / names[1], progress=False)
    assert [both.path(0), both.path(1)] == [one.path(0), str(folder / names[1])]
    joined = found[0].select([0, 1]) + found[3].select([2, 3])
    assert [joined.path(i) for i in range(4)] == [f"{uploaded}/{name}" for name in names[:4]]
    with pytest.raises(ValueError, match="both have the same frames"):
        _ = found[0] + found[1]


@pytest.mark.parametrize("scheme, where", [("s3", "moto"), ("gs", "localbucket")])
def test_objects_that_are_no_videos_are_broken_one_by_one(scheme, where, request, folder, tmp_path):
    good, port = next(folder.rglob("v 0*")), request.getfixturevalue(where)
    storage = dv.Storage(options=servers.options(port))
    files = {"a.mp4": good, "b.mp4": b"", "c.mp4": b"<!DOCTYPE html>" + b" " * 5000, "d.mp4": good.read_bytes()[:900]}
    servers.put(port, BUCKET, {f"bad/{name}": data for name, data in files.items()})
    if scheme == "gs":  # the same server speaks enough of it
        account = {"gcs_base_url": storage.options["endpoint"], "disable_oauth": True}
        account |= {"client_email": "", "private_key": "", "private_key_id": ""}
        (tmp_path / "account.json").write_text(json.dumps(account))
        storage = dv.Storage(options={"service_account_path": str(tmp_path / "account.json"), "allow_http": True})
    manifest = dv.scan(f"{scheme}://{BUCKET}/bad", progress=False, storage=storage)
    assert len(manifest) == 1 and len(batches(manifest, drop_last=False, storage=storage)[0]) == 1
    reasons = {Path(one.path).name: one.reason for one in manifest.broken}
    assert reasons["b.mp4"] == "the file is empty" and "an HTML page" in reasons["c.mp4"]
    assert "no moov atom" in reasons["d.mp4"] or "cut short" in reasons["d.mp4"]
    urls = [f"{scheme}://{BUCKET}/bad/{name}.mp4" for name in ("a", "none")]
    broken = dv.scan(urls, progress=False, storage=storage).broken
    assert [one.reason for one in broken] == [f"there is no object {urls[1]}"]


def test_a_web_server(folder, local, tmp_path):
    """One without ranges, as Python's own is: objects come whole."""
    import functools
    import http.server

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Be quiet."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            base = f"http://127.0.0.1:{httpd.server_port}"
            from urllib.parse import quote

            names = [str(name) for name in local.rows("path")]
            manifest = dv.scan([f"{base}/{quote(name)}" for name in names], progress=False)
            assert not manifest.broken and len(manifest) == len(local)
            made, expected = batches(manifest, shuffle=False)[0], batches(local, shuffle=False)[0]
            assert all(torch.equal(a.clips, b.clips) for a, b in zip(made, expected, strict=True))
            with pytest.raises(ValueError, match="a web server has no list of its files"):
                dv.scan(f"{base}/even", progress=False)
        finally:
            httpd.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["a%20b.mp4", "100%25 é.mp4"])
def test_a_name_that_would_be_of_another_file_in_a_new_root(name, numbered, tmp_path):
    """Names are quoted on web servers alone: ``a%20b.mp4`` is there the name of ``a b.mp4``."""
    one, web = next(numbered.rglob("*.mp4")), "https://127.0.0.1:1/videos"
    (tmp_path / "videos").mkdir()
    for other in (name, "a b+c?#50%.mp4"):
        (tmp_path / "videos" / other).symlink_to(one)
    dv.scan(tmp_path / "videos", output=tmp_path / "m.parquet", progress=False)
    with pytest.raises(ValueError, match=rf"1 name would be of other files \({re.escape(name)}\): scan them there"):
        dv.Manifest.read(tmp_path / "m.parquet", root=web)
    for root in (tmp_path, "s3://bucket/videos"):
        moved = dv.Manifest.read(tmp_path / "m.parquet", root=root)
        assert sorted(moved.path(i) for i in range(2)) == sorted(f"{root}/{n}" for n in (name, "a b+c?#50%.mp4"))
    (tmp_path / "videos" / name).unlink()
    dv.scan(tmp_path / "videos", output=tmp_path / "m.parquet", progress=False)
    moved = dv.Manifest.read(tmp_path / "m.parquet", root=web)
    assert split_url(moved.path(0)) == ("https://127.0.0.1:1", "videos/a b+c?#50%.mp4")
    moved.write(tmp_path / "web.parquet")  # and back
    assert dv.Manifest.read(tmp_path / "web.parquet", root=tmp_path).path(0) == f"{tmp_path}/a b+c?#50%.mp4"


# ---- clips


@pytest.mark.parametrize("whole_below", [0, 4 << 20])
@pytest.mark.parametrize("check_files", ["size_and_time", "size", "off"])
def test_whatever_is_compared_clips_are_those_of_files(check_files, whole_below, scanned, local, storage):
    """With ``off`` not even the size is known, with a packet index or without."""
    how = {"shuffle": False, "check_files": check_files}
    made = batches(scanned, storage=replace(storage, whole_below=whole_below), **how)[0]
    expected = batches(local, **how)[0]
    assert len(made) == 4 and all(same_batch(a, b) for a, b in zip(made, expected, strict=True))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("dali_vidaug-fetch", "asyncio"))]


def test_without_another_try_the_whole_timeout_is_waited_for(scanned, storage, proxy):
    proxy.latency = 0.8
    assert len(batches(scanned, 1, storage=replace(storage, retries=0, timeout=1.6), num_threads=1)[0]) == 1


def test_a_server_that_does_not_answer_is_no_slow_file(scanned, storage, proxy):
    """Seconds are told that passed: those of the loader's own timeout alone."""
    proxy.hang = "v%202"
    how = {"shuffle": False, "on_error": "skip", "drop_last": False, "timeout": 300}
    made, report = batches(scanned, 4, storage=replace(storage, timeout=1.5), **how)
    assert len(made) == 4 and len(report.bad) == 1
    assert all(seconds < 100 for seconds in report.slowest.values()), report.slowest


def test_an_object_that_is_shorter_where_nothing_is_compared(moto, storage, folder):
    """The server says that there are no such bytes."""
    name = next(path for path in folder.rglob("*.mp4") if path.name.startswith("v 0"))
    servers.put(moto, BUCKET, {"shorter/a.mp4": name})
    manifest = dv.scan(f"s3://{BUCKET}/shorter", progress=False, storage=storage)
    servers.put(moto, BUCKET, {"shorter/a.mp4": name.read_bytes()[:3000]})
    with pytest.raises(dv.ClipError, match="a.mp4 .*it ends before byte|a.mp4 .*scan again"):
        batches(manifest, 1, storage=storage, check_files="off", drop_last=False)


def test_a_cache_that_keeps_nothing_says_so(uploaded, folder, storage, tmp_path, caplog):
    """Of a manifest of files that were uploaded no ETags are known; or nobody wants to compare them."""
    dv.scan(folder, output=tmp_path / "m.parquet", progress=False)
    moved = dv.Manifest.read(tmp_path / "m.parquet", root=uploaded)
    scanned = dv.scan(uploaded, progress=False, storage=storage)
    cache = tmp_path / "cache"
    storage = replace(storage, cache=cache)
    for manifest, how, told in (
        (scanned, "size_and_time", 0), (scanned, "off", 1), (moved, "size_and_time", 1), (moved, "off", 1)
    ):  # fmt: skip
        shutil.rmtree(cache, ignore_errors=True)
        caplog.clear()
        assert len(batches(manifest, 3, storage=storage, check_files=how)[0]) == 3
        assert caplog.text.count("is not kept in Storage(cache=): its ETag is not known") == told
        assert told or any(path.is_file() for path in cache.glob("*/*"))


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"decoder": "hybrid"}], ids=str)
def test_clips_are_those_of_local_files(options, scanned, local, storage):
    """As threads of this process decode them, where other processes do, too."""
    made, report = batches(scanned, storage=storage, **options)
    expected, _ = batches(local, **{**options, "workers": 0})
    assert len(made) == 4 and all(map(same_batch, made, expected)) and not report.bad
    assert report.requests and report.bytes_fetched and "objects: " in str(report)


def test_processes_read_what_was_not_fetched_for_them(scanned, local, storage, proxy, monkeypatch):
    """Containers that are too large to be held, block by block."""
    rows = [i for i in range(8) if scanned.video(i).packet_index is None]
    assert rows
    monkeypatch.setattr(fetching, "WHOLE_MAX", 0)
    proxy.forget()
    made, report = batches(scanned.select(rows), workers=1, storage=storage, drop_last=False)
    assert len(proxy.gets) >= len(rows) and report.requests == 0  # by the other process
    expected, _ = batches(local.select(rows), drop_last=False)
    assert len(made) == len(expected) and all(map(same_batch, made, expected)) and not report.bad


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_decoding_by_hand(kind, scanned, moto, monkeypatch):
    """Outside a loader, credentials and the endpoint are in the environment."""
    for name, value in servers.options(moto).items():
        monkeypatch.setenv(f"AWS_{name.upper()}".replace("ENDPOINT", "ENDPOINT_URL"), value)
    video = next(v for v in map(scanned.video, range(8)) if v.path.endswith(kind))
    for one in (video, by_container(video)):
        assert shown_numbers(decode(one, np.array([25, 3, 14])).pixels) == [25, 3, 14]
    assert threading.active_count() and not [t for t in threading.enumerate() if t.name == "dali_vidaug-fetch"]


def test_requests_and_bytes_of_a_clip(scanned, storage, proxy):
    """By the index: one request each, and little more than the bytes from the first packet to the last."""
    rows = [i for i in range(8) if scanned.video(i).packet_index is not None]
    manifest = scanned.select(rows)
    assert len(rows) >= 6
    with dv.VideoLoader(manifest, RECIPE, 2, device="cpu", storage=storage, prefetch=1) as loader:
        proxy.forget()
        for _ in range(12):
            list(loader)
        loader.close()
        report = loader.report()
    deadline = time.monotonic() + 10
    while proxy.under_way and time.monotonic() < deadline:  # read ahead, and not wanted any more
        time.sleep(0.01)
    asked = [tuple(map(int, span.split("-"))) for _, span in proxy.gets]
    clips, planned = len(proxy.gets), sum(last + 1 - first for first, last in asked)
    assert 72 <= report.clips <= clips <= 1.05 * (report.clips + 2 * 2), "up to two batches are under way"
    assert report.requests <= clips and proxy.body_bytes == planned
    for i in range(len(manifest)):  # each of these ranges is one that some clip needs, not a whole file
        video = manifest.video(i)
        (needed,) = byte_ranges(video, video.packet_index, np.arange(2, 10, 2), False)
        packets = needed[1] - needed[0]
        assert 0 < packets < 0.7 * video.bytes
    mean = proxy.body_bytes / clips / np.mean([manifest.video(i).bytes for i in range(len(manifest))])
    assert mean < 0.7


def test_reads_that_are_under_way(scanned, storage, proxy):
    """As many as may be, where the batches made ahead have as many clips; decoding threads do not count."""
    proxy.latency = 0.4
    for in_flight, expected in ((64, 5 * 8), (5, 5)):  # 2 * prefetch + 1 batches
        proxy.forget()
        how = dv.Storage(in_flight=in_flight, options=storage.options)
        with dv.VideoLoader(scanned, RECIPE, 8, device="cpu", storage=how, num_threads=1, prefetch=2) as loader:
            next(iter(loader))
        assert proxy.most_under_way == expected
        while proxy.under_way:  # what was given up
            time.sleep(0.01)


@pytest.mark.parametrize("fault", ["fail_every", "cut_every"])
def test_answers_that_fail_or_are_cut_off(fault, scanned, local, storage, proxy):
    setattr(proxy, fault, 3)
    made, report = batches(scanned, storage=storage, shuffle=False)
    assert all(map(same_batch, made, batches(local, shuffle=False)[0])) and not report.bad
    assert len(proxy.gets) > 9


def test_a_server_that_does_not_answer_costs_one_timeout(scanned, storage, proxy):
    slow = dv.Storage(timeout=1.5, retries=2, options=storage.options)
    proxy.hang = "v%203"
    before = time.monotonic()
    made, report = batches(scanned, storage=slow, on_error="skip", shuffle=False, drop_last=False)
    assert 1.4 < time.monotonic() - before < 6
    assert report.skipped == 1 and "did not answer within 1.5 s" in report.bad[next(iter(report.bad))][1]
    assert sum(len(batch.samples) for batch in made) == 7


def test_closing_does_not_wait_for_a_server(scanned, storage, proxy):
    loader = dv.VideoLoader(scanned, RECIPE, 2, device="cpu", storage=storage)
    proxy.hang = "even"
    errors = []

    def wait():
        try:
            next(iter(loader))
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not proxy.under_way:
        time.sleep(0.01)
    before = time.monotonic()
    loader.close()
    thread.join(5)
    assert not thread.is_alive() and time.monotonic() - before < 3 and "was closed" in str(errors)
    assert not [t for t in threading.enumerate() if t.name.startswith(("dali_vidaug-fetch", "dali_vidaug-graph"))]


@pytest.mark.parametrize("before", ["", "import weakref; weakref.finalize(weakref, int); "])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_program_that_closes_nothing_ends_in_silence(workers, before, scanned, moto, tmp_path):
    """In the middle of an epoch; whoever has asked first to be called at its end."""
    scanned.write(tmp_path / "m.parquet")
    code = (
        f"{before}import dali_vidaug as dv; manifest = dv.Manifest.read({str(tmp_path / 'm.parquet')!r}); "
        f"storage = dv.Storage(options={servers.options(moto)!r}, whole_below=0); "
        "recipe = dv.Recipe(dv.ClipSampling(4), (dv.Resize((32, 32)),)); "
        f"loader = dv.VideoLoader(manifest, recipe, 2, device='cpu', storage=storage, workers={workers}); "
        "print(len(next(iter(loader)).clips))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


@pytest.mark.parametrize("indexed", [True, False])
def test_an_object_that_was_replaced(indexed, moto, folder, tmp_path, storage):
    """By another one of the same size: by its ETag, and by the packets' checksums where the server has no ETag."""
    first, other = tmp_path / "a.ts", tmp_path / "b.ts"
    write_numbered(first, 30, options={"g": "12"})
    write_video(other, map(numbered_frame, reversed(range(30))), options={"g": "12"})
    data = first.read_bytes()
    size = max(len(data), other.stat().st_size)
    servers.put(moto, BUCKET, {"replaced/a.ts": data.ljust(size, b"\0")})
    manifest = dv.scan(f"s3://{BUCKET}/replaced", progress=False, storage=storage, index=indexed)
    servers.put(moto, BUCKET, {"replaced/a.ts": other.read_bytes().ljust(size, b"\0")})
    options = {"drop_last": False, "storage": storage}
    with pytest.raises(dv.ClipError, match="changed since it was scanned"):
        batches(manifest, **options)
    etag = manifest.table.column_names.index("etag")
    nothing = manifest.table.set_column(etag, "etag", pa.nulls(1, pa.string()))
    with pytest.raises(dv.ClipError, match="changed since it was scanned"):
        batches(dv.Manifest(nothing, (), manifest.root, packets=manifest.packets), **options)
    servers.put(moto, BUCKET, {"replaced/a.ts": data})
    with pytest.raises(OSError, match="VideoLoader: .* bytes, and had .*; scan again"):
        batches(manifest, **options)


@pytest.mark.parametrize("changed, said", [(b"1", "has the ETag"), (b"00", "bytes, and had")])
def test_an_etag_that_is_not_honoured(changed, said, localbucket, tmp_path):
    """This server ignores If-Match, and the object is another one in bytes that no clip needs."""
    data = write_numbered(tmp_path / "a.mp4", 30).read_bytes()
    storage = dv.Storage(whole_below=0, options=servers.options(localbucket))
    servers.put(localbucket, BUCKET, {"etags/a.mp4": data + b"0"})
    manifest = dv.scan(f"s3://{BUCKET}/etags", progress=False, storage=storage)
    if len(changed) > 1:  # a manifest of local files has no ETag
        at = manifest.table.column_names.index("etag")
        table = manifest.table.set_column(at, "etag", pa.nulls(1, pa.string()))
        manifest = dv.Manifest(table, (), manifest.root, packets=manifest.packets)
    options = {"device": "cpu", "storage": storage, "on_error": "raise"}
    with dv.VideoLoader(manifest, RECIPE, 1, **options) as loader:
        assert len(list(loader)) == 1
    with dv.VideoLoader(manifest, RECIPE, 1, **options) as loader:
        servers.put(localbucket, BUCKET, {"etags/a.mp4": data + changed})
        with pytest.raises(dv.ClipError, match=f"changed since it was scanned: it has .*{said.removeprefix('has ')}"):
            list(loader)


def test_the_loop_ends_with_the_last_that_needs_it(scanned, storage):
    """Whatever comes and goes at the same time."""
    found, video = [], scanned.video(0)

    def come_and_go():
        for _ in range(12):
            found.append(wait_for(client_of(storage).stat(video.path)))

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 48 and set(found) == {(video.bytes, video.etag)}
    assert not [thread for thread in threading.enumerate() if thread.name == "dali_vidaug-fetch"]


# ---- what is refused


def test_rows_of_buckets_and_of_files_are_looked_at_by_their_own_kind(moto, uploaded, scanned, folder, tmp_path):
    """Whichever come first: a loader is refused if nothing that it looks at is as it was scanned."""
    file = tmp_path / "x.mp4"
    file.write_bytes(next(folder.rglob("v 0*")).read_bytes())
    one = dv.scan([file], labels=["even"], like=scanned, progress=False)
    storage = dv.Storage(options=servers.options(moto), timeout=20)
    gone = dv.Manifest(scanned.table, scanned.classes, f"s3://{BUCKET}/none", packets=scanned.packets)
    for manifest in (one + scanned, scanned + one, one + gone, gone + one):
        for check in ("auto", "size", "size_and_time"):
            dv.VideoLoader(manifest, RECIPE, 1, device="cpu", storage=storage, check_files=check).close()
    file.write_bytes(file.read_bytes() + b"x")
    for manifest in (one + scanned, scanned + one):
        dv.VideoLoader(manifest, RECIPE, 1, device="cpu", storage=storage).close()
    for manifest in (one + gone, gone + one):
        with pytest.raises(FileNotFoundError, match=f"VideoLoader: .*there is no object s3://{BUCKET}/none/"):
            dv.VideoLoader(manifest, RECIPE, 1, device="cpu", storage=storage)


def test_credentials_are_refused_in_one_sentence(tmp_path, folder, monkeypatch):
    with servers.server("nanio", tmp_path) as port:
        servers.put(port, BUCKET, {"v/a.mp4": next(folder.rglob("v 0*"))})
        right, url = dv.Storage(options=servers.options(port)), f"s3://{BUCKET}/v"
        manifest = dv.scan(url, progress=False, storage=right)
        assert len(batches(manifest, drop_last=False, storage=right)[0]) == 1
        wrong = dv.Storage(options=servers.options(port, "wrong-secret-0123456789"))
        said = rf"s3://{BUCKET} refuses the credentials: the secret key is wrong \(SignatureDoesNotMatch\)"
        with pytest.raises(PermissionError, match=said) as error:
            dv.scan(url, progress=False, storage=wrong)
        assert "\n" not in str(error.value) and "wrong-secret" not in str(error.value) and error.value.__cause__ is None
        with pytest.raises(PermissionError, match=f"VideoLoader: {said}"):
            dv.VideoLoader(manifest, RECIPE, 1, device="cpu", storage=wrong)
        with pytest.raises(FileNotFoundError, match="there is no bucket s3://other-bucket"):
            dv.scan("s3://other-bucket/v", progress=False, storage=right)
        with pytest.raises(FileNotFoundError, match=f"VideoLoader: .*there is no object s3://{BUCKET}/none/a.mp4"):
            dv.VideoLoader(
                dv.Manifest(manifest.table, (), f"s3://{BUCKET}/none"), RECIPE, 1, device="cpu", storage=right
            )
        assert _main(["scan", url, "-o", str(tmp_path / "m.parquet")], port, monkeypatch, "wrong-0123456789") != 0
        assert _main(["scan", url, "-o", str(tmp_path / "m.parquet")], port, monkeypatch) == 0  # they are read again
    with pytest.raises(OSError, match=rf"s3://{BUCKET} cannot be read after 1 retries"):
        dv.scan(url, progress=False, storage=dv.Storage(retries=1, options=servers.options(port)))


def _main(arguments, port, monkeypatch, secret=servers.SECRET):
    for name, value in servers.options(port, secret).items():
        monkeypatch.setenv(f"AWS_{name.upper()}".replace("ENDPOINT", "ENDPOINT_URL"), value)
    return cli.main(arguments)


def test_profiles_are_read(moto, uploaded, tmp_path, monkeypatch):
    """Credentials in ~/.aws, as the aws command has them, where boto3 is installed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {servers.KEY}\naws_secret_access_key = {servers.SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{moto}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    storage = dv.Storage(options={"user_agent": "a new client"})
    assert len(dv.scan(f"{uploaded}/odd", progress=False, storage=storage)) == 4


@pytest.mark.parametrize(
    "url",
    [
        "https://SECRET@host/a.mp4", "https://SECRET@host:80/a.mp4", "s3://KEY:SEC/SECRET@b/a.mp4",
        "https://user:p@SECRET@host/a.mp4", "https://user:p@a/SECRET@host/a.mp4", "https://user:12?SECRET@host/a.mp4",
        "https://user:1#SECRET@host", "https://user:p/SECRET@host/a.mp4", "abfss://c:SECRET@acct/a.mp4", "s3://KEY:SECRET/b",
        "abfss://c:x@SECRET@acct/a.mp4", "gs://SECRET@bucket/a.mp4", "ftp://u:p/SECRET@host/a.mp4",
        "https://u:p\N{ACCOUNT OF}SECRET@host/a.mp4", "https://u:[SECRET@host/a.mp4", "s3://b/a.mp4?X-Amz-Signature=SECRET",
        "s3://b/a.mp4?v=1&sig=SECRET", "az://b/a.mp4&sig=SECRET", "s3://b/a.mp4?AWSAccessKeyId=SECRET&Signature=SECRET",
        "gs://b/a.mp4?X-Goog-Signature=SECRET",
    ],
)  # fmt: skip
def test_secrets_in_urls_are_refused_and_not_shown(url, tmp_path):
    (tmp_path / "list.csv").write_text(f"path,label\n{url},1\n")
    for path in (url, [url], tmp_path / "list.csv"):
        with pytest.raises(ValueError, match=r"\*\*\*") as error:
            dv.scan(path, progress=False)
        assert "SECRET" not in str(error.value)
    assert "SECRET" not in hide_secrets(f"no {url}, sorry")


def test_urls_with_colons_and_at_signs_that_are_no_secrets():
    for url in (
        "s3://bucket/a:b@c.mp4", "https://host:8080/a@b.mp4", "abfss://videos@account.dfs.core.windows.net/a@b:c.mp4",
        "http://[::1]:80/a@b.mp4", "s3://bucket/design=1&x?.mp4",
    ):  # fmt: skip
        assert check_url(url) == url and hide_secrets(url).split("?")[0] == url.split("?")[0]


@pytest.mark.parametrize(
    "url, said",
    [
        ("ftp://host/v", "URLs must begin with s3://"),
        ("s3:///v", "there is no bucket or server in it"),
        ("https://host/v.mp4?X-Amz-Signature=abcdef", "a URL with a signature, a query or a password is not kept"),
        ("https://user:password@host/v.mp4", "a URL with a signature, a query or a password is not kept"),
        ("s3://key:secret@bucket/v", "credentials come from the environment"),
        (f"s3://{BUCKET}/list.csv", "a list is read from this machine: copy it"),
        (f"s3://{BUCKET}/nothing-here", "there are no objects in"),
    ],
)
def test_urls_that_are_refused(url, said, storage, tmp_path):
    (tmp_path / "list.csv").write_text(f"path\n{url}")
    given = [url, [url]] + ([tmp_path / "list.csv"] if "BUCKET" not in said and BUCKET not in url else [])
    for path in given if BUCKET not in url else [url]:
        with pytest.raises(ValueError, match=said) as error:
            dv.scan(path, progress=False, storage=storage)
        assert not re.search("abcdef|password@|:secret", str(error.value))


def test_options_and_secrets(tmp_path, scanned, monkeypatch):
    storage = dv.Storage(options={"secret_access_key": "very-secret", "endpoint": "http://127.0.0.1:1"})
    assert "very-secret" not in repr(storage) and "secret_access_key" in repr(storage)
    assert pickle.loads(pickle.dumps(storage)) == storage == copy.deepcopy(storage) and hash(storage) is not None
    assert storage != dv.Storage(options={"secret_access_key": "another", "endpoint": "http://127.0.0.1:1"})
    assert b"testsecretkey" not in pickle.dumps(scanned)
    scanned.write(tmp_path / "m.parquet")
    assert all(servers.SECRET.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    for field, value in {
        "in_flight": 0, "timeout": 0, "retries": -1, "whole_below": -1, "cache": 3, "cache_limit": 5, "options": [1],
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"Storage: {field}"):
            dv.Storage(**{field: value})
    with pytest.raises(ValueError, match="Storage: cache_limit is for a cache"):
        dv.Storage(cache_limit=1 << 30)
    assert dv.Storage(cache=tmp_path) == dv.Storage(cache=str(tmp_path)) and dv.Storage(cache=tmp_path).cache == str(
        tmp_path
    )
    (tmp_path / "file").write_text("")
    for cache in (tmp_path / "file", tmp_path / "file" / "below"):
        for call in (lambda s: dv.scan("s3://b/v", storage=s), lambda s: dv.VideoLoader(scanned, RECIPE, 1, storage=s)):
            with pytest.raises(ValueError, match=r"Storage\(cache='.*'\) must be a folder, and .*/file is none"):
                call(dv.Storage(cache=cache))
    with pytest.raises(OSError, match=r"Storage\(cache='/proc/none'\): the folder cannot be made: "):
        Reader(dv.Storage(cache="/proc/none"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ValueError, match=r"cannot be made: .* may not be written to"):
        dv.scan("s3://b/v", storage=dv.Storage(cache=tmp_path / "a" / "b"))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="cannot be opened with these options: .*nonsense") as error:
        dv.scan("s3://bucket/v", storage=dv.Storage(options={"nonsense": 1, "secret_access_key": "very-secret"}))
    assert "very-secret" not in str(error.value)
    for call in (lambda: dv.scan("s3://b/v", storage="x"), lambda: dv.VideoLoader(scanned, RECIPE, 1, storage=3)):
        with pytest.raises(ValueError, match=r"storage must be dv.Storage"):
            call()


def test_keys_that_cannot_be_read(moto, folder, storage):
    servers.put(moto, "odd-keys", {"a//b.mp4": next(folder.rglob("v 0*"))})
    with pytest.raises(ValueError, match="s3://odd-keys/a//b.mp4: keys with an empty name"):
        dv.scan("s3://odd-keys", progress=False, storage=storage)
    servers.put(moto, "tab-keys", {"v/\u00e4\tb.mp4": next(folder.rglob("v 0*"))})
    for path in ("s3://tab-keys/v", ["s3://tab-keys/v/\u00e4\tb.mp4"]):
        with pytest.raises(
            ValueError, match=r's3://tab-keys/v/\u00e4\\tb.mp4: keys with "\\t" in them cannot be read; rename them'
        ):
            dv.scan(path, progress=False, storage=storage)


def test_without_obstore(uploaded, monkeypatch):
    from dali_vidaug.media import objects

    monkeypatch.setattr(objects, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "dali-vidaug\[cloud\]"'):
        dv.scan(uploaded, progress=False, storage=dv.Storage(retries=1))
