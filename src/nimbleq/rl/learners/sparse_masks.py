"""Which weights a network that is sparse from the start has: masks as numpy arrays, the same for every engine.

Layers get densities in proportion to (inputs + outputs) / (inputs · outputs), the Erdős–Rényi rule of SET [1707.04780]
and RigL [1911.11134], so that small ones stay dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple

import numpy as np

from nimbleq.types import Array

PREFIX = "mask."
"""Of the names of masks in checkpoints."""


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
