"""Deep Monte-Carlo on a game whose values are known, its memory, and going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.deploy.runtime import Runtime
from nimbleq.errors import ConfigError
from nimbleq.graph.interpret import interpret
from nimbleq.rl.action_value.game import Seat
from nimbleq.rl.action_value.learn import MonteCarloConfig, State, learn, load, save
from nimbleq.rl.action_value.memory import Memory
from nimbleq.rl.training.checkpoint import load_checkpoint, save_checkpoint

CHANCES = (0.1, 0.9, 0.5)
CONFIG = MonteCarloConfig(
    8, (16,), tables=4, capacity=2_000, batch_size=64, passes=128.0, lr=2e-2, average_updates=20, epsilon=1.0
)


class Guess:
    """Two seats move once each; seat 0 wins with a chance that its action decides, seat 1 never matters."""

    def __init__(self, seed: int) -> None:
        self.rng, self.moves = np.random.default_rng(seed), list[int]()

    @property
    def seat(self) -> int | None:
        return len(self.moves) if len(self.moves) < 2 else None

    def rows(self) -> np.ndarray:
        legal = 3 if self.seat == 0 else 1
        return np.concatenate([np.eye(3, 6, dtype=bool), np.full((3, 2), self.seat == 1)], axis=1)[:legal]

    def play(self, action: int) -> None:
        self.moves.append(action)

    def results(self) -> list[float]:
        won = float(self.rng.random() < CHANCES[self.moves[0]])
        return [won, 1 - won]


def deal(number: int) -> tuple[Guess, list[Seat]]:
    return Guess(number), [Seat(), Seat(lambda table: 0, recorded=False)]


def test_values_are_the_chances_of_winning(tmp_path: Path) -> None:
    state = learn(CONFIG, deal, tmp_path, 60.0, games=400)
    graph = state.graph()
    rows = Guess(0).rows().astype(np.float32)
    with torch.no_grad():
        assert np.allclose(state.average(torch.from_numpy(rows)).numpy(), interpret(graph, rows)["q"], atol=1e-5)
    values = Runtime(graph, "numpy").decider.run(rows)[1][:, 0]
    assert 1 / (1 + np.exp(-values)) == pytest.approx(CHANCES, abs=0.15)
    assert values.argmax() == 1
    assert state.games >= 400
    assert state.memory.added == state.games, "the other seat is not learnt from"


def test_what_a_given_player_does_is_recorded(tmp_path: Path) -> None:
    def recorded(number: int) -> tuple[Guess, list[Seat]]:
        return Guess(number), [Seat(lambda table: 2), Seat(lambda table: 0)]

    state = learn(CONFIG, recorded, tmp_path, 60.0, games=20)
    assert state.memory.added == 2 * state.games
    rows, results = state.memory.sample(np.random.default_rng(0), 200)
    assert set(map(tuple, rows)) == {(0, 0, 1, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 1, 1)}
    assert 0.2 < results.mean() < 0.8


@pytest.mark.parametrize("passes", [0.5, 3.0])
def test_a_row_is_learnt_from_as_often_as_asked(tmp_path: Path, passes: float) -> None:
    state = learn(replace(CONFIG, passes=passes), deal, tmp_path, 60.0, games=300)
    updates = next(iter(state.adam.state_dict()["state"].values()))["step"]
    assert updates == int(passes * state.memory.added / CONFIG.batch_size) > 0
    again = load(replace(CONFIG, passes=passes), tmp_path)
    assert again.owed == state.owed == pytest.approx(passes * state.memory.added / CONFIG.batch_size - updates)


def test_the_average_plays(tmp_path: Path) -> None:
    state = learn(CONFIG, deal, tmp_path, 60.0, games=200)
    one, mean = state.network.state_dict(), state.average.state_dict()
    assert any(not torch.equal(one[name], mean[name]) for name in one)
    kept = load(CONFIG, tmp_path).average.state_dict()
    assert all(torch.equal(kept[name], mean[name]) for name in mean)


def test_it_goes_on_with_what_was_saved(tmp_path: Path) -> None:
    first = learn(CONFIG, deal, tmp_path, 60.0, games=80)
    again = load(CONFIG, tmp_path)
    assert (again.games, again.seconds) == (first.games, first.seconds)
    for name, value in first.memory.arrays().items():
        assert np.array_equal(value, again.memory.arrays()[name])
    batch = first.memory.sample(np.random.default_rng(0), 64)
    assert weights_after(first, *batch) == weights_after(again, *batch), "Adam's moments are saved, too"
    more = learn(CONFIG, deal, tmp_path, 60.0, games=120)
    assert more.games >= 120
    assert more.memory.added == more.games
    with pytest.raises(ConfigError, match="widths"):
        load(MonteCarloConfig(8, (17,)), tmp_path)
    arrays, values = load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, arrays, {name: value for name, value in values.items() if name != "owed"})
    with pytest.raises(ConfigError, match="before weights were averaged: use another folder"):
        load(CONFIG, tmp_path)


def weights_after(state: State, rows: np.ndarray, results: np.ndarray) -> bytes:
    from nimbleq.rl.action_value.learn import update

    update(state, rows, results)
    return b"".join(value.numpy().tobytes() for value in state.network.state_dict().values())


def test_a_save_without_games(tmp_path: Path) -> None:
    state = learn(CONFIG, deal, tmp_path, 0.0)
    assert state.games == 0
    save(state, tmp_path)
    assert load(CONFIG, tmp_path).memory.added == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 20), st.integers(0, 99))
def test_the_memory_keeps_the_newest(parts: list[int], features: int, seed: int) -> None:
    rng, memory = np.random.default_rng(seed), Memory(12, features)
    rows, results = rng.random((sum(parts), features)) < 0.5, rng.random(sum(parts)).astype(np.float32)
    for start, count in zip(np.cumsum([0, *parts]), parts, strict=False):
        memory.add(rows[start : start + count], results[start : start + count])
    kept = {(tuple(row), value) for row, value in zip(rows[-12:].tolist(), results[-12:].tolist(), strict=True)}
    drawn = memory.sample(rng, 300)
    assert {
        (tuple(row), value) for row, value in zip(drawn[0].astype(bool).tolist(), drawn[1].tolist(), strict=True)
    } <= kept
    assert len(memory) == min(12, sum(parts))
