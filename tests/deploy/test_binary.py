"""First layers that skip the zeros of binary observations: C, the prebuilt engine and the interpreter agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.decider import open_library, open_program
from nimbleq.deploy.prebuilt.lower import lower
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import AVX2, PORTABLE, Isa, isas_of_this_machine
from nimbleq.deploy.toolchain import compile_library
from nimbleq.deploy.verify import is_integer, tolerance
from nimbleq.graph import ops
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interface import Interface, network_input
from nimbleq.graph.interpret import interpret
from nimbleq.graph.reading import input_spec
from nimbleq.graph.space import Box, Dict, Discrete, MultiBinary
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.types import Array
from tests.deploy.c.test_c import GCC
from tests.deploy.nets import int_conv, int_mlp, mlp

runtime = pytest.importorskip("nimbleq.native._runtime")


def planes(out: int, kernel: tuple[int, int], padding: tuple[int, int], real: bool = True) -> Graph:
    """A convolution of binary planes ``(5, 10, 9)``, a ReLU, a layer."""
    rng = np.random.default_rng(1)
    rows, cols = ops.window_extent((10, 9), kernel, (1, 1), padding, "test")
    weights = {
        "w": rng.normal(size=(out, 5, *kernel)).astype(np.float32) / 255,
        "b": rng.normal(size=out).astype(np.float32),
        "h": rng.normal(size=(3, out * rows * cols)).astype(np.float32) / 30,
    }
    nodes = (
        Node(ops.Conv2d("w", "b", padding=padding), ("obs",), "c"),
        Node(ops.Activation("relu"), ("c",), "r"),
        Node(ops.Flatten(), ("r",), "f"),
        Node(ops.Linear("h"), ("f",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    return Graph({"obs": TensorType((5, 10, 9), FLOAT32 if real else UINT8)}, nodes, (Q, ACTION), weights)


def flat(out: int) -> Graph:
    """Planes that are read as a vector."""
    graph = mlp(450, out, 3)
    nodes = (Node(ops.Flatten(), ("obs",), "x"), *(
        replace(node, inputs=("x",)) if node.inputs == ("obs",) else node for node in graph.nodes
    ))  # fmt: skip
    return replace(graph, inputs={"obs": TensorType((5, 10, 9), UINT8)}, nodes=nodes)


def one_hot_int(*widths: int) -> Graph:
    """An int8 network whose levels are 0 where the observation is."""
    graph = int_mlp(*widths)
    weight = graph.weights["w0"].astype(np.int64)
    bias = graph.weights["b0"] + 128 * weight.sum(axis=1)
    return graph.with_weights({"zero": np.zeros(widths[0], np.int32), "b0": bias.astype(np.int32)})


GRAPHS = {
    "planes": planes(16, (3, 3), (0, 0), real=False),
    "board": planes(11, (3, 2), (1, 1)),
    "wide": planes(19, (2, 2), (0, 1), real=False),
    "int planes": int_conv(),
    "few units": mlp(70, 20, 3),
    "linear": mlp(601, 5),
    "sixty-three": mlp(63, 64, 3),
    "many units": mlp(130, 64, 3),
    "flat": flat(24),
    "int one-hot": one_hot_int(100, 21, 3),
    "int linear": one_hot_int(70, 4),
}


SOME = ("planes", "few units", "int one-hot")
REST = tuple(name for name in GRAPHS if name not in SOME)
SAME_ORDER = ("planes", "board", "wide")
"""Float convolutions, whose sums have the same bits as the dense kernel's."""


def declared(graph: Graph) -> Interface:
    return network_interface(graph, ((0, graph.obs_type.size),))


def observations(graph: Graph, count: int = 60) -> Array:
    """Zeros and ones (or 255) of all densities, and others, which are not what was declared."""
    rng, kind = np.random.default_rng(2), graph.obs_type
    density = np.linspace(0, 1, count).reshape(-1, *[1] * len(kind.shape))
    there = rng.random((count, *kind.shape)) < density**2
    if kind.qtype == UINT8:
        obs = there * np.uint8(255)
        obs[-5:] = rng.integers(0, 256, (5, *kind.shape))
        return obs
    obs = there.astype(np.float32)
    obs[-5:] = rng.normal(size=(5, *kind.shape))
    return obs


def check(graph: Graph, action: Array, q: Array, obs: Array) -> None:
    want = interpret(graph, obs)
    if is_integer(graph):
        np.testing.assert_array_equal(q, want[Q])
        np.testing.assert_array_equal(action, want[ACTION])
    else:
        assert (np.abs(q - want[Q]) <= tolerance(want[Q])).all()


@pytest.mark.parametrize("name", GRAPHS)
def test_the_prebuilt_engine(name: str) -> None:
    graph = GRAPHS[name]
    obs = observations(graph)
    for isa in runtime.isas():
        program = lower(graph, isa, binary=True)
        check(graph, *open_program(program, isa, graph, declared(graph)).run(obs), obs)


@pytest.mark.skipif(GCC is None, reason="needs gcc")
@pytest.mark.parametrize(
    ("isa", "names"),
    [
        pytest.param(AVX2, SOME, id="avx2"),
        pytest.param(PORTABLE, (*SOME, "int planes", "flat"), id="portable"),
        pytest.param(AVX2, REST, id="avx2-rest", marks=pytest.mark.long),
        pytest.param(PORTABLE, REST, id="portable-rest", marks=pytest.mark.long),
    ],
)
def test_c(isa: Isa, names: tuple[str, ...], tmp_path: Path) -> None:
    if isa not in (*isas_of_this_machine(), PORTABLE):
        pytest.skip("this processor has no AVX2")
    files: dict[str, str] = {}
    for index, (name, graph) in enumerate((name, GRAPHS[name]) for name in names):
        files |= emit_c(graph, f"net{index}", interface=declared(graph), isas=(isa,))
        dense = emit_c(graph, f"dense{index}", isas=(isa,))
        assert files[f"net{index}.c"].replace("net", "dense") != dense[f"dense{index}.c"]
        files |= dense if name in SAME_ORDER else {}
    flags = ("-O0", "-march=native") if isa is AVX2 else ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    library = compile_library(files, tmp_path / "nets.so", str(GCC), flags)
    for index, (name, graph) in enumerate((name, GRAPHS[name]) for name in names):
        obs = observations(graph)
        action, q = open_library(library, f"net{index}", graph, declared(graph)).run(obs)
        check(graph, action, q, obs)
        if name in SAME_ORDER:
            same = open_library(library, f"dense{index}", graph, declared(graph)).run(obs)[1]
            np.testing.assert_array_equal(q, same)


def test_constant_time_skips_nothing() -> None:
    graph = GRAPHS["planes"]
    told, untold = (emit_c(graph, interface=one, skips=False)["policy.c"] for one in (declared(graph), None))
    assert told.partition("#include")[2] == untold.partition("#include")[2]


def test_the_space_declares_what_is_binary() -> None:
    pixels = Box((10, 10, 4), "bool", axes="HWC")
    assert input_spec(pixels).bits == ((0, 400),)
    assert input_spec(Box((10, 10, 4), "uint8", 0, 1, axes="HWC")).bits == ((0, 400),)
    assert input_spec(Box((10, 10, 4), "uint8", 0, 255, axes="HWC")).bits == ()
    assert input_spec(Discrete(7, 3)).bits == ((0, 7),)
    mixed = Dict((("a", Box((3,))), ("b", MultiBinary((5,))), ("c", pixels), ("d", Box((2,), "bool"))))
    spec = input_spec(mixed)
    assert (spec.bits, spec.pixels) == (((0, 400), (403, 408), (408, 410)), 400)
    assert [spec.top(at) for at in (0, 403)] == [255, 1]
    assert not input_spec(Box((2,), "bool", offset=(1.0, 1.0))).bits
    assert spec.mostly_bits
    assert not spec.binary


def test_a_runtime_reads_the_declaration() -> None:
    graph, interface = GRAPHS["planes"], Interface(Box((10, 9, 5), "bool", axes="HWC"), 3)
    rng = np.random.default_rng(3)
    raw = rng.random((20, 10, 9, 5)) < 0.1
    policy, plain = Runtime(graph, engine="prebuilt", interface=interface), Runtime(graph, engine="prebuilt")
    for one in raw:
        obs = network_input(interface, one)
        assert policy.act(one) == plain.act(obs)
        np.testing.assert_allclose(policy.q_values(one), plain.q_values(obs), rtol=1e-4, atol=1e-5)


def test_the_interpreter_adds_few_rows() -> None:
    for graph in (mlp(300, 9, 4), one_hot_int(300, 9, 4)):
        hot = np.eye(300, dtype=np.float32)[[4, 299, 0, 4]]
        several = hot + np.eye(300, dtype=np.float32)[[5, 7, 9, 11]]
        none = np.zeros((3, 300), np.float32)
        for obs in (hot, several, none, np.concatenate([none, hot])):
            dense = np.concatenate([interpret(graph, np.concatenate([one[None], np.ones((9, 300), np.float32)]))[Q][:1]
                                    for one in obs])  # fmt: skip
            np.testing.assert_allclose(interpret(graph, obs)[Q], dense, rtol=1e-5, atol=1e-5)
