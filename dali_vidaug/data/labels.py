"""Labels: from what a list says to indices of classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from dali_vidaug.data.classes import read_classes
from dali_vidaug.data.entry import Classes, Listing, first_difference, name_some, plural

LARGEST = 100_000  # an integer label beyond is taken for a mistake
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_MISSING = frozenset(("", "nan", "null", "<na>"))
_MISSING_NUMBERS = frozenset(("na", "n/a", "none"))  # among numbers; else they may be words


class Labels(NamedTuple):
    """The classes of a list, for each entry the indices of its labels, and what may be wrong."""

    classes: tuple[str, ...]
    indices: list[tuple[int, ...]]
    warnings: tuple[str, ...] = ()


def whole_number(text: str) -> int | None:
    """The integer that a label is ("3", "3.0", "003"), or None."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return int(value) if value.is_integer() else None


def is_number(text: str) -> bool:
    """Whether a text is a number, whole or not."""
    return _NUMBER.fullmatch(text) is not None


def is_missing(text: str | None) -> bool:
    """Whether a value of a column means that there is no label: empty, nan, null, -1."""
    return text is None or text.lower() in _MISSING or whole_number(text) == -1


def is_number_or_missing(text: str) -> bool:
    """Whether a label is a whole number, or stands for a missing one, as NA and None do among numbers."""
    return is_missing(text) or text.lower() in _MISSING_NUMBERS or whole_number(text) is not None


def _without_missing(labels: list[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], Iterable[str]]:
    """Labels without those that stand for a missing number, where all others are whole numbers, and what is told."""
    texts = {text for row in labels for text in row}
    lacking = sorted(text for text in texts if text.lower() in _MISSING_NUMBERS)
    if not lacking or len(lacking) == len(texts) or not all(map(is_number_or_missing, texts)):
        return labels, ()
    count = sum(text in lacking for row in labels for text in row)
    told = f"labels that stand for none among numbers, such as {lacking[0]}, are taken as no label: {count}"
    return [tuple(text for text in row if text not in lacking) for row in labels], (told,)


def index_labels(listing: Listing, classes: Classes | None = None) -> Labels:
    """Give each class of a list its index.

    Args:
        listing: the list.
        classes: the classes, if they are fixed.

    Raises:
        ValueError: labels are numbers that cannot be classes, or are not among ``classes``.
    """
    names: list[str] = [] if classes is None else list(classes.names)
    indices: list[tuple[int, ...]] = [()] * len(listing.entries)
    warnings = list(_suspect_separators(listing))
    for group, every in listing.labels.items():
        labels, told = (every, ()) if listing.from_folders else _without_missing(every)
        warnings += told
        place_of: dict[str, str] = {}  # the first
        for entry, row in zip(listing.entries, labels, strict=True):
            for text in row:
                place_of.setdefault(text, entry.place)
        if classes is None:
            own, index_of, problems = _index_group(place_of, group, listing.from_folders)
            index_of = {text: index + len(names) for text, index in index_of.items()}
            names += [f"{group}={name}" if group else name for name in own]
            warnings += problems
        else:
            index_of = _look_up(place_of, group, classes)
            warnings += _numbers_from_1(index_of, classes)
        indices = [
            (*before, *dict.fromkeys(index_of[text] for text in row))
            for before, row in zip(indices, labels, strict=True)
        ]
    if classes is not None and not any(indices):
        warnings.append("no sample has a label, although classes are given")
    warnings += _alike(names)
    return Labels(tuple(names), indices, tuple(warnings))


def tell_unlabelled(listing: Listing) -> Listing:
    """The listing with a sentence on its samples without a label: a note where it may well be so, else a warning."""
    without = [entry.place for entry, *rows in zip(listing.entries, *listing.labels.values(), strict=True)
               if not any(rows)]  # fmt: skip
    if not without or listing.from_folders:
        return listing
    if len(without) == len(listing.entries):
        return listing._replace(notes=(*listing.notes, "no sample has a label"))
    told = f"samples without a label: {len(without)} of {len(listing.entries)} ({name_some(without)})"
    if listing.several:
        return listing._replace(notes=(*listing.notes, told))
    return listing._replace(warnings=(*listing.warnings, told))


def _index_group(place_of: Mapping[str, str], group: str, from_folders: bool):
    """Names of classes, the index of each label, and warnings, for labels that share their classes."""
    what = f"labels of {group}" if group else "labels"
    numbers = {text: number for text in place_of if (number := whole_number(text)) is not None}
    numeric = [text for text in place_of if _NUMBER.fullmatch(text)]
    by_name = sorted(place_of)
    as_text = by_name, {text: i for i, text in enumerate(by_name)}
    if not numeric:
        return *as_text, []
    if len(numeric) < len(place_of):
        words = [text for text in by_name if text not in numeric]
        return *as_text, [
            f"{what} are numbers ({name_some(numeric)}) and words ({name_some(words)}): all are taken as words"
        ]
    problem = _not_classes(what, numbers, place_of)
    if problem is None:
        largest = max(numbers.values())
        few = largest + 1 > max(100, 10 * len(set(numbers.values())))
        warnings = [f"{what} go to {largest}, but only {len(set(numbers.values()))} of them occur"] if few else []
        if from_folders and len(set(numbers.values())) < len(numbers):
            twice = [text for text in by_name if list(numbers.values()).count(numbers[text]) > 1]
            warnings.append(f"folders whose names are the same number are one class: {name_some(twice)}")
        return [str(i) for i in range(largest + 1)], numbers, warnings
    if not from_folders:
        raise ValueError(problem)
    return *as_text, [f"folders are named by numbers that are taken as words: {name_some(by_name)}"]


def _not_classes(what, numbers, place_of):
    """Why labels that are all numbers cannot be indices of classes, or None."""
    for text in place_of:
        number = numbers.get(text)
        where = f"{place_of[text]}: {what} that are numbers must be"
        if number is None:
            return (
                f"{where} whole, got {text}; a value to predict is no class: rename the column, it is kept, and "
                "batch.rows returns it, from a CSV as text"
            )
        if number < 0:
            return f"{where} >= 0, or -1 for no label, got {text}"
        if number > LARGEST:
            return f"{where} at most {LARGEST}, got {text}; if they are names, pass them as classes="
    return None


def _look_up(place_of, group, classes: Classes) -> dict[str, int]:
    """The index of each label among given classes."""
    known = {name: i for i, name in enumerate(classes.names)}
    found = {}
    by_number = not group and not any(whole_number(name) is not None for name in classes.names)
    by_number = by_number and all(whole_number(text) is not None for text in place_of)
    for text, place in place_of.items():
        number = whole_number(text)
        names = [text] if number is None else [text, str(number)]
        index = next((known[name] for name in (f"{group}={n}" if group else n for n in names) if name in known), None)
        if index is None and by_number and number is not None:
            index = classes.numbers.get(number)
        if index is None:
            close = get_close_matches(text, classes.names, 1)
            raise ValueError(
                f"{place}: label {text!r} is not among the {len(known)} classes of {classes.source}: "
                f"{name_some(list(classes.names), 10)}{f'; is it {close[0]!r}?' if close else ''}"
            )
        found[text] = index
    return found


def _alike(names: Sequence[str]) -> Iterable[str]:
    """A sentence on classes whose names differ by capitals, underscores or the encoding of their letters alone."""
    same: dict[str, list[str]] = {}
    for name in names:
        plain = " ".join(name.replace("_", " ").split()).casefold()
        same.setdefault(unicodedata.normalize("NFC", plain), []).append(name)
    found = [group for group in same.values() if len(group) > 1]
    if found:
        told = name_some([" and ".join(map(ascii, group)) for group in found])
        yield f"classes whose names differ by capitals, spaces or the encoding of letters alone: {told}"


def _numbers_from_1(index_of: Mapping[str, int], classes: Classes) -> Iterable[str]:
    """A sentence on labels that are numbers of classes counted from 1."""
    if classes.numbers and min(classes.numbers) == 1:
        shown = next((text for text, index in index_of.items() if whole_number(text) == index + 1), None)
        if shown is not None and classes.names[index_of[shown]] != shown:
            yield f"numbers of {classes.source} begin at 1: label {shown} is class {classes.names[index_of[shown]]!r}"


def _suspect_separators(listing: Listing) -> Iterable[str]:
    """Warnings of labels that look like several in one."""
    if listing.several or listing.from_folders:
        return
    for group, rows in listing.labels.items():
        texts = {text for row in rows for text in row}
        for separator in (";", "|", ",", " "):
            joined = sorted(text for text in texts if separator in text)
            shared = _share_parts(joined, texts, separator)
            if (joined and separator in ";|") or shared:
                yield (
                    f"labels{f' of {group}' if group else ''} such as {shared or repr(joined[0])} look like several in "
                    f"one, but each is a class of its own; multi_label={separator!r} tells them apart"
                )
                break


def _share_parts(joined: Sequence[str], texts: set[str], separator: str) -> str | None:
    """A label of which a part is in another label too, as text that names it; spaces separate numbers alone."""
    seen: dict[str, str] = {text: text for text in texts if separator not in text}
    for text in joined:
        parts = [part.strip() for part in text.split(separator)]
        if separator == " " and not all(part.isdecimal() for part in parts):
            continue
        for part in parts:
            if part and seen.setdefault(part, text) != text:
                return f"{text!r} and {seen[part]!r}"
    return None


def compare_with_neighbours(output: Path, classes: Sequence[str]) -> Iterable[str]:
    """Warnings of manifests in the folder of ``output`` that have other classes; only their headers are read, and parts
    of scans are none."""
    if not classes:
        return
    read = {path.name: read_classes(path, parts=False) for path in sorted(output.resolve().parent.glob("*.parquet"))}
    found = {name: others for name, others in read.items() if others and list(others) != list(classes)}
    for name in sorted(found, key=lambda name: name != output.name)[:1]:
        i, mine, theirs = first_difference(classes, found[name])
        before = "before this scan" if name == output.name else "which is beside it"
        more = [other for other in found if other != name]
        yield (
            f"{output.name} has {plural(len(classes), 'class', 'classes')} and {name}, {before}, has "
            f"{len(found[name])}; the first that "
            f"differs is {i}: {mine} and {theirs}. If they belong together, scan the second with like= the first"
            f"{f'. Others that differ: {len(more)} ({name_some(more)})' if more else ''}"
        )
