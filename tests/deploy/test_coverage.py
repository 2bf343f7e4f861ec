"""Every op × format × encoding × target: a policy around one op gives the interpreter's answers, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.verify import verify
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.encodings import ENCODINGS
from nimbleq.graph.formats import FORMATS
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.ops import OPS
from nimbleq.graph.tensor import INT32, UINT8, TensorType
from nimbleq.graph.weight import Storage
from nimbleq.types import Array
from tests.graph.test_formats import CASES
from tests.strategies import random_obs

CANNOT: set[tuple[str, str]] = set()
"""Target and op that it cannot express."""


def policy_around(op: ops.Op, sources: tuple[TensorType, ...], weights: dict[str, Array]) -> Graph:
    """One observation is taken apart into what ``op`` reads; what it makes becomes action values."""
    nodes: list[Node] = []
    more: dict[str, Array] = {}
    names = [f"x{index}" for index in range(len(sources))]
    if all(source.qtype.is_integer for source in sources):
        (source,) = sources
        obs = TensorType(source.shape, UINT8)
        if source.qtype == INT32:
            more["eye"] = 100 * np.eye(source.size, dtype=np.int8)
            nodes.append(Node(ops.Linear("eye"), ("obs",), "x0"))
        else:
            names = ["obs"]
    else:
        obs, start = TensorType((sum(source.size for source in sources),)), 0
        for name, source in zip(names, sources, strict=True):
            image = len(source.shape) == 3
            nodes.append(Node(ops.Slice(start, start + source.size), ("obs",), f"{name}_flat" if image else name))
            start += source.size
            if image:
                nodes.append(Node(ops.Unflatten(*source.shape), (f"{name}_flat",), name))
    if isinstance(op, ops.ArgMax):
        nodes += [Node(ops.Activation("relu"), tuple(names), Q), Node(op, (Q,), ACTION)]
        return Graph({"obs": obs}, tuple(nodes), (Q, ACTION), weights | more)
    nodes.append(Node(op, tuple(names), "y"))
    made, last = Graph({"obs": obs}, tuple(nodes), ("y",), weights | more).types["y"], "y"
    if len(made.shape) == 3:
        nodes.append(Node(ops.Flatten(), (last,), "flat"))
        last = "flat"
    if made.qtype.is_integer:
        more |= {"end.scale": np.full(1, 0.125, np.float32), "end.zero": np.zeros(1, np.int32)}
        nodes += [Node(ops.ArgMax(), (last,), ACTION), Node(ops.Dequantize("end.scale", "end.zero"), (last,), Q)]
    else:
        more |= {"end.scale": np.ones(1, np.float32), "end.shift": np.zeros(1, np.float32)}
        nodes += [Node(ops.Affine("end.scale", "end.shift"), (last,), Q), Node(ops.ArgMax(), (Q,), ACTION)]
    return Graph({"obs": obs}, tuple(nodes), (Q, ACTION), weights | more)


def policies(kind: str) -> list[Graph]:
    """The cases of an op, and each with every weight held in every other way that has its values."""
    found: list[Graph] = []
    for op, sources, weights in CASES[kind]:
        graph = policy_around(op, sources, weights)
        found.append(graph)
        for name in weights:
            for how in (Storage(number, encoding) for number in FORMATS.values() for encoding in ENCODINGS.values()):
                try:
                    other = graph.with_storage({name: how})
                except GraphError:
                    continue
                found += [other] if other.storage else []
    return found


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_op_on_every_target(target: str, kind: str, tmp_path: Path) -> None:
    row = TARGETS[target]
    if why := row.cannot_emit() or row.cannot_open():
        pytest.skip(why)
    for index, graph in enumerate(policies(kind)):
        if (target, kind) in CANNOT:
            with pytest.raises(UnsupportedOpError, match=rf"{target}.*{kind}.*: \w+"):
                row.emit(Source(graph), "policy", row.options())
            continue
        golden = make_golden(graph, random_obs(np.random.default_rng(index), graph, 60))
        folder = tmp_path / str(index)
        folder.mkdir()
        runs = row.open(Source(graph), row.emit(Source(graph), "policy", row.options()), "policy", folder)
        result = verify(graph, golden, runs, observations=60, rounding=() if row.exact else runs.keys())
        assert result.checked == 120 * len(runs) > 0
        assert result.mismatches == 0, result


@pytest.mark.parametrize("target", TARGETS)
def test_an_op_that_a_target_does_not_know_is_refused(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unknown(ops.Flatten):
        pass

    row, ((_, sources, weights),) = TARGETS[target], CASES["Flatten"]
    graph = policy_around(Unknown(), sources, weights)
    assert any(node.op.kind == "Unknown" for node in graph.nodes)
    if row.cannot_emit():
        pytest.skip("it cannot be written here")
    with pytest.raises(UnsupportedOpError, match=rf"{target} cannot express the op Unknown: \w+"):
        row.emit(Source(graph), "policy", row.options())
