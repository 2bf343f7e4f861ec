"""Observation spaces as JSON values, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from nimbleq.errors import FileError
from nimbleq.graph.space import AXES, DTYPES, FLAT, SAME, Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

_MAX_SIZE = 1 << 28
_MAX_DEPTH = 16


def space_to_dict(space: Space) -> dict[str, Any]:
    """JSON values."""
    match space:
        case Box():
            content: dict[str, Any] = {"shape": list(space.shape), "dtype": space.dtype, "axes": space.axes}
            content |= {name: value for name in ("low", "high") if (value := getattr(space, name)) is not None}
            return {"kind": "Box", **content, **({"offset": list(space.offset)} if space.offset else {})}
        case Discrete():
            return {"kind": "Discrete", "n": space.n, "start": space.start}
        case MultiDiscrete():
            parts = {"nvec": list(space.nvec), "start": list(space.start), "shape": list(space.shape)}
            return {"kind": "MultiDiscrete", **parts}
        case MultiBinary():
            return {"kind": "MultiBinary", "shape": list(space.shape)}
        case Dict():
            return {"kind": "Dict", "entries": [[name, space_to_dict(part)] for name, part in space.entries]}
        case Tuple():
            return {"kind": "Tuple", "entries": [space_to_dict(part) for part in space.entries]}


def space_from_dict(content: Any, where: str = "space", depth: int = 0) -> Space:
    """What `space_to_dict` wrote.

    Raises:
        FileError: it is not valid; says where.
    """
    if depth > _MAX_DEPTH:
        raise FileError(f"{where} is nested too deep")
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in _READ:
        raise FileError(f"{where} is not an observation space: its kind must be one of {', '.join(_READ)}")
    space = _READ[kind](content, where, depth)
    if not (depth > 0 or space.size > 0) or space.size > _MAX_SIZE:
        raise FileError(f"{where} has {space.size} values: it needs at least 1 and at most {_MAX_SIZE}")
    return space


def _box(content: dict[str, Any], where: str, depth: int) -> Box:
    record(content, where, {"kind", "shape", "dtype", "axes"}, {"low", "high", "offset"})
    if content["dtype"] not in DTYPES or content["axes"] not in (*AXES, FLAT, SAME):
        raise FileError(f"{where} has an unknown dtype or order of axes")
    low, high = (number(content[name], f"{where}.{name}") if name in content else None for name in ("low", "high"))
    offset = tuple(number(value, f"{where}.offset") for value in items(content.get("offset", []), f"{where}.offset"))
    space = Box(_shape(content["shape"], where), content["dtype"], low, high, content["axes"], offset)
    if space.axes in AXES and space.picture is None:
        raise FileError(f"{where} has the axes {space.axes} but {len(space.shape)} dimensions")
    if offset and (len(offset) != space.size or space.axes in AXES):
        raise FileError(f"{where}.offset must have one number for each of its {space.size} values, and no picture")
    return space


def _multi_discrete(content: dict[str, Any], where: str, depth: int) -> MultiDiscrete:
    record(content, where, {"kind", "nvec", "start", "shape"})
    nvec, start = (
        tuple(whole(value, f"{where}.{name}", least) for value in items(content[name], f"{where}.{name}"))
        for name, least in (("nvec", 1), ("start", -(1 << 62)))
    )
    space = MultiDiscrete(nvec, start, _shape(content["shape"], where))
    if not len(nvec) == len(start) == math.prod(space.shape):
        raise FileError(f"{where}: nvec and start must have one number for each digit")
    return space


def _dict(content: dict[str, Any], where: str, depth: int) -> Dict:
    record(content, where, {"kind", "entries"})
    entries = []
    for entry in items(content["entries"], f"{where}.entries"):
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise FileError(f"{where}: an entry of a Dict is a pair of a name and a space")
        entries.append((entry[0], space_from_dict(entry[1], f"{where}[{entry[0][:40]!r}]", depth + 1)))
    if len({name for name, _ in entries}) != len(entries):
        raise FileError(f"{where} has two entries of one name")
    return Dict(tuple(entries))


def _tuple(content: dict[str, Any], where: str, depth: int) -> Tuple:
    record(content, where, {"kind", "entries"})
    entries = enumerate(items(content["entries"], f"{where}.entries"))
    return Tuple(tuple(space_from_dict(entry, f"{where}[{index}]", depth + 1) for index, entry in entries))


def _discrete(content: dict[str, Any], where: str, depth: int) -> Discrete:
    record(content, where, {"kind", "n", "start"})
    return Discrete(whole(content["n"], f"{where}.n", 1), whole(content["start"], f"{where}.start", -(1 << 62)))


def _multi_binary(content: dict[str, Any], where: str, depth: int) -> MultiBinary:
    record(content, where, {"kind", "shape"})
    return MultiBinary(_shape(content["shape"], where))


_READ: Mapping[str, Callable[[dict[str, Any], str, int], Space]] = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiDiscrete": _multi_discrete,
    "MultiBinary": _multi_binary,
    "Dict": _dict,
    "Tuple": _tuple,
}


def record(value: Any, where: str, needed: set[str], possible: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Raise `FileError` unless ``value`` is an object with the keys ``needed`` and no others than ``possible``."""
    if not isinstance(value, dict) or not needed <= value.keys() <= needed | possible:
        raise FileError(f"{where} must be an object with exactly the fields {', '.join(sorted(needed))}")


def items(value: Any, where: str) -> list[Any]:
    """``value`` if it is a list of a reasonable length; raises `FileError`."""
    if not isinstance(value, list) or len(value) > _MAX_SIZE:
        raise FileError(f"{where} must be a list")
    return value


def whole(value: Any, where: str, least: int) -> int:
    """``value`` if it is an integer of at least ``least``; raises `FileError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 62:
        raise FileError(f"{where} must be an integer of at least {least}")
    return value


def number(value: Any, where: str) -> float:
    """``value`` if it is a finite number; raises `FileError`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e308:
        raise FileError(f"{where} must be a finite number")
    return float(value)


def _shape(value: Any, where: str) -> tuple[int, ...]:
    shape = tuple(whole(side, f"{where}.shape", 0) for side in items(value, f"{where}.shape"))
    if len(shape) > _MAX_DEPTH:
        raise FileError(f"{where}.shape has too many dimensions")
    return shape
