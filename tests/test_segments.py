"""Segments: which frames a list's seconds, or frame numbers, are. The oracle is arithmetic on frame numbers."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from conftest import _real, shown_numbers, write_numbered

import dali_vidaug as dv
from dali_vidaug.data import segments
from dali_vidaug.data.entry import Entry
from dali_vidaug.data.segments import find_segment
from dali_vidaug.media.decode import decode

RATES = {
    "23.976": Fraction(24000, 1001), "24": Fraction(24), "25": Fraction(25), "29.97": Fraction(30000, 1001),
    "30": Fraction(30), "50": Fraction(50), "59.94": Fraction(60000, 1001), "60": Fraction(60),
    "119.88": Fraction(120000, 1001), "120": Fraction(120), "240": Fraction(240),
}  # fmt: skip
LENGTH, STEP = 96, 7


def scan(path, **options):
    return dv.scan(path, progress=False, **options)


def encode(path, rate, num_frames=LENGTH, size=(32, 48), times=None, options=None):
    """A video of grey frames at an exact rate, or with a time stamp (ticks of 1/1000 s) for each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=options or {"g": "24", "bf": "2", "preset": "fast"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        base = Fraction(1, 1000) if times is not None else 1 / rate
        stream.codec_context.time_base = base
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), i * 2 % 250, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i if times is None else times[i], base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def ranges(manifest):
    return list(zip(*(manifest.table[name].to_pylist() for name in ("first_frame", "last_frame")), strict=True))


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("rate", RATES)
def test_rounded_seconds_give_exact_frames(rate, container, tmp_path):
    """Frames [k, k + 7) come out for start = k / fps and end = (k + 7) / fps, rounded up or down to 3 or 6 decimals."""
    encode(tmp_path / f"v.{container}", RATES[rate])
    rows, expected = ["path,start,end,digits"], []
    for digits in (3, 6):
        for first in range(LENGTH - STEP):
            start, end = (round(float(k / RATES[rate]), digits) for k in (first, first + STEP))
            rows.append(f"v.{container},{start},{end},{digits}")
            expected.append((first, first + STEP))
    (tmp_path / "l.csv").write_text("\n".join(rows))
    manifest = scan(tmp_path / "l.csv")
    assert manifest.video(0).num_frames == LENGTH
    assert ranges(manifest) == expected


def test_segments_that_meet_share_no_frame(tmp_path):
    """Property: cuts at any times, in a video of a varying frame rate, give each frame to one segment, in order."""
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.choice([10, 33, 40, 200, 1000], LENGTH)).tolist()
    encode(tmp_path / "v.mkv", Fraction(1000), times=times)
    seconds = (np.array(times) - times[0]) / 1000
    for seed in range(20):
        cuts = np.sort(np.random.default_rng(seed).uniform(0, seconds[-1] + 1, 8)).round(3)
        cuts = [0.0, *cuts.tolist(), seconds[-1] + 2]
        row = {"num_frames": LENGTH, "fps": 10.0, "duration_seconds": 1.0, "time_base": 0.001, "pts_step": None,
               "pts": times}  # fmt: skip
        found = []
        for start, end in pairwise(cuts):
            try:
                found.append(find_segment(row, Entry("v", start=start, end=end))[:2])
            except ValueError:
                continue  # too short for a frame
        assert found[0][0] == 0 and found[-1][1] == LENGTH
        assert all(a[1] == b[0] for a, b in pairwise(found))
    # each frame's own stamps, to the millisecond, give that frame
    rows = [f"v.mkv,{a:.3f},{b:.3f}" for a, b in pairwise(seconds)]
    (tmp_path / "l.csv").write_text("\n".join(["path,start,end", *rows]))
    assert ranges(scan(tmp_path / "l.csv")) == [(i, i + 1) for i in range(LENGTH - 1)]


def test_real_episodes_in_both_containers(tmp_path):
    source = _real("faults") / "episodes"
    expected = {}
    for line in (source / "list.csv").read_text().splitlines()[1:]:
        first = int(line.split(",")[1].removeprefix("ep"))
        expected.setdefault(line.split(",")[0], []).append((first, first + 7))
    manifest = scan(source / "list.csv")
    got = {}
    for path, part in zip(manifest.table["path"].to_pylist(), ranges(manifest), strict=True):
        got.setdefault(path, []).append(part)
    assert got == expected and len(manifest) == 42
    for name in ("e", "f"):  # milliseconds for time stamps, at 60 frames per second
        with av.open(str(source / f"{name}.mp4")) as old, av.open(str(tmp_path / f"{name}60.mkv"), "w") as new:
            track = new.add_stream_from_template(old.streams.video[0])
            rate = old.streams.video[0].average_rate
            for packet in old.demux(video=0):
                if packet.size:
                    base = packet.time_base * rate / 60
                    packet.stream, packet.time_base = track, base
                    new.mux(packet)
    rows = [f"{name}60.mkv,{k / 60:.6f},{(k + 7) / 60:.6f}" for name in "ef" for k in range(0, 290, 7)]
    (tmp_path / "l.csv").write_text("\n".join(["path,start,end", *rows]))
    assert ranges(scan(tmp_path / "l.csv")) == [(k, k + 7) for _ in "ef" for k in range(0, 290, 7)]


def test_the_frames_that_a_loader_gives(numbered, tmp_path):
    rows = [f"even/00.mp4,{k / 25:.3f},{(k + 4) / 25:.3f}" for k in range(0, 36, 4)]
    (tmp_path / "l.csv").write_text("\n".join(["path,start,end", *rows]))
    manifest = scan(tmp_path / "l.csv", root=numbered)
    plan = dv.draw_plan(manifest, dv.Recipe(dv.ClipSampling(4), ()), range(9))
    for i, frames in enumerate(plan.frames):
        assert shown_numbers(decode(manifest.video(i), frames).pixels) == list(range(4 * i, 4 * i + 4))


@pytest.mark.parametrize(
    "header",
    "start,end Start,End START_TIME,END_TIME start_time,end_time startTime,endTime t_start,t_end start_sec,end_sec "
    "begin,end begin_time,end_time start_seconds,stop_seconds start_timestamp,stop_timestamp time_start,time_end "
    "segment_start,segment_end".split(),
)
def test_known_spellings_in_seconds(header, numbered, tmp_path):
    (tmp_path / "l.csv").write_text(f"path,{header}\neven/00.mp4,0.4,00:00:01.2\n")
    manifest = scan(tmp_path / "l.csv", root=numbered)
    assert ranges(manifest) == [(10, 30)] and manifest.columns == tuple(header.split(","))
    assert [manifest.rows(name, [0])[0] for name in manifest.columns] == [0.4, 1.2]


@pytest.mark.parametrize("header", ["start_frame,end_frame", "Start_Frame,Stop_Frame", "first_frame,last_frame"])
def test_known_spellings_in_frames(header, numbered, tmp_path, caplog):
    (tmp_path / "l.csv").write_text(f"path,{header}\neven/00.mp4,10,30\neven/00.mp4,35,50\n")
    manifest = scan(tmp_path / "l.csv", root=numbered)
    assert ranges(manifest) == [(10, 30), (35, 40)]
    assert "are read as frames [first, last): counted from 0, the last not included" in caplog.text
    assert "rows that end after their video does, and are cut short: 1 (" in caplog.text
    (tmp_path / "l.csv").write_text(f"path,{header}\neven/00.mp4,10,30.5\n")
    with pytest.raises(ValueError, match="line 2: .* must be numbers of frames .*got 30.5"):
        scan(tmp_path / "l.csv", root=numbered)


@pytest.mark.parametrize("column", "clip_begins when_seconds event_time onset frame_no t0 duration ends".split())
def test_unknown_columns_that_look_like_times(column, numbered, tmp_path, caplog):
    (tmp_path / "l.csv").write_text(f"path,{column},gender,caption\neven/00.mp4,3,female,2 men\n")
    manifest = scan(tmp_path / "l.csv", root=numbered)
    assert f"columns that look like times are not used: {column};" in caplog.text
    assert ranges(manifest) == [(0, 40)] and any(column in remark for remark in manifest.remarks)


def test_seconds_win_over_frames_and_the_rest_is_named(numbered, tmp_path, caplog):
    (tmp_path / "l.csv").write_text("path,start,end,start_frame,end_frame\neven/00.mp4,0.4,1.2,0,5\n")
    assert ranges(scan(tmp_path / "l.csv", root=numbered)) == [(10, 30)]
    assert "look like times are not used: start_frame, end_frame; clips are drawn from start to end" in caplog.text


def test_odd_segments_are_told_or_broken(numbered, tmp_path, caplog):
    rows = ["0.4,9", "-1,1", ",1", "0.5,nan", "1,0.5", "1,1", "-2,-1", "5,6"]
    (tmp_path / "l.csv").write_text("\n".join(["path,start,end", *(f"even/00.mp4,{row}" for row in rows)]))
    manifest = scan(tmp_path / "l.csv", root=numbered)
    assert ranges(manifest) == [(10, 40), (0, 25), (0, 25), (12, 40)]  # 0.5 s is the middle of frame 12
    assert [b.reason for b in manifest.broken] == [
        "start must be before end, got 1 and 0.5 s",
        "start must be before end, got 1 and 1 s",
        "no frame between -2.0 and -1.0 s (it lasts 1.6 s)",
        "no frame between 5.0 and 6.0 s (it lasts 1.6 s)",
    ]
    assert "rows that end after their video does, and are cut short: 1 (" in caplog.text and "line 2)" in caplog.text
    assert "rows that start before their video does, and are cut short: 1 (" in caplog.text
    assert "rows without start or end, which begin or end with their video: 2 of 8" in caplog.text


# ---- Kinetics: the file may be the whole video, or the part alone


def test_real_untrimmed_kinetics():
    manifest = scan(_real("faults") / "kinetics_untrimmed" / "val.csv")
    assert ranges(manifest) == [(70, 170), (330, 430)] and manifest.classes == ("cracking knuckles", "cracking neck")
    assert any("holds more than this part" in remark for remark in manifest.remarks)
    with av.open(manifest.path(0)) as container:  # the grey level rises by about 4.7 a second
        grey = np.array([frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)])
    assert grey[-1] > 250 and (np.diff(grey[60::10]) > 0).all()
    recipe = dv.Recipe(dv.ClipSampling(4, stride=5), (dv.Resize((16, 16)),))
    with dv.VideoLoader(manifest, recipe, 2, device="cpu") as loader:
        for epoch in range(30):
            loader.set_epoch(epoch)
            for batch in loader:
                for clip, sample in zip(batch.clips, batch.samples.tolist(), strict=True):
                    shown = clip.float().mean((0, 2, 3))
                    first, last = ((70, 170), (330, 430))[sample]  # 10 frames per second
                    assert grey[first] - 1.5 <= shown.min() and shown.max() <= grey[last - 1] + 1.5


@pytest.mark.parametrize("named", ["kinetics", "path"])
@pytest.mark.parametrize(
    "seconds, start, end, expected",
    [
        (12, 1, 5, (10, 50)),  # the whole video
        (4, 7, 11, (0, 40)),  # the part alone
        (4.5, 7, 11, (0, 45)),
        (3, 7, 11, (0, 30)),  # the part alone, and shorter: the whole video would reach to the 11th second
        (5, 2, 5, (20, 50)),  # the whole video: it ends with the part
        (3.2, 1, 4, (0, 32)),
        (4, 0, 4, (0, 40)),  # the same either way
        (10, 8, 11, "neither the whole video"),
        (60, 100, 110, "neither the whole video"),
    ],
)
def test_kinetics_files_are_told_apart_by_their_duration(named, seconds, start, end, expected, tmp_path, caplog):
    encode(tmp_path / "abc.mp4", Fraction(10), round(seconds * 10))
    header, name = ("label,youtube_id", "x,abc") if named == "kinetics" else ("label,path", "x,abc.mp4")
    (tmp_path / "l.csv").write_text(f"{header},time_start,time_end\n{name},{start},{end}\n")
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            scan(tmp_path / "l.csv")
        return
    manifest = scan(tmp_path / "l.csv")
    assert ranges(manifest) == [expected]
    cut = any(segments.CUT in remark for remark in manifest.remarks)
    assert cut != any(segments.WHOLE in remark for remark in manifest.remarks)  # one of the two is said
    assert cut == (segments.CUT in caplog.text)
    if start:
        assert cut == (expected[0] == 0)


@pytest.mark.parametrize("named", ["kinetics", "path"])
def test_a_kinetics_name_with_times_is_the_part_alone(named, tmp_path, caplog):
    write_numbered(tmp_path / "abc_000001_000002.mp4", 50)
    header, name = ("label,youtube_id", "x,abc") if named == "kinetics" else ("label,path", "x,abc_000001_000002.mp4")
    (tmp_path / "l.csv").write_text(f"{header},time_start,time_end\n{name},1,2\n")
    assert ranges(scan(tmp_path / "l.csv")) == [(0, 50)] and not caplog.records
