"""From YUV to RGB by BT.601, or by the matrix that a file says."""

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import assert_pixels

import dali_vidaug as dv
from dali_vidaug.errors import NotForDaliError
from dali_vidaug.media.colors import colors_of
from dali_vidaug.media.decode import decode
from dali_vidaug.media.measure import measure

WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
           9: (0.2627, 0.0593)}  # fmt: skip
COLOURS = np.array([(200, 40, 40), (40, 190, 60), (30, 60, 210), (180, 170, 40), (128, 128, 128), (90, 160, 200)])


def to_yuv(rgb, number):
    """8-bit limited range Y, Cb, Cr of RGB, from the definition."""
    red, blue = WEIGHTS[number]
    r, g, b = np.moveaxis(np.asarray(rgb, float), -1, 0) / 255
    y = red * r + (1 - red - blue) * g + blue * b
    return np.stack([16 + 219 * y, 128 + 224 * (b - y) / (2 - 2 * blue), 128 + 224 * (r - y) / (2 - 2 * red)], -1)


def to_rgb(yuv, number):
    red, blue = WEIGHTS[number]
    y, cb, cr = (yuv[..., 0] - 16) / 219, (yuv[..., 1] - 128) / 224, (yuv[..., 2] - 128) / 224
    r, b = y + (2 - 2 * red) * cr, y + (2 - 2 * blue) * cb
    return np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], -1) * 255


def write_colours(path, number, codec="libx264", transfer=None, shift=0):
    """Twelve frames of 64x96 with six areas of one colour, whose matrix is ``number``."""
    areas = np.roll(COLOURS, shift, 0).repeat(16, 0)  # columns
    options = {"libx264": {"qp": "0", "g": "6"}, "libvpx-vp9": {"lossless": "1", "g": "6"}}[codec]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p" if codec == "libx264" else "yuv420p"
        stream.codec_context.colorspace = number
        if transfer:
            stream.codec_context.color_trc = transfer
        yuv = np.rint(to_yuv(areas, number if number in WEIGHTS else 2)).astype(np.uint8)
        for i in range(12):
            frame = av.VideoFrame(96, 64, stream.pix_fmt)
            for plane, values in zip(frame.planes, yuv.T, strict=True):
                step = 96 // plane.width
                rows = np.zeros((plane.height, plane.line_size), np.uint8)
                rows[:, : plane.width] = values[::step]
                plane.update(rows.tobytes())
            frame.colorspace, frame.pts = number, i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return areas, yuv


def middle(frame):
    """Six colours, of a frame with six areas, away from their edges."""
    return frame[20:40, 7:96:16].reshape(-1, 6, 3)


@pytest.fixture
def one(tmp_path):
    """A manifest of one file."""

    def get(path):
        return dv.scan(path, output=tmp_path / "m.parquet", progress=False)

    return get


@pytest.mark.parametrize("number", WEIGHTS)
def test_colours_are_those_that_were_written(number, tmp_path, one):
    areas, yuv = write_colours(tmp_path / "v.mp4", number)
    video = one(tmp_path / "v.mp4").video(0)
    assert video.colorspace == number
    for color, by in (("file", number), ("bt601", 2)):
        pixels = decode(video, np.array([0, 5, 11]), color=color).pixels
        expected = to_rgb(yuv.astype(float), by)[7::16]
        assert np.abs(middle(pixels[1]) - expected.clip(0, 255)).max() <= 1.5, color
        if color == "file":
            assert np.abs(expected - areas[7::16]).max() < 2
    different = np.abs(to_rgb(yuv.astype(float), number) - to_rgb(yuv.astype(float), 2)).max()
    assert (different > 8) == (number in (1, 7, 9))


SEVERAL = (dv.CenterCrop((50, 70)), dv.Resize((20, 30)), dv.Resize((40, 44)))


@pytest.mark.parametrize("ops", [(), (dv.Resize((32, 48)),), (dv.Resize((128, 192)),), SEVERAL], ids=str)
def test_scaled_colours_are_right_too(ops, tmp_path, one):
    """In planes, packed, and in several steps."""
    areas, _ = write_colours(tmp_path / "v.mp4", 1)
    manifest, recipe = one(tmp_path / "v.mp4"), dv.Recipe(dv.ClipSampling(2), ops)
    with dv.VideoLoader(manifest, recipe, 1, device="cpu", color="file", on_error="raise") as loader:
        clip = next(iter(loader)).clips[0].permute(1, 2, 3, 0).numpy()
    found = np.unique(clip[0, clip.shape[1] // 2].reshape(-1, 3), axis=0).astype(int)
    wanted = areas[::16] if ops != SEVERAL else areas[16:-16:16]
    for colour in wanted:
        assert np.abs(found - colour).max(1).min() <= 2, colour


@pytest.mark.parametrize("number", [1, 2, 6, 9])
def test_dali_gives_the_same_colours(number, tmp_path, one):
    write_colours(tmp_path / "v.webm", number, "libvpx-vp9")
    manifest, recipe = one(tmp_path / "v.webm"), dv.Recipe(dv.ClipSampling(4), (dv.RandomHorizontalFlip(),))
    clips = {}
    for color in ("file", "bt601"):
        for decoder in ("dali", "pyav", "hybrid"):
            options = dict(decoder=decoder, color=color, device="cpu", on_error="raise", shuffle=False)
            with dv.VideoLoader(manifest, recipe, 1, **options) as loader:
                clips[color, decoder] = next(iter(loader)).clips[0].permute(1, 2, 3, 0).numpy()
                assert not loader.report().fallbacks
        dali, pyav = (np.stack([middle(f) for f in clips[color, decoder]]) for decoder in ("dali", "pyav"))
        assert_pixels(dali, pyav, max_diff=3)
        np.testing.assert_array_equal(clips[color, "dali"], clips[color, "hybrid"])
    moved = np.abs(clips["file", "dali"].astype(int) - clips["bt601", "dali"]).max()
    assert moved > 8 if number in (1, 9) else moved == 0


def test_clips_of_a_batch_have_colours_of_their_own(tmp_path):
    for i, number in enumerate((1, 2, 9, 1)):
        write_colours(tmp_path / f"{i}.webm", number, "libvpx-vp9", shift=i)
    manifest = dv.scan(tmp_path, output=tmp_path / "m.parquet", progress=False)
    recipe = dv.Recipe(dv.ClipSampling(2), ())
    batches = {}
    for decoder in ("dali", "pyav"):
        options = dict(decoder=decoder, color="file", device="cpu", on_error="raise", shuffle=False)
        with dv.VideoLoader(manifest, recipe, 4, **options) as loader:
            batches[decoder] = next(iter(loader)).clips.permute(0, 2, 3, 4, 1).numpy()
    for i in range(4):
        wanted = np.roll(COLOURS, i, 0)
        for clips in batches.values():
            assert np.abs(middle(clips[i, 0]).astype(int) - wanted).max() <= 4, i


def test_a_matrix_that_is_not_known_is_refused(tmp_path, one):
    write_colours(tmp_path / "v.mp4", 8)  # YCgCo
    video = one(tmp_path / "v.mp4").video(0)
    assert video.colorspace == 8
    decode(video, np.arange(3))
    message = r"its colour matrix \(number 8 of ITU-T H.273\) is not supported with color='file'; color='bt601' takes"
    with pytest.raises(ValueError, match=message):
        decode(video, np.arange(3), color="file")
    with pytest.raises(ValueError, match=message):
        colors_of(video, "file")


def test_a_matrix_that_is_not_known_beforehand_is_for_pyav(tmp_path, one):
    """An older release did not measure it, or it changes within the file: DALI would not tell."""
    write_colours(tmp_path / "v.webm", 1, "libvpx-vp9")
    one(tmp_path / "v.webm")
    pq.write_table(pq.read_table(tmp_path / "m.parquet").drop_columns(["colorspace"]), tmp_path / "m.parquet")
    manifest, recipe = dv.Manifest.read(tmp_path / "m.parquet"), dv.Recipe(dv.ClipSampling(2), ())
    assert manifest.video(0).colorspace is None
    with pytest.raises(NotForDaliError, match="its colour matrix changes, or an older release scanned it"):
        colors_of(manifest.video(0), "file")
    with dv.VideoLoader(manifest, recipe, 1, decoder="hybrid", device="cpu", color="file") as loader:
        clip = next(iter(loader)).clips[0].permute(1, 2, 3, 0).numpy()
        (why,) = loader.report().fallbacks
        assert "colour matrix" in str(loader.report())
    assert np.abs(middle(clip[0]).astype(int) - COLOURS).max() <= 3 and why
    with (
        dv.VideoLoader(manifest, recipe, 1, decoder="dali", device="cpu", color="file", on_error="raise") as loader,
        pytest.raises(dv.ClipError, match="colour matrix .* use decoder='hybrid'"),
    ):
        next(iter(loader))
    with dv.VideoLoader(manifest, recipe, 1, decoder="dali", device="cpu", on_error="raise") as loader:
        next(iter(loader))


def test_a_scan_goes_over_what_an_older_release_did_not_measure(tmp_path, one):
    write_colours(tmp_path / "v.mp4", 1)
    before = one(tmp_path / "v.mp4")
    old = pq.read_table(tmp_path / "m.parquet").drop_columns(["colorspace"])
    pq.write_table(old, tmp_path / "m.parquet")
    assert dv.Manifest.read(tmp_path / "m.parquet").video(0).colorspace is None
    assert one(tmp_path / "v.mp4").table == before.table and before.video(0).colorspace == 1


def test_a_matrix_that_changes_is_not_known(tmp_path):
    for i, number in enumerate((1, 5)):
        write_colours(tmp_path / f"{i}.ts", number)
    (tmp_path / "v.ts").write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    assert measure(tmp_path / "0.ts")["colorspace"] == 1 and measure(tmp_path / "1.ts")["colorspace"] == 5
    row = measure(tmp_path / "v.ts")
    assert row["num_frames"] == 24 and row["colorspace"] is None


@pytest.mark.parametrize("number, name", [(16, "PQ, SMPTE ST 2084"), (18, "HLG, ARIB STD-B67"), (1, None)])
def test_files_of_high_dynamic_range_are_named(number, name, tmp_path):
    write_colours(tmp_path / "v.mp4", 9, transfer=number)
    row = measure(tmp_path / "v.mp4")
    assert row["notes"] == (name and f"HDR ({name}): colours are shown as they are stored, without tone mapping")
    manifest = dv.scan(tmp_path, output=tmp_path / "m.parquet", progress=False)
    assert any(f"v.mp4: HDR ({name})" in remark for remark in manifest.remarks) == (name is not None)


def test_bad_options(numbered_manifest):
    with pytest.raises(ValueError, match="VideoLoader: color must be bt601 or file, got 'bt709'"):
        dv.VideoLoader(numbered_manifest, dv.Recipe(), 1, color="bt709")


@pytest.mark.slow
def test_real_files(real_videos):
    """As libswscale converts with the matrix that each file says, asked for by its number."""
    numbers = set()
    for path in sorted(real_videos.iterdir()):
        if path.suffix == ".json":
            continue
        row = measure(path)
        if "error" in row or row["colorspace"] in (None, 2):
            continue
        manifest = dv.scan(path, progress=False)
        pixels = decode(manifest.video(0), np.array([0]), color="file").pixels[0]
        with av.open(str(path)) as container:
            frame = next(container.decode(container.streams[row["stream"]]))
        number = int(frame.colorspace)
        assert number == row["colorspace"]
        numbers.add(number)
        expected = frame.reformat(format="rgb24", src_colorspace=number, dst_colorspace=number).to_ndarray()
        if row["orientation"] == 1:
            assert np.abs(pixels.astype(int) - expected).mean() < 2, path  # without accurate rounding there
        assert np.abs(pixels.mean((0, 1)) - expected.mean((0, 1))).max() < 2, path
    assert numbers >= {1, 5, 9}
