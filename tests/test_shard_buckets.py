"""Tar shards in a bucket: listed by headers, measured and read by place, one request a clip."""

import tarfile
from dataclasses import replace

import pytest
from conftest import RECIPE, same_content, take_batches

import dali_vidaug as dv
from dali_vidaug.data import measuring
from dali_vidaug.media.storage import open_bytes

pytest.importorskip("obstore")
moto = pytest.importorskip("moto.server")

OPTIONS = {"access_key_id": "key", "secret_access_key": "a-secret-of-tests", "region": "us-east-1"}


@pytest.fixture(scope="module")
def bucket(numbered, tmp_path_factory):
    """A bucket with three tar shards: its options, the requests that it got, and the manifest of the local shards."""
    from obstore.store import S3Store

    folder = tmp_path_factory.mktemp("bucket")
    packed = dv.pack(numbered, folder / "t-%06d.tar", shard_count=5, progress=False)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        import boto3

        client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id="key", aws_secret_access_key="a-secret-of-tests",
            region_name="us-east-1",
        )  # fmt: skip
        client.create_bucket(Bucket="videos")
        store = S3Store("videos", endpoint=endpoint, client_options={"allow_http": True}, **OPTIONS)
        for path in sorted(folder.glob("*.tar")):
            store.put(f"set/{path.name}", path.read_bytes())
        yield dv.Storage(options={**OPTIONS, "endpoint": endpoint}, whole_below=0), packed, client
    finally:
        server.stop()


NAMES = ["s3://videos/set", pytest.param("s3://videos/set/t-{000000..000002}.tar", marks=pytest.mark.slow), "list"]


@pytest.mark.parametrize("name", NAMES)
def test_shards_in_a_bucket_are_those_on_the_disk(bucket, name):
    storage, packed, _ = bucket
    path = [f"s3://videos/set/t-{i:06d}.tar" for i in range(3)] if name == "list" else name
    manifest = dv.scan(path, storage=storage, progress=False)
    assert manifest.root == "s3://videos/set" and manifest.classes == packed.classes
    of = {path: i for i, path in enumerate(packed.rows("path"))}
    local = packed.select([of[path] for path in manifest.rows("path")])
    for column in (*local.table.column_names,):
        if column not in ("mtime_ns", "etag", "packet_index"):
            assert manifest.table[column].to_pylist() == local.table[column].to_pylist(), column
    assert manifest.video(0).path.startswith("s3://videos/set/t-000000.tar/0000000") and manifest.video(0).etag


def test_a_clip_is_one_request(bucket, monkeypatch):
    from dali_vidaug.media.objects import Client

    storage, packed, _ = bucket
    manifest = dv.scan("s3://videos/set", storage=storage, progress=False)
    of = {path: i for i, path in enumerate(packed.rows("path"))}
    local = packed.select([of[path] for path in manifest.rows("path")])
    gets, get = [], Client.get

    def counted(self, url, span, *rest, **options):
        gets.append((url, span))
        return get(self, url, span, *rest, **options)

    monkeypatch.setattr(Client, "get", counted)
    options = dict(batch_size=4, seed=3, device="cpu", num_shards=1, shard_index=0, on_error="raise", prefetch=1)
    found = take_batches(dv.VideoLoader(manifest, RECIPE, **options, storage=storage), 3)
    expected = take_batches(dv.VideoLoader(local, RECIPE, **options), 3)
    assert all(same_content(one, other) for one, other in zip(found, expected, strict=True))
    gets = [(url, span) for url, span in gets if span != (0, 1)]  # of a new loader, to see that it may read
    assert 12 <= len(gets) <= 12 + 4 * 4  # those of batches ahead are under way
    for url, span in gets[:12]:
        rows = [i for i in range(12) if manifest.video(i).place.path == url]
        places = [manifest.video(i).place for i in rows]
        assert any(p.first <= span[0] < span[1] <= p.first + p.size for p in places)  # within one member


def test_a_warm_cache_asks_once_for_the_size_of_a_shard(bucket, tmp_path, monkeypatch):
    from dali_vidaug.media import object_reader
    from dali_vidaug.media.fetch_loop import wait_for
    from dali_vidaug.media.objects import Client, Stat

    storage = replace(bucket[0], cache=str(tmp_path / "cache"))
    etags = {i: bucket[2].head_object(Bucket="videos", Key=f"set/t-{i:06d}.tar")["ETag"] for i in range(3)}
    asked, stat = [], Client.stat

    def counted(self, url):
        asked.append(int(url[-10:-4]))
        return stat(self, url)

    monkeypatch.setattr(Client, "stat", counted)
    monkeypatch.setattr(object_reader, "_SIZES_KEPT", 2)

    def read(reader, *numbers):
        for i in numbers:
            url = f"s3://videos/set/t-{i:06d}.tar"
            data = bucket[2].get_object(Bucket="videos", Key=f"set/t-{i:06d}.tar")["Body"].read()
            assert wait_for(reader.read(url, [(7, 1000)], Stat(-1, etags[i]))) == [data[7:1000]]

    reader = object_reader.Reader(storage)
    read(reader, 0, 0, 1, 0, 1)
    assert asked == [0, 1] and reader.take_costs().requests == 4
    read(object_reader.Reader(storage), 2, 2)
    read(reader, 2, 1, 0)  # the first that is known goes
    assert asked == [0, 1, 2, 2, 0]
    etags[1] = '"other"'  # of a shard that was replaced, the size is not taken for that of the one that is meant
    for _ in range(2):
        with pytest.raises(ValueError, match="changed since it was scanned"):
            read(reader, 1)
    assert asked[5:] == [1, 1]


def test_a_shard_that_was_replaced_is_noticed(bucket, tmp_path, monkeypatch):
    storage, _, client = bucket
    output = tmp_path / "m.parquet"
    manifest = dv.scan("s3://videos/set/t-000001.tar", storage=storage, progress=False, output=output)
    data = client.get_object(Bucket="videos", Key="set/t-000001.tar")["Body"].read()
    try:
        client.put_object(Bucket="videos", Key="set/t-000001.tar", Body=data[:-1] + b"x")
        options = dict(batch_size=2, device="cpu", num_shards=1, shard_index=0, on_error="raise", storage=storage)
        with dv.VideoLoader(manifest, RECIPE, **options) as loader:
            with pytest.raises(dv.ClipError, match="changed since it was scanned"):
                next(iter(loader))
        measured = []
        measure = measuring.measure
        monkeypatch.setattr(measuring, "measure", lambda place, *a: measured.append(place) or measure(place, *a))
        again = dv.scan("s3://videos/set/t-000001.tar", storage=storage, progress=False, output=output)
        assert len(measured) == 5 and again.rows("num_frames").tolist() == manifest.rows("num_frames").tolist()
        dv.scan("s3://videos/set/t-000001.tar", storage=storage, progress=False, output=output)
        assert len(measured) == 5
    finally:
        client.put_object(Bucket="videos", Key="set/t-000001.tar", Body=data)


def test_videos_of_a_bucket_are_packed(bucket, tmp_path):
    storage, packed, _ = bucket
    manifest = dv.scan("s3://videos/set", storage=storage, progress=False)
    again = dv.pack(manifest, tmp_path / "%d.tar", shuffle=False, storage=storage, progress=False)
    with tarfile.open(tmp_path / "0.tar") as tar:
        for row in range(12):
            data = tar.extractfile(again.rows("path")[row].partition("/")[2]).read()
            rows = [i for i in range(12) if packed.rows("path")[i] == manifest.rows("path")[row]]
            place = packed.video(rows[0]).place
            with open_bytes(place) as source:
                assert data == bytes(source.read([(0, place.size)])[0])
    assert len(again) == 12


def test_the_manifest_of_a_pack_is_read_with_another_root(bucket, tmp_path):
    storage, packed, _ = bucket
    packed.write(tmp_path / "m.parquet")
    manifest = dv.Manifest.read(tmp_path / "m.parquet", root="s3://videos/set")
    options = dict(batch_size=4, seed=3, device="cpu", num_shards=1, shard_index=0, on_error="raise")
    found = take_batches(dv.VideoLoader(manifest, RECIPE, **options, storage=storage), 2)
    expected = take_batches(dv.VideoLoader(packed, RECIPE, **options), 2)
    assert all(same_content(one, other) for one, other in zip(found, expected, strict=True))
