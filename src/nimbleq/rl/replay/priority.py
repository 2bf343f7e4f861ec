"""Proportional prioritisation [1511.05952 §3.3] over a sum tree, in C where it was compiled."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Protocol, cast

import numpy as np

from nimbleq.types import Array

_OFFSET = np.float32(1e-6)  # ε of the paper: no transition is ever forgotten
_FAN = 8  # children per node, as in native/replay/tree.h


def replay_extension() -> ModuleType | None:
    """The compiled half of the replay memory, or None."""
    try:
        return importlib.import_module("nimbleq.native._replay")
    except ModuleNotFoundError:
        return None


class Tree(Protocol):
    """``capacity`` non-negative numbers with O(log n) update and search by cumulative sum."""

    @property
    def total(self) -> float:
        """Sum of all values."""
        ...

    def set(self, index: Array, value: Array | float, /) -> None:
        """Write ``value`` at ``index: int64[B]`` (of repeated indices the last wins) and renew the sums above."""
        ...

    def get(self, index: Array, /) -> Array:
        """``float64[B]`` values at ``index: int64[B]``."""
        ...

    def find(self, mass: Array, /) -> Array:
        """For each ``mass: float64[B]`` in [0, total): the index whose slice of the cumulative sum holds it."""
        ...

    def leaves(self) -> Array:
        """``float64[capacity]``: a copy of all values."""
        ...

    def load(self, values: Array, /) -> None:
        """Replace all values."""
        ...


class SumTree:
    """`Tree` in numpy: the native one's oracle, and its stand-in. Both give the same bits.

    ``levels[0]`` are the values, ``levels[l + 1][i]`` is the sum of ``levels[l][8i : 8i + 8]``. Sums are always
    computed from their children and in one order, so they depend only on the values, not on their history.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.levels = [np.zeros(_padded(capacity))]
        while len(self.levels[-1]) > _FAN:
            self.levels.append(np.zeros(_padded(len(self.levels[-1]) // _FAN)))

    @property
    def total(self) -> float:
        """See `Tree`."""
        return float(_sums(self.levels[-1][None])[0])

    def get(self, index: Array) -> Array:
        """See `Tree`."""
        return cast(Array, self.levels[0][index])

    def set(self, index: Array, value: Array | float) -> None:
        """See `Tree`."""
        node = index
        self.levels[0][node] = value
        for below, here in zip(self.levels, self.levels[1:], strict=False):
            node = node // _FAN
            here[node] = _sums(below.reshape(-1, _FAN)[node])

    def find(self, mass: Array) -> Array:
        """See `Tree`."""
        node = np.zeros(len(mass), np.int64)
        for level in reversed(self.levels):
            child = level.reshape(-1, _FAN)[node]  # [B, 8]
            until = _running(child)
            chosen = (until <= mass[:, None]).sum(axis=1)
            last = ((child > 0) * np.arange(_FAN)).max(axis=1)
            chosen = np.where(chosen == _FAN, last, chosen)  # rounding must not lead past the end
            before = np.where(chosen > 0, until[np.arange(len(mass)), chosen - 1], 0.0)
            mass = mass - before
            node = node * _FAN + chosen
        return node

    def leaves(self) -> Array:
        """See `Tree`."""
        return self.levels[0][: self.capacity].copy()

    def load(self, values: Array) -> None:
        """See `Tree`."""
        self.levels[0][: self.capacity] = values
        for below, here in zip(self.levels, self.levels[1:], strict=False):
            here[: len(below) // _FAN] = _sums(below.reshape(-1, _FAN))


def _padded(count: int) -> int:
    return -(-count // _FAN) * _FAN


def _sums(child: Array) -> Array:
    """``float64[B, 8] → float64[B]``, in the order of ``sum8`` in native/replay/tree.h."""
    four = child[:, :4] + child[:, 4:]
    two = four[:, :2] + four[:, 2:]
    return cast(Array, two[:, 0] + two[:, 1])


def _running(child: Array) -> Array:
    """``float64[B, 8] → float64[B, 8]`` running sums, in the order of ``descend`` in native/replay/tree.h."""
    x = child.reshape(-1, 2, _FAN // 2)
    until = x.copy()
    until[:, :, 1:3] += x[:, :, 0:2]
    until[:, :, 2] += x[:, :, 0]
    until[:, :, 3] += until[:, :, 2]
    until[:, 1] += until[:, :1, -1]
    return until.reshape(-1, _FAN)


def make_tree(capacity: int) -> Tree:
    """The fastest tree there is."""
    extension = replay_extension()
    return SumTree(capacity) if extension is None else cast(Tree, extension.Tree(capacity))


class Priorities:
    """Draws slots with ``P(i) ∝ (|δ_i| + ε)^α`` and knows the importance weights that undo the bias.

    Args:
        capacity: slots.
        alpha: exponent of the priority.
    """

    def __init__(self, capacity: int, alpha: float) -> None:
        self.alpha = alpha
        self.tree = make_tree(capacity)
        self.highest = 1.0

    def add(self, index: Array) -> None:
        """New transitions get the highest priority so far, so that each is replayed at least about once."""
        self.tree.set(index, self.highest)

    def update(self, index: Array, abs_td: Array) -> None:
        """New priorities from ``|TD error|: float32[B]``."""
        priority = (abs_td + _OFFSET) ** np.float32(self.alpha)
        self.tree.set(index, priority)
        self.highest = max(self.highest, float(priority.max()))

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """``int64[count]`` slots, one from each of ``count`` equal slices of the total (App. B.2.1)."""
        slices = (np.arange(count) + rng.random(count)) * (self.tree.total / count)
        return self.tree.find(slices)

    def weights(self, index: Array, beta: float) -> Array:
        """``float32[B]``: ``(N·P(i))^−β`` over the batch's maximum (§3.4), in which N and the total cancel out."""
        priority = self.tree.get(index)
        return cast(Array, (priority / priority.min()).astype(np.float32) ** np.float32(-beta))

    def arrays(self) -> dict[str, Array]:
        """Complete state."""
        return {"values": self.tree.leaves(), "highest": np.array([self.highest])}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        self.tree.load(arrays["values"])
        self.highest = float(arrays["highest"][0])
