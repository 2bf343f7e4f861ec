"""Environments in JAX that restart by themselves: a pure function for programs, and a host's view of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nimbleq.rl.envs.batch import check_finite
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Step

Tensor = Any
"""A JAX array."""


class Running(NamedTuple):
    """``N`` episodes under way, on the device.

    Attributes:
        state: of the environments; every array in it begins with an axis N.
        obs: ``float32[N, *O]``.
        key: for everything random from now on.
        returns, lengths: ``float32[N]`` and ``int32[N]`` so far.
    """

    state: Any
    obs: Tensor
    key: Tensor
    returns: Tensor
    lengths: Tensor


class Moment(NamedTuple):
    """What one step of all environments gave, as in `nimbleq.types.Step`.

    ``returns`` and ``lengths`` are those of the episodes with this step.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_obs: Tensor
    returns: Tensor
    lengths: Tensor


class JaxEnv:
    """As `nimbleq.rl.envs.vector.VectorEnv`, for one environment in gymnax's form.

    Args:
        name: for messages.
        spec: of the environment.
        env: has ``reset_env``, ``step_env`` and ``is_truncated``, as `gymnax.environments.environment.Environment`.
        params: their last argument.
        envs: how many.
        seed: of everything random in them.

    Attributes:
        running: the episodes under way.
        advance: ``(running, action int32[N]) → (running, Moment)``, a pure function.
    """

    mask: Array | None = None

    def __init__(self, name: str, spec: EnvSpec, env: Any, params: Any, envs: int, seed: int) -> None:
        self.name, self.spec, self.count = name, spec, envs
        self.advance = partial(_advance, env, params)
        self._step = jax.jit(self.advance)
        self.running = _begun(env, params, envs, jax.random.key(seed))
        self.finished: list[tuple[float, int]] = []

    @property
    def obs(self) -> Array:
        """``[N, *O]`` what the next action is chosen from."""
        return np.asarray(self.running.obs)

    def step(self, action: Array) -> Step:
        """Step all environments with ``action: int64[N]``; those whose episode ends start the next one.

        Raises:
            EnvError: an environment returned NaN or infinity.
        """
        running, moment = self._step(self.running, action.astype(np.int32))
        found = Moment(*(np.asarray(value) for value in moment))
        check_finite(self.name, np.arange(self.count), found.next_obs, found.reward)
        self.running = running
        over = found.terminated | found.truncated
        self.finished = list(zip(found.returns[over].tolist(), found.lengths[over].tolist(), strict=True))
        return Step(found.obs, action, found.reward, found.terminated, found.truncated, found.next_obs)

    def arrays(self) -> dict[str, Array]:
        """Complete state."""
        leaves = jax.tree.leaves(self.running._replace(key=jax.random.key_data(self.running.key)))
        return {str(at): np.array(leaf) for at, leaf in enumerate(leaves)}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        leaves = [jnp.array(arrays[str(at)]) for at in range(len(arrays))]
        running = jax.tree.unflatten(jax.tree.structure(self.running), leaves)
        self.running = running._replace(key=jax.random.wrap_key_data(running.key))

    def close(self) -> None:
        """There is nothing to release."""


def _begun(env: Any, params: Any, envs: int, key: Tensor) -> Running:
    """The first episodes."""
    key, first = jax.random.split(key)
    obs, state = jax.vmap(env.reset_env, (0, None))(jax.random.split(first, envs), params)
    return Running(_arrays(state), obs, key, jnp.zeros(envs), jnp.zeros(envs, jnp.int32))


def _advance(env: Any, params: Any, running: Running, action: Tensor) -> tuple[Running, Moment]:
    """Step all environments; where an episode ends the next one begins."""
    count = len(action)
    key, *draws = jax.random.split(running.key, 3)
    step_keys, first_keys = (jax.random.split(draw, count) for draw in draws)
    every = jax.vmap(env.step_env, (0, 0, 0, None))
    next_obs, state, reward, terminated, _ = every(step_keys, running.state, action, params)
    truncated = jax.vmap(env.is_truncated, (0, None))(state, params)
    first_obs, first_state = jax.vmap(env.reset_env, (0, None))(first_keys, params)
    over = terminated | truncated

    def restarted(first: Tensor, on: Tensor) -> Tensor:
        return jnp.where(over.reshape(count, *[1] * (jnp.ndim(on) - 1)), first, on)

    reward = reward.astype(jnp.float32)
    returns, lengths = running.returns + reward, running.lengths + 1
    moment = Moment(running.obs, action, reward, terminated, truncated, next_obs, returns, lengths)
    state, obs = _arrays(jax.tree.map(restarted, first_state, state)), restarted(first_obs, next_obs)
    return Running(state, obs, key, jnp.where(over, 0.0, returns), jnp.where(over, 0, lengths)), moment


def _arrays(state: Any) -> Any:
    """Python's numbers in a state as arrays whose type does not change from step to step."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
