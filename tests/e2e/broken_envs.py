"""Environments that misbehave, registered with Gymnasium as ``broken_envs:…``."""

import os
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Broken(gymnasium.Env[Any, Any]):
    """Fine for ``good_steps`` steps, then NaN in ``where``."""

    observation_space = Box(-1.0, 1.0, (3,), np.float32)
    action_space = Discrete(2)

    def __init__(self, where: str, good_steps: int = 700) -> None:
        self.where, self.good_steps, self.count = where, good_steps, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        bad = self.count > self.good_steps
        obs = np.full(3, np.nan if bad and self.where == "obs" else 0.5, np.float32)
        reward = float("nan") if bad and self.where == "reward" else 1.0
        return obs, reward, bool(self.count % 20 == 0), False, {}


for place in ("obs", "reward"):
    gymnasium.register(f"Nan{place.title()}-v0", entry_point=Broken, kwargs={"where": place})


class Crashing(Broken):
    """Fine until the steps (or episodes) of all in this process are used up; then it goes wrong in its own way."""

    steps = 0

    def __init__(self, how: str, mended: str) -> None:
        super().__init__("nowhere")
        self.how, self.mended = how, Path(mended)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if self.how == "reset" and self.fails():
            raise OSError("the simulator went away")
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        Crashing.steps += 1
        if self.how != "reset" and self.fails():
            {"step": self.raises, "exit": sys.exit, "kill": lambda: os.kill(os.getpid(), 9)}[self.how]()
        return super().step(action)

    def raises(self) -> None:
        raise ZeroDivisionError("wheels\nhave no radius")

    def fails(self) -> bool:
        return Crashing.steps > 4_000 and not self.mended.exists()  # 1,000 of them are the preset's random play


class Hanging(Broken):
    """Fine until there is a file ``hang``; then it waits for something that never comes, and makes a file ``hung``."""

    def __init__(self, folder: str) -> None:
        super().__init__("nowhere")
        self.folder = Path(folder)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if (self.folder / "hang").exists():
            (self.folder / "hung").touch()
            time.sleep(1_000)
        return super().step(action)


class Paying(Broken):
    """Pays arrays of ``count`` numbers."""

    def __init__(self, count: int) -> None:
        super().__init__("nowhere")
        self.reward = np.ones(count)

    def step(self, action: Any) -> Any:
        obs, _, *rest = super().step(action)
        return obs, self.reward, *rest


def impossible() -> None:
    raise RuntimeError("no licence")


class Talking(Broken):
    """Prints to standard output, from Python and past it."""

    def __init__(self) -> None:
        super().__init__("nowhere")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        print("a new episode")
        os.write(1, b"from C, as it were\n")
        os.system("echo from a child")
        return super().reset(seed=seed, options=options)


class Faulty(Broken):
    """Its reward gets worse the better it is played: nothing beats random play."""

    def __init__(self) -> None:
        super().__init__("nowhere")

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, _, *rest = super().step(action)
        return obs, 0.0, *rest


class Drawing(Broken):
    """Draws pictures of one kind: grey, RGBA, truth values, or shares of white."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, kind: str, render_mode: str | None = None) -> None:
        super().__init__("nowhere")
        self.kind, self.render_mode = kind, render_mode

    def render(self) -> Any:
        grey = np.full((4, 6), 51, np.uint8)
        rgba = np.zeros((4, 6, 4), np.uint8)
        rgba[:, :, 3] = 204  # a fifth of the white below shines through
        share = np.full((4, 6, 3), 0.2)
        return {"grey": grey, "channel": grey[:, :, None], "rgba": rgba, "share": share, "bool": grey > 99}[self.kind]
