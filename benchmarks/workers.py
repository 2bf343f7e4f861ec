"""What worker processes bring: ``python benchmarks/workers.py`` prints environment steps per second, best of 5 rounds.

16 environments stepped side by side, in this process and in 2 and 4 workers that take turns with it.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq.config import EnvConfig
from nimbleq.rl.envs.vector import VectorEnv

ENVS = 16
SECONDS = 1.0
ROUNDS = 5


class Slow(gymnasium.Env[Any, Any]):  # type: ignore[misc]  # (gymnasium is untyped here)
    """Each step takes 1 ms: of computing, or of waiting as for a simulator elsewhere."""

    observation_space = spaces.Box(-1, 1, (8,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, wait: bool) -> None:
        self.wait = wait

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(8, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.wait:
            time.sleep(1e-3)
        else:
            end = time.thread_time() + 1e-3
            while time.thread_time() < end:
                pass
        return np.zeros(8, np.float32), 0.0, False, False, {}


def rate(envs: VectorEnv) -> float:
    """Steps per second, all environments together."""
    rng, steps, start = np.random.default_rng(0), 0, time.monotonic()
    while time.monotonic() < start + SECONDS:
        envs.step(rng.integers(envs.spec.actions, size=ENVS))
        steps += ENVS
    return steps / (time.monotonic() - start)


def main() -> None:
    """One row per environment."""
    print("| environment | in process | 2 workers | 4 workers |\n|---|---|---|---|")
    for name, config in (
        ("1 ms of computing", EnvConfig("benchmarks.workers:Slow", kwargs=("wait=False",))),
        ("1 ms of waiting", EnvConfig("benchmarks.workers:Slow", kwargs=("wait=True",))),
        ("LunarLander-v3", EnvConfig("LunarLander-v3")),
    ):
        vectors = [VectorEnv(EnvConfig(config.id, kwargs=config.kwargs, workers=count), ENVS, 0) for count in (1, 2, 4)]
        best = np.max([[rate(vector) for vector in vectors] for _ in range(ROUNDS)], axis=0)
        print(f"| {name} | " + " | ".join(f"{value:,.0f}" for value in best) + " |", flush=True)
        for vector in vectors:
            vector.close()


if __name__ == "__main__":
    main()
