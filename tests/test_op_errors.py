"""What goes wrong inside an op or a sampler names it, its options, what it was called for; and what draws refuse."""

from dataclasses import dataclass

import numpy as np
import pytest

import dali_vidaug as dv
from dali_vidaug.rng import Draws

METHODS = ("draw", "check", "build", "targets", "mixed_with")


@dataclass(frozen=True)
class Faulty:
    """Raises ``error`` in ``method``."""

    method: str = "draw"
    error: type = KeyError
    text: str = "x"

    def step(self, method, result):
        if method == self.method:
            raise self.error(self.text) if self.text else self.error
        return result

    def draw(self, draws, frames, height, width):
        return self.step("draw", np.ones(len(draws), [("factor", "f4")]))

    def check(self, args, frames, height, width):
        return self.step("check", None)

    def build(self, fn, clips, args):
        return self.step("build", clips)

    def targets(self, args, targets):
        return self.step("targets", targets)

    def mixed_with(self, args):
        return self.step("mixed_with", (np.zeros(len(args), int), np.ones(len(args))))


def augment(*ops):
    return dv.augment([np.zeros((4, 8, 9, 3), np.uint8)] * 2, ops, np.eye(2), samples=[5, 7], device="cpu")


PURPOSES = {
    "draw": "for 2 clips of samples 5, 7, epoch 0; frames x height x width 4x8x9",
    "check": "frames x height x width 4x8x9",
    "build": "for the arguments factor float32",
    "targets": r"for labels \(2, 2\)",
    "mixed_with": "for the partners of the clips",
}


@pytest.mark.parametrize("error", [KeyError, IndexError, ZeroDivisionError, ValueError, TypeError, AttributeError])
@pytest.mark.parametrize("method", METHODS)
def test_an_error_names_the_op_its_options_and_the_purpose(method, error):
    augment(Faulty("nothing"))
    text = rf"^Faulty_2\.{method}: {error.__name__}: '?x'? \(Faulty\(method='{method}', .*\), {PURPOSES[method]}\)$"
    with pytest.raises(dv.OpError, match=text) as caught:
        augment(Faulty("nothing"), Faulty(method, error))
    assert isinstance(caught.value.__cause__, error)  # its traceback leads to the line


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_an_error_that_begins_with_the_op_stays_as_it_is(error):
    with pytest.raises(error, match="^Faulty: factor must be 1$") as caught:
        augment(Faulty("draw", error, "Faulty: factor must be 1"))
    assert type(caught.value) is error


def test_an_error_without_words_and_an_op_that_cannot_be_printed():
    class Broken(Faulty):
        def __repr__(self):
            raise RuntimeError("no")

    with pytest.raises(dv.OpError, match=r"^Broken.draw: ZeroDivisionError \(Broken, for 2 clips"):
        augment(Broken("draw", ZeroDivisionError, ""))
    with pytest.raises(dv.OpError, match=r"\.\.\., for 2 clips") as caught:
        augment(Faulty(text="y" * 5000))
    assert len(str(caught.value)) < 5400


def test_a_missing_argument_in_build_is_named():
    @dataclass(frozen=True)
    class Typo(Faulty):
        def build(self, fn, clips, args):
            return fn.brightness(clips, brightness=args["facter"])

    with pytest.raises(
        dv.OpError, match=r"^Typo.build: KeyError: .*no argument 'facter'; there are factor.*Typo\(method="
    ):
        augment(Typo("nothing"))


@dataclass(frozen=True)
class FaultySampler:
    num_frames: int = 4
    reads: str = "hight"

    def draw(self, draws, videos):
        return getattr(videos, self.reads)[:, None] + np.arange(self.num_frames)


def test_a_sampler_and_an_op_are_named_when_a_loader_is_made(numbered_manifest):
    """At construction, before a file is read: the recipe is drawn for every frame size."""
    recipe = dv.Recipe(FaultySampler(3), (dv.Resize((8, 8)),))
    for purpose, call in (
        (r"12 clips of samples 0, 1, .*", lambda: dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu")),
        ("1 clip of sample 0", lambda: dv.draw_plan(numbered_manifest, recipe, [0])),
    ):
        text = (
            r"^FaultySampler.draw: AttributeError: .*hight.* \(FaultySampler\(num_frames=3, reads='hight'\), "
            rf"for {purpose}, epoch 0\)$"
        )
        with pytest.raises(dv.OpError, match=text):
            call()
    recipe = dv.Recipe(FaultySampler(4, "first"), (Faulty("draw"), dv.Resize((8, 8))))
    with pytest.raises(dv.OpError, match=r"^Faulty.draw: .*frames x height x width 4x\d+x\d+"):
        dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu")


# What draws offer, and refuse


def draws(size=5):
    return Draws(3, 1, np.arange(size) + 10, prefix="Mine")


@pytest.mark.parametrize("n", [None, 1, 7])
def test_limits_may_be_one_for_each_clip(n):
    """Each clip gets what it would get alone with its own limits."""
    low, high = np.array([0, 1, -3, 5, 2.5]), np.array([1, 2, 3, 5, 2])
    most = np.array([1, 2, 300, 2**32, 7])
    uniform, integers = draws().uniform("u", low, high, n=n), draws().integers("i", most, n=n)
    assert uniform.shape == integers.shape == ((5,) if n is None else (5, n))
    assert uniform.dtype == np.float64 and integers.dtype == np.int64
    for i in range(5):
        one = Draws(3, 1, [10 + i], prefix="Mine")
        assert (one.uniform("u", float(low[i]), float(high[i]), n=n)[0] == uniform[i]).all()
        assert (one.integers("i", int(most[i]), n=n)[0] == integers[i]).all()
        assert (uniform[i] >= min(low[i], high[i])).all() and (uniform[i] <= max(low[i], high[i])).all()
    assert (integers >= 0).all() and (integers.T < most).all() and draws().words("w", 3).dtype == np.uint32


def test_samples_and_views_can_be_calculated_with():
    """Unsigned numbers would wrap: 0 - 1 would be 4294967295."""
    some = Draws(0, 0, [0, 1], [0, 1])
    assert (some.samples - 1).tolist() == (some.views - 1).tolist() == [-1, 0]


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda d: d.integers("p", 0),
            r"Mine: high of draws.integers\('p'\) must be whole and in \[1, 2\*\*32\], got 0",
        ),
        (lambda d: d.integers("p", -3), "got -3"),
        (lambda d: d.integers("p", np.array([1, 2, -1, 4, 5])), "got -1"),
        (lambda d: d.integers("p", 2.5), "got 2.5"),
        (lambda d: d.integers("p", 2**32 + 1), "got 4.29497e"),
        (lambda d: d.integers("p", [1, 2]), r"must be a finite number or one for each of 5 clips, got of shape \(2,\)"),
        (lambda d: d.integers("p", 4, n=0), "Mine: n of draws for 'p' must be an int >= 1, got 0"),
        (lambda d: d.uniform("p", n=0), "must be an int >= 1, got 0"),
        (lambda d: d.words("p", 1.5), "must be an int >= 1, got 1.5"),
        (lambda d: d.uniform("p", np.nan, 1), "low of draws for 'p' must be a finite number .* got nan"),
        (lambda d: d.uniform("p", 0, np.zeros((5, 1))), r"high of draws for 'p' .* got of shape \(5, 1\)"),
    ],
)
def test_draws_refuse_what_would_give_wrong_numbers(call, message):
    with pytest.raises(ValueError, match=message):
        call(draws())
