import numpy as np
import pytest
from PIL import Image
from test_kernels import make_clip

from dali_vidaug.ops import RandAugmentT
from dali_vidaug.preview import draw_ramps


@pytest.mark.parametrize("suite, strips", [("monotonic", 15), ("kim2020", 14)])
def test_the_picture_has_a_strip_for_each_op(tmp_path, suite, strips):
    clip = make_clip((5, 30, 40))
    picture = draw_ramps(clip, tmp_path / "ramps.png", RandAugmentT(suite=suite, magnitude=5.0), columns=4, height=60)
    with Image.open(tmp_path / "ramps.png") as saved:
        assert saved.size == picture.size
    one = draw_ramps(clip, ops=("Invert",), columns=5, height=30)
    assert picture.size[1] - 12 == strips * (60 + 20 + 12) and one.size[1] - 12 == 30 + 20 + 12
    # Frames at their own size stand there as the kernels made them.
    assert np.array_equal(np.asarray(one)[32:62, 162:202], 255 - clip[0])
    assert np.array_equal(np.asarray(one)[32:62, 162 + 43 : 202 + 43], 255 - clip[1])
