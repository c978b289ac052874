import os

import numpy as np
import pytest


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


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Where a test runs its kernels. Without a GPU its half is skipped, unless DALI_VIDAUG_REQUIRE_GPU=1."""
    if request.param == "gpu" and not _has_gpu():
        assert os.environ.get("DALI_VIDAUG_REQUIRE_GPU") != "1", "DALI_VIDAUG_REQUIRE_GPU=1, but there is no GPU"
        pytest.skip("no GPU")
    return request.param


def _has_gpu():
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # no CuPy, no driver, no device: CuPy has an error for each
        return False
