"""Classes that are given: a list of names, a file of them, or those of another manifest."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dali_vidaug.data.entry import Classes
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.schema import is_manifest

_NUMBERED = (re.compile(r"(\d+)[\s,;:]+(.+)"), re.compile(r"(.+)[,;\t]\s*(\d+)"))  # "3 name", "name,3"
_NAMES = ("name", "class_name", "label_name", "display_name", "key", "class", "label", "category", "action")
_IDS = ("id", "idx", "index", "number", "class_id", "label_id", "class_index", "class", "label")
_HEADER = re.compile(r"\b(id|idx|index|number|label_id|class_id)\b", re.IGNORECASE)


def read_classes(path: str | os.PathLike[str], parts: bool = True) -> tuple[str, ...] | None:
    """The classes of a manifest file, of any version, from its header alone; None if it is none, or a part of a scan
    and ``parts`` is False."""
    try:
        header = json.loads((pq.read_schema(path).metadata or {})[b"dali_vidaug"])
        return tuple(header["classes"]) if parts or "part" not in header else None
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None


def read_given_classes(
    classes: Iterable[object] | str | os.PathLike[str] | Manifest, option: str = "classes"
) -> Classes:
    """Read the classes that ``scan`` was given.

    Args:
        classes: names in the order of their indices; a manifest; or a file: a manifest's, or text with a name in each
            line, or with a number and a name, or CSV with a header such as ``id,name``, or JSON with a list of names or
            an object of names and numbers. Numbers begin at 0, or at 1: then class 1 has index 0, and labels that are
            numbers begin at 1 too. A label map (.pbtxt) may leave numbers out.
        option: of ``scan``, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: names are empty or there twice, or numbers are missing.
    """
    if isinstance(classes, Manifest):
        return _checked(Classes(classes.classes, {}, "the manifest"), option)
    if isinstance(classes, (str, os.PathLike)):
        return _checked(_read_file(Path(classes), option), option)
    names = tuple(str(name) for name in classes)
    return _checked(Classes(names, {i: i for i in range(len(names))}, f"{option}="), option)


def _checked(classes, option):
    names = classes.names
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if not names or not all(name.strip() for name in names) or twice:
        got = f"{twice[0]!r} twice" if twice else ("an empty name" if names else "none")
        raise ValueError(f"scan: {option} must be names that differ, got {got} ({classes.source})")
    return classes


def _read_file(path: Path, option: str) -> Classes:
    if not path.is_file():
        raise FileNotFoundError(f"scan: {option} must be names, a file or a manifest; there is no file {path}")
    if is_manifest(path):
        return Classes(read_classes(path) or (), {}, str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
        read = {".json": _read_json, ".pbtxt": _read_label_map}.get(path.suffix.lower(), _read_lines)
        pairs = read(text)
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a list of classes: {error}") from error
    numbered = not all(number is None for number, _ in pairs)
    if not numbered:
        pairs = [(i, name) for i, (_, name) in enumerate(pairs)]
    pairs = sorted(pairs)
    if path.suffix.lower() == ".pbtxt":
        return Classes(tuple(name for _, name in pairs), {n: i for i, (n, _) in enumerate(pairs)}, str(path), True)
    first = pairs[0][0] if pairs and pairs[0][0] in (0, 1) else 0
    for expected, (number, name) in enumerate(pairs, first):
        if number != expected:
            raise ValueError(f"{path}: the classes must be numbered without gaps from 0 or 1, got {number} ({name})")
    names = tuple(name for _, name in pairs)
    return Classes(names, {i + first: i for i in range(len(names))}, str(path), numbered)


def _read_json(text):
    data = json.loads(text)
    if isinstance(data, list):
        return [(None, str(name)) for name in data]
    if not isinstance(data, dict):
        raise ValueError("expected a list, or an object of names and numbers")
    if all(str(key).isdecimal() for key in data):
        return [(int(key), str(name)) for key, name in data.items()]
    return [(int(number), name.strip('"')) for name, number in data.items()]


def _read_label_map(text):
    """The items of a label map: ``{ name: "bend" label_id: 1 }``, or with ``id``."""
    pairs = []
    for item in re.findall(r"\{([^{}]*)\}", text):
        name = re.search(r"""\bname\s*:\s*(["'])(.*?)\1""", item)
        number = re.search(r"\b(?:label_)?id\s*:\s*(\d+)", item)
        if not (name and number):
            raise ValueError(f"each item must have a name and an id, got {' '.join(item.split())}")
        pairs.append((int(number[1]), name[2]))
    if len({number for number, _ in pairs}) < len(pairs):
        raise ValueError("an id is there twice")
    return pairs


def _read_lines(text):
    """(number or None, name) for each line that is not empty."""
    table = _read_table(text)
    if table:
        return table
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for form, (number, name) in zip(_NUMBERED, ((1, 2), (2, 1)), strict=True):
        found = [form.fullmatch(line) for line in lines]
        if lines and not found[0] and _HEADER.search(lines[0]):
            found = found[1:]
        matches = [match for match in found if match]
        if matches and len(matches) == len(found):
            _refuse_several([match[name] for match in matches])
            return [(int(match[number]), _unquoted(match[name])) for match in matches]
    _refuse_several(lines)
    return [(None, _unquoted(line)) for line in lines]


def _read_table(text):
    """(number or None, name) for each row below a header that names these columns; None if there is none.

    Raises:
        ValueError: a row is not as long as the header, or a number is none.
    """
    rows = [row for row in csv.reader(text.splitlines(), delimiter=_delimiter(text), skipinitialspace=True) if any(row)]
    columns = [re.sub(r"\W+", "_", name.strip().lower()) for name in rows[0]] if rows else []
    rows = [[value.strip() for value in row] for row in rows[1:]]
    if len(columns) < 2 or not rows or any(name.isdecimal() for name in columns):
        return None
    wrong = next((row for row in rows if len(row) != len(columns)), None)
    numeric = {i for i in range(len(columns)) if all(row[i : i + 1] and row[i].isdecimal() for row in rows)}
    name = next(
        (columns.index(word) for word in _NAMES if word in columns and columns.index(word) not in numeric), None
    )
    number = next((columns.index(word) for word in _IDS if word in columns and columns.index(word) in numeric), None)
    if name is None or (wrong and len(columns) == 2):  # an unquoted name may have a comma
        return None
    if wrong:
        raise ValueError(f"{len(wrong)} fields in {wrong}, but the header has {len(columns)}")
    return [(None if number is None else int(row[number]), row[name]) for row in rows]


def _delimiter(text):
    header = text.lstrip().split("\n", 1)[0]
    return next((mark for mark in ",\t;" if mark in header), ",")


def _refuse_several(names):
    """Refuse names all of which have the same separator in them: they are several columns.

    Raises:
        ValueError: they do.
    """
    for mark in ",;\t|":
        if len(names) > 1 and all(mark in name and not name.startswith('"') for name in names):
            raise ValueError(
                f"each name has {mark!r} in it ({names[0]!r}): put a header such as id,name above the columns, or "
                "quote the names"
            )


def _unquoted(text):
    text = text.strip()
    return next(csv.reader([text]))[0] if text.startswith('"') and text.endswith('"') else text
