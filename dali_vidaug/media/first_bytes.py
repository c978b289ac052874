"""What a file is that is not the video it is named as, by its first bytes."""

from __future__ import annotations

import codecs
import os

from dali_vidaug.media.storage import Place, Source, open_bytes

_HEAD = 4096  # bytes looked at
_BARE = 1024  # a video file that is shorter is taken for a header alone
_MAGIC = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the video: run git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer, not the video: run git annex get"),
    (b"PK\x03\x04", "a ZIP archive: unpack it"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "compressed with gzip: unpack it"),
    (b"BZh", "compressed with bzip2: unpack it"),
    (b"\xfd7zXZ\0", "compressed with xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive: unpack it"),
    (b"%PDF-", "a PDF document"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
)
_VIDEO = (
    (b"\x1aE\xdf\xa3", "Matroska"),
    (b"FLV\x01", "FLV"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (b"RIFF", "AVI"),
    (b"OggS", "Ogg"),
    (b".RMF", "RealMedia"),
)
_BOXES = frozenset(b"ftyp moov mdat free skip wide styp moof pnot uuid sidx".split())


def what_file_is(path: str | os.PathLike[str]) -> str | None:
    """As ``what_it_is``, of a file on a disk; None if there is no such file."""
    try:
        with open_bytes(Place(os.fspath(path))) as source:
            return what_it_is(source)
    except OSError:
        return None


def what_it_is(source: Source) -> str | None:
    """Say what a file is that could not be opened as a video.

    Args:
        source: its bytes.

    Returns:
        A few words, or None if the first bytes say nothing, or cannot be read.
    """
    try:
        size = source.size
        (head,) = map(bytes, source.read([(0, min(_HEAD, size))]))
        if head[4:8] in _BOXES:
            return _examine_boxes(source, size)
    except (OSError, EOFError):
        return None
    if not head:
        return "empty"
    if not head.strip(b"\0"):
        return "zeros at its beginning: a download or copy that was not finished"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "a WebP picture"
    for magic, name in _VIDEO:
        if head.startswith(magic) and size < _BARE:
            return f"the header of a file in {name} and nothing more ({size} bytes)"
    return _text(head)


def _text(head):
    """What text it is, or None."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "an HTML page: the answer to a download that failed"
    if start.startswith((b"<?xml", b"<error")):
        return "an XML document: the answer to a download that failed" if b"<error" in start else "an XML document"
    printable = sum(byte >= 32 or byte in b"\t\r\n" for byte in head)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be incomplete
    except UnicodeDecodeError:
        return None
    if printable < len(head):
        return None
    return "JSON text" if start[:1] in (b"{", b"[") else "text"


def _examine_boxes(source, size):
    """What is missing of an MP4 or MOV file, by the boxes it consists of, or None."""
    position, found = 0, []
    while position + 8 <= size:
        (header,) = map(bytes, source.read([(position, min(position + 16, size))]))
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        length = length or size - position
        if length < 8:
            break
        found.append(kind)
        position += length
    if b"moov" in found or b"moof" in found:
        return f"cut short: {size} bytes of {position}" if position > size else None
    if b"mdat" not in found:
        return f"the header of an MP4 file and nothing more ({size} bytes): no moov atom"
    missing = f", and of its data {position - size} bytes are missing" if position > size else ""
    return f"an MP4 file without its index (no moov atom){missing}: a recording or download that was not finished"
