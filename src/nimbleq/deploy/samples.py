"""Random observations that try a policy where it lives, around that, and at the ends of what it can be given."""

from __future__ import annotations

import numpy as np

from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def sample_observations(rng: np.random.Generator, graph: Graph, near: Array, count: int) -> Array:
    """``obs[count, *O]``, all finite: half near known observations, the rest uniform over a wider range or extreme.

    Args:
        near: ``[K, *O]`` known observations (golden vectors); they also give the range per feature.
    """
    shape = (count, *graph.obs_type.shape)
    base = near[rng.integers(len(near), size=count)]
    kind = rng.choice(3, size=(count, *(1 for _ in graph.obs_type.shape)), p=[0.5, 0.4, 0.1])
    if graph.obs_type.qtype.is_integer:
        low, high = int(graph.obs_type.qtype.low), int(graph.obs_type.qtype.high)
        close = np.clip(base.astype(np.int64) + rng.integers(-8, 9, shape), low, high)
        extreme = rng.choice(np.array([low, high]), shape)
        pixels: Array = np.select([kind == 0, kind == 1], [close, rng.integers(low, high + 1, shape)], extreme)
        return pixels.astype(near.dtype)
    lowest, highest = near.min(axis=0).astype(np.float64), near.max(axis=0).astype(np.float64)
    spread = np.maximum(highest - lowest, 1e-3)
    close = base + rng.normal(size=shape) * 0.05 * spread
    wide = rng.uniform(lowest - spread, highest + spread, shape)
    extreme = rng.choice(np.array([-100.0, -1.0, 0.0, 1.0, 100.0]), shape) * spread
    real: Array = np.select([kind == 0, kind == 1], [close, wide], extreme)
    return real.astype(np.float32)
