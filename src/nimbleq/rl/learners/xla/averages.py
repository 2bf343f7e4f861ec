"""What a program keeps beside the learner: statistics of observations, and the average of the weights.

The mathematics is that of `nimbleq.rl.training.stats` and `nimbleq.rl.training.average`, in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nimbleq.rl.learners.xla.network import Tensor, Weights
from nimbleq.types import Array

_SMALLEST, _RELATIVE = 1e-4, 1e-6  # as in `nimbleq.graph.standardize`
_PARTS = 20  # as in `nimbleq.rl.training.average`


class Stats(NamedTuple):
    """Count, mean ``[O]`` and sum of squared differences from it ``[O]`` of the observations so far."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def add(self, obs: Tensor) -> Stats:
        """Take in ``obs: [M, O]`` (Chan et al.'s parallel update)."""
        mean, total = obs.mean(0), self.count + len(obs)
        delta = mean - self.mean
        between = jnp.square(delta) * (self.count * (len(obs) / total))
        squares = self.squares + jnp.square(obs - mean).sum(0) + between
        return Stats(total, self.mean + delta * (len(obs) / total), squares)

    def buffers(self) -> Weights:
        """For `nimbleq.rl.nets.network.ObsNorm`."""
        deviation = jnp.sqrt(self.squares / self.count)
        floor = jnp.maximum(_SMALLEST, _RELATIVE * jnp.abs(self.mean))
        inverse = jnp.where(deviation < floor, deviation / floor / floor, 1 / deviation)
        return {"prepare.mean": self.mean, "prepare.inverse_std": inverse}


class Average(NamedTuple):
    """Of the parameters, and the update that went into it last."""

    updates: Tensor
    weights: Weights

    def follow(self, weights: Weights, updates: Tensor, horizon: int) -> Average:
        """Take in ``weights`` after update number ``updates``, if that is due."""
        every = max(1, horizon // _PARTS)
        due = updates // every > self.updates // every
        share = jnp.minimum(1.0, (updates - self.updates) / jnp.minimum(updates, horizon))
        share = jnp.where(due, share, 0.0).astype(jnp.float32)
        weights = jax.tree.map(lambda old, new: old + share * (new - old), self.weights, weights)
        return Average(jnp.where(due, updates, self.updates), weights)


def stats_of(arrays: Mapping[str, Array]) -> Stats:
    """From what `ObsStats.arrays` gives."""
    count, mean, squares = (jnp.asarray(arrays[name], jnp.float32) for name in ("count", "mean", "squares"))
    return Stats(count[0], mean, squares)


def stats_arrays(stats: Stats) -> dict[str, Array]:
    """The way back."""
    mean, squares = (np.asarray(each, np.float64) for each in (stats.mean, stats.squares))
    return {"count": np.array([int(stats.count)]), "mean": mean, "squares": squares}


def average_of(arrays: Mapping[str, Array], weights: Weights) -> Average:
    """From what `WeightAverage.arrays` gives; of ``weights`` the names and shapes."""
    named = {
        name: jnp.asarray(arrays.get(f"weights.{name}", np.zeros(value.shape, np.float32)))
        for name, value in weights.items()
    }
    return Average(jnp.asarray(arrays["updates"][0], jnp.int32), named)


def average_arrays(average: Average) -> dict[str, Array]:
    """The way back, without the buffers; no weights before any went into it."""
    updates = int(average.updates)
    weights = average.weights if updates > 0 else {}
    return {"updates": np.array([updates])} | {f"weights.{name}": np.array(value) for name, value in weights.items()}
