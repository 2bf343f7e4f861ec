"""LunarLander-v3 many at a time: Gymnasium's worlds and episodes, without what a step spends outside the physics.

Box2D's solver takes about a third of Gymnasium's step; the rest is wrappers, checks of arguments and scalar numpy. Here
the engines' impulses are computed one by one, observations and rewards for all at once, in the order of operations of
the scalar environment: what comes out is the same to the last bit, which `make_lunarlander` tries out first.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.rl.envs.batch import EnvBatch, Outcome
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.envs.serial import SerialEnvBatch
from nimbleq.rl.envs.uniform import UniformEnv, quiet
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array

# The constants of Gymnasium's environment, in its units: pixels, frames per second, and impulses.
_SCALE, _FPS, _WIDTH, _HEIGHT = 30.0, 50.0, 600.0, 400.0
_MAIN_POWER, _SIDE_POWER, _MAIN_Y, _SIDE_AWAY, _SIDE_HEIGHT, _SIDE_Y = 13.0, 0.6, 4.0, 12.0, 14.0, 17.0
_LEG_DOWN = 18.0
_SOLVER = (1.0 / _FPS, 180, 60)  # seconds, iterations for velocities, for positions
_MAIN = 2  # the action; 1 and 3 fire to the sides
_FUEL = np.array([0.0, 0.03, 0.30, 0.03])  # what an action costs
_TRIED = (0, 1)  # seeds of the episodes that are compared


def make_lunarlander(config: EnvConfig, count: int) -> EnvBatch:
    """``count`` environments LunarLander-v3 without arguments and drawing.

    An installed Gymnasium whose environment does something else gets its own step, called once per index.
    """
    return LunarLanderEnvBatch(config, count) if agrees() else SerialEnvBatch(config, count)


@cache
def agrees() -> bool:
    """Whether both step alike: two whole episodes of random actions, bit for bit."""
    config = EnvConfig("LunarLander-v3")
    theirs = SerialEnvBatch(config, 1)
    with quiet():
        from gymnasium.envs.box2d.lunar_lander import LunarLander  # there, as one was made
    if type(theirs.envs[0].unwrapped) is not LunarLander:
        return False
    ours = LunarLanderEnvBatch(config, 1)
    actions = np.random.default_rng(0)
    index = np.zeros(1, np.int64)
    for seed in _TRIED:
        if not np.array_equal(ours.reset(0, seed), theirs.reset(0, seed)):
            return False
        over = False
        while not over:
            action = actions.integers(4, size=1)
            stepped, expected = ours.step(index, action), theirs.step(index, action)
            if not all(np.array_equal(a, b) for a, b in zip(stepped, expected, strict=True)):
                return False
            over = bool(stepped[2][0] or stepped[3][0])
    return True


class LunarLanderEnvBatch:
    """See `EnvBatch`; the first observation and the world come from Gymnasium's ``reset``."""

    mask: Array | None = None
    spec: EnvSpec

    def __init__(self, config: EnvConfig, count: int) -> None:
        self._uniform: list[UniformEnv] = [make_env(config) for _ in range(count)]
        first = self._uniform[0]
        self.spec = env_spec(first)
        self.limit = time_limit(first)
        self._envs: list[Any] = [env.unwrapped for env in self._uniform]
        self._world: list[Any] = [None] * count  # what a step touches
        self._shaping = np.zeros(count)
        self._pad = np.zeros(count)
        self._time = np.zeros(count, np.int64)

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        obs, _ = self._uniform[index].reset(seed=int(seed))
        env = self._envs[index]
        self._world[index] = (env, env.world.Step, env.lander, *env.legs, env.np_random.random)
        self._shaping[index] = env.prev_shaping
        self._pad[index] = env.helipad_y + _LEG_DOWN / _SCALE
        self._time[index] = 0
        return obs

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `EnvBatch`."""
        moved: list[tuple[float, ...]] = []
        crashed, asleep = list[bool](), list[bool]()
        for index, action in zip(indices.tolist(), actions.tolist(), strict=True):
            env, step, lander, left, right, draw = self._world[index]
            _fire(lander, action, draw)
            step(*_SOLVER)
            x, y = lander.position
            vx, vy = lander.linearVelocity
            legs = left.ground_contact, right.ground_contact
            moved.append((x, y, vx, vy, lander.angle, lander.angularVelocity, *legs))
            crashed.append(env.game_over)
            asleep.append(not lander.awake)
        state = _observed(np.array(moved), self._pad[indices])
        shaping = _shaping(state)
        reward = shaping - self._shaping[indices] - _FUEL[actions]
        self._shaping[indices] = shaping
        lost = np.array(crashed) | (np.abs(state[:, 0]) >= 1.0)
        rests = np.array(asleep)
        reward[lost] = -100.0
        reward[rests] = 100.0
        self._time[indices] += 1
        return state.astype(np.float32), reward.astype(np.float32), lost | rests, self._time[indices] >= self.limit

    def picture(self, index: int) -> Array | None:
        """None: it draws nothing (`make_env_batch` with ``pictures`` makes some that do)."""
        return None

    def close(self) -> None:
        """See `EnvBatch`."""
        for env in self._uniform:
            env.close()


def _observed(moved: Array, pad: Array) -> Array:
    """``float64[L, 8]`` in the environment's units, of position, velocity, angle, its speed and the legs' contacts."""
    half_width, half_height = _WIDTH / _SCALE / 2, _HEIGHT / _SCALE / 2
    state: Array = moved.copy()
    state[:, 0] = (moved[:, 0] - half_width) / half_width
    state[:, 1] = (moved[:, 1] - pad) / half_height
    state[:, 2] = moved[:, 2] * half_width / _FPS
    state[:, 3] = moved[:, 3] * half_height / _FPS
    state[:, 5] = 20.0 * moved[:, 5] / _FPS
    return state


def _shaping(state: Array) -> Array:
    """``float64[L]`` the potential whose differences are the reward: near, slow, upright, on its legs."""
    shaping: Array = -100 * np.sqrt(state[:, 0] * state[:, 0] + state[:, 1] * state[:, 1])
    shaping -= 100 * np.sqrt(state[:, 2] * state[:, 2] + state[:, 3] * state[:, 3])
    shaping -= 100 * np.abs(state[:, 4])
    shaping += 10 * state[:, 6]
    shaping += 10 * state[:, 7]
    return shaping


def _fire(lander: Any, action: int, draw: Any) -> None:
    """The impulse of an engine, a little off its axis by chance; the chance is drawn whether or not one fires."""
    along, across = (2.0 * draw() - 1.0) / _SCALE, (2.0 * draw() - 1.0) / _SCALE
    if action == 0:
        return
    angle, (x, y) = lander.angle, lander.position
    sin, cos = math.sin(angle), math.cos(angle)
    if action == _MAIN:
        power, depth = _MAIN_POWER, _MAIN_Y / _SCALE + 2 * along
        ox, oy = sin * depth - cos * across, -cos * depth - sin * across
        at = (x + ox, y + oy)
    else:
        power, away = _SIDE_POWER, 3 * across + (action - 2) * _SIDE_AWAY / _SCALE
        ox, oy = sin * along - cos * away, -cos * along - sin * away
        at = (x + ox - sin * _SIDE_Y / _SCALE, y + oy + cos * _SIDE_HEIGHT / _SCALE)
    lander.ApplyLinearImpulse((-ox * power, -oy * power), at, True)
