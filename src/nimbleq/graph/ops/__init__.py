"""The ops: frozen parameters and a shape-and-type rule. Semantics are in `nimbleq.graph.interpret`.

Weights are referred to by name, so that an op stays a small comparable value. A rule gets the input types and the
graph's weights, and returns the output type or raises `GraphError`. What a decision costs is in `nimbleq.graph.cost`.

An op is integer arithmetic exactly when its weights are integers: it then accumulates in int32 and its bias already
contains ``−Σ W·z`` for the zero point ``z`` of its input. That no partial sum can leave int32 is checked.
"""

from collections.abc import Callable

from nimbleq.graph.ops.base import Op, Weights, window_extent
from nimbleq.graph.ops.integer import Dequantize, Quantize, Requantize
from nimbleq.graph.ops.layers import Affine, Conv2d, LayerNorm, Linear, accumulator_bound
from nimbleq.graph.ops.parts import Slice, Unflatten
from nimbleq.graph.ops.simple import (
    GRU,
    Activation,
    Add,
    ArgMax,
    BranchArgMax,
    ChannelShuffle,
    Concat,
    Dueling,
    Expectation,
    Flatten,
    Pool,
    Tanh,
)
from nimbleq.graph.ops.tree import AxisTree, ObliqueTree, tree_depth, tree_turns

OPS: dict[str, Callable[..., Op]] = {
    op.__name__: op
    for op in (
        Affine, Linear, Conv2d, Activation, Tanh, LayerNorm, Pool, Flatten, ChannelShuffle, Add, Concat, Dueling,
        Expectation, Slice, Unflatten, Quantize, Dequantize, Requantize, ObliqueTree, AxisTree, ArgMax,
        BranchArgMax, GRU,
    )
}  # fmt: skip
"""Kind → class, for reading files."""

Choice = ArgMax | BranchArgMax
"""What makes the action of action values."""

__all__ = [
    "GRU", "OPS", "Activation", "Add", "Affine", "ArgMax", "AxisTree", "BranchArgMax", "ChannelShuffle", "Choice",
    "Concat", "Conv2d", "Dequantize", "Dueling", "Expectation", "Flatten", "LayerNorm", "Linear", "ObliqueTree", "Op",
    "Pool", "Quantize", "Requantize", "Slice", "Tanh", "Unflatten", "Weights", "accumulator_bound", "tree_depth",
    "tree_turns", "window_extent",
]  # fmt: skip
