"""Constant matrices as adders: signed digits, and terms that several sums share.

Numbers are written with digits −1, 0 and 1, no two of them beside each other (Reitwiesner 1960). Pairs of terms that
occur in several sums are made once: the pair that occurs most often first, until none occurs twice (Potkonjak,
Srivastava & Chandrakasan 1996; the same idea as da4ml's).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Term = tuple[int, int, int]
"""``(signal, shift, sign)``: ``sign·(signal << shift)``."""
Pair = tuple[int, int, int, int]
"""``(a, b, shift, sign)``: ``a + sign·(b << shift)``, or for a negative shift ``(a << −shift) + sign·b``."""


@dataclass(frozen=True)
class Sharing:
    """Attributes:
    pairs: signals made of two others; the first has the number that follows the inputs, the next the one after.
    sums: for each output, the terms to add.
    """

    pairs: tuple[Pair, ...]
    sums: tuple[tuple[Term, ...], ...]


def signed_digits(number: int) -> list[int]:
    """Digits −1, 0, 1 of ``number``, the lowest first, as few of them non-zero as there can be."""
    digits = []
    while number:
        digit = 2 - (number & 3) if number & 1 else 0
        digits.append(digit)
        number = (number - digit) >> 1
    return digits


def terms_of(signal: int, factor: int) -> list[Term]:
    """``factor·signal`` as terms."""
    return [(signal, shift, digit) for shift, digit in enumerate(signed_digits(factor)) if digit]


def share(rows: Sequence[Sequence[int]]) -> Sharing:
    """Adders for ``y = rows·x``: ``rows[out][in]`` are integers, the inputs are the signals 0, 1, …"""
    inputs = len(rows[0]) if rows else 0
    sums = [{t for signal, factor in enumerate(row) for t in terms_of(signal, factor)} for row in rows]
    counts: Counter[Pair] = Counter()
    for terms in sums:
        ordered = sorted(terms)
        counts.update(_pair(one, other) for at, one in enumerate(ordered) for other in ordered[at + 1 :])
    pairs: list[Pair] = []
    while counts:
        # The most frequent; of these the one with the smallest shift and signals, so that results repeat.
        pair = max(counts, key=lambda p: (counts[p], -abs(p[2]), -p[0], -p[1], p[3]))
        if counts[pair] < 2:
            break
        found = [_occurrences(terms, pair) for terms in sums]
        if sum(map(len, found)) < 2:  # they overlap
            del counts[pair]
            continue
        made = inputs + len(pairs)
        pairs.append(pair)
        for terms, occurrences in zip(sums, found, strict=True):
            for one, other in occurrences:
                for gone in (one, other):
                    terms.remove(gone)
                    counts.subtract(_pair(*sorted((gone, rest))) for rest in terms)
                first = min(one[1], other[1])
                new = (made, first, one[2])
                counts.update(_pair(*sorted((new, rest))) for rest in terms)
                terms.add(new)
        del counts[pair]
    return Sharing(tuple(pairs), tuple(tuple(sorted(terms)) for terms in sums))


def _pair(one: Term, other: Term) -> Pair:
    """What two terms, in order, are but for a common shift and sign."""
    return one[0], other[0], other[1] - one[1], one[2] * other[2]


def _occurrences(terms: set[Term], pair: Pair) -> list[tuple[Term, Term]]:
    """Where ``pair`` occurs, without overlaps."""
    a, b, shift, sign = pair
    found, free = [], set(terms)
    for one in sorted(terms):
        other = (b, one[1] + shift, sign * one[2])
        if one[0] == a and one != other and one in free and other in free:
            found.append((one, other))
            free -= {one, other}
    return found
