"""Linear layers and convolutions in plain C99: weights as they are, no scratch, no padding.

Integer layers sum in a register and store once. Float layers add one input to all outputs at a time, which compilers
turn into whatever vectors the processor has.
"""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.ops.dense import activation_arguments, columns
from nimbleq.deploy.targets.c.ops.integer import check_int_source
from nimbleq.deploy.targets.c.ops.writer import Writer
from nimbleq.graph import ops
from nimbleq.graph.graph import Node


def linear(writer: Writer, node: Node, epilogue: Node | None) -> list[str]:
    """Lines of one Linear, its epilogue included."""
    op = node.op
    assert isinstance(op, ops.Linear)
    source, output = node.inputs[0], (epilogue or node).output
    weight = columns(writer, source, writer.graph.weights[op.weight])
    n_out, n_in = weight.shape
    x, y = writer.variables[source], writer.variables[output]
    if weight.dtype == np.float32:
        w = writer.constant("w", weight.T)
        product = f"{_real(writer, source, f'{x}[k]')} * {w}[k * {n_out} + o]"
        return [
            f"for (int o = 0; o < {n_out}; ++o) {y}[o] = {_bias(writer, op)};",
            f"for (int k = 0; k < {n_in}; ++k)",
            f"    for (int o = 0; o < {n_out}; ++o) {y}[o] += {product};",
            *_activated(writer, epilogue, f"{y}[o]", n_out),
        ]
    check_int_source(writer.type(source), "Linear")
    w = writer.constant("w", weight)
    return [
        f"const int8_t *w = {w};",
        f"for (int o = 0; o < {n_out}; ++o) {{",
        f"    uint32_t sum = {_bias(writer, op)};",
        f"    for (int k = 0; k < {n_in}; ++k) sum += (uint32_t)((int32_t){x}[k] * *w++);",
        f"    {y}[o] = {_stored(writer, epilogue)};",
        "}",
    ]


def conv2d(writer: Writer, node: Node, epilogue: Node | None) -> list[str]:
    """Lines of one Conv2d on ``(H, W, C)``, its epilogue included."""
    op = node.op
    assert isinstance(op, ops.Conv2d)
    source, output = node.inputs[0], (epilogue or node).output
    weight = writer.graph.weights[op.weight]
    real = weight.dtype == np.float32
    if not real:
        check_int_source(writer.type(source), "Conv2d")
    channels, height, width = writer.type(source).shape
    out, rows, cols = writer.type(node.output).shape
    _, group_in, kh, kw = weight.shape
    w = writer.constant("w", weight.transpose(0, 2, 3, 1))
    x, y = writer.variables[source], writer.variables[output]
    kind, result = ("float", _activate(writer, epilogue, "sum")) if real else ("int8_t", _stored(writer, epilogue))
    group = "" if op.groups == 1 else f" + o / {out // op.groups} * {group_in}"
    place = f"{x} + (h * {width} + v) * {channels}{group}"
    return [
        f"for (int r = 0; r < {rows}; ++r)",
        f"for (int s = 0; s < {cols}; ++s) {{",
        f"    const {kind} *w = {w};",
        f"    for (int o = 0; o < {out}; ++o) {{",
        f"        {'float' if real else 'uint32_t'} sum = {_bias(writer, op)};",
        f"        for (int a = 0; a < {kh}; ++a)",
        f"        for (int b = 0; b < {kw}; ++b) {{",
        f"            const int h = r * {op.stride[0]} + a - {op.padding[0]};",
        f"            const int v = s * {op.stride[1]} + b - {op.padding[1]};",
        *(f"            {line}" for line in _border(op, group_in, height, width, real)),
        f"            const {writer.c_type(source)} *const pixel = {place};",
        f"            for (int i = 0; i < {group_in}; ++i) sum += {_product(writer, source, real)};",
        "        }",
        f"        {y}[(r * {cols} + s) * {out} + o] = {result};",
        "    }",
        "}",
    ]


def _border(op: ops.Conv2d, count: int, height: int, width: int, real: bool) -> list[str]:
    """Lines for a pixel outside of the image; the weights of its ``count`` channels are passed."""
    if not any(op.padding):
        return []
    product = f"{op.pad_value}.0f * *w++" if real else f"(uint32_t)((int32_t){op.pad_value} * *w++)"
    passing = f"for (int i = 0; i < {count}; ++i) sum += {product};" if op.pad_value else f"w += {count};"
    return [
        f"if (h < 0 || h >= {height} || v < 0 || v >= {width}) {{",
        f"    {passing}",
        "    continue;",
        "}",
    ]


def _product(writer: Writer, source: str, real: bool) -> str:
    return f"{_real(writer, source, 'pixel[i]')} * *w++" if real else "(uint32_t)((int32_t)pixel[i] * *w++)"


def _real(writer: Writer, source: str, expression: str) -> str:
    return expression if writer.c_type(source) == "float" else f"(float){expression}"


def _bias(writer: Writer, op: ops.Linear | ops.Conv2d) -> str:
    """What the sum of output ``o`` starts from."""
    real = writer.graph.weights[op.weight].dtype == np.float32
    if op.bias is None:
        return "0.0f" if real else "0"
    b = writer.constant("b", writer.graph.weights[op.bias])
    return f"{b}[o]" if real else f"(uint32_t){b}[o]"


def _activate(writer: Writer, epilogue: Node | None, value: str) -> str:
    if epilogue is None:
        return value
    writer.use("activate")
    return f"nq_activate({value}, {activation_arguments(epilogue)})"


def _activated(writer: Writer, epilogue: Node | None, value: str, count: int) -> list[str]:
    if epilogue is None:
        return []
    return [f"for (int o = 0; o < {count}; ++o) {value} = {_activate(writer, epilogue, value)};"]


def _stored(writer: Writer, epilogue: Node | None) -> str:
    """The integer ``sum`` of output ``o`` as it is stored."""
    if epilogue is None:
        return "(int32_t)sum"
    op, weights = epilogue.op, writer.graph.weights
    assert isinstance(op, ops.Requantize)
    writer.use("requantize")
    m, s = (writer.constant(label, weights[name]) for label, name in (("m", op.multiplier), ("s", op.shift)))
    at_m, at_s = ("0" if weights[name].size == 1 else "o" for name in (op.multiplier, op.shift))
    element = writer.c_type(epilogue.output)
    call = f"nq_requantize((int32_t)sum, {m}[{at_m}], {s}[{at_s}], {op.zero_point}, {op.low}, {op.high})"
    return f"({element}){call}"
