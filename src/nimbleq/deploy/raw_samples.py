"""Random observations as an environment gives them, and what the reference makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from nimbleq.errors import ObservationError
from nimbleq.graph.frames import FrameStack, Shown
from nimbleq.graph.golden import random_masks
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface, network_input
from nimbleq.graph.space import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from nimbleq.types import Array

SCREENS, _EPISODE = 64, 7
"""Observations of a console that one verification tries (each is 200 kB of screens), and decisions of an episode."""
_OUTSIDE = 0.02
"""Share of entries with a value that no space has."""
_SPREAD = 4.0
"""Deviation of numbers without bounds."""


@dataclass(frozen=True, eq=False)
class RawSamples:
    """Attributes:
    raws: observations of the environment, few of them outside of its space.
    obs: what the network reads of each, zeros where it is refused.
    refused: ``bool[N]``.
    mask: legal actions ``[N, A]``; None without.
    """

    raws: tuple[Any, ...]
    obs: Array
    refused: Array
    mask: Array | None

    @classmethod
    def of(cls, rng: np.random.Generator, graph: Graph, interface: Interface, count: int) -> Self:
        """``count`` of them; of screens, `SCREENS`."""
        if interface.frames is not None:
            return cls._of_screens(rng, graph, interface, min(count, SCREENS))
        mask = random_masks(rng, count, graph) if graph.masked else None
        raws, obs = [], np.zeros((count, *interface.obs.shape), interface.obs.dtype)
        refused = np.zeros(count, bool)
        for index in range(count):
            raw = _sample(rng, interface.space)
            if mask is not None and interface.mask is not None and interface.mask.startswith("obs:"):
                raw[interface.mask.partition(":")[2]] = mask[index].astype(np.int8)
            try:
                obs[index] = network_input(interface, raw)
            except ObservationError:
                refused[index] = True
            raws.append(raw)
        return cls(tuple(raws), obs, refused, mask)

    @classmethod
    def _of_screens(cls, rng: np.random.Generator, graph: Graph, interface: Interface, count: int) -> Self:
        """Episodes of a console, whose pictures are stacked."""
        frames, obs = interface.frames, np.zeros((count, *interface.obs.shape), interface.obs.dtype)
        assert frames is not None
        stack, raws = FrameStack(frames, interface.obs.shape), []
        for index in range(count):
            first = index % _EPISODE == 0
            screen = _screen(rng, frames.shape)
            before = screen if first else _screen(rng, frames.shape)
            made = stack.reset(screen) if first else stack.push(before, screen)
            obs[index] = network_input(interface, made)
            raws.append(Shown(before, screen, first))
        mask = random_masks(rng, count, graph) if graph.masked else None
        return cls(tuple(raws), obs, np.zeros(count, bool), mask)


def _screen(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Blocks of one colour, as games draw, or noise."""
    if rng.random() < 0.3:
        return rng.integers(0, 256, shape).astype(np.uint8)
    high, wide = rng.integers(2, 20, 2)
    few = rng.integers(0, 256, (-(-shape[0] // high), -(-shape[1] // wide), *shape[2:])).astype(np.uint8)
    return few.repeat(high, 0).repeat(wide, 1)[: shape[0], : shape[1]].copy()


def _sample(rng: np.random.Generator, space: Space) -> Any:
    match space:
        case Dict():
            return {name: _sample(rng, part) for name, part in space.entries}
        case Tuple():
            return tuple(_sample(rng, part) for part in space.entries)
        case Discrete():
            return (space.n if rng.random() < _OUTSIDE else int(rng.integers(space.n))) + space.start
        case MultiDiscrete():
            digits = [int(rng.integers(n)) + start for n, start in zip(space.nvec, space.start, strict=True)]
            return np.array(digits, np.int64).reshape(space.shape)
        case Box():
            return _numbers(rng, space)
    return rng.integers(0, 2, space.shape).astype(np.int8)


def _numbers(rng: np.random.Generator, box: Box) -> Array:
    """Uniform between bounds, now and then at one of them; normal where there is none."""
    dtype = np.dtype(box.dtype)
    middle = np.reshape(box.offset, box.shape) if box.offset else np.zeros(box.shape)
    values = middle + rng.normal(size=box.shape) * _SPREAD
    low, high = (0.0, 1.0) if dtype.kind == "b" else (box.low, box.high)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = (info.min if low is None else low), (info.max if high is None else high)
        if high - low <= 1 << 16:
            return rng.integers(int(low), int(high), box.shape, endpoint=True).astype(dtype)
        return np.clip(np.rint(values), low, high).astype(dtype)
    if low is not None and high is not None:
        values = rng.uniform(low, high, box.shape)
        values = np.where(rng.random(box.shape) < 0.05, rng.choice([low, high], box.shape), values)
    else:
        values = np.clip(values, low, high)
    if dtype.kind == "f" and rng.random() < _OUTSIDE:
        values.flat[rng.integers(values.size)] = np.nan
    return (values > 0.5) if dtype.kind == "b" else values.astype(dtype)
