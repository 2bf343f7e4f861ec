"""What a DQN peer is. The rows are in `benchmarks.peers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Compiling:
    """Seconds that JAX spent on tracing, lowering and compiling; while `paused` they belong to a check."""

    def __init__(self) -> None:
        self.seconds, self.paused = 0.0, False

    def __call__(self, event: str, seconds: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/") and not self.paused:
            self.seconds += seconds


@dataclass(frozen=True)
class Peer:
    """A DQN with the interface of Stable-Baselines3.

    Attributes:
        name: its key.
        title: in tables.
        model: environment, seed, settings, `Compiling` → the model; imports its package.
    """

    name: str
    title: str
    model: Callable[[str, int, dict[str, Any], Compiling], Any]
