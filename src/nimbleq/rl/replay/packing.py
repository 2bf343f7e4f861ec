"""Vectors that hold pictures beside numbers, stored in a quarter of the memory: a byte per pixel."""

from __future__ import annotations

import math

import numpy as np

from nimbleq.types import Array, ObsSpec


class Packing:
    """Nothing is lost: pixels of bytes are whole numbers from 0 to 255, and anything else stays float32.

    Attributes:
        packed: what is stored in place of an observation, ``uint8[P]``.
    """

    def __init__(self, obs: ObsSpec) -> None:
        self.size = obs.shape[0]
        self.pixels = np.zeros(self.size, bool)  # which values are bytes
        start = 0
        for picture in obs.pictures:
            stop = start + math.prod(picture.shape)
            self.pixels[start:stop] = picture.dtype == "uint8"
            start = stop
        self.count = int(self.pixels.sum())
        self.packed = ObsSpec((self.count + 4 * (self.size - self.count),), "uint8")

    def pack(self, obs: Array) -> Array:
        """``float32[B, O] → uint8[B, P]``."""
        packed = np.empty((len(obs), *self.packed.shape), np.uint8)
        packed[:, : self.count] = obs[:, self.pixels]
        packed[:, self.count :] = np.ascontiguousarray(obs[:, ~self.pixels], np.float32).view(np.uint8)
        return packed

    def unpack(self, packed: Array) -> Array:
        """``uint8[B, P] → float32[B, O]``."""
        obs = np.empty((len(packed), self.size), np.float32)
        obs[:, self.pixels] = packed[:, : self.count]
        obs[:, ~self.pixels] = np.ascontiguousarray(packed[:, self.count :]).view(np.float32)
        return obs
