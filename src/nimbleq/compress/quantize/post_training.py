"""Post-training quantization: calibrate, plan, lower."""

from __future__ import annotations

from nimbleq.compress.quantize.lower import lower
from nimbleq.compress.quantize.plan import make_plan
from nimbleq.compress.quantize.ranges import METHODS
from nimbleq.compress.states import States, actions, compare
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


def quantize_best(graph: Graph, states: States, teacher_q: Array) -> tuple[Graph, str]:
    """`quantize` by every calibration method; the one with the least regret against ``teacher_q [K, A]`` there."""
    tried = [(quantize(graph, states.obs, method), method) for method in METHODS]
    return min(tried, key=lambda pair: compare(teacher_q, actions(pair[0], states), states.mask).regret)
