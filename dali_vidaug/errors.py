"""The package's own exceptions, and any exception as one line of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dali_vidaug.plan import Plan

_LONGEST_LINE = 400  # characters
_LONGEST_OPTIONS = 200


class ClipError(RuntimeError):
    """A clip could not be read or decoded.

    Attributes:
        path: the file.
        sample: its row of the manifest.
        epoch: the epoch that the clip was for.
        plan: the clip's plan, of one row.
        reason: what went wrong, one line.
    """

    def __init__(self, path: str, plan: Plan, reason: str):
        self.path, self.plan, self.reason = path, plan, reason
        self.sample, self.epoch = int(plan.samples[0]), plan.epoch
        super().__init__(f"{printable(path)} (sample {self.sample}, epoch {self.epoch}): {reason}")

    def __reduce__(self) -> tuple[type[ClipError], tuple[str, Plan, str]]:
        return ClipError, (self.path, self.plan, self.reason)


class NotForDaliError(ValueError):
    """DALI would get this clip wrong; PyAV decodes it on the CPU."""


class OpError(ValueError):
    """A method of an op or a sampler, such as one of your own, has raised an exception, which is its cause."""


@contextmanager
def naming(name: str, op: object, method: str, purpose: str | Callable[[], str]) -> Iterator[None]:
    """Run a method of an op or a sampler; what it raises names the op, its options and what the method was run for.

    Args:
        name: of the op in its recipe.
        op: the op or sampler.
        method: that is run.
        purpose: what for, such as "for 8 clips"; or what says so, which is called only where the method fails.

    Raises:
        OpError: the method raised an exception that does not begin with the op's name.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (TypeError, ValueError)) and str(error).startswith((f"{name}:", f"{type(op).__name__}:")):
            raise
        try:
            options = " ".join(repr(op).split())
        except Exception:  # the op may be too broken for it
            options = type(op).__name__
        if len(options) > _LONGEST_OPTIONS:
            options = f"{options[: _LONGEST_OPTIONS - 3]}..."
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        purpose = purpose if isinstance(purpose, str) else purpose()
        raise OpError(f"{name}.{method}: {what} ({options}, {purpose})") from error


def printable(path: str) -> str:
    r"""A path that can be printed and logged: bytes of it that are not UTF-8 as ``\xe9``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(error: BaseException) -> str:
    """Put an exception into one line, without the path and number that operating system errors begin with."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 3]}..."
