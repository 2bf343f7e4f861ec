"""Many environments side by side: what all implementations have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from nimbleq.errors import EnvError
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array

Outcome = tuple[Array, Array, Array, Array]
"""``next_obs[L, *O]``, ``reward float32[L]``, ``terminated bool[L]``, ``truncated bool[L]`` of what was stepped."""


class EnvBatch(Protocol):
    """``N`` independent environments side by side, by index. Nothing is reset unless asked: callers see every last
    observation.

    Attributes:
        spec: of one of them.
        mask: ``bool[N, A]`` the actions that are legal now, changed by `reset` and `step`; None when ``spec.masked`` is
            False. At least one action is legal, also at the end of an episode (then all may be).
    """

    spec: EnvSpec
    mask: Array | None

    def reset(self, index: int, seed: int) -> Array:
        """Start an episode that depends on ``seed`` only; its first observation ``[*O]``."""
        ...

    def step(self, indices: Array, actions: Array) -> Outcome:
        """Step ``indices: int64[L]`` with ``actions: int64[L]``; the others lose their episode.

        Raises:
            EnvError: an environment returned NaN, infinity or another shape than it promised.
        """
        ...

    def picture(self, index: int) -> Array | None:
        """``uint8[H, W, 3]`` what the environment looks like; None when it cannot be drawn."""
        ...

    def close(self) -> None:
        """Release what the environments hold."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """An `EnvBatch` that starts episodes ahead, as starting one takes long."""

    def expect(self, seeds: Sequence[int]) -> None:
        """Begin to start the episodes that `EnvBatch.reset` will be asked for next, in about this order."""
        ...


def expect(batch: EnvBatch, seeds: Sequence[int]) -> None:
    """Tell ``batch`` which episodes `EnvBatch.reset` will be asked for next, if that is of use to it."""
    if isinstance(batch, Expecting):
        batch.expect(seeds)


def check_finite(name: str, indices: Array, obs: Array, reward: Array) -> None:
    """Raise `EnvError` when an environment returned NaN or infinity.

    Args:
        name: for the message.
        indices: ``int64[L]`` which environments.
        obs: ``[L, *O]``.
        reward: ``float32[L]``.
    """
    for what, values in (("reward", reward), ("observation", obs)):
        if values.dtype != np.uint8 and not np.isfinite(values).all():
            rows = values.reshape(len(values), -1)
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            bad = "NaN" if np.isnan(rows[row]).any() else "infinity"
            where = f"{name} (environment {indices[row]})"
            raise EnvError(f"{where} returned {bad} in its {what}: nothing can be learnt from that, mend it")
