"""Temporal localisation: average precision by hand and by brute force, proposals, annotated segments, snippets."""

import dataclasses
import itertools
import json
import logging
import random
import re
from fractions import Fraction

import av
import numpy as np
import pytest
from conftest import numbered_frame, shown_numbers

import dali_vidaug as dv
from dali_vidaug.localisation import (
    ACTIVITYNET,
    AMBIGUOUS,
    THUMOS14,
    annotated_segments,
    join_segments,
    make_segments,
    mean_average_precision,
    propose,
    snippet_targets,
    suppress,
    temporal_iou,
)

# ---- Average precision, by hand


def segments(*rows):
    """Segments of rows (video, start, end, label[, score])."""
    return join_segments([make_segments(*row) for row in rows])


def average(found, truth, thresholds=(0.5,), classes="abc"):
    return mean_average_precision(segments(*found), segments(*truth), classes, thresholds)


def one_class(found, truth, threshold=0.5):
    """Average precision of class 0 with rows (start, end, score) and (start, end) of one video."""
    result = average([(0, s, e, 0, p) for s, e, p in found], [(0, s, e, 0) for s, e in truth], (threshold,))
    return result.average_precision[0, 0]


A, B = (0, 10), (20, 30)


@pytest.mark.parametrize(
    "found, truth, expected",
    [
        ([(*A, 0.9), (*B, 0.8)], [A, B], 1),
        ([(*B, 0.8), (*A, 0.9)], [A, B], 1),  # in any order
        ([(*A, 0.9), (*A, 0.8)], [A], 1),  # a duplicate after all is found costs nothing
        ([(*A, 0.9), (*A, 0.8), (*B, 0.7)], [A, B], (1 + 2 / 3) / 2),  # one before does: it is wrong
        ([(*A, 0.9), (1, 10, 0.8), (*B, 0.7)], [A, B], (1 + 2 / 3) / 2),
        ([(50, 60, 0.9), (*A, 0.8), (*B, 0.7)], [A, B], 2 / 3),  # 1/2 at recall 1/2 is raised to the later 2/3
        ([(*A, 0.9), (50, 60, 0.8), (*B, 0.7)], [A, B], (1 + 2 / 3) / 2),
        ([(*A, 0.9)], [A, B], 1 / 2),
        ([(50, 60, 0.9)], [A], 0),
        ([], [A], 0),
        ([(*A, 0.5), (50, 60, 0.5)], [A], 1 / 2),  # a tie: after both, one of two is right
        ([(50, 60, 0.5), (*A, 0.5)], [A], 1 / 2),
        ([(*A, 0.5), (*A, 0.5)], [A], 1 / 2),
        ([(*A, 0.5), (50, 60, 0.5), (*B, 0.4)], [A, B], 2 / 3),
        # [8, 18) takes what it overlaps most, though [0, 10) came first; [7, 17) is left with [0, 10): 3 of 17
        ([(8, 18, 0.9), (7, 17, 0.8)], [(0, 10), (8, 18)], 1 / 2),
        # [7, 17) takes [8, 18), 9 of 11, though [8, 18) would fit it better; that one is left with [0, 10): 2 of 18
        ([(7, 17, 0.9), (8, 18, 0.8)], [(0, 10), (8, 18)], 1 / 2),
    ],
)
def test_average_precision_by_hand(found, truth, expected):
    np.testing.assert_allclose(one_class(found, truth), expected, rtol=1e-12)


def test_what_a_better_one_has_taken_is_not_taken_twice():
    """At 0.1 the one that is left gets the other segment: 2 of 18 seconds are 0.11."""
    found, truth = [(7, 17, 0.9), (8, 18, 0.8)], [(0, 10), (8, 18)]
    assert one_class(found, truth, 0.1) == 1 and one_class(found, truth, 0.12) == 0.5
    assert one_class([(0, 10, 0.9), (0, 10, 0.8)], [A], 0.1) == 1 and one_class([(0, 10, 0.9)] * 2, [A, B], 0.1) == 0.25


def test_thresholds_count_from_exactly_their_value():
    """[0, n) of [0, 10) is right up to n / 10, whatever the rounding of 7 / 10 or of a threshold like 0.1 * 3."""
    for n in range(1, 11):
        result = average([(0, 0, n, 0, 1.0)], [(0, 0, 10, 0)], THUMOS14)
        assert result.mean_average_precision.tolist() == [float(t <= n) for t in range(1, 8)], n
        moved = average([(0, 0.3, n / 10 + 0.3, 0, 1.0)], [(0, 0.3, 1.3, 0)], np.arange(1, 8) * 0.1)
        assert moved.mean_average_precision.tolist() == [float(t <= n) for t in range(1, 8)], n
    assert result.mean == 1 and average([(0, 0, 6, 0, 1.0)], [(0, 0, 10, 0)], THUMOS14).mean == 6 / 7


def test_videos_and_classes():
    truth = [(0, *A, 0), (1, *A, 0), (0, *A, 1), (5, *B, 1)]
    perfect = [(*row, 0.5 + 0.01 * i) for i, row in enumerate(truth)]
    result = average(perfect, truth, ACTIVITYNET)
    assert (result.mean_average_precision == 1).all() and result.mean == 1
    assert np.isnan(result.average_precision[:, 2]).all() and result.num_segments.tolist() == [2, 2, 0]
    # class 2 is nowhere: what is found of it changes nothing; a video without detections; one without a segment
    result = average([*perfect[1:], (0, *B, 2, 9.0), (7, *A, 1, 0.9)], truth)
    np.testing.assert_allclose(result.average_precision[0, :2], [1 / 2, 2 / 3])
    assert result.num_detections.tolist() == [1, 3, 1]
    assert abs(result.mean - (1 / 2 + 2 / 3) / 2) < 1e-12  # the mean over two classes, not three
    assert average([(1, *A, 0, 1.0)], [(0, *A, 0)]).mean == 0  # of another video
    assert average([(0, *A, 1, 1.0)], [(0, *A, 0)]).mean == 0  # of another class
    assert average([], truth).mean == 0


def test_ambiguous_segments_are_left_out():
    """What overlaps one is neither right nor wrong, unless it is right; in its own video, and not where it touches."""
    truth, wrong = [(0, *A, 0), (0, 50, 60, AMBIGUOUS), (1, 70, 80, AMBIGUOUS)], (0, 59, 75, 0, 0.9)
    right = (0, *A, 0, 0.5)
    assert average([wrong, right], truth).mean == 1 and average([wrong, right], truth[:1]).mean == 0.5
    assert average([(0, 60, 75, 0, 0.9), right], truth).mean == 0.5
    assert average([(1, 59, 69, 0, 0.9), right], truth).mean == 0.5
    assert average([(0, *A, 0, 0.9)], [(0, *A, 0), (0, 5, 6, AMBIGUOUS)]).mean == 1
    # what is right at one threshold alone is left out at the others
    both = [(0, *A, 0), (0, 9, 12, AMBIGUOUS)]
    assert average([(0, 6, 12, 0, 0.9), right], both, (0.3, 0.4)).mean_average_precision.tolist() == [1, 1]


def test_a_random_predictor_by_hand():
    """One of N segments is right, in any order: the mean of 1 / rank, H_N / N. Two of six: over the 15 pairs of ranks
    a < b, the first counts max(1/a, 2/b), the second 2/b."""
    slots = [(10 * i, 10 * i + 10) for i in range(6)]
    totals = [0.0, 0.0]
    for order in itertools.permutations(range(6)):
        found = [(*slot, 6.0 - rank) for slot, rank in zip(slots, order, strict=True)]
        totals[0] += one_class(found, slots[:1])
        totals[1] += one_class(found, slots[:2])
    pairs = [(a, b) for b in range(1, 7) for a in range(1, b)]
    by_hand = [1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6]
    by_hand.append(sum((max(1 / a, 2 / b) + 2 / b) / 2 for a, b in pairs) * 6 / 15)
    np.testing.assert_allclose(np.array(totals) / 720, np.array(by_hand) / 6, rtol=1e-9)


def test_a_random_predictor_of_many_classes():
    """mAP over 2000 classes, each once in one of 10 videos with 5 slots, scores at random: H_5 / 5 is 0.4567."""
    rng, slots, classes = np.random.default_rng(3), 5, 2000
    video, place = rng.integers(0, 10, classes), rng.integers(0, slots, classes)
    truth = make_segments(video, 7.0 * place, 7.0 * place + 7, np.arange(classes))
    label, at = np.repeat(np.arange(classes), slots), np.tile(7.0 * np.arange(slots), classes)
    found = make_segments(video[label], at, at + 7, label, rng.random(slots * classes))
    ranks = np.arange(1, slots + 1)
    expected, spread = (1 / ranks).mean(), (1 / ranks).std() / classes**0.5
    result = mean_average_precision(found, truth, [str(i) for i in range(classes)])
    assert abs(result.mean - expected) < 4 * spread and abs(expected - 0.456667) < 1e-6


# ---- Average precision, once more from its definition


def brute_iou(a, b):
    common = max(0, min(a[2], b[2]) - max(a[1], b[1]))
    return Fraction(common, (a[2] - a[1]) + (b[2] - b[1]) - common) if a[0] == b[0] else Fraction(0)


def brute_force(found, truth, label, threshold):
    """Average precision of a class, in fractions: every cut of the scores by itself, every recall by itself."""
    wanted = sorted(t for t in truth if t[3] == label)
    unclear = [t for t in truth if t[3] == AMBIGUOUS]
    best_of = {d: max([brute_iou(d, t) for t in wanted], default=0) for d in found}
    order = sorted((d for d in found if d[3] == label), key=lambda d: (-d[4], -best_of[d], d[1], d[2]))
    free, verdicts = list(wanted), []
    for d in order:
        fits = [t for t in free if brute_iou(d, t) >= threshold]
        if fits:
            free.remove(max(fits, key=lambda t: brute_iou(d, t)))
        elif any(brute_iou(d, t) > 0 for t in unclear):
            continue
        verdicts.append((d[4], bool(fits)))
    points = []
    for cut in {score for score, _ in verdicts}:
        taken = [right for score, right in verdicts if score >= cut]
        points.append((sum(taken), Fraction(sum(taken), len(taken))))
    levels = [max([p for hits, p in points if hits >= n], default=Fraction(0)) for n in range(1, len(wanted) + 1)]
    return sum(levels) / len(wanted)


@pytest.mark.parametrize("seed", range(30))
def test_brute_force(seed):
    """Few places and scores, so that everything overlaps and ties."""
    rng = random.Random(seed)
    scores = range(1, 4 if seed % 2 else 1000)

    def rows(count, lowest):
        for _ in range(count):
            start = rng.randrange(20)
            yield rng.randrange(3), start, start + rng.randrange(1, 8), rng.randrange(lowest, 3)

    truth = [*rows(rng.randrange(1, 12), -1), (0, 3, 7, 0)]
    found = list({(*row, rng.choice(scores)) for row in rows(rng.randrange(40), 0)})
    thresholds = [Fraction(n, 10) for n in range(1, 10)]
    result = average([(*d[:4], float(d[4])) for d in found], truth, [float(t) for t in thresholds])
    for label in range(3):
        for i, threshold in enumerate(thresholds):
            value = result.average_precision[i, label]
            if any(t[3] == label for t in truth):
                assert abs(value - float(brute_force(found, truth, label, threshold))) < 1e-9, (label, threshold)
            else:
                assert np.isnan(value)
    again = average([(*d[:4], float(d[4])) for d in rng.sample(found, len(found))], truth[::-1], result.thresholds)
    np.testing.assert_array_equal(again.average_precision, result.average_precision)


def test_the_table():
    text = str(
        average(
            [(0, *A, 0, 0.9), (0, *A, 0, 0.8)], [(0, *A, 0), (0, *B, 0), (0, *A, 2)], (0.3, 0.5), ("run", "sit", "x")
        )
    )
    assert [re.split("  +", line) for line in text.splitlines()] == [
        ["IoU", "0.30", "0.50", "mean", "segments", "found"],
        ["mAP", "25.0", "25.0", "25.0", "3", "2"],
        ["run", "50.0", "50.0", "50.0", "2", "2"],
        ["sit", "-", "-", "-", "0", "0"],
        ["x", "0.0", "0.0", "0.0", "1", "0"],
    ]


@pytest.mark.parametrize(
    "found, truth, thresholds, message",
    [
        ((0, 0, 1, 3, 0.5), (0, 0, 1, 0), (0.5,), r"labels of detections must be in \[0, 3\), got 3 in video 0"),
        ((0, 0, 1, -1, 0.5), (0, 0, 1, 0), (0.5,), r"labels of detections must be in \[0, 3\), got -1"),
        ((0, 0, 1, 0, 0.5), (4, 0, 1, -2), (0.5,), r"labels of truth must be in \[-1, 3\), got -2 in video 4"),
        ((7, 2, 2, 0, 0.5), (0, 0, 1, 0), (0.5,), "detections must end after they start, got 2 to 2 s in video 7"),
        ((0, 0, 1, 0, np.nan), (0, 0, 1, 0), (0.5,), "score of detections must be 1 finite numbers"),
        ((0, 0, 1, 0, 0.5), (0, 0, np.inf, 0), (0.5,), "end of truth must be 1 finite numbers"),
        ((0, 0, 1, 0, 0.5), (0, 0, 1, 0), (), r"thresholds must be in \(0, 1\], got \(\)"),
        ((0, 0, 1, 0, 0.5), (0, 0, 1, 0), (50,), r"thresholds must be in \(0, 1\], got \(50,\)"),
        ((0, 0, 1, 0, 0.5), (0, 0, 1, AMBIGUOUS), (0.5,), "truth has no segment of any class"),
    ],
)
def test_what_is_refused(found, truth, thresholds, message):
    with pytest.raises(ValueError, match=f"^mean_average_precision: {message}"):
        average([found], [truth], thresholds)


# ---- From activations to segments


def test_iou():
    iou = temporal_iou([0, 5], [10, 6], [0, 10, 2], [10, 20, 7])
    np.testing.assert_allclose(iou, [[1, 0, 0.5], [0.1, 0, 0.2]])


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dict(activation=np.zeros(5)),
            r"activation must be \(S, K\), start and end \(S,\), got \(5,\), \(5,\), \(5,\)",
        ),
        (dict(activation=np.zeros((4, 2))), r"got \(4, 2\), \(5,\), \(5,\)"),
        (dict(end=np.ones(1)), r"got \(5, 1\), \(5,\), \(1,\)"),
        (dict(activation=np.full((5, 1), np.nan)), "activation must be finite numbers, got NaN or infinity in video 7"),
        (dict(start=np.full(5, -np.inf)), "start must be finite"),
        (dict(thresholds=(0.5, np.nan)), "thresholds must be finite"),
    ],
)
def test_proposals_that_are_refused(change, message):
    good = dict(activation=np.ones((5, 1)), start=np.arange(5.0), end=np.arange(5.0) + 1, video=7, thresholds=(0.5,))
    assert len(propose(**good).video) == 1
    with pytest.raises(ValueError, match=f"^propose: .*{message}"):
        propose(**{**good, **change})


@pytest.mark.parametrize(
    "columns, message",
    [
        (dict(video=0.7), "video must be whole numbers, got 0.7"),
        (dict(label=[0, 0.9]), "label must be whole numbers, got 0.9"),
        (dict(video=np.nan), "video must be whole numbers, got nan"),
        (dict(video=["a"]), "video must be numbers in one column, got <U1"),
        (dict(start=[[0.0]]), r"start must be numbers in one column, got float64 \(1, 1\)"),
        (dict(video=[0, 1], start=[0, 1, 2]), "columns must be of one length.*got 2 of video, 3 of start, 1 of end"),
    ],
)
def test_segments_that_cannot_be_made(columns, message):
    with pytest.raises(ValueError, match=f"^make_segments: {message}"):
        make_segments(**{**dict(video=0, start=0, end=1, label=0), **columns})
    assert make_segments(2.0, 0, 1, 1.0).label.dtype == np.int64 and not len(make_segments([], [], [], []).video)


def test_proposals_by_hand():
    """Snippets of 0.5 s; class 0 has runs of 2 and 1 at 0.5, with one snippet between them, and class 1 none."""
    activation = np.array([[0.1, 0], [0.6, 0], [0.8, 0], [0.2, 0], [0.7, 0], [0.1, 0]])
    start = 0.5 * np.arange(6)
    found = propose(activation, start, start + 0.5, 3, (0.5, 0.75))
    rows = [tuple(round(x, 6) for x in row) for row in zip(found.start, found.end, found.score, strict=True)]
    assert rows == [
        (0.5, 1.5, round(0.7 - 0.15, 6)),  # less the mean of one snippet on each side: 0.1, 0.2
        (1.0, 1.5, round(0.8 - 0.4, 6)),  # 0.6 and 0.2
        (2.0, 2.5, round(0.7 - 0.15, 6)),
    ]
    assert set(found.video) == {3} and set(found.label) == {0}
    joined = propose(activation, start, start + 0.5, 3, (0.5,), gap_seconds=0.5)
    assert (joined.start.tolist(), joined.end.tolist()) == ([0.5], [2.5])
    # snippets that are not next to each other are not one segment
    apart = propose(activation, 3 * start, 3 * start + 0.5, 3, (0.5,))
    assert (
        apart.start.tolist() == [1.5, 3.0, 6.0] and len(propose(activation, start, start + 0.5, 3, (0.9,)).video) == 0
    )


def test_suppression_by_hand():
    """[0, 10) and [1, 11) share 9 of 11; [5, 15) shares 5 of 15 with the first, and 6 of 14 with the second."""
    found = segments((0, 1, 11, 0, 0.8), (0, 0, 10, 0, 0.9), (0, 5, 15, 0, 0.7), (1, 0, 10, 0, 0.6), (0, 0, 10, 1, 0.5))
    assert suppress(found, 0.5).score.tolist() == [0.9, 0.7, 0.6, 0.5]
    assert suppress(found, 0.3).score.tolist() == [0.9, 0.6, 0.5]
    assert suppress(found, 5 / 15).score.tolist() == [0.9, 0.7, 0.6, 0.5]
    assert suppress(found, 9 / 11).score.tolist() == sorted(found.score.tolist(), reverse=True)
    assert len(suppress(segments(), 0.5).video) == 0


# ---- Annotated segments

NAMES = ("video_validation_0000001", "video_validation_0000002", "video_test_0000001")


@pytest.fixture(scope="module")
def untrimmed(numbered, tmp_path_factory):
    """Three videos of 40, 42 and 44 frames at 25 per second: 1.6, 1.68 and 1.76 s."""
    folder = tmp_path_factory.mktemp("untrimmed")
    for name, path in zip(NAMES, sorted(numbered.rglob("*.mp4"), key=lambda path: path.name), strict=False):
        (folder / f"{name}.mp4").symlink_to(path)
    return folder


def write_thumos(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


FILES = {
    "CliffDiving_val": [f"{NAMES[0]}  0.20 0.60"],
    "Diving_val": [f"{NAMES[0]} 0.20 0.60 ", f"{NAMES[0]}  1.00 1.40"],
    "Ambiguous_val": [f"{NAMES[0]}  0.70 0.80"],
    "Shotput_val": [f"{NAMES[1]}  0.00 1.60"],
    "Shotput_test": [f"{NAMES[2]}  0.50 0.90"],
}


def test_thumos14_as_it_is(untrimmed, tmp_path):
    """All segments of a video with their classes; two labels where one class is part of another; splits."""
    annotations = write_thumos(tmp_path / "annotation", **FILES)
    manifest = dv.scan(annotations, format="thumos14_videos", split="validation", root=untrimmed, progress=False)
    assert manifest.classes == ("CliffDiving", "Diving", "Shotput") and manifest.multi_label
    assert manifest.targets([0, 1]).tolist() == [[1, 1, 0], [0, 0, 1]]
    assert manifest.rows("video_id").tolist() == list(NAMES[:2]) and set(manifest.rows("subset")) == {"validation"}
    truth = annotated_segments(manifest)
    assert sorted(zip(*(c.tolist() for c in truth[:4]), strict=True)) == [
        (0, 0.2, 0.6, 0), (0, 0.2, 0.6, 1), (0, 0.7, 0.8, AMBIGUOUS), (0, 1.0, 1.4, 1), (1, 0.0, 1.6, 2)
    ]  # fmt: skip
    assert not any("CliffDiving" in remark for remark in manifest.remarks)
    manifest.write(tmp_path / "m.parquet")
    again = annotated_segments(dv.Manifest.read(tmp_path / "m.parquet"))
    for column, other in zip(truth, again, strict=True):
        np.testing.assert_array_equal(column, other)
    test = dv.scan(annotations, format="thumos14_videos", split="test", root=untrimmed, like=manifest, progress=False)
    assert test.targets([0]).tolist() == [[0, 0, 1]] and annotated_segments(test).label.tolist() == [2]


def test_json_says_the_same_as_files_of_classes(untrimmed, tmp_path):
    annotations = write_thumos(tmp_path / "annotation", **FILES)
    database = {
        name: {"subset": subset, "duration": 1.6, "fps": 25.0, "annotations": []}
        for name, subset in zip(NAMES, ("validation", "validation", "test"), strict=True)
    }
    for name, lines in FILES.items():
        for line in lines:
            video, start, end = line.split()
            label = name.split("_")[0]
            part = {"label": label, "segment": [float(start), float(end)]}
            part["label_id"] = -1 if label == "Ambiguous" else ["CliffDiving", "Diving", "Shotput"].index(label)
            database[video]["annotations"].append(part)
    (tmp_path / "thumos.json").write_text(json.dumps({"database": database}))
    options = dict(split="validation", root=untrimmed, progress=False)
    files = dv.scan(annotations, format="thumos14_videos", **options)
    found = dv.scan(tmp_path / "thumos.json", format="activitynet_videos", **options)
    assert found.classes == files.classes and (found.targets([0, 1]) == files.targets([0, 1])).all()
    mine, other = (sorted(zip(*annotated_segments(m), strict=True)) for m in (found, files))
    assert mine == other and found.rows("list_fps").tolist() == [25.0, 25.0]


def test_segments_that_a_video_does_not_have_are_told(untrimmed, tmp_path, caplog):
    """Past the end, dives that are no dives, segments without length, videos without any, another version."""
    lines = {**FILES, "Shotput_val": [f"{NAMES[1]} 0.00 1.75", f"{NAMES[1]} 1.5 2.5", f"{NAMES[1]} 9.0 9.5"]}
    annotations = write_thumos(tmp_path / "a", **lines, Diving_test=[f"{NAMES[2]} 0.5 0.5"])
    (annotations / "Diving_val.txt").unlink()
    options = dict(format="thumos14_videos", root=untrimmed, progress=False)
    manifest = dv.scan(annotations, **options, split="validation")
    told = "\n".join(manifest.remarks)
    assert (
        "annotated segments that end after their video does, of 5: 2, in rows: 1 (video_validation_0000002.mp4); "
        in told
    )
    assert "1 of them also start after it" in told
    assert (
        f"CliffDiving that are not marked as Diving too, of which it is a part in THUMOS14: 1 ({NAMES[0]} 0.2 s)"
        in told
    )
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        assert len(annotated_segments(manifest).video) == 5  # as annotated
    assert "localisation: 2 segments end after their video does, such as " in caplog.text
    manifest = dv.scan(annotations, **options, split="test")
    assert any(r.startswith("segments that do not end after they start, left out: 1 (") for r in manifest.remarks)
    assert annotated_segments(manifest).end.tolist() == [0.9]
    database = {
        NAMES[0]: {"duration": 4.0, "annotations": [{"label": "x", "segment": [0, 1]}]},
        NAMES[1]: {"duration": 1.7, "annotations": []},
    }
    (tmp_path / "b.json").write_text(json.dumps({"database": database}))
    manifest = dv.scan(tmp_path / "b.json", format="activitynet_videos", root=untrimmed, progress=False)
    told = "\n".join(manifest.remarks)
    assert "more than 1 s longer or shorter than their list says" in told and f"1 ({NAMES[0]}.mp4)" in told
    assert f"videos without annotated segments, which have no label: 1 ({NAMES[1]})" in told
    caplog.clear()
    with caplog.at_level(logging.WARNING, "dali_vidaug"):
        annotated_segments(manifest)
    assert f"localisation: 1 videos have no annotated segment, such as {untrimmed}/{NAMES[1]}.mp4" in caplog.text


def write_activitynet(path, *annotations, **facts):
    path.write_text(json.dumps({"database": {NAMES[0]: {"annotations": list(annotations), **facts}}}))
    return path


@pytest.mark.parametrize("name", ["Ambiguous", "ambiguous", " AMBIGUOUS "])
@pytest.mark.parametrize("number", [None, -1, 20])
def test_ambiguous_is_no_class_in_any_form(name, number, untrimmed, tmp_path):
    parts = [{"label": name, "segment": [0.1, 0.5]}, {"label": "Run", "segment": [0.2, 0.4]}]
    if number is not None:
        parts[0]["label_id"], parts[1]["label_id"] = number, 0
    path = write_activitynet(tmp_path / "a.json", *parts)
    options = dict(root=untrimmed, progress=False)
    videos = dv.scan(path, format="activitynet_videos", **options)
    assert videos.classes == ("Run",) and annotated_segments(videos).label.tolist() == [AMBIGUOUS, 0]
    assert dv.scan(path, format="activitynet", **options).labels.tolist() == [-1, 0]
    files = {f"{name.strip()}_val": [f"{NAMES[0]} 0.1 0.5"], "Run_val": [f"{NAMES[0]} 0.2 0.4"]}
    videos = dv.scan(write_thumos(tmp_path / "t", **files), format="thumos14_videos", **options)
    assert videos.classes == ("Run",) and sorted(annotated_segments(videos).label) == [AMBIGUOUS, 0]


def test_segments_that_are_there_twice_count_once(untrimmed, tmp_path):
    """A perfect detection has an average precision of 1; the warning names the second row."""
    options = dict(root=untrimmed, progress=False)
    files = {
        "Run_val": [f"{NAMES[0]} 0.2 0.4", f"{NAMES[0]}  0.20 0.4", f"{NAMES[0]} 0.3 0.4"],
        "Walk_val": [f"{NAMES[0]} 0.2 0.4"],
    }
    folder = write_thumos(tmp_path / "a", **files)
    part = {"label": "Run", "segment": [0.2, 0.4]}
    path = write_activitynet(
        tmp_path / "b.json", part, {**part, "label": "Walk"}, part, {**part, "segment": [0.3, 0.4]}
    )
    for place, form, where in (
        (folder, "thumos14_videos", f"{folder}/Run_val.txt, line 2"),
        (path, "activitynet_videos", f"{path}, video {NAMES[0]}, annotation 2"),
    ):
        videos = dv.scan(place, format=form, **options)
        assert f"segments that their list has already, left out: 1 ({where})" in videos.remarks
        truth = annotated_segments(videos)
        rows = zip(truth.start, truth.end, truth.label, strict=True)
        assert sorted(rows) == [(0.2, 0.4, 0), (0.2, 0.4, 1), (0.3, 0.4, 0)]
        assert mean_average_precision(truth, truth, videos.classes).mean == 1
    remarks = dv.scan(folder, format="thumos14", **options).remarks
    assert any(r.startswith("rows with the frames and label") and r.endswith(f"1 ({folder}/Run_val.txt, line 2)")
               for r in remarks)  # fmt: skip


def test_segments_without_length_give_no_label(untrimmed, tmp_path):
    files = {
        "Run_val": [f"{NAMES[0]} 0.5 0.5", f"{NAMES[1]} 0.9 0.5", f"{NAMES[1]} 0.1 0.5"],
        "Walk_val": [f"{NAMES[0]} 0.2 0.4"],
        "Sit_test": [f"{NAMES[2]} 0.2 0.2"],
    }
    folder = write_thumos(tmp_path / "a", **files)
    videos = dv.scan(folder, format="thumos14_videos", root=untrimmed, progress=False)
    rows = videos.rows("video_id").tolist()
    targets = videos.targets(range(3))
    assert [targets[rows.index(name)].tolist() for name in NAMES] == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    told = "\n".join(videos.remarks)
    assert (
        f"left out: 3 ({folder}/Sit_test.txt, line 1, {folder}/Run_val.txt, line 1, {folder}/Run_val.txt, line 2)"
        in told
    )
    assert f"videos without annotated segments, which have no label: 1 ({NAMES[2]})" in told


@pytest.mark.parametrize(
    "part, message",
    [
        ({"label": None}, "annotation 1: label must be a name, a whole number or Ambiguous, got None"),
        ({"label": " "}, "annotation 1: label must be a name, a whole number or Ambiguous, got ' '"),
        ({"label": ["Run"]}, r"annotation 1: label must be a name, .*, got \['Run'\]"),
        ({"label": True}, "annotation 1: label must be a name, .*, got True"),
        ({"label_id": True}, "annotation 1: label_id of 'Run' must be one whole number, got True"),
        ({"segment": [0, True]}, r"annotation 1: segment must be seconds, got \[0, True\]"),
    ],
)
def test_annotations_that_are_refused(part, message, untrimmed, tmp_path):
    good = {"label": "Run", "segment": [0.2, 0.4]}
    path = write_activitynet(tmp_path / "a.json", good, {**good, **part})
    with pytest.raises(ValueError, match=f"a.json, video {NAMES[0]}, {message}"):
        dv.scan(path, format="activitynet_videos", root=untrimmed, progress=False)


def test_json_that_is_refused_or_told(untrimmed, tmp_path):
    options = dict(format="activitynet_videos", root=untrimmed, progress=False)
    one = '{"annotations": [{"label": "Run", "segment": [0, 1]}]}'
    path = tmp_path / "a.json"
    for data, message in (
        (f'{{"database": {{"x": {one}, "x": {one}}}}}'.encode(), "'x' is there twice in one JSON object"),
        (b"\xff" + f'{{"database": {{"x": {one}}}}}'.encode(), 'with "database", but it is not UTF-8 text; save it'),
        (f'{{"database": {{"x": {one}}}'.encode(), 'with "database", but it is no JSON: .* line 1'),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"a.json: .*{message}"):
            dv.scan(path, **options)
    parts = [{"label": "Run", "segment": [-0.5, 1]}, {"label": "Run", "segment": [0, 1]}]
    videos = dv.scan(write_activitynet(path, *parts, subset=None, duration=True), **options)
    assert f"segments that start before their video does: 1 ({path}, video {NAMES[0]}, annotation 0)" in videos.remarks
    assert annotated_segments(videos).start.tolist() == [-0.5, 0] and "list_duration" not in videos.columns
    assert videos.rows("subset").tolist() == [""]


def test_a_label_is_refused_with_the_line_that_has_it(untrimmed, tmp_path):
    """And not with the first line of its video; where a row is a video, with the video."""
    files = {"Run_val": [f"{NAMES[0]} 0.2 0.4"], "Walk_val": [f"{NAMES[1]} 0.1 0.2", f"{NAMES[0]} 0.5 0.9"]}
    folder = write_thumos(tmp_path / "a", **files)
    (folder / "Walk_val.txt").write_text(f"\n{NAMES[0]} 0.5 0.9\n")
    for form, place in (
        ("thumos14", f"{folder}/Walk_val.txt, line 2"),
        ("thumos14_videos", f"{folder}, video {NAMES[0]}"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(place)}: label 'Walk' is not among"):
            dv.scan(folder, format=form, root=untrimmed, progress=False, classes=("Run",))


def test_lists_that_are_refused(untrimmed, tmp_path, numbered_manifest):
    options = dict(root=untrimmed, progress=False)
    with pytest.raises(ValueError, match="no annotated segments of whole videos; scan a list with format='activity"):
        annotated_segments(numbered_manifest)
    annotations = write_thumos(tmp_path / "a", **FILES)
    with pytest.raises(ValueError, match="Shotput_val.txt has the segments of one class: name its folder"):
        dv.scan(annotations / "Shotput_val.txt", format="thumos14_videos", **options)
    manifest = dv.scan(annotations, format="thumos14_videos", **options)
    with pytest.raises(ValueError, match=r"_0000001.mp4 has a segment of 'Diving', which is not among the 3 classes"):
        annotated_segments(dv.Manifest(manifest.table, ("CliffDiving", "Swimming", "Shotput"), manifest.root))
    with pytest.raises(ValueError, match="label 'CliffDiving' is not among the 2 classes .* is it 'Diving'"):
        dv.scan(annotations, format="thumos14_videos", classes=("Diving", "Shotput"), **options)
    for lines, message in (
        ([f"{NAMES[0]} 1.0"], r"Diving_val.txt, line 1: expected VIDEO START END, in seconds, got '.*1.0'"),
        ([f"{NAMES[2]} 1.0 2.0"], f"line 1: expected a video of validation, as the file is named, got {NAMES[2]}"),
    ):
        write_thumos(annotations, Diving_val=lines)
        with pytest.raises(ValueError, match=message):
            dv.scan(annotations, format="thumos14_videos", **options)
    with pytest.raises(ValueError, match="has no files CLASS_val.txt or CLASS_test.txt"):
        dv.scan(write_thumos(tmp_path / "empty"), format="thumos14", **options)


def test_seconds_count_from_the_first_frame_that_may_be_used(untrimmed, tmp_path):
    """As those of snippets do: of a video whose first 10 frames are damaged, 0.4 s earlier."""
    manifest = dv.scan(write_thumos(tmp_path / "a", **FILES), format="thumos14_videos", root=untrimmed, progress=False)
    table, row = manifest.table, manifest.rows("video_id").tolist().index(NAMES[0])
    firsts = table["first_frame"].to_numpy().copy()
    firsts[row] = 10
    table = table.set_column(table.column_names.index("first_frame"), table.field("first_frame"), [firsts])
    truth = annotated_segments(dv.Manifest(table, manifest.classes, manifest.root))
    mine = truth.take((truth.video == row) & (truth.label == 1))
    np.testing.assert_allclose([mine.start, mine.end], [[-0.2, 0.6], [0.2, 1.0]], atol=1e-9)


# ---- Snippets of a loader


def write_stamped(path, stamps, ticks):
    """A video of numbered frames whose time stamps are given, in seconds / ticks."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "24", "bf": "2", "preset": "ultrafast"})
        stream.height, stream.width = numbered_frame(0).shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, ticks)
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i), "rgb24")
            frame.pts, frame.time_base = int(stamp), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def pts_seconds(path):
    """When each frame is shown, as PyAV has it, after the first; and how long the last one is, about."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        seconds = sorted(float(frame.pts * stream.time_base) for frame in container.decode(stream))
    return np.array(seconds) - seconds[0]


RATES = {"25": 3600, "30": 3000, "29.97": 3003, "variable": None}


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    """Six seconds at each rate, as a list of THUMOS14 has them, and the time stamps that PyAV tells."""
    folder, rng = tmp_path_factory.mktemp("rates"), np.random.default_rng(5)
    lines = []
    for i, step in enumerate(RATES.values()):
        gaps = np.full(200, step) if step else rng.choice([1500, 3000, 4500, 9000], 200)
        stamps = np.cumsum(gaps) - gaps[0]
        write_stamped(folder / f"video_test_{i:07d}.mp4", stamps[stamps < 6 * 90000], 90000)
        lines.append(f"video_test_{i:07d}  {0.5 * i + 0.7:.1f} 4.1")
    annotations = write_thumos(folder / "annotation", Running_test=lines, Walking_test=["video_test_0000003 0.1 0.9"])
    manifest = dv.scan(annotations, format="thumos14_videos", root=folder, progress=False)
    return manifest, [pts_seconds(manifest.path(i)) for i in range(len(RATES))]


@pytest.mark.parametrize("grid", ["played", "near"])
def test_a_loader_gives_every_snippet_with_its_seconds_and_labels(grid, rates):
    """16 frames at 25 per second, in order, from 25, 30, 29.97 and a variable rate: the numbers that frames show are
    those that PyAV's time stamps call for; the seconds are right within half a frame; labels are those of the video."""
    manifest, times = rates
    snippets = dv.Snippets(16, 25.0, count=12, per_clip=3, grid=grid)
    truth = annotated_segments(manifest)
    seen: dict[int, list[int]] = {i: [] for i in range(len(times))}
    with dv.VideoLoader(manifest, dv.Recipe(snippets, ()), 4, shuffle=False, drop_last=False, device="cpu") as loader:
        for batch in loader:
            spans = snippets.spans(batch.plan)
            clips = batch.clips.unflatten(2, (3, 16))
            shows = snippet_targets(truth, batch.samples, spans, 2)
            for i, sample in enumerate(batch.samples.tolist()):
                expected = [1.0, 1.0] if sample == 3 else [1.0, 0.0]
                assert batch.targets[i].tolist() == expected
                for k in range(3):
                    number, start, end = spans.number[i, k], spans.start[i, k], spans.end[i, k]
                    if not spans.valid[i, k]:
                        assert number == -1 and np.isnan([start, end]).all() and not shows[i, k].any()
                        continue
                    seen[sample].append(int(number))
                    assert (start, end) == (number * 16 / 25, (number + 1) * 16 / 25)
                    frames = clips[i, :, k].permute(1, 2, 3, 0).numpy()
                    check_frames(shown_numbers(frames), start, times[sample], grid)
                    middle = (start + end) / 2
                    assert shows[i, k, 0] == (0.5 * sample + 0.7 <= middle < 4.1)
                    assert shows[i, k, 1] == (sample == 3 and 0.1 <= middle < 0.9)
    for sample, numbers in seen.items():
        length = times[sample][-1] + np.diff(times[sample]).mean()
        assert numbers == list(range(int(length / 0.64 + 1e-9))), "every snippet, in order"


def check_frames(numbers, start, times, grid):
    """Frames j of a snippet that begins at ``start`` are those that are shown at start + j / 25."""
    wanted = start + np.arange(16) / 25
    ends = np.append(times[1:], np.inf)
    for number, second in zip(numbers, wanted, strict=True):
        begins, until = times[number], min(ends[number], times[number] + 0.2)
        if grid == "played":  # it is on the screen at that second: from the middle of its time, half of that at most
            assert begins <= second + 1e-6 and second < until + 1e-6
            assert abs(second - (begins + until) / 2) <= (until - begins) / 2 + 1e-6
        else:  # the last frame whose time, to the nearest step of 1/25 s, is not later
            nearest = np.floor(times * 25 + 0.5 + 1e-6) / 25
            assert number == np.flatnonzero(nearest <= second + 1e-6)[-1]
            assert begins - second <= 0.02 + 1e-6
            assert second - begins <= 0.02 + 1e-6 or nearest[number] < second - 1e-6


def test_labels_of_snippets_by_hand(rates):
    """The middle of [0.64, 1.28) is 0.96: in a segment that begins there, not in one that ends there."""
    manifest, _ = rates
    snippets = dv.Snippets(16, 25.0, count=9)
    spans = snippets.spans(dv.draw_plan(manifest, dv.Recipe(snippets, ()), [0] * 9, views=range(9)))
    truth = segments((0, 0.96, 2.24, 1), (0, 0.1, 0.96, 0), (0, 0, 9, AMBIGUOUS), (1, 0, 9, 2))
    shows = snippet_targets(truth, [0] * 9, spans, 3)
    assert shows.shape == (9, 1, 3) and shows[:, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]] + [[0, 0, 0]] * 6


def test_joined_and_taken():
    some = segments((0, 1, 2, 0), (1, 3, 4, 1, 0.5))
    assert some.take([1]).start.tolist() == [3.0] and some.take(some.label == 0).video.tolist() == [0]
    assert [column.dtype for column in join_segments([])] == [np.int64, np.float64, np.float64, np.int64, np.float64]
    assert dataclasses.is_dataclass(average([], [(0, 0, 1, 0)]))
