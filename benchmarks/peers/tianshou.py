"""Tianshou's prioritised replay: numba trees. Needs the package tianshou."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tianshou.data import PrioritizedReplayBuffer

from nimbleq.types import Array


def works(values: Array, batch: int, alpha: float, beta: float) -> tuple[Callable[[], None], Callable[[], None]]:
    """What is done with priorities for one batch, and the trees only: find and write.

    Args:
        values: ``float64[N]``, priorities raised to ``alpha``, of a full buffer.
    """
    entries = len(values)
    buffer, rng = PrioritizedReplayBuffer(entries, alpha, beta), np.random.default_rng(0)
    buffer.weight[np.arange(entries)] = values
    buffer._size = entries
    tree = buffer.weight
    abs_td = rng.random(batch).astype(np.float32)
    new = values[:batch].copy()

    def whole() -> None:
        index = buffer.sample_indices(batch)
        weight = buffer.get_weight(index)
        weight / np.max(weight)
        buffer.update_weight(index, abs_td)

    def trees() -> None:
        tree[tree.get_prefix_sum_idx(rng.random(batch) * tree.reduce())] = new

    return whole, trees
