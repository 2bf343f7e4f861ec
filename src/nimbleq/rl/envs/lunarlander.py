"""LunarLander-v3 many at a time: Gymnasium's worlds and episodes, without what a step spends outside the physics.

Box2D's solver takes half of Gymnasium's step; the rest is wrappers, checks of arguments and scalar numpy. Here the
engines' impulses, observations and rewards are computed in C, in the order of operations of the scalar environment:
what comes out is the same to the last bit, which `make_lunarlander` tries out first.
"""

from __future__ import annotations

import ctypes
import math
import struct
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.rl.envs.batch import EnvBatch, Outcome
from nimbleq.rl.envs.extension import environment_extension
from nimbleq.rl.envs.gymnasium import env_spec, make_env, time_limit
from nimbleq.rl.envs.serial import SerialEnvBatch
from nimbleq.rl.envs.uniform import UniformEnv, quiet
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array

_SCALE, _FPS, _LEG_DOWN = 30.0, 50.0, 18.0
"""Pixels of a unit of length, steps a second, and pixels from the lander's centre down to its feet."""


class Solver(NamedTuple):
    """Seconds of a step, iterations for velocities, for positions."""

    seconds: float
    velocities: int
    positions: int


_EXACT = Solver(1.0 / _FPS, 180, 60)
"""As Gymnasium has it."""
_NEAR, _FAR, _HEIGHT = Solver(1.0 / _FPS, 90, 30), Solver(1.0 / _FPS, 12, 4), 0.1
"""Fewer iterations, which take most of a step: while the legs touch nothing, this much above the pad, they need not be
stiff. Below that landings end otherwise with fewer."""
_BODY = struct.Struct("@i H i 4f 9f 3f 3f 4P i 2P 4f")
"""Box2D 2.3's body in memory, as ``native/envs/lunarlander.c`` has it."""
ARGUMENTS = ("gravity", "enable_wind", "wind_power", "turbulence_power")
"""What the environment may be made with: its world has the gravity, and the wind is applied here."""
_TRIED = (0, 1)  # seeds of the episodes that are compared


def make_lunarlander(config: EnvConfig, count: int) -> EnvBatch:
    """``count`` environments LunarLander-v3 without arguments and drawing.

    An installed Gymnasium or Box2D that does something else gets its own step, called once per index.
    """
    return LunarLanderEnvBatch(config, count) if agrees(config.kwargs) else SerialEnvBatch(config, count)


def make_low_fidelity(config: EnvConfig, count: int) -> EnvBatch:
    """The same, with a physics that iterates less: see `nimbleq.rl.envs.engines.make_low_fidelity_batch`."""
    return LunarLanderEnvBatch(config, count, _NEAR, _FAR) if agrees(config.kwargs) else SerialEnvBatch(config, count)


@cache
def agrees(kwargs: tuple[str, ...]) -> bool:
    """Whether both step alike with these of `ARGUMENTS`: two whole episodes of random actions, bit for bit."""
    config = EnvConfig("LunarLander-v3", kwargs=kwargs)
    theirs = SerialEnvBatch(config, 1)
    with quiet():
        from gymnasium.envs.box2d.lunar_lander import LunarLander  # there, as one was made
    env = theirs.envs[0]
    if environment_extension() is None or type(env.unwrapped) is not LunarLander:
        return False
    env.reset(seed=0)
    env.step(2)  # it turns and falls: no two of its numbers are the same
    if not _is_laid_out(env.unwrapped.lander):
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


def _is_laid_out(body: Any) -> bool:
    """Whether Box2D keeps the body's numbers where the C looks for them."""
    try:
        _, flags, _, x, y, _, _, *sweep = _BODY.unpack(ctypes.string_at(int(body.this), _BODY.size))
    except (AttributeError, TypeError, ValueError):  # another binding of Box2D
        return False
    local, center, angle, rest = sweep[0:2], sweep[4:6], sweep[7], sweep[9:]
    velocity, turning, (mass, inverse_mass, inertia, inverse_inertia) = rest[0:2], rest[2], rest[-4:]
    arm = body.mass * (local[0] ** 2 + local[1] ** 2)
    return (
        [x, y, *local, *center, angle] == [*body.position, *body.localCenter, *body.worldCenter, body.angle]
        and [*velocity, turning, mass] == [*body.linearVelocity, body.angularVelocity, body.mass]
        and np.allclose([inertia + arm, mass * inverse_mass, inertia * inverse_inertia], [body.inertia, 1, 1], 1e-5)
        and bool(flags & 2) == body.awake
    )


class LunarLanderEnvBatch:
    """See `EnvBatch`; the first observation and the world come from Gymnasium's ``reset``.

    Args:
        near: the physics' solver below `_HEIGHT`.
        far: above it.
    """

    mask: Array | None = None
    spec: EnvSpec

    def __init__(self, config: EnvConfig, count: int, near: Solver = _EXACT, far: Solver = _EXACT) -> None:
        extension = environment_extension()
        assert extension is not None
        self._step, self._near, self._far = extension.lunarlander_step, tuple(near), tuple(far)
        self._uniform: list[UniformEnv] = [make_env(config) for _ in range(count)]
        first = self._uniform[0]
        self.spec = env_spec(first)
        self.limit = time_limit(first)
        self._envs: list[Any] = [env.unwrapped for env in self._uniform]
        self._windy = bool(self._envs[0].enable_wind)
        self._world: list[Any] = [None] * count  # what a step touches
        self._shaping = np.zeros(count)
        self._pad = np.zeros(count)
        self._time = np.zeros(count, np.int64)

    def reset(self, index: int, seed: int) -> Array:
        """See `EnvBatch`."""
        obs, _ = self._uniform[index].reset(seed=int(seed))
        env = self._envs[index]
        self._world[index] = (int(env.lander.this), env.world.Step, env, *env.legs, env.np_random.random)
        self._shaping[index] = env.prev_shaping
        self._pad[index] = env.helipad_y + _LEG_DOWN / _SCALE
        self._time[index] = 0
        return obs

    def step(self, indices: Array, actions: Array) -> Outcome:
        """See `EnvBatch`."""
        count = len(indices)
        if self._windy:
            for index in indices.tolist():
                _blow(self._envs[index])
        obs, reward, terminated = np.empty((count, 8), np.float32), np.empty(count, np.float32), np.empty(count, bool)
        self._step(
            self._world, self._near, self._far, _HEIGHT, indices, actions, self._shaping, self._pad, obs, reward,
            terminated,
        )  # fmt: skip
        self._time[indices] += 1
        return obs, reward, terminated, self._time[indices] >= self.limit

    def picture(self, index: int) -> Array | None:
        """None: it draws nothing (`make_env_batch` with ``pictures`` makes some that do)."""
        return None

    def close(self) -> None:
        """See `EnvBatch`."""
        for env in self._uniform:
            env.close()


def _blow(env: Any) -> None:
    """The wind of a step, on a lander that touches nothing: it pushes and turns."""
    if any(leg.ground_contact for leg in env.legs):
        return
    env.lander.ApplyForceToCenter((_gust(env.wind_idx) * env.wind_power, 0.0), True)
    env.lander.ApplyTorque(_gust(env.torque_idx) * env.turbulence_power, True)
    env.wind_idx += 1
    env.torque_idx += 1


def _gust(time: int) -> float:
    """Within ±1, never periodic."""
    return math.tanh(math.sin(0.02 * time) + math.sin(math.pi * 0.01 * time))
