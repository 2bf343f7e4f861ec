"""A TD step with each option of the DQN family, ours beside PyTorch.

Plain DQN (Huber, Adam without a clip, hard target) and what the row says; float32, one thread, the same batches. Every
pair times the engines one after the other; a time is the processor's, of a block, by its updates. ``rainbow`` is c51,
noisy, dueling and double. Of sparse networks four fifths of the weights are 0: both engines multiply them as any other
weight, what is saved is the bytes and the time of the policy. A block of ``dynamic`` has one move of its masks, as many
updates as lie between two. ``floor`` is the ratio owed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.td_step import STACKED, Setup, batches
from benchmarks.record import Record
from benchmarks.statistics import PAIRS, interleaved, median, ratio
from benchmarks.tables import header, owed
from nimbleq.config import with_changes
from nimbleq.rl.learners.native import NativeLearner
from nimbleq.rl.learners.sparse_masks import EVERY
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Batch, ObsSpec

NETWORKS = (
    Setup("4-64-64-2, batch 64", 4, 2, (64, 64), 64),
    Setup("8-256-256-4, batch 128", 8, 4, (256, 256), 128),
)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "c51": {"network.head": "c51"},
    "qr": {"network.head": "qr"},
    "hl-gauss": {"network.head": "hl-gauss"},
    "munchausen": {"learner.munchausen": True},
    "noisy": {"network.noisy": True},
    "rainbow": {
        "network.head": "c51", "network.noisy": True, "network.dueling": True, "learner.double": True,
    },
    "spectral": {"network.spectral_norm": True},
    "sparse": {"network.sparsity": 0.8},
    "sparse, dynamic": {"network.sparsity": 0.8, "network.sparsity_mode": "dynamic"},
}  # fmt: skip
FLOORS = dict.fromkeys(("c51", "qr", "munchausen", "noisy"), 5.0)
UPDATES = 100
ENGINES = ("native", "torch")


def block(learner: NativeLearner | TorchLearner, inputs: Sequence[Batch], updates: int) -> float:
    """Microseconds of processor time per update."""
    start = time.process_time()
    for update in range(updates):
        learner.update(inputs[update % len(inputs)])
    return (time.process_time() - start) / updates * 1e6


def measure(setup: Setup, option: str, context: Context) -> dict[str, Any]:
    """Medians of both engines and of their ratios."""
    torch.set_num_threads(1)
    config, stacked = with_changes(setup.config(), OPTIONS[option]), batches(setup)
    spec = EnvSpec(ObsSpec((setup.obs,)), setup.actions)
    inputs = [Batch._make(None if array is None else array[i] for array in stacked) for i in range(STACKED)]
    native = NativeLearner(config, spec, 0)
    native.threads = torch.get_num_threads()
    learners: dict[str, NativeLearner | TorchLearner] = {"native": native, "torch": TorchLearner(config, spec, 0)}
    for learner in learners.values():
        learner.update(inputs[0])
    usual = EVERY if config.network.sparsity_mode == "dynamic" else UPDATES
    updates = 10 if context.quick else usual
    times = interleaved({name: partial(block, learner, inputs, updates) for name, learner in learners.items()}, PAIRS)
    return {
        "step_us": {name: median(values) for name, values in times.items()},
        "ratio": ratio(times["torch"], times["native"])["median"],
        "pairs": PAIRS,
        "updates": updates,
        "floor": FLOORS.get(option),
    }


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    floor = "–" if cell["floor"] is None else f"×{cell['floor']:.0f}"
    times = " | ".join(f"{cell['step_us'][engine]:.1f}" for engine in ENGINES)
    return f"| {name} | {times} | ×{cell['ratio']:.1f} | {floor} |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    columns = ("TD step", "native, µs", "torch eager, µs", "torch ÷ native", "floor")
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    lines = ["# One TD step of the family", "", header(*columns), *record.rows(names, row, len(columns))]
    return "\n".join([*lines, *owed(missed(record)), "", record.footnote(), "", about, ""])


def missed(record: Record) -> list[str]:
    """Floors that are not met."""
    return [
        f"{name}: ×{cell['ratio']:.1f}, ×{cell['floor']:.0f} owed"
        for name, cell in record.cells.items()
        if cell["floor"] is not None and cell["ratio"] < cell["floor"]
    ]


CASE = Case(
    "family_step",
    lambda _: [
        Cell(f"{setup.name}, {option}", partial(measure, setup, option), 8) for setup in NETWORKS for option in OPTIONS
    ],
    table,
    missed=missed,
)
