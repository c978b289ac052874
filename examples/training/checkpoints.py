"""Checkpoints: written whole or not at all; what is damaged, or of another run, is refused in one sentence."""

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dali_vidaug.data.atomic import written_whole

FORMAT = "dali_vidaug training, 1"
NO_WEIGHTS = "it is not one that torch.save wrote, or has more in it than tensors and plain values"
FREE = ("epochs", "patience", "save_every", "log_every")  # options that a run may change when it goes on


class CheckpointError(ValueError):
    """A checkpoint cannot be used."""


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint: the one before stays until this one is on the disk."""
    with written_whole(path) as file:
        torch.save({"format": FORMAT, **content}, file)


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint; its tensors are on the CPU, where AdamW's counts of steps must be on a GPU, too.

    Raises:
        CheckpointError: it is damaged, or is something else.
        OSError: it cannot be read.
    """
    Path(path).open("rb").close()  # a file that is not there, or must not be read, says so by itself
    cure = "restore it, or remove it to begin anew"
    try:
        with zipfile.ZipFile(path) as archive:  # which compares the checksums, as torch does not
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of as many kinds as there are ways to be damaged
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own advice is to run the code in the file
            reason = NO_WEIGHTS
        raise CheckpointError(f"{path}: is no checkpoint, or is damaged ({reason}): {cure}") from error
    if damaged:
        raise CheckpointError(f"{path}: is damaged ({damaged} has another checksum): {cure}")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is not a checkpoint of examples/train.py: {cure}")
    return content


def best_weights(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint that validation saw: their average, if there is one."""
    ema = content.get("ema")
    if not ema:
        return content["model"]
    return {key.removeprefix("module."): value for key, value in ema.items() if key != "n_averaged"}


def check(path: Path, content: dict[str, Any], about: dict[str, Any], options: dict[str, Any], batch: int) -> list[str]:
    """Refuse a checkpoint of another network, or of other options.

    Args:
        path, content: of the checkpoint.
        about: the network.
        options: of this run.
        batch: clips in a batch, of all processes.

    Returns:
        What the run does otherwise from here on, in sentences.

    Raises:
        CheckpointError: it is of another run.
    """
    if "loader" not in content:
        raise CheckpointError(f"{path}: has weights alone: begin with --weights {path}, and another --output")
    flat = [{**told, **told.get("options", {}), "options": None} for told in (content["about"], about)]
    if differ := differences(*flat):
        raise CheckpointError(f"{path}: is of another model: {differ}")
    fixed = [{key: value for key, value in part.items() if key not in FREE} for part in (content["options"], options)]
    if differ := differences(*fixed):
        raise CheckpointError(f"{path}: is of a run with other options: {differ}; give the same, or another --output")
    epochs, done = (content["options"]["epochs"], options["epochs"]), content["best"]["validated"]
    said = []
    if done >= epochs[1]:
        return [f"has trained {done} epochs, of {epochs[1]}: nothing is left to do; more --epochs train on"]
    if epochs[0] != epochs[1]:
        said.append(
            f"was begun for {epochs[0]} epochs, and goes on for {epochs[1]}: the learning rate from here on is theirs"
        )
    sizes = content.get("batch", batch), batch
    if sizes[0] != sizes[1]:
        said.append(f"its batches had {sizes[0]} clips, of all processes, and have {sizes[1]} from here on")
    return said


def first_difference(theirs: Sequence[str], mine: Sequence[str]) -> str:
    """Where two lists of classes differ, as text."""
    pairs = zip(theirs, mine, strict=False)
    i = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(theirs), len(mine)))
    one, other = (repr(names[i]) if i < len(names) else "missing" for names in (theirs, mine))
    return f"class {i} is {one} instead of {other}"


def differences(theirs: dict[str, Any], mine: dict[str, Any]) -> str:
    """What differs in two dictionaries, as text."""
    keys = [key for key in {**theirs, **mine} if theirs.get(key) != mine.get(key)]
    return ", ".join(f"{key} {theirs.get(key)!r} instead of {mine.get(key)!r}" for key in keys)
