"""Circuits: the interpreter's integers, in a simulator; and what they cost."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.verilog.core import core_of
from nimbleq.deploy.targets.verilog.folded import cycles, stages
from nimbleq.deploy.targets.verilog.pipeline import pipeline
from nimbleq.deploy.targets.verilog.synthesis import cannot_synthesize, synthesize
from nimbleq.deploy.targets.verilog.target import VERILOG, VerilogOptions
from nimbleq.deploy.targets.verilog.testbench import check_testbench
from nimbleq.deploy.toolchain import CompileError
from nimbleq.deploy.verify import verify
from nimbleq.errors import ConfigError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import UINT8, TensorType
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_obs

OPTIONS = [VerilogOptions(levels=2), VerilogOptions(levels=4), VerilogOptions(reuse=5), VerilogOptions(reuse=1000)]


def bytes_policy(seed: int = 0) -> Graph:
    """Reads bytes as they are; sums are compared, one of the actions twice."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-8, 8, (5, 6)).astype(np.int8)
    weight[3] = weight[1]
    weights = {"w": weight, "scale": np.full(1, 0.5, np.float32), "zero": np.zeros(1, np.int32)}
    nodes = (
        Node(ops.Linear("w"), ("obs",), "s"),
        Node(ops.ArgMax(), ("s",), "action"),
        Node(ops.Dequantize("scale", "zero"), ("s",), "q"),
    )
    return Graph({"obs": TensorType((6,), UINT8)}, nodes, ("q", "action"), weights)


def files_of(graph: Graph, options: VerilogOptions) -> dict[str, bytes]:
    return dict(VERILOG.emit(Source(graph), "policy", options))


@pytest.mark.parametrize(
    ("graph", "options"),
    [
        pytest.param(graph, options, id=str(options), marks=marks)
        for graph, options, marks in zip(
            [with_mask(int_mlp(4, 7, 3)), bytes_policy()] * 2, OPTIONS, [(), *[pytest.mark.long] * 3], strict=True
        )
    ]
    + [
        pytest.param(int_mlp(100, 80, 3), VerilogOptions(reuse=reuse), id=f"many, {reuse}", marks=pytest.mark.targets)
        for reuse in (2, 64)
    ],
)
def test_simulated_integers_are_the_interpreters(graph: Graph, options: VerilogOptions, tmp_path: Path) -> None:
    if why := VERILOG.cannot_open():
        pytest.skip(why)
    golden = make_golden(graph, random_obs(np.random.default_rng(1), graph, 100))
    runs = VERILOG.open(Source(graph), files_of(graph, options), "policy", tmp_path)
    result = verify(graph, golden, runs, observations=3000)
    assert (result.checked, result.mismatches) == (3100, 0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_testbench_finds_a_changed_bit(options: VerilogOptions, tmp_path: Path) -> None:
    if VERILOG.cannot_open():
        pytest.skip("no simulator")
    files = files_of(int_mlp(4, 7, 3), options)
    check_testbench(files, "policy", tmp_path)
    text = files["policy.v"].decode()
    broken = text.replace("assign action =", "assign action = 1 ^")
    assert broken != text
    with pytest.raises(CompileError, match="testbench"):
        check_testbench(files | {"policy.v": broken.encode()}, "policy", tmp_path)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nothing_is_named_before_it_is_declared(options: VerilogOptions) -> None:
    """Verilator and Icarus take it; some vendors' simulators don't."""
    for module in files_of(with_mask(int_mlp(4, 7, 3)), options)["policy.v"].decode().split("endmodule"):
        text = re.sub(r"//.*", "", module)
        kind = r"\b(?:reg|wire|integer|localparam|function)\b(?: signed)?(?: \[[^\]]*\])? "
        for name in re.findall(rf"{kind}(\w+)", text):
            first = re.search(rf"(?<![.\w]){name}\b", text)
            declared = re.search(rf"{kind}{name}\b", text)
            assert first is not None
            assert declared is not None
            assert declared.start() <= first.start() < declared.end(), name


def test_a_pipeline_of_more_levels_has_fewer_registers() -> None:
    core = core_of(int_mlp(4, 7, 3))
    found = [pipeline(core, levels).cycles for levels in (2, 3, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]


def test_reuse_trades_clocks_for_multipliers() -> None:
    core = core_of(int_mlp(4, 8, 3))
    few, many = stages(core, 32), stages(core, 4)
    assert [s.lanes for s in few] == [1, 1]
    assert [s.lanes for s in many] == [8, 3]
    assert cycles(few) > cycles(many)


@pytest.mark.parametrize(
    ("graph", "kind"), [(mlp(4, 8, 3), "Linear, Activation"), (int_conv(), "Conv2d")], ids=["float", "conv"]
)
def test_what_has_no_circuit_is_refused(graph: Graph, kind: str) -> None:
    with pytest.raises(UnsupportedOpError, match=rf"verilog cannot express the op {kind}.*export to C"):
        files_of(graph, VerilogOptions())


def test_options_are_checked() -> None:
    for wrong in ({"levels": 1}, {"reuse": 0}):
        with pytest.raises(ConfigError, match="at least"):
            VerilogOptions(**wrong)


def test_the_title_says_how_to_feed_it() -> None:
    text = files_of(int_mlp(4, 7, 3), VerilogOptions())["policy.v"].decode()
    assert "0: clamp(floor(feature * 32.0 + 0.5) + 128, 0, 255)" in text
    assert "4 unsigned 8-bit numbers" in text


@pytest.mark.long
@pytest.mark.parametrize("options", [VerilogOptions(), VerilogOptions(reuse=8)], ids=str)
def test_it_is_placed(options: VerilogOptions) -> None:
    if why := cannot_synthesize("ice40"):
        pytest.skip(why)
    graph = bytes_policy()
    area = synthesize(core_of(graph), files_of(graph, options)["policy.v"].decode(), "policy", "ice40")
    assert area.luts > 50
    assert area.multipliers == 0
    assert area.mhz > 20
