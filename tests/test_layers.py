"""Imports go one way: every module of the package is in the list below, and imports only from modules before it."""

import ast
import re
import shutil
from pathlib import Path

import pytest

import dali_vidaug

PACKAGE = Path(dali_vidaug.__file__).parent
ROOMS = {  # names without "dali_vidaug."; "" is dali_vidaug/__init__.py
    "ground": "errors rng geometry boxes sampling.options sampling.videos sampling.grid sampling.clip "
    "sampling.segments sampling.multi sampling.around sampling.snippets sampling.peers sampling.dmvr sampling order "
    "steps schedule "
    "recycled kernels pixel_order resample differences report counting urls blocks wire workers threads",
    "device": "device device.cores device.driver device.gpu device.nvdec device.decoders device.decode_memory",
    "media": "media media.headers media.h264 media.hevc media.single media.bitstream media.orientation media.index "
    "media.place media.object_options media.object_errors media.objects media.fetch_loop media.block_cache "
    "media.object_reader media.object_source media.storage "
    "media.video media.unchanged media.container media.indexed_file media.references media.needed media.cut "
    "media.colors media.convert media.image_names media.images media.frame_folder media.sharing "
    "media.coded_order media.vectors media.decode media.uncrop media.remux media.expected media.serve media.oddities "
    "media.numbers "
    "media.packets media.prove media.places media.first_bytes media.measure media.claims media.load media.encode "
    "media.encoding media.shrink media.quality media.proven_encoder media.transcode",
    "ops": "ops.names ops.check ops.registry ops.operator ops.module_call ops.ramp ops.warp ops.affine ops.camera "
    "ops.shift ops.crop ops.resized_crop ops.random_crop ops.view_crops ops.sizes ops.label_map ops.flip "
    "ops.normalize ops.smoothing "
    "ops.blend ops.erase ops.mix ops.one_of ops.color ops.color_jitter ops.exposure ops.blur ops.motion ops.jpeg "
    "ops.random_apply ops.suites ops.randaugment ops.torch_module ops.interpolate ops.jitter ops.speed ops",
    "masks": "masks.grid masks.choose masks.uniform masks.cells masks.blocks masks.cubes masks.motion masks",
    "data": "data data.names data.atomic data.tar_members "
    "data.column data.shared data.schema data.index_table data.entry data.conform "
    "data.split data.join data.sampled data.boxes data.label_column data.stored data.manifest data.given "
    "data.segments data.header data.folder data.rates data.shard_names "
    "data.classes data.labels data.box_file data.box_names data.box_text data.box_cvat data.box_coco "
    "data.box_table data.box_sources data.box_tracks data.box_video data.box_rows "
    "data.list_text data.lists data.found data.list_source "
    "data.shard_classes data.shard_fields data.shards data.bucket "
    "data.list_splits data.list_lines data.list_paths "
    "data.list_frames data.list_kinetics data.list_something data.list_epic data.list_untrimmed data.list_segments "
    "data.list_thumos data.list_tables "
    "data.list_formats data.files data.listed_files data.known data.workers data.processes data.engine "
    "data.measuring data.remarks data.assemble data.parts data.scan "
    "data.shard_file data.shard_journal data.pack_fields data.one_scan data.pack_streams data.pack "
    "data.transcode_names data.transcode_journal data.transcode_rows data.transcode",
    "plan": "recipe recipes.registry recipes.common recipes.slowfast recipes.segments recipes.r3d recipes.simclr "
    "recipes.mixing recipes.videomae recipes.mvit recipes.video_swin recipes.timesformer recipes.internvideo2 "
    "recipes.vivit recipes.vjepa2 recipes.hiera recipes.program recipes stages multigrid "
    "repeats timing drawn_masks description plan tokens targets drawing mapping moved_boxes clip_motion settings "
    "leading columns results planes direct encoded_files decode_graph graph",
    "make": "pending trust share fetching clip_loading gathering decoding decode_stage make makers",
    "producer": "batch producer background",
    "loader": "scores localisation.segments localisation.proposals localisation.precision localisation "
    "ranks fingerprint state course suitability loader in_memory op_contract",
    "cam": "strips cam.head cam.activation cam.source cam.picture cam",
    "package": "",
    "commands": "commands commands.demo commands.summary commands.pictures commands.timeline commands.doctor "
    "commands.checks commands.checks.context "
    "commands.checks.device commands.checks.numbered commands.checks.cases commands.checks.decoding "
    "commands.checks.pixels commands.checks.loading commands.checks.decoder commands.checks.run "
    "commands.options commands.ops_picture "
    "commands.mask_picture commands.preview commands.scan commands.merge commands.pack commands.transcode "
    "commands.recipes commands.cli",
}
ORDER = [name for names in ROOMS.values() for name in names.split() or [""]]
UPWARD = {
    ("errors", "plan"),
    ("description", "plan"),
    ("data.sampled", "data.manifest"),
    ("data.boxes", "data.manifest"),
}  # for type checkers alone
LAZY = {  # imports inside functions, and why
    ("", "cam"): "needs torch, which planning and scanning do without",
    ("", "batch"): "needs DALI and torch, which planning and scanning do without",
    ("", "loader"): "the same",
    ("", "scores"): "the same",
    ("", "in_memory"): "the same",
    ("", "op_contract"): "the same",
    ("ops.torch_module", "ops.module_call"): "needs torch, which planning does without",
    ("ops.interpolate", "ops.module_call"): "the same",
    ("commands.cli", "commands.demo"): "a command imports what it runs: --help answers at once",
    ("commands.cli", "commands.pictures"): "the same",
    ("commands.cli", "commands.doctor"): "the same",
    ("commands.cli", "commands.checks.run"): "the same",
    ("commands.cli", "device.gpu"): "the same",
    ("commands.doctor", "in_memory"): "fails where DALI is missing, which doctor reports",
    ("commands.doctor", "ops"): "the same",
    ("commands.doctor", "data.scan"): "fails where PyAV is missing or too old, which doctor reports",
    ("commands.doctor", "media.decode"): "the same",
    ("commands.doctor", "media.encode"): "the same",
}


def modules_of(package):
    """Path of each module by name."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    return names


def imported(node, name, path, modules):
    """The modules of the package that an import statement, or a call of import_module, imports."""
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = ["dali_vidaug", *name.split(".")] if name else ["dali_vidaug"]
            parts = parts[: len(parts) - node.level + (path.name == "__init__.py")]
            base = ".".join([*parts, *([base] if base else [])])
        # from package import x is of x if that is a module, else of the package
        found = [f"{base}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
        "import_module", "__import__",
    ):  # fmt: skip
        text = ast.unparse(node.args[0]).lstrip("f").strip("'\"") if node.args else ""
        if text == "dali_vidaug.{_LAZY[name]}":
            return sorted(set(dali_vidaug._LAZY.values()))
        found = [text]
    else:
        return []
    targets = []
    for full in found:
        if full.split(".")[0] != "dali_vidaug":
            continue
        target = full.removeprefix("dali_vidaug").lstrip(".")
        while target and target not in modules:
            target = target.rpartition(".")[0]
        targets.append(target)
    return targets


def faults(package):
    """Every import that goes the wrong way, every lazy import that is not named, every module that is not listed."""
    modules = modules_of(package)
    for name in modules:
        if name not in ORDER:
            yield f"{name} is in no room"
    for name in ORDER:
        if name not in modules:
            yield f"{name} is in a room, but there is no such module"
    for name, path in modules.items():
        if name not in ORDER:
            continue
        tree = ast.parse(path.read_text())
        checked_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        lazy = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            for target in imported(node, name, path, modules):
                typed_only = id(node) in checked_only and (name, target) in UPWARD
                if target != name and ORDER.index(target) > ORDER.index(name) and not typed_only:
                    yield f"{name} imports {target}, which is above it (line {node.lineno})"
                if id(node) in lazy and (name, target) not in LAZY:
                    yield f"{name} imports {target} inside a function (line {node.lineno})"


def test_imports_go_one_way():
    assert list(faults(PACKAGE)) == []


def test_lazy_imports_that_are_allowed_exist():
    modules = modules_of(PACKAGE)
    found = {
        (name, target)
        for name, path in modules.items()
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        for target in imported(node, name, path, modules)
    }
    assert found == set(LAZY)


@pytest.mark.parametrize(
    "file, line, expected",
    [
        ("media/cut.py", "from dali_vidaug.loader import VideoLoader", "media.cut imports loader, which is above it"),
        ("ops/crop.py", "import dali_vidaug.graph", "ops.crop imports graph, which is above it"),
        ("rng.py", "def f():\n    from dali_vidaug.plan import Plan", "rng imports plan, which is above it"),
        ("schedule.py", "from dali_vidaug import producer", "schedule imports producer, which is above it"),
        ("plan.py", "from dali_vidaug import VideoLoader", "plan imports , which is above it"),
        ("data/scan.py", "from ..make import Maker", "data.scan imports make, which is above it"),
        ("device/gpu.py", "from importlib import import_module\nimport_module('dali_vidaug.ops')",
         "device.gpu imports ops, which is above it"),
        ("extra.py", "", "extra is in no room"),
        ("media/extra.py", "from dali_vidaug.loader import VideoLoader", "media.extra is in no room"),
        ("loader.py", "from dali_vidaug.commands.demo import make_videos",
         "loader imports commands.demo, which is above it"),
        ("make.py", "from dali_vidaug.commands import checks", "make imports commands.checks, which is above it"),
        ("graph.py", "def f():\n    import dali_vidaug.ops.crop", "graph imports ops.crop inside a function"),
        ("media/remux.py", "if TYPE_CHECKING:\n    from dali_vidaug.plan import Plan",
         "media.remux imports plan, which is above it"),
    ],
)  # fmt: skip
def test_a_planted_import_is_found(file, line, expected, tmp_path):
    package = tmp_path / "dali_vidaug"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    with (package / file).open("a") as target:
        target.write(f"\n{line}\n")
    assert any(fault.startswith(expected) for fault in faults(package)), list(faults(package))


def test_a_circle_within_a_room_is_found(tmp_path):
    package = tmp_path / "dali_vidaug"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    with (package / "data" / "lists.py").open("a") as target:
        target.write("\nfrom dali_vidaug.data.scan import scan\n")
    assert list(faults(package)) == [f for f in faults(package) if "data.lists imports data.scan" in f] != []


def test_files_and_functions_are_short():
    for path in modules_of(PACKAGE).values():
        assert len(path.read_text().splitlines()) <= 300, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                code = node.body[1:] if ast.get_docstring(node) else node.body
                length = code[-1].end_lineno - code[0].lineno + 1 if code else 0  # what it documents may be long
                assert length <= 60, f"{path}: {node.name}"


def test_architecture_names_every_file():
    """In an order in which imports go down only."""
    page = PACKAGE.parent / "docs" / "architecture.md"
    table = re.findall(r"^\| `([\w/]+\.py)` \| .*\|$", page.read_text(), re.MULTILINE)
    files = {name: path.relative_to(PACKAGE).as_posix() for name, path in modules_of(PACKAGE).items()}
    assert sorted(table) == sorted(files.values())
    assert table == [files[name] for name in reversed(ORDER)]
