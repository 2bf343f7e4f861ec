"""The average of the online network over its last updates: its policy changes less from update to update."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.rl.learners.learner import Learner
from nimbleq.types import Array

_PARTS = 20  # of the horizon: so often it is brought up to date


class WeightAverage:
    """Exponential average of a learner's parameters over about its last ``horizon`` updates (Polyak & Juditsky 1992).

    Until so many were done, all count alike. Parameters are read every few updates; ``k`` updates since the last
    reading count for ``k / horizon`` of the average, and for all of it when ``k`` is above ``horizon``. A deep
    Q-network's greedy policy changes from update to update, as most actions are nearly worth the same; averaging the
    weights takes that noise out.

    Attributes:
        updates: of the last parameters that went into it.
    """

    def __init__(self, horizon: int, learner: Learner) -> None:
        self.horizon, self.learner = horizon, learner
        self.every = max(1, horizon // _PARTS)
        self.updates = 0
        self._values: Array | None = None

    def follow(self) -> None:
        """Take in the learner's present parameters, if an update of the average is due."""
        updates = self.learner.updates
        if updates // self.every <= self.updates // self.every:
            return
        share = np.float32(min(1.0, (updates - self.updates) / min(updates, self.horizon)))
        parameters, self.updates = self.learner.parameters(), updates
        if self._values is None:
            self._values = parameters.copy()
        else:
            self._values += share * (parameters - self._values)

    def weights(self) -> dict[str, Array]:
        """Averages by name, and buffers (statistics of observations, say) as they are now: a copy of the learner's.

        The learner's own weights before anything was averaged.
        """
        return self.learner.weights() if self._values is None else self.learner.unpack(self._values)

    def arrays(self) -> dict[str, Array]:
        """Complete state, beside the learner's."""
        weights = {} if self._values is None else self.learner.unpack(self._values)
        return {"updates": np.array([self.updates])} | {f"weights.{name}": value for name, value in weights.items()}

    def load_arrays(self, arrays: Mapping[str, Array], weights: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned; ``weights`` are those named ``weights.<name>``, by ``name``."""
        self.updates = int(arrays["updates"][0])
        self._values = self.learner.pack(weights) if weights else None
