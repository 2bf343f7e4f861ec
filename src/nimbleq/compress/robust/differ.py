"""How far a student and its teacher can be apart in a box: one network of both, whose difference is bounded.

Only differences between action values choose an action, and a student may have any scale. So values are centred (their
mean over the actions subtracted), and the student's are multiplied by the scale that fits the teacher's best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.robust.native import lower_bounds
from nimbleq.compress.robust.network import Network
from nimbleq.compress.robust.rules import Builder, lower
from nimbleq.compress.robust.stay import boxes_around
from nimbleq.compress.states import States, action_gap, legal_values, q_values
from nimbleq.errors import GraphError
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.rewrites.mask import without_mask
from nimbleq.graph.tensor import Int
from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class Difference:
    """Attributes:
    scale: what the student's values are multiplied by.
    bound: ``float64[K]`` no centred value of the student is further from the teacher's anywhere in the box.
    gap: ``[K]`` the teacher's action gap at the state.
    """

    scale: float
    bound: Array
    gap: Array

    @property
    def flip_free(self) -> float:
        """Share of states whose gap exceeds twice the bound: there the student provably acts as the teacher."""
        return float((self.gap > 2 * self.bound).mean())


def difference(teacher: Graph, student: Graph, states: States, deviation: Array, radius: float) -> Difference:
    """Bounds over the box of ``radius`` standard deviations around every state.

    Raises:
        UnsupportedOpError: an op of either has no bounds.
        GraphError: they read different observations or have different actions.
    """
    if teacher.obs_type != student.obs_type or teacher.actions != student.actions:
        raise GraphError("student and teacher must have the same observations and actions")
    teacher_q, student_q = (q_values(graph, states.obs).astype(np.float64) for graph in (teacher, student))
    centred = [values - values.mean(axis=1, keepdims=True) for values in (student_q, teacher_q)]
    scale = float((centred[0] * centred[1]).sum() / max(float((centred[0] ** 2).sum()), 1e-300))
    network = _both(teacher, student)
    count = teacher.actions
    centre = np.eye(count) - 1 / count
    rows = np.hstack([scale * centre, -centre])
    low, high = (end.astype(np.float64) for end in boxes_around(states.obs, deviation, radius, teacher))
    bound = -lower_bounds(network, low, high, np.vstack([rows, -rows])).min(axis=1)
    return Difference(scale, bound, action_gap(legal_values(teacher_q, states.mask)))


def _both(teacher: Graph, student: Graph) -> Network:
    """A network with the student's values as its first outputs and the teacher's after them."""
    size, shape = teacher.obs_type.size, teacher.obs_type.shape
    builder = Builder(size)
    obs = np.arange(size).reshape(shape)
    outputs = [
        lower(graph, {graph.obs_name: obs}, builder, Q).reshape(-1)
        for graph in (without_mask(student), without_mask(teacher))
    ]
    return builder.finish(np.concatenate(outputs), isinstance(teacher.obs_type.qtype, Int))
