"""``examples/doudizhu.py``: features of cards, that it plays RLCard's own game, and that both seats are counted."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rlcard")

import rlcard

from examples import doudizhu as game
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rl.action_value.learn import learn, new


def test_cards_as_bits() -> None:
    bits = game.bits(game.counted("3344445BR"))
    assert bits.sum() == 9
    assert bits[:12].tolist() == [True, True, False, False, True, True, True, True, True, False, False, False]
    assert bits[52:].tolist() == [True, True]
    assert not game.bits(game.counted("pass")).any()
    assert game.to_beat([]) == (-1, "pass")
    assert game.to_beat([(0, "33"), (1, "pass")]) == (0, "33")
    assert game.to_beat([(0, "33"), (1, "pass"), (2, "pass")]) == (-1, "pass")


def test_it_is_the_environment_of_rlcard() -> None:
    env = rlcard.make("doudizhu", {"seed": 7})
    state, player = env.reset()
    deck = game.Deck(0)
    deck.game, deck.player = env.game, player
    deck._see(env.game.state)
    rng = np.random.default_rng(0)
    while not env.is_over():
        rows, plays = deck.rows(), deck.state["actions"]
        assert rows.shape == (len(plays), game.FEATURES)
        assert sorted(state["raw_legal_actions"]) == plays
        for row, play in zip(rows, plays, strict=True):
            theirs = env.get_action_feature(env._ACTION_2_ID[play])
            assert np.array_equal(row[-128:-74], theirs), "the play as RLCard writes it"
        assert np.array_equal(rows[0][:54], state["obs"][:54]), "the hand as RLCard writes it"
        chosen = int(rng.integers(len(plays)))
        state, player = env.step(plays[chosen], raw_action=True)
        deck.player = player
        deck._see(env.game.state)
    assert deck.results() == env.get_payoffs().tolist()


def test_a_deck_repeats_itself_with_the_rule_player() -> None:
    def played(seed: int) -> list[str]:
        deck, plays = game.Deck(seed), []
        while deck.seat is not None:
            chosen = game.by_rule(deck)
            plays.append(deck.state["actions"][chosen])
            deck.play(chosen)
        return plays

    assert played(3) == played(3)
    assert played(3) != played(4)


def test_both_seats_are_counted() -> None:
    wins = game.duel(game.by_rule, game.at_random, range(20))
    assert wins.shape == (20, 2)
    assert wins.mean() > 0.7
    same = game.duel(game.by_rule, game.by_rule, range(5))
    assert (same[:, 0] != same[:, 1]).all(), "against itself, it wins one of the two"


def test_it_learns_and_is_judged_by_the_same_code(tmp_path: object) -> None:
    from dataclasses import replace

    quick = replace(game.TRAINING, tables=4, batch_size=32, hidden=(16,))
    state = learn(quick, game.dealt, tmp_path, 60.0, games=6)
    assert state.memory.added > 6 * 20, "all three seats of recorded games"
    graph = new(quick).graph()
    episodes = game.Decks()(GraphPolicy(graph), [1, 2], keep_obs=30)
    assert episodes.obs.shape == (30, game.FEATURES)
    assert set(episodes.returns) <= {0.0, 0.5, 1.0}
    running = game.duel(game.running(game.Runtime(graph)), game.by_rule, [1, 2])
    assert running.mean(axis=1).tolist() == episodes.returns.tolist(), "what is certified is what runs"
    chance = game.Decks()(GraphPolicy(graph), [1, 2], epsilon=1.0)
    assert len(chance.returns) == 2
