"""benchmarks/interpolation.py measures what it says: frames that are known, made by each of its ways."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from dali_vidaug.media.encode import write_video

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import interpolation

WAYS = (interpolation.nearest, interpolation.linear, interpolation.blocks, interpolation.codec)


def moving(step, count=12, height=96, width=144):
    """(count, height, width, 3) uint8: smooth noise that moves by ``step`` (y, x) pixels a frame."""
    noise = np.random.default_rng(0).random((height // 4 + 60, width // 4 + 60, 3))
    large = noise.repeat(4, 0).repeat(4, 1)
    smooth = sum(np.roll(large, (y, x), (0, 1)) for y in range(4) for x in range(4)) / 16
    frames = []
    for t in range(count):
        y, x = 60 + t * step[0], 60 + t * step[1]
        frames.append(smooth[y : y + height, x : x + width])
    return (255 * np.stack(frames)).astype(np.uint8)


def inner_psnr(out, expected):
    """Without the sides, where only one of the neighbours shows what is there."""
    return interpolation.psnr([interpolation.error(out[16:-16, 16:-16], expected[16:-16, 16:-16])])


@pytest.mark.parametrize("step", [(0, 2), (-1, 3), (2, -1)], ids=str)
def test_ways_with_motion_find_what_moves(step):
    frames = moving(step)
    nearest, linear, blocks, codec = (inner_psnr(way(frames[4], frames[6]), frames[5]) for way in WAYS)
    assert nearest < linear < blocks - 8 and linear < codec - 3
    made = interpolation.ffmpeg(frames)
    assert {1, 3, 5, 7} <= made.keys() and not any(number % 2 == 0 for number in made)
    assert inner_psnr(made[5], frames[5]) > linear + 3


def test_what_does_not_move_stays_and_a_fade_is_blended():
    a, b = moving((0, 0), 1)[0], moving((40, 24), 2)[1]
    for way in WAYS:
        assert np.abs(way(a, a).astype(int) - a).max() <= 1
    middle = interpolation.linear(a, a // 2)
    assert (interpolation.blocks(a, a // 2) == middle).mean() > 0.9
    assert interpolation.error(interpolation.linear(a, b), (a.astype(int) + b + 1) // 2) == 0


def test_left_out_frames_are_compared_with_what_is_made_of_their_neighbours(tmp_path):
    """Nearly without loss: the errors are those of the frames themselves."""
    frames = moving((0, 1), 9)
    write_video(tmp_path / "x.mp4", frames, codec="libx264rgb", options={"crf": "0"}, pixel_format="rgb24")
    options = Namespace(size=96, most=150, frames=10, ways=())
    found = list(interpolation.measure(tmp_path / "x.mp4", options))
    assert len(found) == len([i for i in interpolation.ffmpeg(frames) if i < 8])
    for i, (near, made) in zip((1, 3, 5, 7), found, strict=False):
        expected = [interpolation.error(frames[i + side], frames[i]) for side in (-1, 1)]
        assert near == pytest.approx(expected, rel=0.05)
        blend = (frames[i - 1].astype(int) + frames[i + 1] + 1) // 2
        assert made["linear"] == pytest.approx(interpolation.error(blend, frames[i]), rel=0.1, abs=0.3)
