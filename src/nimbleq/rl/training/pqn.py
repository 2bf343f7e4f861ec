"""Parallelised Q-network learning [2407.04811]: play all environments a little, learn from that, discard it.

No replay and no target net: LayerNorm keeps it stable and many environments decorrelate it. This is the mathematics;
the loop is in `nimbleq.rl.training.train`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.graph.branches import value
from nimbleq.rl.learners.learner import Learner
from nimbleq.types import Array, Batch, Step


def lambda_returns(
    reward: Array, terminated: Array, truncated: Array, next_value: Array, gamma: float, trace_decay: float
) -> Array:
    """Peng's Q(λ), cut where an episode ends [2407.04811 §4; 1996 Peng & Williams].

    ``G_t = r_t + γ·(λ·G_{t+1} + (1 − λ)·V(s_{t+1}))``; only ``r_t`` where the episode terminated, and
    ``r_t + γ·V(s_{t+1})`` where it was truncated or the rollout ends.

    Args:
        reward: ``float32[T, N]``.
        terminated, truncated: ``bool[T, N]``.
        next_value: ``float32[T, N]``, ``max_a Q(s_{t+1}, a)`` over the legal actions of the true successors.
        gamma: discount per step.
        trace_decay: λ.

    Returns:
        ``float32[T, N]``.
    """
    returns = np.empty_like(reward)
    later = next_value[-1]
    for t in reversed(range(len(reward))):
        later = np.where(truncated[t], next_value[t], trace_decay * later + (1 - trace_decay) * next_value[t])
        later = returns[t] = reward[t] + gamma * np.where(terminated[t], 0.0, later)
    return returns


def rollout_batches(
    config: TrainConfig, learner: Learner, steps: list[Step], rng: np.random.Generator, branches: Sequence[int] = ()
) -> Iterator[Batch]:
    """The batches of all epochs over a rollout, each epoch in a new order.

    The returns are computed once, from the network as it played. A batch does not bootstrap (its discount is zero): its
    rewards are the returns.

    Args:
        branches: sizes of the action's dimensions (empty: it is a single choice).
    """
    play = Step(*(np.stack(parts) for parts in zip(*(step[:6] for step in steps), strict=True)))  # [T, N, ...]
    next_obs = play.next_obs.reshape(-1, *play.next_obs.shape[2:])
    next_q = learner.q(next_obs)
    next_masks = [step.next_mask for step in steps if step.next_mask is not None]
    best_next = value(next_q, branches, np.concatenate(next_masks) if next_masks else None)
    # The learner scales rewards, so values are brought back to the unit of rewards.
    next_value = best_next.reshape(play.reward.shape) / np.float32(config.learner.reward_scale)
    returns = lambda_returns(
        play.reward, play.terminated, play.truncated, next_value, config.learner.gamma, config.pqn.trace_decay
    )
    obs, action, target = play.obs.reshape(next_obs.shape), play.action.reshape(-1), returns.reshape(-1)
    masks = [step.mask for step in steps if step.mask is not None]
    legal = np.concatenate(masks) if masks else None
    size = config.learner.batch_size
    zeros, ones = np.zeros(size, np.float32), np.ones(size, np.float32)
    for _ in range(config.pqn.epochs):
        for index in rng.permutation(len(target)).reshape(-1, size):
            chosen, mask = obs[index], None if legal is None else legal[index]
            yield Batch(chosen, action[index], target[index], zeros, chosen, ones, index, mask, mask)
