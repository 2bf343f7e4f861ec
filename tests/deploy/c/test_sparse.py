"""Sparse weights in C: every format × encoding gives the interpreter's answers from exactly the bytes of the model."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import AVX2, PORTABLE, isas_of_this_machine
from nimbleq.deploy.toolchain import compile_library
from nimbleq.graph import ops
from nimbleq.graph.encodings import DENSE, ENCODINGS, from_matrix, matrix
from nimbleq.graph.formats import FLOAT32, FORMATS, INT8, Format
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.graph.weight import Storage
from nimbleq.types import Array
from tests.deploy.c.test_bytes import array_bytes
from tests.deploy.c.test_c import GCC, assert_agrees
from tests.deploy.c.test_freestanding import WARNINGS
from tests.deploy.nets import int_mlp, mlp

SPARSE = [row for row in ENCODINGS.values() if row != DENSE]
HEADER = {"delta": 5}
"""Bytes that an encoding stores once and that C has as numbers in its code."""


def thinned(values: Array, every: int = 4) -> Array:
    """One of ``every`` columns is left, in each row another one; one row is empty."""
    rows = matrix(values).copy()
    rows[(np.arange(rows.shape[1]) + np.arange(len(rows))[:, None]) % every != 0] = 0
    rows[1:2] = 0
    return from_matrix(rows, values.shape)


def side_by_side(real: bool) -> Graph:
    """One Linear of 11 inputs and 6 outputs in every format × encoding that it can have, as one policy."""
    rng = np.random.default_rng(0)
    nodes, weights, storage = [], dict[str, Array](), dict[str, Storage]()
    for number in FORMATS.values():
        for encoding in SPARSE:
            values = thinned(number.decode(number.encode(rng.normal(size=(6, 11)) * min(number.high, 60) / 2)))
            values = number.decode(number.encode(values))
            if values.dtype != (np.float32 if real else np.int8) or encoding.misfit(number.encode(values), number):
                continue
            name = f"w{len(weights)}"
            weights[name], storage[name] = values, Storage(number, encoding)
            nodes.append(Node(ops.Linear(name), ("obs",), f"y{name}"))
    return ended(nodes, weights, storage, TensorType((11,), FLOAT32 if real else UINT8))


def ended(nodes: list[Node], weights: dict[str, Array], storage: dict[str, Storage], obs: TensorType) -> Graph:
    """All outputs of ``nodes`` together as action values."""
    ends = list(nodes)
    flat = []
    for node in nodes:
        if node.output != "flat":
            ends.append(Node(ops.Flatten(), (node.output,), f"flat_{node.output}"))
            flat.append(f"flat_{node.output}")
    ends.append(Node(ops.Concat(), tuple(flat), "together"))
    if obs.qtype == UINT8:
        weights |= {"scale": np.full(1, 0.125, np.float32), "zero": np.zeros(1, np.int32)}
        ends += [Node(ops.Dequantize("scale", "zero"), ("together",), Q), Node(ops.ArgMax(), ("together",), ACTION)]
    else:
        weights |= {"scale": np.ones(1, np.float32), "shift": np.zeros(1, np.float32)}
        ends += [Node(ops.Affine("scale", "shift"), ("together",), Q), Node(ops.ArgMax(), (Q,), ACTION)]
    return Graph({"obs": obs}, tuple(ends), (Q, ACTION), weights, storage)


def check(graph: Graph, folder: Path) -> str:
    """The portable code gives the interpreter's answers and touches nothing that is not its own; returns the code."""
    files = emit_c(graph, "net_0", isas=(PORTABLE,))
    flags = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    assert_agrees(graph, compile_library(files, folder / "net.so", str(GCC), flags), "net_0")
    return files["net_0.c"]


@pytest.mark.parametrize("real", [True, False], ids=["real", "integer"])
def test_every_format_in_every_encoding(real: bool, tmp_path: Path) -> None:
    graph = side_by_side(real)
    assert len(graph.storage) >= len(SPARSE)
    sizes = array_bytes(check(graph, tmp_path).replace("net_0_", "policy_"))
    for node in graph.nodes:
        if isinstance(node.op, ops.Linear):
            how, size = graph.storage[node.op.weight], graph.stored(node.op.weight).nbytes
            emitted = sum(count for name, count in sizes.items() if name.startswith(f"{node.output}_"))
            assert emitted == size - HEADER.get(str(how.encoding), 0), how


CONVOLUTIONS = (
    ops.Conv2d("w"),
    ops.Conv2d("w", stride=(2, 1), padding=(1, 1), pad_value=3),
    ops.Conv2d("w", groups=2, padding=(0, 1)),
)


@pytest.mark.parametrize("number", [FLOAT32, INT8], ids=str)
def test_convolutions_and_flat_images(number: Format, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes, weights, storage = [], dict[str, Array](), dict[str, Storage]()
    for op in CONVOLUTIONS:
        for encoding in SPARSE:
            name = f"w{len(nodes)}"
            values = thinned(number.decode(number.encode(rng.normal(size=(6, 4 // op.groups, 3, 2)) * 9)))
            weights[name], storage[name] = values, Storage(number, encoding)
            pad_value = op.pad_value if number == INT8 else 0
            conv = ops.Conv2d(name, None, op.stride, op.padding, op.groups, pad_value)
            nodes.append(Node(conv, ("obs",), f"c{name}"))
    nodes.append(Node(ops.Flatten(), ("obs",), "flat"))
    for encoding in SPARSE:
        name = f"w{len(nodes)}"
        weights[name] = thinned(number.decode(number.encode(rng.normal(size=(3, 120)) * 9)))
        storage[name] = Storage(number, encoding)
        nodes.append(Node(ops.Linear(name), ("flat",), f"y{name}"))
    check(ended(nodes, weights, storage, TensorType((4, 5, 6), FLOAT32 if number == FLOAT32 else UINT8)), tmp_path)


def sparse_middle(graph: Graph, left: float, height: int) -> Graph:
    """``graph`` with a share of its middle weights left, in blocks of ``height`` outputs, stored so."""
    rng, weight = np.random.default_rng(5), graph.weights["w1"].copy()
    there = np.repeat(rng.random((-(-len(weight) // height), weight.shape[1])) < left, height, axis=0)[: len(weight)]
    weight[~there] = 0
    weight[8:40] = 0
    how = Storage(INT8 if weight.dtype == np.int8 else FLOAT32, ENCODINGS["block4" if height > 1 else "csr"])
    return replace(graph, weights=graph.weights | {"w1": weight}).with_storage({"w1": how})


@pytest.mark.long
def test_vector_code_leaves_out_blocks_of_zeros_where_that_pays(tmp_path: Path) -> None:
    nets = [net(*widths) for net in (mlp, int_mlp) for widths in ((7, 70, 93, 5), (3, 33, 89, 2))]
    pays = [sparse_middle(net, left, height) for net in nets for left, height in ((0.02, 1), (0.08, 4), (0.0, 4))]
    not_so = [sparse_middle(net, 0.9, 1) for net in nets]
    if AVX2 not in isas_of_this_machine():
        pytest.skip("no AVX2")
    files: dict[str, str] = {}
    for index, graph in enumerate(pays + not_so):
        made = emit_c(graph, f"net_{index}", isas=(AVX2,))
        assert ("_linear_blocks_" in made[f"net_{index}.c"]) == (index < len(pays))
        files |= made
    library = compile_library(files, tmp_path / "nets.so", str(GCC), ("-O1", "-march=native", "-fsanitize=undefined"))
    for index, graph in enumerate(pays + not_so):
        assert_agrees(graph, library, f"net_{index}")


@pytest.mark.skipif(GCC is None, reason="needs gcc")
@pytest.mark.parametrize("real", [False, True], ids=["int", "float"])
def test_no_compiler_warns_about_any_format_and_encoding(real: bool, tmp_path: Path) -> None:
    for name, text in emit_c(side_by_side(real), isas=(PORTABLE,)).items():
        (tmp_path / name).write_text(text)
    # Instrumented, GCC knows less of the range of values and warns of more conversions.
    command = [str(GCC), "-std=c99", "-fsanitize=undefined", *WARNINGS, "-c", "policy.c", "-o", "policy.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
