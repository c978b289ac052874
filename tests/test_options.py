"""Options of every op and sampler: whatever is given, it is taken or refused in words that name the op."""

import dataclasses
import math

import numpy as np
import pytest

import dali_vidaug as dv
from dali_vidaug import ops

JUNK = (
    None, "a", "", "9", b"a", (), [], {}, {1}, (1,), (0, 0), (1, 2, 3, 4), ("a", "b"), ("a", "b", "c"), (None, 1),
    (2, 1), object(), math.nan, math.inf, -math.inf, -1, -0.5, 1e12, 10**12, 1.5, (math.nan,) * 2, (math.nan,) * 3,
    (math.inf,) * 3, [[1, 2]], np.zeros(3), np.array(math.nan), 1j, int, lambda: 0, dv.CutMix(), dv.CutMix,
)  # fmt: skip
OPTIONS = [
    (kind, field.name)
    for kind in (*(k for k in vars(ops).values() if dataclasses.is_dataclass(k)), dv.ClipSampling)
    for field in dataclasses.fields(kind)
]


@pytest.mark.parametrize("kind, field", OPTIONS, ids=lambda x: getattr(x, "__name__", x))
def test_junk_is_refused_by_a_message_or_taken_and_drawn(kind, field):
    """Never another exception than a ValueError with op, field and value; and what is taken can be drawn."""
    refused, needed = 0, {"name": "module"} if kind is dv.TorchModule else {}
    for value in JUNK:
        try:
            one = kind(**needed | {field: value})
        except ValueError as error:
            refused += 1
            name, _, rest = str(error).partition(": ")
            words = {kind.__name__, "CubeCutMix", "FrameCutout", "CubeCutout", "Cutout", "Mix"}
            assert name in words and field in rest and "got " in rest, str(error)
            continue
        if kind is dv.ClipSampling or ops.is_on_time(one):
            continue
        size = 16385 if field == "size" else 400
        many = (np.full(3, n) for n in (4, size, size))
        rows = one.draw(dv.Draws(0, 0, range(3)), *many)
        for name in () if rows is None else rows.dtype.names:
            assert rows[name].dtype.kind != "f" or np.isfinite(rows[name]).all(), (value, name)
    assert refused > len(JUNK) / 2


def test_the_functions_refuse_junk_too():
    for function in (dv.RandAugment, dv.TrivialAugment, dv.CutMix, dv.VideoMix, dv.FrameCutout, dv.CubeCutout):
        for field in function.__code__.co_varnames[: function.__code__.co_argcount]:
            with pytest.raises(ValueError, match=f": {field} must be"):
                function(**{field: "nonsense"})
