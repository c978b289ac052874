"""Checks of DALI's decoder at work: parts, memory, ahead of the ops, compared with PyAV's."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dali_vidaug.commands.checks.context import Context
from dali_vidaug.commands.checks.decoding import make_manifest, need_nvdec
from dali_vidaug.commands.checks.device import to_host, used_memory, wait
from dali_vidaug.commands.checks.loading import take
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.decode_stage import NUM_GRAPHS
from dali_vidaug.device.decode_memory import bytes_while_decoding
from dali_vidaug.loader import VideoLoader
from dali_vidaug.ops import Normalize, RandomHorizontalFlip, RandomResizedCrop
from dali_vidaug.recipe import Recipe
from dali_vidaug.sampling import ClipSampling

NUM_CLIPS = 6
AHEAD_MAX = 1.6  # times as long with ops that take as long as decoding; 2 if both took turns
POOLS_MB = 256  # of memory that DALI and the driver take besides
LARGE = (1080, 1920)  # height and width of the clips whose memory is looked at


def own_manifest(context: Context, size: tuple[int, int] | None = None) -> Manifest:
    """Videos that DALI decodes: H.264 on a GPU, VP9 on the CPU. Each is there several times."""
    need_nvdec(context)
    manifest = make_manifest(context, "h264" if context.device == "gpu" else "vp9", 2, size)
    return Manifest(pa.concat_tables([manifest.table] * NUM_CLIPS), manifest.classes, manifest.root)


def open_decoder(manifest: Manifest, context: Context, ops: tuple[Any, ...] = (), **options: Any) -> VideoLoader:
    """A loader whose clips DALI decodes, all of them or none."""
    recipe = Recipe(ClipSampling(8, 2), (RandomResizedCrop(64), *ops, RandomHorizontalFlip(), Normalize()))
    options = {"decoder": "dali", **options}
    return VideoLoader(manifest, recipe, NUM_CLIPS, device=context.device, on_error="raise", **options)


def check_parts(context: Context) -> str:
    """A batch decoded at once, and in parts of other sizes: the same clips, bit for bit."""
    manifest = own_manifest(context)
    expected, sizes = None, (None, 1, 2, 5)
    for size in sizes:
        with open_decoder(manifest, context, decode_batch=size) as loader:
            clips = [to_host(batch.clips).copy() for batch in take(loader, 3)]
        if expected is not None and any((a != b).any() for a, b in zip(clips, expected, strict=True)):
            raise AssertionError(f"with decode_batch={size} clips are others than with decode_batch=None")
        expected = expected or clips
    return f"3 batches of {NUM_CLIPS} clips, decoded at once and by {', '.join(map(str, sizes[1:]))}: equal bit for bit"


def check_share(context: Context) -> str:
    """Both decoders at once: clips of the share are PyAV's, the others DALI's, bit for bit."""
    manifest, clips = own_manifest(context), {}
    for share in (0.0, 1.0, 0.5):
        with open_decoder(manifest, context, decoder="hybrid", cpu_share=share) as loader:
            clips[share] = [to_host(batch.clips).copy() for batch in take(loader, 3)]
            report = loader.report()
    found = [0, 0]
    for by_dali, by_pyav, both in zip(*clips.values(), strict=True):
        for one, other, clip in zip(by_dali, by_pyav, both, strict=True):
            is_either = (clip == one).all(), (clip == other).all()
            if not any(is_either):
                raise AssertionError("with cpu_share=0.5 a clip is neither DALI's nor PyAV's")
            found = [n + bool(yes) for n, yes in zip(found, is_either, strict=True)]
    if not (report.by_dali and report.by_share and all(found)):
        raise AssertionError(f"cpu_share=0.5: DALI decoded {report.by_dali} clips, PyAV {report.by_share}")
    return f"cpu_share=0.5: DALI decoded {report.by_dali} clips, PyAV {report.by_share}, each as it does alone"


def check_verify(context: Context) -> str:
    """All clips are compared with PyAV's, as ``verify`` compares some."""
    manifest = own_manifest(context)
    with open_decoder(manifest, context, verify=(4, 1)) as loader:
        for _ in take(loader, 3):
            pass
        report = loader.report()
    if report.wrong or report.compared < 3 * NUM_CLIPS:
        raise AssertionError(f"{report.compared} clips are as PyAV decodes them; decoded wrongly: {report.wrong}")
    return f"{report.compared} clips compared with PyAV's, all right"


@dataclass(frozen=True)
class Delay:
    """An op that takes its time and leaves clips as they are."""

    seconds: float

    def draw(self, draws: Any, frames: int, height: Any, width: Any) -> None:
        """Nothing is drawn."""

    def run(self, clips: Any, rows: Any, num_threads: int) -> Any:
        """The clips, after a while."""
        time.sleep(self.seconds)
        return clips


def _seconds_a_batch(manifest, context, delay=None):
    ops = () if delay is None else (Delay(delay),)
    with open_decoder(manifest, context, ops, prefetch=1, verify=None) as loader:
        batches = take(loader, 8)
        next(batches), next(batches)
        started = time.perf_counter()
        for _ in batches:
            wait(context.device)
        return (time.perf_counter() - started) / 6


def check_ahead(context: Context) -> str:
    """Batches are decoded while the ops of the ones before run; the best of several measurements counts."""
    manifest, found = own_manifest(context), []
    for _ in range(4):
        alone = _seconds_a_batch(manifest, context)
        found.append(_seconds_a_batch(manifest, context, alone) / alone)
        if found[-1] <= AHEAD_MAX:
            break
    text = (
        f"with ops that take as long as decoding, batches take {min(found):.2f} times as long; in turns it would be 2"
    )
    if min(found) > AHEAD_MAX:
        raise AssertionError(text)
    return text


def check_decode_memory(context: Context) -> str:
    """Memory rises by no more than the estimate while clips of 1080p are decoded, two at once in each graph."""
    small, large = own_manifest(context), own_manifest(context, LARGE if not context.small else (360, 640))
    (height,), (width,) = large.frame_sizes([0])
    at_once = 2 * NUM_GRAPHS[context.device]
    estimate = at_once * bytes_while_decoding(width + 16, height + 16, 8, 3, context.device == "gpu")
    with open_decoder(small, context, verify=None) as loader:
        next(iter(loader))  # libraries, kernels and threads have their memory now
    wait(context.device)
    before, most, done = used_memory(context.device), 0, threading.Event()
    key = "GPU" if "GPU" in before else "host"

    def watch():
        nonlocal most
        while not done.wait(0.005):
            most = max(most, used_memory(context.device)[key] - before[key])

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        with open_decoder(large, context, decode_batch=2, verify=None) as loader:
            for _ in take(loader, 3):
                wait(context.device)
    finally:
        done.set()
        watching.join()
    text = f"{width}x{height}: the memory of the {key} rose by {most / 1e6:.0f} MB, estimate {estimate / 1e6:.0f} MB"
    if most > estimate + POOLS_MB * 1e6:
        raise AssertionError(text)
    return text
