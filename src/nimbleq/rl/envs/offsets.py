"""Large numbers in observations, such as a Unix time: what is subtracted from them before they become float32.

float32 has 24 bits: of 1.7 billion seconds it keeps steps of 128. What is subtracted is a setting of the environment
(``EnvConfig.offsets``), so that training, checks and certificates use the same.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.graph.reading import as_array
from nimbleq.graph.space import FLAT, Box, Dict, Path, Space, Tuple, leaves, named
from nimbleq.types import Array

_WIDE = ("float64", "int32", "int64", "uint32", "uint64")
_LARGE = 2.0**14  # from here on float32 keeps steps of 1/512 at best
_STEPS_PER_STD = 256  # that float32 has to distinguish


def wide(space: Space) -> list[tuple[Path, Box]]:
    """The parts whose numbers float32 may not hold."""
    return [
        (path, leaf)
        for path, leaf in leaves(space)
        if isinstance(leaf, Box) and leaf.axes == FLAT and leaf.dtype in _WIDE and _reaches(leaf)
    ]


def _reaches(leaf: Box) -> bool:
    return leaf.low is None or leaf.high is None or max(abs(leaf.low), abs(leaf.high)) >= _LARGE


def values_of(raw: Any, found: list[tuple[Path, Box]]) -> Array:
    """``float64[V]`` of the parts ``found``, one after the other, as the environment gave them."""
    parts = []
    for path, leaf in found:
        value = raw
        for key in path:
            value = value[key]
        parts.append(as_array(value, path).astype(np.float64).reshape(leaf.size))
    return np.concatenate(parts) if parts else np.zeros(0)


def large(values: Array) -> bool:
    """Whether any of ``values`` needs a look."""
    return bool((np.abs(values) >= _LARGE).any())


def offsets_of(found: list[tuple[Path, Box]], seen: Array) -> tuple[str, ...]:
    """What to subtract from features that lose their digits: ``("time[0]=1700000000.0", …)``, see `with_offsets`.

    Args:
        found: the parts, see `wide`.
        seen: ``float64[T, V]`` their values in some play.
    """
    names = [f"{named(path)}[{index}]" for path, leaf in found for index in range(leaf.size)]
    middle, std = seen.mean(axis=0), seen.std(axis=0)
    spacing = np.spacing(np.abs(middle).astype(np.float32)).astype(np.float64)
    wanted = (np.abs(middle) >= _LARGE) & (spacing * _STEPS_PER_STD > std)
    return tuple(f"{names[at]}={float(np.round(middle[at]))!r}" for at in np.flatnonzero(wanted).tolist())


def with_offsets(space: Space, config: EnvConfig) -> Space:
    """``space`` with the offsets of ``config``, each written ``ENTRY[INDEX]=VALUE``.

    Raises:
        EnvError: there is no such feature, or it is no plain number.
    """
    if not config.offsets:
        return space
    offsets = dict(_parsed(text) for text in config.offsets)
    known = {
        f"{named(path)}[{index}]"
        for path, leaf in leaves(space)
        if isinstance(leaf, Box) and leaf.axes == FLAT
        for index in range(leaf.size)
    }
    unknown = [name for name in offsets if name not in known]
    if unknown:
        few = ", ".join(sorted(known)[:5]) or "none"
        raise EnvError(f"{config.id} observes no number {unknown[0]!r} to subtract an offset from; it has {few}")
    return _replaced(space, (), offsets)


def _parsed(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not math.isfinite(number):
        raise EnvError(f"an offset is written ENTRY[INDEX]=VALUE, not {text!r}")
    return name, number


def _replaced(space: Space, path: Path, offsets: dict[str, float]) -> Space:
    match space:
        case Dict(entries):
            return Dict(tuple((name, _replaced(part, (*path, name), offsets)) for name, part in entries))
        case Tuple(parts):
            return Tuple(tuple(_replaced(part, (*path, index), offsets) for index, part in enumerate(parts)))
        case Box() if space.axes == FLAT:
            mine = tuple(offsets.get(f"{named(path)}[{index}]", 0.0) for index in range(space.size))
            return replace(space, offset=mine) if any(mine) else space
    return space
