"""The manifest of what was transcoded: the rows of the source, with what was measured of their new files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dali_vidaug.data.boxes import pack
from dali_vidaug.data.column import shown_sizes, take
from dali_vidaug.data.entry import name_some, plural
from dali_vidaug.data.index_table import IndexTable, count_missing
from dali_vidaug.data.known import MEASURED
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.names import store_name
from dali_vidaug.data.schema import BOXES, SCHEMA, Broken
from dali_vidaug.data.split import take_rows
from dali_vidaug.data.transcode_journal import Finished
from dali_vidaug.errors import printable


def transcoded_manifest(
    manifest: Manifest, folder: Path, file_of: np.ndarray, finished: Mapping[int, Finished], broken: list[Broken]
) -> Manifest:
    """Put the manifest together.

    Args:
        manifest: of the sources.
        folder: of the outputs.
        file_of: (N,) int, for each row the number of its file.
        finished: what was made, by number of the file.
        broken: the other files.
    """
    numbers = sorted(finished)
    place_of = np.full(int(file_of.max()) + 1, -1)
    place_of[numbers] = np.arange(len(numbers))
    rows = np.flatnonzero(place_of[file_of] >= 0)
    places = place_of[file_of[rows]]
    files, packets = _files_table([finished[number] for number in numbers])
    table = take_rows(manifest.table, rows)
    for name in files.column_names:
        at = table.column_names.index(name)
        table = table.set_column(at, SCHEMA.field(name), take(files[name], places))
    for name in ("shard", "shard_offset"):  # the outputs are files
        none = pa.nulls(len(table), SCHEMA.field(name).type)
        table = table.set_column(table.column_names.index(name), SCHEMA.field(name), none)
    if BOXES.name in table.column_names:
        table = table.set_column(table.column_names.index(BOXES.name), BOXES, _scaled_boxes(manifest, rows, table))
    remarks = (*_said(finished), *(f"of the sources: {text}" for text in manifest.remarks))
    return Manifest(
        table, manifest.classes, folder, (*manifest.broken, *broken), remarks, packets, manifest.box_classes
    )


def _files_table(finished: Sequence[Finished]):
    """What was measured of each file, and their packet indices."""
    indices = [one.row["index"] for one in finished]
    held = [index for index in indices if index is not None]
    counted = iter(range(len(held)))
    rows = [
        {**{name: one.row.get(name) for name in MEASURED}, "path": store_name(one.output),
         "packet_index": None if index is None else next(counted)}
        for one, index in zip(finished, indices, strict=True)
    ]  # fmt: skip
    schema = pa.schema([SCHEMA.field(name) for name in ("path", *MEASURED)])
    return pa.Table.from_pylist(rows, schema), IndexTable.of(held)


def _scaled_boxes(manifest, rows, table):
    """The boxes of some rows, in pixels of the frames of a table with those rows."""
    before = manifest.frame_sizes(rows)
    after = shown_sizes(*(table[name].to_numpy() for name in ("orientation", "height", "width")))
    known = manifest.table[BOXES.name].is_valid().to_pylist()
    scaled = []
    for row, old_height, old_width, height, width in zip(rows.tolist(), *before, *after, strict=True):
        boxes, across, down = manifest.boxes[row], width / old_width, height / old_height
        moved = {name: (getattr(boxes, name) * across).astype(np.float32) for name in ("x1", "x2")}
        moved |= {name: (getattr(boxes, name) * down).astype(np.float32) for name in ("y1", "y2")}
        scaled.append(boxes._replace(**moved) if known[row] else None)
    return pack(scaled)


def _said(finished):
    """Sentences on what was made."""
    yield quality_line(finished.values())
    odd = [f"{one.output}: {one.row['notes']}" for one in finished.values() if one.row["notes"]]
    if odd:
        yield printable(f"files with something odd: {len(odd)} ({name_some(odd)})")
    without = count_missing(one.row["no_packet_index"] for one in finished.values())
    if without:
        yield without


def quality_line(finished) -> str:
    """How like the outputs are to their sources: the means of all files, and the worst one."""
    finished = list(finished)
    worst = min(finished, key=lambda one: one.quality.psnr)
    ssims = [one.quality.ssim for one in finished if one.quality.ssim is not None]
    mean = math.fsum(one.quality.psnr for one in finished) / len(finished)
    similar = f", SSIM {math.fsum(ssims) / len(ssims):.3f}" if ssims else ""
    frames = sum(one.quality.nearest for one in finished), sum(one.quality.alike for one in finished)
    return printable(
        f"transcoded: {plural(len(finished), 'video')}, PSNR of luma {mean:.1f} dB{similar}, means of the files; the "
        f"worst: {worst.output}, {worst.quality.psnr:.1f} dB; {frames[0]} frames are nearest to their own of the "
        f"source, {frames[1]} cannot be told from one beside it"
    )
