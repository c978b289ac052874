"""What each op means, in plain NumPy and float64, one clip at a time. Shares no code with the kernels."""

from fractions import Fraction

import numpy as np

from dali_vidaug.rng import philox4x32

RANDAUGMENT_OPS = (
    "Identity AutoContrast Equalize Invert Posterize Solarize SolarizeAdd Brightness Contrast Color Sharpness "
    "Rotate ShearX ShearY TranslateX TranslateY"
).split()
COLOR_OPS = "identity brightness contrast saturation hue grey noise".split()


def randaugment(clip, row):
    """The ops of a row, one after the other, each rounded to uint8.

    Args:
        clip: (F, H, W, 3) uint8.
        row: of the dtype ``dali_vidaug.ops.randaugment.args_dtype``.
    """
    for code, values in zip(row["op"], row["value"], strict=False):
        name = RANDAUGMENT_OPS[code]
        # Statistics: of each frame, or of the frames one under the other as if they were one picture.
        pictures = [clip.reshape(1, -1, *clip.shape[2:])] * len(clip) if row["per_clip"] else clip[:, None]
        frames = [
            _frame(name, frame, float(value), whole.reshape(-1, 3), row["fill"], row["bilinear"])
            for frame, value, whole in zip(clip, values, pictures, strict=False)
        ]
        clip = np.stack(frames)
    return clip


def _frame(name, frame, value, pixels, fill, bilinear):
    if name == "Identity":
        return frame
    if name == "Invert":
        return 255 - frame
    if name == "Posterize":
        return (frame >> (8 - int(value))) << (8 - int(value)) if value >= 1 else frame * 0
    if name == "Solarize":
        return np.where(frame < value, frame, 255 - frame)
    if name == "SolarizeAdd":
        return np.where(frame < 128, np.minimum(frame.astype(int) + int(value), 255), frame).astype(np.uint8)
    if name == "AutoContrast":
        return np.stack([_autocontrast(frame[..., c], pixels[:, c]) for c in range(3)], -1)
    if name == "Equalize":
        return np.stack([_equalize(frame[..., c], pixels[:, c]) for c in range(3)], -1)
    if name == "Brightness":
        return _blend(np.zeros_like(frame), frame, value)
    if name == "Contrast":
        return _blend(np.full_like(frame, np.floor(_grey(pixels).mean() + 0.5)), frame, value)
    if name == "Color":
        return _blend(np.repeat(_grey(frame)[..., None], 3, -1), frame, value)
    if name == "Sharpness":
        return _blend(_smooth(frame), frame, value)
    return _warp(frame, _matrix(name, value, *frame.shape[:2]), fill, bilinear)


def _grey(rgb):
    """ITU-R 601 luma in 16 bits of fraction, as Pillow's mode "L"."""
    return (rgb.astype(int) @ [19595, 38470, 7471] + 0x8000) >> 16


def _blend(from_, to, factor):
    """From one picture to another and beyond, towards zero, in single precision as Pillow's."""
    from_, to = from_.astype(np.float32), to.astype(np.float32)
    return np.clip(from_ + np.float32(factor) * (to - from_), 0, 255).astype(np.uint8)


def _autocontrast(channel, pixels):
    low, high = int(pixels.min()), int(pixels.max())
    if low == high:
        return channel
    scale = 255.0 / (high - low)
    return np.clip(np.trunc(channel * scale + -low * scale), 0, 255).astype(np.uint8)


def _equalize(channel, pixels):
    counts = np.bincount(pixels, minlength=256)
    share = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
    if np.count_nonzero(counts) < 2 or share == 0:
        return channel
    below = np.cumsum(counts) - counts
    return np.minimum((below + share // 2) // share, 255).astype(np.uint8)[channel]


def _smooth(frame):
    """The mean of 3x3 pixels, the middle one five times; the border as it is."""
    smooth, wide = frame.copy(), frame.astype(int)
    height, width = frame.shape[:2]
    if height > 2 and width > 2:
        total = 4 * wide[1:-1, 1:-1]
        for dy in range(3):
            for dx in range(3):
                total = total + wide[dy : dy + height - 2, dx : dx + width - 2]
        smooth[1:-1, 1:-1] = np.floor(total / 13 + 0.5)
    return smooth


def _matrix(name, value, height, width):
    """(2, 3), output to input."""
    if name == "Rotate":
        angle = np.deg2rad(value)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = np.array([width / 2, height / 2])
        return np.column_stack([turn, centre - turn @ centre])
    matrix = np.eye(2, 3)
    matrix[{"ShearX": (0, 1), "ShearY": (1, 0), "TranslateX": (0, 2), "TranslateY": (1, 2)}[name]] = value
    return matrix


def _cubic(distance):
    """Keys' kernel with a = -1, that of Pillow's transforms."""
    a, t = -1.0, np.abs(distance)
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _warp(frame, matrix, fill, bilinear):
    height, width = frame.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)

    def at(column, line):
        return frame[np.clip(line, 0, height - 1), np.clip(column, 0, width - 1)].astype(float)

    if bilinear == 2:  # bicubic
        x, y = x - 0.5, y - 0.5
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        values = np.zeros(frame.shape)
        for line in range(-1, 3):
            for column in range(-1, 3):
                weight = _cubic(x - left - column) * _cubic(y - top - line)
                values += weight[..., None] * at(left + column, top + line)
        values = np.clip(np.floor(values + 0.5), 0, 255)
    elif bilinear:
        x, y = x - 0.5, y - 0.5
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        wx, wy = (x - left)[..., None], (y - top)[..., None]
        upper = at(left, top) * (1 - wx) + at(left + 1, top) * wx
        lower = at(left, top + 1) * (1 - wx) + at(left + 1, top + 1) * wx
        values = np.floor(upper * (1 - wy) + lower * wy + 0.5)
    else:
        values = at(np.floor(x).astype(int), np.floor(y).astype(int))
    return np.where(inside[..., None], values, np.asarray(fill)).astype(np.uint8)


def warp(clip, row):
    """The frames of a clip under the matrices of a row of ``dali_vidaug.ops.warp.warp_dtype``.

    Returns:
        (F, H, W, 3) uint8, and (F, H, W) bool: pixels so near to the border between two that rounding decides.
    """
    results, unsure = [], []
    for t, frame in enumerate(clip):
        height, width = frame.shape[:2]
        y, x = np.mgrid[:height, :width] + 0.5
        matrix = row["matrix"][min(t, row["num_matrices"] - 1)]
        u, v, w = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = (np.nan_to_num(a / w, nan=-9e9, posinf=9e9, neginf=-9e9).clip(-9e9, 9e9) for a in (u, v))
        unsure.append(np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v))) < 1e-6)
        padded = np.empty((height + 2, width + 2, 3))
        padded[:] = row["fill"]
        padded[1:-1, 1:-1] = frame

        def at(column, line, padded=padded):
            return padded[np.clip(line, -1, len(padded) - 2) + 1, np.clip(column, -1, padded.shape[1] - 2) + 1]

        if row["bilinear"]:
            u, v = u - 0.5, v - 0.5
            left, top = np.floor(u).astype(int), np.floor(v).astype(int)
            wx, wy = (u - left)[..., None], (v - top)[..., None]
            upper = at(left, top) * (1 - wx) + at(left + 1, top) * wx
            lower = at(left, top + 1) * (1 - wx) + at(left + 1, top + 1) * wx
            results.append(np.floor(upper * (1 - wy) + lower * wy + 0.5))
        else:
            results.append(at(np.floor(u).astype(int), np.floor(v).astype(int)))
    return np.stack(results).astype(np.uint8), np.stack(unsure)


def blend(clips, rows):
    """What rows of ``dali_vidaug.ops.blend.BLEND`` make of a batch: a list of clips."""
    return [_blend_clip(clips, clip, row) for clip, row in zip(clips, rows, strict=True)]


def interpolate(video, positions):
    """The frames of a video (N, H, W, 3) at positions (F,) between them, in whole numbers, rounded half up."""
    out = []
    for position in positions.tolist():
        before, weight = int(position), int((position - int(position)) * 32768 + 0.5)
        a, b = video[before].astype(int), video[min(before + 1, len(video) - 1)].astype(int)
        out.append((a * (32768 - weight) + b * weight + 16384) // 32768)
    return np.stack(out).astype(np.uint8)


def _blend_clip(clips, clip, row):
    out = np.empty_like(clip)
    for t in range(len(clip)):
        weight = np.full(clip.shape[1:3], _at(row["outside"], t, len(clip), 32768))
        if row["first"] <= t < row["last"]:
            top, bottom, left, right = (int(_at(row[n], t, len(clip))) for n in ("top", "bottom", "left", "right"))
            weight[top:bottom, left:right] = _at(row["inside"], t, len(clip), 32768)
        other = clips[row["partner"]][t] if row["partner"] >= 0 else _noise(clip.shape[1:3], t, row)
        mean = (1 - weight[..., None]) * clip[t] + weight[..., None] * other
        out[t] = np.floor(mean + 0.5)
    return out


def _at(ends, t, frames, parts=1):
    """The value of frame t of a ramp, to the nearest of 1 / parts."""
    first, last = (round(float(end) * parts) for end in ends)
    share = Fraction(t, frames - 1) if frames > 1 else Fraction(0)
    return float((first + (last - first) * share + Fraction(1, 2)) // 1) / parts


def _noise(shape, t, row):
    return np.floor(np.clip(row["color"] + row["spread"] * _unit_noise(shape, t, row["key"]), 0, 255) + 0.5)


def _unit_noise(shape, t, key):
    """(H, W, 3) of frame t: mean 0, standard deviation 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    counter = np.stack([x, y, np.full(shape, t), np.zeros(shape, int)], -1).astype(np.uint32)
    words = philox4x32(counter, tuple(map(int, key)))[..., :3]
    total = words.copy().view(np.uint8).reshape(*shape, 3, 4).astype(int).sum(-1)
    return (total - 510) / np.sqrt(4 * (256**2 - 1) / 12)


def color(clip, row):
    """The ops of a row of ``dali_vidaug.ops.color``, one after the other, each cut off to whole levels."""
    for code, values in zip(row["op"], row["value"], strict=False):
        name = COLOR_OPS[code]
        if name == "contrast":
            means = _v2_grey(clip).mean((1, 2))
            means = np.full(len(clip), means.mean()) if row["per_clip"] else means
        for t, value in enumerate(values[: len(clip)].astype(float)):
            frame = clip[t].astype(float)
            if name == "brightness":
                frame = frame * value
            elif name == "contrast":
                frame = means[t] + (frame - means[t]) * value
            elif name == "saturation":
                frame = _v2_grey(frame)[..., None] * (1 - value) + frame * value
            elif name == "grey" and value:
                frame = np.repeat(_v2_grey(frame)[..., None], 3, -1)
            elif name == "hue":
                frame = _turn_hue(frame / 255, value) * (256 - 1e-3)
            elif name == "noise":
                frame = np.floor(frame + value * _unit_noise(frame.shape[:2], t, row["key"]) + 0.5)
            clip = clip if t else clip.copy()
            clip[t] = np.clip(frame, 0, 255).astype(np.uint8)
    return clip


def _v2_grey(rgb):
    """The grey of torchvision's v2, whose weights add up to 0.9999, as a whole level."""
    return (rgb.astype(int) @ [2989, 5870, 1140]) // 10000


def _turn_hue(rgb, turns):
    """The hue of pixels in [0, 1] turned in HSV, by the formula without sextants."""
    value, spread = rgb.max(-1), np.ptp(rgb, -1)
    r, g, b = np.moveaxis(rgb, -1, 0)
    spread_or_1 = np.where(spread > 0, spread, 1)
    sixths = np.select([value == r, value == g], [(g - b) / spread_or_1 % 6, (b - r) / spread_or_1 + 2],
                       (r - g) / spread_or_1 + 4)  # fmt: skip
    k = (np.array([5, 3, 1]) + 6 * turns + sixths[..., None]) % 6
    return value[..., None] - spread[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1)


def blur(clip, row):
    """A Gaussian blur of each frame: the weighted sum of the mirrored picture's pixels."""
    out, radius = clip.copy(), int(row["radius"])
    for t, sigma in enumerate(row["sigma"][0][: len(clip)].astype(float)):
        if sigma == 0:
            continue
        weights = np.exp(-(np.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
        weights /= weights.sum()
        padded = np.pad(clip[t].astype(float), ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
        rows = sum(w * padded[k : k + clip.shape[1]] for k, w in enumerate(weights))
        out[t] = np.floor(sum(w * rows[:, k : k + clip.shape[2]] for k, w in enumerate(weights)) + 0.5)
    return out


def motion(clip, row):
    """Each frame as the mean of those in its window that exist, rounded half up."""
    out = []
    for t in range(len(clip)):
        count = max(int(row["window"][0][t]), 1)
        window = clip[max(t - (count - 1) // 2, 0) : t + count // 2 + 1].astype(int)
        out.append((2 * window.sum(0) + len(window)) // (2 * len(window)))
    return np.stack(out).astype(np.uint8)


def background(clip, row):
    """A frame blended over all, with weights in 32768ths, rounded half up."""
    weight = np.floor(row["weight"][0][: len(clip)].astype(float) * 32768 + 0.5).astype(int)[:, None, None, None]
    return ((clip.astype(int) * (32768 - weight) + clip[row["frame"]] * weight + 16384) // 32768).astype(np.uint8)
