"""Spoil the containers of small videos and see what is delivered: ``python tests/fuzz_containers.py --files 2000``.

Each case is a small file made here, of one of many encodings and containers, and one mutation of it (or two). It is
scanned plainly, every fourth also deeply. Of an accepted file clips are loaded by ``decode``, with a crop, and by
``remux`` for DALI. Every delivered frame must equal the frame of that index of a decode of the whole file by PyAV
alone (of VP9, with either of FFmpeg's decoders), within one level; otherwise the file or the clip must be reported.
After a plain scan of a file in which FFmpeg loses pictures to damage, it may be the frame of that time stamp.
Prints counts by outcome and every wrong file, and exits with 1 if there is any. ``--case N`` repeats one;
``--keep FOLDER`` keeps the wrong files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from check_faults import Loader, as_video, box_of, wrong_frames
from dirty import ENCODINGS, encode
from full_decode import Full, full_decode
from mutate_containers import mutations_for

from dali_vidaug.media.cut import is_counted
from dali_vidaug.media.measure import measure
from dali_vidaug.media.video import Video

FRAMES_MAX = 400  # of a mutated file; more would take too long
SHAPES = ((48, 64), (64, 64), (64, 96))
OTHER = {"h264": ("h264_open", "h264_444", "h264_no_b", "h264_tff"), "hevc": ("hevc_open", "hevc"),
         "mpeg4": ("mpeg4", "mpeg4_b"), "mpeg2": ("mpeg2", "mpeg2_no_b")}  # fmt: skip


class Case(NamedTuple):
    """What became of one file.

    Attributes:
        number: of the case, which is its seed.
        name: encoding and container.
        mutations: names.
        what: what was done to the file.
        outcomes: (what, outcome) of the scan and of each way to load: counts.
        details: what is wrong.
    """

    number: int
    name: str
    mutations: tuple[str, ...]
    what: str
    outcomes: Counter
    details: list[str]


def build(number: int, seed: int, folder: Path) -> tuple[Path, str, tuple[str, ...], str]:
    """Make the file of a case: (path, encoding and container, names of mutations, what they did)."""
    rng = np.random.default_rng([seed, number])
    while True:
        name = list(ENCODINGS)[rng.integers(len(ENCODINGS))]
        container = ENCODINGS[name].containers[rng.integers(len(ENCODINGS[name].containers))]
        base = _base(folder, name, container, int(rng.integers(3)))
        current, done, said = base, [], []
        for step in range(1 if rng.random() < 0.75 else 2):
            choices = mutations_for(container)
            mutate = choices[rng.integers(len(choices))]
            target = folder / f"case-{number}-{step}.{container}"
            try:
                said.append(mutate(rng, current, target, partial(_other, rng, folder, name, container)))
            except (ValueError, KeyError, IndexError, TypeError, AssertionError, OSError, av.error.FFmpegError):
                target.unlink(missing_ok=True)  # not possible for this file: what was done so far, or another one
                break
            current = target
            done.append(mutate.__name__)
        if done:
            return current, f"{name}.{container}", tuple(done), "; ".join(said)


def _base(folder, name, container, variant):
    encoding = ENCODINGS[name]
    if encoding.size == (48, 64) and variant:
        encoding = replace(encoding, size=SHAPES[variant], frames=30 + 10 * variant)
    path = folder / f"{name}-{variant}" / f"v.{container}"
    if not path.exists():
        encode(path.with_name(f"{os.getpid()}.{container}"), encoding, variant).replace(path)
    return path


def _other(rng, folder, name, container, kind):
    names = OTHER.get(name.split("_")[0], (name,)) if kind == "settings" else (name,)
    allowed = [n for n in names if container in ENCODINGS[n].containers] or [name]
    return _base(
        folder, allowed[rng.integers(len(allowed))], container, int(rng.integers(3)) if rng.random() < 0.3 else 0
    )


def clips_of(full: Full, count: int, rng: np.random.Generator) -> Iterable[np.ndarray]:
    """Six clips: the ends, around a key frame, in a row, sparse, alone."""
    key = int(rng.choice(full.keys)) if full.keys else 0
    start, alone = rng.integers(0, count, 2)
    lists = (
        [0, count - 1],
        [key - 1, key, key + 1],
        np.arange(start, start + 8),
        rng.integers(0, count, 5),
        [alone],
        np.arange(0, count, 7)[-6:],
    )
    return [np.unique(np.clip(frames, 0, count - 1)) for frames in lists]


UNTOLD = "damage that only a decoder reports"  # and a plain scan does not decode cuts for DALI: --deep, decoder="pyav"


BY_TIME = "right by its time"  # pictures before it are so damaged that a full decode gives, and counts, none


def places_by_time(video: Video, full: Full) -> dict[int, int]:
    """For each frame of a video the frame of a full decode with its time stamp, where there is one."""
    if is_counted(video):
        return {}
    stamps = video.pts if video.pts is not None else video.pts_first + np.arange(video.num_frames) * video.pts_step
    of = {pts: i for i, pts in enumerate(full.pts)}
    return {i: of[stamp] for i, stamp in enumerate(np.rint(stamps).astype(int).tolist()) if stamp in of}


def judge(path: Path, deep: bool, seed: int) -> tuple[Counter, list[str]]:
    """Scan a file and load clips of it: counts by (what, outcome), and what is wrong."""
    outcomes: Counter = Counter()
    details: list[str] = []
    depth = ("plain", "deep")[deep]
    try:
        full = full_decode(path)
    except (av.error.FFmpegError, OSError, ValueError):
        full = Full([], (1, 0, 0, 1), [], [], 0, [])
    row = measure(path, deep)
    clean = "" if full.flags else ", nothing noticed"
    if "error" in row:
        outcomes[depth, "refused" if not full.num_frames else f"refused though frames decode{clean}"] += 1
        return outcomes, [f"{depth} scan refuses it though {full.num_frames} frames decode{clean}: {row['error']}"]
    video, rng = as_video(path, row), np.random.default_rng(seed)
    same = video.num_frames == full.num_frames
    outcomes[depth, "accepted" if same else f"accepted with another number of frames{clean}"] += 1
    if not same:
        details.append(f"{depth} scan counts {video.num_frames} frames of {full.num_frames}{clean}")
    for frames in clips_of(full, min(video.num_frames, FRAMES_MAX), rng):
        box = box_of(*video.shown_size, rng)
        for way in ("decode", "crop", "remux"):
            region = box if way == "crop" else None
            loader = Loader(video, way, region)
            wrong, reason = wrong_frames(loader, full, frames, region)
            if wrong and video.codec == "vp9" and way != "remux":  # decoders differ about damaged pictures
                wrong, reason = wrong_frames(loader, full_decode(path, decoder="libvpx-vp9"), frames, region)
            by_time = (
                bool(wrong and full.flags and not same)
                and not wrong_frames(loader, full, frames, region, places_by_time(video, full))[0]
            )
            outcome = (
                "cannot be packed"
                if reason and "does not support" in reason
                else "reported"
                if reason
                else "right"
                if not wrong
                else BY_TIME
                if by_time
                else UNTOLD
                if way == "remux" and (full.flags or (loader.flags and not deep))
                else f"WRONG{clean}"
            )
            outcomes[f"{way}, {depth}", outcome] += 1
            if outcome.startswith("WRONG"):
                details.append(f"WRONG{clean}: {way} after a {depth} scan, frames {wrong[:8]} of {frames.tolist()}")
    return outcomes, details


def run_case(number: int, seed: int, folder: Path, keep: Path | None) -> Case:
    """Make a file, judge it, and keep it if it is wrong."""
    path, name, mutations, what = build(number, seed, folder)
    outcomes: Counter = Counter()
    details: list[str] = []
    for deep in (False, True)[: 1 + (number % 4 == 0)]:
        try:
            counts, found = judge(path, deep, number)
        except Exception:  # what is not one of READ_ERRORS would end a training
            counts, found = Counter({("any", "WRONG: an exception"): 1}), [f"WRONG: {traceback.format_exc(limit=-2)}"]
        outcomes.update(counts)
        details += found
    if keep and any(line.startswith("WRONG") for line in details):
        keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, keep / f"{number}-{name.replace('.', f'-{mutations[-1]}.')}")
    for step in range(2):
        path.with_name(f"case-{number}-{step}{path.suffix}").unlink(missing_ok=True)
    return Case(number, name, mutations, what, outcomes, details)


def run(numbers: Iterable[int], seed: int = 0, keep: Path | None = None, jobs: int = 2) -> Iterable[Case]:
    """Judge cases in processes of their own; yields them in order."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(jobs) as pool:
        for name in ("av1", "av1_hidden"):  # here, because two of this encoder at once, as root, stop each other
            for container in ENCODINGS[name].containers:
                for variant in range(3):
                    _base(Path(folder), name, container, variant)
        yield from pool.map(partial(run_case, seed=seed, folder=Path(folder), keep=keep), numbers, chunksize=4)


OUTCOMES = (
    "right", BY_TIME, "some clips reported", "refused", "refused though frames decode",
    "refused though frames decode, nothing noticed", "WRONG", "WRONG, nothing noticed", "WRONG: an exception",
)  # fmt: skip


def outcome_of(case: Case) -> str:
    """The worst that happened to a file; "nothing noticed": PyAV alone decodes it without any error or flag."""
    found = {"some clips reported" if outcome == "reported" else outcome for _, outcome in case.outcomes}
    return max(found & set(OUTCOMES), key=OUTCOMES.index)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="number of files (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="repeat this case only")
    parser.add_argument("--keep", type=Path, help="folder for the wrong files")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--verbose", action="store_true", help="print files with another number of frames, and refused")
    arguments = parser.parse_args()
    numbers = range(arguments.files) if arguments.case is None else [arguments.case]
    clips, by_mutation, files = Counter(), Counter(), Counter()
    for done, case in enumerate(run(numbers, arguments.seed, arguments.keep, arguments.jobs), 1):
        clips.update(case.outcomes)
        outcome = outcome_of(case)
        files[outcome] += 1
        by_mutation.update((name, outcome) for name in case.mutations)
        if outcome.startswith("WRONG") or (arguments.verbose and case.details) or arguments.case is not None:
            said = "\n    ".join(case.details[:3])
            print(f"case {case.number}: {case.name}: {case.what}\n    {said}", file=sys.stderr, flush=True)
        if done % 100 == 0:
            print(f"{done} files: {dict(files)}", file=sys.stderr, flush=True)
    print("\n".join(("| files | |", "|---|---|", *(f"| {name} | {n} |" for name, n in files.most_common()))), "\n")
    rows = [f"| {what} | {outcome} | {n} |" for (what, outcome), n in sorted(clips.items())]
    print("\n".join(("| clips, scans | outcome | |", "|---|---|---|", *rows)), "\n")
    print("| mutation | " + " | ".join(OUTCOMES) + " |\n" + "|---" * (len(OUTCOMES) + 1) + "|")
    for name in sorted({name for name, _ in by_mutation}):
        print(f"| {name} | " + " | ".join(str(by_mutation[name, o]) for o in OUTCOMES) + " |")
    return int(any(outcome.startswith("WRONG") for outcome in files))


if __name__ == "__main__":
    sys.exit(main())
