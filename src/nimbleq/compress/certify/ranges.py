"""Between which returns lie: fixed, with its source, before the first episode that certifies."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.compress.certify.wealth import check_range
from nimbleq.errors import ConfigError
from nimbleq.types import Array

WIDENED = 1.5
"""A range that was only observed is made this many times as wide, half of the addition at either end."""


@dataclass(frozen=True)
class ReturnRange:
    """Between which values returns lie, and how that is known.

    Attributes:
        low, high: returns lie between them; a return above ``high`` does no harm.
        source: where the range comes from, in plain words.

        Raises:
            ConfigError: not ``low < high``, or not finite.
    """

    low: float
    high: float
    source: str

    def __post_init__(self) -> None:
        check_range(self.low, self.high)

    @property
    def span(self) -> float:
        """``R``."""
        return self.high - self.low

    @property
    def ends(self) -> tuple[float, float]:
        """``(low, high)``."""
        return self.low, self.high


def stated_range(text: str) -> ReturnRange:
    """The range that a person gave as ``low,high``.

    Raises:
        ConfigError: it is not two numbers, the lower one first.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--return-range is two numbers, low,high (for example -500,320), not {text!r}") from None
    return ReturnRange(low, high, "stated with --return-range")


def observed_range(*returns: Array, of: str) -> ReturnRange:
    """The range of returns that certify nothing, `WIDENED`.

    Args:
        of: which episodes these are, for ``source``.
    """
    low, high = min(float(r.min()) for r in returns), max(float(r.max()) for r in returns)
    if low == high:  # all returns are equal, so there is none to keep; what follows refuses
        return ReturnRange(low - 1, high + 1, f"{of} all returned {low:.6g}")
    more = (WIDENED - 1) / 2 * (high - low)
    source = f"{of} returned {low:.6g} to {high:.6g}; that range was made {WIDENED:g} times as wide"
    return ReturnRange(low - more, high + more, source)
