"""The house style, where a machine can check it."""

import ast
import dataclasses
import doctest
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from conftest import default_op

import dali_vidaug as dv
from dali_vidaug import ops
from dali_vidaug.ops.names import is_on_pixels

PACKAGE = Path(dv.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_public_name_is_there_and_documented():
    for name in dv.__all__:
        thing = getattr(dv, name)
        assert inspect.getdoc(thing), name
    assert sorted(dv.__all__) == dv.__all__
    with pytest.raises(AttributeError, match="no attribute 'VideoLoder'"):
        _ = dv.VideoLoder


@pytest.mark.parametrize("first", ["", "dv.VideoLoader, dv.augment;"], ids=["new", "used"])
def test_dir_and_completion_show_what_users_use_and_nothing_else(first):
    """Before anything is imported lazily, and after it."""
    code = (
        f"import rlcompleter, dali_vidaug as dv; {first}"
        "names = rlcompleter.Completer(dict(dv=dv)).attr_matches('dv.');"
        "print(*dir(dv)); print(*(name.removeprefix('dv.').rstrip('()') for name in names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, completed = (line.split() for line in done.stdout.splitlines())
    assert shown == sorted(dv.__all__) == completed
    assert {"VideoLoader", "augment", "Batch"} <= set(shown) and not {"cut", "np", "annotations"} & set(shown)


def public_functions():
    """Functions and methods that a user can call, by name: the public names, and what the classes among them have."""
    for module in (dv, ops):
        for name in module.__all__:
            thing = getattr(module, name)
            if not inspect.isclass(thing):
                found = [(name, thing)] if callable(thing) else []
            else:
                found = [(f"{name}.{key}", value) for key, value in inspect.getmembers(thing) if key.isidentifier()]
            for label, value in found:
                value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                private = label.split(".")[-1].startswith("_") and not label.endswith("__")
                written = inspect.isfunction(value) and value.__code__.co_filename.startswith(str(PACKAGE))
                if written and not private:  # what dataclass generates is not written
                    yield label, value


def test_what_users_call_has_types_and_docstrings():
    functions, faults = dict(public_functions()), []
    for name, function in functions.items():
        signature, special = inspect.signature(function), name.endswith("__")
        faults += [f"{name}: {p} has no type" for p, parameter in signature.parameters.items()
                   if parameter.annotation is parameter.empty and p != "self" and p != "cls"]  # fmt: skip
        if signature.return_annotation is signature.empty and not name.endswith(("__init__", "__post_init__")):
            faults.append(f"{name}: its result has no type")
        if not special and not inspect.getdoc(function):
            faults.append(f"{name}: no docstring")
    assert not faults, faults
    assert len(functions) > 100 and {"scan", "VideoLoader.apply", "Manifest.read", "Batch.views"} <= set(functions)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_have_a_docstring_and_make_no_random_numbers(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    imported = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    if path.name == "op_contract.py":  # looks at the state of the generators that an op must not use
        text = path.read_text()
        assert text.count("random.get") == text.count("random.") - text.count("import random.") == 2
        return
    assert not any(name.split(".")[0] in ("random", "secrets") for name in imported)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            assert name not in ("np.random", "numpy.random", "torch.rand", "torch.randn", "fn.random"), name


@pytest.mark.parametrize("name", [n for n in ops.__all__ if isinstance(getattr(ops, n), type)])
def test_ops_are_frozen_dataclasses_with_their_methods(name):
    op = getattr(ops, name)
    assert dataclasses.is_dataclass(op) and op.__dataclass_params__.frozen
    assert ops.is_on_time(op) != is_on_pixels(default_op(name)) and inspect.getdoc(op)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(default_op(name), dataclasses.fields(op)[0].name, 1)
    assert hash(default_op(name)) == hash(default_op(name)) and default_op(name) == default_op(name)
    if hasattr(op, "ARGS"):
        assert isinstance(op.ARGS, np.dtype) and op.ARGS.names


def test_modules_import_and_their_examples_are_true():
    attempted = 0
    for path in FILES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = import_module(".".join(p for p in parts if p != "__init__"))
        assert module.__file__ == str(path)
        result = doctest.testmod(module)
        assert result.failed == 0, path
        attempted += result.attempted
    assert attempted >= 8
