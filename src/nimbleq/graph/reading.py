"""Converts an observation from the environment into the one array that a network reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nimbleq.errors import ObservationError
from nimbleq.graph.space import FLAT, SAME, Box, Dict, Discrete, Leaf, MultiBinary, Path, Space, Tuple, leaves, named
from nimbleq.types import Array, ObsSpec

Read = Callable[[Any], Array]
"""An observation → the network's input; raises `ObservationError`. Does not look for NaN and infinity."""
_Leaf = Callable[[Any], Array]
_TO_FIRST = {"HW": (), "CHW": (), "HWC": (2, 0, 1), "SHWC": (0, 3, 1, 2), "SCHW": ()}
"""The transposition that moves the stack and the channels first."""
_WHOLE = Box((), "int64")
_EXACT = 2.0**53  # below this float64 holds every whole number
SLACK = 1e-5  # of an image's range: tolerance for rounding of floats


def input_spec(space: Space) -> ObsSpec:
    """The network's input for ``space``: one image ``(C, H, W)``, or a vector: images, then numbers."""
    found = [leaf for _, leaf in leaves(space)]
    if len(found) == 1 and isinstance(found[0], Box) and found[0].axes != FLAT:
        return ObsSpec(found[0].picture or found[0].shape, found[0].stored, bits=_bits(found))
    pictures = tuple(
        ObsSpec(leaf.picture, leaf.stored) for leaf in found if isinstance(leaf, Box) and leaf.picture is not None
    )
    order = sorted(found, key=lambda leaf: getattr(leaf, "picture", None) is None)  # (stable)
    return ObsSpec((space.size,), pictures=pictures, bits=_bits(order))


def _bits(found: list[Leaf]) -> tuple[tuple[int, int], ...]:
    """Ranges of the values that can only be zero or one (in images 0 or 255), of leaves in the order of the input."""
    ends = np.cumsum([0, *(leaf.size for leaf in found)]).tolist()
    ranges = zip(ends, ends[1:], found, strict=False)
    return tuple((start, end) for start, end, leaf in ranges if not isinstance(leaf, Box) or leaf.two_valued)


def reader(space: Space) -> Read:
    """A function that reads observations of ``space``, as fast as its form allows."""
    found = leaves(space)
    if len(found) == 1:
        path, leaf = found[0]
        read, get = _leaf_reader(leaf, path), _getter(space, path)
        whole = isinstance(leaf, Box) and (leaf.axes != FLAT or len(leaf.shape) == 1)
        if not path:
            return read if whole else lambda obs: read(obs).reshape(-1)
        return (lambda obs: read(get(obs))) if whole else (lambda obs: read(get(obs)).reshape(-1))
    return _joined(space, found)


def _joined(space: Space, found: list[tuple[Path, Leaf]]) -> Read:
    """Many entries as one vector: images first, then everything else, each in the order of the space."""
    order = sorted(range(len(found)), key=lambda at: getattr(found[at][1], "picture", None) is None)  # (stable)
    ends = np.cumsum([found[at][1].size for at in order]).tolist()
    places = dict(
        zip(order, ((end - found[at][1].size, end) for at, end in zip(order, ends, strict=True)), strict=True)
    )
    fills = [(places[at], _leaf_reader(leaf, path)) for at, (path, leaf) in enumerate(found)]
    collect, size = _collector(space, ()), space.size

    def read(obs: Any) -> Array:
        row = np.empty(size, np.float32)
        for ((start, end), leaf), value in zip(fills, collect(obs), strict=True):
            row[start:end] = leaf(value).reshape(-1)
        return row

    return read


def _collector(space: Space, path: Path) -> Callable[[Any], list[Any]]:
    """The values of the leaves, in the order of the flat form."""
    if isinstance(space, Dict):
        parts = [(name, _collector(part, (*path, name))) for name, part in space.entries]
        names, more = [name for name, _ in parts], dict(parts)

        def of_dict(obs: Any) -> list[Any]:
            _check_mapping(obs, names, path)
            return [value for name in names for value in more[name](obs[name])]

        return of_dict
    if isinstance(space, Tuple):
        entries = [_collector(part, (*path, index)) for index, part in enumerate(space.entries)]

        def of_tuple(obs: Any) -> list[Any]:
            _check_sequence(obs, len(entries), path)
            return [value for collect, part in zip(entries, obs, strict=True) for value in collect(part)]

        return of_tuple
    return lambda obs: [obs]


def _getter(space: Space, path: Path) -> Callable[[Any], Any]:
    """The only leaf of ``space``, which is at ``path``."""
    collect = _collector(space, ())
    return lambda obs: collect(obs)[0]


def _check_mapping(obs: Any, names: list[str], path: Path) -> None:
    if not isinstance(obs, Mapping):
        raise ObservationError(f"{_the(path)} is {described(obs)}, but its space is a Dict of {', '.join(names)}")
    for name in names:
        if name not in obs:
            has = ", ".join(map(str, obs)) or "nothing"
            raise ObservationError(f"{_the(path)} has no entry {name!r}, which its space has (it has {has})")


def _check_sequence(obs: Any, count: int, path: Path) -> None:
    if not isinstance(obs, tuple | list):
        raise ObservationError(f"{_the(path)} is {described(obs)}, but its space is a Tuple of {count} entries")
    if len(obs) != count:
        raise ObservationError(f"{_the(path)} has {len(obs)} entries, but its space is a Tuple of {count}")


def _leaf_reader(leaf: Leaf, path: Path) -> _Leaf:
    if isinstance(leaf, Box):
        if leaf.axes not in (FLAT, SAME):
            return _picture(leaf, path)
        return _numbers(leaf, path)
    if isinstance(leaf, MultiBinary):
        return _numbers(Box(leaf.shape, "bool"), path)
    if isinstance(leaf, Discrete):
        return _digit(leaf, path)
    return _one_hot(leaf.nvec, leaf.start, leaf.shape, path)


def _numbers(leaf: Box, path: Path) -> _Leaf:
    shape, stored = leaf.shape, np.dtype(leaf.stored)
    offset = np.array(leaf.offset).reshape(shape) if leaf.offset else None
    quick = offset is None and (stored == np.dtype(leaf.dtype) or np.dtype(leaf.dtype).kind == "f")

    def read(value: Any) -> Array:
        if quick and type(value) is np.ndarray and value.dtype == stored and value.shape == shape:
            return value
        array = _checked(as_array(value, path), leaf, path)
        if array.shape != shape:
            raise ObservationError(f"{_the(path)} has the shape {array.shape}, but its space has {shape}")
        if offset is not None:
            array = _moved(array, offset)
        if array.dtype.kind != "f" or array.dtype.itemsize <= stored.itemsize:
            return array.astype(stored, copy=False)
        with np.errstate(over="ignore"):  # the caller checks for infinity
            return array.astype(stored)

    return read


def _moved(array: Array, offset: Array) -> Array:
    """``float64`` ``array − offset``, exact where both are whole, also above 2^53 (nanoseconds since 1970)."""
    rough = array.astype(np.float64) - offset
    if array.dtype.kind not in "iu":
        return rough
    whole = np.rint(offset)
    taken = np.array([int(value) % (1 << 64) for value in whole.reshape(-1)], np.uint64).reshape(whole.shape)
    exact = (array.astype(np.uint64) - taken).view(np.int64)  # modulo 2^64, in which small differences are exact
    return np.where(np.abs(rough) < _EXACT, exact - (offset - whole), rough)


def _picture(leaf: Box, path: Path) -> _Leaf:
    shape, stored, moved = leaf.shape, np.dtype(leaf.stored), _TO_FIRST[leaf.axes]
    out, binary = leaf.picture, leaf.binary
    dtype = np.dtype(leaf.dtype)
    full = dtype.kind == "b" or (dtype == np.uint8 and (leaf.low or 0) <= 0 and (leaf.high is None or leaf.high >= 255))
    slack = SLACK * ((leaf.high or 0) - (leaf.low or 0)) if dtype.kind == "f" else 0.0

    def read(value: Any) -> Array:
        array = value if type(value) is np.ndarray else as_array(value, path)
        if array.shape != shape:
            raise ObservationError(f"{_the(path)} has the shape {array.shape}, but its space has {shape}")
        array = _checked(array, leaf, path)
        if not full:
            _check_bounds(array, leaf, slack, path)
        array = (array.transpose(moved) if moved else array).reshape(out)
        array = array.astype(stored, copy=False)
        return array * np.uint8(255) if binary else array

    return read


def _check_bounds(array: Array, leaf: Box, slack: float, path: Path) -> None:
    low, high = array.min(), array.max()
    if (leaf.low is not None and low < leaf.low - slack) or (leaf.high is not None and high > leaf.high + slack):
        worst = low if leaf.low is not None and low < leaf.low - slack else high
        raise ObservationError(
            f"{_the(path)} has the value {worst}, but its space goes from {_number(leaf.low)} to {_number(leaf.high)}"
        )


def _digit(leaf: Discrete, path: Path) -> _Leaf:
    size, start = leaf.n, leaf.start

    def read(value: Any) -> Array:
        if not isinstance(value, int | np.integer):
            array = as_array(value, path)
            if array.size != 1:
                raise ObservationError(f"{_the(path)} has the shape {array.shape}, but its space is one number")
            value = _checked(array, _WHOLE, path).item()
        digit = int(value) - start
        if not 0 <= digit < size:
            raise ObservationError(f"{_the(path)} is {value}, but its space goes from {start} to {start + size - 1}")
        row = np.zeros(size, np.float32)
        row[digit] = 1.0
        return row

    return read


def _one_hot(counts: tuple[int, ...], starts: tuple[int, ...], shape: tuple[int, ...], path: Path) -> _Leaf:
    first, limits = np.array(starts, np.int64), np.array(counts, np.int64)
    places, size = np.concatenate([[0], np.cumsum(limits)[:-1]]).astype(np.int64), int(limits.sum())

    def read(value: Any) -> Array:
        array = as_array(value, path)
        if array.shape != shape:
            raise ObservationError(f"{_the(path)} has the shape {array.shape}, but its space has {shape}")
        digits = _checked(array, _WHOLE, path).reshape(-1).astype(np.int64) - first
        wrong = (digits < 0) | (digits >= limits)
        if wrong.any():
            at = int(wrong.argmax())
            raise ObservationError(
                f"{_the(path)} is {array.reshape(-1)[at]}, but its space goes from {starts[at]} to "
                f"{starts[at] + counts[at] - 1}"
            )
        row = np.zeros(size, np.float32)
        row[places + digits] = 1.0
        return row

    return read


def as_array(value: Any, path: Path = ()) -> Array:
    """Any array-like value of real numbers as a numpy array.

    Raises:
        ObservationError: it is text, None, ragged or something else.
    """
    array = value if type(value) is np.ndarray else _converted(value, path)
    if array.dtype.kind not in "biuf":
        raise ObservationError(f"{_the(path)} is {described(value)}, not numbers")
    return array


def _converted(value: Any, path: Path) -> Array:
    if np.ma.is_masked(value):
        raise ObservationError(f"{_the(path)} has masked values, for which there is no number: fill them in")
    if hasattr(value, "detach"):  # a torch tensor, perhaps with a gradient or on a device
        value = value.detach().cpu()
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        raise ObservationError(f"{_the(path)} is {described(value)}, not numbers in an array") from None


def _checked(array: Array, leaf: Box, path: Path) -> Array:
    """``array`` if the space's type can hold its values; floats of any precision are fine."""
    dtype = np.dtype(leaf.dtype)
    if dtype.kind == "f" or array.dtype == dtype or np.can_cast(array.dtype, dtype):
        return array
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            cast = array.astype(dtype)
    else:
        cast = array.astype(dtype)
    wrong = cast != array
    if wrong.any():
        value = array.reshape(-1)[int(wrong.argmax())]
        raise ObservationError(f"{_the(path)} has the value {value}, but its space holds {dtype}")
    return cast


def described(value: Any) -> str:
    """A value in a few words, for a message."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if np.ma.is_masked(value):
        return "an array with masked values"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}" + (f" of shape {value.shape}" if value.ndim else "")
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _the(path: Path) -> str:
    return f"the observation's entry {named(path)!r}" if path else "the observation"


def _number(value: float | None) -> str:
    return "no bound" if value is None else f"{value:g}"
