"""Many environments as one: seeded lanes, and the vector of them that training steps.

Autoreset and truncation live here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.gymnasium import env_spec, make_env
from nimbleq.rl.envs.pictures import as_rgb
from nimbleq.rl.envs.uniform import UniformEnv
from nimbleq.rl.spec import EnvSpec
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Step

Outcome = tuple[Array, Array, Array, Array]
"""``next_obs[L, *O]``, ``reward float32[L]``, ``terminated bool[L]``, ``truncated bool[L]`` of the lanes stepped."""

_SEEDS = 256  # of episodes, drawn at once


class Lanes(Protocol):
    """Independent environments side by side. Nothing is reset unless asked: callers see every true last observation.

    Attributes:
        spec: of one of them.
        mask: ``bool[lanes, A]`` the actions that are legal now in each lane, changed by `reset` and `step`; None when
            ``spec.masked`` is False. At least one action is legal, also at the end of an episode (then all may be).
    """

    spec: EnvSpec
    mask: Array | None

    def reset(self, lane: int, seed: int) -> Array:
        """Start an episode that ``seed`` alone determines; its first observation ``[*O]``."""
        ...

    def step(self, lanes: Array, actions: Array) -> Outcome:
        """Step ``lanes: int64[L]`` with ``actions: int64[L]``; the others lose their episode.

        Raises:
            EnvError: an environment returned NaN, infinity or another shape than it promised.
        """
        ...

    def picture(self, lane: int) -> Array | None:
        """``uint8[H, W, 3]`` what the lane looks like; None when it cannot be drawn."""
        ...

    def close(self) -> None:
        """Let go of what the environments hold."""
        ...


def make_lanes(config: EnvConfig, count: int, pictures: bool = False) -> Lanes:
    """``count`` lanes, on the fastest engine there is for this environment (one that draws if ``pictures``).

    Raises:
        EnvError: see `make_env`.
    """
    if config.id.startswith("ALE/"):
        from nimbleq.rl.envs.atari import AtariLanes  # ale_py is optional

        return AtariLanes(config, count)
    if config.id == "CartPole-v1" and not config.kwargs and not pictures:
        from nimbleq.rl.envs.cartpole import make_cartpole  # it builds on this module

        return make_cartpole(config, count)
    if config.id == "LunarLander-v3" and not config.kwargs and not pictures:
        from nimbleq.rl.envs.lunarlander import make_lunarlander  # it builds on this module

        return make_lunarlander(config, count)
    return ScalarLanes(config, count, pictures)


def _shared_out(config: EnvConfig, count: int) -> Lanes:
    from nimbleq.rl.envs.workers import WorkerLanes  # it builds on this module

    return WorkerLanes(config, count)


def spec_of(config: EnvConfig) -> EnvSpec:
    """What a network has to know of an environment.

    Raises:
        EnvError: see `make_env`.
    """
    lanes = make_lanes(config, 1)
    lanes.close()
    return lanes.spec


class ScalarLanes:
    """Lanes of any Gymnasium environments, stepped one after the other."""

    def __init__(self, config: EnvConfig, count: int, pictures: bool = False) -> None:
        self.name = config.id
        first = make_env(config, pictures)
        self.spec = env_spec(first)
        self.envs: list[UniformEnv] = [first, *(make_env(config, pictures, first.interface) for _ in range(1, count))]
        for lane, env in enumerate(self.envs):
            env.name = f"{config.id} (environment {lane})"
        self.mask = np.ones((count, self.spec.actions), bool) if self.spec.masked else None

    def reset(self, lane: int, seed: int) -> Array:
        """See `Lanes`."""
        row, _ = self.envs[lane].reset(seed=int(seed))
        check_finite(self.name, np.array([lane]), row[None], np.zeros(1))
        if self.mask is not None:
            self._note_mask(lane, over=False)
        return row

    def step(self, lanes: Array, actions: Array) -> Outcome:
        """See `Lanes`."""
        count = len(lanes)
        next_obs = np.empty((count, *self.spec.obs.shape), self.spec.obs.dtype)
        reward: list[float] = []
        terminated: list[bool] = []
        truncated: list[bool] = []
        envs, masked = self.envs, self.mask is not None
        for row, (lane, action) in enumerate(zip(lanes.tolist(), actions.tolist(), strict=True)):
            next_obs[row], gain, end, cut, _ = envs[lane].step(action)
            reward.append(gain)
            terminated.append(end)
            truncated.append(cut)
            if masked:
                self._note_mask(lane, over=end or cut)
        with np.errstate(over="ignore"):  # infinity is told below
            rewards = np.array(reward, np.float32)
        check_finite(self.name, lanes, next_obs, rewards)
        return next_obs, rewards, np.array(terminated, bool), np.array(truncated, bool)

    def _note_mask(self, lane: int, over: bool) -> None:
        mask = self.envs[lane].mask
        assert self.mask is not None
        if mask is not None and mask.any():
            self.mask[lane] = mask
        elif mask is None or over:
            self.mask[lane] = True
        else:
            raise EnvError(
                f"{self.envs[lane].name} says that no action is legal (1 is legal in a mask), but its episode goes on"
            )

    def picture(self, lane: int) -> Array | None:
        """See `Lanes`."""
        env = self.envs[lane]
        drawn: Array = np.asarray(env.render() if env.render_mode == "rgb_array" else None)
        return as_rgb(drawn)

    @property
    def render_fps(self) -> float | None:
        """Steps a second that its author would show; None where nothing says so."""
        fps = self.envs[0].metadata.get("render_fps")
        return float(fps) if isinstance(fps, int | float) and fps > 0 else None

    def close(self) -> None:
        """See `Lanes`."""
        for env in self.envs:
            env.close()


def check_finite(name: str, lanes: Array, obs: Array, reward: Array) -> None:
    """Raise `EnvError` when one of ``lanes: int64[L]`` returned NaN or infinity in ``obs[L, *O]`` or ``reward[L]``."""
    for what, values in (("reward", reward), ("observation", obs)):
        if values.dtype != np.uint8 and not np.isfinite(values).all():
            rows = values.reshape(len(values), -1)
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            bad = "NaN" if np.isnan(rows[row]).any() else "infinity"
            where = f"{name} (environment {lanes[row]})"
            raise EnvError(f"{where} returned {bad} in its {what}: nothing can be learnt from that, mend it")


class VectorEnv:
    """``N`` environments that restart by themselves, each episode from a seed of its own.

    An episode is described by its seed and the actions since: that is what `arrays` holds, and how `load_arrays`
    rebuilds environments that have no notion of saving.

    Attributes:
        spec: of one environment.
        obs: ``[N, *O]`` what the next action is chosen from.
        mask: ``bool[N, A]`` among which actions (None: all).
        finished: ``(return, length)`` of the episodes that ended in the last `step`.
    """

    def __init__(self, config: EnvConfig, envs: int, seed: int) -> None:
        self.name, self.seed, self.count = config.id, seed, envs
        self.lanes = _shared_out(config, envs) if config.workers > 1 else make_lanes(config, envs)
        self.spec = self.lanes.spec
        self.finished: list[tuple[float, int]] = []
        self._all = np.arange(envs)
        self._episode_seeds = episode_seeds("train", seed, envs)
        self._started = envs
        self._block, self._seeds = -1, list[int]()  # a block of episode seeds, and its number
        self._began = np.zeros(envs, np.int64)  # row of ``_actions`` with the first action of the running episode
        self._actions: list[Array] = []
        self._returns = np.zeros(envs)
        self.obs = np.stack([self.lanes.reset(lane, self._episode_seeds[lane]) for lane in range(envs)])
        self.mask = self._legal()

    def step(self, action: Array) -> Step:
        """Step all environments with ``action: int64[N]``; those whose episode ends start the next one.

        Raises:
            EnvError: see `Lanes.step`; `arrays` then still describes the moment before.
        """
        obs, mask = self.obs, self.mask
        next_obs, reward, terminated, truncated = self.lanes.step(self._all, action)
        next_mask = self._legal()
        over = (terminated | truncated).nonzero()[0]
        # What may fail, starting the next episodes, comes before anything of this object changes.
        started = self._start(over) if over.size else None
        self._actions.append(action.copy())
        self._returns += reward
        self.finished = []
        self.obs, self.mask = next_obs, next_mask
        if started is not None:
            self.obs = next_obs.copy()
            self.obs[over] = started[1]
            self._note_restarts(over, started[0])
            self.mask = self._legal()
        return Step(obs, action, reward, terminated, truncated, next_obs, next_mask, mask)

    def _start(self, lanes: Array) -> tuple[list[int], list[Array]]:
        """Reset ``lanes`` to the episodes that come next: their seeds, and first observations."""
        seeds = [self._seed(self._started + ahead) for ahead in range(len(lanes))]
        return seeds, [self.lanes.reset(lane, seed) for lane, seed in zip(lanes.tolist(), seeds, strict=True)]

    def _legal(self) -> Array | None:
        return None if self.lanes.mask is None else self.lanes.mask.copy()

    def _seed(self, number: int) -> int:
        """Of an episode; drawn in blocks, which is quicker."""
        block, place = divmod(number, _SEEDS)
        if block != self._block:
            self._block = block
            self._seeds = episode_seeds("train", self.seed, _SEEDS, start=block * _SEEDS).tolist()
        return self._seeds[place]

    def _note_restarts(self, lanes: Array, seeds: list[int]) -> None:
        lengths = len(self._actions) - self._began[lanes]
        self.finished = list(zip(self._returns[lanes].tolist(), lengths.tolist(), strict=True))
        self._episode_seeds[lanes] = seeds
        self._started += len(seeds)
        self._began[lanes] = len(self._actions)
        self._returns[lanes] = 0.0
        unused = int(self._began.min())  # actions that no running episode needs
        if 2 * unused > len(self._actions):
            del self._actions[:unused]
            self._began -= unused

    def arrays(self) -> dict[str, Array]:
        """Complete state: seeds, actions, and the current observations to check a rebuild against."""
        actions = np.stack(self._actions) if self._actions else np.zeros((0, self.count), np.int64)
        return {
            "seeds": self._episode_seeds.copy(),
            "began": self._began.copy(),
            "actions": actions,
            "started": np.array([self._started]),
            "obs": self.obs.copy(),
        }

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Play the running episodes again up to where they were.

        Raises:
            EnvError: the environment does not repeat itself, so the run cannot go on from there.
        """
        self._episode_seeds, self._began = arrays["seeds"].copy(), arrays["began"].copy()
        self._started = int(arrays["started"][0])
        self._actions = [row.copy() for row in arrays["actions"]]
        self._returns = np.zeros(self.count)
        for time in range(len(self._actions) + 1):
            for lane in np.flatnonzero(self._began == time):
                self.obs[lane] = self.lanes.reset(int(lane), self._episode_seeds[lane])
            running = np.flatnonzero(self._began <= time)
            if time < len(self._actions) and running.size:
                next_obs, reward, *_ = self.lanes.step(running, self._actions[time][running])
                self.obs[running] = next_obs
                self._returns[running] += reward
        self.mask = self._legal()
        if not np.array_equal(self.obs, arrays["obs"]):
            raise EnvError(
                f"{self.name} does not repeat an episode from its seed and actions, so this run cannot be resumed "
                "exactly; train again without resuming"
            )

    def close(self) -> None:
        """Let go of what the environments hold."""
        self.lanes.close()
