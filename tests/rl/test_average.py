"""The average of the weights against its closed forms."""

from __future__ import annotations

import numpy as np

from nimbleq.rl.average import WeightAverage


def numbers(value: float) -> dict[str, np.ndarray]:
    return {"weight": np.full(3, value, np.float32), "mean": np.full(2, value, np.float32)}


def test_at_first_all_weights_count_alike_and_buffers_are_the_last() -> None:
    average = WeightAverage(horizon=100, averaged={"weight"})
    for updates in range(1, 51):
        if average.due(updates):
            average.follow(updates, numbers(updates))
    assert average.updates == 50
    seen = np.arange(5, 51, 5)  # it follows every twentieth of the horizon
    assert np.allclose(average.weights["weight"], seen.mean())
    assert np.array_equal(average.weights["mean"], [50, 50])


def test_later_it_forgets_exponentially() -> None:
    average = WeightAverage(horizon=100, averaged={"weight"})
    for updates in range(1, 101):
        if average.due(updates):
            average.follow(updates, numbers(0))
    for updates in range(101, 301):
        if average.due(updates):
            average.follow(updates, numbers(1))
    left = (1 - 5 / 100) ** (200 / 5)
    assert np.allclose(average.weights["weight"], 1 - left)
    assert abs(left - np.exp(-2)) < 0.01


def test_rounds_of_several_updates_count_by_their_updates() -> None:
    every, rounds = (WeightAverage(horizon=20, averaged={"weight"}) for _ in range(2))
    for updates in range(1, 21):
        every.follow(updates, numbers(float(updates > 10)))
    for updates in (3, 10, 13, 20):  # what came between two looks counts as what is seen at the second
        rounds.follow(updates, numbers(float(updates > 10)))
    assert np.allclose(every.weights["weight"], 0.5)
    assert np.allclose(rounds.weights["weight"], 0.5)


def test_it_goes_on_from_what_it_said() -> None:
    average, other = (WeightAverage(horizon=40, averaged={"weight"}) for _ in range(2))
    for updates in range(2, 30, 2):
        average.follow(updates, numbers(np.sin(updates)))
    arrays = average.arrays()
    other.load_arrays(arrays, {"weight": arrays["weights.weight"], "mean": arrays["weights.mean"]})
    for one in (average, other):
        one.follow(31, numbers(7.0))
    assert other.updates == average.updates
    assert np.array_equal(other.weights["weight"], average.weights["weight"])
