"""Masks in pictures: ``preview --masks``, and under the clips of a batch."""

import numpy as np
import pytest
from conftest import RECIPE
from PIL import Image

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.commands.mask_picture import mask_picture, named_masks
from dali_vidaug.commands.pictures import contact_sheet, masked_frames
from dali_vidaug.masks import MASKS
from dali_vidaug.strips import GAP, LINE, MARGIN

COVER = (186, 188, 194)


def strip_of(picture, top, count, height, width):
    """Frames (count, height, width, 3) of a picture whose strip begins at a row."""
    lefts = [MARGIN + i * (width + GAP) for i in range(count)]
    return np.stack([np.asarray(picture)[top : top + height, left : left + width] for left in lefts])


def covered(frames):
    return (frames == COVER).all(-1)


def test_masked_tokens_are_covered_and_no_other_pixel():
    frames = np.random.default_rng(0).integers(0, 180, (4, 6, 8, 3), np.uint8)
    mask = np.zeros((2, 3, 2), bool)
    mask[1, 2, 0] = True  # frames 2 and 3, rows 4 and 5, columns 0 to 3
    shown = masked_frames(frames, mask)
    assert (shown[2:, 4:, :4] == COVER).all() and covered(shown).sum() == 2 * 2 * 4
    assert (shown[~covered(shown)] == frames[~covered(shown)]).all()


def test_a_contact_sheet_shows_what_masks_leave(numbered_manifest):
    """Under each clip a strip for each mask, of the frames that are shown."""
    masks = (dv.TubeMask(0.5, patch=(16, 32)), dv.RandomMask(0.5, patch=32, tubelet=1))
    recipe = dv.Recipe(RECIPE.sampling, (dv.Resize((96, 160)), dv.Normalize()), masks=masks)
    with dv.VideoLoader(numbered_manifest, recipe, 2, device="cpu") as loader:
        batch = next(iter(loader))
    picture = contact_sheet(batch, num_frames=4, height=96)
    top = MARGIN
    for i in range(2):
        own = strip_of(picture, top + 2 * LINE, 4, 96, 160)
        top += 2 * LINE + 96 + MARGIN
        for mask in batch.masks:
            shown = strip_of(picture, top + LINE, 4, 96, 160)
            assert (shown == masked_frames(own, mask[i].numpy())).all() and covered(shown).mean() == 0.5
            top += LINE + 96 + MARGIN
    assert picture.height == top


@pytest.mark.parametrize(
    "words, count", [(["all"], 6), (["tubemask"], 1), (["dv.TubeMask(0.5)", "RandomMask(keep=0.2, patch=(32, 16))"], 2)]
)
def test_preview_draws_masks(words, count, tmp_path, numbered):
    for more in ([], ["--video", str(next((numbered / "odd").glob("*.mp4")))]):
        assert main(["preview", "--masks", *words, *more, "-o", str(tmp_path / "x.png")]) == 0
        with Image.open(tmp_path / "x.png") as picture:
            assert picture.height == 2 * MARGIN + LINE + 112 + count * (2 * LINE + 112 + MARGIN)


def test_every_mask_has_a_picture_with_its_share_covered():
    """But those that need a video's motion."""
    masks = named_masks(["all"])
    assert {type(mask) for mask in masks} == {mask for mask in MASKS if not hasattr(mask, "after_decoding")}
    clip = np.full((16, 224, 224, 3), 90, np.uint8)
    picture = mask_picture(masks, clip, num_frames=16, height=224)
    shares = []
    for k in range(len(masks)):
        top = MARGIN + LINE + 224 + MARGIN + k * (2 * LINE + 224 + MARGIN) + 2 * LINE
        shares.append(covered(strip_of(picture, top, 16, 224, 224)).mean())
    batch = dv.augment([clip], (), masks=masks, layout="FHWC", device="cpu")
    assert shares == [mask.numpy().mean() for mask in batch.masks]
