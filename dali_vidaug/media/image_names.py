"""Which files of a folder are the frames of a video: images whose names count."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from math import gcd
from typing import NamedTuple

EXTENSIONS = frozenset(".jpg .jpeg .png .webp .bmp".split())
_DIGITS = re.compile(r"(\d+)")
_FLOW = re.compile(r"(^|[^a-z])flow", re.IGNORECASE)
_PAIRS = {"x": "y", "y": "x", "u": "v", "v": "u"}  # flow_x_00001.jpg and flow_y_00001.jpg may be without the word
_STEPS_LEAST = 8  # images: the numbers of fewer may be in steps by chance, where some are lost
_SPARSE = 10  # numbers for each image; where there are more, they are no numbers of frames


class Numbered(NamedTuple):
    """Images in the order of their numbers.

    Attributes:
        names: of the files.
        numbers: of each, rising.
        step: distance of two numbers between which none is missing.
        left_out: what else is in the folder, a few words each.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    step: int
    left_out: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """The frames from the first number to the last, missing ones included."""
        return (self.numbers[-1] - self.numbers[0]) // self.step + 1


def is_image_name(name: str) -> bool:
    """Whether a file's extension is that of an image that can be a frame, in small letters or capitals."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")  # noqa: PTH122 (of every file)


def counts(names: Iterable[str]) -> bool:
    """Whether two or more of these files may be frames: images with a number in the name."""
    return sum(is_image_name(name) and bool(_DIGITS.search(name)) for name in names) >= 2


def numbered(names: Iterable[str], pattern: str | None = None) -> Numbered:
    """The frames among the files of a folder.

    Frames are named alike but for one number, the last one that differs: ``img_00001.jpg``, ``7.png``. Numbers count,
    not the order of names: ``img_2`` is before ``img_10``. Images of optical flow (``flow_x_00001.jpg``) are no frames.

    Args:
        names: of the files.
        pattern: which of them may be frames, such as ``img_*.jpg``; None: all images.

    Raises:
        ValueError: there are none, or of several kinds, or two have one number.
    """
    images = sorted(name for name in names if is_image_name(name))
    chosen = [name for name in images if pattern is None or fnmatchcase(name, pattern)]
    if not chosen:
        what = "no images" if not images else f"no images named as {pattern!r}, such as {images[0]} is not"
        raise ValueError(f"a folder with {what} ({', '.join(sorted(EXTENSIONS))})")
    sequences, others = _sequences(chosen)
    flow = set(_flow(sequences)) if pattern is None else set()
    frames = {key: found for key, found in sequences.items() if key not in flow}
    if not frames:
        raise ValueError(
            f"its images are optical flow ({sequences[min(flow)][0][1]}), not RGB; frame_names= says which are frames"
            if flow
            else f"its images have no numbers in their names ({others[0]})"
        )
    if len(frames) > 1:
        shown = ", ".join(f"{found[0][1]} to {found[-1][1]} ({len(found)})" for found in frames.values())
        raise ValueError(f"its images are {len(frames)} sequences: {shown}; frame_names= says which one is the video")
    found = next(iter(frames.values()))
    twice = next((i for i, (a, b) in enumerate(pairwise(found)) if a[0] == b[0]), None)
    if twice is not None:
        raise ValueError(f"{found[twice][1]} and {found[twice + 1][1]} have the same number; frame_names= says which")
    left_out = [f"optical flow, {found[0][1]} to {found[-1][1]}" for key, found in sequences.items() if key in flow]
    left_out += [f"images without a number: {len(others)} ({others[0]})"] if others else []
    numbers = tuple(number for number, _ in found)
    return Numbered(tuple(name for _, name in found), numbers, _step(numbers), tuple(left_out))


def _sequences(images: Sequence[str]) -> tuple[dict[tuple, list[tuple[int, str]]], list[str]]:
    """Images by what is around their numbers, each with its number, rising; and those without a number."""
    alike: defaultdict[tuple, list[list[str]]] = defaultdict(list)
    others: list[str] = []
    for name in images:
        parts = _DIGITS.split(os.path.splitext(name)[0])  # noqa: PTH122
        alike[tuple(parts[::2])].append([*parts, name])
    sequences: dict[tuple, list[tuple[int, str]]] = {}
    for words, rows in alike.items():
        places = range(1, 2 * len(words) - 1, 2)
        if not places:
            others += [row[-1] for row in rows]
            continue
        place = next((p for p in reversed(places) if any(int(row[p]) != int(rows[0][p]) for row in rows)), places[-1])
        for row in rows:
            key = (*words, *(row[p] for p in places if p != place))
            sequences.setdefault(key, []).append((int(row[place]), row[-1]))
    for found in sequences.values():
        found.sort()
    return sequences, others


def _flow(sequences: Mapping[tuple, Sequence[tuple[int, str]]]) -> Iterator[tuple]:
    """The keys of sequences that are optical flow: named so, or as its two directions."""
    first_words = {key[0].lower().rstrip("_-") for key in sequences}
    for key, found in sequences.items():
        other = _PAIRS.get(key[0].lower().rstrip("_-"))
        if _FLOW.search(found[0][1]) or (other and other in first_words):
            yield key


def _step(numbers: Sequence[int]) -> int:
    """The distance of numbers that are in steps, or 1.

    Raises:
        ValueError: most are missing.
    """
    step = gcd(*(b - a for a, b in pairwise(numbers))) if len(numbers) >= _STEPS_LEAST else 1
    if numbers[-1] - numbers[0] >= _SPARSE * step * len(numbers):
        raise ValueError(
            f"its {len(numbers)} images have the numbers {numbers[0]} to {numbers[-1]}, most of which are missing"
        )
    return step


class Names(NamedTuple):
    """The names of frames, by number, in a form that can be kept.

    Attributes:
        prefix, digits, suffix: of names that are alike; the number between has at least so many digits.
        names: all of them, by frame, where they are not; else None.
    """

    prefix: str
    digits: int
    suffix: str
    names: tuple[str | None, ...] | None = None

    def of(self, number: int, index: int) -> str:
        """The name of a frame: its number, and its index in the video."""
        name = self.names[index] if self.names else None
        return f"{self.prefix}{number:0{self.digits}d}{self.suffix}" if name is None else name


def names_of(found: Numbered) -> Names:
    """The form of these names."""
    first, number = found.names[0], found.numbers[0]
    for run in _DIGITS.finditer(os.path.splitext(first)[0]):  # noqa: PTH122
        names = Names(first[: run.start()], len(run[0]), first[run.end() :])
        if all(names.of(n, 0) == name for name, n in zip(found.names, found.numbers, strict=True)):
            return names
    by_frame: list[str | None] = [None] * found.num_frames
    for name, n in zip(found.names, found.numbers, strict=True):
        by_frame[(n - number) // found.step] = name
    return Names("", 0, "", tuple(by_frame))
