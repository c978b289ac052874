"""``check_op`` finds what is wrong with an op, and has nothing to say about the ops of the package."""

from dataclasses import dataclass

import numpy as np
import pytest
from conftest import default_op

import dali_vidaug as dv
from dali_vidaug import ops

SIZES = ((48, 64), (64, 48))


def check(op, frames=4):
    dv.check_op(op, frames=frames, sizes=SIZES, device="cpu")


@dataclass(frozen=True)
class Brightness:
    """A right one; the faulty ones differ from it in one thing."""

    strength: float = 0.4

    def draw(self, draws, frames, height, width):
        args = np.zeros(len(draws), [("factor", "f4")])
        args["factor"] = self.factors(draws, height)
        return args

    def factors(self, draws, height):
        return draws.uniform("factor", 1 - self.strength, 1 + self.strength)

    def build(self, fn, clips, args):
        return fn.brightness(clips, brightness=args["factor"])


def python(function):
    """``build`` of a function of the clips."""

    def build(self, fn, clips, args):
        return fn.python_function(clips, function=function, batch_processing=True, output_layouts="FHWC")

    return build


def modify(clips):
    for clip in clips:
        clip[:] //= 2
    return [clip.copy() for clip in clips]


def subtract_batch_mean(clips):
    mean = np.mean([clip.mean() for clip in clips])
    return [(clip - mean).clip(0, 255).astype(np.uint8) for clip in clips]


def modified_labels(self, args, targets):
    targets *= 0.5
    return targets


def seeded(self, draws, height):
    np.random.seed(0)
    return np.random.rand(len(draws))


def per_size(self, draws, frames, height, width):
    return np.zeros(len(draws), [("factor", "f4"), ("rows", "f4", int(height.max()))])


def changed_sizes(self, draws, frames, height, width):
    height += 1
    return Brightness().draw(draws, frames, height, width)


FAULTY = {
    "np.random": (dict(factors=lambda self, d, h: np.random.rand(len(d))), "the generators of numpy"),
    "np.random, seeded": (dict(factors=seeded), "the generators of numpy"),
    "default_rng": (dict(factors=lambda self, d, h: np.random.default_rng().random(len(d))),
                    "something else for the same draws"),
    "default_rng, seeded": (dict(factors=lambda self, d, h: np.random.default_rng(0).random(len(d))),
                            "depends on the other clips of the batch, or on their order"),
    "mean of the batch": (dict(factors=lambda self, d, h: np.full(len(d), h.mean() / 99)), "depends on the other"),
    "normalised by the batch": (dict(factors=lambda self, d, h: d.uniform("a") / d.uniform("a").max()),
                                "depends on the other clips of the batch"),
    "dtype by size": (dict(draw=per_size), "the dtype of the arguments changes from batch to batch"),
    "dtype by epoch": (dict(draw=lambda self, d, f, h, w: np.zeros(len(d), [("x", "f4" if d.epoch % 2 else "f8")])),
                       "the dtype of the arguments changes"),
    "sizes modified": (dict(draw=changed_sizes), "draw modifies the sizes"),
    "not finite": (dict(factors=lambda self, d, h: np.full(len(d), np.inf)), "argument factor is not finite"),
    "not rows": (dict(draw=lambda self, d, f, h, w: np.zeros(len(d))), "must return None or a structured array"),
    "size not said": (dict(build=lambda self, fn, c, a: fn.resize(c, size=(20, 20))), "says so in out_frames"),
    "size of some not said": (dict(build=python(lambda clips: [c[:, : 30 + len(clips)] for c in clips])),
                              "says so in out_frames"),
    "floats": (dict(build=lambda self, fn, c, a: c / 255.0), "build must return uint8, got float32"),
    "input modified": (dict(build=python(modify)), "modifies the clips"),
    "random in build": (dict(build=lambda self, fn, c, a: fn.brightness(c, brightness=fn.random.uniform())),
                        "from run to run"),
    "clips of the batch": (dict(build=python(subtract_batch_mean)), "a clip depends on the other clips of its batch"),
    "labels modified": (dict(targets=modified_labels), "targets modifies the labels"),
    "labels of another shape": (dict(targets=lambda self, args, targets: targets[:, :1].copy()), "finite floats"),
    "repr": (dict(__repr__=lambda self: "Brightness(0.4)"), "repr"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_op_is_found_and_named(fault):
    methods, message = FAULTY[fault]
    kind = dataclass(frozen=True, repr="__repr__" not in methods)(type("Faulty", (Brightness,), methods))
    check(Brightness())
    with pytest.raises(ValueError, match=r"^check_op: Faulty:\n- ") as caught:
        check(kind())
    assert message in str(caught.value)


def test_an_op_that_is_not_frozen_is_found():
    class NotADataclass(Brightness):
        pass

    NotADataclass.__dataclass_params__ = None
    with pytest.raises(ValueError, match="it must be a frozen dataclass"):
        check(NotADataclass())


@pytest.mark.parametrize("name", [n for n in ops.__all__ if isinstance(getattr(ops, n), type)])
def test_the_ops_of_the_package_pass(name):
    if name == "OneOf":
        check(dv.OneOf((dv.CutMix(), dv.Cutout())))
    elif name in ("CenterCrop", "RandomCrop", "ThreeCrop", "FiveCrop", "TenCrop"):
        check(getattr(ops, name)(32))
    else:
        check(default_op(name))


@dataclass(frozen=True)
class RandomScale:
    """An op after which clips differ in size, so that they cannot be stacked."""

    draw = dv.ShortSideScale(20, 30).draw
    build = dv.Resize.build


@dataclass(frozen=True)
class UnsteadyScale(RandomScale):
    """One with a fault."""

    def build(self, fn, clips, args):
        return python(subtract_batch_mean)(self, fn, RandomScale.build(self, fn, clips, args), args)


def test_an_op_after_which_clips_differ_in_size():
    check(RandomScale())
    with pytest.raises(ValueError, match="a clip depends on the other clips of its batch"):
        check(UnsteadyScale())


@dataclass(frozen=True)
class Later:
    """An op on time with one fault."""

    fault: str = ""

    def retime(self, draws, frames, videos):
        if self.fault == "others":
            frames = frames[:, ::-1] if len(frames) > 1 else frames
        if self.fault == "generator":
            np.random.random()
        if self.fault == "own numbers":
            frames = frames[:, :1] + np.random.default_rng().integers(0, 2, frames.shape)
        if self.fault == "after the end":
            frames = frames + 99
        if self.fault == "other length":
            frames = frames[:, draws.epoch % 2 :]
        return frames, None


@pytest.mark.parametrize(
    "fault, message",
    [
        ("others", "retime depends on the other clips of the batch"),
        ("generator", "retime uses or seeds the generators"),
        ("own numbers", "retime returns something else for the same draws"),
        ("after the end", "is outside"),
        ("other length", "the dtype of the frames, or their number, changes"),
    ],
)
def test_faults_of_ops_on_time_are_found(fault, message):
    check(Later())
    with pytest.raises(ValueError, match=message):
        check(Later(fault))


def test_build_and_run_are_the_same():
    @dataclass(frozen=True)
    class Twice:
        """Darker at the end of a recipe, brighter elsewhere."""

        name = "Twice"

        def draw(self, draws, frames, height, width):
            return None

        def build(self, fn, clips, args):
            return fn.brightness(clips, brightness=1.2)

        def run(self, clips, rows, num_threads):
            return [clip // 2 for clip in clips]

    with pytest.raises(ValueError, match="build and run give other clips for the same plan"):
        dv.check_op(Twice(), device="cpu")
    dv.check_op(dv.LabelSmoothing(), device="cpu")
