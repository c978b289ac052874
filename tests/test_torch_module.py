"""TorchModule and modules between frames: what they get, what becomes of it, and what is refused."""

import copy
import pickle
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import REALTIME_VP9, noise_clips, write_numbered

import dali_vidaug as dv
from dali_vidaug.drawing import draw_ops
from dali_vidaug.ops import module_call, registry
from dali_vidaug.ops.interpolate import decoded_frames, interpolate_rows

SHAPES = [(1, 1, 1), (3, 5, 7), (4, 17, 23), (2, 8, 64)]  # the last ones have all values


@pytest.fixture(autouse=True)
def no_modules(monkeypatch):
    """Each test registers its own."""
    monkeypatch.setattr(registry, "_MODULES", {})


def convolution(seed=0):
    """Convolutions in time and space, with dropout and statistics that only training would change."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv3d(3, 4, 3, padding=1), torch.nn.BatchNorm3d(4), torch.nn.ReLU(), torch.nn.Dropout(0.5),
        torch.nn.Conv3d(4, 3, 1), torch.nn.Sigmoid(),
    )  # fmt: skip


def augment(clips, *ops, **options):
    return dv.augment(clips, ops, layout="FHWC", device="cpu", **options)


def seen_by(module, clips, *ops, **options):
    """What a module is called with, as a list of (clips, keywords)."""
    calls = []

    def spy(given, **drawn):
        calls.append((given.clone(), {name: value.clone() for name, value in drawn.items()}))
        return given if module is None else module(given)

    dv.register_module("spy", spy)
    batch = augment(clips, *ops, **options)
    return calls, batch


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("per", ["clip", "frame", "batch"])
def test_a_module_that_changes_nothing_changes_nothing(per, dtype):
    """Every value of every size survives the way to floats and back."""
    for seed, shape in enumerate(SHAPES):
        clips = noise_clips(*[shape] * 3, seed=seed)
        calls, batch = seen_by(None, clips, dv.TorchModule("spy", per=per, dtype=dtype))
        assert (batch.clips.numpy() == np.stack(clips)).all()
        frames, height, width = shape
        wanted = {"clip": [(1, 3, *shape)] * 3, "batch": [(3, 3, *shape)], "frame": [(frames, 3, height, width)] * 3}
        assert [tuple(given.shape) for given, _ in calls] == wanted[per]
        for given, _ in calls:
            assert str(given.dtype) == f"torch.{dtype}" and given.is_contiguous()


@pytest.mark.parametrize("per", ["clip", "frame", "batch"])
def test_a_network_gets_each_clip_as_floats_and_its_result_becomes_bytes(per):
    """Compared with the network applied by hand to the same numbers."""
    network = convolution() if per != "frame" else torch.nn.Conv2d(3, 3, 3, padding=1)
    dv.register_module("net", network)
    clips = noise_clips(*[(4, 17, 23)] * 3)
    batch = augment(clips, dv.TorchModule("net", per=per))
    given = torch.from_numpy(np.stack(clips)).float().permute(0, 4, 1, 2, 3) / 255
    with torch.no_grad():
        if per == "frame":
            made = torch.stack([network(clip.transpose(0, 1)).transpose(0, 1) for clip in given])
        else:
            made = network(given)
    expected = (255 * made + 0.5).clamp(0, 255).floor().permute(0, 2, 3, 4, 1)
    assert (batch.clips - expected).abs().max() <= 1  # of one clip and of three: sums in another order
    assert (batch.clips == expected).float().mean() > 0.999 and batch.clips.dtype == torch.uint8


def test_values_are_rounded_half_up_and_clamped():
    levels = torch.tensor([-200.0, -0.6, 0.49, 0.5, 1.5, 254.49, 254.5, 255.4, 400.0]) / 255
    dv.register_module("levels", lambda clips: levels.expand_as(clips).clone())
    batch = augment([np.zeros((1, 1, 9, 3), np.uint8)], dv.TorchModule("levels"))
    assert batch.clips[0, 0, 0, :, 1].tolist() == [0, 0, 0, 1, 2, 254, 255, 255, 255]


def test_ops_after_it_and_clips_of_several_sizes():
    dv.register_module("invert", lambda clips: 255 - clips)
    clips = noise_clips((2, 20, 30), (3, 18, 19), (2, 40, 16))
    ops = (dv.TorchModule("invert", dtype="uint8"), dv.CenterCrop(16))
    batch = dv.augment([clip[:2] for clip in clips], ops, layout="FHWC", device="cpu")
    plain = dv.augment([clip[:2] for clip in clips], ops[1:], layout="FHWC", device="cpu")
    assert (batch.clips == 255 - plain.clips).all()
    normalised = augment([clips[0]], dv.TorchModule("invert", dtype="uint8"), dv.Normalize())
    assert torch.equal(normalised.clips, augment([255 - clips[0]], dv.Normalize()).clips)


def test_what_is_drawn_reaches_its_clip():
    """Clip i gets row i, also where only some clips get the module."""
    op = dv.TorchModule("spy", arguments=(("a", -3.0, 5.0), ("b", 0.0, 1.0)), noise=5, num_classes=7, probability=0.6)
    clips = noise_clips(*[(3, 4, 5)] * 40)
    calls, batch = seen_by(None, clips, op, seed=3)
    rows = batch.plan.args["spy"]
    todo = np.flatnonzero(rows["applied"])
    assert 10 < len(todo) == len(calls) < 36
    for i, (given, drawn) in zip(todo, calls, strict=True):
        assert torch.equal(given[0], torch.from_numpy(clips[i]).permute(3, 0, 1, 2) / 255)
        assert set(drawn) == {"a", "b", "noise", "labels"}
        assert drawn["a"].shape == drawn["b"].shape == (1, 3) and drawn["a"].dtype == torch.float32
        assert (drawn["a"].numpy() == rows["value"][i, 0]).all() and (drawn["b"].numpy() == rows["value"][i, 1]).all()
        assert (drawn["noise"].numpy() == rows["noise"][i]).all() and drawn["noise"].shape == (1, 5)
        assert drawn["labels"].tolist() == [rows["label"][i]] and drawn["labels"].dtype == torch.int64


@pytest.mark.parametrize("per, values, others", [("frame", (3,), (3,)), ("batch", (4, 3), (4,))])
def test_what_is_drawn_has_the_shape_of_the_call(per, values, others):
    op = dv.TorchModule("spy", per=per, arguments=(("a", 0.0, 1.0),), noise=5, num_classes=7, ramp="temporal")
    calls, batch = seen_by(None, noise_clips(*[(3, 4, 5)] * 4), op)
    for i, (_, drawn) in enumerate(calls):
        assert drawn["a"].shape == values and drawn["noise"].shape == (*others, 5) and drawn["labels"].shape == others
        rows = batch.plan.args["spy"][i : i + 1] if per == "frame" else batch.plan.args["spy"]
        assert (drawn["a"].numpy().reshape(-1, 3) == rows["value"][:, 0]).all()
        assert len(np.unique(rows["value"][0, 0])) == 3  # it ramps


def test_partners_are_other_clips_of_the_batch():
    clips = noise_clips(*[(2, 4, 5)] * 6)
    for per in ("clip", "batch"):
        calls, batch = seen_by(None, clips, dv.TorchModule("spy", per=per, partner=True))
        partners = batch.plan.args["spy"]["partner"]
        assert sorted(partners) == list(range(6)) and (partners != np.arange(6)).all()
        got = torch.cat([drawn["partners"] for _, drawn in calls])
        assert torch.equal(got, torch.from_numpy(np.stack([clips[i] for i in partners])).permute(0, 4, 1, 2, 3) / 255)
        assert f"partner: clip {partners[2]} of the batch (sample {partners[2]})" in batch.describe(2)
    calls, batch = seen_by(None, clips[:1], dv.TorchModule("spy", partner=True))
    assert not calls and not batch.plan.args["spy"]["applied"].any()


def test_partners_stay_within_their_repeat(numbered_manifest):
    dv.register_module("partner", lambda clips, partners: partners)
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((8, 8)), dv.TorchModule("partner", partner=True)))
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu", repeats=3) as loader:
        batch = next(iter(loader))
    partner = batch.plan.args["partner"]["partner"]
    assert (batch.plan.repeat_index[partner] == batch.plan.repeat_index).all()
    assert (batch.plan.samples[partner] != batch.plan.samples).all()


def test_draws_depend_on_their_own_address_alone():
    op = dv.TorchModule("x", arguments=(("a", 0.0, 1.0), ("b", 0.0, 1.0)), noise=3, num_classes=9, probability=0.5)

    def draw(samples):
        return draw_ops(dv.Recipe(ops=(op,)), dv.Draws(1, 2, samples), 4, 8, 8).args["x"]

    rows = draw(np.arange(20000))
    assert (draw([7, 3]) == rows[[7, 3]]).all()
    assert abs(rows["applied"].mean() - 0.5) < 5 * 0.5 / 20000**0.5
    noise = rows["noise"].ravel()
    assert abs(noise.mean()) < 5 / len(noise) ** 0.5 and abs(noise.var() - 1) < 5 * (2 / len(noise)) ** 0.5
    assert abs((noise > 1).mean() - 0.158655) < 5 * (0.158655 / len(noise)) ** 0.5
    assert abs(np.corrcoef(rows["noise"].T) - np.eye(3)).max() < 5 / 20000**0.5
    assert set(rows["label"]) == set(range(9)) and (rows["value"][:, 0] != rows["value"][:, 1]).any()


def test_labels_of_clips_that_are_made_are_those_that_were_drawn():
    dv.register_module("make", lambda clips, labels: torch.ones_like(clips) * labels[0] / 255)
    clips, op = noise_clips(*[(2, 3, 4)] * 20), dv.TorchModule("make", num_classes=5, probability=0.5)
    labels = np.eye(5)[np.arange(20) % 5] * 0.9 + 0.02
    batch = augment(clips, op, targets=labels)
    made = batch.plan.args["make"]["applied"] != 0
    assert 3 < made.sum() < 17
    for i in range(20):
        if made[i]:
            assert batch.clips[i].unique().tolist() == [batch.targets[i].argmax()] and batch.targets[i].max() == 1
        else:
            assert (batch.clips[i].numpy() == clips[i]).all()
            np.testing.assert_allclose(batch.targets[i], labels[i], atol=1e-6)
    with pytest.raises(ValueError, match="num_classes must be that of the labels, 4, got 5"):
        augment(clips, op, targets=np.eye(4)[np.zeros(20, int)])
    assert augment(clips, op).targets.shape == (20, 0)


class Style(torch.nn.Module):
    """Does what it is told to do wrong."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def forward(self, clips):
        return self.wrong(clips)


def raises(clips):
    raise IndexError("index 9 is out of bounds")


def one_bad_value(value):
    def change(clips):
        clips = clips.clone()
        clips[0, 2, 1, 3, 4] = value
        return clips

    return change


BAD = {
    "dtype": (lambda c: c.double(), r"must return dtype torch.float32, got torch.float64"),
    "half": (lambda c: c.half(), r"must return dtype torch.float32, got torch.float16"),
    "bytes": (lambda c: (c * 255).byte(), r"must return dtype torch.float32, got torch.uint8"),
    "size": (lambda c: c[..., :-1], r"must return shape \(1, 3, 2, 6, 7\), got \(1, 3, 2, 6, 6\)"),
    "frames": (lambda c: c[:, :, :1], r"must return shape \(1, 3, 2, 6, 7\), got \(1, 3, 1, 6, 7\)"),
    "no batch": (lambda c: c[0], r"must return shape \(1, 3, 2, 6, 7\), got \(3, 2, 6, 7\)"),
    "device": (lambda c: c.to("meta"), r"must return device cpu, got meta"),
    "several": (lambda c: (c, c), "must return a tensor, got tuple"),
    "nothing": (lambda c: None, "must return a tensor, got NoneType"),
    "array": (lambda c: c.numpy(), "must return a tensor, got ndarray"),
    "layout": (lambda c: c.to_sparse(), "must return layout torch.strided, got torch.sparse_coo"),
    "exits": (lambda c: sys.exit(3), "failed on clip 1: SystemExit: 3"),
    "raises": (raises, "failed on clip 1: IndexError: index 9 is out of bounds"),
    "nan": (one_bad_value(np.nan), r"must return values in \[0, 1\], got nan at \[0, 2, 1, 3, 4\] of \[1, 3, 2"),
    "inf": (one_bad_value(np.inf), r"must return values in \[0, 1\], got inf at \[0, 2, 1, 3, 4\]"),
    "range": (lambda c: 255 * c, r"must return values in \[0, 1\], got \d+ at .* clamped only within \[-1, 2\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_module_names_itself_the_clip_and_the_value(name):
    """Only the second clip goes wrong."""
    wrong, message = BAD[name]
    clips = noise_clips(*[(2, 6, 7)] * 3)
    clips[1][0, 0, 0] = 77
    network = Style(lambda c: wrong(c) if abs(c[0, 0, 0, 0, 0] * 255 - 77) < 0.1 and c.mean() else c)
    for i in (0, 2):
        clips[i][0, 0, 0] = 5
    dv.register_module("style", network)
    with pytest.raises(dv.OpError, match=rf"^style: TorchModule: module 'style' \(Style\) {message}") as caught:
        augment(clips, dv.TorchModule("style"), samples=[11, 12, 13], epoch=4)
    assert "clip 1" in str(caught.value) and "samples 11, 12, 13 of epoch 4" in str(caught.value)
    assert caught.value.__cause__ is not None
    augment(clips[:1], dv.TorchModule("style"))  # the next batch is as if nothing had been


def test_the_exception_of_a_module_is_the_cause():
    dv.register_module("style", Style(raises))
    with pytest.raises(dv.OpError) as caught:
        augment(noise_clips((1, 4, 4)), dv.TorchModule("style"))
    assert isinstance(caught.value.__cause__.__cause__, IndexError)  # whose traceback leads to the line


def test_a_network_in_training_mode_is_refused():
    """Dropout would make another batch of the same plan."""
    network = dv.register_module("net", convolution().train())
    assert not any(part.training for part in network.modules())  # registering has called eval()
    clips = noise_clips((2, 6, 7))
    first = augment(clips, dv.TorchModule("net")).clips
    assert torch.equal(augment(clips, dv.TorchModule("net")).clips, first)
    network[3].train()
    with pytest.raises(dv.OpError, match=r"'net' \(Sequential\) is in training mode"):
        augment(clips, dv.TorchModule("net"))
    dv.register_module("net", lambda c: network(c))  # what is called within a function is its own affair
    augment(clips, dv.TorchModule("net"))


def test_no_gradients_and_inputs_that_may_be_changed():
    recorded = []

    def greedy(clips):
        recorded.append((clips.requires_grad, torch.is_grad_enabled()))
        return clips.mul_(0)

    dv.register_module("greedy", greedy)
    clips = noise_clips(*[(2, 4, 4)] * 2)
    given = [clip.copy() for clip in clips]
    for dtype in ("float32", "uint8"):
        assert not augment(clips, dv.TorchModule("greedy", dtype=dtype)).clips.any()
    assert recorded == [(False, False)] * 4 and all((a == b).all() for a, b in zip(clips, given, strict=True))


def test_a_module_that_is_not_registered(numbered_manifest, tmp_path):
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((8, 8)), dv.TorchModule("style")))
    message = r"TorchModule: no module is registered as 'style' .* has none; dv.register_module\('style', module\)"
    with pytest.raises(ValueError, match=message):
        dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu")
    with pytest.raises(ValueError, match=message):
        augment(noise_clips((2, 8, 8)), recipe.ops[1])
    plan = dv.draw_plan(numbered_manifest, recipe, [1, 2])  # a plan needs no network
    plan.save(tmp_path / "plan.json")
    plan = dv.Plan.load(tmp_path / "plan.json")
    dv.register_module("other", lambda clips: clips)
    with dv.VideoLoader(numbered_manifest, dv.Recipe(recipe.sampling, recipe.ops[:1]), 2, device="cpu") as loader:
        with pytest.raises(ValueError, match=r"no module is registered as 'style' .* has other;"):
            loader.apply(plan)
        dv.register_module("style", lambda clips: 1 - clips)
        plain = loader.apply(dv.draw_plan(numbered_manifest, loader.recipe, [1, 2]))
        assert (loader.apply(plan).clips == 255 - plain.clips).all()


def test_a_recipe_is_printed_read_and_pickled_by_the_name_of_its_modules(numbered_manifest):
    op = dv.TorchModule("style", "frame", "uint8", [("a", 0, np.float32(0.5))], 3, True, 4, "mix", 0.25)
    style, between = dv.TorchModule("style"), dv.FrameInterpolation("module", module="flow")
    recipe = dv.Recipe(ops=(between, dv.Resize((8, 8)), op, style))
    assert "TorchModule(name='style', per='frame', dtype='uint8', arguments=(('a', 0, 0.5),), noise=3" in repr(recipe)
    written = eval(repr(recipe), vars(dv).copy())
    for other in (dv.Recipe.parse(repr(recipe)), pickle.loads(pickle.dumps(recipe)), written):
        assert other == recipe and hash(other.ops[2]) == hash(op)
    assert recipe.names == ["FrameInterpolation", "Resize", "style", "style_2"]
    dv.register_module("style", lambda clips: clips)
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((8, 8)), style))
    loader = dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu")
    with loader, copy.deepcopy(loader) as other, pickle.loads(pickle.dumps(loader)) as third:
        clips = [next(iter(one)).clips for one in (loader, other, third)]
    assert torch.equal(clips[0], clips[1]) and torch.equal(clips[0], clips[2])


def style_recipe():
    op = dv.TorchModule("net", arguments=(("strength", 0.0, 1.0),), partner=True, ramp="temporal+", probability=0.7)
    ops = (dv.SpeedRamp(), dv.FrameInterpolation("module", module="middle"), dv.RandomResizedCrop(24), op, dv.CutMix())
    return dv.Recipe(dv.ClipSampling(4), (*ops, dv.Normalize()))


class Mixing(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = convolution()

    def forward(self, clips, partners, strength):
        strength = strength[:, None, :, None, None]
        return (1 - strength) * clips + strength * self.network(partners)


def register_both():
    dv.register_module("net", Mixing())
    dv.register_module("middle", lambda first, last, times: first.lerp(last, times.view(-1, 1, 1, 1)))


def test_batches_are_the_same_for_any_number_of_threads_and_after_resuming(numbered_manifest):
    register_both()
    whole: list = []
    for options in (dict(num_threads=1), dict(num_threads=3, prefetch=3), dict(workers=1)):
        with dv.VideoLoader(numbered_manifest, style_recipe(), 4, seed=5, device="cpu", **options) as loader:
            batches = [batch for _ in range(2) for batch in loader]
        if whole:
            for one, other in zip(whole, batches, strict=True):
                assert torch.equal(one.clips, other.clips) and torch.equal(one.targets, other.targets)
        whole = batches
    with dv.VideoLoader(numbered_manifest, style_recipe(), 4, seed=5, device="cpu") as loader:
        rest, following = iter(loader), []
        next(rest), next(rest)
        state = pickle.loads(pickle.dumps(loader.state_dict()))
    register_both()  # as in a new process
    with dv.VideoLoader(numbered_manifest, style_recipe(), 4, seed=5, device="cpu") as loader:
        loader.load_state_dict(state)
        following = [*loader, *loader]
    assert len(following) == len(whole) - 2
    for one, other in zip(whole[2:], following, strict=True):
        assert torch.equal(one.clips, other.clips) and torch.equal(one.targets, other.targets)


def test_a_state_is_of_the_same_networks(numbered_manifest):
    """Other weights would make other batches."""
    register_both()
    with dv.VideoLoader(numbered_manifest, style_recipe(), 4, device="cpu") as loader:
        state = loader.state_dict()
        network = Mixing()
        with torch.no_grad():
            network.network[0].weight[1, 2, 0, 0, 0] += 1e-3
        for other in (network, convolution()):
            dv.register_module("net", other)
            with pytest.raises(ValueError, match=r"modules is \{'FrameInterpol.*lambda.*'net': '.*'\}, the state's"):
                loader.load_state_dict(state)
        register_both()
        loader.load_state_dict(state)
    plain = dv.Recipe(dv.ClipSampling(2), (dv.Resize((8, 8)),))
    with dv.VideoLoader(numbered_manifest, plain, 2, device="cpu") as loader:
        assert "modules" not in loader.state_dict()


def test_a_saved_plan_makes_the_same_batch(numbered_manifest, tmp_path):
    register_both()
    with dv.VideoLoader(numbered_manifest, style_recipe(), 4, device="cpu") as loader:
        batch = next(iter(loader))
        batch.plan.save(tmp_path / "plan.json")
        assert torch.equal(loader.apply(dv.Plan.load(tmp_path / "plan.json")).clips, batch.clips)
        plan = dv.Plan.load(tmp_path / "plan.json")
        plan.args["net"]["applied"][:] = 0
        plan.args["CutMix"]["inside"] = 0
        assert not torch.equal(loader.apply(plan).clips, batch.clips)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("partner", 9, r"partner of row 1 must be in \[0, 3\), got 9"),
        ("partner", -1, "partner of row 1 must be"),
        ("label", 4, r"label of row 1 must be in \[0, 4\), got 4"),
        ("noise", np.nan, "noise of row 1 must be finite"),
        ("value", np.inf, "value of row 1 must be finite"),
        ("num_values", 2, "arguments must be"),
    ],
)
def test_edited_plans_are_checked(field, value, message):
    op = dv.TorchModule("x", arguments=(("a", 0.0, 1.0),), noise=2, partner=True, num_classes=4)
    rows = draw_ops(dv.Recipe(ops=(op,)), dv.Draws(0, 0, range(3)), 4, 8, 8).args["x"]
    sizes = np.full((3, 3), [4, 8, 8]).T
    op.check(rows, *sizes)
    rows[field][1] = value
    with pytest.raises(ValueError, match=f"TorchModule: {message}"):
        op.check(rows, *sizes)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(name="no name"), "name must be an identifier, such as 'style', got 'no name'"),
        (dict(name=len), "name must be an identifier"),
        (dict(per="video"), "per must be one of 'clip', 'frame', 'batch', got 'video'"),
        (dict(dtype="float16"), "dtype must be one of"),
        (dict(arguments=("a", 0, 1)), r"arguments must be \(name, low, high\), ..., got \('a', 0, 1\)"),
        (dict(arguments=(("a", 1, 0),)), "argument a must have low <= high, finite, got"),
        (dict(arguments=(("a", 0, np.inf),)), "argument a must have low <= high, finite"),
        (dict(arguments=(("a", -1, 0),), ramp="mix"), "argument a must .*, finite, not below 0 with a ramp"),
        (dict(arguments=(("a", 0, 1), ("a", 0, 2))), "names of arguments must differ, also from partners"),
        (dict(arguments=(("noise", 0, 1),)), "names of arguments must differ"),
        (dict(noise=-1), r"noise must be an int in \[0, 65536\], got -1"),
        (dict(noise=1.5), "noise must be an int"),
        (dict(num_classes=True), "num_classes must be an int"),
        (dict(partner=1), "partner must be True or False, got 1"),
        (dict(moves_pixels=0), "moves_pixels must be True or False, got 0"),
        (dict(ramp="linear"), "ramp must be one of"),
        (dict(probability=2), r"probability must be in \[0, 1\]"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"TorchModule: {message}"):
        dv.TorchModule(**{"name": "x", **options})


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("1st", len), "name must be an identifier"),
        ((None, len), "name must be an identifier"),
        (("x", 3), "module must be an nn.Module or a function, got 3"),
        (("x", Style), r"module must not be a class, got .*: write Style\(...\)"),
    ],
)
def test_what_cannot_be_registered(arguments, message):
    with pytest.raises(ValueError, match=f"register_module: {message}"):
        dv.register_module(*arguments)


def test_clips_of_several_sizes_cannot_be_one_batch():
    dv.register_module("net", lambda clips: clips)
    message = r"with per='batch' the clips of a batch must be of one size, got 2x4x4 and 2x5x4"
    with pytest.raises(ValueError, match=message):
        augment(noise_clips((2, 4, 4), (2, 5, 4)), dv.TorchModule("net", per="batch"), dv.Resize((4, 4)))


def test_random_apply_leaves_a_module_its_own_probability():
    with pytest.raises(ValueError, match="RandomApply: op must be one .* give it a probability of its own"):
        dv.RandomApply(dv.TorchModule("net"))


@pytest.mark.parametrize("decoder", ["dali", "hybrid"])
def test_a_module_that_fails_is_not_taken_for_clips_that_cannot_be_decoded(decoder, tmp_path):
    """DALI's error would be the same RuntimeError: with on_error="replace", clip after clip would be tried."""
    for i in range(6):
        write_numbered(tmp_path / "a" / f"{i}.webm", 12, **REALTIME_VP9)
    dv.register_module("style", Style(raises))
    ops = (dv.Resize((16, 16)), dv.TorchModule("style"), dv.RandomVerticalFlip())  # in DALI's graph
    recipe = dv.Recipe(dv.ClipSampling(2), ops)
    with dv.VideoLoader(dv.scan(tmp_path, progress=False), recipe, 2, device="cpu", decoder=decoder) as loader:
        with pytest.raises(dv.OpError, match=r"style: TorchModule: module 'style' \(Style\) failed on clip 0"):
            next(iter(loader))
        assert not loader.report().bad and not loader.report().fallbacks


class OnGpu:
    """As much of an array of CuPy as the package uses, in memory of the CPU."""

    def __init__(self, array):
        self.tensor = torch.as_tensor(array)
        self.shape, self.data = tuple(self.tensor.shape), SimpleNamespace(device_id=1)

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__()

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()

    def __len__(self):
        return len(self.tensor)

    def __getitem__(self, part):
        return OnGpu(self.tensor[part])


@pytest.fixture
def streams(monkeypatch):
    """Stands in for CuPy and for torch's streams; the address and the GPU of each stream that torch works on."""
    used: list = []
    cupy = SimpleNamespace(
        cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=0x5000)),
        from_dlpack=lambda tensor: OnGpu(torch.from_dlpack(tensor)),
        stack=lambda arrays: OnGpu(torch.stack([array.tensor for array in arrays])),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda address, device: used.append((address, device)))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    return used


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("per", ["clip", "frame", "batch"])
def test_arrays_of_a_gpu_take_the_same_way(per, dtype, streams):
    """Byte for byte what arrays of the CPU become, and on DALI's stream."""

    def mean(clips, a, partners, labels):
        if dtype == "uint8":
            return clips // 2 + partners // 2
        share = a.reshape(len(clips), -1).mean(1)
        return clips + (partners - clips) * share.reshape(-1, *[1] * (clips.ndim - 1))

    dv.register_module("mean", mean)
    op = dv.TorchModule("mean", per, dtype, (("a", 0.0, 1.0),), partner=True, num_classes=3, probability=0.7)
    clips = noise_clips(*[(3, 5, 7)] * 6)
    rows = draw_ops(dv.Recipe(ops=(op,)), dv.Draws(2, 0, range(6)), 3, 5, 7).args["mean"]
    rows = list(rows.view(np.uint8).reshape(6, -1))
    called = module_call.Module("TorchModule", "mean")
    expected = module_call.run_module(op, called, clips, rows)
    made = module_call.run_module(op, called, [OnGpu(clip) for clip in clips], [OnGpu(row) for row in rows])
    assert any((out != clip).any() for out, clip in zip(expected, clips, strict=True))
    for out, wanted in zip(made, expected, strict=True):
        assert out.tensor.dtype == torch.uint8 and (out.tensor.numpy() == wanted).all()
    assert streams == [(0x5000, 1)]


def test_frames_on_a_gpu_take_the_same_way(streams):
    dv.register_module("blend", lambda first, last, times: first + (last - first) * times.view(-1, 1, 1, 1))
    clips, positions = noise_clips((6, 5, 7), (6, 5, 7)), np.array([[0, 0.25, 0.75, 3, 4.5], [5, 4, 3.1, 3.1, 0.5]])
    taken = [clip[decoded_frames(p)] for clip, p in zip(clips, positions, strict=True)]
    rows = interpolate_rows(positions)
    called, options = module_call.Module("FrameInterpolation", "blend"), (rows.dtype, 32768)
    expected = module_call.interpolate_by(called, taken, rows, *options)
    given = [OnGpu(row) for row in rows.view(np.uint8).reshape(2, -1)]
    made = module_call.interpolate_by(called, [OnGpu(clip) for clip in taken], given, *options)
    for out, wanted in zip(made, expected, strict=True):
        assert (out.tensor.numpy() == wanted).all()
    assert streams == [(0x5000, 1)]


def test_a_network_elsewhere_is_copied_to_the_clips():
    """The "meta" device stands for another one: what is on it has no values."""
    network = dv.register_module("net", convolution())
    placed = module_call.Module("TorchModule", "net")
    assert placed._on(torch.device("cpu")) is network
    other = placed._on(torch.device("meta"))
    assert other is not network and {p.device.type for p in other.parameters()} == {"meta"}
    assert placed._on(torch.device("meta")) is other and {p.device.type for p in network.parameters()} == {"cpu"}


# Between two frames


def between(clip, positions, module, **options):
    """What a module makes of a video at positions, through the graph."""

    class Place:
        """Takes the positions."""

        def __repr__(self):
            return "Place()"

        def retime(self, draws, frames, videos):
            return np.broadcast_to(np.asarray(positions, np.float64), (len(frames), len(positions))), None

    dv.register_module("middle", module)
    ops = (Place(), dv.FrameInterpolation("module", module="middle"))
    return augment([clip], *ops, **options).clips.numpy()[0]


def test_a_module_gets_the_two_frames_and_all_times_between_them():
    (clip,) = noise_clips((6, 4, 5))
    calls = []

    def module(first, last, times):
        calls.append((first, last, times.tolist()))
        return times.view(-1, 1, 1, 1).expand(-1, 3, 4, 5)

    made = between(clip, [0, 2.75, 2.25, 2.25, 3, 4.5, 5], module)
    given = torch.from_numpy(clip).permute(0, 3, 1, 2) / 255
    assert [times for *_, times in calls] == [[0.25, 0.75], [0.5]]
    for (first, last, _), t in zip(calls, (2, 4), strict=True):
        assert torch.equal(first[0], given[t]) and torch.equal(last[0], given[t + 1]) and first.shape == (1, 3, 4, 5)
    assert (made[[0, 4, 6]] == clip[[0, 3, 5]]).all()  # whole positions are frames of the video
    assert [np.unique(made[k]).tolist() for k in (1, 2, 3, 5)] == [[191], [64], [64], [128]]


def test_a_module_that_blends_is_the_kernel_that_blends():
    """Within half a level: weights in steps of 1/32768, and floats."""
    (clip,) = noise_clips((9, 17, 23))
    positions = np.random.default_rng(0).uniform(0, 8, 20)
    positions[:3] = 1 - 1e-6, 1e-7, 2.5
    blend = between(clip, positions, lambda first, last, times: first.lerp(last, times.view(-1, 1, 1, 1)))
    exact = clip[np.floor(positions).astype(int)] * (1 - positions % 1)[:, None, None, None]
    exact += clip[np.ceil(positions).astype(int)] * (positions % 1)[:, None, None, None]
    assert np.abs(blend - exact).max() <= 0.51


def test_the_last_op_on_interpolation_counts():
    (clip,) = noise_clips((9, 4, 5))
    dv.register_module("black", lambda first, last, times: torch.zeros(len(times), *first.shape[1:]))
    ramp, module = dv.SpeedRamp((4.0, 4.0)), dv.FrameInterpolation("module", module="black")
    frames = [augment([clip], ramp, *ops).clips.numpy() for ops in ((module,), (module, dv.FrameInterpolation()), ())]
    assert (frames[1] == frames[2]).all() and (frames[0] != frames[2]).any() and not frames[0][0, 1].any()


@pytest.mark.parametrize("name", ["dtype", "size", "raises", "device", "range"])
def test_a_bad_module_between_frames_names_itself(name):
    wrong, _ = BAD[name]
    (clip,) = noise_clips((4, 6, 7))
    clip[0, 0, 0] = 200
    message = r"FrameInterpolation: module 'middle' \(.*lambda.*\) .* clip 0, between its decoded frames 0 and 1"
    with pytest.raises(dv.OpError, match=message):
        between(clip, [0.5, 2], lambda first, last, times: wrong(first))


def test_options_of_interpolation():
    for options, message in (
        (dict(method="module"), "module must be an identifier, such as 'style', got None"),
        (dict(method="linear", module="x"), "module 'x' is for method 'module', got method 'linear'"),
        (dict(method="flow"), "method must be one of 'linear', 'nearest', 'module', got 'flow'"),
    ):
        with pytest.raises(ValueError, match=f"FrameInterpolation: {message}"):
            dv.FrameInterpolation(**options)


def test_a_network_without_weights_yet_is_named():
    dv.register_module("net", torch.nn.LazyConv3d(3, 1))
    with pytest.raises(ValueError, match=r"TorchModule: the weights of module 'net' \(LazyConv3d\) cannot be read: "):
        dv.TorchModule("net").fingerprint()
    clips = noise_clips((2, 4, 4))
    augment(clips, dv.TorchModule("net"))  # the first call makes them
    assert dv.TorchModule("net").fingerprint().startswith("Conv3d ")


def test_results_that_have_gradients_or_strides_are_taken():
    clips = noise_clips((2, 4, 5))
    for module in (
        lambda c: torch.nn.Parameter(c),
        lambda c: c.flip(-1).flip(-1),
        lambda c: c.transpose(3, 4).contiguous().transpose(3, 4),
    ):
        dv.register_module("net", module)
        assert (augment(clips, dv.TorchModule("net")).clips.numpy() == np.stack(clips)).all()


def test_a_fingerprint_reads_weights_of_every_dtype():
    """bfloat16 and bytes, scalars and empty buffers: a bit more or less is another network."""
    network = torch.nn.Linear(2, 3).to(torch.bfloat16)
    network.register_buffer("count", torch.tensor(3, dtype=torch.int64))
    network.register_buffer("none", torch.zeros(0))
    dv.register_module("net", network)
    op, seen = dv.TorchModule("net"), set()
    for change in (lambda: None, lambda: network.count.add_(1), lambda: network.weight.data[0].neg_()):
        change()
        seen.add(op.fingerprint())
        assert op.fingerprint() in seen
    assert len(seen) == 3 and all(text.startswith("Linear ") for text in seen)
