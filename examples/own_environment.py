"""An environment of your own → a trained policy → decisions in microseconds.

    python examples/own_environment.py [run directory]

An environment that is registered with Gymnasium in a package of yours trains from the command line too:
``nimbleq run --env your_package:Thermostat-v0``.
"""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq import EnvConfig, Runtime, TrainConfig, train
from nimbleq.config import EvalConfig, ExploreConfig, NetworkConfig
from nimbleq.rundir import RunDir

OFF, LOW, HIGH = range(3)


class Thermostat(gymnasium.Env[np.ndarray, int]):
    """Keep a room at 20 °C with a heater of three levels, while the weather changes and heating costs.

    Observes the room's deviation from 20 °C, its change in the last step, and the outside temperature (all in 10 K).
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.room = self.change = self.outside = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.room, self.change = float(self.np_random.uniform(17, 23)), 0.0
        self.outside = float(self.np_random.uniform(2, 12))
        return self._observed(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.outside += float(self.np_random.normal(0, 0.2))
        self.change = 0.05 * (self.outside - self.room) + (0.0, 0.6, 1.5)[action]
        self.room += self.change
        reward = 1.0 - 0.3 * abs(self.room - 20) - (0.0, 0.02, 0.05)[action]
        return self._observed(), max(reward, -1.0), False, False, {}

    def _observed(self) -> np.ndarray:
        return np.array([self.room - 20, self.change, self.outside], np.float32) / 10


def main(folder: Path) -> None:
    gymnasium.register("Thermostat-v0", Thermostat, max_episode_steps=100)
    config = TrainConfig(
        env=EnvConfig("Thermostat-v0"),
        network=NetworkConfig(hidden=(32, 32)),
        explore=ExploreConfig(updates=300),
        evaluation=EvalConfig(every=250, episodes=10, final_episodes=20),
        steps=16_000,
    )
    trained = train(config, RunDir(folder))
    returns = trained.final.returns
    print(
        f"trained {trained.steps} steps in {trained.seconds:.1f} s: {returns.mean():.1f} of 100 ± {returns.std():.1f}"
    )

    policy = Runtime(trained.graph)
    for room in (15.0, 19.5, 23.0):
        obs = np.array([(room - 20) / 10, 0.0, 0.2], np.float32)
        print(f"room at {room} °C, outside 2 °C: heater {('off', 'low', 'high')[policy.act(obs)]}")
    print(f"engine {policy.status.engine}, {policy.status.latency_us:.2f} µs a decision")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/thermostat"))
