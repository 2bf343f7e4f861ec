"""Instructions for products of bytes: the interpreter's integers, in fewer instructions than plain C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import PORTABLE
from nimbleq.deploy.targets.c.ops.dots import DOTS, DSP, NEON, SIMD128
from nimbleq.deploy.targets.cross.processors import PROCESSORS
from nimbleq.deploy.targets.cross.row import row
from nimbleq.deploy.targets.wasm.target import WASM
from nimbleq.deploy.verify import verify
from nimbleq.graph import ops
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_obs

ROWS = [(NEON, "aarch64"), (DSP, "cortex-m4")]


def graphs() -> list[Graph]:
    """Every place of a kernel: bytes and signed bytes, runs that do and do not fill a vector, borders, groups."""
    signed = int_mlp(5, 37, 33, 19, 3)
    nodes = [
        replace(node, op=replace(node.op, zero_point=-7, low=-128, high=127, signed=True))
        if isinstance(node.op, ops.Requantize)
        else node
        for node in signed.nodes
    ]
    return [int_mlp(5, 37, 64, 3), replace(signed, nodes=tuple(nodes)), int_conv(), int_conv(16, (0, 0)),
            int_conv(17, (0, 2))]  # fmt: skip


def test_every_row_is_tried() -> None:
    assert {*(dot for dot, _ in ROWS), SIMD128} == set(DOTS)


@pytest.mark.parametrize(("dot", "name"), ROWS, ids=lambda value: getattr(value, "folder", None))
def test_the_interpreters_integers_in_fewer_instructions(dot: object, name: str, tmp_path: Path) -> None:
    processor = next(each for each in PROCESSORS if each.name == name)
    if why := processor.lacks():
        pytest.skip(why)
    assert dot in processor.dots
    flags = (*processor.flags, *next(iter(processor.compiler.more), ()))
    processor = replace(processor, flags=flags, compilers=(replace(processor.compiler, more=()),))
    fast, plain = row(processor), row(replace(processor, dots=()))
    for index, graph in enumerate(graphs()):
        golden = make_golden(graph, random_obs(np.random.default_rng(index), graph, 20))
        folder = tmp_path / str(index)
        folder.mkdir()
        files = fast.emit(Source(graph), "policy", fast.options())
        assert b"_dot_" in files[f"{name}/policy.c"]
        result = verify(graph, golden, fast.open(Source(graph), files, "policy", folder), observations=60)
        assert result.checked == 80
        assert result.mismatches == 0
    counts = []
    for target in (fast, plain):
        assert target.footprint is not None
        folder = tmp_path / f"count{len(counts)}"
        folder.mkdir()
        counts.append(target.footprint(graphs()[0], None, random_obs(np.random.default_rng(0), graphs()[0], 8), folder))
    fewer, more = (each.instructions for each in counts)
    if fewer is None or more is None:
        pytest.skip("nothing here counts instructions")
    assert fewer < 0.9 * more


def test_webassembly(tmp_path: Path) -> None:
    if why := WASM.cannot_open():
        pytest.skip(why)
    for index, graph in enumerate(graphs()):
        golden = make_golden(graph, random_obs(np.random.default_rng(index), graph, 20))
        folder = tmp_path / str(index)
        folder.mkdir()
        files = WASM.emit(Source(graph), "policy", WASM.options())
        assert b"\xfd" in files["wasm/policy.wasm"]  # the prefix of vector instructions
        runs = WASM.open(Source(graph), files, "policy", folder)
        result = verify(graph, golden, runs, observations=60)
        assert result.checked == 80 * len(runs)
        assert result.mismatches == 0


def test_plain_c_is_all_that_small_layers_get() -> None:
    assert "_dot_" not in emit_c(int_mlp(4, 8, 2), isas=(PORTABLE,))["policy.c"]
    assert "_dot_" not in emit_c(mlp(4, 64, 64, 2), isas=(PORTABLE,))["policy.c"]
    text = emit_c(int_mlp(4, 64, 2))["policy.c"]
    for dot in DOTS:
        assert f"#include <{dot.include}>" in text
