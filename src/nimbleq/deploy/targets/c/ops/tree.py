"""Decision trees as a walk over a table: one loop from the root to a leaf, whatever the depth."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.deploy.targets.c.ops.sums import check_int_source
from nimbleq.graph.ops import tree_depth


def oblique_tree(layer: Layer) -> list[str]:
    """Lines of an ObliqueTree."""
    split = layer.weight(layer.op.split)
    (splits, features), real = split.shape, split.dtype == np.float32
    w, t = layer.stored("split", layer.op.split), layer.stored("threshold", layer.op.threshold)
    if real:
        layer.use("exact_double")
    else:
        check_int_source(layer)
    wide, weight = "double" if real else "int32_t", w.at(f"n * {features} + k")
    return [
        "int n = 0;",
        f"for (int level = 0; level < {tree_depth(splits)}; ++level) {{",
        f"    {wide} sum = 0;",
        f"    {w.singly}for (int k = 0; k < {features}; ++k) sum += ({wide}){layer.x}[k] * {weight};",
        f"    n = 2 * n + 1 + (sum > {t.at('n')});",
        "}",
        *_leaf(layer, splits),
    ]


def axis_tree(layer: Layer) -> list[str]:
    """Lines of an AxisTree."""
    f, t = layer.stored("feature", layer.op.feature), layer.stored("threshold", layer.op.threshold)
    splits = len(layer.weight(layer.op.feature))
    return [
        "int n = 0;",
        f"for (int level = 0; level < {tree_depth(splits)}; ++level)",
        f"    n = 2 * n + 1 + ({layer.x}[{f.at('n')}] > {t.at('n')});",
        *_leaf(layer, splits),
    ]


def _leaf(layer: Layer, splits: int) -> list[str]:
    """Lines that store what the leaf ``n`` gives."""
    leaf, count = layer.stored("leaf", layer.op.leaf), layer.count
    if layer.weight(layer.op.leaf).ndim == 1:
        value = f"{leaf.at(f'n - {splits}')} == a ? 1.0f : 0.0f"
    else:
        value = leaf.at(f"(n - {splits}) * {count} + a")
    return [f"for (int a = 0; a < {count}; ++a) {layer.y}[a] = {value};"]
