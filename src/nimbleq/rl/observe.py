"""Observations of any Gymnasium space as one array: a float32 vector, or a uint8 image ``(C, H, W)``.

The order of a flattened vector is that of `gymnasium.spaces.flatten`: dictionaries by their entries in the space's
order (sorted by name where a plain ``dict`` was given), tuples from left to right, nested ones in place, arrays in C
order, discrete values one-hot (each digit of a MultiDiscrete by itself).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from nimbleq.types import Array, ObsSpec

Observe = Callable[[Any], Array]
"""An observation of the space → an array of the spec; raises ValueError when it is of another shape."""
_IMAGE_MIN_PIXELS = 8  # smaller ones are vectors: there is nothing to convolve
_Fill = Callable[[Any, Array], None]


def observer(space: spaces.Space[Any]) -> tuple[ObsSpec, Observe]:
    """How observations of ``space`` become arrays.

    Pixels (uint8 or bool, at least 8 × 8) stay an image with the channels first; True is 255, since a network divides
    by that. Everything else becomes a float32 vector.

    Raises:
        TypeError: the space has no array form of fixed size; names the part that has none.
    """
    if isinstance(space, spaces.Box) and space.dtype in (np.uint8, np.bool_) and len(space.shape) in (2, 3):
        channels, sides = _channel_axis(space.shape)
        if min(sides) >= _IMAGE_MIN_PIXELS:
            return ObsSpec((1 if channels is None else space.shape[channels], *sides), "uint8"), _image(space, channels)
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0:
        return ObsSpec(cast(tuple[int, ...], space.shape)), _as_float32(cast(tuple[int, ...], space.shape))
    size, fill = _flattener(space)
    if size == 0:
        raise TypeError(f"{type(space).__name__} without content")

    def observe(obs: Any) -> Array:
        row = np.zeros(size, np.float32)
        fill(obs, row)
        return row

    return ObsSpec((size,)), observe


def _as_float32(shape: tuple[int, ...]) -> Observe:
    def observe(obs: Any) -> Array:
        array: Array = np.asarray(obs, np.float32)
        if array.shape != shape:
            raise ValueError(_shapes(array.shape, shape))
        return array

    return observe


def _shapes(got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    return f"an observation of shape {got}, its observation space says {wanted}"


def _channel_axis(shape: tuple[int, ...]) -> tuple[int | None, tuple[int, ...]]:
    """Which axis holds the channels (the shorter of the outer ones; the last of equals), and the other sides."""
    if len(shape) == 2:
        return None, shape
    return (0, shape[1:]) if shape[0] < shape[2] else (2, shape[:2])


def _image(space: spaces.Box, channels: int | None) -> Observe:
    shape, binary = space.shape, space.dtype == np.bool_

    def observe(obs: Any) -> Array:
        array = np.asarray(obs)
        if array.shape != shape:
            raise ValueError(_shapes(array.shape, shape))
        array = array[None] if channels is None else array.transpose(2, 0, 1) if channels == 2 else array
        return array.astype(np.uint8) * np.uint8(255) if binary else array.astype(np.uint8, copy=False)

    return observe


def _flattener(space: spaces.Space[Any]) -> tuple[int, _Fill]:
    """Length of the vector, and what writes an observation into such a vector of zeros."""
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return _numbers(cast(tuple[int, ...], space.shape))
    if isinstance(space, spaces.Discrete):
        first, count = int(space.start), int(space.n)
        return count, lambda obs, row: row.__setitem__(_digit(int(obs) - first, count), 1.0)
    if isinstance(space, spaces.MultiDiscrete):
        return _digits(space)
    if isinstance(space, spaces.Dict):
        return _parts([(name, *_entry(name, part)) for name, part in space.spaces.items()])
    if isinstance(space, spaces.Tuple):
        return _parts([(index, *_flattener(part)) for index, part in enumerate(space.spaces)])
    raise TypeError(type(space).__name__)


def _entry(name: str, space: spaces.Space[Any]) -> tuple[int, _Fill]:
    try:
        return _flattener(space)
    except TypeError as error:
        raise TypeError(f"{error} in its entry {name!r}") from None


def _numbers(shape: tuple[int, ...]) -> tuple[int, _Fill]:
    def fill(obs: Any, row: Array) -> None:
        array = np.asarray(obs)
        if array.shape != shape:
            raise ValueError(_shapes(array.shape, shape))
        row[:] = array.reshape(-1)

    return int(np.prod(shape, dtype=np.int64)), fill


def _digit(value: int, count: int) -> int:
    if not 0 <= value < count:
        raise ValueError(f"the discrete observation {value} (from its start), its observation space has {count}")
    return value


def _digits(space: spaces.MultiDiscrete) -> tuple[int, _Fill]:
    counts, first = np.asarray(space.nvec).reshape(-1), np.asarray(space.start).reshape(-1)
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    shape = np.asarray(space.nvec).shape

    def fill(obs: Any, row: Array) -> None:
        array = np.asarray(obs)
        if array.shape != shape:
            raise ValueError(_shapes(array.shape, shape))
        digits = array.reshape(-1) - first
        if (digits < 0).any() or (digits >= counts).any():
            raise ValueError(f"the observation {array.tolist()}, outside its observation space {space}")
        row[offsets + digits] = 1.0

    return int(counts.sum()), fill


def _parts(parts: list[tuple[Any, int, _Fill]]) -> tuple[int, _Fill]:
    ends = np.cumsum([size for _, size, _ in parts]).tolist()
    places = [(key, slice(end - size, end), fill) for (key, size, fill), end in zip(parts, ends, strict=True)]

    def fill_all(obs: Any, row: Array) -> None:
        for key, place, fill in places:
            fill(obs[key], row[place])

    return ends[-1] if ends else 0, fill_all
