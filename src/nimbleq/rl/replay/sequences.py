"""A replay of steps in the order in which they were played, with the memory that the network had: what recurrent
networks learn from [R2D2: Kapturowski et al. 2019].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np

from nimbleq.rl.replay.ring import Replay
from nimbleq.types import Array, ObsSpec, Step


class Sequences(NamedTuple):
    """``K`` stretches of ``T`` consecutive steps of one environment each, which may run over the ends of episodes.

    Attributes:
        obs, next_obs: ``[T, K, *O]``; ``next_obs`` is the true successor, also at the end of an episode.
        action: ``int64[T, K]``.
        reward: ``float32[T, K]``.
        terminated, truncated: ``bool[T, K]``.
        mask, next_mask: ``bool[T, K, A]`` (None: every action is legal, always).
        state: ``float32[K, H]`` what the network remembered before the first step, when it was played.
    """

    obs: Array
    next_obs: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    mask: Array | None
    next_mask: Array | None
    state: Array


class _Steps(NamedTuple):
    """What is stored; arrays of one length, see `Sequences` (masks without columns: there are none)."""

    obs: Array
    next_obs: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    mask: Array
    next_mask: Array
    state: Array


class SequenceReplay:
    """The last ``capacity`` steps of ``envs`` environments, in a ring. It saves and loads as `Replay` does.

    Args:
        capacity: steps of all environments together; cut to a multiple of ``envs``.
        envs: environments that are stepped together.
        obs: of one observation.
        units: of the network's memory.
        masks: actions of an environment that gives action masks, else 0.

    Attributes:
        added: steps since the first ever; number ``t`` is of environment ``t % envs`` and lies in slot
            ``t % capacity``.
    """

    frames = None

    def __init__(self, capacity: int, envs: int, obs: ObsSpec, units: int, masks: int = 0) -> None:
        self.envs, self.capacity, self.added = envs, capacity // envs * envs, 0
        count = self.capacity
        self.store = _Steps(
            obs=np.empty((count, *obs.shape), obs.dtype),
            next_obs=np.empty((count, *obs.shape), obs.dtype),
            action=np.empty(count, np.int64),
            reward=np.empty(count, np.float32),
            terminated=np.empty(count, bool),
            truncated=np.empty(count, bool),
            mask=np.empty((count, masks), bool),
            next_mask=np.empty((count, masks), bool),
            state=np.empty((count, units), np.float32),
        )

    @property
    def size(self) -> int:
        """Steps that are held: the latest ones."""
        return min(self.added, self.capacity)

    def __len__(self) -> int:
        return self.size

    def remember(self, step: Step, state: Array) -> None:
        """Store one step of all environments, with the memory ``float32[N, H]`` that the network had before it."""
        none = np.zeros((self.envs, 0), bool)
        masks = (none if step.mask is None else step.mask), (none if step.next_mask is None else step.next_mask)
        first = self.added % self.capacity
        row = _Steps(
            step.obs, step.next_obs, step.action, step.reward, step.terminated, step.truncated, *masks, state
        )  # fmt: skip
        for stored, new in zip(self.store, row, strict=True):
            stored[first : first + self.envs] = new
        self.added += self.envs

    def stretches(self, length: int) -> int:
        """How many different sequences of ``length`` steps can be drawn."""
        return max(0, self.size // self.envs - length + 1) * self.envs

    def sample(self, rng: np.random.Generator, count: int, length: int) -> Sequences:
        """``count`` sequences of ``length`` steps, uniformly, with replacement."""
        begin, env = np.divmod(rng.integers(self.stretches(length), size=count), self.envs)
        oldest = (self.added - self.size) // self.envs
        rows = oldest + begin + np.arange(length)[:, None]  # [T, K] vector steps since the first ever
        slots = (rows * self.envs + env) % self.capacity
        drawn = {name: stored[slots] for name, stored in self.store._asdict().items() if name != "state"}
        if not self.store.mask.shape[1]:
            drawn |= {"mask": None, "next_mask": None}
        return Sequences(**drawn, state=self.store.state[slots[0]])

    def prioritize(self, first: int, abs_td: Array) -> None:
        """All sequences are drawn alike."""

    def add(self, step: Step) -> None:
        """Of a network that remembers nothing."""
        self.remember(step, np.zeros((self.envs, 0), np.float32))

    def settled(self) -> Replay:
        """This one: what checkpoints ask of a replay, it has."""
        return cast(Replay, self)

    def settle(self) -> None:
        """Nothing is put off."""

    def mirror(self, arrays: Mapping[str, Array]) -> None:
        """There is no other copy that would have to follow."""

    def arrays(self) -> dict[str, Array]:
        """What has to be written whole to a checkpoint."""
        return {"added": np.array([self.added])}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Begin to continue from what `arrays` returned; `load_rows` brings the rest."""
        self.added = int(arrays["added"][0])

    def rows(self, first: int, count: int) -> dict[str, Array]:
        """``count`` steps from number ``first`` on, by field."""
        slots = (first + np.arange(count)) % self.capacity
        return {name: stored[slots] for name, stored in self.store._asdict().items()}

    def load_rows(self, first: int, rows: Mapping[str, Array]) -> int:
        """Put back what `rows` returned; how many steps that were.

        Raises:
            ValueError: they are of another kind of replay.
        """
        slots = (first + np.arange(len(rows["action"]))) % self.capacity
        for name, stored in self.store._asdict().items():
            if rows[name].shape != (len(slots), *stored.shape[1:]) or rows[name].dtype != stored.dtype:
                raise ValueError(f"{name} has another shape or type")
            stored[slots] = rows[name]
        return len(slots)
