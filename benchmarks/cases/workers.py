"""What worker processes bring: environment steps per second.

16 environments stepped side by side, in this process and in 2 and 4 workers that take turns with it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from benchmarks.case import Case, Cell, Context
from benchmarks.record import Record
from benchmarks.statistics import PAIRS, interleaved
from benchmarks.tables import header
from nimbleq.config import EnvConfig
from nimbleq.rl.envs.vector import VectorEnv

ENVS = 16
SECONDS = 1.0


class Slow(gymnasium.Env[Any, Any]):  # type: ignore[misc]  # (gymnasium is untyped here)
    """Each step takes 1 ms: of computing, or of waiting as for a simulator elsewhere."""

    observation_space = spaces.Box(-1, 1, (8,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, wait: bool) -> None:
        self.wait = wait

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(8, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.wait:
            time.sleep(1e-3)
        else:
            end = time.thread_time() + 1e-3
            while time.thread_time() < end:
                pass
        return np.zeros(8, np.float32), 0.0, False, False, {}


def rate(envs: VectorEnv) -> float:
    """Steps per second, all environments together."""
    rng, steps, start = np.random.default_rng(0), 0, time.monotonic()
    while time.monotonic() < start + SECONDS:
        envs.step(rng.integers(envs.spec.actions, size=ENVS))
        steps += ENVS
    return steps / (time.monotonic() - start)


TASKS = {
    "1 ms of waiting": EnvConfig("benchmarks.cases.workers:Slow", kwargs=("wait=True",)),
    "1 ms of computing": EnvConfig("benchmarks.cases.workers:Slow", kwargs=("wait=False",)),
    "LunarLander-v3": EnvConfig("LunarLander-v3"),
}
WORKERS = (1, 2, 4)


def measure(name: str, context: Context) -> dict[str, Any]:
    """The best rate of each number of workers, measured in turns."""
    config = TASKS[name]
    vectors = [VectorEnv(replace(config, workers=count), ENVS, 0) for count in WORKERS]
    timers = {str(count): partial(rate, vector) for count, vector in zip(WORKERS, vectors, strict=True)}
    rates = interleaved(timers, 1 if context.quick else PAIRS)
    for vector in vectors:
        vector.close()
    return {"steps_per_s": {count: max(values) for count, values in rates.items()}}


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    return "| " + " | ".join([name, *(f"{cell['steps_per_s'][str(count)]:,.0f}" for count in WORKERS)]) + " |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    title = f"# {ENVS} environments, steps per second, best of {PAIRS} rounds of one second"
    rows = record.rows(names, row, 1 + len(WORKERS))
    head = header("environment", "in process", "2 workers", "4 workers")
    return "\n".join([title, "", head, *rows, "", record.footnote(), ""])


CASE = Case("workers", lambda _: [Cell(name, partial(measure, name), 20) for name in TASKS], table)
