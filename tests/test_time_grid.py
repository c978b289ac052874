"""Frames chosen by time: against ffmpeg's filter, and for one scene at several frame rates."""

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from conftest import _real, make_videos

import dali_vidaug as dv
from dali_vidaug.rng import Draws
from dali_vidaug.sampling.grid import Grid

VARIABLE = ("FLIR_Thermal.mp4", "awesome_movie.mov", "cursed-vfr.mp4", "part_0.mp4", "skateboarding_dog.mp4")


def timed(times, fps=None, first=0, last=None):
    """A video whose frames are shown at these times."""
    times = np.asarray(times, float)
    last = len(times) if last is None else last
    rate = (len(times) - 1) / (times[-1] - times[0]) if fps is None else fps
    return dv.Videos(np.array([first]), np.array([last]), np.array([rate]), lambda i: times)


def draws_of(count, views=0):
    return Draws(0, 0, np.arange(count), views, "Sampler")


def grid_frames(videos, fps, rule="near"):
    """The frames at all whole positions of a time line."""
    grid = Grid(dv.ClipSampling(), draws_of(1), videos, fps, rule)
    return grid.frames(np.arange(np.ceil(grid.length[0] - 1e-7))[None])[0].tolist()


def ffmpeg_frames(pts, time_base, fps, durations=None):
    """What ffmpeg's filter fps makes of frames with these time stamps: the number of the frame in each output."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format="gray", time_base=time_base)
    chain = [source, graph.add("setpts", "PTS-STARTPTS"), graph.add("fps", str(fps)), graph.add("buffersink")]
    for one, other in itertools.pairwise(chain):
        one.link_to(other)
    graph.configure()
    found = []

    def take():
        while True:
            try:
                pixels = graph.vpull().to_ndarray()
            except (BlockingIOError, EOFError):
                return
            found.append(int(pixels[0, 0]) + 256 * int(pixels[0, 1]))

    for i, stamp in enumerate(pts):
        pixels = np.zeros((16, 16), np.uint8)
        pixels[0, :2] = i % 256, i // 256
        frame = av.VideoFrame.from_ndarray(pixels, "gray")
        frame.pts, frame.time_base = int(stamp), time_base
        if durations is not None:
            frame.duration = int(durations[i])
        graph.vpush(frame)
        take()
    graph.vpush(None)
    take()
    return found


# Literal lists: what ffmpeg's filter gives
@pytest.mark.parametrize(
    "rate, fps, expected",
    [
        (30, 10, [1, 4, 7]),
        (60, 30, [0, 2, 4]),
        (24, 30, [0, 1, 1, 2, 3, 4, 5, 5, 6]),
        (25, 30, [0, 1, 2, 2, 3, 4, 5, 6, 7, 7]),
        (30, 25, [0, 1, 2, 4, 5, 6, 7, 8, 10]),
    ],
)
def test_the_nearest_frame_of_a_grid(rate, fps, expected):
    found = grid_frames(timed(np.arange(60) / rate, rate), fps)
    assert found[: len(expected)] == expected
    assert found == ffmpeg_frames(np.arange(60), Fraction(1, rate), fps, np.ones(60))


def test_a_variable_rate_on_a_grid():
    """The nearest; and the one shown at each time: the last that began."""
    videos = timed([0, 0.1, 0.14, 0.4, 0.45], fps=10)
    assert grid_frames(videos, 10)[:6] == [0, 2, 2, 2, 3, 4]
    assert grid_frames(videos, 10, "played") == [0, 1, 2, 2, 3, 4]
    assert grid_frames(videos, 10, "rate") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fps", [1, 4, 7.5, 10, 12, 15, 24, 25, 29.97, 30, 50, 59.94])
def test_random_time_stamps_on_ffmpegs_grid(fps):
    """Halves, bursts and gaps, in ticks that rates do and do not divide: all outputs are ffmpeg's."""
    rng = np.random.default_rng(int(fps * 100))
    for ticks in (600, 1000, 15360, 30000, 90000):
        rate = Fraction(str(fps))
        gaps = rng.integers(1, ticks // 5, 200)
        gaps[rng.random(200) < 0.3] = max(1, int(ticks / fps / 2))  # many on the border of two steps
        pts = np.cumsum(gaps) + rng.integers(0, 1000)
        duration = round(ticks / fps)
        expected = ffmpeg_frames(pts, Fraction(1, ticks), rate, np.full(200, duration))
        found = grid_frames(timed((pts - pts[0]) * (1 / ticks), ticks / duration), fps)
        size = min(len(found), len(expected))
        assert found[:size] == expected[:size] and abs(len(found) - len(expected)) <= 1


@pytest.mark.parametrize("name", VARIABLE)
@pytest.mark.parametrize("fps", [4, 10, 25, 30, Fraction(30000, 1001)], ids=str)
def test_real_variable_rates_on_ffmpegs_grid(name, fps):
    """Time stamps and durations as the file's decoder gives them, frames numbered."""
    path = _real("videos") / name
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stamps = [(frame.pts, frame.duration or 0) for frame in container.decode(stream)]
        base = stream.time_base
    pts, durations = np.array(stamps).T
    expected = ffmpeg_frames(pts, base, fps, durations)
    manifest = dv.scan(str(path), progress=False, index=False)
    assert manifest.rows("pts")[0] is not None, "the rate is not variable"
    found = grid_frames(manifest.videos([0]), float(fps))
    size = min(len(found), len(expected))
    print(name, fps, len(pts), len(found), len(expected))
    assert found[:size] == expected[:size]
    assert abs(len(found) - len(expected)) <= 1 + float(fps) * abs(1 / manifest.rows("fps")[0] - durations[-1] * base)
    sampler = dv.ClipSampling(8, 2, start="first", fps=float(fps), grid="near", short="loop")
    if size > 14:
        assert sampler.draw(draws_of(1), manifest.videos([0]))[0].tolist() == expected[:16:2]


@pytest.mark.parametrize("rate", [24, 25, 30000 / 1001, 30, 60])
@pytest.mark.parametrize("start", ["random", "first", "center"])
@pytest.mark.parametrize("rule", ["played", "near", "rate"])
@pytest.mark.parametrize("short", ["repeat", "loop", "shrink"])
def test_the_videos_own_rate_is_sampling_by_index(rate, start, rule, short):
    """Property: on a grid of the video's own rate all rules give the frames of sampling by index, from equal draws."""
    lengths = np.arange(1, 400)
    videos = make_videos(0 * lengths, lengths)
    videos = dv.Videos(videos.first, videos.last, np.full(len(lengths), rate), lambda i: np.arange(lengths[i]) / rate)
    draws = draws_of(len(lengths))
    by_index = dv.ClipSampling(8, (1, 4), start, short).draw(draws, videos)
    by_time = dv.ClipSampling(8, (1, 4), start, short, fps=rate, grid=rule).draw(draws, videos)
    if short == "shrink" and rule != "near":  # by time a stride need not be whole
        by_index, by_time = by_index[lengths >= 29], by_time[lengths >= 29]
    assert (by_index == by_time).all()


def test_parts_of_a_video_count_from_their_first_frame():
    """A segment of [20, 60): clips of the seconds of the segment alone, on each grid."""
    times = np.cumsum(np.tile([0.02, 0.06], 40)) - 0.02
    videos = timed(times, 25, 20, 60)
    for rule in ("played", "near", "rate"):
        frames = dv.ClipSampling(5, 1, "first", fps=5, grid=rule).draw(draws_of(1), videos)[0]
        assert frames[0] in (20, 21, 22) and frames.max() < 60
        seconds = times[frames] - times[20]
        assert np.abs(seconds - np.arange(5) / 5).max() <= (0.1 if rule == "near" else 0.06)


RATES = {"30": 30.0, "25": 25.0, "59.94": 60000 / 1001, "variable": None}
SPEED = 96.0  # pixels per second


def write_moving(path, rate):
    """Four seconds of a white bar whose left edge is at SPEED * seconds."""
    rng = np.random.default_rng(5)
    gaps = np.full(500, 90000 / rate) if rate else rng.choice([1500.0, 3000.0, 4500.0], 500)
    pts = np.concatenate([[0], np.cumsum(gaps)])
    pts = pts[pts < 4 * 90000 - 100].round().astype(int)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 512, 32, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 90000)
        for stamp in pts:
            pixels = np.zeros((32, 512, 3), np.uint8)
            pixels[:, round(SPEED * stamp / 90000) : round(SPEED * stamp / 90000) + 32] = 255
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = int(stamp), Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving")
    for name, rate in RATES.items():
        write_moving(folder / f"{name}.mp4", rate)
    return dv.scan(folder, progress=False)


def bar_seconds(clip):
    """When the bar of each frame was painted: (F,), from (3, F, H, W) uint8."""
    bright = clip[0].numpy().mean(1) > 128
    return bright.argmax(1) / SPEED


@pytest.mark.parametrize("rule", ["played", "near"])
@pytest.mark.parametrize("start", ["first", "center", "random"])
def test_one_scene_at_four_rates_gives_the_same_seconds(rule, start, moving):
    """30, 25, 59.94 fps and a variable rate: the bar is where it should be within one frame of each video."""
    sampling = dv.ClipSampling(8, 2, start, fps=8, grid=rule)
    with dv.VideoLoader(moving, dv.Recipe(sampling, ()), 4, shuffle=False, device="cpu") as loader:
        plan = dv.draw_plan(moving, dv.Recipe(sampling, ()), range(4))
        clips = loader.apply(plan).clips
        assert loader.report().untimed == 0
    names = [moving.path(i).split("/")[-1][:-4] for i in range(4)]
    assert sorted(names) == sorted(RATES)
    shown = [bar_seconds(clip) for clip in clips]
    longest = {"30": 1 / 30, "25": 1 / 25, "59.94": 1001 / 60000, "variable": 0.05}
    for name, seconds, frames in zip(names, shown, plan.frames, strict=True):
        assert len(np.unique(frames)) == 8
        drift = np.abs(np.diff(seconds) - 0.25)
        assert drift.max() <= longest[name] + 2 / SPEED, (name, seconds)
    if start != "random":  # the same draw would be the same share of other lengths
        for name, seconds in zip(names, shown, strict=True):
            assert np.abs(seconds - shown[names.index("59.94")]).max() <= max(longest[name], 0.02) + 2 / SPEED, name


def test_by_index_the_seconds_differ(moving):
    """What the time grid is for: without it the four clips show other seconds."""
    with dv.VideoLoader(
        moving, dv.Recipe(dv.ClipSampling(8, 8, "first"), ()), 4, shuffle=False, device="cpu"
    ) as loader:
        ends = [bar_seconds(clip)[-1] for clip in next(iter(loader)).clips]
    assert max(ends) > 1.5 * min(ends)


def test_videos_without_time_stamps_use_their_average_rate_and_are_counted(moving):
    import pyarrow as pa

    table, nulls = moving.table, pa.array([True, False, True, False])
    for name in ("pts", "pts_step"):
        column = table.schema.get_field_index(name)
        values = [
            None if null else value for value, null in zip(table[name].to_pylist(), nulls.to_pylist(), strict=True)
        ]
        table = table.set_column(column, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    manifest = dv.Manifest(table, moving.classes, moving.root)
    sampling = dv.ClipSampling(4, 2, "first", fps=10)
    rate = manifest.rows("fps")[0]
    frames = sampling.draw(draws_of(1), manifest.videos([0]))[0]
    assert frames.tolist() == np.floor(np.arange(4) * 0.2 * rate + 1e-6).astype(int).tolist()
    with dv.VideoLoader(manifest, dv.Recipe(sampling, ()), 4, device="cpu") as loader:
        assert loader.report().untimed == 0
        for _ in range(2):
            list(loader)
        report = loader.report()
    assert report.untimed == 2 and "sampled by their average frame rate: 2" in str(report)
    with dv.VideoLoader(manifest, dv.Recipe(dv.ClipSampling(4, 2), ()), 4, device="cpu") as loader:
        list(loader)
        assert loader.report().untimed == 0


def test_neither_times_nor_a_rate_are_an_error_that_names_the_file():
    videos = dv.Videos(
        np.array([0, 0]), np.array([9, 9]), np.array([25.0, np.nan]),
        lambda i: np.arange(9) / (np.nan if i else 25), path_of=lambda i: f"{i}.mp4",
    )  # fmt: skip
    for rule in ("played", "near", "rate"):
        with pytest.raises(ValueError, match=r"ClipSampling: fps cannot be used for sample 1 \(1.mp4\)"):
            dv.ClipSampling(4, fps=10, grid=rule).draw(draws_of(2), videos)


def test_fractional_positions_lie_where_the_time_does():
    """Between frames at 0.1 and 0.5 s, 0.2 s is a quarter."""
    videos = timed([0, 0.1, 0.5, 0.6], fps=10)
    sampling = dv.ClipSampling(6, 1, "first", fps=10, fractional=True)
    np.testing.assert_allclose(sampling.draw(draws_of(1), videos)[0], [0, 1, 1.25, 1.5, 1.75, 2])
    slow = dv.ClipSampling(5, 1, "first", speed=(0.5, 0.5), fractional=True)
    np.testing.assert_allclose(slow.draw(draws_of(1), videos)[0], [0, 0.5, 1, 1.5, 2])
    assert dv.ClipSampling(5, 1, "first", speed=(0.5, 0.5)).draw(draws_of(1), videos)[0].tolist() == [0, 0, 1, 1, 2]
    lengths = np.arange(1, 300)
    frames = dv.ClipSampling(7, 3, speed=(0.3, 2.0), fractional=True).draw(
        draws_of(299), make_videos(0 * lengths, lengths)
    )
    assert (frames >= 0).all() and (frames.max(1) <= lengths - 1).all() and (np.diff(frames) >= 0).all()


@pytest.mark.parametrize("rule", ["played", "near"])
def test_videos_of_one_length_have_times_of_their_own(rule):
    """Times that are made anew for each question are not taken for each other's."""
    rates = np.random.default_rng(2).uniform(5, 60, 200)
    videos = dv.Videos(np.zeros(200, int), np.full(200, 300), rates, lambda i: np.arange(300) / rates[i])
    together = dv.ClipSampling(8, 2, "first", fps=12, grid=rule).draw(draws_of(200), videos)
    for i, rate in enumerate(rates.tolist()):
        alone = dv.ClipSampling(8, 2, "first", fps=12, grid=rule).draw(draws_of(1), timed(np.arange(300) / rate, rate))
        assert together[i].tolist() == alone[0].tolist()
