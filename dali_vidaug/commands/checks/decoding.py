"""Checks of decoding: frames that DALI decodes on a device, compared with PyAV's.

Each check is a function of a ``Context`` and returns a line with figures, or raises what is wrong. The same lines run
with ``device="cpu"``, where they compare the CPU with itself; what only a GPU runs is in device.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from dali_vidaug.commands.checks.context import Context, Lacking, agree
from dali_vidaug.commands.checks.device import current_gpu, to_host
from dali_vidaug.commands.checks.numbered import ENCODINGS, has_encoder, read_number, write_encoding
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.scan import scan
from dali_vidaug.device import nvdec
from dali_vidaug.drawing import draw_plan
from dali_vidaug.loader import VideoLoader
from dali_vidaug.media.decode import decode
from dali_vidaug.media.orientation import oriented
from dali_vidaug.recipe import Recipe
from dali_vidaug.sampling import ClipSampling

NUM_FRAMES = 60  # of each video
CROPPED = (180, 320)  # height and width; coded with more rows, in multiples of 16


def make_manifest(
    context: Context, encoding: str, num_videos: int = 1, size: tuple[int, int] | None = None
) -> Manifest:
    """Videos of numbered frames in one of ``ENCODINGS``, written when they do not exist yet."""
    need_encoder(encoding)
    height, width = size or context.size
    folder = context.folder / f"{encoding}, {num_videos}, {height}x{width}"
    for i in range(num_videos):
        path = folder / "numbered" / f"{i}_{ENCODINGS[encoding][0]}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial_path = context.folder / f"partial_{ENCODINGS[encoding][0]}"
            write_encoding(partial_path, encoding, NUM_FRAMES, height, width, first=100 * i)
            partial_path.replace(path)
    return scan(folder, progress=False)


# Difference, in levels, between DALI's frames on a GPU and PyAV's. The planes are equal: these codecs are exact. DALI
# converts them to RGB on the GPU in floats, with colours interpolated bilinearly between samples in the middle of four
# pixels; libswscale does the same in integers. On the CPU DALI also uses libswscale: equal.
COLORS = dict(within=4, share=0.99, mean=1)
ROUNDED = dict(within=8, share=0.99, mean=2)  # MPEG-4 and MJPEG do not define how the inverse transform rounds


def need_encoder(encoding: str) -> None:
    """Raise if this PyAV cannot write one of ``ENCODINGS``."""
    if not has_encoder(encoding):
        raise Lacking(f"this PyAV has no encoder {ENCODINGS[encoding][1]['codec']} to make a test video with")


def need_nvdec(context: Context) -> None:
    """Raise if the GPU cannot decode: a GPU may have no NVDEC, but what is missing in an installation is a fault."""
    if context.device == "gpu" and (why := nvdec.problem(current_gpu())):
        raise Lacking(why) if "has no NVDEC" in why else AssertionError(why)


def check_decoding(encoding: str, decoder: str, context: Context, size: tuple[int, int] | None = None) -> str:
    """All kinds of clips: the wanted frames, in PyAV's colours; see ``COLORS``."""
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
    return f"{frames.size} frames, all as wanted; compared with PyAV: {difference} ({loader.settings.decoder})"


def check_sizes(encoding: str, context: Context) -> str:
    """Files of three heights and one coded size in turn: they share decoders of NVDEC, and none has wrong colours."""
    sizes = CROPPED, (192, 320), (184, 320), CROPPED
    found = [check_decoding(encoding, "dali", context, size=size) for size in sizes]
    return f"{len(found)} times, in sizes with the same coded size: {found[-1]}"


def check_both_decoders(context: Context) -> str:
    """Clips of both decoders in a batch, in all orientations: each is what its own decoder gives."""
    need_nvdec(context)
    folder, differences = context.folder / "both decoders", []
    for encoding in ("h264", "vp9, hidden pictures"):
        need_encoder(encoding)
        (folder / "numbered").mkdir(parents=True, exist_ok=True)
        write_encoding(folder / "numbered" / ENCODINGS[encoding][0], encoding, NUM_FRAMES, *context.size)
    scanned = scan(folder, progress=False)
    recipe, frames = Recipe(ClipSampling(16, 1), ()), np.tile(np.arange(20, 36, dtype=np.int32), (4, 1))
    frames += np.arange(4, dtype=np.int32)[:, None]
    for first, second in ((1, 2), (3, 4), (5, 6), (7, 8)):  # clips of a batch have one size
        table, orientation = scanned.table.take([0, 1, 0, 1]), [first, first, second, second]
        table = table.set_column(
            table.column_names.index("orientation"), "orientation", pa.array(orientation, pa.int32())
        )
        manifest = Manifest(table, scanned.classes, scanned.root)
        loader = VideoLoader(manifest, recipe, 4, device=context.device, decoder="hybrid")
        plan = replace(draw_plan(manifest, recipe, range(4)), frames=frames)
        clips = to_host(loader.apply(plan).clips).transpose(0, 2, 3, 4, 1)
        by_pyav = sum(count for _, count in loader.report().fallbacks.values())
        if by_pyav != 2:
            raise AssertionError(f"PyAV decoded {by_pyav} of 4 clips, 2 expected: {loader.report().fallbacks}")
        for i, clip in enumerate(clips):
            video = manifest.video(i)
            back = {6: 8, 8: 6}.get(video.orientation, video.orientation)
            shown = [read_number(oriented(picture, back)) for picture in clip]
            if shown != frames[i].tolist():
                raise AssertionError(f"clip {i}, in orientation {video.orientation}, shows frames {shown}")
            limits = COLORS if context.device == "gpu" else {}
            differences.append(agree(f"clip {i}", clip, decode(video, frames[i]).pixels, **limits))
    number = len(differences)
    return f"{number} clips in order, half by PyAV, in eight orientations; compared with PyAV: {max(differences)}"


def check_fallback(context: Context) -> str:
    """DALI fails a batch because it cannot decode one clip: the loader finds the clip, and PyAV decodes it."""
    need_nvdec(context)
    # A codec that DALI does not decode, and one that it does.
    foreign, own = ("mjpeg", "h264") if context.device == "gpu" else ("h264", "vp9")
    folder = context.folder / "fallback" / "numbered"
    folder.mkdir(parents=True, exist_ok=True)
    for encoding in (foreign, own):
        need_encoder(encoding)
        write_encoding(folder / ENCODINGS[encoding][0], encoding, NUM_FRAMES, *context.size)
    manifest, recipe = scan(folder.parent, progress=False), Recipe(ClipSampling(16, 1), ())
    with VideoLoader(manifest, recipe, 2, device=context.device, decoder="hybrid", on_error="raise") as loader:
        loader.settings = replace(loader.settings, refused={})  # so that DALI gets the file that it cannot decode
        batch = next(iter(loader))
        clips, fallbacks = to_host(batch.clips).transpose(0, 2, 3, 4, 1), loader.report().fallbacks
    shown = [[read_number(picture) for picture in clip] for clip in clips]
    if shown != batch.plan.frames.tolist():
        raise AssertionError(f"frames {batch.plan.frames.tolist()} show {shown}")
    if not any("DALI could not decode it" in why for why in fallbacks):
        raise AssertionError(f"DALI decoded {foreign}, or was not asked: {fallbacks}")
    return f"a clip in {foreign} that DALI failed on was decoded by PyAV, the batch is whole"
