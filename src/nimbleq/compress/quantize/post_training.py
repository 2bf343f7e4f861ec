"""Post-training quantization: calibrate, plan, lower."""

from __future__ import annotations

from collections.abc import Iterable

from nimbleq.compress.quantize.bias import correct_biases
from nimbleq.compress.quantize.lower import lower, lower_with_inputs
from nimbleq.compress.quantize.methods import METHODS
from nimbleq.compress.quantize.plan import make_plan, measure_activations, plan_of
from nimbleq.compress.quantize.scheme import BYTES, Scheme
from nimbleq.compress.states import States, action_gap, actions, compare, legal_values
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def quantize(graph: Graph, obs: Array, method: str = "minmax", weights: str = "int8") -> Graph:
    """The integer form of a float policy.

    Args:
        graph: float32 weights, output `Q`; fold it first.
        obs: ``[K, *O]`` visited states to calibrate on.
        method: how ranges are picked, a name in `METHODS`.
        weights: format of all weights, see `weight_format`.

    Raises:
        GraphError: the graph is quantized already.
        ConfigError: there is no such format.
    """
    return lower(graph, make_plan(graph, obs, method, weights))


def quantize_best(
    graph: Graph,
    states: States,
    teacher_q: Array,
    scheme: Scheme = BYTES,
    methods: Iterable[str] = tuple(METHODS),
) -> tuple[Graph, str]:
    """The integer form by every one of ``methods``, with and without `correct_biases`; the one with the least regret
    against ``teacher_q [K, A]``."""
    measured = measure_activations(graph, states.obs, action_gap(legal_values(teacher_q, states.mask), graph.branches))
    tried: list[tuple[Graph, str]] = []
    for method in methods:
        lowered = lower_with_inputs(graph, plan_of(graph, measured, method, scheme))
        tried += [(lowered.graph, method), (correct_biases(graph, lowered, states.obs), method)]
    return min(tried, key=lambda pair: compare(teacher_q, actions(pair[0], states), states.mask, graph.branches).regret)
