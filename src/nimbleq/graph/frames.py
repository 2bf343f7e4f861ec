"""From a console's screens to the pictures that a policy of Atari reads: grey, maximum of two, resized, stacked.

The order is ALE's own [1709.06009 section 5]: each screen is made grey, the last two screens of an action are
maximised, the result is resized to the pictures' size by the mean over the area of each pixel (OpenCV's INTER_AREA),
and the last pictures are stacked, the newest last. A fresh stack holds zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from nimbleq.errors import ObservationError
from nimbleq.types import Array

GREY = (2989, 5870, 1140)
"""Ten thousandths of red, green and blue in a grey [ALE: ColourPalette]."""
_FLOAT_ERROR = 255 * 16 * 2.0**-24
"""Bound on what OpenCV's float32 sums of one pixel are off by: 255, at most 16 roundings."""


@dataclass(frozen=True)
class Frames:
    """How screens become the network's input.

    Attributes:
        height, width: of a screen.
        colours: 3 for red, green, blue (``[height, width, 3]``), 1 for grey (``[height, width]``).
        skip: screens per action, of which the last two are read.
    """

    height: int = 210
    width: int = 160
    colours: int = 3
    skip: int = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a screen."""
        return (self.height, self.width, 3) if self.colours == 3 else (self.height, self.width)


class Shown(NamedTuple):
    """The last two screens of an action, as the console shows them; ``first``: they start an episode."""

    before: Array
    screen: Array
    first: bool


@dataclass(frozen=True, eq=False)
class Axis:
    """Which pixels of one axis make each pixel of the result.

    Attributes:
        first: ``int[out]`` the first of them.
        parts: ``int[out, taps]`` their shares in whole numbers, 0 behind the last.
        floats: ``float32[out, taps]`` their shares as OpenCV computes them.
        total: sum of the whole shares of each pixel.
    """

    first: Array
    parts: Array
    floats: Array
    total: int


@cache
def axis(size: int, out: int) -> Axis:
    """The shares of ``size`` pixels in ``out`` of them."""
    common = math.gcd(size, out)
    cell, pixel = size // common, out // common  # sides in common units
    firsts, parts, floats = [], [], []
    for at in range(out):
        first, last = at * cell // pixel, -(-(at + 1) * cell // pixel)
        whole = [min((at + 1) * cell, (p + 1) * pixel) - max(at * cell, p * pixel) for p in range(first, last)]
        firsts.append(first)
        parts.append(whole)
        floats.append([_share(size, out, at, p, part == pixel) for p, part in enumerate(whole, first)])
    taps = max(map(len, parts))
    return Axis(
        np.array(firsts),
        np.array([[*row, *[0] * (taps - len(row))] for row in parts]),
        np.array([[*row, *[0.0] * (taps - len(row))] for row in floats], np.float32),
        cell,
    )


def _share(size: int, out: int, at: int, pixel: int, whole: bool) -> float:
    """The share of a pixel, by the formula of OpenCV's computeResizeAreaTab."""
    scale = size / out
    start, end = at * scale, at * scale + scale
    cell = min(scale, size - start)
    if whole:
        return 1.0 / cell
    if pixel < start:
        return (math.ceil(start) - start) / cell
    return min(min(end - math.floor(end), 1.0), cell) / cell


def margin(rows: Axis, columns: Axis) -> int:
    """How near to a tie a sum of whole shares may be for OpenCV to round it otherwise, in half units."""
    return int(2 * rows.total * columns.total * _FLOAT_ERROR)


def grey(screen: Array) -> Array:
    """``uint8[H, W]`` of a screen ``uint8[H, W, 3]``, or one that is grey already."""
    if screen.ndim == 2:
        return screen
    made: Array = ((screen.astype(np.int64) @ np.array(GREY) + 5000) // 10000).clip(0, 255).astype(np.uint8)
    return made


def resized(picture: Array, height: int, width: int) -> Array:
    """``uint8[height, width]`` of ``uint8[H, W]``: means over areas, rounded as OpenCV's INTER_AREA does."""
    rows, columns = axis(picture.shape[0], height), axis(picture.shape[1], width)
    total = rows.total * columns.total
    sums = (_matrix(picture.shape[0], height) @ picture @ _matrix(picture.shape[1], width).T).astype(np.int64)
    made = (2 * sums + total) // (2 * total)
    ties = np.nonzero(np.abs(2 * (sums % total) - total) <= margin(rows, columns))
    made[ties] = _as_opencv(picture, rows, columns, *ties)
    return made.astype(np.uint8)


@cache
def _matrix(size: int, out: int) -> Array:
    """``float64[out, size]`` the whole shares of each pixel."""
    made, matrix = axis(size, out), np.zeros((out, size))
    for at, (first, parts) in enumerate(zip(made.first, made.parts, strict=True)):
        part = parts[: size - first]
        matrix[at, first : first + len(part)] = part
    return matrix


def _as_opencv(picture: Array, rows: Axis, columns: Axis, y: Array, x: Array) -> Array:
    """The means of the areas ``(y[n], x[n])`` in float32, each first along rows, then down."""
    height, width = picture.shape
    total = np.zeros(len(y), np.float32)
    for i in range(rows.parts.shape[1]):
        line = np.zeros(len(y), np.float32)
        for j in range(columns.parts.shape[1]):  # beyond the border a share is 0
            at = np.minimum(rows.first[y] + i, height - 1), np.minimum(columns.first[x] + j, width - 1)
            line += picture[at].astype(np.float32) * columns.floats[x, j]
        total += line * rows.floats[y, i]
    means: Array = np.rint(total).astype(np.int64)
    return means


class FrameStack:
    """The last pictures of one episode.

    Args:
        frames: how screens are read.
        shape: ``(S, height, width)`` of the stack, which the network reads.
    """

    def __init__(self, frames: Frames, shape: tuple[int, ...]) -> None:
        self._frames = frames
        self._stack = np.zeros(shape, np.uint8)

    def reset(self, screen: Array) -> Array:
        """Start an episode with its first screen; gives the stack ``uint8[S, height, width]``."""
        self._stack[:] = 0
        return self.push(screen, screen)

    def push(self, before: Array, screen: Array) -> Array:
        """Add the last two screens of an action; gives the stack.

        Raises:
            ObservationError: a screen has another shape or type.
        """
        for one in (before, screen):
            if one.shape != self._frames.shape or one.dtype != np.uint8:
                raise ObservationError(
                    f"a screen is {one.dtype} {one.shape}, but the policy reads uint8 {self._frames.shape}"
                )
        pooled = np.maximum(grey(before), grey(screen))
        self._stack[:-1] = self._stack[1:]
        self._stack[-1] = resized(pooled, *self._stack.shape[1:])
        return self._stack.copy()
