"""Measures the files of a list, several at the same time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from tqdm import tqdm

from dali_vidaug.data.entry import Listing
from dali_vidaug.data.known import Known
from dali_vidaug.media.measure import measure


def measure_files(
    listing: Listing, known: Known, options: tuple[Any, ...], num_threads: int, progress: bool
) -> dict[str, Any]:
    """What is measured of each file, by path; ``options`` of ``measure``."""
    places = {entry.path: entry.bytes_below(str(listing.root)) for entry in listing.entries if entry.error is None}
    names = sorted(places)
    with ThreadPoolExecutor(num_threads, "scan") as pool:
        rows = dict(zip(names, pool.map(lambda name: known.get(name, places[name]), names), strict=True))
        missing = [name for name in names if rows[name] is None]
        jobs = {pool.submit(measure, places[name], *options): name for name in missing}
        done = as_completed(jobs)
        often = 0.1 if sys.stderr.isatty() else 60.0  # a log wants a line a minute
        shown = tqdm(done, "scan", len(jobs), unit=" videos", disable=not progress or not jobs, mininterval=often)
        try:
            for job in shown:
                rows[jobs[job]] = job.result()
                known.add(jobs[job], job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return rows
