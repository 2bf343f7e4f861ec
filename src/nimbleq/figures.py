"""Returns as people read them: with the digits that tell two of them apart, whatever an environment pays."""

from __future__ import annotations

from math import floor, isfinite, log10

_MOST = 12  # decimals


def decimals(*values: float) -> int:
    """One where any value is 10 or more, else as many as give the largest four digits."""
    largest = max((abs(value) for value in values if isfinite(value)), default=0.0)
    return 1 if largest == 0 or largest >= 10 else min(3 - floor(log10(largest)), _MOST)


def shown(value: float, *beside: float) -> str:
    """A return, with the decimals that it and the returns ``beside`` it need: 494.5, 7.125, 0.8671."""
    return f"{value:.{decimals(value, *beside)}f}"


def signed(value: float, *beside: float) -> str:
    """A difference of the returns ``beside`` it, signed and with one decimal more than they have: +5.50, −0.00090."""
    return f"{value:+.{decimals(*beside) + 1}f}"
