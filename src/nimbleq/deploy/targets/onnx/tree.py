"""Decision trees as ONNX nodes: all splits at once, then the leaf with which all of its splits agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.deploy.targets.onnx.build import Build, level_offset
from nimbleq.deploy.targets.onnx.exact import WEIGHT_OFFSET
from nimbleq.deploy.targets.onnx.floats import Emit, numbers
from nimbleq.graph import ops
from nimbleq.graph.graph import Node


def _oblique_tree(build: Build, node: Node, op: ops.ObliqueTree) -> None:
    split, threshold = (build.graph.weights[name] for name in (op.split, op.threshold))
    if split.dtype == np.float32:
        columns = build.constant(split.T, np.float64, f"{node.output}/split")
        sums = build.add("MatMul", build.cast(numbers(build, node), np.float64), columns)
    else:
        build.needs(10, node)
        columns = build.constant(split.T.astype(np.int32) + WEIGHT_OFFSET, np.uint8, f"{node.output}/split")
        zeros = [
            build.constant(offset, np.uint8, f"{node.output}/{name}_offset")
            for name, offset in (("input", level_offset(build.qtype(node.inputs[0]))), ("split", WEIGHT_OFFSET))
        ]
        sums = build.add("MatMulInteger", build.levels(node), columns, *zeros)
    bound = build.constant(threshold, np.float64 if split.dtype == np.float32 else np.int32, f"{node.output}/threshold")
    _leaves(build, node, build.add("Greater", sums, bound), op.leaf)


def _axis_tree(build: Build, node: Node, op: ops.AxisTree) -> None:
    feature, threshold = (build.graph.weights[name] for name in (op.feature, op.threshold))
    columns = build.constant(feature, np.int64, f"{node.output}/feature")
    seen = build.add("Gather", build.cast(numbers(build, node), np.float64), columns, axis=1)
    bound = build.constant(threshold, np.float64, f"{node.output}/threshold")
    _leaves(build, node, build.add("Greater", seen, bound), op.leaf)


def _leaves(build: Build, node: Node, right: str, name: str) -> None:
    """What the leaf gives to which all splits on the way point, from ``right``, bool ``[B, N]``."""
    leaf = build.graph.weights[name]
    splits = len(leaf) - 1
    turns, left = ops.tree_turns(splits)
    # A leaf agrees with as many splits as it has above it; any other with fewer.
    agreeing = build.add(
        "Gemm", build.cast(right, np.float32), build.constant(turns, np.float32, f"{node.output}/turns"),
        build.constant(left, np.float32, f"{node.output}/left"),
    )  # fmt: skip
    reached = build.add("ArgMax", agreeing, axis=1, keepdims=0)
    rows = np.eye(build.graph.types[node.output].size)[leaf] if leaf.ndim == 1 else leaf.astype(np.float64)
    offset = level_offset(build.qtype(node.output))
    dtype = np.uint8 if build.qtype(node.output).is_integer else np.float32
    table = build.constant(rows + offset, dtype, f"{node.output}/leaf")
    build.add("Gather", table, reached, out=node.output, axis=0)


TREE: Mapping[type[ops.Op], Emit] = {ops.ObliqueTree: _oblique_tree, ops.AxisTree: _axis_tree}
"""Op → its emitter, the same in every form."""
