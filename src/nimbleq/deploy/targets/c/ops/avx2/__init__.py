"""Layers for AVX2: weights packed for the register tiles of `native/kernels/avx2`."""

from collections.abc import Mapping

from nimbleq.deploy.targets.c.ops import Make
from nimbleq.deploy.targets.c.ops.avx2.conv2d import conv2d
from nimbleq.deploy.targets.c.ops.avx2.linear import linear
from nimbleq.deploy.targets.c.ops.avx2.quantize import quantize
from nimbleq.graph import ops

LAYERS: Mapping[type[ops.Op], Make] = {
    ops.Linear: linear,
    ops.Conv2d: conv2d,
    ops.Quantize: quantize,
}

__all__ = ["LAYERS"]
