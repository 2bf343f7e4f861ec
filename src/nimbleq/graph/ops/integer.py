"""Between real numbers and integers: Quantize, Dequantize, Requantize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nimbleq.graph.ops.base import Op, Weights, per_channel, require, require_floats
from nimbleq.graph.tensor import INT32, Int, TensorType
from nimbleq.types import Array

_ZERO, _ONE, _UNIT = np.zeros(1, np.int32), np.ones(1, np.float32), np.ones(1, np.int32)

_MANTISSA = 24
"""Bits of a float32: more levels, or a zero point further away, no C kernel has to count."""


@dataclass(frozen=True)
class Quantize(Op):
    """``y = clamp(⌊x·inverse_scale + ½⌋ + zero_point)``; inverse_scale float32 and zero_point int32 (None: 0) of shape
    ``(1,)`` or, per feature, ``(F,)``.

    The product is taken in double, where it is exact, so that fused multiply-add cannot change a bit. Infinities
    saturate; NaN gives the lowest level (``level > low ? level : low`` in C).
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("inverse_scale", "zero_point")
    inverse_scale: str
    zero_point: str | None
    bits: int = 8
    signed: bool = True

    def zero_points(self, weights: Weights) -> Array:
        """The zero point as an array."""
        return _ZERO if self.zero_point is None else weights[self.zero_point]

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require_floats(self, sources)
        require(self.bits <= _MANTISSA, f"Quantize to {self.bits} bits: float32 has {_MANTISSA}")
        (source,) = sources
        per_channel(weights, self.inverse_scale, source, np.float32)
        if self.zero_point is not None:
            zero = per_channel(weights, self.zero_point, source, np.int32)
            require(bool((np.abs(zero.astype(np.int64)) <= 1 << _MANTISSA).all()), "Quantize: a zero point above 2^24")
        return TensorType(source.shape, Int(self.bits, self.signed))


@dataclass(frozen=True)
class Dequantize(Op):
    """``y = float32(x − zero_point)·scale``; scale float32 (None: 1), zero_point int32 (None: 0), each ``(1,)`` or per
    channel ``(C,)``."""

    weight_fields: ClassVar[tuple[str, ...]] = ("scale", "zero_point")
    scale: str | None
    zero_point: str | None

    def scales(self, weights: Weights) -> Array:
        """The scale as an array."""
        return _ONE if self.scale is None else weights[self.scale]

    def zero_points(self, weights: Weights) -> Array:
        """The zero point as an array."""
        return _ZERO if self.zero_point is None else weights[self.zero_point]

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        require(source.qtype.is_integer, f"Dequantize needs integers, got {source}")
        if self.scale is not None:
            per_channel(weights, self.scale, source, np.float32)
        if self.zero_point is not None:
            per_channel(weights, self.zero_point, source, np.int32)
        return TensorType(source.shape)


@dataclass(frozen=True)
class Requantize(Op):
    """int32 accumulators to ``bits``: ``y = clamp(((int64(x)·M + 2^(s−1)) >> s) + zero_point, low, high)``.

    Attributes:
        multiplier: int32 ``M``, not negative: most precise in ``[2³⁰, 2³¹)``; shape ``(1,)`` or per channel ``(C,)``.
            None: 1, so that only the shift is left (power-of-two scales).
        shift: int32 ``s`` in 1..62, same shape.
        zero_point: of the output.
        low, high: bounds of the *stored* value (after the zero point); a fused ReLU has ``low = zero_point``.
        bits, signed: of the output.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("multiplier", "shift")
    multiplier: str | None
    shift: str
    zero_point: int
    low: int
    high: int
    bits: int = 8
    signed: bool = False

    def multipliers(self, weights: Weights) -> Array:
        """The multiplier as an array."""
        return _UNIT if self.multiplier is None else weights[self.multiplier]

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        require(source.qtype == INT32, f"Requantize needs int32 accumulators, got {source}")
        if self.multiplier is not None:
            multiplier = per_channel(weights, self.multiplier, source, np.int32)
            require(bool(np.all(multiplier >= 0)), "Requantize multipliers must not be negative")
        shift = per_channel(weights, self.shift, source, np.int32)
        require(bool(np.all((shift >= 1) & (shift <= 62))), "Requantize shifts must be in 1..62")
        qtype = Int(self.bits, self.signed)
        fits = qtype.low <= self.low <= self.high <= qtype.high
        require(fits, f"Requantize bounds {self.low}..{self.high} leave {qtype}")
        require(qtype.low <= self.zero_point <= qtype.high, f"Requantize zero point {self.zero_point} leaves {qtype}")
        return TensorType(source.shape, qtype)
