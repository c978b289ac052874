"""What the GPU's NVDEC decodes, as its driver says, and which files are sent to it."""

import ctypes
from contextlib import contextmanager
from typing import NamedTuple

from dali_vidaug import gpu
from dali_vidaug.gpu import call, first_line, load, no_driver, read_driver, read_host

LIBNVCUVID = "libnvcuvid.so.1"  # tests put another in its place
CODECS = {"h264": 4, "hevc": 8, "vp8": 9, "vp9": 10, "av1": 11, "mpeg4": 2}  # cudaVideoCodec
CHROMA_420 = 1  # cudaVideoChromaFormat
CODED_UNITS = {"h264": (16,), "hevc": (8, 16), "mpeg4": (16,), "vp8": (16,)}  # what coded sizes are multiples of
OTHER_UNITS = (8, 16, 64)  # of VP9 and AV1, whichever the driver takes
NV12 = 0  # cudaVideoSurfaceFormat: 8-bit 4:2:0, the one that DALI 2.4 asks for


class Decoder(NamedTuple):
    """What NVDEC says of a codec: engines that decode it, and the coded sizes that it takes."""

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


def decoders(device_id):
    """Ask the driver what a GPU's NVDEC decodes as 8-bit 4:2:0: {codec as FFmpeg calls it: Decoder}.

    Works in any thread; empty where NVDEC cannot be used, and ``problem`` says why.
    """
    return _ask_nvdec(device_id)[0]


def problem(device_id):
    """Say why ``decoders`` is empty, or None."""
    return _ask_nvdec(device_id)[1]


def _ask_nvdec(device_id):
    cuda, nvcuvid = load(gpu.LIBCUDA), load(LIBNVCUVID)
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
        return {}, f"NVDEC cannot be asked: {first_line(error)}"


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
def _context(cuda, device_id):
    """The GPU's primary context, torch's own, current in this thread for a while."""
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


def refusal(video_format, decoders):
    """Say why NVDEC does not decode a file.

    Files of odd size are left to the CPU, as NVDEC writes pictures of even ones; MJPEG is none of DALI's codecs there.

    A coded size is the written one rounded up to macroblocks of 16 by 16, or less than that in some codecs: what may be
    too large or too small by that difference is refused, for a CPU decodes it anyway.

    Args:
        video_format: (codec, pixel_format, width, height), the names as FFmpeg has them.
        decoders: as ``decoders`` gives them.

    Returns:
        None where it decodes the file, else the reason.

    >>> h264 = Decoder(7, 48, 16, 4096, 4096, 65536)
    >>> refusal(("h264", "yuv420p", 1920, 1080), {"h264": h264})
    >>> refusal(("h264", "yuv420p", 32, 32), {"h264": h264})
    '32x32 is smaller than the 48x16 that NVDEC takes of h264'
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
        return f"{width}x{height} is smaller than the {can.min_width}x{can.min_height} that NVDEC takes of {codec}"
    columns, rows = -(-width // 16), -(-height // 16)
    if columns * 16 > can.max_width or rows * 16 > can.max_height:
        return f"{width}x{height} is larger than the {can.max_width}x{can.max_height} that NVDEC takes of {codec}"
    if columns * rows > can.max_macroblocks:
        return f"{width}x{height} has {columns * rows} macroblocks; NVDEC takes {can.max_macroblocks} of {codec}"
    if width % 2 or height % 2:
        return f"{width}x{height} is odd, and NVDEC writes pictures of even sizes"
    return None


class Sizes:
    """Sizes of files that are sent to NVDEC, of which none is mixed up with another.

    DALI 2.4 shares NVDEC's decoders among all that decode in a process: it looks for one of the coded height and width
    that a file has, and finds those whose pictures, as shown, had that size. Where the heights shown differ, it then
    reads the colours from the wrong lines.
    """

    def __init__(self):
        self._shown: set[tuple] = set()  # (codec, width, height)
        self._coded: dict[tuple, tuple] = {}  # of sizes that are coded larger: the larger one, and theirs

    def add(self, video_format):
        """Add a (codec, pixel format, width, height), unless it clashes.

        Returns:
            None, or the (codec, width, height) that it would be mixed up with.

        >>> sizes = Sizes()
        >>> sizes.add(("h264", "yuv420p", 480, 272))
        >>> sizes.add(("h264", "yuv420p", 480, 270))
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
