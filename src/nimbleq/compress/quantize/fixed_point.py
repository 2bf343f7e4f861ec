"""Numbers of the integer graph: quantized weights, biases, and the 31-bit multiplier of a requantize."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.quantize.weights import WeightLevels
from nimbleq.graph.formats import INT8
from nimbleq.types import Array

_BIAS_LIMIT = 1 << 29
_TINY = 1e-30
_RATIOS = np.linspace(0.3, 1.0, 36)
"""Scales to try, in the one that reaches the largest weight."""


def multiplier_and_shift(factor: Array) -> tuple[Array, Array]:
    """``factor ≈ M·2^−s`` with ``M`` in ``[2³⁰, 2³¹)`` and ``s`` in 1..62; a factor too small for that becomes 0.

    Args:
        factor: ``float64[C]``, positive, below 2³⁰.

    Returns:
        int32 ``M`` and int32 ``s``, both ``[C]``. The relative error is at most 2⁻³¹.
    """
    mantissa, exponent = np.frexp(np.asarray(factor, np.float64))
    multiplier = np.round(mantissa * (1 << 31)).astype(np.int64)
    shift = 31 - exponent.astype(np.int64)
    rounded_up = multiplier == 1 << 31
    multiplier, shift = np.where(rounded_up, 1 << 30, multiplier), np.where(rounded_up, shift - 1, shift)
    vanishes = shift > 62
    return np.where(vanishes, 0, multiplier).astype(np.int32), np.clip(np.where(vanishes, 62, shift), 1, 62).astype(
        np.int32
    )


def shift_alone(factor: Array) -> Array | None:
    """int32 ``s`` in 1..62 with ``factor = 2^−s`` exactly; None where there is none."""
    mantissa, exponent = np.frexp(np.asarray(factor, np.float64))
    shift = (1 - exponent).astype(np.int32)
    exact = bool((mantissa == 0.5).all() and (shift >= 1).all() and (shift <= 62).all())
    return shift if exact else None


@dataclass(frozen=True)
class QuantizedWeights:
    """An integer layer: ``real output ≈ scale·(Σ weight·v + bias)`` for the stored integers ``v`` of its input.

    Attributes:
        weight: int8, shape of the float weight.
        bias: int32 ``[out]``, contains ``−Σ weight·z``.
        scale: float64 ``[out]``, or ``[1]`` when one scale is shared.
    """

    weight: Array
    bias: Array
    scale: Array


def quantize_weights(
    weight: Array,
    bias: Array,
    zero_point: Array,
    levels: WeightLevels,
    *,
    shared_scale: bool,
    unit: float | None = None,
) -> QuantizedWeights:
    """Weights without a zero point, one scale for each output channel.

    Args:
        weight: float64 ``[out, ...]``, the scales of the input already multiplied in.
        bias: float64 ``[out]``, in real units.
        zero_point: of the input, broadcastable to ``weight[0]``.
        levels: what the weights become.
        shared_scale: one scale for all outputs, so that they stay comparable as integers.
        unit: scales are to be this one divided by powers of two, from 2 on; where a channel needs a larger one, the
            layer does without.
    """
    rows = weight.reshape(len(weight), -1)
    # This keeps the bias inside int32 where all weights of a channel are (nearly) zero.
    least = np.maximum(np.abs(bias) / _BIAS_LIMIT, _TINY)
    scale = levels.scale
    if scale is None:
        together = rows.reshape(1, -1) if shared_scale else rows
        scale = weight_steps(together, levels)
        if unit is not None:
            scale = _fractions(together, levels, scale, unit, least)
    scale = np.maximum(scale, least)
    scale = scale.max(keepdims=True) if shared_scale else scale
    codes = levels.nearest(weight / scale.reshape((-1,) + (1,) * (weight.ndim - 1)))
    offset = (codes * zero_point).reshape(len(weight), -1).sum(axis=1)
    return QuantizedWeights(
        codes.astype(np.int8), np.round(bias / scale - offset).astype(np.int64).astype(np.int32), scale
    )


def weight_steps(rows: Array, levels: WeightLevels) -> Array:
    """``float64[out]`` the scale of each of ``rows [out, n]``: for int8 such that the largest weight is ±127; for
    fewer bits the one, not larger than that, with the least squared error."""
    reach = np.asarray(np.maximum(np.abs(rows).max(axis=1) / levels.high, _TINY))
    return reach if levels.format == INT8 else _best(rows, levels, reach * _RATIOS[:, None])


def _best(rows: Array, levels: WeightLevels, candidates: Array) -> Array:
    """Of ``candidates [tries, out]`` the scale of each row that rounds it with the least squared error."""
    errors = [
        ((levels.nearest(rows / scale[:, None]) * scale[:, None] - rows) ** 2).sum(axis=1) for scale in candidates
    ]
    return np.asarray(np.take_along_axis(candidates, np.argmin(errors, axis=0)[None], axis=0)[0])


def _fractions(rows: Array, levels: WeightLevels, steps: Array, unit: float, least: Array) -> Array:
    """The best of the fractions ``unit/2^k`` next to ``steps``; ``steps`` themselves where one is above ``unit/2``."""
    exponents = np.floor(np.log2(steps / unit))
    floor = np.ceil(np.log2((least if len(steps) == len(least) else least.max(keepdims=True)) / unit))
    if (exponents > -1).any() or (floor > -1).any():
        return steps
    tries = [np.clip(np.maximum(exponents + more, floor), -61, -1) for more in (0, 1)]
    return _best(rows, levels, unit * np.exp2(np.array(tries)))
