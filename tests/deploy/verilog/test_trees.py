"""Trees as circuits: all splits at once, a table of leaves; the interpreter's answers in a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.verilog.core import core_of
from nimbleq.deploy.targets.verilog.pipeline import pipeline
from nimbleq.deploy.targets.verilog.target import VERILOG, VerilogOptions
from nimbleq.deploy.verify import verify
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import TensorType
from tests.strategies import random_obs

Leaves = Literal["actions", "rows"]


def tree_policy(kind: type[ops.Op], depth: int, leaves: Leaves, seed: int = 0) -> Graph:
    """Levels, an integer tree, and an ArgMax of what its leaves give (behind a scale where these are rows)."""
    rng, splits, actions, features = np.random.default_rng(seed), 2**depth - 1, 3, 4
    weights = {
        "inverse": np.full(features, 16, np.float32),
        "threshold": rng.integers(-60, 60, splits).astype(np.int32),
        "leaf": rng.integers(0, actions, splits + 1).astype(np.int8),
    }
    if leaves == "rows":
        weights["leaf"] = rng.integers(-5, 5, (splits + 1, actions)).astype(np.int8)
        weights["scale"] = np.full(1, 0.25, np.float32)
    if kind is ops.ObliqueTree:
        weights["split"] = rng.integers(-127, 128, (splits, features)).astype(np.int8)
        weights["threshold"] = (weights["threshold"] * 60).astype(np.int32)
        op: ops.Op = ops.ObliqueTree("split", "threshold", "leaf", actions)
    else:
        weights["feature"] = rng.integers(0, features, splits).astype(np.int32)
        op = ops.AxisTree("feature", "threshold", "leaf", actions)
    start = Node(ops.Quantize("inverse", None, 8, True), ("obs",), "x")
    ends = [Node(op, ("x",), "rows"), Node(ops.Dequantize("scale", None), ("rows",), "q")]
    nodes = (start, *(ends if leaves == "rows" else [Node(op, ("x",), "q")]), Node(ops.ArgMax(), ("q",), "action"))
    return Graph({"obs": TensorType((features,))}, nodes, ("q", "action"), weights)


@pytest.mark.parametrize(
    ("kind", "depth", "leaves", "masked"),
    [
        pytest.param(ops.ObliqueTree, 2, "actions", False, marks=pytest.mark.long),
        pytest.param(ops.ObliqueTree, 2, "rows", True, marks=pytest.mark.long),
        pytest.param(ops.ObliqueTree, 5, "rows", False, marks=pytest.mark.targets),
        pytest.param(ops.AxisTree, 4, "actions", True, marks=pytest.mark.long),
        pytest.param(ops.AxisTree, 1, "rows", False, marks=pytest.mark.targets),
    ],
)
def test_simulated_trees_answer_as_the_interpreter(
    kind: type[ops.Op], depth: int, leaves: Leaves, masked: bool, tmp_path: Path
) -> None:
    if why := VERILOG.cannot_open():
        pytest.skip(why)
    graph = tree_policy(kind, depth, leaves)
    graph = with_mask(graph) if masked else graph
    golden = make_golden(graph, random_obs(np.random.default_rng(1), graph, 100))
    files = VERILOG.emit(Source(graph), "policy", VerilogOptions())
    result = verify(graph, golden, VERILOG.open(Source(graph), files, "policy", tmp_path), observations=3000)
    assert (result.checked, result.mismatches) == (3100, 0)


def test_the_action_of_a_tree_takes_no_comparison_of_values() -> None:
    """Its table holds actions: three splits of which each is the sign of a sum, and one lookup."""
    made = pipeline(core_of(tree_policy(ops.ObliqueTree, 2, "rows")), 8)
    needed = made.circuit.needed([made.action], made.cycles)
    texts = [made.circuit.signals[name].text for name in needed]
    assert sum(">=" in text for text in texts) == 3
    assert made.cycles == 1


def test_splits_that_are_all_on_one_side_are_no_logic() -> None:
    graph = tree_policy(ops.AxisTree, 2, "actions")
    always = graph.weights | {"threshold": np.array([-1000, 1000, 1000], np.int32)}
    made = pipeline(core_of(Graph(graph.inputs, graph.nodes, graph.outputs, always)), 3)
    answer = made.circuit.signals[made.action]
    assert answer.constant
    assert answer.low == graph.weights["leaf"][2]


def test_float_splits_are_refused() -> None:
    graph = tree_policy(ops.ObliqueTree, 2, "rows")
    floats = {name: graph.weights[name].astype(np.float32) for name in ("split", "threshold")}
    graph = Graph(graph.inputs, graph.nodes, graph.outputs, graph.weights | floats)
    with pytest.raises(UnsupportedOpError, match=r"ObliqueTree: its splits are floats"):
        VERILOG.emit(Source(graph), "policy", VerilogOptions())
