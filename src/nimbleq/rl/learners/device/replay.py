"""Experience replay that lives on the device: batches are drawn and put together without the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nimbleq.config import ReplayConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.learners.device.frame_store import DeviceFrameStore
from nimbleq.rl.learners.device.priority import DevicePriorities
from nimbleq.rl.learners.device.transfer import to_device
from nimbleq.rl.replay.ring import Replay, part
from nimbleq.rl.replay.shared_frames import shares_frames
from nimbleq.types import Array, ObsSpec, Step

_UPLOAD = 1 << 14  # planes copied to the device at once when a checkpoint is loaded


class Draw(NamedTuple):
    """A `nimbleq.types.Batch` as tensors on the device, see there; ``masks`` are those of the batch, if it has any."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    weight: Tensor
    index: Tensor  # type: ignore[assignment]
    masks: tuple[Tensor, ...] = ()


class _Rows(NamedTuple):
    """Transitions on their way to the device.

    Attributes:
        slots: ``int64[K]`` where they lie.
        stored: by field, ``[K, …]``.
        size: transitions that there are with them.
    """

    slots: Array
    stored: dict[str, Array]
    size: int


class DeviceReplay:
    """A `Replay` mirrored on ``device``, where batches are drawn: the same transitions, the same slots.

    The host sums up the rewards, finds the planes that were seen before and decides what lies where (`add`); then
    every plane and every transition goes to the device once (`settle`). A thread may `add` a step while another draws.
    Checkpoints are written from the host's half (`Replay`).

    Attributes:
        host: that replay.
        uploaded: transitions since the first ever that the device has seen.
        beta: exponent of the importance weights, a scalar.

    Args:
        config: capacity, n-step, prioritisation.
        gamma: discount per step.
        envs: environments that are stepped together.
        obs: of one observation.
        masks: actions of an environment that gives action masks, else 0.
        device: where.

    Raises:
        ConfigError: the device has not enough memory.
    """

    def __init__(
        self, config: ReplayConfig, gamma: float, envs: int, obs: ObsSpec, masks: int, device: torch.device
    ) -> None:
        self.shape, self.device = obs.shape, device
        obs = replace(obs, bits=())  # the device reads what the host stores, and knows of no bits
        self.host = Replay(replace(config, prioritized=False), gamma, envs, obs, masks)
        try:
            self.store = {name: _zeros_like(rows, device) for name, rows in self.host.store._asdict().items()}
            self.frames = None
            if shares_frames(obs):  # as if each step showed one new plane; more are made room for when they come
                room = config.capacity + config.capacity // 16 + 2 * envs * (config.n_step + obs.shape[0])
                self.frames = DeviceFrameStore(obs.shape[1] * obs.shape[2], room, device)
        except torch.OutOfMemoryError:
            raise ConfigError(f"the device has no room for a replay.capacity of {config.capacity}: lower it") from None
        self.priorities = DevicePriorities(config.capacity, config.alpha, device) if config.prioritized else None
        self.size = torch.zeros((), dtype=torch.int64, device=device)
        self.beta = torch.ones((), device=device)
        self.uploaded = 0
        self._planes: list[tuple[Array, Array]] = []  # numbers and pixels that wait for `settle`
        self.mirror({})

    def __len__(self) -> int:
        return min(self.uploaded, self.host.capacity)

    @property
    def moves(self) -> int:
        """How often tensors were replaced by larger ones; captured work has to be captured again then."""
        return 0 if self.frames is None else self.frames.moves

    def add(self, step: Step) -> None:
        """Remember one step of all environments; it can be drawn after the next `settle`."""
        self.host.add(step)

    def settle(self) -> None:
        """Send to the device what was added."""
        self.collect()()

    def collect(self) -> Callable[[], None]:
        """See `Collecting`: from here on, the call sends copies."""
        planes, self._planes = self._planes, []
        first = max(self.uploaded, self.host.added - self.host.capacity)
        rows = self._rows(np.arange(first, self.host.added) % self.host.capacity)
        self.uploaded = self.host.added
        return partial(self._send, planes, rows)

    def _rows(self, slots: Array) -> _Rows:
        stored = {name: source[slots] for name, source in self.host.store._asdict().items() if source.size}
        return _Rows(slots, stored, len(self.host))

    def _send(self, planes: list[tuple[Array, Array]], rows: _Rows) -> None:
        for ids, pixels in planes:
            assert self.frames is not None, "only images have planes"
            self.frames.write(ids, pixels)
        if rows.slots.size:
            self._upload(rows)

    def settled(self) -> Replay:
        """The host's half with everything that was added: what is written to a checkpoint, and filled from one."""
        self.settle()
        return self.host

    def _upload(self, rows: _Rows) -> None:
        index = to_device(rows.slots, self.device)
        for name, source in rows.stored.items():
            self.store[name][index] = to_device(source, self.device)
        self.size.fill_(rows.size)
        if self.priorities is not None:
            self.priorities.add(index)

    def mirror(self, arrays: Mapping[str, Array]) -> None:
        """Take over what `host` was filled with: transitions, and planes (those to come, too).

        Args:
            arrays: what `arrays` returned; nothing for a fresh one.
        """
        if self.host.frames is not None and self.frames is not None:
            alive = self.host.frames.alive()
            for ids in np.split(alive, range(_UPLOAD, len(alive), _UPLOAD)):
                self.frames.write(ids, self.host.frames.pixels(ids))
            self.host.frames.stored = lambda ids, planes: self._planes.append((ids, planes))
        self._upload(self._rows(np.arange(len(self.host))))
        self.uploaded = self.host.added
        if self.priorities is not None and arrays:
            self.priorities.load_arrays(part(arrays, "priorities"))

    def draw(self, count: int, generator: torch.Generator) -> Draw:
        """``count`` transitions, with replacement. Everything happens on the device, in tensors of fixed shape."""
        if self.priorities is not None:
            return self.gather(self.priorities.sample(count, self.size, generator))
        # 62 bits, so that no slot is favoured by more than 1 in 10¹²
        return self.gather(torch.randint(1 << 62, (count,), generator=generator, device=self.device) % self.size)

    def gather(self, index: Tensor) -> Draw:
        """The transitions in the slots ``index: int64[B]``."""
        obs, action, reward, discount, next_obs, *masks = (rows[index] for rows in self.store.values())
        if self.frames is not None:
            obs, next_obs = (self.frames.gather(ids).view(len(ids), *self.shape) for ids in (obs, next_obs))
        weight = torch.ones_like(reward) if self.priorities is None else self.priorities.weights(index, self.beta)
        given = tuple(mask for mask in masks if mask.shape[1])
        return Draw(obs, action, reward, discount, next_obs, weight, index, given)

    def reprioritize(self, index: Tensor, abs_td: Tensor) -> None:
        """Hand back ``|TD error|: float32[B]`` of a draw (ignored by uniform replay)."""
        if self.priorities is not None:
            self.priorities.update(index, abs_td)

    def prioritize(self, first: int, abs_td: Array) -> None:
        """See `nimbleq.rl.replay.buffer.ReplayBuffer`."""
        slots = (first + np.arange(len(abs_td))) % self.host.capacity
        self.reprioritize(to_device(slots, self.device), to_device(abs_td, self.device))

    def arrays(self) -> dict[str, Array]:
        """See `Replay.arrays`."""
        state = self.settled().arrays()
        if self.priorities is not None:
            state |= {f"priorities.{name}": value for name, value in self.priorities.arrays().items()}
        return state


def _zeros_like(array: Array, device: torch.device) -> Tensor:
    return torch.zeros(array.shape, dtype=torch.from_numpy(array[:0]).dtype, device=device)
