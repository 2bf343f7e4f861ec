"""One gradient step of distillation, ours beside PyTorch.

KL + Huber, backward, Adam; float32, one thread, batches of 512 drawn from 24,000 labelled states. Every pair times the
engines one after the other, so that a slow spell of the machine meets them all; each time is the minimum over blocks of
updates, and the ratio is the median over the pairs. On a loaded machine PyTorch, whose blocks are longer, loses more.
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
import torch

from benchmarks.case import Case, Cell, Context
from benchmarks.record import Record
from benchmarks.statistics import PAIRS, interleaved, median, ratio
from benchmarks.tables import header
from nimbleq.bridge.torch_graph import to_module
from nimbleq.compress.passes.chain import Chain, as_chain
from nimbleq.compress.passes.fit_native import NativeStudent, extension
from nimbleq.compress.passes.fit_torch import train
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import Targets, make_targets, share_of
from nimbleq.compress.states import States, q_values
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import TensorType

UPDATES = {"native": 5, "torch": 20}
"""Of one timed block: PyTorch makes an optimizer for each."""
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


def engines(setup: Setup) -> dict[str, Callable[[], object]]:
    """Name → a block of updates."""
    student, targets = task(setup)
    core, chain = extension(), as_chain(student)
    assert core is not None
    assert isinstance(chain, Chain)
    net = NativeStudent(core, student, chain, 0.0)
    run = partial(
        net.core.train, net.inputs(targets.obs), net.targets(targets), targets.sizes, UPDATES["native"],
        seed=0, share=share_of(targets.sizes, CONFIG), total=1_000_000, frozen_from=1_000_000, lr=1e-3,
        temperature=targets.temperature, advantage_weight=CONFIG.advantage_weight,
    )  # fmt: skip
    module = to_module(student)
    parameters = list(module.parameters())
    return {
        "native": run,
        "torch": partial(train, student, module, parameters, targets, CONFIG, UPDATES["torch"], 1e-3, 0),
    }


def step_us(run: Callable[[], object], updates: int, seconds: float) -> float:
    """Fastest block, per update."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best / updates * 1e6


def measure(setup: Setup, context: Context) -> dict[str, Any]:
    """Median µs of each engine and the median ratio."""
    torch.set_num_threads(1)
    runs = engines(setup)
    for run in runs.values():
        run()
    seconds = 0.05 if context.quick else 0.5
    times = interleaved({name: partial(step_us, run, UPDATES[name], seconds) for name, run in runs.items()}, PAIRS)
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
