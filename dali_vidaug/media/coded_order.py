"""In which order the pictures of an H.264 stream are decoded, and which of them others refer to, by its packets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dali_vidaug.media.bitstream import is_reference, sets_in
from dali_vidaug.media.h264 import read_sequence

_NUM_REFERENCES = 4  # where the file does not say how many; x264's presets have 1 to 16, mostly 3
_SPS = 7  # ITU-T H.264, table 7-1


class CodedOrder:
    """What is known of the pictures of a cut.

    Attributes:
        pictures: by time stamp, in decoding order: the rank in it, and whether others may refer to the picture.
    """

    def __init__(self):
        self.pictures: dict[int, tuple[int, bool]] = {}

    def look(self, packet: Any, rank: int, stream: Any, *, unsure: bool) -> None:
        """Look at the next packet.

        Args:
            packet: is decoded as the ``rank``-th.
            stream: that it is of.
            unsure: it is not known that others refer to its picture.
        """
        if (pts := packet.pts) is not None:
            before = self.pictures.get(pts, (rank, False))  # two fields may be in two packets of one time stamp
            self.pictures[pts] = rank, before[1] or not unsure or is_reference(packet, stream)

    def num_later(self, pts: int, rank: int) -> int:
        """How many pictures, to which others may refer, are decoded before one and shown after it."""
        return sum(is_referred and r < rank and p > pts for p, (r, is_referred) in self.pictures.items())

    def last_uses(self, wanted: Mapping[int, int], most: int) -> dict[int, int]:
        """Which pictures some others may refer to, of those that are shown before them: the last of these, for each.

        Args:
            wanted: the frames of these others, by their time stamps, rising.
            most: pictures that one may refer to, at most; the nearest are taken.

        Returns:
            By time stamp of the picture, the last of these frames.
        """
        shown = sorted(pts for pts, (_, is_referred) in self.pictures.items() if is_referred)
        last: dict[int, int] = {}
        for pts, frame in wanted.items():
            rank, left = self.pictures[pts][0], most
            for i in range(bisect_left(shown, pts) - 1, -1, -1):
                if self.pictures[shown[i]][0] < rank:
                    last[shown[i]], left = frame, left - 1
                    if not left:
                        break
        return last


@lru_cache
def num_references(extradata: bytes) -> int:
    """The most pictures that one of a stream may refer to, as far as the file says."""
    sets = [unit for unit in sets_in(extradata) if unit[0] & 31 == _SPS]
    return max((read_sequence(unit).num_references for unit in sets), default=_NUM_REFERENCES)
