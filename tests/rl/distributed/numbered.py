"""An environment whose transitions are numbered, and the count of those in a replay."""

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.rl.replay.ring import Replay

ENV = "tests.rl.distributed.numbered:Numbered"


class Numbered(gymnasium.Env[Any, Any]):
    """Observes the seed of its episode, in two halves, and the time in it; 20 to 83 steps long.

    ``pids`` is a folder in which every process that makes one leaves a file with its number; ``wait_ms`` a pause.
    """

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0, 1 << 17, (3,), np.float32)

    def __init__(self, pids: str = "", wait_ms: float = 0.0) -> None:
        self.wait_ms = wait_ms
        if pids:
            (Path(pids) / str(os.getpid())).touch()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.seed, self.time = seed, 0
        return self._obs(), {}

    def _obs(self) -> Any:
        return np.array([self.seed >> 16, self.seed & 0xFFFF, self.time], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(self.wait_ms / 1_000)
        self.time += 1
        return self._obs(), 1.0, self.time >= 20 + self.seed % 64, False, {}


def settings(pids: Path, steps: int, wait_ms: float = 1.0, **changes: Any) -> TrainConfig:
    """A short run on it with two actors, whose replay has room for all of it."""
    config: TrainConfig = with_changes(
        TrainConfig(),
        {
            "env": EnvConfig(ENV, kwargs=(f"pids={pids}", f"wait_ms={wait_ms}")),
            "envs": 2, "steps": steps, "learn_start": 100, "network.hidden": (8,), "replay.capacity": steps + 1_000,
            "replay.prioritized": True, "distributed.actors": 2, "distributed.chunk": 20, "checkpoint_seconds": 0.2,
            "learner.engine": "torch", "evaluation.beside": False, "evaluation.every": 10**6, "evaluation.episodes": 1,
            "evaluation.final_episodes": 1,
        } | changes,
    )  # fmt: skip
    return config


def check_every_transition_once(replay: Replay, steps: int, chunks: int, config: TrainConfig) -> None:
    """All steps of all counted chunks are stored, none twice, and no episode has a hole."""
    assert replay.added == steps == chunks * config.distributed.chunk * config.envs
    episodes = defaultdict(list)
    for high, low, when in replay.rows(0, replay.added)["obs"].astype(int).tolist():
        episodes[high << 16 | low].append(when)
    for seed, times in episodes.items():
        assert sorted(times) == list(range(len(times))), f"episode {seed} has a hole, or a step twice"
