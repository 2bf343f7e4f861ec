"""Planes of pixels by number, compressed without loss and with counted references; in C where that was compiled."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np

from nimbleq.rl.replay.priority import replay_extension
from nimbleq.types import Array

_WHOLE = -1  # in place of a key
Dump = tuple[bytearray, Array, Array]
"""Codes one after the other; per plane: length of its code ``uint32``, and number of its key ``int32``."""


class FrameStore(Protocol):
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

    def tables(self) -> tuple[Array, Array]:
        """References of every number (0: not in use), and the numbers that are free, last first."""
        ...

    def dump(self, ids: Array, /) -> Dump:
        """The planes ``ids: int32[K]`` for a checkpoint. They are compressed, even when they are not in memory."""
        ...

    def restore(self, references: Array, spare: Array, /) -> None:
        """Forget everything and begin to continue from what `tables` returned: `place` and `settle` follow.

        Raises:
            ValueError: the parts contradict each other.
        """
        ...

    def place(self, ids: Array, codes: Array, length: Array, key: Array, /) -> None:
        """Take in what ``dump(ids)`` returned; of planes with one number the last stays.

        Raises:
            ValueError: the parts contradict each other.
        """
        ...

    def settle(self) -> None:
        """Everything is placed; planes without references are forgotten.

        Raises:
            ValueError: a plane is missing.
        """
        ...


def make_frame_store(pixels: int, compress: bool) -> FrameStore:
    """The fastest there is, for planes of ``pixels`` pixels."""
    extension = replay_extension()
    return (
        NumpyFrameStore(pixels, compress) if extension is None else cast(FrameStore, extension.Frames(pixels, compress))
    )


class NumpyFrameStore:
    """`FrameStore` in numpy, for tests and where the native one was not compiled. Both give the same numbers and bytes.

    A plane is stored whole, or as its difference from a *key*, a plane that is stored whole. Keys change with the
    scene.
    """

    def __init__(self, pixels: int, compress: bool) -> None:
        self.pixels, self.compress = pixels, compress
        self.codes: list[bytes] = []  # empty: the number is not in use
        self.keys: list[int] = []
        self.references: list[int] = []
        self.spare: list[int] = []  # numbers to give out again, last first

    def put(self, planes: Array, near: Array) -> Array:
        """See `FrameStore`."""
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
        """See `FrameStore`."""
        planes = [self._plane(number) for number in ids.ravel().tolist()]
        return np.array(planes, np.uint8).reshape(*ids.shape, self.pixels)

    def get_pairs(self, obs_ids: Array, next_ids: Array) -> tuple[Array, Array]:
        """See `FrameStore`."""
        return self.get(obs_ids), self.get(next_ids)

    def hold(self, ids: Array) -> None:
        """See `FrameStore`."""
        for number in ids.ravel().tolist():
            self.references[number] += 1

    def release(self, ids: Array) -> None:
        """See `FrameStore`."""
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

    def tables(self) -> tuple[Array, Array]:
        """See `FrameStore`."""
        return np.array(self.references, np.int32), np.array(self.spare, np.int32)

    def dump(self, ids: Array) -> Dump:
        """See `FrameStore`."""
        codes, keys, before, key_before = [], [], _WHOLE, _WHOLE
        for number in ids.tolist():
            code, key = self.codes[number], self.keys[number]
            if not self.compress and before != _WHOLE:
                plane, its_key, near = (self._plane(each) for each in (number, key_before, before))
                shorter = self._encoded(plane, its_key, near, same=key_before == before)
                if shorter is not None:
                    code, key = shorter, key_before
            before, key_before = number, number if key == _WHOLE else key
            codes.append(code)
            keys.append(key)
        return bytearray(b"".join(codes)), np.array([len(code) for code in codes], np.uint32), np.array(keys, np.int32)

    def restore(self, references: Array, spare: Array) -> None:
        """See `FrameStore`."""
        if (references < 0).any() or sorted(spare) != np.flatnonzero(references == 0).tolist():
            raise ValueError("the parts contradict each other")
        self.references, self.spare = references.tolist(), spare.tolist()
        self.codes, self.keys = [b""] * len(references), [_WHOLE] * len(references)

    def place(self, ids: Array, codes: Array, length: Array, key: Array) -> None:
        """See `FrameStore`."""
        if length.sum() != len(codes) or not len(ids) == len(length) == len(key):
            raise ValueError("the parts contradict each other")
        ends = np.cumsum(length.astype(np.int64))
        for number, end, size, its_key in zip(ids.tolist(), ends, length, key.tolist(), strict=True):
            code = codes[end - size : end]
            if its_key != _WHOLE and not self.compress:
                code, its_key = decode(code, self._plane(its_key)), _WHOLE
            self.codes[number], self.keys[number] = code.tobytes(), its_key

    def settle(self) -> None:
        """See `FrameStore`."""
        for number, count in enumerate(self.references):
            if count == 0:
                self.codes[number], self.keys[number] = b"", _WHOLE
        if any(count > 0 and not code for count, code in zip(self.references, self.codes, strict=True)):
            raise ValueError("a plane is missing")


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
    same = np.unpackbits(masks, count=key.size, bitorder="little").astype(bool)
    plane = key.copy()
    plane[same] ^= code[head + differs.sum() :]
    return plane
