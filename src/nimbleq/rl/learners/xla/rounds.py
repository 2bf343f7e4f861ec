"""PQN with its environments as one program: the accelerator plays and learns, the host only starts it.

The mathematics is that of `nimbleq.rl.training.pqn`; what is random comes from JAX's generator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from nimbleq.config import TrainConfig
from nimbleq.rl.envs.jax_env import JaxEnv, Moment, Running, Tensor
from nimbleq.rl.learners.engine import Beside, Measure
from nimbleq.rl.learners.xla.averages import Average, Stats, average_arrays, average_of, stats_arrays, stats_of
from nimbleq.rl.learners.xla.learner import XlaLearner
from nimbleq.rl.learners.xla.network import Weights, q_values
from nimbleq.rl.learners.xla.step import Sample, State, td_step

Advance = Callable[[Running, Tensor], tuple[Running, Moment]]


class Carry(NamedTuple):
    """Everything that a round changes.

    Attributes:
        learner: network and optimizer.
        running: environments, and the key of everything random.
        stats: of observations; None without normalisation.
        average: of the weights; None where the network itself is checked.
        returns, lengths: ``[N]`` of each environment's last episode; length 0: none has ended.
        loss, q_mean: of the last update.
    """

    learner: State
    running: Running
    stats: Stats | None
    average: Average | None
    returns: Tensor
    lengths: Tensor
    loss: Tensor
    q_mean: Tensor


class Rounds:
    """See `nimbleq.rl.learners.engine.Program`."""

    def __init__(self, config: TrainConfig, learner: XlaLearner, envs: JaxEnv) -> None:
        self.learner, self.envs = learner, envs
        self.steps = config.envs * config.pqn.rollout
        self.updates = config.pqn.epochs * self.steps // config.learner.batch_size
        self._run = jax.jit(partial(play_and_learn, config, envs.advance, envs.spec.actions), donate_argnums=0)

    def run(self, rounds: int, beside: Beside) -> tuple[Measure, Beside]:
        """See `Program`."""
        learner, envs = self.learner, self.envs
        after = self._run(first_carry(learner.state, envs.running, beside), rounds)
        learner.state, envs.running = after.learner, after.running
        learner.updates += rounds * self.updates
        ended = np.asarray(after.lengths)
        returns, over = np.asarray(after.returns), ended > 0
        envs.finished = list(zip(returns[over].tolist(), ended[over].tolist(), strict=True))
        measures = {"loss": float(after.loss), "q_mean": float(after.q_mean)}
        stats = None if after.stats is None else stats_arrays(after.stats)
        average = None if after.average is None else average_arrays(after.average)
        return lambda: measures, Beside(stats, average)


def first_carry(learner: State, running: Running, beside: Beside) -> Carry:
    """Before the first of some rounds."""
    envs, zero = len(running.lengths), jnp.zeros(())
    stats = None if beside.stats is None else stats_of(beside.stats)
    average = None if beside.average is None else average_of(beside.average, learner.weights)
    none = jnp.zeros(envs), jnp.zeros(envs, jnp.int32)
    return Carry(learner, running, stats, average, *none, zero, jnp.zeros(()))


def play_and_learn(config: TrainConfig, advance: Advance, actions: int, carry: Carry, rounds: Tensor) -> Carry:
    """``rounds: int[]`` rounds of PQN, one after the other."""
    after: Carry = lax.fori_loop(0, rounds, lambda _, carry: one_round(config, advance, actions, carry), carry)
    return after


def one_round(config: TrainConfig, advance: Advance, actions: int, carry: Carry) -> Carry:
    """Play a rollout, learn from it, forget it."""
    carry, moments = lax.scan(
        lambda carry, _: played(config, advance, actions, carry), carry, length=config.pqn.rollout
    )
    obs = moments.obs.reshape(-1, *moments.obs.shape[2:])  # [T·N, *O]
    learner, stats = carry.learner, carry.stats
    if stats is not None:
        stats = stats.add(obs)
        learner = learner._replace(buffers={**learner.buffers, **stats.buffers()})
    goal = q_lambda(config, {**learner.weights, **learner.buffers}, moments)
    samples = obs, moments.action.reshape(-1), goal.reshape(-1)
    key, *epochs = jax.random.split(carry.running.key, config.pqn.epochs + 1)
    carry = carry._replace(learner=learner, stats=stats, running=carry.running._replace(key=key))
    batch, count = config.learner.batch_size, len(obs)
    order = jnp.stack([jax.random.permutation(epoch, count) for epoch in epochs]).reshape(-1, batch)
    carry, _ = lax.scan(lambda carry, index: learnt(config, samples, carry, index), carry, order)
    return carry


def played(config: TrainConfig, advance: Advance, actions: int, carry: Carry) -> tuple[Carry, Moment]:
    """One ε-greedy step of all environments; rewards are clipped as the learner gets them."""
    learner, running = carry.learner, carry.running
    key, chance, choice = jax.random.split(running.key, 3)
    greedy = q_values(config.network, {**learner.weights, **learner.buffers}, running.obs).argmax(1)
    random = jax.random.randint(choice, greedy.shape, 0, actions)
    explores = jax.random.uniform(chance, greedy.shape) < epsilon(config, learner.updates)
    action = jnp.where(explores, random, greedy).astype(jnp.int32)
    running, moment = advance(running._replace(key=key), action)
    over = moment.terminated | moment.truncated
    returns = jnp.where(over, moment.returns, carry.returns)
    lengths = jnp.where(over, moment.lengths, carry.lengths)
    if config.learner.reward_clip > 0:
        moment = moment._replace(reward=moment.reward.clip(-config.learner.reward_clip, config.learner.reward_clip))
    return carry._replace(running=running, returns=returns, lengths=lengths), moment


def epsilon(config: TrainConfig, updates: Tensor) -> Tensor:
    """ε after so many updates."""
    explore = config.explore
    share = jnp.minimum(1.0, updates / explore.updates) if explore.updates > 0 else 1.0
    return explore.start + (explore.end - explore.start) * share


def q_lambda(config: TrainConfig, weights: Weights, moments: Moment) -> Tensor:
    """See `nimbleq.rl.training.pqn.lambda_returns`: ``[T, N]``."""
    next_obs = moments.next_obs.reshape(-1, *moments.next_obs.shape[2:])
    q = q_values(config.network, weights, next_obs)
    value = q.max(1).reshape(moments.reward.shape) / config.learner.reward_scale
    decay, gamma = config.pqn.trace_decay, config.learner.gamma

    def earlier(later: Tensor, step: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        reward, terminated, truncated, value = step
        later = jnp.where(truncated, value, decay * later + (1 - decay) * value)
        later = reward + gamma * jnp.where(terminated, 0.0, later)
        return later, later

    steps = moments.reward, moments.terminated, moments.truncated, value
    return lax.scan(earlier, value[-1], steps, reverse=True)[1]


def learnt(config: TrainConfig, samples: tuple[Tensor, ...], carry: Carry, index: Tensor) -> tuple[Carry, None]:
    """One update, on the rows ``index: int[B]`` of a rollout's observations, actions and returns."""
    obs, action, goal = (each[index] for each in samples)
    sample = Sample(obs, action, goal, jnp.zeros(len(index)), obs, jnp.ones(len(index)))
    learner, report = td_step(config, carry.learner, sample)
    average = carry.average
    if average is not None:
        horizon = config.evaluation.average_updates
        average = average.follow(learner.weights, learner.updates, horizon)
    return carry._replace(learner=learner, average=average, loss=report.loss, q_mean=report.q_mean), None
