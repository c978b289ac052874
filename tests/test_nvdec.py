"""What NVDEC accepts: asked of a library that stands in for the driver's, which is built from NVIDIA's header."""

import ctypes
import subprocess
import threading

import pytest
from stand_in_driver import NVDEC, SLICE, build, needs_header

from dali_vidaug.device import driver, gpu, nvdec
from dali_vidaug.device.nvdec import Decoder, Format, refusal


@needs_header
def test_the_struct_matches_the_header(tmp_path):
    fields = [name for name, *_ in nvdec.DecoderCaps._fields_]
    enums = {
        "h264": "H264",
        "hevc": "HEVC",
        "vp8": "VP8",
        "vp9": "VP9",
        "av1": "AV1",
        "mpeg4": "MPEG4",
        "mjpeg": "JPEG",
    }
    values = ["sizeof(CUVIDDECODECAPS)", "cudaVideoChromaFormat_420", "cudaVideoSurfaceFormat_NV12"]
    values += [f"cudaVideoCodec_{enums[codec]}" for codec in nvdec.CODECS]
    values += [f"offsetof(CUVIDDECODECAPS, {name})" for name in fields]
    values += [f"sizeof(CUVIDDECODECAPS::{name})" for name in fields]
    prints = "".join(f'printf("%d\\n", int({value}));' for value in values)
    source = f'#include <cstddef>\n#include <cstdio>\n#include "cuviddec.h"\nint main() {{ {prints} }}'
    told = subprocess.run([build(tmp_path, "caps", source)], capture_output=True, text=True, check=True)
    expected = [ctypes.sizeof(nvdec.DecoderCaps), nvdec.CHROMA_420, nvdec.NV12, *nvdec.CODECS.values()]
    expected += [getattr(nvdec.DecoderCaps, name).offset for name in fields]
    expected += [getattr(nvdec.DecoderCaps, name).size for name in fields]
    assert dict(zip(values, map(int, told.stdout.split()), strict=True)) == dict(zip(values, expected, strict=True))


@needs_header
def test_decoders_are_read_in_any_thread(use_nvdec, libcuda):
    use_nvdec(GPUS=2)
    usual = Decoder(7, 48, 16, 4096, 4080, 65536)
    expected = {"h264": usual, "hevc": usual._replace(min_width=144, min_height=143), "vp8": usual, "mpeg4": usual}
    found = []
    thread = threading.Thread(target=lambda: found.append(nvdec.decoders(1)))
    thread.start()
    thread.join()
    assert found == [expected] and nvdec.decoders(0) == expected and nvdec.problem(0) is None
    library = ctypes.CDLL(libcuda)
    assert library.stand_in_retained() == 0 and library.stand_in_depth() == 0


@needs_header
def test_why_there_are_no_decoders(use_nvdec, libcuda, monkeypatch):
    use_nvdec(INIT=999)
    assert nvdec.decoders(0) == {} and nvdec.problem(0) == "NVDEC cannot be asked: cuInit fails with CUDA error 999"
    use_nvdec()
    assert nvdec.problem(1) == "NVDEC cannot be asked: cuDeviceGet fails with CUDA error 101"
    use_nvdec(PUSH=2)
    assert "cuCtxPushCurrent_v2 fails with CUDA error 2" in nvdec.problem(0)
    assert ctypes.CDLL(libcuda).stand_in_retained() == 0
    use_nvdec(NO_NVDEC=1)
    assert nvdec.decoders(0) == {} and nvdec.problem(0) == "NVIDIA H100 0 has no NVDEC, or none that decodes video"
    use_nvdec(NAME=SLICE.name)
    assert "has no NVDEC: choose a profile with decoders" in nvdec.problem(0)
    monkeypatch.setattr(nvdec, "LIBNVCUVID", libcuda)
    assert "cuvidGetDecoderCaps" in nvdec.problem(0)


def test_no_driver(monkeypatch):
    for module in (driver, gpu):
        monkeypatch.setattr(module, "LIBCUDA", "libcuda-that-is-not-there.so.1")
    assert nvdec.decoders(0) == {} and "no libcuda-that-is-not-there.so.1" in nvdec.problem(0)


def test_no_library_for_decoding(use_driver, tmp_path, monkeypatch):
    monkeypatch.setattr(nvdec, "LIBNVCUVID", "libnvcuvid-that-is-not-there.so.1")
    monkeypatch.setattr(driver, "ROOT", tmp_path)
    assert nvdec.decoders(0) == {}
    assert nvdec.problem(0) == "no libnvcuvid-that-is-not-there.so.1: install the driver's library for decoding"
    (tmp_path / ".dockerenv").touch()
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,video,utility" in nvdec.problem(0)


@pytest.mark.parametrize("video_format", [
    ("h264", "yuv420p", 48, 16), ("h264", "yuvj420p", 4096, 4096), ("hevc", "yuv420p", 144, 144),
    ("hevc", "yuv420p", 8192, 8192), ("mpeg4", "yuv420p", 2032, 1000), ("h264", "yuv420p", 1918, 1078),
])  # fmt: skip
def test_nvdec_accepts(video_format):
    assert refusal(Format(*video_format), NVDEC) is None


@pytest.mark.parametrize("video_format, reason", [
    (("av1", "yuv420p", 640, 480), "this GPU's NVDEC does not decode av1, only h264, hevc, mpeg4, vp9"),
    (("h264", "yuv420p10le", 640, 480), "only 8-bit 4:2:0 is sent to NVDEC, and this is yuv420p10le"),
    (("h264", "yuv422p", 640, 480), "this is yuv422p"),
    (("h264", None, 640, 480), "this is None"),
    (("h264", "yuv420p", 47, 480), "47x480 is smaller than the 48x16 that NVDEC accepts for h264"),
    (("h264", "yuv420p", 640, 15), "640x15 is smaller"),
    (("hevc", "yuv420p", 143, 480), "143x480 is smaller than the 144x144"),
    (("vp9", "yuv420p", 160, 120), "160x120 is smaller than the 128x128"),
    (("h264", "yuv420p", 4097, 480), "4097x480 is larger than the 4096x4096 that NVDEC accepts for h264"),
    (("h264", "yuv420p", 480, 4098), "480x4098 is larger"),
    (("vp9", "yuv420p", 161, 128), "161x128 is odd"),
    (("vp9", "yuv420p", 160, 129), "160x129 is odd"),
    (("mjpeg", "yuvj420p", 640, 480), "DALI 2.4 does not decode MJPEG on a GPU"),
    (("mpeg4", "yuv420p", 2032, 1030), "2032x1030 has 8255 macroblocks; NVDEC accepts 8192 for mpeg4"),
])  # fmt: skip
def test_nvdec_refuses(video_format, reason):
    assert reason in refusal(Format(*video_format), NVDEC)


def test_coded_sizes_are_multiples_of_16():
    narrow = {"h264": Decoder(1, 48, 16, 1000, 1000, 65536)}  # 62.5 macroblocks
    assert refusal(Format("h264", "yuv420p", 992, 992), narrow) is None
    assert "larger" in refusal(Format("h264", "yuv420p", 993, 100), narrow)
    assert "larger" in refusal(Format("h264", "yuv420p", 100, 993), narrow)
    few = {"h264": Decoder(1, 48, 16, 1000, 1000, 100)}
    assert refusal(Format("h264", "yuv420p", 160, 146), few) is None
    assert "161x145 has 110 macroblocks" in refusal(Format("h264", "yuv420p", 161, 145), few)


def test_without_nvdec_everything_is_refused():
    found = refusal(Format("h264", "yuv420p", 640, 480), {})
    assert found == "NVDEC cannot be used here; run dali-vidaug doctor"


@pytest.mark.parametrize("one, other, clashes", [
    ((480, 270), (480, 272), True),
    ((1920, 1080), (1920, 1088), True),
    ((426, 238), (432, 240), True),  # the width is rounded up, too
    ((426, 240), (432, 240), False),  # colours begin at the same line
    ((480, 270), (480, 288), False),
    ((480, 270), (640, 272), False),
    ((340, 240), (340, 256), False),
    ((480, 272), (480, 272), False),
    ((480, 250), (480, 256), True),
])  # fmt: skip
def test_sizes_that_dali_confuses(one, other, clashes):
    for first, second in ((one, other), (other, one)):
        sizes = nvdec.Sizes()
        assert sizes.add(Format("h264", "yuv420p", *first)) is None
        assert sizes.add(Format("hevc", "yuv420p", *second)) is None
        assert sizes.add(Format("h264", "yuv420p", *second)) == (("h264", *first) if clashes else None)
        assert sizes.add(Format("h264", "yuvj420p", *first)) is None  # itself
