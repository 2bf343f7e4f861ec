"""Running mean and deviation of observations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.graph.standardize import divisors
from nimbleq.types import Array


class ObsStats:
    """Mean and standard deviation per feature over everything seen (Chan et al.'s parallel update, float64).

    Args:
        size: features.
        start: index of the first one in an observation; pixels come before.
    """

    def __init__(self, size: int, start: int = 0) -> None:
        self.start = start
        self.count = 0
        self.mean = np.zeros(size)
        self.squares = np.zeros(size)  # sum of squared differences from the mean

    def add(self, obs: Array) -> None:
        """Take in ``obs: [N, O]``."""
        batch, count = obs[:, self.start :].astype(np.float64), len(obs)
        mean = np.add.reduce(batch, axis=0) / count  # what `np.mean` does, in a third of the time
        delta, total = mean - self.mean, self.count + count
        self.squares += np.add.reduce(np.square(batch - mean), axis=0) + np.square(delta) * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total

    def mean_std(self) -> tuple[Array, Array]:
        """``float32[O]`` each; what to subtract and what to divide by, see `divisors`."""
        with np.errstate(over="ignore"):  # infinity: the feature counts for nothing
            std = divisors(self.mean, np.sqrt(self.squares / max(self.count, 1))).astype(np.float32)
        return self.mean.astype(np.float32), std

    def arrays(self) -> dict[str, Array]:
        """Complete state."""
        return {"count": np.array([self.count]), "mean": self.mean.copy(), "squares": self.squares.copy()}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        self.count = int(arrays["count"][0])
        self.mean, self.squares = arrays["mean"].copy(), arrays["squares"].copy()
