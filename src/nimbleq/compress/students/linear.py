"""The linear student: an MLP without hidden layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nimbleq.compress.students.base import StudentRow
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array


def linear_student(
    obs_type: TensorType, hidden: Sequence[int], actions: int, obs: Array, rng: np.random.Generator
) -> Graph:
    """``normalise → Linear``; see `mlp_student`.

    Raises:
        ConfigError: ``hidden`` is not empty.
    """
    if hidden:
        raise ConfigError(f"a linear student has no hidden layers, not {'-'.join(map(str, hidden))}")
    return mlp_student(obs_type, (), actions, obs, rng)


ROW = StudentRow(linear_student, "a linear policy", ())
