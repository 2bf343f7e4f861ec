"""Observations in fewer bytes, nothing lost: a bit for what has two values, a byte for a pixel beside numbers."""

from __future__ import annotations

import numpy as np

from nimbleq.errors import EnvError
from nimbleq.rl.replay.priority import replay_extension
from nimbleq.types import Array, ObsSpec

_NATIVE = replay_extension()
LARGEST_PLANE = 1_024
"""Pixels of a binary image up to which it is kept as bits; of larger ones `SharedFrames` keeps what has changed."""


def packs(obs: ObsSpec) -> bool:
    """Whether observations are kept as `Packing` does: where that takes far fewer bytes."""
    if len(obs.shape) == 3 and obs.dtype == "uint8":
        return obs.binary and obs.shape[1] * obs.shape[2] <= LARGEST_PLANE
    return bool(obs.pictures) or obs.mostly_bits


class Packing:
    """What is stored in place of an observation: bits, then pixels that are bytes, then what is left as float32.

    The bits are the values that the space declares to be 0 or one other number (`ObsSpec.bits`); nothing else is taken.

    Attributes:
        packed: of what is stored, ``uint8[P]``.
    """

    def __init__(self, obs: ObsSpec) -> None:
        self.shape, self.dtype = obs.shape, np.dtype(obs.dtype)
        kind = np.full(obs.size, 2)
        start = 0
        for picture in obs.pictures:
            if picture.dtype == "uint8":
                kind[start : start + picture.size] = 1
            start += picture.size
        for start, stop in obs.bits:
            kind[start:stop] = 0
        self.bits, self.pixels, self.reals = (np.flatnonzero(kind == one) for one in range(3))
        tops = np.array([obs.top(start) for start, stop in obs.bits for _ in range(stop - start)], np.float32)
        self.top = tops if len(set(tops.tolist())) > 1 else float(tops[0]) if len(tops) else 1.0
        self.whole = len(self.bits) == obs.size
        self.bit_bytes = -(-len(self.bits) // 8)
        self.packed = ObsSpec((self.bit_bytes + len(self.pixels) + 4 * len(self.reals),), "uint8")

    def pack(self, obs: Array) -> Array:
        """``[B, *O] → uint8[B, P]``.

        Raises:
            EnvError: a value has two values by its space, and is neither.
        """
        flat = obs.reshape(len(obs), -1)
        if self.whole:
            return self._bits(flat)
        packed = np.empty((len(obs), *self.packed.shape), np.uint8)
        pixels = self.bit_bytes + len(self.pixels)
        if self.bit_bytes:
            packed[:, : self.bit_bytes] = self._bits(flat[:, self.bits])
        packed[:, self.bit_bytes : pixels] = flat[:, self.pixels]
        packed[:, pixels:] = np.ascontiguousarray(flat[:, self.reals], np.float32).view(np.uint8)
        return packed

    def unpack(self, packed: Array) -> Array:
        """``uint8[B, P] → [B, *O]``."""
        if self.whole:
            return self._values(packed).reshape(-1, *self.shape)
        obs = np.empty((len(packed), self.shape[0]), np.float32)
        pixels = self.bit_bytes + len(self.pixels)
        if self.bit_bytes:
            obs[:, self.bits] = self._values(packed[:, : self.bit_bytes])
        obs[:, self.pixels] = packed[:, self.bit_bytes : pixels]
        obs[:, self.reals] = np.ascontiguousarray(packed[:, pixels:]).view(np.float32)
        return obs

    def _bits(self, values: Array) -> Array:
        if not isinstance(self.top, float):
            wrong = (values != 0) & (values != self.top)
            values, top = (values != 0).astype(np.uint8), 1.0
        else:
            wrong, top = np.zeros(0, bool), self.top
        try:
            if wrong.any():
                raise ValueError(f"a value is {values[wrong][0]}")
            return pack(values, top)
        except ValueError as error:
            raise EnvError(f"the environment left its observation space, which says two values: {error}") from None

    def _values(self, packed: Array) -> Array:
        values = unpack(packed, len(self.bits), self.dtype == np.uint8)
        if self.dtype == np.uint8 or (isinstance(self.top, float) and self.top == 1):
            return values
        values *= self.top
        return values


def pack(values: Array, top: float) -> Array:
    """``uint8`` or ``float32 [B, n] → uint8[B, ⌈n/8⌉]``, a bit for each value, the first the lowest.

    Raises:
        ValueError: one is neither 0 nor ``top``.
    """
    if _NATIVE is not None:
        packed: Array = _NATIVE.pack(values, top)
        return packed
    there = values != 0
    if (there & (values != top)).any():
        raise ValueError(f"a value is neither 0 nor {top}")
    return np.packbits(there, axis=1, bitorder="little")


def unpack(packed: Array, count: int, whole: bool) -> Array:
    """What `pack` took: ``uint8[B, count]`` of 0 and 255 if ``whole``, else ``float32[B, count]`` of 0 and 1."""
    if _NATIVE is not None:
        values: Array = _NATIVE.unpack(packed, count, whole)
        return values
    there = np.unpackbits(np.ascontiguousarray(packed), axis=1, count=count, bitorder="little")
    return there * np.uint8(255) if whole else there.astype(np.float32)
