"""The house style, where a machine can check it."""

import ast
import dataclasses
import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import dali_vidaug as dv
from dali_vidaug import ops

PACKAGE = Path(dv.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_public_name_is_there_and_documented():
    for name in dv.__all__:
        thing = getattr(dv, name)
        assert inspect.getdoc(thing), name
    assert sorted(dv.__all__) == dv.__all__
    with pytest.raises(AttributeError, match="no attribute 'VideoLoder'"):
        _ = dv.VideoLoder


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_have_a_docstring_and_make_no_random_numbers(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    imported = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not any(name.split(".")[0] in ("random", "secrets") for name in imported)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            assert name not in ("np.random", "numpy.random", "torch.rand", "torch.randn", "fn.random"), name


@pytest.mark.parametrize("name", [n for n in ops.__all__ if isinstance(getattr(ops, n), type)])
def test_ops_are_frozen_dataclasses_with_draw_and_build(name):
    op = getattr(ops, name)
    assert dataclasses.is_dataclass(op) and op.__dataclass_params__.frozen
    assert callable(op.draw) and callable(op.build) and inspect.getdoc(op)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(op(), dataclasses.fields(op)[0].name, 1)
    assert hash(op()) == hash(op()) and op() == op()
    if hasattr(op, "ARGS"):
        assert isinstance(op.ARGS, np.dtype) and op.ARGS.names


def test_modules_import():
    for path in FILES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = import_module(".".join(p for p in parts if p != "__init__"))
        assert module.__file__ == str(path)
