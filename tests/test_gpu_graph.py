"""The graph for the GPU, built but not run: DALI checks names and types, and knows every operator's devices."""

import pytest
from conftest import default_op, make_plan
from nvidia.dali import backend, fn, types
from nvidia.dali.pipeline import Pipeline

import dali_vidaug as dv
from dali_vidaug import graph, ops
from dali_vidaug.decode_graph import DecodeGraph
from dali_vidaug.graph import Graph
from dali_vidaug.in_memory import recipe_of
from dali_vidaug.ops.mix import FAMILIES
from dali_vidaug.ops.randaugment import SUITES
from dali_vidaug.settings import Settings

NO_OPS = ("CROP", "is_on_time", "name_of", "op_names", "register_module")  # other names of ``ops``
RECIPES = {
    "basic": (dv.RandomResizedCrop(32), dv.RandomHorizontalFlip(), dv.Normalize()),
    "test": (dv.Resize(40), dv.CenterCrop(32), dv.Normalize()),
    "randaugment": (dv.RandomResizedCrop(32), dv.RandAugmentT(), dv.RandomHorizontalFlip(), dv.Normalize()),
    "mixing": (dv.RandomResizedCrop(32), dv.OneOf(), dv.RandomErasing(), dv.LabelSmoothing(), dv.Normalize()),
    "bytes": (dv.RandomHorizontalFlip(), dv.TrivialAugment()),
    "none": (),
    "slow": (dv.SpeedRamp(), dv.Resize(40), dv.CenterCrop(32), dv.RandomHorizontalFlip(), dv.Normalize()),
    **{name: (default_op(name),) for name in ops.__all__ if name not in (*NO_OPS, "Mix")},
    **{f"Mix({name})": (dv.Mix(name),) for name in FAMILIES},
    **{f"RandAugmentT({suite})": (dv.RandAugmentT(8, suite=suite),) for suite in SUITES},
}


def pipelines_of(name, decoder, device="gpu", whole=False, color="bt601", boxed=True):
    """The pipelines of one of ``RECIPES``, with its leading crops done in the decoder, for rotated videos.

    With ``whole``, clips may have an encoded file in common; with ``boxed``, only a part of frames may be shown.
    """
    settings = Settings(
        device=device, device_id=None, decoder=decoder, num_threads=1, workers=0, prefetch=1, dtype="float16",
        on_error="raise", resize_in_decoder=True, color=color, verify=(4, 50),
    )  # fmt: skip
    plan = make_plan(recipe_of(RECIPES[name]), [(16, 256, 320)])
    graphs = [] if decoder == "pyav" else [DecodeGraph(plan, settings, 2, oriented=True, boxed=boxed, whole=whole)]
    return [graph.pipeline for graph in (*graphs, Graph(plan, settings, batch_size=2, whole=whole))]


def operators(*pipelines):
    """(schema, device, its spec) of every operator, after DALI's own checks; these names are private to DALI 2.4."""
    for pipeline in pipelines:
        pipeline._build_graph()
    return [(op._op.schema.Name(), op._op.device, op.spec) for pipeline in pipelines for op in pipeline._ops]


def faults(found):
    """What DALI would only complain of on a machine with a GPU, or not at all."""
    for name, device, spec in found:
        schema = backend.GetSchema(name)
        if device not in schema.GetSupportedBackends():
            yield f"{name} is not registered for {device}"
        regular = spec.NumRegularInput()
        for i in range(spec.NumInput()):
            where = spec.InputDevice(i)
            if i >= regular and where != "cpu":
                yield f"{name}: a named argument is on the {where}"
            if i < regular and device == "gpu" and where != schema.GetInputDevice(i, where, device):
                yield f"{name} on the {device}: input {i} is on the {where}"


@pytest.mark.parametrize("decoder", ["pyav", "dali", "hybrid"])
@pytest.mark.parametrize("name, whole", [*((name, False) for name in RECIPES), ("basic", True), ("slow", True)])
def test_the_gpu_graph_is_valid(name, whole, decoder):
    color = "file" if name == "basic" else "bt601"
    boxed = name != "none"
    pipelines = pipelines_of(name, decoder, whole=whole, color=color, boxed=boxed)
    found = operators(*pipelines)
    assert not list(faults(found))
    devices = {(schema, device) for schema, device, _ in found}
    assert (("decoders__Video", "mixed") in devices) == (decoder != "pyav")
    assert (("CoordTransform", "gpu") in devices) == (color == "file" and decoder != "pyav")
    assert decoder == "pyav" or (("Slice", "gpu") in devices) == boxed
    sources = [(spec.OutputName(0), device) for schema, device, spec in found if schema == "ExternalSource"]
    assert {name for name, device in sources if device == "gpu"} == ({"decoded"} if decoder != "pyav" else set())
    # Of what is decoded, a copy of the clips that are compared returns to the CPU, and nothing else. What runs there
    # provides numbers, or files and frames before they are sent.
    # RandomApply takes its flag and the op's own part out of the rows; JpegArtefacts its flag.
    numbers = {"_TensorSubscript", "_ArithmeticGenericOp"} if name in ("RandomApply", "JpegArtefacts") else set()
    assert {schema for schema, device in devices if device == "cpu"} <= {
        "ExternalSource", "_conditional__Split", *numbers,
    }  # fmt: skip
    assert any(device == "gpu" for _, device in devices)


def test_the_recipes_use_every_op():
    public = set(ops.__all__) - set(NO_OPS)
    used = {type(op).__name__ for recipe in RECIPES.values() for op in recipe} | set(RECIPES)
    assert public <= used, public - used


@pytest.mark.parametrize("name", ["basic", "randaugment", "mixing", "slow"])
def test_cpu_and_gpu_have_the_same_graph_except_for_the_device_and_the_last_step(name, monkeypatch):
    """Where DALI does all ops on the CPU, too, but a flip before Normalize."""
    monkeypatch.setattr(graph, "num_direct", lambda steps: int(hasattr(steps[-1][1], "mirrors")))
    for decoder in ("pyav", "dali", "hybrid"):
        cpu, gpu = (operators(*pipelines_of(name, decoder, device=device)) for device in ("cpu", "gpu"))
        cpu, gpu = ([schema for schema, _, _ in found] for found in (cpu, gpu))
        assert gpu.pop() == "CropMirrorNormalize"  # and whether to mirror is an input of its own
        more = gpu.count("ExternalSource") - cpu.count("ExternalSource")
        assert more == isinstance(RECIPES[name][-2], dv.RandomHorizontalFlip)
        assert [one for one in cpu if one != "ExternalSource"] == [one for one in gpu if one != "ExternalSource"]


def uint8(name, ndim):
    return fn.external_source(name=name, ndim=ndim, dtype=types.UINT8)


def build_pipeline(make):
    pipeline = Pipeline(2, 1, None)
    with pipeline:
        pipeline.set_outputs(make())
    return list(faults(operators(pipeline)))


def test_the_checks_can_fail():
    """An operator that DALI has on the CPU only; a Python operator whose input lies on the CPU; a named argument."""
    assert build_pipeline(lambda: fn.random.beta(device="gpu")) == ["random__Beta is not registered for gpu"]
    with pytest.raises((ValueError, RuntimeError, TypeError), match="(?i)incompatible device"):
        build_pipeline(lambda: fn.python_function(uint8("a", 4).gpu(), uint8("b", 1), function=len, device="gpu"))
    with pytest.raises((ValueError, RuntimeError, TypeError), match="(?i)cpu"):
        build_pipeline(lambda: fn.flip(uint8("a", 4).gpu(), horizontal=uint8("b", 0).gpu()))
    with pytest.raises(KeyError, match="horizontl"):
        build_pipeline(lambda: fn.flip(uint8("a", 4).gpu(), horizontl=1))
