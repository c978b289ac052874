"""Plans and batches in a few lines: as text, and as HTML for notebooks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from dali_vidaug.counting import num_distinct
from dali_vidaug.drawn_masks import masks_text
from dali_vidaug.errors import printable
from dali_vidaug.rng import Draws

if TYPE_CHECKING:
    from dali_vidaug.data.manifest import Manifest
    from dali_vidaug.plan import Plan

_NUMBER = r"-?\d[\d.e+-]*"
_NUMBERS_SHOWN, _CLASSES_SHOWN, _ROWS_SHOWN = 12, 6, 16


def clip_index(plan: Plan, i: int) -> int:
    """The position of clip ``i`` of a plan, also counted from its end.

    Raises:
        IndexError: there is no such clip.
    """
    if not -len(plan) <= i < len(plan):
        raise IndexError(f"plan: there is no clip {i}; it has {len(plan)}, counted from 0")
    return i % len(plan)


def describe_clip(plan: Plan, i: int, manifest: Manifest | None) -> str:
    """What clip ``i`` of a plan is and gets, with file and class where ``manifest`` tells them, as lines of text."""
    i = clip_index(plan, i)
    sample = int(plan.samples[i])
    lines = [f"sample {sample}, seed {plan.seed}, epoch {plan.epoch}, view {plan.views[i]}"]
    if plan.repeat_index.any():
        lines[0] += f", repeat {plan.repeat_index[i]}"
    if manifest is not None:
        lines.append(f"  file {printable(manifest.path(sample))}, {class_text(manifest, sample)}")
    lines.append(f"  frames {_frames_text(plan.frames[i].tolist())}")
    for name, op in zip(plan.recipe.names, plan.recipe.ops, strict=True):
        rows = plan.args[name]
        if rows is not None and hasattr(op, "describe"):
            taken = chosen_ops(plan, name, op)[i]
            lines += [
                f"  {name}{f': {taken}' if taken else ''}",
                *(f"    {line}" for line in _row_lines(plan, op, rows[i])),
            ]
        else:
            values = "" if rows is None else ", ".join(f"{k} {_value_text(rows[i][k])}" for k in rows.dtype.names)
            lines.append(f"  {name} {values}".rstrip())
    lines += [f"  {line}" for line in masks_text(plan.recipe, plan.masks, slice(i, i + 1))]
    return "\n".join(lines)


def _row_lines(plan, op, row):
    """What an op says of a row, and which sample the partner is."""
    lines, partner = op.describe(row), row["partner"] if "partner" in row.dtype.names else -1
    if not 0 <= partner < len(plan):
        return lines
    place = f"clip {partner} of the batch"
    named = f"{place} (sample {plan.samples[partner]})" if len(plan) > 1 else "itself"  # Plan.row leaves the partner
    return [line.replace(place, named) for line in lines]


def class_text(manifest: Manifest, sample: int) -> str:
    """The class of a sample, or its classes, as in "class boxing"."""
    names = [manifest.classes[k] for k in np.flatnonzero(manifest.targets([sample])[0])]
    return f"class{'es' * (len(names) > 1)} {', '.join(names)}" if names else "no label"


def _frames_text(frames):
    """Frames with a star at each that the clip has already."""
    seen: set[float] = set()
    texts = []
    for position in frames:
        texts.append(f"{position:g}{'*' * (position in seen)}")
        seen.add(position)
    again = len(frames) - len(seen)
    note = (
        f" (*: {again} of {len(frames)} come again, as where a video is too short for the clip or an op repeats frames)"
        if again
        else ""
    )
    return ", ".join(texts) + note


def _value_text(value):
    values = np.atleast_1d(value)
    return " ".join(f"{v:.6g}" if values.dtype.kind == "f" else str(v) for v in values)


def chosen_ops(plan: Plan, name: str, op: Any) -> list[str | None]:
    """For an op that chooses between ops, which one each clip got; None where that cannot be told."""
    if not hasattr(op, "chosen") or not len(plan):
        return [None] * len(plan)
    chosen: list[str | None] = [None] * len(plan)
    for group, repeat in dict.fromkeys(zip(plan.batch.tolist(), plan.repeat_index.tolist(), strict=True)):
        at = np.flatnonzero((plan.batch == group) & (plan.repeat_index == repeat))
        # The plan of one clip of a batch, which was mixed, is drawn as in a batch of two: one alone is never mixed.
        twice = np.tile(at, 2 if len(at) == 1 else 1)
        draws = Draws(plan.seed, plan.epoch, plan.samples[twice], plan.views[twice], name, group, repeat)
        for i, word in zip(at.tolist(), op.chosen(draws, plan.args[name][twice]), strict=False):
            chosen[i] = word
    return chosen


def ops_text(plan: Plan) -> str:
    """The ops of a plan, and how many of the clips each changes, where it tells."""
    texts = []
    for name, op in zip(plan.recipe.names, plan.recipe.ops, strict=True):
        rows = plan.args[name]
        if rows is None or not hasattr(op, "applied"):
            texts.append(name)
            continue
        applied = op.applied(rows)
        taken = Counter(word for word, yes in zip(chosen_ops(plan, name, op), applied, strict=True) if word and yes)
        split = ": " + ", ".join(f"{word} {n}" for word, n in taken.most_common()) if taken else ""
        texts.append(f"{name} ({int(applied.sum())} of {len(plan)}{split})")
    return ", ".join(texts) or "none"


def changes_text(plan: Plan, i: int) -> str:
    """The ops that change clip ``i``, where they tell, in one line."""
    texts = []
    for name, op in zip(plan.recipe.names, plan.recipe.ops, strict=True):
        rows = plan.args[name]
        if rows is None or (hasattr(op, "applied") and not op.applied(rows[i : i + 1])[0]):
            continue
        taken = chosen_ops(plan, name, op)[i] or name
        texts.append(f"{taken}: {', '.join(op.describe(rows[i]))}" if hasattr(op, "describe") else taken)
    return re.sub(rf"({_NUMBER})(?: {_NUMBER})+ ({_NUMBER})", r"\1 ... \2", "; ".join(texts))  # values of many frames


def plan_lines(plan: Plan) -> list[str]:
    """A plan as lines: a title, then "name: text"."""
    groups = numbers_text(np.unique(plan.batch).tolist())
    title = f"Plan: {_count(len(plan), 'clip')} of {_count(plan.frames.shape[1], 'frame')}"
    lines = [f"{title}, seed {plan.seed}, epoch {plan.epoch}, batch {groups}"]
    lines.append(f"samples: {numbers_text(plan.samples.tolist())}")
    if plan.views.any():
        lines.append(f"views: {numbers_text(plan.views.tolist())}")
    if plan.repeat_index.any():
        lines.append(f"repeats: {numbers_text(plan.repeat_index.tolist())}")
    if len(plan):
        padded = int((num_distinct(plan.frames) < plan.frames.shape[1]).sum())
        again = f", {_count(padded, 'clip')} with a frame more than once" if padded else ""
        lines.append(f"frames: {plan.frames.min():g} to {plan.frames.max():g}{again}")
    return [*lines, f"ops: {ops_text(plan)}", *_mask_lines(plan)]


def _mask_lines(plan):
    return [f"masks: {'; '.join(masks_text(plan.recipe, plan.masks))}"] if plan.masks else []


def batch_lines(batch: Any) -> list[str]:
    """A batch as lines: a title, then "name: text". It waits for no GPU: only what is on the CPU is looked at."""
    plan, manifest = batch.__dict__.get("plan"), batch.__dict__.get("manifest")
    lines = [f"Batch: {_count(_length(batch.samples), 'clip')}, epoch {batch.epoch}, index {batch.index}"]
    lines += [f"{name}: {_tensor_text(getattr(batch, name))}" for name in ("clips", "targets")]
    lines.append(f"samples: {numbers_text(_as_list(batch.samples))}")
    if manifest is not None and len(manifest.classes):
        if manifest.multi_label:
            counts = manifest.targets(plan.samples).sum(0).astype(int)
            found = np.flatnonzero(counts)
            counts = counts[found]
        else:  # whatever the number of classes
            labels = manifest.labels[plan.samples]
            found, counts = np.unique(labels[labels >= 0], return_counts=True)
        named = [f"{manifest.classes[found[k]]} {counts[k]}" for k in np.argsort(-counts, kind="stable")]
        more = [f"and {len(named) - _CLASSES_SHOWN} more"] if len(named) > _CLASSES_SHOWN else []
        lines.append(f"classes: {', '.join([*named[:_CLASSES_SHOWN], *more]) or 'no labels'}")
    if plan is not None:
        lines += [f"ops: {ops_text(plan)}", *_mask_lines(plan)]
    if batch.__dict__.get("boxes") is not None:
        lines.append(f"boxes: {_count(_length(batch.boxes.clip), 'box', 'boxes')}")
    for name in ("repeated", "skipped"):
        values = _as_list(getattr(batch, name))
        if any(values) or (values and name == "skipped"):
            lines.append(f"{name}: {sum(values) if name == 'repeated' else numbers_text(values)}")
    return lines


def as_text(lines: Sequence[str]) -> str:
    """Lines as a ``repr``."""
    return "<" + "\n  ".join(lines) + ">"


def as_html(lines: Sequence[str], plan: Plan | None, manifest: Manifest | None) -> str:
    """Lines, and a table of the clips, as HTML."""
    fields = (line.partition(": ")[::2] for line in lines[1:])
    html = f"<b>{escape(lines[0])}</b>" + _table((), fields)
    if plan is None or not len(plan):
        return html
    shown = range(min(len(plan), _ROWS_SHOWN))
    rows = ((str(i), *_cells(plan, i, manifest)) for i in shown)
    more = f"<div>and {len(plan) - _ROWS_SHOWN} more clips</div>" if len(plan) > _ROWS_SHOWN else ""
    return html + _table(("clip", "sample", "file", "class", "frames", "ops"), rows) + more


def _cells(plan, i, manifest):
    sample, frames = int(plan.samples[i]), plan.frames[i]
    place = ("", "") if manifest is None else (printable(manifest.path(sample)), class_text(manifest, sample))
    return str(sample), place[0], place[1].partition(" ")[2], frames_span(frames), changes_text(plan, i)


def frames_span(frames: np.ndarray) -> str:
    """The first and the last of a clip's frames (F,), and how many come again."""
    again = len(frames) - int(num_distinct(frames[None])[0])
    return f"{frames[0]:g} to {frames[-1]:g}" + (f", {again} come again" if again else "")


def _table(heads, rows):
    def row(cells, tag):
        return "<tr>" + "".join(f'<{tag} style="text-align:left">{escape(c)}</{tag}>' for c in cells) + "</tr>"

    head = row(heads, "th") if heads else ""
    return f"<table>{head}{''.join(row(cells, 'td') for cells in rows)}</table>"


def _count(number, word, words=None):
    return f"{number} {word if number == 1 else words or f'{word}s'}"


def numbers_text(numbers: Sequence[int]) -> str:
    """The first of some numbers, and how many more there are."""
    more = len(numbers) - _NUMBERS_SHOWN
    shown = ", ".join(map(str, numbers[:_NUMBERS_SHOWN]))
    return (f"{shown}, and {more} more" if more > 0 else shown) or "none"


def _tensor_text(tensor):
    if isinstance(tensor, (tuple, list)):  # of several pathways
        return " and ".join(map(_tensor_text, tensor))
    if not hasattr(tensor, "shape"):  # a trainer has put something else in its place
        return type(tensor).__name__
    kind, device = str(getattr(tensor, "dtype", "")).removeprefix("torch."), getattr(tensor, "device", "")
    return f"{tuple(tensor.shape)} {kind}" + (f" on {device}" if device else "")


def _length(tensor):
    return len(tensor) if hasattr(tensor, "__len__") else 0


def _as_list(tensor):
    """The values of a tensor on the CPU; of one elsewhere, or of something else, none."""
    on_cpu = getattr(getattr(tensor, "device", None), "type", "") == "cpu"
    return tensor.tolist() if on_cpu else []
