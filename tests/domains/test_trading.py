"""The environments of ``examples/trading.py`` and ``examples/order_book.py``: no look ahead, costs, priority."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import order_book, trading
from examples.order_book import BUY, SELL, Book


def prices(seed: int, days: int = 700) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, days)))


@settings(max_examples=10)
@given(seed=st.integers(0, 99), day=st.integers(300, 698))
def test_a_day_knows_nothing_of_the_next(seed: int, day: int) -> None:
    close = prices(seed)
    other = close.copy()
    other[day + 1 :] *= 3
    before, after = trading.features(close), trading.features(other)
    assert np.array_equal(before[: day + 1], after[: day + 1], equal_nan=True)
    assert not np.array_equal(before[day + 1], after[day + 1])


def test_every_trade_costs_ten_basis_points() -> None:
    change = np.array([0.01, 0.02, -0.01, 0.0])
    assert trading.net(np.array([0.0, 1, 1, -1]), change) == pytest.approx([0, 0.02 - 0.001, -0.01, -0.002])
    assert trading.net(np.zeros(4), change).tolist() == [0, 0, 0, 0]


def test_the_environment_pays_what_the_test_counts() -> None:
    pytest.importorskip("arch")
    market = trading.Market("sp500", until=2009, short=True)
    market.reset(seed=5)
    first = market.day
    actions = np.random.default_rng(0).integers(3, size=trading.YEAR)
    paid, over = [], False
    for action in actions:
        assert not over
        _, reward, _, over, _ = market.step(int(action))
        paid.append(reward / 100)
    assert over
    positions = np.array([trading.position_of(action) for action in actions])
    change = market.bars.change[first + 1 : first + 1 + trading.YEAR]
    assert paid == pytest.approx(trading.net(positions, change))


def test_training_ends_before_its_test_begins() -> None:
    pytest.importorskip("arch")
    for first in trading.FOLDS:
        market = trading.Market("nasdaq", until=first)
        market.reset(seed=0)
        assert (market.bars.year[: market.days] < first).all()
        for seed in range(50):
            market.reset(seed=seed)
            assert market.end < market.days
        test = trading.window("nasdaq", first)
        start = int(np.argmax(market.bars.year >= first))
        assert np.array_equal(test.known[0], market.bars.features[start - 1])
        assert test.change[0] == market.bars.change[start]


def test_sharpe_ratio() -> None:
    returns = np.array([0.01, -0.01, 0.02, 0.0])
    assert trading.sharpe(returns) == pytest.approx(252**0.5 * 0.005 / returns.std())
    assert trading.sharpe(np.zeros(5)) == 0


def test_the_interval_of_a_difference_holds_what_it_should() -> None:
    pytest.importorskip("arch")
    rng = np.random.default_rng(0)
    holding = rng.normal(0.0003, 0.01, 1_500)
    assert trading.excess_sharpe(holding, holding, 100) == (0, 0, 0)
    more, low, high = trading.excess_sharpe(holding + 0.002, holding, 200)
    assert 0 < low < more < high
    _, low, high = trading.excess_sharpe(rng.normal(0.0003, 0.01, 1_500), holding, 200)
    assert low < 0 < high


def strategies(means: np.ndarray, seed: int = 0, days: int = 1_200) -> np.ndarray:
    returns = np.random.default_rng(seed).normal(size=(days, len(means))) + means
    return np.array([trading.blocks_of(column, 8) for column in returns.T])


def test_probability_of_overfitting() -> None:
    assert trading.overfitting(strategies(np.arange(6.0))) == 0, "the best stays the best"
    noise = [trading.overfitting(strategies(np.zeros(6), seed)) for seed in range(40)]
    assert np.mean(noise) == pytest.approx(0.5, abs=0.15)
    swaps = np.zeros((2, 2, 3))
    swaps[:, :, 0], swaps[:, :, 2] = 100, 100
    swaps[0, 0, 1] = swaps[1, 1, 1] = 10  # each is good in one half only
    assert trading.overfitting(swaps) == 1


def test_first_come_first_served_at_the_best_price() -> None:
    book = Book()
    for owner, price in (("late", 101), ("a", 100), ("b", 100)):
        assert book.send(owner, SELL, price, 2) == []
    assert (book.best(SELL), book.depth(SELL), book.best(BUY)) == (100, 4, None)
    assert book.send("x", BUY, 99, 1, rest=False) == [], "too cheap, and it does not stay"
    assert book.send("x", BUY, 101, 5) == [(100, 2), (100, 2), (101, 1)]
    assert book.best(BUY) is None
    assert book.send("y", BUY, 101, 3) == [(101, 1)], "the rest joins the book"
    assert (book.best(BUY), book.depth(BUY), book.best(SELL)) == (101, 2, None)
    book.cancel("y")
    assert book.best(BUY) is None


orders = st.tuples(st.sampled_from([BUY, SELL]), st.integers(95, 105), st.integers(1, 5), st.booleans())


@settings(max_examples=50)
@given(st.lists(orders, max_size=30))
def test_a_book_is_never_crossed_and_loses_no_share(sent: list[tuple[int, int, int, bool]]) -> None:
    book = Book()
    standing = 0
    for number, (side, price, size, rest) in enumerate(sent):
        trades = book.send(f"{number}", side, price, size, rest=rest)
        traded = sum(shares for _, shares in trades)
        assert all(side * (price - at) >= 0 for at, _ in trades), "never worse than the limit"
        standing += (size - traded if rest else 0) - traded
        bid, ask = book.best(BUY), book.best(SELL)
        assert bid is None or ask is None or bid < ask
        levels = [order for prices in book.sides.values() for level in prices.values() for order in level]
        assert sum(order.size for order in levels) == standing


def test_a_late_decision_earns_less_and_a_very_late_one_loses() -> None:
    def follow(obs: np.ndarray) -> int:
        return 0 if abs(obs[0]) < 1 else order_book.BUY_ACTION if obs[0] > 0 else order_book.SELL_ACTION

    at_once, late, last = (order_book.earned(follow, time, 1_500) for time in (1.0, 15.0, 500.0))
    assert at_once.mean - 3 * at_once.deviation > late.mean + 3 * late.deviation
    assert last.mean + 3 * last.deviation < 0
    assert order_book.earned(lambda obs: 0, 1.0, 50) == (0, 0)
