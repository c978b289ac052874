"""The grid of tokens that a mask lies on, and what a mask must have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from dali_vidaug.ops.check import is_number, make_plain

if TYPE_CHECKING:
    from dali_vidaug.rng import Draws

_SIDE_MAX = 16384


class Grid(NamedTuple):
    """The tokens of a clip: ``frames`` x ``height`` x ``width`` of them, in this order where they are counted through.

    Attributes:
        frames: a token is ``tubelet`` frames of the clip long.
        height, width: it is a ``patch`` of pixels high and wide.
    """

    frames: int
    height: int
    width: int

    @property
    def per_frame(self) -> int:
        """Tokens of one of the grid's frames."""
        return self.height * self.width

    @property
    def size(self) -> int:
        """All tokens."""
        return self.frames * self.height * self.width


class Mask(Protocol):
    """A mask of a recipe: one of this package, or a frozen dataclass of your own.

    Attributes:
        patch: pixels of a token: a side, or (height, width).
        tubelet: frames of a token.
    """

    @property
    def patch(self) -> int | tuple[int, int]: ...

    @property
    def tubelet(self) -> int: ...

    def draw(self, draws: Draws, grid: Grid) -> np.ndarray:
        """Which tokens of each clip are masked.

        Args:
            draws: random numbers for B clips; ``draws.of_step()`` has those that all clips of a step have in common.
            grid: of the tokens of a clip.

        Returns:
            (B, *grid) bool, True where a token is masked.
        """
        ...


def check_token(mask: Any) -> None:
    """``patch`` and ``tubelet`` of a mask are sides of tokens; NumPy's numbers become Python's.

    Raises:
        ValueError: they are not; the mask's class and the value are named.
    """
    name = type(mask).__name__
    sides = mask.patch if isinstance(mask.patch, (tuple, list)) and len(mask.patch) == 2 else (mask.patch,)
    for field, values in (("patch", sides), ("tubelet", (mask.tubelet,))):
        if not all(is_whole(value, 1, _SIDE_MAX) for value in values):
            kind = "an int or (height, width)" if field == "patch" else "an int"
            raise ValueError(f"{name}: {field} must be {kind} in [1, {_SIDE_MAX}], got {getattr(mask, field)!r}")
    make_plain(mask, "patch", "tubelet")


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether ``value`` is an int in [low, high]; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(low <= value <= high)


def check_ratio(mask: Any, field: str) -> None:
    """An option of a mask is a share of its tokens, neither none nor all.

    Raises:
        ValueError: it is not; the mask's class, the option and the value are named.
    """
    value = getattr(mask, field)
    if not (is_number(value, 0, 1) and 0 < value < 1):
        raise ValueError(f"{type(mask).__name__}: {field} must be in (0, 1), got {value!r}")
    make_plain(mask, field)


def check_some(mask: Any, share: str, count: int, total: int, where: str) -> None:
    """Some tokens are masked, and some are left.

    Args:
        mask: whose class is named.
        share: the option that says how many, and its value.
        count: of masked tokens.
        total: of all tokens of ``where``.

    Raises:
        ValueError: none or all are masked.
    """
    if not 0 < count < total:
        raise ValueError(f"{type(mask).__name__}: {share} masks {count} of the {total} tokens of {where}")


def patch_sides(mask: Any) -> tuple[int, int]:
    """Height and width of a mask's tokens in pixels."""
    return mask.patch if isinstance(mask.patch, tuple) else (mask.patch, mask.patch)


def grid_of(name: str, mask: Any, frames: int, height: int, width: int) -> Grid:
    """The grid of a mask's tokens on clips of one size.

    Args:
        name: of the mask in its recipe.
        mask: has ``patch`` and ``tubelet``.
        frames, height, width: of the clips after the last op.

    Raises:
        ValueError: the tokens do not divide the clips.
    """
    down, across = patch_sides(mask)
    if frames % mask.tubelet or height % down or width % across:
        raise ValueError(
            f"{name}: tokens of {mask.tubelet} x {down} x {across} (frames x height x width) do not divide clips of "
            f"{frames} x {height} x {width}"
        )
    return Grid(frames // mask.tubelet, height // down, width // across)
