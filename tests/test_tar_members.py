"""What lies where in tar files, compared with tarfile, which unpacks them, with GNU tar, and with arithmetic."""

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile

import numpy as np
import pytest

from dali_vidaug.data import tar_members
from dali_vidaug.data.tar_members import BLOCK, read_members
from dali_vidaug.media.storage import Place, open_bytes

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "/".join(["folder_with_a_long_name"] * 9)  # 215 characters


class Counting:
    """A source that counts what is read of it."""

    def __init__(self, source):
        self._source, self.name, self.size, self.reads, self.bytes = source, source.name, source.size, 0, 0

    def read(self, ranges):
        self.reads += len(ranges)
        self.bytes += sum(last - first for first, last in ranges)
        return self._source.read(ranges)


def contents_of(path, wanted=lambda name: False):
    with open_bytes(Place(str(path))) as source:
        return read_members(source, wanted)


def write_tar(path, members, form="pax", **options):
    """Write members (name, bytes) with tarfile."""
    with tarfile.open(path, "w", format=FORMATS[form], **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def some_members(names, sizes=(0, 1, 511, 512, 513, 20_000, 100_000)):
    rng = np.random.default_rng(0)
    return [(name, rng.bytes(sizes[i % len(sizes)])) for i, name in enumerate(names)]


@pytest.mark.parametrize("form", FORMATS)
def test_members_are_where_they_are_said_to_be(form, tmp_path):
    names = ["a.mp4", "./b.mp4", "run/c.json", "/d.txt", "ein tag mit ähren.mp4", "x" * 99, "y" * 100]
    names += [f"{LONG}/e.mp4"] + ([] if form == "ustar" else [LONG * 2, "z" * 101, "zwei/" + "ü" * 60 + ".mp4"])
    members = some_members(names + [f"{i:03d}.mp4" for i in range(30)])
    path = write_tar(tmp_path / "x.tar", members, form)
    found, problem = contents_of(path, lambda name: name.endswith((".json", ".txt")))
    data = path.read_bytes()
    assert problem is None and [member.name for member in found] == [name.lstrip("./") for name, _ in members]
    for member, (name, expected) in zip(found, members, strict=True):
        assert member.error is None and data[member.first : member.first + member.size] == expected
        assert member.data == (expected if name.endswith((".json", ".txt")) else None)
    with tarfile.open(path) as tar:
        assert [tar.extractfile(info).read() for info in tar] == [expected for _, expected in members]


@pytest.mark.parametrize("form", ["v7", "ustar", "posix", "gnu", "oldgnu"])
def test_members_of_gnu_tar(form, tmp_path):
    folder = tmp_path / "files"
    deep = folder / ("d" * 90) / ("e" * 90 if form not in ("v7",) else "e")
    deep.mkdir(parents=True)
    members = dict(some_members([f"{i}.mp4" for i in range(9)]))
    for i, (name, data) in enumerate(members.items()):
        (deep if i % 2 and form != "v7" else folder).joinpath(name).write_bytes(data)
    with (folder / "holes.mp4").open("wb") as file:
        file.truncate(1 << 20)  # without --sparse it is stored whole
    path = tmp_path / "x.tar"
    subprocess.run(["tar", f"--format={form}", "-cf", path, "-C", folder, "."], check=True)
    found, problem = contents_of(path)
    assert problem is None and len(found) == 10 and all(member.error is None for member in found)
    data, members["holes.mp4"] = path.read_bytes(), bytes(1 << 20)
    for member in found:
        expected = members.pop(member.name.split("/")[-1])
        assert data[member.first : member.first + member.size] == expected
    assert not members


def test_only_headers_are_read(tmp_path):
    members = some_members([f"{i}{kind}" for i in range(40) for kind in (".mp4", ".json")], (300_000, 200))
    path = write_tar(tmp_path / "x.tar", members)
    with open_bytes(Place(str(path))) as source:
        counting = Counting(source)
        found, problem = read_members(counting, lambda name: name.endswith(".json"))
    assert problem is None and sum(member.data is not None for member in found) == 40
    assert counting.reads <= 40 + 2 and counting.bytes < 0.07 * path.stat().st_size  # one read a video


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_member_of_more_than_8_gigabytes(form, tmp_path):
    """Its size does not fit the field of a header. The file has holes in place of the bytes."""
    path, size = tmp_path / "x.tar", 9 * 2**30 + 5
    info = tarfile.TarInfo("large.mp4")
    info.size = size
    head = info.tobuf(FORMATS[form])
    behind = tarfile.TarInfo("behind.txt")
    behind.size = 3
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size + -size % BLOCK)
        file.seek(0, 2)
        file.write(behind.tobuf(FORMATS[form]) + b"abc".ljust(BLOCK, b"\0") + bytes(2 * BLOCK))
    found, problem = contents_of(path, lambda name: name.endswith(".txt"))
    assert problem is None and [(m.name, m.first, m.size, m.error) for m in found[:1]] == [
        ("large.mp4", len(head), size, None)
    ]
    assert found[1].data == b"abc"
    with path.open("r+b") as file:
        file.truncate(1 << 20)
    (member,), problem = contents_of(path)
    assert (
        member.error == f"it is cut off: the tar file ends at byte {1 << 20}, and it would at byte {len(head) + size}"
    )
    assert problem == f"it is cut off at byte {1 << 20}, within a member"


def test_of_a_tar_file_that_is_cut_off_the_whole_members_are_known(tmp_path):
    members = some_members([f"{i}.mp4" for i in range(5)], (700, 1024, 3000))
    whole = write_tar(tmp_path / "x.tar", members, "ustar").read_bytes()
    places, at = [], 0
    for _, data in members:
        places.append((at + BLOCK, at + BLOCK + len(data)))
        at += BLOCK + len(data) + -len(data) % BLOCK
    path = tmp_path / "cut.tar"
    for size in [*range(BLOCK, at, 97), *range(BLOCK, at + 1, BLOCK), *(last for _, last in places)]:
        path.write_bytes(whole[:size])
        found, problem = contents_of(path)
        good = [(member.first, member.first + member.size) for member in found if member.error is None]
        assert good == [(first, last) for first, last in places if last <= size], size
        assert all("cut off" in member.error for member in found if member.error)
        assert problem and ("cut off" in problem or "damaged" in problem), size


def test_what_follows_a_damaged_header_is_not_read(tmp_path):
    members = some_members([f"{i}.mp4" for i in range(4)], (700,))
    path = write_tar(tmp_path / "x.tar", members, "ustar")
    data = bytearray(path.read_bytes())
    data[2 * 3 * BLOCK + 100] ^= 1  # mode of the third
    path.write_bytes(data)
    found, problem = contents_of(path)
    assert [member.name for member in found] == ["0.mp4", "1.mp4"]
    assert problem == f"it is damaged: at byte {6 * BLOCK} is no header; what follows is not read"
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="it is no tar file"):
        contents_of(path)
    with tarfile.open(write_tar(tmp_path / "y.tar", [("a" * 300, b"1"), ("b" * 300, b"2")], "gnu")) as tar:
        second = tar.getmembers()[1].offset
    data = bytearray((tmp_path / "y.tar").read_bytes())
    data[second + 2 * BLOCK + 5] ^= 1  # the header behind a long name
    path.write_bytes(data)
    found, problem = contents_of(path)
    assert [member.name for member in found] == ["a" * 300] and f"damaged at byte {second}" in problem


def test_tar_files_without_members_and_other_files(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="it is empty"):
        contents_of(path)
    path.write_bytes(b"not a tar file" * 100)
    with pytest.raises(ValueError, match="it is no tar file"):
        contents_of(path)
    assert contents_of(write_tar(path, [])) == ([], None)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_compressed_tar_files_are_refused(name, tmp_path):
    plain = write_tar(tmp_path / "x.tar", some_members(["a.mp4"]))
    packed = tmp_path / "y.tar"
    if name == "zstd":
        if not shutil.which("zstd"):
            pytest.skip("no zstd here")
        subprocess.run(["zstd", "-q", plain, "-o", packed], check=True)
    else:
        packed.write_bytes({"gzip": gzip, "bzip2": bz2, "xz": lzma}[name].compress(plain.read_bytes()))
    with pytest.raises(ValueError, match=f"it is compressed with {name}"):
        contents_of(packed)


def test_links_sparse_files_and_devices_are_named(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"video")
    (folder / "hard.mp4").hardlink_to(folder / "a.mp4")
    (folder / "soft.mp4").symlink_to("a.mp4")
    with (folder / "sparse.mp4").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    fifo = tarfile.TarInfo("pipe.mp4")
    fifo.type = tarfile.FIFOTYPE
    for form in ("gnu", "pax"):
        path = tmp_path / f"{form}.tar"
        options = ["--format=gnu" if form == "gnu" else "--format=posix", "--sparse", "--sort=name"]
        subprocess.run(["tar", *options, "-cf", path, "-C", folder, "."], check=True)
        with tarfile.open(path, "a") as tar:
            tar.addfile(fifo)
        found, problem = contents_of(path)
        errors = {member.name: member.error for member in found}
        assert problem is None and errors.pop("a.mp4") is None
        assert errors.pop("hard.mp4").startswith("it is a hard link to ./a.mp4, which the tar file has no bytes of")
        assert "symbolic link to a.mp4" in errors.pop("soft.mp4") and "--sparse" in errors.pop("sparse.mp4")
        assert errors == {"pipe.mp4": "it is no file"}


def test_what_is_behind_the_end_is_told(tmp_path):
    """As WebDataset and tar do, what is behind the end is not read; but it is told."""
    one = write_tar(tmp_path / "1.tar", [("a.mp4", b"1")]).read_bytes()
    path = tmp_path / "x.tar"
    path.write_bytes(one + one)
    found, problem = contents_of(path)
    assert len(found) == 1 and "after its end at byte 1024 there is more" in problem
    path.write_bytes(one + bytes(50_000))
    assert contents_of(path).problem is None
    path.write_bytes(one[: 2 * BLOCK])
    found, problem = contents_of(path)
    assert len(found) == 1 and found[0].error is None and "without the mark of an end" in problem


def test_global_headers_that_set_names_are_refused(tmp_path):
    path = tmp_path / "x.tar"
    assert contents_of(write_tar(path, [("a.mp4", b"1")], pax_headers={"comment": "by git"})).problem is None
    found, problem = contents_of(write_tar(path, [("a.mp4", b"1")], pax_headers={"path": "b.mp4"}))
    assert not found and "a global header sets names" in problem


def test_text_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_members, "LARGEST_READ", 1000)
    path = write_tar(tmp_path / "x.tar", [("a.json", bytes(1001)), ("b.json", bytes(1000))])
    found, _ = contents_of(path, lambda name: True)
    assert found[0].error == "it has 1001 bytes, too many to be read as text" and found[1].data == bytes(1000)


@pytest.mark.parametrize("form", FORMATS)
def test_a_header_is_that_of_its_member(form):
    """Each field that tells the place of the bytes, changed alone, with a sum that fits, is noticed."""
    info = tarfile.TarInfo("folder/name.mp4")
    info.size = 4711
    block = info.tobuf(FORMATS[form])
    assert len(block) == BLOCK and tar_members._is_header(block, info)
    for at, byte in ((0, b"x"), (128, b"1"), (156, b"5"), (148, b"7")):
        other = bytearray(block)
        other[at : at + 1] = byte
        if at != 148:
            other[148:156] = b"%06o\0 " % (sum(other) - sum(other[148:156]) + 8 * 32)
        assert not tar_members._is_header(bytes(other), info), at
    assert not tar_members._is_header(bytes(BLOCK), info)
