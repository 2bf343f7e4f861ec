"""The ops: frozen parameters and a shape-and-type rule. Semantics are in `interpret`.

Weights are referred to by name, so that an op stays a small comparable value. A rule gets the input types and the
graph's weights, and returns the output type or raises `GraphError`. What a decision costs is in `cost`.

An op is integer arithmetic exactly when its weights are integers: it then accumulates in int32 and its bias already
contains ``−Σ W·z`` for the zero point ``z`` of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.tensor import FLOAT32, INT32, Float32, Int, QType, TensorType
from nimbleq.types import Array

Weights = Mapping[str, Array]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise GraphError(message)


def _weight(weights: Weights, name: str, shape: tuple[int | None, ...]) -> Array:
    """The named array, checked against ``shape`` (None: any extent)."""
    _require(name in weights, f"weight {name!r} is missing")
    array = weights[name]
    fits = len(array.shape) == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    _require(fits, f"weight {name!r} has shape {array.shape}, expected {shape}")
    return array


def _accumulator(weight: Array, bias: Array | None, source: TensorType) -> QType:
    """Number format of ``Σ w·x + b``."""
    if weight.dtype == np.float32:
        _require(bias is None or bias.dtype == np.float32, "a float32 weight needs a float32 bias")
        return FLOAT32
    _require(weight.dtype == np.int8, f"weights are float32 or int8, not {weight.dtype}")
    _require(isinstance(source.qtype, Int), "int8 weights need an integer input: quantize it first")
    _require(bias is None or bias.dtype == np.int32, "an int8 weight needs an int32 bias")
    return INT32


@dataclass(frozen=True)
class Op:
    """Base of all ops.

    ``arity`` is the number of inputs (None: any number from one); ``weight_fields`` names the fields that name weights.
    """

    arity: ClassVar[int | None] = 1
    weight_fields: ClassVar[tuple[str, ...]] = ()

    @property
    def kind(self) -> str:
        """Name used in files and messages."""
        return type(self).__name__

    def weight_names(self) -> tuple[str, ...]:
        """The weights this op reads."""
        names = (getattr(self, field) for field in self.weight_fields)
        return tuple(name for name in names if name is not None)

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        """Output type from input types."""
        raise AssertionError(f"{self.kind} has no type rule")



def _floats(op: Op, sources: tuple[TensorType, ...]) -> None:
    _require(
        all(isinstance(source.qtype, Float32) for source in sources),
        f"{op.kind} works on float32 only, got {', '.join(map(str, sources))}",
    )


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
        for name in (self.scale, self.shift):
            _require(name in weights, f"weight {name!r} is missing")
            _require(weights[name].dtype == np.float32, f"weight {name!r} must be float32")
            try:
                shape = np.broadcast_shapes(weights[name].shape, source.shape)
            except ValueError:
                shape = ()
            _require(shape == source.shape, f"weight {name!r} {weights[name].shape} does not broadcast to {source.shape}")
        return TensorType(source.shape)


@dataclass(frozen=True)
class Linear(Op):
    """``y = W·x + b``, ``W`` ``[out, in]``, ``b`` ``[out]``; the input is a vector."""

    weight_fields: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: str
    bias: str | None = None

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        _require(len(source.shape) == 1, f"Linear needs a vector, got {source}: flatten first")
        weight = _weight(weights, self.weight, (None, source.shape[0]))
        bias = None if self.bias is None else _weight(weights, self.bias, (weight.shape[0],))
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
        _require(len(source.shape) == 3, f"Conv2d needs (C, H, W), got {source}")
        channels, height, width = source.shape
        _require(channels % self.groups == 0, f"{channels} input channels do not divide into {self.groups} groups")
        weight = _weight(weights, self.weight, (None, channels // self.groups, None, None))
        out = weight.shape[0]
        _require(out % self.groups == 0, f"{out} output channels do not divide into {self.groups} groups")
        bias = None if self.bias is None else _weight(weights, self.bias, (out,))
        rows, cols = window_extent((height, width), weight.shape[2:], self.stride, self.padding, self.kind)
        return TensorType((out, rows, cols), _accumulator(weight, bias, source))


def window_extent(
    extent: tuple[int, int],
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    kind: str,
) -> tuple[int, int]:
    """Output ``(rows, cols)`` of a sliding window (floor division, as in torch)."""
    rows, cols = (
        (size + 2 * pad - window) // step + 1
        for size, window, step, pad in zip(extent, kernel, stride, padding, strict=True)
    )
    _require(rows > 0 and cols > 0, f"{kind}: a {kernel} window does not fit {extent} with padding {padding}")
    return rows, cols


@dataclass(frozen=True)
class Activation(Op):
    """``relu``: max(x, 0); ``leaky_relu``: x·slope where x < 0; ``clip``: min(max(x, low), high) (relu6 is clip 0..6)."""

    function: Literal["relu", "leaky_relu", "clip"] = "relu"
    slope: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        _floats(self, sources)
        _require(self.function in ("relu", "leaky_relu", "clip"), f"unknown activation {self.function!r}")
        _require(self.function != "clip" or self.low <= self.high, f"clip range {self.low}..{self.high} is empty")
        return sources[0]


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
        _floats(self, sources)
        for name in (self.weight, self.bias):
            if name is not None:
                _weight(weights, name, sources[0].shape)
        return sources[0]


@dataclass(frozen=True)
class Pool(Op):
    """Max or average over windows of ``(C, H, W)``; padding counts as −∞ for max and as zeros in the average.

    Works on integers too when ``function`` is ``max``.
    """

    function: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        _require(len(source.shape) == 3, f"Pool needs (C, H, W), got {source}")
        if self.function == "average":
            _floats(self, sources)
        fits = all(2 * pad <= window for pad, window in zip(self.padding, self.kernel, strict=True))
        _require(fits, f"padding {self.padding} is more than half of the window {self.kernel}")
        rows, cols = window_extent(source.shape[1:], self.kernel, self.stride, self.padding, self.kind)
        return TensorType((source.shape[0], rows, cols), source.qtype)


@dataclass(frozen=True)
class Flatten(Op):
    """``*O`` to a vector in C order (channels outermost for an image, as in torch)."""

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        return TensorType((prod(sources[0].shape),), sources[0].qtype)


@dataclass(frozen=True)
class Add(Op):
    """Sum of two float32 tensors of one shape (a residual connection)."""

    arity: ClassVar[int | None] = 2

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        _floats(self, sources)
        _require(sources[0].shape == sources[1].shape, f"Add needs equal shapes, got {sources[0]} and {sources[1]}")
        return sources[0]


@dataclass(frozen=True)
class Concat(Op):
    """Join along the first axis (features or channels)."""

    arity: ClassVar[int | None] = None

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        first = sources[0]
        same = all(s.shape[1:] == first.shape[1:] and s.qtype == first.qtype and s.shape for s in sources)
        _require(same, f"Concat needs equal types but for the first axis, got {', '.join(map(str, sources))}")
        return TensorType((sum(s.shape[0] for s in sources), *first.shape[1:]), first.qtype)


@dataclass(frozen=True)
class Dueling(Op):
    """``q = v + a − mean(a)`` from ``v [1]`` and ``a [A]``. Wang et al. 2016 [1511.06581], equation 9."""

    arity: ClassVar[int | None] = 2

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        _floats(self, sources)
        value, advantage = sources
        _require(value.shape == (1,) and len(advantage.shape) == 1, f"Dueling needs v [1] and a [A], got {value}, {advantage}")
        return advantage


@dataclass(frozen=True)
class Quantize(Op):
    """``y = clamp(⌊x·inverse_scale + ½⌋ + zero_point)``; inverse_scale float32 and zero_point int32 of shape ``(1,)``
    or, per feature, ``(F,)``.

    The product is taken in double, where it is exact, so that fused multiply-add cannot change a bit.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("inverse_scale", "zero_point")
    inverse_scale: str
    zero_point: str
    bits: int = 8
    signed: bool = True

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        _floats(self, sources)
        (source,) = sources
        _per_channel(weights, self.inverse_scale, source, np.float32)
        _per_channel(weights, self.zero_point, source, np.int32)
        return TensorType(source.shape, Int(self.bits, self.signed))


@dataclass(frozen=True)
class Dequantize(Op):
    """``y = float32(x − zero_point)·scale``; scale float32, zero_point int32, each ``(1,)`` or per channel ``(C,)``."""

    weight_fields: ClassVar[tuple[str, ...]] = ("scale", "zero_point")
    scale: str
    zero_point: str

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        _require(isinstance(source.qtype, Int), f"Dequantize needs integers, got {source}")
        _per_channel(weights, self.scale, source, np.float32)
        _per_channel(weights, self.zero_point, source, np.int32)
        return TensorType(source.shape)


@dataclass(frozen=True)
class Requantize(Op):
    """int32 accumulators to ``bits``: ``y = clamp((int64(x)·M + 2^(s−1)) >> s) + zero_point``.

    Attributes:
        multiplier: int32 ``M`` in ``[2³⁰, 2³¹)`` or 0, shape ``(1,)`` or per channel ``(C,)``.
        shift: int32 ``s`` in 1..62, same shape.
        zero_point: of the output.
        low, high: bounds of the *stored* value (after the zero point); a fused ReLU has ``low = zero_point``.
        bits, signed: of the output.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("multiplier", "shift")
    multiplier: str
    shift: str
    zero_point: int
    low: int
    high: int
    bits: int = 8
    signed: bool = False

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        _require(source.qtype == INT32, f"Requantize needs int32 accumulators, got {source}")
        multiplier = _per_channel(weights, self.multiplier, source, np.int32)
        shift = _per_channel(weights, self.shift, source, np.int32)
        _require(bool(np.all(multiplier >= 0)), "Requantize multipliers must not be negative")
        _require(bool(np.all((shift >= 1) & (shift <= 62))), "Requantize shifts must be in 1..62")
        qtype = Int(self.bits, self.signed)
        _require(qtype.low <= self.low <= self.high <= qtype.high, f"Requantize bounds {self.low}..{self.high} leave {qtype}")
        return TensorType(source.shape, qtype)


def _per_channel(weights: Weights, name: str, source: TensorType, dtype: Any) -> Array:
    """An array of one value, or one per entry of the first axis of ``source``."""
    _require(name in weights, f"weight {name!r} is missing")
    array = weights[name]
    extent = source.shape[0] if source.shape else 1
    _require(array.shape in ((1,), (extent,)), f"weight {name!r} has shape {array.shape}, expected (1,) or ({extent},)")
    _require(array.dtype == dtype, f"weight {name!r} is {array.dtype}, expected {np.dtype(dtype)}")
    return array


@dataclass(frozen=True)
class ArgMax(Op):
    """Index of the largest entry of a vector, the lowest index on ties: the action, int32 ``()``."""

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        _require(len(sources[0].shape) == 1, f"ArgMax needs a vector, got {sources[0]}")
        return TensorType((), INT32)


OPS: dict[str, Callable[..., Op]] = {
    op.__name__: op
    for op in (
        Affine, Linear, Conv2d, Activation, LayerNorm, Pool, Flatten, Add, Concat, Dueling,
        Quantize, Dequantize, Requantize, ArgMax,
    )
}  # fmt: skip
"""Kind → class, for reading files."""
