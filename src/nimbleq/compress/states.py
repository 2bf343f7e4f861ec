"""States that policies visit, and how two policies compare on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.interpret import GraphPolicy, interpret
from nimbleq.graph.rewrites.mask import without_mask
from nimbleq.types import Array, Evaluate, Policy

_CHUNK = 4096
_BUCKETS = 4
USED_SHARE = 0.005
"""An action counts as used by the teacher from this share of its states on."""


def visit(
    policy: Policy, evaluate: Evaluate, seeds: Sequence[int] | Array, keep_obs: int, epsilon: float = 0.0
) -> Array:
    """``[K, *O]`` at most ``keep_obs`` observations that ``policy`` meets on ``seeds``."""
    obs = evaluate(policy, [int(seed) for seed in seeds], epsilon=epsilon, keep_obs=keep_obs).obs
    assert obs is not None, "the evaluator returned no observations though keep_obs was positive"
    return obs


def q_values(graph: Graph, obs: Array) -> Array:
    """``float32[K, A]`` action values, computed in chunks so that activations never pile up."""
    graph = without_mask(graph)  # values need no mask
    return np.concatenate([interpret(graph, obs[i : i + _CHUNK])[Q] for i in range(0, len(obs), _CHUNK)])


def actions(graph: Graph, obs: Array) -> Array:
    """``int64[K]`` greedy actions."""
    policy = GraphPolicy(without_mask(graph))
    return np.concatenate([policy(obs[i : i + _CHUNK]) for i in range(0, len(obs), _CHUNK)])


def action_gap(q: Array) -> Array:
    """``[K]`` best minus second-best value of ``q [K, A]`` (zeros when there is one action)."""
    if q.shape[1] < 2:
        return np.zeros(len(q), q.dtype)
    top = np.partition(q, -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2])


@dataclass(frozen=True)
class Comparison:
    """A student beside its teacher on one set of states.

    Attributes:
        regret: ``E[Q_T(s, a_T) − Q_T(s, a_S)]``, in the teacher's units of value.
        agreement: share of states with the same action.
        agreement_by_gap: the same within quartiles of the teacher's action gap, the closest calls first.
        dead_actions: actions that the teacher uses in these states and the student never does.
    """

    regret: float
    agreement: float
    agreement_by_gap: tuple[float, ...]
    dead_actions: tuple[int, ...]

    @property
    def action_flips(self) -> float:
        """Share of states in which the student acts differently."""
        return 1.0 - self.agreement


def compare(teacher_q: Array, student_action: Array) -> Comparison:
    """Compare on the same states.

    Args:
        teacher_q: ``[K, A]``.
        student_action: ``int[K]``.
    """
    rows = np.arange(len(teacher_q))
    teacher_action = teacher_q.argmax(axis=1)
    same = teacher_action == student_action
    order = np.argsort(action_gap(teacher_q), kind="stable")
    shares = np.bincount(teacher_action, minlength=teacher_q.shape[1]) / len(rows)
    taken = set(np.unique(student_action).tolist())
    return Comparison(
        regret=float(np.mean(teacher_q[rows, teacher_action] - teacher_q[rows, student_action])),
        agreement=float(same.mean()),
        agreement_by_gap=tuple(float(same[part].mean()) for part in np.array_split(order, _BUCKETS) if len(part)),
        dead_actions=tuple(a for a, share in enumerate(shares) if share >= USED_SHARE and a not in taken),
    )


def compare_graphs(teacher: Graph, student: Graph, obs: Array) -> Comparison:
    """`compare` of two graphs on ``obs [K, *O]``."""
    return compare(q_values(teacher, obs), actions(student, obs))


@dataclass(frozen=True)
class ConstantPolicy:
    """Always one action. Played with ε = 1 it is the uniformly random policy, at no cost of inference."""

    action: int = 0

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        return np.full(len(obs), self.action, np.int64)
