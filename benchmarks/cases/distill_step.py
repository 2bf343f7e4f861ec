"""One gradient step of distillation, ours beside PyTorch.

KL + Huber, backward, Adam; float32, one thread, batches of 512 drawn from 24,000 labelled states; the same fit in both
engines, its start included. Every pair times the engines one after the other, so that a slow spell of the machine meets
them all; each time is the minimum over short fits, and the ratio is the median over the pairs.
GMAC/s counts the multiply-accumulates of the layers: forward, weight gradients, gradients of hidden layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.record import Record
from benchmarks.statistics import PAIRS, interleaved, median, ratio
from benchmarks.tables import header
from nimbleq.compress.passes.fit_native import native_fit
from nimbleq.compress.passes.fit_torch import torch_fit
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import Targets, make_targets
from nimbleq.compress.states import States, q_values
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import TensorType

UPDATES = {"native": 100, "torch": 20}
"""Of one timed fit."""
STATES = 24_000
CONFIG = DistillConfig()


@dataclass(frozen=True)
class Setup:
    """A student for 8 features and 4 actions.

    Attributes:
        floor_us: the µs asked for, on a machine where PyTorch takes 1,000.
    """

    hidden: tuple[int, ...]
    floor_us: float | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        return (8, *self.hidden, 4)

    @property
    def name(self) -> str:
        return "-".join(map(str, self.widths))

    def macs(self) -> int:
        """Of one update."""
        layers = [a * b for a, b in pairwise(self.widths)]
        return CONFIG.batch_size * (2 * sum(layers) + sum(layers[1:]))


SETUPS = (Setup(()), Setup((16, 16)), Setup((24, 24), 25.0), Setup((64, 64)))


def task(setup: Setup) -> tuple[Graph, Targets]:
    """A fresh student, and a random teacher's values on random states."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((STATES, 8)).astype(np.float32)
    teacher, student = (mlp_student(TensorType((8,)), hidden, 4, obs, rng) for hidden in ((64, 64), setup.hidden))
    q, half = q_values(teacher, obs), STATES // 2
    parts = [Labelled(States(obs[rows]), q[rows]) for rows in (slice(half), slice(half, None))]
    return student, make_targets(parts, CONFIG)


def step_us(run: Callable[[int], Any], updates: int, seconds: float) -> float:
    """Fastest fit, per update, without what a fit of no updates takes."""
    best, start_up, end = float("inf"), float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        first = time.perf_counter()
        run(0)
        second = time.perf_counter()
        run(updates)
        best, start_up = min(best, time.perf_counter() - second), min(start_up, second - first)
    return (best - start_up) / updates * 1e6


def measure(setup: Setup, context: Context) -> dict[str, Any]:
    """Median µs of each engine and the median ratio."""
    student, targets = task(setup)
    fits = {"native": native_fit, "torch": torch_fit}

    def run(name: str, updates: int) -> Graph:
        return fits[name](student, targets, CONFIG, updates, 1e-3, 0)

    seconds = 0.05 if context.quick else 1.0
    runs = {name: partial(step_us, partial(run, name), UPDATES[name], seconds) for name in fits}
    times = interleaved(runs, PAIRS)
    medians = {name: median(values) for name, values in times.items()}
    return {
        "macs": setup.macs(),
        "gmac_per_s": setup.macs() / medians["native"] / 1e3,
        "step_us": medians,
        "ratio": ratio(times["torch"], times["native"])["median"],
        "floor_us": setup.floor_us,
        "pairs": PAIRS,
    }


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    texts = [f"{cell['step_us'][engine]:.1f}" for engine in UPDATES] + [f"{cell['gmac_per_s']:.1f}"]
    floor = "–" if cell["floor_us"] is None else f"{cell['floor_us']:g}"
    return f"| {name} | {' | '.join([*texts, floor])} | ×{cell['ratio']:.1f} |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    columns = ("student", *(f"{name}, µs" for name in UPDATES), "GMAC/s", "asked for, µs", "torch ÷ native")
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    lines = ["# One step of distillation", "", header(*columns), *record.rows(names, row, len(columns))]
    return "\n".join([*lines, "", record.footnote(), "", about, ""])


CASE = Case("distill_step", lambda _: [Cell(setup.name, partial(measure, setup), 12) for setup in SETUPS], table)
