"""Checks of decoding, of the kernels and of DALI's graph: pixels of a device beside the CPU's.

Each check is a function of a ``Context`` and returns a line with figures, or raises what is wrong. The same lines run
with ``device="cpu"``, where they compare the CPU with itself; what only a GPU runs is in device.py.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dali_vidaug import nvdec, ops
from dali_vidaug.checks.cases import make_clip
from dali_vidaug.checks.device import current_gpu, to_host, upload
from dali_vidaug.checks.numbered import ENCODINGS, has_encoder, read_number, write_encoding
from dali_vidaug.decode import decode
from dali_vidaug.loader import VideoLoader, augment
from dali_vidaug.manifest import Manifest
from dali_vidaug.ops.blend import blend
from dali_vidaug.ops.mix import FAMILIES
from dali_vidaug.ops.randaugment import NAMES, SUITES, randaugment
from dali_vidaug.plan import draw_plan
from dali_vidaug.recipe import Recipe
from dali_vidaug.rng import Draws
from dali_vidaug.sampling import ClipSampling
from dali_vidaug.scan import scan

MB = 1e6
NUM_FRAMES = 60  # of each video
CROPPED = (180, 320)  # height and width; coded with more rows, in multiples of 16
SHAPES = ((1, 1, 1), (4, 17, 23), (2, 48, 64), (3, 5, 70))  # frames, height, width: a pixel, odd sizes, whole rows


class Lacking(Exception):
    """The machine lacks what a check needs."""


@dataclass(frozen=True)
class Context:
    """What a check runs on.

    Attributes:
        device: "gpu" or "cpu", which is compared with the CPU.
        folder: for the videos that the checks make.
        small: fewer and smaller clips, as for tests.
    """

    device: str
    folder: Path
    small: bool = False

    @property
    def size(self):
        """Height and width of the videos; NVDEC takes HEVC from 144x144 on."""
        return (144, 176) if self.small else (240, 320)


def make_manifest(context, encoding, num_videos=1, size=None):
    """Videos of numbered frames in one of ``ENCODINGS``, written when they are not there yet."""
    name, options = ENCODINGS[encoding]
    if not has_encoder(encoding):
        raise Lacking(f"this PyAV has no encoder {options['codec']} to make a test video with")
    height, width = size or context.size
    folder = context.folder / f"{encoding}, {num_videos}, {height}x{width}"
    for i in range(num_videos):
        path = folder / "numbered" / f"{i}_{name}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial_path = context.folder / f"partial_{name}"
            write_encoding(partial_path, encoding, NUM_FRAMES, height, width, first=100 * i)
            partial_path.replace(path)
    return scan(folder, progress=False)


class Difference(NamedTuple):
    """How far two arrays differ at most, and on average."""

    most: float
    mean: float

    def __str__(self):
        return f"mean difference {self.mean:.3g}, at most {self.most:.3g}" if self.most else "equal bit for bit"


def agree(what, actual, expected, within=0.0, share=1.0, mean=np.inf):
    """Two arrays agree: at least ``share`` of their values differ by at most ``within``, all by ``mean`` on average.

    Returns:
        Their ``Difference``.

    Raises:
        AssertionError: they do not; it says where.
    """
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise AssertionError(
            f"{what}: {actual.shape} {actual.dtype}, but {expected.shape} {expected.dtype} is expected"
        )
    if actual.tobytes() == expected.tobytes():
        return Difference(0.0, 0.0)
    diff = np.abs(actual.astype(np.float64) - expected)
    found, worst = (diff <= within).mean(), tuple(map(int, np.unravel_index(diff.argmax(), diff.shape)))
    if not (found >= share and diff.mean() <= mean):
        raise AssertionError(
            f"{what}: {found:.3%} of the values within {within:g}, {share:.1%} expected; mean difference "
            f"{diff.mean():.3g}; worst at {worst}: {actual[worst]}, expected {expected[worst]}"
        )
    return Difference(float(diff.max()), float(diff.mean()))


# Levels between DALI's frames and PyAV's on a GPU. The planes are the same: these codecs are exact. From them DALI
# makes RGB on the GPU in floats, colours read bilinearly between samples that lie in the middle of four pixels; so does
# libswscale, in integers. On the CPU DALI too uses libswscale: equal.
COLORS = dict(within=4, share=0.99, mean=1)
ROUNDED = dict(within=8, share=0.99, mean=2)  # MPEG-4 and MJPEG leave it to decoders how the inverse transform rounds


def need_nvdec(context):
    """Raise where the GPU cannot decode: a GPU may have no NVDEC, but what is missing in an installation is a fault."""
    if context.device == "gpu" and (why := nvdec.problem(current_gpu())):
        raise Lacking(why) if "has no NVDEC" in why else AssertionError(why)


def check_decoding(encoding, decoder, context, size=None):
    """Frames of all kinds of clips, beside PyAV's: the right ones, in the right colours; see ``COLORS``."""
    need_nvdec(context)
    manifest = make_manifest(context, encoding, size=size)
    recipe = Recipe(ClipSampling(16, 1), ())
    frames = np.stack([np.arange(17, 33), np.arange(0, 60, 4).repeat(2)[:16], np.arange(59, 43, -1)])
    try:
        loader = VideoLoader(manifest, recipe, 1, device=context.device, decoder=decoder)
        plan = replace(draw_plan(manifest, recipe, [0] * len(frames)), frames=frames.astype(np.int32))
        pixels = to_host(loader.apply(plan).clips).transpose(0, 2, 3, 4, 1)
    except (ValueError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if "not supported on this GPU" in line]
        every_gpu_has_it = context.device == "gpu" and encoding in ("h264", "hevc")
        if every_gpu_has_it or not (lines or isinstance(error, ValueError)):
            raise
        raise Lacking(lines[0] if lines else str(error)) from error
    shown = np.array([[read_number(picture) for picture in clip] for clip in pixels])
    if (shown != frames).any():
        raise AssertionError(f"frames {frames[shown != frames].tolist()} show {shown[shown != frames].tolist()}")
    expected = np.stack([decode(manifest.video(0), wanted).pixels for wanted in frames])
    limits: dict[str, Any] = {}
    if context.device == "gpu":
        limits = ROUNDED if encoding in ("mpeg4", "mjpeg") else COLORS
    difference = agree("pixels", pixels, expected, **limits)
    return f"{frames.size} frames, the right ones; PyAV's pixels: {difference} ({loader.decoder})"


def check_both_decoders(context):
    """Clips that DALI decodes and clips that it would get wrong, by turns in a batch, turned ones too: each its own."""
    need_nvdec(context)
    folder, differences = context.folder / "both decoders", []
    for encoding in ("h264", "vp9, hidden pictures"):
        if not has_encoder(encoding):
            raise Lacking(f"this PyAV has no encoder {ENCODINGS[encoding][1]['codec']} to make a test video with")
        (folder / "numbered").mkdir(parents=True, exist_ok=True)
        write_encoding(folder / "numbered" / ENCODINGS[encoding][0], encoding, NUM_FRAMES, *context.size)
    scanned = scan(folder, progress=False)
    recipe, frames = Recipe(ClipSampling(16, 1), ()), np.tile(np.arange(20, 36, dtype=np.int32), (4, 1))
    frames += np.arange(4, dtype=np.int32)[:, None]
    for first, second in ((0, 180), (90, 270)):  # clips of a batch have one size
        table, rotation = scanned.table.take([0, 1, 0, 1]), [first, first, second, second]
        table = table.set_column(table.column_names.index("rotation"), "rotation", pa.array(rotation, pa.int32()))
        manifest = Manifest(table, scanned.classes, scanned.root)
        loader = VideoLoader(manifest, recipe, 4, device=context.device, decoder="hybrid")
        plan = replace(draw_plan(manifest, recipe, range(4)), frames=frames)
        clips = to_host(loader.apply(plan).clips).transpose(0, 2, 3, 4, 1)
        by_pyav = sum(count for _, count in loader.report().fallbacks.values())
        if by_pyav != 2:
            raise AssertionError(f"PyAV decoded {by_pyav} of 4 clips, 2 expected: {loader.report().fallbacks}")
        for i, clip in enumerate(clips):
            video = manifest.video(i)
            shown = [read_number(np.rot90(picture, video.rotation // 90)) for picture in clip]
            if shown != frames[i].tolist():
                raise AssertionError(f"clip {i}, turned by {video.rotation}, shows frames {shown}")
            limits = COLORS if context.device == "gpu" else {}
            differences.append(agree(f"clip {i}", clip, decode(video, frames[i]).pixels, **limits))
    return f"{len(differences)} clips in order, half by PyAV, in four orientations; PyAV's pixels: {max(differences)}"


def check_fallback(context):
    """DALI fails a batch for a clip that it cannot decode after all: the loader finds it and gives it to PyAV."""
    need_nvdec(context)
    # One that DALI has no decoder for, and one that it has.
    foreign, own = ("mjpeg", "h264") if context.device == "gpu" else ("h264", "vp9")
    folder = context.folder / "fallback" / "numbered"
    folder.mkdir(parents=True, exist_ok=True)
    for encoding in (foreign, own):
        if not has_encoder(encoding):
            raise Lacking(f"this PyAV has no encoder {ENCODINGS[encoding][1]['codec']} to make a test video with")
        write_encoding(folder / ENCODINGS[encoding][0], encoding, NUM_FRAMES, *context.size)
    manifest, recipe = scan(folder.parent, progress=False), Recipe(ClipSampling(16, 1), ())
    with VideoLoader(manifest, recipe, 2, device=context.device, decoder="hybrid", on_error="raise") as loader:
        loader._settings.unsuited.clear()  # now DALI is given the file that it would not be given
        batch = next(iter(loader))
        clips, fallbacks = to_host(batch.clips).transpose(0, 2, 3, 4, 1), loader.report().fallbacks
    shown = [[read_number(picture) for picture in clip] for clip in clips]
    if shown != batch.plan.frames.tolist():
        raise AssertionError(f"frames {batch.plan.frames.tolist()} show {shown}")
    if not any("DALI could not decode it" in why for why in fallbacks):
        raise AssertionError(f"DALI decoded {foreign}, or was not asked: {fallbacks}")
    return f"a clip in {foreign} that DALI failed on was decoded by PyAV, the batch is whole"


# Kernels


def compare_kernel(what, context, function, clips, rows):
    """A kernel gives the same bytes on the device and the CPU; gives how many."""
    outputs = function([upload(clip, context.device) for clip in clips], rows)
    for i, (out, expected) in enumerate(zip(outputs, function(clips, rows), strict=True)):
        agree(f"{what}, clip {i}", to_host(out), expected)
    return sum(clip.nbytes for clip in clips)


def check_randaugment(num_ops, context):
    """RandAugment-T's kernel: each op alone, or chains of ops; all suites, interpolations and statistics."""
    clips = [make_clip(i, *shape) for i, shape in enumerate(SHAPES * 3)]
    sizes = np.array([clip.shape[:3] for clip in clips]).T
    pools = [(name,) for name in NAMES] if num_ops == 1 else [None] * 6
    calls = nbytes = 0
    for suite, interpolation, statistics in product(SUITES, ("nearest", "bilinear"), ("frame", "clip")):
        for seed, pool in enumerate(pools):
            op = ops.RandAugmentT(
                num_ops, (0.0, float(SUITES[suite].highest)), ops=pool, suite=suite, interpolation=interpolation,
                statistics=statistics, fill=(200, 100, 7),
            )  # fmt: skip
            rows = op.draw(Draws(seed, num_ops, np.arange(len(clips))), *sizes)
            what = f"{', '.join(pool or ['chains'])}; {suite}, {interpolation}, statistics of the {statistics}"
            nbytes += compare_kernel(what, context, partial(randaugment, num_ops=num_ops), clips, rows)
            calls += 1
    return f"{calls} batches of {len(clips)} clips, {nbytes / MB:.1f} MB, equal bit for bit"


BLENDS = {
    **{family: ops.Mix(family) for family in FAMILIES},
    **{f"RandomErasing, {fill}": ops.RandomErasing(1.0, fill=fill) for fill in ("pixel", "channel", "constant")},
    "Cutout": ops.Cutout(), "FrameCutout": ops.FrameCutout(), "CubeCutout": ops.CubeCutout(),
}  # fmt: skip


def check_blend(context):
    """The kernel that mixes and erases: all families, boxes that move, weights that change, noise."""
    calls = nbytes = 0
    for (name, op), shape, seed in product(BLENDS.items(), (*SHAPES, (16, 56, 48)), range(1 if context.small else 4)):
        clips = [make_clip(10 * seed + i, *shape) for i in range(6)]
        rows = op.draw(Draws(seed, 0, np.arange(len(clips)), batch=seed), *shape)
        nbytes += compare_kernel(f"{name} of {shape}", context, blend, clips, rows)
        calls += 1
    return f"{calls} batches, {nbytes / MB:.1f} MB, equal bit for bit"


# Ops in DALI's graph


class Case(NamedTuple):
    """A chain of ops, how far its results may differ between GPU and CPU, and their dtype when normalised."""

    ops: tuple
    limits: dict[str, Any] = {}  # noqa: RUF012 (not changed)
    dtype: str = "float32"


FLOAT = dict(within=1e-5)  # DALI's normalisation rounds in another order
HALF = dict(within=2**-9)  # a step of float16 between 2 and 4
RESIZED = dict(within=2, share=0.999)  # levels; DALI's resize has other code for the GPU
OPS = {
    "CenterCrop": Case((ops.CenterCrop(33),)),
    "Resize": Case((ops.Resize((40, 50)),), RESIZED),
    "RandomResizedCrop": Case((ops.RandomResizedCrop(40),), RESIZED),
    "RandomHorizontalFlip": Case((ops.RandomHorizontalFlip(),)),
    "Normalize": Case((ops.Normalize(),), FLOAT),
    "Normalize, float16": Case((ops.RandomHorizontalFlip(), ops.Normalize()), HALF, "float16"),
    "RandAugment": Case((ops.RandAugment(),)),
    **{f"RandAugmentT, {suite}": Case((ops.RandAugmentT(suite=suite),)) for suite in SUITES},
    "TrivialAugment": Case((ops.TrivialAugment("fourier"),)),
    "Mix": Case((ops.Mix(),)),
    **{family: Case((getattr(ops, family)(),)) for family in FAMILIES},
    "VideoMix": Case((ops.VideoMix("ST"),)),
    "OneOf": Case((ops.OneOf(),)),
    "RandomErasing": Case((ops.RandomErasing(1.0),)),
    "Cutout": Case((ops.Cutout(),)),
    "FrameCutout": Case((ops.FrameCutout(),)),
    "CubeCutout": Case((ops.CubeCutout(),)),
    "LabelSmoothing": Case((ops.OneOf(), ops.LabelSmoothing())),
    "all in a row": Case(
        (ops.CenterCrop(33), ops.RandAugmentT(), ops.OneOf(), ops.RandomErasing(), ops.RandomHorizontalFlip(),
         ops.LabelSmoothing(), ops.Normalize()),
        FLOAT,
    ),
}  # fmt: skip


def check_op(name, context):
    """Ops in DALI's graph on the device and on the CPU: clips and labels."""
    case, differences = OPS[name], []
    for batch in range(3):
        clips = [make_clip(10 * batch + i, 8, 48, 64) for i in range(6)]
        options = dict(targets=np.eye(6), seed=5, batch=batch, dtype=case.dtype)
        out, expected = (augment(clips, case.ops, device=device, **options) for device in (context.device, "cpu"))
        agree("labels", to_host(out.targets), to_host(expected.targets))
        differences.append(agree(f"batch {batch}", to_host(out.clips), to_host(expected.clips), **case.limits))
    return f"{len(differences)} batches; labels equal, clips: {max(differences)}"
