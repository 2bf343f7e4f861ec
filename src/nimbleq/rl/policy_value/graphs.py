"""The networks of a run as layer graphs, from the weights of its learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nimbleq.config import TrainConfig
from nimbleq.graph.graph import Graph
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.policy_value.networks import VALUE, acting_network, acting_weights, weights_of
from nimbleq.rl.policy_value.rounding import with_int8
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array


class Graphs(NamedTuple):
    """Attributes:
    policy: what acts, in the format that it acts with.
    value: the value network beside it (None: there is no policy network, the Q-network acts itself).
    """

    policy: Graph
    value: Graph | None


def graphs_of(config: TrainConfig, spec: EnvSpec, weights: Mapping[str, Array]) -> Graphs:
    """The graphs of a run of ``config``; ``weights`` as its learner names them.

    Raises:
        GraphError: a weight is missing, too many, or does not fit the others.
    """
    policy = network_graph(spec, acting_network(config), acting_weights(config, weights))
    if not config.policy.network:
        return Graphs(policy, None)
    value = network_graph(spec, config.network, weights_of(VALUE, weights))
    return Graphs(with_int8(policy) if config.policy.format == "int8" else policy, value)
