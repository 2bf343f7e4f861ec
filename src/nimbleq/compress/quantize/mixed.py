"""Mixed precision: bits for each layer, taken away where they cost the least regret."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nimbleq.compress.quantize.bias import correct_biases
from nimbleq.compress.quantize.lower import Lowered, lower_with_inputs
from nimbleq.compress.quantize.methods import METHODS
from nimbleq.compress.quantize.plan import measure_activations, plan_of
from nimbleq.compress.quantize.scheme import BYTES, Scheme
from nimbleq.compress.states import States, action_gap, actions, compare, legal_values
from nimbleq.graph import ops
from nimbleq.graph.formats import INT8, TERNARY, Format, Int
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

STEPS: tuple[Format, ...] = (INT8, *(Int(bits, signed=True) for bits in range(7, 1, -1)), TERNARY)
"""Formats of a layer, from many bits to few."""


def allocate(
    graph: Graph, states: States, teacher_q: Array, mean_bits: float, scheme: Scheme = BYTES
) -> tuple[Graph, Scheme]:
    """A policy in integer arithmetic whose weights take ``mean_bits`` or less on average, and its formats.

    All layers begin with 8 bits. As long as there are too many, the layer goes one format down (see `STEPS`) where
    that adds the least regret on ``states`` for each bit that it saves.

    Args:
        graph: float32 weights, output `Q`; fold it first.
        teacher_q: ``[K, A]`` the teacher's values there.
        scheme: of activations and scales; its formats of weights are not read.
    """
    measured = measure_activations(graph, states.obs, action_gap(legal_values(teacher_q, states.mask), graph.branches))
    layers = [node for node in graph.nodes if isinstance(node.op, ops.Linear | ops.Conv2d)]
    sizes = {node.output: graph.weights[node.op.weight].size for node in layers}  # type: ignore[attr-defined]

    def lowered(places: dict[str, int], method: str) -> Lowered:
        formats = tuple((layer, STEPS[place]) for layer, place in places.items())
        return lower_with_inputs(graph, plan_of(graph, measured, method, replace(scheme, layers=formats)))

    def regret_of(quantized: Graph) -> float:
        return compare(teacher_q, actions(quantized, states), states.mask, graph.branches).regret

    def made(places: dict[str, int], method: str) -> float:
        return regret_of(lowered(places, method).graph)

    places = dict.fromkeys(sizes, 0)
    method = min(METHODS, key=lambda name: made(places, name))
    regret = made(places, method)
    while _bits(places, sizes) > mean_bits * sum(sizes.values()):
        tries = []
        for layer, place in places.items():
            if place + 1 < len(STEPS):
                fewer = places | {layer: place + 1}
                worse, saved = made(fewer, method), _bits(places, sizes) - _bits(fewer, sizes)
                tries.append(((worse - regret) / saved, -saved, layer, fewer, worse))
        if not tries:
            break
        *_, places, regret = min(tries, key=lambda entry: entry[:2])
    found = lowered(places, method)
    best = min(found.graph, correct_biases(graph, found, states.obs), key=regret_of)
    return best, replace(scheme, layers=tuple((layer, STEPS[place]) for layer, place in places.items()))


def _bits(places: dict[str, int], sizes: dict[str, int]) -> float:
    """Bits that the weights take together."""
    return float(np.sum([8 * STEPS[place].nbytes(5 * sizes[layer]) / 5 for layer, place in places.items()]))
