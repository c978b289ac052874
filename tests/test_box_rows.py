"""Boxes of a manifest's rows: where they are in each frame, whatever becomes of the manifest."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from test_manifest import make_manifest

import dali_vidaug as dv
from dali_vidaug.data import shared
from dali_vidaug.data.box_rows import add_boxes, given_boxes
from dali_vidaug.data.boxes import boxes_at
from dali_vidaug.data.manifest import Manifest
from dali_vidaug.data.schema import BOXES

FRAMES = 50  # of each video
COLUMNS = ("path", "frame", "x1", "y1", "x2", "y2", "label", "track", "outside")


def with_boxes(manifest, boxes, form=None, first_frame=None, hold=0.0, classes=None, like=None):
    """A manifest of files that need not exist, with boxes as ``dv.scan`` gives them."""
    of_like = () if like is None else like.box_classes
    return add_boxes(manifest, given_boxes(boxes, form, first_frame, hold, classes, of_like))


def table_of(rows):
    """A table of boxes: rows of path, frame, (x1, y1, x2, y2), label, track, outside."""
    flat = [(path, frame, *box, *rest) for path, frame, box, *rest in rows]
    return dict(zip(COLUMNS, map(list, zip(*flat, strict=True)), strict=True))


def random_rows(paths, seed):
    """Boxes at random key frames: tracks that go away and come back, with labels of each frame; and single ones."""
    numbers = np.random.default_rng(seed)

    def box():
        low = numbers.uniform(-20, 150, 2)
        return (*low, *(low + numbers.uniform(1, 60, 2)))

    rows = []
    for path in paths:
        for track in range(numbers.integers(0, 5)):
            for frame in sorted(numbers.choice(FRAMES, numbers.integers(1, 8), replace=False)):
                outside, here = bool(numbers.random() < 0.25), box()
                labels = numbers.permutation(["a", "b", None])[: numbers.choice([1, 1, 1, 2, 3])]
                if outside and numbers.random() < 0.4:
                    here = (None,) * 4
                rows += [(path, int(frame), here, label, track, outside) for label in labels]
        for frame in numbers.integers(0, FRAMES, numbers.integers(0, 5)):
            rows.append((path, int(frame), box(), str(numbers.choice(["a", "c"])), -1, False))
    numbers.shuffle(rows)
    return [(path, int(frame), box, label, int(track), outside) for path, frame, box, label, track, outside in rows]


def expected_at(rows, path, position, classes):
    """The boxes at a position by the definition: {(label, track): box} of tracks, and a list of those without."""

    def at_frame(frame, label, track):
        keys = {f: (gone, box) for p, f, box, _, t, gone in rows if (p, t) == (path, track)}
        if not min(keys) <= frame <= max(keys):
            return None
        f0, f1 = max(f for f in keys if f <= frame), min(f for f in keys if f >= frame)
        (out, here), (gone, there) = keys[f0], keys[f1]
        if out or label not in {name for p, f, _, name, t, _ in rows if (p, f, t) == (path, f0, track)}:
            return None
        if f1 == f0 or (gone and there[0] is None):
            return np.array(here)
        share = (frame - f0) / (f1 - f0)
        return np.array(here) + share * (np.array(there) - here)

    found = {}
    low, high = int(np.floor(position)), int(np.ceil(position))
    for label, track in {(name, t) for p, _, _, name, t, _ in rows if p == path and t >= 0}:
        ends = at_frame(low, label, track), at_frame(high, label, track)
        if ends[0] is not None and ends[1] is not None:
            found[classes.index(label) if label else -1, track] = ends[0] + (position - low) * (ends[1] - ends[0])
    single = [(classes.index(name), box) for p, f, box, name, t, _ in rows if p == path and t < 0 and f == position]
    return found, sorted(single)


def assert_boxes(manifest, rows, samples, frames):
    """``boxes_at`` gives what the definition says, in order."""
    found = boxes_at(manifest, samples, frames)
    kinds = (np.int64, np.int64, np.float32, np.int64, np.int64, np.float32)
    assert tuple(column.dtype for column in found) == kinds and found.xyxy.shape == (len(found.clip), 4)
    assert (np.diff(found.clip * 1000 + found.frame) >= 0).all() and (found.weight == 1).all()
    seen = 0
    for clip, (sample, positions) in enumerate(zip(samples, frames, strict=True)):
        for i, position in enumerate(positions):
            here = found.rows((found.clip == clip) & (found.frame == i))
            tracks, single = expected_at(
                rows, manifest.table["path"][int(sample)].as_py(), position, manifest.box_classes
            )
            mine = {
                (int(b), int(t)): box for b, t, box in zip(here.label, here.track, here.xyxy, strict=True) if t >= 0
            }
            assert mine.keys() == tracks.keys()
            for key, box in tracks.items():
                np.testing.assert_allclose(mine[key], box, atol=1e-4)
            lone = here.rows(here.track < 0)
            assert len(lone.clip) == len(single)
            for (label, box), other, got in zip(
                single,
                *(column[np.lexsort((lone.xyxy[:, 0], lone.label))] for column in (lone.label, lone.xyxy)),
                strict=True,
            ):
                assert label == other
                np.testing.assert_allclose(got, box, atol=1e-4)
            seen += len(here.clip)
    assert seen == len(found.clip)
    return seen


PATHS = [f"{i}.mp4" for i in range(6)]


@pytest.mark.parametrize("seed", range(5))
def test_boxes_in_any_frames(seed):
    """Whole and fractional positions in any order, repeated, of samples in any order; of segments, inside them."""
    rows = random_rows(PATHS[:5], seed)  # the last video has none
    numbers = np.random.default_rng(seed)
    paths = PATHS + PATHS[:3]
    first = [0] * 6 + numbers.integers(0, 25, 3).tolist()
    last = [FRAMES] * 6 + numbers.integers(26, FRAMES, 3).tolist()
    plain = make_manifest(paths, first_frame=first, last_frame=last)
    manifest = with_boxes(plain, table_of(rows))
    assert manifest.has_boxes and not plain.has_boxes and BOXES.name not in plain.table.column_names
    assert manifest.box_classes == ("a", "b", "c") and manifest.columns == ()
    samples = numbers.integers(0, len(paths), 12)
    whole = np.stack([numbers.integers(first[i], last[i], 16) for i in samples])
    real = np.stack([numbers.uniform(first[i], last[i] - 1, 16) for i in samples])
    assert assert_boxes(manifest, rows, samples, whole) > 50
    assert assert_boxes(manifest, rows, samples, np.where(real % 1 < 0.3, whole, real)) > 50
    assert boxes_at(plain, samples, whole).clip.shape == (0,)
    assert boxes_at(manifest, [], np.zeros((0, 4))).xyxy.shape == (0, 4)


def test_boxes_stay_with_their_rows(tmp_path, monkeypatch):
    """Selected, split, joined, written, read, mapped, pickled: the same boxes."""
    rows = random_rows(PATHS, 7)
    manifest = with_boxes(make_manifest(PATHS), table_of(rows))
    frames = np.arange(FRAMES)[None]

    def check(other, least):
        assert other.box_classes == manifest.box_classes and len(other) >= least
        assert_boxes(other, rows, range(len(other)), np.repeat(frames, len(other), 0))

    check(manifest.select([4, 1, 1]), 3)
    for part in manifest.split(0.5):
        check(part, 1)
    check(manifest.select([0, 1]) + manifest.select([5, 3]), 4)
    joined = make_manifest(["x.mp4"]) + manifest.select([2])
    assert joined.table[BOXES.name].null_count == 1
    check(joined, 2)
    manifest.write(tmp_path / "m.parquet")
    check(Manifest.read(tmp_path / "m.parquet"), 6)
    check(pickle.loads(pickle.dumps(manifest)), 6)
    monkeypatch.setattr(shared, "SHARED_LEAST", 1)
    monkeypatch.setattr("dali_vidaug.data.schema.pq.write_table", _in_groups(dv_write=pa.parquet.write_table))
    manifest.write(tmp_path / "groups.parquet")
    mapped = Manifest.read(tmp_path / "groups.parquet")
    assert mapped._shared is not None and mapped.table[BOXES.name].num_chunks > 1
    check(mapped, 6)
    check(pickle.loads(pickle.dumps(mapped)), 6)
    check(mapped.select([5, 0, 3]), 3)


def _in_groups(dv_write):
    return lambda table, file, row_group_size: dv_write(table, file, row_group_size=2)


def test_box_classes_of_two_manifests():
    one, other = (with_boxes(make_manifest([path]), table_of([(path, 0, (0, 0, 9, 9), label, 1, False)]))
                  for path, label in (("a.mp4", "car"), ("b.mp4", "dog")))  # fmt: skip
    with pytest.raises(ValueError, match=r"the classes of boxes must be the same.* 0: 'car' and 'dog'.*like="):
        one + other
    both = [make_manifest(["b.mp4"]), table_of([("b.mp4", 0, (0, 0, 9, 9), "car", 1, False)])]
    assert (one + with_boxes(*both)).box_classes == ("car",)
    with pytest.raises(ValueError, match="label 'dog' is not among 1 box class"):
        with_boxes(make_manifest(["b.mp4"]), table_of([("b.mp4", 0, (0, 0, 9, 9), "dog", 1, False)]), like=one)


def test_a_table_that_is_no_manifest_with_boxes():
    table = make_manifest(["a.mp4"]).table
    with pytest.raises(ValueError, match="column boxes must have .*got string"):
        Manifest(table.append_column("boxes", pa.array(["3 boxes"])))
    box = dict.fromkeys(("frame", "end", "x1", "y1", "x2", "y2", "track", "moves"), 1)
    column = pa.array([[{**box, "label": 3}]], BOXES.type)
    with pytest.raises(ValueError, match="labels of boxes go from 3 to 3, not within 2 classes"):
        Manifest(table.append_column(BOXES, column), box_classes=("a", "b"))
    with pytest.raises(ValueError, match="null in a box"):
        Manifest(table.append_column(BOXES, pa.array([[{"frame": 1}]], BOXES.type)))


def test_a_column_of_a_list_that_is_named_boxes(numbered, tmp_path):
    """The name is taken; the values stay under another one."""
    path = sorted(numbered.rglob("*.mp4"))[0]
    manifest = dv.scan([path], columns={"boxes": ["two"]}, progress=False)
    assert manifest.columns == ("list_boxes",) and not manifest.has_boxes
