"""A manifest in a few lines: what a scan found, left out and assumed."""

from __future__ import annotations

from collections import Counter

import dali_vidaug as dv
from dali_vidaug.data.entry import name_some
from dali_vidaug.errors import printable


def summary(manifest: dv.Manifest, broken_shown: int = 20) -> str:
    """A manifest in a few lines."""
    table = manifest.table
    frames = table["num_frames"].to_numpy()
    hours = sum(s or 0.0 for s in table["duration_seconds"].to_pylist()) / 3600
    codecs = ", ".join(f"{name} {n}" for name, n in Counter(table["codec"].to_pylist()).most_common())
    sizes = Counter(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)).most_common()
    shown = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sizes[:4]) + (
        f" and {len(sizes) - 4} more" if sizes[4:] else ""
    )
    lines = [
        f"{len(manifest)} videos, {len(manifest.classes)} classes, {hours:.2f} hours, {frames.sum()} frames "
        f"({frames.min()} to {frames.max()} each)",
        f"codecs: {codecs}; sizes: {shown}",
        *_class_lines(manifest),
        *manifest.remarks,
        f"broken: {len(manifest.broken)}",
    ]
    lines += [f"  {b.path}: {b.reason}" for b in manifest.broken[:broken_shown]]
    if len(manifest.broken) > broken_shown:
        lines.append(f"  and {len(manifest.broken) - broken_shown} more, all in Manifest.read(...).broken")
    return printable("\n".join(lines))


def _class_lines(manifest: dv.Manifest, most: int = 12) -> list[str]:
    """The names of classes and how many samples each has, those with few samples named apart."""
    counts = manifest.class_counts().tolist()
    if not counts:
        return []
    named = [f"{name} ({count})" for name, count in zip(manifest.classes, counts, strict=True)]
    shown = named if len(named) <= 2 * most else [*named[:most], "...", *named[-most // 2 :]]
    lines = [f"classes: {', '.join(shown)}; from {min(counts)} to {max(counts)} samples in each"]
    empty = [name for name, count in zip(manifest.classes, counts, strict=True) if not count]
    if empty:
        lines.append(f"classes without samples: {name_some(empty, most)}")
    labels = manifest.table["labels" if manifest.multi_label else "label"].to_pylist()
    without = sum(label in (-1, []) for label in labels)
    return [*lines, *([f"samples without a label: {without}"] if without else [])]
