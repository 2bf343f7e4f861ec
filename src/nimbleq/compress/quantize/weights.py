"""What the weights of an integer layer become: a number format, its levels, and their real size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.graph.formats import FORMATS, TERNARY, Format, Int, SignedLevels
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

    @property
    def uniform(self) -> bool:
        """Whether every integer from ``low`` to ``high`` is a level."""
        return not isinstance(self.format, SignedLevels)

    def nearest(self, values: Array) -> Array:
        """``float64`` the level nearest to each of ``values``, which are in levels."""
        if self.uniform:
            return np.clip(np.round(values), self.low, self.high)
        return self.format.decode(self.format.encode(values)).astype(np.float64)


def weight_format(name: str) -> WeightLevels:
    """Levels of a format by its name: ``int8`` down to ``int2``, symmetric around 0; ``ternary`` (-1, 0, 1);
    ``log2``, ``log2-3`` and ``apot4``.

    Raises:
        ConfigError: there is no such format.
    """
    row = FORMATS.get(name)
    if row == TERNARY or isinstance(row, SignedLevels):
        return WeightLevels(row, int(row.low), int(row.high), int(row.low))
    if not isinstance(row, Int) or row.bits > 8:
        raise ConfigError(f"weights cannot be {name!r}: give int8, int7, … int2, ternary, log2, log2-3 or apot4")
    return WeightLevels(row, -row.high, row.high, max(row.low, _LOWEST))
