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


@dataclass(frozen=True, eq=False)
class States:
    """Attributes:
    obs: ``[K, *O]`` observations.
    mask: ``bool[K, A]`` the actions that are legal in them, at least one each (None: all, always).
    """

    obs: Array
    mask: Array | None = None

    def __len__(self) -> int:
        return len(self.obs)

    def __getitem__(self, rows: Array | slice) -> States:
        """Some of them."""
        return States(self.obs[rows], None if self.mask is None else self.mask[rows])

    def joined(self, other: States) -> States:
        """These, then ``other``."""
        mask = None if self.mask is None or other.mask is None else np.concatenate([self.mask, other.mask])
        return States(np.concatenate([self.obs, other.obs]), mask)


def visit(
    policy: Policy, evaluate: Evaluate, seeds: Sequence[int] | Array, keep_obs: int, epsilon: float = 0.0
) -> States:
    """At most ``keep_obs`` states that ``policy`` meets on ``seeds``."""
    met = evaluate(policy, [int(seed) for seed in seeds], epsilon=epsilon, keep_obs=keep_obs)
    assert met.obs is not None, "the evaluator returned no observations though keep_obs was positive"
    return States(met.obs, met.masks)


def q_values(graph: Graph, obs: Array) -> Array:
    """``float32[K, A]`` action values, computed in chunks so that activations never pile up."""
    graph = without_mask(graph)  # values need no mask
    return np.concatenate([interpret(graph, obs[i : i + _CHUNK])[Q] for i in range(0, len(obs), _CHUNK)])


def actions(graph: Graph, states: States) -> Array:
    """``int64[K]`` greedy legal actions."""
    policy = GraphPolicy(graph)
    parts = (states[i : i + _CHUNK] for i in range(0, len(states), _CHUNK))
    return np.concatenate([policy(part.obs, part.mask) for part in parts])


def legal_values(q: Array, mask: Array | None) -> Array:
    """``q [K, A]`` with −∞ for what is not legal."""
    return q if mask is None else np.where(mask, q, np.float32(-np.inf))


def action_gap(q: Array) -> Array:
    """``[K]`` best minus second-best value of ``q [K, A]``; infinite where only one action is legal (its value above
    −∞), zeros when there is one action."""
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


def compare(teacher_q: Array, student_action: Array, mask: Array | None = None) -> Comparison:
    """Compare on the same states, among legal actions.

    Args:
        teacher_q: ``[K, A]``.
        student_action: ``int[K]`` legal.
        mask: ``bool[K, A]`` (None: every action is legal).
    """
    rows = np.arange(len(teacher_q))
    teacher_q = legal_values(teacher_q, mask)
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


def compare_graphs(teacher: Graph, student: Graph, states: States) -> Comparison:
    """`compare` of two graphs on ``states``."""
    return compare(q_values(teacher, states.obs), actions(student, states), states.mask)


@dataclass(frozen=True)
class ConstantPolicy:
    """Always one action. Played with ε = 1 it is the uniformly random policy, at no cost of inference."""

    action: int = 0

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        return np.full(len(obs), self.action, np.int64)
