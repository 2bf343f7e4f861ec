"""The arrays of a C file have the bytes that the model counts: weights stay packed, whatever their format."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import PORTABLE
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.formats import FORMATS, Int
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.graph.weight import Storage

ELEMENT = {"float": 4, "int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4}


def array_bytes(text: str) -> dict[str, int]:
    """Name → bytes of every constant array in a C file."""
    found = re.findall(r"static const (\w+) policy_(\w+)\[(\d+)\]", text)
    return {name: ELEMENT[element] * int(count) for element, name, count in found}


@pytest.mark.parametrize("number", [row for row in FORMATS.values() if isinstance(row, Int) and row.bits <= 8], ids=str)
def test_arrays_have_the_bytes_of_the_model(number: Int) -> None:
    rng = np.random.default_rng(number.bits)
    weights = {
        "w": rng.integers(number.low, number.high + 1, (5, 11)).astype(np.int8),
        "b": rng.integers(-99, 99, 5).astype(np.int32),
        "scale": np.ones(1, np.float32),
        "zero": np.zeros(1, np.int32),
    }
    nodes = (
        Node(ops.Linear("w", "b"), ("obs",), "sums"),
        Node(ops.ArgMax(), ("sums",), ACTION),
        Node(ops.Dequantize("scale", "zero"), ("sums",), Q),
    )
    graph = Graph({"obs": TensorType((11,), UINT8)}, nodes, (Q, ACTION), weights, {"w": Storage(number)})
    sizes = array_bytes(emit_c(graph, isas=(PORTABLE,))["policy.c"])
    assert sizes["sums_weight"] == (55 * number.bits + 7) // 8 == graph.stored("w").nbytes
    assert sum(sizes.values()) == cost(graph).size_bytes
