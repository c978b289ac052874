"""README and docs: every program runs as it is written, every link leads somewhere."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import dali_vidaug as dv

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def programs(page):
    """The Python programs of a page, each with the name in the comment before it, if there is one."""
    text = page.read_text()
    found = re.findall(r"(?:<!-- (.+?) -->\n)?( *)```python\n(.*?)```", text, re.DOTALL)
    return [(name, re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)) for name, indent, code in found]


def program(page, name):
    (code,) = [code for title, code in programs(ROOT / page) if title == name]
    return code


ALL = [(page, number) for page in PAGES for number in range(len(programs(page)))]


def test_the_programs_are_found():
    assert len(ALL) >= 11 and {page.name for page, _ in ALL} >= {"README.md", "mixing.md", "adding-an-op.md"}


@pytest.mark.parametrize("page, number", ALL, ids=lambda x: getattr(x, "name", x))
def test_programs_run(page, number, numbered, numbered_manifest, tmp_path, monkeypatch, capsys):
    """With what the text around them takes for granted: videos in the folder, a loader, a model."""
    (tmp_path / "videos").symlink_to(numbered)
    for name in ("even", "odd"):
        (tmp_path / name).symlink_to(numbered / name)
    monkeypatch.chdir(tmp_path)
    _, code = programs(page)[number]
    if "Manifest.read" in code:
        dv.scan("videos", output="train.parquet", progress=False)
    scope = {"dv": dv, "manifest": numbered_manifest, "folder": tmp_path}
    scope["model"] = lambda clips: clips.mean((2, 3, 4))[:, :2]
    if "in loader" in code and "VideoLoader(" not in code:
        recipe = dv.Recipe(dv.ClipSampling(4), (dv.RandomResizedCrop(32), dv.CutMix(), dv.Normalize()))
        scope["loader"] = dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu")
    exec(code, scope)
    loader = scope.get("loader")
    if isinstance(loader, dv.VideoLoader):
        loader.close()


def test_the_first_program_does_what_its_comments_say(numbered, tmp_path, monkeypatch, capsys):
    (tmp_path / "videos").symlink_to(numbered)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(programs(ROOT / "README.md")[0][1], scope)
    scope["loader"].close()
    assert scope["clips"].shape == (8, 3, 16, 224, 224) and scope["clips"].dtype == torch.float32
    assert scope["targets"].shape == (8, 2) and scope["targets"].dtype == torch.float32
    assert len(dv.Manifest.read(tmp_path / "train.parquet")) == 12
    assert "replaced clips: 0" in capsys.readouterr().out


def define(page, name, most_lines=20):
    """The class that a program of a page defines."""
    code = program(page, name)
    tree = ast.parse(code)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("from ", "import "))]
    assert len(lines) <= most_lines, f"{len(lines)} lines"
    scope: dict = {}
    exec(code, scope)
    return scope[next(node.name for node in tree.body if isinstance(node, ast.ClassDef))]


def test_an_op_of_ones_own():
    op = define("README.md", "own op")
    clip = np.full((4, 8, 8, 3), 100, np.uint8)
    batch = dv.augment([clip] * 50, (op(),))
    values = batch.clips[:, 0, 0, 0, 0].numpy()
    np.testing.assert_allclose(values, 100 * batch.plan.args["RandomBrightness"]["factor"], atol=0.51)
    assert len(set(values.tolist())) > 20


def test_an_op_of_ones_own_is_saved_and_read(numbered_manifest, tmp_path):
    op, sampler = define("README.md", "own op"), define("docs/adding-an-op.md", "own sampler")
    recipe = dv.Recipe(sampler(), (dv.RandomResizedCrop(16), op(0.2)))
    plan = dv.draw_plan(numbered_manifest, recipe, [3, 4])
    plan.save(tmp_path / "plan.json")
    assert dv.Plan.load(tmp_path / "plan.json", [op, sampler]).recipe == recipe
    with pytest.raises(ValueError, match="LastSeconds is not known"):
        dv.Plan.load(tmp_path / "plan.json")


def test_an_op_of_ones_own_that_changes_the_size():
    op = define("docs/adding-an-op.md", "op that changes the size")
    clips = np.random.default_rng(0).integers(0, 256, (2, 7, 5, 6, 3), dtype=np.uint8)
    batch = dv.augment(clips, (op(), dv.RandAugmentT()))
    assert batch.clips.shape == (2, 4, 5, 6, 3) and batch.plan.args["RandAugmentT"].dtype["value"].shape[1] == 4
    assert (dv.augment(clips, (op(),)).clips.numpy() == clips[:, ::2]).all()


def test_an_op_of_ones_own_with_a_function():
    op = define("docs/adding-an-op.md", "op with a function")
    clips = np.random.default_rng(0).integers(0, 256, (9, 2, 5, 6, 3), dtype=np.uint8)
    batch = dv.augment(clips, (op(),))
    rolls = batch.plan.args["RandomChannelRoll"]["roll"]
    assert set(rolls.tolist()) == {0, 1, 2}
    for out, clip, roll in zip(batch.clips.numpy(), clips, rolls, strict=True):
        assert (out == np.roll(clip, roll, axis=-1)).all()


def test_a_sampler_of_ones_own(numbered_manifest):
    """The last second of videos with 25 frames per second: the last 26 frames, or 25 where the time is rounded up."""
    sampler = define("docs/adding-an-op.md", "own sampler")
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(sampler(), ()), range(12))
    for i, frames in enumerate(plan.frames):
        last = numbered_manifest.video(i).num_frames - 1
        assert frames[0] in (last - 25, last - 24) and frames[-1] == last and np.ptp(np.diff(frames)) <= 1
    recipe = dv.Recipe(sampler(0.4, 3), (dv.RandomResizedCrop(16), dv.Normalize()))
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu") as loader:
        assert next(iter(loader)).clips.shape == (4, 3, 3, 16, 16)


def test_a_column_of_ones_own(numbered, tmp_path, capsys):
    for name in ("even", "odd"):
        (tmp_path / name).symlink_to(numbered / name)
    code = program("docs/manifest.md", "own column")
    assert len(code.splitlines()) <= 20
    exec(code, {"dv": dv, "folder": tmp_path})
    assert "('caption',) ['a fight']" in capsys.readouterr().out


def test_labels_of_ones_own(numbered, tmp_path, monkeypatch):
    (tmp_path / "videos").symlink_to(numbered)
    monkeypatch.chdir(tmp_path)
    scope = {"dv": dv}
    exec(program("docs/manifest.md", "labels of your own"), scope)
    assert scope["manifest"].classes == ("even", "odd") and scope["manifest"].labels.tolist() == [0] * 6 + [1] * 6
    assert scope["tagged"].classes == ("fast", "indoor") and scope["tagged"].targets([0, 5]).tolist() == [
        [1, 1],
        [1, 0],
    ]
    assert scope["scored"].rows("score", [0, 1]).tolist() == [0.6, 0.6] and scope["plain"].targets([0]).shape == (1, 0)


def test_parts_of_a_manifest(numbered_manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"manifest": numbered_manifest}
    exec(program("docs/manifest.md", "parts"), scope)
    assert (len(scope["train"]), len(scope["val"]), len(scope["odd"])) == (10, 2, 6)
    assert set(scope["odd"].labels) == {1} and len(dv.Manifest.read("both.parquet")) == 12


def test_clips_in_memory(capsys):
    scope = {"dv": dv}
    exec(program("docs/memory.md", "memory"), scope)
    assert capsys.readouterr().out.splitlines() == [
        "torch.Size([1, 16, 112, 112, 3])", "torch.Size([4, 16, 3, 120, 160]) torch.Size([4, 4])"
    ]  # fmt: skip
    assert scope["batch"].clips.dtype == torch.float32


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _, heading = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            if heading:
                words = [re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                         for line in file.read_text().splitlines() if line.startswith("#")]  # fmt: skip
                assert heading in words, f"{page.name}: {target}"


def test_readme_lists_every_page():
    text = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"[docs/{page.name}](docs/{page.name})" in text, page.name


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run_and_go_on_from_their_checkpoint(example, tmp_path):
    from dali_vidaug.commands.demo import make_videos

    make_videos(tmp_path / "videos", per_class=2)
    for epochs in (1, 2):
        command = [sys.executable, example, tmp_path / "videos", "--epochs", str(epochs)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.findall(r"^epoch (\d): loss [\d.]+, \d+% right", done.stdout, re.MULTILINE) == [str(epochs - 1)]
