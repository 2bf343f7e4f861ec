"""A replay on the device: the last steps of all environments in a ring, as a value that programs change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.rl.envs.jax_env import Moment, Tensor
from nimbleq.rl.learners.xla.step import Sample
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.replay.sequences import SequenceReplay
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Step


class Ring(NamedTuple):
    """``R`` rows of a step of ``N`` environments each: row ``t`` of a run lies in slot ``t % R``.

    Attributes:
        obs, next_obs: ``[R, N, *O]``.
        action: ``int32[R, N]``.
        reward: ``float32[R, N]``.
        terminated, truncated: ``bool[R, N]``.
        rows: ``int32[]`` so far.
    """

    obs: Tensor
    next_obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    rows: Tensor

    def add(self, moment: Moment) -> Ring:
        """Store one step of all environments."""
        at = self.rows % len(self.obs)
        new = (moment.obs, moment.next_obs, moment.action, moment.reward, moment.terminated, moment.truncated)
        stored = [old.at[at].set(value.astype(old.dtype)) for old, value in zip(self[:6], new, strict=True)]
        return Ring._make([*stored, self.rows + 1])

    def sample(self, key: Tensor, count: int, n: int, gamma: float) -> Sample:
        """``count`` transitions of up to ``n`` steps, with replacement, cut where an episode ends.

        As long as there is none of ``n`` steps the result has no meaning.
        """
        size, envs = self.reward.shape
        held = jnp.minimum(self.rows, size)
        begin, column = (
            jax.random.randint(part, (count,), 0, limit)
            for part, limit in zip(jax.random.split(key), (jnp.maximum(held - n + 1, 1), envs), strict=True)
        )
        slots = (self.rows - held + begin + jnp.arange(n)[:, None]) % size  # [n, B]
        ended = (self.terminated | self.truncated)[slots, column]
        played = jnp.cumprod(jnp.concatenate([jnp.ones((1, count), bool), ~ended[:-1]]), axis=0)  # [n, B]
        powers = gamma ** jnp.arange(n)[:, None]
        reward = (played * powers * self.reward[slots, column]).sum(0)
        steps = played.sum(0)
        last = slots[steps - 1, jnp.arange(count)], column
        discount = jnp.float32(gamma) ** steps * ~self.terminated[last]
        first = slots[0], column
        return Sample(self.obs[first], self.action[first], reward, discount, self.next_obs[last], jnp.ones(count))


def empty_ring(config: TrainConfig, spec: EnvSpec) -> Ring:
    """Room for ``replay.capacity`` steps."""
    shape = config.replay.capacity // config.envs, config.envs
    # Arrays of their own, each: a program takes over the memory of what it changes.
    obs, next_obs = (jnp.zeros((*shape, *spec.obs.shape), spec.obs.dtype) for _ in range(2))
    terminated, truncated = (jnp.zeros(shape, bool) for _ in range(2))
    none = jnp.zeros((), jnp.int32)
    return Ring(obs, next_obs, jnp.zeros(shape, jnp.int32), jnp.zeros(shape), terminated, truncated, none)


class RingReplay:
    """`nimbleq.rl.replay.buffer.ReplayBuffer` around a `Ring`, which a program fills.

    Attributes:
        ring: lives on the device.
    """

    def __init__(self, config: TrainConfig, spec: EnvSpec) -> None:
        self.ring = empty_ring(config, spec)
        self._host = SequenceReplay(config.replay.capacity, config.envs, spec.obs, units=0)
        self._copied = 0  # rows in the host's copy

    def __len__(self) -> int:
        return int(self.ring.rows) * self._host.envs

    def add(self, step: Step) -> None:
        """Programs do that."""
        raise AssertionError("a program fills its replay itself")

    def settle(self) -> None:
        """Nothing is put off."""

    def prioritize(self, first: int, abs_td: Array) -> None:
        """It is drawn from uniformly."""

    def settled(self) -> Replay:
        """A copy on the host, brought up to date."""
        host, rows = self._host, int(self.ring.rows)
        if rows != self._copied:
            fields = dict(zip(Ring._fields, map(np.asarray, self.ring), strict=True))
            for name, stored in host.store._asdict().items():
                if name in fields:
                    stored[:] = fields[name].reshape(stored.shape)
            host.added, self._copied = rows * host.envs, rows
        return host.settled()

    def mirror(self, arrays: Mapping[str, Array]) -> None:
        """Take over what was loaded into `settled`."""
        host, size = self._host, len(self.ring.obs)
        self._copied = host.added // host.envs
        held = [getattr(host.store, name).reshape(size, host.envs, *getattr(self.ring, name).shape[2:])
                for name in Ring._fields[:6]]  # fmt: skip
        arrays_of = [jnp.asarray(value, old.dtype) for value, old in zip(held, self.ring[:6], strict=True)]
        self.ring = Ring._make([*arrays_of, jnp.asarray(self._copied, jnp.int32)])

    def arrays(self) -> dict[str, Array]:
        """See `nimbleq.rl.replay.ring.Replay.arrays`."""
        return self._host.arrays()
