"""Random numbers: known answers, addresses, distributions."""

import itertools

import numpy as np
import pytest
from conftest import PHILOX_ANSWERS, parse_words

from dali_vidaug.rng import Draws, philox4x32


@pytest.mark.parametrize("inputs, expected", PHILOX_ANSWERS)
def test_philox_known_answers(inputs, expected):
    *counter, k0, k1 = parse_words(inputs)
    assert philox4x32(np.array(counter, np.uint32), (k0, k1)).tolist() == parse_words(expected)


def test_neighbouring_addresses_do_not_alias():
    addresses = list(itertools.product(range(3), range(3), range(3), range(2), "ab", ("", "p", "q")))
    seen = {Draws(s, e, [i], v, prefix).words(word)[0, 0] for s, e, i, v, word, prefix in addresses}
    assert len(seen) == len(addresses)


def test_a_draw_does_not_depend_on_the_other_clips():
    many = Draws(7, 3, [5, 9, 2]).uniform("x", n=6)
    assert (Draws(7, 3, [9]).uniform("x", n=6) == many[1]).all()
    assert Draws(7, 3, [9]).uniform("x") == many[1, 0]


def test_uniform_and_integers_are_uniform_and_in_range():
    draws = Draws(1, 0, np.arange(60_000))
    values = draws.uniform("u", -2.0, 6.0)
    assert values.min() >= -2 and values.max() < 6
    for counts in (np.histogram(values, 32, (-2, 6))[0], np.bincount(draws.integers("i", 32), minlength=32)):
        chi2 = ((counts - 60_000 / 32) ** 2 / (60_000 / 32)).sum()
        assert chi2 < 70, chi2  # 31 degrees of freedom: 1 in 10,000
    assert draws.integers("j", np.array([1, 2**32])[np.arange(60_000) % 2]).max() > 2**31
    assert (draws.integers("j", 1) == 0).all()


@pytest.mark.parametrize(
    "bad",
    [
        dict(seed=-1),
        dict(seed=2**64),
        dict(epoch=2**24),
        dict(views=256),
        dict(views=[-1]),
        dict(samples=[-1]),
        dict(samples=[2**32]),
        dict(batch=2**32),
    ],
    ids=str,
)
def test_addresses_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Draws(**{"seed": 0, "epoch": 0, "samples": [0], **bad})


def test_the_clips_of_a_step_have_numbers_in_common():
    """The same for all samples, views, repeats and groups; others in another step or epoch, and than those of clips."""
    one = Draws(7, 3, [4, 5], prefix="blocks", batch=2, step=24)
    other = Draws(7, 3, [9], [1], prefix="blocks", batch=8, repeat=3, step=24)
    common = one.of_step().words("size", 8)
    assert common.shape == (1, 8) and (common == other.of_step().words("size", 8)).all() and not one.are_shared
    different = [
        one.words("size", 8), one.of_batch().words("size", 8), Draws(7, 3, [24], prefix="blocks").words("size", 8),
        Draws(7, 3, [4], prefix="blocks", step=25).of_step().words("size", 8),
        Draws(7, 4, [4], prefix="blocks", step=24).of_step().words("size", 8),
        one.named("others").of_step().words("size", 8),
    ]  # fmt: skip
    assert not any((words == common).any() for words in different)
    assert (one.part(np.array([1])).words("x", 4) == one.words("x", 4)[1:]).all()
    with pytest.raises(ValueError, match=r"^step must be in \[0, 4294967296\), got -1$"):
        Draws(0, 0, [0], step=-1)


def test_uniform_numbers_of_several_purposes_are_those_of_each():
    draws = Draws(2**63 + 5, 7, [3, 2**32 - 1], [0, 9], "op", repeat=3)
    found = draws.uniforms("a", "b", "c")
    assert found.shape == (3, 2) and (found == [draws.uniform(purpose) for purpose in "abc"]).all()
    assert (np.floor(found[1] * 2) == draws.integers("b", 2)).all()
