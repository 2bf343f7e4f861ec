"""Selection: which candidates are worth a certificate, why the others are not, and what would help them."""

from __future__ import annotations

from math import sqrt

import numpy as np

from nimbleq.compress.certify.certificate import worst_decile
from nimbleq.compress.certify.forecast import OTHER_KEEPS, Pilot, episodes_needed
from nimbleq.compress.certify.wealth import attempt_alpha
from nimbleq.figures import shown
from nimbleq.types import Array

LARGER = "a larger candidate"
"""What helps where return is lost."""


def allowed_loss(pilot: Pilot, keep: float) -> float:
    """``δ = (1 − keep)·(teacher − random)``."""
    return (1 - keep) * float(pilot.teacher.mean() - pilot.random.mean())


def out_of_reach(teacher: Array, random: Array, keep: float, span: float, limit: int) -> str:
    """Why not even a candidate that loses nothing can be certified, and what would help; empty when one may be.

    A certificate takes at least ``3R/δ`` episodes (`episodes_needed` without any scatter). δ is taken two standard
    errors too large, so that chance does not refuse.

    Args:
        teacher, random: ``float64[n]``, ``float64[k]`` returns.
        span: ``R`` of the returns.
        limit: episodes that a certificate may take.
    """

    def needed(keep: float, errors: float) -> int | None:
        return episodes_needed(span, (1 - keep) * (gap + errors * error), 0.0, attempt_alpha(1))

    gap = float(teacher.mean() - random.mean())
    error = sqrt(float(teacher.var(ddof=1)) / len(teacher) + float(random.var(ddof=1)) / len(random))
    fewest, about = needed(keep, 2.0), needed(keep, 0.0)
    if gap <= 0 or keep == 1 or fewest is None or about is None or fewest <= limit:
        return ""
    easier = ((other, needed(other, 0.0)) for other in OTHER_KEEPS if other < keep)
    lower = next((f", or --keep {other:g} (about {n:,})" for other, n in easier if n is not None and n <= limit), "")
    return (
        f"no candidate can be certified at keep = {keep:g} with {limit:,} episodes: even one that loses nothing needs "
        f"about {about:,}, as returns range over {span:.6g} and the teacher is {gap:.4g} above random play; give "
        f"--max-episodes {about}{lower}, or a narrower --return-range where the rules of the environment have one"
    )


def hopeless(pilot: Pilot, keep: float) -> str:
    """Why a candidate need not be played any further; empty when it may do."""
    margin, difference = allowed_loss(pilot, keep), pilot.student - pilot.teacher
    if margin < 0:
        return f"the teacher ({shown(pilot.teacher.mean())}) is worse than random play ({shown(pilot.random.mean())})"
    error = float(difference.std(ddof=1)) / sqrt(len(difference))
    if float(difference.mean()) + 2 * error < -margin:
        return f"loses {shown(-difference.mean(), margin)} where {margin:.2g} is allowed"
    return ""


def clearly_no_worse(pilot: Pilot) -> bool:
    """Whether a candidate need not be played any further because it returns more than the teacher, by two standard
    errors."""
    difference = pilot.student - pilot.teacher
    return float(difference.mean()) > 2 * float(difference.std(ddof=1)) / sqrt(len(difference))


def falls_short(pilot: Pilot, keep: float, span: float, limit: int) -> tuple[str, str]:
    """Why a candidate may not go on to the certificate, and what would help; both empty when it may.

    Args:
        span: ``R`` of the returns.
        limit: episodes that a certificate may take.
    """
    alpha, margin = attempt_alpha(1), allowed_loss(pilot, keep)
    needed = pilot.forecast_as_seen(keep, span, alpha)
    if needed is None:
        return f"loses {(pilot.teacher - pilot.student).mean():.2g} of the {margin:.2g} allowed", LARGER
    if needed > limit:
        easier = ((other, pilot.forecast_as_seen(other, span, alpha)) for other in OTHER_KEEPS if other < keep)
        lower = next(
            (f", or --keep {other:g} (about {n:,})" for other, n in easier if n is not None and n <= limit), ""
        )
        return f"needs {needed:,} episodes, the limit is {limit:,}", f"--max-episodes {needed}{lower}"
    if not tail_holds(pilot.student, pilot.teacher, margin):
        return f"worst tenth {worst_decile(pilot.student):.0f}, the teacher's {worst_decile(pilot.teacher):.0f}", LARGER
    return "", ""


def tail_holds(student: Array, teacher: Array, margin: float) -> bool:
    """Whether the worst tenth of the episodes lost no more than ``margin`` either, by two standard errors.

    A mean can stay as it is while a few episodes are lost altogether; nobody who ships a policy wants that. Two
    policies of equal returns pass 97.7 % of the time at margin 0.

    Args:
        student, teacher: ``[n]`` returns; the tenths are taken of each by itself.
    """
    (own, own_error), (other, other_error) = _worst_tenth(student), _worst_tenth(teacher)
    return own - other >= -margin - 2 * sqrt(own_error + other_error)


def _worst_tenth(returns: Array) -> tuple[float, float]:
    """Mean of the worst tenth and the variance of that mean.

    The edge ``q`` of the tenth is itself measured: with p = 0.1 the variance is
    ``(Var[x | x ≤ q] + (1 − p)·(q − E[x | x ≤ q])²) / (n·p)`` (Manistre & Hancock 2005, equation 1).
    """
    count = max(2, len(returns) // 10)
    tail = np.sort(returns)[:count]
    mean, edge = float(tail.mean()), float(tail[-1])
    return mean, (float(tail.var(ddof=1)) + (1 - count / len(returns)) * (edge - mean) ** 2) / count
