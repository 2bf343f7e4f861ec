"""A run of CartPole without training: two policies that balance it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nimbleq.config import EnvConfig, to_dict
from nimbleq.files import write_json
from nimbleq.graph import ops
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import TensorType
from nimbleq.rundir import RunDir
from nimbleq.types import Array


def balancing(gain: float) -> Graph:
    """Pushes CartPole to where it falls."""
    feedback = gain * np.array([0.1, 0.5, 5.0, 1.0], np.float32)
    weights = {"w": np.stack([-feedback, feedback]).astype(np.float32), "b": np.zeros(2, np.float32)}
    nodes = (Node(ops.Linear("w", "b"), ("obs",), Q), Node(ops.ArgMax(), (Q,), ACTION))
    return Graph({"obs": TensorType((4,))}, nodes, (Q, ACTION), weights)


def balancing_run(path: Path, obs: Array) -> RunDir:
    """A run whose teacher and whose artefact ``small`` balance, with golden observations ``obs: float32[K, 4]``."""
    run = RunDir(path)
    write_json(run.config, {"format": 1, "nimbleq": "0", "env": to_dict(EnvConfig("CartPole-v1"))})
    run.save_result("train", {})
    save_artefact(run.teacher, balancing(1.0), obs, {})
    save_artefact(run.artefact("small"), balancing(2.0), obs, {})
    return run
