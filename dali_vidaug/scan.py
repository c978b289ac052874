"""Make a manifest: find the videos, measure each once, and say which cannot be used and why."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from dali_vidaug.bitstream import is_random_access
from dali_vidaug.decode import open_video, reason
from dali_vidaug.manifest import SCHEMA, Broken, Manifest

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
        path: a folder or a CSV file. In a folder each sub-folder is a class and every video below it one of its
            samples; a folder that holds videos directly and no class folders gives samples without labels. A CSV file
            has a header with either ``path`` and, as wanted, ``label``, ``start`` and ``end`` (seconds: clips are
            drawn from this part), or Kinetics' ``label``, ``youtube_id``, ``time_start``, ``time_end`` (the files
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


def measure(path, deep=False):
    """Measure one video.

    Args:
        path: the file.
        deep: decode all of it.

    Returns:
        The measured columns of ``SCHEMA`` by name, or ``{"error": reason}``.
    """
    try:
        stat = path.stat()
        if stat.st_size == 0:
            return {"error": "the file is empty"}
        return {**_measure(path, deep), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    except FileNotFoundError:
        return {"error": "the file does not exist"}
    except (OSError, ValueError, EOFError, av.error.FFmpegError) as error:
        return {"error": reason(error)}


def _measure(path, deep):
    with open_video(path) as (container, stream):
        packets = _Packets(container, stream)
        if not packets.pts:
            raise ValueError(f"no video packets{packets.note}")
        whole = deep or not packets.usable()
        if not whole:
            # Only decoding tells what the ends of a stream are worth; the groups between are taken at their word.
            codec, parts = stream.codec_context, [packets.first_group, packets.last_group]
            results = [_decode(codec, part) for part in parts if part]
            lost = set()
            for part, result in zip(parts, results, strict=False):
                key = part[0].pts if part is packets.last_group else None
                lost |= _lost(part, result, key)
            whole = not all(_rising(result.pts) and set(result.pts) <= packets.shown for result in results)
        info = _stream_facts(stream)
    if whole:
        with open_video(path) as (container, stream):
            results = [_decode(stream.codec_context, container.demux(stream))]
        frames = results[0].pts
        counted = not (packets.usable() and _rising(frames) and set(frames) <= packets.shown)
    else:
        frames, counted = sorted(packets.shown - lost), False
    if not frames or results[0].picture is None:
        problem = next((r.problem for r in results if r.problem), None)
        raise ValueError(f"no frame can be decoded{f' ({problem})' if problem else packets.note}")
    place = {} if counted else {pts: i for i, pts in enumerate(frames)}
    starts = {0, *(place[pts] for pts in packets.random_access if pts in place)}
    return {
        **info,
        **results[0].picture,
        **_timing(None if counted else frames, len(frames), info),
        "num_frames": len(frames),
        "keyframes": sorted(starts),
    }


class _Packets:
    """What demuxing tells: time stamps of all packets, and the packets of the first and the last group of pictures."""

    def __init__(self, container, stream):
        self.pts, self.random_access, self.note = [], [], ""
        self.shown: set = set()
        self._num_shown = 0
        self.first_group: list = []
        self.last_group: list = []  # empty when the first is the last
        try:
            for packet in container.demux(stream):
                if packet.size:
                    self._add(packet, stream)
        except (av.error.FFmpegError, OSError) as error:  # cut off: what came before it counts
            self.note = f" ({reason(error)})"

    def _add(self, packet, stream):
        if self.pts and is_random_access(packet, stream) and packet.pts is not None:
            self.last_group = [packet]
        elif self.last_group:
            self.last_group.append(packet)
        else:
            self.first_group.append(packet)
        if is_random_access(packet, stream):
            self.random_access.append(packet.pts)
        self.pts.append(packet.pts)
        if not packet.is_discard:
            self.shown.add(packet.pts)
            self._num_shown += 1

    def usable(self):
        """Whether every packet has a time stamp of its own."""
        return None not in self.pts and len(self.shown) == self._num_shown


class _Decoded(NamedTuple):
    pts: list  # of the frames that came out, in that order
    picture: dict | None  # what the first frame tells of size, rotation and pixel format
    problem: str | None  # the first error


def _decode(codec, packets):
    """Decode packets, past those that cannot be."""
    pts, picture, problem = [], None, None
    for packet in chain(packets, [None]):
        if packet is not None and not packet.size:
            continue
        try:
            frames = codec.decode(packet)
        except av.error.FFmpegError as error:
            problem = problem or reason(error)
            continue
        for frame in frames:
            pts.append(frame.pts)
            if picture is None:
                picture = {
                    "width": frame.width,
                    "height": frame.height,
                    "rotation": round(-frame.rotation) % 360,
                    "pixel_format": frame.format.name,
                }
    codec.flush_buffers()
    return _Decoded(pts, picture, problem)


def _lost(part, decoded, key):
    """Time stamps of packets that should have given frames and did not. ``key``: leading pictures do not count."""
    expected = {packet.pts for packet in part if not packet.is_discard and (key is None or packet.pts >= key)}
    return expected - set(decoded.pts)


def _rising(values):
    return None not in values and all(a < b for a, b in pairwise(values))


def _stream_facts(stream):
    rate = stream.average_rate or stream.guessed_rate
    return {
        "fps": float(rate) if rate else None,
        "codec": stream.codec_context.codec.canonical_name,
        "time_base": float(stream.time_base),
    }


def _timing(pts, num_frames, facts):
    """The columns on time: a regular grid where the frames stand on one, else each frame's time stamp, else nothing."""
    row = {"pts_first": None, "pts_step": None, "pts": None}
    fps = facts["fps"]
    if pts is None:
        return {**row, "fps": fps, "duration_seconds": num_frames / fps if fps else None}
    times = np.array(pts, np.int64)
    step = (times[-1] - times[0]) / (num_frames - 1) if num_frames > 1 else 1.0
    seconds = num_frames * step * facts["time_base"] if num_frames > 1 else (1 / fps if fps else None)
    row["fps"], row["duration_seconds"] = (num_frames / seconds if num_frames > 1 else fps), seconds
    # frame_index accepts a quarter of a step; less here leaves room for rounding
    if np.abs(times - (times[0] + np.arange(num_frames) * step)).max() < 0.2 * step:
        return {**row, "pts_first": pts[0], "pts_step": float(step)}
    return {**row, "pts": pts}
