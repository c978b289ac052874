"""What parameter sets and slice headers of H.265 say: the order of pictures, and which a picture may refer to.

Sections and names in code font are those of ITU-T H.265.
"""

from __future__ import annotations

from typing import NamedTuple

from dali_vidaug.media.headers import Bits, Window, read_window

_IDR, _RANDOM_ACCESS = (19, 20), range(16, 24)  # table 7-1
_SLICE_MAX = 512  # bytes of a slice that are looked at: its header is shorter, without the entry points
_SETS_MAX, _LONG_TERMS_MAX, _PICTURES_MAX = 64, 32, 16  # 7.4.3.2.1, A.4.1
_LAST_PROFILE = 5  # later profiles have other slice headers
ReferenceSet = tuple[tuple[int, bool], ...]  # (difference of places, may be referred to now), the nearest place first


class HevcSequence(NamedTuple):
    """What a sequence parameter set says (7.3.2.2).

    Attributes:
        colour_planes: each is coded on its own.
        order_bits: length of slice_pic_order_cnt_lsb.
        reference_sets: those that slices name by number; None if they cannot be told.
        long_terms: how many long-term pictures slices can name by number; None if they have none at all.
        window: what is shown of a coded frame.
        display_window: whether another window is proposed for display; None if that cannot be told.
    """

    colour_planes: bool
    order_bits: int
    reference_sets: tuple[ReferenceSet, ...] | None
    long_terms: int | None
    window: Window
    display_window: bool | None


def read_hevc_sequence(parameter_set: bytes) -> HevcSequence:
    """Read a sequence parameter set, a NAL unit."""
    bits, colour_planes = Bits(parameter_set[2:]), False
    bits.read(4)  # sps_video_parameter_set_id
    sub_layers = bits.read(3)
    bits.read(1 + 3)  # sps_temporal_id_nesting_flag, general_profile_space, general_tier_flag
    profile = bits.read(5)
    bits.read(88)
    present = [(bits.read(1), bits.read(1)) for _ in range(sub_layers)]
    bits.read(2 * (8 - sub_layers) if sub_layers else 0)
    for with_profile, with_level in present:
        bits.read(88 * with_profile + 8 * with_level)
    bits.unsigned()  # sps_seq_parameter_set_id
    chroma = bits.unsigned()  # chroma_format_idc
    if chroma == 3:
        colour_planes = bool(bits.read(1))
    window = read_window(bits, bits.unsigned(), bits.unsigned(), chroma)
    bits.unsigned(), bits.unsigned()  # bit depths
    order_bits = bits.unsigned() + 4
    for _ in range(sub_layers + 1 if bits.read(1) else 1):  # sps_sub_layer_ordering_info_present_flag
        bits.unsigned(), bits.unsigned(), bits.unsigned()
    for _ in range(6):  # sizes and depths of blocks
        bits.unsigned()
    if bits.read(1) and bits.read(1):  # scaling_list_enabled_flag, sps_scaling_list_data_present_flag
        _skip_scaling_lists(bits)
    bits.read(2)  # amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if bits.read(1):  # pcm_enabled_flag
        bits.read(8), bits.unsigned(), bits.unsigned(), bits.read(1)
    sets: list[ReferenceSet] | None = []
    for _ in range(min(bits.unsigned(), _SETS_MAX)):
        one = _read_reference_set(bits, sets, False)
        sets = None if one is None or sets is None else [*sets, one]
        if sets is None:
            break
    long_terms = bits.unsigned() if bits.read(1) else None  # long_term_ref_pics_present_flag
    known = sets is not None and profile <= _LAST_PROFILE and not colour_planes
    bits.read(min(long_terms or 0, _LONG_TERMS_MAX) * (order_bits + 1))  # lt_ref_pic_poc_lsb_sps, used_by_curr_pic_...
    bits.read(2)  # sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    display_window = _has_display_window(bits)
    return HevcSequence(
        colour_planes, order_bits, tuple(sets or ()) if known else None, long_terms, window,
        None if sets is None or bits.is_over else display_window,
    )  # fmt: skip


def _has_display_window(bits):
    """default_display_window_flag of vui_parameters (E.2.1), if there are any."""
    if not bits.read(1):  # vui_parameters_present_flag
        return False
    if bits.read(1) and bits.read(8) == 255:  # aspect_ratio_info_present_flag, aspect_ratio_idc: EXTENDED_SAR
        bits.read(32)
    bits.read(1 if bits.read(1) else 0)  # overscan_info_present_flag
    if bits.read(1):  # video_signal_type_present_flag
        bits.read(4)
        bits.read(24 if bits.read(1) else 0)  # colour_description_present_flag
    if bits.read(1):  # chroma_loc_info_present_flag
        bits.unsigned(), bits.unsigned()
    bits.read(3)  # neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
    return bool(bits.read(1))


def _skip_scaling_lists(bits):
    """scaling_list_data (7.3.4)."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.read(1):  # scaling_list_pred_mode_flag
                bits.unsigned()
                continue
            if size > 1:
                bits.signed()
            for _ in range(min(64, 1 << (4 + 2 * size))):
                bits.signed()


def _read_reference_set(bits, sets, in_slice):
    """st_ref_pic_set (7.3.7), that comes after those of ``sets``; None if it is not valid."""
    if sets and bits.read(1):  # inter_ref_pic_set_prediction_flag
        back = bits.unsigned() + 1 if in_slice else 1
        negative, size = bits.read(1), bits.unsigned() + 1
        if back > len(sets):
            return None
        step, found = -size if negative else size, []
        before = [delta for delta, _ in sets[-back] if delta < 0]
        for delta in [*before, *(delta for delta, _ in sets[-back] if delta > 0), 0]:
            used = bool(bits.read(1))
            if (used or bits.read(1)) and delta + step:  # use_delta_flag
                found.append((delta + step, used))
    else:
        counts, found = (bits.unsigned(), bits.unsigned()), []
        if sum(counts) > _PICTURES_MAX:
            return None
        for sign, count in zip((-1, 1), counts, strict=True):
            delta = 0
            for _ in range(count):
                delta += sign * (bits.unsigned() + 1)
                found.append((delta, bool(bits.read(1))))
    return tuple(sorted(found, key=lambda one: (one[0] > 0, abs(one[0]))))


class HevcPictureSet(NamedTuple):
    """What a picture parameter set says (7.3.2.3).

    Attributes:
        number: by which slices refer to it.
        has_output_flag: pictures say whether they are shown.
        extra_bits: in slice headers.
    """

    number: int
    has_output_flag: bool
    extra_bits: int


def read_hevc_picture_set(parameter_set: bytes) -> HevcPictureSet:
    """Read a picture parameter set, a NAL unit."""
    bits = Bits(parameter_set[2:18])
    number = bits.unsigned()
    bits.unsigned(), bits.read(1)  # pps_seq_parameter_set_id, dependent_slice_segments_enabled_flag
    return HevcPictureSet(number, bool(bits.read(1)), bits.read(3))


def read_hevc_order(unit: bytes, sequence: HevcSequence, picture_sets: dict[int, HevcPictureSet]) -> int | None:
    """The place of a picture in presentation order (slice_pic_order_cnt_lsb; 7.3.6.1), None if it cannot be told.

    Args:
        unit: the first slice of a picture, a NAL unit.
        sequence: in force.
        picture_sets: by number.
    """
    return _read_order(Bits(unit[2:26]), unit, sequence, picture_sets)


def _read_order(bits, unit, sequence, picture_sets):
    kind = unit[0] >> 1 & 63
    bits.read(1)  # first_slice_segment_in_pic_flag
    if kind in _RANDOM_ACCESS:
        bits.read(1)  # no_output_of_prior_pics_flag
    picture_set = picture_sets.get(bits.unsigned())
    if picture_set is None:
        return None
    bits.read(picture_set.extra_bits), bits.unsigned()  # slice_type
    bits.read(picture_set.has_output_flag + 2 * sequence.colour_planes)
    return 0 if kind in _IDR else bits.read(sequence.order_bits)


class HevcSlice(NamedTuple):
    """What a slice says of the pictures before it, in decoding order: differences of places (8.3.2).

    Attributes:
        order: its own place, modulo 2 ** ``order_bits``.
        kept: those that stay in the decoder.
        referred: those of them that it may refer to.
    """

    order: int
    kept: tuple[int, ...]
    referred: tuple[int, ...]


def read_hevc_slice(unit: bytes, sequence: HevcSequence, picture_sets: dict[int, HevcPictureSet]) -> HevcSlice | None:
    """Read the header of a picture's first slice as far as its reference picture set, None if it cannot be told.

    All slices of a picture have the same set.

    Args:
        unit: a NAL unit.
        sequence: in force.
        picture_sets: by number.
    """
    bits = Bits(unit[2:_SLICE_MAX])
    order = _read_order(bits, unit, sequence, picture_sets)
    if order is None or not unit[2] >> 7 or sequence.reference_sets is None:  # first_slice_segment_in_pic_flag
        return None
    if unit[0] >> 1 & 63 in _IDR:
        return HevcSlice(0, (), ())
    sets = sequence.reference_sets
    if bits.read(1):  # short_term_ref_pic_set_sps_flag
        number = bits.read((len(sets) - 1).bit_length()) if sets else 0
        chosen = sets[number] if number < len(sets) else None
    else:
        chosen = _read_reference_set(bits, list(sets), True)
    if chosen is None or _has_long_terms(bits, sequence):
        return None
    return HevcSlice(order, tuple(delta for delta, _ in chosen), tuple(delta for delta, used in chosen if used))


def _has_long_terms(bits, sequence):
    if sequence.long_terms is None:
        return False
    named = bits.unsigned() if sequence.long_terms else 0  # num_long_term_sps
    return bool(named + bits.unsigned())
