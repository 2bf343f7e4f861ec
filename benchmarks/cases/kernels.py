"""The kernels of emitted C: number formats, compilers, inputs that are skipped, and what the processor allows.

Best medians of rounds that take turns, µs of one decision, weights random but in the cells ``trained``. Weights of
fewer than 8 bits: code with vectors unpacks them when it is written, plain C reads them packed, and multiplies ``log2``
by shifting. ``ceiling`` is what one core does at most, in registers (`ceilings.c`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.cases.sparse import taking_turns
from benchmarks.networks import int_mlp, mlp
from benchmarks.process import nimbleq
from benchmarks.record import MISSING, ROOT, Record
from benchmarks.statistics import PAIRS
from benchmarks.tables import header, owed
from nimbleq.compress.quantize.post_training import quantize
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import AVX2, ISAS, PORTABLE, isas_of_this_machine
from nimbleq.deploy.toolchain import find_compiler
from nimbleq.graph import ops
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.formats import FORMATS
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import interpret
from nimbleq.graph.weight import Storage
from nimbleq.rundir import RunDir
from nimbleq.types import Array
from nimbleq.verbs.common import load_teacher

CEILING, FORMS, TRAINED = "ceiling", "forms ", "trained "
WIDTHS = {"4-64-64-2": (4, 64, 64, 2), "8-256-256-4": (8, 256, 256, 4)}
NARROW = {"int8": 1, "int4": 16, "log2": 2, "ternary": 64}
"""Format of the weights → by how much they are smaller than those of 8 bits, a power of two."""
ROUNDS = 21


def narrowed(graph: Graph, number: str) -> Graph:
    """The integer network with weights of another format; its shifts bring the sums back to bytes."""
    less, weights, storage = NARROW[number], dict(graph.weights), {}
    for node in graph.nodes:
        if isinstance(node.op, ops.Linear):
            format_ = FORMATS[number]
            weight = format_.decode(format_.encode(weights[node.op.weight] / less)).astype(np.int8)
            weights[node.op.weight] = weight
            assert node.op.bias is not None
            first = node.inputs[0] == graph.nodes[0].output  # whose levels have a zero point of 128
            weights[node.op.bias] = (
                (-128 * weight.sum(axis=1, dtype=np.int32)) if first else weights[node.op.bias] // less
            )
            storage[node.op.weight] = Storage(format_)
        elif isinstance(node.op, ops.Requantize):
            weights[node.op.shift] = weights[node.op.shift] - int(np.log2(less))
    return replace(graph, weights=weights).with_storage(storage)


def ceiling(context: Context) -> dict[str, Any]:
    """Products and bytes a nanosecond."""
    compiler = _compiler()
    program = context.scratch / "ceilings"
    source = ROOT / "benchmarks" / "ceilings.c"
    subprocess.run([compiler, "-std=gnu11", "-O2", "-mavx2", "-mfma", str(source), "-o", str(program)], check=True)
    found = [json.loads(subprocess.run([program], capture_output=True, check=True).stdout) for _ in range(5)]
    return {"a_nanosecond": {name: max(one[name] for one in found) for name in found[0]}}


def forms(widths: tuple[int, ...], context: Context) -> dict[str, Any]:
    """One network in every format, by every compiler here."""
    _compiler()
    floats, integers = mlp(*widths), int_mlp(*widths)
    graphs = {"float32": floats, **{number: narrowed(integers, number) for number in NARROW}}
    found: dict[str, Any] = {"bytes": {name: cost(graph).size_bytes for name, graph in graphs.items()}, "us": {}}
    for compiler in (name for name in ("gcc", "clang") if shutil.which(name)):
        # float32 and integers take the same observations, so all take turns.
        texts = {
            f"{name} {isa.name}": emit_c(graph, isas=(isa,))
            for name, graph in graphs.items()
            for isa in (*isas_of_this_machine(), PORTABLE)
        }
        folder = context.scratch / compiler
        folder.mkdir()
        found["us"][compiler] = taking_turns(texts, floats, compiler, folder, PAIRS if context.quick else ROUNDS)
    return found


def trained(make: str, context: Context) -> dict[str, Any]:
    """How many inputs of hidden layers are zero on visited states, and what skipping them brings."""
    compiler, artefact = _compiler(), TEACHERS[make](context)
    graph, obs = artefact
    found: dict[str, Any] = {"us": {}, "zeros": _zeros(graph, obs)}
    for kind, one in (("float32", graph), ("int8", quantize(graph, obs))):
        texts = {name: emit_c(one, isas=(AVX2,), skips=skips) for name, skips in (("skips", True), ("all", False))}
        folder = context.scratch / kind
        folder.mkdir()
        rounds = PAIRS if context.quick else ROUNDS
        found["us"][kind] = taking_turns(texts, one, compiler, folder, rounds, obs[:64])
    return found


def _zeros(graph: Graph, obs: Array) -> list[float]:
    """Share of zeros that each layer behind a ReLU reads."""
    behind = {node.output for node in graph.nodes if isinstance(node.op, ops.Activation)}
    inside = [node.inputs[0] for node in graph.nodes if isinstance(node.op, ops.Linear) and node.inputs[0] in behind]
    watched = replace(graph, outputs=(*graph.outputs, *(name for name in inside if name not in graph.outputs)))
    answers = interpret(watched, obs[:1000])
    return [float(np.mean(answers[name] == 0)) for name in inside]


def _zoo(context: Context) -> tuple[Graph, Array]:
    artefact = load_artefact(ROOT / "zoo" / "cartpole" / "artefacts" / "teacher")
    return artefact.graph, artefact.golden.obs


def _lander(context: Context) -> tuple[Graph, Array]:
    out = context.scratch / "ll"
    nimbleq("train", "--env", "LunarLander-v3", "--preset", "wide", "--out", str(out),
            *(("--steps", "1000") if context.quick else ()))  # fmt: skip
    artefact = load_teacher(RunDir(out))
    return artefact.graph, artefact.golden.obs


TEACHERS = {"CartPole-v1 (zoo)": _zoo, "LunarLander-v3 (--preset wide)": _lander}


def _compiler() -> str:
    compiler = find_compiler()
    if compiler is None or AVX2 not in isas_of_this_machine():
        raise CellError("needs a C compiler and a processor with AVX2")
    return compiler


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    kinds = ("float32", *NARROW)

    def row(name: str, cell: dict[str, Any]) -> str:
        lines = []
        for compiler, times in cell["us"].items():
            for isa in _isas(times):
                shown = " | ".join(f"{times[f'{kind} {isa}']:.3g}" for kind in kinds)
                ratio = times[f"float32 {isa}"] / times[f"int8 {isa}"]
                lines.append(f"| {name.removeprefix(FORMS)} | {compiler}, {isa} | {shown} | {ratio:.2f} |")
        sizes = " | ".join(f"{cell['bytes'][kind]:,}" for kind in kinds)
        return "\n".join([*lines, f"| {name.removeprefix(FORMS)} | bytes | {sizes} | |"])

    def skipped(name: str, cell: dict[str, Any]) -> str:
        zeros = ", ".join(f"{100 * share:.0f} %" for share in cell["zeros"])
        shown = [f"{times['all']:.3g} / {times['skips']:.3g}: {times['all'] / times['skips']:.2f}×"
                 for times in cell["us"].values()]  # fmt: skip
        return f"| {name.removeprefix(TRAINED)} | {zeros} | {' | '.join(shown)} |"

    top = record.cells.get(CEILING, {}).get("a_nanosecond", {})
    return "\n".join([
        "# Kernels", "", f"Best medians, µs of one decision. {record.footnote()}", "",
        header("network", "by", *kinds, "float32 ÷ int8"),
        *record.rows([name for name in names if name.startswith(FORMS)], row, len(kinds) + 3), "",
        "Zeros that hidden layers read on visited states of trained networks; all inputs / zeros skipped.", "",
        header("network", "zeros by layer", "float32", "int8"),
        *record.rows([name for name in names if name.startswith(TRAINED)], skipped, 4), "",
        "What one core does at most in a nanosecond.", "",
        header("what", "a nanosecond"), *(f"| {name} | {value:.3g} |" for name, value in top.items()),
        *([] if top else [f"| {CEILING} | {MISSING} |"]), *owed(missed(record)), "",
    ])  # fmt: skip


def _isas(times: dict[str, float]) -> list[str]:
    """Names of the instruction sets that were timed; the first is the one that a file for all of them takes."""
    return [isa.name for isa in ISAS if f"int8 {isa.name}" in times]


def missed(record: Record) -> list[str]:
    """int8 slower than float, with the best that the processor has."""
    found = []
    for name, cell in record.cells.items():
        for compiler, times in cell.get("us", {}).items() if name.startswith(FORMS) else ():
            integer, real = (times[f"{kind} {_isas(times)[0]}"] for kind in ("int8", "float32"))
            if integer > real:
                found.append(f"{name}, {compiler}: int8 {integer:.3g} µs, float {real:.3g}")
    return found


CASE = Case(
    "kernels",
    cells=lambda _: [
        Cell(CEILING, ceiling, 2),
        *(Cell(FORMS + name, partial(forms, widths), 15) for name, widths in WIDTHS.items()),
        *(Cell(TRAINED + name, partial(trained, name), 60) for name in TEACHERS),
    ],
    table=table,
    missed=missed,
)
