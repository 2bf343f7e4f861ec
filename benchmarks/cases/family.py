"""Every preset learns.

Each row is one ``nimbleq train --json`` in a process of its own, with the preset as it is. No run is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from benchmarks.case import Case, Cell, Context
from benchmarks.process import nimbleq
from benchmarks.record import Record
from benchmarks.tables import header

HEADER = (
    header("environment", "preset", "seed", "asked", "return (95 % interval)", "met", "steps", "training", "learner")
    + "\n"
)
FAMILY = ("nature", "double-dueling", "prioritized", "rainbow", "qr", "iqn", "munchausen", "pqn", "btr")


class Task(NamedTuple):
    """Train ``preset`` on ``env``; ``asked`` is the mean return that 100 greedy episodes should reach."""

    env: str
    preset: str
    seed: int
    asked: float

    @property
    def name(self) -> str:
        """Of its cell."""
        return f"{self.env} {self.preset} seed{self.seed}"


def tasks(seeds: Sequence[int]) -> list[Task]:
    """Those of a seed before those of the next, so that a stopped benchmark has met all presets."""
    every = [Task("CartPole-v1", preset, seed, 475.0) for seed in seeds for preset in FAMILY]
    others = [
        Task(env, preset, seed, asked)
        for seed in seeds
        for env, preset, asked in (
            ("Acrobot-v1", "dqn", -100.0),
            ("MountainCar-v0", "dqn", -120.0),
            ("LunarLander-v3", "pqn", 200.0),
        )
    ]
    return [*every, *others, Task("LunarLander-v3", "rainbow", seeds[0], 200.0)]


def measure(task: Task, context: Context) -> dict[str, Any]:
    """One run: what it says."""
    words = (
        "--env",
        task.env,
        "--preset",
        task.preset,
        "--seed",
        str(task.seed),
        "--out",
        str(context.scratch / "run"),
    )
    result = nimbleq("train", *words, *(("--steps", "1000") if context.quick else ()))
    return {**task._asdict(), **{name: value for name, value in result.items() if name != "run"}}


def row(_: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    first = f"| {result['env']} | {result['preset']} | {result['seed']} | {result['asked']:g} "
    low, high = result["return_ci95"]
    met = "yes" if result["return_mean"] >= result["asked"] else "NO"
    return first + (
        f"| {result['return_mean']:.1f} ({low:.1f} to {high:.1f}) | {met} | {result['steps']:,} "
        f"| {result['train_seconds']:.1f} s | {result['learner']} |"
    )


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return HEADER + "\n".join([*record.rows(names, row, 9), "", record.footnote(), ""])


CASE = Case(
    "family",
    cells=lambda seeds: [Cell(task.name, partial(measure, task), 30) for task in tasks(seeds)],
    table=table,
    seeds=(0, 1, 2),
)
