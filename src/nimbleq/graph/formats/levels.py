"""Integers out of a short list, whose products are shifts and adds: logarithmic weights and APoT."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nimbleq.graph.formats.base import IntegerFormat
from nimbleq.types import Array


@dataclass(frozen=True)
class SignedLevels(IntegerFormat):
    """A sign (the highest bit of a code) and the place of a magnitude in a list.

    Attributes:
        name: in files.
        magnitudes: a power of two of them, the first is 0, none above 127.
        terms: powers of two that a magnitude is a sum of at most: what a multiplication costs in shifts and adds.
    """

    name: str
    magnitudes: tuple[int, ...]
    terms: int

    @property
    def bits(self) -> int:  # type: ignore[override]
        """One for the sign, and the width of a place."""
        return len(self.magnitudes).bit_length()

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8."""
        return np.dtype(np.int8)

    @property
    def low(self) -> int:
        """Smallest value."""
        return -self.high

    @property
    def high(self) -> int:
        """Largest value."""
        return max(self.magnitudes)

    @property
    def shift_adds(self) -> int:
        """See `terms`."""
        return self.terms

    @cached_property
    def _places(self) -> Array:
        """Places of the magnitudes, from small to large."""
        return np.argsort(self.magnitudes)

    def encode(self, values: Array) -> Array:
        """Codes of the nearest values; of two that are as near, the smaller in magnitude."""
        ordered = np.sort(np.array(self.magnitudes, np.float64))
        middles = (ordered[1:] + ordered[:-1]) / 2
        place = self._places[np.searchsorted(middles, np.abs(values.astype(np.float64)))]
        negative = (values < 0) & (place > 0)
        return (place + np.where(negative, len(self.magnitudes), 0)).astype(np.uint8)

    def decode(self, codes: Array) -> Array:
        """See `SignedLevels`."""
        positive = np.array(self.magnitudes, np.int8)
        return np.concatenate([positive, -positive])[codes]

    def __str__(self) -> str:
        return self.name
