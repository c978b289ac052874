"""An encoder whose frames are decoded as it goes, and compared with those that it was given."""

from __future__ import annotations

import os
from collections import deque
from fractions import Fraction
from typing import Any

import av
import numpy as np

from dali_vidaug.media.container import open_video, read_packets
from dali_vidaug.media.encoding import Encoding
from dali_vidaug.media.prove import decode_packets, digest_of
from dali_vidaug.media.quality import Comparison, Quality
from dali_vidaug.media.shrink import Shrinker, grey_frame, planes_of
from dali_vidaug.media.video import Video, is_counted

_FPS = 25  # of a video that has neither time stamps nor a frame rate
_FINEST = 10**9  # ticks a second
_DELAY = 3  # frames; these encoders delay two at most
_LONGEST = 2**26  # ticks that a frame is shown; MP4 has 31 bits, of ticks that FFmpeg may divide by 2 to 16
_DECODERS = {"av1": "libdav1d"}  # the one that is called av1 needs a GPU
os.environ.setdefault("SVT_LOG", "1")  # otherwise SVT-AV1 prints its settings


class ProvenEncoder:
    """Encodes the frames of a video, smaller; decodes what it wrote; compares.

    Each frame is compared when encoder and decoder have handed it out, so that few are held at a time. Afterwards
    ``check_file`` compares the file with what was decoded then, bit for bit.

    Args:
        video: the row of the source.
        fps, time_base: of that row.
        encoding: how to encode.
    """

    def __init__(self, video: Video, fps: float | None, time_base: float | None, encoding: Encoding):
        self._video, self._encoding, self._counted = video, encoding, is_counted(video)
        self._fps, self._has_fps = Fraction(fps or _FPS).limit_denominator(1001 * 64), bool(fps)
        self._base = 1 / self._fps if self._counted else Fraction(time_base or 0).limit_denominator(_FINEST)
        self._size = encoding.size(*video.shown_size)
        self._shrink = Shrinker(video, self._size)
        self._stream: Any = None
        self._decoder: Any = None
        self._origin: Any = None  # time stamp of the first frame
        self._ticks: list[int] = []  # of each frame, from the first one on, in units of 1 / self._base.denominator
        self._pictures: list[bool] = []  # whether each frame has one
        self._held: dict[int, np.ndarray] = {}  # by index: lumas of the source that are still needed
        self._waiting: deque[np.ndarray] = deque()  # lumas that were decoded again and not compared
        self._digests: list[int] = []  # of all frames that were decoded again
        self._comparison, self._compared = Comparison(), 0
        self._written = 0  # packets
        self._interlaced, self._transparent = 0, False

    def add(self, container: Any, index: int, pts: int | None, frame: Any) -> None:
        """Encode the next frame.

        Args:
            container: av's, open for writing; the same each time.
            index: of the frame, from 0 on, without gaps.
            pts: its time stamp in the source.
            frame: as it was decoded; None: it has no picture, and gets a grey one.

        Raises:
            ValueError: time stamps do not rise, size or colours change, or what comes out is another frame.
        """
        self._origin = pts if self._origin is None else self._origin
        since = index if self._counted else None if pts is None or self._origin is None else pts - self._origin
        if since is None:
            raise ValueError(f"frame {index} has no time stamp")
        ticks = since * self._base.numerator
        if self._ticks and ticks <= self._ticks[-1]:
            raise ValueError(f"the time stamp of frame {index} is not after that of the frame before it")
        if self._ticks and ticks - self._ticks[-1] >= _LONGEST:
            raise ValueError(
                f"frame {index} comes {float((ticks - self._ticks[-1]) / self._base.denominator):.0f} s after the one "
                "before it, which MP4 cannot say"
            )
        self._ticks.append(ticks)
        self._pictures.append(frame is not None)
        if frame is None and self._stream is None:
            return  # until the colours are known
        small = None if frame is None else self._shrink(frame)
        if frame is not None:
            self._interlaced += frame.interlaced_frame
            self._transparent |= any(one.is_alpha for one in frame.format.components)
        if self._stream is None:
            self._open(container)
            for early in range(index):
                self._encode(container, early, None)
        self._encode(container, index, small)

    def _open(self, container):
        codec = self._encoding
        self._stream = container.add_stream(codec.encoder, options=codec.options())
        to, colors = self._stream.codec_context, self._shrink.colors
        to.height, to.width = self._size
        to.pix_fmt, to.framerate = "yuv420p", self._fps
        to.time_base = self._stream.time_base = Fraction(1, self._base.denominator)
        to.colorspace, to.color_primaries, to.color_trc, to.color_range = colors
        to.thread_count = 1  # videos are encoded in parallel
        if codec.codec == "hevc":
            to.codec_tag = "hvc1"

    def _encode(self, container, index, small):
        small = small or grey_frame(self._size, self._shrink.colors)
        small.pts, small.time_base = self._ticks[index], Fraction(1, self._base.denominator)
        self._held[index] = planes_of(small)[0]
        self._write(container, self._stream.encode(small))

    def _write(self, container, packets):
        for packet in packets:
            if self._decoder is None:
                codec = self._encoding.codec
                self._decoder = av.CodecContext.create(_DECODERS.get(codec, codec), "r")
                self._decoder.extradata = self._stream.codec_context.extradata
                self._decoder.thread_count = 1
            self._decoded(self._decoder.decode(packet))
            packet.dts = self._decoding_time()
            if packet.dts > packet.pts:
                raise ValueError(f"the encoder delays a frame by more than {_DELAY} others")
            container.mux(packet)  # which changes its time stamps
            self._written += 1

    def _decoding_time(self):
        """When the next packet is decoded: as frames are shown, ``_DELAY`` of them earlier.

        Of a video with few frames, encoders give times after those at which the frames are shown.
        """
        early = _DELAY - self._written
        if early <= 0:
            return self._ticks[-early]
        return -early * max(1, round(self._base.denominator / self._fps))

    def _decoded(self, frames):
        for frame in frames:
            index = len(self._digests)
            if index >= len(self._ticks) or frame.pts != self._ticks[index]:
                raise ValueError(f"frame {index} came out of the encoder with another time stamp")
            self._digests.append(digest_of(frame))
            self._waiting.append(planes_of(frame)[0])
        self._compare()

    def _compare(self, at_end=False):
        while self._waiting and (at_end or self._compared + 1 in self._held):
            i, luma = self._compared, self._waiting.popleft()
            if self._pictures[i]:
                near = (self._held[j] for j in (i - 1, i + 1) if j in self._held and self._pictures[j])
                self._comparison.add(i, luma, self._held[i], [*near])
            self._held.pop(i - 1, None)
            self._compared += 1

    def end(self, container: Any) -> None:
        """Encode what is left; no frame may come after it.

        Raises:
            ValueError: not all frames came out, or one of them is another.
        """
        if self._stream is None:
            raise ValueError("none of its frames has a picture")
        self._write(container, self._stream.encode(None))
        self._decoded(self._decoder.decode(None))
        self._compare(at_end=True)
        if self._compared != len(self._ticks):
            raise ValueError(f"{self._compared} of {len(self._ticks)} frames came out of the encoder")

    def check_file(self, path: str) -> None:
        """Decode a file that was written, and compare its frames and their time stamps with those that were compared.

        Raises:
            ValueError: they are others.
        """
        with open_video(path) as (container, stream):
            decoded = decode_packets(stream.codec_context, read_packets(container, stream), -np.inf)
            base = stream.time_base * self._base.denominator
        if decoded.problem or [frame.digest for frame in decoded.frames] != self._digests:
            raise ValueError(f"what was written has other frames{f' ({decoded.problem})' if decoded.problem else ''}")
        stamps: list[Any] = [frame.pts for frame in decoded.frames]
        if [(pts - stamps[0]) * base for pts in stamps] != self._ticks:
            raise ValueError("what was written has other time stamps")

    def notes(self) -> list[str]:
        """What is odd about the frames, for people."""
        notes = []
        if self._interlaced:
            notes.append(f"{self._interlaced} frames are interlaced: both fields were scaled together")
        if self._transparent:
            notes.append("it was transparent, which is not kept")
        if self._counted:
            rate = f"by its frame rate of {float(self._fps):g}" if self._has_fps else f"as {_FPS} a second"
            notes.append(f"its time stamps were useless: its frames are shown {rate}")
        return notes

    def quality(self) -> Quality:
        """How like the frames are to those of the source."""
        return self._comparison.result()
