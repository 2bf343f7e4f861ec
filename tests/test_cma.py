"""CMA-ES on functions whose optimum is known."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.cma import Cma, population


def run(function, start, sigma, generations, seed=0):
    rng, state = np.random.default_rng(seed), Cma.start(np.asarray(start, np.float64), sigma)
    for _ in range(generations):
        candidates = state.ask(population(len(state.mean)), rng)
        state = state.tell(candidates, -np.array([function(x) for x in candidates]))
    return state


def sphere(x):
    return float(x @ x)


def ellipsoid(x):
    return float(np.sum(10.0 ** (6 * np.arange(len(x)) / (len(x) - 1)) * x**2))


def rosenbrock(x):
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


@pytest.mark.parametrize(
    ("function", "best", "generations"),
    [(sphere, 0.0, 150), (ellipsoid, 0.0, 500), (rosenbrock, 1.0, 300)],
)
def test_it_finds_the_optimum(function, best, generations):
    start = np.zeros(3) if function is rosenbrock else np.full(6, 3.0)  # in more dimensions it has a second optimum
    for seed in range(3):
        end = run(function, start, 0.5, generations, seed)
        assert np.allclose(end.mean, best, atol=1e-3), (seed, end.mean)


def test_the_covariance_learns_the_valley():
    """On an ellipsoid the learnt axes are those of the inverse Hessian, up to a factor."""
    end = run(ellipsoid, np.full(6, 3.0), 0.5, 500)
    lengths = np.diag(end.covariance) * 10.0 ** (6 * np.arange(6) / 5)
    assert lengths.max() / lengths.min() < 20


def test_a_turned_problem_is_as_easy():
    """It does not depend on the axes: the same candidates, turned, give the same scores."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))
    end = run(lambda x: ellipsoid(turn @ x), turn.T @ np.full(6, 3.0), 0.5, 500)
    assert np.allclose(end.mean, 0, atol=1e-3)


def test_the_same_seed_gives_the_same_candidates():
    first, second = (run(sphere, np.ones(3), 0.3, 5, 7) for _ in range(2))
    assert np.array_equal(first.mean, second.mean)
    assert first.sigma == second.sigma
