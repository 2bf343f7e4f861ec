"""An environment that waits, as robots and simulators over a network do; for how long can change while it is played.

Its transitions are numbered: an observation is the seed of its episode, in two halves, the time in it, and a random
number.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

_LOOK = 8  # steps between two looks at what to wait
LENGTH = 200
"""Steps of an episode."""


class Sleeping(gymnasium.Env):  # type: ignore[misc]  # (gymnasium is untyped here)
    """Every step sleeps for the milliseconds in ``folder/delay_ms``; each process leaves a file with its number."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(-1, 1 << 17, (4,), np.float32)

    def __init__(self, folder: str) -> None:
        self.folder, self.delay, self.steps = Path(folder), 0.0, 0
        (self.folder / f"pid-{os.getpid()}").touch()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Gymnasium's."""
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self.time, self.rng = 0, np.random.default_rng(self.seed)
        return self._obs(), {}

    def _obs(self) -> Any:
        return np.array([self.seed >> 16, self.seed & 0xFFFF, self.time, self.rng.random()], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Gymnasium's."""
        if self.steps % _LOOK == 0:
            self.delay = float((self.folder / "delay_ms").read_text()) / 1_000
        self.steps += 1
        time.sleep(self.delay)
        self.time += 1
        return self._obs(), float(action), self.time == LENGTH, False, {}


def processes(folder: Path) -> list[int]:
    """Those that have such an environment and still run."""
    numbers = [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]
    return [number for number in numbers if Path("/proc", str(number)).exists()]


def memory_mb(pid: int) -> float:
    """Of a process, what it shares counted in proportion."""
    lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1_024
