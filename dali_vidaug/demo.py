"""A small labelled data set of moving shapes, and a contact sheet of what a loader makes of one."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from dali_vidaug.ops import Normalize
from dali_vidaug.rng import Draws

CLASSES = {  # name: shape, pixels a frame to the right and down; a mirrored clip still is of its class
    "circle_down": ("ellipse", 0, 3),
    "circle_up": ("ellipse", 0, -3),
    "square_down": ("rectangle", 0, 3),
    "square_up": ("rectangle", 0, -3),
}
SIZES = ((320, 240), (256, 340), (426, 240))  # width, height


def make_videos(folder, per_class=8, seed=0):
    """Write H.264 videos of shapes that move over a textured ground, a folder for each class.

    Args:
        folder: made if need be; gets class/NN.mp4.
        per_class: videos of each class, 2 to 4 s at 25 frames a second, in three sizes.
        seed: of places, sizes, colours and grounds.
    """
    todo = [(name, i) for name in CLASSES for i in range(per_class)]
    for number, (name, i) in enumerate(tqdm(todo, desc="make videos", unit=" videos")):
        path = Path(folder) / name / f"{i:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        draws = Draws(seed, 0, [number], prefix="demo")
        frames = _moving_shape(*CLASSES[name], *SIZES[number % len(SIZES)], draws)
        write_video(path, frames)


def _moving_shape(shape, dx, dy, width, height, draws):
    place, side, colour, count = (draws.uniform(word, n=3)[0] for word in ("place", "side", "colour", "count"))
    radius = int(15 + 25 * side[0])
    rows, columns = np.mgrid[:height, :width]
    ground = 90 + 50 * np.sin(columns / (8 + 30 * side[1])) * np.sin(rows / (8 + 30 * side[2]))
    ground = np.stack([ground * (0.6 + 0.6 * c) for c in draws.uniform("ground", n=3)[0]], -1)
    ground = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    x, y = place[0] * width, place[1] * height
    for _ in range(int(50 + 50 * count[0])):
        x, y = (x + dx) % width, (y + dy) % height
        picture = ground.copy()
        draw = getattr(ImageDraw.Draw(picture), shape)
        for at_x in (x - width, x, x + width):
            for at_y in (y - height, y, y + height):  # it comes in again on the other side
                box = (at_x - radius, at_y - radius, at_x + radius, at_y + radius)
                draw(box, fill=tuple(int(100 + 155 * c) for c in colour))
        yield np.asarray(picture)


def example_clip(num_frames=16, height=240, width=320):
    """A clip to show ops on: (F, H, W, 3) uint8, a ball that rolls over a lawn under an evening sky."""
    y = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - y) * (70, 120, 210) + y * (250, 180, 120)
    ground = Image.fromarray(np.broadcast_to(sky, (height, width, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(ground)
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
        picture = ground.copy()
        x, radius = width * (0.1 + 0.75 * t), height * 0.09
        box = (x - radius, height * 0.72 - radius, x + radius, height * 0.72 + radius)
        ImageDraw.Draw(picture).ellipse(box, fill=(230, 60, 40))
        ImageDraw.Draw(picture).pieslice(box, 360 * t, 360 * t + 60, fill=(255, 255, 255))
        clip.append(np.asarray(picture))
    return np.stack(clip)


def write_video(path, frames, fps=25, codec="libx264", options=None, pixel_format="yuv420p"):
    """Encode (H, W, 3) uint8 frames; by default H.264 with a key frame every 24 frames and two B-frames between."""
    options = {"g": "24", "bf": "2", "crf": "20"} if options is None else options
    with av.open(str(path), "w") as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                height, width = frame.shape[:2]
                stream = container.add_stream(codec, rate=fps, width=width, height=height, options=options)
                stream.pix_fmt = pixel_format
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def contact_sheet(batch, manifest, path, num_clips=8, num_frames=8, height=112):
    """Draw clips of a batch, a row each: file and label, then frames evenly chosen.

    Args:
        batch: of a ``VideoLoader``; normalised clips are shown with the recipe's mean and std undone.
        manifest: where the names are.
        path: PNG to write.
        num_clips, num_frames: shown at most.
        height: of a frame on the sheet, pixels.
    """
    clips = batch.clips[:num_clips].float().cpu().numpy().transpose(0, 2, 3, 4, 1)  # (B, F, H, W, 3)
    last = batch.plan.recipe.ops[-1] if batch.plan.recipe.ops else None
    if isinstance(last, Normalize):
        clips = 255 * (clips * np.array(last.std, np.float32) + np.array(last.mean, np.float32))
    clips = (clips + 0.5).clip(0, 255).astype(np.uint8)
    chosen = np.linspace(0, clips.shape[1] - 1, min(num_frames, clips.shape[1])).round().astype(int)
    width = round(height * clips.shape[3] / clips.shape[2])
    margin, head = 4, 16
    sheet = Image.new(
        "RGB",
        (margin + len(chosen) * (width + margin), len(clips) * (height + head + margin) + margin),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for row, clip in enumerate(clips):
        top = margin + row * (height + head + margin)
        sample = int(batch.samples[row])
        label = manifest.labels[sample]
        name = manifest.classes[label] if label >= 0 else "no label"
        frames = batch.plan.frames[row]
        text = f"{name}   {Path(manifest.path(sample)).name}   frames {frames[0]} to {frames[-1]}   sample {sample}"
        draw.text((margin, top), text, fill="black")
        for column, frame in enumerate(chosen):
            tile = Image.fromarray(clip[frame]).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(tile, (margin + column * (width + margin), top + head))
    sheet.save(path)
