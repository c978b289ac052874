"""Make a manifest: find the videos, measure each once, and say which cannot be used and why."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from dali_vidaug.data.lists import Entry, Listing, list_videos
from dali_vidaug.data.manifest import SCHEMA, Broken, Manifest, is_manifest
from dali_vidaug.media.measure import measure
from dali_vidaug.media.video import frame_times

_MEASURED = [name for name in SCHEMA.names if name not in ("path", "label", "first_frame", "last_frame")]


def scan(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    deep: bool = False,
    num_threads: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Measure videos and make a manifest of them.

    Args:
        path: a folder, a list in a CSV or Parquet file, or one video. In a folder each sub-folder is a class and every
            video below it one of its samples; a folder that contains videos directly and no class folders gives samples
            without labels. A list has the columns ``path`` and, if wanted, ``label``, ``start`` and ``end`` (seconds:
            clips are drawn from this part), or Kinetics' ``label``, ``youtube_id``, ``time_start``, ``time_end`` (the
            files are looked for as ID_SSSSSS_EEEEEE.* and ID.*, in the root and in its label folders). Its other
            columns are kept in the manifest: those of a CSV as text, those of Parquet with their types; a column with
            the name of a measured one, such as ``fps``, as ``list_fps``.
        root: folder that relative paths of a list are in; default: the folder of the list.
        output: Parquet file to write. Files that it already has and that did not change (path, size, modification time)
            are not measured again, and an interrupted scan continues where it stopped.
        deep: decode every frame of every video, rather than its first and last GOP.
        num_threads: videos measured at the same time; default: the cores of this process.
        progress: show a progress bar.

    Returns:
        The manifest. Files that cannot be used are in ``manifest.broken`` with the reason.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: the folder has no videos, the list cannot be read, or ``output`` is there and is not a manifest.
    """
    if output is not None:
        _check_output(Path(output))
    listing = list_videos(Path(path), None if root is None else Path(root))
    known = _Known(output, listing.root, deep)
    try:
        rows = _measure(listing, known, deep, num_threads or len(os.sched_getaffinity(0)), progress)
    finally:
        known.close()
    manifest = _assemble(listing, rows)
    if output is not None:
        manifest.write(output)
        known.forget()
    return manifest


def _check_output(output):
    """Nothing that is not a manifest is overwritten, and no time is spent on what cannot be written."""
    if output.exists() and not is_manifest(output):
        raise ValueError(f"scan: the output {output} is there already, and is not a manifest; choose another name")
    if not output.resolve().parent.is_dir():
        raise ValueError(f"scan: there is no folder {output.resolve().parent} for the output")


def _measure(listing: Listing, known: _Known, deep: bool, num_threads: int, progress: bool) -> dict[str, Any]:
    """What is measured of each file, by path."""
    names = sorted({entry.path for entry in listing.entries})
    rows = {name: known.get(name) for name in names}
    with ThreadPoolExecutor(num_threads, "scan") as pool:
        jobs = {pool.submit(measure, listing.root / name, deep): name for name in names if rows[name] is None}
        done = as_completed(jobs)
        try:
            for job in tqdm(done, "scan", len(jobs), unit=" videos", disable=not progress or not jobs):
                rows[jobs[job]] = job.result()
                known.add(jobs[job], job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return rows


class _Known:
    """Measurements of earlier scans: the rows of the output, and those of an interrupted scan next to it."""

    def __init__(self, output, root, deep):
        self._root, self._rows, self._log = root, {}, None
        self._deep = deep
        if output is None:
            return
        self._file = Path(f"{output}.partial")
        if Path(output).is_file() and not deep:
            old = Manifest.read(output)
            for row in old.table.select(["path", *_MEASURED]).to_pylist():
                self._rows[row.pop("path")] = row
        if self._file.is_file():
            for line in self._file.read_text().splitlines():
                try:
                    name, row = json.loads(line)
                except ValueError:  # the line that was being written when the scan was interrupted
                    continue
                if row.pop("deep", False) >= deep:
                    self._rows[name] = row
        self._log = self._file.open("a")

    def get(self, name):
        row = self._rows.get(name)
        if row is None or "error" in row:
            return None
        try:
            stat = (self._root / name).stat()
        except OSError:
            return None
        return row if (row["bytes"], row["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns) else None

    def add(self, name, row):
        if self._log is not None:
            self._log.write(json.dumps([name, {**row, "deep": self._deep}]) + "\n")
            self._log.flush()

    def close(self):
        if self._log is not None:
            self._log.close()

    def forget(self):
        self._file.unlink(missing_ok=True)


def _assemble(listing: Listing, rows: dict[str, Any]) -> Manifest:
    """The manifest of a list whose files are measured: ``rows`` by path."""
    root, entries, own = listing
    classes = sorted({entry.label for entry in entries if entry.label is not None})
    labels = {name: i for i, name in enumerate(classes)}
    good, positions, broken = [], [], []
    for i, entry in enumerate(entries):
        row = rows[entry.path]
        first, last = 0, 0
        error = entry.error or row.get("error")
        if error is None:
            try:
                first, last = _segment(row, entry)
            except ValueError as problem:
                error = str(problem)
        if error is not None:
            broken.append(Broken(str(root / entry.path), error))
            continue
        label = -1 if entry.label is None else labels[entry.label]
        good.append({**row, "path": entry.path, "label": label, "first_frame": first, "last_frame": last})
        positions.append(i)
    if not good:
        raise ValueError(
            f"scan: none of {len(entries)} videos can be used; the first: {broken[0].path}: {broken[0].reason}"
        )
    table = pa.Table.from_pylist(good, SCHEMA)
    own = own.take(pa.array(positions, pa.int64()))
    for name in own.column_names:
        table = table.append_column(own.schema.field(name), own[name])
    return Manifest(table, classes, root, broken)


def _segment(row: dict[str, Any], entry: Entry) -> tuple[int, int]:
    """The frames [first, last) shown from ``start`` to ``end`` seconds after the first frame.

    Raises:
        ValueError: there are none, or the times of the frames are not known.
    """
    first, last = 0, row["num_frames"]
    if entry.start is None and entry.end is None:
        return first, last
    seconds = frame_times(row)
    if np.isnan(seconds).any():
        raise ValueError("start and end cannot be found: neither its time stamps nor its frame rate are known")
    if entry.start is not None:
        first = int(np.searchsorted(seconds, entry.start - 1e-6))
    if entry.end is not None:
        last = int(np.searchsorted(seconds, entry.end - 1e-6))
    if last <= first:
        raise ValueError(f"no frame between {entry.start} and {entry.end} s (it lasts {row['duration_seconds']} s)")
    return first, last
