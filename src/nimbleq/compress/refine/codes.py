"""A linear policy as the integers that will ship, and its way from and to real numbers.

``action = argmax_a Σ_f weight[a, f]·x_f + bias[a]`` with ``x_f = clamp(⌊obs_f·2^exponent_f + ½⌋)`` in int8. Argmax does
not change when one action's row is subtracted from all, so one row is zero; nor with a positive factor, so there is no
scale to store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nimbleq.graph.formats import POWER4, Scaled
from nimbleq.types import Array

OBS_BITS = 8


@dataclass(frozen=True)
class Widths:
    """Attributes:
    weight: bits of a weight.
    bias: bits of a bias.
    bias_shift: biases are multiples of ``2^bias_shift``.
    """

    weight: int
    bias: int
    bias_shift: int


@dataclass(frozen=True, eq=False)
class Codes:
    """Attributes:
    weight: ``int64[A, F]``, the row of one action all zero.
    bias: ``int64[A]``, zero for that action.
    exponent: ``int64[F]``.
    """

    weight: Array
    bias: Array
    exponent: Array

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        """``int64[B]`` greedy (legal) actions."""
        sums = quantized(obs, self.exponent) @ self.weight.T.astype(np.float64) + self.bias
        return np.asarray((sums if mask is None else np.where(mask, sums, -np.inf)).argmax(axis=1))

    @property
    def key(self) -> bytes:
        """Equal for equal codes only."""
        return b"".join(array.astype(np.int64).tobytes() for array in (self.weight, self.bias, self.exponent))


def quantized(obs: Array, exponent: Array) -> Array:
    """``float64[B, F]`` ``clamp(⌊obs·2^exponent + ½⌋)`` to signed `OBS_BITS`, as `Quantize` rounds.

    Args:
        exponent: ``int64[F]``, or one row for each of ``obs [B, F]``.
    """
    top = float(1 << (OBS_BITS - 1))
    return np.asarray(
        np.clip(np.floor(np.ldexp(obs.astype(np.float64), exponent.astype(np.int32)) + 0.5), -top, top - 1)
    )


@dataclass(frozen=True, eq=False)
class Rounding:
    """From the vector that is searched to codes.

    The vector holds, for every action but ``free``, a weight for each feature, each in the units of its deviation (so
    that entries are of one size), then the bias.

    Attributes:
        actions: A.
        free: the action whose row is zero.
        exponent: ``int64[F]``.
        levels: of an observation for one deviation.
        widths: of the codes.
    """

    actions: int
    free: int
    exponent: Array
    levels: float
    widths: Widths

    def level(self, vector: Array) -> float:
        """The size of one level of a weight: the largest weight becomes the largest code."""
        weights = vector.reshape(self.actions - 1, -1)[:, :-1]
        return max(float(np.abs(weights).max()), 1e-12) / ((1 << (self.widths.weight - 1)) - 1)

    def __call__(self, vector: Array) -> Codes:
        """The nearest codes."""
        rows, step = vector.reshape(self.actions - 1, -1), self.level(vector)
        biases = Scaled(self.widths.bias, self.widths.bias_shift)
        bias = biases.decode(biases.encode(rows[:, -1] / step * self.levels))
        return Codes(self._whole(np.rint(rows[:, :-1] / step)), self._whole(bias), self.exponent)

    def vector(self, weight: Array, bias: Array) -> Array:
        """The vector of a policy ``weight [A, F]``, ``bias [A]`` of the raw observation, its mean magnitude 1."""
        units = np.ldexp(weight, -self.exponent.astype(np.int32)) * self.levels
        rows = np.concatenate([units, bias.reshape(-1, 1)], axis=1).astype(np.float64)
        others = np.delete(rows - rows[self.free], self.free, axis=0).reshape(-1)
        return np.asarray(others / max(float(np.abs(others).mean()), 1e-12))

    def _whole(self, rows: Array) -> Array:
        return np.insert(rows.astype(np.int64), self.free, 0, axis=0)


def exponents(obs: Array, levels: float, weight: Array) -> Array:
    """``int64[F]`` powers of two that bring the deviation of each feature of ``obs [K, F]`` close to ``levels``.

    Where ``weight [A, F]``, of the raw observation, asks more of a feature than of others, it is brought to more levels
    as far as they go: one large weight makes all others coarse.
    """
    seen = obs.astype(np.float64)
    deviation, farthest = np.maximum(seen.std(axis=0), 1e-6), np.maximum(np.abs(seen).max(axis=0), 1e-6)
    usual = np.rint(np.log2(levels / deviation))
    asked = np.maximum((np.abs(weight).max(axis=0)) * deviation, 1e-12)
    more = np.maximum(np.rint(np.log2(asked / np.median(asked))), 0)
    room = np.maximum(np.floor(np.log2((1 << (OBS_BITS - 1)) / farthest)), usual)
    whole: Array = np.minimum(usual + more, room).astype(np.int64)
    return np.clip(whole, POWER4.least, POWER4.most)


def neighbours(codes: Codes, widths: Widths) -> list[Codes]:
    """Codes that differ in one integer by one level; a feature's exponent moves with the weights kept."""
    top = (1 << (widths.weight - 1)) - 1
    biases = Scaled(widths.bias, widths.bias_shift)
    free = ~(codes.weight.any(axis=1) | (codes.bias != 0))
    found: list[Codes] = []
    for move in (-1, 1):
        for index in np.ndindex(codes.weight.shape):
            if not free[index[0]] and abs(codes.weight[index] + move) <= top:
                found.append(replace(codes, weight=_moved(codes.weight, index, move)))
        for action in np.flatnonzero(~free):
            if biases.low <= codes.bias[action] + (move << widths.bias_shift) <= biases.high:
                found.append(replace(codes, bias=_moved(codes.bias, (int(action),), move << widths.bias_shift)))
        for feature, exponent in enumerate(codes.exponent):
            if POWER4.least <= exponent + move <= POWER4.most:
                found.append(replace(codes, exponent=_moved(codes.exponent, (feature,), move)))
    return found


def without_one(codes: Codes) -> list[Codes]:
    """Codes with one more weight that is zero."""
    return [
        replace(codes, weight=_moved(codes.weight, (action, feature), -int(codes.weight[action, feature])))
        for action, feature in np.argwhere(codes.weight).tolist()
    ]


def _moved(values: Array, index: tuple[int, ...], move: int) -> Array:
    changed = values.copy()
    changed[index] += move
    return changed
