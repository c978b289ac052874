"""Make a manifest: find the videos, measure each once, and say which cannot be used and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dali_vidaug.data.assemble import conclude, facts_of, find
from dali_vidaug.data.box_rows import GivenBoxes, add_boxes, given_boxes
from dali_vidaug.data.bucket import check_urls, list_tar_urls, list_url
from dali_vidaug.data.classes import read_given_classes
from dali_vidaug.data.engine import check_engine
from dali_vidaug.data.entry import Classes, Listing
from dali_vidaug.data.files import list_files
from dali_vidaug.data.given import open_manifest
from dali_vidaug.data.known import Known
from dali_vidaug.data.labels import Labels, index_labels, tell_unlabelled
from dali_vidaug.data.list_formats import list_tars, list_videos
from dali_vidaug.data.list_source import Options
from dali_vidaug.data.listed_files import ListedFiles, MeasureOptions
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.measuring import TIMEOUT, How, measure_files
from dali_vidaug.data.parts import Part, as_part, part_path, share_of, what_is_the_same, write_part
from dali_vidaug.data.rates import set_rates
from dali_vidaug.data.schema import check_output
from dali_vidaug.data.shard_names import expand, is_pattern, is_shard_name
from dali_vidaug.device.cores import own_cores
from dali_vidaug.media.fetch_loop import running_loop
from dali_vidaug.media.object_options import Storage, given_storage
from dali_vidaug.urls import check_url, is_url

_Path = str | os.PathLike[str]


def scan(
    path: _Path | Iterable[_Path], *, format: str | None = None, split: str | None = None, encoding: str | None = None,
    root: _Path | None = None, output: _Path | None = None, labels: Iterable[Any] | None = None,
    columns: Mapping[str, Iterable[Any]] | None = None, classes: Iterable[object] | _Path | Manifest | None = None,
    like: _Path | Manifest | None = None, multi_label: str | None = None, label_columns: Iterable[str] | None = None,
    stream: int | None = None, deep: bool = False, index: bool = True, num_threads: int | None = None,
    progress: bool = True, boxes: Any = None, boxes_format: str | None = None, boxes_first_frame: int | None = None,
    boxes_hold: float = 0.0, box_classes: Iterable[object] | _Path | None = None, engine: Any = "threads",
    part: tuple[int, int] | str | None = None, timeout: float | None = TIMEOUT, fps: float | None = None,
    frame_names: str | None = None, storage: Storage | None = None, headers: bool = False,
) -> Manifest:  # fmt: skip
    """Measure videos and make a manifest of them.

    Args:
        path: a folder, a list file, tar shards, a video, or a list of paths; also URLs (s3://bucket/folder, gs://,
            az://, https://host/video.mp4): docs/storage.md. In a folder each sub-folder is a class; without one,
            samples have no labels. Lists: docs/lists.md.
        format: of a list, such as "kinetics"; default: what it is found to be.
        split: which part to take of a list that has several, such as "train".
        encoding: what a list is written in, such as "latin-1"; default: UTF-8, or UTF-16 with a mark that says so.
        root: folder, or URL, that the paths of a list are in; default: that of the list file. For a list of paths:
            the working folder, and the manifest's root is the deepest folder that holds all of them.
        output: Parquet file to write. What it has unchanged is not measured again; an interrupted scan continues.
        labels, columns: with a list of paths, a label for each (text, a whole number, None, or a list of them), and
            columns of your own by name.
        classes: names of the classes in the order of their indices, a file of them, or a manifest. Default: the labels
            that occur, sorted; labels that are all whole numbers are the indices themselves.
        like: a manifest to agree with, as validation with training: its classes, one label a sample or several.
        multi_label: what separates the labels of a sample in a list, such as ";". Targets are then multi-hot.
        label_columns: columns of a list with labels. Several give several labels to a sample; default: ``label``.
        stream: which stream of each file, as FFmpeg counts them; default: the video that FFmpeg would play.
        deep: decode every frame of every video, rather than its first and last GOP.
        index: keep, beside ``output``, where each packet lies, so that no container is opened: docs/decoding.md.
        num_threads, progress: videos measured at the same time, default: the cores; show a progress bar.
        boxes: boxes in the frames: a file, several, a folder, or a table: docs/boxes.md.
        boxes_format: "ava", "cvat", "mot", "coco" or "table"; default: what each file is found to be.
        boxes_first_frame: number of a video's first frame in the files; default: 1 in MOT, of images what they
            tell, else 0.
        boxes_hold: seconds before and after its frame that a box without a track, or of AVA, is there too.
        box_classes: as ``classes``, of the boxes. Default: those of ``like``, else their labels.
        engine: "threads", "processes", "ray", or an executor with ``submit``, which measure: docs/scanning.md.
        part: (i, n): measure part i, from 0 on, of n, to a file of its own beside ``output``, for ``merge``.
        timeout: seconds that a file may take before it is broken; None: no limit.
        fps: frames per second of folders of images; default: a column ``fps`` of the list, else not known.
        frame_names: which images of such a folder are frames, as ``img_*.jpg``; default: those whose names count.
        storage: how objects are read; default: ``dv.Storage()``.
        headers: read no more than the header and first frame of videos whose header says how many frames there are,
            at a constant rate. It is proven when a clip is first loaded: docs/scanning.md#headers-only.

    Returns:
        The manifest. Files that cannot be used are in ``manifest.broken`` with the reason.

    Raises:
        OSError: no such folder, file or bucket; wrong credentials.
        ValueError: there are no videos, what is given cannot be read, a label is not among the classes, or ``output``
            is there and is not a manifest.
    """
    if deep and headers:
        raise ValueError("scan: deep reads every frame, and headers=True only headers; give one of them")
    measuring = MeasureOptions(deep, stream, index, frame_names, given_storage(storage, "scan"), headers)
    check_output(output, "scan")
    manifest = None if like is None else open_manifest(like, "scan: like=")
    given, several = _read_agreement(classes, like, manifest)
    names = _check_label_options(multi_label, label_columns)
    which = _check_engine(engine, num_threads, part, timeout, output, boxes)
    remote = check_url(str(root)) if is_url(root) else None
    options = Options(format, split, encoding, multi_label, names, given is not None, remote)
    listing = tell_unlabelled(check_urls(_list(path, root, labels, columns, options, several, measuring.storage)))
    listing = set_rates(listing, fps, frame_names)
    like_boxes = () if manifest is None else manifest.box_classes
    found = given_boxes(boxes, boxes_format, boxes_first_frame, boxes_hold, box_classes, like_boxes)
    indices = index_labels(listing, given or listing.classes)
    how = How(engine, num_threads, timeout, progress)
    return _scan(listing, indices, found, like_boxes, output, which, measuring, how)


def _scan(
    listing: Listing, labels: Labels, boxes: GivenBoxes | None, like_boxes: tuple[str, ...], output: _Path | None,
    part: Part | None, options: MeasureOptions, how: How,
) -> Manifest:  # fmt: skip
    """Measure what is listed; arguments of ``scan``."""
    names = sorted({entry.path for entry in listing.entries if entry.error is None})
    positions, numbers = share_of(listing, names, part or Part(0, 1))
    mine = [names[number] for number in numbers.tolist()]
    to = output if part is None or output is None else part_path(output, part)
    folder = None if to is None else Path(to).resolve().parent
    facts = facts_of(listing, labels, like_boxes)
    same = {} if part is None else what_is_the_same(listing, labels, options, like_boxes)
    files = ListedFiles(listing, mine, options)
    known = Known(to, mine, files, options, [path for path in dict.fromkeys((output, to)) if path])
    waits = is_url(listing.root) or any(is_url(entry.path) for entry in listing.entries)
    if waits and how.num_threads is None:
        how = how._replace(num_threads=4 * own_cores())
    try:
        with running_loop() if waits else nullcontext():
            measure_files(files, mine, known, options, how)
        found = find(listing, labels, known, positions, numbers, folder)
    finally:
        known.close()
    listing.entries.clear()  # of a million rows: the manifest can have their memory
    labels.indices.clear()
    if part is not None and to is not None:
        manifest = conclude(found, facts, None, f"part {part.number} of a scan in {part.total} parts")
        write_part(to, part, same, facts, found)
    else:
        manifest = add_boxes(conclude(found, facts, output), boxes, output)
        if output is not None:
            manifest.write(output)
    known.forget()
    return manifest


def _check_engine(engine, num_threads, part, timeout, output, boxes) -> Part | None:
    """Refuse what cannot be done before anything is read; returns the part."""
    check_engine(engine, num_threads, "scan: num_threads")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
        raise ValueError(f"scan: timeout must be seconds, more than 0, or None, got {timeout!r}")
    if part is None:
        return None
    which = as_part(part)
    if output is None:
        raise ValueError(f"scan: part={part!r} needs output=, beside which its file is written")
    if boxes is not None:
        raise ValueError("scan: boxes are given when the parts are put together, to merge, not to scan with part=")
    check_output(part_path(output, which), "scan")
    return which


def _list(path, root, labels, columns, options: Options, several: bool | None, storage: Storage) -> Listing:
    """What is to be measured; ``several`` as of ``_read_agreement``."""
    listing = _read_list(path, root, labels, columns, options, storage)
    if several is not None and several != listing.several:
        raise ValueError(
            f"scan: like= has {'several labels' if several else 'one label'} a sample, so multi_label= or several "
            f"label_columns= must {'' if several else 'not '}be given"
        )
    return listing


def _read_list(path, root, labels, columns, options, storage) -> Listing:
    if isinstance(path, Manifest):
        raise ValueError("scan: got a Manifest, which is scanned already; manifest.select and split make parts of it")
    if root is not None and options.remote is None and not Path(root).is_dir():
        raise FileNotFoundError(f"scan: root must be a folder, there is no folder {root}")
    if isinstance(path, (str, os.PathLike)):
        if labels is not None or columns is not None:
            raise ValueError(f"scan: labels and columns are for a list of paths, but {path} is one path")
        if is_url(path):
            _refuse_for_url(root, options, is_tar=_is_tar(path))
            return list_url(str(path), storage, options)
        listing = list_videos(Path(path), None if root is None else Path(root), options)
        return listing if options.remote is None else listing._replace(root=options.remote)
    if not isinstance(path, Iterable):
        raise ValueError(f"scan: path must be a folder, a list, a video, or a list of paths, got {path!r}")
    path = list(path)
    if any(map(_is_tar, path)):
        return _list_tars(path, root, labels, columns, options, storage)
    if options.label_columns is not None:
        raise ValueError("scan: label_columns is for list files; a list of paths has labels=")
    for name in ("format", "split", "encoding"):
        if getattr(options, name) is not None:
            raise ValueError(f"scan: {name} is for list files, got {getattr(options, name)!r} for a list of paths")
    return list_files(path, options.remote or root, labels, columns, options.multi_label)


def _refuse_for_url(root, options, is_tar):
    names = ("format", "split", "encoding", *(() if is_tar else ("label_columns",)))
    given = [name for name in names if getattr(options, name) is not None]
    if root is not None or given:
        raise ValueError(f"scan: {', '.join(['root'] * (root is not None) + given)}= is for lists; got a URL")


def _is_tar(name) -> bool:
    return isinstance(name, (str, os.PathLike)) and is_shard_name(os.fsdecode(name))


def _list_tars(names, root, labels, columns, options, storage) -> Listing:
    """What is in several tar files."""
    other = next((name for name in names if not _is_tar(name)), None)
    if other is not None:
        raise ValueError(f"scan: a list has videos or tar shards, not both, got {other} beside tar files")
    if labels is not None or columns is not None:
        raise ValueError("scan: labels and columns are for a list of videos; tar shards have theirs in them")
    paths = [path for name in map(os.fsdecode, names) for path in (expand(name) if is_pattern(name) else [name])]
    if any(map(is_url, paths)):
        _refuse_for_url(root, options, is_tar=True)
        return list_tar_urls(paths, options, storage)
    return list_tars(paths, None if root is None else Path(root), options)


def _read_agreement(classes, like, manifest) -> tuple[Classes | None, bool | None]:
    """The classes that are fixed, and whether samples must have several labels, must not, or may (None)."""
    if classes is not None and like is not None:
        raise ValueError("scan: classes and like are two ways to fix the classes; give one of them")
    if manifest is None:
        return (None if classes is None else read_given_classes(classes)), None
    given = read_given_classes(manifest)
    return given._replace(source=given.source if like is manifest else str(like)), manifest.multi_label


def _check_label_options(multi_label, label_columns) -> tuple[str, ...] | None:
    if multi_label is not None and not (isinstance(multi_label, str) and multi_label):
        raise ValueError(f'scan: multi_label must be what separates labels, such as ";", got {multi_label!r}')
    if label_columns is None:
        return None
    columns = () if isinstance(label_columns, str) else tuple(label_columns)
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"scan: label_columns must be a tuple of names that differ, got {label_columns!r}")
    return columns
