"""The form of a policy that is bounded: layers of exact affine sums, each followed by one function of every sum.

Every value of the network (an input, or the result of a layer's function) has a place ``(layer, unit)``; layer 0 are
the inputs. A layer may read several earlier ones, so residual connections and dueling heads need no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.types import Array

UNIT_ROUNDOFF = 2.0**-24
"""Relative error of one float32 operation."""
DOUBLE_ROUNDING = 2.0**-40
"""Bound on the relative rounding error of our own arithmetic in float64, for sums of up to 8,192 terms."""
TINY = 1e-20
"""Added to the magnitude of float sums: covers products that underflow."""


@dataclass(frozen=True, eq=False)
class Function:
    """``f(a)`` of each sum ``a``: with ``t = scale·a + zero``, ``clamp(t, low, high)``, but ``low + slope·(t − low)``
    below ``low``; rounded (``⌊scale·a + ½⌋ + zero``) before the clamp if ``rounds``. With ``eps`` it is instead
    ``a/√(mean of all a² + eps)``, the heart of a LayerNorm.

    Attributes:
        scale, zero: float64 ``[n]``; scale is not negative.
        multiplier, shift: int64 ``[n]`` if ``scale`` is the exact ``multiplier/2^shift`` of a Requantize (else None).
    """

    scale: Array
    zero: Array
    low: float = -np.inf
    high: float = np.inf
    slope: float = 0.0
    rounds: bool = False
    multiplier: Array | None = None
    shift: Array | None = None
    eps: float | None = None

    def at(self, sums: Array) -> Array:
        """``f``, float64 in the shape ``[..., n]`` of ``sums``; exact for the integer sums of a Requantize."""
        if self.eps is not None:
            return np.asarray(sums / self.norm(sums)[..., None])
        if not self.rounds:
            t = sums * self.scale + self.zero
            below = t if self.low == -np.inf else self.low + self.slope * (t - self.low)
            return np.asarray(np.where(t < self.low, below, np.minimum(t, self.high)))
        if self.multiplier is not None and self.shift is not None:
            product = sums.astype(np.int64) * self.multiplier
            level = ((product + (np.int64(1) << (self.shift - 1))) >> self.shift).astype(np.float64)
        else:
            level = np.floor(sums * self.scale + 0.5)
        return np.clip(level + self.zero, self.low, self.high)

    def norm(self, sums: Array) -> Array:
        """``√(mean a² + eps)``, ``[...]``."""
        assert self.eps is not None
        return np.asarray(np.sqrt((sums * sums).mean(axis=-1) + self.eps))

    def error(self, sums: Array, error: Array) -> Array:
        """How far ``f`` may move when every sum moves by at most ``error``; in the shape of ``sums``."""
        if self.eps is not None:
            # s is 1-Lipschitz in the root mean square of the sums.
            moved, own = np.sqrt((error * error).mean(axis=-1)), self.norm(sums)
            least = np.maximum(own - moved, np.sqrt(self.eps))
            return np.asarray((error + np.abs(sums / own[..., None]) * moved[..., None]) / least[..., None])
        if self.rounds:
            here = self.at(sums)
            return np.asarray(np.maximum(self.at(sums + error) - here, here - self.at(sums - error)))
        return error * self.scale  # no slope is above one


def identity(size: int) -> Function:
    """``f(a) = a``."""
    return Function(np.ones(size), np.zeros(size))


@dataclass(frozen=True, eq=False)
class Layer:
    """Attributes:
    sources: earlier layers, increasing (0: the inputs).
    matrices: for each source, float64 ``[n, its size]``.
    bias: float64 ``[n]``.
    rounding: the error of a computed sum is at most ``rounding·(Σ|w·v| + |bias|)``; 0 for integers, which are exact.
    integer: all sums are integers.
    """

    sources: tuple[int, ...]
    matrices: tuple[Array, ...]
    bias: Array
    function: Function
    rounding: float = 0.0
    integer: bool = False

    @property
    def size(self) -> int:
        """Number of sums."""
        return len(self.bias)

    @property
    def slack(self) -> float:
        """Error of a sum, relative to its magnitude: that of any float32 engine, and that of our own float64."""
        return self.rounding + DOUBLE_ROUNDING


@dataclass(frozen=True, eq=False)
class Network:
    """Attributes:
    inputs: their number.
    integer: the inputs are integers.
    layers: layer 1 first.
    outputs: ``int64[A, 2]`` places ``(layer, unit)`` of the outputs.
    """

    inputs: int
    integer: bool
    layers: tuple[Layer, ...]
    outputs: Array

    @property
    def exact(self) -> bool:
        """Whether every value is computed without rounding errors."""
        return all(layer.rounding == 0 for layer in self.layers)

    def sizes(self) -> list[int]:
        """Number of values of each layer, the inputs first."""
        return [self.inputs, *(layer.size for layer in self.layers)]

    def scattered(self, rows: Array) -> dict[int, Array]:
        """Factors ``[R, A]`` of the outputs as factors of the values of each layer that has outputs."""
        found: dict[int, Array] = {}
        for layer in np.unique(self.outputs[:, 0]).tolist():
            here = self.outputs[:, 0] == layer
            factors = np.zeros((len(rows), self.sizes()[layer]))
            np.add.at(factors.T, self.outputs[here, 1], rows[:, here].T)
            found[layer] = factors
        return found


def evaluate(network: Network, points: Array) -> tuple[Array, Array]:
    """Outputs of the network at ``points [B, n]``, and a bound on how far any float32 engine may be from them.

    Returns:
        float64 ``[B, A]`` outputs of real (integer: exact) arithmetic, float64 ``[B, A]`` error bounds.
    """
    values = [np.asarray(points, np.float64)]
    errors = [np.zeros_like(values[0])]
    for layer in network.layers:
        sums: Array = np.broadcast_to(layer.bias, (len(points), layer.size)).copy()
        size: Array = np.broadcast_to(np.abs(layer.bias) + TINY, sums.shape).copy()
        error: Array = np.zeros_like(sums)
        for source, matrix in zip(layer.sources, layer.matrices, strict=True):
            sums += values[source] @ matrix.T
            size += (np.abs(values[source]) + errors[source]) @ np.abs(matrix).T
            error += errors[source] @ np.abs(matrix).T
        error += 0 if layer.integer else layer.slack * size
        values.append(layer.function.at(sums))
        errors.append(layer.function.error(sums, error))
    places = network.outputs
    return (
        np.stack([values[layer][:, unit] for layer, unit in places], axis=1),
        np.stack([errors[layer][:, unit] for layer, unit in places], axis=1),
    )
