"""Driving (``examples/driving.py``): the same hundred episodes of highway-env for everybody.

Policies are trained in envpool's copy of the road; the parity rows say how far it is one. No run is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.parts import compressed, into_docs, size_of, trained
from benchmarks.process import measure
from benchmarks.record import Record
from benchmarks.statistics import Share
from benchmarks.tables import header
from examples import driving
from nimbleq.config import EnvConfig
from nimbleq.deploy.runtime import Runtime
from nimbleq.rl.envs.envpool import PoolEnv
from nimbleq.rl.training.evaluate import interval95

ROADS = ("highway-fast-v0", "merge-v0")
STEPS, SB3_STEPS, EPISODES = 200_000, 20_000, 100
HEADER = header("road", "who drives", "return (95 % interval)", "crashes (95 % interval)", "m/s", "size", "training")


def count(context: Context) -> int:
    """Episodes."""
    return 3 if context.quick else EPISODES


def values(drives: driving.Drives) -> dict[str, Any]:
    """JSON values."""
    return {name: [float(f"{value:.6g}") for value in found] for name, found in drives._asdict().items()}


def by_rule(road: str, context: Context) -> dict[str, Any]:
    """IDM and MOBIL."""
    return values(driving.driven(road, lambda obs: driving.IDLE, count(context), by_rule=True))


def at_random(road: str, context: Context) -> dict[str, Any]:
    """Uniform actions."""
    rng = np.random.default_rng(0)
    return values(driving.driven(road, lambda obs: int(rng.integers(5)), count(context)))


def learnt(road: str, seed: int, context: Context) -> dict[str, Any]:
    """The policy as int8, as it runs."""
    name, steps = (f"quick-{road}", 2_000) if context.quick else (f"driving-{road}-seed{seed}", STEPS)
    run, said = trained(name, *driving.words_for(road), "--steps", steps, "--seed", seed)
    brief = ("--select-episodes", 20, "--max-episodes", 60, "--workers", 1)
    small = Path(compressed(run, "--keep", 0.8, "--passes", "fold", "int8", *brief)["artefact"])
    drives = driving.driven(road, Runtime(small).act, count(context))
    return {**values(drives), **size_of(small), "train_seconds": said["train_seconds"], "steps": said["steps"]}


def sb3(road: str, seed: int, context: Context) -> dict[str, Any]:
    """The maintainers' recipe."""
    steps = 500 if context.quick else SB3_STEPS
    words = ("-m", "benchmarks.peers.sb3_driving", road, str(steps), str(seed), str(count(context)))
    found = measure(*words)
    found.pop("process_seconds")
    return found


def parity(road: str, context: Context) -> dict[str, Any]:
    """Always faster, in both: mean return, and the standard error of the difference."""
    theirs = driving.driven(road, lambda obs: driving.FASTER, count(context)).returns
    pool = PoolEnv(EnvConfig(f"highway_env:{road}", max_episode_steps=driving.LIMITS[road]), 16, 0)
    ours: list[float] = []
    while len(ours) < 10 * len(theirs):
        pool.step(np.full(16, driving.FASTER))
        ours += [total for total, _ in pool.finished]
    pool.close()
    error = (theirs.var(ddof=1) / len(theirs) + np.var(ours, ddof=1) / len(ours)) ** 0.5
    return {"highway_env": float(theirs.mean()), "envpool": float(np.mean(ours)), "error": float(error)}


def cells(seeds: Sequence[int]) -> list[Cell]:
    """Road by road."""
    found = []
    for road in ROADS:
        found += [Cell(f"{road}: nimbleq seed{seed}", partial(learnt, road, seed), 150) for seed in seeds]
        found += [Cell(f"{road}: sb3 seed{seed}", partial(sb3, road, seed), 150) for seed in seeds]
        found += [Cell(f"{road}: by rule", partial(by_rule, road), 120)]
        found += [Cell(f"{road}: at random", partial(at_random, road), 50)]
        found += [Cell(f"{road}: parity", partial(parity, road), 50)]
    return found


WORDS = {
    "nimbleq": "nimbleq, int8", "sb3": "SB3 DQN, the maintainers' recipe", "by rule": "IDM and MOBIL",
    "at random": "at random",
}  # fmt: skip


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    road, who = name.split(": ")
    first, _, seed = who.partition(" seed")
    words = WORDS.get(who) or f"{WORDS[first]}, seed {seed}"
    returns = np.array(cell["returns"])
    low, high = interval95(returns)
    size = f"{cell['size_bytes']:,} B" if "size_bytes" in cell else ""
    time = f"{cell['steps']:,} steps, {cell['train_seconds']:.0f} s" if "steps" in cell else ""
    crashes = Share(int(sum(cell["crashed"])), len(returns))
    return (
        f"| {road} | {words} | {returns.mean():.1f} ({low:.1f} to {high:.1f}) | {crashes} "
        f"| {np.mean(cell['speed']):.1f} | {size} | {time} |"
    )


def same(record: Record) -> list[str]:
    """How far envpool's road is highway-env's."""
    lines = []
    for road in ROADS:
        name = f"{road}: parity"
        if not record.finished(name):
            lines.append(f"{name} {record.why(name)}.")
        else:
            cell = record.cells[name]
            apart = (cell["envpool"] - cell["highway_env"]) / cell["error"]
            lines.append(
                f"{road}, always faster: {cell['highway_env']:.2f} in highway-env, {cell['envpool']:.2f} in envpool, "
                f"{apart:+.1f} standard errors apart."
            )
    return lines


def short(record: Record, names: Sequence[str] | None = None) -> str:
    """The table, and what parity there is."""
    rows = [name for name in names or CASE.names(record) if not name.endswith("parity")]
    return "\n".join([HEADER, *record.rows(rows, row, 7), "", *same(record)])


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return f"{short(record, names)}\n\n{record.footnote()}\n"


CASE = Case("driving", cells, table, draw=into_docs("driving", "driving", short))
