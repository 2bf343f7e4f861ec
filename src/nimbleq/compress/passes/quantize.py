"""Post-training quantization: a float graph becomes integer arithmetic from the observation to the argmax."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.compress.passes.base import PassRow, without_setting
from nimbleq.compress.passes.context import Context
from nimbleq.compress.quantize.post_training import quantize_best
from nimbleq.compress.states import q_values
from nimbleq.graph.graph import Graph


@dataclass(frozen=True)
class Int8:
    """int8 weights and uint8 activations, calibrated on the states that the float student visits; of the calibration
    methods, the one with the least regret."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        states = context.visited(graph)
        return quantize_best(graph, states, q_values(context.teacher, states.obs))[0]

    def __str__(self) -> str:
        return "int8"


ROW = PassRow(without_setting(Int8()), "integer arithmetic with 8-bit weights and activations")
