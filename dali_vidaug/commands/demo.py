"""A small labelled data set of moving shapes, and an example clip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from dali_vidaug.media.encode import write_video
from dali_vidaug.rng import Draws

CLASSES = {  # name: shape, pixels per frame to the right and down; a mirrored clip keeps its class
    "circle_down": ("ellipse", 0, 3),
    "circle_up": ("ellipse", 0, -3),
    "square_down": ("rectangle", 0, 3),
    "square_up": ("rectangle", 0, -3),
}
SIZES = ((320, 240), (256, 340), (426, 240))  # width, height


def make_videos(folder: str | os.PathLike[str], per_class: int = 8, seed: int = 0) -> None:
    """Write H.264 videos of shapes that move over a textured background, a folder for each class.

    Args:
        folder: created if necessary; gets class/NN.mp4.
        per_class: videos of each class, 2 to 4 s at 25 frames per second, in three sizes.
        seed: of positions, sizes, colours and backgrounds.
    """
    todo = [(name, i) for name in CLASSES for i in range(per_class)]
    for number, (name, i) in enumerate(tqdm(todo, desc="make videos", unit=" videos")):
        path = Path(folder) / name / f"{i:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        draws = Draws(seed, 0, [number], prefix="demo")
        frames = moving_shape(*CLASSES[name], *SIZES[number % len(SIZES)], draws)
        write_video(path, islice(frames, int(50 + 50 * draws.uniform("count", n=3)[0, 0])))


def moving_shape(
    shape: str, dx: float, dy: float, width: int, height: int, draws: Draws, *, scale: float = 1.0, hidden: bool = False
) -> Iterator[np.ndarray]:
    """Frames of a shape that moves over a textured background, (H, W, 3) uint8, without an end.

    Args:
        shape: "ellipse" or "rectangle", or another of Pillow's.
        dx, dy: pixels per frame to the right and down; where it leaves the frame, it enters on the other side.
        width, height: of the frames.
        draws: of one sample: place, size, colours, background.
        scale: of the shape, of its speed, and of the background's texture.
        hidden: the background alone.
    """
    place, side, colour = (draws.uniform(word, n=3)[0] for word in ("place", "side", "colour"))
    radius = int(scale * (15 + 25 * side[0]))
    rows, columns = np.mgrid[:height, :width] / scale
    background = 90 + 50 * np.sin(columns / (8 + 30 * side[1])) * np.sin(rows / (8 + 30 * side[2]))
    background = np.stack([background * (0.6 + 0.6 * c) for c in draws.uniform("ground", n=3)[0]], -1)
    ground = Image.fromarray(background.clip(0, 255).astype(np.uint8))
    x, y = place[0] * width, place[1] * height
    while True:
        x, y = (x + scale * dx) % width, (y + scale * dy) % height
        picture = ground.copy()
        draw = getattr(ImageDraw.Draw(picture), shape)
        for at_x in () if hidden else (x - width, x, x + width):
            for at_y in (y - height, y, y + height):  # it enters again on the other side
                box = (at_x - radius, at_y - radius, at_x + radius, at_y + radius)
                draw(box, fill=tuple(int(100 + 155 * c) for c in colour))
        yield np.asarray(picture)


def example_clip(num_frames: int = 16, height: int = 240, width: int = 320) -> np.ndarray:
    """A clip to show ops on: (F, H, W, 3) uint8, a ball that rolls over a lawn in the evening."""
    y = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - y) * (70, 120, 210) + y * (250, 180, 120)
    background = Image.fromarray(np.broadcast_to(sky, (height, width, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(background)
    horizon = height * 2 // 3
    pen.ellipse((width * 0.7, height * 0.15, width * 0.85, height * 0.15 + width * 0.15), fill=(255, 240, 170))
    pen.rectangle((0, horizon, width, height), fill=(70, 130, 60))
    for i in range(8):
        x = width * i / 8
        pen.polygon(
            ((x, height), (x + width / 16, height), (width / 2 + (x - width / 2) / 3, horizon)), fill=(90, 155, 75)
        )
    pen.rectangle((width * 0.1, height * 0.35, width * 0.35, horizon + 8), fill=(170, 90, 70))
    pen.polygon(
        ((width * 0.07, height * 0.36), (width * 0.38, height * 0.36), (width * 0.225, height * 0.2)), fill=(90, 50, 50)
    )
    pen.rectangle((width * 0.15, height * 0.45, width * 0.2, height * 0.53), fill=(250, 230, 140))
    clip = []
    for t in np.linspace(0, 1, num_frames):
        picture = background.copy()
        x, radius = width * (0.1 + 0.75 * t), height * 0.09
        box = (x - radius, height * 0.72 - radius, x + radius, height * 0.72 + radius)
        ImageDraw.Draw(picture).ellipse(box, fill=(230, 60, 40))
        ImageDraw.Draw(picture).pieslice(box, 360 * t, 360 * t + 60, fill=(255, 255, 255))
        clip.append(np.asarray(picture))
    return np.stack(clip)
