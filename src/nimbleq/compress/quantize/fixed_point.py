"""Numbers of the integer graph: quantized weights, biases, and the 31-bit multiplier of a requantize."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.quantize.weights import WeightLevels
from nimbleq.types import Array

_BIAS_LIMIT = 1 << 29
_TINY = 1e-30


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
    weight: Array, bias: Array, zero_point: Array, levels: WeightLevels, *, shared_scale: bool
) -> QuantizedWeights:
    """Weights without a zero point, one scale for each output channel.

    Args:
        weight: float64 ``[out, ...]``, the scales of the input already multiplied in.
        bias: float64 ``[out]``, in real units.
        zero_point: of the input, broadcastable to ``weight[0]``.
        levels: what the weights become.
        shared_scale: one scale for all outputs, so that they stay comparable as integers.
    """
    flat = np.abs(weight).reshape(len(weight), -1)
    # The second term keeps the bias inside int32 where all weights of a channel are (nearly) zero.
    scale = flat.max(axis=1) / levels.high if levels.scale is None else levels.scale
    scale = np.maximum(np.maximum(scale, np.abs(bias) / _BIAS_LIMIT), _TINY)
    scale = scale.max(keepdims=True) if shared_scale else scale
    codes = np.clip(np.round(weight / scale.reshape((-1,) + (1,) * (weight.ndim - 1))), levels.low, levels.high)
    offset = (codes * zero_point).reshape(len(weight), -1).sum(axis=1)
    return QuantizedWeights(
        codes.astype(np.int8), np.round(bias / scale - offset).astype(np.int64).astype(np.int32), scale
    )
