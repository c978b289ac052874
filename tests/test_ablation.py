"""benchmarks/ablation.py: its statistics against tables and arithmetic by hand, its made videos, folds; a small run."""

import json
import math
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import dali_vidaug as dv

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import ablation
import ablation_figures
import ablation_run
import ablation_shapes


@pytest.mark.parametrize("n, expected", [(1, 12.7062), (2, 4.30265), (5, 2.57058), (10, 2.22814), (30, 2.04227)])
def test_quantiles_are_those_of_the_tables(n, expected):
    """Student's t, two-sided, 95 %."""
    assert ablation_figures.quantile(0.975, n) == pytest.approx(expected, abs=1e-4)
    assert ablation_figures.student(0.0, n) == pytest.approx(0.5)
    assert ablation_figures.student(-expected, n) == pytest.approx(0.025, abs=1e-6)


def test_a_comparison_by_hand():
    """Differences 0.1, 0.2, 0.3: mean 0.2, variance 0.01; 3 folds: error = 0.1 * sqrt(1/3 + 1/2)."""
    mean, half, p = ablation_figures.compare([0.6, 0.8, 0.8], [0.5, 0.6, 0.5], 3)
    error = 0.1 * math.sqrt(1 / 3 + 1 / 2)
    assert (mean, half) == pytest.approx((0.2, 4.30265 * error), abs=1e-5)
    t = 0.2 / error
    assert p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # two degrees of freedom
    assert ablation_figures.compare([0.5, 0.5], [0.5, 0.5], 2) == (0.0, 0.0, 1.0)
    assert all(map(math.isnan, ablation_figures.compare([0.5], [0.4], 2)[1:]))


def test_holm_by_hand():
    found = ablation_figures.holm([0.04, 0.01, math.nan, 0.03])
    assert found[:2] + found[3:] == pytest.approx([0.06, 0.03, 0.06]) and math.isnan(found[2])
    assert ablation_figures.holm([0.6, 0.9]) == [1.0, 1.0]


def test_a_summary_pairs_folds_and_seeds():
    """Arms are compared with "none" of the same fold and seed, whatever the order of the runs."""
    tops = {"none": {(0, 0): 0.5, (1, 0): 0.7}, "MixUp": {(1, 0): 0.9, (0, 0): 0.6}}
    runs = [
        {"set": "shapes", "arm": arm, "fold": fold, "seed": seed, "top1": top, "loss": 1.0}
        for arm, pairs in tops.items() for (fold, seed), top in pairs.items()
    ]  # fmt: skip
    summary = ablation_figures.summarise(runs, 2)
    base, mixed = summary["shapes"]
    assert (base["top1"], mixed["top1"], mixed["difference"]) == pytest.approx((0.6, 0.75, 0.15))
    assert "| MixUp | 75.0 | +15.0 | " in ablation_figures.table(summary)
    picture = np.asarray(ablation_figures.draw(summary))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    for name, moving in (("steady", False), ("moving", True)):
        ablation_shapes.make_shapes(folder / name, 2, moving)
    return folder


def frames_of(path):
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(float)


def test_only_the_tested_videos_pan_and_drift(shapes):
    """Most pixels of a steady video stand still; in a moving one the exposure changes evenly, and the ground moves."""
    drifts = []
    for path in sorted((shapes / "steady").rglob("*.mp4")):
        steady, moving = frames_of(path), frames_of(shapes / "moving" / path.relative_to(shapes / "steady"))
        assert len(steady) == len(moving) == ablation_shapes.FRAMES
        assert np.median(np.abs(steady - steady[0])) < 4 and abs(steady[-1].mean() - steady[0].mean()) < 6
        drifts.append(moving[-1].mean() / moving[0].mean())
    assert min(drifts) < 0.8 and max(drifts) > 1.25


def test_folds_are_even_and_stay(shapes):
    manifest = dv.scan(shapes / "steady", progress=False)
    fold = ablation.fold_of(manifest, 2)
    labels = np.asarray(manifest.labels)
    for label in range(4):
        assert np.bincount(fold[labels == label]).tolist() == [1, 1]
    order = np.random.default_rng(0).permutation(len(manifest))
    assert np.array_equal(ablation.fold_of(manifest.select(order), 2), fold[order])


def test_every_arm_is_a_recipe_with_the_same_crops():
    """Frames, crops and flips of a seed are the same for all arms but the guide's."""
    manifest_rows = {arm: ablation.recipe_of(arm, 32, 4) for arm in ablation.ARMS}
    for arm, recipe in manifest_rows.items():
        assert dv.Recipe.parse(repr(recipe)) == recipe
        if arm != "guide":
            assert recipe.ops[:2] == manifest_rows["none"].ops[:2] and recipe.sampling == manifest_rows["none"].sampling


def test_a_run_repeats_itself(shapes):
    """The same job gives the same loss and answers; another arm has the same initial weights and batches."""
    steady = dv.scan(shapes / "steady", progress=False)
    job = {"recipe": repr(ablation.recipe_of("MixUp", 32, 4)), "seed": 3, "epochs": 2}
    threads = torch.get_num_threads()
    try:
        one, two = (ablation_run.one_run(job, steady, steady) for _ in range(2))
    finally:
        torch.set_num_threads(threads)
    assert (one["loss"], one["right"]) == (two["loss"], two["right"])
    assert one["top1"] == sum(one["right"]) / 8 and len(one["right"]) == 8


@pytest.mark.slow
def test_a_small_run_goes_on(shapes, tmp_path, capsys):
    """All of the program; a second call does nothing again, and a run that was lost is done again."""
    arguments = [str(shapes / "steady"), "--output", str(tmp_path), "--shapes", "2", "--folds", "2", "--seeds", "1",
                 "--epochs", "1", "--frames", "4", "--size", "32", "--arms", "MixUp", "--processes", "1"]  # fmt: skip
    ablation.main(arguments)
    first = capsys.readouterr().out
    assert "8 runs (8 of them now" in first and first.count("| MixUp |") == 2
    log = tmp_path / "runs.jsonl"
    lines = log.read_text().splitlines()
    assert len(lines) == 8 and (tmp_path / "ablation.png").stat().st_size > 1000
    log.write_text("\n".join(lines[:-1]) + "\n")
    ablation.main(arguments)
    second = capsys.readouterr().out
    assert "8 runs (1 of them now" in second
    assert second[second.index("\n") :] == first[first.index("\n") :]
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["right"] == json.loads(lines[-1])["right"]
