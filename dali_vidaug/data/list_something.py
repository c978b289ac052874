"""Lists of Something-Something and Jester, whose labels are sentences."""

from __future__ import annotations

import re
from pathlib import Path

from dali_vidaug.data.classes import read_given_classes
from dali_vidaug.data.entry import Classes, Entry, Listing
from dali_vidaug.data.list_source import LabelRows, Source, entry_of, json_items, make_listing

_ROW = re.compile(r"(\d+)(?:;(.+))?")


def fits_ssv2(source: Source) -> bool:
    """Whether it is a JSON list of objects with an id and a template, or with an id alone."""
    items = json_items(source)
    return bool(items) and all("id" in item and ("template" in item or len(item) == 1) for _, item in items)


def read_ssv2(source: Source) -> Listing:
    """Read a JSON list of Something-Something V2, with labels.json beside it.

    The label is the template without its square brackets; labels.json has the number of each. A list for testing has
    ids alone.

    Raises:
        ValueError: an item has no id, some have a template and others not, or labels.json is missing.
    """
    items = json_items(source)
    if not items:
        source.refuse(None, 'a JSON list of {"id", "label", "template", "placeholders"}', type(source.json).__name__)
    entries: list[Entry] = []
    labels: LabelRows = []
    for place, item in items:
        if "id" not in item:
            raise ValueError(f"{place}: expected an id, got {', '.join(item) or 'nothing'}")
        template = item.get("template")
        if (template is None) != (items[0][1].get("template") is None):
            raise ValueError(f"{place}: expected a template in each item or in none")
        entries.append(entry_of(source.videos.find([str(item["id"])]), place))
        labels.append(() if template is None else (str(template).replace("[", "").replace("]", "").strip(),))
    classes = _find_classes(source, any(labels), "labels.json", "something-something-v2-labels.json", "*labels*.json")
    own = {"caption": [str(item.get("label", "")) for _, item in items]} if any(labels) else None
    return make_listing(source, entries, labels, own=own, classes=classes, notes=_told(classes))


def fits_jester(source: Source) -> bool:
    """Whether each line is ``id;label``, or an id alone."""
    return bool(source.lines) and all(_ROW.fullmatch(line) for _, line in source.lines)


def read_jester(source: Source) -> Listing:
    """Read ``id;label`` of Jester and Something-Something V1, with a file of labels beside it, one in each line.

    A list for testing has ids alone.

    Raises:
        ValueError: a line has something else, or the file of labels is missing.
    """
    entries: list[Entry] = []
    labels: LabelRows = []
    for line, text in source.lines:
        found = _ROW.fullmatch(text)
        if found is None:
            source.refuse(line, "ID;LABEL", text)
        if labels and bool(found[2]) != bool(labels[0]):
            source.refuse(line, "ID;LABEL in each line, or ID in each", text)
        if found[2] and source.text:
            source.text.check_utf8(line, "the label", found[2])
        entries.append(entry_of(source.videos.find([found[1]]), source.place(line)))
        labels.append((found[2].strip(),) if found[2] else ())
    classes = _find_classes(source, any(labels), "*labels*.csv", "*labels*.txt")
    return make_listing(source, entries, labels, classes=classes, notes=_told(classes))


def _find_classes(source: Source, needed: bool, *patterns: str) -> Classes | None:
    """The classes of a file beside the list.

    Raises:
        ValueError: there is none, and labels need one.
    """
    if source.options.classes_given:
        return None
    path: Path | None = source.beside(*patterns)
    if path is None and needed:
        raise ValueError(
            f"{source.path}: the numbers of its labels are in a file that is not beside it ({' or '.join(patterns)}); "
            "classes= gives it"
        )
    return None if path is None else read_given_classes(path)


def _told(classes: Classes | None) -> list[str]:
    return [f"classes of {classes.source}: {len(classes.names)}"] if classes else []
