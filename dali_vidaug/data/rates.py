"""Folders of images among the entries of a list: their frame rates, and whether their numbers are those of the list."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from dali_vidaug.data.entry import Entry, Listing
from dali_vidaug.data.names import complete
from dali_vidaug.media.frame_folder import with_rate
from dali_vidaug.media.video import IMAGES
from dali_vidaug.urls import is_url

_COLUMN = "list_fps"  # what a column ``fps`` of a list is called, since manifests have one of that name
FPS_LEAST, FPS_MOST = 0.001, 100_000


def set_rates(listing: Listing, fps: float | None, frame_names: str | None = None) -> Listing:
    """Let entries have a frame rate, which counts for folders of images: the one that is given, or of a column ``fps``.

    Raises:
        ValueError: it is given, and there are no folders; or it is no frame rate; or ``frame_names`` is no pattern.
    """
    if frame_names is not None and not (isinstance(frame_names, str) and frame_names):
        raise ValueError(f"scan: frame_names must be a pattern such as 'img_*.jpg', got {frame_names!r}")
    if fps is not None:
        if isinstance(fps, bool) or not isinstance(fps, Real) or not FPS_LEAST <= fps <= FPS_MOST:
            raise ValueError(f"scan: fps must be frames per second in [{FPS_LEAST}, {FPS_MOST}], got {fps!r}")
        places = (complete(str(listing.root), entry.path) for entry in listing.entries if entry.error is None)
        if not any(not is_url(place) and Path(place).is_dir() for place in places):
            raise ValueError(f"scan: fps={fps!r} is for folders of images, of which there is none; videos tell theirs")
        return listing._replace(entries=[entry._replace(fps=float(fps)) for entry in listing.entries])
    if _COLUMN not in listing.own.column_names:
        return listing
    rates = listing.own[_COLUMN].to_pylist()
    pairs = zip(listing.entries, rates, strict=True)
    return listing._replace(entries=[entry._replace(fps=value) for entry, value in pairs])


def _read(value: Any) -> float | None:
    """A frame rate of a list; None for none.

    Raises:
        ValueError: it is something else.
    """
    if value is None or value != value or not str(value).strip():
        return None
    try:
        fps = float(value)
    except (TypeError, ValueError):
        fps = 0.0
    if not FPS_LEAST <= fps <= FPS_MOST:
        raise ValueError(f"fps must be frames per second in [{FPS_LEAST}, {FPS_MOST}], got {value!r}")
    return fps


def fit_images(row: Mapping[str, Any], entry: Entry) -> Mapping[str, Any]:
    """The row of a file as its entry has it: that of a folder of images gets its frame rate.

    Raises:
        ValueError: frame 0 of the list may be another image than the first one that is there.
    """
    if row.get("codec") != IMAGES:
        return row
    first, step, count = int(row["pts_first"]), int(row["pts_step"]), row["num_frames"]
    if entry.numbers is not None:
        number, total = entry.numbers
        there = f"its images have the numbers {first} to {first + step * (count - 1)}"
        if step != 1 and total != count:
            raise ValueError(f"{there} in steps of {step}, but the list counts {total} one by one")
        if number is not None and number != first and step == 1:
            raise ValueError(f"{there}, but those of the list begin at {number}")
        if number is None and first > 1 and total != count:
            raise ValueError(
                f"{there}, and the list has {total}: whether images before them are lost, or its numbers begin there, "
                "is not known"
            )
    fps = _read(entry.fps)  # which may be anything where files are videos
    if fps is None and not entry.in_frames and (entry.start, entry.end) != (None, None):
        raise ValueError("start and end are in seconds, and images have no frame rate: fps=, or a column fps, says it")
    return with_rate(dict(row), fps)
