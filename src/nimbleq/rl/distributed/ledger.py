"""Which chunks of which actor were counted: what a run with actors has in place of environments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.rl.distributed.chunk import Chunk
from nimbleq.rl.envs.engines import spec_of
from nimbleq.types import Array


class Ledger:
    """`nimbleq.rl.envs.vector_engine.Source` of the chunks of ``config.distributed.actors``.

    It is saved together with the replay and the learner, so what is counted is stored, and what is stored is counted.

    Attributes:
        spec: of one environment.
        finished: ``(return, length)`` of the episodes that ended in the last chunk.
        counted: ``int64[actors]`` chunks that were counted; the next one of an actor has this number.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.spec = spec_of(config.env)
        self.finished: list[tuple[float, int]] = []
        self.counted = np.zeros(config.distributed.actors, np.int64)

    def count(self, chunk: Chunk) -> None:
        """Count a chunk, which must be the next one of its actor.

        Raises:
            ValueError: it was counted, or one before it was not.
        """
        if chunk.sequence != self.counted[chunk.actor]:
            raise ValueError(f"chunk {chunk.sequence} of actor {chunk.actor} is not number {self.counted[chunk.actor]}")
        self.counted[chunk.actor] += 1
        self.finished = chunk.finished

    def arrays(self) -> dict[str, Array]:
        """Complete state."""
        return {"counted": self.counted.copy()}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        self.counted = arrays["counted"].copy()

    def close(self) -> None:
        """Nothing is held."""
