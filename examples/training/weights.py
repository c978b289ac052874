"""Weights to start from: state dicts, checkpoints and safetensors files, of the same network or of its pre-training."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from training.checkpoints import NO_WEIGHTS, best_weights, first_difference
from training.models import MODELS, first_line, import_library


def load_weights(network: nn.Module, path: str | Path, classes: Sequence[str] | None = None) -> list[str]:
    """Start from weights: a state dict, one within a dict as "model" or "state_dict", or a safetensors file.

    Of a checkpoint that has an average of its weights, this is taken. The classifier of other classes stays random: of
    another number of them, or of other names, or in another order, where the file has them.

    Args:
        network: of ``model``.
        path: of the file.
        classes: the names of its classes, in order. None: they are not compared.

    Returns:
        Sentences on what was not loaded, or is not what the file has first.

    Raises:
        OSError: there is no such file.
        ValueError: it is not of weights, or they are of another network.
    """
    found, theirs, said = _read_weights(path)
    mine, head = network.state_dict(), MODELS[network.about["name"]].head
    if hasattr(network, "from_pretrained") and any(key not in found and not key.startswith(head) for key in mine):
        found = _renamed(network, found)
    other = [key for key in mine if key in found and key.startswith(head) and found[key].shape != mine[key].shape]
    renamed = classes is not None and theirs is not None and list(theirs) != list(classes)
    if other or renamed:
        if other:
            what = f"{' instead of '.join(str(len(weights[other[0]])) for weights in (found, mine))} classes"
        else:
            what = f"other classes ({first_difference(theirs, classes)})"
        said.append(f"its classifier is of {what}: this one begins with random weights")
        found = {key: value for key, value in found.items() if not key.startswith(head)}
    differ = [key for key in mine if key in found and found[key].shape != mine[key].shape]
    missing = [key for key in mine if key not in found and not key.startswith(head)]
    name = network.about["name"]
    if differ:
        shapes = " instead of ".join(str(tuple(weights[differ[0]].shape)) for weights in (found, mine))
        raise ValueError(f"{path}: is not of this {name}: {differ[0]} is {shapes}")
    if missing:
        raise ValueError(f"{path}: is not of {name}: it lacks {len(missing)} of {len(mine)}, such as {missing[0]}")
    if not (other or renamed) and any(key.startswith(head) and key not in found for key in mine):
        said.append("it has no classifier: this one begins with random weights")
    if unknown := [key for key in found if key not in mine]:
        said.append(f"{len(unknown)} of its parameters are not of {name}, such as {unknown[0]}, and are left out")
    network.load_state_dict({key: found.get(key, value) for key, value in mine.items()})
    return said


def _read_weights(path):
    """The state dict in a file; the names of its classes, or None; and what is to be said."""
    if not Path(path).is_file():
        raise OSError(f"{path}: there is no such file")
    try:
        if str(path).endswith(".safetensors"):
            content = import_library("safetensors.torch").load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of as many kinds as there are ways to be damaged
        told = isinstance(error, (RuntimeError, OSError, ImportError)) or str(path).endswith(".safetensors")
        # what unpickling says is a number, or advice to run the code in the file
        reason = first_line(error) if told else NO_WEIGHTS
        raise ValueError(f"{path}: is not a file of weights: {reason}") from error
    found, classes, said = content, None, []
    if isinstance(content, dict):
        names = content.get("classes")
        classes = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
        found = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)), content)
        if found is not content and isinstance(content.get("ema"), dict):
            found = best_weights(content)
            said = ["the average of its weights is taken"]
    if not (isinstance(found, dict) and found and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items())):  # fmt: skip
        raise ValueError(f"{path}: is not a file of weights: it has no state dict")
    for prefix in ("module.", "_orig_mod."):  # of DistributedDataParallel, of torch.compile
        if all(key.startswith(prefix) for key in found):
            found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found, classes, said


def _renamed(network, found):
    """Weights as transformers' networks call them now: some are published under older names."""
    logging = import_library("transformers.utils.logging")
    verbosity, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            options = dict(config=network.config, ignore_mismatched_sizes=True, output_loading_info=True)
            loaded, info = type(network).from_pretrained(None, state_dict=found, **options)
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()
    renamed = {key: value for key, value in loaded.state_dict().items() if key not in info["missing_keys"]}
    renamed |= {key: torch.empty(theirs) for key, theirs, _ in info["mismatched_keys"]}
    return renamed | {key: torch.empty(0) for key in sorted(info["unexpected_keys"])}
