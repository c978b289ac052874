"""What moves in clips, by the motion vectors of their videos: a square moves by so many pixels a frame."""

import gc
import re
import shutil
from fractions import Fraction

import av
import motion_mask_reference
import numpy as np
import pytest
import torch
from conftest import (
    VIDEO_CASES,
    by_container,
    frame_digest,
    measured_video,
    write_broken_files,
    write_numbered,
)

import dali_vidaug as dv
from dali_vidaug import geometry
from dali_vidaug.commands.checks.numbered import numbered_frame
from dali_vidaug.masks import ClipMotion, Grid
from dali_vidaug.media.coded_order import CodedOrder
from dali_vidaug.media.container import open_video
from dali_vidaug.media.cut import open_source, read_cuts
from dali_vidaug.media.decode import decode_clips, decode_cut, decoder_of
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.indexed_file import IndexedStream
from dali_vidaug.media.vectors import VECTOR_CODECS, Vectors, View
from dali_vidaug.media.video import is_counted
from dali_vidaug.rng import Draws

HEIGHT, WIDTH, SIDE, NUM_FRAMES = 192, 256, 64, 30
STEP = 6.0, -2.0  # pixels to the right and down, from frame to frame
TOLERANCE = 0.6  # of it: encoders save bits by vectors that are off by half a pixel
X264 = {  # what references the encoder uses: the options
    "p_frames": {"g": "100", "bf": "0"},
    "b_frames": {"g": "100", "bf": "3", "x264-params": "b-adapt=0:scenecut=0"},
    "one_reference": {"g": "100", "bf": "0", "x264-params": "ref=1"},
    "many_references": {"g": "100", "bf": "0", "x264-params": "ref=8:partitions=all:me=umh:scenecut=0"},
    "b_pyramid": {
        "g": "100",
        "bf": "3",
        "x264-params": "b-adapt=0:b-pyramid=normal:ref=5:me=umh:merange=32:scenecut=0",
    },
    "open_gops": {"g": "12", "bf": "2", "x264-params": "open-gop=1:b-adapt=0:scenecut=0"},
}


def texture(rng, height, width):
    """Smooth noise, in which no place is as another."""
    noise = rng.normal(size=(height, width, 3))
    for axis in (0, 1):
        for _ in range(12):
            noise = (np.roll(noise, 1, axis) + 2 * noise + np.roll(noise, -1, axis)) / 4
    return (128 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def corner(index, step=STEP):
    """(x, y) of the square's upper left corner in a frame, a whole number of pixels."""
    return int(20 + step[0] * index), int(100 + step[1] * index)


def square_frames(count=NUM_FRAMES, step=STEP):
    rng = np.random.default_rng(0)
    ground, square = texture(rng, HEIGHT, WIDTH), texture(rng, SIDE, SIDE)
    for i in range(count):
        (x, y), frame = corner(i, step), ground.copy()
        part = frame[y : y + SIDE, x : x + SIDE]
        part[...] = square[: part.shape[0], : part.shape[1]]
        yield frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A video of the square for each of X264, in one folder."""
    path = tmp_path_factory.mktemp("squares")
    for name, options in X264.items():
        write_video(path / f"{name}.mp4", square_frames(), options={"crf": "18", **options})
    return path


@pytest.fixture(scope="module")
def manifest(folder):
    return dv.scan(folder, progress=False)


def plain_view(count, height=HEIGHT, width=WIDTH):
    return View(np.tile(np.eye(3), (count, 1, 1)), height, width)


def motion_of(video, frames, view=None):
    """(F, h, w, 2): the map of a clip of some frames."""
    frames = np.asarray(frames)
    (found,) = decode_clips(video, [frames], [()], views=[view or plain_view(len(frames))]).motion
    return found.transpose(1, 2, 3, 0)


def looked_at(video, frames, views=None):
    """The vectors of some frames."""
    vectors = Vectors(video, set(frames.tolist()), set(frames.tolist()), views)
    with open_source(video) as (source, stream):
        for cut in read_cuts(source, stream, video, frames):
            for frame, index in decode_cut(decoder_of(stream, vectors=True), vectors.begin(cut), video):
                vectors.add(frame, index)
            vectors.end()
    return vectors


def cells_of(index, grow=0, step=STEP):
    """Which cells of a frame are within the square, or within so many pixels around it: (h, w) bool."""
    x, y = corner(index, step)
    top, left = np.mgrid[0:HEIGHT:16, 0:WIDTH:16]
    if grow:
        return (top + 16 > y - grow) & (top < y + SIDE + grow) & (left + 16 > x - grow) & (left < x + SIDE + grow)
    return (top >= y) & (top + 16 <= y + SIDE) & (left >= x) & (left + 16 <= x + SIDE)


# ---- The map


@pytest.mark.parametrize("name", X264)
def test_the_map_is_how_the_square_moves(folder, name):
    """Also where most vectors refer to pictures that are two or more frames away, and with B-frames to later ones."""
    video = measured_video(folder / f"{name}.mp4")
    frames = np.arange(22)
    found = motion_of(video, frames)
    right, known, apart = [], [], []
    for i in frames:
        inside, outside = found[i][cells_of(i)], found[i][~cells_of(i, 24)]
        some = ~np.isnan(inside[:, 0])
        known.append(some.mean())
        if i in video.keyframes:
            assert np.isnan(found[i]).all()  # nothing is known of a key frame, not that nothing moves
            continue
        right += (np.abs(inside[some] - STEP).max(1) < TOLERANCE).tolist()
        apart += np.nan_to_num(np.abs(outside).max(1)).tolist()
    assert np.mean(right) > 0.97 and len(right) > 60, np.mean(right)
    assert np.mean(known) > 0.6
    assert np.mean(np.array(apart) < 0.1) > 0.99  # the ground rests


def test_vectors_as_ffmpeg_gives_them_would_be_wrong(folder):
    """The premise of the test above: they refer to several pictures, and do not say to which."""
    with av.open(str(folder / "many_references.mp4")) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}
        frames = list(container.decode(stream))
    ratios = []
    for i, frame in enumerate(frames[1:22], 1):
        vectors, (x, y) = frame.side_data.get("MOTION_VECTORS").to_ndarray(), corner(i)
        inside = (abs(vectors["dst_x"] - x - SIDE // 2) < 20) & (abs(vectors["dst_y"] - y - SIDE // 2) < 20)
        ratios += (vectors["motion_x"] / vectors["motion_scale"] / -STEP[0])[inside].tolist()
    whole = np.array(ratios)[np.abs(np.array(ratios) - np.round(ratios)) < 0.05]
    assert len(whole) > 0.9 * len(ratios) and np.mean(whole > 1.5) > 0.2 and np.mean(whole > 2.5) > 0.01


def test_the_file_says_how_many_references_there_are(folder):
    """With one, nothing is compared: what FFmpeg says is divided by the distance to the frame before."""
    video = measured_video(folder / "one_reference.mp4")
    with open_source(video) as (source, stream):
        (cut,) = read_cuts(source, stream, video, np.arange(4))
        vectors = Vectors(video, {3}, {3})
        vectors.begin(cut)
        assert vectors._num_earlier == 1
    video = measured_video(folder / "many_references.mp4")
    with open_source(video) as (source, stream):
        (cut,) = read_cuts(source, stream, video, np.arange(4))
        vectors.begin(cut)
        assert vectors._num_earlier == 8


PYRAMID = {"crf": "18", "g": "100", "bf": "3", "x264-params": "b-adapt=0:b-pyramid=normal:ref=5:scenecut=0"}


def test_frames_that_are_decoded_later_are_no_references(tmp_path):
    """Of frames 0 to 4, I B B B P, 4 is decoded before 2, to which others refer: 4 refers to 0, whatever 2 shows.

    A square jumps by 12 pixels in frame 4: frame 2 looks as frame 0 does, and would make that 6 pixels a frame.
    In the second video, 3 refers to 4, in which the square is paler; in 6 and 8, decoded after 3, it looks as in 3.
    """
    rng = np.random.default_rng(0)
    ground, *squares = texture(rng, HEIGHT, WIDTH), texture(rng, SIDE, SIDE), texture(rng, SIDE, SIDE)

    def write(name, lefts, shown):
        frames = np.tile(ground, (len(lefts), 1, 1, 1))
        for frame, left, square in zip(frames, lefts, shown, strict=True):
            frame[64:128, left : left + SIDE] = square
        write_video(tmp_path / name, frames, options=PYRAMID)
        with av.open(str(tmp_path / name)) as container:
            assert [int(frame.pict_type) for frame in container.decode(video=0)][:9] == [1, 3, 3, 3, 2, 3, 3, 3, 2]
        return motion_of(measured_video(tmp_path / name), np.arange(9))

    found = write("past.mp4", [16] * 4 + [28] * 4 + [40] * 6, [squares[0]] * 14)
    for index, left in ((4, 32), (8, 48)):
        inside = found[index, 4:8, left // 16 : left // 16 + 3]
        assert (np.abs(inside - (3, 0)).max(-1) < TOLERANCE).mean() > 0.8
    pale = squares[1] // 2 + 64
    found = write("future.mp4", [16] * 4 + [28] * 10, [squares[0]] * 3 + [squares[1], pale] + [squares[1]] * 9)
    assert np.nanmedian(found[3, 4:8, 1:5, 0]) == pytest.approx(12, abs=1)


OTHER_CODECS = {  # encoder, file name, options; those of one reference in each direction
    "mpeg4": ("mpeg4", "v.mp4", {}), "mpeg4_b": ("mpeg4", "v.mp4", {"bf": "2"}),
    "mpeg4_quarter": ("mpeg4", "v.avi", {"flags": "+qpel+mv4"}),
    "mpeg1video": ("mpeg1video", "v.mpg", {"bf": "2"}), "mpeg2video": ("mpeg2video", "v.ts", {"bf": "2"}),
    "h263": ("h263p", "v.avi", {}), "flv1": ("flv", "v.flv", {}), "msmpeg4v2": ("msmpeg4v2", "v.avi", {}),
    "msmpeg4v3": ("msmpeg4", "v.avi", {}), "wmv1": ("wmv1", "v.avi", {}), "wmv2": ("wmv2", "v.avi", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_CODECS)
def test_other_codecs(name, tmp_path):
    """They refer to the nearest picture of each direction, which is further away than one frame where B-frames are."""
    encoder, file, options = OTHER_CODECS[name]
    step = 2.0, -1.0  # their encoders search less far
    write_video(tmp_path / file, square_frames(22, step), codec=encoder, options={"g": "100", "b": "8M", **options})
    with av.open(str(tmp_path / file)) as container:
        types = ["-IPB"[int(frame.pict_type)] for frame in container.decode(video=0)]
    video, right = measured_video(tmp_path / file), []
    assert video.codec == name.partition("_")[0] and ("B" in types) == ("bf" in options)
    found = motion_of(video, np.arange(18))
    for i in range(18):
        inside = found[i][cells_of(i, step=step)]
        known = ~np.isnan(inside[:, 0])
        if types[i] == "I" or (types[i] == "B" and video.codec == "mpeg4"):
            assert not known.any()  # of these B-frames, FFmpeg says that nothing moves
            continue
        assert known.mean() > 0.6, i
        right += (np.abs(inside[known] - step).max(1) < TOLERANCE).tolist()
    assert len(right) > 40 and np.mean(right) > 0.97, (len(right), np.mean(right))


def test_every_codec_of_the_list_is_tried():
    assert set(VECTOR_CODECS) == {"h264", *(name.partition("_")[0] for name in OTHER_CODECS)}


def test_fields_have_no_motion(tmp_path):
    """Vectors of fields refer to fields, which are half a frame apart; FFmpeg does not say which ones are."""
    options = {"g": "100", "bf": "2", "x264-params": "interlaced=1"}
    write_video(tmp_path / "v.mkv", square_frames(12), options=options)
    assert np.isnan(motion_of(measured_video(tmp_path / "v.mkv"), np.arange(10))).all()


def test_the_map_follows_crops_scales_and_flips(manifest):
    """By hand: scaled to half the height and 3/8 of the width, cropped, and mirrored."""
    recipe = dv.Recipe(
        dv.ClipSampling(num_frames=4, stride=2, start="first"),
        (dv.Resize((96, 96)), dv.CenterCrop((64, 96)), dv.RandomHorizontalFlip(1.0), dv.Normalize()),
    )
    with dv.VideoLoader(manifest, recipe, len(manifest), device="cpu", motion=True, shuffle=False) as loader:
        batch = next(iter(loader))
    assert batch.motion.dx.shape == (len(manifest), 4, 4, 6) and batch.motion.dx.dtype == torch.float32
    place, right = [manifest.path(i) for i in range(len(manifest))].index, []
    for t, index in enumerate(batch.plan.frames[0].tolist()):
        x, y = corner(index)
        left, rightmost = 96 - (x + SIDE) * 3 / 8, 96 - x * 3 / 8
        top, bottom = y / 2 - 16, (y + SIDE) / 2 - 16
        for i in range(len(manifest)):
            for r in range(4):
                for c in range(6):
                    if 16 * r >= top and 16 * r + 16 <= bottom and 16 * c >= left and 16 * c + 16 <= rightmost:
                        dx, dy = float(batch.motion.dx[i, t, r, c]), float(batch.motion.dy[i, t, r, c])
                        if not np.isnan(dx):
                            right.append(abs(dx + 6 * 3 / 8) < 0.15 and abs(dy + 2 / 2) < 0.15)
                            magnitude = float(batch.motion.magnitude[i, t, r, c])
                            assert magnitude == pytest.approx(np.hypot(dx, dy), abs=1e-5)
    assert place and len(right) > 10 and np.mean(right) > 0.9


@pytest.mark.parametrize("orientation, turned", [(2, (-6, -2)), (3, (-6, 2)), (6, (2, 6)), (8, (-2, -6))])
def test_the_map_is_of_frames_as_shown(folder, orientation, turned):
    """By hand: mirrored left and right; rotated by 180, 90 and 270 degrees clockwise."""
    video = measured_video(folder / "p_frames.mp4")._replace(orientation=orientation)
    height, width = video.shown_size
    found = motion_of(video, [10], plain_view(1, height, width))[0]
    moving = found[np.abs(found).max(-1) > 1]
    assert len(moving) >= 9 and np.median(moving, 0) == pytest.approx(turned, abs=0.2)


@pytest.mark.parametrize("perspective", [0, 1e-3])
def test_the_map_equals_a_plain_one(folder, perspective):
    """For any matrix, perspective ones too: the mean over points every 4 pixels of what the block below each shows."""
    video, rng = measured_video(folder / "b_frames.mp4"), np.random.default_rng(0)
    frames = np.array([3, 8, 8, 0])
    angle = np.array([0.3, -1.2, 2.0, 0.1])
    matrices = np.tile(np.eye(3), (4, 1, 1))
    matrices[:, :2, :2] = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(4, 2, 2)
    matrices[:, :2, 2] = rng.uniform(20, 80, (4, 2))
    matrices[:, 2, :2] = rng.uniform(-perspective, perspective, (4, 2))
    view, vectors = View(matrices, 72, 90), looked_at(video, frames)
    assert set(vectors.found) == {3, 8}
    actual = vectors.map(frames, view)
    expected = np.full((2, 4, 5, 6), np.nan)
    for t, index in enumerate(frames.tolist()):
        for r in range(5):
            for c in range(6):
                seen = []
                for i in range(16 * r, min(16 * r + 16, 72), 4):
                    for j in range(16 * c, min(16 * c + 16, 90), 4):
                        point = np.array([[(j + min(j + 4, 90)) / 2, (i + min(i + 4, 72)) / 2]])
                        u, v = geometry.map_points(matrices[t], point)[0]
                        if index in vectors.found and 0 <= u < WIDTH and 0 <= v < HEIGHT:
                            moved = vectors.found[index][int(v) // 8, int(u) // 8] + (u, v)
                            seen.append((geometry.map_points(np.linalg.inv(matrices[t]), moved[None]) - point)[0])
                seen = [one for one in seen if not np.isnan(one).any()]
                if seen:
                    expected[:, t, r, c] = np.mean(seen, 0)
    assert np.isfinite(expected).any(), "nothing to compare"
    np.testing.assert_allclose(actual, expected, atol=1e-3)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("perspective", [0, 2e-3, 0.05])
def test_only_what_clips_show_is_looked_for(folder, orientation, perspective):
    """The maps are the same as with vectors of whole frames; far from what is shown there are none."""
    video, rng = measured_video(folder / "b_frames.mp4")._replace(orientation=orientation), np.random.default_rng(1)
    frames = np.array([3, 8, 9])
    for _ in range(6):
        matrices = np.tile(np.eye(3), (3, 1, 1))
        matrices[:, :2] = rng.normal(0, 0.4, (3, 2, 3))
        matrices[:, :2, 2] = rng.uniform(0, 90, (3, 2))
        matrices[:, 2, :2] = rng.uniform(-perspective, perspective, (3, 2))
        view = View(matrices, 32, 40)
        some, everything = (looked_at(video, frames, views) for views in ([view], None))
        np.testing.assert_array_equal(some.map(frames, view), everything.map(frames, view))
        known = [sum(np.isfinite(one).sum() for one in vectors.found.values()) for vectors in (some, everything)]
        assert known[0] < known[1] or perspective


def test_frames_are_freed_at_once(folder):
    """Whoever looks at vectors does not leave frames to Python's cyclic collector: a clip would hold all of its."""
    video = measured_video(folder / "b_frames.mp4")
    gc.disable()
    try:
        gc.collect()
        looked_at(video, np.array([3, 8, 9]))
        assert not any(type(one) is av.VideoFrame for one in gc.get_objects())
    finally:
        gc.enable()


# ---- Everything else stays as it is


@pytest.mark.parametrize("name", ["h264_bframes", "h264_open_gop", "h264_10_bit", "h264_avi", "mpeg4_avi_bframes"])
def test_pixels_are_the_same_and_decoders_are_left_as_they_were(name, tmp_path):
    """Bit for bit; by the packet index and by the container; a decoder that comes after has no vectors."""
    file, options = VIDEO_CASES[name]
    video = measured_video(write_numbered(tmp_path / file, 40, **options))
    frames = np.array([5, 30, 7, 8, 21])
    height, width = video.shown_size
    view = plain_view(5, height, width)
    expected = decode_clips(video, [frames], [()])
    assert expected.motion is None
    maps = []
    for one in (video, by_container(video)):
        found = decode_clips(one, [frames], [()], views=[view])
        assert (found.pixels[0] == expected.pixels[0]).all()
        assert 0 <= found.num_decoded - expected.num_decoded <= (9 if video.codec == "mpeg4" else 0)
        maps.append(found.motion[0])
        digests = []
        for vectors in (True, False, True):
            with open_source(one) as (source, stream):
                cut = read_cuts(source, stream, one, np.arange(3))[0]
                shown = [frame for frame, _ in decode_cut(decoder_of(stream, vectors=vectors), cut, one)]
            assert any("MOTION_VECTORS" in [d.type.name for d in frame.side_data] for frame in shown) == vectors
            digests.append([frame_digest(frame) for frame in shown])
        assert digests[0] == digests[1] == digests[2]
    np.testing.assert_array_equal(*maps)
    assert np.isfinite(maps[0]).any()


def test_a_damaged_file_is_as_bad_as_without(folder, tmp_path):
    data = bytearray((folder / "b_frames.mp4").read_bytes())
    video = measured_video(folder / "b_frames.mp4")
    at = data.index(b"mdat") + len(data) // 2
    data[at : at + 200] = bytes(200)
    (tmp_path / "b_frames.mp4").write_bytes(data)
    bad = video._replace(path=str(tmp_path / "b_frames.mp4"), mtime_ns=None, content_digest=None)
    for views in (None, [plain_view(20)]):
        with pytest.raises((ValueError, EOFError, av.error.FFmpegError)):
            decode_clips(bad, [np.arange(20)], [()], views=views)


RECIPE = dv.Recipe(
    dv.ClipSampling(num_frames=4, stride=2),
    (dv.RandomResizedCrop(96), dv.RandomHorizontalFlip(), dv.Normalize()),
    masks=(dv.MotionMask(0.5),),
)


def same(a, b):
    return all(
        np.array_equal(x.numpy(), y.numpy(), equal_nan=True)
        for x, y in zip((a.clips, *a.motion, *a.masks), (b.clips, *b.motion, *b.masks), strict=True)
    )


def test_threads_processes_and_resuming_make_no_difference(manifest, tmp_path):
    options = dict(device="cpu", seed=3, motion=True)
    with dv.VideoLoader(manifest, RECIPE, 2, num_threads=1, **options) as loader:
        expected = [*loader, *loader]
        state = None
    with dv.VideoLoader(manifest, RECIPE, 2, num_threads=2, workers=1, **options) as loader:
        assert all(same(a, b) for a, b in zip(loader, expected, strict=False))
        for batch in loader:
            if batch.index == 1:
                state = loader.state_dict()
                break
    with dv.VideoLoader(manifest, RECIPE, 2, **options) as loader:
        loader.load_state_dict(state)
        rest = list(loader)
        assert len(rest) == 1 and same(rest[0], expected[5])
        batch.plan.save(tmp_path / "plan.json")
        again = loader.apply(dv.Plan.load(tmp_path / "plan.json"))
        assert same(again, batch) and same(batch, expected[4])
        assert "motion: " in str(loader.report()) and loader.report().motion_frames > 0
    moved = expected[0].to("cpu")
    assert same(moved, expected[0]) and moved.motion.dx.shape == (2, 4, 6, 6)


@pytest.mark.parametrize("tubelets", [(2,), (1,), (4,), (2, 4)])
def test_masks_alone_have_motion_looked_for_where_they_need_it(tubelets, manifest, monkeypatch):
    """They are the same as where all of it is asked for."""
    looked_at, begin = set(), Vectors.__init__
    monkeypatch.setattr(Vectors, "__init__", lambda *args: looked_at.add((len(args[2]), len(args[3]))) or begin(*args))
    masks = tuple(dv.MotionMask(0.5, tubelet=n) for n in tubelets)
    recipe = dv.Recipe(RECIPE.sampling, RECIPE.ops, masks=masks)
    made = []
    for motion, count in ((True, 4), (False, 4 // min(tubelets))):
        looked_at.clear()
        with dv.VideoLoader(manifest, recipe, 2, device="cpu", seed=4, motion=motion) as loader:
            made.append([*loader])
            assert same_masks(loader.apply(made[-1][0].plan), made[-1][0])
        assert looked_at == {(count, 4)}
    for a, b in zip(*made, strict=True):
        assert same_masks(a, b) and torch.equal(a.clips, b.clips)
        assert a.motion.dx.shape == (2, 4, 6, 6) and b.motion is None


class Seen(dv.MotionMask):
    """A mask that shows where it knows of motion."""

    def draw(self, draws, grid, motion):
        assert motion.vectors.shape[:3] == (len(draws), 2, grid.frames) and motion.frames.shape == (
            len(draws),
            grid.frames,
        )
        return np.isfinite(motion.vectors[:, 0, :, : grid.height, : grid.width])


def test_masks_of_ones_own_see_the_same(manifest):
    """Whether all motion is asked for or not, and beside masks of other tubelets."""
    made = []
    for motion, others in ((True, ()), (False, ()), (False, (dv.MotionMask(0.5, tubelet=1),))):
        recipe = dv.Recipe(dv.ClipSampling(num_frames=4, stride=2), (), masks=(Seen(0.5, tubelet=2), *others))
        with dv.VideoLoader(manifest, recipe, 6, device="cpu", seed=4, motion=motion) as loader:
            made.append(next(iter(loader)).masks[0])
    assert made[0].any() and torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


def same_masks(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.masks, b.masks, strict=True))


def test_motion_belongs_to_the_clips_that_are_there(folder, tmp_path):
    """Clips in place of bad ones, and those beside clips that are left out, have their own motion."""
    shutil.copytree(folder, tmp_path / "v")
    write_broken_files(tmp_path / "broken", folder / "p_frames.mp4")
    manifest = dv.scan(tmp_path / "v", progress=False)
    shutil.copy(tmp_path / "broken" / "text.mp4", manifest.path(1))
    recipe = dv.Recipe(dv.ClipSampling(num_frames=4, stride=2), ())
    for on_error, count in (("replace", 6), ("skip", 5)):
        with dv.VideoLoader(manifest, recipe, 6, device="cpu", motion=True, on_error=on_error) as loader:
            batch = next(iter(loader))
        assert len(batch) == len(batch.motion.dx) == count and 1 not in batch.samples.tolist()
        for i, sample in enumerate(batch.samples.tolist()):
            alone = motion_of(manifest.video(sample), batch.plan.frames[i])
            np.testing.assert_array_equal(torch.stack(batch.motion, -1)[i].numpy(), alone)


def test_a_batch_without_clips_has_no_motion(folder, tmp_path):
    shutil.copy(folder / "p_frames.mp4", tmp_path / "a.mp4")
    manifest = dv.scan(tmp_path, progress=False)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (tmp_path / "a.mp4").write_bytes(data)
    recipe = dv.Recipe(dv.ClipSampling(num_frames=16), (), masks=(dv.MotionMask(),))
    with dv.VideoLoader(manifest, recipe, 1, device="cpu", on_error="skip", check_files="off", motion=True) as loader:
        (empty,) = loader
    assert empty.motion.dx.shape == (0, 16, 12, 16) and empty.masks[0].shape == (0, 8, 12, 16)


# ---- What is not known, and what is refused


@pytest.mark.parametrize("name", ["hevc_mkv", "vp8", "vp9", "av1", "mjpeg"])
def test_codecs_without_vectors_are_refused(name, tmp_path):
    """FFmpeg gives none, which is tried here."""
    file, options = VIDEO_CASES[name]
    path = write_numbered(tmp_path / "v" / file, 12, **options)
    with open_video(path) as (container, stream):
        stream.codec_context.options = {"flags2": "+export_mvs"}
        assert not any("MOTION_VECTORS" in [d.type.name for d in f.side_data] for f in container.decode(stream))
    manifest = dv.scan(tmp_path / "v", progress=False)
    assert manifest.video(0).codec not in VECTOR_CODECS
    with pytest.raises(
        ValueError, match=rf"not known of any video: .* {manifest.video(0).codec} \(1 file, for .*{file}"
    ):
        dv.VideoLoader(manifest, dv.Recipe(), 1, device="cpu", motion=True)
    with pytest.raises(ValueError, match="not known of any video"):
        dv.VideoLoader(manifest, dv.Recipe(masks=(dv.MotionMask(),)), 1, device="cpu")


def test_some_videos_without_vectors(folder, tmp_path, caplog):
    """They are named, and nothing is said of how they move; a mask has its tokens anyway."""
    shutil.copy(folder / "p_frames.mp4", tmp_path / "a.mp4")
    write_video(tmp_path / "b.avi", square_frames(), codec="mjpeg", options={"q:v": "3"}, pixel_format="yuvj420p")
    (tmp_path / "c").mkdir()
    for i in range(8):
        av.VideoFrame.from_ndarray(numbered_frame(i, HEIGHT, WIDTH), format="rgb24").save(tmp_path / "c" / f"{i}.png")
    manifest = dv.scan([tmp_path / "a.mp4", tmp_path / "b.avi", tmp_path / "c"], progress=False)
    recipe = dv.Recipe(dv.ClipSampling(num_frames=4), (), masks=(dv.MotionMask(0.25),))
    with dv.VideoLoader(manifest, recipe, len(manifest), device="cpu", shuffle=False, motion=True) as loader:
        batch = next(iter(loader))
        report = loader.report()
    assert "no motion vectors of images (1 file, for example" in caplog.text and "mjpeg (1 file" in caplog.text
    vectors = [manifest.video(i).codec in VECTOR_CODECS for i in batch.samples.tolist()]
    assert sorted(vectors) == [False, False, True]
    for i, known in enumerate(vectors):
        assert bool(batch.motion.dx[i].isnan().all()) != known
    assert (batch.masks[0].sum((2, 3)) == 48).all()
    count = report.batches  # the next one may have been counted too
    assert report.motion_frames == 12 * count and 8 * count <= report.motion_unknown <= 9 * count


def test_what_does_not_follow_is_refused(manifest):
    """Where it is asked for, and where a mask needs it."""

    def refused(words, *ops, sampling=None, **options):
        sampling = sampling or dv.ClipSampling(num_frames=4)
        mask = dv.MotionMask(patch=32, tubelet=4)
        for masks, more in (((), {"motion": True}), ((mask,), {})):
            with pytest.raises(ValueError, match=words):
                recipe = dv.Recipe(sampling, ops, masks=masks)
                dv.VideoLoader(manifest, recipe, 2, device="cpu", **{**more, **options})

    refused(r"motion does not follow CutMix, which mixes clips", dv.Resize((96, 96)), dv.CutMix())
    dv.register_module("anything", lambda clips: clips)
    refused(r"anything does not say where it moves pixels, so that motion cannot", dv.TorchModule("anything"))
    refused(r"decoder must be 'auto' or 'pyav' with motion=True or a MotionMask, got 'hybrid'", decoder="hybrid")
    refused(r"decoder must be 'auto' or 'pyav' with motion=True or a MotionMask, got 'dali'", decoder="dali")
    refused(r"motion must be True or False, got 'yes'", motion="yes")
    refused(r"not of frames between them", sampling=dv.ClipSampling(num_frames=4, speed=(0.5, 0.9), fractional=True))


# ---- Masks


def test_masks_follow_the_square(manifest):
    """Masks of a quarter of the tokens cover the square, a twelfth of the frame, 3 times as much as by chance."""
    recipe = dv.Recipe(dv.ClipSampling(num_frames=8, stride=2), (), masks=(dv.MotionMask(0.25),))
    covered = []
    with dv.VideoLoader(manifest, recipe, 2, device="cpu") as loader:
        for _ in range(3):
            for batch in loader:
                masks = batch.masks[0].numpy()
                assert masks.shape == (2, 4, 12, 16) and (masks.sum((2, 3)) == 48).all()
                pixels = masks.repeat(16, 2).repeat(16, 3)
                for i in range(2):
                    for t in range(4):
                        x, y = corner(batch.plan.frames[i, 2 * t : 2 * t + 2].mean())
                        covered.append(pixels[i, t, y : y + SIDE, x : x + SIDE].mean())
    assert np.mean(covered) > 3 * 0.25


def test_a_saved_mask_stays_as_it_is_edited(manifest):
    """A plan has its masks after decoding, and what is edited in it is what comes."""
    recipe = dv.Recipe(dv.ClipSampling(num_frames=4, stride=2), (), masks=(dv.MotionMask(0.25),))
    with dv.VideoLoader(manifest, recipe, 2, device="cpu") as loader:
        plan = next(iter(loader)).plan
        assert plan.masks[0].shape == (2, 2, 12, 16)
        plan.masks[0][:] = ~plan.masks[0]
        batch = loader.apply(plan)
    np.testing.assert_array_equal(batch.masks[0].numpy(), plan.masks[0])
    assert batch.tokens().visible.shape == (2, 96) and batch.tokens().masked.shape == (2, 288)


def drawn(mask, vectors, frames=None, samples=1, seed=0):
    """Masks for clips that all move alike: vectors (2, F, h, w)."""
    frames = np.arange(np.shape(vectors)[1]) if frames is None else frames
    vectors, frames = np.asarray(vectors, np.float32)[:, :: mask.tubelet], frames[:: mask.tubelet]
    vectors = np.broadcast_to(vectors, (samples, *vectors.shape))
    motion = ClipMotion(vectors, np.broadcast_to(frames, (samples, len(frames))), 16)
    grid = Grid(*vectors.shape[2:])
    return mask.draw(Draws(seed, 0, np.arange(samples)), grid, motion)


def test_boxes_begin_where_much_moves():
    """Of two cells that move, one three times as far, a box begins at that one in three of four clips."""
    vectors = np.zeros((2, 2, 14, 14))
    vectors[0, :, 2, 2], vectors[0, :, 11, 11] = 5, 15
    masks = drawn(dv.MotionMask(0.1), vectors, samples=4000)
    first, second = masks[:, 0, 2, 2], masks[:, 0, 11, 11]
    assert (first ^ second).all() and (masks.sum((2, 3)) == 19).all()
    assert abs(second.mean() - 0.75) < 5 * (0.75 * 0.25 / 4000) ** 0.5


def test_a_box_goes_as_far_as_the_frames_are_apart():
    """What is seen to move in the first frame alone, by half a token a frame, is followed through frames without."""
    vectors = np.full((2, 8, 14, 14), np.nan)
    vectors[:, 0] = 0
    vectors[0, 0, 6:8, 2:4] = 8
    (mask,) = drawn(dv.MotionMask(0.1, tubelet=1), vectors, np.arange(0, 16, 2))
    columns = [float(np.nonzero(frame)[1].mean()) for frame in mask]
    assert np.diff(columns) == pytest.approx([1.0] * 7, abs=0.5) and columns[-1] - columns[0] == pytest.approx(7, abs=1)


def test_a_camera_that_pans_moves_nothing():
    """Motion is that against most of the frame: a box begins at what the camera follows."""
    vectors = np.zeros((2, 2, 14, 14))
    vectors[0] = 10
    vectors[0, :, 4:6, 4:6] = 0  # what the camera follows
    masks = drawn(dv.MotionMask(0.1), vectors, samples=50)
    assert masks[:, 0, 4:6, 4:6].mean() > 0.95


@pytest.mark.parametrize("patch", [14, 16, 24, 32, (16, 48)])
def test_the_motion_of_a_token_is_that_of_all_its_pixels(patch):
    """Wherever the one cell is that moves, a mask of one token is of one that has pixels of it."""
    height, width = patch if isinstance(patch, tuple) else (patch, patch)
    grid, mask = Grid(1, 672 // height, 672 // width), dv.MotionMask(1.5 * height * width / 672**2, patch=patch)
    rng, frames = np.random.default_rng(0), np.array([[0]])
    for row, column in ((3, 4), (4, 5), (5, 3), (6, 6)):
        vectors = np.zeros((1, 2, 1, 42, 42), np.float32)
        vectors[:, :, :, row, column] = 3
        vectors[:, :, :, 20:][rng.random((1, 2, 1, 22, 42)) < 0.5] = np.nan
        (down, across) = np.argwhere(mask.draw(Draws(0, 0, np.arange(1)), grid, ClipMotion(vectors, frames, 16))[0, 0])[
            0
        ]
        assert height * down < 16 * row + 16 and height * down + height > 16 * row
        assert width * across < 16 * column + 16 and width * across + width > 16 * column
        pixels = np.repeat(np.repeat(vectors, 16, 3), 16, 4)
        (moves,), _ = mask._of_tokens(grid, ClipMotion(vectors, frames, 16))
        blocks = pixels[0, ::-1, 0].reshape(2, grid.height, height, grid.width, width)
        with np.errstate(invalid="ignore"):  # NaN where nothing of a token is known
            expected = np.nansum(blocks, (2, 4)) / (~np.isnan(blocks)).sum((2, 4))
        expected /= np.array([height, width]).reshape(2, 1, 1)
        np.testing.assert_allclose(moves[:, 0], expected, rtol=1e-12)


def test_masks_are_exact_whatever_moves():
    rng = np.random.default_rng(0)
    for ratio, shape, patch in ((0.75, (14, 14), 16), (0.5, (7, 11), 32), (0.9, (16, 16), 14), (0.3, (3, 20), 16)):
        mask = dv.MotionMask(ratio, patch=patch, tubelet=2)
        vectors = np.where(rng.random((5, 2, 4, 20, 40)) < 0.3, np.nan, rng.normal(size=(5, 2, 4, 20, 40)) * 30)
        motion = ClipMotion(vectors.astype(np.float32), np.sort(rng.integers(0, 90, (5, 4)), 1), 16)
        masks = mask.draw(Draws(1, 2, np.arange(5)), Grid(4, *shape), motion)
        assert (masks.sum((2, 3)) == int(ratio * shape[0] * shape[1])).all()
    with pytest.raises(ValueError, match="ratio 0.01 masks 0 of the 4 tokens of a frame"):
        drawn(dv.MotionMask(0.01), np.zeros((2, 2, 2, 2)))
    with pytest.raises(ValueError, match=re.escape("MotionMask: ratio must be in (0, 1), got 1.5")):
        dv.MotionMask(1.5)


def random_motion(rng, kind, shape):
    """(B, 2, F, h, w) float32 of several kinds: rests, moves as one, has ties, is known from some frame on."""
    vectors = rng.normal(size=shape) * rng.choice([0.01, 1, 30])
    if kind == 1:
        vectors = np.round(vectors * 4) / 4
    if kind == 2:
        vectors[rng.random(shape) < 0.9] = 0
    if kind == 3:
        vectors[:, :, : shape[2] // 2 + 1] = np.nan
    if kind == 4:
        vectors[:] = vectors[..., :1, :1, :1]
    unknown = rng.random((shape[0], 1, *shape[2:])) < rng.choice([0, 0.3, 1], p=[0.4, 0.5, 0.1])
    unknown |= (rng.random((shape[0], 1, shape[2], 1, 1)) < 0.6) & (kind in (0, 4))  # key frames
    return np.where(unknown, np.nan, vectors).astype(np.float32)


def test_masks_match_the_reference():
    """Exactly, on purpose: a sum that is rounded otherwise may move a box by a token."""
    rng, masked = np.random.default_rng(0), 0
    for i in range(300):
        batch, frames, height, width = rng.integers(1, (4, 7, 24, 24)).tolist()
        mask = dv.MotionMask(float(rng.uniform(0.05, 0.95)), patch=(16, 16, 32, 14)[i % 4], tubelet=1 + i % 3)
        grid = Grid(frames, *(max(side * 16 // mask.patch, 2) for side in (height, width)))
        if not 0 < (count := int(mask.ratio * grid.per_frame)):
            continue
        cells = [-(-side * mask.patch // 16) for side in grid[1:]]
        shape = batch, 2, frames, *cells
        motion = ClipMotion(random_motion(rng, i % 5, shape), np.sort(rng.integers(0, 90, (batch, frames)), 1), 16)
        draws = Draws(i, 3, rng.integers(0, 99, batch), prefix="mask.MotionMask")
        aspect = draws.uniform("aspect", 1, 2)
        aspect = np.where(draws.integers("upright", 2) > 0, aspect, 1 / aspect)
        high = np.clip(np.sqrt(count * aspect), count / grid.width, grid.height)
        moved, times = mask._of_tokens(grid, motion)
        boxes = np.stack([high, count / high], 1)
        expected = motion_mask_reference.follow_motion(moved, times, boxes, draws.uniform("start"), count)
        np.testing.assert_array_equal(mask.draw(draws, grid, motion), expected)
        masked += expected.any()
    assert masked > 250


# ---- Vectors as they come


def test_the_order_of_coded_pictures():
    """How many are decoded before one and shown after it, and what the last is that may refer to one: by counting."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        order, stream = CodedOrder(), IndexedStream(av.CodecContext.create("mpeg4", "r"), {}, Fraction(1, 25))
        shown = np.arange(12) + rng.normal(size=12) * rng.choice([0, 0.5, 3])
        stamps, referred = shown.argsort().tolist(), (rng.random(12) < 0.6).tolist()
        for rank, (pts, is_referred) in enumerate(zip(stamps, referred, strict=True)):
            packet = av.Packet(b"\0\0\1\xb6" + (b"\x50" if is_referred else b"\x90"))  # P and B
            packet.pts = pts
            order.look(packet, rank, stream, unsure=True)
        wanted, most = sorted(rng.permutation(12)[: rng.integers(13)].tolist()), int(rng.integers(1, 4))
        last = {}
        for pts in wanted:
            before = [p for p in range(pts) if referred[stamps.index(p)] and stamps.index(p) < stamps.index(pts)]
            last |= dict.fromkeys(before[-most:], 100 + pts)
        assert order.last_uses({pts: 100 + pts for pts in wanted}, most) == last
        later = [sum(referred[k] and stamps[k] > stamps[i] for k in range(i)) for i in range(12)]
        assert [order.num_later(pts, rank) for rank, pts in enumerate(stamps)] == later


@pytest.mark.parametrize("step", [1, 3, 6])
@pytest.mark.parametrize("name, more", [("one_reference", 0), ("p_frames", 0), ("b_frames", 1), ("b_pyramid", 1)])
def test_no_more_pictures_are_kept_than_may_be_needed(folder, name, more, step):
    """As many as the file says, and in pyramids one more, which is decoded after some frame that is shown after it.

    Only what a frame that is looked at may refer to is kept, and not longer.
    """
    video, most, wanted = measured_video(folder / f"{name}.mp4"), 0, set(range(0, 20, step))
    vectors = Vectors(video, wanted, set(range(20)))
    with open_source(video) as (source, stream):
        (cut,) = read_cuts(source, stream, video, np.arange(20))
        for frame, index in decode_cut(decoder_of(stream, vectors=True), vectors.begin(cut), video):
            vectors.add(frame, index)
            most = max(most, len(vectors._earlier))
            left = vectors._num_earlier * sum(i > index for i in wanted)
            assert len(vectors._earlier) <= left and all(index < one.until <= max(wanted) for one in vectors._earlier)
            assert frame.pict_type == 3 or not vectors._waiting  # B-frames wait for the P-frame that they refer to
    assert set(vectors.found) == wanted - {0} and most <= vectors._num_earlier + more
    assert most == vectors._num_earlier + more or step > 1


@pytest.mark.parametrize(
    "name", ["mpeg4_avi_bframes", "h264_avi", "h264_transport_stream", "h264_bframes", "h264_open_gop"]
)
def test_the_map_of_a_frame_is_the_same_whatever_else_is_asked_for(name, tmp_path):
    """Whether frames are found by counting or by time stamps; also of the last frame that is asked for."""
    file, options = VIDEO_CASES[name]
    write_video(tmp_path / file, square_frames(), **options)
    video = measured_video(tmp_path / file)
    whole, known = motion_of(video, np.arange(20)), 0
    for some in ([7, 4, 13], [6], [3], [9], [18, 15], [11], [12]):
        np.testing.assert_array_equal(motion_of(video, some), whole[some])
        known += np.isfinite(whole[some]).any((1, 2, 3)).sum()
    assert known >= 5
    for every in (2, 3):
        some = motion_of(video, np.arange(20), plain_view(20)._replace(every=every))
        assert np.array_equal(some[::every], whole[::every], equal_nan=True)
        assert all(np.isnan(frame).all() for i, frame in enumerate(some) if i % every)
    twice = motion_of(video, np.arange(10).repeat(2), plain_view(20)._replace(every=2))
    assert np.array_equal(twice[::2], whole[:10], equal_nan=True) and np.isnan(twice[1::2]).all()


def test_pictures_whose_order_is_not_known(tmp_path):
    """B-frames in AVI have no time stamps that are right; what is found of them is nearly the same as in MP4."""
    maps, options = [], {"crf": "18", "g": "100", "bf": "3", "x264-params": "ref=8:me=umh:b-adapt=0:scenecut=0"}
    for name in ("a.avi", "a.mp4"):
        write_video(tmp_path / name, square_frames(), options=options)
        video, most = measured_video(tmp_path / name), []
        assert is_counted(video) == (name == "a.avi")
        maps.append(motion_of(video, np.arange(20)))
        vectors = Vectors(video, {19}, {19})
        with open_source(video) as (source, stream):
            (cut,) = read_cuts(source, stream, video, np.array([19]))
            for frame, index in decode_cut(decoder_of(stream, vectors=True), vectors.begin(cut), video):
                vectors.add(frame, index)
                most.append(len(vectors._earlier))
        assert max(most) == vectors._num_earlier + (2 if name == "a.avi" else 0)
    assert ((maps[0] == maps[1]) | (np.isnan(maps[0]) & np.isnan(maps[1]))).mean() > 0.99
