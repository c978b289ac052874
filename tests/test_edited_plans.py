"""Plans that a user has edited: what contradicts itself, or the videos, is refused and named."""

import json
import math

import numpy as np
import pytest

import dali_vidaug as dv

RECIPE = dv.Recipe(
    dv.ClipSampling(4, start="first"), (dv.Resize((32, 48)), dv.RandAugmentT(), dv.CubeCutMix(), dv.Normalize())
)


@pytest.fixture(scope="module")
def document(numbered_manifest, tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    dv.draw_plan(numbered_manifest, RECIPE, [0, 1, 4, 5], seed=3).save(path)
    return path.read_text()


def row(document, op, i):
    return document["args"][op]["rows"][i]


def every(document, op, **values):
    for one in document["args"][op]["rows"]:
        one.update(values)


EDITS = {  # what is done to the document, a pattern of the message
    "frames: fewer rows": (lambda d: d.update(frames=d["frames"][:2]), "4 samples, but 2 rows of frames"),
    "frames: flat": (lambda d: d.update(frames=d["frames"][0]), r"frames must be \(B, F\)"),
    "frames: ragged": (lambda d: d["frames"][0].pop(), "is not a plan"),
    "frames: text": (lambda d: d["frames"][0].__setitem__(0, "x"), "must be (finite|numbers)"),
    "frames: NaN": (lambda d: d["frames"][0].__setitem__(0, math.nan), "must be (finite|numbers)"),
    "frames: infinite": (lambda d: d["frames"][0].__setitem__(0, math.inf), "must be (finite|numbers)"),
    "frames: 2**32": (lambda d: d["frames"][0].__setitem__(0, 2**32), "fit into int32"),
    "frames: true": (lambda d: d.update(frames=[[True] * 4] * 4), "must be (finite|numbers)"),
    "frames: between, past the end": (
        lambda d: d["frames"][0].__setitem__(0, 39.5),
        r"frames \d+ to 40 are not all in \[0, 40\)",
    ),
    "frames: past the end": (lambda d: d["frames"][0].__setitem__(0, 99), r"frames 1 to 99 are not all in \[0, 40\)"),
    "frames: fewer": (lambda d: d.update(frames=[f[:2] for f in d["frames"]]), "is 2x32x48, but .* for 4x32x48"),
    "frames: more": (lambda d: d.update(frames=[f * 2 for f in d["frames"]]), "values for 8 frames"),
    "samples: a fraction": (lambda d: d["samples"].__setitem__(0, 0.7), "samples must be 1-dimensional integers"),
    "samples: too high": (lambda d: d["samples"].__setitem__(0, 12), "sample 12, but the manifest has 12 rows"),
    "samples: negative": (lambda d: d["samples"].__setitem__(0, -1), "sample -1, but"),
    "views: negative": (lambda d: d["views"].__setitem__(0, -3), r"views must be in \[0, 256\), got -3"),
    "views: a fraction": (lambda d: d["views"].__setitem__(0, 0.7), "views must be 1-dimensional integers"),
    "views: missing": (lambda d: d.pop("views"), "KeyError.*views"),
    "format 3": (lambda d: d.update(format=3), "plan format 3; this release reads 1 and 2"),
    "format as text": (lambda d: d.update(format="2"), "plan format '2'"),
    "args: an op less": (lambda d: d["args"].pop("CubeCutMix"), "but the recipe's ops are Resize, RandAugmentT, Cube"),
    "args: an op more": (lambda d: d["args"].update(Foo=None), "it has arguments for .*, Foo, but"),
    "args: null": (lambda d: d["args"].update(CubeCutMix=None), "CubeCutMix: arguments must be of dtype .*, got None"),
    "args: fewer rows": (lambda d: d["args"]["Resize"]["rows"].pop(), "4 samples, but 3 rows of Resize"),
    "args: another dtype": (lambda d: d["args"]["Resize"]["dtype"][0].__setitem__(1, "<i8"), "Resize: arguments must"),
    "partner: a fraction": (lambda d: row(d, "CubeCutMix", 0).update(partner=1.9), "partner of row 0 must be whole"),
    "partner: outside": (lambda d: row(d, "CubeCutMix", 0).update(partner=4), "partner 4, but there are 4 clips"),
    "weight: negative": (lambda d: row(d, "CubeCutMix", 0).update(inside=[-1, 1]), r"inside must be in \[0, 1\]"),
    "weight: NaN": (lambda d: row(d, "CubeCutMix", 0).update(outside=[0, math.nan]), r"outside must be in \[0, 1\]"),
    "size: frames": (lambda d: every(d, "CubeCutMix", frames=400), "is 4x32x48, but its arguments are for 400x32x48"),
    "size: height": (lambda d: every(d, "CubeCutMix", height=8), "but its arguments are for 4x8x48"),
    "size after Resize": (lambda d: every(d, "Resize", out_height=16), "is 4x16x48, but its arguments are for 4x32x48"),
    "box: beyond": (
        lambda d: row(d, "Resize", 2).update(left=10000, right=10048),
        "Resize: the box of clip 2, .*96x160",
    ),
    "box: over the edge": (lambda d: row(d, "Resize", 1).update(left=100, right=261), "columns .100, 261.* not in its"),
    "box: negative": (lambda d: row(d, "Resize", 1).update(top=-1), "Resize: the box of clip 1"),
    "box: reversed": (lambda d: row(d, "Resize", 1).update(left=50, right=20), "Resize: the box of clip 1"),
    "box: empty": (lambda d: row(d, "Resize", 1).update(left=50, right=50), "Resize: the box of clip 1"),
    "out_height 0": (lambda d: row(d, "Resize", 0).update(out_height=0), r"out_height must be in \[1, 32768\]"),
    "num_values": (lambda d: row(d, "RandAugmentT", 1).update(num_values=2), "num_values of row 1 must be 4, got 2"),
    "op code": (lambda d: row(d, "RandAugmentT", 1)["op"].__setitem__(0, 16), r"row 1 must have 2 ops, \[0, 16\)"),
    "too many ops": (lambda d: row(d, "RandAugmentT", 1)["op"].__setitem__(2, 1), "row 1 must have 2 ops"),
    "value: NaN": (lambda d: row(d, "RandAugmentT", 1)["value"][0].__setitem__(0, math.nan), "values must be finite"),
}


@pytest.mark.parametrize("resize_in_decoder", [True, False], ids=["in decoder", "in graph"])
@pytest.mark.parametrize("name", EDITS)
def test_an_edited_plan_is_refused(name, resize_in_decoder, document, numbered_manifest, tmp_path):
    edit, message = EDITS[name]
    edited = json.loads(document)
    edit(edited)
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    loader = dv.VideoLoader(numbered_manifest, RECIPE, 4, device="cpu", resize_in_decoder=resize_in_decoder)
    with loader, pytest.raises((TypeError, ValueError, dv.ClipError), match=message):
        loader.apply(dv.Plan.load(tmp_path / "edited.json"))


def test_edits_that_make_sense_are_applied(document, numbered_manifest, tmp_path):
    edited = json.loads(document)
    edited["frames"][0] = [7.0, 3.0, 3.0, 39.0]
    for i in range(4):
        row(edited, "RandAugmentT", i).update(op=[0] * 8)
        row(edited, "CubeCutMix", i).update(inside=[0, 0], outside=[0, 0])
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    plan = dv.Plan.load(tmp_path / "edited.json")
    plain = dv.Recipe(RECIPE.sampling, (dv.Resize((32, 48)), dv.Normalize()))
    wanted = dv.draw_plan(numbered_manifest, plain, plan.samples)
    object.__setattr__(wanted, "frames", plan.frames)
    with dv.VideoLoader(numbered_manifest, RECIPE, 4, device="cpu") as loader:
        batch, expected = loader.apply(plan), loader.apply(wanted)
    assert (batch.clips == expected.clips).all() and batch.plan.frames[0].tolist() == [7, 3, 3, 39]
    assert (batch.targets.sum(1) == 1).all()


def test_an_empty_plan_is_saved_and_read_but_not_made(numbered_manifest, tmp_path):
    dv.draw_plan(numbered_manifest, dv.Recipe(ops=()), np.zeros(0, int)).save(tmp_path / "plan.json")
    plan = dv.Plan.load(tmp_path / "plan.json")
    assert len(plan) == 0
    with dv.VideoLoader(numbered_manifest, RECIPE, 4, device="cpu") as loader:
        with pytest.raises(ValueError, match="the plan has no clips"):
            loader.apply(plan)
