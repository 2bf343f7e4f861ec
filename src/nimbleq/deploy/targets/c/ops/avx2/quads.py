"""Weights for `vpmaddubsw` (bytes × int8, sums of two products in 16 bits), with the proof that no sum saturates.

The instruction clips at 16 bits, so it is exact only where the weights allow it. They are constants here, and inputs
lie in ``0..high``: a sum of products lies between ``high·Σ negative weights`` and ``high·Σ positive weights``.
Activations of 7 bits always satisfy this for one pair; two pairs, or 8 bits, depend on the weights. Where a few weights
are in the way they are moved into further steps over the same inputs; the integers stay the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.layer import pad_to
from nimbleq.types import Array


@dataclass(frozen=True)
class Products:
    """How four bytes are multiplied by four int8 weights and added up.

    Attributes:
        kernel: file of `native/kernels` that does it.
        exact: whatever the weights are; else they have to prove it.
    """

    kernel: str
    exact: bool


PAIRS = Products("avx2/bytes_pairs", exact=False)
"""`vpmaddubsw`."""
VNNI = Products("avx2/bytes_vnni", exact=True)
"""`vpdpbusd`."""

FEW_OUTPUTS = 8
"""Up to this many outputs the vectors run along the inputs of a dense layer instead."""
_MOST, _LEAST = 2**15 - 1, 2**15
_EXTRA = 1.25
"""Up to this many times the steps it is still faster than 16-bit products."""


@dataclass(frozen=True)
class Quads:
    """Attributes:
    offsets: int32 ``[steps]``, where the four inputs of a step begin.
    weights: int8 ``[steps, out, 4]``; ``steps`` is even.
    """

    offsets: Array
    weights: Array


def quads(weights: Array, offsets: Array, high: int, products: Products = PAIRS) -> Quads | None:
    """Steps whose pairs cannot saturate; None where it would take too many.

    Args:
        weights: int8 ``[steps, out, 4]``.
        offsets: ``[steps]``.
        high: largest input.
        products: how they are multiplied.
    """
    wanted = len(weights)
    if products.exact:
        odd = wanted % 2
        even = np.concatenate([weights, np.zeros_like(weights[:odd])])
        return Quads(np.append(offsets, offsets[:odd]).astype(np.int32), even.astype(np.int8))
    made: list[Quads] = []
    rest = weights.astype(np.int32)
    while len(rest):
        if len(rest) % 2:
            rest, offsets = np.concatenate([rest, np.zeros_like(rest[:1])]), np.append(offsets, offsets[-1])
        safe = _safe(rest, high)
        made.append(Quads(offsets, safe))
        if sum(len(part.weights) for part in made) > max(_EXTRA * wanted, wanted + 1):
            return None
        rest = rest - safe
        needed = rest.any(axis=(1, 2))
        rest, offsets = rest[needed], offsets[needed]
    return Quads(
        np.concatenate([part.offsets for part in made]).astype(np.int32),
        np.concatenate([part.weights for part in made]).astype(np.int8),
    )


def by_inputs(weight: Array) -> tuple[Array, Array]:
    """Weights and offsets of `quads` for a dense layer ``weight [out, in]``: its inputs in fours."""
    n_out, n_in = weight.shape
    steps = pad_to(weight, -(-n_in // 4) * 4).reshape(n_out, -1, 4).transpose(1, 0, 2)
    return steps, 4 * np.arange(len(steps))


def _safe(weights: Array, high: int) -> Array:
    """``weights [steps, out, 4]`` without those that could take a sum over two steps out of 16 bits."""
    steps, out, _ = weights.shape
    # [step / 2, out, half of the quad, the four weights of one 16-bit sum]
    sums = weights.reshape(steps // 2, 2, out, 2, 2).transpose(0, 2, 3, 1, 4).reshape(-1, 4).copy()
    for _ in range(3):
        for sign, limit in ((1, _MOST), (-1, _LEAST)):
            part = np.maximum(sign * sums, 0)
            over = high * part.sum(axis=1) > limit
            sums[over, part[over].argmax(axis=1)] = 0
    return sums.reshape(steps // 2, out, 2, 2, 2).transpose(0, 3, 1, 2, 4).reshape(steps, out, 4)


def pairs_fit(weight: Array, high: int) -> bool:
    """Whether sums of neighbouring columns ``(2i, 2i + 1)`` of ``weight [out, even]`` cannot saturate."""
    pairs = weight.astype(np.int32).reshape(-1, 2)
    return _fit(pairs, high)


def any_pair_fits(weight: Array, high: int) -> bool:
    """Whether the sum of any two columns of ``weight [out, in]`` cannot saturate."""
    ordered = np.sort(weight.astype(np.int32), axis=1)
    return _fit(ordered[:, :2], high) and _fit(ordered[:, -2:], high)


def _fit(sums: Array, high: int) -> bool:
    most, least = np.maximum(sums, 0).sum(axis=1).max(), np.maximum(-sums, 0).sum(axis=1).max()
    return bool(high * most <= _MOST and high * least <= _LEAST)
