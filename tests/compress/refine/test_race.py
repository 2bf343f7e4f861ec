"""Racing: the better half is found, by fewer episodes than if all had played all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nimbleq.compress.refine.codes import Codes
from nimbleq.compress.refine.race import Returns, halved, race
from nimbleq.types import Episodes


def codes(worth: int) -> Codes:
    return Codes(np.array([[0], [worth]]), np.zeros(2, np.int64), np.zeros(1, np.int64))


@dataclass
class Worth:
    """Plays codes: what their one weight says, and what luck adds for everybody who plays that seed."""

    luck: float = 50.0
    played: dict[int, int] = field(default_factory=dict)

    def __call__(self, policy: Any, seeds: Sequence[int], **_: Any) -> Episodes:
        worth = int(policy.weight[1, 0])
        self.played[worth] = self.played.get(worth, 0) + len(seeds)
        noise = np.array([np.random.default_rng(seed).normal(0, self.luck) for seed in seeds])
        return Episodes(np.asarray(seeds), worth + noise, np.ones(len(seeds), np.int64))


def test_the_order_is_found_though_the_worse_play_less() -> None:
    worth = np.random.default_rng(0).permutation(15)
    play = Worth()
    raced = race([codes(one) for one in worth], Returns(play, 0), 32, 0.0)
    others = [one for one in worth[raced.order].tolist() if one != worth[0]]
    assert others == sorted(others, reverse=True), "the same seeds for all: luck is the same"
    assert sum(play.played.values()) < 0.75 * 15 * 32
    assert play.played[14] == 32
    assert play.played[worth[0]] == 32, "the first is the measure of the search"
    assert abs(raced.first - worth[0]) < 4 * play.luck / 32**0.5


def test_equal_codes_play_once() -> None:
    play = Worth()
    raced = race([codes(3), codes(5), codes(3), codes(5), codes(4)], Returns(play, 0), 8, 0.0)
    assert raced.order.tolist() == [1, 3, 0, 2, 4], "the first goes on, though another is better"
    assert play.played[5] == 8
    assert race([codes(3)] * 3, Returns(play, 1), 8, 0.2).order.tolist() == [0, 1, 2]


def test_an_even_return_counts() -> None:
    """Of two with the same mean the one that scatters less."""

    def play(policy: Any, seeds: Sequence[int], **_: Any) -> Episodes:
        swing = int(policy.weight[1, 0]) * (-1.0) ** np.arange(len(seeds))
        return Episodes(np.asarray(seeds), 10 + swing, np.ones(len(seeds), np.int64))

    assert race([codes(5), codes(1), codes(9)], Returns(play, 0), 8, 0.2).order.tolist() == [1, 0, 2]
    best, mean = halved([codes(5), codes(1), codes(9)], Returns(play, 0), 0.2)
    assert (best.weight[1, 0], mean) == (1, 10)


def test_the_first_is_not_lost_to_luck() -> None:
    """Thirty neighbours of what a search found, each a little worse; luck differs from one to the other."""

    def play(policy: Any, seeds: Sequence[int], **_: Any) -> Episodes:
        worth = int(policy.weight[1, 0])
        noise = [np.random.default_rng([seed, worth]).normal(0, 50.0) for seed in seeds]
        return Episodes(np.asarray(seeds), (12 if worth == 100 else 0) + np.array(noise), np.ones(len(seeds), np.int64))

    pool = [codes(100), *map(codes, range(30))]
    kept = [halved(pool, Returns(play, nonce), 0.0, episodes=32)[0].weight[1, 0] == 100 for nonce in range(20)]
    assert np.mean(kept) >= 0.9
    assert halved([codes(100)], Returns(play, 0), 0.0)[0].weight[1, 0] == 100
