"""Which packets of a packet index some frames need, and where in the file these are."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import numpy as np

from dali_vidaug.media.index import KEY, NON_REFERENCE, DamagedIndexError, Index, Packets
from dali_vidaug.media.indexed_file import IndexedFile, ranges_of
from dali_vidaug.media.references import reference_closure
from dali_vidaug.media.video import Video, frame_indices, frame_pts

FROM_START = -1  # in place of a key frame: from the first packet of the stream


def needs_note(video: Video) -> bool:
    """Whether the decoder needs the message of the encoder, which is in the first packet only: see ``encoder_note``."""
    return video.codec == "h264" and "444" in video.pixel_format


def by_key_frame(video: Video, wanted: np.ndarray, one_cut: bool = False) -> dict[int, set[int]]:
    """The key frames that frames depend on, rising, and the frames of each.

    Args:
        video: its row of the manifest.
        wanted: (F,) frames, rising.
        one_cut: all depend on the key frame of the first.
    """
    before = np.searchsorted(video.keyframes, wanted, "right") - 1
    keys = np.where(before < 0, FROM_START, video.keyframes[before] if len(video.keyframes) else FROM_START)
    if one_cut:
        keys = np.broadcast_to(keys[0], keys.shape)
    return {key: {int(i) for i in wanted[keys == key]} for key in np.unique(keys).tolist()}


def needed_packets(
    file: IndexedFile, video: Video, groups: Mapping[int, AbstractSet[int]], all_references: bool
) -> tuple[list[Packets], list[bool]]:
    """The packets that frames need.

    Args:
        file: the video, by its packet index.
        video: its row of the manifest.
        groups: from ``by_key_frame``.
        all_references: keep those too that no wanted frame refers to.

    Returns:
        For each key frame its packets, and whether reference pictures are left out; and last, if the encoder's note is
        needed, the first packet of the file.
    """
    found = [_find_packets(file, video, key, group, all_references) for key, group in groups.items()]
    parts = [part for part, _ in found]
    if needs_note(video) and max(groups) > 0:
        parts.append(file.block(0).part(slice(0, 1)))
    return parts, [lacks for _, lacks in found]


def byte_ranges(video: Video, index: Index, frames: np.ndarray, all_references: bool) -> list[tuple[int, int]]:
    """The ranges [first, last) of a video that ``read_cuts`` reads for some frames, by its packet index.

    Args:
        video: its row of the manifest.
        index: of its packets.
        frames: (F,) int, in any order.
        all_references: as for ``read_cuts``.

    Raises:
        DamagedIndexError: the index contradicts itself.
    """
    groups = by_key_frame(video, np.unique(frames))
    parts, _ = needed_packets(IndexedFile(None, index), video, groups, all_references)
    firsts, lasts = ranges_of(parts)
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _find_packets(file, video, key, wanted, all_references):
    """Which packets the frames ``wanted`` need from key frame ``key`` on, and whether these lack reference pictures."""
    found: list[Packets] = []
    sought, is_sought = np.array(sorted(wanted)), np.zeros(0, bool)
    for packets in file.packets_from(None if key == FROM_START else frame_pts(video, key)):
        frames = frame_indices(video, packets.pts)
        if not found:
            is_first = (frames == key) & (packets.flags & KEY != 0)
            start = 0 if key == FROM_START else int(is_first.argmax())
            if key != FROM_START and not is_first[start]:
                break
            packets, frames = packets.part(slice(start, None)), frames[start:]
        is_sought = np.append(is_sought, np.isin(frames, sought))
        found.append(packets)
        if is_sought.sum() == len(wanted):
            count = int(is_sought.nonzero()[0][-1]) + 1
            whole = found[0] if len(found) == 1 else Packets(*map(np.concatenate, zip(*found, strict=True)))
            packets, is_sought = whole.part(slice(count)), is_sought[:count]
            every = (packets.flags & NON_REFERENCE == 0) | is_sought
            needed = every if all_references else reference_closure(packets, is_sought)
            return packets.part(needed.nonzero()[0]), bool((every & ~needed).any())
    raise DamagedIndexError(f"it lacks packets of the frames {min(wanted)} to {max(wanted)}")
