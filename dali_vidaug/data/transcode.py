"""Make smaller videos that are faster to decode, with the same frames, labels, segments and boxes."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np

from dali_vidaug.data.engine import Failed, check_engine, run
from dali_vidaug.data.entry import name_some, plural
from dali_vidaug.data.given import open_manifest
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import restore_name
from dali_vidaug.data.one_scan import check_one_scan
from dali_vidaug.data.schema import Broken
from dali_vidaug.data.transcode_journal import Finished, Journal, key_of
from dali_vidaug.data.transcode_names import output_names, source_path
from dali_vidaug.data.transcode_rows import transcoded_manifest
from dali_vidaug.errors import printable
from dali_vidaug.media.encoding import Encoding
from dali_vidaug.media.transcode import Job, transcode_video
from dali_vidaug.media.unchanged import same_time
from dali_vidaug.media.video import IMAGES

MANIFEST = "manifest.parquet"  # in the folder of the outputs
_PARTIAL = ".partial"  # folder of what is being written

log = logging.getLogger("dali_vidaug")


def transcode(
    manifest: Manifest | str | os.PathLike[str], output: str | os.PathLike[str], *, preset: str = "h264",
    short_side: int = 256, gop: int = 16, crf: float | None = None, speed: str | None = None,
    fast_decode: bool | None = None, engine: Any = "threads", num_workers: int | None = None, progress: bool = True,
) -> Manifest:  # fmt: skip
    """Encode the videos of a manifest anew: smaller, with a key frame every few frames, so that clips cost less.

    Frame i of an output is frame i of its source, at the same time: each is decoded again and compared. Labels,
    segments, columns and classes stay, boxes are scaled. Frames are turned as they are shown. A file is either whole
    and proven, or not there. The same call goes on where it was interrupted; files that are finished are kept if
    source and settings are the same. docs/transcoding.md has the rest.

    Args:
        manifest: of the sources, or its file.
        output: a folder for the videos and their ``manifest.parquet``: a new one, or one of an earlier call.
        preset: "h264"; "hevc" and "av1", for less space; "nvdec": H.264 in sizes that are multiples of 16.
        short_side: pixels of the shorter side of a frame, at most: no video grows.
        gop: frames from one key frame to the next.
        crf: quality, less is better; default: 23 with H.264, 25 with H.265, 35 with AV1.
        speed: the encoder's preset, such as "veryfast", in AV1 a number as text; default: "medium", "8".
        fast_decode: leave out what is slow to decode, for more bytes; default: yes, but for "nvdec".
        engine: "threads", "processes", "ray", or an executor with ``submit``.
        num_workers: videos at the same time, each with one thread; default: the cores.
        progress: show a progress bar.

    Returns:
        The manifest of the outputs, in the order of the source; what could not be made is in ``broken``.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: an argument is wrong, the folder has other files, rows of a video are of scans that differ, or no
            video could be made.
        RuntimeError: this PyAV lacks the encoder.
        OSError: the folder cannot be written to.
    """
    manifest = open_manifest(manifest, "transcode")
    encoding = Encoding(preset, short_side, gop, crf, speed, fast_decode)
    check_engine(engine, num_workers, "transcode: num_workers")
    _check_encoder(encoding)
    folder = Path(output).resolve()
    sources, file_of = _find_sources(manifest)
    check_one_scan(manifest, np.unique(file_of, return_index=True)[1][file_of], "transcode")
    inside = [path for path, _ in sources if Path(path).resolve().is_relative_to(folder)]
    if inside:
        raise ValueError(f"transcode: the folder {folder} has sources in it: {name_some(inside)}; choose another one")
    names = output_names(manifest.root, sources)
    with closing(Journal(folder)) as journal:
        shutil.rmtree(folder / _PARTIAL, ignore_errors=True)  # of a transcode that was killed
        finished, broken = _make(manifest, folder, journal, encoding, file_of, names, (engine, num_workers, progress))
        shutil.rmtree(folder / _PARTIAL, ignore_errors=True)
        if not finished:
            raise ValueError(
                f"transcode: none of {plural(len(names), 'video')} could be made; the first: "
                f"{printable(broken[0].path)}: {broken[0].reason}"
            )
        made = transcoded_manifest(manifest, folder, file_of, finished, broken)
        _name_old(made, journal.names() - {one.output for one in finished.values()})
        made.write(folder / MANIFEST)
    return made


def _name_old(made, names):
    if names:
        old = f"files of earlier calls that are not in the manifest: {len(names)} ({name_some(sorted(names))})"
        made.remarks = (printable(old), *made.remarks)
        log.warning("transcode: %s", printable(old))


def _check_encoder(encoding):
    try:
        av.codec.Codec(encoding.encoder, "w")
    except av.codec.codec.UnknownCodecError:
        raise RuntimeError(
            f"transcode: this PyAV has no {encoding.encoder}, which preset {encoding.preset!r} needs; the wheels of "
            "PyPI have it: pip install --force-reinstall av"
        ) from None


def _find_sources(manifest: Manifest) -> tuple[list[tuple[str, int]], np.ndarray]:
    """The files of a manifest, (path, stream) each, in its order; and for each row the number of its file."""
    paths, streams = (manifest.table[name].to_pylist() for name in ("path", "stream"))
    numbers: dict[tuple[str, int], int] = {}
    found = [
        numbers.setdefault((source_path(manifest.root, restore_name(path)), stream), len(numbers))
        for path, stream in zip(paths, streams, strict=True)
    ]
    return list(numbers), np.array(found, np.int64)


def _make(
    manifest: Manifest, folder: Path, journal: Journal, encoding: Encoding, file_of: np.ndarray, names: list[str],
    options: tuple[Any, ...],
) -> tuple[dict[int, Finished], list[Broken]]:  # fmt: skip
    """Make what is not finished: what is by the number of the file, and what cannot be."""
    engine, num_workers, progress = options
    finished: dict[int, Finished] = {}
    first_rows = np.unique(file_of, return_index=True)[1].tolist()
    keys, reasons = {}, {}
    for number, row in enumerate(first_rows):
        facts = manifest.table.slice(row, 1).to_pylist()[0]
        keys[number] = key_of(facts, encoding)
        differs = _differs(manifest.video(row).place.path, facts)
        kept = None if differs else journal.get(names[number], keys[number])
        if kept is not None:
            finished[number] = kept
        if facts["codec"] == IMAGES:
            reasons[number] = "it is a folder of images, which transcode does not encode"
    todo = [number for number in keys if number not in finished and number not in reasons]
    if finished:
        log.info("transcode: %s of %d kept", plural(len(finished), "video"), len(keys))
    partial = folder / _PARTIAL
    partial.mkdir(exist_ok=True)
    jobs = _jobs(manifest, encoding, [(number, first_rows[number]) for number in todo], partial)
    results = run(
        transcode_video, jobs, engine=engine, num_workers=num_workers, total=len(todo), what="transcode",
        progress=progress,
    )  # fmt: skip
    with closing(results):
        for job, made in results:
            number = job.number
            if isinstance(made, Failed):
                reasons[number] = made.reason
            elif "error" in made.row:
                reasons[number] = made.row["error"]
            else:
                target = folder / names[number]
                target.parent.mkdir(parents=True, exist_ok=True)
                Path(job.output).replace(target)
                finished[number] = Finished(keys[number], names[number], made.row, made.quality)
                journal.add(finished[number])
    broken = [Broken(manifest.path(first_rows[number]), reasons[number]) for number in sorted(reasons)]
    for one in broken:
        log.warning("transcode: %s: %s", printable(one.path), one.reason)
    return finished, broken


def _jobs(manifest: Manifest, encoding: Encoding, files: list[tuple[int, int]], partial: Path) -> Iterator[Job]:
    """A job for each (number, row); the files that they write are of this call alone."""
    mine = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"
    for number, row in files:
        facts = {name: manifest.table[name][row].as_py() for name in ("fps", "time_base", "damaged")}
        damaged = tuple(facts["damaged"] or ())
        output = str(partial / f"{mine}-{number}.mp4")
        yield Job(number, manifest.video(row), facts["fps"], facts["time_base"], damaged, encoding, output)


def _differs(path: str, facts: dict[str, Any]) -> bool:
    """Whether a source is there, and is another than the one that was scanned."""
    try:
        stat = os.stat(path)  # noqa: PTH116 (called for every file)
    except OSError:
        return False
    whole = facts["shard"] is None  # else the tar file has a size of its own
    return (whole and stat.st_size != facts["bytes"]) or not same_time(stat.st_mtime_ns, facts["mtime_ns"])
