"""Measures the files of a list, several at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dali_vidaug.data.engine import Failed, run
from dali_vidaug.data.known import Known
from dali_vidaug.data.listed_files import ListedFiles, MeasureOptions
from dali_vidaug.media.measure import measure

TIMEOUT = 600.0  # seconds that a file may take
_STEP = 256  # files that are compared together with what is known of them


class How(NamedTuple):
    """How files are measured: ``engine``, ``num_threads``, ``timeout`` and ``progress`` of ``scan``."""

    engine: Any = "threads"
    num_threads: int | None = None
    timeout: float | None = TIMEOUT
    progress: bool = True


def measure_files(files: ListedFiles, names: Sequence[str], known: Known, options: MeasureOptions, how: How) -> None:
    """Measure what is not known yet of some files."""
    steps = [range(first, min(first + _STEP, len(names))) for first in range(0, len(names), _STEP)]
    is_known = np.zeros(len(names), bool)
    threads = how.num_threads if how.engine == "threads" else None
    for step, found in run(known.are_known, steps, num_workers=threads, progress=False):
        is_known[step.start : step.stop] = found
    missing = [names[number] for number in np.flatnonzero(~is_known).tolist()]
    found = run(
        partial(_measure, options), ((name, files.place(name)) for name in missing), engine=how.engine,
        total=len(missing), num_workers=how.num_threads, timeout=how.timeout, progress=how.progress,
    )  # fmt: skip
    for (name, _), row in found:
        known.add(name, {"error": row.reason} if isinstance(row, Failed) else row)


def _measure(options, item):
    return measure(item[1], *options)
