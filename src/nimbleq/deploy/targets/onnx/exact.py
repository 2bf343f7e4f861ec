"""Integer ops as integer ONNX nodes: bit for bit what the interpreter computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nimbleq.deploy.targets.onnx.build import Build, is_byte, level_offset
from nimbleq.deploy.targets.onnx.floats import Emit, convolution_input
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import Int
from nimbleq.types import Array

WEIGHT_OFFSET = 128


def _quantize(build: Build, node: Node, op: ops.Quantize) -> None:
    build.needs(12, node)
    weights, tensor = build.graph.weights, node.inputs[0]
    inverse = build.along_first(weights[op.inverse_scale], tensor)
    scaled = build.add(
        "Mul", build.cast(build.source(node), np.float64), build.constant(inverse, np.float64, f"{node.output}/inverse")
    )
    level = build.add("Floor", build.add("Add", scaled, build.constant(0.5, np.float64, f"{node.output}/half")))
    qtype = Int(op.bits, op.signed)
    offset = level_offset(qtype)
    zero = build.along_first(op.zero_points(weights), tensor) + offset
    if zero.any():
        level = build.add("Add", level, build.constant(zero, np.float64, f"{node.output}/zero_point"))
    bounds = (build.constant(bound + offset, np.float64, f"{node.output}/bound") for bound in (qtype.low, qtype.high))
    build.cast(build.add("Clip", level, *bounds), _stored_as(qtype), out=node.output)


def _stored_as(qtype: Int) -> Any:
    return np.uint8 if is_byte(qtype) else np.int32


def _linear(build: Build, node: Node, op: ops.Linear) -> None:
    build.needs(12, node)
    weight = build.graph.weights[op.weight].T
    if is_byte(build.qtype(node.inputs[0])):
        total = build.add("MatMulInteger", build.levels(node), *_factors(build, node, weight))
    else:
        factor = build.constant(weight, np.int32, f"{node.output}/weight")
        total = build.add("MatMul", build.source(node), factor)
    _biased(build, node, op, total)


def _conv2d(build: Build, node: Node, op: ops.Conv2d) -> None:
    build.needs(12, node)
    x, attributes = convolution_input(build, node, op, build.levels(node), build.qtype(node.inputs[0]))
    total = build.add("ConvInteger", x, *_factors(build, node, build.graph.weights[op.weight]), **attributes)
    _biased(build, node, op, total)


def _factors(build: Build, node: Node, weight: Array) -> list[str]:
    """Weights stored as uint8, the input's offset and the weights' offset."""
    offset = level_offset(build.qtype(node.inputs[0]))
    return [
        build.constant(weight.astype(np.int32) + WEIGHT_OFFSET, np.uint8, f"{node.output}/weight"),
        build.constant(offset, np.uint8, f"{node.output}/input_offset"),
        build.constant(WEIGHT_OFFSET, np.uint8, f"{node.output}/weight_offset"),
    ]


def _biased(build: Build, node: Node, op: ops.Linear | ops.Conv2d, total: str) -> None:
    if op.bias is None:
        build.set_stored(node, total)
        return
    bias = build.along_first(build.graph.weights[op.bias], node.output)
    build.add("Add", total, build.constant(bias, np.int32, f"{node.output}/bias"), out=node.output)


def _requantize(build: Build, node: Node, op: ops.Requantize) -> None:
    build.needs(12, node)
    weights, tensor = build.graph.weights, node.inputs[0]
    multiplier = build.along_first(op.multipliers(weights), tensor)
    unit = np.int64(1) << build.along_first(weights[op.shift], tensor).astype(np.int64)
    x = build.add(
        "Mul",
        build.cast(build.source(node), np.int64),
        build.constant(multiplier, np.int64, f"{node.output}/multiplier"),
    )
    x = build.add("Add", x, build.constant(unit // 2, np.int64, f"{node.output}/half"))
    units = build.constant(unit, np.int64, f"{node.output}/unit")
    if op.low < op.zero_point:
        # Div truncates; taking the remainder (which has the divisor's sign) off first makes it the arithmetic shift.
        # With a ReLU the negative quotients, the only ones that differ, are clipped anyway.
        x = build.add("Sub", x, build.add("Mod", x, units))
    x = build.add("Div", x, units)
    qtype = Int(op.bits, op.signed)
    offset = level_offset(qtype)
    if op.zero_point + offset:
        x = build.add("Add", x, build.constant(op.zero_point + offset, np.int64, f"{node.output}/zero_point"))
    bounds = (build.constant(bound + offset, np.int64, f"{node.output}/bound") for bound in (op.low, op.high))
    build.cast(build.add("Clip", x, *bounds), _stored_as(qtype), out=node.output)


EXACT: Mapping[type[ops.Op], Emit] = {
    ops.Quantize: _quantize,
    ops.Linear: _linear,
    ops.Conv2d: _conv2d,
    ops.Requantize: _requantize,
}
"""Op → its emitter, when its arithmetic is integer."""
