"""Doudizhu in RLCard's environment: one small network that values every legal play, Q(s, a) over features of both.

    pip install 'nimbleq[games]'
    python examples/doudizhu.py [run directory [seconds of training [decks]]]

Three players and 27,472 plays, of which a few or some hundred are legal: too many for an output each. So the network
reads a play together with what the player sees, as DouZero [2106.06135] does, and `nimbleq.rl.action_value` teaches it:
first on recorded games of RLCard's rule player, then on its own, against itself and against that player. Called again
with more seconds it goes on.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rlcard.games.doudizhu import Game
from rlcard.models.doudizhu_rule_models import DouDizhuRuleAgentV1

from nimbleq import Graph, Runtime, certify, interpret, save_artefact
from nimbleq.cli import main as command_line
from nimbleq.compress.certify import record
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.recipe import apply, parse_recipe
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rl.action_value.game import Choose, Seat
from nimbleq.rl.action_value.learn import MonteCarloConfig, learn
from nimbleq.rl.training.evaluate import interval95
from nimbleq.types import Array, Episodes, Policy

RANKS = "3456789TJQKA2BR"
LANDLORD = 0
CARDS_LEFT = (20, 17, 17)
RECORDED = 12_000  # games of the rule player that it starts from
OWN_DECKS = 1_000_000  # decks from here on are for judging, those before for learning
RULE = DouDizhuRuleAgentV1()


class Deck:
    """A game of RLCard under way, as a `nimbleq.rl.action_value.game.Table`; seat 0 is the landlord."""

    def __init__(self, seed: int) -> None:
        self.game = Game()
        self.game.np_random = np.random.RandomState(seed)
        state, self.player = self.game.init_game()
        self._see(state)

    def _see(self, state: dict[str, Any]) -> None:
        # RLCard lists the plays in the order of a set of texts, which differs from process to process.
        self.state = {**state, "actions": sorted(state["actions"])}

    @property
    def seat(self) -> int | None:
        """See `Table`."""
        return None if self.game.is_over() else self.player

    def rows(self) -> Array:
        """See `Table`."""
        return rows_of(self.state)

    def play(self, action: int) -> None:
        """See `Table`."""
        state, self.player = self.game.step(self.state["actions"][action])
        self._see(state)

    def results(self) -> list[float]:
        """See `Table`."""
        return [float(paid) for paid in self.game.judger.judge_payoffs(LANDLORD, self.game.winner_id)]


@lru_cache(maxsize=1 << 17)
def counted(cards: str) -> Array:
    """``int8[15]`` how many there are of each rank; a pass has none."""
    return np.array([0 if cards == "pass" else cards.count(rank) for rank in RANKS], np.int8)


def bits(counts: Array) -> Array:
    """``int8[*, 15] → bool[*, 54]``: at least 1, 2, 3, 4 of each rank; the jokers."""
    four = counts[..., :13, None] > np.arange(4)
    return np.concatenate([four.reshape(*counts.shape[:-1], 52), counts[..., 13:] > 0], axis=-1)


def to_beat(trace: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """Who played what the next play must beat; ``(-1, "pass")`` where any will do."""
    for player, play in trace[:-3:-1]:
        if play != "pass":
            return player, play
    return -1, "pass"


def rows_of(state: dict[str, Any]) -> Array:
    """``bool[L, FEATURES]`` of what RLCard tells a player, and each of its L legal plays.

    Cards (54 bits each): the hand, those of the others, what is to beat, what each of the three has played; then how
    many cards each has left, who is asked, who played what is to beat; then of the play: its cards, the hand without
    them, and how many these are.
    """
    me, (beaten, play) = state["self"], to_beat(state["trace"])
    hand = counted(state["current_hand"])
    seen = [hand, *map(counted, (state["others_hand"], play, *state["played_cards"]))]
    left = [np.arange(most) < count for most, count in zip(CARDS_LEFT, state["num_cards_left"], strict=True)]
    known = np.concatenate([bits(np.stack(seen)).ravel(), *left, np.arange(3) == me, np.arange(3) == beaten])
    plays = np.stack([counted(cards) for cards in state["actions"]])
    rest = hand - plays
    remaining = np.arange(CARDS_LEFT[0]) < rest.sum(axis=1, keepdims=True)
    return np.concatenate([np.tile(known, (len(plays), 1)), bits(plays), bits(rest), remaining], axis=1)


FEATURES = 8 * 54 + sum(CARDS_LEFT) + 2 * 3 + CARDS_LEFT[0]
TRAINING = MonteCarloConfig(FEATURES, (128, 128))


def by_rule(deck: Any) -> int:
    """RLCard's rule player; where it draws, the draw follows from what it sees."""
    state = deck.state
    np.random.seed(zlib.crc32(f"{state['current_hand']} {len(state['trace'])}".encode()))
    return state["actions"].index(RULE.step({"raw_obs": state}))


def at_random(deck: Any) -> int:
    """Any legal play; the draw follows from what is seen."""
    state = deck.state
    drawn = zlib.crc32(f"random {state['current_hand']} {state['trace'][-3:]}".encode())
    return drawn % len(state["actions"])


def valued_by(value: Callable[[Array], Array]) -> Choose:
    """The play of the highest value; ``value: float32[L, F] → float32[L]``."""

    def choose(deck: Any) -> int:
        if len(deck.state["actions"]) == 1:
            return 0
        return int(value(deck.rows().astype(np.float32)).argmax())

    return choose


def running(policy: Runtime) -> Choose:
    """What runs: the compiled network on the rows of all legal plays."""
    return valued_by(lambda rows: policy.decider.run(rows)[1][:, 0])


def dealt(number: int) -> tuple[Deck, Sequence[Seat]]:
    """Game ``number`` of training: first the rule player's, with a tenth of its plays random, so that what is learnt is
    what a play is worth if the rules go on; then, in turns, own games and those against others: against two as the
    landlord, against one as both peasants. Half of these others follow the rule, half play at random."""
    rng = np.random.default_rng(number)

    def loosely(deck: Any) -> int:
        return int(rng.integers(len(deck.state["actions"]))) if rng.random() < 0.1 else by_rule(deck)

    if number < RECORDED:
        return Deck(number), [Seat(loosely)] * 3
    ours, other = Seat(), Seat(at_random if number % 8 in (5, 7) else by_rule, False)
    return Deck(number), [[ours] * 3, [ours, other, other], [ours] * 3, [other, ours, ours]][number % 4]


def won(seats: Sequence[Choose], seed: int) -> bool:
    """Whether the landlord, the first of three seats, wins this deck."""
    deck = Deck(OWN_DECKS + seed)
    while deck.seat is not None:
        deck.play(seats[deck.seat](deck))
    return deck.results()[LANDLORD] > 0


def duel(ours: Choose, theirs: Choose, seeds: Sequence[int]) -> Array:
    """``bool[D, 2]`` whether we win each deck as the landlord, and as both peasants."""
    return np.array([[won([ours, theirs, theirs], seed), not won([theirs, ours, ours], seed)] for seed in seeds])


class Decks:
    """A `nimbleq.types.Evaluate`: each deck against the rule player in both seats; the return is the share won."""

    def __call__(self, policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        """See `nimbleq.types.Evaluate`; ``policy`` is that of a graph, whose values are asked for."""
        met: list[Array] = []

        def value(rows: Array) -> Array:
            met.append(rows)
            assert isinstance(policy, GraphPolicy)
            return np.asarray(interpret(policy.graph, rows)["q"][:, 0])

        ours = at_random if epsilon == 1.0 else valued_by(value)
        returns = duel(ours, by_rule, seeds).mean(axis=1)
        seen = None
        if keep_obs:
            seen = np.concatenate(met)
            seen = seen[np.random.default_rng(list(seeds)).permutation(len(seen))[:keep_obs]]
        return Episodes(np.array(seeds), returns, np.ones(len(returns), np.int64), seen)


def make_small(teacher: Graph, folder: Path, keep: float = 0.9, most: int = 1_000) -> Runtime:
    """int8 in place of float32, in ``folder``, certified on up to ``most`` decks against the rule player (0: not)."""
    small, proof = apply(parse_recipe(["fold", "int8"]), Context(teacher, Decks())), None
    if most:
        certificate = certify(teacher, small, Decks(), keep, return_range=(0.0, 1.0), max_episodes=most)
        verdict = "certified" if certificate.certified else "not certified"
        print(f"int8 keeps {keep:.0%}: {verdict}, after {certificate.verdict.episodes} decks")
        proof = record([certificate])
    golden = Decks()(GraphPolicy(small), [0], keep_obs=256).obs
    assert golden is not None
    save_artefact(folder / "teacher", teacher, golden, {"made by": "examples/doudizhu.py"})
    save_artefact(folder / "small", small, golden, {"made by": "examples/doudizhu.py"}, proof)
    return Runtime(folder / "small")


def main(out: str = "runs/doudizhu", seconds: str = "600", decks: str = "200") -> None:
    folder, seeds = Path(out), range(int(decks))
    state = learn(TRAINING, dealt, folder / "checkpoint", float(seconds))
    print(f"learnt from {state.games:,} games in {state.seconds:.0f} s of processor time")
    policy = make_small(state.graph(), folder / "artefacts", most=int(decks) if int(decks) >= 100 else 0)
    words = ("export", folder / "artefacts" / "small", "--to", "c", "--out", folder / "build", "--name", "doudizhu")
    if command_line([str(word) for word in words]) or command_line(["verify", str(folder / "build")]):
        sys.exit(1)
    for name, other in (("the rule player", by_rule), ("random play", at_random)):
        wins = duel(running(policy), other, seeds)
        for seat, share in (("landlord", wins[:, :1]), ("peasants", wins[:, 1:]), ("both seats", wins)):
            low, high = interval95(share.mean(axis=1))
            print(f"against {name}, {seat}: {share.mean():.1%} of {len(seeds)} decks won ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main(*sys.argv[1:])
