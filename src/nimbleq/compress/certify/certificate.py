"""The certificate: the claim, every return that was played for it, and the verdict that anybody can recompute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import Any

import numpy as np

from nimbleq.compress.certify.attempts import FixedSequence
from nimbleq.compress.certify.ranges import ReturnRange
from nimbleq.compress.certify.stream import PairedReturns
from nimbleq.compress.certify.wealth import ALPHA, Verdict, attempt_alpha, gains, log_wealth, lower_bound, noninferior
from nimbleq.figures import shown, signed
from nimbleq.seeds import Purpose
from nimbleq.types import Array

_CURVE_POINTS = 300
_RETURNS = ("teacher", "student", "random")


@dataclass(frozen=True)
class Claim:
    """Everything that is fixed before the first certifying episode. Another claim is another attempt.

    Attributes:
        keep: share of ``teacher − random`` that the student is to keep.
        return_range: of returns.
        attempt: its number, from 1; `attempt_alpha` gives its share of ``total_alpha``.
        total_alpha: chance of a false certificate, all attempts about one student together.
        purpose, nonce: of the stream of seeds.
        teacher, student: hashes of the two graphs.
        fresh: an independent test that stands beside the certificate and never replaces it.
    """

    keep: float
    return_range: ReturnRange
    attempt: int
    total_alpha: float
    purpose: Purpose
    nonce: int
    teacher: str
    student: str
    fresh: bool = False

    @property
    def sequence(self) -> FixedSequence:
        """This claim as one about this student alone."""
        return FixedSequence((self.student,), self.teacher, self.keep, *self.return_range.ends)

    @property
    def alpha(self) -> float:
        """Chance of a false certificate in this attempt."""
        return attempt_alpha(self.attempt, self.total_alpha)


@dataclass(frozen=True)
class Certificate:
    """What was shown of a claim, or how far it got.

    Attributes:
        claim: fixed before.
        returns: every paired return that was played for it.
        action_flips: share of the states that the student visits in which the teacher would act otherwise.
        dead_actions: actions that the teacher takes in those states and the student never does.
        forecast: ``({keep, episodes}, …)`` said before the first episode.
    """

    claim: Claim
    returns: PairedReturns
    action_flips: float = 0.0
    dead_actions: tuple[int, ...] = ()
    forecast: tuple[dict[str, Any], ...] = ()

    @cached_property
    def verdict(self) -> Verdict:
        """Recomputed from the returns."""
        made, claim = self.returns, self.claim
        return noninferior(
            made.teacher, made.student, made.random, claim.keep,
            return_range=claim.return_range.ends, alpha=claim.alpha,
        )  # fmt: skip

    @property
    def certified(self) -> bool:
        """The claim holds."""
        return self.verdict.certified

    @cached_property
    def gains(self) -> Array:
        """``float64[n]`` ``X``."""
        made = self.returns
        return gains(made.teacher, made.student, made.random, self.claim.keep, self.claim.return_range.ends)

    @property
    def margin(self) -> float:
        """``δ = (1 − keep)·(teacher − random)``, the mean loss that the claim allows."""
        return (1 - self.claim.keep) * (_mean(self.returns.teacher) - _mean(self.returns.random))

    @cached_property
    def difference_lower95(self) -> float | None:
        """The bet inverted for the mean of student − teacher, at 95 %; None after a breach."""
        return lower_bound(self.returns.student - self.returns.teacher, self.claim.return_range.span)

    def over(self) -> bool:
        """Whether nothing is left to play for: it was certified, or a return fell out of the range."""
        return self.verdict.certified or self.verdict.breach is not None

    def hopeless(self) -> bool:
        """Whether the mean of ``X`` is below zero by three standard errors: the student loses more than is allowed."""
        n = len(self.returns)
        return n >= 30 and float(self.gains.mean()) + 3 * float(self.gains.std(ddof=1)) / n**0.5 < 0

    @property
    def reason(self) -> str:
        """The verdict as one sentence."""
        claim, made, verdict = self.claim, self.returns, self.verdict
        if verdict.breach is not None and not verdict.certified:
            return (
                f"refused: in episode {verdict.breach + 1:,} more was lost than the range of returns allows "
                f"({self.gains[verdict.breach]:.6g}, below −{claim.return_range.span:.6g}), which ends this attempt; "
                "state a wider one with --return-range low,high"
            )
        if not len(made):
            return "not certified: no episode has been played"
        student, teacher, random = map(_mean, (made.student, made.teacher, made.random))
        both = (student, teacher)
        if not verdict.teacher_above_random:
            return (
                f"refused: the teacher ({shown(teacher, random)}) is no better than random play "
                f"({shown(random, teacher)}): there is no return to keep"
            )
        lower = self.difference_lower95
        bound = "" if lower is None else f", by no less than {signed(lower, *both)} with 95 % confidence"
        measured = (
            f"over {len(made):,} paired episodes the student returns {shown(student, teacher)} and the teacher "
            f"{shown(teacher, student)}: a difference of {signed(student - teacher, *both)}{bound}; "
            f"{signed(-self.margin, *both)} is allowed at keep = {claim.keep:g}"
        )
        if verdict.certified:
            return f"certified after {verdict.episodes:,} episodes: {measured}"
        short = f"its wealth reached {verdict.wealth:.3g} of {1 / claim.alpha:.3g}"
        if self.hopeless():
            return f"refused: {measured}; more is lost than that, and further episodes will not change it"
        return f"not certified yet: {measured}; {short}: certify again plays on"

    def with_more(self, more: PairedReturns) -> Certificate:
        """The same claim after further episodes of its stream."""
        return replace(self, returns=self.returns.joined(more))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the returns are under ``returns``."""
        claim, made, verdict = self.claim, self.returns, self.verdict
        difference = made.student - made.teacher
        return {
            "certified": verdict.certified,
            "keep": claim.keep,
            "episodes": verdict.episodes,
            "episodes_played": len(made),
            "difference_mean": _mean(difference),
            "difference_std": _std(difference),
            "difference_lower95": self.difference_lower95,
            "margin": self.margin,
            "teacher_return_mean": _mean(made.teacher),
            "student_return_mean": _mean(made.student),
            "random_return_mean": _mean(made.random),
            "teacher_worst_decile": worst_decile(made.teacher),
            "student_worst_decile": worst_decile(made.student),
            "action_flips": self.action_flips,
            "dead_actions": list(self.dead_actions),
            "wealth": verdict.wealth,
            "wealth_needed": 1 / claim.alpha,
            "wealth_curve": self._curve(),
            "return_range": list(claim.return_range.ends),
            "return_range_source": claim.return_range.source,
            "beyond_range_frequency_at_most": self._rare(),
            "alpha": claim.alpha,
            "total_alpha": claim.total_alpha,
            "attempt": claim.attempt,
            "fresh": claim.fresh,
            "breach": verdict.breach,
            "forecast": [dict(row) for row in self.forecast],
            "seeds": {"purpose": claim.purpose, "nonce": claim.nonce, "count": len(made)},
            "teacher_graph": claim.teacher,
            "student_graph": claim.student,
            "reason": self.reason,
            "returns": {
                "seeds": made.seeds.tolist(),
                **{name: getattr(made, name).tolist() for name in _RETURNS},
                "crashed": [list(entry) for entry in made.crashed],
            },
        }

    def _rare(self) -> float | None:
        """With confidence ``1 − α``, a loss beyond R is no more frequent than ``ln(1/α)/n``; None when one was seen."""
        if self.verdict.breach is not None or len(self.returns) == 0:
            return None
        return min(1.0, log(1 / ALPHA) / len(self.returns))

    def _curve(self) -> list[list[float]]:
        """``[[episodes, log₁₀ W], …]`` from the start to the last episode before a breach, thinned for drawing."""
        path = log_wealth(self.gains[: self.verdict.breach], self.claim.return_range.span) / log(10)
        at = np.unique(np.linspace(0, len(path), min(len(path) + 1, _CURVE_POINTS)).astype(int))
        return [[int(n), float(path[n - 1]) if n else 0.0] for n in at]


def worst_decile(returns: Array) -> float:
    """Mean of the worst tenth (at least one episode); 0 when there is none."""
    return _mean(np.sort(returns)[: max(1, len(returns) // 10)])


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else 0.0


def _std(values: Array) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
