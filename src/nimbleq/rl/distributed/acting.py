"""How an actor evaluates a policy: in C where it is fully connected, else by its layer graph in numpy. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from nimbleq.config import NetworkConfig, TrainConfig
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.interpret import interpret
from nimbleq.rl.learners.native import NativeLearner, native_available
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.policy_value.networks import acting_network, acting_weights, policy_settings
from nimbleq.rl.policy_value.rounding import rounded
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array


class Acting(Protocol):
    """A network with weights that change."""

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """Weights as a learner names them."""
        ...

    def q(self, obs: Array) -> Array:
        """``float32[B, A]`` of ``obs [B, *O]``."""
        ...


class ByGraph:
    """Any network."""

    def __init__(self, network: NetworkConfig, spec: EnvSpec) -> None:
        self.network, self.spec = network, spec
        self.graph: Graph | None = None

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Acting`."""
        self.graph = network_graph(self.spec, self.network, weights)

    def q(self, obs: Array) -> Array:
        """See `Acting`."""
        assert self.graph is not None, "weights come first"
        return interpret(self.graph, obs)[Q]


def acting_of(config: TrainConfig, spec: EnvSpec) -> Acting:
    """What evaluates the network that acts in a run of ``config``."""
    alone = policy_settings(config) if config.policy.network else config
    if native_available(alone.network, spec.obs, alone.learner) is None:
        return NativeLearner(alone, spec, 0)
    return ByGraph(acting_network(config), spec)


def sent_weights(config: TrainConfig, weights: Mapping[str, Array]) -> dict[str, Array]:
    """What actors need of the weights of a learner: the network that acts, rounded where it acts with int8."""
    acting = acting_weights(config, weights)
    return rounded(acting) if config.policy.format == "int8" else acting


def flat(weights: Mapping[str, Array]) -> Array:
    """All of them end to end, ``float32[W]``."""
    return np.concatenate([np.asarray(value, np.float32).ravel() for value in weights.values()])


def unflat(like: Mapping[str, Array], numbers: Array) -> dict[str, Array]:
    """The way back from `flat`; ``like`` has the names and shapes."""
    found, start = dict[str, Array](), 0
    for name, value in like.items():
        found[name] = numbers[start : start + value.size].reshape(value.shape)
        start += value.size
    return found
