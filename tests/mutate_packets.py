"""Ways to spoil the packets of a small video in any container; see ``mutate_containers.py``."""

from __future__ import annotations

from dataclasses import replace

import av
import dirty
from dirty import Coded, read_coded, write_coded

UNIT = 65536
ORIENTATIONS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0),
                (0, -1, -1, 0)]  # fmt: skip
JUNK = [(0.7071, 0.7071, -0.7071, 0.7071), (-0.6157, 0.788, -0.788, -0.6157), (0, 0, 0, 0), (1, 0.5, 0, 1),
        (0.5, 0, 0, 0.25), (1, 1, 1, 1), (0.9848, 0.1736, -0.1736, 0.9848)]  # fmt: skip


def some(rng, count, most=6):
    """A few random positions of ``count``."""
    return sorted(rng.choice(count, min(count, int(rng.integers(1, most + 1))), replace=False).tolist())


def key_flags(rng, base, target, other):
    packets, _ = read_coded(base)
    share = rng.choice([0.1, 0.5, 1.0])
    flags = [p.key if i == 0 else bool(rng.random() < share) for i, p in enumerate(packets)]
    write_coded(target, base, [replace(p, key=f) for p, f in zip(packets, flags, strict=True)])
    return f"key flags at {[i for i, f in enumerate(flags) if f][:12]}"


def drop_packets(rng, base, target, other):
    packets, _ = read_coded(base)
    gone = some(rng, len(packets))
    write_coded(target, base, [p for i, p in enumerate(packets) if i not in gone])
    return f"without packets {gone}"


def begin_late(rng, base, target, other):
    packets, _ = read_coded(base)
    first = int(rng.integers(1, len(packets) * 2 // 3))
    write_coded(target, base, packets[first:])
    return f"begins with packet {first}"


def repeat_packets(rng, base, target, other):
    packets, _ = read_coded(base)
    at = int(rng.integers(1, len(packets)))
    step = packets[1].dts - packets[0].dts
    late = [replace(p, pts=p.pts + step, dts=p.dts + step) for p in packets[at:]]
    write_coded(target, base, [*packets[: at + 1], *late])
    return f"packet {at} twice"


def zero_packets(rng, base, target, other):
    packets, _ = read_coded(base)
    first, length = int(rng.integers(len(packets))), int(rng.integers(1, 6))
    hole = range(first, first + length)
    write_coded(target, base, [replace(p, data=bytes(len(p.data))) if i in hole else p for i, p in enumerate(packets)])
    return f"packets {first} to {first + length - 1} are zeros"


def short_packets(rng, base, target, other):
    packets, _ = read_coded(base)
    at, size = some(rng, len(packets)), int(rng.integers(1, 5))
    write_coded(target, base, [replace(p, data=p.data[:size]) if i in at else p for i, p in enumerate(packets)])
    return f"packets {at} of {size} bytes"


def not_coded(rng, base, target, other):
    packets, _ = read_coded(base)
    if b"\0\0\1\xb6" not in packets[0].data:
        raise ValueError("not MPEG-4")
    at = some(rng, len(packets))
    write_coded(
        target, base, [replace(p, data=dirty.not_coded_vop(i)) if i in at else p for i, p in enumerate(packets)]
    )
    return f"not-coded VOPs at {at}"


def jump_in_time(rng, base, target, other):
    packets, _ = read_coded(base)
    at, ticks = int(rng.integers(1, len(packets))), int(rng.choice([3, 50, 700]) / dirty.FPS / packets[0].time_base)
    late = [replace(p, pts=p.pts + ticks, dts=p.dts + ticks) for p in packets[at:]]
    write_coded(target, base, [*packets[:at], *late])
    return f"{ticks} ticks are missing before packet {at}"


def mix_up_stamps(rng, base, target, other):
    packets, _ = read_coded(base)
    first, size = int(rng.integers(len(packets) - 3)), int(rng.integers(2, 9))
    window = packets[first : first + size]
    order = rng.permutation(len(window))
    packets[first : first + size] = [replace(p, pts=window[i].pts) for p, i in zip(window, order, strict=True)]
    write_coded(target, base, [replace(p, pts=max(p.pts, p.dts)) for p in packets])
    return f"stamps of packets {first} to {first + len(window) - 1} mixed up"


def same_stamps(rng, base, target, other):
    packets, _ = read_coded(base)
    at = [i for i in some(rng, len(packets)) if i > 0]
    spoilt = [replace(p, pts=max(packets[i - 1].pts, p.dts)) if i in at else p for i, p in enumerate(packets)]
    write_coded(target, base, spoilt)
    return f"packets {at} with the stamp of the one before"


def join_settings(rng, base, target, other):
    packets, _ = read_coded(base)
    with av.open(str(base)) as container:
        codec = container.streams.video[0].codec_context.codec.canonical_name
    second = other("settings")
    dirty.join(target, base, second, codec)
    return f"joined after packet {len(packets)} with {second.parent.name}"


def display_matrix(rng, base, target, other):
    matrix = (ORIENTATIONS + JUNK)[rng.integers(len(ORIENTATIONS + JUNK))]
    a, b, c, d = (round(v * UNIT) for v in matrix)
    write_coded(target, base, read_coded(base)[0], matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    return f"display matrix {matrix}"


def two_tracks(rng, base, target, other):
    second, default = other("settings"), int(rng.integers(2))
    tracks: list[list[Coded]] = [read_coded(path)[0] for path in (base, second)]
    with (
        av.open(str(target), "w", **dirty.format_of(target)) as output,
        av.open(str(base)) as a,
        av.open(str(second)) as b,
    ):
        streams = [output.add_stream_from_template(source.streams.video[0]) for source in (a, b)]
        for i, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if i == default else av.stream.Disposition(0)
        queue = sorted(((p.dts * p.time_base, i, p) for i in (0, 1) for p in tracks[i]), key=lambda item: item[:2])
        for _, i, coded in queue:
            packet = av.Packet(coded.data)
            packet.pts, packet.dts, packet.time_base = coded.pts, coded.dts, coded.time_base
            packet.is_keyframe, packet.stream = coded.key, streams[i]
            output.mux(packet)
    return f"two tracks, default {default}"


PACKETS = (
    key_flags,
    drop_packets,
    begin_late,
    repeat_packets,
    zero_packets,
    short_packets,
    not_coded,
    jump_in_time,
    mix_up_stamps,
    same_stamps,
    join_settings,
    two_tracks,
)
