"""Networks by name, for clips (B, 3, F, H, W): a small one, torchvision's and transformers'."""

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_OF_CLIPS = "num_labels", "id2label", "label2id", "num_frames", "image_size"  # options of transformers' configurations
INSTALL = "pip install 'dali_vidaug[train]'"


@dataclass(frozen=True)
class Kind:
    """A network that ``model`` makes.

    Attributes:
        build: called with the number of classes, (F, H, W), dropout, drop path and further options.
        block: a pattern: what it finds at the beginning of a parameter's name is the block of the parameter.
        head: the names of parameters that belong to the classes begin with one of these; other weights lack them.
    """

    build: Callable[..., nn.Module]
    block: str
    head: tuple[str, ...]


def small(num_classes: int, dropout: float | None = None) -> nn.Sequential:
    """Three 3D convolutions: (B, 3, F, H, W) to (B, K). Frames are kept, so that it sees which way things go."""
    blocks = [
        nn.Sequential(
            nn.Conv3d(channels, following, (3, 5, 5), (1, 2, 2), (1, 2, 2)), nn.BatchNorm3d(following), nn.ReLU()
        )
        for channels, following in ((3, 16), (16, 32), (32, 64))
    ]
    after = nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Dropout(dropout or 0.0), nn.Linear(64, num_classes)
    return nn.Sequential(*blocks, *after)


def _small(num_classes, shape, dropout, drop_path, options):
    _refuse("small", drop_path=drop_path, **options)
    return small(num_classes, dropout)


def _resnet(name):
    def build(num_classes, shape, dropout, drop_path, options):
        _refuse(name, drop_path=drop_path)
        network = _video_models()[name](num_classes=num_classes, **options)
        if dropout is not None:  # where parameters keep the names that published weights have
            network.avgpool = nn.Sequential(network.avgpool, nn.Dropout(dropout))
        return network

    return Kind(build, r"layer\d\.\d+\.", ("fc.",))


def _s3d(num_classes, shape, dropout, drop_path, options):
    _refuse("s3d", drop_path=drop_path)
    network = _video_models()["s3d"](num_classes=num_classes, **_given(dropout=dropout), **options)
    frames, height, width = (-(-size // part) // 2 for size, part in zip(shape, (4, 16, 16), strict=True))
    if not (frames and height and width):
        raise ValueError(f"s3d: takes clips of 5 frames of 17x17 pixels or more, and the recipe's are {_times(shape)}")
    if frames < 2 or height < 7 or width < 7:  # its pooling is for larger ones, such as 16x224x224
        network.avgpool = nn.AdaptiveAvgPool3d(1)
    return network


def _mvit(name):
    def build(num_classes, shape, dropout, drop_path, options):
        _check_multiples(name, shape, (2, 32, 32))
        given = _given(dropout=dropout, stochastic_depth_prob=drop_path)
        network = _video_models()[name](num_classes=num_classes, **given, **options)
        if tuple(shape) != (16, 224, 224):  # the only clips that torchvision makes it for
            places = network.pos_encoding
            places.temporal_size, places.spatial_size = shape[0] // 2, (shape[1] // 4, shape[2] // 4)
            if places.spatial_pos is not None:  # in the second version positions are relative, and interpolated
                for name_of, count in (("spatial_pos", shape[1] * shape[2] // 16), ("temporal_pos", shape[0] // 2)):
                    table = torch.empty(count, places.class_pos.shape[0])
                    setattr(places, name_of, nn.Parameter(nn.init.trunc_normal_(table, std=0.02)))
        return network

    return Kind(build, r"blocks\.\d+\.", ("head.",))


def _swin(num_classes, shape, dropout, drop_path, options):
    network = _video_models()["swin3d_t"](num_classes=num_classes, **_given(dropout=dropout), **options)
    if drop_path is not None:  # which torchvision's function sets by itself
        paths = [module for module in network.modules() if type(module).__name__ == "StochasticDepth"]
        for path, rate in zip(paths, torch.linspace(0, drop_path, len(paths)).tolist(), strict=True):
            path.p = rate
    return network


def _transformer(name, base, head):
    def build(num_classes, shape, dropout, drop_path, options):
        config, network = _transformers(base)
        if name != "timesformer":
            _refuse(name, drop_path=drop_path)
        known = set(config().to_dict())
        for option in options:  # it would take any, without a word
            if option in _OF_CLIPS:
                raise ValueError(f"{name}: {option} is that of the classes and clips, and no option")
            if option not in known:
                raise ValueError(f"{name}: there is no option {option!r} of {base}Config")
        frames, height, width = shape
        given = _given(hidden_dropout_prob=dropout)
        if drop_path:
            given["drop_path_rate"] = 1  # a whole number is all that it takes; below it becomes what it must be
        if height != width and name == "timesformer":
            raise ValueError(f"timesformer: takes square clips, and the recipe's are {_times(shape)}")
        size = height if height == width else (height, width)
        try:
            settings = config(num_labels=num_classes, num_frames=frames, image_size=size, **given, **options)
        except Exception as error:  # huggingface_hub's own, of a value of another type
            raise ValueError(f"{name}: {' '.join(str(error).split())}") from error
        tubelet = getattr(settings, "tubelet_size", 1)
        if isinstance(tubelet, int):
            patch = settings.patch_size
            tubelet = (tubelet, *((patch, patch) if isinstance(patch, int) else patch))
        _check_multiples(name, shape, tuple(tubelet))
        made = _of_clips(network)(settings)
        paths = [module for module in made.modules() if hasattr(module, "drop_prob")]
        for path, rate in zip(paths, torch.linspace(0, drop_path or 0.0, len(paths) + 1).tolist()[1:], strict=True):
            path.drop_prob = rate
        return made

    return Kind(build, r"\w+\.(encoder\.)?layers?\.\d+\.", head)


def _of_clips(network):
    """A class of transformers whose networks take clips (B, 3, F, H, W), and return scores (B, K), as all others do."""

    def forward(self, clips):
        return network.forward(self, clips.transpose(1, 2)).logits

    return type(network.__name__, (network,), {"forward": forward, "__module__": network.__module__})


MODELS: dict[str, Kind] = {
    "small": Kind(_small, r"[012]\.", ("6.",)),
    "r3d_18": _resnet("r3d_18"),
    "mc3_18": _resnet("mc3_18"),
    "r2plus1d_18": _resnet("r2plus1d_18"),
    "s3d": Kind(_s3d, r"features\.\d+\.", ("classifier.",)),
    "mvit_v1_b": _mvit("mvit_v1_b"),
    "mvit_v2_s": _mvit("mvit_v2_s"),
    "swin3d_t": Kind(_swin, r"features\.\d+\.(\d+\.)?", ("head.",)),
    "videomae": _transformer("videomae", "VideoMAE", ("fc_norm.", "classifier.")),
    "timesformer": _transformer("timesformer", "Timesformer", ("classifier.",)),
    "vivit": _transformer("vivit", "Vivit", ("classifier.",)),
}


def model(
    name: str, num_classes: int, *, num_frames: int = 16, size: int | tuple[int, int] = 224,
    dropout: float | None = None, drop_path: float | None = None, seed: int = 0, **options: Any,
) -> nn.Module:  # fmt: skip
    """A network with random weights, the same for the same seed; torch's own random numbers stay as they were.

    Args:
        name: one of ``MODELS``.
        num_classes: scores that it returns for each clip.
        num_frames, size: of the clips; size: height and width.
        dropout: before the classifier; in swin3d_t and transformers' networks in their blocks. None: as it is
            published.
        drop_path: the share of samples for which a block is left out, rising to this one at the last block; of mvit,
            swin3d_t and timesformer. None: as it is published.
        seed: of the weights.
        options: of the network's own, such as hidden_size=96, num_hidden_layers=2 of transformers' configurations.

    Raises:
        ImportError: the library of the network is not installed.
        ValueError: there is no such network or option, or it does not suit the clips.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    if taken := {"weights", "progress"} & set(options):  # of torchvision, which would download them
        raise ValueError(f"{name}: has no option {taken.pop()}; load_weights() and --weights read a file")
    shape = (num_frames, size, size) if isinstance(size, int) else (num_frames, *size)
    for what, value in (("dropout", dropout), ("drop_path", drop_path)):
        if value is not None and not 0 <= value < 1:
            raise ValueError(f"{name}: {what} must be in [0, 1), got {value!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = MODELS[name].build(num_classes, shape, dropout, drop_path, options)
        except (ValueError, ImportError):
            raise
        except Exception as error:  # of an option that torchvision does not have, or of a value that cannot be
            if not options:
                raise
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
            raise ValueError(f"{name}: cannot be made with {given}: {first_line(error)}") from error
    sizes = dict(zip(("num_frames", "height", "width"), shape, strict=True))
    given = _given(dropout=dropout, drop_path=drop_path) | options
    network.about = {"name": name, "num_classes": num_classes, **sizes, "options": given}
    return network


def remake(about: Mapping[str, Any]) -> nn.Module:
    """The network that an ``about`` tells of, with random weights."""
    size = about["height"], about["width"]
    return model(about["name"], about["num_classes"], num_frames=about["num_frames"], size=size, **about["options"])


def depths(network: nn.Module) -> dict[str, int]:
    """The block of each parameter: 0 is what comes before the blocks; the largest number what comes after them.

    Raises:
        ValueError: it is not a network of ``model``.
    """
    name = getattr(network, "about", {}).get("name")
    if name not in MODELS:
        raise ValueError(f"layer_decay needs a network of model(), got {type(network).__name__}")
    kind, blocks, after, found = MODELS[name], {}, [], {}
    for parameter, _ in network.named_parameters():
        match = re.match(kind.block, parameter)
        if match:
            found[parameter] = blocks.setdefault(match.group(), len(blocks) + 1)
        elif blocks:
            after.append(parameter)
        else:
            found[parameter] = 0
    return found | dict.fromkeys(after, len(blocks) + 1)


def _times(shape):
    return "x".join(map(str, shape))


def _given(**options):
    return {name: value for name, value in options.items() if value is not None}


def _refuse(name, **options):
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{name}: has no option {option}, got {value!r}")


def _check_multiples(name, shape, patch):
    for what, size, part in zip(("frames", "pixels of height", "pixels of width"), shape, patch, strict=True):
        if size % part:
            raise ValueError(f"{name}: takes multiples of {part} {what}, and the recipe's clips have {size}")


def _video_models():
    """torchvision's networks by name."""
    return vars(import_library("torchvision.models.video"))


def _transformers(base):
    """The classes of a configuration and of a network."""
    library = import_library("transformers")
    try:
        return getattr(library, f"{base}Config"), getattr(library, f"{base}ForVideoClassification")
    except ImportError as error:  # of what it imports only now
        reason = first_line(error.__cause__ or error)
        raise ImportError(f"transformers cannot import {base}ForVideoClassification: {reason}") from error


def import_library(module: str) -> Any:
    """A module of an optional library.

    Raises:
        ImportError: it is not installed, or cannot be imported.
    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"this needs {library}: {INSTALL}") from error
    except RuntimeError as error:  # of a torchvision that was built for another torch
        raise ImportError(f"{library} cannot be imported: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
