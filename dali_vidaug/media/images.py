"""One image that is a frame: what its header says, and its pixels, by Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dali_vidaug.media.orientation import is_transposed, oriented, stored_box
from dali_vidaug.media.video import Video
from dali_vidaug.pixel_order import mirror_frame

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_MODES = frozenset("1 L LA La P PA RGB RGBA RGBa RGBX".split())  # of Pillow, that have one meaning as RGB of 8 bits
_WITH_ALPHA = frozenset("LA La PA RGBA RGBa".split())
_REFUSED = {
    "CMYK": "its colours are CMYK, whose RGB depends on a profile",
    "I;16": "it has 16 bits a pixel", "I;16B": "it has 16 bits a pixel", "I": "it has more than 8 bits a pixel",
    "F": "its pixels are floating-point numbers",
}  # fmt: skip
_EXIF_ORIENTATION = 0x0112


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
    if form == "JPEG":  # FF D9 ends it; in coded pixels, FF is followed by 00
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


class ImageConverter:
    """Crops and scales images, as ``convert.Converter`` does frames of videos.

    Args:
        video: the row of the manifest; its size and orientation are used.
        crops: as in ``decode``. Scaling is Pillow's bilinear, which averages when it scales down.

    Attributes:
        shape: (H, W, 3) of the pictures.
    """

    def __init__(self, video: Video, crops: Sequence[np.void]):
        self._video, self._steps = video, []
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
        self.shape = (height, width, 3)

    def __call__(self, image: Any, out: np.ndarray) -> None:
        """Convert an image.

        Args:
            image: of ``decode_image``.
            out: (H, W, 3) uint8, C-contiguous; the frame as shown is written there.

        Raises:
            ValueError: the image's size is not the video's.
        """
        video = self._video
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
