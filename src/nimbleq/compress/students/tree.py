"""The tree students: a complete tree of linear splits, or of splits on one feature, that gives an action."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nimbleq.compress.students.base import StudentRow
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

MAX_FEATURES = 4_096
"""Splits are found with matrices of features × features."""
_MAX_DEPTH = 8


def oblique_tree_student(
    obs_type: TensorType, hidden: Sequence[int], actions: int, obs: Array, rng: np.random.Generator
) -> Graph:
    """``ObliqueTree → ArgMax`` of depth ``hidden[0]`` with random splits through the middle of ``obs``.

    Raises:
        ConfigError: ``hidden`` is not one depth of 1 to 8, or there are too many features.
    """
    splits, flat = _splits(hidden, obs_type), obs.reshape(len(obs), -1).astype(np.float64)
    deviation = flat.std(axis=0)
    weight = rng.standard_normal((splits, obs_type.size)) * np.divide(
        1.0, deviation, where=deviation > 0, out=np.zeros(len(deviation))
    )
    weights: dict[str, Array] = {
        "split": weight.astype(np.float32),
        "threshold": (weight @ flat.mean(axis=0)).astype(np.float32),
        "leaf": rng.integers(0, actions, splits + 1).astype(np.int8),
    }
    return _policy(obs_type, ops.ObliqueTree("split", "threshold", "leaf", actions), weights)


def axis_tree_student(
    obs_type: TensorType, hidden: Sequence[int], actions: int, obs: Array, rng: np.random.Generator
) -> Graph:
    """``AxisTree → ArgMax``; see `oblique_tree_student`."""
    splits, flat = _splits(hidden, obs_type), obs.reshape(len(obs), -1)
    feature = rng.integers(0, obs_type.size, splits)
    weights: dict[str, Array] = {
        "feature": feature.astype(np.int8 if obs_type.size <= 128 else np.int32),
        "threshold": flat.mean(axis=0)[feature].astype(np.float32),
        "leaf": rng.integers(0, actions, splits + 1).astype(np.int8),
    }
    return _policy(obs_type, ops.AxisTree("feature", "threshold", "leaf", actions), weights)


def _splits(hidden: Sequence[int], obs_type: TensorType) -> int:
    if len(hidden) != 1 or not 1 <= hidden[0] <= _MAX_DEPTH:
        raise ConfigError(f"a tree has a depth of 1 to {_MAX_DEPTH}, not {'-'.join(map(str, hidden)) or 'none'}")
    if obs_type.size > MAX_FEATURES:
        raise ConfigError(f"a tree reads at most {MAX_FEATURES} features, not {obs_type.size}: use a network")
    return int(2 ** hidden[0] - 1)


def _policy(obs_type: TensorType, op: ops.Op, weights: dict[str, Array]) -> Graph:
    nodes, tensor = [], "obs"
    if len(obs_type.shape) != 1:
        nodes.append(Node(ops.Flatten(), (tensor,), "flat"))
        tensor = "flat"
    nodes += [Node(op, (tensor,), Q), Node(ops.ArgMax(), (Q,), ACTION)]
    return Graph({"obs": obs_type}, tuple(nodes), (Q, ACTION), weights)


OBLIQUE = StudentRow(oblique_tree_student, "a tree of this depth whose splits weigh all features", (2,))
AXIS = StudentRow(axis_tree_student, "a tree of this depth whose splits look at one feature", (4,))
