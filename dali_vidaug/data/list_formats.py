"""The formats of lists: which one a file has, and what it says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dali_vidaug.data import (
    list_epic,
    list_frames,
    list_kinetics,
    list_paths,
    list_segments,
    list_something,
    list_splits,
    list_tables,
    list_thumos,
)
from dali_vidaug.data.entry import Entry, Listing, no_columns
from dali_vidaug.data.folder import is_video_name, list_folder
from dali_vidaug.data.list_lines import odd_line
from dali_vidaug.data.list_source import Format, Options, Source
from dali_vidaug.data.list_text import read_text
from dali_vidaug.data.names import below_root
from dali_vidaug.data.schema import EXTENSIONS
from dali_vidaug.data.shard_names import expand, is_pattern, is_shard_name, tars_below
from dali_vidaug.data.shards import LABEL_OPTIONS, list_shards
from dali_vidaug.media.first_bytes import what_file_is
from dali_vidaug.urls import is_url

FORMATS = {
    form.name: form
    for form in (
        Format("table", "CSV or Parquet with a column of paths", list_tables.fits_table, list_tables.read_table),
        Format("jsonl", "JSON Lines with paths", list_tables.fits_jsonl, list_tables.read_jsonl),
        Format("folder", "a folder for each class", lambda source: False, list_tables.read_folder),
        Format("videofolder", "Hugging Face's VideoFolder", list_tables.fits_videofolder, list_tables.read_videofolder),
        Format("path_label", "lines PATH LABEL", list_paths.fits_path_label, list_paths.read_path_label),
        Format("multi_label", "lines PATH LABEL LABEL ...", list_paths.fits_multi_label, list_paths.read_multi_label),
        Format("slowfast", "lines PATH NUMBER LABEL", list_paths.fits_slowfast, list_paths.read_slowfast),
        Format("videomae", "lines PATH START TOTAL of VideoMAE V2", list_paths.fits_videomae, list_paths.read_videomae),
        Format("frames", "lines FOLDER TOTAL LABEL, folders of images", list_frames.fits_frames,
               list_frames.read_frames),
        Format("frames_start", "lines FOLDER START TOTAL LABEL, folders of images", lambda source: False,
               list_frames.read_frames_start),
        Format("slowfast_frames", "SlowFast's list of frames", list_frames.fits_slowfast_frames,
               list_frames.read_slowfast_frames),
        Format("kinetics", "Kinetics' annotations", list_kinetics.fits_kinetics, list_kinetics.read_kinetics),
        Format("moments", "Moments in Time", list_kinetics.fits_moments, list_kinetics.read_moments),
        Format("multi_moments", "Multi-Moments in Time", list_paths.fits_multi_moments, list_paths.read_multi_label),
        Format("ucf101", "UCF101's splits", list_splits.fits_ucf101, list_splits.read_ucf101),
        Format("hmdb51", "HMDB51's splits", list_splits.is_hmdb51, list_splits.read_hmdb51),
        Format("ssv2", "Something-Something V2", list_something.fits_ssv2, list_something.read_ssv2),
        Format("jester", "Jester, Something-Something V1", list_something.fits_jester, list_something.read_jester),
        Format("epic", "EPIC-KITCHENS", list_epic.fits_epic, list_epic.read_epic),
        Format("charades", "Charades, whole videos", list_epic.fits_charades, list_epic.read_charades),
        Format("charades_segments", "Charades, a sample for each action", lambda source: False,
               list_epic.read_charades_segments),
        Format("activitynet", "ActivityNet, THUMOS14", list_segments.fits_activitynet, list_segments.read_activitynet),
        Format("activitynet_videos", "ActivityNet, whole videos", lambda source: False,
               list_segments.read_activitynet_videos),
        Format("thumos14", "THUMOS14's files of classes", list_thumos.fits_thumos14, list_thumos.read_thumos14),
        Format("thumos14_videos", "THUMOS14, whole videos", lambda source: False, list_thumos.read_thumos14_videos),
        Format("diving48", "Diving48", list_segments.fits_diving48, list_segments.read_diving48),
        Format("ava", "AVA, labels of key frames", list_segments.fits_ava, list_segments.read_ava),
    )
}  # fmt: skip

_JSON = (
    'a list of objects, or an object in each line: {"path": ..., "label": ...} (jsonl), {"id": ..., "template": ...} '
    '(ssv2), {"vid_name": ..., "label": ...} (diving48); or {"database": ...} (activitynet)'
)
_LOOKED_FOR = 20  # paths
_ODD_PATHS = (
    (re.compile(r"^[^/]*\\"), "paths with backslashes, which are part of names here: write / between folders"),
    (re.compile(r"^~"), "paths that begin with ~, which is no home folder here: write the folder, or root="),
    (re.compile(r"%[0-9A-Fa-f]{2}"), "paths with % and two digits, as URLs have them: write the characters"),
)
_OF_FOLDERS = ("folder", "videofolder", "hmdb51", "thumos14", "thumos14_videos")


def list_videos(path: Path, root: Path | None = None, options: Options | None = None) -> Listing:
    """Read a folder, a list file, or one video. Arguments and errors as of ``scan``."""
    options = options or Options()
    if options.format is not None and options.format not in FORMATS:
        raise ValueError(
            f"scan: format must be one of {', '.join(FORMATS)}, or None to find out, got {options.format!r}"
        )
    if path.is_dir() and (tars := tars_below(path)):
        _refuse_unused(path, "a folder of tar shards", options, set(LABEL_OPTIONS))
        return list_shards(str(path), tars, path.resolve(), options)
    if is_pattern(str(path)) or is_shard_name(path.name):
        return list_tars(expand(str(path)) if is_pattern(str(path)) else [str(path)], root, options, str(path))
    if not path.is_dir() and not path.is_file():
        raise FileNotFoundError(f"scan: no folder or file {path}")
    if path.is_file() and is_video_name(path.name):
        _refuse_unused(path, "a video", options, set())
        return Listing(path.resolve().parent, [Entry(path.name, path.name)], {"": [()]}, no_columns(1))
    source = _open(path, root, options)
    form = _choose(source)
    if form is None:
        listing = list_folder(path)
    else:
        listing = form.read(source)
        said = f"the list is read as {form.name}: {form.what}"
        told = source.text.encoding if source.text else None
        listing = listing._replace(notes=(said + (f", in {told}" if told else ""), *listing.notes))
        if source.text and source.text.num_empty:
            empty = f"lines that are separators alone, left out: {source.text.num_empty}"
            listing = listing._replace(warnings=(*listing.warnings, empty))
    if form is not None:
        listing = listing._replace(warnings=(*listing.warnings, *source.doubts, *_odd_paths(listing)))
    _refuse_unused(path, form.name if form else "a folder", options, source.used)
    return listing


def list_tars(
    names: Sequence[str], root: Path | None, options: Options, what: str = "the list of tar files"
) -> Listing:
    """Read tar shards that are named one by one. Arguments and errors as of ``scan``; ``what`` is for messages."""
    _refuse_unused(Path(what), "tar shards", options, set(LABEL_OPTIONS))
    relative, folder = below_root(names, root)
    return list_shards(what, relative, folder, options)


def _odd_paths(listing: Listing) -> Iterator[str]:
    """A sentence on each kind of path that is not there and is written as for another program."""
    for pattern, told in _ODD_PATHS:
        names = [entry.path for entry in listing.entries if entry.error is None and not is_url(entry.path)]
        odd = [name for name in names if pattern.search(name)]
        lost = [name for name in odd[:_LOOKED_FOR] if not os.path.exists(Path(listing.root, name))]  # noqa: PTH110
        if lost:
            yield f"{told}, such as {lost[0]}"


def _open(path: Path, root: Path | None, options: Options) -> Source:
    """The list with its text.

    Raises:
        ValueError: it is no text and no Parquet file.
    """
    if path.is_dir():
        return Source(path, path.resolve() if root is None else root.resolve(), options)
    folder = path.resolve().parent if root is None else root.resolve()
    what = what_file_is(path)
    if what not in (None, "empty", "text", "JSON text", "a Parquet file"):
        raise ValueError(
            f"{path} cannot be read as a list: the file is {what}; a list is CSV, Parquet, JSON or text, or paths with "
            "labels= in a program"
        )
    source = Source(path, folder, options, parquet=what == "a Parquet file" or path.suffix.lower() in EXTENSIONS)
    if source.parquet:
        _ = source.rows  # refuses what is no Parquet file, and manifests
    else:
        source.text = read_text(path, source.option("encoding"))
    return source


def _choose(source: Source) -> Format | None:
    """The format of a list; None for a folder of videos.

    Raises:
        ValueError: it fits none, or another one than is asked for, or several that say different things.
    """
    forms, problem = [], None
    for form in FORMATS.values():
        try:
            if form.fits(source):
                forms.append(form)
        except ValueError as error:  # what is beside the list cannot be read, or the separator cannot be told
            problem = problem or error
    wanted = source.options.format
    if wanted is not None:
        form = FORMATS[wanted]
        if source.path.is_dir() and wanted not in _OF_FOLDERS:
            raise ValueError(
                f"{source.path} is a folder, but format={wanted!r} ({form.what}) is of a file: name the file"
            )
        alike = [other.name for other in forms]
        if form in forms or not forms or _is_variant(wanted, alike):
            return form
        raise ValueError(f"{source.path} is not {wanted} ({form.what}), but fits {' and '.join(alike)}")
    if problem is not None and forms:
        source.doubts.append(f"read as {forms[0].name}, although {str(problem).removeprefix(f'{source.path}: ')}")
    if len(forms) > 1:
        return _agreed(source, forms)
    if problem is not None and not forms:
        raise problem
    if forms or source.path.is_dir():
        return forms[0] if forms else None
    return _refuse_unknown(source)


def _is_variant(wanted: str, alike: list[str]) -> bool:
    """Whether a format is another way to read a list that is recognised as something else."""
    return wanted == "folder" or (wanted, *alike) in (
        ("charades_segments", "charades"),
        ("activitynet_videos", "activitynet"),
        ("thumos14_videos", "thumos14"),
        ("multi_label", "path_label"),
        ("frames_start", "frames"),
    )


def _agreed(source: Source, forms: list[Format]) -> Format:
    """The first of several formats, if all of them say the same.

    Raises:
        ValueError: they do not.
    """
    said, problems = [], []
    for form in forms:
        try:
            said.append(form.read(source))
        except ValueError as error:
            problems.append(f"; as {form.name}: {error}")
    if not problems and all(_same(listing, said[0]) for listing in said):
        return forms[0]
    names = " or ".join(f"{form.name} ({form.what})" for form in forms)
    raise ValueError(
        f"{source.path} may be {names}, which say different things; format= says which it is{''.join(problems)}"
    )


def _same(listing: Listing, other: Listing) -> bool:
    """Whether two listings have the same entries and labels."""
    return (listing.entries, listing.labels, listing.several, listing.classes and listing.classes.names) == (
        other.entries, other.labels, other.several, other.classes and other.classes.names,
    )  # fmt: skip


def _refuse_unknown(source: Source) -> Format:
    """Say what was found in place of a list.

    Raises:
        ValueError: always, but for a table, whose reader says what its header lacks.
    """
    if source.json is not None:
        value = source.json
        keys = ", ".join(value if isinstance(value, dict) else value[0] if value and isinstance(value[0], dict) else ())
        raise ValueError(
            f"{source.path}: this JSON is of no list that is known; its keys are {keys[:200] or 'none'}. It may be "
            f"{_JSON}"
        )
    if source.text is not None and source.text.text.lstrip()[:1] in ("{", "["):
        try:
            json.loads(source.text.text)
        except ValueError as error:
            raise ValueError(f"{source.path} cannot be read as JSON: {error}") from error
    odd = odd_line(source)
    if odd is not None:
        source.refuse(
            odd[0], "a path that ends like a video, as in other lines (format='path_label' takes any)", odd[1]
        )
    return FORMATS["table"]


def _refuse_unused(path: Path, what: str, options: Options, used: set[str]) -> None:
    """Refuse options that mean nothing here.

    Raises:
        ValueError: there is one.
    """
    for name in ("format", "split", "encoding", "multi_label", "label_columns"):
        if name == "format" and what != "a video" and "shards" not in what:
            continue
        if getattr(options, name) is not None and name not in used:
            raise ValueError(f"scan: {name}={getattr(options, name)!r} means nothing for {path}, which is {what}")
