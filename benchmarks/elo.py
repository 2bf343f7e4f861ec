"""Elo ratings from results of pairs of players: Bradley and Terry's model (1952), a draw being half a win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nimbleq.types import Array

POINTS = 400 / np.log(10)
"""Elo points of a difference of 1 in log-odds: 400 points are odds of ten to one."""
RESAMPLES = 200
_PRIOR = 0.5
_ROUNDS, _ENOUGH = 60, 1e-6

Scores = Mapping[tuple[str, str], Sequence[float]]
"""Who played whom → the first one's score, 0 to 1, of each pair of games."""


def ratings(scores: Scores, anchor: str) -> dict[str, float]:
    """Elo of each player above ``anchor``, most probable under a prior of half a drawn game between those who met.

    Newton's method on the log-odds; a score counts as one game.

    Raises:
        ValueError: the games do not connect a player with ``anchor``.
    """
    names = sorted({name for pair in scores for name in pair})
    met = {anchor}
    for _ in names:
        met |= {name for pair in scores if met & set(pair) for name in pair}
    if missing := sorted(set(names) - met):
        raise ValueError(f"nothing connects {missing[0]} with {anchor}")
    place = {name: at for at, name in enumerate(names)}
    first, second = (np.array([place[pair[side]] for pair in scores]) for side in (0, 1))
    won = np.array([float(np.sum(each)) for each in scores.values()]) + _PRIOR / 2
    games = np.array([len(each) for each in scores.values()]) + _PRIOR
    return dict(zip(names, _strengths(first, second, won, games, place[anchor]).tolist(), strict=True))


def _strengths(first: Array, second: Array, won: Array, games: Array, anchor: int) -> Array:
    count = int(max(first.max(), second.max())) + 1
    free = np.arange(count) != anchor
    strength = np.zeros(count)
    for _ in range(_ROUNDS):
        chance = 1 / (1 + np.exp(strength[second] - strength[first]))
        slope, curve = np.zeros(count), np.zeros((count, count))
        np.add.at(slope, first, won - games * chance)
        np.add.at(slope, second, games * chance - won)
        sure = games * chance * (1 - chance)
        for rows, columns, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
            np.add.at(curve, (rows, columns), sign * sure)
        step = np.zeros(count)
        step[free] = np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        strength += np.clip(step, -1, 1)
        if np.abs(step).max() < _ENOUGH:
            break
    points: Array = POINTS * strength
    return points


def intervals(scores: Scores, anchor: str) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of `ratings`, pairs of games resampled for each two players."""
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        picked = {pair: rng.choice(np.asarray(each), len(each)).tolist() for pair, each in scores.items()}
        for name, rating in ratings(picked, anchor).items():
            drawn.setdefault(name, []).append(rating)
    return {name: (float(low), float(high)) for name, (low, high) in (
        (name, np.percentile(values, [2.5, 97.5])) for name, values in drawn.items()
    )}  # fmt: skip
