"""Environments whose answers are known, reached as ``tests.rl.own_envs:…``."""

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Counter(gymnasium.Env[Any, Any]):
    """Counts. Terminates at 3 when the seed is even, at 8 when odd; pays its count; one legal action per count."""

    action_space = spaces.Discrete(3, start=1)
    observation_space: Any = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, masks: str = "none") -> None:
        self.masks = masks
        if masks == "dict":
            self.observation_space = spaces.Dict(
                {"observation": self.observation_space, "action_mask": spaces.MultiBinary(3)}
            )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.seed, self.count = seed, 0
        return self._observed()

    def _observed(self) -> tuple[Any, dict[str, Any]]:
        obs = np.array([self.seed % 1000, self.count], np.float32)
        mask = np.arange(3) == self.count % 3
        if self.masks == "dict":
            return {"observation": obs, "action_mask": mask.astype(np.int8)}, {}
        return obs, {"action_mask": mask} if self.masks == "info" else {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.masks == "none" or action - 1 == self.count % 3, "an illegal action was played"
        self.count += 1
        obs, info = self._observed()
        return obs, float(self.count), self.count == (8 if self.seed % 2 else 3), False, info


class Mixed(gymnasium.Env[Any, Any]):
    """A nested Dict observation with a mask; ends by termination or by truncation of its own."""

    action_space = spaces.Discrete(4)
    observation_space = spaces.Dict(
        {
            "where": spaces.Tuple((spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2, 2)))),
            "flags": spaces.MultiBinary(2),
            "digits": spaces.MultiDiscrete([2, 3]),
            "action_mask": spaces.Box(0, 1, (4,), np.int8),
        }
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.last = 0, 0
        return self._observed(), {}

    def _observed(self) -> dict[str, Any]:
        self.mask = np.array([1, *self.np_random.integers(2, size=3)], np.int8)
        return {
            "where": (self.count % 3 - 1, np.full((2, 2), self.count / 30, np.float32)),
            "flags": np.array([self.last % 2, 1], np.int8),
            "digits": np.array([self.count % 2, self.count % 3]),
            "action_mask": self.mask,
        }

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.mask[action], "an illegal action was played"
        self.count, self.last = self.count + 1, int(action)
        reward = 1.0 if action == 3 else 0.0
        return self._observed(), reward, bool(self.np_random.random() < 0.05), self.count == 25, {}


number = 7


def nothing() -> None:
    """Returns no environment."""


def needs_size(size: int) -> gymnasium.Env[Any, Any]:
    return Counter("none" if size else "info")


class Fragile(Counter):
    """A `Counter` whose fifth step goes wrong: ``how`` is ``raise``, ``exit`` or ``nan``."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        if self.count == 5 and self.how == "raise":
            raise ZeroDivisionError("the motor has no current")
        if self.count == 5 and self.how == "exit":
            os._exit(7)
        if self.count == 5 and self.how == "nan":
            reward = float("nan")
        return obs, reward, terminated, truncated, info


class Mine(gymnasium.Env[Any, Any]):
    """Work that never ends, watched for eight steps at a time: a corridor, a market at one end, a mine at the other.

    Ore is dug at the mine and sold at the market for 1; begging at the market pays 0.05 at once. Who takes the cut
    after eight steps for an end stays at the market and begs.
    """

    LENGTH, CUT, BEG = 4, 8, 0.05
    LEFT, RIGHT, DIG, SELL, STAY = range(5)
    action_space = spaces.Discrete(5)
    observation_space = spaces.Dict(
        {"place": spaces.Discrete(LENGTH), "bag": spaces.Box(0, 1, (1,)), "action_mask": spaces.MultiBinary(5)}
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state, self.time = (int(self.np_random.integers(self.LENGTH)), int(self.np_random.integers(2))), 0
        return self.observed(self.state), {}

    @classmethod
    def legal(cls, state: tuple[int, int]) -> list[bool]:
        """Changes with the state: ``bool[5]``."""
        place, full = state
        market, mine = place == 0, place == cls.LENGTH - 1
        return [not market, not mine, mine and not full, market and bool(full), market and not full]

    @classmethod
    def outcome(cls, state: tuple[int, int], action: int) -> tuple[tuple[int, int], float]:
        """The model: next state and reward."""
        place, full = state
        if action in (cls.LEFT, cls.RIGHT):
            return (place + (1 if action == cls.RIGHT else -1), full), 0.0
        return {
            cls.DIG: ((place, 1), 0.0), cls.SELL: ((place, 0), 1.0), cls.STAY: (state, cls.BEG)
        }[action]  # fmt: skip

    @classmethod
    def observed(cls, state: tuple[int, int]) -> dict[str, Any]:
        place, full = state
        return {"place": place, "bag": np.array([full], np.float32), "action_mask": np.array(cls.legal(state), np.int8)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.legal(self.state)[action]:
            raise ValueError(f"action {action} is illegal in {self.state}")
        self.state, reward = self.outcome(self.state, int(action))
        self.time += 1
        return self.observed(self.state), reward, False, self.time == self.CUT, {}


class Nothing(gymnasium.Env[Any, Any]):
    """Pays nothing for two steps."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return np.zeros(1, np.float32), 0.0, self.count == 2, False, {}


def worded() -> gymnasium.Env[Any, Any]:
    """A mission in words beside the picture, as Minigrid's."""
    env = Nothing()
    env.observation_space = spaces.Dict({"image": spaces.Box(0, 1, (1,)), "mission": spaces.Text(9)})
    return env


class Levers(gymnasium.Env[Any, Any]):
    """Three levers to set as two numbers say, each worth a third of a reward; 8 steps.

    Args:
        masks: every lever has one position that may not be chosen, never the wanted one.
    """

    observation_space: Any = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, masks: bool = False, first: int = 0) -> None:
        self.masks, self.first = masks, first
        self.action_space = spaces.MultiDiscrete([2, 3, 4], start=[0, first, 0])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self._observed()

    def _observed(self) -> tuple[Any, dict[str, Any]]:
        self.numbers = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        a, b = self.numbers
        self.wanted = [int(a > 0), int((b + 1) * 1.499), 2 * int(a > 0) + int(b > 0)]
        self.forbidden = [-1, (self.wanted[1] + 1) % 3, (self.wanted[2] + 2) % 4]
        flags = [np.arange(n) != forbidden for n, forbidden in zip([2, 3, 4], self.forbidden, strict=True)]
        return self.numbers, {"action_mask": tuple(flags)} if self.masks else {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        chosen = (np.asarray(action) - [0, self.first, 0]).tolist()
        assert action in self.action_space, f"{action} is no action"
        assert not self.masks or all(c != f for c, f in zip(chosen, self.forbidden, strict=True)), "it is not legal"
        reward = float(np.mean([c == w for c, w in zip(chosen, self.wanted, strict=True)]))
        self.count += 1
        obs, info = self._observed()
        return obs, reward, False, self.count == 8, info


class Corridor(gymnasium.Env[Any, Any]):
    """A T-maze: a signal in the first step says which way pays at the end of a corridor; turning there ends it.

    Args:
        length: steps between the signal and the turn.
    """

    action_space = spaces.Discrete(3)
    observation_space: Any = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, length: int = 3) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at, self.way = 0, int(self.np_random.integers(2))
        return np.array([2 * self.way - 1, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        turns = self.at == self.length
        self.at = min(self.at + 1, self.length)
        obs = np.array([0, self.at == self.length], np.float32)
        return obs, float(turns and action == self.way), bool(turns), False, {}
