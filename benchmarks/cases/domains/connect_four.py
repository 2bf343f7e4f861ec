"""Connect Four (``examples/connect_four.py``): who beats whom, and Elo by the milliseconds that a move takes.

Two games from each opening, seats swapped. Times are processor time a move, in the same process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.elo_plot import write_plot
from benchmarks.cases.domains.parts import compressed, in_parts, into_docs, size_of, trained
from benchmarks.elo import intervals, ratings
from benchmarks.record import Record
from benchmarks.tables import header, unmeasured
from nimbleq.deploy.runtime import Runtime
from nimbleq.graph.artefact import load_artefact
from nimbleq.rl.training.evaluate import interval95
from nimbleq.rundir import RunDir

POSITIONS, STEPS, OPENINGS = 48_000, 30_000, 60
FLOOR = 0.5
CHANCE = "at random"
START, FINAL = "network from recorded games", "network"
FLOORS = [
    (f"{who} + search of {count}", f"search of {4 * count}") for who in (START, FINAL) for count in (25, 100, 400)
]
PAIRS = [
    *FLOORS[:3], (START, "search of 25"), (START, "search of 100"), ("search of 25", CHANCE),
    ("search of 100", "search of 25"), ("search of 400", "search of 100"), ("search of 1600", "search of 400"),
    ("search in Python of 100", "search of 100"), *FLOORS[3:], (FINAL, "search of 25"), (FINAL, "search of 100"),
    (FINAL, "search of 400"), (f"{FINAL} + search of 100", "search of 1600"),
]  # fmt: skip
HEADER = header("player", "Elo above chance (95 %)", "ms a move", "Elo a ms")
FLOOR_HEADER = header("network + search", "against", "score (95 % interval)", "pairs of games", "ms a move, both")


def example() -> Any:
    """``examples/connect_four.py``, which imports OpenSpiel."""
    from examples import connect_four

    return connect_four


class Final(NamedTuple):
    """The run that learnt from the start, and what was made of it."""

    run: RunDir
    made: dict[str, Any]

    @property
    def small(self) -> Path:
        """The artefact."""
        return Path(self.made["artefact"])


def pool(quick: bool) -> Path:
    """Where earlier selves lie."""
    return Path("runs") / "bench-domains" / f"{'quick-' * quick}connect-four-pool"


@cache
def start(quick: bool) -> Path:
    """The network that knows recorded games only."""
    artefact = pool(quick) / "recorded"
    if not (artefact / "model.json").exists():
        games = example().recorded(pool(quick) / "games", 400 if quick else POSITIONS)
        example().learn_from(games, artefact)
    return artefact


@cache
def final(quick: bool) -> Final:
    """What it became by games against itself, as int8."""
    words = (*example().TRAIN, "--env-kwargs", f"opponent=pool:{pool(quick)}", "--from", start(quick))
    run, _ = trained(f"{'quick-' * quick}connect-four", *words, "--steps", 2_000 if quick else STEPS)
    brief = ("--select-episodes", 200, "--max-episodes", 1000, "--workers", 1)
    return Final(run, compressed(run, "--keep", 0.8, "--passes", "fold", "int8", *brief))


def artefact_of(name: str, quick: bool) -> Path | None:
    """Of the network that plays, if one does."""
    if not name.startswith(FINAL):
        return None
    return start(quick) if name.startswith(START) else final(quick).small


def player(name: str, quick: bool, seed: int) -> Any:
    """Of a row of the table."""
    if name == CHANCE:
        return example().opponent_named("random", np.random.default_rng(seed))
    if name.startswith("search of "):
        return example().searching(int(name.split()[-1]), seed).step
    if name.startswith("search in Python of "):
        return example().searching_in_python(int(name.split()[-1]), seed).step
    artefact = artefact_of(name, quick)
    assert artefact is not None
    policy = example().opened_policy(artefact)
    if " + " in name:
        return example().guided(policy, int(name.split()[-1]), seed).step
    return example().alone(policy)


def meet(first: str, second: str, context: Context) -> dict[str, Any]:
    """JSON values of a pair, ten openings at a time."""
    openings = range(2 if context.quick else OPENINGS)
    artefacts = [artefact_of(name, context.quick) for name in (first, second)]
    digests = [load_artefact(each).digest[:8] for each in artefacts if each is not None]

    def ten(part: Sequence[int]) -> dict[str, list[Any]]:
        players = [player(name, context.quick, 1 + at + 2 * part[0]) for at, name in enumerate((first, second))]
        duel = example().duel(players[0], players[1], part)
        return {"score": duel.score.tolist(), "first_ms": [duel.ms[0]], "second_ms": [duel.ms[1]]}

    words = ("connect-four", *digests, first, second)
    name = f"{'quick-' * context.quick}{'-'.join(words)}".replace(" ", "_")
    tens = [openings[start : start + 10] for start in range(0, len(openings), 10)]
    return in_parts(name, tens, ten)


def small(context: Context) -> dict[str, Any]:
    """What the network costs."""
    known = final(context.quick)
    facts = {key: known.made[key] for key in ("certified", "keep", "return_mean", "teacher_return_mean")}
    return {**facts, **size_of(known.small), "float_us": Runtime(known.run.teacher).status.latency_us}


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The artefact, then every pair."""
    return [*(Cell(" : ".join(pair), partial(meet, *pair), 120) for pair in PAIRS), Cell("artefact", small, 900)]


def met(record: Record) -> dict[tuple[str, str], dict[str, Any]]:
    """The pairs that were measured."""
    named = {" : ".join(pair): pair for pair in PAIRS}
    return {named[name]: record.cells[name] for name in named if record.finished(name)}


def rated(record: Record) -> list[tuple[str, float, tuple[float, float], float]]:
    """Name, Elo, its interval and milliseconds a move of each player that is connected with chance."""
    found = met(record)
    scores = {pair: cell["score"] for pair, cell in found.items()}
    linked = {CHANCE}
    for _ in scores:
        linked |= {name for pair in scores if linked & set(pair) for name in pair}
    scores = {pair: each for pair, each in scores.items() if set(pair) <= linked}
    if not scores:
        return []
    spent: dict[str, list[float]] = {}
    for (first, second), cell in found.items():
        spent.setdefault(first, []).extend(cell["first_ms"])
        spent.setdefault(second, []).extend(cell["second_ms"])
    elo, around = ratings(scores, CHANCE), intervals(scores, CHANCE)
    rows = [(name, elo[name], around[name], float(np.median(spent[name]))) for name in elo]
    return sorted(rows, key=lambda row: row[1])


def short(record: Record, names: Sequence[str] | None = None) -> str:
    """Ratings, then the pairs that are owed, then the artefact."""
    lines = [HEADER]
    for name, elo, (low, high), ms in rated(record):
        quotient = "" if name == CHANCE else f"{elo / ms:,.0f}"
        lines.append(f"| {name} | {elo:.0f} ({low:.0f} to {high:.0f}) | {ms:.3f} | {quotient} |")
    lines += ["", FLOOR_HEADER, *record.rows([" : ".join(pair) for pair in FLOORS], floor_row, 5), ""]
    if record.finished("artefact"):
        cell = record.cells["artefact"]
        lines.append(
            f"The network as int8: {cell['size_bytes']:,} B, {cell['macs']:,} MACs, {cell['call_us']:.1f} µs a call "
            f"from Python ({cell['engine']}; float32 {cell['float_us']:.1f} µs); certified at keep {cell['keep']:.0%} "
            f"against the pool: {'yes' if cell['certified'] else 'no'}."
        )
    return "\n".join(lines)


def floor_row(name: str, cell: dict[str, Any]) -> str:
    """A pair that is owed."""
    first, second = name.split(" : ")
    low, high = interval95(np.array(cell["score"]))
    times = f"{np.median(cell['first_ms']):.2f}, {np.median(cell['second_ms']):.2f}"
    score = f"{np.mean(cell['score']):.1%} ({low:.1%} to {high:.1%})"
    return f"| {first} | {second} | {score} | {len(cell['score'])} | {times} |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    missing = [name for name in names if not record.finished(name)]
    return "\n".join([short(record), *unmeasured(missing), "", record.footnote(), ""])


def missed(record: Record) -> list[str]:
    """Pairs below the floor."""
    found = met(record)
    return [
        f"{first} against {second}: {np.mean(found[first, second]['score']):.1%}, floor {FLOOR:.0%}"
        for first, second in FLOORS
        if (first, second) in found and np.mean(found[first, second]["score"]) < FLOOR
    ]


def draw(into: Callable[[Record, Path], None], record: Record, results: Path) -> None:
    """The picture, and the table in the documentation."""
    players = [(name, elo, ms) for name, elo, _, ms in rated(record) if name != CHANCE]
    if players:
        write_plot(players, results / "connect_four.svg")
    into(record, results)


CASE = Case("connect_four", cells, table, draw=partial(draw, into_docs("connect_four", "games", short)), missed=missed)
