"""What parameter sets and slice headers of H.264 say. Sections are those of ITU-T H.264."""

from __future__ import annotations

from typing import NamedTuple

from dali_vidaug.media.headers import Bits, Window, read_window

_LONG_PROFILES = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)  # 7.3.2.1.1


class Sequence(NamedTuple):
    """What a sequence parameter set says (7.3.2.1.1).

    Attributes:
        interlaced: pictures may be fields.
        colour_planes: each is coded on its own.
        frame_num_bits, order_bits: lengths of frame_num and pic_order_cnt_lsb; the latter 0 if there is none.
        gaps: frame numbers may be left out.
        num_references: the most pictures that one may refer to.
        window: what is shown of a coded frame.
    """

    interlaced: bool
    colour_planes: bool
    frame_num_bits: int
    order_bits: int
    gaps: bool
    num_references: int
    window: Window


def read_sequence(parameter_set: bytes) -> Sequence:
    """Read a sequence parameter set, a NAL unit."""
    profile, bits, colour_planes, chroma = parameter_set[1], Bits(parameter_set[4:]), False, 1
    bits.unsigned()  # seq_parameter_set_id
    if profile in _LONG_PROFILES:
        chroma = bits.unsigned()
        if chroma == 3:
            colour_planes = bool(bits.read(1))
        bits.unsigned(), bits.unsigned(), bits.read(1)  # bit depths, qpprime_y_zero_transform_bypass_flag
        if bits.read(1):  # seq_scaling_matrix_present_flag
            for i in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    frame_num_bits, order_bits = bits.unsigned() + 4, 0
    kind = bits.unsigned()  # pic_order_cnt_type
    if kind == 0:
        order_bits = bits.unsigned() + 4
    elif kind == 1:
        bits.read(1), bits.signed(), bits.signed()
        for _ in range(min(bits.unsigned(), 255)):
            bits.signed()
    num_references, gaps = bits.unsigned(), bool(bits.read(1))
    columns, rows = bits.unsigned() + 1, bits.unsigned() + 1
    interlaced = not bits.read(1)
    bits.read(interlaced + 1)  # mb_adaptive_frame_field_flag, direct_8x8_inference_flag
    window = read_window(bits, 16 * columns, 16 * rows * (1 + interlaced), chroma, 1 + interlaced)
    return Sequence(interlaced, colour_planes, frame_num_bits, order_bits, gaps, num_references, window)


class Slice(NamedTuple):
    """What a slice says: the number of its frame, and its place in presentation order, both modulo a power of two."""

    is_idr: bool
    is_reference: bool
    frame_num: int
    order: int
    is_field: bool


def read_slice(unit: bytes, sequence: Sequence) -> Slice:
    """Read the beginning of a slice (7.3.3), a NAL unit."""
    bits, is_idr = Bits(unit[1:24]), unit[0] & 31 == 5
    bits.unsigned(), bits.unsigned(), bits.unsigned()  # first_mb_in_slice, slice_type, pic_parameter_set_id
    if sequence.colour_planes:
        bits.read(2)
    frame_num, is_field = bits.read(sequence.frame_num_bits), sequence.interlaced and bool(bits.read(1))
    if is_field:
        bits.read(1)  # bottom_field_flag
    if is_idr:
        bits.unsigned()  # idr_pic_id
    order = bits.read(sequence.order_bits) if sequence.order_bits else 0
    return Slice(is_idr, bool(unit[0] >> 5 & 3), frame_num, order, is_field)


def _skip_scaling_list(bits, size):
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
