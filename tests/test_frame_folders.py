"""Folders of images as videos, compared with what Pillow makes of each image."""

import json
import os
import shutil
import struct
import time
import tracemalloc
import zlib
from contextlib import closing

import numpy as np
import pytest
from conftest import assert_pixels
from PIL import Image, ImageOps

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.data.entry import Entry, Listing, no_columns
from dali_vidaug.data.known import Known
from dali_vidaug.data.listed_files import ListedFiles, MeasureOptions
from dali_vidaug.media import measure as measure_module
from dali_vidaug.media.decode import decode
from dali_vidaug.media.frame_folder import files_of
from dali_vidaug.media.image_names import names_of, numbered
from dali_vidaug.media.images import decode_jpeg
from dali_vidaug.media.sharing import share_decoding
from dali_vidaug.ops import CROP

WIDTH, HEIGHT = 46, 34  # chroma is not a whole number of blocks


def picture(number, size=(WIDTH, HEIGHT), mode="RGB"):
    """An image whose pixels tell its number: smooth, with noise."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(rng.integers(0, 256, size[::-1], np.uint8)))
    return image.convert(mode)


def save(folder, numbers, name="img_{:05d}.jpg", **how):
    """Write numbered images; returns the folder."""
    mode, size = how.pop("mode", "RGB"), how.pop("size", (WIDTH, HEIGHT))
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(number, size, mode).save(folder / name.format(number), **how)
    return folder


def pillow(path):
    """The pixels of a file by Pillow alone."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def scan(path, **options):
    return dv.scan(path, progress=False, **options)


def row(manifest, *names):
    return [manifest.table[name].to_pylist() for name in names]


FILES = {
    "jpeg 420": ("{}.jpg", dict(subsampling=2)),
    "jpeg 422": ("{}.JPG", dict(subsampling=1)),
    "jpeg 444 progressive": ("{}.jpeg", dict(subsampling=0, progressive=True)),
    "jpeg grey": ("a-{:03d}.jpg", dict(mode="L")),
    "png": ("{:06d}.png", {}),
    "png grey": ("{:06d}.png", dict(mode="L")),
    "png alpha": ("frame{:06d}.PNG", dict(mode="RGBA")),
    "png grey alpha": ("f{}.png", dict(mode="LA")),
    "png palette": ("{}.png", dict(mode="P")),
    "png palette transparency": ("{}.png", dict(mode="P", transparency=bytes([0, 128]))),
    "png black and white": ("{}.png", dict(mode="1")),
    "webp": ("{}.webp", dict(quality=70)),
    "webp lossless": ("{}.webp", dict(lossless=True, mode="RGBA")),
    "bmp": ("{}.bmp", {}),
    "bmp palette": ("{}.bmp", dict(mode="P")),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # of the oracle
@pytest.mark.parametrize("kind", FILES)
def test_pixels_are_those_of_pillow(kind, tmp_path):
    name, how = FILES[kind]
    folder = save(tmp_path / "v", range(8, 13), name, **how)
    manifest = scan(folder, deep=True)
    assert row(manifest, "num_frames", "codec", "width", "height", "damaged") == [[5], ["images"], [46], [34], [[]]]
    frames = np.array([3, 0, 4, 0])
    clip = decode(manifest.video(0), frames)
    assert_pixels(clip.pixels, np.stack([pillow(folder / name.format(8 + i)) for i in frames]))
    assert clip.num_decoded == 3
    has_alpha = "alpha" in kind or "transparency" in kind or "lossless" in kind
    assert ("images with transparency, which is left out" in (row(manifest, "notes")[0][0] or "")) == has_alpha


def test_png_of_16_bits_a_channel_gives_the_upper_8(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (2, 6, 9, 3), np.uint16)
    for i, pixels in enumerate(values):
        rows = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
        chunks = (
            (b"IHDR", struct.pack(">IIBBBBB", 9, 6, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
        parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert_pixels(decode(scan(tmp_path).video(0), np.arange(2)).pixels, (values >> 8).astype(np.uint8))


def cmyk(path):
    picture(0).convert("CMYK").save(path)


def sixteen_bits(path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(path, "PNG")


def animation(path):
    picture(0).save(path, "WEBP", save_all=True, append_images=[picture(1)])


def cut_off(form):
    def make(path):
        picture(0).save(path, form)
        path.write_bytes(path.read_bytes()[:-9])

    return make


def other_size(path):
    picture(0, (WIDTH + 2, HEIGHT)).save(path, "PNG")


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0).save(path, "JPEG", exif=exif)


BAD = {
    "cmyk": (cmyk, "CMYK"),
    "16 bits": (sixteen_bits, "16 bits a pixel"),
    "animation": (animation, "an animation"),
    "jpeg cut off": (cut_off("JPEG"), "it is cut off"),
    "png cut off": (cut_off("PNG"), "it is cut off"),
    "webp cut off": (cut_off("WEBP"), "it is cut off"),
    "bmp cut off": (cut_off("BMP"), "it is cut off"),
    "no image": (lambda path: path.write_text("<html>not found</html>"), "cannot be read as JPEG, PNG, BMP, WEBP"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "zeros": (lambda path: path.write_bytes(bytes(999)), "zeros at its beginning"),
    "other size": (other_size, "48x34, others 46x34"),
    "turned": (turned, "46x34, EXIF orientation 6, others 46x34"),
    "folder": (lambda path: path.mkdir(), "Is a directory"),
    "named pipe": (os.mkfifo, "it is not a regular file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_image_that_cannot_be_used_is_named_and_avoided(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)  # as many programs do
    make, why = BAD[kind]
    save(tmp_path, [*range(1, 6), *range(7, 13)])
    make(tmp_path / "img_00006.jpg")
    manifest = scan(tmp_path)
    (notes,), (damaged,), *part = row(manifest, "notes", "damaged", "first_frame", "last_frame")
    assert "img_00006.jpg" in notes and why in notes, notes
    assert damaged == [5, 6] and part == [[6], [12]]  # the longer part
    assert any("rows with damaged frames" in text for text in manifest.remarks)
    with pytest.raises(ValueError, match=r"frame 5 \(img_00006.jpg\) was missing or damaged when"):
        decode(manifest.video(0), np.array([5]))


def test_damage_that_only_decoding_shows_is_found_by_a_deep_scan(tmp_path):
    save(tmp_path, range(12), "{}.png")
    data = bytearray((tmp_path / "3.png").read_bytes())
    at = data.index(b"IDAT") + 40
    data[at : at + 8] = bytes(8)
    (tmp_path / "3.png").write_bytes(data)
    manifest = scan(tmp_path)
    with pytest.raises(ValueError, match=r"frame 3 \(3.png\): it is damaged"):
        decode(manifest.video(0), np.array([3]))
    assert row(scan(tmp_path, deep=True), "damaged") == [[[3, 4]]]


def test_most_images_damaged_refuses_the_folder(tmp_path):
    save(tmp_path / "v", [5])
    for i in range(6, 17):
        (tmp_path / "v" / f"img_{i:05d}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"most frames cannot be used \(img_00006.jpg: it is empty;.* 8 more images"):
        scan(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_crop_and_scale(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form, exact in (("png", True), ("jpg", False)):
        how = {} if exact else {"subsampling": 0}
        path = save(tmp_path / form, range(3), f"{{}}.{form}", exif=exif, **how) / f"1.{form}"
        manifest = scan(tmp_path / form)
        shown = ImageOps.exif_transpose(Image.open(path))
        assert manifest.frame_sizes([0])[0][0] == shown.height and row(manifest, "orientation") == [[orientation]]
        video = manifest.video(0)
        assert_pixels(decode(video, np.array([1])).pixels[0], np.asarray(shown))
        crop = np.array([(3, 5, 29, 27, 26, 22)], CROP)[0]  # without scaling
        assert_pixels(decode(video, np.array([1]), [crop]).pixels[0], np.asarray(shown.crop((5, 3, 27, 29))))
        crop["out_height"], crop["out_width"] = 17, 20
        expected = np.asarray(shown.crop((5, 3, 27, 29)).resize((20, 17), Image.Resampling.BILINEAR))
        # Pillow rounds between its two passes, which are the other way round where the image is turned afterwards.
        most = 1 if orientation >= 5 else 0
        assert_pixels(decode(video, np.array([1]), [crop]).pixels[0], expected, max_diff=most if exact else JPEG_MOST)


JPEG_MOST = 20  # levels by which PyAV and libswscale may differ from Pillow, at edges of colour
SCALED = {
    "420": (dict(subsampling=2), True),
    "422": (dict(subsampling=1), True),
    "444": (dict(subsampling=0), True),
    "progressive": (dict(progressive=True), False),
    "grey": (dict(mode="L"), False),
    "rgb": (dict(keep_rgb=True), False),
}


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_jpeg_is_that_of_pillow_within_a_tolerance(kind, tmp_path):
    """Plain JPEG is decoded by PyAV; other JPEG by Pillow, exactly. Photographs have weaker colours than these."""
    how, plain = SCALED[kind]
    folder = save(tmp_path, range(6), "{}.jpg", size=(171, 129), quality=90, **how)
    assert (decode_jpeg((folder / "1.jpg").read_bytes()) is not None) == plain
    video = scan(folder).video(0)
    for top, left, bottom, right, height, width in ((3, 8, 120, 160, 64, 80), (10, 11, 61, 72, 96, 112)):
        crop = np.array([(top, left, bottom, right, height, width)], CROP)[0]
        found = decode(video, np.arange(6), [crop]).pixels
        part = [Image.open(folder / f"{i}.jpg").convert("RGB").crop((left, top, right, bottom)) for i in range(6)]
        expected = np.stack([np.asarray(one.resize((width, height), Image.Resampling.BILINEAR)) for one in part])
        assert_pixels(found, expected, max_diff=JPEG_MOST if plain else 0)
        difference = np.abs(found.astype(int) - expected)
        assert (0 < difference.mean() < 3 and np.percentile(difference, 98) <= 12) or not plain


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"more",
        lambda data: data[:-2] + b"\xff\xd8",
        lambda data: data.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x08"),
        lambda data: data[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + data[2:],  # RGB
        lambda data: data[: data.index(b"\xff\xda") + 40] + bytes(99) + b"\xff\xd9",  # damaged
    ],
)
def test_jpeg_that_is_not_plain_or_not_right_is_left_to_pillow(change, tmp_path):
    data = (save(tmp_path, [1]) / "img_00001.jpg").read_bytes()
    assert decode_jpeg(data) is not None and decode_jpeg(change(data)) is None


def test_all_ways_of_a_loader(tmp_path):
    for name in ("a/v1", "a/v2", "b/v3", "b/v4"):
        save(tmp_path / name, range(1, 15))
    manifest = scan(tmp_path, fps=10)
    assert manifest.classes == ("a", "b") and manifest.labels.tolist() == [0, 0, 1, 1]
    recipe = dv.Recipe(dv.MultiClip(dv.ClipSampling(num_frames=3, stride=2), 2), (dv.CenterCrop(32),))
    with dv.VideoLoader(manifest, recipe, 2, device="cpu", seed=3) as loader:
        batch = next(iter(loader))
    for clip, sample, frames in zip(batch.clips, batch.samples.tolist(), batch.plan.frames, strict=True):
        shown = [pillow(f"{manifest.path(sample)}/img_{1 + i:05d}.jpg")[1:33, 7:39] for i in frames]
        assert_pixels(clip.permute(1, 2, 3, 0).numpy(), np.stack(shown))
    part, other = manifest.split(0.5, by="class")
    joined = part + other
    (tmp_path / "m").mkdir()
    joined.write(tmp_path / "m" / "m.parquet")
    again = dv.Manifest.read(tmp_path / "m" / "m.parquet").select([3])
    assert_pixels(decode(again.video(0), np.array([13])).pixels[0], pillow(f"{again.path(0)}/img_00014.jpg"))
    with pytest.raises(ValueError, match="DALI does not decode images on the CPU"):
        dv.VideoLoader(manifest, recipe, 2, device="cpu", decoder="dali")
    assert share_decoding(manifest.video(0), [np.array([0, 1]), np.array([5, 1]), np.array([7])]) == [[0, 1], [2]]


def test_without_its_packet_index_a_folder_is_refused(tmp_path):
    save(tmp_path / "v", range(3))
    manifest = scan(tmp_path / "v", output=tmp_path / "m.parquet")
    (tmp_path / "m.parquet.packets").unlink()
    manifest = dv.Manifest.read(tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="names of its images are in the packet index, which is not beside"):
        decode(manifest.video(0), np.array([0]))


def test_only_wanted_images_are_read(tmp_path):
    folder = save(tmp_path, range(20))
    manifest = scan(folder)
    expected = pillow(folder / "img_00007.jpg")
    for path in folder.iterdir():
        if path.name != "img_00007.jpg":
            path.unlink()
    assert_pixels(decode(manifest.video(0), np.array([7])).pixels[0], expected)


# ---- Names and numbers


@pytest.mark.parametrize(
    "names, numbers, step",
    [
        (["img_10.jpg", "img_2.jpg", "img_1.jpg"], (1, 2, 10), 1),
        (["img_00000.JPG", "img_00001.jpg", "Thumbs.db", ".img_00002.jpg", "img_00003.txt"], (0, 1), 1),
        (["v_A_g01_c01_0001.jpg", "v_A_g01_c01_0002.jpg"], (1, 2), 1),  # v_ is a video, not one direction of flow
        (["img_1.jpg", "img_2.jpg", "flow_x_1.jpg", "flow_y_1.jpg", "x_1.jpg", "y_1.jpg"], (1, 2), 1),
        (["1_320.png", "2_320.png", "10_320.png"], (1, 2, 10), 1),
        (["46GP8-000001.jpg", "46GP8-000002.jpg"], (1, 2), 1),
        ([f"{5 * i}.jpg" for i in range(1, 12) if i != 4], tuple(5 * i for i in range(1, 12) if i != 4), 5),
        (["1.jpg", "3.jpg", "5.jpg"], (1, 3, 5), 1),  # too few to tell steps
        (["1403636579763555584.png", "1403636579813555456.png"], None, "most of which are missing"),
        (["a.jpg", "b.jpg"], None, "no numbers"),
        (["a_1.jpg", "a_2.jpg", "b_1.jpg"], None, r"2 sequences: a_1.jpg to a_2.jpg \(2\), b_1.jpg to b_1.jpg \(1\)"),
        (["img_1.jpg", "img_01.jpg"], None, "img_01.jpg and img_1.jpg have the same number"),
        (["1.jpg", "1.png"], None, "have the same number"),
        (["x_1.jpg", "y_1.jpg"], None, "optical flow"),
        (["a.mp4"], None, r"no images \(.bmp, .jpeg, .jpg, .png, .webp\)"),
    ],
)
def test_numbers_of_names(names, numbers, step):
    if numbers is None:
        with pytest.raises(ValueError, match=step):
            numbered(names)
        return
    found = numbered(names)
    assert (found.numbers, found.step) == (numbers, step)
    form = names_of(found)
    assert [form.of(n, (n - numbers[0]) // step) for n in numbers] == list(found.names)


def test_frame_names_choose_a_sequence(tmp_path):
    save(tmp_path, range(1, 4), "left_{}.png")
    save(tmp_path, range(11, 16), "right_{}.png")
    with pytest.raises(ValueError, match="2 sequences.*frame_names= says"):
        scan(tmp_path)
    manifest = scan(tmp_path, frame_names="right_*.png")
    assert_pixels(decode(manifest.video(0), np.array([4])).pixels[0], pillow(tmp_path / "right_15.png"))
    with pytest.raises(ValueError, match="no images named as 'up_.*', such as left_1.png is not"):
        scan(tmp_path, frame_names="up_*")
    with pytest.raises(ValueError, match="frame_names must be a pattern"):
        scan(tmp_path, frame_names=3)


@pytest.mark.parametrize("first", [0, 1])
def test_a_missing_number_moves_no_frame(first, tmp_path):
    folder = save(tmp_path / "c" / "v", [n for n in range(first, first + 30) if n - first not in (9, 12, 13)])
    manifest = scan(tmp_path)
    assert row(manifest, "num_frames", "damaged", "first_frame", "last_frame") == [[30], [[9, 10, 12, 14]], [14], [30]]
    assert f"image numbers that are missing: {first + 9}, {first + 12}, {first + 13}" in row(manifest, "notes")[0][0]
    for i in (8, 10, 14, 29):
        shown = pillow(folder / f"img_{first + i:05d}.jpg")
        assert_pixels(decode(manifest.video(0), np.array([i])).pixels[0], shown)
    plan = dv.draw_plan(manifest, dv.Recipe(dv.ClipSampling(num_frames=4), ()), [0] * 50)
    assert plan.frames.min() >= 14


def test_folders_that_begin_otherwise_than_most_are_told(tmp_path):
    for name, first in (("a", 0), ("b", 0), ("c", 1)):
        save(tmp_path / "x" / name, range(first, 4))
    told = next(text for text in scan(tmp_path).remarks if "do not begin with number 0" in text)
    assert "as 2 do: 1 (x/c)" in told


# ---- Times


def test_frame_rates(tmp_path):
    save(tmp_path / "a" / "v", range(1, 41))
    by_time = dv.Recipe(dv.ClipSampling(num_frames=4, fps=5, start="first"), ())
    manifest = scan(tmp_path, fps=20)
    assert row(manifest, "fps", "duration_seconds") == [[20.0], [2.0]]
    assert dv.draw_plan(manifest, by_time, [0]).frames.tolist() == [[0, 4, 8, 12]]
    untimed = scan(tmp_path)
    assert row(untimed, "fps", "duration_seconds", "time_base") == [[None]] * 3
    with pytest.raises(
        ValueError, match="fps cannot be used for sample 0 .*neither its time stamps nor its frame rate"
    ):
        dv.draw_plan(untimed, by_time, [0])
    assert dv.draw_plan(untimed, dv.Recipe(dv.ClipSampling(num_frames=4), ()), [0]).frames.max() < 40
    (tmp_path / "l.csv").write_text("path,fps,start,end\na/v,10,1,2\na/v,20,1,2\na/v,,1,2\n")
    manifest = scan(tmp_path / "l.csv")
    assert row(manifest, "fps", "first_frame", "last_frame") == [[10.0, 20.0], [10, 20], [20, 40]]
    assert "images have no frame rate: fps=, or a column fps" in manifest.broken[0].reason
    (tmp_path / "l.csv").write_text("path,fps\na/v,fast\n")
    with pytest.raises(ValueError, match=r"a/v: fps must be frames per second in \[0.001, 100000\], got 'fast'"):
        scan(tmp_path / "l.csv")
    for bad in (0, -1, True, float("nan"), "25"):
        with pytest.raises(ValueError, match="fps must be frames per second in"):
            scan(tmp_path, fps=bad)


@pytest.mark.parametrize("fps", [25, 25.0, np.float32(25), np.int64(25)])
def test_a_frame_rate_is_any_number(fps, tmp_path):
    save(tmp_path / "v", range(4))
    assert scan(tmp_path, fps=fps).rows("duration_seconds").tolist() == [0.16]


def test_a_frame_rate_is_for_folders_of_images(numbered, tmp_path):
    with pytest.raises(ValueError, match="fps=25 is for folders of images, of which there is none"):
        scan(numbered, fps=25)
    (tmp_path / "l.csv").write_text("path,fps\neven/00.mp4,unknown\n")  # a column of one's own, of videos
    assert scan(tmp_path / "l.csv", root=numbered).rows("list_fps").tolist() == ["unknown"]


def test_what_an_interrupted_scan_measured_is_known(tmp_path):
    save(tmp_path / "v", range(4))
    row = measure_module.measure(tmp_path / "v", index=False)
    for with_index in (True, False):  # which means nothing for folders of images
        options = MeasureOptions(with_index=with_index)
        files = ListedFiles(Listing(tmp_path, [Entry("v", "v")], {"": [()]}, no_columns(1)), ["v"], options)
        with closing(Known(tmp_path / "m.parquet", ["v"], files, options)) as known:
            known.add("v", row)
        with closing(Known(tmp_path / "m.parquet", ["v"], files, options)) as known:
            ((number, again),) = known.rows_as_asked([0])
            assert number == 0 and known.is_unchanged(0, again)
        assert files_of(again["index"]).checks.tolist() == [
            zlib.crc32((tmp_path / "v" / f"img_{i:05d}.jpg").read_bytes()) for i in range(4)
        ]
    save(tmp_path / "v", [4])
    with closing(Known(tmp_path / "m.parquet", ["v"], files, MeasureOptions())) as known:
        ((_, row),) = known.rows_as_asked([0])
        assert not known.is_unchanged(0, row)


def test_names_that_are_not_utf8(tmp_path):
    folder = save(tmp_path / "v", range(1, 13), os.fsdecode(b"\xe9_{}.png"))
    (folder / os.fsdecode(b"\xe9_3.png")).write_bytes(b"")
    manifest = scan(tmp_path, output=tmp_path / "m.parquet")
    assert_pixels(decode(manifest.video(0), np.array([9])).pixels[0], pillow(folder / os.fsdecode(b"\xe9_10.png")))
    assert "_3.png: it is empty" in row(dv.Manifest.read(tmp_path / "m.parquet"), "notes")[0][0]


def test_images_and_videos_in_one_manifest(numbered, tmp_path):
    save(tmp_path / "even" / "v", range(30), size=(160, 96))
    videos = scan(numbered)
    manifest = scan(tmp_path, like=videos) + videos.select([0, 1])
    recipe = dv.Recipe(dv.ClipSampling(num_frames=2), (dv.CenterCrop(64),))
    with dv.VideoLoader(manifest, recipe, 3, device="cpu", decoder="hybrid", shuffle=False) as loader:
        batch = next(iter(loader))
        assert batch.clips.shape == (3, 3, 2, 64, 64) and not loader.report().replaced
    assert set(loader.report().fallbacks) >= {"DALI does not decode images on the CPU"}


# ---- Lists


@pytest.fixture
def folders(tmp_path):
    """Videos a/v1 of images 1 to 20, a/v2 of 1 to 12, b/w of 0 to 9, z of 37 to 41."""
    for name, numbers in (("a/v1", range(1, 21)), ("a/v2", range(1, 13)), ("b/w", range(10)), ("z", range(37, 42))):
        save(tmp_path / name, numbers, "img_{:05d}.png")
    return tmp_path


def listed(folders, text, **options):
    (folders / "list.txt").write_text(text)
    return scan(folders / "list.txt", **options)


def test_mmaction2_and_tsn_lists(folders):
    manifest = listed(folders, "a/v1 20 1\na/v2 12 0\nb/w 10 1\nz 5 -1\n")
    assert row(manifest, "path", "label", "first_frame", "last_frame") == [
        ["a/v1", "a/v2", "b/w", "z"], [1, 0, 1, -1], [0, 0, 0, 0], [20, 12, 10, 5],
    ]  # fmt: skip
    shown = pillow(folders / "z" / "img_00040.png")
    assert_pixels(decode(manifest.video(3), np.array([3])).pixels[0], shown)
    assert "the list is read as frames: lines FOLDER TOTAL LABEL, folders of images" in manifest.remarks
    several = listed(folders, "a/v1 20 1 3\na/v2 12 0\nb/w 10\n", format="frames")
    assert several.targets([0, 1, 2]).tolist() == [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_totals_that_are_not_those_of_the_folder(folders):
    manifest = listed(folders, "a/v1 8 1\na/v2 30 0\nz 9 0\nno 4 1\n")
    assert row(manifest, "path", "first_frame", "last_frame") == [["a/v1", "a/v2"], [0, 0], [8, 12]]
    assert any("rows that end after their video does, and are cut short: 1 (" in text for text in manifest.remarks)
    lost, missing = manifest.broken
    assert "numbers 37 to 41, and the list has 9: whether images before them are lost" in lost.reason
    assert (missing.path, missing.reason) == (str(folders / "no"), "the file does not exist")


def test_lists_with_a_start(folders):
    text = "a/v1 5 10 1\na/v2 0 12 0\n"
    with pytest.raises(ValueError, match="line 1: expected FOLDER TOTAL LABEL ... or FOLDER START TOTAL LABEL"):
        listed(folders, text)
    manifest = listed(folders, text, format="frames_start")
    assert row(manifest, "first_frame", "last_frame", "label") == [[5, 0], [15, 12], [1, 0]]
    assert "START is counted from 0, the first image" in manifest.remarks
    manifest = listed(folders, "a/v1 1 20\na/v2 1 12\nb/w 1 9\n")  # of VideoMAE V2
    assert row(manifest, "first_frame", "last_frame", "label") == [[0, 0], [20, 12], [-1, -1]]
    assert "numbers 0 to 9, but those of the list begin at 1" in manifest.broken[0].reason


def test_steps_in_a_list_that_counts_images_one_by_one(tmp_path):
    save(tmp_path / "v", range(5, 60, 5))
    assert "in steps of 5: each is the frame after the one before" in row(scan(tmp_path / "v"), "notes")[0][0]
    video = listed(tmp_path, "v 11 0\n").video(0)
    assert_pixels(decode(video, np.array([6])).pixels[0], pillow(tmp_path / "v" / "img_00035.jpg"))
    with pytest.raises(ValueError, match="numbers 5 to 55 in steps of 5, but the list counts 55 one by one"):
        listed(tmp_path, "v 55 0\n")


def test_slowfast_lists_of_frames(tmp_path):
    save(tmp_path / "A1", range(1, 4), "A1-{:06d}.jpg")
    save(tmp_path / "B", range(1, 6), "B-{:06d}.jpg")
    lines = ["original_vido_id video_id frame_id path labels"]
    lines += [f'A1 0 {i} A1/A1-{i + 1:06d}.jpg "{"1,5" if i else "5"}"' for i in range(3)]
    lines += [f'B 1 {i} B/B-{i + 2:06d}.jpg ""' for i in range(4)]
    lines += [f"C 2 {i} C/C-{3 - i:06d}.jpg 0" for i in range(2)]
    manifest = listed(tmp_path, "\n".join(lines))
    assert manifest.targets([0]).nonzero()[1].tolist() == [1, 5] and row(manifest, "path", "num_frames") == [
        ["A1"],
        [3],
    ]
    assert "labels differ between the frames of a video: each sample has those of all its frames" in manifest.remarks
    assert "numbers 1 to 5, but those of the list begin at 2" in manifest.broken[0].reason
    assert "not listed in the order of their numbers" in manifest.broken[1].reason


def test_jester_and_tables_name_folders(tmp_path):
    save(tmp_path / "34870", range(1, 6), "{:05d}.jpg")
    save(tmp_path / "9", range(1, 5), "{:05d}.jpg")
    (tmp_path / "77").mkdir()
    (tmp_path / "jester-v1-labels.csv").write_text("Doing other things\nDrumming Fingers\n")
    text = "34870;Drumming Fingers\n9;Doing other things\n77;Drumming Fingers\n"
    (tmp_path / "jester-v1-train.csv").write_text(text)
    manifest = scan(tmp_path / "jester-v1-train.csv")
    assert row(manifest, "path", "num_frames", "label") == [["34870", "9"], [5, 4], [1, 0]]
    assert "a folder without numbered images" in manifest.broken[0].reason
    (tmp_path / "t.csv").write_text("path,label,start_frame,end_frame\n34870,1,1,3\n9,0,,\n77,0,,\n")
    manifest = scan(tmp_path / "t.csv")
    assert row(manifest, "first_frame", "last_frame") == [[1, 0], [3, 4]]
    assert "a folder with no images" in manifest.broken[0].reason
    paths = [tmp_path / "9", tmp_path / "34870"]
    assert scan(paths, labels=["x", "y"], fps=12).rows("fps").tolist() == [12.0, 12.0]


# ---- Folders


def test_what_is_found_in_folders(tmp_path):
    for name in ("run/v1", "run/deep/v2", "sit/v3"):
        save(tmp_path / name, range(3))
    (tmp_path / "run" / "v1" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "run" / "v1" / ".img_00009.jpg").write_bytes(b"")
    save(tmp_path / "alone", [1])
    save(tmp_path / "loose", range(2))
    manifest = scan(tmp_path)
    assert row(manifest, "path", "label") == [["run/deep/v2", "run/v1", "sit/v3"], [0, 0, 1]]
    assert [broken.path for broken in manifest.broken] == [str(tmp_path / "loose")]
    told = " ".join(manifest.remarks)
    assert "files passed over, whose extension is no video's: 2: .jpg 1 (alone/img_00001.jpg), .db 1 (run/v1" in told
    assert row(scan(tmp_path / "run" / "v1"), "path", "label") == [["v1"], [-1]]


def test_images_beside_videos_are_left_out_and_told(numbered, tmp_path):
    shutil.copytree(numbered, tmp_path / "d")
    save(tmp_path / "d" / "even" / "thumbs", range(4))
    manifest = scan(tmp_path / "d")
    assert {broken.reason for broken in manifest.broken} == set() and len(manifest) == len(scan(numbered))
    assert "folders of images beside videos, left out: 1, with 4 images (even/thumbs); a list can name them" in [
        *manifest.remarks
    ]


# ---- Files that change


def fifo(path):
    path.unlink()
    os.mkfifo(path)


CHANGES = {
    "replaced": lambda path: path.write_bytes(bytes(reversed(path.read_bytes()))),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "shorter": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "another image": lambda path: picture(77).save(path),
    "gone": lambda path: path.unlink(),
    "a named pipe": fifo,
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_since_the_scan_costs_one_clip(kind, tmp_path):
    folder, other = save(tmp_path / "x" / "v", range(9)), save(tmp_path / "y" / "w", range(9))
    manifest = scan(tmp_path)
    stat = (folder / "img_00004.jpg").stat()
    CHANGES[kind](folder / "img_00004.jpg")
    os.utime(folder, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    said = {"gone": ": No such file or directory", "a named pipe": ": it is not a regular file"}
    told = said.get(kind, " was changed since it was scanned; scan again")
    with pytest.raises(ValueError, match=rf"frame 4 \(img_00004.jpg\){told}"):
        decode(manifest.video(0), np.array([2, 4]))
    assert_pixels(decode(manifest.video(0), np.array([3])).pixels[0], pillow(folder / "img_00003.jpg"))
    recipe = dv.Recipe(dv.ClipSampling(num_frames=5, start="center"), ())
    with dv.VideoLoader(manifest, recipe, 2, device="cpu", check_files="off") as loader:
        batch = next(iter(loader))
        assert set(batch.samples.tolist()) == {1} and loader.report().replaced
    middle = pillow(other / "img_00004.jpg")
    assert_pixels(batch.clips[0, :, 2].permute(1, 2, 0).numpy(), middle)


def test_what_is_added_or_touched_since_the_scan_changes_nothing(tmp_path):
    folder = save(tmp_path, range(9))
    manifest = scan(folder)
    save(folder, [9])
    os.utime(folder / "img_00002.jpg", (1, 1))
    assert_pixels(decode(manifest.video(0), np.array([2])).pixels[0], pillow(folder / "img_00002.jpg"))


def test_a_folder_that_is_gone(tmp_path):
    recipe = dv.Recipe(dv.ClipSampling(num_frames=2), ())
    manifest = scan(save(tmp_path / "v", range(3)))
    shutil.rmtree(tmp_path / "v")
    with pytest.raises(FileNotFoundError, match="of 1 file looked at, none exists"):
        dv.VideoLoader(manifest, recipe, 1, device="cpu")


def test_a_second_scan_measures_what_changed(tmp_path, monkeypatch):
    measured, measure = [], measure_module.measure_folder
    monkeypatch.setattr(
        measure_module, "measure_folder", lambda path, *a: measured.append(path.name) or measure(path, *a)
    )
    for name in "ab":
        save(tmp_path / "c" / name, range(4))
    output = tmp_path / "m.parquet"

    def again(**options):
        measured.clear()
        manifest = scan(tmp_path / "c", output=output, **options)
        return sorted(measured), manifest

    assert again(fps=5)[0] == ["a", "b"]
    names, manifest = again()
    assert names == [] and row(manifest, "fps") == [[None, None]]
    path = tmp_path / "c" / "a" / "img_00002.jpg"
    stat = path.stat()
    picture(50).save(path)
    assert again()[0] == ["a"]
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\0" + data[101:])  # the same size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # and an earlier time than others
    assert again()[0] == ["a"]
    save(tmp_path / "c" / "b", [4])
    names, manifest = again()
    assert names == ["b"] and row(manifest, "num_frames") == [[4, 5]]
    assert again(frame_names="img_0000[01]*")[0] == ["a", "b"]


def test_boxes_of_images(tmp_path):
    save(tmp_path / "MOT17-02" / "img1", range(1, 6), "{:06d}.jpg")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "MOT17-02.txt").write_text("".join(f"{i},7,{i},2,10,10,1,1,1\n" for i in range(1, 6)))
    manifest = scan(tmp_path, boxes=tmp_path / "gt" / "MOT17-02.txt")
    assert [box["frame"] for box in manifest.rows("boxes")[0]] == [0, 1, 2, 3, 4]
    images = [
        {"id": i, "file_name": f"MOT17-02/img1/{i:06d}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, 6)
    ]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [i, 2, 10, 10]} for i in (2, 4)]
    data = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "coco.json").write_text(json.dumps(data))
    manifest = scan(tmp_path, boxes=tmp_path / "coco.json")
    assert [(box["frame"], box["x1"]) for box in manifest.rows("boxes")[0]] == [(1, 2.0), (3, 4.0)]


def test_the_command(tmp_path, capsys):
    save(tmp_path / "a" / "v", range(1, 9))
    save(tmp_path / "a" / "v", range(1, 3), "other{}.jpg")
    output = str(tmp_path / "m.parquet")
    assert main(["scan", str(tmp_path / "a"), "-o", output]) == 1 and "frame_names= says" in capsys.readouterr().err
    assert main(["scan", str(tmp_path / "a"), "-o", output, "--frame-names", "img_*", "--fps", "8"]) == 0
    assert "1 video, 0 classes, 1.0 seconds, 8 frames" in capsys.readouterr().out
    assert main(["preview", output, "-o", str(tmp_path / "p.png"), "--num-frames", "4"]) == 0


@pytest.mark.slow
def test_processes_give_what_threads_give(tmp_path):
    for name in ("v1", "v2", "v3", "v4"):
        save(tmp_path / name, range(1, 15))
    recipe = dv.Recipe(dv.ClipSampling(num_frames=3, stride=2), (dv.RandomResizedCrop(32),))
    clips = []
    for workers in (0, 1):
        with dv.VideoLoader(scan(tmp_path), recipe, 4, device="cpu", seed=3, workers=workers) as loader:
            clips.append(next(iter(loader)).clips.numpy())
    assert_pixels(clips[0], clips[1])


def linked(folder, count):
    """Links to one image."""
    folder.mkdir(parents=True)
    picture(0).save(folder.parent / "one.jpg")
    for i in range(count):
        os.link(folder.parent / "one.jpg", folder / f"{i:06d}.jpg")
    return folder


@pytest.mark.slow
def test_20000_images_cost_as_much_each_as_2000_and_little_memory(tmp_path):
    few, many = linked(tmp_path / "few" / "v", 2000), linked(tmp_path / "many" / "v", 20000)
    rounds = []
    for _ in range(3):
        seconds = []
        for folder in (few, many):
            before = time.thread_time()
            measure_module.measure_folder(folder)
            seconds.append(time.thread_time() - before)
        rounds.append(seconds[1] / seconds[0])
    assert np.median(rounds) < 15, rounds  # 10 times as many
    tracemalloc.start()
    measured = measure_module.measure_folder(many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert measured["num_frames"] == 20000 and peak < 40e6, peak
    assert len(measured["index"].packets) < 8 * 20000 + 300  # the names are a rule
