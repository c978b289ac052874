"""A small list in each format, with the traps of its kind, and what it says: written by hand."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

CHARADES = tuple(f"c{i:03d}" for i in range(157))
DIVES = tuple(str(i) for i in range(48))
VERBS = tuple(f"verb={i}" for i in range(97))
NOUNS = tuple(f"noun={i}" for i in range(300))


class Example(NamedTuple):
    """A list in a format.

    Attributes:
        list: its name; "" for the folder itself.
        files: name and content of each file, the list among them; a video is empty here.
        rows: what it says: path, start, end, and the indices of the labels.
        classes: by index.
        options: of ``scan`` that it needs.
    """

    list: str
    files: dict
    rows: list
    classes: tuple
    options: Mapping = MappingProxyType({})


def whole(path, *labels):
    return (path, None, None, labels)


def parquet(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def kinetics():
    text = (
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        '"massaging person\'s head",aaaaaaaaaaa,10,20,train,0\n'
        "riding a bike,bbbbbbbbbbb,1.0,11.0,train,0\n"
        "celebrating (sport),ccccccccccc,100,110,train,1\n"
        "yoga,-ddd_dddddd,3,13,train,0\n"
        "yoga,flatflatfla,5,15,train,0\n"
        "yoga,eeeeeeeeeee,7,17,train,0\n"
    )
    videos = (
        "massaging_persons_head/aaaaaaaaaaa_000010_000020.mp4",  # torchvision's folder
        "riding a bike/bbbbbbbbbbb_000001_000011.mkv",
        "celebrating_-sport-/ccccccccccc_000100_000110.mp4",  # MMAction2's
        "yoga/-ddd_dddddd.mp4",
        "flatflatfla_000005_000015.webm",
    )
    rows = [
        whole("massaging_persons_head/aaaaaaaaaaa_000010_000020.mp4", 2),
        whole("riding a bike/bbbbbbbbbbb_000001_000011.mkv", 3),
        whole("celebrating_-sport-/ccccccccccc_000100_000110.mp4", 1),
        ("yoga/-ddd_dddddd.mp4", 3.0, 13.0, (4,)),
        whole("flatflatfla_000005_000015.webm", 4),
        whole("not found as eeeeeeeeeee_000007_000017.* or eeeeeeeeeee.*", 4),
    ]
    # The class of val.csv that no row here has keeps its place: classes are those of both.
    val = "label,youtube_id,time_start,time_end,split\nabseiling,vvvvvvvvvvv,0,10,val\n"
    classes = ("abseiling", "celebrating (sport)", "massaging person's head", "riding a bike", "yoga")
    return Example("k_train.csv", {"k_train.csv": text, "k_val.csv": val, **dict.fromkeys(videos, "")}, rows, classes)


def kinetics_test():
    text = "youtube_id,time_start,time_end,split\naaaaaaaaaaa,10,20,test\n"
    return Example(
        "test.csv",
        {"test.csv": text, "aaaaaaaaaaa_000010_000020.mp4": ""},
        [whole("aaaaaaaaaaa_000010_000020.mp4")],
        (),
    )


def path_label(separator=" "):
    names = ["a/b.mp4", "a b/c  d.mp4", "/abs/e.f.webm", "g.AVI"]
    text = "".join(f"{name}{separator}{label}\n" for name, label in zip(names, (0, 3, -1, 2), strict=True))
    rows = [whole(names[0], 0), whole(names[1], 3), whole(names[2]), whole(names[3], 2)]
    return Example("train.csv", {"train.csv": text}, rows, ("0", "1", "2", "3"))


def path_words():
    text = 'x.mp4 riding a bike\n"y, z.mp4" yoga\n\n'
    return Example("x.txt", {"x.txt": text}, [whole("x.mp4", 0), whole("y, z.mp4", 1)], ("riding a bike", "yoga"))


def headerless_csv():
    text = 'a b.mp4,"jump, high"\r\n"y, z.mp4", yoga\r\n'
    return Example("x.csv", {"x.csv": text}, [whole("a b.mp4", 0), whole("y, z.mp4", 1)], ("jump, high", "yoga"))


def paths_alone():
    return Example("test.txt", {"test.txt": "a b.mp4\nc.mp4\n"}, [whole("a b.mp4"), whole("c.mp4")], ())


def slowfast():
    text = "a b.mp4 90 1\nc.mp4 0 0\n"  # as multi_label it would say something else
    return Example(
        "t.csv", {"t.csv": text}, [whole("a b.mp4", 1), whole("c.mp4", 0)], ("0", "1"), {"format": "slowfast"}
    )


def videomae():
    return Example("t.csv", {"t.csv": "a b.mp4 0 -1\nc.mp4 0 -1\n"}, [whole("a b.mp4"), whole("c.mp4")], ())


def multi_label():
    text = "a b.mp4 1 3 2\nc.mp4 0\nd.mp4\n"
    rows = [whole("a b.mp4", 1, 3, 2), whole("c.mp4", 0), whole("d.mp4")]
    return Example("t.txt", {"t.txt": text}, rows, ("0", "1", "2", "3"))


def multi_label_named():
    text = "a.mp4 5 10 3\nb.mp4 0 12 1\n"  # else it may be start, end and label
    rows = [whole("a.mp4", 5, 10, 3), whole("b.mp4", 0, 12, 1)]
    return Example("t.txt", {"t.txt": text}, rows, tuple(map(str, range(13))), {"format": "multi_label"})


def quoted_label():
    text = 'a.mp4 "class 1"\nb.mp4 "class 2"\n'
    return Example("t.txt", {"t.txt": text}, [whole("a.mp4", 0), whole("b.mp4", 1)], ("class 1", "class 2"))


def numbers_in_labels():
    text = "a.mp4 class 1\nb.mp4 run\n"
    rows = [whole("a.mp4", 0), whole("b.mp4", 1)]
    return Example("t.txt", {"t.txt": text}, rows, ("class 1", "run"), {"format": "path_label"})


def ucf101():
    text = "Apply/v_Apply_g08_c01.avi 1\nYoYo/v_YoYo_g25_c03.avi 3\n"
    files = {
        "splits/trainlist01.txt": text,
        "splits/classInd.txt": "1 Apply\n2 Walk\n3 YoYo\n",
        "splits/Apply/v_Apply_g08_c01.avi": "",
        "splits/YoYo/v_YoYo_g25_c03.mp4": "",  # converted
    }
    rows = [whole("Apply/v_Apply_g08_c01.avi", 0), whole("YoYo/v_YoYo_g25_c03.mp4", 2)]
    return Example("splits/trainlist01.txt", files, rows, ("Apply", "Walk", "YoYo"))


def ucf101_test():
    files = {
        "testlist01.txt": "YoYo/v_YoYo_g01_c01.avi\n",
        "classInd.txt": "1 Apply\n2 Walk\n3 YoYo\n",
        "YoYo/v_YoYo_g01_c01.avi": "",
    }
    return Example("testlist01.txt", files, [whole("YoYo/v_YoYo_g01_c01.avi", 2)], ("Apply", "Walk", "YoYo"))


def hmdb51():
    files = {
        "brush_hair_test_split1.txt": "a [1].avi 1 \nb.avi 2 \nc.avi 0 \n",
        "wave_test_split1.txt": "d.avi 2 \n",
        "brush_hair_test_split2.txt": "a [1].avi 2 \nb.avi 1 \nc.avi 1 \n",
        "wave_test_split2.txt": "d.avi 1 \n",
        "brush_hair/a [1].avi": "",
        "brush_hair/b.avi": "",
        "brush_hair/c.avi": "",
        "wave/d.avi": "",
    }
    # No row of class wave, which keeps its place.
    return Example("", files, [whole("brush_hair/a [1].avi", 0)], ("brush_hair", "wave"), {"split": "train1"})


def ssv2():
    items = [
        {"id": "74225", "label": "spinning cube", "template": "Spinning [something]", "placeholders": ["cube"]},
        {"id": 116154, "label": "a on b", "template": "Putting [a] on [b]", "placeholders": []},
    ]
    files = {
        "train.json": json.dumps(items),
        "labels.json": json.dumps({"Putting a on b": "1", "Other": "0", "Spinning something": "2"}),
        "v2/74225.webm": "",
        "v2/116154.mp4": "",
    }
    rows = [whole("v2/74225.webm", 2), whole("v2/116154.mp4", 1)]
    return Example("train.json", files, rows, ("Other", "Putting a on b", "Spinning something"))


def ssv2_test():
    files = {"test.json": json.dumps([{"id": "5"}, {"id": "6"}]), "5.webm": ""}
    return Example("test.json", files, [whole("5.webm"), whole("not found as 6.*")], ())


def jester():
    files = {
        "jester-v1-train.csv": "34870;Drumming Fingers\n56557;Swiping, Left\n",
        "34870.mp4": "",
        "jester-v1-labels.csv": "Swiping, Left\nDoing other things\nDrumming Fingers\n",
        "56557/00001.jpg": "",
    }
    rows = [whole("34870.mp4", 2), whole("56557 is a folder", 0)]
    return Example("jester-v1-train.csv", files, rows, ("Swiping, Left", "Doing other things", "Drumming Fingers"))


def jester_test():
    return Example(
        "t.csv",
        {"t.csv": "100005\n100006\n", "100005.mp4": "", "100006.mp4": ""},
        [whole("100005.mp4"), whole("100006.mp4")],
        (),
    )


def moments():
    files = {
        "trainingSet.csv": "bowing/yt-a_1.mp4,bowing,3,1\nadult+male/b.mp4,adult+male,3,0\n",
        "moments_categories.txt": "adult+male,0\nbarking,1\nbowing,2\n",
        "training/bowing/yt-a_1.mp4": "",
        "training/adult+male/c.mp4": "",
        "training/bowing/b.mp4": "",
    }
    rows = [whole("training/bowing/yt-a_1.mp4", 2), whole("not found as b.*", 0)]  # that of another class is another
    return Example("trainingSet.csv", files, rows, ("adult+male", "barking", "bowing"))


def multi_moments():
    files = {
        "trainingSet.csv": "bowing/a.mp4,2,0\nx/b.mp4,1\n",
        "moments_categories.txt": "man,0\nbarking,1\nbowing,2\n",
    }
    return Example(
        "trainingSet.csv", files, [whole("bowing/a.mp4", 2, 0), whole("x/b.mp4", 1)], ("man", "barking", "bowing")
    )


_EPIC = (
    "{id},participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,narration,"
    "verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)


def epic():
    text = _EPIC.format(id="narration_id") + (
        "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,"
        "\"['door', 'key']\",\"[3, 9]\"\n"
        "P01_01_1,P01,P01_01,00:01:02.629,00:01:04.37,01:00:06.17,262,370,turn on light,turn-on,6,light,"
        "114,['light'],[114]\n"
    )
    rows = [
        ("P01/videos/P01_01.MP4", 0.14, 3.37, (3, 97 + 3)),
        ("P01/videos/P01_01.MP4", 64.37, 3606.17, (6, 97 + 114)),
    ]
    return Example("EPIC_100_train.csv", {"EPIC_100_train.csv": text, "P01/videos/P01_01.MP4": ""}, rows, VERBS + NOUNS)


def epic_named():
    verbs = "id,key,instances\n" + "".join(f"{i},v{i},\"['v{i}', 'w']\"\n" for i in range(97))
    text = _EPIC.format(id="narration_id") + "P01_01_0,P01,P01_01,0,0:01,0:02,8,202,n,open,3,door,3,['door'],[3]\n"
    files = {"EPIC_100_train.csv": text, "EPIC_100_verb_classes.csv": verbs, "P01_01.MP4": ""}
    return Example(
        "EPIC_100_train.csv",
        files,
        [("P01_01.MP4", 1.0, 2.0, (3,))],
        tuple(f"v{i}" for i in range(97)),
        {"label_columns": ("verb_class",)},
    )


def epic_test():
    text = (
        "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame\n"
        "P01_11_0,P01,P01_11,00:00:00.19,00:00:00.00,00:00:01.89,1,113\n"
    )
    return Example(
        "EPIC_100_test_timestamps.csv",
        {"EPIC_100_test_timestamps.csv": text, "P01/P01_11.MP4": ""},
        [("P01/P01_11.MP4", 0.0, 1.89, ())],
        (),
    )


_CHARADES = (
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking.",food,"x;y",c092 11.90 21.20;c147 0.00 12.60;c092 30 31,24.83\n'
    "N11GT,0KZ7,Stairs,6,7,Yes,s,bag,d,,18.33\n"
)
_CHARADES_FILES = {"Charades_v1_train.csv": _CHARADES, "Charades_v1_480/46GP8.mp4": "", "Charades_v1_480/N11GT.mp4": ""}


def charades():
    rows = [whole("Charades_v1_480/46GP8.mp4", 92, 147), whole("Charades_v1_480/N11GT.mp4")]
    return Example("Charades_v1_train.csv", _CHARADES_FILES, rows, CHARADES)


def charades_segments():
    video = "Charades_v1_480/46GP8.mp4"
    rows = [(video, 11.9, 21.2, (92,)), (video, 0.0, 12.6, (147,)), (video, 30.0, 31.0, (92,))]
    return Example("Charades_v1_train.csv", _CHARADES_FILES, rows, CHARADES, {"format": "charades_segments"})


def activitynet():
    database = {
        "---9CpRcKoU": {
            "duration": 14.07,
            "subset": "training",
            "resolution": "320x240",
            "url": "u",
            "annotations": [
                {"label": "Drinking beer", "segment": [0.01, 12.65]},
                {"label": "Archery", "segment": [3, 4]},
            ],
        },
        "testtesttes": {"duration": 5.0, "subset": "testing", "annotations": []},
        "vvvvvvvvvvv": {
            "duration": 5.0,
            "subset": "validation",
            "annotations": [{"label": "Zumba", "segment": [0, 1]}],
        },
    }
    files = {
        "activity_net.v1-3.min.json": json.dumps({"version": "1.3", "taxonomy": [], "database": database}),
        "v_---9CpRcKoU.mp4": "",
        "testtesttes.mkv": "",
        "vvvvvvvvvvv.mp4": "",
    }
    rows = [("v_---9CpRcKoU.mp4", 0.01, 12.65, (1,)), ("v_---9CpRcKoU.mp4", 3.0, 4.0, (0,))]
    return Example(
        "activity_net.v1-3.min.json", files, rows, ("Archery", "Drinking beer", "Zumba"), {"split": "training"}
    )


def thumos14():
    database = {
        "video_validation_0000051": {
            "subset": "Validation",
            "duration": 169.0,
            "fps": 30.0,
            "annotations": [
                {"label": "Billiards", "segment": [67.5, 75.9], "segment(frames)": [2025.0, 2277.0], "label_id": 2},
                {"label": "CliffDiving", "segment": [1.0, 2.0], "label_id": 0},
                {"label": "Ambiguous", "segment": [3.0, 4.0], "label_id": -1},
            ],
        },
    }
    name = "video_validation_0000051.mp4"
    rows = [(name, 67.5, 75.9, (2,)), (name, 1.0, 2.0, (0,)), (name, 3.0, 4.0, ())]
    return Example(
        "thumos14.json",
        {"thumos14.json": json.dumps({"database": database}), name: ""},
        rows,
        ("CliffDiving", "1", "Billiards"),
    )


def activitynet_videos():
    example = activitynet()
    rows = [whole("v_---9CpRcKoU.mp4", 1, 0)]
    return example._replace(rows=rows, options={"split": "training", "format": "activitynet_videos"})


def activitynet_flat():
    """As MMAction2 has it: without "database" and subsets."""
    database = {
        "v_a": {"duration_second": 5.0, "duration_frame": 125, "annotations": [{"segment": [1, 2], "label": "Zumba"}],
                "fps": 25.0, "feature_frame": 120},
        "v_b": {"duration_second": 9.5, "annotations": [{"segment": [0.5, 9.5], "label": "Archery"}]},
    }  # fmt: skip
    files = {"anet_anno_train.json": json.dumps(database), "v_a.mp4": "", "v_b.mp4": ""}
    rows = [("v_a.mp4", 1.0, 2.0, (1,)), ("v_b.mp4", 0.5, 9.5, (0,))]
    return Example("anet_anno_train.json", files, rows, ("Archery", "Zumba"))


DIVE = "video_validation_0000053"
THUMOS = {  # one space, two spaces, a space at the end; CliffDiving is within Diving
    "Ambiguous_val.txt": f"{DIVE}  60.0 61.50\n",
    "CliffDiving_val.txt": f"{DIVE}  72.80 76.40\r\n{DIVE}  5.0 6.1\r\n",
    "Diving_val.txt": f"{DIVE} 72.80 76.40 \n{DIVE} 5.0 6.1\n",
    "Shotput_val.txt": "video_validation_0000266 1.0 2.5\n",
    "Shotput_test.txt": "video_test_0000004  0.2 1.1\n",
    "Diving_test.txt": "",
    f"{DIVE}.mp4": "", "video_validation_0000266.mp4": "", "test/video_test_0000004.mp4": "",
}  # fmt: skip
SPORTS = ("CliffDiving", "Diving", "Shotput")


def thumos14_files():
    dive, shot = f"{DIVE}.mp4", "video_validation_0000266.mp4"
    rows = [(dive, 60.0, 61.5, ()), (dive, 72.8, 76.4, (0,)), (dive, 5.0, 6.1, (0,)), (dive, 72.8, 76.4, (1,)),
            (dive, 5.0, 6.1, (1,)), (shot, 1.0, 2.5, (2,))]  # fmt: skip
    return Example("", THUMOS, rows, SPORTS, {"split": "validation"})


def thumos14_file():
    """One of them: the classes are those of all."""
    rows = [(f"{DIVE}.mp4", 72.8, 76.4, (1,)), (f"{DIVE}.mp4", 5.0, 6.1, (1,))]
    return Example("Diving_val.txt", THUMOS, rows, SPORTS)


def thumos14_videos():
    rows = [whole(f"{DIVE}.mp4", 0, 1), whole("video_validation_0000266.mp4", 2)]
    return Example("", THUMOS, rows, SPORTS, {"format": "thumos14_videos", "split": "validation"})


def charades_named():
    lines = "".join(f"{code} Holding thing {i}\n" for i, code in enumerate(CHARADES))
    text = "id,script,actions\nA,s,c001 0 1\n"
    files = {"t.csv": text, "Charades_v1_classes.txt": lines, "A.mp4": ""}
    return Example("t.csv", files, [whole("A.mp4", 1)], tuple(f"Holding thing {i}" for i in range(157)))


def epic_55():
    text = (
        "uid,participant_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n1,P01,P01_01,0,1,124,351\n"
    )
    classes = tuple(f"verb={i}" for i in range(125)) + tuple(f"noun={i}" for i in range(352))
    return Example("t.csv", {"t.csv": text, "P01_01.MP4": ""}, [("P01_01.MP4", 0.0, 1.0, (124, 125 + 351))], classes)


def diving48_named():
    vocabulary = [["Back", f"{i}som"] for i in range(48)]
    files = {"t.json": '[{"vid_name": "a", "label": 2}]', "Diving48_vocab.json": json.dumps(vocabulary), "a.mp4": ""}
    return Example("t.json", files, [whole("a.mp4", 2)], tuple(f"Back {i}som" for i in range(48)))


def tsv():
    text = "video\tlabel\na, b.mp4\triding a bike\n"
    return Example("x.tsv", {"x.tsv": text}, [whole("a, b.mp4", 0)], ("riding a bike",))


def semicolons():
    return Example("x.csv", {"x.csv": "path;label;end\na.mp4;run;2\n"}, [("a.mp4", None, 2.0, (0,))], ("run",))


def ucf101_from_0():
    """MMAction2's, whose numbers begin at 0, with classInd.txt beside it."""
    files = {"t.txt": "Walk/v_Walk_g01_c01.avi 1\n", "classInd.txt": "1 Apply\n2 Walk\n"}
    return Example("t.txt", files, [whole("Walk/v_Walk_g01_c01.avi", 1)], ("0", "1"))


def ucf101_with(separator):
    """UCF101's, its lines written as CSV."""
    text = f"Apply/v_Apply_g08_c01.avi{separator}1\nWalk/v_Walk_g01_c01.avi{separator}2\n"
    names = ("Apply/v_Apply_g08_c01.avi", "Walk/v_Walk_g01_c01.avi")
    files = {"t.txt": text, "classInd.txt": "1 Apply\n2 Walk\n3 Yo\n", **dict.fromkeys(names, "")}
    return Example("t.txt", files, [whole(names[0], 0), whole(names[1], 1)], ("Apply", "Walk", "Yo"))


def first_row(text, classes, *rows):
    """A list whose first row has two equal values, which no header has."""
    files = {"t.csv": text, "moments_categories.txt": "bowing,0\nrunning,1\n"} if "bowing" in text else {"t.csv": text}
    return Example("t.csv", files | {"bowing/a.mp4": "", "V1.mp4": ""}, list(rows), classes)


def excel(first=""):
    """Rows without values at the end, and perhaps what says how values are separated."""
    text = f'{first}path;label\r\n"a, b.mp4";run\r\nb.mp4;"x\ny"\r\n;\r\n ; \r\n   \r\n'
    return Example("t.csv", {"t.csv": text}, [whole("a, b.mp4", 0), whole("b.mp4", 1)], ("run", "x\ny"))


def ends_empty(text, *numbers):
    """Lines that end in a separator, as all others do."""
    rows = [whole(f"{name}.mp4", *numbers[i : i + 1]) for i, name in enumerate("ab")]
    return Example("t.csv", {"t.csv": text}, rows, tuple(map(str, range(max(numbers, default=-1) + 1))))


def moments_numbers(separator):
    """One label in each line, a number of the classes' file."""
    text = f"bowing/a.mp4{separator}0\nrunning/b.mp4{separator}1\n"
    files = {"t.csv": text, "moments_categories.txt": "bowing,0\nrunning,1\nyawning,2\n"}
    rows = [whole("bowing/a.mp4", 0), whole("running/b.mp4", 1)]
    return Example("t.csv", files, rows, ("bowing", "running", "yawning"))


def multi_moments_single():
    files = {"t.csv": "x/b.mp4,1\n", "moments_categories.txt": "man,0\nbarking,1\n"}
    return Example("t.csv", files, [whole("x/b.mp4", 1)], ("man", "barking"), {"format": "multi_moments"})


def any_names():
    files = {"t.txt": "a b/c.dat 1\nd 0\n"}
    return Example("t.txt", files, [whole("a b/c.dat", 1), whole("d", 0)], ("0", "1"), {"format": "path_label"})


def diving48():
    items = [
        {"vid_name": "-mmq0PT-u8k_00155", "label": 47, "start_frame": 0, "end_frame": 48},
        {"vid_name": "abc", "label": 0, "start_frame": 0, "end_frame": 70},
    ]
    files = {"Diving48_V2_train.json": json.dumps(items), "rgb/-mmq0PT-u8k_00155.mp4": "", "rgb/abc.mp4": ""}
    return Example(
        "Diving48_V2_train.json", files, [whole("rgb/-mmq0PT-u8k_00155.mp4", 47), whole("rgb/abc.mp4", 0)], DIVES
    )


def ava():
    text = (
        "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,9,1\n"
        "-5KQ66BBWC4,0902,0.226,0.032,0.366,0.497,80,0\n-5KQ66BBWC4,0903,0.1,0.2,0.3,0.4,12,0\n"
    )
    rows = [whole("-5KQ66BBWC4.mkv", 80, 9), whole("-5KQ66BBWC4.mkv", 12)]
    return Example(
        "ava_train_v2.2.csv",
        {"ava_train_v2.2.csv": text, "-5KQ66BBWC4.mkv": ""},
        rows,
        tuple(str(i) for i in range(81)),
    )


def videofolder():
    text = 'file_name,label,caption\na.mp4,run,"x, y"\nsub/b.mp4,,z\n'
    return Example(
        "", {"metadata.csv": text, "a.mp4": "", "sub/b.mp4": ""}, [whole("a.mp4", 0), whole("sub/b.mp4")], ("run",)
    )


def videofolder_jsonl():
    lines = [{"clip_file_name": "a.mp4", "label": 2}, {"clip_file_name": "b.mp4", "label": None, "n": 1}]
    files = {
        "train/metadata.jsonl": "".join(json.dumps(line) + "\n" for line in lines),
        "test/metadata.csv": "file_name\nc.mp4\n",
    }
    return Example("", files, [whole("a.mp4", 2), whole("b.mp4")], ("0", "1", "2"), {"split": "train"})


def videofolder_parquet():
    data = parquet(file_name=["a.mp4", "b/c.mp4"], label=[1, 0])
    return Example("metadata.parquet", {"metadata.parquet": data}, [whole("a.mp4", 1), whole("b/c.mp4", 0)], ("0", "1"))


def folder():
    files = {"metadata.csv": "file_name\nb/x.mp4\n", "a/y.mp4": "", "b/x.mp4": ""}
    return Example("", files, [whole("a/y.mp4", 0), whole("b/x.mp4", 1)], ("a", "b"), {"format": "folder"})


def large_numbers():
    lines = [{"path": "a.mp4", "n": 10**30}, {"path": "b.mp4", "n": -1}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return Example("x.jsonl", {"x.jsonl": text}, [whole("a.mp4"), whole("b.mp4")], ())


def videofolder_splits():
    files = {"train/dog/a.mp4": "", "validation/cat/b.mp4": "", "validation/dog/c.mp4": ""}
    return Example("", files, [whole("dog/a.mp4", 1)], ("cat", "dog"), {"split": "train", "format": "videofolder"})


def jsonl():
    lines = [{"path": "a.mp4", "label": "run", "start": 1.5, "end": "0:02"}, {"path": "b.mp4", "caption": "x"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return Example("x.jsonl", {"x.jsonl": text}, [("a.mp4", 1.5, 2.0, (0,)), whole("b.mp4")], ("run",))


def json_list():
    items = [{"video": "a.mp4", "label": ["b", "a"]}, {"video": "b.mp4", "label": None}]
    return Example(
        "x.json",
        {"x.json": json.dumps(items)},
        [whole("a.mp4", 1, 0), whole("b.mp4")],
        ("a", "b"),
        {"multi_label": ","},
    )


def table():
    return Example(
        "x.csv",
        {"x.csv": "path,label,start\na.mp4,run,1\nb.mp4,,\n"},
        [("a.mp4", 1.0, None, (0,)), whole("b.mp4")],
        ("run",),
    )


def table_parquet():
    return Example("x.parquet", {"x.parquet": parquet(path=["a.mp4"], label=[2])}, [whole("a.mp4", 2)], ("0", "1", "2"))


def frames():
    text = "some class/v1 120 3\nb 7,0\nc 5 -1\n"
    rows = [("some class/v1", 0.0, 120.0, (3,)), ("b", 0.0, 7.0, (0,)), ("c", 0.0, 5.0, ())]
    return Example("train.txt", {"train.txt": text.replace(",", " ")}, rows, ("0", "1", "2", "3"))


def frames_start():
    rows = [("a", 30.0, 42.0, (0, 2)), ("b", 0.0, 9.0, (1,))]
    return Example("x.txt", {"x.txt": "a,30,12,0,2\nb,0,9,1\n"}, rows, ("0", "1", "2"), {"format": "frames_start"})


def slowfast_frames():
    text = (
        "original_vido_id video_id frame_id path labels\n"
        'AB12 0 0 AB12/AB12-000001.jpg "2,0"\nAB12 0 1 AB12/AB12-000002.jpg ""\nC 1 0 x/C/C-000001.jpg "1"\n'
    )
    return Example("t.csv", {"t.csv": text}, [("AB12", 0.0, 2.0, (2, 0)), ("x/C", 0.0, 1.0, (1,))], ("0", "1", "2"))


EXAMPLES = {  # name of the test: format, example
    "tabs": ("table", tsv()),
    "frames": ("frames", frames()),
    "frames, start": ("frames_start", frames_start()),
    "slowfast, frames": ("slowfast_frames", slowfast_frames()),
    "folder": ("folder", folder()),
    "large numbers": ("jsonl", large_numbers()),
    "semicolons": ("table", semicolons()),
    "charades, names": ("charades", charades_named()),
    "epic 55": ("epic", epic_55()),
    "diving48, names": ("diving48", diving48_named()),
    "ucf101 from 0": ("path_label", ucf101_from_0()),
    "ucf101, commas": ("ucf101", ucf101_with(",")),
    "ucf101, semicolons": ("ucf101", ucf101_with("; ")),
    "moments, numbers": ("path_label", moments_numbers(",")),
    "moments, numbers after spaces": ("path_label", moments_numbers(" ")),
    "multi_moments, one label": ("multi_moments", multi_moments_single()),
    "moments, equal votes": (
        "moments",
        first_row("bowing/a.mp4,bowing,2,2\n", ("bowing", "running"), whole("bowing/a.mp4", 0)),
    ),
    "ava, equal corners": (
        "ava",
        first_row("V1,0902,0.000,0.000,0.5,0.5,12,0\n", tuple(map(str, range(81))), whole("V1.mp4", 12)),
    ),
    "path|label": ("path_label", path_label("|")),
    "excel": ("table", excel()),
    "excel, sep=": ("table", excel("sep=;\r\n")),
    "ends in a comma": ("path_label", ends_empty("a.mp4,1,\nb.mp4,0,\n", 1, 0)),
    "ends in commas": ("path_label", ends_empty("a.mp4,1,,\nb.mp4,0,,\n,,,\n", 1, 0)),
    "sep= above lines": ("path_label", ends_empty("sep=;\na.mp4;1;\nb.mp4;0;\n", 1, 0)),
    "any names": ("path_label", any_names()),
    "table": ("table", table()),
    "parquet": ("table", table_parquet()),
    "jsonl": ("jsonl", jsonl()),
    "json list": ("jsonl", json_list()),
    "kinetics": ("kinetics", kinetics()),
    "kinetics, no labels": ("kinetics", kinetics_test()),
    "path label": ("path_label", path_label()),
    "path, two spaces, label": ("path_label", path_label("  ")),
    "path,label": ("path_label", path_label(",")),
    "path, label": ("path_label", path_label(", ")),
    "path\\tlabel": ("path_label", path_label("\t")),
    "path::label": ("path_label", path_label("::")),
    "path;label": ("path_label", path_label(";")),
    "path words": ("path_label", path_words()),
    "headerless CSV": ("path_label", headerless_csv()),
    "paths alone": ("path_label", paths_alone()),
    "slowfast": ("slowfast", slowfast()),
    "videomae": ("videomae", videomae()),
    "multi_label": ("multi_label", multi_label()),
    "multi_label, as many in each line": ("multi_label", multi_label_named()),
    "quoted labels": ("path_label", quoted_label()),
    "numbers in labels": ("path_label", numbers_in_labels()),
    "ucf101": ("ucf101", ucf101()),
    "ucf101, no labels": ("ucf101", ucf101_test()),
    "hmdb51": ("hmdb51", hmdb51()),
    "ssv2": ("ssv2", ssv2()),
    "ssv2, no labels": ("ssv2", ssv2_test()),
    "jester": ("jester", jester()),
    "jester, no labels": ("jester", jester_test()),
    "moments": ("moments", moments()),
    "multi_moments": ("multi_moments", multi_moments()),
    "epic": ("epic", epic()),
    "epic, verbs": ("epic", epic_named()),
    "epic, no labels": ("epic", epic_test()),
    "charades": ("charades", charades()),
    "charades, segments": ("charades_segments", charades_segments()),
    "activitynet": ("activitynet", activitynet()),
    "thumos14": ("activitynet", thumos14()),
    "activitynet, videos": ("activitynet_videos", activitynet_videos()),
    "activitynet, flat": ("activitynet", activitynet_flat()),
    "thumos14, files": ("thumos14", thumos14_files()),
    "thumos14, a file": ("thumos14", thumos14_file()),
    "thumos14, videos": ("thumos14_videos", thumos14_videos()),
    "diving48": ("diving48", diving48()),
    "ava": ("ava", ava()),
    "videofolder": ("videofolder", videofolder()),
    "videofolder, jsonl": ("videofolder", videofolder_jsonl()),
    "videofolder, parquet": ("videofolder", videofolder_parquet()),
    "videofolder, folders": ("videofolder", videofolder_splits()),
}
