"""Layers for AVX2: weights packed for the register tiles of `native/kernels/avx2`."""

from collections.abc import Mapping
from functools import partial

from nimbleq.deploy.targets.c.ops import Make
from nimbleq.deploy.targets.c.ops.avx2.conv2d import conv2d
from nimbleq.deploy.targets.c.ops.avx2.linear import linear
from nimbleq.deploy.targets.c.ops.avx2.quads import PAIRS, VNNI, Products
from nimbleq.deploy.targets.c.ops.avx2.quantize import quantize
from nimbleq.graph import ops


def layers(products: Products) -> Mapping[type[ops.Op], Make]:
    """Op → its lines, with bytes multiplied so."""
    return {
        ops.Linear: partial(linear, products),
        ops.Conv2d: partial(conv2d, products),
        ops.Quantize: quantize,
    }


__all__ = ["PAIRS", "VNNI", "layers"]
