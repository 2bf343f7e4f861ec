"""High-frequency trading (``examples/order_book.py``): what a race earns by the time that a decision takes.

One policy is trained for decisions after 1 µs and meets every latency; others are trained for the latency that they
meet. The picture marks how long the first one takes on this machine in C, ONNX Runtime and PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.parts import compressed, into_docs, trained
from benchmarks.cases.domains.race_plot import write_plot
from benchmarks.process import inline
from benchmarks.record import Record
from benchmarks.tables import header, number
from examples import order_book
from nimbleq.deploy.runtime import Runtime
from nimbleq.rundir import RunDir

LATENCIES_US = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
OWN_US = (10.0, 30.0, 100.0)
STEPS, RACES = 60_000, 10_000
ENGINES = ("nimbleq-c", "nimbleq-python", "onnxruntime", "torch")
FAST = "trained for 1 µs"
HEADER = header("decision after", f"policy {FAST}: ticks a race", "policy trained for that time")


def policy_for(latency_us: float, context: Context) -> tuple[RunDir, Runtime]:
    """The run and the small policy for a latency."""
    name, steps = ("quick-race", 2_000) if context.quick else (f"race-{latency_us:g}us", STEPS)
    run, _ = trained(name, *order_book.TRAIN, "--env-kwargs", f"latency_us={latency_us}", "--steps", steps)
    made = compressed(run, "--keep", 0.9, "--recipe", "distill", "--select-episodes", 300)
    return run, Runtime(made["artefact"])


def values(policy: Runtime, latency_us: float, context: Context) -> dict[str, float]:
    """What it earns, JSON values."""
    return order_book.earned(policy.act, latency_us, 500 if context.quick else RACES)._asdict()


def fast(context: Context) -> dict[str, Any]:
    """One policy at every latency, and its own latency in each engine."""
    run, policy = policy_for(1.0, context)
    curve = [{"latency_us": latency, **values(policy, latency, context)} for latency in LATENCIES_US]
    rows = inline("bench", run.path, "--rounds", 3, "--flash", "cortex-m4")["rows"]
    engines = {f"{row['engine']}, {row['what']}": row["p50_us"] for row in rows if row["engine"] in ENGINES}
    marks = [{"engine": name, "latency_us": time, **values(policy, time, context)} for name, time in engines.items()]
    return {"curve": curve, "engines": marks}


def own(latency_us: float, context: Context) -> dict[str, Any]:
    """A policy that was trained for the latency it meets."""
    return {"latency_us": latency_us, **values(policy_for(latency_us, context)[1], latency_us, context)}


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The curve, then the policies trained for one latency each."""
    return [Cell(FAST, fast, 60), *(Cell(name_of(time), partial(own, time), 40) for time in OWN_US)]


def name_of(latency_us: float) -> str:
    """Of a cell."""
    return f"trained for {latency_us:g} µs"


def earned_text(values: dict[str, Any]) -> str:
    """Mean ± two standard errors."""
    return f"{values['mean']:+.3f} ± {2 * values['deviation']:.3f}"


def short(record: Record) -> str:
    """The table alone."""
    if not record.finished(FAST):
        return "\n".join([HEADER, *record.rows(CASE.names(record), lambda *_: "", 3)])
    lines = [HEADER]
    for point in record.cells[FAST]["curve"]:
        name = name_of(point["latency_us"])
        known = point["latency_us"] in OWN_US and record.finished(name)
        other = earned_text(record.cells[name]) if known else ""
        lines.append(f"| {point['latency_us']:g} µs | {earned_text(point)} | {other} |")
    for mark in record.cells[FAST]["engines"]:
        lines.append(f"| {number(mark['latency_us'])} µs: {mark['engine']} here | {earned_text(mark)} | |")
    return "\n".join(lines)


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return f"{short(record)}\n\n{record.footnote()}\n"


def draw(record: Record, results: Path) -> None:
    """The picture, and the page."""
    if record.finished(FAST):
        others = [record.cells[name_of(time)] for time in OWN_US if record.finished(name_of(time))]
        write_plot(record.cells[FAST], others, results / "order_book.svg")
    into_docs("order_book", "trading", short)(record, results)


CASE = Case("order_book", cells, table, draw=draw)
