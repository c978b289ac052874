"""JpegArtefacts: Pillow's frames, and what is drawn."""

import io

import numpy as np
import pytest
from conftest import SIGMAS, assert_pixels, draw_rows, noise_clips, patterned_clip
from PIL import Image

import dali_vidaug as dv

SHAPES = [(1, 1, 1), (3, 17, 23), (2, 8, 32), (2, 1, 40), (4, 48, 64)]


def by_pillow(frame, quality):
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=int(quality), subsampling=2)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_frames_are_pillows(shape):
    clips = [patterned_clip(shape, i) for i in range(6)]
    batch = dv.augment(clips, (dv.JpegArtefacts((1, 100), 0.6),), layout="FHWC", device="cpu", seed=1)
    rows = batch.plan.args["JpegArtefacts"]
    assert set(rows["applied"].tolist()) == {0, 1}
    for out, clip, row in zip(batch.clips.numpy(), clips, rows, strict=True):
        expected = [by_pillow(frame, row["quality"]) if row["applied"] else frame for frame in clip]
        assert_pixels(out, np.stack(expected))


def test_on_a_gpu_the_frames_are_nearly_the_same(device):
    """NVIDIA's transforms round in another way."""
    clips = [patterned_clip((4, 48, 64), i) for i in range(4)]
    one, other = (dv.augment(clips, (dv.JpegArtefacts((20, 60)),), layout="FHWC", device=d) for d in (device, "cpu"))
    difference = np.abs(one.clips.cpu().numpy().astype(int) - other.clips.numpy())
    assert difference.mean() < 2


def test_qualities_are_uniform():
    rows = draw_rows(dv.JpegArtefacts((30, 33), 0.4), 8000, (3, 8, 8))
    counts = np.bincount(rows["quality"], minlength=34)[30:]
    assert counts.sum() == 8000 and (abs(counts - 2000) < SIGMAS * 1500**0.5).all()
    assert abs(rows["applied"].mean() - 0.4) < SIGMAS * (0.24 / 8000) ** 0.5


def test_a_plan_says_what_was_drawn_and_is_checked():
    clips = noise_clips(*[(2, 8, 8)] * 8)
    op = dv.JpegArtefacts((30, 60), 0.5)
    plan = dv.augment(clips, (op,), layout="FHWC", device="cpu").plan
    texts = [plan.describe(i) for i in range(8)]
    assert any("JpegArtefacts\n    quality " in text for text in texts)
    assert any("JpegArtefacts\n    unchanged" in text for text in texts)
    rows, sizes = plan.args["JpegArtefacts"].copy(), np.array([[2, 8, 8]] * 8).T
    op.check(rows, *sizes)
    rows["quality"][3] = 0
    with pytest.raises(ValueError, match=r"JpegArtefacts: quality of row 3 must be in \[1, 100\], got 0"):
        op.check(rows, *sizes)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(quality=0), r"JpegArtefacts: quality must be an int in \[1, 100\] or 1 <= low <= high <= 100, got 0"),
        (dict(quality=(60, 30)), "quality must be"),
        (dict(quality=0.5), "quality must be"),
        (dict(quality="high"), "quality must be"),
        (dict(probability=2), "probability must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dv.JpegArtefacts(**options)
