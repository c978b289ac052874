"""Package metadata, and the kernels for the CPU: kernels/*.cu through the C++ compiler, once for each kind of CPU."""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.dist_info import dist_info
from setuptools.errors import CompileError

KERNELS = Path("kernels")
SOURCES = sorted(str(path) for path in KERNELS.iterdir() if path.suffix in (".cu", ".cpp"))
HEADERS = sorted(str(path) for path in KERNELS.glob("*.h"))
# No contraction into fused multiply-adds, except where a kernel says `fused`: the same on the GPU, for the same bytes.
# Nobody reads the flags that floating-point operations set, which would keep the compiler from doing comparisons for
# several pixels.
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-trapping-math", "-Wall", "-Wextra"]
VARIANTS = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    VARIANTS["avx2"] = ["-mavx2", "-mbmi2", "-mfma"]  # chosen at run time if the CPU has it


def digest():
    """The same as dali_vidaug.kernels.digest, which cannot be imported while the package is being built."""
    files = sorted(Path(path) for path in SOURCES + HEADERS)
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


def find_compiler():
    """The C++ compiler as a command: what CXX says, which may have arguments (ccache g++), or else the usual names."""
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["g++"], ["c++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    what = f"CXX is {' '.join(named)!r}, which is not there" if named else "there is none (no g++, c++ or clang++)"
    raise CompileError(
        f"dali_vidaug compiles its kernels for the CPU with a C++17 compiler, and {what}. Install one (Debian, Ubuntu: "
        "apt-get install g++; Fedora: dnf install gcc-c++; conda: conda install -c conda-forge cxx-compiler), or name "
        "yours in the environment variable CXX"
    )


class BuildKernels(build_ext):
    """Plain shared libraries, not Python modules; loaded with ctypes."""

    def get_ext_filename(self, fullname):
        return os.path.join(*fullname.split(".")) + ".so"  # noqa: PTH118 (setuptools wants a str)

    def build_extension(self, ext):
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        compiler = find_compiler()
        command = [*compiler, *FLAGS, f'-DSOURCES_DIGEST="{digest()}"', *ext.extra_compile_args]
        done = subprocess.run([*command, "-x", "c++", *ext.sources, "-o", partial], check=False)
        if done.returncode:
            raise CompileError(
                f"the C++ compiler {' '.join(compiler)} could not make {target.name}; it must know C++17"
            )
        partial.replace(target)  # not written over: a running process may have it mapped

    def run(self):
        super().run()
        if not self.inplace:  # a wheel carries the sources: the GPU's kernels are compiled where they run
            folder = Path(self.build_lib) / "dali_vidaug" / "kernel_sources"
            folder.mkdir(parents=True, exist_ok=True)
            for path in map(Path, SOURCES + HEADERS):
                (folder / path.name).write_bytes(path.read_bytes())

    def get_outputs(self):
        folder = Path(self.build_lib) / "dali_vidaug" / "kernel_sources"
        return [*super().get_outputs(), *(str(folder / Path(path).name) for path in SOURCES + HEADERS)]


class Metadata(dist_info):
    """Without a compiler pip stops here, before it fetches what the package needs, which is gigabytes."""

    def run(self):
        find_compiler()
        super().run()


class Wheel(bdist_wheel):
    """One wheel serves every Python 3 of a platform: nothing in it is compiled against Python."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(
    name="dali_vidaug",
    version="0.1.0",
    description="Video training batches at the speed of the decoder: NVIDIA DALI, CUDA kernels, torch tensors",
    long_description=Path("README.md").read_text(),
    long_description_content_type="text/markdown",
    keywords="video action-recognition augmentation data-loader dali nvdec pytorch cuda",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C++",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Multimedia :: Video",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    license="Apache-2.0",
    packages=find_packages(include=["dali_vidaug", "dali_vidaug.*"]),
    package_data={"dali_vidaug": ["py.typed"]},
    ext_modules=[
        Extension(
            f"dali_vidaug._kernels_{name}",
            SOURCES,
            depends=HEADERS,
            extra_compile_args=flags,
            optional=name != "baseline",  # an old compiler may not know the flags
        )
        for name, flags in VARIANTS.items()
    ],
    cmdclass={"build_ext": BuildKernels, "dist_info": Metadata, "bdist_wheel": Wheel},
    # docs/testing.md says which versions were tried; av 17.0.1 is the first whose filter graphs can be given one thread
    install_requires=["numpy>=1.26", "av>=17.0.1,<20", "pyarrow>=14", "tqdm>=4.60", "pillow>=10.1", "torch>=2.4"],
    extras_require={
        # CuPy compiles the kernels with NVRTC, and compiles nothing where it does not find CUDA's headers.
        "cuda12": [
            "nvidia-dali-cuda120>=2.4,<3",
            "cupy-cuda12x>=14",
            "nvidia-cuda-nvrtc-cu12",
            "nvidia-cuda-runtime-cu12",
        ],
        "cuda13": [
            "nvidia-dali-cuda130>=2.4,<3",
            "cupy-cuda13x>=14",
            "nvidia-cuda-nvrtc>=13",
            "nvidia-cuda-runtime>=13",
        ],
        "cpu": ["nvidia-dali-cuda130>=2.4,<3"],  # DALI has no wheel without CUDA; it runs without a GPU
        "cloud": ["obstore>=0.12"],  # videos in buckets and on web servers
        "metrics": ["torchmetrics>=1.2"],  # for VideoScores
        "train": ["torchvision", "transformers>=5", "torchmetrics>=1.2"],  # for examples/train.py
        "ray": ["ray>=2.40,<3"],  # scan(engine="ray")
        "test": [
            "pytest>=8",
            "pytest-xdist",
            "ruff==0.17.6",
            "mypy==2.4.1",
            "psutil",
            "torchvision",
            "torchmetrics>=1.2",
            "transformers>=5",
            "ray>=2.40,<3; python_version < '3.15'",  # where it has wheels
            "obstore>=0.12",
            "moto[server]>=5.2",
            "localbucket>=1.2",
            "nanio>=0.1.7",
        ],
    },
    entry_points={"console_scripts": ["dali-vidaug = dali_vidaug.commands.cli:main"]},
)
