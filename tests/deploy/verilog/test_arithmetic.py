"""The numbers behind a circuit: signed digits, shared sums, and roundings with small constants."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.deploy.targets.verilog.adders import share, signed_digits
from nimbleq.deploy.targets.verilog.rounding import narrow
from nimbleq.types import Array


@given(st.integers(-(2**40), 2**40))
def test_digits_are_the_number_and_no_two_are_neighbours(number: int) -> None:
    digits = signed_digits(number)
    assert sum(digit << place for place, digit in enumerate(digits)) == number
    assert set(digits) <= {-1, 0, 1}
    assert not any(a and b for a, b in itertools.pairwise(digits))


def evaluate(rows: list[list[int]], inputs: list[int]) -> list[int]:
    """What the adders of ``rows`` give."""
    sharing = share(rows)
    known = list(inputs)
    for a, b, shift, sign in sharing.pairs:
        known.append((known[a] << max(-shift, 0)) + sign * (known[b] << max(shift, 0)))
    return [sum(sign * (known[signal] << shift) for signal, shift, sign in terms) for terms in sharing.sums]


@given(
    st.integers(1, 6).flatmap(
        lambda width: st.tuples(
            st.lists(st.lists(st.integers(-128, 127), min_size=width, max_size=width), min_size=1, max_size=5),
            st.lists(st.integers(-255, 255), min_size=width, max_size=width),
        )
    )
)
def test_shared_adders_are_the_product(given_: tuple[list[list[int]], list[int]]) -> None:
    rows, inputs = given_
    assert evaluate(rows, inputs) == (np.array(rows) @ np.array(inputs)).tolist()


def test_equal_rows_are_added_once() -> None:
    sharing = share([[3, 5, 7], [3, 5, 7], [6, 10, 14]])
    assert [len(terms) for terms in sharing.sums] == [1, 1, 1]
    separate = 3 * (sum(sum(map(abs, signed_digits(w))) for w in (3, 5, 7)) - 1)
    assert len(sharing.pairs) < separate / 2


def reference(x: Array, multiplier: int, shift: int, zero: int, low: int, high: int) -> Array:
    """DESIGN's requantization, in Python's integers."""
    wide = np.array([((int(v) * multiplier + (1 << (shift - 1))) >> shift) + zero for v in x])
    return np.clip(wide, low, high)


@given(
    multiplier=st.integers(0, 2**31 - 1),
    shift=st.integers(1, 62),
    zero=st.integers(0, 255),
    ends=st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted),
    start=st.integers(-3000, 3000),
    at_least=st.integers(0, 20),
)
def test_a_narrow_rounding_is_the_same_function(
    multiplier: int, shift: int, zero: int, ends: list[int], start: int, at_least: int
) -> None:
    low, high = ends
    sums = np.arange(start, start + 2000)
    how = narrow(multiplier, shift, zero, (low, high), (start, start + 1999), at_least)
    found = np.clip([(int(v) * how.multiplier + how.offset) >> how.shift for v in sums], how.low, how.high)
    assert np.array_equal(found, reference(sums, multiplier, shift, zero, low, high))


def test_a_narrow_rounding_has_small_constants() -> None:
    how = narrow(1_518_500_250, 38, 0, (0, 255), (-30_000, 30_000))
    assert how.multiplier.bit_length() <= 20  # the given one has 31
    exact_half = narrow(1 << 30, 31, 0, (0, 255), (-600, 600))
    assert (exact_half.multiplier, exact_half.shift) == (1, 1)


@pytest.mark.parametrize("at_least", [0, 7])
def test_a_constant_rounding_is_its_number(at_least: int) -> None:
    how = narrow(0, 5, 9, (0, 255), (-10, 10), at_least)
    assert how.low == how.high == 9
