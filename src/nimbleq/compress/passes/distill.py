"""Distillation: a student learns to act like its teacher on the states that it itself visits.

Rounds of DAgger [1011.0686]: play the student (with a little ε-noise), ask the teacher for its values there, train on
half student-visited, half teacher-visited states, repeat. The loss is METHODS' objective: KL between softened action
distributions plus a Huber term on centred advantages; regret, not the loss, says how good a student is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nimbleq.bridge.optimizers import make_optimizer
from nimbleq.bridge.torch_graph import from_module, to_module
from nimbleq.compress.states import States, action_gap, legal_values, q_values, visit
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.tensor import Float32
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate, Tick, no_tick


@dataclass(frozen=True)
class DistillConfig:
    """Attributes:
    rounds: of playing and training.
    updates: gradient steps per round.
    last_updates: gradient steps of the last round, on all that was collected.
    batch_size: states per step, half of them student-visited from the second round on.
    lr: peak of Adam's step size; cosine to zero over each round, the peak halves by the last round.
    episodes: played by the student for each round's states.
    states: kept from these.
    epsilon: share of random actions while playing.
    temperature: in median action gaps of the teacher.
    advantage_weight: λ of the Huber term, on advantages in units of the temperature.
    """

    rounds: int = 6
    updates: int = 1500
    last_updates: int = 8000
    batch_size: int = 512
    lr: float = 1e-2
    episodes: int = 48
    states: int = 12_000
    epsilon: float = 0.02
    temperature: float = 0.5
    advantage_weight: float = 0.1


@dataclass(frozen=True)
class Labelled:
    """States with the teacher's values: ``states`` of K, ``q float32[K, A]``."""

    states: States
    q: Array

    @property
    def obs(self) -> Array:
        """``[K, *O]``."""
        return self.states.obs

    def join(self, other: Labelled) -> Labelled:
        """Both, one after the other."""
        return Labelled(self.states.joined(other.states), np.concatenate([self.q, other.q]))


def label(teacher: Graph, states: States) -> Labelled:
    """``states`` with the teacher's values."""
    return Labelled(states, q_values(teacher, states.obs))


def teacher_states(teacher: Graph, evaluate: Evaluate, config: DistillConfig, nonce: int) -> Labelled:
    """States that the teacher visits, with its values there; the same for all students of a search."""
    seeds = episode_seeds("distill", nonce, 2 * config.episodes)
    return label(teacher, visit(GraphPolicy(teacher), evaluate, seeds, 2 * config.states, config.epsilon))


def temperature(q: Array, config: DistillConfig) -> float:
    """τ: ``config.temperature`` median action gaps, so that half of the states are a clear choice.

    Args:
        q: ``[K, A]``, −∞ for an action that is not legal.
    """
    gaps = action_gap(q)
    gaps = gaps[np.isfinite(gaps)]  # with a single legal action there is no choice
    return max(config.temperature * float(np.median(gaps)), 1e-6) if len(gaps) else 1.0


def distillation_loss(scaled: Tensor, probability: Tensor, advantage: Tensor, weight: float) -> Tensor:
    """``KL(softmax(Q_T/τ) ‖ softmax(Q_S/τ)) + λ·Huber((A_S − A_T)/τ)`` with ``A = Q − mean Q``, a scalar, up to the
    teacher's entropy (a constant).

    Policy distillation [1511.06295] with the temperature from the gaps.

    Args:
        scaled: student's values over τ, ``[B, A]``.
        probability: ``softmax(Q_T/τ) [B, A]``.
        advantage: ``A_T/τ [B, A]``.
        weight: λ.
    """
    cross_entropy = -(probability * functional.log_softmax(scaled, dim=1)).sum(dim=1).mean()
    return cross_entropy + weight * functional.smooth_l1_loss(scaled - scaled.mean(dim=1, keepdim=True), advantage)


def fit(student: Graph, halves: Sequence[Labelled], config: DistillConfig, updates: int, lr: float, seed: int) -> Graph:
    """``updates`` gradient steps, the step size falling from ``lr`` to zero; batches draw equally from ``halves``."""
    module = to_module(student)
    tau = temperature(legal_values(halves[0].q, halves[0].states.mask), config)
    rng = np.random.default_rng(seed)
    obs = _tensor(student, np.concatenate([half.obs for half in halves]))
    target = torch.from_numpy(np.concatenate([half.q for half in halves]) / np.float32(tau))
    probability = torch.softmax(target, dim=1)
    advantage = target - target.mean(dim=1, keepdim=True)
    picks = torch.from_numpy(_picks(rng, [len(half.obs) for half in halves], updates, config.batch_size))
    optimizer = make_optimizer(lambda: torch.optim.Adam(module.parameters(), lr=lr, fused=True))
    for update, pick in enumerate(picks):
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + cos(pi * update / updates))
        scaled = module(obs[pick]) / tau
        loss = distillation_loss(scaled, probability[pick], advantage[pick], config.advantage_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return from_module(student, module)


def _picks(rng: np.random.Generator, sizes: Sequence[int], updates: int, batch_size: int) -> Array:
    """``int64[updates, batch]`` indices into the parts laid end to end, equally many from each."""
    share = batch_size // len(sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    parts = [start + rng.integers(0, size, (updates, share)) for start, size in zip(starts, sizes, strict=True)]
    return np.concatenate(parts, axis=1)


def _tensor(student: Graph, obs: Array) -> Tensor:
    dtype = np.float32 if isinstance(student.obs_type.qtype, Float32) else np.uint8
    return torch.from_numpy(np.ascontiguousarray(obs, dtype))


@dataclass(frozen=True)
class Distilled:
    """Attributes:
    graph: the trained student.
    visited: states that it met on the way, with the teacher's values: for calibration and regret.
    snapshots: the student after each round, the last one included.
    """

    graph: Graph
    visited: Labelled
    snapshots: tuple[Graph, ...]


def distill(
    teacher: Graph,
    student: Graph,
    evaluate: Evaluate,
    from_teacher: Labelled,
    config: DistillConfig,
    nonce: int,
    tick: Tick = no_tick,
) -> Distilled:
    """Train ``student`` (float, trainable) towards ``teacher``.

    Args:
        from_teacher: the teacher-visited half, from `teacher_states`.
        nonce: seeds of episodes and of batches.
        tick: progress in rounds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nets this small are slower on more
    try:
        visited: Labelled | None = None
        snapshots: list[Graph] = []
        for turn in range(config.rounds):
            tick(turn, config.rounds, "distilling")
            halves = [from_teacher] if visited is None else [from_teacher, visited]
            lr = config.lr * (1 - 0.5 * turn / config.rounds)
            updates = config.last_updates if turn == config.rounds - 1 else config.updates
            student = fit(student, halves, config, updates, lr, nonce + turn)
            snapshots.append(student)
            seeds = episode_seeds("distill", nonce, config.episodes, start=(turn + 2) * config.episodes)
            met = visit(GraphPolicy(student), evaluate, seeds, config.states, config.epsilon)
            visited = label(teacher, met) if visited is None else visited.join(label(teacher, met))
        assert visited is not None
        return Distilled(student, visited, tuple(snapshots))
    finally:
        torch.set_num_threads(threads)
