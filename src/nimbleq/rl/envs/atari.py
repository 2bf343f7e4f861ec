"""Atari 2600 games through ALE's own vector environment (C++ threads), with the usual preprocessing.

Four frames per action, of which the last two are maximised; grey, 84 × 84; the last four observations stacked; 30
no-ops at most at the start; sticky actions with probability 0.25; a game is one episode, cut after 108,000 frames
[1709.06009 §5; 1312.5602 §4.1]. Rewards are as the game gives them; ``learner.reward_clip`` is what clips them for
learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.graph.frames import Frames
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box
from nimbleq.rl.envs.ahead import StartedAhead
from nimbleq.rl.envs.find import find_env, keyword_arguments
from nimbleq.rl.envs.uniform import quiet
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array

_CUT_STEPS, _SKIP = 27_000, 4
_SPARES = 32  # games at most that are started ahead
_WHOLE = (1.0,)  # how far the paddle is turned: all the way, as by a joystick
_DEFAULTS: dict[str, Any] = {"repeat_action_probability": 0.25, "full_action_space": False}


class AtariEnvBatch:
    """`nimbleq.rl.envs.batch.EnvBatch` of one game.

    ``kwargs`` of the config may set ``repeat_action_probability`` and ``full_action_space``. ALE loads the game anew to
    start it from a seed, which takes as long as 200 steps; so each game is a vector of one, and some are started ahead.

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
        from ale_py import roms  # optional

        rom = roms.get_rom_path(game.get_wrapper_attr("spec").kwargs["game"])
        make = partial(_make, rom, _DEFAULTS | arguments)
        self.limit = config.max_episode_steps or _CUT_STEPS
        first = make()
        actions = len(first.get_action_set())
        assert game.observation_space.shape is not None
        height, width, colours = game.observation_space.shape
        frames = Frames(height, width, colours, _SKIP)
        interface = Interface(Box((4, 84, 84), "uint8", 0, 255, "CHW"), actions, frames=frames)
        self.spec = EnvSpec(interface.obs, actions, interface=interface)
        self.games: list[Any] = [first, *[None] * (count - 1)]
        self.steps = np.zeros(count, np.int64)
        self.obs = np.zeros((count, 4, 84, 84), np.uint8)
        self._ahead = StartedAhead(partial(_begin, make), min(count // 4 + 1, _SPARES))

    def expect(self, seeds: Sequence[int]) -> None:
        """See `Expecting`."""
        self._ahead.expect(seeds)

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        self.games[index], self.obs[index] = self._ahead.take(int(seed), self.games[index])
        self.steps[index] = 0
        row: Array = self.obs[index].copy()
        return row

    def step(self, indices: Array, actions: Array) -> tuple[Array, Array, Array, Array]:
        """See `EnvBatch`."""
        reward, ended = np.zeros(len(indices), np.float32), np.zeros(len(indices), bool)
        games = [self.games[index] for index in indices.tolist()]
        for game, action in zip(games, actions.tolist(), strict=True):  # each plays in a thread of its own
            game.send((action,), _WHOLE)
        for place, (index, game) in enumerate(zip(indices.tolist(), games, strict=True)):
            self.obs[index : index + 1], reward[place : place + 1], ended[place : place + 1] = game.recv()[:3]
        self.steps[indices] += 1
        cut = (self.steps[indices] >= self.limit) & ~ended
        return self.obs[indices], reward, ended, cut

    def picture(self, index: int) -> Array | None:
        """The newest frame that the policy sees, in grey."""
        return np.repeat(self.obs[index, -1][:, :, None], 3, axis=2)

    def close(self) -> None:
        """See `EnvBatch`."""
        self._ahead.close()
        self.games.clear()  # their threads end now, as nobody else refers to them


def _make(rom: Path, arguments: Mapping[str, Any]) -> Any:
    """One game with a thread of its own: what `ale_py.vector_env.AtariVectorEnv` steps, without its spaces."""
    from ale_py import ALEVectorInterface  # optional

    return ALEVectorInterface(
        rom_path=rom,
        num_envs=1,
        frame_skip=_SKIP,
        stack_num=4,
        img_height=84,
        img_width=84,
        grayscale=True,
        maxpool=True,
        noop_max=30,
        use_fire_reset=False,
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        max_episode_steps=1 << 30,  # counted here, in steps
        batch_size=1,
        num_threads=1,
        thread_affinity_offset=-1,
        autoreset_mode="NextStep",
        **arguments,
    )


def _begin(make: Callable[[], Any], game: Any, seed: int) -> tuple[Any, Array]:
    game = make() if game is None else game
    obs, _ = game.reset(np.array([0]), np.array([seed]))
    return game, obs[0]
