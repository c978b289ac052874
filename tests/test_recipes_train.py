"""A tiny network of each family learns from its recipe: one step, and the loss falls over 30 steps on 8 clips."""

import re

import numpy as np
import pytest
import torch
from recipe_facts import FACTS
from recipe_models import MODELS, loss_of

import dali_vidaug as dv
from dali_vidaug.commands.demo import make_videos
from dali_vidaug.recipes import FAMILIES

SIZE = 16  # pixels
STEPS = 30
DEFAULTS = pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)


def other_variants():
    """Each variant of each family but the first, which the default tests train."""
    cases = [(family, variant) for family in FAMILIES.values() for variant in list(family.variants)[1:]]
    return [pytest.param(family, variant, id=f"{family.name}-{variant}") for family, variant in cases]


@pytest.fixture(autouse=True)
def one_thread():
    """Such small networks are slower with several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(family, variant, manifest, size):
    """The losses of STEPS steps on one batch of all 8 videos."""
    torch.manual_seed(0)
    dataset = family.variants[variant][0]
    recipe = family.function(variant, dataset=dataset, size=size)
    facts, repeats = FACTS[family.name, variant, dataset], family.training(variant, dataset).repeats
    model = MODELS[family.name](len(manifest.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    options = dict(seed=0, device="cpu", num_threads=2, repeats=repeats)
    with dv.VideoLoader(manifest, recipe, len(manifest), **options) as loader:
        batch = next(iter(loader))
    assert len(batch) == 8 * repeats * facts.train_views
    losses = []
    for _ in range(STEPS):
        loss = loss_of(family.name, model, batch, recipe)
        optimizer.zero_grad()
        loss.backward()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer.step()
        assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        losses.append(loss.item())
    return losses


def falls(losses):
    """Whether the mean of the last steps is below that of the first ones by a fifth of it, and all are finite."""
    first, last = np.mean(losses[:3]), np.mean(losses[-6:])
    return bool(np.isfinite(losses).all() and last < 0.8 * first)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Eight videos of the demo's moving shapes, two of each of four classes."""
    folder = tmp_path_factory.mktemp("shapes")
    make_videos(folder, per_class=2)
    return dv.scan(folder, progress=False)


@DEFAULTS
def test_the_loss_falls(family, shapes):
    """Of the family's first variant, on one batch over and over."""
    losses = train(family, next(iter(family.variants)), shapes, SIZE)
    assert falls(losses), losses


def test_a_loss_that_does_not_fall_is_noticed():
    rng = np.random.default_rng(0)
    assert not falls(list(1 + 0.2 * rng.random(STEPS))) and not falls([1.0] * STEPS)
    assert falls(list(np.linspace(1, 0.5, STEPS))) and not falls([*np.linspace(1, 0.5, STEPS - 1), float("nan")])


@pytest.mark.slow
@pytest.mark.parametrize("family, variant", other_variants())
def test_the_loss_falls_for_every_variant(family, variant, shapes):
    losses = train(family, variant, shapes, SIZE)
    assert falls(losses), losses


@pytest.mark.slow
@DEFAULTS
def test_the_loss_falls_on_real_videos(family, fight_manifest):
    """Eight clips of ``fight``, four of each class."""
    rows = [np.flatnonzero(fight_manifest.labels == k)[:4] for k in range(2)]
    losses = train(family, next(iter(family.variants)), fight_manifest.select(np.concatenate(rows)), 32)
    assert falls(losses), losses


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_videos_that_are_too_short_give_clips_and_are_told_of(family, tmp_path, caplog):
    """Of 5 frames: each recipe makes clips of its length, and the loader says once that frames come more than once."""
    from dali_vidaug.media.encode import write_video
    from dali_vidaug.report import warn_once

    for i in range(2):
        frames = [np.full((32, 48, 3), 40 * j, np.uint8) for j in range(5)]
        (tmp_path / f"{i}").mkdir()
        write_video(tmp_path / f"{i}" / "v.mp4", frames, fps=30)
    manifest = dv.scan(tmp_path, progress=False)
    variant = next(iter(family.variants))
    facts = FACTS[family.name, variant, family.variants[variant][0]]
    for stage in family.stages:
        warn_once.cache_clear()
        caplog.clear()
        recipe = family.function(variant, stage=stage, dataset=family.variants[variant][0], size=SIZE)
        with dv.VideoLoader(manifest, recipe, 2, device="cpu", num_threads=1, prefetch=1, shuffle=False) as loader:
            batch = next(iter(loader))
        frames = (facts.test_frames or facts.frames) if stage == "test" else facts.frames
        assert batch.plan.frames.shape[1] == frames and 0 <= batch.plan.frames.min() <= batch.plan.frames.max() <= 4
        told = [r.message for r in caplog.records if "too short" in r.message]

        assert len(told) == (len(np.unique(batch.plan.frames[0])) < frames) and all(
            re.search("100% of the clips have frames more than once", m) for m in told
        )
