"""Training beside peers. Wants a quiet machine and the extra ``peers``.

Parts, with which the names of the cells begin: `cartpole` and `lunarlander`, time to score beside Stable-Baselines3 and
sbx with the zoo's tuned settings; `balance`, CartPole with episodes of 10,000 steps; `recipe`, CleanRL's dqn.py beside
the same recipe in nimbleq; `breakout`, MinAtar's return against time. Each run is a process of its own, one at a time;
peers and nimbleq take turns, seed by seed, each first in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import process
from benchmarks.case import Case, Cell, Context
from benchmarks.cases.train_curves import write_svg
from benchmarks.cases.train_tables import ENVS, of, sections, short_table
from benchmarks.peers import PEERS
from benchmarks.peers.cleanrl import STEPS, ours
from benchmarks.record import Record

THREADS = (1, 2)
BREAKOUT_SEEDS = 3
NOTE = """\
Times are training wall-clock. nimbleq's is `train_seconds` of `nimbleq train --env …` with the environment's default
preset: its greedy checks and their confirmation count, and the score has to hold in 100 more episodes on fresh seeds.
Peers run with the settings of rl-baselines3-zoo, with one thread or two, whichever was faster; their checks (100 greedy
episodes, every 1,000 steps on CartPole and every 2,500 on LunarLander) are not counted, nor are imports and JAX's
compiling, and a check that passes is enough. A peer that spends the zoo's budget without the score is "not in N steps"
and counts as infinite in medians. Intervals are 95 % percentile bootstrap over seeds; ratios are medians of pairs run
one after the other.
"""

Measure = Callable[[Context], dict[str, Any]]


def peer(name: str, part: str, seed: int, context: Context) -> dict[str, Any]:
    """A peer until it reaches the score."""
    threads = faster(context.known, part, name)
    words = ("--seed", str(seed), "--threads", str(threads), *(("--steps", "3000") if context.quick else ()))
    return process.measure("-m", "benchmarks.peers.train", "--peer", name, "--env", ENVS[part], *words)


def peer_speed(name: str, part: str, threads: int, context: Context) -> dict[str, Any]:
    """A peer for a moment."""
    steps = "1500" if context.quick else "6000"
    words = ("--peer", name, "--env", ENVS[part], "--steps", steps, "--no-checks", "--threads", str(threads))
    return process.measure("-m", "benchmarks.peers.train", *words)


def recipe(seed: int, context: Context) -> dict[str, Any]:
    """CleanRL's recipe in PyTorch."""
    steps, threads = recipe_steps(context), faster(context.known, "recipe", "cleanrl")
    words = ("--steps", str(steps), "--threads", str(threads), "--seed", str(seed))
    return process.measure("-m", "benchmarks.peers.cleanrl", *words)


def recipe_speed(threads: int, context: Context) -> dict[str, Any]:
    """The same for a moment."""
    steps = "11000" if context.quick else "30000"
    return process.measure("-m", "benchmarks.peers.cleanrl", "--steps", steps, "--threads", str(threads))


def recipe_steps(context: Context) -> int:
    """Of one run of the recipe."""
    return 12_000 if context.quick else STEPS


def trained(words: Callable[[Context], Sequence[str]], seed: int, context: Context) -> dict[str, Any]:
    """``nimbleq train``, with the curve of its greedy checks."""
    out = context.scratch / "run"
    result = process.nimbleq("train", *words(context), "--seed", str(seed), "--out", str(out))
    result.pop("run")
    return result | {"curve": process.curve_of(out / "metrics.jsonl")}


def score_words(part: str, context: Context, *more: str) -> list[str]:
    """The environment's default preset until its score."""
    return ["--env", ENVS[part], *more, *(("--steps", "20000") if context.quick else ())]


def balance_words(context: Context) -> list[str]:
    """CartPole without its limit of 500 steps."""
    words = ["--env", "CartPole-v1", "--max-episode-steps", "10000", "--evaluation.final-episodes", "20"]
    return [*words, *(("--steps", "5000") if context.quick else ())]


def breakout_words(context: Context) -> list[str]:
    """MinAtar on pictures."""
    steps, every = ("20000", "100") if context.quick else ("1000000", "500")
    return ["--env", "MinAtar/Breakout-v1", "--preset", "pqn", "--steps", steps, "--evaluation.every", every]


def cells(seeds: Sequence[int]) -> list[Cell]:
    """Which threads are faster for each peer, then everything else."""
    found: list[Cell] = []
    for threads in THREADS:
        for part in ENVS:
            found += [
                Cell(f"{part}-speed-{name}-{threads}", partial(peer_speed, name, part, threads), 15) for name in PEERS
            ]
        found.append(Cell(f"recipe-speed-cleanrl-{threads}", partial(recipe_speed, threads), 12))
    for part in ENVS:
        for seed in seeds:
            found += in_turns(part, seed, score_turn(part, seed))
    for seed in seeds:
        found.append(_cell("balance", "nimbleq", seed, partial(trained, balance_words, seed)))
    for seed in seeds:
        mine = partial(trained, lambda context: ours(recipe_steps(context)), seed)
        found += in_turns("recipe", seed, {"cleanrl": partial(recipe, seed), "nimbleq": mine})
    for seed in seeds[:BREAKOUT_SEEDS]:
        found.append(_cell("breakout", "nimbleq", seed, partial(trained, breakout_words, seed)))
    return found


def score_turn(part: str, seed: int) -> dict[str, Measure]:
    """Peers, nimbleq, and where it pays nimbleq stepping envpool."""
    turn: dict[str, Measure] = {name: partial(peer, name, part, seed) for name in PEERS}
    turn["nimbleq"] = partial(trained, partial(score_words, part), seed)
    if part == "lunarlander":
        turn["envpool"] = partial(trained, lambda context: score_words(part, context, "--env-engine", "envpool"), seed)
    return turn


def in_turns(part: str, seed: int, turn: Mapping[str, Measure]) -> list[Cell]:
    """Each trainer is the first of some seed."""
    names = list(turn)
    order = [names[(seed + i) % len(names)] for i in range(len(names))]
    return [_cell(part, name, seed, turn[name]) for name in order]


def faster(known: Mapping[str, dict[str, Any]], part: str, name: str) -> int:
    """Two threads where they save the peer a tenth of the time or more, else one (also where nothing was measured)."""
    one, two = (known.get(f"{part}-speed-{name}-{n}", {}).get("seconds", float("inf")) for n in THREADS)
    return 2 if two < 0.9 * one else 1


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    missing = [f"{name} ({record.why(name)})" for name in names if not record.finished(name)]
    parts = ["# Training beside peers", "", NOTE, record.footnote(), "", *sections(record.cells)]
    return "\n".join([*parts, *([f"Missing: {', '.join(missing)}.", ""] if missing else [])])


def draw(record: Record, results: Path) -> None:
    """Breakout's curves."""
    curves = [cell["curve"] for cell in of(record.cells, "breakout", "nimbleq") if len(cell.get("curve", ())) > 1]
    if curves:
        write_svg(curves, "MinAtar Breakout: mean return of greedy checks", results / "breakout.svg")


_EXPECTED = {  # seconds of a process on two quiet cores
    ("cartpole", "sb3"): 70, ("cartpole", "sbx"): 40, ("cartpole", "nimbleq"): 6,
    ("lunarlander", "sb3"): 260, ("lunarlander", "sbx"): 130, ("lunarlander", "nimbleq"): 30,
    ("lunarlander", "envpool"): 20,
    ("balance", "nimbleq"): 12, ("recipe", "cleanrl"): 95, ("recipe", "nimbleq"): 25,
    ("breakout", "nimbleq"): 200,
}  # fmt: skip


def _cell(part: str, name: str, seed: int, measure: Measure) -> Cell:
    return Cell(f"{part}-{name}-{seed}", measure, _EXPECTED[part, name])


CASE = Case(
    "train", cells, table, seeds=(0, 1, 2, 3, 4), draw=draw, readme=lambda record: short_table(record.cells)
)  # fmt: skip
