"""README and docs: every program runs as it is written, every link leads somewhere."""

import ast
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import import_torchvision

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


LANGUAGES = ("python", "bash", "text")  # text: diagrams, and commands that leave something open
# Commands of bash blocks that do not run here: how they begin, and why.
NOT_RUN = {
    "pip install": "installs the package; test_wheel.py does",
    "make ": "installs the package; a target must be there",
    ".venv/bin/": "the tools of make lint and the tests themselves",
    "DALI_VIDAUG_REQUIRE_GPU=1 ": "needs a GPU",
    "torchrun ": "several processes; test_train.py runs two",
    "python benchmarks/": "takes minutes; the program must be there and have a --help",
}


def blocks(page):
    """All blocks of a page: (language, code, the name in the comment before, line)."""
    text, found = page.read_text(), []
    for match in re.finditer(r"(?:<!-- (.+?) -->\n)?^( *)```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
        name, indent, language, code = match.groups()
        code = re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
        found.append((language, code, name, text[: match.start(4)].count("\n") + 1))
    return found


def is_chapter(page):
    """Whether the blocks of a page run one after the other; elsewhere each stands for itself."""
    return "<!-- chapter -->" in page.read_text()


ALL = [(page, number) for page in PAGES for number in range(len(programs(page)))]
CHAPTERS = [page for page in PAGES if is_chapter(page)]
COMMANDS = [
    (page, number)
    for page in PAGES
    for number, block in enumerate(blocks(page))
    if block[0] == "bash" and not is_chapter(page)
]


def test_the_programs_are_found():
    assert len(ALL) >= 11 and {page.name for page, _ in ALL} >= {"README.md", "mixing.md", "adding-an-op.md"}
    assert {page.name for page in CHAPTERS} == {"training.md"}
    assert {page.name for page, _ in COMMANDS} >= {"README.md", "tuning.md", "gpu.md"}
    for page in PAGES:
        python = [code for language, code, *_ in blocks(page) if language == "python"]
        assert python == [code for _, code in programs(page)] and page.read_text().count("```") == 2 * len(blocks(page))


def test_every_block_says_what_it_is():
    """A block without a language would not run here without anyone's noticing."""
    for page in PAGES:
        for language, _, _, line in blocks(page):
            assert language in LANGUAGES, f"{page.name}, line {line}: {language!r} is not one of {LANGUAGES}"


def prepare(folder, numbered):
    """What the text around programs and commands takes for granted: videos by class, and the programs of a checkout."""
    (folder / "videos").symlink_to(numbered)
    for name in ("even", "odd"):
        (folder / name).symlink_to(numbered / name)
    for name in ("examples", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)


def run_commands(code, folder):
    """Run the commands of a bash block in a folder, except those of NOT_RUN, of which is checked what can be."""
    lines = []
    for line in code.splitlines():
        left_out = next((start for start in NOT_RUN if line.startswith(start)), None)
        if left_out == "make ":
            target = line.split()[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        elif left_out == "python benchmarks/":
            lines.append(f"python {line.split()[1]} --help > /dev/null")
        elif left_out == "torchrun ":
            assert (ROOT / next(word for word in line.split() if word.endswith(".py"))).is_file()
        elif left_out is None:
            lines.append(line)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
    environment = {**os.environ, "PATH": path}
    if "python examples/" in code:
        import example_programs  # skips where they cannot run

        environment |= {name: example_programs.ENVIRONMENT[name] for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def bucket(numbered, tmp_path_factory, monkeypatch):
    """s3://my-bucket, with what is in the folder videos."""
    pytest.importorskip("obstore", reason="buckets need obstore: the extra [cloud]")
    servers = pytest.importorskip("servers")
    with servers.server("localbucket", tmp_path_factory.mktemp("buckets")) as port:
        servers.put(
            port, "my-bucket", {f"videos/{path.relative_to(numbered)}": path for path in numbered.rglob("*.mp4")}
        )
        for name, value in servers.options(port).items():
            monkeypatch.setenv({"endpoint": "AWS_ENDPOINT_URL"}.get(name, f"AWS_{name.upper()}"), value)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("page, number", COMMANDS, ids=lambda x: getattr(x, "name", x))
def test_commands_run(page, number, numbered, tmp_path, request):
    """Each block in a folder with videos, by class."""
    prepare(tmp_path, numbered)
    _, code, *_ = blocks(page)[number]
    if "s3://" in code:
        request.getfixturevalue("bucket")
    if "ffmpeg" in code and not shutil.which("ffmpeg"):
        pytest.skip("no ffmpeg here")
    run_commands(code, tmp_path)


LONG = {"training.md": pytest.mark.slow}


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name, marks=LONG.get(p.name, ())) for p in CHAPTERS])
def test_chapters_run(page, numbered, tmp_path, monkeypatch, capsys):
    """All programs and commands of a page, one after the other, as a reader would run them."""
    prepare(tmp_path, numbered)
    (tmp_path / "videos").unlink()
    for name in ("train", "validation"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / name).symlink_to(numbered)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    for language, code, _, line in blocks(page):
        if language == "bash":
            run_commands(code, tmp_path)
        elif language == "python":
            exec(compile("\n" * (line - 1) + code, page, "exec"), scope)
    for loader in scope.values():
        if isinstance(loader, dv.VideoLoader):
            loader.close()


@pytest.mark.parametrize(
    "page, number", [item for item in ALL if item[0] not in CHAPTERS], ids=lambda x: getattr(x, "name", x)
)
def test_programs_run(page, number, numbered, numbered_manifest, tmp_path, monkeypatch, capsys, request):
    """With what the text around them takes for granted: videos in the folder, a loader, a model."""
    prepare(tmp_path, numbered)
    monkeypatch.chdir(tmp_path)
    _, code = programs(page)[number]
    if "s3://" in code:
        request.getfixturevalue("bucket")
    if "Manifest.read" in code:
        dv.scan("videos", output="train.parquet", progress=False)
    scope = {"dv": dv, "manifest": numbered_manifest, "folder": tmp_path}
    scope["model"] = lambda clips: clips.mean((2, 3, 4))[:, :2]
    if "VideoScores" in code:
        import_torchvision()  # which torchmetrics imports
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
    with pytest.raises(ValueError, match=r"LastSeconds is not known.* dv.Plan.load\(path, \[LastSeconds\]\)"):
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


def test_a_mask_of_ones_own(numbered_manifest):
    mask = define("docs/masks.md", "own mask")
    recipe = dv.Recipe(dv.ClipSampling(8), (dv.RandomResizedCrop(32), dv.Normalize()), masks=(mask(),))
    with dv.VideoLoader(numbered_manifest, recipe, 4, device="cpu") as loader:
        (masked,) = next(iter(loader)).masks
    frames = masked.flatten(2).float().mean(2)  # whole ones, two of four
    assert masked.shape == (4, 4, 2, 2) and ((frames == 0) | (frames == 1)).all() and (frames.sum(1) == 2).all()


def test_a_column_of_ones_own(numbered, tmp_path, capsys):
    for name in ("even", "odd"):
        (tmp_path / name).symlink_to(numbered / name)
    code = program("docs/manifest.md", "own column")
    assert len(code.splitlines()) <= 20
    exec(code, {"dv": dv, "folder": tmp_path})
    assert "('caption',) ['a quiet street' 'a fight'] ['a fight']" in capsys.readouterr().out


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


def test_stages_of_training(numbered_manifest, capsys):
    scope = {"dv": dv, "manifest": numbered_manifest}
    exec(program("docs/schedules.md", "stages"), scope)
    scope["loader"].close()
    first = [*["(4, 3, 4, 32, 32) 1"] * 3]
    expected = ["epoch 0: 3 batches", *first, "epoch 1: 3 batches", *first]
    expected += ["epoch 2: 6 batches", *["(2, 3, 8, 48, 48) 0.5"] * 6]
    assert capsys.readouterr().out.splitlines() == expected
    exec(program("docs/schedules.md", "learning rate"), scope)
    scope["loader"].close()
    assert scope["step"] == scope["total_steps"] == 1 + 6
    cosine = [0.05 * (1 + np.cos(np.pi * step / 7)) for step in range(7)]
    assert scope["rates"] == pytest.approx([4 * cosine[0], *cosine[1:]])


def test_the_table_of_multigrid(capsys):
    """The rows are what the program before it prints."""
    exec(program("docs/schedules.md", "multigrid"), {"dv": dv})
    page = (ROOT / "docs" / "schedules.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+) \| x (.+) \|$", page, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == [f"{start} {clips} ({sizes})" for start, clips, sizes in rows]
    assert len(rows) == 4


def test_clips_in_memory(capsys):
    scope = {"dv": dv}
    exec(program("docs/memory.md", "memory"), scope)
    assert capsys.readouterr().out.splitlines() == [
        "torch.Size([1, 16, 112, 112, 3])", "torch.Size([4, 16, 3, 120, 160]) torch.Size([4, 4])"
    ]  # fmt: skip
    assert scope["batch"].clips.dtype == torch.float32


def test_the_style_of_another_clip():
    """With the whole strength, means and deviations of each colour are those of the partner."""
    scope: dict = {}
    exec(program("docs/modules.md", "style exchange"), scope)
    op = dataclasses.replace(scope["op"], arguments=(("strength", 1.0, 1.0),), probability=1.0)
    rng = np.random.default_rng(0)
    clips = [
        rng.normal(rng.uniform(90, 160, 3), rng.uniform(5, 15, 3), (4, 24, 32, 3)).round().astype(np.uint8)
        for _ in range(5)
    ]
    batch = dv.augment(clips, (op,), layout="FHWC", device="cpu")
    for made, partner in zip(batch.clips.numpy(), batch.plan.args["exchange"]["partner"], strict=True):
        np.testing.assert_allclose(made.mean((0, 1, 2)), clips[partner].mean((0, 1, 2)), atol=0.1)
        np.testing.assert_allclose(made.std((0, 1, 2)), clips[partner].std((0, 1, 2)), rtol=0.02)
    weak = dataclasses.replace(op, arguments=(("strength", 0.0, 0.0),))
    assert (dv.augment(clips, (weak,), layout="FHWC", device="cpu").clips.numpy() == np.stack(clips)).all()


def test_clips_that_a_network_makes():
    """The bar moves as its class says, and the label is that class."""
    scope: dict = {}
    exec(program("docs/modules.md", "generator"), scope)
    clips = [np.full((5, 16, 64, 3), 77, np.uint8)] * 40
    batch = dv.augment(clips, (scope["op"],), np.eye(2)[[0] * 40], layout="FHWC", device="cpu")
    rows = batch.plan.args["bars"]
    made = rows["applied"] != 0
    assert 3 < made.sum() < 25 and (batch.clips[~made] == 77).all() and (batch.targets[~made, 0] == 1).all()
    assert set(rows["label"][made]) == {0, 1}
    for clip, row, target in zip(batch.clips[made].numpy() / 255, rows[made], batch.targets[made], strict=True):
        assert set(np.unique(clip)) == {0, 1} and target.argmax() == row["label"] and target.max() == 1
        angles = np.exp(2j * np.pi * np.arange(64) / 64)  # the bar goes round: its centre as an angle
        centres = np.angle(clip[:, 0, :, 0] @ angles)
        steps = np.angle(np.exp(1j * np.diff(centres)))
        assert (steps > 0).all() if row["label"] == 0 else (steps < 0).all()


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


def test_the_accuracy_of_the_chapter_on_training(numbered, tmp_path, capsys):
    """A network that knows the class of each clip has 100 %, one that knows none of them 0 %; also of clips that came
    twice, and with videos without a label and one that cannot be decoded."""
    (code,) = [code for _, code in programs(ROOT / "docs" / "training.md") if "def evaluate" in code]
    lines = [f"{path},{path.parent.name if i else ''}" for i, path in enumerate(sorted(numbered.rglob("*.mp4")))]
    bad = tmp_path / "bad.mp4"
    shutil.copyfile(lines[3].partition(",")[0], bad)
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines, f"{bad},odd"]) + "\n")
    manifest = dv.scan(tmp_path / "list.csv", progress=False)
    bad.unlink()
    recipe = dv.Recipe(dv.ClipSampling(2), (dv.Resize((8, 8)), dv.Normalize()))
    for answer, percent in ((lambda labels: labels, "100.0%"), (lambda labels: 1 - labels, "0.0%")):
        top1 = seen = 0
        for rank in range(5):
            loader = dv.VideoLoader(manifest, recipe, 2, device="cpu", shuffle=False, drop_last=False, on_error="skip",
                                    num_shards=5, shard_index=rank)  # fmt: skip
            labels, truth = torch.tensor(manifest.labels), []
            for batch in loader:
                if (~batch.repeated & (labels[batch.samples] >= 0)).any():
                    truth.append(answer(labels[batch.samples].clip(0)))
            loader.set_epoch(0)
            scope = {"torch": torch, "validation_loader": loader, "validation": manifest}
            scope["model"] = Oracle(truth, len(manifest.classes))
            with loader:
                exec(code, scope)
            top1, seen = top1 + scope["top1"], seen + scope["seen"]
            assert f"top-1 {percent}" in capsys.readouterr().out
        assert seen == len(manifest) - 2 and top1 == (seen if percent == "100.0%" else 0)


class Oracle(torch.nn.Module):
    """Says what it is told, batch by batch."""

    def __init__(self, answers, num_classes):
        super().__init__()
        self._answers, self._num_classes = iter(answers), num_classes

    def forward(self, clips):
        answer = next(self._answers)
        assert len(answer) == len(clips)
        return torch.nn.functional.one_hot(answer.long(), self._num_classes).float()
