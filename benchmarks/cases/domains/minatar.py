"""MinAtar (``examples/minatar.py``): a small certified policy of each game beside chance, the same hundred seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.parts import compressed, into_docs, size_of, trained
from benchmarks.record import Record
from benchmarks.tables import header
from examples import minatar
from nimbleq.deploy.runtime import Runtime
from nimbleq.rl.training.evaluate import interval95

STEPS, EPISODES = 1_000_000, 100
HEADER = header("game", "small policy (95 %)", "chance (95 %)", "keep", "certified", "size", "µs a call", "training")


def measure(game: str, seed: int, context: Context) -> dict[str, Any]:
    """One game: trained, compressed, certified, played."""
    name, steps = (f"quick-minatar-{game}", 10_000) if context.quick else (f"minatar-{game}-seed{seed}", STEPS)
    run, said = trained(name, *minatar.words_for(game, steps), "--seed", seed)
    brief = ("--select-episodes", 10, "--max-episodes", 20) if context.quick else ()
    made = compressed(run, *(word for word in minatar.COMPRESS if word != "--no-scratch"), *brief, "--workers", 1)
    small = Path(made["artefact"])
    policy, rng = Runtime(small), np.random.default_rng(0)
    seeds = range(2 if context.quick else EPISODES)
    return {
        "returns": minatar.played(game, policy.act, seeds).tolist(),
        "chance": minatar.played(game, lambda obs: int(rng.integers(policy.graph.actions)), seeds).tolist(),
        "keep": made["keep"], "certified": made["certified"], "proof_episodes": made["episodes"],
        "teacher_size_bytes": made["teacher_size_bytes"],
        "steps": said["steps"], "train_seconds": said["train_seconds"], **size_of(small),
    }  # fmt: skip


def cells(seeds: Sequence[int]) -> list[Cell]:
    """Game by game."""
    return [Cell(f"{game} seed{seed}", partial(measure, game, seed), 900) for seed in seeds for game in minatar.GAMES]


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    means = []
    for key in ("returns", "chance"):
        returns = np.array(cell[key])
        low, high = interval95(returns)
        means.append(f"{returns.mean():.1f} ({low:.1f} to {high:.1f})")
    proof = f"after {cell['proof_episodes']:,} episodes" if cell["certified"] else "no"
    return (
        f"| {name.partition(' ')[0]} | {means[0]} | {means[1]} | {cell['keep']:.0%} | {proof} "
        f"| {cell['size_bytes']:,} B | {cell['call_us']:.1f} | {cell['steps']:,} steps, {cell['train_seconds']:.0f} s |"
    )


def short(record: Record, names: Sequence[str] | None = None) -> str:
    """The table alone."""
    return "\n".join([HEADER, *record.rows(names or CASE.names(record), row, 8)])


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return f"{short(record, names)}\n\n{record.footnote()}\n"


CASE = Case("minatar", cells, table, draw=into_docs("minatar", "games", short))
