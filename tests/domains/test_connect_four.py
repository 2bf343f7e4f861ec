"""``examples/connect_four.py``: what the network sees, who moves when, and values on the right side of the search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyspiel")

import pyspiel

from examples import connect_four as game
from nimbleq import EnvConfig, load_artefact
from nimbleq.rl.envs.serial import SerialEnvBatch


def after(*moves: int) -> object:
    state = game.GAME.new_initial_state()
    for move in moves:
        state.apply_action(move)
    return state


def test_each_player_sees_its_own_pieces_first() -> None:
    state = after(3, 3, 0)
    first, second = game.observed(state, 0), game.observed(state, 1)
    assert np.argwhere(first[0]).tolist() == [[1, 1], [1, 4]], "columns 0 and 3 of the lowest row, inside the frame"
    assert np.argwhere(first[1]).tolist() == [[2, 4]]
    assert np.array_equal(first[0], second[1])
    assert np.array_equal(first[1], second[0])
    assert first[2, 1:-1, 1:-1].all()
    assert first[2].sum() == 42


@pytest.mark.parametrize("opponent", ["random", "mcts:10"])
def test_an_episode_follows_from_its_seed_and_actions(opponent: str) -> None:
    def episode(seed: int) -> list[object]:
        env = game.ConnectFour(opponent)
        obs, info = env.reset(seed=seed)
        told: list[object] = [obs.tobytes(), info["legal_actions"]]
        rng, over = np.random.default_rng(seed), False
        while not over:
            obs, reward, over, _, info = env.step(rng.choice(info["legal_actions"]))
            told += [obs.tobytes(), reward, info["legal_actions"]]
        assert reward in (-1, 0, 1)
        return told

    assert episode(3) == episode(3)
    assert episode(3) != episode(4)


def test_an_illegal_move_is_refused() -> None:
    env = game.ConnectFour(opening=0)
    env.reset(seed=0)
    env.state = after(2, 2, 2, 2, 2, 2)
    with pytest.raises(pyspiel.SpielError):
        env.step(2)


def test_rewards_are_those_of_the_own_seat() -> None:
    seats, results = [], []
    for seed in range(40):
        env = game.ConnectFour("random", opening=0)
        env.reset(seed=seed)
        seats.append(env.seat)
        bot, over = game.searching(60, seed), False
        while not over:
            _, reward, over, _, _ = env.step(bot.step(env.state))
        results.append(reward)
    assert set(seats) == {0, 1}
    assert np.mean(results) > 0.8, "the search beats chance in both seats"


def test_recorded_values_see_a_win_and_an_unstoppable_loss(tmp_path: Path) -> None:
    bot = game.searching(300, 0)
    won = after(3, 0, 3, 0, 3, 1)
    root = bot.mcts_search(won)
    assert root.best_child().action == 3
    games = game.recorded(tmp_path / "games", 120, 50)
    assert games.obs.shape == (120, 3, 8, 9)
    assert np.abs(games.value).max() <= 1
    legal = ~games.obs[:, :2, 6, 1:8].any(axis=1)  # a column is legal until its top cell is taken
    running = games.weight.any(axis=1)
    assert np.array_equal(games.weight[running] > 0, legal[running])
    again = game.recorded(tmp_path / "games", 120, 50)
    assert np.array_equal(again.value, games.value)


def test_a_network_learns_them_and_guides_the_search(tmp_path: Path) -> None:
    games = game.recorded(tmp_path / "games", 400, 50)
    game.learn_from(games, tmp_path / "pool" / "net", epochs=6)
    policy = game.opened_policy(tmp_path / "pool" / "net")
    assert policy.graph.masked
    assert load_artefact(tmp_path / "pool" / "net").interface.mask == "info:legal_actions"
    evaluator, first, second = game.NetworkEvaluator(policy), after(3, 0, 3, 0, 3, 1), after(3, 0, 3, 0, 3)
    assert evaluator.evaluate(first).sum() == 0
    assert sum(share for _, share in evaluator.prior(first)) == pytest.approx(1)
    values = policy.q_values(game.observed(second, 1))
    share = np.exp(np.asarray(values, np.float64) / game.TEMPERATURE)
    mean = np.clip(values @ share / share.sum(), -1, 1)
    assert evaluator.evaluate(second)[1] == pytest.approx(mean, abs=1e-6)
    assert game.guided(policy, 50, 0).step(first) == 3, "four in a column"
    assert game.guided(policy, 50, 0).step(second) == 3, "which must be blocked"
    batch = SerialEnvBatch(EnvConfig(game.ENV, kwargs=(f"opponent=pool:{tmp_path / 'pool'}",)), 2)
    assert batch.reset(0, 5).shape == (3, 8, 9)
    batch.close()
    with pytest.raises(ValueError, match="no artefact"):
        game.opponent_named(f"pool:{tmp_path / 'nothing'}", np.random.default_rng(0))


def test_a_duel_swaps_seats_and_is_fair() -> None:
    first = game.opponent_named("random", np.random.default_rng(0))
    same = game.duel(game.searching(20, 0).step, first, range(4))
    assert same.score.shape == (4,)
    assert same.score.mean() > 0.5
    mirrored = game.duel(lambda state: state.legal_actions()[0], lambda state: state.legal_actions()[0], range(6))
    assert mirrored.score.tolist() == [0.5] * 6, "equal players each win their half of a pair"


@pytest.mark.parametrize(("opponent", "seed"), [("random", 794), ("mcts:20", 118)])
def test_no_episode_begins_with_the_game_over(opponent: str, seed: int) -> None:
    """After six random moves the opponent's first one may win."""
    env = game.ConnectFour(opponent)
    _, info = env.reset(seed=seed)
    assert not env.state.is_terminal()
    assert info["legal_actions"]
