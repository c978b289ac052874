"""The recipes of transformers: whole plans, the ops of fine-tuning against their definitions, and training."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_kernels import pillow_op
from test_recipes import unseen_videos

import dali_vidaug as dv
from dali_vidaug.commands.demo import make_videos
from dali_vidaug.ops.randaugment import CODES
from dali_vidaug.recipes import FAMILIES

PLANS = Path(__file__).parent / "recipe_plans.txt"
NAMES = (
    "videomae videomae_pretrain videomae_v2 videomae_v2_pretrain mvit uniformer video_swin timesformer internvideo2 "
    "internvideo2_pretrain vivit vjepa2 vjepa2_pretrain hiera"
).split()
FULL = [
    "RandAugmentT",
    "RandomResizedCrop",
    "RandomHorizontalFlip",
    "RandomErasing",
    "OneOf",
    "LabelSmoothing",
    "Normalize",
]
SIZE = 32  # of the clips of tiny models, in pixels; their patches have 8


def plans():
    """The plan of one clip for each family and data set, of a video of 300 frames, as text."""
    texts = []
    for name in NAMES:
        family = FAMILIES[name]
        for variant, datasets in family.variants.items():
            for dataset in datasets if variant == next(iter(family.variants)) else datasets[:1]:
                stage = family.stages[0]
                recipe = family.function(variant, stage=stage, dataset=dataset)
                lines = dv.draw_plan(unseen_videos(2), recipe, [0, 1], seed=7, epoch=3).describe(1).splitlines()
                texts.append("\n".join([f"{name} {variant} {stage} {dataset}", *lines[2:]]))
    return "\n\n".join(texts) + "\n"


def test_the_literal_plans_are_as_they_were():
    """Made by ``python -c "import test_transformer_recipes as t; t.PLANS.write_text(t.plans())"`` in this folder.

    What they say was compared with the facts by hand; a change of them is a change of what a seed draws.
    """
    assert plans() == PLANS.read_text()


@pytest.mark.parametrize(
    "recipe, starts, middle",
    [
        (dv.recipes.videomae(stage="test"), [0, 56, 116, 176, 236], 87),
        (dv.recipes.videomae(stage="test", dataset="ssv2"), [0, 9], 87),  # 300 / 16 frames a segment, and half of it
        (dv.recipes.mvit("v2-L", stage="test"), [0, 45, 90, 135, 180], 122),
        (dv.recipes.mvit(stage="test", dataset="ssv2"), [9], 88),
        (dv.recipes.video_swin(stage="test"), [0, 79, 158, 237], 87),
        (dv.recipes.timesformer(stage="test"), [0], 88),  # the first of the video
        (dv.recipes.internvideo2(stage="test"), [7, 14, 22, 29], 87),  # 299 / 8 frames, a fifth of them and so on
        (dv.recipes.vivit(stage="test"), [0, 78, 157, 236], 116),
        (dv.recipes.hiera(stage="test"), [0, 59, 118, 177, 236], 88),
    ],
    ids=lambda x: "",
)  # fmt: skip
def test_where_the_clips_of_a_test_begin_and_the_middle_crop_is(recipe, starts, middle):
    """Of 300 frames of 360 x 642 pixels: an odd margin at both sides of the middle crop, which each divides its way."""
    plan = dv.draw_plan(
        unseen_videos(1, width=642), recipe, np.zeros(recipe.num_clips, int), views=range(recipe.num_clips)
    )
    assert plan.frames[::3, 0].tolist() == starts
    left = plan.args["ThreeCrop"]["left"].tolist()
    scaled = plan.args["ShortSideScale" if "ShortSideScale" in plan.args else "Resize"][0]
    room = scaled["out_width"].item() - recipe.ops[-2].size
    assert left == [0, middle, room] * len(starts)


@pytest.mark.parametrize(
    "family, count, starts", [("mvit", 5, [0, 59, 118, 177, 236]), ("uniformer", 4, [0, 78, 156, 234])]
)
def test_where_the_clips_of_tests_with_one_crop_begin(family, count, starts):
    recipe = FAMILIES[family].function(stage="test")
    plan = dv.draw_plan(unseen_videos(1), recipe, np.zeros(count, int), views=range(count))
    assert plan.frames[:, 0].tolist() == starts and "CenterCrop" in plan.args


# ---- fine-tuning as in SlowFast's repository


@pytest.mark.parametrize(
    "recipe, flips",
    [
        (dv.recipes.videomae(), True), (dv.recipes.videomae(dataset="ssv2"), False), (dv.recipes.videomae_v2(), True),
        (dv.recipes.mvit("v1-B"), True), (dv.recipes.videomae_v2("giant", dataset="ssv2"), False),
        (dv.recipes.uniformer(), True), (dv.recipes.internvideo2(), True),
        (dv.recipes.internvideo2("1B-16", dataset="ssv2"), False),
    ],
)  # fmt: skip
def test_the_ops_of_fine_tuning(recipe, flips):
    assert recipe.names == [name for name in FULL if flips or name != "RandomHorizontalFlip"]
    ops = dict(zip(recipe.names, recipe.ops, strict=True))
    # rand-m7-n4-mstd0.5-inc1, each op with probability 1/2
    assert ops["RandAugmentT"] == dv.RandAugment(
        num_ops=4, magnitude=7.0, magnitude_std=0.5, probability=0.5, suite="timm", interpolation=None
    )
    crop, erasing, mixing = ops["RandomResizedCrop"], ops["RandomErasing"], ops["OneOf"]
    assert (crop.scale, crop.ratio, crop.antialias, crop.shift) == ((0.08, 1.0), (0.75, 4 / 3), False, False)
    assert (erasing.probability, erasing.area, erasing.fill) == (0.25, (0.02, 1 / 3), "pixel")
    assert (erasing.mean, erasing.std) == (ops["Normalize"].mean, ops["Normalize"].std)
    assert [(op.family, op.alpha, op.probability) for op in mixing.ops] == [("MixUp", 0.8, 1.0), ("CutMix", 1.0, 1.0)]
    assert ops["LabelSmoothing"].amount == 0.1


def test_one_choice_and_one_weight_for_a_batch():
    """MixUp or CutMix, with equal probability; all clips of a batch have the same share or box."""
    recipe, manifest, mixed_up = dv.recipes.videomae(), unseen_videos(8), []
    for batch in range(300):
        rows = dv.draw_plan(manifest, recipe, np.arange(8), batch=batch).args["OneOf"]
        for name in ("inside", "outside", "top", "bottom", "left", "right"):
            assert (rows[name] == rows[name][0]).all(), name
        assert sorted(rows["partner"]) == list(range(8)) and (rows["partner"] != np.arange(8)).all()
        mixed_up.append(rows["outside"][0].max() > 0)
    assert abs(np.mean(mixed_up) - 0.5) < 5 * 0.5 / 300**0.5


def official(clip, row, box, mirrored, norm, side):
    """The clip as SlowFast's and VideoMAE's code makes it, of what the plan says: (3, F, side, side) float.

    Pillow's ops frame by frame, floats, normalised; then the crop, cut out and scaled by torch; then the flip.
    """
    frames = []
    for number, frame in enumerate(clip):
        image = Image.fromarray(frame)
        for code, values in zip(row["op"], row["value"], strict=False):
            image = pillow_op(CODES[code], image, float(values[number]), 2, (128, 128, 128))
        frames.append(np.asarray(image))
    mean, std = (torch.tensor(x)[:, None, None, None] for x in (norm.mean, norm.std))
    whole = (torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).float() / 255 - mean) / std
    part = whole[:, :, box["top"] : box["bottom"], box["left"] : box["right"]]
    scaled = torch.nn.functional.interpolate(part, (side, side), mode="bilinear", align_corners=False)
    return scaled.flip(-1) if mirrored else scaled


def test_the_official_order_gives_the_same_clips():
    """Normalising at the end, in whole levels until then, changes pixels by a level or two."""
    y, x, t = np.mgrid[:90, :120, :4]
    waves = [120 + 60 * np.sin(x / 7 + t + k) + 50 * np.cos(y / 9 - t * k) for k in range(3)]
    clip = np.stack(waves, -1).transpose(2, 0, 1, 3).clip(0, 255).astype(np.uint8)
    recipe = dv.recipes.videomae(size=48)
    ops = [op for op in recipe.ops if not isinstance(op, (dv.OneOf, dv.RandomErasing, dv.LabelSmoothing))]
    batch = dv.augment([clip] * 40, ops, seed=3, device="cpu")
    args, norm = batch.plan.args, recipe.ops[-1]
    used, mirrored = set(), args["RandomHorizontalFlip"]["mirrored"] != 0
    for got, row, box, flipped in zip(
        batch.clips, args["RandAugmentT"], args["RandomResizedCrop"], mirrored, strict=True
    ):
        wanted = official(clip, row, box, flipped, norm, 48)
        levels = (got.permute(3, 0, 1, 2) - wanted).abs() * torch.tensor(norm.std)[:, None, None, None] * 255
        names = {CODES[code] for code in row["op"]} - {"Identity"}
        steep = names & {"Posterize", "Solarize", "SolarizeAdd", "Equalize", "AutoContrast", "Contrast", "Sharpness"}
        assert (levels > 2.5).float().mean() < (0.1 if steep else 0.02), (names, levels.max())  # rounding before a step
        used |= names
    assert len(used) == 15 and 0 < mirrored.mean() < 1


# ---- training


class Patches(torch.nn.Module):
    """A transformer in a few lines, for models of which there is none to take."""

    def __init__(self):
        super().__init__()
        self.cut = torch.nn.Conv3d(3, 32, (2, 8, 8), (2, 8, 8))
        self.layer = torch.nn.TransformerEncoderLayer(32, 2, 64, 0.0, batch_first=True)
        self.head = torch.nn.Linear(32, 4)

    def forward(self, clips):
        return self.head(self.layer(self.cut(clips).flatten(2).mT).mean(1))


@dataclass
class Model:
    """A network and how it takes clips."""

    network: torch.nn.Module
    takes: str = "BCFHW"

    def __call__(self, clips):
        found = self.network(clips.transpose(1, 2) if self.takes == "BFCHW" else clips)
        return getattr(found, "logits", found)


TINY = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)


def videomae(library, torchvision, frames):
    config = library.VideoMAEConfig(image_size=SIZE, patch_size=8, num_frames=frames, num_labels=4, **TINY)
    return Model(library.VideoMAEForVideoClassification(config), "BFCHW")


def timesformer(library, torchvision, frames):
    config = library.TimesformerConfig(image_size=SIZE, patch_size=8, num_frames=frames, num_labels=4, **TINY)
    return Model(library.TimesformerForVideoClassification(config), "BFCHW")


def vivit(library, torchvision, frames):
    config = library.VivitConfig(image_size=SIZE, num_frames=frames, tubelet_size=(2, 8, 8), num_labels=4, **TINY)
    return Model(library.VivitForVideoClassification(config), "BFCHW")


def vjepa2(library, torchvision, frames):
    config = library.VJEPA2Config(
        crop_size=SIZE, patch_size=8, frames_per_clip=frames, hidden_size=24, num_hidden_layers=1,
        num_attention_heads=2, mlp_ratio=2, num_pooler_layers=1, num_labels=4, pred_hidden_size=24,
        pred_num_attention_heads=2, pred_num_hidden_layers=1,
    )  # fmt: skip
    return Model(library.VJEPA2ForVideoClassification(config), "BFCHW")


def mvit(library, torchvision, frames):
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    kernel = (3, 3, 3)
    blocks = [
        MSBlockConfig(2, 16, 16, kernel, kernel, (1, 1, 1), (1, 2, 2)),
        MSBlockConfig(2, 16, 32, kernel, kernel, (1, 2, 2), (1, 1, 1)),
    ]
    options = dict(residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True, proj_after_attn=True)
    return Model(MViT((SIZE, SIZE), frames, blocks, num_classes=4, **options))


def video_swin(library, torchvision, frames):
    from torchvision.models.video import SwinTransformer3d

    return Model(SwinTransformer3d([2, 4, 4], 16, [1, 1], [2, 2], [4, 4, 4], num_classes=4))


def patches(library, torchvision, frames):
    return Model(Patches())


@dataclass(frozen=True)
class Case:
    """A family, what it is asked for, a model of it, and of how many videos a batch is."""

    name: str
    model: Callable
    asked: dict
    videos: int = 8
    stage: str = "train"


CASES = [
    Case("videomae", videomae, dict(variant="base")),
    Case("videomae_v2", videomae, dict(variant="giant", dataset="ssv2")),
    Case("mvit", mvit, dict(variant="v2-S")),
    Case("uniformer", patches, {}),
    Case("video_swin", video_swin, dict(variant="base", dataset="ssv2")),
    Case("timesformer", timesformer, {}),
    Case("internvideo2", patches, dict(variant="1B-8")),
    Case("vivit", vivit, dict(variant="large-fe", dataset="epic_kitchens")),
    Case("vjepa2", vjepa2, dict(dataset="ssv2"), videos=4),
    Case("hiera", patches, {}, videos=1, stage="test"),
]


@pytest.fixture(scope="module")
def transformers(torchvision):
    """The library, which reaches for torchvision."""
    return pytest.importorskip("transformers", reason="the models of these tests are in the extra [test]")


@pytest.fixture
def one_thread():
    """For models so small that threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The manifest of eight videos of moving shapes, in four classes."""
    folder = tmp_path_factory.mktemp("shapes")
    make_videos(folder, per_class=2)
    return dv.scan(folder, progress=False)


def steps_on(parameters, loss_of):
    """The losses of 30 steps; asserts that the first one changed the weights."""
    optimizer = torch.optim.AdamW(parameters, 3e-3)
    before, losses = [p.detach().clone() for p in parameters], []
    for step in range(30):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 0:
            changed = [not torch.equal(a, b) for a, b in zip(before, parameters, strict=True)]
            assert np.mean(changed) > 0.6  # V-JEPA 2 has a predictor that classifying does not use
    assert np.isfinite(losses).all()
    return losses


def losses_of(case, manifest, library, torchvision):
    """The losses of 30 steps on one batch of the recipe."""
    recipe = FAMILIES[case.name].function(**case.asked, stage=case.stage, size=SIZE)
    with dv.VideoLoader(manifest, recipe, case.videos, seed=5, device="cpu", num_threads=2) as loader:
        batch = next(iter(loader))
    targets = batch.targets[:, :4] if batch.targets.shape[1] >= 4 else torch.nn.functional.pad(batch.targets, (0, 2))
    assert targets.sum(1).allclose(torch.ones(len(targets))) and len(targets) >= 8
    torch.manual_seed(0)
    model = case.model(library, torchvision, batch.clips.shape[2])
    weights = list(model.network.parameters())
    return steps_on(weights, lambda: torch.nn.functional.cross_entropy(model(batch.clips), targets))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_loss_falls(case, shapes, transformers, torchvision, one_thread):
    losses = losses_of(case, shapes, transformers, torchvision)
    assert np.mean(losses[-3:]) < losses[0] - 0.1, losses


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_loss_falls_on_real_videos(case, fight_manifest, transformers, torchvision, one_thread):
    some = fight_manifest.select([i * 37 % len(fight_manifest) for i in range(8)])
    losses = losses_of(case, some, transformers, torchvision)
    assert np.mean(losses[-3:]) < losses[0] - 0.05, losses


# ---- pre-training


def batch_of(recipe, manifest):
    with dv.VideoLoader(manifest, recipe, 8, seed=5, device="cpu", num_threads=2) as loader:
        return next(iter(loader))


def test_videomae_learns_what_its_mask_hides(shapes, transformers, one_thread):
    """Its own loss: the pixels of the masked patches; as many are visible in each clip."""
    batch = batch_of(dv.recipes.videomae_pretrain(size=64), shapes)
    config = transformers.VideoMAEConfig(
        image_size=64, num_frames=16, decoder_hidden_size=24, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=48, norm_pix_loss=False, **TINY,
    )  # fmt: skip
    torch.manual_seed(0)
    model, (mask,) = transformers.VideoMAEForPreTraining(config), batch.masks
    assert mask.shape == (8, 8, 4, 4) and (mask.flatten(1).sum(1) == 8 * int(0.9 * 16)).all()
    clips = batch.clips.transpose(1, 2)
    losses = steps_on(list(model.parameters()), lambda: model(clips, bool_masked_pos=mask.flatten(1)).loss)
    assert np.mean(losses[-3:]) < 0.8 * losses[0], losses


def test_videomae_v2_decodes_half_of_what_is_hidden(shapes, one_thread):
    """A few lines of torch: tokens that the encoder sees predict the mean colours of those hidden and decoded."""
    batch = batch_of(dv.recipes.videomae_v2_pretrain(size=56), shapes)
    hidden, left_out = (mask.flatten(1) for mask in batch.masks)
    wanted = hidden & ~left_out
    assert hidden.shape == (8, 8 * 4 * 4) and (left_out.sum(1) == 64).all() and (wanted.sum(1) > 20).all()
    torch.manual_seed(0)
    cut, layer = torch.nn.Conv3d(3, 32, (2, 14, 14), (2, 14, 14)), Patches().layer
    place, head = torch.nn.Parameter(0.02 * torch.randn(128, 32)), torch.nn.Linear(32, 3)
    colours = torch.nn.functional.avg_pool3d(batch.clips, (2, 14, 14)).flatten(2).mT

    def loss():
        tokens = cut(batch.clips).flatten(2).mT * ~hidden[..., None] + place
        return ((head(layer(tokens)) - colours)[wanted] ** 2).mean()

    weights = [*cut.parameters(), *layer.parameters(), *head.parameters(), place]
    losses = steps_on(weights, loss)
    assert np.mean(losses[-3:]) < 0.8 * losses[0], losses


def test_v_jepa_2_predicts_both_of_its_tasks(shapes, transformers, one_thread):
    """Features of the masked tokens, of the encoder itself as it was: the cool-down's frames are four times as many."""
    batch = batch_of(dv.recipes.vjepa2_pretrain(size=96), shapes)
    assert batch.clips.shape == (8, 3, 16, 96, 96) and len(batch.masks) == 2
    assert dv.recipes.vjepa2_pretrain("cooldown").sampling.num_frames == 64
    config = transformers.VJEPA2Config(
        patch_size=16, crop_size=96, frames_per_clip=16, tubelet_size=2, hidden_size=24, num_attention_heads=2,
        num_hidden_layers=1, mlp_ratio=2, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
        pred_num_mask_tokens=2, pred_mlp_ratio=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model, clips = transformers.VJEPA2Model(config), batch.clips.transpose(1, 2)
    tasks = [batch.tokens(k) for k in range(2)]

    def loss():
        total = torch.zeros(())
        for context, target in tasks:
            found = model(clips, context_mask=[context], target_mask=[target]).predictor_output
            total = total + (found.last_hidden_state - found.target_hidden_state.detach()).abs().mean()
        return total

    losses = steps_on(list(model.parameters()), loss)
    assert np.mean(losses[-3:]) < 0.9 * losses[0], losses


def test_internvideo2_has_clips_for_its_teacher(shapes, one_thread):
    """Without masks: another network's features of the same clips are learnt."""
    recipe = dv.recipes.internvideo2_pretrain(size=SIZE)
    batch = batch_of(recipe, shapes)
    assert recipe.masks == () and batch.masks == ()
    torch.manual_seed(0)
    teacher, student = Patches(), Patches()
    wanted = teacher(batch.clips).detach()
    losses = steps_on(list(student.parameters()), lambda: ((student(batch.clips) - wanted) ** 2).mean())
    assert np.mean(losses[-3:]) < 0.5 * losses[0], losses


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: dv.recipes.videomae("huge"), "videomae: variant must be one of 'base', 'base-800', 'large', got 'hu"),
        (lambda: dv.recipes.hiera(stage="train"), "hiera: stage must be one of 'test', got 'train'"),
        (lambda: dv.recipes.mvit(dataset="hmdb51"), "mvit: dataset must be one of 'kinetics400', 'ssv2', got 'hmdb"),
        (lambda: dv.recipes.vivit(dataset="ssv2"), "vivit: dataset must be one of 'kinetics400', got 'ssv2'"),
        (lambda: dv.recipes.videomae(size=7), "videomae: size must be None or an int in [16, 16384], got 7"),
    ],
)  # fmt: skip
def test_what_is_not_published_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "make, multiple, least",
    [
        (dv.recipes.videomae_pretrain, 16, 32), (dv.recipes.videomae_v2_pretrain, 28, 28),
        (dv.recipes.vjepa2_pretrain, 16, 48),
    ],
)  # fmt: skip
def test_a_size_that_masks_do_not_suit_is_refused(make, multiple, least):
    """By the recipe, which names itself: all others can be drawn, and hide some of the patches."""
    for size in range(16, 12 * multiple + 1):
        if size % multiple == 0 and size >= least:
            masks = dv.draw_plan(unseen_videos(), make(size=size), np.arange(1)).masks
            assert masks and all(0 < mask.mean() < 1 for mask in masks)
            continue
        said = f"{make.__name__}: size must be None or a multiple of {multiple}, as its masks hide whole patches, in "
        with pytest.raises(ValueError, match=re.escape(f"{said}[{least}, 16384], got {size}")):
            make(size=size)
    for size in range(multiple, least, multiple):  # not refused for nothing
        with pytest.raises(ValueError, match="token"):
            recipe = make(size=None)
            last = dv.RandomResizedCrop(size) if make is dv.recipes.vjepa2_pretrain else dv.MultiScaleCrop(size)
            dv.draw_plan(unseen_videos(), dv.Recipe(recipe.sampling, (last,), masks=recipe.masks), [0])
