"""The bet: wealth that cannot grow unless the student keeps its share of the teacher's return.

Teacher, student and random play each play the same seeds. ``X_i = student_i − keep·teacher_i − (1 − keep)·random_i``;
the claim is ``E[X] ≥ 0``. Returns lie in ``[low, high]`` and ``R = high − low``, so ``X ≥ −R``. Somebody who doubts the
claim's opposite bets a fixed share of the wealth on every episode::

    W_n = Σ_k w_k Π_{i≤n} (1 + λ_k X_i),   λ = (0.3, 0.6, 0.97) / R,   w = (0.1, 0.2, 0.7)

While the claim is false, ``E[X_i | past] ≤ 0`` and W is a non-negative supermartingale that starts at 1: it reaches
``1/α`` with probability at most α, whatever the distribution and whenever one stops (Ville 1939; Waudby-Smith & Ramdas
2024 [2010.09686]). A later fall revokes nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import isfinite, log

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.types import Array

ALPHA = 0.05
"""Chance of a false certificate, all attempts about one student together."""
FRACTIONS = (0.3, 0.6, 0.97)
"""Shares of the wealth at stake in an episode that loses all of R."""
SHARES = (0.1, 0.2, 0.7)
"""Of the first wealth, given to each of the three."""
_LARGEST_LOG = 709.0  # e^709 is nearly the largest float64
_HALVINGS = 48


@dataclass(frozen=True)
class Verdict:
    """What paired returns show.

    Attributes:
        certified: the wealth reached ``1/α`` while the teacher's mean was above random play's.
        wealth: the largest reached (1 at the start; capped near 10³⁰⁸). After a breach 1, unless certified before.
        episodes: at which it was first certified; when it was not, all that were given.
        breach: index of the first episode with ``X < −R`` (None: there was none). The bet is off from there on: what
            was certified before stands, anything else is refused.
        teacher_above_random: whether the teacher's mean return is above random play's; the bet does not test that.
    """

    certified: bool
    wealth: float
    episodes: int
    breach: int | None
    teacher_above_random: bool


def noninferior(
    teacher: Array,
    student: Array,
    random: Array,
    keep: float,
    *,
    return_range: tuple[float, float],
    alpha: float = ALPHA,
) -> Verdict:
    """Whether ``student`` keeps the share ``keep`` of the teacher's return over random play.

    Args:
        teacher: ``float64[n]`` its returns, in the order in which they were played.
        student: ``float64[n]`` on the same seeds.
        random: ``float64[n]`` of random play on the same seeds.
        keep: share to keep, in (0, 1].
        return_range: ``(low, high)`` between which returns lie, fixed before the first of these episodes. A return
            above ``high`` is harmless.
        alpha: chance of certifying a student that does not keep it, in (0, 1).

    Raises:
        ConfigError: lengths differ, a return is not finite, or a setting is out of range.
    """
    check_keep(keep)
    check_alpha(alpha)
    low, high = check_range(*return_range)
    teacher, student, random = _checked(teacher=teacher, student=student, random=random)
    n = len(student)
    if n == 0:
        return Verdict(False, 1.0, 0, None, False)
    gain = gains(teacher, student, random, keep, (low, high))
    breach = first_breach(gain, high - low)
    path = log_wealth(gain[:breach], high - low)
    above = np.cumsum(teacher - random) > 0
    shown = (np.maximum.accumulate(path) >= log(1 / alpha)) & above[: len(path)] if len(path) else np.zeros(0, bool)
    certified = bool(shown.any())
    reached = max(0.0, float(path.max())) if len(path) and (certified or breach is None) else 0.0
    return Verdict(
        certified=certified,
        wealth=float(np.exp(min(reached, _LARGEST_LOG))),
        episodes=int(shown.argmax()) + 1 if certified else n,
        breach=breach,
        teacher_above_random=bool(above[-1]),
    )


def gains(teacher: Array, student: Array, random: Array, keep: float, return_range: tuple[float, float]) -> Array:
    """``float64[n]`` ``X``; what is below ``−R`` by rounding alone is ``−R``."""
    low, high = return_range
    span = high - low
    gain = student - keep * teacher - (1 - keep) * random
    rounding = min(1e-12 * (abs(low) + abs(high)), 1e-3 * span)
    return np.asarray(np.where((gain < -span) & (gain >= -span - rounding), -span, gain))


def first_breach(gain: Array, span: float) -> int | None:
    """Index of the first ``X < −R``, or None."""
    below = gain < -span
    return int(below.argmax()) if below.any() else None


def log_wealth(gain: Array, span: float) -> Array:
    """``float64[…, n]`` ``log W`` after each episode; ``gain: float64[…, n]`` is at least ``−span``."""
    bets = (
        np.log1p(fraction / span * gain).cumsum(axis=-1) + log(w) for fraction, w in zip(FRACTIONS, SHARES, strict=True)
    )
    return np.asarray(functools.reduce(np.logaddexp, bets))


def lower_bound(difference: Array, span: float, alpha: float = ALPHA) -> float | None:
    """The bet inverted: what the mean of ``difference`` is at least, with confidence ``1 − alpha`` at every length.

    For each ``m`` the same bet is made against "the mean is at most m": ``difference − m ≥ −(R + m)``, hence
    ``1 + f·(difference − m)/(R + m)`` with the fractions ``f``. That factor falls with ``m``, so all ``m`` below
    one bound are refuted (their wealth has reached ``1/alpha``); the true mean is among them with probability at most
    alpha.

    Args:
        difference: ``float64[n]`` student minus teacher on the same seeds, in playing order.
        span: ``R``; no difference may be below ``−R``.

    Returns:
        The bound; None when a difference is below ``−R``, where there is none.
    """
    shifted = difference + span
    if len(shifted) == 0:
        return -span
    if shifted.min() < 0:
        return None
    low, high, needed = 0.0, float(shifted.max()), log(1 / alpha)
    for _ in range(_HALVINGS):  # of R + m
        middle = (low + high) / 2
        if middle > 0 and log_wealth(shifted - middle, middle).max() >= needed:
            low = middle
        else:
            high = middle
    return low - span


def attempt_alpha(attempt: int, alpha: float = ALPHA) -> float:
    """Share of attempt ``j ≥ 1``: four fifths of what the attempts before it left of α, ``α_j = 4α/5ʲ``.

    All shares add up to α however many attempts are made; the first costs little more than a single test at α would.
    """
    return 4 * alpha / 5.0**attempt


def check_keep(keep: float) -> None:
    """Raise `ConfigError` unless ``keep`` is in (0, 1]."""
    if not 0 < keep <= 1:
        raise ConfigError(f"keep is the share of the teacher's return to keep, above 0 and at most 1, not {keep}")


def check_alpha(alpha: float) -> None:
    """Raise `ConfigError` unless ``alpha`` is in (0, 1)."""
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha is the chance of a false certificate, above 0 and below 1, not {alpha}")


def check_range(low: float, high: float) -> tuple[float, float]:
    """``low, high`` as floats; `ConfigError` unless both are finite and ``low < high``."""
    if not (isfinite(low) and isfinite(high) and low < high and isfinite(high - low)):
        raise ConfigError(f"the range of returns is low,high with low below high, both finite, not {low},{high}")
    return float(low), float(high)


def _checked(**returns: Array) -> list[Array]:
    """The arrays as ``float64[n]``, all of one length and finite."""
    made = {name: np.asarray(values, np.float64) for name, values in returns.items()}
    shapes = {name: values.shape for name, values in made.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        said = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ConfigError(f"returns are three vectors of one length, one number an episode, not {said}")
    for name, values in made.items():
        if not np.isfinite(values).all():
            where = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ConfigError(f"the {name}'s return of episode {where} is {values[where]}: returns must be finite")
    return list(made.values())
