"""A raw observation that the network reads as a given input: golden vectors in the environment's form."""

from __future__ import annotations

from typing import Any

import numpy as np

from nimbleq.errors import ObservationError
from nimbleq.graph.interface import Interface, network_input, without_mask
from nimbleq.graph.space import SAME, Box, Dict, Discrete, Leaf, MultiBinary, Space, Tuple, leaves
from nimbleq.types import Array

_AXES = {"HWC": (1, 2, 0), "SHWC": (0, 2, 3, 1)}
"""Where the axes of a picture with channels first go."""


def raw_of(interface: Interface, obs: Array) -> Any:
    """An observation of the environment that `network_input` turns into ``obs``; None where there is none.

    The entry of the mask, if the observation holds it, is left out.
    """
    space = without_mask(interface.space, interface.mask)
    found = [leaf for _, leaf in leaves(space)]
    order = sorted(range(len(found)), key=lambda at: getattr(found[at], "picture", None) is None)  # (stable)
    parts = np.split(obs.reshape(-1), np.cumsum([found[at].size for at in order])[:-1])
    values = dict(zip(order, parts, strict=True))
    raw = _built(space, iter([_value(leaf, values[at]) for at, leaf in enumerate(found)]))
    try:
        with np.errstate(invalid="ignore"):
            again = network_input(Interface(space, interface.actions), raw)
    except ObservationError:
        return None
    return raw if np.array_equal(again, obs) else None


def _built(space: Space, values: Any) -> Any:
    if isinstance(space, Dict):
        return {name: _built(part, values) for name, part in space.entries}
    if isinstance(space, Tuple):
        return tuple(_built(part, values) for part in space.entries)
    return next(values)


def _value(leaf: Leaf, part: Array) -> Any:
    if isinstance(leaf, Discrete):
        return int(part.argmax()) + leaf.start
    if isinstance(leaf, MultiBinary):
        return (part > 0.5).astype(np.int8).reshape(leaf.shape)
    if not isinstance(leaf, Box):
        digits = np.split(part, np.cumsum(leaf.nvec)[:-1])
        return np.array([int(d.argmax()) + s for d, s in zip(digits, leaf.start, strict=True)], np.int64).reshape(
            leaf.shape
        )
    dtype = np.dtype(leaf.dtype)
    if leaf.picture is not None and leaf.axes != SAME:
        return _picture(leaf, part).astype(dtype)
    wide = part.astype(np.float64) + (np.array(leaf.offset) if leaf.offset else 0)
    return (wide if dtype.kind == "f" else np.rint(wide)).astype(dtype).reshape(leaf.shape)


def _picture(leaf: Box, part: Array) -> Array:
    assert leaf.picture is not None
    planes, height, width = leaf.picture
    values = part // 255 if leaf.binary else part
    if leaf.axes == "SHWC":
        stack, _, _, channels = leaf.shape
        return values.reshape(stack, channels, height, width).transpose(0, 2, 3, 1)
    if leaf.axes == "HWC":
        return values.reshape(planes, height, width).transpose(1, 2, 0)
    return values.reshape(leaf.shape)
