"""The networks and functions that a user has registered: ops have them by name, so that a recipe can be printed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

_MODULES: dict[str, Callable[..., Any]] = {}
_Module = TypeVar("_Module", bound=Callable[..., Any])


def register_module(name: str, module: _Module) -> _Module:
    """Give a network or a function the name by which ``TorchModule`` and ``FrameInterpolation`` find it.

    A recipe, a saved plan and a loader's state have only the name: every process that makes clips of them registers the
    module first. Loaders that have begun keep the one that they have.

    Args:
        name: an identifier, as "style".
        module: an ``nn.Module``, which is put into evaluation mode (``module.eval()``), or any callable.

    Returns:
        The module.

    Raises:
        ValueError: the name is no identifier, or the module cannot be called.
    """
    check_module_name("register_module", "name", name)
    if not callable(module):
        raise ValueError(f"register_module: module must be an nn.Module or a function, got {module!r}")
    if isinstance(module, type):
        raise ValueError(f"register_module: module must not be a class, got {module!r}: write {module.__name__}(...)")
    if is_network(module):
        module.eval()  # type: ignore[attr-defined]
    _MODULES[name] = module
    return module


def check_module_name(op: str, field: str, value: object) -> None:
    """``value`` can be the name of a module."""
    if not (isinstance(value, str) and value.isidentifier()):
        raise ValueError(f"{op}: {field} must be an identifier, such as 'style', got {value!r}")


def registered(op: str, name: str) -> Callable[..., Any]:
    """The module called ``name``.

    Raises:
        ValueError: there is none; ``op`` needs it.
    """
    if name not in _MODULES:
        known = ", ".join(sorted(_MODULES)) or "none"
        raise ValueError(
            f"{op}: no module is registered as {name!r} in this process, which has {known}; "
            f"dv.register_module({name!r}, module) does that"
        )
    return _MODULES[name]


def is_network(module: object) -> bool:
    """Whether a module is an ``nn.Module``, without importing torch."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(module, torch.nn.Module)


def kind_of(module: object) -> str:
    """What a module is called in messages: the name of a function, or of the class."""
    return getattr(module, "__qualname__", type(module).__qualname__)


def _extra_states(module):
    """What parts of a network keep besides tensors (``get_extra_state``), by name."""
    return [(key, value) for key, value in module.state_dict().items() if key.endswith("_extra_state")]


def fingerprint_of(op: str, name: str) -> str:
    """A text that another network, or other weights, would not have.

    Of a function it is the name: what it does cannot be compared.

    Raises:
        ValueError: there is no such module.
    """
    module: Any = registered(op, name)
    if not is_network(module):
        return kind_of(module)
    digest, torch = hashlib.blake2b(digest_size=8), sys.modules["torch"]
    try:
        # also what a state of the network leaves out
        for key, value in [*module.named_parameters(), *module.named_buffers(), *_extra_states(module)]:
            digest.update(f"{key} {getattr(value, 'dtype', '')} {tuple(getattr(value, 'shape', ()))}".encode())
            if isinstance(value, torch.Tensor):
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
            else:
                digest.update(repr(value).encode())
    except RuntimeError as error:  # as of layers that get their weights in the first call
        raise ValueError(f"{op}: the weights of module {name!r} ({kind_of(module)}) cannot be read: {error}") from error
    return f"{kind_of(module)} {digest.hexdigest()}"
