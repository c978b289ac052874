"""Made videos for benchmarks/ablation.py: shapes that rise or sink over a textured ground.

The steady ones have a camera that stands still and one exposure. In the moving ones the same shapes move over the same
grounds, but the camera pans and the exposure drifts.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from dali_vidaug.media.encode import write_video

CLASSES = {"circle_sinks": ("ellipse", 1), "circle_rises": ("ellipse", -1), "square_sinks": ("rectangle", 1),
           "square_rises": ("rectangle", -1)}  # fmt: skip
HEIGHT, WIDTH, FRAMES, MARGIN = 72, 96, 32, 48  # pixels; MARGIN: how far the camera may pan
SPEED, PAN, GAIN = 1.5, 0.7, (0.5, 1.7)  # pixels a frame, its maximum for the camera, exposures that drift ends at


def make_shapes(folder, per_class, moving):
    """Write class/NNN.mp4; a number stands for the same shape, ground and course in both kinds."""
    for name, (shape, direction) in tqdm(CLASSES.items(), desc=f"make {folder.name}", unit=" classes"):
        (Path(folder) / name).mkdir(parents=True)
        for i in range(per_class):
            rng = np.random.default_rng([list(CLASSES).index(name), i])
            frames = _frames(rng, shape, direction, moving)
            write_video(Path(folder) / name / f"{i:03d}.mp4", frames)


def _frames(rng, shape, direction, moving):
    height, width = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    coarse = rng.uniform(60, 150, (height // 8, width // 8, 3)).astype(np.uint8)
    ground = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    radius, colour = rng.uniform(7, 12), tuple(rng.integers(120, 256, 3).tolist())
    x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
    speed = direction * SPEED * rng.uniform(0.7, 1.3)
    pan, gain = rng.uniform(-PAN, PAN, 2), rng.uniform(*GAIN, 2)
    if not moving:
        pan, gain = np.zeros(2), np.ones(2)
    for t in range(FRAMES):
        picture = ground.copy()
        pen = getattr(ImageDraw.Draw(picture), shape)
        left, top = (MARGIN + p * (t - FRAMES / 2) for p in pan)
        # it stays in what the camera sees, and enters again on the other side
        at_x = left + (x + MARGIN - left) % WIDTH
        at_y = top + (y + speed * t + MARGIN - top) % HEIGHT
        for move_x in (-WIDTH, 0, WIDTH):
            for move_y in (-HEIGHT, 0, HEIGHT):
                cx, cy = at_x + move_x, at_y + move_y
                pen((cx - radius, cy - radius, cx + radius, cy + radius), fill=colour)
        box = round(left), round(top), round(left) + WIDTH, round(top) + HEIGHT
        level = gain[0] + (gain[1] - gain[0]) * t / (FRAMES - 1)
        yield (np.asarray(picture.crop(box)) * level).clip(0, 255).astype(np.uint8)
