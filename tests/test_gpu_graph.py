"""The graph for the GPU, built but not run: DALI checks names, types and devices; the registry knows every operator."""

import pytest
from nvidia.dali import backend, fn
from nvidia.dali.pipeline import Pipeline

import dali_vidaug as dv
from dali_vidaug.graph import Graph
from dali_vidaug.plan import draw_ops
from dali_vidaug.rng import Draws

RECIPES = {
    "basic": (dv.RandomResizedCrop(32), dv.RandomHorizontalFlip(), dv.Normalize()),
    "test": (dv.Resize(40), dv.CenterCrop(32), dv.Normalize()),
    "randaugment": (dv.RandomResizedCrop(32), dv.RandAugmentT(), dv.RandomHorizontalFlip(), dv.Normalize()),
    "mixing": (dv.RandomResizedCrop(32), dv.OneOf(), dv.RandomErasing(), dv.LabelSmoothing(), dv.Normalize()),
    "bytes": (dv.RandomHorizontalFlip(), dv.TrivialAugment()),
}


def operators(pipeline):
    """(schema, device) of every operator, after DALI's own checks (_build_graph and _ops are private; DALI 2.4)."""
    pipeline._build_graph()
    return [(op._op.schema.Name(), op._op.device) for op in pipeline._ops]


def unregistered(found):
    known = {
        "cpu": set(backend.RegisteredCPUOps()),
        "gpu": set(backend.RegisteredGPUOps()),
        "mixed": set(backend.RegisteredMixedOps()),
    }
    return [(name, device) for name, device in found if name not in known[device] and "PythonFunction" not in name]


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("name", RECIPES)
def test_every_operator_of_the_gpu_graph_exists(name, encoded):
    recipe = dv.Recipe(ops=RECIPES[name])
    args, _, _ = draw_ops(recipe, Draws(0, 0, [0]), [16], [48], [64])
    dtypes = {key: None if rows is None else rows.dtype for key, rows in args.items()}
    options = dict(batch_size=2, device="gpu", device_id=None, num_threads=1, dtype="float16")
    graph = Graph(recipe, dtypes, **options, encoded=encoded, rotated=encoded)
    found = operators(graph.pipeline)
    assert unregistered(found) == []
    devices = dict(found)
    assert devices["ExternalSource"] == "cpu"
    work = [device for schema, device in found if schema not in ("ExternalSource", "decoders__Video")]
    assert work and "gpu" in work and not set(work) - {"gpu"}, found  # pixels never come back to the CPU
    assert ("decoders__Video", "mixed") in found if encoded else True


def test_the_check_can_fail():
    """An operator that DALI has on the CPU only, and a named argument that lies on the GPU."""
    pipeline = Pipeline(2, 1, None)
    with pipeline:
        clips = fn.external_source(name="clips", ndim=4, dtype=_uint8()).gpu()
        pipeline.set_outputs(clips, fn.random.beta(device="gpu"))
    assert unregistered(operators(pipeline)) == [("random__Beta", "gpu")]
    pipeline = Pipeline(2, 1, None)
    with pytest.raises((ValueError, RuntimeError, TypeError), match="(?i)cpu"), pipeline:
        clips = fn.external_source(name="clips", ndim=4, dtype=_uint8()).gpu()
        mirror = fn.external_source(name="mirror", ndim=0, dtype=_uint8()).gpu()
        pipeline.set_outputs(fn.flip(clips, horizontal=mirror))
        pipeline._build_graph()


def _uint8():
    from nvidia.dali import types

    return types.UINT8
