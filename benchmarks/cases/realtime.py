"""Real-time properties of the emitted C beside ONNX Runtime: what a decision does besides, and how long at worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.networks import int_mlp, mlp
from benchmarks.realtime.engines import ENGINES
from benchmarks.realtime.measure import (
    CannotMeasureError,
    Program,
    allocations_and_locks,
    instructions,
    portable,
    stack,
    times,
)
from benchmarks.realtime.watch import audited, beside_a_busy_core, timed
from benchmarks.record import Record
from benchmarks.tables import header
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

NETWORKS: dict[str, Callable[[], Graph]] = {
    "4-64-64-2": lambda: mlp(4, 64, 64, 2),
    "4-64-64-2 int8": lambda: int_mlp(4, 64, 64, 2),
    "8-256-256-4": lambda: mlp(8, 256, 256, 4),
    "8-256-256-4 int8": lambda: int_mlp(8, 256, 256, 4),
}
AUDIT, WORST, INSTRUCTIONS = "besides deciding: ", "how long: ", "instructions: "
CONSTANT = "constant time"


def observations(graph: Graph, count: int) -> Array:
    """Random ``obs[count, *O]``."""
    return np.random.default_rng(1).normal(size=(count, *graph.obs_type.shape)).astype(np.float32)


def _in_c(name: str, context: Context) -> dict[str, Any]:
    graph, decisions = NETWORKS[name](), 100_000 if context.quick else 1_000_000
    program = Program.build(graph, observations(graph, 64), context.scratch)
    allocations, locks = allocations_and_locks(program, decisions)
    found = stack(program)
    return {
        "decisions": decisions, "allocations": allocations, "locks": locks, "system_calls": 0,
        "stack_bytes": found.act, "workspace_bytes": found.claimed, "static_bytes": found.static,
        "bounded": found.bounded,
    }  # fmt: skip


def _in_python(engine: str, context: Context) -> dict[str, Any]:
    decisions = 20_000 if context.quick else 1_000_000
    return {"decisions": decisions, **_measured(audited, engine, decisions, context.scratch)}


def _measured(measure: Callable[..., Any], *words: Any) -> Any:
    try:
        return measure(*words)
    except CannotMeasureError as error:
        raise CellError(str(error)) from None


def _instructions(name: str, context: Context) -> dict[str, Any]:
    graph, count = NETWORKS[name](), 500 if context.quick else 10_000
    obs, found = observations(graph, count), {}
    constant = partial(Program.build, skips=False)
    for what, build in (("portable", portable), ("vectors", Program.build), (CONSTANT, constant)):
        folder = Path(context.scratch, what)
        folder.mkdir()
        counts = _measured(instructions, build(graph, obs, folder))
        found[what] = {"least": int(counts.min()), "most": int(counts.max()), "values": len(np.unique(counts))}
    return {"inputs": count, **found}


def _worst(name: str, context: Context) -> dict[str, Any]:
    graph, decisions = NETWORKS[name](), 20_000 if context.quick else 1_000_000
    program = Program.build(graph, observations(graph, 64), context.scratch)
    with beside_a_busy_core() as busy:
        pairs = [times(program, decisions // 5) for _ in range(5)]
        ort = _measured(timed, "onnxruntime, bound", decisions // 10) if name == "4-64-64-2" else None
    act, empty = (np.concatenate(part) for part in zip(*pairs, strict=True))
    rows = {"nimbleq-c": act, "empty loop": empty, **({} if ort is None else {"onnxruntime": ort})}
    return {"decisions": decisions, "other_core_busy": busy, "rows": {key: _tail(row) for key, row in rows.items()}}


def _tail(nanoseconds: Array) -> dict[str, float]:
    p50, p99, p999 = (float(np.percentile(nanoseconds, share)) / 1e3 for share in (50, 99, 99.9))
    return {"p50_us": p50, "p99_us": p99, "p999_us": p999, "ratio": p999 / p50}


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""

    def per_decision(cell: dict[str, Any], what: str) -> str:
        return "0" if cell[what] == 0 else f"{cell[what] / cell['decisions']:.3g}"

    def audit(name: str, cell: dict[str, Any]) -> str:
        counts = " | ".join(per_decision(cell, what) for what in ("allocations", "system_calls", "locks"))
        memory = "–"
        if "stack_bytes" in cell:
            kind = "" if cell["bounded"] else ", not bounded"
            memory = f"{cell['stack_bytes']}{kind} / {cell['static_bytes']} ({cell['workspace_bytes']} claimed)"
        return f"| {name.removeprefix(AUDIT)} | {cell['decisions']:,} | {counts} | {memory} |"

    def count(name: str, cell: dict[str, Any]) -> str:
        ranges = []
        for what in ("portable", "vectors", CONSTANT):
            if what not in cell:
                ranges.append("–")
                continue
            low, high = cell[what]["least"], cell[what]["most"]
            ranges.append(f"{low:,}" if low == high else f"{low:,} … {high:,} ({100 * (high - low) / high:.2g} %)")
        return f"| {name.removeprefix(INSTRUCTIONS)} | {cell['inputs']:,} | {' | '.join(ranges)} |"

    def worst(name: str, cell: dict[str, Any]) -> str:
        rows = cell["rows"]
        texts = [
            f"{rows[key]['p50_us']:.3g} / {rows[key]['p999_us']:.3g}: {rows[key]['ratio']:.2f}" if key in rows else "–"
            for key in ("nimbleq-c", "empty loop", "onnxruntime")
        ]
        return f"| {name.removeprefix(WORST)} | {' | '.join(texts)} |"

    def of(kind: str) -> list[str]:
        return [name for name in names if name.startswith(kind)]

    return "\n".join([
        "# Real-time properties", "", record.footnote(), "",
        "What one decision does besides deciding; stack and static bytes by the compiler's report, beside what the "
        "header claims.", "",
        header("engine", "decisions", "allocations", "system calls", "locks", "stack / static bytes"),
        *record.rows(of(AUDIT), audit, 6), "",
        "Instructions of one decision over all inputs, counted by QEMU, the loop around it included.", "",
        header("network", "inputs", "portable C", "with vectors (skips zeros)", "with vectors, constant time"),
        *record.rows(of(INSTRUCTIONS), count, 5), "",
        "p50 / p99.9 in µs and their ratio, the other core busy; the empty loop is as long as the decision and takes "
        "turns with it.", "",
        header("network", "nimbleq-c", "empty loop", "onnxruntime, bound"), *record.rows(of(WORST), worst, 4), "",
    ])  # fmt: skip


def missed(record: Record) -> list[str]:
    """What a decision in C or by `Runtime.act` may not do, and what constant time is."""
    found = []
    for name, cell in record.cells.items():
        counted = cell.get(CONSTANT)
        if counted and counted["least"] != counted["most"]:
            found.append(f"{name}: {counted['least']} to {counted['most']} instructions with --c.constant-time")
        ours = name.startswith(AUDIT) and "onnxruntime" not in name and "error" not in cell
        if ours and any(cell[what] for what in ("allocations", "locks", "system_calls")):
            found.append(f"{name}: allocates, locks or calls the system")
    return found


CASE = Case(
    "realtime",
    cells=lambda _: [
        *(Cell(AUDIT + name, partial(_in_c, name), 5) for name in NETWORKS),
        *(Cell(AUDIT + engine, partial(_in_python, engine), 20) for engine in ENGINES),
        *(Cell(INSTRUCTIONS + name, partial(_instructions, name), 30) for name in NETWORKS),
        *(Cell(WORST + name, partial(_worst, name), 20) for name in NETWORKS),
    ],
    table=table,
    missed=missed,
)
