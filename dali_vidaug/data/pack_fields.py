"""What a packed sample says of its video: the fields of KEY.json, and names of members."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dali_vidaug.data.conform import own_columns
from dali_vidaug.data.folder import is_video_name
from dali_vidaug.data.header import plain
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.shard_classes import ORIGIN
from dali_vidaug.data.shards import FRAMES, SEGMENTS

_TAKEN = ("label", "labels", "class", "cls", ORIGIN, SEGMENTS)  # of KEY.json, by which it is read again


def field_names(manifest: Manifest) -> dict[str, str]:
    """The columns of your own, and the fields of KEY.json that they become: list_class is that of a column class.

    Members of other shards keep the ``source`` that they have: it is where the videos were at first.
    """
    own = own_columns(manifest.table)
    kept = (ORIGIN,) if manifest.table["shard"].null_count < len(manifest) else ()
    names = {name: name for name in own if name in kept or plain(name) not in _TAKEN}
    for name in own:
        if name not in names:
            field = f"list_{name}"
            while field in own or field in names.values():
                field = f"list_{field}"
            names[name] = field
    return {name: names[name] for name in own}


def renamed(manifest: Manifest) -> list[str]:
    """A sentence on the columns of your own that have another name in KEY.json, if there are any."""
    said = [f"{name} is {field}" for name, field in field_names(manifest).items() if field != name]
    return [f"columns whose names KEY.json has for something else: {', '.join(said)} there"] if said else []


def member_name(key: str, path: str) -> str:
    """How the member with the video of a path is called, so that a scan takes it for one."""
    extension = os.path.splitext(path)[1].lower() if is_video_name(path) else ".video"  # noqa: PTH122
    return f"{key}{extension}"


def json_of(rows: list[dict[str, Any]], names: Mapping[str, str], classes: tuple[str, ...]) -> bytes:
    """What KEY.json says of the rows of a file; ``names`` are of ``field_names``."""
    parts = []
    for row in rows:
        part: dict[str, Any] = {}
        labels = row["labels"] if row["labels"] is not None else row["label"]
        if labels != -1:
            part["label"] = labels
            part["class"] = [classes[i] for i in labels] if isinstance(labels, list) else classes[labels]
        part[ORIGIN] = row["path"]
        parts.append({**part, **{field: row[name] for name, field in names.items()}})
    whole = len(rows) == 1 and [rows[0][name] for name in FRAMES] == [0, rows[0]["num_frames"]]
    if not whole:
        alike = {name: value for name, value in parts[0].items() if all(p.get(name, ...) == value for p in parts)}
        segments = [
            {**{name: row[name] for name in FRAMES}, **{k: v for k, v in part.items() if k not in alike}}
            for row, part in zip(rows, parts, strict=True)
        ]
        parts = [{**alike, SEGMENTS: segments}]
    return json.dumps(_plain(parts[0]), ensure_ascii=True, default=str).encode()


def _plain(value: Any) -> Any:
    """A value as JSON can have it: no NaN, bytes as Base64."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return None if isinstance(value, float) and not np.isfinite(value) else value
