"""Every op × format × encoding × target: a policy around one op gives the interpreter's answers, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import UnionType

import numpy as np
import pytest

from nimbleq.deploy.agreement import is_integer
from nimbleq.deploy.decider import open_program
from nimbleq.deploy.prebuilt.lower import lower
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.cross.processors import PROCESSORS
from nimbleq.deploy.targets.cross.row import ram_bytes
from nimbleq.deploy.verify import verify
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.encodings import DENSE, ENCODINGS
from nimbleq.graph.formats import FORMATS
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.ops import OPS
from nimbleq.graph.tensor import INT32, UINT8, TensorType
from nimbleq.graph.weight import Storage, default_storage
from nimbleq.types import Array
from tests.graph.test_formats import CASES, held
from tests.strategies import random_obs

CIRCUIT = {
    "Quantize", "Linear", "Requantize", "ArgMax", "Flatten", "Slice", "Unflatten", "Concat", "Dequantize",
    "ObliqueTree", "AxisTree",
}  # fmt: skip


def no_circuit(graph: Graph) -> bool:
    """Whether it computes with floats between Quantize and Dequantize, or with other layers."""
    kinds = {node.op.kind for node in graph.nodes}
    floats = [n for n in graph.nodes if not graph.types[n.output].qtype.is_integer and n.output != Q]
    return (
        bool(kinds - CIRCUIT or floats)
        or float_splits(graph)
        or not graph.types[graph.nodes[-1].inputs[0]].qtype.is_integer
    )


def float_splits(graph: Graph) -> bool:
    """Whether it needs a double of 64 bits."""
    trees = [node.op for node in graph.nodes if isinstance(node.op, ops.ObliqueTree)]
    return any(graph.weights[op.split].dtype == np.float32 for op in trees)


def has(graph: Graph, kinds: type | UnionType) -> bool:
    """Whether it has one of these ops."""
    return any(isinstance(node.op, kinds) for node in graph.nodes)


def too_large(graph: Graph) -> bool:
    """Whether it does not fit into the RAM of an AVR."""
    avr = next(each for each in PROCESSORS if each.name == "avr")
    return ram_bytes(avr, graph) > (avr.ram_bytes or 0)


CANNOT: dict[str, Callable[[Graph], bool]] = {
    "verilog": no_circuit,
    "onnx-qdq": lambda graph: not is_integer(graph),
    "avr": lambda graph: float_splits(graph) or too_large(graph),
    "executorch": lambda graph: has(graph, ops.BranchArgMax | ops.GRU),
    "litert": lambda graph: has(graph, ops.BranchArgMax | ops.GRU | ops.Tanh),
}
"""Target → whether it cannot express a policy."""


def policy_around(
    op: ops.Op,
    sources: tuple[TensorType, ...],
    weights: dict[str, Array],
    variants: Sequence[tuple[ops.Op, dict[str, Array]]] = (),
) -> Graph:
    """One observation is taken apart into what ``op`` reads; what it makes becomes action values.

    Args:
        variants: ops of the same kind and their weights, side by side, in place of ``op`` alone.
    """
    variants = variants or [(op, weights)]
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
    if isinstance(op, ops.Choice):
        nodes += [Node(ops.Activation("relu"), tuple(names), Q), Node(op, (Q,), ACTION)]
        return Graph({"obs": obs}, tuple(nodes), (Q, ACTION), weights | more)
    for index, (other, _) in enumerate(variants):
        nodes += [Node(other, tuple(names), f"y{index}"), Node(ops.Flatten(), (f"y{index}",), f"flat{index}")]
    weights = {name: array for _, held in variants for name, array in held.items()}
    last = "flat0"
    if len(variants) > 1:
        last = "together"
        nodes.append(Node(ops.Concat(), tuple(f"flat{index}" for index in range(len(variants))), last))
    if Graph({"obs": obs}, tuple(nodes), (last,), weights | more).types[last].qtype.is_integer:
        more |= {"end.scale": np.full(1, 0.125, np.float32), "end.zero": np.zeros(1, np.int32)}
        nodes += [Node(ops.ArgMax(), (last,), ACTION), Node(ops.Dequantize("end.scale", "end.zero"), (last,), Q)]
    else:
        more |= {"end.scale": np.ones(1, np.float32), "end.shift": np.zeros(1, np.float32)}
        nodes += [Node(ops.Affine("end.scale", "end.shift"), (last,), Q), Node(ops.ArgMax(), (Q,), ACTION)]
    return Graph({"obs": obs}, tuple(nodes), (Q, ACTION), weights | more)


def policies(kind: str) -> list[Graph]:
    """The cases of an op, each side by side with copies that hold one weight in another way each."""
    return [_held_otherwise(*case) for case in CASES[kind]]


def _held_otherwise(op: ops.Op, sources: tuple[TensorType, ...], weights: dict[str, Array]) -> Graph:
    """Side by side: every weight in every format, rounded to it, and a sparse matrix also in every encoding.

    Formats times encodings are the business of `tests/deploy/c/test_sparse.py`.
    """
    inputs = {f"x{index}": source for index, source in enumerate(sources)}
    plain = Graph(inputs, (Node(op, tuple(inputs), "y"),), ("y",), weights)
    variants, storage = [(op, weights)], dict[str, Storage]()
    for name in weights:
        ways = [Storage(number) for number in FORMATS.values()]
        if weights[name].ndim > 1 and np.mean(weights[name] == 0) > 0.5:
            ways += [Storage(default_storage(weights[name]).format, encoding) for encoding in ENCODINGS.values()]
        for how in ways:
            changed = weights | {name: held(weights[name], how.format)}
            try:
                made = Graph(inputs, (Node(op, tuple(inputs), "y"),), ("y",), changed, {name: how})
            except GraphError:  # not a format for this place
                continue
            if made.types["y"] != plain.types["y"]:  # another case
                continue
            names = {old: f"{old}.{len(variants)}" for old in weights}
            fields = {field: names[getattr(op, field)] for field in op.weight_fields if getattr(op, field)}
            variants.append((replace(op, **fields), {names[old]: array for old, array in changed.items()}))
            storage[names[name]] = how
    return policy_around(op, sources, weights, variants).with_storage(storage)


def test_weights_of_every_format_are_tried() -> None:
    """A row that no op can take has no test."""
    tried = {how for kind in OPS for graph in policies(kind) for how in graph.storage.values()}
    plain = {"float32", "int8", "int32"}  # what arrays are stored as when nothing else is said
    formats = {Storage(number) for name, number in FORMATS.items() if name not in plain}
    sparse = {Storage(FORMATS[name], row) for name in ("float32", "int8") for row in ENCODINGS.values() if row != DENSE}
    assert tried >= formats | sparse


QUICK = {"c", "onnx"}
ROWS = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.targets]) for name in TARGETS]
"""The others, which take toolchains of their own, in `make test-targets` only."""
LONG = dict.fromkeys(("Conv2d", "Linear", "ObliqueTree", "AxisTree", "Dequantize", "Requantize"), pytest.mark.long)
"""What takes five seconds or more to compile."""


OBSERVATIONS = {"avr": 6, "arduino": 6}
"""Target → how many random observations it answers; 60 where its processor is not an emulated 8-bit one."""


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=LONG.get(kind, ())) for kind in OPS])
@pytest.mark.parametrize("target", ROWS)
def test_every_op_on_every_target(target: str, kind: str, tmp_path: Path) -> None:
    row = TARGETS[target]
    if why := row.cannot_emit() or row.cannot_open():
        pytest.skip(why)
    count = OBSERVATIONS.get(target, 60)
    for index, graph in enumerate(policies(kind)):
        if target in CANNOT and CANNOT[target](graph):
            with pytest.raises(UnsupportedOpError, match=rf"{target} cannot express the op \w.*: \w+"):
                row.emit(Source(graph), "policy", row.options())
            continue
        golden = make_golden(graph, random_obs(np.random.default_rng(index), graph, count))
        folder = tmp_path / str(index)
        folder.mkdir()
        runs = row.open(Source(graph), row.emit(Source(graph), "policy", row.options()), "policy", folder)
        rounding = () if row.exact else runs.keys()
        reported = runs.keys() if target == "onnx-qdq" else ()  # a level may be off by one
        result = verify(graph, golden, runs, observations=count, rounding=rounding, certified=reported)
        assert result.checked == 2 * count * len(runs) > 0
        assert result.mismatches == 0, result


@pytest.mark.parametrize("kind", OPS)
def test_every_op_in_the_prebuilt_engine(kind: str) -> None:
    """With the kernels of every instruction set that this processor has."""
    runtime = pytest.importorskip("nimbleq.native._runtime")
    for index, graph in enumerate(policies(kind)):
        if has(graph, ops.BranchArgMax | ops.GRU):
            with pytest.raises(UnsupportedOpError, match=kind):
                lower(graph, "portable")
            continue
        golden, interface = (
            make_golden(graph, random_obs(np.random.default_rng(index), graph, 60)),
            network_interface(graph),
        )
        runs = {isa: open_program(lower(graph, isa), isa, graph, interface).run for isa in runtime.isas()}
        result = verify(graph, golden, runs, observations=60)
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
    with pytest.raises(UnsupportedOpError, match=r"\w+ cannot express the op .*Unknown.*: \w+"):
        row.emit(Source(graph), "policy", row.options())
