"""Numbers as people read them, the same way everywhere in the report."""

from __future__ import annotations

from math import floor, log10

MISSING = "–"
NARROW = "\u202f"
"""Narrow no-break space, between a number and its unit and between thousands."""


def significant(value: float, digits: int = 3) -> str:
    """``digits`` significant digits without an exponent, integer digits always kept: 1234, 12.3, 0.0123."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - floor(log10(abs(value))))
    # Rounding can carry into a new digit (9.996 → 10.00).
    if round(abs(value), decimals) >= 10 ** (floor(log10(abs(value))) + 1):
        decimals = max(0, decimals - 1)
    return f"{value:,.{min(decimals, 12)}f}".replace(",", NARROW).replace("-", "−")


def trimmed(value: float, digits: int = 3) -> str:
    """As `significant`, without trailing zeros (for tick labels)."""
    shown = significant(value, digits)
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def count(value: float | None) -> str:
    """A whole number with grouped thousands."""
    return MISSING if value is None else f"{round(value):,}".replace(",", NARROW).replace("-", "−")


def compact(value: float) -> str:
    """A tick label: 1.5k, 2M."""
    for step, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= step:
            return trimmed(value / step) + suffix
    return trimmed(value)


def size(value: float | None, digits: int = 3) -> str:
    """Bytes, decimal prefixes: 1.20 kB."""
    if value is None:
        return MISSING
    for step, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= step:
            return trimmed(value / step, digits) + NARROW + unit
    return trimmed(value, digits) + NARROW + "B"


def latency(value_us: float | None) -> str:
    """Microseconds in a suitable unit: 83 ns, 3.4 µs, 1.2 ms."""
    if value_us is None:
        return MISSING
    for step, unit in ((1e6, "s"), (1e3, "ms"), (1.0, "µs")):
        if abs(value_us) >= step:
            return trimmed(value_us / step) + NARROW + unit
    return trimmed(value_us * 1e3) + NARROW + "ns"


def duration(seconds: float | None) -> str:
    """Wall-clock time: 0.84 s, 12.3 s, 3 min 20 s, 1 h 5 min."""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return trimmed(seconds, 2) + NARROW + "s"
    if seconds < 120:
        return trimmed(seconds) + NARROW + "s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes}{NARROW}min {rest}{NARROW}s"
    return f"{minutes // 60}{NARROW}h {minutes % 60}{NARROW}min"


def times(value: float | None) -> str:
    """A ratio: ×85, ×8.5."""
    return (
        MISSING
        if value is None
        else "×" + significant(value, 2 if value < 10 else 3 if value < 100 and value % 1 else 1)
    )


def percent(share: float | None) -> str:
    """A share: 99 %, 99.2 %."""
    return MISSING if share is None else trimmed(round(share * 100, 2), 4) + NARROW + "%"


def value(number: float | None) -> str:
    """A return or a difference of returns: 498.9, −0.12."""
    if number is None:
        return MISSING
    return trimmed(number, 4 if abs(number) >= 100 else 3)


def interval(bounds: tuple[float, ...]) -> str:
    """``[lo, hi]``, or nothing without bounds."""
    return f"{value(bounds[0])} to {value(bounds[1])}" if len(bounds) == 2 else MISSING


def ratio(before: float | None, after: float | None) -> float | None:
    """``before/after`` when both are known and positive."""
    return before / after if before and after and before > 0 and after > 0 else None
