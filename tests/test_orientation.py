"""Display matrices: every frame is shown as the matrix says, if it is one of the eight orientations."""

import itertools

import numpy as np
import pytest
from check_faults import BORDER, as_video, box_of, crop_row, differs
from dirty import ENCODINGS, edit_boxes, encode, picture, read_coded, set_matrix, write_coded
from full_decode import full_decode, orient

from dali_vidaug.media.decode import decode
from dali_vidaug.media.measure import measure

ORIENTATIONS = {
    "as stored": (1, 0, 0, 1), "turned by 90": (0, 1, -1, 0), "turned by 180": (-1, 0, 0, -1),
    "turned by 270": (0, -1, 1, 0), "mirrored left to right": (-1, 0, 0, 1), "mirrored top to bottom": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0), "transposed the other way": (0, -1, -1, 0),
}  # fmt: skip
OTHERS = {
    "turned by 45": (0.7071, 0.7071, -0.7071, 0.7071), "turned by 128": (-0.6157, 0.788, -0.788, -0.6157),
    "turned by 10": (0.9848, 0.1736, -0.1736, 0.9848), "zeros": (0, 0, 0, 0), "sheared": (1, 0.5, 0, 1),
    "of rank one": (1, 1, 1, 1),
}  # fmt: skip
FILES = [("h264", "mp4"), ("h264", "mov"), ("hevc", "mp4"), ("mpeg4", "mp4"), ("mjpeg", "mov"), ("vp9", "mp4"),
         ("prores", "mov"), ("av1", "mp4"), ("h263", "mov"), ("h264_tff", "mov")]  # fmt: skip
FRAMES = np.array([0, 13, 39, 5])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A function that gives a file without a matrix and its frames, made once."""
    folder, made = tmp_path_factory.mktemp("bases"), {}

    def get(name, container):
        if (name, container) not in made:
            path = encode(folder / name / f"v.{container}", ENCODINGS[name])
            made[name, container] = path, full_decode(path)
        return made[name, container]

    return get


def by_hand(stored, a, b, c, d):
    """ISO/IEC 14496-12, 6.2.2: the centre of each pixel (x, y) goes to (a x + c y + tx, b x + d y + ty)."""
    height, width = stored.shape[:2]
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    shown = np.zeros((int(to_y.max()) + 1, int(to_x.max()) + 1, 3), np.uint8)
    shown[to_y, to_x] = stored
    return shown


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_oracle_turns_as_the_standard_says(name):
    stored = picture(3)
    assert (orient(stored, ORIENTATIONS[name]) == by_hand(stored, *ORIENTATIONS[name])).all()


def test_the_orientations_differ():
    shown = [orient(picture(3), matrix) for matrix in ORIENTATIONS.values()]
    assert all(differs(a, b) for a, b in itertools.combinations(shown, 2))


def check_shown(path, expected, deep=False):
    """A file's frames are the expected ones, whole, and cut out of what is shown."""
    row = measure(path, deep)
    assert "error" not in row, row
    video = as_video(path, row)
    assert video.num_frames == len(expected) and video.shown_size == expected[0].shape[:2]
    whole = decode(video, FRAMES).pixels
    for frame, index in zip(whole, FRAMES.tolist(), strict=True):
        assert not differs(frame, expected[index]), f"frame {index}"
    for seed in range(3):
        top, left, bottom, right = box = box_of(*video.shown_size, np.random.default_rng(seed))
        for frame, index in zip(decode(video, FRAMES, (crop_row(box),)).pixels, FRAMES.tolist(), strict=True):
            assert not differs(frame, expected[index][top:bottom, left:right], BORDER), f"frame {index}, box {box}"


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("codec, container", FILES, ids=lambda value: value)
def test_the_eight_orientations(codec, container, name, base, tmp_path):
    path, full = base(codec, container)
    target = edit_boxes(path, lambda boxes: set_matrix(boxes, *ORIENTATIONS[name]), tmp_path / path.name)
    expected = [by_hand(frame, *ORIENTATIONS[name]) for frame in full.frames]
    check_shown(target, expected, deep=codec == "h264")


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("codec, container", [("h264", "mp4"), ("mpeg4", "mov")])
def test_anything_else_is_shown_as_stored(codec, container, name, base, tmp_path):
    path, full = base(codec, container)
    target = edit_boxes(path, lambda boxes: set_matrix(boxes, *OTHERS[name]), tmp_path / path.name)
    check_shown(target, full.frames)


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("codec, container", [("h264", "mkv"), ("vp9", "webm")])
def test_matroska(codec, container, name, base, tmp_path):
    """It keeps angles, not a matrix: what FFmpeg makes of them is right."""
    path, _ = base(codec, container)
    a, b, c, d = (65536 * v for v in ORIENTATIONS[name])
    matrix = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target = write_coded(tmp_path / path.name, path, read_coded(path)[0], matrix=matrix)
    full = full_decode(target)
    if name.startswith("turned"):
        assert full.matrix == ORIENTATIONS[name]
    check_shown(target, [full.shown(i) for i in range(full.num_frames)])
