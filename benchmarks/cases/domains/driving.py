"""Driving (``examples/driving.py``): the same hundred episodes of highway-env for everybody.

Policies are trained in envpool's copy of a road, unless it is another road: see the parity lines. No run is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.parts import compressed, in_parts, into_docs, size_of, trained
from benchmarks.peers.sb3_driving import predictor
from benchmarks.process import measure
from benchmarks.record import ROOT, Record
from benchmarks.statistics import Share
from benchmarks.tables import header
from examples import driving
from nimbleq.config import EnvConfig
from nimbleq.deploy.runtime import Runtime
from nimbleq.graph.artefact import load_artefact
from nimbleq.rl.envs.envpool import PoolEnv
from nimbleq.rl.training.evaluate import interval95

SB3_STEPS = 20_000
SB3_MODELS = ROOT / "runs" / "bench-domains"
HEADER = header("road", "who drives", "return (95 % interval)", "crashes (95 % interval)", "m/s", "size", "training")


def drive(
    road: str, name: str, act: Callable[[Any], int], context: Context, *, by_rule: bool = False
) -> dict[str, Any]:
    """JSON values of the hundred episodes, ten at a time."""
    seeds = driving.SEEDS[:2] if context.quick else driving.SEEDS
    tens = [seeds[start : start + 10] for start in range(0, len(seeds), 10)]

    def ten(part: Sequence[int]) -> dict[str, list[Any]]:
        return {
            key: value.tolist() for key, value in driving.driven(road, act, part, by_rule=by_rule)._asdict().items()
        }

    return in_parts(f"{'quick-' * context.quick}{road}-{name}", tens, ten)


def by_rule(road: str, context: Context) -> dict[str, Any]:
    """IDM and MOBIL."""
    return drive(road, "by-rule", lambda obs: driving.IDLE, context, by_rule=True)


def at_random(road: str, context: Context) -> dict[str, Any]:
    """Uniform actions."""
    return drive(road, "at-random", lambda obs: zlib.crc32(obs.tobytes()) % 5, context)


def learnt(road: str, seed: int, context: Context) -> dict[str, Any]:
    """The small policy, as it runs."""
    name, steps = f"driving-{road}-seed{seed}", driving.ROADS[road].steps
    if context.quick:
        name, steps = f"quick-{road}", 2_000
    run, said = trained(name, *driving.train_words(road), "--steps", steps, "--seed", seed)
    small = Path(compressed(run, *driving.compress_words(road))["artefact"])
    drives = drive(road, load_artefact(small).digest[:16], Runtime(small).act, context)
    return {**drives, **size_of(small), "train_seconds": said["train_seconds"], "steps": said["steps"]}


def sb3(road: str, seed: int, context: Context) -> dict[str, Any]:
    """The maintainers' recipe."""
    steps = 500 if context.quick else SB3_STEPS
    model = SB3_MODELS / f"{road}-seed{seed}-{steps}"
    said = measure("-m", "benchmarks.peers.sb3_driving", road, str(steps), str(seed), str(model))
    play = predictor(model)
    return {**drive(road, f"sb3-seed{seed}-{steps}", play, context), "train_seconds": said["seconds"], "steps": steps}


def parity(road: str, context: Context) -> dict[str, Any]:
    """Always faster, in both: mean return, and the standard error of the difference."""
    theirs = np.array(drive(road, "faster", lambda obs: driving.FASTER, context)["returns"])
    pool = PoolEnv(EnvConfig(f"highway_env:{road}", max_episode_steps=driving.ROADS[road].limit), 16, 0)
    ours: list[float] = []
    while len(ours) < 10 * len(theirs):
        pool.step(np.full(16, driving.FASTER))
        ours += [total for total, _ in pool.finished]
    pool.close()
    deviation = (theirs.var(ddof=1) / len(theirs) + np.var(ours, ddof=1) / len(ours)) ** 0.5
    return {"highway_env": float(theirs.mean()), "envpool": float(np.mean(ours)), "deviation": float(deviation)}


def cells(seeds: Sequence[int]) -> list[Cell]:
    """Road by road."""
    found = []
    for road in driving.ROADS:
        found += [Cell(f"{road}: nimbleq seed{seed}", partial(learnt, road, seed), 150) for seed in seeds]
        found += [Cell(f"{road}: sb3 seed{seed}", partial(sb3, road, seed), 150) for seed in seeds]
        found += [Cell(f"{road}: by rule", partial(by_rule, road), 120)]
        found += [Cell(f"{road}: at random", partial(at_random, road), 50)]
        found += [Cell(f"{road}: parity", partial(parity, road), 50)]
    return found


WORDS = {
    "nimbleq": "nimbleq, small policy", "sb3": "SB3 DQN, the maintainers' recipe", "by rule": "IDM and MOBIL",
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
    for road in driving.ROADS:
        name = f"{road}: parity"
        if not record.finished(name):
            lines.append(f"{name} {record.why(name)}.")
        else:
            cell = record.cells[name]
            apart = (cell["envpool"] - cell["highway_env"]) / cell["deviation"]
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
