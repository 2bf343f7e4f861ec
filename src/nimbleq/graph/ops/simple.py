"""Ops without weights: activations, pooling, and those that change, join or reduce shapes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import numpy as np

from nimbleq.graph.ops.base import Op, Weights, require, require_floats, require_real, weight_of, window_extent
from nimbleq.graph.tensor import INT32, UINT8, TensorType


@dataclass(frozen=True)
class Activation(Op):
    """``relu``: max(x, 0); ``leaky_relu``: x·slope where x < 0; ``clip``: min(max(x, low), high), so relu6 is 0..6."""

    function: Literal["relu", "leaky_relu", "clip"] = "relu"
    slope: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require_floats(self, sources)
        require(self.function in ("relu", "leaky_relu", "clip"), f"unknown activation {self.function!r}")
        for name in ("slope", "low", "high"):
            require_real(name, getattr(self, name))
        require(self.function != "clip" or self.low <= self.high, f"clip range {self.low}..{self.high} is empty")
        return sources[0]


@dataclass(frozen=True)
class Tanh(Op):
    """``(eˣ − e⁻ˣ)/(eˣ + e⁻ˣ)`` elementwise: of the policies that other libraries train; students have `Activation`."""

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require_floats(self, sources)
        return sources[0]


@dataclass(frozen=True)
class Pool(Op):
    """Max, average or sum over windows of ``(C, H, W)``; padding counts as −∞ for max and as zeros in the average.

    ``max`` takes integers too; ``sum`` takes integers only, without padding, and gives int32: an average before it is
    requantized.
    """

    function: Literal["max", "average", "sum"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        require(len(source.shape) == 3, f"Pool needs (C, H, W), got {source}")
        require(self.function in ("max", "average", "sum"), f"unknown pooling {self.function!r}")
        if self.function == "average":
            require_floats(self, sources)
        if self.function == "sum":
            require(source.qtype.is_integer, f"Pool sum works on integers only, got {source}")
            require(self.padding == (0, 0), "Pool sum takes no padding")
            bound = int(prod(self.kernel) * source.qtype.largest)
            require(bound <= INT32.high, f"sums may reach {bound} and overflow int32: a smaller window or fewer bits")
        fits = all(2 * pad <= window for pad, window in zip(self.padding, self.kernel, strict=True))
        require(fits, f"padding {self.padding} is more than half of the window {self.kernel}")
        rows, cols = window_extent(source.shape[1:], self.kernel, self.stride, self.padding, self.kind)
        return TensorType((source.shape[0], rows, cols), INT32 if self.function == "sum" else source.qtype)


@dataclass(frozen=True)
class Flatten(Op):
    """``*O`` to a vector in C order (channels outermost for an image, as in torch)."""

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        return TensorType((prod(sources[0].shape),), sources[0].qtype)


@dataclass(frozen=True)
class ChannelShuffle(Op):
    """Channels of ``(C, H, W)`` dealt out in turn: those of a group go to different groups.

    Channel ``j·groups + i`` of the result is channel ``i·C/groups + j``. Zhang et al. 2018 [1707.01083], section 3.1.
    """

    groups: int

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        require(len(source.shape) == 3, f"ChannelShuffle needs (C, H, W), got {source}")
        fits = self.groups >= 1 and source.shape[0] % self.groups == 0
        require(fits, f"{source.shape[0]} channels do not divide into {self.groups} groups")
        return source


@dataclass(frozen=True)
class Add(Op):
    """Sum of two float32 tensors of one shape (a residual connection)."""

    arity: ClassVar[int | None] = 2

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require_floats(self, sources)
        require(sources[0].shape == sources[1].shape, f"Add needs equal shapes, got {sources[0]} and {sources[1]}")
        return sources[0]


@dataclass(frozen=True)
class Concat(Op):
    """Join along the first axis (features or channels)."""

    arity: ClassVar[int | None] = None

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        first = sources[0]
        same = all(s.shape[1:] == first.shape[1:] and s.qtype == first.qtype and s.shape for s in sources)
        require(same, f"Concat needs equal types but for the first axis, got {', '.join(map(str, sources))}")
        return TensorType((sum(s.shape[0] for s in sources), *first.shape[1:]), first.qtype)


@dataclass(frozen=True)
class Dueling(Op):
    """``q = v + a − mean(a)`` from ``v [1]`` and ``a [A]``. Wang et al. 2016 [1511.06581], equation 9."""

    arity: ClassVar[int | None] = 2

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require_floats(self, sources)
        value, advantage = sources
        fits = value.shape == (1,) and len(advantage.shape) == 1
        require(fits, f"Dueling needs v [1] and a [A], got {value}, {advantage}")
        return advantage


@dataclass(frozen=True)
class Expectation(Op):
    """``y_a = Σ_i softmax(x_a)_i·z_i``: action values from logits of histograms over a common support.

    The input holds ``N`` logits per action, one action after the other; ``support`` is float32 ``[N]``.
    Bellemare et al. 2017 [1707.06887], section 4.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ("support",)
    support: str

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require_floats(self, sources)
        (source,) = sources
        atoms = len(weight_of(weights, self.support, (None,), np.float32))
        fits = len(source.shape) == 1 and source.size % atoms == 0
        require(fits, f"Expectation needs a vector of whole rows of {atoms} logits, got {source}")
        return TensorType((source.size // atoms,))


@dataclass(frozen=True)
class ArgMax(Op):
    """Index of the largest entry of a vector, the lowest index on ties: the action, int32 ``()``.

    A second input, uint8 of the same shape, is the mask: only entries where it is not 0 count, and there is at least
    one. With a NaN among the entries the index is in range, but which one is not defined: `Runtime` refuses such input.
    """

    arity: ClassVar[int | None] = None

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require(len(sources) <= 2, f"ArgMax takes a vector and a mask, got {len(sources)} inputs")
        require(len(sources[0].shape) == 1, f"ArgMax needs a vector, got {sources[0]}")
        fits = len(sources) == 1 or sources[1] == TensorType(sources[0].shape, UINT8)
        require(fits, f"ArgMax needs a mask {TensorType(sources[0].shape, UINT8)}, got {sources[-1]}")
        return TensorType((), INT32)


@dataclass(frozen=True)
class BranchArgMax(Op):
    """The best choice of each dimension of an action, as one number: int32 ``()``.

    The input holds the values of one dimension after the other, ``branches`` many of each. The digits of the result, of
    which the last changes first, are the indices of the largest, the lowest on ties. A second input is the mask, as of
    `ArgMax`, with a legal choice in each dimension. Tavakoli et al. 2018 [1711.08946].
    """

    arity: ClassVar[int | None] = None
    branches: tuple[int, ...] = (1,)

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require(len(sources) <= 2, f"BranchArgMax takes a vector and a mask, got {len(sources)} inputs")
        require(all(count >= 1 for count in self.branches), f"branches {self.branches} are not all at least 1")
        require(prod(self.branches) <= INT32.high, f"branches {self.branches} make more actions than int32 numbers")
        fits = sources[0].shape == (sum(self.branches),)
        require(fits, f"BranchArgMax needs a vector of {sum(self.branches)} values, got {sources[0]}")
        fits = len(sources) == 1 or sources[1] == TensorType(sources[0].shape, UINT8)
        require(fits, f"BranchArgMax needs a mask {TensorType(sources[0].shape, UINT8)}, got {sources[-1]}")
        return TensorType((), INT32)


@dataclass(frozen=True)
class GRU(Op):
    """The new memory ``h' = (1 − z)·n + z·h`` of gates from the input and from the memory ``h [H]``, all float32.

    ``r, z = σ(x + y)`` of the first two thirds of the gates ``x`` and ``y``, ``[3·H]`` each, and ``n = tanh(x + r·y)``
    of the last. Cho et al. 2014 [1406.1078], in the order and form of PyTorch.
    """

    arity: ClassVar[int | None] = 3

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        require_floats(self, sources)
        of_input, of_memory, memory = sources
        fits = len(memory.shape) == 1 and of_input.shape == of_memory.shape == (3 * memory.size,)
        require(fits, f"GRU needs gates [3·H] twice and a memory [H], got {', '.join(map(str, sources))}")
        return memory
