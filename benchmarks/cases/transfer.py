"""Transfer to six variants beside scratch, and beside scratch that is given the source's steps, too.

Sources, targets, methods, thresholds and seeds were fixed before any of it was run. A cell is one ``nimbleq train``
that stops at the threshold, which 100 fresh episodes confirm; steps of the transfer are all of its environment steps,
the teacher's play and that of the learner from scratch beside it included, and not those of its source. Greedy checks,
of the teacher too, are counted nowhere. Every seed has a source of its own. `scratch+` is only run where `scratch`
ended below the threshold.

The rule of the race, written down before the table was filled: a run with a source trains two learners on one replay,
each acts in half of the environments, and their checks take turns, each as often as in a run alone. Whoever solves the
task first ends the run; whoever is behind in 10 pairs of checks, one after the other, is given up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.process import nimbleq
from benchmarks.record import MISSING, ROOT, Record
from benchmarks.statistics import median
from benchmarks.tables import header

SOURCES = ROOT / "runs" / "transfer-sources"
FASTER, NEVER_BELOW, WANTED = 2.0, 0.8, 3
"""Owed: this many times fewer steps on so many variants, and on none more steps than scratch over that share."""
ARMS = ("scratch", "scratch+", "transfer")


@dataclass(frozen=True)
class Run:
    """Attributes:
    like: environment whose preset gives the settings.
    preset: its name.
    env: what is played.
    kwargs: its arguments.
    threshold: return at which training stops.
    more: further settings.
    """

    like: str
    env: str
    threshold: float
    kwargs: tuple[str, ...] = ()
    preset: str = "dqn"
    more: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Variant:
    """Attributes:
    source, target: where the policy comes from, and where it goes.
    method: of the transfer.
    expected: seconds of a cell on a quiet machine.
    """

    source: Run
    target: Run
    method: str
    expected: float


_CARTPOLE = Run("CartPole-v1", "CartPole-v1", 475.0)
_LANDER = Run("LunarLander-v3", "LunarLander-v3", 220.0)
_PIXELS: tuple[tuple[str, Any], ...] = (("steps", 400_000), ("evaluation.every", 2_000), ("explore.updates", 10_000))
VARIANTS: Mapping[str, Variant] = {
    "lander-gravity": Variant(_LANDER, replace(_LANDER, kwargs=("gravity=-6.0",), threshold=200.0), "qdagger", 30),
    "lander-wind": Variant(_LANDER, replace(_LANDER, kwargs=("enable_wind=True",), threshold=180.0), "qdagger", 40),
    "cartpole-length": Variant(
        _CARTPOLE, Run("CartPole-v1", "benchmarks.variants:cartpole", 475.0, ("length=1.5",)), "qdagger", 10
    ),
    "cartpole-force": Variant(
        _CARTPOLE, Run("CartPole-v1", "benchmarks.variants:cartpole", 475.0, ("force_mag=4.0",)), "frozen", 10
    ),
    "minatar": Variant(
        Run("MinAtar/Breakout-v1", "MinAtar/Breakout-v1", 8.0, more=_PIXELS),
        Run("MinAtar/Asterix-v1", "MinAtar/Asterix-v1", 8.0, more=_PIXELS),
        "finetune",
        200,
    ),
    "layout": Variant(
        Run("CartPole-v1", "benchmarks.variants:named", 475.0),
        Run("CartPole-v1", "benchmarks.variants:named", 475.0, ("names=rate,noise,angle,velocity,position",
                                                              "force_mag=8.0")),
        "qdagger",
        10,
    ),
}  # fmt: skip


def settings(run: Run, folder: Path, quick: bool, extra_steps: int = 0) -> Path:
    """The ``config.json`` of a run."""
    from nimbleq.config import to_dict, with_changes
    from nimbleq.rl.presets import preset

    base = preset(run.like, run.preset)
    config = replace(base, env=replace(base.env, id=run.env, kwargs=run.kwargs))
    changes: dict[str, Any] = {"evaluation.stop_return": run.threshold, **dict(run.more)}
    config = with_changes(config, changes)
    steps = 20_000 if quick else config.steps + extra_steps
    path = folder / "settings.json"
    path.write_text(json.dumps({"format": 1, "train": to_dict(with_changes(config, {"steps": steps}))}))
    return path


def source_of(variant: Variant, seed: int, context: Context) -> tuple[Path, int]:
    """The trained source of a seed, and its environment steps; made when it is missing."""
    run = variant.source
    name = f"{run.env.replace('/', '_').replace(':', '.')}-{'quick' if context.quick else run.threshold:}-seed{seed}"
    place = SOURCES / name
    words = ("--config", str(settings(run, context.scratch, context.quick)), "--seed", str(seed), "--out", str(place))
    done = nimbleq("train", *words, *(("--resume",) if place.exists() else ()))
    return place, int(done["steps"])


def measure(name: str, arm: str, seed: int, context: Context) -> dict[str, Any]:
    """One cell."""
    variant = VARIANTS[name]
    run = variant.target
    place, spent = source_of(variant, seed, context)
    more: tuple[str, ...] = ()
    if arm == "transfer":
        more = ("--from", str(place), "--transfer", variant.method)
    if arm == "scratch+":
        before = context.known.get(f"{name}-scratch-{seed}", {"error": ""})
        if "error" in before:
            raise CellError("scratch of this seed comes first")
        if before["solved"]:
            return {key: value for key, value in before.items() if key != "stamp"}
    extra = spent if arm == "scratch+" else 0
    words = ("--config", str(settings(run, context.scratch, context.quick, extra)), "--seed", str(seed))
    result = nimbleq("train", *words, "--out", str(context.scratch / "run"), *more)
    kept = ("steps", "solved", "return_mean", "return_ci95", "train_seconds", "transfer")
    return {key: result[key] for key in kept if key in result} | {"source_steps": spent}


def cells(seeds: Sequence[int]) -> list[Cell]:
    """Every variant of a seed before the next seed."""
    return [
        Cell(f"{name}-{arm}-{seed}", partial(measure, name, arm, seed), variant.expected)
        for seed in seeds
        for name, variant in VARIANTS.items()
        for arm in ARMS
    ]


def pairs_of(record: Record, name: str) -> list[dict[str, dict[str, Any]]]:
    """The arms of the seeds that have all of them."""
    seeds = sorted({int(cell.rpartition("-")[2]) for cell in record.cells if cell.startswith(f"{name}-")})
    found = []
    for seed in seeds:
        names = {arm: f"{name}-{arm}-{seed}" for arm in ARMS}
        if all(record.finished(each) for each in names.values()):
            found.append({arm: record.cells[each] for arm, each in names.items()} | {"seed": {"seed": seed}})
    return found


def steps_of(cell: Mapping[str, Any]) -> float:
    """Steps to the threshold; infinite where it was not reached."""
    return float(cell["steps"]) if cell["solved"] else inf


def saving(arms: Mapping[str, Mapping[str, Any]]) -> float:
    """Steps of scratch over those of the transfer; where neither arrives 1, where only one does infinite or 0."""
    scratch, transfer = steps_of(arms["scratch"]), steps_of(arms["transfer"])
    if scratch == transfer == inf:
        return 1.0
    return scratch / transfer if transfer < inf else 0.0


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    lines = [
        "# Transfer beside scratch", "", str(__doc__).partition("\n\n")[2], record.footnote(), "",
        header("variant", "method", "seeds", "steps: transfer", "scratch", "scratch+", "scratch ÷ transfer (each seed)",
               "return: transfer", "scratch", "went back to scratch"),
    ]  # fmt: skip
    for name, variant in VARIANTS.items():
        found = pairs_of(record, name)
        if not found:
            lines.append(f"| {name} | {variant.method} | 0 |" + " |" * 7)
            continue
        steps = [_steps([steps_of(each[arm]) for each in found]) for arm in ("transfer", "scratch", "scratch+")]
        savings = [saving(each) for each in found]
        returns = [median([each[arm]["return_mean"] for each in found]) for arm in ("transfer", "scratch")]
        back = sum(each["transfer"]["transfer"]["goes_on"] == "scratch" for each in found)
        shown = ", ".join(f"{value:.2g}" for value in savings)
        lines.append(
            f"| {name} | {variant.method} | {len(found)} | {' | '.join(steps)} | **×{median(savings):.2f}** ({shown}) "
            f"| {returns[0]:.1f} | {returns[1]:.1f} | {back} of {len(found)} |"
        )
    negative = [
        f"- {name}, seed {each['seed']['seed']}: ×{saving(each):.2f}; {each['transfer']['transfer']['why']}"
        for name in VARIANTS
        for each in pairs_of(record, name)
        if saving(each) < 1
    ]
    owed = missed(record)
    missing = [name for name in names if not record.finished(name)]
    return "\n".join(
        [
            *lines, "",
            *(["Seeds on which the transfer took more steps than scratch:", "", *negative, ""] if negative else []),
            *([f"Owed and missed: {'; '.join(owed)}.", ""] if owed else []),
            *([f"Cells {MISSING}: {', '.join(missing)}.", ""] if missing else []),
        ]
    )  # fmt: skip


def _steps(values: Sequence[float]) -> str:
    middle = median(values)
    return "not reached" if middle == inf else f"{middle:,.0f}"


def missed(record: Record) -> list[str]:
    """The floors, of the variants that are measured."""
    middles = {name: median([saving(each) for each in found]) for name in VARIANTS if (found := pairs_of(record, name))}
    if not middles:
        return []
    fast = sum(value >= FASTER for value in middles.values())
    slow = [f"{name} ×{value:.2f}" for name, value in middles.items() if value < NEVER_BELOW]
    few = [f"×{FASTER:g} fewer steps on {fast} of {len(middles)} variants, owed {WANTED} of 6"] if fast < WANTED else []
    return few + ([f"below ×{NEVER_BELOW:g}: {', '.join(slow)}"] if slow else [])


CASE = Case("transfer", cells, table, seeds=(0, 1, 2, 3, 4), missed=missed)
