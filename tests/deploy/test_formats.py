"""Policies in low and unusual formats give the interpreter's answers in C and in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.verify import verify
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.formats import FORMATS, Scaled
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.tensor import TensorType
from nimbleq.graph.weight import Storage
from nimbleq.types import Array


def agree(graph: Graph, obs: Array, folder: Path, rounding: bool = False) -> None:
    """On every target and in every build that works here."""
    golden = make_golden(graph, obs)
    for name in ("c", "onnx"):
        row = TARGETS[name]
        if row.cannot_emit() or row.cannot_open():
            continue
        (folder / name).mkdir()
        files = row.emit(Source(graph), "policy", row.options())
        runs = row.open(Source(graph), files, "policy", folder / name)
        result = verify(graph, golden, runs, observations=400, rounding=runs.keys() if rounding else ())
        assert result.checked > 0
        assert result.mismatches == 0, result


def random_values(rng: np.random.Generator, number: str, *shape: int) -> Array:
    """Values of a format, all of them likely."""
    row = FORMATS[number]
    return row.decode(row.encode(rng.uniform(row.low * 1.2, row.high * 1.2, shape)))


def linear_policy(number: str, bits: int, exponents: str = "power4", seed: int = 0) -> Graph:
    """Features times powers of two, one layer, and the greedy action of its sums: nothing else is stored."""
    rng = np.random.default_rng(seed)
    scale = FORMATS[exponents]
    weights = {
        "in.scale": scale.decode(rng.integers(4, 14, 8).astype(np.uint8)),
        "w": random_values(rng, number, 4, 8),
        "b": (rng.integers(-1, 2, 4) << 7).astype(np.int32),
    }
    nodes = (
        Node(ops.Quantize("in.scale", None, bits, True), ("obs",), "x"),
        Node(ops.Linear("w", "b"), ("x",), "sums"),
        Node(ops.Dequantize(None, None), ("sums",), Q),
        Node(ops.ArgMax(), ("sums",), ACTION),
    )
    storage = {"in.scale": Storage(scale), "w": Storage(FORMATS[number]), "b": Storage(Scaled(6, 7))}
    return Graph({"obs": TensorType((8,))}, nodes, (Q, ACTION), weights, storage)


@pytest.mark.parametrize(
    ("number", "bits"),
    [
        ("int6", 10),
        ("log2", 9),
        ("apot4", 12),
        pytest.param("int3", 16, marks=pytest.mark.long),
        pytest.param("ternary", 8, marks=pytest.mark.long),
    ],
)
def test_a_linear_policy_stores_weights_biases_and_exponents_only(number: str, bits: int, tmp_path: Path) -> None:
    graph = linear_policy(number, bits)
    assert cost(graph).size_bytes == FORMATS[number].nbytes(32) + 3 + 4
    obs = (np.random.default_rng(1).normal(size=(300, 8)) * 2.0 ** np.arange(-3, 5)).astype(np.float32)
    assert len(np.unique(interpret(graph, obs)[ACTION])) > 1
    agree(graph, obs, tmp_path)


def test_the_smallest_linear_policy_of_36_weights_takes_31_bytes() -> None:
    assert cost(linear_policy("int6", 10)).size_bytes == 31


@pytest.mark.parametrize("exponents", [pytest.param("power4", marks=pytest.mark.long), "power5"])
def test_quantizing_by_powers_of_two_is_exact_for_every_float(exponents: str, tmp_path: Path) -> None:
    """Halves, tiny and huge numbers, signed zeros and subnormal numbers among them."""
    graph = linear_policy("int8", 16, exponents)
    rng = np.random.default_rng(0)
    halves = (rng.integers(-80, 80, (200, 8)) + 0.5) / graph.weights["in.scale"]
    near = np.nextafter(halves.astype(np.float32), np.float32(rng.choice([-1, 1]) * np.inf))
    wild = rng.integers(0, 2**32, (400, 8), dtype=np.uint64).astype(np.uint32).view(np.float32)
    wild = np.where(np.isfinite(wild), wild, np.float32(-0.0))
    wild = np.clip(wild, -1e34, 1e34)  # so that what verify samples around them stays finite
    agree(graph, np.concatenate([halves, near, wild]).astype(np.float32), tmp_path)


@pytest.mark.parametrize(
    "number", ["ternary", "apot4", *(pytest.param(name, marks=pytest.mark.long) for name in ("int4", "log2"))]
)
def test_integer_weights_on_float_activations(number: str, tmp_path: Path) -> None:
    """Weight-only: codes, and a scale for each output behind them."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": random_values(rng, number, 12, 8),
        "w1": random_values(rng, number, 3, 12),
        **{f"{name}{at}": rng.normal(size=size).astype(np.float32) for at, size in ((0, 12), (1, 3)) for name in "st"},
    }
    nodes = (
        Node(ops.Linear("w0"), ("obs",), "a0"),
        Node(ops.Affine("s0", "t0"), ("a0",), "h0"),
        Node(ops.Activation("relu"), ("h0",), "r0"),
        Node(ops.Linear("w1"), ("r0",), "a1"),
        Node(ops.Affine("s1", "t1"), ("a1",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    storage = {name: Storage(FORMATS[number]) for name in ("w0", "w1")}
    graph = Graph({"obs": TensorType((8,))}, nodes, (Q, ACTION), weights, storage)
    agree(graph, rng.normal(size=(100, 8)).astype(np.float32), tmp_path, rounding=True)


@pytest.mark.parametrize("shift", [1, pytest.param(7, marks=pytest.mark.long), 24])
def test_requantizing_by_a_shift(shift: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(shift)
    weights = {
        "in": np.full(1, 32, np.float32),
        "w0": random_values(rng, "int4", 20, 8),
        "s0": rng.integers(max(shift - 3, 1), shift + 1, 20).astype(np.int32),
        "w1": random_values(rng, "int8", 5, 20),
    }
    nodes = (
        Node(ops.Quantize("in", None, 8, True), ("obs",), "x"),
        Node(ops.Linear("w0"), ("x",), "a0"),
        Node(ops.Requantize(None, "s0", 5, 5, 255), ("a0",), "r0"),
        Node(ops.Linear("w1"), ("r0",), "sums"),
        Node(ops.ArgMax(), ("sums",), ACTION),
        Node(ops.Dequantize(None, None), ("sums",), Q),
    )
    graph = Graph({"obs": TensorType((8,))}, nodes, (Q, ACTION), weights, {"w0": Storage(FORMATS["int4"])})
    agree(graph, rng.normal(size=(200, 8)).astype(np.float32) * 3, tmp_path)
