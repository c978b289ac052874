"""Files of boxes that are easily taken for something else: each with what it says, worked out by hand."""

import json

import numpy as np
import pytest
from test_box_files import annotation, at, coco, one, said, write
from test_box_rows import table_of, with_boxes
from test_manifest import make_manifest

from dali_vidaug.data.boxes import boxes_at

BOX = (0, 0, 10, 10)


def moved(x):
    return (float(x), 0.0, x + 10.0, 10.0)


def track(*keys):
    """A table of one track: (frame, x or None, label, outside) of boxes of 10 x 10."""
    rows = []
    for frame, x, label, outside in keys:
        rows.append(("a.mp4", frame, (None,) * 4 if x is None else moved(x), label, 1, outside))
    return table_of(rows)


# ---- Labels of a track


@pytest.mark.parametrize("label", [None, "car", "dog"])
def test_outside_is_of_the_track_whatever_its_label(label):
    """The box moves to where the track would be, and no other label of it stays."""
    rows = [(0, 0, "car", False), (0, 0, "dog", False), (10, 100, label, True), (20, 7, "dog", False)]
    manifest = with_boxes(one(), track(*rows))
    assert at(manifest, 5) == {("car", 1): moved(50), ("dog", 1): moved(50)}
    assert at(manifest, 9) == {("car", 1): moved(90), ("dog", 1): moved(90)}
    assert not at(manifest, 10) and not at(manifest, 15) and at(manifest, 20) == {("dog", 1): moved(7)}
    still = with_boxes(one(), track(*rows[:2], (10, None, label, True)))
    assert at(still, 9) == {("car", 1): moved(0), ("dog", 1): moved(0)} and not at(still, 10)


def test_outside_with_a_place_and_without():
    """Two rows say the same; two places, or a box in that frame, do not."""
    both = track((0, 0, "a", False), (10, None, "a", True), (10, 20, None, True))
    assert at(with_boxes(one(), both), 5) == {("a", 1): moved(10)}
    two, gone = "has two boxes", "has a box and is outside"
    for other, what in (((10, 30, "a", True), two), ((10, 20, "b", False), gone), ((10, 30, "b", False), gone)):
        with pytest.raises(ValueError, match=rf"row 1 and 2: track 1 {what} in one frame"):
            with_boxes(one(), track((0, 0, "a", False), (10, 20, None, True), other))


def test_a_label_that_changes():
    """The label of a key frame holds until the next one, to which the box moves: of a tracker, and of an action."""
    manifest = with_boxes(one(), track((0, 0, "walk", False), (10, 100, "run", False), (20, 120, "run", False)))
    assert at(manifest, 0) == {("walk", 1): moved(0)} and at(manifest, 9) == {("walk", 1): moved(90)}
    assert at(manifest, 10) == {("run", 1): moved(100)} and at(manifest, 15) == {("run", 1): moved(110)}
    assert at(manifest, 20) == {("run", 1): moved(120)} and not at(manifest, 21)
    three = with_boxes(one(), track((0, 0, "d", False), (10, 40, "e", False), (20, 0, "d", False)))
    assert [at(three, i) for i in (5, 10, 15, 20)] == [
        {("d", 1): moved(20)}, {("e", 1): moved(40)}, {("e", 1): moved(20)}, {("d", 1): moved(0)},
    ]  # fmt: skip


def test_labels_of_each_frame_need_no_more_keys():
    """The column has the boxes alone, if each frame has one with a label of its own."""
    rows = [(i, 2 * i, "abc"[i % 3], False) for i in range(50)]
    manifest = with_boxes(one(), track(*rows))
    assert len(manifest.rows("boxes")[0]) == 50
    assert [at(manifest, i) for i in range(50)] == [{("abc"[i % 3], 1): moved(2 * i)} for i in range(50)]
    assert not at(manifest, 4.5) and at(with_boxes(one(), track(*rows[::3])), 4.5) == {("a", 1): moved(9)}


def test_a_label_that_goes_and_comes_back():
    """A box is in one place: at 10 it has one label, and so it has until 20."""
    rows = [(0, 0, "a", False), (0, 0, "b", False), (10, 60, "a", False), (20, 20, "a", False), (20, 20, "b", False)]
    manifest = with_boxes(one(), track(*rows))
    assert at(manifest, 5) == {("a", 1): moved(30), ("b", 1): moved(30)}
    assert at(manifest, 10) == {("a", 1): moved(60)} and at(manifest, 15) == {("a", 1): moved(40)}
    assert at(manifest, 20) == {("a", 1): moved(20), ("b", 1): moved(20)}
    assert at(with_boxes(one(), track((0, 0, None, False), (10, 60, "a", False))), 5) == {(None, 1): moved(30)}


def test_labels_that_change_in_coco_and_mot(tmp_path):
    """Between images that follow each other in the file, and between its nearest frames: as in a table."""
    images = [{"id": i, "frame_id": 10 * i, "file_name": f"a/{i}.jpg"} for i in range(4)]
    boxes = [annotation(i, i, 9 if i % 2 else 4, (40 * (i % 2), 0, 10, 10), track_id=5) for i in (0, 1, 3)]
    manifest = with_boxes(one(), write(tmp_path, "a.json", coco(images=images, annotations=boxes)))
    assert at(manifest, 5) == {("cat", 5): moved(20)} and at(manifest, 10) == {("dog", 5): moved(40)}
    assert not at(manifest, 11) and at(manifest, 30) == {("dog", 5): moved(40)}
    lines = [f"{frame},3,{x + 1},1,10,10,1,{kind},1" for frame, x, kind in ((1, 0, 1), (6, 50, 3), (11, 0, 1))]
    manifest = with_boxes(one(), write(tmp_path, "a.txt", "\n".join(lines)))
    assert at(manifest, 4) == {("pedestrian", 3): moved(40)} and at(manifest, 6) == {("car", 3): moved(40)}
    assert at(manifest, 10) == {("pedestrian", 3): moved(0)}
    assert "nearer: 2 (the first: " in said(manifest, "move over frames")


# ---- Numbers of tracks


@pytest.mark.parametrize(
    "tracks, expected",
    [
        (["7", "07"], [1, 0]),
        (["a", "-1"], [0, -1]),
        (["7", "-1"], [7, -1]),
        (["7.0", "-1.0"], [7, -1]),
        ([7.0, float("nan")], [7, -1]),
        ([7, -1], [7, -1]),
        (["7", None], [7, -1]),
        (["7.0", "x"], [0, 1]),
        (["+7", "7"], [0, 1]),
        ([str(2**70), "1"], [1, 0]),
    ],
)
def test_numbers_of_tracks(tmp_path, tracks, expected):
    """In memory, and in a CSV file, of which the floating-point numbers are those of pandas."""
    columns = {"path": ["a"] * 2, "frame": [0, 0], "x1": [0, 1], "y1": [0, 1], "x2": [9, 9], "y2": [9, 9]}
    lines = [f"a,0,{i},{i},9,9,{'' if track is None else track}" for i, track in enumerate(tracks)]
    text = "\n".join(["path,frame,x1,y1,x2,y2,track", *lines]).replace("nan", "")
    for boxes in ({**columns, "track": tracks}, write(tmp_path, "t.csv", text)):
        found = boxes_at(with_boxes(one(), boxes), [0], [[0]])
        assert [found.track[found.xyxy[:, 0] == i].tolist() for i in (0, 1)] == [[number] for number in expected]


def test_large_numbers_of_tracks_are_told_apart():
    """As hashes are: two that are the same as floating-point numbers, with the same box."""
    one_track, other = 2**59, 2**59 + 1
    rows = [("a.mp4", frame, BOX, "x", number, False) for frame in (0, 10) for number in (one_track, other)]
    manifest = with_boxes(one(), table_of(rows))
    assert set(at(manifest, 5)) == {("x", one_track), ("x", other)}
    assert not any("twice" in text for text in manifest.remarks)


def test_negative_tracks_and_labels(tmp_path):
    """-1 is none, others are a mistake, in every format."""
    files = [
        write(tmp_path, "t.csv", "path,frame,x1,y1,x2,y2,track\na,0,0,0,9,9,1\na,0,0,0,9,9,{}\n"),
        write(tmp_path, "a.txt", "1,1,1,1,9,9\n1,{},1,1,9,9\n"),
        write(tmp_path, "ava.csv", "a,1,0,0,1,1,12,3\na,1,0,0,1,1,12,{}\n"),
        write(tmp_path, "a.json", coco(annotations=[annotation(1, track_id=5), annotation(2, track_id="{}")])),
    ]
    for path, place in zip(files, ("line 3", "line 2", "line 2", "annotation 1"), strict=True):
        text = path.read_text()
        path.write_text(text.replace("{}", "-1"))
        assert -1 in boxes_at(with_boxes(one(), path), [0], [range(50)]).track
        path.write_text(text.replace("{}", "-7"))
        with pytest.raises(ValueError, match=rf"{path.name}, {place}: track must not be negative, except -1.*got -7"):
            with_boxes(one(), path)
    table = {"path": ["a"] * 2, "frame": [0, 1], "x1": [0] * 2, "y1": [0] * 2, "x2": [9] * 2, "y2": [9] * 2}
    with pytest.raises(ValueError, match=r"row 1: label must be text, or a number from 0 on, or -1 for none, got -2"):
        with_boxes(one(), {**table, "label": [3, -2]})
    assert with_boxes(one(), {**table, "label": ["1.0", "-1.0"]}).box_classes == ("0", "1")
    assert with_boxes(one(), {**table, "label": ["1.0", "1.5"]}).box_classes == ("1.0", "1.5")


# ---- Numbers of frames


def test_frame_ids_that_begin_with_1(tmp_path):
    """As many as the video has frames: in order. Fewer: it must be said; the first frames, or the second half of it."""

    def ids(numbers, first_frame=None):
        images = [{"id": i, "frame_id": number, "file_name": f"a/{i:06}.jpg"} for i, number in enumerate(numbers)]
        path = write(tmp_path, "a.json", coco(images=images, annotations=[annotation(1, 2, track_id=1)]))
        return with_boxes(one(), path, first_frame=first_frame)

    whole = ids(range(1, 51))
    assert at(whole, 2) and not at(whole, 3) and "in order: 1 (the first: a.mp4)" in said(whole, "in order")
    with pytest.raises(ValueError, match=r"numbered from 1, and are 25 of its 50 frames.*boxes_first_frame="):
        ids(range(1, 26))
    assert at(ids(range(1, 26), 1), 2) and at(ids(range(25)), 2) and at(ids(range(25), 0), 2)
    assert at(ids(range(0, 50, 7)), 14)


@pytest.mark.parametrize("names", [range(0, 125, 5), range(25, 50), range(301, 326), [*range(24), 77]])
def test_frame_ids_that_are_not_those_of_names(tmp_path, names):
    """Every fifth frame, or the second half of a video, numbered anew by a converter: it must be said which it is."""

    def read(first, videos=None, first_frame=None, numbered=True):
        ids = [{"frame_id": i + first} if numbered else {} for i in range(25)]
        images = [{"id": i, "file_name": f"a/{k:06}.jpg", **ids[i]} for i, k in enumerate(names)]
        path = write(tmp_path, "a.json", coco(images=images, annotations=[annotation(1, 2)]))
        return with_boxes(videos or one(num_frames=400, last_frame=400), path, first_frame=first_frame)

    for first in (0, 1):
        with pytest.raises(ValueError, match=r"a.json: image \d+ has frame_id \d+ and the name a/.*first_frame="):
            read(first)
        assert at(read(first, first_frame=first), 2) and at(read(first, one(num_frames=25, last_frame=25)), 2)
    assert at(read(0, first_frame=0, numbered=False), names[2])
    images = [{"id": i, "frame_id": 16 * i, "file_name": f"a/{k:06}.jpg"} for i, k in enumerate(names)]
    path = write(tmp_path, "a.json", coco(images=images, annotations=[annotation(1, 2)]))
    assert at(with_boxes(one(num_frames=400, last_frame=400), path), 32)  # nobody makes up such numbers


def test_the_first_frame_that_is_given(tmp_path):
    """It counts also for as many images as frames, and not for seconds."""
    images = [{"id": i, "file_name": f"a/{i + 1}.jpg"} for i in range(50)]
    path = write(tmp_path, "a.json", coco(images=images, annotations=[annotation(1, 2), annotation(2, 49)]))
    ordered, given = with_boxes(one(), path), with_boxes(one(), path, first_frame=0)
    assert at(ordered, 2) and at(ordered, 49) and at(given, 3) and not at(given, 2)
    assert ": 1 (" in said(given, "after the last") and not any("in order" in text for text in given.remarks)
    mot = write(tmp_path, "a.txt", "0,1,1,1,9,9\n3,1,1,1,9,9\n")
    assert at(with_boxes(one(), mot, first_frame=0), 3) and at(with_boxes(one(), mot, first_frame=0), 0)
    table = {"path": ["a"], "seconds": [1], "x1": [0], "y1": [0], "x2": [9], "y2": [9]}
    for boxes in (table, write(tmp_path, "ava.csv", "a,1,0,0,1,1,12,3\n")):
        with pytest.raises(ValueError, match=r"boxes_first_frame is for frames that have numbers; this file has sec"):
            with_boxes(one(), boxes, first_frame=0)


def test_mot_rows_that_are_not_for_use(tmp_path):
    """Their frames are annotated: nothing moves across them, and a number before the first frame is wrong."""
    lines = ["1,7,1,1,10,10,1,1,1", *(f"{i},7,1,1,10,10,0,1,1" for i in range(2, 11)), "11,7,101,1,10,10,1,1,1"]
    manifest = with_boxes(one(), write(tmp_path, "a.txt", "\n".join(lines)))
    assert at(manifest, 0) == {("pedestrian", 7): moved(0)} and at(manifest, 10) == {("pedestrian", 7): moved(100)}
    assert not any(at(manifest, i) for i in range(1, 10)) and not any("nearer" in text for text in manifest.remarks)
    apart = with_boxes(one(), write(tmp_path, "a.txt", "\n".join((lines[0], lines[-1]))))
    assert at(apart, 5) == {("pedestrian", 7): moved(50)} and "nearer: 1 (" in said(apart, "nearer")
    with pytest.raises(ValueError, match=r"a.txt: the first frame has number 1, got 0; boxes_first_frame="):
        with_boxes(one(), write(tmp_path, "a.txt", "0,7,1,1,10,10,0,1,1\n" + lines[0]))


def test_another_number_of_frames_is_told(tmp_path):
    """What YouTube-VIS calls its length, and MOT's seqinfo.ini."""
    lists = [{"id": 1, "video_id": 1, "category_id": 9, "bboxes": [[1, 2, 3, 4]] + [None] * 24}]
    data = {"videos": [{"id": 1, "name": "a", "length": 25}], "annotations": lists}
    path = write(tmp_path, "y.json", json.dumps({**data, "categories": [{"id": 9, "name": "dog"}]}))
    assert said(with_boxes(one(), path), "another number").endswith(": 1 (the first: a.mp4: 50, not 25)")
    whole = with_boxes(one(num_frames=25, last_frame=25), path)
    assert at(whole, 0) and not any("another number" in text for text in whole.remarks)
    mot = write(tmp_path, "a/gt/gt.txt", "1,1,1,1,60,60,1,1,1\n")
    ini = "[Sequence]\nimWidth=160\nimHeight=96\nseqLength={}\n"
    write(tmp_path, "a/seqinfo.ini", ini.format(600))
    assert said(with_boxes(one(), mot), "another number").endswith(": 1 (the first: a.mp4: 50, not 600)")
    write(tmp_path, "a/seqinfo.ini", ini.format(50))
    assert not any("another number" in text for text in with_boxes(one(), mot).remarks)
    write(tmp_path, "a/seqinfo.ini", ini.format("many"))
    with pytest.raises(ValueError, match="gt.txt: seqLength of seqinfo.ini must be a number, got 'many'"):
        with_boxes(one(), mot)


# ---- Images of several videos


@pytest.mark.parametrize(
    "images, message",
    [
        ([{"file_name": "v1_0000.jpg"}, {"file_name": "v2_0000.jpg"}], r"names as 'v1_\*' and names as 'v2_\*'; if"),
        ([{"file_name": "a/0000_v0.jpg"}, {"file_name": "a/0001_v0.jpg"}], r"image 1: .*'0000_v\*' and .*'0001_v\*'"),
        ([{"file_name": "0.jpg"}, {"file_name": "0.png"}], r"image 1: frame 0 of video a or .* is there twice"),
        ([{"file_name": "x.jpg", "frame_id": 4}] * 2, r"image 1: frame 4 of video a or .* is there twice"),
        ([{"file_name": "a/0.jpg"}, {"file_name": "a/1.jpg", "frame_id": 1}], r"names as '\*' and numbers of frames"),
        ([{"file_name": "0.jpg", "video_id": 1}, {"file_name": "1.jpg", "video_id": 2}], r"got nothing for 1 and 2"),
        ([{"file_name": "a/0.jpg", "video_id": 1}, {"file_name": "b/1.jpg", "video_id": 1}], r"video 1 has no name"),
    ],
)  # fmt: skip
def test_images_that_may_be_of_several_videos(tmp_path, images, message):
    listed = [{"id": i, **image} for i, image in enumerate(images)]
    text = coco(images=listed, videos=[{"id": 1}, {"id": 2}], annotations=[annotation(1, 0)])
    with pytest.raises(ValueError, match=rf"a.json, .*{message}"):
        with_boxes(one(), write(tmp_path, "a.json", text))
    if not any("frame_id" in image or "video_id" in image for image in images):
        names = "".join(f'<image id="{i}" name="{image["file_name"]}"/>' for i, image in enumerate(images))
        with pytest.raises(
            ValueError, match=r"a.xml, line 1: (images of one video must all|frame 0 .* is there twice)"
        ):
            with_boxes(one(), write(tmp_path, "a.xml", f"<annotations>{names}</annotations>"))


def test_videos_without_a_name_are_those_of_the_folders(tmp_path):
    images = [{"id": i, "file_name": f"{'ab'[i]}/0.jpg", "video_id": 5 + i} for i in range(2)]
    boxes = [annotation(i, i, box=(i, 0, 3, 4)) for i in range(2)]
    text = coco(images=images, videos=[{"id": 5}, {"id": 6}], annotations=boxes)
    manifest = with_boxes(make_manifest(["a.mp4", "b.mp4"]), write(tmp_path, "x.json", text))
    assert at(manifest, 0) == {("dog", -1): (0, 0, 3, 4)} and at(manifest, 0, 1) == {("dog", -1): (1, 0, 4, 4)}
    same = [{"id": 5, "name": "a"}, {"id": 6, "name": "a"}]
    with pytest.raises(ValueError, match="image 1: videos must have names that differ, got a for 5 and 6"):
        with_boxes(one(), write(tmp_path, "x.json", coco(images=images, videos=same, annotations=boxes)))


def test_the_id_of_a_task_is_no_name(tmp_path):
    """Task 12 of a file without sources is neither the video 1 nor 2."""
    text = "<annotations><meta><project><tasks><task><id>12</id></task></tasks></project></meta>{}</annotations>"
    body = '<track label="x" task_id="12"><box frame="1" outside="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
    path = write(tmp_path, "export.xml", text.format(body))
    with pytest.raises(ValueError, match=r"none of the videos that have boxes \(export\)"):
        with_boxes(make_manifest(["1.mp4", "2.mp4", "12.mp4"]), path)
    assert at(with_boxes(one("z.mp4"), path), 1) == {("x", 0): (1, 2, 3, 4)}


def test_tasks_of_one_name_are_told(tmp_path):
    """CVAT writes the last part of a video's name: two tasks may be of two videos, or of parts of one."""
    meta = "".join(f"<task><id>{i}</id><source>{'aab'[i]}.mp4</source></task>" for i in range(3))
    body = "".join(
        f'<track label="x" task_id="{i}"><box frame="{i}" outside="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
        for i in range(3)
    )
    text = f"<annotations><meta><project><tasks>{meta}</tasks></project></meta>{body}</annotations>"
    manifest = with_boxes(make_manifest(["a.mp4", "b.mp4"]), write(tmp_path, "p.xml", text))
    assert at(manifest, 0) == {("x", 0): (1, 2, 3, 4)} and at(manifest, 1) == {("x", 1): (1, 2, 3, 4)}
    assert at(manifest, 2, 1) and "(a.mp4): 1 (" in said(manifest, "several tasks")


def test_an_id_of_ava_with_a_dot(tmp_path):
    path = write(tmp_path, "ava.csv", "x.y,1,0,0,1,1,12,3\nx.y,2,,,,,,\nb,1,0,0,0.5,1,12,3\n")
    manifest = with_boxes(make_manifest(["x.mp4", "b.mkv"]), path)
    assert manifest.rows("boxes")[0] is None and at(manifest, 25, 1)
    assert "not scanned: 1, with 1 box (x.y)" in said(manifest, "not scanned")


# ---- Where boxes are


def test_rotated_boxes_of_coco(tmp_path):
    """CVAT's COCO has the box before it is turned: 40 x 4 by a right angle is 4 x 40; of 3:4:5, by hand."""
    turns = [(90, (10, 40, 40, 4), (28, 22, 32, 62)), (0, (10, 40, 40, 4), (10, 40, 50, 44)),
             (53.13010235415598, (40, 40, 20, 10), (40, 34, 60, 56))]  # fmt: skip
    for turn, box, expected in turns:
        boxes = [annotation(1, box=box, attributes={"rotation": turn, "track_id": 3, "occluded": False})]
        found = at(with_boxes(one(), write(tmp_path, "a.json", coco(annotations=boxes))), 0)
        assert found == {("dog", 3): expected}
    text = write(tmp_path, "a.json", coco(annotations=[annotation(1, attributes={"rotation": 90})]))
    assert "used: 1 (" in said(with_boxes(one(), text), "whose hulls")
    text = write(tmp_path, "a.json", coco(annotations=[annotation(1, attributes={"rotation": float("inf")})]))
    with pytest.raises(ValueError, match="a.json, annotation 0: rotation must be a number, got inf"):
        with_boxes(one(), text)


# ---- Boxes that are held


def test_boxes_are_not_held_over_frames_without_any(tmp_path):
    """Frames that were annotated have what the file says of them, and that may be nothing."""
    images = [{"id": i, "frame_id": 10 * i, "file_name": ""} for i in range(3)]
    text = coco(images=images, annotations=[annotation(1, 0)])
    held = with_boxes(one(), write(tmp_path, "a.json", text), hold=1.0)
    assert [bool(at(held, i)) for i in range(50)] == [True] * 5 + [False] * 45
    ava = write(tmp_path, "ava.csv", "a,0.4,0,0,0.5,0.5,1,3\na,0.8,,,,,,\n")
    held = with_boxes(one(), ava, hold=1.0)
    assert [bool(at(held, i)) for i in range(50)] == [True] * 15 + [False] * 35
    assert "rows without a box: 1 (" in said(held, "rows without a box")
    table = table_of([("a.mp4", 10, BOX, "x", -1, False), ("a.mp4", 20, (None,) * 4, None, -1, True)])
    held = with_boxes(one(), table, hold=1.0)
    assert [bool(at(held, i)) for i in range(50)] == [True] * 15 + [False] * 35
    mot = write(tmp_path, "a.txt", "11,-1,1,1,10,10\n21,-1,1,1,10,10,0\n")
    assert [bool(at(with_boxes(one(), mot, hold=1.0), i)) for i in range(50)] == [True] * 15 + [False] * 35
    cvat = '<image id="{}" name="a/{}.jpg">{}</image>'
    body = cvat.format(0, 10, '<box label="x" xtl="0" ytl="0" xbr="9" ybr="9"/>') + cvat.format(1, 20, "")
    path = write(tmp_path, "a.xml", f"<annotations>{cvat.format(2, 0, '')}{body}</annotations>")
    seen = [bool(at(with_boxes(one(), path, hold=1.0), i)) for i in range(50)]
    assert seen == [False] * 5 + [True] * 10 + [False] * 35


def in_all_formats(folder, annotated, full):
    """Files whose frames ``annotated`` have a box without a track, (k, 0, k + 10, 10) in frame k, if in ``full``.

    Each with boxes_first_frame.
    """
    yield (
        table_of([("a.mp4", k, moved(k) if k in full else (None,) * 4, None, -1, k not in full) for k in annotated]),
        None,
    )
    rows = [
        f"a,{k / 25},{k / 160},0,{(k + 10) / 160},{10 / 96},12,3" if k in full else f"a,{k / 25},,,,,,"
        for k in annotated
    ]
    yield write(folder, "ava.csv", "\n".join(rows)), None
    rows = [f"{k + 1},-1,{k + 1},1,10,10,{int(k in full)},1,1" for k in annotated]
    yield write(folder, "a.txt", "\n".join(rows)), None
    images = [{"id": k, "frame_id": k, "file_name": f"a/{k:03}.jpg"} for k in annotated]
    boxes = [annotation(k, k, box=(k, 0, 10, 10)) for k in full]
    yield write(folder, "a.json", coco(images=images, annotations=boxes)), 0
    box = '<box label="x" xtl="{}" ytl="0" xbr="{}" ybr="10"/>'
    names = [f'<image id="{k}" name="a/{k:03}.jpg">{box.format(k, k + 10) * (k in full)}</image>' for k in annotated]
    yield write(folder, "a.xml", f"<annotations>{''.join(names)}</annotations>"), 0


@pytest.mark.parametrize("seed", range(5))
def test_held_boxes_are_those_of_the_nearest_frame_that_was_annotated(tmp_path, seed):
    """At most so many seconds before or after; the later one in the middle between two."""
    rng = np.random.default_rng(seed)
    annotated = sorted(rng.choice(50, rng.integers(2, 9), replace=False).tolist())
    full, hold = rng.permutation(annotated)[1:].tolist(), float(rng.choice([0.09, 0.5, 3.0]))
    nearest = [min(annotated, key=lambda k: (abs(k - i), -k)) for i in range(50)]
    shown = [k in full and (k - i) / 25 <= hold and (i - k) / 25 < hold for i, k in enumerate(nearest)]
    expected = [[moved(k)] if here else [] for k, here in zip(nearest, shown, strict=True)]
    assert any(expected) and not all(expected)
    for boxes, first_frame in in_all_formats(tmp_path, annotated, full):
        manifest = with_boxes(one(), boxes, first_frame=first_frame, hold=hold)
        assert [list(at(manifest, i).values()) for i in range(50)] == expected, boxes


def test_boxes_are_held_by_time_stamps(tmp_path):
    """Frames at 0, 0.1, 0.5, 0.52 and 1.7 s: 0.52 is nearer to 0 than to 1.7, though it is the frame next to that."""
    uneven = one(num_frames=5, last_frame=5, pts=[0, 100, 500, 520, 1700], time_base=0.001, pts_step=None)
    boxes = write(tmp_path, "ava.csv", "a,0,0,0,0.5,1,1,1\na,1.7,0,0,0.5,1,2,1\n")
    assert [list(at(with_boxes(uneven, boxes, hold=9.0), i)) for i in range(5)] == [[("1", 1)]] * 4 + [[("2", 1)]]
    assert [len(at(with_boxes(uneven, boxes, hold=0.51), i)) for i in range(5)] == [1, 1, 1, 0, 1]
    late = write(tmp_path, "ava.csv", "a,1.7,0,0,0.5,1,1,1\na,4.2,,,,,,\n")
    assert [len(at(with_boxes(uneven, late, hold=0.5), i)) for i in range(5)] == [0, 0, 0, 0, 1]


# ---- Labels that are numbers


def test_numbers_beside_names(tmp_path):
    """They are indices of classes that another file declares, if there are so many; else it must be said."""
    (tmp_path / "b").mkdir()
    track_of = '<track label="dog"><box frame="1" outside="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
    names = "<meta><task><labels><label><name>car</name></label><label><name>dog</name></label></labels></task></meta>"
    cvat = write(tmp_path, "b/b.xml", f"<annotations>{names}{track_of}</annotations>")
    table = "path,frame,x1,y1,x2,y2,label\na.mp4,0,0,0,9,9,{}\n"
    videos = make_manifest(["a.mp4", "b.mp4"])
    for label, expected in ((1, "dog"), (0, "car"), ("1.0", "dog"), ("dog", "dog"), ("-1", None)):
        manifest = with_boxes(videos, [cvat, write(tmp_path, "t.csv", table.format(label))])
        assert manifest.box_classes == ("car", "dog") and at(manifest, 1, 1) == {("dog", 0): (1, 2, 3, 4)}
        assert at(manifest, 0) == {(expected, -1): (0, 0, 9, 9)}
    two = [cvat, write(tmp_path, "t.csv", table.format(2))]
    with pytest.raises(ValueError, match=r"t.csv are numbers, up to 2, and others are names \(car, dog\); box"):
        with_boxes(videos, two)
    assert at(with_boxes(videos, two, classes=["car", "dog", "emu"]), 0) == {("emu", -1): (0, 0, 9, 9)}
    ava = write(tmp_path, "ava.csv", "a,1,0,0,1,1,1,3\n")
    with pytest.raises(ValueError, match=r"ava.csv are numbers, up to 1, and others are names"):
        with_boxes(videos, [cvat, ava])
    other = write(tmp_path, "u.csv", table.replace("a.mp4", "b.mp4").format("x"))
    with pytest.raises(ValueError, match=r"t.csv are numbers, up to 2, and others are names \(x\)"):
        with_boxes(videos, [other, write(tmp_path, "t.csv", table.format(2))])
    numbered = write(tmp_path, "c.xml", cvat.read_text().replace("car", "1").replace("dog", "2"))
    with pytest.raises(ValueError, match=r"t.csv are numbers, up to 1, and others are names \(1, 2\)"):
        with_boxes(videos, [numbered, write(tmp_path, "t.csv", table.format(1) + "a.mp4,1,0,0,9,9,0\n")])
    named = make_manifest(["a.mp4", "c.mp4"])
    assert at(with_boxes(named, [numbered, write(tmp_path, "t.csv", table.format(1))]), 0) == {("1", -1): (0, 0, 9, 9)}
    both = with_boxes(videos, write(tmp_path, "t.csv", table.format(2) + "b.mp4,0,0,0,9,9,x\n"))
    assert both.box_classes == ("2", "x")  # in one file they are names


# ---- Seconds


def test_several_seconds_in_one_frame():
    """At 25 frames a second: the one nearest to a frame stays, with all its labels; an end is never lost."""
    rows = [(0.39, 10, "a"), (0.40, 20, "a"), (0.40, 20, "b"), (0.41, 30, "b"), (0.8, 60, "a")]
    table = table_of([("a.mp4", time, moved(x), label, 1, False) for time, x, label in rows])
    table["seconds"] = table.pop("frame")
    manifest = with_boxes(one(), table)
    assert at(manifest, 10) == {("a", 1): moved(20), ("b", 1): moved(20)} and not at(manifest, 9)
    assert at(manifest, 15) == {("a", 1): moved(40), ("b", 1): moved(40)}
    assert at(manifest, 20) == {("a", 1): moved(60)} and ": 2 (the first: the table, row 0)" in said(manifest, "kept")
    for gone, stays in (([0, 1], False), ([1, 0], True), ([0, 1, 0], True), ([1, 1], False)):
        ends = [("a.mp4", 0.4 + 0.005 * i, moved(10), "a", 1, bool(out)) for i, out in enumerate(gone)]
        table = table_of([("a.mp4", 0.0, moved(0), "a", 1, False), *ends, ("a.mp4", 0.8, moved(50), "a", 1, False)])
        table["seconds"] = table.pop("frame")
        manifest = with_boxes(one(), table)
        assert at(manifest, 5) == {("a", 1): moved(5)} and at(manifest, 20) == {("a", 1): moved(50)}
        assert at(manifest, 15) == ({("a", 1): moved(30)} if stays else {})
