"""Circuits on ECP5 and iCE40: logic cells, multipliers, clocks and frequency, by yosys and nextpnr alone.

One cell trains a LunarLander teacher and compresses it with ``--recipe last-bytes``; its integers are in the record, so
that the circuits of all devices are of the same certified policy. Every circuit answers 100,000 observations in
Verilator. Floors: the policy in 1,600 LUT4 without a multiplier, 3 clocks, 100 MHz on ECP5, placed on iCE40, too; a
network 8-16-4 in 3,400 LUT4. Published weightless policies take 800 to 3,200 LUTs and 2 or 3 clocks at 100 MHz, with
Vivado [2512.01467].
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.process import nimbleq
from benchmarks.record import Record
from benchmarks.tables import header
from nimbleq.compress.refine.codes import Codes, Widths
from nimbleq.compress.refine.linear import graph_of
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.verilog.core import core_of
from nimbleq.deploy.targets.verilog.pipeline import pipeline
from nimbleq.deploy.targets.verilog.synthesis import DEVICES, synthesize
from nimbleq.deploy.targets.verilog.target import VERILOG, VerilogOptions
from nimbleq.deploy.verify import verify
from nimbleq.graph import ops
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

OBSERVATIONS = 100_000
POLICY = "LunarLander-v3, teacher and policy"
WIDTHS = Widths(weight=4, bias=12, bias_shift=0)
"""Wide enough for what any search finds: the circuit only knows the values, not how they are stored."""
Known = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Circuit:
    """A row of `CIRCUITS`.

    Attributes:
        make: finished cells → the policy.
        levels: of logic between two registers.
        most_luts, most_clocks, least_mhz: the floor on ECP5.
    """

    make: Callable[[Any], Graph]
    levels: int
    most_luts: int
    most_clocks: int
    least_mhz: float


def train(context: Context) -> dict[str, Any]:
    """Teacher and policy; exit status 1: nothing was certified."""
    out = str(context.scratch / "ll")
    words = ("train", "--env", "LunarLander-v3", "--preset", "wide", "--out", out)
    nimbleq(*words, *(("--steps", "1000") if context.quick else ()))
    small = nimbleq("compress", out, "--recipe", "last-bytes", "--no-scratch", accepted=(0, 1))
    if not small["certified"]:
        raise CellError(f"nothing was certified: {small['reason']}")
    weights = load_artefact(Path(out) / "artefacts" / "small").graph.weights
    kept = ("size_bytes", "macs", "return_mean", "teacher_return_mean", "keep", "certified", "reason")
    return {
        "weight": weights["weight"].tolist(), "bias": weights["bias"].tolist(),
        "exponent": np.log2(weights["exponent"]).astype(int).tolist(), **{key: small[key] for key in kept},
    }  # fmt: skip


def certified(known: Known) -> Graph:
    """The policy in the record."""
    if POLICY not in known or "error" in known[POLICY]:
        raise CellError(f"it is of the policy in the cell {POLICY!r}, which has to be measured before")
    codes = Codes(*(np.array(known[POLICY][name], np.int64) for name in ("weight", "bias", "exponent")))
    return graph_of(codes, TensorType(codes.weight.shape[1:]), WIDTHS)


def mlp(_: Known) -> Graph:
    """8-16-4 with random weights of 4 bits and activations of 6."""
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {
        "inverse": np.full(8, 16, np.float32),
        "w0": rng.integers(-8, 8, (16, 8)).astype(np.int8), "b0": rng.integers(-50, 51, 16).astype(np.int32),
        "m": np.full(16, 1 << 30, np.int32), "s": np.full(16, 32, np.int32),
        "w1": rng.integers(-8, 8, (4, 16)).astype(np.int8), "b1": rng.integers(-50, 51, 4).astype(np.int32),
    }  # fmt: skip
    nodes = (
        Node(ops.Quantize("inverse", None, 6, True), ("obs",), "x"),
        Node(ops.Linear("w0", "b0"), ("x",), "a0"),
        Node(ops.Requantize("m", "s", 0, 0, 63, 6, False), ("a0",), "h"),
        Node(ops.Linear("w1", "b1"), ("h",), "a1"),
        Node(ops.ArgMax(), ("a1",), "action"),
        Node(ops.Dequantize(None, None), ("a1",), "q"),
    )
    return Graph({"obs": TensorType((8,))}, nodes, ("q", "action"), weights)


def tree(_: Known) -> Graph:
    """An oblique tree of depth 3 with random splits of 4 bits: 7 splits, 8 leaves."""
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {
        "inverse": np.full(8, 16, np.float32), "split": rng.integers(-7, 8, (7, 8)).astype(np.int8),
        "threshold": rng.integers(-200, 201, 7).astype(np.int32), "leaf": np.arange(8, dtype=np.int8) % 4,
    }  # fmt: skip
    nodes = (
        Node(ops.Quantize("inverse", None, 6, True), ("obs",), "x"),
        Node(ops.ObliqueTree("split", "threshold", "leaf", 4), ("x",), "q"),
        Node(ops.ArgMax(), ("q",), "action"),
    )
    return Graph({"obs": TensorType((8,))}, nodes, ("q", "action"), weights)


CIRCUITS = {
    "LunarLander-v3, certified": Circuit(certified, 4, 1600, 3, 100.0),
    "8-16-4": Circuit(mlp, 4, 3400, 10, 0.0),
    "oblique tree, depth 3": Circuit(tree, 3, 1600, 3, 0.0),
}


def measure(name: str, context: Context) -> dict[str, Any]:
    """Simulate one circuit, then map, place and route it on every device."""
    row = CIRCUITS[name]
    graph = row.make(context.known)
    source, options = Source(graph), VerilogOptions(levels=row.levels)
    files = VERILOG.emit(source, "policy", options)
    core = core_of(graph)
    near = np.random.default_rng(2).normal(size=(200, *graph.obs_type.shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        runs = VERILOG.open(source, files, "policy", Path(folder))
        checked = verify(graph, make_golden(graph, near), runs, 1000 if context.quick else OBSERVATIONS)
    found: dict[str, Any] = {
        "clocks": pipeline(core, row.levels).cycles, "checked": checked.checked, "mismatches": checked.mismatches,
    }  # fmt: skip
    for device in DEVICES:
        found[device] = vars(synthesize(core, files["policy.v"].decode(), "policy", device))
    return found


def row_of(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    if name == POLICY:
        return f"| {name} | {cell['size_bytes']} B, {cell['macs']} MACs | {cell['reason']} |" + " |" * 7
    ecp5, ice40 = cell["ecp5"], cell["ice40"]
    cells = [
        name, f"{cell['checked']:,}", cell["mismatches"], cell["clocks"], ecp5["logic_cells"], ecp5["multipliers"],
        f"{ecp5['mhz']:.0f}", ice40["logic_cells"], ice40["multipliers"], f"{ice40['mhz']:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return "\n".join([
        "# Circuits", "",
        "Logic cells are LUT4 that hold logic or carry, after placing; MHz is nextpnr's estimate (ECP5: speed grade 6, "
        "the slowest; iCE40: HX).", "",
        header("policy", "observations", "mismatches", "clocks", "ECP5 LUT4", "DSP", "MHz", "iCE40 LUT4", "DSP", "MHz"),
        *record.rows(names, row_of, 10), "", record.footnote(), "",
    ])  # fmt: skip


def missed(record: Record) -> list[str]:
    """Circuits above their floor."""
    lines = []
    for name, cell in record.cells.items():
        floor = CIRCUITS.get(name)
        if floor is None or not record.finished(name):
            continue
        ecp5 = cell["ecp5"]
        good = (
            ecp5["logic_cells"] <= floor.most_luts and not ecp5["multipliers"] and cell["clocks"] <= floor.most_clocks
        )
        if not good or ecp5["mhz"] < floor.least_mhz or cell["mismatches"]:
            lines.append(f"{name}: {ecp5}, {cell['clocks']} clocks, {cell['mismatches']} mismatches")
    return lines


CASE = Case(
    "fpga",
    cells=lambda _: [Cell(POLICY, train, 350), *(Cell(name, partial(measure, name), 40) for name in CIRCUITS)],
    table=table,
    missed=missed,
)
