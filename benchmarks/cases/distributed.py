"""Actors on environments that sleep: steps a second of 1 to 32 of them, beside RLlib's DQN and torchrl on Ray.

A step of an environment sleeps for d = 2, 10 or 50 ms and computes next to nothing, so that many actors fit on few
cores. Everybody learns an update of 64 transitions every 8 steps. The rates are fitted by
``T(N) = N·T₁ / (1 + σ(N − 1) + κN(N − 1))`` (Gunther 1993): σ is what only one can do at a time, κ what each does
because of each other; 95 % intervals by resampling the windows. The peers have environments of their own, whose
Python is ``NIMBLEQ_RLLIB_PYTHON`` and ``NIMBLEQ_TORCHRL_PYTHON``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.process import measure as in_process
from benchmarks.record import Record
from benchmarks.statistics import RESAMPLES, median
from benchmarks.tables import header, owed
from nimbleq.types import Array

ACTORS = (1, 2, 4, 8, 16, 32)
DELAYS_MS = ("2", "10", "50")
FLOOR = 0.85
"""Efficiency at `FLOOR_AT` that is owed."""
FLOOR_AT = (16, "10")
KILLED = "nimbleq, an actor killed every 10 s"
SYSTEMS = {
    "nimbleq": ("benchmarks.actors", sys.executable),
    "RLlib": ("benchmarks.peers.rllib_dqn", os.environ.get("NIMBLEQ_RLLIB_PYTHON", sys.executable)),
    "torchrl": ("benchmarks.peers.torchrl_ray", os.environ.get("NIMBLEQ_TORCHRL_PYTHON", sys.executable)),
}
"""Name → its program, and the Python that runs it."""


def measure(system: str, actors: int, context: Context) -> dict[str, Any]:
    """Rates of one system with so many actors."""
    module, python = SYSTEMS[system]
    how = ("--delays", "2", "--seconds", "1", "--windows", "2") if context.quick else ("--delays", *DELAYS_MS)
    return in_process("-m", module, "--actors", str(actors), *how, python=python)


def measure_kills(context: Context) -> dict[str, Any]:
    """What becomes of transitions when actors are killed."""
    seconds = "10" if context.quick else "60"
    return in_process(
        "-m", "benchmarks.actors", "--actors", "4", "--delays", "10", "--seconds", seconds, "--kill-every", "10"
    )


def cells(_: Sequence[int]) -> list[Cell]:
    """Of each system, and one with kills."""
    rates = [
        Cell(f"{system}, {actors} actors", partial(measure, system, actors), 90.0)
        for system in SYSTEMS
        for actors in ACTORS
    ]
    return [*rates, Cell(KILLED, measure_kills, 90.0)]


def fit(rates: Mapping[int, float]) -> tuple[float, float]:
    """σ and κ, neither negative, by least squares on ``N·T₁/T(N) − 1``; ``rates``: actors → steps a second."""
    counts = np.array([count for count in rates if count > 1], float)
    slowed = np.array([count * rates[1] / rates[int(count)] - 1 for count in counts])
    columns = np.stack([counts - 1, counts * (counts - 1)], axis=1)
    best: tuple[float, Array] = (float(slowed @ slowed), np.zeros(2))
    for used in ([0, 1], [0], [1]):
        found = np.zeros(2)
        found[used] = np.linalg.lstsq(columns[:, used], slowed, rcond=None)[0]
        error = float(((columns @ found - slowed) ** 2).sum())
        if (found >= 0).all() and error < best[0]:
            best = error, found
    return float(best[1][0]), float(best[1][1])


def fitted(windows: Mapping[int, Sequence[float]]) -> list[tuple[float, float, float]]:
    """Of σ and κ: the fit of the medians, and the ends of its 95 % interval."""
    rng = np.random.default_rng(0)
    found = np.array([fit({count: median(values) for count, values in windows.items()})])
    drawn = [
        fit({count: median(rng.choice(values, len(values)).tolist()) for count, values in windows.items()})
        for _ in range(RESAMPLES // 20)
    ]
    low, high = np.quantile(np.array(drawn), (0.025, 0.975), axis=0)
    return [(float(found[0][i]), float(low[i]), float(high[i])) for i in range(2)]


def windows_of(record: Record, system: str, delay: str) -> dict[int, list[float]]:
    """Actors → steps a second in each window, of what is measured."""
    names = {count: f"{system}, {count} actors" for count in ACTORS}
    return {
        count: record.cells[name]["steps_per_s"][delay]
        for count, name in names.items()
        if record.finished(name) and delay in record.cells[name]["steps_per_s"]
    }


def efficiency(record: Record, system: str, actors: int, delay: str) -> float | None:
    """``T(N) / (N·T₁)``; None while one of both is missing."""
    windows = windows_of(record, system, delay)
    if 1 not in windows or actors not in windows:
        return None
    return median(windows[actors]) / (actors * median(windows[1]))


def row(record: Record, name: str, cell: dict[str, Any]) -> str:
    """A line of the table of rates."""
    system, _, rest = name.partition(", ")
    actors, texts = int(rest.split()[0]), []
    for delay in DELAYS_MS:
        values = cell["steps_per_s"].get(delay)
        share = efficiency(record, system, actors, delay)
        texts.append("–" if not values else f"{median(values):,.0f}" + ("" if share is None else f" ({share:.2f})"))
    return "| " + " | ".join([name, *texts, f"{cell['actor_mb']:.0f}"]) + " |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    rates = [name for name in names if name != KILLED]
    columns = ("", *(f"d = {delay} ms" for delay in DELAYS_MS), "MB an actor")
    lines = ["# Actors on environments that sleep: steps a second (efficiency)", "", header(*columns)]
    lines += record.rows(rates, partial(row, record), len(columns))
    lines += ["", header("", "d", "σ (95 %)", "κ (95 %)")]
    for system in SYSTEMS:
        for delay in DELAYS_MS:
            windows = windows_of(record, system, delay)
            if 1 in windows and len(windows) > 3:
                texts = [f"{value:.2g} ({low:.2g} to {high:.2g})" for value, low, high in fitted(windows)]
                lines.append("| " + " | ".join([system, f"{delay} ms", *texts]) + " |")
    if record.finished(KILLED):
        cell = record.cells[KILLED]
        lines += [
            "",
            f"{KILLED}: {cell['kills']} kills of 4 actors, {cell['chunks']:,} chunks and {cell['steps']:,} transitions "
            f"counted, {cell['lost']} lost, {cell['doubled']} counted twice.",
        ]
    else:
        lines += ["", f"{KILLED}: {record.why(KILLED)}."]
    return "\n".join([*lines, *owed(missed(record)), "", record.footnote(), ""])


def missed(record: Record) -> list[str]:
    """The floors."""
    share = efficiency(record, "nimbleq", *FLOOR_AT)
    lines = []
    if share is not None and share < FLOOR:
        lines.append(f"efficiency of {FLOOR_AT[0]} actors at {FLOOR_AT[1]} ms is {share:.2f}, {FLOOR} is owed")
    if record.finished(KILLED) and (record.cells[KILLED]["lost"] or record.cells[KILLED]["doubled"]):
        lines.append("transitions were lost or counted twice when actors were killed")
    return lines


CASE = Case("distributed", cells, table, missed=missed)
