"""Proportional prioritisation [1511.05952 §3.3]: a sum tree, vectorised over the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from nimbleq.types import Array

_OFFSET = 1e-6  # ε of the paper: no transition is ever forgotten


class SumTree:
    """``capacity`` non-negative numbers with O(log n) update and search by cumulative sum.

    ``nodes[1]`` is the total, ``nodes[2i]`` and ``nodes[2i+1]`` are the children of ``nodes[i]``, leaves come last.
    """

    def __init__(self, capacity: int) -> None:
        self.leaves = 1 << (capacity - 1).bit_length()
        self.nodes = np.zeros(2 * self.leaves)

    @property
    def total(self) -> float:
        """Sum of all values."""
        return float(self.nodes[1])

    def get(self, index: Array) -> Array:
        """``float64[B]`` values at ``index: int64[B]``."""
        return cast(Array, self.nodes[index + self.leaves])

    def set(self, index: Array, value: Array | float) -> None:
        """Write ``value`` at ``index: int64[B]`` (of repeated indices the last wins) and renew the sums above."""
        node = index + self.leaves
        self.nodes[node] = value
        for _ in range(self.leaves.bit_length() - 1):
            node = node >> 1
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass: Array) -> Array:
        """For each ``mass: float64[B]`` in [0, total): the index whose slice of the cumulative sum holds it."""
        node = np.ones(len(mass), np.int64)
        for _ in range(self.leaves.bit_length() - 1):
            node = 2 * node
            left = self.nodes[node]
            right = (mass >= left) & (self.nodes[node + 1] > 0)  # rounding must not lead into an empty half
            mass = np.where(right, mass - left, mass)
            node = node + right
        return node - self.leaves


class Priorities:
    """Draws slots with ``P(i) ∝ (|δ_i| + ε)^α`` and knows the importance weights that undo the bias.

    Args:
        capacity: slots.
        alpha: exponent of the priority.
    """

    def __init__(self, capacity: int, alpha: float) -> None:
        self.alpha = alpha
        self.tree = SumTree(capacity)
        self.highest = 1.0

    def add(self, index: Array) -> None:
        """New transitions get the highest priority so far, so that each is replayed at least about once."""
        self.tree.set(index, self.highest)

    def update(self, index: Array, abs_td: Array) -> None:
        """New priorities from ``|TD error|: float32[B]``."""
        priority = (abs_td.astype(np.float64) + _OFFSET) ** self.alpha
        self.tree.set(index, priority)
        self.highest = max(self.highest, float(priority.max()))

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """``int64[count]`` slots, one from each of ``count`` equal slices of the total (App. B.2.1)."""
        slices = (np.arange(count) + rng.random(count)) * (self.tree.total / count)
        return self.tree.find(slices)

    def weights(self, index: Array, size: int, beta: float) -> Array:
        """``float32[B]``: ``(N·P(i))^−β`` over the batch's maximum, for ``size`` = N stored transitions (§3.4)."""
        probability = self.tree.get(index) / self.tree.total
        weight = (size * probability) ** -beta
        return cast(Array, (weight / weight.max()).astype(np.float32))

    def arrays(self) -> dict[str, Array]:
        """Complete state. The sums are kept too: recomputed ones could differ in the last bit."""
        return {"nodes": self.tree.nodes.copy(), "highest": np.array([self.highest])}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        self.tree.nodes = arrays["nodes"].copy()
        self.highest = float(arrays["highest"][0])
