"""Every target against the interpreter: 100,000 observations each, fewer where an emulator takes long; mismatches.

One cell a target, of four policies: a network of 8-bit integers, a linear policy of packed 4-bit weights, a network
that takes its observations as the environment gives them (a Dict with an index, doubles and a picture), which is
verified in that form, too, on every target that has the environment's side in C, and one of a console's screens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.networks import int_mlp
from benchmarks.record import Record
from benchmarks.tables import header
from nimbleq.deploy.engines import ENGINES
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.cross.processors import PROCESSORS
from nimbleq.deploy.targets.verilog.target import VerilogOptions
from nimbleq.deploy.verify import TargetResult, verify, verify_raw
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.formats import FORMATS
from nimbleq.graph.frames import Frames
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box, Dict, Discrete
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.graph.weight import Storage
from nimbleq.types import Array

OBSERVATIONS, RAW_OBSERVATIONS = 100_000, 10_000
GOLDEN = 64
COMPILED_ONLY = {processor.name for processor in PROCESSORS if processor.emulator is None}


def _linear() -> Source:
    """8 numbers → 4 actions, 4-bit weights."""
    rng = np.random.default_rng(4)
    weights: dict[str, Array] = {
        "inverse": np.full(8, 24, np.float32),
        "zero": np.full(8, 128, np.int32),
        "w": rng.integers(-7, 8, (4, 8)).astype(np.int8),
        "b": rng.integers(-500, 500, 4).astype(np.int32),
        "scale": np.full(1, 0.01, np.float32),
        "none": np.zeros(1, np.int32),
    }
    nodes = (
        Node(ops.Quantize("inverse", "zero", 8, False), ("obs",), "x"),
        Node(ops.Linear("w", "b"), ("x",), "a"),
        Node(ops.ArgMax(), ("a",), "action"),
        Node(ops.Dequantize("scale", "none"), ("a",), "q"),
    )
    graph = Graph({"obs": TensorType((8,))}, nodes, ("q", "action"), weights)
    return Source(graph.with_storage({"w": Storage(FORMATS["int4"])}))


def _given() -> Source:
    """What a Dict holds, through 8-bit integers."""
    camera, speed = Box((9, 8, 3), "float32", -1, 1, "HWC"), Box((3,), "float64", -9, 9, offset=(0.5, -4.0, 0.0))
    interface = Interface(Dict((("gear", Discrete(3, -1)), ("camera", camera), ("speed", speed))), 4, action_start=1)
    return Source(int_mlp(interface.obs.shape[0], 24, 4), interface=interface)


def _screens() -> Source:
    """What a console shows, 210 x 160 in colour, two pictures of 21 x 16 stacked."""
    interface = Interface(Box((2, 21, 16), "uint8", 0, 255, "CHW"), 3, frames=Frames())
    rng = np.random.default_rng(5)
    weights: dict[str, Array] = {
        "w0": rng.integers(-20, 21, (4, 2, 5, 5)).astype(np.int8), "b0": rng.integers(-500, 500, 4).astype(np.int32),
        "m0": np.full(4, 2**30, np.int32), "s0": np.full(4, 38, np.int32),
        "w1": rng.integers(-60, 61, (3, 4 * 9 * 6)).astype(np.int8), "b1": np.zeros(3, np.int32),
        "scale": np.full(1, 0.01, np.float32), "none": np.zeros(1, np.int32),
    }  # fmt: skip
    nodes = (
        Node(ops.Conv2d("w0", "b0", (2, 2)), ("obs",), "a0"),
        Node(ops.Requantize("m0", "s0", 0, 0, 255, 8, False), ("a0",), "h"),
        Node(ops.Flatten(), ("h",), "flat"),
        Node(ops.Linear("w1", "b1"), ("flat",), "a1"),
        Node(ops.ArgMax(), ("a1",), "action"),
        Node(ops.Dequantize("scale", "none"), ("a1",), "q"),
    )
    graph = Graph({"obs": TensorType((2, 21, 16), UINT8)}, nodes, ("q", "action"), weights)
    return Source(graph, interface=interface)


POLICIES = {
    "int8 8-16-16-4": lambda: Source(int_mlp(8, 16, 16, 4)),
    "int4 8-4": _linear,
    "int8 of a Dict": _given,
    "int8 of screens": _screens,
}


ENGINES_TOO = {"onnx": ("openvino",)}
"""Target → engines of `Runtime` that run its files, too."""
FEWER = {"int8 of screens": 10_000}
"""Policy → observations, where one takes the interpreter longer."""
OTHERWISE: dict[tuple[str, str], tuple[Any, int]] = {("verilog", "int8 of a Dict"): (VerilogOptions(reuse=64), 20_000)}
"""Target and policy → how it is written otherwise, and observations: 222 inputs are too many for adders alone."""


def cell(target: str, context: Context) -> dict[str, Any]:
    """One target, every way to run it."""
    row = TARGETS[target]
    if why := row.cannot_emit() or row.cannot_open():
        raise CellError(why)
    found: dict[str, Any] = {}
    for name, make in POLICIES.items():
        source, folder = make(), Path(context.scratch, str(len(found)))
        folder.mkdir()
        how = OTHERWISE.get((target, name), (row.options(), FEWER.get(name, OBSERVATIONS)))
        try:
            found[name] = [_numbers(one) for one in _verified(target, source, folder, context.quick, *how)]
        except UnsupportedOpError as error:
            found[name] = [{"what": f"refused: {error}", "observations": 0, "mismatches": 0, "differences": None}]
    return {"policies": found}


def _verified(
    target: str, source: Source, folder: Path, quick: bool, options: Any, observations: int
) -> list[TargetResult]:
    row, graph = TARGETS[target], source.graph
    rng, count = np.random.default_rng(0), 200 if quick else observations
    near = rng.normal(size=(GOLDEN, *graph.obs_type.shape))
    whole = (near * 60 + 128).clip(0, 255).astype(np.uint8)
    golden = make_golden(graph, whole if graph.obs_type.qtype.is_integer else near.astype(np.float32))
    files = row.emit(source, "policy", options)
    runs = dict(row.open(source, files, "policy", folder))
    for name in ENGINES_TOO.get(target, ()):
        runs[f"{target} ({name})"] = ENGINES[name].load(graph, network_interface(graph), -1)[0].run
    most = {} if row.most is None else dict.fromkeys(runs, row.most)
    rounding = () if row.exact else runs.keys()
    results = verify(graph, golden, runs, count, rounding=rounding, most=most, certified=rounding).targets
    if row.raw is None:
        return list(results)
    given = dict(row.raw(source, files, "policy", folder))
    least = min(200 if quick else RAW_OBSERVATIONS, row.most or RAW_OBSERVATIONS)
    return [*results, *verify_raw(source, given, least)] if given else list(results)


def _numbers(one: TargetResult) -> dict[str, Any]:
    return {
        "what": one.target, "observations": one.observations, "mismatches": one.mismatches,
        "differences": one.differences if one.rounds else None,
    }  # fmt: skip


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    lines = []
    for name in names:
        if not record.finished(name):
            lines += record.rows([name], lambda *_: "", 5)
            continue
        for policy, results in record.cells[name]["policies"].items():
            for one in results:
                other = "–" if one["differences"] is None else f"{one['differences']:,}"
                lines.append(
                    f"| {name} | {policy} | {one['what']} | {one['observations']:,} | {one['mismatches']} | {other} |"
                )
    return "\n".join([
        "# Every target against the interpreter", "",
        "Observations compared and mismatches: integers bit for bit. Targets that round by themselves (ExecuTorch and",
        f"LiteRT) may choose another action: those are counted beside. Random weights. {record.footnote()}", "",
        header("target", "policy", "run by", "observations", "mismatches", "other actions"), *lines, "",
    ])  # fmt: skip


def missed(record: Record) -> list[str]:
    """Mismatches."""
    return [
        f"{name}, {policy}, {one['what']}: {one['mismatches']} mismatches"
        for name, values in record.cells.items()
        for policy, results in values.get("policies", {}).items()
        for one in results
        if one["mismatches"]
    ]


CASE = Case(
    "verify_targets",
    cells=lambda _: [Cell(target, partial(cell, target), 60) for target in TARGETS if target not in COMPILED_ONLY],
    table=table,
    missed=missed,
)
