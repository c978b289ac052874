"""What docs/from-torchvision.md says of torchvision and of ours, row by row."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SIGMAS, assert_pixels, import_torchvision, noise_clips, patterned_clip, same_distribution
from PIL import Image
from test_docs import program

import dali_vidaug as dv
from dali_vidaug.ops.blend import own_share
from dali_vidaug.ops.randaugment import CODES, SUITES, randaugment
from dali_vidaug.rng import Draws

PAGE = "docs/from-torchvision.md"
SIGNED = ("Brightness", "Color", "Contrast", "Sharpness", "Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
# How many pixels may differ, and by how much, where it is not none: torch counts statistics and blends in single
# precision; a rotated pixel on the border between two may be either's.
TOLERANCE = {
    "AutoContrast": (1, 1),
    "Contrast": (1, 1),
    "Color": (1, 1),
    "Sharpness": (1, 0.001),
    "Rotate": (255, 0.02),
}


def augment(clips, *arguments, **options):
    """``dv.augment`` of clips (F, H, W, 3); those of the batch are (B, 3, F, H, W)."""
    return dv.augment([np.moveaxis(np.asarray(clip), 3, 0) for clip in clips], *arguments, layout="CFHW", **options)


def video(clip):
    """(F, H, W, 3) as torchvision has it: (F, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2)


def frames(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


def magnitude_of(v2, name, number, height, width):
    magnitudes = v2.RandAugment()._AUGMENTATION_SPACE[name][0](31, height, width)
    return 0.0 if magnitudes is None else float(magnitudes[number])


def their_op(v2, clip, name, magnitude, interpolation="nearest"):
    theirs = v2.RandAugment(interpolation=interpolation)
    return frames(theirs._apply_image_or_video_transform(video(clip), name, magnitude, interpolation, theirs._fill))


def sign_of(name, value):
    """The sign that torchvision draws for what our row says: its translations move the picture, ours look elsewhere."""
    if name not in SIGNED:
        return 1
    value = value - 1 if name in ("Brightness", "Color", "Contrast", "Sharpness") else value
    return (1 if value > 0 else -1) * (-1 if name.startswith("Translate") else 1)


# RandAugment


def test_the_ops_of_the_suite_are_those_of_torchvision(v2):
    assert set(SUITES["torchvision"].ops) == set(v2.RandAugment()._AUGMENTATION_SPACE)
    assert set(SUITES["wide"].ops) == set(v2.TrivialAugmentWide()._AUGMENTATION_SPACE)
    theirs, ours = v2.RandAugment(), SUITES["torchvision"]
    assert (theirs.num_ops, theirs.magnitude, theirs.num_magnitude_bins) == (2, ours.magnitude, ours.highest + 1)
    assert (
        str(getattr(theirs.interpolation, "value", theirs.interpolation)) == ours.interpolation
        and theirs.fill is None
        and ours.fill == (0, 0, 0)
    )


@pytest.mark.parametrize("shape", [(4, 112, 168), (4, 37, 41), (1, 224, 224)], ids=str)
@pytest.mark.parametrize("name", SUITES["torchvision"].ops)
def test_each_op_of_randaugment_has_torchvisions_pixels(name, shape, v2):
    """``RandAugment(2, m, suite="torchvision")`` is ``v2.RandAugment(2, m)``, every frame by itself."""
    clip = patterned_clip(shape)
    for number in (0, 3, 9, 17, 30):
        op = dv.RandAugment(1, float(number), suite="torchvision", ops=(name,))
        rows = op.draw(Draws(number, 0, np.arange(4)), *shape)
        magnitude = magnitude_of(v2, name, number, *shape[1:])
        for row in rows:
            expected = their_op(v2, clip, name, magnitude * sign_of(name, row["value"][0, 0]))
            (out,) = randaugment([clip], row[None], 1)
            most, share = TOLERANCE.get(name, (0, 0))
            assert_pixels(out, expected, max_diff=most, max_fraction=share)


def test_the_magnitude_9_of_the_default_suite_is_three_times_torchvisions():
    """The mistake that the page warns of: 9 of 10 against 9 of 30."""
    ours = np.abs(dv.RandAugment(1, 9.0, 0.0, ops=("Rotate",)).draw(Draws(0, 0, [0]), 1, 9, 9)["value"])[0, 0, 0]
    theirs = np.abs(dv.RandAugment(1, 9.0, suite="torchvision", ops=("Rotate",)).draw(Draws(0, 0, [0]), 1, 9, 9)["value"])[0, 0, 0]  # fmt: skip  # noqa: E501
    assert (round(float(ours), 4), round(float(theirs), 4)) == (27, 9)


def test_torchvision_measures_each_frame_and_our_default_the_clip(v2):
    clip = patterned_clip((4, 30, 40))
    for name in ("AutoContrast", "Equalize", "Contrast"):
        op = dv.RandAugment(1, 9.0, suite="torchvision", ops=(name,), statistics="clip")
        row = op.draw(Draws(0, 0, [0]), *clip.shape[:3])
        expected = their_op(v2, clip, name, magnitude_of(v2, name, 9, 30, 40) * sign_of(name, row["value"][0, 0, 0]))
        (out,) = randaugment([clip], row, 1)
        assert (np.abs(out.astype(int) - expected) > 1).mean() > 0.05
        whole = clip.reshape(1, -1, 40, 3)  # the frames under each other are one picture
        tall = their_op(v2, whole, name, magnitude_of(v2, name, 9, 30, 40) * sign_of(name, row["value"][0, 0, 0]))
        assert_pixels(out, tall.reshape(clip.shape), max_diff=1)


@pytest.mark.parametrize("shape", [(1, 112, 112), (1, 160, 160), (1, 224, 224)], ids=str)
def test_nearest_rotations_and_shears_take_pillows_pixel(shape):
    """At most 0.25 % of the pixels are the neighbour's, 0.1 % on average (of noise: there every neighbour differs)."""
    (clip,) = noise_clips(shape)
    image, shares = Image.fromarray(clip[0]), []
    for value in np.linspace(-1, 1, 41):
        for name, scale in (("Rotate", 30), ("ShearX", 0.3), ("ShearY", 0.3)):
            row = dv.RandAugment(1, 9.0, suite="torchvision", ops=(name,)).draw(Draws(0, 0, [0]), *shape)
            row["value"] = np.float32(value * scale)
            data = [1, 0, 0, 0, 1, 0]
            data[3 if name == "ShearY" else 1] = float(row["value"][0, 0, 0])
            turned = image.rotate(float(row["value"][0, 0, 0]))
            expected = turned if name == "Rotate" else image.transform(image.size, Image.Transform.AFFINE, data)
            (out,) = randaugment([clip], row, 1)
            shares.append((out[0] != np.asarray(expected)).any(-1).mean())
    assert max(shares) <= 0.0025 and np.mean(shares) <= 0.001


def test_trivialaugment_differs_in_steps_and_in_translations(v2):
    space = v2.TrivialAugmentWide()._AUGMENTATION_SPACE
    for name in SUITES["wide"].ops:
        values = space[name][0](31, 224, 224)
        if values is None:
            continue
        drawn = dv.TrivialAugment(ops=(name,)).draw(Draws(0, 0, np.arange(5000)), 1, 224, 224)["value"][:, 0, 0]
        if name == "Solarize":
            values = values * 256
        if name in ("Brightness", "Color", "Contrast", "Sharpness"):
            drawn = drawn - 1
        ends = np.abs(drawn).min(), np.abs(drawn).max()
        np.testing.assert_allclose(ends, (float(values.min()), float(values.max())), atol=0.01 * float(values.max()))
        assert name == "Posterize" or len(np.unique(np.abs(drawn))) > 1000  # 31 in torchvision
    large = dv.TrivialAugment(ops=("TranslateX",)).draw(Draws(0, 0, np.arange(5000)), 1, 448, 448)["value"]
    assert 63 < np.abs(large).max() <= 64 and float(space["TranslateX"][0](31, 448, 448).max()) == 32


# Crops and flips


def test_boxes_of_random_resized_crop_are_distributed_alike(v2):
    for scale, ratio, size in (((0.08, 1.0), (3 / 4, 4 / 3), (90, 160)), ((0.5, 1.0), (0.9, 1.1), (40, 200))):
        op = dv.RandomResizedCrop(32, scale, ratio)
        rows = op.draw(Draws(0, 0, np.arange(6000)), 1, np.full(6000, size[0]), np.full(6000, size[1]))
        theirs = v2.RandomResizedCrop(32, scale, ratio, antialias=True)
        torch.manual_seed(0)
        boxes = [theirs.make_params([torch.zeros(3, *size)]) for _ in range(6000)]
        for ours, name in (
            (rows["top"], "top"), (rows["left"], "left"), (rows["bottom"] - rows["top"], "height"),
            (rows["right"] - rows["left"], "width"),
        ):  # fmt: skip
            assert same_distribution(ours.astype(int), np.array([box[name] for box in boxes])), name


@pytest.mark.parametrize("size", [(240, 320), (96, 160), (300, 200)], ids=str)
def test_random_resized_crop_has_torchvisions_pixels(size, v2):
    """Within one level away from the box's edge: there DALI's filter sees the pixels beyond it, torchvision's not."""
    y, x = np.mgrid[: size[0], : size[1]]
    picture = np.stack(
        [128 + 100 * np.sin(x / 9 + y / 17), 128 + 100 * np.cos(y / 11), 128 + 90 * np.sin((x - y) / 23)]
    )
    clip = picture.transpose(1, 2, 0).astype(np.uint8)[None]
    batch = augment([clip] * 16, (dv.RandomResizedCrop(112),), device="cpu")
    for row, out in zip(batch.plan.args["RandomResizedCrop"], batch.clips, strict=True):
        top, left, bottom, right = (int(row[name]) for name in ("top", "left", "bottom", "right"))
        expected = v2.functional.resized_crop(
            video(clip), top, left, bottom - top, right - left, [112, 112], antialias=True
        )
        differs = (out.permute(1, 0, 2, 3).int() - expected.int()).abs()
        assert differs[..., 3:-3, 3:-3].max() <= 1 and (differs > 1).float().mean() < 0.02 and differs.max() < 12


def test_resize_rounds_the_long_side_and_torchvision_cuts_it(v2):
    (clip,) = noise_clips((1, 33, 41))
    assert augment([clip], (dv.Resize(24),), device="cpu").clips.shape[-2:] == (24, 30)
    assert tuple(v2.Resize(24, antialias=True)(video(clip)).shape[-2:]) == (24, 29)


def test_center_crop_is_torchvisions_or_a_pixel_beside_it(v2):
    for height, width in ((40, 60), (41, 60), (43, 61)):
        (clip,) = noise_clips((2, height, width))
        ours = augment([clip], (dv.CenterCrop(24),), device="cpu").clips[0].permute(1, 0, 2, 3)
        top, left = round((height - 24) / 2), round((width - 24) / 2)  # torchvision's
        assert torch.equal(v2.CenterCrop(24)(video(clip)), video(clip)[..., top : top + 24, left : left + 24])
        top, left = (height - 24) // 2, (width - 24) // 2
        assert torch.equal(ours, video(clip)[..., top : top + 24, left : left + 24])
    assert round((43 - 24) / 2) == 10 and (43 - 24) // 2 == 9


def test_flip_and_normalize_are_torchvisions(v2):
    (clip,) = noise_clips((3, 20, 30))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = augment([clip], (dv.RandomHorizontalFlip(1.0), dv.Normalize(mean, std)), device="cpu").clips[0]
    theirs = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    np.testing.assert_allclose(ours.permute(1, 0, 2, 3), theirs(video(clip)), atol=2e-6)


# Erasing and mixing


def test_random_erasing_before_normalize_is_torchvisions_after_it(v2):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = dv.RandomErasing(1.0, (0.02, 0.33), (0.3, 3.3), "constant", mean)
    clips = noise_clips(*[(2, 40, 50)] * 12)
    batch = augment(clips, (ours, dv.Normalize(mean, std)), device="cpu")
    for clip, row, out in zip(clips, batch.plan.args["RandomErasing"], batch.clips, strict=True):
        top, bottom, left, right = (int(row[name][0]) for name in ("top", "bottom", "left", "right"))
        plain = v2.functional.normalize(video(clip) / 255, mean, std)
        expected = v2.functional.erase(plain, top, left, bottom - top, right - left, torch.zeros(1))
        # The colour is rounded to a level before it is normalised.
        np.testing.assert_allclose(out.permute(1, 0, 2, 3), expected, atol=0.5 / 255 / min(std) + 1e-5)
    theirs = v2.RandomErasing(1.0, (0.02, 0.33), (0.3, 3.3))
    torch.manual_seed(0)
    boxes = [theirs.make_params([torch.zeros(3, 40, 50)]) for _ in range(6000)]
    rows = ours.draw(Draws(0, 0, np.arange(6000)), 2, 40, 50)
    for drawn, name in ((rows["top"], "i"), (rows["left"], "j"), (rows["bottom"] - rows["top"], "h")):
        assert same_distribution(drawn[:, 0].astype(int), np.array([box[name] for box in boxes])), name


def test_noise_of_random_erasing_is_the_same_in_all_frames_of_torchvision_and_not_in_ours(v2):
    torch.manual_seed(0)
    erased = v2.RandomErasing(1.0, value="random")(torch.zeros(3, 3, 40, 50))
    assert torch.equal(erased[0], erased[1]) and erased.any()
    ours = augment([np.zeros((3, 40, 50, 3), np.uint8)], (dv.RandomErasing(1.0),), device="cpu").clips[0]
    assert ours.any() and not torch.equal(ours[:, 0], ours[:, 1])


@pytest.mark.parametrize("name", ["CutMix", "MixUp"])
def test_shares_of_cutmix_and_mixup_are_distributed_alike(name, v2):
    """One share and box for the batch, as ``granularity="batch"``."""
    theirs = getattr(v2, name)(num_classes=4)
    torch.manual_seed(0)
    drawn = [theirs.make_params([torch.zeros(2, 3, 1, 30, 40)]) for _ in range(3000)]
    shares = np.array([box["lam_adjusted" if name == "CutMix" else "lam"] for box in drawn])
    op = getattr(dv, name)(granularity="batch")
    rows = [op.draw(Draws(0, 0, [0, 1], prefix=name, batch=b), 1, 30, 40)[:1] for b in range(3000)]
    ours = own_share(np.concatenate(rows))
    assert same_distribution(np.round(ours * 40).astype(int), np.round(shares * 40).astype(int))


# Colour


def test_color_jitter_and_grayscale_are_torchvisions(v2):
    """Torchvision's transform with the factors and the order of our plan: the same clips."""
    clips = noise_clips(*[(2, 20, 30)] * 30)
    batch = augment(
        clips, (dv.ColorJitter(0.4, 0.4, 0.4, 0.1, statistics="frame"), dv.RandomGrayscale(0.5)), device="cpu"
    )
    jitter, seen = v2.ColorJitter(0.4, 0.4, 0.4, 0.1), set()
    for out, clip, row, grey in zip(
        batch.clips, clips, batch.plan.args["ColorJitter"], batch.plan.args["RandomGrayscale"], strict=True
    ):
        order = [code - 1 for code in row["op"].tolist()]  # torchvision numbers them alike, from 0
        factors = {f"{n}_factor": float(row["value"][order.index(i), 0])
                   for i, n in enumerate(("brightness", "contrast", "saturation", "hue"))}  # fmt: skip
        expected = jitter.transform(video(clip), {"fn_idx": order, **factors})
        expected = v2.functional.rgb_to_grayscale(expected, 3) if grey["value"].any() else expected
        seen.add((*order, bool(grey["value"].any())))
        exact = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")  # else nothing is fused there
        assert_pixels(out.permute(1, 2, 3, 0).numpy(), frames(expected), max_diff=0 if exact else 4)
    assert len(seen) > 15


def test_grayscale_of_torchvision_leaves_videos_as_they_are(v2):
    tv_tensors = import_torchvision()[2]
    (clip,) = noise_clips((2, 20, 30))
    theirs = v2.RandomGrayscale(1.0)
    assert torch.equal(theirs(tv_tensors.Video(video(clip))), video(clip))
    assert not torch.equal(theirs(video(clip)), video(clip))


def test_gaussian_noise_is_as_strong(v2):
    """Torchvision cuts the noise off towards 0, so that twice as many values do not change."""
    clip = np.full((4, 64, 64, 3), 128, np.uint8)
    torch.manual_seed(0)
    theirs = v2.functional.gaussian_noise(video(clip), sigma=0.1).float() - 128
    ours = augment([clip], (dv.GaussianNoise(0.1),), device="cpu").clips.float() - 128
    assert abs(ours.std() - 25.5) < 0.3 and abs(theirs.std() - 25.1) < 0.3
    assert 1.6 < (theirs == 0).float().mean() / (ours == 0).float().mean() < 3


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_random_apply_is_as_probable(v2, probability):
    clips = noise_clips(*[(1, 2, 2)] * 600)
    theirs = v2.RandomApply([v2.RandomInvert(1.0)], probability)
    torch.manual_seed(0)
    changed = np.mean([not torch.equal(theirs(video(clip)), video(clip)) for clip in clips])
    batch = augment(clips, (dv.RandomApply(dv.RandAugment(1, ops=("Invert",)), probability),), device="cpu")
    ours = np.mean(
        [not np.array_equal(out.permute(1, 2, 3, 0).numpy(), c) for out, c in zip(batch.clips, clips, strict=True)]
    )
    for share in (changed, ours):
        assert abs(share - probability) <= SIGMAS * (probability * (1 - probability) / 600) ** 0.5


# A whole recipe


def test_the_ported_recipe_gives_what_torchvision_makes_of_the_same_numbers(v2, numbered_manifest):
    """Each stage after the crop, with torchvision's functions and the numbers of our plan."""
    scope = {"dv": dv}
    exec(program(PAGE, "ported recipe"), scope)
    recipe, mean, std = scope["recipe"], scope["mean"], scope["std"]
    clips = [patterned_clip((4, 120, 160), i) for i in range(8)]
    labels = np.eye(8, dtype=np.float32)
    num_exact = 0
    for seed in range(4):
        batch = augment(clips, recipe.ops, labels, seed=seed, device="cpu")
        cropped = augment(clips, recipe.ops[:1], seed=seed, device="cpu").clips
        args, stage, exact = batch.plan.args, [], []
        for i, clip in enumerate(cropped.permute(0, 2, 1, 3, 4)):
            if args["RandomHorizontalFlip"]["mirrored"][i]:
                clip = v2.functional.horizontal_flip(clip)
            row, same = args["RandAugmentT"][i], True
            for code, values in zip(row["op"][:2], row["value"], strict=True):
                name = CODES[code]
                magnitude = magnitude_of(v2, name, 9, *clip.shape[-2:]) * sign_of(name, values[0])
                clip = torch.from_numpy(their_op(v2, frames(clip), name, magnitude)).permute(0, 3, 1, 2)
                same &= name not in TOLERANCE
            stage.append(v2.functional.normalize(clip / 255, mean, std))
            exact.append(same)
            erased = args["RandomErasing"][i]
            if erased["inside"].any():
                top, bottom, left, right = (int(erased[name][0]) for name in ("top", "bottom", "left", "right"))
                stage[i] = v2.functional.erase(stage[i], top, left, bottom - top, right - left, torch.zeros(1))
        rows = args["OneOf"]
        for i, partner in enumerate(rows["partner"].tolist()):
            expected, outside = stage[i].clone(), float(rows["outside"][i, 0])
            if outside:
                expected = (1 - outside) * stage[i] + outside * stage[partner]
            elif rows["inside"][i].any():
                box = (..., *(slice(int(rows[low][i, 0]), int(rows[high][i, 0]))
                              for low, high in (("top", "bottom"), ("left", "right"))))  # fmt: skip
                expected[box] = stage[partner][box]
            differs = (batch.clips[i].permute(1, 0, 2, 3) - expected).abs() * 255 * min(std)
            levels = 0.51 + (0.51 if outside else 0)  # the erased colour is rounded, and so is a blend
            if exact[i] and exact[partner]:
                assert differs.max() < levels
                num_exact += 1
            else:
                assert (differs > 4).float().mean() < 0.03
            own = float(own_share(rows)[i])
            assert (
                abs(float(batch.targets[i, i]) - own) < 1e-6 and abs(float(batch.targets[i, partner]) - 1 + own) < 1e-6
            )
    assert num_exact >= 3


def test_the_page_names_what_torchvision_has(v2):
    """No transform of the table is misspelt: on the left torchvision's (or pytorchvideo's), on the right ours."""
    text = (Path(__file__).parent.parent / PAGE).read_text()
    table = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(table) >= 12
    for line in table:
        left, right = line.split("|")[1:3]
        for name in re.findall(r"`(?:v2\.)(\w+)", left):
            assert hasattr(v2, name), name
        for name in re.findall(r"dv\.(\w+)", right):
            assert hasattr(dv, name), name
