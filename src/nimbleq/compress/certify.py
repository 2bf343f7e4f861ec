"""The certificate: is the student, on paired seeds, provably no worse than the teacher by more than the margin?

Teacher and student play the same seeds. ``δ = (1 − keep)·(teacher − random)``; the student is certified when the
one-sided 95 % lower bound of the mean paired difference exceeds ``−δ``. A pilot on seeds of its own says how many
episodes that takes; looking early costs alpha (`sequential`); what cannot be shown is refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nimbleq.compress.noninferiority import ALPHA, HOPELESS, Plan, Returns, Verdict, judge, plan, run_test
from nimbleq.compress.states import Comparison, ConstantPolicy, compare_graphs
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.seeds import Purpose, episode_seeds
from nimbleq.types import Array, Evaluate, Tick, no_tick

_STATES = 4096


def random_returns(evaluate: Evaluate, nonce: int, episodes: int = 200) -> Array:
    """``float64[episodes]`` returns of uniformly random actions."""
    seeds = [int(seed) for seed in episode_seeds("random", nonce, episodes)]
    return np.asarray(evaluate(ConstantPolicy(), seeds, epsilon=1.0).returns, np.float64)


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
    pilot_episodes: int = 300,
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
        max_episodes: a plan that has less than an even chance with this many is refused, and says how many it needs.
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
    planned = plan(own - other, margin, keep, alpha, max_episodes) if better else Plan(HOPELESS, (HOPELESS,), 0.0, 0.0)
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
    if planned.episodes >= HOPELESS:
        return f"refused: {pilot}, which is not within {-verdict.margin:+.2f}, all that keep = {keep:g} allows"
    if planned.episodes > cap:
        showing = f"to show {-verdict.margin:+.2f} would need {planned.episodes} episodes"
        return f"refused: {pilot}; {showing}, the limit is {cap}"
    return f"refused: {measured}"
