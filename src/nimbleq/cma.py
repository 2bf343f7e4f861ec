"""CMA-ES: a search without gradients that learns the shape of the valley it is in.

Hansen 2016, "The CMA Evolution Strategy: A Tutorial" [1604.00772]: weighted recombination, cumulative step-size
adaptation, rank-one and rank-μ updates of the full covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log, sqrt
from typing import Self

import numpy as np

from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class Cma:
    """The distribution that candidates are drawn from; `tell` gives the next one.

    Attributes:
        mean: ``float64[n]``.
        sigma: step size.
        covariance: ``float64[n, n]``.
        path, sigma_path: ``float64[n]`` evolution paths of the covariance and of the step size.
        generation: how many were told.
    """

    mean: Array
    sigma: float
    covariance: Array
    path: Array
    sigma_path: Array
    generation: int = 0

    @classmethod
    def start(cls, mean: Array, sigma: float) -> Self:
        """A round distribution."""
        n = len(mean)
        return cls(np.array(mean, np.float64), sigma, np.eye(n), np.zeros(n), np.zeros(n))

    def ask(self, count: int, rng: np.random.Generator) -> Array:
        """``float64[count, n]`` candidates."""
        return self.mean + self.sigma * (rng.standard_normal((count, len(self.mean))) @ _root(self.covariance))

    def tell(self, candidates: Array, scores: Array) -> Self:
        """The distribution after ``candidates [count, n]`` had these ``scores [count]``, the higher the better."""
        n, parents = len(self.mean), len(candidates) // 2
        best = candidates[np.argsort(-scores, kind="stable")[:parents]]
        weights = log(parents + 0.5) - np.log(np.arange(1, parents + 1))
        weights /= weights.sum()
        effective = 1 / float(np.sum(weights**2))  # μ_eff
        path_rate = (4 + effective / n) / (n + 4 + 2 * effective / n)
        sigma_rate = (effective + 2) / (n + effective + 5)
        rank_one = 2 / ((n + 1.3) ** 2 + effective)
        rank_mu = min(1 - rank_one, 2 * (effective - 2 + 1 / effective) / ((n + 2) ** 2 + effective))
        damping = 1 + 2 * max(0.0, sqrt((effective - 1) / (n + 1)) - 1) + sigma_rate
        expected = sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))  # E‖N(0, I)‖

        steps = (best - self.mean) / self.sigma
        step = weights @ steps
        sigma_path = (1 - sigma_rate) * self.sigma_path
        sigma_path = sigma_path + sqrt(sigma_rate * (2 - sigma_rate) * effective) * np.linalg.solve(
            _root(self.covariance), step
        )
        length = float(np.linalg.norm(sigma_path))
        grown = length / sqrt(1 - (1 - sigma_rate) ** (2 * (self.generation + 1)))
        moving = float(grown < (1.4 + 2 / (n + 1)) * expected)  # h_σ: no rank-one update while the step size catches up
        path = (1 - path_rate) * self.path + moving * sqrt(path_rate * (2 - path_rate) * effective) * step
        kept = 1 - rank_one - rank_mu + (1 - moving) * rank_one * path_rate * (2 - path_rate)
        covariance = (
            kept * self.covariance + rank_one * np.outer(path, path) + rank_mu * (steps.T * weights) @ steps
        )  # fmt: skip
        sigma = self.sigma * float(np.exp(sigma_rate / damping * (length / expected - 1)))
        mean = self.mean + self.sigma * step
        return type(self)(mean, sigma, covariance, path, sigma_path, self.generation + 1)


def population(dimension: int) -> int:
    """Candidates a generation: ``4 + ⌊3 ln n⌋``."""
    return 4 + floor(3 * log(dimension))


def _root(covariance: Array) -> Array:
    """The symmetric square root."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 1e-20))) @ vectors.T)
