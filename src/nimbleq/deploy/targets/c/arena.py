"""Places in the arena: memory that is used again as soon as nobody needs what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """A piece of the arena, in bytes."""

    offset: int
    size: int


def place(
    lifetimes: Mapping[str, tuple[int, int]], sizes: Mapping[str, int], alignment: int
) -> tuple[dict[str, Slot], int]:
    """First fit, largest first: what is alive at the same step never overlaps.

    Args:
        lifetimes: name → first and last step, both inclusive.
        sizes: name → bytes.
        alignment: of every slot, in bytes.

    Returns:
        Slots by name, and the size of the arena.
    """
    placed: dict[str, Slot] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        size = -(-max(sizes[name], 1) // alignment) * alignment
        others = sorted((placed[other] for other in placed if _meet(lifetimes[name], lifetimes[other])), key=_offset)
        offset = 0
        for slot in others:
            if offset + size <= slot.offset:
                break
            offset = max(offset, slot.offset + slot.size)
        placed[name] = Slot(offset, size)
    return placed, max((slot.offset + slot.size for slot in placed.values()), default=0)


def _meet(one: Sequence[int], other: Sequence[int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _offset(slot: Slot) -> int:
    return slot.offset
