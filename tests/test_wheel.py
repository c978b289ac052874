"""The package as users install it: a wheel in an environment of its own."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import dali_vidaug as dv
from dali_vidaug.commands import doctor
from dali_vidaug.media import decode as decode_module

ROOT = Path(__file__).parent.parent
PACKAGE = Path(dv.__file__).parent
SOURCES = ("dali_vidaug", "kernels", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def copy_sources(folder):
    """What a wheel is built from, without anything that was built before."""
    folder.mkdir(exist_ok=True)
    for name in SOURCES:
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        source = ROOT / name
        shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder)
    return folder


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    sources = tmp_path_factory.mktemp("sources")
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder, copy_sources(sources))
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_a_wheel_has_every_file(wheel):
    assert re.fullmatch(r"dali_vidaug-[\d.]+-py3-none-linux_\w+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    for path in PACKAGE.rglob("*.py"):
        assert f"dali_vidaug/{path.relative_to(PACKAGE)}" in names
    for path in (ROOT / "kernels").iterdir():
        assert f"dali_vidaug/kernel_sources/{path.name}" in names
    assert {"dali_vidaug/py.typed", "dali_vidaug/_kernels_baseline.so"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    assert "Description-Content-Type: text/markdown" in metadata and "# dali_vidaug" in metadata
    assert "Requires-Python: >=3.10" in metadata and re.search(r"License(-Expression)?: Apache-2.0", metadata)


@pytest.mark.slow
def test_a_wheel_runs_in_an_environment_of_its_own(wheel, tmp_path):
    """With links to the other packages of this one, and nothing of the checkout."""
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for place in Path(find_spec("numpy").origin).parents[1].iterdir():
        if "dali_vidaug" not in place.name and not (packages / place.name).exists():
            (packages / place.name).symlink_to(place)
    bin_, here = tmp_path / "venv" / "bin", tmp_path / "here"
    here.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = run(bin_ / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    code = "import dali_vidaug as dv; print(dv.__file__)"
    done = run(bin_ / "python", "-c", code, cwd=here, env=environment)
    assert done.stdout.startswith(str(packages)), done.stdout + done.stderr
    done = run(bin_ / "dali-vidaug", "doctor", cwd=here, env=environment)
    assert done.returncode == 0 and "the loader runs on this machine" in done.stdout, done.stdout
    done = run(bin_ / "dali-vidaug", "demo", "--size", "64", cwd=here, env=environment)
    assert done.returncode == 0 and (here / "demo.png").is_file(), done.stderr
    code = "import dali_vidaug as dv; dv.VideoLoader(3)\nreveal_type(dv.scan('x').rows)\n"
    (here / "typed.py").write_text(code)
    done = run(bin_ / "python", "-m", "mypy", "typed.py", cwd=here, env=environment)
    assert 'Argument 1 to "VideoLoader" has incompatible type "int"' in done.stdout, done.stdout
    assert "def (name: str, samples:" in done.stdout


@pytest.mark.parametrize("compilers, cxx, message", [
    ([], None, "there is none (no g++, c++ or clang++). Install one (Debian, Ubuntu: apt-get install g++;"),
    (["g++"], "no-such-compiler -O2", "CXX is 'no-such-compiler -O2', which is not there. Install one"),
    (["g++"], "false", "the C++ compiler false could not make _kernels_baseline.so; it must know C++17"),
    (["c++"], None, None), pytest.param(["g++"], "env g++", None, marks=pytest.mark.slow),
    pytest.param(["g++"], "", None, marks=pytest.mark.slow),
])  # fmt: skip
def test_the_compiler_is_found_or_one_sentence_says_that_there_is_none(compilers, cxx, message, tmp_path):
    """With a PATH that has only these; CXX may have arguments, as with ccache."""
    (tmp_path / "bin").mkdir()
    for name in (*compilers, "as", "ld", "env", "false", "uname"):
        (tmp_path / "bin" / name).symlink_to(shutil.which("g++" if name in compilers else name))
    environment = {k: v for k, v in os.environ.items() if k != "CXX"} | {"PATH": str(tmp_path / "bin")}
    environment |= {} if cxx is None else {"CXX": cxx}
    sources = copy_sources(tmp_path / "sources")
    done = run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=sources, env=environment)
    assert (done.returncode == 0) == (message is None), done.stderr
    if message is None:
        assert (sources / "dali_vidaug" / "_kernels_baseline.so").is_file()
    else:
        assert message in done.stderr.strip().splitlines()[-1] and "Errno" not in done.stderr


def test_without_a_compiler_pip_stops_at_the_metadata(tmp_path):
    """Before it fetches gigabytes, that is."""
    sources = copy_sources(tmp_path / "sources")
    code = "from setuptools.build_meta import prepare_metadata_for_build_wheel as make; make('.')"
    done = run(sys.executable, "-c", code, cwd=sources, env=os.environ | {"CXX": "no-such-compiler"})
    assert done.returncode != 0 and "CXX is 'no-such-compiler', which is not there" in done.stderr.splitlines()[-1]
    done = run(sys.executable, "-c", code, cwd=sources)
    assert done.returncode == 0 and list(sources.glob("*.dist-info")), done.stderr


# doctor decodes with the package's own code, so that it says what another version of PyAV breaks


def pyav_row():
    ((state, subject, finding),) = doctor._pyav()
    assert subject == "PyAV"
    return state, finding


def test_doctor_decodes_a_video():
    state, finding = pyav_row()
    assert state == doctor.OK and "decodes a test video" in finding and doctor.decoding_problem() is None


def test_doctor_says_what_a_version_of_pyav_breaks(monkeypatch):
    """As 17.0.0, whose filter graphs have no threads; and as 19 was for code that passed metadata_errors."""

    class Graph:
        __slots__ = ()

    with monkeypatch.context() as patch:
        patch.setattr(decode_module.av.filter, "Graph", Graph)
        state, finding = pyav_row()
    assert state == doctor.BAD and "cannot decode a test video (AttributeError: 'Graph' object has no" in finding
    with monkeypatch.context() as patch:
        patch.setattr("dali_vidaug.media.container.ANY_TAGS", {"no_such_option": 1})
        state, finding = pyav_row()
    assert state == doctor.BAD and "unexpected keyword argument 'no_such_option'" in finding


def test_doctor_notices_wrong_frames(monkeypatch):
    real = decode_module.decode

    def shifted(video, frames, crops=()):
        return real(video, np.minimum(frames + 1, video.num_frames - 1), crops)

    monkeypatch.setattr(decode_module, "decode", shifted)
    state, finding = pyav_row()
    assert state == doctor.BAD and "decodes a test video wrongly: grey levels" in finding
    monkeypatch.setattr(decode_module, "decode", lambda *args: SimpleNamespace(pixels=np.zeros((3, 48, 64, 3))))
    assert "wrongly" in pyav_row()[1]
