"""The test behind the certificate: how many paired episodes it takes, what one look shows, when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt

import numpy as np

from nimbleq.compress.sequential import boundaries, floor_episodes, lower_bound, normal_quantile
from nimbleq.types import Array, Evaluate, Policy, Tick

ALPHA = 0.05
POWER = 0.9
HOPELESS = 10**9
"""Planned episodes that stand for "no number would do"."""
_FEWEST = 30
_LOOKS = (0.4, 0.7, 1.0)
_SEQUENTIAL_INFLATION = 1.03
"""Extra episodes that keep the planned power despite early looks (O'Brien–Fleming, three looks)."""


@dataclass
class Returns:
    """Returns of one policy by seed; each seed is played once however often it is asked for."""

    policy: Policy
    evaluate: Evaluate
    known: dict[int, float] = field(default_factory=dict)

    def __call__(self, seeds: Array) -> Array:
        """``float64[len(seeds)]`` undiscounted returns."""
        missing = [int(seed) for seed in seeds if int(seed) not in self.known]
        if missing:
            self.known.update(zip(missing, self.evaluate(self.policy, missing).returns.tolist(), strict=True))
        return np.array([self.known[int(seed)] for seed in seeds], np.float64)


@dataclass(frozen=True)
class Plan:
    """How many episodes the claim takes.

    Attributes:
        episodes: planned.
        looks: episodes at each look; the last equals ``episodes``.
        expected_difference: what was planned for.
        deviation: of the paired difference in the pilot.
    """

    episodes: int
    looks: tuple[int, ...]
    expected_difference: float
    deviation: float


def plan(difference: Array, margin: float, keep: float, alpha: float = ALPHA, most: int = HOPELESS) -> Plan:
    """Sample size for 90 % power, from a pilot's paired differences.

    ``n = ((z_{1−α} + z_{.9})·σ/(δ + d))²`` with ``d`` the pilot's mean difference less its standard error, and never
    above zero: a plan that counts on a lucky pilot ends in a refusal. At least `floor_episodes`.

    Args:
        difference: ``[pilot]`` student minus teacher, at least 2.
        margin: ``δ ≥ 0``; with none (``keep = 1``) only a proven improvement passes.
        keep: share of the return to keep.
        alpha: error of the whole test.
        most: episodes that can be afforded. A larger plan is cut to it, unless even at two standard errors above the
            pilot's mean (and no better than the teacher) there would be less than an even chance.
    """
    sigma, mean = float(difference.std(ddof=1)), float(difference.mean())
    error = sigma / sqrt(len(difference))
    fewest = max(_FEWEST, floor_episodes(keep, alpha))

    def needed(power: float, room: float) -> int:
        if room <= 0 or (sigma == 0 and margin <= 0):
            return HOPELESS
        episodes = _SEQUENTIAL_INFLATION * ((normal_quantile(1 - alpha) + normal_quantile(power)) * sigma / room) ** 2
        return max(ceil(min(episodes, HOPELESS)), fewest)

    expected = mean - error if margin <= 0 else min(mean - error, 0.0)
    episodes = needed(POWER, margin + expected)
    best_case = mean + 2 * error if margin <= 0 else min(mean + 2 * error, 0.0)
    if episodes > most and needed(0.5, margin + best_case) <= most:
        episodes = most  # the pilot is too coarse to say no
    if episodes >= HOPELESS:
        return Plan(HOPELESS, (HOPELESS,), expected, sigma)
    early = (ceil(share * episodes) for share in _LOOKS[:-1])
    # A look below the floor could not pass, and one just before the end would only cost alpha.
    looks = tuple(n for n in early if fewest <= n <= 0.9 * episodes)
    return Plan(episodes, (*looks, episodes), expected, sigma)


@dataclass(frozen=True)
class Verdict:
    """Outcome of the test on returns alone; `Certificate` has the meaning of the fields."""

    certified: bool
    episodes: int
    difference_mean: float
    difference_std: float
    difference_lower95: float
    margin: float
    looks: tuple[dict[str, float], ...]


def judge(teacher: Array, student: Array, rand: Array, keep: float, level: float) -> tuple[bool, float, float]:
    """One look: whether non-inferiority is shown, the lower bound of the mean difference, the margin.

    The margin is itself measured. Its noise is in the bound: the deviation used is the larger of that of
    ``student − teacher`` and that of ``student − keep·teacher − (1 − keep)·random``.

    Args:
        teacher, student: ``[n]`` returns on the same seeds.
        rand: ``[m]`` returns of the random policy.
        keep: share of the return to keep.
        level: chance of error allowed at this look.
    """
    margin = (1 - keep) * float(teacher.mean() - rand.mean())
    n = len(teacher)
    whole = float((student - keep * teacher).var(ddof=1)) + (1 - keep) ** 2 * float(rand.var(ddof=1)) * n / len(rand)
    lower = lower_bound(student - teacher, level, deviation=sqrt(whole))
    return lower > -margin and float(teacher.mean()) > float(rand.mean()), lower, margin


def run_test(
    teacher: Returns,
    student: Returns,
    rand: Array,
    keep: float,
    seeds: Array,
    looks: Sequence[int],
    alpha: float,
    tick: Tick,
) -> Verdict:
    """Play the looks one after the other until the claim is shown, is hopeless, or the episodes are spent."""
    total = looks[-1]
    levels = boundaries(alpha, [n / total for n in looks])
    history: list[dict[str, float]] = []
    for n, level in zip(looks, levels, strict=True):
        tick(history[-1]["episodes"] if history else 0, total, "certifying")
        own, other = student(seeds[:n]), teacher(seeds[:n])
        certified, lower, margin = judge(other, own, rand, keep, level)
        difference = own - other
        mean = float(difference.mean())
        history.append({"episodes": n, "level": level, "difference_mean": mean, "lower": lower, "margin": margin})
        if certified or mean <= -margin:  # a trend already below the margin is hopeless; stopping there costs no alpha
            break
    tick(total, total, "certifying")
    return Verdict(certified, n, mean, float(difference.std(ddof=1)), lower, margin, tuple(history))
