"""What layers with weights share: the order of their weights, what integer ones read, and how their sums are stored."""

from __future__ import annotations

from nimbleq.deploy.targets.c.layout import is_image
from nimbleq.deploy.targets.c.ops.activation import activation_arguments
from nimbleq.deploy.targets.c.ops.layer import Layer, at
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.types import Array


def real_weights(layer: Layer) -> bool:
    """Whether a Linear or Conv2d computes in float32."""
    return not layer.node_type.qtype.is_integer


def real_weight(layer: Layer, expression: str) -> str:
    """A weight of a layer that computes in float32, as float."""
    is_integer = layer.layout.graph.stored(layer.op.weight).format.is_integer
    if is_integer and expression.startswith("nq_"):  # GCC warns of a cast from a call to another kind of number
        layer.use("real")
        return f"nq_real({expression})"
    return f"(float){expression}" if is_integer else expression


def columns(layer: Layer) -> Array:
    """The weight ``[out, in]`` of a Linear with its columns in the order in which the source is stored."""
    weight, layout = layer.weight(layer.op.weight), layer.layout
    producer = layout.graph.producer(layer.source)
    if layer.source not in layout.free_flattens or producer is None or producer.inputs[0] == layout.raw_obs:
        return weight
    kind = layout.graph.types[producer.inputs[0]]
    if not is_image(kind):
        return weight
    return weight.reshape(-1, *kind.shape).transpose(0, 2, 3, 1).reshape(len(weight), -1)


def check_int_source(layer: Layer) -> None:
    """Raises `UnsupportedOpError` when the values that an integer layer reads do not fit int16."""
    kind = layer.source_type
    if kind.qtype.low < -(2**15) or kind.qtype.high >= 2**15:
        hint = f"its input is {kind}; int8 kernels take at most 15 bits (16 signed)"
        raise UnsupportedOpError(layer.op.kind, "c", hint)


def as_float(layer: Layer, expression: str) -> str:
    """An element of the source as float."""
    return expression if layer.source_element == "float" else f"(float){expression}"


def bias(layer: Layer) -> str:
    """What the sum of output ``o`` starts from."""
    real = real_weights(layer)
    if layer.op.bias is None:
        return "0.0f" if real else "0"
    b = layer.stored("bias", layer.op.bias).at("o")
    return b if real else f"(uint32_t){b}"


def activated(layer: Layer, value: str) -> str:
    """The float ``value`` as it is stored."""
    if layer.step.epilogue is None:
        return value
    layer.use("activate")
    return f"nq_activate({value}, {activation_arguments(layer.step.epilogue)})"


def requantized(layer: Layer) -> str:
    """The integer ``sum`` of output ``o`` as it is stored."""
    if layer.step.epilogue is None:
        return "(int32_t)sum"
    op = layer.step.epilogue.op
    assert isinstance(op, ops.Requantize)
    s = layer.per_channel("shift", op.shift)
    bounds = f"{s.at('o')}, {op.zero_point}, {op.low}, {op.high}"
    if op.multiplier is None and _shift_fits(layer, layer.weight(op.shift)):
        layer.use("shift")
        return f"({layer.element})nq_shift((int32_t)sum, {bounds})"
    layer.use("requantize")
    m = None if op.multiplier is None else layer.per_channel("multiplier", op.multiplier)
    return f"({layer.element})nq_requantize((int32_t)sum, {at(m, 'o', '1')}, {bounds})"


def _shift_fits(layer: Layer, shift: Array) -> bool:
    """Whether no sum leaves int32 when the half that rounds is added."""
    op = layer.op
    bias = None if op.bias is None else layer.weight(op.bias)
    bound = ops.accumulator_bound(layer.weight(op.weight), bias, layer.source_type.qtype)
    return bool(shift.max() <= 30) and bound + (1 << int(shift.max()) - 1) < 1 << 31
