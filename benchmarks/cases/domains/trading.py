"""Trading (``examples/trading.py``): six tests of two years, each learnt from the years before it, over seeds.

The policies that trade are the small ones. No run is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.parts import compressed, into_docs, trained
from benchmarks.record import Record
from benchmarks.tables import header
from examples import trading
from nimbleq.deploy.runtime import Runtime
from nimbleq.types import Array

MARKETS = {"sp500": "S&P 500", "nasdaq": "NASDAQ"}
SEEDS = (0, 1, 2, 3, 4)
STEPS = 40_000
RULES: Mapping[str, Callable[[trading.Window], Array]] = {
    "buy and hold": trading.buy_and_hold,
    "12-month momentum": trading.momentum,
    "flat": lambda test: np.zeros(len(test.change)),
}
HEADER = header("market", "who trades", "2007–2018, a year", "Sharpe ratio", "over buy and hold (95 % interval)")


def summary(returns: Array, holding: Array) -> dict[str, Any]:
    """JSON values of daily returns beside those of holding."""
    more, low, high = trading.excess_sharpe(returns, holding)
    growth = float(np.prod(1 + returns) ** (trading.YEAR / len(returns)) - 1)
    return {
        "growth": growth, "sharpe": float(trading.sharpe(returns)), "excess": more, "excess_ci95": [low, high],
        "blocks": trading.blocks_of(returns).tolist(),
    }  # fmt: skip


def by_rule(market: str, rule: str, context: Context) -> dict[str, Any]:
    """A baseline over all tests."""
    tests = [trading.window(market, first) for first in trading.FOLDS]
    joined = [np.concatenate([trade(test) for test in tests]) for trade in (RULES[rule], trading.buy_and_hold)]
    return summary(*joined)


def measure(market: str, seed: int, context: Context) -> dict[str, Any]:
    """A policy for each test, trained on what came before."""
    returns, holding, certified = [], [], 0
    for first in trading.FOLDS:
        name = f"quick-{market}-{first}" if context.quick else f"{market}-{first}-seed{seed}"
        steps = 2_000 if context.quick else STEPS
        kwargs = ("--env-kwargs", f"market={market}", f"until={first}")
        run, _ = trained(name, *trading.TRAIN, *kwargs, "--steps", steps, "--seed", seed)
        made = compressed(run, "--keep", 0.9, "--recipe", "distill", "--select-episodes", 300)
        certified += made["certified"]
        test = trading.window(market, first)
        returns.append(trading.traded(Runtime(made["artefact"]).act, test))
        holding.append(trading.buy_and_hold(test))
    return {**summary(np.concatenate(returns), np.concatenate(holding)), "certified": certified}


def name_of(market: str, who: str | int) -> str:
    """Of a cell."""
    return f"{market} {who}" if isinstance(who, str) else f"{market} seed{who}"


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The rules, then the policies."""
    rules = [Cell(name_of(market, rule), partial(by_rule, market, rule), 3) for market in MARKETS for rule in RULES]
    learnt = [Cell(name_of(market, seed), partial(measure, market, seed), 90) for seed in seeds for market in MARKETS]
    return [*rules, *learnt]


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    market, who = name.split(" ", 1)
    low, high = cell["excess_ci95"]
    who = who.replace("seed", "policy, seed ")
    return (
        f"| {MARKETS[market]} | {who} | {cell['growth']:+.1%} | {cell['sharpe']:.2f} "
        f"| {cell['excess']:+.2f} [{low:+.2f}, {high:+.2f}] |"
    )


def verdicts(record: Record) -> list[str]:
    """Per market: how often the best seed of one half of the days is none on the other half."""
    lines = []
    for market, words in MARKETS.items():
        names = [name_of(market, seed) for seed in SEEDS if record.finished(name_of(market, seed))]
        if len(names) < 2:
            continue
        blocks = np.array([record.cells[name]["blocks"] for name in names])
        better = sum(record.cells[name]["excess_ci95"][0] > 0 for name in names)
        worse = sum(record.cells[name]["excess_ci95"][1] < 0 for name in names)
        lines.append(
            f"{words}: {better} of {len(names)} policies are better than holding beyond chance, {worse} are worse; "
            f"probability of overfitting (the best seed of one half of the days is at or below the median on the "
            f"other half) {trading.overfitting(blocks):.2f}."
        )
    return lines


def short(record: Record, names: Sequence[str] | None = None) -> str:
    """The table and the verdicts."""
    return "\n".join([HEADER, *record.rows(names or CASE.names(record), row, 5), "", *verdicts(record)])


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return f"{short(record, names)}\n\n{record.footnote()}\n"


CASE = Case("trading", cells, table, SEEDS, draw=into_docs("trading", "trading", short))
