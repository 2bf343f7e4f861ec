"""About how many episodes a claim takes, said before any of them is played."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from typing import Any

import numpy as np

from nimbleq.types import Array

OTHER_KEEPS = (0.95, 0.9)
"""Claims that the forecast is made for beside the one that was asked for."""


def episodes_needed(span: float, drift: float, deviation: float, alpha: float) -> int | None:
    """About ``n = max(3R/d, (2.5·sd/d)²)`` episodes at α = 5 %, in proportion to ``ln(1/α)`` elsewhere.

    Args:
        span: ``R``.
        drift: mean of ``X``; for a student that loses nothing ``δ = (1 − keep)·(teacher − random)``.
        deviation: standard deviation of ``X``.
        alpha: of the attempt.

    Returns:
        None when no number would do: the drift is not above zero.
    """
    if drift <= 0:
        return None
    return ceil(log(1 / alpha) / log(20) * max(3 * span / drift, (2.5 * deviation / drift) ** 2))


@dataclass(frozen=True)
class Pilot:
    """Returns that certify nothing; they give the forecast and, where nothing else does, the range.

    Attributes:
        teacher, student: ``float64[m]`` on the same seeds.
        random: ``float64[k]`` of random play, on the same seeds when ``k = m``.
    """

    teacher: Array
    student: Array
    random: Array

    def forecast(self, keep: float, span: float, alpha: float) -> int | None:
        """`episodes_needed` for a student that loses nothing and scatters as this one."""
        margin = (1 - keep) * float(self.teacher.mean() - self.random.mean())
        return episodes_needed(span, margin, float(self._gain(keep).std(ddof=1)), alpha)

    def forecast_as_seen(self, keep: float, span: float, alpha: float) -> int | None:
        """The same for a student that loses what this one was seen to lose (its mean less one standard error)."""
        margin = (1 - keep) * float(self.teacher.mean() - self.random.mean())
        difference = self.student - self.teacher
        seen = float(difference.mean()) - float(difference.std(ddof=1)) / len(difference) ** 0.5
        drift = margin + (seen if keep == 1 else min(seen, 0.0))
        return episodes_needed(span, drift, float(self._gain(keep).std(ddof=1)), alpha)

    def _gain(self, keep: float) -> Array:
        """``X``, with the mean of random play where it is not paired."""
        paired = len(self.random) == len(self.teacher)
        random = self.random if paired else np.full(len(self.teacher), self.random.mean())
        return np.asarray(self.student - keep * self.teacher - (1 - keep) * random)


def forecasts(pilot: Pilot, keep: float, span: float, alpha: float) -> list[dict[str, Any]]:
    """``[{keep, episodes}]`` for the claim that was asked for and for easier ones (None: no number would do)."""
    keeps = [keep, *(other for other in OTHER_KEEPS if other < keep)]
    return [{"keep": one, "episodes": pilot.forecast(one, span, alpha)} for one in keeps]
