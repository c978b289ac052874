"""What the GPU's video decoder, NVDEC, accepts, as its driver says."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from dali_vidaug.device import driver
from dali_vidaug.device.driver import call, load, read_driver, read_host
from dali_vidaug.device.gpu import no_driver
from dali_vidaug.errors import one_line

LIBNVCUVID = "libnvcuvid.so.1"  # replaced in tests
CODECS = {"h264": 4, "hevc": 8, "vp8": 9, "vp9": 10, "av1": 11, "mpeg4": 2}  # cudaVideoCodec
CHROMA_420 = 1  # cudaVideoChromaFormat
CODED_UNITS = {"h264": (16,), "hevc": (8, 16), "mpeg4": (16,), "vp8": (16,)}  # coded sizes are multiples of these
OTHER_UNITS = (8, 16, 64)  # for VP9 and AV1, whichever the driver uses
NV12 = 0  # cudaVideoSurfaceFormat: 8-bit 4:2:0, the one that DALI 2.4 asks for


class Format(NamedTuple):
    """What a decoder must accept of a file: names as FFmpeg has them, size as stored."""

    codec: str
    pixel_format: str
    width: int
    height: int


class Files(NamedTuple):
    """Files of one format: their number, and the path of one."""

    number: int
    example: str


class Decoder(NamedTuple):
    """What NVDEC says about a codec: engines that decode it, and the coded sizes that it accepts."""

    engines: int
    min_width: int
    min_height: int
    max_width: int
    max_height: int
    max_macroblocks: int


class DecoderCaps(ctypes.Structure):
    """CUVIDDECODECAPS of cuviddec.h."""

    _fields_ = (
        ("eCodecType", ctypes.c_int),
        ("eChromaFormat", ctypes.c_int),
        ("nBitDepthMinus8", ctypes.c_uint),
        ("reserved1", ctypes.c_uint * 3),
        ("bIsSupported", ctypes.c_ubyte),
        ("nNumNVDECs", ctypes.c_ubyte),
        ("nOutputFormatMask", ctypes.c_ushort),
        ("nMaxWidth", ctypes.c_uint),
        ("nMaxHeight", ctypes.c_uint),
        ("nMaxMBCount", ctypes.c_uint),
        ("nMinWidth", ctypes.c_ushort),
        ("nMinHeight", ctypes.c_ushort),
        ("bIsHistogramSupported", ctypes.c_ubyte),
        ("nCounterBitDepth", ctypes.c_ubyte),
        ("nMaxHistogramBins", ctypes.c_ushort),
        ("reserved3", ctypes.c_uint * 10),
    )


def decoders(device_id: int) -> dict[str, Decoder]:
    """Ask the driver what a GPU's NVDEC decodes as 8-bit 4:2:0, by FFmpeg's name of the codec.

    Works in any thread. Empty if NVDEC cannot be used; ``problem`` says why.
    """
    return _ask_nvdec(device_id)[0]


def problem(device_id: int) -> str | None:
    """Why ``decoders`` is empty, or None."""
    return _ask_nvdec(device_id)[1]


def _ask_nvdec(device_id):
    cuda, nvcuvid = load(driver.LIBCUDA), load(LIBNVCUVID)
    if cuda is None:
        return {}, no_driver(read_host())
    if nvcuvid is None:
        where = " (in a container, start it with NVIDIA_DRIVER_CAPABILITIES=compute,video,utility)"
        return {}, f"no {LIBNVCUVID}: install the driver's library for decoding{where if read_host().container else ''}"
    try:
        with _context(cuda, device_id):
            answers = {name: _ask_codec(nvcuvid, codec) for name, codec in CODECS.items()}
        found = {name: answer for name, answer in answers.items() if answer}
        return found, None if found else _decodes_nothing(read_driver().gpus[device_id].name)
    except (RuntimeError, AttributeError) as error:  # AttributeError: a library that lacks the function
        return {}, f"NVDEC cannot be asked: {one_line(error)}"


def _ask_codec(nvcuvid, codec):
    caps = DecoderCaps(eCodecType=codec, eChromaFormat=CHROMA_420, nBitDepthMinus8=0)
    if nvcuvid.cuvidGetDecoderCaps(ctypes.byref(caps)):  # a driver older than the codec refuses to answer
        return None
    if not (caps.bIsSupported and caps.nOutputFormatMask & 1 << NV12):
        return None
    least, most = (caps.nMinWidth, caps.nMinHeight), (caps.nMaxWidth, caps.nMaxHeight)
    return Decoder(caps.nNumNVDECs, *least, *most, caps.nMaxMBCount)


def _decodes_nothing(name):
    if " MIG " in name:
        return f"{name} has no NVDEC: choose a profile with decoders (DEC in nvidia-smi mig -lgip)"
    return f"{name} has no NVDEC, or none that decodes video"


@contextmanager
def _context(cuda: Any, device_id: int) -> Iterator[None]:
    """Make the GPU's primary context, which torch uses too, current in this thread during the block."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call(cuda, "cuInit", 0)
    call(cuda, "cuDeviceGet", ctypes.byref(device), device_id)
    call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        call(cuda, "cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            call(cuda, "cuCtxPopCurrent_v2", ctypes.byref(context))
    finally:
        call(cuda, "cuDevicePrimaryCtxRelease_v2", device)


def refusal(video_format: Format, decoders: dict[str, Decoder]) -> str | None:
    """Why NVDEC does not decode a format.

    Odd sizes are left to the CPU, because NVDEC writes frames of even size; DALI does not decode MJPEG there.

    A coded size is the size as stored, rounded up to macroblocks of 16x16 or, in some codecs, to less. Formats that may
    be too large or too small by that difference are refused: the CPU decodes them anyway.

    Args:
        video_format: of the files.
        decoders: as ``decoders`` returns them.

    Returns:
        None if it decodes the format, otherwise the reason.

    >>> h264 = Decoder(7, 48, 16, 4096, 4096, 65536)
    >>> refusal(Format("h264", "yuv420p", 1920, 1080), {"h264": h264})
    >>> refusal(Format("h264", "yuv420p", 32, 32), {"h264": h264})
    '32x32 is smaller than the 48x16 that NVDEC accepts for h264'
    """
    codec, pixel_format, width, height = video_format
    if not decoders:
        return "NVDEC cannot be used here; run dali-vidaug doctor"
    if codec == "mjpeg":
        return "DALI 2.4 does not decode MJPEG on a GPU"
    if codec not in decoders:
        return f"this GPU's NVDEC does not decode {codec}, only {', '.join(sorted(decoders))}"
    if pixel_format not in ("yuv420p", "yuvj420p"):
        return f"only 8-bit 4:2:0 is sent to NVDEC, and this is {pixel_format}"
    can = decoders[codec]
    if width < can.min_width or height < can.min_height:
        return f"{width}x{height} is smaller than the {can.min_width}x{can.min_height} that NVDEC accepts for {codec}"
    columns, rows = -(-width // 16), -(-height // 16)
    if columns * 16 > can.max_width or rows * 16 > can.max_height:
        return f"{width}x{height} is larger than the {can.max_width}x{can.max_height} that NVDEC accepts for {codec}"
    if columns * rows > can.max_macroblocks:
        return f"{width}x{height} has {columns * rows} macroblocks; NVDEC accepts {can.max_macroblocks} for {codec}"
    if width % 2 or height % 2:
        return f"{width}x{height} is odd, and NVDEC writes frames of even size"
    return None


class Sizes:
    """Sizes of files that are sent to NVDEC, such that DALI does not confuse any two of them.

    DALI 2.4 keeps NVDEC's decoders for a whole process. It looks for one by the coded height and width of a file, but
    stores them by the size of their frames as shown. When the heights shown differ, it then reads the colours from the
    wrong lines.
    """

    def __init__(self) -> None:
        self._shown: set[tuple] = set()  # (codec, width, height)
        self._coded: dict[tuple, tuple] = {}  # coded size: the smaller size as shown that has it

    def add(self, video_format: Format) -> tuple[str, int, int] | None:
        """Add the size of a format, unless DALI would confuse it with another.

        Returns:
            None, or the (codec, width, height) that it would be confused with.

        >>> sizes = Sizes()
        >>> sizes.add(Format("h264", "yuv420p", 480, 272))
        >>> sizes.add(Format("h264", "yuv420p", 480, 270))
        ('h264', 480, 272)
        """
        codec, _, width, height = video_format
        size = (codec, width, height)
        units = CODED_UNITS.get(codec, OTHER_UNITS)
        heights, widths = ({-(-n // unit) * unit for unit in units} for n in (height, width))
        coded = [(codec, w, h) for h in heights - {height} for w in widths | {width}]
        other = next((larger for larger in coded if larger in self._shown), self._coded.get(size))
        if other is None:
            self._shown.add(size)
            self._coded |= dict.fromkeys(coded, size)
        return other
