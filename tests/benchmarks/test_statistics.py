"""Statistics over seeds, against cases that can be worked out by hand."""

from math import inf

import numpy as np
import pytest

from benchmarks.statistics import interval95, iqm, median, ratio, summary


def test_median_of_odd_even_and_unreached() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert median([1.0, inf, 2.0]) == 2.0
    assert median([1.0, inf, inf]) == inf
    assert median([inf, inf]) == inf


def test_interquartile_mean() -> None:
    assert iqm([1.0, 2.0, 3.0, 100.0]) == 2.5  # the middle two
    assert iqm([0.0, 1.0, 2.0, 4.0, 100.0]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 4) / 2.5)
    assert iqm([1.0, 2.0]) == 1.5
    assert iqm([7.0]) == 7.0
    assert iqm([1.0, 2.0, 3.0, inf]) == 2.5  # outside the middle half
    assert iqm([1.0, 2.0, inf]) == inf
    uniform = np.random.default_rng(0).random(4_001)
    assert iqm(uniform) == pytest.approx(0.5, abs=0.02)


def test_two_values_have_four_resamples() -> None:
    """(0,0), (0,1), (1,0), (1,1): the mean is 0, ½, ½, 1, so 95 % reach from 0 to 1."""
    assert interval95([0.0, 1.0], lambda values: float(np.mean(values))) == (0.0, 1.0)
    assert interval95([5.0], median) == (5.0, 5.0)


def test_median_of_five_rarely_leaves_its_neighbours() -> None:
    """A resample's median is the least of five values with probability Σ_{k≥3} C(5,k) 0.2ᵏ 0.8⁵⁻ᵏ = 5.8 % > 2.5 %."""
    assert interval95([1.0, 2.0, 3.0, 4.0, 5.0], median) == (1.0, 5.0)


def test_bootstrap_of_many_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(10.0, 2.0, 400)
    low, high = interval95(values.tolist(), lambda sample: float(np.mean(sample)))
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_ratio_is_of_pairs() -> None:
    """A slow spell that doubles one pair leaves the ratio alone."""
    found = ratio([10.0, 20.0, 30.0], [1.0, 2.0, 2.0])
    assert (found["median"], found["least"], found["most"], found["pairs"]) == (10.0, 10.0, 15.0, 3)
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0], [1.0])


def test_unreached_is_no_number_in_json() -> None:
    found = summary([1.0, 2.0, inf, inf, inf])
    assert found["median"] is None
    assert found["most"] is None
    assert found["least"] == 1.0
    assert found["median_ci95"] == [1.0, None]
