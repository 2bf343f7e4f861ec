"""What features are divided by: their deviation where they vary, ever more where they hardly do."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.graph.standardize import divisors


def test_a_feature_that_varies_is_divided_by_its_deviation() -> None:
    deviation = np.array([1e-4, 0.5, 3.0, 1e6])
    np.testing.assert_array_equal(divisors(np.array([0.0, 5.0, -2.0, 1e9]), deviation), deviation)


@pytest.mark.parametrize("value", [0.0, 1.0, -5.0, 1e6, 1e-9])
def test_a_constant_counts_for_nothing(value: float) -> None:
    samples = np.full(1000, value)
    scale = 1 / divisors(samples.mean(), samples.std())
    assert abs(scale * 1.0) < 1e-3


@pytest.mark.parametrize("mean", [0.0, 1.0, 300.0])
@pytest.mark.parametrize("noise", [1e-12, 1e-9, 1e-7])
def test_noise_of_the_last_digits_is_not_blown_up(mean: float, noise: float) -> None:
    assert abs(1e-3 / divisors(np.array(mean), np.array(noise))) < 0.05


def test_no_jump_where_the_floor_begins() -> None:
    deviation = np.geomspace(1e-8, 1e-2, 2000)
    scale = 1 / divisors(np.zeros(2000), deviation)
    assert np.abs(np.diff(np.log(scale))).max() < 0.01
    assert scale.max() <= 1e4


def test_a_clock_far_from_zero_still_counts() -> None:
    assert divisors(np.array(1.7e9), np.array(3000.0)) == 3000.0
