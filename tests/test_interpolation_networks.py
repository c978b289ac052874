"""examples/interpolation: networks between two frames, against arithmetic by hand; and the program that trains them."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import dali_vidaug as dv
from dali_vidaug.commands.demo import make_videos

FOLDER = Path(__file__).parent.parent / "examples" / "interpolation"


def module_of(name):
    """A module of the examples; train.py there is not the train.py of the folder above."""
    spec = importlib.util.spec_from_file_location(f"interpolation_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


networks = module_of("networks")
TIMES = torch.tensor([0.125, 0.5, 0.75])


def pair(height=37, width=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((2, 1, 3, height, width), generator=generator).unbind(0)


@pytest.mark.parametrize("kind", networks.KINDS)
@pytest.mark.parametrize("size", [(1, 1), (21, 26)], ids=str)
def test_before_training_each_network_blends(kind, size):
    """So training begins where the kernel is, and cannot but gain."""
    first, last = pair(*size)
    with torch.no_grad():
        made = networks.KINDS[kind]()(first, last, TIMES)
    expected = torch.cat([first.lerp(last, float(t)) for t in TIMES])
    assert made.shape == (3, 3, *size) and (made - expected).abs().max() < 1e-5


def test_weights_of_each_pixel_are_a_convolution_where_they_are_the_same():
    """Torch's convolution of the padded frame is the oracle; of a separable kernel, that of the outer product."""
    frame, _ = pair()
    for separable in (True, False):
        network = networks.AdaptiveConvolution(5, separable)
        down, right, full = torch.randn(5), torch.randn(5), torch.randn(5, 5)
        kernel = down[:, None] * right if separable else full
        weights = torch.cat([down, right]) if separable else full.flatten()
        made = network.weighted(frame, weights[None, :, None, None].expand(1, -1, 37, 50))
        padded = F.pad(frame, (2, 2, 2, 2), "replicate")
        expected = F.conv2d(padded.transpose(0, 1), kernel[None, None]).transpose(0, 1)
        assert (made - expected).abs().max() < 1e-4


def test_weights_are_those_of_their_own_pixel():
    frame, _ = pair()
    network = networks.AdaptiveConvolution(5)
    weights = torch.zeros(1, 10, 37, 50)
    weights[:, 2], weights[:, 7] = 1, 1
    weights[0, :, 10, 20] = torch.tensor([0, 0, 0, 0, 1, 1, 0, 0, 0, 0.0])  # two rows below, two columns to the left
    made = network.weighted(frame, weights)
    assert made[0, 0, 10, 20] == frame[0, 0, 12, 18]
    made[0, :, 10, 20] = frame[0, :, 10, 20]
    assert torch.equal(made, frame)


def test_halves_of_halves():
    """Frames at sixteenths are made by halving, and each half once."""
    first, last = pair(4, 5)
    network, calls = networks.AdaptiveConvolution(3), []

    def middle(a, b):
        calls.append((float(a[0, 0, 0, 0]), float(b[0, 0, 0, 0])))
        return (a + b) / 2

    network.middle = middle
    times = torch.tensor([1, 4, 5, 8, 15.5]) / 16
    made = network(torch.zeros_like(first), torch.ones_like(last), times)
    assert torch.allclose(made[:, 0, 0, 0], times) and len(calls) == len(set(calls))


@pytest.mark.parametrize("way", [(3, 0), (0, -2), (-4, 5)], ids=str)
def test_a_flow_brings_both_frames_to_the_time_between(way):
    """A picture that moves by whole pixels: inside, each frame of it is the picture, moved by hand."""
    texture = pair(60, 70)[0]
    first, last = texture, texture.roll(way[::-1], (2, 3))
    maps = torch.zeros(1, 3, 60, 70)
    maps[:, 0], maps[:, 1] = way[0] / 8, way[1] / 8
    network = networks.VoxelFlow()
    for time in (0.5, 0.25, 0.75):
        moved = tuple(round(4 * time * step) for step in way)
        large = network.blended(first, texture.roll(tuple(4 * s for s in way[::-1]), (2, 3)), 4 * maps, time)
        expected = texture.roll(moved[::-1], (2, 3))
        inner = (..., slice(24, -24), slice(24, -24))
        assert (large[inner] - expected[inner]).abs().max() < 1e-4
    favoured = maps.clone()
    favoured[:, 2] = 100  # all of the last frame
    made = network.blended(first, last, favoured, 0.5)
    expected = networks.moved(last, 4 * maps[:, :2])
    assert (made - expected).abs().max() < 1e-6


def test_a_pyramid_is_undone():
    """Two equal frames: all bands together are the frame."""
    for height, width in ((21, 26), (16, 32)):
        frame, _ = pair(height, width)
        made = networks.PhaseBased()(frame, frame, TIMES)
        assert (made - frame).abs().max() < 1e-5


@pytest.mark.parametrize("angle, wave", [(0, 12), (30, 20), (135, 16)])
def test_a_wave_moves_evenly(angle, wave):
    """By a fifth of its length: the frames between are the wave on its way, from which a blend is far off."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(72.0), indexing="ij")
    along = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))

    def at(time):
        return (0.5 + 0.3 * torch.sin(2 * math.pi * (along - time * wave / 5) / wave)).expand(1, 3, -1, -1)

    made = networks.PhaseBased()(at(0), at(1), TIMES)
    true = torch.cat([at(t) for t in TIMES])
    blend = torch.cat([at(0).lerp(at(1), float(t)) for t in TIMES])
    inner = (..., slice(24, -24), slice(24, -24))
    errors = [(frames - true)[inner].square().mean().sqrt() for frames in (made, blend)]
    assert errors[0] < 0.3 * errors[1] and errors[1] > 0.02


def test_a_network_is_written_and_read(tmp_path):
    network = networks.VoxelFlow()
    with torch.no_grad():
        network.pyramid.last.weight.normal_()
    networks.save(tmp_path / "flow.pt", "flow", network)
    first, last = pair()
    with torch.no_grad():
        assert torch.equal(networks.load(tmp_path / "flow.pt")(first, last, TIMES), network(first, last, TIMES))


def test_frames_that_repeat_teach_nothing(monkeypatch):
    """Only threes whose middle lies between the others; of each the square that moves."""
    monkeypatch.setitem(sys.modules, "networks", networks)
    train = module_of("train")
    first, last = torch.rand((2, 3, 112, 128), generator=torch.Generator().manual_seed(0))
    first[..., :64] = last[..., :64]  # the right half moves
    middle = (first + last) / 2
    found = train.triplets(torch.stack([first, middle, last, last, middle], 1))  # the second and third three: a repeat
    assert found.shape == (1, 3, 3, 64, 64)
    for frame, made in zip((first, middle, last), found[0].unbind(1), strict=True):
        assert any(torch.equal(made, frame[:, top : top + 64, 64:]) for top in (0, 16, 32, 48))
    assert not len(train.triplets(torch.stack([first] * 4, 1)))


@pytest.mark.slow
def test_the_program_trains_a_network_which_then_makes_frames(tmp_path):
    """For seconds only; what the graph makes is what the network makes of the two frames."""
    make_videos(tmp_path / "videos", per_class=2)
    command = [sys.executable, FOLDER / "train.py", tmp_path / "videos", "--minutes", "0.05", "--leave-out", "6"]
    command += ["--output", tmp_path / "flow.pt", "--triplets", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2 of 8 files were left out" in done.stdout, done.stderr
    network = dv.register_module("flow", networks.load(tmp_path / "flow.pt"))
    assert network.pyramid.last.weight.any()  # it has learnt
    clip = np.random.default_rng(0).integers(0, 256, (2, 37, 50, 3), dtype=np.uint8)
    ops = (Middle(), dv.FrameInterpolation("module", "flow"))
    made = dv.augment([clip], ops, layout="FHWC", device="cpu").clips[0, 0]
    first, last = (torch.from_numpy(clip).float() / 255).permute(0, 3, 1, 2).split(1)
    with torch.no_grad():
        expected = 255 * network(first, last, torch.tensor([0.5]))[0].permute(1, 2, 0)
    assert (made - expected).abs().max() < 0.51


class Middle:
    """Takes the position between the two frames of a clip."""

    def retime(self, draws, frames, videos):
        return np.full((len(frames), 1), 0.5), None
