"""Files that are not the videos they are named as: what their first bytes say, beside FFmpeg's own text."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import write_numbered

import dali_vidaug as dv
from dali_vidaug.media.first_bytes import what_file_is


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {kind: write_numbered(folder / f"v.{kind}", 10).read_bytes() for kind in ("mp4", "mkv", "avi", "ts")}


def zipped():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("v.mp4", b"x" * 5000)
    return data.getvalue()


def tarred():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("v.mp4"), io.BytesIO())
    return data.getvalue()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
CASES = {
    "zeros": (bytes(5000), "zeros at its beginning"),
    "html": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
    "html_upper": (b"\xef\xbb\xbf<HTML><HEAD>" + b" " * 9000, "an HTML page"),
    "s3": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "an XML document: the answer to a download",
    ),
    "lfs": (POINTER.encode(), "a Git LFS pointer, not the video: run git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s3--abc.mp4\n", "a git-annex pointer"),
    "zip": (zipped(), "a ZIP archive"),
    "gzip": (gzip.compress(b"x" * 5000), "compressed with gzip"),
    "tar": (tarred(), "a tar archive"),
    "json": (b'{"error": "quota exceeded"}', "JSON text"),
    "text": ("caf\u00e9\n".encode() * 3000, "text"),
    "pdf": (b"%PDF-1.4\n" + bytes(range(256)) * 20, "a PDF document"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("extension", ["mp4", "avi", "mkv", "webm"])
def test_what_is_said(case, extension, videos, tmp_path):
    data, words = CASES[case]
    (tmp_path / f"v.{extension}").write_bytes(data)
    assert what_file_is(tmp_path / f"v.{extension}").startswith(words)
    (tmp_path / "good.mp4").write_bytes(videos["mp4"])
    (broken,) = dv.scan(tmp_path, progress=False).broken
    assert f"(the file is {words}" in broken.reason
    assert broken.reason.split(" (the file is")[0].startswith(
        ("Invalid data", "End of file", "no video", "Invalid arg")
    )


def test_an_empty_file_is_said_to_be_empty_once(videos, tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"")
    (tmp_path / "good.mp4").write_bytes(videos["mp4"])
    assert [b.reason for b in dv.scan(tmp_path, progress=False).broken] == ["the file is empty"]
    assert what_file_is(tmp_path / "v.mp4") == "empty" and what_file_is(tmp_path / "gone.mp4") is None


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_an_mp4_without_its_index(share, videos, tmp_path):
    """The index is at the end: a recording that was not finished has none."""
    data = videos["mp4"]
    index = data.index(b"moov") - 4
    (tmp_path / "v.mp4").write_bytes(data[: int(index * share)])
    (tmp_path / "good.mp4").write_bytes(data)
    (broken,) = dv.scan(tmp_path, progress=False).broken
    assert "Invalid data" in broken.reason and "no moov atom" in broken.reason
    (tmp_path / "v.mp4").write_bytes(data[:index])
    assert what_file_is(tmp_path / "v.mp4").startswith("an MP4 file without its index (no moov atom): a recording")
    (tmp_path / "v.mp4").write_bytes(data[: data.index(b"mdat") - 4])
    assert what_file_is(tmp_path / "v.mp4").startswith("the header of an MP4 file and nothing more")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "ts"])
def test_nothing_is_said_of_a_video(kind, videos, tmp_path):
    (tmp_path / "v").write_bytes(videos[kind])
    assert what_file_is(tmp_path / "v") is None


@pytest.mark.parametrize("kind, name", [("mkv", "Matroska"), ("avi", "AVI")])
def test_a_bare_header(kind, name, videos, tmp_path):
    (tmp_path / "v").write_bytes(videos[kind][:100])
    assert what_file_is(tmp_path / "v") == f"the header of a file in {name} and nothing more (100 bytes)"


@pytest.mark.parametrize("case", ["zeros", "html", "lfs", "zip", "pdf"])
@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_lists_that_are_none(case, name, tmp_path):
    data, words = CASES[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} cannot be read as a list: the file is {words}"):
        dv.scan(tmp_path / name)


def test_a_named_pipe_is_not_waited_for(videos, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.mp4").write_bytes(videos["mp4"])
    os.mkfifo(tmp_path / "a" / "1.mp4")
    code = "import sys, dali_vidaug as dv; print(dv.scan(sys.argv[1], progress=False).broken[0].reason)"
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert run.stdout == "not a regular file\n", run
