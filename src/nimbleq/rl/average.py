"""The average of the online network over its last updates: calmer than the network itself, and what is shipped."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from nimbleq.types import Array

_PARTS = 20  # of the horizon: so often it is brought up to date


class WeightAverage:
    """Exponential average over about the last ``horizon`` updates (Polyak & Juditsky 1992).

    Until so many were done, all of them count alike. A deep Q-network's greedy policy changes from update to update,
    as most actions are nearly worth the same; averaging the weights takes that noise out.

    Args:
        horizon: in updates.
        averaged: names of what is averaged; of everything else (statistics of observations, say) the last counts.
    """

    def __init__(self, horizon: int, averaged: Set[str]) -> None:
        self.horizon, self.averaged = horizon, averaged
        self.every = max(1, horizon // _PARTS)
        self.updates = 0  # of the last weights that went into it
        self.weights: dict[str, Array] = {}

    def due(self, updates: int) -> bool:
        """Whether to `follow` the network after so many updates."""
        return updates // self.every > self.updates // self.every

    def follow(self, updates: int, weights: Mapping[str, Array]) -> None:
        """Take in ``weights``, those after ``updates`` updates."""
        share = np.float32((updates - self.updates) / min(updates, self.horizon))
        before, self.updates = self.weights, updates
        self.weights = {
            name: before[name] + share * (value - before[name]) if name in self.averaged and name in before else value
            for name, value in weights.items()
        }

    def arrays(self) -> dict[str, Array]:
        """Complete state."""
        return {"updates": np.array([self.updates])} | {f"weights.{name}": v for name, v in self.weights.items()}

    def load_arrays(self, arrays: Mapping[str, Array], weights: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned; ``weights`` are those named ``weights.<name>``, by ``name``."""
        self.updates = int(arrays["updates"][0])
        self.weights = dict(weights)
