"""Checks of the loader: the same batches again, after resuming, on the CPU, on other streams; memory; speed.

As in decoding.py.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from dali_vidaug import ops
from dali_vidaug.commands.checks.cases import call_of, make_clip
from dali_vidaug.commands.checks.context import MB, Context, Difference, Lacking, agree
from dali_vidaug.commands.checks.decoding import CROPPED, make_manifest
from dali_vidaug.commands.checks.device import (
    Queued,
    keep_busy,
    milliseconds,
    peak_bandwidth,
    side_stream,
    to_host,
    upload,
    used_memory,
    wait,
)
from dali_vidaug.commands.checks.numbered import has_encoder
from dali_vidaug.commands.checks.pixels import FLOAT
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.loader import VideoLoader
from dali_vidaug.recipe import Recipe
from dali_vidaug.sampling import ClipSampling

POISON = 171  # written over a batch after its use
LEAK_MB = {"host": 96, "GPU": 256}  # growth that memory pools may cause
FULL = (ops.RandomResizedCrop(64), ops.RandAugmentT(), ops.OneOf(), ops.RandomHorizontalFlip(), ops.Normalize())
BYTES = FULL[:-1]  # with frames from PyAV, all devices agree bit for bit
LARGE = (ops.RandomResizedCrop(224), *FULL[1:])


def open_loader(
    context: Context, chain: tuple = FULL, batch_size: int = 2, device: str | None = None, copies: int = 1,
    size: tuple[int, int] | None = None, **options: Any,
) -> VideoLoader:  # fmt: skip
    """A loader of six videos (in H.264 if PyAV can write it), each ``copies`` times."""
    manifest = make_manifest(context, "h264" if has_encoder("h264") else "mpeg4", 6, size)
    manifest = Manifest(pa.concat_tables([manifest.table] * copies), manifest.classes, manifest.root)
    recipe = Recipe(ClipSampling(8, 2), chain)
    device = device or context.device
    return VideoLoader(manifest, recipe, batch_size, device=device, on_error="raise", **options)


def take(loader: VideoLoader, num_batches: int) -> Iterator[Any]:
    """The next batches, through the ends of epochs."""
    while num_batches > 0:
        for batch in loader:
            yield batch
            num_batches -= 1
            if not num_batches:
                return


def read_epochs(loader: VideoLoader, num_epochs: int = 2) -> list[tuple]:
    """Whole epochs on the host: for each batch (samples, frames and rows of the plan as bytes; clips; targets)."""
    batches = []
    with loader:
        for batch in (batch for _ in range(num_epochs) for batch in loader):
            rows = [rows.tobytes() for rows in batch.plan.args.values() if rows is not None]
            plan = b"".join([batch.plan.samples.tobytes(), batch.plan.frames.tobytes(), *rows])
            batches.append((plan, to_host(batch.clips), to_host(batch.targets)))
    return batches


def compare_batches(what: str, batches: Sequence[tuple], expected: Sequence[tuple], **limits: float) -> Difference:
    """Two lists of batches agree: plans and labels exactly, pixels within limits; returns the largest difference."""
    if len(batches) != len(expected):
        raise AssertionError(f"{what}: {len(batches)} batches, expected {len(expected)}")
    differences = [Difference(0.0, 0.0)]
    for i, (batch, other) in enumerate(zip(batches, expected, strict=True)):
        if batch[0] != other[0]:
            raise AssertionError(f"{what}: batch {i} has a different plan")
        agree(f"{what}: labels of batch {i}", batch[2], other[2])
        differences.append(agree(f"{what}: batch {i}", batch[1], other[1], **limits))
    return max(differences)


def check_repeat(context: Context) -> str:
    """The same batches again, for other numbers of threads, of processes and of batches made ahead."""
    first = read_epochs(open_loader(context, num_threads=1, prefetch=1))
    for threads, prefetch, workers in ((1, 3, 0), (4, 1, 0), (4, 3, 0), (1, 2, 2)):
        again = open_loader(context, num_threads=threads, prefetch=prefetch, workers=workers)
        what = f"{threads} threads, prefetch {prefetch}, {workers} processes"
        compare_batches(what, read_epochs(again), first)
    return f"{len(first)} batches, five times, equal bit for bit ({again.settings.decoder})"


def check_resume(context: Context) -> str:
    """A new loader with a state from the middle of an epoch gives the rest of that epoch, and the next."""
    expected = read_epochs(open_loader(context))
    with open_loader(context) as loader:
        next(iter(loader))
        state = loader.state_dict()
    resumed = open_loader(context)
    resumed.load_state_dict(state)
    compare_batches("after resuming", read_epochs(resumed), expected[1:])
    return f"{len(expected) - 1} batches after resuming, equal bit for bit"


def check_cpu(context: Context) -> str:
    """The batches of the CPU: plans and labels exactly, pixels within the rounding of DALI's normalisation."""
    device, cpu = (read_epochs(open_loader(context, device=d, decoder="pyav")) for d in (context.device, "cpu"))
    difference = compare_batches("compared with the CPU", device, cpu, **FLOAT)
    return f"{len(cpu)} batches, decoded by PyAV on both; plans and labels equal, clips: {difference}"


def read_late(context: Context, seed: int, num_batches: int, decoder: str) -> list[int]:
    """Checksums of batches, read alternately as late and as early as possible, on a stream of their own.

    Late: slow work is queued on the stream, then a copy of the batch. Early: slow work on another stream delays the
    batch, and the copy is queued at once. Then the batch is overwritten and dropped. Nothing waits until everything is
    queued. A batch that is read before it is ready, or whose memory is reused before it was read, has another checksum.
    """
    copies: list[torch.Tensor] = []
    options: dict[str, Any] = dict(seed=seed, decoder=decoder, prefetch=1)
    elsewhere = side_stream(context.device)
    with open_loader(context, BYTES, **options) as loader, side_stream(context.device):
        for i, batch in enumerate(take(loader, num_batches)):
            if i % 2:
                keep_busy(context.device)
            copies.append(batch.clips.clone())
            batch.clips.fill_(POISON)
            if not i % 2:
                continue
            with elsewhere:
                keep_busy(context.device)
        return [zlib.crc32(to_host(copy).tobytes()) for copy in copies]


def read_one_by_one(context: Context, seed: int, num_batches: int, decoder: str, device: str) -> list[int]:
    """The same checksums, each batch read at once."""
    with open_loader(context, BYTES, seed=seed, decoder=decoder, device=device) as loader:
        return [zlib.crc32(to_host(batch.clips).tobytes()) for batch in take(loader, num_batches)]


def check_streams(decoder: str, context: Context) -> str:
    """Several loaders at once, batches read late on streams of their own: the checksums of batches read one by one.

    Those are read on the CPU where PyAV decodes; otherwise on the device, because NVDEC's colours are not the CPU's.
    """
    seeds, num_batches = (1, 2, 3), 6 if context.small else 90
    device = "cpu" if decoder == "pyav" else context.device
    expected = [read_one_by_one(context, seed, num_batches, decoder, device) for seed in seeds]
    with ThreadPoolExecutor(len(seeds)) as pool:
        found = list(pool.map(lambda seed: read_late(context, seed, num_batches, decoder), seeds))
    for seed, sums, right in zip(seeds, found, expected, strict=True):
        wrong = [i for i, (a, b) in enumerate(zip(sums, right, strict=True)) if a != b]
        if wrong:
            raise AssertionError(
                f"the loader with seed {seed} gave different pixels in {len(wrong)} batches: {wrong[:10]}"
            )
    return f"{len(seeds)} loaders at once, {num_batches} batches each, all as when read one by one"


def check_waiting(decoder: str, context: Context) -> str:
    """A batch that is ready is returned although the GPU is still busy with earlier work: the host does not wait."""
    if context.device == "cpu":
        raise Lacking("nothing is queued on the CPU")
    returned, num_batches, busy = 0, 6, None
    with open_loader(context, decoder=decoder) as loader:
        for batch in take(loader, num_batches):
            returned += busy is not None and not busy.done()
            batch.clips.sum()
            wait(context.device)
            time.sleep(0.5)  # meanwhile the next ones are made
            for _ in range(40):  # a fifth of a second on the fastest GPUs of today
                keep_busy(context.device)
            busy = Queued(context.device)
    if returned < num_batches - 1:
        raise AssertionError(f"of {num_batches - 1} batches {returned} were returned while the GPU was busy")
    return f"{returned} batches returned while the GPU was busy"


def check_memory(context: Context) -> str:
    """Memory of the process and of the GPU: about the same after many batches as after a third of them."""
    num_batches, chain = (30, FULL) if context.small else (400, LARGE)  # 29 MB each: one lost in twenty would be 400 MB
    with open_loader(
        context, chain, batch_size=6, size=CROPPED
    ) as loader:  # a size for which DALI keeps many NVDEC decoders
        for i, batch in enumerate(take(loader, num_batches)):
            wait(context.device)
            shape = tuple(batch.clips.shape)
            if i == num_batches // 3:
                before = used_memory(context.device)
        after = used_memory(context.device)
    grown = {place: (after[place] - before[place]) / MB for place in after}
    text = ", ".join(f"{place} {n:+.0f} MB to {after[place] / MB:.0f}" for place, n in grown.items())
    if any(n > LEAK_MB[place] for place, n in grown.items()):
        raise AssertionError(
            f"memory grew: {text}, from batch {num_batches // 3} to {num_batches}; {LEAK_MB['host']} MB (host) and "
            f"{LEAK_MB['GPU']} MB (GPU, where other processes count too) are allowed"
        )
    return f"{num_batches} batches {shape}; since the first third: {text}"


@cache
def _clips(num_clips: int, shape: tuple[int, int, int]) -> list[np.ndarray]:
    return [make_clip(i % 4, *shape) for i in range(num_clips)]


def check_speed(case: str, context: Context) -> str:
    """Time of a kernel on a batch, compared with a plain copy and with the memory's peak. There is no limit."""
    num_clips, repeat, shape = (4, 3, (4, 32, 32)) if context.small else (32, 20, (16, 224, 224))
    clips = _clips(num_clips, shape)
    copied = [upload(clip, context.device) for clip in clips]
    copy, _ = milliseconds(lambda: [clip.copy() for clip in copied], repeat, context.device)
    function, moved = call_of(case, clips, context.device)
    median, spread = milliseconds(function, repeat, context.device)
    share = moved / median / (2 * sum(clip.nbytes for clip in clips) / copy)
    text = (
        f"{median:.3f} ms +- {spread:.3f}, {moved / MB:.1f} MB, {moved / median / 1e6:.1f} GB/s, {share:.0%} of a copy"
    )
    peak = peak_bandwidth() if context.device == "gpu" else None
    return text + (f", {1000 * moved / median / peak:.0%} of the peak of {peak / 1e9:.0f} GB/s" if peak else "")


def check_throughput(decoder: str, context: Context, size: tuple[int, int] | None = None) -> str:
    """Clips per second of the loader, with all ops and with none. There is no limit."""
    num_batches, batch_size, rates = 3 if context.small else 30, 4 if context.small else 32, []
    for chain in (LARGE, ()):
        options: dict[str, Any] = dict(copies=32, size=size, decoder=decoder, prefetch=3)
        with open_loader(context, chain, batch_size, **options) as loader:
            for i, batch in enumerate(take(loader, num_batches + 4)):
                if i == 3:  # earlier ones were made in advance, or while compilers ran
                    started = time.perf_counter()
                to_host(batch.clips[:, :, 0, 0, 0])
            rates.append(batch_size * num_batches / (time.perf_counter() - started))
    height, width = size or context.size
    return (
        f"{rates[0]:.0f} clips/s with all ops, {rates[1]:.0f} only decoded; 8 frames with stride 2 of "
        f"{width}x{height}, {loader.settings.num_threads} threads ({loader.settings.decoder})"
    )
