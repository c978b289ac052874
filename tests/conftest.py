"""What the tests share: builders of videos, clips and rows, comparisons, and the fixtures."""

import hashlib
import io
import itertools
import os
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import stand_in
import stand_in_driver
import torch

import dali_vidaug as dv
from dali_vidaug import geometry, kernels
from dali_vidaug.commands import demo
from dali_vidaug.commands.checks import numbered as numbered_videos
from dali_vidaug.commands.checks.numbered import read_number as read_number
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.schema import SCHEMA
from dali_vidaug.device import driver, gpu, nvdec
from dali_vidaug.drawing import draw_ops
from dali_vidaug.media.container import ANY_TAGS
from dali_vidaug.media.cut import open_source, read_cuts
from dali_vidaug.media.decode import decode_cut, decoder_of
from dali_vidaug.media.encode import write_video
from dali_vidaug.media.measure import measure
from dali_vidaug.media.remux import remux
from dali_vidaug.ops.blend import new_rows
from dali_vidaug.ops.randaugment import CODES, args_dtype
from dali_vidaug.plan import Plan
from dali_vidaug.rng import Draws
from dali_vidaug.timing import draw_time

# ---- Comparisons


def assert_pixels(actual, expected, *, max_diff=0, max_fraction=1.0):
    """uint8 arrays agree: no value differs by more than max_diff, and at most a share max_fraction differs at all."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == np.uint8, (
        f"{actual.shape} {actual.dtype}, expected {expected.shape} {expected.dtype}"
    )
    diff = np.abs(actual.astype(int) - expected)
    worst = np.unravel_index(diff.argmax(), diff.shape)
    assert diff.max() <= max_diff, (
        f"differs by {diff.max()} at {tuple(map(int, worst))}: {actual[worst]}, expected {expected[worst]}; "
        f"{(diff > 0).mean():.2%} of the values differ"
    )
    assert (diff > 0).mean() <= max_fraction, f"{(diff > 0).mean():.2%} of the values differ"


SIGMAS = 5  # standard deviations that a random result may be off


def fits_distribution(values, distribution, low=0.0, high=1.0, bins=40):
    """Whether values have a distribution function, by a chi-square test."""
    edges = np.linspace(low, high, bins + 1)
    expected = np.diff(distribution(edges)) * len(values)
    counts = np.histogram(values, edges)[0]
    statistic = ((counts - expected) ** 2 / expected).sum()
    return counts.sum() == len(values) and statistic < bins + SIGMAS * (2 * bins) ** 0.5


def same_distribution(a, b):
    """Whether two sets of integers come from one distribution, by a chi-square test of what is not rare."""
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    x, y = (np.bincount(v - low, minlength=high - low + 1) for v in (a, b))
    common = x + y > 20
    x, y = (np.append(v[common], v[~common].sum()) for v in (x, y))
    n = common.sum()
    return ((x - y) ** 2 / np.maximum(x + y, 1)).sum() < n + SIGMAS * (2 * n) ** 0.5


# Known answers published with Random123 (kat_vectors, philox4x32 10): counter and key, result.
PHILOX_ANSWERS = [
    ("00000000 00000000 00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def parse_words(text):
    """Hexadecimal words as numbers."""
    return [int(word, 16) for word in text.split()]


def import_torchvision():
    """(torchvision, its transforms.v2, its tv_tensors); raises ImportError where it is not installed."""
    try:
        import torchvision
    except RuntimeError:  # without its compiled part it lacks the two operators that its import looks for
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    return torchvision, v2, tv_tensors


@pytest.fixture(scope="session")
def torchvision():
    """What ``import_torchvision`` gives."""
    try:
        return import_torchvision()
    except ImportError:
        pytest.skip("torchvision is not installed")


@pytest.fixture(scope="session")
def v2(torchvision):
    """torchvision's transforms.v2."""
    return torchvision[1]


# ---- The training program of examples/


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """Manifests of twelve videos to train on and eleven to validate with, which is odd: two files."""
    folder = tmp_path_factory.mktemp("shapes")
    demo.make_videos(folder / "train", per_class=3)
    demo.make_videos(folder / "validation", per_class=3, seed=1)
    (folder / "validation" / "square_up" / "02.mp4").unlink()
    train = dv.scan(folder / "train", output=folder / "train.parquet", progress=False)
    dv.scan(folder / "validation", like=train, output=folder / "validation.parquet", progress=False)
    return [str(folder / "train.parquet"), str(folder / "validation.parquet")]


# ---- Videos of numbered frames

HEIGHT, WIDTH = 96, 160
NUM_FRAMES = 70  # of each of VIDEO_CASES
REALTIME_VP9 = dict(codec="libvpx-vp9", options={"g": "10", "b": "1M", "deadline": "realtime", "cpu-used": "8"})
VIDEO_CASES = {  # name: file name, write_video's options
    "h264_bframes": ("v.mp4", dict(options={"g": "24", "bf": "3", "x264-params": "b-pyramid=normal"})),
    "h264_one_key": ("v.mp4", dict(options={"g": "1000", "bf": "2"})),
    "h264_open_gop": ("v.mkv", dict(options={"g": "20", "bf": "3", "x264-params": "open-gop=1:scenecut=0"})),
    "h264_intra_refresh": ("v.mkv", dict(options={"g": "20", "x264-params": "intra-refresh=1:scenecut=0"})),
    "h264_transport_stream": ("v.ts", dict(options={"g": "20", "bf": "3", "x264-params": "open-gop=1:scenecut=0"})),
    "h264_avi": ("v.avi", dict(options={"g": "20", "bf": "2"})),
    "h264_444": ("v.mp4", dict(options={"g": "20", "bf": "2"}, pixel_format="yuv444p")),
    "h264_444_ts": ("v.ts", dict(options={"g": "20", "bf": "2"}, pixel_format="yuv444p")),
    "h264_10_bit": ("v.mp4", dict(options={"g": "20", "bf": "2"}, pixel_format="yuv420p10le")),
    "hevc_open_gop": (
        "v.mp4",
        dict(codec="libx265", options={"x265-params": "keyint=20:open-gop=1:bframes=3:log-level=none"}),
    ),
    "hevc_layers": (
        "v.mp4",
        dict(codec="libx265", options={"x265-params": "keyint=20:temporal-layers=2:bframes=4:log-level=none"}),
    ),
    "hevc_mkv": ("v.mkv", dict(codec="libx265", options={"x265-params": "keyint=20:open-gop=0:log-level=none"})),
    "mpeg4_avi": ("v.avi", dict(codec="mpeg4", options={"g": "12", "b": "2M"})),
    "mpeg4_avi_bframes": ("v.avi", dict(codec="mpeg4", options={"g": "12", "bf": "2", "b": "2M"})),
    "mpeg4_mp4_bframes": ("v.mp4", dict(codec="mpeg4", options={"g": "12", "bf": "2", "b": "2M"})),
    "vp8": ("v.webm", dict(codec="libvpx", options={"g": "20", "b": "1M", "deadline": "realtime", "cpu-used": "8"})),
    "vp9": (
        "v.webm",
        dict(codec="libvpx-vp9", options={"g": "20", "b": "1M", "deadline": "realtime", "cpu-used": "8"}),
    ),
    "av1": ("v.mkv", dict(codec="libsvtav1", options={"g": "20", "preset": "12", "svtav1-params": "lp=1"})),
    "mjpeg": ("v.avi", dict(codec="mjpeg", options={"q:v": "3"}, pixel_format="yuvj420p")),
}


def numbered_frame(index, height=HEIGHT, width=WIDTH):
    """A frame that shows its own number; see ``commands.checks.numbered``."""
    return numbered_videos.numbered_frame(index, height, width)


def write_numbered(path, num_frames, **options):
    """Write a video of numbered frames, with options of ``write_video``; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (numbered_frame(i) for i in range(num_frames)), **options)
    return path


def shown_numbers(frames):
    """The numbers that frames (F, H, W, 3) show."""
    return [read_number(frame) for frame in frames]


def write_broken_files(folder, source):
    """Write files that cannot be used, made of a good one: {name: a word of the reason}."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = source.read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "no_index.mp4").write_bytes(whole[: len(whole) // 3])  # the index is at the end
    with av.open(str(folder / "audio.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return {
        "empty": "empty",
        "text": "Invalid data",
        "no_index": "Invalid data",
        "audio": "no video stream, only audio",
    }


def measured_video(path, deep=False):
    """A file as a row of a manifest, with its packet index if it has one: a ``Video``."""
    row = measure(path, deep)
    assert "error" not in row, row
    row |= {"path": path.name, "label": -1, "first_frame": 0, "last_frame": row["num_frames"]}
    video = Manifest(pa.Table.from_pylist([row], SCHEMA), root=path.parent).video(0)
    return video._replace(packet_index=row["index"])


def by_container(video):
    """The video without its packet index: clips open its container."""
    return video._replace(packet_index=None)


def frame_lists(num_frames):
    """Frames as clips want them: in a row, sparse, in any order, the last, the last and the first."""
    rng = np.random.default_rng(5)
    start = int(rng.integers(0, max(1, num_frames - 30)))
    return [
        np.arange(start, start + 16).clip(max=num_frames - 1),
        np.arange(0, num_frames, 9),
        rng.integers(0, num_frames, 6),
        np.array([num_frames - 1]),
        np.array([num_frames - 1, 0, num_frames - 1]),
    ]


def frame_digest(frame, box=None):
    """A digest of a decoded frame's planes, without the padding of their rows; of a part that is shown, if given."""
    size = -(-frame.format.components[0].bits // 8)
    left, top, width, height = box or (0, 0, frame.width, frame.height)
    digest = hashlib.sha256()
    for plane in frame.planes:
        across, down = round(frame.width / plane.width), round(frame.height / plane.height)
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        rows = rows[top // down :, left // across * size :]
        digest.update(rows[: -(-height // down), : -(-width // across) * size].tobytes())
    return digest.digest()


def decode_fully(path):
    """Every frame of a file as PyAV alone decodes it: digests."""
    with av.open(str(path), **ANY_TAGS) as container:
        return [frame_digest(frame) for frame in container.decode(container.streams.best("video"))]


def cut_frames(video, frames):
    """Frames decoded from cuts: digests."""
    found = {}
    with open_source(video) as (source, stream):
        codec = decoder_of(stream)
        for cut in read_cuts(source, stream, video, frames):
            for frame, index in decode_cut(codec, cut, video):
                found[index] = frame_digest(frame)
    return [found[i] for i in frames.tolist()]


def remuxed_frames(video, frames):
    """Frames decoded from the small file that ``remux`` makes: digests."""
    data, positions = remux(video, frames)[:2]
    assert len(positions) == len(frames) and positions.dtype == np.int32
    with av.open(io.BytesIO(data.tobytes())) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        assert min(p.pts for p in packets) == 0 and not any(p.is_discard for p in packets)
    with av.open(io.BytesIO(data.tobytes())) as container:
        shown = [frame_digest(frame) for frame in container.decode(video=0)]
    assert len(shown) == len(packets), "a packet of the cut gives no frame"
    return [shown[i] for i in positions]


# ---- Plans and batches

RECIPE = dv.Recipe(
    dv.ClipSampling(num_frames=4, stride=(1, 3)),
    (dv.RandomResizedCrop(32), dv.RandomHorizontalFlip(), dv.Normalize()),
)
OWN_SIZE = dv.Recipe(RECIPE.sampling, (dv.Resize((HEIGHT, WIDTH)),))  # the numbers in the frames stay readable


def take_batches(loader, count):
    """The next ``count`` batches, through as many epochs as it takes; the loader is closed after them."""
    with loader:
        return list(itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), count))


def same_content(a, b):
    """Whether two batches have the same samples, and the same clips, targets and partners, bit for bit."""
    return (
        all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("clips", "targets", "samples"))
        and (a.mix is None) == (b.mix is None)
        and all(torch.equal(x, y) for x, y in zip(a.mix or (), b.mix or (), strict=True))
    )


def same_batch(a, b):
    """Whether two batches have the same number and the same content."""
    return (a.epoch, a.index) == (b.epoch, b.index) and same_content(a, b)


def make_videos(first, last):
    """What a sampler may know of videos of which the frames [first, last) may be used, 25 per second."""
    first, last = np.asarray(first), np.asarray(last)
    return dv.Videos(first, last, np.full(len(first), 25.0), lambda i: np.arange(last[i]) / 25)


def make_plan(recipe, shapes, seed=0):
    """A plan of a recipe's ops for clips in memory, of these shapes (F, H, W)."""
    samples = np.arange(len(shapes))
    count, height, width = np.array(shapes).T
    videos = make_videos(0 * samples, count)
    frames, moved = draw_time(recipe, Draws(seed, 0, samples), np.tile(np.arange(count[0]), (len(shapes), 1)), videos)
    drawn = draw_ops(recipe, Draws(seed, 0, samples), frames.shape[1], height, width)
    return Plan(
        recipe=recipe, seed=seed, epoch=0, batch=0, samples=samples, views=0 * samples, frames=frames,
        args={**moved, **drawn.args},
    )  # fmt: skip


def default_op(name):
    """An op of the package with its defaults; TorchModule, which has none, with a module that changes nothing."""
    if name == "TorchModule":
        dv.register_module("unchanged", lambda clips: clips)
        return dv.TorchModule("unchanged")
    return getattr(dv.ops, name)()


def draw_rows(op, samples, size, seed=0, batch=0):
    """What an op draws for some samples (or for the first so many) whose clips are of a size (F, H, W)."""
    samples = np.arange(samples) if np.ndim(samples) == 0 else np.asarray(samples)
    return op.draw(Draws(seed, 0, samples, prefix=getattr(op, "name", "op"), batch=batch), *size)


# ---- Clips and rows for the kernels

ENHANCE = ("Brightness", "Contrast", "Color", "Sharpness")
# Values of an op over the whole of its range and beyond, none of them round: round ones make ties.
RANDAUGMENT_VALUES = {
    "Posterize": np.arange(9), "Solarize": np.linspace(0, 256, 13), "SolarizeAdd": np.arange(0, 111, 10),
    **dict.fromkeys(ENHANCE, np.linspace(0.0513, 1.9871, 11)), "Rotate": np.linspace(-134.71, 134.71, 12),
    "ShearX": np.linspace(-0.987, 0.987, 12), "ShearY": np.linspace(-0.987, 0.987, 12),
    "TranslateX": np.linspace(-101.13, 101.13, 24), "TranslateY": np.linspace(-101.13, 101.13, 24),
}  # fmt: skip
BLEND_WEIGHTS = np.array([0, 1, 0.5, 1 / 32768, 32767 / 32768, 0.7315])


def patterned_clip(shape, seed=0):
    """Noise, a dark frame of little contrast, a frame of one colour, a frame of smooth shapes, and so on again."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    frames[1::4] = 37 + frames[1::4] // 5
    frames[2::4] = frames[2::4, :1, :1]
    y, x = np.mgrid[: shape[1], : shape[2]]
    frames[3::4] = np.stack([x * 7 % 256, y * 5 % 256, (x + y) * 3 % 256], -1)
    return frames


def noise_clips(*shapes, seed=0):
    """A clip of noise for each shape (F, H, W)."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def extreme_clips(shape, count=5, seed=0):
    """Clips of one shape: all black, all white, and noise."""
    clips = noise_clips(*[shape] * count, seed=seed)
    clips[0][:], clips[1][:] = 0, 255
    return clips


def randaugment_rows(ops, frames, *, bilinear=False, per_clip=False, seed=0):
    """One row for each clip. ``ops``: for each clip a sequence of names. Values vary from frame to frame."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(len(ops), args_dtype(max(map(len, ops)), frames))
    rows["num_values"], rows["bilinear"], rows["per_clip"], rows["fill"] = frames, bilinear, per_clip, (200, 100, 7)
    for row, names in zip(rows, ops, strict=True):
        for i, name in enumerate(names):
            row["op"][i] = CODES.index(name)
            row["value"][i] = rng.choice(RANDAUGMENT_VALUES.get(name, [0]), frames)
    return rows


def random_chains(count, length, seed):
    """Names of RandAugment-T's ops: ``count`` chains of them."""
    rng = np.random.default_rng(seed)
    return [rng.choice(CODES, length).tolist() for _ in range(count)]


def random_matrices(shape, kind, seed):
    """(F, 3, 3): strong and weak ones, with parts far outside."""
    rng = np.random.default_rng(seed)
    frames, height, width = shape
    far = 10.0 ** rng.uniform(-2, 0.5, frames)
    matrices = geometry.affine(
        rng.uniform(-180, 180, frames), far * rng.normal(size=frames) * width, far * rng.normal(size=frames) * height,
        np.exp(rng.normal(size=frames)), rng.uniform(-60, 60, frames), rng.uniform(-60, 60, frames), height, width,
    )  # fmt: skip
    if kind == "perspective":
        matrices[:, 2, :2] = rng.normal(size=(frames, 2)) / (height + width)
    if kind == "tilted":  # as seen from below
        matrices[:, 2, 1] = rng.normal(size=frames) / (height + width)
    if kind == "moved":  # rows that come from two rows
        matrices = geometry.matrix_of(1, rng.normal(size=frames), far * rng.normal(size=frames) * width, 0, 1, far)
    if kind == "whole pixels":
        matrices = geometry.translation(*rng.integers(-3, 4, (2, frames)))
    return matrices


def blend_rows(shape, count=5, seed=0, erased=False):
    """Rows of which every field means something: boxes that move, weights that change, empty and whole boxes."""
    rng = np.random.default_rng(seed)
    rows = new_rows(count, *shape)
    rows["partner"] = -1 if erased else (np.arange(count) + rng.integers(1, count, count)) % count
    rows["first"], rows["last"] = np.sort(rng.integers(0, shape[0] + 1, (2, count)), 0)
    for low, high, length in (("top", "bottom", shape[1]), ("left", "right", shape[2])):
        rows[low], rows[high] = np.sort(rng.integers(0, length + 1, (2, count, 2)), 0)
    for name in ("inside", "outside"):
        rows[name] = rng.choice(BLEND_WEIGHTS, (count, 2))
        still = rng.random(count) < 0.5
        rows[name][still, 1] = rows[name][still, 0]
    rows["color"] = rng.uniform(0, 255, (count, 3))
    rows["spread"] = rng.choice([0, 1], (count, 1)) * rng.uniform(0, 120, (count, 3))
    rows["key"] = rng.integers(0, 2**32, (count, 2))
    return rows


# ---- Fixtures


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """A folder with 12 H.264 videos of numbered frames in two classes, 40 to 62 frames, a key frame every 24."""
    folder = tmp_path_factory.mktemp("numbered")
    for i in range(12):
        write_numbered(folder / ("even", "odd")[i % 2] / f"{i:02d}.mp4", 40 + 2 * i)
    return folder


@pytest.fixture
def libraries():
    """The kernels for any CPU, and those for CPUs with AVX2."""
    found = [kernels._load("baseline")]
    if not found[0].has_avx2():
        pytest.skip("no AVX2")
    return [*found, kernels._load("avx2")]


@pytest.fixture(scope="session")
def numbered_manifest(numbered):
    """The manifest of ``numbered``."""
    return dv.scan(numbered, progress=False)


@pytest.fixture(scope="session")
def case_video(tmp_path_factory):
    """A function that gives the ``Video`` of one of ``VIDEO_CASES``, whose file is written once."""
    folder = tmp_path_factory.mktemp("cases")
    made = {}

    def get(case):
        if case not in made:
            name, options = VIDEO_CASES[case]
            made[case] = measured_video(write_numbered(folder / case / name, NUM_FRAMES, **options))
        return made[case]

    return get


def _real(name):
    root = os.environ.get("DALI_VIDAUG_TEST_VIDEOS")
    if not root:
        pytest.skip("DALI_VIDAUG_TEST_VIDEOS is not set")
    return Path(root) / name


@pytest.fixture(scope="session")
def real_videos():
    """The folder of real files, each with its own trouble."""
    return _real("videos")


@pytest.fixture(scope="session")
def fight_manifest(tmp_path_factory):
    """The manifest of a data set of 300 real videos."""
    return dv.scan(_real("fight"), output=tmp_path_factory.mktemp("fight") / "fight.parquet", progress=False)


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Where a test runs. Without a GPU its half is skipped, unless DALI_VIDAUG_REQUIRE_GPU=1."""
    if request.param == "gpu":
        reason = gpu.problem()
        if reason and os.environ.get("DALI_VIDAUG_REQUIRE_GPU") == "1":
            pytest.fail(f"DALI_VIDAUG_REQUIRE_GPU=1, but no GPU: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"no GPU: {reason}")
    return request.param


@pytest.fixture
def fake_cupy(monkeypatch):
    """What the launcher takes for CuPy: a ``stand_in.Cupy`` that keeps the launches."""
    yield from stand_in.in_place_of_cupy(monkeypatch)


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory):
    """The path of a library that stands in for libcuda.so.1."""
    return stand_in_driver.build_libcuda(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="session")
def libnvcuvid(libcuda):
    """The path of a library that stands in for libnvcuvid.so.1."""
    return stand_in_driver.build_libnvcuvid(libcuda)


@pytest.fixture
def use_driver(libcuda, monkeypatch):
    """A function that puts a driver in place of the machine's: use_driver(INIT=100). At first one with an H100."""
    monkeypatch.setattr(driver, "LIBCUDA", libcuda)

    def configure(**facts):
        for name, value in (stand_in_driver.FACTS | facts).items():
            monkeypatch.setenv(f"STAND_IN_{name}", str(value))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    configure()
    return configure


@pytest.fixture
def use_nvdec(use_driver, libnvcuvid, monkeypatch):
    """As ``use_driver``, with a library for decoding."""
    monkeypatch.setattr(nvdec, "LIBNVCUVID", libnvcuvid)
    return use_driver
