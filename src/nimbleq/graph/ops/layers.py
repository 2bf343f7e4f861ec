"""Layers with weights: Affine, Linear, Conv2d, LayerNorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nimbleq.graph.formats import Format
from nimbleq.graph.ops.base import Op, Weights, require, require_floats, require_real, weight_of, window_extent
from nimbleq.graph.tensor import FLOAT32, INT8, INT32, QType, TensorType
from nimbleq.types import Array


@dataclass(frozen=True)
class Affine(Op):
    """``y = x·scale + shift`` elementwise; scale and shift broadcast against ``*O`` (``()``, ``(F,)``, ``(C, 1, 1)``).

    Takes integers too (a raw uint8 image) and always gives float32. Computed in double and rounded once, so that a
    fused multiply-add gives the same bits.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("scale", "shift")
    scale: str
    shift: str

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        narrow = not source.qtype.is_integer or source.qtype.bits <= 24
        require(narrow, f"Affine takes float32 or integers of up to 24 bits, got {source}: dequantize first")
        for name in (self.scale, self.shift):
            require(name in weights, f"weight {name!r} is missing")
            require(weights[name].dtype == np.float32, f"weight {name!r} must be float32")
            try:
                shape = np.broadcast_shapes(weights[name].shape, source.shape)
            except ValueError:
                shape = ()
            fits = shape == source.shape
            require(fits, f"weight {name!r} {weights[name].shape} does not broadcast to {source.shape}")
        return TensorType(source.shape)


@dataclass(frozen=True)
class Linear(Op):
    """``y = W·x + b``, ``W`` ``[out, in]``, ``b`` ``[out]``; the input is a vector.

    With integer weights and an integer input it is integer arithmetic (``b`` int32); otherwise it is float32: integer
    weights on a float32 input are those numbers, and an Affine behind it gives them their scales.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: str
    bias: str | None = None

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        require(len(source.shape) == 1, f"Linear needs a vector, got {source}: flatten first")
        weight = weight_of(weights, self.weight, (None, source.shape[0]))
        bias = None if self.bias is None else weight_of(weights, self.bias, (weight.shape[0],))
        return TensorType((weight.shape[0],), _accumulator(weight, bias, source))


@dataclass(frozen=True)
class Conv2d(Op):
    """Cross-correlation on ``(C, H, W)``: ``W`` ``[out, C/groups, kh, kw]``, ``b`` ``[out]``.

    ``pad_value`` fills the border (the zero point of a quantized input).
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: str
    bias: str | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    pad_value: int = 0

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        require(len(source.shape) == 3, f"Conv2d needs (C, H, W), got {source}")
        channels, height, width = source.shape
        require(self.groups >= 1, f"groups must be at least 1, not {self.groups}")
        require(channels % self.groups == 0, f"{channels} input channels do not divide into {self.groups} groups")
        weight = weight_of(weights, self.weight, (None, channels // self.groups, None, None))
        out = weight.shape[0]
        require(out % self.groups == 0, f"{out} output channels do not divide into {self.groups} groups")
        bias = None if self.bias is None else weight_of(weights, self.bias, (out,))
        low, high = (source.qtype.low, source.qtype.high) if source.qtype.is_integer else (0, 0)
        require(low <= self.pad_value <= high, f"pad value {self.pad_value} is not a {source.qtype} (0 for float32)")
        rows, cols = window_extent((height, width), weight.shape[2:], self.stride, self.padding, self.kind)
        return TensorType((out, rows, cols), _accumulator(weight, bias, source))


@dataclass(frozen=True)
class LayerNorm(Op):
    """``(x − mean)/√(var + eps)·weight + bias`` over all of ``*O``; weight and bias, when given, have shape ``*O``.

    Ba, Kiros & Hinton 2016 [1607.06450], biased variance.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: str | None = None
    bias: str | None = None
    eps: float = 1e-5

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require_floats(self, sources)
        for name in (self.weight, self.bias):
            if name is not None:
                weight_of(weights, name, sources[0].shape, np.float32)
        require_real("eps", self.eps)
        require(self.eps > 0, f"eps must be positive, not {self.eps}")
        return sources[0]


def _accumulator(weight: Array, bias: Array | None, source: TensorType) -> QType:
    """Number format of ``Σ w·x + b``; for integers also the proof that no partial sum, in any order, leaves int32."""
    require(weight.dtype in (FLOAT32.dtype, INT8.dtype), f"weights are float32 or int8, not {weight.dtype}")
    if weight.dtype == FLOAT32.dtype or not source.qtype.is_integer:
        require(bias is None or bias.dtype == FLOAT32.dtype, "float32 sums need a float32 bias")
        return FLOAT32
    require(bias is None or bias.dtype == INT32.dtype, "integer sums need an int32 bias")
    bound = accumulator_bound(weight, bias, source.qtype)
    require(
        bound <= INT32.high, f"sums may reach {bound} and overflow int32: fewer inputs, smaller weights or fewer bits"
    )
    return INT32


def accumulator_bound(weight: Array, bias: Array | None, source: Format) -> int:
    """Largest ``Σ|w|·max|x| + |b|`` over the outputs of an integer layer."""
    # Sums of int8 magnitudes are exact in float64, whose conversion and reduction are the fast ones.
    magnitude = np.abs(weight.reshape(len(weight), -1), dtype=np.float64).sum(axis=1) * source.largest
    if bias is not None:
        magnitude += np.abs(bias.astype(np.float64))
    return int(magnitude.max())
