"""Trading an index day by day, tested on years that were not learnt from, beside buy-and-hold and momentum.

    pip install 'nimbleq[trading]'
    python examples/trading.py [run directory [steps [options of nimbleq compress …]]]

Daily bars of the S&P 500 and the NASDAQ, 1999 to 2018, come with the package ``arch``. Every trade costs 10 basis
points of what is traded. Expect nothing: see docs/trading.md for what came of it over all folds and seeds. Run it from
the folder above ``examples``; training alone is
``nimbleq train --env examples.trading:Market --env-kwargs until=2009``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq import Runtime
from nimbleq.cli import main as command_line
from nimbleq.types import Array

YEAR = 252  # trading days
COST = 0.001  # of what is traded: 10 basis points
SPANS = (1, 5, 21, 63, YEAR)
FOLDS = (2007, 2009, 2011, 2013, 2015, 2017)
"""First year of each test of two years; everything before it is learnt from."""
TRAIN = shlex.split(
    "train --env examples.trading:Market --network.hidden 32 32 --learner.gamma 0.95 --replay.n-step 1 "
    "--evaluation.episodes 100"
)


class Bars(NamedTuple):
    """Attributes:
    features: ``float32[T, 6]`` what is known at the close of a day.
    change: ``float64[T]`` relative change of the adjusted close since the day before.
    year: ``int[T]``.
    """

    features: Array
    change: Array
    year: Array


def features(close: Array) -> Array:
    """``float32[T, 6]`` trends over `SPANS` in units of their usual size, and how restless the last month was.

    Day ``t`` depends on ``close[: t + 1]`` only; the first year, which lacks a past, is NaN.
    """
    log = np.log(close)
    steps = np.diff(log, prepend=np.nan)
    quarter, year = (_deviation(steps, span) for span in (63, YEAR))
    trends = [(log - _earlier(log, span)) / (quarter * span**0.5) for span in SPANS]
    return np.stack([*trends, np.log(_deviation(steps, 21) / year)], axis=1).astype(np.float32)


def _earlier(values: Array, days: int) -> Array:
    return np.concatenate([np.full(days, np.nan), values[:-days]])


def _deviation(values: Array, days: int) -> Array:
    """Standard deviation of the last ``days`` values."""
    windows = np.lib.stride_tricks.sliding_window_view(values, days).std(axis=1)
    return np.concatenate([np.full(days - 1, np.nan), windows])


@cache
def bars(market: str) -> Bars:
    """``sp500`` or ``nasdaq``, without the year that only gives the first features a past."""
    table = import_module(f"arch.data.{market}").load()
    close = table["Adj Close"].to_numpy(float)
    known, change = features(close), np.diff(close, prepend=np.nan) / _earlier(close, 1)
    ready = np.isfinite(known).all(axis=1)
    return Bars(known[ready], change[ready], table.index.year.to_numpy()[ready])


def observed(known: Array, position: float) -> Array:
    """What the policy sees at a close: the features of the day, and what it holds."""
    return np.append(known, np.float32(position))


class Market(gymnasium.Env[Any, Any]):
    """A year that begins on a random day before the year ``until``: at each close flat (0), long (1), or short (2).

    Pays the percent that were won until the next close, costs deducted.
    """

    def __init__(self, market: str = "sp500", until: int = 2009, short: bool = False) -> None:
        self.bars = bars(market)
        self.days = int((self.bars.year < until).sum())
        self.action_space = spaces.Discrete(3 if short else 2)
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(SPANS) + 2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.day, self.position = int(self.np_random.integers(self.days - YEAR - 1)), 0.0
        self.end = self.day + YEAR
        return observed(self.bars.features[self.day], self.position), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        wanted = position_of(action)
        self.day += 1
        won = wanted * self.bars.change[self.day] - COST * abs(wanted - self.position)
        self.position = wanted
        return observed(self.bars.features[self.day], wanted), 100.0 * won, False, self.day == self.end, {}


def position_of(action: int) -> float:
    return (0.0, 1.0, -1.0)[action]


def net(positions: Array, change: Array) -> Array:
    """``float[T]`` daily return of holding ``positions[t]`` until the close of day ``t``, costs deducted."""
    return positions * change - COST * np.abs(np.diff(positions, prepend=0.0))


class Window(NamedTuple):
    """The days of a test. Attributes:
    known: ``[T, 6]`` features at the close before each day.
    change: ``[T]`` of the day.
    """

    known: Array
    change: Array


def window(market: str, first: int, years: int = 2) -> Window:
    """The test that begins with the year ``first``."""
    all_days = bars(market)
    days = np.flatnonzero((all_days.year >= first) & (all_days.year < first + years))
    return Window(all_days.features[days - 1], all_days.change[days])


def traded(act: Callable[[Any], int], test: Window) -> Array:
    """``float[T]`` daily returns of a policy, by what really runs."""
    positions, held = np.zeros(len(test.change)), 0.0
    for day, known in enumerate(test.known):
        positions[day] = held = position_of(act(observed(known, held)))
    return net(positions, test.change)


def buy_and_hold(test: Window) -> Array:
    return net(np.ones(len(test.change)), test.change)


def momentum(test: Window) -> Array:
    """Long after a year that rose, else flat (Moskowitz, Ooi, Pedersen 2012)."""
    return net((test.known[:, SPANS.index(YEAR)] > 0).astype(float), test.change)


def sharpe(returns: Array) -> Array:
    """Annualised, of daily returns ``[T]`` or ``[T, N]``; 0 where nothing was held."""
    spread = returns.std(axis=0)
    return YEAR**0.5 * returns.mean(axis=0) / np.where(spread > 0, spread, 1.0)


def excess_sharpe(ours: Array, theirs: Array, resamples: int = 2_000) -> tuple[float, float, float]:
    """Difference of the Sharpe ratios with its 95 % interval, by the stationary bootstrap (Politis, Romano 1994)."""
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    pairs = np.stack([ours, theirs], axis=1)
    if np.array_equal(ours, theirs):
        return 0.0, 0.0, 0.0
    block = max(1.0, float(optimal_block_length(ours - theirs)["stationary"].iloc[0]))
    difference = lambda rows: sharpe(rows)[:1] - sharpe(rows)[1:]  # noqa: E731
    found = StationaryBootstrap(block, pairs, seed=0).conf_int(difference, resamples, method="percentile")
    return float(difference(pairs)[0]), float(found[0, 0]), float(found[1, 0])


def blocks_of(returns: Array, blocks: int = 12) -> Array:
    """``[blocks, 3]`` of daily returns ``[T]``: of equal stretches the days, the sum, and the sum of squares."""
    parts = np.array_split(returns, blocks)
    return np.array([(len(part), part.sum(), (part**2).sum()) for part in parts])


def overfitting(strategies: Array) -> float:
    """Probability that the best of ``N`` strategies on one half of the days is at or below the median on the other.

    Combinatorially symmetric cross-validation (Bailey, Borwein, López de Prado, Zhu 2017) of ``[N, blocks, 3]``, see
    `blocks_of`.
    """
    blocks = strategies.shape[1]
    below = []
    for half in combinations(range(blocks), blocks // 2):
        rest = [block for block in range(blocks) if block not in half]
        learnt, unseen = (_sharpe_of(strategies[:, list(part)].sum(axis=1)) for part in (half, rest))
        below.append(bool(np.median(unseen) >= unseen[learnt.argmax()]))
    return float(np.mean(below))


def _sharpe_of(sums: Array) -> Array:
    days, total, squares = sums.T
    spread = np.sqrt(np.maximum(squares / days - (total / days) ** 2, 0))
    ratio: Array = total / days / np.where(spread > 0, spread, 1.0)
    return ratio


def nimbleq(*words: object) -> None:
    """One command line. Exit code 1 is an answer (what was asked does not hold); 2 ends the example."""
    if command_line([str(word) for word in words]) == 2:
        sys.exit(2)


def main(out: str = "runs/trading", steps: str = "40000", *options: str, first: int = 2009) -> None:
    folder = Path(out)
    nimbleq(*TRAIN, "--env-kwargs", "market=sp500", f"until={first}", "--steps", steps, "--out", folder)
    nimbleq("compress", folder, "--keep", 0.9, "--recipe", "distill", *options)
    nimbleq("export", folder, "--to", "c", "--out", folder / "build", "--name", "trader")
    nimbleq("verify", folder / "build", "--observations", 2000)
    test = window("sp500", first)
    holding = buy_and_hold(test)
    rows = {
        "policy": traded(Runtime(folder / "artefacts" / "small").act, test),
        "buy and hold": holding,
        "12-month momentum": momentum(test),
        "flat": np.zeros(len(holding)),
    }
    print(f"{first} and {first + 1}, learnt from the years before:")
    for name, returns in rows.items():
        more, low, high = excess_sharpe(returns, holding)
        print(
            f"  {name:18} {100 * np.prod(1 + returns) - 100:+6.1f} %, Sharpe ratio {sharpe(returns):5.2f}, "
            f"{more:+.2f} [{low:+.2f}, {high:+.2f}] over buy and hold"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
