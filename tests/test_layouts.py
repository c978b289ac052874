"""Clips in memory: their layouts, told by their shapes or given, and given back."""

import itertools

import numpy as np
import pytest
import torch
from conftest import RECIPE, noise_clips

import dali_vidaug as dv

# numpy.moveaxis alone, from (F, H, W, C); so what is expected does not come from the package's own table
SOURCES = {"FHWC": (0, 1, 2, 3), "FCHW": (0, 2, 3, 1), "CFHW": (1, 2, 3, 0)}
OPS = (dv.RandomHorizontalFlip(), dv.CubeCutMix(), dv.RandAugmentT())
CLIPS = noise_clips(*[(6, 20, 24)] * 4)


def laid_out(clips, layout):
    """Clips (F, H, W, 3) in another layout: a list of arrays."""
    return [np.moveaxis(clip, (0, 1, 2, 3), SOURCES[layout]) for clip in clips]


def test_the_layouts_are_what_their_letters_say():
    for layout in SOURCES:
        (clip,) = laid_out([np.zeros((2, 4, 5, 3))], layout)
        assert clip.shape == tuple({"F": 2, "H": 4, "W": 5, "C": 3}[letter] for letter in layout)


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("layout", SOURCES)
@pytest.mark.parametrize("kind", ["list of arrays", "list of tensors", "array", "tensor"])
def test_clips_come_back_as_they_were_given(kind, layout, stated):
    """The same pixels for each layout; mixing and ramps show that frames are frames and clips are clips."""
    expected = laid_out(dv.augment(CLIPS, OPS, np.eye(4), seed=2).clips.numpy(), layout)
    clips = laid_out(CLIPS, layout)
    clips = np.stack(clips) if kind in ("array", "tensor") else clips
    clips = torch.from_numpy(clips) if kind == "tensor" else clips
    clips = [torch.from_numpy(clip) for clip in clips] if kind == "list of tensors" else clips
    batch = dv.augment(clips, OPS, np.eye(4), seed=2, layout=layout if stated else None)
    assert batch.clips.is_contiguous() and batch.clips.dtype == torch.uint8
    assert np.array_equal(batch.clips.numpy(), np.stack(expected))
    assert not np.array_equal(batch.clips.numpy(), np.stack(laid_out(CLIPS, layout)))


@pytest.mark.parametrize("layout", SOURCES)
def test_floats_have_the_layout_too(layout):
    batch = dv.augment(np.stack(laid_out(CLIPS, layout)), (dv.Normalize((0.5, 0.4, 0.3), (1.0, 2.0, 4.0)),))
    expected = (np.stack(CLIPS) / 255 - [0.5, 0.4, 0.3]) / [1.0, 2.0, 4.0]
    np.testing.assert_allclose(batch.clips.numpy(), np.stack(laid_out(expected, layout)), atol=1e-6)


@pytest.mark.parametrize("layout", SOURCES)
def test_one_clip_is_a_batch_of_one(layout):
    (clip,) = laid_out(CLIPS[:1], layout)
    for given in (clip, torch.from_numpy(clip)):
        batch = dv.augment(given, OPS[:1], seed=3)
        assert len(batch) == 1
        assert torch.equal(batch.clips, dv.augment([clip], OPS[:1], seed=3).clips)


def test_what_a_loader_gives_is_taken(numbered_manifest):
    recipe = dv.Recipe(dv.ClipSampling(num_frames=6), (dv.RandomResizedCrop(32),))
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu") as loader:
        clips, targets = next(iter(loader))
    batch = dv.augment(clips, (), targets)
    assert torch.equal(batch.clips, clips) and torch.equal(batch.targets, targets)
    with dv.VideoLoader(numbered_manifest, RECIPE, 4, device="cpu") as loader:
        with pytest.raises(ValueError, match=r"uint8, got \(3, 4, 32, 32\) float32"):
            dv.augment(next(iter(loader)).clips, ())


def test_clips_of_several_sizes():
    clips = noise_clips((6, 30, 3), (6, 3, 40), (6, 20, 24))  # the first two alone may have another layout
    for layout in SOURCES:
        batch = dv.augment(laid_out(clips, layout), (dv.Resize((8, 8)),))
        assert [batch.clips.shape[1 + layout.index(letter)] for letter in "FHWC"] == [6, 8, 8, 3]


def readings(shape):
    """The layouts in which a shape is of RGB; and those in which it is of grey or RGBA clips."""
    rgb = [layout for layout in SOURCES if shape[layout.index("C")] == 3]
    return rgb, [layout for layout in SOURCES if shape[layout.index("C")] in (1, 4)]


@pytest.mark.parametrize("shape", list(itertools.product((1, 3, 4, 7), (1, 3, 4, 7), (3, 8), (1, 3, 4, 7))), ids=str)
def test_a_layout_is_never_guessed(shape):
    """Each shape is taken as the only RGB layout that it fits, or refused; with ``layout`` each reading is taken."""
    clip = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    rgb, other = readings(shape)
    try:
        taken = dv.augment([clip], (dv.RandomHorizontalFlip(1.0),), device="cpu").clips[0].numpy()
    except ValueError as error:
        taken = None
        assert rgb != ["FHWC"]
        if rgb:
            assert len(rgb) + len(other) > 1 and f"may be {' or '.join(sorted(rgb + other))}" in str(error)
        else:
            assert f"got {shape} uint8" in str(error)
    flipped = {layout: np.flip(clip, layout.index("W")) for layout in rgb}
    if taken is not None:
        assert len(rgb) == 1 and np.array_equal(taken, flipped[rgb[0]])
    for layout in rgb:
        stated = dv.augment([clip], (dv.RandomHorizontalFlip(1.0),), layout=layout, device="cpu").clips[0].numpy()
        assert np.array_equal(stated, flipped[layout])
    for layout in set(SOURCES) - set(rgb):
        with pytest.raises(ValueError, match=r"augment: clip 0 must be \([FHW3, ]+\) uint8, got"):
            dv.augment([clip], (), layout=layout, device="cpu")


@pytest.mark.parametrize(
    "clips, layout, message",
    [
        (CLIPS, "BCFHW", "layout must be 'CFHW', 'FCHW' or 'FHWC', the axes of one clip, got 'BCFHW'"),
        (CLIPS, "fhwc", "layout must be 'CFHW', 'FCHW' or 'FHWC', the axes of one clip, got 'fhwc'"),
        (CLIPS, "FCHW", r"clip 0 must be \(F, 3, H, W\) uint8, got \(6, 20, 24, 3\) uint8"),
        (
            CLIPS[:1] + laid_out(CLIPS[1:2], "FCHW"),
            None,
            r"clip 1 must be \(F, H, W, 3\) uint8 as the clips before, got",
        ),
        (
            [np.zeros(shape, np.uint8) for shape in ((3, 6, 8, 3), (3, 6, 8, 9), (7, 6, 8, 3))],
            None,
            r"clip 2 must be \(3, F, H, W\) uint8 as the clips before, got \(7, 6, 8, 3\)",
        ),
        (
            np.zeros((2, 3, 3, 8, 8), np.uint8),
            None,
            r"clips of shape \(3, 3, 8, 8\) may be CFHW or FCHW .*layout= says",
        ),
        (np.zeros((3, 8, 8, 3), np.uint8), None, r"clips of shape \(3, 8, 8, 3\) may be CFHW or FHWC"),
        (np.zeros((3, 8, 8, 1), np.uint8), None, r"clips of shape \(3, 8, 8, 1\) may be CFHW or FHWC"),
        (np.zeros((8, 8, 3), np.uint8), None, r"clip 0 must be .*, got \(8, 3\) uint8"),
        (np.zeros((0, 6, 8, 8, 3), np.uint8), None, "no clips"),
        (np.zeros((1, 6, 0, 8, 3), np.uint8), None, r"clip 0 must be .*, got \(6, 0, 8, 3\) uint8"),
        ([[1, 2], [3]], None, "clip 0 must be"),
    ],
)
def test_what_augment_says(clips, layout, message):
    with pytest.raises(ValueError, match=message):
        dv.augment(clips, (), layout=layout, device="cpu")
