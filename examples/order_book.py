"""High-frequency trading, simulated: what a decision earns depends on the microseconds that it takes.

    pip install 'nimbleq[train]'
    python examples/order_book.py [run directory [steps [options of nimbleq compress …]]]

News moves the value of a share. For a moment the orders in the book stand at the old price, and whoever is there first
trades at it; then the makers have cancelled. What we see of the news is noisy, and a late order is filled mostly when
there was no news after all. The market is ours, not a copy of any: see docs/trading.md. Run it from the folder above
``examples``; training alone is
``nimbleq train --env examples.order_book:Race --env-kwargs latency_us=1``.
"""

from __future__ import annotations

import shlex
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq import Runtime
from nimbleq.cli import main as command_line

BUY, SELL = 1, -1
NOTHING, BUY_ACTION, SELL_ACTION = range(3)
MODE_US, SPREAD = 7.5, 1.0
"""Others answer after a lognormal time with this mode: the modal race at London lasts 5 to 10 µs (Aquilina, Budish,
O'Neill 2022). Its spread is ours: the median is then 20 µs."""
RIVALS, SIZE, FEE, NOISE = 3, 3, 0.2, 1.0
"""Other takers; shares of one order; fee and deviation of the signal in ticks."""
TRAIN = shlex.split(
    "train --env examples.order_book:Race --network.hidden 32 32 --learner.gamma 0.0 --replay.n-step 1 "
    "--evaluation.episodes 200 --learner.lr-end 1e-4 --learner.lr-updates 4000 --explore.end 0.2"
)
"""A race does not change the next one, so nothing is to be learnt beyond it: γ = 0."""


class Order(NamedTuple):
    """Attributes:
    owner: who sent it.
    size: shares.
    """

    owner: str
    size: int


class Book:
    """Limit orders on whole ticks: the best price first, then first come, first served."""

    def __init__(self) -> None:
        self.sides: dict[int, dict[int, deque[Order]]] = {BUY: {}, SELL: {}}

    def best(self, side: int) -> int | None:
        """The highest bid (`BUY`) or the lowest ask (`SELL`)."""
        prices = self.sides[side]
        return None if not prices else max(prices) if side == BUY else min(prices)

    def depth(self, side: int) -> int:
        """Shares at the best price."""
        best = self.best(side)
        return 0 if best is None else sum(order.size for order in self.sides[side][best])

    def send(self, owner: str, side: int, price: int, size: int, *, rest: bool = True) -> list[tuple[int, int]]:
        """Trade with what stands at ``price`` or better; what is left joins the book, or lapses without ``rest``.

        Returns:
            ``(price, shares)`` of each trade.
        """
        trades, against = [], self.sides[-side]
        while size and (best := self.best(-side)) is not None and side * (price - best) >= 0:
            first = against[best].popleft()
            traded = min(size, first.size)
            trades.append((best, traded))
            size -= traded
            if traded < first.size:
                against[best].appendleft(first._replace(size=first.size - traded))
            elif not against[best]:
                del against[best]
        if size and rest:
            self.sides[side].setdefault(price, deque()).append(Order(owner, size))
        return trades

    def cancel(self, owner: str) -> None:
        """Take all orders of ``owner`` out."""
        for prices in self.sides.values():
            for price in list(prices):
                kept = deque(order for order in prices[price] if order.owner != owner)
                if kept:
                    prices[price] = kept
                else:
                    del prices[price]


class Race(gymnasium.Env[Any, Any]):
    """Twenty pieces of news, one decision each: nothing (0), buy (1) or sell (2) three shares at the price seen.

    Observes the signal (the move in ticks, and noise), the shares at the best bid and ask, and the spread. Pays what
    the shares are worth after the news, in ticks, minus price and fee.
    """

    action_space = spaces.Discrete(3)
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def __init__(self, latency_us: float = 1.0, races: int = 20) -> None:
        self.latency_us, self.races = latency_us, races

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.book, self.value, self.left = Book(), 1_000, self.races
        self._quote()
        return self._news(), {}

    def _quote(self) -> None:
        """The maker cancels and offers anew around the value, a tick away and further."""
        self.book.cancel("maker")
        for away in (1, 2):
            self.book.send("maker", BUY, self.value - away, 4)
            self.book.send("maker", SELL, self.value + away, 4)

    def _news(self) -> Any:
        """A quiet time with small orders, then news, which moves the value in half of all cases."""
        draw = self.np_random
        self.book.cancel("noise")
        for _ in range(draw.poisson(2)):
            side = BUY if draw.random() < 0.5 else SELL
            best = self.book.best(-side)
            if best is not None and draw.random() < 0.5:
                self.book.send("noise", side, best, int(draw.integers(1, 4)), rest=False)
            else:
                self.book.send("noise", side, self.value - side, 1)
        self.move = int(draw.integers(2, 6)) * (BUY if draw.random() < 0.5 else SELL) if draw.random() < 0.5 else 0
        self.bid, self.ask = self.book.best(BUY), self.book.best(SELL)
        bid, ask = self.bid or self.value - 1, self.ask or self.value + 1
        signal = self.move + NOISE * draw.normal()
        return np.array([signal, self.book.depth(BUY), self.book.depth(SELL), ask - bid], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        side = {NOTHING: 0, BUY_ACTION: BUY, SELL_ACTION: SELL}[int(action)]
        times = MODE_US * np.exp(SPREAD**2 + SPREAD * self.np_random.normal(size=RIVALS + 1))
        moving = self.move != 0  # without news nobody else has a reason to act
        events = [(time, f"rival {number}") for number, time in enumerate(times[1:].tolist()) if moving]
        events += [(float(times[0]), "maker")] if moving else []
        events += [(self.latency_us, "us")] if side else []
        self.value += self.move
        earned = 0.0
        for _, who in sorted(events):
            if who == "maker":
                self._quote()
            elif who == "us":
                seen = self.ask if side == BUY else self.bid
                trades = [] if seen is None else self.book.send("us", side, seen, SIZE, rest=False)
                earned = sum(shares * (side * (self.value - price) - FEE) for price, shares in trades)
            else:
                way = BUY if self.move > 0 else SELL
                self.book.send(who, way, self.value - way, SIZE, rest=False)
        self._quote()
        self.left -= 1
        return self._news(), earned, self.left == 0, False, {}


class Earned(NamedTuple):
    """Attributes:
    mean: ticks a race.
    deviation: standard error of the mean.
    """

    mean: float
    deviation: float


def earned(act: Callable[[Any], int], latency_us: float, races: int = 5_000, seed: int = 1) -> Earned:
    """What a policy earns when its decisions take ``latency_us``."""
    market = Race(latency_us, races)
    obs, _ = market.reset(seed=seed)
    paid = []
    over = False
    while not over:
        obs, reward, over, _, _ = market.step(act(obs))
        paid.append(reward)
    return Earned(float(np.mean(paid)), float(np.std(paid) / races**0.5))


def nimbleq(*words: object) -> None:
    """One command line. Exit code 1 is an answer (what was asked does not hold); 2 ends the example."""
    if command_line([str(word) for word in words]) == 2:
        sys.exit(2)


def main(out: str = "runs/order_book", steps: str = "100000", *options: str) -> None:
    folder = Path(out)
    nimbleq(*TRAIN, "--env-kwargs", "latency_us=1", "--steps", steps, "--out", folder)
    nimbleq("compress", folder, "--keep", 0.9, "--recipe", "distill", *options)
    nimbleq("export", folder, "--to", "c", "--out", folder / "build", "--name", "racer")
    nimbleq("verify", folder / "build", "--observations", 2000)
    policy = Runtime(folder / "artefacts" / "small")
    for latency_us in (0.1, 1.0, 10.0, 100.0):
        found = earned(policy.act, latency_us, races=2_000)
        print(f"decisions after {latency_us:5.1f} µs earn {found.mean:+.3f} ± {found.deviation:.3f} ticks a race")


if __name__ == "__main__":
    main(*sys.argv[1:])
