"""The engine ``device`` on a CUDA device: the parts of ``python -m benchmarks.gpu``, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import process
from benchmarks.case import Case, Cell, Context
from benchmarks.record import ROOT, Record
from benchmarks.tables import header, number
from nimbleq.files import read_json

PARTS = {"graph": "graph", "speed": "speed", "learn-pong": "learn"}
"""Cell → part."""


def measure(name: str, context: Context) -> dict[str, Any]:
    """What the part writes. ``learn`` goes on where it stopped, in the run directory of the checkout."""
    out = ROOT if PARTS[name] == "learn" and not context.quick else context.scratch
    words = ("-m", "benchmarks.gpu", PARTS[name], "--out", str(out), *(("--smoke",) if context.quick else ()))
    process.measure(*words, accepted=(0, 1))  # 1: what is asked does not hold (yet)
    result: dict[str, Any] = read_json(out / "benchmarks" / "results" / f"gpu-{name}.json")
    result.pop("stamp")
    return result


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    return f"| {name} | {cell['machine']} | {FIGURES[name](cell)} |"


def _graph(cell: dict[str, Any]) -> str:
    apart = {f"{row['head']} {row['precision']}": row["largest_difference"] for row in cell["rows"]}
    worst = max(apart, key=lambda name: apart[name])
    verdict = "agree" if cell["agrees"] else "DIFFER"
    return (
        f"recorded and eager {verdict} after {cell['updates']} updates: largest difference of a weight "
        f"{apart[worst]:.2g} ({worst}), {cell['tolerance']:g} allowed in float32"
    )


def _speed(cell: dict[str, Any]) -> str:
    ours, times = cell["nimbleq"], cell["times_the_peer"]
    return (
        f"{number(ours['train_steps_per_s'])} steps/s, {number(ours['samples_per_s'])} samples/s, training ÷ random "
        f"steps {number(ours['ratio'])}; ×{number(times['train_steps_per_s'])} the steps and "
        f"×{number(times['samples_per_s'])} the samples of CleanRL's recipe"
    )


def _learn(cell: dict[str, Any]) -> str:
    if not cell["finished"]:
        counters = cell["counters"]
        steps, seconds = f"{counters['steps']:,}", number(counters["seconds"])
        best = f"best greedy return {counters['best_return']:.1f} after {counters['best_steps']:,}"
        return f"not solved: {steps} steps in {seconds} s, stopped by the time limit; {best}"
    verdict = "solved" if cell["solved"] else "not solved"
    seconds = number(cell["train_seconds"])
    return f"{verdict}: return {cell['return_mean']:.1f} after {cell['steps']:,} steps in {seconds} s"


FIGURES = {"graph": _graph, "speed": _speed, "learn-pong": _learn}


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    head = header("part", "device", "result")
    lines = ["# On a CUDA device", "", head, *record.rows(names, row, 3), "", record.footnote(), ""]
    return "\n".join(lines)


CASE = Case("gpu", lambda _: [Cell(name, partial(measure, name), 400) for name in PARTS], table)
