"""Class activation maps: exact, at the right places of the clip, of its video and of its partner's, and drawn."""

import csv
import runpy
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import NUM_FRAMES, numbered_frame, read_number, write_numbered
from torch import nn
from torch.nn import functional

import dali_vidaug as dv
from dali_vidaug.cam.picture import heated
from dali_vidaug.media.encode import write_video
from dali_vidaug.ops.mix import FAMILIES

PLAIN = dv.Normalize(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # [0, 1]


@pytest.fixture(autouse=True)
def one_thread():
    """These networks are too small for several threads, which wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Cells(nn.Module):
    """A network that anyone can follow: the brightest of each cell, of those that are ``used``, and a linear layer."""

    def __init__(self, weight, cell=(1, 1, 1), used=1.0):
        super().__init__()
        self.cell, self.used = cell, used
        self.keep = nn.Identity()
        self.fc = nn.Linear(3, len(weight))
        self.fc.weight.data = torch.tensor(weight, dtype=torch.float32)
        self.fc.bias.data = torch.arange(len(weight)) * 0.25

    def forward(self, clips):
        return self.fc(self.features(clips).mean((2, 3, 4)))

    def features(self, clips):
        return self.keep(functional.max_pool3d(clips, self.cell) * self.used)


RED_GREEN_BLUE = [[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
BRIGHT = [[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]


def random_clips(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def kept(model, name, clips):
    """What a module returned, by a hook of this test."""
    found = []
    hook = model.get_submodule(name).register_forward_hook(lambda *call: found.append(call[2]))
    with torch.no_grad():
        model.eval()(clips)
    hook.remove()
    return found[-1]


# ---- Networks

TORCHVISION = {  # name: size of the clips, the features, whether channels are last, the classifier
    "r3d_18": ((16, 32, 32), "layer4", False, "fc"),
    "mc3_18": ((8, 32, 32), "layer4", False, "fc"),
    "r2plus1d_18": ((16, 32, 32), "layer4", False, "fc"),
    "s3d": ((13, 209, 209), "features", False, "classifier.1"),
    "swin3d_t": ((8, 64, 64), "norm", True, "head"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_maps_of_torchvisions_networks_are_by_definition(name, torchvision):
    from torchvision.models import video

    size, *where = TORCHVISION[name]
    torch.manual_seed(1)
    assert_by_definition(getattr(video, name)(num_classes=7), random_clips(1, 3, *size), *where)


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_maps_of_small_networks_of_torchvisions_kinds(kind, torchvision):
    from torchvision.models.video import resnet, swin_transformer

    torch.manual_seed(1)
    if kind == "resnet":
        makers = [resnet.Conv3DSimple] * 4
        model = resnet.VideoResNet(resnet.BasicBlock, makers, [1, 1, 1, 1], resnet.BasicStem, num_classes=7)
        where = (8, 24, 24), "layer4", False, "fc"
    else:
        model = swin_transformer.SwinTransformer3d([2, 4, 4], 12, [1, 1], [1, 2], [2, 2, 2], num_classes=7)
        where = (8, 32, 40), "norm", True, "head"
    assert_by_definition(model, random_clips(2, 3, *where[0]), *where[1:])


def assert_by_definition(model, clips, layer, last, classifier):
    """Weights times features, as the definition has it; and their mean and the bias are the score."""
    model.train()
    maps = dv.cam.activation(model, clips, [4, 0])
    assert model.training and all(module.training for module in model.modules())
    features = kept(model, layer, clips)
    features = features.movedim(-1, 1) if last else features
    linear = model.get_submodule(classifier)
    expected = torch.einsum("nc,bcthw->bnthw", linear.weight.flatten(1)[[4, 0]], features)
    close = dict(rtol=1e-4, atol=2e-6 * float(linear.weight.detach().abs().sum(1).max() * features.abs().max()))
    torch.testing.assert_close(maps.values, expected, **close)
    with torch.no_grad():
        scores = model.eval()(clips)[:, [4, 0]]
    torch.testing.assert_close(maps.values.mean((2, 3, 4)) + maps.bias, scores, **close)
    torch.testing.assert_close(maps.scores, scores, **close)
    assert (maps.bias == linear.bias[[4, 0]]).all() and maps.layer == layer


def test_videomae_with_mean_pooling(torchvision):
    """Tokens are in the order of the patch embedding; the layer normalisation after the pool is followed exactly."""
    transformers = pytest.importorskip("transformers")
    config = transformers.VideoMAEConfig(
        image_size=(32, 32), patch_size=8, num_frames=6, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=5, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(2)
    model = transformers.VideoMAEForVideoClassification(config).double().eval()
    nn.init.normal_(model.fc_norm.weight)
    nn.init.normal_(model.fc_norm.bias)
    clips = random_clips(2, 6, 3, 32, 32, dtype=torch.float64)
    maps = dv.cam.activation(model, clips)
    with torch.no_grad():
        output = model(clips).logits
        tokens = model.videomae(clips).last_hidden_state
        mean = tokens.mean(1)
        normalised = (tokens - tokens.mean(2, keepdim=True)) * model.fc_norm.weight
        normalised = normalised / (mean.var(1, correction=0) + model.fc_norm.eps).sqrt()[:, None, None]
        expected = (normalised @ model.classifier.weight.T).transpose(1, 2).reshape(2, 5, 3, 4, 4)
    torch.testing.assert_close(maps.values, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(maps.values.mean((2, 3, 4)) + maps.bias, output, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match=r"grid must be \(T, H, W\) of the 48 tokens, got \(3, 4, 5\)"):
        dv.cam.activation(model, clips, grid=(3, 4, 5))
    first = transformers.VideoMAEForVideoClassification(
        config.__class__(**{**config.to_dict(), "use_mean_pooling": False})
    )
    with pytest.raises(ValueError, match="Linear 'classifier' .* gets the first token of VideoMAEModel 'videomae'"):
        dv.cam.activation(first, clips.float())


class Heads(nn.Module):
    """Convolutions, and one of several heads."""

    def __init__(self, *head):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(3, 8, 3, (1, 2, 2), 1), nn.BatchNorm3d(8), nn.ReLU(inplace=True))
        self.head = nn.Sequential(*head)
        torch.manual_seed(3)
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def forward(self, clips):
        return self.head(self.body(clips))


class Mean(nn.Module):
    def forward(self, features):
        return features.mean((2, 3, 4))


class Tokens(nn.Module):
    def forward(self, features):
        return features.flatten(2).transpose(1, 2)


class TokensMean(nn.Module):
    def forward(self, tokens):
        return tokens.mean(1)


class Noise(nn.Module):
    def forward(self, features):
        return features + torch.rand_like(features)


POOL = nn.AdaptiveAvgPool3d(1), nn.Flatten()
EXACT = {
    "dropout": (*POOL, nn.Dropout(0.9), nn.Linear(8, 4)),
    "mean": (Mean(), nn.Linear(8, 4, bias=False)),
    "two linear layers": (*POOL, nn.Linear(8, 6), nn.Dropout(), nn.Linear(6, 4)),
    "normalised twice": (*POOL, nn.BatchNorm1d(8), nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 4)),
    "convolution after the pool": (nn.AdaptiveAvgPool3d(1), nn.Conv3d(8, 4, 1), nn.Flatten()),
    "convolution and linear layer": (nn.AdaptiveAvgPool3d(1), nn.Conv3d(8, 6, 1), nn.Flatten(), nn.Linear(6, 4)),
    "convolution before the pool": (nn.Conv3d(8, 4, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
    "windows": (nn.AvgPool3d((2, 3, 5), 1), nn.Conv3d(8, 4, 1), Mean()),
    "padded windows": (nn.AvgPool3d(3, 2, 1), nn.Conv3d(8, 4, 1), Mean()),
    "largest": (nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(8, 4)),
    "tokens": (Tokens(), nn.LayerNorm(8), TokensMean(), nn.Linear(8, 4)),
}


@pytest.mark.parametrize("name", EXACT)
def test_mean_and_bias_are_the_score(name):
    model = Heads(*EXACT[name]).double()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.LayerNorm)):
            module.weight.data, module.bias.data = torch.randn(2, len(module.weight), dtype=torch.float64)
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean, module.running_var = torch.rand(2, 8, dtype=torch.float64) + 0.5
    clips = random_clips(3, 3, 4, 10, 12, dtype=torch.float64)
    maps = dv.cam.activation(model, clips, grid=(4, 5, 6))
    with torch.no_grad():
        torch.testing.assert_close(maps.values.mean((2, 3, 4)) + maps.bias, model.eval()(clips), rtol=1e-10, atol=1e-12)
    assert maps.values.shape == (3, 4, 4, 5, 6) and maps.classes.tolist() == [[0, 1, 2, 3]] * 3
    # Each place adds what its map says: without the features of one, the score is that much smaller. Where pooling or
    # normalising is not linear that holds only for what was pooled.
    if name in ("dropout", "mean", "two linear layers", "windows", "padded windows"):
        features = kept(model, "body", clips).clone()
        features[:, :, 1, 2, 3] = 0
        with torch.no_grad():
            difference = model(clips) - model.head(features)
        torch.testing.assert_close(maps.values[:, :, 1, 2, 3] / 120, difference, rtol=1e-8, atol=1e-12)


def test_a_maximum_is_at_its_places():
    """Each channel adds to the place where it is largest, and nowhere else."""
    model = Heads(nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(8, 4))
    clips = random_clips(2, 3, 4, 10, 12)
    maps, features = dv.cam.activation(model, clips), kept(model, "body", clips)
    expected = torch.zeros(2, 4, 120)
    for b in range(2):
        for c in range(8):
            place = int(features[b, c].argmax())
            expected[b, :, place] += 120 * model.head[2].weight[:, c].detach() * features[b, c].max()
    torch.testing.assert_close(maps.values.flatten(2), expected)


def test_half_precision():
    model = Heads(*POOL, nn.Linear(8, 4)).to(torch.bfloat16)
    maps = dv.cam.activation(model, random_clips(2, 3, 4, 10, 12).bfloat16())
    assert maps.values.dtype == torch.float32
    assert torch.allclose(maps.values.mean((2, 3, 4)) + maps.bias, maps.scores.float(), atol=0.01)


@pytest.mark.parametrize("head, message", [
    ((*POOL, nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)), "Linear 'head.4' of Heads gets what ReLU 'head.3' gives"),
    ((*POOL, nn.Linear(8, 4), nn.Softmax(1)), "the scores of Heads come from Softmax 'head.3'"),
    ((nn.Flatten(), nn.Linear(8 * 4 * 5 * 6, 4)), "Linear 'head.1' of Heads gets what BatchNorm3d 'body.1' gives"),
    ((nn.AdaptiveAvgPool3d((2, 1, 1)), nn.Flatten(), nn.Linear(16, 4)), "gets what AdaptiveAvgPool3d 'head.0' gives"),
    ((*POOL,), "the scores of Heads come from AdaptiveAvgPool3d 'head.0'"),
    ((nn.Identity(),), r"must return \(B, K\) scores of classes, got a tensor \(1, 8, 4, 5, 6\)"),
    ((Tokens(), TokensMean(), nn.Linear(8, 4)), "60 tokens|give grid=|Maps"),
    ((*POOL, Noise(), nn.Linear(8, 4)), "gets what Noise 'head.2' gives"),
])  # fmt: skip
def test_other_networks_are_refused_in_a_sentence(head, message):
    model = Heads(*head)
    if any(isinstance(module, nn.ReLU) for module in head):
        model.head[2].bias.data -= 1
    hooks = [len(module._forward_hooks) for module in model.modules()]
    if isinstance(head[0], Tokens):  # the features before them have places
        assert dv.cam.activation(model, random_clips(1, 3, 4, 10, 12)).values.shape == (1, 4, 4, 5, 6)
        return
    with pytest.raises(ValueError, match=message) as caught:
        dv.cam.activation(model, random_clips(1, 3, 4, 10, 12))
    assert str(caught.value).startswith("cam.activation: ") and "\n" not in str(caught.value)
    assert model.training and hooks == [len(module._forward_hooks) for module in model.modules()]


def test_an_activation_is_refused_that_changes_nothing_of_these_clips():
    """All values before it are positive: by value it is not seen."""
    model = Heads(*POOL, nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    model.head[2].bias.data += 100
    for sizes in (1, 3):
        with pytest.raises(ValueError, match=r"in Heads, ReLU 'head.3' comes after the features of 'body'$"):
            dv.cam.activation(model, random_clips(sizes, 3, 4, 10, 12))


def test_tokens_without_places_need_a_grid():
    model = nn.Sequential(nn.Flatten(2), nn.Linear(120, 12), nn.GELU(), TokensMean(), nn.Linear(12, 4))
    clips = random_clips(2, 6, 3, 4, 10)
    with pytest.raises(ValueError, match=r"where the 6 tokens of '2' are is not known; give grid=\(T, H, W\)"):
        dv.cam.activation(model, clips)
    maps, tokens = dv.cam.activation(model, clips, grid=(3, 1, 2)), kept(model, "2", clips)
    expected = (tokens @ model[4].weight.T).detach().transpose(1, 2)
    torch.testing.assert_close(maps.values.flatten(2), expected)


def test_scores_that_change_from_run_to_run_are_refused():
    class Changing(Cells):
        runs = 0

        def forward(self, clips):
            self.runs += 1
            return self.fc(self.features(clips).mean((2, 3, 4)) + (self.runs > 1))

    with pytest.raises(ValueError, match="of 'keep' and the bias do not add up to the scores, which differ by"):
        dv.cam.activation(Changing(RED_GREEN_BLUE), random_clips(2, 3, 4, 5, 6))


@pytest.mark.parametrize("classes, message", [
    ([3], r"classes must be in \[0, 3\), got 3 to 3"), ([-1], r"in \[0, 3\), got -1"),
    ([0.5], "whole numbers"), ([[0]], r"\(N,\) or \(2, N\) whole numbers, got \(1, 1\)"), ([], "whole numbers"),
])  # fmt: skip
def test_classes_that_are_none_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        dv.cam.activation(Cells(RED_GREEN_BLUE), random_clips(2, 3, 4, 5, 6), classes)


def test_what_is_no_network_and_no_clips_is_refused():
    with pytest.raises(ValueError, match="model must be a torch.nn.Module, got function"):
        dv.cam.activation(lambda clips: clips, random_clips(2, 3, 4, 5, 6))
    with pytest.raises(ValueError, match="clips must be floats .* got torch.uint8"):
        dv.cam.activation(Cells(BRIGHT), torch.zeros(2, 3, 4, 5, 6, dtype=torch.uint8))
    clips = random_clips(2, 3, 4, 5, 6)
    clips[1, 0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="clips must be finite, and clip 1 has NaN or infinity"):
        dv.cam.activation(Cells(BRIGHT), clips)
    broken = Cells(RED_GREEN_BLUE)
    broken.fc.weight.data[0] = np.inf
    with pytest.raises(ValueError, match="the scores of the model must be finite, and clip 0 has NaN"):
        dv.cam.activation(broken, random_clips(2, 3, 4, 5, 6))


# ---- Places and times


def test_a_network_that_sees_one_corner_lights_that_corner():
    """By construction, whatever the clips are."""
    used = torch.zeros(1, 1, 1, 4, 4)
    used[..., 3, 0] = 1
    clips = random_clips(2, 3, 8, 16, 16)
    maps = dv.cam.activation(Cells(RED_GREEN_BLUE, (2, 4, 4), used), clips)
    assert (maps.values * (1 - used)).abs().max() == 0 < maps.values[..., 3, 0].abs().min()
    heat = maps.on_clip(0, (8, 16, 16))
    strongest = (heat - heat[:, :, :1, -1:]).abs().flatten(2).argmax(2)  # of each class and frame
    assert ((strongest // 16 >= 12) & (strongest % 16 < 4)).all()


def test_a_trained_network_lights_where_the_class_is():
    torch.manual_seed(4)
    convolution = nn.Conv3d(3, 8, (3, 4, 4), (1, 4, 4), (1, 0, 0))
    model = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)

    def draw(seed):
        clips = random_clips(8, 3, 6, 16, 16, seed=seed) * 0.2
        classes = torch.arange(8) % 2
        clips[classes == 0, 0, 2:4, :4, 12:] += 2  # red, top right, in the middle of the clip
        clips[classes == 1, 1, 2:4, :4, 12:] += 2  # or green
        return clips, classes

    for step in range(40):
        clips, classes = draw(step)
        loss = functional.cross_entropy(model(clips), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    clips, classes = draw(1000)
    maps = dv.cam.activation(model, clips, classes[:, None])
    assert (dv.cam.activation(model, clips).scores.argmax(1) == classes).all()
    values = maps.values[:, 0]
    assert (values.mean(1).flatten(1).argmax(1) == 3).all(), "the place"
    sequence = maps.sequence()[:, 0]
    assert ((sequence.argmax(1) == 2) | (sequence.argmax(1) == 3)).all(), "the time"


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_frame_t_of_a_map_is_the_tth_frame_of_the_clip(stride, tmp_path):
    """One frame of the video is bright; the clip takes every second frame, backwards in the second half of the test."""
    frames = np.zeros((40, 32, 48, 3), np.uint8)
    frames[22] = 255
    write_video(tmp_path / "v.mp4", frames)
    manifest = dv.scan([tmp_path / "v.mp4"], labels=[0], progress=False)
    for ops in ((), (dv.Reverse(1.0),)):
        recipe = dv.Recipe(dv.ClipSampling(16, stride=2, start="center"), (*ops, dv.Resize((32, 48)), PLAIN))
        with dv.VideoLoader(manifest, recipe, 1, device="cpu", drop_last=False) as loader:
            batch = next(iter(loader))
        t = batch.plan.frames[0].tolist().index(22)
        assert batch.plan.frames[0][t] == 22 and 2 <= t <= 13
        maps = dv.cam.activation(Cells(BRIGHT, (stride, 8, 8)), batch.clips, [0])
        assert maps.values.shape[2] == 16 // stride
        assert int(maps.sequence()[0, 0].argmax()) == t // stride
        sequence = maps.sequence(16)[0, 0]
        assert int(sequence.argmax()) // stride == t // stride and sequence.shape == (16,)
        (found,) = dv.cam.on_source(batch, maps, 0)
        assert found.frames[found.heat[0].mean((1, 2)).argmax()] in range(22 - 2 * stride + 1, 22 + 2 * stride)
        if stride == 1:
            assert found.frames[found.heat[0].mean((1, 2)).argmax()] == 22


def test_heat_is_between_the_least_and_the_most_of_the_whole_clip():
    """Not of each frame; and a map that is the same everywhere is 0."""
    values = torch.zeros(1, 2, 2, 1, 1)
    values[0, 0, :, 0, 0] = torch.tensor([-3.0, 5.0])
    maps = dv.cam.Maps(values, torch.tensor([[0, 1]]), torch.zeros(1, 2), torch.zeros(1, 2), "layer")
    heat = maps.on_clip(0, (4, 2, 2))
    np.testing.assert_allclose(heat[0, :, 0, 0], [0, 0.25, 0.75, 1], atol=1e-6)  # between the middles of both places
    assert (heat[1] == 0).all()
    np.testing.assert_allclose(maps.sequence(4)[0, 0], [-3, -1, 3, 5], atol=1e-6)
    assert repr(maps) == "Maps of 1 clips, 2 classes, 2x1x1 places (T x H x W) of 'layer'"


# ---- Mixed clips


def colored(*colors, shape=(8, 32, 40)):
    return [np.broadcast_to(np.uint8(color), (*shape, 3)).copy() for color in colors]


def test_a_mixed_clip_lights_both_boxes_for_the_right_labels():
    """A red, a green and a blue clip, and a network that tells colours: each label is where its clip is."""
    clips = colored((220, 20, 20), (20, 220, 20), (20, 20, 220))
    for seed in range(6):
        batch = dv.augment(clips, (dv.CubeCutMix(), PLAIN), [0, 1, 2], layout="FHWC", seed=seed, device="cpu")
        rows = batch.plan.args["CubeCutMix"]
        partner = rows["partner"]
        classes = dv.cam.labels(batch)
        maps = dv.cam.activation(Cells(RED_GREEN_BLUE), batch.clips.permute(0, 4, 1, 2, 3), classes)
        for i, row in enumerate(rows):
            inside = np.zeros((8, 32, 40), bool)
            inside[row["first"] : row["last"], row["top"][0] : row["bottom"][0], row["left"][0] : row["right"][0]] = (
                True
            )
            if not inside.any():
                assert classes[i].tolist() == [i, i]
                continue
            assert classes[i].tolist() == [i, partner[i]]
            own, other = maps.on_clip(i, (8, 32, 40)).numpy()
            assert (own[~inside] > 0.99).all() and (own[inside] < 0.01).all()
            assert (other[inside] > 0.99).all() and (other[~inside] < 0.01).all()
            mine, theirs = dv.cam.on_source(batch, maps, i, 32, 40)
            assert (mine.clip, mine.sample, theirs.clip) == (i, i, partner[i])
            assert (mine.weight == ~inside).all() and (theirs.weight == inside).all()
            np.testing.assert_allclose(mine.heat[0], ~inside, atol=0.01)
            np.testing.assert_allclose(theirs.heat[1], inside, atol=0.01)
            assert (mine.heat[1] < 0.01).all() and (theirs.heat[0] < 0.01).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_of_the_pixels(family):
    """Clip 0 is black and its partner white: pixels are the partner's weights. And the other way round."""
    clips = colored((0, 0, 0), (255, 255, 255))
    for seed in range(4):
        batch = dv.augment(clips, (dv.Mix(family), PLAIN), layout="FHWC", seed=seed, device="cpu")
        maps = dv.cam.activation(Cells(BRIGHT), batch.clips.permute(0, 4, 1, 2, 3), [0])
        for i in range(2):
            white = batch.clips[i, ..., 0].numpy()
            for found in dv.cam.on_source(batch, maps, i, 32, 40):
                np.testing.assert_allclose(found.weight, white if found.clip == 1 else 1 - white, atol=0.003)


def test_several_ops_that_mix_have_several_videos():
    """Of partners of partners: weights add up to 1, and are those of the pixels."""
    clips = colored((255, 0, 0), (0, 255, 0), (0, 0, 255))
    ops = dv.CutMix(), dv.MixUp(), PLAIN
    for seed in range(4):
        batch = dv.augment(clips, ops, layout="FHWC", seed=seed, device="cpu")
        maps = dv.cam.activation(Cells(RED_GREEN_BLUE), batch.clips.permute(0, 4, 1, 2, 3), [0])
        for i in range(3):
            shown = np.zeros((8, 32, 40, 3))
            for found in dv.cam.on_source(batch, maps, i, 32, 40):
                shown[..., found.clip] += found.weight
            np.testing.assert_allclose(shown, batch.clips[i], atol=0.006)


def test_sequences_under_mixup_are_even_and_under_fademixup_they_cross():
    """A network that tells red and green, and clips of these: what the label has in a frame is its weight there."""
    clips = colored((255, 0, 0), (0, 255, 0))
    sequences = {}
    for family, weights in (("MixUp", (0.5, 0.5)), ("FadeMixUp", (0.125, 0.875))):
        plan = dv.augment(clips, (dv.Mix(family), PLAIN), [0, 1], layout="FHWC", device="cpu").plan
        rows = plan.args[family]
        rows["inside"][:] = rows["outside"][:] = weights
        mixed = dv.ops.blend.blend(clips, rows)
        batch = torch.from_numpy(np.stack(mixed)).float().permute(0, 4, 1, 2, 3) / 255
        maps = dv.cam.activation(Cells([[1.0, 0, 0], [0, 1.0, 0]], (1, 4, 4)), batch, [0, 1])
        sequences[family] = maps.sequence().numpy()
    np.testing.assert_allclose(sequences["MixUp"], 0.5, atol=0.003)
    weight = np.linspace(0.125, 0.875, 8)
    np.testing.assert_allclose(sequences["FadeMixUp"][0], [1 - weight, weight], atol=0.003)
    np.testing.assert_allclose(sequences["FadeMixUp"][1], [weight, 1 - weight], atol=0.003)


def test_labels(numbered_manifest):
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((32, 32)), dv.CutMix(probability=0.5), PLAIN))
    for kind in ("soft", "index"):
        with dv.VideoLoader(numbered_manifest, recipe, 12, device="cpu", targets=kind) as loader:
            batch = next(iter(loader))
        classes = dv.cam.labels(batch)
        assert classes.shape == (12, 2) and 0 < (batch.mix.own == 1).sum() < 12
        for i, (own, other) in enumerate(classes):
            soft = torch.zeros(2)
            share = float(batch.mix.own[i])
            soft[own] += share
            soft[other] += 1 - share
            if kind == "soft":
                torch.testing.assert_close(soft, batch.targets[i].cpu())
            assert own == numbered_manifest.labels[batch.samples[i]]
    twice = dv.Recipe(recipe.sampling, (dv.Resize((32, 32)), dv.CutMix(), dv.MixUp()))
    with dv.VideoLoader(numbered_manifest, twice, 12, device="cpu") as loader:
        with pytest.raises(ValueError, match="CutMix and MixUp mix the clips; give activation the classes"):
            dv.cam.labels(next(iter(loader)))
    plain = dv.augment(colored((0, 0, 0)), (PLAIN,), layout="FHWC", device="cpu")
    with pytest.raises(ValueError, match="no manifest; its targets must be class numbers"):
        dv.cam.labels(plain)
    with pytest.raises(ValueError, match="clip 1 of the batch has no label"):
        dv.cam.labels(dv.augment(colored((0, 0, 0), (1, 1, 1)), (PLAIN,), [3, -1], layout="FHWC", device="cpu"))

    class Relabels:
        def draw(self, draws, frames, height, width):
            return None

        def run(self, clips, rows, num_threads=None):
            return clips

        def targets(self, args, targets):
            return targets[:, ::-1]

    for op, works in ((dv.LabelSmoothing(0.1), True), (Relabels(), False)):
        made = dv.Recipe(recipe.sampling, (dv.Resize((32, 32)), op))
        with dv.VideoLoader(numbered_manifest, made, 12, device="cpu") as loader:
            batch = next(iter(loader))
        if works:
            assert (dv.cam.labels(batch)[:, 0] == numbered_manifest.labels[batch.samples]).all()
        else:
            with pytest.raises(ValueError, match="Relabels changes labels, and not by mixing"):
                dv.cam.labels(batch)
    one = dv.augment(colored((0, 0, 0), (1, 1, 1)), (PLAIN,), [3, 4], layout="FHWC", device="cpu")
    assert dv.cam.labels(one).tolist() == [[3], [4]]


# ---- On the videos

CHAINS = {
    "crop and flip": (dv.RandomResizedCrop((40, 48), scale=(0.2, 0.6)), dv.RandomHorizontalFlip(1.0)),
    "a crop that moves": (dv.RandomResizedCrop(40, shift=True),),
    "turned": (dv.Resize((48, 64)), dv.RandomRotation(40.0, ramp="temporal"), dv.RandomVerticalFlip(1.0)),
    "affine": (dv.RandomAffine(20.0, (0.2, 0.2), (0.6, 1.3), 15.0, ramp="temporal"), dv.CenterCrop(48)),
    "perspective": (dv.RandomPerspective(0.6, 1.0), dv.CameraMotion(0.1, 0.2, 10.0, cover=False), dv.CenterCrop(40)),
    "RandAugment": (dv.RandAugmentT(2, 10.0, ops=("Rotate", "TranslateX", "ShearY")), dv.Resize((40, 56))),
    "out and back": (dv.RandomAffine(0.0, (0.45, 0.45)), dv.RandomAffine(0.0, (0.45, 0.45)), dv.CenterCrop(50)),
    "mixed, then turned": (dv.Resize((48, 64)), dv.CutMix(), dv.RandomRotation(40.0)),
    "mirrored, then mixed": (dv.RandomHorizontalFlip(0.5), dv.RandomResizedCrop(48), dv.CubeCutMix()),
}
SOURCE = (4, 64, 96)  # frames, height, width


def coded_clips(count=4):
    """Clips whose pixels say where they are: red by column, green by row; blue says which of two kinds of clips."""
    y, x = np.mgrid[: SOURCE[1], : SOURCE[2]]
    frame = np.stack([20 + 2 * x, 20 + 3 * y, np.zeros_like(x)], -1).astype(np.uint8)
    clips = [np.repeat(frame[None], SOURCE[0], 0) for _ in range(count)]
    for k, clip in enumerate(clips):
        clip[..., 2] = (100, 250)[k % 2]
    return clips


@pytest.mark.parametrize("chain", CHAINS)
def test_heat_is_where_the_pixels_came_from(chain):
    """Each pixel of a clip tells its place in the video; there its heat must be, and none where no pixel came from."""
    clips, compared, empty = coded_clips(), 0, 0
    for seed in range(2):
        batch = dv.augment(clips, (*CHAINS[chain], PLAIN), layout="FHWC", seed=seed, device="cpu")
        shown = batch.clips.numpy() * 255
        count, height, width = shown.shape[1:4]
        t, y, x = np.ogrid[:count, :height, :width]
        ramp = torch.from_numpy(t / 9 + y + 2.0 * x)
        maps = dv.cam.Maps(
            ramp.expand(4, 1, -1, -1, -1), torch.zeros(4, 1, dtype=torch.long), *[torch.zeros(4, 1)] * 2, ""
        )
        heat = maps.on_clip(0, (count, height, width))[0].numpy()
        for i in range(4):
            if batch.mix is not None and int(batch.mix.partner[i]) % 2 == i % 2:
                continue  # pixels do not tell the clip from its partner
            for found in dv.cam.on_source(batch, maps, i, *SOURCE[1:]):
                mine = np.abs(shown[i][..., 2] - (100, 250)[found.clip % 2]) < 1.5  # nothing from outside, no edges
                t, y, x = np.nonzero(grown(mine, 2, inwards=True))
                u, v = (shown[i][t, y, x, 0] - 20) / 2, (shown[i][t, y, x, 1] - 20) / 3
                place = t, np.rint(v).astype(int), np.rint(u).astype(int)
                assert (found.weight[place] == 1).all(), (seed, i, found.clip)
                step = 3 * 1.5 / np.ptp(ramp.numpy())  # a pixel and a half, to the right and down
                assert np.abs(found.heat[0][place] - heat[t, y, x]).max(initial=0) < step, (seed, i, found.clip)
                reached = np.zeros(SOURCE, bool)
                t, y, x = np.nonzero(mine)
                u, v = (shown[i][t, y, x, 0] - 20) / 2, (shown[i][t, y, x, 1] - 20) / 3
                reached[t, np.rint(v).astype(int).clip(0, 63), np.rint(u).astype(int).clip(0, 95)] = True
                missed = ~grown(reached, 4)
                assert (found.weight[missed] == 0).all() and (found.heat[0][missed] == 0).all(), (seed, i, found.clip)
                compared, empty = compared + len(place[0]), empty + int(missed.sum())
    assert compared > 4000 and empty > 1000, (compared, empty)


def grown(mask, by, inwards=False):
    """(F, H, W) bool: a mask with what is ``by`` pixels from it; inwards: without what is as near to its outside."""
    padded = np.pad(~mask if inwards else mask, ((0, 0), (by, by), (by, by)), constant_values=inwards)
    found = functional.max_pool3d(torch.from_numpy(padded).float()[None], (1, 2 * by + 1, 2 * by + 1), 1)[0].numpy() > 0
    return ~found if inwards else found


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Two videos, dark, with a bright square of 12 pixels that moves: (manifest, its centre in each frame)."""
    folder, centres = tmp_path_factory.mktemp("marked"), {}
    for k, (dx, dy) in enumerate(((2, 1), (-2, 1))):
        frames = np.full((30, 96, 144, 3), 16, np.uint8)
        centres[k] = [(72 + dx * (t - 15), 48 + dy * (t - 15)) for t in range(30)]
        for frame, (x, y) in zip(frames, centres[k], strict=True):
            frame[y - 6 : y + 6, x - 6 : x + 6] = 235
        (folder / f"class{k}").mkdir()
        write_video(folder / f"class{k}" / "v.mp4", frames)
    return dv.scan(folder, progress=False), centres


@pytest.mark.parametrize("cell", [1, 4])
def test_a_square_of_the_video_comes_out_where_it_is(marked, cell):
    """Through decoding, random crops, scaling and flips, for the clip and for its mirrored partner, frame by frame."""
    manifest, centres = marked
    recipe = dv.Recipe(
        dv.ClipSampling(8, stride=2),
        (dv.RandomResizedCrop((80, 96), scale=(0.6, 1.0)), dv.RandomHorizontalFlip(0.5), dv.CutMix(), PLAIN),
    )
    worst, mirrored, partners = 0.0, set(), 0
    with dv.VideoLoader(manifest, recipe, 2, seed=3, device="cpu") as loader:
        for epoch in range(5):
            loader.set_epoch(epoch)
            for batch in loader:
                maps = dv.cam.activation(Cells(BRIGHT, (1, cell, cell)), batch.clips, [0])
                mirrored |= {tuple(batch.plan.args["RandomHorizontalFlip"]["mirrored"].tolist())}
                for i in range(2):
                    for found in dv.cam.on_source(batch, maps, i):
                        partners += found.clip != i
                        for t, heat in enumerate(found.heat[0]):
                            x, y = centres[found.sample][found.frames[t]]
                            around = found.weight[t, max(0, y - 12) : y + 12, max(0, x - 12) : x + 12]
                            if around.size < 576 or (around < 1).any():
                                continue  # cut off
                            rows, columns = np.nonzero(heat > 0.5)
                            off = abs(columns.mean() + 0.5 - x), abs(rows.mean() + 0.5 - y)
                            worst = max(worst, *off)
                            assert max(off) < (1.0 if cell == 1 else cell * 1.5), (epoch, i, found.clip, t, off)
    assert len(mirrored) >= 3 and partners >= 4 and worst > 0


def test_ops_that_do_not_say_where_they_move_pixels_are_refused():
    class Rolls:
        name = "Rolls"

        def draw(self, draws, frames, height, width):
            return None

        def run(self, clips, rows, num_threads=None):
            return clips

    batch = dv.augment(colored((9, 9, 9)), (Rolls(), PLAIN), layout="FHWC", device="cpu")
    maps = dv.cam.activation(Cells(BRIGHT), batch.clips.permute(0, 4, 1, 2, 3))
    with pytest.raises(
        ValueError, match="cam.on_source: .*does not say where it moves pixels, so that heat maps cannot"
    ):
        dv.cam.on_source(batch, maps, 0, 32, 40)
    plain = dv.augment(colored((9, 9, 9)), (PLAIN,), layout="FHWC", device="cpu")
    with pytest.raises(ValueError, match="cam.on_source: the plan has no manifest; give the height and width"):
        dv.cam.on_source(plain, maps, 0)
    with pytest.raises(ValueError, match="clip 1 of a batch of 1 clips"):
        dv.cam.on_source(plain, maps, 1, 32, 40)
    two = dv.augment(colored((9, 9, 9), (8, 8, 8)), (PLAIN,), layout="FHWC", device="cpu")
    with pytest.raises(ValueError, match="clip 0 of a batch of 2 clips, with maps of 1"):
        dv.cam.on_source(two, maps, 0, 32, 40)


# ---- Pictures


def test_colors_of_heat():
    frames = np.full((1, 1, 4, 3), 100, np.uint8)
    made = heated(frames, [[[0.0, 0.5, 1.0, 1.0]]], [[[1.0, 1.0, 1.0, 0.0]]])[0, 0].astype(int)
    blue, green, red, plain = made
    assert blue[2] > 100 > blue[0] == blue[1] and green[1] > 180 and red[0] > 100 > red[1] == red[2]
    assert plain.tolist() == [100, 100, 100]


@pytest.fixture(scope="module")
def mixed_numbers(tmp_path_factory):
    """A batch of two clips whose frames show their numbers, half and half, and its maps."""
    folder = tmp_path_factory.mktemp("mixed")
    for k in range(2):
        write_numbered(folder / f"class{k}" / "v.mp4", NUM_FRAMES)
    manifest = dv.scan(folder, progress=False)
    recipe = dv.Recipe(dv.ClipSampling(6, stride=3), (dv.Resize((96, 160)), dv.FadeMixUp(), PLAIN))
    with dv.VideoLoader(manifest, recipe, 2, device="cpu") as loader:
        batch = next(iter(loader))
    return batch, dv.cam.activation(Cells(RED_GREEN_BLUE[:2], (2, 8, 8)), batch.clips, dv.cam.labels(batch))


@pytest.mark.parametrize("source", [False, True])
def test_videos_have_the_frames_of_the_clip_in_its_order(mixed_numbers, source, tmp_path):
    batch, maps = mixed_numbers
    dv.cam.write_video(tmp_path / "cam.mp4", batch, maps, 1, source=source, height=96)
    with av.open(str(tmp_path / "cam.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    rows = 2 if source else 1
    assert len(frames) == 6 and frames[0].shape == (rows * 112, 3 * 163 - 3, 3)
    if source:  # the first column: the frames of the clip's video, then those of its partner's
        partner = int(batch.mix.partner[1])
        for t, frame in enumerate(frames):
            assert read_number(frame[16:112, :160]) == batch.plan.frames[1][t]
            assert read_number(frame[128:224, :160]) == batch.plan.frames[partner][t]
    else:
        shown = (batch.clips[1].permute(1, 2, 3, 0).numpy() * 255).round()
        for frame, clip in zip(frames, shown, strict=True):
            assert np.abs(frame[16:112, :160] - clip).mean() < 4
    heat = np.stack([frame[16:112, 163:323] for frame in frames]).astype(int)
    plain = np.stack([frame[16:112, :160] for frame in frames]).astype(int)
    assert np.abs(heat - plain).mean() > 20
    with pytest.raises(ValueError, match="path must end in .mp4, got "):
        dv.cam.write_video(tmp_path / "cam.png", batch, maps, 1)
    for option, value in (("fps", 0), ("fps", 2.5), ("height", -1)):
        with pytest.raises(ValueError, match=f"cam.write_video: {option} must be a whole number >= 1, got {value}"):
            dv.cam.write_video(tmp_path / "none.mp4", batch, maps, 1, source=source, **{option: value})
    assert not (tmp_path / "none.mp4").exists()
    for i in (-1, 2):
        for draw in (lambda i: dv.cam.draw(batch, maps, i, source=source),
                     lambda i: dv.cam.write_video(tmp_path / "none.mp4", batch, maps, i, source=source),
                     lambda i: maps.on_clip(i, (6, 96, 160))):  # fmt: skip
            with pytest.raises(ValueError, match=f": clip {i} of a batch of 2 clips, with maps of 2"):
                draw(i)


def test_pictures_have_a_strip_for_each_class_and_the_sequences(mixed_numbers):
    batch, maps = mixed_numbers
    picture = np.asarray(dv.cam.draw(batch, maps, 0, num_frames=3, height=96))
    clip = (batch.clips[0].permute(1, 2, 3, 0).numpy() * 255).round().astype(int)
    heat = maps.on_clip(0, clip.shape[:3]).numpy()
    for k, t in enumerate((0, 2, 5)):
        x = 8 + k * 163
        assert np.abs(picture[24:120, x : x + 160] - clip[t]).max() <= 1
        for n in range(2):
            top = 24 + (n + 1) * 120
            expected = heated(clip[[t]].astype(np.uint8), heat[n, [t]])[0].astype(int)
            assert np.abs(picture[top : top + 96, x : x + 160] - expected).max() <= 1
    below = picture[8 + 3 * 120 :]
    assert {(214, 84, 36), (40, 110, 170)} <= set(map(tuple, below.reshape(-1, 3).tolist()))
    source = np.asarray(dv.cam.draw(batch, maps, 0, source=True, num_frames=3, height=96))
    assert source.shape[0] > picture.shape[0]
    for k, t in enumerate((0, 2, 5)):
        assert read_number(source[24:120, 8 + k * 163 :][:, :160]) == batch.plan.frames[0][t]


def test_pictures_of_clips_in_memory():
    clips = [np.stack([numbered_frame(i) for i in range(first, first + 4)]) for first in (3, 9)]
    batch = dv.augment([clip.transpose(3, 0, 1, 2) for clip in clips], (dv.Reverse(1.0), dv.Resize((48, 80)), PLAIN),
                       [0, 1], layout="CFHW", device="cpu")  # fmt: skip
    maps = dv.cam.activation(Cells(BRIGHT, (1, 8, 8)), batch.clips)
    picture = np.asarray(dv.cam.draw(batch, maps, 1, source=True, originals=clips, num_frames=4, height=96))
    assert [read_number(picture[24:120, 8 + k * 163 :][:, :160]) for k in range(4)] == [12, 11, 10, 9]
    with pytest.raises(ValueError, match="no manifest to decode frames of; give originals"):
        dv.cam.draw(batch, maps, 1, source=True)


def test_lines_of_sequences():
    picture = np.asarray(dv.cam.draw_sequences({"up": np.arange(5.0), "down": np.arange(5.0)[::-1]}, width=300))
    up, down = ((picture == color).all(2)[60:] for color in ((214, 84, 36), (40, 110, 170)))
    assert np.corrcoef(*np.nonzero(up))[0, 1] < -0.95 and np.corrcoef(*np.nonzero(down))[0, 1] > 0.95
    for wrong in ({}, {"a": np.array([])}, {"a": np.array([np.nan])}, {"a": np.zeros((2, 2))}):
        with pytest.raises(ValueError, match="must be .* finite numbers by name"):
            dv.cam.draw_sequences(wrong)


# ---- The program

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def program(monkeypatch, tmp_path, capsys):
    """Runs examples/cam.py in a folder: its exit code, and what it printed."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cam.py", *map(str, arguments)])
        try:
            runpy.run_path(str(EXAMPLES / "cam.py"), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code
        return code, "".join(capsys.readouterr())

    return run


def assert_drawn(folder, num_frames, names):
    """The program has written what its --help says."""
    for name in ("clip", "source"):
        with av.open(str(folder / f"{name}.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == num_frames
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    header, *rows = csv.reader((folder / "fade.csv").read_text().splitlines())
    assert header == ["frame", *(f"{op} {name}" for op in ("MixUp", "FadeMixUp") for name in names)]
    assert [int(row[0]) for row in rows] == list(range(num_frames)) and np.isfinite(np.array(rows, float)).all()


@pytest.mark.slow
def test_the_program_trains_a_network_and_draws(program, tmp_path):
    code, printed = program("--steps", 3, "--output", "out")
    assert code == 0 and "Maps of 2 clips, 2 classes, 4x8x8 places" in printed, printed
    assert_drawn(tmp_path / "out", 8, ["blue ball", "red ball"])


@pytest.mark.slow
def test_the_program_draws_networks_by_name_and_checkpoints(program, numbered, tmp_path, monkeypatch, torchvision):
    dv.scan(numbered, output="train.parquet", progress=False)
    code, printed = program("train.parquet", "--model", "r3d_18", "--num-frames", 8, "--size", 32, "--mix", "MixUp")
    assert code == 0 and "of 'layer4'" in printed and "the weights are random" in printed, printed
    assert_drawn(tmp_path / "cam", 8, ["even", "odd"])
    from training import checkpoints, model

    network = model("small", 2, num_frames=4, size=32)
    recipe = dv.Recipe(dv.ClipSampling(4), (dv.Resize((32, 32)), dv.Normalize()))
    content = {
        "about": network.about,
        "classes": ["even", "odd"],
        "recipe": repr(recipe),
        "model": network.state_dict(),
    }
    checkpoints.save(content, tmp_path / "best.pt")
    code, printed = program("train.parquet", "--checkpoint", "best.pt", "--output", "small", "--samples", 0, 7)
    assert code == 0 and "Maps of 2 clips, 2 classes, 4x4x4 places" in printed, printed
    assert_drawn(tmp_path / "small", 4, ["even", "odd"])
    checkpoints.save({**content, "classes": ["odd", "even"]}, tmp_path / "other.pt")
    for arguments, message in [
        (("train.parquet", "--checkpoint", "other.pt"), "has other classes than the training of other.pt"),
        (("train.parquet",), "give --checkpoint or --model"),
        (("none.parquet", "--model", "r3d_18"), "none.parquet"),
        (("train.parquet", "--model", "mvit_v1_b", "--num-frames", "4", "--size", "32"), "the first token of"),
    ]:
        code, printed = program(*arguments)
        assert code == 2 and message in printed and "Traceback" not in printed, printed
