"""What the first bits of coded pictures and parameter sets say."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

AV1_SEQUENCE, _AV1_FRAME_HEADERS = 1, (3, 6)  # AV1 specification, 6.2.2: a frame header, alone or with its tiles


class Picture(NamedTuple):
    """A coded picture of VP9 or AV1.

    Attributes:
        key: it is a key frame.
        shown: it becomes a frame.
        repeated: it is an earlier picture that is only shown again.
    """

    key: bool
    shown: bool
    repeated: bool


class Bits:
    """Reads bits. Past the end they are 0.

    Args:
        data: what they are in.
        in_nal_unit: it is from a NAL unit, in which bytes are inserted (emulation prevention).
    """

    def __init__(self, data: bytes, in_nal_unit: bool = True):
        data = data.replace(b"\0\0\3", b"\0\0") if in_nal_unit else data
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        """The next bits as a number."""
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1) if self._left >= 0 else 0

    @property
    def is_over(self) -> bool:
        """Whether more was read than there is."""
        return self._left < 0

    def unsigned(self) -> int:
        """The next exponential-Golomb code, ue(v)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if self._left <= 0 or zeros > 32:
                return 0
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        """The next exponential-Golomb code, se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def vp9_pictures(data: bytes) -> list[Picture]:
    """The coded pictures of a VP9 packet: one or, in a superframe (annex B of the specification), several."""
    parts, marker = [data], data[-1] if data else 0
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = data[-2 - count * width : -1]
    if marker >> 5 == 0b110 and len(index) == 1 + count * width and index[0] == marker:
        sizes = [int.from_bytes(index[1 + i * width : 1 + (i + 1) * width], "little") for i in range(count)]
        ends = [sum(sizes[: i + 1]) for i in range(count)]
        parts = [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return [_vp9_picture(part) for part in parts if part]


def _vp9_picture(data):
    profile_3 = data[0] >> 4 & 3 == 3  # has one more bit
    header = data[0] << profile_3
    show_existing, inter, show = header >> 3 & 1, header >> 2 & 1, header >> 1 & 1
    valid = data[0] >> 6 == 2
    return Picture(
        valid and not show_existing and not inter, valid and bool(show_existing or show), bool(show_existing)
    )


def av1_pictures(data: bytes) -> list[Picture]:
    """The coded pictures of an AV1 temporal unit, one for each frame header."""
    pictures = []
    for kind, header in av1_units(data):
        if kind in _AV1_FRAME_HEADERS and header:
            show_existing, frame_type, show = header[0] >> 7, header[0] >> 5 & 3, header[0] >> 4 & 1
            pictures.append(
                Picture(not show_existing and frame_type == 0, bool(show_existing or show), bool(show_existing))
            )
    return pictures


def av1_units(data: bytes) -> list[tuple[int, bytes]]:
    """The units (OBU) of an AV1 temporal unit: type and content of each."""
    units, at = [], 0
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extended
        size, shift = (0, 0) if sized else (len(data) - at, 0)
        while sized and at < len(data):  # seven bits per byte, the lowest first; the eighth says that more follow
            size, shift, at, more = size | (data[at] & 127) << shift, shift + 7, at + 1, data[at] >> 7
            if not more:
                break
        units.append((kind, data[at : at + size]))
        at += size
    return units


def av1_is_reference(data: bytes, configuration: bytes) -> bool:
    """Whether other pictures may refer to one of an AV1 temporal unit; True wherever that is not known.

    All that a picture hands on is in the slots that it refreshes (AV1 specification, 7.20).

    Args:
        data: the temporal unit.
        configuration: the stream's, ``av1C`` of MP4 and Matroska.
    """
    sequence, known = _read_av1_sequence(configuration), False
    for kind, unit in av1_units(data):
        if kind == AV1_SEQUENCE or (kind in _AV1_FRAME_HEADERS and _av1_refreshes(unit, sequence)):
            return True
        known |= kind in _AV1_FRAME_HEADERS
    return not known


class _Av1Sequence(NamedTuple):
    order_bits: int
    screen_content: int  # 2: each picture says
    integer_mv: int


@lru_cache(maxsize=64)
def _read_av1_sequence(configuration):
    """What a picture's header depends on (5.5.1); None if it has parts that are not read here."""
    data = next((unit for kind, unit in av1_units(configuration[4:]) if kind == AV1_SEQUENCE), b"")
    bits = Bits(data, in_nal_unit=False)
    bits.read(3)  # seq_profile
    if not data or bits.read(2) or bits.read(1):  # still pictures; timing_info_present_flag
        return None
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):  # operating points
        bits.read(12)
        bits.read(1 if bits.read(5) > 7 else 0)
        bits.read(4 if has_delay and bits.read(1) else 0)
    widths = bits.read(4) + 1, bits.read(4) + 1
    bits.read(widths[0]), bits.read(widths[1])
    if bits.read(1):  # frame_id_numbers_present_flag
        return None
    bits.read(3 + 4)  # block size and intra tools; inter tools
    has_order = bits.read(1)
    bits.read(2 * has_order)
    screen_content = 2 if bits.read(1) else bits.read(1)
    integer_mv = 2 if not screen_content or bits.read(1) else bits.read(1)
    order_bits = bits.read(3) + 1 if has_order else 0
    return None if bits.is_over else _Av1Sequence(order_bits, screen_content, integer_mv)


def _av1_refreshes(header, sequence):
    """Whether a picture may refresh a slot (5.9.2): refresh_frame_flags, or True where that is not read."""
    bits = Bits(header[:16], in_nal_unit=False)
    if sequence is None or bits.read(1):  # show_existing_frame
        return True
    kind, shown = bits.read(2), bits.read(1)
    bits.read(1 - shown)  # showable_frame
    if kind == 3 or (kind == 0 and shown):  # a switch frame, or a key frame
        return True
    resilient = bits.read(1)
    bits.read(1)  # disable_cdf_update
    screen_content = bits.read(1) if sequence.screen_content == 2 else sequence.screen_content
    bits.read(1 if screen_content and sequence.integer_mv == 2 else 0)
    bits.read(1 + sequence.order_bits)  # frame_size_override_flag, order_hint
    bits.read(0 if resilient or kind in (0, 2) else 3)  # primary_ref_frame
    return bits.read(8) != 0 or bits.is_over


class Window(NamedTuple):
    """The size of coded frames, and how many of their pixels are not shown at each edge."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


def read_window(bits: Bits, width: int, height: int, chroma: int, lines: int = 1) -> Window:
    """Read the cropping of H.264 or the conformance window of H.265, a flag and four distances.

    Args:
        bits: the rest of a sequence parameter set.
        width, height: of coded frames.
        chroma: chroma_format_idc.
        lines: of a frame for one that is counted: two where pictures may be fields.
    """
    if not bits.read(1):
        return Window(width, height, 0, 0, 0, 0)
    across, down = 1 + (chroma in (1, 2)), (1 + (chroma == 1)) * lines
    return Window(width, height, *(bits.unsigned() * unit for unit in (across, across, down, down)))


def mpeg4_time_bits(layer: bytes) -> int:
    """How many bits a picture's time has, by a video object layer after its start code (ISO/IEC 14496-2, 6.2.3)."""
    bits = Bits(layer, in_nal_unit=False)
    bits.read(9)  # random_accessible_vol, video_object_type_indication
    if bits.read(1):  # is_object_layer_identifier
        bits.read(7)
    if bits.read(4) == 15:  # aspect_ratio_info: extended_PAR
        bits.read(16)
    if bits.read(1):  # vol_control_parameters
        bits.read(3)  # chroma_format, low_delay
        if bits.read(1):  # vbv_parameters
            bits.read(79)
    bits.read(3)  # video_object_layer_shape, marker
    return max(1, (bits.read(16) - 1).bit_length())


def mpeg4_is_coded(picture: bytes, time_bits: int) -> bool:
    """Whether an MPEG-4 picture (6.2.5 there), after its start code, is coded and its first marker bits are set."""
    bits = Bits(picture[:32], in_nal_unit=False)
    bits.read(2)  # vop_coding_type
    while bits.read(1):  # modulo_time_base
        pass
    marker, _, second, coded = bits.read(1), bits.read(time_bits), bits.read(1), bits.read(1)
    return bool(marker and second and coded)
