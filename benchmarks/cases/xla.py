"""PQN on CartPole in PyTorch, in JAX fed from the host, and in JAX as one program: the same learning result.

Each row is one ``nimbleq train --json`` in a process of its own; the return is of 100 greedy episodes of Gymnasium's
environment, whatever was trained on. The last row needs gymnax (docs/tpu.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.case import Case, Cell, Context
from benchmarks.process import nimbleq
from benchmarks.record import Record
from benchmarks.tables import header

HEADER = header("engine", "seed", "return (95 % interval)", "steps", "training, compiling included") + "\n"
ENGINES = {
    "torch": ("--learner.engine", "torch"),
    "xla, fed from the host": ("--learner.engine", "xla"),
    "xla, one program": ("--learner.engine", "xla", "--env-engine", "gymnax"),
}


def measure(engine: str, seed: int, context: Context) -> dict[str, Any]:
    """One run: what it says."""
    words = ("--env", "CartPole-v1", "--preset", "pqn", "--seed", str(seed), *ENGINES[engine])
    out = ("--out", str(context.scratch / "run"))
    result = nimbleq("train", *words, *out, *(("--steps", "4096") if context.quick else ()))
    return {"engine": engine, "seed": seed} | {name: value for name, value in result.items() if name != "run"}


def row(_: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    low, high = result["return_ci95"]
    return (
        f"| {result['engine']} | {result['seed']} | {result['return_mean']:.1f} ({low:.1f} to {high:.1f}) "
        f"| {result['steps']:,} | {result['train_seconds']:.1f} s |"
    )


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return HEADER + "\n".join([*record.rows(names, row, 5), "", record.footnote(), ""])


CASE = Case(
    "xla",
    cells=lambda seeds: [
        Cell(f"{engine} seed{seed}", partial(measure, engine, seed), 60) for seed in seeds for engine in ENGINES
    ],
    table=table,
    seeds=(0,),
)
