"""Make a manifest: find the videos, measure each once, and say which cannot be used and why."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from dali_vidaug.manifest import SCHEMA, Broken, Manifest
from dali_vidaug.measure import measure

EXTENSIONS = frozenset(
    ".3gp .asf .avi .divx .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split()
)
_MEASURED = [name for name in SCHEMA.names if name not in ("path", "label", "first_frame", "last_frame")]


def scan(
    path,
    *,
    root=None,
    output=None,
    deep=False,
    num_threads=None,
    progress=True,
):
    """Measure videos and make a manifest of them.

    Args:
        path: a folder, a CSV file, or one video. In a folder each sub-folder is a class and every video below it one
            of its samples; a folder that holds videos directly and no class folders gives samples without labels. A
            CSV file has a header with either ``path`` and, as wanted, ``label``, ``start`` and ``end`` (seconds: clips
            are drawn from this part), or Kinetics' ``label``, ``youtube_id``, ``time_start``, ``time_end`` (the files
            are looked for as ID_SSSSSS_EEEEEE.* and ID.*, in the root and in its label folders).
        root: folder that relative paths of a CSV are in; default: the CSV's own.
        output: Parquet file to write. What it already holds of unchanged files (path, size, time of change) is not
            measured again, and an interrupted scan goes on where it was.
        deep: decode every frame of every video, rather than its first and last group of pictures.
        num_threads: videos measured side by side; default: the cores of this process.
        progress: show a progress bar.

    Returns:
        The manifest. Files that cannot be used are in ``manifest.broken`` with the reason.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: the folder has no videos, or the CSV cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        root, entries = path.resolve(), list_folder(path)
    elif path.is_file() and path.suffix.lower() in EXTENSIONS:
        root, entries = path.resolve().parent, [{"path": path.name, "label": None}]
    elif path.is_file():
        root = Path(root).resolve() if root is not None else path.resolve().parent
        entries = list_csv(path, root)
    else:
        raise FileNotFoundError(f"scan: no folder or file {path}")

    known = _Known(output, root, deep)
    names = sorted({entry["path"] for entry in entries})
    rows = {}
    try:
        with ThreadPoolExecutor(num_threads or len(os.sched_getaffinity(0)), "scan") as pool:
            todo = []
            for name in names:
                rows[name] = known.get(name)
                if rows[name] is None:
                    todo.append(name)
            jobs = {pool.submit(measure, root / name, deep): name for name in todo}
            try:
                bar = tqdm(
                    as_completed(jobs), total=len(jobs), desc="scan", unit=" videos", disable=not progress or not jobs
                )
                for job in bar:
                    rows[jobs[job]] = job.result()
                    known.add(jobs[job], job.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        known.close()
    manifest = _assemble(entries, rows, root)
    if output is not None:
        manifest.write(output)
        known.forget()
    return manifest


def list_folder(folder):
    """The videos below a folder, as entries ``{"path", "label"}`` in sorted order; paths are relative to it."""
    files = sorted(
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not files:
        raise ValueError(f"scan: no videos in {folder} (looked for {' '.join(sorted(EXTENSIONS))})")
    flat = all(len(file.parts) == 1 for file in files)
    return [
        {
            "path": str(file),
            "label": None if flat or len(file.parts) == 1 else file.parts[0],
            "error": None if flat or len(file.parts) > 1 else "lies beside the class folders, not in one",
        }
        for file in files
    ]


def list_csv(path, root):
    """The rows of a CSV list, as entries ``{"path", "label", "start", "end", "error"}``; see ``scan``."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            if "path" not in columns and not {"label", "youtube_id", "time_start", "time_end"} <= set(columns):
                raise ValueError(
                    f"{path}: the header must have path[, label, start, end] or label, youtube_id, time_start, "
                    f"time_end; it has {', '.join(columns) or 'nothing'}"
                )
            entries = [_csv_entry(path, reader.line_num, row, root) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error
    if not entries:
        raise ValueError(f"{path} has a header, but no rows")
    return entries


def _csv_entry(path, line, row, root):
    if None in row or None in row.values():
        raise ValueError(f"{path}, line {line}: the number of fields is not that of the header")
    label = (row.get("label") or "").strip() or None
    if "path" in row:
        try:
            start, end = (float(row[k]) if (row.get(k) or "").strip() else None for k in ("start", "end"))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: start and end must be seconds ({error})") from error
        if not row["path"].strip():
            raise ValueError(f"{path}, line {line}: path is empty")
        return {"path": row["path"].strip(), "label": label, "start": start, "end": end, "error": None}
    try:
        stem = f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: time_start and time_end must be seconds ({error})") from error
    folders = [root, *((root / label, root / label.replace(" ", "_")) if label else ())]
    for name in (stem, row["youtube_id"]):
        for folder in folders:
            for extension in (".mp4", ".mkv", ".webm", ".avi", ".mov"):
                if (folder / f"{name}{extension}").is_file():
                    found = (folder / f"{name}{extension}").relative_to(root)
                    return {"path": str(found), "label": label, "error": None}
    return {"path": f"{stem}.mp4", "label": label, "error": f"not found as {stem}.* or {row['youtube_id']}.*"}


class _Known:
    """Measurements of earlier scans: the rows of the output, and those of an interrupted scan beside it."""

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
                except ValueError:  # the line that was being written at the interrupt
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


def _assemble(entries, rows, root):
    classes = sorted({entry["label"] for entry in entries if entry["label"] is not None})
    labels = {name: i for i, name in enumerate(classes)}
    good, broken = [], []
    for entry in entries:
        row = rows[entry["path"]]
        error = entry.get("error") or row.get("error")
        if error is None:
            first, last = _segment(row, entry.get("start"), entry.get("end"))
            if last <= first:
                error = f"no frame between {entry['start']} and {entry['end']} s (it lasts {row['duration_seconds']} s)"
        if error is not None:
            broken.append(Broken(str(root / entry["path"]), error))
            continue
        label = labels.get(entry["label"], -1)
        good.append({**row, "path": entry["path"], "label": label, "first_frame": first, "last_frame": last})
    if not good:
        raise ValueError(
            f"scan: none of {len(entries)} videos can be used; the first: {broken[0].path}: {broken[0].reason}"
        )
    return Manifest(pa.Table.from_pylist(good, SCHEMA), classes, root, broken)


def _segment(row, start, end):
    """The frames [first, last) shown from ``start`` to ``end`` seconds after the first frame."""
    frames = row["num_frames"]
    if row["pts"] is not None:
        seconds = (np.array(row["pts"]) - row["pts"][0]) * row["time_base"]
    else:
        seconds = np.arange(frames) / (row["fps"] or 1.0)
    first = 0 if start is None else int(np.searchsorted(seconds, start - 1e-6))
    last = frames if end is None else int(np.searchsorted(seconds, end - 1e-6))
    return first, last
