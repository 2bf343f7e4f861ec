"""A TD step of a network that is sparse from the start, ours beside PyTorch.

Plain DQN (Huber, Adam without a clip, hard target), float32, one thread, the same batches; four fifths of the weights
are 0. A block is as many updates as lie between two moves of dynamic masks, so it has one move. Every pair times
the engines one after the other; a time is the processor's, of a block, by its updates. Both engines multiply the zeros
as any other weight: what is saved is the bytes and the time of the policy, not of its training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.td_step import STACKED, Setup, batches
from benchmarks.record import Record
from benchmarks.statistics import PAIRS, interleaved, median, ratio
from benchmarks.tables import header
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
MODES: dict[str, dict[str, Any]] = {
    "dense": {},
    "static": {"network.sparsity": 0.8},
    "dynamic": {"network.sparsity": 0.8, "network.sparsity_mode": "dynamic"},
}
ENGINES: dict[str, Callable[..., NativeLearner | TorchLearner]] = {"native": NativeLearner, "torch": TorchLearner}


def block(learner: NativeLearner | TorchLearner, inputs: Sequence[Batch], updates: int) -> float:
    """Microseconds of processor time per update."""
    start = time.process_time()
    for update in range(updates):
        learner.update(inputs[update % len(inputs)])
    return (time.process_time() - start) / updates * 1e6


def measure(setup: Setup, mode: str, context: Context) -> dict[str, Any]:
    """Medians of both engines and of their ratios."""
    torch.set_num_threads(1)
    config, spec, stacked = (
        with_changes(setup.config(), MODES[mode]),
        EnvSpec(ObsSpec((setup.obs,)), setup.actions),
        batches(setup),
    )
    inputs = [Batch._make(None if array is None else array[i] for array in stacked) for i in range(STACKED)]
    learners = {name: make(config, spec, 0) for name, make in ENGINES.items()}
    for learner in learners.values():
        learner.update(inputs[0])
    updates = 10 if context.quick else EVERY
    times = interleaved({name: partial(block, learner, inputs, updates) for name, learner in learners.items()}, PAIRS)
    return {
        "step_us": {name: median(values) for name, values in times.items()},
        "ratio": ratio(times["torch"], times["native"])["median"],
        "pairs": PAIRS,
        "updates": updates,
    }


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    return f"| {name} | {cell['step_us']['native']:.1f} | {cell['step_us']['torch']:.1f} | ×{cell['ratio']:.1f} |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    columns = ("TD step", "native, µs", "torch eager, µs", "torch ÷ native")
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    lines = ["# One TD step of a sparse network", "", header(*columns), *record.rows(names, row, len(columns))]
    return "\n".join([*lines, "", record.footnote(), "", about, ""])


CASE = Case(
    "sparse_step",
    lambda _: [Cell(f"{setup.name}, {mode}", partial(measure, setup, mode), 8) for setup in NETWORKS for mode in MODES],
    table,
)
