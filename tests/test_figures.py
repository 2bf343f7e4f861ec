"""Returns as text: the digits that tell two of them apart, at any scale."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.figures import decimals, shown, signed


@pytest.mark.parametrize(
    ("value", "beside", "text"),
    [
        (494.495, (), "494.5"),
        (-103.25, (-1.0,), "-103.2"),
        (10.0, (), "10.0"),
        (9.98, (), "9.980"),
        (0.8671, (0.868,), "0.8671"),
        (0.868, (0.8671,), "0.8680"),
        (0.0, (0.7,), "0.0000"),
        (0.0, (), "0.0"),
        (0.0123, (), "0.01230"),
        (float("nan"), (), "nan"),
        (float("-inf"), (3.0,), "-inf"),
    ],
)
def test_a_return(value: float, beside: tuple[float, ...], text: str) -> None:
    assert shown(value, *beside) == text


def test_a_difference_has_a_digit_more() -> None:
    assert signed(5.505, 500.0, 494.495) == "+5.50"
    assert signed(-0.0009, 0.8671, 0.868) == "-0.00090"


@given(st.floats(1e-6, 1e6), st.floats(0.002, 0.5))
def test_what_differs_by_a_thousandth_of_the_larger_reads_differently(value: float, share: float) -> None:
    other = value * (1 - share)
    if value < 10:
        assert shown(value, other) != shown(other, value)
    assert 1 <= decimals(value, other) <= 12
