"""States that policies visit, and how two policies compare on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nimbleq.graph.branches import best, parts, places
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interpret import GraphPolicy, interpret, interpret_rows
from nimbleq.graph.rewrites.mask import without_mask
from nimbleq.seeds import moment_keys
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


def action_gap(q: Array, branches: Sequence[int] = ()) -> Array:
    """``[K]`` best minus second-best value of ``q [K, A]``; infinite where only one action is legal (its value above
    −∞), zeros when there is one action. Of an action of several dimensions (``branches``) the least of them."""
    if branches:
        return np.asarray(np.min([action_gap(q[:, part]) for part in parts(branches)], axis=0))
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


def compare(
    teacher_q: Array, student_action: Array, mask: Array | None = None, branches: Sequence[int] = ()
) -> Comparison:
    """Compare on the same states, among legal actions.

    Args:
        teacher_q: ``[K, A]``.
        student_action: ``int[K]`` legal.
        mask: ``bool[K, A]`` (None: every action is legal).
        branches: sizes of the action's dimensions (empty: it is a single choice); regret is their mean, states agree
            where all of them do, and a dead action is a choice of one.
    """
    teacher_q = legal_values(teacher_q, mask)
    wanted, chosen = places(best(teacher_q, branches), branches), places(student_action, branches)  # [K, D]
    same = (wanted == chosen).all(axis=1)
    order = np.argsort(action_gap(teacher_q, branches), kind="stable")
    shares = np.bincount(wanted.reshape(-1), minlength=teacher_q.shape[1]) / len(wanted)
    taken = set(np.unique(chosen).tolist())
    lost = np.take_along_axis(teacher_q, wanted, axis=1) - np.take_along_axis(teacher_q, chosen, axis=1)
    return Comparison(
        regret=float(np.mean(lost)),
        agreement=float(same.mean()),
        agreement_by_gap=tuple(float(same[part].mean()) for part in np.array_split(order, _BUCKETS) if len(part)),
        dead_actions=tuple(a for a, share in enumerate(shares) if share >= USED_SHARE and a not in taken),
    )


def compare_graphs(teacher: Graph, student: Graph, states: States) -> Comparison:
    """`compare` of two graphs on ``states``."""
    return compare(q_values(teacher, states.obs), actions(student, states), states.mask, teacher.branches)


def compare_in_play(
    teacher: Graph,
    student: Graph,
    evaluate: Evaluate,
    seeds: Sequence[int] | Array,
    keep_obs: int,
    epsilon: float = 0.0,
) -> Comparison:
    """`compare` of two graphs on states that ``student`` visits; of those that remember, on its episodes, in order.

    Args:
        seeds: of the episodes.
        keep_obs: states at most.
    """
    if not teacher.units:
        return compare_graphs(teacher, student, visit(GraphPolicy(student), evaluate, seeds, keep_obs, epsilon))
    values, taken, masks, left = [], [], [], keep_obs
    for seed in seeds:
        episode = _episode(student, evaluate, int(seed), epsilon)[slice(left)]
        values.append(interpret_rows(without_mask(teacher), episode.obs)[Q])
        taken.append(interpret_rows(student, episode.obs, episode.mask if student.masked else None)[ACTION])
        masks.append(episode.mask)
        left -= len(episode)
        if left <= 0:
            break
    legal = None if masks[0] is None else np.concatenate([mask for mask in masks if mask is not None])
    return compare(np.concatenate(values), np.concatenate(taken), legal, teacher.branches)


def _episode(policy: Graph, evaluate: Evaluate, seed: int, epsilon: float) -> States:
    """All states of an episode, in order."""
    met = visit(GraphPolicy(policy), evaluate, [seed], 1 << 30, epsilon)
    order = np.argsort(moment_keys(np.full(len(met), seed), np.arange(len(met))))
    return met[np.argsort(order)]


@dataclass(frozen=True)
class ConstantPolicy:
    """Always one action. Played with ε = 1 it is the uniformly random policy, at no cost of inference."""

    action: int = 0

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        return np.full(len(obs), self.action, np.int64)
