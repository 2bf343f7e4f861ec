"""Which weights a network that is sparse from the start has: masks as numpy arrays, the same for every engine.

Layers get densities in proportion to (inputs + outputs) / (inputs · outputs), the Erdős–Rényi rule of SET [1707.04780]
and RigL [1911.11134], so that small ones stay dense. ``static`` masks are drawn once. Of ``dynamic`` ones, the
smallest weights of a layer are dropped every `EVERY` updates, and as many others grow from 0 where the gradient is
largest (RigL, algorithm 1), fewer and fewer of them over `UNTIL` updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi, sqrt
from typing import NamedTuple

import numpy as np

from nimbleq.types import Array

PREFIX = "mask."
"""Of the names of masks in checkpoints."""
EVERY = 500
UNTIL = 50_000
MOVED = 0.3
"""Share of a layer's weights that moves at first."""
NEVER = -1
"""No number of updates."""


class Mask(NamedTuple):
    """Attributes:
    kept: bool of the parameter's shape, True where a weight is.
    factor: float32 of the same shape: 0 where none is, elsewhere what gives the rest the variance of all.
    """

    kept: Array
    factor: Array


def densities(shapes: Mapping[str, tuple[int, ...]], sparsity: float) -> dict[str, float]:
    """Share of the weights that each layer keeps, so that ``1 − sparsity`` of all stay: Erdős–Rényi, at most 1 each."""
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    full: set[str] = set()
    while True:
        left = (1 - sparsity) * sum(sizes.values()) - sum(sizes[name] for name in full)
        rest = [name for name in shapes if name not in full]
        scale = max(left, 0.0) / max(sum(raw[name] * sizes[name] for name in rest), 1e-12)
        more = {name for name in rest if scale * raw[name] > 1}
        if not more:
            return {name: 1.0 if name in full else scale * raw[name] for name in shapes}
        full |= more


def initial_masks(shapes: Mapping[str, tuple[int, ...]], sparsity: float, seed: int) -> dict[str, Mask]:
    """Random masks of a network's matrices and kernels, by name, in the order of ``shapes``."""
    rng, masks = np.random.default_rng([seed, 0x5A]), dict[str, Mask]()
    for name, density in densities(shapes, sparsity).items():
        size = int(np.prod(shapes[name]))
        kept = np.zeros(size, bool)
        kept[rng.permutation(size)[: max(1, round(density * size))]] = True
        kept = kept.reshape(shapes[name])
        masks[name] = Mask(kept, kept / np.float32(sqrt(max(density, 1 / size))))
    return masks


def share_moved(updates: int) -> float:
    """Share of a layer's weights that moves in the update that follows ``updates`` earlier ones; mostly 0."""
    return MOVED / 2 * (1 + cos(pi * updates / UNTIL)) if next_move(updates) == updates else 0.0


def next_move(updates: int) -> int:
    """How many updates, at least ``updates``, precede the next one in which weights move; `NEVER` after the last."""
    following = max(-(-updates // EVERY), 1) * EVERY
    return following if following <= UNTIL else NEVER


def moved(kept: Array, weight: Array, gradient: Array, share: float) -> tuple[Array, Array]:
    """Which weights of a layer are dropped, and which grow: two bool arrays of its shape, with as many True each.

    Args:
        kept: bool, its mask.
        weight: its weights; the smallest are dropped.
        gradient: of all its weights, whether kept or not; the largest of those that are not kept grow.
        share: of the kept weights that move, rounded down; fewer where fewer places are free.
    """
    count = min(int(share * int(kept.sum())), int((~kept).sum()))
    drop = _lowest(np.where(kept, np.abs(weight), np.inf), count)
    return drop, _lowest(np.where(kept, 1.0, -np.abs(gradient)), count)


def _lowest(values: Array, count: int) -> Array:
    """Where the ``count`` lowest values are; of equal ones the first."""
    if count == 0:
        return np.zeros(values.shape, bool)
    bound = np.partition(values, count - 1, axis=None)[count - 1]
    chosen = np.asarray(values < bound)
    equal = np.flatnonzero(values == bound)[: count - int(chosen.sum())]
    chosen.flat[equal] = True
    return chosen
