"""Experience replay in three small parts: accumulate n-step windows, store transitions, sample batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from nimbleq.config import ReplayConfig
from nimbleq.rl.replay.packing import Packing, packs
from nimbleq.rl.replay.priority import Priorities, replay_extension
from nimbleq.rl.replay.shared_frames import SharedFrames, shares_frames
from nimbleq.types import Array, Batch, ObsSpec, Step

_NATIVE = replay_extension()


class Transitions(NamedTuple):
    """What is stored: see `Batch` for the meaning. Arrays of one length (masks without columns: there are none)."""

    obs: Array
    action: Array
    reward: Array
    discount: Array
    next_obs: Array
    next_mask: Array
    mask: Array


class NStepWindows:
    """Sums rewards over windows of up to ``n`` steps for ``N`` environments at once.

    A window closes when it is ``n`` steps long, or shorter when its episode ends, by termination **or by truncation**:
    the next step belongs to another episode.
    """

    def __init__(self, n: int, gamma: float, envs: int, obs: ObsSpec, masks: int = 0) -> None:
        self.n, self.gamma = n, gamma
        self.powers = np.array([gamma**age for age in range(n + 1)], np.float32)
        self.time = 0  # windows that began at time t lie in row t % n
        self.open = np.zeros(envs, np.int64)  # windows open per environment
        self.obs = np.zeros((n, envs, *obs.shape), obs.dtype)
        self.action = np.zeros((n, envs), np.int64)
        self.reward = np.zeros((n, envs), np.float32)
        self.mask = np.zeros((n, envs, masks), bool)

    def push(self, step: Step) -> list[Transitions]:
        """Take in one step of all environments; the windows that it closes, oldest first."""
        newest = self.time % self.n
        none = np.zeros((len(step.action), 0), bool)
        next_mask = none if step.next_mask is None else step.next_mask
        self.obs[newest], self.action[newest], self.reward[newest] = step.obs, step.action, 0.0
        self.mask[newest] = none if step.mask is None else step.mask
        self.open += 1
        ended = step.terminated | step.truncated
        closed = []
        for age in reversed(range(self.n)):
            row = (self.time - age) % self.n
            self.reward[row] += self.powers[age] * step.reward
            due = np.flatnonzero((self.open > age) & (ended | (age == self.n - 1)))
            if due.size:
                discount = self.powers[age + 1] * ~step.terminated[due]
                closed.append(
                    Transitions(
                        self.obs[row, due],
                        self.action[row, due],
                        self.reward[row, due],
                        discount,
                        step.next_obs[due],
                        next_mask[due],
                        self.mask[row, due],
                    )
                )
        self.open = np.where(ended, 0, np.minimum(self.open, self.n - 1))
        self.time += 1
        return closed

    def remember(self, step: Step, ring: Transitions, added: int) -> int:
        """As `push`, and what it closes stored in ``ring`` from slot ``added`` on, in C; the number of that."""
        assert _NATIVE is not None
        none = self.mask[0]  # without columns where there are no masks
        masks = none if step.mask is None else step.mask, none if step.next_mask is None else step.next_mask
        count = _NATIVE.remember(
            (self.obs, self.action, self.mask, self.reward),
            self.open,
            (step.obs, step.action, masks[0], *step[2:6], masks[1]),
            self.powers,
            ring,
            self.time,
            added,
        )
        self.time += 1
        return int(count)

    def arrays(self) -> dict[str, Array]:
        """Complete state."""
        state = {"open": self.open, "obs": self.obs, "action": self.action, "reward": self.reward, "mask": self.mask}
        return {name: value.copy() for name, value in state.items()} | {"time": np.array([self.time])}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        self.time = int(arrays["time"][0])
        self.open, self.obs = arrays["open"].copy(), arrays["obs"].copy()
        self.action, self.reward = arrays["action"].copy(), arrays["reward"].copy()
        self.mask = arrays["mask"].copy()


class Replay:
    """The last ``capacity`` transitions in a ring, drawn uniformly or by priority.

    Values of two kinds (small binary images, one-hot vectors) and vectors with pictures in them are stored as `Packing`
    packs them. Other images are stored in `SharedFrames`: windows and ring hold the numbers of an observation's planes
    in its place. Anything else is stored as it is.

    Args:
        config: capacity, n-step, prioritisation.
        gamma: discount per step.
        envs: environments that are stepped together.
        obs: of one observation.
        masks: actions of an environment that gives action masks, else 0.

    Attributes:
        added: transitions since the first ever; number ``t`` lies in slot ``t % capacity``.
    """

    def __init__(self, config: ReplayConfig, gamma: float, envs: int, obs: ObsSpec, masks: int = 0) -> None:
        self.capacity = config.capacity
        self.packing = Packing(obs) if packs(obs) else None
        shares = self.packing is None and shares_frames(obs)
        self.frames = SharedFrames(obs, envs, config.compress) if shares else None
        if self.frames is not None:
            obs = ObsSpec(obs.shape[:1], "int32")
        if self.packing is not None:
            obs = self.packing.packed
        self.windows = NStepWindows(config.n_step, gamma, envs, obs, masks)
        self.priorities = Priorities(config.capacity, config.alpha) if config.prioritized else None
        self.added = 0
        self.store = Transitions(
            obs=np.empty((self.capacity, *obs.shape), obs.dtype),
            action=np.empty(self.capacity, np.int64),
            reward=np.empty(self.capacity, np.float32),
            discount=np.empty(self.capacity, np.float32),
            next_obs=np.empty((self.capacity, *obs.shape), obs.dtype),
            next_mask=np.empty((self.capacity, masks), bool),
            mask=np.empty((self.capacity, masks), bool),
        )

    @property
    def size(self) -> int:
        """Transitions that are held: the latest ones."""
        return min(self.added, self.capacity)

    def __len__(self) -> int:
        return self.size

    def add(self, step: Step) -> None:
        """Remember one step of all environments (its windows, once they close)."""
        if self.packing is not None:
            step = step._replace(obs=self.packing.pack(step.obs), next_obs=self.packing.pack(step.next_obs))
        if self.frames is None and _NATIVE is not None:
            count = self.windows.remember(step, self.store, self.added)
            if self.priorities is not None and count:
                self.priorities.add(self._slots(self.added, count))
            self.added += count
            return
        if self.frames is not None:
            step = self.frames.take(step)
        for transitions in self.windows.push(step):
            count = len(transitions.action)
            slots = self._slots(self.added, count)
            if self.frames is not None:  # the window's reference to obs becomes the slot's
                self.frames.hold(transitions.next_obs)
                forgotten = slots[slots < self.size]
                self.frames.release(self.store.obs[forgotten])
                self.frames.release(self.store.next_obs[forgotten])
            for stored, new in zip(self.store, transitions, strict=True):
                stored[slots] = new
            if self.priorities is not None:
                self.priorities.add(slots)
            self.added += count

    def sample(self, rng: np.random.Generator, count: int, beta: float = 1.0) -> Batch:
        """``count`` transitions, with replacement; ``beta`` is the exponent of the importance weights."""
        if self.priorities is None:
            index, weight = rng.integers(self.size, size=count), np.ones(count, np.float32)
        else:
            index = self.priorities.sample(rng, count)
            weight = self.priorities.weights(index, beta)
        gathered = [field[index] for field in self.store] if _NATIVE is None else _NATIVE.gather(self.store, index)
        obs, action, reward, discount, next_obs, *masks = gathered
        if self.frames is not None:
            obs, next_obs = self.frames.images(obs, next_obs)
        if self.packing is not None:
            obs, next_obs = self.packing.unpack(obs), self.packing.unpack(next_obs)
        if self.store.mask.shape[1] == 0:
            return Batch(obs, action, reward, discount, next_obs, weight, index)
        return Batch(obs, action, reward, discount, next_obs, weight, index, *masks)

    def reprioritize(self, index: Array, abs_td: Array) -> None:
        """Hand back ``|TD error|: float32[B]`` of a batch (ignored by uniform replay)."""
        if self.priorities is not None:
            self.priorities.update(index, abs_td)

    def prioritize(self, first: int, abs_td: Array) -> None:
        """Give the transitions from number ``first`` on priorities: ``|TD error|: float32[K]`` (ignored if uniform)."""
        self.reprioritize(self._slots(first, len(abs_td)), abs_td)

    def settle(self) -> None:
        """`add` puts nothing off."""

    def settled(self) -> Replay:
        """This one; see `nimbleq.rl.replay.buffer.ReplayBuffer`."""
        return self

    def mirror(self, arrays: Mapping[str, Array]) -> None:
        """There is no other copy that would have to follow."""

    def _slots(self, first: int, count: int) -> Array:
        return (first + np.arange(count)) % self.capacity

    def arrays(self) -> dict[str, Array]:
        """What has to be written whole to a checkpoint: everything but transitions (`rows`) and planes of images."""
        state = {f"windows.{name}": value for name, value in self.windows.arrays().items()}
        if self.priorities is not None:
            state |= {f"priorities.{name}": value for name, value in self.priorities.arrays().items()}
        if self.frames is not None:
            state |= {f"frames.{name}": value for name, value in self.frames.arrays().items()}
        return state | {"added": np.array([self.added])}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Begin to continue from what `arrays` returned; `load_rows` and the frames' own calls bring the rest.

        Raises:
            ValueError: the arrays contradict each other.
        """
        self.added = int(arrays["added"][0])
        self.windows.load_arrays(part(arrays, "windows"))
        if self.priorities is not None:
            self.priorities.load_arrays(part(arrays, "priorities"))
        if self.frames is not None:
            self.frames.restore(part(arrays, "frames"))

    def rows(self, first: int, count: int) -> dict[str, Array]:
        """``count`` transitions from number ``first`` on, by field (images as numbers of planes)."""
        slots = self._slots(first, count)
        return {name: stored[slots] for name, stored in self.store._asdict().items()}

    def load_rows(self, first: int, rows: Mapping[str, Array]) -> int:
        """Put back what `rows` returned; how many transitions that were.

        Raises:
            ValueError: they are of another kind of replay.
        """
        slots = self._slots(first, len(rows["action"]))
        for name, stored in self.store._asdict().items():
            if rows[name].shape != (len(slots), *stored.shape[1:]) or rows[name].dtype != stored.dtype:
                raise ValueError(f"{name} has another shape or type")
            stored[slots] = rows[name]
        return len(slots)


def part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays named ``<prefix>.<name>``, by ``name``."""
    return {name.removeprefix(f"{prefix}."): value for name, value in arrays.items() if name.startswith(f"{prefix}.")}
