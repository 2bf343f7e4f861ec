"""The row type of the table of what steps the environments of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nimbleq.config import EnvConfig
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Step


class Source(Protocol):
    """Where training gets its steps from: environments of its own, or actors that have some.

    Attributes:
        spec: of one environment.
        finished: ``(return, length)`` of the episodes that ended in the last steps.
    """

    spec: EnvSpec
    finished: list[tuple[float, int]]

    def arrays(self) -> dict[str, Array]:
        """Complete state."""
        ...

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        ...

    def close(self) -> None:
        """Release what the environments hold."""
        ...


class Environments(Source, Protocol):
    """``N`` environments that restart by themselves, see `nimbleq.rl.envs.vector.VectorEnv`.

    Attributes:
        mask: ``bool[N, A]`` among which actions the next one is chosen (None: all).
    """

    mask: Array | None

    @property
    def obs(self) -> Array:
        """``[N, *O]`` what the next action is chosen from."""
        ...

    def step(self, action: Array) -> Step:
        """Step all environments with ``action: int64[N]``; those whose episode ends start the next one."""
        ...


@dataclass(frozen=True)
class VectorEngine:
    """One way to step many environments in training. A new one is one file and one line in `VECTOR_ENGINES`.

    Attributes:
        make: ``(config, envs, seed) → Environments``.
        no_workers: why its environments cannot be shared out among worker processes (empty: they can).
    """

    make: Callable[[EnvConfig, int, int], Environments]
    no_workers: str = ""
