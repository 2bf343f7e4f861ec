"""Emitted C against the interpreter: random graphs, odd shapes, every compiler, sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.decider import open_library
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.ops.avx2.quads import quads
from nimbleq.deploy.toolchain import FAST, compile_library
from nimbleq.deploy.verify import is_integer, tolerance
from nimbleq.errors import ConfigError, GraphError
from nimbleq.graph import ops
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.tensor import UINT8, TensorType
from tests.deploy.nets import in_one_unit, int_conv, int_mlp, mlp
from tests.strategies import Numbers, random_graph, random_obs

GCC, CLANG = shutil.which("gcc"), shutil.which("clang")
pytestmark = pytest.mark.skipif(GCC is None, reason="needs gcc")

BUILDS = [
    pytest.param(GCC, FAST, id="gcc-native"),
    pytest.param(GCC, ("-O1", "-DNQ_SCALAR"), id="gcc-scalar"),
    pytest.param(GCC, ("-O0",), id="gcc-generic-vectors"),
    pytest.param(
        CLANG,
        ("-O1", "-march=native"),
        id="clang",
        marks=[pytest.mark.long, pytest.mark.skipif(CLANG is None, reason="no clang")],
    ),
]


def compiled(graphs: Sequence[Graph], compiler: str, flags: Sequence[str], folder: Path) -> Path:
    """All graphs in one library, as ``net0``, ``net1`` …"""
    return compile_library(in_one_unit(graphs), folder / "nets.so", compiler, flags)


def assert_agrees(graph: Graph, library: Path, name: str, count: int = 200) -> None:
    obs = random_obs(np.random.default_rng(7), graph, count)
    want = interpret(graph, obs)
    action, q = open_library(library, name, graph, network_interface(graph)).run(obs)
    if is_integer(graph):
        np.testing.assert_array_equal(q, want[Q])
        np.testing.assert_array_equal(action, want[ACTION])
        return
    limit = tolerance(want[Q])
    assert (np.abs(q - want[Q]) <= limit).all()
    chosen = np.take_along_axis(want[Q], action[:, None].astype(np.int64), axis=1)
    assert (want[Q].max(axis=1, keepdims=True) - chosen <= 2 * limit).all()


def conv_net(channels: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], out: int,
             groups: int = 1, padding: tuple[int, int] = (0, 0)) -> Graph:  # fmt: skip
    """conv → ReLU → max pool → flatten → linear on float images."""
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.normal(size=(out, channels // groups, *kernel)).astype(np.float32),
        "b": rng.normal(size=out).astype(np.float32),
    }
    rows, cols = ops.window_extent(size, kernel, stride, padding, "test")
    features = out * rows * cols
    weights["h"] = rng.normal(size=(3, features)).astype(np.float32) / np.float32(np.sqrt(features))
    nodes = (
        Node(ops.Conv2d("w", "b", stride, padding, groups), ("obs",), "c"),
        Node(ops.Activation("relu"), ("c",), "r"),
        Node(ops.Pool("max", (1, 1), (1, 1)), ("r",), "p"),
        Node(ops.Flatten(), ("p",), "f"),
        Node(ops.Linear("h"), ("f",), "q"),
        Node(ops.ArgMax(), ("q",), "action"),
    )
    return Graph({"obs": TensorType((channels, *size))}, nodes, ("q", "action"), weights)


def odd_shapes() -> list[Graph]:
    return [
        mlp(3, 17, 5),
        mlp(1, 1, 1),
        mlp(33, 64, 9, 1),
        mlp(5, 100, 70, 18),
        mlp(40, 3),
        int_mlp(3, 17, 5),
        int_mlp(1, 1, 1),
        int_mlp(33, 70, 9, 2),
        int_mlp(9, 40, 40, 18),
        int_mlp(7, 24, 3, shift=12),
        conv_net(1, (5, 7), (3, 2), (2, 1), 5),
        conv_net(6, (4, 4), (3, 3), (1, 1), 6, groups=6, padding=(1, 1)),
        conv_net(4, (9, 5), (2, 5), (3, 2), 20, groups=2, padding=(1, 2)),
        conv_net(3, (3, 3), (3, 3), (1, 1), 8),
    ]


def seven_bits(graph: Graph) -> Graph:
    """The same with unsigned hidden activations in 0..127, which lets bytes be multiplied as bytes."""
    nodes = [
        replace(node, op=replace(node.op, high=max(127, node.op.low)))
        if isinstance(node.op, ops.Requantize) and not node.op.signed else node
        for node in graph.nodes
    ]  # fmt: skip
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.long
@pytest.mark.parametrize(("compiler", "flags"), BUILDS)
def test_bytes_times_bytes_agree_with_the_interpreter(compiler: str, flags: Sequence[str], tmp_path: Path) -> None:
    graphs = [
        int_mlp(4, 64, 64, 2, shift=36, high=127),
        int_mlp(5, 37, 70, 9, shift=35, high=127),
        int_mlp(3, 130, 97, 3, shift=35, high=127),
        int_mlp(3, 40, 40, 40, 6, shift=32, high=127),
        int_conv(),
        int_conv(16, (0, 0)),
        *(seven_bits(random_graph(np.random.default_rng(seed), numbers="int", obs="image")) for seed in range(4)),
    ]
    texts = [emit_c(graph)["policy.c"] for graph in graphs]
    for kernel in ("_linear_quads_u8(t", "_linear_rows_u8(v", "_linear_dot_u8(t", "_conv_u8(t"):
        assert any(kernel in text for text in texts), kernel
    library = compiled(graphs, compiler, flags, tmp_path)
    for index, graph in enumerate(graphs):
        assert_agrees(graph, library, f"net{index}")


@pytest.mark.parametrize("high", [127, 255])
def test_packed_quads_add_up_and_cannot_saturate(high: int) -> None:
    rng = np.random.default_rng(high)
    weights = np.clip(rng.normal(size=(30, 16, 4)) * 2500 / high, -128, 127).astype(np.int8)
    weights[0, 0] = 127
    weights[2, 1] = -128
    made = quads(weights, 4 * np.arange(30), high)
    assert made is not None
    total = np.zeros((30, 16, 4), np.int64)
    np.add.at(total, made.offsets // 4, made.weights)
    np.testing.assert_array_equal(total, weights)
    sums = made.weights.astype(np.int64).reshape(-1, 2, 16, 2, 2).transpose(0, 2, 3, 1, 4).reshape(-1, 4)
    assert high * np.maximum(sums, 0).sum(axis=1).max() < 2**15
    assert high * np.maximum(-sums, 0).sum(axis=1).max() <= 2**15


@pytest.mark.parametrize(("compiler", "flags"), BUILDS)
def test_odd_shapes_agree_with_the_interpreter(compiler: str, flags: Sequence[str], tmp_path: Path) -> None:
    graphs = odd_shapes()
    library = compiled(graphs, compiler, flags, tmp_path)
    for index, graph in enumerate(graphs):
        assert_agrees(graph, library, f"net{index}")


@pytest.mark.parametrize("numbers", ["float", "int"])
def test_random_graphs_agree_with_the_interpreter(numbers: Numbers, tmp_path: Path) -> None:
    graphs = [random_graph(np.random.default_rng(seed), numbers=numbers) for seed in range(100, 106)]
    library = compiled(graphs, str(GCC), ("-O1", "-march=native"), tmp_path)
    for index, graph in enumerate(graphs):
        assert_agrees(graph, library, f"net{index}")


@pytest.mark.parametrize("flags", [("-O1", "-march=native")])
def test_no_undefined_behaviour_and_no_bad_access(flags: tuple[str, ...], tmp_path: Path) -> None:
    graphs = [mlp(3, 70, 17, 5), int_mlp(33, 70, 9, 2), conv_net(3, (6, 5), (3, 3), (2, 1), 9, padding=(1, 1)),
              random_graph(np.random.default_rng(9), numbers="int", obs="image")]  # fmt: skip
    lines = ['#include "net0.h"', '#include "net1.h"', '#include "net2.h"', '#include "net3.h"', "#include <float.h>"]
    lines += ["#include <stdlib.h>", "int main(void) { float q[64]; int bad = 0;"]
    for index, graph in enumerate(graphs):
        element = "uint8_t" if graph.obs_type.qtype == UINT8 else "float"
        size = graph.obs_type.size
        # On the heap, exactly as large as promised, so that reading past the end is caught.
        lines.append(f"{{ {element} *obs = malloc({size} * sizeof *obs); if (!obs) return 1;")
        for value in ("0", "1") if element == "uint8_t" else ("0.5f", "-FLT_MAX", "FLT_MAX", "1e30f"):
            lines.append(f"for (int i = 0; i < {size}; ++i) obs[i] = {value};")
            lines.append(f"bad |= net{index}_act(obs) < 0; bad |= net{index}_q(obs, q) < 0;")
        lines.append("free(obs); }")
    (tmp_path / "main.c").write_text("\n".join([*lines, "return bad; }\n"]))
    for file, text in in_one_unit(graphs).items():
        (tmp_path / file).write_text(text)
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    build = [str(GCC), "-std=c99", *flags, *sanitize, "-o", "run", *sorted(p.name for p in tmp_path.glob("*.c"))]
    made = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    if made.returncode != 0 and "cannot find" in made.stderr:
        pytest.skip("the sanitizers' libraries are not installed")
    assert made.returncode == 0, made.stderr
    done = subprocess.run([str(tmp_path / "run")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_nothing_but_memcpy_is_needed_and_nothing_is_allocated(tmp_path: Path) -> None:
    library = compiled([mlp(4, 64, 64, 2), int_mlp(4, 20, 2)], str(GCC), ("-O2",), tmp_path)
    symbols = subprocess.run(["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True)
    needed = {line.split()[-1].split("@")[0] for line in symbols.stdout.splitlines()}
    assert {name for name in needed if not name.startswith("_")} <= {"memcpy", "memset"}


def test_files_say_what_made_them_and_cannot_be_broken_by_names() -> None:
    graph = mlp(4, 8, 2)
    files = emit_c(graph, "lander", "artefact */ #error digest 1234\n#error")
    assert "digest 1234" in files["lander.h"]
    assert "*/ #error" not in files["lander.c"]
    assert "\n#error" not in files["lander.c"]
    assert "#define LANDER_OBS_SIZE 4" in files["lander.h"]
    with pytest.raises(ConfigError, match="'int' is a word of C itself"):
        emit_c(graph, "int")
    with pytest.raises(ConfigError, match="not a C identifier"):
        emit_c(graph, "a;b")


def test_header_compiles_as_cpp(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "policy.h").write_text(emit_c(mlp(4, 8, 2))["policy.h"])
    (tmp_path / "main.cpp").write_text('#include "policy.h"\nint main() { return 0; }\n')
    subprocess.run([compiler, "-Wall", "-Werror", "-fsyntax-only", "main.cpp"], cwd=tmp_path, check=True)


def test_a_graph_without_action_values_is_refused() -> None:
    graph = mlp(4, 8, 2)
    with pytest.raises(GraphError, match="output 'q'"):
        emit_c(replace(graph, outputs=("action",)))


def test_weights_that_are_not_finite_are_refused() -> None:
    graph = mlp(4, 8, 2)
    weights = np.full((2, 8), np.nan, np.float32)
    with pytest.raises(ConfigError, match="cannot be written as C"):
        emit_c(graph.with_weights({"w1": weights}))
