"""From Gymnasium's spaces to `nimbleq.graph.space`: which parts are pictures, and how their axes are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from nimbleq.config import Channels
from nimbleq.graph.space import (
    DTYPES,
    FLAT,
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Path,
    Space,
    Tuple,
    leaves,
    named,
)

_MIN_PIXELS = 8  # a side; smaller ones are vectors: there is nothing to convolve
_MAX_STACK = 16  # pictures that are stacked
_LAYOUTS: dict[tuple[int, Channels], str] = {
    (3, "first"): "CHW", (3, "last"): "HWC", (4, "first"): "SCHW", (4, "last"): "SHWC"
}  # fmt: skip


def space_of(space: spaces.Space[Any], channels: Channels | None = None, path: Path = ()) -> Space:
    """A Gymnasium space as data.

    Pixels, at least 8 × 8 of them, are pictures: Boxes of bytes or bools with 2 to 4 axes, and of other numbers with 3
    if they have bounds or ``channels`` says so. Four axes are a stack of pictures, whose channels become one axis.

    Args:
        channels: where pictures have theirs (None: guessed, see `guesses`), or ``"flat"``: there are no pictures.

    Raises:
        TypeError: the space has no array form of fixed size; says which part.
    """
    match space:
        case spaces.Box():
            return _box(space, channels, path)
        case spaces.Discrete():
            return Discrete(int(space.n), int(space.start))
        case spaces.MultiDiscrete():
            nvec, start = np.asarray(space.nvec), np.asarray(space.start)
            digits = tuple(nvec.reshape(-1).tolist()), tuple(start.reshape(-1).tolist())
            return MultiDiscrete(*digits, nvec.shape)
        case spaces.MultiBinary():
            return MultiBinary(tuple(int(side) for side in space.shape))
        case spaces.Dict():
            for name in space.spaces:
                if not isinstance(name, str):
                    raise TypeError(f"a Dict with the key {name!r}, which is no text")
            return Dict(tuple((name, space_of(part, channels, (*path, name))) for name, part in space.spaces.items()))
        case spaces.Tuple():
            entries = enumerate(space.spaces)
            return Tuple(tuple(space_of(part, channels, (*path, index)) for index, part in entries))
    inside = f" in its entry {named(path)!r}" if path else ""
    raise TypeError(f"{type(space).__name__}{inside}")


def _box(space: spaces.Box, channels: Channels | None, path: Path) -> Box:
    dtype, shape = str(space.dtype), tuple(int(side) for side in space.shape)
    if dtype not in DTYPES:
        raise TypeError(f"a Box of {dtype}" + (f" in its entry {named(path)!r}" if path else ""))
    low, high = _bound(space.low, min), _bound(space.high, max)
    box = Box(shape, dtype, low, high)
    axes = _axes(box, channels)
    if axes == FLAT and channels != "flat" and len(shape) > 3 and dtype in ("uint8", "bool"):
        where = f" in its entry {named(path)!r}" if path else ""
        raise TypeError(
            f"{dtype} of shape {shape}{where}, neither a picture nor a stack of at most {_MAX_STACK} of them, "
            "(S, H, W, C) or (S, C, H, W) (--channels flat takes it as numbers)"
        )
    return Box(shape, dtype, low, high, axes)


def _bound(values: Any, extreme: Any) -> float | None:
    """The bound that holds for all values, if there is one."""
    if np.size(values) == 0:
        return None
    bound = float(extreme(np.min(values), np.max(values)))
    return bound if math.isfinite(bound) and abs(bound) < 1e30 else None


def _axes(box: Box, channels: Channels | None) -> str:
    if channels == "flat":
        return FLAT
    pixels, sides = box.dtype in ("uint8", "bool"), box.shape
    if pixels and len(sides) == 2 and min(sides) >= _MIN_PIXELS:
        return "HW"
    stacked = pixels and len(sides) == 4 and sides[0] <= _MAX_STACK
    if not stacked and not (len(sides) == 3 and (pixels or box.bounded or channels is not None)):
        return FLAT
    possible = readings(sides)
    if channels is not None:
        return _LAYOUTS[len(sides), channels] if channels in possible else FLAT
    return _LAYOUTS[len(sides), possible[0]] if possible else FLAT


def readings(shape: tuple[int, ...]) -> list[Channels]:
    """Where the channels of a picture ``[S,] a, b, c`` may be, the likelier place first: what is left is squarer."""
    *_, a, b, c = shape
    sides: dict[Channels, tuple[int, int]] = {"last": (a, b), "first": (b, c)}
    possible = [where for where, pair in sides.items() if min(pair) >= _MIN_PIXELS]
    return sorted(possible, key=lambda where: max(sides[where]) / min(sides[where]))  # (stable: last before first)


def guesses(space: Space) -> Iterator[str]:
    """In words, how what may be a picture is read, and one whose channels may be at either end."""
    for path, leaf in leaves(space):
        if not isinstance(leaf, Box) or len(leaf.shape) < 3:
            continue
        what = f"the observation's entry {named(path)!r}" if path else "the observation"
        if leaf.picture is None and len(leaf.shape) == 3 and not leaf.bounded and (possible := readings(leaf.shape)):
            ways = " or ".join(f"--channels {where}" for where in possible)
            yield (
                f"{what} of shape {leaf.shape} has no bounds and is read as {leaf.size:,} numbers: "
                f"{ways} if it is a picture"
            )
        if leaf.picture is not None and len(readings(leaf.shape)) == 2:
            other = "first" if leaf.axes.endswith("C") else "last"
            planes, height, width = leaf.picture
            yield (
                f"{what} of shape {leaf.shape} is seen as {planes} planes of {height} × {width}: "
                f"--channels {other} if its channels come {other}"
            )
