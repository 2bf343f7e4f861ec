"""Bytes that AVX2 code stores as int16: the interpreter's integers, whatever the shifts, orders and clamps are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.targets.c.isa import AVX2, isas_of_this_machine
from nimbleq.deploy.targets.c.ops.avx2.words import _neighbours, words
from nimbleq.deploy.toolchain import compile_library
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from tests.deploy.c.test_c import CLANG, GCC, assert_agrees
from tests.deploy.nets import in_one_unit, int_mlp

BUILDS = [
    pytest.param(GCC, ("-O1", "-march=native"), id="gcc"),
    pytest.param(
        CLANG, ("-O1", "-march=native"), id="clang", marks=pytest.mark.skipif(CLANG is None, reason="no clang")
    ),
]
pytestmark = pytest.mark.skipif(
    GCC is None or AVX2 not in isas_of_this_machine()[:2], reason="needs gcc and a processor with AVX2"
)


def requantized(graph: Graph, zero_point: int, low: int, high: int, signed: bool) -> Graph:
    """The same with other hidden numbers."""
    nodes = [
        replace(node, op=replace(node.op, zero_point=zero_point, low=low, high=high, signed=signed))
        if isinstance(node.op, ops.Requantize)
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize(("compiler", "flags"), BUILDS)
def test_the_interpreters_integers(compiler: str, flags: Sequence[str], tmp_path: Path) -> None:
    shifts = np.random.default_rng(0).integers(33, 51, 48).astype(np.int32)
    graphs = [
        int_mlp(4, 33, 64, 37, 2, shift=33),
        int_mlp(6, 48, 40, 3).with_weights({"s0": shifts}),
        requantized(int_mlp(5, 64, 33, 12, 3), -7, -128, 127, True),
        requantized(int_mlp(3, 40, 63, 2), 11, 5, 200, False),
    ]
    files = in_one_unit(graphs, isas=(AVX2,))
    text = files["nets.c"]
    for part in ("_linear_walk_i8(t", "_linear_dot_i16(t", "_WORDS, "):
        assert text.count(part) > 1, part
    library = compile_library(files, tmp_path / "nets.so", compiler, flags)
    for index, graph in enumerate(graphs):
        assert_agrees(graph, library, f"net{index}")


def test_units_that_are_zero_together_are_pairs() -> None:
    zero = np.random.default_rng(0).random((50, 7)) < 0.5
    zero[:, 4], zero[:, 6] = zero[:, 1], ~zero[:, 1]
    order = _neighbours(zero).tolist()
    assert sorted(order) == list(range(7))
    assert {1, 4} in [set(order[place : place + 2]) for place in range(0, 6, 2)]


def test_which_tensors_are_stored_so() -> None:
    graph = int_mlp(4, 64, 64, 2)
    assert set(words(graph)) == {"x", "r0", "r1"}
    assert sorted(words(graph)["r0"].tolist()) == list(range(64))
    provable = graph.with_weights({"w1": (graph.weights["w1"] // 4).astype(np.int8)})
    assert set(words(provable)) == {"x", "r1"}
    assert set(words(int_mlp(4, 64, 64, 2, shift=31))) == {"x"}
    assert set(words(int_mlp(4, 65, 64, 2))) == {"x", "r1"}
