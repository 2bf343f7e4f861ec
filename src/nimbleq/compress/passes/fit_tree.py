"""Fitting of tree students: splits and leaves that lose least of the teacher's value on given states.

What a state counts is what is at stake there, ``max Q − Q(a)`` of the action that a leaf would take (Q-DAgger, VIPER
[1805.08328]): no label is needed where all actions are worth the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.students.grow import Tree, cheapest, grow, purest, refine
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.ops import tree_depth
from nimbleq.types import Array

_STATES = 8_000
"""States that one fit looks at, equally many of every half."""
_CHANCES = 2


def tree_of(graph: Graph) -> Node | None:
    """The node of a tree student."""
    return next((node for node in graph.nodes if isinstance(node.op, ops.ObliqueTree | ops.AxisTree)), None)


def fit_tree(student: Graph, halves: Sequence[Labelled], seed: int) -> Graph:
    """``student`` with the tree of its depth that costs least on ``halves`` of those tried."""
    rng = np.random.default_rng(seed)
    samples = [_sample(half, rng, len(halves)) for half in halves]
    obs, cost = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    mean, deviation = obs.mean(axis=0), obs.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    x = (obs - mean) / deviation
    node = tree_of(student)
    assert node is not None
    splits = len(student.weights[node.op.weight_names()[1]])
    oblique = isinstance(node.op, ops.ObliqueTree)
    depth = tree_depth(splits)
    best = cheapest_tree(x, cost, depth, oblique, [_read(student, node, mean, deviation)], rng)
    masked = halves[0].states.mask is not None
    return student.with_weights(
        _written(student, node, best, mean, deviation, _rows(best, x, cost) if masked else None)
    )


def cheapest_tree(
    x: Array, cost: Array, depth: int, oblique: bool, known: list[Tree], rng: np.random.Generator
) -> Tree:
    """Of ``known`` trees and of some grown anew, each refined, the one that costs least.

    Growing looks one split ahead, so that the best first split may not lead to the best tree: beside the cheapest and
    the purest splits, it tries chance.
    """
    chance = [lambda found: found[rng.integers(len(found))]] * _CHANCES
    grown = [grow(x, cost, depth, oblique, choose) for choose in (cheapest, purest, *chance)]
    return min((refine(tree, x, cost, oblique) for tree in (*known, *grown)), key=lambda tree: tree.cost(x, cost))


def _sample(half: Labelled, rng: np.random.Generator, halves: int) -> tuple[Array, Array]:
    """Some of the states, ``float64[K, F]``, and what each action loses there, ``float64[K, A]``."""
    rows = rng.permutation(len(half.obs))[: _STATES // halves]
    q = half.q[rows].astype(np.float64)
    mask = None if half.states.mask is None else half.states.mask[rows]
    best = (q if mask is None else np.where(mask, q, -np.inf)).max(axis=1, keepdims=True)
    cost = np.maximum(best - q, 0.0)
    if mask is not None:  # an illegal action is as bad as the worst
        cost = np.where(mask, cost, cost.max(axis=1, keepdims=True))
    return half.obs[rows].reshape(len(rows), -1).astype(np.float64), cost


def _read(student: Graph, node: Node, mean: Array, deviation: Array) -> Tree:
    """The student's tree in standardised features."""
    weights = [student.weights[name] for name in node.op.weight_names()]
    first, threshold, leaf = weights[0], weights[1].astype(np.float64), weights[2]
    raw = first.astype(np.float64) if first.ndim == 2 else np.eye(len(mean))[first]
    split = np.concatenate([raw * deviation, (raw @ mean - threshold)[:, None]], axis=1)
    size = np.maximum(np.linalg.norm(split[:, :-1], axis=1, keepdims=True), 1e-30)
    return Tree(split / size, (leaf if leaf.ndim == 1 else leaf.argmax(axis=1)).astype(np.int64))


def _written(
    student: Graph, node: Node, tree: Tree, mean: Array, deviation: Array, rows: Array | None
) -> dict[str, Array]:
    """``tree`` as the weights of ``node``, in the features as they come."""
    first, threshold, leaf = node.op.weight_names()
    direction, offset = tree.split[:, :-1] / deviation, tree.split[:, -1]
    weights: dict[str, Array] = {leaf: tree.action.astype(np.int8) if rows is None else rows.astype(np.float32)}
    if isinstance(node.op, ops.ObliqueTree):
        limit = direction @ mean - offset
        weights[first] = direction.astype(np.float32)
    else:
        feature = np.abs(direction).argmax(axis=1)
        chosen = direction[np.arange(len(direction)), feature]
        # A split without a feature sends everything left.
        limit = np.divide(-offset, chosen, where=chosen > 0, out=np.full(len(offset), np.inf)) + mean[feature]
        weights[first] = feature.astype(student.weights[first].dtype)
    largest = np.finfo(np.float32).max
    return weights | {threshold: np.clip(limit, -largest, largest).astype(np.float32)}


def _rows(tree: Tree, x: Array, cost: Array) -> Array:
    """``float64[L, A]`` minus what each action costs on average in each leaf: where the best is not legal, the next
    best is known. A leaf that no state reaches prefers its action only."""
    leaf = tree.leaves(x)
    count = np.bincount(leaf, minlength=len(tree.action))
    total = np.stack([np.bincount(leaf, weights=column, minlength=len(count)) for column in cost.T], axis=1)
    preferred = np.eye(cost.shape[1])[tree.action] - 1
    return np.where(count[:, None] > 0, -total / np.maximum(count, 1)[:, None], preferred)
