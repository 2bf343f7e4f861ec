"""One TD step, ours beside PyTorch.

Online and target forward, Huber, backward, Adam without a clip, hard target; float32, one thread, the same batches.
Every pair times the engines one after the other, so that a slow spell of the machine meets them all; each time is the
minimum over short blocks, and the ratio is the median over the pairs. ``native ×4`` is
`update_many` on 4 stacked batches.
The LayerNorm row is what the presets train: normalised observations, double, dueling, clip at 10.
Weights start at random, so about half of the activations are zero after a ReLU, which ours skips; in the ``dense`` row
biases are so high that none is. GMAC/s counts what a dense step multiplies, skipped or not. ``floor`` is the ratio
owed: eager ÷ the µs asked for, both of the machine on which the target was set (another one).
"""

from __future__ import annotations

import re
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
from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig
from nimbleq.rl.learners.native import NativeLearner
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, ObsSpec

STACKED = 4
ENGINES = ("native", f"native ×{STACKED}", "torch eager", "torch compiled")


@dataclass(frozen=True)
class Setup:
    """A network, a batch size, and what is owed.

    Attributes:
        full: all that the presets switch on, else plain DQN.
        floor: the target, as a ratio to PyTorch eager on one machine.
        dense: no activation is zero.
    """

    name: str
    obs: int
    actions: int
    hidden: tuple[int, ...]
    batch: int
    full: bool = False
    floor: float | None = None
    dense: bool = False

    def config(self) -> TrainConfig:
        """Plain DQN, or (``full``) everything that the presets switch on."""
        network = NetworkConfig(hidden=self.hidden, layer_norm=self.full, normalize_obs=self.full, dueling=self.full)
        learner = LearnerConfig(
            batch_size=self.batch, double=self.full, target="hard", loss="huber", max_grad_norm=10.0 * self.full
        )
        return TrainConfig(network=network, learner=learner)

    def macs(self) -> int:
        """Multiply-accumulates of a step: forward of s, of s' (twice when double), weight and input gradients."""
        widths = (self.obs, *self.hidden, self.actions + self.full)
        layers = [a * b for a, b in pairwise(widths)]
        return self.batch * ((3 + self.full) * sum(layers) + sum(layers[1:]))


SETUPS = (
    Setup("4-64-64-2, batch 64", 4, 2, (64, 64), 64, floor=462 / 30),
    Setup("4-120-84-2, batch 128", 4, 2, (120, 84), 128, floor=679 / 130),
    Setup("4-256-256-2, batch 64", 4, 2, (256, 256), 64, floor=967 / 330),
    Setup("4-256-256-2, batch 64, dense", 4, 2, (256, 256), 64, dense=True),
    Setup("8-256-256-4, batch 128", 8, 4, (256, 256), 128),
    Setup("8-256-256-4, batch 128, LayerNorm, dueling, double, clip", 8, 4, (256, 256), 128, full=True),
)


def batches(setup: Setup) -> Batch:
    """`STACKED` random batches."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(2, STACKED, setup.batch, setup.obs)).astype(np.float32)
    reward = rng.normal(size=(STACKED, setup.batch)).astype(np.float32)
    action = rng.integers(setup.actions, size=reward.shape)
    full = np.full_like(reward, 0.99)
    return Batch(obs[0], action, reward, full, obs[1], np.ones_like(reward), np.zeros_like(action))


def without_zeros(state: dict[str, Array]) -> dict[str, Array]:
    """A learner's state with biases that no hidden layer's ReLU cuts."""
    hidden = re.compile(r"(online|target)\.body\.(\d+)\.bias")
    raised = dict(state)
    for name in filter(hidden.fullmatch, state):
        raised[name] = state[name] + np.float32(10.0 ** (1 + int(name.split(".")[2])))
    return raised


def engines(setup: Setup) -> dict[str, Callable[[], None]]:
    """Name → `STACKED` updates."""
    torch.compiler.reset()  # else the cases share one limit of recompilations
    config, spec, stacked = setup.config(), EnvSpec(ObsSpec((setup.obs,)), setup.actions), batches(setup)
    single = [Batch._make(None if array is None else array[i] for array in stacked) for i in range(STACKED)]
    eager, compiled, native = (
        TorchLearner(config, spec, 0),
        TorchLearner(config, spec, 0),
        NativeLearner(config, spec, 0),
    )
    native.threads = torch.get_num_threads()
    compiled.online.compile()
    compiled.target.compile()
    if setup.dense:
        for learner in (eager, compiled, native):
            learner.load_arrays(without_zeros(learner.arrays()))

    def steps(learner: TorchLearner | NativeLearner) -> Callable[[], None]:
        def run() -> None:
            for batch in single:
                learner.update(batch)

        return run

    def many() -> None:
        native.update_many(stacked)

    return dict(zip(ENGINES, (steps(native), many, steps(eager), steps(compiled)), strict=True))


def step_us(run: Callable[[], None], seconds: float) -> float:
    """Fastest block of `STACKED` updates, per update."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best / STACKED * 1e6


def measure(setup: Setup, context: Context) -> dict[str, Any]:
    """Median µs of each engine and median ratios to ``native ×4``."""
    torch.set_num_threads(1)
    runs = engines(setup)
    for run in runs.values():
        run()
    seconds = 0.05 if context.quick else 0.5
    times = interleaved({name: partial(step_us, run, seconds) for name, run in runs.items()}, PAIRS)
    ours = f"native ×{STACKED}"
    medians = {name: median(values) for name, values in times.items()}
    return {
        "macs": setup.macs(),
        "gmac_per_s": setup.macs() / medians[ours] / 1e3,
        "step_us": medians,
        "ratio": {name: ratio(values, times[ours])["median"] for name, values in times.items()},
        "floor": setup.floor,
        "pairs": PAIRS,
    }


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    texts = [f"{cell['step_us'][engine]:.1f}" for engine in ENGINES] + [f"{cell['gmac_per_s']:.1f}"]
    floor = "–" if cell["floor"] is None else f"×{cell['floor']:.1f}"
    texts += [f"×{cell['ratio']['torch eager']:.1f}", floor, f"×{cell['ratio']['torch compiled']:.1f}"]
    return f"| {name} | {' | '.join(texts)} |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    columns = ("TD step", *(f"{name}, µs" for name in ENGINES), "GMAC/s", "eager ÷ ours", "floor", "compiled ÷ ours")
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    lines = ["# One TD step", "", header(*columns), *record.rows(names, row, len(columns)), "", record.footnote()]
    return "\n".join([*lines, "", about, ""])


CASE = Case("td_step", lambda _: [Cell(setup.name, partial(measure, setup), 15) for setup in SETUPS], table)
