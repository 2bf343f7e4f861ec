"""The interpreter as an engine: slow, and always there."""

from __future__ import annotations

from collections.abc import Mapping

from nimbleq.deploy.decider import Decider, OneByOneDecider, RememberingDecider
from nimbleq.deploy.target import Engine, Timer
from nimbleq.graph.graph import ACTION, NEXT_STATE, STATE, Graph, Q
from nimbleq.graph.interface import Interface
from nimbleq.graph.interpret import interpret
from nimbleq.types import Array


def _load(graph: Graph, interface: Interface, fallback: int) -> tuple[Decider, str]:
    if graph.units:

        def remember(obs: Array, state: Array, mask: Array | None) -> tuple[Array, Array, Array]:
            made = interpret(graph, {graph.obs_name: obs, STATE: state}, mask)
            return made[ACTION], made[Q], made[NEXT_STATE]

        return RememberingDecider(graph, remember, interface, fallback), "the numpy interpreter"

    def answer(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        answers = interpret(graph, obs, mask)
        return answers[ACTION], answers[Q]

    return OneByOneDecider(graph, answer, interface, fallback), "the numpy interpreter"


def _timers(decider: Decider, obs: Array, mask: Array | None) -> Mapping[str, Timer]:
    """It is not timed: it is for when nothing else is there."""
    return {}


NUMPY = Engine("numpy", _load, _timers, remembers=True)
