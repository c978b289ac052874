"""Finds the parts of examples/train.py, as `training`: import this first. Skips a module where they cannot run."""

import os
import sys
from pathlib import Path

import pytest
from conftest import import_torchvision

EXAMPLES = Path(__file__).parent.parent / "examples"
NO_OPERATORS = Path(__file__).parent / "no_operators"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))


def _environment():
    """For programs of examples/ that tests start.

    torch.nn.Conv3d with two threads gives one of two sums when the cores are busy, of the same clips.
    """
    try:
        import_torchvision()  # before torchmetrics, which imports it
        from torchvision.extension import _has_ops
    except ImportError:
        pytest.skip("torchvision is not installed: the extra [train]", allow_module_level=True)
    pytest.importorskip("torchmetrics", reason="the training program needs torchmetrics: the extra [train]")
    paths = [os.environ.get("PYTHONPATH", ""), "" if _has_ops() else str(NO_OPERATORS)]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


ENVIRONMENT = _environment()
