"""Ops that split an observation vector into images and numbers."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.graph.ops.base import Op, Weights, require
from nimbleq.graph.tensor import TensorType


@dataclass(frozen=True)
class Slice(Op):
    """``x[start:stop]`` of a vector."""

    start: int
    stop: int

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        fits = len(source.shape) == 1 and 0 <= self.start < self.stop <= source.shape[0]
        require(fits, f"Slice {self.start}:{self.stop} needs a vector of at least {self.stop}, got {source}")
        return TensorType((self.stop - self.start,), source.qtype)


@dataclass(frozen=True)
class Unflatten(Op):
    """A vector in C order as an image ``(C, H, W)``: the inverse of Flatten."""

    channels: int
    height: int
    width: int

    def infer(self, sources: tuple[TensorType, ...], weights: Weights) -> TensorType:
        (source,) = sources
        shape = (self.channels, self.height, self.width)
        fits = min(shape) >= 1 and source.shape == (self.channels * self.height * self.width,)
        require(fits, f"Unflatten to {shape} needs a vector with that many values, got {source}")
        return TensorType(shape, source.qtype)
