"""Planes of pixels by number, compressed without loss and with counted references; in C where that was compiled."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np

from nimbleq.rl.priority import replay_extension
from nimbleq.types import Array

_WHOLE = -1  # in place of a key
Dump = tuple[bytearray, Array, Array, Array, Array]
"""Codes one after the other; per number: length of the code, key, references; and the numbers that are free."""


class Planes(Protocol):
    """Planes of ``P`` pixels by number. One without references is forgotten."""

    def put(self, planes: Array, near: Array, /) -> Array:
        """Remember planes, each with one reference.

        Args:
            planes: ``uint8[K, P]``.
            near: ``int32[K]`` numbers of planes that are probably similar (−1: none known).

        Returns:
            Their numbers ``int32[K]``.
        """
        ...

    def get(self, ids: Array, /) -> Array:
        """``ids: int32[B, C] → uint8[B, C, P]``."""
        ...

    def get_pairs(self, obs_ids: Array, next_ids: Array, /) -> tuple[Array, Array]:
        """`get` of both; planes that a row of both shares are decoded once."""
        ...

    def hold(self, ids: Array, /) -> None:
        """One more reference for each number (``int32``, any shape; also several times the same)."""
        ...

    def release(self, ids: Array, /) -> None:
        """One reference less for each; the numbers of planes without any are given out again."""
        ...

    def dump(self) -> Dump:
        """Complete state. Planes are compressed here even when they are not in memory."""
        ...

    def load(self, codes: Array, length: Array, key: Array, references: Array, spare: Array, /) -> None:
        """Continue from what `dump` returned.

        Raises:
            ValueError: the parts contradict each other.
        """
        ...


def make_planes(pixels: int, compress: bool) -> Planes:
    """The fastest there is, for planes of ``pixels`` pixels."""
    extension = replay_extension()
    return PlainPlanes(pixels, compress) if extension is None else cast(Planes, extension.Frames(pixels, compress))


class PlainPlanes:
    """`Planes` in numpy: the native ones' oracle, and their stand-in. Both give the same numbers and the same bytes.

    A plane is kept whole, or as its difference from a *key*, a plane that is kept whole and that it refers to. Keys
    change with the scene.
    """

    def __init__(self, pixels: int, compress: bool) -> None:
        self.pixels, self.compress = pixels, compress
        self.codes: list[bytes] = []  # empty: nobody has this number
        self.keys: list[int] = []
        self.references: list[int] = []
        self.spare: list[int] = []  # numbers to give out again, last first

    def put(self, planes: Array, near: Array) -> Array:
        """See `Planes`."""
        ids = [self._put(plane, number) for plane, number in zip(planes, near.tolist(), strict=True)]
        return np.array(ids, np.int32)

    def _put(self, plane: Array, near: int) -> int:
        code, key = plane.tobytes(), _WHOLE
        if self.compress and near >= 0 and self.codes[near]:
            candidate = self.keys[near] if self.keys[near] != _WHOLE else near
            shorter = self._encoded(plane, self._plane(candidate), self._plane(near), same=candidate == near)
            if shorter is not None:
                code, key = shorter, candidate
                self.references[key] += 1
        if self.spare:
            number = self.spare.pop()
            self.codes[number], self.keys[number], self.references[number] = code, key, 1
        else:
            number = len(self.codes)
            self.codes.append(code)
            self.keys.append(key)
            self.references.append(1)
        return number

    def _encoded(self, plane: Array, key: Array, near: Array, same: bool) -> bytes | None:
        """The code; None when the plane had better become a key: it differs too much, or its predecessor ``near`` would
        be a far better key than its own (the scene has changed for good).
        """
        code = encode(plane, key)
        if len(code) >= self.pixels:
            return None
        lasting = 8 * len(code) > self.pixels and not same and len(code) > 2 * len(encode(plane, near))
        return None if lasting else code

    def _plane(self, number: int) -> Array:
        whole = self.keys[number] == _WHOLE
        code = np.frombuffer(self.codes[number], np.uint8)
        return code if whole else decode(code, self._plane(self.keys[number]))

    def get(self, ids: Array) -> Array:
        """See `Planes`."""
        planes = [self._plane(number) for number in ids.ravel().tolist()]
        return np.array(planes, np.uint8).reshape(*ids.shape, self.pixels)

    def get_pairs(self, obs_ids: Array, next_ids: Array) -> tuple[Array, Array]:
        """See `Planes`."""
        return self.get(obs_ids), self.get(next_ids)

    def hold(self, ids: Array) -> None:
        """See `Planes`."""
        for number in ids.ravel().tolist():
            self.references[number] += 1

    def release(self, ids: Array) -> None:
        """See `Planes`."""
        for number in ids.ravel().tolist():
            self._release(number)

    def _release(self, number: int) -> None:
        self.references[number] -= 1
        if self.references[number] == 0:
            key = self.keys[number]
            self.codes[number], self.keys[number] = b"", _WHOLE
            self.spare.append(number)
            if key != _WHOLE:
                self._release(key)

    def dump(self) -> Dump:
        """See `Planes`."""
        codes, keys, before = self.codes.copy(), self.keys.copy(), _WHOLE
        for number, code in enumerate(self.codes):
            if self.compress or not code:
                continue
            if before != _WHOLE:
                key = keys[before] if keys[before] != _WHOLE else before
                same = key == before
                shorter = self._encoded(self._plane(number), self._plane(key), self._plane(before), same)
                if shorter is not None:
                    codes[number], keys[number] = shorter, key
            before = number
        length = np.array([len(code) for code in codes], np.uint32)
        tables = [np.array(values, np.int32) for values in (keys, self.references, self.spare)]
        return bytearray(b"".join(codes)), length, tables[0], tables[1], tables[2]

    def load(self, codes: Array, length: Array, key: Array, references: Array, spare: Array) -> None:
        """See `Planes`."""
        sizes = (len(length), len(key), len(references))
        if length.sum() != len(codes) or len(set(sizes)) > 1 or not np.array_equal(length > 0, references > 0):
            raise ValueError("the parts contradict each other")
        ends = np.cumsum(length.astype(np.int64))
        self.codes = [codes[end - size : end].tobytes() for end, size in zip(ends, length, strict=True)]
        self.keys, self.references, self.spare = key.tolist(), references.tolist(), spare.tolist()
        if not self.compress:
            self.codes = [self._plane(number).tobytes() if code else b"" for number, code in enumerate(self.codes)]
            self.keys = [_WHOLE] * len(self.codes)


def encode(plane: Array, key: Array) -> bytes:
    """The code of ``plane: uint8[P]`` as its difference from ``key: uint8[P]``; native/replay/codec.h describes it."""
    difference = plane ^ key
    masks = np.packbits(difference != 0, bitorder="little")
    head = np.packbits(masks != 0, bitorder="little")
    return np.concatenate([head, masks[masks != 0], difference[difference != 0]]).tobytes()


def decode(code: Array, key: Array) -> Array:
    """``uint8[P]`` of a code that `encode` made with this ``key``."""
    groups = -(-key.size // 8)
    head = -(-groups // 8)
    differs = np.unpackbits(code[:head], count=groups, bitorder="little").astype(bool)
    masks = np.zeros(groups, np.uint8)
    masks[differs] = code[head : head + differs.sum()]
    kept = np.unpackbits(masks, count=key.size, bitorder="little").astype(bool)
    plane = key.copy()
    plane[kept] ^= code[head + differs.sum() :]
    return plane
