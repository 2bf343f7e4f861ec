"""Integer ops as QuantizeLinear and DequantizeLinear around float ops, which runtimes fuse into their int8 kernels.

The pinned integers leave the scale of a hidden tensor free: only ratios matter. Here every stored level stands for
itself (scale 1), and a layer's weights carry ``multiplier·2^−shift`` of the Requantize that follows, or the scale of
the Dequantize. What differs from the interpreter: halves round to even, and scales are float32, so that a level may be
off by one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.deploy.targets.onnx.build import Build, is_byte, level_offset
from nimbleq.deploy.targets.onnx.exact import WEIGHT_OFFSET
from nimbleq.deploy.targets.onnx.floats import FLOAT, Emit, convolution_input
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import INT32, Int
from nimbleq.types import Array

_ONE = np.ones(1)


def _factor(graph: Graph, op: ops.Op) -> Array | None:
    """What a reader multiplies accumulators by, or None when it takes any common positive factor (ArgMax)."""
    if isinstance(op, ops.Requantize):
        multiplier = op.multipliers(graph.weights)
        return np.ldexp(multiplier.astype(np.float64), -graph.weights[op.shift])
    if isinstance(op, ops.Dequantize):
        return op.scales(graph.weights).astype(np.float64)
    return None if isinstance(op, ops.Choice) else _ONE


def accumulator_scale(graph: Graph, tensor: str) -> Array:
    """``float64[1 or C]``: what one unit of an int32 tensor is stored as, so chosen that readers need not multiply."""
    producer = graph.producer(tensor)
    if producer is None or not isinstance(producer.op, ops.Linear | ops.Conv2d):
        return _ONE
    factors = [_factor(graph, reader.op) for reader in graph.consumers(tensor)]
    wanted = [factor for factor in factors if factor is not None]
    if not wanted or any(not np.array_equal(factor, wanted[0]) for factor in wanted):
        return _ONE
    common = wanted[0].size == 1 and wanted[0][0] > 0
    return wanted[0] if common or len(wanted) == len(factors) else _ONE


def _rescaled(build: Build, node: Node, factor: Array) -> str:
    """Accumulators times ``factor``."""
    tensor = node.inputs[0]
    ratio = factor / accumulator_scale(build.graph, tensor) if not _is_stored(build, tensor, factor) else _ONE
    if np.all(ratio == 1):
        return build.source(node)
    value = build.along_first(ratio, tensor)
    return build.add("Mul", build.source(node), build.constant(value, np.float32, f"{node.output}/factor"))


def _is_stored(build: Build, tensor: str, factor: Array) -> bool:
    return np.array_equal(accumulator_scale(build.graph, tensor), factor)


def _quantize(build: Build, node: Node, op: ops.Quantize) -> None:
    weights, tensor = build.graph.weights, node.inputs[0]
    inverse = build.along_first(weights[op.inverse_scale], tensor)
    x = build.add("Mul", build.source(node), build.constant(inverse, np.float32, f"{node.output}/inverse"))
    zero = build.along_first(op.zero_points(weights), tensor)
    qtype = Int(op.bits, op.signed)
    _store_levels(build, node, x, zero, qtype, qtype.low, qtype.high)


def _requantize(build: Build, node: Node, op: ops.Requantize) -> None:
    factor = _factor(build.graph, op)
    assert factor is not None
    x = _rescaled(build, node, factor)
    _store_levels(build, node, x, np.array([op.zero_point]), Int(op.bits, op.signed), op.low, op.high)


def _store_levels(build: Build, node: Node, x: str, zero: Array, qtype: Int, low: int, high: int) -> None:
    build.needs(13, node)
    offset, wide = level_offset(qtype), not is_byte(qtype)
    if zero.any():
        x = build.add("Add", x, build.constant(zero, np.float32, f"{node.output}/zero_point"))
    if wide or low + offset > 0 or high + offset < 255:
        bounds = (build.constant(bound, np.float32, f"{node.output}/bound") for bound in (low, high))
        x = build.add("Clip", x, *bounds)
    if wide:
        build.add("Round", x, out=node.output)
        return
    build.add("QuantizeLinear", x, *_unit_scale(build, node, offset), out=node.output)


def _unit_scale(build: Build, node: Node, offset: int) -> tuple[str, str]:
    return (
        build.constant(1.0, np.float32, f"{node.output}/unit"),
        build.constant(offset, np.uint8, f"{node.output}/offset"),
    )


def _linear(build: Build, node: Node, op: ops.Linear) -> None:
    x = build.levels(node) if is_byte(build.qtype(node.inputs[0])) else build.source(node)
    build.add("Gemm", *_dequantized(build, node, op, x), out=node.output, transB=1)


def _conv2d(build: Build, node: Node, op: ops.Conv2d) -> None:
    x, attributes = convolution_input(build, node, op, build.levels(node), build.qtype(node.inputs[0]))
    build.add("Conv", *_dequantized(build, node, op, x), out=node.output, **attributes)


def _dequantized(build: Build, node: Node, op: ops.Linear | ops.Conv2d, x: str) -> list[str]:
    """Input, weight and bias of a layer, each behind a DequantizeLinear."""
    build.needs(13, node)
    weights = build.graph.weights
    scale = accumulator_scale(build.graph, node.output)
    value = scale.astype(np.float32) if scale.size > 1 else np.float32(scale[0])
    scale_name = build.constant(value, np.float32, f"{node.output}/scale")
    zero = build.constant(np.full(np.shape(value), WEIGHT_OFFSET), np.uint8, f"{node.output}/weight_offset")
    stored = build.constant(weights[op.weight].astype(np.int32) + WEIGHT_OFFSET, np.uint8, f"{node.output}/weight")
    if is_byte(build.qtype(node.inputs[0])):
        x = build.add("DequantizeLinear", x, *_unit_scale(build, node, level_offset(build.qtype(node.inputs[0]))))
    names = [
        x,
        build.add("DequantizeLinear", stored, scale_name, zero, axis=0),
    ]
    if op.bias is not None:
        bias = build.constant(weights[op.bias], np.int32, f"{node.output}/bias")
        names.append(build.add("DequantizeLinear", bias, scale_name, axis=0))
    return names


def _dequantize(build: Build, node: Node, op: ops.Dequantize) -> None:
    tensor, weights = node.inputs[0], build.graph.weights
    if build.qtype(tensor) != INT32:
        FLOAT[ops.Dequantize](build, node, op)
        return
    scale = op.scales(weights).astype(np.float64)
    x = _rescaled(build, node, scale)
    shift = build.along_first(op.zero_points(weights) * scale, tensor)
    if shift.any():
        x = build.add("Sub", x, build.constant(shift, np.float32, f"{node.output}/shift"))
    build.set_stored(node, x)


QDQ: Mapping[type[ops.Op], Emit] = {
    ops.Quantize: _quantize,
    ops.Linear: _linear,
    ops.Conv2d: _conv2d,
    ops.Requantize: _requantize,
    ops.Dequantize: _dequantize,
}
"""Op → its emitter, when its arithmetic is integer."""
