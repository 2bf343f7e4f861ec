"""Decision trees: what they compute, cost and refuse, and that every target takes the same way through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.bridge.torch_graph import to_module
from nimbleq.compress.passes.prune import prune_to
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.types import Array
from tests.deploy.test_coverage import CANNOT, ROWS


def tree(rng: np.random.Generator, *, depth: int, features: int, actions: int, axis: bool, whole: bool) -> Graph:
    """A random policy: an integer tree gives rows of int8 that are dequantized, a real one its leaf's action."""
    splits = 2**depth - 1
    weights: dict[str, Array] = {
        "t": rng.integers(-200, 200, splits).astype(np.int32) if whole else rng.normal(size=splits).astype(np.float32),
        "leaf": rng.integers(0, actions, splits + 1).astype(np.int8),
    }
    if axis:
        weights["f"] = rng.integers(0, features, splits).astype(np.int8)
        op: ops.Op = ops.AxisTree("f", "t", "leaf", actions)
    else:
        w = rng.integers(-9, 10, (splits, features)) if whole else rng.normal(size=(splits, features))
        weights["w"] = w.astype(np.int8 if whole else np.float32)
        op = ops.ObliqueTree("w", "t", "leaf", actions)
    obs = TensorType((features,), UINT8) if whole else TensorType((features,))
    if not whole:
        return Graph({"obs": obs}, (Node(op, ("obs",), Q), Node(ops.ArgMax(), (Q,), ACTION)), (Q, ACTION), weights)
    weights["leaf"] = rng.integers(-128, 128, (splits + 1, actions)).astype(np.int8)
    weights |= {"scale": np.full(1, 0.5, np.float32), "zero": np.zeros(1, np.int32)}
    nodes = (
        Node(op, ("obs",), "rows"),
        Node(ops.Dequantize("scale", "zero"), ("rows",), Q),
        Node(ops.ArgMax(), ("rows",), ACTION),
    )
    return Graph({"obs": obs}, nodes, (Q, ACTION), weights)


def walked(graph: Graph, x: Array) -> int:
    """The leaf that one observation reaches, step by step."""
    op, weights, n = graph.nodes[0].op, graph.weights, 0
    splits = len(weights["t"])
    while n < splits:
        if isinstance(op, ops.AxisTree):
            total = float(x[weights["f"][n]])
        else:
            total = 0.0
            for value, weight in zip(x.tolist(), weights["w"][n].tolist(), strict=True):
                total += value * weight
        n = 2 * n + 1 + int(total > weights["t"][n])
    return n - splits


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans(), st.booleans())
def test_a_tree_gives_the_leaf_that_a_walk_reaches(seed: int, depth: int, axis: bool, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    graph = tree(rng, depth=depth, features=5, actions=3, axis=axis, whole=whole)
    obs = rng.integers(0, 256, (9, 5)).astype(np.uint8) if whole else rng.normal(size=(9, 5)).astype(np.float32)
    leaf = graph.weights["leaf"]
    rows = leaf * 0.5 if whole else np.eye(3)[leaf]
    got = interpret(graph, obs)
    expected = np.array([rows[walked(graph, x)] for x in obs])
    assert np.array_equal(got[Q], expected)
    assert np.array_equal(got[ACTION], expected.argmax(axis=1))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("axis", [False, True])
@pytest.mark.parametrize("target", ROWS)
def test_targets_take_the_same_way_bit_for_bit(target: str, axis: bool, whole: bool, tmp_path: Path) -> None:
    row = TARGETS[target]
    if why := row.cannot_emit() or row.cannot_open():
        pytest.skip(why)
    for depth in (1, 4):
        rng = np.random.default_rng(depth)
        graph = tree(rng, depth=depth, features=7, actions=4, axis=axis, whole=whole)
        obs = rng.integers(0, 256, (400, 7)).astype(np.uint8) if whole else rng.normal(size=(400, 7))
        if not whole:  # many of them exactly on a threshold
            obs[:200] = np.round(obs[:200] * 4) / 4
            graph = graph.with_weights({"t": np.round(graph.weights["t"] * 4) / np.float32(4)})
            if not axis:
                graph = graph.with_weights({"w": np.round(graph.weights["w"] * 4) / np.float32(4)})
        obs = obs if whole else obs.astype(np.float32)
        expected = interpret(graph, obs)
        if target in CANNOT and CANNOT[target](graph):
            with pytest.raises(UnsupportedOpError, match=r"^[^\n]+$"):
                row.emit(Source(graph), "policy", row.options())
            continue
        folder = tmp_path / str(depth)
        folder.mkdir()
        for run in row.open(Source(graph), row.emit(Source(graph), "policy", row.options()), "policy", folder).values():
            action, q = run(obs, None)
            assert action is None or np.array_equal(action, expected[ACTION])
            assert q is None or np.array_equal(q, expected[Q])


def test_a_decision_costs_one_way_down_and_every_part_is_counted() -> None:
    rng = np.random.default_rng(0)
    oblique = tree(rng, depth=3, features=8, actions=4, axis=False, whole=False)
    assert (cost(oblique).macs, cost(oblique).size_bytes) == (3 * 8, 4 * 7 * 8 + 4 * 7 + 8)
    axis = tree(rng, depth=3, features=8, actions=4, axis=True, whole=False)
    assert (cost(axis).macs, cost(axis).size_bytes) == (0, 7 + 4 * 7 + 8)
    whole = tree(rng, depth=2, features=8, actions=4, axis=False, whole=True)
    assert cost(whole).size_bytes == 3 * 8 + 4 * 3 + 4 * 4 + 8


def test_a_tree_survives_its_file_and_folding(tmp_path: Path) -> None:
    graph = tree(np.random.default_rng(0), depth=2, features=3, actions=2, axis=False, whole=False)
    obs = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    opened = load_artefact(save_artefact(tmp_path / "a", graph, obs, {}).path).graph
    assert opened.nodes == graph.nodes == fold(graph).nodes
    assert np.array_equal(interpret(opened, obs)[Q], interpret(graph, obs)[Q])


def test_what_has_no_form_is_refused_in_one_line() -> None:
    graph = tree(np.random.default_rng(0), depth=2, features=3, actions=2, axis=False, whole=False)
    with pytest.raises(UnsupportedOpError, match=r"a trainable module cannot express the op ObliqueTree.*no gradient"):
        to_module(graph)
    pruned = prune_to(graph, 0.5, np.zeros((4, 3), np.float32))
    assert pruned.nodes == graph.nodes
    for name, array, message in (
        ("w", np.zeros((4, 3), np.float32), r"4 splits are not 2\^D − 1"),
        ("w", np.zeros((3, 5), np.float32), "has shape"),
        ("w", np.zeros((3, 3), np.int8), "'t' is float32"),
        ("t", np.zeros(2, np.float32), "has shape"),
        ("leaf", np.array([0, 1, 2, 0], np.int8), "actions that are not among 2"),
        ("leaf", np.zeros((4, 3), np.float32), "has shape"),
    ):
        with pytest.raises(GraphError, match=message):
            graph.with_weights({name: array})
    whole = tree(np.random.default_rng(0), depth=1, features=3, actions=2, axis=True, whole=True)
    with pytest.raises(GraphError, match="features that uint8"):
        whole.with_weights({"f": np.array([3], np.int8)})
    wide = TensorType((70_000,), UINT8)
    weights = {"w": np.full((1, 70_000), 127, np.int8), "t": np.zeros(1, np.int32), "l": np.zeros(2, np.int8)}
    with pytest.raises(GraphError, match="overflow int32"):
        Graph({"obs": wide}, (Node(ops.ObliqueTree("w", "t", "l", 2), ("obs",), Q),), (Q,), weights)
