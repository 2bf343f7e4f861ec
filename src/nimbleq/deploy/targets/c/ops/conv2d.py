"""Conv2d in plain C99, on ``(H, W, C)``: weights without padding, no scratch."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.dots import dot_of
from nimbleq.deploy.targets.c.ops.layer import Layer, coordinate
from nimbleq.deploy.targets.c.ops.readers import Stored
from nimbleq.deploy.targets.c.ops.sparse import is_sparse, sparse_conv2d
from nimbleq.deploy.targets.c.ops.sums import (
    activated,
    as_float,
    bias,
    check_int_source,
    real_weight,
    real_weights,
    requantized,
)


def conv2d(layer: Layer) -> list[str]:
    """Lines of a Conv2d, its epilogue included."""
    if is_sparse(layer):
        return sparse_conv2d(layer)
    if layer.source in layer.layout.bits and layer.op.groups == 1 and layer.op.pad_value == 0:
        return _of_bits(layer)
    op, weight, real = layer.op, layer.weight(layer.op.weight), real_weights(layer)
    if not real:
        check_int_source(layer)
    channels, _, width = layer.source_type.shape
    out, rows, cols = layer.node_type.shape
    _, group_in, kh, kw = weight.shape
    w = layer.stored("weight", op.weight, weight.transpose(0, 2, 3, 1))
    start = bias(layer)
    result = activated(layer, "sum") if real else requantized(layer)
    product = f"{as_float(layer, 'pixel[i]')} * {real_weight(layer, w.next)}" if real else w.times_next("pixel[i]")
    run = group_in if op.groups > 1 or op.padding[1] else kw * group_in
    dot = "" if real else dot_of(layer, w, run)
    if dot:
        row = [f"sum += {dot}(pixel, w, {run});", f"w += {run};"]
        kw //= run // group_in
    else:
        row = [f"{w.singly}for (int i = 0; i < {group_in}; ++i) sum += {product};"]
    group = "" if op.groups == 1 else f" + o / {out // op.groups} * {group_in}"
    place = f"{layer.x} + (h * {width} + v) * {channels}{group}"
    return [
        f"for (int r = 0; r < {rows}; ++r)",
        f"for (int s = 0; s < {cols}; ++s) {{",
        f"    {w.start}",
        f"    for (int o = 0; o < {out}; ++o) {{",
        f"        {'float' if real else 'uint32_t'} sum = {start};",
        f"        for (int a = 0; a < {kh}; ++a)",
        f"        for (int b = 0; b < {kw}; ++b) {{",
        f"            const int h = {coordinate('r', 'a', op, 0)};",
        f"            const int v = {coordinate('s', 'b', op, 1)};",
        *(f"            {line}" for line in _border(layer, w, run if dot else group_in, real)),
        f"            const {layer.source_element} *const pixel = {place};",
        *(f"            {line}" for line in row),
        "        }",
        f"        {layer.y}[(r * {cols} + s) * {out} + o] = {result};",
        "    }",
        "}",
    ]


def _border(layer: Layer, w: Stored, count: int, real: bool) -> list[str]:
    """Lines for a pixel outside of the image; the weights of its ``count`` channels are passed."""
    op, (_, height, width) = layer.op, layer.source_type.shape
    if not any(op.padding):
        return []
    value = str(op.pad_value)
    product = f"{value}.0f * {real_weight(layer, w.next)}" if real else w.times_next(value)
    passing = f"{w.singly}for (int i = 0; i < {count}; ++i) sum += {product};" if op.pad_value else f"w += {count};"
    return [
        f"if (h < 0 || h >= {height} || v < 0 || v >= {width}) {{",
        f"    {passing}",
        "    continue;",
        "}",
    ]


def _of_bits(layer: Layer) -> list[str]:
    """Sums over the inputs of a window that are not zero, one input after the other, for all outputs at once."""
    op, weight, real = layer.op, layer.weight(layer.op.weight), real_weights(layer)
    if not real:
        check_int_source(layer)
    channels, height, width = layer.source_type.shape
    out, rows, cols = layer.node_type.shape
    _, _, kh, kw = weight.shape
    w = layer.stored("weight", op.weight, weight.transpose(2, 3, 1, 0))
    kind = "float" if real else "uint32_t"
    sums, at = layer.buffer("sums", kind, out), f"(k * {out} + o)"
    product = f"{as_float(layer, 'pixel[i]')} * {real_weight(layer, w.at(at))}" if real else w.times_at("pixel[i]", at)
    return [
        f"for (int r = 0; r < {rows}; ++r)",
        f"for (int s = 0; s < {cols}; ++s) {{",
        f"    for (int o = 0; o < {out}; ++o) {sums}[o] = {bias(layer)};",
        f"    for (int a = 0; a < {kh}; ++a)",
        f"    for (int b = 0; b < {kw}; ++b) {{",
        f"        const int h = {coordinate('r', 'a', op, 0)};",
        f"        const int v = {coordinate('s', 'b', op, 1)};",
        *([f"        if (h < 0 || h >= {height} || v < 0 || v >= {width}) continue;"] if any(op.padding) else []),
        f"        const {layer.source_element} *const pixel = {layer.x} + (h * {width} + v) * {channels};",
        f"        for (int i = 0; i < {channels}; ++i) if (pixel[i] != 0) {{",
        f"            const int k = (a * {kw} + b) * {channels} + i;",
        f"            {w.singly}for (int o = 0; o < {out}; ++o) {sums}[o] += {product};",
        "        }",
        "    }",
        f"    for (int o = 0; o < {out}; ++o) {{",
        f"        const {kind} sum = {sums}[o];",
        f"        {layer.y}[(r * {cols} + s) * {out} + o] = {activated(layer, 'sum') if real else requantized(layer)};",
        "    }",
        "}",
    ]
