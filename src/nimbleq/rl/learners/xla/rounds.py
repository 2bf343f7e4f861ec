"""PQN, or DQN, with its environments as one program: the accelerator plays and learns, the host only starts it.

The mathematics is that of `nimbleq.rl.training.pqn` and of the replay; what is random comes from JAX's generator.
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
from nimbleq.rl.learners.xla.ring import Ring, RingReplay
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
        ring: the replay; None for PQN.
    """

    learner: State
    running: Running
    stats: Stats | None
    average: Average | None
    returns: Tensor
    lengths: Tensor
    loss: Tensor
    q_mean: Tensor
    ring: Ring | None = None


class Rounds:
    """See `nimbleq.rl.learners.engine.Program`."""

    def __init__(
        self, config: TrainConfig, learner: XlaLearner, envs: JaxEnv, replay: RingReplay | None = None
    ) -> None:
        self.learner, self.envs, self.replay = learner, envs, replay
        if replay is None:
            self.steps = config.envs * config.pqn.rollout
            self.updates = config.pqn.epochs * self.steps // config.learner.batch_size
        else:
            self.steps, self.updates = config.envs * config.update_every, config.updates_per_step
        self._run = jax.jit(partial(play_and_learn, config, envs.advance, envs.spec.actions), donate_argnums=0)

    def run(self, rounds: int, beside: Beside) -> tuple[Measure, Beside]:
        """See `Program`."""
        learner, envs = self.learner, self.envs
        ring = None if self.replay is None else self.replay.ring
        after = self._run(first_carry(learner.state, envs.running, beside)._replace(ring=ring), rounds)
        learner.state, envs.running = after.learner, after.running
        learner.updates = int(after.learner.updates)  # none before `learn_start`
        if self.replay is not None:
            self.replay.ring = after.ring
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
    """``rounds: int[]`` rounds, one after the other."""
    one = one_round if carry.ring is None else replay_round
    after: Carry = lax.fori_loop(0, rounds, lambda _, carry: one(config, advance, actions, carry), carry)
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


def replay_round(config: TrainConfig, advance: Advance, actions: int, carry: Carry) -> Carry:
    """DQN: some steps of all environments into the replay, then some updates from it, once there is enough."""

    def remembered(carry: Carry, _: None) -> tuple[Carry, None]:
        carry, moment = played(config, advance, actions, carry)
        assert carry.ring is not None
        learner, stats = carry.learner, carry.stats
        if stats is not None:
            stats = stats.add(moment.obs)
            learner = learner._replace(buffers={**learner.buffers, **stats.buffers()})
        return carry._replace(ring=carry.ring.add(moment), learner=learner, stats=stats), None

    carry, _ = lax.scan(remembered, carry, length=config.update_every)
    assert carry.ring is not None
    rows = jnp.maximum(-(-config.learn_start // config.envs), config.replay.n_step)
    ready: Carry = lax.cond(carry.ring.rows >= rows, partial(_from_replay, config), lambda carry: carry, carry)
    return ready


def _from_replay(config: TrainConfig, carry: Carry) -> Carry:
    key, *draws = jax.random.split(carry.running.key, config.updates_per_step + 1)
    carry = carry._replace(running=carry.running._replace(key=key))

    def drawn(carry: Carry, key: Tensor) -> tuple[Carry, None]:
        assert carry.ring is not None
        replay = config.replay
        sample = carry.ring.sample(key, config.learner.batch_size, replay.n_step, config.learner.gamma)
        return updated(config, carry, sample), None

    after: Carry = lax.scan(drawn, carry, jnp.stack(draws))[0]
    return after


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
    return updated(config, carry, sample), None


def updated(config: TrainConfig, carry: Carry, sample: Sample) -> Carry:
    """One update on ``sample``."""
    learner, report = td_step(config, carry.learner, sample)
    average = carry.average
    if average is not None:
        horizon = config.evaluation.average_updates
        average = average.follow(learner.weights, learner.updates, horizon)
    return carry._replace(learner=learner, average=average, loss=report.loss, q_mean=report.q_mean)
