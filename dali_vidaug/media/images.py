"""One image that is a frame: what its header says, and its pixels, by Pillow or, of JPEG that is scaled, by PyAV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from dali_vidaug.media.convert import Converter
from dali_vidaug.media.orientation import is_transposed, oriented, stored_box
from dali_vidaug.media.video import Video
from dali_vidaug.pixel_order import mirror_frame

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # the last one may be missing in a Pillow
_MODES = frozenset("1 L LA La P PA RGB RGBA RGBa RGBX".split())  # of Pillow, that have one meaning as RGB of 8 bits
_WITH_ALPHA = frozenset("LA La PA RGBA RGBa".split())
_REFUSED = {
    "CMYK": "its colours are CMYK, whose RGB depends on a profile",
    "I;16": "it has 16 bits a pixel", "I;16B": "it has 16 bits a pixel", "I": "it has more than 8 bits a pixel",
    "F": "its pixels are floating-point numbers",
}  # fmt: skip
_EXIF_ORIENTATION = 0x0112
_SAMPLINGS = (b"\x22\x11\x11", b"\x21\x11\x11", b"\x11\x11\x11")  # of JPEG: 4:2:0, 4:2:2, 4:4:4
_YUV = ("yuvj420p", "yuvj422p", "yuvj444p")


class Look(NamedTuple):
    """What the header of an image says.

    Attributes:
        width, height: as stored.
        orientation: how it is shown, 1 to 8, as EXIF has it.
        mode: Pillow's.
        has_alpha: whether pixels may be transparent.
    """

    width: int
    height: int
    orientation: int
    mode: str
    has_alpha: bool


def open_image(data: Any) -> Any:
    """An image of which nothing but the header is read yet.

    Raises:
        ValueError: it cannot be read, or has no meaning as RGB of 8 bits.
    """
    if not len(data):
        raise ValueError("it is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        several = image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False)
    except Exception as error:  # Pillow raises all kinds of errors for damaged files
        raise ValueError(_unreadable(data, error)) from error
    if several:
        raise ValueError("it is an animation, not one picture")
    if image.mode not in _MODES:
        raise ValueError(_REFUSED.get(image.mode, f"its mode is {image.mode}, not RGB"))
    if _is_cut_off(image.format, data):
        raise ValueError("it is cut off")
    return image


def _unreadable(data, error):
    if not bytes(data[:4096]).strip(b"\0"):
        return "zeros at its beginning: a download or copy that was not finished"
    if data[8:12] == b"WEBP" and _is_cut_off("WEBP", data):
        return "it is cut off"
    return f"it cannot be read as {', '.join(_FORMATS)}" if isinstance(error, OSError) else f"it is damaged: {error}"


def _is_cut_off(form, data):
    """Whether a file ends before its image does. Pillow may be told not to say so (``LOAD_TRUNCATED_IMAGES``)."""
    if form in ("JPEG", "MPO"):  # FF D9 ends it; in coded pixels, FF is followed by 00
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if form == "PNG":
        return data.rfind(b"IEND") < 0
    size = int.from_bytes(data[4:8], "little") + 8 if form == "WEBP" else int.from_bytes(data[2:6], "little")
    return len(data) < size


def look_at(data: Any) -> Look:
    """What the header of an image says.

    Raises:
        ValueError: as ``open_image``.
    """
    image = open_image(data)
    try:  # of a PNG without, Pillow would decode the image to look for it
        told = image.format != "PNG" or "exif" in image.info
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if told else 1
    except Exception:  # EXIF that is damaged tells nothing
        orientation = 1
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    alpha = image.mode in _WITH_ALPHA or "transparency" in image.info
    width, height = image.size
    return Look(width, height, orientation if known else 1, image.mode, alpha)


def decode_image(data: Any) -> Any:
    """An image as Pillow decodes it, RGB, as it is stored. Of what is transparent, the colour counts.

    Raises:
        ValueError: as ``open_image``, or it is damaged.
    """
    image = open_image(data)
    try:
        image.load()
        image.info.pop("transparency", None)
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:
        raise ValueError(f"it is damaged: {error}") from error


def decode_jpeg(data: Any) -> Any:
    """A plain JPEG as an ``av.VideoFrame`` in YUV; None if it is none, or PyAV finds fault with it.

    Plain is what both decoders take for the same: baseline, 8 bits, YUV of 4:2:0, 4:2:2 or 4:4:4, no bytes after it.
    """
    if not _is_plain(data):
        return None
    packet = av.Packet(len(data))  # av.Packet(data) would lack the padding after the end, which decoders may read
    packet.update(data)
    codec = av.CodecContext.create("mjpeg", "r")
    codec.thread_count, codec.options = 1, {"err_detect": "explode"}
    try:
        frames = codec.decode(packet)
    except av.error.FFmpegError:
        return None
    return frames[0] if len(frames) == 1 and frames[0].format.name in _YUV and not frames[0].is_corrupt else None


def _is_plain(data):
    at, size = 2, len(data)
    if data[:3] != b"\xff\xd8\xff" or data[-2:] != b"\xff\xd9":
        return False
    while at + 4 <= size and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        part = data[at + 4 : at + 2 + length]
        if marker == 0xEE and part[:5] == b"Adobe" and part[11:12] != b"\1":  # not YCbCr
            return False
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header: baseline is C0
            ids, samplings = part[6::3], part[7::3]
            return marker == 0xC0 and part[:1] == b"\x08" and ids == b"\1\2\3" and samplings in _SAMPLINGS
        at += 2 + length
    return False


class Encoded:
    """An image that is decoded when it is asked for.

    Args:
        data: its bytes.
        name: for errors.

    Attributes:
        image: of ``decode_image``; asking for it raises ValueError if it cannot be decoded.
        frame: of ``decode_jpeg``.
    """

    def __init__(self, data: Any, name: str):
        self._data, self._name = data, name

    @cached_property
    def image(self) -> Any:
        try:
            return decode_image(self._data)
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from error

    @cached_property
    def frame(self) -> Any:
        return decode_jpeg(self._data)


class ImageConverter:
    """Crops and scales images, as ``convert.Converter`` does frames of videos.

    Scaled JPEG is decoded by PyAV; crop, scale and colour are one pass of ``convert.Converter``. All else is decoded by
    Pillow, and scaled by its bilinear resize. Both average when they scale down.

    Args:
        video: the row of the manifest; its size and orientation are used.
        crops: as in ``decode``.

    Attributes:
        shape: (H, W, 3) of the pictures.
    """

    def __init__(self, video: Video, crops: Sequence[np.void]):
        self._video, self._steps, self._scales = video, [], False
        self._of_frames = Converter(video, crops)
        height, width = video.shown_size
        self._mirrored = any("top" not in (row.dtype.names or ()) and row["mirrored"] for row in crops)
        for crop in crops:
            if "top" not in (crop.dtype.fields or ()):
                continue
            box = tuple(int(crop[n]) for n in ("top", "left", "bottom", "right"))
            top, left, bottom, right = stored_box(box, height, width, video.orientation)
            height, width = int(crop["out_height"]), int(crop["out_width"])
            size = (height, width) if is_transposed(video.orientation) else (width, height)
            self._steps.append(((left, top, right, bottom), size))
            self._scales |= size != (right - left, bottom - top)
        self.shape = (height, width, 3)

    def __call__(self, source: Encoded, out: np.ndarray) -> None:
        """Convert an image.

        Args:
            source: the image.
            out: (H, W, 3) uint8, C-contiguous; the frame as shown is written there.

        Raises:
            ValueError: it cannot be decoded, or its size is not the video's.
        """
        if self._scales and source.frame is not None:
            self._of_frames(source.frame, out)
            return
        image, video = source.image, self._video
        if image.size != (video.width, video.height):
            raise ValueError(f"it has {image.width}x{image.height} pixels, others {video.width}x{video.height}")
        for box, size in self._steps:
            if box != (0, 0, *image.size):  # first, so that pixels outside do not count in the scaling
                image = image.crop(box)
            if size != image.size:
                image = image.resize(size, Image.Resampling.BILINEAR)
        out[...] = oriented(np.asarray(image), video.orientation)
        if self._mirrored:
            mirror_frame(out)
