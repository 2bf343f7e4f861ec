"""Observation spaces as data: what an environment gives, without Gymnasium.

The classes have the names and meanings of Gymnasium's. Every space has an array form of fixed size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

AXES = ("HW", "CHW", "HWC", "SHWC", "SCHW")
"""Orders of the axes of an image: channels, height, width; S counts stacked images, which become channels."""
FLAT, SAME = "flat", "same"
DTYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"
)  # fmt: skip


@dataclass(frozen=True)
class Box:
    """Numbers of one type.

    Attributes:
        shape: as the environment gives it.
        dtype: numpy name, one of `DTYPES`.
        low, high: bounds of all values (None: no bound).
        axes: one of `AXES` for an image, ``"flat"`` for a part of a vector, ``"same"`` for an array as it is.
        offset: subtracted in float64 first, one per value in C order (empty: none).
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None
    axes: str = FLAT
    offset: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def bounded(self) -> bool:
        """Whether both bounds are known."""
        return self.low is not None and self.high is not None

    @property
    def picture(self) -> tuple[int, int, int] | None:
        """``(C, H, W)`` of an image, else None."""
        match self.axes, self.shape:
            case "HW", (h, w):
                return 1, h, w
            case "CHW", (c, h, w):
                return c, h, w
            case "HWC", (h, w, c):
                return c, h, w
            case "SHWC", (s, h, w, c):
                return s * c, h, w
            case "SCHW", (s, c, h, w):
                return s * c, h, w
        return None

    @property
    def stored(self) -> str:
        """Type of the network's input: ``"uint8"`` for pixels that are bytes, else ``"float32"``."""
        if self.axes == SAME:
            return "uint8" if self.dtype == "uint8" else "float32"
        whole = self.dtype == "bool" or "int" in self.dtype
        low, high = (0, 1) if self.dtype == "bool" else (self.low, self.high)
        if self.dtype == "uint8":
            low, high = 0, 255
        bytes_ = whole and low is not None and high is not None and low >= 0 and high <= 255
        return "uint8" if self.picture is not None and bytes_ else "float32"

    @property
    def binary(self) -> bool:
        """Whether it is an image of integer zeros and ones; the network sees 0 and 255."""
        return self.picture is not None and self.stored == "uint8" and (self.dtype == "bool" or self.high == 1)

    @property
    def two_valued(self) -> bool:
        """Whether the network's input has only two values, whatever the environment gives: others are refused."""
        return self.binary or (self.picture is None and self.dtype == "bool" and not self.offset)


@dataclass(frozen=True)
class Discrete:
    """``start`` … ``start + n − 1``."""

    n: int
    start: int = 0

    @property
    def size(self) -> int:
        """Number of values in its one-hot form."""
        return self.n


@dataclass(frozen=True)
class MultiDiscrete:
    """Digits in an array of ``shape``; digit ``i`` (C order) is one of ``start[i]`` … ``start[i] + nvec[i] − 1``."""

    nvec: tuple[int, ...]
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values in its one-hot form."""
        return sum(self.nvec)


@dataclass(frozen=True)
class MultiBinary:
    """Zeros and ones in an array of ``shape``."""

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Dict:
    """Named entries, in the order in which they become one array."""

    entries: tuple[tuple[str, Space], ...]

    @property
    def size(self) -> int:
        """Number of values in its flat form."""
        return sum(space.size for _, space in self.entries)


@dataclass(frozen=True)
class Tuple:
    """Entries from left to right."""

    entries: tuple[Space, ...]

    @property
    def size(self) -> int:
        """Number of values in its flat form."""
        return sum(space.size for space in self.entries)


Space = Box | Discrete | MultiDiscrete | MultiBinary | Dict | Tuple
Leaf = Box | Discrete | MultiDiscrete | MultiBinary
Path = tuple[str | int, ...]
"""Keys and indices from an observation to one of its entries."""


def leaves(space: Space, path: Path = ()) -> list[tuple[Path, Leaf]]:
    """The arrays and numbers in ``space``, in the order of its flat form."""
    if isinstance(space, Dict):
        return [leaf for name, part in space.entries for leaf in leaves(part, (*path, name))]
    if isinstance(space, Tuple):
        return [leaf for index, part in enumerate(space.entries) for leaf in leaves(part, (*path, index))]
    return [(path, space)]


def named(path: Path) -> str:
    """A path for messages: ``arm.joints[2]``; empty for the observation itself."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")
