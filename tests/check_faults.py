"""Do files with known faults give the right frames: ``python tests/check_faults.py FOLDER``.

FOLDER is that of ``faults/``, whose README gives the right number of frames of each file. The right frames are those of
a decode of the whole file by PyAV alone, turned by the display matrix. Each file is scanned plainly and deeply; then
every frame alone, runs of frames, frames in any order, crops, and small files made for DALI must give the right frames.
A clip that fails counts as reported, but these are good files: all of them should load. Prints a line for each file,
and exits with 1 if anything is not right.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from full_decode import Full, full_decode

from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.schema import SCHEMA
from dali_vidaug.errors import one_line
from dali_vidaug.media.cut import READ_ERRORS
from dali_vidaug.media.decode import decode
from dali_vidaug.media.measure import measure
from dali_vidaug.media.remux import remux
from dali_vidaug.ops import CROP

RIGHT = {  # file: (number of frames, height, width as shown), from the README that comes with the files
    "display/base.mp4": (20, 48, 64),
    "display/hflip.mp4": (20, 48, 64),
    "display/rot90.mp4": (20, 64, 48),
    "display/transpose.mp4": (20, 64, 48),
    "edit_list/back.mp4": (100, None, None),
    "edit_list/two_parts.mp4": (75, None, None),
    "false_key_flags/avi-all-keys-h.avi": (125, None, None),
    "false_key_flags/hevc-nostss.mp4": (125, None, None),
    "false_key_flags/mpeg4-nostss.mp4": (125, None, None),
    "fields/FRExt2_Panasonic.mkv": (15, 288, 352),
    "fields/FRExt2_Panasonic.mp4": (15, 288, 352),
    "fields/Freh7_B.mp4": (100, None, None),
    "format_change/c420_then_c444.ts": (100, None, None),
    "joined_settings/joined_chroma.mp4": (200, None, None),
    "joined_settings/joined_settings.mp4": (200, None, None),
    "joined_ts/cam2.ts": (100, None, None),
    "joined_ts/later_first.ts": (100, None, None),
    "starts_mid_gop/closed.ts": (50, None, None),
    "starts_mid_gop/hevc.ts": (
        75,
        None,
        None,
    ),  # ffmpeg 5.1: 81; six refer to frames that are not there, newer ones drop them
    "tracks/preview_first.mkv": (100, 120, 160),
}
BORDER = 2  # pixels; colour is interpolated from beyond the edge of a crop, where the crop itself has nothing


def as_video(path: Path, row: dict):
    """A measured file as a row of a manifest."""
    row = {"first_frame": 0, "last_frame": row["num_frames"], **row, "path": path.name, "label": -1}
    video = Manifest(pa.Table.from_pylist([row], SCHEMA), root=path.parent).video(0)
    return video._replace(packet_index=row["index"])


def frame_lists(count: int, rng: np.random.Generator, keys: list[int], brief: bool = False) -> Iterator[np.ndarray]:
    """Frames as clips want them: each alone, in a row, sparse, in any order, around key frames; ``brief``: a few."""
    if not brief:
        yield from np.arange(count)[:, None]
    for start in range(0, count, 26 if brief else 11):
        yield np.arange(start, start + 16).clip(max=count - 1)
    yield np.arange(0, count, 9)
    for key in keys[1:2] if brief else keys:
        yield np.unique(np.clip([key - 2, key - 1, key, key + 1], 0, count - 1))
    for size in (5,) if brief else (2, 5, 8):
        yield rng.integers(0, count, size)
    yield np.array([count - 1]) if brief else np.array([count - 1, 0, count - 1])


def box_of(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random crop whose corners are multiples of 4 as far as the size is: where samples of colour are shared."""
    high, wide = (int(rng.integers(min(3, n // 4), n // 4 + 1)) * 4 for n in (height, width))
    top, left = int(rng.integers((height - high) // 4 + 1)) * 4, int(rng.integers((width - wide) // 4 + 1)) * 4
    return top, left, top + high, left + wide


def crop_row(box: tuple[int, int, int, int]) -> np.ndarray:
    """A crop without scaling, as ``decode`` takes it."""
    row = np.zeros(1, CROP)
    for name, value in zip(("top", "left", "bottom", "right"), box, strict=True):
        row[name] = value
    row["out_height"], row["out_width"] = box[2] - box[0], box[3] - box[1]
    return row[0]


def differs(picture: np.ndarray, expected: np.ndarray, border: int = 0, levels: int = 1) -> bool:
    """Whether two pictures differ by more than ``levels`` anywhere inside a border."""
    if picture.shape != expected.shape:
        return True
    inside = (slice(border, picture.shape[0] - border), slice(border, picture.shape[1] - border))
    difference = np.abs(picture[inside].astype(np.int16) - expected[inside])
    return bool(difference.size and difference.max() > levels)


def wrong_frames(load, full: Full, frames: np.ndarray, box=None, places=None) -> tuple[list[int], str | None]:
    """Load a clip and compare; (the indices that are wrong, the reason if the clip was reported instead).

    ``places`` says which frame of the full decode each must be, where that is not the one of its index.
    """
    try:
        pictures = load(frames)
    except READ_ERRORS as error:
        return [], one_line(error)
    wrong = []
    for picture, index in zip(pictures, frames.tolist(), strict=True):
        at = index if places is None else places.get(index, full.num_frames)
        expected = None if at >= full.num_frames else full.shown(at) if load.shown else full.frames[at]
        if expected is not None and box is not None:
            expected = expected[box[0] : box[2], box[1] : box[3]]
        if expected is None or differs(picture, expected, BORDER if box is not None else 0):
            wrong.append(index)
    return wrong, None


class Loader:
    """Frames of a video by one of the ways: ``decode``, ``decode`` with a crop, or a small file made by ``remux``."""

    def __init__(self, video, way: str, box=None):
        self._video, self._way, self._box = video, way, box
        self.shown = way != "remux"  # what remux makes is turned by the graph, after decoding
        self.flags: list = []  # what FFmpeg reported when it decoded the small file

    def __call__(self, frames: np.ndarray):
        if self._way == "remux":
            small = remux(self._video, frames)
            full = full_decode(io.BytesIO(small.data.tobytes()))
            shown, self.flags = full.frames, full.flags
            if max(small.positions) >= len(shown):
                raise ValueError(f"the small file gives {len(shown)} frames")
            return [shown[i] for i in small.positions.tolist()]
        return decode(self._video, frames, () if self._box is None else (crop_row(self._box),)).pixels


def check(path: Path, deep: bool, brief: bool = False, seed: int = 0) -> tuple[Counter, list[str]]:
    """Scan a file and load clips of it in all ways: counts of clips and frames by outcome, and what was found."""
    counts: Counter = Counter()
    found: list[str] = []
    full = full_decode(path)
    row = measure(path, deep)
    if "error" in row:
        return Counter(refused=1, expected=full.num_frames), [f"refused: {row['error']}"]
    video, rng = as_video(path, row), np.random.default_rng(seed)
    counts.update(expected=full.num_frames, counted=video.num_frames)
    limit = min(video.num_frames, full.num_frames)
    for frames in frame_lists(limit, rng, full.keys[:40], brief):
        box = box_of(*video.shown_size, rng)
        for way in ("decode", "crop", "remux"):
            region = box if way == "crop" else None
            wrong, reason = wrong_frames(Loader(video, way, region), full, frames, region)
            outcome = "reported" if reason else "wrong" if wrong else "right"
            counts.update({f"{way} {outcome}": 1, "frames": len(frames), "wrong frames": len(wrong)})
            if outcome != "right" and len(found) < 4:
                found.append(f"{way} {frames[:8].tolist()}: {reason or f'frames {wrong[:8]} are wrong'}")
    return counts, found


COLUMNS = [f"{way} {outcome}" for way in ("decode", "crop", "remux") for outcome in ("right", "reported", "wrong")]


def is_right(counts: Counter) -> bool:
    """Whether everything about a file was right."""
    bad = sum(counts[name] for name in ("refused", *[c for c in COLUMNS if not c.endswith("right")]))
    return not bad and counts["counted"] == counts["expected"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", type=Path, help="the folder of files with known faults")
    parser.add_argument("--only", default="", help="only files whose name contains this")
    parser.add_argument("--quick", action="store_true", help="few clips of each file")
    arguments = parser.parse_args()
    failed = False
    print("| file | scan | frames: right, counted | clips by decode: right, reported, wrong | with a crop | remuxed | "
          "wrong frames | |")  # fmt: skip
    print("|---" * 8 + "|")
    for name, (num_frames, height, width) in RIGHT.items():
        if arguments.only not in name:
            continue
        for deep in (False, True):
            counts, found = check(arguments.faults / name, deep, arguments.quick)
            row = measure(arguments.faults / name, deep)
            if counts["expected"] != num_frames:
                found.append(f"PyAV alone decodes {counts['expected']} frames, the README says {num_frames}")
            if height and "error" not in row:
                shown = as_video(arguments.faults / name, row).shown_size
                if shown != (height, width):
                    found.append(f"shown at {shown}, right is {(height, width)}")
            failed |= bool(found) or not is_right(counts)
            clips = [", ".join(str(counts[c]) for c in COLUMNS[i : i + 3]) for i in (0, 3, 6)]
            counted = "refused" if counts["refused"] else counts["counted"]
            cells = [name, ("plain", "deep")[deep], f"{num_frames}, {counted}", *clips,
                     f"{counts['wrong frames']} of {counts['frames']}", "; ".join(found[:2])]  # fmt: skip
            print("| " + " | ".join(cells) + " |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
