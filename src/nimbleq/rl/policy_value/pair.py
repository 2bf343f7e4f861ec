"""The learner of a run with a policy network: the value network learns by TD, the policy from the value network.

After each update of the value network the policy takes one step on the same states, towards what the value network
now prefers there. To the loops of training the pair is one `nimbleq.rl.learners.learner.Learner`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from nimbleq.config import PolicyConfig, TrainConfig
from nimbleq.graph.graph import Graph
from nimbleq.rl.learners.engine import Engine
from nimbleq.rl.learners.engines import checking_engine as checking_engine_alone
from nimbleq.rl.learners.engines import engine_for
from nimbleq.rl.learners.imitation import Imitation, Imitator, gap_temperature, soft_policy, values_of
from nimbleq.rl.masks import best_legal
from nimbleq.rl.policy_value.networks import POLICY, VALUE, policy_settings, weights_of
from nimbleq.rl.policy_value.rounding import rounded, with_int8
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch

_MOST = 20.0
"""exp(advantage/τ) counts for at most this, as in [1910.00177]."""


class Pair:
    """`nimbleq.rl.learners.learner.Learner` of two networks; names of weights begin with ``policy.`` or ``value.``.

    Args:
        value_engine: of the value network; the policy's is the first of `ENGINES` that can train it.
        config: of the run.
    """

    def __init__(self, value_engine: Engine[Any, Any], config: TrainConfig, spec: EnvSpec, seed: int) -> None:
        self.config: PolicyConfig = config.policy
        alone = policy_settings(config)
        make = engine_for(alone, spec).make
        self.value: Imitator = value_engine.make(replace(config, policy=PolicyConfig()), spec, seed)
        self.policy: Imitator = make(alone, spec, seed)
        # What acts with int8 weights is a network of its own, which gets those of the policy, rounded, when it acts.
        self._rounded: Imitator | None = make(alone, spec, seed) if self.config.format == "int8" else None
        self._rounded_at = -1

    @property
    def updates(self) -> int:
        """Gradient steps of the value network."""
        return self.value.updates

    @updates.setter
    def updates(self, count: int) -> None:
        self.value.updates = count

    def q(self, obs: Array) -> Array:
        """The value network's: ``obs[B, *O] → float32[B, A]``."""
        return self.value.q(obs)

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """See `Learner`: the policy's actions, and to ``explore`` those of the network that collects."""
        if explore and self.config.collects == VALUE:
            return self.value.act(obs, mask, explore=True)
        return self._actor().act(obs, mask)

    def _actor(self) -> Imitator:
        if self._rounded is None:
            return self.policy
        if self._rounded_at != self.policy.updates:
            self._rounded.set_weights(rounded(self.policy.weights()))
            self._rounded_at = self.policy.updates
        return self._rounded

    def update(self, batch: Batch) -> Array:
        """A TD step of the value network, then a step of the policy; returns the former's ``|TD error|``."""
        abs_td = self.value.update(batch)
        self.policy.imitate(batch.obs, self._wanted(batch))
        return abs_td

    def _wanted(self, batch: Batch) -> Imitation:
        """What the value network wants of the policy in the states of ``batch``."""
        q = self.value.q(batch.obs)
        tau = gap_temperature(q, self.config.temperature, batch.mask)
        soft = soft_policy(q, tau, batch.mask)
        if self.config.loss == "kl":
            return Imitation(soft, np.ones(len(q), np.float32), 1.0)
        advantage = values_of(q, batch.action) - (soft.clip(0) * q).sum(axis=1)
        weight = np.exp((advantage / tau).clip(max=np.log(_MOST))).astype(np.float32)
        chosen = np.where(soft < 0, soft, np.float32(0))
        chosen[np.arange(len(q)), batch.action] = 1
        return Imitation(chosen, weight, 1.0)

    def monitored(self, batch: Batch) -> dict[str, float]:
        """How the policy's actions compare with the value network's, by the latter's values."""
        q, action = self.value.q(batch.obs), self._actor().act(batch.obs, batch.mask)
        best = q.argmax(axis=1) if batch.mask is None else best_legal(q, batch.mask)
        regret = values_of(q, best) - values_of(q, action)
        return {"policy_regret": float(regret.mean()), "policy_agreement": float((best == action).mean())}

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """See `Learner`; both networks."""
        self.value.set_obs_stats(mean, std)
        self.policy.set_obs_stats(mean, std)
        self._rounded_at = -1

    def arrays(self) -> dict[str, Array]:
        """See `Learner`: those of both learners."""
        return _joined(self.policy.arrays(), self.value.arrays())

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `Learner`."""
        self.policy.load_arrays(weights_of(POLICY, arrays))
        self.value.load_arrays(weights_of(VALUE, arrays))
        self._rounded_at = -1

    def weights(self) -> dict[str, Array]:
        """See `Learner`: of both networks, the policy's unrounded."""
        return _joined(self.policy.weights(), self.value.weights())

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Learner`."""
        self.policy.set_weights(weights_of(POLICY, weights))
        self.value.set_weights(weights_of(VALUE, weights))
        self._rounded_at = -1

    def parameters(self) -> Array:
        """See `Learner`: the policy's, then the value network's; a copy."""
        return np.concatenate([self.policy.parameters(), self.value.parameters()])

    def unpack(self, parameters: Array) -> dict[str, Array]:
        """See `Learner`."""
        count = self.policy.parameters().size
        return _joined(self.policy.unpack(parameters[:count].copy()), self.value.unpack(parameters[count:].copy()))

    def pack(self, weights: Mapping[str, Array]) -> Array:
        """See `Learner`."""
        return np.concatenate(
            [self.policy.pack(weights_of(POLICY, weights)), self.value.pack(weights_of(VALUE, weights))]
        )

    def graph(self, weights: Mapping[str, Array] | None = None) -> Graph:
        """The policy network, in the format that it acts with."""
        policy = self.policy.graph(None if weights is None else weights_of(POLICY, weights))
        return with_int8(policy) if self.config.format == "int8" else policy


def _joined(policy: Mapping[str, Array], value: Mapping[str, Array]) -> dict[str, Array]:
    parts = {POLICY: policy, VALUE: value}
    return {f"{which}.{name}": array for which, arrays in parts.items() for name, array in arrays.items()}


def training_engine(config: TrainConfig, spec: EnvSpec) -> Engine[Any, Any]:
    """The engine that trains ``config``; with a policy network its learners are of the class `Pair`.

    Raises:
        ConfigError: see `engine_for`.
    """
    row = engine_for(config, spec)
    return _paired(row) if config.policy.network else row


def checking_engine(config: TrainConfig, spec: EnvSpec) -> Engine[Any, Any]:
    """The engine that plays the greedy checks of a run; with a policy network the policy plays."""
    row = checking_engine_alone(config, spec)
    return _paired(row) if config.policy.network else row


def _paired(row: Engine[Any, Any]) -> Engine[Any, Any]:
    return replace(row, make=partial(Pair, row))
