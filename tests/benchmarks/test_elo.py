"""Elo ratings: known odds, a chain, and what cannot be rated."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.elo import intervals, ratings


def test_ten_to_one_is_four_hundred_points() -> None:
    games = [1.0] * 1000 + [0.0] * 100
    found = ratings({("a", "b"): games}, "b")
    assert found["b"] == 0
    assert found["a"] == pytest.approx(400, abs=2)
    assert ratings({("b", "a"): [1 - game for game in games]}, "b")["a"] == pytest.approx(400, abs=2)


def test_a_chain_adds_up_and_a_loop_agrees() -> None:
    rng = np.random.default_rng(0)
    true = {"a": 0.0, "b": 150.0, "c": 400.0}
    scores = {
        (one, two): (rng.random(4000) < 1 / (1 + 10 ** ((true[two] - true[one]) / 400))).astype(float).tolist()
        for one, two in (("b", "a"), ("c", "b"), ("a", "c"))
    }
    found = ratings(scores, "a")
    assert found == pytest.approx(true, abs=25)
    low, high = intervals({pair: each[:300] for pair, each in scores.items()}, "a")["c"]
    assert low < found["c"] < high


def test_a_player_that_always_wins_has_a_finite_rating() -> None:
    assert 400 < ratings({("a", "b"): [1.0] * 50}, "b")["a"] < 1500


def test_players_that_never_met_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing connects c with a"):
        ratings({("a", "b"): [1.0], ("c", "d"): [0.5]}, "a")
