import numpy as np
import pytest
from conftest import numbered_frame

from dali_vidaug.mix_picture import mix_picture
from dali_vidaug.ops import CubeCutout, Mix, OneOf, RandomErasing
from dali_vidaug.ops.blend import blend
from dali_vidaug.ops.mix import FAMILIES
from dali_vidaug.rng import Draws


@pytest.mark.parametrize("op", [*map(Mix, FAMILIES), RandomErasing(1.0), CubeCutout(), OneOf()], ids=str)
def test_a_picture_shows_the_clips_and_the_result(op):
    clips = [np.stack([numbered_frame(10 * k + i) for i in range(6)]) for k in range(3)]
    name = getattr(op, "name", type(op).__name__)
    rows = op.draw(Draws(5, 0, np.arange(3), prefix=name), 6, 96, 160)
    result, partner = blend(clips, rows)[0], rows["partner"][0]
    sheet = np.asarray(mix_picture(op, clips, ["boxing", "juggling", "rowing"], seed=5, height=96))
    assert sheet.shape[1] == 4 + 6 * 164 and (sheet == 255).any() and sheet.min() < 50
    strips = [clips[0], *([clips[partner]] if partner >= 0 else []), result]
    top = 4
    for strip in strips:
        for i in range(6):
            assert (sheet[top : top + 96, 4 + 164 * i : 164 + 164 * i] == strip[i]).all()
        top += 96 + 8 + 14
    assert sheet.shape[0] == top + 14
