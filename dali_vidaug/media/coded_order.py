"""In which order the pictures of an H.264 stream are decoded, and which of them others refer to, by its packets."""

from __future__ import annotations

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

    def most_earlier(self) -> int:
        """How many, to which others may refer, are decoded after one and shown before it, at most."""
        # Of no other pictures there are more than of those that are shown after all that are decoded before them.
        tops: list[int] = []  # their time stamps
        numbers = [0]  # how many there are of each, after that of none
        for pts, (_, is_referred) in self.pictures.items():
            if not tops or pts > tops[-1]:
                tops.append(pts)
                numbers.append(0)
            elif is_referred:
                for k in range(len(tops), 0, -1):
                    if tops[k - 1] < pts:
                        break
                    numbers[k] += 1
        return max(numbers)


@lru_cache
def num_references(extradata: bytes) -> int:
    """The most pictures that one of a stream may refer to, as far as the file says."""
    sets = [unit for unit in sets_in(extradata) if unit[0] & 31 == _SPS]
    return max((read_sequence(unit).num_references for unit in sets), default=_NUM_REFERENCES)
