"""Labels and columns of videos in tar shards: what KEY.json, KEY.cls, KEY.txt and folders of members say."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa

from dali_vidaug.data.entry import Entry, Listing, name_some, plural
from dali_vidaug.data.header import label_groups, looks_like_label, plain, read_header
from dali_vidaug.data.labels import is_missing, whole_number
from dali_vidaug.data.list_source import Options
from dali_vidaug.data.list_text import columns_of
from dali_vidaug.data.lists import read_labels, with_own_columns
from dali_vidaug.data.shard_classes import CLS, by_name

_LABELS = ("label", "labels", "class", "cls")  # of KEY.json, in the order in which they are looked for
_CAPTIONS = ("caption", "txt")  # the column of KEY.txt: the first that KEY.json has not


class Fields(NamedTuple):
    """What is said of a video.

    Attributes:
        values: of KEY.json.
        cls, txt: the texts of KEY.cls and KEY.txt, or None.
        folder: of the member in its tar file; "" for none.
    """

    values: Mapping[str, Any] = MappingProxyType({})
    cls: str | None = None
    txt: str | None = None
    folder: str = ""


def read_fields(what: str, root: Path | str, entries: list[Entry], fields: list[Fields], options: Options) -> Listing:
    """Labels and columns of the videos of tar shards, as a listing. Errors as of ``scan``.

    Args:
        what: the folder, pattern or list of the shards, for messages.
        root: of the entries.
        entries: videos, and what cannot be used.
        fields: of each.
        options: of ``scan``.
    """
    given = options.label_columns or ()
    fields, told = (fields, ()) if given else _segments_first(entries, fields)
    table, notes = _table(entries, fields, given)
    columns = _label_columns(table)
    if given:
        columns = tuple(CLS if name == "cls" and name not in table.column_names else name for name in given)
        read_header(what, table.column_names, columns, needs_path=False)  # refuses what is not there
    if not columns:
        return _by_folders(what, root, entries, fields, table, notes, options)
    parted = options.multi_label is None and any(pa.types.is_list(table[name].type) for name in columns)
    separator = options.multi_label or ("," if parted else None)
    several = separator is not None or len(columns) > 1
    labels = {
        group: read_labels(Path(what), _as_lists(table, names) if parted else table, names, separator)
        for group, names in label_groups(columns).items()
    }
    named = None if given or len(columns) > 1 else by_name(table, columns[0], labels[""], entries, what)
    if named is not None:
        labels, told = {"": named.labels}, (*told, *named.told)
    said = ", ".join(map(_source_of, columns)) + (f", named by {_source_of(named.column)}" if named else "")
    used = (*columns, *([named.column] if named else []), *_repeated(table, columns[0]))
    own = table.drop_columns([*used])
    if CLS in own.column_names and "cls" not in own.column_names:
        own = own.rename_columns(["cls" if name == CLS else name for name in own.column_names])
    warnings = [*told, *_not_used(own, f"labels are those of {said}"), *_contradictions(table, columns[0])]
    listing = Listing(root, entries, labels, own, several, False, tuple(warnings), (f"labels: {said}", *notes))
    return with_own_columns(Path(what), listing._replace(classes=named and named.classes))


def _segments_first(entries: list[Entry], fields: list[Fields]) -> tuple[list[Fields], Sequence[str]]:
    """The fields without KEY.cls, which can say but one label, where segments of a video have different ones or none in
    KEY.json; and what is told of it."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for entry, one in zip(entries, fields, strict=True):
        if entry.in_frames and one.cls is not None:
            said = {name: value for name, value in one.values.items() if plain(name) in _LABELS}
            labels[entry.path].add(repr(sorted(said.items())))
    differ = [path for path, said in labels.items() if len(said) > 1]
    if not differ:
        return fields, ()
    known = set(differ)
    kept = [one._replace(cls=None) if e.path in known else one for e, one in zip(entries, fields, strict=True)]
    what = "KEY.cls is not used where segments in KEY.json have labels that differ, or some none"
    return kept, (f"{what}: {plural(len(differ), 'video')} ({name_some(differ)})",)


def _table(entries: list[Entry], fields: list[Fields], given: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """All that is said, by columns; and what is to be told of them."""
    columns = columns_of(_lists_alike([one.values for one in fields], given))
    notes = []
    if any(one.cls is not None for one in fields):
        columns[CLS] = pa.array([one.cls for one in fields], pa.string())
    if any(one.txt is not None for one in fields):
        texts = [one.txt for one in fields]
        same = [name for name in _CAPTIONS if name in columns and columns[name].to_pylist() == texts]
        name = next((name for name in _CAPTIONS if name not in columns), f"KEY.{_CAPTIONS[-1]}")
        if not same:
            columns[name] = pa.array(texts, pa.string())
        notes.append(f"KEY.txt is the column {same[0] if same else name}")
    if not columns:
        return pa.table({CLS: pa.nulls(len(entries))}).select([]), notes
    return pa.table(columns), notes


def _lists_alike(objects: Sequence[Mapping[str, Any]], given: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The objects with lists of one in fields of labels of which others have lists: {"label": "run"} and ["run"]."""
    single: set[str] = set()
    several: set[str] = set()
    for one in objects:
        for name, value in one.items():
            if value is not None:
                (several if isinstance(value, list) else single).add(name)
    mixed = {name for name in single & several if looks_like_label(name) or name in given}
    if not mixed:
        return objects
    return [{name: _as_list(value) if name in mixed else value for name, value in one.items()} for one in objects]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | None) else [value]


def _label_columns(table: pa.Table) -> tuple[str, ...]:
    """The column with labels, if there is one: the one that most samples have, and of those the first."""
    known = [CLS] if CLS in table.column_names else []
    known += [name for wanted in _LABELS for name in table.column_names if plain(name) == wanted]
    found = [name for name in known if table[name].null_count < len(table)]
    return (min(found, key=lambda name: table[name].null_count),) if found else ()


def _as_lists(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with lists of one label in columns of single ones, which are not to be parted."""
    for name in names:
        if not pa.types.is_list(table[name].type):
            texts = [None if value is None else [str(value)] for value in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(texts, pa.list_(pa.string())))
    return table


def _source_of(column: str) -> str:
    return column if column == CLS else f"{column} of KEY.json"


def _repeated(table: pa.Table, column: str) -> list[str]:
    """Of KEY.cls and the label of KEY.json, the one that is not used and says nothing else."""
    pairs = {
        name: [pair for pair in _numbers(table, column, name) if None not in pair] for name in _others(table, column)
    }
    return [name for name, both in pairs.items() if both and all(one == other for one, other in both)]


def _others(table: pa.Table, column: str) -> list[str]:
    """The columns that say the label once more, of KEY.cls and KEY.json."""
    known = [name for name in table.column_names if name == CLS or plain(name) in ("label", "cls")]
    return [name for name in known if name != column] if column in known else []


def _not_used(own: pa.Table, now: str) -> Iterator[str]:
    """Sentences on columns that look like labels or times, but are not used."""
    labels = [name for name in own.column_names if looks_like_label(name)]
    if labels:
        yield f"fields that look like labels are not used: {name_some(labels, 10)}; {now}. label_columns= chooses"
    times = [name for name in own.column_names if plain(name) in ("start", "end", "start_time", "end_time", "clips")]
    if times:
        yield (
            f"fields that look like times are not used: {name_some(times, 10)}; a member is taken for the part itself, "
            "and clips are drawn from all of it"
        )


def _contradictions(table: pa.Table, column: str) -> Iterator[str]:
    """Sentences on videos whose KEY.cls and label of KEY.json differ as numbers, or that lack the one that counts."""
    for name in _others(table, column):
        numbers = _numbers(table, column, name)
        count = sum(None not in pair and pair[0] != pair[1] for pair in numbers)
        if count:
            both, counts = f"{_source_of(column)} and {_source_of(name)}", f"{count} of {len(table)}"
            yield f"samples whose {both} differ, of which {_source_of(column)} counts: {counts}"
        values = zip(numbers, table[column].to_pylist(), table[name].to_pylist(), strict=True)
        count = sum(pair[0] is None and _is_empty(one) and not _is_empty(other) for pair, one, other in values)
        if count:
            lone = f"samples with {_source_of(name)} alone, which have no label, as {_source_of(column)} counts"
            yield f"{lone}: {count} of {len(table)}"


def _is_empty(value: Any) -> bool:
    return value is None or value == [] or is_missing(str(value).strip())


def _numbers(table, *names):
    """The whole numbers in two columns, None where there is none."""
    columns = [[whole_number(str(value)) for value in table[name].to_pylist()] for name in names]
    return list(zip(*columns, strict=True))


def _by_folders(
    what: str, root: Path | str, entries: list[Entry], fields: list[Fields], table: pa.Table, notes: list[str],
    options: Options,
) -> Listing:  # fmt: skip
    """The listing of videos whose labels, if any, are the folders of members: the first that not all have in common."""
    folders = [one.folder for entry, one in zip(entries, fields, strict=True) if entry.shard]
    common = os.path.commonpath(folders) if all(folders) else ""
    labels: list[tuple[str, ...]] = []
    for entry, one in zip(entries, fields, strict=True):
        below = one.folder[len(common) :].strip("/") if entry.shard else ""
        labels.append((below.split("/")[0],) if below else ())
    every = all(row for entry, row in zip(entries, labels, strict=True) if entry.shard)
    if any(labels):
        example = next(entry.path for entry, row in zip(entries, labels, strict=True) if row)
        notes = [f"labels: the folders of members, such as {example}", *notes]
    now = "labels are the folders of members" if any(labels) else "no sample has a label"
    warnings = tuple(_not_used(table, now))
    several = options.multi_label is not None
    listing = Listing(root, entries, {"": labels}, table, several, every and any(labels), warnings, tuple(notes))
    return with_own_columns(Path(what), listing)
