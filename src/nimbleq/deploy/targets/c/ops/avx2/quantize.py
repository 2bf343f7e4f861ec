"""Quantize for AVX2: sixteen numbers at a time into bytes or int16."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.layout import BYTES
from nimbleq.deploy.targets.c.ops.layer import Layer, as_stored, pad_to
from nimbleq.deploy.targets.c.ops.quantize import quantize as plain
from nimbleq.graph.tensor import Int
from nimbleq.types import Array

MOST = 4096
"""Up to this many numbers, each has a scale and a zero point of its own in the constants."""


def quantize(layer: Layer) -> list[str]:
    """Lines of a Quantize."""
    op = layer.op
    if op.bits > 8 or layer.source_element != "float" or layer.count > MOST:
        return plain(layer)
    low, high = Int(op.bits, op.signed).low, Int(op.bits, op.signed).high
    zero = np.zeros(1, np.int32) if op.zero_point is None else layer.weight(op.zero_point)
    scale = layer.constant("inverse_scale", _each(layer, layer.weight(op.inverse_scale).astype(np.float32)))
    offset = layer.constant("zero_point", _each(layer, zero))
    layer.use("avx2/quantize_f32")
    size = BYTES[layer.element]
    return [f"nq_quantize_f32({layer.x}, {scale}, {offset}, {layer.y}, {size}, {layer.count}, {low}, {high});"]


def _each(layer: Layer, values: Array) -> Array:
    """A parameter for every element in stored order, and up to whole vectors."""
    shape = layer.node_type.shape
    each = values.reshape(-1, *[1] * (len(shape) - 1))
    return pad_to(as_stored(np.broadcast_to(each, shape)).reshape(-1), -(-layer.count // 4) * 4)
