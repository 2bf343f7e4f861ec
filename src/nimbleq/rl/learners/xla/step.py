"""One gradient step of DQN, or of PQN, as a pure function; the mathematics of `nimbleq.rl.nets.losses` in JAX."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nimbleq.config import LearnerConfig, TrainConfig
from nimbleq.rl.learners.xla.network import Tensor, Weights, q_values
from nimbleq.rl.learners.xla.optimizer import clipped, each, moments, stepped


class State(NamedTuple):
    """Everything that a step changes, by the names of `QNetwork.state_dict`.

    Attributes:
        weights: of the online network.
        target: of the target network; empty without one.
        first, second: Adam's moments.
        buffers: of both networks, statistics of observations for example; no step changes them.
        updates: ``int32[]``.
    """

    weights: Weights
    target: Weights
    first: Weights
    second: Weights
    buffers: Weights
    updates: Tensor


class Sample(NamedTuple):
    """A `nimbleq.types.Batch` on the device, without its index."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    weight: Tensor
    next_mask: Tensor | None = None
    mask: Tensor | None = None


class Report(NamedTuple):
    """Of a step, before it: ``|TD error| float32[B]``, the mean loss (as `measured` has it) and the mean Q-value."""

    abs_td: Tensor
    loss: Tensor
    q_mean: Tensor


def td_step(config: TrainConfig, state: State, sample: Sample) -> tuple[State, Report]:
    """One gradient step on ``sample``.

    For PQN the rewards are whole returns [2407.04811]; otherwise the target is `td_target`.
    """
    reward = sample.reward * config.learner.reward_scale
    goal = reward if config.algorithm == "pqn" else td_target(config, state, sample._replace(reward=reward))

    def loss(weights: Weights) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q = q_values(config.network, {**weights, **state.buffers}, sample.obs)
        td_error = chosen(q, sample.action) - goal
        losses = huber(td_error) if config.learner.loss == "huber" else jnp.square(td_error)
        return (sample.weight * losses).mean(), (jnp.abs(td_error), q.mean())

    gradients, (abs_td, q_mean) = jax.grad(loss, has_aux=True)(state.weights)
    first, second = moments(state.first, state.second, clipped(gradients, config.learner.max_grad_norm))
    weights = stepped(config.learner, state.weights, first, second, state.updates)
    updates = state.updates + 1
    target = moved_target(config.learner, state.target, weights, updates)
    report = Report(abs_td, (sample.weight * jnp.square(abs_td)).mean(), q_mean)
    return State(weights, target, first, second, state.buffers, updates), report


def td_target(config: TrainConfig, state: State, sample: Sample) -> Tensor:
    """``r + γᵏ·(1 − terminated)·V(s')`` [1312.5602 eq. 3], double [1509.06461 eq. 4] or soft [2007.14430]: ``[B]``."""
    learner = config.learner
    online, target = ({**(group or state.weights), **state.buffers} for group in (state.weights, state.target))
    next_q = q_values(config.network, target, sample.next_obs)  # [B, A]
    selector_q = q_values(config.network, online, sample.next_obs) if learner.double and state.target else next_q
    selector_q = legal(selector_q, sample.next_mask)
    reward = sample.reward
    if learner.munchausen:
        log_pi = jax.nn.log_softmax(selector_q / learner.munchausen_tau)
        gain = -learner.munchausen_tau * jnp.where(jnp.isneginf(log_pi), 0.0, log_pi)
        value = (jnp.exp(log_pi) * (next_q + gain)).sum(1)
        before = legal(q_values(config.network, target, sample.obs), sample.mask)
        log_taken = chosen(jax.nn.log_softmax(before / learner.munchausen_tau), sample.action)
        bonus = jnp.maximum(learner.munchausen_tau * log_taken, learner.munchausen_clip)
        reward = reward + learner.munchausen_alpha * bonus
    else:
        value = chosen(next_q, selector_q.argmax(1))
    return reward + sample.discount * value


def moved_target(config: LearnerConfig, target: Weights, weights: Weights, updates: Tensor) -> Weights:
    """The target network after update number ``updates``; empty stays empty."""
    if config.target == "polyak":
        return each(lambda old, new: old + config.tau * (new - old), target, weights)
    due = updates % config.target_every == 0
    return each(lambda old, new: jnp.where(due, new, old), target, weights)


def legal(q: Tensor, mask: Tensor | None) -> Tensor:
    """``q: [B, A]`` with −∞ where an action is not legal."""
    return q if mask is None else jnp.where(mask, q, -jnp.inf)


def chosen(values: Tensor, action: Tensor) -> Tensor:
    """The entries of ``action: int[B]``: ``[B, A] → [B]``."""
    return jnp.take_along_axis(values, action[:, None], axis=1)[:, 0]


def huber(td_error: Tensor) -> Tensor:
    """``δ²/2`` where ``|δ| ≤ 1``, else ``|δ| − 1/2``."""
    size = jnp.abs(td_error)
    return jnp.where(size <= 1, 0.5 * jnp.square(size), size - 0.5)
