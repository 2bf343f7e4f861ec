"""Atari 2600 games through ALE's own vector environment (C++ threads), with the usual preprocessing.

Four frames per action, of which the last two are maximised; grey, 84 × 84; the last four observations stacked; 30
no-ops at most at the start; sticky actions with probability 0.25; a game is one episode, cut after 108,000 frames
[1709.06009 §5; 1312.5602 §4.1]. Rewards are as the game gives them; ``learner.reward_clip`` is what clips them for
learning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box
from nimbleq.rl.envs.find import find_env, keyword_arguments
from nimbleq.rl.envs.uniform import quiet
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array

_CUT_STEPS = 27_000
_DEFAULTS: dict[str, Any] = {"repeat_action_probability": 0.25, "full_action_space": False}


class AtariEnvBatch:
    """`nimbleq.rl.envs.batch.EnvBatch` of one game.

    ``kwargs`` of the config may set ``repeat_action_probability`` and ``full_action_space``. Environments are reset
    one by one with their own seeds; ALE's automatic resets touch only those that are not stepped any more.

    Raises:
        EnvError: ale-py is not installed, there is no such game, or another argument was given.
    """

    mask: Array | None = None

    def __init__(self, config: EnvConfig, count: int) -> None:
        arguments = keyword_arguments(config)
        if unknown := arguments.keys() - _DEFAULTS.keys():
            raise EnvError(f"{config.id} takes {' and '.join(_DEFAULTS)}, not {', '.join(sorted(unknown))}")
        if config.discretize is not None:
            raise EnvError(f"{config.id} has discrete actions already: leave out --discretize")
        if config.max_episode_steps is not None and config.max_episode_steps < 1:
            raise EnvError(f"max_episode_steps must be at least 1, not {config.max_episode_steps}")
        with quiet():
            game = find_env(EnvConfig(config.id))  # with its one-line errors: no ale-py, no such game
            game.close()
        from ale_py.vector_env import AtariVectorEnv  # optional

        self.name = config.id
        self.limit = config.max_episode_steps or _CUT_STEPS
        self.vector = AtariVectorEnv(
            game.get_wrapper_attr("spec").kwargs["game"],
            count,
            reward_clipping=False,
            use_fire_reset=False,
            max_num_frames_per_episode=1 << 30,  # counted here, in steps
            **(_DEFAULTS | arguments),
        )
        actions = int(self.vector.single_action_space.n)
        interface = Interface(Box((4, 84, 84), "uint8", 0, 255, "CHW"), actions)
        self.spec = EnvSpec(interface.obs, actions, interface=interface)
        self.steps = np.zeros(count, np.int64)
        self.actions = np.zeros(count, np.int64)
        self.obs, _ = self.vector.reset(seed=0)

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        one = np.zeros(len(self.steps), bool)
        one[index] = True
        self.obs, _ = self.vector.reset(seed=np.array([seed]), options={"reset_mask": one})
        self.steps[index] = 0
        row: Array = self.obs[index].copy()
        return row

    def step(self, indices: Array, actions: Array) -> tuple[Array, Array, Array, Array]:
        """See `EnvBatch`."""
        self.actions[indices] = actions
        self.obs, reward, terminated, _, _ = self.vector.step(self.actions)
        self.steps[indices] += 1
        ended = terminated[indices]
        cut = (self.steps[indices] >= self.limit) & ~ended
        return self.obs[indices], reward[indices].astype(np.float32), ended, cut

    def picture(self, index: int) -> Array | None:
        """The newest frame that the policy sees, in grey."""
        return np.repeat(self.obs[index, -1][:, :, None], 3, axis=2)

    def close(self) -> None:
        """See `EnvBatch`."""
        self.vector.close()
