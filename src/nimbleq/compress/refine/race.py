"""Racing: candidates play the same seeds, and those that fall behind stop early [Jamieson & Talwalkar 2016]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nimbleq.compress.refine.codes import Codes
from nimbleq.compress.refine.team import returns_of
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate

_FIRST_SEED = 2_000_000  # of the ``distill`` stream; distillation and calibration use the seeds before
_HEATS = ((0.25, 1.0), (0.25, 0.75), (0.5, 0.5))
"""Of a generation: share of the episodes, share of the candidates that still play them."""
_HALVING = ((12, 32), (4, 64), (2, 384))
"""Candidates and further episodes of each, in the rounds that leave one."""


class Returns:
    """Plays candidates, each time on seeds that nobody has played."""

    def __init__(self, evaluate: Evaluate, nonce: int) -> None:
        self.evaluate, self.nonce, self.next = evaluate, nonce, _FIRST_SEED

    def seeds(self, count: int) -> Array:
        """``int64[count]`` the next seeds."""
        self.next += count
        return episode_seeds("distill", self.nonce, count, start=self.next - count)

    def __call__(self, candidates: Sequence[Codes], episodes: int) -> Array:
        """``float64[P, episodes]`` on common seeds."""
        return returns_of(candidates, self.evaluate, self.seeds(episodes))


def scores_of(returns: Array, risk: float) -> Array:
    """``float64[P]`` means of ``returns [P, E]`` less ``risk`` standard deviations."""
    return np.asarray(returns.mean(axis=1) - risk * returns.std(axis=1))


@dataclass(frozen=True, eq=False)
class Raced:
    """Attributes:
    order: ``int64[P]`` places of the candidates, the best first.
    first: mean return of the first candidate.
    """

    order: Array
    first: float


def race(candidates: Sequence[Codes], play: Returns, episodes: int, risk: float) -> Raced:
    """Which candidates are better, for a search that does not ask by how much.

    The worse ones of each heat do not play the next, and come after those that do; but the first plays all
    ``episodes``, as it is the measure of the search. Candidates of equal codes play once.
    """
    keys = [codes.key for codes in candidates]
    left = np.array([place for place, key in enumerate(keys) if key not in keys[:place]])
    count, returns, behind = len(left), np.zeros((len(left), 0)), list[int]()
    for share, part in _HEATS:
        if returns.size:
            order = 1 + np.argsort(-scores_of(returns[1:], risk), kind="stable")
            going = max(1, round(part * count)) - 1
            behind = [*left[order[going:]].tolist(), *behind]
            stay = [0, *order[:going].tolist()]
            left, returns = left[stay], returns[stay]
        played = play([candidates[place] for place in left], max(1, round(share * episodes)))
        returns = np.concatenate([returns, played], axis=1)
    best = left[np.argsort(-scores_of(returns, risk), kind="stable")].tolist()
    rank = {keys[place]: rank for rank, place in enumerate([*best, *behind])}
    return Raced(np.argsort([rank[key] for key in keys], kind="stable"), float(returns[0].mean()))


def halved(pool: Sequence[Codes], play: Returns, risk: float, episodes: int = 0) -> tuple[Codes, float]:
    """The best of ``pool`` by rounds that leave fewer and let these play longer, and its mean return.

    The first of the pool stays to the end: what a long search found is not lost to the luck of a few episodes. The last
    round decides alone, as luck brought the others there.

    Args:
        episodes: of the rounds in which all take part, and then the better half, before the others (0: the first so
            many, as they come).
    """
    left, returns = list(pool), np.zeros((len(pool), 0))
    some = max(1, episodes // 4)
    all_first = ((len(left), some), (max(1, len(left) // 2), max(1, episodes - some)))
    stages = (*all_first, *_HALVING[1:]) if episodes else _HALVING
    for count, more in stages:
        scores = scores_of(returns[1:], risk) if returns.size else -np.arange(len(left) - 1.0)
        order = [0, *(1 + np.argsort(-scores, kind="stable"))[: max(1, count - 1)].tolist()]
        left, returns = [left[i] for i in order], returns[order]
        returns = np.concatenate([returns, play(left, more)], axis=1)
    last = returns[:, -stages[-1][1] :]
    best = int(scores_of(last, risk).argmax())
    return left[best], float(last[best].mean())
