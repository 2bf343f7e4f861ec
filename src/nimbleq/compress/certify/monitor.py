"""The field monitor: a bet against "the mean return is at least what was certified", on live returns.

The certificate's bet in reverse. With ``Y_i`` a live return, at most ``high``, and ``floor`` what was certified,
somebody who doubts it bets on ``X_i = floor − Y_i``, whose mean is at most 0 while all is well. The day on which a
policy begins to fail is not known, so ``1/j − 1/(j + 1)`` of the first wealth is put down before episode ``j``::

    S_n = (S_{n−1} + 1/n − 1/(n + 1)) · (1 + λ X_n),    W_n = Σ_k w_k S_n^{(k)} + 1/(n + 1)

for the three stakes of `nimbleq.compress.certify.wealth`, here per ``high − floor``. While ``E[Y_i | past] ≥ floor``,
W is a non-negative supermartingale that starts at 1: it ever reaches ``1/α`` with probability at most α, however long
it watches (Ville 1939). A late change costs two logarithms of the number of good episodes before it; a single bet from
the start would have lost its wealth in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from nimbleq.compress.certify.wealth import ALPHA, FRACTIONS, SHARES, check_alpha, check_range
from nimbleq.errors import ConfigError


@dataclass(frozen=True)
class Promise:
    """What is to hold of live returns.

    Attributes:
        floor: the mean return is at least this.
        high: no return is above it.
        source: where the two come from, in words.
    """

    floor: float
    high: float
    source: str

    def __post_init__(self) -> None:
        if not (isfinite(self.floor) and isfinite(self.high) and self.floor < self.high):
            raise ConfigError(
                f"a monitor needs a floor below the highest return, both finite, not {self.floor:g} and {self.high:g}"
            )

    @classmethod
    def of(cls, certificate: Mapping[str, Any]) -> Promise:
        """What a certificate shows: the share of the teacher's return, over random play, that the policy keeps.

        Raises:
            ConfigError: the certificate does not hold, or says no range of returns.
        """
        if not certificate.get("certified"):
            raise ConfigError("there is nothing to monitor: the policy is not certified; run nimbleq certify first")
        try:
            keep, teacher = float(certificate["keep"]), float(certificate["teacher_return_mean"])
            random, (low, high) = float(certificate["random_return_mean"]), certificate["return_range"]
        except (KeyError, TypeError, ValueError):
            raise ConfigError("the certificate is of an older kind, without a range: certify again") from None
        low, high = check_range(low, high)
        floor = keep * teacher + (1 - keep) * random
        return cls(floor, high, f"certified: {keep:.1%} of the teacher's {teacher:.6g} over random play's {random:.6g}")


class Monitor:
    """The bet. Tell it every return; it raises the alarm once, and for good.

    Attributes:
        promise: what is watched.
        alpha: chance of an alarm, ever, while the promise holds.
        episodes: told so far.
        wealth: now.
        alarm: the episode, from 1, at which the wealth reached ``1/alpha``; None: it has not.
        breach: the episode with a return above ``promise.high``, after which nothing is shown any more; None: none.
        mean: of the returns.
    """

    def __init__(self, promise: Promise, alpha: float = ALPHA) -> None:
        check_alpha(alpha)
        self.promise, self.alpha = promise, alpha
        self.episodes, self.wealth, self.mean = 0, 1.0, 0.0
        self.alarm: int | None = None
        self.breach: int | None = None
        self._stakes = np.array(FRACTIONS) / (promise.high - promise.floor)
        self._sums = np.zeros(len(FRACTIONS))

    def add(self, total: float) -> bool:
        """Tell the return of one episode; whether the alarm is on.

        Raises:
            ConfigError: it is not a finite number.
        """
        if not isfinite(total):
            raise ConfigError(f"a return is a finite number, not {total}")
        self.episodes += 1
        n = self.episodes
        self.mean += (total - self.mean) / n
        if self.breach is None and total > self.promise.high:
            self.breach = n
        if self.breach is None and self.alarm is None:
            with np.errstate(over="ignore"):
                self._sums = (self._sums + 1 / n - 1 / (n + 1)) * (1 + self._stakes * (self.promise.floor - total))
                self.wealth = float(min(np.dot(SHARES, self._sums) + 1 / (n + 1), 1e300))
            if self.wealth >= 1 / self.alpha:
                self.alarm = n
        return self.alarm is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "floor": self.promise.floor, "high": self.promise.high, "source": self.promise.source, "alpha": self.alpha,
            "episodes": self.episodes, "return_mean": self.mean, "wealth": self.wealth, "alarm": self.alarm,
            "breach": self.breach,
        }  # fmt: skip

    def line(self) -> str:
        """The state in one line."""
        seen = f"{self.episodes:,} live returns average {self.mean:.6g}, {self.promise.floor:.6g} is certified"
        if self.alarm is not None:
            return f"ALARM since episode {self.alarm:,}: the returns have fallen below what was certified; {seen}"
        if self.breach is not None:
            return (
                f"the monitor is off since episode {self.breach:,}: its return is above {self.promise.high:g}, the end "
                f"of the certificate's range; {seen}"
            )
        return f"{seen}; wealth {self.wealth:.3g} of {1 / self.alpha:.3g}"
