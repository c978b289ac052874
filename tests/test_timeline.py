"""``preview --sampling`` and ``--time``: which frames each view takes, and what ops on time make of a clip."""

import numpy as np
import pytest
from conftest import numbered_frame, shown_numbers
from PIL import Image

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.commands.preview import named_sampler
from dali_vidaug.commands.timeline import _SIDE, _WIDTH, time_ops, time_picture, timeline_picture
from dali_vidaug.strips import GAP, LINE, MARGIN, SIDE

MARKS = ((214, 84, 36), (40, 110, 170))


def marks_of(picture):
    """Where the marks of each view are: (position along the time line in [0, 1], height) by row, from above."""
    pixels = np.asarray(picture)
    rows = []
    for colour in MARKS:
        found = (pixels == colour).all(-1)
        inside = np.flatnonzero(found.any(1))
        if not len(inside):
            continue
        for part in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1):
            columns = np.flatnonzero(found[part].any(0))
            starts = columns[np.flatnonzero(np.diff(columns, prepend=-9) > 1)]
            heights = [int(found[part][:, x].sum()) for x in starts]
            rows.append((int(part[-1]), [(x - MARGIN - _SIDE) / _WIDTH for x in starts], heights))
    return [(shares, heights) for _, shares, heights in sorted(rows)]


def test_marks_are_where_the_frames_are(numbered_manifest):
    """Each view's frames, read off the picture, are the plan's; those taken twice have higher marks."""
    sampler = dv.MultiClip(dv.ClipSampling(6, 3), 4)
    picture = timeline_picture(numbered_manifest, sampler, [5])
    plan = dv.draw_plan(numbered_manifest, dv.Recipe(sampler, ()), [5] * 4, views=range(4))
    count = int(numbered_manifest.rows("num_frames", [5])[0])
    rows = marks_of(picture)
    assert len(rows) == 4
    for (shares, heights), frames in zip(rows, plan.frames, strict=True):
        assert (np.rint(np.array(shares) * count) == frames).all() and len(set(heights)) == 1
    twice = marks_of(timeline_picture(numbered_manifest, dv.ClipSampling(200, 1, "first"), [5]))[0]
    assert twice[1][-1] > twice[1][0]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ClipSampling()", dv.ClipSampling()),
        ("ClipSampling(8, (1, 3))", dv.ClipSampling(8, (1, 3))),
        ("dv.MultiClip(dv.ClipSampling(16, stride=4), 10)", dv.MultiClip(dv.ClipSampling(16, 4), 10)),
        (repr(dv.SegmentSampling(8, (0.5, 0.0))), dv.SegmentSampling(8, (0.5, 0.0))),
    ],
)
def test_samplers_are_read_as_they_are_written_in_python(text, expected):
    assert named_sampler(text) == expected


@pytest.mark.parametrize(
    "text", ["ClipSampling(0)", "ClipSampling(8", "Clip(8)", "8", "__import__('os').getcwd()", "Resize(8)",
             "ClipSampling(1,2,3,4,5,6,7,8,9,10)", "ClipSampling(8, num_frames=8)", "ClipSampling(), ops=(Resize(8),)"],
)  # fmt: skip
def test_what_is_no_sampler_is_refused(text):
    with pytest.raises(ValueError, match="^--sampling: .*samplers are ClipSampling, SegmentSampling"):
        named_sampler(text)


def test_preview_of_a_video_and_of_rows(numbered, tmp_path, capsys):
    out = tmp_path / "a.png"
    video = str(sorted((numbered / "even").iterdir())[0])
    assert main(["preview", video, "--sampling", "MultiClip(ClipSampling(4, 2), 10)", "-o", str(out)]) == 0
    one = Image.open(out).copy()
    options = ["--samples", "2", "3", "--num-clips", "4", "-o", str(out)]
    assert main(["preview", str(numbered), "--sampling", "MultiClip(ClipSampling(4, 2), 10)", *options]) == 0
    assert len(marks_of(one)) == 10 and len(marks_of(Image.open(out))) == 8
    assert main(["preview", str(numbered), "--sampling", "ClipSampling()", "--samples", "99", "-o", str(out)]) == 2
    assert "--samples: there is no row 99" in capsys.readouterr().err
    assert main(["preview", str(numbered), "--sampling", "KeyframeClip(8, column='when')", "-o", str(out)]) == 1
    assert "no column 'when'" in capsys.readouterr().err
    assert main(["preview", str(numbered), "--sampling", "ClipSampling()", "--recipe", "mix"]) == 2
    assert "--sampling: --recipe cannot be given" in capsys.readouterr().err
    assert main(["preview", "--sampling", "ClipSampling()"]) == 2


def strip_of(picture, number, count):
    """Frames (F, 96, 160, 3) of a strip of a picture of ops on time, at their own size."""
    top = MARGIN + number * (LINE + 96 + MARGIN) + LINE
    lefts = [SIDE + MARGIN + i * (160 + GAP) for i in range(count)]
    return np.stack([np.asarray(picture)[top : top + 96, left : left + 160] for left in lefts])


@pytest.mark.parametrize("count, length, clip", [(8, 16, range(0, 16, 2)), (4, 40, range(0, 40, 13)), (8, 3, range(3))])
def test_ops_on_time_show_the_frames_that_they_take(count, length, clip):
    """Read off the frames themselves; the blend of a speed ramp is between its neighbours."""
    video = np.stack([numbered_frame(i) for i in range(length)])
    picture = time_picture(time_ops("all"), video, num_frames=count)
    shown = [strip_of(picture, i, len(clip)) for i in range(7)]
    assert picture.height == MARGIN + 7 * (LINE + 96 + MARGIN)
    clip, half = list(clip), len(clip) // 2
    assert shown_numbers(shown[0]) == clip and shown_numbers(shown[1]) == clip[::-1]
    assert (shown[2][[0, -1]] == video[[clip[0], clip[-1]]]).all() and (shown[2][1:-1] != shown[0][1:-1]).any()
    assert shown_numbers(shown[3]) != clip and set(shown_numbers(shown[3])) <= set(clip)
    moved = np.subtract(shown_numbers(shown[4]), clip)
    assert (0 <= moved).all() and (moved < max(clip[1], 1)).all() and moved.any() == (clip[1] > 1)
    held = shown_numbers(shown[5])
    assert held != clip and all(b in (a, frame) for a, b, frame in zip(held, held[1:], clip[1:], strict=False))
    halves = (clip[: half + len(clip) % 2] + clip[:half], clip[len(clip) - half :] + clip[half:])
    assert shown_numbers(shown[6]) in halves


def test_preview_draws_ops_on_time(tmp_path, numbered):
    video = str(next((numbered / "even").glob("*.mp4")))
    for words, strips in (["--time", "all"], 7), (["--time", "speedramp", "--video", video], 2):
        assert main(["preview", *words, "-o", str(tmp_path / "x.png")]) == 0
        with Image.open(tmp_path / "x.png") as picture:
            assert picture.height == MARGIN + strips * (LINE + 96 + MARGIN)


def test_every_op_on_time_has_a_picture():
    """But the one that only says how positions are shown."""
    ops = [getattr(dv, name) for name in dv.__all__ if hasattr(getattr(dv, name), "retime")]
    assert {type(op) for op in time_ops("all")} == set(ops) - {dv.FrameInterpolation}
