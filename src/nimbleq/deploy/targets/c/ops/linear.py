"""Linear in plain C99: weights as they are, no scratch, no padding.

Integer layers sum in a register and store once. Float layers add one input to all outputs at a time, which compilers
turn into whatever vectors the processor has.
"""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.dots import dot_linear
from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.deploy.targets.c.ops.sparse import is_sparse, sparse_linear
from nimbleq.deploy.targets.c.ops.sums import (
    activated,
    as_float,
    bias,
    check_int_source,
    columns,
    real_weight,
    real_weights,
    requantized,
)


def linear(layer: Layer) -> list[str]:
    """Lines of a Linear, its epilogue included."""
    if is_sparse(layer):
        return sparse_linear(layer)
    weight, x, y = columns(layer), layer.x, layer.y
    n_out, n_in = weight.shape
    if real_weights(layer):
        w = layer.stored("weight", layer.op.weight, weight.T)
        product = f"{as_float(layer, f'{x}[k]')} * {real_weight(layer, w.at(f'(k * {n_out} + o)'))}"
        result = activated(layer, f"{y}[o]")
        return [
            f"for (int o = 0; o < {n_out}; ++o) {y}[o] = {bias(layer)};",
            f"for (int k = 0; k < {n_in}; ++k){_there(layer)}",
            f"    {w.singly}for (int o = 0; o < {n_out}; ++o) {y}[o] += {product};",
            *([f"for (int o = 0; o < {n_out}; ++o) {y}[o] = {result};"] if layer.step.epilogue else []),
        ]
    check_int_source(layer)
    if layer.source in layer.layout.bits:
        return _of_bits(layer)
    w = layer.stored("weight", layer.op.weight, weight)
    return dot_linear(layer, w, n_out, n_in) or [
        w.start,
        f"for (int o = 0; o < {n_out}; ++o) {{",
        f"    uint32_t sum = {bias(layer)};",
        f"    {w.singly}for (int k = 0; k < {n_in}; ++k) sum += {w.times_next(f'{x}[k]')};",
        f"    {y}[o] = {requantized(layer)};",
        "}",
    ]


def _there(layer: Layer) -> str:
    """The condition that input ``k`` is not zero, where most are."""
    if layer.source not in layer.layout.bits:
        return ""
    value = f"{layer.x}[k]"
    real = as_float(layer, value) == value  # != would warn of floats; NaN is not left out
    return f" if (!({value} >= 0.0f && {value} <= 0.0f))" if real else f" if ({value} != 0)"


def _of_bits(layer: Layer) -> list[str]:
    """Integer sums over the inputs that are not zero, one input after the other."""
    weight, x, y = columns(layer), layer.x, layer.y
    n_out, n_in = weight.shape
    w = layer.stored("weight", layer.op.weight, weight.T)
    sums, product = layer.buffer("sums", "uint32_t", n_out), w.times_at(f"{x}[k]", f"(k * {n_out} + o)")
    return [
        f"for (int o = 0; o < {n_out}; ++o) {sums}[o] = {bias(layer)};",
        f"for (int k = 0; k < {n_in}; ++k){_there(layer)}",
        f"    {w.singly}for (int o = 0; o < {n_out}; ++o) {sums}[o] += {product};",
        f"for (int o = 0; o < {n_out}; ++o) {{",
        f"    const uint32_t sum = {sums}[o];",
        f"    {y}[o] = {requantized(layer)};",
        "}",
    ]
