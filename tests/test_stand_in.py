"""The stand-in for CuPy, compared with CuPy's own signatures."""

import inspect
import re

import pytest
import stand_in

from dali_vidaug import kernels


def signature(function):
    """A function's signature; of compiled ones, from the first line of the docstring, where Cython writes it."""
    try:
        return inspect.signature(function)
    except ValueError:
        line = (function.__doc__ or "").partition("\n")[0]
        found = re.fullmatch(r"[\w.]+\((.*)\)", line)
        assert found, f"no signature in the docstring of {function}: {line!r}"
        parameters = re.sub(r"\b(str|tuple|bool|int|float|size_t) (?=\w)", "", found[1])
        return inspect.signature(eval(f"lambda {parameters}: None"))


def assert_offers_no_more(ours, real):
    """What ``ours`` takes, ``real`` takes, and means by it an argument of the same name."""
    parameters = inspect.signature(ours).parameters.values()
    by_place = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    by_name = {p.name: p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    try:
        taken = signature(real).bind(*by_place, **by_name).arguments
    except TypeError as error:
        raise AssertionError(f"CuPy's {ours.__qualname__} is not called so: {error}") from error
    assert all(name == value for name, value in taken.items()), f"{ours.__qualname__}: {taken}"


def assert_is_like_cupy(ours, real):
    """All that a class of the stand-in has, the real one has."""
    for name, member in vars(ours).items():
        if name.startswith("_") and name not in ("__call__", "__getitem__"):
            continue
        assert hasattr(real, name), f"CuPy's {real} has no {name}"
        if inspect.isfunction(member) and name != "__getitem__":
            if inspect.ismodule(real):
                member = member.__get__(object())  # a module's functions have no self
            assert_offers_no_more(member, getattr(real, name))


def test_the_stand_in_has_nothing_that_cupy_has_not():
    cupy = pytest.importorskip("cupy")
    for ours, real in (
        (stand_in.Cupy, cupy),
        (stand_in.Module, cupy.RawModule),
        (stand_in.Function, cupy.RawKernel),
        (stand_in.Array, cupy.ndarray),
    ):
        assert_is_like_cupy(ours, real)
    array = stand_in.Cupy()._array([4])
    for ours, real in (
        (array, cupy.ndarray),
        (array.flags, cupy._core.flags.Flags),
        (array.data, cupy.cuda.MemoryPointer),
    ):
        assert [name for name in vars(ours) if not name.startswith("_") and not hasattr(real, name)] == []
    assert cupy.cuda.memory._round_size(1) == stand_in.ALIGNMENT  # the pool's, which DALI leaves in place
    signature(cupy.cuda.get_current_stream).bind()
    signature(cupy.cuda.runtime.setDevice).bind(0)
    assert signature(cupy.cuda.Stream).bind(null=True).arguments == {"null": True}
    cupy.RawModule(code="", options=kernels.NVRTC_OPTIONS)


def test_the_check_of_the_stand_in_can_fail():
    cupy = pytest.importorskip("cupy")

    class Module:
        def get_function(self, name, device):
            pass

    class Named:
        def get_function(self, entry):
            pass

    class Other:
        def get_kernel(self, name):
            pass

    class Top:
        def asarray(self, a, pinned):
            pass

        def RawModule(self, *, text, options):
            pass

    class Kernel:
        def __call__(self, block, grid, args):
            pass

    for ours, real, message in (
        (Module, cupy.RawModule, "too many positional"),
        (Named, cupy.RawModule, "entry"),
        (Other, cupy.RawModule, "has no get_kernel"),
        (Top, cupy, "pinned"),
        (Kernel, cupy.RawKernel, "grid"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_is_like_cupy(ours, real)
    del Top.asarray
    with pytest.raises(AssertionError, match="text"):
        assert_is_like_cupy(Top, cupy)
    with pytest.raises(AssertionError, match=r"no signature in the docstring of .*'iter\(iterable\) -> iterator'"):
        signature(iter)  # compiled, and its docstring is written otherwise
