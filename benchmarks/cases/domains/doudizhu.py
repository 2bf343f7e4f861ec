"""Doudizhu (``examples/doudizhu.py``): the same decks against RLCard's rule player and chance, in both seats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.cases.domains.parts import in_parts, into_docs, size_of
from benchmarks.record import ROOT, Record
from benchmarks.tables import header
from nimbleq.compress.certify import verify_certificate
from nimbleq.deploy.runtime import Runtime
from nimbleq.files import read_json
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.interpret import interpret
from nimbleq.rl.action_value.learn import State, learn
from nimbleq.rl.training.evaluate import interval95

SECONDS, DECKS, PART = 7_200.0, 2_000, 100
"""An hour of two cores, as processor time, at most; decks, and how many of them are saved at once."""
TURN, CHECKED, SPARE = 300.0, range(500_000, 500_800), 0.015
"""Seconds between checks that may end learning sooner, their decks, and by how much both floors must be passed."""
RANDOM_FLOOR, RULE_FLOOR = 0.95, 0.60
OTHERS = {"rule": "RLCard's rule player", "random": "chance"}
HEADER = header("who plays", "against", "as the landlord", "as both peasants", "both seats (95 % interval)", "decks")


def example() -> Any:
    """``examples/doudizhu.py``, which imports RLCard."""
    from examples import doudizhu

    return doudizhu


def folder(context: Context) -> Any:
    """Of the run."""
    return ROOT / "runs" / "bench-domains" / f"{'quick-' * context.quick}doudizhu"


def strong(state: State) -> bool:
    """Whether both floors are passed on decks that are neither learnt from nor in the table."""
    graph = state.graph()
    ours = example().valued_by(lambda rows: interpret(graph, rows)["q"][:, 0])
    against_rule = example().duel(ours, example().by_rule, CHECKED).mean()
    against_random = example().duel(ours, example().at_random, CHECKED)[:, 0].mean()
    print(f"{state.games:,} games: {against_rule:.1%} of decks, {against_random:.1%} as landlord against chance")
    return bool(against_rule >= RULE_FLOOR + SPARE and against_random >= RANDOM_FLOOR + SPARE)


def train(context: Context) -> dict[str, Any]:
    """Goes on where it was stopped; ``--within`` of the runner ends a turn."""
    place, most = folder(context), 2.0 if context.quick else SECONDS
    turn = partial(learn, example().TRAINING, example().dealt, place / "checkpoint")
    state = turn(min(TURN, most))
    while state.seconds < most and not strong(state):
        state = turn(min(most, state.seconds + TURN))
    policy = example().make_small(state.graph(), place / "artefacts", most=0 if context.quick else 1_000)
    path = place / "artefacts" / "small" / "certificate.json"
    proof = read_json(path) if path.exists() else {"keep": 0.0, "certified": False}
    return {
        "games": state.games, "seconds": state.seconds, "engine": policy.status.engine, "keep": proof["keep"],
        "certified": proof["certified"], "proof_decks": verify_certificate(proof).episodes if path.exists() else 0,
        "teacher": size_of(place / "artefacts" / "teacher"), **size_of(place / "artefacts" / "small"),
    }  # fmt: skip


def meet(who: str, other: str, context: Context) -> dict[str, Any]:
    """JSON values of all decks, some at a time."""
    name = f"{'quick-' * context.quick}doudizhu-{who}-{other}"
    if who == "network":
        small = folder(context) / "artefacts" / "small"
        if not small.exists():
            raise CellError("the network is not trained yet")
        name += f"-{load_artefact(small).digest[:16]}"
        ours = example().running(Runtime(small))
    else:
        ours = example().by_rule
    theirs = {"rule": example().by_rule, "random": example().at_random}[other]
    decks = range(4 if context.quick else DECKS)

    def some(part: Sequence[int]) -> dict[str, list[Any]]:
        return {"won": example().duel(ours, theirs, part).tolist()}

    return in_parts(name, [decks[start : start + PART] for start in range(0, len(decks), PART)], some)


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The network, then who plays whom."""
    return [
        Cell("network", train, 7_200), Cell("network : rule", partial(meet, "network", "rule"), 300),
        Cell("network : random", partial(meet, "network", "random"), 300),
        Cell("rule : random", partial(meet, "rule", "random"), 200),
    ]  # fmt: skip


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    who, other = name.split(" : ")
    won = np.array(cell["won"], float)
    low, high = interval95(won.mean(axis=1))
    player = "network, int8" if who == "network" else OTHERS[who]
    landlord, peasants = won.mean(axis=0)
    both = f"{won.mean():.1%} ({low:.1%} to {high:.1%})"
    return f"| {player} | {OTHERS[other]} | {landlord:.1%} | {peasants:.1%} | {both} | {len(won):,} |"


def short(record: Record, names: Sequence[str] | None = None) -> str:
    """The table, and what the network cost."""
    rows = [name for name in names or CASE.names(record) if " : " in name]
    lines = [HEADER, *record.rows(rows, row, 6), ""]
    if record.finished("network"):
        cell = record.cells["network"]
        verdict = "certified" if cell["certified"] else "not certified"
        lines.append(
            f"Learnt from {cell['games']:,} games in {cell['seconds']:,.0f} s of processor time; int8 "
            f"{cell['size_bytes']:,} B ({cell['teacher']['size_bytes']:,} B in float32), {cell['macs']:,} MACs and "
            f"{cell['call_us']:.1f} µs a play that is valued; {verdict} to "
            f"keep {cell['keep']:.0%} of the float network's wins, after {cell['proof_decks']} decks in both seats."
        )
    else:
        lines.append(f"The network: {record.why('network')}.")
    return "\n".join(lines)


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return f"{short(record, names)}\n\n{record.footnote()}\n"


def missed(record: Record) -> list[str]:
    """Floors."""
    found = []
    if record.finished("network : random"):
        share = float(np.mean(np.array(record.cells["network : random"]["won"])[:, 0]))
        if share < RANDOM_FLOOR:
            found.append(f"against chance as the landlord: {share:.1%}, floor {RANDOM_FLOOR:.0%}")
    if record.finished("network : rule"):
        share = float(np.mean(record.cells["network : rule"]["won"]))
        if share < RULE_FLOOR:
            found.append(f"against the rule player: {share:.1%}, floor {RULE_FLOOR:.0%}")
    return found


CASE = Case("doudizhu", cells, table, draw=into_docs("doudizhu", "games", short), missed=missed)
