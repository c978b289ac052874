import os
from pathlib import Path

import numpy as np
import pytest

from dali_vidaug.checks import numbered as numbered_videos
from dali_vidaug.checks.numbered import read_number as read_number
from dali_vidaug.demo import write_video

HEIGHT, WIDTH = 96, 160


def assert_pixels(actual, expected, *, max_diff=0, max_fraction=1.0):
    """uint8 arrays agree: no value differs by more than max_diff, and at most a share max_fraction differs at all."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == np.uint8, (
        f"{actual.shape} {actual.dtype}, expected {expected.shape} {expected.dtype}"
    )
    diff = np.abs(actual.astype(int) - expected)
    worst = np.unravel_index(diff.argmax(), diff.shape)
    assert diff.max() <= max_diff, (
        f"differs by {diff.max()} at {tuple(map(int, worst))}: {actual[worst]}, expected {expected[worst]}; "
        f"{(diff > 0).mean():.2%} of the values differ"
    )
    assert (diff > 0).mean() <= max_fraction, f"{(diff > 0).mean():.2%} of the values differ"


def numbered_frame(index, height=HEIGHT, width=WIDTH):
    """A frame that shows its own number; see ``dali_vidaug.checks.numbered``."""
    return numbered_videos.numbered_frame(index, height, width)


def write_numbered(path, num_frames, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (numbered_frame(i) for i in range(num_frames)), **options)
    return path


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """A folder with 12 H.264 videos of numbered frames in two classes, 40 to 62 frames, a key frame every 24."""
    folder = tmp_path_factory.mktemp("numbered")
    for i in range(12):
        write_numbered(folder / ("even", "odd")[i % 2] / f"{i:02d}.mp4", 40 + 2 * i)
    return folder


@pytest.fixture(scope="session")
def numbered_manifest(numbered):
    import dali_vidaug as dv

    return dv.scan(numbered, progress=False)


def _real(name):
    root = os.environ.get("DALI_VIDAUG_TEST_VIDEOS")
    if not root:
        pytest.skip("DALI_VIDAUG_TEST_VIDEOS is not set")
    return Path(root) / name


@pytest.fixture(scope="session")
def real_videos():
    return _real("videos")


@pytest.fixture(scope="session")
def fight():
    return _real("fight")


@pytest.fixture(scope="session")
def fight_manifest(fight, tmp_path_factory):
    import dali_vidaug as dv

    return dv.scan(fight, output=tmp_path_factory.mktemp("fight") / "fight.parquet", progress=False)


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Where a test runs. Without a GPU its half is skipped, unless DALI_VIDAUG_REQUIRE_GPU=1."""
    if request.param == "gpu":
        from dali_vidaug import gpu

        reason = gpu.problem()
        if reason and os.environ.get("DALI_VIDAUG_REQUIRE_GPU") == "1":
            pytest.fail(f"DALI_VIDAUG_REQUIRE_GPU=1, but no GPU: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"no GPU: {reason}")
    return request.param
