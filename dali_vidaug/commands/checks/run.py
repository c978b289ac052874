"""Find out on a real GPU whether everything works: decoding, kernels, ops, order, streams, memory; and how fast it is.

``dali-vidaug doctor --gpu`` prints what ``run_checks`` finds. The checks are in decoding.py, pixels.py and loading.py.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from dali_vidaug.commands.checks import decoder, decoding, loading, pixels
from dali_vidaug.commands.checks.cases import CASES, FILTERS, INTERPOLATION, MIXES, WARPS
from dali_vidaug.commands.checks.context import Context, Lacking
from dali_vidaug.commands.checks.device import GPU_VERSIONS, VERSIONS, wait
from dali_vidaug.commands.checks.numbered import ENCODINGS
from dali_vidaug.commands.checks.pixels import OPS
from dali_vidaug.commands.doctor import BAD, MISSING, OK
from dali_vidaug.errors import one_line

SECONDS_MAX = 270  # after that no check is started; the most important ones come first
SKIPPED = "skipped: the time is up"


class Row(NamedTuple):
    """A line of the result; state is OK, MISSING (this machine cannot do it) or BAD."""

    state: str
    name: str
    finding: str
    seconds: float


def check_version(name: str, context: Context) -> str:
    """What a bug report must say about the machine and the libraries."""
    if name in GPU_VERSIONS and context.device == "cpu":
        raise Lacking("not used on the CPU")
    return (GPU_VERSIONS | VERSIONS)[name]()


CHECKS: dict[str, Callable[[Context], str]] = {
    **{name: partial(check_version, name) for name in GPU_VERSIONS | VERSIONS},
    **{
        f"decode {encoding}": partial(decoding.check_decoding, encoding, "auto" if "hidden" in encoding else "dali")
        for encoding in ENCODINGS
    },
    "decode h264, cropped": partial(decoding.check_decoding, "h264", "dali", size=decoding.CROPPED),
    **{f"decode {codec}, sizes": partial(decoding.check_sizes, codec) for codec in ("h264", "hevc")},
    "decode, both decoders": decoding.check_both_decoders,
    "decode, fallback": decoding.check_fallback,
    "decode, compared with PyAV": decoder.check_verify,
    "decode, in parts": decoder.check_parts,
    "decode, CPU besides": decoder.check_share,
    "decode, ahead of the ops": decoder.check_ahead,
    "decode, memory": decoder.check_decode_memory,
    **{f"kernel randaugment, {n} op{'s' * (n > 1)}": partial(pixels.check_randaugment, n) for n in (1, 2, 3)},
    "kernel blend": pixels.check_blend,
    "kernel interpolate": pixels.check_interpolate,
    **{f"kernel {name}": partial(pixels.check_filter, name) for name in pixels.FILTERS},
    "kernel warp": pixels.check_warp,
    **{f"op {name}": partial(pixels.check_op, name) for name in OPS},
    "loader, same again": loading.check_repeat,
    "loader, resumed": loading.check_resume,
    "loader, compared with the CPU": loading.check_cpu,
    "streams, PyAV": partial(loading.check_streams, "pyav"),
    "streams, auto": partial(loading.check_streams, "auto"),
    "no waiting, PyAV": partial(loading.check_waiting, "pyav"),
    "no waiting, auto": partial(loading.check_waiting, "auto"),
    "memory": loading.check_memory,
    **{
        f"speed {case}": partial(loading.check_speed, case)
        for case in (*CASES, *MIXES, *FILTERS, *WARPS, INTERPOLATION)
    },
    **{f"speed of the loader, {decoder}": partial(loading.check_throughput, decoder) for decoder in ("auto", "pyav")},
    # a size whose cropping is taken out, so that decoders are used again
    "speed of the loader, cropped": partial(loading.check_throughput, "auto", size=decoding.CROPPED),
}


# What to do where a check fails, by the beginning of its name.
ADVICE = {
    "decode, ahead": "more CPU threads (num_threads); the result is right, only slower",
    "decode, memory": "a smaller decode_batch; please report this line, the estimate is too low for this GPU",
    "decode, CPU": "cpu_share=0.0, the default, does without it; please report the whole table",
    "decode, in parts": "decoder='pyav', and please report the whole table: DALI decodes a file differently each time",
    "decode": "decoder='pyav' decodes on the CPU and is right; with decoder='auto' and verify=(4, 50), the default, "
    "formats that are found wrong go there by themselves. A newer driver may help; please report the whole table",
    "kernel": "device='cpu' gives the right numbers; pip install -U the CuPy wheel of your CUDA, see dali-vidaug "
    "doctor; please report the whole table",
    "op": "device='cpu' gives the right numbers, or leave this op out; please report the whole table",
    "loader": "num_threads=1, prefetch=1, workers=0 may narrow it down; please report the whole table",
    "streams": "torch.cuda.synchronize() after each batch avoids it; please report the whole table",
    "no waiting": "results are right, the loop is held up; please report the whole table",
    "memory": "smaller batches; a new loader for each epoch frees what it holds; please report the whole table",
    "speed": "read the message: an error, not a slow result, is what fails here",
}


def advice(name: str) -> str:
    """What to do where a check fails; of the versions: what is missing."""
    return next(
        (text for start, text in ADVICE.items() if name.startswith(start)), "install it; see dali-vidaug doctor"
    )


def run_check(name: str, context: Context) -> Row:
    """Run one of ``CHECKS``; whatever happens, there is a row."""
    started = time.perf_counter()
    try:
        state, finding = OK, CHECKS[name](context)
        wait(context.device)
    except Lacking as error:
        state, finding = MISSING, str(error)
    except Exception as error:  # anything may be broken; the other checks are still useful
        state, finding = BAD, f"{type(error).__name__}: {one_line(error)}. What to do: {advice(name)}"
    return Row(state, name, finding, time.perf_counter() - started)


def run_checks(device: str, small: bool = False, show: Callable[[Row], None] | None = None) -> list[Row]:
    """Run all checks.

    Args:
        device: "gpu", or "cpu", which compares the CPU with itself.
        small: fewer and smaller clips, as for tests.
        show: called with each row as soon as it is there; then progress goes to stderr.

    Returns:
        A row for each of ``CHECKS``.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="dali_vidaug-check-") as folder:
        context = Context(device, Path(folder), small)
        bar = tqdm(CHECKS, file=sys.stderr, leave=False, disable=show is None, bar_format="{desc}")
        started = time.monotonic()
        for name in bar:
            bar.set_description_str(f"{len(rows) + 1} of {len(CHECKS)}: {name}")
            late = time.monotonic() - started > SECONDS_MAX
            rows.append(Row(MISSING, name, SKIPPED, 0.0) if late else run_check(name, context))
            if show:
                bar.clear()
                show(rows[-1])
    return rows


def line(row: Row) -> str:
    """A row as a line of the table."""
    width = max(map(len, CHECKS))
    return f"{row.state:3}  {row.name:{width}}  {row.seconds:6.1f} s  {row.finding}"


def summary(rows: Sequence[Row]) -> str:
    """How many checks had which result."""
    counts = [sum(row.state == state for row in rows) for state in (OK, MISSING, BAD)]
    late = sum(row.finding == SKIPPED for row in rows)
    text = f"{counts[0]} ok, {counts[1] - late} not possible here (--), {counts[2]} failed (BAD)"
    return text + (f", {late} skipped because the time was up" if late else "")
