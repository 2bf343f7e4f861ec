"""Environments that do something wrong, or something right in an unusual way; reached as ``tests.rl.border_envs:…``."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces


class Old(gymnasium.Env[Any, Any]):
    """Gym's old ways, and slips; ``how`` says which, from the third step on."""

    observation_space: Any = spaces.Box(-1, 1, (3,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def __init__(self, how: str = "fine") -> None:
        self.how, self.t = how, 0
        if how == "no_space":
            self.observation_space = None
        if how == "no_actions":
            self.action_space = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, obs = 0, np.zeros(3, np.float32)
        return {
            "reset_obs": obs, "reset_none": None, "info_none": (obs, None), "reset_space": (self.observation_space, {})
        }.get(self.how, (obs, {}))  # fmt: skip

    def step(self, action: Any) -> Any:
        self.t += 1
        obs, over = np.full(3, self.t / 20, np.float32), self.t >= 20
        fine: Any = (obs, 1.0, over, False, {})
        if self.t < 3:
            return fine
        if self.how in _RAISED:
            raise _RAISED[self.how]
        return {
            "four": (obs, 1.0, over, {}), "step_none": None, "step_info": (obs, 1.0, over, False, None),
            "done_text": (obs, 1.0, "no", False, {}), "done_none": (obs, 1.0, over, None, {}),
            "done_array": (obs, 1.0, np.array([over]), np.array(False), {}),
            "done_torch": (obs, torch.tensor(1.0, requires_grad=True), torch.tensor(over), 0, {}),
            "reward_none": (obs, None, over, False, {}), "reward_text": (obs, "1.0", over, False, {}),
            "reward_huge": (obs, 10**400, over, False, {}),
            "reward_two": (obs, [1.0, 2.0], over, False, {}), "reward_array": (obs, np.array([1.0]), over, False, {}),
            "late_mask": (obs, 1.0, over, False, {"action_mask": [1, 1]}),
        }.get(self.how, fine)  # fmt: skip


_RAISED = {
    "key": KeyError("gear"), "index": IndexError("list index out of range"), "type": TypeError("no len()"),
    "runtime": RuntimeError("the motor\nhas no current"), "memory": MemoryError(), "exit": SystemExit(3),
    "unpack": ValueError("not enough values to unpack (expected 2, got 1)"), "stop": StopIteration(),
    "assert": AssertionError(),
}  # fmt: skip


class NoSeed(Old):
    def reset(self) -> Any:  # type: ignore[override]
        return np.zeros(3, np.float32), {}


DICTS = {"dict": "action_masks", "strange_dict": "avail_actions"}


class Shop(gymnasium.Env[Any, Any]):
    """Four shelves; an item can be taken once, which ``how`` says in one of many ways; illegal takes are counted."""

    action_space = spaces.Discrete(4)
    observation_space: Any = spaces.Box(0, 1, (4,), np.float32)
    illegal = 0

    def __init__(self, how: str) -> None:
        self.how = how
        if how in ("action_masks", "valid_action_mask"):
            setattr(self, how, lambda: self.left.astype(bool).tolist())
        if how == "broken_method":
            self.action_masks = lambda: {}["nothing"]
        if how in DICTS:
            self.observation_space = spaces.Dict({"left": self.observation_space, DICTS[how]: spaces.MultiBinary(4)})

    def _answer(self) -> tuple[Any, dict[str, Any]]:
        legal = self.left.astype(bool)
        listed, flags = np.flatnonzero(legal).tolist(), legal.astype(np.int8)
        info: dict[str, dict[str, Any]] = {
            "info": {"action_mask": legal}, "int8": {"action_mask": flags}, "list": {"action_mask": legal.tolist()},
            "float": {"action_mask": legal.astype(float)}, "masks": {"action_masks": flags},
            "avail": {"avail_actions": flags}, "admissible": {"admissible_actions": listed},
            "legal": {"legal_actions": listed}, "late": {"action_mask": legal} if self.t else {},
            "gone": {} if self.t == 2 else {"action_mask": legal}, "short": {"action_mask": flags[:3]},
            "logits": {"action_mask": np.where(legal, 0.0, -1e9)}, "indices": {"action_mask": listed},
            "none": {"action_mask": flags if self.t < 2 else 0 * flags}, "null": {"action_mask": None},
            "available": {"available_actions": listed}, "moves": {"legal_moves": set(listed)},
            "valid": {"valid_actions": legal}, "mask": {"mask": flags}, "deep": {"player": {"action_mask": flags}},
            "harmless": {"valid": [0.5, 2.0], "invalid_actions": 0, "valid_moves": ["e2e4"], "damask": "red"},
        }  # fmt: skip
        left = self.left.copy()
        if self.how in DICTS:
            return {"left": left, DICTS[self.how]: flags}, {}
        return left, info.get(self.how, {})

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left, self.t = np.ones(4, np.float32), 0
        return self._answer()

    def step(self, action: Any) -> Any:
        Shop.illegal += int(not self.left[action])
        self.left[action] = 0
        self.t += 1
        obs, info = self._answer()
        return obs, 1.0, bool(self.left.sum() == 0), self.t >= 12, info


class Advised(Shop):
    """Has a method that may be asked for the legal actions."""

    def legal_actions(self) -> list[int]:
        return np.flatnonzero(self.left).tolist()


class Steered(gymnasium.Env[Any, Any]):
    """Notes the actions that arrive: −1, 0, 1."""

    action_space = spaces.Discrete(3, start=-1)
    observation_space = spaces.Discrete(9, start=-4)
    arrived: ClassVar[list[Any]] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.place = 0
        return np.array([self.place]), {}

    def step(self, action: Any) -> Any:
        Steered.arrived.append(action)
        self.place = int(np.clip(self.place + action, -4, 4))
        return np.array([self.place]), 0.0, False, False, {}


class Robot(gymnasium.Env[Any, Any]):
    """A camera shows a bright side, a gauge says whether the buttons are swapped."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Dict(
        {"camera": spaces.Box(0, 255, (12, 12, 1), np.uint8), "gauge": spaces.Box(-1, 1, (2,), np.float32)}
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def _look(self) -> dict[str, Any]:
        picture = self.np_random.integers(0, 40, (12, 12, 1)).astype(np.uint8)
        self.left, self.swap = (bool(bit) for bit in self.np_random.integers(2, size=2))
        row, column = self.np_random.integers(0, 9), self.np_random.integers(0, 3) + (0 if self.left else 6)
        picture[row : row + 3, column : column + 3] = 220
        return {"camera": picture, "gauge": np.array([1.0 if self.swap else -1.0, self.t / 20], np.float32)}

    def step(self, action: Any) -> Any:
        good, self.t = int(action) == (int(self.left) ^ int(self.swap)), self.t + 1
        return self._look(), float(good), False, self.t >= 20, {}


class Stamped(gymnasium.Env[Any, Any]):
    """A Unix time; the first half of a minute wants action 0, the second action 1."""

    action_space = spaces.Discrete(2)
    observation_space: Any = spaces.Dict({"time": spaces.Box(0, np.inf, (1,), np.float64), "on": spaces.Discrete(2)})

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def _look(self) -> Any:
        self.second = float(self.np_random.uniform(0, 60))
        return {"time": np.array([1.7e9 + self.second]), "on": 1}

    def step(self, action: Any) -> Any:
        good, self.t = int(action) == int(self.second >= 30), self.t + 1
        return self._look(), float(good), False, self.t >= 20, {}


class Pictures(gymnasium.Env[Any, Any]):
    action_space = spaces.Discrete(2)

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.observation_space = spaces.Box(0, 1 if dtype is bool else 255, shape, dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, self.observation_space.dtype), {}

    def step(self, action: Any) -> Any:
        return np.zeros(self.observation_space.shape, self.observation_space.dtype), 0.0, False, True, {}


def board() -> Pictures:
    return Pictures((8, 9, 20), bool)


def wide_camera() -> Pictures:
    return Pictures((4, 200, 200, 3), np.uint8)
