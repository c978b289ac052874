"""A manifest in a few lines: what a scan found, left out and assumed."""

from __future__ import annotations

import sys
from collections import Counter

import dali_vidaug as dv
from dali_vidaug.data.entry import name_some, plural
from dali_vidaug.errors import printable

_STEP = 1 << 14  # rows that are Python objects at the same time


def summary(manifest: dv.Manifest, broken_shown: int = 20) -> str:
    """A manifest in a few lines; hours and frames are those of each file once."""
    names = ("path", "num_frames", "duration_seconds", "codec", "width", "height")
    seen: set[str] = set()
    codecs: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    frames, longest, shortest, seconds = 0, 0, sys.maxsize, 0.0
    for batch in manifest.table.select(names).to_batches(max_chunksize=_STEP):
        for path, number, lasts, codec, width, height in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            if path not in seen:
                seen.add(path)
                codecs[codec] += 1
                sizes[width, height] += 1
                frames, seconds = frames + number, seconds + (lasts or 0.0)
                shortest, longest = min(shortest, number), max(longest, number)
    each = f" ({shortest} to {longest} each)" if shortest < longest else f" ({longest} each)" if seen else ""
    shown = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sizes.most_common(4)) + (
        f" and {len(sizes) - 4} more" if len(sizes) > 4 else ""
    )
    samples = plural(len(seen), "video")
    if len(manifest) > len(seen):
        samples = f"{plural(len(manifest), 'sample')} of {samples}"
    lines = [
        f"{samples}, {plural(len(manifest.classes), 'class', 'classes')}, {_time(seconds)}, "
        f"{plural(frames, 'frame')}{each}",
        *([f"codecs: {', '.join(f'{name} {n}' for name, n in codecs.most_common())}; sizes: {shown}"] if seen else []),
        *_class_lines(manifest),
        *manifest.remarks,
        f"broken: {len(manifest.broken)}",
    ]
    lines += [f"  {b.path}: {b.reason}" for b in manifest.broken[:broken_shown]]
    if len(manifest.broken) > broken_shown:
        lines.append(f"  and {len(manifest.broken) - broken_shown} more, all in Manifest.read(...).broken")
    return printable("\n".join(lines))


def _time(seconds: float) -> str:
    """A duration in the largest unit of which there is one."""
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} seconds"


def _class_lines(manifest: dv.Manifest, most: int = 12) -> list[str]:
    """The names of classes and how many samples each has, those with few samples named apart."""
    counts = manifest.class_counts().tolist()
    if not counts:
        return ["no classes: no sample has a label"]
    named = [f"{name} ({count})" for name, count in zip(manifest.classes, counts, strict=True)]
    shown = named if len(named) <= 2 * most else [*named[:most], "...", *named[-most // 2 :]]
    least, most_in = min(counts), max(counts)
    each = plural(least, "sample") if least == most_in else f"from {least} to {most_in} samples"
    several = f"; {each} in each" if len(counts) > 1 else ""
    lines = [f"classes: {', '.join(shown)}{several}"]
    empty = [name for name, count in zip(manifest.classes, counts, strict=True) if not count]
    if empty:
        lines.append(f"classes without samples: {name_some(empty, most)}")
    labels = manifest.table["labels" if manifest.multi_label else "label"].to_pylist()
    without = sum(label in (-1, []) for label in labels)
    return [*lines, *([f"samples without a label: {without}"] if without else [])]
