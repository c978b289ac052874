"""Boxes as data sets and annotation tools write them: what each format says, and what is wrong with a file."""

import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import _real, write_numbered
from test_box_rows import with_boxes
from test_manifest import make_manifest

import dali_vidaug as dv
from dali_vidaug.commands.cli import main
from dali_vidaug.data.boxes import boxes_at
from dali_vidaug.data.manifest import Manifest

SIZE = (160, 96)  # of the videos of make_manifest, which have 50 frames at 25 frames a second


def one(path="a.mp4", **fields):
    return make_manifest([path], **{name: [value] for name, value in fields.items()})


def at(manifest, frame, sample=0):
    """{(class, track): box} in a frame."""
    found = boxes_at(manifest, [sample], [[frame]])
    names = [manifest.box_classes[i] if i >= 0 else None for i in found.label]
    boxes = [tuple(round(float(side), 3) for side in box) for box in found.xyxy]
    return dict(zip(zip(names, found.track.tolist(), strict=True), boxes, strict=True))


def said(manifest, text):
    """The remark on boxes that has a text."""
    (found,) = [remark for remark in manifest.remarks if remark.startswith("boxes: ") and text in remark]
    return found


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# ---- AVA


def test_ava(tmp_path):
    """Shares of the frame at seconds; a row for each action; persons are tracks; nothing between the seconds."""
    text = (
        "a,0001,0.25,0.5,0.75,1.0,12,3\na,0001,0.25,0.5,0.75,1.0,80,3\na,1.52,0,0,0.5,0.5,12,3\nother,1,0,0,1,1,1,0\n"
    )
    manifest = with_boxes(one(), write(tmp_path, "ava.csv", text))
    box = (40.0, 48.0, 120.0, 96.0)
    assert at(manifest, 25) == {("12", 3): box, ("80", 3): box}
    assert at(manifest, 24) == at(manifest, 26) == at(manifest, 30) == {} and len(at(manifest, 38)) == 1
    assert manifest.box_classes == tuple(map(str, range(81))) and boxes_at(manifest, [0], [[25]]).label.tolist() == [
        12,
        80,
    ]
    assert "read as ava: 3 boxes of 1 video, 1 track" in said(manifest, "ava.csv")
    assert "not scanned: 1, with 1 box (other)" in said(manifest, "not scanned")


def test_ava_held(tmp_path):
    """A box is also in frames near its second, unless another second of the file is nearer."""
    text = "a,0.4,0,0,0.5,0.5,1,3\na,0.8,0.5,0.5,1,1,1,3\na,1.8,0,0,1,1,1,3\n"
    path = write(tmp_path, "ava.csv", text)
    manifest = with_boxes(one(), path, hold=0.2)
    first, second, third = (0.0, 0.0, 80.0, 48.0), (80.0, 48.0, 160.0, 96.0), (0.0, 0.0, 160.0, 96.0)
    seen = [at(manifest, i / 2).get(("1", 3)) for i in range(99)]
    assert seen == [None] * 10 + [first] * 19 + [None] + [second] * 19 + [None] * 31 + [third] * 19
    longer = with_boxes(one(), path, hold=30)
    seen = [at(longer, i).get(("1", 3)) for i in range(50)]
    assert seen == [first] * 15 + [second] * 18 + [third] * 17


def test_ava_of_the_part_from_15_minutes_on(tmp_path):
    """A video that ends before its first second is the part; a whole one is not moved."""
    path = write(tmp_path, "ava.csv", "a,0902,0,0,1,1,1,0\na,0903,0,0,0.5,1,1,0\n")
    part = with_boxes(one(num_frames=901 * 25, last_frame=901 * 25), path)
    assert len(at(part, 50)) == len(at(part, 75)) == 1 and "from 15:00 on: 1 (the first: a.mp4)" in said(part, "15:00")
    whole = with_boxes(one(num_frames=1800 * 25, last_frame=1800 * 25), path)
    assert len(at(whole, 902 * 25)) == len(at(whole, 903 * 25)) == 1 and not at(whole, 50)


def test_ava_classes(tmp_path):
    """A label map has gaps, a list of names counts from 1; persons without an action; scores are no tracks."""
    ava = write(tmp_path, "ava.csv", "a,1,0,0,1,1,80,0\na,1,0,0,1,1,1,0\na,1,0,0.1,1,1,,0.93\n")
    names = write(
        tmp_path,
        "ava.pbtxt",
        'label {\n name: "bend"\n label_id: 1\n}\nlabel { name: "work on \'it\'" label_id: 80 }\n',
    )
    manifest = with_boxes(one(), ava, classes=names)
    assert manifest.box_classes == ("bend", "work on 'it'")
    assert set(at(manifest, 25)) == {("bend", 0), ("work on 'it'", 0), (None, -1)}
    assert "taken for a score" in said(manifest, "score")
    listed = with_boxes(one(), ava, classes=[f"action {i}" for i in range(1, 81)])
    assert set(at(listed, 25)) == {("action 80", 0), ("action 1", 0), (None, -1)}
    with pytest.raises(ValueError, match=r"ava.csv, line 1: label '80' is not among 2 box classes"):
        with_boxes(one(), ava, classes=["x", "y"])


# ---- MOT

MOT = (
    "1,7,11,21,30,40,1,1,1\n2,7,13,21,30,40,1,1,1\n2,8,1,1,10,10,0,1,1\n4,7,21,21,30,40,1,1,0.5\n4,-1,1,1,10,10,1,3,1\n"
)


def test_mot(tmp_path):
    """Frames and pixels count from 1; flags of 0 are left out; a track that is missing in a frame is not there."""
    manifest = with_boxes(one("a.mp4"), write(tmp_path, "a.txt", MOT))
    assert at(manifest, 0) == {("pedestrian", 7): (10.0, 20.0, 40.0, 60.0)}
    assert at(manifest, 0.5) == {("pedestrian", 7): (11.0, 20.0, 41.0, 60.0)}
    assert at(manifest, 2) == {}
    assert at(manifest, 3) == {("pedestrian", 7): (20.0, 20.0, 50.0, 60.0), ("car", -1): (0.0, 0.0, 10.0, 10.0)}
    assert "rows whose flag is 0, left out: 1 (" in said(manifest, "flag is 0")


def test_mot_at_every_fifth_frame(tmp_path):
    text = "".join(f"{frame},1,{frame},1,10,10,1,-1,-1,-1\n" for frame in (1, 6, 11, 21))
    manifest = with_boxes(one(), write(tmp_path, "a.txt", text))
    assert at(manifest, 2) == {(None, 1): (2.0, 0.0, 12.0, 10.0)} and not at(manifest, 12) and not at(manifest, 15)
    assert at(manifest, 20) and not at(manifest, 21)


def test_mot_in_folders(tmp_path):
    """As they are published: a folder for each sequence, with its size; and a file for each."""
    for name, left in (("MOT17-02", 1), ("MOT17-04", 61)):
        write(tmp_path / "mot", f"{name}/gt/gt.txt", f"1,1,{left},1,60,60,1,1,1\n")
        write(tmp_path / "mot", f"{name}/det/det.txt", "1,-1,1,1,60,60,0.9,-1,-1,-1\n")
        write(tmp_path / "mot", f"{name}/seqinfo.ini", "[Sequence]\nname=x\nimWidth=320\nimHeight=192\nseqLength=50\n")
        write(tmp_path / "flat", f"{name}.txt", f"1,1,{left},1,60,60\n")
    videos = make_manifest(["x/MOT17-02.mp4", "x/MOT17-04.mp4"])
    manifest = with_boxes(videos, tmp_path / "mot")
    assert at(manifest, 0) == {("pedestrian", 1): (0.0, 0.0, 30.0, 30.0)}
    assert at(manifest, 0, 1) == {("pedestrian", 1): (30.0, 0.0, 60.0, 30.0)}
    assert "scaled: 2 (the first: x/MOT17-02.mp4: 320x192 to 160x96)" in said(manifest, "scaled")
    flat = with_boxes(videos, tmp_path / "flat")
    assert at(flat, 0, 1) == {(None, 1): (60.0, 0.0, 120.0, 60.0)}
    (tmp_path / "flat" / "labels.txt").write_text("dog\ncat\n")
    (tmp_path / "flat" / "MOT17-02.txt").write_text("1,1,1,1,9,9,1,2,1,7\n")
    manifest = with_boxes(videos, tmp_path / "flat")
    assert at(manifest, 0) == {("cat", 1): (1.0, 1.0, 10.0, 10.0)}  # as CVAT writes them: pixels from 0, frames from 1
    assert "begin at 0, as CVAT writes them: 2 (" in said(manifest, "labels.txt")


# ---- CVAT

TASK = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>5</id> <name>x</name> <size>50</size> <mode>interpolation</mode>
      <labels><label><name>car</name><attributes></attributes></label><label><name>person</name></label></labels>
      <original_size><width>320</width><height>192</height></original_size>
    </task>
    <source>a.mp4</source>
  </meta>
{body}
</annotations>
"""
TRACKS = """  <track id="0" label="person" source="manual">
    <box frame="4" keyframe="1" outside="0" occluded="0" xtl="20.00" ytl="40.00" xbr="60.00" ybr="80.00" z_order="0">
      <attribute name="x">1</attribute>
    </box>
    <box frame="8" keyframe="0" outside="0" occluded="0" xtl="40.00" ytl="40.00" xbr="80.00" ybr="80.00" z_order="0"/>
    <box frame="12" keyframe="1" outside="1" occluded="0" xtl="40.00" ytl="40.00" xbr="80.00" ybr="80.00" z_order="0"/>
    <box frame="20" keyframe="1" outside="0" occluded="1" xtl="0.00" ytl="0.00" xbr="20.00" ybr="20.00" z_order="0"/>
    <box frame="21" keyframe="1" outside="1" occluded="1" xtl="0.00" ytl="0.00" xbr="20.00" ybr="20.00" z_order="0"/>
  </track>
  <track id="1" label="car"><polygon frame="1" points="1,1;2,2;3,3" outside="0"/></track>
  <track id="2" label="car">
    <box frame="30" outside="0" xtl="100" ytl="80" xbr="140" ybr="100" rotation="90.00"/>
  </track>"""


def test_cvat_video(tmp_path):
    """Key frames, `outside` that ends a track and hides it, coordinates of the size when it was annotated."""
    manifest = with_boxes(one(), write(tmp_path, "annotations.xml", TASK.format(body=TRACKS)))
    assert manifest.box_classes == ("car", "person")
    assert at(manifest, 4) == {("person", 0): (10.0, 20.0, 30.0, 40.0)}
    assert at(manifest, 6) == {("person", 0): (15.0, 20.0, 35.0, 40.0)}
    assert at(manifest, 8) == at(manifest, 11) == {("person", 0): (20.0, 20.0, 40.0, 40.0)}
    assert not any(at(manifest, frame) for frame in (0, 3, 11.5, 12, 15, 19, 21, 29, 31))
    leaving = TRACKS.replace(
        'frame="12" keyframe="1" outside="1" occluded="0" xtl="40.00"', 'frame="12" outside="1" xtl="80"'
    )
    moving = with_boxes(one(), write(tmp_path, "moving.xml", TASK.format(body=leaving.replace("80.00", "100.00"))))
    assert at(moving, 10) == {("person", 0): (30.0, 20.0, 50.0, 50.0)} and not at(moving, 12)  # to where it would be
    assert at(manifest, 20) == {("person", 0): (0.0, 0.0, 10.0, 10.0)}
    assert at(manifest, 30) == {("car", 2): (55.0, 35.0, 65.0, 55.0)}  # 40 x 20, turned by a right angle
    assert "(polygon), left out: 1" in said(manifest, "no boxes") and "used: 1 (" in said(manifest, "rotated")


def test_cvat_images(tmp_path):
    """Images of a video task are its frames; without a video, folders are videos."""
    images = """  <image id="{id}" name="{name}" width="320" height="192">
    <box label="car" source="manual" occluded="0" xtl="20.00" ytl="40.00" xbr="60.00" ybr="80.00" z_order="0"></box>
  </image>"""
    text = TASK.format(body=images.format(id=7, name="frame_000007"))
    manifest = with_boxes(one(), write(tmp_path, "x.xml", text))
    assert at(manifest, 7) == {("car", -1): (10.0, 20.0, 30.0, 40.0)} and not at(manifest, 6)
    body = "\n".join(images.format(id=i, name=f"b/img_{i:03}.png") for i in (0, 9))
    manifest = with_boxes(one("b.mp4"), write(tmp_path, "y.xml", f"<annotations>\n{body}\n</annotations>"))
    assert at(manifest, 9) == {("car", -1): (10.0, 20.0, 30.0, 40.0)} and not at(manifest, 8)


def test_cvat_project(tmp_path):
    """Several tasks in one file, each with its video; a file in which tasks cannot be told apart is refused."""
    meta = "".join(f"<task><id>{i}</id><source>{name}.avi</source></task>" for i, name in ((3, "a"), (4, "b")))
    track = '<track label="x"{task}><box frame="1" outside="0" xtl="1" ytl="2" xbr="3" ybr="{y}"/></track>'
    whole = "<annotations><meta><project><id>1</id><tasks>{meta}</tasks></project></meta>{body}</annotations>"
    body = track.format(task=' task_id="4"', y=5) + track.format(task=' task_id="3"', y=6)
    manifest = with_boxes(
        make_manifest(["a.avi", "b.avi"]), write(tmp_path, "p.xml", whole.format(meta=meta, body=body))
    )
    assert at(manifest, 1) == {("x", 1): (1.0, 2.0, 3.0, 6.0)} and at(manifest, 1, 1) == {
        ("x", 0): (1.0, 2.0, 3.0, 5.0)
    }
    path = write(tmp_path, "q.xml", whole.format(meta=meta, body=track.format(task="", y=5)))
    with pytest.raises(ValueError, match=r"q.xml, line 1: task_id must say of which of 2 tasks it is"):
        with_boxes(make_manifest(["a.avi", "b.avi"]), path)


# ---- COCO


def coco(**parts):
    """The text of a file: two images and a category, changed or added to by ``parts``."""
    image = {"width": 160, "height": 96}
    data = {
        "images": [{"id": 1, "file_name": "a/0.jpg", **image}, {"id": 2, "file_name": "a/10.jpg", **image}],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [],
    }
    return json.dumps({**data, **parts})


def annotation(number, image=1, category=9, box=(1, 2, 3, 4), **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": list(box), **more}


def test_coco_images(tmp_path):
    """Classes by id; tracks move between images that follow each other in the file; crowds are left out."""
    images = [{"id": i, "video_id": 6, "frame_id": 5 * i, "file_name": f"x{i}.jpg"} for i in range(4)]
    boxes = [annotation(i, i, 9, (10 * i, 0, 10, 10), instance_id=77) for i in (0, 1, 3)]
    boxes += [annotation(8, 2, 4), annotation(9, 2, iscrowd=1), {"id": 10, "image_id": 2, "category_id": 4}]
    videos = [{"id": 6, "name": "a", "width": 80, "height": 48}]
    manifest = with_boxes(one(), write(tmp_path, "c.json", coco(images=images, annotations=boxes, videos=videos)))
    assert manifest.box_classes == ("cat", "dog")
    assert at(manifest, 2) == {("dog", 77): (8.0, 0.0, 28.0, 20.0)}  # the size of the video is that of its images
    assert not at(manifest, 6) and not at(manifest, 12) and not at(manifest, 16)  # no dog in image 2, at 10
    assert at(manifest, 10) == {("cat", -1): (2.0, 4.0, 8.0, 12.0)} and at(manifest, 15)
    assert "left out: 1 (" in said(manifest, "crowds") and "left out: 1 (" in said(
        manifest, "annotations without a box"
    )


def test_coco_names_of_images(tmp_path):
    """As many images as frames are the frames; else numbers are if they begin with 0; else it must be said."""
    boxes = [annotation(1, 2, attributes={"track_id": 3})]
    assert at(with_boxes(one(), write(tmp_path, "c.json", coco(annotations=boxes))), 10) == {("dog", 3): (1, 2, 4, 6)}

    def images(numbers):
        listed = [{"id": i, "file_name": f"a/img1/{number:06d}.jpg"} for i, number in enumerate(numbers)]
        return write(tmp_path, "c.json", coco(images=listed, annotations=[annotation(1, 2)]))

    manifest = with_boxes(one(), images(range(1, 51)))
    assert at(manifest, 2) and "taken for them in order: 1" in said(manifest, "in order")
    with pytest.raises(
        ValueError, match=r"images of a.mp4 are numbered from 1, and are 20 of its 50 frames.*boxes_first_frame="
    ):
        with_boxes(one(), images(range(1, 21)))
    assert at(with_boxes(one(), images(range(1, 21)), first_frame=1), 2)
    assert at(with_boxes(one(), images(range(1, 21)), first_frame=0), 3)


def test_youtube_vis(tmp_path):
    """A list of boxes a track, null where it is not; every fifth frame of the video."""
    names = [f"a/{number:05d}.jpg" for number in range(0, 25, 5)]
    videos = [{"id": 1, "file_names": names, "width": 320, "height": 192, "length": 5}]
    boxes = [[0, 0, 20, 20], [20, 0, 20, 20], None, None, [0, 0, 40, 40]]
    track = {"id": 5, "video_id": 1, "category_id": 9, "bboxes": boxes, "iscrowd": 0}
    data = {"videos": videos, "annotations": [track], "categories": [{"id": 9, "name": "dog"}]}
    manifest = with_boxes(one(), write(tmp_path, "y.json", json.dumps(data)))
    assert at(manifest, 1) == {("dog", 0): (2.0, 0.0, 12.0, 10.0)} and at(manifest, 5)
    assert not at(manifest, 6) and not at(manifest, 19) and at(manifest, 20) == {("dog", 0): (0.0, 0.0, 20.0, 20.0)}
    short = with_boxes(one(num_frames=5, last_frame=5), write(tmp_path, "y.json", json.dumps(data)))
    assert at(short, 0.5) and at(short, 1) and not at(short, 2) and at(short, 4)


# ---- Tables

TABLE = {
    "path": ["a.mp4"] * 3, "frame": [0, 10, 20], "x1": [1.5, 11.5, 0], "y1": [2, 2, 0], "x2": [5, 15, 9],
    "y2": [9, 9, 9], "track": ["t", "t", None], "label": ["x", "x", None],
}  # fmt: skip


def test_tables(tmp_path):
    """In memory, as Parquet, as CSV: the same."""
    table = pa.table(TABLE)
    pq.write_table(table, tmp_path / "t.parquet")
    lines = [",".join("" if value is None else str(value) for value in row.values()) for row in table.to_pylist()]
    csv = write(tmp_path, "t.csv", "\n".join([",".join(table.column_names), *lines]))
    for boxes in (TABLE, table, tmp_path / "t.parquet", str(csv), [csv]):
        manifest = with_boxes(one(), boxes)
        assert at(manifest, 5) == {("x", 0): (6.5, 2.0, 10.0, 9.0)} and at(manifest, 20) == {(None, -1): (0, 0, 9, 9)}
    seconds = {**TABLE, "seconds": [0, 0.41, 0.79], "score": [1, 1, 1]}
    del seconds["frame"]
    manifest = with_boxes(one(), seconds)
    assert at(manifest, 5) == {("x", 0): (6.5, 2.0, 10.0, 9.0)} and len(at(manifest, 20)) == 1
    assert "columns that are not used (score): 1" in said(manifest, "score")
    numbers = with_boxes(one(), {**TABLE, "label": [3, 3, -1], "track": [10**12, 10**12, -1]})
    assert at(numbers, 0) == {("3", 10**12): (1.5, 2.0, 5.0, 9.0)} and numbers.box_classes == ("0", "1", "2", "3")


class DataFrame:
    """What pandas, polars and others have in common."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.table(TABLE).__arrow_c_stream__(requested_schema)


def test_data_frames():
    assert at(with_boxes(one(), DataFrame()), 5) == {("x", 0): (6.5, 2.0, 10.0, 9.0)}


@pytest.mark.parametrize("orientation, shown", [(1, (40, 48, 80, 72)), (6, (24, 80, 48, 120))])
def test_boxes_are_of_frames_as_shown(tmp_path, orientation, shown):
    """Shares of the frame are of that which is shown, and so are sizes when it was annotated."""
    manifest = with_boxes(one(orientation=orientation), write(tmp_path, "ava.csv", "a,1,0.25,0.5,0.5,0.75,1,1\n"))
    assert at(manifest, 25) == {("1", 1): tuple(map(float, shown))}
    turned = TASK.replace(">320<", ">96<").replace(">192<", ">160<").format(body=TRACKS)
    path = write(tmp_path, "x.xml", turned)
    if orientation == 6:
        assert at(with_boxes(one(orientation=6), path), 4) == {("person", 0): (20.0, 40.0, 60.0, 80.0)}
    else:
        with pytest.raises(ValueError, match="a.mp4 was annotated at 96x160, but is shown at 160x96: it is turned"):
            with_boxes(one(), path)


# ---- All of them


def in_all_formats(folder, tracks, step, first, rng):
    """Files with the same boxes: tracks as {frame: (label, (x, y, w, h))} in whole numbers, in every step-th frame.

    Each with boxes_first_frame: some count from ``first``. All say, as they can, which frames were annotated.
    """
    names = ("pedestrian", "person on vehicle", "car")  # as MOT numbers them
    listed = range(0, 50, step)
    rows = [(frame, t, *box) for t, track in enumerate(tracks) for frame, box in track.items()]
    gone = [(max(track) + 1, t) for t, track in enumerate(tracks)]
    given = first if step > 1 else None  # as many images as frames are these frames
    table = {
        "path": ["a.mp4"] * (len(rows) + len(gone)),
        "frame": [frame for frame, *_ in rows + gone],
        "track": [t for _, t, *_ in rows + gone],
        "label": [names[label] for *_, label, _ in rows] + [names[int(rng.integers(3))] for _ in gone],
        "outside": [False] * len(rows) + [True] * len(gone),
        **{side: [box[i] + (box[i - 2] if i > 1 else 0) for *_, box in rows] + [None] * len(gone)
           for i, side in enumerate(("x1", "y1", "x2", "y2"))},
    }  # fmt: skip
    yield table, None
    lines = [f"{frame + 1},{t},{x + 1},{y + 1},{w},{h},1,{label + 1},1" for frame, t, label, (x, y, w, h) in rows]
    lines += [f"{frame + 1},{rng.integers(9)},1,1,9,9,0,1,1" for frame in listed]  # not for use
    yield write(folder, "mot/a.txt", "\n".join(lines)), None
    lines = [f"{frame + 1},{t},{x},{y},{w},{h},1,{label + 1},1" for frame, t, label, (x, y, w, h) in rows]
    write(folder, "cvat/labels.txt", "\n".join(names))
    lines += [f"{frame + 1},{rng.integers(9)},1,1,9,9,0,1,1" for frame in listed]
    yield write(folder, "cvat/a.txt", "\n".join(lines)), None
    categories = [{"id": 10 + i, "name": name} for i, name in enumerate(names)]
    boxes = [annotation(i, 100 + frame, 10 + label, box, track_id=t) for i, (frame, t, label, box) in enumerate(rows)]
    for number, name in (("frame_id", ""), ("x", "a/img1/{:06}.jpg"), ("x", "{}.png")):
        images = [{"id": 100 + i, number: i + first, "file_name": name.format(i + first)} for i in listed]
        rng.shuffle(images)
        rng.shuffle(boxes)
        text = json.dumps({"images": images, "annotations": boxes, "categories": categories})
        yield write(folder, "a.json", text), given
    if any(len({label for label, _ in track.values()}) > 1 for track in tracks):
        return  # the others have one label for each track
    body = ""
    for t, track in enumerate(tracks):
        body += f'<track id="{t}" label="{names[min(track.values())[0]]}">\n'
        for frame, (_, (x, y, w, h)) in (*track.items(), (max(track) + 1, (0, (0, 0, 9, 9)))):
            corners = f'xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"'
            body += f'<box frame="{frame}" outside="{int(frame not in track)}" {corners}/>\n'
        body += "</track>\n"
    yield write(folder, "a.xml", f"<annotations>\n{body}</annotations>"), None
    lists = [
        {"id": t, "video_id": 1, "category_id": 10 + min(track.values())[0],
         "bboxes": [track[frame][1] if frame in track else None for frame in listed]}
        for t, track in enumerate(tracks)
    ]  # fmt: skip
    videos = [{"id": 1, "file_names": [f"a/{i + first:05}.jpg" for i in listed], "length": len(listed)}]
    text = json.dumps({"videos": videos, "annotations": lists, "categories": categories})
    yield write(folder, "b.json", text), given


@pytest.mark.parametrize("changing", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_all_formats_say_the_same(tmp_path, seed, changing):
    """Random tracks in a run of annotated frames each: of every format the same boxes in all frames and between them,
    and these are what is worked out from the tracks."""
    rng = np.random.default_rng(seed)
    step, first = [(1, 0), (1, 1), (5, 0), (3, 0), (7, 1), (49, 0)][seed]
    tracks = []
    for t in range(rng.integers(1, 6)):
        low, high = sorted(rng.choice(len(range(0, 50, step)) + 1, 2, replace=False).tolist())
        tracks.append(
            {
                step * i: (int(rng.integers(3)) if changing else t % 3,
                           tuple(map(int, (*rng.integers(-5, 90, 2), *rng.integers(1, 60, 2)))))
                for i in range(low, high)
            }
        )  # fmt: skip
    positions = np.concatenate([np.arange(50), rng.uniform(0, 49, 30)])
    results = []
    for boxes, first_frame in in_all_formats(tmp_path, tracks, step, first, rng):
        manifest = with_boxes(one(), boxes, classes=["pedestrian", "person on vehicle", "car"], first_frame=first_frame)
        results.append(boxes_at(manifest, [0], positions[None]))
    assert len(results) >= 6
    whole = {}
    for t, track in enumerate(tracks):
        for frame in range(50):
            before, after = frame // step * step, -(-frame // step) * step
            if before in track and after in track:
                (label, here), (_, there) = track[before], track[after]
                share = (frame - before) / step
                x, y, w, h = (
                    one_side + share * (other - one_side) for one_side, other in zip(here, there, strict=True)
                )
                whole[frame, t, label] = (x, y, x + w, y + h)
    for found in results:
        for column, other in zip(found, results[0], strict=True):
            np.testing.assert_array_equal(column, other)
    here = results[0].rows(results[0].frame < 50)
    keys = zip(here.frame.tolist(), here.track.tolist(), here.label.tolist(), strict=True)
    mine = dict(zip(keys, here.xyxy, strict=True))
    assert mine.keys() == whole.keys()
    for key, box in whole.items():
        np.testing.assert_allclose(mine[key], box, atol=1e-4)


# ---- What is wrong


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.txt", "1,1,1,1,9,9\n2,1,x,1,9,9\n", r"a.txt, line 2: left must be a number, got 'x'"),
        ("a.txt", "1,1,1,1,9,nan\n", r"a.txt, line 1: height must be a number, got 'nan'"),
        (
            "a.txt",
            "1,1,1,1,9,9\n\n1,2,1,1,-9,9\n",
            r"a.txt, line 3: width and height must not be negative, got -9 and 9",
        ),
        ("a.txt", "0,1,1,1,9,9\n", r"a.txt, line 1: the first frame has number 1, got 0; boxes_first_frame="),
        ("a.txt", "1.5,1,1,1,9,9\n", r"a.txt, line 1: frame must be a whole number, got '1.5'"),
        ("a.txt", "1,1,1,1,9,9\n1,1,2,1,9,9\n", r"a.txt, line 1 and 2: track 1 has two boxes in one frame"),
        ("a.txt", "1,1,1,1,9,9\n2,1,1,1,9\n", r"a.txt, line 2: a row of MOT has .*, got 5 values"),
        ("a.txt", "1,1,1,1,9,9,1,99,1\n", r"a.txt, line 1: class must be 1 to 13, or -1, got 99"),
        ("a.txt", "1 1 1 1 9 9\n", r"a.txt is not AVA CSV, CVAT XML, .*'1 1 1 1 9 9'"),
        (
            "a.csv",
            "a,1,0,0,120,80,1,1\n",
            r"a.csv, line 1: coordinates must be shares of the frame, .*got 0, 0, 120, 80",
        ),
        (
            "a.csv",
            "a,1,0,0,1,1,1,1\na,2,0.5,0,0.4,1,1,1\n",
            r"a.csv, line 2: x1, y1 must not be right of .*got 0.5, 0, 0.4, 1",
        ),
        ("a.csv", "a,1,0,0,1,1,1,1\na,x,0,0,1,1,1,1\n", r"a.csv, line 2: seconds must be a number, got 'x'"),
        ("a.csv", "a,1,0,0,1,1,1,1\na,-3,0,0,1,1,1,1\n", r"a.csv, line 2: seconds must not be negative, got -3"),
        ("a.csv", "a,902\n", r"a.csv is not AVA CSV"),
        ("a.csv", 'a,1,0,0,1,1,1,1\n"a,1\n', r"a.csv cannot be read as CSV"),
        ("a.csv", "path,x1,y1,x2,y2\na,1,1,2,2\n", r"a.csv: a table of boxes must have path, frame or seconds"),
        ("a.csv", "path,frame,x1,y1,x2,y2\na,0,1,1,2,2\na,1,5,1,2,2\n", r"a.csv, line 3: x1, y1 must not be right of"),
        ("a.csv", "path,frame,x1,y1,x2,y2\na,0,1,1,2,inf\n", r"a.csv, line 2: y2 must be a number, got 'inf'"),
        ("a.csv", "path,frame,x1,y1,x2,y2\na,0.5,1,1,2,2\n", r"a.csv, line 2: frames must be whole numbers, got 0.5"),
        ("a.csv", "path,frame,x1,y1,x2,y2\na,,1,1,2,2\n", r"a.csv, line 2: frame must be a number, got nothing"),
        ("a.csv", "path,frame,x1,y1,x2,y2\n,1,1,1,2,2\n", r"a.csv, line 2: path must be a video, got nothing"),
        (
            "a.csv",
            "path,frame,x1,y1,x2,y2,outside\na,1,1,1,2,2,maybe\n",
            r"a.csv, line 2: outside must be true or false",
        ),
        (
            "a.csv",
            "path,frame,x1,y1,x2,y2,track\na,1,1,1,2,2,4\na,1,1,1,2,3,4\n",
            r"line 2 and 3: track 4 has two boxes",
        ),
        ("a.json", '{"images": [],\n "annotations": [,', r"a.json, line 2: not valid JSON"),
        (
            "a.json",
            '{"video": "a", "tubes": []}',
            r"a.json: not of COCO: it must have annotations.*; it has video, tubes",
        ),
        ("a.json", coco(annotations=[annotation(1, 7)]), r"a.json, annotation 0: image_id 7 is not among the images"),
        ("a.json", coco(annotations=[annotation(1, 1, 5)]), r"annotation 0: category_id 5 is not among the categories"),
        (
            "a.json",
            coco(annotations=[annotation(1), annotation(2, box=(1, 2, 3))]),
            r"annotation 1: a box must be left, top",
        ),
        (
            "a.json",
            coco(annotations=[annotation(1, box=(1, 2, None, 3))]),
            r"annotation 0: width must be a number, got None",
        ),
        ("a.json", coco(images=[{"id": 1, "file_name": "a/x.jpg"}]), r"a.json, image 1: it must have frame_index or"),
        ("a.json", coco(images=[{"id": 1}, {"id": 1}]), r"a.json: images has id 1 twice|a.json, image 1"),
        (
            "a.xml",
            "<annotations>\n<track label='x'>\n<box frame='1'/></track></annotations>",
            r"a.xml, line 3: <box> must have xtl",
        ),
        ("a.xml", "<annotations>\n<track label='x'>\n</annotations>", r"a.xml, line 3: not valid XML: mismatched tag"),
        ("a.xml", "<html></html>", r"a.xml: not of CVAT: it begins with <html>"),
        (
            "a.xml",
            TASK.format(body=TRACKS.replace('label="car"', 'label="cow"')),
            r"a.xml, line 23: label 'cow' is not among",
        ),
        (
            "a.xml",
            TASK.format(body=TRACKS.replace('ybr="20.00"', 'ybr="1e9"')),
            r"a.xml, line 18: coordinates must be pixels",
        ),
        (
            "a.xml",
            TASK.format(body=TRACKS.replace('outside="0" xtl', 'outside="no" xtl')),
            r"line 23: outside must be 0 or 1",
        ),
        ("a.xml", TASK.replace(">192<", ">320<").format(body=TRACKS), r"annotated at 320x320, but is shown at 160x96"),
        ("a.bin", "\x7fELF", r"a.bin is not AVA CSV"),
        ("a.csv", "", r"a.csv is not AVA CSV.*the file is empty"),
        (
            "b.txt",
            "1,1,1,1,9,9\n",
            r"none of the videos that have boxes \(b\) is among those that are scanned \(a.mp4, c.mp4\)",
        ),
    ],
)
def test_files_that_are_wrong(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        with_boxes(make_manifest(["a.mp4", "c.mp4"]), write(tmp_path, name, text))


def test_files_that_are_not_there_or_not_what_they_are_said_to_be(tmp_path):
    with pytest.raises(FileNotFoundError, match="boxes: no file or folder .*gone.csv"):
        with_boxes(one(), tmp_path / "gone.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="boxes: no file in .*empty ends in"):
        with_boxes(one(), tmp_path / "empty")
    mot = write(tmp_path, "a.txt", MOT)
    for form, message in (("ava", "a.txt, line 1: a row of AVA has"), ("coco", "line 1: not valid JSON"),
                          ("cvat", "a.txt, line 1: not valid XML"), ("table", "a.txt: a table of boxes must have"),
                          ("yolo", "boxes_format must be ava, cvat, mot, coco, table, or None")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            with_boxes(one(), mot, form)
    with pytest.raises(ValueError, match="boxes must be a file or a table .*got int"):
        with_boxes(one(), 7)
    with pytest.raises(ValueError, match="a.mp4 is in .*a.txt and again in .*gt.txt"):
        with_boxes(one(), [mot, write(tmp_path, "a/gt.txt", MOT)])
    for options, message in (
        ({"hold": -1}, "boxes_hold must be seconds"),
        ({"first_frame": 0.5}, "boxes_first_frame must be"),
        ({"classes": ["x", "x"]}, "box_classes must be names that differ"),
    ):
        with pytest.raises(ValueError, match=message):
            with_boxes(one(), mot, **options)
    with pytest.raises(ValueError, match="are for boxes=, which is missing"):
        dv.scan([mot], boxes_format="mot")


def test_what_is_left_out_is_counted(tmp_path, caplog):
    """Empty boxes are none, and end their track; boxes after the end, outside the frame, or there twice are told."""
    rows = [
        "1,1,1,1,9,9",
        "2,1,5,5,0,9",
        "3,1,1,1,9,9",
        "3,1,1,1,9,9",
        "4,2,-20,1,30,9",
        "4,3,400,1,9,9",
        "51,4,1,1,9,9",
    ]
    with caplog.at_level(logging.WARNING):
        manifest = with_boxes(one(), write(tmp_path, "a.txt", "\n".join(rows)))
    assert at(manifest, 0) and at(manifest, 2) and not at(manifest, 1) and not at(manifest, 0.5)
    assert at(manifest, 3) == {(None, 2): (-21.0, 0.0, 9.0, 9.0), (None, 3): (399.0, 0.0, 408.0, 9.0)}
    for text, line in (
        ("without width", 2),
        ("there twice", 4),
        ("partly outside", 5),
        ("wholly outside", 6),
        ("after the last", 7),
    ):
        assert said(manifest, text).endswith(f": 1 (the first: {tmp_path / 'a.txt'}, line {line})")
        assert said(manifest, text) in caplog.text
    assert len(manifest.rows("boxes")[0]) == 4


# ---- Videos by name


@pytest.mark.parametrize(
    "paths, name, expected",
    [
        (["x/a.mp4", "y/b.mp4"], "a", 0),
        (["x/a.mp4", "y/a.mp4"], "y/a.mp4", 1),
        (["x/a.mp4", "y/a.mp4"], "/data/y/a", 1),
        (["x/a.mp4", "x/a.avi"], "x/a.avi", 1),
        (["a.b.mp4", "a.mp4"], "a.b", 0),
        (["a.mp4", "a.b.mp4"], "a", 0),
        (["clip.mp4", "clip.0002.mp4"], "clip.0002", 1),
        (["clip.mp4", "x.mp4"], "clip.0002", "none of the videos"),
        (["clip.mp4", "x.mp4"], "clip.avi", 0),
        (["clip.mp4", "x.mp4"], "y/clip", 0),
        (["-5KQ66BBWC4.mkv", "x.mp4"], "-5KQ66BBWC4", 0),
        (["x\0e9.mp4", "y.mp4"], "x\udce9", 0),
        (["x/a.mp4", "y/a.mp4"], "a", r"'a' may be any of 2 videos: x/a.mp4, y/a.mp4"),
        (["x/a.mp4", "x/a.avi"], "a", r"'a' may be any of 2"),
        (["x/a.mp4"], "b.mp4", r"none of the videos"),
    ],
)
def test_videos_by_name(tmp_path, paths, name, expected):
    table = {"path": [name.replace("\udce9", "\0e9")], "frame": [0], "x1": [0], "y1": [0], "x2": [9], "y2": [9]}
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            with_boxes(make_manifest(paths), table)
        return
    manifest = with_boxes(make_manifest(paths), table)
    assert [bool(boxes) for boxes in manifest.rows("boxes")] == [i == expected for i in range(len(paths))]
    assert manifest.rows("boxes")[1 - expected] is None


def test_a_video_in_another_folder_is_told():
    table = {"path": ["train/a.mp4"], "frame": [0], "x1": [0], "y1": [0], "x2": [9], "y2": [9]}
    manifest = with_boxes(make_manifest(["val/a.mp4", "b.mp4"]), table)
    assert said(manifest, "in other folders").endswith("1 (train/a.mp4 is val/a.mp4)")
    assert said(manifest, "videos without boxes").endswith("1 (b.mp4)")


# ---- Scans


def test_a_scan_with_boxes(numbered, tmp_path, capsys):
    """Scanned, written, scanned again without measuring; classes of another manifest; the command."""
    boxes = write(
        tmp_path,
        "t.csv",
        "path,frame,x1,y1,x2,y2,label,track\neven/00.mp4,0,1,1,9,9,b,1\neven/00.mp4,9,10,1,18,9,b,1\n",
    )
    output = tmp_path / "m.parquet"
    manifest = dv.scan(numbered, output=output, boxes=boxes, box_classes=["a", "b"], progress=False)
    assert at(manifest, 3) == {("b", 1): (4.0, 1.0, 12.0, 9.0)} and at(Manifest.read(output), 3) == at(manifest, 3)
    assert said(manifest, "read as table").startswith(f"boxes: {boxes}: read as table: 2 boxes of 1 video, 1 track")
    val = dv.scan(numbered, like=output, boxes=boxes, progress=False)
    assert val.box_classes == ("a", "b")
    assert main(["scan", str(numbered), "-o", str(output)]) == 0
    assert (
        f"the boxes that {output} had are not kept" in capsys.readouterr().out and not Manifest.read(output).has_boxes
    )
    assert main(["scan", str(numbered), "-o", str(output), "--boxes", str(boxes), "--boxes-hold", "0.1"]) == 0
    assert "read as table: 2 boxes" in capsys.readouterr().out and at(Manifest.read(output), 3)
    assert main(["scan", str(numbered), "-o", str(output), "--boxes", str(boxes), "--boxes-format", "mot"]) == 1
    assert "t.csv, line 1: frame must be a number, got 'path'" in capsys.readouterr().err


def test_seconds_by_the_time_stamps_of_a_file(tmp_path):
    """Of a file whose frames are not evenly spaced, a second is in the frame that is shown nearest to it."""
    path = write_numbered(tmp_path / "v.mp4", 30)
    manifest = dv.scan([path], progress=False)
    times = [0.0, 0.1, 0.5, 0.52, 1.7]
    table = manifest.table.slice(0, 1).to_pylist()[0]
    table |= {
        "num_frames": 5,
        "last_frame": 5,
        "pts": [round(1000 * t) for t in times],
        "time_base": 0.001,
        "pts_step": None,
    }
    uneven = Manifest(pa.Table.from_pylist([table], manifest.table.schema))
    for second, frame in ((0.04, 0), (0.06, 1), (0.3, 1), (0.31, 2), (0.6, 3), (1.2, 4), (2.8, 4)):
        boxes = {"path": ["v"], "seconds": [second], "x1": [0], "y1": [0], "x2": [1], "y2": [1]}
        assert [i for i in range(5) if at(with_boxes(uneven, boxes), i)] == [frame], second
    assert said(with_boxes(uneven, {**boxes, "seconds": [3.0]}), "after the last")
    rows = {
        "path": ["v"] * 5,
        "seconds": [0.0, 0.01, 0.5, 4.1, 9.7],
        "x1": range(5),
        "y1": [0] * 5,
        "x2": [9] * 5,
        "y2": [9] * 5,
    }
    several = with_boxes(uneven, {**{name: list(column) for name, column in rows.items()}, "track": [1] * 5})
    assert said(several, "in the same frame").endswith(": 1 (the first: the table, row 1)")
    assert ": 2 (" in said(several, "after the last") and at(several, 1) == {(None, 1): (1.0, 0.0, 9.0, 9.0)}


def test_real_boxes(tmp_path):
    """The boxes of a video of UCF101, which come as tubes, as a Parquet table of ours."""
    folder = _real("videos")
    data = json.loads((folder / "v_SoccerJuggling_g23_c01.boxes.json").read_text())
    rows = [
        {"path": data["video"], "frame": tube["start"] + i, "x1": x, "y1": y, "x2": x + w, "y2": y + h,
         "label": data["class"], "track": number}
        for number, tube in enumerate(data["tubes"]) for i, (x, y, w, h) in enumerate(tube["boxes"])
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ucf.parquet")
    manifest = dv.scan(folder / data["video"], boxes=tmp_path / "ucf.parquet", progress=False)
    num_frames = int(manifest.rows("num_frames")[0])
    found = boxes_at(manifest, [0], [np.arange(num_frames)])
    expected = np.array([row[:] for tube in data["tubes"] for row in tube["boxes"]][:num_frames], np.float32)
    expected[:, 2:] += expected[:, :2]
    assert len(data["tubes"]) == 1 and data["tubes"][0]["start"] == 0 and num_frames <= data["num_frames"]
    assert found.frame.tolist() == list(range(num_frames)) and (found.xyxy == expected).all()
    assert set(found.track) == {0} and manifest.box_classes == ("SoccerJuggling",)
