"""One TD step, ours beside PyTorch: ``python -m benchmarks.td_step`` → ``results/td_step.{md,json}``.

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

import argparse
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import stamp
from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig
from nimbleq.rl.learners.learner import TorchLearner
from nimbleq.rl.learners.native import NativeLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, ObsSpec

RESULTS = Path(__file__).parent / "results"
STACKED = 4


@dataclass(frozen=True)
class Case:
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


CASES = (
    Case("4-64-64-2, batch 64", 4, 2, (64, 64), 64, floor=462 / 30),
    Case("4-120-84-2, batch 128", 4, 2, (120, 84), 128, floor=679 / 130),
    Case("4-256-256-2, batch 64", 4, 2, (256, 256), 64, floor=967 / 330),
    Case("4-256-256-2, batch 64, dense", 4, 2, (256, 256), 64, dense=True),
    Case("8-256-256-4, batch 128", 8, 4, (256, 256), 128),
    Case("8-256-256-4, batch 128, LayerNorm, dueling, double, clip", 8, 4, (256, 256), 128, full=True),
)


def batches(case: Case) -> Batch:
    """`STACKED` random batches."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(2, STACKED, case.batch, case.obs)).astype(np.float32)
    reward = rng.normal(size=(STACKED, case.batch)).astype(np.float32)
    action = rng.integers(case.actions, size=reward.shape)
    full = np.full_like(reward, 0.99)
    return Batch(obs[0], action, reward, full, obs[1], np.ones_like(reward), np.zeros_like(action))


def without_zeros(state: dict[str, Array]) -> dict[str, Array]:
    """A learner's state with biases that no hidden layer's ReLU cuts."""
    hidden = re.compile(r"(online|target)\.body\.(\d+)\.bias")
    raised = dict(state)
    for name in filter(hidden.fullmatch, state):
        raised[name] = state[name] + np.float32(10.0 ** (1 + int(name.split(".")[2])))
    return raised


def engines(case: Case) -> dict[str, Callable[[], None]]:
    """Name → `STACKED` updates."""
    torch.compiler.reset()  # else the cases share one limit of recompilations
    config, spec, stacked = case.config(), EnvSpec(ObsSpec((case.obs,)), case.actions), batches(case)
    single = [Batch._make(None if array is None else array[i] for array in stacked) for i in range(STACKED)]
    eager, compiled, native = (
        TorchLearner(config, spec, 0),
        TorchLearner(config, spec, 0),
        NativeLearner(config, spec, 0),
    )
    compiled.online.compile()
    compiled.target.compile()
    if case.dense:
        for learner in (eager, compiled, native):
            learner.load_arrays(without_zeros(learner.arrays()))

    def steps(learner: TorchLearner | NativeLearner) -> Callable[[], None]:
        def run() -> None:
            for batch in single:
                learner.update(batch)

        return run

    def many() -> None:
        native.update_many(stacked)

    return {
        "native": steps(native),
        f"native ×{STACKED}": many,
        "torch eager": steps(eager),
        "torch compiled": steps(compiled),
    }


def step_us(run: Callable[[], None], seconds: float) -> float:
    """Fastest block of `STACKED` updates, per update."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best / STACKED * 1e6


def measure(case: Case, pairs: int, seconds: float) -> dict[str, Any]:
    """Median µs of each engine and median ratios to ``native ×16``."""
    runs = engines(case)
    for run in runs.values():
        run()
    rounds = [{name: step_us(run, seconds) for name, run in runs.items()} for _ in range(pairs)]
    medians = {name: statistics.median(r[name] for r in rounds) for name in runs}
    ours = f"native ×{STACKED}"
    ratios = {name: statistics.median(r[name] / r[ours] for r in rounds) for name in runs}
    return {
        "case": case.name,
        "macs": case.macs(),
        "gmac_per_s": case.macs() / medians[ours] / 1e3,
        "step_us": medians,
        "ratio": ratios,
        "floor": case.floor,
        "pairs": pairs,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    names = list(rows[0]["step_us"])
    columns = ["TD step", *(f"{name}, µs" for name in names), "GMAC/s", "eager ÷ ours", "floor", "compiled ÷ ours"]
    lines = ["| " + " | ".join(columns) + " |\n", "|---" * len(columns) + "|\n"]
    for row in rows:
        cells = [f"{row['step_us'][name]:.1f}" for name in names] + [f"{row['gmac_per_s']:.1f}"]
        floor = "–" if row["floor"] is None else f"×{row['floor']:.1f}"
        cells += [f"×{row['ratio']['torch eager']:.1f}", floor, f"×{row['ratio']['torch compiled']:.1f}"]
        lines.append(f"| {row['case']} | " + " | ".join(cells) + " |\n")
    return "".join(lines)


def main() -> None:
    """Measure all cases; write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="per engine and pair")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for case in CASES:
        rows.append(measure(case, args.pairs, args.seconds))
        load = os.getloadavg()[0]
        note = f"{platform.machine()}, torch {torch.__version__}, load {load:.1f}, {args.pairs} pairs; {__doc__}"
        (args.out / "td_step.json").write_text(
            json.dumps({"rows": rows, "load": load, "stamp": stamp()}, indent=1) + "\n"
        )
        (args.out / "td_step.md").write_text(f"{table(rows)}\n{note}")
        print(table(rows[-1:]), flush=True)


if __name__ == "__main__":
    main()
