"""Labels of mixed clips: what the pixels say, what torchvision says."""

import numpy as np
import pytest
import reference
import torch
from conftest import assert_pixels, draw_rows, import_torchvision, noise_clips

from dali_vidaug.ops import LabelSmoothing, Mix
from dali_vidaug.ops.blend import blend, mix_targets, new_rows, own_share
from dali_vidaug.ops.mix import FAMILIES

SIZE = (16, 45, 60)  # frames, height, width


@pytest.mark.parametrize("family", ["CutMix", "MixUp"])
def test_torchvision_gives_the_same_pixels_and_labels(family):
    try:
        _, v2, tv_tensors = import_torchvision()
    except ImportError:
        pytest.skip("no torchvision")
    clips = noise_clips(*[(3, 17, 23)] * 4)
    labels = torch.tensor([2, 0, 1, 4])
    for seed in range(20):
        rows = draw_rows(Mix(family, granularity="batch"), 4, clips[0].shape[:3], seed=seed)
        rows["partner"] = [3, 0, 1, 2]  # torchvision's: the batch rolled by one
        theirs = getattr(v2, family)(num_classes=5)
        own = float(own_share(rows)[0])
        top, bottom, left, right = (int(rows[name][0, 0]) for name in ("top", "bottom", "left", "right"))
        parameters = {"CutMix": {"box": (left, top, right, bottom), "lam_adjusted": own}, "MixUp": {"lam": own}}
        known = set(theirs.make_params([torch.zeros(4, 3, 3, 17, 23)]))
        assert known == set(parameters[family])
        theirs.make_params = lambda _, family=family, parameters=parameters: parameters[family]
        video = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3)
        mixed, targets = theirs(tv_tensors.Video(video if family == "CutMix" else video.float()), labels)
        expected = np.floor(mixed.numpy() + (0.5 if family == "MixUp" else 0)).astype(np.uint8)
        ours = np.stack(blend(clips, rows)).transpose(0, 1, 4, 2, 3)
        # Blends: torch counts in single precision, in which a tie may fall to either side.
        assert_pixels(ours, expected, max_diff=int(family == "MixUp"), max_fraction=0.001)
        soft = mix_targets(rows, np.eye(5, dtype=np.float32)[labels])
        np.testing.assert_allclose(soft, targets.numpy(), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_count_voxels_and_weights(family):
    """Own clip 0, others 255: the label is what the pixels say; and by the reference's weights, to 1e-6."""
    size = (7, 18, 25)
    rows = draw_rows(Mix(family), 200, size)
    rows["partner"] = 1
    zeros, full = np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8)
    targets = np.zeros((200, 2), np.float32)
    targets[:, 0], targets[1] = 1, (0, 1)
    soft = mix_targets(rows, targets)
    for i in (0, *range(2, 200)):
        pair = rows[[i, i]]
        pair["partner"] = [1, 0]
        (out, _) = blend([zeros, full], pair)
        if "Up" in family:
            assert abs((out / 255).mean() - soft[i, 1]) < 0.51 / 255
            # One weight for each frame or, in the cut families, two for the clip.
            parts, most = (out[None], 2) if "Cut" in family else (out, 1)
            assert max(len(np.unique(part)) for part in parts) <= most
        else:
            assert abs((out == 255).mean() - soft[i, 1]) < 1e-6
            assert abs((out == 0).mean() - soft[i, 0]) < 1e-6
    weights = reference_weights(rows, size)
    np.testing.assert_allclose(soft[2:, 1], weights[2:], atol=1e-6)


def reference_weights(rows, size):
    """The partner's mean weight, voxel by voxel, by tests/reference.py."""
    out = []
    for row in rows:
        total = 0.0
        for t in range(size[0]):
            weight = np.full(size[1:], reference._at(row["outside"], t, size[0], 32768))
            if row["first"] <= t < row["last"]:
                top, bottom, left, right = (
                    int(reference._at(row[n], t, size[0])) for n in ("top", "bottom", "left", "right")
                )
                weight[top:bottom, left:right] = reference._at(row["inside"], t, size[0], 32768)
            total += weight.mean() / size[0]
        out.append(total)
    return np.array(out)


def test_labels_of_many_kinds():
    rows = new_rows(2, *SIZE)
    rows["partner"], rows["outside"], rows["bottom"] = [1, 0], [[0.25], [0.5]], 0
    multi = np.array([[1, 0, 1, 0], [0, 1, 1, 0]], np.float32)
    np.testing.assert_allclose(mix_targets(rows, multi), [[0.75, 0.25, 1, 0], [0.5, 0.5, 1, 0]])
    unknown = np.array([[0, 0], [0, 1]], np.float32)  # no label
    np.testing.assert_allclose(mix_targets(rows, unknown), [[0, 0.25], [0, 0.5]])
    assert mix_targets(rows, np.zeros((2, 0), np.float32)).shape == (2, 0)
    smooth = LabelSmoothing(0.2)
    np.testing.assert_allclose(smooth.targets(None, np.eye(4, dtype=np.float32)[:1]), [[0.85, 0.05, 0.05, 0.05]])
    np.testing.assert_allclose(smooth.targets(None, multi[:1]), [[0.9, 0.1, 0.9, 0.1]])
    assert not smooth.targets(None, np.zeros((3, 4), np.float32)).any()
    after = smooth.targets(None, mix_targets(rows, multi))
    np.testing.assert_allclose(after, mix_targets(rows, smooth.targets(None, multi)), atol=1e-6)
