"""Why this process cannot use its GPU, in one sentence: driver, wheels, torch, CuPy.

``problem`` is for the loader; ``dali-vidaug doctor`` prints the rest. A ``read_*`` function looks at the machine; a
``*_problem`` function returns None, or one sentence that says what is wrong and what to do.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import NamedTuple

from dali_vidaug.device.driver import LIBCUDA, Driver, Gpu, Host, read_driver, read_host
from dali_vidaug.errors import one_line

DRIVERS = {12: 525, 13: 580}  # the oldest for each major version of CUDA, which serves all of its minor versions
OLDEST_CAPABILITY = (7, 5)  # of the GPUs that CUDA 13 supports; CUDA 12 supports older ones
WHEELS = {
    "DALI": re.compile(r"nvidia-dali(-nightly|-weekly)?(-cuda\d+)?"),
    "CuPy": re.compile(r"cupy(-cuda\d+x?|-rocm-[\d-]+)?"),
}
SEE_GPU = "start it with docker run --gpus all (apptainer: --nv, Kubernetes: nvidia.com/gpu in the pod's limits)"

CUDA_ERRORS = {  # of cuInit, from cuda.h
    2: ("out of memory", "free GPU memory: nvidia-smi shows whose it is"),
    3: ("not initialized", "this process was forked from one that had used CUDA: start it with 'spawn' instead"),
    34: ("stub library", "libcuda.so.1 is the CUDA toolkit's stub: remove its folder 'stubs' from LD_LIBRARY_PATH"),
    802: ("system not ready", "start NVSwitch's manager: systemctl start nvidia-fabricmanager"),
    803: ("driver mismatch", "libcuda.so.1 and the kernel's driver differ in version: reboot after an update, and "
          "remove libcuda.so.1 of another version (such as a container image's own) from LD_LIBRARY_PATH"),
    804: ("forward compatibility is not supported on this GPU", "remove the folder 'compat' of a CUDA toolkit from "
          "LD_LIBRARY_PATH, or update the driver"),
    805: ("MPS connection failed", "restart MPS: nvidia-cuda-mps-control -d"),
    999: ("unknown", "reload the driver's module: modprobe nvidia_uvm, or reboot; dmesg has the reason"),
}  # fmt: skip


class Torch(NamedTuple):
    """torch: its version, the CUDA it is built for or None, its current GPU, and why it can use none."""

    version: str
    cuda: str | None
    current: int
    error: str


def problem(device_id: int | None = None) -> str | None:
    """Why this process cannot use the GPU.

    Cheap once torch and CuPy are imported. It initialises CUDA, as ``torch.cuda.is_available`` does: do not call it in
    a process that forks others which use a GPU.

    Args:
        device_id: the GPU as CUDA counts them in this process; None for torch's current one.

    Returns:
        None if DALI, the kernels and torch can use it; otherwise one sentence: what is wrong, and what to do.
    """
    try:
        driver, visible = read_driver(), os.environ.get("CUDA_VISIBLE_DEVICES")
        return driver_problem(driver, read_host(), visible) or _software_problem(driver, device_id)
    except Exception as error:  # a broken installation may fail in any way
        return f"looking for a GPU failed with {type(error).__name__}: {one_line(error)}; run dali-vidaug doctor"


def _software_problem(driver, device_id):
    wheels, torch = read_wheels(), read_torch()
    built = built_for(wheels, torch)
    return (
        age_problem(driver.cuda, built)
        or torch_problem(torch, driver, device_id)
        or capability_problem(driver.gpus[torch.current if device_id is None else device_id], built)
        or cupy_problem(wheels["CuPy"], driver.cuda)
    )


def read_wheels() -> dict[str, dict[str, int | None]]:
    """Installed wheels by package, each with the major version of CUDA in its name, or None: {"CuPy": {name: 13}}."""
    names = {re.sub(r"[-_.]+", "-", d.name).lower() for d in distributions() if d.name}
    return {
        package: {name: _cuda_in(name) for name in sorted(names) if pattern.fullmatch(name)}
        for package, pattern in WHEELS.items()
    }


def _cuda_in(name):
    found = re.search(r"cuda(\d\d)", name)
    return int(found[1]) if found else None


def read_torch() -> Torch:
    """Ask torch, which initialises CUDA."""
    import torch

    version, cuda = str(torch.__version__), torch.version.cuda
    if cuda is None:
        return Torch(version, None, 0, "")
    try:
        torch.cuda.init()
        return Torch(version, cuda, torch.cuda.current_device(), "")
    except Exception as error:  # torch has several, and not all are RuntimeErrors
        return Torch(version, cuda, 0, one_line(error))


def built_for(wheels: dict[str, dict[str, int | None]], torch: Torch) -> dict[str, int]:
    """The major version of CUDA that each is built for, if known: {"cupy-cuda13x": 13, "torch 2.9": 13}."""
    built = {name: major for names in wheels.values() for name, major in names.items() if major}
    return built | ({f"torch {torch.version}": int(torch.cuda.split(".")[0])} if torch.cuda else {})


def driver_problem(driver: Driver, host: Host, visible: str | None) -> str | None:
    """A problem of the driver alone; ``visible`` is CUDA_VISIBLE_DEVICES or None."""
    if driver.error is None:
        return no_driver(host)
    if driver.error == 100 or (driver.error == 0 and not driver.gpus):
        if visible is not None and (host.devices or visible in ("", "-1")):
            return (
                f"CUDA_VISIBLE_DEVICES is {visible!r} and hides all GPUs from this process: unset it, or name one that "
                "nvidia-smi -L lists"
            )
        advice = (
            f"this container sees none: {SEE_GPU}"
            if host.container
            else "nvidia-smi -L must list one, with MIG an instance"
        )
        return f"the NVIDIA driver finds no GPU (CUDA error 100, no device): {advice}"
    if driver.error:
        name, advice = CUDA_ERRORS.get(driver.error, ("see cuda.h", "look at nvidia-smi and dmesg"))
        return f"cuInit fails with CUDA error {driver.error} ({name}): {advice}"
    return None


def no_driver(host: Host) -> str:
    """Why a machine has no driver: its libcuda.so.1 does not load."""
    seen = host.kernel_driver or host.devices
    if host.container and seen:
        return f"this machine has an NVIDIA driver, but this container does not see it (no {LIBCUDA}): {SEE_GPU}"
    if host.container:
        return f"no NVIDIA driver in this container (no {LIBCUDA}); if the machine has a GPU, {SEE_GPU}"
    if seen:
        return (
            f"the kernel has NVIDIA's driver {host.kernel_driver or '(version unknown)'}, but {LIBCUDA} does not load: "
            "install the driver's libraries of that version, or add their folder to LD_LIBRARY_PATH"
        )
    return f"no NVIDIA driver (no {LIBCUDA}): this machine has no GPU, or its driver is not installed"


def age_problem(cuda: int, built: dict[str, int]) -> str | None:
    """A driver that is older than the CUDA of the packages; minor versions of one major version are compatible.

    Args:
        cuda: the newest version that the driver supports, 12040 for 12.4.
        built: as ``built_for`` returns it.
    """
    major = cuda // 1000
    newer = {name: wanted for name, wanted in built.items() if wanted > major}
    if not newer:
        return None
    wanted = max(newer.values())
    needs = f"{DRIVERS[wanted]} or newer" if wanted in DRIVERS else f"one for CUDA {wanted}"
    return (
        f"the NVIDIA driver supports CUDA {cuda // 1000}.{cuda % 1000 // 10}, but {' and '.join(newer)} "
        f"{'are' if len(newer) > 1 else 'is'} built for CUDA {wanted}: update the driver to {needs}"
        + (f", or {_instead(newer, cuda)}" if major in DRIVERS else "")
    )


def _instead(names, cuda):
    """The commands that replace wheels by those for this driver."""
    wheels = [name for name in names if not name.startswith("torch ")]
    commands = [f"pip uninstall -y {' '.join(wheels)}", f"pip install {_extra(cuda)}"] if wheels else []
    if len(wheels) < len(names):
        commands += [f"pip install --force-reinstall {_torch_wheel(cuda)}"]
    return " && ".join(commands)


def _extra(cuda):
    if not cuda:
        return (
            f"'dali_vidaug[cuda13]' (driver {DRIVERS[13]} or newer) or 'dali_vidaug[cuda12]' ({DRIVERS[12]} or newer)"
        )
    return "'dali_vidaug[cuda13]'" if cuda >= 13000 else "'dali_vidaug[cuda12]'"


def _torch_wheel(cuda):
    return f"torch (the build for CUDA {13 if cuda >= 13000 else 12}: see pytorch.org/get-started)"


def torch_problem(torch: Torch, driver: Driver, device_id: int | None = None) -> str | None:
    """A problem of torch, when the driver has none."""
    if torch.cuda is None:
        return f"torch {torch.version} is built without CUDA: pip install --force-reinstall {_torch_wheel(driver.cuda)}"
    if torch.error:
        mig = any(" MIG " in gpu.name for gpu in driver.gpus)  # torch counts all instances, CUDA shows it one
        advice = "; set CUDA_VISIBLE_DEVICES to the UUID of one MIG instance (nvidia-smi -L)" if mig else ""
        return f"torch {torch.version} cannot use the GPU: {torch.error}{advice}"
    if device_id is not None and not 0 <= device_id < len(driver.gpus):
        return f"device_id must be in [0, {len(driver.gpus)}), the GPUs that this process sees, got {device_id}"
    return None


def capability_problem(gpu: Gpu, built: dict[str, int]) -> str | None:
    """A GPU that CUDA 13 does not support any more."""
    newer = [name for name, major in built.items() if major >= 13]
    if gpu.capability >= OLDEST_CAPABILITY or not newer:
        return None
    return (
        f"{gpu.name} has compute capability {gpu.capability[0]}.{gpu.capability[1]}, and CUDA 13 ({', '.join(newer)}) "
        f"needs {OLDEST_CAPABILITY[0]}.{OLDEST_CAPABILITY[1]} or newer: {_instead(newer, 12000)}"
    )


def cupy_problem(wheels: dict[str, int | None], cuda: int) -> str | None:
    """A problem of CuPy or the compiler that it needs for the kernels; ``cuda`` is the driver's, 0 without one."""
    if len(wheels) > 1:
        return double_problem(wheels, cuda)
    if os.environ.get("CUPY_ENABLE_UMP", "0") != "0":
        return "with CUPY_ENABLE_UMP kernels would read host memory that is already freed: unset it"
    if find_spec("cupy") is None:
        return f"CuPy is not installed: pip install {_extra(cuda)}"
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # which one, for a library that does not load, depends on the version of CuPy
        wheel = "nvidia-cuda-nvrtc-cu12" if 12 in wheels.values() else "nvidia-cuda-nvrtc"
        return f"CuPy cannot compile kernels (NVRTC: {one_line(error)}): pip install {wheel}"
    try:
        from cupy._core.core import assemble_cupy_compiler_options

        assemble_cupy_compiler_options(("--std=c++17",))  # what CuPy 14 does first, whatever it compiles
    except ImportError:  # another version may not need it
        return None
    except Exception as error:
        wheel = "nvidia-cuda-runtime-cu12" if 12 in wheels.values() else "nvidia-cuda-runtime"
        return f"CuPy cannot compile kernels ({one_line(error)}): pip install {wheel}"
    return None


def double_problem(wheels: dict[str, int | None], cuda: int) -> str | None:
    """Wheels of one package that overwrite each other's files; None for one wheel or none."""
    if len(wheels) < 2:
        return None
    commands = f"pip uninstall -y {' '.join(wheels)} && pip install {_extra(cuda)}"
    return f"{' and '.join(wheels)} overwrite each other: {commands}"
