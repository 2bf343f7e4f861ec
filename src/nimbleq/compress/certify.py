"""The certificate: is the student, on paired seeds, provably no worse than the teacher by more than the margin?

Teacher and student play the same seeds. ``δ = (1 − keep)·(teacher − random)``; the student is certified when the
one-sided 95 % lower bound of the mean paired difference exceeds ``−δ``. A pilot on seeds of its own says how many
episodes that takes; looking early costs alpha (`sequential`); what cannot be shown is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, sqrt
from typing import Any

import numpy as np

from nimbleq.compress.sequential import boundaries, floor_episodes, lower_bound, normal_quantile
from nimbleq.compress.states import Comparison, ConstantPolicy, compare_graphs
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import Purpose, episode_seeds
from nimbleq.types import Array, Evaluate, Policy, Tick, no_tick

ALPHA = 0.05
POWER = 0.9
_LOOKS = (0.4, 0.7, 1.0)
_SEQUENTIAL_INFLATION = 1.03
"""Extra episodes that keep the planned power despite early looks (O'Brien–Fleming, three looks)."""
_FEWEST = 30
_HOPELESS = 10**9
"""Planned episodes that stand for "no number would do"."""
_STATES = 4096


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


def random_returns(evaluate: Evaluate, nonce: int, episodes: int = 200) -> Array:
    """``float64[episodes]`` returns of uniformly random actions."""
    seeds = [int(seed) for seed in episode_seeds("random", nonce, episodes)]
    return np.asarray(evaluate(ConstantPolicy(), seeds, epsilon=1.0).returns, np.float64)


@dataclass(frozen=True)
class Plan:
    """How many episodes the claim takes.

    Attributes:
        episodes: planned.
        looks: episodes at each look; the last equals ``episodes``.
        expected_difference: shrunk towards zero from the pilot.
        deviation: of the paired difference in the pilot.
    """

    episodes: int
    looks: tuple[int, ...]
    expected_difference: float
    deviation: float


def plan(difference: Array, margin: float, keep: float, alpha: float = ALPHA) -> Plan:
    """Sample size for 90 % power, from a pilot's paired differences.

    ``n = ((z_{1−α} + z_{.9})·σ/(δ + d))²`` with ``d`` the pilot's mean difference shrunk towards zero by the positive
    part of ``1 − se²/d²`` (James–Stein), at least `floor_episodes`.

    Args:
        difference: ``[pilot]`` student minus teacher, at least 2.
        margin: ``δ ≥ 0``; with none (``keep = 1``) only a proven improvement passes.
        keep: share of the return to keep.
        alpha: error of the whole test.
    """
    sigma, mean = float(difference.std(ddof=1)), float(difference.mean())
    error = sigma / sqrt(len(difference))
    expected = mean * max(0.0, 1.0 - (error / mean) ** 2) if mean else 0.0
    room = margin + (min(expected, margin) if margin > 0 else expected)
    fewest = max(_FEWEST, floor_episodes(keep, alpha))
    if room <= 0 or (sigma == 0 and margin <= 0):
        return Plan(_HOPELESS, (_HOPELESS,), expected, sigma)
    needed = _SEQUENTIAL_INFLATION * ((normal_quantile(1 - alpha) + normal_quantile(POWER)) * sigma / room) ** 2
    episodes = max(ceil(min(needed, _HOPELESS)), fewest)
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


@dataclass(frozen=True)
class Certificate:
    """What was shown, or why it was not.

    Attributes:
        certified: the claim holds.
        keep: share of ``teacher − random`` that the student is to keep.
        episodes: paired episodes played for the verdict.
        planned_episodes: that the claim was computed to need.
        difference_mean, difference_std: of student minus teacher on the same seeds.
        difference_lower95: one-sided lower bound of the mean difference, early looks paid for.
        margin: ``δ``; certified means ``difference_lower95 > −margin``.
        teacher_return_mean, student_return_mean, random_return_mean: measured beside each other.
        teacher_worst_decile, student_worst_decile: mean of the worst tenth of the episodes.
        action_flips: share of the states that the student visits in which the teacher would act otherwise.
        dead_actions: actions that the teacher takes in those states and the student never does.
        alpha: error allowed to this test.
        looks: one entry per look: episodes, nominal level, difference, bound, margin.
        seeds: purpose, nonce and count of the paired seeds, and the pilot's.
        reason: the verdict in one plain sentence.
    """

    certified: bool
    keep: float
    episodes: int
    planned_episodes: int
    difference_mean: float
    difference_std: float
    difference_lower95: float
    margin: float
    teacher_return_mean: float
    student_return_mean: float
    random_return_mean: float
    teacher_worst_decile: float
    student_worst_decile: float
    action_flips: float
    dead_actions: tuple[int, ...]
    alpha: float
    looks: tuple[dict[str, float], ...]
    seeds: dict[str, Any]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "dead_actions": list(self.dead_actions), "looks": [dict(look) for look in self.looks]}


def check_keep(keep: float) -> None:
    """Raise `ConfigError` unless ``keep`` is in (0, 1]."""
    if not 0 < keep <= 1:
        raise ConfigError(f"keep is the share of the teacher's return to keep, above 0 and at most 1, not {keep}")


def certify(
    teacher: Graph,
    student: Graph,
    evaluate: Evaluate,
    keep: float = 0.99,
    *,
    purpose: Purpose = "certify",
    nonce: int = 0,
    alpha: float = ALPHA,
    pilot_episodes: int = 100,
    max_episodes: int = 4_000,
    teacher_returns: Returns | None = None,
    rand: Array | None = None,
    tick: Tick = no_tick,
) -> Certificate:
    """Show that ``student`` keeps the share ``keep`` of the teacher's return over random play, or refuse.

    Args:
        teacher, student: policies for the same environment.
        evaluate: plays episodes.
        keep: in (0, 1].
        purpose, nonce: which stream of seeds judges; never one that chose the student. A re-check takes a fresh nonce.
        alpha: chance of certifying a student that is worse than allowed.
        pilot_episodes: played first, on seeds of their own, to plan.
        max_episodes: a plan above this is refused, and says how many it would need.
        teacher_returns: the teacher's returns where some are known already.
        rand: ``[m]`` returns of the random policy where they are known already.
        tick: progress in episodes.

    Raises:
        ConfigError: ``keep`` is out of range.
    """
    check_keep(keep)
    teacher_returns = teacher_returns or Returns(GraphPolicy(teacher), evaluate)
    student_returns = Returns(GraphPolicy(student), evaluate)
    rand = random_returns(evaluate, nonce) if rand is None else rand
    pilot = episode_seeds("pilot", nonce, pilot_episodes)
    tick(0, 1, "pilot")
    own, other = student_returns(pilot), teacher_returns(pilot)
    margin = (1 - keep) * float(other.mean() - rand.mean())
    seeds = {"purpose": purpose, "nonce": nonce, "count": 0, "pilot_count": pilot_episodes}
    better = float(other.mean()) > float(rand.mean())
    planned = plan(own - other, margin, keep, alpha) if better else Plan(_HOPELESS, (_HOPELESS,), 0.0, 0.0)
    verdict = Verdict(
        False, 0, float((own - other).mean()), float((own - other).std(ddof=1)), -float("inf"), margin, ()
    )
    if planned.episodes <= max_episodes:
        stream = episode_seeds(purpose, nonce, planned.episodes)
        verdict = run_test(teacher_returns, student_returns, rand, keep, stream, planned.looks, alpha, tick)
        played = stream[: verdict.episodes]
        own, other = student_returns(played), teacher_returns(played)
        seeds["count"] = verdict.episodes
    lower = verdict.difference_lower95 if verdict.episodes else judge(other, own, rand, keep, alpha)[1]
    compared = _on_visited_states(teacher, student, evaluate, nonce)
    return Certificate(
        certified=verdict.certified,
        keep=keep,
        episodes=verdict.episodes,
        planned_episodes=planned.episodes,
        difference_mean=verdict.difference_mean,
        difference_std=verdict.difference_std,
        difference_lower95=lower,
        margin=verdict.margin,
        teacher_return_mean=float(other.mean()),
        student_return_mean=float(own.mean()),
        random_return_mean=float(rand.mean()),
        teacher_worst_decile=worst_decile(other),
        student_worst_decile=worst_decile(own),
        action_flips=compared.action_flips,
        dead_actions=compared.dead_actions,
        alpha=alpha,
        looks=verdict.looks,
        seeds=seeds,
        reason=_reason(verdict, planned, keep, max_episodes, float(other.mean()), float(rand.mean())),
    )


def worst_decile(returns: Array) -> float:
    """Mean of the worst tenth (at least one episode)."""
    return float(np.sort(returns)[: max(1, len(returns) // 10)].mean())


def _on_visited_states(teacher: Graph, student: Graph, evaluate: Evaluate, nonce: int) -> Comparison:
    seeds = [int(seed) for seed in episode_seeds("pilot", nonce, 8)]
    obs = evaluate(GraphPolicy(student), seeds, keep_obs=_STATES).obs
    assert obs is not None
    return compare_graphs(teacher, student, obs)


def _reason(verdict: Verdict, planned: Plan, keep: float, cap: int, teacher: float, rand: float) -> str:
    """The verdict as one sentence."""
    if teacher <= rand:
        return f"refused: the teacher ({teacher:.1f}) is no better than random play ({rand:.1f}): no return to keep"
    measured = (
        f"over {verdict.episodes} paired episodes the student's mean return differs by {verdict.difference_mean:+.2f}, "
        f"and with 95 % confidence by no less than {verdict.difference_lower95:+.2f}; "
        f"{-verdict.margin:+.2f} is allowed at keep = {keep:g}"
    )
    if verdict.certified:
        return f"certified: {measured}"
    pilot = (
        f"the pilot's mean return differs by {verdict.difference_mean:+.2f} with a deviation of "
        f"{verdict.difference_std:.1f}"
    )
    if planned.episodes >= _HOPELESS:
        return f"refused: {pilot}, which is not within {-verdict.margin:+.2f}, all that keep = {keep:g} allows"
    if planned.episodes > cap:
        showing = f"to show {-verdict.margin:+.2f} would need {planned.episodes} episodes"
        return f"refused: {pilot}; {showing}, the limit is {cap}"
    return f"refused: {measured}"
