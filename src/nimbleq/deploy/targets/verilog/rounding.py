"""A requantization with the smallest constants that give the same integers for every sum that can occur."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.deploy.targets.verilog.adders import signed_digits


@dataclass(frozen=True)
class Rounding:
    """``y = clamp((x·multiplier + offset) >> shift, low, high)``."""

    multiplier: int
    offset: int
    shift: int
    low: int
    high: int


def narrow(
    multiplier: int, shift: int, zero_point: int, bounds: tuple[int, int], sums: tuple[int, int], at_least: int = 0
) -> Rounding:
    """The same function as `nimbleq.graph.ops.Requantize` on the integers ``sums`` (lowest, highest), with few digits.

    The function is a staircase: ``y ≥ k`` from some sum ``T(k)`` on. A multiplier and an offset are the same function
    exactly if every step lies where it did: ``T(k)·m + offset ≥ k·2^s`` and ``(T(k) − 1)·m + offset < k·2^s`` for the
    steps within ``sums``. For each shift from small to large the offset that fits is an interval; the first shift where
    one is left wins, and there the multiplier with the fewest signed digits.

    Args:
        at_least: the smallest shift that may be chosen.
    """
    low, high = bounds
    half = 1 << (shift - 1)

    def exact(x: int) -> int:
        return min(max(((x * multiplier + half) >> shift) + zero_point, low), high)

    first, last = exact(sums[0]), exact(sums[1])
    # x·M + half ≥ (k − zero_point)·2^shift  ⟺  x ≥ ⌈((k − zero_point)·2^shift − half)/M⌉
    steps = [(k, -((half - ((k - zero_point) << shift)) // multiplier)) for k in range(first + 1, last + 1)]
    if not steps:
        return Rounding(0, first << at_least, at_least, first, first)
    for narrower in range(at_least, shift + 1):
        near = (multiplier << narrower) >> shift
        found = [
            (sum(digit != 0 for digit in signed_digits(m)), m, offset)
            for m in range(max(1, near - 2), near + 4)
            if (offset := _offset(steps, m, narrower)) is not None
        ]
        if found:
            _, best, offset = min(found)
            return Rounding(best, offset, narrower, first, last)
    return Rounding(multiplier, half + (zero_point << shift), shift, first, last)


def _offset(steps: list[tuple[int, int]], multiplier: int, shift: int) -> int | None:
    """The middle of the offsets with which every step lies where it has to; None: there is none."""
    lowest = max((k << shift) - threshold * multiplier for k, threshold in steps)
    highest = min((k << shift) - 1 - (threshold - 1) * multiplier for k, threshold in steps)
    if lowest > highest:
        return None
    zeros = (highest ^ lowest).bit_length() - 1 if highest != lowest else 0
    return highest >> zeros << zeros if lowest != highest else lowest  # as few digits as the interval allows
