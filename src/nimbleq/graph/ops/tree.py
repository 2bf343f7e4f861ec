"""Decision trees: complete binary trees of splits, oblique (a weighted sum) or axis-aligned (one feature)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nimbleq.graph.ops.base import Op, Weights, require, weight_of
from nimbleq.graph.tensor import FLOAT32, INT8, INT32, QType, TensorType
from nimbleq.types import Array

MAX_DEPTH = 16


def tree_depth(splits: int) -> int:
    """Levels of a complete tree with so many splits, ``2^D − 1``.

    Raises:
        GraphError: no complete tree of 1 to 16 levels has that many.
    """
    depth = splits.bit_length()
    complete = splits == (1 << depth) - 1 and 1 <= depth <= MAX_DEPTH
    require(complete, f"{splits} splits are not 2^D − 1 for a depth D of 1 to {MAX_DEPTH}")
    return depth


@dataclass(frozen=True)
class ObliqueTree(Op):
    """A complete tree of ``N = 2^D − 1`` splits: node ``n`` leads to ``2n + 2`` where ``w_n·x > t_n``, else to
    ``2n + 1``; from ``N`` on these are leaves.

    Attributes:
        split: ``w [N, F]``, float32, or int8 for an integer input. Floats are multiplied exactly and summed in double
            from the first feature to the last, so that every target takes the same way; integers sum in int32.
        threshold: ``t [N]``, float32, or int8 or int32 for integer splits.
        leaf: what a leaf gives: its row ``[N + 1, A]``, float32 or int8; or its action ``[N + 1]``, int8, which gives
            1 for that action and 0 for the others, float32.
        actions: ``A``.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("split", "threshold", "leaf")
    split: str
    threshold: str
    leaf: str
    actions: int

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        require(len(source.shape) == 1, f"{self.kind} needs a vector, got {source}: flatten first")
        split = weight_of(weights, self.split, (None, source.shape[0]), np.float32, np.int8)
        tree_depth(len(split))
        if split.dtype == FLOAT32.dtype:
            weight_of(weights, self.threshold, (len(split),), np.float32)
        else:
            weight_of(weights, self.threshold, (len(split),), np.int8, np.int32)
            require(source.qtype.is_integer, "integer splits need an integer input: quantize it first")
            bound = int(np.abs(split, dtype=np.float64).sum(axis=1).max() * source.qtype.largest)
            require(bound <= INT32.high, f"sums may reach {bound} and overflow int32: smaller weights or fewer bits")
        return TensorType((self.actions,), _leaf_type(self.leaf, len(split) + 1, self.actions, weights))


@dataclass(frozen=True)
class AxisTree(Op):
    """`ObliqueTree` whose splits each look at one feature: node ``n`` leads to ``2n + 2`` where ``x[f_n] > t_n``.

    Attributes:
        feature: ``f [N]``, int8 or int32, each in ``0 … F − 1``.
        threshold: ``t [N]``, float32, or int8 or int32 for an integer input.
        leaf, actions: see `ObliqueTree`.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("feature", "threshold", "leaf")
    feature: str
    threshold: str
    leaf: str
    actions: int

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        require(len(source.shape) == 1, f"{self.kind} needs a vector, got {source}: flatten first")
        feature = weight_of(weights, self.feature, (None,), np.int8, np.int32)
        tree_depth(len(feature))
        inside = 0 <= int(feature.min()) <= int(feature.max()) < source.shape[0]
        require(inside, f"weight {self.feature!r} names features that {source} does not have")
        threshold = weight_of(weights, self.threshold, (len(feature),), np.float32, np.int8, np.int32)
        fits = source.qtype.is_integer or threshold.dtype == FLOAT32.dtype
        require(fits, "integer thresholds need an integer input: quantize it first")
        return TensorType((self.actions,), _leaf_type(self.leaf, len(feature) + 1, self.actions, weights))


def _leaf_type(name: str, leaves: int, actions: int, weights: Weights) -> QType:
    """Number format of what the leaves give."""
    require(actions >= 1, f"a tree has at least one action, not {actions}")
    require(name in weights, f"weight {name!r} is missing")
    if weights[name].ndim == 1:
        leaf = weight_of(weights, name, (leaves,), np.int8)
        inside = 0 <= int(leaf.min()) <= int(leaf.max()) < actions
        require(inside, f"weight {name!r} names actions that are not among {actions}")
        return FLOAT32
    leaf = weight_of(weights, name, (leaves, actions), np.float32, np.int8)
    return FLOAT32 if leaf.dtype == FLOAT32.dtype else INT8


def tree_turns(splits: int) -> tuple[Array, Array]:
    """``float64[N, N + 1]`` and ``float64[N + 1]``: for ``right[N]`` (1 where a split leads to the right, else 0)
    ``right·turns + left`` is for each leaf with how many of the splits above it agree: of all of them, one leaf.
    """
    turns, left = np.zeros((splits, splits + 1)), np.zeros(splits + 1)
    for index in range(splits + 1):
        child = index + splits
        while child:
            parent = (child - 1) // 2
            turns[parent, index] = 1 if child == 2 * parent + 2 else -1
            left[index] += child == 2 * parent + 1
            child = parent
    return turns, left
