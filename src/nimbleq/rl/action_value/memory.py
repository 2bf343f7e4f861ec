"""What was played and what became of it: the newest rows, with the result of the seat that chose them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.types import Array


class Memory:
    """A ring of rows, a bit for each feature.

    Args:
        capacity: rows kept.
        features: ``F``.
    """

    def __init__(self, capacity: int, features: int) -> None:
        self.features, self.added = features, 0
        self._rows = np.zeros((capacity, -(-features // 8)), np.uint8)
        self._results = np.zeros(capacity, np.float32)

    def __len__(self) -> int:
        return min(self.added, len(self._rows))

    def add(self, rows: Array, results: Array) -> None:
        """Keep ``rows: bool[K, F]`` with ``results: float32[K]``."""
        places = np.arange(self.added, self.added + len(rows)) % len(self._rows)
        self._rows[places], self._results[places] = np.packbits(rows, axis=1), results
        self.added += len(rows)

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Array, Array]:
        """``float32[count, F]`` rows and ``float32[count]`` results, drawn uniformly."""
        drawn = rng.integers(len(self), size=count)
        rows = np.unpackbits(self._rows[drawn], axis=1, count=self.features)
        return rows.astype(np.float32), self._results[drawn]

    def arrays(self) -> dict[str, Array]:
        """All of it."""
        kept = len(self)
        return {"rows": self._rows[:kept], "results": self._results[:kept], "added": np.array([self.added])}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """The way back from `arrays`."""
        kept = len(arrays["rows"])
        self._rows[:kept], self._results[:kept] = arrays["rows"], arrays["results"]
        self.added = int(arrays["added"][0])
