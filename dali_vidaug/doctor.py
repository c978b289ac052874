"""What works on this machine, and what to install where it does not."""

import ctypes
import sys
from importlib import import_module
from importlib.metadata import distributions

OK, MISSING, BAD = "ok", "--", "BAD"  # BAD: the loader cannot run without it


def examine():
    """Look at everything the loader may use: a list of (state, subject, finding)."""
    checks = (_python, _torch, _dali, _cuda, _nvdec, _cupy, _pyav)
    rows = []
    for check in checks:
        try:
            rows.append(check())
        except Exception as error:  # a broken installation may fail in any way; the others are still of interest
            rows.append((BAD, check.__name__.strip("_"), f"{type(error).__name__}: {error}"))
    return rows


def _version(prefix):
    found = [f"{d.name} {d.version}" for d in distributions() if d.name and d.name.startswith(prefix)]
    return ", ".join(sorted(set(found))) or "of unknown version"


def _python():
    return OK if sys.version_info >= (3, 10) else BAD, "python", sys.version.split()[0]


def _torch():
    try:
        torch = import_module("torch")
    except ModuleNotFoundError:
        return BAD, "torch", "not installed: pip install torch"
    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return OK, "torch", f"{torch.__version__}, {built}; GPUs: {', '.join(gpus) or 'none'}"


def _dali():
    try:
        dali = import_module("nvidia.dali")
    except ModuleNotFoundError:
        return BAD, "DALI", "not installed: pip install 'dali_vidaug[cuda13]', [cuda12], or [cpu] without a GPU"
    import numpy as np

    from dali_vidaug.loader import augment
    from dali_vidaug.ops import RandomHorizontalFlip, Resize

    result = augment([np.zeros((2, 4, 6, 3), np.uint8)], [Resize((2, 3)), RandomHorizontalFlip()], device="cpu").clips
    if tuple(result.shape) != (1, 3, 2, 2, 3):
        return BAD, "DALI", f"{dali.__version__} gives a wrong result"
    return OK, "DALI", f"{dali.__version__} ({_version('nvidia-dali')}); a pipeline runs on the CPU"


def _load(library):
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None


def _cuda():
    driver = _load("libcuda.so.1")
    if driver is None:
        return MISSING, "CUDA driver", "no libcuda.so.1: no GPU, or its driver is not visible here; the CPU is used"
    version = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDriverGetVersion(ctypes.byref(version))
    if code:
        return MISSING, "CUDA driver", f"cuInit fails with error {code}: no usable GPU; the CPU is used"
    return OK, "CUDA driver", f"supports CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _nvdec():
    if _load("libnvcuvid.so.1") is None:
        return (
            MISSING,
            "NVDEC",
            "no libnvcuvid.so.1: videos are decoded on the CPU (in a container, start it with "
            "NVIDIA_DRIVER_CAPABILITIES=compute,video,utility)",
        )
    return OK, "NVDEC", "libnvcuvid.so.1 loads"


def _cupy():
    try:
        cupy = import_module("cupy")
    except ModuleNotFoundError:
        return MISSING, "CuPy", "not installed; only needed on a GPU: pip install 'dali_vidaug[cuda13]' or [cuda12]"
    return OK, "CuPy", cupy.__version__


def _pyav():
    import av

    wanted = {
        "h264": "H.264",
        "hevc": "H.265",
        "mpeg4": "MPEG-4",
        "vp8": "VP8",
        "vp9": "VP9",
        "av1": "AV1",
        "mjpeg": "MJPEG",
    }
    lacking = [name for codec, name in wanted.items() if codec not in av.codecs_available]
    found = ", ".join(name for codec, name in wanted.items() if codec in av.codecs_available)
    return BAD if lacking else OK, "PyAV", f"{av.__version__}, decodes {found}{f'; lacks {lacking}' if lacking else ''}"
