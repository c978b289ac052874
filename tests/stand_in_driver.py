"""Libraries that stand in for the NVIDIA driver's, compiled by the tests; and machines to ask about.

The stand-ins read what they answer from environment variables: STAND_IN_GPUS, STAND_IN_INIT and so on (``FACTS``).
"""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from dali_vidaug.device.driver import Driver, Gpu, Host
from dali_vidaug.device.gpu import Torch
from dali_vidaug.device.nvdec import Decoder

FACTS = {"GPUS": 1, "CUDA": 13000, "INIT": 0, "NAME": "NVIDIA H100", "OLD_GPU": -1, "PUSH": 0}

CUDA_H = """
#define CUDA_VERSION 13000
#define CUDAAPI
typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUarray_st *CUarray;
"""

LIBCUDA = """
#include <cuda.h>
#include <cstdio>
#include <cstdlib>
static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }
static int retained = 0;
static thread_local int depth = 0;
static int gpus() { return number("STAND_IN_GPUS"); }
#define KNOWN(device) if (device < 0 || device >= gpus()) return 101
extern "C" {
CUresult cuInit(unsigned flags) { return number("STAND_IN_INIT"); }
CUresult cuDriverGetVersion(int *version) { *version = number("STAND_IN_CUDA"); return 0; }
CUresult cuDeviceGetCount(int *count) { *count = gpus(); return 0; }
CUresult cuDeviceGet(CUdevice *device, int index) { KNOWN(index); *device = index; return 0; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    KNOWN(device); snprintf(name, length, "%s %d", getenv("STAND_IN_NAME"), device); return 0;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { KNOWN(device); *bytes = 80ull << 30; return 0; }
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    KNOWN(device);
    if (attribute != 75 && attribute != 76) return 1;
    *value = attribute == 76 ? device : device == number("STAND_IN_OLD_GPU") ? 7 : 9;
    return 0;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    KNOWN(device); ++retained; *context = (CUcontext)(0x123456789abcull + device); return 0;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { KNOWN(device); --retained; return 0; }
CUresult cuCtxPushCurrent_v2(CUcontext context) {
    if (number("STAND_IN_PUSH")) return number("STAND_IN_PUSH");
    if (((unsigned long long)context >> 8) != 0x123456789aull) return 201;
    ++depth; return 0;
}
CUresult cuCtxPopCurrent_v2(CUcontext *context) { if (!depth) return 201; --depth; return 0; }
int stand_in_retained() { return retained; }
int stand_in_depth() { return depth; }
}
"""

LIBNVCUVID = """
#include <cuda.h>
#include "cuviddec.h"
#include <cstdlib>
extern "C" int stand_in_depth();
extern "C" CUresult cuvidGetDecoderCaps(CUVIDDECODECAPS *caps) {
    for (unsigned word : caps->reserved1) if (word) return 1;
    for (unsigned word : caps->reserved3) if (word) return 1;
    if (stand_in_depth() != 1) return 201;
    if (caps->eChromaFormat != cudaVideoChromaFormat_420 || caps->nBitDepthMinus8 != 0) return 1;
    caps->nNumNVDECs = 7;
    caps->nMinWidth = 48; caps->nMinHeight = 16;
    caps->nMaxWidth = 4096; caps->nMaxHeight = 4080; caps->nMaxMBCount = 65536;
    caps->nOutputFormatMask = 1 << cudaVideoSurfaceFormat_NV12 | 1 << cudaVideoSurfaceFormat_P016;
    caps->bIsSupported = !getenv("STAND_IN_NO_NVDEC");
    switch (caps->eCodecType) {
        case cudaVideoCodec_H264: case cudaVideoCodec_MPEG4: case cudaVideoCodec_VP8: return 0;
        case cudaVideoCodec_HEVC: caps->nMinWidth = 144; caps->nMinHeight = 143; return 0;
        case cudaVideoCodec_JPEG: caps->nOutputFormatMask = 1 << cudaVideoSurfaceFormat_P016; return 0;
        case cudaVideoCodec_VP9: return 801;
        default: caps->bIsSupported = 0; return 0;
    }
}
"""

HEADERS = Path(find_spec("nvidia.dali").submodule_search_locations[0], "include/dali/operators/video/dynlink_nvcuvid")
needs_header = pytest.mark.skipif(not (HEADERS / "cuviddec.h").is_file(), reason="DALI's wheel has no cuviddec.h")

H100 = Gpu("NVIDIA H100 80GB HBM3", (9, 0), 80 * 2**30)
V100 = Gpu("Tesla V100-SXM2-16GB", (7, 0), 16 * 2**30)
SLICE = Gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", (8, 0), 5 * 2**30)
NO_DRIVER = Driver(None, 0, ())
BARE = Host(None, False, False)
MACHINE = Host("580.65.06", True, False)
CONTAINER = Host("580.65.06", True, True)
TORCH13 = Torch("2.12.0+cu130", "13.0", 0, "")
TORCH12 = Torch("2.9.1+cu126", "12.6", 0, "")
NO_CUDA = Torch("2.13.0+cpu", None, 0, "")
WHEELS13 = {"DALI": {"nvidia-dali-cuda130": 13}, "CuPy": {"cupy-cuda13x": 13}}
WHEELS12 = {"DALI": {"nvidia-dali-cuda120": 12}, "CuPy": {"cupy-cuda12x": 12}}
NVDEC = {  # of an H100
    "h264": Decoder(7, 48, 16, 4096, 4096, 65536),
    "hevc": Decoder(7, 144, 144, 8192, 8192, 262144),
    "vp9": Decoder(7, 128, 128, 8192, 8192, 262144),
    "mpeg4": Decoder(7, 48, 16, 2032, 2032, 8192),
}


def driver_of(cuda=13000, gpus=(H100,), error=0):
    """What a driver says of itself."""
    return Driver(error, cuda, tuple(gpus))


def build(folder, name, source, *flags):
    """Compile a text against the headers of CUDA (ours) and NVDEC (DALI's); returns the path of the result."""
    (folder / "cuda.h").write_text(CUDA_H)
    (folder / f"{name}.cpp").write_text(source)
    command = ["g++", "-w", f"-I{folder}", f"-I{HEADERS}", folder / f"{name}.cpp", "-o", folder / name, *flags]
    subprocess.run(command, check=True)
    return str(folder / name)


def build_libcuda(folder):
    """Compile the stand-in for libcuda.so.1."""
    return build(folder, "libcuda.so.1", LIBCUDA, "-shared", "-fPIC")


def build_libnvcuvid(libcuda):
    """Compile the stand-in for libnvcuvid.so.1, which asks that for libcuda.so.1 for the current context."""
    folder = Path(libcuda).parent
    return build(folder, "libnvcuvid.so.1", LIBNVCUVID, "-shared", "-fPIC", libcuda, f"-Wl,-rpath,{folder}")
