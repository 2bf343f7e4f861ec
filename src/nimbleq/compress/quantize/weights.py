"""What the weights of an integer layer become: a number format, its levels, and their real size."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.errors import ConfigError
from nimbleq.graph.formats import FORMATS, Format, Int
from nimbleq.types import Array

_LOWEST = -127
"""Kernels count on it that every weight has a negative in eight bits."""


@dataclass(frozen=True, eq=False)
class WeightLevels:
    """``real·gain ≈ scale·level``, where gain is the size of a level of the layer's input.

    Attributes:
        format: that levels are stored in.
        low, high: the levels that are used.
        lowest: the lowest level that there is, for training to use.
        scale: ``float64[out]``, or ``[1]`` where all outputs share one; None: the least that reaches the largest
            weight.
    """

    format: Format
    low: int
    high: int
    lowest: int
    scale: Array | None = None


def weight_format(name: str) -> WeightLevels:
    """Levels of a format by its name: ``int8`` down to ``int2``, symmetric around 0; ``ternary`` (-1, 0, 1).

    Raises:
        ConfigError: there is no such format.
    """
    if name == "ternary":
        return WeightLevels(FORMATS.get(name, Int(2, signed=True)), -1, 1, -1)
    row = FORMATS.get(name)
    if not isinstance(row, Int) or row.bits > 8:
        raise ConfigError(f"weights cannot be {name!r}: give int8, int7, … int2 or ternary")
    return WeightLevels(row, -row.high, row.high, max(row.low, _LOWEST))
