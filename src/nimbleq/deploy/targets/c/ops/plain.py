"""Every other op in C: short loops over constant bounds, which compilers vectorise by themselves."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c import plan as c_plan
from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.ops.dense import activation_arguments
from nimbleq.deploy.targets.c.ops.writer import Writer, loop
from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import Int
from nimbleq.types import Array


def affine(writer: Writer, node: Node) -> list[str]:
    """Lines of an Affine: computed in double, rounded once."""
    assert isinstance(node.op, ops.Affine)
    (source,), kind = node.inputs, writer.type(node.inputs[0])
    shift, scale = (writer.graph.weights[name] for name in (node.op.shift, node.op.scale))
    count = kind.size
    if scale.size == shift.size == 1:
        period = 1
    elif c_plan.is_image(kind) and all(a.size == 1 or a.shape == (kind.shape[0], 1, 1) for a in (scale, shift)):
        period = kind.shape[0]
        scale, shift = (np.broadcast_to(a.reshape(-1), (period,)) for a in (scale, shift))
    else:
        period = count
        scale, shift = (_stored(np.broadcast_to(a, kind.shape)) for a in (scale, shift))
    s, t = writer.constant("scale", scale.reshape(-1)), writer.constant("shift", shift.reshape(-1))
    x, y = writer.variables[source], writer.variables[node.output]
    return loop(count, period, f"{y}[i] = (float)((double){x}[i] * (double){s}[c] + (double){t}[c]);")


def _stored(values: Array) -> Array:
    """An array of a tensor's shape in the order of the arena."""
    return values.transpose(1, 2, 0) if values.ndim == 3 else values


def activation(writer: Writer, node: Node) -> list[str]:
    """Lines of an Activation that no layer could take in."""
    writer.use("activate")
    x, y = writer.variables[node.inputs[0]], writer.variables[node.output]
    count = writer.type(node.output).size
    return [f"for (int i = 0; i < {count}; ++i) {y}[i] = nq_activate({x}[i], {activation_arguments(node)});"]


def layer_norm(writer: Writer, node: Node) -> list[str]:
    """Lines of a LayerNorm."""
    op = node.op
    assert isinstance(op, ops.LayerNorm)
    writer.use("norm")
    x, y, count = writer.variables[node.inputs[0]], writer.variables[node.output], writer.type(node.output).size
    lines = [f"nq_normalise({x}, {y}, {count}, {c_text.number(op.eps)});"]
    if op.weight is not None:
        w = writer.constant("w", _stored(writer.graph.weights[op.weight]))
        lines.append(f"for (int i = 0; i < {count}; ++i) {y}[i] *= {w}[i];")
    if op.bias is not None:
        b = writer.constant("b", _stored(writer.graph.weights[op.bias]))
        lines.append(f"for (int i = 0; i < {count}; ++i) {y}[i] += {b}[i];")
    return lines


def pool(writer: Writer, node: Node) -> list[str]:
    """Lines of a Pool on ``(H, W, C)``."""
    op = node.op
    assert isinstance(op, ops.Pool)
    channels, height, width = writer.type(node.inputs[0]).shape
    _, rows, cols = writer.type(node.output).shape
    x, y, element = writer.variables[node.inputs[0]], writer.variables[node.output], writer.c_type(node.output)
    maximum = op.function == "max"
    update = "best = !any || v > best ? v : best; any = 1;" if maximum else "sum += v;"
    start = f"{element} best = 0; int any = 0;" if maximum else "float sum = 0.0f;"
    result = "best" if maximum else f"sum / {op.kernel[0] * op.kernel[1]}.0f"
    return [
        f"for (int r = 0; r < {rows}; ++r)",
        f"    for (int s = 0; s < {cols}; ++s)",
        f"        for (int c = 0; c < {channels}; ++c) {{",
        f"            {start}",
        f"            for (int a = 0; a < {op.kernel[0]}; ++a)",
        f"                for (int b = 0; b < {op.kernel[1]}; ++b) {{",
        f"                    const int h = r * {op.stride[0]} + a - {op.padding[0]};",
        f"                    const int w = s * {op.stride[1]} + b - {op.padding[1]};",
        f"                    if (h < 0 || h >= {height} || w < 0 || w >= {width}) continue;",
        f"                    const {element} v = {x}[(h * {width} + w) * {channels} + c];",
        f"                    {update}",
        "                }",
        f"            {y}[(r * {cols} + s) * {channels} + c] = {result};",
        "        }",
    ]


def flatten(writer: Writer, node: Node) -> list[str]:
    """Lines of a Flatten that has to reorder (most do not: see `c_plan.free_flattens`)."""
    channels, height, width = writer.type(node.inputs[0]).shape
    x, y, pixels = writer.variables[node.inputs[0]], writer.variables[node.output], height * width
    return [
        f"for (int c = 0; c < {channels}; ++c)",
        f"    for (int p = 0; p < {pixels}; ++p) {y}[c * {pixels} + p] = {x}[p * {channels} + c];",
    ]


def add(writer: Writer, node: Node) -> list[str]:
    """Lines of an Add."""
    one, other = (writer.variables[name] for name in node.inputs)
    count = writer.type(node.output).size
    return [f"for (int i = 0; i < {count}; ++i) {writer.variables[node.output]}[i] = {one}[i] + {other}[i];"]


def concat(writer: Writer, node: Node) -> list[str]:
    """Lines of a Concat along the first axis, which is the innermost one of a stored image."""
    kind, y = writer.type(node.output), writer.variables[node.output]
    image = c_plan.is_image(kind)
    outer, total = (kind.shape[1] * kind.shape[2], kind.shape[0]) if image else (1, kind.size)
    lines, done = [], 0
    for name in node.inputs:
        part = writer.type(name).shape[0] if image else writer.type(name).size
        lines += [
            f"for (int o = 0; o < {outer}; ++o)",
            f"    for (int i = 0; i < {part}; ++i) "
            f"{y}[o * {total} + {done} + i] = {writer.variables[name]}[o * {part} + i];",
        ]
        done += part
    return lines


def dueling(writer: Writer, node: Node) -> list[str]:
    """Lines of a Dueling head."""
    value, advantage = (writer.variables[name] for name in node.inputs)
    y, count = writer.variables[node.output], writer.type(node.output).size
    return [
        "float mean = 0.0f;",
        f"for (int i = 0; i < {count}; ++i) mean += {advantage}[i];",
        f"mean /= {count}.0f;",
        f"for (int i = 0; i < {count}; ++i) {y}[i] = {value}[0] + {advantage}[i] - mean;",
    ]


def expectation(writer: Writer, node: Node) -> list[str]:
    """Lines of an Expectation."""
    op = node.op
    assert isinstance(op, ops.Expectation)
    writer.use("expectation")
    support = writer.graph.weights[op.support]
    z, x, y = writer.constant("z", support), writer.variables[node.inputs[0]], writer.variables[node.output]
    count, atoms = writer.type(node.output).size, len(support)
    return [f"for (int a = 0; a < {count}; ++a) {y}[a] = nq_expectation({x} + a * {atoms}, {z}, {atoms});"]


def quantize(writer: Writer, node: Node) -> list[str]:
    """Lines of a Quantize."""
    op = node.op
    assert isinstance(op, ops.Quantize)
    writer.use("quantize")
    low, high = Int(op.bits, op.signed).low, Int(op.bits, op.signed).high
    s, z, period = _pair(writer, node, op.inverse_scale, op.zero_point)
    x, y, element = writer.variables[node.inputs[0]], writer.variables[node.output], writer.c_type(node.output)
    least = str(low) if low > -(2**31) else "(-2147483647 - 1)"
    return loop(
        writer.type(node.output).size,
        period,
        f"{y}[i] = ({element})nq_quantize({x}[i], {s}[c], {z}[c], {least}, {high});",
    )


def dequantize(writer: Writer, node: Node) -> list[str]:
    """Lines of a Dequantize."""
    op = node.op
    assert isinstance(op, ops.Dequantize)
    writer.use("real")
    s, z, period = _pair(writer, node, op.scale, op.zero_point)
    x, y = writer.variables[node.inputs[0]], writer.variables[node.output]
    return loop(writer.type(node.output).size, period, f"{y}[i] = nq_real((int64_t){x}[i] - {z}[c]) * {s}[c];")


def requantize(writer: Writer, node: Node) -> list[str]:
    """Lines of a Requantize that no layer could take in."""
    op = node.op
    assert isinstance(op, ops.Requantize)
    writer.use("requantize")
    m, s, period = _pair(writer, node, op.multiplier, op.shift)
    x, y, element = writer.variables[node.inputs[0]], writer.variables[node.output], writer.c_type(node.output)
    body = f"{y}[i] = ({element})nq_requantize({x}[i], {m}[c], {s}[c], {op.zero_point}, {op.low}, {op.high});"
    return loop(writer.type(node.output).size, period, body)


def _pair(writer: Writer, node: Node, first: str, second: str) -> tuple[str, str, int]:
    """Two per-channel parameters as constants with one period."""
    weights = writer.graph.weights
    size = max(weights[first].size, weights[second].size)
    one, period = writer.along_first(np.broadcast_to(weights[first], (size,)), node.output)
    other, _ = writer.along_first(np.broadcast_to(weights[second], (size,)), node.output)
    return writer.constant("p", one), writer.constant("p", other), period


def argmax(writer: Writer, node: Node) -> list[str]:
    """Lines of an ArgMax: assigns ``action``."""
    source, masked = node.inputs[0], len(node.inputs) == 2
    x, count, element = writer.variables[source], writer.type(source).size, writer.c_type(source)
    kernel = f"argmax{'_masked' if masked else ''}_{'f32' if element == 'float' else 'i32'}"
    writer.use(kernel)
    mask = f"{writer.variables[node.inputs[1]]}, " if masked else ""
    if element in ("float", "int32_t"):
        return [f"action = nq_{kernel}({x}, {mask}{count});"]
    return [
        f"int32_t *const wide = {writer.take_scratch('int32_t', count)};",
        f"for (int i = 0; i < {count}; ++i) wide[i] = {x}[i];",
        f"action = nq_{kernel}(wide, {mask}{count});",
    ]
