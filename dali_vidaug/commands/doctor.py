"""What works on this machine, and what to do where something does not."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from dali_vidaug.device import driver, gpu, nvdec
from dali_vidaug.device.cores import own_cores, read_quota
from dali_vidaug.device.decode_memory import bytes_while_decoding, memory_for_decoding
from dali_vidaug.device.driver import Driver, Gpu, Host
from dali_vidaug.device.nvdec import Decoder
from dali_vidaug.errors import one_line

Finding = tuple[str, str, str]  # state, subject, what was found

OK, MISSING, BAD = "ok", "--", "BAD"  # MISSING: the loader runs, with less than it could use; BAD: it does not run
CODECS = {  # as FFmpeg calls them, and as people do
    "h264": "H.264",
    "hevc": "H.265",
    "mpeg4": "MPEG-4",
    "vp8": "VP8",
    "vp9": "VP9",
    "av1": "AV1",
    "mjpeg": "MJPEG",
}


def examine() -> list[Finding]:
    """Look at everything that the loader may use."""
    checks = (_python, _torch, _dali, _pyav, _cupy, _wheels, _driver, _gpus, _nvdec, _decode_memory, _cores, _device)
    rows: list[Finding] = []
    for check in checks:
        try:
            rows += check()
        except Exception as error:  # a broken installation may fail in any way; the other checks are still useful
            rows.append((BAD, check.__name__.strip("_"), f"{type(error).__name__}: {one_line(error)}"))
    return rows


def _python():
    return [(OK if sys.version_info >= (3, 10) else BAD, "python", sys.version.split()[0])]


def _torch():
    try:
        torch = import_module("torch")
    except ModuleNotFoundError:
        return [(BAD, "torch", "not installed: pip install torch")]
    return [(OK, "torch", torch.__version__)]


def _dali():
    try:
        dali = import_module("nvidia.dali")
    except ModuleNotFoundError:
        return [(BAD, "DALI", "not installed: pip install 'dali_vidaug[cuda13]', [cuda12], or [cpu] without a GPU")]
    import numpy as np

    from dali_vidaug.in_memory import augment
    from dali_vidaug.ops import RandomHorizontalFlip, Resize

    result = augment([np.zeros((2, 4, 6, 3), np.uint8)], [Resize((2, 3)), RandomHorizontalFlip()], device="cpu").clips
    if tuple(result.shape) != (1, 2, 2, 3, 3):
        return [(BAD, "DALI", f"{dali.__version__} gives a wrong result")]
    return [(OK, "DALI", f"{dali.__version__}; a pipeline runs on the CPU")]


def _pyav():
    import av

    found = [name for codec, name in CODECS.items() if codec in av.codecs_available]
    lacking = [name for name in CODECS.values() if name not in found]
    lacks = f"; lacks {', '.join(lacking)}" if lacking else ""
    problem = decoding_problem()
    if problem:
        return [
            (BAD, "PyAV", f"{av.__version__} {problem}; tested are the versions that pip install dali_vidaug allows")
        ]
    return [(BAD if lacking else OK, "PyAV", f"{av.__version__} decodes a test video, has {', '.join(found)}{lacks}")]


def decoding_problem() -> str | None:
    """Write, scan and decode a small video as the loader does: what went wrong, or None."""
    import numpy as np

    from dali_vidaug.data.scan import scan
    from dali_vidaug.media.decode import decode
    from dali_vidaug.media.encode import write_video

    levels = np.arange(40, 200, 16, dtype=np.uint8)  # of ten grey frames
    frames = np.broadcast_to(levels[:, None, None, None], (len(levels), 48, 64, 3))
    try:
        with tempfile.TemporaryDirectory(prefix="dali_vidaug-doctor-") as folder:
            path = Path(folder) / "test.avi"
            write_video(path, frames, codec="mpeg4", options={"g": "4"})  # every build of FFmpeg has this encoder
            manifest = scan(path, progress=False)
            wanted = np.array([1, 6, 9])
            pixels = decode(manifest.video(0), wanted).pixels
    except Exception as error:  # another version of PyAV may fail in any way
        return f"cannot decode a test video ({type(error).__name__}: {one_line(error)})"
    shown = pixels.reshape(len(wanted), -1).mean(1)
    if len(manifest) != 1 or np.abs(shown - levels[wanted]).max() > 4:
        return f"decodes a test video wrongly: grey levels {shown.round().tolist()}, expected {levels[wanted].tolist()}"
    return None


def _cupy():
    problem = gpu.cupy_problem(gpu.read_wheels()["CuPy"], driver.read_driver().cuda)
    if problem:
        return [(MISSING, "CuPy", f"{problem}; only needed on a GPU")]
    from cupy_backends.cuda.libs import nvrtc

    return [(OK, "CuPy", f"{import_module('cupy').__version__}; NVRTC {'.'.join(map(str, nvrtc.getVersion()))}")]


def _wheels():
    return wheels_rows(gpu.read_wheels(), gpu.read_torch(), driver.read_driver())


def wheels_rows(wheels: dict[str, dict[str, int | None]], torch: gpu.Torch, driver: Driver) -> list[Finding]:
    """Which CUDA each package is built for; BAD where two wheels overwrite each other."""
    doubles = [problem for names in wheels.values() if (problem := gpu.double_problem(names, driver.cuda))]
    if doubles:
        return [(BAD, "wheels", problem) for problem in doubles]
    found = [f"{package} {_built(names)}" for package, names in wheels.items() if names]
    found.append(f"torch {'for CUDA ' + torch.cuda if torch.cuda else 'without CUDA'}")
    if driver.error != 0:
        return [(OK, "wheels", ", ".join(found))]
    built = gpu.built_for(wheels, torch)
    late = gpu.age_problem(driver.cuda, built)
    late = late or next((p for g in driver.gpus if (p := gpu.capability_problem(g, built))), None)
    return [(MISSING if late else OK, "wheels", "; ".join([", ".join(found), *([late] if late else [])]))]


def _built(names):
    (name, major), *_ = names.items()
    return f"for CUDA {major}" if major else f"for an unknown CUDA ({name})"


def _driver():
    return driver_rows(driver.read_driver(), driver.read_host(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def driver_rows(driver: Driver, host: Host, visible: str | None) -> list[Finding]:
    """The NVIDIA driver and the newest CUDA that it supports."""
    problem = gpu.driver_problem(driver, host, visible)
    if problem:
        return [(MISSING, "CUDA driver", problem)]
    version = host.kernel_driver or "of unknown version"
    return [(OK, "CUDA driver", f"{version}, supports CUDA {driver.cuda // 1000}.{driver.cuda % 1000 // 10}")]


def _gpus():
    return gpu_rows(driver.read_driver().gpus, gpu.read_torch().current)


def gpu_rows(gpus: Sequence[Gpu], current: int) -> list[Finding]:
    """A row for each GPU that CUDA shows this process, and which of several it uses."""
    rows = []
    for index, (name, capability, memory) in enumerate(gpus):
        mig = "; a MIG instance: CUDA shows a process only one" if " MIG " in name else ""
        finding = f"{name}, compute capability {capability[0]}.{capability[1]}, {memory / 2**30:.1f} GiB{mig}"
        rows.append((OK, f"GPU {index}", finding))
    if len(gpus) > 1:
        finding = (
            f"this process uses GPU {current}; torch.cuda.set_device(local_rank) or CUDA_VISIBLE_DEVICES selects "
            f"another; to use all {len(gpus)}, one process each: torchrun --nproc-per-node {len(gpus)} train.py"
        )
        rows.append((OK, "GPUs", finding))
    return rows


def _nvdec():
    if not driver.read_driver().gpus:
        return nvdec_rows({}, "there is no GPU to ask (see CUDA driver)")
    current = gpu.read_torch().current
    return nvdec_rows(nvdec.decoders(current), nvdec.problem(current))


def nvdec_rows(decoders: dict[str, Decoder], problem: str | None) -> list[Finding]:
    """What the GPU's decoder accepts; ``problem`` is why it accepts nothing."""
    if not decoders:
        return [(MISSING, "NVDEC", f"videos are decoded on the CPU: {problem}")]
    found = ", ".join(
        f"{name} to {decoders[codec].max_width}x{decoders[codec].max_height}"
        for codec, name in CODECS.items()
        if codec in decoders
    )
    lacking = [name for codec, name in CODECS.items() if codec not in decoders]
    engines = max(decoder.engines for decoder in decoders.values())
    rest = f"; {', '.join(lacking)} on the CPU" if lacking else ""
    return [(OK, "NVDEC", f"{engines} engine{'s' if engines != 1 else ''}, decodes {found}{rest}")]


def _decode_memory():
    gpus = driver.read_driver().gpus
    current = (gpu.read_torch().current or 0) if gpus else None
    total = None if current is None else gpus[current].memory
    return decode_memory_rows(memory_for_decoding(current, own_cores()), total)


def decode_memory_rows(memory: int, total: int | None) -> list[Finding]:
    """How many clips DALI decodes at once, of usual sizes; ``total``: bytes of the GPU, None without one."""
    found = [
        f"{max(1, int(memory / bytes_while_decoding(width, height, 16, 3, total is not None)))} of {width}x{height}"
        for width, height in ((340, 256), (1280, 720), (1920, 1080))
    ]
    of = "" if total is None else f" of {total / 2**30:.1f}"
    text = (
        f"DALI decodes at once, in {memory / 2**30:.1f}{of} GiB: {', '.join(found)}, clips of 16 frames (decode_batch)"
    )
    return [(OK, "memory", text)]


def _cores():
    return cores_rows(len(os.sched_getaffinity(0)), os.cpu_count(), read_quota(), own_cores())


def cores_rows(usable: int, machine: int | None, quota: float | None, mine: int) -> list[Finding]:
    """Cores that this process may use, and ``mine`` that it does; ``quota`` is the container's, in cores, or None."""
    finding = f"{usable} of the machine's {machine} may be used"
    if quota is not None and quota < usable:
        finding += f", with a CPU quota of {quota:g}"
    return [(OK, "cores", finding if mine == usable else f"{finding}: {mine} thread{'s' * (mine != 1)} by default")]


def _device():
    problem = gpu.problem()
    return [(MISSING, "device auto", f"cpu: {problem}") if problem else (OK, "device auto", "gpu")]
