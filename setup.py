"""Package metadata. Compiles kernels/ for the CPU."""

from setuptools import setup

setup(
    name="dali_vidaug",
    version="0.1.0",
    description="Video training batches at the speed of the decoder: NVIDIA DALI, CUDA kernels, torch tensors",
    python_requires=">=3.10",
    license="Apache-2.0",
    packages=["dali_vidaug", "dali_vidaug.ops"],
    install_requires=["numpy>=1.26", "av>=14", "pyarrow>=14", "tqdm", "pillow", "torch>=2.4"],
    extras_require={
        "cuda12": ["nvidia-dali-cuda120>=2.4,<3", "cupy-cuda12x>=13"],
        "cuda13": ["nvidia-dali-cuda130>=2.4,<3", "cupy-cuda13x>=13.6"],
        "cpu": ["nvidia-dali-cuda130>=2.4,<3"],  # DALI has no wheel without CUDA; it runs without a GPU
        "test": ["pytest>=8", "ruff==0.17.6", "mypy==2.4.1", "psutil"],
    },
    entry_points={"console_scripts": ["dali-vidaug = dali_vidaug.cli:main"]},
)
