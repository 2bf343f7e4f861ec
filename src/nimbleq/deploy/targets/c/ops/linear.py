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
            f"for (int k = 0; k < {n_in}; ++k)",
            f"    for (int o = 0; o < {n_out}; ++o) {y}[o] += {product};",
            *([f"for (int o = 0; o < {n_out}; ++o) {y}[o] = {result};"] if layer.step.epilogue else []),
        ]
    check_int_source(layer)
    w = layer.stored("weight", layer.op.weight, weight)
    return dot_linear(layer, w, n_out, n_in) or [
        w.start,
        f"for (int o = 0; o < {n_out}; ++o) {{",
        f"    uint32_t sum = {bias(layer)};",
        f"    for (int k = 0; k < {n_in}; ++k) sum += {w.times_next(f'{x}[k]')};",
        f"    {y}[o] = {requantized(layer)};",
        "}",
    ]
