"""Make a manifest: find the videos, measure each once, and say which cannot be used and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dali_vidaug.data.assemble import assemble
from dali_vidaug.data.box_rows import GivenBoxes, add_boxes, given_boxes
from dali_vidaug.data.bucket import check_urls, list_url
from dali_vidaug.data.classes import read_given_classes
from dali_vidaug.data.entry import Classes, Listing
from dali_vidaug.data.files import list_files
from dali_vidaug.data.given import open_manifest
from dali_vidaug.data.known import Known
from dali_vidaug.data.labels import Labels, index_labels, tell_unlabelled
from dali_vidaug.data.list_formats import list_videos
from dali_vidaug.data.list_source import Options
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.measuring import measure_files
from dali_vidaug.data.schema import check_file_name, is_manifest
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
    boxes_hold: float = 0.0, box_classes: Iterable[object] | _Path | None = None, storage: Storage | None = None,
) -> Manifest:  # fmt: skip
    """Measure videos and make a manifest of them.

    Args:
        path: a folder, a list file (docs/lists.md), one video, or several: a list of paths. All may be URLs, such as
            s3://bucket/folder: docs/storage.md. In a folder each sub-folder is a class and every video below it one of
            its samples; a folder that contains videos directly and no class folders gives samples without labels.
        format: of a list, such as "kinetics"; default: what it is found to be.
        split: which part to take of a list that has several, such as "train".
        encoding: what a list is written in, such as "latin-1"; default: UTF-8, or UTF-16 with a mark that says so.
        root: folder, or URL, that the paths of a list are in; default: that of the list file. For a list of paths:
            the working folder, and the manifest's root is the deepest folder that holds all of them.
        output: Parquet file to write. Files that it has and that did not change are not measured again, and an
            interrupted scan continues where it stopped.
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
        boxes_first_frame: number of a video's first frame in the files; default: 1 in MOT, of images what they tell,
            else 0.
        boxes_hold: seconds before and after its frame that a box without a track, or of AVA, is there too.
        box_classes: as ``classes``, of the boxes. Default: those of ``like``, else their labels.
        storage: how objects are read; default: ``dv.Storage()``.

    Returns:
        The manifest. Files that cannot be used are in ``manifest.broken`` with the reason.

    Raises:
        OSError: no such folder, file or bucket; wrong credentials.
        ValueError: there are no videos, what is given cannot be read, a label is not among the classes, or ``output``
            is there and is not a manifest.
    """
    storage = given_storage(storage, "scan")
    _check_output(output)
    manifest = None if like is None else open_manifest(like, "scan: like=")
    given, several = _read_agreement(classes, like, manifest)
    names = _check_label_options(multi_label, label_columns)
    remote = check_url(str(root)) if is_url(root) else None
    options = Options(format, split, encoding, multi_label, names, given is not None, remote)
    listing = tell_unlabelled(check_urls(_list(path, root, labels, columns, options, several, storage)))
    found = given_boxes(boxes, boxes_format, boxes_first_frame, boxes_hold, box_classes, manifest)
    indices = index_labels(listing, given or listing.classes)
    return _scan(listing, indices, found, output, (deep, stream, index, storage), num_threads, progress)


def _scan(
    listing: Listing, labels: Labels, boxes: GivenBoxes | None, output: _Path | None, options: tuple[Any, ...],
    num_threads: int | None, progress: bool,
) -> Manifest:  # fmt: skip
    """Measure what is listed; ``options`` of ``measure``, the rest of ``scan``."""
    known = Known(output, listing, *options)
    waits = is_url(listing.root) or any(is_url(entry.path) for entry in listing.entries)
    try:
        with running_loop() if waits else nullcontext():
            rows = measure_files(listing, known, options, num_threads or own_cores() * (1 + 3 * waits), progress)
    finally:
        known.close()
    manifest = add_boxes(assemble(listing, labels, rows, output), boxes, output)
    if output is not None:
        manifest.write(output)
        known.forget()
    return manifest


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
            _refuse_for_url(root, options)
            return list_url(str(path), storage)
        listing = list_videos(Path(path), None if root is None else Path(root), options)
        return listing if options.remote is None else listing._replace(root=options.remote)
    if not isinstance(path, Iterable):
        raise ValueError(f"scan: path must be a folder, a list, a video, or a list of paths, got {path!r}")
    if options.label_columns is not None:
        raise ValueError("scan: label_columns is for list files; a list of paths has labels=")
    for name in ("format", "split", "encoding"):
        if getattr(options, name) is not None:
            raise ValueError(f"scan: {name} is for list files, got {getattr(options, name)!r} for a list of paths")
    return list_files(path, options.remote or root, labels, columns, options.multi_label)


def _refuse_for_url(root, options):
    given = [name for name in ("format", "split", "encoding", "label_columns") if getattr(options, name) is not None]
    if root is not None or given:
        raise ValueError(f"scan: {', '.join(['root'] * (root is not None) + given)}= is for lists; got a URL")


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


def _check_output(output):
    """Nothing that is not a manifest is overwritten, and no time is spent on what cannot be written."""
    if output is None:
        return
    output = Path(output)
    if output.exists() and not is_manifest(output):
        raise ValueError(f"scan: the output {output} is there already, and is not a manifest; choose another name")
    check_file_name(output, "scan: output")
    if not output.resolve().parent.is_dir():
        raise ValueError(f"scan: there is no folder {output.resolve().parent} for the output")
